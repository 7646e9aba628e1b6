"""What C{mesoskit execute} is asked for: its flags, and the framework and tasks they mean.

Flags, defaults and what may stand with what are those of C{mesos-execute}
(C{src/cli/execute.cpp} of Apache Mesos), read from the command line alone.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from mesoskit.cli.request_container import (
    OF_A_COMMAND,
    container,
    network_infos,
    networks,
    parsed,
    volumes,
)
from mesoskit.cluster.zk_url import hidden
from mesoskit.flags import Flag, FlagError, Flags, Values, boolean, duration, text
from mesoskit.messages.codec import Malformed, from_dict
from mesoskit.messages.mesos_pb2 import (
    CapabilityInfo,
    CommandInfo,
    ContainerInfo,
    ExecutorInfo,
    FrameworkInfo,
    RLimitInfo,
    TaskGroupInfo,
    TaskInfo,
)
from mesoskit.model.resources import Resources
from mesoskit.model.roles import validate_role

M = TypeVar("M", bound=Message)

FRAMEWORK_NAME: Final = "mesos-execute instance"
"""What C{mesos-execute} calls itself; C{--name} is the task's."""

EXECUTOR_RESOURCES: Final = "cpus:0.1;mem:32;disk:32"
"""What the executor of a task group gets besides its tasks."""

_ABSENT: Final = {
    "package": "copying packages from HDFS",
    "appc_image": "images of appc",
}
"""Flags of C{mesos-execute} whose features are not there, and what these are."""


def json_of(cls: type[M]) -> Callable[[str], M]:
    """Return what reads a message from JSON, or from the file of an absolute path."""

    def read(value: str) -> M:
        given = parsed(value)
        if cls is TaskInfo:
            _leave_agents_open([given])
        elif cls is TaskGroupInfo and isinstance(given, dict):
            _leave_agents_open(given.get("tasks"))
        try:
            return from_dict(cls, given)
        except Malformed as error:
            raise ValueError(str(error)) from None

    return read


def _leave_agents_open(tasks: object) -> None:
    """Fill in the agents of tasks in JSON: the message wants them, and nobody knows them yet."""
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, dict):
            task.setdefault("agent_id", {"value": ""})


def environment(value: str) -> dict[str, str]:
    """Read C{--env}: a JSON object of texts."""
    try:
        given = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise ValueError('expected a JSON object of texts such as {"NAME": "value"}')
    return given


def role(value: str) -> str:
    """Read C{--role}."""
    why = validate_role(value)
    if why is not None:
        raise ValueError(why)
    return value


def capabilities(value: str) -> list[str]:
    """Read C{--framework_capabilities}: names separated by commas."""
    valid = set(FrameworkInfo.Capability.Type.keys()) - {"UNKNOWN"}
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in valid:
            raise ValueError(f"unknown capability {name!r}")
        if name != "GPU_RESOURCES":
            raise ValueError(f"unsupported capability {name!r}: only GPU_RESOURCES can be chosen")
    return names


def only(*values: str) -> Callable[[str], str]:
    """Return what reads one of these texts."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"only {' or '.join(values)} is there")
        return value

    return read


FLAGS: Final = Flags(
    "mesoskit execute",
    [
        Flag(
            "master",
            text,
            None,
            "Mesos master, as host:port, or http://host:port for the v1 HTTP API; or where masters"
            " elect one, as zk://host1:port1,host2:port2/path. MESOS_MASTER in the environment"
            " says it where this flag does not.",
            required=True,
            show=hidden,
        ),
        Flag("name", text, None, "Name for the command; it is the task's id as well."),
        Flag("command", text, None, "Command to launch."),
        Flag(
            "shell",
            boolean,
            True,
            "Whether a shell runs the command. If not, its first word is the executable, and its"
            " words are the arguments.",
        ),
        Flag("env", environment, {}, "Environment of the command: a JSON object of texts."),
        Flag(
            "resources",
            Resources.parse,
            Resources.parse("cpus:1;mem:128"),
            "Resources for the command.",
        ),
        Flag("rlimits", json_of(RLimitInfo), None, "Limits of the command: RLimitInfo as JSON."),
        Flag("task", json_of(TaskInfo), None, "A TaskInfo as JSON; agent_id may be left out."),
        Flag(
            "task_group",
            json_of(TaskGroupInfo),
            None,
            "A TaskGroupInfo as JSON; agent_id may be left out.",
        ),
        Flag("tty", boolean, False, "Give the command a terminal: see mesoskit task attach."),
        Flag("checkpoint", boolean, False, "Let tasks survive the restart of an agent."),
        Flag("role", role, "*", "Role to use when registering."),
        Flag("kill_after", duration, None, "After running for so long the task is killed."),
        Flag("partition_aware", boolean, True, "Hear of partitions rather than of lost tasks."),
        Flag(
            "framework_capabilities",
            capabilities,
            [],
            "More capabilities of the framework, separated by commas: GPU_RESOURCES.",
        ),
        Flag("principal", text, None, "Who the framework is."),
        Flag(
            "secret",
            text,
            None,
            "What proves it: better file:///path, for others can read command lines.",
            secret=True,
        ),
        Flag("tls_ca_file", text, None, "Authorities that the master is believed from, PEM."),
        Flag("tls_cert_file", text, None, "A certificate for masters that ask for one, PEM."),
        Flag("tls_key_file", text, None, "Its key, PEM; nobody but its owner may read it."),
        Flag(
            "tls_verify_server",
            boolean,
            True,
            "Make sure that the master has the name, or the address, that --master says.",
        ),
        Flag(
            "containerizer",
            only("mesos", "docker"),
            "mesos",
            "Whether the agent runs the command itself (mesos) or a Docker engine does (docker).",
        ),
        Flag("docker_image", text, None, "Image that the command runs in: busybox:1.36."),
        Flag("volumes", volumes, [], "Volumes of the command: a list of Volume as JSON."),
        Flag("networks", networks, [], "Networks to join, separated by commas."),
        Flag(
            "effective_capabilities",
            json_of(CapabilityInfo),
            None,
            'Capabilities granted to the command: {"capabilities": ["NET_RAW"]}, as JSON.',
        ),
        Flag(
            "bounding_capabilities",
            json_of(CapabilityInfo),
            None,
            "Capabilities that the command can have at most: likewise.",
        ),
        Flag("content_type", only("protobuf"), "protobuf", "Only protobuf is there."),
        Flag("hadoop", text, "hadoop", "Only of use with --package."),
        Flag("hdfs", text, "localhost:9000", "Only of use with --package."),
        Flag("overwrite", boolean, False, "Only of use with --package."),
        *(Flag(name, text, None, f"Not there: {feature}.") for name, feature in _ABSENT.items()),
    ],
    # The others have names that tasks and shells have for something else: MESOS_NAME.
    variables=("master",),
    about="Run a command, a task or a group of tasks on a cluster, and report until it has ended.",
)


@dataclass(frozen=True)
class Request:
    """
    What is to be run.

    @ivar master: where the master is.
    @ivar framework: who asks; its user is left for the driver to fill in.
    @ivar tasks: one task, or those of a group.
    @ivar executor: of a group; L{None} for one task.
    @ivar kill_after: seconds of running after which a task is killed, or L{None}.
    @ivar tls: how the master is dialled, as L{mesoskit.wire.tls.TLS} takes it; L{None}: without
        TLS, where its address does not say it.
    @ivar secret: what proves that C{framework.principal} asks, or L{None}.
    """

    master: str
    framework: FrameworkInfo
    tasks: tuple[TaskInfo, ...]
    executor: ExecutorInfo | None
    kill_after: float | None
    secret: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = None

    @property
    def required(self) -> Resources:
        """What an offer must hold."""
        parts = [Resources.from_message(task.resources) for task in self.tasks]
        if self.executor is not None:
            parts.append(Resources.from_message(self.executor.resources))
        return Resources.sum(parts)


def read(arguments: Sequence[str]) -> Request:
    """
    Read a command line.

    @raise FlagError: for the first thing that is wrong, or not there.
    """
    values = FLAGS.parse(arguments)
    for name, feature in _ABSENT.items():
        if name in values.given:
            raise FlagError(f"--{name}: {feature} are not there yet")
    if values.secret is not None and values.principal is None:
        raise FlagError("--secret needs --principal: who the secret is of")
    executor = None
    if values.task is not None or values.task_group is not None:
        tasks = _given_tasks(values)
        if values.task_group is not None:
            executor = _executor(values)
    else:
        tasks = (_command_task(values),)
    return Request(
        values.master,
        _framework(values),
        tasks,
        executor,
        values.kill_after,
        values.secret,
        _tls(values),
    )


def _tls(values: Values) -> dict[str, Any] | None:
    names = ("tls_ca_file", "tls_cert_file", "tls_key_file", "tls_verify_server")
    if not any(name in values.given for name in names):
        return None
    return {name.removeprefix("tls_"): getattr(values, name) for name in names}


def _framework(values: Values) -> FrameworkInfo:
    chosen = ["RESERVATION_REFINEMENT", "TASK_KILLING_STATE", "REVOCABLE_RESOURCES"]
    if values.partition_aware:
        chosen.append("PARTITION_AWARE")
    chosen += values.framework_capabilities
    return FrameworkInfo(
        user="",
        name=FRAMEWORK_NAME,
        role=values.role,
        checkpoint=values.checkpoint,
        principal=values.principal,
        # Its tasks are nothing without it.
        failover_timeout=0,
        capabilities=[FrameworkInfo.Capability(type=kind) for kind in chosen],
    )


def _given_tasks(values: Values) -> tuple[TaskInfo, ...]:
    if values.task is not None and values.task_group is not None:
        raise FlagError("--task and --task_group exclude each other")
    if values.task is not None and "networks" in values.given:
        raise FlagError("--networks cannot stand with --task")
    for name in ("name", "command", "env", *OF_A_COMMAND):
        if name in values.given:
            raise FlagError(f"--{name} cannot stand with --task or --task_group")
    tasks = (values.task,) if values.task is not None else tuple(values.task_group.tasks)
    if not tasks:
        raise FlagError("--task_group: the group holds no tasks")
    return tasks


def _command_task(values: Values) -> TaskInfo:
    if values.name is None:
        raise FlagError("--name is required unless --task or --task_group is given")
    if values.command is None and (values.shell or values.docker_image is None):
        raise FlagError("--command is required unless --task or --task_group is given")
    task = TaskInfo(name=values.name)
    task.task_id.value = values.name
    task.agent_id.value = ""
    task.command.CopyFrom(_command(values))
    task.resources.extend(values.resources.to_message())
    wanted = container(values)
    if wanted is not None:
        task.container.CopyFrom(wanted)
    return task


def _command(values: Values) -> CommandInfo:
    if values.shell:
        command = CommandInfo(shell=True, value=values.command)
    elif values.command is None:
        command = CommandInfo(shell=False)  # the image's own
    else:
        try:
            words = shlex.split(values.command)
        except ValueError as error:
            raise FlagError(f"--command: cannot use {values.command!r}: {error}") from None
        if not words:
            raise FlagError("--command is empty: expected an executable and its arguments")
        command = CommandInfo(shell=False, value=words[0], arguments=words)
    for name, value in values.env.items():
        command.environment.variables.add(name=name, value=value)
    return command


def _executor(values: Values) -> ExecutorInfo:
    executor = ExecutorInfo(type=ExecutorInfo.DEFAULT)
    if values.networks:
        executor.container.type = ContainerInfo.MESOS
        executor.container.network_infos.extend(network_infos(values))
    executor.executor_id.value = "default-executor"
    executor.resources.extend(Resources.parse(EXECUTOR_RESOURCES).to_message())
    return executor
