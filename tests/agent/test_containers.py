"""The containers' double and the real ones over a launcher, held to one suite.

Then what is only the real ones' trouble: descendants, users, limits, links, broken launchers.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.memory import MemoryContainers, MemoryLauncher
from mesoskit.agent.launcher_proc import process, processes
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends, NestingContract
from tests.agent.real import REACTOR, RealTestCase, alive, until

A = ContainerId("a")
NOBODY = pwd.getpwnam("nobody").pw_uid
not_root = skipIf(os.geteuid() != 0, "only root can become another user")


def arguments_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class MemoryContainersTests(NestingContract, TestCase):
    """The double."""

    def setUp(self):
        self.memory = MemoryLauncher()

    def agent(self, ends: Ends) -> MemoryContainers:
        def later(turn: Any) -> None:
            REACTOR.callLater(0, turn)

        return MemoryContainers(self.memory, ends, later)

    def sandbox(self, name: str) -> str:
        return "/nowhere"

    async def until_gone(self, pid: int) -> None:
        self.memory.abandon(1.0)


class LaunchedContainersTests(RealTestCase, NestingContract):
    """The real thing."""

    async def until_gone(self, pid: int) -> None:
        await until(lambda: not alive(pid))


class ProcessTests(RealTestCase):
    """What a container's process finds."""

    async def test_it_has_its_environment_and_sandbox_and_nothing_else(self):
        agent, ends = await self.started()
        os.environ["LEAK"] = "1"
        self.addCleanup(os.environ.pop, "LEAK")
        command = (
            "env | grep -v MESOSKIT_LAUNCHER= | sort; pwd; "
            "ls /proc/self/fd; readlink /proc/self/fd/0; "
            "echo no >&2; grep SigBlk /proc/self/status"
        )
        await agent.launch(self.spec("a", command))
        await ends.wait(1)
        path = self.sandbox("a")
        self.assertEqual(
            self.output("a").split(),
            [
                "MESOSKIT_CONTAINER=a",
                "PATH=/usr/bin:/bin",
                f"PWD={path}",
                path,
                *("0", "1", "2", "3"),  # 3 is how ls reads the directory
                "/dev/null",
                *("SigBlk:", "0" * 16),
            ],
        )
        self.assertEqual(self.output("a", "stderr"), "no\n")

    async def test_no_signal_is_ignored(self):
        agent, ends = await self.started()
        for name, rlimits in (("a", ()), ("b", (("RLMT_CORE", 0, 0),))):
            await agent.launch(self.spec(name, "grep SigIgn /proc/$$/status", rlimits=rlimits))
        await ends.wait(2)
        for name in "ab":
            ignored = int(self.output(name).split()[1], 16)
            # Two that the C library keeps to itself are left alone.
            self.assertEqual(ignored & ~(3 << 31), 0)

    async def test_it_leads_a_session_and_a_group_of_its_own(self):
        agent, _ = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000"))
        found = process(pid)
        assert found is not None
        self.assertEqual((found.session, found.group), (pid, pid))

    async def test_output_is_appended(self):
        agent, ends = await self.started()
        Path(self.sandbox("a"), "stdout").write_text("before\n")
        await agent.launch(self.spec("a", "echo after"))
        await ends.wait(1)
        self.assertEqual(self.output("a"), "before\nafter\n")

    async def test_the_executable_is_searched_in_the_containers_path(self):
        agent, ends = await self.started()
        tool = Path(self.sandbox("a"), "tool")
        tool.write_text("echo called with $1\n")  # no "#!": a shell's
        tool.chmod(0o755)
        variables = (("PATH", f"/nonexistent:{self.sandbox('a')}"),)
        spec = ContainerSpec(A, ("tool", "x"), self.sandbox("a"), variables)
        await agent.launch(spec)
        await ends.wait(1)
        self.assertEqual(self.output("a"), "called with x\n")

    async def test_what_cannot_be_executed_is_said(self):
        agent, ends = await self.started()
        sandbox = self.sandbox("a")
        contract = NestingContract()
        for argv, why in {
            ("nosuch",): "cannot execute 'nosuch': no such file in PATH",
            ("./nosuch",): "cannot execute './nosuch': No such file or directory",
            ("/etc/passwd",): "cannot execute '/etc/passwd': Permission denied",
            ("true", "\0"): "embedded null byte",
        }.items():
            for rlimits in ((), (("RLMT_NOFILE", 100, 100),)):  # the two ways to start
                spec = ContainerSpec(A, argv, sandbox, rlimits=rlimits)
                self.assertIn(why, await contract.refused(agent, spec))
        bad = ContainerSpec(A, ("true",), sandbox, rlimits=(("RLMT_NONSENSE", 1, 1),))
        self.assertIn("'RLMT_NONSENSE'", await contract.refused(agent, bad))
        gone = ContainerSpec(A, ("true",), sandbox + "/gone")
        self.assertIn("/gone': No such file", await contract.refused(agent, gone))
        self.assertEqual(ends.told, [])

    async def test_limits(self):
        agent, ends = await self.started()
        rlimits = (("RLMT_NOFILE", 20, 30), ("RLMT_CORE", None, None), ("RLMT_FSIZE", 1024, 1024))
        await agent.launch(self.spec("a", "ulimit -Sn; ulimit -Hn; ulimit -c", rlimits=rlimits))
        await ends.wait(1)
        self.assertEqual(self.output("a").split(), ["20", "30", "unlimited"])

    @not_root
    async def test_another_user_with_all_his_groups_and_nothing_of_ours(self):
        agent, ends = await self.started()
        self.sandbox("a", NOBODY)
        command = (
            "id -u; id -g; id -G; grep CapEff /proc/self/status; echo $PWD; ulimit -n;"
            "stat -c %U stdout; touch /root/x; kill -0 $(cut -d' ' -f4 /proc/$$/stat)"
        )
        limits = (("RLMT_NOFILE", 5, 5),)
        await agent.launch(self.spec("a", command, user="nobody", rlimits=limits))
        await ends.wait(1)
        entry = pwd.getpwuid(NOBODY)
        groups = os.getgrouplist("nobody", entry.pw_gid)
        lines = self.output("a").splitlines()
        self.assertEqual(lines[:2], [str(NOBODY), str(entry.pw_gid)])
        self.assertEqual(sorted(lines[2].split()), sorted(map(str, groups)))
        self.assertEqual(lines[3].split()[1], "0" * 16)
        self.assertEqual(lines[4:], [self.sandbox("a"), "5", "nobody"])
        self.assertEqual(self.output("a", "stderr").count("not permitted"), 1)

    async def test_an_unknown_user_is_said(self):
        agent, _ = await self.started()
        spec = self.spec("a", "exit 0", user="nobody-at-all")
        self.assertIn("'nobody-at-all'", await NestingContract().refused(agent, spec))

    async def test_a_hundred_at_once(self):
        agent, ends = await self.started()
        specs = [self.spec(f"c{number}", f"exit {number}") for number in range(100)]
        pids = await gatherResults([agent.launch(spec) for spec in specs])
        self.assertEqual(len(set(pids)), 100)
        expected = {(f"c{number}", number << 8) for number in range(100)}
        self.assertEqual(set(await ends.wait(100)), expected)
        for spec in specs:
            agent.forget(spec.id)
        self.assertEqual(await agent.usage(), {})

    async def test_neither_descriptors_nor_zombies_are_left(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        parent = self.launcher()

        def descriptors(pid: int) -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        before = descriptors(parent), descriptors(os.getpid())
        for number in range(50):
            await agent.launch(self.spec(f"c{number}", "sleep 0 & exit 0"))
            await NestingContract().refused(agent, self.spec("bad", "", user="nobody-at-all"))
            bad = self.spec("bad", "", rlimits=(("RLMT_NOFILE", 2, 1),))
            await NestingContract().refused(agent, bad)
        await ends.wait(51)
        self.assertEqual((descriptors(parent), descriptors(os.getpid())), before)
        left = [found for found in processes().values() if found.parent == parent]
        self.assertEqual(left, [])


class DescendantTests(RealTestCase):
    """What a container starts ends with it."""

    async def daemon(self, name: str, command: str) -> int:
        """Wait for a process that has written its pid to a file; return it."""
        file = Path(self.sandbox(name), command)
        await until(lambda: file.exists() and file.read_text().endswith("\n"))
        return int(file.read_text())

    async def test_what_is_in_the_background_ends_with_the_first_process(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000 & echo $! > pid; exit 4"))
        self.assertEqual(await ends.wait(1), [("a", 4 << 8)])
        self.assertFalse(alive(await self.daemon("a", "pid")))

    async def test_a_daemon_ends_with_the_first_process(self):
        agent, ends = await self.started()
        # A session of its own, its parent gone, its environment empty, its output elsewhere.
        daemon = "env -i setsid sh -c '(echo $$ > pid; exec sleep 1000) >/dev/null 2>&1 & exit'"
        command = f"cd /; cd - >/dev/null; {daemon}; while ! test -s pid; do :; done; exit 5"
        await agent.launch(self.spec("a", command))
        self.assertEqual(await ends.wait(1), [("a", 5 << 8)])
        self.assertFalse(alive(await self.daemon("a", "pid")))

    async def test_a_daemon_without_environment_is_known_by_its_mark(self):
        agent, ends = await self.started()
        command = (
            "env -i setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 1000\" & exit';"
            " env -i setsid sh -c 'sh -c \"echo \\$\\$ > pid2; exec sleep 1000\" & exit';"
            " sleep 1000"
        )
        await agent.launch(self.spec("a", command))
        await agent.launch(self.spec("b", command))
        daemon = await self.daemon("a", "pid")
        other = await self.daemon("a", "pid2")
        foreign = await self.daemon("b", "pid")
        while (await agent.usage())[A].processes < 4:
            pass
        await agent.destroy(A)
        self.assertEqual((alive(daemon), alive(other), alive(foreign)), (False, False, True))
        self.assertEqual(ends.told, [("a", signal.SIGKILL)])

    @not_root
    @skipIf(shutil.which("setpriv") is None, "setpriv is not there")
    async def test_so_it_is_where_marks_of_others_cannot_be_read(self):
        # As for who is not root: without CAP_SYS_NICE.
        python = Path(self.directory, "python")
        few = "setpriv --bounding-set=-sys_nice"
        python.write_text(f'#!/bin/sh\nexec {few} {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.patch(sys, "executable", str(python))
        await self.test_a_daemon_without_environment_is_known_by_its_mark()

    async def test_what_ignores_termination_is_killed(self):
        agent, ends = await self.started()
        command = "trap '' TERM; touch ready; while :; do sleep 1000; done"
        await agent.launch(self.spec("a", command))
        ready = Path(self.sandbox("a"), "ready")
        await until(ready.exists)
        agent.signal(A, signal.SIGTERM)
        await agent.usage()
        self.assertEqual(ends.told, [])
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", signal.SIGKILL)])

    async def test_a_deep_tree_in_many_sessions_is_killed(self):
        agent, ends = await self.started()
        script = Path(self.sandbox("a"), "deep")
        script.write_text(
            "test $1 -gt 0 || { echo >> ready; exec sleep 1000; }\n"
            "setsid sh deep $(($1 - 1)) &\n"
            "sh deep $(($1 - 1)) &\n"
            "exec sleep 1000\n"
        )
        await agent.launch(self.spec("a", "exec sh deep 4"))
        ready = Path(self.sandbox("a"), "ready")
        await until(lambda: ready.exists() and len(ready.read_text()) == 16)
        self.assertEqual((await agent.usage())[A].processes, 31)
        await agent.destroy(A)
        here = [pid for pid in self.below() if pid != self.launcher()]
        self.assertEqual(here, [])
        self.assertEqual(ends.told, [("a", signal.SIGKILL)])

    async def test_what_forks_for_ever_is_killed(self):
        agent, _ = await self.started()
        script = Path(self.sandbox("a"), "hydra")
        script.write_text("echo >> ready\nsleep 0.02\nsh hydra &\nexit\n")
        await agent.launch(self.spec("a", "setsid sh hydra; sleep 1000"))
        ready = Path(self.sandbox("a"), "ready")
        await until(lambda: ready.exists() and len(ready.read_text()) > 3)
        await agent.destroy(A)
        here = [pid for pid in self.below() if pid != self.launcher()]
        self.assertEqual(here, [])

    async def test_a_signal_goes_to_the_group(self):
        agent, ends = await self.started()
        command = "(trap 'echo child; exit' USR1; touch one; while :; do sleep 0.01; done) & wait"
        await agent.launch(self.spec("a", f"trap : USR1; {command}; wait; exit 3"))
        await until(Path(self.sandbox("a"), "one").exists)
        agent.signal(A, signal.SIGUSR1)
        self.assertEqual(await ends.wait(1), [("a", 3 << 8)])
        self.assertEqual(self.output("a"), "child\n")


class AttackTests(RealTestCase):
    """What lies in a sandbox is not trusted."""

    async def assert_refused(self, name: str, why: str) -> None:
        agent, _ = await self.started()
        for user in (None, "nobody") if os.geteuid() == 0 else (None,):
            spec = self.spec("a", "echo written", user=user)
            told = await NestingContract().refused(agent, spec)
            self.assertIn(name, told)
            self.assertIn(why, told)
            with contextlib.suppress(OSError):
                os.truncate(Path(self.sandbox("a"), "stdout"), 0)
                os.chown(Path(self.sandbox("a"), "stdout"), NOBODY, NOBODY, follow_symlinks=False)

    async def test_a_link_in_the_place_of_stdout_is_not_followed(self):
        target = Path(self.directory, "target")
        target.write_text("")
        os.symlink(target, os.path.join(self.sandbox("a", NOBODY), "stdout"))
        await self.assert_refused("/stdout", "Too many levels of symbolic links")
        self.assertEqual(target.read_text(), "")

    async def test_a_fifo_in_the_place_of_stderr_stops_nothing(self):
        fifo = os.path.join(self.sandbox("a", NOBODY), "stderr")
        os.mkfifo(fifo)
        os.chmod(fifo, 0o666)
        await self.assert_refused("/stderr", "No such device or address")

    async def test_a_link_in_the_place_of_the_sandbox_is_not_followed(self):
        elsewhere = self.sandbox("elsewhere", NOBODY)
        os.rmdir(self.sandbox("a"))
        os.symlink(elsewhere, os.path.join(self.directory, "sandboxes", "a"))
        agent, _ = await self.started()
        path = os.path.join(self.directory, "sandboxes", "a")
        spec = ContainerSpec(A, ("true",), path)
        self.assertIn("Not a directory", await NestingContract().refused(agent, spec))
        deeper = ContainerSpec(A, ("true",), path + "/../b")
        self.assertIn("Not a directory", await NestingContract().refused(agent, deeper))
        self.assertEqual(os.listdir(elsewhere), [])

    @not_root
    async def test_files_are_opened_with_the_users_rights(self):
        path = self.sandbox("a")  # root's
        os.chmod(path, 0o755)
        agent, _ = await self.started()
        spec = self.spec("a", "exit 0", user="nobody")
        why = await NestingContract().refused(agent, spec)
        self.assertIn("stdout: Permission denied", why)
