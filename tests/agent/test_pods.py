"""Executors of groups that have containers of their own, as the agent's state has them."""

from __future__ import annotations

from dataclasses import replace
from signal import SIGTERM
from typing import Any

from mesoskit.agent.container import (
    Allotment,
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    Destroy,
    Limitation,
    Signal,
    Update,
    Usage,
    UsageRead,
)
from mesoskit.agent.events import Leave
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.options import RECONNECT
from mesoskit.agent.views import containers_view
from mesoskit.messages.internal_pb2 import (
    DrainSlaveMessage,
    ExitedExecutorMessage,
    SlaveReregisteredMessage,
)
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, Image, TaskStatus, Volume
from mesoskit.model.events import Connected, PeerKind, Stop, StoreFailed
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.bench import AGENT_ID, MASTER, OPTIONS, OWN_RECORDS, Bench, framework, task
from tests.base import SynchronousTestCase

ISOLATED = replace(OPTIONS, isolation=IsolationSettings(isolation=("cgroups/mem",), linux=True))
MB = 1 << 20


def executor(**fields: Any) -> ExecutorInfo:
    """Return an executor of groups with 32 MB."""
    info = ExecutorInfo(type=ExecutorInfo.DEFAULT, **fields)
    info.executor_id.value = "default"
    info.resources.add(name="mem", type=0).scalar.value = 32
    return info


class PodTestCase(SynchronousTestCase):
    """A bench with a pod."""

    def bench(self, options: Any = ISOLATED, **more: Any) -> Bench:
        return Bench(options, **more).register()

    def pod(self, bench: Bench) -> ContainerId:
        """Return the container of the executor."""
        frameworks = bench.state.frameworks
        return frameworks["m-0000"].executors["default"].container  # type: ignore[index]

    def run_group(self, bench: Bench, *names: str, **more: Any) -> None:
        more.setdefault("executor", executor())
        bench.run_group(*(task(name) for name in names), **more)

    def running(self, bench: Bench, *names: str, **more: Any) -> Bench:
        """Run a group, whose statuses are acknowledged."""
        self.run_group(bench, *names, **more)
        bench.give(ContainerStarted(self.pod(bench), 55))
        for name in names:
            bench.start(name)
        bench.acknowledge()
        bench.clear()
        bench.others.clear()
        return bench

    def reregister(self, bench: Bench) -> None:
        """Let a restarted agent find its master."""
        bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        message = SlaveReregisteredMessage()
        message.slave_id.value = AGENT_ID
        bench.receive(message)
        self.assertTrue(bench.state.registered)

    def exited(self, bench: Bench) -> list[int]:
        return [one.status for one in bench.sent if isinstance(one, ExitedExecutorMessage)]

    def ends(self, bench: Bench) -> list[tuple[str, str]]:
        return sorted({told for told in bench.updates() if told[1] != "TASK_STARTING"})


class LaunchTests(PodTestCase):
    """What is launched, and when."""

    def test_the_container_comes_first_and_is_given_all(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one", "two")
        (holder,) = bench.launched()
        self.assertEqual(holder.id, self.pod(bench))
        self.assertTrue(holder.pod)
        self.assertIsNone(holder.parent)
        self.assertEqual(holder.allotment, Allotment(2000, (32 + 2 * 128) * MB))
        self.assertEqual(bench.updates(), [("one", "TASK_STARTING"), ("two", "TASK_STARTING")])
        bench.clear()
        bench.give(ContainerStarted(holder.id, 55))
        one, two = bench.launched()
        for spec in (one, two):
            self.assertEqual((spec.parent, spec.member, spec.pod), (holder.id, True, False))
            self.assertEqual(spec.allotment, Allotment(1000, 128 * MB))
            self.assertEqual(spec.sandbox, f"{holder.sandbox}/containers/{spec.id}")
        self.assertGreater(holder.patience, one.patience)

    def test_nothing_of_that_where_nothing_is_kept_apart(self) -> None:
        bench = self.bench(OPTIONS)
        self.run_group(bench, "one")
        (one,) = bench.launched()
        self.assertEqual((one.parent, one.member), (None, False))

    def test_an_executor_that_brings_volumes_has_one_anyway(self) -> None:
        bench = self.bench(OPTIONS)
        info = executor(container=ContainerInfo(type=ContainerInfo.MESOS))
        info.container.volumes.add(container_path="data", host_path="/data", mode=Volume.RW)
        self.run_group(bench, "one", executor=info)
        (holder,) = bench.launched()
        self.assertEqual(ContainerInfo.FromString(holder.info), info.container)

    def test_so_has_one_with_a_persistent_volume(self) -> None:
        bench = self.bench(OPTIONS)
        info = executor()
        disk = info.resources.add(name="disk", type=0, role="db")
        disk.scalar.value = 64
        disk.disk.persistence.id = "v"
        disk.disk.volume.container_path = "data"
        disk.disk.volume.mode = Volume.RW
        self.run_group(bench, "one", executor=info)
        (holder,) = bench.launched()
        (volume,) = ContainerInfo.FromString(holder.info).volumes
        self.assertEqual(volume.source.host_path.path, "/w/volumes/roles/db/v")

    def test_more_is_given_before_another_group_and_less_after_its_end(self) -> None:
        bench = self.running(self.bench(), "one")
        self.run_group(bench, "two", launch=False)
        self.assertEqual(bench.others, [Update(self.pod(bench), Allotment(2000, 288 * MB))])
        (two,) = bench.launched()
        self.assertEqual(two.parent, self.pod(bench))
        bench.others.clear()
        bench.start("two")
        bench.exit("two")
        self.assertEqual(bench.others, [Update(self.pod(bench), Allotment(1000, 160 * MB))])

    def test_a_group_that_comes_while_it_starts_waits_too(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one")
        self.run_group(bench, "two", launch=False)
        self.assertEqual(len(bench.launched()), 1)
        bench.give(ContainerStarted(self.pod(bench), 55))
        self.assertEqual(len(bench.launched()), 3)

    def test_where_it_cannot_be_started_all_have_failed_alike(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one", "two")
        bench.give(ContainerFailed(self.pod(bench), "launch", "no cgroups"))
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_FAILED"), ("two", "TASK_FAILED")])
        last = bench.last()
        self.assertEqual(last.message, "Failed to launch container: no cgroups")
        self.assertEqual(last.reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertEqual(self.exited(bench), [-1])
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_a_group_killed_before_is_never_launched(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one", "two")
        holder = self.pod(bench)
        bench.kill("two")
        self.assertEqual(self.ends(bench), [])  # the first status is not acknowledged
        self.assertIn(Destroy(holder), bench.hands)
        bench.give(ContainerStarted(holder, 55))
        self.assertEqual(len(bench.launched()), 1)
        bench.give(ContainerExited(holder, 9))
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_KILLED"), ("two", "TASK_KILLED")])
        why = "A task within the task group was killed before delivery to the executor"
        self.assertEqual(bench.last().message, why)
        self.assertEqual(self.exited(bench), [0])
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_what_could_not_be_recorded_has_failed(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one", "two")
        refused = {key: data for key, data in bench.store.items() if key not in OWN_RECORDS}
        for key in refused:
            del bench.store[key]
        bench.give(StoreFailed(tuple(refused.items()), "disk full"))
        bench.acknowledge()
        self.assertEqual({state for _, state in self.ends(bench)}, {"TASK_FAILED", "TASK_KILLED"})
        self.assertEqual(bench.state.containers, {})
        bench.wait(20)
        self.assertEqual(bench.state.tasks, {})
        self.assertEqual(bench.records(), OWN_RECORDS)


class VolumeTests(PodTestCase):
    """What tasks from images have of their executor's volumes."""

    def parent(self, path: str, mode: int = Volume.RW) -> Volume:
        """Return a volume that is a path of the executor's sandbox."""
        volume = Volume(container_path="mine", mode=mode)  # type: ignore[arg-type]
        volume.source.type = Volume.Source.SANDBOX_PATH
        volume.source.sandbox_path.type = Volume.Source.SandboxPath.PARENT
        volume.source.sandbox_path.path = path
        return volume

    def launched(self, around: Volume, wanted: Volume, image: bool = True) -> Any:
        """Return a task in a pod that has a volume."""
        bench = self.bench()
        outer = executor(container=ContainerInfo(type=ContainerInfo.MESOS, volumes=[around]))
        info = task("one")
        info.container.type = ContainerInfo.MESOS
        if image:
            info.container.mesos.image.type = Image.DOCKER
            info.container.mesos.image.docker.name = "busy"
        info.container.volumes.append(wanted)
        bench.run_group(info, executor=outer)
        bench.clear()
        bench.give(ContainerStarted(self.pod(bench), 55))
        (spec,) = bench.launched()
        return spec

    def volume(self, *arguments: Any) -> Volume:
        (volume,) = ContainerInfo.FromString(self.launched(*arguments).info).volumes
        return volume

    def test_what_is_mounted_in_the_executors_sandbox_is_mounted_for_them_again(self) -> None:
        host = Volume(container_path="data/", host_path="/host", mode=Volume.RO)
        expected = Volume(container_path="mine", host_path="/host", mode=Volume.RO)
        self.assertEqual(self.volume(host, self.parent("data")), expected)
        host.mode = Volume.RW
        self.assertEqual(self.volume(host, self.parent("data", Volume.RO)), expected)

    def test_what_is_in_the_executors_sandbox_anyway_is_found_there(self) -> None:
        within = Volume(container_path="data", host_path="place", mode=Volume.RW)
        self.assertEqual(self.volume(within, self.parent("data")), self.parent("place"))
        within = self.parent("place")
        within.container_path = "data"
        within.source.sandbox_path.type = Volume.Source.SandboxPath.SELF
        self.assertEqual(self.volume(within, self.parent("data")), self.parent("place"))

    def test_a_part_of_a_volume_is_refused(self) -> None:
        host = Volume(container_path="data", host_path="/host", mode=Volume.RW)
        spec = self.launched(host, self.parent("data/part"))
        self.assertIn("'data/part' is within the executor's volume 'data'", spec.wrong)

    def test_the_others_find_it_where_it_is(self) -> None:
        host = Volume(container_path="data", host_path="/host", mode=Volume.RW)
        for path in ("data", "data/part", "other"):
            wanted = self.parent(path)
            self.assertEqual(self.volume(host, wanted, False), wanted)
        self.assertEqual(self.volume(host, self.parent("other")), self.parent("other"))


class EndTests(PodTestCase):
    """How it ends."""

    def test_it_goes_with_its_last_task(self) -> None:
        bench = self.running(self.bench(), "one", "two")
        bench.exit("one")
        self.assertNotIn(Destroy(self.pod(bench)), bench.hands)
        bench.exit("two")
        self.assertIn(Destroy(self.pod(bench)), bench.hands)
        self.assertEqual(self.exited(bench), [])
        bench.give(ContainerExited(self.pod(bench), 9))
        self.assertEqual(self.exited(bench), [0])
        bench.acknowledge()
        self.assertEqual(bench.state.frameworks, {})
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_a_group_for_one_that_goes_is_dropped(self) -> None:
        bench = self.running(self.bench(), "one")
        bench.exit("one")
        self.run_group(bench, "two", launch=False)
        self.assertEqual(bench.last().message, "Executor terminating")

    def test_where_it_ends_by_itself_its_tasks_have_failed(self) -> None:
        bench = self.running(self.bench(), "one", "two")
        bench.give(ContainerExited(self.pod(bench), 9))
        for name in ("one", "two"):
            self.assertIn(Destroy(bench.container_of(name)), bench.hands)
        for name in ("two", "one"):
            bench.exit(name, 9)
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_FAILED"), ("two", "TASK_FAILED")])
        last = bench.last()
        self.assertEqual(last.reason, TaskStatus.REASON_EXECUTOR_TERMINATED)
        self.assertEqual(last.message, "Executor terminated")
        self.assertEqual(self.exited(bench), [9])

    def test_where_all_took_too_much_together_each_says_so(self) -> None:
        bench = self.running(self.bench(), "one", "two")
        reason = Reason.REASON_CONTAINER_LIMITATION_MEMORY
        why = Limitation(reason, "Memory limit exceeded: ...", (("mem", 48.0),))
        bench.give(ContainerExited(self.pod(bench), 9, why))
        for name in ("one", "two"):
            bench.exit(name, 9)
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_FAILED"), ("two", "TASK_FAILED")])
        self.assertEqual(bench.last().reason, reason)
        self.assertEqual(bench.last().limitation.resources[0].scalar.value, 48)

    def test_what_was_being_killed_is_killed(self) -> None:
        bench = self.running(self.bench(), "one")
        bench.kill("one")
        self.assertEqual(bench.hands, [Signal(bench.container_of("one"), SIGTERM)])
        bench.give(ContainerExited(self.pod(bench), 9))
        bench.exit("one", 9)
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_KILLED")])

    def test_an_agent_that_leaves_waits_for_it_whatever_it_was_doing(self) -> None:
        for running in (True, False):
            bench = self.bench()
            self.run_group(bench, "one")
            holder = self.pod(bench)
            if running:
                bench.give(ContainerStarted(holder, 55))
                bench.start("one")
            bench.give(Leave())
            self.assertIn(Destroy(holder), bench.hands)
            self.assertFalse([one for one in bench.others if isinstance(one, Stop)])
            if running:
                bench.exit("one", 9)
                bench.give(ContainerExited(holder, 9))
            else:
                bench.give(ContainerFailed(holder, "launch", "destroyed"))
            self.assertTrue([one for one in bench.others if isinstance(one, Stop)])

    def test_an_agent_that_drains_launches_none_that_waits(self) -> None:
        bench = self.bench()
        self.run_group(bench, "one")
        bench.receive(DrainSlaveMessage())
        self.assertIn(Destroy(self.pod(bench)), bench.hands)
        bench.give(ContainerFailed(self.pod(bench), "launch", "destroyed"))
        bench.acknowledge()
        self.assertEqual(self.ends(bench), [("one", "TASK_KILLED")])
        self.assertEqual(bench.last().reason, TaskStatus.REASON_AGENT_DRAINING)
        self.assertIsNone(bench.state.drain)


class RestartTests(PodTestCase):
    """An agent that starts again."""

    OPTIONS = replace(ISOLATED, recover=RECONNECT)

    def again(self, bench: Bench, **more: Any) -> Bench:
        """Return a bench over the same store."""
        next_one = Bench(self.OPTIONS, bench.store, b"fedcba9876543210")
        next_one.recover(**more)
        return next_one

    def before(self, *names: str) -> Bench:
        info = framework(checkpoint=True)
        return self.running(self.bench(self.OPTIONS), *names, info=info)

    def test_it_stands_and_takes_more(self) -> None:
        bench = self.before("one")
        holder, one = self.pod(bench), bench.container_of("one")
        after = self.again(bench, running={holder: 55, one: 56})
        self.assertEqual(after.others[:1], [Update(holder, Allotment(1000, 160 * MB))])
        self.reregister(after)
        self.run_group(after, "two", launch=False, info=framework(checkpoint=True))
        (two,) = after.launched()
        self.assertEqual((two.parent, two.member), (holder, True))

    def test_it_is_gone_and_so_are_its_tasks(self) -> None:
        bench = self.before("one", "two")
        holder, one = self.pod(bench), bench.container_of("one")
        after = self.again(bench, running={one: 56}, **{holder: 9, bench.container_of("two"): 9})
        self.assertIn(Destroy(one), after.hands)
        after.exit("one", 9)
        self.reregister(after)
        after.acknowledge()
        self.assertEqual(self.ends(after), [("one", "TASK_FAILED"), ("two", "TASK_FAILED")])
        self.assertEqual(after.state.frameworks, {})
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_an_agent_that_was_killed_before_it_launched_the_tasks(self) -> None:
        bench = self.bench(self.OPTIONS)
        self.run_group(bench, "one", "two", info=framework(checkpoint=True))
        holder = self.pod(bench)
        for running in ({holder: 55}, {}):
            after = self.again(bench, running=running)
            if running:
                self.assertEqual(after.hands[-1:], [Destroy(holder)])
                after.give(ContainerExited(holder, 9))
            self.reregister(after)
            after.acknowledge()
            self.assertEqual(self.ends(after), [("one", "TASK_LOST"), ("two", "TASK_LOST")])
            self.assertEqual(after.records(), OWN_RECORDS)

    def test_what_was_left_alone_for_too_long_does_not_outlive_it(self) -> None:
        bench = self.before("one")
        holder, one = self.pod(bench), bench.container_of("one")
        both = {holder: 55, one: 56}
        after = self.again(bench, running=both, abandoned=both)
        after.give(ContainerExited(holder, 9))
        self.assertIn(Destroy(one), after.hands)
        after.exit("one", 9)
        self.reregister(after)
        after.acknowledge()
        self.assertEqual(self.ends(after), [("one", "TASK_LOST")])

    def test_nothing_of_it_goes_on_where_nothing_shall(self) -> None:
        bench = self.running(self.bench(), "one")
        holder, one = self.pod(bench), bench.container_of("one")
        after = Bench(ISOLATED, bench.store, b"fedcba9876543210")
        after.recover(running={holder: 55, one: 56})
        self.assertIn(Destroy(one), after.hands)
        after.exit("one", 9)
        self.assertIn(Destroy(holder), after.hands)
        after.give(ContainerExited(holder, 9))
        self.reregister(after)
        after.acknowledge()
        self.assertEqual(after.state.frameworks, {})


class ViewTests(PodTestCase):
    """What is shown."""

    def test_what_it_uses_is_not_counted_twice(self) -> None:
        bench = self.running(self.bench(), "one")
        whole = Usage(2.0, 1.0, 500, 3, 1000.0, figures={"mem_total_bytes": 900.0}, whole=True)
        part = Usage(1.5, 0.5, 400, 2, 1000.0, figures={"mem_total_bytes": 800.0})
        bench.give(UsageRead({self.pod(bench): whole, bench.container_of("one"): part}))
        (shown,) = containers_view(bench.state)
        self.assertEqual(shown["status"]["executor_pid"], 55)
        used = shown["statistics"]
        self.assertEqual(used["mem_rss_bytes"], 500)
        self.assertEqual(used["mem_total_bytes"], 900)
        self.assertEqual(used["mem_limit_bytes"], 160 * MB)
        self.assertEqual(used["processes"], 3)
