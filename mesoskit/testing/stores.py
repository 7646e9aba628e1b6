"""A store that takes its time and fails when told: what a round trip to ZooKeeper can do."""

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed

from mesoskit.cluster.memory import MemoryStore
from mesoskit.cluster.store import Change, StoreError


class SlowStore:
    """
    A store round another one, that answers when the test says so.

    @ivar inner: what is really held.
    @ivar slow: where C{False}, it answers at once.
    @ivar broken: where not L{None}, every group that is tried fails with this text.
    """

    def __init__(self, inner: MemoryStore | None = None, *, slow: bool = True) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self.slow = slow
        self.broken: str | None = None
        self.refuses: set[str] = set()
        self._held: deque[tuple[tuple[Change, ...], Deferred[None]]] = deque()

    @property
    def held(self) -> list[tuple[Change, ...]]:
        """The groups that wait to be answered, oldest first."""
        return [changes for changes, _ in self._held]

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Answer at once, or fail where broken."""
        if self.broken is not None:
            return self._refuse_load(self.broken)
        return self.inner.load()

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Hold the group until L{release}, or answer at once where not slow."""
        answer: Deferred[None] = Deferred()
        self._held.append((tuple(changes), answer))
        if not self.slow:
            self.release()
        return answer

    def close(self) -> "Deferred[None]":
        """Answer what is held with failure."""
        while self._held:
            self._held.popleft()[1].errback(StoreError("closed"))
        return succeed(None)

    def release(self, count: int = 1) -> None:
        """Try, and answer, the oldest groups that are held."""
        for _ in range(count):
            changes, answer = self._held.popleft()
            refused = [key for key, _ in changes if key in self.refuses]
            if self.broken is not None:
                answer.errback(StoreError(self.broken))
            elif refused:
                answer.errback(StoreError(f"refused: {refused[0]}"))
            else:
                self.inner.apply(changes).chainDeferred(answer)

    @staticmethod
    def _refuse_load(why: str) -> "Deferred[dict[str, bytes]]":
        failed: Deferred[dict[str, bytes]] = Deferred()
        failed.errback(StoreError(why))
        return failed
