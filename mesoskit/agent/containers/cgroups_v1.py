"""Cgroups of version 1: a hierarchy a controller (cgroups(7), C{cgroup-v1} of Linux' documents)."""

import os
from collections.abc import Collection, Mapping
from itertools import chain

from mesoskit.agent.containers.cgroups import (
    ACCOUNT,
    CONTROLLERS,
    CPU,
    CPUSET,
    DEVICES,
    FREEZER,
    IO,
    MEMORY,
    MIN_QUOTA,
    MIN_SHARES,
    NET_CLS,
    PERIOD,
    PIDS,
    PRESSURE_LEVELS,
    SHARES,
    CgroupError,
    Made,
    attempt,
    make_directory,
    read,
    remove_directory,
    table,
    write,
)
from mesoskit.agent.containers.cgroups_io import Version1
from mesoskit.messages.mesos_pb2 import CgroupInfo

_NO_LIMIT = 1 << 60
"""More than that is what the kernel says where there is no limit."""

_BATCH = 1 << 20
"""So many bytes below its limit a group may be when nothing more can be had."""

_MEMORY_FIGURES = {
    "total_rss": ("mem_rss_bytes", "mem_anon_bytes"),
    "total_cache": ("mem_file_bytes", "mem_cache_bytes"),
    "total_mapped_file": ("mem_mapped_file_bytes",),
    "total_swap": ("mem_swap_bytes",),
    "total_unevictable": ("mem_unevictable_bytes",),
}

_MEMORY_USES = (
    ("memory.usage_in_bytes", "mem_total_bytes"),
    ("memory.kmem.usage_in_bytes", "mem_kmem_usage_bytes"),
    ("memory.kmem.tcp.usage_in_bytes", "mem_kmem_tcp_usage_bytes"),
    ("memory.memsw.usage_in_bytes", "mem_total_memsw_bytes"),
)
_MEMORY_LIMITS = (
    ("memory.limit_in_bytes", "mem_limit_bytes"),
    ("memory.soft_limit_in_bytes", "mem_soft_limit_bytes"),
)


class CgroupsV1:
    """
    A C{Cgroups} (L{mesoskit.agent.containers.cgroups}).

    @ivar mounts: where each controller is mounted.
    """

    version = 1

    def __init__(self, mounts: Mapping[str, str], root: str) -> None:
        self.mounts = dict(mounts)
        self.controllers = frozenset(mounts.keys() & set(CONTROLLERS))
        self._root = root
        self._io = Version1()
        self._limits: dict[str, dict[str, float]] = {}  # of memory, as they were set or read

    def _path(self, controller: str, name: str = "") -> str:
        base = f"{self.mounts[controller]}/{self._root}"
        return f"{base}/{name}" if name else base

    def make(self, name: str, controllers: Collection[str], pod: bool = False) -> Made:
        """Make a group in every hierarchy that is asked for, and in the freezer's."""
        wanted = list(controllers)
        if CPU in wanted and ACCOUNT in self.mounts:
            wanted.append(ACCOUNT)
        paths: dict[str, None] = {}
        for controller in wanted:
            if controller not in self.mounts:
                raise CgroupError(f"this machine has no cgroups of {controller}")
            path = self._path(controller, name)
            if controller == CPUSET:
                self._make_cpuset(name)
            else:
                if controller == MEMORY:
                    self._make_memory_root()
                make_directory(path)
            paths[path] = None
        kill = self._path(FREEZER, name)
        make_directory(kill)
        paths[kill] = None
        return Made(tuple(paths), kill)

    def _make_memory_root(self) -> None:
        root = self._path(MEMORY)
        if not os.path.isdir(root):
            make_directory(root)
            if attempt(read, f"{root}/memory.use_hierarchy").strip() == "0":
                write(f"{root}/memory.use_hierarchy", 1)

    def _make_cpuset(self, name: str) -> None:
        """A new group of this kind has no cpus at all, and takes nobody."""
        at = self.mounts[CPUSET]
        for part in chain(self._root.split("/"), name.split("/")):
            above, at = at, f"{at}/{part}"
            make_directory(at)
            for what in ("cpuset.cpus", "cpuset.mems"):
                if not read(f"{at}/{what}").strip():
                    write(f"{at}/{what}", read(f"{above}/{what}").strip())

    def remove(self, name: str) -> bool:
        """Remove it from every hierarchy."""
        gone = [remove_directory(self._path(controller, name)) for controller in self.mounts]
        if MEMORY in self.mounts:
            self._limits.pop(self._path(MEMORY, name), None)
        return all(gone)

    def names(self) -> list[str]:
        """Return what there is in any hierarchy."""
        found: set[str] = set()
        for controller in self.mounts:
            try:
                with os.scandir(self._path(controller)) as entries:
                    found.update(entry.name for entry in entries if entry.is_dir())
            except OSError:
                continue
        return sorted(found)

    def share(self, name: str, cpus: int) -> None:
        """Set C{cpu.shares}."""
        shares = max(MIN_SHARES, cpus * SHARES // 1000)
        write(f"{self._path(CPU, name)}/cpu.shares", shares)

    def quota(self, name: str, cpus: int | None) -> None:
        """Set C{cpu.cfs_quota_us}."""
        path = self._path(CPU, name)
        if cpus is None:
            write(f"{path}/cpu.cfs_quota_us", -1)
            return
        write(f"{path}/cpu.cfs_period_us", PERIOD)
        write(f"{path}/cpu.cfs_quota_us", max(MIN_QUOTA, cpus * PERIOD // 1000))

    def memory(self, name: str, soft: int, hard: int | None, swap: bool) -> None:
        """Set C{memory.soft_limit_in_bytes}, C{memory.limit_in_bytes} and that of C{memsw}."""
        path = self._path(MEMORY, name)
        write(f"{path}/memory.soft_limit_in_bytes", soft)
        self._limits.pop(path, None)
        before = self.memory_limit(name)
        wanted = -1 if hard is None else hard
        if hard is not None and before is not None and hard <= before:
            return
        limits = ["memory.limit_in_bytes"]
        if swap:
            limits.append("memory.memsw.limit_in_bytes")
        if before is not None:
            # The limit on both may at no moment be below that on memory alone.
            limits.reverse()
        for limit in limits:
            write(f"{path}/{limit}", wanted)
        self._limits.pop(path, None)

    def most_pids(self, name: str, most: int) -> None:
        """Set C{pids.max}."""
        write(f"{self._path(PIDS, name)}/pids.max", most)

    def devices(self, name: str, allowed: Collection[str]) -> None:
        """Deny all and allow some."""
        path = self._path(DEVICES, name)
        write(f"{path}/devices.deny", "a")
        for entry in allowed:
            write(f"{path}/devices.allow", entry)

    def classify(self, name: str, handle: int) -> None:
        """Set C{net_cls.classid}."""
        write(f"{self.directory(name, NET_CLS)}/net_cls.classid", handle)

    def class_of(self, name: str) -> int:
        """Return C{net_cls.classid}."""
        return int(read(f"{self.directory(name, NET_CLS)}/net_cls.classid"))

    def directory(self, name: str, controller: str) -> str:
        """Return the one in that controller's hierarchy."""
        if controller not in self.mounts:
            raise CgroupError(f"this machine has no cgroups of {controller}")
        return self._path(controller, name)

    def io(self, name: str) -> CgroupInfo.Blkio.Statistics | None:
        """Return what the files of C{blkio} say."""
        return self._io.read(self._path(IO, name)) if IO in self.mounts else None

    def statistics(self, name: str) -> dict[str, float]:
        """Return what there is to read."""
        found: dict[str, float] = {}
        path = self._there(ACCOUNT, name)
        if path:
            user = attempt(read, f"{path}/cpuacct.usage_user").strip()
            system = attempt(read, f"{path}/cpuacct.usage_sys").strip()
            if user and system:
                found["cpus_user_time_secs"] = int(user) / 1e9
                found["cpus_system_time_secs"] = int(system) / 1e9
        path = self._there(CPU, name)
        if path:
            throttled = table(attempt(read, f"{path}/cpu.stat"))
            if throttled.get("nr_periods"):
                found["cpus_nr_periods"] = throttled["nr_periods"]
                found["cpus_nr_throttled"] = throttled.get("nr_throttled", 0)
                found["cpus_throttled_time_secs"] = throttled.get("throttled_time", 0) / 1e9
        path = self._there(MEMORY, name)
        if path:
            self._memory_statistics(path, found)
        return found

    def _there(self, controller: str, name: str) -> str:
        """Return the directory of a group; empty where that controller has none of it."""
        path = self._path(controller, name) if controller in self.mounts else ""
        return path if path and os.path.isdir(path) else ""

    def _memory_statistics(self, path: str, found: dict[str, float]) -> None:
        figures = table(attempt(read, f"{path}/memory.stat"))
        for key, names in _MEMORY_FIGURES.items():
            if key in figures:
                found.update(dict.fromkeys(names, figures[key]))
        for file, name in _MEMORY_USES:
            text = attempt(read, f"{path}/{file}").strip()
            if text:
                found[name] = int(text)
        limits = self._limits.get(path)
        if limits is None:
            limits = self._limits[path] = {}
            for file, name in _MEMORY_LIMITS:
                text = attempt(read, f"{path}/{file}").strip()
                if text and int(text) < _NO_LIMIT:
                    limits[name] = int(text)
        found.update(limits)

    def memory_limit(self, name: str) -> int | None:
        """Return C{memory.limit_in_bytes}."""
        limit = int(read(f"{self._path(MEMORY, name)}/memory.limit_in_bytes"))
        return None if limit >= _NO_LIMIT else limit

    def memory_peak(self, name: str) -> int:
        """Return C{memory.max_usage_in_bytes}."""
        return int(read(f"{self._path(MEMORY, name)}/memory.max_usage_in_bytes"))

    def was_full(self, name: str) -> bool:
        """Compare the most that it has had with its limit: such moments are not counted."""
        limit = self.memory_limit(name)
        return limit is not None and self.memory_peak(name) > limit - _BATCH

    def memory_text(self, name: str) -> str:
        """Return C{memory.stat}."""
        return read(f"{self._path(MEMORY, name)}/memory.stat")

    def killed_for_memory(self, name: str, pod: bool = False) -> int:
        """Return C{oom_kill} of C{memory.oom_control} (Linux 4.13)."""
        path = self._path(MEMORY, name)
        killed = table(attempt(read, f"{path}/memory.oom_control")).get("oom_kill", 0)
        if pod:
            try:
                below = os.listdir(f"{path}/mesos")
            except OSError:
                below = []
            killed += sum(self.killed_for_memory(f"{name}/mesos/{one}") for one in below)
        return killed

    def watch_memory(self, name: str) -> int:
        """Have an eventfd(2) told."""
        return self._told(name, "memory.oom_control")

    def watch_pressure(self, name: str) -> dict[str, int]:
        """Have one told for each level of C{memory.pressure_level}."""
        found: dict[str, int] = {}
        try:
            for level in PRESSURE_LEVELS:
                found[level] = self._told(name, "memory.pressure_level", level)
        except CgroupError:
            for descriptor in found.values():
                os.close(descriptor)
            raise
        return found

    def _told(self, name: str, file: str, argument: str = "") -> int:
        """Return an eventfd(2) that is told what happens to a file."""
        path = self._path(MEMORY, name)
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{path}/{file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                wanted = f"{told} {control} {argument}".strip()
                write(f"{path}/cgroup.event_control", wanted)
            finally:
                os.close(control)
        except OSError as error:
            os.close(told)
            raise CgroupError(f"{path}/{file}: {error.strerror}") from error
        except CgroupError:
            os.close(told)
            raise
        return told
