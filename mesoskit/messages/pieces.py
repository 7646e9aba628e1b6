"""Big messages written in pieces, as bytes or as JSON, so that nobody waits for the whole.

A message is described by a tree: a dict from its fields' names to what is in them, which is a
dict again for a message, a L{Many} for a list of messages, or a number, text or name of an enum.
The members of a list are made one at a time, when their turn comes. In JSON every list is
written, the empty ones too, in the order of the tree, as Mesos writes its big answers
(C{jsonify} in C{src/master/readonly_handler.cpp}). Members that are kept written, or so big
that they are written in pieces themselves, are L{Written}.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesoskit.messages.codec import encode, in_ascii, to_json

_SLICE: Final = 8
"""So many members of a list are written between two pieces."""

_UNSEEN: Final = 100
"""So many are left out between two pieces."""


class Form(Enum):
    """What a message is written as."""

    JSON = "JSON"
    BYTES = "BYTES"


@dataclass(slots=True, frozen=True)
class Many:
    """
    A list of messages.

    @ivar make: makes the message of one of them.
    @ivar items: what they are made of.
    @ivar seen: says which of them are written; L{None}: all.
    """

    make: Callable[[Any], Message]
    items: Sequence[Any]
    seen: Callable[[Any], bool] | None = None

    def write(self, item: Any, form: Form) -> bytes:
        """Return one of them in a form."""
        return written(self.make(item), form)


@dataclass(slots=True, frozen=True)
class Written:
    """
    A list of messages that somebody else writes.

    @ivar write: returns one of them in a form, or gives empty pieces meanwhile and then
        returns it.
    @ivar items: what is given to C{write}.
    @ivar seen: says which of them are written; L{None}: all.
    """

    write: Callable[[Any, Form], bytes | Generator[bytes, None, bytes]]
    items: Sequence[Any]
    seen: Callable[[Any], bool] | None = None


Tree = Mapping[str, Any]


def written(message: Message, form: Form, partial: bool = False) -> bytes:
    """
    Return a message in a form.

    @param partial: it is a part of one and may lack required fields.
    """
    if form is Form.JSON:
        return to_json(message)
    return message.SerializePartialToString() if partial else encode(message)


def list_of(kind: type[Message], name: str, members: Sequence[bytes], form: Form) -> bytes:
    """
    Return a list of messages as it stands in a message around it, nothing for an empty one.

    @param name: the list's field in the class C{kind}.
    @param members: each in this form.
    """
    if not members:
        return b""
    if form is Form.JSON:
        return b'"%b":[%b]' % (name.encode(), b",".join(members))
    tag = _tag(kind, name)
    return b"".join([part for each in members for part in (tag, _varint(len(each)), each)])


def json_pieces(tree: Tree, ascii_only: bool = False) -> Iterator[bytes]:
    """
    Give a message as JSON.

    @param ascii_only: members of lists are written in ASCII alone.
    """
    opening = b"{"
    for name, value in tree.items():
        yield opening + orjson.dumps(name) + b":"
        opening = b","
        if isinstance(value, Many | Written):
            yield from _json_list(value, ascii_only)
        elif isinstance(value, Mapping):
            yield from json_pieces(value, ascii_only)
        else:
            yield orjson.dumps(value)
    yield b"}" if opening == b"," else b"{}"


def _json_list(many: Many | Written, ascii_only: bool) -> Iterator[bytes]:
    opening = b"["
    for members in _batches(many, Form.JSON):
        if members:
            part = opening + b",".join(members)
            yield in_ascii(part) if ascii_only else part
            opening = b","
        else:
            yield b""
    yield b"]" if opening == b"," else b"[]"


def _batches(many: Many | Written, form: Form) -> Iterator[list[bytes]]:
    """Give the members of a list, some at a time; none is given as a break."""
    write, seen = many.write, many.seen
    batch: list[bytes] = []
    unseen = 0
    for item in many.items:
        if seen is not None and not seen(item):
            unseen += 1
            if unseen % _UNSEEN == 0:
                yield []
            continue
        member = write(item, form)
        if not isinstance(member, bytes):
            member = yield from _breaks(member)
        batch.append(member)
        if len(batch) >= _SLICE:
            yield batch
            batch = []
    yield batch


def _breaks(member: Generator[bytes, None, bytes]) -> Generator[list[bytes], None, bytes]:
    """Give a break for each piece of a member, and return it."""
    while True:
        try:
            next(member)
        except StopIteration as whole:
            return cast(bytes, whole.value)
        yield []


def byte_pieces(kind: type[Message], tree: Tree) -> Iterator[bytes]:
    """Give a message of this class as protobuf's bytes: empty pieces first, and then all of it."""
    whole = yield from _bytes(kind, tree)
    yield whole


def _bytes(kind: type[Message], tree: Tree) -> Generator[bytes, None, bytes]:
    parts: list[bytes] = []
    for name, value in tree.items():
        if isinstance(value, Many | Written):
            tag = _tag(kind, name)
            for members in _batches(value, Form.BYTES):
                for body in members:
                    parts += (tag, _varint(len(body)), body)
                yield b""
        elif isinstance(value, Mapping):
            inner = cast(Descriptor, kind.DESCRIPTOR.fields_by_name[name].message_type)
            body = yield from _bytes(GetMessageClass(inner), value)
            parts += (_tag(kind, name), _varint(len(body)), body)
        else:
            parts.append(kind(**{name: value}).SerializePartialToString())
    return b"".join(parts)


def _tag(kind: type[Message], name: str) -> bytes:
    return _varint(kind.DESCRIPTOR.fields_by_name[name].number << 3 | 2)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
