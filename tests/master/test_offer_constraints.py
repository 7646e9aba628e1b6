"""Offer constraints: what is refused, what holds, and what is shown of them."""

from __future__ import annotations

import json
from typing import Any

import orjson

from mesoskit.app.patterns import compiler
from mesoskit.master.offer_constraints import MOST
from mesoskit.messages.codec import from_json, to_dict
from mesoskit.messages.mesos_pb2 import Attribute, Value
from mesoskit.messages.scheduler_pb2 import Call, Event, OfferConstraints
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import FrameworkId, PeerId
from mesoskit.wire.link import Hello
from tests.base import SynchronousTestCase
from tests.master.bench import (
    MULTI_ROLE,
    Bench,
    drops,
    events,
    framework_info,
    registration,
    reregistration,
    scheduler_call,
    subscription,
)
from tests.master.http_peers import JSON, HttpTestCase
from tests.web.asking import ask


def constraint(
    predicate: str, value: str | None = None, name: str = "rack", pseudo: str | None = None
) -> dict[str, Any]:
    """Return a constraint in JSON."""
    selector = {"attribute_name": name} if pseudo is None else {"pseudoattribute_type": pseudo}
    key = "regex" if "matches" in predicate else "value"
    return {
        "selector": selector,
        "predicate": {predicate: {} if value is None else {key: value}},
    }


def constraints(*groups: list[Any], role: str = "a") -> OfferConstraints:
    """Return the constraints of one role."""
    said = {"groups": [{"attribute_constraints": group} for group in groups]}
    return from_json(OfferConstraints, orjson.dumps({"role_constraints": {role: said}}))


RACK_1 = constraints([constraint("text_equals", "1")])


def attribute(name: str, text: str) -> Attribute:
    return Attribute(name=name, type=Value.TEXT, text=Value.Text(value=text))


class Constrained(SynchronousTestCase):
    """
    A master, and a framework in the role C{a}.

    @ivar effects: of the last subscription.
    """

    def setUp(self) -> None:
        self.bench = Bench(compile_regex=compiler())

    def subscribe(self, said: OfferConstraints, **fields: Any) -> PeerId:
        call = subscription(MULTI_ROLE, **{"roles": ["a"], "failover_timeout": 60.0, **fields})
        call.subscribe.offer_constraints.CopyFrom(said)
        self.peer = peer = self.bench.connect(PeerKind.FRAMEWORK)
        self.effects = self.bench.receive(peer, call)
        for event in events(self.effects, peer, Event.SUBSCRIBED):
            self.framework_id = FrameworkId(event.subscribed.framework_id.value)
        return peer

    def update(self, said: OfferConstraints, **fields: Any) -> tuple[int, str]:
        """Send UPDATE_FRAMEWORK; return the answer."""
        fields = {"roles": ["a"], "failover_timeout": 60.0, **fields}
        call = scheduler_call(Call.UPDATE_FRAMEWORK, self.framework_id)
        info = framework_info(self.framework_id, MULTI_ROLE, **fields)
        call.update_framework.framework_info.CopyFrom(info)
        call.update_framework.offer_constraints.CopyFrom(said)
        answer, self.effects = self.bench.ask(self.peer, call)
        return answer

    def agent(self, hostname: str, *attributes: Attribute) -> PeerId:
        message = registration(hostname)
        message.slave.attributes.extend(attributes)
        peer = self.bench.connect(PeerKind.AGENT)
        self.bench.receive(peer, message)
        return peer

    def offered(self) -> list[str]:
        """Return the hosts that the framework is offered from now on."""
        effects = self.bench.run_until(self.bench.now + 3)
        made = events(effects, self.peer, Event.OFFERS)
        return sorted(offer.hostname for event in made for offer in event.offers.offers)


class RefusalTests(Constrained):
    """What is wrong, in Mesos' words."""

    def check(self, said: OfferConstraints, text: str) -> None:
        text = f"Offer constraints are not valid: {text}"
        peer = self.subscribe(said)
        (event,) = events(self.effects, peer, Event.ERROR)
        self.assertEqual(text, event.error.message)
        self.assertEqual([peer], drops(self.effects))
        self.subscribe(RACK_1)
        answer = self.update(said)
        self.assertEqual((400, f"'UpdateFramework' call is not valid: {text}"), answer)
        # What it had still holds.
        self.assertEqual(RACK_1, self.bench.state.frameworks[self.framework_id].constraints.message)

    def test_role_without_groups(self) -> None:
        self.check(
            constraints(),
            "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for"
            " role a",
        )

    def test_empty_group(self) -> None:
        self.check(
            constraints([]),
            "'OfferConstraints::RoleConstraints::groups' for role acontains an empty"
            " RoleConstraints::Group",
        )

    def test_no_predicate(self) -> None:
        said = constraints([constraint("exists")])
        said.role_constraints["a"].groups[0].attribute_constraints[0].predicate.Clear()
        self.check(said, "A role a has an invalid 'AttributeConstraint': Unknown predicate type")

    def test_no_selector(self) -> None:
        said = constraints([constraint("exists")])
        said.role_constraints["a"].groups[0].attribute_constraints[0].selector.Clear()
        self.check(
            said,
            "A role a has an invalid 'AttributeConstraint': Exactly one of"
            " 'AttributeConstraint::Selector::name' or"
            " 'AttributeConstraint::Selector::pseudoattribute_type' must be set",
        )

    def test_unknown_pseudoattribute(self) -> None:
        self.check(
            constraints([constraint("exists", pseudo="UNKNOWN")]),
            "A role a has an invalid 'AttributeConstraint': Unknown pseudoattribute type",
        )

    def test_regular_expression_that_is_none(self) -> None:
        for predicate in ("text_matches", "text_not_matches"):
            self.check(
                constraints([constraint(predicate, "((")]),
                "A role a has an invalid 'AttributeConstraint': Failed to construct regex from"
                " pattern '((': missing ): ((",
            )

    def test_regular_expression_that_is_too_complex(self) -> None:
        prefix = "A role a has an invalid 'AttributeConstraint': "
        self.subscribe(constraints([constraint("text_matches", "(a+){10}")]))
        self.assertEqual([], events(self.effects, self.peer, Event.ERROR))
        self.subscribe(constraints([constraint("text_matches", "(a+){50}")]))
        (event,) = events(self.effects, self.peer, Event.ERROR)
        self.assertIn(f"{prefix}Regex '(a+){{50}}' is too complex: ", event.error.message)
        self.assertIn(" is larger than maximum of 100 allowed", event.error.message)
        self.check(
            constraints([constraint("text_matches", "(a+){500}")]),
            f"{prefix}Failed to construct regex from pattern '(a+){{500}}': pattern too large -"
            " compile failed",
        )

    def test_regular_expression_where_there_is_no_re2(self) -> None:
        self.bench = Bench()
        self.check(
            constraints([constraint("text_matches", "a")]),
            "A role a has an invalid 'AttributeConstraint': Failed to construct regex from"
            " pattern 'a': this master has no RE2; install google-re2 beside it"
            " (pip install 'mesoskit[re2]')",
        )

    def test_too_many(self) -> None:
        one = constraint("exists")
        self.subscribe(constraints([one] * (MOST - 1), [one]))
        self.assertEqual([], events(self.effects, self.peer, Event.ERROR))
        self.check(
            constraints([one] * MOST, [one]),
            f"there are {MOST + 1} attribute constraints; a framework may have {MOST} at most",
        )

    def test_foreign_role(self) -> None:
        text = (
            "Offer constraints specify `role_constraints` for a role 'c'not contained in the set"
            " of roles"
        )
        said = constraints([constraint("exists")], role="c")
        self.subscribe(said)
        (event,) = events(self.effects, self.peer, Event.ERROR)
        self.assertEqual(text, event.error.message)
        self.subscribe(RACK_1)
        self.assertEqual((400, f"'UpdateFramework' call is not valid: {text}"), self.update(said))
        # Its own constraints cannot outlast its role either.
        answer = self.update(RACK_1, roles=["c"])
        text = text.replace("'c'", "'a'")
        self.assertEqual((400, f"'UpdateFramework' call is not valid: {text}"), answer)


class HoldingTests(Constrained):
    """Which agents are offered."""

    def setUp(self) -> None:
        super().setUp()
        self.agent("one", attribute("rack", "1"))
        self.agent("two", attribute("rack", "2"))
        self.bare = self.agent("none")

    def test_nothing_is_asked_for(self) -> None:
        self.subscribe(OfferConstraints())
        self.assertEqual(["none", "one", "two"], self.offered())

    def test_each_predicate(self) -> None:
        for predicate, value, hosts in (
            ("exists", None, ["one", "two"]),
            ("not_exists", None, ["none"]),
            ("text_equals", "1", ["one"]),
            ("text_not_equals", "1", ["none", "two"]),
            ("text_matches", "[2-9]", ["two"]),
            ("text_matches", "", []),
            ("text_not_matches", "[2-9]", ["none", "one"]),
        ):
            self.subscribe(constraints([constraint(predicate, value)]))
            self.assertEqual(hosts, self.offered(), (predicate, value))
            self.bench.receive(self.peer, scheduler_call(Call.TEARDOWN, self.framework_id))

    def test_regular_expressions_match_the_whole_text(self) -> None:
        self.agent("ten", attribute("rack", "10"))
        self.subscribe(constraints([constraint("text_matches", "1")]))
        self.assertEqual(["one"], self.offered())

    def test_hostname(self) -> None:
        self.subscribe(constraints([constraint("text_matches", "t.*", pseudo="HOSTNAME")]))
        self.assertEqual(["two"], self.offered())

    def test_first_of_two_attributes_of_a_name_counts(self) -> None:
        self.agent("both", attribute("rack", "2"), attribute("rack", "1"))
        self.subscribe(RACK_1)
        self.assertEqual(["one"], self.offered())

    def test_what_is_no_text_is_not_compared(self) -> None:
        scalar = Attribute(name="rack", type=Value.SCALAR, scalar=Value.Scalar(value=7))
        self.agent("seven", scalar)
        self.subscribe(RACK_1)
        self.assertEqual(["one", "seven"], self.offered())

    def test_role_without_constraints_is_offered_all(self) -> None:
        self.subscribe(RACK_1, roles=["a", "b"])
        effects = self.bench.run_until(self.bench.now + 3)
        roles = {
            offer.hostname: offer.allocation_info.role
            for event in events(effects, self.peer, Event.OFFERS)
            for offer in event.offers.offers
        }
        self.assertEqual({"one", "two", "none"}, set(roles))
        self.assertEqual({"b"}, {roles["two"], roles["none"]})

    def test_update_rescinds_nothing_and_holds_from_then_on(self) -> None:
        self.subscribe(RACK_1)
        self.assertEqual(["one"], self.offered())
        answer = self.update(constraints([constraint("text_equals", "2")]))
        self.assertEqual(((202, ""), []), (answer, self.effects))
        self.assertEqual(1, len(self.bench.state.offers))
        self.assertEqual(["two"], self.offered())
        self.assertEqual((202, ""), self.update(OfferConstraints()))
        self.assertEqual(["none"], self.offered())

    def test_failover_brings_its_own(self) -> None:
        self.subscribe(RACK_1)
        self.assertEqual(["one"], self.offered())
        again = constraints([constraint("text_equals", "2")])
        self.subscribe(again, id=self.framework_id)
        self.assertEqual(["two"], self.offered())
        self.subscribe(OfferConstraints(), id=self.framework_id)
        self.assertEqual(["none", "one", "two"], self.offered())

    def test_framework_that_was_away_is_offered_what_it_asked_for(self) -> None:
        self.subscribe(RACK_1)
        self.bench.lose(self.peer)
        self.subscribe(RACK_1, id=self.framework_id)
        self.assertEqual(["one"], self.offered())

    def test_agent_comes_back_with_other_attributes(self) -> None:
        self.subscribe(RACK_1)
        self.assertEqual(["one"], self.offered())
        agent = self.bench.state.peers[self.bare].agent
        assert agent is not None
        self.bench.lose(self.bare)
        message = reregistration(agent.id, "none")
        message.slave.attributes.append(attribute("rack", "1"))
        self.bench.receive(self.bench.connect(PeerKind.AGENT), message)
        self.assertEqual(["none"], self.offered())


class ShownTests(HttpTestCase):
    """A framework over HTTP, and what operators see of its constraints."""

    def setUp(self) -> None:
        super().setUp()
        for hostname, rack in (("one", "1"), ("two", "2")):
            agent = self.connect(Hello(role=2))
            message = registration(hostname)
            message.slave.attributes.append(attribute("rack", rack))
            agent.link.send(message)
            self.turn()
        self.said = constraints([constraint("text_equals", "1")], role="*")
        call = subscription(failover_timeout=60)
        call.subscribe.offer_constraints.CopyFrom(self.said)
        self.framework = self.stream(call)
        self.clock.advance(0.1)
        self.turn()

    def get(self, path: str) -> Any:
        return ask(self.service.port, f"GET {path}", self.turn).json()

    def operator(self) -> Any:
        body = json.dumps({"type": "GET_FRAMEWORKS"})
        answer = ask(
            self.service.port,
            "POST /api/v1",
            self.turn,
            body,
            Content_Type=JSON,
            Accept=JSON,
        )
        (framework,) = answer.json()["get_frameworks"]["frameworks"]
        return framework["offer_constraints"]

    def test_stream_has_offers_of_what_was_asked_for(self) -> None:
        made = [event for event in self.framework.events() if event["type"] == "OFFERS"]
        hosts = [offer["hostname"] for event in made for offer in event["offers"]["offers"]]
        self.assertEqual(["one"], hosts)

    def test_refusal_ends_the_stream(self) -> None:
        call = subscription()
        call.subscribe.offer_constraints.CopyFrom(constraints(role="*"))
        stream = self.stream(call)
        self.assertEqual((["ERROR"], True), (stream.types(), stream.ended))

    def test_operators_see_them_until_they_change(self) -> None:
        shown = to_dict(self.said)
        for expected in (shown, {}):
            for path in ("/frameworks", "/state"):
                (framework,) = self.get(path)["frameworks"]
                self.assertEqual(expected, framework["offer_constraints"], path)
            self.assertEqual(expected, self.operator())
            framework_id = self.framework.framework_id
            call = scheduler_call(Call.UPDATE_FRAMEWORK, framework_id)
            info = subscription(id=framework_id, failover_timeout=60).subscribe.framework_info
            call.update_framework.framework_info.CopyFrom(info)
            self.assertEqual(200, self.post(call, self.framework.id)[0])

    def test_what_they_exclude_is_told(self) -> None:
        agents = {one.info.hostname: one.id for one in self.service.state.agents.values()}
        framework_id = self.framework.framework_id
        expected: dict[str, Any] = {
            "suppressed_roles": [],
            "excluded_by_attribute_constraints": {"*": [agents["two"]]},
        }
        shown = self.get("/allocator/offer_constraints_debug")
        self.assertEqual({"frameworks": {framework_id: expected}}, shown)
        (told,) = self.get(f"/offers/explain?role=*&agent_id={agents['two']}")["frameworks"]
        self.assertEqual("CONSTRAINED", told["agents"][0]["reason"])
