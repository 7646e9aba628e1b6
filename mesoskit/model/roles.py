"""Names of roles, and the tree that they make (C{src/common/roles.cpp}).

A role is a path, C{eng/web/api}; its ancestors are the roles it lies under. C{*} is the role
of what is reserved to nobody.
"""

from typing import Final

STAR: Final = "*"
"""The role of unreserved resources, and the one that every framework may be in."""

_INVALID_CHARACTERS: Final = frozenset("\t\n\v\f\r \x7f")


def validate_role(name: str) -> str | None:
    """Return what Mesos says is wrong with a role's name, or L{None}."""
    if name == STAR:
        return None
    if name.startswith("/"):
        return f"Role '{name}' cannot start with a slash"
    if name.endswith("/"):
        return f"Role '{name}' cannot end with a slash"
    if "//" in name:
        return f"Role '{name}' cannot contain two adjacent slashes"
    if not name:
        return "Role names cannot be the empty string"
    for component in name.split("/"):
        if component in (".", "..", STAR):
            return f"Role '{name}' cannot include '{component}' as a component"
        if component.startswith("-"):
            return f"Role component '{component}' is invalid because it starts with a dash"
        if not _INVALID_CHARACTERS.isdisjoint(component):
            return (
                f"Role component '{component}' is invalid"
                " because it contains backspace or whitespace"
            )
    return None


def ancestors(role: str) -> tuple[str, ...]:
    """Return the roles above one, the nearest first: C{a/b/c} gives C{a/b} and C{a}."""
    parts = role.split("/")
    return tuple("/".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))


def is_strict_subrole(child: str, parent: str) -> bool:
    """Tell whether C{child} lies under C{parent}; no role lies under itself."""
    return child.startswith(parent) and child[len(parent) :].startswith("/")


def parse_roles(text: str) -> tuple[str, ...]:
    """
    Read the comma-separated list of C{--roles}.

    Raises L{ValueError} with Mesos' text for the first name that is no role's.
    """
    names = tuple(name for name in text.split(",") if name)
    for name in names:
        error = validate_role(name)
        if error is not None:
            raise ValueError(error)
    return names
