"""What executors say, at the door or over HTTP: C{mesos.v1.executor.Call}.

The refusals and their texts are those of Mesos' agent (C{Http::executor} in
C{src/slave/http.cpp}, C{validateExecutorCall} in C{src/common/validation.cpp}), whatever
carries the calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from mesoskit.agent import checkpoint, executors, failures, recovery, updates
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Kind, kill_grace_of
from mesoskit.agent.registration import agent_info
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.internal_pb2 import ExecutorToFrameworkMessage
from mesoskit.messages.mesos_pb2 import KillPolicy, TaskInfo, TaskStatus
from mesoskit.messages.mesos_pb2 import TaskState as TaskStateField
from mesoskit.model.events import Answer, Send, Store
from mesoskit.model.ids import ExecutorId, FrameworkId, PeerId, TaskId
from mesoskit.model.statuses import complete_status
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost, may_cause
from mesoskit.model.updates import Receipt
from mesoskit.model.validation_ids import validate_uuid

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

RECOVERING: Final = "Agent has not finished recovery"
NOT_SUBSCRIBED: Final = "Executor is not subscribed"
PROVEN: Final = "The executor has shown its token; it is only heard with it"
LOST_ON_THE_WAY: Final = "Task launched during agent restart"


def call(state: AgentState, peer: PeerId, message: Call, number: int | None) -> None:
    """
    Hear a call over an executor's link.

    A heartbeat is taken from anybody. What else an executor without a token says need not
    come over the link that has subscribed, which may be broken at the moment.
    """
    wrong = invalid(message)
    if wrong is not None:
        return refuse(state, peer, number, 400, wrong)
    if not state.recovery.found:
        return refuse(state, peer, number, 503, RECOVERING)
    if message.type == Call.HEARTBEAT:
        return _taken(state, peer, number)
    executor = _speaker(state, peer, message)
    if isinstance(executor, tuple):
        return refuse(state, peer, number, *executor)
    if message.type == Call.SUBSCRIBE:
        _taken(state, peer, number)
        return _subscribe(state, executor, peer, message.subscribe)
    executor.first_note = False
    foreign = executor.proven and executor.peer != peer and peer not in state.proofs
    if foreign or executor.state is ExecutorState.REGISTERING:
        return refuse(state, peer, number, 403, NOT_SUBSCRIBED)
    if message.type == Call.UPDATE:
        return _update(state, executor, peer, message.update.status, number)
    if message.type == Call.MESSAGE:
        _message(state, executor, message.message.data)
        return _taken(state, peer, number)
    return refuse(state, peer, number, 501, "501 Not Implemented.")


def _speaker(state: AgentState, peer: PeerId, message: Call) -> Executor | tuple[int, str]:
    """Return the executor that a call is of, or why it cannot be."""
    known = state.peers[peer]
    framework = state.frameworks.get(FrameworkId(message.framework_id.value))
    if framework is None or (known is not None and known.framework is not framework):
        return 400, "Framework cannot be found"
    executor = framework.executors.get(ExecutorId(message.executor_id.value))
    if executor is None or executor.kind is not Kind.CUSTOM or known not in (None, executor):
        return 400, "Executor cannot be found"
    proof = state.proofs.get(peer)
    if proof is not None:
        wrong = _unproven(executor, *proof)
        return executor if wrong is None else (403, wrong)
    if known is None and executor.proven:
        return 403, PROVEN
    return executor


def _unproven(executor: Executor, principal: str, claims: Mapping[str, str]) -> str | None:
    """Say why who was proved is not this executor (C{verifyExecutorClaims} of Mesos)."""
    wrong = f"Authenticated principal '{principal}' does not contain"
    framework_id = executor.framework.id
    if claims.get("fid") != framework_id:
        return (
            f"{wrong} an 'fid' claim with the framework ID {framework_id}, which is set in the call"
        )
    if claims.get("eid") != executor.id:
        return (
            f"{wrong} an 'eid' claim with the executor ID {executor.id}, which is set in the call"
        )
    if claims.get("cid") != executor.container:
        return f"{wrong} a 'cid' claim with the correct active ContainerID"
    return None


def refuse(state: AgentState, peer: PeerId, number: int | None, status: int, why: str) -> None:
    """Refuse a call."""
    if number is not None:
        state.out.append(Answer(peer, number, status, why))


def _taken(state: AgentState, peer: PeerId, number: int | None) -> None:
    if number is not None:
        state.out.append(Answer(peer, number))


_BODIES: Final[dict[int, Literal["subscribe", "update", "message"]]] = {
    Call.SUBSCRIBE: "subscribe",
    Call.UPDATE: "update",
    Call.MESSAGE: "message",
}


def invalid(message: Call, principal: str | None = None) -> str | None:
    """Say in Mesos' words what is wrong with a call whatever the agent has, or return L{None}."""
    wrong = validate(message)
    return None if wrong is None else f"Failed to validate Executor::Call: {wrong}"


def validate(message: Call) -> str | None:
    """Say what is wrong with a call whatever the agent has, or return L{None}."""
    if not message.HasField("type"):
        return "Expecting 'type' to be present"
    name = _BODIES.get(message.type)
    if name is not None and not message.HasField(name):
        return f"Expecting '{name}' to be present"
    if message.type == Call.UPDATE:
        return validate_status(message, message.update.status)
    return None


def validate_status(message: Call, status: TaskStatus) -> str | None:
    """Say what is wrong with the status of an update."""
    executor_id, framework_id = message.executor_id.value, message.framework_id.value
    if not status.HasField("uuid"):
        return "Expecting 'uuid' to be present"
    if (wrong := validate_uuid(status.uuid)) is not None:
        return wrong
    if status.HasField("executor_id") and status.executor_id.value != executor_id:
        return (
            f"ExecutorID in Call: {executor_id} does not match ExecutorID in TaskStatus:"
            f" {status.executor_id.value}"
        )
    if status.source != TaskStatus.SOURCE_EXECUTOR or not status.HasField("source"):
        return (
            f"Received Call from executor {executor_id} of framework {framework_id}"
            " with invalid source, expecting 'SOURCE_EXECUTOR'"
        )
    if status.state == TaskStateField.TASK_STAGING:
        return (
            f"Received TASK_STAGING from executor {executor_id} of framework {framework_id}"
            " which is not allowed"
        )
    return None


# Subscribing.


def _subscribe(
    state: AgentState, executor: Executor, peer: PeerId, subscribe: Call.Subscribe
) -> None:
    if executor.state is ExecutorState.TERMINATED:
        # A child of it may live on and try.
        state.out.append(Send(peer, Event(type=Event.SHUTDOWN)))
        executors.drop(state, peer, executors.ENDED)
        return
    if executor.peer is not None and executor.peer != peer:
        executors.drop(state, executor.peer, "the executor has subscribed on another link")
    executor.peer = peer
    state.peers[peer] = executor
    state.deadlines.drop(("subscribe", executor.container))
    if executor.state is ExecutorState.TERMINATING:
        state.out.append(Send(peer, Event(type=Event.SHUTDOWN)))
        return
    executor.state = ExecutorState.RUNNING
    state.remember("executor subscribed", executor.id, executor.container, executor.framework.id)
    _note(state, executor)
    state.out.append(Send(peer, _subscribed(state, executor)))
    for update in subscribe.unacknowledged_updates:
        _take_update(state, executor, update.status)
    known = {info.task_id.value for info in subscribe.unacknowledged_tasks}
    for task in executor.live():
        if task.started and task.state == TaskState.TASK_STAGING and task.id not in known:
            updates.report_task(
                state,
                task,
                as_lost(TaskState.TASK_DROPPED, executor.framework.partition_aware),
                source=Source.SOURCE_AGENT,
                reason=Reason.REASON_AGENT_RESTARTED,
                message=LOST_ON_THE_WAY,
            )
        elif task.started and task.killed:
            executors.send_kill(state, executor, task, _policy_of(task))
    queued, executor.queued = executor.queued, []
    for item in queued:
        executors.deliver(state, executor, item)
    executors.end_if_never_used(state, executor)
    recovery.accounted_for(state, executor.container)


def _note(state: AgentState, executor: Executor) -> None:
    """
    Note before anything is given to an executor for the first time that it may know of tasks.
    That it has proved who it is may be noted later.
    """
    executor.first_note = not executor.subscribed
    if executor.framework.terminating:
        executor.subscribed = True
    elif not executor.subscribed:
        executor.subscribed = True
        state.out.append(Store(checkpoint.note_executor(executor)))
    elif executor.proven and not executor.proof_noted:
        executor.noted = True
        failures.store_later(state, checkpoint.executor_note_key(executor))
    executor.proof_noted = executor.proven


def _policy_of(task: AgentTask) -> KillPolicy | None:
    """Return the policy that a task was to be killed by, where that is not its own."""
    if task.kill_grace == kill_grace_of(TaskInfo.FromString(task.info)):
        return None
    return KillPolicy(grace_period={"nanoseconds": round(task.kill_grace * 1e9)})


def _subscribed(state: AgentState, executor: Executor) -> Event:
    event = Event(type=Event.SUBSCRIBED)
    subscribed = event.subscribed
    assert executor.info is not None
    subscribed.executor_info.CopyFrom(executor.info)
    subscribed.framework_info.CopyFrom(executor.framework.info)
    subscribed.agent_info.CopyFrom(agent_info(state))
    subscribed.container_id.value = executor.container
    return event


# Updates and messages.


def _update(
    state: AgentState, executor: Executor, peer: PeerId, status: TaskStatus, number: int | None
) -> None:
    refused = _take_update(state, executor, status)
    if refused is None:
        _taken(state, peer, number)
    else:
        refuse(state, peer, number, *refused)


def _take_update(
    state: AgentState, executor: Executor, status: TaskStatus
) -> tuple[int, str] | None:
    """
    Take a status, or say why not now: too many wait, or the store took it not and does not yet.
    In that case its framework hears of it already, but should the agent be killed only the
    executor knows. What was taken is acknowledged to the executor
    behind the store; so is what nobody else needs to hear (a repetition, a word after the
    last, anything of a framework that is being shut down or of a task that the executor
    does not have), so that it is not repeated.
    """
    framework = executor.framework
    task_id = TaskId(status.task_id.value)
    task = executor.tasks.get(task_id)
    if task is None or not task.started:
        if not any(task_id == old.id for old in executor.completed or ()):
            state.counters["invalid_status_updates"] += 1
            state.note("warn", f"Executor {executor.id} was not given a task {task_id}")
    elif not framework.terminating:
        same = status.state == task.state and not task.terminal
        if same or task.terminal or may_cause(Source.SOURCE_EXECUTOR, task.state, status.state):
            complete_status(status, state.agent_id, executor.id, state.now)
            updates.describe_container(state, task, status)
            if updates.report(state, framework.id, status, task) is Receipt.FULL:
                state.counters["invalid_status_updates"] += 1
                return 429, f"Too many updates of task '{task_id}' wait to be acknowledged"
            if not updates.written(state, task, status.uuid):
                return 503, f"An update of task '{task_id}' is not stored yet"
        else:
            state.counters["invalid_status_updates"] += 1
            names = TaskState(task.state).name, TaskState(status.state).name
            state.note("warn", f"Task {task_id} cannot go from {names[0]} to {names[1]}")
    else:
        task.state = status.state
    if executor.peer is not None:
        event = Event(type=Event.ACKNOWLEDGED)
        event.acknowledged.task_id.value = task_id
        event.acknowledged.uuid = status.uuid
        state.out.append(Send(executor.peer, event))
    return None


def _message(state: AgentState, executor: Executor, data: bytes) -> None:
    if executor.framework.terminating:
        return
    message = ExecutorToFrameworkMessage(data=data)
    message.slave_id.value = state.agent_id
    message.framework_id.value = executor.framework.id
    message.executor_id.value = executor.id
    state.to_master(message)
