"""Bodies that are not held whole: a file, or what comes from somewhere else, piece by piece."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

PIECE: Final = 256 * 1024
"""Bytes that are read of a file at a time."""

STALLED: Final = 300.0
"""Seconds after which a client that takes nothing of a file is cut off."""


class Streamed(ABC):
    """
    A body of a L{mesoskit.web.routes.Reply} that is sent as the client takes it.

    Whoever gets one either sends or closes it.

    @ivar length: how many bytes there will be.
    """

    length: int

    @abstractmethod
    def send(self, request: Any) -> None:
        """
        Write the body, and finish the request; the head has been set.

        A client that leaves ends it. What breaks off cuts the connection: what was promised
        must not look as if it had been kept.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it: nobody wants it, or no more of it."""


@implementer(IPushProducer)
class FilePart(Streamed):
    """
    A part of an open file.

    @param descriptor: which this closes in the end.
    @param begin: the first byte of it that is sent.
    @param in_thread: calls a function where it may block.
    @param clock: how long a client takes nothing.
    """

    def __init__(
        self,
        descriptor: int,
        begin: int,
        length: int,
        in_thread: Callable[[Callable[[], bytes]], Deferred[bytes]],
        clock: IReactorTime,
    ) -> None:
        self.length = length
        self._descriptor = descriptor
        self._position = begin
        self._left = length
        self._in_thread = in_thread
        self._clock = clock
        self._stalled: IDelayedCall | None = None
        self._request: Any = None
        self._reading = self._paused = self._over = False

    def read(self, most: int) -> Deferred[bytes]:
        """
        Return the next bytes, C{b""} where the file has become shorter; one call at a time.

        Nothing is read any more when L{close} was called.
        """
        descriptor, position = self._descriptor, self._position
        wanted = min(most, self._left)
        self._reading = True

        def done(result: Any) -> Any:
            self._reading = False
            if self._over:
                self._close()
            elif isinstance(result, bytes):
                self._position += len(result)
                self._left -= len(result)
            return result

        return self._in_thread(lambda: os.pread(descriptor, wanted, position)).addBoth(done)

    def send(self, request: Any) -> None:
        """Read and write, a piece at a time."""
        self._request = request
        request.notifyFinish().addBoth(lambda _: self.close())
        request.registerProducer(self, True)
        self._go_on()

    def close(self) -> None:
        """Close the file, at the end of a read that is under way."""
        self._patient()
        if not self._over:
            self._over = True
            if not self._reading:
                self._close()

    def _patient(self) -> None:
        stalled, self._stalled = self._stalled, None
        if stalled is not None and stalled.active():
            stalled.cancel()

    def _abort(self) -> None:
        self._request.channel.transport.abortConnection()

    def _go_on(self) -> None:
        if not (self._reading or self._paused or self._over):
            self.read(PIECE).addCallbacks(self._sent, self._broken)

    def _sent(self, piece: bytes) -> None:
        if self._over:
            return
        if not piece:
            self._abort()
            return
        self._request.write(piece)
        if not self._over and not self._left:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._go_on()

    def _broken(self, failure: Any) -> None:
        if not self._over:
            self._abort()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport takes no more for now."""
        self._paused = True
        if self._stalled is None and not self._over:
            self._stalled = self._clock.callLater(STALLED, self._abort)

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._paused = False
        self._patient()
        self._go_on()

    def stopProducing(self) -> None:
        """The client has left."""
        self.close()
