"""What must hold of a master's state after every event; tests ask for it, daemons do not.

The safety half of the invariants in C{docs/rooms.md}: a task is in one place, an offer is
outstanding everywhere or nowhere, nobody holds more than there is, records that refer to each
other do so both ways, and whoever is waited for has a deadline.
"""

from collections import Counter
from typing import TYPE_CHECKING

from mesoskit.master.records import Agent, Framework
from mesoskit.messages.mesos_pb2 import DRAINED
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL, TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_UNREACHABLE = TaskState.TASK_UNREACHABLE


def validate(state: "MasterState", honest: bool) -> None:
    """
    Raise L{AssertionError}, naming the record, for the first thing that is wrong.

    @param honest: also hold agents to having what they say that their tasks use.
    """
    _peers(state)
    for framework in state.frameworks.values():
        _framework(state, framework)
    for agent in state.agents.values():
        _agent(state, agent)
        assert not honest or _fits(agent), f"{agent} holds more than {agent.total}"
    quiet = {agent.id for agent in state.agents.values() if not agent.connected}
    assert quiet == state.disconnected.keys(), quiet ^ state.disconnected.keys()
    _offers(state)
    _gone(state)
    for framework in state.completed:
        assert framework.id not in state.frameworks, framework
        assert not framework.tasks, framework
        assert not framework.unreachable, framework
        assert not framework.offers, framework
        assert not framework.connected, framework


def _peers(state: "MasterState") -> None:
    for peer in state.peers.values():
        if peer.framework is not None:
            assert peer.framework.peer is peer, peer.framework
            assert state.frameworks.get(peer.framework.id) is peer.framework, peer.framework
        if peer.agent is not None:
            assert peer.agent.peer is peer, peer.agent
            assert state.agents.get(peer.agent.id) is peer.agent, peer.agent


def _framework(state: "MasterState", framework: Framework) -> None:
    states = Counter(task.state for task in framework.tasks.values())
    assert framework.live == [states[number] for number in range(len(framework.live))], framework
    peer = framework.peer
    if peer is None:
        assert not framework.active, framework
        assert not framework.offers, framework
        assert ("failover", framework.id) in state.deadlines, framework
    else:
        assert state.peers.get(peer.id) is peer, framework
        assert peer.framework is framework, framework
        assert framework.active, framework
        assert not framework.recovered, framework
    for task_id, task in framework.tasks.items():
        assert task.id == task_id, task
        assert task.framework is framework, task
        assert task.agent is not None, task
        assert task in task.agent.tasks, task
        assert state.agents.get(task.agent_id) is task.agent, task
        assert task.state != _UNREACHABLE, task
        assert task_id not in framework.unreachable, task
    for task_id, task in framework.unreachable.items():
        assert task.id == task_id, task
        assert task.agent is None, task
        assert task.state == _UNREACHABLE, task
        assert task in state.unreachable_tasks[task.agent_id], task
    for task in framework.completed:
        assert task.agent is None, task
        assert task.state in TERMINAL, task
    limit = state.options.max_unreachable_tasks_per_framework
    assert len(framework.unreachable) <= limit, framework


def _agent(state: "MasterState", agent: Agent) -> None:
    peer = agent.peer
    if peer is None:
        assert not agent.active, agent
    else:
        assert state.peers.get(peer.id) is peer, agent
        assert peer.agent is agent, agent
    assert ("ping", agent.id) in state.deadlines, agent
    assert agent.active or not agent.offers, agent
    assert agent.deactivation is state.deactivated.get(agent.id), agent
    assert agent.active == (agent.connected and agent.deactivation is None), agent
    if agent.connected and not agent.tasks and agent.deactivation is not None:
        drain = agent.deactivation.drain
        assert drain is None or drain.state == DRAINED, agent
    for table in (state.recovered, state.unreachable, state.gone):
        assert agent.id not in table, agent
    for task in agent.tasks:
        assert task.agent is agent, task
        assert state.frameworks.get(task.framework.id) is task.framework, task
        assert task.framework.tasks.get(task.id) is task, task
    for executor in agent.all_executors():
        assert executor.framework_id in state.frameworks, (agent, executor.id)
    for framework_id, task_id in agent.killed:
        assert task_id in state.frameworks[framework_id].tasks, (agent, task_id)


def _fits(agent: Agent) -> bool:
    """Tell whether what is used and offered of an agent is there."""
    taken = [held for roles in agent.used().values() for held in roles.values()]
    taken += [offer.resources for offer in agent.offers.values()]
    return agent.total.contains(Resources.sum(taken).non_shared())


def _offers(state: "MasterState") -> None:
    for offer_id, offer in state.offers.items():
        assert offer.id == offer_id, offer_id
        assert offer.framework.offers.get(offer_id) is offer, offer_id
        assert offer.agent.offers.get(offer_id) is offer, offer_id
        assert state.agents.get(offer.agent_id) is offer.agent, offer_id
        assert state.frameworks.get(offer.framework_id) is offer.framework, offer_id
        assert offer.role in offer.framework.roles, offer_id
    made = sum(len(framework.offers) for framework in state.frameworks.values())
    assert made == len(state.offers), "a framework has an offer that is not outstanding"
    of_agents = sum(len(agent.offers) for agent in state.agents.values())
    assert of_agents == len(state.offers), "an agent has an offer that is not outstanding"


def _gone(state: "MasterState") -> None:
    for agent_id in state.recovered:
        assert agent_id not in state.unreachable, agent_id
        assert agent_id not in state.gone, agent_id
        assert ("recovered",) in state.deadlines or agent_id in state.removals, agent_id
    for agent_id in state.deactivated:
        known = agent_id in state.agents or agent_id in state.recovered
        assert known or agent_id in state.unreachable, agent_id
    assert not state.emptied, state.emptied
    for agent_id in state.unreachable:
        assert agent_id not in state.gone, agent_id
    for agent_id, tasks in state.unreachable_tasks.items():
        assert agent_id not in state.agents, agent_id
        assert tasks, agent_id
        for task in tasks:
            assert task.framework.unreachable.get(task.id) is task, task
