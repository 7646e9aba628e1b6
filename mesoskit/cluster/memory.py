"""A store in memory: for C{--registry=in_memory}, for embedding and for tests."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed

from mesoskit.cluster.store import Change


class MemoryStore:
    """
    An L{mesoskit.cluster.store.IStore} that answers at once and forgets with the process.

    @ivar entries: what it holds; a test may read it, and give it to a second store
        to play a restart.
    """

    def __init__(self, entries: dict[str, bytes] | None = None) -> None:
        self.entries: dict[str, bytes] = {} if entries is None else entries

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Return a copy of what is held."""
        return succeed(dict(self.entries))

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Change it."""
        for key, value in changes:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        return succeed(None)

    def close(self) -> "Deferred[None]":
        """Do nothing."""
        return succeed(None)
