"""Messages that frameworks need all the time, made in a line."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

from mesoskit.driver.calls import kill_policy
from mesoskit.messages.mesos_pb2 import (
    CommandInfo,
    Environment,
    ExecutorInfo,
    Labels,
    Offer,
    Resource,
    TaskInfo,
)
from mesoskit.model.resources import Resources

Operation = Offer.Operation

Amounts = Resources | Iterable[Resource] | str
"""Resources as an object of the model, as messages, or as text (C{"cpus:1;mem:64"})."""


def resources(**amounts: Any) -> list[Resource]:
    """
    Return unreserved resources: C{resources(cpus=0.5, mem=64, ports=[(31000, 31001)])}.

    CPUs in CPUs, C{mem} and C{disk} in megabytes, ranges as (first, last) pairs, sets of strings.
    """
    return Resources.of(**amounts).to_message()


def _given(**amounts: float) -> Resources:
    for name, amount in amounts.items():
        if not 0 <= amount < inf:
            raise ValueError(f"{name}={amount}: expected a finite amount that is not negative")
    return Resources.of(**{name: amount for name, amount in amounts.items() if amount})


def as_resources(amounts: Amounts) -> list[Resource]:
    """Return any description of resources as messages."""
    if isinstance(amounts, str):
        amounts = Resources.parse(amounts)
    return amounts.to_message() if isinstance(amounts, Resources) else list(amounts)


def new_task_id(name: str) -> str:
    """Return an id that no other task has: the name and a random part."""
    return f"{name}.{secrets.token_hex(8)}"


def command_info(
    command: str | Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    uris: Iterable[str | CommandInfo.URI] = (),
    user: str | None = None,
) -> CommandInfo:
    """
    Return a command: text is run by C{sh -c}, a sequence is argv, started as it is.

    @param uris: what is fetched into the sandbox before.
    @param user: whom it runs as; the framework's user by default.
    """
    info = CommandInfo()
    if isinstance(command, str):
        info.value = command
    else:
        info.shell = False
        info.value = command[0]
        info.arguments.extend(command)
    if environment:
        info.environment.CopyFrom(variables(environment))
    for uri in uris:
        if isinstance(uri, str):
            info.uris.add().value = uri
        else:
            info.uris.add().CopyFrom(uri)
    if user is not None:
        info.user = user
    return info


def variables(values: Mapping[str, str]) -> Environment:
    """Return an environment."""
    environment = Environment()
    for name, value in values.items():
        environment.variables.add(name=name, value=value)
    return environment


def labels(values: Mapping[str, str]) -> Labels:
    """Return labels."""
    message = Labels()
    for key, value in values.items():
        message.labels.add(key=key, value=value)
    return message


def task(
    name: str,
    *,
    id: str | None = None,  # noqa: A002
    executor: ExecutorInfo | None = None,
    cpus: float = 0.0,
    mem: float = 0.0,
    disk: float = 0.0,
    amounts: Amounts | None = None,
    data: bytes | None = None,
    label: Mapping[str, str] | None = None,
    kill_grace: float | None = None,
) -> TaskInfo:
    """
    Return a task; its agent is filled in when it is launched.

    @param id: a new one by default.
    @param executor: what runs it; L{None} for a task of a group or one with a command.
    @param amounts: resources in place of C{cpus}, C{mem} and C{disk}.
    @param data: for the executor.
    @param label: labels.
    @param kill_grace: seconds between SIGTERM and SIGKILL.
    @raise ValueError: where an amount is none.
    """
    info = TaskInfo(name=name)
    info.task_id.value = new_task_id(name) if id is None else id
    if amounts is None:
        amounts = _given(cpus=cpus, mem=mem, disk=disk)
    info.resources.extend(as_resources(amounts))
    if executor is not None:
        info.executor.CopyFrom(executor)
    if data is not None:
        info.data = data
    if label:
        info.labels.CopyFrom(labels(label))
    if kill_grace is not None:
        info.kill_policy.CopyFrom(kill_policy(kill_grace))
    return info


def command_task(
    name: str,
    command: str | Sequence[str],
    *,
    cpus: float = 0.1,
    mem: float = 32.0,
    environment: Mapping[str, str] | None = None,
    uris: Iterable[str | CommandInfo.URI] = (),
    user: str | None = None,
    **more: Any,
) -> TaskInfo:
    """
    Return a task that runs a command: see L{command_info} and L{task} for the arguments.

    C{command_task("hello", "echo hello")}
    """
    info = task(name, cpus=cpus, mem=mem, **more)
    info.command.CopyFrom(command_info(command, environment=environment, uris=uris, user=user))
    return info


def executor_info(
    id: str,  # noqa: A002
    command: str | Sequence[str] | CommandInfo | None = None,
    *,
    cpus: float = 0.1,
    mem: float = 32.0,
    disk: float | None = None,
    amounts: Amounts | None = None,
    name: str = "",
    data: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    uris: Iterable[str | CommandInfo.URI] = (),
    shutdown_grace: float | None = None,
) -> ExecutorInfo:
    """
    Return an executor: a program of one's own that runs tasks, or the one that comes with the
    agent and runs groups of them.

    @param command: how the program is started; L{None} for the agent's own.
    @param disk: megabytes; 32 for the agent's own, which must have some, else none.
    @param amounts: resources in place of C{cpus}, C{mem} and C{disk}.
    @param shutdown_grace: seconds that it has to end by itself when it is shut down.
    """
    info = ExecutorInfo()
    info.executor_id.value = id
    if command is None:
        info.type = ExecutorInfo.DEFAULT
    else:
        info.type = ExecutorInfo.CUSTOM
        if not isinstance(command, CommandInfo):
            command = command_info(command, environment=environment, uris=uris)
        info.command.CopyFrom(command)
    if name:
        info.name = name
    if amounts is None:
        if disk is None:
            disk = 32.0 if command is None else 0.0
        amounts = _given(cpus=cpus, mem=mem, disk=disk)
    info.resources.extend(as_resources(amounts))
    if data is not None:
        info.data = data
    if shutdown_grace is not None:
        info.shutdown_grace_period.nanoseconds = round(shutdown_grace * 1e9)
    return info


def launch_group(executor: ExecutorInfo, tasks: Iterable[TaskInfo]) -> Operation:
    """Return C{LAUNCH_GROUP}: tasks that start together, in one executor, or not at all."""
    operation = Operation(type=Operation.LAUNCH_GROUP)
    operation.launch_group.executor.CopyFrom(executor)
    operation.launch_group.task_group.tasks.extend(tasks)
    return operation


def reserve(amounts: Amounts) -> Operation:
    """Return C{RESERVE}; the resources carry the reservation to be made."""
    operation = Operation(type=Operation.RESERVE)
    operation.reserve.resources.extend(as_resources(amounts))
    return operation


def unreserve(amounts: Amounts) -> Operation:
    """Return C{UNRESERVE}; the resources carry the reservation to be taken back."""
    operation = Operation(type=Operation.UNRESERVE)
    operation.unreserve.resources.extend(as_resources(amounts))
    return operation


def create(volumes: Amounts) -> Operation:
    """Return C{CREATE}: make persistent volumes of reserved disk."""
    operation = Operation(type=Operation.CREATE)
    operation.create.volumes.extend(as_resources(volumes))
    return operation


def destroy(volumes: Amounts) -> Operation:
    """Return C{DESTROY}: destroy persistent volumes, with what is in them."""
    operation = Operation(type=Operation.DESTROY)
    operation.destroy.volumes.extend(as_resources(volumes))
    return operation
