"""Leading, and ceasing to lead in time, over a ZooKeeper in memory."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock

from mesoskit.cluster.election import Election
from mesoskit.cluster.leader import Leader
from mesoskit.cluster.lease import SAFE, Lease
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.testing.zookeeper import MemoryEnsemble, MemoryZooKeeper
from tests import example_count
from tests.base import SynchronousTestCase

PATH = "/mesos"
TIMEOUT = 8.0


class Master:
    """A candidate that writes down what it is told."""

    def __init__(self, ensemble: MemoryEnsemble, clock: Clock, port: int) -> None:
        self.client: MemoryZooKeeper = ensemble.client(TIMEOUT, operation_timeout=4.0)
        self.now = clock.seconds
        self.election = Election(self.client, clock, PATH, self.moment)
        self.told: list[Any] = []
        info = MasterInfo(id=f"m{port}", ip=16777343, port=port)
        info.address.ip = "127.0.0.1"
        info.address.port = port
        self.started = self.election.start(info, self)

    def moment(self) -> float:
        """The master's own clock, which a test may move."""
        return self.now()

    def elected(self, epoch: int) -> None:
        self.told.append(epoch)

    def led(self, leader: Leader | None) -> None:
        self.told.append(None if leader is None else leader.info.id)

    def deposed(self, why: str) -> None:
        self.told.append(why)

    @property
    def leads(self) -> bool:
        """Whether it would decide anything."""
        return self.election.leading and self.election.fence() is None


class ElectionTests(SynchronousTestCase):
    """Who leads, and when not any more."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ensemble = MemoryEnsemble(self.clock)
        self.masters: list[Master] = []

    def master(self) -> Master:
        master = Master(self.ensemble, self.clock, 5050 + len(self.masters))
        self.masters.append(master)
        self.successResultOf(master.started)
        return master

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))

    def test_first_of_all_leads_and_others_are_led(self) -> None:
        one, other = self.master(), self.master()
        self.assertEqual(one.told[-1:], [1])
        self.assertEqual(other.told, ["m5050"])
        self.assertTrue(one.leads)
        self.assertFalse(other.leads)
        self.assertEqual(one.election.epoch, 1)

    def test_leader_leads_on_as_long_as_servers_are_there(self) -> None:
        one = self.master()
        self.pass_time(10 * TIMEOUT)
        self.assertTrue(one.leads)
        self.assertEqual(one.told[-1], 1)

    def test_next_leads_when_the_leader_stops(self) -> None:
        one, two, three = self.master(), self.master(), self.master()
        self.successResultOf(one.election.stop())
        self.assertFalse(one.leads)
        self.assertEqual(two.told, ["m5050", 2])
        self.assertEqual(three.told, ["m5050", "m5051"])

    def test_leader_that_is_cut_off_stops_before_the_next_can_lead(self) -> None:
        one, two = self.master(), self.master()
        one.client.cut()
        self.pass_time(SAFE * TIMEOUT - 1.1)
        self.assertTrue(one.leads)
        self.pass_time(1.5)
        self.assertFalse(one.leads)
        self.assertFalse(two.leads)
        self.assertIn("Lost leadership", one.told[-1])
        self.assertIn("8 s", one.told[-1])
        self.pass_time(0.3 * TIMEOUT + 1)
        self.assertTrue(two.leads)

    def test_leader_whose_servers_stand_still_suspects_them_and_stops_in_time(self) -> None:
        one = self.master()
        one.client.freeze()
        self.pass_time(TIMEOUT / 2)
        self.assertGreater(one.client.suspected, 0)
        self.assertTrue(one.leads)
        self.pass_time(SAFE * TIMEOUT)
        self.assertFalse(one.leads)

    def test_short_silence_is_borne(self) -> None:
        one, two = self.master(), self.master()
        for _ in range(5):
            one.client.cut()
            self.pass_time(TIMEOUT / 2)
            one.client.mend()
            self.pass_time(TIMEOUT / 2)
        self.assertTrue(one.leads)
        self.assertFalse(two.leads)

    def test_process_that_stood_still_decides_nothing_when_it_wakes(self) -> None:
        one = self.master()
        # Its own clock has gone on, and nothing has happened.
        one.now = lambda: self.clock.seconds() + TIMEOUT
        self.assertIn("may have ended", str(one.election.fence()))
        self.assertEqual(one.told[-1], one.election.fence())
        self.assertFalse(one.leads)
        # It closed its session, and what it does not know any more does no harm.
        self.assertEqual(self.ensemble.children(PATH), [])
        self.pass_time(TIMEOUT)
        self.assertEqual(sum("Lost" in str(each) for each in one.told), 1)

    def test_expired_session_deposes_the_leader(self) -> None:
        one, two = self.master(), self.master()
        one.client.expire()
        self.assertIn("node in ZooKeeper has gone", one.told[-1])
        self.assertEqual(two.told[-1], 2)
        self.assertEqual(self.ensemble.children(PATH), ["json.info_0000000001"])

    def test_expired_session_of_another_puts_it_at_the_end_of_the_queue(self) -> None:
        _, two, three = self.master(), self.master(), self.master()
        two.client.expire()
        self.assertEqual(two.election.fence(), None)
        self.successResultOf(self.masters[0].election.stop())
        self.assertTrue(three.leads)
        self.successResultOf(three.election.stop())
        self.assertTrue(two.leads)
        self.assertEqual(two.election.epoch, 4)

    def test_deleted_node_deposes_the_leader(self) -> None:
        one, two = self.master(), self.master()
        self.ensemble.remove(f"{PATH}/json.info_0000000000", -1)
        self.assertIn("has gone", one.told[-1])
        self.assertTrue(two.leads)

    def test_deleted_node_of_another_is_made_again(self) -> None:
        one, two = self.master(), self.master()
        self.ensemble.remove(f"{PATH}/json.info_0000000001", -1)
        self.successResultOf(one.election.stop())
        self.assertTrue(two.leads)

    def test_who_leads_is_unknown_after_a_long_silence_and_known_again(self) -> None:
        _, two = self.master(), self.master()
        two.client.cut()
        self.pass_time(TIMEOUT / 2)
        self.assertEqual(two.told, ["m5050"])
        self.pass_time(TIMEOUT)
        self.assertEqual(two.told, ["m5050", None])
        two.client.mend()
        self.assertEqual(two.told, ["m5050", None, "m5050"])

    def test_servers_that_come_late(self) -> None:
        master = Master.__new__(Master)
        client = self.ensemble.client(TIMEOUT)
        client.cut()
        self.ensemble.client = lambda *_, **__: client  # type: ignore[method-assign]
        master.__init__(self.ensemble, self.clock, 5050)  # type: ignore[misc]
        self.assertNoResult(master.started)
        self.pass_time(60)
        client.mend()
        self.successResultOf(master.started)
        self.assertTrue(master.leads)

    def test_stopping_is_quiet_and_final(self) -> None:
        one = self.master()
        told = list(one.told)
        self.successResultOf(one.election.stop())
        self.successResultOf(one.election.stop())
        self.pass_time(3 * TIMEOUT)
        self.assertEqual(one.told, told)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LeaseTests(SynchronousTestCase):
    """The lease counts from the question."""

    def test_it_begins_with_an_answer_and_ends_before_the_session(self) -> None:
        lease = Lease()
        self.assertTrue(lease.over(0.0))
        lease.renew(100.0, 10.0)
        self.assertFalse(lease.over(106.9))
        self.assertTrue(lease.over(107.0))

    def test_answer_to_an_older_question_does_not_shorten_it(self) -> None:
        lease = Lease()
        lease.renew(100.0, 10.0)
        lease.renew(90.0, 10.0)
        self.assertFalse(lease.over(106.9))


class ElectionMachine(RuleBasedStateMachine):
    """Whatever becomes of the connections: never two that would decide something."""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.ensemble = MemoryEnsemble(self.clock)
        self.masters: list[Master] = []
        self.epochs: list[int] = []
        for _ in range(3):
            self.add()

    def add(self) -> None:
        self.masters.append(Master(self.ensemble, self.clock, 5050 + len(self.masters)))

    @rule(which=st.integers(0, 2))
    def cut(self, which: int) -> None:
        self.masters[-3:][which].client.cut()

    @rule(which=st.integers(0, 2))
    def mend(self, which: int) -> None:
        self.masters[-3:][which].client.mend()

    @rule(which=st.integers(0, 2))
    def freeze(self, which: int) -> None:
        self.masters[-3:][which].client.freeze()

    @rule(which=st.integers(0, 2))
    def thaw(self, which: int) -> None:
        self.masters[-3:][which].client.thaw()

    @rule(which=st.integers(0, 2))
    def expire(self, which: int) -> None:
        client = self.masters[-3:][which].client
        if client.connected and not client._frozen:
            client.expire()

    @rule(which=st.integers(0, 2))
    def replace(self, which: int) -> None:
        self.masters[-3:][which].election.stop()
        self.add()

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 9.0]))
    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self.never_two()

    @invariant()
    def never_two(self) -> None:
        leading = [master for master in self.masters if master.leads]
        assert len(leading) <= 1, [master.told for master in leading]
        for master in leading:
            if master.election.epoch not in self.epochs:
                assert all(master.election.epoch > epoch for epoch in self.epochs)
                self.epochs.append(master.election.epoch)

    @rule()
    def in_the_end_somebody_leads(self) -> None:
        self.add()
        for master in self.masters:
            master.client.thaw()
            master.client.mend()
        self.clock.pump([0.5] * int(8 * TIMEOUT))
        self.never_two()
        assert any(master.leads for master in self.masters), [m.told for m in self.masters]


class MachineTests(SynchronousTestCase):
    """All orders of what can happen to three masters."""

    def test_never_two_lead_and_somebody_does_in_the_end(self) -> None:
        run_state_machine_as_test(
            ElectionMachine,
            settings=settings(
                max_examples=example_count(12), stateful_step_count=20, deadline=None
            ),
        )
