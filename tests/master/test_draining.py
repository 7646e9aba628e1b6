"""Agents that are drained, deactivated and reactivated."""

from __future__ import annotations

from typing import Any

from mesoskit.master.operator import (
    DeactivateAgent,
    DrainAgent,
    MarkAgentGone,
    ReactivateAgent,
    Replied,
    Request,
    Requested,
)
from mesoskit.master.views import agent_view
from mesoskit.messages.internal_pb2 import DrainSlaveMessage, UnregisterSlaveMessage
from mesoskit.messages.mesos_pb2 import DrainInfo, MasterInfo
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import AgentId, PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    acknowledge,
    framework_info,
    registration,
    reported,
    reregistration,
    sent,
    stores,
    update,
)


class _Case(SynchronousTestCase):
    """An agent, and one who operates."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()

    def ask(self, request: Request) -> tuple[int, str, list[Any]]:
        """Ask for something; return status, text and what else came of it."""
        effects = self.bench.give(Requested(7, request))
        (reply,) = [one for one in effects if isinstance(one, Replied)]
        self.assertEqual(7, reply.number)
        return reply.status, reply.why, [one for one in effects if one is not reply]

    def done(self, request: Request) -> list[Any]:
        """Ask for something that is done; return what came of it."""
        status, why, effects = self.ask(request)
        self.assertEqual((200, ""), (status, why))
        return effects

    def shown(self) -> dict[str, Any]:
        """Return what /slaves shows of the agent."""
        agent = self.bench.state.agents[self.agent_id]
        return agent_view(agent, agent.used())

    def offered(self, peer: PeerId) -> bool:
        """Whether anything is offered within a minute."""
        for second in range(60):
            self.bench.run_until(self.bench.now + 1)
            if second % 10 == 0:
                self.bench.pong(self.agent)
            if self.bench.state.offers:
                return True
        return False

    def back(self, *tasks: Any) -> list[Any]:
        """Let the agent come back over a new link."""
        self.agent = self.bench.connect(PeerKind.AGENT)
        frameworks = [framework_info(one.framework_id.value, checkpoint=True) for one in tasks]
        return self.bench.receive(
            self.agent, reregistration(self.agent_id, tasks=tasks, frameworks=frameworks)
        )

    def failover(self) -> None:
        """Go on with a new master over the same registry."""
        self.bench = Bench(self.bench.stored, seed=b"the other master", now=self.bench.now)


class Deactivation(_Case):
    """Agents that are not offered, and whose tasks run on."""

    def test_deactivated_agent_is_not_offered_until_it_is_reactivated(self) -> None:
        peer, _ = self.bench.subscribe()
        self.bench.offer(peer)
        effects = self.done(DeactivateAgent(self.agent_id))
        self.assertEqual({}, self.bench.state.offers, "the offer is rescinded")
        self.assertEqual([f"deactivated/{self.agent_id}"], stores(effects))
        self.assertFalse(self.offered(peer))
        shown = self.shown()
        self.assertEqual((False, True), (shown["active"], shown["deactivated"]))
        effects = self.done(ReactivateAgent(self.agent_id))
        self.assertEqual([f"-deactivated/{self.agent_id}"], stores(effects))
        self.assertTrue(self.offered(peer))
        shown = self.shown()
        self.assertEqual((True, False), (shown["active"], shown["deactivated"]))

    def test_its_tasks_run_on(self) -> None:
        peer, _ = self.bench.subscribe()
        self.bench.running(self.agent, peer, "task")
        effects = self.done(DeactivateAgent(self.agent_id))
        self.assertEqual([], sent(effects, self.agent))
        self.assertEqual(1, len(self.bench.state.agents[self.agent_id].tasks))

    def test_it_stays_so_over_a_broken_link(self) -> None:
        peer, _ = self.bench.subscribe()
        self.done(DeactivateAgent(self.agent_id))
        self.bench.lose(self.agent)
        self.back()
        self.assertFalse(self.offered(peer))

    def test_it_stays_so_over_a_failover(self) -> None:
        self.done(DeactivateAgent(self.agent_id))
        self.failover()
        peer, _ = self.bench.subscribe()
        self.back()
        self.assertFalse(self.offered(peer))
        self.done(ReactivateAgent(self.agent_id))
        self.assertTrue(self.offered(peer))

    def test_it_stays_so_when_it_was_unreachable(self) -> None:
        peer, _ = self.bench.subscribe()
        self.done(DeactivateAgent(self.agent_id))
        self.bench.run_until(self.bench.now + 90)
        self.assertNotIn(self.agent_id, self.bench.state.agents)
        self.back()
        self.assertFalse(self.offered(peer))

    def test_reactivated_while_away_it_is_offered_when_it_is_back(self) -> None:
        peer, _ = self.bench.subscribe()
        self.done(DeactivateAgent(self.agent_id))
        self.bench.lose(self.agent)
        self.done(ReactivateAgent(self.agent_id))
        self.back()
        self.assertTrue(self.offered(peer))

    def test_what_cannot_be(self) -> None:
        nobody = AgentId("nobody-S0")
        self.assertEqual((400, "Unknown agent", []), self.ask(DeactivateAgent(nobody)))
        self.assertEqual((400, "Unknown agent", []), self.ask(DrainAgent(nobody)))
        for agent_id in (nobody, self.agent_id):
            self.assertEqual(
                (400, "Agent is not deactivated", []), self.ask(ReactivateAgent(agent_id))
            )

    def test_an_agent_that_leaves_is_forgotten(self) -> None:
        self.done(DeactivateAgent(self.agent_id))
        message = UnregisterSlaveMessage()
        message.slave_id.value = self.agent_id
        self.bench.receive(self.agent, message)
        self.assertNotIn(f"deactivated/{self.agent_id}", self.bench.stored)
        self.assertEqual({}, self.bench.state.deactivated)

    def test_an_agent_that_is_gone_is_forgotten(self) -> None:
        self.done(DeactivateAgent(self.agent_id))
        self.done(MarkAgentGone(self.agent_id))
        self.assertEqual([f"gone/{self.agent_id}", "master"], sorted(self.bench.stored))

    def test_an_agent_that_was_unreachable_for_long_is_forgotten(self) -> None:
        self.done(DeactivateAgent(self.agent_id))
        self.bench.run_until(self.bench.now + 15 * 86400)
        self.assertEqual(["master"], sorted(self.bench.stored))
        self.assertEqual({}, self.bench.state.deactivated)


class Draining(_Case):
    """Agents whose tasks are ended."""

    def test_agent_is_told_and_not_offered(self) -> None:
        peer, _ = self.bench.subscribe()
        self.bench.running(self.agent, peer, "task")
        effects = self.done(DrainAgent(self.agent_id, 5_000_000_000))
        expected = DrainSlaveMessage()
        expected.config.mark_gone = False
        expected.config.max_grace_period.nanoseconds = 5_000_000_000
        self.assertEqual([expected], sent(effects, self.agent))
        record = DrainInfo.FromString(self.bench.stored[f"deactivated/{self.agent_id}"])
        self.assertEqual(DrainInfo(state="DRAINING", config=expected.config), record)
        self.assertFalse(self.offered(peer))
        shown = self.shown()
        self.assertEqual(
            {
                "state": "DRAINING",
                "config": {"max_grace_period": {"nanoseconds": 5_000_000_000}, "mark_gone": False},
            },
            shown["drain_info"],
        )
        self.assertIn("estimated_drain_start_time_seconds", shown)

    def test_it_has_drained_when_the_last_end_was_acknowledged(self) -> None:
        peer, _ = self.bench.subscribe()
        offer = self.bench.running(self.agent, peer, "one", "two")
        self.done(DrainAgent(self.agent_id))
        for name in ("one", "two"):
            self.bench.receive(self.agent, update(offer, name, "TASK_KILLED"))
            self.assertEqual("DRAINING", self.shown()["drain_info"]["state"])
            self.assertEqual(
                (400, "Agent is still in the DRAINING state", []),
                self.ask(ReactivateAgent(self.agent_id)),
            )
            self.bench.receive(peer, acknowledge(offer, name, "TASK_KILLED"))
        self.assertEqual("DRAINED", self.shown()["drain_info"]["state"])
        self.assertFalse(self.offered(peer))
        self.done(ReactivateAgent(self.agent_id))
        self.assertNotIn("drain_info", self.shown())
        self.assertTrue(self.offered(peer))

    def test_an_agent_without_tasks_has_drained_at_once(self) -> None:
        self.done(DrainAgent(self.agent_id))
        self.assertEqual("DRAINED", self.shown()["drain_info"]["state"])

    def test_it_is_marked_gone_where_that_was_asked_for(self) -> None:
        peer, _ = self.bench.subscribe(AWARE)
        offer = self.bench.running(self.agent, peer, "task")
        self.done(DrainAgent(self.agent_id, mark_gone=True))
        self.bench.receive(self.agent, update(offer, "task", "TASK_GONE_BY_OPERATOR"))
        effects = self.bench.receive(peer, acknowledge(offer, "task", "TASK_GONE_BY_OPERATOR"))
        self.assertEqual(1, len(sent(effects, self.agent, "ShutdownMessage")))
        self.assertIn(self.agent_id, self.bench.state.gone)
        self.assertEqual([f"gone/{self.agent_id}", "master"], sorted(self.bench.stored))

    def test_a_framework_that_is_torn_down_drains_its_agents(self) -> None:
        peer, framework_id = self.bench.subscribe(failover_timeout=10.0)
        self.bench.running(self.agent, peer, "task")
        self.done(DrainAgent(self.agent_id))
        self.bench.lose(peer)
        self.bench.pong(self.agent)
        self.bench.run_until(self.bench.now + 11)
        self.assertNotIn(framework_id, self.bench.state.frameworks)
        self.assertEqual("DRAINED", self.shown()["drain_info"]["state"])

    def test_an_agent_that_is_away_hears_of_it_when_it_is_back(self) -> None:
        peer, framework_id = self.bench.subscribe(checkpoint=True, failover_timeout=1000.0)
        self.bench.running(self.agent, peer, "task")
        self.bench.lose(self.agent)
        self.assertEqual([], sent(self.done(DrainAgent(self.agent_id)), self.agent))
        effects = self.back(reported(framework_id, self.agent_id, "task"))
        names = [type(one).__name__ for one in sent(effects, self.agent)]
        self.assertEqual("SlaveReregisteredMessage", names[0])
        self.assertIn("DrainSlaveMessage", names)
        self.assertEqual("DRAINING", self.shown()["drain_info"]["state"])

    def test_an_unreachable_agent_can_be_drained(self) -> None:
        self.bench.run_until(self.bench.now + 90)
        self.done(DrainAgent(self.agent_id))
        effects = self.back()
        self.assertEqual(1, len(sent(effects, self.agent, "DrainSlaveMessage")))
        self.assertEqual("DRAINED", self.shown()["drain_info"]["state"])

    def test_it_goes_on_after_a_failover(self) -> None:
        peer, framework_id = self.bench.subscribe(checkpoint=True, failover_timeout=1000.0)
        self.bench.running(self.agent, peer, "task")
        self.done(DrainAgent(self.agent_id, 1, mark_gone=True))
        self.failover()
        self.bench.subscribe(id=framework_id, checkpoint=True)
        effects = self.back(reported(framework_id, self.agent_id, "task"))
        (message,) = sent(effects, self.agent, "DrainSlaveMessage")
        self.assertEqual((1, True), (message.config.max_grace_period.nanoseconds, True))
        self.assertEqual("DRAINING", self.shown()["drain_info"]["state"])

    def test_masters_say_that_they_can(self) -> None:
        said = [one.type for one in self.bench.state.info.capabilities]
        self.assertIn(MasterInfo.Capability.AGENT_DRAINING, said)

    def test_an_agent_that_cannot_drain_is_not_asked_to(self) -> None:
        message = registration("old.example")
        del message.agent_capabilities[:]
        peer = self.bench.connect(PeerKind.AGENT, "127.0.0.2:40000")
        (answer,) = sent(self.bench.receive(peer, message), peer, "SlaveRegisteredMessage")
        old = AgentId(answer.slave_id.value)
        self.assertEqual(
            (400, f"Agent {old} is not capable of draining", []), self.ask(DrainAgent(old))
        )
