"""Recovery where what ran runs on: the policy C{reconnect}, for frameworks that checkpoint.

What the agent plays itself it takes up where it was: a kill that was under way goes on, a group
of which not all had come to run comes to run or is given up, a task that ended while nobody
looked is reported as it ended. Executors of others subscribe again by themselves, for which they
have C{executor_reregistration_timeout}; one that never had, and so knows of no task yet, gets
what waits for it when it does. One that was asked to end is asked again.
"""

from __future__ import annotations

from signal import SIGTERM
from typing import TYPE_CHECKING

from mesoskit.agent import allotments, checks, cleaning, executors, groups, pods, processes
from mesoskit.agent.container import ContainerStarted, RecoveredContainers, Signal
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Group, Kind
from mesoskit.model.tasks import Reason, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState


def executor(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    """Take up an executor where it was."""
    if one.kind is Kind.CUSTOM:
        _custom(state, one, event)
        return
    if one.pod and not pods.found(state, one, event):
        if one.container in event.abandoned:
            one.termination = _gone(one, cleaning.ABANDONED)
        pods.end(state, one, [task for task in one.live() if task.container in event.running])
    handled: set[Group] = set()
    # What runs first: the end of one of a group says something to the others.
    for task in sorted(one.tasks.values(), key=lambda task: task.container not in event.running):
        if task.ended or task.container is None:
            continue
        if task.group is None or task.group.launched:
            _task(state, task, event)
        elif task.group not in handled:
            handled.add(task.group)
            _unlaunched(state, task.group, event)
    if one.id in one.framework.executors:
        cleaning.settle(state, one)


# What the agent plays.


def _task(state: AgentState, task: AgentTask, event: RecoveredContainers) -> None:
    assert task.container is not None
    pid = event.running.get(task.container)
    if pid is None:
        cleaning.vanished(state, task, event)
        return
    task.pid = pid
    task.started = True
    if task.group is None:
        task.executor.pid = pid
    state.remember(f"found again as process {pid}", task.id, task.container)
    if cleaning.is_abandoned(task, event):
        task.ending = cleaning.gone(task, cleaning.ABANDONED)
    elif task.overdue:
        state.destroy(task.container)
    elif task.killed:
        _kill_on(state, task)
    elif task.group is None and task.state in (TaskState.TASK_STAGING, TaskState.TASK_STARTING):
        processes.started(state, ContainerStarted(task.container, pid))
    else:
        processes.limit(state, task)
        checks.begin(state, task)


def _kill_on(state: AgentState, task: AgentTask) -> None:
    """Go on with a kill; whether it heard of it is not known, so it hears it again."""
    assert task.container is not None
    assert task.killed_at is not None
    processes.report_killing(state, task)
    state.out.append(Signal(task.container, SIGTERM))
    # The clock may have been set back since it was written.
    when = max(state.now, min(task.killed_at, state.now) + task.kill_grace)
    state.deadlines.set(("kill", task.container), when)


def _unlaunched(state: AgentState, group: Group, event: RecoveredContainers) -> None:
    """Take up a group of which it was not said yet that it runs."""
    here = [task for task in group.tasks if _is_known(task, event)]
    broken = group.broken or len(here) < len(group.tasks)
    broken = broken or any(
        task.ended or task.killed or cleaning.is_abandoned(task, event) for task in group.tasks
    )
    for task in here:
        assert task.container is not None
        task.pid = event.running.get(task.container)
        task.started = True
    if broken:
        # It was being given up, or some of it never came to be: none of it stays.
        killed = any(task.killed for task in group.tasks)
        why = processes.GROUP_KILLED_BEFORE if killed else groups.FAILED_TO_LAUNCH
        if not (killed or group.broken or group.abandoned):
            _ended_before(state, group, event)
            for task in group.tasks:
                if not task.ended and not _is_known(task, event):
                    cleaning.note_cause(state, task, event)
        groups.abandon(state, group, why)
        for task in group.tasks:
            if not task.ended and task.container not in event.running:
                _never_came(state, task, event)
        return
    for task in group.tasks:
        if not task.ended and task.container not in event.running:
            cleaning.vanished(state, task, event)
    groups.started(state, group)


def _ended_before(state: AgentState, group: Group, event: RecoveredContainers) -> None:
    """Nobody had given a group up: those of its tasks that have ended did so by themselves."""
    for task in group.tasks:
        status = event.exited.get(task.container) if task.container is not None else None
        if task.ended or status is None or cleaning.is_abandoned(task, event):
            continue
        assert task.container is not None
        state.containers.pop(task.container, None)
        state.destroying.discard(task.container)
        task.ended = True
        task.held = status


def _is_known(task: AgentTask, event: RecoveredContainers) -> bool:
    return task.container in event.running or task.container in event.exited


def _never_came(state: AgentState, task: AgentTask, event: RecoveredContainers) -> None:
    """End a task of a group that was given up and whose container is not there."""
    assert task.container is not None
    state.containers.pop(task.container, None)
    state.destroying.discard(task.container)
    processes.end(state, task, event.exited.get(task.container))


# Executors of others.


def _custom(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    pid = event.running.get(one.container)
    if pid is None:
        _custom_gone(state, one, event)
        return
    one.pid = pid
    state.remember(f"found again as process {pid}", one.id, one.container)
    allotments.update(state, one)  # what it was given before is not known
    if one.container in event.abandoned:
        one.termination = _gone(one, cleaning.ABANDONED)
        one.state = ExecutorState.TERMINATING
    elif one.shut_down:
        one.state = ExecutorState.TERMINATING
        state.deadlines.set(("shutdown", one.container), state.now + one.grace_period)
    elif one.subscribed:
        # What it did not hear of is told by what it says that it has.
        for task in one.tasks.values():
            task.started = True
        one.state = ExecutorState.RUNNING
        state.recovery.waiting.add(one.container)
        limit = state.options.executor_reregistration_timeout
        executors.await_subscription(state, one, limit)
    else:
        executors.queue_again(one)
        limit = state.options.executor_registration_timeout
        executors.await_subscription(state, one, limit)


def _custom_gone(state: AgentState, one: Executor, event: RecoveredContainers) -> None:
    state.containers.pop(one.container, None)
    status = event.exited.get(one.container)
    if one.container in event.abandoned:
        one.termination = _gone(one, cleaning.ABANDONED)
    elif status is None and state.recovery.rebooted:
        one.termination = _gone(one, cleaning.MACHINE_RESTARTED)
    elif one.container not in event.exited:
        if one.subscribed:
            one.termination = _gone(one, cleaning.NOT_FOUND)
        else:
            dropped = as_lost(TaskState.TASK_DROPPED, one.framework.partition_aware)
            one.termination = dropped, Reason.REASON_AGENT_RESTARTED, cleaning.NEVER_LAUNCHED
    executors.terminated(state, one, status)


def _gone(one: Executor, why: str) -> tuple[int, int, str]:
    after = as_lost(TaskState.TASK_GONE, one.framework.partition_aware)
    return after, Reason.REASON_AGENT_RESTARTED, why
