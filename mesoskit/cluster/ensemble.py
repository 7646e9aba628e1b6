"""What this house asks of ZooKeeper, whoever does it.

The contract of L{mesoskit.cluster.zookeeper.ZooKeeper}, which speaks to real servers, and of
C{mesoskit.testing.zookeeper.MemoryEnsemble}'s clients; both are held to
C{tests.cluster_room.ensemble_contract}. The verbs have the names that C{txzookeeper} gave them.
Paths are absolute, and the client is not moved to a root of its own.

An operation that fails with L{Unavailable} may have been carried out or not. Operations are carried
out in the order in which they were asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from twisted.internet.defer import Deferred

ANY_VERSION = -1
"""For C{set}, C{delete} and their kin: whatever version there is."""


class EnsembleError(Exception):
    """ZooKeeper did not do what it was asked."""


class NoNode(EnsembleError):
    """There is no node at the path, or none above it."""


class NodeExists(EnsembleError):
    """There is a node at the path already."""


class BadVersion(EnsembleError):
    """The node was changed by somebody else meanwhile."""


class NotEmpty(EnsembleError):
    """The node has children, so it cannot be deleted."""


class NotAllowed(EnsembleError):
    """The node's ACL does not let us, or the servers do not believe our credential."""


class TooLarge(EnsembleError):
    """The node would be larger than servers take."""


class Unavailable(EnsembleError):
    """No answer came: the link broke, the session ended, or it took too long. Outcome unknown."""


class Closed(Unavailable):
    """The client was closed."""


class Session(Enum):
    """What becomes of a session."""

    CONNECTED = "connected"
    """There is a session and a connection; after L{SUSPENDED} it is the same session."""

    SUSPENDED = "suspended"
    """The connection is lost; the session may go on, or end without our hearing of it."""

    EXPIRED = "expired"
    """The session has ended, ephemeral nodes and watches with it. Another one is on its way."""

    REFUSED = "refused"
    """The servers do not believe our credential, or are not to be spoken to. Nothing more comes."""


@dataclass(slots=True, frozen=True)
class Stat:
    """
    What is known of a node beside its data.

    @ivar version: how often its data was changed.
    @ivar owner: the session that an ephemeral node lives with; 0 for other nodes.
    """

    version: int
    owner: int = 0


@dataclass(slots=True, frozen=True)
class Create:
    """Make a node that stays, as a part of C{multi}; C{private} as in L{Ensemble.create}."""

    path: str
    data: bytes = b""
    private: bool = False


@dataclass(slots=True, frozen=True)
class Set:
    """Replace a node's data, as a part of C{multi}."""

    path: str
    data: bytes
    version: int = ANY_VERSION


@dataclass(slots=True, frozen=True)
class Delete:
    """Delete a node without children, as a part of C{multi}."""

    path: str
    version: int = ANY_VERSION


@dataclass(slots=True, frozen=True)
class Check:
    """Fail unless a node has this version, as a part of C{multi}."""

    path: str
    version: int


Operation = Create | Set | Delete | Check

Listener = Callable[[Session], None]


class Ensemble(Protocol):
    """A client of a ZooKeeper ensemble. All of its Deferreds fire on the reactor's thread."""

    @property
    def session(self) -> int | None:
        """The session's number, L{None} while there is none."""
        ...

    @property
    def session_timeout(self) -> float:
        """
        Seconds of silence after which the servers end the session: what they agreed to, which may
        be more or less than what was asked for; before that what will be asked for.
        """
        ...

    @property
    def connected(self) -> bool:
        """Whether there are a session and a connection."""
        ...

    def listen(self, listener: Listener) -> None:
        """Tell of what becomes of the session from now on."""
        ...

    def connect(self) -> "Deferred[None]":
        """
        Begin; fires when there is a session, however long that takes. Fails with L{NotAllowed}, or
        with L{Closed} where L{close} was called meanwhile.
        """
        ...

    def close(self) -> "Deferred[None]":
        """End the session, ephemeral nodes with it, and begin no other. Never fails."""
        ...

    def suspect(self) -> None:
        """The server that we are connected to seems dead: try another one, or it again."""
        ...

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        ephemeral: bool = False,
        sequence: bool = False,
        private: bool = False,
    ) -> "Deferred[str]":
        """
        Make a node; fires with its path, to which C{sequence} adds ten digits.

        Where we have a credential, whoever has it may do anything with the node, and everybody may
        read it, as Mesos' nodes; where it is C{private} nobody else may. Without a credential it is
        everybody's.

        Fails with L{NodeExists}, L{NoNode} where its parent is missing, L{NotAllowed},
        L{TooLarge} or L{Unavailable}.
        """
        ...

    def create_path(self, path: str, *, private: bool = False) -> "Deferred[None]":
        """Make a node without data, and those above it, where they are missing."""
        ...

    def get(self, path: str) -> "Deferred[tuple[bytes, Stat]]":
        """Return a node's data. Fails with L{NoNode}, L{NotAllowed} or L{Unavailable}."""
        ...

    def get_children(self, path: str) -> "Deferred[list[str]]":
        """Return the names of a node's children, in no order."""
        ...

    def get_children_and_watch(self, path: str) -> "Deferred[tuple[list[str], Deferred[None]]]":
        """
        Return the names of a node's children, and what fires when they are others or the node is
        gone; also where that is no longer watched: when the connection is lost.
        """
        ...

    def exists_and_watch(self, path: str) -> "Deferred[tuple[Stat | None, Deferred[None]]]":
        """Return a node's L{Stat} or L{None}, and what fires as for the children."""
        ...

    def get_and_watch(self, path: str) -> "Deferred[tuple[bytes, Stat, Deferred[None]]]":
        """Return a node's data, and what fires as for the children."""
        ...

    def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> "Deferred[Stat]":
        """Replace a node's data; fails with L{BadVersion} where it has another version."""
        ...

    def delete(self, path: str, version: int = ANY_VERSION) -> "Deferred[None]":
        """Delete a node; fails with L{NoNode}, L{NotEmpty}, L{BadVersion} …"""
        ...

    def multi(self, operations: Sequence[Operation]) -> "Deferred[None]":
        """Do all of this or nothing; fails as the first operation that cannot be done does."""
        ...
