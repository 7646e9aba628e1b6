"""Tasks as the JSON endpoints of master and agent show them (C{src/common/http.cpp}).

The names are those of Mesos' own JSON, where an agent is a slave.
"""

from collections.abc import Callable
from typing import Any

from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import Labels, Task, TaskStatus
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TaskState

Json = dict[str, Any]


def task_json(task: Task) -> Json:
    """Return what is shown of a task that is there as a message."""
    view: Json = {
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.value,
        "slave_id": task.agent_id.value,
        "state": TaskState(task.state).name,
        "resources": Resources.from_message(task.resources).as_json(),
    }
    if len(task.limits):
        view["limits"] = limits_json(task)
    role = task.resources[0].allocation_info.role if len(task.resources) else ""
    view["role"] = role
    view["statuses"] = [status_json(status) for status in task.statuses]
    view.update(details_json(task))
    return view


def status_json(status: TaskStatus) -> Json:
    """Return what is shown of a status."""
    view: Json = {"state": TaskState(status.state).name, "timestamp": status.timestamp}
    if status.HasField("labels"):
        view["labels"] = labels_json(status.labels)
    if status.HasField("container_status"):
        whole = codec.to_dict(status.container_status)
        shown = ("container_id", "network_infos", "cgroup_info")
        view["container_status"] = {name: whole[name] for name in shown if name in whole}
    if status.HasField("healthy"):
        view["healthy"] = status.healthy
    return view


def labels_json(labels: Labels) -> list[Json]:
    """Return labels as a list of objects."""
    return [codec.to_dict(label) for label in labels.labels]


def limits_json(task: Task) -> Json:
    """Return the limits of a task that has any, by the name of the resource."""
    return {
        name: codec.infinite_as_text(limit.value) for name, limit in sorted(task.limits.items())
    }


def details_json(task: Task) -> Json:
    """Return what few tasks have, of what they have of it."""
    view: Json = {"user": task.user} if task.HasField("user") else {}
    for name, convert in _DETAILS:
        if task.HasField(name):
            view[name] = convert(getattr(task, name))
    return view


_DETAILS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("labels", labels_json),
    ("discovery", codec.to_dict),
    ("container", codec.to_dict),
    ("health_check", codec.to_dict),
)
