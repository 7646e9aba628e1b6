"""When sandboxes go: after a week, or earlier where the disk fills up.

Mesos' rule (C{src/slave/gc.cpp}, C{Slave::age} in C{src/slave/slave.cpp}): what may stay
shrinks with the free room, from C{gc_delay} down to nothing when only the headroom is
free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import history
from mesoskit.agent.container import DiskRead, Remove, Removed, SandboxesFound
from mesoskit.agent.frameworks import Executor
from mesoskit.model.deadlines import Deadlines

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


class Sandboxes:
    """
    The sandboxes that nobody uses any more, each with the moment of its removal.

    @ivar going: those that are being removed.
    @ivar succeeded: how many were removed; C{failed}: how many could not be.
    @ivar allowed_age: seconds that a sandbox may stay as the disk is now.
    """

    __slots__ = ("_due", "allowed_age", "failed", "going", "succeeded")

    def __init__(self) -> None:
        self._due = Deadlines()
        self.going: set[str] = set()
        self.succeeded = 0
        self.failed = 0
        self.allowed_age: float | None = None

    def __len__(self) -> int:
        """Return how many sandboxes wait or are being removed."""
        return len(self._due) + len(self.going)

    def __contains__(self, path: str) -> bool:
        """Tell whether a sandbox waits to be removed."""
        return path in self._due

    def schedule(self, path: str, when: float) -> None:
        """Remove a sandbox at a moment."""
        self._due.set(path, when)

    def drop(self, path: str) -> None:
        """Remove it no more: somebody else does."""
        self._due.drop(path)

    def next(self) -> float | None:
        """Return when the next one is due."""
        return self._due.next()

    def take(self, until: float) -> list[str]:
        """Give those that are due by a moment; they are then being removed."""
        paths = [str(path) for path in self._due.due(until)]
        self.going.update(paths)
        return paths


def schedule(state: AgentState, executor: Executor) -> None:
    """An executor's container is gone: its sandbox (and all within) waits from now on."""
    state.sandboxes.schedule(executor.directory, state.now + state.options.gc_delay)


def found(state: AgentState, event: SandboxesFound) -> None:
    """At start: sandboxes of before that nobody uses wait since their last change."""
    used = {
        executor.directory
        for framework in state.frameworks.values()
        for executor in framework.executors.values()
    }
    for path, changed in event.sandboxes:
        if path not in used and path not in state.sandboxes:
            when = max(state.now, changed + state.options.gc_delay)
            state.sandboxes.schedule(path, when)


def due(state: AgentState) -> None:
    """Remove what has waited long enough."""
    _remove(state, state.now)


def disk_read(state: AgentState, event: DiskRead) -> None:
    """Remove earlier what a fuller disk leaves no room for."""
    options = state.options
    room = max(0.0, 1.0 - options.gc_disk_headroom - event.used)
    age = options.gc_delay * room
    state.sandboxes.allowed_age = age
    _remove(state, state.now + options.gc_delay - age)


def removed(state: AgentState, event: Removed) -> None:
    """A sandbox is gone, or could not be removed."""
    state.sandboxes.going.discard(event.path)
    if event.why:
        state.sandboxes.failed += 1
        state.note("warn", f"Could not remove {event.path}: {event.why}")
    else:
        state.sandboxes.succeeded += 1
        history.sandbox_removed(state, event.path)


def _remove(state: AgentState, until: float) -> None:
    for path in state.sandboxes.take(until):
        state.out.append(Remove(path))
