"""Weights that operators set: what they do to offers, and what a new master knows of them."""

from __future__ import annotations

from typing import Any

from mesoskit.master import weights
from mesoskit.master.operator import Replied, Requested, UpdateWeights
from mesoskit.messages.mesos_pb2 import WeightInfo
from mesoskit.messages.scheduler_pb2 import Event
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, events, stores


def _kept(**weights: float) -> dict[str, bytes]:
    return {
        f"weights/{role}": WeightInfo(role=role, weight=weight).SerializeToString()
        for role, weight in weights.items()
    }


class WeightsTests(SynchronousTestCase):
    """A master with two frameworks, one in a role of its own."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.bench.register()
        self.framework, _ = self.bench.subscribe(name="one", role="a")

    def set(self, **changed: float) -> list[Any]:
        """Set weights; return the effects."""
        effects = self.bench.give(Requested(1, UpdateWeights(changed)))
        self.bench.state.validate_state()
        return effects

    def test_weights_are_stored_before_they_are_confirmed(self) -> None:
        effects = self.set(a=2.0, b=0.5)
        self.assertEqual(["weights/a", "weights/b"], stores(effects))
        self.assertEqual([200], [one.status for one in effects if isinstance(one, Replied)])
        self.assertEqual({"a": 2.0, "b": 0.5}, self.bench.state.weights)

    def test_those_not_named_stay(self) -> None:
        self.set(a=2.0)
        self.set(b=3.0)
        self.assertEqual({"a": 2.0, "b": 3.0}, self.bench.state.weights)

    def test_offers_are_rescinded_where_a_framework_is_in_the_role(self) -> None:
        offer = self.bench.offer(self.framework)
        self.assertEqual([], events(self.set(other=2.0), self.framework, Event.RESCIND))
        (rescinded,) = events(self.set(a=2.0), self.framework, Event.RESCIND)
        self.assertEqual(offer.id, rescinded.rescind.offer_id)
        self.bench.offer(self.framework)

    def test_next_master_knows_them_and_does_not_use_the_flag(self) -> None:
        bench = Bench(_kept(a=4.0), weights={"a": 2.0, "b": 3.0})
        self.assertEqual({"a": 4.0}, bench.state.weights)

    def test_flag_is_written_down_by_the_first_master(self) -> None:
        bench = Bench(weights={"b": 3.0})
        self.assertEqual({"b": 3.0}, bench.state.weights)
        self.assertIn("weights/b", bench.stored)

    def test_what_cannot_be_a_weight(self) -> None:
        state = Bench(roles=frozenset(("a",))).state
        why = "Failed to validate update weights request JSON"
        positive = "Weights must be positive"
        for role, weight, expected in (
            ("a", -1.0, f"{why} for role 'a': Invalid weight '-1': {positive}"),
            ("a", float("nan"), f"{why} for role 'a': Invalid weight 'nan': {positive}"),
            ("a", float("inf"), f"{why} for role 'a': Invalid weight 'inf': {positive}"),
            ("b", 1.0, f"{why}: Unknown role 'b'"),
            ("/a", 1.0, f"{why}: Invalid role '/a': Role '/a' cannot start with a slash"),
        ):
            with self.assertRaises(weights.InvalidWeights) as caught:
                weights.read(state, [WeightInfo(role=role, weight=weight)])
            self.assertEqual(expected, str(caught.exception))
