"""Secrets within messages: they are found wherever they may be, and taken out of copies."""

from __future__ import annotations

from google.protobuf.message import Message

from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    ContainerInfo,
    ExecutorInfo,
    FrameworkInfo,
    Secret,
    TaskInfo,
    Volume,
)
from mesoskit.model.secrets import UNRESOLVED, hide_secrets, shown, unresolved
from mesoskit.model.statuses import make_task
from tests.base import SynchronousTestCase

PLANTED = b"pl4nted"


def plant(secret: Secret) -> None:
    secret.type = Secret.VALUE
    secret.value.data = PLANTED


def command() -> CommandInfo:
    """Return a command with a secret and a plain variable."""
    info = CommandInfo(value="true")
    variable = info.environment.variables.add(name="PASSWORD", type=2)
    plant(variable.secret)
    info.environment.variables.add(name="PLAIN", value="seen")
    return info


def container() -> ContainerInfo:
    """Return a container with a secret volume and an image's secret configuration."""
    info = ContainerInfo(type=ContainerInfo.MESOS)
    volume = info.volumes.add(container_path="/run/secret", mode=Volume.RO)
    volume.source.type = Volume.Source.SECRET
    plant(volume.source.secret)
    image = info.mesos.image
    image.type = image.DOCKER
    image.docker.name = "busybox"
    plant(image.docker.config)
    return info


def task_info() -> TaskInfo:
    """Return a task with a secret wherever there may be one."""
    info = TaskInfo(name="t", container=container())
    info.task_id.value = info.agent_id.value = "t"
    info.executor.executor_id.value = "e"
    info.executor.command.CopyFrom(command())
    info.executor.container.CopyFrom(container())
    info.health_check.command.CopyFrom(command())
    info.check.command.command.CopyFrom(command())
    return info


class HidingTests(SynchronousTestCase):
    """What is shown holds no secret."""

    def assert_clean(self, message: Message) -> None:
        self.assertNotIn(PLANTED, message.SerializePartialToString())

    def test_values_are_taken_out_and_all_else_stays(self) -> None:
        info = task_info()
        clean = shown(info)
        self.assert_clean(clean)
        self.assertIn(PLANTED, info.SerializeToString())
        variables = clean.executor.command.environment.variables
        self.assertEqual(["PASSWORD", "PLAIN"], [each.name for each in variables])
        self.assertEqual(Secret.VALUE, variables[0].secret.type)
        self.assertEqual("seen", variables[1].value)
        self.assertEqual("/run/secret", clean.container.volumes[0].container_path)
        self.assertTrue(clean.IsInitialized())

    def test_what_has_none_is_not_copied(self) -> None:
        for message in (FrameworkInfo(user="u", name="n"), TaskInfo(name="x"), CommandInfo()):
            self.assertIs(message, shown(message))
            self.assertFalse(hide_secrets(message))

    def test_references_are_no_secrets(self) -> None:
        info = CommandInfo()
        variable = info.environment.variables.add(name="X", type=2)
        variable.secret.type = Secret.REFERENCE
        variable.secret.reference.name = "/vault/x"
        self.assertIs(info, shown(info))
        self.assertEqual(f"Environment variable 'X': {UNRESOLVED}", unresolved(info))
        self.assertEqual("", unresolved(command()))
        self.assertEqual("", unresolved(CommandInfo()))

    def test_what_is_kept_of_a_task_has_none(self) -> None:
        info = task_info()
        task = make_task(info, 6, "f")
        self.assert_clean(task)
        self.assertIn("/run/secret", str(task))
        self.assertEqual(2, len(task.health_check.command.environment.variables))
        self.assertIn(PLANTED, info.SerializeToString())

    def test_executors(self) -> None:
        info = ExecutorInfo(command=command(), container=container())
        self.assertTrue(hide_secrets(info))
        self.assert_clean(info)
        self.assertFalse(hide_secrets(info))
