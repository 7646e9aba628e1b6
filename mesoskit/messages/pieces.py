"""Big messages written in pieces, as bytes or as JSON, so that nobody waits for the whole.

A message is described by a tree: a dict from its fields' names to what is in them, which is a
dict again for a message, a L{Many} for a list of messages, or a number, text or name of an enum.
The members of a list are made one at a time, when their turn comes. In JSON every list is
written, the empty ones too, in the order of the tree, as Mesos writes its big answers
(C{jsonify} in C{src/master/readonly_handler.cpp}).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesoskit.messages.codec import encode, to_json

_SLICE: Final = 8
"""So many members of a list are written between two pieces."""


@dataclass(slots=True, frozen=True)
class Many:
    """
    A list of messages.

    @ivar make: makes the message of one of them.
    @ivar items: what they are made of.
    """

    make: Callable[[Any], Message]
    items: Sequence[Any]


Tree = Mapping[str, Any]


def json_pieces(tree: Tree, write: Callable[[Message], bytes] = to_json) -> Iterator[bytes]:
    """
    Give a message as JSON.

    @param write: writes a member of a list.
    """
    opening = b"{"
    for name, value in tree.items():
        yield opening + orjson.dumps(name) + b":"
        opening = b","
        if isinstance(value, Many):
            yield from _json_list(value, write)
        elif isinstance(value, Mapping):
            yield from json_pieces(value, write)
        else:
            yield orjson.dumps(value)
    yield b"}" if opening == b"," else b"{}"


def _json_list(many: Many, write: Callable[[Message], bytes]) -> Iterator[bytes]:
    items, make = many.items, many.make
    yield b"["
    for begin in range(0, len(items), _SLICE):
        part = b",".join([write(make(item)) for item in items[begin : begin + _SLICE]])
        yield b"," + part if begin else part
    yield b"]"


def byte_pieces(kind: type[Message], tree: Tree) -> Iterator[bytes]:
    """Give a message of this class as protobuf's bytes: empty pieces first, and then all of it."""
    whole = yield from _bytes(kind, tree)
    yield whole


def _bytes(kind: type[Message], tree: Tree) -> Generator[bytes, None, bytes]:
    parts: list[bytes] = []
    for name, value in tree.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        tag = _varint(field.number << 3 | 2)
        if isinstance(value, Many):
            for number, item in enumerate(value.items):
                body = encode(value.make(item))
                parts += (tag, _varint(len(body)), body)
                if number % _SLICE == 0:
                    yield b""
        elif isinstance(value, Mapping):
            inner = cast(Descriptor, field.message_type)
            body = yield from _bytes(GetMessageClass(inner), value)
            parts += (tag, _varint(len(body)), body)
        else:
            parts.append(kind(**{name: value}).SerializePartialToString())
    return b"".join(parts)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
