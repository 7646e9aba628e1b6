"""Tasks are asked for until everything is answered."""

from __future__ import annotations

from mesoskit.driver import DriverSettings, TaskLost
from mesoskit.messages.scheduler_pb2 import Event
from tests.driver.peers import FrameworkCase


class ReconciliationTests(FrameworkCase):
    """After each new subscription, and from time to time."""

    def setUp(self) -> None:
        super().setUp()
        self.fw = self.framework()
        self.handles = [self.launch_one(self.fw, each) for each in ("a", "b", "c")]

    def again(self) -> None:
        """Break the link, and let it be made again."""
        self.master.host.cut()
        self.advance(1)

    def test_live_tasks_are_asked_for_after_a_broken_link(self) -> None:
        self.master.update("b", "TASK_FINISHED")
        self.again()
        self.assertEqual(self.master.reconciled(), [["a", "c"]])
        tasks = self.master.said[-1].reconcile.tasks
        self.assertEqual({each.agent_id.value for each in tasks}, {"m-S0"})

    def test_what_is_not_answered_is_asked_again_with_growing_waits(self) -> None:
        self.again()
        self.master.update("a", "TASK_RUNNING", b"")
        self.advance(5)
        self.assertEqual(self.master.reconciled()[1:], [["b", "c"]])
        self.master.update("c", "TASK_RUNNING", b"")
        self.advance(9)
        self.assertEqual(len(self.master.reconciled()), 2)
        self.advance(1)
        self.assertEqual(self.master.reconciled()[2:], [["b"]])
        self.master.update("b", "TASK_RUNNING", b"")
        self.advance(600)
        self.assertEqual(len(self.master.reconciled()), 3)

    def test_waits_are_limited(self) -> None:
        self.again()
        self.advance(3000)
        before = len(self.master.reconciled())
        self.advance(300)
        self.assertEqual(len(self.master.reconciled()), before + 1)

    def test_what_was_not_answered_is_asked_again_when_its_agent_is_lost(self) -> None:
        self.again()
        self.master.update("a", "TASK_RUNNING", b"")
        failure = Event(type=Event.FAILURE)
        failure.failure.agent_id.value = "m-S1"
        self.master.send(failure)
        self.advance(1)
        self.assertEqual(len(self.master.reconciled()), 1)
        failure.failure.agent_id.value = "m-S0"
        self.master.send(failure)
        self.advance()
        self.assertEqual(self.master.reconciled()[1:], [["b", "c"]])

    def test_any_update_is_an_answer(self) -> None:
        self.again()
        for each in "abc":
            self.master.update(each, "TASK_STARTING")
        self.advance(60)
        self.assertEqual(len(self.master.reconciled()), 1)

    def test_from_time_to_time_without_an_occasion(self) -> None:
        self.advance(899)
        self.assertEqual(self.master.reconciled(), [])
        self.advance(2)
        self.assertEqual(self.master.reconciled(), [["a", "b", "c"]])

    def test_nothing_is_asked_of_nobody(self) -> None:
        self.again()
        self.master.leave()
        self.advance(600)
        self.assertEqual(len(self.master.reconciled()), 1)

    def test_what_the_cluster_knows_nothing_of_ends(self) -> None:
        waiting = self.handles[0].terminal()
        self.again()
        self.assertNoResult(waiting)
        self.master.update("a", "TASK_UNKNOWN", b"")
        self.failureResultOf(waiting, TaskLost)


class BatchTests(FrameworkCase):
    """Many tasks."""

    def test_many_tasks_are_asked_for_in_pieces(self) -> None:
        framework = self.framework(settings=DriverSettings(reconcile_batch=2))
        for each in "abcde":
            self.launch_one(framework, each)
        self.master.host.cut()
        self.advance(1)
        self.assertEqual(self.master.reconciled(), [["a", "b"], ["c", "d"], ["e"]])
