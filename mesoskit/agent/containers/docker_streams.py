"""Connections to the Docker engine that stop being HTTP: bytes in both directions, for terminals.

A request to attach, or to start a command, is answered with C{101 UPGRADED} (or, by older
engines, C{200}); from then on the connection is the container's input and output.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.agent.containers.docker_http import TIMEOUT, Engine, EngineError, Query, words

MAX_HEAD: Final = 64 << 10
"""Bytes of the longest head of an answer, and of the longest refusal."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d\d\d)")


class _Quiet(Factory):
    noisy = False


@implementer(IHalfCloseableProtocol)
class Duplex(Protocol):
    """
    A connection in both directions. What comes waits, also in the engine, until somebody hears it.

    @ivar begun: fires when the engine has agreed; fails with L{EngineError}.
    @ivar over: fires when nothing comes any more, however it ended; never fails.
    @ivar full: is told whether too much waits to be sent.
    """

    def __init__(self, request: bytes, refused: Callable[[int, bytes], EngineError]) -> None:
        self.begun: Deferred[None] = Deferred(lambda _: self.drop())
        self.over: Deferred[None] = Deferred(lambda _: self.drop())
        self.full: Callable[[bool], None] = lambda full: None
        self._request = request
        self._refused = refused
        self._received: Callable[[bytes], None] | None = None
        self._buffer = b""
        self._paused = False
        self._lost = False

    def connectionMade(self) -> None:
        """Ask."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Read the head of the answer, then what comes."""
        self._buffer += data
        if not self.begun.called:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                if len(head) > MAX_HEAD:
                    self._fail(0, b"the engine's answer has too long a head")
                return
            status = _STATUS.match(head)
            code = int(status[1]) if status else 0
            if code not in (101, 200):
                if len(rest) >= min(MAX_HEAD, _length(head)):
                    self._fail(code, rest)
                return
            self._buffer = rest
            self._hold(True)
            self.begun.callback(None)
        self._flush()

    def hear(self, received: Callable[[bytes], None]) -> None:
        """Give what comes to a function from now on; one that raises ends the connection."""
        self._received = received
        self._flush()
        if not self._paused:
            self._hold(False)

    def pause(self, paused: bool) -> None:
        """Take no more for now, or go on."""
        self._paused = paused
        if self._received is not None:
            if not paused:
                self._flush()
            self._hold(paused)

    def write(self, data: bytes) -> None:
        """Put something in."""
        if self.transport is not None and not self._lost:
            self.transport.write(data)

    def close_input(self) -> None:
        """Put nothing in any more."""
        transport: Any = self.transport
        if transport is not None and not self._lost:
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def lose(self) -> None:
        """End the connection when all that was put in is on its way."""
        transport: Any = self.transport
        if transport is not None and not self._lost:
            transport.unregisterProducer()
            transport.loseConnection()

    def drop(self) -> None:
        """End the connection at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _hold(self, held: bool) -> None:
        transport: Any = self.transport
        if not self._lost:
            (transport.pauseProducing if held else transport.resumeProducing)()

    def _flush(self) -> None:
        if self._received is None or self._paused or not self._buffer:
            return
        data, self._buffer = self._buffer, b""
        try:
            self._received(data)
        except Exception:
            self.drop()
            raise

    def _fail(self, code: int, body: bytes) -> None:
        self.begun.errback(self._refused(code, body))
        self.drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self._lost = True
        if not self.begun.called:
            _, _, body = self._buffer.partition(b"\r\n\r\n")
            status = _STATUS.match(self._buffer)
            why = body or reason.getErrorMessage().encode()
            self.begun.errback(self._refused(int(status[1]) if status else 0, why))
        self._paused = False
        self._flush()
        if not self.over.called:
            self.over.callback(None)

    # IHalfCloseableProtocol

    def readConnectionLost(self) -> None:
        """Nothing comes any more: so there is nobody to say anything to either."""
        self.drop()

    def writeConnectionLost(self) -> None:
        """Nothing: what is left comes still."""

    # IPushProducer: what the transport says of its buffer

    def pauseProducing(self) -> None:
        """Too much waits."""
        self.full(True)

    def resumeProducing(self) -> None:
        """There is room again."""
        self.full(False)

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost says so as well."""


async def open_duplex(
    reactor: Any, engine: Engine, path: str, query: Query = None, body: Any = None
) -> Duplex:
    """C{POST} something whose answer is a connection in both directions. Raises L{EngineError}."""
    data = b"" if body is None else orjson.dumps(body)
    request = (
        f"POST {engine.target(path, query)} HTTP/1.1\r\nHost: docker\r\nUser-Agent: mesoskit\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )

    def refused(code: int, answer: bytes) -> EngineError:
        if not code:
            return EngineError(0, engine.gone(answer.decode(errors="replace")))
        return EngineError(code, words(answer) or f"HTTP status {code}")

    made = Duplex(request.encode() + data, refused)
    endpoint = UNIXClientEndpoint(reactor, engine.path, timeout=10)  # type: ignore[no-untyped-call]
    try:
        await endpoint.connect(_Quiet.forProtocol(lambda: made))  # type: ignore[no-untyped-call]
    except CancelledError:
        raise
    except Exception as error:
        raise EngineError(0, engine.gone(str(error))) from error
    made.begun.addTimeout(TIMEOUT, reactor)
    try:
        await made.begun
    except TookTooLong as error:
        made.drop()
        raise EngineError(
            0, f"the Docker engine has not answered POST {path} for {TIMEOUT:g} seconds"
        ) from error
    return made


def _length(head: bytes) -> int:
    """Return how long a body is; where nobody says so, all that may come."""
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else MAX_HEAD
