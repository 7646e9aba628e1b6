"""Laws that hold for all resources."""

import copy
import pickle

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_key import ResourceKey
from mesoskit.model.resources import ENDPOINT, POST, PRE, NotContained, Resources
from mesoskit.model.values import (
    RANGES,
    coalesced,
    from_thousandths,
    ranges_contain,
    ranges_count,
    ranges_difference,
    ranges_taken,
    ranges_union,
    thousandths,
)
from tests.base import SynchronousTestCase
from tests.model.resource_strategies import amounts, disjoint, ranges, resources


def numbers(spans):
    return {number for begin, end in spans for number in range(begin, end + 1)}


class AlgebraTests(SynchronousTestCase):
    """Addition, subtraction and comparison."""

    @given(resources, resources)
    def test_addition_is_commutative(self, a, b):
        self.assertEqual(a + b, b + a)
        self.assertEqual(hash(a + b), hash(b + a))

    @given(resources, resources, resources)
    def test_addition_is_associative(self, a, b, c):
        self.assertEqual((a + b) + c, a + (b + c))
        self.assertEqual(Resources.sum([a, b, c]), a + b + c)

    @given(disjoint())
    def test_what_was_added_can_be_taken_away(self, pair):
        a, b = pair
        self.assertTrue((a + b).contains(a))
        self.assertEqual((a + b) - b, a)
        self.assertEqual((a + b).minus(b), a)
        self.assertEqual((a + b) - a, b)

    @given(resources, resources)
    def test_subtraction_refuses_what_is_not_contained(self, a, b):
        if a.contains(b):
            rest = a - b
            self.assertTrue(a.contains(rest))
            self.assertEqual(rest, a.minus(b))
            self.assertEqual(rest + b, a)
        else:
            self.assertRaises(NotContained, lambda: a - b)

    @given(resources, resources)
    def test_minus_leaves_nothing_that_was_not_there(self, a, b):
        rest = a.minus(b)
        self.assertTrue(a.contains(rest))
        self.assertEqual(Resources(rest), Resources(list(rest)))

    @given(resources, resources, resources)
    def test_contains_is_a_partial_order(self, a, b, c):
        self.assertTrue(a <= a)
        self.assertTrue(a <= a + b)
        if a <= b and b <= a:
            self.assertEqual(a, b)
        if a <= b and b <= c:
            self.assertTrue(a <= c)
        self.assertTrue(Resources.EMPTY <= a)

    @given(resources)
    def test_copies_are_equal(self, a):
        for copied in (copy.copy(a), copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
            self.assertEqual(copied, a)
            self.assertEqual(hash(copied), hash(a))

    @given(resources)
    def test_parts_make_the_whole(self, a):
        for one, other in (
            (a.revocable(), a.non_revocable()),
            (a.shared(), a.non_shared()),
            (a.unreserved(), Resources.sum(a.reserved().values())),
        ):
            self.assertEqual(one + other, a)
        self.assertEqual(Resources.sum(map(a.with_name, a.names())), a)

    @given(disjoint())
    def test_quantities_add_up(self, pair):
        a, b = [part.non_shared() for part in pair]
        self.assertEqual((a + b).quantities(), a.quantities() + b.quantities())

    @given(st.lists(amounts, max_size=20))
    def test_thousandths_never_drift(self, values):
        total = Resources.EMPTY
        for value in values:
            total = Resources.from_message(
                (total + Resources.of(cpus=from_thousandths(value))).to_message()
            )
        self.assertEqual(total.scalar("cpus"), sum(values))

    @given(amounts)
    def test_floats_keep_thousandths(self, value):
        self.assertEqual(thousandths(from_thousandths(value)), value)

    @given(resources, st.sampled_from(("web", "eng/ui")))
    def test_allocation_can_be_undone(self, a, role):
        bare = a.unallocated()
        self.assertEqual(bare.allocated(role).unallocated(), bare)
        self.assertEqual(
            bare.allocated(role).allocations(), {role: bare.allocated(role)} if a else {}
        )
        self.assertEqual(bare.allocated(role).quantities(), bare.quantities())


class FormTests(SynchronousTestCase):
    """Resources as messages and as text."""

    @given(resources)
    def test_messages_come_back_the_same(self, a):
        # Messages do not count copies.
        single = Resources(a)
        for form in (POST, ENDPOINT):
            self.assertEqual(Resources.from_message(a.to_message(form)), single)
        old = a.filter(lambda key: not key.refined)
        self.assertEqual(Resources.from_message(old.to_message(PRE)), Resources(old))

    @given(resources)
    def test_messages_keep_how_volumes_are_mounted(self, a):
        again = Resources.from_message(a.to_message())
        self.assertEqual(list(again), list(Resources(a)))

    @given(resources)
    def test_cached_and_fresh_reading_are_equal(self, a):
        messages = a.to_message()
        first, second = Resources.from_message(messages), Resources.from_message(messages)
        self.assertEqual(first, second)
        self.assertEqual(first, Resources.sum([Resources.from_message([m]) for m in messages]))

    @given(resources)
    def test_text_comes_back_the_same(self, a):
        plain = a.filter(lambda key: key is ResourceKey(key.name, key.kind))
        self.assertEqual(Resources.parse(str(plain) if plain else ""), plain)

    @given(st.dictionaries(st.sampled_from("abc"), amounts))
    def test_quantities_come_back_from_text(self, amounts_by_name):
        quantities = Quantities(amounts_by_name)
        self.assertEqual(Quantities.parse(str(quantities) if quantities else ""), quantities)


class RangesTests(SynchronousTestCase):
    """Ranges behave as the sets of numbers that they stand for."""

    @given(ranges, ranges)
    def test_operations_are_those_of_sets(self, a, b):
        self.assertEqual(numbers(ranges_union(a, b)), numbers(a) | numbers(b))
        self.assertEqual(numbers(ranges_difference(a, b)), numbers(a) - numbers(b))
        self.assertEqual(ranges_contain(a, b), numbers(b) <= numbers(a))
        self.assertEqual(ranges_count(a), len(numbers(a)))
        taken = ranges_taken(a, b)
        self.assertEqual(taken is not None, numbers(b) <= numbers(a))
        if taken is not None:
            self.assertEqual(taken, ranges_difference(a, b))

    @given(ranges, ranges)
    def test_results_are_sorted_and_joined(self, a, b):
        for result in (ranges_union(a, b), ranges_difference(a, b), ranges_taken(a, a[:1]) or ()):
            self.assertEqual(result, coalesced(result))

    @given(ranges)
    def test_order_of_messages_does_not_matter(self, a):
        key = ResourceKey("ports", RANGES)
        parts = [Resources([(key, (span,))]) for span in a]
        self.assertEqual(Resources.sum(parts[::-1]), Resources([(key, a)]))
