"""Pods: executors of groups whose tasks share more than the machine.

Where the agent keeps containers apart, or the executor brings volumes, the executor has a
container of its own, although the agent plays it: its process does nothing but be there. What
executor and tasks are given together holds it; its network, shared memory and mounts are those of
every task, which is started in it as containers are nested in those of other executors. It comes
before the tasks and goes after them; where it ends by itself they end with it.
"""

from __future__ import annotations

from posixpath import normpath
from typing import TYPE_CHECKING, Final

from mesoskit.agent import allotments, checkpoint, groups, processes
from mesoskit.agent.container import (
    Allotment,
    ContainerExited,
    ContainerSpec,
    Launch,
    RecoveredContainers,
)
from mesoskit.agent.environment import DEFAULT_PATH, user_of
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Group
from mesoskit.agent.networks import unknown_network
from mesoskit.agent.paths import latest_link
from mesoskit.agent.persistent import with_volumes
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, Volume
from mesoskit.model.events import Store
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

HOLDER: Final = ("sleep", "2147483647")
"""What runs in the container of a pod: for 68 years."""

TERMINATED: Final = "Executor terminated"


def is_wanted(state: AgentState, info: ExecutorInfo) -> bool:
    """Tell whether an executor of groups needs a container of its own."""
    volumes = any(resource.disk.HasField("persistence") for resource in info.resources)
    return state.options.isolation.pods or bool(info.container.volumes) or volumes


def launch(state: AgentState, executor: Executor, allotment: Allotment) -> None:
    """Start the container; its groups wait until it is there."""
    assert executor.info is not None
    info = executor.info
    executor.pod = True
    executor.state = ExecutorState.REGISTERING
    state.containers[executor.container] = executor
    container: ContainerInfo | None = info.container if info.HasField("container") else None
    spec = ContainerSpec(
        id=executor.container,
        argv=HOLDER,
        sandbox=executor.directory,
        environment=(("PATH", DEFAULT_PATH),),
        user=user_of(state.options, executor.framework.info, info.command),
        links=((latest_link(executor.directory), executor.directory),),
        allotment=allotment,
        info=with_volumes(container, info.resources, state.options.work_dir),
        pod=True,
        wrong=unknown_network(info.container, state.options.isolation),
        # Its tasks go first.
        patience=processes.patience_of(state, executor) + executor.grace_period,
    )
    record = checkpoint.executor_record(executor)
    state.out.append(Store(((checkpoint.executor_key(executor), record),)))
    state.out.append(Launch(spec))
    state.remember("pod launched", executor.id, executor.container, executor.framework.id)


def with_volumes_of(executor: Executor, container: ContainerInfo, work_dir: str) -> str:
    """
    Let a task from an image have what its executor's volumes have mounted: its mounts are made
    where these are not to be seen. The others see them where they are (C{SANDBOX_PATH} of type
    C{PARENT}). Return why that cannot be; empty: it can.
    """
    assert executor.info is not None
    given = executor.info.container if executor.info.HasField("container") else None
    around = ContainerInfo.FromString(with_volumes(given, executor.info.resources, work_dir))
    for volume in container.volumes:
        source = volume.source.sandbox_path
        if volume.source.type != Volume.Source.SANDBOX_PATH or source.type != source.PARENT:
            continue
        for other in around.volumes:
            target = normpath(other.container_path)
            if normpath(source.path).startswith(f"{target}/"):
                return (
                    f"SANDBOX_PATH {source.path!r} is within the executor's volume"
                    f" {other.container_path!r}: a task from an image can have all of that alone"
                )
            if normpath(source.path) == target:
                _take(volume, other)
                break
    return ""


def _take(volume: Volume, other: Volume) -> None:
    """Let a volume be another one, at its own place."""
    place, mode = volume.container_path, volume.mode
    volume.CopyFrom(other)
    volume.container_path = place
    volume.mode = Volume.RO if Volume.RO in (mode, other.mode) else Volume.RW
    path = ""
    if other.HasField("host_path") and not other.host_path.startswith("/"):
        path = other.host_path
    elif other.source.type == Volume.Source.SANDBOX_PATH:
        path = other.source.sandbox_path.path
    if path:  # of the executor's sandbox
        volume.ClearField("host_path")
        volume.source.type = Volume.Source.SANDBOX_PATH
        volume.source.sandbox_path.type = Volume.Source.SandboxPath.PARENT
        volume.source.sandbox_path.path = path


def waiting(executor: Executor) -> list[Group]:
    """Return the groups that wait for the container, and were not given up meanwhile."""
    tasks = [task for task in executor.tasks.values() if not task.ended]
    found = {task.group: None for task in tasks if task.group is not None}
    return [group for group in found if group.waits]


def started(state: AgentState, executor: Executor) -> None:
    """The container is there: what has waited for it is launched."""
    if executor.state is not ExecutorState.REGISTERING:
        return  # It is being shut down.
    executor.state = ExecutorState.RUNNING
    for group in waiting(executor):
        group.waits = False
        groups.begin(state, group)


def over(state: AgentState, executor: Executor, status: int | None) -> None:
    """
    The container is gone, or could not be started; what its tasks shared is gone with it.

    @param status: its wait status, L{None} where there is none.
    """
    live = [task for task in executor.tasks.values() if not task.ended]
    executor.exit = status if live else 0
    executor.pid = None
    if live:
        executor.state = ExecutorState.TERMINATING
        end(state, executor, live)
    groups.finish(state, executor)


def end(state: AgentState, executor: Executor, tasks: list[AgentTask]) -> None:
    """End tasks that have outlived what they were in; they say why."""
    after, reason, why = executor.termination or (
        TaskState.TASK_FAILED,
        Reason.REASON_EXECUTOR_TERMINATED,
        TERMINATED,
    )
    for group in {task.group: None for task in tasks}:
        assert group is not None
        if not (group.launched or group.abandoned):
            # None is told that it was killed for the others: all end alike.
            group.abandoned = True
            for task in group.tasks:
                if task.ended and not task.terminal:
                    groups.report_held(state, task)
    for task in tasks:
        if task.ended:
            continue
        if task.ending is not None or (task.killed and executor.termination is None):
            # It ends as it was to, only sooner: it may have been left alone for too long.
            assert task.container is not None
            state.destroy(task.container)
            continue
        task.limited = executor.limited
        processes.destroy(state, task, after, reason, why)


def told(state: AgentState, event: ContainerExited) -> ContainerExited:
    """Return how the end of a container is told: that of a pod that had nothing left to do is 0."""
    owner = state.containers.get(event.container)
    if isinstance(owner, Executor) and owner.pod and event.limitation is None:
        if all(task.ended for task in owner.tasks.values()):
            return ContainerExited(event.container, 0)
    return event


# After a restart of the agent.


def found(state: AgentState, executor: Executor, event: RecoveredContainers) -> bool:
    """The launcher has said what is left; say whether the container runs."""
    container = executor.container
    executor.pid = event.running.get(container)
    if executor.pid is None:
        state.containers.pop(container, None)
        state.destroying.discard(container)
        executor.exit = event.exited.get(container)
        executor.state = ExecutorState.TERMINATING
        return False
    state.remember(f"found again as process {executor.pid}", executor.id, container)
    allotments.update(state, executor)  # what it was given before is not known
    if executor.state is ExecutorState.REGISTERING:
        executor.state = ExecutorState.RUNNING
    return True
