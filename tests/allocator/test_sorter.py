"""The sorters: dominant resource fairness over a tree of clients, and drawing lots."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesoskit.allocator.drf import DRFSorter
from mesoskit.allocator.random_sorter import RandomSorter
from mesoskit.allocator.sorter import Pool, SorterError
from tests.base import SynchronousTestCase


def pool(**totals: int) -> Pool:
    result = Pool(tolerance=0.0)
    result.add(totals)
    return result


def sorter(*clients: str, totals: dict[str, int] | None = None) -> DRFSorter:
    result = DRFSorter(pool(**(totals or {"cpus": 100, "mem": 100})))
    for client in clients:
        result.add(client)
        result.activate(client)
    return result


class DRFSorterTests(SynchronousTestCase):
    """One level of clients."""

    def test_least_dominant_share_comes_first(self):
        s = sorter("a", "b", "c")
        s.allocated("a", {"cpus": 5, "mem": 5})
        s.allocated("b", {"cpus": 6, "mem": 1})
        self.assertEqual(list(s.sort()), ["c", "a", "b"])
        s.allocated("c", {"cpus": 1, "mem": 2})
        s.unallocated("a", {"cpus": 5, "mem": 4})
        self.assertEqual(list(s.sort()), ["a", "c", "b"])

    def test_weights_divide_shares(self):
        s = sorter("a", "b")
        s.update_weight("b", 2.0)
        s.allocated("a", {"cpus": 5})
        s.allocated("b", {"cpus": 8})
        self.assertEqual(list(s.sort()), ["b", "a"])
        self.assertAlmostEqual(s.share("b"), 0.04)
        s.update_weight("a", 4.0)
        self.assertEqual(list(s.sort()), ["a", "b"])

    def test_weight_may_come_before_the_client(self):
        s = sorter("a")
        s.update_weight("b", 2.0)
        s.add("b")
        s.activate("b")
        s.allocated("a", {"cpus": 5})
        s.allocated("b", {"cpus": 8})
        self.assertEqual(list(s.sort()), ["b", "a"])

    def test_equals_take_turns_then_go_by_name(self):
        s = sorter("b", "a", "c")
        self.assertEqual(list(s.sort()), ["a", "b", "c"])
        s.allocated("a", {"cpus": 5})
        s.unallocated("a", {"cpus": 5})
        self.assertEqual(list(s.sort()), ["b", "c", "a"])

    def test_adjusting_is_no_further_allocation(self):
        s = sorter("a", "b")
        s.allocated("a", {"cpus": 5})
        s.allocated("b", {"cpus": 5})
        s.adjusted("a", {"cpus": 5}, {"cpus": 1})
        self.assertEqual(list(s.sort()), ["a", "b"])
        s.adjusted("a", {"cpus": 1}, {"cpus": 5})
        self.assertEqual(list(s.sort()), ["a", "b"])

    def test_inactive_clients_are_not_sorted(self):
        s = sorter("a", "b")
        s.deactivate("a")
        s.deactivate("a")
        self.assertEqual(list(s.sort()), ["b"])
        s.allocated("a", {"cpus": 1})
        s.activate("a")
        s.activate("a")
        self.assertEqual(list(s.sort()), ["b", "a"])
        self.assertEqual(s.count(), 2)

    def test_totals_decide_which_share_dominates(self):
        totals = pool(cpus=100, mem=100)
        s = DRFSorter(totals)
        for client, held in (("a", {"cpus": 10}), ("b", {"mem": 11})):
            s.add(client)
            s.activate(client)
            s.allocated(client, held)
        self.assertEqual(list(s.sort()), ["a", "b"])
        totals.add({"mem": 100})
        self.assertEqual(list(s.sort()), ["b", "a"])
        totals.subtract({"mem": 100})
        self.assertEqual(list(s.sort()), ["a", "b"])
        totals.subtract({"mem": 100})
        self.assertEqual(list(s.sort()), ["b", "a"])

    def test_excluded_resources_do_not_count(self):
        totals = Pool(["gpus"])
        totals.add({"cpus": 100, "gpus": 4})
        s = DRFSorter(totals)
        for client, held in (("a", {"gpus": 4}), ("b", {"cpus": 1})):
            s.add(client)
            s.activate(client)
            s.allocated(client, held)
        self.assertEqual(list(s.sort()), ["a", "b"])
        self.assertEqual(s.share("a"), 0.0)

    def test_many_moves_between_two_sorts(self):
        names = [f"c{i:02d}" for i in range(40)]
        s = sorter(*names)
        for i, name in enumerate(names):
            s.allocated(name, {"cpus": 40 - i})
        self.assertEqual(list(s.sort()), names[::-1])

    def test_what_is_held_may_change_while_the_order_is_walked(self):
        s = sorter("a", "b", "c")
        seen = []
        for client in s.sort():
            seen.append(client)
            s.allocated(client, {"cpus": 9})
        self.assertEqual(seen, ["a", "b", "c"])

    def test_a_few_are_in_the_same_order(self):
        s = sorter("a", "b", "c", "d")
        s.allocated("b", {"cpus": 3})
        s.allocated("a", {"cpus": 5})
        s.deactivate("d")
        self.assertEqual(list(s.sort({"a", "b", "d", "x"})), ["b", "a"])
        self.assertEqual(list(s.sort(["a"])), ["a"])
        self.assertEqual(list(s.sort([])), [])

    def test_what_is_wrong_is_said(self):
        s = sorter("a")
        self.assertRaises(SorterError, s.add, "a")
        for verb in (s.remove, s.activate, s.deactivate):
            self.assertRaises(SorterError, verb, "b")
        self.assertRaises(SorterError, s.allocated, "b", {})
        self.assertRaises(SorterError, s.share, "b")


class DRFTreeTests(SynchronousTestCase):
    """Clients above clients."""

    def test_subtrees_compete_by_what_all_in_them_hold(self):
        s = sorter("a", "b/c", "b/d")
        s.allocated("a", {"cpus": 9})
        s.allocated("b/c", {"cpus": 6})
        s.allocated("b/d", {"cpus": 4})
        self.assertEqual(list(s.sort()), ["a", "b/d", "b/c"])
        s.unallocated("b/c", {"cpus": 2})
        self.assertEqual(list(s.sort()), ["b/c", "b/d", "a"])

    def test_a_client_with_children_competes_with_them(self):
        s = sorter("a", "a/b", "a/c", "z")
        s.allocated("a", {"cpus": 2})
        s.allocated("a/b", {"cpus": 1})
        s.allocated("a/c", {"cpus": 3})
        s.allocated("z", {"cpus": 10})
        self.assertEqual(list(s.sort()), ["a/b", "a", "a/c", "z"])

    def test_a_leaf_keeps_what_it_holds_when_children_come_and_go(self):
        s = sorter("a", "b")
        s.allocated("a", {"cpus": 2})
        s.allocated("b", {"cpus": 3})
        s.add("a/x")
        s.activate("a/x")
        s.allocated("a/x", {"cpus": 2})
        self.assertEqual(list(s.sort()), ["b", "a", "a/x"])
        s.unallocated("a", {"cpus": 1})
        s.remove("a/x")
        self.assertEqual(list(s.sort()), ["a", "b"])
        self.assertAlmostEqual(s.share("a"), 0.01)

    def test_weights_of_inner_nodes_hold_for_the_subtree(self):
        s = sorter("a/x", "b/x")
        s.allocated("a/x", {"cpus": 6})
        s.allocated("b/x", {"cpus": 4})
        self.assertEqual(list(s.sort()), ["b/x", "a/x"])
        s.update_weight("a", 2.0)
        self.assertEqual(list(s.sort()), ["a/x", "b/x"])

    def test_a_clients_share_is_its_own_and_that_of_a_node_its_subtrees(self):
        s = sorter("a", "a/b", "c/d")
        s.allocated("a", {"cpus": 2})
        s.allocated("a/b", {"cpus": 5})
        s.allocated("c/d", {"cpus": 3})
        self.assertAlmostEqual(s.share("a"), 0.02)
        self.assertAlmostEqual(s.share("a/b"), 0.05)
        self.assertAlmostEqual(s.share("c"), 0.03)

    def test_inactive_clients_count_for_their_ancestors(self):
        s = sorter("a/x", "a/y", "b")
        s.allocated("a/y", {"cpus": 5})
        s.deactivate("a/y")
        s.allocated("b", {"cpus": 2})
        self.assertEqual(list(s.sort()), ["b", "a/x"])

    def test_subtrees_without_active_clients_are_passed_over(self):
        s = sorter("a/x/y", "b")
        s.deactivate("a/x/y")
        self.assertEqual(list(s.sort()), ["b"])
        s.activate("a/x/y")
        self.assertEqual(list(s.sort()), ["a/x/y", "b"])

    def test_a_few_of_a_tree_are_in_the_same_order(self):
        s = sorter("a", "a/b", "a/c", "z")
        s.allocated("a/b", {"cpus": 1})
        self.assertEqual(list(s.sort(["a/b", "a", "z"])), ["z", "a", "a/b"])


class PoolTests(SynchronousTestCase):
    """The totals that shares are reckoned in."""

    def test_agents_of_one_shape_change_no_order(self):
        totals = pool(cpus=100, mem=1000)
        totals.settle()
        version = totals.version
        totals.add({"cpus": 50, "mem": 500})
        totals.settle()
        self.assertEqual(totals.version, version)
        totals.add({"cpus": 1})
        totals.settle()
        self.assertEqual(totals.version, version + 1)

    def test_small_drifts_add_up(self):
        totals = Pool(tolerance=0.01)
        totals.add({"cpus": 10_000, "mem": 10_000})
        totals.settle()
        version = totals.version
        for _ in range(120):
            totals.add({"cpus": 1})
            totals.settle()
        self.assertEqual(totals.version, version + 1)

    def test_an_unknown_resource_is_a_new_basis(self):
        totals = pool(cpus=100)
        totals.settle()
        totals.add({"gpus": 1})
        totals.settle()
        self.assertEqual([name for name, _ in totals.basis], ["cpus", "gpus"])
        totals.subtract({"gpus": 1})
        totals.settle()
        self.assertEqual([name for name, _ in totals.basis], ["cpus"])


class RandomSorterTests(SynchronousTestCase):
    """Lots."""

    def make(self, weights: dict[str, float], *clients: str) -> RandomSorter:
        s = RandomSorter(Pool(), Random(7))
        for path, weight in weights.items():
            s.update_weight(path, weight)
        for client in clients:
            s.add(client)
            s.activate(client)
        return s

    def firsts(self, s: RandomSorter) -> Counter[str]:
        return Counter(next(iter(s.sort())) for _ in range(4000))

    def test_every_active_client_comes_once(self):
        s = self.make({}, "a", "b", "c", "d")
        s.deactivate("c")
        for _ in range(20):
            self.assertEqual(sorted(s.sort()), ["a", "b", "d"])
            self.assertEqual(sorted(s.sort(["a", "c", "d"])), ["a", "d"])

    def test_equals_have_equal_chances(self):
        firsts = self.firsts(self.make({}, "a", "b", "c", "d"))
        for client in "abcd":
            self.assertApproximates(firsts[client] / 4000, 0.25, 0.03)

    def test_chances_follow_weights(self):
        firsts = self.firsts(self.make({"a": 3.0}, "a", "b"))
        self.assertApproximates(firsts["a"] / 4000, 0.75, 0.03)

    def test_chances_follow_the_tree(self):
        firsts = self.firsts(self.make({"b/d": 3.0}, "a", "b/c", "b/d"))
        self.assertApproximates(firsts["a"] / 4000, 0.5, 0.03)
        self.assertApproximates(firsts["b/d"] / 4000, 0.375, 0.03)

    def test_the_same_seed_draws_the_same(self):
        one, other = self.make({"a": 2.0}, "a", "b", "c"), self.make({"a": 2.0}, "a", "b", "c")
        for _ in range(20):
            self.assertEqual(list(one.sort()), list(other.sort()))


CLIENTS = ["a", "b", "c", "a/x", "a/y", "a/x/p", "b/x", "d/q/r"]
_quantities = st.dictionaries(
    st.sampled_from(["cpus", "mem"]), st.integers(1, 50), min_size=1, max_size=2
)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["toggle", "active", "give", "give", "take", "weight", "total", "sort"]),
        st.sampled_from(CLIENTS),
        _quantities,
        st.sampled_from([0.5, 1.0, 2.0]),
    ),
    max_size=60,
)


class Plain:
    """The same order, worked out anew each time from all that is known."""

    def __init__(self) -> None:
        self.held: dict[str, Counter[str]] = {}
        self.active: set[str] = set()
        # Counts outlive nothing: a node's are those made while it stood.
        self.counts: Counter[str] = Counter()
        self.weights: dict[str, float] = {}
        self.totals: Counter[str] = Counter(cpus=100, mem=100)

    def nodes(self) -> set[str]:
        return {path for client in self.held for path in self.above(client)}

    @staticmethod
    def above(client: str) -> list[str]:
        parts = client.split("/")
        return ["/".join(parts[: i + 1]) for i in range(len(parts))]

    def share(self, path: str, own: bool) -> float:
        holders = [c for c in self.held if c == path or (not own and c.startswith(path + "/"))]
        most = max(
            sum(self.held[c][name] for c in holders) / total for name, total in self.totals.items()
        )
        return most / self.weights.get(path + "/." if own else path, 1.0)

    def sort(self, path: str = "") -> list[str]:
        depth = path.count("/") + 1 if path else 0
        children = {
            "/".join(c.split("/")[: depth + 1])
            for c in self.active
            if (not path or c.startswith(path + "/"))
        }
        keyed: list[tuple[Any, list[str]]] = [
            ((self.share(c, False), self.counts[c], c), self.sort(c)) for c in children
        ]
        if path in self.active:
            branches = any(c.startswith(path + "/") for c in self.held)
            own = (self.share(path, branches), self.counts[path + "/."], path + "/.")
            keyed.append((own, [path]))
        return [client for _, below in sorted(keyed) for client in below]


class DRFReferenceTests(SynchronousTestCase):
    """The sorter against one that works everything out anew."""

    @settings(max_examples=200)
    @given(_steps)
    def test_the_order_is_that_of_a_plain_implementation(self, steps):
        totals = pool(cpus=100, mem=100)
        fast, plain = DRFSorter(totals), Plain()
        for what, client, amounts, weight in steps:
            known = client in plain.held
            if what == "toggle" and not known:
                fast.add(client)
                plain.held[client] = Counter()
                branch = any(c.startswith(client + "/") for c in plain.held)
                plain.counts[client + "/."] = 0 if branch else plain.counts[client]
            elif what == "toggle":
                fast.remove(client)
                del plain.held[client]
                plain.active.discard(client)
                left = plain.nodes()
                for path in plain.above(client):
                    if path not in left:
                        plain.counts[path] = 0
                for path in plain.above(client):
                    if path in plain.held and not any(c.startswith(path + "/") for c in plain.held):
                        # What was virtual is the node itself again, with the node's count.
                        plain.counts[path + "/."] = plain.counts[path]
            elif what == "active" and known:
                if client in plain.active:
                    fast.deactivate(client)
                    plain.active.discard(client)
                else:
                    fast.activate(client)
                    plain.active.add(client)
            elif what == "give" and known:
                fast.allocated(client, amounts)
                plain.held[client].update(amounts)
                plain.counts.update([*plain.above(client), client + "/."])
            elif what == "take" and known:
                gone = {n: min(q, plain.held[client][n]) for n, q in amounts.items()}
                fast.unallocated(client, gone)
                plain.held[client].subtract(gone)
            elif what == "weight":
                fast.update_weight(client, weight)
                plain.weights[client] = weight
            elif what == "total":
                totals.add(amounts)
                plain.totals.update(amounts)
            elif what == "sort":
                self.check(fast, plain)
        self.check(fast, plain)

    def check(self, fast: DRFSorter, plain: Plain) -> None:
        expected = plain.sort()
        self.assertEqual(list(fast.sort()), expected)
        half = [c for c in expected if c in CLIENTS[::2]]
        self.assertEqual(list(fast.sort(CLIENTS[::2])), half)
        # Among many, the others are walked past instead.
        self.assertEqual(list(fast.sort({*CLIENTS[::2], *map(str, range(20))})), half)
