"""Whether agents still answer, and what happens when they do not.

A registered agent is pinged every C{--agent_ping_timeout}. One that leaves
C{--max_agent_ping_timeouts} of them unanswered, connected or not, is unreachable: that is
written down, its tasks are C{TASK_UNREACHABLE}, and it may come back with them
(C{SlaveObserver} and C{Master::markUnreachable} in C{src/master/master.cpp}).
"""

from typing import TYPE_CHECKING

from mesoskit.master import agents, draining, registry, tasks
from mesoskit.master.records import Agent, Peer
from mesoskit.messages.internal_pb2 import PingSlaveMessage, PongSlaveMessage, ShutdownMessage
from mesoskit.model.events import Send, Stop
from mesoskit.model.ids import AgentId
from mesoskit.model.tasks import Reason, TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_PING = PingSlaveMessage(connected=True)
_NANOSECONDS = 1_000_000_000
_GONE = "Agent has been marked gone"
_SILENT = "health check timed out"


def watch(state: "MasterState", agent: Agent) -> None:
    """Begin to ping an agent that has just registered."""
    agent.missed = 0
    _ping(state, agent, urgent=False)


def _ping(state: "MasterState", agent: Agent, urgent: bool = True) -> None:
    if agent.peer is not None:
        state.effects.append(Send(agent.peer.id, _PING, urgent))
    agent.pinged = True
    state.deadlines.set(("ping", agent.id), state.now + state.options.agent_ping_timeout)


def pong(state: "MasterState", peer: Peer, message: PongSlaveMessage) -> None:
    """Hear that an agent is there."""
    agent = peer.agent
    if agent is not None:
        agent.pinged = False
        agent.missed = 0
        state.removals.cancel(state, agent.id)


def ping_due(state: "MasterState", agent_id: AgentId) -> None:
    """Ping an agent again, or give it up."""
    agent = state.agents.get(agent_id)
    if agent is None:
        return
    if agent.pinged:
        agent.missed += 1
        if agent.missed >= state.options.max_agent_ping_timeouts:
            if state.removals.may(state, agent_id):
                mark_unreachable(state, agent, _SILENT)
                return
            if agent.missed == state.options.max_agent_ping_timeouts:
                state.note("warn", f"Agent {agent_id} is silent, and given up when it is its turn")
    _ping(state, agent)


def mark_unreachable(state: "MasterState", agent: Agent, message: str) -> None:
    """
    Take an agent for cut off. If its link stands, it is closed, so that the agent
    registers again as soon as it can.
    """
    nanoseconds = int(state.now * _NANOSECONDS)
    counters = state.counters
    counters.slave_unreachable_completed += 1
    counters.slave_removals_reason_unhealthy += 1
    state.effects.append(registry.mark_unreachable(agent.id, nanoseconds))
    state.unreachable[agent.id] = nanoseconds
    peer = agent.peer
    agents.remove(
        state,
        agent,
        TaskState.TASK_UNREACHABLE,
        Reason.REASON_AGENT_REMOVED,
        message,
        nanoseconds,
    )
    if peer is not None:
        state.drop(peer, f"Agent is unreachable: {message}")
    state.note("warn", f"Agent {agent.id} at {agent.pid} is unreachable: {message}")


def recovered_timeout(state: "MasterState") -> None:
    """
    Give up the agents that were in the registry and have not come back, or stop where they
    are too many (C{--recovery_agent_removal_limit}).
    """
    missing = list(state.recovered)
    if not missing:
        return
    timeout = state.options.agent_reregister_timeout
    if len(missing) > state.options.recovery_agent_removal_limit * state.recovered_count:
        state.effects.append(
            Stop(
                "Post-recovery agent removal limit exceeded! After"
                f" {timeout:g} seconds there were {len(missing)} of {state.recovered_count}"
                " agents recovered from the registry that did not reregister:"
                f" {', '.join(missing[:20])}. Raise --recovery_agent_removal_limit to go on"
                " without them",
                1,
            )
        )
        return
    for agent_id in missing:
        if state.removals.may(state, agent_id):
            _give_up_recovered(state, agent_id)
    waiting = f", or will be: {len(state.removals)} wait for their turn" if state.recovered else ""
    state.note(
        "warn",
        f"{len(missing)} agents did not reregister within {timeout:g} seconds after the"
        f" master failover and are unreachable{waiting}",
    )


def _give_up_recovered(state: "MasterState", agent_id: AgentId) -> None:
    """Take an agent that was in the registry and has not come back for cut off."""
    nanoseconds = int(state.now * _NANOSECONDS)
    counters = state.counters
    state.effects.append(registry.mark_unreachable(agent_id, nanoseconds))
    state.unreachable[agent_id] = nanoseconds
    counters.slave_unreachable_completed += 1
    counters.slave_removals += 1
    counters.slave_removals_reason_unhealthy += 1
    counters.recovery_slave_removals += 1
    state.past.add((state.now, "agent unreachable", agent_id))
    del state.recovered[agent_id]
    agents.tell_lost(state, agent_id)


def removal_due(state: "MasterState") -> None:
    """Give up the agent whose turn it is."""
    agent_id = state.removals.next(state)
    if agent_id is None:
        return
    agent = state.agents.get(agent_id)
    if agent is not None:
        mark_unreachable(state, agent, _SILENT)
    elif agent_id in state.recovered:
        _give_up_recovered(state, agent_id)


def mark_gone(state: "MasterState", agent_id: AgentId) -> bool:
    """
    Take an operator's word that an agent will never come back: its tasks are
    C{TASK_GONE_BY_OPERATOR}, and should it come after all it is told to shut down.

    @return: whether there is such an agent.
    """
    agent = state.agents.get(agent_id)
    if agent is None and agent_id not in state.recovered and agent_id not in state.unreachable:
        return agent_id in state.gone
    nanoseconds = int(state.now * _NANOSECONDS)
    state.effects.append(registry.mark_gone(agent_id, nanoseconds))
    state.gone[agent_id] = nanoseconds
    draining.forget(state, agent_id)
    state.note("warn", f"Agent {agent_id} was marked gone")
    after, reason = TaskState.TASK_GONE_BY_OPERATOR, Reason.REASON_AGENT_REMOVED_BY_OPERATOR
    if agent is not None:
        state.to_agent(agent, ShutdownMessage(message=_GONE))
        agents.remove(state, agent, after, reason, _GONE)
        return True
    if state.recovered.pop(agent_id, None) is not None:
        # Which tasks it had is known to their frameworks alone: now they may ask after them.
        agents.tell_lost(state, agent_id)
    state.removals.cancel(state, agent_id)
    state.unreachable.pop(agent_id, None)
    state.past.add((state.now, "agent gone", agent_id))
    for task in list(state.unreachable_tasks.get(agent_id, ())):
        reason_told = agents.reason_told(task.framework.partition_aware, reason)
        tasks.end_unreachable_task(state, task, after, reason_told, _GONE, told=True)
    return True


def forget_old(state: "MasterState") -> None:
    """Forget agents that have been unreachable or gone for too long, and too many of them."""
    options = state.options
    state.deadlines.set(("gc",), state.now + options.registry_gc_interval)
    oldest = int((state.now - options.registry_max_agent_age) * _NANOSECONDS)
    unreachable = _too_old(state.unreachable, oldest, options.registry_max_agent_count)
    gone = _too_old(state.gone, oldest, options.registry_max_agent_count)
    if not unreachable and not gone:
        return
    for agent_id in unreachable:
        del state.unreachable[agent_id]
    for agent_id in gone:
        del state.gone[agent_id]
    state.effects.append(registry.forget(unreachable, gone))
    for agent_id in unreachable:
        draining.forget(state, agent_id)
    state.note(
        "info",
        f"Forgot {len(unreachable)} unreachable and {len(gone)} gone agents of the registry",
    )


def _too_old(moments: dict[AgentId, int], oldest: int, limit: int) -> list[AgentId]:
    ordered = sorted(moments, key=lambda agent_id: moments[agent_id])
    excess = len(ordered) - limit
    return [
        agent_id
        for place, agent_id in enumerate(ordered)
        if place < excess or moments[agent_id] < oldest
    ]
