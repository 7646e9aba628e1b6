"""Real launchers and real processes for tests, and their certain end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.launcher_proc import process, processes
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends

REACTOR: Any = reactor


async def until(predicate: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until the world outside of this process is as it should be."""
    deadline = REACTOR.seconds() + seconds
    while not predicate():
        if REACTOR.seconds() > deadline:
            raise AssertionError(f"{predicate} did not come true in {seconds} s")
        await deferLater(REACTOR, 0.005)


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    found = process(pid)
    return found is not None and found.alive


def _describe(pid: int) -> str:
    with contextlib.suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return f"{process(pid)} is left: {arguments.decode(errors='replace')}"
    return f"{pid} was left"


class RealTestCase(TestCase):
    """A test with a directory of its own for a launcher and for sandboxes.

    Ends with the launcher and all that it started gone, or fails.
    """

    timeout = 300

    def setUp(self) -> None:
        # Not below the place where tests run: other users have to get there.
        self.directory = tempfile.mkdtemp(prefix="mesoskit-test-")
        os.chmod(self.directory, 0o755)
        self.runtime = os.path.join(self.directory, "launcher")
        self.in_thread = in_thread_of(REACTOR)
        self.users = Users(REACTOR, self.in_thread)
        self.agents: list[LaunchedContainers] = []
        self.addCleanup(self.clean_up)

    def agent(self, ends: Ends) -> LaunchedContainers:
        """Return containers over a launcher that ends soon when nobody wants it."""
        agent = LaunchedContainers(
            REACTOR, self.runtime, self.users, self.in_thread, ends, linger=0.1
        )
        self.agents.append(agent)
        return agent

    def sandbox(self, name: str, user: int | None = None) -> str:
        """Return the path of a sandbox that exists; C{user}'s, where we can give it away."""
        path = os.path.join(self.directory, "sandboxes", name)
        os.makedirs(path, exist_ok=True)
        if user is not None and os.geteuid() == 0:
            os.chown(path, user, user)
        return path

    def output(self, name: str, stream: str = "stdout") -> str:
        """Return what a container has written."""
        return Path(self.sandbox(name), stream).read_text()

    def spec(self, name: str, command: str, **more: Any) -> ContainerSpec:
        """Return a container of a shell command."""
        return ContainerSpec(
            ContainerId(name),
            ("sh", "-c", command),
            self.sandbox(name),
            (("PATH", "/usr/bin:/bin"),),
            file="/bin/sh",
            **more,
        )

    async def started(self) -> tuple[LaunchedContainers, Ends]:
        """Return containers at work and what hears of ends."""
        ends = Ends()
        agent = self.agent(ends)
        await agent.start()
        await agent.recover()
        return agent, ends

    def launcher(self) -> int:
        """Return the launcher's pid."""
        return int(json.loads(Path(self.runtime, "launcher.json").read_text())["pid"])

    async def written_down(self, *names: str) -> None:
        """Wait until the launcher has noted ends: that the processes are gone comes before."""
        journal = Path(self.runtime, "journal")

        def noted() -> bool:
            text = journal.read_text()
            return all(f"exited {name} " in text for name in names)

        await until(noted)

    def below(self) -> list[int]:
        """Return the pids of all that has this test's directory in its arguments or around it."""
        found = []
        for pid in processes():
            with contextlib.suppress(OSError):
                where = os.readlink(f"/proc/{pid}/cwd")
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
                if self.directory in where or self.directory.encode() in arguments:
                    found.append(pid)
        return found

    async def clean_up(self) -> None:
        for agent in self.agents:
            await agent.stop()
        if os.path.exists(os.path.join(self.runtime, "journal")):
            last = self.agent(Ends())
            await last.start()
            found = await last.recover()
            for name in found.running:
                await last.destroy(name)
            for name in (*found.running, *found.exited):
                last.forget(name)
            await last.usage()
            await last.stop()
        try:
            await until(lambda: not self.below())
        except AssertionError:
            self.fail("\n".join(_describe(pid) for pid in self.below()))
        finally:
            for pid in self.below():
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.directory)
