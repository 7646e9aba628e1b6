"""Heartbeats: each member its own interval, all one timer."""

from __future__ import annotations

from twisted.internet.task import Clock

from mesoskit.wire.heartbeats import Heartbeats
from tests.base import SynchronousTestCase


class Member:
    """Notes when it hears a beat."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.beats: list[float] = []

    def beat(self) -> None:
        self.beats.append(self.clock.seconds())


class HeartbeatsTests(SynchronousTestCase):
    """Beats under a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.heartbeats = Heartbeats(self.clock, 10)

    def member(self) -> Member:
        member = Member(self.clock)
        self.heartbeats.join(member)
        return member

    def test_each_beats_an_interval_after_it_joined(self) -> None:
        first = self.member()
        self.clock.advance(4)
        second = self.member()
        self.clock.pump([1] * 30)
        self.assertEqual(([10, 20, 30], [14, 24, 34]), (first.beats, second.beats))
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_one_that_left_hears_nothing_and_no_timer_stays(self) -> None:
        first, second = self.member(), self.member()
        self.heartbeats.leave(first)
        self.clock.advance(10)
        self.heartbeats.leave(second)
        self.heartbeats.leave(second)
        self.assertEqual(([], [10]), (first.beats, second.beats))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_one_that_makes_another_leave(self) -> None:
        first, second = self.member(), self.member()
        first.beat = lambda: self.heartbeats.leave(second)  # type: ignore[method-assign]
        self.clock.advance(10)
        self.assertEqual([], second.beats)

    def test_process_that_was_stopped_catches_up_with_one_beat(self) -> None:
        member = self.member()
        self.clock.advance(1000)
        self.assertEqual([1000], member.beats)
        self.clock.advance(10)
        self.assertEqual([1000, 1010], member.beats)

    def test_interval_must_be_one(self) -> None:
        self.assertRaises(ValueError, Heartbeats, self.clock, 0)
