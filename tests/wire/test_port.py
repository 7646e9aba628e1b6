"""One port: who speaks is told by the first byte, and whoever says nothing is closed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.web.http import Request
from twisted.web.resource import Resource

from mesoskit.wire import framing
from mesoskit.wire.port import PortFactory, PortProtocol, PortSettings
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.ears import AGENT, MASTER, Ear, text
from tests.wire.transports import Dialling, Wires


class Echo(Resource):
    """Answers with what was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []

    def render(self, request: Request) -> bytes:
        self.asked.append(request.uri)
        body: bytes = request.content.read()  # type: ignore[union-attr]
        return b"%b %b %d" % (request.method, request.uri, len(body))


class Client:
    """A connection, played by hand."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.heard = b""
        self.lost = 0

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object) -> None:
        self.lost += 1


class PortCase(SynchronousTestCase):
    """A port with both protocols behind it."""

    settings = PortSettings(undecided=3, maximum_http=2, body_limit=1000)

    def setUp(self) -> None:
        self.clock = Clock()
        self.ear = Ear()
        self.echo = Echo()
        self.native = StreamFactory(self.ear, MASTER, clock=self.clock)
        self.port = PortFactory(self.native, self.echo, clock=self.clock, settings=self.settings)

    def come(self, *pieces: bytes) -> tuple[Client, Wires]:
        """Connect, and say these."""
        client = Client()
        wires = Wires(self.clock, self.port.buildProtocol(None), client)
        for piece in pieces:
            client.transport.write(piece)
            wires.spin()
        return client, wires


class DecisionTests(PortCase):
    """The first byte tells."""

    def test_a_zero_is_a_native_link(self) -> None:
        ear = Ear()
        dialled = Dialling(ear, AGENT, clock=self.clock)
        wires = Wires(self.clock, self.port.buildProtocol(None), dialled.buildProtocol(None))
        wires.spin()
        ear.link.send(text("up"))
        self.ear.link.send(text("down"))
        wires.spin()
        self.assertEqual((self.ear.words, ear.words), (["up"], ["down"]))
        ear.link.lose("bye")
        wires.spin()
        self.assertEqual(self.ear.reasons, ["the peer said: bye"])
        self.assertEqual(self.native.protocols, set())

    def test_one_byte_is_enough_and_is_not_lost(self) -> None:
        hello = framing.encode(bytes.fromhex("1207 0801 1002 288827"))
        self.come(*(bytes([byte]) for byte in hello))
        self.assertEqual(self.ear.heard, ["connected"])

    def test_a_letter_is_a_request(self) -> None:
        client, _ = self.come(b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertTrue(client.heard.startswith(b"HTTP/1.1 200 OK\r\n"), client.heard)
        self.assertTrue(client.heard.endswith(b"GET /state 0"), client.heard)

    def test_a_request_in_pieces_and_others_after_it_on_the_same_connection(self) -> None:
        request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        client, _ = self.come(*(bytes([byte]) for byte in request), request, request)
        self.assertEqual(client.heard.count(b"POST /a 3"), 3)

    def test_anything_else_is_closed_and_counted(self) -> None:
        for first in (b"\x01", b"\x16\x03\x01", b" GET", b"\xff", b"0"):
            client, _ = self.come(first)
            self.assertEqual((client.lost, client.heard), (1, b""))
        self.assertEqual(self.port.counters.errors, {"unknown-protocol": 5})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_port_without_http_or_without_native(self) -> None:
        self.port = PortFactory(self.native, clock=self.clock)
        self.assertEqual(self.come(b"GET / HTTP/1.1\r\n\r\n")[0].lost, 1)
        self.port = PortFactory(None, self.echo, clock=self.clock)
        self.assertEqual(self.come(b"\x00")[0].lost, 1)

    def test_the_resource_may_be_made_when_it_is_needed(self) -> None:
        made: list[Echo] = []

        def make() -> Echo:
            made.append(Echo())
            return made[0]

        self.port = PortFactory(self.native, make, clock=self.clock)
        self.come(b"\x00")
        self.assertEqual(made, [])
        self.come(b"GET /1 HTTP/1.1\r\n\r\n")
        self.come(b"GET /2 HTTP/1.1\r\n\r\n")
        self.assertEqual([echo.asked for echo in made], [[b"/1", b"/2"]])

    def test_a_native_factory_that_is_full_closes_the_connection(self) -> None:
        self.patch(self.native, "buildProtocol", lambda _: None)
        self.assertEqual(self.come(b"\x00")[0].lost, 1)

    def test_nobody_could_connect_without_tls_and_without_plain(self) -> None:
        self.assertRaises(
            ValueError,
            PortFactory,
            None,
            None,
            clock=self.clock,
            settings=PortSettings(plain=False),
        )

    def test_twisted_web_is_not_imported_before_the_first_request(self) -> None:
        program = "import mesoskit.wire.port, sys; print('twisted.web' in sys.modules)"
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(run.stdout, "False\n")


class UndecidedTests(PortCase):
    """Silence is bounded in time and in number."""

    def test_whoever_says_nothing_is_closed_after_a_while(self) -> None:
        first, _ = self.come()
        self.clock.advance(3)
        second, _ = self.come()
        self.clock.advance(2)
        self.clock.advance(0)
        self.assertEqual((first.lost, second.lost), (1, 0))
        self.clock.advance(3)
        self.clock.advance(0)
        self.assertEqual(second.lost, 1)
        self.assertEqual(self.port.counters.errors, {"undecided": 2})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whoever_has_spoken_is_left_alone(self) -> None:
        _, wires = self.come(b"GET /slow HTTP/1.1\r\n")
        self.clock.advance(10)
        wires.spin()
        self.assertFalse(wires.a.disconnected)
        wires.cut()

    def test_beyond_the_limit_the_oldest_goes(self) -> None:
        clients = [self.come()[0] for _ in range(5)]
        self.clock.advance(0)
        self.assertEqual([client.lost for client in clients], [1, 1, 0, 0, 0])
        self.assertEqual(self.port.counters.errors, {"crowded-out": 2})

    def test_one_that_leaves_undecided_leaves_nothing(self) -> None:
        _, wires = self.come()
        wires.cut()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.port.counters.errors, {})

    def test_what_comes_after_the_end_is_not_heard(self) -> None:
        client, wires = self.come()
        self.port.close_undecided()
        client.transport.write(b"\x00\x00\x00\x00")
        wires.a.protocol.dataReceived(b"\x00")
        wires.spin()
        self.assertEqual((client.lost, self.ear.heard), (1, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_http_connections_are_limited(self) -> None:
        request = b"GET / HTTP/1.1\r\n"
        first, wires = self.come(request)
        self.come(request)
        third, _ = self.come(request)
        self.assertEqual((first.lost, third.lost), (0, 1))
        self.assertEqual(self.port.counters.errors, {"too-many-http": 1})
        wires.cut()
        fourth, _ = self.come(request)
        self.assertEqual(fourth.lost, 0)


class BodyTests(PortCase):
    """A body over the limit costs no memory and reaches no resource."""

    def check_refused(self, client: Client, wires: Wires) -> None:
        wires.spin()
        self.assertTrue(client.heard.startswith(b"HTTP/1.1 413 Content Too Large\r\n"))
        self.assertIn(b"Connection: close\r\n", client.heard)
        self.assertTrue(client.heard.endswith(b"\r\n\r\nThe body is longer than 1000 bytes."))
        self.assertEqual((client.lost, self.echo.asked), (1, []))

    def test_one_within_the_limit_is_taken(self) -> None:
        client, _ = self.come(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        self.assertIn(b"POST / 1000", client.heard)

    def test_one_that_is_announced(self) -> None:
        body = b"x" * 1001
        self.check_refused(*self.come(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + body))

    def test_one_in_chunks(self) -> None:
        chunks = b"12c\r\n" + b"x" * 300 + b"\r\n"
        request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.check_refused(*self.come(request, *[chunks] * 4, b"0\r\n\r\n"))

    def test_one_in_chunks_within_the_limit(self) -> None:
        chunks = b"12c\r\n" + b"x" * 300 + b"\r\n"
        request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        client, _ = self.come(request, *[chunks] * 3, b"0\r\n\r\n")
        self.assertIn(b"POST / 900", client.heard)

    def test_a_client_that_asks_first_is_told_no(self) -> None:
        head = b"POST / HTTP/1.1\r\nContent-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
        client, wires = self.come(head)
        self.assertNotIn(b"100 Continue", client.heard)
        self.check_refused(client, wires)

    def test_a_client_that_asks_first_and_does_not_listen(self) -> None:
        head = b"POST / HTTP/1.1\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n"
        client, wires = self.come(head + b"x" * 2000)
        self.check_refused(client, wires)

    def test_those_of_all_together_are_limited_but_for_small_ones(self) -> None:
        self.port.settings = PortSettings(maximum_http=20, bodies_limit=100_000)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        slow = [self.come(head % 70_000 + b"x" * 60_000) for _ in range(3)]
        crowded, wires = slow[2]
        crowded.transport.write(b"x" * 10_000)
        wires.spin()
        self.assertTrue(crowded.heard.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"))
        self.assertEqual((1, []), (crowded.lost, self.echo.asked))
        for _ in range(3):
            small, wires = self.come(head % 16_000 + b"x" * 16_000)
            self.assertTrue(small.heard.endswith(b"POST / 16000"))
        first, wires = slow[0]
        first.transport.write(b"x" * 10_000 + head % 70_000 + b"x" * 70_000)
        wires.spin()
        self.assertEqual(2, first.heard.count(b"POST / 70000"))
        slow[1][1].cut()
        for _ in range(5):
            client, wires = self.come(head % 99_000 + b"x" * 99_000)
            self.assertTrue(client.heard.endswith(b"POST / 99000"))

    def test_one_without_end_is_cut_off(self) -> None:
        client, wires = self.come(b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n")
        for _ in range(50):
            client.transport.write(b"x" * 100)
            wires.spin()
        self.assertEqual((client.lost, client.heard, self.echo.asked), (1, b"", []))

    def test_forms_are_left_to_the_resource(self) -> None:
        form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b"
        client, _ = self.come(b"POST /f HTTP/1.1\r\n" + form)
        self.assertIn(b"POST /f 3", client.heard)

    def test_an_error_in_a_resource_shows_no_traceback(self) -> None:
        self.patch(self.echo, "render", lambda request: 1 // 0)
        client, _ = self.come(b"GET / HTTP/1.1\r\n\r\n")
        self.assertTrue(client.heard.startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"ZeroDivisionError", client.heard)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class CapTests(PortCase):
    """Nobody takes all of the connections."""

    settings = PortSettings(per_address=2)

    def build(self, host: str) -> Any:
        return self.port.buildProtocol(IPv4Address("TCP", host, 1))

    def test_an_address_has_so_many_and_no_more(self) -> None:
        one, two = self.build("10.0.0.1"), self.build("10.0.0.1")
        self.assertIsNone(self.build("10.0.0.1"))
        self.assertIsNotNone(self.build("10.0.0.2"))
        self.assertEqual(self.port.counters.errors, {"too-many-of-address": 1})
        Wires(self.clock, one, Client()).cut()
        self.assertIsNotNone(self.build("10.0.0.1"))
        self.assertIsNone(self.build("10.0.0.1"))
        Wires(self.clock, two, Client()).cut()
        self.assertIsNotNone(self.build("10.0.0.1"))

    def test_those_inside_tls_count_once(self) -> None:
        self.assertIsNotNone(self.build("10.0.0.1"))
        inside = PortProtocol(self.port, True)
        wires = Wires(self.clock, inside, Client())
        wires.cut()
        self.assertIsNotNone(self.build("10.0.0.1"))

    def test_sockets_without_addresses_are_not_counted(self) -> None:
        for _ in range(9):
            self.assertIsNotNone(self.port.buildProtocol(UNIXAddress(None)))


class UnsettledTests(SynchronousTestCase):
    """Links of which nobody knows yet who they are."""

    def test_one_more_takes_the_place_of_the_oldest(self) -> None:
        clock, ear = Clock(), Ear()
        settings = StreamSettings(maximum_unsettled=2)
        native = StreamFactory(ear, MASTER, clock=clock, settings=settings)

        def come() -> tuple[Client, Wires]:
            client = Client()
            wires = Wires(clock, native.buildProtocol(None), client)
            wires.spin()
            return client, wires

        dialling = Dialling(Ear(), AGENT, clock=clock)
        Wires(clock, native.buildProtocol(None), dialling.buildProtocol(None)).spin()
        self.assertEqual(ear.heard, ["connected"])
        clients = [come() for _ in range(3)]
        for _, wires in clients:
            wires.spin()
        self.assertIn(b"too many others come", clients[0][0].heard)
        self.assertEqual([client.heard for client, _ in clients[1:]], [b"", b""])
        self.assertEqual(native.counters.errors, {"crowded-out": 1})
