"""Isolators one by one, and what a container finds that is kept apart by all of them."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mesoskit.agent.container import Allotment, Limitation
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.isolator_disk import DiskIsolator, disk_usage
from mesoskit.agent.containers.isolator_linux import (
    CapabilitiesIsolator,
    FilesystemIsolator,
    IpcIsolator,
    NoNetworkIsolator,
    NoNewPrivilegesIsolator,
    PidIsolator,
)
from mesoskit.agent.containers.isolators import (
    NOTHING,
    IIsolator,
    Isolated,
    Isolator,
    Preparation,
    as_request,
    together,
)
from mesoskit.agent.containers.known_isolators import KNOWN, IsolationUnknown, make_isolators
from mesoskit.agent.containers.seccomp import SeccompError, SeccompIsolator, compile_profile
from mesoskit.agent.containers.unknown_isolators import INSTEAD
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_isolation import Mount, isolation
from mesoskit.agent.subsystems import Subsystems
from mesoskit.messages.mesos_pb2 import CapabilityInfo, ContainerInfo, LinuxInfo
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.test_cgroup_hosts import unified
from tests.agent.test_isolated import IsolatedTestCase
from tests.base import SynchronousTestCase

A = ContainerId("a")
NOBODY = pwd.getpwnam("nobody").pw_uid
not_root = skipIf(os.geteuid() != 0, "only root can isolate")
CAPABILITY: Any = CapabilityInfo.Capability

OF_MESOS = (
    *("appc/runtime", "cgroups/all", "cgroups/blkio", "cgroups/cpu", "cgroups/cpuset"),
    *("cgroups/devices", "cgroups/hugetlb", "cgroups/mem", "cgroups/net_cls", "cgroups/net_prio"),
    *("cgroups/perf_event", "cgroups/pids", "disk/du", "disk/xfs", "docker/runtime"),
    *("docker/volume", "environment_secret", "filesystem/linux", "filesystem/posix"),
    *("filesystem/shared", "filesystem/windows", "gpu/nvidia", "linux/capabilities"),
    *("linux/devices", "linux/nnp", "linux/seccomp", "namespaces/ipc", "namespaces/pid"),
    *("network/cni", "network/port_mapping", "network/ports", "posix/cpu", "posix/disk"),
    *("posix/mem", "posix/rlimits", "volume/csi", "volume/host_path", "volume/image"),
    *("volume/sandbox_path", "volume/secret", "windows/cpu", "windows/mem"),
)

NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [{"names": ["mkdir", "mkdirat", "of_tomorrow"], "action": "SCMP_ACT_ERRNO"}],
}


def container(linux: LinuxInfo | None = None, **more: Any) -> Isolated:
    """Return a container as isolators are given it."""
    info = ContainerInfo(type=ContainerInfo.MESOS)
    if linux is not None:
        info.linux_info.CopyFrom(linux)
    return Isolated(A, "/w/slaves/s/a", Allotment(), info.SerializeToString(), **more)


def some(*names: str) -> CapabilityInfo:
    """Return capabilities."""
    return CapabilityInfo(capabilities=[CAPABILITY.Value(name) for name in names])


class WantTests(SynchronousTestCase):
    """What isolators want of a start."""

    def wanted(self, isolator: Any, linux: LinuxInfo | None = None, **more: Any) -> Preparation:
        verifyObject(IIsolator, isolator)
        found: Preparation = isolator.prepare(container(linux, **more))
        return found

    def refused(self, isolator: Any, linux: LinuxInfo) -> str:
        return str(self.assertRaises(ContainerError, isolator.prepare, container(linux)))

    def test_nothing_of_what_makes_its_own_and_the_parents_of_what_is_nested(self) -> None:
        for isolator in (PidIsolator(), IpcIsolator(), NoNetworkIsolator(), FilesystemIsolator()):
            self.assertEqual(self.wanted(isolator, staged=True), NOTHING)
            nested = self.wanted(isolator, parent=container())
            self.assertEqual(nested, Preparation(inside="a"))

    def test_namespaces(self) -> None:
        for isolator, names in (
            (PidIsolator(), {"pid", "mnt"}),
            (IpcIsolator(), {"ipc", "mnt"}),
            (NoNetworkIsolator(), {"net"}),
            (FilesystemIsolator("/w/slaves"), {"mnt"}),
        ):
            self.assertEqual(self.wanted(isolator).namespaces, names)

    def test_sharing_the_agents_namespaces_is_asked_for_and_may_be_refused(self) -> None:
        pid = LinuxInfo(share_pid_namespace=True)
        ipc = LinuxInfo(ipc_mode=LinuxInfo.SHARE_PARENT)
        self.assertEqual(self.wanted(PidIsolator(), pid), NOTHING)
        self.assertEqual(self.wanted(IpcIsolator(), ipc), NOTHING)
        self.assertIn("pid namespace", self.refused(PidIsolator(share=False), pid))
        self.assertIn("ipc namespace", self.refused(IpcIsolator(share=False), ipc))
        ipc.shm_size = 5
        self.assertIn("shm_size", self.refused(IpcIsolator(), ipc))

    def test_size_of_shared_memory(self) -> None:
        five = LinuxInfo(shm_size=5)
        for isolator, linux, data in (
            (IpcIsolator(), five, "size=5m,mode=1777"),
            (IpcIsolator(), LinuxInfo(), "mode=1777"),
            (IpcIsolator(size=1 << 20), LinuxInfo(), "size=1048576,mode=1777"),
            (IpcIsolator(size=1 << 20), five, "size=5m,mode=1777"),
        ):
            (mount,) = self.wanted(isolator, linux).mounts
            self.assertEqual(mount.data, data)

    def test_other_sandboxes_are_hidden_from_those_that_are_among_them(self) -> None:
        self.assertEqual(self.wanted(FilesystemIsolator("/w/slaves")).hide, "/w/slaves")
        self.assertEqual(self.wanted(FilesystemIsolator("/elsewhere")).hide, "")
        for isolator in (
            FilesystemIsolator("/w/slaves", ("/w/alone", "/w/volumes")),
            FilesystemIsolator("/w/alone", ("/w/slaves", "/w/volumes")),
        ):
            wanted = self.wanted(isolator)
            self.assertEqual(wanted.hide, "/w/slaves")
            covered = {mount.target for mount in wanted.mounts}
            self.assertEqual(covered, {"/w/alone", "/w/volumes"})

    def test_capabilities_come_from_the_task_else_from_the_flags(self) -> None:
        flags = CapabilitiesIsolator(0b1, 0b1111)
        self.assertEqual(self.wanted(flags), Preparation(effective=0b1, bounding=0b1111))
        linux = LinuxInfo(effective_capabilities=some("DAC_OVERRIDE"))
        self.assertEqual(self.wanted(flags, linux).effective, 0b10)
        linux.bounding_capabilities.CopyFrom(some("DAC_OVERRIDE", "FOWNER"))
        self.assertEqual(self.wanted(flags, linux).bounding, 0b1010)
        old = LinuxInfo(capability_info=some("CHOWN"))
        free = CapabilitiesIsolator()
        self.assertEqual(self.wanted(free, old), Preparation(effective=0b1, bounding=0b1))
        self.assertEqual(self.wanted(free), NOTHING)

    def test_more_capabilities_than_allowed_are_refused_by_name(self) -> None:
        flags = CapabilitiesIsolator(None, 0b1)
        more = LinuxInfo(effective_capabilities=some("CHOWN", "SYS_ADMIN"))
        self.assertIn("SYS_ADMIN are not in the bounding set: CHOWN", self.refused(flags, more))
        more = LinuxInfo(bounding_capabilities=some("SYS_ADMIN"))
        self.assertIn("--bounding_capabilities", self.refused(flags, more))

    def test_no_new_privileges(self) -> None:
        self.assertTrue(self.wanted(NoNewPrivilegesIsolator()).no_new_privileges)

    def test_several_together(self) -> None:
        one = Preparation(namespaces=frozenset({"pid"}), mounts=(Mount("a", "b"),), bounding=3)
        two = Preparation(namespaces=frozenset({"mnt"}), mounts=(Mount("c", "d"),), seccomp=b"x")
        whole = together([one, NOTHING, two])
        request = as_request(whole)
        assert request is not None
        again = isolation(json.loads(json.dumps(request)))
        self.assertEqual(again.namespaces, ["mnt", "pid"])
        self.assertEqual(again.mounts, [Mount("a", "b"), Mount("c", "d")])
        self.assertEqual((again.bounding, again.seccomp), (3, b"x"))
        self.assertIsNone(as_request(NOTHING))


class DiskTests(SynchronousTestCase):
    """C{disk/du}."""

    def setUp(self) -> None:
        self.sandbox = Path(self.mktemp())
        self.sandbox.mkdir()
        self.clock = Clock()
        self.told: list[tuple[str, Limitation]] = []

    def isolator(self, enforce: bool = True, *written: str) -> DiskIsolator:
        isolator = DiskIsolator(
            self.clock, lambda work: succeed(work()), 15.0, enforce, lambda container: written
        )
        isolator.limited = lambda name, limitation: self.told.append((name, limitation))
        self.addCleanup(isolator.stop)
        return isolator

    def isolated(self, disk: int) -> Isolated:
        return Isolated(A, str(self.sandbox), Allotment(disk=disk))

    def fill(self) -> None:
        Path(self.sandbox, "data").write_bytes(b"x" * 65536)

    def test_a_container_that_takes_too_much_is_told_of_with_the_numbers(self) -> None:
        isolator = self.isolator()
        isolator.isolated(self.isolated(32768))
        self.clock.advance(15)
        self.assertEqual(self.told, [])
        self.fill()
        self.clock.advance(15)
        ((name, limitation),) = self.told
        self.assertEqual(name, A)
        self.assertEqual(limitation.reason, Reason.REASON_CONTAINER_LIMITATION_DISK)
        self.assertRegex(limitation.message, r"^Disk usage \(\d+KB\) exceeds quota \(32KB\)$")

    def test_without_enforcement_it_is_shown_alone(self) -> None:
        isolator = self.isolator(enforce=False)
        isolated = self.isolated(32768)
        isolator.recover(isolated)
        self.fill()
        self.clock.advance(15)
        self.assertEqual(self.told, [])
        figures = isolator.usage(isolated)
        self.assertGreaterEqual(figures["disk_used_bytes"], 65536)
        self.assertEqual(figures["disk_limit_bytes"], 32768)
        self.assertTrue(isolator.cleanup(isolated))
        self.clock.advance(15)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_written_over_an_image_counts(self) -> None:
        self.fill()
        isolator = self.isolator(False, str(self.sandbox / "nowhere"), str(self.sandbox))
        isolated = Isolated(A, self.mktemp(), Allotment())
        isolator.isolated(isolated)
        self.clock.advance(15)
        self.assertGreaterEqual(isolator.usage(isolated)["disk_used_bytes"], 65536)

    def test_links_and_second_names_take_nothing(self) -> None:
        self.fill()
        before = disk_usage(str(self.sandbox))
        os.link(self.sandbox / "data", self.sandbox / "again")
        os.symlink("/", self.sandbox / "root")
        self.assertLess(disk_usage(str(self.sandbox)), before + 16384)
        self.assertEqual(disk_usage("/nowhere"), 0)


class SeccompTests(SynchronousTestCase):
    """Profiles."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def profile(self, given: Any, name: str = "p.json") -> None:
        Path(self.directory, name).write_text(json.dumps(given))

    def test_a_profile_becomes_a_filter(self) -> None:
        self.profile(NO_MKDIR)
        isolator = SeccompIsolator(self.directory, "p.json")
        program = isolator.prepare(container()).seccomp
        self.assertEqual(len(program) % 8, 0)
        self.assertGreater(len(program), 24)
        unconfined = LinuxInfo(seccomp={"unconfined": True})
        self.assertEqual(isolator.prepare(container(unconfined)), NOTHING)

    def test_a_profile_that_changed_is_read_again(self) -> None:
        self.profile(NO_MKDIR)
        isolator = SeccompIsolator(self.directory, "p.json")
        before = isolator.prepare(container()).seccomp
        self.profile({"defaultAction": "SCMP_ACT_ALLOW"})
        os.utime(Path(self.directory, "p.json"), (1, 1))
        self.assertNotEqual(isolator.prepare(container()).seccomp, before)

    def test_tasks_may_name_one_that_is_there(self) -> None:
        self.profile(NO_MKDIR)
        isolator = SeccompIsolator(self.directory, None)
        self.assertEqual(isolator.prepare(container()), NOTHING)
        named = LinuxInfo(seccomp={"profile_name": "p.json"})
        self.assertNotEqual(isolator.prepare(container(named)).seccomp, b"")
        for name, why in (("../p", "below"), ("/p", "below"), ("no.json", "No such file")):
            linux = LinuxInfo(seccomp={"profile_name": name})
            error = self.assertRaises(ContainerError, isolator.prepare, container(linux))
            self.assertIn(why, str(error))

    def test_what_is_no_profile_is_refused(self) -> None:
        for given, why in (
            ([], "not a seccomp profile"),
            ({}, "defaultAction"),
            ({"defaultAction": "SCMP_ACT_CRY"}, "unknown action 'SCMP_ACT_CRY'"),
            ({**NO_MKDIR, "syscalls": [{"action": "SCMP_ACT_ERRNO"}]}, "name"),
        ):
            error = self.assertRaises(SeccompError, compile_profile, given)
            self.assertIn(why, str(error))

    def test_rules_for_some_capabilities_alone(self) -> None:
        rule = {**NO_MKDIR["syscalls"][0], "excludes": {"caps": ["CAP_SYS_ADMIN"]}}  # type: ignore[dict-item]
        profile = {**NO_MKDIR, "syscalls": [rule]}
        self.assertLess(len(compile_profile(profile, -1)), len(compile_profile(profile, 0)))


class Plugged(Isolator):
    """What a site has written."""

    def prepare(self, container: Isolated) -> Preparation:
        """Say so."""
        return Preparation(environment=(("SITE", "ours"),))


def plugged(settings: IsolationSettings) -> Plugged:
    """Make one."""
    return Plugged()


def wrong(settings: IsolationSettings) -> str:
    """Make something else."""
    return "isolator"


class NameTests(SynchronousTestCase):
    """From names to isolators."""

    def made(self, *names: str, **more: Any) -> list[Any]:
        settings = IsolationSettings(isolation=names, **more)
        return make_isolators(settings, Clock(), lambda work: succeed(work()), "/w")

    def refused(self, *names: str, **more: Any) -> str:
        return str(self.assertRaises(IsolationUnknown, self.made, *names, **more))

    def test_posix_needs_nobody(self) -> None:
        self.assertEqual(self.made("posix/cpu", "posix/mem", "filesystem/posix"), [])

    def test_each_name_is_an_isolator(self) -> None:
        names = ("disk/du", "namespaces/pid", "linux/nnp", f"{__name__}.plugged")
        self.assertEqual(len(self.made(*names)), 4)
        for isolator in self.made(*names):
            verifyObject(IIsolator, isolator)

    def test_what_cannot_be_is_refused(self) -> None:
        self.assertIn("unknown isolator 'disk/zfs'", self.refused("disk/zfs"))
        self.assertIn("no IIsolator", self.refused(f"{__name__}.wrong"))
        self.assertIn("cannot be made", self.refused("nowhere.at.all"))
        self.assertIn("--seccomp_config_dir", self.refused("linux/seccomp"))
        self.assertIn("no cgroups", self.refused("cgroups/mem", cgroups_hierarchy="/nowhere"))

    def test_a_kernel_without_a_namespace_is_found_out_at_the_start(self) -> None:
        there = os.path.exists
        self.patch(os.path, "exists", lambda path: not path.endswith("/ns/ipc") and there(path))
        self.assertEqual(
            self.refused("namespaces/ipc"),
            "namespaces/ipc: this kernel has no such namespaces, for want of /proc/self/ns/ipc",
        )
        self.assertEqual(len(self.made("namespaces/pid", "disk/du")), 2)

    def test_no_sandbox_may_lie_where_shared_memory_of_its_own_is_mounted(self) -> None:
        def made(work_dir: str) -> list[Any]:
            settings = IsolationSettings(isolation=("namespaces/ipc",))
            return make_isolators(
                settings, Clock(), lambda work: succeed(work()), f"{work_dir}/slaves"
            )

        link = self.mktemp()
        os.symlink("/dev/shm", link)
        for work_dir in ("/dev/shm", "/dev/shm/mesos", f"{link}/mesos"):
            error = self.assertRaises(IsolationUnknown, made, work_dir)
            self.assertIn(f"choose a --work_dir that is not below it, as {work_dir} is", str(error))
        self.assertEqual(len(made("/dev/shmem")), 1)

    def test_every_name_of_mesos_is_taken_or_refused_with_what_to_use_instead(self) -> None:
        for name in OF_MESOS:
            self.assertNotEqual(name in KNOWN, name in INSTEAD, name)
        self.assertEqual(INSTEAD.keys() - set(OF_MESOS), set())
        self.assertIn("'disk/xfs' of Mesos' here: use disk/du", self.refused("disk/xfs"))
        self.assertIn("use network/none", self.refused("network/cni"))

    @not_root
    def test_flags_bring_isolators(self) -> None:
        def made(**flags: Any) -> set[str]:
            settings = IsolationSettings(
                isolation=("network/ports", *("cgroups/perf_event",) * ("perf_events" in flags)),
                cgroups_hierarchy=unified(self),
                cgroups_root="mesoskit-test-none",
                subsystems=Subsystems(**flags),
            )
            found = make_isolators(
                settings, Clock(), lambda work: succeed(work()), "/w", ((31000, 32000),)
            )
            return {type(one).__name__ for one in found}

        self.assertEqual(made(), {"CgroupsIsolator", "PortsIsolator"})
        self.assertIn("PerfIsolator", made(perf_events=("task_clock",)))
        error = self.assertRaises(IsolationUnknown, made, perf_events=("beauty",))
        self.assertIn("--perf_events: unknown event 'beauty'", str(error))

    @not_root
    def test_controllers_of_version_1_are_refused_where_there_is_version_2(self) -> None:
        why = self.refused("cgroups/net_cls", cgroups_hierarchy=unified(self))
        self.assertIn("cgroups of version 2 have no net_cls", why)


@not_root
class ApartTests(IsolatedTestCase):
    """A container that is kept apart in every way."""

    def setUp(self) -> None:
        super().setUp()
        self.hidden = os.path.join(self.directory, "sandboxes")
        profiles = os.path.join(self.directory, "profiles")
        os.mkdir(profiles)
        Path(profiles, "p.json").write_text(json.dumps(NO_MKDIR))
        names = ("namespaces/pid", "namespaces/ipc", "filesystem/linux", "network/none")
        rights = ("linux/capabilities", "linux/nnp", "linux/seccomp", f"{__name__}.plugged")
        settings = IsolationSettings(
            isolation=names + rights,
            bounding_capabilities=0,
            seccomp_config_dir=profiles,
            seccomp_profile_name="p.json",
        )
        self.more += make_isolators(settings, Clock(), self.in_thread, self.hidden)

    async def test_it_sees_itself_alone_and_may_do_little(self) -> None:
        Path(self.sandbox("other"), "secret").write_text("x")
        box = self.sandbox("a", NOBODY)
        agent, ends = await self.started()
        command = (
            f"pwd; ls {self.hidden}; ls /proc | grep -c '^[0-9]'; ls /dev/shm | wc -l;"
            f" tail -n +3 /proc/net/dev | head -n 1 | cut -d: -f1; mkdir x 2>&1; touch here;"
            f" touch {self.hidden}/there 2>&1; grep CapBnd /proc/self/status; echo $SITE"
        )
        await agent.launch(self.spec("a", command, user="nobody"))
        self.assertEqual(await ends.wait(1), [("a", 0)])
        where, seen, processes, shared, network, made, touched, bound, site = self.output(
            "a"
        ).splitlines()
        self.assertEqual((where, seen, network.strip(), site), (box, "a", "lo", "ours"))
        self.assertLess(int(processes), 6)
        self.assertEqual(int(shared), 0)
        self.assertIn("Operation not permitted", made)
        self.assertIn("touch", touched)
        self.assertEqual(bound.split(), ["CapBnd:", "0" * 16])
        self.assertTrue(os.path.exists(f"{box}/here"))

    async def test_root_writes_to_its_sandbox_alone_among_those(self) -> None:
        agent, ends = await self.started()
        where = self.hidden
        command = f"touch here; mkdir -p {where}/b; touch {where}/there; ls {where}"
        await agent.launch(self.spec("a", command))
        await ends.wait(1)
        self.assertEqual(self.output("a").split(), ["a"])
        self.assertEqual(os.listdir(self.hidden), ["a"])

    async def test_what_is_nested_is_inside(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exec sleep 1000"))
        below = self.spec("b", f"ls {self.hidden}; kill -0 2 && echo there", parent=A)
        await agent.launch(replace(below, sandbox=self.sandbox("a/containers/b")))
        await ends.wait(1)
        self.assertEqual(self.output("a/containers/b").split(), ["a", "there"])
        await agent.destroy(A)
