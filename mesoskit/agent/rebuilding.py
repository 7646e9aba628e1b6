"""From stored records back to frameworks, executors and tasks, as they were when last stored.

What became of their containers since is not known here yet: L{mesoskit.agent.recovery}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import allotments, checkpoint, checks, docker, history, nested, updates
from mesoskit.agent.frameworks import (
    AgentTask,
    Executor,
    ExecutorState,
    Framework,
    Group,
    Kind,
    kill_grace_of,
    shutdown_grace_of,
)
from mesoskit.agent.paths import executor_run_path
from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.model.ids import ExecutorId, FrameworkId, TaskId
from mesoskit.model.tasks import TERMINAL, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def rebuild(state: AgentState, snapshot: checkpoint.Snapshot) -> None:
    """Take over what was stored."""
    state.drain = snapshot.drain
    for framework_id, info in snapshot.frameworks.items():
        most = state.options.max_completed_executors_per_framework
        state.frameworks[framework_id] = Framework(framework_id, info, most)
    for ids, stored in snapshot.executors.items():
        _executor(state, *ids, stored)
    state.streams.update(snapshot.streams)
    groups: dict[tuple[FrameworkId, ExecutorId, TaskId], Group] = {}
    for (framework_id, executor_id, task_id), row in snapshot.tasks.items():
        executor = state.frameworks[framework_id].executors[executor_id]
        told = snapshot.told.get((framework_id, task_id), [])
        task = _task(state, executor, task_id, row)
        for status in told:
            task.state = status.state
            task.remember(status.state, status.SerializeToString())
        _settle(state, task, bool(told))
        if (executor.kind is Kind.CUSTOM or executor.pod) and not task.terminal:
            allotments.took(executor, task)
        if row.first is not None:
            key = framework_id, executor_id, row.first
            group = groups.setdefault(key, Group([], row.first))
            group.tasks.append(task)
            group.broken |= row.abandoned
            task.group = group
    nested.rebuild(state, snapshot.nested)
    for task_key, stream in snapshot.streams.items():
        if not len(stream) and task_key not in state.tasks:
            updates.discard(state, task_key)
    for group in groups.values():
        early = TaskState.TASK_STAGING, TaskState.TASK_STARTING
        group.launched = not any(task.state in early for task in group.tasks)
    history.rebuild(state, snapshot.history)


def _executor(
    state: AgentState,
    framework_id: FrameworkId,
    executor_id: ExecutorId,
    stored: checkpoint.StoredExecutor,
) -> None:
    framework = state.frameworks[framework_id]
    directory = executor_run_path(
        state.options.work_dir, state.agent_id, framework_id, executor_id, stored.container
    )
    grace = state.options.executor_shutdown_grace_period
    if stored.info is not None:
        grace = shutdown_grace_of(stored.info, state.options)
    kind, container = stored.kind, stored.container
    executor = Executor(framework, executor_id, kind, container, directory, stored.info, grace)
    executor.token = stored.token
    executor.noted = stored.noted
    executor.subscribed = executor.sent_task = stored.subscribed
    executor.proven = executor.proof_noted = stored.proven
    executor.shut_down = stored.terminating
    executor.pod = stored.pod
    framework.executors[executor_id] = executor
    if kind is Kind.CUSTOM:
        executor.state = ExecutorState.REGISTERING
        state.containers[container] = executor
        if stored.token is not None:
            state.tokens[stored.token] = executor
        return
    if stored.pod:
        executor.state = ExecutorState.REGISTERING
        state.containers[container] = executor
    if stored.terminating:
        executor.state = ExecutorState.TERMINATING


def _task(
    state: AgentState, executor: Executor, task_id: TaskId, row: checkpoint.StoredTask
) -> AgentTask:
    task = AgentTask(executor, task_id, row.info)
    info = TaskInfo.FromString(row.info)
    task.kill_grace = kill_grace_of(info)
    if executor.kind is Kind.COMMAND and info.HasField("container"):
        docker.take(task, info, state.options)
    if row.grace is not None:
        task.kill_grace = row.grace
    if executor.kind is Kind.COMMAND and info.kill_policy.HasField("grace_period"):
        executor.grace_period = kill_grace_of(info) + 2.0  # as when it was launched
    if info.HasField("max_completion_time"):
        task.max_completion = info.max_completion_time.nanoseconds / 1e9
    task.checks = checks.checks_of(task, info)
    task.container = row.container
    task.noted = row.noted
    task.started_at = row.started_at
    task.overdue = row.overdue
    task.killed = row.killed_at is not None
    task.killed_at = row.killed_at
    executor.tasks[task_id] = task
    state.tasks[executor.framework.id, task_id] = task
    return task


def _settle(state: AgentState, task: AgentTask, told: bool) -> None:
    """Conclude from what was said of a task how far it had come."""
    if not told and (task.executor.framework.id, task.id) in state.streams:
        # Acknowledgements of layout 1 do not remember what was said; something was.
        task.state = TaskState.TASK_RUNNING
    if task.container is not None and task.state not in TERMINAL:
        state.containers[task.container] = task
    task.started = task.state != TaskState.TASK_STAGING
    task.ended = task.state in TERMINAL
