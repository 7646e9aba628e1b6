"""The three differences between the older messages and v1."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from mesoskit.messages import codec, v0
from mesoskit.messages.authentication_pb2 import AuthenticationMechanismsMessage
from mesoskit.messages.internal_pb2 import (
    FrameworkRegisteredMessage,
    PingSlaveMessage,
    PongSlaveMessage,
    RegisterSlaveMessage,
)
from mesoskit.messages.mesos_pb2 import (
    AgentInfo,
    DurationInfo,
    FrameworkID,
    FrameworkInfo,
    MasterInfo,
)
from mesoskit.messages.scheduler_pb2 import Call, OfferConstraints
from tests.base import SynchronousTestCase

# Written by protoc from Mesos' own .proto files.
SUBSCRIBE = bytes.fromhex("10011a0e0a0c0a04726f6f74120464656d6f")
SUBSCRIBE_AGAIN_V0 = bytes.fromhex(
    "0a080a06662d3030303010011a1a0a160a04726f6f74120464656d6f1a080a06662d303030301001"
)
REGISTERED = bytes.fromhex(
    "0a080a06662d3030303012220a016610ff80800818ba2722156d6173746572403132372e302e302e313a35303530"
)


def subscribe(again: bool = False) -> Call:
    """Return a SUBSCRIBE; C{again}: of a framework that has its id."""
    call = Call(type=Call.SUBSCRIBE)
    info = call.subscribe.framework_info
    info.user = "root"
    info.name = "demo"
    if again:
        info.id.value = call.framework_id.value = "f-0000"
    return call


class CallTests(SynchronousTestCase):
    """C{mesos.scheduler.Call} to and from its v1 form."""

    def test_without_what_differs_the_bytes_are_the_same(self) -> None:
        self.assertEqual(codec.encode(subscribe()), SUBSCRIBE)
        self.assertEqual(v0.encode_call(subscribe()), SUBSCRIBE)
        self.assertEqual(v0.decode_call(SUBSCRIBE), (subscribe(), False))

    def test_force(self) -> None:
        self.assertEqual(v0.decode_call(SUBSCRIBE_AGAIN_V0), (subscribe(again=True), True))
        self.assertEqual(v0.encode_call(subscribe(again=True), force=True), SUBSCRIBE_AGAIN_V0)

    def test_force_that_is_false(self) -> None:
        data = v0.encode_call(subscribe(), force=False)
        self.assertEqual(data, bytes.fromhex("1001 1a10 0a0c0a04726f6f74120464656d6f 1000"))
        self.assertEqual(v0.decode_call(data), (subscribe(), False))

    def test_roles_and_constraints_change_their_numbers(self) -> None:
        call = subscribe()
        call.subscribe.suppressed_roles.extend(["a", "b"])
        constraint = OfferConstraints.RoleConstraints(groups=[{}])
        call.subscribe.offer_constraints.role_constraints["a"].CopyFrom(constraint)
        data = v0.encode_call(call, force=True)
        self.assertEqual(
            data,
            bytes.fromhex(
                "1001 1a21"
                "0a0c0a04726f6f74120464656d6f"  # 1 framework_info
                "1001"  # 2 force
                "1a0161 1a0162"  # 3 suppressed_roles
                "2209 0a07 0a0161 1202 0a00"  # 4 offer_constraints
            ),
        )
        self.assertEqual(v0.decode_call(data), (call, True))

    def test_other_calls_are_the_same_in_both(self) -> None:
        call = Call(type=Call.DECLINE, framework_id=FrameworkID(value="f"))
        call.decline.offer_ids.add().value = "o"
        data = codec.encode(call)
        self.assertEqual(v0.encode_call(call), data)
        self.assertEqual(v0.decode_call(data), (call, False))

    def test_unknown_fields_are_kept(self) -> None:
        unknown = bytes.fromhex("a00601 a90601020304050607 08 ad0601020304")
        data = SUBSCRIBE + unknown
        call, _ = v0.decode_call(data)
        self.assertEqual(codec.encode(call), data)
        self.assertEqual(v0.encode_call(call), data)

    def test_incomplete_call_is_refused(self) -> None:
        data = bytes.fromhex("1001 1a05 0a03 0a0172")
        with self.assertRaises(codec.Malformed) as caught:
            v0.decode_call(data)
        self.assertEqual(caught.exception.name, "mesos.scheduler.Call")
        self.assertIn("subscribe.framework_info.name", caught.exception.reason)
        with self.assertRaises(codec.Malformed):
            v0.encode_call(Call(subscribe=Call.Subscribe()))

    def test_whatever_is_cut_is_refused(self) -> None:
        """Every beginning of a call that does not end between two fields."""
        ends = {0, 10, 12, len(SUBSCRIBE_AGAIN_V0)}
        for end in range(len(SUBSCRIBE_AGAIN_V0)):
            if end not in ends:
                with self.assertRaises(codec.Malformed, msg=f"cut at {end}"):
                    v0.decode_call(SUBSCRIBE_AGAIN_V0[:end])

    def test_nonsense_is_refused(self) -> None:
        for data in (b"\x1b", b"\x80" * 20, b"\x1a\x02\x0b\x00", b"\x19\x00"):
            with self.assertRaises(codec.Malformed):
                v0.decode_call(data)


class CheckpointTests(SynchronousTestCase):
    """The agent's word that it keeps what it runs."""

    def test_unsaid_is_false(self) -> None:
        self.assertFalse(v0.agent_checkpoints(AgentInfo(hostname="h")))

    def test_said(self) -> None:
        info = AgentInfo(hostname="h", port=1)
        v0.set_agent_checkpoints(info)
        self.assertTrue(v0.agent_checkpoints(info))
        self.assertEqual(info.SerializeToString(), bytes.fromhex("0a0168 4001 3801"))

    def test_last_word_counts(self) -> None:
        info = AgentInfo(hostname="h")
        v0.set_agent_checkpoints(info)
        v0.set_agent_checkpoints(info, False)
        self.assertFalse(v0.agent_checkpoints(info))
        read = codec.decode_as(AgentInfo, codec.encode(info))
        self.assertFalse(v0.agent_checkpoints(read))

    def test_survives_the_way(self) -> None:
        message = RegisterSlaveMessage(slave=AgentInfo(hostname="h"))
        v0.set_agent_checkpoints(message.slave)
        read = codec.decode_as(RegisterSlaveMessage, codec.encode(message))
        self.assertTrue(v0.agent_checkpoints(read.slave))


class DurationTests(SynchronousTestCase):
    """The two forms of a span of time."""

    def test_there_and_back(self) -> None:
        for nanoseconds, seconds, nanos in (
            (0, 0, 0),
            (1, 0, 1),
            (600_000_000_000, 600, 0),
            (1_500_000_000, 1, 500_000_000),
            (-1_500_000_000, -1, -500_000_000),
        ):
            info = DurationInfo(nanoseconds=nanoseconds)
            duration = Duration(seconds=seconds, nanos=nanos)
            self.assertEqual(v0.duration_from_info(info), duration)
            self.assertEqual(v0.duration_to_info(duration), info)

    def test_too_long(self) -> None:
        with self.assertRaises(ValueError):
            v0.duration_to_info(Duration(seconds=1 << 40))


class VectorTests(SynchronousTestCase):
    """Messages that are the same in both families, against bytes that Mesos' protos gave."""

    def test_framework_registered(self) -> None:
        message = FrameworkRegisteredMessage(
            framework_id=FrameworkID(value="f-0000"),
            master_info=MasterInfo(id="f", ip=16777343, port=5050, pid="master@127.0.0.1:5050"),
        )
        self.assertEqual(codec.encode(message), REGISTERED)
        self.assertEqual(
            codec.decode("mesos.internal.FrameworkRegisteredMessage", REGISTERED), message
        )

    def test_ping_and_pong(self) -> None:
        self.assertEqual(codec.encode(PingSlaveMessage(connected=True)), b"\x08\x01")
        self.assertEqual(codec.encode(PongSlaveMessage()), b"")

    def test_mechanisms(self) -> None:
        message = AuthenticationMechanismsMessage(mechanisms=["CRAM-MD5"])
        self.assertEqual(codec.encode(message), bytes.fromhex("0a084352414d2d4d4435"))

    def test_framework_info(self) -> None:
        info = FrameworkInfo(user="root", name="demo")
        self.assertEqual(codec.encode(info), SUBSCRIBE[6:])
