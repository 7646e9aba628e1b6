"""Limits that the master keeps."""

from __future__ import annotations

from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.model.ids import PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, task, update


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
