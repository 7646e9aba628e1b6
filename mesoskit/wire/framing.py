"""Frames: a length and as many bytes, whatever pieces they arrive in.

A frame is four bytes of length, most significant first, and the payload. The first
byte is always 0: that is how one port tells the native stream from HTTP and TLS, and
why a payload is shorter than 16 MiB. Nothing here touches a transport.
"""

from collections.abc import Iterator
from typing import Final

#: The longest payload that four bytes beginning with a zero can announce.
LONGEST: Final = 0xFFFFFF

_HEADER: Final = 4


class FrameError(ValueError):
    """What came is no frame, or may not be one; the stream cannot be followed any further."""


class NotFramed(FrameError):
    """The first byte of a frame is not 0: the peer speaks something else."""

    def __init__(self, found: bytes) -> None:
        super().__init__(
            f"a frame begins with a zero byte, this one with {found.hex(' ')}:"
            " the peer does not speak the native stream"
        )


class FrameTooLong(FrameError):
    """
    A frame is longer than is taken here.

    @ivar length: of the payload, in bytes.
    @ivar limit: that it exceeds.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes is over the limit of {limit}")
        self.length = length
        self.limit = limit


def encode(payload: bytes, limit: int = LONGEST) -> bytes:
    """Return the frame that carries C{payload}; raises L{FrameTooLong} over C{limit}."""
    length = len(payload)
    if length > limit:
        raise FrameTooLong(length, limit)
    return length.to_bytes(_HEADER, "big") + payload


class Decoder:
    """
    Cuts a stream of bytes into payloads, in time that grows with the bytes alone.

    It holds at most one frame that is not complete, and no more of it than has come:
    an announced length reserves nothing.

    @ivar limit: the longest payload taken, in bytes; may be changed between frames.
    @ivar error: why the stream cannot be followed any further; from then on what is
        fed is thrown away.
    """

    __slots__ = ("_need", "_partial", "error", "limit")

    def __init__(self, limit: int = LONGEST) -> None:
        self.limit = limit
        self.error: FrameError | None = None
        # The beginning of a frame, header included, and the size it must grow to.
        self._partial: bytearray | None = None
        self._need = _HEADER

    @property
    def buffered(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return 0 if self._partial is None else len(self._partial)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Take what has come, and yield each payload that it completes.

        The iterator must be run to its end unless the stream is given up; between two
        payloads C{limit} may be changed. Where it ends look at C{error}.
        """
        if self.error is not None:
            return
        offset = 0
        size = len(data)
        partial = self._partial
        while partial is not None:
            missing = self._need - len(partial)
            if size - offset < missing:
                partial += data[offset:]
                return
            partial += data[offset : offset + missing]
            offset += missing
            if self._need == _HEADER:
                length = int.from_bytes(partial, "big")
                if not self._fits(partial, length):
                    return
                self._need = _HEADER + length
                if length:
                    continue
            payload = bytes(memoryview(partial)[_HEADER:])
            self._partial = partial = None
            self._need = _HEADER
            yield payload
        while offset < size:
            begin = offset + _HEADER
            if begin > size:
                break
            length = int.from_bytes(data[offset:begin], "big")
            if length > self.limit and not self._fits(data[offset:begin], length):
                return
            end = begin + length
            if end > size:
                self._need = _HEADER + length
                break
            offset = end
            yield data[begin:end]
        if offset < size:
            self._partial = bytearray(memoryview(data)[offset:])

    def _fits(self, header: bytes | bytearray, length: int) -> bool:
        if length <= self.limit:
            return True
        self._partial = None
        if header[0]:
            self.error = NotFramed(bytes(header))
        else:
            self.error = FrameTooLong(length, self.limit)
        return False
