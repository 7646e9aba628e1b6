"""What C{--rate_limits} may say, and how fast things pass."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.master.rate_limits import (
    Limiter,
    Limiters,
    RateLimit,
    RateLimits,
    parse_rate_limits,
)
from tests.base import SynchronousTestCase


class ParseTests(SynchronousTestCase):
    """The JSON of Mesos' RateLimits."""

    def test_all_that_may_be_said(self) -> None:
        text = """{"limits": [
            {"principal": "slow", "qps": 5.5, "capacity": 100},
            {"principal": "patient", "qps": 300},
            {"principal": "free"}
        ], "aggregate_default_qps": 33.3, "aggregate_default_capacity": 1000}"""
        self.assertEqual(
            parse_rate_limits(text),
            RateLimits(
                {"slow": RateLimit(5.5, 100), "patient": RateLimit(300.0), "free": None},
                RateLimit(33.3, 1000),
            ),
        )
        self.assertEqual(parse_rate_limits("{}"), RateLimits())

    def test_what_is_refused_and_why(self) -> None:
        for text, words in (
            ("", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ("[]", "expected an object"),
            ('{"limits": 3}', "limits"),
            ('{"limits": [{"qps": 1}]}', "principal"),
            ('{"limits": [{"principal": "p", "qps": "fast"}]}', "qps"),
            (
                '{"limits": [{"principal": "p"}, {"principal": "p", "qps": 1}]}',
                "Duplicate principal p found in RateLimits configuration",
            ),
            (
                '{"limits": [{"principal": "p", "qps": 0}]}',
                "Invalid qps: 0. It must be a positive number",
            ),
            (
                '{"aggregate_default_qps": -1}',
                "Invalid aggregate_default_qps: -1. It must be a positive number",
            ),
        ):
            error = self.assertRaises(ValueError, parse_rate_limits, text)
            self.assertIn(words, str(error), text[:100])

    @given(
        st.recursive(
            st.none() | st.floats() | st.text(),
            lambda x: (
                st.lists(x)
                | st.dictionaries(
                    st.sampled_from(["limits", "principal", "qps", "capacity", "x"]), x
                )
            ),
        )
    )
    def test_nothing_but_a_value_error_comes_of_nonsense(self, what: object) -> None:
        try:
            parse_rate_limits(json.dumps(what))
        except ValueError:
            pass


class LimiterTests(SynchronousTestCase):
    """The spacing of calls."""

    @given(
        st.floats(0.5, 10_000),
        st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
    )
    def test_no_more_pass_than_the_rate_allows(self, qps: float, waits: list[float]) -> None:
        """Over any time: the rate, one at once, and what timers may be late by."""
        limiter = Limiter(RateLimit(qps))
        now, passed = 1000.0, 0
        for wait in waits:
            now += wait
            for _ in range(1000):
                if limiter.delay(now):
                    break
                limiter.pass_one(now)
                passed += 1
        self.assertLessEqual(passed, (now - 1000.0 + 0.02) * qps + 2)

    def test_late_timers_do_not_slow_it_down(self) -> None:
        limiter, now, passed = Limiter(RateLimit(1000)), 5.0, 0
        while now < 6.0:
            now += 0.007
            while not limiter.delay(now):
                limiter.pass_one(now)
                passed += 1
        self.assertGreater(passed, 990)

    def test_whose_limit_it_is(self) -> None:
        limiters = Limiters(RateLimits({"a": RateLimit(1), "free": None}, RateLimit(2)))
        self.assertIs(limiters.of("a"), limiters.of("a"))
        self.assertIsNot(limiters.of("a"), limiters.of("b"))
        self.assertIs(limiters.of("b"), limiters.of(None))
        self.assertIsNone(limiters.of("free"))
        self.assertIsNone(Limiters(RateLimits()).of("a"))
