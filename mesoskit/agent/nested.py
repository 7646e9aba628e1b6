"""Containers that are no task's: those that executors and operators launch over the agent's API.

Most are nested in another container: an executor's, a task's, or one of these. They end with it;
what became of one is told until its outermost container is gone, or until it is removed. A
session is one that lives only as long as somebody listens to it, and never longer than this
process of the agent. A container without a parent stands alone: no framework and no master knows
of it, and it lives as long as its command (C{docs/nested-container-and-task-group.md},
C{docs/standalone-containers.md} of Apache Mesos).

Calls are heard in L{mesoskit.agent.nested_calls}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import failures, limitations
from mesoskit.agent import nested_records as records
from mesoskit.agent.container import (
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    Forget,
    Limitation,
    RecoveredContainers,
)
from mesoskit.agent.container_call import ContainerAnswer
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind
from mesoskit.agent.nested_records import Nested
from mesoskit.agent.options import CLEANUP
from mesoskit.messages.agent_pb2 import Response
from mesoskit.messages.mesos_pb2 import ContainerID
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import TaskState

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

REMEMBERED: Final = 1000
"""Of how many containers of one outermost container it is told how they ended."""

ANSWERS: Final = ("answers",)
"""The deadline of answers that are due."""

LAUNCH_FAILED: Final = "Failed to launch container: "


class NestedContainers:
    """
    All of them.

    @ivar all: by their keys, those that have ended as well, oldest first.
    @ivar running: those that have not.
    @ivar answers: to calls that have waited, and are answered in the next event.
    @ivar waits: the calls that wait for the end of a container, by its key: the number, and
        whether the answer is that to C{WAIT_NESTED_CONTAINER}.
    """

    __slots__ = ("all", "answers", "running", "waits")

    def __init__(self) -> None:
        self.all: dict[ContainerId, Nested] = {}
        self.running: dict[ContainerId, Nested] = {}
        self.answers: list[ContainerAnswer] = []
        self.waits: dict[ContainerId, list[tuple[int, bool]]] = {}


# Names.


def path_of(container_id: ContainerID) -> tuple[str, ...]:
    """Return the values of an id and of those that it is nested in, the outermost first."""
    values = [container_id.value]
    while container_id.HasField("parent"):
        container_id = container_id.parent
        values.append(container_id.value)
    return tuple(reversed(values))


def id_of(path: tuple[str, ...]) -> ContainerID:
    """Return the message that a path stands for."""
    found = ContainerID(value=path[0])
    for value in path[1:]:
        found = ContainerID(value=value, parent=found)
    return found


def key_of(state: AgentState, path: tuple[str, ...]) -> ContainerId:
    """
    Return under which name hands and tables know a container: C{parent.child}, as Mesos writes
    it; but the container of a task of a group is known by its own value.
    """
    if len(path) == 2:
        owner = state.containers.get(ContainerId(path[1]))
        if isinstance(owner, AgentTask) and owner.executor.container == path[0]:
            return ContainerId(path[1])
    return ContainerId(".".join(path))


def executor_of(state: AgentState, path: tuple[str, ...]) -> Executor | None:
    """Return the executor whose container is the outermost of a path."""
    owner = state.containers.get(ContainerId(path[0]))
    if isinstance(owner, AgentTask):
        return owner.executor
    if owner is not None:
        return owner
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            if executor.container == path[0]:
                return executor
    return None


def is_alive(state: AgentState, path: tuple[str, ...]) -> bool:
    """Tell whether there is such a container, and it has not ended."""
    key = key_of(state, path)
    if key in state.containers or key in state.nested.running:
        return True
    return group_of(state, path) is not None


def group_of(state: AgentState, path: tuple[str, ...]) -> Executor | None:
    """
    Return the live executor of groups that a path names: its container has no process, or one
    that does nothing.
    """
    executor = executor_of(state, path) if len(path) == 1 else None
    if executor is None or executor.kind is not Kind.DEFAULT:
        return None
    return None if executor.state is ExecutorState.TERMINATED else executor


def directory_of(state: AgentState, path: tuple[str, ...]) -> str | None:
    """Return the sandbox of a container, or L{None} where its outermost is unknown."""
    executor = executor_of(state, path)
    if executor is not None:
        root = executor.directory
    elif ContainerId(path[0]) in state.nested.all:
        root = standalone_path(state, path[0])
    else:
        return None
    return root + "".join(f"/containers/{value}" for value in path[1:])


def standalone_path(state: AgentState, value: str) -> str:
    """Return the sandbox of a container that stands alone."""
    return f"{state.options.work_dir}/containers/{value}"


# What is heard of containers.


def started(state: AgentState, event: ContainerStarted) -> bool:
    """A container's process runs; say whether it is one of these."""
    one = state.nested.running.get(event.container)
    if one is None:
        return False
    one.pid = event.pid
    _launched(state, one, 200)
    return True


def failed(state: AgentState, event: ContainerFailed) -> bool:
    """A container could not be started; say whether it is one of these."""
    one = state.nested.running.get(event.container)
    if one is None:
        return False
    state.destroying.discard(one.key)
    _launched(state, one, 400, LAUNCH_FAILED + event.why)
    drop(state, one)
    _children_end(state, one)
    return True


def exited(state: AgentState, event: ContainerExited) -> bool:
    """A container has ended; say whether it was one of these."""
    one = state.nested.running.get(event.container)
    if one is None:
        answer_waits(state, event.container, event.status, event.limitation)
        return False
    state.destroying.discard(one.key)
    state.usage.pop(one.key, None)
    end(state, one, event.status, event.limitation)
    state.out.append(Forget(one.key))
    return True


def end(
    state: AgentState, one: Nested, status: int | None, limitation: Limitation | None = None
) -> None:
    """A container is gone."""
    del state.nested.running[one.key]
    one.over, one.status, one.limitation, one.pid = True, status, limitation, None
    state.remember("nested container ended", one.key)
    _launched(state, one, 400, "The container was destroyed before it was launched")
    answer_waits(state, one.key, status, limitation)
    if len(one.path) == 1 or root_of(state, one.path) is None:
        drop(state, one)
    else:
        failures.store_later(state, records.end_key(one))
    _children_end(state, one)
    _collect(state, one)
    _forget_the_oldest(state, one.path[0])


def orphans(state: AgentState) -> None:
    """What is nested in a container that is gone ends, and is forgotten with the outermost."""
    table = state.nested
    if not (table.all or table.waits):
        return
    alive: dict[tuple[str, ...], bool] = {}
    for one in list(table.all.values()):
        if one.over:
            root = one.path[:1]
            if root not in alive:
                alive[root] = root_of(state, root) is not None
            if not alive[root]:
                drop(state, one)
        elif len(one.path) > 1 and one.key not in state.destroying:
            parent = one.path[:-1]
            if parent not in alive:
                alive[parent] = is_alive(state, parent)
            if not alive[parent]:
                state.destroy(one.key)
    for key in list(table.waits):
        # The container of an executor of groups has no process whose end is heard of.
        if not (key in state.containers or key in table.running or group_of(state, (key,))):
            answer_waits(state, key, 0)


def root_of(state: AgentState, path: tuple[str, ...]) -> Executor | Nested | None:
    """Return what the outermost container of a path belongs to, L{None} where that is gone."""
    executor = executor_of(state, path)
    if executor is not None:
        return None if executor.state is ExecutorState.TERMINATED else executor
    return state.nested.running.get(ContainerId(path[0]))


def drop(state: AgentState, one: Nested) -> None:
    """Forget a container that is gone."""
    table = state.nested
    table.running.pop(one.key, None)
    if table.all.pop(one.key, None) is not None:
        failures.store_later(state, records.key(one))
        if one.over:
            failures.store_later(state, records.end_key(one))


def _children_end(state: AgentState, parent: Nested) -> None:
    size = len(parent.path)
    for one in list(state.nested.running.values()):
        if len(one.path) > size and one.path[:size] == parent.path:
            state.destroy(one.key)


def _launched(state: AgentState, one: Nested, status: int, why: str = "") -> None:
    """Answer whoever launched it, where that was not done."""
    number, one.launching = one.launching, None
    if number is not None:
        state.out.append(ContainerAnswer(number, status, why))


def _collect(state: AgentState, one: Nested) -> None:
    if state.options.gc_non_executor_container_sandboxes:
        state.sandboxes.schedule(one.directory, state.now + state.options.gc_delay)


def _forget_the_oldest(state: AgentState, root: str) -> None:
    ended = [one for one in state.nested.all.values() if one.over and one.path[0] == root]
    for one in ended[: max(0, len(ended) - REMEMBERED)]:
        drop(state, one)


# Waiting.


def answer_waits(
    state: AgentState,
    container: ContainerId,
    status: int | None,
    limitation: Limitation | None = None,
) -> None:
    """Answer those who wait for the end of a container."""
    for number, deprecated in state.nested.waits.pop(container, ()):
        told = ended(status, limitation, deprecated)
        state.nested.answers.append(ContainerAnswer(number, 200, told))
        state.deadlines.set(ANSWERS, state.now)


def answer(state: AgentState) -> None:
    """
    Answer those who have waited, in an event in which nothing is stored: where that fails, what
    stands beside it in an event is not done.
    """
    state.out += state.nested.answers
    state.nested.answers.clear()


def ended(
    status: int | None, limitation: Limitation | None = None, deprecated: bool = False
) -> Response:
    """Return what is told of an end."""
    if deprecated:
        response = Response(type=Response.WAIT_NESTED_CONTAINER)
        told: Response.WaitNestedContainer | Response.WaitContainer = response.wait_nested_container
    else:
        response = Response(type=Response.WAIT_CONTAINER)
        told = response.wait_container
    told.SetInParent()
    if status is not None:
        told.exit_status = status
    if limitation is not None:
        told.state = TaskState.TASK_FAILED  # type: ignore[assignment]
        told.reason = limitation.reason  # type: ignore[assignment]
        told.message = limitation.message
        limitations.fill(told.limitation, limitation.resources)
    return response


# Recovery.


def rebuild(state: AgentState, stored: dict[ContainerId, records.StoredNested]) -> None:
    """Take over what was stored; executors are known already."""
    for path, row in sorted((row.path, row) for row in stored.values()):
        directory = directory_of(state, path) if len(path) > 1 else standalone_path(state, path[0])
        if directory is None:
            failures.store_later(state, f"{records.KIND}/{'.'.join(path)}")
            continue
        one = Nested(path, directory, row.launch, row.debug)
        state.nested.all[one.key] = one
        if row.end is None:
            state.nested.running[one.key] = one
        else:
            one.over = True
            one.status, one.limitation = row.end


def recovered(state: AgentState, event: RecoveredContainers) -> RecoveredContainers:
    """
    The launcher has said what is left; return what is none of these. They are settled with
    L{settle}, when it is known what their outermost containers belong to.
    """
    mine = state.nested.running
    return RecoveredContainers(
        {name: pid for name, pid in event.running.items() if name not in mine},
        {name: status for name, status in event.exited.items() if name not in mine},
        event.abandoned,
        event.limitations,
    )


def settle(state: AgentState, event: RecoveredContainers) -> None:
    """Take up what runs on, and end what shall not."""
    cleanup = state.options.recover == CLEANUP
    for one in list(state.nested.running.values()):
        one.pid = event.running.get(one.key)
        if one.pid is None:
            limitation = event.limitations.get(one.key)
            end(state, one, event.exited.get(one.key), limitation)
            if one.key in event.exited:
                state.out.append(Forget(one.key))
        elif one.debug or (cleanup and len(one.path) == 1):
            state.destroy(one.key)
    orphans(state)
