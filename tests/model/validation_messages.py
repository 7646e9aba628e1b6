"""Messages that are right, for the tests of validation to make wrong in one place."""

from typing import Any

from mesoskit.messages.mesos_pb2 import ExecutorInfo, Resource, TaskGroupInfo, TaskInfo
from mesoskit.model.capabilities import AGENT_CAPABILITIES, AgentCapability
from mesoskit.model.resources import Resources
from mesoskit.model.validation_context import LaunchContext

Fields = dict[str, Any]

FRAMEWORK = "m-0000"
AGENT = "m-S0"
ROLE = {"allocation_info": {"role": "web"}}


def scalar(name: str, value: float, **more: Any) -> Fields:
    """Return a scalar allocated to the role C{web}."""
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **ROLE, **more}


def ports(begin: int, end: int, **more: Any) -> Fields:
    """Return ports allocated to the role C{web}."""
    span = {"range": [{"begin": begin, "end": end}]}
    return {"name": "ports", "type": "RANGES", "ranges": span, **ROLE, **more}


def volume(persistence_id: str = "v1", size: float = 64, **more: Any) -> Fields:
    """Return a persistent volume of the role C{web}."""
    disk = {
        "persistence": {"id": persistence_id, "principal": "ann"},
        "volume": {"container_path": "data", "mode": "RW"},
    }
    reserved = [{"type": "DYNAMIC", "role": "web", "principal": "ann"}]
    return scalar("disk", size, **{"disk": disk, "reservations": reserved, **more})


def changed(resource: Fields, disk: Fields) -> Fields:
    """Return a resource with its disk changed; what is set to L{None} is left out."""
    merged = {**resource.get("disk", {}), **disk}
    return {**resource, "disk": {name: v for name, v in merged.items() if v is not None}}


CPUS = scalar("cpus", 1)
MEM = scalar("mem", 64)
OFFERED = [scalar("cpus", 4), scalar("mem", 1024), scalar("disk", 1024), ports(31000, 31999)]


def task(**fields: Any) -> TaskInfo:
    """Return a command task, with these fields instead; L{None} leaves one out."""
    defaults: Fields = {
        "name": "t",
        "task_id": {"value": "t1"},
        "agent_id": {"value": AGENT},
        "resources": [CPUS, MEM],
        "command": {"value": "sleep 1"},
    }
    given = {**defaults, **fields}
    return TaskInfo(**{name: value for name, value in given.items() if value is not None})


def executor(**fields: Any) -> ExecutorInfo:
    """Return a custom executor with the resources that a group needs."""
    defaults: Fields = {
        "executor_id": {"value": "e1"},
        "framework_id": {"value": FRAMEWORK},
        "command": {"value": "./executor"},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 32)],
    }
    given = {**defaults, **fields}
    return ExecutorInfo(**{name: value for name, value in given.items() if value is not None})


def default_executor(**fields: Any) -> ExecutorInfo:
    """Return an executor of type DEFAULT."""
    return executor(**{"type": "DEFAULT", "command": None, **fields})


def member(its: ExecutorInfo | None = None, **fields: Any) -> TaskInfo:
    """Return a task of a group."""
    return task(executor=default_executor() if its is None else its, **fields)


def group(*tasks: TaskInfo) -> TaskGroupInfo:
    """Return a group of tasks."""
    return TaskGroupInfo(tasks=tasks)


def context(
    offered: list[Fields] | None = None,
    agent: AgentCapability = AGENT_CAPABILITIES,
    **more: Any,
) -> LaunchContext:
    """Return the context of a launch where there is room for it."""
    resources = [Resource(**fields) for fields in (OFFERED if offered is None else offered)]
    return LaunchContext(FRAMEWORK, AGENT, Resources.from_message(resources), agent, **more)
