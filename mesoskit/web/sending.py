"""Answers of any size: built in slices, zipped in a thread, sent as fast as they are taken.

A document of megabytes is made of pieces by a generator. A slice of it is made each time the
reactor comes round, for so long as nobody else has to wait; however many ask, one document of
a kind is being made at a time, and whoever asks meanwhile shares the next, which begins when
all of them have asked: nobody is told of less than there was when he asked. Documents of
different kinds are made in turns, a few at a time; what was not begun yet when everybody who asked
for it has left is not made at all.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

T = TypeVar("T")

GZIP_FROM: Final = 1024
"""Bytes from which on a body is zipped for whoever takes it so (Mesos' limit)."""

SLICE: Final = 0.004
"""Seconds that a document may take of the reactor at a time."""

MAKING: Final = 4
"""So many documents are made at a time: with each, a turn takes a slice, and memory a document."""

_THREAD_FROM: Final = 32 * 1024
_PIECE: Final = 128 * 1024
_MOST: Final = 256 * 1024 * 1024


@dataclass(slots=True, frozen=True)
class Document:
    """
    A JSON document that is made in pieces.

    @ivar begin: begins it; each piece takes no more than a millisecond or two.
    @ivar key: documents of the same key are the same.
    """

    begin: Callable[[], Iterator[bytes]]
    key: str


class Documents:
    """
    The documents that are being made.

    @param clock: provides C{IReactorTime}.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._making = 0
        # The one who makes a document is not here; a list holds who waits for the next.
        self._waiting: dict[str, list[Deferred[bytes]]] = {}
        # What is to be made when others are done, in this order, and who waits for it.
        self._later: dict[str, tuple[Document, list[Deferred[bytes]]]] = {}

    def get(self, document: Document) -> Deferred[bytes]:
        """
        Have a document made; it holds at least what there was at this moment.

        Who does not want it any more cancels.
        """
        answer: Deferred[bytes] = Deferred(lambda left: self._left(document.key, left))
        if document.key in self._later:
            self._later[document.key][1].append(answer)
        elif document.key in self._waiting:
            self._waiting[document.key].append(answer)
        else:
            self._waiting[document.key] = []
            if self._making >= MAKING or self._later:
                self._later[document.key] = document, [answer]
            else:
                self._make(document, [answer])
        return answer

    def _left(self, key: str, answer: Deferred[bytes]) -> None:
        """Forget somebody who waits; what nobody waits for is not begun."""
        waiting = self._waiting.get(key, [])
        if answer in waiting:
            waiting.remove(answer)
        elif key in self._later:
            readers = self._later[key][1]
            readers.remove(answer)
            if not readers:
                del self._later[key], self._waiting[key]

    def _next(self) -> None:
        """Make what comes next, as far as there is room."""
        while self._later and self._making < MAKING:
            self._make(*self._later.pop(next(iter(self._later))))

    def _make(self, document: Document, readers: list[Deferred[bytes]]) -> None:
        self._making += 1
        parts: list[bytes] = []
        try:
            pieces = document.begin()
        except Exception:
            self._made(document, readers, Failure())  # type: ignore[no-untyped-call]
            return
        self._go_on(document, readers, pieces, parts)

    def _go_on(
        self,
        document: Document,
        readers: list[Deferred[bytes]],
        pieces: Iterator[bytes],
        parts: list[bytes],
    ) -> None:
        seconds = self._clock.seconds
        until = seconds() + SLICE
        take = parts.append
        try:
            for piece in pieces:
                take(piece)
                if seconds() > until:
                    self._clock.callLater(0, self._go_on, document, readers, pieces, parts)
                    return
        except Exception:
            self._made(document, readers, Failure())  # type: ignore[no-untyped-call]
            return
        self._made(document, readers, b"".join(parts))

    def _made(
        self, document: Document, readers: list[Deferred[bytes]], result: bytes | Failure
    ) -> None:
        self._making -= 1
        waiting = self._waiting.pop(document.key)
        if waiting:
            self._waiting[document.key] = []
            self._later[document.key] = document, waiting
        if self._later:
            self._clock.callLater(0, self._next)
        for reader in readers:
            if reader.called:
                # He has left.
                continue
            if isinstance(result, bytes):
                reader.callback(result)
            else:
                reader.errback(result)


def accepts_gzip(request: Any) -> bool:
    """Tell whether a client takes bodies zipped (RFC 9110, 12.5.3)."""
    # As bytes: Twisted would read text as UTF-8, and raise where it is none.
    for value in request.requestHeaders.getRawHeaders(b"accept-encoding") or ():
        for part in value.decode("latin-1").lower().split(","):
            name, _, rest = part.partition(";")
            if name.strip() in ("gzip", "x-gzip", "*"):
                quality = rest.strip().removeprefix("q=").strip()
                return not quality or quality.strip("0.") != ""
    return False


def gzipped(body: bytes) -> bytes:
    """Return a body zipped, quickly rather than well."""
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(body) + packer.flush()


class Sender:
    """
    Sends bodies, as fast as each client takes them.

    What waits to be taken is bounded, for all clients together: one body counts once, however
    many it is sent to.
    """

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        self._total = 0
        self._last: tuple[bytes, bytes] = (b"", b"")

    def gzip(
        self, body: bytes, in_thread: Callable[[Callable[[], bytes]], Deferred[bytes]]
    ) -> Deferred[bytes]:
        """Zip a body: a big one in a thread, and the one that several share once."""
        if len(body) < _THREAD_FROM:
            return maybeDeferred(gzipped, body)
        if self._last[0] is body:
            return maybeDeferred(lambda: self._last[1])

        def done(small: bytes) -> bytes:
            self._last = (body, small)
            return small

        # A thread may have many before this one.
        release = self._hold(body)
        return in_thread(lambda: gzipped(body)).addCallback(done).addBoth(release)

    def room_for(self, body: bytes) -> bool:
        """Tell whether one more may be held until it is taken."""
        return id(body) in self._held or self._total + len(body) <= _MOST

    def send(self, request: Any, body: bytes) -> None:
        """Send a body whole; the head has been set."""
        if len(body) <= _PIECE:
            request.write(body)
            request.finish()
            return
        request.notifyFinish().addBoth(self._hold(body))
        sending = _Sending(request, body)
        request.registerProducer(sending, True)
        sending.resumeProducing()

    def _hold(self, body: bytes) -> Callable[[T], T]:
        """Count a body until what is returned is called, which hands on what it is given."""
        key = id(body)
        if not self._held.get(key):
            self._total += len(body)
        self._held[key] = self._held.get(key, 0) + 1

        def over(result: T) -> T:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
                self._total -= len(body)
            return result

        return over


@implementer(IPushProducer)
class _Sending:
    """One body on its way to one client."""

    def __init__(self, request: Any, body: bytes) -> None:
        self._request = request
        self._body = body
        self._position = 0
        self._paused = True

    def pauseProducing(self) -> None:
        """The transport takes no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        if not self._paused:
            return
        self._paused = False
        while not self._paused and self._position < len(self._body):
            begin, self._position = self._position, self._position + _PIECE
            self._request.write(self._body[begin : begin + _PIECE])
        if self._position >= len(self._body) and self._request is not None:
            request, self._request = self._request, None
            request.unregisterProducer()
            request.finish()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self._paused = True
        self._position = len(self._body)
        self._request = None
