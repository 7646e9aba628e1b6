"""Everything that a resource is apart from how much of it there is.

Resources of the same key add up, others stay apart (C{src/common/resources.cpp}, C{addable}
and C{subtractable}). Keys are interned: of two equal keys there is only one object, so that
dictionaries of keys compare them by address, in C.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from mesoskit.model.disks import Disk, Labels, labels_text, sorted_labels
from mesoskit.model.roles import STAR, is_strict_subrole, validate_role
from mesoskit.model.values import RANGES, SCALAR, SET

STATIC: Final = 1
"""The number of C{ReservationInfo.Type} for what an operator reserved at an agent's start."""
DYNAMIC: Final = 2
"""The same for what was reserved by an operation."""

AMOUNT: Final = 0
"""Values of this key are added and subtracted as numbers."""
SPANS: Final = 1
"""Values of this key are ranges."""
ITEMS: Final = 2
"""Values of this key are sets."""
WHOLE: Final = 3
"""Two resources of this key never merge, and only all of one can be taken away."""
SHARED: Final = 4
"""As L{WHOLE}, but equal ones are counted."""

_ROLES_REMEMBERED: Final = 256


class InvalidResources(ValueError):
    """Resources that cannot be; the message is Mesos' own where Mesos has one."""


class _ReservationFields(NamedTuple):
    type: int
    role: str
    principal: str | None = None
    labels: Labels = ()


class Reservation(_ReservationFields):
    """
    One layer of a reservation.

    @ivar type: L{STATIC} or L{DYNAMIC}.
    @ivar labels: in alphabetical order, in whichever order they are given; absent and empty
        labels are the same.
    """

    __slots__ = ()

    def __new__(
        cls,
        type: int,  # noqa: A002
        role: str,
        principal: str | None = None,
        labels: Iterable[tuple[str, str | None]] = (),
    ) -> "Reservation":
        """Return the reservation with its labels sorted."""
        return super().__new__(cls, type, role, principal, sorted_labels(labels))

    def __str__(self) -> str:
        text = f"{ {STATIC: 'STATIC', DYNAMIC: 'DYNAMIC'}.get(self.type, 'UNKNOWN') },{self.role}"
        if self.principal is not None:
            text += f",{self.principal}"
        return f"{text},{labels_text(self.labels)}" if self.labels else text


class ResourceKey:
    """
    A C{mesos.v1.Resource} without its value.

    Keys are made by calling the class, which returns the one object there is for these
    arguments, and must not be changed. They are compared and hashed by identity.

    @ivar kind: L{SCALAR}, L{RANGES} or L{SET} of L{mesoskit.model.values}.
    @ivar reservations: the stack, outermost first; empty for what is unreserved.
    @ivar disk: what is known of a disk's source and volume.
    @ivar provider_id: the resource provider it comes from, L{None} for the agent itself.
    @ivar allocation_role: the role it is allocated to, L{None} where it is not.
    @ivar mode: how values of this key combine: L{AMOUNT}, L{SPANS}, L{ITEMS}, L{WHOLE},
        L{SHARED}.
    @ivar role: the role it is reserved to, that of the last reservation; C{"*"} for none.
    """

    __slots__ = (
        "__weakref__",
        "_allocated",
        "_match",
        "_prefix",
        "_unallocated",
        "allocation_role",
        "disk",
        "kind",
        "mode",
        "name",
        "provider_id",
        "reservations",
        "revocable",
        "role",
        "shared",
    )

    name: str
    kind: int
    reservations: tuple[Reservation, ...]
    disk: Disk | None
    shared: bool
    revocable: bool
    provider_id: str | None
    allocation_role: str | None
    mode: int
    role: str
    _allocated: "dict[str, ResourceKey]"
    _match: "ResourceKey | None"
    _prefix: str | None
    _unallocated: "ResourceKey | None"

    def __new__(
        cls,
        name: str,
        kind: int = SCALAR,
        reservations: tuple[Reservation, ...] = (),
        disk: Disk | None = None,
        shared: bool = False,
        revocable: bool = False,
        provider_id: str | None = None,
        allocation_role: str | None = None,
    ) -> "ResourceKey":
        """Return the key of these properties."""
        fields = (
            name,
            kind,
            reservations,
            disk,
            shared,
            revocable,
            provider_id,
            allocation_role,
        )
        self = _KEYS.get(fields)
        if self is not None:
            return self
        if kind not in (SCALAR, RANGES, SET):
            raise InvalidResources(
                f"a resource is a SCALAR (0), RANGES (1) or SET (2), but {name!r} is of type {kind}"
            )
        self = super().__new__(cls)
        self.name = name
        self.kind = kind
        self.reservations = reservations
        self.disk = disk
        self.shared = shared
        self.revocable = revocable
        self.provider_id = provider_id
        self.allocation_role = allocation_role
        self.role = reservations[-1].role if reservations else STAR
        self.mode = _mode(kind, disk, shared)
        self._allocated = {}
        self._match = self._prefix = self._unallocated = None
        _KEYS[fields] = self
        return self

    def _fields(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.kind,
            self.reservations,
            self.disk,
            self.shared,
            self.revocable,
            self.provider_id,
            self.allocation_role,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ResourceKey, self._fields()

    def __repr__(self) -> str:
        return f"<ResourceKey {self}>"

    def __str__(self) -> str:
        """Return what Mesos prints before the colon and the value."""
        prefix = self._prefix
        if prefix is None:
            prefix = self._prefix = self._describe()
        return prefix

    def _describe(self) -> str:
        text = self.name
        if self.allocation_role is not None:
            text += f"(allocated: {self.allocation_role})"
        if self.reservations:
            stack = ",".join([f"({reservation})" for reservation in self.reservations])
            text += f"(reservations: [{stack}])"
        if self.disk is not None:
            text += f"[{self.disk}]"
        return text + "{REV}" * self.revocable + "<SHARED>" * self.shared

    @property
    def reserved(self) -> bool:
        """Whether it is reserved to a role."""
        return bool(self.reservations)

    @property
    def dynamically_reserved(self) -> bool:
        """Whether the last reservation was made by an operation."""
        return bool(self.reservations) and self.reservations[-1].type == DYNAMIC

    @property
    def refined(self) -> bool:
        """Whether there is more than one reservation, which old frameworks cannot be told."""
        return len(self.reservations) > 1

    @property
    def persistent(self) -> bool:
        """Whether it is a persistent volume."""
        return self.disk is not None and self.disk.persistence_id is not None

    @property
    def match(self) -> "ResourceKey":
        """
        The key that stands for all that Mesos takes for the same: it does not say how a
        volume is mounted nor who made it.
        """
        match = self._match
        if match is not None:
            return match
        if self.disk is None or self.disk.identity is self.disk:
            # Not remembered: a key that refers to itself would only go with the next
            # round of the garbage collector.
            return self
        match = self._match = self.replace(disk=self.disk.identity)
        return match

    def allocatable_to(self, role: str) -> bool:
        """Tell whether a role may be offered it: reserved to nobody, to it or to an ancestor."""
        return not self.reservations or role == self.role or is_strict_subrole(role, self.role)

    def replace(self, **changes: Any) -> "ResourceKey":
        """Return the key that differs from this one in the fields named."""
        fields = dict(zip(FIELDS, self._fields(), strict=True))
        return ResourceKey(**{**fields, **changes})

    def allocated_to(self, role: str) -> "ResourceKey":
        """Return the key of the same resource allocated to a role."""
        if role == self.allocation_role:
            return self
        known = self._allocated
        key = known.get(role)
        if key is None:
            if len(known) >= _ROLES_REMEMBERED:
                known.clear()
            key = known[role] = self.replace(allocation_role=role)
        return key

    def unallocated(self) -> "ResourceKey":
        """Return the key of the same resource allocated to nobody."""
        if self.allocation_role is None:
            return self
        key = self._unallocated
        if key is None:
            key = self._unallocated = self.replace(allocation_role=None)
        return key

    def pushed(self, reservation: Reservation) -> "ResourceKey":
        """
        Return the key of the resource once reserved further.

        Raises L{InvalidResources} with Mesos' text where the reservation cannot stand there.
        """
        error = reservation_error(self.reservations, reservation)
        if error is not None:
            raise InvalidResources(error)
        return self.replace(reservations=(*self.reservations, reservation))

    def popped(self) -> "ResourceKey":
        """Return the key without the last reservation; L{InvalidResources} if there is none."""
        if not self.reservations:
            raise InvalidResources(f"{self} is not reserved, so no reservation can be removed")
        return self.replace(reservations=self.reservations[:-1])

    def unreserved(self) -> "ResourceKey":
        """Return the key without any reservation."""
        return self.replace(reservations=()) if self.reservations else self

    def without_volume(self) -> "ResourceKey":
        """Return the key of the disk that a persistent volume was made of."""
        if self.disk is None:
            return self
        return self.replace(disk=self.disk.raw, shared=False)


FIELDS: Final = (
    "name",
    "kind",
    "reservations",
    "disk",
    "shared",
    "revocable",
    "provider_id",
    "allocation_role",
)
"""The arguments of L{ResourceKey}, in their order."""

_KEYS: WeakValueDictionary[tuple[Any, ...], ResourceKey] = WeakValueDictionary()


def _mode(kind: int, disk: Disk | None, shared: bool) -> int:
    """Return how values combine; sharing and exclusiveness are for scalars only."""
    if kind == RANGES:
        return SPANS
    if kind == SET:
        return ITEMS
    if shared:
        return SHARED
    if disk is None:
        return AMOUNT
    exclusive = disk.source is not None and disk.source.exclusive
    return WHOLE if exclusive or disk.persistence_id is not None else AMOUNT


def reservation_error(below: tuple[Reservation, ...], reservation: Reservation) -> str | None:
    """Return what Mesos says where a reservation cannot stand on top of others, or L{None}."""
    error = validate_role(reservation.role)
    if error is not None:
        return error
    if reservation.role == STAR:
        return 'Invalid reservation: role "*" cannot be reserved'
    if not below:
        return None
    if reservation.type == STATIC:
        return "Invalid refined reservation: A refined reservation cannot be STATIC"
    if not is_strict_subrole(reservation.role, below[-1].role):
        return (
            f"Invalid refined reservation: role '{reservation.role}'"
            f" is not a refinement of '{below[-1].role}'"
        )
    return None
