"""Who comes first: dominant resource fairness between roles, and within them."""

from collections import Counter

from tests.allocator.cluster import Cluster, resources
from tests.base import SynchronousTestCase


class FairnessTests(SynchronousTestCase):
    """One allocation after another, to whoever has least."""

    def test_roles_take_turns_by_dominant_share(self):
        c = Cluster()
        f = c.framework("r1", minimum={"r1": ()})
        a1 = c.agent("cpus:2;mem:1024")
        self.assertEqual(c.settle(), [(f, "r1", a1)])
        g = c.framework("r2")
        a2 = c.agent("cpus:1;mem:512")
        self.assertEqual(c.settle(), [(g, "r2", a2)])
        # r1 has 0.67, r2 0.33 of the cpus.
        a3 = c.agent("cpus:3;mem:2048")
        self.assertEqual(c.settle(), [(g, "r2", a3)])
        # r1 has 0.33, r2 0.71 of the memory.
        a4 = c.agent("cpus:4;mem:4096")
        self.assertEqual(c.settle(), [(f, "r1", a4)])
        h = c.framework("r1")
        # r1's part is divided between its frameworks: h has nothing yet.
        a5 = c.agent("cpus:1;mem:512")
        self.assertEqual(c.settle(), [(g, "r2", a5)])
        a6 = c.agent("cpus:8;mem:1")
        self.assertEqual(c.settle(), [(g, "r2", a6)])
        a7 = c.agent("cpus:1;mem:64")
        self.assertEqual(c.settle(), [(h, "r1", a7)])

    def test_weights_give_roles_their_parts(self):
        c = Cluster()
        c.allocator.update_weights(c.now, {"two": 2.0})
        c.framework("one"), c.framework("two")
        for _ in range(30):
            c.agent("cpus:1;mem:64")
        self.assertEqual(Counter(role for _, role, _ in c.settle()), {"one": 10, "two": 20})

    def test_changed_weights_hold_for_what_comes_next(self):
        c = Cluster()
        c.framework("one"), c.framework("two")
        for _ in range(12):
            c.agent("cpus:1;mem:64")
        c.settle()
        c.allocator.update_weights(c.now, {"one": 3.0})
        for _ in range(12):
            c.agent("cpus:1;mem:64")
        c.settle()
        self.assertEqual(Counter(x.role for x in c.offers), {"one": 18, "two": 6})

    def test_roles_of_a_tree_share_what_their_parent_gets(self):
        c = Cluster()
        c.framework("a"), c.framework("b/c"), c.framework("b/d")
        for _ in range(20):
            c.agent("cpus:1;mem:64")
        got = Counter(role for _, role, _ in c.settle())
        self.assertEqual(got, {"a": 10, "b/c": 5, "b/d": 5})

    def test_equal_frameworks_get_equal_parts(self):
        c = Cluster()
        names = [c.framework() for _ in range(7)]
        for _ in range(700):
            c.agent("cpus:1;mem:64")
        got = Counter(name for name, _, _ in c.settle())
        self.assertEqual(got, dict.fromkeys(names, 100))

    def test_those_who_decline_take_turns(self):
        c = Cluster()
        names = [c.framework() for _ in range(5)]
        for _ in range(10):
            c.agent("cpus:1;mem:64")
        got: Counter[str] = Counter()
        for _ in range(5):
            got.update(name for name, _, _ in c.settle())
            c.decline_all(3600)
        self.assertEqual(got, dict.fromkeys(names, 10))
        self.assertEqual(c.advance(60), [])

    def test_order_goes_over_all_that_changed_not_by_who_came_first(self):
        c = Cluster()
        c.framework("r1")
        for _ in range(3):
            c.agent("cpus:1;mem:64")
        c.settle()
        c.decline_all(3600)
        c.settle()
        # The declined agents come back together with newcomers: all are divided at once.
        names = [c.framework(f"n{i}") for i in range(3)]
        self.assertEqual(sorted(name for name, _, _ in c.settle()), sorted(names))

    def test_excluded_resources_do_not_count(self):
        c = Cluster(fair_sharing_excluded_resource_names=frozenset(["gold"]))
        c.framework("one", used={})
        c.agent("cpus:1;mem:64;gold:8")
        c.settle()
        c.framework("two")
        c.agent("cpus:2;mem:128")
        c.settle()
        # One has 1/3 of all but gold, two 2/3.
        c.agent("cpus:1;mem:64")
        self.assertEqual(c.settle()[0][1], "one")

    def test_operations_change_what_counts(self):
        c = Cluster()
        f, g = c.framework("one"), c.framework("two")
        a = c.agent("cpus:4;mem:64;disk:100")
        b = c.agent("cpus:4;mem:64;disk:100")
        first, second = c.advance(0.05)
        self.assertEqual([first.agent_id, second.agent_id], [a, b])
        # A volume of a resource provider was destroyed: its disk is no more.
        conversions = [(resources("disk:100"), resources(""))]
        c.allocator.update_allocation(c.now, first.framework_id, a, first.role, conversions)
        shares = c.allocator.metrics()
        self.assertEqual(shares["allocator/mesos/resources/disk/total"], 100)
        self.assertEqual(shares["allocator/mesos/roles/one/shares/dominant"], 0.5)
        self.assertEqual(shares["allocator/mesos/roles/two/shares/dominant"], 1.0)
        self.assertEqual({f, g}, {first.framework_id, second.framework_id})
