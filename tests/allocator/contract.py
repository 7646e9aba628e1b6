"""What every allocator promises, whatever order it serves in."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from mesoskit.allocator.interface import AllocatorError, IAllocator, Reason
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Options
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import Resources
from tests.allocator.cluster import Cluster, resources
from tests.base import SynchronousTestCase

WHOLE = "cpus:4;mem:4096;ports:[31000-31009]"


class AllocatorContract(SynchronousTestCase):
    """Inherit from this and give C{make}; then delete this name, so that it is not run itself."""

    def make(self, options: Options) -> IAllocator:
        """Return the allocator to be tested."""
        raise NotImplementedError

    def cluster(self, **options: object) -> Cluster:
        return Cluster(self.make, **options)

    def test_it_provides_the_interface(self):
        verifyObject(IAllocator, self.make(Options()))

    def test_nothing_is_pending_in_an_empty_cluster(self):
        c = self.cluster()
        self.assertIsNone(c.allocator.deadline())
        self.assertEqual(c.allocator.allocate(c.now), [])

    def test_a_framework_is_offered_all_that_agents_have(self):
        c = self.cluster()
        a, b = c.agent(WHOLE), c.agent("cpus:1")
        f = c.framework()
        made = {x.agent_id: x for x in c.advance(0.05)}
        self.assertEqual(set(made), {a, b})
        self.assertEqual(made[a].resources, resources(WHOLE))
        self.assertEqual((made[a].framework_id, made[a].role), (f, "*"))

    def test_agents_that_come_later_are_offered_too(self):
        c = self.cluster()
        f = c.framework()
        self.assertEqual(c.settle(), [])
        a = c.agent(WHOLE)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_what_is_offered_is_offered_to_nobody_else(self):
        c = self.cluster()
        c.framework(), c.framework()
        c.agent(WHOLE)
        self.assertEqual(len(c.settle()), 1)
        self.assertEqual(c.advance(10), [])

    def test_once_settled_nothing_is_pending(self):
        c = self.cluster()
        c.framework(), c.framework()
        c.agent(WHOLE)
        c.settle()
        self.assertIsNone(c.allocator.deadline())

    def test_a_declined_offer_goes_to_others_at_once(self):
        c = self.cluster()
        f, g = c.framework(), c.framework()
        c.agent(WHOLE)
        [first] = c.advance(0.05)
        c.decline(first)
        [second] = c.advance(0.05)
        self.assertEqual({first.framework_id, second.framework_id}, {f, g})

    def test_a_declined_offer_comes_back_after_its_filter(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(7.0)
        self.assertEqual(c.advance(6.999), [])
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_filter_lasts_at_least_an_allocation_interval(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(0.0)
        self.assertEqual(c.advance(0.999), [])
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_negative_filter_means_the_default(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(-1.0)
        self.assertEqual(c.advance(4.999), [])
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_filter_lasts_no_longer_than_a_year(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(1e300)
        self.assertEqual(c.advance(365 * 86400 - 1), [])
        self.assertEqual(c.advance(2)[0].agent_id, a)
        self.assertEqual(c.offers[0].framework_id, f)

    def test_more_than_was_refused_is_offered(self):
        c = self.cluster()
        c.framework()
        c.agent(WHOLE)
        [offer] = c.advance(0.05)
        task = c.accept(offer, "cpus:1;mem:1024", 3600)
        self.assertEqual(c.advance(60), [])
        c.free(task, "cpus:1")
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:4;mem:3072;ports:[31000-31009]"))

    def test_less_than_was_refused_is_not_offered(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.update_agent(c.now, a, None, resources("cpus:3;mem:4096"))
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(f, a), Reason.FILTERED)

    def test_revive_ends_filters(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        self.assertEqual(c.settle(), [])
        c.allocator.revive_offers(c.now, f, [])
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_suppress_stops_offers_and_revive_resumes_them(self):
        c = self.cluster()
        f = c.framework()
        c.allocator.suppress_offers(c.now, f, [])
        a = c.agent(WHOLE)
        self.assertEqual(c.settle(), [])
        c.allocator.revive_offers(c.now, f, [])
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_roles_suppressed_at_first_get_no_offers(self):
        c = self.cluster()
        f = c.framework("r", "s", suppressed=("r",))
        a = c.agent(WHOLE)
        self.assertEqual(c.settle(), [(f, "s", a)])

    def test_suppress_and_revive_go_by_role(self):
        c = self.cluster()
        f = c.framework("r", "s")
        c.allocator.suppress_offers(c.now, f, ["s"])
        a = c.agent(WHOLE)
        self.assertEqual(c.settle(), [(f, "r", a)])
        c.allocator.suppress_offers(c.now, f, ["r"])
        c.allocator.revive_offers(c.now, f, ["s"])
        c.decline_all()
        self.assertEqual(c.settle(), [(f, "s", a)])

    def test_a_filter_holds_for_one_role_only(self):
        c = self.cluster()
        c.framework("r", "s")
        c.agent(WHOLE)
        [first] = c.advance(0.05)
        c.decline(first)
        [second] = c.advance(0.05)
        self.assertEqual({first.role, second.role}, {"r", "s"})

    def test_a_deactivated_framework_gets_nothing_and_its_filters_end(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.deactivate_framework(c.now, f)
        self.assertEqual(c.advance(10), [])
        c.allocator.activate_framework(c.now, f)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_framework_may_be_added_inactive(self):
        c = self.cluster()
        f = c.framework(active=False)
        a = c.agent(WHOLE)
        self.assertEqual(c.settle(), [])
        c.allocator.activate_framework(c.now, f)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_congested_framework_gets_nothing_and_its_filters_stay(self):
        c = self.cluster()
        f = c.framework()
        c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.set_congested(c.now, f, True)
        b = c.agent(WHOLE)
        self.assertEqual(c.settle(), [])
        c.allocator.set_congested(c.now, f, False)
        self.assertEqual(c.settle(), [(f, "*", b)])

    def test_a_deactivated_agent_is_not_offered(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.allocator.deactivate_agent(c.now, a)
        self.assertEqual(c.advance(10), [])
        self.assertEqual(c.why(f, a), Reason.AGENT_DEACTIVATED)
        c.allocator.activate_agent(c.now, a)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_only_whitelisted_agents_are_offered(self):
        c = self.cluster()
        f = c.framework()
        c.allocator.update_whitelist(c.now, ["one"])
        one = c.agent(WHOLE, hostname="one")
        two = c.agent(WHOLE, hostname="two")
        self.assertEqual(c.settle(), [(f, "*", one)])
        self.assertEqual(c.why(f, two), Reason.NOT_WHITELISTED)
        c.allocator.update_whitelist(c.now, None)
        self.assertEqual(c.settle(), [(f, "*", two)])

    def test_a_removed_framework_leaves_all_to_others(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        [offer] = c.advance(0.05)
        c.accept(offer, "cpus:1", 3600)
        g = c.framework()
        [rest] = c.advance(0.05)
        c.accept(rest, "cpus:1", 3600)
        c.allocator.remove_framework(c.now, f)
        [offer] = c.advance(0.05)
        self.assertEqual(offer.framework_id, g)
        self.assertEqual(offer.resources, resources("cpus:3;mem:4096;ports:[31000-31009]"))
        c.allocator.recover_resources(c.now, f, a, "*", resources("cpus:1"), None)
        self.assertRaises(AllocatorError, c.allocator.remove_framework, c.now, f)

    def test_a_framework_that_comes_back_starts_anew(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.remove_framework(c.now, f)
        c.framework(framework_id=f)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_removed_agent_is_forgotten(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.allocator.remove_agent(c.now, a)
        c.allocator.recover_resources(c.now, f, a, "*", resources(WHOLE), 5.0)
        self.assertEqual(c.advance(10), [])
        self.assertEqual(c.explain(f), {})
        c.agent(WHOLE, agent_id=a)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_removing_what_waits_to_be_looked_at(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.allocator.remove_agent(c.now, a)
        b = c.agent(WHOLE)
        [offer] = c.advance(0.05)
        c.free(offer)
        c.allocator.remove_agent(c.now, b)
        self.assertEqual(c.advance(1), [])
        c.agent(WHOLE)
        c.allocator.remove_framework(c.now, f)
        self.assertEqual(c.advance(1), [])

    def test_what_agents_bring_in_use_is_not_offered(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE, {f: {"*": resources("cpus:3;mem:96")}})
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1;mem:4000;ports:[31000-31009]"))
        c.allocator.recover_resources(c.now, f, a, "*", resources("cpus:3"), None)
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:3"))

    def test_agents_may_come_before_the_frameworks_that_use_them(self):
        c = self.cluster()
        held = resources("cpus:3;mem:4096;ports:[31000-31009]")
        a = c.agent(WHOLE, {"late": {"r": held}})
        g = c.framework()
        [offer] = c.advance(0.05)
        self.assertEqual((offer.framework_id, offer.resources), (g, resources("cpus:1")))
        late = c.framework("r", used={a: {"r": held}}, framework_id="late")
        c.allocator.recover_resources(c.now, late, a, "r", held, None)
        self.assertEqual(c.explain(late)[a].available, held)

    def test_a_framework_brings_what_it_uses_on_known_agents(self):
        c = self.cluster()
        a = c.agent(WHOLE)
        f = c.framework(used={a: {"*": resources("cpus:3")}, "unknown": {"*": resources("cpus:9")}})
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1;mem:4096;ports:[31000-31009]"))
        c.allocator.recover_resources(c.now, f, a, "*", resources("cpus:3"), None)

    def test_an_agent_that_grows_is_offered_what_is_new(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent("cpus:1;mem:100")
        c.settle()
        c.allocator.update_agent(c.now, a, None, resources("cpus:3;mem:100"))
        [offer] = c.advance(0.05)
        self.assertEqual((offer.framework_id, offer.resources), (f, resources("cpus:2")))

    def test_an_agent_that_shrinks_below_what_is_held_offers_nothing(self):
        c = self.cluster()
        c.framework()
        a = c.agent("cpus:4;mem:100")
        [offer] = c.advance(0.05)
        c.allocator.update_agent(c.now, a, None, resources("cpus:2;mem:100"))
        self.assertEqual(c.settle(), [])
        c.free(offer, "cpus:1")
        self.assertEqual(c.settle(), [])
        c.free(offer, "cpus:2")
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1"))

    def test_new_attributes_end_filters_on_an_agent(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.update_agent(c.now, a, AgentOptions(hostname=a), None)
        self.assertEqual(c.settle(), [])
        c.allocator.update_agent(c.now, a, AgentOptions(hostname=a, attributes="rack:1"), None)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_a_framework_that_joins_a_role_is_offered_in_it(self):
        c = self.cluster()
        f = c.framework("r")
        a = c.agent("cpus(s):1;mem(s):64")
        self.assertEqual(c.settle(), [])
        c.allocator.update_framework(c.now, f, c.options("r", "s"))
        self.assertEqual(c.settle(), [(f, "s", a)])

    def test_a_framework_that_leaves_a_role_keeps_what_it_holds(self):
        c = self.cluster()
        f = c.framework("r")
        a = c.agent(WHOLE)
        [offer] = c.advance(0.05)
        c.allocator.update_framework(c.now, f, c.options("s"))
        self.assertEqual(c.settle(), [])
        c.free(offer)
        self.assertEqual(c.settle(), [(f, "s", a)])
        self.assertEqual(c.why(f, a, "r"), Reason.NOT_SUBSCRIBED)

    def test_options_that_no_longer_suppress_end_filters(self):
        c = self.cluster()
        f = c.framework()
        a = c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.update_framework(c.now, f, c.options(suppressed=("*",)))
        self.assertEqual(c.settle(), [])
        c.allocator.update_framework(c.now, f, c.options())
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_options_that_say_the_same_keep_filters(self):
        c = self.cluster()
        f = c.framework()
        c.agent(WHOLE)
        c.settle()
        c.decline_all(3600)
        c.allocator.update_framework(c.now, f, c.options())
        self.assertEqual(c.advance(60), [])

    def test_recovery_may_wait_for_agents(self):
        c = self.cluster()
        c.allocator.recover(c.now, 10, hold=True)
        f = c.framework()
        for _ in range(7):
            c.agent(WHOLE)
        self.assertEqual(c.advance(10), [])
        self.assertEqual({x.reason for x in c.explain(f).values()}, {Reason.RECOVERING})
        c.agent(WHOLE)
        self.assertEqual(len(c.settle()), 8)

    def test_recovery_waits_no_longer_than_its_timeout(self):
        c = self.cluster(recovery_timeout=60.0)
        c.allocator.recover(c.now, 10, hold=True)
        c.framework()
        c.agent(WHOLE)
        self.assertEqual(c.advance(59.9), [])
        self.assertEqual(len(c.advance(0.2)), 1)

    def test_recovery_need_not_wait(self):
        c = self.cluster()
        c.allocator.recover(c.now, 10, hold=False)
        c.framework()
        c.agent(WHOLE)
        self.assertEqual(len(c.settle()), 1)

    def test_requests_change_nothing(self):
        c = self.cluster()
        c.allocator.request_resources(c.now, c.framework(), [object()])
        self.assertEqual(c.advance(10), [])

    def test_what_is_wrong_is_refused_and_changes_nothing(self):
        c = self.cluster()
        f, a = c.framework("r"), c.agent(WHOLE)
        [offer] = c.advance(0.05)
        x, other, missing = c.allocator, FrameworkId("other"), AgentId("missing")
        wrong = [
            (x.recover, 3, False),
            (x.add_framework, f, FrameworkOptions(), {}, True),
            (x.remove_framework, other),
            (x.update_framework, other, FrameworkOptions()),
            (x.activate_framework, other),
            (x.deactivate_framework, other),
            (x.set_congested, other, True),
            (x.suppress_offers, other, []),
            (x.suppress_offers, f, ["s"]),
            (x.revive_offers, f, ["s"]),
            (x.request_resources, other, []),
            (x.explain, other, None),
            (x.add_agent, a, AgentOptions(), Resources.EMPTY, {}),
            (x.remove_agent, missing),
            (x.update_agent, missing, None, None),
            (x.activate_agent, missing),
            (x.deactivate_agent, missing),
            (x.update_weights, {"r": 0.0}),
            (x.recover_resources, f, a, "r", resources("cpus:5"), None),
            (x.recover_resources, f, a, "s", resources("cpus:1"), None),
            (x.update_allocation, f, a, "s", []),
            (x.update_allocation, f, a, "r", [(resources("cpus:5"), Resources.EMPTY)]),
            (x.update_available, a, [(resources("cpus:1"), Resources.EMPTY)]),
        ]
        for verb, *arguments in wrong:
            self.assertRaises(AllocatorError, verb, c.now, *arguments)
        self.assertEqual(c.advance(10), [])
        c.free(offer)
        self.assertEqual(c.settle(), [(f, "r", a)])

    def test_metrics_count_what_is_there(self):
        c = self.cluster()
        f = c.framework("r")
        c.agent("cpus:4;mem:100")
        [offer] = c.advance(0.05)
        c.accept(offer, "cpus:1;mem:50", 5.0)
        metrics = c.allocator.metrics()
        self.assertEqual(metrics["allocator/mesos/resources/cpus/total"], 4)
        self.assertEqual(metrics["allocator/mesos/resources/cpus/offered_or_allocated"], 1)
        self.assertEqual(metrics["allocator/mesos/resources/gpus/total"], 0)
        self.assertEqual(metrics["allocator/mesos/offer_filters/roles/r/active"], 1)
        self.assertEqual(metrics["allocator/mesos/allocation_runs"], 1)
        c.allocator.revive_offers(c.now, f, [])
        metrics = c.allocator.metrics()
        self.assertEqual(metrics["allocator/mesos/offer_filters/roles/r/active"], 0)
