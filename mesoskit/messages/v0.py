"""The three places where Mesos' older, unversioned messages are not the bytes of mesos.v1.

Everywhere else C{mesos.X} and C{mesos.v1.X} have the same numbers and types, and one class reads
both. Here are the exceptions:

 - C{mesos.scheduler.Call.Subscribe} has a field C{force} that v1 dropped, and numbers the fields
   after it otherwise: L{decode_call}, L{encode_call};
 - C{mesos.SlaveInfo} has a field C{checkpoint} that v1 dropped: L{agent_checkpoints},
   L{set_agent_checkpoints};
 - C{mesos.master.Call.DrainAgent.max_grace_period} is a C{DurationInfo}, in v1 a
   C{google.protobuf.Duration}: L{duration_from_info}, L{duration_to_info}.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.unknown_fields import UnknownFieldSet

from mesoskit.messages.codec import Malformed, decode_as, encode
from mesoskit.messages.mesos_pb2 import AgentInfo, DurationInfo
from mesoskit.messages.scheduler_pb2 import Call

#: The name of a scheduler's call on the libprocess wire.
CALL: Final = "mesos.scheduler.Call"

# Of the v0 Subscribe, by number: framework_info 1, force 2, suppressed_roles 3,
# offer_constraints 4; v1 has the same ones but force as 1, 2, 3.
_V0_FORCE: Final = 2
_V1_FROM_V0: Final = {1: 1, 3: 2, 4: 3}
_V0_FROM_V1: Final = {new: old for old, new in _V1_FROM_V0.items()}

_CHECKPOINT: Final = 7

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5

_NANOSECONDS: Final = 1_000_000_000


# Scheduler calls


def decode_call(data: bytes) -> tuple[Call, bool]:
    """Return the call in C{data}, the bytes of a C{mesos.scheduler.Call}, and its C{force}.

    C{force} is false where the call is not a SUBSCRIBE or does not say. Raises L{Malformed}.
    """
    force = False
    pieces = []
    try:
        for field in _fields(data):
            if field.number != Call.SUBSCRIBE_FIELD_NUMBER or field.wire_type != _BYTES:
                pieces.append(field.raw)
                continue
            renumbered = []
            for inner in _fields(field.payload):
                if inner.number == _V0_FORCE and inner.wire_type == _VARINT:
                    force = any(byte & 0x7F for byte in inner.payload)
                else:
                    number = _V1_FROM_V0.get(inner.number, inner.number)
                    renumbered.append(_tagged(number, inner))
            pieces.append(_delimited(Call.SUBSCRIBE_FIELD_NUMBER, b"".join(renumbered)))
        return decode_as(Call, b"".join(pieces)), force
    except _NotFields as error:
        raise Malformed(CALL, str(error)) from None
    except Malformed as error:
        raise Malformed(CALL, error.reason) from None


def encode_call(call: Call, force: bool | None = None) -> bytes:
    """Return the call as the bytes of a C{mesos.scheduler.Call}.

    C{force} only counts in a SUBSCRIBE; C{None} leaves it unsaid. Raises L{Malformed} if required
    fields are missing.
    """
    data = encode(call)
    if not call.HasField("subscribe"):
        return data
    pieces = []
    for field in _fields(data):
        if field.number != Call.SUBSCRIBE_FIELD_NUMBER:
            pieces.append(field.raw)
            continue
        renumbered = []
        for inner in _fields(field.payload):
            number = _V0_FROM_V1.get(inner.number, inner.number)
            renumbered.append((number, _tagged(number, inner)))
        if force is not None:
            renumbered.append((_V0_FORCE, _varint(_V0_FORCE << 3 | _VARINT) + _varint(force)))
        # protobuf's own order, by number; the sort keeps the order of repeated ones.
        renumbered.sort(key=lambda item: item[0])
        body = b"".join(piece for _, piece in renumbered)
        pieces.append(_delimited(Call.SUBSCRIBE_FIELD_NUMBER, body))
    return b"".join(pieces)


class _NotFields(ValueError):
    """These bytes are no sequence of protobuf fields."""


class _Field(NamedTuple):
    """One field as it stands in the bytes.

    C{payload} is what follows the tag and, in a delimited field, the length; C{raw} is all of it.
    """

    number: int
    wire_type: int
    payload: bytes
    raw: bytes


def _fields(data: bytes) -> Iterator[_Field]:
    position = 0
    while position < len(data):
        start = position
        tag, position = _read_varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        payload_start = position
        if wire_type == _VARINT:
            _, position = _read_varint(data, position)
        elif wire_type == _FIXED64:
            position += 8
        elif wire_type == _BYTES:
            length, payload_start = _read_varint(data, position)
            position = payload_start + length
        elif wire_type == _FIXED32:
            position += 4
        else:
            raise _NotFields(f"field {number} has wire type {wire_type}, which Mesos never uses")
        if position > len(data):
            raise _NotFields(f"field {number} ends behind the end of the message")
        yield _Field(number, wire_type, data[payload_start:position], data[start:position])


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _NotFields("an integer does not end")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _tagged(number: int, field: _Field) -> bytes:
    """Return the field under another number."""
    if field.wire_type == _BYTES:
        return _delimited(number, field.payload)
    return _varint(number << 3 | field.wire_type) + field.payload


def _delimited(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload


# Agents


def agent_checkpoints(info: AgentInfo) -> bool:
    """Return whether this agent said that it keeps what it runs across restarts.

    v1 has no such field since every agent of that age does; an agent that does not say is taken
    by its word, as Mesos' master takes it.
    """
    checkpoints = False
    # The published types do not say that the set can be walked.
    for field in UnknownFieldSet(info):  # type: ignore[attr-defined]
        if field.field_number == _CHECKPOINT and field.wire_type == _VARINT:
            checkpoints = bool(field.data)
    return checkpoints


def set_agent_checkpoints(info: AgentInfo, checkpoints: bool = True) -> None:
    """Make this agent say, in the messages of the older family, that it keeps what it runs."""
    # Of several, the last one counts.
    info.MergeFromString(_varint(_CHECKPOINT << 3 | _VARINT) + _varint(checkpoints))


# Spans of time


def duration_from_info(info: DurationInfo) -> Duration:
    """Return the same span in Google's form, which v1 uses where an agent is to be drained."""
    seconds, nanos = divmod(abs(info.nanoseconds), _NANOSECONDS)
    sign = -1 if info.nanoseconds < 0 else 1
    return Duration(seconds=sign * seconds, nanos=sign * nanos)


def duration_to_info(duration: Duration) -> DurationInfo:
    """Return the same span as Mesos' other messages have it.

    Raises L{ValueError} if it is more nanoseconds than fit, about 292 years.
    """
    return DurationInfo(nanoseconds=duration.seconds * _NANOSECONDS + duration.nanos)
