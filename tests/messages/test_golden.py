"""Every message that was recorded from a real cluster is read, and written as it was."""

from __future__ import annotations

from collections import Counter

import orjson
from google.protobuf.message import Message

from mesoskit.messages import codec, v0
from mesoskit.messages.executor_pb2 import Event as ExecutorEvent
from mesoskit.messages.mesos_pb2 import AgentInfo
from mesoskit.messages.names import message_class
from tests.base import SynchronousTestCase
from tests.messages.golden import Recorded, bodies, jsons

# These hold an unversioned SlaveInfo with its field 7, C{checkpoint}. v1 has no such field, so we
# write it, like every field we do not know, behind the others: behind port (8) and domain (10).
# The bytes are the same ones, in another order; all other messages are the same byte for byte.
CARRY_CHECKPOINT = {
    "mesos.internal.RegisterSlaveMessage": "slave",
    "mesos.internal.ReregisterSlaveMessage": "slave",
    "mesos.internal.ExecutorRegisteredMessage": "slave_info",
    "mesos.internal.ExecutorReregisteredMessage": "slave_info",
    "mesos.v1.AgentInfo": "",
}


class BodyTests(SynchronousTestCase):
    """Protobuf bodies."""

    def test_read_and_written_to_the_same_bytes(self) -> None:
        seen: Counter[str] = Counter()
        for body in bodies():
            seen[body.name] += 1
            if body.name == v0.CALL:
                call, force = v0.decode_call(body.data)
                # Some drivers say that force is false, some do not say.
                written = [v0.encode_call(call, force), v0.encode_call(call, force or None)]
                self.assertIn(body.data, written, body.where)
            elif body.name in CARRY_CHECKPOINT:
                self.check_other_order(body)
            else:
                self.assertEqual(codec.encode(body.message()), body.data, body.where)
        self.assertGreater(seen.total(), 800)
        self.assertGreater(len(seen), 40)
        self.assertLessEqual({v0.CALL, *CARRY_CHECKPOINT}, set(seen))

    def check_other_order(self, body: Recorded) -> None:
        """The bytes are a rearrangement, and mean the same."""
        message = body.message()
        field = CARRY_CHECKPOINT[body.name]
        info = getattr(message, field) if field else message
        assert isinstance(info, AgentInfo)
        self.assertTrue(v0.agent_checkpoints(info), body.where)
        written = codec.encode(message)
        self.assertNotEqual(written, body.data, f"in order after all: {body.where}")
        self.assertEqual(sorted(written), sorted(body.data), body.where)
        self.assertEqual(codec.decode_as(type(message), written), message, body.where)

    def test_nothing_but_checkpoint_is_unknown_to_us(self) -> None:
        for body in bodies():
            message = body.message()
            carries = body.name in CARRY_CHECKPOINT or (
                # Mesos makes this one from the unversioned message, and keeps the field.
                isinstance(message, ExecutorEvent) and message.HasField("subscribed")
            )
            before = len(codec.encode(message))
            message.DiscardUnknownFields()
            # The tag and the value of one bool.
            lost = before - len(codec.encode(message))
            self.assertEqual(lost, 2 if carries else 0, body.where)

    def test_json_of_every_body_reads_back(self) -> None:
        for body in bodies():
            message = body.message()
            message.DiscardUnknownFields()
            read = codec.from_json(type(message), codec.to_json(message))
            self.assertEqual(codec.to_dict(read), codec.to_dict(message), body.where)
            # Defaults are written out, so what was read has them set.
            self.assertEqual(strip_defaults(read), strip_defaults(message), body.where)


def strip_defaults(message: Message) -> Message:
    """Return a copy in which no field is set to its default."""
    copy = type(message)()
    copy.CopyFrom(message)
    _strip(copy)
    return copy


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.has_default_value and value == field.default_value:
            message.ClearField(field.name)
        elif field.message_type is None:
            continue
        elif not field.is_repeated:
            _strip(value)
        elif not field.message_type.GetOptions().map_entry:
            for item in value:
                _strip(item)


class JSONTests(SynchronousTestCase):
    """JSON bodies."""

    def test_what_mesos_wrote_we_write(self) -> None:
        by_mesos = 0
        for body in jsons():
            message = codec.from_json(message_class(body.name), body.text)
            theirs, ours = orjson.loads(body.text), orjson.loads(codec.to_json(message))
            if '": ' in body.text:
                self.assert_holds(ours, theirs, body.where)
            else:
                by_mesos += 1
                self.assertEqual(ours, theirs, body.where)
                self.assert_same_kinds(ours, theirs, body.where)
        self.assertGreater(by_mesos, 70)

    def assert_same_kinds(self, ours: object, theirs: object, where: str) -> None:
        """Integers have no point, doubles have one, and no number is a string."""
        self.assertIs(type(ours), type(theirs), where)
        if isinstance(theirs, dict):
            assert isinstance(ours, dict)
            for key, value in theirs.items():
                self.assert_same_kinds(ours[key], value, f"{where}.{key}")
        elif isinstance(theirs, list):
            assert isinstance(ours, list)
            for our, their in zip(ours, theirs, strict=True):
                self.assert_same_kinds(our, their, where)

    def assert_holds(self, ours: object, theirs: object, where: str) -> None:
        """What a script wrote lacks the defaults; all it says is in what we write."""
        if isinstance(theirs, dict):
            assert isinstance(ours, dict), where
            for key, value in theirs.items():
                if value != []:
                    self.assert_holds(ours[key], value, f"{where}.{key}")
        elif isinstance(theirs, list):
            assert isinstance(ours, list), where
            self.assertEqual(len(ours), len(theirs), where)
            for our, their in zip(ours, theirs, strict=True):
                self.assert_holds(our, their, where)
        else:
            self.assertEqual(ours, theirs, where)
