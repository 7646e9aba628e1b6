"""What several containers use together, as far as that is no number: C{blkio_statistics}, C{perf}.

The others of these (C{disk_statistics} ...) stand one after the other.
"""

from collections.abc import Iterable
from typing import Any, Final

from mesoskit.messages.mesos_pb2 import CgroupInfo, PerfStatistics, ResourceStatistics

_NO_COUNTS: Final = ("timestamp", "duration")
_KINDS: Final = ("cfq", "cfq_recursive", "throttling")


def together(parts: Iterable[bytes]) -> ResourceStatistics:
    """Return the sum of some C{Usage.parts}, without the timestamp that it has to have."""
    found = [ResourceStatistics.FromString(part) for part in parts if part]
    if len(found) == 1:
        return found[0]
    whole = ResourceStatistics()
    disks = CgroupInfo.Blkio.Statistics()
    counts = PerfStatistics()
    for one in found:
        _add_disks(disks, one.blkio_statistics)
        if one.HasField("perf"):
            _add_counts(counts, one.perf)
        one.ClearField("blkio_statistics")
        one.ClearField("perf")
        whole.MergeFrom(one)
    if disks.ByteSize():
        whole.blkio_statistics.CopyFrom(disks)
    if counts.ListFields():
        whole.perf.CopyFrom(counts)
    return whole


def _add_counts(total: PerfStatistics, one: PerfStatistics) -> None:
    for field, value in one.ListFields():
        before = getattr(total, field.name)
        # They are counted one after the other, where they are many.
        after = max(before, value) if field.name in _NO_COUNTS else before + value
        setattr(total, field.name, after)


def _add_disks(total: CgroupInfo.Blkio.Statistics, one: CgroupInfo.Blkio.Statistics) -> None:
    for kind in _KINDS:
        entries = getattr(total, kind)
        known = {_device(entry): entry for entry in entries}
        for entry in getattr(one, kind):
            device = _device(entry)
            if device in known:
                _add(known[device], entry)
            else:
                entries.add().CopyFrom(entry)
        entries.sort(key=lambda entry: not entry.HasField("device"))


def _device(entry: Any) -> tuple[int, int] | None:
    if not entry.HasField("device"):
        return None
    return entry.device.major_number, entry.device.minor_number


def _add(total: Any, one: Any) -> None:
    for field, value in one.ListFields():
        if field.name == "device":
            continue
        if isinstance(value, int):
            setattr(total, field.name, getattr(total, field.name) + value)
            continue
        values = getattr(total, field.name)
        known = {each.op: each for each in values}
        for each in value:
            if each.op in known:
                known[each.op].value += each.value
            else:
                values.add().CopyFrom(each)
