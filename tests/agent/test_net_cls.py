"""Numbers of what containers send: given out, found again, shown."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.agent import answers, views
from mesoskit.agent.container import (
    Allotment,
    ContainerFacts,
    ContainerStarted,
    RecoveredContainers,
)
from mesoskit.agent.containers import ContainerError, cgroups_v1
from mesoskit.agent.containers.cgroups import FREEZER, NET_CLS
from mesoskit.agent.containers.isolator_net_cls import NetClsIsolator
from mesoskit.agent.containers.isolators import Isolated
from mesoskit.agent.net_cls import Handles, HandlesExhausted
from mesoskit.messages.agent_pb2 import Call
from mesoskit.model.events import Recovered
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import TaskState
from tests.agent.bench import Bench, task
from tests.base import SynchronousTestCase


class HandleTests(SynchronousTestCase):
    """Which number is next."""

    def test_upper_half_and_range(self) -> None:
        handles = Handles(0x12, (0xFFFE, 0xFFFF))
        self.assertEqual([handles.take(), handles.take()], [0x12FFFE, 0x12FFFF])
        error = self.assertRaises(HandlesExhausted, handles.take)
        self.assertIn("0x12:0xfffe to 0xffff", str(error))
        handles.give_back(0x12FFFE)
        self.assertEqual(handles.take(), 0x12FFFE)

    def test_one_that_was_given_back_is_the_last_to_be_given_out(self) -> None:
        handles = Handles(1, (1, 3))
        first = handles.take()
        handles.give_back(first)
        self.assertEqual([handles.take() & 0xFFFF for _ in range(3)], [2, 3, 1])

    @given(st.lists(st.integers(0, 5)))
    def test_nobody_has_anothers(self, steps: list[int]) -> None:
        handles = Handles(7, (1, 4))
        held: list[int] = []
        for step in steps:
            if step < len(held):
                handles.give_back(held.pop(step))
            elif len(held) < 4:
                held.append(handles.take())
            else:
                self.assertRaises(HandlesExhausted, handles.take)
            self.assertEqual(len(set(held)), len(held))


class StateTests(SynchronousTestCase):
    """What is told of it."""

    def running(self) -> tuple[Bench, ContainerId]:
        bench = Bench().register()
        bench.run(task())
        container = bench.container_of()
        bench.give(ContainerStarted(container, 7, ContainerFacts(classid=0x120001)))
        return bench, container

    def test_the_status_of_a_task_and_its_container_show_it(self) -> None:
        bench, _ = self.running()
        bench.acknowledge()
        running = bench.last()
        self.assertEqual(running.state, TaskState.TASK_RUNNING)
        self.assertEqual(running.container_status.cgroup_info.net_cls.classid, 0x120001)
        (view,) = views.containers_view(bench.state)
        self.assertEqual(view["status"]["cgroup_info"], {"net_cls": {"classid": 0x120001}})
        answer = answers.containers(bench.state, Call())
        (shown,) = answer.get_containers.containers
        self.assertEqual(shown.container_status.cgroup_info.net_cls.classid, 0x120001)
        bench.exit()
        self.assertEqual(bench.state.classes, {})

    def test_it_is_known_after_a_restart(self) -> None:
        before, container = self.running()
        after = Bench(store=before.store)
        after.give(Recovered(after.store.copy()))
        after.give(RecoveredContainers({container: 7}, classes={container: 0x120001}))
        self.assertEqual(after.state.classes, {container: 0x120001})


class IsolatorTests(SynchronousTestCase):
    """
    On directories that stand for cgroups: mounting that controller where it is not mounted yet
    would be seen by everybody on the machine.
    """

    def setUp(self) -> None:
        mounts = {name: os.path.abspath(self.mktemp()) for name in (FREEZER, NET_CLS)}

        def make_directory(path: str) -> None:
            # As in the kernel, a new group has the number of the one above.
            file = Path(path, "net_cls.classid")
            if path.startswith(mounts[NET_CLS]) and not file.exists():
                above = file.parent.parent.parent / file.name
                file.parent.mkdir(parents=True)
                file.write_text(above.read_text() if above.exists() else "0\n")

        self.patch(cgroups_v1, "make_directory", make_directory)
        self.groups = cgroups_v1.CgroupsV1(mounts, "mesos")

    def isolator(self) -> NetClsIsolator:
        return NetClsIsolator(self.groups, Handles(0x12, (1, 2)))

    def container(self, name: str, parent: Isolated | None = None) -> Isolated:
        return Isolated(ContainerId(name), "/w", Allotment(), parent=parent)

    def prepared(self, isolator: NetClsIsolator, name: str) -> Isolated:
        self.groups.make(name, [NET_CLS])
        container = self.container(name)
        isolator.prepare(container)
        return container

    def test_each_container_has_its_own_and_what_is_nested_its_parents(self) -> None:
        isolator = self.isolator()
        first = self.prepared(isolator, "a")
        self.assertEqual(self.prepared(isolator, "b").classid, 0x120002)
        self.assertEqual(self.groups.class_of("a"), 0x120001)
        nested = self.container("n", first)
        isolator.prepare(nested)
        self.assertEqual(nested.classid, 0x120001)
        isolator.cleanup(nested)
        with self.assertRaisesRegex(ContainerError, "--cgroups_net_cls_secondary_handles"):
            self.prepared(isolator, "c")
        isolator.cleanup(first)
        self.assertEqual(self.prepared(isolator, "d").classid, 0x120001)

    def test_the_next_agent_finds_them_again(self) -> None:
        first = self.isolator()
        self.prepared(first, "a")
        second = self.isolator()
        found = self.container("a")
        nested = self.container("n", self.container("a"))
        for one in (found, nested):
            second.recover(one)
            self.assertEqual(one.classid, 0x120001)
        self.assertEqual(self.prepared(second, "b").classid, 0x120002)

    def test_one_without_a_number_has_none(self) -> None:
        self.groups.make("a", [])
        found = self.container("a")
        self.isolator().recover(found)
        self.assertEqual(found.classid, None)
        self.groups.make("b", [NET_CLS])
        found = self.container("b")
        self.isolator().recover(found)
        self.assertEqual(found.classid, None)
