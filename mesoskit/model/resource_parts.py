"""Resources, and the parts of them that one asks for: what is reserved, shared, revocable …

L{mesoskit.model.resources} adds the algebra; nobody else needs this module.
"""

from collections.abc import Callable
from typing import Any, Self

from mesoskit.model.resource_key import WHOLE, ResourceKey


class PartsOfResources:
    """
    What L{mesoskit.model.resources.Resources} is made of, and its parts.

    A part that is all of it is the object itself.
    """

    __slots__ = ("_cache", "_items")

    # By each key's C{match}; values are those of resource_values. Never changed once set.
    _items: dict[ResourceKey, Any]
    # What was computed before and can be asked for again.
    _cache: dict[str, Any] | None

    @classmethod
    def _of(cls, items: dict[ResourceKey, Any]) -> Self:
        """Wrap items that nobody else will change."""
        self: Self = object.__new__(cls)
        self._items = items
        self._cache = None
        return self

    def _part(self, items: dict[ResourceKey, Any]) -> Self:
        return self if items == self._items else self._of(items)

    def filter(self, predicate: Callable[[ResourceKey], bool]) -> Self:
        """Return the resources whose keys the predicate approves of."""
        items: dict[ResourceKey, Any] = {}
        for key, value in self._items.items():
            if key.mode < WHOLE:
                if predicate(key):
                    items[key] = value
            else:
                pieces = tuple([piece for piece in value if predicate(piece.key)])
                if pieces:
                    items[key] = value if len(pieces) == len(value) else pieces
        return self._part(items)

    def with_name(self, name: str) -> Self:
        """Return the resources of one name."""
        return self._part({key: v for key, v in self._items.items() if key.name == name})

    def reserved(self) -> dict[str, Self]:
        """Return what is reserved, by role."""
        parts: dict[str, dict[ResourceKey, Any]] = {}
        for key, value in self._items.items():
            if key.reservations:
                parts.setdefault(key.role, {})[key] = value
        return {role: self._of(items) for role, items in parts.items()}

    def reserved_to(self, role: str) -> Self:
        """Return what is reserved to a role, and to no role under it."""
        return self._part(
            {key: v for key, v in self._items.items() if key.reservations and key.role == role}
        )

    def unreserved(self) -> Self:
        """Return what is reserved to nobody."""
        return self._part({key: v for key, v in self._items.items() if not key.reservations})

    def allocatable_to(self, role: str) -> Self:
        """Return what a role may be offered: reserved to nobody, to it or to an ancestor."""
        return self._part({key: v for key, v in self._items.items() if key.allocatable_to(role)})

    def allocations(self) -> dict[str, Self]:
        """Return what is allocated, by the role it is allocated to and without saying so."""
        parts: dict[str, dict[ResourceKey, Any]] = {}
        for key, value in self._items.items():
            if key.allocation_role is not None:
                parts.setdefault(key.allocation_role, {})[key] = value
        return {role: self._of(items) for role, items in parts.items()}

    def allocation_roles(self) -> frozenset[str]:
        """Return the roles that any of this is allocated to."""
        roles = [key.allocation_role for key in self._items]
        return frozenset([role for role in roles if role is not None])

    def revocable(self) -> Self:
        """Return what can be taken back at any time."""
        return self._part({key: v for key, v in self._items.items() if key.revocable})

    def non_revocable(self) -> Self:
        """Return what cannot be taken back."""
        return self._part({key: v for key, v in self._items.items() if not key.revocable})

    def shared(self) -> Self:
        """Return the shared volumes."""
        return self._part({key: v for key, v in self._items.items() if key.shared})

    def non_shared(self) -> Self:
        """Return all but the shared volumes."""
        return self._part({key: v for key, v in self._items.items() if not key.shared})

    def persistent_volumes(self) -> Self:
        """Return the persistent volumes."""
        return self._part({key: v for key, v in self._items.items() if key.persistent})
