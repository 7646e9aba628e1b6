"""What a link has been given to send and its transport has not been given yet."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from mesoskit.messages.stream_pb2 import Frame
from mesoskit.wire.counters import Counters
from mesoskit.wire.framing import encode

#: More than the fields of an item take besides its name, body and reason, in bytes.
ITEM_OVERHEAD: Final = 48


class Outbox:
    """
    Joins items into frames: the fewer frames, the fewer wakeups at the other end.

    @ivar queued: about how many bytes wait.
    """

    __slots__ = ("_add", "_batch", "_counters", "_filled", "_frame", "_limit", "_ready", "queued")

    def __init__(self, batch: int, limit: int, counters: Counters) -> None:
        """
        Begin empty.

        @param batch: a frame is closed when it would grow beyond so many bytes.
        @param limit: the longest frame that the peer takes.
        @param counters: where items are counted as frames are closed.
        """
        self._batch = min(batch, limit)
        self._limit = limit
        self._counters = counters
        self._frame: Frame | None = None
        # The open frame's items.add: looked up once a frame, not once an item.
        self._add: Callable[..., Any] | None = None
        self._filled = 0
        self._ready: deque[bytes] | None = None
        self.queued = 0

    def put(self, size: int, name: str, body: bytes, call: int) -> None:
        """Append a message; C{size} is not less than what the item takes, in bytes."""
        add = self._add
        if add is None or self._filled + size > self._batch:
            add = self._open()
        if call:
            add(name=name, body=body, call=call)
        else:
            add(name=name, body=body)
        self._filled += size
        self.queued += size

    def put_answer(self, answers: int, status: int, why: str) -> None:
        """Append the answer to a call; C{status} 0 where it was taken."""
        size = ITEM_OVERHEAD + 4 * len(why)
        add = self._add
        if add is None or self._filled + size > self._batch:
            add = self._open()
        if status:
            add(answers=answers, status=status, why=why)
        else:
            add(answers=answers)
        self._filled += size
        self.queued += size

    def pop(self) -> bytes | None:
        """Return the next frame, header and all; L{None} when there is none."""
        ready = self._ready
        if ready is None:
            if self._frame is None:
                return None
            data = self._close()
        else:
            data = ready.popleft()
            if not ready:
                self._ready = None
        self.queued -= len(data)
        return data

    def clear(self) -> None:
        """Throw away what waits."""
        self._frame = self._add = self._ready = None
        self._filled = self.queued = 0

    def _open(self) -> Callable[..., Any]:
        if self._frame is not None:
            data = self._close()
            if self._ready is None:
                self._ready = deque()
            self._ready.append(data)
        self._frame = Frame()
        self._add = add = self._frame.items.add
        return add

    def _close(self) -> bytes:
        frame = self._frame
        assert frame is not None
        data = encode(frame.SerializeToString(), self._limit)
        self._counters.items_out += len(frame.items)
        # Until now its size was an estimate.
        self.queued += len(data) - self._filled
        self._frame = self._add = None
        self._filled = 0
        return data
