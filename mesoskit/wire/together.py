"""What peers make a daemon hold, all of them together.

A frame may have 16 MiB, and each link may hold the beginning of one; twice as much may wait for a
peer that does not read. A thousand links that begin and never end, or never read, would hold the
memory of the machine. So there is a limit to all of them: who holds most is cut off first.
"""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

SMALL: Final = 64 * 1024
"""No more bytes than this do not count: everybody may hold so many."""

H = TypeVar("H", bound=Hashable)


class Together(Generic[H]):
    """
    Counts bytes by who holds them.

    @param cut_off: is given who holds most, and how many, when there are more; he holds nothing
        from then on.
    @ivar limit: how many there may be together.
    @ivar total: how many there are.
    """

    def __init__(self, limit: int, cut_off: Callable[[H, int], None]) -> None:
        self.limit = limit
        self._cut_off = cut_off
        self._held: dict[H, int] = {}
        self.total = 0

    def holds(self, who: H, count: int) -> None:
        """Somebody holds so many bytes now."""
        before = self._held.get(who, 0)
        if count > SMALL:
            self._held[who] = count
            self.total += count - before
            while self.total > self.limit and self._held:
                largest = max(self._held, key=self._held.__getitem__)
                most = self._held[largest]
                self.gone(largest)
                self._cut_off(largest, most)
        elif before:
            self.gone(who)

    def gone(self, who: H) -> None:
        """Somebody holds nothing any more."""
        self.total -= self._held.pop(who, 0)
