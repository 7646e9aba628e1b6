"""The same scheduler over the native stream and over v1 HTTP, with the real master and driver.

What a framework can do and what it is told does not depend on how it reaches its master.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mesoskit.driver import (
    DriverSettings,
    Executor,
    FailedOver,
    Framework,
    FrameworkError,
    Offer,
    Scheduler,
    TaskFailed,
    TaskHandle,
    TaskInfo,
    TaskInvalid,
    TaskKilled,
    TaskState,
    TaskUnreachable,
    command_task,
    executor_info,
    launch_group,
    task,
)
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.testing import TestCluster
from mesoskit.testing.cluster import MASTER
from mesoskit.wire.link import CallRefused
from tests.base import SynchronousTestCase

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class Log(Scheduler):
    """Remembers what it is told, and takes no offers."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.offers: list[Offer] = []

    def subscribed(self, framework: Framework) -> None:
        self.told.append("subscribed")

    def disconnected(self, framework: Framework, why: str) -> None:
        self.told.append("disconnected")

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        self.offers += offers

    def offer_rescinded(self, framework: Framework, offer_id: str) -> None:
        self.told.append(("rescinded", offer_id))

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        self.told.append((status.task_id.value, TaskState(status.state).name))

    def framework_message(
        self, framework: Framework, agent_id: str, executor_id: str, data: bytes
    ) -> None:
        self.told.append(("message", executor_id, data))

    def executor_lost(
        self, framework: Framework, agent_id: str, executor_id: str, status: int
    ) -> None:
        self.told.append(("executor lost", executor_id))

    def error(self, framework: Framework, error: FrameworkError) -> None:
        self.told.append(("error", str(error)))


class Echo(Executor):
    """Runs every task until it is killed, and says back what it is told."""

    def launch(self, driver: Any, info: TaskInfo) -> Deferred[bytes]:
        return Deferred()

    def message(self, driver: Any, data: bytes) -> None:
        driver.send(b"heard " + data)


class Behaviours(_Base):
    """What frameworks do, however they reach their master."""

    where = MASTER
    settings = DriverSettings()

    def setUp(self) -> None:
        self.one = self.cluster(agents=2, executors={"echo": Echo})

    def cluster(self, **more: Any) -> TestCluster:
        cluster = TestCluster(**more)
        self.addCleanup(cluster.stop)
        return cluster

    def framework(self, **more: Any) -> Framework:
        more = {"settings": self.settings, "master": self.where, **more}
        return self.one.framework(**more)

    def launch(self, framework: Framework, *infos: Any) -> list[TaskHandle]:
        async def one() -> list[TaskHandle]:
            async for offer in framework.offers():
                return await framework.accept(offer, infos)
            raise AssertionError("no offer came")

        handles: list[TaskHandle] = self.one.wait(Deferred.fromCoroutine(one()))
        return handles

    def running(self, framework: Framework, name: str = "t") -> TaskHandle:
        """Launch a command that does not end by itself, and wait until it runs."""
        [handle] = self.launch(framework, command_task(name, "run for ever", id=name))
        self.one.wait(handle.running())
        return handle

    def agent_of(self, handle: TaskHandle) -> Any:
        """Return the agent that has a task."""
        return next(each for each in self.one.agents if each.id == handle.agent_id)

    # Subscription

    def test_subscription(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.assertTrue(framework.subscribed)
        self.assertEqual(["subscribed"], log.told)
        self.assertIn(framework.id, self.one.master.frameworks)
        assert framework.master_info is not None
        self.assertEqual("127.0.0.1", framework.master_info.address.ip)

    def test_what_is_wrong_with_the_framework_is_told(self) -> None:
        framework = self.framework(roles=["a//b"], capabilities=[{"type": "MULTI_ROLE"}])
        error = self.failureResultOf(framework.when_subscribed(), FrameworkError).value
        self.assertIn("a//b", str(error))

    def test_unknown_id_is_taken_as_that_of_a_framework_from_before(self) -> None:
        framework = self.framework(id={"value": "from-before"})
        self.assertEqual("from-before", framework.id)
        self.assertTrue(framework.subscribed)

    def test_silence_is_noticed(self) -> None:
        framework = self.framework()
        host = self.one.host_of(framework)
        host.isolate()
        self.one.advance(120)
        self.assertFalse(framework.subscribed)
        host.isolate(False)
        self.one.advance(40)
        self.assertTrue(framework.subscribed)

    # Offers

    def test_offers_are_made_declined_and_made_again(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.one.advance(1)
        self.assertEqual(2, len(log.offers))
        self.assertEqual({each.id for each in self.one.agents}, {o.agent_id for o in log.offers})
        declined = framework.decline(log.offers, refuse_seconds=20)
        log.offers = []
        self.assertIsNone(self.one.wait(declined))
        self.one.advance(19)
        self.assertEqual([], log.offers)
        self.one.advance(3)
        self.assertEqual(2, len(log.offers))

    def test_forgotten_offers_come_back(self) -> None:
        log = Log()
        self.framework(scheduler=log)
        self.one.advance(1)
        log.offers.clear()
        self.one.advance(10)
        self.assertEqual(2, len(log.offers))

    def test_suppressed_and_revived(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.one.advance(1)
        self.one.wait(framework.suppress())
        log.offers.clear()
        self.one.advance(60)
        self.assertEqual([], log.offers)
        self.one.wait(framework.revive())
        self.one.advance(1)
        self.assertEqual(2, len(log.offers))

    def test_offers_of_an_agent_that_goes_are_rescinded(self) -> None:
        log = Log()
        self.framework(scheduler=log)
        self.one.advance(1)
        gone = self.one.agents[0].id
        [offer] = [each for each in log.offers if each.agent_id == gone]
        self.one.agents[0].kill()
        self.one.advance(120)
        self.assertIn(("rescinded", offer.id), log.told)
        self.assertFalse(offer.held)

    # Tasks

    def test_command_runs_and_finishes(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.one.advance(1)
        accepted = framework.accept(log.offers[0], [command_task("t", "sleep 3", id="t")])
        [handle] = self.one.wait(accepted)
        status = self.one.wait(handle.terminal())
        self.assertEqual("Command exited with status 0", status.message)
        states = [state for name, state in log.told[1:]]
        self.assertEqual(["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"], states)
        self.one.advance(60)
        self.assertEqual(4, len(log.told))

    def test_many_tasks_at_once(self) -> None:
        framework = self.framework()
        infos = [command_task(f"t{n}", "sleep 1", cpus=0.02, mem=1) for n in range(150)]
        for handle in self.launch(framework, *infos):
            self.one.wait(handle.terminal())

    def test_failures_say_what_failed(self) -> None:
        framework = self.framework()
        [handle] = self.launch(framework, command_task("t", "exit 3"))
        with self.assertRaises(TaskFailed) as failed:
            self.one.wait(handle.terminal())
        self.assertEqual("Command exited with status 3", failed.exception.message)
        self.assertEqual(TaskState.TASK_FAILED, failed.exception.state)

    def test_wrong_task_is_refused_by_itself(self) -> None:
        framework = self.framework()
        good, bad = self.launch(
            framework, command_task("good", "sleep 1"), command_task("bad", "true", cpus=99)
        )
        with self.assertRaises(TaskInvalid):
            self.one.wait(bad.terminal())
        self.one.wait(good.terminal())

    def test_killing(self) -> None:
        handle = self.running(self.framework())
        self.assertEqual(TaskState.TASK_KILLED, self.one.wait(handle.kill()).state)
        with self.assertRaises(TaskKilled):
            self.one.wait(handle.terminal())

    def test_group(self) -> None:
        framework = self.framework()
        infos = [command_task(each, "sleep 2", cpus=0.1, mem=32) for each in "ab"]
        handles = self.launch(framework, launch_group(executor_info("pod"), infos))
        for handle in handles:
            self.one.wait(handle.terminal())

    def test_messages_to_executors_and_back(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.one.advance(1)
        info = task("t", id="t", executor=executor_info("echo", "echo"), cpus=1, mem=32)
        [handle] = self.one.wait(framework.accept(log.offers[0], [info]))
        self.one.wait(handle.running())
        data = bytes(range(256))
        self.assertIsNone(self.one.wait(framework.message(handle.agent_id, "echo", data)))
        self.one.advance(1)
        self.assertIn(("message", "echo", b"heard " + data), log.told)
        self.one.wait(framework.shutdown_executor("echo", handle.agent_id))
        self.one.wait(handle.kill())
        self.one.advance(10)
        self.assertIn(("executor lost", "echo"), log.told)

    def test_updates_wait_for_their_acknowledgement(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log, acknowledge=False)
        self.one.advance(1)
        [handle] = self.one.wait(framework.accept(log.offers[0], [command_task("t", "sleep 1")]))
        self.one.advance(60)
        self.assertEqual(TaskState.TASK_STARTING, handle.state)
        for state in (TaskState.TASK_RUNNING, TaskState.TASK_FINISHED):
            assert handle.status is not None
            framework.acknowledge(handle.status)
            self.one.advance(1)
            self.assertEqual(state, handle.state)

    # Reconciliation

    def test_reconciliation_of_all_and_of_some(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.one.advance(1)
        info = command_task("t", "run", id="t")
        [handle] = self.one.wait(framework.accept(log.offers[0], [info]))
        self.one.wait(handle.running())
        del log.told[:]
        self.one.wait(framework.reconcile())
        self.one.wait(framework.reconcile([("t", handle.agent_id), ("x", ""), ("y", "z")]))
        self.one.advance(1)
        running, unknown = "TASK_RUNNING", "TASK_UNKNOWN"
        expected = [("t", running), ("t", running), ("x", unknown), ("y", unknown)]
        self.assertEqual(expected, log.told)

    # Refusals

    def test_calls_that_make_no_sense_are_refused_with_the_same_words(self) -> None:
        framework = self.framework()
        wrong = Call(type=Call.KILL)
        with self.assertRaises(CallRefused) as refused:
            self.one.wait(framework.call(wrong))
        self.assertEqual(400, refused.exception.status)
        self.assertIn("Expecting 'kill' to be present", refused.exception.why)
        with self.assertRaises(CallRefused):
            self.one.wait(framework.call(Call()))
        self.one.wait(framework.revive())
        self.assertTrue(framework.subscribed)

    def test_change_of_the_framework(self) -> None:
        framework = self.framework()
        info = framework.info
        changed = type(info)(user=info.user, name="another name")
        self.assertIsNone(self.one.wait(framework.update(changed)))
        known = self.one.master.frameworks[framework.id]  # type: ignore[index]
        self.assertEqual("another name", known.info.name)
        with self.assertRaises(CallRefused):
            self.one.wait(framework.update(type(info)(user="somebody else", name="x")))

    # The end

    def test_teardown_kills_everything(self) -> None:
        framework = self.framework()
        agent = self.agent_of(self.running(framework))
        self.assertIsNone(self.one.wait(framework.teardown()))
        self.one.advance(10)
        self.assertEqual({}, agent.containers.running)
        self.assertEqual({}, self.one.master.frameworks)

    def test_framework_that_keeps_its_id_only_goes_away(self) -> None:
        framework = self.framework(failover=True)
        agent = self.agent_of(self.running(framework))
        self.assertIsNone(self.one.wait(framework.stopService()))
        self.one.advance(600)
        self.assertEqual(1, len(agent.containers.running))
        self.assertIn(framework.id, self.one.master.frameworks)

    # Masters that go and come

    def test_master_that_is_replaced_costs_nothing(self) -> None:
        framework = self.framework()
        handle = self.running(framework)
        before = framework.id
        self.one.restart_master()
        self.one.advance(30)
        self.assertTrue(framework.subscribed)
        self.assertEqual(before, framework.id)
        self.one.finish("t")
        self.one.wait(handle.terminal())

    def test_broken_links_cost_nothing(self) -> None:
        framework = self.framework()
        handle = self.running(framework)
        for _ in range(3):
            self.one.host_of(framework).cut()
            self.assertFalse(framework.subscribed)
            self.one.advance(5)
            self.assertTrue(framework.subscribed)
        self.one.finish("t")
        self.one.wait(handle.terminal())

    # One framework after the other

    def test_another_instance_takes_over_and_the_first_is_told(self) -> None:
        log = Log()
        first = self.framework(failover=True, scheduler=log)
        self.one.advance(1)
        info = command_task("t", "run", id="t")
        [handle] = self.one.wait(first.accept(log.offers[0], [info]))
        self.one.wait(handle.running())
        running, ended = first.run(), handle.terminal()
        second = self.framework(failover=True, id={"value": first.id})
        self.assertTrue(second.subscribed)
        self.assertEqual(("error", "Framework failed over"), log.told[-1])
        for waiting in (running, ended, handle.kill(), first.revive(), first.adopt_all()):
            self.failureResultOf(waiting, FailedOver)
        self.one.advance(120)
        self.assertTrue(second.subscribed)
        [mine] = self.one.wait(second.adopt_all())
        self.assertEqual(("t", handle.agent_id), (mine.id, mine.agent_id))
        self.assertIs(mine, second.tasks["t"])
        self.one.finish("t")
        self.one.wait(mine.terminal())

    def test_program_that_was_restarted_finds_its_tasks(self) -> None:
        kept = self.mktemp()
        first = self.framework(id_file=kept)
        for name in "abc":
            self.running(first, name)
        self.one.wait(first.stopService())
        self.one.finish("b")
        self.one.advance(20)
        second = self.framework(id_file=kept)
        found = {each.id: each for each in self.one.wait(second.adopt_all())}
        self.assertEqual({"a", "b", "c"}, set(found))
        self.assertEqual({"a", "c"}, set(second.tasks))
        self.assertEqual(TaskState.TASK_FINISHED, self.one.wait(found["b"].terminal()).state)
        self.assertEqual(TaskState.TASK_KILLED, self.one.wait(found["a"].kill()).state)

    def test_tasks_are_found_only_when_the_master_knows_of_all(self) -> None:
        kept = self.mktemp()
        first = self.framework(id_file=kept)
        agent = self.agent_of(self.running(first))
        self.one.wait(first.stopService())
        agent.host.isolate()
        self.one.restart_master()
        self.one.advance(5)
        second = self.framework(id_file=kept)
        found = second.adopt_all()
        self.one.advance(60)
        self.assertNoResult(found)
        agent.host.isolate(False)
        [handle] = self.one.wait(found, 120)
        self.assertEqual(TaskState.TASK_RUNNING, handle.state)

    # Kills that are hard to bring home

    def test_kill_while_the_agent_is_away_is_carried_out_when_it_is_back(self) -> None:
        self.check_kill_while_away(another_master=False)

    def test_kill_while_the_agent_is_away_survives_another_master(self) -> None:
        self.check_kill_while_away(another_master=True)

    def check_kill_while_away(self, another_master: bool) -> None:
        for scheduler in (None, Log()):
            self.one = self.cluster(agents=1)
            framework = self.framework(scheduler=scheduler)
            if isinstance(scheduler, Log):
                self.one.advance(1)
                info = command_task("t", "run", id="t")
                [handle] = self.one.wait(framework.accept(scheduler.offers[0], [info]))
            else:
                [handle] = self.launch(framework, command_task("t", "run", id="t"))
            self.one.wait(handle.running())
            agent = self.agent_of(handle)
            agent.host.isolate()
            self.one.advance(10)
            killed = handle.kill()
            self.one.advance(10)
            if another_master:
                self.one.restart_master()
            self.one.advance(100 if not another_master else 700)
            self.assertEqual(1, len(agent.containers.running))
            agent.host.isolate(False)
            self.one.advance(60)
            self.assertEqual({}, agent.containers.running)
            self.one.wait(killed)

    def test_kill_by_id_of_a_task_from_a_former_life(self) -> None:
        kept = self.mktemp()
        first = self.framework(id_file=kept)
        agent = self.agent_of(self.running(first))
        self.one.wait(first.stopService())
        agent.host.isolate()
        second = self.framework(id_file=kept)
        self.assertIsNone(self.one.wait(second.kill("t")))
        self.one.advance(20)
        agent.host.isolate(False)
        self.one.advance(60)
        self.assertEqual({}, agent.containers.running)
        self.assertEqual({}, second.tasks)

    def test_task_of_an_agent_that_is_cut_off(self) -> None:
        framework = self.framework()
        handle = self.running(framework)
        agent = self.agent_of(handle)
        agent.host.isolate()
        with self.assertRaises(TaskUnreachable):
            self.one.wait(handle.terminal(), 200)
        self.one.host_of(framework).cut()
        agent.host.isolate(False)
        self.one.advance(120)
        self.assertEqual({}, agent.containers.running)


class NativeTests(Behaviours, SynchronousTestCase):
    """Over the native stream."""


class HttpTests(Behaviours, SynchronousTestCase):
    """Over v1 HTTP, in protobuf."""

    where = "http://" + MASTER


class JsonTests(Behaviours, SynchronousTestCase):
    """Over v1 HTTP, in JSON."""

    where = "http://" + MASTER
    settings = DriverSettings(http_json=True)
