"""Whether the strings in a message's bytes are UTF-8.

protobuf checks that for C{proto3} and later, and for C{proto2}, which Mesos' messages are written
in, it does not: a string field then reads as C{bytes}, and an id is no C{str}. Walking a parsed
message in Python would cost many times what parsing it does, so the same descriptors are built a
second time here, in a pool of their own and as an edition that checks, and the bytes are parsed
once more by these: the price of another parse, and only for bytes that are not plain ASCII.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    Edition,
    FeatureSet,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

_POOL: Final = DescriptorPool()
_ADDED: Final[set[str]] = set()
_CHECKING: Final[dict[type[Message], type[Message]]] = {}


def holds_only_text(cls: type[Message], data: bytes) -> bool:
    """Return whether every string in C{data}, which parses as a C{cls}, is UTF-8."""
    checking = _CHECKING.get(cls)
    if checking is None:
        _add(cls.DESCRIPTOR.file.name)
        found = _POOL.FindMessageTypeByName(cls.DESCRIPTOR.full_name)
        checking = _CHECKING[cls] = GetMessageClass(found)
    try:
        checking.FromString(data)
    except DecodeError:
        return False
    return True


def _add(name: str) -> None:
    """Add the file of this name, and first those it imports, in the form that checks."""
    if name in _ADDED:
        return
    file = Default().FindFileByName(name)
    for dependency in file.dependencies:
        _add(dependency.name)
    description = FileDescriptorProto()
    file.CopyToProto(description)
    description.syntax = "editions"
    description.edition = Edition.EDITION_2023
    description.options.Clear()
    description.options.features.utf8_validation = FeatureSet.VERIFY
    description.options.features.enum_type = FeatureSet.CLOSED
    for message in description.message_type:
        _relax(message)
    _POOL.Add(description)
    _ADDED.add(name)


def _relax(message: DescriptorProto) -> None:
    """Take out what an edition may not say and what this check does not ask about."""
    for field in message.field:
        field.ClearField("options")
        if field.label == FieldDescriptorProto.LABEL_REQUIRED:
            field.label = FieldDescriptorProto.LABEL_OPTIONAL
    for nested in message.nested_type:
        _relax(nested)
