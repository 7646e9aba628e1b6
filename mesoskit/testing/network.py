"""A network and a clock inside one process: what Twisted's services run on in tests.

L{Network} is time and everything that is under way; a L{Host} is what a service takes for its
reactor. Endpoints, factories and protocols are the shipping ones; what is pretended is the
kernel. Nothing happens but in L{Network.advance}, and everything in the order of its moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

START: Final = 1_700_000_000.0
"""The moment at which a network begins, in seconds since 1970."""

# Calls within one moment after which it is taken to be an endless exchange.
_NEVER_QUIET: Final = 1_000_000

# Bytes that a transport takes before it pauses its producer; as Twisted's own do.
_FULL: Final = 64 * 1024

_Address = IPv4Address | UNIXAddress


class Network(Clock):
    """
    Time, hosts and what is under way between them.

    @ivar listening: who listens where, C{(host name or "", port)} or a path.
    """

    def __init__(self, start: float = START) -> None:
        super().__init__()
        self.rightNow = start
        self.listening: dict[Any, _Port] = {}
        self._last_port = 40_000

    def host(self, name: str) -> Host:
        """Return a new host."""
        return Host(self, name)

    def advance(self, amount: float) -> None:
        """
        Let so many seconds pass: whatever is due happens, at its own moment and in order.

        Raises L{RuntimeError} where one moment does not end.
        """
        end = self.rightNow + amount
        count = 0
        while self.calls:
            self._sortCalls()
            when = self.calls[0].getTime()
            if when > end:
                break
            if when > self.rightNow:
                self.rightNow = when
                count = 0
            count += 1
            if count > _NEVER_QUIET:
                raise RuntimeError(f"still not quiet after {_NEVER_QUIET} calls in one moment")
            call = self.calls.pop(0)
            call.called = 1
            call.func(*call.args, **call.kw)
        self.rightNow = end

    def next_port(self) -> int:
        """Return a port that nobody has."""
        self._last_port += 1
        return self._last_port


@implementer(IReactorTime)
class Host:
    """
    A machine on a network: what a service takes for its reactor.

    All hosts have the address 127.0.0.1 and share its ports; paths of UNIX sockets are each
    host's own.

    @ivar name: for people.
    @ivar isolated: whether everything that it sends, and that is sent to it, disappears.
    @ivar connections: the transports on it that stand.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.network = network
        self.name = name
        self.isolated = False
        self.connections: list[MemoryTransport] = []

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    # IReactorTime

    def seconds(self) -> float:
        """Return the moment, in seconds since 1970."""
        return self.network.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Call it in so many seconds."""
        return self.network.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Any:
        """Return what is to be called on the whole network."""
        return self.network.getDelayedCalls()

    # IReactorTCP and IReactorUNIX

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen at a port of 127.0.0.1, 0 for any free one."""
        number = port or self.network.next_port()
        return _Port(self, ("tcp", number), factory, IPv4Address("TCP", "127.0.0.1", number))

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> IConnector:
        """Connect to a port."""
        there = IPv4Address("TCP", host, port)
        here = IPv4Address("TCP", "127.0.0.1", self.network.next_port())
        return _Connector(self, ("tcp", port), factory, here, there, timeout)

    def listenUNIX(
        self,
        address: str,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """Listen at a path."""
        path = _path(address)
        return _Port(self, (self, path), factory, UNIXAddress(path))

    def connectUNIX(
        self, address: str, factory: Any, timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        """Connect to a path."""
        path = _path(address)
        return _Connector(
            self, (self, path), factory, UNIXAddress(None), UNIXAddress(path), timeout
        )

    # What tests do to it

    def cut(self) -> None:
        """Break all its connections; both sides notice at once."""
        for transport in list(self.connections):
            transport.break_off()

    def isolate(self, isolated: bool = True) -> None:
        """
        Pull the plug, or put it in again: nobody notices but by time-outs.

        What was sent meanwhile has not been lost by TCP: it arrives afterwards.
        """
        self.isolated = isolated
        if not isolated:
            for transport in list(self.connections):
                transport.wake()


def _path(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address


@implementer(IListeningPort)
class _Port:
    def __init__(self, host: Host, where: Any, factory: Any, address: _Address) -> None:
        self.host = host
        self.factory = factory
        self._where = where
        self._address = address
        self.startListening()

    def startListening(self) -> None:
        listening = self.host.network.listening
        if self._where in listening:
            why = OSError(98, "Address already in use")
            raise error.CannotListenError(None, self._where, why)  # type: ignore[no-untyped-call]
        listening[self._where] = self
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        if self.host.network.listening.get(self._where) is self:
            del self.host.network.listening[self._where]
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> _Address:
        return self._address


@implementer(IConnector)
class _Connector:
    def __init__(
        self,
        host: Host,
        where: Any,
        factory: Any,
        here: _Address,
        there: _Address,
        timeout: float,
    ) -> None:
        self._host = host
        self._where = where
        self._factory = factory
        self._here = here
        self._there = there
        self._timeout = timeout
        self._transport: MemoryTransport | None = None
        self.state = "disconnected"
        self._call: IDelayedCall | None = None
        self.connect()

    def connect(self) -> None:
        """Begin to connect."""
        self.state = "connecting"
        self._factory.doStart()
        self._factory.startedConnecting(self)
        if self.state == "connecting":
            self._call = self._host.callLater(0, self._try)

    def _try(self) -> None:
        self._call = None
        port = self._host.network.listening.get(self._where)
        if self._host.isolated or (port is not None and port.host.isolated):
            self._call = self._host.callLater(
                self._timeout,
                lambda: self._failed(error.TimeoutError()),  # type: ignore[no-untyped-call]
            )
        elif port is None:
            self._failed(error.ConnectionRefusedError())  # type: ignore[no-untyped-call]
        else:
            self._connected(port)

    def _connected(self, port: _Port) -> None:
        theirs = port.factory.buildProtocol(self._here)
        if theirs is None:
            self._failed(error.ConnectionRefusedError())  # type: ignore[no-untyped-call]
            return
        ours = self._factory.buildProtocol(self._there)
        if ours is None:
            self._failed(error.UserError())  # type: ignore[no-untyped-call]
            return
        self.state = "connected"
        a = MemoryTransport(self._host, ours, self._here, self._there, self)
        b = MemoryTransport(port.host, theirs, port.getHost(), self._here, None)
        a.other, b.other = b, a
        self._transport = a
        theirs.makeConnection(b)
        ours.makeConnection(a)

    def _failed(self, why: Exception) -> None:
        self._call = None
        self.state = "disconnected"
        self._factory.clientConnectionFailed(self, Failure(why))  # type: ignore[no-untyped-call]
        self._factory.doStop()

    def lost(self, reason: Failure) -> None:
        self.state = "disconnected"
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()

    def stopConnecting(self) -> None:
        """Give up."""
        if self._call is not None:
            self._call.cancel()
            self._failed(error.UserError())  # type: ignore[no-untyped-call]

    def disconnect(self) -> None:
        """End it, however far it is."""
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self.stopConnecting()

    def getDestination(self) -> _Address:
        """Return where it leads."""
        return self._there


@implementer(ITransport, IPushProducer)
class MemoryTransport:
    """
    One end of a connection.

    It delivers in the same moment, one call after what wrote; it pauses its producer when more
    than 64 KiB wait, as Twisted's own transports do.

    @ivar other: the other end.
    @ivar disconnecting: whether it closes when what was written has been taken.
    """

    other: MemoryTransport

    def __init__(
        self, host: Host, protocol: Any, here: _Address, there: _Address, connector: Any
    ) -> None:
        self._host = host
        self._protocol = protocol
        self._here = here
        self._there = there
        self._connector = connector
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._producer: Any = None
        self._paused = False
        self._reading = True
        self._moving: IDelayedCall | None = None
        self.disconnecting = False
        self._gone = False
        host.connections.append(self)

    def write(self, data: bytes) -> None:
        """Take bytes, to be delivered."""
        if self._gone or self.disconnecting or not data:
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._size > _FULL and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self.wake()

    def writeSequence(self, data: Any) -> None:
        """Take bytes in pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when everything was delivered."""
        if not self._gone:
            self.disconnecting = True
            self.wake()

    def abortConnection(self) -> None:
        """Cut it, in a moment."""
        if not self._gone:
            self._host.callLater(0, self._end, error.ConnectionAborted(), error.ConnectionLost())

    def stall(self, stalled: bool) -> None:
        """Have this end's kernel take nothing more of what comes, or all of it again."""
        self._reading = not stalled
        self.other.wake()

    def break_off(self) -> None:
        """Cut it now; both sides are told."""
        self._end(error.ConnectionLost(), error.ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Know whom to pause."""
        self._producer = producer
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Pause nobody any more."""
        self._producer = None
        self.wake()

    def pauseProducing(self) -> None:
        """Deliver nothing to this end for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Deliver again."""
        self._reading = True
        self.other.wake()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def getHost(self) -> _Address:
        """Return this end's address."""
        return self._here

    def getPeer(self) -> _Address:
        """Return the other end's address."""
        return self._there

    def wake(self) -> None:
        """See to it that what waits is delivered, and that the other end's is."""
        for end in (self, self.other):
            if end._moving is None and not end._gone and (end._waiting or end.disconnecting):
                end._moving = end._host.callLater(0, end._move)

    def _move(self) -> None:
        self._moving = None
        other = self.other
        if self._gone or self._host.isolated or other._host.isolated or not other._reading:
            return
        if other._gone:
            # It went while nobody could be told.
            self._lost(error.ConnectionLost())
            return
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            other._protocol.dataReceived(data)
            if self._paused and not self._gone:
                self._paused = False
                if self._producer is not None:
                    self._producer.resumeProducing()
        if self.disconnecting and not self._waiting and self._producer is None:
            self._end(error.ConnectionDone(), error.ConnectionDone())

    def _end(self, ours: Exception, theirs: Exception) -> None:
        self._lost(ours)
        other = self.other
        if self._host.isolated or other._host.isolated:
            return  # nobody tells it
        other._lost(theirs)

    def _lost(self, why: Exception) -> None:
        if self._gone:
            return
        self._gone = True
        self._waiting.clear()
        self._host.connections.remove(self)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        reason = Failure(why)  # type: ignore[no-untyped-call]
        self._protocol.connectionLost(reason)
        if self._connector is not None:
            self._connector.lost(reason)
