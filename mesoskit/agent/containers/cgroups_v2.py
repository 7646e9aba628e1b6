"""Cgroups of version 2: one hierarchy (Linux' C{admin-guide/cgroup-v2}).

A group whose controllers are handed on to those below may hold no processes itself: so they are
handed on to the containers' groups and not further, and what is nested in a container is held
to that one's limits, unless it is to have its own.
"""

import ctypes
import os
from collections.abc import Collection, Sequence

from mesoskit.agent.containers import device_program
from mesoskit.agent.containers.cgroups import (
    CPU,
    CPUSET,
    DEVICES,
    ELSEWHERE,
    HUGETLB,
    IO,
    MEMORY,
    MIN_QUOTA,
    MIN_SHARES,
    NET_CLS,
    PERF_EVENT,
    PERIOD,
    PIDS,
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
from mesoskit.agent.containers.cgroups_io import read_v2
from mesoskit.messages.mesos_pb2 import CgroupInfo

_NAMES = {
    CPU: "cpu",
    CPUSET: "cpuset",
    HUGETLB: "hugetlb",
    IO: "io",
    MEMORY: "memory",
    PIDS: "pids",
}
"""Controllers that are handed on."""

_ALWAYS = (PERF_EVENT,)
"""What every group has, without being told to."""

_MAX = "max"

_LEAF = "leaf"
"""Where the processes of a group are that has groups with limits below: beside may be none."""

_ROUNDS = 100
_IN_MODIFY = 2
_libc = ctypes.CDLL(None, use_errno=True)

_MEMORY_FIGURES = {
    "anon": ("mem_rss_bytes", "mem_anon_bytes"),
    "file": ("mem_file_bytes", "mem_cache_bytes"),
    "file_mapped": ("mem_mapped_file_bytes",),
    "unevictable": ("mem_unevictable_bytes",),
}


class CgroupsV2:
    """
    A C{Cgroups} (L{mesoskit.agent.containers.cgroups}).

    @ivar mount: where the hierarchy is mounted.
    """

    version = 2

    def __init__(self, mount: str, root: str) -> None:
        self.mount = mount
        self._root = root
        there = set(attempt(read, f"{mount}/cgroup.controllers").split())
        found = {name for name, own in _NAMES.items() if own in there} | set(_ALWAYS)
        if not device_program.wrong():
            found.add(DEVICES)
        self.controllers = frozenset(found)

    def _path(self, name: str = "") -> str:
        base = f"{self.mount}/{self._root}"
        return f"{base}/{name}" if name else base

    def make(self, name: str, controllers: Collection[str], pod: bool = False) -> Made:
        """
        Make a group, and hand on the controllers to it. That of a pod hands them on: its own
        processes are in a group C{leaf}, for beside others there may be none.
        """
        for controller in controllers:
            if controller not in self.controllers:
                raise CgroupError(_missing(controller))
        path = self._path(name)
        handed = [_NAMES[one] for one in controllers if one in _NAMES]
        if "/" not in name:
            self._hand_on(handed, (name, "mesos") if pod else ())
        elif handed:
            self._hand_on_below(handed, name.split("/")[:-1])
        make_directory(path)
        if not pod:
            return Made((path,), path)
        leaf = f"{path}/{_LEAF}"
        make_directory(leaf)
        return Made((leaf,), path)

    def _hand_on(self, controllers: list[str], below: Sequence[str]) -> None:
        at = self.mount
        for part in ("", *self._root.split("/"), *below):
            if part:
                at = f"{at}/{part}"
                make_directory(at)
            missing = set(controllers) - set(read(f"{at}/cgroup.subtree_control").split())
            if missing:
                wanted = " ".join(f"+{controller}" for controller in sorted(missing))
                write(f"{at}/cgroup.subtree_control", wanted)

    def _hand_on_below(self, controllers: list[str], parts: Sequence[str]) -> None:
        """Let what is nested in containers be held by itself: what these hold makes room."""
        at = self._path()
        for part in parts:
            at = f"{at}/{part}"
            make_directory(at)
            missing = set(controllers) - set(read(f"{at}/cgroup.subtree_control").split())
            if missing:
                _vacate(at)
                wanted = " ".join(f"+{controller}" for controller in sorted(missing))
                write(f"{at}/cgroup.subtree_control", wanted)

    def remove(self, name: str) -> bool:
        """Remove it."""
        return remove_directory(self._path(name))

    def names(self) -> list[str]:
        """Return the directories that there are."""
        try:
            with os.scandir(self._path()) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except OSError:
            return []

    def share(self, name: str, cpus: int) -> None:
        """Set C{cpu.weight}: shares from 2 to 262144 become weights from 1 to 10000."""
        shares = max(MIN_SHARES, cpus * SHARES // 1000)
        weight = 1 + (min(shares, 262_144) - 2) * 9999 // 262_142
        write(f"{self._path(name)}/cpu.weight", weight)

    def quota(self, name: str, cpus: int | None) -> None:
        """Set C{cpu.max}."""
        quota = _MAX if cpus is None else str(max(MIN_QUOTA, cpus * PERIOD // 1000))
        write(f"{self._path(name)}/cpu.max", f"{quota} {PERIOD}")

    def memory(self, name: str, soft: int, hard: int | None, swap: bool) -> None:
        """Set C{memory.low}, C{memory.max} and C{memory.swap.max}."""
        path = self._path(name)
        write(f"{path}/memory.low", soft)
        before = self.memory_limit(name)
        if hard is not None and before is not None and hard <= before:
            return
        write(f"{path}/memory.max", _MAX if hard is None else hard)
        if swap and os.path.exists(f"{path}/memory.swap.max"):
            # A limit of its own here: what is held to its memory gets none besides.
            write(f"{path}/memory.swap.max", _MAX if hard is None else 0)

    def most_pids(self, name: str, most: int) -> None:
        """Set C{pids.max}."""
        write(f"{self._path(name)}/pids.max", most)

    def devices(self, name: str, allowed: Collection[str]) -> None:
        """Attach a program to it (L{mesoskit.agent.containers.device_program})."""
        path = self._path(name)
        try:
            device_program.attach(path, allowed)
        except device_program.DeviceError as error:
            raise CgroupError(str(error)) from error
        except OSError as error:
            raise CgroupError(
                f"{path}: a program for devices cannot be attached: {error.strerror}"
            ) from error

    def classify(self, name: str, handle: int) -> None:
        """Refuse."""
        raise CgroupError(_missing(NET_CLS))

    def class_of(self, name: str) -> int:
        """Refuse."""
        raise CgroupError(_missing(NET_CLS))

    def directory(self, name: str, controller: str) -> str:
        """Return the only one that it has."""
        return self._path(name)

    def io(self, name: str) -> CgroupInfo.Blkio.Statistics | None:
        """Return what C{io.stat} says."""
        return read_v2(self._path(name)) if IO in self.controllers else None

    def statistics(self, name: str) -> dict[str, float]:
        """Return what there is to read."""
        path = self._path(name)
        found: dict[str, float] = {}
        cpu = table(attempt(read, f"{path}/cpu.stat"))
        if "user_usec" in cpu:
            found["cpus_user_time_secs"] = cpu["user_usec"] / 1e6
            found["cpus_system_time_secs"] = cpu.get("system_usec", 0) / 1e6
        if cpu.get("nr_periods"):
            found["cpus_nr_periods"] = cpu["nr_periods"]
            found["cpus_nr_throttled"] = cpu.get("nr_throttled", 0)
            found["cpus_throttled_time_secs"] = cpu.get("throttled_usec", 0) / 1e6
        figures = table(attempt(read, f"{path}/memory.stat"))
        for key, names in _MEMORY_FIGURES.items():
            if key in figures:
                found.update(dict.fromkeys(names, figures[key]))
        for file, figure in (
            ("memory.current", "mem_total_bytes"),
            ("memory.max", "mem_limit_bytes"),
            ("memory.low", "mem_soft_limit_bytes"),
            ("memory.swap.current", "mem_swap_bytes"),
        ):
            text = attempt(read, f"{path}/{file}").strip()
            if text.isdecimal():
                found[figure] = int(text)
        return found

    def memory_limit(self, name: str) -> int | None:
        """Return C{memory.max}."""
        text = read(f"{self._path(name)}/memory.max").strip()
        return None if text == _MAX else int(text)

    def memory_peak(self, name: str) -> int:
        """Return C{memory.peak} (Linux 5.19), or what it has now."""
        path = self._path(name)
        return int(attempt(read, f"{path}/memory.peak") or read(f"{path}/memory.current"))

    def was_full(self, name: str) -> bool:
        """Look at C{oom} of C{memory.events.local} (Linux 5.2)."""
        path = self._path(name)
        events = attempt(read, f"{path}/memory.events.local") or read(f"{path}/memory.events")
        return table(events).get("oom", 0) > 0

    def memory_text(self, name: str) -> str:
        """Return C{memory.stat}."""
        return read(f"{self._path(name)}/memory.stat")

    def killed_for_memory(self, name: str, pod: bool = False) -> int:
        """
        Return C{oom_kill} of C{memory.events}, which counts what was killed below, too. Without
        that (Linux 5.2) it is what was killed in the group itself.
        """
        path = self._path(name)
        own = [attempt(read, f"{at}/memory.events.local") for at in (path, f"{path}/{_LEAF}")]
        if pod or not own[0]:
            own = [attempt(read, f"{path}/memory.events")]
        return sum(table(text).get("oom_kill", 0) for text in own)

    def watch_pressure(self, name: str) -> dict[str, int]:
        """Return nothing: version 2 has other figures for that (C{memory.pressure})."""
        return {}

    def watch_memory(self, name: str) -> int:
        """Watch C{memory.events} by inotify(7)."""
        path = f"{self._path(name)}/memory.events"
        told: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if told < 0 or _libc.inotify_add_watch(told, path.encode(), _IN_MODIFY) < 0:
            why = os.strerror(ctypes.get_errno())
            if told >= 0:
                os.close(told)
            raise CgroupError(f"{path}: {why}")
        return told


def _vacate(path: str) -> None:
    """
    Move all processes of a group into one of their own below it. Raises L{CgroupError}.

    What is forked meanwhile is born where its parent is, and is found in the next round.
    """
    leaf = f"{path}/{_LEAF}"
    for _ in range(_ROUNDS):
        pids = read(f"{path}/cgroup.procs").split()
        if not pids:
            return
        make_directory(leaf)
        for pid in pids:
            try:
                write(f"{leaf}/cgroup.procs", pid)
            except CgroupError:
                continue  # it has ended
    raise CgroupError(f"{path}: its processes fork faster than they can be moved")


def _missing(controller: str) -> str:
    if controller in ELSEWHERE:
        return f"cgroups of version 2 have no {controller}: {ELSEWHERE[controller]}"
    if controller == DEVICES:
        why = device_program.wrong()
        return f"this kernel takes no programs for devices, which version 2 wants: {why}"
    return f"cgroups of version 2 have no {controller} on this machine"
