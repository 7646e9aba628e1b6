"""Control groups, whichever version of them a machine has: what isolators ask of them.

L{mesoskit.agent.containers.cgroups_v1} and L{mesoskit.agent.containers.cgroups_v2} are two ways
to the same, held to one suite. Each container has a group C{<root>/<container id>}, as in Mesos
(C{--cgroups_root}); what is nested in another one has its group below, in C{mesos}.
"""

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from mesoskit.messages.mesos_pb2 import CgroupInfo

CPU: Final = "cpu"
CPUSET: Final = "cpuset"
DEVICES: Final = "devices"
HUGETLB: Final = "hugetlb"
IO: Final = "blkio"
MEMORY: Final = "memory"
NET_CLS: Final = "net_cls"
NET_PRIO: Final = "net_prio"
PERF_EVENT: Final = "perf_event"
PIDS: Final = "pids"

ACCOUNT: Final = "cpuacct"
FREEZER: Final = "freezer"

CONTROLLERS: Final = (
    *(CPU, CPUSET, DEVICES, HUGETLB, IO, MEMORY, NET_CLS, NET_PRIO, PERF_EVENT, PIDS),
)
"""What can be asked for, by the names of version 1."""

ELSEWHERE: Final = {
    NET_CLS: (
        "there rules of the firewall name a group by its path (nft: socket cgroupv2, iptables:"
        " -m cgroup --path)"
    ),
    NET_PRIO: (
        "there priorities are set by rules that name a group by its path (nft: socket cgroupv2"
        " with meta priority set)"
    ),
}
"""What version 2 has in the place of controllers that only version 1 has."""

PRESSURE_LEVELS: Final = ("low", "medium", "critical")
"""How scarce memory may be, in version 1."""

PERIOD: Final = 100_000
"""Microseconds in which a quota of CPU time is counted."""

MIN_QUOTA: Final = 1_000
MIN_SHARES: Final = 2
SHARES: Final = 1024
"""Of one whole cpu."""


class CgroupError(Exception):
    """A cgroup does not do what is wanted; the message says which and why."""


@dataclass(slots=True, frozen=True)
class Made:
    """
    A container's groups.

    @ivar join: the directories that its first process joins.
    @ivar kill: the one of them by which all of it is found and killed, or what is around them.
    """

    join: tuple[str, ...]
    kill: str


class Cgroups(Protocol):
    """
    The groups of one root. All raise L{CgroupError}; a name is that of a container's group.

    @ivar version: 1 or 2.
    @ivar controllers: those of L{CONTROLLERS} that there are.
    """

    version: int
    controllers: frozenset[str]

    def make(self, name: str, controllers: Collection[str], pod: bool = False) -> Made:
        """
        Make a group under these controllers; one that is there already is as good.

        @param pod: whether groups below it, in its C{mesos}, are to be held to something, too.
        """
        ...

    def remove(self, name: str) -> bool:
        """Remove a group and all below; say whether nothing is left."""
        ...

    def names(self) -> list[str]:
        """Return the groups that there are, without those that are nested."""
        ...

    def share(self, name: str, cpus: int) -> None:
        """Let a group have its part of the CPU time, where it is short: thousandths of a core."""
        ...

    def quota(self, name: str, cpus: int | None) -> None:
        """Let it have so many thousandths of a core at most; L{None}: as many as there are."""
        ...

    def memory(self, name: str, soft: int, hard: int | None, swap: bool) -> None:
        """
        Let it have bytes of memory.

        @param soft: what it keeps when memory is short.
        @param hard: what it cannot exceed; L{None}: as much as there is. A limit is never
            lowered below what it was: that would kill, without more than before being taken.
        @param swap: whether the limit is on memory and swap together.
        """
        ...

    def most_pids(self, name: str, most: int) -> None:
        """Let there be so many processes and threads in it at most."""
        ...

    def devices(self, name: str, allowed: Collection[str]) -> None:
        """Let it use these devices and no others, as in C{devices.allow} of version 1."""
        ...

    def classify(self, name: str, handle: int) -> None:
        """Let what it sends bear this number of 32 bits (C{net_cls.classid})."""
        ...

    def class_of(self, name: str) -> int:
        """Return that number, 0 where it has none."""
        ...

    def directory(self, name: str, controller: str) -> str:
        """Return the directory by which a group is known to a controller."""
        ...

    def io(self, name: str) -> CgroupInfo.Blkio.Statistics | None:
        """Return what it has read from block devices and written to; L{None}: nothing is known."""
        ...

    def statistics(self, name: str) -> dict[str, float]:
        """
        Return what a group uses, under the names of Mesos' C{ResourceStatistics}; nothing where
        there is no such group.
        """
        ...

    def memory_limit(self, name: str) -> int | None:
        """Return the hard limit in bytes."""
        ...

    def memory_peak(self, name: str) -> int:
        """Return the most bytes it has had."""
        ...

    def was_full(self, name: str) -> bool:
        """Tell whether it was its own limit that left it without memory, or none but its own."""
        ...

    def memory_text(self, name: str) -> str:
        """Return C{memory.stat}, for people."""
        ...

    def killed_for_memory(self, name: str, pod: bool = False) -> int:
        """
        Return how many of its processes the kernel has killed for its limit.

        @param pod: whether those in groups below it count, too.
        """
        ...

    def watch_pressure(self, name: str) -> dict[str, int]:
        """
        Return descriptors by which it is counted how often memory was scarce, as eventfd(2) has
        them, under the names of the levels; empty where the kernel does not tell.
        """
        ...

    def watch_memory(self, name: str) -> int:
        """Return a descriptor that can be read from when that happens; it is the caller's."""
        ...


def find(hierarchy: str, root: str, mounts: str = "/proc/self/mounts") -> Cgroups:
    """
    Return the groups of this machine. Raises L{CgroupError} where it has none.

    @param hierarchy: where they are mounted (C{--cgroups_hierarchy}).
    @param root: the group below which all of an agent's are (C{--cgroups_root}).
    @param mounts: a file as mounts(5) is.
    """
    from mesoskit.agent.containers.cgroups_v1 import CgroupsV1
    from mesoskit.agent.containers.cgroups_v2 import CgroupsV2

    first: dict[str, str] = {}
    for kind, path, options in _mounted(mounts):
        if not (path == hierarchy or path.startswith(hierarchy.rstrip("/") + "/")):
            continue
        if kind == "cgroup2" and path == hierarchy:
            return CgroupsV2(path, root)
        if kind == "cgroup":
            wanted = {*CONTROLLERS, FREEZER, ACCOUNT}
            first.update((option, path) for option in options if option in wanted)
    if FREEZER not in first:
        raise CgroupError(
            f"no cgroups in {hierarchy}: neither a freezer of version 1 nor version 2 is mounted"
            " there; set --cgroups_hierarchy, or --isolation=posix/cpu,posix/mem"
        )
    return CgroupsV1(first, root)


def _mounted(mounts: str) -> Iterator[tuple[str, str, list[str]]]:
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise CgroupError(f"{mounts}: {error.strerror}") from error
    for line in lines:
        words = line.split()
        if len(words) >= 4 and words[2].startswith("cgroup"):
            yield words[2], words[1].replace("\\040", " "), words[3].split(",")


# What both versions do with files.


def read(path: str) -> str:
    """Return what a file of a group says. Raises L{CgroupError}."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 65536).decode()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CgroupError(f"{path}: {error.strerror}") from error


def write(path: str, value: str | int) -> None:
    """Tell a file of a group. Raises L{CgroupError}."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CgroupError(f"{path}: cannot be set to {value}: {error.strerror}") from error


def table(text: str) -> dict[str, int]:
    """Return lines of a name and a number as a dictionary."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            found[name] = int(value)
    return found


def attempt(function: Callable[[str], str], path: str) -> str:
    """Return what a file says; empty where it is not there."""
    try:
        return function(path)
    except CgroupError:
        return ""


def make_directory(path: str, attempts: int = 3) -> None:
    """
    Make a group, with what is missing above. Raises L{CgroupError}.

    @param attempts: how often somebody else may remove what is above in between.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except OSError as error:
        if isinstance(error, FileNotFoundError) and attempts:
            make_directory(os.path.dirname(path))
            make_directory(path, attempts - 1)
            return
        raise CgroupError(f"cgroup {path}: {error.strerror}") from error


def remove_directory(path: str) -> bool:
    """Remove a group and all below it; say whether nothing is left."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass  # something is in it, or below it
    else:
        return True
    # Its files cannot be removed, and need not be.
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return not os.path.exists(path)
