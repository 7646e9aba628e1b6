"""Draining: everything that runs here is ended, nothing new is taken, until nothing is left.

The master says so, and how long any task may take to end at most (C{DrainSlaveMessage}). It is
stored, so a restarted agent goes on with it. What ends by it says so: C{REASON_AGENT_DRAINING},
and C{TASK_GONE_BY_OPERATOR} where the agent is marked gone afterwards (C{Slave::drain} and
C{Slave::statusUpdate} in C{src/slave/slave.cpp}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import checkpoint, executors, processes
from mesoskit.agent.frameworks import AgentTask, Kind
from mesoskit.agent.phase import Phase
from mesoskit.messages.internal_pb2 import DrainSlaveMessage
from mesoskit.messages.mesos_pb2 import KillPolicy, TaskStatus
from mesoskit.model.events import Store
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

REFUSED: Final = "Task was received while agent was already draining"


def drain(state: AgentState, message: DrainSlaveMessage) -> None:
    """Begin to drain, or go on in another way; where there is no task nothing is to be done."""
    if state.phase is Phase.TERMINATING or not state.tasks:
        return
    state.drain = message.config
    state.out.append(Store(((checkpoint.DRAIN, message.config.SerializeToString()),)))
    state.note("info", f"Draining: {len(state.tasks)} tasks are to end")
    go_on(state)


def go_on(state: AgentState) -> None:
    """Have every task killed that still runs; also after a restart."""
    if state.drain is None:
        return
    state.drain_started = state.now
    state.remember("draining", state.agent_id)
    for task in list(state.tasks.values()):
        if task.terminal or task.ended or task.executor.framework.terminating:
            continue
        if task.executor.kind is Kind.CUSTOM:
            executors.kill(state, task, _policy(state, task))
        else:
            processes.kill(state, task, min(task.kill_grace, _most(state)))


def _most(state: AgentState) -> float:
    assert state.drain is not None
    if not state.drain.HasField("max_grace_period"):
        return float("inf")
    return state.drain.max_grace_period.nanoseconds / 1e9


def _policy(state: AgentState, task: AgentTask) -> KillPolicy | None:
    """Return what an executor is told where the task's own policy would take longer."""
    assert state.drain is not None
    if not state.drain.HasField("max_grace_period") or task.kill_grace <= _most(state):
        return None
    return KillPolicy(grace_period=state.drain.max_grace_period)


def describe(state: AgentState, status: TaskStatus, partition_aware: bool) -> None:
    """Say in a status that the task was killed because the agent drains."""
    if state.drain is None:
        return
    ending = int(status.state)
    if ending in (TaskState.TASK_KILLING, TaskState.TASK_KILLED):
        status.reason = Reason.REASON_AGENT_DRAINING  # type: ignore[assignment]
        if ending == TaskState.TASK_KILLED and state.drain.mark_gone and partition_aware:
            status.state = TaskState.TASK_GONE_BY_OPERATOR  # type: ignore[assignment]


def settle(state: AgentState) -> None:
    """After an event: has the last task left?"""
    if state.drain is not None and not state.tasks:
        state.drain = None
        state.out.append(Store(((checkpoint.DRAIN, None),)))
        state.note("info", "Drained: no task is left")
        state.remember("drained", state.agent_id)
