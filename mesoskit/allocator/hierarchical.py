"""Mesos' hierarchical allocator: roles by fairness, within a role its frameworks by fairness.

The semantics are those of C{src/master/allocator/mesos/hierarchical.cpp}; the rhythm is our own
(L{mesoskit.allocator.rhythm}). Whole agents are offered, to one framework at a time.

What a pass does for an agent: roles in the sorter's order, in each role frameworks in the
sorter's order, until nothing is left. The first that may be offered what it sees gets all that
it sees. Quota belongs into L{HierarchicalAllocator._divide}: a first round for guarantees, and
offers cut to limits and headroom in L{HierarchicalAllocator._offer}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from zope.interface import implementer

from mesoskit.allocator import report, verdict
from mesoskit.allocator.drf import DRFSorter
from mesoskit.allocator.filters import LONGEST
from mesoskit.allocator.interface import (
    Allocation,
    AllocatorError,
    Conversion,
    Explanation,
    Held,
    IAllocator,
    Reason,
)
from mesoskit.allocator.ledger import Ledger
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Options
from mesoskit.allocator.random_sorter import Randomness, RandomSorter
from mesoskit.allocator.records import LENT, Agent, Client, Framework, View, by_role
from mesoskit.allocator.rhythm import Among, Rhythm
from mesoskit.allocator.sorter import Pool, Sorter
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import Resources

_ELIGIBLE = Reason.ELIGIBLE
_FILTERED = Reason.FILTERED
_RESERVED = Reason.RESERVED
_FEW_REFUSE = 16
"""Where no more clients than this refuse an agent, each is asked again."""
_JUDGED_AT_ONCE = 30_000
"""Conditions of offer constraints that one pass looks at, about: they may be regular expressions,
of microseconds each. What they say of an agent is remembered."""


@implementer(IAllocator)
class HierarchicalAllocator:
    """
    The allocator of a master.

    @param options: how it behaves.
    @param randomness: where random sorters draw from; needed if there are any.
    """

    def __init__(
        self, options: Options | None = None, randomness: Randomness | None = None
    ) -> None:
        self.options = options = options or Options()
        pool = Pool(options.fair_sharing_excluded_resource_names)

        def sorter(kind: str) -> Sorter:
            if kind == "drf":
                return DRFSorter(pool)
            if randomness is None:
                raise AllocatorError("a random sorter needs randomness; give a random.Random")
            return RandomSorter(pool, randomness)

        self._ledger = Ledger(
            options,
            sorter(options.role_sorter),
            lambda: sorter(options.framework_sorter),
            pool,
        )
        self._rhythm = Rhythm(options)
        self._whitelist: frozenset[str] | None = None
        self._recovering: tuple[int, float] | None = None

    # Recovery.

    def recover(self, now: float, expected_agents: int, hold: bool) -> None:
        """Hear, first of all, how many agents were there before a failover."""
        if self._ledger.agents:
            raise AllocatorError("recover comes before the first agent is added, not after it")
        enough = int(expected_agents * self.options.agent_recovery_factor)
        if hold and enough > 0:
            self._recovering = (enough, now + self.options.recovery_timeout)

    # Frameworks.

    def add_framework(
        self,
        now: float,
        framework_id: FrameworkId,
        options: FrameworkOptions,
        used: Mapping[AgentId, Held],
        active: bool = True,
    ) -> None:
        """Take in a framework."""
        ledger = self._ledger
        framework = ledger.frameworks.get(framework_id)
        if framework is None:
            framework = ledger.frameworks[framework_id] = Framework(framework_id, options)
        elif framework.known:
            raise AllocatorError(f"framework {framework_id!r} was added before; update it")
        framework.known = True
        framework.active = active
        framework.options = options
        for agent_id, held in used.items():
            agent = ledger.agents.get(agent_id)
            for role, resources in held.items() if agent is not None else ():
                client = ledger.track(framework_id, role)
                if resources and agent is not None and client not in agent.held:
                    ledger.record(agent, client, resources)
        self._configure(now, framework)

    def remove_framework(self, now: float, framework_id: FrameworkId) -> None:
        """Forget a framework; all that it holds is free."""
        framework = self._ledger.framework(framework_id)
        framework.known = False
        for client in list(framework.clients.values()):
            for agent in self._ledger.agents.values():
                if not client.holds:
                    break
                if self._ledger.drop(agent, client):
                    self._rhythm.changed(now, agent)
            self._ledger.untrack(client)
            self._rhythm.forget_client(client)
        self._ledger.frameworks.pop(framework_id, None)

    def update_framework(
        self, now: float, framework_id: FrameworkId, options: FrameworkOptions
    ) -> None:
        """Change a framework's options; suppressed roles as they are given."""
        framework = self._ledger.framework(framework_id)
        revived = framework.options.suppressed_roles - options.suppressed_roles
        framework.options = options
        for role, client in list(framework.clients.items()):
            if role in revived or role not in options.roles:
                self._rhythm.filters.clear(client)
        self._configure(now, framework)

    def activate_framework(self, now: float, framework_id: FrameworkId) -> None:
        """Make offers to a framework."""
        framework = self._ledger.framework(framework_id)
        framework.active = True
        self._settle(now, framework)

    def deactivate_framework(self, now: float, framework_id: FrameworkId) -> None:
        """Make no more offers; its filters end, what it holds stays held."""
        framework = self._ledger.framework(framework_id)
        framework.active = False
        self._settle(now, framework)
        for client in framework.clients.values():
            self._rhythm.filters.clear(client)

    def set_congested(self, now: float, framework_id: FrameworkId, congested: bool) -> None:
        """Make no offers while a framework's link is congested; its filters stay."""
        framework = self._ledger.framework(framework_id)
        framework.congested = congested
        self._settle(now, framework)

    def suppress_offers(
        self, now: float, framework_id: FrameworkId, roles: Collection[str]
    ) -> None:
        """Make a framework no offers for some of its roles."""
        framework = self._ledger.framework(framework_id)
        self._suppress(
            framework, framework.options.suppressed_roles | self._named(framework, roles)
        )
        self._settle(now, framework)

    def revive_offers(self, now: float, framework_id: FrameworkId, roles: Collection[str]) -> None:
        """Make it offers again, and end its filters in these roles."""
        framework = self._ledger.framework(framework_id)
        named = self._named(framework, roles)
        self._suppress(framework, framework.options.suppressed_roles - named)
        for role in sorted(named):
            client = framework.clients[role]
            self._rhythm.filters.clear(client)
            self._ledger.settle(client)
            if client.active:
                self._rhythm.eager(now, client)

    def request_resources(
        self, now: float, framework_id: FrameworkId, requests: Sequence[object]
    ) -> None:
        """Hear what a framework would like; nothing depends on it, as in Mesos."""
        self._ledger.framework(framework_id)

    def _named(self, framework: Framework, roles: Collection[str]) -> frozenset[str]:
        """Return the roles meant, all where none is named; L{AllocatorError} for another's."""
        strange = sorted(set(roles) - framework.options.roles)
        if strange:
            raise AllocatorError(
                f"framework {framework.id!r} is not subscribed to {', '.join(map(repr, strange))};"
                f" it is to {', '.join(map(repr, sorted(framework.options.roles)))}"
            )
        return frozenset(roles) or framework.options.roles

    @staticmethod
    def _suppress(framework: Framework, roles: frozenset[str]) -> None:
        framework.options = replace(framework.options, suppressed_roles=roles)

    def _configure(self, now: float, framework: Framework) -> None:
        """Bring a framework's clients in line with its options."""
        ledger = self._ledger
        for role in sorted(framework.options.roles):
            ledger.track(framework.id, role)
        default = self.options.min_allocatable_resources
        for client in list(framework.clients.values()):
            if ledger.untrack(client):
                self._rhythm.forget_client(client)
            elif client.configure(default):
                self._rhythm.filters.reconsider(client)
                if client.active:
                    self._rhythm.eager(now, client)
        self._settle(now, framework)

    def _settle(self, now: float, framework: Framework) -> None:
        for client in framework.clients.values():
            if self._ledger.settle(client):
                self._rhythm.eager(now, client)

    # Agents.

    def add_agent(
        self,
        now: float,
        agent_id: AgentId,
        options: AgentOptions,
        total: Resources,
        used: Mapping[FrameworkId, Held],
    ) -> None:
        """Take in an agent, active."""
        ledger = self._ledger
        if agent_id in ledger.agents:
            raise AllocatorError(f"agent {agent_id!r} was added before; update it")
        agent = ledger.agents[agent_id] = Agent(agent_id, options)
        ledger.resize(agent, total)
        for framework_id, held in used.items():
            for role, resources in held.items():
                if resources:
                    ledger.record(agent, ledger.track(framework_id, role), resources)
        self._classify(agent)
        self._rhythm.changed(now, agent)
        if self._recovering is not None and len(ledger.agents) >= self._recovering[0]:
            self._recovering = None

    def remove_agent(self, now: float, agent_id: AgentId) -> None:
        """Forget an agent, what is held there and the filters on it."""
        ledger = self._ledger
        agent = ledger.agent(agent_id)
        for client in list(agent.held):
            ledger.drop(agent, client)
            ledger.untrack(client)
        self._clear_filters(agent)
        self._judge_anew(agent)
        ledger.resize(agent, Resources.EMPTY)
        ledger.free.pop(agent, None)
        del ledger.agents[agent_id]
        self._rhythm.forget_agent(agent)

    def update_agent(
        self,
        now: float,
        agent_id: AgentId,
        options: AgentOptions | None = None,
        total: Resources | None = None,
    ) -> None:
        """Change what an agent is or has; what is L{None} stays."""
        agent = self._ledger.agent(agent_id)
        before = (agent.options, agent.total)
        if options is not None:
            if options.attributes != agent.options.attributes:
                self._clear_filters(agent)
            if options != agent.options:
                self._judge_anew(agent)
            agent.options = options
        if total is not None:
            self._ledger.resize(agent, total)
        if (agent.options, agent.total) != before:
            self._classify(agent)
            self._rhythm.changed(now, agent)

    def activate_agent(self, now: float, agent_id: AgentId) -> None:
        """Offer an agent again."""
        agent = self._ledger.agent(agent_id)
        agent.active = True
        self._classify(agent)
        self._rhythm.changed(now, agent)

    def deactivate_agent(self, now: float, agent_id: AgentId) -> None:
        """Offer an agent no more; filters on it stay."""
        agent = self._ledger.agent(agent_id)
        agent.active = False
        self._classify(agent)

    def update_whitelist(self, now: float, hostnames: Collection[str] | None) -> None:
        """Offer only agents of these host names; L{None} for all."""
        self._whitelist = None if hostnames is None else frozenset(hostnames)
        for agent in self._ledger.agents.values():
            before = agent.listed
            self._classify(agent)
            if agent.listed and not before:
                self._rhythm.changed(now, agent)

    def _classify(self, agent: Agent) -> None:
        """Work out of an agent's options what passes ask about it."""
        options = agent.options
        agent.listed = self._whitelist is None or options.hostname in self._whitelist
        agent.offerable = agent.active and agent.listed
        agent.remote = options.region is not None and options.region != self.options.region
        able = options.capabilities
        agent.gpu = self.options.filter_gpu_resources and agent.totals.get("gpus", 0) > 0
        agent.picky = agent.gpu or agent.remote or not able.multi_role or not able.hierarchical_role

    def _clear_filters(self, agent: Agent) -> None:
        self._rhythm.filters.clear_agent(agent, self._clients())

    def _judge_anew(self, agent: Agent) -> None:
        """Have offer constraints asked about an agent again."""
        for client in self._clients():
            client.judged.pop(agent, None)

    def _clients(self) -> Iterator[Client]:
        return (c for role in self._ledger.roles.values() for c in role.clients.values())

    # Who is worth how much.

    def update_weights(self, now: float, weights: Mapping[str, float]) -> None:
        """Set the weights of roles; those not named stay."""
        for role, weight in weights.items():
            if not weight > 0:
                raise AllocatorError(
                    f"the weight of role {role!r} is {weight!r}; it must be above 0"
                )
        for role, weight in weights.items():
            self._ledger.role_sorter.update_weight(role, weight)

    # What is held.

    def update_allocation(
        self,
        now: float,
        framework_id: FrameworkId,
        agent_id: AgentId,
        role: str,
        conversions: Iterable[Conversion],
    ) -> None:
        """Hear that operations changed what a framework holds, and the agent's total with it."""
        ledger = self._ledger
        agent = ledger.agent(agent_id)
        client = ledger.framework(framework_id).clients.get(role)
        if client is None or client not in agent.held:
            raise AllocatorError(
                f"framework {framework_id!r} holds nothing in role {role!r} on agent {agent_id!r}"
                " that an operation could change"
            )
        free = agent.free
        ledger.convert(agent, client, conversions)
        self._classify(agent)
        if agent.free != free:
            self._rhythm.changed(now, agent)

    def update_available(
        self, now: float, agent_id: AgentId, conversions: Iterable[Conversion]
    ) -> None:
        """Hear that an operator's operations change what is free."""
        agent = self._ledger.agent(agent_id)
        self._ledger.convert_free(agent, conversions)
        self._classify(agent)
        self._rhythm.changed(now, agent)

    def recover_resources(
        self,
        now: float,
        framework_id: FrameworkId,
        agent_id: AgentId,
        role: str,
        resources: Resources,
        refuse_seconds: float | None = None,
    ) -> None:
        """Take back what was offered or used; unknown frameworks and agents are passed over."""
        ledger = self._ledger
        agent = ledger.agents.get(agent_id)
        framework = ledger.frameworks.get(framework_id)
        if agent is None or framework is None or not resources:
            return
        client = framework.clients.get(role)
        if client is None:
            raise AllocatorError(
                f"framework {framework_id!r} cannot give back {resources} on agent {agent_id!r}:"
                f" it holds nothing in role {role!r}"
            )
        ledger.release(agent, client, resources)
        if refuse_seconds is None:
            self._rhythm.freed(now, agent)
        else:
            if framework.known and role in framework.options.roles:
                self._rhythm.filters.add(
                    client, agent, resources, now + self._refusal(refuse_seconds)
                )
            self._rhythm.changed(now, agent)
        if not client.holds and not client.active and ledger.untrack(client):
            self._rhythm.forget_client(client)

    def _refusal(self, refuse_seconds: float) -> float:
        """Return how many seconds a filter lasts, given what the framework asked for."""
        if not refuse_seconds >= 0:
            refuse_seconds = self.options.default_refuse_seconds
        return max(self.options.allocation_interval, min(refuse_seconds, LONGEST))

    # Passes.

    def deadline(self) -> float | None:
        """Return when C{allocate} wants to be called next; L{None} if nothing is pending."""
        if self._recovering is not None:
            return self._recovering[1]
        return self._rhythm.deadline()

    def allocate(self, now: float) -> list[Allocation]:
        """Decide on what has been gathered, if it is time."""
        if self._recovering is not None:
            if now < self._recovering[1]:
                return []
            self._recovering = None
        work = self._rhythm.take(now, self._ledger.free)
        if work is None:
            return []
        allocations: list[Allocation] = []
        shared: tuple[Among, dict[str, set[str]]] = (None, {})
        judged = 0
        for number, (agent, among) in enumerate(work):
            if judged > _JUDGED_AT_ONCE:
                self._rhythm.put_back(now, work[number:])
                break
            agent.due = False
            agent.judging = 0
            if not agent.free or not agent.offerable or agent.window is not None:
                continue
            if among is None:
                self._divide_all(now, agent, allocations)
            else:
                if among is not shared[0]:
                    shared = (among, by_role(among))
                self._divide(now, agent, shared[1], allocations)
            if agent.lent:
                # Others may be offered what is shared as well, but each in a pass of his own.
                agent.lent = 0
                self._rhythm.later(now, agent)
            judged += agent.judging
        return allocations

    def _divide_all(self, now: float, agent: Agent, allocations: list[Allocation]) -> None:
        """Divide what is free on an agent among all, but for those known to refuse it."""
        free, refusing = agent.free, agent.refusing
        if not refusing or not agent.refused.contains(free):
            refusing.clear()
            agent.refused = free
        among = None
        if len(refusing) > _FEW_REFUSE:
            among = by_role(self._ledger.actives.keys() - refusing.keys())
        refused = self._divide(now, agent, among, allocations)
        if refused and (agent.refused is free or len(refused) > _FEW_REFUSE):
            agent.refused = free
            refusing.update(dict.fromkeys(refused))

    def _divide(
        self,
        now: float,
        agent: Agent,
        among: dict[str, set[str]] | None,
        allocations: list[Allocation],
    ) -> list[Client]:
        """
        Offer what is free on an agent to whoever comes first, and what he leaves to the next.

        Returns those whose filters block all that was free.
        """
        roles = self._ledger.roles
        refused: list[Client] = []
        whole = True
        for name in self._ledger.role_sorter.sort(among):
            role = roles[name]
            clients = role.clients
            for framework_id in role.sorter.sort(None if among is None else among[name]):
                client = clients[framework_id]
                view = agent.view(client)
                reason = verdict.of_pair(client, agent, view)
                if reason is _ELIGIBLE:
                    allocations.append(self._offer(now, agent, client, view))
                    if not agent.free:
                        return refused
                    whole = False
                elif reason is _FILTERED:
                    if whole:
                        refused.append(client)
                elif reason is _RESERVED:
                    break
        return refused

    def _offer(self, now: float, agent: Agent, client: Client, view: View) -> Allocation:
        """Give a client what it sees of an agent."""
        resources = view.resources
        self._ledger.hold(agent, client, resources, view.scalars)
        agent.last = client
        agent.last_at = now
        if not agent.plain and resources.shared():
            agent.lent = LENT
        return Allocation(client.framework.id, client.role.name, agent.id, resources)

    # What happened, and why.

    def explain(
        self, now: float, framework_id: FrameworkId, role: str | None = None
    ) -> list[Explanation]:
        """Tell agent by agent why a framework is or is not offered it."""
        framework = self._ledger.framework(framework_id)
        until = None if self._recovering is None else self._recovering[1]
        return report.explain(self.options, self._ledger, self._rhythm, framework, role, until)

    @property
    def latency(self) -> float:
        """Seconds that the first change of the last pass had waited for it."""
        return self._rhythm.latency

    def metrics(self) -> dict[str, float]:
        """Return gauges and counters by the names Mesos gives them."""
        return report.metrics(self._ledger, self._rhythm)

    def audit(self) -> list[str]:
        """Return what in the books contradicts itself: nothing, if all is well. Not cheap."""
        return report.audit(self.options, self._ledger)
