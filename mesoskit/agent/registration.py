"""The agent and its master: registering, being pinged, coming back.

The sequence is Mesos' (C{Slave::doReliableRegistration}): an agent without an id sends
C{RegisterSlaveMessage}, one with an id C{ReregisterSlaveMessage} with all it has, again and
again with longer and longer random waits until a master answers. Recordings of a real
cluster show C{UpdateSlaveMessage} after every answer, even with nothing to report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.agent import checkpoint, exits, updates
from mesoskit.agent.container import Settle
from mesoskit.agent.frameworks import AgentTask, ExecutorState
from mesoskit.agent.phase import Phase
from mesoskit.messages.internal_pb2 import (
    PingSlaveMessage,
    PongSlaveMessage,
    RegisterSlaveMessage,
    ReregisterSlaveMessage,
    SlaveRegisteredMessage,
    SlaveReregisteredMessage,
    UpdateSlaveMessage,
)
from mesoskit.messages.mesos_pb2 import AgentInfo, FrameworkInfo, Task
from mesoskit.model.capabilities import FrameworkCapability
from mesoskit.model.events import Connected, Drop, Send, Stop, Store
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import PRE
from mesoskit.model.statuses import make_status
from mesoskit.model.tasks import Reason, Source, TaskState, as_lost

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

BACKOFF_MAX: Final = 60.0
"""Seconds that the wait between two attempts to register does not exceed."""

PING_TIMEOUT: Final = 75.0
"""Seconds without a ping after which the master is given up, until it says otherwise."""

CAPABILITIES: Final = (
    AgentInfo.Capability.MULTI_ROLE,
    AgentInfo.Capability.HIERARCHICAL_ROLE,
    AgentInfo.Capability.RESERVATION_REFINEMENT,
    AgentInfo.Capability.AGENT_DRAINING,
    AgentInfo.Capability.TASK_RESOURCE_LIMITS,
)
"""What this agent can, as it tells the master."""

ARCHIVED: Final = 1000
"""How many completed tasks are told, the newest: a message must not outgrow its frame."""

UNKNOWN_TASK: Final = "Reconciliation: task unknown to the agent"


def agent_info(state: AgentState) -> AgentInfo:
    """Return what the agent says of itself, resources in the form of before refinement."""
    options = state.options
    info = AgentInfo(
        hostname=options.hostname,
        resources=options.resources.to_message(PRE),
        attributes=options.attributes,
        port=options.port,
    )
    if options.domain:
        info.domain.ParseFromString(options.domain)
    if state.agent_id:
        info.id.value = state.agent_id
    return info


def connected(state: AgentState, event: Connected) -> None:
    """A master is there: register with it, at once the first time, else after a random wait."""
    # A master that was not elected by others has epoch 0.
    if 0 < event.epoch < state.epoch:
        why = f"epoch {event.epoch} is older than {state.epoch}: another master leads"
        state.out.append(Drop(event.peer, why))
        return
    if state.master is not None:
        state.out.append(Drop(state.master, "another master leads"))
        _disconnected(state)
    state.master = event.peer
    state.epoch = max(state.epoch, event.epoch)
    state.note("info", f"Connected to the master at {event.address}")
    begin(state)


def begin(state: AgentState) -> None:
    """Start to register, if there is a master and recovery is through."""
    if state.master is None or not state.recovery.done or _terminating(state):
        return
    state.backoff = state.options.registration_backoff_factor
    if state.attempts == 0:
        register(state)
    else:
        state.deadlines.set(("register",), state.now + _fraction(state) * state.backoff)


def register(state: AgentState) -> None:
    """Ask the master for registration, and set the moment of the next attempt."""
    if state.master is None or state.registered or _terminating(state):
        return
    state.attempts += 1
    state.asked = state.now
    message = reregistration(state) if state.agent_id else _registration(state)
    state.out.append(Send(state.master, message))
    state.backoff = min(2 * state.backoff, BACKOFF_MAX)
    wait = state.backoff * (0.5 + 0.5 * _fraction(state))
    state.deadlines.set(("register",), state.now + wait)


def _registration(state: AgentState) -> RegisterSlaveMessage:
    message = RegisterSlaveMessage(slave=agent_info(state), version=state.options.version)
    for capability in CAPABILITIES:
        message.agent_capabilities.add(type=capability)
    message.resource_version_uuid.value = state.resource_version
    return message


def reregistration(state: AgentState) -> ReregisterSlaveMessage:
    """
    Return all that the agent has: tasks that are not completed, frameworks, and the executors
    that masters know of (those of command tasks they do not) and that are not gone;
    and the history of frameworks that have nothing left here, the latest first.
    """
    message = ReregisterSlaveMessage(slave=agent_info(state), version=state.options.version)
    for capability in CAPABILITIES:
        message.agent_capabilities.add(type=capability)
    message.resource_version_uuid.value = state.resource_version
    for framework in state.frameworks.values():
        if framework.terminating:
            continue
        message.frameworks.append(framework.info)
        for executor in framework.executors.values():
            if executor.info is not None and executor.state is not ExecutorState.TERMINATED:
                message.executor_infos.append(executor.info)
            for task in executor.tasks.values():
                message.tasks.append(_reported(state, task))
    room = ARCHIVED
    for framework in reversed(state.completed_frameworks.values()):
        done = [task for executor in framework.completed for task in executor.completed or ()]
        told = done[-room:] if room else []
        room -= len(told)
        archived = message.completed_frameworks.add(framework_info=framework.info)
        archived.tasks.extend([task.to_message() for task in told])
    return message


def _reported(state: AgentState, task: AgentTask) -> Task:
    """
    Return a task with the update that its framework is told of next, or was and has not
    acknowledged: until then a master must not answer with anything later.
    """
    message = task.to_message()
    stream = state.streams.get((task.executor.framework.id, task.id))
    if stream is not None and len(stream):
        head = stream.waiting[0]
        message.status_update_state = head.status.state
        message.status_update_uuid = head.uuid
    return message


def registered(state: AgentState, message: SlaveRegisteredMessage) -> None:
    """A master has given the agent its id, or repeats it."""
    agent_id = AgentId(message.slave_id.value)
    if state.registered:
        if agent_id != state.agent_id:
            _wrong_id(state, agent_id)
        return
    if _terminating(state) or not state.recovery.done:
        return
    if state.agent_id and agent_id != state.agent_id:
        _wrong_id(state, agent_id)
        return
    if not state.agent_id:
        state.set_agent_id(agent_id)
        info = agent_info(state).SerializeToString()
        life = checkpoint.life_record(state.options)
        state.out.append(Store(((checkpoint.AGENT, info), (checkpoint.LIFE, life))))
        state.out.append(Settle(agent_id))
    state.note("info", f"Registered with the master; the agent's id is {agent_id}")
    if message.connection.HasField("total_ping_timeout_seconds"):
        state.ping_timeout = message.connection.total_ping_timeout_seconds
    _running(state)


def reregistered(state: AgentState, message: SlaveReregisteredMessage) -> None:
    """A master knows the agent again, and asks about tasks that it believes to be here."""
    agent_id = AgentId(message.slave_id.value)
    if agent_id != state.agent_id:
        _wrong_id(state, agent_id)
        return
    if _terminating(state) or not state.recovery.done:
        return
    if message.connection.HasField("total_ping_timeout_seconds"):
        state.ping_timeout = message.connection.total_ping_timeout_seconds
    if not state.registered:
        state.note("info", "Re-registered with the master")
        _running(state)
    for reconcile in message.reconciliations:
        framework_id = FrameworkId(reconcile.framework_id.value)
        aware = is_partition_aware(reconcile.framework)
        for asked in reconcile.statuses:
            if (framework_id, asked.task_id.value) not in state.tasks:
                _report_unknown(state, framework_id, asked.task_id.value, aware)


def is_partition_aware(info: FrameworkInfo) -> bool:
    """Tell whether a framework understands the states that others are told are C{TASK_LOST}."""
    return FrameworkCapability.from_messages(info.capabilities).partition_aware


def _report_unknown(
    state: AgentState, framework_id: FrameworkId, task_id: str, aware: bool
) -> None:
    """Tell that a task is not here, unless its last word is on its way."""
    if (framework_id, task_id) in state.streams:
        return
    status = make_status(
        task_id,
        as_lost(TaskState.TASK_DROPPED, aware),
        Source.SOURCE_AGENT,
        state.now,
        agent_id=state.agent_id,
        reason=Reason.REASON_RECONCILIATION,
        message=UNKNOWN_TASK,
        uuid=state.ids.bytes(),
    )
    updates.report(state, framework_id, status)


def ping(state: AgentState, message: PingSlaveMessage) -> None:
    """The master asks whether the agent is there; C{connected} is false once it gave it up."""
    assert state.master is not None
    state.out.append(Send(state.master, PongSlaveMessage(), urgent=True))
    if not state.registered:
        return
    state.deadlines.set(("ping",), state.now + state.ping_timeout)
    if not message.connected:
        state.note("warn", "The master takes the agent for disconnected: registering again")
        _pause(state)
        begin(state)


def ping_timed_out(state: AgentState) -> None:
    """No ping came for too long: the link is given up, for whoever dials to dial again."""
    if state.master is not None:
        why = f"no ping from the master for {state.ping_timeout:g} s"
        state.note("warn", why)
        state.out.append(Drop(state.master, why))
        _disconnected(state)


def lost(state: AgentState, why: str) -> None:
    """The master's link is gone."""
    state.note("warn", f"Lost the master: {why or 'the link was closed'}")
    _disconnected(state)


def _disconnected(state: AgentState) -> None:
    state.master = None
    state.deadlines.drop(("register",))
    state.deadlines.drop(("ping",))
    _pause(state)


def _pause(state: AgentState) -> None:
    if state.phase is Phase.RUNNING:
        state.phase = Phase.DISCONNECTED
        updates.pause(state)


def _running(state: AgentState) -> None:
    state.phase = Phase.RUNNING
    state.deadlines.drop(("register",))
    state.deadlines.set(("ping",), state.now + state.ping_timeout)
    announce(state)
    exits.tell_again(state, state.asked)
    updates.resume(state)


def announce(state: AgentState) -> None:
    """Tell the master what can change while the agent is registered: here never anything."""
    message = UpdateSlaveMessage(update_oversubscribed_resources=False)
    message.slave_id.value = state.agent_id
    message.resource_version_uuid.value = state.resource_version
    message.operations.SetInParent()
    message.resource_providers.SetInParent()
    state.to_master(message)


def _wrong_id(state: AgentState, agent_id: str) -> None:
    why = f"The master calls this agent {agent_id}, but its id is {state.agent_id}"
    state.out.append(Stop(why, 1))


def _terminating(state: AgentState) -> bool:
    return state.phase is Phase.TERMINATING


def _fraction(state: AgentState) -> float:
    """Return a number from 0 to 1 that is random between agents and fixed by the seed."""
    return int.from_bytes(state.ids.bytes()[:6], "big") / (1 << 48)
