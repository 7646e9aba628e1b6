"""What happens when the store refuses a change: a full disk fails tasks, not the agent.

Turns try a group that failed event by event, so what comes here failed alone, and all that
its event was to bring about was dropped with it (L{mesoskit.cluster.turns}, C{isolate}).
A task whose record could not be stored was not launched, and fails. An update that could
not be stored goes on from memory; a task of which an update other than the last could
not be stored is ended, if the agent plays its executor. Everything else, acknowledgements among
it, is stored again later.
"""

from __future__ import annotations

from signal import SIGTERM
from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    checkpoint,
    executors,
    exits,
    history,
    nested_calls,
    nested_records,
    processes,
    registration,
    updates,
)
from mesoskit.agent.container import Destroy, Forget, Signal
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind
from mesoskit.agent.phase import Phase
from mesoskit.messages.internal_pb2 import StatusUpdateRecord
from mesoskit.model.events import Store, StoreFailed
from mesoskit.model.ids import ExecutorId, FrameworkId, TaskId
from mesoskit.model.tasks import TERMINAL, Reason, Source, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

AGAIN: Final = 10.0
"""Seconds until what could not be stored is tried again."""


def store_failed(state: AgentState, event: StoreFailed) -> None:
    """Some changes were not stored, and nothing that stood behind them was done."""
    state.note("error", f"The agent's store failed: {event.why}")
    unlaunched: list[AgentTask] = []
    untold: list[updates.Key] = []
    for name, data in nested_calls.store_failed(state, event):
        kind, *path = name.split("/")
        if kind == "notes" and data is not None:
            _unnoted(state, name, path)
        elif kind == "tasks" and data is not None:
            task = state.tasks.get((FrameworkId(path[0]), TaskId(path[2])))
            if task is not None:
                unlaunched.append(task)
        elif kind == "updates" and data is not None:
            key = FrameworkId(path[0]), TaskId(path[1])
            if _is_update(data):
                untold.append(key)
            else:
                updates.not_acknowledged(state, key, name, data)
        elif kind != history.KIND or data is None:
            state.unstored.add(name)
    why = f"Failed to checkpoint: {event.why}"
    for task in unlaunched:
        task.unrecorded = True
        _from_memory(state, task)
    for task in unlaunched:
        _fail_unlaunched(state, task, why)
    for key in untold:
        _go_on(state, key, why)
    _repeat(state)
    exits.tell_again(state, state.now - exits.STORING)
    if checkpoint.AGENT in state.unstored:
        registration.announce(state)
    waits = state.unstored or state.unforgotten
    if waits and ("unstored",) not in state.deadlines:
        state.deadlines.set(("unstored",), state.now + AGAIN)


def store_later(state: AgentState, key: str) -> None:
    """Store what belongs under a key in an event of its own, at once."""
    state.unstored.add(key)
    state.deadlines.set(("unstored",), state.now)


def store_again(state: AgentState) -> None:
    """Try again to store what the store refused before, as it is by now."""
    changes = []
    for name in sorted(state.unstored):
        kind, *path = name.split("/")
        if kind != "updates":
            changes.append((name, _record(state, kind, path)))
            continue
        key = FrameworkId(path[0]), TaskId(path[1])
        stream = state.streams.get(key)
        if stream is None or key in state.in_memory:
            changes.append((name, None))
        else:
            changes.extend(stream.again(name))
    if not state.unstored:
        _forget_containers(state)
    state.unstored.clear()
    if changes:
        state.out.append(Store(tuple(changes)))
    if state.unforgotten:
        state.deadlines.set(("unstored",), state.now + AGAIN)


def is_known_here_alone(state: AgentState, task: AgentTask) -> bool:
    """
    Tell whether a restarted agent would find nothing written of how a task has ended: that was
    not stored, or not said yet, as of a task of a group that does not run yet, or is not said to
    anybody, as where its framework is being shut down.
    """
    framework = task.executor.framework
    key = framework.id, task.id
    if key in state.in_memory or not task.terminal:
        return True
    return framework.terminating and key in state.tasks


def forget_later(state: AgentState, task: AgentTask) -> None:
    """Let go of what a task's container has left when nothing is stored of the task any more."""
    assert task.container is not None
    state.unforgotten[task.container] = task.executor.framework.id, task.id
    if ("unstored",) not in state.deadlines:
        state.deadlines.set(("unstored",), state.now + AGAIN)


def forget_if_written(state: AgentState, task: AgentTask) -> None:
    """How a task has ended is said only now: let go of what its container has left, behind that."""
    container = task.container
    if container in state.unforgotten and not is_known_here_alone(state, task):
        del state.unforgotten[container]
        state.out.append(Forget(container))


def _forget_containers(state: AgentState) -> None:
    """All is stored: let go of what containers have left whose tasks are nowhere any more."""
    for container, key in list(state.unforgotten.items()):
        if key not in state.tasks:
            del state.unforgotten[container]
            state.out.append(Forget(container))


def _record(state: AgentState, kind: str, path: list[str]) -> bytes | None:
    """Return what is to be stored under a key now; L{None}: nothing."""
    if kind == "agent":
        return _own_record(state, path)
    if kind == history.KIND:
        return None  # What was to be written is done without.
    if kind == nested_records.KIND:
        return nested_records.current(state, path)
    framework = state.frameworks.get(FrameworkId(path[0])) if path else None
    if framework is None or framework.terminating:
        return None
    if len(path) == 1:
        return framework.info.SerializeToString() if kind == "frameworks" else None
    executor = framework.executors.get(ExecutorId(path[1]))
    if executor is None:
        return None
    if len(path) == 2:
        return _executor_record(executor, kind)
    task = executor.tasks.get(TaskId(path[2]))
    if task is None or task.unrecorded:
        return None
    if kind == "notes":
        return checkpoint.task_note(task) if task.noted else None
    return checkpoint.task_record(task)


def _executor_record(executor: Executor, kind: str) -> bytes | None:
    """
    Return what is to be stored of an executor. Another of the same id may have come since: of
    that nothing may be noted yet, and a note of which it knows nothing would stay for ever.
    """
    if kind == "executors" and executor.kind is not Kind.COMMAND:
        return checkpoint.executor_record(executor)
    return checkpoint.executor_note(executor) if kind == "notes" and executor.noted else None


def _own_record(state: AgentState, path: list[str]) -> bytes | None:
    if not state.agent_id or state.phase is Phase.TERMINATING:
        return None
    if path == ["info"]:
        return registration.agent_info(state).SerializeToString()
    if path == ["drain"]:
        return None if state.drain is None else state.drain.SerializeToString()
    return checkpoint.life_record(state.options) if path == ["life"] else None


def _unnoted(state: AgentState, name: str, path: list[str]) -> None:
    """
    What came true of a task or an executor could not be noted. A kill goes on all the same. An
    executor's first subscription was refused, and is not one.
    """
    framework = state.frameworks.get(FrameworkId(path[0]))
    executor = None if framework is None else framework.executors.get(ExecutorId(path[1]))
    if executor is None:
        return
    task = executor.tasks.get(TaskId(path[2])) if len(path) > 2 else None
    if executor.first_note and len(path) == 2:
        executors.unsubscribe(state, executor)
        return
    state.unstored.add(name)
    if task is None or not task.killed or not task.started or task.ended:
        return
    if executor.kind is not Kind.CUSTOM:
        assert task.container is not None
        if task.container not in state.destroying:
            state.out.append(Signal(task.container, SIGTERM))
    elif executor.peer is not None:
        executors.send_kill(state, executor, task)


def _is_update(data: bytes) -> bool:
    return StatusUpdateRecord.FromString(data).type == StatusUpdateRecord.UPDATE


def _repeat(state: AgentState) -> None:
    """Ask again for every destruction that is not done: one of them may have been dropped."""
    for container in sorted(state.destroying):
        state.out.append(Destroy(container))


def _go_on(state: AgentState, key: updates.Key, why: str) -> None:
    """An update of a task could not be stored."""
    task = state.tasks.get(key)
    if key in state.streams:
        updates.keep_in_memory(state, key)
    if task is None:
        return
    if task.executor.kind is Kind.CUSTOM:
        return  # Its call was refused as not stored: it says the same again, and is acknowledged.
    if task.ended:
        # An agent that is killed now, and started again, must find out once more how it ended.
        assert task.container is not None
        state.unforgotten[task.container] = key
    elif task.state not in TERMINAL:
        reason = Reason.REASON_EXECUTOR_TERMINATED
        processes.destroy(state, task, TaskState.TASK_FAILED, reason, why)


def _fail_unlaunched(state: AgentState, task: AgentTask, why: str) -> None:
    """A task's record could not be stored, and so it was not launched."""
    executor = task.executor
    if task.terminal or task.ended:
        return
    reason = Reason.REASON_CONTAINER_LAUNCH_FAILED
    if executor.kind is not Kind.CUSTOM:
        assert task.container is not None
        state.containers.pop(task.container, None)
        state.destroying.discard(task.container)
        if executor.state is ExecutorState.REGISTERING and _is_first(executor, task):
            # So was its pod's launch.
            state.containers.pop(executor.container, None)
        task.ending = TaskState.TASK_FAILED, Source.SOURCE_AGENT, reason, why
        processes.end(state, task, None)
        return
    if executor.state is ExecutorState.REGISTERING and _is_first(executor, task):
        # The executor's own launch was dropped with the first task's.
        executor.termination = TaskState.TASK_FAILED, reason, why
        state.containers.pop(executor.container, None)
        executors.terminated(state, executor, None)
        return
    executor.queued = [item for item in executor.queued if item is not (task.group or task)]
    updates.report_task(
        state,
        task,
        TaskState.TASK_FAILED,
        source=Source.SOURCE_AGENT,
        reason=reason,
        message=why,
    )


def _from_memory(state: AgentState, task: AgentTask) -> None:
    """Without a record nothing of a task may be stored: a restarted agent knows nothing of it."""
    key = task.executor.framework.id, task.id
    if task.terminal or task.ended:
        return
    if key in state.streams:
        updates.keep_in_memory(state, key)
    else:
        updates.begin_in_memory(state, key)


def _is_first(executor: Executor, task: AgentTask) -> bool:
    first = next(iter(executor.tasks.values()))
    return first is task or (task.group is not None and first in task.group.tasks)
