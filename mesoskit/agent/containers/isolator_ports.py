"""Isolator C{network/ports}: who listens on ports of the machine that were not given to him.

As in Mesos (C{src/slave/containerizer/mesos/isolators/network/ports.cpp}) this is looked at now and
then: which sockets listen, which processes have them, in whose cgroup these are. What is nested in
a container may listen on that one's ports. TCP alone is looked at. A container with a network of
its own listens on none of the machine's ports. Whoever listens between two looks is not seen.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from mesoskit.agent.container import Limitation
from mesoskit.agent.containers.cgroups import FREEZER, CgroupError, Cgroups
from mesoskit.agent.containers.isolator_cgroups import group_of
from mesoskit.agent.containers.isolators import Isolated
from mesoskit.agent.containers.looking import LookingIsolator
from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from mesoskit.model.values import Ranges, coalesced, ranges_contain, ranges_difference, ranges_text

TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENS: Final = "0A"
"""TCP_LISTEN."""


class PortsIsolator(LookingIsolator):
    """Looks on which ports containers listen."""

    name = "network/ports"

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        cgroups: Cgroups,
        interval: float,
        enforce: bool,
        isolated: Ranges | None = None,
    ) -> None:
        """
        @param interval: seconds between two looks.
        @param enforce: whether a container that listens elsewhere is ended; else that is logged.
        @param isolated: which ports are looked at; L{None}: all.
        """
        super().__init__(reactor, in_thread, interval)
        self._cgroups = cgroups
        self._enforce = enforce
        self._ports = isolated
        self._told: dict[ContainerId, Ranges] = {}

    def isolated(self, container: Isolated) -> None:
        """Look at it from now on, unless that is done with what it is nested in."""
        if container.parent is None:
            super().isolated(container)

    async def look(self) -> None:
        """Look at all in one go."""
        groups: dict[ContainerId, str] = {}
        for container in self.watched.values():
            try:
                groups[container.id] = self._cgroups.directory(group_of(container), FREEZER)
            except CgroupError:
                continue
        for name, ports in (await self.in_thread(partial(listening, groups))).items():
            watched = self.watched.get(name)
            if watched is not None and not self.stopped:
                self._judge(watched, ports)

    def _judge(self, container: Isolated, ports: Ranges) -> None:
        if self._ports is not None:
            ports = ranges_difference(ports, ranges_difference(ports, self._ports))
        if ranges_contain(container.allotment.ports, ports):
            return
        wrong = ranges_difference(ports, container.allotment.ports)
        if self._told.get(container.id) == wrong:
            return
        self._told[container.id] = wrong
        text = ranges_text(wrong)
        message = f"Container {container.id} is listening on unallocated port(s): {text}"
        self.log.info("{message}", message=message)
        if self._enforce:
            reason = Reason.REASON_CONTAINER_LIMITATION
            self.limited(container.id, Limitation(reason, message, (("ports", wrong),)))

    def cleanup(self, container: Isolated) -> bool:
        """Look at it no more."""
        self._told.pop(container.id, None)
        return super().cleanup(container)


def listening(groups: Mapping[ContainerId, str]) -> dict[ContainerId, Ranges]:
    """
    Return on which ports of the machine the processes of some containers listen, of those that
    do. What ends while it is looked at is passed over.

    @param groups: each container's cgroup, of the freezer or of version 2.
    """
    sockets = listeners(*TABLES)
    found: dict[ContainerId, Ranges] = {}
    if not sockets:
        return found
    for name, group in groups.items():
        ports = {
            sockets[inode]
            for pid in pids_in(group)
            for inode in _sockets_of(pid)
            if inode in sockets
        }
        if ports:
            found[name] = coalesced([(port, port) for port in ports])
    return found


def listeners(*tables: str) -> dict[str, int]:
    """
    Return the ports of all sockets that listen, by their inodes.

    @param tables: files as C{/proc/net/tcp} is (proc_pid_net(5)); one that is not there is
        passed over: a machine may be without IPv6.
    """
    found: dict[str, int] = {}
    for table in tables:
        try:
            with open(table, encoding="ascii") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in lines[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENS:
                found[words[9]] = int(words[1].rpartition(":")[2], 16)
    return found


def _sockets_of(pid: int) -> list[str]:
    """Return the inodes of a process' sockets."""
    directory = f"/proc/{pid}/fd"
    found = []
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in names:
        try:
            target = os.readlink(f"{directory}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(target[8:-1])
    return found
