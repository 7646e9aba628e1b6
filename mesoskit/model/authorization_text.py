"""Reading ACLs: the JSON of C{--acls}, with the line of whatever is wrong.

Mesos ignores what it does not know, so that a misspelt list protects nothing. Here it is an
error, as is a name that stands twice.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, NoReturn

from mesoskit.model.authorization_acls import (
    ANY,
    AUTHORIZABLE_ENDPOINTS,
    LISTS,
    NONE,
    SOME,
    Acls,
    Entity,
    List,
    Rule,
)

LONGEST: Final = 4 * 1024 * 1024
"""So long may the text be, in characters."""

_DEEPEST: Final = 20
"""No ACLs are nested deeper than five; what is deeper than this is not looked at."""

_TOKEN: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+)', re.DOTALL)
_ENTITY: Final = '{"values": [...]} or {"type": "ANY"}'


class AclError(ValueError):
    """The ACLs cannot be used; the message names the line, and says what would be right."""


class _Node(NamedTuple):
    """
    A value of JSON.

    @ivar value: an object is a dict from names to nodes, a list a list of nodes.
    """

    line: int
    value: Any


def parse_acls(text: str, source: str = "ACLs") -> Acls:
    """
    Read ACLs. Raises L{AclError}.

    @param source: what the text is from, for messages.
    """
    try:
        return _acls(_parse(text))
    except AclError as error:
        raise AclError(f"{source}, {error}") from None


def _wrong(node: _Node, what: str) -> NoReturn:
    raise AclError(f"line {node.line}: {what}")


# JSON, with lines.


def _parse(text: str) -> _Node:
    if len(text) > LONGEST:
        raise AclError(f"line 1: more than {LONGEST} characters")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise AclError(f"line {error.lineno}: no JSON: {error.msg}") from None
    except RecursionError:
        raise AclError("line 1: nested too deeply") from None
    except ValueError:
        # A number of thousands of digits.
        raise AclError("line 1: no JSON: a number is too long") from None
    return _Parser(text).node(0)


class _Parser:
    """Reads what is known to be JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line = 1

    def _next(self) -> str:
        found = _TOKEN.match(self._text, self._position)
        assert found is not None
        self._line += self._text.count("\n", self._position, found.start(1))
        self._position = found.end()
        return found[1]

    def node(self, depth: int) -> _Node:
        return self._node(self._next(), depth)

    def _node(self, token: str, depth: int) -> _Node:
        line = self._line
        if depth > _DEEPEST:
            raise AclError(f"line {line}: nested too deeply")
        if token == "{":
            return _Node(line, self._object(depth + 1))
        if token == "[":
            return _Node(line, self._list(depth + 1))
        return _Node(line, json.loads(token))

    def _object(self, depth: int) -> dict[str, _Node]:
        members: dict[str, _Node] = {}
        token = self._next()
        while token != "}":
            if token == ",":
                token = self._next()
            name = json.loads(token)
            named = _Node(self._line, name)
            if name in members:
                _wrong(named, f"{_shown(name)} is there twice")
            self._next()
            # A name's line is where one looks for what is wrong with its value.
            members[name] = _Node(named.line, self.node(depth).value)
            token = self._next()
        return members

    def _list(self, depth: int) -> list[_Node]:
        members: list[_Node] = []
        token = self._next()
        while token != "]":
            if token == ",":
                token = self._next()
            members.append(self._node(token, depth))
            token = self._next()
        return members


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ACLs.


def _acls(node: _Node) -> Acls:
    members = _object(node, "ACLs", '{"permissive": ..., "run_tasks": [...], ...}')
    permissive = True
    rules: dict[str, tuple[Rule, ...]] = {}
    for name, member in members.items():
        if name == "permissive":
            if not isinstance(member.value, bool):
                _wrong(member, f"permissive must be true or false, not {_what(member)}")
            permissive = member.value
        elif name in LISTS:
            rules[name] = tuple(_rules(member, name, LISTS[name]))
        else:
            _wrong(member, f"there is no list of ACLs {_shown(name)}{_nearest(name, LISTS)}")
    return Acls(permissive, rules)


def _rules(node: _Node, name: str, about: List) -> Iterable[Rule]:
    if not isinstance(node.value, list):
        _wrong(node, f"{name} must be a list of ACLs, not {_what(node)}")
    for entry in node.value:
        form = f'{{"principals": {{...}}, "{about.things}": {{...}}}}'
        members = _object(entry, f"an ACL of {name}", form)
        for unknown in members:
            if unknown not in ("principals", about.things):
                _wrong(members[unknown], f"an ACL of {name} is {form}; it has no {_shown(unknown)}")
        for needed in ("principals", about.things):
            if needed not in members:
                _wrong(entry, f"an ACL of {name} is {form}; {needed} is missing")
        things = members[about.things]
        entity = _entity(things, f"{about.things} of {name}", about.hierarchical)
        if about.nameless and entity.type == SOME:
            _wrong(things, f"{about.things} of {name} can only be of type ANY or NONE")
        if about.things == "paths":
            for path in sorted(entity.values - AUTHORIZABLE_ENDPOINTS):
                allowed = ", ".join(sorted(AUTHORIZABLE_ENDPOINTS))
                _wrong(things, f"{_shown(path)} is not an authorizable path; these are: {allowed}")
        yield Rule(_entity(members["principals"], f"principals of {name}"), entity)


def _entity(node: _Node, what: str, hierarchical: bool = False) -> Entity:
    members = _object(node, what, _ENTITY)
    for name, member in members.items():
        if name not in ("type", "values"):
            _wrong(member, f"{what} must be {_ENTITY}; there is no {_shown(name)}")
    kind = SOME
    if "type" in members:
        kind = members["type"].value
        if kind not in (SOME, ANY, NONE):
            _wrong(members["type"], f"the type of {what} must be SOME, ANY or NONE")
    values: list[str] = []
    if "values" in members:
        listed = members["values"]
        if not isinstance(listed.value, list):
            _wrong(listed, f"the values of {what} must be a list of texts, not {_what(listed)}")
        for one in listed.value:
            if not isinstance(one.value, str):
                _wrong(one, f"the values of {what} must be texts, not {_what(one)}")
            values.append(one.value)
    if kind == SOME and not values:
        _wrong(node, f"{what} must be {_ENTITY}: nothing is named here")
    return Entity(kind, tuple(values), hierarchical)


def _object(node: _Node, what: str, form: str) -> dict[str, _Node]:
    if not isinstance(node.value, dict):
        _wrong(node, f"{what} must be {form}, not {_what(node)}")
    return node.value


def _what(node: _Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return _shown(value) if isinstance(value, str) else json.dumps(value)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name[:80], names, 1)
    return f": did you mean {near[0]}?" if near else ""
