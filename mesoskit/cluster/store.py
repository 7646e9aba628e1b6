"""The contract of every store, and the exception they all raise.

A store keeps bytes by key: the master's registry, the agent's checkpoints, a
bundled framework's state. L{mesoskit.cluster.sqlite} and
L{mesoskit.cluster.memory} implement it here; all of them are held to
C{tests.cluster_room.store_contract.StoreContract}. Nothing else may be assumed of
a store: it may answer at once or after a round trip, and it may fail.
"""

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

Change = tuple[str, bytes | None]
"""A key and its new value; L{None} deletes the key."""


class StoreError(Exception):
    """The store cannot be opened, read or written; the message says which and why."""


class IStore(Protocol):
    """Bytes by key, changed in groups: all of a group or none of it."""

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Open the store and read all of it. Fails with L{StoreError}."""
        ...

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """
        Make a group of changes durable. Calls are carried out in order; after a
        failure the store holds what it held before the group. Fails with L{StoreError}.
        """
        ...

    def close(self) -> "Deferred[None]":
        """Release files and connections; what was answered stays durable."""
        ...
