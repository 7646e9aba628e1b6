"""How long the allocator and the registry take: C{allocator/mesos/*_ms} and C{registrar/*}.

Neither of the two has a clock of its own; these stand before them and look at one.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mesoskit.allocator.interface import Allocation, IAllocator
from mesoskit.cluster.store import Change, IStore
from mesoskit.web.timer import Timer


class TimedAllocator:
    """
    An allocator whose passes are timed; all its other verbs are its own.

    @param inner: provides L{IAllocator}.
    @param seconds: the clock.
    """

    def __init__(self, inner: IAllocator, seconds: Callable[[], float]) -> None:
        self._inner = inner
        self._seconds = seconds
        self._runs = Timer("allocator/mesos/allocation_run_ms", seconds)
        self._latency = Timer("allocator/mesos/allocation_run_latency_ms", seconds)
        # Each once, so that they cost no more than those of the allocator itself.
        for name in IAllocator.names():
            if name not in ("allocate", "metrics"):
                setattr(self, name, getattr(inner, name))

    def __getattr__(self, name: str) -> Any:
        """Return what else the allocator has, beyond its interface."""
        return getattr(self._inner, name)

    def allocate(self, now: float) -> list[Allocation]:
        """Let it decide, and look at the clock before and after."""
        due = self._inner.deadline()
        begun = self._seconds()
        decided = self._inner.allocate(now)
        self._runs.add(max(0.0, self._seconds() - begun))
        # How long the first change of the pass has waited for it, where the allocator knows.
        waited = getattr(self._inner, "latency", None)
        if waited is None:
            waited = 0.0 if due is None else now - due
        self._latency.add(max(0.0, waited))
        return decided

    def metrics(self) -> dict[str, float]:
        """Return its own metrics, and the times."""
        return {**self._inner.metrics(), **self._runs.metrics(), **self._latency.metrics()}


def timed_allocator(inner: IAllocator, seconds: Callable[[], float]) -> IAllocator:
    """Return an allocator whose passes are timed."""
    return cast(IAllocator, TimedAllocator(inner, seconds))


class TimedStore:
    """
    A store whose answers are timed, and its contents counted.

    @param inner: the store.
    @param seconds: the clock.
    """

    def __init__(self, inner: IStore, seconds: Callable[[], float]) -> None:
        self._inner = inner
        self._seconds = seconds
        self._stores = Timer("registrar/state_store_ms", seconds)
        self._fetched: float | None = None
        self._sizes: dict[str, int] = {}
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        """Return what else the store has, beyond its interface."""
        return getattr(self._inner, name)

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Read everything."""
        begun = self._seconds()

        def loaded(snapshot: dict[str, bytes]) -> dict[str, bytes]:
            self._fetched = (self._seconds() - begun) * 1000
            self._sizes = {key: len(key) + len(value) for key, value in snapshot.items()}
            self._size = sum(self._sizes.values())
            return snapshot

        return self._inner.load().addCallback(loaded)

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Write a group of changes."""
        begun = self._seconds()

        def applied(result: "Failure | None") -> "Failure | None":
            self._stores.add(max(0.0, self._seconds() - begun))
            if not isinstance(result, Failure):
                self._count(changes)
            return result

        return self._inner.apply(changes).addBoth(applied)

    def close(self) -> "Deferred[None]":
        """Let go of it."""
        return self._inner.close()

    def metrics(self) -> dict[str, float]:
        """Return how long it takes, and how much it holds."""
        shown = {"registrar/registry_size_bytes": float(self._size), **self._stores.metrics()}
        if self._fetched is not None:
            shown["registrar/state_fetch_ms"] = self._fetched
        return shown

    def _count(self, changes: Sequence[Change]) -> None:
        sizes = self._sizes
        for key, value in changes:
            self._size -= sizes.pop(key, 0)
            if value is not None:
                sizes[key] = len(key) + len(value)
                self._size += sizes[key]
