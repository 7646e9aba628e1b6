"""What C{/proc} says of processes: who started whom, in which session, using how much.

The standard library alone: the launcher stands on it (L{mesoskit.agent.launcher}), and so does
the reading of usage (L{mesoskit.agent.usage}). The formats are those of proc(5).
"""

import os
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """
    One line of C{/proc/<pid>/stat}; times are in clock ticks (C{os.sysconf("SC_CLK_TCK")}).

    @ivar start: clock ticks from boot to the process's start; with the pid, its name for ever.
    @ivar user: ticks in user mode, of itself and of the children it has waited for.
    @ivar system: the same in the kernel.
    @ivar rss: resident pages.
    @ivar threads: how many it has.
    """

    pid: int
    state: str
    parent: int
    group: int
    session: int
    user: int
    system: int
    start: int
    rss: int
    threads: int = 1

    @property
    def alive(self) -> bool:
        """Whether it still can do anything: a zombie only waits to be reaped."""
        return self.state not in "ZX"


def _read(path: str, size: int) -> bytes:
    """Return the first C{size} bytes of a file of /proc; empty where the process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:  # it ended in between
        return b""
    finally:
        os.close(descriptor)


def process(pid: int) -> Process | None:
    """Return what a pid is now; L{None} where there is no such process."""
    text = _read(f"/proc/{pid}/stat", 4096)
    # The second field is the name in parentheses; it may hold blanks and parentheses itself.
    end = text.rfind(b")")
    if end < 0:
        return None
    field = text[end + 2 :].split(None, 22)
    return Process(
        pid,
        field[0].decode(),
        int(field[1]),
        int(field[2]),
        int(field[3]),
        int(field[11]) + int(field[13]),
        int(field[12]) + int(field[14]),
        int(field[19]),
        int(field[21]),
        int(field[17]),
    )


def processes() -> dict[int, Process]:
    """Return all processes there are, by pid, from one pass."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            found = process(int(name))
            if found is not None:
                table[found.pid] = found
    return table


def children(pid: int) -> list[int]:
    """
    Return the pids of the children of a single-threaded process, zombies too.

    From C{/proc/<pid>/task/<tid>/children}; where the kernel was built without that
    (CONFIG_PROC_CHILDREN), from a pass over all processes.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return [int(child) for child in file.readall().split()]
    except FileNotFoundError:
        return [found.pid for found in processes().values() if found.parent == pid]


def tree(roots: Iterable[int], table: Mapping[int, Process]) -> set[int]:
    """Return the roots and everything that descends from them, as far as the table knows them."""
    offspring: dict[int, list[int]] = {}
    for found in table.values():
        offspring.setdefault(found.parent, []).append(found.pid)
    members: set[int] = set()
    waiting = [pid for pid in roots if pid in table]
    while waiting:
        pid = waiting.pop()
        if pid not in members:
            members.add(pid)
            waiting.extend(offspring.get(pid, ()))
    return members


def first_variables(pid: int) -> dict[str, str]:
    """Return the first two variables of its environment, where they are short enough."""
    found = {}
    for text in _read(f"/proc/{pid}/environ", 1024).split(b"\0", 2)[:2]:
        name, equals, value = text.partition(b"=")
        if equals:
            found[name.decode(errors="replace")] = value.decode(errors="replace")
    return found


def timer_slack(pid: int) -> int | None:
    """Return the timer slack in nanoseconds; L{None} where we may not know (CAP_SYS_NICE)."""
    text = _read(f"/proc/{pid}/timerslack_ns", 32)
    return int(text) if text else None


def file_locks(pid: int) -> int | None:
    """Return the soft limit of file locks; L{None} where there is none."""
    for line in _read(f"/proc/{pid}/limits", 4096).splitlines():
        if line.startswith(b"Max file locks"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def ticks_since_boot() -> int:
    """Return the time in the unit of L{Process.start}."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 1_000_000_000


def boot_id() -> str:
    """Return what names this boot of the machine; empty where the kernel does not tell."""
    return _read("/proc/sys/kernel/random/boot_id", 64).decode().strip()
