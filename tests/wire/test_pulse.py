"""The shared timers: each link in its turn, none too early, none forgotten."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.wire.pulse import Pulse
from tests.base import SynchronousTestCase


class Visitor:
    """Remembers when it was visited and how often it was flushed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.visits: list[float] = []
        self.flushes = 0

    def visit(self) -> None:
        self.visits.append(self.clock.seconds())

    def flush(self) -> None:
        self.flushes += 1


class PulseTests(SynchronousTestCase):
    """A span of four seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pulse = Pulse(self.clock, 4.0)

    @given(
        st.lists(
            st.tuples(st.sampled_from(["join", "leave", "wait"]), st.integers(0, 40)), max_size=60
        )
    )
    def test_whoever_comes_and_goes_each_is_visited_once_in_every_span(
        self, steps: list[tuple[str, int]]
    ) -> None:
        clock = Clock()
        pulse = Pulse(clock, 4.0)
        present: dict[Visitor, tuple[int, float]] = {}

        def wait(ticks: int) -> None:
            for _ in range(ticks):
                clock.advance(0.25)

        for what, number in [*steps, ("wait", 40)]:
            if what == "join":
                visitor = Visitor(clock)
                present[visitor] = pulse.join(visitor), clock.seconds()
            elif what == "wait":
                wait(number)
            elif present:
                visitor = list(present)[number % len(present)]
                pulse.leave(visitor, present.pop(visitor)[0])
        for visitor, (_, joined) in present.items():
            times = [joined, *visitor.visits]
            gaps = [b - a for a, b in itertools.pairwise(times)]
            self.assertLessEqual(max(gaps), 4.0)
            self.assertEqual(set(gaps[1:]) - {4.0}, set())
            self.assertLessEqual(clock.seconds() - times[-1], 4.0)
        self.assertEqual(len(clock.getDelayedCalls()), 1 if present else 0)

    def test_one_that_left_is_not_visited(self) -> None:
        visitor = Visitor(self.clock)
        self.pulse.leave(visitor, self.pulse.join(visitor))
        self.clock.advance(10)
        self.assertEqual(visitor.visits, [])

    def test_links_are_spread_over_the_span(self) -> None:
        visitors = [Visitor(self.clock) for _ in range(16)]
        for visitor in visitors:
            self.pulse.join(visitor)
        self.clock.pump([0.5] * 20)
        self.assertEqual(len({visitor.visits[1] for visitor in visitors}), 8)

    def test_a_turns_links_are_flushed_by_one_call(self) -> None:
        visitors = [Visitor(self.clock) for _ in range(5)]
        for visitor in visitors:
            self.pulse.flush_later(visitor)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(0)
        self.assertEqual([visitor.flushes for visitor in visitors], [1] * 5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_flushed_by_hand_is_not_flushed_again(self) -> None:
        visitor = Visitor(self.clock)
        self.pulse.flush_later(visitor)
        self.pulse.flush()
        self.clock.advance(0)
        self.assertEqual(visitor.flushes, 1)
