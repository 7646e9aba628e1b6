"""What peers have begun to say and not finished, all of them together.

A frame may have 16 MiB, and each link may hold the beginning of one; a thousand links that
begin and never end would hold the memory of the machine. So there is a limit to all of them: who
holds most is cut off first.
"""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

SMALL: Final = 64 * 1024
"""Beginnings of no more bytes than this do not count: every link may have one."""

H = TypeVar("H", bound=Hashable)


class Unfinished(Generic[H]):
    """
    Counts the bytes of incomplete frames by who holds them.

    @param limit: how many there may be together.
    @param cut_off: is given who holds most, when there are more; he must be told of as gone.
    @ivar total: how many there are.
    """

    def __init__(self, limit: int, cut_off: Callable[[H, int], None]) -> None:
        self._limit = limit
        self._cut_off = cut_off
        self._held: dict[H, int] = {}
        self.total = 0

    def holds(self, who: H, count: int) -> None:
        """Somebody holds so many bytes now."""
        before = self._held.get(who, 0)
        if count > SMALL:
            self._held[who] = count
            self.total += count - before
            while self.total > self._limit and self._held:
                largest = max(self._held, key=self._held.__getitem__)
                most = self._held[largest]
                self.gone(largest)
                self._cut_off(largest, most)
        elif before:
            self.gone(who)

    def gone(self, who: H) -> None:
        """Somebody holds nothing any more."""
        self.total -= self._held.pop(who, 0)
