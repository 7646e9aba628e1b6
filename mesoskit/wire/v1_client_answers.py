"""The answers of an HTTP/1.1 server, cut out of what comes over one connection: no transport.

Twisted's own client has one request under way on a connection and parses answers in modules that
are private to it. The calls of a framework follow each other without waiting for answers (as
those of Mesos' own C++ library do), so their answers are parsed here (RFC 9112).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

#: The longest head of an answer, and the longest trailer, in bytes.
LONGEST_HEAD: Final = 32 * 1024

# The longest line that says how long a chunk is, in bytes, and the longest length, in digits.
_LONGEST_LINE: Final = 1024
_HEX_DIGITS: Final = 12
_DIGITS: Final = 15


class AnswerError(ValueError):
    """What came is no HTTP/1.1 answer, or one that cannot be followed; the message says why."""


@dataclass(slots=True, frozen=True)
class Head:
    """
    How an answer begins.

    @ivar headers: by name in lower case; of several with one name the last.
    @ivar length: how many bytes follow; L{None} where chunks tell, or the end of the connection.
    @ivar chunked: whether chunks tell.
    @ivar closes: whether the server answers nothing after this.
    """

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunked: bool
    closes: bool


class Reader(Protocol):
    """Who is told of answers, one after the other. Each method may stop the decoder."""

    def began(self, head: Head) -> None:
        """An answer begins; those of status 1xx are not told."""
        ...

    def more(self, data: bytes) -> None:
        """A piece of its body."""
        ...

    def ended(self) -> None:
        """It is complete."""
        ...


class Decoder:
    """
    Cuts bytes into answers, in time that grows with the bytes alone.

    It holds no more than an incomplete head or line.

    @ivar error: why what comes cannot be followed any further; the rest is thrown away then.
    """

    def __init__(self, reader: Reader) -> None:
        self.error: AnswerError | None = None
        self._reader = reader
        self._held = b""
        self._left = 0
        self._until_the_end = False
        self._stopped = False
        self._step: Callable[[bytes, int], int] = self._head
        # Heads of answers to calls are the same again and again.
        self._last = b""
        self._last_head: Head | None = None

    def feed(self, data: bytes) -> None:
        """Take what has come, and tell the reader; look at C{error} afterwards."""
        if self._stopped:
            return
        if self._held:
            data = self._held + data
            self._held = b""
        position, end = 0, len(data)
        try:
            while position < end and not self._stopped:
                ahead = self._step(data, position)
                if ahead < 0:
                    self._held = data[position:]
                    return
                position = ahead
        except AnswerError as error:
            self.error = error
            self.stop()

    def closed(self) -> None:
        """The server has closed: tell the reader where that is the end of an answer."""
        if self._until_the_end and not self._stopped:
            self._complete()

    def stop(self) -> None:
        """Tell nothing more."""
        self._stopped = True
        self._held = b""

    # The steps; each returns where it has come to, or -1 where more must come first.

    def _head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position, position + LONGEST_HEAD)
        if end < 0:
            if len(data) - position >= LONGEST_HEAD:
                raise AnswerError(f"the head of an answer is longer than {LONGEST_HEAD} bytes")
            # One that begins like nothing known shall not be waited for.
            if not data.startswith(b"HTTP/1."[: len(data) - position], position):
                raise AnswerError(f"expected an HTTP/1.1 answer, got {data[position:][:20]!r}")
            return -1
        raw = data[position:end]
        head = self._last_head
        if head is None or raw != self._last:
            head = parse_head(raw)
            self._last, self._last_head = raw, head
        position = end + 4
        if 100 <= head.status < 200:
            return position
        self._reader.began(head)
        if head.chunked:
            self._step = self._size
        elif head.length == 0:
            self._complete()
        elif head.length is None:
            self._until_the_end = True
            self._step = self._rest
        else:
            self._left = head.length
            self._step = self._content
        return position

    def _content(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        self._left -= len(piece)
        self._reader.more(piece)
        if not self._left:
            self._complete()
        return position + len(piece)

    def _rest(self, data: bytes, position: int) -> int:
        self._reader.more(data[position:])
        return len(data)

    def _size(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n", position, position + _LONGEST_LINE)
        if end < 0:
            if len(data) - position >= _LONGEST_LINE:
                raise AnswerError("the line with a chunk's length is too long")
            return -1
        digits = data[position:end].partition(b";")[0].strip(b" \t")
        if not digits or len(digits) > _HEX_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
            raise AnswerError(f"expected the length of a chunk, got {digits[:20]!r}")
        self._left = int(digits, 16)
        self._step = self._chunk if self._left else self._trailer
        return end + 2

    def _chunk(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        self._left -= len(piece)
        self._reader.more(piece)
        if not self._left:
            self._step = self._chunk_end
        return position + len(piece)

    def _chunk_end(self, data: bytes, position: int) -> int:
        if len(data) - position < 2:
            return -1
        if data[position : position + 2] != b"\r\n":
            raise AnswerError("a chunk is longer than it said")
        self._step = self._size
        return position + 2

    def _trailer(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self._complete()
            return position + 2
        end = data.find(b"\r\n\r\n", position, position + LONGEST_HEAD)
        if end < 0:
            if len(data) - position >= LONGEST_HEAD:
                raise AnswerError(f"a trailer is longer than {LONGEST_HEAD} bytes")
            return -1
        self._complete()
        return end + 4

    def _complete(self) -> None:
        self._step = self._head
        self._until_the_end = False
        self._reader.ended()


def parse_head(raw: bytes) -> Head:
    """Return the head of an answer from its lines, the empty one left out."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
        raise AnswerError(f"expected an HTTP/1.1 answer, got {first[:40]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise AnswerError(f"expected a header, got {line[:40]!r}")
        key, value = name.lower(), value.strip(" \t")
        if key in ("content-length", "transfer-encoding") and headers.get(key, value) != value:
            raise AnswerError(f"{name} is there twice, and says two things")
        headers[key] = value
    return _framed(int(status), headers, version == "HTTP/1.1")


def _framed(status: int, headers: dict[str, str], persistent: bool) -> Head:
    connection = headers.get("connection", "").lower()
    closes = "close" in connection or not (persistent or "keep-alive" in connection)
    if status < 200 or status in (204, 304):
        return Head(status, headers, 0, False, closes)
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise AnswerError(f"Transfer-Encoding is {coding[:40]!r}; only chunked is known")
        return Head(status, headers, None, True, closes)
    length = headers.get("content-length")
    if length is None:
        return Head(status, headers, None, False, True)
    if not (length.isascii() and length.isdigit()) or len(length) > _DIGITS:
        raise AnswerError(f"Content-Length is {length[:40]!r}, which is no length")
    return Head(status, headers, int(length), False, closes)
