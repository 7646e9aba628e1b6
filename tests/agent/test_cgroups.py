"""Cgroups of both versions, held to one suite: the machine's own, and a tree in their place."""

from __future__ import annotations

import os
import select
import subprocess
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any
from unittest import skipIf, skipUnless

from mesoskit.agent.containers import cgroups_v2, device_program
from mesoskit.agent.containers.cgroups import (
    CPU,
    DEVICES,
    MEMORY,
    NET_CLS,
    NET_PRIO,
    PIDS,
    PRESSURE_LEVELS,
    CgroupError,
    Cgroups,
    Made,
    find,
)
from mesoskit.agent.containers.cgroups_v1 import CgroupsV1
from mesoskit.agent.containers.cgroups_v2 import CgroupsV2
from mesoskit.agent.launcher_cgroups import kill_all, pids_in
from tests.agent.cgroup_tree import Tree
from tests.agent.test_cgroup_hosts import eventually, need_programs, unified
from tests.base import SynchronousTestCase

MB = 1 << 20
ALL = (CPU, MEMORY, PIDS)
NUMBERS = count()
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")
version_1 = skipUnless(os.path.isdir("/sys/fs/cgroup/freezer"), "no cgroups of version 1")


class CoreContract:
    """
    What needs no controller. A subclass says of what, as a C{TestCase}.

    @ivar controllers: under which groups are made.
    """

    controllers: tuple[str, ...] = ()
    assertEqual: Any
    assertIn: Any
    assertTrue: Any
    assertGreater: Any
    assertRaises: Any
    addCleanup: Any
    groups: Cgroups

    def test_there_is_what_was_made_until_it_is_removed(self) -> None:
        made = self.groups.make("a", self.controllers)
        self.assertIn(made.kill, made.join)
        for path in made.join:
            self.assertTrue(os.path.isdir(path))
        self.assertEqual(self.groups.make("a", self.controllers), made)
        self.groups.make("b", ())
        self.assertEqual(self.groups.names(), ["a", "b"])
        self.assertTrue(self.groups.remove("a"))
        self.assertTrue(self.groups.remove("a"))
        self.assertEqual(self.groups.names(), ["b"])
        self.assertEqual(pids_in(made.kill), [])

    def test_what_is_nested_goes_with_what_it_is_in(self) -> None:
        self.groups.make("a", self.controllers)
        inner = self.groups.make("a/mesos/b", ())
        self.assertEqual(self.groups.names(), ["a"])
        self.assertTrue(self.groups.remove("a"))
        self.assertEqual(os.path.exists(inner.kill), False)

    def test_groups_below_that_of_a_pod_have_controllers_too(self) -> None:
        pod = self.groups.make("a", self.controllers, True)
        self.assertEqual(self.groups.make("a", self.controllers, True), pod)
        inner = self.groups.make("a/mesos/b", self.controllers)
        for path in (*pod.join, *inner.join):
            self.assertTrue(os.path.isdir(path))
        self.assertTrue(inner.kill.startswith(pod.kill + "/"))
        self.assertEqual(self.groups.names(), ["a"])
        self.assertTrue(self.groups.remove("a"))

    def test_controllers_that_are_not_there_are_refused_by_name(self) -> None:
        error = self.assertRaises(CgroupError, self.groups.make, "a", ["perf"])
        self.assertIn("perf", str(error))


class DevicesContract(CoreContract):
    """What the kernel lets processes use."""

    def need_devices(self) -> None:
        """Skip a test where the kernel does not hold devices."""
        if self.groups.version == 2:
            need_programs(self)

    def seen(self, made: Made) -> list[str]:
        """Return which devices a process finds that joins these groups."""
        join = "; ".join(f"echo $$ > {path}/cgroup.procs" for path in made.join)
        tries = (
            f"true {at} 2>&3 && echo '{at}'"
            for at in ("< /dev/null", "< /dev/zero", "> /dev/zero", "< /dev/full")
        )
        command = f"exec 3> /dev/null; {join}; {'; '.join(tries)}; true"
        found = subprocess.run(
            ["/bin/sh", "-c", command], check=True, capture_output=True, text=True
        )
        return found.stdout.splitlines()

    def test_a_process_may_use_the_devices_that_were_said_and_no_others(self) -> None:
        self.need_devices()
        made = self.groups.make("a", [DEVICES])
        self.groups.devices("a", ["c 1:3 rwm", "c 1:5 r"])
        self.assertEqual(self.seen(made), ["< /dev/null", "< /dev/zero"])
        self.groups.devices("a", ["c *:* rw"])
        self.assertEqual(len(self.seen(made)), 4)
        self.groups.devices("a", [])
        inner = self.groups.make("a/mesos/b", [DEVICES])
        self.assertEqual(self.seen(made), [])
        self.assertEqual(self.seen(inner), [])
        self.assertTrue(eventually(lambda: self.groups.remove("a")))

    def test_what_is_no_device_is_refused(self) -> None:
        self.need_devices()
        self.groups.make("a", [DEVICES])
        error = self.assertRaises(CgroupError, self.groups.devices, "a", ["d 1:3 rwm"])
        self.assertIn("d 1:3 rwm", str(error))


class CgroupsContract(CoreContract):
    """All tests."""

    controllers = ALL

    def test_memory_is_limited_and_its_limit_never_lowered(self) -> None:
        groups = self.groups
        groups.make("a", ALL)
        self.assertEqual(groups.memory_limit("a"), None)
        for soft, hard, expected in (
            (32 * MB, 64 * MB, 64 * MB),
            (16 * MB, 32 * MB, 64 * MB),
            (16 * MB, 128 * MB, 128 * MB),
            (16 * MB, None, None),
        ):
            groups.memory("a", soft, hard, False)
            self.assertEqual(groups.memory_limit("a"), expected)
            figures = groups.statistics("a")
            self.assertEqual(figures.get("mem_limit_bytes"), expected)
            self.assertEqual(figures["mem_soft_limit_bytes"], soft)

    def test_a_pod_and_what_is_in_it_are_limited_each(self) -> None:
        groups = self.groups
        groups.make("a", ALL, True)
        groups.make("a/mesos/b", ALL)
        groups.memory("a", 128 * MB, 128 * MB, False)
        groups.memory("a/mesos/b", 32 * MB, 64 * MB, False)
        self.assertEqual(groups.memory_limit("a"), 128 * MB)
        self.assertEqual(groups.memory_limit("a/mesos/b"), 64 * MB)
        groups.quota("a", 2000)
        groups.quota("a/mesos/b", 500)
        groups.most_pids("a/mesos/b", 7)
        for name in ("a", "a/mesos/b"):
            self.assertEqual(groups.was_full(name), False)
            self.assertEqual(groups.killed_for_memory(name, True), 0)

    def test_memory_and_swap_are_limited_together(self) -> None:
        self.groups.make("a", ALL)
        for limit in (64 * MB, 128 * MB):
            self.groups.memory("a", limit, limit, True)
            self.assertEqual(self.groups.memory_limit("a"), limit)

    def test_nothing_was_killed_in_a_new_group(self) -> None:
        self.groups.make("a", ALL)
        self.assertEqual(self.groups.killed_for_memory("a"), 0)
        self.assertGreater(self.groups.memory_peak("a") + 1, 0)
        self.assertIn("file", self.groups.memory_text("a"))
        descriptor = self.groups.watch_memory("a")
        self.addCleanup(os.close, descriptor)
        self.assertEqual(select.select([descriptor], [], [], 0)[0], [])

    def test_how_scarce_memory_is_can_be_counted_where_the_kernel_tells(self) -> None:
        self.groups.make("a", ALL)
        found = self.groups.watch_pressure("a")
        for descriptor in found.values():
            self.addCleanup(os.close, descriptor)
            self.assertRaises(BlockingIOError, os.read, descriptor, 8)
        self.assertEqual(list(found), list(PRESSURE_LEVELS) if self.groups.version == 1 else [])

    def test_shares_and_quotas_of_any_size_are_taken(self) -> None:
        self.groups.make("a", ALL)
        for cpus in (0, 1, 500, 1000, 128_000, 10_000_000):
            self.groups.share("a", cpus)
            self.groups.quota("a", cpus)
        self.groups.quota("a", None)
        self.groups.most_pids("a", 7)

    def test_figures_have_the_names_of_mesos(self) -> None:
        self.groups.make("a", ALL)
        figures = self.groups.statistics("a")
        for name in (
            *("cpus_user_time_secs", "cpus_system_time_secs", "mem_rss_bytes", "mem_anon_bytes"),
            *("mem_file_bytes", "mem_cache_bytes", "mem_mapped_file_bytes", "mem_total_bytes"),
        ):
            self.assertIn(name, figures)
        self.assertEqual(self.groups.statistics("nobody").get("mem_total_bytes"), None)

    def test_what_is_not_there_is_refused_with_its_name(self) -> None:
        for ask in (self.groups.memory_limit, self.groups.memory_text, self.groups.watch_memory):
            self.assertIn("nobody", str(self.assertRaises(CgroupError, ask, "nobody")))


@not_root
@version_1
class Version1Tests(CgroupsContract, DevicesContract, SynchronousTestCase):
    """Those of the machine."""

    def setUp(self) -> None:
        self.groups = find("/sys/fs/cgroup", f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}")
        self.addCleanup(eventually, lambda: self.groups.remove(""))

    def test_it_is_version_1(self) -> None:
        self.assertIsInstance(self.groups, CgroupsV1)

    def test_devices(self) -> None:
        made = self.groups.make("a", [DEVICES])
        self.groups.devices("a", ["c 1:3 rwm"])
        (path,) = (path for path in made.join if "devices" in path)
        self.assertEqual(Path(path, "devices.list").read_text(), "c 1:3 rwm\n")

    def test_cpus_and_nodes_are_those_of_the_group_above(self) -> None:
        made = self.groups.make("a", ["cpuset"])
        (path,) = (path for path in made.join if "cpuset" in path)
        self.assertNotEqual(Path(path, "cpuset.cpus").read_text().strip(), "")


class Version2Tests(CgroupsContract, SynchronousTestCase):
    """A tree that stands for them."""

    def setUp(self) -> None:
        self.tree = Tree(self.mktemp())
        for name in ("make_directory", "remove_directory", "write"):
            self.patch(cgroups_v2, name, getattr(self.tree, name))
        self.groups = CgroupsV2(self.tree.root, "mesos")

    def test_controllers_are_handed_on_to_containers_and_not_further(self) -> None:
        self.groups.make("a", ALL)
        self.assertEqual(self.tree.read("", "cgroup.subtree_control"), "cpu memory pids")
        self.assertEqual(self.tree.read("mesos", "cgroup.subtree_control"), "cpu memory pids")
        self.assertEqual(self.tree.read("mesos/a", "cgroup.subtree_control"), "")
        Path(self.tree.root, "mesos", "a", "cgroup.procs").write_text("77\n")
        self.groups.make("a/mesos/b", ())
        self.groups.make("c", ["cpuset"])
        self.assertEqual(
            self.tree.read("mesos", "cgroup.subtree_control"), "cpu memory pids cpuset"
        )

    def test_numbers(self) -> None:
        groups = self.groups
        groups.make("a", ALL)
        groups.share("a", 1000)
        groups.quota("a", 500)
        groups.memory("a", 32 * MB, 64 * MB, True)
        groups.most_pids("a", 9)
        written = {
            name: self.tree.read("mesos/a", name)
            for name in ("cpu.weight", "cpu.max", "memory.low", "memory.swap.max", "pids.max")
        }
        expected = {
            "cpu.weight": "39",
            "cpu.max": "50000 100000",
            "memory.low": str(32 * MB),
            "memory.swap.max": "0",
            "pids.max": "9",
        }
        self.assertEqual(written, expected)
        self.assertEqual(groups.statistics("a")["cpus_throttled_time_secs"], 0.25)

    def test_what_was_killed_is_told_and_counted(self) -> None:
        self.groups.make("a", ALL)
        descriptor = self.groups.watch_memory("a")
        self.addCleanup(os.close, descriptor)
        Path(self.tree.root, "mesos/a/memory.events").write_text("oom 1\noom_kill 2\n")
        self.assertEqual(select.select([descriptor], [], [], 0)[0], [descriptor])
        self.assertEqual(self.groups.killed_for_memory("a", True), 2)
        own = Path(self.tree.root, "mesos/a/memory.events.local")
        own.write_text("oom 0\noom_kill 1\n")
        self.assertEqual(self.groups.killed_for_memory("a"), 1)
        own.unlink()  # before Linux 5.2
        self.assertEqual(self.groups.killed_for_memory("a"), 2)

    def test_what_is_nested_is_held_by_itself_and_what_it_is_in_makes_room(self) -> None:
        made = self.groups.make("a", ALL)
        for pid in (77, 78):
            self.tree.write(f"{made.kill}/cgroup.procs", pid)
        inner = self.groups.make("a/mesos/b", ALL)
        self.groups.share("a/mesos/b", 100)
        self.groups.memory("a/mesos/b", MB, MB, False)
        self.assertEqual(self.tree.read("mesos/a", "cgroup.procs"), "")
        self.assertEqual(self.tree.read("mesos/a/leaf", "cgroup.procs").split(), ["77", "78"])
        self.tree.write(f"{inner.kill}/cgroup.procs", 79)
        self.assertEqual(sorted(pids_in(made.kill)), [77, 78, 79])
        Path(self.tree.root, "mesos/a/leaf/memory.events.local").write_text("oom_kill 1\n")
        self.assertEqual(self.groups.killed_for_memory("a"), 1)
        self.assertEqual(self.groups.killed_for_memory("a/mesos/b"), 0)

    def test_who_had_no_more_is_known_among_those_who_are_in_each_other(self) -> None:
        self.groups.make("a", ALL, True)
        self.groups.make("a/mesos/b", ALL)
        below = Path(self.tree.root, "mesos/a/mesos/b")
        for path, events in ((below, "oom 1\noom_kill 1\n"), (below.parent.parent, "oom 0\n")):
            (path / "memory.events").write_text("oom 1\noom_kill 1\n")
            (path / "memory.events.local").write_text(events)
        self.assertEqual(self.groups.was_full("a/mesos/b"), True)
        self.assertEqual(self.groups.was_full("a"), False)
        (below / "memory.events.local").unlink()  # before Linux 5.2
        self.assertEqual(self.groups.was_full("a/mesos/b"), True)

    def test_the_processes_of_a_pod_are_beside_those_of_its_tasks(self) -> None:
        pod = self.groups.make("a", ALL, True)
        self.assertEqual(pod.join, (f"{self.tree.root}/mesos/a/leaf",))
        for group in ("mesos/a", "mesos/a/mesos"):
            self.assertEqual(self.tree.read(group, "cgroup.subtree_control"), "cpu memory pids")
        for path in (*pod.join, *self.groups.make("a/mesos/b", ALL).join):
            self.tree.write(f"{path}/cgroup.procs", 77)
        self.assertRaises(CgroupError, self.tree.write, f"{pod.kill}/cgroup.procs", 77)

    def test_the_kernel_kills_all_of_a_group(self) -> None:
        made = self.groups.make("a", ())
        kill_all(made.kill)
        self.assertEqual(self.tree.read("mesos/a", "cgroup.kill"), "1")

    def test_kernels_that_take_no_program_for_devices(self) -> None:
        self.patch(device_program, "wrong", lambda: "Operation not permitted")
        groups = CgroupsV2(self.tree.root, "mesos")
        self.assertNotIn(DEVICES, groups.controllers)
        error = self.assertRaises(CgroupError, groups.make, "a", [DEVICES])
        self.assertIn("takes no programs for devices", str(error))
        self.assertIn("Operation not permitted", str(error))

    def test_controllers_of_version_1_are_refused_with_what_is_in_their_place(self) -> None:
        for controller in (NET_CLS, NET_PRIO):
            error = self.assertRaises(CgroupError, self.groups.make, "a", [controller])
            self.assertIn("nft: socket cgroupv2", str(error))
        self.assertRaises(CgroupError, self.groups.classify, "a", 1)
        self.assertRaises(CgroupError, self.groups.class_of, "a")

    def test_a_group_that_holds_processes_stays(self) -> None:
        self.groups.make("a", ())
        Path(self.tree.root, "mesos/a/cgroup.procs").write_text("77\n")
        self.assertEqual(self.groups.remove("a"), False)

    def test_an_older_kernel_without_peak(self) -> None:
        self.groups.make("a", ALL)
        os.unlink(Path(self.tree.root, "mesos/a/memory.peak"))
        self.assertEqual(self.groups.memory_peak("a"), 8192)


@not_root
class KernelVersion2Tests(DevicesContract, SynchronousTestCase):
    """Those of the machine, as far as it has controllers."""

    def setUp(self) -> None:
        root = f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}"
        self.groups = find(unified(self), root)
        self.addCleanup(eventually, lambda: self.groups.remove(""))

    def test_it_is_version_2(self) -> None:
        self.assertIsInstance(self.groups, CgroupsV2)

    def test_all_that_is_in_a_group_and_below_is_killed(self) -> None:
        made = self.groups.make("a", ())
        inner = self.groups.make("a/mesos/b", ())
        started = []
        for path in (made.kill, inner.kill):
            started.append(subprocess.Popen(["sleep", "1000"]))
            Path(path, "cgroup.procs").write_text(str(started[-1].pid))
        self.assertEqual(set(pids_in(made.kill)), {one.pid for one in started})
        self.assertEqual(self.groups.remove("a"), False)
        kill_all(made.kill)
        self.assertEqual([one.wait() for one in started], [-SIGKILL, -SIGKILL])
        self.assertTrue(eventually(lambda: not pids_in(made.kill)))
        self.assertTrue(eventually(lambda: self.groups.remove("a")))

    def test_time_is_counted_without_a_controller(self) -> None:
        made = self.groups.make("a", ())
        busy = (
            f"echo $$ > {made.kill}/cgroup.procs; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
        )
        subprocess.run(["/bin/sh", "-c", busy], check=True)
        self.assertGreater(self.groups.statistics("a")["cpus_user_time_secs"], 0)
        self.assertEqual(self.groups.io("a"), None)


class FindTests(SynchronousTestCase):
    """Which version a machine has."""

    def found(self, *lines: str) -> Cgroups:
        path = self.mktemp()
        Path(path).write_text("".join(f"{line}\n" for line in lines))
        return find("/c", "mesos", path)

    def test_version_2_where_it_is_mounted_itself(self) -> None:
        self.assertIsInstance(self.found("cgroup2 /c cgroup2 rw 0 0"), CgroupsV2)

    def test_version_1_where_both_are(self) -> None:
        found = self.found(
            "tmpfs /c tmpfs rw 0 0",
            "cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0",
            "cgroup /c/freezer cgroup rw,freezer 0 0",
            "cgroup /c/systemd cgroup rw,name=systemd 0 0",
            "cgroup2 /c/unified cgroup2 rw 0 0",
        )
        assert isinstance(found, CgroupsV1)
        self.assertEqual(found.controllers, {"cpu"})
        self.assertEqual(set(found.mounts), {"cpu", "cpuacct", "freezer"})

    def test_none_elsewhere(self) -> None:
        for lines in (
            (),
            ("cgroup2 /elsewhere cgroup2 rw 0 0",),
            ("cgroup /c/cpu cgroup rw,cpu 0 0",),
        ):
            error = self.assertRaises(CgroupError, self.found, *lines)
            self.assertIn("--cgroups_hierarchy", str(error))
        self.assertRaises(CgroupError, find, "/c", "mesos", "/nowhere")
