"""Isolator C{cgroups/perf_event}: what processors and the kernel do for containers, now and then.

As in Mesos (C{src/slave/containerizer/mesos/isolators/cgroups/subsystems/perf_event.cpp}): each
interval all containers are counted for a while, and the last result is shown. Without
C{--perf_events} containers have groups of that controller, for others to use.
"""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mesoskit.agent.containers import perf_events
from mesoskit.agent.containers.cgroups import PERF_EVENT, CgroupError, Cgroups
from mesoskit.agent.containers.isolator_cgroups import group_of
from mesoskit.agent.containers.isolators import Figure, Isolated, Isolator
from mesoskit.agent.containers.perf_events import Counter, PerfError
from mesoskit.agent.users import InThread
from mesoskit.messages.mesos_pb2 import PerfStatistics
from mesoskit.model.ids import ContainerId

MOST_COUNTERS: Final = 2048
"""
Descriptors that are open at once: an event takes one for each container and processor. Where more
are wanted, containers are counted some after the others.
"""


class PerfIsolator(Isolator):
    """Counts what containers do."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        in_thread: InThread,
        cgroups: Cgroups,
        events: Collection[str],
        interval: float,
        duration: float,
    ) -> None:
        """
        @param reactor: an L{IReactorTime}, whose clock says how long was counted.
        @param events: what is counted (L{perf_events.EVENTS}).
        @param interval: seconds from one count to the next; C{duration}: how many one takes.
        """
        super().__init__()
        self._reactor: IReactorTime = reactor
        self._in_thread = in_thread
        self._cgroups = cgroups
        self._events = tuple(events)
        self._interval = interval
        self._duration = duration
        self._watched: dict[ContainerId, Isolated] = {}
        self._found: dict[ContainerId, PerfStatistics] = {}
        self._call: Any = None
        self._counting: Deferred[None] | None = None
        self._stopped = False

    def isolated(self, container: Isolated) -> None:
        """Count it from now on; what is nested in it is counted with it."""
        if container.parent is not None:
            return
        self._watched[container.id] = container
        if self._call is None and self._counting is None:
            self._call = self._reactor.callLater(0, self._count)

    def recover(self, container: Isolated) -> None:
        """Likewise."""
        self.isolated(container)

    def usage(self, container: Isolated) -> Mapping[str, Figure]:
        """Return what was counted last."""
        found = self._found.get(container.id)
        return {} if found is None else {"perf": found}

    def cleanup(self, container: Isolated) -> bool:
        """Count it no more."""
        self._watched.pop(container.id, None)
        self._found.pop(container.id, None)
        return True

    def stop(self) -> None:
        """Count nothing any more."""
        self._stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._counting is not None:
            self._counting.cancel()

    def _count(self) -> None:
        self._call = None
        began = self._reactor.seconds()
        counting = Deferred.fromCoroutine(self._count_all())
        self._counting = counting

        def over(result: Any) -> None:
            self._counting = None
            if self._stopped:
                return
            if result is not None:
                self.log.warn("cgroups/perf_event: {why}", why=result.getErrorMessage())
            if self._watched:
                pause = max(0.0, began + self._interval - self._reactor.seconds())
                self._call = self._reactor.callLater(pause, self._count)

        counting.addBoth(over)

    async def _count_all(self) -> None:
        cpus = perf_events.processors()
        at_once = max(1, MOST_COUNTERS // (len(cpus) * len(self._events)))
        waiting = list(self._watched.values())
        while waiting and not self._stopped:
            await self._count_some(waiting[:at_once], cpus)
            del waiting[:at_once]

    async def _count_some(self, containers: list[Isolated], cpus: list[int]) -> None:
        counters: dict[ContainerId, list[Counter]] = {}
        started = self._reactor.seconds()
        try:
            for container in containers:
                try:
                    group = self._cgroups.directory(group_of(container), PERF_EVENT)
                    counters[container.id] = await self._in_thread(
                        partial(perf_events.begin, self._events, group, cpus)
                    )
                except (PerfError, CgroupError) as error:
                    if container.id in self._watched:  # else it has ended in between
                        self.log.info("{container}: {why}", container=container.id, why=error)
            await deferLater(self._reactor, self._duration)
            duration = self._reactor.seconds() - started
            for name, of in counters.items():
                if name in self._watched:
                    counted = perf_events.read(of)
                    self._found[name] = perf_events.statistics(counted, started, duration)
        finally:
            for of in counters.values():
                perf_events.close(of)
