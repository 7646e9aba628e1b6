"""The nodes of an election: their names and what they hold."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from mesoskit.cluster.leader import NotAMaster, epoch, first, number, read, to_json
from mesoskit.messages.mesos_pb2 import MasterInfo
from tests.base import SynchronousTestCase

#: As a real cluster wrote it (recording 09).
RECORDED = (
    b'{"address":{"hostname":"127.0.0.1","ip":"127.0.0.1","port":25050},"capabilities":'
    b'[{"type":"AGENT_UPDATE"},{"type":"AGENT_DRAINING"},{"type":"QUOTA_V2"}],'
    b'"hostname":"127.0.0.1","id":"b2ff7d76-a15d-4903-a8f3-e48b560716b4","ip":16777343,'
    b'"pid":"master@127.0.0.1:25050","port":25050,"version":"1.12.0"}'
)


def info() -> MasterInfo:
    recorded = MasterInfo(
        id="b2ff7d76-a15d-4903-a8f3-e48b560716b4",
        ip=16777343,
        port=25050,
        pid="master@127.0.0.1:25050",
        hostname="127.0.0.1",
        version="1.12.0",
    )
    recorded.address.hostname = recorded.address.ip = "127.0.0.1"
    recorded.address.port = 25050
    for kind in (
        MasterInfo.Capability.AGENT_UPDATE,
        MasterInfo.Capability.AGENT_DRAINING,
        MasterInfo.Capability.QUOTA_V2,
    ):
        recorded.capabilities.add(type=kind)
    return recorded


class NodeTests(SynchronousTestCase):
    """Mesos' own nodes are read, and ours are like them."""

    def test_what_is_written_is_what_mesos_writes(self) -> None:
        self.assertEqual(to_json(info()), RECORDED)

    def test_who_leads_has_the_lowest_number(self) -> None:
        for names, leads in (
            ([], None),
            (["log_replicas", "mesoskit_registry"], None),
            (["json.info_0000000012", "json.info_0000000003"], "json.info_0000000003"),
            (["json.info_0000000012", "info_0000000004"], "info_0000000004"),
            (["0000000001", "json.info_0000000012"], "0000000001"),
            (["yaml.info_0000000001", "json.info_0000000012"], "json.info_0000000012"),
            (["json.info_12", "json.info_00000000001"], None),
        ):
            self.assertEqual(first(names), leads)

    def test_epochs_grow_with_numbers_and_are_never_0(self) -> None:
        self.assertEqual(epoch("json.info_0000000000"), 1)
        self.assertEqual(epoch("json.info_0000000041"), 42)
        self.assertEqual(number("log_replicas"), None)
        self.assertRaises(NotAMaster, epoch, "log_replicas")

    def test_node_as_mesos_wrote_it(self) -> None:
        leader = read("json.info_0000000001", RECORDED)
        self.assertEqual((leader.epoch, leader.address), (2, "127.0.0.1:25050"))
        self.assertEqual(leader.info.id, "b2ff7d76-a15d-4903-a8f3-e48b560716b4")

    def test_node_of_a_later_release(self) -> None:
        later = orjson.loads(RECORDED)
        later["capabilities"].append({"type": "TELEPATHY"})
        later["mood"] = "good"
        leader = read("json.info_0000000001", orjson.dumps(later))
        self.assertEqual(leader.address, "127.0.0.1:25050")

    def test_nodes_of_earlier_releases(self) -> None:
        old = MasterInfo(id="a", ip=16777343, port=5050)
        for name, data in (
            ("info_0000000001", old.SerializeToString()),
            ("json.info_0000000001", b'{"id":"a","ip":16777343,"port":5050}'),
            ("0000000001", b"master@127.0.0.1:5050"),
        ):
            leader = read(name, data)
            self.assertEqual(leader.address, "127.0.0.1:5050")
            self.assertEqual(leader.info.hostname, "127.0.0.1")
            self.assertEqual(leader.info.address.hostname, "127.0.0.1")

    def test_what_describes_no_master_is_said_to(self) -> None:
        for name, data in (
            ("json.info_0000000001", b"nonsense"),
            ("json.info_0000000001", b"[]"),
            ("json.info_0000000001", b'{"id": "a"}'),
            ("json.info_0000000001", b'{"id":"a","ip":16777343,"port":0}'),
            ("info_0000000001", b"\xff\xff"),
            ("0000000001", b"nobody"),
            ("0000000001", b"master@127.0.0.1:x"),
        ):
            with self.assertRaises(NotAMaster) as caught:
                read(name, data)
            self.assertIn(name, str(caught.exception))

    def test_any_bytes_are_read_or_refused(self) -> None:
        @given(
            st.sampled_from(["json.info_0000000001", "info_0000000001", "0000000001"]),
            st.binary(max_size=60),
        )
        def holds(name: str, data: bytes) -> None:
            try:
                leader = read(name, data)
            except NotAMaster:
                return
            self.assertGreater(leader.info.address.port, 0)

        holds()
