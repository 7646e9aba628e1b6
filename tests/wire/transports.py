"""Connections in memory that behave as Twisted's do, under a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.wire.stream import StreamFactory


class Dialling(StreamFactory):
    """Makes the links of the side that says hello first."""

    dials = True


@implementer(ITransport, IPushProducer)
class Transport:
    """
    One end of a connection in memory.

    As Twisted's own it pauses its producer when more than 64 KiB wait, and resumes it
    when all of that has gone; C{loseConnection} waits for both.
    """

    full = 64 * 1024

    def __init__(self, wires: Wires, port: int) -> None:
        self.wires = wires
        self.address = IPv4Address("TCP", "127.0.0.1", port)
        self.protocol: Any = None
        self.peer: Any = None
        self.waiting = bytearray()
        self.taken = True
        self.writes = 0
        self.disconnecting = False
        self.disconnected = False
        self.producer: Any = None
        self.paused = False

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.disconnected:
            return
        self.writes += 1
        self.waiting += data
        if self.producer is not None and len(self.waiting) > self.full:
            self.paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self.producer is None
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        if not self.disconnected:
            self.disconnecting = True
            self.wires.clock.callLater(0, self.wires.end, self, ConnectionAborted())

    def pauseProducing(self) -> None:
        self.peer.taken = False

    def resumeProducing(self) -> None:
        self.peer.taken = True

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        address: IPv4Address = self.peer.address
        return address

    def getHost(self) -> IPv4Address:
        return self.address

    def step(self) -> bool:
        """Deliver what waits; returns whether anything happened."""
        if self.disconnected:
            return False
        if self.waiting and self.taken:
            piece = self.wires.piece or len(self.waiting)
            data = bytes(self.waiting[:piece])
            del self.waiting[:piece]
            self.peer.protocol.dataReceived(data)
            if not self.waiting and self.paused and self.producer is not None:
                self.paused = False
                self.producer.resumeProducing()
            return True
        if self.disconnecting and not self.waiting and self.producer is None:
            self.wires.end(self, ConnectionDone())
            return True
        return False


class Wires:
    """
    A connection between two protocols; bytes travel in C{piece}s where that is set.

    It is a L{tests.wire.contract.Pair}.
    """

    def __init__(self, clock: Clock, a: Any, b: Any, piece: int = 0) -> None:
        self.clock = clock
        self.piece = piece
        self.a = Transport(self, 1)
        self.b = Transport(self, 2)
        self.a.peer, self.b.peer = self.b, self.a
        self.a.protocol, self.b.protocol = a, b
        a.makeConnection(self.a)
        b.makeConnection(self.b)

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        moved = True
        while moved:
            self.clock.advance(0)
            moved = self.a.step() | self.b.step()
        self.clock.advance(0)
        if until is not None and not until():
            raise AssertionError("all is quiet, and it has not come")

    def cut(self) -> None:
        self.end(self.a, ConnectionLost())

    def stall(self, stalled: bool) -> None:
        self.a.taken = not stalled

    def end(self, first: Transport, why: Exception) -> None:
        """End the connection on both sides."""
        for transport in (first, first.peer):
            if not transport.disconnected:
                transport.disconnected = True
                if transport.producer is not None:
                    transport.producer.stopProducing()
                transport.protocol.connectionLost(Failure(why))
