"""Task groups: tasks that live and die together, in one executor.

From C{namespace group} of C{src/master/validation.cpp}; see L{mesoskit.model.validation_ids}
for what the functions return.
"""

from collections.abc import Iterable

from mesoskit.messages.mesos_pb2 import (
    ContainerInfo,
    ExecutorInfo,
    HealthCheck,
    TaskGroupInfo,
    TaskInfo,
)
from mesoskit.model.resources import Resources
from mesoskit.model.sizes import format_size
from mesoskit.model.validation_command import shares_cgroups
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_demand import (
    Demand,
    overlap,
    read_demand,
    validate_not_mixed,
    validate_unique_persistence_ids,
)
from mesoskit.model.validation_executor import same_executor, validate_executor
from mesoskit.model.validation_task import has_shared_cgroups_set, validate_task_info

MIN_CPUS = 10
"""Thousandths of a CPU that the executor of a group must have (C{MIN_CPUS})."""

MIN_MEM = 32_000
"""Thousandths of a megabyte that the executor of a group must have (C{MIN_MEM})."""

_NETWORK_CHECKS = (HealthCheck.HTTP, HealthCheck.TCP)


def validate_task_group(
    group: TaskGroupInfo, executor: ExecutorInfo, context: LaunchContext
) -> str | None:
    """
    Say what is wrong with a C{LAUNCH_GROUP} operation; one thing wrong fails all of it. As for
    L{mesoskit.model.validation_task.validate_task}, resources are allocated by now, and where
    nothing is wrong C{context.total} is what the group takes.

    The executor must say its framework itself; the master fills that in for C{LAUNCH} only.
    """
    demands = []
    ids: set[str] = set()
    for task in group.tasks:
        demand = read_demand(task.resources)
        error = _validate_member(task, demand, context)
        # Mesos overlooks this, and fails when it adds the second one.
        if error is None and task.task_id.value in ids:
            error = f"Task has duplicate ID: {task.task_id.value}"
        if error is not None:
            return f"Task '{task.task_id.value}' is invalid: {error}"
        ids.add(task.task_id.value)
        demands.append(demand.resources)
    return (
        _validate_group_executor(group, executor, demands, context)
        or _validate_total(group, executor, demands, context)
        or _validate_share_cgroups(group, executor, context)
    )


def _validate_member(task: TaskInfo, demand: Demand, context: LaunchContext) -> str | None:
    error = validate_task_info(task, demand, context)
    if error is not None:
        return error
    if not task.HasField("executor"):
        return "'TaskInfo.executor' must be set"
    if task.HasField("container"):
        if (
            task.container.network_infos
            and task.HasField("health_check")
            and task.health_check.type in _NETWORK_CHECKS
        ):
            return (
                "HTTP and TCP health checks are not supported for"
                " nested containers not joining parent's network"
            )
        if task.container.type == ContainerInfo.DOCKER:
            return "Docker ContainerInfo is not supported on the task"
    if task.limits and shares_cgroups(task):
        return (
            "Resource limits may only be set for tasks within a task group"
            " when the 'share_cgroups' field is set to 'false'."
        )
    return None


def _validate_group_executor(
    group: TaskGroupInfo, executor: ExecutorInfo, demands: list[Resources], context: LaunchContext
) -> str | None:
    demand = read_demand(executor.resources)
    error = validate_executor(executor, demand, context)
    if error is not None:
        return error
    if not executor.HasField("type"):
        return "'ExecutorInfo.type' must be set"
    if executor.type == ExecutorInfo.UNKNOWN:
        return "Unknown executor type"
    if executor.HasField("container") and executor.container.type == ContainerInfo.DOCKER:
        return "Docker ContainerInfo is not supported on the executor"
    name = executor.executor_id.value
    for task in group.tasks:
        if not same_executor(task.executor, executor):
            return (
                f"The `ExecutorInfo` of task '{task.task_id.value}'"
                f" is different from executor '{name}'"
            )
    error = _validate_size(name, demand.resources)
    if error is not None:
        return error
    own = demand.resources
    everything = Resources.sum((*demands, own))
    error = validate_unique_persistence_ids(everything)
    if error is not None:
        return f"Task group and executor use duplicate persistence ID: {error}"
    error = validate_not_mixed(everything)
    if error is not None:
        return f"Task group and executor mix revocable and non-revocable resources: {error}"
    if overlap((*demands, own)):
        tasks = ", ".join([str(resources) for resources in demands])
        return (
            f"There are overlapping resources in the task group's task resources [ {tasks} ]"
            f" and/or executor resources {own}"
        )
    return None


def _validate_size(executor_id: str, resources: Resources) -> str | None:
    """An executor that runs groups has at least a little of its own, disk too."""
    cpus = resources.scalar("cpus")
    if cpus < MIN_CPUS:
        used = f"{cpus / 1000:g}" if cpus else "None"
        return (
            f"Executor '{executor_id}' uses less CPUs ({used})"
            f" than the minimum required ({MIN_CPUS / 1000:g})"
        )
    mem = resources.scalar("mem")
    if mem < MIN_MEM:
        used = format_size(mem // 1000 << 20) if mem else "None"
        return (
            f"Executor '{executor_id}' uses less memory ({used})"
            f" than the minimum required ({format_size(MIN_MEM // 1000 << 20)})"
        )
    if not resources.scalar("disk"):
        return f"Executor '{executor_id}' uses no disk"
    return None


def _validate_total(
    group: TaskGroupInfo, executor: ExecutorInfo, demands: list[Resources], context: LaunchContext
) -> str | None:
    if executor.executor_id.value not in context.executors:
        demands = [*demands, read_demand(executor.resources).resources]
    context.total = Resources.sum(demands)
    if not context.offered.contains(context.total):
        return (
            f"Total resources {context.total} required by task group and its executor"
            f" are more than available {context.offered}"
        )
    return None


def _validate_share_cgroups(
    group: TaskGroupInfo, executor: ExecutorInfo, context: LaunchContext
) -> str | None:
    """All tasks of an executor live in its cgroups, or none of them does."""
    if has_shared_cgroups_set(executor):
        return "The 'share_cgroups' field cannot be set to 'true' on executor containers"
    shared = {shares_cgroups(task) for task in group.tasks}
    name = executor.executor_id.value
    if shared and name in context.executors:
        existing: Iterable[bool] = context.tasks_share_cgroups(name)
        shared.update(existing)
    if len(shared) > 1:
        return (
            "If set, the value of 'share_cgroups' must be the same for all"
            " tasks in each task group and under a single executor"
        )
    return None
