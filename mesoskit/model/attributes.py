"""Attributes: what an agent says of its machine, for frameworks to choose by.

C{--attributes} reads C{rack:2;os:linux;ports:[1-5]}: scalars, ranges and text, but no sets
(C{src/common/attributes.cpp}).
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from mesoskit.messages.mesos_pb2 import Attribute as AttributeMessage
from mesoskit.model.values import (
    RANGES,
    SCALAR,
    SET,
    TEXT,
    InvalidValue,
    coalesced,
    double_text,
    from_thousandths,
    parse_value,
    ranges_text,
    set_text,
    thousandths,
)

_TYPE_NAMES: Final = {SCALAR: "SCALAR", RANGES: "RANGES", SET: "SET", TEXT: "TEXT"}


class InvalidAttributes(ValueError):
    """A text or message is no attribute; the message is Mesos' own."""


class Attribute:
    """
    One attribute; immutable. Scalars are equal if their thousandths are.

    @ivar kind: C{SCALAR}, C{RANGES} or C{TEXT} of L{mesoskit.model.values}; C{SET} only where
        a message brings one.
    @ivar value: a float with all its digits, a tuple of (begin, end) pairs, or a string; for
        a set a tuple of strings.
    """

    __slots__ = ("_identity", "kind", "name", "value")

    def __init__(self, name: str, kind: int, value: Any) -> None:
        self.name = name
        self.kind = kind
        self.value = value
        same: Any = value
        if kind == SCALAR:
            same = _rounded(name, value)
        elif kind == SET:
            same = frozenset(value)
        self._identity = (name, kind, same)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attribute):
            return NotImplemented
        return self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def as_json(self) -> float | str:
        """Return the value as the JSON endpoints show it: a number, or text."""
        if self.kind == SCALAR:
            return float(self.value)
        return self._value_text()

    def _value_text(self) -> str:
        if self.kind == SCALAR:
            return double_text(from_thousandths(_rounded(self.name, self.value)))
        if self.kind == RANGES:
            return ranges_text(self.value)
        return set_text(self.value) if self.kind == SET else str(self.value)

    def __str__(self) -> str:
        """Return C{name=value}, as Mesos prints it."""
        return f"{self.name}={self._value_text()}"

    def __repr__(self) -> str:
        return f"<Attribute {self}>"


class Attributes:
    """
    The attributes of an agent, immutable and in their order; equal if each is in both.

    A name may occur several times.
    """

    __slots__ = ("_items",)

    EMPTY: ClassVar["Attributes"]

    _items: tuple[Attribute, ...]

    def __init__(self, items: Iterable[Attribute] = ()) -> None:
        self._items = tuple(items)

    @classmethod
    def parse(cls, text: str) -> "Attributes":
        """
        Read the value of C{--attributes}; blanks in values do not count.

        Raises L{InvalidAttributes} with Mesos' text.
        """
        tokens = [token for token in text.replace("\n", ";").split(";") if token]
        return cls([_parse_attribute(token) for token in tokens])

    @classmethod
    def from_message(cls, attributes: Iterable[AttributeMessage]) -> "Attributes":
        """
        Read C{mesos.v1.Attribute} messages.

        Raises L{InvalidAttributes} for a scalar that is not finite.
        """
        return cls([Attribute(message.name, *_read_value(message)) for message in attributes])

    def to_message(self) -> list[AttributeMessage]:
        """Return C{mesos.v1.Attribute} messages, new ones each time."""
        return [_write_attribute(attribute) for attribute in self._items]

    def get(self, name: str) -> Attribute | None:
        """Return the first attribute of a name, or L{None}."""
        for attribute in self._items:
            if attribute.name == name:
                return attribute
        return None

    def as_json(self) -> dict[str, float | str]:
        """Return names and values as the JSON endpoints show them; the last of a name counts."""
        return {attribute.name: attribute.as_json() for attribute in self._items}

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, attribute: object) -> bool:
        return attribute in self._items

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Attributes):
            return NotImplemented
        return len(self) == len(other) and set(self._items) == set(other._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __str__(self) -> str:
        return "; ".join([str(attribute) for attribute in self._items])

    def __repr__(self) -> str:
        return f"<Attributes {self}>"


Attributes.EMPTY = Attributes()


def parse_attributes(text: str) -> Attributes:
    """Read the value of C{--attributes}; see L{Attributes.parse}."""
    return Attributes.parse(text)


def _rounded(name: str, value: float) -> int:
    try:
        return thousandths(value)
    except (ValueError, OverflowError):
        raise InvalidAttributes(
            f"attribute {name!r} must be a finite number, but it is {value}"
        ) from None


def _parse_attribute(token: str) -> Attribute:
    name, _, text = token.partition(":")
    if not name or not text:
        raise InvalidAttributes(f"Invalid attribute key:value pair '{token}'")
    try:
        kind, value = parse_value(text)
    except InvalidValue as error:
        raise InvalidAttributes(
            f"Failed to parse attribute {name} text {text} error {error}"
        ) from None
    if kind == SET:
        raise InvalidAttributes(
            f"Bad type for attribute {name} text {text} type {_TYPE_NAMES[kind]}"
        )
    if kind == RANGES:
        value = coalesced(value)
    return Attribute(name, kind, value)


def _read_value(message: AttributeMessage) -> tuple[int, Any]:
    kind = message.type
    if kind == SCALAR:
        return kind, message.scalar.value
    if kind == RANGES:
        return kind, coalesced([(span.begin, span.end) for span in message.ranges.range])
    if kind == SET:
        return kind, tuple(message.set.item)
    return kind, message.text.value


def _write_attribute(attribute: Attribute) -> AttributeMessage:
    message = AttributeMessage(name=attribute.name, type=attribute.kind)  # type: ignore[arg-type]
    if attribute.kind == SCALAR:
        message.scalar.value = attribute.value
    elif attribute.kind == RANGES:
        message.ranges.SetInParent()
        for begin, end in attribute.value:
            message.ranges.range.add(begin=begin, end=end)
    elif attribute.kind == SET:
        message.set.SetInParent()
        message.set.item.extend(attribute.value)
    else:
        message.text.value = attribute.value
    return message
