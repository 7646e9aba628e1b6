"""Containers in cgroups of version 2: the machine's own, as far as these have controllers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import SIGKILL
from unittest import skipIf

from mesoskit.agent.container import Allotment, ContainerSpec
from mesoskit.agent.containers.cgroups import find
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.messages.mesos_pb2 import ContainerInfo, LinuxInfo
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import ContainersContract, Ends
from tests.agent.real import alive, until
from tests.agent.test_cgroup_hosts import need_programs, unified
from tests.agent.test_isolated import IsolatedTestCase
from tests.agent.test_isolated_pods import PodTestCase

A, B = ContainerId("a"), ContainerId("b")
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")

TREE = """
import os, time
for depth in range(3):
    for _ in range(2):
        if not os.fork():
            os.setsid()
            if os.fork():
                os._exit(0)
            os.environ.clear()
            os.chdir("/")
            break
time.sleep(1000)
"""
"""Processes that leave their sessions, parents, environments and directories."""


class Version2TestCase(IsolatedTestCase):
    """Containers as an agent has them where there is nothing but version 2."""

    settings = IsolationSettings(isolation=("cgroups/devices",), linux=True)

    def setUp(self) -> None:
        need_programs(self)
        self.hierarchy = unified(self)
        super().setUp()

    def path(self, name: str) -> str:
        return f"{self.hierarchy}/{self.root}/{name}"


@not_root
class Version2ContainersTests(Version2TestCase, ContainersContract):
    """The suite of all containers."""

    async def until_gone(self, pid: int) -> None:
        await until(lambda: not alive(pid))


@not_root
class Version2Tests(Version2TestCase):
    """What version 2 does otherwise."""

    def test_it_is_version_2(self) -> None:
        self.assertEqual(find(self.hierarchy, self.root).version, 2)

    def launching(self, name: str, code: str) -> ContainerSpec:
        return self.python(name, code, allotment=Allotment(cpus=100))

    async def test_a_tree_of_daemons_ends_with_its_container(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.launching("a", TREE))
        await until(lambda: len(pids_in(self.path("a"))) >= 8)
        pids = pids_in(self.path("a"))
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", SIGKILL)])
        # Who leaves a cgroup is about to be no more.
        await until(lambda: not [pid for pid in pids if alive(pid)])
        self.assertFalse(os.path.exists(self.path("a")))

    async def test_what_is_nested_is_below_and_ends_alone(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exec sleep 1000"))
        await agent.launch(self.spec("b", "cat /proc/self/cgroup", parent=A))
        await ends.wait(1)
        self.assertIn(f"0::/{self.root}/a/mesos/b\n", self.output("b"))
        self.assertEqual(list(await agent.usage()), ["a"])
        await agent.destroy(A)

    async def test_what_is_nested_may_be_held_by_itself(self) -> None:
        if "hugetlb" not in find(self.hierarchy, self.root).controllers:
            self.skipTest("no controller of cgroups of version 2 on this machine")
        self.settings = IsolationSettings(isolation=("cgroups/hugetlb",), linux=True)
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000 & exec sleep 1000"))
        await until(lambda: len(pids_in(self.path("a"))) == 2)
        info = ContainerInfo(type=ContainerInfo.MESOS, linux_info=LinuxInfo(share_cgroups=False))
        apart = info.SerializeToString()
        held = "/hugetlb.2MB.max"
        await agent.launch(self.spec("b", "exec sleep 1000", parent=A, info=apart))
        self.assertTrue(os.path.exists(self.path("a/mesos/b") + held))
        self.assertEqual(len(pids_in(self.path("a/leaf"))), 2)
        self.assertEqual(len(pids_in(self.path("a/mesos/b"))), 1)
        await agent.launch(self.spec("c", "exit 3", parent=A, info=apart))
        self.assertEqual(await ends.wait(1), [("c", 3 << 8)])
        await agent.destroy(A)
        self.assertEqual(sorted(name for name, _ in await ends.wait(3)), ["a", "b", "c"])
        self.assertFalse(os.path.exists(self.path("a")))

    async def test_devices_are_held_by_the_kernel_whoever_is_there(self) -> None:
        gate = os.path.join(self.directory, "gate")
        for name, minor in (("zero", 5), ("kmsg", 11)):
            os.mknod(f"{self.sandbox('a')}/{name}", 0o20600, os.makedev(1, minor))
        tries = "for d in /dev/null zero kmsg; do true < $d && echo $d; done 2> e; "
        wait = f"while [ ! -e {gate} ]; do sleep 0.05; done; "
        first, _ = await self.started()
        await first.launch(self.spec("a", wait + tries + "exit 7"))
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        await second.recover()
        Path(gate).touch()
        self.assertEqual(await ends.wait(1), [("a", 7 << 8)])
        self.assertEqual(self.output("a").split(), ["/dev/null", "zero"])

    async def test_time_is_counted_of_all_that_ran_and_is_over(self) -> None:
        agent, _ = await self.started()
        busy = f"{sys.executable} -S -c 'sum(range(3000000))'; echo over; exec sleep 1000"
        await agent.launch(self.spec("a", busy))
        await until(lambda: self.output("a"), 60.0)
        usage = (await agent.usage())[A]
        self.assertGreater(usage.user_seconds, 0.01)
        await agent.destroy(A)


@not_root
class Version2PodTests(PodTestCase, Version2TestCase):
    """Tasks within the containers of their executors, under a controller that is handed on."""

    def setUp(self) -> None:
        super().setUp()
        there = find(self.hierarchy, self.root).controllers
        self.handed_on = sorted({"hugetlb"} & there)
        isolation = ("cgroups/devices", *(f"cgroups/{name}" for name in self.handed_on))
        self.settings = IsolationSettings(isolation=isolation, linux=True)

    async def test_tasks_are_below_and_the_pod_is_beside_them(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        await agent.launch(self.member("a", "cat /proc/self/cgroup; exec sleep 1000"))
        await agent.launch(self.member("b", "setsid sleep 1000 & exec sleep 1000"))
        await until(lambda: self.output("a"))
        self.assertIn(f"0::/{self.root}/pod/mesos/a\n", self.output("a"))
        self.assertEqual(len(pids_in(self.path("pod/leaf"))), 1)
        await until(lambda: len(pids_in(self.path("pod"))) == 4)
        handed = Path(self.path("pod/mesos"), "cgroup.subtree_control").read_text()
        self.assertEqual(handed.split(), self.handed_on)
        await agent.launch(self.spec("c", "cat /proc/self/cgroup", parent=A))
        await ends.wait(1)
        self.assertIn(f"0::/{self.root}/pod/mesos/a/mesos/c\n", self.output("c"))
        await agent.destroy(ContainerId("pod"))
        self.assertEqual([name for name, _ in await ends.wait(4)][1], "pod")
        self.assertFalse(os.path.exists(self.path("pod")))
