"""Groups of tasks: what recording 07 shows of Mesos' default executor."""

from signal import SIGTERM

from mesoskit.agent.container import ContainerFailed, Destroy, Forget, Signal
from mesoskit.messages.internal_pb2 import ExitedExecutorMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from tests.agent.bench import KILLING, OWN_RECORDS, Bench, framework, task
from tests.agent.restarts import ReconnectTestCase, keeping
from tests.base import SynchronousTestCase


class GroupTests(SynchronousTestCase):
    """Tasks that start and end together."""

    def running(self) -> Bench:
        bench = Bench().register()
        bench.run_group(task("one"), task("two"), info=framework(KILLING))
        bench.start("one", 56)
        bench.start("two", 57)
        bench.acknowledge()
        bench.clear()
        return bench

    def exited(self, bench: Bench) -> list[int]:
        return [one.status for one in bench.sent if isinstance(one, ExitedExecutorMessage)]

    def test_each_task_has_a_container_in_its_executors_sandbox(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one", "echo one"), task("two"))
        one, two = bench.launched()
        executor = bench.state.frameworks["m-0000"].executors["default"]  # type: ignore[index]
        run = f"/w/slaves/m-S0/frameworks/m-0000/executors/default/runs/{executor.container}"
        self.assertEqual(one.sandbox, f"{run}/containers/{one.id}")
        self.assertIn((f"{run}/tasks/one", one.sandbox), one.links)
        self.assertNotEqual(one.id, two.id)
        self.assertEqual(
            dict(one.environment),
            {
                "MESOS_ALLOCATION_ROLE": "*",
                "MESOS_CONTAINER_IP": "127.0.0.1",
                "MESOS_SANDBOX": one.sandbox,
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            },
        )

    def test_none_runs_before_all_run(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one"), task("two"))
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("one", "TASK_STARTING"), ("two", "TASK_STARTING")])
        bench.start("one", 56)
        self.assertEqual(len(bench.updates()), 2)
        bench.start("two", 57)
        self.assertEqual(bench.updates()[2:], [("one", "TASK_RUNNING"), ("two", "TASK_RUNNING")])
        status = bench.last()
        executor = bench.state.tasks["m-0000", "two"].executor  # type: ignore[index]
        described = status.container_status
        self.assertEqual(described.container_id.value, bench.container_of("two"))
        self.assertEqual(described.container_id.parent.value, executor.container)
        self.assertEqual(described.executor_pid, 57)

    def test_task_that_ends_before_the_others_run_is_reported_as_running_first(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one"), task("two"))
        bench.start("one")
        bench.exit("one")
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("one", "TASK_STARTING"), ("two", "TASK_STARTING")])
        bench.start("two")
        bench.acknowledge()
        self.assertEqual(
            [state for name, state in bench.updates() if name == "one"],
            ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
        )

    def test_task_that_finishes_leaves_the_others_alone(self) -> None:
        bench = self.running()
        bench.exit("one")
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("one", "TASK_FINISHED")])
        self.assertEqual(self.exited(bench), [])
        bench.exit("two")
        self.assertEqual(self.exited(bench), [0])
        self.assertIn(("m-0000", "two"), bench.state.tasks)
        bench.acknowledge()
        self.assertEqual(bench.state.frameworks, {})
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_task_that_fails_takes_the_others_along(self) -> None:
        bench = self.running()
        bench.exit("one", 3 << 8)
        self.assertIn(Signal(bench.container_of("two"), SIGTERM), bench.hands)
        bench.wait(3.1)
        self.assertIn(Destroy(bench.container_of("two")), bench.hands)
        bench.exit("two", 9)
        bench.acknowledge()
        self.assertEqual(
            sorted(set(bench.updates())),
            [("one", "TASK_FAILED"), ("two", "TASK_KILLED"), ("two", "TASK_KILLING")],
        )
        self.assertEqual(self.exited(bench), [0])

    def test_task_that_is_killed_takes_the_others_along(self) -> None:
        bench = self.running()
        bench.kill("one")
        self.assertEqual(bench.hands, [Signal(bench.container_of("one"), SIGTERM)])
        bench.exit("one", 15)
        bench.exit("two", 15)
        bench.acknowledge()
        states = dict(bench.updates())
        self.assertEqual(states, {"one": "TASK_KILLED", "two": "TASK_KILLED"})

    def test_group_of_which_one_cannot_be_started_does_not_run(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one"), task("two"), task("three"))
        bench.start("one")
        bench.give(ContainerFailed(bench.container_of("two"), "launch", "no such user"))
        for name in ("one", "three"):
            self.assertIn(Destroy(bench.container_of(name)), bench.hands)
        bench.start("three")
        bench.exit("one", 9)
        bench.exit("three", 9)
        bench.acknowledge()
        states = [update for update in bench.updates() if update[1] != "TASK_STARTING"]
        self.assertEqual(
            sorted(states),
            [("one", "TASK_KILLED"), ("three", "TASK_KILLED"), ("two", "TASK_FAILED")],
        )
        self.assertEqual(self.exited(bench), [0])

    def test_group_that_is_killed_before_it_runs(self) -> None:
        bench = Bench().register()
        bench.run_group(task("one"), task("two"))
        bench.start("one")
        bench.kill("two")
        bench.exit("one", 9)
        bench.give(ContainerFailed(bench.container_of("two"), "launch", "destroyed"))
        bench.acknowledge()
        states = [update for update in bench.updates() if update[1] != "TASK_STARTING"]
        self.assertEqual(sorted(states), [("one", "TASK_KILLED"), ("two", "TASK_KILLED")])
        self.assertEqual(bench.last().reason, TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH)
        self.assertEqual(
            bench.last().message,
            "A task within the task group was killed before delivery to the executor",
        )

    def test_second_group_of_the_same_executor(self) -> None:
        bench = self.running()
        bench.run_group(task("three"), info=framework(KILLING), launch=False)
        bench.start("three")
        for name in ("one", "two"):
            bench.exit(name)
        self.assertEqual(self.exited(bench), [])
        bench.exit("three")
        self.assertEqual(self.exited(bench), [0])

    def test_group_for_an_executor_that_is_gone_is_dropped(self) -> None:
        bench = self.running()
        for name in ("one", "two"):
            bench.exit(name)
        bench.acknowledge()
        bench.run_group(task("three"), launch=False)
        self.assertEqual(bench.updates()[-1], ("three", "TASK_LOST"))
        self.assertEqual(
            bench.last().message,
            "No executor is expected to launch and there is none running",
        )


class EarlyEndTests(ReconnectTestCase):
    """A task that ends before its group runs, of which nothing is said until then."""

    def test_task_that_had_ended_before_its_group_ran_is_told_as_it_ended(self) -> None:
        bench = self.before()
        bench.run_group(task("one"), task("two"), info=keeping())
        bench.start("one")
        one, two = bench.container_of("one"), bench.container_of("two")
        bench.exit("one", 0)
        self.assertNotIn(Forget(one), bench.hands)
        for running, second in (({two: 8}, "TASK_RUNNING"), ({}, "TASK_DROPPED")):
            after = self.again(bench, running, {one: 0})
            self.assertEqual(after.hands.count(Forget(one)), 1)
            self.accept(after)
            after.acknowledge()
            told = dict(after.updates())
            self.assertEqual(told, {"one": "TASK_FINISHED", "two": second})
        bench.start("two")
        self.assertEqual(bench.hands.count(Forget(one)), 1)
        bench.acknowledge()
        bench.wait(20.0)
        self.assertEqual(bench.hands.count(Forget(one)), 1)
        self.assertEqual(dict(bench.updates()), {"one": "TASK_FINISHED", "two": "TASK_RUNNING"})

    def test_so_is_one_of_a_group_that_was_given_up(self) -> None:
        bench = self.before()
        bench.run_group(task("one"), task("two"), info=keeping())
        bench.start("one")
        one, two = bench.container_of("one"), bench.container_of("two")
        bench.exit("one", 256)
        bench.give(ContainerFailed(two, "launch", "no such program"))
        self.assertEqual(bench.hands.count(Forget(one)), 1)
        bench.acknowledge()
        self.assertEqual(dict(bench.updates()), {"one": "TASK_FAILED", "two": "TASK_FAILED"})
        self.assertEqual(bench.records(), OWN_RECORDS)
