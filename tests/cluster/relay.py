"""A relay of TCP connections that a test can cut, slow down and break.

Daemons are told its addresses in place of each other's. A cut is what a network does: bytes are
kept on their way and come through when it is over, ends of connections likewise, and whoever
dials meanwhile is answered by silence. Who dials is known by the process that has the socket.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

HELD = 4 * 1024 * 1024
"""Bytes that are held in a direction; beyond this the sender is not listened to."""

Pids = Callable[[], Iterable[tuple[str, int]]]
"""Gives the names and pids of whoever may dial."""


@dataclass(frozen=True, slots=True, eq=False)
class Trouble:
    """
    What is wrong between some clients and some servers, for a while.

    @ivar clients: names of those that dial; empty: all.
    @ivar servers: names of those that are dialled; empty: all.
    @ivar up: whether nothing comes through from clients to servers.
    @ivar down: the same from servers to clients.
    @ivar delay: seconds that everything else takes longer, each way.
    """

    clients: frozenset[str]
    servers: frozenset[str]
    up: bool = False
    down: bool = False
    delay: float = 0.0

    def between(self, client: str, server: str) -> bool:
        """Tell whether it is between these two."""
        return (not self.clients or client in self.clients) and (
            not self.servers or server in self.servers
        )


class Relay:
    """
    All that is between some clients and some servers.

    @ivar carried: bytes that came through.
    @ivar strangers: connections of which nobody knows who dialled them.
    """

    def __init__(self, reactor: Any, pids: Pids = lambda: ()) -> None:
        self.reactor = reactor
        self.carried = 0
        self.strangers = 0
        self._pids = pids
        self._troubles: list[Trouble] = []
        self._passages: set[_Passage] = set()
        self._ports: list[Any] = []

    def listen(self, server: str, target: int, port: int) -> None:
        """Carry what comes to a port of 127.0.0.1 to another, which is a server's."""
        factory = _Entrance(lambda: _Passage(self, server, target, port).client)
        self._ports.append(self.reactor.listenTCP(port, factory, interface="127.0.0.1"))

    def close(self) -> None:
        """Break everything off, and listen no more."""
        for port in self._ports:
            port.stopListening()
        for passage in list(self._passages):
            passage.abort()

    def begin(self, trouble: Trouble) -> None:
        """Let something be wrong."""
        self._troubles.append(trouble)
        self._look()

    def end(self, trouble: Trouble) -> None:
        """Let it be right again."""
        self._troubles.remove(trouble)
        self._look()

    def break_off(self, clients: frozenset[str], servers: frozenset[str] = frozenset()) -> int:
        """Break connections off, for both sides, and return how many there were."""
        where = Trouble(clients, servers)
        found = [each for each in self._passages if where.between(each.name, each.server)]
        for passage in found:
            passage.abort()
        return len(found)

    def connections(self, client: str, server: str) -> int:
        """Return how many connections a client has to a server."""
        return sum((each.name, each.server) == (client, server) for each in self._passages)

    def state(self, client: str, server: str) -> tuple[bool, bool, float]:
        """Return whether the way up and the way down are cut, and how slow they are."""
        here = [each for each in self._troubles if each.between(client, server)]
        return (
            any(each.up for each in here),
            any(each.down for each in here),
            max((each.delay for each in here), default=0.0),
        )

    def who(self, port: int, listening: int) -> str:
        """Return who has the socket of a connection, C{?} where that is not known."""
        name = owner(port, listening, self._pids())
        if name is None:
            self.strangers += 1
        return name or "?"

    def opened(self, passage: _Passage) -> None:
        """A connection is there."""
        self._passages.add(passage)

    def closed(self, passage: _Passage) -> None:
        """It is no more."""
        self._passages.discard(passage)

    def _look(self) -> None:
        for passage in list(self._passages):
            passage.look()


class _Entrance(Factory):
    """Makes the near side of a passage for whoever dials."""

    noisy = False

    def __init__(self, enter: Callable[[], _End]) -> None:
        self._enter = enter

    def buildProtocol(self, addr: Any) -> _End:
        return self._enter()


class _End(Protocol):
    """One side of a passage."""

    passage: _Passage
    way: _Way
    gone = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self.passage.made(self)

    def dataReceived(self, data: bytes) -> None:
        self.way.take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        self.way.take(None)
        self.passage.lost()


class _Passage:
    """
    One connection through the relay.

    @ivar name: of who has dialled.
    """

    def __init__(self, relay: Relay, server: str, target: int, listening: int) -> None:
        self.relay = relay
        self.server = server
        self.name = "?"
        self._target = target
        self._listening = listening
        self._dialled: Deferred[Any] | None = None
        self._aborted = False
        self.client, self._far = _End(), _End()
        self.client.passage = self._far.passage = self
        self._up = self.client.way = _Way(relay, self.client, self._far)
        self._down = self._far.way = _Way(relay, self._far, self.client)

    def made(self, end: _End) -> None:
        """One side is there."""
        if end is self.client:
            peer: Any = end.transport.getPeer()  # type: ignore[union-attr]
            self.name = self.relay.who(peer.port, self._listening)
            self.relay.opened(self)
        elif self._aborted:
            end.transport.abortConnection()  # type: ignore[union-attr]
            return
        self.look()

    def look(self) -> None:
        """Something is wrong or right again between the two."""
        up, down, delay = self.relay.state(self.name, self.server)
        self._up.set(up, delay)
        self._down.set(down, delay)
        if not (up or down) and self._dialled is None:
            # Whoever dials into a cut waits until it is over.
            endpoint = TCP4ClientEndpoint(
                self.relay.reactor, "127.0.0.1", self._target, timeout=60.0
            )
            self._dialled = connectProtocol(endpoint, self._far)
            self._dialled.addErrback(lambda _: self.abort())

    def abort(self) -> None:
        """Break both sides off."""
        if self._aborted:
            return
        self._aborted = True
        self.relay.closed(self)
        for way in (self._up, self._down):
            way.clear()
        for end in (self.client, self._far):
            if end.transport is not None and not end.gone:
                end.transport.abortConnection()  # type: ignore[attr-defined]

    def lost(self) -> None:
        """One side is gone; the other hears of it as the way between them has it."""
        never = self._far.transport is None
        if self.client.gone and (never or self._far.gone):
            if never and self._dialled is not None and not self._dialled.called:
                self._dialled.cancel()
            self._aborted = True
            self.relay.closed(self)


class _Way:
    """One direction of a passage."""

    def __init__(self, relay: Relay, source: _End, target: _End) -> None:
        self._relay = relay
        self._source = source
        self._target = target
        # When it is due, and what: None is the end of the connection.
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._blocked = True
        self._delay = 0.0
        self._last = 0.0
        self._paused = False
        self._alarm: Any = None

    def set(self, blocked: bool, delay: float) -> None:
        """Cut it or not, and let it be so slow."""
        self._blocked = blocked
        self._delay = delay
        self.pump()

    def take(self, data: bytes | None) -> None:
        """Something has come from the source."""
        self._last = max(self._last, self._relay.reactor.seconds() + self._delay)
        self._held.append((self._last, data))
        self._size += len(data or b"")
        self.pump()

    def clear(self) -> None:
        """Forget what is on its way."""
        self._held.clear()
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def pump(self) -> None:
        """Pass on what is due."""
        target: Any = self._target.transport
        if not self._blocked and target is not None:
            now = self._relay.reactor.seconds()
            while self._held and self._held[0][0] <= now:
                self._pass(target, self._held.popleft()[1])
            if self._held and (self._alarm is None or not self._alarm.active()):
                wait = self._held[0][0] - now
                self._alarm = self._relay.reactor.callLater(wait, self.pump)
        self._listen(self._size < HELD)

    def _pass(self, target: Any, data: bytes | None) -> None:
        if data is None:
            if not self._target.gone:
                target.loseConnection()
            return
        self._size -= len(data)
        self._relay.carried += len(data)
        if not self._target.gone:
            target.write(data)

    def _listen(self, wanted: bool) -> None:
        source: Any = self._source.transport
        if source is None or self._source.gone or wanted is not self._paused:
            return
        self._paused = not wanted
        if wanted:
            source.resumeProducing()
        else:
            source.pauseProducing()


def owner(port: int, listening: int, pids: Iterable[tuple[str, int]]) -> str | None:
    """
    Return which of some processes has the socket of a connection on 127.0.0.1.

    @param port: the connection's own port.
    @param listening: the port that it goes to.
    """
    inode = _inode(port, listening)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for name, pid in pids:
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") == wanted:
                        return name
    return None


def _inode(port: int, listening: int) -> str | None:
    ours, theirs = f"0100007F:{port:04X}", f"0100007F:{listening:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError), open(table, encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[1].endswith(ours) and fields[2].endswith(theirs):
                    return fields[9]
    return None
