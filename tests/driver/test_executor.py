"""An executor and its agent: nothing that was reported is lost, nobody lingers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mesoskit.driver import (
    Executor,
    ExecutorDriver,
    ExecutorEnvironment,
    ExecutorService,
    NoAgent,
    TaskState,
)
from mesoskit.driver.environment import SOCKET, TOKEN
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus
from mesoskit.testing.network import Network
from mesoskit.wire.link import Refused
from tests.base import SynchronousTestCase
from tests.driver.peers import Agent

PATH = "/run/executors.sock"
VARIABLES = {
    SOCKET: PATH,
    TOKEN: "secret",
    "MESOS_FRAMEWORK_ID": "f",
    "MESOS_EXECUTOR_ID": "e",
    "MESOS_SLAVE_ID": "a",
    "MESOS_SANDBOX": "/sandbox",
    "MESOS_CHECKPOINT": "1",
    "MESOS_RECOVERY_TIMEOUT": "15mins",
    "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
    "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
}


class Recorder(Executor):
    """Remembers what it was told; C{result} is what launching gives."""

    def __init__(self, result: Any = None) -> None:
        self.told: list[Any] = []
        self.result = result
        self.ending: Any = None

    def subscribed(self, driver: ExecutorDriver, subscribed: Any) -> None:
        self.told.append("subscribed")

    def disconnected(self, driver: ExecutorDriver, why: str) -> None:
        self.told.append("disconnected")

    def launch(self, driver: ExecutorDriver, task: TaskInfo) -> Any:
        self.told.append(("launch", task.task_id.value))
        return self.result(driver, task) if callable(self.result) else self.result

    def kill(self, driver: ExecutorDriver, task_id: str, grace: float | None) -> Any:
        self.told.append(("kill", task_id, grace))
        super().kill(driver, task_id, grace)

    def message(self, driver: ExecutorDriver, data: bytes) -> None:
        self.told.append(("message", data))

    def shutdown(self, driver: ExecutorDriver) -> Any:
        self.told.append("shutdown")
        super().shutdown(driver)
        return self.ending


class ExecutorCase(SynchronousTestCase):
    """A driver, and an agent that does what it is told."""

    def setUp(self) -> None:
        self.network = Network()
        self.agent = Agent(self.network, PATH)
        self.host = self.agent.host

    def driver(self, executor: Executor | None = None, **variables: str) -> ExecutorDriver:
        """Return a driver that is subscribed."""
        self.executor = executor or Recorder()
        environment = ExecutorEnvironment.read({**VARIABLES, **variables})
        driver = ExecutorDriver(self.host, self.executor, environment, chance=lambda: 0.5)
        self.over = driver.run()
        self.advance()
        return driver

    def advance(self, seconds: float = 0.0) -> None:
        self.network.advance(seconds)

    def launch(self, task_id: str = "t") -> None:
        event = Event(type=Event.LAUNCH)
        event.launch.task.CopyFrom(self.task(task_id))
        self.agent.send(event)

    def task(self, task_id: str) -> TaskInfo:
        info = TaskInfo(name=task_id)
        info.task_id.value, info.agent_id.value = task_id, "a"
        return info

    def kill(self, task_id: str, nanoseconds: int | None = None) -> None:
        event = Event(type=Event.KILL)
        event.kill.task_id.value = task_id
        if nanoseconds is not None:
            event.kill.kill_policy.grace_period.nanoseconds = nanoseconds
        self.agent.send(event)

    def acknowledge(self, status: TaskStatus) -> None:
        event = Event(type=Event.ACKNOWLEDGED)
        event.acknowledged.task_id.value = status.task_id.value
        event.acknowledged.uuid = status.uuid
        self.agent.send(event)

    def statuses(self) -> list[TaskStatus]:
        """Return what was reported in calls of its own."""
        self.advance()
        return [call.update.status for call in self.agent.of_type(Call.UPDATE)]

    def states(self) -> list[str]:
        return [TaskState(each.state).name for each in self.statuses()]


class EnvironmentTests(SynchronousTestCase):
    """Who an executor is."""

    def test_all_of_it(self) -> None:
        read = ExecutorEnvironment.read(VARIABLES)
        self.assertEqual((read.socket, read.token, read.framework_id), (PATH, "secret", "f"))
        self.assertEqual((read.executor_id, read.agent_id, read.directory), ("e", "a", "/sandbox"))
        self.assertEqual((read.checkpoint, read.recovery_timeout), (True, 900))
        self.assertEqual((read.backoff, read.shutdown_grace), (2, 5))

    def test_what_may_be_missing(self) -> None:
        needed = {name: VARIABLES[name] for name in list(VARIABLES)[:4]}
        read = ExecutorEnvironment.read(needed)
        self.assertEqual((read.checkpoint, read.shutdown_grace, read.directory), (False, 5, ""))

    def test_no_agent(self) -> None:
        with self.assertRaisesRegex(NoAgent, "MESOSKIT_EXECUTOR_SOCKET is not set"):
            ExecutorEnvironment.read({})

    def test_wrong_duration(self) -> None:
        with self.assertRaisesRegex(NoAgent, "MESOS_RECOVERY_TIMEOUT is 'soon'"):
            ExecutorEnvironment.read({**VARIABLES, "MESOS_RECOVERY_TIMEOUT": "soon"})


class LaunchTests(ExecutorCase):
    """What becomes of what launching gives."""

    def test_subscribes_with_its_token(self) -> None:
        self.driver()
        [hello] = self.agent.hellos
        self.assertEqual((hello.role, hello.token), (4, "secret"))
        [call] = self.agent.said
        self.assertEqual((call.framework_id.value, call.executor_id.value), ("f", "e"))
        self.assertEqual(self.executor.told, ["subscribed"])  # type: ignore[attr-defined]

    def test_nothing_is_reported_of_what_reports_itself(self) -> None:
        driver = self.driver()
        self.launch()
        self.assertEqual(self.states(), [])
        driver.update("t", TaskState.TASK_RUNNING, "here", healthy=True, labels={"k": "v"})
        [status] = self.statuses()
        self.assertEqual((status.message, status.healthy, len(status.uuid)), ("here", True, 16))
        self.assertEqual(status.source, TaskStatus.SOURCE_EXECUTOR)
        self.assertEqual(status.timestamp, self.network.seconds())
        self.assertEqual(status.labels.labels[0].value, "v")

    def test_coroutine_runs_and_finishes(self) -> None:
        done: Deferred[bytes] = Deferred()

        async def work(driver: Any, task: Any) -> bytes:
            return await done

        self.driver(Recorder(work))
        self.launch()
        self.assertEqual(self.states(), ["TASK_RUNNING"])
        done.callback(b"42")
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_FINISHED"])
        self.assertEqual(self.statuses()[1].data, b"42")

    def test_running_is_reported_before_the_work_begins(self) -> None:
        async def work(driver: ExecutorDriver, task: Any) -> None:
            driver.update("t", TaskState.TASK_RUNNING, "half")

        self.driver(Recorder(work))
        self.launch()
        self.assertEqual([each.message for each in self.statuses()], ["", "half", ""])

    def test_deferred_fails(self) -> None:
        work: Deferred[None] = Deferred()
        self.driver(Recorder(work))
        self.launch()
        work.errback(ValueError("no such image"))
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_FAILED"])
        self.assertEqual(self.statuses()[1].message, "ValueError: no such image")
        self.flushLoggedErrors(ValueError)

    def test_raises_at_once(self) -> None:
        self.driver(Recorder(lambda driver, task: 1 / 0))
        self.launch()
        self.assertEqual(self.states(), ["TASK_FAILED"])
        self.flushLoggedErrors(ZeroDivisionError)

    def test_executor_that_cannot_launch(self) -> None:
        self.driver(Executor())
        self.launch()
        self.assertEqual(self.states(), ["TASK_FAILED"])
        self.flushLoggedErrors(NotImplementedError)

    def test_group_is_launched_one_by_one(self) -> None:
        driver = self.driver()
        event = Event(type=Event.LAUNCH_GROUP)
        for each in "ab":
            event.launch_group.task_group.tasks.append(self.task(each))
        self.agent.send(event)
        self.assertEqual(list(driver.tasks), ["a", "b"])

    def test_task_is_launched_once(self) -> None:
        self.driver()
        self.launch()
        self.launch()
        self.assertEqual(self.executor.told, ["subscribed", ("launch", "t")])  # type: ignore[attr-defined]

    def test_what_has_ended_stays_ended(self) -> None:
        driver = self.driver()
        self.launch()
        driver.update("t", TaskState.TASK_FINISHED)
        driver.update("t", TaskState.TASK_FAILED)
        driver.update("stranger", TaskState.TASK_RUNNING)
        self.assertEqual(self.states(), ["TASK_FINISHED"])

    def test_result_after_the_end_is_not_reported(self) -> None:
        work: Deferred[None] = Deferred()
        driver = self.driver(Recorder(work))
        self.launch()
        driver.update("t", TaskState.TASK_FAILED)
        work.callback(None)
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_FAILED"])

    def test_messages(self) -> None:
        driver = self.driver()
        event = Event(type=Event.MESSAGE)
        event.message.data = b"in"
        self.agent.send(event)
        self.assertEqual(self.executor.told[-1], ("message", b"in"))  # type: ignore[attr-defined]
        driver.send(b"out")
        self.advance()
        self.assertEqual(self.agent.said[-1].message.data, b"out")


class KillTests(ExecutorCase):
    """A kill cancels, and says how long it may take."""

    def test_cancels_what_runs(self) -> None:
        self.driver(Recorder(lambda driver, task: Deferred()))
        self.launch()
        self.kill("t", 2_500_000_000)
        self.assertEqual(self.executor.told[-1], ("kill", "t", 2.5))  # type: ignore[attr-defined]
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_KILLED"])

    def test_work_that_cleans_up_first(self) -> None:
        cleaned: Deferred[None] = Deferred()

        async def work(driver: Any, task: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                await cleaned
                raise

        self.driver(Recorder(work))
        self.launch()
        self.kill("t")
        self.assertEqual(self.states(), ["TASK_RUNNING"])
        cleaned.callback(None)
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_KILLED"])

    def test_second_kill_does_not_disturb_the_cleaning_up(self) -> None:
        cleaned: Deferred[None] = Deferred()

        async def work(driver: Any, task: Any) -> None:
            try:
                await Deferred()
            except CancelledError:
                await cleaned
                raise

        self.driver(Recorder(work))
        self.launch()
        self.kill("t")
        self.kill("t")
        self.assertEqual(self.states(), ["TASK_RUNNING"])
        cleaned.callback(None)
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_KILLED"])

    def test_unknown_task(self) -> None:
        self.driver()
        self.kill("stranger")
        self.assertEqual(self.states(), [])

    def test_cancelled_without_a_kill_has_failed(self) -> None:
        work: Deferred[None] = Deferred()
        self.driver(Recorder(work))
        self.launch()
        work.cancel()
        self.assertEqual(self.states()[-1], "TASK_FAILED")
        self.flushLoggedErrors(CancelledError)


class UpdateTests(ExecutorCase):
    """Every update is said until it is acknowledged."""

    def test_unacknowledged_ones_are_said_at_the_next_subscription(self) -> None:
        driver = self.driver()
        for each in "abc":
            self.launch(each)
            driver.update(each, TaskState.TASK_RUNNING)
        self.acknowledge(self.statuses()[0])
        self.agent.host.cut()
        driver.update("a", TaskState.TASK_FINISHED)
        self.advance(2)
        again = self.agent.said[-1]
        self.assertEqual(again.type, Call.SUBSCRIBE)
        tasks = [each.task_id.value for each in again.subscribe.unacknowledged_tasks]
        self.assertEqual(tasks, ["b", "c"])
        updates = [
            (each.status.task_id.value, TaskState(each.status.state).name)
            for each in again.subscribe.unacknowledged_updates
        ]
        self.assertEqual(
            updates, [("b", "TASK_RUNNING"), ("c", "TASK_RUNNING"), ("a", "TASK_FINISHED")]
        )
        self.assertEqual(len(self.statuses()), 3)

    def test_acknowledged_ones_are_not_said_again(self) -> None:
        driver = self.driver()
        self.launch()
        driver.update("t", TaskState.TASK_RUNNING)
        self.acknowledge(self.statuses()[0])
        self.agent.host.cut()
        self.advance(2)
        again = self.agent.said[-1].subscribe
        self.assertEqual(
            (len(again.unacknowledged_tasks), len(again.unacknowledged_updates)), (0, 0)
        )
        self.assertEqual(driver.updates, {})

    def test_reported_while_subscribing(self) -> None:
        driver = self.driver()
        self.launch()
        self.agent.host.cut()
        self.agent.silent = True
        self.advance(2)
        driver.update("t", TaskState.TASK_RUNNING)
        self.assertEqual(self.statuses(), [])
        self.agent.send(self.subscribed())
        self.assertEqual(self.states(), ["TASK_RUNNING"])

    def subscribed(self) -> Event:
        event = Event(type=Event.SUBSCRIBED)
        event.subscribed.executor_info.executor_id.value = "e"
        event.subscribed.framework_info.user = event.subscribed.framework_info.name = "n"
        event.subscribed.agent_info.hostname = "h"
        return event

    def test_agent_without_room_is_told_again(self) -> None:
        driver = self.driver()
        self.launch()
        self.agent.refusal[Call.UPDATE] = Refused(429, "too many")
        driver.update("t", TaskState.TASK_RUNNING)
        self.advance()
        self.agent.refusal.clear()
        self.advance(1)
        self.assertEqual(self.states(), ["TASK_RUNNING"] * 2)
        self.assertEqual(len({each.uuid for each in self.statuses()}), 1)

    def test_refused_update_is_given_up(self) -> None:
        driver = self.driver()
        self.launch()
        self.agent.refusal[Call.UPDATE] = Refused(400, "no such task")
        driver.update("t", TaskState.TASK_RUNNING)
        self.advance(60)
        self.assertEqual(self.states(), ["TASK_RUNNING"])
        self.assertEqual(driver.updates, {})
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class AgentTests(ExecutorCase):
    """Agents that are late, or go away."""

    def test_agent_that_is_late(self) -> None:
        self.agent.leave()
        driver = self.driver()
        self.advance(10)
        self.agent.listen(f"unix:{PATH}")
        self.advance(2)
        self.assertTrue(driver.subscribed)

    def test_agent_that_never_comes(self) -> None:
        self.agent.leave()
        self.driver()
        self.advance(59)
        self.assertNoResult(self.over)
        self.advance(2)
        self.successResultOf(self.over)
        self.assertIn("shutdown", self.executor.told)  # type: ignore[attr-defined]

    def test_agent_that_recovers_is_asked_again(self) -> None:
        self.agent.refusal[Call.SUBSCRIBE] = Refused(503, "recovering")
        driver = self.driver()
        self.agent.refusal.clear()
        self.advance(2)
        self.assertTrue(driver.subscribed)

    def test_agent_that_does_not_answer_is_asked_again(self) -> None:
        self.agent.silent = True
        driver = self.driver()
        self.advance(9)
        self.assertEqual(self.agent.links, 1)
        self.agent.silent = False
        self.advance(2)
        self.assertTrue(driver.subscribed)

    def test_agent_that_does_not_know_it(self) -> None:
        self.agent.refusal[Call.SUBSCRIBE] = Refused(403, "who are you?")
        self.driver()
        self.advance()
        self.successResultOf(self.over)

    def test_checkpointed_executor_waits_for_its_agent(self) -> None:
        driver = self.driver()
        self.launch()
        self.agent.leave()
        self.advance(14 * 60)
        self.assertNoResult(self.over)
        self.agent.listen(f"unix:{PATH}")
        self.advance(2)
        self.assertTrue(driver.subscribed)
        self.assertEqual(list(driver.tasks), ["t"])
        self.advance(3600)
        self.assertNoResult(self.over)

    def test_attempts_come_often_enough_for_an_agent_that_restarts(self) -> None:
        driver = self.driver()
        self.agent.leave()
        self.advance(600)
        self.agent.listen(f"unix:{PATH}")
        self.advance(2)
        self.assertTrue(driver.subscribed)

    def test_checkpointed_executor_gives_up_in_the_end(self) -> None:
        self.driver()
        self.agent.leave()
        self.advance(901)
        self.successResultOf(self.over)

    def test_executor_that_is_not_checkpointed_ends_with_its_agent(self) -> None:
        self.driver(Recorder(lambda driver, task: Deferred()), MESOS_CHECKPOINT="0")
        self.launch()
        self.agent.host.cut()
        self.advance()
        self.successResultOf(self.over)
        self.assertEqual(self.agent.links, 1)


class EndTests(ExecutorCase):
    """Shutting down, and stopping of one's own accord."""

    def shut_down(self) -> None:
        self.agent.send(Event(type=Event.SHUTDOWN))

    def test_nothing_to_end(self) -> None:
        self.driver()
        self.shut_down()
        self.successResultOf(self.over)
        self.assertIsNone(self.agent.link)

    def test_tasks_end_and_are_reported_before_it_goes(self) -> None:
        self.driver(Recorder(lambda driver, task: Deferred()))
        self.launch()
        self.acknowledge(self.statuses()[0])
        self.shut_down()
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_KILLED"])
        self.assertNoResult(self.over)
        self.acknowledge(self.statuses()[1])
        self.advance()
        self.successResultOf(self.over)

    def test_grace_period_is_the_end(self) -> None:
        executor = Recorder(lambda driver, task: Deferred(lambda _: None))
        executor.ending = Deferred()
        self.driver(executor)
        self.launch()
        self.shut_down()
        self.advance(4)
        self.assertNoResult(self.over)
        self.advance(1)
        self.successResultOf(self.over)

    def test_work_of_ones_own_may_take_its_time(self) -> None:
        executor = Recorder()
        executor.ending = Deferred()
        self.driver(executor)
        self.launch()
        self.shut_down()
        self.advance(2)
        self.assertEqual(self.states(), [])
        executor.ending.callback(None)
        self.assertEqual(self.states(), ["TASK_KILLED"])

    def test_shutdown_comes_once(self) -> None:
        executor = Recorder()
        executor.ending = Deferred()
        self.driver(executor)
        self.shut_down()
        self.shut_down()
        self.assertEqual(executor.told.count("shutdown"), 1)

    def test_executor_that_fails_to_shut_down_ends(self) -> None:
        executor = Recorder()
        executor.shutdown = lambda driver: 1 / 0  # type: ignore[method-assign]
        self.driver(executor)
        self.shut_down()
        self.successResultOf(self.over)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_error_is_the_end(self) -> None:
        self.driver()
        event = Event(type=Event.ERROR)
        event.error.message = "unknown"
        self.agent.send(event)
        self.successResultOf(self.over)

    def test_stopping_waits_for_the_last_acknowledgement(self) -> None:
        driver = self.driver()
        self.launch()
        driver.update("t", TaskState.TASK_FINISHED)
        stopped = driver.stop()
        self.advance(10)
        self.assertNoResult(stopped)
        self.acknowledge(self.statuses()[0])
        self.advance()
        self.successResultOf(stopped)
        self.successResultOf(self.over)
        self.successResultOf(driver.when_over())

    def test_stopping_does_not_wait_for_ever(self) -> None:
        driver = self.driver()
        self.launch()
        driver.update("t", TaskState.TASK_FINISHED)
        stopped = driver.stop()
        self.advance(60)
        self.successResultOf(stopped)

    def test_shutdown_while_stopping_keeps_its_own_time(self) -> None:
        driver = self.driver()
        self.launch()
        driver.update("t", TaskState.TASK_FINISHED)
        driver.stop()
        self.shut_down()
        self.advance(5)
        self.successResultOf(self.over)

    def test_service_ends_its_tasks(self) -> None:
        environment = ExecutorEnvironment.read(VARIABLES)
        service = ExecutorService(self.host, Recorder(lambda driver, task: Deferred()), environment)
        service.startService()
        self.advance()
        self.launch()
        over, stopped = service.over(), service.stopService()
        self.assertEqual(self.states(), ["TASK_RUNNING", "TASK_KILLED"])
        for each in self.statuses():
            self.acknowledge(each)
        self.advance()
        self.successResultOf(stopped)
        self.successResultOf(over)

    def test_cancelling_shuts_down(self) -> None:
        self.driver()
        self.over.cancel()
        self.failureResultOf(self.over, CancelledError)
        self.assertEqual(self.executor.told[-1], "shutdown")  # type: ignore[attr-defined]

    def test_nothing_is_left(self) -> None:
        self.driver(Recorder(lambda driver, task: Deferred()))
        self.launch()
        self.shut_down()
        self.advance(60)
        self.assertEqual([str(each) for each in self.network.getDelayedCalls()], [])
