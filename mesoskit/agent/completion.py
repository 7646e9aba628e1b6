"""How tasks, executors and frameworks leave: into the history, out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import checkpoint, history, shutdown
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Framework
from mesoskit.model.events import Store
from mesoskit.model.ids import FrameworkId

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def complete(state: AgentState, task: AgentTask) -> None:
    """A task's last update is acknowledged: it goes into the history of its executor."""
    executor = task.executor
    state.out.append(Store((*checkpoint.forget_task(task), *history.task_ended(state, task))))
    del state.tasks[executor.framework.id, task.id]
    executor.complete(task, state.options.max_completed_tasks_per_executor)
    remove_executor_if_done(state, executor)


def remove_executor_if_done(state: AgentState, executor: Executor) -> None:
    """Let an executor go whose container is gone and of which nothing is left to tell."""
    if executor.state is ExecutorState.TERMINATED and not executor.tasks:
        remove_executor(state, executor)


def remove_executor(state: AgentState, executor: Executor) -> None:
    """Move an executor, with whatever tasks it still has, to the history of its framework."""
    framework = executor.framework
    changes = list(checkpoint.forget_executor(executor))
    for task in list(executor.tasks.values()):
        changes.extend(checkpoint.forget_task(task))
        changes.extend(history.task_ended(state, task))
        del state.tasks[framework.id, task.id]
        executor.complete(task, state.options.max_completed_tasks_per_executor)
    changes.extend(history.executor_ended(state, executor))
    if changes:
        state.out.append(Store(tuple(changes)))
    del framework.executors[executor.id]
    framework.completed.append(executor)
    remove_framework_if_idle(state, framework)


def remove_framework_if_idle(state: AgentState, framework: Framework) -> None:
    """Let a framework go that has no executor here any more."""
    if framework.executors or framework.id not in state.frameworks:
        return
    del state.frameworks[framework.id]
    changes: list[tuple[str, bytes | None]] = [(checkpoint.framework_key(framework.id), None)]
    changes.extend(history.framework_ended(framework))
    completed = state.completed_frameworks
    completed.pop(framework.id, None)
    completed[framework.id] = framework
    while len(completed) > state.options.max_completed_frameworks:
        changes.extend(history.forget_framework(completed.pop(next(iter(completed)))))
    state.out.append(Store(tuple(changes)))
    if framework.terminating:
        shutdown.framework_gone(state)


def revive_framework(state: AgentState, framework_id: FrameworkId) -> Framework | None:
    """Take a framework back from the history, for a new task of it; L{None} if it is not there."""
    framework = state.completed_frameworks.pop(framework_id, None)
    if framework is not None:
        framework.terminating = False
        state.frameworks[framework_id] = framework
    return framework
