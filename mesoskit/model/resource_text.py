"""Resources as text: the syntaxes of C{--resources}, and the JSON of the endpoints.

The short syntax is C{name(role):value;name:value}, the long one a JSON array of
C{mesos.v1.Resource}, which alone can tell of disks. Both go through the same validation, and
what only operations can make is refused (C{Resources::parse} in C{src/common/resources.cpp}).
"""

import json
from collections.abc import Iterable
from typing import Any

from mesoskit.messages.codec import Malformed, from_dict
from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.resource_key import STATIC, InvalidResources, ResourceKey
from mesoskit.model.resource_message import read_resource
from mesoskit.model.resource_validation import validate_resource
from mesoskit.model.resource_values import joined
from mesoskit.model.roles import STAR
from mesoskit.model.values import (
    RANGES,
    SCALAR,
    SET,
    InvalidValue,
    from_thousandths,
    parse_value,
    value_text,
)


def parse_resources(text: str, default_role: str = STAR) -> list[tuple[ResourceKey, Any]]:
    """
    Read the value of C{--resources}.

    @param default_role: whom resources are reserved to that name no role; C{"*"} for nobody.
    @return: keys and values; what has no amount is left out.
    @raise InvalidResources: with Mesos' text.
    """
    array = _json_array(text)
    messages = _from_text(text, default_role) if array is None else _from_json(array, default_role)
    result = []
    for message in messages:
        error = validate_resource(message)
        if error is not None:
            raise InvalidResources(error)
        entry = read_resource(message)
        if entry is not None:
            result.append(entry)
    _check_command_line([key for key, _value in result])
    return result


def _json_array(text: str) -> list[Any] | None:
    """Return the array that a text is in JSON, or L{None} where it is none."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    except RecursionError:
        raise InvalidResources(
            "Some JSON resources were not formatted properly: too deep"
        ) from None
    return parsed if isinstance(parsed, list) else None


def _from_json(array: list[Any], default_role: str) -> list[Resource]:
    messages = []
    for item in array:
        try:
            message = from_dict(Resource, item)
        except Malformed as error:
            raise InvalidResources(
                f"Some JSON resources were not formatted properly: {error}"
            ) from None
        if not message.HasField("role") and not message.reservations:
            message.role = default_role
        messages.append(message)
    return messages


def _from_text(text: str, default_role: str) -> list[Resource]:
    messages = []
    for token in [part for part in text.split(";") if part]:
        pair = [part for part in token.split(":") if part]
        if len(pair) != 2:
            raise InvalidResources(f"Bad value for resources, missing or extra ':' in {token}")
        name, opening, rest = pair[0].partition("(")
        role, closing, _ = rest.partition(")")
        if opening and (not closing or ")" in name):
            raise InvalidResources(f"Bad value for resources, mismatched parentheses in {token}")
        messages.append(
            _parse_resource(name.strip(), pair[1], role.strip() if opening else default_role)
        )
    return messages


def _parse_resource(name: str, text: str, role: str) -> Resource:
    """Return the message of one C{name(role):value}, valid or not."""
    try:
        kind, value = parse_value(text)
    except InvalidValue as error:
        raise InvalidResources(
            f"Failed to parse resource {name} value {text} error {error}"
        ) from None
    message = Resource(name=name)
    if kind == SCALAR:
        message.type = SCALAR  # type: ignore[assignment]
        message.scalar.value = value
    elif kind == RANGES:
        message.type = RANGES  # type: ignore[assignment]
        message.ranges.SetInParent()
        for begin, end in value:
            message.ranges.range.add(begin=begin, end=end)
    elif kind == SET:
        message.type = SET  # type: ignore[assignment]
        message.set.SetInParent()
        message.set.item.extend(value)
    else:
        raise InvalidResources(f"Bad type for resource {name} value {text} type TEXT")
    if role != STAR:
        message.reservations.add(type=STATIC, role=role)
    return message


def _check_command_line(keys: Iterable[ResourceKey]) -> None:
    """Refuse what cannot be had by a flag (C{validateCommandLineResources})."""
    kinds: dict[str, int] = {}
    for key in keys:
        if key.persistent:
            raise InvalidResources("Persistent volumes cannot be specified at the command line")
        if key.revocable:
            raise InvalidResources(
                "Revocable resources cannot be specified at the command line; do"
                " not include a 'revocable' key in the resources JSON"
            )
        if key.dynamically_reserved:
            raise InvalidResources(
                "Dynamic reservations cannot be specified at the command line; do"
                " not include a reservation with DYNAMIC type in the resources JSON"
            )
        if kinds.setdefault(key.name, key.kind) != key.kind:
            raise InvalidResources(
                f"Resources with the same name ('{key.name}') but different types are not allowed"
            )


def resources_json(entries: Iterable[tuple[ResourceKey, Any]]) -> dict[str, Any]:
    """Return names and values of resources as the endpoints show them; see C{as_json}."""
    scalars = {"cpus": 0, "gpus": 0, "mem": 0, "disk": 0}
    others: dict[tuple[str, int], Any] = {}
    for key, value in entries:
        name = key.name + "_revocable" if key.revocable else key.name
        if key.kind == SCALAR:
            scalars[name] = scalars.get(name, 0) + value
            continue
        held = others.get((name, key.kind))
        others[name, key.kind] = value if held is None else joined(key.mode, held, value)
    shown: dict[str, Any] = {name: from_thousandths(value) for name, value in scalars.items()}
    for (name, kind), value in others.items():
        shown[name] = value_text(kind, value)
    return shown
