"""Containers from images whose agent, or whose stage, is killed at each step of a launch."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Final

from mesoskit.agent import launcher_oci
from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.provisioning import runtime_id
from mesoskit.agent.environment import DEFAULT_PATH
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image, Secret, Volume
from mesoskit.model.ids import ContainerId
from tests.agent import dying_agent
from tests.agent.containers_contract import Ends
from tests.agent.real import until
from tests.agent.test_imaged import ImagedTestCase, info_of, sandbox_path, sleeping

MOST: Final = 200
"""Steps that no launch has."""

_DYING_STAGE: Final = """
import importlib.util, os, signal, sys

specification = importlib.util.spec_from_file_location("stage", {stage!r})
stage = importlib.util.module_from_spec(specification)
specification.loader.exec_module(stage)
left = [{step}]

def dying(do):
    def step(*arguments, **more):
        left[0] -= 1
        if not left[0]:
            open({told!r} + "/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if do is waitpid and arguments[0] == -1:
            open({told!r} + "/waits", "w").close()
        return do(*arguments, **more)
    return step

waitpid = os.waitpid

for where, names in (
    (stage, ("_mount", "_call", "hide_cgroups")),
    (stage.Stage, ("_runtime", "_say", "_wait", "_set_pid_namespace")),
    (os, ("fork", "posix_spawn", "waitpid", "rename")),
):
    for name in names:
        setattr(where, name, dying(getattr(where, name)))
stage.main(sys.argv[1:])
"""

_ONLY_CGROUPS_2: Final = """
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, ctypes.c_ulong(16384 | 1 << 18), None) == 0
libc.umount2(b"/sys/fs/cgroup", 2)
assert libc.mount(b"none", b"/sys/fs/cgroup", b"cgroup2", ctypes.c_ulong(0), None) == 0
os.execv(sys.executable, [sys.executable, "-I", "-S", {stage!r}, *sys.argv[1:]])
"""


def full(directory: str, name: str) -> ContainerSpec:
    """Return a container with all that one may have to be made for."""
    source = Volume.Source(type=Volume.Source.SECRET)
    source.secret.type = Secret.VALUE
    source.secret.value.data = b"whisper"
    secret = Volume(container_path="/run/word", mode=Volume.RO, source=source)
    laid = Volume(container_path="/laid", mode=Volume.RW)
    laid.image.type = Image.DOCKER
    laid.image.docker.name = "busy"
    return ContainerSpec(
        ContainerId(name),
        ("sh", "-c", "sleep 1000"),
        os.path.join(directory, "sandboxes", name),
        (("PATH", DEFAULT_PATH),),
        file="/bin/sh",
        info=info_of("busy", sandbox_path("kept", "/kept"), secret, laid).SerializeToString(),
    )


class StepsTestCase(ImagedTestCase):
    """A test with a stage of its own."""

    timeout = 600

    def stage(self, text: str) -> None:
        """Have containers made by another program than ours."""
        path = Path(self.directory, "stage.py")
        path.write_text(text)
        self.patch(launcher_oci, "__file__", str(path))


class StageTests(StepsTestCase):
    """What makes a container is killed."""

    async def check_each_step(self, spec: ContainerSpec, least: int) -> None:
        """Kill what makes a container before each of its steps, one after the other."""
        agent, ends = await self.begun()
        real = launcher_oci.__file__
        token = f"{1_000_000 + os.getpid()}.2"
        spec = replace(spec, argv=("sh", "-c", f"sleep {token}"))
        if spec.parent is not None:
            await agent.launch(full(self.directory, spec.parent))
        around = processes_below(self)
        died, waits = Path(self.directory, "died"), Path(self.directory, "waits")
        for step in range(1, MOST):
            self.stage(_DYING_STAGE.format(stage=real, step=step, told=self.directory))
            try:
                await agent.launch(spec)
            except ContainerError:
                self.assertEqual(ends.told, [])
            else:
                await until(lambda: died.exists() or waits.exists(), 60.0)
                await until(lambda: died.exists() or sleeping(token), 60.0)
                await agent.destroy(spec.id)
                self.assertEqual(await ends.wait(1), [(spec.id, SIGKILL)])
                ends.told.clear()
                agent.forget(spec.id)
            path = os.path.join(self.provisioner, runtime_id(spec.id))
            await until(lambda path=path: not os.path.exists(path), 60.0)  # type: ignore[misc]
            await until(lambda: processes_below(self) == around and not sleeping(token), 60.0)
            waits.unlink(missing_ok=True)
            if not died.exists():
                break
            died.unlink()
        self.assertTrue(least < step < MOST - 1, step)
        if spec.parent is not None:
            await agent.destroy(spec.parent)
        await self.cleaned()

    async def test_at_each_step(self):
        self.sandbox("a")
        await self.check_each_step(full(self.directory, "a"), 15)

    async def test_at_each_step_of_what_is_within_another(self):
        for name in "ab":
            self.sandbox(name)
        plain = replace(full(self.directory, "b"), info=b"", parent=ContainerId("a"))
        await self.check_each_step(plain, 5)

    async def test_at_each_step_of_what_is_within_another_and_has_volumes(self):
        for name in "ab":
            self.sandbox(name)
        whole = full(self.directory, "b")
        info = ContainerInfo.FromString(whole.info)
        info.mesos.ClearField("image")
        within = replace(whole, info=info.SerializeToString(), parent=ContainerId("a"))
        await self.check_each_step(within, 10)


def processes_below(test: ImagedTestCase) -> list[int]:
    """Return what makes containers of a test, or runs in one."""
    commands = ("launcher_oci.py", "stage.py", "sleep")
    found = []
    for pid in test.below():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if any(command in line for command in commands):
            found.append(pid)
    return sorted(found)


class AgentTests(StepsTestCase):
    """The agent is killed."""

    def setUp(self) -> None:
        super().setUp()
        self.sandbox("a")
        command = [sys.executable, dying_agent.__file__, self.directory, self.maker]
        self.dying = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.dying.wait)
        self.addCleanup(self.dying.kill)

    def killed(self, what: str, step: int) -> bool:
        """Have an agent begin something; say whether it was killed before it was done."""
        assert self.dying.stdin is not None
        assert self.dying.stdout is not None
        self.dying.stdin.write(f"{what} {step}\n".encode())
        self.dying.stdin.flush()
        ready, _, _ = select.select([self.dying.stdout], [], [], 120.0)
        self.assertTrue(ready, "the agent hangs")
        word = self.dying.stdout.readline()
        self.assertIn(word, (b"killed\n", b"done\n"))
        return word == b"killed\n"

    async def check(self, what: str) -> int:
        for step in range(1, MOST):
            killed = self.killed(what, step)
            ends = Ends()
            agent = self.imaged(ends)
            await agent.start()
            found = await agent.recover()
            self.assertEqual(os.listdir(os.path.join(agent.store.directory, "pulls")), [])
            for name in found.running:
                await agent.destroy(name)
            for name in (*found.running, *found.exited):
                agent.forget(name)
            await self.cleaned()
            await agent.stop()
            if not killed:
                return step
        raise AssertionError("there is no end of it")

    async def test_at_each_step_of_a_launch(self):
        agent, _ = await self.begun()
        await agent.store.get("busy")
        await agent.stop()
        self.assertGreater(await self.check("launch"), 20)

    async def test_at_each_step_of_a_pull(self):
        self.assertGreater(await self.check("get"), 10)
        agent, _ = await self.begun()
        image = await agent.store.get("busy")
        self.assertEqual(os.listdir(agent.store.layers), list(image.layers))


class RuntimesTests(StepsTestCase):
    """A machine with cgroups of version 2 alone, as far as runtimes see."""

    async def check(self) -> None:
        self.stage(_ONLY_CGROUPS_2.format(stage=launcher_oci.__file__))
        self.assertEqual(await self.result("echo here"), "here\n")

    async def test_the_quicker_one(self):
        await self.check()

    async def test_runc(self):
        self.maker = "runc"
        await self.check()
