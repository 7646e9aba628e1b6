"""How much of what, regardless of where and reserved to whom.

L{Quantities} are amounts that one has (a name not mentioned: nothing of it), L{Limits} are
bounds (a name not mentioned: no bound). Both are those of
C{include/mesos/resource_quantities.hpp}, in thousandths.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from mesoskit.model.values import (
    SCALAR,
    InvalidValue,
    from_thousandths,
    parse_value,
    scalar_text,
    thousandths,
)


class InvalidQuantities(ValueError):
    """A text or message is no set of quantities; the message is Mesos' own."""


class Quantities(Mapping[str, int]):
    """
    An immutable mapping from names to thousandths, all of them positive.

    Asking for a name that is not there gives 0. Names come in alphabetical order.
    """

    __slots__ = ("_hash", "_items")

    EMPTY: ClassVar["Quantities"]

    _items: dict[str, int]
    _hash: int | None

    def __init__(self, items: Mapping[str, int] | Iterable[tuple[str, int]] = ()) -> None:
        pairs = dict(items)
        for name, value in pairs.items():
            if value < 0:
                raise InvalidQuantities(
                    f"a quantity cannot be negative, but {name!r} is {scalar_text(value)}"
                )
        self._items = {name: pairs[name] for name in sorted(pairs) if pairs[name]}
        self._hash = None

    @classmethod
    def _of_sorted(cls, items: dict[str, int]) -> "Quantities":
        """Wrap a dictionary that is known to be sorted and positive, without a copy."""
        self = cls.__new__(cls)
        self._items = items
        self._hash = None
        return self

    @classmethod
    def of(cls, **amounts: float) -> "Quantities":
        """Return quantities of plain numbers: C{Quantities.of(cpus=0.5, mem=32)}."""
        return cls({name: thousandths(value) for name, value in amounts.items()})

    @classmethod
    def parse(cls, text: str) -> "Quantities":
        """
        Read C{"cpus:0.01;mem:32"}; what is given twice adds up, zero is left out.

        Raises L{InvalidQuantities} with the text of C{ResourceQuantities::fromString}.
        """
        amounts: dict[str, int] = {}
        for name, value, _number in _parse_pairs(text, "quantity"):
            amounts[name] = amounts.get(name, 0) + value
        return cls(amounts)

    @classmethod
    def from_message(cls, quantities: Mapping[str, Any]) -> "Quantities":
        """Return the quantities of a protobuf map from names to C{mesos.v1.Value.Scalar}."""
        return cls(_from_map(quantities))

    def write_to(self, target: Any) -> None:
        """Set the entries of a protobuf map from names to C{mesos.v1.Value.Scalar}."""
        for name, value in self._items.items():
            target[name].value = from_thousandths(value)

    def __getitem__(self, name: str) -> int:
        return self._items.get(name, 0)

    def get(self, name: str, default: int = 0) -> int:  # type: ignore[override]
        """Return the thousandths of a name, or the default where there is nothing of it."""
        return self._items.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantities):
            return NotImplemented
        return self._items == other._items

    def __hash__(self) -> int:
        value = self._hash
        if value is None:
            value = self._hash = hash(tuple(self._items.items()))
        return value

    def __add__(self, other: "Quantities") -> "Quantities":
        if not isinstance(other, Quantities):
            return NotImplemented
        if not other._items:
            return self
        if not self._items:
            return other
        items = self._items.copy()
        for name, value in other._items.items():
            items[name] = items.get(name, 0) + value
        if len(items) != len(self._items):
            items = dict(sorted(items.items()))
        return Quantities._of_sorted(items)

    def __sub__(self, other: "Quantities") -> "Quantities":
        """Take away, but never below nothing, as Mesos does."""
        if not isinstance(other, Quantities):
            return NotImplemented
        items = self._items.copy()
        for name, value in other._items.items():
            held = items.get(name, 0)
            if held > value:
                items[name] = held - value
            elif held:
                del items[name]
        return Quantities._of_sorted(items)

    def contains(self, other: "Quantities") -> bool:
        """Tell whether there is at least as much of everything as there is in C{other}."""
        mine = self._items
        return all(mine.get(name, 0) >= value for name, value in other._items.items())

    def __le__(self, other: "Quantities") -> bool:
        return other.contains(self)

    def __ge__(self, other: "Quantities") -> bool:
        return self.contains(other)

    def as_json(self) -> dict[str, float]:
        """Return names and numbers, as the JSON endpoints show quantities."""
        return {name: from_thousandths(value) for name, value in self._items.items()}

    def __str__(self) -> str:
        return _text(self._items)

    def __repr__(self) -> str:
        return f"<Quantities {self}>"


Quantities.EMPTY = Quantities()


class Limits(Mapping[str, int]):
    """
    An immutable mapping from names to the most thousandths there may be; zero is a bound too.

    Names that are not there are unbounded. This is what quota limits are made of.
    """

    __slots__ = ("_items",)

    NONE: ClassVar["Limits"]

    _items: dict[str, int]

    def __init__(self, items: Mapping[str, int] | Iterable[tuple[str, int]] = ()) -> None:
        pairs = dict(items)
        for name, value in pairs.items():
            if value < 0:
                raise InvalidQuantities(
                    f"a limit cannot be negative, but {name!r} is {scalar_text(value)}"
                )
        self._items = {name: pairs[name] for name in sorted(pairs)}

    @classmethod
    def of(cls, **amounts: float) -> "Limits":
        """Return limits of plain numbers: C{Limits.of(cpus=10)}."""
        return cls({name: thousandths(value) for name, value in amounts.items()})

    @classmethod
    def parse(cls, text: str) -> "Limits":
        """
        Read C{"cpus:10;mem:1024"}.

        Raises L{InvalidQuantities} with the text of C{ResourceLimits::fromString}.
        """
        limits: dict[str, int] = {}
        for name, value, number in _parse_pairs(text, "limit"):
            if name in limits:
                raise InvalidQuantities(
                    f"Failed to parse '{number}' to limit: duplicate names are not allowed"
                )
            limits[name] = value
        return cls(limits)

    @classmethod
    def from_message(cls, limits: Mapping[str, Any]) -> "Limits":
        """Return the limits of a protobuf map from names to C{mesos.v1.Value.Scalar}."""
        return cls(_from_map(limits))

    def write_to(self, target: Any) -> None:
        """Set the entries of a protobuf map from names to C{mesos.v1.Value.Scalar}."""
        for name, value in self._items.items():
            target[name].value = from_thousandths(value)

    def __getitem__(self, name: str) -> int:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limits):
            return NotImplemented
        return self._items == other._items

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __sub__(self, used: Quantities) -> "Limits":
        """Return what is left under the bounds; a bound overstepped leaves nothing."""
        return Limits({name: max(most - used[name], 0) for name, most in self._items.items()})

    def allow(self, quantities: Quantities) -> bool:
        """Tell whether quantities stay within every bound."""
        return all(quantities[name] <= most for name, most in self._items.items())

    def contains(self, other: "Limits") -> bool:
        """Tell whether C{other} is at least as tight everywhere."""
        return all(name in other and other[name] <= most for name, most in self._items.items())

    def as_json(self) -> dict[str, float]:
        """Return names and numbers, as the JSON endpoints show limits."""
        return {name: from_thousandths(value) for name, value in self._items.items()}

    def __str__(self) -> str:
        return _text(self._items)

    def __repr__(self) -> str:
        return f"<Limits {self}>"


Limits.NONE = Limits()


def parse_alternatives(text: str) -> tuple[Quantities, ...]:
    """
    Read C{"cpus:0.01|mem:32"}, the alternatives of C{--min_allocatable_resources}.

    An empty text gives none. Raises L{InvalidQuantities}.
    """
    return tuple(Quantities.parse(part) for part in text.split("|") if part)


def _text(items: dict[str, int]) -> str:
    if not items:
        return "{}"
    return "; ".join([f"{name}:{scalar_text(value)}" for name, value in items.items()])


def _from_map(amounts: Mapping[str, Any]) -> dict[str, int]:
    result = {}
    for name, scalar in amounts.items():
        try:
            result[name] = thousandths(scalar.value)
        except (ValueError, OverflowError):
            raise InvalidQuantities(
                f"Invalid resource quantity for '{name}': {scalar.value} is not finite"
            ) from None
    return result


def _parse_pairs(text: str, what: str) -> Iterator[tuple[str, int, str]]:
    """Give name, thousandths and text of each number in C{name:number;name:number}."""
    for token in [part for part in text.split(";") if part]:
        pair = [part for part in token.split(":") if part]
        if len(pair) != 2:
            raise InvalidQuantities(f"Failed to parse '{token}': missing or extra ':'")
        try:
            kind, value = parse_value(pair[1])
        except InvalidValue as error:
            raise InvalidQuantities(f"Failed to parse '{pair[1]}' to {what}: {error}") from None
        if kind != SCALAR:
            raise InvalidQuantities(
                f"Failed to parse '{pair[1]}' to {what}: only scalar values are allowed"
            )
        yield pair[0].strip(), thousandths(value), pair[1]
