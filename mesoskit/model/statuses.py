"""The statuses that masters and agents make themselves, and what carries them.

A status with a uuid is repeated until its framework acknowledges it; one without is
said once. Masters make none with a uuid, agents make none without.
"""

from mesoskit.messages.internal_pb2 import StatusUpdate
from mesoskit.messages.mesos_pb2 import Task, TaskInfo, TaskStatus
from mesoskit.model.secrets import hide_secrets
from mesoskit.model.tasks import Reason, Source

LATEST_STATE = "Reconciliation: Latest task state"
"""The message of a reconciliation's answer for a task that the master knows."""

NOT_ON_AGENT = "Reconciliation: Task is unknown to the agent"
"""… for a task that is not on its agent, which is registered (C{TASK_GONE})."""

ON_UNREACHABLE_AGENT = "Reconciliation: Task is unreachable"
"""… for a task whose agent is unreachable (C{TASK_UNREACHABLE}, with the time)."""

ON_GONE_AGENT = "Reconciliation: Task is gone"
"""… for a task whose agent was marked gone (C{TASK_GONE_BY_OPERATOR})."""

ON_UNKNOWN_AGENT = "Reconciliation: Task is unknown"
"""… for a task whose agent nobody knows, or that came without one (C{TASK_UNKNOWN})."""

AGENT_CAME_BACK = "Unreachable agent re-reregistered"
"""The message for a task whose unreachable agent registers again (the spelling is Mesos')."""

UNKNOWN_AGENT_CAME_BACK = "Unknown agent reregistered"
"""… when an agent registers again that the master has forgotten."""


def make_status(
    task_id: str,
    state: int,
    source: int,
    timestamp: float,
    *,
    agent_id: str | None = None,
    executor_id: str | None = None,
    reason: int | None = None,
    message: str = "",
    uuid: bytes | None = None,
) -> TaskStatus:
    """
    Return a status as Mesos' own master and agent fill it: C{message} is present even where
    it is empty (C{createStatusUpdate} in C{src/common/protobuf_utils.cpp}).

    @param state: a L{TaskState}, as the framework is to read it: see
        L{mesoskit.model.tasks.as_lost}.
    @param timestamp: seconds since 1970.
    @param uuid: 16 bytes where the status is to be acknowledged.
    """
    status = TaskStatus()
    status.task_id.value = task_id
    status.state = state  # type: ignore[assignment]
    status.source = source  # type: ignore[assignment]
    status.message = message
    status.timestamp = timestamp
    if agent_id is not None:
        status.agent_id.value = agent_id
    if executor_id is not None:
        status.executor_id.value = executor_id
    if reason is not None:
        status.reason = reason  # type: ignore[assignment]
    if uuid is not None:
        status.uuid = uuid
    return status


def retell_status(
    task: Task, state: int, timestamp: float, reason: int, message: str
) -> TaskStatus:
    """
    Return what the master says of a task that it knows when it is asked
    (C{REASON_RECONCILIATION}) or when the agent is back (C{REASON_AGENT_REREGISTERED}): no
    copy of a status, but the state with the health and check of the last status and
    the newest container status. It has no uuid.

    @param task: as the master keeps it, its C{statuses} one a state, oldest first.
    @param state: the state that was last forwarded, not necessarily the latest.
    """
    told = make_status(
        task.task_id.value,
        state,
        Source.SOURCE_MASTER,
        timestamp,
        agent_id=task.agent_id.value,
        executor_id=task.executor_id.value if task.HasField("executor_id") else None,
        reason=reason,
        message=message,
    )
    statuses = task.statuses
    if len(statuses):
        last = statuses[-1]
        if last.HasField("healthy"):
            told.healthy = last.healthy
        if last.HasField("check_status"):
            told.check_status.CopyFrom(last.check_status)
        for status in reversed(statuses):
            if status.HasField("container_status"):
                told.container_status.CopyFrom(status.container_status)
                break
    return told


def reconciled_status(task: Task, state: int, timestamp: float) -> TaskStatus:
    """Return the answer to a reconciliation for a task that the master knows."""
    return retell_status(task, state, timestamp, Reason.REASON_RECONCILIATION, LATEST_STATE)


def make_update(
    framework_id: str,
    status: TaskStatus,
    agent_id: str | None = None,
    executor_id: str | None = None,
    latest_state: int | None = None,
) -> StatusUpdate:
    """
    Return the update that carries a status between agent and master. Its uuid and
    timestamp are the status' own; agent and executor too, unless given here.

    @param latest_state: where the task is by now (agents set it, masters never).
    """
    update = StatusUpdate()
    update.framework_id.value = framework_id
    update.status.CopyFrom(status)
    update.timestamp = status.timestamp
    if agent_id is not None:
        update.slave_id.value = agent_id
    elif status.HasField("agent_id"):
        update.slave_id.value = status.agent_id.value
    if executor_id is not None:
        update.executor_id.value = executor_id
    elif status.HasField("executor_id"):
        update.executor_id.value = status.executor_id.value
    if status.HasField("uuid"):
        update.uuid = status.uuid
    if latest_state is not None:
        update.latest_state = latest_state  # type: ignore[assignment]
    return update


def complete_status(status: TaskStatus, agent_id: str, executor_id: str, now: float) -> None:
    """
    Fill in what an agent adds to a status that came from an executor: source, agent, executor
    (whatever the executor wrote there) and the time, where it has none.
    """
    status.source = TaskStatus.SOURCE_EXECUTOR
    status.agent_id.value = agent_id
    status.executor_id.value = executor_id
    if not status.HasField("timestamp"):
        status.timestamp = now


def make_task(info: TaskInfo, state: int, framework_id: str) -> Task:
    """
    Return the C{Task} that masters and agents keep, show and report for a C{TaskInfo}:
    what is of use once it is launched (C{createTask} in C{src/common/protobuf_utils.cpp}).
    Its C{user} is that of the command, else of the executor's command. A command task
    gets no executor id.
    """
    task = Task()
    task.name = info.name
    task.framework_id.value = framework_id
    task.task_id.value = info.task_id.value
    task.agent_id.value = info.agent_id.value
    task.state = state  # type: ignore[assignment]
    task.resources.MergeFrom(info.resources)
    if info.HasField("executor"):
        task.executor_id.CopyFrom(info.executor.executor_id)
    add_details(task, info)
    return task


def add_details(task: Task, info: TaskInfo) -> None:
    """
    Copy into a C{Task} what people are shown of its C{TaskInfo} and nobody computes with; the
    values of secrets stay behind.
    """
    if len(info.limits):
        task.limits.MergeFrom(info.limits)
    if info.HasField("labels"):
        task.labels.CopyFrom(info.labels)
    if info.HasField("discovery"):
        task.discovery.CopyFrom(info.discovery)
    if info.HasField("container"):
        task.container.CopyFrom(info.container)
        hide_secrets(task.container)
    if info.HasField("health_check"):
        task.health_check.CopyFrom(info.health_check)
        hide_secrets(task.health_check)
    if info.HasField("kill_policy"):
        task.kill_policy.CopyFrom(info.kill_policy)
    if info.HasField("executor"):
        if info.executor.command.HasField("user"):
            task.user = info.executor.command.user
    elif info.command.HasField("user"):
        task.user = info.command.user
