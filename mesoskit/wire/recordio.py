"""RecordIO, the framing of Mesos' streaming HTTP answers: bytes in, records out, no transport.

A record is its length in decimal digits, a newline, and so many bytes
(C{docs/recordio.md} of Apache Mesos). It has nothing to do with the chunks that it
travels in, though Mesos sends one record a chunk and some clients count on it.
"""

from collections.abc import Iterator
from typing import Final

#: The longest record taken unless something else is said, in bytes.
LONGEST: Final = 16 * 1024 * 1024

# Of a length, in digits: enough for a terabyte.
_DIGITS: Final = 13


class RecordError(ValueError):
    """What came is not RecordIO, or not within the limit; the message says which."""


def encode(record: bytes) -> bytes:
    """Return the record with its length before it."""
    return b"%d\n%b" % (len(record), record)


class Decoder:
    """
    Cuts a stream of bytes into records, in time that grows with the bytes alone.

    It holds at most one record that is not complete.

    @ivar limit: the longest record taken, in bytes.
    @ivar error: why the stream cannot be followed any further; from then on what is fed
        is thrown away.
    """

    __slots__ = ("_held", "_need", "error", "limit")

    def __init__(self, limit: int = LONGEST) -> None:
        self.limit = limit
        self.error: RecordError | None = None
        # What is not delivered yet: digits of a length where _need is None, else a record's.
        self._held = bytearray()
        self._need: int | None = None

    @property
    def buffered(self) -> int:
        """How many bytes of an incomplete record are held."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Take what has come, and yield each record that it completes.

        The iterator must be run to its end unless the stream is given up. Where it ends
        look at C{error}.
        """
        position = 0
        while self.error is None:
            need = self._need
            if need is None:
                newline = data.find(b"\n", position, position + _DIGITS + 1)
                piece = data[position:] if newline < 0 else data[position:newline]
                self._held += piece[: _DIGITS + 1]
                if newline < 0 and len(self._held) <= _DIGITS and self._held.isdigit():
                    return
                if newline < 0 and not self._held:
                    return
                self._need = self._length()
                position = newline + 1
            else:
                piece = data[position : position + need - len(self._held)]
                position += len(piece)
                if len(self._held) + len(piece) < need:
                    self._held += piece
                    return
                record = bytes(self._held) + piece if self._held else piece
                self._held.clear()
                self._need = None
                yield record

    def _length(self) -> int | None:
        digits = bytes(self._held)
        self._held.clear()
        if not digits.isdigit() or len(digits) > _DIGITS:
            self.error = RecordError(f"expected the length of a record, got {digits[:20]!r}")
            return None
        length = int(digits)
        if length > self.limit:
            self.error = RecordError(
                f"a record of {length} bytes is over the limit of {self.limit}"
            )
            return None
        return length
