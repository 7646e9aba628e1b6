"""How values of one key are put together, taken apart and compared, by the key's mode.

What may not merge (persistent volumes, MOUNT and BLOCK disks, identified RAW disks) and what
is shared is held as a tuple of L{Piece}s, smallest first; everything else as the plain value.
All of this is immutable.
"""

from collections.abc import Iterable
from typing import Any

from mesoskit.model.resource_key import AMOUNT, ITEMS, SHARED, SPANS, ResourceKey
from mesoskit.model.values import (
    ranges_contain,
    ranges_count,
    ranges_difference,
    ranges_taken,
    ranges_union,
)


class Piece:
    """
    A resource that is only to be had as a whole.

    Pieces are compared by size and count alone: they stand under the key's C{match}, and
    what distinguishes their own keys does not count for Mesos.

    @ivar size: the scalar, in thousandths.
    @ivar key: the full key, which knows how a volume is mounted and who made it.
    @ivar count: how many copies there are of a shared resource; 1 for others.
    """

    __slots__ = ("count", "key", "size")

    def __init__(self, size: int, key: ResourceKey, count: int = 1) -> None:
        self.size = size
        self.key = key
        self.count = count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Piece):
            return NotImplemented
        return self.size == other.size and self.count == other.count

    def __hash__(self) -> int:
        return hash((self.size, self.count))


def joined(mode: int, left: Any, right: Any) -> Any:
    """Return the sum of two values."""
    if mode == AMOUNT:
        return left + right
    if mode == SPANS:
        return ranges_union(left, right)
    if mode == ITEMS:
        return left | right
    if mode == SHARED:
        return _counted(left, right, 1)
    return tuple(sorted(left + right, key=_size))


def taken(mode: int, left: Any, right: Any) -> Any:
    """Return C{left} without C{right}, which may be empty; L{None} where it does not hold it."""
    if mode == AMOUNT:
        return left - right if right <= left else None
    if mode == SPANS:
        return ranges_taken(left, right)
    if mode == ITEMS:
        return left - right if right <= left else None
    if mode == SHARED:
        return _counted(left, right, -1) if _covers_shared(left, right) else None
    rest, missing = _picked(left, right)
    return None if missing else rest


def difference(mode: int, left: Any, right: Any) -> Any:
    """Return C{left} without as much of C{right} as there is in it."""
    if mode == AMOUNT:
        return max(left - right, 0)
    if mode == SPANS:
        return ranges_difference(left, right)
    if mode == ITEMS:
        return left - right
    if mode == SHARED:
        return _counted(left, right, -1)
    return _picked(left, right)[0]


def covers(mode: int, left: Any, right: Any) -> bool:
    """Tell whether C{left} holds all of C{right}."""
    if mode in (AMOUNT, ITEMS):
        return bool(right <= left)
    if mode == SPANS:
        return ranges_contain(left, right)
    if mode == SHARED:
        return _covers_shared(left, right)
    return not _picked(left, right)[1]


def quantity(mode: int, value: Any) -> int:
    """Return thousandths of what there is: copies of what is shared count once."""
    if mode == AMOUNT:
        return int(value)
    if mode == SPANS:
        return ranges_count(value) * 1000
    if mode == ITEMS:
        return len(value) * 1000
    return sum([piece.size for piece in value])


def _size(piece: Piece) -> int:
    return piece.size


def _counted(left: Iterable[Piece], right: Iterable[Piece], sign: int) -> tuple[Piece, ...]:
    """Add or take away counts of copies; what falls to zero or below goes."""
    pieces = {piece.size: piece for piece in left}
    for piece in right:
        held = pieces.get(piece.size)
        if held is not None:
            pieces[piece.size] = Piece(held.size, held.key, held.count + sign * piece.count)
        elif sign > 0:
            pieces[piece.size] = piece
    return tuple(sorted([piece for piece in pieces.values() if piece.count > 0], key=_size))


def _covers_shared(left: Iterable[Piece], right: Iterable[Piece]) -> bool:
    counts = {piece.size: piece.count for piece in left}
    return all(piece.count <= counts.get(piece.size, 0) for piece in right)


def _picked(left: Iterable[Piece], right: Iterable[Piece]) -> tuple[tuple[Piece, ...], bool]:
    """Take pieces out one by one: what is left, and whether any was not there to take."""
    rest = list(left)
    missing = False
    for piece in right:
        same = [at for at, held in enumerate(rest) if held.size == piece.size]
        if not same:
            missing = True
            continue
        # Of volumes that Mesos cannot tell apart, rather the one that is the same in all.
        exact = [at for at in same if rest[at].key is piece.key]
        del rest[(exact or same)[0]]
    return tuple(rest), missing
