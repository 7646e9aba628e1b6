"""What an agent runs, what it refuses, and what it remembers of both."""

from dataclasses import replace

from mesoskit.agent.registration import reregistration
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, Image, TaskStatus, Volume
from tests.agent.bench import (
    AWARE,
    FRAMEWORK_ID,
    KILLING,
    OPTIONS,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase


class RefusalTests(SynchronousTestCase):
    """Tasks that are dropped, with Mesos' reasons and texts."""

    def setUp(self) -> None:
        self.bench = Bench().register()

    def refused(self, task_id: str, reason: int, message: str) -> None:
        status = self.bench.last()
        self.assertEqual(self.bench.updates()[-1], (task_id, "TASK_DROPPED"))
        self.assertEqual(status.source, TaskStatus.SOURCE_AGENT)
        self.assertEqual((status.reason, status.message), (reason, message))

    def test_outdated_resources(self) -> None:
        message = internal.RunTaskMessage(framework=framework(AWARE), task=task())
        message.resource_version_uuids.add().uuid.value = b"0" * 16
        self.bench.receive(message)
        self.assertEqual(self.bench.launched(), [])
        text = "Task assumes outdated resource state"
        self.refused("t", TaskStatus.REASON_INVALID_OFFERS, text)
        self.bench.acknowledge()
        self.assertEqual(self.bench.state.streams, {})

    def test_executor_that_the_master_counts_on_is_said_to_have_exited(self) -> None:
        info = task(executor=custom_executor())
        message = internal.RunTaskMessage(
            framework=framework(AWARE), task=info, launch_executor=True
        )
        message.resource_version_uuids.add().uuid.value = b"0" * 16
        self.bench.receive(message)
        exited = self.bench.sent[-1]
        self.assertIsInstance(exited, internal.ExitedExecutorMessage)
        self.assertEqual((exited.executor_id.value, exited.status), ("e", -1))

    def test_id_that_is_no_name_of_a_directory(self) -> None:
        for name in ("../x", "a/b", ".."):
            self.bench.run(task(name), info=framework(AWARE))
            self.assertEqual(self.bench.last().reason, TaskStatus.REASON_TASK_INVALID)
        self.assertEqual(self.bench.launched(), [])

    def test_command_with_the_id_of_an_executor(self) -> None:
        self.bench.run(task("t", executor=custom_executor("u")), info=framework(AWARE))
        self.bench.run(task("u"), info=framework(AWARE))
        text = "Cannot reuse an already existing executor for a command task"
        self.refused("u", TaskStatus.REASON_TASK_INVALID, text)

    def test_task_that_is_here_already_is_left_alone(self) -> None:
        self.bench.run(task())
        self.bench.start()
        before = self.bench.updates()
        self.bench.run(task())
        self.assertEqual(self.bench.updates(), before)
        self.assertEqual(len(self.bench.launched()), 1)

    def test_task_of_a_framework_that_is_being_shut_down(self) -> None:
        self.bench.run(task())
        self.bench.start()
        message = internal.ShutdownFrameworkMessage()
        message.framework_id.value = FRAMEWORK_ID
        self.bench.receive(message)
        self.bench.run(task("u"))
        self.assertEqual(len(self.bench.launched()), 1)
        self.assertEqual(len(self.bench.state.tasks), 1)


class FrameworkTests(SynchronousTestCase):
    """What is kept of frameworks."""

    def test_framework_that_learns_to_understand_killing(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        message = internal.UpdateFrameworkMessage(framework_info=framework(KILLING))
        message.framework_id.value = FRAMEWORK_ID
        bench.receive(message)
        bench.kill()
        self.assertEqual(bench.updates()[-1], ("t", "TASK_KILLING"))
        again = Bench(store=bench.store)
        again.recover({bench.container_of(): 7})
        self.assertTrue(again.state.frameworks[FRAMEWORK_ID].killing_state)  # type: ignore[index]

    def test_framework_that_is_back_hears_at_once_what_it_has_not_acknowledged(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.run(task("other"))
        bench.clear()
        message = internal.UpdateFrameworkMessage(framework_info=framework())
        message.framework_id.value = FRAMEWORK_ID
        bench.receive(message)
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING"), ("other", "TASK_STARTING")])
        bench.acknowledge()
        bench.clear()
        bench.receive(message)
        self.assertEqual(bench.updates(), [])

    def test_history_is_kept_within_limits_and_told_at_the_next_registration(self) -> None:
        bench = Bench().register()
        for number in range(200):
            bench.run(task(f"t{number}"))
            bench.start(f"t{number}")
            bench.exit(f"t{number}")
            bench.acknowledge()
            bench.clear()
        (kept,) = bench.state.completed_frameworks.values()
        self.assertEqual(len(kept.completed), 150)
        (archived,) = reregistration(bench.state).completed_frameworks
        self.assertEqual(len(archived.tasks), 150)
        self.assertEqual(archived.tasks[-1].task_id.value, "t199")
        self.assertEqual([one.state for one in archived.tasks[-1].statuses], [0, 1, 2])


class MemoryTests(SynchronousTestCase):
    """What can be asked of a state."""

    def test_story_of_a_task(self) -> None:
        bench = Bench().register()
        bench.run(task("a"), task("b"))
        bench.start("a")
        bench.kill("a")
        bench.exit("a", 15)
        bench.acknowledge()
        lines = [line.split(" ", 1)[1] for line in bench.state.story("a")]
        self.assertEqual(
            lines,
            [
                "accepted",
                "TASK_STARTING",
                "TASK_RUNNING",
                "kill requested",
                "TASK_KILLED Command terminated with signal Terminated",
                "acknowledged to the end",
            ],
        )
        self.assertEqual(len(bench.state.story("b")), 2)

    def test_metrics_say_what_is_here_and_what_it_holds(self) -> None:
        bench = Bench().register()
        bench.run(task("a"), task("b"), task("c", executor=custom_executor()))
        bench.start("a")
        metrics = bench.state.metrics()
        self.assertEqual(metrics["slave/tasks_running"], 1)
        self.assertEqual(metrics["slave/tasks_starting"], 1)
        self.assertEqual(metrics["slave/tasks_staging"], 1)
        self.assertEqual(metrics["slave/executors_registering"], 1)
        self.assertEqual(metrics["slave/frameworks_active"], 1)
        self.assertEqual(metrics["slave/cpus_used"], 3.0)
        self.assertEqual(metrics["slave/mem_percent"], 384 / 2048)
        bench.exit("a")
        metrics = bench.state.metrics()
        self.assertEqual(metrics["slave/tasks_finished"], 1)
        self.assertEqual(metrics["slave/cpus_used"], 2.0)

    def test_same_seed_and_events_give_the_same_effects(self) -> None:
        first, second = Bench().register(), Bench().register()
        for bench in (first, second):
            bench.run_group(task("a"), task("b"))
            bench.run(task(executor=custom_executor()))
            bench.start("a")
            bench.start("b")
        self.assertEqual(first.sent, second.sent)
        self.assertEqual(first.hands, second.hands)
        self.assertEqual(first.store, second.store)


class DefaultContainerTests(SynchronousTestCase):
    """C{--default_container_info}."""

    def setUp(self) -> None:
        self.default = ContainerInfo(type=ContainerInfo.MESOS, hostname="of-the-agent")
        self.default.mesos.image.type = Image.DOCKER
        self.default.mesos.image.docker.name = "busy"
        given = self.default.SerializeToString()
        self.bench = Bench(replace(OPTIONS, default_container=given)).register()

    def launched(self) -> ContainerInfo:
        (spec,) = self.bench.launched()
        return ContainerInfo.FromString(spec.info)

    def test_a_command_task_that_says_nothing_has_it(self) -> None:
        self.bench.run(task())
        self.assertEqual(self.launched(), self.default)

    def test_a_command_task_that_says_something_has_that(self) -> None:
        own = ContainerInfo(type=ContainerInfo.MESOS, hostname="own")
        self.bench.run(task(container=own))
        self.assertEqual(self.launched(), own)

    def test_an_executor_has_it(self) -> None:
        self.bench.run(task(executor=custom_executor()))
        self.assertEqual(self.launched(), self.default)

    def test_executors_of_groups_need_no_image(self) -> None:
        default = ContainerInfo(type=ContainerInfo.MESOS)
        volume = default.volumes.add(container_path="x", mode=Volume.RW)
        volume.host_path = "/tmp"
        default.mesos.image.CopyFrom(self.default.mesos.image)
        given = default.SerializeToString()
        self.bench = Bench(replace(OPTIONS, default_container=given)).register()
        executor = ExecutorInfo(type=ExecutorInfo.DEFAULT)
        executor.executor_id.value = "pod"
        self.bench.run_group(task(), executor=executor)
        found = self.launched()
        self.assertEqual(list(found.volumes), list(default.volumes))
        self.assertFalse(found.mesos.HasField("image"))
