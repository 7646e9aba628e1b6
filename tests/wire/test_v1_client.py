"""The client's side of v1 HTTP, against servers that say what a test tells them to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from mesoskit.wire import recordio
from mesoskit.wire.auth.credentials import Credential, CredentialError
from mesoskit.wire.link import CallRefused, Link, LinkLost, NotSendable
from mesoskit.wire.media import JSON, PROTOBUF
from mesoskit.wire.stream import DialFailed
from mesoskit.wire.v1_client import basic, dial
from mesoskit.wire.v1_client_plan import V1ClientSettings
from tests.base import SynchronousTestCase
from tests.wire.ears import MASTER, Ear, text
from tests.wire.v1_wires import Subscriber, WiredReactor, join

OK_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
    b"Mesos-Stream-Id: s1\r\nTransfer-Encoding: chunked\r\n\r\n"
)
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(word: str) -> bytes:
    return chunk(recordio.encode(text(word).SerializeToString()))


def answer(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    lines = b"".join(each + b"\r\n" for each in headers)
    return b"HTTP/1.1 %d Such\r\nContent-Length: %d\r\n%b\r\n%b" % (
        status,
        len(body),
        lines,
        body,
    )


class Server(Factory):
    """
    A server that remembers what it is sent, and says what a test says.

    @ivar talks: one a connection.
    """

    noisy = False

    def __init__(self) -> None:
        self.talks: list[Talk] = []

    def buildProtocol(self, addr: Any) -> Talk:
        self.talks.append(Talk())
        return self.talks[-1]


class Talk(Protocol):
    """One connection."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True

    @property
    def requests(self) -> int:
        """How many have come."""
        return self.data.count(b"POST ")


class LinkCase(SynchronousTestCase):
    """A link to a scripted server."""

    place = "http://127.0.0.1:5050"

    def setUp(self) -> None:
        self.reactor = WiredReactor()
        self.server = self.reactor.ports[5050] = Server()
        self.ear = Ear()
        self.subscriber = Subscriber(self.ear)
        self.answers: list[Deferred[None]] = []
        self.addCleanup(self.check_nothing_is_left)

    def check_nothing_is_left(self) -> None:
        for answer_ in self.answers:
            answer_.addErrback(lambda _: None)
        self.reactor.cut()
        self.reactor.advance(60)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def dial(self, place: str = "", settings: V1ClientSettings | None = None, **more: Any) -> Any:
        dialled = join(self.reactor, self.subscriber, MASTER, place or self.place, settings, **more)
        self.reactor.spin()
        return dialled

    def says(self, said: bytes, connection: int = 0, server: Server | None = None) -> None:
        """Let the server say something."""
        talk = (server or self.server).talks[connection]
        talk.transport.write(said)
        self.reactor.spin()

    def subscribe(self, **more: Any) -> Link:
        """Return a link with a stream."""
        self.dial(**more)
        self.says(OK_STREAM)
        self.assertEqual(["connected"], self.ear.heard)
        link: Link = self.subscriber.link
        return link

    def post(self, *words: str) -> Sequence[Deferred[None]]:
        """Make calls."""
        answers = [self.subscriber.link.call(text(word)) for word in words]
        self.answers += answers
        self.reactor.spin()
        return answers

    def lines(self, connection: int = 0) -> list[str]:
        """Return the lines of the first request on a connection."""
        head = self.server.talks[connection].data.partition(b"\r\n\r\n")[0]
        return head.decode().split("\r\n")


class SubscribeTests(LinkCase):
    """The first call, and what it may be answered."""

    def test_what_is_asked(self) -> None:
        self.dial(software="mesoskit/9")
        self.assertEqual(
            [
                "POST /api/v1/plain HTTP/1.1",
                "Host: 127.0.0.1:5050",
                "User-Agent: mesoskit/9",
                "Content-Type: application/x-protobuf",
                "Accept: application/x-protobuf",
                "Content-Length: 11",
            ],
            self.lines(),
        )

    def test_calls_name_the_stream(self) -> None:
        self.subscribe()
        self.post("a")
        self.assertEqual("Mesos-Stream-Id: s1", self.lines(1)[5])

    def test_address_with_a_path(self) -> None:
        self.dial(self.place + "/some/where")
        self.assertEqual("POST /some/where HTTP/1.1", self.lines()[0])

    def test_credential_goes_with_every_call(self) -> None:
        self.subscribe(credential=Credential("ops", "s3cret: ü"))
        self.post("a")
        for connection in (0, 1):
            self.assertIn("Authorization: Basic b3BzOnMzY3JldDogw7w=", self.lines(connection))
        self.assertNotIn("b3Bz", repr(self.subscriber.link._plan))

    def test_principal_that_basic_cannot_say(self) -> None:
        self.assertRaises(CredentialError, basic, Credential("a:b", "c"))

    def test_refusals(self) -> None:
        for status in (400, 401, 403, 404, 500, 503):
            self.setUp()
            self.dial()
            self.says(answer(status, b"no"))
            assert self.subscriber.link is not None
            again = self.subscriber.link.call(text("SUBSCRIBE"))
            self.reactor.spin()
            self.assertEqual(2, self.server.talks[0].requests)
            self.says(answer(status, b" so\n"))
            error = self.failureResultOf(again, CallRefused).value
            self.assertEqual((status, "so"), (error.status, error.why))
            self.assertEqual([], self.ear.heard)

    def test_refusal_without_words(self) -> None:
        self.dial()
        again = self.subscriber.link.call(text("SUBSCRIBE"))
        self.failureResultOf(again, NotSendable)
        self.says(answer(503))
        second = self.subscriber.link.call(text("SUBSCRIBE"))
        self.says(answer(503))
        self.assertEqual("Service Unavailable", self.failureResultOf(second).value.why)

    def test_stream_of_another_type(self) -> None:
        self.dial()
        self.says(OK_STREAM.replace(b"x-protobuf", b"json"))
        self.assertIn("comes as 'application/json'", self.ear.reasons[0])

    def test_impossible_stream_id(self) -> None:
        self.dial()
        self.says(OK_STREAM.replace(b"s1", b"s\x011"))
        self.assertIn("impossible id", self.ear.reasons[0])

    def test_json(self) -> None:
        self.dial(media=JSON)
        self.assertIn("Content-Type: application/json", self.lines())
        self.says(OK_STREAM.replace(b"x-protobuf", b"json"))
        self.says(chunk(recordio.encode(b'{"data": "aGVsbG8=", "unknown": 1}')))
        self.assertEqual(["hello"], self.ear.words)
        self.post("a")
        self.assertIn(b'{"data":"YQ=="}', self.server.talks[1].data)

    def test_nobody_listens(self) -> None:
        why = self.failureResultOf(self.dial("http://127.0.0.1:1"), DialFailed).value.why
        self.assertIn("nobody listens", why)
        self.assertEqual([], self.ear.heard)

    def test_nobody_is_there_in_time(self) -> None:
        self.reactor.far = True
        dialled = self.dial()
        self.reactor.advance(15)
        self.assertIn("not there within 15 s", self.failureResultOf(dialled, DialFailed).value.why)

    def test_dialling_may_be_cancelled(self) -> None:
        self.reactor.far = True
        dialled = self.dial()
        dialled.cancel()
        self.failureResultOf(dialled, DialFailed, CancelledError)

    def test_server_that_leaves(self) -> None:
        self.dial()
        self.server.talks[0].transport.loseConnection()
        self.reactor.spin()
        self.assertEqual(["connection closed"], self.ear.reasons)

    def test_server_that_says_nothing(self) -> None:
        self.dial(settings=V1ClientSettings(answer_timeout=30))
        self.reactor.advance(30)
        self.reactor.spin()
        self.assertEqual(["no answer within 30 s"], self.ear.reasons)

    def test_server_that_is_none(self) -> None:
        self.dial()
        self.says(b"220 smtp.example ESMTP\r\n")
        self.assertIn("expected an HTTP/1.1 answer", self.ear.reasons[0])


class RedirectTests(LinkCase):
    """Masters that do not lead say who does."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.reactor.ports[5051] = Server()
        self.location = b"Location: //127.0.0.1:5051/master/api"

    def test_it_is_followed(self) -> None:
        self.dial(credential=Credential("ops", "x"))
        self.says(answer(307, b"", self.location))
        self.assertTrue(self.server.talks[0].gone)
        [there] = self.other.talks
        self.assertIn(b"POST /master/api HTTP/1.1\r\nHost: 127.0.0.1:5051\r\n", there.data)
        self.assertIn(b"Authorization: Basic ", there.data)
        self.says(OK_STREAM + event("hello"), server=self.other)
        self.assertEqual(["hello"], self.ear.words)
        self.assertEqual("http://127.0.0.1:5051", self.subscriber.link.peer)
        self.post("a")
        self.assertIn(b"POST /master/api", self.other.talks[1].data)

    def test_not_in_circles(self) -> None:
        self.dial()
        for number in range(6):
            self.says(answer(307, b"", b"Location: /again"), number)
        self.assertIn("sent on more than 5 times", self.ear.reasons[0])

    def test_not_to_nowhere(self) -> None:
        for location, why in ((b"nonsense", "sent on to nowhere"), (b"//127.0.0.1:1", "nobody")):
            self.setUp()
            self.dial()
            self.says(answer(307, b"", b"Location: " + location))
            self.assertIn(why, self.ear.reasons[0])

    def test_without_a_place_it_is_a_refusal(self) -> None:
        self.dial()
        self.says(answer(307))
        self.assertEqual([], self.ear.reasons)
        assert self.subscriber.subscribed is not None
        self.assertIsNone(self.successResultOf(self.subscriber.subscribed))

    def test_it_may_be_given_up_on_the_way(self) -> None:
        self.dial()
        talk = self.server.talks[0]
        talk.transport.write(answer(307, b"", self.location))
        self.subscriber.link.lose("enough")
        self.reactor.spin()
        self.assertEqual(["enough"], self.ear.reasons)

    def test_master_that_leads_no_more(self) -> None:
        self.subscribe()
        [call] = self.post("a")
        self.says(answer(307, b"", self.location), 1)
        self.assertEqual(307, self.failureResultOf(call, CallRefused).value.status)
        self.assertIn("does not lead any more", self.ear.reasons[0])


class StreamTests(LinkCase):
    """Events."""

    def test_events_that_come_with_the_head(self) -> None:
        self.dial()
        self.says(OK_STREAM + event("a") + event("b"))
        self.assertEqual(["a", "b"], self.ear.words)

    def test_records_need_not_fit_into_chunks(self) -> None:
        self.subscribe()
        data = b"".join(recordio.encode(text(w).SerializeToString()) for w in ("one", "two"))
        for at in range(0, len(data), 5):
            self.says(chunk(data[at : at + 5]))
        self.assertEqual(["one", "two"], self.ear.words)

    def test_a_stream_without_chunks(self) -> None:
        self.dial()
        self.says(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")
        self.says(recordio.encode(text("one").SerializeToString()))
        self.assertEqual(["one"], self.ear.words)
        self.server.talks[0].transport.loseConnection()
        self.reactor.spin()
        self.assertEqual(1, len(self.ear.reasons))

    def test_event_that_cannot_be_read(self) -> None:
        self.subscribe()
        self.says(chunk(recordio.encode(b"\xff\xff")) + event("after"))
        self.assertIn("an event cannot be read", self.ear.reasons[0])
        self.assertEqual([], self.ear.words)

    def test_what_is_no_record(self) -> None:
        self.subscribe()
        self.says(chunk(b"nonsense"))
        self.assertIn("expected the length of a record", self.ear.reasons[0])

    def test_end_of_the_stream(self) -> None:
        self.subscribe()
        self.says(event("last") + b"0\r\n\r\n")
        self.assertEqual(["last"], self.ear.words)
        self.assertEqual(["the stream ended"], self.ear.reasons)
        self.assertTrue(self.server.talks[0].gone)

    def test_receiver_that_raises(self) -> None:
        self.subscribe()
        self.ear.react = lambda *_: 1 / 0  # type: ignore[assignment]
        self.says(event("a") + event("b"))
        self.assertEqual((["a"], ["internal error"]), (self.ear.words, self.ear.reasons))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class NoiseTests(LinkCase):
    """Servers that have gone mad."""

    @given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, 2), st.booleans())
    def test_nothing_that_a_server_says_raises_or_leaves_anything(
        self, noise: list[bytes], connection: int, framed: bool
    ) -> None:
        self.setUp()
        try:
            self.dial()
            if connection:
                self.says(OK_STREAM)
                self.post("a", "b")
            for piece in noise:
                talk = self.server.talks[min(connection, len(self.server.talks)) - 1]
                if not talk.gone:
                    talk.transport.write(chunk(recordio.encode(piece)) if framed else piece)
                self.reactor.spin()
        finally:
            self.check_nothing_is_left()
        self.assertEqual(1, len(self.ear.reasons))


class CallTests(LinkCase):
    """Calls, on a connection of their own."""

    def test_calls_do_not_wait_for_each_other(self) -> None:
        self.subscribe()
        answers = self.post("a", "b", "c")
        self.assertEqual(3, self.server.talks[1].requests)
        self.says(ACCEPTED + answer(403, b"not b"), 1)
        self.successResultOf(answers[0])
        self.assertEqual("not b", self.failureResultOf(answers[1], CallRefused).value.why)
        self.assertNoResult(answers[2])
        self.says(ACCEPTED, 1)
        self.successResultOf(answers[2])

    def test_only_202_and_200_are_consent(self) -> None:
        self.subscribe()
        for status, good in ((200, True), (202, True), (201, False), (204, False), (302, False)):
            [call] = self.post("a")
            self.says(answer(status), 1)
            if good:
                self.successResultOf(call)
            else:
                self.assertEqual(status, self.failureResultOf(call, CallRefused).value.status)

    def test_connection_that_was_idle_may_be_closed(self) -> None:
        self.subscribe()
        for number in range(1, 4):
            [call] = self.post("a")
            self.says(ACCEPTED, number)
            self.successResultOf(call)
            if number == 2:
                self.says(answer(408), number)
            self.server.talks[number].transport.loseConnection()
            self.reactor.spin()
        self.assertEqual([], self.ear.reasons)

    def test_connection_that_breaks_under_a_call_is_the_end(self) -> None:
        self.subscribe()
        [call] = self.post("a")
        self.server.talks[1].transport.loseConnection()
        self.reactor.spin()
        self.failureResultOf(call, LinkLost)
        self.assertIn("the connection for calls was lost", self.ear.reasons[0])

    def test_no_connection_for_calls(self) -> None:
        self.subscribe()
        del self.reactor.ports[5050]
        [call] = self.post("a")
        self.failureResultOf(call, LinkLost)
        self.assertIn("no connection for calls", self.ear.reasons[0])

    def test_answer_to_nothing(self) -> None:
        self.subscribe()
        [_call] = self.post("a")
        self.says(ACCEPTED + ACCEPTED, 1)
        self.assertIn("what was not asked", self.ear.reasons[0])

    def test_server_that_answers_no_more(self) -> None:
        self.subscribe(settings=V1ClientSettings(answer_timeout=30))
        self.subscriber.link.send(text("a"))
        self.reactor.spin()
        for _ in range(3):
            self.reactor.advance(20)
            self.says(ACCEPTED, 1)
            self.subscriber.link.send(text("a"))
            self.reactor.spin()
        self.assertEqual([], self.ear.reasons)
        for _ in range(2):
            self.reactor.advance(30)
        self.reactor.spin()
        self.assertEqual(["no answer within 30 s"], self.ear.reasons)

    def test_long_calls_are_not_sent(self) -> None:
        link = self.subscribe(settings=V1ClientSettings(body_limit=100))
        self.failureResultOf(link.call(text("x" * 100)), NotSendable)
        self.post("x")

    def test_server_that_takes_nothing_is_given_up(self) -> None:
        link = self.subscribe(settings=V1ClientSettings(outbound_cap=500_000))
        self.reactor.stall(True)
        for _ in range(8):
            link.send(text("x" * 90_000))
            self.reactor.spin()
        self.assertEqual([], self.ear.reasons)
        link.send(text("x" * 90_000))
        self.reactor.spin()
        self.reactor.advance(5)
        self.assertIn("failed to keep up", self.ear.reasons[0])

    def test_the_end_waits_for_answers_but_not_for_ever(self) -> None:
        link = self.subscribe()
        [call] = self.post("a")
        link.lose("enough")
        self.reactor.spin()
        self.assertEqual([], self.ear.reasons)
        self.reactor.advance(2)
        self.reactor.spin()
        self.assertEqual(["enough"], self.ear.reasons)
        self.failureResultOf(call, LinkLost)

    def test_the_end_does_not_wait_for_answers_that_cannot_come(self) -> None:
        link = self.subscribe()
        self.post("a")
        link.lose("enough")
        self.reactor.spin()
        self.server.talks[1].transport.loseConnection()
        self.reactor.spin()
        self.assertEqual(["enough"], self.ear.reasons)

    def test_calls_of_another_api_are_not_sent(self) -> None:
        dialled = dial(self.place, self.subscriber, reactor=self.reactor)
        self.reactor.spin()
        link = self.successResultOf(dialled)
        self.assertRaises(NotSendable, link.send, text("x"))
        self.failureResultOf(link.call(text("x")), NotSendable)

    def test_answers_after_the_end_of_the_stream_count(self) -> None:
        """A teardown is answered when the stream has ended already."""
        self.subscribe()
        [call] = self.post("a")
        self.says(b"0\r\n\r\n")
        self.assertNoResult(call)
        self.failureResultOf(self.post("b")[0], LinkLost)
        self.says(ACCEPTED, 1)
        self.successResultOf(call)
        self.assertEqual(["the stream ended"], self.ear.reasons)

    def test_refused_messages_are_complained_about_once(self) -> None:
        self.subscribe()
        for _ in range(3):
            self.subscriber.link.send(text("a"))
        self.reactor.spin()
        self.says(answer(403, b"not you") * 3, 1)
        self.says(b"0\r\n\r\n")
        self.assertIn("not you (403)", self.ear.reasons[0])
        self.assertEqual(PROTOBUF, self.subscriber.link._plan.media)
