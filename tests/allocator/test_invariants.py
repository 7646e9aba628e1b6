"""Whatever happens, in whatever order: the fast allocator against the plain one."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesoskit.allocator import hierarchical
from mesoskit.allocator.constraints import Constraint, Predicate, RoleConstraints
from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import Allocation
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Options
from mesoskit.model.capabilities import FrameworkCapability
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.quantities import Quantities
from mesoskit.model.resources import Resources
from tests import example_count
from tests.allocator.model import (
    Pair,
    PlainAgent,
    PlainAllocator,
    PlainFilter,
    PlainFramework,
    comes_before,
)
from tests.base import SynchronousTestCase

ROLES = ["x", "y", "y/z"]
REVOCABLE = Resources.of(cpus=2).map_keys(lambda key: key.replace(revocable=True))
TOTALS = [
    Resources.parse("cpus:4;mem:256"),
    Resources.parse("cpus:1;mem:512;ports:[1-9]"),
    Resources.parse("cpus:2;mem:64;cpus(y):2;mem(y):64"),
    Resources.parse("cpus(y/z):1;cpus(x):1;mem:16"),
    Resources.parse("cpus:2;mem:64;gpus:1"),
    Resources.parse("cpus:1;mem:64") + REVOCABLE,
]
MINIMUMS: list[dict[str, Any]] = [
    {},
    {"x": [Quantities.of(cpus=2)], "y": []},
    {"y/z": [Quantities.of(mem=100), Quantities.of(cpus=2)]},
]
RACKED = RoleConstraints(
    (
        (Constraint("rack", Predicate.EQUALS, False, "1"),),
        (Constraint("rack", Predicate.EXISTS, True),),
    )
)
CONSTRAINTS: list[dict[str, RoleConstraints]] = [{}, {}, {"x": RACKED}]
SETTLED = 0.4
"""Seconds after which all that was gathered has been allocated, and filters' ends were seen."""

roles = st.frozensets(st.sampled_from(ROLES), min_size=1)
capabilities = st.sampled_from(
    [
        FrameworkCapability(0),
        FrameworkCapability.GPU_RESOURCES,
        FrameworkCapability.REVOCABLE_RESOURCES | FrameworkCapability.GPU_RESOURCES,
    ]
)


class Machine(RuleBasedStateMachine):
    """Drives two equal allocators and a plain one through the same events."""

    frameworks = Bundle("frameworks")
    agents = Bundle("agents")

    @initialize(target=agents, limit=st.sampled_from([1, 3, 2000]))
    def begin(self, limit: int) -> Any:
        options = Options(pass_limit=limit)
        self.twins = [HierarchicalAllocator(options) for _ in range(2)]
        self.plain = PlainAllocator()
        self.now = 50.0
        self.serial = 0
        return multiple(*(self.add_agent(total) for total in TOTALS[:2]))

    def tell(self, verb: str, *arguments: Any) -> None:
        for twin in self.twins:
            getattr(twin, verb)(self.now, *arguments)

    def step(self) -> list[Allocation]:
        """Allocate once, and hold each allocation to the rules."""
        made, same = (twin.allocate(self.now) for twin in self.twins)
        assert made == same, "the same events gave different allocations"
        plain, agent_id = self.plain, ""
        for a in made:
            pair = (a.framework_id, a.role)
            assert plain.offer(self.now, pair, a.agent_id) == a.resources, (a, "must not be made")
            # The order is taken once an agent, as in Mesos.
            if a.agent_id != agent_id:
                agent_id, order = a.agent_id, plain.standings()
            for other in plain.eligible(self.now, agent_id):
                assert comes_before(order[pair], order[other]), (a, other)
            plain.give(a.agent_id, pair, a.resources)
        return made

    @rule(seconds=st.sampled_from([0.001, 0.02, SETTLED, 1.0, 6.0]))
    def advance(self, seconds: float) -> None:
        """Let time pass; given enough of it, everything is allocated that can be."""
        end = self.now + seconds
        while (deadline := self.twins[0].deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.step()
        self.now = end
        for agent_id in self.plain.agents if seconds >= SETTLED else ():
            missed = list(self.plain.eligible(end - SETTLED, agent_id))
            assert not missed, (agent_id, missed)

    # Frameworks.

    @rule(
        target=frameworks,
        roles=roles,
        suppressed=st.frozensets(st.sampled_from(ROLES), max_size=1),
        able=capabilities,
        minimum=st.sampled_from(MINIMUMS),
        constraints=st.sampled_from(CONSTRAINTS),
        active=st.booleans(),
    )
    def add_framework(self, roles, suppressed, able, minimum, constraints, active) -> str:
        self.serial += 1
        name = f"f{self.serial}"
        options = FrameworkOptions(roles, suppressed, able, minimum, constraints)
        self.plain.frameworks[name] = PlainFramework(options, active, False, set(suppressed))
        self.tell("add_framework", FrameworkId(name), options, {}, active)
        return name

    @rule(framework=consumes(frameworks))
    def remove_framework(self, framework: str) -> None:
        del self.plain.frameworks[framework]
        self.plain.clear(framework, set(ROLES))
        for agent in self.plain.agents.values():
            for pair in [pair for pair in agent.held if pair[0] == framework]:
                del agent.held[pair]
        self.tell("remove_framework", framework)

    @rule(
        framework=frameworks,
        roles=roles,
        suppressed=st.frozensets(st.sampled_from(ROLES), max_size=1),
        able=capabilities,
        minimum=st.sampled_from(MINIMUMS),
        constraints=st.sampled_from(CONSTRAINTS),
    )
    def update_framework(self, framework, roles, suppressed, able, minimum, constraints) -> None:
        plain = self.plain.frameworks[framework]
        revived = plain.suppressed - suppressed
        self.plain.clear(framework, revived | (set(ROLES) - roles))
        plain.options = FrameworkOptions(roles, suppressed, able, minimum, constraints)
        plain.suppressed = set(suppressed)
        self.tell("update_framework", framework, plain.options)

    @rule(framework=frameworks, active=st.booleans())
    def switch_framework(self, framework: str, active: bool) -> None:
        self.plain.frameworks[framework].active = active
        if not active:
            self.plain.clear(framework, set(ROLES))
        self.tell("activate_framework" if active else "deactivate_framework", framework)

    @rule(framework=frameworks, congested=st.booleans())
    def congest(self, framework: str, congested: bool) -> None:
        self.plain.frameworks[framework].congested = congested
        self.tell("set_congested", framework, congested)

    @rule(framework=frameworks, chosen=roles)
    def suppress(self, framework: str, chosen: frozenset[str]) -> None:
        plain = self.plain.frameworks[framework]
        chosen &= plain.options.roles
        plain.suppressed |= chosen or plain.options.roles
        self.tell("suppress_offers", framework, chosen)

    @rule(framework=frameworks, chosen=roles)
    def revive(self, framework: str, chosen: frozenset[str]) -> None:
        plain = self.plain.frameworks[framework]
        chosen &= plain.options.roles
        plain.suppressed -= chosen or plain.options.roles
        self.plain.clear(framework, chosen or plain.options.roles)
        self.tell("revive_offers", framework, chosen)

    # Agents.

    @rule(target=agents, total=st.sampled_from(TOTALS))
    def add_agent(self, total: Resources) -> str:
        self.serial += 1
        name = f"a{self.serial}"
        self.plain.agents[name] = PlainAgent(total)
        self.tell("add_agent", AgentId(name), AgentOptions(hostname=name), total, {})
        return name

    @rule(target=agents, framework=frameworks, role=st.sampled_from(ROLES))
    def add_agent_in_use(self, framework: str, role: str) -> str:
        total, used = TOTALS[0], Resources.of(cpus=1, mem=32)
        self.serial += 1
        name = f"a{self.serial}"
        self.plain.agents[name] = PlainAgent(total, held={(framework, role): used})
        options = AgentOptions(hostname=name)
        self.tell("add_agent", AgentId(name), options, total, {framework: {role: used}})
        return name

    @rule(agent=consumes(agents))
    def remove_agent(self, agent: str) -> None:
        del self.plain.agents[agent]
        self.plain.clear_agent(agent)
        self.tell("remove_agent", agent)

    @rule(agent=agents, active=st.booleans())
    def switch_agent(self, agent: str, active: bool) -> None:
        self.plain.agents[agent].active = active
        self.tell("activate_agent" if active else "deactivate_agent", agent)

    @rule(agent=agents, total=st.sampled_from(TOTALS))
    def resize_agent(self, agent: str, total: Resources) -> None:
        self.plain.agents[agent].total = total
        self.tell("update_agent", agent, None, total)

    @rule(agent=agents, attributes=st.sampled_from(["", "rack:1", "rack:2"]))
    def relabel_agent(self, agent: str, attributes: str) -> None:
        if self.plain.agents[agent].attributes != attributes:
            self.plain.clear_agent(agent)
        self.plain.agents[agent].attributes = attributes
        named = {"rack": attributes.removeprefix("rack:")} if attributes else {}
        options = AgentOptions(hostname=agent, attributes=attributes or None, named=named)
        self.tell("update_agent", agent, options, None)

    @rule(role=st.sampled_from(ROLES), weight=st.sampled_from([0.5, 1.0, 3.0]))
    def weigh(self, role: str, weight: float) -> None:
        self.plain.weights[role] = weight
        self.tell("update_weights", {role: weight})

    # What is held.

    def holding(self, which: int) -> tuple[str, Pair, Resources]:
        held = [
            (agent_id, pair, part)
            for agent_id, agent in self.plain.agents.items()
            for pair, part in agent.held.items()
        ]
        return held[which % len(held)]

    def holds(self) -> bool:
        return any(agent.held for agent in self.plain.agents.values())

    @precondition(holds)
    @rule(which=st.integers(0, 99), seconds=st.sampled_from([None, 0.0, 0.5, 5.0, 600.0]))
    def give_all_back(self, which: int, seconds: float | None) -> None:
        """Decline an offer, or end all tasks that came of it."""
        agent_id, pair, part = self.holding(which)
        self.give_back(agent_id, pair, part, seconds)

    @precondition(holds)
    @rule(which=st.integers(0, 99), seconds=st.sampled_from([None, 0.0, 5.0]))
    def give_some_back(self, which: int, seconds: float | None) -> None:
        """Accept an offer in part, or end one of several tasks."""
        agent_id, pair, part = self.holding(which)
        some = Resources.of(cpus=1, mem=16)
        if part.contains(some):
            self.give_back(agent_id, pair, some, seconds)

    @rule(
        seconds=st.sampled_from([0.0, 5.0, 600.0]), wait=st.sampled_from([0.02, SETTLED, 0.9, 5.5])
    )
    def decline_all(self, seconds: float, wait: float) -> None:
        """Decline everything, and let nothing else happen for a while."""
        while self.holds():
            agent_id, pair, part = self.holding(0)
            self.give_back(agent_id, pair, part, seconds)
        self.advance(wait)

    def give_back(self, agent_id: str, pair: Pair, part: Resources, seconds: float | None) -> None:
        self.plain.give_back(agent_id, pair, part)
        if seconds is not None and pair[1] in self.plain.frameworks[pair[0]].options.roles:
            until = self.now + max(seconds, 1.0)
            self.plain.filters.append(PlainFilter(pair, agent_id, part, until))
        self.tell("recover_resources", pair[0], agent_id, pair[1], part, seconds)

    @invariant()
    def the_books_are_in_order(self) -> None:
        if not hasattr(self, "twins"):
            return
        twin = self.twins[0]
        assert twin.audit() == []
        for framework_id in self.plain.frameworks:
            for told in twin.explain(self.now, FrameworkId(framework_id), None):
                agent = self.plain.agents[told.agent_id]
                assert set(told.holders) == set(agent.held)


class InvariantTests(SynchronousTestCase):
    """Safety, liveness, fairness and determinism."""

    def test_whatever_happens(self):
        self.run_machine()

    def test_whatever_happens_where_those_who_refuse_are_not_asked_again(self):
        self.patch(hierarchical, "_FEW_REFUSE", 0)
        self.run_machine()

    def test_whatever_happens_where_a_pass_judges_but_little(self):
        self.patch(hierarchical, "_JUDGED_AT_ONCE", 0)
        self.run_machine()

    def run_machine(self) -> None:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=example_count(100), stateful_step_count=50, deadline=None
            ),
        )


SCRIPT = """
from random import Random
from tests.allocator.cluster import Cluster
random = Random(3)
c = Cluster()
for i in range(12):
    c.framework(*random.sample(["a", "b", "b/c", "d"], 2))
for i in range(30):
    c.agent(random.choice(["cpus:1;mem:64", "cpus:2;mem:64", "cpus(b):1;mem:128"]))
for i in range(40):
    for offer in c.advance(random.choice([0.03, 0.5, 1.1])):
        c.decline(offer, random.choice([0.0, 3.0])) if random.random() < 0.8 else None
    c.allocator.revive_offers(c.now, f"f{random.randrange(12)}", [])
    print([(x.framework_id, x.role, x.agent_id) for x in c.offers])
"""


class DeterminismTests(SynchronousTestCase):
    """The same events give the same allocations, in every process."""

    def test_the_order_of_sets_does_not_matter(self):
        outputs = {
            subprocess.run(
                [sys.executable, "-c", SCRIPT],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                capture_output=True,
                check=True,
                timeout=60,
            ).stdout
            for seed in ("1", "2", "3")
        }
        self.assertEqual(len(outputs), 1)
