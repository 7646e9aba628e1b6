"""What becomes of a task in the master: one way to change its state, one way to remove it.

A task is in exactly one place: its framework's C{tasks} and its agent's C{tasks} (both), or
its framework's C{unreachable}, or its framework's C{completed}.
"""

from typing import TYPE_CHECKING

from mesoskit.master import reconcile, watching
from mesoskit.master.history import remember_unreachable
from mesoskit.master.records import Framework, Task
from mesoskit.messages.internal_pb2 import KillTaskMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import TaskId
from mesoskit.model.statuses import make_status
from mesoskit.model.tasks import TERMINAL, Source, TaskState, as_lost, legal

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_MASTER = int(Source.SOURCE_MASTER)
_UNREACHABLE = int(TaskState.TASK_UNREACHABLE)
_TERMINAL = frozenset(int(state) for state in TERMINAL)
_FREED = _TERMINAL | {_UNREACHABLE}


def transition(
    state: "MasterState", task: Task, after: int, source: int, reason: int | None
) -> None:
    """
    Bring a task into another state, which must be a legal next one.

    What it held is free as soon as it cannot run any more, or nobody knows.
    """
    before = task.state
    task.state = after
    framework = task.framework
    if framework.tasks.get(task.id) is task:
        framework.live[before] -= 1
        framework.live[after] += 1
    state.past.add((state.now, after, task.id, framework.id, task.agent_id))
    if after not in _FREED:
        return
    if before != _UNREACHABLE and task.agent is not None:
        state.allocator.recover_resources(
            state.now, framework.id, task.agent_id, task.role, task.resources, None
        )
    if after == _UNREACHABLE:
        return
    counters = state.counters
    framework.terminal[after] += 1
    counters.terminal[after] += 1
    if reason is not None:
        key = (after, source, reason)
        counters.reasons[key] = counters.reasons.get(key, 0) + 1


def remove_task(state: "MasterState", task: Task) -> None:
    """Move a task out of the live ones: to the unreachable ones, or to history."""
    framework = task.framework
    del framework.tasks[task.id]
    framework.live[task.state] -= 1
    agent = task.agent
    if agent is not None:
        del agent.tasks[task]
        agent.killed.pop((framework.id, task.id), None)
        task.agent = None
        if agent.deactivation is not None and not agent.tasks:
            state.emptied[agent.id] = None
    if task.state == _UNREACHABLE:
        state.unreachable_tasks.setdefault(task.agent_id, {})[task] = None
        forgotten = remember_unreachable(
            framework, task, state.options.max_unreachable_tasks_per_framework
        )
        if forgotten is not None:
            forget_unreachable(state, forgotten)
    else:
        framework.completed.append(task)


def forget_unreachable(state: "MasterState", task: Task) -> None:
    """Take a task out of what is known of its unreachable agent (not out of its framework)."""
    tasks = state.unreachable_tasks.get(task.agent_id)
    if tasks is not None:
        tasks.pop(task, None)
        if not tasks:
            del state.unreachable_tasks[task.agent_id]


def end_task(
    state: "MasterState",
    task: Task,
    after: TaskState,
    reason: int,
    message: str,
    *,
    told: bool = True,
    unreachable_nanoseconds: int | None = None,
) -> None:
    """
    End a live task, or call it unreachable, by the master's own word.

    @param told: whether its framework hears of it.
    """
    framework = task.framework
    status = master_status(
        state,
        framework,
        task.id,
        after,
        reason,
        message,
        agent_id=task.agent_id,
        executor_id=task.executor_id,
    )
    if unreachable_nanoseconds is not None:
        status.unreachable_time.nanoseconds = unreachable_nanoseconds
    # A task that has ended keeps its state, but what was said of it is kept (as in Mesos).
    new = task.add_status(status.state, status.SerializeToString())
    if task.state != after and legal(task.state, after):
        transition(state, task, after, _MASTER, reason)
    if new and state.watchers:
        watching.task_updated(state, task, status)
    remove_task(state, task)
    if told:
        tell(state, framework, status)


def end_unreachable_task(
    state: "MasterState", task: Task, after: TaskState, reason: int, message: str, told: bool
) -> None:
    """End a task that is unreachable, by the master's own word."""
    framework = task.framework
    del framework.unreachable[task.id]
    forget_unreachable(state, task)
    status = master_status(
        state,
        framework,
        task.id,
        after,
        reason,
        message,
        agent_id=task.agent_id,
        executor_id=task.executor_id,
    )
    new = task.add_status(status.state, status.SerializeToString())
    transition(state, task, after, _MASTER, reason)
    if new and state.watchers:
        watching.task_updated(state, task, status)
    framework.completed.append(task)
    if told:
        tell(state, framework, status)


def master_status(
    state: "MasterState",
    framework: Framework,
    task_id: str,
    after: int,
    reason: int,
    message: str,
    *,
    agent_id: str | None = None,
    executor_id: str | None = None,
) -> TaskStatus:
    """Return a status from the master, in the words that the framework understands."""
    return make_status(
        task_id,
        as_lost(after, framework.partition_aware),
        _MASTER,
        state.now,
        agent_id=agent_id,
        executor_id=executor_id,
        reason=reason,
        message=message,
    )


def tell(state: "MasterState", framework: Framework, status: TaskStatus) -> None:
    """Send a status of the master's own (it has no uuid) to a framework that is connected."""
    event = Event()
    event.type = Event.UPDATE
    event.update.status.CopyFrom(status)
    state.to_framework(framework, event)


def refuse_task(
    state: "MasterState",
    framework: Framework,
    task_id: str,
    agent_id: str,
    after: TaskState,
    reason: int,
    message: str,
) -> None:
    """Answer for a task that is not launched; nothing is kept of it but the count."""
    status = master_status(state, framework, task_id, after, reason, message, agent_id=agent_id)
    counters = state.counters
    counters.terminal[status.state] += 1
    key = (int(status.state), _MASTER, reason)
    counters.reasons[key] = counters.reasons.get(key, 0) + 1
    framework.terminal[status.state] += 1
    state.past.add((state.now, int(status.state), task_id, framework.id, agent_id, message))
    tell(state, framework, status)


def kill(state: "MasterState", framework: Framework, call: Call) -> None:
    """
    Have a task killed; if its agent is away, as soon as it is back.

    An unknown task is answered as in a reconciliation. A call that names another agent
    than the task's is ignored.
    """
    state.counters.messages_kill_task += 1
    wanted = call.kill
    task_id = TaskId(wanted.task_id.value)
    task = framework.tasks.get(task_id)
    if task is None:
        agent_id = wanted.agent_id.value if wanted.HasField("agent_id") else None
        reconcile.explain(state, framework, task_id, agent_id)
        return
    agent = task.agent
    assert agent is not None
    if wanted.HasField("agent_id") and wanted.agent_id.value != agent.id:
        return
    policy = wanted.kill_policy.SerializeToString() if wanted.HasField("kill_policy") else b""
    agent.killed[framework.id, task_id] = policy
    state.past.add((state.now, "kill", task_id, framework.id, agent.id))
    state.to_agent(agent, kill_message(task, policy))


def kill_message(task: Task, policy: bytes) -> KillTaskMessage:
    """Return what tells an agent to kill a task, C{policy} being a serialized C{KillPolicy}."""
    message = KillTaskMessage()
    message.framework_id.value = task.framework.id
    message.task_id.value = task.id
    if policy:
        message.kill_policy.MergeFromString(policy)
    return message
