"""Reconciliation: every row of the table in C{mesoskit.master.reconcile}."""

from __future__ import annotations

from typing import Any

from mesoskit.master.operator import MarkAgentGone, Requested
from mesoskit.messages.mesos_pb2 import (
    OPERATION_GONE_BY_OPERATOR,
    OPERATION_RECOVERING,
    OPERATION_UNKNOWN,
    OPERATION_UNREACHABLE,
    TaskStatus,
    TimeInfo,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import AgentId
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    acknowledge,
    agent_info,
    events,
    scheduler_call,
    sent,
    statuses,
    subscription,
    task,
    told,
    update,
)

_HOUR = 3600 * 10**9


class Explicit(SynchronousTestCase):
    """A framework asks for a task, with or without its agent."""

    def setUp(self) -> None:
        self.snapshot = {
            "unreachable/lost-S1": TimeInfo(nanoseconds=_HOUR).SerializeToString(),
            "gone/gone-S2": TimeInfo(nanoseconds=_HOUR).SerializeToString(),
        }
        self._begin(self.snapshot)

    def _begin(self, snapshot: dict[str, bytes], *capabilities: int) -> None:
        self.bench = Bench(snapshot, now=7200.0)
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(*(capabilities or (AWARE,)))

    def _ask(self, task_id: str, agent_id: str | None = None) -> list[TaskStatus]:
        call = scheduler_call(Call.RECONCILE, self.framework_id)
        one = call.reconcile.tasks.add()
        one.task_id.value = task_id
        if agent_id is not None:
            one.agent_id.value = agent_id
        return statuses(self.bench.receive(self.framework, call), self.framework)

    def _expected(
        self, state: str, message: str, agent_id: str | None, nanoseconds: int | None = None
    ) -> list[TaskStatus]:
        status = TaskStatus(
            state=state,
            message=message,
            source=TaskStatus.SOURCE_MASTER,
            reason=TaskStatus.REASON_RECONCILIATION,
            timestamp=self.bench.now,
        )
        status.task_id.value = "t"
        if agent_id is not None:
            status.agent_id.value = agent_id
        if nanoseconds is not None:
            status.unreachable_time.nanoseconds = nanoseconds
        return [status]

    def test_known_task(self) -> None:
        offer = self.bench.running(self.agent, self.framework, "t")
        message = update(offer, "t", "TASK_RUNNING", healthy=True)
        message.update.status.container_status.container_id.value = "c"
        self.bench.receive(self.agent, message)
        (expected,) = self._expected(
            "TASK_RUNNING", "Reconciliation: Latest task state", self.agent_id
        )
        expected.healthy = True
        expected.container_status.container_id.value = "c"
        self.assertEqual([expected], self._ask("t"))
        self.assertEqual([expected], self._ask("t", "some-other-agent"))

    def test_known_task_is_told_as_it_was_told_last(self) -> None:
        offer = self.bench.offer(self.framework)
        self.bench.launch(self.framework, offer, task(offer, "t"))
        self.bench.receive(self.agent, update(offer, "t", "TASK_STARTING", latest="TASK_FINISHED"))
        self.assertEqual([0], [status.state for status in self._ask("t")])

    def test_updates_that_came_while_the_framework_was_away_are_not_overtaken(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE, failover_timeout=1000)
        offer = self.bench.offer(self.framework)
        self.bench.launch(self.framework, offer, task(offer, "t"))
        self.bench.lose(self.framework)
        self.bench.receive(self.agent, update(offer, "t", "TASK_STARTING", latest="TASK_KILLED"))
        self.framework = self.bench.connect(PeerKind.FRAMEWORK, "127.0.0.1:50000")
        again = subscription(AWARE, id=self.framework_id, failover_timeout=1000)
        self.bench.receive(self.framework, again)
        self.assertEqual([0], [status.state for status in self._ask("t")])

    def test_unknown_task_on_a_registered_agent(self) -> None:
        self.assertEqual(
            self._expected(
                "TASK_GONE", "Reconciliation: Task is unknown to the agent", self.agent_id
            ),
            self._ask("t", self.agent_id),
        )

    def test_unreachable_agent(self) -> None:
        self.assertEqual(
            self._expected(
                "TASK_UNREACHABLE", "Reconciliation: Task is unreachable", "lost-S1", _HOUR
            ),
            self._ask("t", "lost-S1"),
        )

    def test_gone_agent(self) -> None:
        self.assertEqual(
            self._expected("TASK_GONE_BY_OPERATOR", "Reconciliation: Task is gone", "gone-S2"),
            self._ask("t", "gone-S2"),
        )

    def test_unknown_agent_and_no_agent(self) -> None:
        for agent_id in ("nobody", None):
            self.assertEqual(
                self._expected("TASK_UNKNOWN", "Reconciliation: Task is unknown", agent_id),
                self._ask("t", agent_id),
            )

    def test_while_agents_are_still_to_come_back(self) -> None:
        info = agent_info("old.example", "cpus:1", agent_id="old-S0")
        self._begin({**self.snapshot, "agents/old-S0": info.SerializeToString()})
        self.assertEqual([], self._ask("t", "old-S0"))
        self.assertEqual([], self._ask("t"))
        # What does not depend on them is answered.
        self.assertEqual(1, len(self._ask("t", "lost-S1")))
        self.assertEqual(1, len(self._ask("t", "nobody")))

    def test_old_framework_is_told_lost(self) -> None:
        self._begin(self.snapshot, 2)
        for agent_id in (self.agent_id, "lost-S1", "gone-S2", "nobody", None):
            self.assertEqual([5], [status.state for status in self._ask("t", agent_id)], agent_id)

    def test_unreachable_task_is_answered_by_its_agent(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        self.bench.run_until(self.bench.now + 90)
        self.assertEqual([10], [status.state for status in self._ask("t", self.agent_id)])
        self.assertEqual([13], [status.state for status in self._ask("t")])


class Implicit(SynchronousTestCase):
    """A framework asks for all it has."""

    def test_all_live_tasks_and_no_unreachable_ones(self) -> None:
        bench = Bench()
        first, _ = bench.register("one.example")
        framework, framework_id = bench.subscribe(AWARE)
        offer = bench.running(first, framework, "a", "b")
        bench.receive(first, update(offer, "b", "TASK_FINISHED"))
        call = scheduler_call(Call.RECONCILE, framework_id)
        call.reconcile.SetInParent()
        self.assertEqual(
            [("a", "TASK_RUNNING"), ("b", "TASK_FINISHED")],
            told(bench.receive(framework, call), framework),
        )
        bench.receive(framework, acknowledge(offer, "b", "TASK_FINISHED"))
        self.assertEqual([("a", "TASK_RUNNING")], told(bench.receive(framework, call), framework))
        bench.run_until(100)
        self.assertEqual([], bench.receive(framework, call))


class Kills(SynchronousTestCase):
    """KILL, which reconciles where there is nothing to kill."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE)

    def _kill(self, task_id: str, agent_id: str | None = None) -> list[Any]:
        call = scheduler_call(Call.KILL, self.framework_id)
        call.kill.task_id.value = task_id
        if agent_id is not None:
            call.kill.agent_id.value = agent_id
        return self.bench.receive(self.framework, call)

    def test_running_task(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        (message,) = sent(self._kill("t", self.agent_id), self.agent)
        self.assertEqual(
            ("t", self.framework_id), (message.task_id.value, message.framework_id.value)
        )
        self.assertFalse(message.HasField("kill_policy"))

    def test_unknown_task_is_reconciled(self) -> None:
        self.assertEqual([("t", "TASK_UNKNOWN")], told(self._kill("t"), self.framework))
        self.assertEqual([("t", "TASK_GONE")], told(self._kill("t", self.agent_id), self.framework))

    def test_wrong_agent_is_ignored(self) -> None:
        self.bench.running(self.agent, self.framework, "t")
        self.assertEqual([], self._kill("t", "another"))


class Operations(SynchronousTestCase):
    """RECONCILE_OPERATIONS."""

    def test_answers_follow_the_agent(self) -> None:
        info = agent_info("old.example", "cpus:1", agent_id="old-S0")
        bench = Bench(
            {
                "agents/old-S0": info.SerializeToString(),
                "unreachable/lost-S1": TimeInfo(nanoseconds=1).SerializeToString(),
            }
        )
        _, agent_id = bench.register()
        bench.give(Requested(1, MarkAgentGone(AgentId("lost-S1"))))
        bench.state.unreachable[AgentId("lost-S3")] = 1
        framework, framework_id = bench.subscribe()
        call = scheduler_call(Call.RECONCILE_OPERATIONS, framework_id)
        agents = (agent_id, "old-S0", "lost-S3", "lost-S1", "nobody", None)
        for number, one in enumerate(agents):
            operation = call.reconcile_operations.operations.add()
            operation.operation_id.value = f"op{number}"
            if one is not None:
                operation.agent_id.value = one
        answers = events(bench.receive(framework, call), framework, Event.UPDATE_OPERATION_STATUS)
        self.assertEqual(
            [
                OPERATION_UNKNOWN,
                OPERATION_RECOVERING,
                OPERATION_UNREACHABLE,
                OPERATION_GONE_BY_OPERATOR,
                OPERATION_UNKNOWN,
                OPERATION_UNKNOWN,
            ],
            [event.update_operation_status.status.state for event in answers],
        )
