"""What becomes of tasks is told, and nobody waits for ever."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from mesoskit.driver import (
    DriverSettings,
    FrameworkStopped,
    NotSubscribed,
    Reason,
    Scheduler,
    TaskDropped,
    TaskEnded,
    TaskFailed,
    TaskGone,
    TaskHandle,
    TaskIdInUse,
    TaskInvalid,
    TaskKilled,
    TaskLost,
    TaskState,
    TaskUnreachable,
    command_task,
    executor_info,
    launch_group,
    reserve,
    task,
)
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.wire.link import CallRefused, LinkLost, Refused
from tests.driver.peers import AGENT_ID, FRAMEWORK_ID, FrameworkCase


class LaunchTests(FrameworkCase):
    """What is sent when tasks are launched."""

    def call(self, *operations: Any) -> Any:
        """Accept an offer, and return what the master heard."""
        framework = self.framework()
        stream = framework.offers()
        self.master.offer()
        self.launched = framework.accept(self.successResultOf(stream.__anext__()), operations)
        self.advance()
        return self.master.of_type(Call.ACCEPT)[0].accept

    def test_agent_is_filled_in(self) -> None:
        mine = command_task("t", "true")
        accept = self.call(mine)
        [info] = accept.operations[0].launch.task_infos
        self.assertEqual(info.agent_id.value, AGENT_ID)
        self.assertFalse(mine.HasField("agent_id"))

    def test_executor_belongs_to_the_framework(self) -> None:
        accept = self.call(task("t", executor=executor_info("e", "run"), cpus=1))
        [info] = accept.operations[0].launch.task_infos
        self.assertEqual(info.executor.framework_id.value, FRAMEWORK_ID)

    def test_tasks_in_a_row_are_one_operation(self) -> None:
        infos = [command_task("t", "true") for _ in range(3)]
        accept = self.call(infos[0], infos[1], reserve("cpus:1"), infos[2])
        kinds = [(each.type, len(each.launch.task_infos)) for each in accept.operations]
        self.assertEqual(kinds, [(1, 2), (2, 0), (1, 1)])
        handles = self.successResultOf(self.launched)
        self.assertEqual([h.id for h in handles], [each.task_id.value for each in infos])

    def test_group(self) -> None:
        infos = [command_task("t", "true") for _ in range(2)]
        accept = self.call(launch_group(executor_info("pod"), infos))
        group = accept.operations[0].launch_group
        self.assertEqual(group.executor.framework_id.value, FRAMEWORK_ID)
        self.assertEqual([each.agent_id.value for each in group.task_group.tasks], [AGENT_ID] * 2)
        self.assertEqual(len(self.successResultOf(self.launched)), 2)

    def test_id_of_a_living_task_cannot_be_given_again(self) -> None:
        framework = self.framework()
        self.launch_one(framework, "t")
        stream = framework.offers()
        self.master.offer()
        offer = self.successResultOf(stream.__anext__())
        new, old = command_task("n", "true", id="n"), command_task("t", "true", id="t")
        self.failureResultOf(framework.accept(offer, [new, old]), TaskIdInUse)
        self.assertTrue(offer.held)
        self.assertEqual(list(framework.tasks), ["t"])

    def test_id_may_be_given_again_when_the_end_is_told(self) -> None:
        framework = self.framework()
        handle = self.launch_one(framework, "t")
        again: list[Any] = []
        stream = framework.offers()
        self.master.offer()
        offer = self.successResultOf(stream.__anext__())
        info = command_task("t", "true", id="t")
        handle.terminal().addErrback(lambda _: again.append(framework.accept(offer, [info])))
        self.master.update("t", "TASK_LOST")
        self.advance()
        [fresh] = self.successResultOf(again[0])
        self.assertFalse(fresh.over)

    def test_nothing_is_launched_where_there_is_no_master(self) -> None:
        framework = self.framework()
        stream = framework.offers()
        self.master.offer()
        offer = self.successResultOf(stream.__anext__())
        self.master.host.cut()
        accepted = framework.accept(offer, [command_task("t", "true")])
        self.failureResultOf(accepted, NotSubscribed)
        self.assertEqual(framework.tasks, {})


class AnswerTests(FrameworkCase):
    """The call itself: taken, refused, or nobody knows."""

    def setUp(self) -> None:
        super().setUp()
        self.fw = self.framework()
        stream = self.fw.offers()
        self.master.offer()
        self.offer = self.successResultOf(stream.__anext__())
        self.master.mute.add(Call.ACCEPT)

    def accept(self, *operations: Any) -> Any:
        accepted = self.fw.accept(self.offer, operations or [command_task("t", "true", id="t")])
        self.advance()
        return accepted

    def test_fires_when_the_master_has_taken_it(self) -> None:
        self.master.mute.clear()
        [handle] = self.successResultOf(self.accept())
        self.assertEqual((handle.id, handle.agent_id), ("t", AGENT_ID))
        self.assertEqual(handle.state, TaskState.TASK_STAGING)
        self.assertEqual(handle.info.name, "t")

    def test_refused(self) -> None:
        self.master.mute.clear()
        self.master.refusal[Call.ACCEPT] = Refused(400, "not like this")
        failure = self.failureResultOf(self.accept(), CallRefused)
        self.assertIn("not like this", failure.getErrorMessage())

    def test_where_the_link_breaks_before_the_answer_the_handles_tell(self) -> None:
        accepted = self.accept()
        self.assertNoResult(accepted)
        self.master.host.cut()
        [handle] = self.successResultOf(accepted)
        terminal = handle.terminal()
        self.advance(1)
        self.assertEqual(self.master.reconciled(), [["t"]])
        self.master.update("t", "TASK_GONE", b"")
        self.failureResultOf(terminal, TaskGone)

    def test_operations_alone_fail_where_the_link_breaks(self) -> None:
        accepted = self.accept(reserve("cpus:1"))
        self.master.host.cut()
        self.failureResultOf(accepted, LinkLost)

    def test_cancelling_kills_what_may_have_been_launched(self) -> None:
        accepted = self.accept()
        accepted.cancel()
        self.failureResultOf(accepted, CancelledError)
        self.advance()
        self.assertEqual(self.master.killed(), ["t"])


class HandleTests(FrameworkCase):
    """Each waiter has a Deferred of its own, and is told what there is to tell."""

    def setUp(self) -> None:
        super().setUp()
        self.fw = self.framework()
        self.handle = self.launch_one(self.fw)

    def ended(self, state: str, kind: type[TaskEnded], **more: Any) -> TaskEnded:
        """Let the task end in a state, and return what a waiter is told."""
        waiting = self.handle.terminal()
        running = self.handle.running()
        self.master.update("t", state, **more)
        error = self.failureResultOf(waiting, kind).value
        self.assertIs(type(error), kind)
        self.failureResultOf(running, kind)
        self.failureResultOf(self.handle.terminal(), kind)
        assert isinstance(error, TaskEnded)
        self.assertEqual(self.fw.tasks, {})
        return error

    def test_running_and_finished(self) -> None:
        running, terminal = self.handle.running(), self.handle.terminal()
        self.master.update("t", "TASK_STARTING")
        self.assertNoResult(running)
        self.master.update("t", "TASK_RUNNING")
        self.assertEqual(self.successResultOf(running).state, TaskState.TASK_RUNNING)
        self.assertEqual(self.successResultOf(self.handle.running()).state, TaskState.TASK_RUNNING)
        self.assertNoResult(terminal)
        self.master.update("t", "TASK_FINISHED", message="done")
        self.assertEqual(self.successResultOf(terminal).message, "done")
        self.assertEqual(self.successResultOf(self.handle.terminal()).message, "done")
        self.assertEqual(self.successResultOf(self.handle.running()).state, TaskState.TASK_RUNNING)

    def test_every_call_gives_its_own(self) -> None:
        one, other = self.handle.terminal(), self.handle.terminal()
        self.assertIsNot(one, other)
        one.addCallback(lambda _: 1 / 0)
        self.master.update("t", "TASK_FINISHED")
        self.failureResultOf(one, ZeroDivisionError)
        self.assertEqual(self.successResultOf(other).state, TaskState.TASK_FINISHED)

    def test_finished_without_having_been_seen_running(self) -> None:
        running = self.handle.running()
        self.master.update("t", "TASK_FINISHED")
        self.assertEqual(self.successResultOf(running).state, TaskState.TASK_FINISHED)

    def test_failed_with_why(self) -> None:
        reason = int(Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        error = self.ended("TASK_FAILED", TaskFailed, message="too big", reason=reason)
        self.assertEqual(error.state, TaskState.TASK_FAILED)
        self.assertEqual(error.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        self.assertEqual((error.message, error.task_id), ("too big", "t"))
        self.assertEqual(
            str(error),
            "task t ended as TASK_FAILED (REASON_CONTAINER_LIMITATION_MEMORY): too big",
        )

    def test_no_reason(self) -> None:
        self.assertIsNone(self.ended("TASK_KILLED", TaskKilled).reason)

    def test_refused_by_the_master(self) -> None:
        self.ended("TASK_ERROR", TaskInvalid, uuid=b"")

    def test_lost(self) -> None:
        self.ended("TASK_LOST", TaskLost, uuid=b"")

    def test_dropped(self) -> None:
        self.ended("TASK_DROPPED", TaskDropped)

    def test_gone(self) -> None:
        self.ended("TASK_GONE", TaskGone)

    def test_gone_by_operator(self) -> None:
        self.ended("TASK_GONE_BY_OPERATOR", TaskGone)

    def test_unknown_to_the_cluster(self) -> None:
        self.ended("TASK_UNKNOWN", TaskLost, uuid=b"")

    def test_out_of_reach(self) -> None:
        self.ended("TASK_UNREACHABLE", TaskUnreachable, uuid=b"")

    def test_ran_and_failed(self) -> None:
        self.master.update("t", "TASK_RUNNING")
        self.master.update("t", "TASK_FAILED")
        self.assertEqual(self.successResultOf(self.handle.running()).state, TaskState.TASK_RUNNING)
        self.failureResultOf(self.handle.terminal(), TaskFailed)

    def test_cancelling_running_forgets_it(self) -> None:
        running = self.handle.running()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.advance()
        self.assertEqual(self.master.killed(), [])
        self.master.update("t", "TASK_RUNNING")

    def test_cancelling_terminal_kills_the_task(self) -> None:
        terminal, other = self.handle.terminal(), self.handle.terminal()
        terminal.cancel()
        self.failureResultOf(terminal, CancelledError)
        self.advance()
        self.assertEqual(self.master.killed(), ["t"])
        self.master.update("t", "TASK_KILLED")
        self.failureResultOf(other, TaskKilled)

    def test_timeout_kills_the_task(self) -> None:
        self.handle.terminal().addTimeout(10, self.host).addErrback(lambda _: None)
        self.advance(9)
        self.assertEqual(self.master.killed(), [])
        self.advance(1)
        self.assertEqual(self.master.killed(), ["t"])

    def test_stopping_ends_all(self) -> None:
        waiting = [self.handle.running(), self.handle.terminal(), self.handle.kill()]
        self.fw.stopService()
        self.advance()
        for each in [*waiting, self.handle.terminal(), self.handle.kill()]:
            self.failureResultOf(each, FrameworkStopped)

    def test_shown(self) -> None:
        self.master.update("t", "TASK_RUNNING")
        self.assertEqual(repr(self.handle), "<TaskHandle t TASK_RUNNING>")

    def test_waiter_who_stops_the_framework_harms_nobody(self) -> None:
        self.handle.terminal().addErrback(lambda _: self.fw.stopService())
        other = self.handle.terminal()
        self.master.update("t", "TASK_FAILED")
        self.failureResultOf(other, TaskFailed)

    def test_waiter_who_cancels_another(self) -> None:
        one, other = self.handle.terminal(), self.handle.terminal()
        one.addCallback(lambda _: other.cancel())
        other.addErrback(lambda _: None)
        self.master.update("t", "TASK_FINISHED")
        self.successResultOf(one)
        self.successResultOf(other)


class KillTests(FrameworkCase):
    """Kills are repeated until they have worked."""

    def setUp(self) -> None:
        super().setUp()
        self.fw = self.framework()
        self.handle = self.launch_one(self.fw)

    def test_fires_with_whatever_the_end_is(self) -> None:
        for state in ("TASK_KILLED", "TASK_FINISHED", "TASK_LOST"):
            handle = self.launch_one(self.fw, state)
            killed = handle.kill()
            self.assertNoResult(killed)
            self.master.update(state, state)
            self.assertEqual(self.successResultOf(killed).state, TaskState[state])
            self.assertEqual(self.successResultOf(handle.kill()).state, TaskState[state])

    def test_says_where_and_how(self) -> None:
        self.handle.kill(grace=1.5)
        self.advance()
        [call] = self.master.of_type(Call.KILL)
        self.assertEqual(call.framework_id.value, FRAMEWORK_ID)
        self.assertEqual(call.kill.agent_id.value, AGENT_ID)
        self.assertEqual(call.kill.kill_policy.grace_period.nanoseconds, 1_500_000_000)

    def test_is_repeated_with_growing_waits_until_the_end(self) -> None:
        self.handle.kill()
        for seconds, times in ((0, 1), (5, 2), (9, 2), (1, 3), (20, 4)):
            self.advance(seconds)
            self.assertEqual(len(self.master.killed()), times)
        self.master.update("t", "TASK_KILLED")
        self.advance(1000)
        self.assertEqual(len(self.master.killed()), 4)

    def test_is_said_again_to_the_next_master(self) -> None:
        self.handle.kill()
        self.advance()
        self.master.host.cut()
        self.advance(1)
        self.assertEqual(self.master.killed(), ["t", "t"])

    def test_is_said_when_there_is_a_master(self) -> None:
        self.master.host.cut()
        self.handle.kill()
        self.advance(1)
        self.assertEqual(self.master.killed(), ["t"])

    def test_cancelling_forgets_the_waiting_alone(self) -> None:
        killed = self.handle.kill()
        killed.cancel()
        self.failureResultOf(killed, CancelledError)
        self.advance(5)
        self.assertEqual(self.master.killed(), ["t", "t"])

    def test_by_id(self) -> None:
        self.successResultOf(self.fw.kill("t"))
        done = self.fw.kill("stranger", AGENT_ID)
        self.advance(5)
        self.successResultOf(done)
        self.assertEqual(self.master.killed(), ["t", "stranger", "t", "stranger"])
        self.master.update("stranger", "TASK_UNKNOWN", b"")
        self.advance(60)
        self.assertEqual(self.master.killed().count("stranger"), 2)


class LostTests(FrameworkCase):
    """Agents that are cut off, and tasks that come back from the dead."""

    def test_patience_with_an_agent_that_is_cut_off(self) -> None:
        framework = self.framework(settings=DriverSettings(unreachable_patience=60))
        waiting = self.launch_one(framework).terminal()
        self.master.update("t", "TASK_UNREACHABLE", b"")
        self.advance(59)
        self.assertNoResult(waiting)
        self.advance(1)
        self.failureResultOf(waiting, TaskUnreachable)

    def test_task_that_is_back_in_time_goes_on(self) -> None:
        framework = self.framework(settings=DriverSettings(unreachable_patience=60))
        waiting = self.launch_one(framework).terminal()
        self.master.update("t", "TASK_UNREACHABLE", b"")
        self.advance(30)
        self.master.update("t", "TASK_RUNNING", b"")
        self.advance(600)
        self.assertNoResult(waiting)
        self.master.update("t", "TASK_FINISHED")
        self.successResultOf(waiting)

    def test_scheduler_has_all_the_patience(self) -> None:
        framework = self.framework(scheduler=Scheduler())
        handle = framework.adopt("t", AGENT_ID)
        waiting = handle.terminal()
        self.master.update("t", "TASK_UNREACHABLE", b"")
        self.advance(10_000)
        self.assertNoResult(waiting)

    def test_task_that_comes_back_after_it_was_given_up_is_killed(self) -> None:
        for state in ("TASK_UNREACHABLE", "TASK_LOST", "TASK_UNKNOWN", "TASK_GONE"):
            framework = self.framework()
            self.launch_one(framework, state).terminal().addErrback(lambda _: None)
            self.master.update(state, state, b"")
            self.advance(60)
            self.assertEqual(self.master.killed(), [])
            self.master.update(state, "TASK_RUNNING", b"")
            self.advance()
            self.assertEqual(self.master.killed(), [state])
            self.master.update(state, "TASK_KILLED")
            self.master.update(state, "TASK_RUNNING", b"")
            self.advance()
            self.assertEqual(len(self.master.killed()), 1)
            framework.stopService()
            self.advance()
            self.master.said.clear()

    def test_strangers_tasks_are_left_alone(self) -> None:
        framework = self.framework()
        self.master.update("stranger", "TASK_RUNNING")
        self.advance()
        self.assertEqual(self.master.killed(), [])
        self.assertEqual(framework.tasks, {})


class AdoptTests(FrameworkCase):
    """Tasks of a former life."""

    def test_adopted_task_is_asked_for(self) -> None:
        framework = self.framework()
        handle = framework.adopt("t", AGENT_ID)
        self.advance()
        self.assertEqual(self.master.reconciled(), [["t"]])
        running = handle.running()
        self.master.update("t", "TASK_RUNNING", b"")
        self.successResultOf(running)

    def test_agent_is_learned(self) -> None:
        handle = self.framework().adopt("t")
        self.master.update("t", "TASK_RUNNING", b"")
        self.assertEqual(handle.agent_id, AGENT_ID)

    def test_task_that_has_a_handle_keeps_it(self) -> None:
        framework = self.framework()
        handle: TaskHandle = self.launch_one(framework)
        self.assertIs(framework.adopt("t"), handle)

    def test_before_there_is_a_master(self) -> None:
        framework = self.framework(start=False, fields={"id": {"value": "m-0001"}})
        framework.adopt("t", AGENT_ID)
        framework.startService()
        self.advance()
        self.assertEqual(self.master.reconciled()[:2], [["t"], []])
