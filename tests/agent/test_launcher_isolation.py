"""How the launcher keeps processes apart: cgroups, namespaces, mounts, rights, system calls.

These tests make real ones, as root; what they leave is removed by path.
"""

from __future__ import annotations

import base64
import errno
import os
import pwd
import struct
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from unittest import skipIf, skipUnless

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.launcher_cgroups import kill_all, pids_in
from mesoskit.agent.launcher_isolation import (
    MS_BIND,
    MS_RDONLY,
    MS_REC,
    IsolationError,
    isolation,
    why_no_namespace,
)
from mesoskit.model.ids import ContainerId
from tests.agent.real import RealTestCase, alive, until
from tests.base import SynchronousTestCase
from tests.cluster.processes import sweep_cgroups

A = ContainerId("a")
MS_NOSUID = 2
HERE = Path(__file__).resolve().parents[2]
FREEZER = Path("/sys/fs/cgroup/freezer")
NOBODY = pwd.getpwnam("nobody").pw_uid
not_root = skipIf(os.geteuid() != 0, "only root can isolate")
BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
wants_freezer = skipUnless(FREEZER.is_dir(), "no freezer of cgroup v1")


class RequestTests(SynchronousTestCase):
    """What is asked of the launcher."""

    def test_what_is_not_named_is_not_done(self):
        self.assertEqual(isolation({}), isolation({"mounts": [], "namespaces": []}))

    def test_nonsense_is_refused_with_what_is_wrong(self):
        for given, why in (
            ({"color": "red"}, "color"),
            ({"namespaces": ["time"]}, "unknown namespace 'time': mnt, uts, ipc, pid, net"),
            ({"mounts": [["a"]]}, "target"),
            ({"seccomp": "?"}, "cannot be understood"),
        ):
            self.assertIn(why, str(self.assertRaises(IsolationError, isolation, given)))

    def test_too_many_namespaces_are_no_matter_of_the_disk(self):
        for number, why in (
            (errno.ENOSPC, "sysctl user.max_pid_namespaces"),
            (errno.EINVAL, "the kernel has none of that kind"),
            (errno.EPERM, "Operation not permitted"),
        ):
            self.assertIn(why, why_no_namespace(OSError(number, os.strerror(number))))

    def test_no_cgroup_has_nothing_in_it(self):
        kill_all("/nowhere")
        self.assertEqual(pids_in("/nowhere"), [])


@not_root
class NamespaceTests(RealTestCase):
    """What a container sees."""

    async def run_apart(self, command: str, *more: str, **isolated: object) -> str:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", command, *more), isolated)
        await ends.wait(1)
        return self.output("a") + self.output("a", "stderr")

    async def test_it_sees_no_other_processes(self):
        found = await self.run_apart(
            "echo $$; ls /proc | grep -c '^[0-9]'", namespaces=["pid", "mnt"]
        )
        self.assertEqual(found.split()[0], "2")
        self.assertLess(int(found.split()[1]), 7)

    async def test_an_end_behind_an_init_is_told_as_it_was(self):
        agent, ends = await self.started()
        apart = {"namespaces": ["pid", "mnt"]}
        await agent.launch(self.spec("a", "exit 7"), apart)
        await ends.wait(1)
        await agent.launch(self.spec("b", "kill -TERM $$"), apart)
        await ends.wait(2)
        await agent.launch(self.spec("c", "exec sleep 1000"), apart)
        agent.signal(ContainerId("c"), SIGTERM)
        await ends.wait(3)
        await agent.launch(self.spec("d", "exec sleep 1000"), apart)
        await agent.destroy(ContainerId("d"))
        told = [("a", 7 << 8), ("b", SIGTERM), ("c", SIGTERM), ("d", SIGKILL)]
        self.assertEqual(ends.told, told)

    async def test_its_init_has_no_rights_and_nothing_to_see(self):
        found = await self.run_apart(
            "for i in $(seq 600); do grep -q 'CapEff:.*0000000000000000' /proc/1/status && break;"
            " sleep 0.1; done; grep -E 'Cap(Eff|Prm|Bnd)' /proc/1/status;"
            " setpriv --bounding-set=-all cat /proc/1/environ",
            namespaces=["pid", "mnt"],
        )
        words = found.split()
        self.assertEqual(words[:6:2], ["CapPrm:", "CapEff:", "CapBnd:"])
        self.assertEqual({int(word, 16) for word in words[1:6:2]}, {0})
        self.assertIn("Permission denied", found)

    async def test_who_has_no_rights_never_sees_its_init(self):
        found = await self.run_apart(
            "cat /proc/1/environ; grep CapBnd /proc/self/status",
            namespaces=["pid", "mnt"],
            bounding=0b1,
        )
        self.assertIn("Permission denied", found)
        self.assertEqual(int(found.split("CapBnd:")[1].split()[0], 16), 0b1)

    async def test_an_init_starts_whatever_can_be_executed(self):
        agent, ends = await self.started()
        apart = {"namespaces": ["pid", "mnt"], "no_new_privileges": True}
        script = Path(self.sandbox("s"), "script")
        script.write_text("echo $0 $1; grep NoNewPrivs /proc/self/status")
        script.chmod(0o755)
        limited = (("RLMT_NOFILE", 100, 100),)
        for name, limits in (("a", ()), ("b", limited)):
            spec = replace(self.spec(name, ""), argv=("s", "x"), file=str(script), rlimits=limits)
            await agent.launch(spec, apart)
        await ends.wait(2)
        for name in ("a", "b"):
            self.assertEqual(self.output(name).split(), [str(script), "x", "NoNewPrivs:", "1"])
        script.write_text("#!/no/such/interpreter\n")
        for limits in ((), limited):
            spec = replace(self.spec("c", ""), file=str(script), rlimits=limits)
            with self.assertRaisesRegex(ContainerError, "cannot execute .*script.*No such file"):
                await agent.launch(spec, apart)
        self.assertEqual(len(self.below()), 1)  # the launcher

    async def test_its_daemons_end_with_it(self):
        agent, ends = await self.started()
        command = "setsid sh -c 'env -i sleep 1000 & sleep 1000' & sleep 0.1; exit 3"
        await agent.launch(self.spec("a", command), {"namespaces": ["pid", "mnt"]})
        self.assertEqual(await ends.wait(1), [("a", 3 << 8)])
        self.assertEqual(len(self.below()), 1)  # the launcher

    async def test_another_starts_inside(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exec sleep 1000"), {"namespaces": ["pid", "mnt", "ipc"]})
        command = "cat /proc/2/cmdline; readlink /proc/self/ns/ipc /proc/2/ns/ipc"
        await agent.launch(self.spec("b", command), {"inside": "a"})
        self.assertEqual(await ends.wait(1), [("b", 0)])
        seen, *spaces = self.output("b").replace("sleep\x001000\x00", "sleep\n").split()
        self.assertEqual(seen, "sleep")
        self.assertEqual(spaces[0], spaces[1])
        with self.assertRaisesRegex(ContainerError, "nobody that it is to be started in"):
            await agent.launch(self.spec("c", "true"), {"inside": "nobody"})
        await agent.destroy(A)

    async def test_no_network_but_its_own(self):
        found = await self.run_apart("cat /proc/net/dev | tail -n +3", namespaces=["net"])
        self.assertEqual([line.split(":")[0].strip() for line in found.splitlines()][:1], ["lo"])

    async def test_mounts(self):
        writable, fixed = self.sandbox("w"), self.sandbox("r")
        Path(fixed, "there").write_text("yes")
        target, other = self.sandbox("at"), self.sandbox("at2")
        found = await self.run_apart(
            f"touch {target}/new; cat {other}/there; touch {other}/no",
            namespaces=["mnt"],
            mounts=[[writable, target], [fixed, other, "", MS_BIND | MS_RDONLY]],
        )
        self.assertEqual(os.listdir(writable), ["new"])
        self.assertIn("yes", found)
        self.assertIn("Read-only file system", found)
        self.assertEqual(os.listdir(target), [])

    async def test_nothing_within_what_is_read_only_stays_writable(self):
        source, target = self.sandbox("source"), self.sandbox("target")
        os.mkdir(f"{source}/a way in")
        within = ["none", f"{source}/a way in", "tmpfs", MS_NOSUID]
        look = f"grep -c '{target}.* ro,nosuid' /proc/self/mountinfo; touch '{target}/a way in/no'"
        flags = MS_BIND | MS_REC
        found = await self.run_apart(
            look, namespaces=["mnt"], mounts=[within, [source, target, "", flags | MS_RDONLY]]
        )
        self.assertIn("Read-only file system", found)
        self.assertEqual(found.split()[0], "1")
        # As on kernels that cannot do it at once.
        code = "import sys, os; from mesoskit.agent.launcher_readonly import remount_each as all_;"
        code += "all_(os.fsencode(sys.argv[1]))"
        each = f"{sys.executable} -S -c '{code}' {target}"
        agent, ends = await self.started()
        await agent.launch(
            self.spec("b", f"PYTHONPATH={HERE} {each} && {look}"),
            {"namespaces": ["mnt"], "mounts": [within, [source, target, "", flags]]},
        )
        await ends.wait(1)
        self.assertIn("Read-only file system", self.output("b", "stderr"))
        self.assertEqual(self.output("b"), "1\n")

    async def test_another_root(self):
        root = self.sandbox("root")
        for name in ("bin", "lib", "lib64", "usr", "proc", "box", "escape"):
            os.mkdir(f"{root}/{name}")
        os.rmdir(f"{root}/escape")
        os.symlink("/box", f"{root}/escape")
        mounts = [["/usr", "/usr", "", MS_BIND | MS_RDONLY], [self.sandbox("a"), "/escape"]]
        mounts += [[f"/{name}", f"/{name}"] for name in ("bin", "lib", "lib64")]
        found = await self.run_apart(
            "pwd; echo /*; touch /box/here",
            namespaces=["mnt", "pid"],
            root=root,
            directory="/box",
            mounts=mounts,
        )
        self.assertEqual(
            found.splitlines()[:2], ["/box", "/bin /box /escape /lib /lib64 /proc /usr"]
        )
        self.assertTrue(os.path.exists(self.sandbox("a") + "/here"))

    async def test_what_cannot_be_done_fails_the_launch(self):
        agent, ends = await self.started()
        for given, why in (
            ({"cgroups": ["/nowhere"]}, "cgroup '/nowhere': No such file"),
            ({"namespaces": ["mnt"], "mounts": [["/no", "/proc"]]}, "mount of '/no' at '/proc'"),
            ({"namespaces": ["mnt", "pid"], "root": "/no"}, "root '/no': No such file"),
        ):
            with self.assertRaisesRegex(ContainerError, why):
                await agent.launch(self.spec("a", "true"), given)
        await agent.launch(self.spec("b", "true"), {"namespaces": ["pid", "mnt"]})
        self.assertEqual(await ends.wait(1), [("b", 0)])


@not_root
class RightsTests(RealTestCase):
    """What a container may do."""

    async def rights(self, user: str | None = None, **isolated: object) -> dict[str, int]:
        agent, ends = await self.started()
        spec = self.spec("a", "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status", user=user)
        if user is not None:
            os.chown(self.sandbox("a"), NOBODY, NOBODY)
        await agent.launch(spec, isolated)
        self.assertEqual(await ends.wait(1), [("a", 0)])
        lines = [line.split(":") for line in self.output("a").splitlines()]
        return {name: int(value, 16) for name, value in lines}

    async def test_bounds_for_root(self):
        found = await self.rights(bounding=0b1001)
        self.assertEqual((found["CapBnd"], found["CapEff"]), (0b1001, 0b1001))

    async def test_capabilities_for_others(self):
        found = await self.rights("nobody", bounding=0b1111, effective=0b0101)
        self.assertEqual((found["CapBnd"], found["CapEff"]), (0b1111, 0b0101))

    async def test_no_new_privileges(self):
        found = await self.rights("nobody", no_new_privileges=True)
        self.assertEqual((found["NoNewPrivs"], found["CapEff"]), (1, 0))

    async def test_system_calls(self):
        # ld [nr]; jeq mkdir, deny; allow; deny with EPERM (x86_64: mkdir 83, mkdirat 258)
        allow, deny = 0x7FFF0000, 0x00050001
        program = b"".join(
            struct.pack("HBBI", *line)
            for line in (
                (0x20, 0, 0, 0),
                (0x15, 2, 0, 83),
                (0x15, 1, 0, 258),
                (0x06, 0, 0, allow),
                (0x06, 0, 0, deny),
            )
        )
        agent, ends = await self.started()
        await agent.launch(
            self.spec("a", "mkdir x || echo held"),
            {"seccomp": base64.b64encode(program).decode()},
        )
        await ends.wait(1)
        self.assertEqual(self.output("a"), "held\n")


@not_root
@wants_freezer
class CgroupTests(RealTestCase):
    """Everything that was born in a cgroup ends with its container."""

    def setUp(self) -> None:
        super().setUp()
        self.cgroup = FREEZER / f"mesoskit-test-{os.getpid()}"
        self.cgroup.mkdir()
        self.addCleanup(sweep_cgroups, self.cgroup.name)

    async def test_what_washed_everything_off_ends_too(self):
        agent, ends = await self.started()
        path = str(self.cgroup)
        command = (
            "(setsid sh -c 'env -i setsid sleep 1000 & env -i setsid sleep 1000 &') & "
            f"until [ $(wc -l < {path}/cgroup.procs) -ge 4 ]; do sleep 0.01; done; "
            f"cat {path}/cgroup.procs; exit 4"
        )
        await agent.launch(self.spec("a", command), {"cgroups": [path], "kill": path})
        self.assertEqual(await ends.wait(1), [("a", 4 << 8)])
        pids = [int(pid) for pid in self.output("a").split()]
        self.assertGreater(len(pids), 2)
        # Who leaves a cgroup is about to be no more.
        await until(lambda: not [pid for pid in pids if alive(pid)])

    async def test_a_launcher_that_was_killed_leaves_the_next_one_the_cgroup(self):
        agent, ends = await self.started()
        path = str(self.cgroup)
        command = "env -i setsid sleep 1000 & exec sleep 1000"
        await agent.launch(self.spec("a", command), {"cgroups": [path], "kill": path})
        await until(lambda: len(pids_in(path)) == 2)
        os.kill(self.launcher(), SIGKILL)
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", None)])
        self.assertEqual(pids_in(path), [])

    async def test_a_tree_that_forks_without_end_is_ended(self):
        limits = Path("/sys/fs/cgroup/pids") / self.cgroup.name
        limits.mkdir()
        (limits / "pids.max").write_text("40")
        agent, _ = await self.started()
        path = str(self.cgroup)
        isolated = {"cgroups": [path, str(limits)], "kill": path}
        bomb = Path(self.directory, "bomb")
        bomb.write_text(BOMB)
        await agent.launch(self.spec("a", f"exec {sys.executable} {bomb}"), isolated)
        await until(lambda: len(pids_in(path)) == 40)
        await agent.destroy(A)
        self.assertEqual(pids_in(path), [])
