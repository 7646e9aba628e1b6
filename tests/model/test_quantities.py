"""Amounts and bounds."""

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.messages.mesos_pb2 import Value
from mesoskit.messages.quota_pb2 import QuotaConfig
from mesoskit.model.quantities import InvalidQuantities, Limits, Quantities, parse_alternatives
from tests.base import SynchronousTestCase

amounts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5000)).map(Quantities)


class QuantitiesTests(SynchronousTestCase):
    """How much of what."""

    def test_text(self):
        quantities = Quantities.parse("mem: 32 ; cpus:0.01;gpus:0;mem:1")
        self.assertEqual(dict(quantities), {"cpus": 10, "mem": 33_000})
        self.assertEqual(str(quantities), "cpus:0.01; mem:33")
        self.assertEqual(str(Quantities.parse("")), "{}")

    def test_wrong_texts_are_told_in_mesos_words(self):
        for text, error in (
            ("cpus", "Failed to parse 'cpus': missing or extra ':'"),
            ("cpus:1:2", "Failed to parse 'cpus:1:2': missing or extra ':'"),
            ("cpus: ", "Failed to parse ' ' to quantity: Expecting non-empty string"),
            ("p:[1-2]", "Failed to parse '[1-2]' to quantity: only scalar values are allowed"),
            ("cpus:-1", "Failed to parse '-1' to quantity: only scalar values are allowed"),
            ("cpus:nan", "Failed to parse 'nan' to quantity: only scalar values are allowed"),
        ):
            raised = self.assertRaises(InvalidQuantities, Quantities.parse, text)
            self.assertEqual(str(raised), error)

    def test_alternatives(self):
        self.assertEqual(
            parse_alternatives("cpus:0.01|mem:32;disk:1"),
            (Quantities.of(cpus=0.01), Quantities.of(mem=32, disk=1)),
        )
        self.assertEqual(parse_alternatives(""), ())
        self.assertRaises(InvalidQuantities, parse_alternatives, "cpus:1|mem")

    def test_what_is_not_there_is_nothing(self):
        quantities = Quantities.of(cpus=1, mem=0)
        self.assertEqual((quantities["mem"], quantities.get("disk")), (0, 0))
        self.assertNotIn("mem", quantities)
        self.assertEqual(list(quantities.items()), [("cpus", 1000)])
        self.assertFalse(Quantities.of(cpus=0))

    def test_negative_amounts_are_refused(self):
        self.assertRaises(InvalidQuantities, Quantities, {"cpus": -1})

    def test_subtraction_stops_at_nothing(self):
        a, b = Quantities.of(cpus=2, mem=4), Quantities.of(cpus=3, mem=1, disk=1)
        self.assertEqual(a - b, Quantities.of(mem=3))

    def test_messages(self):
        config = QuotaConfig(role="web")
        quantities = Quantities.of(cpus=0.1, mem=32)
        quantities.write_to(config.guarantees)
        self.assertEqual(config.guarantees["cpus"].value, 0.1)
        self.assertEqual(Quantities.from_message(config.guarantees), quantities)
        self.assertEqual(quantities.as_json(), {"cpus": 0.1, "mem": 32.0})
        for value in (float("nan"), float("inf"), -1.0):
            wrong = {"cpus": Value.Scalar(value=value)}
            self.assertRaises(InvalidQuantities, Quantities.from_message, wrong)

    @given(amounts, amounts, amounts)
    def test_laws(self, a, b, c):
        self.assertEqual(a + b, b + a)
        self.assertEqual(hash(a + b), hash(b + a))
        self.assertEqual(str(a + b), str(b + a))
        self.assertEqual((a + b) + c, a + (b + c))
        self.assertEqual((a + b) - b, a)
        self.assertTrue(a <= a + b)
        self.assertTrue((a - b) <= a)
        self.assertEqual(a.contains(b), (a - b) + b == a)
        self.assertEqual(a <= b and b <= a, a == b)


class LimitsTests(SynchronousTestCase):
    """Bounds, where what is not named has none."""

    def test_text(self):
        self.assertEqual(str(Limits.parse("mem:0;cpus:1.5")), "cpus:1.5; mem:0")
        error = self.assertRaises(InvalidQuantities, Limits.parse, "cpus:1;cpus:2")
        self.assertEqual(
            str(error), "Failed to parse '2' to limit: duplicate names are not allowed"
        )

    def test_only_named_bounds_count(self):
        limits = Limits.of(cpus=2, gpus=0)
        self.assertTrue(limits.allow(Quantities.of(cpus=2, mem=10**6)))
        self.assertFalse(limits.allow(Quantities.of(cpus=2.001)))
        self.assertFalse(limits.allow(Quantities.of(gpus=1)))
        self.assertTrue(Limits.NONE.allow(Quantities.of(gpus=1)))

    def test_subtraction_keeps_bounds(self):
        left = Limits.of(cpus=2, mem=5) - Quantities.of(cpus=3, mem=1, disk=1)
        self.assertEqual(left, Limits.of(cpus=0, mem=4))

    def test_tighter_limits_are_contained(self):
        loose, tight = Limits.of(cpus=2), Limits.of(cpus=1, mem=1)
        self.assertTrue(loose.contains(tight))
        self.assertFalse(tight.contains(loose))
        self.assertTrue(Limits.NONE.contains(loose))

    def test_messages(self):
        config = QuotaConfig(role="web")
        limits = Limits.of(cpus=0, mem=32)
        limits.write_to(config.limits)
        self.assertEqual(Limits.from_message(config.limits), limits)
        self.assertEqual(limits.as_json(), {"cpus": 0.0, "mem": 32.0})
        self.assertRaises(InvalidQuantities, Limits, {"cpus": -1})
