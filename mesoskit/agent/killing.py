"""C{KillTaskMessage}: to whoever plays the task's executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import executors, processes, updates
from mesoskit.agent.frameworks import Framework, Kind
from mesoskit.agent.phase import Phase
from mesoskit.messages.internal_pb2 import KillTaskMessage
from mesoskit.model.ids import FrameworkId, TaskId
from mesoskit.model.statuses import make_status
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

NO_EXECUTOR: Final = "Cannot find executor"


def kill_task(state: AgentState, message: KillTaskMessage) -> None:
    """
    Kill a task. Nothing happens for a framework that has nothing here (the master will hear what
    became of the task) or that is being shut down; an unknown task of a known framework
    was never launched here.
    """
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    task_id = TaskId(message.task_id.value)
    if state.phase is Phase.TERMINATING or framework is None or framework.terminating:
        state.note("warn", f"Ignoring kill of task {task_id}: its framework has nothing here")
        return
    task = state.tasks.get((framework.id, task_id))
    if task is None:
        _deny(state, framework, task_id)
        return
    state.remember("kill requested", task_id, framework.id)
    policy = message.kill_policy if message.HasField("kill_policy") else None
    if task.executor.kind is Kind.CUSTOM:
        executors.kill(state, task, policy)
        return
    grace = task.kill_grace
    if policy is not None and policy.HasField("grace_period"):
        grace = policy.grace_period.nanoseconds / 1e9
    processes.kill(state, task, grace)


def _deny(state: AgentState, framework: Framework, task_id: TaskId) -> None:
    if (framework.id, task_id) in state.streams:
        return  # Its last word is on its way.
    status = make_status(
        task_id,
        as_lost(TaskState.TASK_DROPPED, framework.partition_aware),
        Source.SOURCE_AGENT,
        state.now,
        agent_id=state.agent_id,
        reason=Reason.REASON_EXECUTOR_TERMINATED,
        message=NO_EXECUTOR,
        uuid=state.ids.bytes(),
    )
    updates.report(state, framework.id, status)
