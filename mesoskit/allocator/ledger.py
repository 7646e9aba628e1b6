"""Who holds what: agents, frameworks and roles, and the sorters that follow them.

On every agent, what is held and what is free make up the total. What is shared is held by any
number of clients and is free all the time; for shares it counts once for each that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesoskit.allocator.interface import AllocatorError, Conversion, Reason
from mesoskit.allocator.options import FrameworkOptions, Options
from mesoskit.allocator.records import Agent, Client, Framework, Role, scalars
from mesoskit.allocator.sorter import Pool, Sorter
from mesoskit.allocator.verdict import of_client
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import NotContained, Resources


class Ledger:
    """
    The accounts of an allocator.

    @ivar actives: the clients that are to be offered resources.
    @ivar free: the agents with anything free, offerable or not.
    @ivar held: the scalars that clients hold, on all agents together, by name.
    """

    def __init__(
        self,
        options: Options,
        role_sorter: Sorter,
        framework_sorter: Callable[[], Sorter],
        pool: Pool,
    ) -> None:
        self._options = options
        self._framework_sorter = framework_sorter
        self.pool = pool
        self.role_sorter = role_sorter
        self.agents: dict[AgentId, Agent] = {}
        self.frameworks: dict[FrameworkId, Framework] = {}
        self.roles: dict[str, Role] = {}
        self.actives: dict[Client, None] = {}
        self.free: dict[Agent, None] = {}
        self.held: dict[str, int] = {}

    # Frameworks and their clients.

    def framework(self, framework_id: FrameworkId) -> Framework:
        """Return a framework that was added; L{AllocatorError} if it was not."""
        framework = self.frameworks.get(framework_id)
        if framework is None or not framework.known:
            raise AllocatorError(f"no framework {framework_id!r} here; add it first")
        return framework

    def agent(self, agent_id: AgentId) -> Agent:
        """Return an agent; L{AllocatorError} if it is not known."""
        agent = self.agents.get(agent_id)
        if agent is None:
            raise AllocatorError(f"no agent {agent_id!r} here; add it first")
        return agent

    def track(self, framework_id: FrameworkId, role_name: str) -> Client:
        """Return a framework's client in a role, made if it is not there yet."""
        framework = self.frameworks.get(framework_id)
        if framework is None:
            options = FrameworkOptions(roles=frozenset())
            framework = self.frameworks[framework_id] = Framework(framework_id, options)
        client = framework.clients.get(role_name)
        if client is not None:
            return client
        role = self.roles.get(role_name)
        if role is None:
            role = self.roles[role_name] = Role(role_name, self._framework_sorter())
            self.role_sorter.add(role_name)
        client = framework.clients[role_name] = role.clients[framework_id] = Client(framework, role)
        client.configure(self._options.min_allocatable_resources)
        role.sorter.add(framework_id)
        return client

    def untrack(self, client: Client) -> bool:
        """Forget a client that is not subscribed and holds nothing; tell whether it was one."""
        framework, role = client.framework, client.role
        if client.holds or (framework.known and role.name in framework.options.roles):
            return False
        self.settle(client)
        del framework.clients[role.name], role.clients[framework.id]
        role.sorter.remove(framework.id)
        if not role.clients:
            del self.roles[role.name]
            self.role_sorter.remove(role.name)
        if not framework.known and not framework.clients:
            del self.frameworks[framework.id]
        return True

    def settle(self, client: Client) -> bool:
        """Let a client be sorted or not, as it stands now; tell whether it has become active."""
        active = of_client(client, self._options.roles) is Reason.ELIGIBLE
        if active is client.active:
            return False
        client.active = active
        role = client.role
        if active:
            self.actives[client] = None
            role.sorter.activate(client.framework.id)
            role.actives += 1
            if role.actives == 1:
                self.role_sorter.activate(role.name)
        else:
            del self.actives[client]
            role.sorter.deactivate(client.framework.id)
            role.actives -= 1
            if not role.actives:
                self.role_sorter.deactivate(role.name)
        return active

    # Agents and what is held there.

    def hold(
        self, agent: Agent, client: Client, resources: Resources, amounts: dict[str, int]
    ) -> None:
        """
        Give a client what is free on an agent.

        @param amounts: the scalars of C{resources}; kept, not to be changed.
        """
        if not agent.simple:
            self._put(agent, client, self._holding(agent, client) + resources)
            self.refree(agent)
            return
        held = agent.held.get(client)
        if held is None:
            agent.held[client] = (resources, amounts)
            client.holds += 1
        else:
            agent.held[client] = (held[0] + resources, _sum(held[1], amounts))
        if resources is agent.free:
            agent.free = Resources.EMPTY
            self.free.pop(agent, None)
        else:
            agent.free = agent.free - resources
            if not agent.free:
                self.free.pop(agent, None)
        total = self.held
        for name, amount in amounts.items():
            total[name] = total.get(name, 0) + amount
        client.role.sorter.allocated(client.framework.id, amounts)
        self.role_sorter.allocated(client.role.name, amounts)

    def release(self, agent: Agent, client: Client, resources: Resources) -> None:
        """Take back what a client holds on an agent; L{AllocatorError} if it does not hold it."""
        held = agent.held.get(client)
        if held is None:
            raise self._not_held(agent, client, resources, Resources.EMPTY)
        before, amounts = held
        try:
            rest = None if before is resources or before == resources else before - resources
        except NotContained:
            raise self._not_held(agent, client, resources, before) from None
        if not agent.simple:
            self._put(agent, client, rest or Resources.EMPTY)
            self.refree(agent)
            return
        if rest is None:
            del agent.held[client]
            client.holds -= 1
        else:
            gone = scalars(resources)
            agent.held[client] = (rest, _difference(amounts, gone))
            amounts = gone
        # The same object as before, where it can be: filters and views know it again.
        if not agent.held:
            agent.free = agent.total
        elif not agent.free:
            agent.free = resources
        else:
            agent.free = agent.free + resources
        self.free[agent] = None
        total = self.held
        for name, amount in amounts.items():
            total[name] -= amount
        client.role.sorter.unallocated(client.framework.id, amounts)
        self.role_sorter.unallocated(client.role.name, amounts)

    def record(self, agent: Agent, client: Client, resources: Resources) -> None:
        """Note that a client holds something more on an agent, free or not."""
        self._put(agent, client, self._holding(agent, client) + resources)
        self.refree(agent)

    def drop(self, agent: Agent, client: Client) -> bool:
        """Take back all that a client holds on an agent; tell whether it held anything."""
        if client not in agent.held:
            return False
        self._put(agent, client, Resources.EMPTY)
        self.refree(agent)
        return True

    def convert(self, agent: Agent, client: Client, conversions: Iterable[Conversion]) -> None:
        """Apply operations to what a client holds, and to the total."""
        held, total = self._holding(agent, client), agent.total
        try:
            for consumed, converted in conversions:
                held = held - consumed + converted
                if consumed:
                    total = total - consumed + converted
        except NotContained as error:
            raise AllocatorError(
                f"operations of framework {client.framework.id!r} in role {client.role.name!r}"
                f" on agent {agent.id!r} use what is not there: {error}"
            ) from None
        self._put(agent, client, held, adjust=True)
        self.resize(agent, total)

    def convert_free(self, agent: Agent, conversions: Iterable[Conversion]) -> None:
        """Apply operations to what is free, and to the total."""
        free, total = agent.free, agent.total
        try:
            for consumed, converted in conversions:
                free = free - consumed + converted
                total = total - consumed + converted
        except NotContained as error:
            raise AllocatorError(
                f"operations on agent {agent.id!r} use what is not free: {error}"
            ) from None
        self.resize(agent, total)

    def resize(self, agent: Agent, total: Resources) -> None:
        """Set what an agent has."""
        if total != agent.total:
            agent.total = total
            agent.refusing.clear()
            amounts = scalars(total)
            if amounts != agent.totals:
                self.pool.subtract(agent.totals)
                self.pool.add(amounts)
                agent.totals = amounts
            agent.plain = not any(
                key.reservations or key.revocable or key.shared for key, _ in total
            )
        self.refree(agent)

    def refree(self, agent: Agent) -> None:
        """Reckon anew what is free on an agent."""
        total = agent.total
        held = Resources.sum(resources for resources, _ in agent.held.values()).non_shared()
        agent.free = total.minus(held)
        shared = any(key.shared for key, _ in total)
        agent.simple = not shared and total.contains(held)
        if agent.free:
            self.free[agent] = None
        else:
            self.free.pop(agent, None)

    def _holding(self, agent: Agent, client: Client) -> Resources:
        held = agent.held.get(client)
        return Resources.EMPTY if held is None else held[0]

    def _put(
        self, agent: Agent, client: Client, resources: Resources, adjust: bool = False
    ) -> None:
        """
        Set what a client holds on an agent, whatever there is to know about it.

        @param adjust: it is the same, only turned into something else: no new allocation.
        """
        role = client.role
        before = agent.held.get(client, (Resources.EMPTY, {}))[1]
        role_before = self._role_holding(agent, role)
        if resources:
            client.holds += client not in agent.held
            agent.held[client] = (resources, scalars(resources))
        elif agent.held.pop(client, None):
            client.holds -= 1
        after = agent.held.get(client, (Resources.EMPTY, {}))[1]
        for kind in {*before, *after}:
            change = after.get(kind, 0) - before.get(kind, 0)
            self.held[kind] = self.held.get(kind, 0) + change
        role_after = self._role_holding(agent, role)
        for sorter, name, old, new in (
            (role.sorter, client.framework.id, before, after),
            (self.role_sorter, role.name, role_before, role_after),
        ):
            less, more = _difference(old, new), _difference(new, old)
            if adjust or (less and more):
                if less or more:
                    sorter.adjusted(name, less, more)
            elif less:
                sorter.unallocated(name, less)
            else:
                sorter.allocated(name, more)

    def _role_holding(self, agent: Agent, role: Role) -> dict[str, int]:
        """Return the scalars held by a role's clients on an agent, copies of one thing once."""
        parts = [held for client, (held, _) in agent.held.items() if client.role is role]
        return scalars(Resources.sum(parts))

    def _not_held(
        self, agent: Agent, client: Client, wanted: Resources, held: Resources
    ) -> AllocatorError:
        return AllocatorError(
            f"framework {client.framework.id!r} cannot give back {wanted} in role"
            f" {client.role.name!r} on agent {agent.id!r}: it holds {held}"
        )


def _sum(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    result = left.copy()
    for name, amount in right.items():
        result[name] = result.get(name, 0) + amount
    return result


def _difference(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    """Return how much more of each there is on the left."""
    result = {}
    for name, amount in left.items():
        more = amount - right.get(name, 0)
        if more > 0:
            result[name] = more
    return result
