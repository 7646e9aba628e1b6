"""Bytes <-> message: what is refused, and how that is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesoskit.messages import codec
from mesoskit.messages.codec import Malformed
from mesoskit.messages.internal_pb2 import PongSlaveMessage, RunTaskMessage
from mesoskit.messages.mesos_pb2 import (
    TASK_RUNNING,
    ContainerID,
    Label,
    Resource,
    TaskID,
    TaskInfo,
    TaskStatus,
    Value,
    Volume,
)
from mesoskit.messages.names import UnknownMessage, message_class, wire_names
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.messages.text import holds_only_text
from tests.base import SynchronousTestCase


def nested(depth: int) -> bytes:
    """Return the bytes of a container id with so many parents."""
    data = b"\x0a\x01c"
    for _ in range(depth):
        length = len(data)
        size = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
        data = b"\x0a\x01c\x12" + size + data
    return data


class DecodeTests(SynchronousTestCase):
    """L{codec.decode} and L{codec.decode_as}."""

    def refused(self, name: str, data: bytes) -> str:
        error = self.assertRaises(Malformed, codec.decode, name, data)
        self.assertEqual(error.name, name)
        self.assertEqual(str(error), f"not a {name}: {error.reason}")
        return str(error.reason)

    def test_by_name(self) -> None:
        call = Call(type=Call.REVIVE)
        read = codec.decode("mesos.v1.scheduler.Call", codec.encode(call))
        self.assertIsInstance(read, Call)
        self.assertEqual(read, call)

    def test_empty_message(self) -> None:
        self.assertEqual(codec.decode("mesos.internal.PongSlaveMessage", b""), PongSlaveMessage())

    def test_unknown_name(self) -> None:
        with self.assertRaises(UnknownMessage):
            codec.decode("mesos.v1.TaskInfo", b"")

    def test_nonsense(self) -> None:
        for data in (b"\xff", b"\x0a", b"\x0a\x05abc", b"\x00\x00", b"\x0b"):
            self.assertTrue(self.refused("mesos.v1.scheduler.Call", data))

    def test_every_missing_field_is_named(self) -> None:
        message = RunTaskMessage(task=TaskInfo(name="t", resources=[Resource(name="cpus")]))
        reason = self.refused("mesos.internal.RunTaskMessage", message.SerializePartialToString())
        start, _, fields = reason.partition(": ")
        self.assertEqual(start, "required fields are missing")
        self.assertEqual(
            set(fields.split(", ")),
            {"framework", "task.task_id", "task.agent_id", "task.resources[0].type"},
        )

    def test_too_deep(self) -> None:
        self.assertTrue(codec.decode_as(ContainerID, nested(codec.MAX_DEPTH)))
        with self.assertRaises(Malformed) as caught:
            codec.decode_as(ContainerID, nested(codec.MAX_DEPTH + 1))
        self.assertIn("Depth", caught.exception.reason)

    def test_unknown_enum_value_is_kept_aside(self) -> None:
        """A newer peer's word is not understood, and not lost when forwarded."""
        data = b"\x10\x7b"
        call = codec.decode_as(Call, data)
        self.assertFalse(call.HasField("type"))
        self.assertEqual(call.type, Call.UNKNOWN)
        self.assertEqual(codec.encode(call), data)


class TextTests(SynchronousTestCase):
    """A string in a message is text, whoever sent it."""

    def test_text_is_taken(self) -> None:
        for text in ("", "a", "ü", "任务", "\U0001f40d", "\x00"):
            self.assertEqual(codec.decode_as(TaskID, codec.encode(TaskID(value=text))).value, text)

    def test_other_bytes_are_not(self) -> None:
        for raw in (b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"ab\xf5\x80\x80\x80"):
            with self.assertRaises(Malformed) as caught:
                codec.decode_as(TaskID, b"\x0a" + bytes([len(raw)]) + raw)
            self.assertEqual(caught.exception.reason, "a string in it is not UTF-8")

    def test_however_deep(self) -> None:
        status = TaskStatus(task_id=TaskID(value="t"), state=TASK_RUNNING)
        status.labels.labels.add(key="k", value="VALUE")
        event = Event(type=Event.UPDATE, update=Event.Update(status=status))
        data = codec.encode(event)
        with self.assertRaises(Malformed):
            codec.decode("mesos.v1.scheduler.Event", data.replace(b"VALUE", b"VAL\xffE"))

    def test_in_a_repeated_field(self) -> None:
        call = Call(type=Call.REVIVE, revive=Call.Revive(roles=["a", "VALUE"]))
        data = codec.encode(call)
        with self.assertRaises(Malformed):
            codec.decode("mesos.v1.scheduler.Call", data.replace(b"VALUE", b"VAL\xffE"))

    def test_in_a_map(self) -> None:
        provisioning = Volume.Source.CSIVolume.StaticProvisioning(
            volume_id="v",
            volume_capability={"access_mode": {"mode": "SINGLE_NODE_WRITER"}},
        )
        provisioning.volume_context["KEY"] = "VALUE"
        data = codec.encode(provisioning)
        codec.decode_as(type(provisioning), data)
        for old, new in ((b"KEY", b"K\xffY"), (b"VALUE", b"VAL\xffE")):
            with self.assertRaises(Malformed):
                codec.decode_as(type(provisioning), data.replace(old, new))

    def test_every_message_that_travels_can_be_checked(self) -> None:
        for name in wire_names():
            self.assertTrue(holds_only_text(message_class(name), b""), name)

    def test_bytes_may_hold_anything(self) -> None:
        status = TaskStatus(task_id=TaskID(value="t"), state=TASK_RUNNING, uuid=b"\xff\x00\xfe")
        self.assertEqual(codec.decode_as(TaskStatus, codec.encode(status)), status)


class EncodeTests(SynchronousTestCase):
    """L{codec.encode}."""

    def test_missing_fields_are_named(self) -> None:
        with self.assertRaises(Malformed) as caught:
            codec.encode(TaskInfo(name="t"))
        self.assertEqual(caught.exception.name, "mesos.v1.TaskInfo")
        self.assertEqual(caught.exception.reason, "required fields are missing: task_id, agent_id")


texts = st.text(max_size=8)
task_ids = st.builds(TaskID, value=texts)
scalars = st.builds(Value.Scalar, value=st.floats(allow_nan=False))
integers = st.integers(min_value=0, max_value=(1 << 64) - 1)
ranges = st.builds(
    Value.Ranges, range=st.lists(st.builds(Value.Range, begin=integers, end=integers), max_size=3)
)
resources = st.builds(Resource, name=texts, type=st.just(Value.SCALAR), scalar=scalars) | st.builds(
    Resource, name=texts, type=st.just(Value.RANGES), ranges=ranges
)
labels = st.lists(st.builds(Label, key=texts, value=st.none() | texts), max_size=3)
statuses = st.builds(
    TaskStatus,
    task_id=task_ids,
    state=st.sampled_from([0, 1, 2, 3, 4, 5, 6, 13]),
    uuid=st.none() | st.binary(max_size=16),
    timestamp=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    healthy=st.none() | st.booleans(),
    message=st.none() | texts,
    labels=st.builds(dict, labels=labels),
)
tasks = st.builds(
    TaskInfo,
    name=texts,
    task_id=task_ids,
    agent_id=st.builds(dict, value=texts),
    resources=st.lists(resources, max_size=4),
    limits=st.dictionaries(texts, scalars, max_size=3),
    data=st.none() | st.binary(max_size=20),
)


class RoundTripTests(SynchronousTestCase):
    """What is written is read as it was, as bytes and as JSON."""

    @given(statuses | tasks)
    def test_bytes(self, message: TaskStatus | TaskInfo) -> None:
        self.assertEqual(codec.decode_as(type(message), codec.encode(message)), message)

    @given(statuses | tasks)
    def test_json(self, message: TaskStatus | TaskInfo) -> None:
        self.assertEqual(codec.from_json(type(message), codec.to_json(message)), message)

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            call = codec.decode_as(Call, data)
        except Malformed:
            return
        codec.to_json(call)
        codec.encode(call)
