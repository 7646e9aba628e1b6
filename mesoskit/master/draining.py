"""Agents that are offered no more: deactivated, or drained of their tasks as well.

An operator deactivates an agent for a while, or has it drained: then its agent ends all
that runs there, within a time that the operator may bound, and once nothing is left it
has drained, or is marked gone. Both are in the registry, so they hold after a failover, and for an
agent that is away now (C{Master::Http::_drainAgent}, C{_deactivateAgent},
C{_reactivateAgent} in C{src/master/http.cpp}, C{checkAndTransitionDrainingAgent} in
C{src/master/master.cpp}).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from mesoskit.master import agents, health, registry
from mesoskit.master.records import Agent, Deactivation
from mesoskit.messages import mesos_pb2
from mesoskit.messages.internal_pb2 import DrainSlaveMessage
from mesoskit.messages.mesos_pb2 import DrainConfig, DrainInfo
from mesoskit.model.ids import AgentId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

Answered = tuple[int, str]


# What operators ask for.


def drain(
    state: "MasterState", agent_id: AgentId, nanoseconds: int | None, mark_gone: bool
) -> Answered:
    """
    Drain an agent.

    @param nanoseconds: what no task may take longer to end, whatever its kill policy.
    @param mark_gone: whether it is marked gone once nothing runs there.
    """
    agent = state.agents.get(agent_id)
    if agent is not None and not agent.capabilities.agent_draining:
        return 400, f"Agent {agent_id} is not capable of draining"
    if not _known(state, agent_id):
        return 400, "Unknown agent"
    config = DrainConfig(mark_gone=mark_gone)
    if nanoseconds is not None:
        config.max_grace_period.nanoseconds = nanoseconds
    info = DrainInfo(state=mesos_pb2.DRAINING, config=config)
    _set(state, agent_id, Deactivation(info, state.now))
    state.past.add((state.now, "draining", agent_id))
    state.note("info", f"Agent {agent_id} is being drained")
    if agent is not None:
        agents.deactivate(state, agent)
        _tell(state, agent)
    return 200, ""


def deactivate(state: "MasterState", agent_id: AgentId) -> Answered:
    """Offer an agent's resources no more; its tasks run on."""
    if not _known(state, agent_id):
        return 400, "Unknown agent"
    if agent_id not in state.deactivated:
        _set(state, agent_id, Deactivation())
        state.past.add((state.now, "deactivated", agent_id))
        state.note("info", f"Agent {agent_id} was deactivated")
    agent = state.agents.get(agent_id)
    if agent is not None:
        agents.deactivate(state, agent)
    return 200, ""


def reactivate(state: "MasterState", agent_id: AgentId) -> Answered:
    """Offer an agent's resources again, unless it is still being drained."""
    known = state.deactivated.get(agent_id)
    if known is None:
        return 400, "Agent is not deactivated"
    if _draining(known):
        return 400, "Agent is still in the DRAINING state"
    _set(state, agent_id, None)
    state.past.add((state.now, "reactivated", agent_id))
    state.note("info", f"Agent {agent_id} was reactivated")
    agent = state.agents.get(agent_id)
    if agent is not None and agent.connected:
        agent.active = True
        state.allocator.activate_agent(state.now, agent_id)
    return 200, ""


def _known(state: "MasterState", agent_id: AgentId) -> bool:
    return agent_id in state.agents or agent_id in state.recovered or agent_id in state.unreachable


def _draining(deactivation: Deactivation) -> bool:
    drain = deactivation.drain
    return drain is not None and drain.state == mesos_pb2.DRAINING


def _set(state: "MasterState", agent_id: AgentId, after: Deactivation | None) -> None:
    agent = state.agents.get(agent_id)
    if agent is not None:
        agent.deactivation = after
    if after is None:
        del state.deactivated[agent_id]
        state.effects.append(registry.reactivate(agent_id))
    else:
        state.deactivated[agent_id] = after
        state.effects.append(registry.deactivate(agent_id, after.drain))


# What follows from it.


def registered(state: "MasterState", agent: Agent) -> None:
    """An agent is back: it hears again that it is to drain."""
    if agent.deactivation is not None and agent.deactivation.drain is not None:
        _tell(state, agent)


def _tell(state: "MasterState", agent: Agent) -> None:
    """Tell an agent to drain; one that has nothing to end answers nothing, so look at once."""
    assert agent.deactivation is not None
    assert agent.deactivation.drain is not None
    state.to_agent(agent, DrainSlaveMessage(config=agent.deactivation.drain.config))
    state.emptied[agent.id] = None


def forget(state: "MasterState", agent_id: AgentId) -> None:
    """An agent has left for good."""
    if state.deactivated.pop(agent_id, None) is not None:
        state.effects.append(registry.reactivate(agent_id))


def settle(state: "MasterState") -> None:
    """Look at the agents that have lost their last task in this turn."""
    looked_at, state.emptied = state.emptied, {}
    for agent_id in looked_at:
        agent = state.agents.get(agent_id)
        if agent is None or agent.tasks or agent.deactivation is None:
            continue
        if not _draining(agent.deactivation) or not agent.connected:
            continue
        assert agent.deactivation.drain is not None
        config = agent.deactivation.drain.config
        state.past.add((state.now, "drained", agent_id))
        if config.mark_gone:
            state.note("info", f"Agent {agent_id} has drained and is marked gone")
            health.mark_gone(state, agent_id)
            continue
        state.note("info", f"Agent {agent_id} has drained")
        info = DrainInfo(state=mesos_pb2.DRAINED, config=config)
        _set(state, agent_id, replace(agent.deactivation, drain=info))
