"""The tree that stands for cgroups of version 2, held to what the machine's kernel does."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest import skipIf

from mesoskit.agent.containers import cgroups, device_program
from mesoskit.agent.containers.cgroups import CgroupError
from tests.agent.cgroup_tree import CONTROLLERS, CORE, READ_ONLY, Tree
from tests.base import SynchronousTestCase

NUMBERS = count()
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")


def unified(test: Any) -> str:
    """Return where version 2 is mounted; where it is not, mount it for a test."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return str(words[1])
    path = str(os.path.abspath(test.mktemp()))
    os.mkdir(path)
    subprocess.run(["mount", "-t", "cgroup2", "none", path], check=True)
    test.addCleanup(subprocess.run, ["umount", path], check=True)
    return path


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """
    Wait until a kernel has done what it does in its own time; say whether it has.

    What has ended may be in its cgroup for a moment longer.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def need_programs(test: Any) -> None:
    """Skip a test where version 2 cannot hold devices."""
    why = device_program.wrong()
    if why:
        test.skipTest(f"the kernel takes no programs for devices: {why}")


class HostContract:
    """
    The tests. A subclass says of what, as a C{TestCase}.

    @ivar path: a group in which all happens; its own is handed C{hugetlb}.
    """

    assertEqual: Any
    assertIn: Any
    assertTrue: Any
    path: str

    def make(self, path: str) -> None:
        raise NotImplementedError

    def set(self, path: str, value: str) -> None:
        raise NotImplementedError

    def remove(self, path: str) -> bool:
        raise NotImplementedError

    def process(self) -> int:
        raise NotImplementedError

    def tried(self, path: str, value: object) -> str:
        """Return what is said to something that is written; empty: it is taken."""
        try:
            self.set(f"{self.path}/{path}", str(value))
        except CgroupError as error:
            return str(error).rpartition(": ")[2]
        return ""

    def read(self, path: str) -> str:
        return Path(self.path, path).read_text().strip()

    def made(self, *names: str) -> None:
        for name in names:
            self.make(f"{self.path}/{name}")

    def test_files(self) -> None:
        self.made("a")
        there = set(os.listdir(f"{self.path}/a"))
        self.assertEqual(CORE.keys() - there, set())
        for name in CORE.keys() - {"cgroup.kill", "cpu.stat"}:
            self.assertEqual(self.read(f"a/{name}"), CORE[name].strip())
        for name in READ_ONLY & there:
            self.assertEqual(self.tried(f"a/{name}", "1"), "Invalid argument", name)
        self.assertEqual(self.tried("a/memory.max", "1"), "No such file or directory")

    def test_controllers_are_there_where_they_are_handed_on(self) -> None:
        self.made("a")
        self.assertEqual(self.tried("cgroup.subtree_control", "+hugetlb"), "")
        self.assertEqual(self.tried("cgroup.subtree_control", "+hugetlb"), "")
        self.assertEqual(self.read("a/cgroup.controllers"), "hugetlb")
        for name in CONTROLLERS["hugetlb"]:
            self.assertTrue(os.path.exists(f"{self.path}/a/{name}"))
        for value, why in (("max", ""), ("4194304", ""), ("x", "Invalid argument")):
            self.assertEqual(self.tried("a/hugetlb.2MB.max", value), why)
        self.assertEqual(self.tried("cgroup.subtree_control", "-hugetlb"), "")
        self.assertEqual(os.path.exists(f"{self.path}/a/hugetlb.2MB.max"), False)
        for value, why in (
            ("+memory", "No such file or directory"),
            ("+nonsense", "Invalid argument"),
            ("hugetlb", "Invalid argument"),
        ):
            self.assertEqual(self.tried("cgroup.subtree_control", value), why)

    def test_a_group_holds_processes_or_hands_on_controllers(self) -> None:
        self.made("a/b")
        pid = self.process()
        self.assertEqual(self.tried("cgroup.subtree_control", "+hugetlb"), "")
        self.assertEqual(self.tried("a/cgroup.procs", pid), "")
        self.assertEqual(self.read("a/cgroup.procs"), str(pid))
        busy = "Device or resource busy"
        self.assertEqual(self.tried("a/cgroup.subtree_control", "+hugetlb"), busy)
        self.assertEqual(self.tried("cgroup.procs", pid), busy)
        # A group below one that holds processes may hold some, too, without controllers.
        self.assertEqual(self.tried("a/b/cgroup.procs", pid), "")
        self.assertEqual(self.read("a/cgroup.procs"), "")
        self.assertEqual(self.tried("a/cgroup.procs", "-1"), "Invalid argument")

    def test_what_holds_processes_says_so_and_stays(self) -> None:
        self.made("a/b")
        pid = self.process()
        self.assertIn("populated 0", self.read("a/cgroup.events"))
        self.assertEqual(self.tried("a/b/cgroup.procs", pid), "")
        self.assertIn("populated 1", self.read("a/cgroup.events"))
        self.assertEqual(self.remove(f"{self.path}/a"), False)
        self.assertTrue(os.path.isdir(f"{self.path}/a/b"))

    def test_all_below_is_killed_at_once_though_it_be_frozen(self) -> None:
        self.made("a/b")
        for group in ("a", "a/b"):
            self.assertEqual(self.tried(f"{group}/cgroup.procs", self.process()), "")
        for value, why in (("2", "Numerical result out of range"), ("x", "Invalid argument")):
            self.assertEqual(self.tried("a/cgroup.freeze", value), why)
            self.assertEqual(self.tried("a/cgroup.kill", value), why)
        self.assertEqual(self.tried("a/cgroup.freeze", "1"), "")
        self.assertEqual(self.tried("a/cgroup.kill", "1"), "")
        self.killed()
        self.assertTrue(eventually(lambda: "populated 0" in self.read("a/cgroup.events")))
        self.assertTrue(eventually(lambda: self.remove(f"{self.path}/a")))

    def killed(self) -> None:
        """Wait for what was killed."""


class TreeTests(HostContract, SynchronousTestCase):
    """The tree."""

    def setUp(self) -> None:
        self.tree = Tree(self.mktemp(), "hugetlb")
        self.pids = count(100)
        self.path = f"{self.tree.root}/mesos"
        self.tree.write(f"{self.tree.root}/cgroup.subtree_control", "+hugetlb")
        self.make(self.path)

    def make(self, path: str) -> None:
        self.tree.make_directory(path)

    def set(self, path: str, value: str) -> None:
        self.tree.write(path, value)

    def remove(self, path: str) -> bool:
        return self.tree.remove_directory(path)

    def process(self) -> int:
        return next(self.pids)


@not_root
class KernelTests(HostContract, SynchronousTestCase):
    """The kernel of this machine."""

    make = staticmethod(cgroups.make_directory)
    set = staticmethod(cgroups.write)
    remove = staticmethod(cgroups.remove_directory)

    def setUp(self) -> None:
        self.root = unified(self)
        if "hugetlb" not in Path(self.root, "cgroup.controllers").read_text().split():
            self.skipTest("no controller of cgroups of version 2 on this machine")
        self.path = f"{self.root}/mesoskit-test-{os.getpid()}-{next(NUMBERS)}"
        self.processes: list[subprocess.Popen[bytes]] = []
        # It stays handed on: others may run these tests, or agents, beside this one.
        self.set(f"{self.root}/cgroup.subtree_control", "+hugetlb")
        self.make(self.path)
        self.addCleanup(self.clean_up)

    def clean_up(self) -> None:
        for process in self.processes:
            process.kill()
        self.killed()
        self.assertTrue(eventually(lambda: self.remove(self.path)))

    def process(self) -> int:
        sleeping = subprocess.Popen([shutil.which("sleep") or "/bin/sleep", "1000"])
        self.processes.append(sleeping)
        return sleeping.pid

    def killed(self) -> None:
        for process in self.processes:
            process.wait()
