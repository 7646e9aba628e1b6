"""Tasks: whether the master will launch one.

From C{namespace task} of C{src/master/validation.cpp}, in its order: what is cheap comes first only
where that changes no answer. See L{mesoskit.model.validation_ids} for what the functions
return. A plain command task takes a few microseconds (C{benchmarks/validation.py}).
"""

from math import isinf

from mesoskit.messages.mesos_pb2 import ExecutorInfo, TaskInfo
from mesoskit.model.resources import Resources
from mesoskit.model.validation_check import validate_check, validate_health_check
from mesoskit.model.validation_command import validate_command, validate_container
from mesoskit.model.validation_context import LaunchContext
from mesoskit.model.validation_demand import (
    Demand,
    overlap,
    read_demand,
    validate_not_mixed,
    validate_unique_persistence_ids,
)
from mesoskit.model.validation_executor import validate_executor
from mesoskit.model.validation_ids import validate_id
from mesoskit.model.values import from_thousandths


def validate_task(task: TaskInfo, context: LaunchContext) -> str | None:
    """
    Say what is wrong with a task of a C{LAUNCH} operation. Its resources and its executor's
    have been allocated to the offers' role by now, and its executor knows its framework.

    Where nothing is wrong, C{context.total} is what the task takes.
    """
    demand = read_demand(task.resources)
    error = validate_task_info(task, demand, context)
    if error is not None:
        return error
    if task.HasField("executor"):
        if task.HasField("command"):
            return _ONE_OF_BOTH
        error = _validate_with_executor(task, demand.resources, context)
        if error is not None:
            return error
    else:
        if not task.HasField("command"):
            return _ONE_OF_BOTH
        context.total = demand.resources
    if not context.offered.contains(context.total):
        return (
            f"Total resources {context.total} required by task and its executor"
            f" is more than available {context.offered}"
        )
    if (
        task.HasField("container")
        and task.container.HasField("linux_info")
        and not task.container.linux_info.share_cgroups
    ):
        return "Only tasks in a task group may have 'share_cgroups' set to 'false'"
    return None


_ONE_OF_BOTH = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"


def validate_task_info(task: TaskInfo, demand: Demand, context: LaunchContext) -> str | None:
    """
    Say what is wrong with a task apart from its executor; alone or in a group.

    @param demand: the task's own resources.
    """
    task_id = task.task_id.value
    error = validate_id(task_id)
    if error is not None:
        return error
    if task_id in context.tasks:
        return f"Task has duplicate ID: {task_id}"
    if task_id in context.unreachable:
        return f"Task reuses the ID of an unreachable task: {task_id}"
    agent_id = task.agent_id.value
    if agent_id != context.agent_id:
        return f"Task uses invalid agent {agent_id} while agent {context.agent_id} is expected"
    error = _validate_times_and_checks(task)
    if error is not None:
        return error
    if not demand.sound or not task.resources:
        error = _validate_resources(task, demand)
        if error is not None:
            return error
    if task.HasField("command"):
        error = validate_command(task.command)
        if error is not None:
            return f"Task's `CommandInfo` is invalid: {error}"
    if task.HasField("container"):
        error = validate_container(task.container)
        if error is not None:
            return f"Task's `ContainerInfo` is invalid: {error}"
    return _validate_limits(task, demand.resources, context) if len(task.limits) else None


def _validate_times_and_checks(task: TaskInfo) -> str | None:
    if task.HasField("kill_policy") and task.kill_policy.grace_period.nanoseconds < 0:
        return "Task's 'kill_policy.grace_period' must be non-negative"
    if task.HasField("max_completion_time") and task.max_completion_time.nanoseconds < 0:
        return "Task's `max_completion_time` must be non-negative"
    if task.HasField("check"):
        error = validate_check(task.check)
        if error is not None:
            return f"Task uses invalid check: {error}"
    if task.HasField("health_check"):
        error = validate_health_check(task.health_check)
        if error is not None:
            return f"Task uses invalid health check: {error}"
    return None


def _validate_resources(task: TaskInfo, demand: Demand) -> str | None:
    if not task.resources:
        return "Task uses no resources"
    if demand.invalid is not None:
        return f"Task uses invalid resources: {demand.invalid}"
    if demand.duplicate is not None:
        return f"Task uses duplicate persistence ID: {demand.duplicate}"
    if demand.roles is not None:
        return f"Invalid task resources: {demand.roles}"
    if demand.mixed is not None:
        return f"Task mixes revocable and non-revocable resources: {demand.mixed}"
    return None


def _validate_limits(task: TaskInfo, resources: Resources, context: LaunchContext) -> str | None:
    """
    Limits are for CPUs and memory, not below what is asked for; infinite ones are fine.

    Memory is compared in whole megabytes, as in Mesos. NaN, which Mesos lets pass, is too little.
    """
    if not context.agent.task_resource_limits:
        return "Agent is not capable of handling task resource limits"
    limits = {name: scalar.value for name, scalar in task.limits.items()}
    if not limits.keys() <= {"cpus", "mem"}:
        return "Only cpus and mem may be included in a task's resource limits"
    if "cpus" in limits:
        cpus = resources.scalar("cpus")
        if not cpus:
            return "When a CPU limit is specified, a CPU request must also be specified"
        if not limits["cpus"] >= from_thousandths(cpus):
            return "The cpu limit must be greater than or equal to the cpu request"
    if "mem" in limits:
        mem = resources.scalar("mem")
        if not mem:
            return "When a memory limit is specified, a memory request must also be specified"
        if not isinf(limits["mem"]) and not limits["mem"] >= mem // 1000:
            return "The memory limit must be greater than or equal to the memory request"
    return None


def _validate_with_executor(
    task: TaskInfo, resources: Resources, context: LaunchContext
) -> str | None:
    """Validate the executor that comes with a task; set C{context.total} to what both take."""
    executor = task.executor
    demand = read_demand(executor.resources)
    error = validate_executor(executor, demand, context)
    if error is not None:
        return error
    if executor.HasField("type") and executor.type != ExecutorInfo.CUSTOM:
        return "'ExecutorInfo.type' must be 'CUSTOM'"
    if not executor.HasField("command"):
        return "'ExecutorInfo.command' must be set"
    own = demand.resources
    if own.shared():
        return f"Executor resources {own} should not contain any shared resources"
    if has_shared_cgroups_set(executor):
        return "The 'share_cgroups' field cannot be set to 'true' on executor containers"
    both = resources + own
    if overlap((resources, own)):
        return (
            f"There are overlapping resources in the task resources {resources}"
            f" and executor resources {own}"
        )
    error = validate_unique_persistence_ids(both)
    if error is not None:
        return f"Task and its executor use duplicate persistence ID: {error}"
    error = validate_not_mixed(both)
    if error is not None:
        return f"Task and its executor mix revocable and non-revocable resources: {error}"
    context.total = resources if executor.executor_id.value in context.executors else both
    return None


def has_shared_cgroups_set(executor: ExecutorInfo) -> bool:
    """Tell whether an executor says of itself, against the rule, that it shares cgroups."""
    if not executor.HasField("container"):
        return False
    linux = executor.container.linux_info
    return linux.HasField("share_cgroups") and linux.share_cgroups
