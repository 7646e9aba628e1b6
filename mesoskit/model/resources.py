"""Resources: the algebra that master, agent and allocator compute with.

L{Resources} never change; every operation gives a new object, or the same one where nothing
is different. They follow C{src/common/resources.cpp} with one deliberate exception: C{a - b}
refuses what C{a} does not contain, while Mesos silently drops it; L{Resources.minus} is
Mesos' subtraction.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_key import (
    AMOUNT,
    DYNAMIC,
    SHARED,
    STATIC,
    WHOLE,
    InvalidResources,
    Reservation,
    ResourceKey,
)
from mesoskit.model.resource_message import ENDPOINT, POST, PRE, read_resource, write_resource
from mesoskit.model.resource_parts import PartsOfResources
from mesoskit.model.resource_text import parse_resources, resources_json
from mesoskit.model.resource_values import Piece, covers, difference, joined, quantity, taken
from mesoskit.model.values import (
    RANGES,
    SCALAR,
    SET,
    Ranges,
    coalesced,
    thousandths,
    value_text,
)

__all__ = [
    "DYNAMIC",
    "ENDPOINT",
    "POST",
    "PRE",
    "STATIC",
    "InvalidResources",
    "NotContained",
    "Reservation",
    "ResourceKey",
    "Resources",
]

Value: TypeAlias = int | Ranges | frozenset[str]
"""Thousandths, ranges or a set, by the C{kind} of the key."""

_REMEMBERED_BYTES = 512
"""What is longer is read anew each time it comes; lists may have twice as much."""


class NotContained(ValueError):
    """What was to be taken away is not there."""


class Resources(PartsOfResources):
    """
    An immutable collection of resources.

    C{a + b} adds, C{a - b} takes away what C{a} contains (L{NotContained} if it does not),
    C{a <= b} and C{b.contains(a)} compare; equality and hash leave order aside. What is not
    there at all is false. Iterating gives (L{ResourceKey}, value) pairs in the order in which
    they came: thousandths, ranges or a L{frozenset}, by the key's C{kind}. Copies of a shared
    volume are one pair; L{copies} counts them.
    """

    __slots__ = ()

    EMPTY: ClassVar["Resources"]

    def __init__(self, entries: Iterable[tuple[ResourceKey, Value]] = ()) -> None:
        items: dict[ResourceKey, Any] = {}
        for key, value in entries:
            _put(items, key, value)
        self._items = items
        self._cache = None

    # From other forms and to them.

    @classmethod
    def parse(cls, text: str, default_role: str = "*") -> "Resources":
        """
        Read what C{--resources} takes: C{cpus:4;ports:[31000-32000];mem(role):64}, or a JSON
        array of C{mesos.v1.Resource}.

        What names no role is reserved, statically, to C{default_role}. Raises
        L{InvalidResources} with Mesos' text.
        """
        return cls(parse_resources(text, default_role))

    @classmethod
    def from_message(cls, resources: Iterable[Resource]) -> "Resources":
        """
        Read C{mesos.v1.Resource} messages of any reservation format.

        Nothing is validated (L{mesoskit.model.resource_validation}); what could not be added
        in Mesos either, such as a negative scalar, is left out. Lists that come again and
        again are recognised by their bytes.
        """
        blobs = tuple([resource.SerializePartialToString() for resource in resources])
        if not blobs:
            return cls.EMPTY
        if sum(map(len, blobs)) > 2 * _REMEMBERED_BYTES:
            return _read(blobs)
        return _read_all_known(blobs)

    def to_message(self, format: int = POST) -> list[Resource]:  # noqa: A002
        """
        Return messages in the reservation format asked for: L{PRE}, L{POST} or L{ENDPOINT}.

        The messages are made once and must not be changed: copy them, as C{extend} of a
        repeated field does. Copies of a shared volume are one message. Raises
        L{InvalidResources} for L{PRE} where a reservation is refined.
        """
        name = _FORMAT_NAMES[format]
        messages = self._cached(name)
        if messages is None:
            messages = self._cache_as(
                name, [write_resource(key, value, format) for key, value in self]
            )
        return messages.copy()  # type: ignore[no-any-return]

    @classmethod
    def of(cls, **amounts: float | Iterable[tuple[int, int]] | Iterable[str]) -> "Resources":
        """
        Return unreserved resources of plain values: numbers, lists of (begin, end) pairs or
        sets of strings, C{Resources.of(cpus=1.5, mem=64, ports=[(31000, 31009)])}.
        """
        return cls([_plain(name, amount) for name, amount in amounts.items()])

    @classmethod
    def sum(cls, parts: "Iterable[Resources]") -> "Resources":
        """Return the sum of many, in less time than adding them one by one takes."""
        items: dict[ResourceKey, Any] = {}
        for part in parts:
            for key, value in part._items.items():
                held = items.get(key)
                items[key] = value if held is None else joined(key.mode, held, value)
        return cls._of(items) if items else cls.EMPTY

    # The algebra.

    def __add__(self, other: "Resources") -> "Resources":
        if other.__class__ is not Resources:
            return NotImplemented
        theirs = other._items
        if not theirs:
            return self
        if not self._items:
            return other
        items = self._items.copy()
        get = items.get
        for key, value in theirs.items():
            held = get(key)
            if held is None:
                items[key] = value
            elif key.mode == AMOUNT:
                items[key] = held + value
            else:
                items[key] = joined(key.mode, held, value)
        result = _new(Resources)
        result._items = items
        result._cache = None
        return result

    def __sub__(self, other: "Resources") -> "Resources":
        if other.__class__ is not Resources:
            return NotImplemented
        theirs = other._items
        if not theirs:
            return self
        items = self._items.copy()
        get = items.get
        for key, value in theirs.items():
            held = get(key)
            if held == value:
                del items[key]
            elif held is None:
                raise self._lacking(other)
            elif key.mode == AMOUNT:
                if held < value:
                    raise self._lacking(other)
                items[key] = held - value
            else:
                rest = taken(key.mode, held, value)
                if rest is None:
                    raise self._lacking(other)
                items[key] = rest
        result = _new(Resources)
        result._items = items
        result._cache = None
        return result

    def _lacking(self, other: "Resources") -> NotContained:
        return NotContained(f"{self} does not contain {other}")

    def minus(self, other: "Resources") -> "Resources":
        """Take away as much of C{other} as there is, and leave the rest of it aside."""
        items = self._items.copy()
        for key, value in other._items.items():
            held = items.get(key)
            if held is not None:
                rest = difference(key.mode, held, value)
                if rest:
                    items[key] = rest
                else:
                    del items[key]
        return self if items == self._items else Resources._of(items)

    def contains(self, other: "Resources") -> bool:
        """Tell whether all of C{other} is here; volumes must be here in their full size."""
        get = self._items.get
        for key, value in other._items.items():
            held = get(key)
            if held is None:
                return False
            if key.mode == AMOUNT:
                if held < value:
                    return False
            elif held != value and not covers(key.mode, held, value):
                return False
        return True

    def __le__(self, other: "Resources") -> bool:
        return other.contains(self)

    def __ge__(self, other: "Resources") -> bool:
        return self.contains(other)

    def __bool__(self) -> bool:
        return bool(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Resources):
            return NotImplemented
        return self._items == other._items

    def __hash__(self) -> int:
        value = self._cached("hash")
        if value is None:
            value = self._cache_as("hash", hash(frozenset(self._items.items())))
        return int(value)

    def __iter__(self) -> Iterator[tuple[ResourceKey, Any]]:
        for key, value in self._items.items():
            if key.mode < WHOLE:
                yield key, value
            else:
                for piece in value:
                    yield piece.key, piece.size

    def __len__(self) -> int:
        return sum([len(v) if key.mode >= WHOLE else 1 for key, v in self._items.items()])

    def __str__(self) -> str:
        """Return what Mesos prints: C{cpus:4; ports:[31000-32000]}, C{{}} for nothing."""
        texts = []
        for key, value in self:
            text = f"{key}:{value_text(key.kind, value)}"
            texts.append(f"{text}<{self.copies(key, value)}>" if key.mode == SHARED else text)
        return "; ".join(texts) or "{}"

    def __repr__(self) -> str:
        return f"<Resources {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The cache stays behind: hashes of keys are those of one process.
        return _restored, (self._items,)

    def copies(self, key: ResourceKey, value: Value) -> int:
        """Return how often a resource is here: the count if it is shared, else 1 or 0."""
        held = self._items.get(key.match)
        if held is None:
            return 0
        if key.mode < WHOLE:
            return int(held == value)
        return sum([piece.count for piece in held if piece.size == value])

    # Amounts.

    def scalar(self, name: str) -> int:
        """Return the thousandths of a scalar resource, however reserved; 0 if there is none."""
        total = 0
        for key, value in self._items.items():
            if key.name == name and key.kind == SCALAR:
                total += value if key.mode == AMOUNT else quantity(key.mode, value)
        return total

    def ranges(self, name: str) -> Ranges:
        """Return the ranges of a resource such as C{ports}, however reserved."""
        found = [v for key, v in self._items.items() if key.name == name and key.kind == RANGES]
        return coalesced([pair for value in found for pair in value])

    def names(self) -> tuple[str, ...]:
        """Return the names of what there is, each once, in order."""
        return tuple(dict.fromkeys([key.name for key in self._items]))

    def quantities(self) -> Quantities:
        """Return how much there is of each name; numbers of ranges and items of sets count 1."""
        quantities: Quantities | None = self._cached("quantities")
        if quantities is None:
            amounts: dict[str, int] = {}
            for key, value in self._items.items():
                amounts[key.name] = amounts.get(key.name, 0) + quantity(key.mode, value)
            quantities = self._cache_as("quantities", Quantities(amounts))
        return quantities

    def as_json(self) -> dict[str, Any]:
        """
        Return names and values, as the JSON endpoints show resources: scalars are numbers,
        the rest is text, what is revocable is called C{cpus_revocable}.

        C{cpus}, C{gpus}, C{mem} and C{disk} are always there. Made once: not to be changed.
        """
        shown: dict[str, Any] | None = self._cached("json")
        if shown is None:
            shown = self._cache_as("json", resources_json(self))
        return shown

    # The same resources, reserved or allocated otherwise.

    def map_keys(self, change: Callable[[ResourceKey], ResourceKey]) -> "Resources":
        """Return the same amounts under the keys that C{change} gives for theirs."""
        items: dict[ResourceKey, Any] = {}
        same = True
        for key, value in self._items.items():
            if key.mode < WHOLE:
                changed = change(key)
                same = same and changed is key
                _put(items, changed, value)
                continue
            for piece in value:
                changed = change(piece.key)
                same = same and changed is piece.key
                if changed.mode >= WHOLE:
                    _join(items, changed.match, (Piece(piece.size, changed, piece.count),))
                else:
                    # What was shared is one disk again, however many copies there were.
                    _join(items, changed.match, piece.size)
        # Not by comparing items: they are equal, too, where only a volume's path is new.
        return self if same else Resources._of(items)

    def allocated(self, role: str) -> "Resources":
        """Return the same resources allocated to a role."""
        cached: tuple[str, Resources] | None = self._cached("allocated")
        if cached is None or cached[0] != role:
            result = self.map_keys(lambda key: key.allocated_to(role))
            cached = self._cache_as("allocated", (role, result))
        return cached[1]

    def unallocated(self) -> "Resources":
        """Return the same resources allocated to nobody."""
        result: Resources | None = self._cached("unallocated")
        if result is None:
            result = self._cache_as("unallocated", self.map_keys(ResourceKey.unallocated))
        return result

    def push_reservation(self, reservation: Reservation) -> "Resources":
        """
        Return the same resources with one more reservation each.

        Raises L{InvalidResources} with Mesos' text where it cannot stand on those there are.
        """
        return self.map_keys(lambda key: key.pushed(reservation))

    def pop_reservation(self) -> "Resources":
        """Return them without their last reservation; L{InvalidResources} if one has none."""
        return self.map_keys(ResourceKey.popped)

    def to_unreserved(self) -> "Resources":
        """Return the same resources without any reservation."""
        return self.map_keys(ResourceKey.unreserved)

    def without_volumes(self) -> "Resources":
        """Return the same resources, persistent volumes turned back into plain disk."""
        return self.map_keys(lambda key: key.without_volume() if key.persistent else key)

    def _cached(self, name: str) -> Any:
        cache = self._cache
        return None if cache is None else cache.get(name)

    def _cache_as(self, name: str, value: Any) -> Any:
        if self._cache is None:
            self._cache = {name: value}
        else:
            self._cache[name] = value
        return value


_new = object.__new__

_FORMAT_NAMES = {PRE: "pre", POST: "post", ENDPOINT: "endpoint"}

Resources.EMPTY = Resources()


def _put(items: dict[ResourceKey, Any], key: ResourceKey, value: Value) -> None:
    """Add a resource as it is seen from outside; nothing, or less, is left out."""
    if not value or (key.kind == SCALAR and value < 0):  # type: ignore[operator]
        return
    match = key.match
    _join(items, match, (Piece(value, key),) if match.mode >= WHOLE else value)  # type: ignore[arg-type]


def _join(items: dict[ResourceKey, Any], match: ResourceKey, value: Any) -> None:
    held = items.get(match)
    items[match] = value if held is None else joined(match.mode, held, value)


def _plain(name: str, amount: float | Iterable[Any]) -> tuple[ResourceKey, Value]:
    if isinstance(amount, int | float):
        return ResourceKey(name), thousandths(amount)
    members = list(amount)
    if members and isinstance(members[0], str):
        return ResourceKey(name, SET), frozenset(members)
    return ResourceKey(name, RANGES), coalesced(members)


def _read(blobs: tuple[bytes, ...]) -> Resources:
    entries = [
        _read_known(blob) if len(blob) <= _REMEMBERED_BYTES else _read_one(blob) for blob in blobs
    ]
    return Resources([entry for entry in entries if entry is not None])


def _read_one(blob: bytes) -> tuple[ResourceKey, Value] | None:
    return read_resource(Resource.FromString(blob))


_read_known = lru_cache(maxsize=4096)(_read_one)
_read_all_known = lru_cache(maxsize=2048)(_read)


def _restored(items: dict[ResourceKey, Any]) -> Resources:
    """Rebuild resources from what pickle or C{copy} kept of them."""
    return Resources._of(items)
