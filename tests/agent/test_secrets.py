"""Secrets in environments: tasks get them, and nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mesoskit.cluster.sqlite import SQLiteStore
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, Secret, TaskInfo, Volume
from tests.agent.bench import custom_executor, framework, task
from tests.agent.test_service import World
from tests.base import SynchronousTestCase
from tests.web.asking import ask

PLANTED = "pl4nted"


def add_secret(command: CommandInfo) -> None:
    variable = command.environment.variables.add(name="PASSWORD", type=2)
    variable.secret.type = Secret.VALUE
    variable.secret.value.data = PLANTED.encode()


def add_reference(command: CommandInfo) -> None:
    variable = command.environment.variables.add(name="PASSWORD", type=2)
    variable.secret.type = Secret.REFERENCE
    variable.secret.reference.name = "/vault/password"


class SecretTests(SynchronousTestCase):
    """An agent that is registered."""

    def setUp(self) -> None:
        work_dir = os.path.realpath(self.mktemp())
        os.makedirs(work_dir)
        self.world = World(work_dir)
        self.service = self.world.agent()
        self.master = self.world.register(self.service)

    def run_task(self, info: TaskInfo) -> None:
        self.world.send(
            self.master, internal.RunTaskMessage(framework=framework(checkpoint=True), task=info)
        )
        self.world.turn(16)

    def test_task_gets_them(self) -> None:
        info = task("t", "sleep 1000")
        add_secret(info.command)
        add_secret(info.health_check.command)
        info.container.type = ContainerInfo.MESOS
        volume = info.container.volumes.add(container_path="/run/secret", mode=2)
        volume.source.type = Volume.Source.SECRET
        volume.source.secret.type = Secret.VALUE
        volume.source.secret.value.data = PLANTED.encode()
        self.run_task(info)
        (spec,) = self.world.launcher.specs.values()
        self.assertEqual(PLANTED, dict(spec.environment)["PASSWORD"])
        self.assertNotIn(PLANTED, repr(spec))
        self.nobody_sees()

    def test_executor_gets_them(self) -> None:
        info = task("t", executor=custom_executor("e"))
        add_secret(info.executor.command)
        self.run_task(info)
        (spec,) = self.world.launcher.specs.values()
        self.assertEqual(PLANTED, dict(spec.environment)["PASSWORD"])
        self.nobody_sees()

    def nobody_sees(self) -> None:
        """No page shows them, nor what the agent says of itself to a master."""
        for path in ("state", "containers", "monitor/statistics", "metrics/snapshot", "flags"):
            answer = ask(self.service.port, f"GET /{path}", self.world.turn)
            self.assertEqual(200, answer.status)
            self.assertNotIn(PLANTED.encode(), answer.body)
            self.assertNotIn(b"cGw0bnRlZA", answer.body)
        for name in ("GET_STATE", "GET_TASKS", "GET_EXECUTORS", "GET_CONTAINERS", "GET_FRAMEWORKS"):
            body = f'{{"type": "{name}"}}'
            answer = ask(
                self.service.port,
                "POST /api/v1",
                self.world.turn,
                body,
                Content_Type="application/json",
                Accept="application/json",
            )
            self.assertEqual(200, answer.status, name)
            self.assertNotIn(PLANTED.encode(), answer.body)
            self.assertNotIn(b"cGw0bnRlZA", answer.body)
        self.assertNotIn(PLANTED, repr(list(self.service.state.events)))

    def test_reference_is_refused_clearly(self) -> None:
        plain, custom = task("plain", "true"), task("custom", executor=custom_executor("e"))
        add_reference(plain.command)
        add_reference(custom.executor.command)
        for info in (plain, custom):
            self.master.messages.clear()
            self.run_task(info)
            self.world.acknowledge(self.master)
            self.assertEqual({}, self.world.launcher.specs)
            update = [
                one.update.status
                for one in self.master.messages
                if isinstance(one, internal.StatusUpdateMessage)
            ][-1]
            self.assertIn(
                "Environment variable 'PASSWORD': Default secret resolver cannot resolve",
                update.message,
            )
            self.assertEqual("TASK_FAILED", self.master.states()[-1])


class CheckpointTests(SynchronousTestCase):
    """Checkpoints hold what a task was given."""

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def test_nobody_else_may_read_them(self) -> None:
        path = self.mktemp()
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        store = SQLiteStore(Path(path), full=False)
        self.successResultOf(store.load())
        self.successResultOf(store.apply((("a", b"b"),)))
        for ending in ("", "-wal"):
            self.assertEqual(0o600, self.mode(path + ending))
        self.successResultOf(store.close())

    def test_those_of_an_older_agent_are_taken_from_others(self) -> None:
        path = self.mktemp()
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        store = SQLiteStore(Path(path), full=False)
        self.successResultOf(store.load())
        self.successResultOf(store.apply((("a", b"b"),)))
        self.assertEqual(0o600, self.mode(path))
        self.successResultOf(store.close())
