"""What a cgroup counts of block devices, as Mesos shows it (C{CgroupInfo.Blkio}).

Version 1 has a file a figure, C{blkio.*}, each with lines such as C{8:0 Read 4096}. Those of the
schedulers are there where that one schedules: CFQ's until Linux 5.0, then BFQ's, which count the
same. Version 2 has C{io.stat}, with a line a device: C{8:0 rbytes=4096 wbytes=0 rios=1 ...}
"""

import os
from collections.abc import Callable, Iterator
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
_NOTHING: Final = "Total 0\n"
_V2: Final = {
    "io_serviced": (("rios", "Read"), ("wios", "Write"), ("dios", "Discard")),
    "io_service_bytes": (("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")),
}


class Version1:
    """
    Reads what groups of version 1 count, each of which has the same files.

    Most count nothing most of the time: that is found out from three files, and is the same message
    always, which nobody may change.
    """

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._signs: list[str] = []
        self._nothing = Statistics()

    def read(self, path: str) -> Statistics:
        """Return what the files of a group say; nothing where there is no such group."""
        if not self._files and not self._look(path):
            return Statistics()
        first = {name: attempt(read, f"{path}/{self._files[name]}") for name in self._signs}
        if first and all(text == _NOTHING for text in first.values()):
            return self._nothing
        return self._build(
            lambda name, file: first[name] if name in first else attempt(read, f"{path}/{file}")
        )

    def _look(self, path: str) -> bool:
        """Find out which files there are; say whether there are any."""
        try:
            there = frozenset(os.listdir(path))
        except OSError:
            return False
        for name in _TABLES[:2]:
            if f"blkio.throttle.{name}" in there:
                self._files[f"throttle.{name}"] = f"blkio.throttle.{name}"
        for name in (*_NUMBERS, *_TABLES):
            for end in ("", "_recursive"):
                for scheduler in _SCHEDULERS:
                    if f"{scheduler}.{name}{end}" in there:
                        self._files[name + end] = f"{scheduler}.{name}{end}"
                        break
        # Where nothing was done at all, in the group or below, all others say so, too.
        wanted = ["throttle.io_serviced", "throttle.io_service_bytes"]
        if len(self._files) > len(wanted):
            wanted.append("io_serviced_recursive")
        if all(name in self._files for name in wanted):
            self._signs = wanted
        # Mesos knows nothing of BFQ: it is shown where there is something to show.
        self._nothing = self._build(
            lambda name, file: "" if name.startswith(_NUMBERS) or ".bfq." in file else _NOTHING
        )
        return bool(self._files)

    def _build(self, text_of: Callable[[str, str], str]) -> Statistics:
        found = Statistics()
        throttled, own = _Entries(found.throttling), _Entries(found.cfq)
        recursive = _Entries(found.cfq_recursive)
        for name, file in self._files.items():
            plain = name.removesuffix("_recursive")
            text = text_of(name, file)
            if name.startswith("throttle."):
                throttled.add(name.removeprefix("throttle."), text)
            elif plain == name:
                own.add(name, text)
            else:
                recursive.add(plain, text)
        for entries in (throttled, own, recursive):
            entries.finish()
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
