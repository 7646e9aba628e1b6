"""The recorded messages of C{tests/data/golden}."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message

from mesoskit.messages import codec, mesos_pb2, v0
from mesoskit.messages.names import UnknownMessage, message_class

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


class Recorded(NamedTuple):
    """A message as it was recorded; C{where} is for the text of a failing assertion."""

    where: str
    name: str
    text: str

    def message(self) -> Message:
        """Return the message that a protobuf body holds."""
        if self.name == v0.CALL:
            return v0.decode_call(self.data)[0]
        return codec.decode_as(class_of(self.name), self.data)

    @property
    def data(self) -> bytes:
        """The bytes of a protobuf body."""
        return bytes.fromhex(self.text)


def bodies() -> Iterator[Recorded]:
    """Yield each protobuf body, as hex."""
    return _rows("bodies.tsv")


def jsons() -> Iterator[Recorded]:
    """Yield each JSON body."""
    return _rows("json.tsv")


def class_of(name: str) -> type[Message]:
    """Return the class of any recorded message; those of checkpoint files have no wire name."""
    try:
        return message_class(name)
    except UnknownMessage:
        cls: type[Message] = getattr(mesos_pb2, name.removeprefix("mesos.v1."))
        return cls


def _rows(file: str) -> Iterator[Recorded]:
    lines = (GOLDEN / file).read_text().splitlines()
    for number, line in enumerate(lines[1:], 2):
        scenarios, name, text = line.split("\t")
        yield Recorded(f"{file}:{number} (scenarios {scenarios}), {name}", name, text)
