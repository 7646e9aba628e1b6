"""Isolator C{cgroups/perf_event}: what is counted for containers, on this machine's kernel."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from typing import Any
from unittest import skipIf

from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from mesoskit.agent.container import Allotment
from mesoskit.agent.containers import isolator_perf, perf_events
from mesoskit.agent.containers.cgroups import PERF_EVENT, find
from mesoskit.agent.containers.isolator_perf import PerfIsolator
from mesoskit.agent.containers.isolators import Isolated
from mesoskit.agent.containers.perf_events import EVENTS, Counter, PerfError
from mesoskit.messages.mesos_pb2 import PerfStatistics
from mesoskit.model.ids import ContainerId
from tests.agent.test_cgroup_hosts import eventually, unified
from tests.base import SynchronousTestCase

NUMBERS = count()
BUSY = "echo $$ > {}/cgroup.procs; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"


class EventTests(SynchronousTestCase):
    """Names and results."""

    def test_every_field_of_mesos_can_be_counted(self) -> None:
        fields = set(PerfStatistics.DESCRIPTOR.fields_by_name)
        self.assertEqual(EVENTS.keys(), fields - {"timestamp", "duration"})
        self.assertEqual(EVENTS["dtlb_store_misses"], (3, 3 | 1 << 8 | 1 << 16))

    def test_time_is_shown_in_milliseconds(self) -> None:
        shown = perf_events.statistics({"cycles": 5.4, "task_clock": 2_500_000.0}, 7.0, 1.5)
        self.assertEqual((shown.timestamp, shown.duration), (7.0, 1.5))
        self.assertEqual((shown.cycles, shown.task_clock), (5, 2.5))

    def test_processors(self) -> None:
        self.assertIn(0, perf_events.processors())


@skipIf(os.geteuid() != 0, "only root can make cgroups")
class CountTests(SynchronousTestCase):
    """A real group, and a clock of ours."""

    def setUp(self) -> None:
        root = f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}"
        self.groups = find(unified(self), root)
        self.addCleanup(eventually, lambda: self.groups.remove(""))
        try:
            perf_events.check(["task_clock"], unified(self))
        except PerfError as error:
            self.skipTest(f"the kernel counts nothing for us: {error}")
        self.clock = Clock()
        self.open: set[Counter] = set()
        begin, close = perf_events.begin, perf_events.close

        def begin_noted(*arguments: Any) -> list[Counter]:
            begun = begin(*arguments)
            self.open.update(begun)
            return begun

        def close_noted(counters: list[Counter]) -> None:
            self.open.difference_update(counters)
            close(counters)

        self.patch(perf_events, "begin", begin_noted)
        self.patch(perf_events, "close", close_noted)

    def isolator(self) -> PerfIsolator:
        isolator = PerfIsolator(
            *(self.clock, lambda work: succeed(work()), self.groups),
            *(("task_clock", "context_switches"), 60.0, 10.0),
        )
        self.addCleanup(isolator.stop)
        return isolator

    def container(self, name: str) -> tuple[Isolated, str]:
        made = self.groups.make(name, [PERF_EVENT])
        return Isolated(ContainerId(name), "/w", Allotment()), made.kill

    def work(self, path: str) -> None:
        subprocess.run(["/bin/sh", "-c", BUSY.format(path)], check=True)

    def perf(self, isolator: PerfIsolator, container: Isolated) -> Any:
        return isolator.usage(container)["perf"]

    def test_what_a_container_does_is_counted_and_not_what_others_do(self) -> None:
        isolator = self.isolator()
        busy, path = self.container("a")
        idle, _ = self.container("b")
        isolator.isolated(busy)
        isolator.recover(idle)
        self.assertEqual(isolator.usage(busy), {})
        self.clock.advance(0)
        self.work(path)
        self.clock.advance(10)
        self.assertGreater(self.perf(isolator, busy).task_clock, 1)
        self.assertEqual(self.perf(isolator, busy).duration, 10)
        self.assertEqual(self.perf(isolator, idle).task_clock, 0)
        self.assertEqual(self.open, set())

        # The next count begins a minute after the first one began.
        self.clock.advance(49)
        self.assertEqual(self.open, set())
        self.clock.advance(1)
        self.assertNotEqual(self.open, set())
        self.clock.advance(10)
        self.assertEqual(self.perf(isolator, busy).task_clock, 0)
        self.assertEqual(self.perf(isolator, busy).timestamp, 60)
        for one in (busy, idle):
            self.assertTrue(isolator.cleanup(one))
        self.clock.advance(60)
        self.assertEqual(isolator.usage(busy), {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_are_counted_some_after_the_others(self) -> None:
        self.patch(isolator_perf, "MOST_COUNTERS", 1)
        isolator = self.isolator()
        both = [self.container(name)[0] for name in "ab"]
        for one in both:
            isolator.isolated(one)
        self.clock.pump([0, 10])
        self.assertEqual([bool(isolator.usage(one)) for one in both], [True, False])
        self.clock.advance(10)
        self.assertEqual([bool(isolator.usage(one)) for one in both], [True, True])

    def test_one_that_ends_meanwhile_is_passed_over(self) -> None:
        isolator = self.isolator()
        container, _ = self.container("a")
        isolator.isolated(container)
        self.groups.remove("a")
        self.clock.pump([0, 10, 50, 10])
        self.assertEqual(isolator.usage(container), {})

    def test_stopping_leaves_nothing_open(self) -> None:
        isolator = self.isolator()
        isolator.isolated(self.container("a")[0])
        self.clock.advance(0)
        isolator.stop()
        self.assertEqual(self.open, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_cannot_be_counted_is_refused_by_name(self) -> None:
        path = self.groups.make("a", [PERF_EVENT]).kill
        perf_events.check(["task_clock"], path)
        for event, group, why in (
            ("nonsense", path, "unknown event 'nonsense': cycles, "),
            ("task_clock", "/nowhere", "/nowhere: No such file"),
        ):
            error = self.assertRaises(PerfError, perf_events.check, [event], group)
            self.assertIn(why, str(error))
        self.patch(perf_events, "EVENTS", {"odd": (1, 999)})
        error = self.assertRaises(PerfError, perf_events.check, ["odd"], path)
        self.assertIn("odd cannot be counted on this machine", str(error))
