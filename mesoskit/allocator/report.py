"""What the allocator tells people: why an offer was or was not made, metrics, and its books."""

from __future__ import annotations

from mesoskit.allocator import verdict
from mesoskit.allocator.interface import Explanation, Reason
from mesoskit.allocator.ledger import Ledger
from mesoskit.allocator.options import Options
from mesoskit.allocator.records import Agent, Client, Framework, scalars
from mesoskit.allocator.rhythm import Rhythm
from mesoskit.model.resources import Resources

_ALWAYS_SHOWN = ("cpus", "disk", "gpus", "mem")


def explain(
    options: Options,
    ledger: Ledger,
    rhythm: Rhythm,
    framework: Framework,
    role: str | None,
    recovering_until: float | None,
) -> list[Explanation]:
    """
    Tell agent by agent why a framework is or is not offered it.

    @param recovering_until: until when offers wait for agents to come back, at the latest.
    """
    roles = sorted(framework.options.roles) if role is None else [role]
    result = []
    for agent in ledger.agents.values():
        holders = tuple((client.framework.id, client.role.name) for client in agent.held)
        for name in roles:
            client = framework.clients.get(name)
            if client is None:
                reason, until, available = Reason.NOT_SUBSCRIBED, None, Resources.EMPTY
            else:
                available = agent.view(client).resources
                reason = verdict.of_client(client, options.roles)
                until = None
                if reason is Reason.ELIGIBLE and recovering_until is not None:
                    reason, until = Reason.RECOVERING, recovering_until
                if reason is Reason.ELIGIBLE:
                    reason, until = _of_agent(rhythm, client, agent)
            last = agent.last is client and client is not None
            offered = agent.last_at if last else None
            result.append(Explanation(agent.id, name, reason, available, until, holders, offered))
    return result


def _of_agent(rhythm: Rhythm, client: Client, agent: Agent) -> tuple[Reason, float | None]:
    """Tell what stands between an active client and an agent, and until when."""
    reason = verdict.of_agent(agent)
    if reason is not Reason.ELIGIBLE:
        return reason, None
    view = agent.view(client)
    reason = verdict.of_pair(client, agent, view)
    if reason is Reason.FILTERED:
        filter_ = client.filters[agent].blocks(view.resources)
        return reason, None if filter_ is None else filter_.until
    if reason is Reason.ELIGIBLE:
        if agent.window is not None:
            return Reason.GATHERING, agent.window
        if rhythm.pending(agent, client):
            return Reason.WAITING, rhythm.deadline()
    return reason, None


def metrics(ledger: Ledger, rhythm: Rhythm) -> dict[str, float]:
    """Return gauges and counters by the names of C{src/master/allocator/mesos/metrics.cpp}."""
    held = dict.fromkeys(_ALWAYS_SHOWN, 0)
    held.update((name, amount) for name, amount in ledger.held.items() if amount)
    totals = ledger.pool.totals
    result: dict[str, float] = {
        "allocator/event_queue_dispatches": 0,
        "allocator/mesos/event_queue_dispatches": 0,
        "allocator/mesos/allocation_runs": rhythm.passes,
        "allocator/mesos/allocation_run_latency_ms": rhythm.latency * 1000,
    }
    for name in sorted({*held, *totals}):
        prefix = f"allocator/mesos/resources/{name}"
        result[f"{prefix}/total"] = totals.get(name, 0) / 1000
        result[f"{prefix}/offered_or_allocated"] = held.get(name, 0) / 1000
    for role in ledger.roles.values():
        result[f"allocator/mesos/roles/{role.name}/shares/dominant"] = ledger.role_sorter.share(
            role.name
        )
        result[f"allocator/mesos/offer_filters/roles/{role.name}/active"] = sum(
            len(client.filters) for client in role.clients.values()
        )
    return result


def audit(options: Options, ledger: Ledger) -> list[str]:
    """Return what in the books contradicts itself: nothing, if all is well."""
    wrong = []
    totals: dict[str, int] = {}
    held: dict[str, int] = dict.fromkeys(ledger.held, 0)
    holds: dict[Client, int] = {}
    for agent in ledger.agents.values():
        wrong += _audit_agent(agent)
        if bool(agent.free) is not (agent in ledger.free):
            wrong.append(f"agent {agent.id} is not where agents with {agent.free} free belong")
        for client in agent.held:
            holds[client] = holds.get(client, 0) + 1
            for name, amount in agent.held[client][1].items():
                held[name] = held.get(name, 0) + amount
        for name, amount in agent.totals.items():
            totals[name] = totals.get(name, 0) + amount
    if held != ledger.held:
        wrong.append(f"all agents hold {held}, the books say {ledger.held}")
    if totals != ledger.pool.totals:
        wrong.append(f"the pool has {ledger.pool.totals}, all agents {totals}")
    if any(not client.active for client in ledger.actives):
        wrong.append("a client that is not active is among the active")
    for role in ledger.roles.values():
        actives = 0
        for client in role.clients.values():
            name = f"framework {client.framework.id} in role {role.name}"
            actives += client in ledger.actives
            for agent, excluded in client.judged.items():
                if client.constraints is None or ledger.agents.get(agent.id) is not agent:
                    wrong.append(f"{name} has judged {agent.id}, and need not")
                elif client.constraints.excludes(agent.options) is not excluded:
                    wrong.append(f"{name} excludes {agent.id}: {excluded}, wrongly")
            if client.active is not (verdict.of_client(client, options.roles) is Reason.ELIGIBLE):
                wrong.append(f"{name} is active: {client.active}")
            if client.active is not (
                client.framework.id in role.sorter.sort([client.framework.id])
            ):
                wrong.append(f"{name} is active: {client.active}, and sorted otherwise")
            if client.holds != holds.get(client, 0):
                wrong.append(f"{name} holds on {client.holds} agents, these say {holds}")
        if role.actives != actives or bool(actives) is not (
            role.name in ledger.role_sorter.sort([role.name])
        ):
            wrong.append(f"role {role.name} has {actives} active clients, not {role.actives}")
    return wrong


def _audit_agent(agent: Agent) -> list[str]:
    wrong = []
    held = Resources.sum(resources for resources, _ in agent.held.values()).non_shared()
    free = agent.free.non_shared()
    total = agent.total.non_shared()
    if free != total.minus(held) or (total.contains(held) and held + free != total):
        wrong.append(f"agent {agent.id} has {total}, of which {held} are held and {free} free")
    if agent.free.shared() != agent.total.shared():
        wrong.append(f"agent {agent.id} shares {agent.free.shared()}, not {agent.total.shared()}")
    for client in agent.refusing if agent.refused.contains(agent.free) else ():
        view = agent.view(client).resources
        filter_ = client.filters.get(agent)
        if view and (filter_ is None or not filter_.blocks(view)):
            wrong.append(f"{client.framework.id} does not refuse {view} on {agent.id}")
    for client, (resources, amounts) in agent.held.items():
        if not resources or scalars(resources) != amounts:
            wrong.append(f"{client.framework.id} holds {resources} on {agent.id}, or {amounts}")
    return wrong
