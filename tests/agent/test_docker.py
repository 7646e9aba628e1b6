"""Containers of the Docker engine: on a real one, held to the suite of all containers."""

from __future__ import annotations

import os
import shutil
import tempfile
from signal import SIGKILL
from typing import Any

from twisted.trial.unittest import TestCase

from mesoskit.agent.container import ContainerSpec, RecoveredContainers
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.messages.mesos_pb2 import ContainerInfo
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import ContainersContract, Ends
from tests.agent.docker_engines import IMAGE, Daemon, daemon
from tests.agent.real import REACTOR


class DockerTestCase(TestCase):
    """A test with a real engine and a directory of its own; all it starts is removed."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.daemon: Daemon = await daemon()
        self.directory = tempfile.mkdtemp(prefix="mesoskit-test-")
        os.chmod(self.directory, 0o755)
        self.in_thread = in_thread_of(REACTOR)
        self.users = Users(REACTOR, self.in_thread)
        self.agents: list[DockerContainers] = []
        self.settings = DockerSettings(socket=self.daemon.socket, remove_delay=0.0)
        self.addCleanup(self.clean_up)

    def agent(self, ends: Ends, settings: DockerSettings | None = None) -> DockerContainers:
        agent = DockerContainers(
            REACTOR,
            settings or self.settings,
            self.directory,
            os.path.join(self.directory, "docker"),
            self.users,
            self.in_thread,
            ends,
        )
        self.agents.append(agent)
        return agent

    def sandbox(self, name: str) -> str:
        path = os.path.join(self.directory, "sandboxes", name)
        os.makedirs(path, exist_ok=True)
        return path

    def output(self, name: str, stream: str = "stdout") -> str:
        with open(os.path.join(self.sandbox(name), stream)) as file:
            return file.read()

    def spec(self, name: str, command: str | None, **more: Any) -> ContainerSpec:
        """Return a container of a shell command; L{None}: of the image's own."""
        info = more.pop("info", ContainerInfo(type=ContainerInfo.DOCKER))
        info.docker.image = info.docker.image or IMAGE
        info.docker.parameters.add(key="init", value="true")
        argv = ("/bin/sh", "-c", command) if command is not None else ()
        more.setdefault("environment", (("A", "1"),))
        return ContainerSpec(
            ContainerId(name),
            more.pop("argv", argv),
            self.sandbox(name),
            file="/bin/sh" if command is not None else None,
            info=info.SerializeToString(),
            docker=True,
            **more,
        )

    async def started(
        self, settings: DockerSettings | None = None
    ) -> tuple[DockerContainers, Ends]:
        ends = Ends()
        agent = self.agent(ends, settings)
        await agent.start()
        await agent.recover()
        return agent, ends

    async def clean_up(self) -> None:
        for agent in self.agents:
            await agent.stop()
        last = self.agent(Ends())
        await last.start()
        for item in await last._watch.list():
            await last._watch.remove(item["Id"])
        await last.stop()
        shutil.rmtree(self.directory)


class DockerContractTests(DockerTestCase, ContainersContract):
    """The suite of all containers."""

    least_pid = 0

    async def test_what_may_not_outlive_its_agent_ends_without_one(self):
        # The engine knows of no patience: the next agent does.
        first, _ = await self.started()
        pids = {
            ContainerId(name): await first.launch(self.spec(name, "sleep 1000", patience=patience))
            for name, patience in (("short", 0.0), ("long", 1000.0), ("eternal", None))
        }
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        expected = RecoveredContainers(pids, {}, frozenset([ContainerId("short")]))
        self.assertEqual(await second.recover(), expected)
        self.assertEqual(await ends.wait(1), [("short", SIGKILL)])
