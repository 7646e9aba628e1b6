"""Many who wait for one thing, each with a Deferred of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Waiting(Generic[T]):
    """Those who wait; they are told once, and whoever waits later is told the next time."""

    def __init__(self) -> None:
        self._waiters: list[Deferred[T]] = []

    def wait(self, cancelled: Callable[[], object] | None = None) -> Deferred[T]:
        """
        Return a Deferred of one's own.

        @param cancelled: called when it is cancelled.
        """

        def forget(deferred: Deferred[T]) -> None:
            if deferred in self._waiters:
                self._waiters.remove(deferred)
            if cancelled is not None:
                cancelled()

        deferred: Deferred[T] = Deferred(forget)
        self._waiters.append(deferred)
        return deferred

    def fire(self, result: T) -> None:
        """Tell all that it has come."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(result)

    def fail(self, why: Callable[[], Exception]) -> None:
        """Tell all that it does not come; each gets an exception of its own."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.errback(why())
