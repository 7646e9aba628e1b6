"""Wire name <-> class of every message that can stand alone on a wire.

The wire name is the message's full protobuf name, C{mesos.v1.scheduler.Call} for instance. It is
what an item of the native stream and the path of a libprocess message carry. Messages that only
occur inside others, a C{TaskInfo} for instance, have no wire name.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesoskit.messages import (
    agent_pb2,
    authentication_pb2,
    bulk_pb2,
    executor_pb2,
    internal_pb2,
    master_pb2,
    resource_provider_pb2,
    scheduler_pb2,
)

# The files whose top-level messages travel.
_FILES: Final[tuple[FileDescriptor, ...]] = (
    scheduler_pb2.DESCRIPTOR,
    executor_pb2.DESCRIPTOR,
    master_pb2.DESCRIPTOR,
    agent_pb2.DESCRIPTOR,
    resource_provider_pb2.DESCRIPTOR,
    internal_pb2.DESCRIPTOR,
    authentication_pb2.DESCRIPTOR,
    bulk_pb2.DESCRIPTOR,
)


class UnknownMessage(LookupError):
    """No message that travels has this name or class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"no message named {self.name!r} travels on a wire"


_CLASSES: Final[dict[str, type[Message]]] = {
    descriptor.full_name: GetMessageClass(descriptor)
    for file in _FILES
    for descriptor in file.message_types_by_name.values()
}
_NAMES: Final[dict[type[Message], str]] = {cls: name for name, cls in _CLASSES.items()}


def message_class(name: str) -> type[Message]:
    """Return the class of the message with this wire name.

    Raises L{UnknownMessage} for any other name.
    """
    try:
        return _CLASSES[name]
    except KeyError:
        raise UnknownMessage(name) from None


def wire_name(message: Message) -> str:
    """Return the name that C{message} travels under.

    Raises L{UnknownMessage} if it only ever travels inside another.
    """
    try:
        return _NAMES[type(message)]
    except KeyError:
        raise UnknownMessage(message.DESCRIPTOR.full_name) from None


def wire_names() -> frozenset[str]:
    """Return every name that L{message_class} knows."""
    return frozenset(_CLASSES)
