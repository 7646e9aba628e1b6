"""Counting what a processor and a kernel do for a cgroup: perf_event_open(2).

The names are those of perf(1) and of Mesos' C{PerfStatistics}, with C{_} for C{-}. Mesos runs
perf(1) and reads what that prints (C{src/linux/perf.cpp}); here the kernel is asked itself, so
that nothing has to be installed.
"""

import ctypes
import os
import struct
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from mesoskit.messages.mesos_pb2 import PerfStatistics

_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _SOFTWARE, _CACHE = 0, 1, 3
_BY_GROUP: Final = 4 | 8
"""PERF_FLAG_PID_CGROUP and PERF_FLAG_FD_CLOEXEC."""
_WITH_TIMES: Final = 3
"""PERF_FORMAT_TOTAL_TIME_ENABLED and ..._RUNNING."""
_SIZE: Final = 128
"""Bytes of C{struct perf_event_attr}; a kernel that knows less takes more, where that is zero."""
_MILLISECOND: Final = 1e6
_TIMES: Final = ("cpu_clock", "task_clock")
"""What is shown in milliseconds, and counted in nanoseconds."""

_CACHES: Final = {
    "l1_dcache": 0,
    "l1_icache": 1,
    "llc": 2,
    "dtlb": 3,
    "itlb": 4,
    "branch": 5,
    "node": 6,
}
_OPERATIONS: Final = {"load": 0, "store": 1, "prefetch": 2}


def _of_caches() -> dict[str, tuple[int, int]]:
    found = {}
    for cache, number in _CACHES.items():
        for operation, code in _OPERATIONS.items():
            ending = "es" if operation == "prefetch" else "s"
            for name, missed in ((operation + ending, 0), (f"{operation}_misses", 1)):
                found[f"{cache}_{name}"] = _CACHE, number | code << 8 | missed << 16
    return found


EVENTS: Final[Mapping[str, tuple[int, int]]] = {
    "cycles": (_HARDWARE, 0),
    "instructions": (_HARDWARE, 1),
    "cache_references": (_HARDWARE, 2),
    "cache_misses": (_HARDWARE, 3),
    "branches": (_HARDWARE, 4),
    "branch_misses": (_HARDWARE, 5),
    "bus_cycles": (_HARDWARE, 6),
    "stalled_cycles_frontend": (_HARDWARE, 7),
    "stalled_cycles_backend": (_HARDWARE, 8),
    "ref_cycles": (_HARDWARE, 9),
    "cpu_clock": (_SOFTWARE, 0),
    "task_clock": (_SOFTWARE, 1),
    "page_faults": (_SOFTWARE, 2),
    "context_switches": (_SOFTWARE, 3),
    "cpu_migrations": (_SOFTWARE, 4),
    "minor_faults": (_SOFTWARE, 5),
    "major_faults": (_SOFTWARE, 6),
    "alignment_faults": (_SOFTWARE, 7),
    "emulation_faults": (_SOFTWARE, 8),
    **{
        name: how
        for name, how in _of_caches().items()
        if name in PerfStatistics.DESCRIPTOR.fields_by_name
    },
}
"""What can be counted: a type and a number of the kernel's, by the name."""

_libc = ctypes.CDLL(None, use_errno=True)


class PerfError(Exception):
    """Something cannot be counted; the message says what, and why."""


class Counter(NamedTuple):
    """One event, on one processor, of one group."""

    event: str
    descriptor: int


def processors() -> list[int]:
    """Return the numbers of the processors that are at work."""
    try:
        with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return list(range(os.cpu_count() or 1))
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def check(events: Collection[str], group: str) -> None:
    """
    Raise L{PerfError} where this machine does not count one of these events.

    @param group: any cgroup.
    """
    for event in events:
        if event not in EVENTS:
            raise PerfError(f"unknown event {event!r}: {', '.join(EVENTS)} are known")
        close(begin([event], group, processors()[:1]))


def begin(events: Collection[str], group: str, cpus: Collection[int]) -> list[Counter]:
    """
    Begin to count what a group does, with all below it. Raises L{PerfError}.

    @param group: its directory, of the controller C{perf_event} or of version 2.
    """
    counters: list[Counter] = []
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PerfError(f"{group}: {error.strerror}") from error
    try:
        for event in events:
            for cpu in cpus:
                try:
                    counters.append(Counter(event, _open(*EVENTS[event], directory, cpu)))
                except OSError as error:
                    raise PerfError(
                        f"{event} cannot be counted on this machine: {error.strerror}"
                    ) from error
    except BaseException:
        close(counters)
        raise
    finally:
        os.close(directory)
    return counters


def read(counters: Collection[Counter]) -> dict[str, float]:
    """Return how much there was of each event since the beginning. Raises L{OSError}."""
    found: dict[str, float] = {}
    for event, descriptor in counters:
        count, enabled, running = struct.unpack("QQQ", os.read(descriptor, 24))
        # Where there are more events than a processor can count, they take turns.
        scaled = count * enabled / running if running and running < enabled else float(count)
        found[event] = found.get(event, 0.0) + scaled
    return found


def close(counters: Collection[Counter]) -> None:
    """End it."""
    for counter in counters:
        os.close(counter.descriptor)


def statistics(counted: Mapping[str, float], started: float, duration: float) -> PerfStatistics:
    """
    Return what was counted as Mesos shows it.

    @param started: in seconds since 1970.
    @param duration: in seconds.
    """
    shown = PerfStatistics(timestamp=started, duration=duration)
    for event, value in counted.items():
        setattr(shown, event, value / _MILLISECOND if event in _TIMES else round(value))
    return shown


def _open(kind: int, config: int, group: int, cpu: int) -> int:
    number = _SYSCALL.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"perf_event_open(2) is not known for {os.uname().machine}")
    # type, size, config, sample_period, sample_type, read_format
    attributes = struct.pack("=IIQQQQ", kind, _SIZE, config, 0, 0, _WITH_TIMES)
    buffer = ctypes.create_string_buffer(attributes, _SIZE)
    opened: int = _libc.syscall(
        ctypes.c_long(number), buffer, group, cpu, -1, ctypes.c_ulong(_BY_GROUP)
    )
    if opened < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return opened
