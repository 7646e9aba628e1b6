"""The short way for calls: what takes it, what does not, and that nobody can tell them apart."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mesoskit.wire.exchange import Exchange
from mesoskit.wire.http import WebExchange
from mesoskit.wire.port import PortFactory, PortSettings
from mesoskit.wire.quick import CallRoute, QuickExchange
from tests.base import SynchronousTestCase


class Root(Resource):
    """
    Has one call route, which answers when it is told to.

    @ivar waiting: what was asked and not answered yet.
    @ivar quick: for each request whether it took the short way.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.calls = {b"/call": CallRoute(self.post)}
        self.waiting: list[Exchange] = []
        self.quick: list[bool] = []
        self.at_once = True

    def post(self, exchange: Exchange) -> None:
        self.quick.append(isinstance(exchange, QuickExchange))
        self.waiting.append(exchange)
        if self.at_once:
            self.answer()

    def answer(self) -> None:
        exchange = self.waiting.pop(0)
        exchange.reply(200, f"{exchange.method} {exchange.path} {len(exchange.body)}")

    def render(self, request: Request) -> Any:
        if request.path == b"/call":
            self.post(WebExchange(request))
            return NOT_DONE_YET
        return b"page"


def call(body: bytes = b"x", path: str = "/call", method: str = "POST", **changes: Any) -> bytes:
    """Return a request that takes the short way, but for these changes."""
    headers: dict[str, str | None] = {
        "Host": "x",
        "Content-Length": str(len(body)),
        "Mesos-Stream-Id": "s",
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body


class QuickCase(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.root = Root()
        settings = PortSettings(body_limit=300_000)
        self.port = PortFactory(None, self.root, clock=self.clock, settings=settings)
        self.come()

    def come(self) -> None:
        """Begin a new connection."""
        protocol = self.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        assert protocol is not None
        self.protocol = protocol
        self.transport: Any = StringTransport()
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.protocol.dataReceived(piece)

    def statuses(self) -> list[int]:
        """Return the statuses of all answers so far."""
        return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d+) ", self.transport.value())]

    def bodies(self) -> list[bytes]:
        """Return the bodies of all answers so far, which all have a length."""
        rest, bodies = self.transport.value(), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            (length,) = (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            bodies.append(rest[:length])
            rest = rest[length:]
        return bodies


class WhoTakesItTests(QuickCase):
    """Usual calls do; everything else goes the long way, with the same result."""

    def test_usual_call(self) -> None:
        self.send(call(b"12345"))
        self.assertEqual(([True], [b"POST /call 5"]), (self.root.quick, self.bodies()))

    def test_whatever_is_unusual(self) -> None:
        for request in (
            call(Mesos_Stream_Id=None),
            call(Connection="close"),
            call(path="/call/"),
            call(path="/call?x=y"),
            call(path="//call"),
            call(b"", Transfer_Encoding="chunked", Content_Length=None) + b"1\r\nx\r\n0\r\n\r\n",
            call(TE="trailers"),
            call().replace(b"Host: x", b"Host: x\r\nA: 1\r\nA: 2"),
            call().replace(b"Host: x", b"Host: x\r\n folded"),
            call(b"x" * 290_000),
            call(X="y" * 5000),
            call().replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            self.come()
            self.root.quick.clear()
            self.send(request)
            self.assertNotIn(True, self.root.quick, request[:90])
            self.assertEqual([200], self.statuses(), request[:90])

    def test_what_is_wrong_is_refused_or_closed(self) -> None:
        for request in (
            call(Content_Length="-1"),
            call(Content_Length="1x"),
            call(Content_Length="+1"),
            call().replace(b"Content-Length: 1", b"Content-Length: 1\r\nContent-Length: 2"),
            call(Transfer_Encoding="chunked"),
            call().replace(b"Host", b"Ho st"),
            call().replace(b"Host: x", b"Host: x\x00"),
            call().replace(b"Host: x", b"no colon"),
            b"POST /call\r\n\r\n",
            b"A" * 20_000 + b"\r\n\r\n",
            call(b"", Transfer_Encoding="chunked", Content_Length=None) + b"zz\r\n",
        ):
            self.come()
            self.send(request)
            self.assertTrue(self.transport.disconnecting, request[:90])
            self.assertIn(self.statuses(), ([400], []), request[:90])
            self.assertEqual([], self.root.quick)

    def test_body_over_the_limit(self) -> None:
        self.send(call(b"x" * 300_001))
        self.assertEqual(([413], []), (self.statuses(), self.root.quick))
        self.assertTrue(self.transport.disconnecting)

    @given(st.lists(st.integers(0), max_size=8), st.booleans())
    def test_any_fragmentation_gives_the_same(self, cuts: list[int], mixed: bool) -> None:
        self.come()
        chunked = call(b"", Transfer_Encoding="chunked", Content_Length=None)
        parts = [call(b"a"), call(b"bb"), b"GET /page HTTP/1.1\r\n\r\n", call(b"ccc")]
        if mixed:
            parts += [
                chunked + b"2\r\nxy\r\n0\r\n\r\n",
                call(b""),
                call(b"d", Mesos_Stream_Id=None),
            ]
        data = b"".join(parts)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        self.send(*(data[a:b] for a, b in pairwise(edges) if a < b))
        expected = [b"POST /call 1", b"POST /call 2", b"page", b"POST /call 3"]
        if mixed:
            expected += [b"POST /call 2", b"POST /call 0", b"POST /call 1"]
        self.assertEqual(expected, self.bodies())


class PipelineTests(QuickCase):
    """Calls in a row need not wait for each other; answers come in their order."""

    def setUp(self) -> None:
        super().setUp()
        self.root.at_once = False

    def test_all_are_asked_and_answered_in_order(self) -> None:
        self.send(b"".join(call(b"x" * size) for size in range(10)))
        self.assertEqual(10, len(self.root.waiting))
        for exchange in reversed(self.root.waiting):
            self.assertEqual(b"", self.transport.value())
            exchange.reply(200, str(len(exchange.body)))
        self.assertEqual([b"%d" % size for size in range(10)], self.bodies())

    def test_page_waits_for_the_calls_before_it(self) -> None:
        self.send(call(), b"GET /page HTTP/1.1\r\n\r\n", call())
        self.assertEqual((1, b""), (len(self.root.waiting), self.transport.value()))
        self.root.answer()
        self.root.answer()
        self.assertEqual([b"POST /call 1", b"page", b"POST /call 1"], self.bodies())

    def test_no_more_is_read_than_can_wait(self) -> None:
        self.send(call() * 3000)
        self.assertEqual((64, "paused"), (len(self.root.waiting), self.transport.producerState))
        while self.root.waiting:
            self.root.answer()
        self.assertEqual((3000, "producing"), (len(self.bodies()), self.transport.producerState))

    def test_client_that_leaves_is_not_answered(self) -> None:
        self.send(call(), call())
        self.protocol.connectionLost(Failure(ConnectionDone()))
        for _ in range(2):
            self.root.answer()
        self.assertEqual(b"", self.transport.value())
        self.assertEqual([], self.clock.getDelayedCalls())


class ManyAtOnceTests(QuickCase):
    """Pipelines: some at a time, so that others have their turn."""

    def test_calls_that_are_answered_at_once_are_taken_some_at_a_time(self) -> None:
        sizes = range(300)
        self.send(b"".join(call(b"x" * size) for size in sizes))
        self.assertEqual(64, len(self.statuses()))
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual([f"POST /call {size}".encode() for size in sizes], self.bodies())
        self.assertNotIn(False, self.root.quick)
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_all_are_answered_in_order_and_not_at_once(self) -> None:
        requests = [call(b"x" * size, path="/call?a=b") for size in range(100)]
        self.send(b"".join(requests))
        self.assertEqual(16, len(self.statuses()))
        for _ in range(10):
            self.clock.advance(0)
        expected = [f"POST /call {size}".encode() for size in range(100)]
        self.assertEqual(expected, self.bodies())
        self.assertNotIn(True, self.root.quick)

    def test_what_comes_meanwhile_waits_its_turn(self) -> None:
        self.send(*[call(path="/call?a=b") for _ in range(30)])
        self.send(b"".join(call(b"x" * 5, path="/call?a=b") for _ in range(30)), call(b"1234567"))
        for _ in range(10):
            self.clock.advance(0)
        sizes = [int(body.split()[-1]) for body in self.bodies()]
        self.assertEqual([*[1] * 30, *[5] * 30, 7], sizes)

    def test_client_that_leaves_meanwhile(self) -> None:
        self.send(b"".join(call(path="/call?a=b") for _ in range(30)))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        for _ in range(3):
            self.clock.advance(0)
        self.assertEqual(16, len(self.statuses()))
        self.assertEqual([], [one for one in self.clock.getDelayedCalls() if one.active()])


class EndTests(QuickCase):
    """The end of a daemon: who asks nothing is closed at once, others with their answer."""

    def lose(self, transport: Any, protocol: Any) -> None:
        self.assertTrue(transport.disconnecting)
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_idle_connection_is_closed_at_once(self) -> None:
        self.send(call())
        closed = self.port.close_http()
        self.lose(self.transport, self.protocol)
        self.assertIsNone(self.successResultOf(closed))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_without_connections_there_is_nothing_to_wait_for(self) -> None:
        self.assertIsNone(self.successResultOf(self.port.close_http()))

    def test_what_was_asked_is_answered_first(self) -> None:
        self.root.at_once = False
        for path in ("/call", "/call?a=b"):
            self.come()
            self.send(call(path=path), call(path=path))
            closed = self.port.close_http()
            self.assertFalse(self.transport.disconnecting)
            while self.root.waiting:
                self.root.answer()
            self.lose(self.transport, self.protocol)
            self.assertEqual(200, self.statuses()[0])
            self.successResultOf(closed)

    def test_after_some_seconds_all_are_cut(self) -> None:
        self.root.at_once = False
        self.send(call())
        closed = self.port.close_http()
        self.clock.advance(1.9)
        self.assertNoResult(closed)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.disconnected)
        self.successResultOf(closed)


class SlowTests(QuickCase):
    """Whoever takes too long with a request is cut off, however busy it looks."""

    def trickle(self, data: bytes) -> None:
        """Send a byte every second."""
        for byte in data:
            if self.transport.disconnecting:
                return
            self.send(bytes([byte]))
            self.clock.advance(1)

    def check_cut_off(self) -> None:
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(([408], []), (self.statuses(), self.root.quick))
        self.assertLess(self.clock.seconds(), 40)

    def test_head(self) -> None:
        self.trickle(call())
        self.check_cut_off()

    def test_head_of_the_long_way(self) -> None:
        self.trickle(b"GET /page HTTP/1.1\r\n" + b"x" * 50)
        self.check_cut_off()

    def test_body(self) -> None:
        self.send(call(b"x" * 100)[:-60])
        self.trickle(b"x" * 60)
        self.check_cut_off()

    def test_body_in_chunks(self) -> None:
        self.send(call(b"", Transfer_Encoding="chunked", Content_Length=None))
        self.trickle(b"1\r\nx\r\n" * 20)
        self.check_cut_off()

    def test_silent_one_is_closed_when_it_has_been_idle(self) -> None:
        self.send(call())
        self.clock.advance(59)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.transport.disconnecting)

    def test_one_that_is_to_be_kept_may_be_idle(self) -> None:
        self.root.at_once = False
        for request in (call(), call(Mesos_Stream_Id=None)):
            self.come()
            self.send(request)
            self.root.waiting[0].keep()
            self.root.answer()
            self.clock.advance(10_000)
            self.assertFalse(self.transport.disconnecting)
            for again in (call(), call(Mesos_Stream_Id=None)):
                self.send(again)
                self.root.answer()
                self.clock.advance(10_000)
            self.assertEqual(3, len(self.statuses()))
            self.trickle(call())
            self.check_cut_off_after(3)

    def check_cut_off_after(self, answers: int) -> None:
        """What is too slow is too slow all the same."""
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual([200] * answers + [408], self.statuses())

    def test_busy_one_is_not_cut_off_although_something_is_always_incomplete(self) -> None:
        data = call(b"x" * 20)
        for way in (data, call(b"x" * 20, Mesos_Stream_Id=None)):
            self.come()
            self.send(way[:-5])
            for _ in range(100):
                self.clock.advance(1)
                self.send(way[-5:] + way[:-5])
            self.assertFalse(self.transport.disconnecting)
            self.assertEqual(100, len(self.statuses()))

    def test_what_comes_behind_a_request_may_wait_for_its_answer(self) -> None:
        self.root.at_once = False
        self.send(call(Mesos_Stream_Id=None), b"\r\nGET /pa")
        for _ in range(10):
            self.clock.advance(60)
        self.assertEqual([], self.statuses())
        self.root.answer()
        self.send(b"ge HTTP/1.1\r\n\r\n")
        self.assertEqual([b"POST /call 1", b"page"], self.bodies())

    def test_busy_one_is_not_cut_off(self) -> None:
        for _ in range(100):
            self.send(call(), b"GET /page HTTP/1.1\r\n\r\n")
            self.clock.advance(5)
        self.assertEqual([200] * 200, self.statuses())
        self.assertFalse(self.transport.disconnecting)


class ProofTests(QuickCase):
    """C{Authorization} is told to who takes the call, and kept nowhere."""

    def setUp(self) -> None:
        super().setUp()
        self.shown: list[str | None] = []
        post = self.root.post

        def tell(exchange: Exchange) -> None:
            self.shown.append(exchange.header("authorization"))
            post(exchange)

        self.patch(self.root, "post", tell)
        self.root.calls[b"/call"] = CallRoute(tell)
        self.send(call())
        self.shown.clear()
        self.root.quick.clear()

    def known(self) -> dict[bytes, Any]:
        """Return what is remembered of heads."""
        site: Any = self.port._site
        known: dict[bytes, Any] = site._heads._known
        return known

    def test_each_call_has_its_own(self) -> None:
        before = len(self.known())
        for number in range(50):
            self.send(call(Authorization=f"Basic pl4nted{number}"))
        self.assertEqual([f"Basic pl4nted{number}" for number in range(50)], self.shown)
        self.assertNotIn(False, self.root.quick)
        self.assertEqual(before, len(self.known()))
        self.assertNotIn("pl4nted", repr([(raw, one.headers) for raw, one in self.known().items()]))

    def test_it_is_that_of_this_call_alone(self) -> None:
        self.send(call(Authorization="Basic pl4nted") + call() + call(Authorization="Basic other"))
        self.assertEqual(["Basic pl4nted", None, "Basic other"], self.shown)

    def test_all_the_ways_to_write_it(self) -> None:
        for request, shown in (
            (call().replace(b"Host: x", b"AUTHORIZATION:pl4nted \r\nHost: x"), "pl4nted"),
            (call().replace(b"Host: x", b"Host: x\r\nauthorization:\t pl4nted\t"), "pl4nted"),
            (call(Authorization=""), ""),
        ):
            self.shown.clear()
            self.send(request)
            self.assertEqual([shown], self.shown)
        self.assertNotIn(False, self.root.quick)

    def test_what_is_unusual_is_not_remembered_either(self) -> None:
        shown = "Basic pl4nted"
        for request in (
            call(Authorization=shown, Cookie="pl4nted"),
            call(Cookie="pl4nted"),
            call(Proxy_Authorization="pl4nted"),
            call(Authorization=shown, Mesos_Stream_Id=None),
            call(Authorization=shown).replace(b"Host", b"Authorization: pl4nted\r\nHost"),
            call().replace(b"Host: x", b"Host: x\r\nAuthorization:\r\n pl4nted"),
            call(Authorization=shown, path="/call?x=y"),
        ):
            self.come()
            self.send(request)
            self.assertEqual([200], self.statuses(), request)
            self.assertNotIn(b"pl4nted", b"".join(self.known()), request)
        self.assertNotIn(True, self.root.quick)
        # Of two of them the last counts.
        self.assertEqual([shown, None, None, shown, shown, "pl4nted", shown], self.shown)
