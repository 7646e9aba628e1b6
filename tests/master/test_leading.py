"""A master among several, over a ZooKeeper in memory: who leads serves, the others say who does."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from mesoskit.cluster.election import Election
from mesoskit.cluster.registry import ZooKeeperStore
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.messages.internal_pb2 import SlaveRegisteredMessage, SlaveReregisteredMessage
from mesoskit.testing.zookeeper import MemoryEnsemble
from mesoskit.wire.hellos import HelloRefused
from mesoskit.wire.link import Hello
from mesoskit.wire.memory import connect
from tests.base import SynchronousTestCase
from tests.master.bench import registration
from tests.master.test_service import Peer

_MASTER = Hello(1, "mesoskit/test")
_AGENT = Hello(2, "mesoskit/test")
TIMEOUT = 8.0


class Sleeper:
    """A clock of a master that may stand still while that of the world goes on."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept = 0.0

    def __call__(self) -> float:
        return self.clock.seconds() + self.slept


class Master:
    """A master's service, with its own session in ZooKeeper."""

    def __init__(self, ensemble: MemoryEnsemble, number: int) -> None:
        clock: Any = ensemble.clock
        self.client = ensemble.client(TIMEOUT, operation_timeout=TIMEOUT)
        self.now = Sleeper(clock)
        self.election = Election(self.client, clock, "/mesos", self.now)
        self.stops: list[tuple[str, int]] = []
        election = self.election
        self.service = MasterService(
            clock,
            MasterOptions(hostname=f"m{number}.example", ip="10.0.0.1", port=5050 + number),
            ZooKeeperStore(self.client, clock, "/mesos", lambda: election.epoch),
            (),
            stopped=lambda why, status: self.stops.append((why, status)),
            seed=bytes([number] * 16),
            election=election,
        )
        self.started = self.service.startService()

    @property
    def elected(self) -> float:
        return self.service.metrics()["master/elected"]


class LeadingTests(SynchronousTestCase):
    """Three masters."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ensemble = MemoryEnsemble(self.clock)
        self.masters = [Master(self.ensemble, number) for number in range(3)]
        for master in self.masters:
            self.successResultOf(master.started)
        self.turn()
        self.pipes: list[Any] = []

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and messages and turns go round until nothing moves."""
        self.clock.pump([0.25] * int(seconds * 4))
        for _ in range(6):
            for pipe in getattr(self, "pipes", []):
                pipe.pump()
            self.clock.advance(0)

    def agent(self, master: Master) -> Peer:
        """Return an agent that has registered."""
        peer = Peer()
        self.pipes.append(connect(master.service.peers, peer, _MASTER, _AGENT))
        self.turn()
        peer.link.send(registration())
        self.turn()
        return peer

    def test_one_serves_and_the_others_say_who(self) -> None:
        one, two, three = self.masters
        self.assertEqual([master.elected for master in self.masters], [1, 0, 0])
        self.assertEqual(one.service.away("/state"), None)
        for other in (two, three):
            away = other.service.away("/state")
            assert away is not None
            self.assertEqual(away.status, 307)
            self.assertEqual(away.headers["Location"], "//m0.example:5050/master/state")
            session: Any = None
            error = self.assertRaises(HelloRefused, other.service._admit, session)
            self.assertEqual(
                (error.status, error.why), (503, "another master leads: m0.example:5050")
            )
        self.assertEqual(one.service.factory.plan.hello.epoch, 1)
        self.assertEqual(two.service.factory.plan.hello.epoch, 0)

    def test_next_one_knows_the_agents_of_the_first(self) -> None:
        one, two, _ = self.masters
        agent = self.agent(one)
        registered = next(m for m in agent.messages if isinstance(m, SlaveRegisteredMessage))
        self.successResultOf(one.service.stopService())
        self.turn()
        self.assertEqual([master.elected for master in self.masters], [0, 1, 0])
        self.assertEqual(list(two.service.state.recovered), [registered.slave_id.value])
        self.assertGreater(two.service.factory.plan.hello.epoch, 1)
        self.assertEqual(one.stops, [])

    def test_nobody_serves_while_nobody_leads(self) -> None:
        one, two, _ = self.masters
        for master in self.masters:
            master.client.cut()
        self.turn(3 * TIMEOUT)
        away = two.service.away("/state")
        assert away is not None
        self.assertEqual((away.status, away.why), (503, "No leader elected"))
        session: Any = None
        self.assertRaises(HelloRefused, two.service._admit, session)
        self.assertEqual(len(one.stops), 1)
        # They come back as they were: one of them leads, and the one that led has ended.
        for master in self.masters:
            master.client.mend()
        self.turn()
        self.assertEqual([master.elected for master in self.masters], [0, 1, 0])

    def test_leader_that_is_cut_off_ends_before_another_leads(self) -> None:
        one, two, _ = self.masters
        one.client.cut()
        for _ in range(int(4 * TIMEOUT)):
            self.turn(0.25)
            self.assertLessEqual(sum(master.elected for master in self.masters), 1)
        self.assertEqual(two.elected, 1)
        ((why, status),) = one.stops
        self.assertEqual(status, 1)
        self.assertIn("Lost leadership", why)
        away = one.service.away("/state")
        assert away is not None
        self.assertEqual(away.status, 503)

    def test_master_that_wakes_too_late_decides_nothing(self) -> None:
        one, _, _ = self.masters
        agent = self.agent(one)
        before = len(agent.messages)
        # It stood still; somebody else may lead. The first that it hears is its agent.
        one.now.slept = TIMEOUT
        agent.link.send(registration())
        self.turn()
        self.assertEqual(len(agent.messages), before)
        self.assertEqual(len(one.stops), 1)
        self.assertEqual(one.elected, 0)
        self.assertEqual(self.masters[1].elected, 1)

    def test_answer_of_the_registry_that_comes_too_late_sends_nothing(self) -> None:
        one, _, _ = self.masters
        peer = Peer()
        self.pipes.append(connect(one.service.peers, peer, _MASTER, _AGENT))
        self.turn()
        one.client.freeze()
        peer.link.send(registration())
        self.turn()
        one.now.slept = TIMEOUT
        one.client.thaw()
        self.turn()
        self.assertEqual(peer.messages, [])
        self.assertEqual(len(one.stops), 1)

    def test_registry_that_a_later_master_has_taken_over_ends_the_earlier_one(self) -> None:
        """Even where its clock lets it believe that it leads: the fence is in ZooKeeper."""
        one, two, _ = self.masters
        late = ZooKeeperStore(two.client, self.clock, "/mesos", lambda: 7)
        self.successResultOf(late.load())
        agent = self.agent(one)
        self.assertEqual(agent.messages, [])
        ((why, status),) = one.stops
        self.assertEqual(status, 1)
        self.assertIn("a later master has taken it over", why)

    def test_registry_that_cannot_be_read_ends_the_master_and_the_next_one_tries(self) -> None:
        self.ensemble.nodes["/mesos/mesoskit_registry"].data = b"nonsense"
        self.successResultOf(self.masters[0].service.stopService())
        self.turn()
        for master in self.masters[1:]:
            ((why, status),) = master.stops
            self.assertEqual(status, 1)
            self.assertIn("Failed to recover the registry", why)

    def reading(self) -> Master:
        """Return a master that is elected, and reads the registry from servers that are still."""
        one, two, _ = self.masters
        begin = two.service.elected

        def elected(epoch: int) -> None:
            two.client.freeze()
            begin(epoch)

        self.patch(two.service, "elected", elected)
        self.successResultOf(one.service.stopService())
        self.turn()
        away = two.service.away("/state")
        assert away is not None
        self.assertEqual(away.why, "Master has not finished recovery")
        return two

    def test_master_that_loses_its_session_as_it_reads_the_registry_says_so(self) -> None:
        master = self.reading()
        self.turn(TIMEOUT)
        ((why, status),) = master.stops
        self.assertIn("Lost leadership", why)
        self.assertEqual(status, 1)

    def test_master_that_is_stopped_as_it_reads_the_registry_ends_quietly(self) -> None:
        master = self.reading()
        stopping = master.service.stopService()
        self.turn(TIMEOUT)
        self.successResultOf(stopping)
        self.assertEqual(master.stops, [])

    def test_master_that_was_started_again_sends_nobody_to_itself(self) -> None:
        one, two, three = self.masters
        for master in (two, three):
            self.successResultOf(master.service.stopService())
        one.client.freeze()
        again = Master(self.ensemble, 0)
        self.turn()
        away = again.service.away("/state")
        assert away is not None
        self.assertEqual((away.status, away.why), (503, "No leader elected"))
        self.turn(2 * TIMEOUT)
        self.assertEqual((again.elected, again.service.away("/state")), (1, None))

    def test_stopping_leaves_nothing_behind(self) -> None:
        self.agent(self.masters[0])
        for master in self.masters:
            self.successResultOf(master.service.stopService())
        self.assertEqual(self.ensemble.children("/mesos"), ["mesoskit_registry"])
        self.assertEqual(sum(master.elected for master in self.masters), 0)

    def test_unregistered_agent_comes_back_under_the_next_master(self) -> None:
        one, two, _ = self.masters
        agent = self.agent(one)
        registered = next(m for m in agent.messages if isinstance(m, SlaveRegisteredMessage))
        one.client.expire()
        self.turn()
        self.assertEqual(two.elected, 1)
        self.assertIn("Lost leadership", one.stops[0][0])
        again = self.agent(two)
        self.assertNotIn(SlaveReregisteredMessage, map(type, again.messages))
        self.assertIn(registered.slave_id.value, two.service.state.recovered)
