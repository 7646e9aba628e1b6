"""A connection to a launcher, as lines of JSON."""

from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

MAX_LINE = 256 << 20
"""Bytes of the longest line of a launcher: it lists all its containers in one."""

HELLO = 1
"""The number of the first request of every connection."""


class Lines(Protocol):
    """
    A connection to a launcher: lines in, lines out.

    @ivar hello: fires with the answer to C{hello}, request L{HELLO}.
    """

    def __init__(self, line: Callable[[Any], None], lost: Callable[["Lines"], None]) -> None:
        self.hello: Deferred[Any] = Deferred()
        self._line = line
        self._lost = lost
        self._buffer: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        """Take what came; a line is understood when all of it is there."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._buffer, lines[0]))
            self._buffer = []
            self._size = 0
        if rest:
            self._buffer.append(rest)
            self._size += len(rest)
        for line in lines:
            words = orjson.loads(line)
            if words[0] == HELLO and not self.hello.called:
                self.hello.callback(words[2])
            else:
                self._line(words)
        if self._size > MAX_LINE:
            self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so."""
        if not self.hello.called:
            self.hello.errback(ConnectionLost())
        self._lost(self)

    def drop(self) -> None:
        """End it."""
        if self.transport is not None:
            self.transport.loseConnection()

    def send(self, line: bytes) -> None:
        """Send a line."""
        if self.transport is not None:
            self.transport.write(line)
