"""What containers use together that is no number."""

from __future__ import annotations

from mesoskit.agent.parts import together
from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import CgroupInfo, PerfStatistics, ResourceStatistics
from tests.base import SynchronousTestCase

Blkio = CgroupInfo.Blkio


def disks(**written: int) -> bytes:
    """Return parts in which so many bytes were written to C{8:0}, C{8:1} ..."""
    found = ResourceStatistics()
    for name, value in written.items():
        entry = found.blkio_statistics.throttling.add()
        if name != "total":
            entry.device.major_number, entry.device.minor_number = 8, int(name[1:])
        entry.io_service_bytes.add(op=Blkio.WRITE, value=value)
    return found.SerializePartialToString()


def counts(**counted: float) -> bytes:
    """Return parts with counts of events."""
    found = ResourceStatistics(perf=PerfStatistics(timestamp=1.0, duration=2.0, **counted))  # type: ignore[arg-type]
    return found.SerializePartialToString()


class TogetherTests(SynchronousTestCase):
    """Sums."""

    def test_devices(self) -> None:
        whole = together([disks(d0=1, total=1), b"", disks(d1=5, d0=2, total=7)])
        shown = codec.to_dict(whole.blkio_statistics)["throttling"]
        self.assertEqual(
            [
                (one.get("device", {}).get("minor_number"), one["io_service_bytes"][0]["value"])
                for one in shown
            ],
            [(0, 3), (1, 5), (None, 8)],
        )

    def test_operations_and_numbers(self) -> None:
        one, two = ResourceStatistics(), ResourceStatistics()
        for each, name in ((one, Blkio.READ), (two, Blkio.SYNC)):
            entry = each.blkio_statistics.cfq.add(time=5)
            entry.io_queued.add(op=name, value=1)
        (entry,) = together(
            [one.SerializePartialToString(), two.SerializePartialToString()]
        ).blkio_statistics.cfq
        self.assertEqual(entry.time, 10)
        self.assertEqual([each.op for each in entry.io_queued], [Blkio.READ, Blkio.SYNC])

    def test_events(self) -> None:
        perf = together([counts(cycles=3), disks(d0=1), counts(cycles=4, task_clock=0.5)]).perf
        self.assertEqual((perf.timestamp, perf.duration), (1.0, 2.0))
        self.assertEqual((perf.cycles, perf.task_clock), (7, 0.5))

    def test_what_there_is_one_of_is_left_as_it_is(self) -> None:
        self.assertEqual(together([counts(cycles=3)]).SerializePartialToString(), counts(cycles=3))
        self.assertEqual(together([]).ListFields(), [])
