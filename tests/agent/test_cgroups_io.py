"""What cgroups count of block devices: files as kernels write them, and this machine's."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any
from unittest import skipIf, skipUnless

from mesoskit.agent.containers.cgroups import IO, find
from mesoskit.agent.containers.cgroups_io import Version1, read_v2
from mesoskit.messages import codec
from tests.agent.test_cgroup_hosts import eventually
from tests.base import SynchronousTestCase

NUMBERS = count()
THROTTLED = """\
8:0 Read 4096
8:0 Write 8192
8:0 Sync 12288
8:0 Async 0
8:0 Discard 0
8:0 Total 12288
254:16 Read 1
254:16 Total 1
Total 12289
"""
IO_STAT = """\
8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0
254:0 
252:1 rbytes=1 wbytes=0 rios=1 wios=0 dbytes=512 dios=3 cost.usage=7
"""  # noqa: W291


def values(entry: dict[str, Any], name: str) -> dict[str, int]:
    """Return the values of an entry, by operation."""
    return {one["op"]: one["value"] for one in entry[name]}


class FileTests(SynchronousTestCase):
    """What files say."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        os.mkdir(self.path)

    def write(self, name: str, text: str) -> None:
        Path(self.path, name).write_text(text)

    def test_version_1(self) -> None:
        self.write("blkio.throttle.io_service_bytes", THROTTLED)
        self.write("blkio.throttle.io_serviced", "8:0 Read 1\n8:0 Total 1\nTotal 1\n")
        shown = codec.to_dict(Version1().read(self.path))
        self.assertEqual(set(shown), {"throttling"})
        disk, other, total = shown["throttling"]
        self.assertEqual(disk["device"], {"major_number": 8, "minor_number": 0})
        self.assertEqual(other["device"], {"major_number": 254, "minor_number": 16})
        self.assertEqual(
            values(disk, "io_service_bytes"),
            {"READ": 4096, "WRITE": 8192, "SYNC": 12288, "ASYNC": 0, "DISCARD": 0, "TOTAL": 12288},
        )
        self.assertEqual(values(disk, "io_serviced"), {"READ": 1, "TOTAL": 1})
        self.assertNotIn("device", total)
        self.assertEqual(values(total, "io_service_bytes"), {"TOTAL": 12289})

    def test_schedulers_of_version_1(self) -> None:
        self.write("blkio.time", "8:0 120\n")
        self.write("blkio.sectors_recursive", "8:0 24\n")
        self.write("blkio.io_queued", "8:0 Read 2\n8:0 Total 2\nTotal 2\n")
        self.write("blkio.bfq.io_serviced", "8:0 Write 3\nTotal 3\n")
        shown = codec.to_dict(Version1().read(self.path))
        disk, total = shown["cfq"]
        self.assertEqual(disk["time"], 120)
        self.assertEqual(values(disk, "io_queued"), {"READ": 2, "TOTAL": 2})
        self.assertEqual(values(disk, "io_serviced"), {"WRITE": 3})
        self.assertEqual(values(total, "io_serviced"), {"TOTAL": 3})
        self.assertEqual(shown["cfq_recursive"][0]["sectors"], 24)

    def test_what_nothing_was_done_in_is_the_same_always(self) -> None:
        nothing = "Total 0\n"
        for name in ("throttle.io_serviced", "throttle.io_service_bytes", "bfq.io_serviced"):
            self.write(f"blkio.{name}", nothing)
        self.write("blkio.bfq.io_serviced_recursive", nothing)
        reading = Version1()
        shown = codec.to_dict(reading.read(self.path))
        total = [{"op": "TOTAL", "value": 0}]
        expected = {"io_serviced": total, "io_service_bytes": total}
        self.assertEqual(shown, {"throttling": [expected]})
        self.assertIs(reading.read(self.path), reading.read(self.path))
        self.write("blkio.bfq.io_serviced", "8:0 Read 1\nTotal 1\n")
        self.write("blkio.bfq.io_serviced_recursive", "8:0 Read 1\nTotal 1\n")
        shown = codec.to_dict(reading.read(self.path))
        self.assertEqual(values(shown["cfq_recursive"][1], "io_serviced"), {"TOTAL": 1})
        self.assertEqual(values(shown["throttling"][0], "io_serviced"), {"TOTAL": 0})

    def test_version_2(self) -> None:
        self.write("io.stat", IO_STAT)
        disk, other, total = codec.to_dict(read_v2(self.path))["throttling"]
        self.assertEqual(
            values(disk, "io_service_bytes"),
            {"READ": 4096, "WRITE": 8192, "DISCARD": 0, "TOTAL": 12288},
        )
        self.assertEqual(
            values(other, "io_serviced"), {"READ": 1, "WRITE": 0, "DISCARD": 3, "TOTAL": 4}
        )
        self.assertEqual(values(total, "io_service_bytes"), {"TOTAL": 12288 + 513})
        self.assertEqual(values(total, "io_serviced"), {"TOTAL": 7})

    def test_nothing_where_nothing_is(self) -> None:
        for reading in (Version1().read, read_v2):
            self.assertEqual(reading("/nowhere").ByteSize(), 0)
            self.assertEqual(reading(self.path).ByteSize(), 0)


@skipIf(os.geteuid() != 0, "only root can make cgroups")
@skipUnless(os.path.isdir("/sys/fs/cgroup/blkio"), "no cgroups of version 1")
class KernelTests(SynchronousTestCase):
    """What this machine counts."""

    def test_what_is_written_is_counted(self) -> None:
        groups = find("/sys/fs/cgroup", f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}")
        self.addCleanup(eventually, lambda: groups.remove(""))
        made = groups.make("a", [IO])
        (path,) = (path for path in made.join if "blkio" in path)
        file = os.path.abspath(self.mktemp())
        Path(file).touch()
        device = os.stat(file).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        if not os.path.exists(f"/sys/dev/block/{number}"):
            self.skipTest("temporary files are on no block device")
        # Kernels of today count in version 1 from the first limit on a device on.
        limit = (1 << 63) - 1
        Path(path, "blkio.throttle.write_bps_device").write_text(f"{number} {limit}")
        writing = (
            f"echo $$ > {path}/cgroup.procs; dd if=/dev/zero of={file} bs=65536 count=4 conv=fsync"
        )
        subprocess.run(["/bin/sh", "-c", writing], check=True, capture_output=True)
        counted = groups.io("a")
        assert counted is not None
        (disk,) = (
            one
            for one in codec.to_dict(counted)["throttling"]
            if one.get("device")
            == {"major_number": os.major(device), "minor_number": os.minor(device)}
        )
        self.assertGreaterEqual(values(disk, "io_service_bytes")["WRITE"], 4 * 65536)
        self.assertGreaterEqual(values(disk, "io_serviced")["TOTAL"], 1)
