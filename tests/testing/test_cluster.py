"""A cluster without a cluster: what a framework author finds there."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.driver import (
    Executor,
    ExecutorDriver,
    Framework,
    TaskFailed,
    TaskGone,
    TaskHandle,
    TaskInfo,
    TaskInvalid,
    TaskKilled,
    TaskLost,
    TaskState,
    TaskUnreachable,
    command_task,
    executor_info,
    launch_group,
    task,
)
from mesoskit.messages.scheduler_pb2 import AttributeConstraint, OfferConstraints
from mesoskit.testing.cluster import MASTER, TestCluster
from tests.base import SynchronousTestCase


class Case(SynchronousTestCase):
    """What all tests here need."""

    def cluster(self, **more: Any) -> TestCluster:
        cluster = TestCluster(**more)
        self.addCleanup(cluster.stop)
        return cluster

    def launch(
        self, cluster: TestCluster, framework: Framework, *infos: TaskInfo
    ) -> list[TaskHandle]:
        async def one() -> list[TaskHandle]:
            async for offer in framework.offers():
                return await framework.accept(offer, infos)
            raise AssertionError("no offer came")

        handles: list[TaskHandle] = cluster.wait(Deferred.fromCoroutine(one()))
        return handles


class CommandTests(Case):
    """Commands do what their words say, or what a test says."""

    def setUp(self) -> None:
        self.one = self.cluster()
        self.framework = self.one.framework()

    def test_command_runs_and_finishes(self) -> None:
        [handle] = self.launch(self.one, self.framework, command_task("t", "sleep 10"))
        self.one.wait(handle.running())
        began = self.one.network.seconds()
        status = self.one.wait(handle.terminal())
        self.assertEqual(status.state, TaskState.TASK_FINISHED)
        self.assertTrue(9.9 < self.one.network.seconds() - began < 10.2)

    def test_command_fails(self) -> None:
        [handle] = self.launch(self.one, self.framework, command_task("t", "exit 3"))
        with self.assertRaises(TaskFailed) as caught:
            self.one.wait(handle.terminal())
        self.assertIn("3", caught.exception.message)

    def test_command_is_killed(self) -> None:
        [handle] = self.launch(self.one, self.framework, command_task("t", "run for ever"))
        self.one.wait(handle.running())
        status = self.one.wait(handle.kill())
        self.assertEqual(status.state, TaskState.TASK_KILLED)
        with self.assertRaises(TaskKilled):
            self.one.wait(handle.terminal())

    def test_command_is_ended_by_the_test(self) -> None:
        [handle] = self.launch(self.one, self.framework, command_task("t", "run", id="t1"))
        self.one.wait(handle.running())
        self.one.finish("t1")
        self.one.wait(handle.terminal())

    def test_commands_may_be_scripted(self) -> None:
        cluster = self.cluster(commands=lambda spec: 7 << 8 if "special" in spec.argv[-1] else None)
        framework = cluster.framework()
        [handle] = self.launch(cluster, framework, command_task("t", "special thing"))
        with self.assertRaises(TaskFailed):
            cluster.wait(handle.terminal())

    def test_what_the_master_does_not_allow_is_not_allowed_here(self) -> None:
        [handle] = self.launch(self.one, self.framework, command_task("t", "true", cpus=99))
        with self.assertRaises(TaskInvalid) as caught:
            self.one.wait(handle.terminal())
        self.assertIn("more than available", caught.exception.message)


class Echo(Executor):
    """Runs tasks for as many seconds as their data say, and answers messages."""

    def __init__(self) -> None:
        self.waiting: dict[str, Deferred[bytes]] = {}

    def launch(self, driver: ExecutorDriver, info: TaskInfo) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self.waiting[info.task_id.value] = done
        return done

    def message(self, driver: ExecutorDriver, data: bytes) -> None:
        driver.send(b"heard " + data)
        task_id, _, answer = data.partition(b" ")
        self.waiting[task_id.decode()].callback(answer)


class ExecutorTests(Case):
    """Executors are played by the objects that would run in a process of their own."""

    def setUp(self) -> None:
        self.one = self.cluster(executors={"echo": Echo})
        self.framework = self.one.framework()
        self.executor = executor_info("echo", "python echo.py")

    def test_executor_takes_tasks_and_messages(self) -> None:
        info = task("t", id="t1", executor=self.executor, cpus=1, mem=32)
        [handle] = self.launch(self.one, self.framework, info)
        self.one.wait(handle.running())
        self.one.wait(self.framework.message(handle.agent_id, "echo", b"t1 done"))
        self.assertEqual(self.one.wait(handle.terminal()).data, b"done")

    def test_executor_is_cancelled_by_a_kill(self) -> None:
        info = task("t", executor=self.executor, cpus=1, mem=32)
        [handle] = self.launch(self.one, self.framework, info)
        self.one.wait(handle.running())
        self.assertEqual(self.one.wait(handle.kill()).state, TaskState.TASK_KILLED)

    def test_executor_outlives_nothing(self) -> None:
        infos = [task("t", executor=self.executor, cpus=1, mem=32) for _ in range(2)]
        handles = self.launch(self.one, self.framework, *infos)
        self.one.wait(handles[0].running())
        [agent] = self.one.agents
        self.assertEqual(len(agent.containers.drivers), 1)
        self.one.wait(self.framework.shutdown_executor("echo", agent.id))
        for handle in handles:
            self.assertEqual(self.one.wait(handle.kill()).state, TaskState.TASK_KILLED)
        self.one.advance(10)
        self.assertEqual(agent.containers.drivers, {})
        self.assertEqual(agent.containers.running, {})


class GroupTests(Case):
    """Groups are the agent's own business."""

    def test_group_starts_and_ends_together(self) -> None:
        cluster = self.cluster()
        framework = cluster.framework()
        group = launch_group(
            executor_info("pod"), [command_task(f"t{each}", "run", id=f"t{each}") for each in "ab"]
        )
        handles = self.launch(cluster, framework, group)  # type: ignore[arg-type]
        for handle in handles:
            cluster.wait(handle.running())
        cluster.finish("ta", 1 << 8)
        with self.assertRaises(TaskFailed):
            cluster.wait(handles[0].terminal())
        with self.assertRaises(TaskKilled):
            cluster.wait(handles[1].terminal())


class TroubleTests(Case):
    """What goes wrong in clusters."""

    def setUp(self) -> None:
        self.one = self.cluster(agents=2)
        self.framework = self.one.framework()
        [self.handle] = self.launch(
            self.one, self.framework, command_task("t", "run for ever", id="t1")
        )
        self.one.wait(self.handle.running())
        [self.agent] = [each for each in self.one.agents if each.id == self.handle.agent_id]

    def test_agent_that_loses_its_power_is_unreachable(self) -> None:
        self.agent.kill()
        with self.assertRaises(TaskUnreachable):
            self.one.wait(self.handle.terminal(), 200)

    def test_agent_that_is_restarted_keeps_its_task(self) -> None:
        self.agent.restart()
        self.one.advance(30)
        self.assertTrue(self.agent.state.registered)
        self.assertFalse(self.handle.over)
        self.one.finish("t1")
        self.one.wait(self.handle.terminal())

    def test_agent_that_is_away_for_too_long_loses_its_task(self) -> None:
        self.agent.stop()
        self.one.advance(1000)
        self.assertEqual(len(self.agent.containers.running), 0)
        self.assertTrue(self.handle.over)
        self.agent.start()
        self.one.advance(30)
        self.assertEqual(self.agent.state.tasks, {})

    def test_agent_that_has_its_power_back_says_that_its_task_is_gone(self) -> None:
        self.agent.kill()
        self.agent.host.isolate(False)
        self.agent.start()
        with self.assertRaisesRegex(TaskGone, "machine restarted"):
            self.one.wait(self.handle.terminal(), 60)

    def test_task_of_an_agent_that_comes_back_is_killed(self) -> None:
        self.agent.host.isolate()
        with self.assertRaises(TaskUnreachable):
            self.one.wait(self.handle.terminal(), 200)
        self.assertEqual(len(self.agent.containers.running), 1)
        self.agent.host.isolate(False)
        self.one.advance(120)
        self.assertEqual(self.agent.containers.running, {})

    def test_master_that_is_replaced_costs_nothing(self) -> None:
        before = self.framework.id
        self.one.restart_master()
        self.one.advance(30)
        self.assertEqual(self.framework.id, before)
        self.assertTrue(self.framework.subscribed)
        self.one.finish("t1")
        self.one.wait(self.handle.terminal())

    def test_link_that_breaks_costs_nothing(self) -> None:
        self.one.host_of(self.framework).cut()
        self.assertFalse(self.framework.subscribed)
        self.one.finish("t1")
        self.one.wait(self.handle.terminal())

    def test_framework_that_is_cut_off_comes_back(self) -> None:
        host = self.one.host_of(self.framework)
        host.isolate()
        self.one.advance(120)
        self.assertFalse(self.framework.subscribed)
        host.isolate(False)
        self.one.finish("t1")
        self.one.wait(self.handle.terminal())

    def test_framework_that_stops_takes_its_tasks_along(self) -> None:
        self.one.wait(self.framework.stopService())
        self.one.advance(10)
        self.assertEqual(self.agent.containers.running, {})
        self.assertEqual(len(self.one.master.frameworks), 0)

    def test_agent_that_forgets_all_gives_its_tasks_up(self) -> None:
        self.agent.kill()
        self.agent.forget()
        self.agent.host.isolate(False)
        self.agent.start()
        with self.assertRaises(TaskLost):
            self.one.wait(self.handle.terminal(), 1000)


class ConstraintTests(Case):
    """Frameworks that want some agents only."""

    def check(self, **more: Any) -> None:
        one = self.cluster(agents=2)
        wanted = OfferConstraints()
        constraint = wanted.role_constraints["*"].groups.add().attribute_constraints.add()
        constraint.selector.pseudoattribute_type = AttributeConstraint.Selector.HOSTNAME
        constraint.predicate.text_matches.regex = ".*1[.]test"
        framework = one.framework(offer_constraints=wanted, **more)
        self.hosts: set[str] = set()
        Deferred.fromCoroutine(self.see(framework))
        self.assertEqual({"agent1.test"}, self.offered(one))
        # A new master hears of it from the driver.
        one.restart_master()
        one.advance(120)
        self.assertEqual({"agent1.test"}, self.offered(one))
        one.wait(framework.update(framework.info))
        self.assertEqual({"agent0.test", "agent1.test"}, self.offered(one))

    async def see(self, framework: Framework) -> None:
        async for offer in framework.offers():
            self.hosts.add(offer.hostname)
            framework.decline(offer, refuse_seconds=1)

    def offered(self, one: TestCluster) -> set[str]:
        """Return the hosts that are offered from now on."""
        self.hosts.clear()
        one.advance(10)
        return self.hosts

    def test_over_the_native_stream(self) -> None:
        self.check()

    def test_over_http(self) -> None:
        self.check(master=f"http://{MASTER}")
