"""Bytes <-> message, and JSON <-> message by Mesos' rules.

What is decoded here is complete: required fields are present, strings are text, and nothing is
nested deeper than L{MAX_DEPTH}. protobuf itself promises none of the first two: it parses messages
that lack required fields, and hands out C{bytes} where a string field does not hold UTF-8.

Mesos' JSON differs from protobuf's own in that 64-bit integers are numbers, names are those of the
C{.proto} file, and a field that has a default is written even where it is not set, unless it is
deprecated (C{3rdparty/stout/include/stout/protobuf.hpp} in Mesos).
"""

from __future__ import annotations

import json
import math
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from mesoskit.messages.names import message_class
from mesoskit.messages.text import holds_only_text

M = TypeVar("M", bound=Message)

#: Messages may be nested this deep, in bytes (where it is protobuf's own limit) and in JSON.
MAX_DEPTH: Final = 100

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "secs": 10**9,
    "mins": 60 * 10**9,
    "hrs": 3600 * 10**9,
    "days": 86400 * 10**9,
    "weeks": 604800 * 10**9,
}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(" + "|".join(_UNITS) + ")")
_INFINITE: Final = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_MOST: Final = sys.float_info.max
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]")


class Malformed(ValueError):
    """These bytes, or this JSON, are not a message of that name; or this message is incomplete.

    @ivar name: the full name of the message that was expected.
    @ivar reason: what is wrong, naming the field where there is one.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"not a {self.name}: {self.reason}"


class NotJson(Malformed):
    """What came is not JSON at all."""


# Bytes


def encode(message: Message) -> bytes:
    """Return the message's bytes.

    Raises L{Malformed} if required fields are missing.
    """
    try:
        return message.SerializeToString()
    except EncodeError:
        raise _incomplete(message) from None


def decode(name: str, data: bytes) -> Message:
    """Return the message of this wire name that C{data} holds.

    Raises L{mesoskit.messages.names.UnknownMessage} if no message that travels has this name, and
    L{Malformed} if C{data} is none.
    """
    return decode_as(message_class(name), data)


def decode_as(cls: type[M], data: bytes) -> M:
    """Return the message of class C{cls} that C{data} holds; it need not have a wire name.

    Raises L{Malformed} if C{data} is none.
    """
    try:
        message = cls.FromString(data)
    except DecodeError as error:
        raise Malformed(cls.DESCRIPTOR.full_name, _protobuf_reason(error)) from None
    if not message.IsInitialized():
        raise _incomplete(message)
    # ASCII bytes hold ASCII strings: most small messages need no second look.
    if not data.isascii() and not holds_only_text(cls, data):
        raise Malformed(cls.DESCRIPTOR.full_name, "a string in it is not UTF-8")
    return message


def _incomplete(message: Message) -> Malformed:
    # Every implementation has this method; its published types do not.
    missing = ", ".join(message.FindInitializationErrors())  # type: ignore[attr-defined]
    return Malformed(message.DESCRIPTOR.full_name, f"required fields are missing: {missing}")


def _protobuf_reason(error: DecodeError) -> str:
    # protobuf says: Error parsing message with type 'x.Y': what it was
    return str(error).partition("': ")[2] or str(error)


# JSON out


def to_json(message: Message) -> bytes:
    """Return the message as Mesos would write it in JSON, in UTF-8 and without blanks."""
    return orjson.dumps(to_dict(message))


def in_ascii(text: bytes) -> bytes:
    """Return JSON, or a part of it, in ASCII alone: every other character as an escape."""
    if text.isascii():
        return text
    return _BEYOND_ASCII.sub(_escaped, text.decode()).encode()


def _escaped(character: re.Match[str]) -> str:
    return json.dumps(character[0])[1:-1]


def to_dict(message: Message) -> dict[str, Any]:
    """Return the message as the dict that L{to_json} writes."""
    converters, defaults = _writer(message.DESCRIPTOR)
    result = {}
    for field, value in message.ListFields():
        name, convert = converters[field.number]
        result[name] = value if convert is None else convert(value)
    for name, value in defaults:
        if name not in result:
            result[name] = value
    return result


_Convert = Callable[[Any], Any]


@cache
def _writer(
    descriptor: Descriptor,
) -> tuple[dict[int, tuple[str, _Convert | None]], tuple[tuple[str, Any], ...]]:
    """Return how each field is written, by number, and what is written for unset ones.

    A field without a converter is written as it is.
    """
    converters = {}
    defaults = []
    for field in descriptor.fields:
        convert = _value_writer(field)
        converters[field.number] = (field.name, _field_writer(field, convert))
        if field.has_default_value and not field.GetOptions().deprecated:
            value = field.default_value
            defaults.append((field.name, value if convert is None else convert(value)))
    return converters, tuple(defaults)


def _field_writer(field: FieldDescriptor, convert: _Convert | None) -> _Convert | None:
    if not field.is_repeated:
        return convert
    if _is_map(field):
        convert = _value_writer(_entry(field)["value"])
        if convert is None:
            return lambda values: {str(key): value for key, value in values.items()}
        return lambda values: {str(key): convert(value) for key, value in values.items()}
    if convert is None:
        return list
    return lambda values: [convert(value) for value in values]


def _value_writer(field: FieldDescriptor) -> _Convert | None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_dict
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: b64encode(value).decode("ascii")
    if field.type == FieldDescriptor.TYPE_ENUM:
        names = {number: name for name, number in _enum_numbers(field).items()}
        return names.__getitem__
    if field.type in _INFINITE:
        return infinite_as_text
    return None


def infinite_as_text(value: float) -> float | str | None:
    """
    Return a number as it stands in JSON, which knows no infinite ones: C{"Infinity"}, as Mesos
    reads and documents it (it writes the bare word, on which parsers of JSON fail).
    """
    if -_MOST <= value <= _MOST:
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# JSON in


def from_json(cls: type[M], text: bytes | str) -> M:
    """Return the message of class C{cls} that this JSON describes.

    As in Mesos, unknown fields, C{null} and, where the field is not required, unknown names of
    enum values are passed over, a lone value stands for a list of one, a number may stand in a
    string, as an infinite one has to (C{"Infinity"}), and so may C{true} and C{false}; base64 may
    lack its padding and be broken into lines. Raises L{Malformed}, naming the field, for anything
    else that does not fit.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(cls.DESCRIPTOR.full_name, f"not JSON: {error}") from None
    return from_dict(cls, value)


def from_dict(cls: type[M], value: object) -> M:
    """Return the message of class C{cls} that this value, parsed from JSON, describes.

    Raises L{Malformed} as L{from_json} does.
    """
    message = cls()
    try:
        if not isinstance(value, dict):
            raise _Misfit(f"expected an object, got {_show(value)}")
        _fill(message, value, 0)
    except _Misfit as misfit:
        raise Malformed(cls.DESCRIPTOR.full_name, misfit.describe()) from None
    if not message.IsInitialized():
        raise _incomplete(message)
    return message


class _Misfit(Exception):
    """A value that does not fit its field; the way to it is gathered while unwinding."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.way: list[str] = []

    def describe(self) -> str:
        way = "".join(reversed(self.way)).removeprefix(".")
        return f"{way}: {self.reason}" if way else self.reason


# Takes the message to change, the value for one of its fields, and how deep the message is.
_Setter = Callable[[Any, Any, int], None]


def _fill(message: Message, values: Mapping[str, object], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _Misfit(f"nested deeper than {MAX_DEPTH}")
    setters = _reader(message.DESCRIPTOR)
    for name, value in values.items():
        setter = setters.get(name)
        if setter is None or value is None:
            continue
        try:
            setter(message, value, depth)
        except _Misfit as misfit:
            misfit.way.append(f".{name}")
            raise


@cache
def _reader(descriptor: Descriptor) -> dict[str, _Setter]:
    return {field.name: _setter(field) for field in descriptor.fields}


def _setter(field: FieldDescriptor) -> _Setter:
    if _is_map(field):
        return _map_setter(field)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _repeated_message_setter(field) if field.is_repeated else _message_setter(field)
    if field.is_repeated:
        return _repeated_setter(field)
    name, parse = field.name, _parser(field)

    def set_one(message: Any, value: Any, depth: int) -> None:
        parsed = parse(value)
        if parsed is not None:
            setattr(message, name, parsed)

    return set_one


def _message_setter(field: FieldDescriptor) -> _Setter:
    name = field.name

    def set_message(message: Any, value: Any, depth: int) -> None:
        inner = getattr(message, name)
        inner.SetInParent()
        if is_duration and isinstance(value, str):
            inner.FromNanoseconds(_nanoseconds(value))
        else:
            _fill(inner, _object(value), depth + 1)

    kind = field.message_type
    is_duration = kind is not None and kind.full_name == "google.protobuf.Duration"
    return set_message


def _nanoseconds(value: str) -> int:
    """Read a duration as Mesos' documents write it (C{10mins}), or protobuf's JSON (C{600s})."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise _Misfit(f"expected a duration such as 10mins, got {_show(value)}")
    return int(float(found[1]) * _UNITS[found[2]])


def _repeated_message_setter(field: FieldDescriptor) -> _Setter:
    name = field.name

    def add_messages(message: Any, value: Any, depth: int) -> None:
        add = getattr(message, name).add
        for index, item in enumerate(value if isinstance(value, list) else (value,)):
            if item is None:
                continue
            try:
                _fill(add(), _object(item), depth + 1)
            except _Misfit as misfit:
                misfit.way.append(f"[{index}]")
                raise

    return add_messages


def _repeated_setter(field: FieldDescriptor) -> _Setter:
    name, parse = field.name, _parser(field)

    def add_values(message: Any, value: Any, depth: int) -> None:
        append = getattr(message, name).append
        for index, item in enumerate(value if isinstance(value, list) else (value,)):
            try:
                parsed = None if item is None else parse(item)
            except _Misfit as misfit:
                misfit.way.append(f"[{index}]")
                raise
            if parsed is not None:
                append(parsed)

    return add_values


def _map_setter(field: FieldDescriptor) -> _Setter:
    name = field.name
    parse_key = _parser(_entry(field)["key"])
    value_field = _entry(field)["value"]
    holds_messages = value_field.type == FieldDescriptor.TYPE_MESSAGE
    parse_value = None if holds_messages else _parser(value_field)

    def set_entries(message: Any, value: Any, depth: int) -> None:
        entries = getattr(message, name)
        for key, item in _object(value).items():
            try:
                parsed_key = parse_key(key)
                if parse_value is None:
                    _fill(entries[parsed_key], {} if item is None else _object(item), depth + 1)
                elif item is not None:
                    entries[parsed_key] = parse_value(item)
            except _Misfit as misfit:
                misfit.way.append(f"[{_show(key)}]")
                raise

    return set_entries


def _parser(field: FieldDescriptor) -> _Convert:
    """Return what turns a JSON value into the field's, or C{None} into "leave it unset"."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_parser(field)
    return _PARSERS[field.type]


def _enum_parser(field: FieldDescriptor) -> _Convert:
    numbers = _enum_numbers(field)
    required = field.is_required

    def parse(value: object) -> int | None:
        if not isinstance(value, str):
            raise _Misfit(f"expected one of {', '.join(numbers)}, got {_show(value)}")
        number = numbers.get(value)
        if number is None and required:
            raise _Misfit(f"expected one of {', '.join(numbers)}, got {_show(value)}")
        return number

    return parse


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _Misfit(f"expected a string, got {_show(value)}")
    return value


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return b64decode(value, validate=True)
        except ValueError:
            pass
        digits = "".join(value.split()).rstrip("=")
        try:
            return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
        except ValueError:
            pass
    raise _Misfit(f"expected a string in base64, got {_show(value)}")


def _bool(value: object) -> bool:
    if value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise _Misfit(f"expected true or false, got {_show(value)}")
    return value


def _double(value: object) -> float:
    if value in ("Infinity", "-Infinity"):
        return math.inf if value == "Infinity" else -math.inf
    number = _number(value)
    if number is None or not math.isfinite(number):
        raise _Misfit(f"expected a number, got {_show(value)}")
    return float(number)


def _integer(low: int, high: int) -> _Convert:
    def parse(value: object) -> int:
        number = _number(value)
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, int) and low <= number <= high:
            return number
        raise _Misfit(f"expected an integer from {low} to {high}, got {_show(value)}")

    return parse


def _number(value: object) -> int | float | None:
    """Return the number that this is or, as a string, holds."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


_PARSERS: Final[dict[int, _Convert]] = {
    FieldDescriptor.TYPE_STRING: _string,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _double,
    FieldDescriptor.TYPE_INT32: _integer(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: _integer(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: _integer(0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: _integer(0, (1 << 64) - 1),
}


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Misfit(f"expected an object, got {_show(value)}")
    return value


def _show(value: object) -> str:
    """Return a few words for the value; a peer's JSON must not flood our messages."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str) and len(value) > 60:
        value = f"{value[:57]}..."
    return json.dumps(value, default=repr, ensure_ascii=False)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _entry(field: FieldDescriptor) -> Mapping[str, FieldDescriptor]:
    """Return the two fields of a map's entries, C{key} and C{value}."""
    assert field.message_type is not None
    return field.message_type.fields_by_name


def _enum_numbers(field: FieldDescriptor) -> dict[str, int]:
    assert field.enum_type is not None
    return {value.name: value.number for value in field.enum_type.values}
