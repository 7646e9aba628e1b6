"""Executors: what an C{ExecutorInfo} must say, and when two of them are the same.

From C{namespace executor} of C{src/master/validation.cpp} and the comparisons of
C{src/common/type_utils.cpp}; see L{mesoskit.model.validation_ids} for what the functions return.
"""

from collections.abc import Iterable
from typing import Any

from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, DiscoveryInfo, ExecutorInfo
from mesoskit.model.resources import Resources
from mesoskit.model.validation_command import validate_command, validate_container
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_demand import Demand
from mesoskit.model.validation_ids import validate_id

_RULE = "-" * 60


def validate_executor_info(executor: ExecutorInfo) -> str | None:
    """Say what is wrong with an executor by itself, its resources left aside."""
    error = _validate_type(executor)
    if error is not None:
        return error
    error = validate_id(executor.executor_id.value)
    if error is not None:
        return error
    if executor.shutdown_grace_period.nanoseconds < 0:
        return "ExecutorInfo's 'shutdown_grace_period' must be non-negative"
    if executor.HasField("command"):
        error = validate_command(executor.command)
        if error is not None:
            return f"Executor's `CommandInfo` is invalid: {error}"
    if executor.HasField("container"):
        error = validate_container(executor.container)
        if error is not None:
            return f"Executor's `ContainerInfo` is invalid: {error}"
    return None


def _validate_type(executor: ExecutorInfo) -> str | None:
    """A default executor is Mesos' own program; a custom one says what to run."""
    kind = executor.type
    if kind == ExecutorInfo.CUSTOM:
        if not executor.HasField("command"):
            return "'ExecutorInfo.command' must be set for 'CUSTOM' executor"
    elif kind == ExecutorInfo.DEFAULT:
        if executor.HasField("command"):
            return "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"
        if executor.HasField("container"):
            if executor.container.type != ContainerInfo.MESOS:
                return "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"
            if executor.container.mesos.HasField("image"):
                return "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"
    return None


def validate_executor(executor: ExecutorInfo, demand: Demand, context: LaunchContext) -> str | None:
    """
    Say what is wrong with the executor of a task or group that is to be launched.

    @param demand: the executor's own resources.
    """
    error = validate_executor_info(executor)
    if error is not None:
        return error
    if not executor.HasField("framework_id"):
        return "'ExecutorInfo.framework_id' must be set"
    if executor.framework_id.value != context.framework_id:
        return (
            "ExecutorInfo has an invalid FrameworkID"
            f" (Actual: {executor.framework_id.value} vs Expected: {context.framework_id})"
        )
    if not demand.sound:
        return _validate_resources(demand)
    existing = context.executors.get(executor.executor_id.value)
    if existing is None or same_executor(executor, existing):
        return None
    return (
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n"
        f"{_RULE}\nExisting ExecutorInfo:\n{existing}\n"
        f"{_RULE}\nExecutorInfo:\n{executor}\n"
        f"{_RULE}\n"
    )


def _validate_resources(demand: Demand) -> str | None:
    if demand.invalid is not None:
        return f"Executor uses invalid resources: {demand.invalid}"
    if demand.duplicate is not None:
        return f"Executor uses duplicate persistence ID: {demand.duplicate}"
    if demand.roles is not None:
        return f"Invalid executor resources: {demand.roles}"
    if demand.mixed is not None:
        return f"Executor mixes revocable and non-revocable resources: {demand.mixed}"
    return None


def same_executor(left: ExecutorInfo, right: ExecutorInfo) -> bool:
    """
    Tell whether two descriptions are of the same executor, as Mesos takes it: what the
    agent may settle for itself (labels, grace period, caching, mounts' sources) does not
    count, nor does the order of resources, URIs, variables and the like.
    """
    if left == right:
        return True
    return (
        left.HasField("type") == right.HasField("type")
        and left.type == right.type
        and left.executor_id.value == right.executor_id.value
        and left.data == right.data
        and left.framework_id.value == right.framework_id.value
        and left.name == right.name
        and left.source == right.source
        and _same_command(left.command, right.command)
        and _same_container(left.container, right.container)
        and _same_discovery(left.discovery, right.discovery)
        and Resources.from_message(left.resources) == Resources.from_message(right.resources)
    )


def _same_command(left: CommandInfo, right: CommandInfo) -> bool:
    return (
        left.value == right.value
        and left.user == right.user
        and left.shell == right.shell
        and list(left.arguments) == list(right.arguments)
        and _same_items(
            [(uri.value, uri.executable, uri.extract, uri.output_file) for uri in left.uris],
            [(uri.value, uri.executable, uri.extract, uri.output_file) for uri in right.uris],
        )
        and _same_items(
            [(variable.name, variable.value) for variable in left.environment.variables],
            [(variable.name, variable.value) for variable in right.environment.variables],
        )
    )


def _same_container(left: ContainerInfo, right: ContainerInfo) -> bool:
    return (
        left.type == right.type
        and left.hostname == right.hostname
        and _same_items(
            [(volume.container_path, volume.host_path, volume.mode) for volume in left.volumes],
            [(volume.container_path, volume.host_path, volume.mode) for volume in right.volumes],
        )
        and _same_docker(left.docker, right.docker)
    )


def _same_docker(left: ContainerInfo.DockerInfo, right: ContainerInfo.DockerInfo) -> bool:
    return (
        left.image == right.image
        and left.network == right.network
        and left.privileged == right.privileged
        and left.force_pull_image == right.force_pull_image
        and _same_items(
            [(port.host_port, port.container_port, port.protocol) for port in left.port_mappings],
            [(port.host_port, port.container_port, port.protocol) for port in right.port_mappings],
        )
        and _same_items(
            [(parameter.key, parameter.value) for parameter in left.parameters],
            [(parameter.key, parameter.value) for parameter in right.parameters],
        )
    )


def _same_discovery(left: DiscoveryInfo, right: DiscoveryInfo) -> bool:
    return (
        left.visibility == right.visibility
        and left.name == right.name
        and left.environment == right.environment
        and left.location == right.location
        and left.version == right.version
        and _same_messages(left.ports.ports, right.ports.ports)
        and _same_messages(left.labels.labels, right.labels.labels)
    )


def _same_messages(left: Iterable[Any], right: Iterable[Any]) -> bool:
    return _same_items(
        [message.SerializePartialToString() for message in left],
        [message.SerializePartialToString() for message in right],
    )


def _same_items(left: list[Any], right: list[Any]) -> bool:
    """Mesos' way of leaving order aside: as many, and each on the left somewhere on the right."""
    return len(left) == len(right) and set(left) <= set(right)
