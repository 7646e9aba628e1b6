"""Limits that the master keeps."""

from __future__ import annotations

from dataclasses import replace

from mesoskit.master.options import MasterOptions
from mesoskit.master.rate_limits import RateLimit, RateLimits
from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.model.ids import PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, scheduler_call, subscription, task, update
from tests.master.http_peers import Connection, HttpTestCase


class ExecutorTests(SynchronousTestCase):
    """C{--max_executors_per_agent}."""

    def executing(self, bench: Bench) -> tuple[PeerId, PeerId]:
        """Launch a task with an executor; returns both peers."""
        agent, _ = bench.register()
        framework, _ = bench.subscribe()
        offer = bench.offer(framework)
        info: TaskInfo = task(offer, "t", "cpus:1;mem:64")
        info.ClearField("command")
        info.executor.executor_id.value = "e"
        info.executor.command.value = "run"
        bench.launch(framework, offer, info)
        bench.receive(agent, update(offer, "t", "TASK_RUNNING"))
        return agent, framework

    def test_an_agent_with_as_many_as_it_may_have_is_not_offered(self) -> None:
        bench = Bench(max_executors_per_agent=1)
        _, framework = self.executing(bench)
        with self.assertRaises(AssertionError):
            bench.offers(framework)
        bench.state.validate_state()

    def test_others_are(self) -> None:
        for most in (2, None):
            bench = Bench(max_executors_per_agent=most)
            _, framework = self.executing(bench)
            self.assertTrue(bench.offers(framework))

    def test_other_agents_are(self) -> None:
        bench = Bench(max_executors_per_agent=1)
        _, framework = self.executing(bench)
        bench.register("other.example")
        (offer,) = bench.offers(framework)
        self.assertEqual(offer.hostname, "other.example")


class HttpRateTests(HttpTestCase):
    """C{--rate_limits} for frameworks over HTTP, whom Mesos does not limit."""

    def options(self) -> MasterOptions:
        limits = RateLimits({"slow": RateLimit(10, 5)})
        return replace(super().options(), rate_limits=limits)

    def test_calls_are_answered_at_the_rate_and_refused_beyond_the_capacity(self) -> None:
        stream = self.stream(subscription(principal="slow"))
        calls = Connection(self)
        suppress = self.request(scheduler_call(Call.SUPPRESS, stream.framework_id), stream.id)
        calls.send(suppress * 8)
        self.assertEqual([status for status, *_ in calls.answers()], [202])
        self.assertEqual(stream.types(), ["SUBSCRIBED", "HEARTBEAT", "ERROR"])
        why = "Message mesos.scheduler.Call dropped: capacity(5) exceeded"
        self.assertEqual(stream.events()[-1]["error"]["message"], why)
        statuses = []
        for _ in range(6):
            self.clock.advance(0.1)
            self.turn()
            statuses.append([status for status, *_ in calls.answers()])
        self.assertEqual(statuses[0], [202] * 2)
        self.assertEqual(statuses[-1], [202] * 6 + [429] * 2)
        shown = self.service.metrics()
        self.assertEqual(shown["frameworks/slow/messages_received"], 8.0)
        self.assertEqual(shown["frameworks/slow/messages_processed"], 6.0)
        self.assertEqual(shown["mesoskit/rate_limited_calls"], 0.0)

    def test_others_are_not_limited(self) -> None:
        stream = self.stream(subscription(principal="quick"))
        calls = Connection(self)
        suppress = self.request(scheduler_call(Call.SUPPRESS, stream.framework_id), stream.id)
        calls.send(suppress * 8)
        self.assertEqual([status for status, *_ in calls.answers()], [202] * 8)

    def test_more_calls_than_a_turn_has_room_for_are_all_answered(self) -> None:
        """Those of a link that has had its turn wait in the carrier."""
        stream = self.stream(subscription(principal="quick"))
        call = self.request(scheduler_call(Call.SUPPRESS, stream.framework_id), stream.id)
        connections = [Connection(self) for _ in range(10)]
        for connection in connections:
            connection.protocol.dataReceived(call * 60)
        for _ in range(20):
            self.turn()
        for connection in connections:
            self.assertEqual([status for status, *_ in connection.answers()], [202] * 60)
