"""ZooKeeper through kazoo, behind Deferreds: the only file that imports it.

kazoo does its work in three threads of its own. What it tells comes to the reactor's thread here,
and nothing else in this house meets a thread of it. The threads start in L{ZooKeeper.connect} and
not before: C{twistd} forks after services are made.
"""

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Final, TypeVar

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
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
    NotAllowed,
    NotEmpty,
    Operation,
    Session,
    Set,
    Stat,
    TooLarge,
    Unavailable,
)
from mesoskit.cluster.zk_url import ZooKeeperURL

_T = TypeVar("_T")

MOST: Final = 10_000
"""How many operations may wait for their answers."""

LARGEST: Final = 1_000_000
"""Bytes of one operation; servers cut off who sends more than 1,048,575 (C{jute.maxbuffer})."""

FIRST_COMPLAINT: Final = 3.0
"""Seconds without a connection after which that is said, while whoever started us still looks."""
COMPLAINT: Final = 15.0
"""After how many more it is said again, and again."""

_CLOSING: Final = 1.0
"""Seconds after which L{ZooKeeper.close} waits for kazoo no longer."""

_ERRORS: Final[tuple[tuple[type[Exception], type[EnsembleError]], ...]] = (
    (exceptions.NoNodeError, NoNode),
    (exceptions.NodeExistsError, NodeExists),
    (exceptions.BadVersionError, BadVersion),
    (exceptions.NotEmptyError, NotEmpty),
    (exceptions.NoAuthError, NotAllowed),
    (exceptions.AuthFailedError, NotAllowed),
    (exceptions.InvalidACLError, NotAllowed),
)

_UNDONE: Final = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
"""What kazoo gives for the parts of a group that would have been good."""


@dataclass(slots=True, frozen=True)
class ZooKeeperTLS:
    """
    How to speak TLS with the servers.

    @ivar ca_file: PEM file of the authorities that are believed; the system's where L{None}.
    @ivar cert_file: PEM file of our own certificate, where the servers want one.
    @ivar key_file: PEM file of its key.
    @ivar verify: whether the servers' certificates are looked at at all.
    @ivar check_hostname: whether they must name the host that was dialled.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    check_hostname: bool = True

    def check(self) -> None:
        """Raise L{ValueError} where the files are of no use; kazoo would die of that in silence."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise ValueError(f"ZooKeeper's CA file {self.ca_file}: {error}") from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ValueError) as error:
                files = f"{self.cert_file} with the key {self.key_file}"
                raise ValueError(f"the certificate for ZooKeeper {files}: {error}") from None


class ZooKeeper:
    """
    An L{Ensemble<mesoskit.cluster.ensemble.Ensemble>} of real servers.

    @param reactor: provides C{IReactorTime} and C{IReactorFromThreads}.
    @param session_timeout: seconds of silence after which the servers shall end the session. They
        may agree to something else.
    @param operation_timeout: seconds after which an operation has failed.
    @param tls: how to speak TLS; plain TCP where not given.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: ZooKeeperURL,
        *,
        session_timeout: float = 10.0,
        operation_timeout: float = 10.0,
        tls: ZooKeeperTLS | None = None,
    ) -> None:
        self._reactor = reactor
        self.url = url
        self._asked_timeout = session_timeout
        self._agreed_timeout = session_timeout
        self._operation_timeout = operation_timeout
        self._tls = tls
        self._listeners: list[Listener] = []
        self._client: KazooClient | None = None
        self._handler: _Handler | None = None
        self._session: int | None = None
        self._connected = False
        self._connecting: Deferred[None] | None = None
        self._closing: Deferred[None] | None = None
        self._waiting: set[Deferred[Any]] = set()
        self._complaint: IDelayedCall | None = None

    # What is known.

    @property
    def session(self) -> int | None:
        """The session's number, L{None} while there is none."""
        return self._session

    @property
    def session_timeout(self) -> float:
        """What the servers agreed to, in seconds."""
        return self._agreed_timeout

    @property
    def connected(self) -> bool:
        """Whether there are a session and a connection."""
        return self._connected

    def listen(self, listener: Listener) -> None:
        """Tell of what becomes of the session from now on."""
        self._listeners.append(listener)

    # Coming and going.

    def connect(self) -> "Deferred[None]":
        """Begin; fires when there is a session."""
        if self._client is not None or self._closing is not None:
            raise ValueError("connect was called before")
        if self._tls is not None:
            try:
                self._tls.check()
            except ValueError as error:
                return fail(NotAllowed(str(error)))
        _let_kazoo_log_warnings()
        handler = self._handler = _Handler(self._asked_timeout)
        tls = self._tls
        longest = max(0.2, min(1.0, self._asked_timeout / 6))
        client = self._client = KazooClient(
            hosts=",".join(self.url.hosts),
            timeout=self._asked_timeout,
            handler=handler,
            auth_data=[("digest", self.url.credential)] if self.url.credential else None,
            # It never gives up; who uses it has time-outs.
            connection_retry=KazooRetry(
                max_tries=-1, delay=0.05, max_delay=longest, sleep_func=handler.sleep_func
            ),
            command_retry=KazooRetry(max_tries=0, sleep_func=handler.sleep_func),
            use_ssl=tls is not None,
            ca=tls.ca_file if tls else None,
            certfile=tls.cert_file if tls else None,
            keyfile=tls.key_file if tls else None,
            verify_certs=tls.verify if tls else True,
            check_hostname=tls.check_hostname if tls else False,
        )
        client.add_listener(self._state_changed)
        self._learn_timeout(client)
        self._connecting = Deferred()
        self._complain_later(FIRST_COMPLAINT)
        client.start_async()
        return self._connecting

    def _complain_later(self, delay: float = COMPLAINT) -> None:
        """Say so where there are no servers: kazoo goes on trying, and somebody waits."""
        self._complaint = self._reactor.callLater(delay, self._complain)

    def _complain(self) -> None:
        if self._client is not None and not self._connected:
            self.log.warn("No ZooKeeper at {url} yet; still trying", url=self.url)
            self._complain_later()

    def close(self) -> "Deferred[None]":
        """End the session and begin no other."""
        if self._closing is not None:
            # Everybody who asks is told.
            waiting: Deferred[None] = Deferred()
            self._closing.addBoth(lambda _: waiting.callback(None))
            return waiting
        client, self._client = self._client, None
        self._connected = False
        self._session = None
        closing: Deferred[None] = Deferred()
        self._closing = closing
        self._fail_waiting(lambda: Closed("the client was closed"))
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.errback(Closed("the client was closed"))
        self._listeners.clear()
        self._complain_no_more()
        if client is None:
            closing.callback(None)
            return succeed(None)
        timer = self._reactor.callLater(_CLOSING, self._closed)
        closing.addBoth(lambda _: timer.cancel() if timer.active() else None)
        # It waits for its threads, which wait for servers.
        Thread(target=self._close, args=(client,), name="zookeeper-close", daemon=True).start()
        return self.close()

    def _close(self, client: KazooClient) -> None:
        """In a thread of its own: end it all."""
        try:
            client.stop()
            client.close()
        except Exception as error:
            self._from_thread(self._not_closed, error)
        self._from_thread(self._closed)

    def _not_closed(self, error: Exception) -> None:
        self.log.warn("ZooKeeper was not left cleanly: {error}", error=error)

    def _closed(self) -> None:
        closing = self._closing
        if closing is not None and not closing.called:
            closing.callback(None)

    def suspect(self) -> None:
        """Break the connection; kazoo dials the next server."""
        if self._handler is not None:
            self._handler.break_connection()

    # Operations.

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
        acl = _acl(self.url, private)
        return self._do(
            path,
            lambda client: client.create_async(
                path, data, acl=acl, ephemeral=ephemeral, sequence=sequence
            ),
            str,
            size=len(data),
        )

    def create_path(self, path: str, *, private: bool = False) -> "Deferred[None]":
        """Make a node without data, and those above it, where they are missing."""
        acl = _acl(self.url, private)
        return self._do(path, lambda client: client.ensure_path_async(path, acl), _nothing)

    def get(self, path: str) -> "Deferred[tuple[bytes, Stat]]":
        """Return a node's data."""
        return self._do(path, lambda client: client.get_async(path), _data)

    def get_children(self, path: str) -> "Deferred[list[str]]":
        """Return the names of a node's children."""
        return self._do(path, lambda client: client.get_children_async(path), list)

    def get_children_and_watch(self, path: str) -> "Deferred[tuple[list[str], Deferred[None]]]":
        """Return the names of a node's children, and what fires when that changes."""
        changed, watch = self._watch()
        return self._do(
            path,
            lambda client: client.get_children_async(path, watch=watch),
            lambda names: (list(names), changed),
        )

    def exists_and_watch(self, path: str) -> "Deferred[tuple[Stat | None, Deferred[None]]]":
        """Return a node's L{Stat} or L{None}, and what fires when that changes."""
        changed, watch = self._watch()
        return self._do(
            path,
            lambda client: client.exists_async(path, watch=watch),
            lambda stat: (None if stat is None else _stat(stat), changed),
        )

    def get_and_watch(self, path: str) -> "Deferred[tuple[bytes, Stat, Deferred[None]]]":
        """Return a node's data, and what fires when that changes."""
        changed, watch = self._watch()
        return self._do(
            path,
            lambda client: client.get_async(path, watch=watch),
            lambda found: (*_data(found), changed),
        )

    def set(self, path: str, data: bytes, version: int = ANY_VERSION) -> "Deferred[Stat]":
        """Replace a node's data."""
        return self._do(
            path, lambda client: client.set_async(path, data, version), _stat, size=len(data)
        )

    def delete(self, path: str, version: int = ANY_VERSION) -> "Deferred[None]":
        """Delete a node."""
        return self._do(path, lambda client: client.delete_async(path, version), _nothing)

    def multi(self, operations: Sequence[Operation]) -> "Deferred[None]":
        """Do all of this or nothing."""
        if not operations:
            return succeed(None)
        url = self.url

        def begin(client: KazooClient) -> Any:
            group = client.transaction()
            for each in operations:
                if isinstance(each, Create):
                    group.create(each.path, each.data, acl=_acl(url, each.private))
                elif isinstance(each, Set):
                    group.set_data(each.path, each.data, each.version)
                elif isinstance(each, Delete):
                    group.delete(each.path, each.version)
                else:
                    group.check(each.path, each.version)
            return group.commit_async()

        def done(results: Sequence[Any]) -> None:
            for each, result in zip(operations, results, strict=True):
                if isinstance(result, Exception) and not isinstance(result, _UNDONE):
                    raise _translated(result, each.path)

        # The path and some 50 bytes of each go with it.
        size = sum(
            100 + len(each.path) + (0 if isinstance(each, Check | Delete) else len(each.data))
            for each in operations
        )
        return self._do(operations[0].path, begin, done, size=size)

    def _do(
        self,
        path: str,
        begin: Callable[[KazooClient], Any],
        convert: Callable[[Any], _T],
        size: int = 0,
    ) -> "Deferred[_T]":
        """Begin an operation, and fire with its converted result on the reactor's thread."""
        client = self._client
        if client is None:
            return fail(Closed("the client is closed, or was never connected"))
        if not self._connected:
            # kazoo would keep it for when there is a connection; nobody waits for it then.
            return fail(Unavailable(f"{path}: not connected to {self.url}"))
        if len(self._waiting) >= MOST:
            return fail(Unavailable(f"{path}: {MOST} operations wait for their answers already"))
        if size > LARGEST:
            return fail(TooLarge(f"{path}: {size} bytes; servers take up to {LARGEST} at once"))
        result: Deferred[Any] = Deferred()
        self._waiting.add(result)
        try:
            begin(client).rawlink(partial(self._from_thread, self._answered, result, path))
        except Exception as error:
            self._waiting.discard(result)
            return fail(EnsembleError(f"{path}: {error}"))
        timeout = self._operation_timeout
        result.addTimeout(timeout, self._reactor)
        result.addBoth(self._ended, result)
        result.addErrback(_too_slow, path, timeout)
        return result.addCallback(convert)

    def _ended(self, outcome: Any, result: "Deferred[Any]") -> Any:
        self._waiting.discard(result)
        return outcome

    def _answered(self, result: "Deferred[Any]", path: str, answer: Any) -> None:
        if result.called:
            return
        error = answer.exception
        if error is None:
            result.callback(answer.value)
        else:
            result.errback(_translated(error, path))

    def _watch(self) -> "tuple[Deferred[None], Callable[[Any], None]]":
        changed: Deferred[None] = Deferred()

        def fire() -> None:
            if not changed.called:
                changed.callback(None)

        return changed, lambda _: self._from_thread(fire)

    def _fail_waiting(self, error: Callable[[], EnsembleError]) -> None:
        waiting, self._waiting = self._waiting, set()
        for result in waiting:
            if not result.called:
                result.errback(error())

    # The session, as kazoo's threads tell of it.

    def _from_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        self._reactor.callFromThread(function, *arguments)

    def _state_changed(self, state: str) -> None:
        """In a thread of kazoo's: tell the reactor."""
        client = self._client
        if client is not None:
            session = client.client_id[0] if client.client_id else None
            refused = ""
            if client.client_state == KeeperState.AUTH_FAILED:
                refused = "does not believe us"
            elif client.client_state == KeeperState.CLOSED:
                # Nobody has stopped it: its thread has died of something.
                refused = "cannot be spoken to"
            self._from_thread(self._hear, state, session, refused, self._timeout_seen)

    def _hear(self, state: str, session: int | None, refused: str, timeout: float) -> None:
        if self._client is None:
            return
        if state == KazooState.CONNECTED:
            self._connected = True
            self._session = session
            self._agreed_timeout = timeout
            self._complain_no_more()
            self.log.info(
                "Connected to ZooKeeper at {url}, session {session:#x} of {timeout:g} s",
                url=self.url,
                session=session,
                timeout=timeout,
            )
            self._tell(Session.CONNECTED)
            connecting, self._connecting = self._connecting, None
            if connecting is not None:
                connecting.callback(None)
        elif state == KazooState.SUSPENDED:
            self._connected = False
            self.log.warn("The connection to ZooKeeper at {url} is lost", url=self.url)
            self._complain_no_more()
            self._complain_later()
            self._tell(Session.SUSPENDED)
        else:
            self._connected = False
            self._session = None
            what = refused or "has ended our session"
            self.log.warn("ZooKeeper at {url} {what}", url=self.url, what=what)
            connecting = self._connecting
            if refused and connecting is not None:
                self._connecting = None
                connecting.errback(NotAllowed(f"ZooKeeper at {self.url} {refused}"))
            self._tell(Session.REFUSED if refused else Session.EXPIRED)

    def _complain_no_more(self) -> None:
        complaint, self._complaint = self._complaint, None
        if complaint is not None and complaint.active():
            complaint.cancel()

    def _tell(self, event: Session) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                self.log.failure("A listener could not bear {event}", event=event)

    def _learn_timeout(self, client: KazooClient) -> None:
        """
        Have kazoo tell what the servers agreed to, which it keeps to itself: it reads for two
        thirds of that (C{ConnectionHandler._connect}).
        """
        self._timeout_seen = self._asked_timeout
        connection = client._connection
        invoke = connection._invoke

        def watched(timeout: float, request: Any, xid: int | None = None) -> Any:
            answer = invoke(timeout, request, xid)
            agreed = getattr(answer[0], "time_out", 0) if isinstance(answer, tuple) else 0
            if agreed > 0:
                self._timeout_seen = agreed / 1000
            return answer

        connection._invoke = watched


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """
    kazoo's threads, with two changes: no server is dialled for as long as the whole session, and
    the connection can be broken from outside.
    """

    def __init__(self, session_timeout: float) -> None:
        super().__init__()
        self._longest = max(0.5, session_timeout / 4)
        self._socket: Any = None

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Dial a server; a host that takes no connections must not cost the session."""
        kwargs["timeout"] = min(kwargs.get("timeout", self._longest), self._longest)
        self._socket = super().create_connection(*args, **kwargs)
        return self._socket

    def break_connection(self) -> None:
        """Let the reading thread find the end of its connection."""
        try:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already


def _acl(url: ZooKeeperURL, private: bool) -> list[Any]:
    if url.credential is None:
        return list(OPEN_ACL_UNSAFE)
    return list(CREATOR_ALL_ACL) + ([] if private else list(READ_ACL_UNSAFE))


def _stat(stat: Any) -> Stat:
    return Stat(stat.version, stat.ephemeralOwner or 0)


def _data(found: Any) -> tuple[bytes, Stat]:
    data, stat = found
    return bytes(data or b""), _stat(stat)


def _nothing(_: Any) -> None:
    """Whatever kazoo says of success."""


def _translated(error: BaseException, path: str) -> EnsembleError:
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(f"{path}: {type(error).__name__.removesuffix('Error')}")
    said = str(error) or type(error).__name__
    if isinstance(
        error,
        exceptions.ConnectionLoss
        | exceptions.SessionExpiredError
        | exceptions.OperationTimeoutError
        | exceptions.SessionMovedError
        | exceptions.CancelledError,
    ):
        return Unavailable(f"{path}: {said}")
    return EnsembleError(f"{path}: {said}")


def _too_slow(reason: Failure, path: str, timeout: float) -> Failure:
    if reason.check(TookTooLong):  # type: ignore[no-untyped-call]
        raise Unavailable(f"{path}: no answer within {timeout:g} s")
    return reason


def _let_kazoo_log_warnings() -> None:
    """Python's logging would print what nobody has asked for; our own log has the transitions."""
    logger = logging.getLogger("kazoo")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
