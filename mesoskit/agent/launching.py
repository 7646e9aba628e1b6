"""From C{RunTaskMessage} and C{RunTaskGroupMessage} to containers: who runs what, what is refused.

The checks are those of C{Slave::_run} and C{Slave::__run} (C{src/slave/slave.cpp}), with their
texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import (
    allotments,
    authorizing,
    checkpoint,
    checks,
    completion,
    docker,
    draining,
    executors,
    exits,
    groups,
    pods,
    processes,
    registration,
    shutdown,
    updates,
)
from mesoskit.agent.frameworks import (
    AgentTask,
    Executor,
    ExecutorState,
    Framework,
    Kind,
    kill_grace_of,
    shutdown_grace_of,
)
from mesoskit.agent.paths import executor_run_path
from mesoskit.agent.phase import Phase
from mesoskit.messages.internal_pb2 import (
    ResourceVersionUUID,
    RunTaskGroupMessage,
    RunTaskMessage,
    UpdateFrameworkMessage,
)
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, FrameworkInfo, TaskInfo
from mesoskit.model.events import Store
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, TaskId
from mesoskit.model.statuses import make_status
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost
from mesoskit.model.validation_ids import validate_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mesoskit.agent.state import AgentState

OUTDATED: Final = "Task assumes outdated resource state"
REUSED: Final = "Cannot reuse an already existing executor for a command task"
ALREADY: Final = "Master wants to launch executor, but one already exists"
NONE_RUNNING: Final = "No executor is expected to launch and there is none running"


def run_task(state: AgentState, message: RunTaskMessage) -> None:
    """A task is to be run: by the agent itself where it is a command, else by its executor."""
    info = message.task
    executor = info.executor if info.HasField("executor") else None
    launch = message.launch_executor if message.HasField("launch_executor") else None
    _run(state, message.framework, executor, (info,), message.resource_version_uuids, launch)


def run_task_group(state: AgentState, message: RunTaskGroupMessage) -> None:
    """A group of tasks is to be run: all of it or nothing."""
    tasks = tuple(message.task_group.tasks)
    launch = message.launch_executor if message.HasField("launch_executor") else None
    versions = message.resource_version_uuids
    _run(state, message.framework, message.executor, tasks, versions, launch, group=True)


def update_framework(state: AgentState, message: UpdateFrameworkMessage) -> None:
    """
    A framework has changed what it says of itself, another scheduler has taken it over, or it
    is there again: what it may have missed is sent again at once (recording 10).
    """
    updates.send_again(state, FrameworkId(message.framework_id.value))
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    if framework is not None and message.HasField("framework_info"):
        framework.update(message.framework_info)
        _store_framework(state, framework)


def _run(
    state: AgentState,
    framework_info: FrameworkInfo,
    executor_info: ExecutorInfo | None,
    infos: Sequence[TaskInfo],
    versions: Iterable[ResourceVersionUUID],
    launch_executor: bool | None,
    group: bool = False,
) -> None:
    if state.options.default_container:
        executor_info, infos = _in_default(state.options.default_container, executor_info, infos)
    framework_id = FrameworkId(framework_info.id.value)
    if state.phase is Phase.TERMINATING or state.leaving or not state.agent_id:
        state.note("warn", f"Ignoring tasks of framework {framework_id}: the agent is ending")
        return
    framework = state.frameworks.get(framework_id)
    if framework is not None and framework.terminating:
        state.note("warn", f"Ignoring tasks of framework {framework_id}: it is being shut down")
        return
    if any((framework_id, info.task_id.value) in state.tasks for info in infos):
        state.note("warn", f"Ignoring tasks of framework {framework_id} that are here already")
        return
    executor_id = ExecutorId(
        executor_info.executor_id.value if executor_info is not None else infos[0].task_id.value
    )
    executor = None if framework is None else framework.executors.get(executor_id)
    if state.options.authorizer is not None:
        unauthorized = authorizing.launch_error(state, framework_info, infos, group)
        if unauthorized is not None:
            _refuse(state, framework_info, infos, executor_id, *unauthorized, TaskState.TASK_ERROR)
            if launch_executor and executor_info is not None and executor is None:
                _answer_for_executor(state, framework_id, executor_id, executor)
            return
    refusal = _refusal(state, framework_id, executor_id, infos, versions) or _misfit(
        executor, executor_info is None, launch_executor
    )
    if refusal is not None:
        _refuse(state, framework_info, infos, executor_id, *refusal)
        if launch_executor and executor_info is not None:
            _answer_for_executor(state, framework_id, executor_id, executor)
        return
    framework = _obtain(state, framework_id, framework_info)
    if executor is None:
        executor = _add_executor(state, framework, executor_id, executor_info, infos)
    _give(state, executor, infos, group)


def _in_default(
    given: bytes, executor: ExecutorInfo | None, infos: Sequence[TaskInfo]
) -> tuple[ExecutorInfo | None, Sequence[TaskInfo]]:
    """
    Return what is to be run, with C{--default_container_info} where nobody says how: a command
    task, or an executor. The agent plays executors of groups itself: they need no image.
    """
    default = ContainerInfo.FromString(given)
    if executor is None:
        (info,) = infos
        if not info.HasField("container"):
            info = TaskInfo.FromString(info.SerializeToString())
            info.container.CopyFrom(default)
        return None, (info,)
    if not executor.HasField("container"):
        executor = ExecutorInfo.FromString(executor.SerializeToString())
        executor.container.CopyFrom(default)
        if executor.type == ExecutorInfo.DEFAULT:
            executor.container.mesos.ClearField("image")
    return executor, infos


def _refusal(
    state: AgentState,
    framework_id: FrameworkId,
    executor_id: ExecutorId,
    infos: Iterable[TaskInfo],
    versions: Iterable[ResourceVersionUUID],
) -> tuple[int, str] | None:
    """Say why tasks cannot be run whatever executor is here, or return L{None}."""
    if state.drain is not None:
        return Reason.REASON_AGENT_DRAINING, draining.REFUSED
    for version in versions:
        if not version.HasField("resource_provider_id"):
            if version.uuid.value != state.resource_version:
                return Reason.REASON_INVALID_OFFERS, OUTDATED
    # Ids become names of directories and parts of keys; a master has checked them before.
    for name in (framework_id, executor_id, *(info.task_id.value for info in infos)):
        wrong = validate_id(name)
        if wrong is not None:
            return Reason.REASON_TASK_INVALID, wrong
    return None


def _misfit(
    executor: Executor | None, command: bool, launch_executor: bool | None
) -> tuple[int, str] | None:
    """Say why the executor that is (not) here is not the one that the master means."""
    if command:
        return None if executor is None else (Reason.REASON_TASK_INVALID, REUSED)
    if launch_executor and executor is not None:
        return Reason.REASON_EXECUTOR_TERMINATED, ALREADY
    if launch_executor is False and executor is None:
        return Reason.REASON_EXECUTOR_TERMINATED, NONE_RUNNING
    if executor is not None:
        if executor.kind is Kind.COMMAND:
            return Reason.REASON_TASK_INVALID, REUSED
        if executor.state is ExecutorState.TERMINATING:
            return Reason.REASON_EXECUTOR_TERMINATED, "Executor terminating"
        if executor.state is ExecutorState.TERMINATED:
            return Reason.REASON_EXECUTOR_TERMINATED, "Executor terminated"
    return None


def _refuse(
    state: AgentState,
    framework_info: FrameworkInfo,
    infos: Iterable[TaskInfo],
    executor_id: ExecutorId,
    reason: int,
    why: str,
    ending: TaskState = TaskState.TASK_DROPPED,
) -> None:
    framework_id = FrameworkId(framework_info.id.value)
    ended = as_lost(ending, registration.is_partition_aware(framework_info))
    state.note("warn", f"Dropping tasks of framework {framework_id}: {why}")
    for info in infos:
        status = make_status(
            info.task_id.value,
            ended,
            Source.SOURCE_AGENT,
            state.now,
            agent_id=state.agent_id,
            executor_id=executor_id,
            reason=reason,
            message=why,
            uuid=state.ids.bytes(),
        )
        updates.report(state, framework_id, status)


def _answer_for_executor(
    state: AgentState,
    framework_id: FrameworkId,
    executor_id: ExecutorId,
    executor: Executor | None,
) -> None:
    """The master counts on an executor that was not launched: tell it, or end the other one."""
    if executor is not None and executor.state is not ExecutorState.TERMINATED:
        shutdown.shutdown_executor(state, executor)
        return
    exits.tell(state, framework_id, executor_id, None)


def _obtain(state: AgentState, framework_id: FrameworkId, info: FrameworkInfo) -> Framework:
    framework = state.frameworks.get(framework_id)
    if framework is not None:
        return framework
    framework = completion.revive_framework(state, framework_id)
    if framework is None:
        most = state.options.max_completed_executors_per_framework
        framework = Framework(framework_id, info, most)
        state.frameworks[framework_id] = framework
    else:
        framework.update(info)
    _store_framework(state, framework)
    return framework


def _store_framework(state: AgentState, framework: Framework) -> None:
    data = framework.info.SerializeToString()
    state.out.append(Store(((checkpoint.framework_key(framework.id), data),)))


def _add_executor(
    state: AgentState,
    framework: Framework,
    executor_id: ExecutorId,
    info: ExecutorInfo | None,
    infos: Sequence[TaskInfo],
) -> Executor:
    container = ContainerId(state.ids.text())
    directory = executor_run_path(
        state.options.work_dir, state.agent_id, framework.id, executor_id, container
    )
    kind = Kind.COMMAND if info is None else _kind_of(info)
    grace = state.options.executor_shutdown_grace_period
    if info is not None:
        info = ExecutorInfo.FromString(info.SerializeToString())
        info.framework_id.value = framework.id
        grace = shutdown_grace_of(info, state.options)
    executor = Executor(framework, executor_id, kind, container, directory, info, grace)
    framework.executors[executor_id] = executor
    if kind is Kind.CUSTOM:
        executors.launch(state, executor, allotments.launched(executor, infos))
    elif kind is Kind.DEFAULT and info is not None and pods.is_wanted(state, info):
        pods.launch(state, executor, allotments.launched(executor, infos))
    elif kind is Kind.DEFAULT:
        state.out.append(
            Store(((checkpoint.executor_key(executor), checkpoint.executor_record(executor)),))
        )
    return executor


def _kind_of(info: ExecutorInfo) -> Kind:
    return Kind.DEFAULT if info.type == ExecutorInfo.DEFAULT else Kind.CUSTOM


def _give(state: AgentState, executor: Executor, infos: Sequence[TaskInfo], group: bool) -> None:
    """Make the tasks and hand them to whoever plays their executor."""
    tasks = []
    for info in infos:
        task = AgentTask(executor, TaskId(info.task_id.value), info.SerializeToString())
        task.kill_grace = kill_grace_of(info)
        if executor.kind is Kind.COMMAND and info.HasField("container"):
            docker.take(task, info, state.options)
        if info.HasField("max_completion_time"):
            task.max_completion = info.max_completion_time.nanoseconds / 1e9
        task.checks = checks.checks_of(task, info)
        executor.tasks[task.id] = task
        state.tasks[executor.framework.id, task.id] = task
        if executor.kind is Kind.CUSTOM or executor.pod:
            allotments.took(executor, task)
        tasks.append(task)
        state.remember("accepted", task.id, executor.framework.id, executor.id)
    if executor.kind is Kind.COMMAND:
        processes.launch_command(state, tasks[0], infos[0])
    elif executor.kind is Kind.DEFAULT:
        groups.launch(state, executor, tasks)
    else:
        executors.give(state, executor, tasks, group)
