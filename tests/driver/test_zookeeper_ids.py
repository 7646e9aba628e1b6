"""A framework's id in ZooKeeper."""

from __future__ import annotations

from typing import Any

from mesoskit.cluster.ensemble import Unavailable
from mesoskit.driver.identity import FileIds, id_store
from mesoskit.driver.settings import DriverSettings
from mesoskit.driver.zookeeper_ids import ZooKeeperIds
from mesoskit.testing.zookeeper import MemoryEnsemble
from mesoskit.wire.endpoints import EndpointError
from tests.driver.peers import FRAMEWORK_ID, FrameworkCase

PATH = "/frameworks/mine"


class ZooKeeperIdsTests(FrameworkCase):
    """Kept in a node, found by another program."""

    def setUp(self) -> None:
        super().setUp()
        self.ensemble = MemoryEnsemble(self.host)
        self.clients: list[Any] = []
        self.reachable = True
        self.ids = ZooKeeperIds(self.client, PATH, "zk://somewhere")

    def client(self) -> Any:
        client = self.ensemble.client()
        if not self.reachable:
            client.cut()
        self.clients.append(client)
        return client

    def test_kept_read_and_forgotten(self) -> None:
        self.assertEqual("", self.successResultOf(self.ids.read()))
        self.successResultOf(self.ids.write("f-1"))
        self.assertEqual(b"f-1", self.ensemble.nodes[PATH].data)
        self.successResultOf(self.ids.write("f-2"))
        self.assertEqual("f-2", self.successResultOf(self.ids.read()))
        self.successResultOf(self.ids.forget())
        self.successResultOf(self.ids.forget())
        self.assertNotIn(PATH, self.ensemble.nodes)
        self.assertEqual("", self.successResultOf(self.ids.read()))

    def test_no_session_is_left(self) -> None:
        self.successResultOf(self.ids.write("f-1"))
        for client in self.clients:
            self.failureResultOf(client.get(PATH), Unavailable)

    def test_one_thing_after_the_other(self) -> None:
        self.reachable = False
        written = self.ids.write("f-1")
        self.reachable = True
        forgotten = self.ids.forget()
        self.assertNoResult(forgotten)
        self.clients[0].mend()
        self.successResultOf(written)
        self.successResultOf(forgotten)
        self.assertNotIn(PATH, self.ensemble.nodes)

    def test_a_framework_comes_back_on_another_machine(self) -> None:
        first = self.framework(id_file=self.ids)
        self.assertEqual(FRAMEWORK_ID, self.ensemble.nodes[PATH].data.decode())
        first.stopService()
        self.advance()
        second = self.framework(id_file=self.ids)
        self.assertEqual(FRAMEWORK_ID, self.master.said[-3].framework_id.value)
        second.teardown()
        self.advance()
        self.assertNotIn(PATH, self.ensemble.nodes)

    def test_it_waits_for_zookeeper(self) -> None:
        self.reachable = False
        framework = self.framework(id_file=self.ids)
        self.advance(100)
        self.assertEqual(0, self.master.links)
        self.reachable = True
        self.advance(60)
        self.assertTrue(framework.subscribed)

    def test_an_id_that_could_not_be_written_is_written_later(self) -> None:
        reads = self.ids.read()
        self.successResultOf(reads)
        self.patch(self.ids, "read", lambda: "")
        self.reachable = False
        framework = self.framework(id_file=self.ids)
        self.assertTrue(framework.subscribed)
        self.assertNotIn(PATH, self.ensemble.nodes)
        self.reachable = True
        self.advance(60)
        self.assertEqual(FRAMEWORK_ID, self.ensemble.nodes[PATH].data.decode())

    def test_teardown_does_not_wait_for_ever(self) -> None:
        framework = self.framework(id_file=self.ids)
        self.reachable = False
        done = framework.teardown()
        self.advance(1)
        self.assertNoResult(done)
        self.advance(5)
        self.successResultOf(done)


class PlaceTests(FrameworkCase):
    """What C{id_file} may be."""

    def test_places(self) -> None:
        settings = DriverSettings()
        self.assertIsInstance(id_store(self.host, "ids/mine", settings), FileIds)
        kept = id_store(self.host, "zk://ops:s3cret@h1:2181,h2:2181/frameworks/mine", settings)
        self.assertIsInstance(kept, ZooKeeperIds)
        self.assertEqual("zk://ops:***@h1:2181,h2:2181/frameworks/mine", str(kept))
        self.assertIs(kept, id_store(self.host, kept, settings))
        self.assertIsNone(id_store(self.host, None, settings))
        with self.assertRaises(EndpointError) as caught:
            id_store(self.host, "zk://ops:s3cret@h1:2181", settings)
        self.assertNotIn("s3cret", str(caught.exception))
