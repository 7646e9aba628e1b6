"""Agents: how they register, change, go quiet and leave.

An admitted agent is in the registry before it hears of it: the C{SlaveRegisteredMessage}
stands behind a L{mesoskit.model.events.Store}. Coming back is L{mesoskit.master.reregister}'s
business, silence L{mesoskit.master.health}'s.
"""

from typing import TYPE_CHECKING

from mesoskit.allocator.options import AgentOptions
from mesoskit.master import (
    authorizing,
    draining,
    executors,
    health,
    offers,
    registry,
    tasks,
    watching,
)
from mesoskit.master.records import Agent, Peer
from mesoskit.messages.internal_pb2 import (
    MasterSlaveConnection,
    RegisterSlaveMessage,
    ReregisterSlaveMessage,
    SlaveRegisteredMessage,
    UnregisterSlaveMessage,
    UpdateSlaveMessage,
)
from mesoskit.messages.mesos_pb2 import AgentInfo, Value
from mesoskit.messages.scheduler_pb2 import Event
from mesoskit.model.capabilities import AgentCapability
from mesoskit.model.ids import AgentId
from mesoskit.model.resources import InvalidResources, ResourceKey, Resources
from mesoskit.model.tasks import Reason, TaskState
from mesoskit.model.validation_agent import validate_register_agent

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState, Refusal

_OLDEST_VERSION = (1, 0, 0)


def register(state: "MasterState", peer: Peer, message: RegisterSlaveMessage) -> "Refusal | None":
    """
    Admit an agent that has no id yet.

    One that asks again over the same link is told again. An agent that is disconnected and
    had the same address is taken to be this one before it lost its work_dir, and removed.
    """
    state.counters.messages_register_slave += 1
    error = (
        validate_register_agent(message)
        or version_error(message.version)
        or domain_error(state, message.slave)
    )
    if error is not None:
        return _refuse(state, peer, "registration", error)
    if state.options.authorizer is not None:
        error = authorizing.agent_error(state, peer, message.slave)
        if error is not None:
            _refuse(state, peer, "registration", error)
            return 403, error
    if peer.agent is not None:
        state.send(peer, _registered(state, peer.agent))
        return None
    pid = agent_pid(peer, message.slave)
    for other in list(state.disconnected.values()):
        if other.pid == pid:
            cause = "a new agent registered at the same address"
            state.counters.slave_removals_reason_registered += 1
            leave(state, other, cause)
    info = AgentInfo()
    info.CopyFrom(message.slave)
    info.id.value = f"{state.info.id}-S{state.next_agent}"
    agent = Agent(info, pid, state.now)
    error = take_over(agent, info, message)
    if error is not None:
        return _refuse(state, peer, "registration", error)
    state.next_agent += 1
    state.effects.append(registry.admit(info))
    state.counters.slave_registrations += 1
    add(state, agent, peer)
    state.send(peer, _registered(state, agent))
    health.watch(state, agent)
    state.note("info", f"Registered agent {agent.id} at {pid} ({info.hostname}) with {agent.total}")
    return None


def _refuse(state: "MasterState", peer: Peer, what: str, error: str) -> "Refusal":
    state.note("warn", f"Dropped the {what} of an agent at {peer.address}: {error}")
    return 400, error


def domain_error(state: "MasterState", info: AgentInfo) -> str | None:
    """Return why an agent in that domain, or in none, cannot be taken, or L{None}."""
    if not info.HasField("domain"):
        if state.options.require_agent_domain:
            return "the agent has no domain (--domain), and this master requires one"
    elif not state.options.domain:
        return "the agent has a domain, and this master has none (--domain)"
    return None


def version_error(version: str) -> str | None:
    """Return why an agent of this version cannot be taken, or L{None}."""
    parts = version.split("-")[0].split("+")[0].split(".")
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        return f"Failed to parse version '{version}'"
    if (*numbers, 0, 0)[:3] < _OLDEST_VERSION:
        return f"agent version is {version}, minimum supported agent version is 1.0.0"
    return None


def agent_pid(peer: Peer, info: AgentInfo) -> str:
    """Return where an agent is, as libprocess would write it."""
    if "@" in peer.address:
        return peer.address
    host = peer.address.rpartition(":")[0].strip("[]")
    # A peer on a UNIX socket has no address that others could use.
    known = host and not host.startswith(("unix", "/"))
    return f"slave(1)@{host if known else info.hostname}:{info.port}"


def take_over(
    agent: Agent, info: AgentInfo, message: RegisterSlaveMessage | ReregisterSlaveMessage
) -> str | None:
    """
    Take over what an agent says of itself; return what is wrong with it, or L{None}, in
    which case alone something is changed.
    """
    try:
        total = apply_checkpointed(
            Resources.from_message(info.resources),
            Resources.from_message(message.checkpointed_resources),
        )
    except InvalidResources as error:
        return str(error)
    agent.info = info
    agent.total = total
    agent.version = message.version
    agent.capabilities = AgentCapability.from_messages(message.agent_capabilities)
    agent.resource_version = message.resource_version_uuid.value
    agent.offer_template = offers.offer_template(agent)
    return None


def apply_checkpointed(total: Resources, checkpointed: Resources) -> Resources:
    """
    Return an agent's resources as operations have changed them: its checkpointed dynamic
    reservations and volumes in place of the plain resources that they were made of.

    Raises L{InvalidResources} where those are not there (C{applyCheckpointedResources} in
    C{src/common/resources_utils.cpp}).
    """
    if not checkpointed:
        return total
    plain = checkpointed.without_volumes().map_keys(_without_dynamic)
    if not total.contains(plain):
        raise InvalidResources(f"Incompatible agent resources: {total} does not contain {plain}")
    return total - plain + checkpointed


def _without_dynamic(key: ResourceKey) -> ResourceKey:
    while key.dynamically_reserved:
        key = key.popped()
    return key


def agent_options(agent: Agent) -> AgentOptions:
    """Return what the allocator is told of an agent."""
    info = agent.info
    placed = info.domain.HasField("fault_domain")
    domain = info.domain.fault_domain
    named: dict[str, str | None] = {}
    for one in info.attributes:
        named.setdefault(one.name, one.text.value if one.type == Value.TEXT else None)
    return AgentOptions(
        hostname=info.hostname,
        attributes=tuple(
            attribute.SerializeToString(deterministic=True) for attribute in info.attributes
        ),
        capabilities=agent.capabilities,
        region=domain.region.name if placed else None,
        zone=domain.zone.name if placed else None,
        named=named,
    )


def add(state: "MasterState", agent: Agent, peer: Peer) -> None:
    """Take an agent in, with the tasks and executors that it already has."""
    agent.peer = peer
    peer.agent = agent
    agent.active = True
    state.agents[agent.id] = agent
    agent.deactivation = state.deactivated.get(agent.id)
    state.allocator.add_agent(state.now, agent.id, agent_options(agent), agent.total, agent.used())
    if agent.deactivation is not None:
        deactivate(state, agent)
    state.past.add((state.now, "agent registered", agent.id, peer.address))
    if state.watchers:
        watching.agent_added(state, agent)


def connection(state: "MasterState") -> MasterSlaveConnection:
    """Return what an agent is told of the link: how long it may hear no ping."""
    return MasterSlaveConnection(total_ping_timeout_seconds=state.options.total_ping_timeout)


def _registered(state: "MasterState", agent: Agent) -> SlaveRegisteredMessage:
    message = SlaveRegisteredMessage(connection=connection(state))
    message.slave_id.value = agent.id
    return message


def update(state: "MasterState", peer: Peer, message: UpdateSlaveMessage) -> "Refusal | None":
    """Take over what an agent says has changed: oversubscribed resources, resource version."""
    state.counters.messages_update_slave += 1
    agent = peer.agent
    if agent is None or agent.id != message.slave_id.value:
        return 403, f"Agent {message.slave_id.value} is not registered over this connection"
    if message.HasField("resource_version_uuid"):
        agent.resource_version = message.resource_version_uuid.value
    said = message.HasField("update_oversubscribed_resources")
    if said and not message.update_oversubscribed_resources:
        return None
    revocable = Resources.from_message(message.oversubscribed_resources).revocable()
    total = agent.total.non_revocable() + revocable
    if total != agent.total:
        agent.total = total
        for offer in list(agent.offers.values()):
            if offer.resources.revocable():
                offers.rescind(state, offer)
        state.allocator.update_agent(state.now, agent.id, None, total)
        state.past.add((state.now, "agent resources changed", agent.id, str(total)))
    return None


def unregister(
    state: "MasterState", peer: Peer, message: UnregisterSlaveMessage
) -> "Refusal | None":
    """Let an agent go that says that it shuts down."""
    state.counters.messages_unregister_slave += 1
    agent = peer.agent
    if agent is None or agent.id != message.slave_id.value:
        return 403, f"Agent {message.slave_id.value} is not registered over this connection"
    state.counters.slave_removals_reason_unregistered += 1
    leave(state, agent, "the agent unregistered")
    return None


def lost(state: "MasterState", agent: Agent, why: str) -> None:
    """
    Go on without an agent whose link broke.

    Its offers are rescinded at once, and tasks of frameworks that do not checkpoint are
    lost: their executors end with the agent. The others wait until it is back, or until it
    has missed so many pings that it counts as unreachable.
    """
    agent.peer = None
    state.disconnected[agent.id] = agent
    deactivate(state, agent)
    state.past.add((state.now, "agent disconnected", agent.id, why))
    hostname = agent.info.hostname
    state.note("info", f"Agent {agent.id} at {agent.pid} ({hostname}) disconnected ({why})")
    message = f"Agent {hostname} disconnected"
    for task in list(agent.tasks):
        if not task.framework.info.checkpoint:
            tasks.end_task(
                state, task, TaskState.TASK_LOST, Reason.REASON_AGENT_DISCONNECTED, message
            )
    for executor in list(agent.all_executors()):
        framework = state.frameworks.get(executor.framework_id)
        if framework is None or not framework.info.checkpoint:
            executors.remove(state, agent, executor)


def deactivate(state: "MasterState", agent: Agent) -> None:
    """Offer an agent's resources no more, and rescind what was offered of them."""
    if agent.active:
        agent.active = False
        state.allocator.deactivate_agent(state.now, agent.id)
    for offer in list(agent.offers.values()):
        offers.rescind(state, offer)


def leave(state: "MasterState", agent: Agent, cause: str) -> None:
    """Remove an agent that ends, or was replaced: its tasks are lost (C{Master::removeSlave})."""
    state.effects.append(registry.remove(agent.id))
    draining.forget(state, agent.id)
    message = f"Agent {agent.info.hostname} removed: {cause}"
    remove(state, agent, TaskState.TASK_LOST, Reason.REASON_AGENT_REMOVED, message)
    state.note("info", f"Removed agent {agent.id}: {cause}")


def remove(
    state: "MasterState",
    agent: Agent,
    after: TaskState,
    reason: Reason,
    message: str,
    unreachable_nanoseconds: int | None = None,
) -> None:
    """
    Take an agent out of the cluster: its tasks go to another state, its executors and offers
    are gone, and all frameworks hear of it.
    """
    state.counters.slave_removals += 1
    state.deadlines.drop(("ping", agent.id))
    state.removals.cancel(state, agent.id)
    del state.agents[agent.id]
    state.disconnected.pop(agent.id, None)
    state.allocator.remove_agent(state.now, agent.id)
    if agent.peer is not None:
        agent.peer.agent = None
        agent.peer = None
    agent.active = False
    for task in list(agent.tasks):
        tasks.end_task(
            state,
            task,
            after,
            reason_told(task.framework.partition_aware, reason),
            message,
            unreachable_nanoseconds=unreachable_nanoseconds,
        )
    for executor in list(agent.all_executors()):
        executors.remove(state, agent, executor)
    for offer in list(agent.offers.values()):
        offers.rescind(state, offer)
    state.past.add((state.now, "agent removed", agent.id, message))
    tell_lost(state, agent.id)
    if state.watchers:
        watching.agent_removed(state, agent)


def reason_told(partition_aware: bool, reason: Reason) -> Reason:
    """Return the reason as old frameworks know it."""
    if not partition_aware and reason == Reason.REASON_AGENT_REMOVED_BY_OPERATOR:
        return Reason.REASON_AGENT_REMOVED
    return reason


def tell_lost(state: "MasterState", agent_id: AgentId) -> None:
    """Tell all frameworks that an agent is not there any more."""
    event = Event()
    event.type = Event.FAILURE
    event.failure.agent_id.value = agent_id
    for framework in state.frameworks.values():
        state.to_framework(framework, event)
