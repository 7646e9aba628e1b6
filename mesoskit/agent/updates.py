"""Status updates on their way to the master: stored first, then sent until acknowledged.

One C{UpdateStream} a task does the counting (L{mesoskit.model.updates}); here its answers
become effects and deadlines. Every status that leaves this agent goes through
L{report}, whoever made it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesoskit.agent import (
    allotments,
    checkpoint,
    checks,
    completion,
    draining,
    limitations,
    net_cls,
)
from mesoskit.agent.container import Amounts, ContainerFacts
from mesoskit.agent.frameworks import AgentTask, Kind
from mesoskit.agent.networks import alone
from mesoskit.messages.internal_pb2 import StatusUpdateAcknowledgementMessage, StatusUpdateMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import Send, Store
from mesoskit.model.ids import FrameworkId, TaskId
from mesoskit.model.statuses import make_status, make_update
from mesoskit.model.tasks import TERMINAL, Source, TaskState
from mesoskit.model.updates import Receipt, UpdateStream

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

_COUNTED: dict[int, str] = {
    TaskState.TASK_FINISHED: "tasks_finished",
    TaskState.TASK_FAILED: "tasks_failed",
    TaskState.TASK_KILLED: "tasks_killed",
    TaskState.TASK_LOST: "tasks_lost",
    TaskState.TASK_GONE: "tasks_gone",
}

Key = tuple[FrameworkId, TaskId]


def report_task(
    state: AgentState,
    task: AgentTask,
    task_state: int,
    *,
    source: int = Source.SOURCE_EXECUTOR,
    reason: int | None = None,
    message: str | None = None,
    limited: Amounts = (),
    facts: ContainerFacts | None = None,
) -> None:
    """
    Report a new state of a task that the agent itself has made, as its executor or as the agent.
    For a framework that is being shut down only the state changes: it acknowledges nothing.

    @param facts: what there is to say of its container besides.
    @param limited: what its container took too much of, as L{Limitation} has it.
    """
    executor = task.executor
    if executor.framework.terminating:
        task.state = task_state
        return
    status = make_status(
        task.id,
        task_state,
        source,
        state.now,
        agent_id=state.agent_id,
        executor_id=executor.id,
        reason=reason,
        message=message or "",
        uuid=state.ids.bytes(),
    )
    if message is None:
        status.ClearField("message")
    if limited:
        limitations.fill(status.limitation, limited)
    if facts is not None:
        status.data = facts.data
        for address in facts.addresses:
            infos = status.container_status.network_infos
            (infos[0] if infos else infos.add()).ip_addresses.add().ip_address = address
    if source == Source.SOURCE_EXECUTOR:
        describe_container(state, task, status)
        checks.describe(task, status)
    report(state, executor.framework.id, status, task)


def describe_container(state: AgentState, task: AgentTask, status: TaskStatus) -> None:
    """Fill in the container of a task: its address, first process and id (its parent's too)."""
    described = status.container_status
    executor = task.executor
    if not described.HasField("container_id"):
        if task.container is None or executor.kind is Kind.COMMAND:
            described.container_id.value = executor.container
        else:
            described.container_id.value = task.container
            described.container_id.parent.value = executor.container
    pid = executor.pid if task.container is None else task.pid
    if pid is not None:
        described.executor_pid = pid
    net_cls.describe(state, described, task.container, executor.container)
    # Who has no network has no address under which it can be found.
    if not described.network_infos and (task.docker or not alone(state.options.isolation)):
        described.network_infos.add().ip_addresses.add().ip_address = state.options.ip


def report(
    state: AgentState, framework_id: FrameworkId, status: TaskStatus, task: AgentTask | None = None
) -> Receipt:
    """
    Take a status with a uuid: store it, and send it when its turn comes.

    @param task: L{None} for a task that was refused or is unknown here.
    @return: what became of it; on L{Receipt.NEW} the task has its new state.
    """
    key = framework_id, TaskId(status.task_id.value)
    if task is not None:
        draining.describe(state, status, task.executor.framework.partition_aware)
    stream = state.streams.get(key)
    if stream is None:
        stream = UpdateStream(checkpoint.updates_of(*key), paused=not state.registered)
        state.streams[key] = stream
    update = make_update(framework_id, status)
    receipt, changes = stream.receive(state.now, update)
    if receipt is not Receipt.NEW:
        return receipt
    if changes:
        state.out.append(Store(changes))
    state.counters["valid_status_updates"] += 1
    counted = _COUNTED.get(status.state)
    if counted is not None:
        state.counters[counted] += 1
    if task is not None:
        task.state = status.state
        task.remember(status.state, status.SerializeToString())
        if status.state in TERMINAL:
            allotments.ended(state, task)
    name = TaskState(status.state).name
    state.remember(f"{name} {status.message}".rstrip(), key[1], framework_id)
    _push(state, key, stream)
    return receipt


def acknowledged(state: AgentState, message: StatusUpdateAcknowledgementMessage) -> None:
    """The framework has an update: the next one goes out, or the task is complete."""
    key = FrameworkId(message.framework_id.value), TaskId(message.task_id.value)
    stream = state.streams.get(key)
    if stream is None:
        return
    taken, changes = stream.acknowledge(state.now, message.uuid)
    if not taken:
        return
    if changes:
        state.out.append(Store(changes))
    if not stream.ended:
        if len(stream) or key in state.tasks:
            _push(state, key, stream)
        else:  # What is known of its task could not be read.
            discard(state, key)
        return
    drop(state, key)
    state.remember("acknowledged to the end", key[1])
    task = state.tasks.get(key)
    if task is not None:
        completion.complete(state, task)


def retry(state: AgentState, framework_id: FrameworkId, task_id: TaskId) -> None:
    """An update was not acknowledged in time: it is sent again."""
    stream = state.streams.get((framework_id, task_id))
    if stream is not None:
        _push(state, (framework_id, task_id), stream)


def pause(state: AgentState) -> None:
    """There is no master to send to."""
    for key, stream in state.streams.items():
        stream.pause()
        state.deadlines.drop(("retry", *key))


def resume(state: AgentState) -> None:
    """A master is there again: every stream's head is sent."""
    for key, stream in state.streams.items():
        stream.resume(state.now)
        _push(state, key, stream)


def send_again(state: AgentState, framework_id: FrameworkId) -> None:
    """The scheduler of a framework is new, or back: it may have missed what was sent."""
    if not state.registered:
        return
    for key, stream in state.streams.items():
        if key[0] == framework_id:
            stream.resume(state.now)
            _push(state, key, stream)


def drop(state: AgentState, key: Key) -> None:
    """Forget a stream and its deadline, not its records."""
    del state.streams[key]
    state.in_memory.discard(key)
    state.deadlines.drop(("retry", *key))


def discard(state: AgentState, key: Key) -> None:
    """Forget a stream with its records: nobody will acknowledge it."""
    stream = state.streams.get(key)
    if stream is not None:
        changes = stream.forget()
        if changes:
            state.out.append(Store(changes))
        drop(state, key)


def keep_in_memory(state: AgentState, key: Key) -> None:
    """
    Go on with a stream that cannot be stored: what waits in it is sent from memory, until
    acknowledged or until the agent ends; the records that it has are to be deleted.
    """
    old = state.streams[key]
    waiting = old.waiting
    for name, _ in old.forget():
        state.unstored.add(name)
    stream = begin_in_memory(state, key)
    for update in waiting:
        stream.receive(state.now, update)
    _push(state, key, stream)


def not_acknowledged(state: AgentState, key: Key, name: str, data: bytes) -> None:
    """
    An acknowledgement could not be stored: that is tried again later. What is stored stays as it
    is, for it may be all that a restarted agent finds of how the task has ended.
    """
    stream = state.streams.get(key)
    if stream is not None and stream.refused(state.now, name, data):
        state.unstored.add(name)
        _push(state, key, stream)


def written(state: AgentState, task: AgentTask, uuid: bytes) -> bool:
    """
    Tell whether an update may be acknowledged to its executor: behind what this wants, an agent
    that starts again will know of it. What the store refused before is stored now, all of it,
    as soon as the store takes again what else it had refused.
    """
    key = task.executor.framework.id, task.id
    stream = state.streams.get(key)
    if stream is None or task.unrecorded:
        return True
    if key not in state.in_memory:
        return stream.is_written(uuid)
    if state.unstored:
        return False
    waiting = {update.uuid for update in stream.waiting}
    told = [TaskStatus.FromString(data) for _, data in task.statuses]
    before = [make_update(key[0], status) for status in told if status.uuid not in waiting]
    state.out.append(Store(stream.store_under(checkpoint.updates_of(*key), before)))
    state.in_memory.discard(key)
    return True


def begin_in_memory(state: AgentState, key: Key) -> UpdateStream:
    """Make a stream of which nothing is stored."""
    stream = UpdateStream(None, paused=not state.registered)
    state.streams[key] = stream
    state.in_memory.add(key)
    return stream


def _push(state: AgentState, key: Key, stream: UpdateStream) -> None:
    update = stream.send(state.now)
    if update is not None and state.master is not None:
        task = state.tasks.get(key)
        update.latest_state = update.status.state if task is None else task.state  # type: ignore[assignment]
        state.out.append(
            Send(state.master, StatusUpdateMessage(update=update, pid=state.options.pid))
        )
    deadline = stream.deadline
    if deadline is None:
        state.deadlines.drop(("retry", *key))
    else:
        state.deadlines.set(("retry", *key), deadline)
