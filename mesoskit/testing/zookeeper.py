"""A ZooKeeper in memory, held to the suite of the real one; its clients can be cut and frozen.

What a test can do to a client: L{MemoryZooKeeper.cut} and L{MemoryZooKeeper.mend} its connection,
L{MemoryZooKeeper.freeze} what it asks and L{MemoryZooKeeper.thaw} it again. A session whose client
was not heard for its time-out ends by the clock, as the servers would end it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mesoskit.cluster.ensemble import (
    ANY_VERSION,
    BadVersion,
    Check,
    Closed,
    Create,
    Delete,
    EnsembleError,
    Listener,
    NodeExists,
    NoNode,
    NotEmpty,
    Operation,
    Session,
    Set,
    Stat,
    TooLarge,
    Unavailable,
)

_T = TypeVar("_T")

LARGEST = 1_000_000


@dataclass(slots=True)
class Node:
    """A node: its data, how often that was changed, whose it is, and how many children it had."""

    data: bytes
    version: int = 0
    owner: int = 0
    children: int = 0


class MemoryEnsemble:
    """
    The servers.

    @param clock: an C{IReactorTime}.
    @ivar nodes: by path. A test may read them.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.nodes: dict[str, Node] = {"/": Node(b"")}
        self.watchers: dict[str, list[tuple[bool, MemoryZooKeeper, Deferred[None]]]] = {}
        self._numbers = count(0x1000)
        self._sessions: dict[int, MemoryZooKeeper] = {}

    def client(self, session_timeout: float = 10.0, operation_timeout: float = 10.0) -> Any:
        """Return a client that is not connected yet."""
        return MemoryZooKeeper(self, session_timeout, operation_timeout)

    def begin(self, client: "MemoryZooKeeper") -> int:
        """Begin a session."""
        number = next(self._numbers)
        self._sessions[number] = client
        return number

    def end(self, session: int) -> None:
        """End a session and what lives with it."""
        self._sessions.pop(session, None)
        for path in [path for path, node in self.nodes.items() if node.owner == session]:
            self.remove(path, ANY_VERSION)

    def alive(self, session: int) -> bool:
        """Tell whether a session goes on."""
        return session in self._sessions

    # What can be done to nodes.

    def children(self, path: str) -> list[str]:
        """Return the names of a node's children."""
        self.node(path)
        start = path.rstrip("/") + "/"
        return [
            name[len(start) :]
            for name in self.nodes
            if name != "/" and name.startswith(start) and "/" not in name[len(start) :]
        ]

    def node(self, path: str) -> Node:
        """Return a node, or raise L{NoNode}."""
        if path not in self.nodes:
            raise NoNode(path)
        return self.nodes[path]

    def make(self, path: str, data: bytes, owner: int = 0, sequence: bool = False) -> str:
        """Make a node and return its path."""
        parent = self.node(_above(path))
        if sequence:
            path = f"{path}{parent.children:010d}"
        if path in self.nodes:
            raise NodeExists(path)
        parent.children += 1
        self.nodes[path] = Node(data, owner=owner)
        self._changed(path, True)
        self._changed(_above(path), False)
        return path

    def replace(self, path: str, data: bytes, version: int) -> Stat:
        """Replace a node's data."""
        node = self.node(path)
        _check(path, node, version)
        node.data = data
        node.version += 1
        self._changed(path, True)
        return Stat(node.version, node.owner)

    def remove(self, path: str, version: int) -> None:
        """Delete a node."""
        node = self.node(path)
        _check(path, node, version)
        if self.children(path):
            raise NotEmpty(path)
        del self.nodes[path]
        self._changed(path, True)
        self._changed(path, False)
        self._changed(_above(path), False)

    def all_or_nothing(self, operations: Sequence[Operation]) -> None:
        """Do all of this or nothing."""
        before = {
            path: Node(n.data, n.version, n.owner, n.children) for path, n in self.nodes.items()
        }
        watchers, self.watchers = self.watchers, {}
        touched = []
        try:
            for each in operations:
                touched.append(each.path)
                if isinstance(each, Create):
                    self.make(each.path, each.data)
                elif isinstance(each, Set):
                    self.replace(each.path, each.data, each.version)
                elif isinstance(each, Delete):
                    self.remove(each.path, each.version)
                else:
                    _check(each.path, self.node(each.path), each.version)
        except EnsembleError:
            self.nodes = before
            raise
        finally:
            self.watchers = watchers
        for path in touched:
            self._changed(path, True)
            self._changed(path, False)
            self._changed(_above(path), False)

    def _changed(self, path: str, itself: bool) -> None:
        waiting = self.watchers.pop(path, [])
        self.watchers[path] = [each for each in waiting if each[0] is not itself]
        for of_itself, client, watch in waiting:
            if of_itself is itself and not watch.called:
                client.tell_watch(watch)


class MemoryZooKeeper:
    """
    An L{Ensemble<mesoskit.cluster.ensemble.Ensemble>} in memory, that answers at once.

    @ivar asked: how many operations it was asked for.
    """

    def __init__(
        self, ensemble: MemoryEnsemble, session_timeout: float, operation_timeout: float
    ) -> None:
        self.ensemble = ensemble
        self._session_timeout = session_timeout
        self._operation_timeout = operation_timeout
        self._listeners: list[Listener] = []
        self._session: int | None = None
        self._reachable = True
        self._frozen = False
        self._held: deque[Callable[[], None]] = deque()
        self._waiting: set[Deferred[Any]] = set()
        self._expiry: IDelayedCall | None = None
        self._connecting: Deferred[None] | None = None
        self._begun = self._closed = False
        self.asked = 0
        self.suspected = 0

    # What a test does to it.

    def cut(self) -> None:
        """Break the connection, and let none come about."""
        was = self.connected
        self._reachable = False
        if was:
            self._end_later()
            self._fail_waiting("connection loss")
            self._tell(Session.SUSPENDED)
            self._drop_watches()

    def _end_later(self) -> None:
        """Let the session end by the clock, if it does not by then."""
        if self._expiry is None and self._session is not None:
            clock = self.ensemble.clock
            self._expiry = clock.callLater(self._session_timeout, self.ensemble.end, self._session)

    def mend(self) -> None:
        """Let the connection come about again."""
        self._reachable = True
        expiry, self._expiry = self._expiry, None
        if expiry is not None and expiry.active():
            expiry.cancel()
        if not self._begun or self._closed:
            return
        if self._session is not None and not self.ensemble.alive(self._session):
            self._session = None
            self._tell(Session.EXPIRED)
        if self._session is None:
            self._session = self.ensemble.begin(self)
        self._tell(Session.CONNECTED)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.callback(None)

    def freeze(self) -> None:
        """Answer nothing from now on, and let the session end as if nothing were heard."""
        self._frozen = True
        self._end_later()

    def thaw(self) -> None:
        """Answer what was asked meanwhile, and whatever comes."""
        self._frozen = False
        if self._session is not None and not self.ensemble.alive(self._session):
            self._held.clear()
            self.expire()
            return
        expiry, self._expiry = self._expiry, None
        if expiry is not None and expiry.active():
            expiry.cancel()
        while self._held:
            self._held.popleft()()

    def expire(self) -> None:
        """End the session at once, and begin another."""
        if self._session is not None and not self._closed:
            session = self._session
            self.cut()
            self.ensemble.end(session)
            self.mend()

    # The contract.

    @property
    def session(self) -> int | None:
        """The session's number."""
        return self._session

    @property
    def session_timeout(self) -> float:
        """Seconds of silence after which the session ends."""
        return self._session_timeout

    @property
    def connected(self) -> bool:
        """Whether there are a session and a connection."""
        return self._session is not None and self._reachable and not self._closed

    def listen(self, listener: Listener) -> None:
        """Tell of what becomes of the session from now on."""
        self._listeners.append(listener)

    def connect(self) -> "Deferred[None]":
        """Begin."""
        if self._begun or self._closed:
            raise ValueError("connect was called before")
        self._begun = True
        connecting: Deferred[None] = Deferred()
        self._connecting = connecting
        if self._reachable:
            self.mend()
        return connecting

    def close(self) -> "Deferred[None]":
        """End the session."""
        if not self._closed:
            self._closed = True
            connecting, self._connecting = self._connecting, None
            if connecting is not None:
                connecting.errback(Closed("the client was closed"))
            self._fail_waiting("closed", Closed)
            self._listeners.clear()
            expiry, self._expiry = self._expiry, None
            if self._session is not None and self._reachable and not self._frozen:
                if expiry is not None and expiry.active():
                    expiry.cancel()
                self.ensemble.end(self._session)
            self._session = None
        return succeed(None)

    def suspect(self) -> None:
        """Count it: there is one server only."""
        self.suspected += 1

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        ephemeral: bool = False,
        sequence: bool = False,
        private: bool = False,
    ) -> "Deferred[str]":
        """Make a node; fires with its path."""
        owner = (self._session or 0) if ephemeral else 0
        return self._do(
            path, lambda: self.ensemble.make(path, data, owner, sequence), size=len(data)
        )

    def create_path(self, path: str, *, private: bool = False) -> "Deferred[None]":
        """Make a node without data, and those above it, where they are missing."""

        def make() -> None:
            whole = ""
            for name in filter(None, path.split("/")):
                whole += "/" + name
                if whole not in self.ensemble.nodes:
                    self.ensemble.make(whole, b"")

        return self._do(path, make)

    def get(self, path: str) -> "Deferred[tuple[bytes, Stat]]":
        """Return a node's data."""
        return self._do(path, lambda: self._read(path))

    def get_children(self, path: str) -> "Deferred[list[str]]":
        """Return the names of a node's children."""
        return self._do(path, lambda: self.ensemble.children(path))

    def get_children_and_watch(self, path: str) -> "Deferred[tuple[list[str], Deferred[None]]]":
        """Return the names of a node's children, and what fires when that changes."""
        return self._do(path, lambda: (self.ensemble.children(path), self._watch(path, False)))

    def exists_and_watch(self, path: str) -> "Deferred[tuple[Stat | None, Deferred[None]]]":
        """Return a node's L{Stat} or L{None}, and what fires when that changes."""

        def look() -> "tuple[Stat | None, Deferred[None]]":
            node = self.ensemble.nodes.get(path)
            stat = None if node is None else Stat(node.version, node.owner)
            return stat, self._watch(path, True)

        return self._do(path, look)

    def get_and_watch(self, path: str) -> "Deferred[tuple[bytes, Stat, Deferred[None]]]":
        """Return a node's data, and what fires when that changes."""
        return self._do(path, lambda: (*self._read(path), self._watch(path, True)))

    def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> "Deferred[Stat]":
        """Replace a node's data."""
        return self._do(path, lambda: self.ensemble.replace(path, data, version), size=len(data))

    def delete(self, path: str, version: int = ANY_VERSION) -> "Deferred[None]":
        """Delete a node."""
        return self._do(path, lambda: self.ensemble.remove(path, version))

    def multi(self, operations: Sequence[Operation]) -> "Deferred[None]":
        """Do all of this or nothing."""
        if not operations:
            return succeed(None)
        size = sum(
            100 + len(each.path) + (0 if isinstance(each, Check | Delete) else len(each.data))
            for each in operations
        )
        return self._do(
            operations[0].path, lambda: self.ensemble.all_or_nothing(operations), size=size
        )

    # Inside.

    def _read(self, path: str) -> tuple[bytes, Stat]:
        node = self.ensemble.node(path)
        return node.data, Stat(node.version, node.owner)

    def _watch(self, path: str, of_itself: bool) -> "Deferred[None]":
        changed: Deferred[None] = Deferred()
        self.ensemble.watchers.setdefault(path, []).append((of_itself, self, changed))
        return changed

    def tell_watch(self, watch: "Deferred[None]") -> None:
        """Fire a watch, unless nothing reaches the client."""
        if self._frozen:
            self._held.append(lambda: watch.callback(None))
        elif self._reachable and not self._closed:
            watch.callback(None)

    def _drop_watches(self) -> None:
        for path, waiting in list(self.ensemble.watchers.items()):
            mine = [watch for _, client, watch in waiting if client is self]
            self.ensemble.watchers[path] = [each for each in waiting if each[1] is not self]
            for watch in mine:
                if not watch.called:
                    watch.callback(None)

    def _do(self, path: str, act: Callable[[], _T], size: int = 0) -> "Deferred[_T]":
        self.asked += 1
        if self._closed or not self._begun:
            return fail(Closed("the client is closed, or was never connected"))
        if not self.connected:
            return fail(Unavailable(f"{path}: not connected"))
        if size > LARGEST:
            return fail(TooLarge(f"{path}: {size} bytes; servers take up to {LARGEST} at once"))
        result: Deferred[Any] = Deferred()
        self._waiting.add(result)

        def perform() -> None:
            self._waiting.discard(result)
            if result.called:
                return
            try:
                outcome = act()
            except EnsembleError:
                result.errback(Failure())  # type: ignore[no-untyped-call]
            else:
                result.callback(outcome)

        if not self._frozen:
            perform()
            return result
        self._held.append(perform)
        timeout = self._operation_timeout
        late = self.ensemble.clock.callLater(timeout, self._late, result, path)

        def ended(outcome: Any) -> Any:
            if late.active():
                late.cancel()
            return outcome

        return result.addBoth(ended)

    def _late(self, result: "Deferred[Any]", path: str) -> None:
        self._waiting.discard(result)
        if not result.called:
            result.errback(Unavailable(f"{path}: no answer within {self._operation_timeout:g} s"))

    def _fail_waiting(self, why: str, error: type[EnsembleError] = Unavailable) -> None:
        waiting, self._waiting = self._waiting, set()
        self._held.clear()
        for result in waiting:
            if not result.called:
                result.errback(error(why))

    def _tell(self, event: Session) -> None:
        for listener in list(self._listeners):
            listener(event)


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _check(path: str, node: Node, version: int) -> None:
    if version not in (ANY_VERSION, node.version):
        raise BadVersion(f"{path}: version {version} was expected, it is {node.version}")
