"""Peers that are gone without a word: a kernel that hears nothing, and how soon that is noticed."""

from __future__ import annotations

import ctypes
import select
import socket
import struct
from functools import partial
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from mesoskit.wire import http
from mesoskit.wire.silence import LONGEST, notice
from tests.cluster.waiting import reactor, until

_ATTACH_FILTER = 26


def deafen(connection: socket.socket) -> None:
    """Let a socket's kernel drop all that comes, before it can acknowledge any of it."""
    # One instruction of the classic BPF: return 0, which is: keep nothing.
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    connection.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


async def hear(connection: socket.socket, what: bytes) -> None:
    """Wait until just this has come."""
    await until(repr(what), lambda: select.select([connection], [], [], 0)[0])
    assert connection.recv(1000) == what


class Server(Protocol):
    """Keeps what connections there are, and why they ended."""

    def connectionMade(self) -> None:
        self.factory.here.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.ends.append(reason.getErrorMessage())


class Stream:
    """A stream's writer, which keeps why it ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def gone(self, why: str) -> None:
        """Remember it."""
        self.ends.append(why)


class Page(Resource):
    """Answers with a stream."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.stream = Stream()
        self.exchange: http.WebExchange | None = None

    def render_GET(self, request: Request) -> int:
        self.exchange = http.WebExchange(request)
        self.exchange.begin({}, self.stream)
        return NOT_DONE_YET


class SilenceTests(TestCase):
    """Connections over loopback of which one end becomes deaf."""

    timeout = 600

    def setUp(self) -> None:
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            raise SkipTest("only Linux can be asked to notice")

    def listen(self, factory: Any) -> socket.socket:
        """Listen, and return a connection to it."""
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = socket.create_connection(("127.0.0.1", port.getHost().port), 5)
        client.setblocking(False)
        self.addCleanup(client.close)
        return client

    async def test_whoever_acknowledges_nothing_is_gone(self) -> None:
        factory: Any = Factory.forProtocol(Server)
        factory.here, factory.ends = [], []
        client = self.listen(factory)
        (server,) = await until("a connection", lambda: factory.here)
        notice(server.transport, longest=0.5)
        server.transport.write(b"heard")
        await hear(client, b"heard")
        deafen(client)
        server.transport.write(b"not heard")
        await until("its end", lambda: factory.ends)

    async def test_whose_acknowledgements_are_lost_is_gone_although_he_hears(self) -> None:
        factory: Any = Factory.forProtocol(Server)
        factory.here, factory.ends = [], []
        client = self.listen(factory)
        (server,) = await until("a connection", lambda: factory.here)
        notice(server.transport, longest=0.5)
        deafen(server.transport.socket)
        server.transport.write(b"heard")
        await hear(client, b"heard")
        await until("its end", lambda: factory.ends)

    async def test_idle_connection_is_asked_after(self) -> None:
        factory: Any = Factory.forProtocol(Server)
        factory.here, factory.ends = [], []
        client = self.listen(factory)
        (server,) = await until("a connection", lambda: factory.here)
        notice(server.transport, longest=2.0)
        deafen(client)
        await until("its end", lambda: factory.ends)

    async def test_streams_over_http_end(self) -> None:
        self.patch(http, "notice", partial(notice, longest=0.5))
        page = Page()
        client = self.listen(http.LimitedSite(page, clock=reactor, body_limit=1000, idle=60.0))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until("a request", lambda: page.exchange)
        deafen(client)
        assert page.exchange is not None
        page.exchange.write(b"heartbeat")
        await until("the end of the stream", lambda: page.stream.ends)

    async def test_the_system_is_asked_for_what_is_said(self) -> None:
        factory: Any = Factory.forProtocol(Server)
        factory.here, factory.ends = [], []
        client = self.listen(factory)
        (server,) = await until("a connection", lambda: factory.here)
        notice(server.transport)
        ask = partial(server.transport.socket.getsockopt, socket.IPPROTO_TCP)
        self.assertEqual(ask(socket.TCP_USER_TIMEOUT), LONGEST * 1000)
        times = ask(socket.TCP_KEEPINTVL) * ask(socket.TCP_KEEPCNT)
        self.assertEqual(ask(socket.TCP_KEEPIDLE) + times, LONGEST)
        client.close()
        await until("its end", lambda: factory.ends)

    def test_what_is_no_tcp_is_left_alone(self) -> None:
        notice(object())
