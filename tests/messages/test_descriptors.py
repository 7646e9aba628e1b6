"""Our .proto files say what Mesos' say: every name, number, type, label, default and enum value.

C{tests/data/messages.tsv} was written from Mesos' own files, one row a field or enum value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from mesoskit.messages import (
    agent_pb2,
    allocator_pb2,
    authentication_pb2,
    bulk_pb2,
    executor_pb2,
    internal_pb2,
    maintenance_pb2,
    master_pb2,
    mesos_pb2,
    quota_pb2,
    resource_provider_pb2,
    scheduler_pb2,
    stream_pb2,
)
from tests.base import SynchronousTestCase

TABLE = Path(__file__).parents[1] / "data" / "messages.tsv"

FILES = [
    agent_pb2.DESCRIPTOR,
    allocator_pb2.DESCRIPTOR,
    authentication_pb2.DESCRIPTOR,
    executor_pb2.DESCRIPTOR,
    internal_pb2.DESCRIPTOR,
    maintenance_pb2.DESCRIPTOR,
    master_pb2.DESCRIPTOR,
    mesos_pb2.DESCRIPTOR,
    quota_pb2.DESCRIPTOR,
    resource_provider_pb2.DESCRIPTOR,
    scheduler_pb2.DESCRIPTOR,
]

#: Mesos knows nothing of them.
OURS = [bulk_pb2.DESCRIPTOR, stream_pb2.DESCRIPTOR]

SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}

# The names that the older family has for two types, where v1 says agent.
RENAMED = {"SlaveID": "AgentID", "SlaveInfo": "AgentInfo"}


class Row(NamedTuple):
    """A row of the table."""

    owner: str
    name: str
    number: str
    type: str
    label: str


def table() -> list[Row]:
    """Return the rows, with our types in place of the unversioned ones."""
    lines = TABLE.read_text().splitlines()[1:]
    rows = []
    for line in lines:
        row = Row(*line.split("\t"))
        rows.append(row._replace(type=our_type(row.type)))
    return rows


def our_type(name: str) -> str:
    """Return the v1 name of an unversioned type, and any other name as it is."""
    if not name.startswith("mesos.") or name.startswith(("mesos.v1.", "mesos.internal.")):
        return name
    parts = [RENAMED.get(part, part) for part in name.split(".")[1:]]
    return ".".join(["mesos.v1", *parts])


def described(descriptor: Descriptor) -> Iterator[Row]:
    """Yield what the table would say of this message and all inside it."""
    if not descriptor.fields:
        yield Row(descriptor.full_name, "-", "-", "empty message", "")
    for field in descriptor.fields:
        yield Row(
            descriptor.full_name, field.name, str(field.number), type_name(field), label(field)
        )
    for enum in descriptor.enum_types:
        yield from described_enum(enum)
    for nested in descriptor.nested_types:
        yield from described(nested)


def described_enum(enum: EnumDescriptor) -> Iterator[Row]:
    """Yield what the table would say of this enum."""
    for value in enum.values:
        yield Row(enum.full_name, value.name, str(value.number), "enum value", "")


def type_name(field: FieldDescriptor) -> str:
    """Return the field's type as the table writes it."""
    if field.message_type is not None:
        return field.message_type.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    return SCALARS[field.type]


def label(field: FieldDescriptor) -> str:
    """Return the field's label and default as the table writes them."""
    name = "required" if field.is_required else "repeated" if field.is_repeated else "optional"
    if not field.has_default_value:
        return name
    value = field.default_value
    if field.enum_type is not None:
        text = field.enum_type.values_by_number[value].name
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{name} default={text}"


class TableTests(SynchronousTestCase):
    """The descriptors and the table say the same."""

    def setUp(self) -> None:
        self.theirs = table()
        self.ours = [
            row
            for file in FILES
            for part in (
                *map(described, file.message_types_by_name.values()),
                *map(described_enum, file.enum_types_by_name.values()),
            )
            for row in part
        ]

    def test_nothing_is_missing(self) -> None:
        self.assertEqual(sorted(set(self.theirs) - set(self.ours)), [])

    def test_nothing_is_extra(self) -> None:
        self.assertEqual(sorted(set(self.ours) - set(self.theirs)), [])

    def test_nothing_is_said_twice(self) -> None:
        self.assertEqual(len(self.ours), len(set(self.ours)))
        self.assertEqual(len(self.theirs), len(set(self.theirs)))

    def test_enum_values_are_in_order(self) -> None:
        """The first value is what an unset field of that type reads as."""

        def values(rows: list[Row]) -> dict[str, list[str]]:
            found = defaultdict(list)
            for row in rows:
                if row.type == "enum value":
                    found[row.owner].append(row.name)
            return found

        self.assertEqual(values(self.ours), values(self.theirs))

    def test_table_is_whole(self) -> None:
        """Guards the comparison itself against an empty or cut table."""
        packages = {row.owner.rpartition(".")[0] for row in self.theirs if "." in row.owner}
        self.assertGreater(len(self.theirs), 1800)
        self.assertLessEqual({"mesos.v1", "mesos.v1.scheduler", "mesos.internal"}, packages)

    def test_every_file_is_compared(self) -> None:
        """A .proto file that is added must be added here too."""
        protocols = Path(__file__).parents[2] / "protocols"
        present = {str(path.relative_to(protocols)) for path in protocols.rglob("*.proto")}
        self.assertEqual(present, {file.name for file in [*FILES, *OURS]})


class OneofTests(SynchronousTestCase):
    """What the table does not say: these fields exclude each other, as they do in Mesos."""

    def test_oneofs(self) -> None:
        found = {
            (oneof.full_name, tuple(field.name for field in oneof.fields))
            for file in FILES
            for message in file.message_types_by_name.values()
            for oneof in self.oneofs(message)
        }
        constraint = "mesos.v1.scheduler.AttributeConstraint"
        capability = "mesos.v1.Volume.Source.CSIVolume.VolumeCapability"
        self.assertEqual(
            found,
            {
                (f"{constraint}.Selector.selector", ("pseudoattribute_type", "attribute_name")),
                (
                    f"{constraint}.Predicate.predicate",
                    (
                        "exists",
                        "not_exists",
                        "text_equals",
                        "text_not_equals",
                        "text_matches",
                        "text_not_matches",
                    ),
                ),
                (f"{capability}.access_type", ("block", "mount")),
            },
        )

    def oneofs(self, message: Descriptor) -> Iterator:
        yield from message.oneofs
        for nested in message.nested_types:
            yield from self.oneofs(nested)


class StreamTests(SynchronousTestCase):
    """The native stream's envelope, whose bytes may not change under running clusters."""

    def test_heartbeat_is_an_empty_frame(self) -> None:
        self.assertEqual(stream_pb2.Frame().SerializeToString(), b"")

    def test_numbers(self) -> None:
        hello = stream_pb2.Hello(
            version=1,
            role=stream_pb2.AGENT,
            software="s",
            epoch=2,
            heartbeat_ms=3,
            token="t",
            instance="i",
        )
        self.assertEqual(
            hello.SerializeToString(),
            bytes.fromhex("0801 1002 1a0173 2002 2803 320174 3a0169"),
        )
        item = stream_pb2.Item(name="n", body=b"b", call=1, answers=2, status=3, why="w")
        self.assertEqual(
            item.SerializeToString(), bytes.fromhex("0a016e 120162 1801 2002 2803 320177")
        )
        frame = stream_pb2.Frame(items=[item], hello=hello, error="e")
        self.assertEqual(
            frame.SerializeToString(),
            b"\x0a\x0f"
            + item.SerializeToString()
            + b"\x12\x11"
            + hello.SerializeToString()
            + b"\x1a\x01e",
        )

    def test_roles(self) -> None:
        self.assertEqual(
            stream_pb2.Role.items(),
            [
                ("UNKNOWN", 0),
                ("MASTER", 1),
                ("AGENT", 2),
                ("FRAMEWORK", 3),
                ("EXECUTOR", 4),
                ("TOOL", 5),
            ],
        )
