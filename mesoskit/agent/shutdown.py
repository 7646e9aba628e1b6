"""The end of executors, of frameworks and of the agent itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    checkpoint,
    completion,
    executors,
    history,
    nested_records,
    processes,
    updates,
)
from mesoskit.agent.events import Leave, ShutDown
from mesoskit.agent.frameworks import Executor, ExecutorState, Framework, Kind
from mesoskit.agent.phase import Phase
from mesoskit.messages.executor_pb2 import Event
from mesoskit.messages.internal_pb2 import (
    ShutdownExecutorMessage,
    ShutdownFrameworkMessage,
    ShutdownMessage,
    UnregisterSlaveMessage,
)
from mesoskit.model.events import Drop, Send, Stop, Store
from mesoskit.model.ids import ExecutorId, FrameworkId
from mesoskit.model.tasks import Reason, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

KILL_MARGIN: Final = 2.0
"""Seconds that a task is destroyed before its executor's grace period ends, as in Mesos."""


STOPPED: Final = "The agent was stopped and ended the task"


def shutdown_executor_message(state: AgentState, message: ShutdownExecutorMessage) -> None:
    """A framework wants an executor to end."""
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    if framework is not None and not framework.terminating:
        executor = framework.executors.get(ExecutorId(message.executor_id.value))
        if executor is not None:
            shutdown_executor(state, executor)


def shutdown_executor(state: AgentState, executor: Executor) -> None:
    """Ask an executor to end all its tasks and itself, and destroy it if it takes too long."""
    if executor.state in (ExecutorState.TERMINATING, ExecutorState.TERMINATED):
        return
    state.remember("executor shut down", executor.id, executor.container, executor.framework.id)
    executor.shut_down = True
    if executor.kind is not Kind.COMMAND and not executor.framework.terminating:
        state.out.append(Store(checkpoint.note_executor(executor)))
    if executor.kind is not Kind.CUSTOM:
        executor.state = ExecutorState.TERMINATING
        grace = max(0.0, executor.grace_period - KILL_MARGIN)
        for task in list(executor.tasks.values()):
            processes.kill(state, task, grace)
        return
    never_subscribed = executor.state is ExecutorState.REGISTERING
    executor.state = ExecutorState.TERMINATING
    state.deadlines.drop(("subscribe", executor.container))
    if never_subscribed:
        state.destroy(executor.container)
        return
    if executor.peer is not None:
        state.out.append(Send(executor.peer, Event(type=Event.SHUTDOWN)))
    when = state.now + executor.grace_period
    state.deadlines.set(("shutdown", executor.container), when)


def shutdown_framework_message(state: AgentState, message: ShutdownFrameworkMessage) -> None:
    """A framework is gone for good: all it has here ends, and nothing more is told of it."""
    framework_id = FrameworkId(message.framework_id.value)
    framework = state.frameworks.get(framework_id)
    if framework is not None:
        shutdown_framework(state, framework)
    # Also what was refused or is unknown here has nobody left to acknowledge it.
    for key in [key for key in state.streams if key[0] == framework_id]:
        updates.discard(state, key)


def shutdown_framework(state: AgentState, framework: Framework) -> None:
    """End all that a framework has here."""
    if framework.terminating:
        return
    framework.terminating = True
    state.remember("framework shut down", framework.id)
    for key in [key for key in state.streams if key[0] == framework.id]:
        updates.discard(state, key)
    state.out.append(Store(_deletions(framework)))
    for executor in list(framework.executors.values()):
        if executor.state is ExecutorState.TERMINATED:
            completion.remove_executor(state, executor)
        else:
            shutdown_executor(state, executor)


def _deletions(framework: Framework) -> checkpoint.Changes:
    """
    Return the deletion of all that is stored of a framework: an agent that starts again destroys
    what it has no record of, and tells nobody of it.
    """
    changes: list[tuple[str, bytes | None]] = [(checkpoint.framework_key(framework.id), None)]
    for executor in framework.executors.values():
        changes.extend(checkpoint.forget_executor(executor))
        for task in executor.tasks.values():
            changes.extend(checkpoint.forget_task(task))
    return tuple(changes)


def shutdown_message(state: AgentState, message: ShutdownMessage) -> None:
    """The master wants the agent to end (it was marked gone, its machine is down …)."""
    _terminate(state, f"The master asked the agent to shut down: {message.message}")


def shut_down(state: AgentState, event: ShutDown) -> None:
    """An operator wants the agent to leave: the master is told first."""
    if state.agent_id and state.registered:
        message = UnregisterSlaveMessage()
        message.slave_id.value = state.agent_id
        state.to_master(message)
    _terminate(state, event.why)


def _terminate(state: AgentState, why: str) -> None:
    if state.phase is Phase.TERMINATING:
        return
    state.note("warn", why)
    updates.pause(state)
    state.phase = Phase.TERMINATING
    state.stopping_why = why
    state.deadlines.drop(("register",))
    state.deadlines.drop(("ping",))
    for container in list(state.nested.running):
        state.destroy(container)
    for framework in list(state.frameworks.values()):
        shutdown_framework(state, framework)
    framework_gone(state)


def framework_gone(state: AgentState) -> None:
    """Where the agent ends and its last framework is gone: forget everything, and stop."""
    if state.phase is not Phase.TERMINATING or state.frameworks:
        return
    for key in list(state.streams):
        updates.discard(state, key)
    changes: list[tuple[str, bytes | None]] = [(checkpoint.AGENT, None), (checkpoint.LIFE, None)]
    for framework in state.completed_frameworks.values():
        changes.extend(history.forget_framework(framework))
    # Those that still run are being destroyed, and will be found to be nobody's.
    for one in state.nested.all.values():
        changes += ((nested_records.key(one), None), (nested_records.end_key(one), None))
    changes += ((name, None) for name in sorted(state.unstored))
    state.unstored.clear()
    state.out.append(Store(tuple(changes)))
    if state.master is not None:
        state.out.append(Drop(state.master, state.stopping_why))
    state.out.append(Stop(state.stopping_why, 0))


def leave(state: AgentState, event: Leave) -> None:
    """The process is to end: nothing that runs here would go on at its next start."""
    state.leaving = True
    reason = Reason.REASON_AGENT_RESTARTED
    for framework in list(state.frameworks.values()):
        gone = as_lost(TaskState.TASK_GONE, framework.partition_aware)
        for executor in list(framework.executors.values()):
            if executor.kind is Kind.CUSTOM:
                if executor.state in (ExecutorState.REGISTERING, ExecutorState.RUNNING):
                    executors.destroy(state, executor, gone, reason, STOPPED)
                continue
            for task in list(executor.tasks.values()):
                if not task.killed:
                    processes.destroy(state, task, gone, reason, STOPPED)
    # What is on its way to its end anyway is not waited for.
    for container in (*state.containers, *state.nested.running):
        state.destroy(container)
    left(state)


def left(state: AgentState) -> None:
    """Where the process is to end and nothing runs any more: let it."""
    if state.leaving and not ((state.containers or state.nested.running) and state.recovery.done):
        state.out.append(Stop("asked to", 0))
