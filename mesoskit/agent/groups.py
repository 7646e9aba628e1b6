"""Groups of tasks, whose executor (C{ExecutorInfo.DEFAULT}) the agent plays.

They start together: none is reported as running before all run, and where one cannot be
started none stays. They end together: one that fails or is killed takes the others with
it, one that finishes does not (C{src/launcher/default_executor.cpp}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    allotments,
    checkpoint,
    checks,
    completion,
    exits,
    failures,
    gc,
    processes,
    updates,
)
from mesoskit.agent.container import Launch
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Group
from mesoskit.agent.paths import task_link
from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.model.events import Store
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

FAILED_TO_LAUNCH: Final = "A task within the task group failed to launch"


def launch(state: AgentState, executor: Executor, tasks: list[AgentTask]) -> None:
    """Start the tasks of a group, each in a container within the executor's."""
    group = Group(tasks)
    changes = []
    for task in tasks:
        task.group = group
        task.container = ContainerId(state.ids.text())
        changes.append((checkpoint.task_key(task), checkpoint.task_record(task)))
    if executor.state is ExecutorState.REGISTERING:
        group.waits = True
        allotments.update(state, executor)
    else:
        begin(state, group)
    state.out.append(Store(tuple(changes)))
    for task in tasks:
        updates.report_task(state, task, TaskState.TASK_STARTING)


def begin(state: AgentState, group: Group) -> None:
    """Launch all tasks of a group; in a pod that is given what they are before."""
    executor = group.tasks[0].executor
    if executor.pod:
        allotments.update(state, executor)
    for task in group.tasks:
        assert task.container is not None
        state.containers[task.container] = task
        info = TaskInfo.FromString(task.info)
        directory, variables = processes.surroundings(state, task, info)
        link = task_link(executor.directory, task.id), directory
        state.out.append(Launch(processes.spec_of(state, task, info, directory, variables, link)))


def started(state: AgentState, group: Group) -> None:
    """A container of a group runs: once all do, all are reported as running."""
    if group.launched or group.abandoned:
        return
    if not all(task.started or task.ended for task in group.tasks):
        return
    group.launched = True
    for task in group.tasks:
        updates.report_task(state, task, TaskState.TASK_RUNNING)
        if not task.ended:
            checks.begin(state, task)
    for task in group.tasks:
        if task.ended:
            report_held(state, task)
            _take_along(state, task, group)
    finish(state, group.tasks[0].executor)


def ended(state: AgentState, task: AgentTask, group: Group, status: int | None) -> None:
    """A container of a group is gone, or could not be started."""
    if group.launched or group.abandoned:
        processes.report_end(state, task, status)
        if group.launched:
            _take_along(state, task, group)
        finish(state, task.executor)
    elif task.ending is not None:
        processes.report_end(state, task, status)
        abandon(state, group, FAILED_TO_LAUNCH)
        finish(state, task.executor)
    else:
        task.held = status
        started(state, group)


def abandon(state: AgentState, group: Group, why: str) -> None:
    """End a group that has not come to run as a whole."""
    if group.abandoned:
        return
    group.abandoned = True
    for task in group.tasks:
        if not task.ended:
            reason = Reason.REASON_TASK_KILLED_DURING_LAUNCH
            processes.note_later(state, task)
            processes.destroy(state, task, TaskState.TASK_KILLED, reason, why)
        elif not task.terminal:
            report_held(state, task)


def report_held(state: AgentState, task: AgentTask) -> None:
    """Report the end of a task that had ended before anything could be said of its group."""
    processes.report_end(state, task, task.held)
    failures.forget_if_written(state, task)


def _take_along(state: AgentState, task: AgentTask, group: Group) -> None:
    """A task that failed or was killed takes the others of its group with it."""
    if task.state not in (TaskState.TASK_FAILED, TaskState.TASK_KILLED):
        return
    for other in group.tasks:
        if other is not task:
            processes.kill(state, other, other.kill_grace)


def finish(state: AgentState, executor: Executor) -> None:
    """An executor of groups ends with its last task, and the master is told as of a process."""
    if executor.state is ExecutorState.TERMINATED:
        return
    if any(not task.ended for task in executor.tasks.values()):
        return
    if executor.container in state.containers:
        executor.state = ExecutorState.TERMINATING
        state.destroy(executor.container)
        return
    executor.state = ExecutorState.TERMINATED
    gc.schedule(state, executor)
    report_exited(state, executor, executor.exit)
    if executor.framework.terminating:
        completion.remove_executor(state, executor)
    else:
        completion.remove_executor_if_done(state, executor)


def report_exited(state: AgentState, executor: Executor, status: int | None) -> None:
    """Count an executor that is gone, and tell the master."""
    state.counters["executors_terminated"] += 1
    exits.tell(state, executor.framework.id, executor.id, status)
