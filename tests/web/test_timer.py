"""Times that are measured: percentiles, the window, and how few are kept."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.web.timer import MOST, WINDOW, Timer
from tests.base import SynchronousTestCase


class TimerTests(SynchronousTestCase):
    """A timer on a clock that tests turn."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.timer = Timer("x_ms", self.clock.seconds)

    def test_nothing_is_shown_before_anything_was_measured(self) -> None:
        self.assertEqual({}, self.timer.metrics())

    def test_percentiles_lie_between_what_was_measured(self) -> None:
        for milliseconds in (4, 1, 3, 2, 5):
            self.timer.add(milliseconds / 1000)
        shown = self.timer.metrics()
        self.assertEqual(5.0, shown["x_ms"])
        self.assertEqual(5.0, shown["x_ms/count"])
        self.assertEqual((1.0, 5.0), (shown["x_ms/min"], shown["x_ms/max"]))
        self.assertEqual(3.0, shown["x_ms/p50"])
        self.assertAlmostEqual(4.6, shown["x_ms/p90"])
        self.assertAlmostEqual(4.9996, shown["x_ms/p9999"])

    def test_after_an_hour_it_is_only_the_last(self) -> None:
        self.timer.add(0.25)
        self.clock.advance(WINDOW + 1)
        self.assertEqual({"x_ms": 250.0, "x_ms/count": 0.0}, self.timer.metrics())

    def test_no_more_than_a_thousand_are_kept_and_the_window_stays_whole(self) -> None:
        for number in range(5 * MOST):
            self.timer.add(number / 1000)
            self.clock.advance(0.1)
        shown = self.timer.metrics()
        self.assertLessEqual(shown["x_ms/count"], MOST)
        self.assertLess(shown["x_ms/min"], 0.05 * 5 * MOST)
        self.assertEqual(5.0 * MOST - 1, shown["x_ms/max"])

    @given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
    def test_percentiles_are_in_order(self, times: list[float]) -> None:
        timer = Timer("x_ms", self.clock.seconds)
        for one in times:
            timer.add(one)
        shown = timer.metrics()
        names = ("min", "p50", "p90", "p95", "p99", "p999", "p9999", "max")
        spread = [shown[f"x_ms/{name}"] for name in names]
        for below, above in pairwise(spread):
            self.assertLessEqual(below, above + 1e-9)
