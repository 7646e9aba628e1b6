"""Pods as they are: tasks in cgroups and namespaces within those of their executor, as root."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import SIGKILL
from typing import Any

from mesoskit.agent.container import Allotment, ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.isolator_linux import (
    FilesystemIsolator,
    IpcIsolator,
    NoNetworkIsolator,
    PidIsolator,
)
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.messages.mesos_pb2 import ContainerInfo, LinuxInfo
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.containers_contract import Ends
from tests.agent.real import until
from tests.agent.test_isolated import HOG, MB, IsolatedTestCase, not_root

POD, A, B = ContainerId("pod"), ContainerId("a"), ContainerId("b")


def linux(**fields: Any) -> bytes:
    """Return a ContainerInfo as a spec has it."""
    info = ContainerInfo(type=ContainerInfo.MESOS, linux_info=LinuxInfo(**fields))
    return info.SerializeToString()


class PodTestCase(IsolatedTestCase):
    """A pod's containers over a launcher."""

    async def pod(self, agent: Any, **more: Any) -> None:
        """Start the container of an executor of groups."""
        more.setdefault("allotment", Allotment(mem=128 * MB))
        await agent.launch(
            ContainerSpec(
                POD,
                ("sleep", "1000"),
                self.sandbox("pod"),
                (("PATH", "/usr/bin:/bin"),),
                pod=True,
                **more,
            )
        )

    def sandbox(self, name: str, user: int | None = None) -> str:
        within = name if name == "pod" else f"pod/containers/{name}"
        return super().sandbox(within, user)

    def member(self, name: str, command: str, **more: Any) -> ContainerSpec:
        """Return a task in there."""
        return self.spec(name, command, parent=POD, member=True, **more)

    def within(self, controller: str, name: str) -> Path:
        return self.group(controller, f"pod/mesos/{name}")


@not_root
class LimitTests(PodTestCase):
    """What tasks are held to, and what a pod is."""

    async def test_each_is_held_to_its_own_within_what_all_are_held_to(self) -> None:
        agent, _ = await self.started()
        await self.pod(agent)
        await agent.launch(self.member("a", "sleep 1000", allotment=Allotment(500, 40 * MB)))
        await agent.launch(self.member("b", "sleep 1000", allotment=Allotment(250, 48 * MB)))
        for name, shares, memory in (("a", 512, 40), ("b", 256, 48)):
            self.assertEqual(int((self.within("cpu", name) / "cpu.shares").read_text()), shares)
            limit = (self.within("memory", name) / "memory.limit_in_bytes").read_text()
            self.assertEqual(int(limit), memory * MB)
        limit = (self.group("memory", "pod") / "memory.limit_in_bytes").read_text()
        self.assertEqual(int(limit), 128 * MB)
        await agent.update(POD, Allotment(1000, 256 * MB))
        limit = (self.group("memory", "pod") / "memory.limit_in_bytes").read_text()
        self.assertEqual(int(limit), 256 * MB)

    async def test_one_that_takes_too_much_is_ended_and_the_others_run_on(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        await agent.launch(self.member("b", "exec sleep 1000", allotment=Allotment(mem=32 * MB)))
        hog = f"exec {sys.executable} -S -c '{HOG}'"
        await agent.launch(self.member("a", hog, allotment=Allotment(mem=48 * MB)))
        self.assertEqual(await ends.wait(1), [("a", SIGKILL)])
        first = "Memory limit exceeded: Requested: 48MB Maximum Used: 48MB"
        self.assertEqual(ends.limitations["a"].message.splitlines()[0], first)
        self.assertEqual(sorted(await agent.usage()), ["b", "pod"])

    async def test_all_end_where_all_of_them_together_take_too_much(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent, allotment=Allotment(mem=48 * MB))
        hog = f"exec {sys.executable} -S -c '{HOG}'"
        await agent.launch(self.member("b", "exec sleep 1000", allotment=Allotment(mem=32 * MB)))
        await agent.launch(self.member("a", hog, allotment=Allotment(mem=128 * MB)))
        self.assertEqual(sorted(await ends.wait(3)), [("a", 9), ("b", 9), ("pod", 9)])
        for name in ("a", "b", "pod"):
            limitation = ends.limitations[name]
            self.assertEqual(limitation.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY, name)
            self.assertIn("Requested: 48MB Maximum Used: 48MB", limitation.message, name)

    async def test_that_is_found_out_by_the_next_agent(self) -> None:
        first, _ = await self.started()
        await self.pod(first, allotment=Allotment(mem=48 * MB))
        await first.launch(self.member("b", "exec sleep 1000", allotment=Allotment(mem=32 * MB)))
        gate = Path(self.directory, "gate")
        hog = f"while [ ! -e {gate} ]; do sleep 0.05; done; exec {sys.executable} -S -c '{HOG}'"
        await first.launch(self.member("a", hog, allotment=Allotment(mem=128 * MB)))
        await first.stop()
        gate.touch()
        await until(lambda: not pids_in(str(self.within("freezer", "a"))))
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        found = await second.recover()
        self.assertEqual(found.exited, {A: SIGKILL})
        self.assertIn("Requested: 48MB", found.limitations[A].message)
        self.assertEqual(sorted(await ends.wait(2)), [("b", 9), ("pod", 9)])
        self.assertEqual(set(ends.limitations), {"b", "pod"})

    async def test_they_may_share_what_all_have(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        spec = self.member("a", "cat /proc/self/cgroup", info=linux(share_cgroups=True))
        await agent.launch(spec)
        await ends.wait(1)
        joined = [line.split(":")[1:] for line in self.output("a").splitlines()]
        self.assertIn(["memory", f"/{self.root}/pod"], joined)
        self.assertIn(["freezer", f"/{self.root}/pod/mesos/a"], joined)

    async def test_where_they_do_all_of_them_end_when_one_takes_too_much(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent, allotment=Allotment(mem=48 * MB))
        info = linux(share_cgroups=True)
        await agent.launch(self.member("b", "exec sleep 1000", info=info))
        hog = f"exec {sys.executable} -S -c '{HOG}'"
        await agent.launch(self.member("a", hog, info=info))
        self.assertEqual(sorted(await ends.wait(3)), [("a", 9), ("b", 9), ("pod", 9)])
        for name in ("a", "b", "pod"):
            self.assertIn("Requested: 48MB", ends.limitations[name].message, name)

    async def test_what_a_pod_uses_is_what_all_in_it_use(self) -> None:
        agent, _ = await self.started()
        await self.pod(agent)
        burn = f"{sys.executable} -S -c 'for n in range(3000000): pass'; exec sleep 1000"
        await agent.launch(self.member("a", burn))
        await agent.launch(self.member("b", "sleep 1000 & exec sleep 1000"))

        def burnt() -> bool:
            used = (self.within("cpuacct", "a") / "cpuacct.usage").read_text()
            return int(used) > 50_000_000

        await until(burnt)
        await until(lambda: len(pids_in(str(self.group("freezer", "pod")))) == 4)
        usage = await agent.usage()
        seconds = {name: used.user_seconds + used.system_seconds for name, used in usage.items()}
        self.assertGreater(seconds[POD], 0.02)  # what is user's and system's is counted apart
        self.assertGreater(seconds[POD], seconds[B])
        self.assertGreaterEqual(usage[POD].processes, 4)
        self.assertTrue(usage[POD].whole)
        self.assertFalse(usage[A].whole)

    async def test_all_that_is_in_it_ends_with_it(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        await agent.launch(self.member("a", "setsid sleep 1000 & exec sleep 1000"))
        await agent.destroy(POD)
        self.assertEqual(sorted(await ends.wait(2)), [("a", 9), ("pod", 9)])
        self.assertEqual(ends.limitations, {})

    async def test_its_own_end_is_told_first(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        for name in ("a", "b", "c"):
            await agent.launch(self.member(name, "sleep 1000 & exec sleep 1000"))
        await agent.launch(self.spec("d", "exec sleep 1000", parent=A))
        (pid,) = map(int, (self.group("freezer", "pod") / "cgroup.procs").read_text().split())
        os.kill(pid, SIGKILL)
        told = [name for name, _ in await ends.wait(5)]
        self.assertEqual(sorted(told), ["a", "b", "c", "d", "pod"])
        self.assertEqual(told[0], "pod")
        self.assertLess(told.index("a"), told.index("d"))


@not_root
class QuotaTests(PodTestCase):
    """Quotas, of which version 1 wants that none is larger than that around it."""

    settings = IsolationSettings(isolation=("cgroups/cpu",), linux=True, cgroups_enable_cfs=True)

    def quotas(self) -> list[int]:
        """Return those of the pod and of the tasks that there are."""
        groups = [self.group("cpu", "pod"), self.within("cpu", "a"), self.within("cpu", "b")]
        return [int((at / "cpu.cfs_quota_us").read_text()) for at in groups if at.exists()]

    async def test_the_pods_goes_up_before_a_task_comes_and_down_after_it_went(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent, allotment=Allotment(cpus=600))
        await agent.launch(self.member("a", "exec sleep 1000", allotment=Allotment(cpus=500)))
        with self.assertRaisesRegex(ContainerError, "cpu.cfs_quota_us"):
            await agent.launch(self.member("b", "sleep 1000", allotment=Allotment(cpus=700)))
        await agent.update(POD, Allotment(cpus=1300))
        await agent.launch(self.member("b", "sleep 1000", allotment=Allotment(cpus=700)))
        self.assertEqual(self.quotas(), [130_000, 50_000, 70_000])
        await agent.update(POD, Allotment(cpus=600))
        self.assertEqual(self.quotas(), [130_000, 50_000, 70_000])
        await agent.destroy(B)
        await until(lambda: self.quotas() == [60_000, 50_000])
        self.assertEqual(ends.told, [("b", SIGKILL)])


@not_root
class NamespaceTests(PodTestCase):
    """What tasks see of each other."""

    settings = IsolationSettings(isolation=("cgroups/mem",), linux=True)

    def setUp(self) -> None:
        super().setUp()
        self.more += [PidIsolator(), IpcIsolator(), NoNetworkIsolator()]

    def namespaces(self, name: str, kinds: str = "ipc mnt net pid") -> dict[str, str]:
        """Return what a task has written that looked at its namespaces."""
        return dict(line.split() for line in self.output(name).splitlines()[: len(kinds.split())])

    def looking(self, then: str = "exec sleep 1000") -> str:
        return (
            "for kind in ipc mnt net pid; do echo $kind $(readlink /proc/self/ns/$kind);"
            f" done; ls -d /proc/[0-9]*; {then}"
        )

    async def looked(self, agent: Any, *specs: ContainerSpec) -> None:
        for spec in specs:
            await agent.launch(spec)
        await until(lambda: all(len(self.output(one.id).splitlines()) > 5 for one in specs))

    async def test_they_share_network_and_memory_and_not_their_processes(self) -> None:
        agent, _ = await self.started()
        await self.pod(agent)
        await self.looked(agent, self.member("a", self.looking()), self.member("b", self.looking()))
        a, b = self.namespaces("a"), self.namespaces("b")
        for kind in ("ipc", "net"):
            self.assertEqual(a[kind], b[kind], kind)
            self.assertNotEqual(a[kind], str(Path(f"/proc/self/ns/{kind}").readlink()), kind)
        for kind in ("pid", "mnt"):
            self.assertNotEqual(a[kind], b[kind], kind)
        self.assertLess(len(self.output("a").splitlines()), 9)

    async def test_one_listens_and_the_other_connects(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        serve = (
            "import socket, time; s = socket.create_server(('127.0.0.1', 7)); print('on',"
            " flush=True); open('/dev/shm/word', 'w').write('shared'); s.accept();"
            " time.sleep(1000)"
        )
        await agent.launch(self.member("a", f'exec {sys.executable} -S -c "{serve}"'))
        await until(lambda: self.output("a"))
        connect = "import socket; socket.create_connection(('127.0.0.1', 7), 30)"
        command = (
            f'until [ -s /dev/shm/word ]; do sleep 0.05; done; {sys.executable} -S -c "{connect}"'
            " && cat /dev/shm/word"
        )
        await agent.launch(self.member("b", command))
        self.assertEqual(await ends.wait(1), [("b", 0)])
        self.assertEqual(self.output("b"), "shared")
        self.assertFalse(Path("/dev/shm/word").exists())

    async def test_processes_are_shared_by_those_who_ask_for_it(self) -> None:
        agent, _ = await self.started()
        await self.pod(agent)
        info = linux(share_pid_namespace=True)
        await self.looked(
            agent,
            self.member("a", self.looking(), info=info),
            self.member("b", self.looking(), info=info),
        )
        a, b = self.namespaces("a"), self.namespaces("b")
        self.assertEqual(a["pid"], b["pid"])
        self.assertNotEqual(a["pid"], str(Path("/proc/self/ns/pid").readlink()))
        # Its own, the other's, and that of the pod with its init.
        self.assertGreaterEqual(len(self.output("b").splitlines()), 4 + 4)

    async def test_shared_memory_of_its_own_for_whoever_asks_for_it(self) -> None:
        agent, _ = await self.started()
        await self.pod(agent)
        info = linux(ipc_mode=LinuxInfo.PRIVATE, shm_size=8)
        await self.looked(
            agent,
            self.member("a", self.looking(), info=info),
            self.member("b", self.looking()),
        )
        self.assertNotEqual(self.namespaces("a")["ipc"], self.namespaces("b")["ipc"])

    async def test_a_command_beside_a_task_is_in_what_the_task_is_in(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        await self.looked(agent, self.member("a", self.looking()))
        await agent.launch(self.spec("b", self.looking("true"), parent=A))
        self.assertEqual(await ends.wait(1), [("b", 0)])
        self.assertEqual(self.namespaces("a"), self.namespaces("b"))

    async def test_what_is_no_task_is_in_the_pod_itself(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        info = linux(share_pid_namespace=True)
        await self.looked(agent, self.member("a", self.looking(), info=info))
        await agent.launch(self.spec("b", self.looking("cat /proc/self/cgroup"), parent=POD))
        self.assertEqual(await ends.wait(1), [("b", 0)])
        a, b = self.namespaces("a"), self.namespaces("b")
        self.assertEqual({**a, "mnt": ""}, {**b, "mnt": ""})
        self.assertIn(f"memory:/{self.root}/pod\n", self.output("b"))

    async def test_a_pod_that_does_not_run_takes_nobody(self) -> None:
        agent, ends = await self.started()
        await self.pod(agent)
        await agent.destroy(POD)
        with self.assertRaisesRegex(ContainerError, "does not run"):
            await agent.launch(self.member("a", "sleep 1000"))
        self.assertEqual(ends.told, [("pod", SIGKILL)])


@not_root
class FilesTests(PodTestCase):
    """What tasks see of files."""

    async def test_only_their_own_sandboxes_and_what_the_pod_has_mounted(self) -> None:
        self.more.append(FilesystemIsolator(f"{self.directory}/sandboxes"))
        shared = Path(self.directory, "shared")
        shared.mkdir()
        (shared / "word").write_text("shared")
        agent, ends = await self.started()
        target = Path(self.sandbox("pod"), "volume")
        target.mkdir()
        await self.pod(agent, mounts=((str(shared), str(target), "", 0x5000, "", False),))
        self.sandbox("b")
        mine = Path(self.sandbox("a"), "volume")
        mine.mkdir()
        command = "cat volume/word; echo; ls ..; ls ../..; echo more > volume/more"
        mounts = ((str(target), str(mine), "", 0x5000, "", True),)
        await agent.launch(self.member("a", command, mounts=mounts))
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(self.output("a").splitlines(), ["shared", "a", "containers"])
        self.assertEqual((shared / "more").read_text(), "more\n")
        self.assertEqual(list(target.iterdir()), [])
