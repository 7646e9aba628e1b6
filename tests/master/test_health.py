"""Pings, unreachable agents, gone agents, and what is forgotten."""

from __future__ import annotations

from mesoskit.master.operator import MarkAgentGone, Replied, Requested, Teardown
from mesoskit.messages.internal_pb2 import PingSlaveMessage
from mesoskit.messages.mesos_pb2 import TaskStatus, TimeInfo
from mesoskit.messages.scheduler_pb2 import Event
from mesoskit.model.events import PeerKind, Send
from mesoskit.model.ids import AgentId, FrameworkId
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    agent_info,
    drops,
    events,
    registration,
    reregistration,
    sent,
    statuses,
    stops,
    stores,
    told,
)

_PING = PingSlaveMessage(connected=True)


class Pings(SynchronousTestCase):
    """Whether agents still answer."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()

    def test_ping_every_fifteen_seconds_past_any_store(self) -> None:
        self.assertEqual([Send(self.agent, _PING, True)], self.bench.run_until(15))
        self.bench.pong(self.agent)
        self.assertEqual([], self.bench.run_until(29.9))
        self.assertEqual([Send(self.agent, _PING, True)], self.bench.run_until(30))

    def test_agent_that_answers_stays(self) -> None:
        for _ in range(20):
            self.bench.pong(self.agent)
            self.bench.run_until(self.bench.now + 15)
        self.assertIn(self.agent_id, self.bench.state.agents)

    def test_one_answer_in_five_is_enough(self) -> None:
        for _ in range(4):
            self.bench.run_until(self.bench.now + 60)
            self.bench.pong(self.agent)
        self.assertIn(self.agent_id, self.bench.state.agents)

    def test_silent_agent_is_unreachable(self) -> None:
        aware, _ = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, aware, "new")
        self.bench.run_until(self.bench.now + 6)
        self.bench.pong(self.agent)
        effects = self.bench.run_until(89.9)
        self.assertEqual([], told(effects, aware))
        effects = self.bench.run_until(90)
        (status,) = statuses(effects, aware)
        expected = TaskStatus(
            state="TASK_UNREACHABLE",
            message="health check timed out",
            source=TaskStatus.SOURCE_MASTER,
            reason=TaskStatus.REASON_AGENT_REMOVED,
            timestamp=90.0,
            unreachable_time=TimeInfo(nanoseconds=90_000_000_000),
        )
        expected.task_id.value = "new"
        expected.agent_id.value = self.agent_id
        self.assertEqual(expected, status)
        self.assertEqual(
            [f"-agents/{self.agent_id}", f"unreachable/{self.agent_id}"], stores(effects)
        )
        self.assertEqual([self.agent], drops(effects))
        (failure,) = events(effects, aware, Event.FAILURE)
        self.assertEqual(self.agent_id, failure.failure.agent_id.value)

    def test_old_framework_is_told_lost(self) -> None:
        old, old_id = self.bench.subscribe()
        self.bench.running(self.agent, old, "t")
        effects = self.bench.run_until(90)
        self.assertEqual([("t", "TASK_LOST")], told(effects, old))
        self.assertEqual(["t"], list(self.bench.state.frameworks[old_id].unreachable))

    def test_number_of_unreachable_tasks_is_limited(self) -> None:
        self.bench = Bench(max_unreachable_tasks_per_framework=2)
        self.agent, self.agent_id = self.bench.register(resources="cpus:8;mem:2048")
        framework, framework_id = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, framework, "a", "b", "c")
        self.bench.run_until(90)
        self.assertEqual(["b", "c"], list(self.bench.state.frameworks[framework_id].unreachable))
        self.assertEqual(2, len(self.bench.state.unreachable_tasks[self.agent_id]))


class Gone(SynchronousTestCase):
    """Agents that an operator has given up."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()

    def _mark(self, agent_id: str) -> tuple[int, list[object]]:
        effects = self.bench.give(Requested(1, MarkAgentGone(AgentId(agent_id))))
        (reply,) = [effect for effect in effects if isinstance(effect, Replied)]
        return reply.status, effects

    def test_registered_agent_is_shut_down(self) -> None:
        aware, _ = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, aware, "t")
        status, effects = self._mark(self.agent_id)
        self.assertEqual(200, status)
        (message,) = sent(effects, self.agent)
        self.assertEqual("Agent has been marked gone", message.message)
        self.assertEqual([("t", "TASK_GONE_BY_OPERATOR")], told(effects, aware))
        self.assertEqual(
            TaskStatus.REASON_AGENT_REMOVED_BY_OPERATOR, statuses(effects, aware)[0].reason
        )
        self.assertIn(f"gone/{self.agent_id}", stores(effects))

    def test_old_framework_is_told_lost(self) -> None:
        old, _ = self.bench.subscribe()
        self.bench.running(self.agent, old, "t")
        _, effects = self._mark(self.agent_id)
        self.assertEqual([("t", "TASK_LOST")], told(effects, old))
        self.assertEqual(TaskStatus.REASON_AGENT_REMOVED, statuses(effects, old)[0].reason)

    def test_unreachable_agent_s_tasks_are_gone(self) -> None:
        aware, framework_id = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, aware, "t")
        self.bench.run_until(90)
        _, effects = self._mark(self.agent_id)
        self.assertEqual([("t", "TASK_GONE_BY_OPERATOR")], told(effects, aware))
        self.assertEqual({}, self.bench.state.frameworks[framework_id].unreachable)
        self.assertEqual({}, self.bench.state.unreachable)

    def test_gone_agent_that_comes_back_is_shut_down(self) -> None:
        self._mark(self.agent_id)
        peer = self.bench.connect(PeerKind.AGENT)
        (answer, effects) = self.bench.ask(peer, reregistration(self.agent_id))
        self.assertEqual((403, "Agent has been marked gone"), answer)
        (message,) = sent(effects, peer)
        self.assertEqual("Agent has been marked gone", message.message)

    def test_unknown_agent(self) -> None:
        self.assertEqual(404, self._mark("nobody")[0])

    def test_operator_s_teardown(self) -> None:
        framework, framework_id = self.bench.subscribe(failover_timeout=100)
        effects = self.bench.give(Requested(3, Teardown(framework_id)))
        self.assertEqual([], events(effects, framework))
        self.assertEqual([framework], drops(effects))
        self.assertIn(Replied(3, 200), effects)
        self.assertEqual(
            [Replied(4, 400, "No framework found with specified ID")],
            self.bench.give(Requested(4, Teardown(FrameworkId("nobody")))),
        )


class AfterAFailover(SynchronousTestCase):
    """Agents of the registry that do, or do not, come back."""

    def setUp(self) -> None:
        self.snapshot = {
            f"agents/old-S{n}": agent_info(
                f"host{n}", "cpus:4;mem:2048", agent_id=f"old-S{n}"
            ).SerializeToString()
            for n in range(2)
        }

    def test_those_that_do_not_come_back_in_time_are_unreachable(self) -> None:
        bench = Bench(self.snapshot)
        framework, _ = bench.subscribe(AWARE)
        peer = bench.connect(PeerKind.AGENT)
        bench.receive(peer, reregistration("old-S0", "host0"))
        effects = []
        while bench.now < 600:
            effects = bench.wake()
            bench.pong(peer)
        self.assertEqual(["-agents/old-S1", "unreachable/old-S1"], stores(effects))
        (failure,) = events(effects, framework, Event.FAILURE)
        self.assertEqual("old-S1", failure.failure.agent_id.value)
        self.assertEqual({}, bench.state.recovered)
        self.assertIn(AgentId("old-S0"), bench.state.agents)

    def test_frameworks_may_ask_about_one_that_is_gone_for_good(self) -> None:
        bench = Bench(self.snapshot)
        framework, _ = bench.subscribe(AWARE)
        effects = bench.give(Requested(1, MarkAgentGone(AgentId("old-S0"))))
        (failure,) = events(effects, framework, Event.FAILURE)
        self.assertEqual("old-S0", failure.failure.agent_id.value)
        self.assertEqual([AgentId("old-S1")], list(bench.state.recovered))

    def test_too_many_missing_stop_the_master(self) -> None:
        bench = Bench(self.snapshot, recovery_agent_removal_limit=0.5)
        (stop,) = stops(bench.run_until(600))
        self.assertEqual(1, stop.status)
        self.assertIn("Post-recovery agent removal limit exceeded!", stop.why)

    def test_new_agents_get_new_ids(self) -> None:
        bench = Bench(self.snapshot)
        peer = bench.connect(PeerKind.AGENT)
        (message,) = sent(bench.receive(peer, registration()), peer, "SlaveRegisteredMessage")
        self.assertTrue(message.slave_id.value.startswith(bench.state.info.id))


class AtARate(SynchronousTestCase):
    """C{--agent_removal_rate_limit}: one in so many seconds."""

    def setUp(self) -> None:
        self.bench = Bench(agent_removal_interval=100.0)
        self.state = self.bench.state

    def counted(self) -> tuple[int, int, int]:
        counters = self.state.counters
        return (
            counters.slave_unreachable_scheduled,
            counters.slave_unreachable_completed,
            counters.slave_unreachable_canceled,
        )

    def test_silent_agents_are_given_up_one_after_the_other(self) -> None:
        known = [self.bench.register() for _ in range(3)]
        for agent, _ in known:
            self.bench.pong(agent)
        self.bench.run_until(91)
        self.assertEqual(len(self.state.agents), 2)
        self.assertEqual(self.counted(), (3, 1, 0))
        self.bench.run_until(189)
        self.assertEqual(len(self.state.agents), 2)
        self.bench.run_until(191)
        self.assertEqual(len(self.state.agents), 1)
        self.bench.run_until(291)
        self.assertEqual(len(self.state.agents), 0)
        self.assertEqual(self.counted(), (3, 3, 0))
        self.state.validate_state()
        # The next one is not kept waiting for nothing.
        self.bench.register()
        self.bench.run_until(500)
        self.assertEqual(len(self.state.agents), 0)

    def test_who_answers_while_he_waits_is_not_given_up(self) -> None:
        known = [self.bench.register() for _ in range(3)]
        self.bench.run_until(91)
        left = [(agent, agent_id) for agent, agent_id in known if agent_id in self.state.agents]
        self.bench.pong(left[0][0])
        self.assertEqual(self.counted(), (3, 1, 1))
        self.bench.run_until(150)
        self.bench.pong(left[0][0])
        self.bench.run_until(191)
        self.assertEqual(list(self.state.agents), [left[0][1]])
        self.state.validate_state()

    def test_who_goes_while_he_waits_is_not_waited_for(self) -> None:
        known = [self.bench.register() for _ in range(3)]
        self.bench.run_until(91)
        (agent_id, other) = self.state.agents
        self.bench.give(Requested(1, MarkAgentGone(agent_id)))
        self.assertEqual(self.counted(), (3, 1, 1))
        self.bench.run_until(191)
        self.assertNotIn(other, self.state.agents)
        self.assertEqual(self.counted(), (3, 2, 1))
        self.assertEqual(len(known), 3)

    def test_agents_that_a_new_master_misses_are_given_up_at_that_rate_too(self) -> None:
        snapshot = {
            f"agents/S{n}": agent_info(
                f"host{n}", "cpus:4;mem:2048", agent_id=f"S{n}"
            ).SerializeToString()
            for n in range(3)
        }
        bench = Bench(snapshot, agent_removal_interval=70.0)
        bench.run_until(601)
        self.assertEqual(set(bench.state.recovered), {"S1", "S2"})
        peer = bench.connect(PeerKind.AGENT)
        bench.receive(peer, reregistration("S1", "host1"))
        self.assertEqual(bench.state.counters.slave_unreachable_canceled, 1)
        bench.run_until(671)
        self.assertEqual((bench.state.recovered, list(bench.state.agents)), ({}, ["S1"]))
        self.assertEqual(set(bench.state.unreachable), {"S0", "S2"})


class Forgetting(SynchronousTestCase):
    """The registry does not grow for ever."""

    def test_old_and_too_many_agents_are_forgotten(self) -> None:
        hour = 3600 * 10**9
        snapshot = {
            f"unreachable/S{n}": TimeInfo(nanoseconds=n * hour).SerializeToString()
            for n in range(5)
        }
        bench = Bench(
            snapshot,
            now=4 * 3600.0,
            registry_max_agent_age=2.5 * 3600,
            registry_max_agent_count=2,
        )
        effects = bench.run_until(bench.now + 900)
        self.assertEqual(["-unreachable/S0", "-unreachable/S1", "-unreachable/S2"], stores(effects))
        self.assertEqual(["S3", "S4"], list(bench.state.unreachable))
        self.assertEqual([], bench.run_until(bench.now + 900))
