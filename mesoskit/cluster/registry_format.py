"""How the registry is written in ZooKeeper's nodes: entries, parts of groups, and the fence."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

import orjson

from mesoskit.cluster.store import Change, StoreError

FORMAT: Final = 1
"""Raised when what is written cannot be read by releases that know only the former."""

BUCKETS: Final = 256

LARGEST: Final = 900_000
"""Bytes of entries in a node, before they are compressed; servers take a million."""

_MAGIC: Final = b"mk"
_PART: Final = Struct(">2sBBQ")
_ENTRY: Final = Struct(">Ii")
_DELETED: Final = -1
_MORE: Final = 1


@dataclass(slots=True, frozen=True)
class Fence:
    """
    What the registry's own node holds: who may write.

    @ivar epoch: of the master that leads, or led last.
    @ivar master: its id.
    """

    epoch: int
    master: str

    def encode(self) -> bytes:
        """Return it as JSON, for people too."""
        return orjson.dumps({"epoch": self.epoch, "format": FORMAT, "master": self.master})

    @classmethod
    def decode(cls, data: bytes) -> "Fence":
        """Read it; a new node holds nothing. Raises L{StoreError}."""
        if not data:
            return cls(0, "")
        try:
            value = orjson.loads(data)
            layout, fence = value["format"], cls(int(value["epoch"]), str(value["master"]))
        except (ValueError, KeyError, TypeError) as wrong:
            raise StoreError(f"the registry's node holds {data[:100]!r}: {wrong}") from None
        if layout != FORMAT:
            raise StoreError(
                f"the registry has format {layout}, and this release knows only {FORMAT}"
            )
        return fence


@dataclass(slots=True, frozen=True)
class Part:
    """
    One node of the log: a part of a group of changes, or a whole one.

    @ivar first: the number of the group's first node.
    @ivar more: whether the group goes on in the next one. What its last part is missing of was
        never answered, and never happened.
    """

    first: int
    more: bool
    changes: list[Change]


def bucket_of(key: str) -> int:
    """Return in which bucket a key is."""
    return zlib.crc32(key.encode()) % BUCKETS


def pack(changes: Iterable[Change]) -> bytes:
    """Return changes as bytes."""
    pieces = []
    for key, value in changes:
        name = key.encode()
        pieces.append(_ENTRY.pack(len(name), _DELETED if value is None else len(value)))
        pieces.append(name)
        if value is not None:
            pieces.append(value)
    return zlib.compress(b"".join(pieces), 1)


def unpack(data: bytes, where: str) -> list[Change]:
    """Return changes; raises L{StoreError}, which names C{where}."""
    try:
        raw = zlib.decompress(data)
        changes: list[Change] = []
        at, end = 0, len(raw)
        while at < end:
            length, size = _ENTRY.unpack_from(raw, at)
            at += _ENTRY.size
            key = raw[at : at + length].decode()
            at += length
            if size == _DELETED:
                changes.append((key, None))
                continue
            value = raw[at : at + size]
            at += size
            if size < 0 or at > end:
                raise ValueError("an entry ends beyond the node")
            changes.append((key, value))
    except (zlib.error, error, ValueError) as wrong:
        raise StoreError(f"{where} cannot be read: {wrong}") from None
    return changes


def size(change: Change) -> int:
    """Return how many bytes a change takes in a node, before they are compressed."""
    key, value = change
    # A letter has up to four bytes.
    return _ENTRY.size + 4 * len(key) + len(value or b"")


def check(change: Change) -> None:
    """Raise L{StoreError} for a change that fits in no node."""
    needed = size(change)
    if needed > LARGEST:
        raise StoreError(
            f"{change[0]}: {needed} bytes; an entry of the registry has up to {LARGEST}"
        )


def split(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Cut changes, each of which fits into a node, into what fits into one together."""
    part: list[Change] = []
    room = LARGEST
    for change in changes:
        needed = size(change)
        if needed > room:
            yield part
            part, room = [], LARGEST
        part.append(change)
        room -= needed
    if part:
        yield part


def encode_part(part: Part) -> bytes:
    """Return what a node of the log holds."""
    head = _PART.pack(_MAGIC, FORMAT, _MORE if part.more else 0, part.first)
    return head + pack(part.changes)


def decode_part(data: bytes, where: str) -> Part:
    """Read a node of the log; raises L{StoreError}."""
    if len(data) < _PART.size:
        raise StoreError(f"{where} cannot be read: it has only {len(data)} bytes")
    magic, layout, more, first = _PART.unpack_from(data)
    if magic != _MAGIC or layout != FORMAT:
        raise StoreError(f"{where} cannot be read: it begins with {data[:4]!r}")
    return Part(first, bool(more), unpack(data[_PART.size :], where))


def whole_groups(parts: Mapping[int, Part]) -> Iterator[Sequence[Change]]:
    """Give the changes of the log's groups, oldest first, without what was left unfinished."""
    pending: list[Change] = []
    expected: tuple[int, int] | None = None
    for number in sorted(parts):
        part = parts[number]
        if part.first == number:
            pending = []
        elif expected != (part.first, number):
            # Its beginning is missing: it was never finished, and its number is not the next.
            pending, expected = [], None
            continue
        pending = [*pending, *part.changes]
        if part.more:
            expected = part.first, number + 1
        else:
            yield pending
            pending, expected = [], None
