"""Whoever comes to a new master with the id of somebody else's framework."""

from __future__ import annotations

from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import FrameworkId, PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import (
    Bench,
    drops,
    events,
    framework_info,
    reregistration,
    scheduler_call,
    sent,
    subscription,
)

ID = "00000000-0000-0000-0000-000000000000-0007"
CHANGED = "Changing framework's principal is not allowed."


class ClaimTests(SynchronousTestCase):
    """After a failover, before the agents are back."""

    def setUp(self) -> None:
        self.first = Bench()
        _, agent_id = self.first.register()
        self.agent_id = agent_id
        self.bench = Bench(snapshot=self.first.stored, now=1000.0, seed=b"fedcba9876543210")

    def come(self, proved: str | None, **fields: object) -> tuple[PeerId, list[object]]:
        """Subscribe with the id; return the link, and what happens."""
        peer = self.bench.connect(PeerKind.FRAMEWORK, principal=proved)
        info = {"failover_timeout": 600.0, **fields}
        return peer, self.bench.receive(peer, subscription(id=ID, **info))

    def agent_comes(self, info: FrameworkInfo) -> list[object]:
        self.agent = self.bench.connect(PeerKind.AGENT)
        return self.bench.receive(self.agent, reregistration(self.agent_id, frameworks=[info]))

    def shutdowns(self, effects: list[object]) -> list[str]:
        """Return which frameworks the agent was told to shut down."""
        messages = sent(effects, self.agent, "ShutdownFrameworkMessage")
        return [each.framework_id.value for each in messages]

    def told(self, principal: str) -> FrameworkInfo:
        """Return the framework as the agent knows it."""
        return framework_info(ID, principal=principal, failover_timeout=600.0)

    def test_agent_says_whose_it_is_and_the_other_loses_it(self) -> None:
        thief, effects = self.come("mallory")
        self.assertEqual(1, len(events(effects, thief, Event.SUBSCRIBED)))
        effects = self.agent_comes(self.told("alice"))
        (event,) = events(effects, thief, Event.ERROR)
        self.assertEqual(CHANGED, event.error.message)
        self.assertEqual([thief], drops(effects))
        framework = self.bench.state.frameworks[FrameworkId(ID)]
        self.assertEqual("alice", framework.info.principal)
        self.assertFalse(framework.connected)
        owner, effects = self.come("alice")
        self.assertEqual(1, len(events(effects, owner, Event.SUBSCRIBED)))
        thief, effects = self.come("mallory")
        self.assertEqual(1, len(events(effects, thief, Event.ERROR)))
        self.assertTrue(framework.connected)

    def test_owner_who_comes_meanwhile_need_not_give_up(self) -> None:
        self.come("mallory")
        owner, effects = self.come("alice")
        self.assertEqual(([owner], []), (drops(effects), events(effects, owner)))
        self.agent_comes(self.told("alice"))
        owner, effects = self.come("alice")
        self.assertEqual(1, len(events(effects, owner, Event.SUBSCRIBED)))

    def test_claim_that_no_agent_disputes_stands(self) -> None:
        self.come("alice")
        self.bench.run_until(self.bench.now + 700.0)
        other, effects = self.come("mallory")
        self.assertEqual(1, len(events(effects, other, Event.ERROR)))

    def test_owner_keeps_what_is_his(self) -> None:
        owner, _ = self.come("alice")
        effects = self.agent_comes(self.told("alice"))
        self.assertEqual(([], []), (drops(effects), events(effects, owner, Event.ERROR)))
        self.assertTrue(self.bench.state.frameworks[FrameworkId(ID)].connected)
        # What is settled no agent can unsettle.
        self.agent_id = self.bench.register("b.example", address="127.0.0.2:1")[1]
        peer = self.bench.connect(PeerKind.AGENT, "127.0.0.2:1")
        lying = reregistration(self.agent_id, "b.example", frameworks=[self.told("mallory")])
        effects = self.bench.receive(peer, lying)
        self.assertEqual([], events(effects, owner, Event.ERROR))

    def test_nobody_asks_where_nobody_has_proved_who_he_is(self) -> None:
        peer, _ = self.come(None, principal="bob")
        effects = self.agent_comes(self.told("alice"))
        self.assertEqual([], events(effects, peer, Event.ERROR))
        self.assertTrue(self.bench.state.frameworks[FrameworkId(ID)].connected)

    def test_framework_that_was_nobody_s_may_have_an_owner(self) -> None:
        peer, _ = self.come("alice")
        effects = self.agent_comes(framework_info(ID))
        self.assertEqual([], events(effects, peer, Event.ERROR))
        self.assertTrue(self.bench.state.frameworks[FrameworkId(ID)].connected)

    def test_owner_has_as_long_as_ever_to_come(self) -> None:
        self.come("mallory")
        self.agent_comes(self.told("alice"))
        self.bench.run_until(self.bench.now + 500.0)
        self.assertIn(FrameworkId(ID), self.bench.state.frameworks)
        self.bench.run_until(self.bench.now + 200.0)
        self.assertNotIn(FrameworkId(ID), self.bench.state.frameworks)

    def test_who_has_a_claim_cannot_end_what_is_not_his(self) -> None:
        for how in ("teardown", "no time-out"):
            with self.subTest(how):
                self.setUp()
                patience = 600.0 if how == "teardown" else 0.0
                thief, _ = self.come("mallory", failover_timeout=patience)
                if how == "teardown":
                    self.bench.receive(thief, scheduler_call(Call.TEARDOWN, ID))
                else:
                    self.bench.lose(thief)
                    self.bench.run_until(self.bench.now + 1.0)
                self.assertNotIn(FrameworkId(ID), self.bench.state.frameworks)
                # Whose it is must not give up meanwhile.
                owner, effects = self.come("alice")
                self.assertEqual(([owner], []), (drops(effects), events(effects, owner)))
                effects = self.agent_comes(self.told("alice"))
                self.assertEqual([], self.shutdowns(effects))
                owner, effects = self.come("alice")
                self.assertEqual(1, len(events(effects, owner, Event.SUBSCRIBED)))
                thief, effects = self.come("mallory")
                self.assertEqual(1, len(events(effects, thief, Event.ERROR)))

    def test_owner_may_end_it_before_the_agents_are_back(self) -> None:
        owner, _ = self.come("alice")
        self.bench.receive(owner, scheduler_call(Call.TEARDOWN, ID))
        effects = self.agent_comes(self.told("alice"))
        self.assertEqual([ID], self.shutdowns(effects))
        owner, effects = self.come("alice")
        self.assertEqual(1, len(events(effects, owner, Event.ERROR)))

    def test_claim_that_ended_stays_ended_where_no_agent_disputes_it(self) -> None:
        thief, _ = self.come("mallory")
        self.bench.receive(thief, scheduler_call(Call.TEARDOWN, ID))
        self.bench.run_until(self.bench.now + 700.0)
        other, effects = self.come("alice")
        self.assertEqual(1, len(events(effects, other, Event.ERROR)))
