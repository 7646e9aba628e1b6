"""What of an agent a framework is offered: reservations, capabilities, minimums."""

from mesoskit.allocator.interface import AllocatorError, Reason
from mesoskit.model.capabilities import AgentCapability, FrameworkCapability
from mesoskit.model.disks import Disk
from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_key import DYNAMIC, Reservation, ResourceKey
from mesoskit.model.resources import Resources
from tests.allocator.cluster import Cluster, resources
from tests.base import SynchronousTestCase


def revocable(**amounts: float) -> Resources:
    return Resources.of(**amounts).map_keys(lambda key: key.replace(revocable=True))


def volume(role: str, size: int = 100) -> Resources:
    """Return a shared persistent volume of so many MB, reserved to a role."""
    key = ResourceKey(
        "disk",
        reservations=(Reservation(DYNAMIC, role),),
        disk=Disk(persistence_id="v"),
        shared=True,
    )
    return Resources([(key, size * 1000)])


class ReservationTests(SynchronousTestCase):
    """Who may have what is reserved."""

    def test_what_is_reserved_goes_only_to_its_role(self):
        c = Cluster()
        f, g = c.framework("r"), c.framework("s")
        a = c.agent("cpus(r):2;mem(r):64;cpus:1;mem:32")
        made = {x.framework_id: x.resources for x in c.advance(0.05)}
        if g in made:
            self.assertEqual(made[g], resources("cpus:1;mem:32"))
            self.assertEqual(made[f], resources("cpus(r):2;mem(r):64"))
        else:
            self.assertEqual(made[f], resources("cpus(r):2;mem(r):64;cpus:1;mem:32"))
        c.decline_all(3600)
        made = {x.framework_id: x.resources for x in c.advance(0.05)}
        self.assertEqual(made, {g: resources("cpus:1;mem:32")})
        self.assertEqual(c.why(g, a), Reason.RESERVED)

    def test_descendants_of_the_role_may_have_it(self):
        c = Cluster()
        a = c.agent("cpus(eng):2;mem(eng):64")
        other = c.framework("eng2")
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(other, a), Reason.RESERVED)
        f = c.framework("eng/web")
        self.assertEqual(c.settle(), [(f, "eng/web", a)])

    def test_ancestors_of_the_role_may_not(self):
        c = Cluster()
        c.framework("eng")
        c.agent("cpus(eng/web):2;mem(eng/web):64")
        self.assertEqual(c.settle(), [])

    def test_reserved_parts_of_one_agent_go_to_several(self):
        c = Cluster()
        f, g = c.framework("r"), c.framework("s")
        c.agent("cpus(r):2;cpus(s):3")
        made = {x.framework_id: x.resources for x in c.advance(0.05)}
        self.assertEqual(made, {f: resources("cpus(r):2"), g: resources("cpus(s):3")})

    def test_a_reservation_made_by_a_framework_stays_with_its_role(self):
        c = Cluster()
        f, g = c.framework("r"), c.framework("s", suppressed=("s",))
        a = c.agent("cpus:4;mem:64")
        [offer] = c.advance(0.05)
        reserved = resources("cpus:3").push_reservation(Reservation(DYNAMIC, "r"))
        c.allocator.update_allocation(c.now, f, a, "r", [(resources("cpus:3"), reserved)])
        c.allocator.recover_resources(c.now, f, a, "r", reserved + resources("cpus:1;mem:64"), 3600)
        c.offers.remove(offer)
        c.allocator.revive_offers(c.now, g, [])
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1;mem:64"))
        c.allocator.revive_offers(c.now, f, [])
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, reserved)

    def test_an_operator_reserves_only_what_is_free(self):
        c = Cluster()
        f = c.framework("r")
        a = c.agent("cpus:4;mem:64")
        reserved = resources("cpus:3").push_reservation(Reservation(DYNAMIC, "s"))
        conversions = [(resources("cpus:3"), reserved)]
        c.allocator.update_available(c.now, a, conversions)
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1;mem:64"))
        self.assertRaises(
            AllocatorError,
            c.allocator.update_available,
            c.now,
            a,
            [(resources("cpus:1"), Resources.EMPTY)],
        )
        c.allocator.update_available(c.now, a, [(reserved, resources("cpus:3"))])
        [offer] = c.advance(0.05)
        self.assertEqual((offer.framework_id, offer.resources), (f, resources("cpus:3")))

    def test_refined_reservations_are_for_those_who_know_of_them(self):
        c = Cluster()
        refined = resources("cpus(a):2").push_reservation(Reservation(DYNAMIC, "a/b"))
        f = c.framework("a/b")
        a = c.agent(refined)
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(f, a), Reason.INCAPABLE)
        g = c.framework("a/b", able=FrameworkCapability.RESERVATION_REFINEMENT)
        self.assertEqual(c.settle(), [(g, "a/b", a)])


class CapabilityTests(SynchronousTestCase):
    """Who can deal with what."""

    def test_gpu_agents_are_for_those_who_know_of_them(self):
        c = Cluster()
        f = c.framework()
        a = c.agent("cpus:4;gpus:1")
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(f, a), Reason.GPU)
        able = c.options(able=FrameworkCapability.GPU_RESOURCES)
        c.allocator.update_framework(c.now, f, able)
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_gpu_agents_need_not_be_held_back(self):
        c = Cluster(filter_gpu_resources=False)
        c.framework()
        c.agent("cpus:4;gpus:1")
        self.assertEqual(len(c.settle()), 1)

    def test_revocable_resources_are_for_those_who_know_of_them(self):
        c = Cluster()
        f = c.framework()
        a = c.agent(resources("cpus:1") + revocable(cpus=2))
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1"))
        self.assertEqual(c.why(f, a), Reason.INCAPABLE)
        g = c.framework(able=FrameworkCapability.REVOCABLE_RESOURCES)
        [offer] = c.advance(0.05)
        self.assertEqual((offer.framework_id, offer.resources), (g, revocable(cpus=2)))

    def test_less_revocable_than_is_held_offers_none(self):
        c = Cluster()
        c.framework(able=FrameworkCapability.REVOCABLE_RESOURCES)
        a = c.agent(resources("cpus:1") + revocable(cpus=2))
        [offer] = c.advance(0.05)
        c.allocator.update_agent(c.now, a, None, resources("cpus:1") + revocable(cpus=1))
        c.free(offer)
        [offer] = c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:1") + revocable(cpus=1))

    def test_agents_of_other_regions_are_for_the_region_aware(self):
        c = Cluster(region="here")
        near = c.agent("cpus:1", region="here")
        far = c.agent("cpus:1", region="there")
        nowhere = c.agent("cpus:1")
        f = c.framework()
        self.assertEqual({agent for _, _, agent in c.settle()}, {near, nowhere})
        self.assertEqual(c.why(f, far), Reason.REGION)
        g = c.framework(able=FrameworkCapability.REGION_AWARE)
        self.assertEqual(c.settle(), [(g, "*", far)])

    def test_old_agents_are_kept_from_frameworks_they_do_not_understand(self):
        c = Cluster()
        a = c.agent("cpus:1", capabilities=AgentCapability(0))
        multi = c.framework(able=FrameworkCapability.MULTI_ROLE)
        deep = c.framework("a/b")
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(multi, a), Reason.AGENT_NOT_MULTI_ROLE)
        self.assertEqual(c.why(deep, a), Reason.AGENT_NOT_HIERARCHICAL)
        f = c.framework("a")
        self.assertEqual(c.settle(), [(f, "a", a)])

    def test_only_roles_that_the_operator_allows(self):
        c = Cluster(roles=frozenset(["r"]))
        f = c.framework("r", "s")
        a = c.agent("cpus:1")
        self.assertEqual(c.settle(), [(f, "r", a)])
        self.assertEqual(c.why(f, a, "s"), Reason.ROLE_NOT_WHITELISTED)


class SharedTests(SynchronousTestCase):
    """Volumes that many hold at once."""

    def setUp(self) -> None:
        self.c = Cluster()
        self.able = FrameworkCapability.SHARED_RESOURCES
        self.total = resources("cpus:4;mem:64") + volume("r")

    def test_they_are_for_those_who_know_of_them(self):
        self.c.framework("r")
        self.c.agent(self.total)
        [offer] = self.c.advance(0.05)
        self.assertEqual(offer.resources, resources("cpus:4;mem:64"))

    def test_they_are_offered_though_others_hold_them(self):
        c = self.c
        f = c.framework("r", able=self.able)
        a = c.agent(self.total)
        [first] = c.advance(0.05)
        self.assertEqual(first.resources, self.total)
        c.offers.remove(first)
        used = resources("cpus:1;mem:32") + volume("r")
        c.allocator.recover_resources(c.now, f, a, "r", first.resources - used, 3600)
        g = c.framework("r", able=self.able)
        [second] = c.advance(0.05)
        self.assertEqual(second.framework_id, g)
        self.assertEqual(second.resources, resources("cpus:3;mem:32") + volume("r"))
        # One volume however many hold it: for the role, and for the cluster.
        metrics = c.allocator.metrics()
        self.assertEqual(metrics["allocator/mesos/resources/disk/total"], 100)
        self.assertEqual(metrics["allocator/mesos/roles/r/shares/dominant"], 1.0)
        c.free(second)
        c.allocator.recover_resources(c.now, f, a, "r", used, None)
        self.assertEqual(c.explain(g)[a].available, self.total)
        self.assertEqual(c.allocator.metrics()["allocator/mesos/roles/r/shares/dominant"], 0.0)

    def test_one_pass_offers_them_to_one_framework(self):
        c = self.c
        c.framework("r", able=self.able), c.framework("r", able=self.able)
        c.agent(volume("r") + resources("cpus(r):1"))
        self.assertEqual(len(c.settle()), 1)
        self.assertEqual(c.advance(5), [])

    def test_the_next_framework_is_offered_them_an_interval_later(self):
        c = Cluster(min_allocatable_resources=())
        f, g = (c.framework("r", able=self.able) for _ in range(2))
        c.agent(volume("r"))
        self.assertEqual([x.framework_id for x in c.advance(0.5)], [f])
        self.assertEqual([x.framework_id for x in c.advance(1.0)], [g])

    def test_alone_they_are_too_small_by_default(self):
        c = self.c
        f = c.framework("r", able=self.able)
        a = c.agent(volume("r"))
        self.assertEqual(c.advance(5), [])
        self.assertEqual(c.why(f, a), Reason.TOO_SMALL)

    def test_further_copies_take_nothing_from_the_agent(self):
        c = self.c
        f = c.framework("r", able=self.able)
        a = c.agent(self.total)
        c.settle()
        c.allocator.update_allocation(c.now, f, a, "r", [(Resources.EMPTY, volume("r"))])
        whole = self.total + volume("r")
        c.allocator.recover_resources(c.now, f, a, "r", whole, 5.0)
        self.assertEqual(c.explain(f)[a].available, self.total)

    def test_making_and_destroying_them(self):
        c = self.c
        f = c.framework("r", able=self.able)
        a = c.agent("cpus:1;disk(r):100")
        c.settle()
        disk = resources("disk(r):100")
        c.allocator.update_allocation(c.now, f, a, "r", [(disk, volume("r"))])
        self.assertEqual(c.explain(f)[a].available, volume("r"))
        c.allocator.update_allocation(c.now, f, a, "r", [(volume("r"), disk)])
        c.allocator.recover_resources(c.now, f, a, "r", resources("cpus:1") + disk, 5.0)
        self.assertEqual(c.explain(f)[a].available, resources("cpus:1;disk(r):100"))


class MinimumTests(SynchronousTestCase):
    """Offers that are too small to be made."""

    def test_slivers_are_not_offered(self):
        c = Cluster()
        f = c.framework()
        a = c.agent("cpus:0.005;mem:31;disk:1000")
        self.assertEqual(c.settle(), [])
        self.assertEqual(c.why(f, a), Reason.TOO_SMALL)

    def test_one_alternative_is_enough(self):
        c = Cluster()
        c.framework()
        c.agent("cpus:0.01")
        c.agent("mem:32")
        self.assertEqual(len(c.settle()), 2)

    def test_without_a_minimum_everything_is_offered(self):
        c = Cluster(min_allocatable_resources=())
        c.framework()
        c.agent("disk:0.001")
        self.assertEqual(len(c.settle()), 1)

    def test_a_framework_may_ask_for_more_in_a_role(self):
        c = Cluster()
        least = [Quantities.parse("cpus:2;mem:64"), Quantities.parse("disk:9")]
        f = c.framework("r", minimum={"r": least})
        small, big = c.agent("cpus:1;mem:64"), c.agent("cpus:2;mem:64")
        self.assertEqual(c.settle(), [(f, "r", big)])
        self.assertEqual(c.why(f, small), Reason.TOO_SMALL)

    def test_a_framework_may_take_anything(self):
        c = Cluster()
        f = c.framework("r", minimum={"r": []})
        a = c.agent("disk:1")
        self.assertEqual(c.settle(), [(f, "r", a)])

    def test_a_lowered_minimum_brings_offers(self):
        c = Cluster()
        f = c.framework(minimum={"*": [Quantities.of(cpus=8)]})
        a = c.agent("cpus:4")
        self.assertEqual(c.settle(), [])
        c.allocator.update_framework(c.now, f, c.options())
        self.assertEqual(c.settle(), [(f, "*", a)])

    def test_what_tasks_free_adds_up_to_the_minimum(self):
        c = Cluster()
        f = c.framework(minimum={"*": [Quantities.of(cpus=2)]})
        c.agent("cpus:4")
        [offer] = c.advance(0.05)
        c.free(offer, "cpus:1")
        self.assertEqual(c.settle(), [])
        c.free(offer, "cpus:1")
        self.assertEqual(len(c.settle()), 1)
        self.assertEqual(f, offer.framework_id)
