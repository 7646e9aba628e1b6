"""Domains: which agents may register, and to whom those of other regions are offered."""

from mesoskit.master import views
from mesoskit.messages.mesos_pb2 import DomainInfo, FrameworkInfo
from mesoskit.model.events import PeerKind
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, registration, sent


def domain(region, zone):
    """Return where something is."""
    made = DomainInfo()
    made.fault_domain.region.name, made.fault_domain.zone.name = region, zone
    return made


HERE = domain("north", "n1").SerializeToString()


class DomainTests(SynchronousTestCase):
    """A master with a domain, and without."""

    def register(self, bench, where=None):
        peer = bench.connect(PeerKind.AGENT)
        message = registration()
        if where is not None:
            message.slave.domain.CopyFrom(where)
        effects = bench.receive(peer, message)
        return [one.slave_id.value for one in sent(effects, peer, "SlaveRegisteredMessage")]

    def test_agent_without_a_domain_is_taken_unless_one_is_required(self):
        self.assertEqual(1, len(self.register(Bench(domain=HERE))))
        required = Bench(domain=HERE, require_agent_domain=True)
        self.assertEqual([], self.register(required))
        self.assertEqual(1, len(self.register(required, domain("north", "n2"))))

    def test_agent_with_a_domain_needs_a_master_with_one(self):
        self.assertEqual([], self.register(Bench(), domain("north", "n1")))

    def test_other_regions_are_for_those_who_know_of_them(self):
        bench = Bench(domain=HERE)
        bench.allocator.options = type(bench.allocator.options)(region="north")
        (agent_id,) = self.register(bench, domain("south", "s1"))
        bench.subscribe()
        aware, _ = bench.subscribe(FrameworkInfo.Capability.REGION_AWARE)
        offer = bench.offer(aware)
        self.assertEqual(agent_id, offer.agent_id.value)
        self.assertEqual("south", offer.domain.fault_domain.region.name)

    def test_master_says_where_it_is(self):
        bench = Bench(domain=HERE)
        self.assertEqual("n1", bench.state.info.domain.fault_domain.zone.name)
        where = {"fault_domain": {"region": {"name": "north"}, "zone": {"name": "n1"}}}
        shown = views.head_view(bench.state, None)
        self.assertEqual((where, where), (shown["domain"], shown["leader_info"]["domain"]))
