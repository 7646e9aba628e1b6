"""Identifiers, and where new ones come from.

Identifiers travel inside protobuf messages (C{FrameworkID}, C{AgentID} …) that
cannot be hashed; inside the rooms they are plain strings under these names.
"""

from hashlib import blake2b
from typing import NewType
from uuid import UUID

FrameworkId = NewType("FrameworkId", str)
AgentId = NewType("AgentId", str)
OfferId = NewType("OfferId", str)
TaskId = NewType("TaskId", str)
ExecutorId = NewType("ExecutorId", str)
ContainerId = NewType("ContainerId", str)

PeerId = NewType("PeerId", int)
"""A link's number, given by the service that holds the link; never used twice in a process."""


class Ids:
    """
    A source of UUIDs that is a function of its seed.

    A state may hold no random numbers, yet it must name updates, containers and
    itself. The service draws one seed (16 random bytes) at start and gives it to
    the state; from then on the n-th identifier is fixed, so that a recorded list
    of events, replayed with the seed, gives the same effects byte for byte.

    @ivar count: how many identifiers were made.
    """

    __slots__ = ("_seed", "count")

    def __init__(self, seed: bytes, count: int = 0) -> None:
        self._seed = seed
        self.count = count

    def bytes(self) -> bytes:
        """Return 16 bytes in the form of a version 4 UUID (RFC 9562), never the same twice."""
        self.count += 1
        raw = bytearray(
            blake2b(self.count.to_bytes(8, "big"), digest_size=16, key=self._seed).digest()
        )
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)

    def text(self) -> str:
        """Return a new UUID as text."""
        return str(UUID(bytes=self.bytes()))
