"""The v1 carrier against the contract of all carriers, in memory and over sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock

from mesoskit.wire.endpoints import client_endpoint
from mesoskit.wire.link import (
    CallRefused,
    Hello,
    Link,
    LinkLost,
    NotSendable,
    Refused,
    Taken,
    TooManyCalls,
)
from mesoskit.wire.port import PortFactory
from mesoskit.wire.settings import StreamSettings
from tests.base import SynchronousTestCase
from tests.wire.contract import HoldContract, Pair
from tests.wire.ears import AGENT, MASTER, Ear, text
from tests.wire.test_sockets import Sockets
from tests.wire.transports import Wires
from tests.wire.v1_peers import Host, NamelessCarrier, PlainCarrier, Root, V1Client


def serve(
    ear: Ear,
    peer: Hello,
    clock: Any,
    settings: StreamSettings,
    short: bool,
    api: type[PlainCarrier] = PlainCarrier,
) -> tuple[PlainCarrier, Host, PortFactory]:
    """Return an API that this ear hears, and the port that it is at."""
    host = Host(ear)
    carrier = api(
        host,
        peer,
        clock=clock,
        interval=15,
        gate=lambda path: None,
        invalid=lambda call, principal: None,
        settings=settings,
    )
    return carrier, host, PortFactory(None, Root(carrier, short), clock=clock)


class TwoWires:
    """The client's two connections in memory, under one clock."""

    def __init__(self, clock: Clock, port: PortFactory, client: V1Client, piece: int) -> None:
        self.clock = clock
        # The stream is the first.
        self.wires = [
            Wires(clock, port.buildProtocol(None), each, piece)
            for each in (client.stream, client.calls)
        ]

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        moved = True
        while moved:
            self.clock.advance(0)
            moved = False
            for wires in self.wires:
                moved |= wires.a.step() | wires.b.step()
        for _ in range(3):
            self.clock.advance(0)
        if until is not None and not until():
            raise AssertionError("all is quiet, and it has not come")

    def cut(self) -> None:
        for wires in self.wires:
            wires.cut()

    def stall(self, stalled: bool) -> None:
        self.wires[0].stall(stalled)


class V1ContractTests(HoldContract, SynchronousTestCase):
    """
    The promises, with a client as the first receiver; with a server where it is congested.

    Only a client can call. HTTP keeps some promises in ways of its own: those tests are
    said anew here.
    """

    piece = 0
    short = True
    api = PlainCarrier

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        clock = Clock()
        if "congest" in self.id():
            self.carrier, host, port = serve(a, hello_b, clock, self.settings, self.short, self.api)
            self.client = V1Client(b, hello_a, host, 20)
        else:
            self.carrier, host, port = serve(b, hello_a, clock, settings_b, self.short, self.api)
            self.client = V1Client(a, hello_b, host, 20)
        pair = TwoWires(clock, port, self.client, self.piece)
        self.addCleanup(self.check_nothing_is_left, pair)
        return pair

    def check_nothing_is_left(self, pair: TwoWires) -> None:
        """Whatever a test did, the end of the connections leaves no timer and no stream."""
        pair.cut()
        pair.spin()
        self.assertEqual(self.carrier.streams, {})
        self.assertEqual(self.carrier.counters.links, 0)
        self.assertEqual(pair.clock.getDelayedCalls(), [])

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
        self.assertEqual(done, ["x", "y", "z"])

    def test_what_was_sent_before_lose_arrives_and_the_reason_is_told(self) -> None:
        """Reasons have no place in HTTP; events before the end arrive all the same."""
        pair, a, b = self.link()
        for number in range(50):
            b.link.send(text(f"m{number}"))
        b.link.lose("this agent is being removed")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(a.words, [f"m{number}" for number in range(50)])
        self.assertEqual(a.reasons, ["the stream ended"])
        self.assertEqual(b.reasons, ["this agent is being removed"])

    def test_the_reason_arrives_although_the_peer_is_sending(self) -> None:
        """The end does, and whatever is still sent is refused."""
        pair, a, b = self.link()
        for number in range(20):
            a.link.send(text(f"m{number}"))
        b.link.lose("not you")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, [])

    def test_a_record_over_the_limit_closes_the_link_and_says_so(self) -> None:
        """Bodies have a limit at the port, long before this; events cannot be sent over it."""
        pair, a, b = self.link(settings_b=StreamSettings(record_limit=4096))
        error = self.assertRaises(NotSendable, b.link.send, text(b"x" * 5000))
        self.assertIn("over the limit of 4096", str(error))
        b.link.send(text("after"))
        pair.spin(lambda: bool(a.words))
        self.assertEqual(a.words, ["after"])

    def test_a_client_answers_no_calls(self) -> None:
        _, _, b = self.link()
        self.failureResultOf(b.link.call(text("please")), NotSendable)

    def test_each_event_is_one_record_in_one_chunk(self) -> None:
        pair, _a, b = self.link()
        for number in range(5):
            b.link.send(text(f"m{number}"))
        pair.spin()
        expected = [b"4\n\x0a\x02m%d" % number for number in range(5)]
        self.assertEqual(self.client.chunks, expected)

    def test_calls_that_wait_at_the_end_of_the_stream_are_answered(self) -> None:
        pair, a, b = self.link()
        answer = a.link.call(text("please"))
        pair.spin(lambda: bool(b.words))
        b.link.lose()
        pair.spin()
        self.assertTrue(answer.called)
        answer.addErrback(lambda _: None)


class FragmentedV1ContractTests(V1ContractTests):
    """The promises where a few bytes come at a time."""

    piece = 7

    def congest(self, pair: Any, ear: Ear) -> int:
        for wires in pair.wires:
            wires.piece = 9_973
        return super().congest(pair, ear)

    def test_large_messages_among_small_ones(self) -> None:
        self.piece = 9_973
        super().test_large_messages_among_small_ones()


class NamelessV1ContractTests(V1ContractTests):
    """
    The promises where calls name no stream: they all go the long way.

    There a call waits on its connection until the one before it is answered, so tests in
    which several wait at once are said anew.
    """

    short = False
    api = NamelessCarrier

    def test_order_holds_for_messages_and_calls_together(self) -> None:
        pair, a, b = self.link(b=Ear(_take))
        for number in range(0, 20, 2):
            a.link.send(text(f"m{number}"))
            a.link.call(text(f"m{number + 1}")).addErrback(lambda _: None)
        pair.spin(lambda: len(b.words) >= 20)
        self.assertEqual(b.words, [f"m{number}" for number in range(20)])

    def test_answers_may_come_in_any_order(self) -> None:
        """There is no other order than the calls'."""
        pair, a, b = self.link()
        answers = [a.link.call(text(word)) for word in "xyz"]
        for number, answer in enumerate(answers):
            pair.spin(lambda: bool(b.words))
            self.assertEqual(b.words, list("xyz")[: number + 1])
            b.link.answer(b.heard[-1][2], Taken())
            pair.spin()
            self.assertIsNone(self.successResultOf(answer))

    def test_calls_that_wait_fail_when_the_link_is_lost(self) -> None:
        pair, a, b = self.link()
        answers = [a.link.call(text("please")) for _ in range(3)]
        pair.spin(lambda: b.words == ["please"])
        pair.cut()
        pair.spin(lambda: bool(a.reasons))
        for answer in answers:
            self.failureResultOf(answer, LinkLost)

    def test_calls_beyond_the_limit_fail_and_are_not_sent(self) -> None:
        pair, a, b = self.link(b=Ear(_take))
        for _ in range(20):
            a.link.call(text("please"))
        self.failureResultOf(a.link.call(text("too much")), TooManyCalls)
        pair.spin(lambda: len(b.words) >= 20)
        a.link.call(text("now"))
        pair.spin(lambda: b.words == ["please"] * 20 + ["now"])

    def test_streams_have_no_ids(self) -> None:
        self.link()
        self.assertNotIn("mesos-stream-id", self.client.stream.answers.headers)


def _take(link: Link, _word: str, call: int | None) -> None:
    if call is not None:
        link.answer(call, Taken())


class SocketPair(Sockets):
    """The client's two connections over TCP."""

    client: V1Client

    def cut(self) -> None:
        for connection in (self.client.stream, self.client.calls):
            if connection.transport is not None:
                connection.transport.abortConnection()
        self.spin()

    def stall(self, stalled: bool) -> None:
        transport = self.client.stream.transport
        if stalled:
            transport.pauseProducing()
        else:
            transport.resumeProducing()


class SocketV1ContractTests(V1ContractTests):
    """The promises over TCP."""

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        pair = SocketPair()
        reactor = pair.reactor
        if "congest" in self.id():
            self.carrier, host, port = serve(a, hello_b, reactor, self.settings, True)
            self.client = V1Client(b, hello_a, host, 20)
        else:
            self.carrier, host, port = serve(b, hello_a, reactor, settings_b, True)
            self.client = V1Client(a, hello_b, host, 20)
        pair.client = self.client
        self.addCleanup(pair.close)
        where = pair.listen("127.0.0.1:0", port)
        for each in (self.client.stream, self.client.calls):
            factory = Factory()
            factory.noisy = False
            factory.buildProtocol = lambda _, each=each: each  # type: ignore[method-assign, misc]
            client_endpoint(reactor, where).connect(factory)
        return pair


class SlowWayTests(SynchronousTestCase):
    """The same calls without the short way: slower, but no different."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ear, self.far = Ear(), Ear()
        self.carrier, host, port = serve(self.ear, AGENT, self.clock, StreamSettings(), False)
        self.client = V1Client(self.far, MASTER, host, 20)
        self.pair = TwoWires(self.clock, port, self.client, 0)
        self.pair.spin(lambda: bool(self.far.heard))

    def test_calls_and_events(self) -> None:
        self.ear.react = lambda link, word, call: link.answer(
            call or 0, Taken() if word == "good" else Refused(403, "no")
        )
        good, bad = (self.client.call(text(word)) for word in ("good", "bad"))
        self.ear.link.send(text("event"))
        self.pair.spin(lambda: bool(bad.called))
        self.assertIsNone(self.successResultOf(good))
        self.assertEqual("no", self.failureResultOf(bad).value.why)
        self.assertEqual(["event"], self.far.words)

    def test_messages_one_after_the_other(self) -> None:
        sent = [f"m{number}" for number in range(30)]
        for word in sent:
            self.client.send(text(word))
        self.pair.spin(lambda: len(self.ear.words) == 30)
        self.assertEqual(sent, self.ear.words)


class CapTests(SynchronousTestCase):
    """A client that reads nothing costs no more than the cap."""

    def test_one_that_reads_nothing_is_cut_off(self) -> None:
        clock, ear, far = Clock(), Ear(), Ear()
        settings = StreamSettings(high_water=1000, low_water=10, outbound_cap=200_000)
        carrier, host, port = serve(ear, AGENT, clock, settings, True)
        client = V1Client(far, MASTER, host, 20)
        pair = TwoWires(clock, port, client, 0)
        pair.spin(lambda: bool(far.heard))
        pair.stall(True)
        for _ in range(100):
            ear.link.send(text(b"x" * 10_000))
            pair.spin()
        self.assertIn("failed to keep up: more than 200000 bytes wait", ear.reasons[0])
        self.assertEqual(([True], {"slow": 1}), (ear.congestions, carrier.counters.errors))
        self.assertEqual((0, {}), (ear.link.queued, carrier.streams))
        self.assertEqual(1, len(far.reasons))

    def test_one_that_does_not_take_the_rest_is_cut_off_after_a_while(self) -> None:
        clock, ear, far = Clock(), Ear(), Ear()
        _, host, port = serve(ear, AGENT, clock, StreamSettings(), True)
        client = V1Client(far, MASTER, host, 20)
        pair = TwoWires(clock, port, client, 0)
        pair.spin(lambda: bool(far.heard))
        pair.stall(True)
        for _ in range(20):
            ear.link.send(text(b"x" * 10_000))
        ear.link.lose("enough")
        pair.spin()
        self.assertEqual([], far.reasons)
        clock.advance(5)
        pair.spin()
        self.assertEqual((["enough"], 1), (ear.reasons, len(far.reasons)))

    def test_for_whom_most_waits_is_cut_off(self) -> None:
        clock, ear = Clock(), Ear()
        settings = StreamSettings(waiting_limit=350_000)
        carrier, host, port = serve(ear, AGENT, clock, settings, True)
        clients = []
        for size in (150_000, 250_000, 200_000):
            far = Ear()
            pair = TwoWires(clock, port, V1Client(far, MASTER, host, 20), 0)
            pair.spin()
            self.assertEqual(["connected"], far.heard)
            pair.stall(True)
            clients.append((far, pair))
            for _ in range(size // 10_000):
                ear.link.send(text(b"x" * 10_000))
                pair.spin()
        clients[1][1].spin()
        (why,) = ear.reasons
        self.assertIn("the most, and all streams together may have 350000", why)
        self.assertEqual([0, 1, 0], [len(far.reasons) for far, _ in clients])
        self.assertEqual({"slow": 1}, carrier.counters.errors)
        for _, pair in (clients[0], clients[2]):
            pair.stall(False)
            pair.spin()
        self.assertEqual([15, 20], [len(clients[number][0].words) for number in (0, 2)])
        self.assertEqual(0, carrier.waiting.total)

    def test_calls_beyond_the_limit_are_refused(self) -> None:
        clock, ear, far = Clock(), Ear(), Ear()
        _, host, port = serve(ear, AGENT, clock, StreamSettings(maximum_calls=2), True)
        client = V1Client(far, MASTER, host, 20)
        pair = TwoWires(clock, port, client, 0)
        pair.spin(lambda: bool(far.heard))
        calls = [client.call(text("please")) for _ in range(3)]
        pair.spin(lambda: len(ear.words) == 2)
        for number in (2, 3):
            ear.link.answer(number, Taken())
        pair.spin(lambda: bool(calls[2].called))
        self.assertEqual([None, None], [self.successResultOf(call) for call in calls[:2]])
        self.assertEqual(429, self.failureResultOf(calls[2], CallRefused).value.status)

    def test_streams_beyond_the_limit_are_refused(self) -> None:
        clock, ear = Clock(), Ear()
        carrier, host, port = serve(ear, AGENT, clock, StreamSettings(maximum_links=1), True)
        first = V1Client(Ear(), MASTER, host, 20)
        TwoWires(clock, port, first, 0).spin()
        second = V1Client(Ear(), MASTER, host, 20)
        second._subscribed = lambda: None  # type: ignore[method-assign]
        TwoWires(clock, port, second, 0).spin()
        self.assertEqual(503, second.stream.answers.status)
        self.assertEqual((1, {"too-many": 1}), (len(carrier.streams), carrier.counters.errors))

    def test_a_receiver_that_takes_nothing_raises_no_stream(self) -> None:
        class Refusing(Ear):
            def connected(self, link: Link) -> None:
                super().connected(link)
                raise ZeroDivisionError

        clock, ear = Clock(), Refusing()
        carrier, host, port = serve(ear, AGENT, clock, StreamSettings(), True)
        client = V1Client(Ear(), MASTER, host, 20)
        client._subscribed = lambda: None  # type: ignore[method-assign]
        TwoWires(clock, port, client, 0).spin()
        self.assertEqual((503, b"internal error"), _answer(client))
        self.assertEqual((["internal error"], {}), (ear.reasons, carrier.streams))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


def _answer(client: V1Client) -> tuple[int, bytes]:
    return client.stream.answers.status, client.stream.answers.body
