"""What C{mesoskit execute} prints: the lines of C{mesos-execute}, for people and scripts alike."""

from collections.abc import Iterator, Sequence

from google.protobuf.text_format import MessageToString

from mesoskit.messages.mesos_pb2 import TaskInfo, TaskState, TaskStatus
from mesoskit.model.resources import Resources


def submitted(tasks: Sequence[TaskInfo], group: bool, agent_id: str) -> str:
    """Return the line that says where tasks were launched."""
    if not group:
        return f"Submitted task '{tasks[0].name}' to agent '{agent_id}'"
    names = ", ".join(task.task_id.value for task in tasks)
    return f"Submitted task group with tasks [ {names} ] to agent '{agent_id}'"


def update(status: TaskStatus) -> Iterator[str]:
    """Yield the lines about one status update: what is not set is not mentioned."""
    state = TaskState.Name(status.state)
    yield f"Received status update {state} for task '{status.task_id.value}'"
    if status.HasField("message"):
        yield f"  message: '{status.message}'"
    if status.HasField("source"):
        yield f"  source: {TaskStatus.Source.Name(status.source)}"
    if status.HasField("reason"):
        yield f"  reason: {TaskStatus.Reason.Name(status.reason)}"
    if status.HasField("healthy"):
        yield f"  healthy?: {int(status.healthy)}"
    if status.HasField("check_status"):
        yield f"  check status: {MessageToString(status.check_status, as_one_line=True)}"
    if status.limitation.resources:
        resources = Resources.from_message(status.limitation.resources)
        yield f"  resource limit violation: {resources}"
