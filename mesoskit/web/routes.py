"""The endpoints of a daemon: a table of routes, and how their answers are written.

Paths, methods and refusals are as a recorded Apache Mesos 1.12 has them: most routes are there
with and without the daemon's own name before them, a path under a route is the route's, any
method that HTTP knows is answered like C{GET} where the route does not say otherwise, an
unknown method or a bad percent escape closes the connection. Names with C{.json} after them,
which older tools ask for and Mesos 1.12 has no more, are answered as an extension of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import orjson
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mesoskit.model.authorization import Needs
from mesoskit.web import help as pages
from mesoskit.web.authentication import ASKS, OF_CARRIERS, Guard, Realm
from mesoskit.web.authorizing import FORBIDDEN, SHARED_ROUTES, Authorizing, needs_text
from mesoskit.web.firewall import Firewall
from mesoskit.web.sending import GZIP_FROM, Document, Documents, Sender, accepts_gzip
from mesoskit.web.streaming import Streamed
from mesoskit.wire.endpoints import address_text
from mesoskit.wire.exchange import REASONS, Away, Identified
from mesoskit.wire.http import last_header
from mesoskit.wire.quick import CallRoute

TEXT: Final = "text/plain; charset=utf-8"
OTHER_SITE: Final = "A page of another site may change nothing here."
JSON: Final = "application/json"

_METHODS: Final = frozenset(
    b"""GET HEAD POST PUT DELETE OPTIONS PATCH CONNECT TRACE COPY LOCK MKCOL MOVE PROPFIND
    PROPPATCH SEARCH UNLOCK REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE
    UNSUBSCRIBE PURGE""".split()
)
_HARMLESS: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_SLASHES: Final = re.compile(rb"//+")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
#: What may stand before the bracket of jsonp: nothing that a browser could be tricked by.
_CALLBACK: Final = re.compile(rb"[A-Za-z0-9_.$]{1,128}")


@dataclass(slots=True)
class Reply:
    """
    An answer.

    @ivar body: bytes as they are, a L{Document}, a L{Streamed}, or what orjson can write as
        JSON.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


def text(status: int, why: str) -> Reply:
    """Return an answer of plain text, as Mesos refuses things."""
    return Reply(status, why.encode(), {"Content-Type": TEXT})


def not_found() -> Reply:
    """Return the answer for what is not there."""
    return text(404, "404 Not Found.")


def not_allowed(request: Any, *allowed: str) -> Reply:
    """Return the answer for a method that a route does not take."""
    names = ", ".join(f"'{one}'" for one in allowed)
    method = request.method.decode("latin-1")
    reply = text(
        405, f"405 Method Not Allowed. Expecting one of {{ {names} }}, but received '{method}'."
    )
    reply.headers["Allow"] = ", ".join(allowed)
    return reply


def parameter(request: Any, name: str) -> str | None:
    """Return a parameter of the query, the last of its name as in Mesos, or L{None}."""
    arguments: dict[bytes, list[bytes]] = request.args or {}
    values = arguments.get(name.encode())
    return values[-1].decode("utf-8", "replace") if values else None


def number(request: Any, name: str, default: int) -> int:
    """Return a parameter that is a whole number; what is none is ignored, as in Mesos."""
    given = parameter(request, name) or ""
    digits = given.removeprefix("-")
    if not digits.isascii() or not digits.isdigit():
        return default
    size = min(int(digits[:10]), 10**9)
    return -size if given.startswith("-") else size


Handler = Callable[[Any, Any], "Reply | Deferred[Reply] | Deferred[Reply | int] | int"]
"""
Is given the daemon's service and the request, whose C{principal} (C{str | None}) is who asks, and
whose C{subject} (L{Subject<mesoskit.model.authorization.Subject>}) says what he may do.
Returns an answer, or C{NOT_DONE_YET} where it answers by itself, now or later. Its docstring is
the route's help page.
"""


@dataclass(slots=True, frozen=True)
class Route:
    """
    One endpoint.

    @ivar path: without the first slash.
    @ivar handler: returns the answer.
    @ivar prefixed: whether it is also there with the daemon's name before it.
    @ivar led: whether only a daemon that leads answers it.
    @ivar realm: whose who ask must prove who they are, where flags say so. Each route must name
        one; what names none is as closed as what changes things.
    @ivar exact: whether the paths under it are not its own.
    """

    path: str
    handler: Handler
    prefixed: bool = True
    led: bool = False
    realm: Realm | None = None
    exact: bool = False


def in_thread(reactor: Any, function: Callable[[], Any]) -> Deferred[Any]:
    """Call a function in a thread, or at once where the reactor has no threads."""
    if IReactorThreads.providedBy(reactor):
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)
    return maybeDeferred(function)


def _open(path: str) -> Away | None:
    return None


def away_reply(away: Away) -> Reply:
    """Return the answer for whoever is sent away."""
    reply = text(away.status, away.why) if away.why else Reply(away.status)
    reply.headers.update(away.headers)
    return reply


def _elsewhere(request: Any, away: Away) -> Reply:
    """Return the answer for whoever is sent to the leader, with what stood behind the path."""
    reply = away_reply(away)
    _, mark, query = request.uri.partition(b"?")
    if mark and "Location" in reply.headers:
        reply.headers["Location"] += "?" + query.decode("latin-1")
    return reply


class _Asked:
    """A request of C{twisted.web} as an L{mesoskit.wire.exchange.Asked}."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    @property
    def path(self) -> str:
        """What was asked for, without a query."""
        return str(self._request.path.decode("latin-1"))

    @property
    def method(self) -> str:
        """C{POST} …"""
        return str(self._request.method.decode("latin-1"))

    @property
    def peer(self) -> str:
        """Where the client is."""
        return address_text(self._request.getClientAddress())

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case."""
        return last_header(self._request, name)


def _is_of_another_site(request: Any) -> bool:
    """
    Tell whether a browser asks for a change because a page of somebody else's has it do so. It
    would show what its user has once told it to prove who he is.
    """
    sites = request.requestHeaders.getRawHeaders(b"sec-fetch-site", ())
    return b"cross-site" in sites and request.method not in _HARMLESS


class RoutesResource(Resource):
    """
    The root of a daemon's HTTP: gives each request to its route.

    @param service: what handlers are given.
    @param routes: the table; C{/help} is added.
    @param name: the daemon's own, which stands before prefixed paths: C{master}.
    @param reactor: the clock, and threads for what takes long, where it has any.
    @param gate: says where requests for routes that are C{led} are sent instead.
    @param guard: finds out who asks; asks nobody where none is given.
    @param authorizing: says what they may do; everything where none is given.
    @param needs: what it takes to come through each route, by path; each must be there, and what
        is not is closed where somebody decides.
    @param firewall: paths of endpoints that nobody is given.

    @ivar table: the rows of the table, C{/help} among them.
    @ivar needs: what they need, by path.
    """

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        service: Any,
        routes: Sequence[Route],
        name: str,
        reactor: Any,
        gate: Callable[[str], Away | None] = _open,
        guard: Guard | None = None,
        authorizing: Authorizing | None = None,
        needs: Mapping[str, Needs] | None = None,
        firewall: Iterable[str] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._name = name
        self._guard = guard or Guard(name, reactor)
        self._authorizing = authorizing or Authorizing(None, reactor)
        self.needs = {**SHARED_ROUTES, **(needs or {})}
        self._firewall = Firewall(name, firewall)
        self._service = service
        self._gate = gate
        self._reactor = reactor
        self._documents = Documents(reactor)
        self._sender = Sender()
        self.help = pages.Help(name)
        own = Route("help", self._help, prefixed=False, realm=Realm.OPEN)
        self.table = (own, *routes)
        self._routes: dict[str, Route] = {own.path: own}
        for route in routes:
            self._routes[route.path] = route
            if route.prefixed:
                self._routes[f"{name}/{route.path}".rstrip("/")] = route
            asks = ASKS[Realm.READWRITE if route.realm is None else route.realm]
            what = needs_text(self.needs.get(route.path))
            self.help.add(route.path, route.prefixed, route.handler.__doc__ or "", asks, what)
        # No route has more names in its path.
        self._depth = 1 + max(path.count("/") for path in self._routes)
        for path in self._firewall.disabled - {route.path for route in self.table}:
            self.log.warn("--firewall_rules: there is no endpoint /{path} here", path=path)

    def unless_disabled(self, path: str, route: CallRoute) -> dict[bytes, CallRoute]:
        """Return a call route by its paths, for the short way; nothing where it is disabled."""
        if path in self._firewall.disabled:
            return {}
        return {f"/{path}".encode(): route, f"/{self._name}/{path}".encode(): route}

    def _find(self, path: str) -> Route | None:
        """Return the route that C{path} is, or the longest that it is under."""
        routes = self._routes
        found = routes.get(path)
        if found is None and path.endswith(".json"):
            found = routes.get(path.removesuffix(".json"))
        whole = path
        if found is None:
            # However many names follow: who sends them must not make us try them all.
            path = "/".join([*path.split("/", self._depth)[: self._depth], ""])
        while (found is None or (found.exact and path != whole)) and path:
            path = path.rpartition("/")[0]
            found = routes.get(path)
        return None if found is not None and found.exact and path != whole else found

    def render(self, request: Any) -> int:
        """Answer a request, at once or later."""
        if request.method not in _METHODS or _BAD_ESCAPE.search(request.uri):
            request.channel.loseConnection()
            return NOT_DONE_YET
        if request.path.startswith(b"http://"):
            # As clients ask proxies; the host is nobody's business (RFC 9112, 3.2.2).
            request.path = b"/" + request.path[7:].partition(b"/")[2]
        # Clients put a base that ends in a slash before a path that begins with one.
        request.path = _SLASHES.sub(b"/", request.path)
        request.principal = None
        request.subject = self._authorizing.subject(None)
        path = unquote(request.path.decode("latin-1"), errors="replace")
        route = self._find(path.strip("/"))
        if route is None:
            return self._answer(request, not_found())
        if route.path in self._firewall.disabled:
            shown = f"{self._name}/{route.path}" if route.prefixed else route.path
            return self._answer(request, text(403, f"Endpoint '/{shown}' is disabled"))
        realm = Realm.READWRITE if route.realm is None else route.realm
        if realm in OF_CARRIERS:
            return self._handle(request, route, path)
        if realm is Realm.READWRITE and _is_of_another_site(request):
            return self._answer(request, text(403, OTHER_SITE))
        who = self._guard.identify(realm, _Asked(request))
        if isinstance(who, Deferred):
            who.addCallback(lambda known: self._identified(request, route, path, known))
            who.addErrback(self._broken, request)
            return NOT_DONE_YET
        return self._identified(request, route, path, who)

    def _identified(self, request: Any, route: Route, path: str, who: Identified) -> int:
        """It is known who asks."""
        if getattr(request, "_disconnected", False):
            return NOT_DONE_YET
        if isinstance(who, Away):
            return self._answer(request, away_reply(who))
        request.principal = None if who is None else str(who)
        request.subject = self._authorizing.subject(who)
        if route.led:
            away = self._gate(path)
            if away is not None:
                return self._answer(request, _elsewhere(request, away))
        ready = self._authorizing.prepare(request.subject.principal)
        if ready is not None:
            ready.addCallback(lambda away: self._prepared(request, route, path, away))
            ready.addErrback(self._broken, request)
            return NOT_DONE_YET
        return self._prepared(request, route, path, None)

    def _prepared(self, request: Any, route: Route, path: str, away: Away | None) -> int:
        """It can be said what whoever asks may do."""
        if getattr(request, "_disconnected", False):
            return NOT_DONE_YET
        if away is not None:
            return self._answer(request, away_reply(away))
        if self._authorizing.authorizer is not None:
            needs = self.needs.get(route.path)
            if needs is None or not needs.met(request.subject):
                return self._answer(request, text(403, FORBIDDEN))
        return self._handle(request, route, path)

    def _handle(self, request: Any, route: Route, path: str) -> int:
        """Let a route's handler answer."""
        try:
            reply: Any = route.handler(self._service, request)
        except Exception:
            self.log.failure("answering {path}", path=path)
            reply = text(500, "")
        if isinstance(reply, Deferred):
            reply.addErrback(self._failed)
            reply.addCallback(
                lambda late: late if isinstance(late, int) else self._answer(request, late)
            )
            reply.addErrback(self._broken, request)
        elif isinstance(reply, Reply):
            return self._answer(request, reply)
        return NOT_DONE_YET

    def _failed(self, failure: Failure) -> Reply:
        """Answer for a handler that came to nothing."""
        return text(503, failure.getErrorMessage())

    def _broken(self, failure: Failure, request: Any) -> None:
        if isinstance(failure.value, CancelledError) and getattr(request, "_disconnected", False):
            return
        self.log.failure("answering {path}", failure, path=request.path)
        request.channel.loseConnection()

    def _help(self, _service: Any, request: Any) -> Reply:
        """Tell what the endpoints are for: all of them, or the one whose path follows."""
        rest = unquote(request.path.decode("latin-1"), errors="replace").strip("/")
        if parameter(request, "format") == "json":
            return Reply(body=self.help.as_json())
        page = self.help.page(rest.split("/")[1:])
        if page is None:
            return text(400, f"No help available for '/{rest.partition('/')[2]}'.\n")
        return Reply(body=page.encode(), headers={"Content-Type": "text/html"})

    # Writing.

    def _answer(self, request: Any, reply: Reply) -> int:
        body = reply.body
        if isinstance(body, Document):
            built = self._documents.get(body)
            kind = reply.headers.get("Content-Type", JSON)
            request.notifyFinish().addErrback(lambda _: built.cancel())
            built.addCallback(lambda whole: self._encode(request, reply, whole, kind))
            built.addErrback(self._broken, request)
        elif isinstance(body, bytes):
            self._encode(request, reply, body, "")
        elif isinstance(body, Streamed):
            self._stream(request, reply, body)
        else:
            self._encode(request, reply, orjson.dumps(body), JSON)
        return NOT_DONE_YET

    def _stream(self, request: Any, reply: Reply, body: Streamed) -> None:
        if getattr(request, "_disconnected", False):
            body.close()
            return
        head(request, reply.status, {**reply.headers, "Content-Length": str(body.length)})
        if request.method == b"HEAD" or not body.length:
            body.close()
            request.write(b"")
            request.finish()
        else:
            body.send(request)

    def _encode(self, request: Any, reply: Reply, body: bytes, kind: str) -> None:
        if kind == JSON:
            callback = (request.args or {}).get(b"jsonp", [b""])[-1]
            if callback and _CALLBACK.fullmatch(callback):
                body, kind = callback + b"(" + body + b")", "text/javascript"
        if len(body) < GZIP_FROM or not accepts_gzip(request):
            self._write(request, reply, body, kind, "")
            return
        if not self._sender.room_for(body):
            self._no_room(request)
            return
        zipped = self._sender.gzip(body, partial(in_thread, self._reactor))
        zipped.addCallback(lambda small: self._write(request, reply, small, kind, "gzip"))
        zipped.addErrback(self._broken, request)

    def _write(self, request: Any, reply: Reply, body: bytes, kind: str, encoding: str) -> None:
        if getattr(request, "_disconnected", False):
            return
        headers = {"Content-Type": kind} if kind else {}
        headers.update(reply.headers)
        if encoding:
            headers["Content-Encoding"] = encoding
        if not self._sender.room_for(body):
            self._no_room(request)
            return
        headers["Content-Length"] = str(len(body))
        head(request, reply.status, headers)
        self._sender.send(request, body)

    def _no_room(self, request: Any) -> None:
        """Too much waits for clients already."""
        head(request, 503, {"Content-Type": TEXT, "Content-Length": "0"})
        request.finish()


def head(request: Any, status: int, headers: Mapping[str, str]) -> None:
    """Set the status and the headers of an answer, and none that nobody asked for."""
    reason = REASONS.get(status)
    request.setResponseCode(status, None if reason is None else reason.encode())
    # Twisted's guess of a type is wrong for empty bodies; the server's name is nobody's business.
    request.responseHeaders.removeHeader("Content-Type")
    request.responseHeaders.removeHeader("Server")
    for name, value in headers.items():
        request.setHeader(name, value)
