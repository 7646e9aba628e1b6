"""Which updates were taken: each is delivered once, and acknowledged when it was dealt with."""

from __future__ import annotations

from collections import deque
from enum import Enum


class Receipt(Enum):
    """What is to be done about an update that has come."""

    NEW = "deliver it"
    PENDING = "it is being dealt with: nothing"
    DONE = "it was dealt with: acknowledge it again"


class Receipts:
    """
    The uuids of the updates of late, and how far each one is.

    Agents repeat an update until its acknowledgement has reached them; so one that comes again
    was either not dealt with yet, or its acknowledgement was lost on the way.
    """

    __slots__ = ("_done", "_limit", "_order", "_pending")

    def __init__(self, limit: int) -> None:
        """
        Begin with none.

        @param limit: how many uuids are remembered after they were dealt with.
        """
        self._limit = limit
        self._pending: set[bytes] = set()
        self._done: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def __len__(self) -> int:
        """Return how many updates are being dealt with."""
        return len(self._pending)

    def take(self, uuid: bytes) -> Receipt:
        """Say what is to be done about an update; a new one is pending from now on."""
        if uuid in self._done:
            return Receipt.DONE
        if uuid in self._pending:
            return Receipt.PENDING
        self._pending.add(uuid)
        return Receipt.NEW

    def done(self, uuid: bytes) -> None:
        """It was dealt with."""
        self._pending.discard(uuid)
        done = self._done
        if uuid not in done:
            done.add(uuid)
            self._order.append(uuid)
            if len(done) > self._limit:
                done.remove(self._order.popleft())

    def failed(self, uuid: bytes) -> None:
        """It was not dealt with: when its agent repeats it, it is new again."""
        self._pending.discard(uuid)
