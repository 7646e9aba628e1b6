"""What is kept of URIs that were fetched: files of one agent, up to a size, oldest use first out.

As Mesos' fetcher cache (C{docs/fetcher-cache-internals.md}): an entry for each user and URI,
never looked for again where it came from, and never removed while somebody reads it. It is empty
when an agent starts.
"""

import os
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

BLOCK: Final = 4096
"""An entry counts as so many bytes at least: it takes a block of the disk, and some memory."""

Key = tuple[int | None, str]
"""The number of the user as whom it was fetched, or L{None} for the agent's own; and the URI."""


class Entry:
    """
    What one URI led to.

    @ivar path: where it is.
    @ivar size: bytes that are set aside for it.
    @ivar ready: whether it is all there.
    @ivar readers: how many read it now, or are about to.
    @ivar waiting: who wants it as soon as it is there; each is given it, or L{None} where there
        is no room for it, or fails.
    """

    __slots__ = ("key", "path", "readers", "ready", "size", "waiting")

    def __init__(self, key: Key, path: str) -> None:
        self.key = key
        self.path = path
        self.size = 0
        self.ready = False
        self.readers = 0
        self.waiting: list[Deferred[Entry | None]] = []


class Cache:
    """
    The entries, and how much room they take.

    @ivar directory: where they are, if anything was ever kept.
    @ivar capacity: bytes that all of them may take together.
    @ivar used: bytes that are set aside.
    @ivar hits: how often something was found, on its way too; C{misses}: how often not.
    @ivar evictions: how many had to make room.
    """

    def __init__(
        self, directory: str, capacity: int, remove: Callable[[str], object] = os.unlink
    ) -> None:
        """@param remove: deletes a file, some time soon."""
        self.directory = directory
        self.capacity = capacity
        self.used = 0
        self.hits = self.misses = self.evictions = 0
        self._remove = remove
        self._entries: dict[Key, Entry] = {}  # in the order of their last use
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Entry | None:
        """Return an entry, ready or not, that is used now; L{None} where there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries[key] = entry
        return entry

    def begin(self, key: Key) -> Entry:
        """Make an entry that is still to be fetched."""
        self._count += 1
        entry = self._entries[key] = Entry(key, os.path.join(self.directory, str(self._count)))
        return entry

    def set_aside(self, entry: Entry, size: int) -> bool:
        """
        Make room for an entry of so many bytes, by removing those that were not used for longest;
        return whether there was enough of them.
        """
        wanted = max(size, BLOCK) - entry.size
        idle = [each for each in self._entries.values() if each.ready and not each.readers]
        if self.used + wanted > self.capacity + sum(each.size for each in idle):
            return False
        for each in idle:
            if self.used + wanted <= self.capacity:
                break
            self.evictions += 1
            self.drop(each)
        entry.size += wanted
        self.used += wanted
        return True

    def drop(self, entry: Entry) -> None:
        """Remove an entry that nobody reads."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self.used -= entry.size
            self._remove(entry.path)

    def release(self, entry: Entry) -> None:
        """Somebody has read it."""
        entry.readers -= 1
