"""What containers are given: of tasks, of executors as their tasks come and go, and its limits."""

from __future__ import annotations

from math import inf
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent.allotments import Sum, of_task
from mesoskit.agent.container import (
    UNLIMITED,
    Allotment,
    ContainerExited,
    ContainerStarted,
    Limitation,
    RecoveredContainers,
    Update,
)
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus, Value
from mesoskit.model.events import Connected, PeerKind, Recovered
from mesoskit.model.ids import ContainerId, PeerId
from mesoskit.model.tasks import Reason, TaskState
from tests.agent.bench import FRAMEWORK_ID, MASTER, Bench, custom_executor, framework, task
from tests.base import SynchronousTestCase

MB = 1 << 20
DOOR = PeerId(10)
TOO_MUCH = Limitation(
    Reason.REASON_CONTAINER_LIMITATION_MEMORY, "Memory limit exceeded: so much", (("mem", 33.0),)
)


def of(task_id: str = "t", **amounts: float) -> TaskInfo:
    """Return a task with resources, and limits of those that begin with C{most_}."""
    info = task(task_id)
    del info.resources[:]
    for name, amount in amounts.items():
        if name.startswith("most_"):
            info.limits[name.removeprefix("most_")].value = amount
        else:
            info.resources.add(name=name, type=Value.SCALAR).scalar.value = amount
    return info


class TaskTests(SynchronousTestCase):
    """One task."""

    def test_scalars_in_thousandths_and_bytes(self) -> None:
        found = of_task(of(cpus=0.1, mem=32, disk=1.5, gpus=2))
        self.assertEqual(found, Allotment(100, 32 * MB, 3 * MB // 2, 2))

    def test_resources_of_several_reservations_are_added_up(self) -> None:
        info = of(cpus=0.5)
        info.resources.add(name="cpus", type=Value.SCALAR).scalar.value = 0.25
        self.assertEqual(of_task(info).cpus, 750)

    def test_volumes_do_not_count_as_the_sandbox(self) -> None:
        info = of(disk=10)
        info.resources[0].disk.persistence.id = "v"
        self.assertEqual(of_task(info).disk, 0)

    def test_limits(self) -> None:
        found = of_task(of(cpus=1, mem=32, most_cpus=inf, most_mem=64))
        self.assertEqual((found.cpus_limit, found.mem_limit), (UNLIMITED, 64 * MB))

    def test_commands_and_groups_are_given_what_their_tasks_are(self) -> None:
        bench = Bench().register()
        bench.run(of(cpus=0.5, mem=64))
        self.assertEqual(bench.launched()[0].allotment, Allotment(500, 64 * MB))


ALLOTMENTS = st.builds(
    Allotment,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.none() | st.just(UNLIMITED) | st.integers(9, 20),
    st.none() | st.just(UNLIMITED) | st.integers(9, 20),
)


class SumTests(SynchronousTestCase):
    """Several together."""

    def total(self, *parts: Allotment) -> Allotment:
        together = Sum(parts[0])
        for part in parts[1:]:
            together.add(part)
        return together.total

    def test_no_limits(self) -> None:
        self.assertEqual(self.total(Allotment(1, 2, 3), Allotment(4, 5, 6)), Allotment(5, 7, 9))

    def test_who_has_no_limit_counts_with_what_it_was_given(self) -> None:
        found = self.total(Allotment(100), Allotment(500, cpus_limit=2000))
        self.assertEqual((found.cpus, found.cpus_limit, found.mem_limit), (600, 2100, None))

    def test_one_without_end_makes_all_so(self) -> None:
        unlimited = Allotment(1, cpus_limit=UNLIMITED)
        found = self.total(Allotment(1), Allotment(1, cpus_limit=2), unlimited)
        self.assertEqual(found.cpus_limit, UNLIMITED)

    @given(ALLOTMENTS, st.lists(ALLOTMENTS), ALLOTMENTS)
    def test_what_goes_leaves_what_was_before(
        self, own: Allotment, parts: list[Allotment], one: Allotment
    ) -> None:
        together = Sum(own)
        for part in parts:
            together.add(part)
        before = together.total
        together.add(one)
        together.add(one, -1)
        self.assertEqual(together.total, before)


class ExecutorTests(SynchronousTestCase):
    """A custom executor's container, as tasks come and go."""

    def setUp(self) -> None:
        self.bench = Bench().register()

    def info(self, task_id: str, **amounts: float) -> TaskInfo:
        info = of(task_id, **amounts)
        executor = custom_executor()
        del executor.resources[:]
        executor.resources.add(name="mem", type=Value.SCALAR).scalar.value = 16
        info.executor.CopyFrom(executor)
        return info

    def updates(self) -> list[Any]:
        return [one.allotment for one in self.bench.others if isinstance(one, Update)]

    def test_launched_with_its_own_and_its_first_tasks(self) -> None:
        self.bench.run(self.info("a", cpus=1, mem=32), launch=True)
        (spec,) = self.bench.launched()
        self.assertEqual(spec.allotment, Allotment(1000, 48 * MB))
        self.assertEqual(self.updates(), [])

    def test_given_more_and_less(self) -> None:
        bench = self.bench
        bench.run(self.info("a", cpus=1, mem=32), launch=True)
        bench.subscribe()
        bench.run(self.info("b", cpus=0.5, mem=8), launch=False)
        bench.update(DOOR, TaskState.TASK_FINISHED, "a")
        self.assertEqual(self.updates(), [Allotment(1500, 56 * MB), Allotment(500, 24 * MB)])

    def test_given_again_what_it_has_after_a_restart(self) -> None:
        bench = self.bench
        checkpointing = framework()
        checkpointing.checkpoint = True
        bench.run(self.info("a", cpus=1, mem=32), launch=True, info=checkpointing)
        container = bench.launched()[0].id
        bench.subscribe()
        bench.give(ContainerStarted(container, 5))
        again = Bench(store=bench.store)
        again.recover(running={container: 5})
        (update,) = (one for one in again.others if isinstance(one, Update))
        self.assertEqual(update, Update(container, Allotment(1000, 48 * MB)))


class LimitationTests(SynchronousTestCase):
    """Containers that took too much."""

    def setUp(self) -> None:
        self.bench = Bench().register()

    def test_command(self) -> None:
        bench = self.bench
        bench.run(task())
        bench.start()
        bench.acknowledge()
        bench.give(ContainerExited(bench.container_of(), 9, TOO_MUCH))
        self.expect(bench.last())

    def test_command_that_was_being_killed_ends_as_what_happened_to_it(self) -> None:
        bench = self.bench
        bench.run(task())
        bench.start()
        bench.acknowledge()
        bench.kill()
        bench.give(ContainerExited(bench.container_of(), 9, TOO_MUCH))
        self.expect(bench.last())

    def test_executor_and_all_its_tasks(self) -> None:
        bench = self.bench
        for name in ("a", "b"):
            bench.run(task(name, executor=custom_executor()), launch=name == "a")
        bench.subscribe()
        (executor,) = bench.state.frameworks[FRAMEWORK_ID].executors.values()  # type: ignore[index]
        bench.give(ContainerExited(executor.container, 9, TOO_MUCH))
        self.expect(bench.last())
        self.assertEqual([one for _, one in bench.updates()], ["TASK_FAILED"] * 2)

    def test_while_no_agent_was_there(self) -> None:
        bench = self.bench
        checkpointing = framework()
        checkpointing.checkpoint = True
        bench.run(task(), info=checkpointing)
        bench.start()
        bench.acknowledge()
        container = ContainerId(bench.container_of())
        again = Bench(store=bench.store)
        again.give(Recovered(bench.store.copy()))
        found = RecoveredContainers({}, {container: 9}, limitations={container: TOO_MUCH})
        again.give(found)
        again.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        again.accept()
        again.wait(20)
        self.expect(again.last())

    def expect(self, status: TaskStatus) -> None:
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.source, TaskStatus.SOURCE_AGENT)
        self.assertEqual(status.reason, TaskStatus.REASON_CONTAINER_LIMITATION_MEMORY)
        self.assertEqual(status.message, TOO_MUCH.message)
        (one,) = status.limitation.resources
        self.assertEqual((one.name, one.scalar.value), ("mem", 33.0))
