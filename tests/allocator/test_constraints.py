"""Offer constraints: which agents a framework is offered in a role."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.allocator import hierarchical
from mesoskit.allocator.constraints import Constraint, Predicate, Pseudo, RoleConstraints
from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import Reason
from mesoskit.allocator.options import AgentOptions, FrameworkOptions
from mesoskit.model.ids import FrameworkId
from tests.allocator.cluster import Cluster, resources
from tests.base import SynchronousTestCase

AMOUNTS = "cpus:1;mem:128"
SELECTORS: list[Pseudo | str] = ["rack", "os", *Pseudo]
TEXTS = ["a", "b", "ab"]


def exists(selector: Pseudo | str = "rack", negated: bool = False) -> Constraint:
    return Constraint(selector, Predicate.EXISTS, negated)


def equals(value: str, selector: Pseudo | str = "rack", negated: bool = False) -> Constraint:
    return Constraint(selector, Predicate.EQUALS, negated, value)


def begins(value: str, selector: Pseudo | str = "rack", negated: bool = False) -> Constraint:
    """Return a constraint that stands for a regular expression."""
    return Constraint(
        selector, Predicate.MATCHES, negated, value + ".*", lambda text: text.startswith(value)
    )


def wanted(*groups: tuple[Constraint, ...]) -> RoleConstraints:
    return RoleConstraints(groups)


def audit(cluster: Cluster) -> list[str]:
    """Return what in an allocator's books contradicts itself."""
    assert isinstance(cluster.allocator, HierarchicalAllocator)
    return cluster.allocator.audit()


class TableTests(SynchronousTestCase):
    """Every predicate on every kind of value."""

    def test_predicates(self) -> None:
        agents = {
            "absent": AgentOptions(),
            "no text": AgentOptions(named={"rack": None}),
            "the text": AgentOptions(named={"rack": "ab"}),
            "another": AgentOptions(named={"rack": "x"}),
        }
        for constraint, holds in (
            (exists(), [False, True, True, True]),
            (exists(negated=True), [True, False, False, False]),
            (equals("ab"), [False, True, True, False]),
            (equals("ab", negated=True), [True, True, False, True]),
            (begins("a"), [False, True, True, False]),
            (begins("a", negated=True), [True, True, False, True]),
        ):
            found = {name: constraint.holds(agent) for name, agent in agents.items()}
            self.assertEqual(dict(zip(agents, holds, strict=True)), found)

    def test_what_counts_as_an_attribute(self) -> None:
        placed = AgentOptions(hostname="h1", region="eu", zone="eu-1")
        values = {Pseudo.HOSTNAME: "h1", Pseudo.REGION: "eu", Pseudo.ZONE: "eu-1"}
        for selector, value in values.items():
            self.assertTrue(equals(value, selector).holds(placed))
            self.assertFalse(equals("x", selector).holds(placed))
            self.assertTrue(exists(selector).holds(placed))
        nowhere = AgentOptions(hostname="h1", named={"region": "eu", "zone": "eu-1"})
        for selector in (Pseudo.REGION, Pseudo.ZONE):
            self.assertFalse(exists(selector).holds(nowhere))
            self.assertTrue(equals("eu", selector, negated=True).holds(nowhere))

    def test_groups_are_alternatives_of_conditions_that_all_must_hold(self) -> None:
        both = (equals("a"), equals("linux", "os"))
        agents = [
            AgentOptions(named={"rack": "a", "os": "linux"}),
            AgentOptions(named={"rack": "a"}),
            AgentOptions(named={"rack": "b"}),
        ]
        excluded = [wanted(both).excludes(agent) for agent in agents]
        self.assertEqual([False, True, True], excluded)
        excluded = [wanted(both, (equals("b"),)).excludes(agent) for agent in agents]
        self.assertEqual([False, True, False], excluded)

    def test_same_words_are_the_same_constraint(self) -> None:
        self.assertEqual(begins("a"), begins("a"))
        self.assertNotEqual(begins("a"), begins("b"))

    def test_regular_expressions_need_a_matcher(self) -> None:
        self.assertRaises(ValueError, Constraint, "rack", Predicate.MATCHES)
        self.assertRaises(ValueError, Constraint, "rack", Predicate.EXISTS, matches=bool)


def naive(constraint: Constraint, facts: dict[Any, str | None]) -> bool:
    """Tell by the words of Mesos' documentation whether a constraint holds."""
    kind, negated = constraint.predicate, constraint.negated
    if kind is Predicate.EXISTS:
        return (constraint.selector in facts) != negated
    if constraint.selector not in facts:
        return negated
    value = facts[constraint.selector]
    if value is None:
        return True
    if kind is Predicate.EQUALS:
        return (value == constraint.value) != negated
    return value.startswith(constraint.value.removesuffix(".*")) != negated


selectors = st.sampled_from(SELECTORS)
constraints = st.one_of(
    st.builds(exists, selectors, st.booleans()),
    st.builds(equals, st.sampled_from(TEXTS), selectors, st.booleans()),
    st.builds(begins, st.sampled_from(TEXTS), selectors, st.booleans()),
)
asked = st.builds(
    RoleConstraints,
    st.lists(st.lists(constraints, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(
        tuple
    ),
)
places = st.sampled_from([*TEXTS, None])
machines = st.builds(
    AgentOptions,
    hostname=st.sampled_from(TEXTS),
    region=places,
    zone=places,
    named=st.dictionaries(st.sampled_from(["rack", "os"]), places),
)


class PropertyTests(SynchronousTestCase):
    """Whatever is asked for, of whatever agents."""

    @given(asked, machines)
    def test_verdict_is_that_of_a_naive_evaluation(
        self, role: RoleConstraints, agent: AgentOptions
    ) -> None:
        facts: dict[Any, str | None] = {**agent.named, Pseudo.HOSTNAME: agent.hostname}
        facts |= {Pseudo.REGION: agent.region} if agent.region is not None else {}
        facts |= {Pseudo.ZONE: agent.zone} if agent.zone is not None else {}
        excluded = True
        for group in role.groups:
            if all(naive(constraint, facts) for constraint in group):
                excluded = False
        self.assertEqual(excluded, role.excludes(agent))

    @given(st.lists(machines, max_size=4), st.lists(asked, min_size=1, max_size=3))
    def test_offers_are_made_of_just_what_is_not_excluded(
        self, agents: list[AgentOptions], changes: list[RoleConstraints]
    ) -> None:
        cluster = Cluster()
        framework = cluster.framework("r")
        for number, options in enumerate(agents):
            cluster.agent(
                AMOUNTS,
                agent_id=f"a{number}",
                hostname=options.hostname,
                region=options.region,
                zone=options.zone,
                named=options.named,
            )
        # Regions other than the master's are for others.
        mine = [n for n, options in enumerate(agents) if options.region is None]
        for role in changes:
            for offer in list(cluster.offers):
                cluster.free(offer)
            change(cluster, framework, {"r": role})
            offered = sorted(agent for _, _, agent in cluster.settle())
            kept = [f"a{n}" for n in mine if not role.excludes(agents[n])]
            self.assertEqual(sorted(kept), offered)
            self.assertEqual([], audit(cluster))


def change(
    cluster: Cluster, framework: FrameworkId, constraints: dict[str, RoleConstraints], *roles: str
) -> None:
    """Give a framework constraints, in place of those that it had."""
    options = FrameworkOptions(frozenset(roles or ["r"]), constraints=constraints)
    cluster.allocator.update_framework(cluster.now, framework, options)


class OfferTests(SynchronousTestCase):
    """What becomes of offers."""

    def setUp(self) -> None:
        self.cluster = Cluster()
        self.framework = self.cluster.framework("r")
        change(self.cluster, self.framework, {"r": wanted((equals("a"),))})
        self.near = self.cluster.agent(AMOUNTS, named={"rack": "a"})
        self.far = self.cluster.agent(AMOUNTS, named={"rack": "b"})

    def tearDown(self) -> None:
        self.assertEqual([], audit(self.cluster))

    def why(self) -> list[Reason]:
        return [self.cluster.why(self.framework, agent) for agent in (self.near, self.far)]

    def test_excluded_agent_is_not_offered_and_it_is_told_why(self) -> None:
        self.assertEqual([(self.framework, "r", self.near)], self.cluster.settle())
        self.assertEqual([Reason.HELD, Reason.CONSTRAINED], self.why())
        told = self.cluster.explain(self.framework)[self.far]
        self.assertEqual(resources(AMOUNTS), told.available)

    def test_others_are_offered_it(self) -> None:
        other = self.cluster.framework("r")
        self.assertIn((other, "r", self.far), self.cluster.settle())

    def test_other_roles_of_the_framework_are_offered_it(self) -> None:
        change(self.cluster, self.framework, {"r": wanted((equals("a"),))}, "r", "s")
        self.assertIn((self.framework, "s", self.far), self.cluster.settle())

    def test_change_lets_more_be_offered_and_leaves_offers_alone(self) -> None:
        self.cluster.settle()
        change(self.cluster, self.framework, {"r": wanted((equals("b"),))})
        self.assertEqual([(self.framework, "r", self.far)], self.cluster.settle())
        self.assertEqual(2, len(self.cluster.offers))
        self.cluster.free(self.cluster.offers[0])
        self.assertEqual([], self.cluster.settle())
        change(self.cluster, self.framework, {})
        self.assertEqual([(self.framework, "r", self.near)], self.cluster.settle())

    def test_filters_outlast_a_change(self) -> None:
        self.cluster.settle()
        self.cluster.decline_all(60)
        change(self.cluster, self.framework, {})
        self.assertEqual([(self.framework, "r", self.far)], self.cluster.settle())
        self.assertEqual([Reason.FILTERED, Reason.HELD], self.why())

    def test_same_constraints_again_change_nothing(self) -> None:
        self.cluster.settle()
        change(self.cluster, self.framework, {"r": wanted((equals("a"),))})
        self.assertIsNone(self.cluster.allocator.deadline())

    def test_agent_that_becomes_another_is_judged_anew(self) -> None:
        self.cluster.settle()
        for rack, offered in (("a", True), ("b", False), (None, True)):
            options = AgentOptions(hostname=self.far, named={"rack": rack})
            self.cluster.allocator.update_agent(self.cluster.now, self.far, options, None)
            self.assertEqual(
                [(self.framework, "r", self.far)] if offered else [], self.cluster.settle(), rack
            )
            for offer in [one for one in self.cluster.offers if one.agent_id == self.far]:
                self.cluster.decline(offer, 0.0)
            self.cluster.allocator.revive_offers(self.cluster.now, self.framework, [])
            self.cluster.advance(0.001)

    def test_agent_that_left_is_forgotten(self) -> None:
        self.cluster.settle()
        for agent in (self.near, self.far):
            self.cluster.allocator.remove_agent(self.cluster.now, agent)
        self.cluster.agent(AMOUNTS, agent_id=self.far, named={"rack": "a"})
        self.assertEqual([(self.framework, "r", self.far)], self.cluster.settle())

    def test_pass_judges_no_more_than_it_has_time_for(self) -> None:
        self.patch(hierarchical, "_JUDGED_AT_ONCE", 1)
        many = [self.cluster.agent(AMOUNTS, named={"rack": "a"}) for _ in range(20)]
        self.cluster.calls = 0
        made = self.cluster.advance(5)
        self.assertEqual({self.near, *many}, {one.agent_id for one in made})
        self.assertGreater(self.cluster.calls, 10)
        # All is known now.
        for offer in list(self.cluster.offers):
            self.cluster.free(offer)
        self.cluster.calls = 0
        self.assertEqual(21, len(self.cluster.advance(5)))
        self.assertEqual(1, self.cluster.calls)
