"""A v1 client of ours and a server of ours, joined in memory or over sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mesoskit.messages.authentication_pb2 import AuthenticationStepMessage
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.v1_client import dial
from mesoskit.wire.v1_client_plan import Api, V1ClientSettings
from tests.wire.ears import Ear
from tests.wire.transports import Wires
from tests.wire.v1_peers import PATH, SUBSCRIBE, Host

PLAIN = Api(
    PATH.decode(),
    AuthenticationStepMessage,
    AuthenticationStepMessage,
    lambda call: getattr(call, "data", b"") == SUBSCRIBE,
)
"""What L{tests.wire.v1_peers.PlainCarrier} serves."""


def subscribe() -> Message:
    """Return the call that asks for the stream."""
    return AuthenticationStepMessage(data=SUBSCRIBE)


class Subscriber:
    """Subscribes as soon as there is a connection, and lets an ear know of it then."""

    def __init__(self, ear: Ear, host: Host | None = None) -> None:
        self.ear = ear
        self.host = host
        self.link: Any = None
        self.subscribed: Deferred[None] | None = None

    def connected(self, link: Link) -> None:
        self.link = link
        if self.host is not None:
            self._count(self.host)
        self.subscribed = link.call(subscribe())
        self.subscribed.addCallback(lambda _: self.ear.connected(link))
        self.subscribed.addErrback(lambda _: None)

    def _count(self, host: Host) -> None:
        """Let the server's side know which messages are waited for: HTTP answers all."""
        put = self.link._put

        def counted(body: bytes, answer: Deferred[None] | None) -> None:
            host.waited_for.append(answer is not None)
            put(body, answer)

        self.link._put = counted

    def received(self, link: Link, message: Message, call: int | None) -> None:
        self.ear.received(link, message, call)

    def congestion(self, link: Link, congested: bool) -> None:
        self.ear.congestion(link, congested)

    def lost(self, link: Link, why: str) -> None:
        self.ear.lost(link, why)


class Connector:
    """What is under way to a server."""

    def __init__(self, there: IPv4Address) -> None:
        self.there = there
        self.call: Any = None

    def stopConnecting(self) -> None:
        """Give up."""
        if self.call is not None and self.call.active():
            self.call.cancel()

    def getDestination(self) -> IPv4Address:
        """Return where it leads."""
        return self.there


class WiredReactor(Clock):
    """
    A clock that connects: to the factories at its C{ports}, by bytes in memory.

    It is a L{tests.wire.contract.Pair}.

    @ivar wires: all connections, oldest first.
    @ivar far: whether connections that are begun never come about.
    @ivar piece: bytes travel in such pieces, where it is not 0.
    """

    def __init__(self, piece: int = 0) -> None:
        super().__init__()
        self.piece = piece
        self.ports: dict[int, Any] = {}
        self.wires: list[Wires] = []
        self.far = False
        self._stalled = False

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Connect, in a moment."""
        connector = Connector(IPv4Address("TCP", host, port))
        factory.startedConnecting(connector)
        if not self.far:
            connector.call = self.callLater(0, self._connect, host, port, factory)
        return connector

    def _connect(self, host: str, port: int, factory: Any) -> None:
        there = self.ports.get(port)
        if there is None:
            why = error.ConnectionRefusedError("nobody listens")
            factory.clientConnectionFailed(self, Failure(why))
            return
        client = factory.buildProtocol(IPv4Address("TCP", host, port))
        wires = Wires(self, there.buildProtocol(None), client, self.piece)
        wires.b.taken = not self._stalled
        self.wires.append(wires)

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        moved = True
        while moved:
            moved = bool(self.calls) and self.calls[0].getTime() <= self.seconds()
            self.advance(0)
            for wires in list(self.wires):
                wires.piece = self.piece
                moved |= wires.a.step() | wires.b.step()
        for _ in range(3):
            self.advance(0)
        if until is not None and not until():
            raise AssertionError("all is quiet, and it has not come")

    def cut(self) -> None:
        for wires in self.wires:
            wires.cut()

    def stall(self, stalled: bool) -> None:
        """Let the servers read nothing, on any connection."""
        self._stalled = stalled
        for wires in self.wires:
            wires.b.taken = not stalled


def join(
    reactor: Any,
    subscriber: Subscriber,
    hello: Hello,
    place: str,
    settings: V1ClientSettings | None = None,
    **more: Any,
) -> Deferred[Link]:
    """Dial a server of the plain API."""
    return dial(
        place, subscriber, reactor=reactor, api=PLAIN, hello=hello, settings=settings, **more
    )
