"""What happened to a task, agent, framework or offer, in order.

Every transition is one tuple in a bounded deque: the moment, what happened, and the ids
it happened to. Nothing is worked out until somebody asks.
"""

from collections import deque
from typing import Any

Entry = tuple[Any, ...]
"""The moment (seconds), what happened (a word or a TaskState number), then ids and texts."""


class Past:
    """
    The last transitions of a master.

    @param length: how many are kept.
    """

    __slots__ = ("add", "entries")

    def __init__(self, length: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=length)
        self.add = self.entries.append

    def story(self, *ids: str) -> list[Entry]:
        """Return the entries that name any of these ids, oldest first."""
        wanted = frozenset(ids)
        return [entry for entry in self.entries if not wanted.isdisjoint(entry[2:])]
