"""Isolators C{cgroups/cpu}, C{cgroups/mem} and their like: containers held by cgroups.

All of them are one isolator here, as in Mesos (C{src/slave/containerizer/mesos/isolators/cgroups}),
whose numbers these are: shares of 1024 a cpu, quotas counted in 100 ms, no less than 32 MB. With
C{--launcher=linux} it is there without any of them: a container's cgroup is by what it is killed.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from twisted.logger import Logger

from mesoskit.agent.container import UNLIMITED, Allotment, Limitation
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.cgroups import (
    CPU,
    CPUSET,
    DEVICES,
    ELSEWHERE,
    HUGETLB,
    IO,
    MEMORY,
    NET_CLS,
    NET_PRIO,
    PERF_EVENT,
    PIDS,
    CgroupError,
    Cgroups,
    Made,
)
from mesoskit.agent.containers.isolators import Figure, Isolated, Isolator, Preparation
from mesoskit.agent.containers.memory_watch import MemoryWatch, Pressure, Readers
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_cgroups import kill_all, pids_in
from mesoskit.model.ids import ContainerId
from mesoskit.model.sizes import format_size
from mesoskit.model.tasks import Reason

MIN_MEMORY: Final = 32 << 20
"""Bytes that every container gets."""

NAMES: Final = {
    "cgroups/blkio": IO,
    "cgroups/cpu": CPU,
    "cgroups/cpuset": CPUSET,
    "cgroups/devices": DEVICES,
    "cgroups/hugetlb": HUGETLB,
    "cgroups/mem": MEMORY,
    "cgroups/net_cls": NET_CLS,
    "cgroups/net_prio": NET_PRIO,
    "cgroups/perf_event": PERF_EVENT,
    "cgroups/pids": PIDS,
}
"""Names of isolators, and their controllers."""

DEVICES_OF_ALL: Final = (
    *("c *:* m", "b *:* m", "c 5:1 rwm", "c 4:0 rwm", "c 4:1 rwm", "c 136:* rwm", "c 5:2 rwm"),
    *("c 10:200 rwm", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:9 rwm"),
    "c 1:8 rwm",
)
"""
What every container may use: making devices, consoles and terminals, C{tun}, C{null}, C{zero},
C{full}, C{tty} and the two that are random.
"""

_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 1.0
_TIMES: Final = 60
"""How often it is tried again to hold a pod to something else, and the seconds in between."""


class CgroupsIsolator(Isolator):
    """
    Holds containers by cgroups.

    @ivar controllers: which.
    @ivar launcher: gives the pid of who starts containers, and must not be killed with them; 0
        for nobody.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Readers,
        cgroups: Cgroups,
        controllers: Collection[str],
        settings: IsolationSettings,
    ) -> None:
        super().__init__()
        self.controllers = tuple(sorted(controllers))
        self.launcher: Callable[[], int] = lambda: 0
        self._reactor = reactor
        self._cgroups = cgroups
        self._settings = settings
        self._watches: dict[ContainerId, MemoryWatch] = {}
        self._late: dict[ContainerId, Any] = {}
        self._pressure: dict[ContainerId, Pressure] = {}

    def prepare(self, container: Isolated) -> Preparation:
        """Make its groups, and set what they are to be held to."""
        try:
            made = self._make(container)
        except CgroupError as error:
            self.cleanup(container)
            raise ContainerError(str(error)) from error
        return Preparation(cgroups=made.join, kill=made.kill)

    def _make(self, container: Isolated) -> Made:
        name = group_of(container)
        if not _own_limits(container):
            return self._make_within(container, name)
        made = self._cgroups.make(name, self.controllers, container.pod)
        self._set(name, container.allotment)
        if PIDS in self.controllers:
            self._cgroups.most_pids(name, self._settings.cgroups_pids_limit)
        if DEVICES in self.controllers:
            allowed = (*DEVICES_OF_ALL, *self._settings.allowed_devices)
            self._cgroups.devices(name, allowed)
        return made

    def _make_within(self, container: Isolated, name: str) -> Made:
        """Make what it is killed by; its parent's limits hold it."""
        assert container.parent is not None
        own = self._cgroups.make(name, ())
        if self._cgroups.version == 2:
            return own
        above = self._cgroups.make(group_of(container.parent), self.controllers)
        limits = tuple(path for path in above.join if path != above.kill)
        return Made((*limits, own.kill), own.kill)

    def _set(self, name: str, given: Allotment) -> None:
        if CPU in self.controllers:
            self._cgroups.share(name, given.cpus)
            limit = given.cpus_limit
            if limit is None and self._settings.cgroups_enable_cfs:
                limit = given.cpus
            held = limit is not None and limit != UNLIMITED
            self._cgroups.quota(name, limit if held else None)
        if MEMORY in self.controllers:
            soft = max(MIN_MEMORY, given.mem)
            hard: int | None = soft
            if given.mem_limit == UNLIMITED:
                hard = None
            elif given.mem_limit is not None:
                hard = max(MIN_MEMORY, given.mem_limit)
            self._cgroups.memory(name, soft, hard, self._settings.cgroups_limit_swap)

    def isolated(self, container: Isolated) -> None:
        """Wait for it to be short of memory."""
        if MEMORY in self.controllers and _own_limits(container):
            self._watch(container)

    def _watch(self, container: Isolated) -> None:
        name = group_of(container)
        try:
            descriptor = self._cgroups.watch_memory(name)
        except CgroupError as error:
            self.log.warn("{container}: {why}", container=container.id, why=error)
            return

        self._watches[container.id] = MemoryWatch(
            self._reactor, descriptor, lambda: self._look(container)
        )
        try:
            self._pressure[container.id] = Pressure(self._cgroups.watch_pressure(name))
        except CgroupError as error:
            self.log.info("{container}: {why}", container=container.id, why=error)

    def _look(self, container: Isolated) -> bool:
        """See whether something was killed; if so, that is told."""
        limitation = self.limitation(container)
        if limitation is not None:
            self.limited(container.id, limitation)
        return limitation is not None

    def recover(self, container: Isolated) -> None:
        """Wait again, and see whether it was short of memory in the meantime."""
        self.isolated(container)
        self._look(container)

    def update(self, container: Isolated) -> None:
        """Hold it to what it is given now."""
        if not _own_limits(container):
            return
        self._forget_late(container)
        try:
            self._set(group_of(container), container.allotment)
        except CgroupError as error:
            if not container.pod:
                raise ContainerError(str(error)) from error
            self._later(container, _TIMES)

    def _later(self, container: Isolated, times: int) -> None:
        """
        Try again to hold a pod to what it is given: in version 1 it can have no quota below that
        of a task's group, and such a group is there for some while after it was removed.
        """

        def attempt() -> None:
            del self._late[container.id]
            try:
                self._set(group_of(container), container.allotment)
            except CgroupError as error:
                if times:
                    self._later(container, times - 1)
                else:
                    self.log.warn("{container}: {why}", container=container.id, why=error)

        pause = min(_LAST_PAUSE, _FIRST_PAUSE * 2 ** (_TIMES - times))
        self._late[container.id] = self._reactor.callLater(pause, attempt)

    def _forget_late(self, container: Isolated) -> None:
        late = self._late.pop(container.id, None)
        if late is not None:
            late.cancel()

    def usage(self, container: Isolated) -> Mapping[str, Figure]:
        """Return what its groups count, and what they hold it to."""
        if not _own_limits(container):
            return {}
        name = group_of(container)
        figures: dict[str, Figure] = {**self._cgroups.statistics(name)}
        pressure = self._pressure.get(container.id)
        if pressure is not None:
            for level, times in pressure.counts().items():
                figures[f"mem_{level}_pressure_counter"] = times
        if IO in self.controllers:
            counted = self._cgroups.io(name)
            if counted is not None:
                figures["blkio_statistics"] = counted
        return figures

    def limitation(self, container: Isolated) -> Limitation | None:
        """Say so where the kernel has killed for its limit, or for that of its pod."""
        if MEMORY not in self.controllers:
            return None
        if not _own_limits(container):
            return self._pods_limitation(container)
        name = group_of(container)
        try:
            if not self._cgroups.killed_for_memory(name, container.pod):
                return None
            if container.pod and not self._cgroups.was_full(name):
                return None  # a task has had enough of its own
            whole = None
            if container.member and not self._cgroups.was_full(name):
                whole = self._pods_limitation(container)
            return whole or self._exceeded(name)
        except CgroupError:
            return None

    def _pods_limitation(self, container: Isolated) -> Limitation | None:
        """Say so where the pod that a task is in has taken too much: all of it ends then."""
        if not container.member or container.parent is None:
            return None
        found = self.limitation(container.parent)
        if found is not None:
            self.limited(container.parent.id, found)
        return found

    def _exceeded(self, name: str) -> Limitation:
        limit = self._cgroups.memory_limit(name)
        peak = self._cgroups.memory_peak(name)
        text = self._cgroups.memory_text(name)
        requested = format_size(limit) if limit is not None else "unlimited"
        message = (
            f"Memory limit exceeded: Requested: {requested} Maximum Used: {format_size(peak)}\n"
            f"\nMEMORY STATISTICS: \n{text}\n"
        )
        megabytes = peak / (1 << 20)
        return Limitation(Reason.REASON_CONTAINER_LIMITATION_MEMORY, message, (("mem", megabytes),))

    def cleanup(self, container: Isolated) -> bool:
        """Remove its groups; what is left in them is killed."""
        watch = self._watches.pop(container.id, None)
        if watch is not None:
            watch.stop()
        pressure = self._pressure.pop(container.id, None)
        if pressure is not None:
            pressure.stop()
        self._forget_late(container)
        name = group_of(container)
        if self._cgroups.remove(name):
            return True
        self._kill(name)
        return self._cgroups.remove(name)

    def _kill(self, name: str) -> None:
        try:
            kill = self._cgroups.make(name, ()).kill
        except CgroupError:
            return
        if pids_in(kill):
            kill_all(kill, self.launcher())

    def stop(self) -> None:
        """Wait for nothing any more."""
        for watch in self._watches.values():
            watch.stop()
        for pressure in self._pressure.values():
            pressure.stop()
        for late in self._late.values():
            late.cancel()
        self._watches.clear()
        self._pressure.clear()
        self._late.clear()


def group_of(container: Isolated) -> str:
    """Return the name of a container's group."""
    if container.parent is None:
        return str(container.id)
    return f"{group_of(container.parent)}/mesos/{container.id}"


def _own_limits(container: Isolated) -> bool:
    """Whether it has limits of its own, and not its parent's (C{LinuxInfo.share_cgroups})."""
    if container.parent is None:
        return True
    linux = container.container_info.linux_info
    # Nobody asks for that in the name of a task: it has what it was given.
    return not linux.share_cgroups or (container.member and not linux.HasField("share_cgroups"))


def controllers_of(names: Collection[str], cgroups: Cgroups) -> frozenset[str]:
    """
    Return what isolators want of cgroups. Raises L{CgroupError} where that is not there.

    @param names: of C{--isolation}; C{cgroups/all} is all that there is.
    """
    wanted = {NAMES[name] for name in names if name in NAMES}
    if "cgroups/all" in names:
        wanted |= cgroups.controllers
    missing = sorted(wanted - cgroups.controllers)
    if missing:
        if cgroups.version == 2 and missing[0] in ELSEWHERE:
            raise CgroupError(f"cgroups of version 2 have no {missing[0]}: {ELSEWHERE[missing[0]]}")
        there = ", ".join(sorted(cgroups.controllers)) or "none"
        raise CgroupError(
            f"this machine has no cgroups of {missing[0]} in version {cgroups.version}:"
            f" there are {there} (a controller that the kernel has, see /proc/cgroups, has to be"
            " mounted below --cgroups_hierarchy)"
        )
    return frozenset(wanted)
