"""Recovery where nothing that ran goes on: the policy C{cleanup}, and frameworks that do not
checkpoint.

What still runs is destroyed, and reported as gone once its container is; a task that had ended
by itself while nobody looked is reported as it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import completion, executors, groups, pods, processes
from mesoskit.agent.container import RecoveredContainers
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

RESTARTED: Final = "The agent restarted and ended the task"
MACHINE_RESTARTED: Final = "The machine restarted, and the task ended with it"
ABANDONED: Final = "No agent was there for too long, and the task was ended"
NEVER_LAUNCHED: Final = "Task launched during agent restart"
NOT_FOUND: Final = "The agent restarted and did not find the task's container"


def executor(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    """End all that is left of an executor."""
    if one.kind is Kind.CUSTOM:
        _custom(state, one, event)
    else:
        _played(state, one, event)


def _custom(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    why = ABANDONED if one.container in event.abandoned else RESTARTED
    gone = as_lost(TaskState.TASK_GONE, one.framework.partition_aware)
    one.termination = gone, Reason.REASON_AGENT_RESTARTED, why
    if one.container in event.running:
        one.state = ExecutorState.TERMINATING
        state.destroy(one.container)
        return
    state.containers.pop(one.container, None)
    executors.terminated(state, one, event.exited.get(one.container))


def _played(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    if one.pod:
        pods.found(state, one, event)
    one.state = ExecutorState.TERMINATING
    for task in list(one.tasks.values()):
        if task.ended or task.container is None:
            continue
        if task.group is not None:
            task.group.launched = True  # Each of them ends for itself.
        if task.container in event.running:
            task.ending = gone(task, ABANDONED if is_abandoned(task, event) else RESTARTED)
            state.destroy(task.container)
            continue
        vanished(state, task, event)
    settle(state, one)


def is_abandoned(task: AgentTask, event: RecoveredContainers) -> bool:
    """Tell whether a task was ended because no agent was there."""
    return task.container in event.abandoned


def gone(task: AgentTask, why: str) -> tuple[int, int, int, str]:
    """Return how a task ends that the restart has ended."""
    after = as_lost(TaskState.TASK_GONE, task.executor.framework.partition_aware)
    return after, Source.SOURCE_AGENT, Reason.REASON_AGENT_RESTARTED, why


def vanished(state: AgentState, task: AgentTask, event: RecoveredContainers) -> None:
    """A task of the agent's own runs no more, or never did: say what is known of its end."""
    assert task.container is not None
    container = task.container
    note_cause(state, task, event)
    state.containers.pop(container, None)
    state.destroying.discard(container)
    processes.end(state, task, event.exited.get(container))


def note_cause(state: AgentState, task: AgentTask, event: RecoveredContainers) -> None:
    """Note what a task that is not there ends with, where that is not its exit status."""
    assert task.container is not None
    container = task.container
    if container in event.abandoned and not task.killed:
        task.ending = gone(task, ABANDONED)
    elif event.exited.get(container) is None and state.recovery.rebooted:
        task.ending = gone(task, MACHINE_RESTARTED)
    elif container not in event.exited:
        task.ending = _never_seen(task)


def _never_seen(task: AgentTask) -> tuple[int, int, int, str]:
    """Return how a task ends whose container the launcher knows nothing of."""
    if task.killed:
        reason = Reason.REASON_TASK_KILLED_DURING_LAUNCH
        return TaskState.TASK_KILLED, Source.SOURCE_AGENT, reason, processes.KILLED_BEFORE
    if task.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
        after = as_lost(TaskState.TASK_DROPPED, task.executor.framework.partition_aware)
        return after, Source.SOURCE_AGENT, Reason.REASON_AGENT_RESTARTED, NEVER_LAUNCHED
    return gone(task, NOT_FOUND)


def settle(state: AgentState, one: Executor) -> None:
    """Where nothing of an executor that the agent plays runs: only its last words are left."""
    if any(not task.ended for task in one.tasks.values()):
        return
    if one.kind is Kind.DEFAULT:
        groups.finish(state, one)
    elif one.id in one.framework.executors:
        one.state = ExecutorState.TERMINATED
        completion.remove_executor_if_done(state, one)
