"""Finding who leads, and standing for election, over a ZooKeeper in memory."""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from mesoskit.cluster.contender import Contender
from mesoskit.cluster.detector import ZooKeeperDetector
from mesoskit.cluster.leader import to_json
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.testing.zookeeper import MemoryEnsemble
from tests.base import SynchronousTestCase

PATH = "/mesos"


def data(port: int) -> bytes:
    info = MasterInfo(id=f"m{port}", ip=16777343, port=port)
    info.address.ip = "127.0.0.1"
    info.address.port = port
    return to_json(info)


class ZooKeeperTestCase(SynchronousTestCase):
    """Tests with a clock and an ensemble in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ensemble = MemoryEnsemble(self.clock)

    def contender(self, port: int) -> tuple[Contender, Any, list[str | None]]:
        """Return a contender that has begun, its client, and what it was told."""
        client = self.ensemble.client()
        told: list[str | None] = []
        contender = Contender(client, self.clock, PATH, data(port), told.append)
        contender.start()
        self.successResultOf(client.connect())
        return contender, client, told

    def detector(self) -> tuple[ZooKeeperDetector, Any]:
        client = self.ensemble.client()
        return ZooKeeperDetector(client, self.clock, PATH), client


class SessionTests(ZooKeeperTestCase):
    """What a detector says of ZooKeeper itself."""

    def test_nobody_found_without_a_session_is_no_word_of_zookeeper(self) -> None:
        detector, client = self.detector()
        self.assertFalse(detector.connected)
        detector.detect(None)
        self.assertTrue(detector.connected)
        client.cut()
        self.assertFalse(detector.connected)


class ContenderTests(ZooKeeperTestCase):
    """One node, kept for as long as it is wanted."""

    def nodes(self) -> list[str]:
        return sorted(path for path in self.ensemble.nodes if "json.info_" in path)

    def test_node_is_made_with_the_path_above_it(self) -> None:
        contender, _, told = self.contender(5050)
        self.assertEqual(told, ["json.info_0000000000"])
        self.assertEqual(contender.node, told[0])
        self.assertEqual(self.ensemble.nodes["/mesos/json.info_0000000000"].data, data(5050))

    def test_node_goes_with_its_session_and_comes_with_the_next(self) -> None:
        _, client, told = self.contender(5050)
        client.expire()
        self.assertEqual(told, ["json.info_0000000000", None, "json.info_0000000001"])
        self.assertEqual(self.nodes(), ["/mesos/json.info_0000000001"])

    def test_lost_connection_alone_changes_nothing(self) -> None:
        _, client, told = self.contender(5050)
        client.cut()
        self.clock.advance(9)
        client.mend()
        self.assertEqual(told, ["json.info_0000000000"])

    def test_answer_that_was_lost_does_not_make_a_second_node(self) -> None:
        client = self.ensemble.client()
        told: list[str | None] = []
        contender = Contender(client, self.clock, PATH, data(5050), told.append)
        self.successResultOf(client.connect())
        self.successResultOf(client.create_path(PATH))
        create = client.create

        def create_and_lose(*args: Any, **kwargs: Any) -> Any:
            self.successResultOf(create(*args, **kwargs))
            client.create = create
            never: Deferred[str] = Deferred()
            client._waiting.add(never)
            return never

        client.create = create_and_lose
        contender.start()
        self.assertEqual(told, [])
        client.cut()
        client.mend()
        self.clock.advance(1)
        self.assertEqual(told, ["json.info_0000000000"])
        self.assertEqual(len(self.nodes()), 1)

    def test_server_that_is_behind_is_not_asked_what_is_there_before_it_has_caught_up(self) -> None:
        first, client, _ = self.contender(5050)
        first.stop()
        told: list[str | None] = []
        multi, get_children = client.multi, client.get_children
        behind = True

        def catch_up(operations: Any) -> Any:
            nonlocal behind
            behind = False
            return multi(operations)

        client.multi = catch_up
        client.get_children = lambda path: succeed([]) if behind else get_children(path)
        Contender(client, self.clock, PATH, data(5050), told.append).start()
        self.assertEqual(told, ["json.info_0000000000"])
        self.assertEqual(len(self.nodes()), 1)

    def test_node_that_an_operator_deletes_is_made_again(self) -> None:
        contender, client, told = self.contender(5050)
        self.successResultOf(client.delete(f"{PATH}/{contender.node}"))
        self.assertEqual(told, ["json.info_0000000000", None, "json.info_0000000001"])

    def test_stopped_contender_stands_no_more(self) -> None:
        contender, client, told = self.contender(5050)
        contender.stop()
        client.expire()
        self.assertEqual(told, ["json.info_0000000000"])
        self.assertEqual(self.nodes(), [])


class DetectorTests(ZooKeeperTestCase):
    """Who leads is told when it is another one."""

    def test_nothing_is_dialled_before_somebody_asks(self) -> None:
        detector, client = self.detector()
        self.assertFalse(client.connected)
        self.successResultOf(detector.close())

    def test_leader_that_is_there(self) -> None:
        self.contender(5050)
        self.contender(5051)
        detector, _ = self.detector()
        self.assertEqual(self.successResultOf(detector.detect(None)), "127.0.0.1:5050")
        assert detector.leader is not None
        self.assertEqual(detector.leader.epoch, 1)

    def test_leader_that_is_awaited_from_before_the_path_is_there(self) -> None:
        detector, _ = self.detector()
        found = detector.detect(None)
        self.assertNoResult(found)
        self.contender(5050)
        self.assertEqual(self.successResultOf(found), "127.0.0.1:5050")

    def test_leader_is_followed(self) -> None:
        _, first, _ = self.contender(5050)
        _, second, _ = self.contender(5051)
        detector, _ = self.detector()
        leader = self.successResultOf(detector.detect(None))
        found = detector.detect(leader)
        self.assertNoResult(found)
        first.close()
        self.assertEqual(self.successResultOf(found), "127.0.0.1:5051")
        found = detector.detect("127.0.0.1:5051")
        second.close()
        self.assertEqual(self.successResultOf(found), None)

    def test_other_nodes_are_passed_over(self) -> None:
        self.contender(5050)
        for name in ("log_replicas", "mesoskit_registry", "other_0000000000"):
            self.ensemble.make(f"{PATH}/{name}", b"")
        detector, _ = self.detector()
        self.assertEqual(self.successResultOf(detector.detect(None)), "127.0.0.1:5050")

    def test_lost_connection_changes_nothing_until_it_is_back(self) -> None:
        _, first, _ = self.contender(5050)
        self.contender(5051)
        detector, client = self.detector()
        found = detector.detect(self.successResultOf(detector.detect(None)))
        client.cut()
        first.close()
        self.clock.advance(100)
        self.assertNoResult(found)
        client.mend()
        self.assertEqual(self.successResultOf(found), "127.0.0.1:5051")

    def test_servers_that_do_not_answer_for_a_while(self) -> None:
        _, first, _ = self.contender(5050)
        self.contender(5051)
        detector, client = self.detector()
        found = detector.detect(self.successResultOf(detector.detect(None)))
        client.freeze()
        first.close()
        self.clock.pump([5.0] * 10)
        self.assertNoResult(found)
        client.thaw()
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.successResultOf(found), "127.0.0.1:5051")

    def test_leader_that_cannot_be_read_is_none(self) -> None:
        self.ensemble.make(PATH, b"")
        self.ensemble.make(f"{PATH}/json.info_", b"nonsense", sequence=True)
        self.contender(5051)
        detector, _ = self.detector()
        found = detector.detect(None)
        self.assertNoResult(found)
        self.ensemble.remove(f"{PATH}/json.info_0000000000", -1)
        self.assertEqual(self.successResultOf(found), "127.0.0.1:5051")

    def test_closing_and_cancelling_end_the_waiting(self) -> None:
        detector, client = self.detector()
        one, other = detector.detect(None), detector.detect(None)
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertNoResult(other)
        self.successResultOf(detector.close())
        self.failureResultOf(other, CancelledError)
        self.failureResultOf(detector.detect(None), CancelledError)
        self.assertFalse(client.connected)

    def test_address_is_what_the_detector_was_told_to_make(self) -> None:
        self.contender(5050)
        detector = ZooKeeperDetector(
            self.ensemble.client(), self.clock, PATH, lambda leader: f"x:{leader.info.port}"
        )
        self.assertEqual(self.successResultOf(detector.detect(None)), "x:5050")
