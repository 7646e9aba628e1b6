"""What a cgroup counts of block devices, as Mesos shows it (C{CgroupInfo.Blkio}).

Version 1 has a file a figure, C{blkio.*}, each with lines such as C{8:0 Read 4096}. Those of the
schedulers are there where that one schedules: CFQ's until Linux 5.0, then BFQ's, which count the
same. Version 2 has C{io.stat}, with a line a device: C{8:0 rbytes=4096 wbytes=0 rios=1 ...}
"""

import os
from collections.abc import Iterator
from typing import Any, Final

from mesoskit.agent.containers.cgroups import attempt, read
from mesoskit.messages.mesos_pb2 import CgroupInfo

Statistics = CgroupInfo.Blkio.Statistics
_Device = tuple[int, int] | None

_OPERATIONS: Final = {
    "Read": CgroupInfo.Blkio.READ,
    "Write": CgroupInfo.Blkio.WRITE,
    "Sync": CgroupInfo.Blkio.SYNC,
    "Async": CgroupInfo.Blkio.ASYNC,
    "Discard": CgroupInfo.Blkio.DISCARD,
    "Total": CgroupInfo.Blkio.TOTAL,
}
_SCHEDULERS: Final = ("blkio", "blkio.bfq")
_NUMBERS: Final = ("sectors", "time")
_TABLES: Final = (
    *("io_serviced", "io_service_bytes", "io_service_time"),
    *("io_wait_time", "io_merged", "io_queued"),
)
_V2: Final = {
    "io_serviced": (("rios", "Read"), ("wios", "Write"), ("dios", "Discard")),
    "io_service_bytes": (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")),
}


def read_v1(path: str) -> Statistics:
    """Return what the files of a group of version 1 say; nothing where there is no such group."""
    found = Statistics()
    try:
        there = frozenset(os.listdir(path))
    except OSError:
        return found
    throttled = _Entries(found.throttling)
    for name in ("io_serviced", "io_service_bytes"):
        throttled.add(name, attempt(read, f"{path}/blkio.throttle.{name}"))
    for end, kind in (("", found.cfq), ("_recursive", found.cfq_recursive)):
        scheduled = _Entries(kind)
        for name in (*_NUMBERS, *_TABLES):
            for scheduler in _SCHEDULERS:
                file = f"{scheduler}.{name}{end}"
                if file in there:
                    scheduled.add(name, attempt(read, f"{path}/{file}"))
                    break
        scheduled.finish()
    throttled.finish()
    return found


def read_v2(path: str) -> Statistics:
    """Return what a group of version 2 has; nothing where there is no such group."""
    found = Statistics()
    entries = _Entries(found.throttling)
    totals = dict.fromkeys(_V2, 0)
    for line in attempt(read, f"{path}/io.stat").splitlines():
        first, *words = line.split()
        device = _device(first)
        counted = dict(word.split("=", 1) for word in words if "=" in word)
        if device is None or not counted:
            continue
        for name, columns in _V2.items():
            values = [(word, int(counted.get(column, 0))) for column, word in columns]
            total = sum(value for _, value in values)
            totals[name] += total
            for word, value in (*values, ("Total", total)):
                entries.value(name, device, word, value)
    if entries.known:
        for name, total in totals.items():
            entries.value(name, None, "Total", total)
    return found


class _Entries:
    """The entries of one kind: one for each device, and the last for all together."""

    def __init__(self, entries: Any) -> None:
        self.known: dict[_Device, Any] = {}
        self._entries = entries

    def add(self, name: str, text: str) -> None:
        """Add what one file says."""
        for device, word, value in _lines(text):
            if name in _NUMBERS:
                setattr(self._entry(device), name, value)
            else:
                self.value(name, device, word, value)

    def value(self, name: str, device: _Device, word: str, value: int) -> None:
        operation = _OPERATIONS.get(word, CgroupInfo.Blkio.UNKNOWN)
        getattr(self._entry(device), name).add(op=operation, value=value)

    def finish(self) -> None:
        """Put the one for all devices to the end."""
        self._entries.sort(key=lambda entry: not entry.HasField("device"))

    def _entry(self, device: _Device) -> Any:
        entry = self.known.get(device)
        if entry is None:
            entry = self.known[device] = self._entries.add()
            if device is not None:
                entry.device.major_number, entry.device.minor_number = device
        return entry


def _lines(text: str) -> Iterator[tuple[_Device, str, int]]:
    for line in text.splitlines():
        words = line.split()
        if not words or not words[-1].isdecimal():
            continue
        device = _device(words[0])
        word = words[-2] if len(words) > (1 if device is None else 2) else ""
        yield device, word, int(words[-1])


def _device(word: str) -> _Device:
    major, colon, minor = word.partition(":")
    return (int(major), int(minor)) if colon and (major + minor).isdecimal() else None
