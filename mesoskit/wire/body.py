"""Bodies of requests that are never whole: heard piece by piece, as they come."""

from __future__ import annotations

from typing import Any, Final, Protocol

HELD: Final = 64 * 1024
"""Bytes that are held before somebody hears them; then no more is read."""


class BodyListener(Protocol):
    """Whoever hears a body."""

    def received(self, data: bytes) -> None:
        """A piece came."""
        ...

    def ended(self) -> None:
        """All of it came."""
        ...


class StreamedBody:
    """
    A body while it comes.

    @param transport: of the connection: reading stops where nobody hears.

    @ivar whole: all of it came.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._listener: BodyListener | None = None
        self._held: list[bytes] = []
        self._size = 0
        self._paused = False
        self.whole = False

    def hear(self, listener: BodyListener) -> None:
        """Let somebody hear all that came and will come."""
        self._listener = listener
        held, self._held, self._size = self._held, [], 0
        for piece in held:
            listener.received(piece)
        if self.whole:
            listener.ended()
        else:
            self.pause(False)

    def pause(self, paused: bool) -> None:
        """Read no more for now, or go on."""
        if paused is not self._paused:
            self._paused = paused
            if paused:
                self._transport.pauseProducing()
            else:
                self._transport.resumeProducing()

    def feed(self, data: bytes) -> None:
        """For the request: a piece came."""
        if self._listener is not None:
            self._listener.received(data)
            return
        self._held.append(data)
        self._size += len(data)
        if self._size > HELD:
            self.pause(True)

    def end(self) -> None:
        """For the request: all of it came."""
        self.whole = True
        if self._listener is not None:
            self._listener.ended()
