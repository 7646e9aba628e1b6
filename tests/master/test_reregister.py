"""Agents that come back."""

from __future__ import annotations

from typing import Any

from mesoskit.messages.mesos_pb2 import TASK_GONE, TASK_RUNNING, TaskStatus
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import AgentId, FrameworkId, PeerId
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    agent_info,
    drops,
    events,
    executor,
    framework_info,
    reported,
    reregistration,
    scheduler_call,
    sent,
    statuses,
    stores,
    task,
    told,
    update,
    update_of,
)


class AfterABrokenLink(SynchronousTestCase):
    """The master has had the agent all the time."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE, checkpoint=True)
        self.info = framework_info(self.framework_id, AWARE, checkpoint=True)

    def _back(self, **fields: Any) -> tuple[PeerId, list[Any]]:
        peer = self.bench.connect(PeerKind.AGENT)
        fields.setdefault("frameworks", [self.info])
        return peer, self.bench.receive(peer, reregistration(self.agent_id, **fields))

    def _reported(self, task_id: str, state: str = "TASK_RUNNING", **fields: Any) -> Any:
        return reported(self.framework_id, self.agent_id, task_id, state, **fields)

    def test_agent_goes_on_with_what_both_know(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        self.bench.lose(self.agent)
        peer, effects = self._back(tasks=[self._reported("t")])
        answer, frameworks, ping = sent(effects, peer)
        self.assertEqual(self.agent_id, answer.slave_id.value)
        self.assertEqual(0, len(answer.reconciliations))
        self.assertEqual(75.0, answer.connection.total_ping_timeout_seconds)
        self.assertEqual(self.info, frameworks.framework_info)
        self.assertEqual("PingSlaveMessage", type(ping).__name__)
        self.assertEqual([], stores(effects))
        self.assertEqual([], events(effects, self.framework))
        self.assertEqual("cpus:3; mem:1984", _text(self.bench.offer(self.framework)))

    def test_agent_is_asked_after_tasks_that_it_does_not_report(self) -> None:
        offer = self.bench.offer(self.framework)
        self.bench.launch(self.framework, offer, task(offer, "lost"))
        self.bench.lose(self.agent)
        peer, effects = self._back()
        (question,) = sent(effects, peer, "SlaveReregisteredMessage")[0].reconciliations
        self.assertEqual(self.framework_id, question.framework_id.value)
        self.assertEqual(self.info, question.framework)
        (status,) = question.statuses
        expected = TaskStatus(
            state="TASK_STAGING",
            message="Reconciliation request",
            source=TaskStatus.SOURCE_MASTER,
            reason=TaskStatus.REASON_RECONCILIATION,
            timestamp=self.bench.now,
        )
        expected.task_id.value = "lost"
        expected.agent_id.value = self.agent_id
        self.assertEqual(expected, status)
        effects = self.bench.receive(peer, update(offer, "lost", "TASK_DROPPED"))
        self.assertEqual([("lost", "TASK_DROPPED")], told(effects, self.framework))

    def test_kill_is_said_again(self) -> None:
        self.bench.running(self.agent, self.framework, "a", "b")
        self.bench.lose(self.agent)
        call = scheduler_call(Call.KILL, self.framework_id)
        call.kill.task_id.value = "a"
        call.kill.kill_policy.grace_period.nanoseconds = 7
        self.assertEqual([], self.bench.receive(self.framework, call))
        peer, effects = self._back(tasks=[self._reported("a"), self._reported("b")])
        (message,) = sent(effects, peer, "KillTaskMessage")
        self.assertEqual("a", message.task_id.value)
        self.assertEqual(7, message.kill_policy.grace_period.nanoseconds)

    def test_executor_that_is_not_reported_is_forgotten(self) -> None:
        offer = self.bench.offer(self.framework)
        self.bench.launch(self.framework, offer, task(offer, "t", executor=executor("e")))
        self.bench.lose(self.agent)
        self._back(tasks=[self._reported("t", "TASK_STAGING", executor_id="e")])
        self.assertEqual({}, self.bench.state.agents[self.agent_id].executors)

    def test_tasks_that_were_given_up_with_the_link_are_taken_back(self) -> None:
        other, other_id = self.bench.subscribe(AWARE)
        self.bench.receive(self.framework, scheduler_call(Call.SUPPRESS, self.framework_id))
        self.bench.running(self.agent, other, "t")
        self.assertEqual([("t", "TASK_LOST")], told(self.bench.lose(self.agent), other))
        _, effects = self._back(
            tasks=[reported(other_id, self.agent_id, "t")],
            frameworks=[framework_info(other_id, AWARE)],
        )
        (status,) = statuses(effects, other)
        self.assertEqual(
            ("TASK_RUNNING", TaskStatus.REASON_AGENT_REREGISTERED, b""),
            (told(effects, other)[0][1], status.reason, status.uuid),
        )
        self.assertEqual(["t"], list(self.bench.state.frameworks[other_id].tasks))

    def test_completed_framework_is_shut_down(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        self.bench.lose(self.agent)
        self.bench.receive(self.framework, scheduler_call(Call.TEARDOWN, self.framework_id))
        peer, effects = self._back(tasks=[self._reported("t")])
        (message,) = sent(effects, peer, "ShutdownFrameworkMessage")
        self.assertEqual(self.framework_id, message.framework_id.value)
        self.assertEqual({}, self.bench.state.agents[self.agent_id].tasks)

    def test_new_link_replaces_one_that_still_seems_to_stand(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        peer, effects = self._back(tasks=[self._reported("t")])
        self.assertEqual([self.agent], drops(effects))
        self.assertEqual([], self.bench.lose(self.agent))
        self.assertTrue(self.bench.state.agents[self.agent_id].connected)
        self.assertEqual(peer, self.bench.state.agents[self.agent_id].peer.id)  # type: ignore[union-attr]

    def test_other_host_is_shut_down(self) -> None:
        for address, hostname in (
            ("127.0.0.2:40000", "agent.example"),
            ("127.0.0.1:40000", "other.example"),
        ):
            peer = self.bench.connect(PeerKind.AGENT, address)
            effects = self.bench.receive(peer, reregistration(self.agent_id, hostname))
            (message,) = sent(effects, peer)
            self.assertEqual(
                "Agent attempted to reregister with different IP / hostname", message.message
            )
        self.assertTrue(self.bench.state.agents[self.agent_id].connected)

    def test_changed_resources_are_written_down(self) -> None:
        self.bench.lose(self.agent)
        _, effects = self._back(amounts="cpus:8;mem:2048")
        self.assertEqual(f"agents/{self.agent_id}", stores(effects)[0])
        self.assertEqual("cpus:8; mem:2048", _text(self.bench.offer(self.framework)))

    def test_what_contradicts_itself_is_dropped(self) -> None:
        peer = self.bench.connect(PeerKind.AGENT)
        message = reregistration(self.agent_id, tasks=[self._reported("t")])
        status, why = self.bench.call(peer, message)
        self.assertEqual(400, status)
        self.assertIn("invalid FrameworkID", why)


class AfterAPartition(SynchronousTestCase):
    """The master thought the agent cut off, or does not know it."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE)
        self.offer = self.bench.running(self.agent, self.framework, "a", "b")
        self.info = framework_info(self.framework_id, AWARE)
        self.bench.run_until(90)
        self.assertEqual([self.agent_id], list(self.bench.state.unreachable))

    def _back(self, *tasks: Any) -> tuple[PeerId, list[Any]]:
        peer = self.bench.connect(PeerKind.AGENT)
        return peer, self.bench.receive(
            peer, reregistration(self.agent_id, tasks=tasks, frameworks=[self.info])
        )

    def test_tasks_are_running_again(self) -> None:
        tasks = [reported(self.framework_id, self.agent_id, one) for one in ("a", "b")]
        peer, effects = self._back(*tasks)
        self.assertEqual(
            [f"agents/{self.agent_id}", f"-unreachable/{self.agent_id}"], stores(effects)
        )
        self.assertEqual(
            [("a", "TASK_RUNNING"), ("b", "TASK_RUNNING")], told(effects, self.framework)
        )
        status = statuses(effects, self.framework)[0]
        self.assertEqual(
            ("Unreachable agent re-reregistered", TaskStatus.REASON_AGENT_REREGISTERED),
            (status.message, status.reason),
        )
        self.assertEqual(b"", status.uuid)
        framework = self.bench.state.frameworks[self.framework_id]
        self.assertEqual(["a", "b"], list(framework.tasks))
        self.assertEqual({}, framework.unreachable)
        self.assertEqual("cpus:2; mem:1920", _text(self.bench.offer(self.framework)))
        effects = self.bench.receive(peer, update(self.offer, "a", "TASK_FINISHED"))
        self.assertEqual([("a", "TASK_FINISHED")], told(effects, self.framework))

    def test_task_that_ended_meanwhile_is_told_so(self) -> None:
        ended = reported(self.framework_id, self.agent_id, "a", "TASK_FINISHED")
        _, effects = self._back(ended, reported(self.framework_id, self.agent_id, "b"))
        self.assertEqual(
            [("a", "TASK_FINISHED"), ("b", "TASK_RUNNING")], told(effects, self.framework)
        )
        self.assertEqual("cpus:3; mem:1984", _text(self.bench.offer(self.framework)))

    def test_task_of_which_more_is_on_its_way_is_told_to_be_where_that_begins(self) -> None:
        ended = reported(self.framework_id, self.agent_id, "a", "TASK_FINISHED")
        ended.status_update_state = TASK_RUNNING
        ended.status_update_uuid = b"1" * 16
        _, effects = self._back(ended)
        self.assertIn(("a", "TASK_RUNNING"), told(effects, self.framework))

    def test_task_that_is_not_there_any_more_is_gone(self) -> None:
        _, effects = self._back(reported(self.framework_id, self.agent_id, "a"))
        self.assertEqual([("a", "TASK_RUNNING"), ("b", "TASK_GONE")], told(effects, self.framework))
        framework = self.bench.state.frameworks[self.framework_id]
        self.assertEqual([TASK_GONE], [one.state for one in framework.completed])

    def test_unknown_agent_is_taken_in(self) -> None:
        peer = self.bench.connect(PeerKind.AGENT)
        effects = self.bench.receive(
            peer,
            reregistration(
                "forgotten-S7",
                tasks=[reported(self.framework_id, "forgotten-S7", "c")],
                frameworks=[self.info],
            ),
        )
        self.assertEqual("Unknown agent reregistered", statuses(effects, self.framework)[0].message)
        self.assertIn(AgentId("forgotten-S7"), self.bench.state.agents)

    def test_update_from_before_registering_again_is_dropped(self) -> None:
        peer = self.bench.connect(PeerKind.AGENT)
        message = update(self.offer, "a", "TASK_FINISHED")
        self.assertEqual([], self.bench.receive(peer, message))
        self.assertEqual(1, self.bench.state.counters.invalid_status_updates)


class ToANewMaster(SynchronousTestCase):
    """The agent is in the registry of a master that has just begun to lead."""

    def setUp(self) -> None:
        info = agent_info("agent.example", "cpus:4;mem:2048", agent_id="old-S0")
        self.bench = Bench({"agents/old-S0": info.SerializeToString()})

    def _back(self, *tasks: Any, **fields: Any) -> tuple[PeerId, list[Any]]:
        peer = self.bench.connect(PeerKind.AGENT)
        return peer, self.bench.receive(peer, reregistration("old-S0", tasks=tasks, **fields))

    def test_recovered_agent_is_back_without_a_store(self) -> None:
        peer, effects = self._back()
        self.assertEqual([], stores(effects))
        self.assertEqual(
            ["SlaveReregisteredMessage", "PingSlaveMessage"],
            [type(message).__name__ for message in sent(effects, peer)],
        )
        self.assertEqual({}, self.bench.state.recovered)

    def test_frameworks_that_are_there_already_are_not_told_again(self) -> None:
        framework = self.bench.connect(PeerKind.FRAMEWORK)
        call = Call(type=Call.SUBSCRIBE)
        call.framework_id.value = "old-0000"
        call.subscribe.framework_info.CopyFrom(framework_info("old-0000"))
        self.bench.receive(framework, call)
        _, effects = self._back(
            reported("old-0000", "old-S0", "t"), frameworks=[framework_info("old-0000")]
        )
        self.assertEqual([], events(effects, framework))
        self.assertEqual("cpus:3; mem:1984", _text(self.bench.offer(framework)))

    def test_unacknowledged_update_is_sent_on_when_it_comes_again(self) -> None:
        framework = self.bench.connect(PeerKind.FRAMEWORK)
        call = Call(type=Call.SUBSCRIBE)
        call.framework_id.value = "old-0000"
        call.subscribe.framework_info.CopyFrom(framework_info("old-0000"))
        self.bench.receive(framework, call)
        peer, _ = self._back(
            reported("old-0000", "old-S0", "t", "TASK_FINISHED"),
            frameworks=[framework_info("old-0000")],
        )
        acknowledgement = scheduler_call(Call.ACKNOWLEDGE, "old-0000")
        acknowledgement.acknowledge.agent_id.value = "old-S0"
        acknowledgement.acknowledge.task_id.value = "t"
        message = update_of("old-0000", "old-S0", "t", "TASK_FINISHED")
        acknowledgement.acknowledge.uuid = message.update.uuid
        # This master has not sent the update yet.
        self.assertEqual([], self.bench.receive(framework, acknowledgement))
        effects = self.bench.receive(peer, message)
        self.assertEqual([("t", "TASK_FINISHED")], told(effects, framework))
        self.assertEqual(1, len(self.bench.receive(framework, acknowledgement)))
        self.assertEqual({}, self.bench.state.frameworks[FrameworkId("old-0000")].tasks)

    def test_questions_are_answered_with_what_the_framework_was_told_last(self) -> None:
        framework = self.bench.connect(PeerKind.FRAMEWORK)
        call = Call(type=Call.SUBSCRIBE)
        call.framework_id.value = "old-0000"
        call.subscribe.framework_info.CopyFrom(framework_info("old-0000"))
        self.bench.receive(framework, call)
        ended = reported("old-0000", "old-S0", "t", "TASK_FINISHED")
        first = update_of("old-0000", "old-S0", "t", "TASK_STARTING")
        ended.status_update_state = first.update.status.state
        ended.status_update_uuid = first.update.uuid
        self._back(ended, frameworks=[framework_info("old-0000")])
        question = scheduler_call(Call.RECONCILE, "old-0000")
        question.reconcile.tasks.add().task_id.value = "t"
        effects = self.bench.receive(framework, question)
        # It has ended, and all that came before is still on its way.
        self.assertEqual([("t", "TASK_STARTING")], told(effects, framework))

    def test_executors_of_the_agent_hold_resources(self) -> None:
        info = executor("e", "old-0000")
        for one in info.resources:
            one.allocation_info.role = "*"
        self._back(
            reported("old-0000", "old-S0", "t", executor_id="e"),
            executors=[info],
            frameworks=[framework_info("old-0000")],
        )
        agent = self.bench.state.agents[AgentId("old-S0")]
        self.assertEqual("cpus:1.1; mem:96", str(agent.used()[FrameworkId("old-0000")]["*"]))

    def test_reservations_of_the_agent_survive(self) -> None:
        message = reregistration("old-S0")
        reserved = message.checkpointed_resources.add()
        reserved.CopyFrom(Resources.parse("cpus:1").to_message()[0])
        reservation = reserved.reservations.add()
        reservation.role = "r"
        reservation.type = 2  # type: ignore[assignment]
        self.bench.receive(self.bench.connect(PeerKind.AGENT), message)
        total = self.bench.state.agents[AgentId("old-S0")].total
        self.assertEqual(3000, total.unreserved().scalar("cpus"))
        self.assertEqual(1000, total.reserved_to("r").scalar("cpus"))

    def test_reservations_that_cannot_be_shut_the_agent_down(self) -> None:
        message = reregistration("old-S0")
        reserved = message.checkpointed_resources.add()
        reserved.CopyFrom(Resources.parse("gpus:1").to_message()[0])
        reservation = reserved.reservations.add()
        reservation.role = "r"
        reservation.type = 2  # type: ignore[assignment]
        peer = self.bench.connect(PeerKind.AGENT)
        (shutdown,) = sent(self.bench.receive(peer, message), peer)
        self.assertIn("Incompatible agent resources", shutdown.message)
        self.assertEqual({}, self.bench.state.agents)


def _text(offer: Any) -> str:
    return str(Resources.from_message(offer.resources))
