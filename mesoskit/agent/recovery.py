"""What an agent does with what it finds of its own life before.

Recovery is how every agent begins, the first time with nothing to find: the store's
records (C{Recovered}) and the launcher's containers (C{RecoveredContainers}) come in, in
this order, and the policy decides what becomes of both. Only then the agent registers.

C{cleanup}: nothing that ran goes on. What still runs is destroyed, also what no record
knows; a task that had ended by itself while nobody looked is reported as it ended;
every other is reported as gone once its container is. Updates that were not acknowledged
are sent again, and the agent keeps its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mesoskit.agent import checkpoint, completion, executors, groups, processes, registration
from mesoskit.agent.container import Forget, RecoveredContainers
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
from mesoskit.agent.options import CLEANUP
from mesoskit.agent.paths import executor_run_path
from mesoskit.agent.phase import Phase
from mesoskit.messages.mesos_pb2 import AgentInfo, TaskInfo
from mesoskit.model.events import Recovered, Stop
from mesoskit.model.ids import AgentId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL, Reason, Source, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

RESTARTED: Final = "The agent restarted and ended the task"
NEVER_LAUNCHED: Final = "Task launched during agent restart"

INCOMPATIBLE: Final = (
    "Incompatible agent info detected. Either start the agent as before, or choose a more"
    " permissive --reconfiguration_policy, or remove the checkpoints of the work directory"
    " to start as a new agent. "
)


class Recovery:
    """
    How far recovery is.

    @ivar read: the records have been read.
    @ivar done: the containers are known, and the policy has decided.
    @ivar errors: how many records could not be read.
    @ivar seconds: how long it took.
    """

    __slots__ = ("done", "errors", "read", "seconds")

    def __init__(self) -> None:
        self.read = False
        self.done = False
        self.errors = 0
        self.seconds = 0.0


def recovered(state: AgentState, event: Recovered) -> None:
    """The store was read."""
    try:
        snapshot = checkpoint.read(event.snapshot)
    except checkpoint.CheckpointError as error:
        state.recovery.errors += 1
        state.out.append(Stop(f"Failed to perform recovery: {error}", 1))
        return
    if snapshot.agent is not None:
        state.set_agent_id(AgentId(snapshot.agent.id.value))
        difference = incompatibility(state, snapshot.agent)
        if difference is not None:
            state.out.append(Stop(f"Failed to perform recovery: {INCOMPATIBLE}{difference}", 1))
            return
    _rebuild(state, snapshot)
    state.recovery.read = True


def incompatibility(state: AgentState, before: AgentInfo) -> str | None:
    """
    Say what of the agent's info has changed in a way that the policy does not allow. The port
    may change, other than in Mesos: no executor rests on it here.
    """
    policy = state.options.reconfiguration_policy
    if policy == "any":
        return None
    now = registration.agent_info(state)
    for name in ("hostname", "domain"):
        if getattr(before, name) != getattr(now, name):
            return f"{name} was {getattr(before, name)} and is {getattr(now, name)}"
    old, new = Resources.from_message(before.resources), state.options.resources
    attributes = [one.SerializeToString() for one in now.attributes]
    if policy == "additive":
        fits = new.contains(old)
        kept = all(one.SerializeToString() in attributes for one in before.attributes)
    else:
        fits = new == old
        kept = sorted(one.SerializeToString() for one in before.attributes) == sorted(attributes)
    if not fits:
        return f"resources were {old} and are {new}"
    return None if kept else "the attributes have changed"


def _rebuild(state: AgentState, snapshot: checkpoint.Snapshot) -> None:
    for framework_id, info in snapshot.frameworks.items():
        most = state.options.max_completed_executors_per_framework
        state.frameworks[framework_id] = Framework(framework_id, info, most)
    for ids, stored in snapshot.executors.items():
        _rebuild_executor(state, *ids, stored)
    state.streams.update(snapshot.streams)
    groups_found: dict[tuple[FrameworkId, ExecutorId, TaskId], Group] = {}
    for (framework_id, executor_id, task_id), row in snapshot.tasks.items():
        executor = state.frameworks[framework_id].executors[executor_id]
        task = _rebuild_task(state, executor, task_id, row)
        if row.first is not None:
            group = groups_found.setdefault((framework_id, executor_id, row.first), Group([]))
            group.tasks.append(task)
            group.launched = True
            task.group = group


def _rebuild_executor(
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
    framework.executors[executor_id] = executor
    if kind is Kind.CUSTOM:
        executor.state = ExecutorState.REGISTERING
        executor.sent_task = True
        state.containers[container] = executor
        if stored.token is not None:
            state.tokens[stored.token] = executor


def _rebuild_task(
    state: AgentState, executor: Executor, task_id: TaskId, row: checkpoint.StoredTask
) -> AgentTask:
    task = AgentTask(executor, task_id, row.info)
    info = TaskInfo.FromString(row.info)
    task.kill_grace = kill_grace_of(info)
    task.container = row.container
    executor.tasks[task_id] = task
    key = executor.framework.id, task_id
    state.tasks[key] = task
    stream = state.streams.get(key)
    if stream is not None:
        # What was acknowledged is not kept; a task with a stream but nothing waiting did run.
        task.state = TaskState.TASK_RUNNING
        for update in stream.waiting:
            task.state = update.status.state
            task.remember(task.state, update.status.SerializeToString())
    if task.container is not None and task.state not in TERMINAL:
        state.containers[task.container] = task
    task.started = task.state != TaskState.TASK_STAGING
    task.ended = task.state in TERMINAL
    return task


def containers(state: AgentState, event: RecoveredContainers) -> None:
    """The launcher has said what is left: the policy decides, and the agent may register."""
    if state.recovery.done or not state.recovery.read:
        return
    _POLICIES[state.options.recover](state, event)
    state.recovery.done = True
    state.recovery.seconds = state.now - (state.started_at or state.now)
    if state.phase is Phase.RECOVERING:
        state.phase = Phase.DISCONNECTED
    registration.begin(state)


def _cleanup(state: AgentState, event: RecoveredContainers) -> None:
    for container in event.running:
        state.destroy(container)
        if container not in state.containers:
            state.doomed.add(container)
    for framework in list(state.frameworks.values()):
        for executor in list(framework.executors.values()):
            if executor.kind is Kind.CUSTOM:
                _clean_executor(state, executor, event)
            else:
                _clean_tasks(state, executor, event)
        completion.remove_framework_if_idle(state, framework)
    for container in event.exited:
        state.containers.pop(container, None)
        state.out.append(Forget(container))


def _clean_executor(state: AgentState, executor: Executor, event: RecoveredContainers) -> None:
    gone = as_lost(TaskState.TASK_GONE, executor.framework.partition_aware)
    executor.termination = gone, Reason.REASON_AGENT_RESTARTED, RESTARTED
    if executor.container in event.running:
        executor.state = ExecutorState.TERMINATING
        return
    state.containers.pop(executor.container, None)
    executors.terminated(state, executor, event.exited.get(executor.container))


def _clean_tasks(state: AgentState, executor: Executor, event: RecoveredContainers) -> None:
    aware = executor.framework.partition_aware
    executor.state = ExecutorState.TERMINATING
    for task in list(executor.tasks.values()):
        if task.ended or task.container is None:
            continue
        if task.container in event.running:
            gone = as_lost(TaskState.TASK_GONE, aware)
            task.ending = gone, Source.SOURCE_AGENT, Reason.REASON_AGENT_RESTARTED, RESTARTED
            continue
        if task.container not in event.exited:
            after, why = TaskState.TASK_GONE, RESTARTED
            if task.state == TaskState.TASK_STAGING:
                after, why = TaskState.TASK_DROPPED, NEVER_LAUNCHED
            reason = Reason.REASON_AGENT_RESTARTED
            task.ending = as_lost(after, aware), Source.SOURCE_AGENT, reason, why
        state.containers.pop(task.container, None)
        processes.end(state, task, event.exited.get(task.container))
    if all(task.ended for task in executor.tasks.values()):
        _settle(state, executor)


def _settle(state: AgentState, executor: Executor) -> None:
    """Nothing of an executor that the agent plays runs any more: only its last words are left."""
    if executor.kind is Kind.DEFAULT:
        groups.finish(state, executor)
    elif executor.id in executor.framework.executors:
        executor.state = ExecutorState.TERMINATED
        completion.remove_executor_if_done(state, executor)


_POLICIES: dict[str, Callable[[AgentState, RecoveredContainers], None]] = {CLEANUP: _cleanup}
"""What becomes of what is left, by C{--recover}."""
