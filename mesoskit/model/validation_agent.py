"""Agents: what they may say of themselves when they register, and when they come back.

From C{namespace message} of C{src/master/validation.cpp}. A master drops a message that is
wrong, with a line in its log; the agent will send it again. See
L{mesoskit.model.validation_ids} for what the functions return.
"""

from collections.abc import Iterable

from google.protobuf.unknown_fields import UnknownFieldSet

from mesoskit.messages.internal_pb2 import RegisterSlaveMessage, ReregisterSlaveMessage
from mesoskit.messages.mesos_pb2 import AgentInfo, ExecutorInfo, FrameworkInfo, Task, TaskState
from mesoskit.model.resource_validation import validate_format
from mesoskit.model.validation_executor import validate_executor_info
from mesoskit.model.validation_framework import validate_framework
from mesoskit.model.validation_ids import validate_id

_CHECKPOINT = 7
"""The number of v0's C{SlaveInfo.checkpoint}."""


def validate_agent_info(info: AgentInfo) -> str | None:
    """Its id, where it has one, and the form of its resources."""
    if info.HasField("id"):
        error = validate_id(info.id.value)
        if error is not None:
            return error
    return validate_format(info.resources)


def validate_register_agent(message: RegisterSlaveMessage) -> str | None:
    """Say what is wrong with an agent that registers for the first time."""
    error = validate_agent_info(message.slave)
    if error is not None:
        return error
    if message.checkpointed_resources and not _checkpoints(message.slave):
        return "Checkpointed resources provided when checkpointing is not enabled"
    return validate_format(message.checkpointed_resources)


def _checkpoints(info: AgentInfo) -> bool:
    """
    Tell whether an agent keeps what it needs to recover. All have since Mesos 0.22; the
    field that says so is v0's alone, so here it is an unknown one, and agents of our own
    do without it.
    """
    return all(
        field.data != 0
        for field in UnknownFieldSet(info)  # type: ignore[attr-defined]
        if field.field_number == _CHECKPOINT
    )


def validate_reregister_agent(message: ReregisterSlaveMessage) -> str | None:
    """
    Say what is wrong with an agent that is back with frameworks, executors and tasks: they must
    be right by themselves and belong to each other.
    """
    error = validate_agent_info(message.slave) or validate_format(message.checkpointed_resources)
    if error is not None:
        return error
    frameworks: set[str] = set()
    error = _validate_frameworks(message.frameworks, frameworks)
    if error is not None:
        return error
    executors: set[tuple[str, str]] = set()
    error = _validate_executors(message.executor_infos, frameworks, executors)
    if error is not None:
        return error
    agent_id = message.slave.id.value
    for task in message.tasks:
        error = _validate_task(task, agent_id, frameworks, executors)
        if error is not None:
            return error
    return None


def _validate_frameworks(infos: Iterable[FrameworkInfo], known: set[str]) -> str | None:
    """Check each framework and add its id to those known."""
    for info in infos:
        error = validate_framework(info)
        if error is not None:
            return error
        if info.id.value in known:
            return f"Framework has a duplicate FrameworkID: '{info.id.value}'"
        known.add(info.id.value)
    return None


def _validate_executors(
    infos: Iterable[ExecutorInfo], frameworks: set[str], known: set[tuple[str, str]]
) -> str | None:
    """Check each executor and add it to those known, as (framework id, executor id)."""
    for info in infos:
        error = validate_executor_info(info) or validate_format(info.resources)
        if error is not None:
            return error
        framework_id = info.framework_id.value
        if framework_id not in frameworks:
            return f"Executor has an invalid FrameworkID '{framework_id}'"
        name = (framework_id, info.executor_id.value)
        if name in known:
            return f"Framework '{framework_id}' has a duplicate ExecutorID '{name[1]}'"
        known.add(name)
    return None


def _validate_task(
    task: Task, agent_id: str, frameworks: set[str], executors: set[tuple[str, str]]
) -> str | None:
    error = validate_id(task.task_id.value)
    if error is not None:
        return f"Task has an invalid TaskID: {error}"
    if task.agent_id.value != agent_id:
        return f"Task has an invalid SlaveID '{task.agent_id.value}'"
    framework_id = task.framework_id.value
    if framework_id not in frameworks:
        return f"Task has an invalid FrameworkID '{framework_id}'"
    # Only a running task needs an executor that runs; the executor of a command task is
    # the agent's own affair and not named.
    if task.HasField("executor_id") and task.state == TaskState.TASK_RUNNING:
        executor_id = task.executor_id.value
        if (framework_id, executor_id) not in executors:
            return f"Task has an invalid ExecutorID '{executor_id}'"
    error = validate_format(task.resources)
    if error is not None:
        return f"Task uses invalid resources: {error}"
    return None
