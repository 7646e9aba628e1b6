"""Secrets within messages, and how messages are shown without them.

Frameworks put secrets into environments, volumes and the configuration of images
(C{mesos.v1.Secret}). Tasks get them; pages, streams and reports have no use for them.
"""

from functools import cache
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from mesoskit.messages.mesos_pb2 import CommandInfo, Secret

M = TypeVar("M", bound=Message)

_SECRET: Final = Secret.DESCRIPTOR

UNRESOLVED: Final = "Default secret resolver cannot resolve references"
"""Mesos' words for a secret that is said to be somewhere else (C{src/secret/resolver.cpp})."""


def hide_secrets(message: Message) -> bool:
    """Take the values of all secrets out of a message; return whether there were any."""
    return _visit(message, True)


def shown(message: M) -> M:
    """Return a message as it may be shown: itself, or a copy where there are secrets in it."""
    if not _visit(message, False):
        return message
    copy = message.__class__()
    copy.CopyFrom(message)
    hide_secrets(copy)
    return copy


def unresolved(command: CommandInfo) -> str:
    """Say which variable of a command's environment is a secret that is not there; or nothing."""
    if not command.HasField("environment"):
        return ""
    for variable in command.environment.variables:
        if variable.HasField("secret") and not variable.secret.HasField("value"):
            return f"Environment variable '{variable.name}': {UNRESOLVED}"
    return ""


def _visit(message: Any, hide: bool) -> bool:
    found = False
    for field, many in _ways(message.DESCRIPTOR):
        if many:
            inner = getattr(message, field)
        elif message.HasField(field):
            inner = (getattr(message, field),)
        else:
            continue
        for one in inner:
            if one.DESCRIPTOR is not _SECRET:
                found = _visit(one, hide) or found
            elif one.HasField("value"):
                found = True
                if hide:
                    one.ClearField("value")
        if found and not hide:
            return True
    return found


@cache
def _ways(descriptor: Descriptor) -> tuple[tuple[str, bool], ...]:
    """Return the fields of a message under which there may be secrets, and which are repeated."""
    return tuple(
        (field.name, field.is_repeated)
        for field in descriptor.fields
        if field.message_type is not None and _leads(field.message_type, frozenset())
    )


def _leads(descriptor: Descriptor, above: frozenset[str]) -> bool:
    if descriptor is _SECRET:
        return True
    if descriptor.full_name in above:
        return False
    above = above | {descriptor.full_name}
    return any(
        field.type == FieldDescriptor.TYPE_MESSAGE
        and field.message_type is not None
        and _leads(field.message_type, above)
        for field in descriptor.fields
    )
