"""The client's side of v1 HTTP against the contract of all carriers."""

from __future__ import annotations

import re
from typing import Any

from mesoskit.wire.link import Hello, LinkLost, NotSendable, Refused, Taken, TooManyCalls
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.v1_client_plan import V1ClientSettings
from tests.base import SynchronousTestCase
from tests.wire.contract import LinkContract, Pair
from tests.wire.ears import Ear, text
from tests.wire.test_sockets import Sockets
from tests.wire.test_v1_contract import serve
from tests.wire.v1_wires import Subscriber, WiredReactor, join

SETTINGS = V1ClientSettings(high_water=64 * 1024, low_water=16 * 1024, maximum_calls=20)


# Only links that come in can be held: the server's is the first there.
HELD = re.compile("_held_|_hold_")


class V1ClientContractTests(LinkContract, SynchronousTestCase):
    """The promises, with the client as the first receiver. HTTP keeps some in its own ways."""

    piece = 0
    short = True

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        pair = WiredReactor(self.piece)
        if HELD.search(self.id()):
            a, b, hello_a, hello_b = b, a, hello_b, hello_a
        self.carrier, host, port = serve(b, hello_a, pair, settings_b, self.short)
        pair.ports[80] = port
        join(pair, Subscriber(a, host), hello_b, "http://127.0.0.1", SETTINGS)
        self.addCleanup(self.check_nothing_is_left, pair)
        return pair

    def check_nothing_is_left(self, pair: WiredReactor) -> None:
        """Whatever a test did, the end of the connections leaves no timer and no stream."""
        pair.cut()
        pair.spin()
        self.assertEqual({}, self.carrier.streams)
        self.assertEqual([], pair.getDelayedCalls())

    def test_answers_may_come_in_any_order(self) -> None:
        """They may be given in any order; on one connection they arrive in the calls'."""
        calls: dict[str, int] = {}
        pair, a, b = self.link(b=Ear(lambda _, word, call: calls.update({word: call or 0})))
        done: list[str] = []
        for word in "xyz":
            a.link.call(text(word)).addCallback(lambda _, word=word: done.append(word))
        pair.spin(lambda: len(calls) == 3)
        for word in "zxy":
            b.link.answer(calls[word], Taken())
        pair.spin(lambda: len(done) == 3)
        self.assertEqual(["x", "y", "z"], done)

    def test_what_was_sent_before_lose_arrives_and_the_reason_is_told(self) -> None:
        """Reasons have no place in HTTP; what was sent arrives all the same, both ways."""
        pair, a, b = self.link()
        for number in range(50):
            a.link.send(text(f"m{number}"))
            b.link.send(text(f"e{number}"))
        b.link.lose("this agent is being removed")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual([f"e{number}" for number in range(50)], a.words)
        pair, a, b = self.link()
        for number in range(50):
            a.link.send(text(f"m{number}"))
        a.link.lose("enough")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual([f"m{number}" for number in range(50)], b.words)
        self.assertEqual(["enough"], a.reasons)

    def test_the_reason_arrives_although_the_peer_is_sending(self) -> None:
        """The end does, and the refusal of what is still sent is the reason that is told."""
        pair, a, b = self.link()
        for number in range(20):
            a.link.send(text(f"m{number}"))
        b.link.lose("not you")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual([], b.words)

    def test_a_record_over_the_limit_closes_the_link_and_says_so(self) -> None:
        pair = WiredReactor(self.piece)
        a, b = Ear(), Ear()
        _, host, port = serve(b, Hello(1), pair, self.settings, self.short)
        pair.ports[80] = port
        settings = V1ClientSettings(record_limit=4096)
        join(pair, Subscriber(a, host), Hello(1), "http://127.0.0.1", settings)
        pair.spin(lambda: bool(a.heard and b.heard))
        for word in ("before", b"x" * 5000, "after"):
            b.link.send(text(word))
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(["before"], a.words)
        self.assertIn("over the limit of 4096", a.reasons[0])

    def test_what_cannot_be_sent_is_refused_to_the_sender_and_harms_nothing(self) -> None:
        super().test_what_cannot_be_sent_is_refused_to_the_sender_and_harms_nothing()
        _pair, a, _b = self.link()
        self.failureResultOf(a.link.call(text("SUBSCRIBE")), NotSendable)
        self.assertRaises(NotSendable, a.link.send, text("SUBSCRIBE"))

    def test_calls_that_wait_at_the_end_of_the_stream_are_answered(self) -> None:
        pair, a, b = self.link()
        answer = a.link.call(text("please"))
        pair.spin(lambda: bool(b.words))
        call = b.heard[-1][2]
        b.link.answer(call, Refused(403, "too late"))
        b.link.lose()
        self.until_both_are_lost(pair, a, b)
        self.assertEqual("too late", self.failureResultOf(answer).value.why)


class FragmentedV1ClientContractTests(V1ClientContractTests):
    """The promises where a few bytes come at a time."""

    piece = 7

    def congest(self, pair: Any, ear: Ear) -> int:
        pair.piece = 9_973
        return super().congest(pair, ear)

    def test_large_messages_among_small_ones(self) -> None:
        self.piece = 9_973
        super().test_large_messages_among_small_ones()


class LongWayV1ClientContractTests(V1ClientContractTests):
    """
    The promises of a server that takes one call of a connection at a time.

    Tests in which several wait at once are said anew.
    """

    short = False

    def test_order_holds_for_messages_and_calls_together(self) -> None:
        def take(link: Any, _word: str, call: int | None) -> None:
            if call is not None:
                link.answer(call, Taken())

        pair, a, b = self.link(b=Ear(take))
        for number in range(0, 20, 2):
            a.link.send(text(f"m{number}"))
            a.link.call(text(f"m{number + 1}")).addErrback(lambda _: None)
        pair.spin(lambda: len(b.words) >= 20)
        self.assertEqual([f"m{number}" for number in range(20)], b.words)

    def test_answers_may_come_in_any_order(self) -> None:
        """There is no other order than the calls'."""

    def test_calls_that_wait_fail_when_the_link_is_lost(self) -> None:
        pair, a, b = self.link()
        answers = [a.link.call(text("please")) for _ in range(3)]
        pair.spin(lambda: b.words == ["please"])
        pair.cut()
        pair.spin(lambda: bool(a.reasons))
        for answer in answers:
            self.failureResultOf(answer, LinkLost)

    def test_calls_beyond_the_limit_fail_and_are_not_sent(self) -> None:
        pair, a, b = self.link()
        answers = [a.link.call(text("please")) for _ in range(20)]
        self.failureResultOf(a.link.call(text("too much")), TooManyCalls)
        pair.spin(lambda: b.words == ["please"])
        for answer in answers:
            answer.addErrback(lambda _: None)


class SocketV1ClientPair(Sockets):
    """A client and a server over TCP."""

    def __init__(self) -> None:
        super().__init__()
        self.stalled = False
        self.servers: list[Any] = []

    def accepted(self, transport: Any) -> None:
        """A connection is there, on the server's side."""
        self.servers.append(transport)
        if self.stalled:
            transport.pauseProducing()

    def cut(self) -> None:
        for transport in self.servers:
            transport.abortConnection()
        self.spin()

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        for transport in self.servers:
            (transport.pauseProducing if stalled else transport.resumeProducing)()


class Watched:
    """A protocol, and who wants to know its transport."""

    def __init__(self, inner: Any, accepted: Any) -> None:
        self._inner = inner
        self._accepted = accepted

    def makeConnection(self, transport: Any) -> None:
        self._inner.makeConnection(transport)
        self._accepted(transport)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SocketV1ClientContractTests(V1ClientContractTests):
    """The promises over TCP."""

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        pair = SocketV1ClientPair()
        if HELD.search(self.id()):
            a, b, hello_a, hello_b = b, a, hello_b, hello_a
        self.carrier, host, port = serve(b, hello_a, pair.reactor, settings_b, True)
        build = port.buildProtocol
        watched: Any = port
        watched.buildProtocol = lambda address: Watched(build(address), pair.accepted)
        self.addCleanup(pair.close)
        where = pair.listen("127.0.0.1:0", port)
        join(pair.reactor, Subscriber(a, host), hello_b, f"http://{where}", SETTINGS)
        return pair
