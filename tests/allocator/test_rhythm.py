"""When offers are made, and what it costs when there is nothing to do."""

from mesoskit.allocator.drf import DRFSorter
from mesoskit.allocator.filters import Filters
from mesoskit.allocator.interface import Reason
from mesoskit.allocator.options import AgentOptions, Options
from mesoskit.allocator.records import Agent, Client, Framework, Role
from mesoskit.allocator.sorter import Pool
from mesoskit.model.ids import AgentId, FrameworkId
from tests.allocator.cluster import Cluster, resources
from tests.base import SynchronousTestCase


class RhythmTests(SynchronousTestCase):
    """Gathering, windows and passes."""

    def test_changes_are_gathered_from_the_first_on(self):
        c = Cluster()
        c.framework()
        c.agent("cpus:1")
        self.assertEqual(c.allocator.deadline(), c.now + 0.010)
        c.advance(0.009)
        c.agent("cpus:1")
        self.assertEqual(c.offers, [])
        self.assertEqual(len(c.advance(0.001)), 2)

    def test_calls_that_come_early_do_nothing(self):
        c = Cluster()
        c.framework()
        c.agent("cpus:1")
        self.assertEqual(c.allocator.allocate(c.now + 0.009), [])
        self.assertEqual(len(c.allocator.allocate(c.now + 0.011)), 1)

    def test_passes_are_apart_whatever_asks_for_them(self):
        c = Cluster(freed_gather=0.0)
        c.framework()
        for _ in range(100):
            c.agent("cpus:1")
        c.settle()
        c.calls = 0
        for offer in list(c.offers):
            c.free(offer)
            c.advance(0.001)
        self.assertLessEqual(c.calls, 11)

    def test_what_tasks_free_is_gathered_longer(self):
        c = Cluster()
        c.framework()
        c.agent("cpus:4")
        [offer] = c.advance(0.05)
        c.free(offer, "cpus:1")
        c.advance(0.015)
        c.free(offer, "cpus:1")
        self.assertEqual(c.advance(0.004), [])
        [offer] = c.advance(0.002)
        self.assertEqual(offer.resources, resources("cpus:2"))

    def test_no_pass_touches_what_is_being_gathered(self):
        c = Cluster()
        f = c.framework()
        a = c.agent("cpus:4")
        [offer] = c.advance(0.05)
        c.free(offer, "cpus:1")
        c.framework()
        self.assertEqual(c.advance(0.019), [])
        self.assertEqual(c.why(f, a), Reason.GATHERING)
        self.assertApproximates(c.explain(f)[a].until, c.now + 0.001, 1e-6)
        c.free(offer, "cpus:3")
        [offer] = c.advance(0.002)
        self.assertEqual(offer.resources, resources("cpus:4"))

    def test_an_agent_that_frees_all_the_time_is_offered_all_the_same(self):
        c = Cluster()
        c.framework()
        c.agent("cpus:100")
        [offer] = c.advance(0.05)
        made = 0
        for _ in range(100):
            c.free(offer, "cpus:1")
            made += len(c.advance(0.001))
        self.assertGreaterEqual(made, 3)

    def test_a_pass_looks_at_so_many_agents_and_the_next_at_the_rest(self):
        c = Cluster(pass_limit=10)
        c.framework()
        for _ in range(25):
            c.agent("cpus:1")
        self.assertEqual([len(c.advance(0.01)) for _ in range(4)], [10, 10, 5, 0])

    def test_the_limit_holds_for_revived_frameworks_too(self):
        c = Cluster(pass_limit=10)
        f, g = c.framework(), c.framework()
        for _ in range(25):
            c.agent("cpus:1")
        c.advance(0.1)
        c.decline_all(3600)
        c.advance(0.1)
        c.decline_all(3600)
        self.assertEqual(c.advance(1), [])
        c.allocator.revive_offers(c.now, f, [])
        c.allocator.revive_offers(c.now, g, [])
        self.assertEqual([len(c.advance(0.01)) for _ in range(4)], [10, 10, 5, 0])
        self.assertEqual({x.framework_id for x in c.offers}, {f, g})

    def test_an_idle_cluster_asks_for_nothing(self):
        c = Cluster()
        for _ in range(20):
            c.framework()
        suppressed = c.framework()
        c.allocator.suppress_offers(c.now, suppressed, [])
        for _ in range(50):
            c.agent("cpus:1")
        for _ in range(20):
            c.settle()
            c.decline_all(3600)
        c.settle()
        c.calls = 0
        self.assertEqual(c.advance(3000), [])
        self.assertEqual(c.calls, 0)

    def test_without_gathering_all_is_decided_at_once(self):
        c = Cluster(gather=0.0, freed_gather=0.0, allocation_interval=0.0)
        c.framework()
        c.agent("cpus:1")
        self.assertEqual(c.allocator.deadline(), c.now)
        [offer] = c.advance(0.0)
        c.free(offer)
        [offer] = c.advance(0.0)
        c.decline(offer, 0.5)
        self.assertEqual(c.advance(0.4), [])
        self.assertEqual(len(c.advance(0.11)), 1)

    def test_options_that_cannot_be_are_refused(self):
        for wrong in (
            {"gather": -1.0},
            {"allocation_interval": float("nan")},
            {"pass_limit": 0},
            {"role_sorter": "fair"},
        ):
            self.assertRaises(ValueError, Options, **wrong)

    def test_the_wait_for_a_pass_is_measured(self):
        c = Cluster(gather=0.25)
        c.framework()
        c.agent("cpus:1")
        c.advance(1)
        latency = c.allocator.metrics()["allocator/mesos/allocation_run_latency_ms"]
        self.assertApproximates(latency, 250, 0.001)


class ExplanationTests(SynchronousTestCase):
    """Why an offer was, or was not, made."""

    def test_who_got_it_and_when(self):
        c = Cluster()
        f, g = c.framework(), c.framework()
        a = c.agent("cpus:1")
        self.assertEqual(c.why(f, a), Reason.WAITING)
        c.advance(0.01)
        told = c.explain(f)[a]
        self.assertEqual((told.reason, told.offered), (Reason.HELD, c.now))
        told = c.explain(g)[a]
        self.assertEqual((told.reason, told.offered), (Reason.ALLOCATED, None))
        self.assertEqual(told.holders, ((f, "*"),))

    def test_until_when_it_is_filtered(self):
        c = Cluster()
        f = c.framework()
        a = c.agent("cpus:1")
        c.settle()
        c.decline_all(60)
        c.settle()
        told = c.explain(f)[a]
        self.assertEqual((told.reason, told.until), (Reason.FILTERED, c.now - 0.05 + 60))
        self.assertEqual(told.available, resources("cpus:1"))

    def test_what_the_framework_said_itself(self):
        c = Cluster()
        f = c.framework("r", "s", suppressed=("r",))
        c.agent("cpus:1")
        told = {x.role: x.reason for x in c.allocator.explain(c.now, f, None)}
        self.assertEqual(told, {"r": Reason.SUPPRESSED, "s": Reason.WAITING})
        self.assertEqual(self.reason(c, f, "t"), Reason.NOT_SUBSCRIBED)
        c.allocator.set_congested(c.now, f, True)
        self.assertEqual(self.reason(c, f, "s"), Reason.CONGESTED)
        c.allocator.deactivate_framework(c.now, f)
        self.assertEqual(self.reason(c, f, "s"), Reason.FRAMEWORK_DEACTIVATED)

    def reason(self, c: Cluster, framework_id: FrameworkId, role: str) -> Reason:
        [told] = c.explain(framework_id, role).values()
        return told.reason


class FilterTests(SynchronousTestCase):
    """The order in which filters end."""

    def setUp(self) -> None:
        self.filters = Filters(0.01)
        framework = Framework(FrameworkId("f"), Cluster.options())
        self.client = Client(framework, Role("*", DRFSorter(Pool())))
        self.agent = Agent(AgentId("a"), AgentOptions())

    def add(self, text: str, until: float) -> None:
        self.filters.add(self.client, self.agent, resources(text), until)

    def blocks(self, text: str) -> bool:
        standing = self.client.filters.get(self.agent)
        return standing is not None and standing.blocks(resources(text)) is not None

    def ended(self, now: float) -> int:
        return len(list(self.filters.ended(now, 1000)))

    def test_several_stand_side_by_side(self):
        self.add("cpus:2", 10)
        self.add("mem:2", 5)
        self.assertTrue(self.blocks("cpus:1"))
        self.assertTrue(self.blocks("mem:2"))
        self.assertFalse(self.blocks("cpus:1;mem:1"))
        self.assertEqual(self.ended(6), 1)
        self.assertFalse(self.blocks("mem:2"))
        self.assertTrue(self.blocks("cpus:1"))
        self.assertEqual(self.ended(11), 1)
        self.assertEqual(self.client.filters, {})
        self.assertIsNone(self.filters.next())

    def test_what_another_says_already_is_not_kept(self):
        self.add("cpus:2", 10)
        self.add("cpus:1", 5)
        self.assertEqual(self.ended(6), 0)
        self.add("cpus:3", 20)
        self.assertEqual(self.ended(11), 0)
        self.assertTrue(self.blocks("cpus:3"))
        self.assertEqual(self.ended(21), 1)

    def test_longer_ones_outlive_bigger_ones(self):
        self.add("cpus:1", 20)
        self.add("cpus:3", 10)
        self.add("cpus:2", 15)
        self.assertTrue(self.blocks("cpus:3"))
        self.assertEqual(self.ended(11), 1)
        self.assertFalse(self.blocks("cpus:3"))
        self.assertTrue(self.blocks("cpus:2"))
        self.assertEqual(self.ended(16), 1)
        self.assertTrue(self.blocks("cpus:1"))

    def test_none_ends_early(self):
        for i in range(1, 200):
            self.add(f"cpus:{i}", i * 0.007)
        for tenth in range(20):
            self.ended(tenth / 10)
            standing = self.client.filters.get(self.agent)
            while standing is not None:
                self.assertGreater(standing.until, tenth / 10 - self.filters.tick)
                standing = standing.earlier

    def test_those_that_were_cleared_are_not_kept_for_long(self):
        for i in range(5000):
            self.add("cpus:2", 10_000 + i)
            self.filters.clear(self.client)
        size = sum(len(ending) for ending in self.filters._ends.values())
        self.assertLess(size, 2500)
        self.add("cpus:2", 10)
        self.assertEqual(self.ended(11), 1)
        self.assertEqual(self.ended(20_000), 0)

    def test_so_many_at_once(self):
        for i in range(10):
            self.client.filters.clear()
            self.agent = Agent(AgentId(f"a{i}"), AgentOptions())
            self.add("cpus:1", 1 + i)
        self.assertEqual(len(list(self.filters.ended(100, 1))), 0)
        self.assertLess(self.filters.next() or 0, 100)
