"""Metrics that are written in parts are those that are written whole."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.web.shared import MetricParts
from tests.base import SynchronousTestCase

NAMES = st.text("abz_/~", min_size=1, max_size=4)


class MetricPartsTests(SynchronousTestCase):
    """Parts before, between and after what is written already."""

    @given(st.dictionaries(NAMES, st.floats(0, 10)), st.lists(NAMES, unique=True))
    def test_names_are_in_order_and_all_there(
        self, metrics: dict[str, float], others: list[str]
    ) -> None:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("m/")}
        members = [f'"m/{name}":1.0'.encode() for name in sorted(others)]
        shown = json.loads(MetricParts(metrics, "m/", members).as_json())
        self.assertEqual({**metrics, **{f"m/{name}": 1.0 for name in others}}, shown)
        self.assertEqual(sorted(shown), list(shown))

    def test_nothing_at_all(self) -> None:
        self.assertEqual(b"{}", MetricParts({}).as_json())
