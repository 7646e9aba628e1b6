"""What an agent does that is to drain."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from mesoskit.agent import answers, views
from mesoskit.agent.container import Destroy, Signal
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import KillPolicy, TaskState, TaskStatus
from mesoskit.model.events import Connected, PeerKind
from tests.agent.bench import (
    AWARE,
    KILLING,
    MASTER,
    OPTIONS,
    SEED,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase


def drain(seconds: float | None = None, mark_gone: bool = False) -> internal.DrainSlaveMessage:
    """Return what the master says."""
    message = internal.DrainSlaveMessage()
    message.config.mark_gone = mark_gone
    if seconds is not None:
        message.config.max_grace_period.nanoseconds = int(seconds * 1e9)
    return message


class DrainingTests(SynchronousTestCase):
    """Tasks that end because their agent drains."""

    def running(self, *capabilities: int, **fields: Any) -> Bench:
        """Return an agent that runs one command task."""
        bench = Bench().register()
        info = framework(*capabilities, checkpoint=True)
        bench.run(task("t", "sleep 1000", **fields), info=info)
        bench.start("t")
        bench.acknowledge()
        bench.clear()
        return bench

    def signals(self, bench: Bench) -> list[int]:
        return [one.signum for one in bench.hands if isinstance(one, Signal)]

    def killed_after(self, bench: Bench) -> float:
        """Return how long the task has until it is destroyed."""
        began = bench.now
        while not any(isinstance(one, Destroy) for one in bench.hands):
            bench.wait(1.0)
        return bench.now - began

    def test_tasks_are_killed_and_say_why(self) -> None:
        bench = self.running(AWARE, KILLING)
        bench.receive(drain())
        self.assertEqual([SIGTERM], self.signals(bench))
        self.assertEqual([("t", "TASK_KILLING")], bench.updates())
        self.assertEqual(TaskStatus.REASON_AGENT_DRAINING, bench.last().reason)
        bench.exit("t", SIGTERM)
        bench.acknowledge()
        self.assertEqual([("t", "TASK_KILLING"), ("t", "TASK_KILLED")], bench.updates())
        self.assertEqual(TaskStatus.REASON_AGENT_DRAINING, bench.last().reason)

    def test_tasks_of_an_agent_that_will_be_gone_are_gone(self) -> None:
        for capabilities, after in (
            ((AWARE, KILLING), "TASK_GONE_BY_OPERATOR"),
            ((), "TASK_KILLED"),
        ):
            bench = self.running(*capabilities)
            bench.receive(drain(mark_gone=True))
            bench.exit("t", SIGTERM)
            bench.acknowledge()
            self.assertEqual(("t", after), bench.updates()[-1])
            self.assertEqual({}, bench.state.tasks)

    def test_grace_periods_are_cut_short(self) -> None:
        policy = KillPolicy()
        policy.grace_period.nanoseconds = 60 * 10**9
        for most, expected in ((None, 60.0), (2.0, 2.0), (100.0, 60.0)):
            bench = self.running(AWARE, kill_policy=policy)
            bench.receive(drain(most))
            self.assertEqual(expected, self.killed_after(bench), most)

    def test_no_task_is_taken_meanwhile(self) -> None:
        bench = self.running(AWARE)
        bench.receive(drain())
        bench.run(task("late"), info=framework(AWARE, checkpoint=True))
        self.assertIn(("late", "TASK_DROPPED"), bench.updates())
        status = bench.last()
        self.assertEqual(TaskStatus.REASON_AGENT_DRAINING, status.reason)
        self.assertEqual("Task was received while agent was already draining", status.message)

    def test_when_nothing_is_left_tasks_are_taken_again(self) -> None:
        bench = self.running(AWARE)
        bench.receive(drain())
        self.assertIn("agent/drain", bench.store)
        bench.exit("t", SIGTERM)
        bench.acknowledge()
        self.assertNotIn("agent/drain", bench.store)
        bench.clear()
        bench.run(task("new"), info=framework(AWARE, checkpoint=True))
        self.assertEqual(1, len(bench.launched()))

    def test_an_agent_without_tasks_has_nothing_to_do(self) -> None:
        bench = Bench().register()
        bench.receive(drain())
        self.assertNotIn("agent/drain", bench.store)
        bench.run(task("new"), info=framework(AWARE))
        self.assertEqual(1, len(bench.launched()))

    def test_executors_are_asked_with_the_shorter_grace_period(self) -> None:
        for most, seconds in ((None, None), (1.0, 1.0), (9.0, None)):
            bench = Bench().register()
            info = framework(AWARE, checkpoint=True)
            one = task("t", kill_policy={"grace_period": {"nanoseconds": 5 * 10**9}})
            one.ClearField("command")
            one.executor.CopyFrom(custom_executor())
            bench.run(one, info=info, launch=True)
            peer = bench.subscribe()
            bench.update(peer, TaskState.TASK_RUNNING)
            bench.clear()
            bench.receive(drain(most))
            (kill,) = [message for _, message in bench.told if message.HasField("kill")]
            policy = kill.kill.kill_policy
            self.assertEqual(seconds is not None, kill.kill.HasField("kill_policy"))
            self.assertEqual((seconds or 0) * 10**9, policy.grace_period.nanoseconds)

    def test_a_restarted_agent_goes_on(self) -> None:
        first = self.running(AWARE)
        first.receive(drain(2.0, mark_gone=True))
        container = first.container_of("t")
        after = Bench(replace(OPTIONS), first.store, SEED[:-1] + b"x")
        after.now = first.now + 1
        after.recover({container: 77})
        after.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        self.assertIsNotNone(after.state.drain)
        self.assertLessEqual(self.killed_after(after), 2.0)

    def test_it_is_shown(self) -> None:
        bench = self.running(AWARE)
        self.assertNotIn("drain_config", views.head_view(bench.state, None))
        bench.receive(drain(2.0))
        view = views.head_view(bench.state, None)
        expected = {"max_grace_period": {"nanoseconds": 2_000_000_000}, "mark_gone": False}
        self.assertEqual(expected, view["drain_config"])
        self.assertEqual(bench.now, view["estimated_drain_start_time_seconds"])
        shown = answers.agent(bench.state).get_agent
        self.assertEqual(drain(2.0).config, shown.drain_config)
        self.assertEqual(int(bench.now) * 10**9, shown.estimated_drain_start_time.nanoseconds)
