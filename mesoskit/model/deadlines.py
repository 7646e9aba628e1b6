"""One heap of deadlines for a whole state.

A state has no timers. It keeps moments at which it wants to be woken here, under
a key each; its service reads L{Deadlines.next} after every turn and keeps one
C{DelayedCall} for the earliest (L{mesoskit.cluster.turns}).
"""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush


class Deadlines:
    """
    Moments by key: setting a key again moves it, and a moved or dropped key costs
    nothing until it would have come up (entries are forgotten lazily; the heap is
    rebuilt when more than half of it is stale).
    """

    __slots__ = ("_count", "_heap", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._when: dict[Hashable, tuple[float, int]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many deadlines stand."""
        return len(self._when)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether a deadline stands under this key."""
        return key in self._when

    def set(self, key: Hashable, when: float) -> None:
        """Wake at C{when} (seconds on the state's clock) for C{key}, and at no other moment."""
        self._count = count = self._count + 1
        self._when[key] = (when, count)
        heappush(self._heap, (when, count, key))
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._when):
            self._heap = [(when, count, key) for key, (when, count) in self._when.items()]
            heapify(self._heap)

    def drop(self, key: Hashable) -> None:
        """Forget a key's deadline; no error if there is none."""
        self._when.pop(key, None)

    def when(self, key: Hashable) -> float | None:
        """Return the moment set under a key, or L{None}."""
        entry = self._when.get(key)
        return None if entry is None else entry[0]

    def next(self) -> float | None:
        """Return the earliest moment, or L{None} where none stands."""
        heap = self._heap
        while heap:
            when, count, key = heap[0]
            if self._when.get(key) == (when, count):
                return when
            heappop(heap)
        return None

    def due(self, now: float) -> Iterator[Hashable]:
        """Give, and forget, each key whose moment has come, earliest first."""
        while (when := self.next()) is not None and when <= now:
            key = heappop(self._heap)[2]
            del self._when[key]
            yield key
