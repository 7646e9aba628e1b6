"""Waiting until the kernel kills in a container that is short of memory; counting how often it was.

The kernel tells of a shortage (an eventfd(2) in cgroups of version 1, inotify(7) in version 2). In
version 1 it tells so before it kills, and what it is about to kill may have to wait for its share
of the CPU before it is gone and counted: so it is looked again, for a while. What was killed before
anybody waited is told by nobody: so it is looked once in any case.
"""

import os
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final, Protocol

_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 1.0
_PATIENCE: Final = 120.0
"""Seconds after the last shortage in which it is looked again."""


class Readers(Protocol):
    """What is asked of a reactor."""

    def seconds(self) -> float:
        """Return the time."""
        ...

    def callLater(self, delay: float, callable: Any, *args: object) -> Any:  # noqa: A002
        """Call later."""
        ...

    def addReader(self, reader: Any) -> Any:
        """Wait for something to read."""
        ...

    def removeReader(self, reader: Any) -> Any:
        """Wait no more."""
        ...


class MemoryWatch:
    """Looks after one container, from a shortage on."""

    def __init__(self, reactor: Readers, descriptor: int, over: Callable[[], bool]) -> None:
        """
        @param descriptor: can be read from when there is a shortage; it is closed in the end.
        @param over: looks whether something was killed, and says whether that is all there is
            to do.
        """
        self._reactor = reactor
        self._descriptor = descriptor
        self._over = over
        self._until = 0.0
        self._call: Any = reactor.callLater(_FIRST_PAUSE, self._look, _FIRST_PAUSE)
        reactor.addReader(self)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._reactor.removeReader(self)
        os.close(self._descriptor)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self, pause: float) -> None:
        self._call = None
        if not self._over() and self._reactor.seconds() < self._until:
            following = min(_LAST_PAUSE, pause * 2)
            self._call = self._reactor.callLater(pause, self._look, following)

    # What a reactor asks of what can be read from

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return a name."""
        return "cgroups/mem"

    def doRead(self) -> None:
        """There is a shortage."""
        try:
            os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        self._until = self._reactor.seconds() + _PATIENCE
        # Shortages may come one upon the other: it is looked soon, and not for each of them.
        if self._call is None or self._call.getTime() > self._reactor.seconds() + _FIRST_PAUSE:
            if self._call is not None:
                self._call.cancel()
            self._call = self._reactor.callLater(_FIRST_PAUSE, self._look, _FIRST_PAUSE)

    def connectionLost(self, reason: Any) -> None:
        """Nothing: it is closed by whoever stops it."""


class Pressure:
    """
    How often memory was scarce in a container, by the level.

    The kernel counts. What is read is read in a thread, and may be asked for when it is over.
    """

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        """@param descriptors: of eventfd(2), by the names of levels; closed in the end."""
        self._lock = Lock()
        self._descriptors = dict(descriptors)
        self._counts = dict.fromkeys(descriptors, 0)

    def counts(self) -> dict[str, int]:
        """Return how often it was so since the beginning."""
        with self._lock:
            for level, descriptor in self._descriptors.items():
                try:
                    self._counts[level] += os.eventfd_read(descriptor)
                except BlockingIOError:
                    continue
            return dict(self._counts)

    def stop(self) -> None:
        """Count no more."""
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()
