"""SUBSCRIBE and UPDATE_FRAMEWORK: every row of the table in C{mesoskit.master.subscribe}."""

from __future__ import annotations

from typing import Any

from mesoskit.messages.mesos_pb2 import FrameworkInfo, Offer
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Answer, Congestion, PeerKind, Received, Send
from mesoskit.model.ids import FrameworkId, PeerId
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    MULTI_ROLE,
    Bench,
    drops,
    events,
    framework_info,
    reported,
    reregistration,
    scheduler_call,
    sent,
    subscription,
    update,
)


def errors(effects: list[Any], peer: PeerId) -> list[str]:
    """Return the texts of the ERROR events that a framework is sent."""
    return [event.error.message for event in events(effects, peer, Event.ERROR)]


class Subscribing(SynchronousTestCase):
    """New frameworks, and frameworks that are back."""

    def setUp(self) -> None:
        self.bench = Bench()

    def _subscribe(self, *capabilities: int, **fields: Any) -> tuple[PeerId, list[Any]]:
        peer = self.bench.connect(PeerKind.FRAMEWORK, "127.0.0.1:50000")
        return peer, self.bench.receive(peer, subscription(*capabilities, **fields))

    def test_new_framework_gets_an_id_and_the_master_s_own_description(self) -> None:
        peer = self.bench.connect(PeerKind.FRAMEWORK)
        expected = Event(type=Event.SUBSCRIBED)
        expected.subscribed.framework_id.value = self.bench.state.info.id + "-0000"
        expected.subscribed.heartbeat_interval_seconds = 15.0
        expected.subscribed.master_info.CopyFrom(self.bench.state.info)
        self.assertEqual([Send(peer, expected)], self.bench.receive(peer, subscription()))

    def test_answer_comes_before_the_first_event(self) -> None:
        peer = self.bench.connect(PeerKind.FRAMEWORK)
        effects = self.bench.state.handle(0.0, Received(peer, subscription(), 9))
        self.assertEqual(Answer(peer, 9), effects[0])

    def test_ids_count_up(self) -> None:
        _, first = self.bench.subscribe()
        _, second = self.bench.subscribe()
        self.assertEqual(["0000", "0001"], [one.rsplit("-", 1)[1] for one in (first, second)])

    def test_id_that_nobody_has_is_taken(self) -> None:
        agent, _ = self.bench.register()
        peer, effects = self._subscribe(id="my-own-id-0001")
        (event,) = events(effects, peer)
        self.assertEqual("my-own-id-0001", event.subscribed.framework_id.value)
        (message,) = sent(effects, agent)
        self.assertEqual(framework_info("my-own-id-0001"), message.framework_info)
        self.assertEqual("@0.0.0.0:0", message.pid)

    def test_subscribed_elsewhere_fails_over(self) -> None:
        first, framework_id = self.bench.subscribe(failover_timeout=20)
        self.bench.register()
        self.bench.offer(first)
        second, effects = self._subscribe(id=framework_id, failover_timeout=20)
        self.assertEqual(["Framework failed over"], errors(effects, first))
        self.assertEqual([first], drops(effects))
        (event,) = events(effects, second)
        self.assertEqual(Event.SUBSCRIBED, event.type)
        self.assertEqual({}, self.bench.state.offers)
        self.assertEqual(framework_id, self.bench.offer(second).framework_id.value)

    def test_what_the_old_link_still_says_is_not_believed(self) -> None:
        first, framework_id = self.bench.subscribe(failover_timeout=20)
        self._subscribe(id=framework_id, failover_timeout=20)
        self.assertEqual([], self.bench.receive(first, scheduler_call(Call.TEARDOWN, framework_id)))
        self.assertIn(framework_id, self.bench.state.frameworks)
        self.bench.lose(first)
        self.assertTrue(self.bench.state.frameworks[framework_id].connected)

    def test_instance_that_could_not_be_told_does_not_take_it_back(self) -> None:
        first, framework_id = self._instance("one")
        self.bench.lose(first)
        second, _ = self._instance("two", framework_id)
        third, framework_id = self._instance("one", framework_id)
        self.assertEqual(["Framework failed over"], errors(self.effects, third))
        self.assertEqual([third], drops(self.effects))
        self.assertTrue(self.bench.state.frameworks[FrameworkId(framework_id)].connected)
        # Its own instance may come back whenever it likes, over another link too.
        fourth, _ = self._instance("two", framework_id)
        self.assertEqual(["Framework failed over"], errors(self.effects, second))
        self.assertEqual([], errors(self.effects, fourth))
        # And where nobody is, anybody may.
        self.bench.lose(fourth)
        fifth, _ = self._instance("one", framework_id)
        self.assertEqual([], errors(self.effects, fifth))
        sixth, _ = self._instance("two", framework_id)
        self.assertEqual(["Framework failed over"], errors(self.effects, sixth))
        seventh, _ = self._instance("one", framework_id)
        self.assertEqual([], errors(self.effects, seventh))

    def _instance(self, name: str, framework_id: str = "") -> tuple[PeerId, str]:
        peer = self.bench.connect(PeerKind.FRAMEWORK, instance=name)
        fields = {"id": framework_id} if framework_id else {}
        self.effects = self.bench.receive(peer, subscription(failover_timeout=20, **fields))
        framework = (
            self.bench.state.peers[peer].framework if peer in self.bench.state.peers else None
        )
        return peer, framework_id if framework is None else framework.id

    def test_disconnected_framework_comes_back(self) -> None:
        first, framework_id = self.bench.subscribe(failover_timeout=20)
        self.bench.lose(first)
        self.bench.run_until(19)
        second, effects = self._subscribe(id=framework_id, failover_timeout=20)
        self.assertEqual([Event.SUBSCRIBED], [event.type for event in events(effects, second)])
        self.bench.run_until(100)
        self.assertIn(framework_id, self.bench.state.frameworks)

    def test_subscribing_again_over_the_same_link_rescinds_its_offers(self) -> None:
        peer, framework_id = self.bench.subscribe(failover_timeout=20)
        self.bench.register()
        self.bench.offer(peer)
        effects = self.bench.receive(peer, subscription(id=framework_id, failover_timeout=20))
        self.assertEqual(
            [Event.RESCIND, Event.SUBSCRIBED], [event.type for event in events(effects, peer)]
        )
        self.bench.offer(peer)

    def test_repeated_first_subscription_is_answered_again(self) -> None:
        peer, framework_id = self.bench.subscribe()
        (event,) = events(self.bench.receive(peer, subscription()), peer)
        self.assertEqual(framework_id, event.subscribed.framework_id.value)

    def test_second_framework_on_a_link_is_refused(self) -> None:
        peer, framework_id = self.bench.subscribe()
        status, why = self.bench.call(peer, subscription(id="another"))
        self.assertEqual(400, status)
        self.assertEqual(
            f"Framework {framework_id} is already subscribed over this connection", why
        )

    def test_removed_framework_stays_removed(self) -> None:
        peer, framework_id = self.bench.subscribe()
        self.bench.receive(peer, scheduler_call(Call.TEARDOWN, framework_id))
        again, effects = self._subscribe(id=framework_id)
        self.assertEqual(["Framework has been removed"], errors(effects, again))
        self.assertEqual([again], drops(effects))

    def test_removed_framework_may_come_back_once_it_is_forgotten(self) -> None:
        self.bench = Bench(max_completed_frameworks=1)
        ids = []
        for _ in range(2):
            peer, framework_id = self.bench.subscribe()
            self.bench.receive(peer, scheduler_call(Call.TEARDOWN, framework_id))
            ids.append(framework_id)
        peer, effects = self._subscribe(id=ids[0])
        self.assertEqual([Event.SUBSCRIBED], [event.type for event in events(effects, peer)])

    def test_framework_that_only_agents_know_gets_its_tasks(self) -> None:
        agent = self.bench.connect(PeerKind.AGENT)
        info = framework_info("old-0000", failover_timeout=60)
        self.bench.receive(
            agent,
            reregistration(
                "old-S0", tasks=[reported("old-0000", "old-S0", "t")], frameworks=[info]
            ),
        )
        framework = self.bench.state.frameworks[FrameworkId("old-0000")]
        self.assertTrue(framework.recovered)
        peer, effects = self._subscribe(id="old-0000", failover_timeout=60)
        self.assertEqual([Event.SUBSCRIBED], [event.type for event in events(effects, peer)])
        self.assertEqual(["t"], list(framework.tasks))
        self.assertFalse(framework.recovered)
        self.assertEqual("cpus:3; mem:1984", _resources(self.bench.offer(peer)))

    def test_framework_that_nobody_comes_for_is_removed_in_the_end(self) -> None:
        agent = self.bench.connect(PeerKind.AGENT)
        self.bench.receive(
            agent,
            reregistration(
                "old-S0",
                tasks=[reported("old-0000", "old-S0", "t")],
                frameworks=[framework_info("old-0000")],
            ),
        )
        effects: list[Any] = []
        while FrameworkId("old-0000") in self.bench.state.frameworks:
            effects += self.bench.wake()
            self.bench.pong(agent)
        self.assertEqual(600, self.bench.now)
        self.assertEqual(1, len(sent(effects, agent, "ShutdownFrameworkMessage")))

    def test_user_and_checkpoint_stay_what_they_were(self) -> None:
        agent, _ = self.bench.register()
        _, framework_id = self.bench.subscribe(failover_timeout=20)
        peer, effects = self._subscribe(
            id=framework_id,
            user="nobody",
            name="other",
            checkpoint=True,
            failover_timeout=5,
            role="r",
        )
        (message,) = sent(effects, agent)
        info = message.framework_info
        self.assertEqual(
            ("alice", "other", False, 5.0, "r"),
            (info.user, info.name, info.checkpoint, info.failover_timeout, info.role),
        )
        self.bench.offer(peer)
        (offer,) = self.bench.state.offers.values()
        self.assertEqual("r", offer.role)

    def test_role_that_was_left_loses_its_offers(self) -> None:
        self.bench.register()
        first, framework_id = self.bench.subscribe(failover_timeout=20, role="a")
        self.bench.offer(first)
        second, effects = self._subscribe(id=framework_id, failover_timeout=20, role="b")
        self.assertEqual(
            [Event.RESCIND, Event.ERROR], [event.type for event in events(effects, first)]
        )
        self.assertEqual([Event.SUBSCRIBED], [event.type for event in events(effects, second)])

    def test_principal_cannot_change(self) -> None:
        _, framework_id = self.bench.subscribe(principal="me", failover_timeout=9)
        peer, effects = self._subscribe(id=framework_id, principal="you")
        self.assertEqual(["Changing framework's principal is not allowed."], errors(effects, peer))

    def test_principal_of_the_link_is_filled_in(self) -> None:
        peer = self.bench.connect(PeerKind.FRAMEWORK, principal="me")
        self.bench.receive(peer, subscription())
        (framework,) = self.bench.state.frameworks.values()
        self.assertEqual("me", framework.info.principal)

    def test_somebody_else_s_principal_is_refused(self) -> None:
        peer = self.bench.connect(PeerKind.FRAMEWORK, principal="me")
        self.assertEqual(
            (
                400,
                (
                    "Failed to validate scheduler::Call: Authenticated principal 'me' does not"
                    " match principal 'you' set in `FrameworkInfo`"
                ),
            ),
            self.bench.call(peer, subscription(principal="you")),
        )

    def test_invalid_description_is_an_error_event_and_the_end(self) -> None:
        for fields, text in (
            (
                {"roles": ["a"]},
                (
                    "'FrameworkInfo.roles' must not be set when the framework is not"
                    " MULTI_ROLE capable"
                ),
            ),
            (
                {"suppressed": ["a"]},
                "Suppressed roles { a } are not contained in the set of roles",
            ),
        ):
            peer, effects = self._subscribe(**fields)
            self.assertEqual([text], errors(effects, peer))
            self.assertEqual([peer], drops(effects))
        self.assertEqual({}, self.bench.state.frameworks)

    def test_roles_and_root_can_be_forbidden(self) -> None:
        self.bench = Bench(roles=frozenset({"a"}), root_submissions=False)
        peer, effects = self._subscribe(MULTI_ROLE, roles=["a", "c", "b"])
        self.assertEqual(
            ["Roles { b, c } are not present in the master's --roles"], errors(effects, peer)
        )
        peer, effects = self._subscribe(user="root", role="a")
        self.assertEqual(
            ["User 'root' is not allowed to run frameworks without --root_submissions set"],
            errors(effects, peer),
        )

    def test_congested_framework_is_offered_nothing(self) -> None:
        self.bench.register()
        peer, _ = self.bench.subscribe()
        self.bench.give(Congestion(peer, True))
        self.assertEqual([], events(self.bench.run_until(10), peer))
        self.bench.give(Congestion(peer, False))
        self.bench.offer(peer)


class Updating(SynchronousTestCase):
    """UPDATE_FRAMEWORK."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, _ = self.bench.register()
        self.peer, self.framework_id = self.bench.subscribe(MULTI_ROLE, roles=["a"])

    def _call(self, info: FrameworkInfo, *suppressed: str) -> Call:
        call = scheduler_call(Call.UPDATE_FRAMEWORK, self.framework_id)
        call.update_framework.framework_info.CopyFrom(info)
        call.update_framework.suppressed_roles.extend(suppressed)
        return call

    def _info(self, **fields: Any) -> FrameworkInfo:
        return framework_info(self.framework_id, MULTI_ROLE, **fields)

    def test_roles_change_and_agents_hear_of_it(self) -> None:
        self.bench.offer(self.peer)
        answer, effects = self.bench.ask(self.peer, self._call(self._info(roles=["b"])))
        self.assertEqual((202, ""), answer)
        self.assertEqual([Event.RESCIND], [event.type for event in events(effects, self.peer)])
        (message,) = sent(effects, self.agent, "UpdateFrameworkMessage")
        self.assertEqual(["b"], list(message.framework_info.roles))
        self.assertEqual("b", self.bench.offer(self.peer).allocation_info.role)

    def test_nothing_changed_is_told_nobody(self) -> None:
        answer, effects = self.bench.ask(self.peer, self._call(self._info(roles=["a"]), "a"))
        self.assertEqual((202, ""), answer)
        self.assertEqual([], effects)
        self.assertEqual(("a",), self.bench.state.frameworks[self.framework_id].suppressed)

    def test_refusals(self) -> None:
        for info, suppressed, text in (
            (
                self._info(roles=["-"]),
                (),
                (
                    "Supplied FrameworkInfo is not valid: 'FrameworkInfo.roles' contains invalid"
                    " role: Role component '-' is invalid because it starts with a dash"
                ),
            ),
            (
                self._info(roles=["a"], user="bob"),
                (),
                (
                    "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is"
                    " unsupported; attempted to update from 'alice' to 'bob'"
                ),
            ),
            (
                self._info(roles=["a"]),
                ("b",),
                (
                    "'UpdateFramework' call is not valid: Suppressed roles { b } are not"
                    " contained in the set of roles"
                ),
            ),
        ):
            self.assertEqual((400, text), self.bench.call(self.peer, self._call(info, *suppressed)))


class Ending(SynchronousTestCase):
    """Frameworks that go away."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()

    def test_teardown_kills_everything_and_closes_the_link(self) -> None:
        peer, framework_id = self.bench.subscribe(failover_timeout=100)
        self.bench.running(self.agent, peer, "t")
        answer, effects = self.bench.ask(peer, scheduler_call(Call.TEARDOWN, framework_id))
        self.assertEqual((202, ""), answer)
        (message,) = sent(effects, self.agent)
        self.assertEqual(framework_id, message.framework_id.value)
        self.assertEqual([], events(effects, peer))
        self.assertEqual([peer], drops(effects))
        completed = self.bench.state.completed.get(framework_id)
        assert completed is not None
        (ended,) = completed.completed
        self.assertEqual(4, ended.state)
        self.assertEqual({}, self.bench.state.agents[self.agent_id].used())

    def test_without_failover_timeout_a_framework_ends_with_its_link(self) -> None:
        peer, framework_id = self.bench.subscribe()
        self.bench.lose(peer)
        effects = self.bench.wake()
        self.assertEqual(1, len(sent(effects, self.agent, "ShutdownFrameworkMessage")))
        self.assertNotIn(framework_id, self.bench.state.frameworks)

    def test_framework_has_its_failover_timeout_to_come_back(self) -> None:
        peer, framework_id = self.bench.subscribe(failover_timeout=20)
        offer = self.bench.running(self.agent, peer, "t")
        began = self.bench.now
        self.assertEqual([], self.bench.lose(peer))
        self.assertEqual({}, self.bench.state.offers)
        # What comes for it in the meantime is dropped; the agent will say it again.
        self.assertEqual([], self.bench.receive(self.agent, update(offer, "t", "TASK_FINISHED")))
        self.bench.run_until(began + 19.9)
        self.assertIn(framework_id, self.bench.state.frameworks)
        self.bench.run_until(began + 20)
        self.assertNotIn(framework_id, self.bench.state.frameworks)

    def test_resources_of_a_removed_framework_are_offered_to_others(self) -> None:
        first, framework_id = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, first, "t")
        self.bench.subscribe()
        self.bench.receive(first, scheduler_call(Call.TEARDOWN, framework_id))
        self.bench.run_until(self.bench.now + 2)
        (offer,) = self.bench.state.offers.values()
        self.assertEqual("cpus:4; mem:2048", str(offer.resources))


def _resources(offer: Offer) -> str:
    return str(Resources.from_message(offer.resources))
