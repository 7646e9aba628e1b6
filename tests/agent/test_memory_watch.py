"""Looking whether something was killed, after the kernel has said that memory is short."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import Clock

from mesoskit.agent.containers.memory_watch import MemoryWatch, Pressure
from tests.base import SynchronousTestCase


class Readers(Clock):
    """A clock that is told of readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class PressureTests(SynchronousTestCase):
    """Counts."""

    def test_what_the_kernel_counts_is_added_up_until_it_is_over(self) -> None:
        low, medium = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        pressure = Pressure({"low": low, "medium": medium})
        self.assertEqual(pressure.counts(), {"low": 0, "medium": 0})
        for times in (3, 1):
            os.eventfd_write(low, times)
        self.assertEqual(pressure.counts(), {"low": 4, "medium": 0})
        os.eventfd_write(medium, 2)
        os.eventfd_write(low, 1)
        self.assertEqual(pressure.counts(), {"low": 5, "medium": 2})
        pressure.stop()
        self.assertEqual(pressure.counts(), {"low": 5, "medium": 2})
        pressure.stop()


class MemoryWatchTests(SynchronousTestCase):
    """From shortages to looks."""

    def setUp(self) -> None:
        self.reactor = Readers()
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.looks: list[float] = []
        self.killed = False
        self.watch = MemoryWatch(self.reactor, self.descriptor, self.look)

    def look(self) -> bool:
        self.looks.append(self.reactor.seconds())
        return self.killed

    def shortage(self) -> None:
        os.eventfd_write(self.descriptor, 1)
        self.watch.doRead()

    def test_it_is_looked_once_for_what_happened_before(self) -> None:
        self.reactor.pump([1.0] * 10)
        self.assertEqual(len(self.looks), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_it_is_looked_again_and_more_seldom(self) -> None:
        self.shortage()
        self.reactor.pump([0.01] * 400)
        self.assertEqual(len(self.looks), 8)
        self.killed = True
        self.reactor.pump([0.1] * 20)
        self.assertEqual(len(self.looks), 9)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_what_takes_long_to_die_is_found_a_minute_later(self) -> None:
        self.shortage()
        self.reactor.pump([1.0] * 100)
        self.assertGreater(self.looks[-1], 95)
        self.reactor.pump([1.0] * 100)
        self.assertLess(self.looks[-1], 125)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_many_shortages_are_one_look(self) -> None:
        for _ in range(100):
            self.shortage()
        self.reactor.advance(0.05)
        self.assertEqual(len(self.looks), 1)

    def test_another_shortage_makes_it_look_soon(self) -> None:
        self.shortage()
        self.reactor.pump([0.5] * 20)
        before = len(self.looks)
        self.shortage()
        self.reactor.advance(0.05)
        self.assertEqual(len(self.looks), before + 1)

    def test_nothing_is_left_when_it_stops(self) -> None:
        self.shortage()
        self.watch.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers, [])
        self.assertRaises(OSError, os.fstat, self.descriptor)
