"""The Docker engine's HTTP API over its UNIX socket: requests, and answers that go on for long.

Podman's compatible socket answers alike. Every request has a time-out, every answer a limit.
"""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    ResponseDone,
    ResponseNeverReceived,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mesoskit.agent.containers import ContainerError

TIMEOUT: Final = 60.0
"""Seconds that the engine has for an answer. It is known to be slow under load."""

MAX_BODY: Final = 16 << 20
"""Bytes of the longest answer: the list of all of an agent's containers is one."""

Query = dict[str, Any] | list[tuple[str, Any]] | None
"""Values are written as JSON where they are no text."""

CONNECTIONS: Final = 16
"""How many connections wait for the next request; there may be more while there is much to ask."""

LAST: Final = 2.0
"""Seconds that the engine has for what it was asked last, before connections are closed."""

SPOKEN: Final = (1, 41)
"""The version of the API that is asked for, where the engine has it."""

OLDEST: Final = (1, 25)
"""The oldest version that has all that is asked for."""


class EngineError(ContainerError):
    """
    The engine has refused something, or does not answer.

    @ivar status: of its answer; 0 where there was none.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@implementer(IAgentEndpointFactory)
class _OneSocket:
    """Leads every address to one UNIX socket."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, _uri: object) -> UNIXClientEndpoint:
        """Return the socket."""
        return UNIXClientEndpoint(self._reactor, self._path, timeout=10)  # type: ignore[no-untyped-call]


@implementer(IBodyProducer)
class _Bytes:
    """A body that is there."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        """Give all of it."""
        consumer.write(self._body)
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def stopProducing(self) -> None:
        """Nothing: it was given already."""

    def pauseProducing(self) -> None:
        """Nothing likewise."""

    def resumeProducing(self) -> None:
        """Nothing likewise."""


class _QuietFactory(_HTTP11ClientFactory):
    """Makes connections without a word in the log."""

    noisy = False


class Body(Protocol):
    """
    An answer that comes in pieces.

    @ivar over: fires with L{None} at its end, fails where it broke off; cancelling it ends it.
    """

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self.drop())
        self._received = received

    def dataReceived(self, data: bytes) -> None:
        """Hand it on; whoever cannot take it gets no more."""
        if self.over.called:
            return
        try:
            self._received(data)
        except Exception:
            self.over.errback(Failure())  # type: ignore[no-untyped-call]
            self.drop()

    def drop(self) -> None:
        """End the connection."""
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()
        elif self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell how it ended."""
        if self.over.called:
            return
        if reason.check(ResponseDone):  # type: ignore[no-untyped-call]
            self.over.callback(None)
        else:
            self.over.errback(reason)


class Engine:
    """
    A Docker engine.

    @ivar path: of its socket.
    @ivar version: the API's, once L{negotiate} has fired: C{"v1.41"}.
    @ivar name: what it says of itself.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self.path = path
        self.version = ""
        self.name = ""
        self._reactor = reactor
        self._asked: set[Deferred[Any]] = set()
        sockets = _OneSocket(reactor, path)
        self._pool = HTTPConnectionPool(reactor, persistent=True)  # type: ignore[no-untyped-call]
        self._pool.maxPersistentPerHost = CONNECTIONS
        self._pool.retryAutomatically = False
        self._pool._factory = _QuietFactory
        make: Any = Agent.usingEndpointFactory
        self._short: Agent = make(reactor, sockets, self._pool)
        single = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
        single._factory = _QuietFactory
        self._long: Agent = make(reactor, sockets, single)

    async def negotiate(self) -> None:
        """Ask what it is, and settle the version to be spoken. Raises L{EngineError}."""
        self.version = ""
        found = await self.ask("GET", "/version", timeout=10.0)
        try:
            newest = _version(found["ApiVersion"])
            oldest = _version(found.get("MinAPIVersion") or "1.0")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(0, f"what answers at {self.path} is no Docker engine") from error
        if newest < OLDEST:
            raise EngineError(
                0,
                f"the engine at {self.path} has API {newest[0]}.{newest[1]}:"
                f" {OLDEST[0]}.{OLDEST[1]} or newer is needed (Docker 1.13)",
            )
        major, minor = min(newest, max(SPOKEN, oldest))
        self.version = f"v{major}.{minor}"
        self.name = f"{found.get('Version', '')} (API {newest[0]}.{newest[1]})"

    async def ask(
        self,
        method: str,
        path: str,
        query: Query = None,
        body: Any = None,
        timeout: float = TIMEOUT,
    ) -> Any:
        """
        Make a request and return its answer, decoded where it is JSON.

        @raise EngineError: with the engine's words, or why there is no answer.
        """
        request = Deferred.fromCoroutine(self._ask(method, path, query, body))
        request.addTimeout(timeout, self._reactor)
        self._asked.add(request)
        try:
            return await request
        except TookTooLong as error:
            raise EngineError(
                0, f"the Docker engine has not answered {method} {path} for {timeout:g} seconds"
            ) from error
        finally:
            self._asked.discard(request)

    async def _ask(self, method: str, path: str, query: Query, body: Any) -> Any:
        response = await self._request(self._short, method, path, query, body, None)
        data = await read(response)
        if response.code >= 400:
            raise EngineError(response.code, words(data) or f"HTTP status {response.code}")
        if not data.strip():
            return None
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return data.decode(errors="replace")

    async def stream(
        self,
        method: str,
        path: str,
        query: Query = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = TIMEOUT,
    ) -> IResponse:
        """
        Begin a request whose answer goes on, over a connection of its own; to be delivered to a
        L{Body}. Raises L{EngineError}.

        @param timeout: seconds until the beginning of the answer; L{None}: whoever asks looks
            after that himself.
        """
        request = Deferred.fromCoroutine(
            self._request(self._long, method, path, query, body, headers)
        )
        if timeout is not None:
            request.addTimeout(timeout, self._reactor)
        try:
            response = await request
        except TookTooLong as error:
            raise EngineError(
                0, f"the Docker engine has not answered {method} {path} for {timeout:g} seconds"
            ) from error
        if response.code >= 400:
            reading = read(response).addTimeout(TIMEOUT, self._reactor)
            try:
                why = words(await reading)
            except TookTooLong:
                why = ""
            raise EngineError(response.code, why or f"HTTP status {response.code}")
        return response

    async def _request(
        self,
        agent: Agent,
        method: str,
        path: str,
        query: Query,
        body: Any,
        headers: dict[str, str] | None,
    ) -> IResponse:
        text = f"http://docker{self.target(path, query)}"
        given = {name: [value] for name, value in (headers or {}).items()}
        given["User-Agent"] = ["mesoskit"]
        producer = None
        if isinstance(body, bytes):
            given.setdefault("Content-Type", ["application/x-tar"])
            producer = _Bytes(body)
        elif body is not None:
            given["Content-Type"] = ["application/json"]
            producer = _Bytes(orjson.dumps(body))
        try:
            response: IResponse = await agent.request(
                method.encode(), text.encode(), Headers(given), producer
            )
        except CancelledError:
            raise
        except ResponseNeverReceived as error:
            if any(reason.check(CancelledError) for reason in error.reasons):
                raise CancelledError from error
            why = "; ".join(reason.getErrorMessage() for reason in error.reasons)
            raise EngineError(0, self.gone(why)) from error
        except Exception as error:
            raise EngineError(0, self.gone(str(error))) from error
        return response

    def target(self, path: str, query: Query = None) -> str:
        """Return what stands in the first line of a request."""
        prefix = f"/{self.version}" if self.version else ""
        text = f"{prefix}{quote(path, safe='/:@')}"
        if query:
            pairs = query.items() if isinstance(query, dict) else query
            text += "?" + urlencode([(name, _text(value)) for name, value in pairs])
        return text

    def gone(self, why: str) -> str:
        """Return what is said of an engine that is not there."""
        return f"no Docker engine answers at {self.path}: {why}"

    def close(self) -> "Deferred[None]":
        """Let what was asked be answered, for a moment, and end all connections."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        asked = list(self._asked)

        def give_up() -> None:
            for one in asked:
                one.cancel()

        late = self._reactor.callLater(LAST, give_up)
        for one in asked:
            ended: Deferred[None] = Deferred()
            one.addBoth(_and_then(ended))
            await ended
        if late.active():
            late.cancel()
        await self._pool.closeCachedConnections()  # type: ignore[no-untyped-call]


def deliver(response: IResponse, received: Callable[[bytes], None]) -> Body:
    """Give what comes of an answer to a function, piece by piece."""
    body = Body(received)
    response.deliverBody(body)  # type: ignore[no-untyped-call]
    return body


def read(response: IResponse) -> "Deferred[bytes]":
    """Read all of an answer; fails where it is longer than L{MAX_BODY}."""
    parts: list[bytes] = []
    size = 0

    def received(data: bytes) -> None:
        nonlocal size
        size += len(data)
        if size > MAX_BODY:
            raise EngineError(0, f"the Docker engine's answer is longer than {MAX_BODY} bytes")
        parts.append(data)

    body = deliver(response, received)

    def failed(reason: Failure) -> Failure:
        if reason.check(EngineError, CancelledError):  # type: ignore[no-untyped-call]
            return reason
        why = f"the Docker engine's answer broke off: {reason.getErrorMessage()}"
        return Failure(EngineError(0, why))  # type: ignore[no-untyped-call]

    return body.over.addCallbacks(lambda _: b"".join(parts), failed)


class Delays:
    """
    How long to wait before something is tried again: longer each time.

    @ivar call: what waits; L{None} where nothing does.
    """

    def __init__(self, clock: Any, first: float, longest: float) -> None:
        self.call: IDelayedCall | None = None
        self._clock = clock
        self._first = self._next = first
        self._longest = longest

    def again(self, function: Callable[[], object]) -> None:
        """Call it after the next pause."""

        def call() -> None:
            self.call = None
            function()

        self.cancel()
        self.call = self._clock.callLater(self._next, call)
        self._next = min(self._longest, self._next * 2)

    def reset(self) -> None:
        """It went well: begin with the shortest pause."""
        self._next = self._first

    def cancel(self) -> None:
        """Do not try again."""
        if self.call is not None:
            self.call.cancel()
            self.call = None


def _and_then(ended: "Deferred[None]") -> Callable[[Any], Any]:
    def over(result: Any) -> Any:
        ended.callback(None)
        return result

    return over


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def words(data: bytes) -> str:
    """Return what the engine says of an error."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode(errors="replace").strip()[:2000]
    if isinstance(found, dict):
        return str(found.get("message") or found.get("cause") or "").strip()[:2000]
    return ""
