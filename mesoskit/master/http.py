"""The master's endpoints over HTTP: paths, parameters and answers as Mesos has them.

A route is one row of L{ROUTES}. Most are there with and without C{/master} before them, some
without only (C{src/master/master.cpp}, C{src/master/http.cpp}); a name with C{.json} after
it is none. Nothing is decided here that the state decides.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson
import psutil
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mesoskit import __version__
from mesoskit.master import views
from mesoskit.master.operator import Replied, Teardown
from mesoskit.master.options import MESOS_VERSION
from mesoskit.model.ids import FrameworkId
from mesoskit.wire.http import WebExchange

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService

_LONGEST_FORM = 64 * 1024


@dataclass(slots=True)
class Reply:
    """
    An answer.

    @ivar body: bytes as they are, or what orjson can write as JSON.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


def text(status: int, why: str) -> Reply:
    """Return an answer of plain text, as Mesos refuses things."""
    return Reply(status, why.encode(), {"Content-Type": "text/plain; charset=utf-8"})


Handler = Callable[["MasterService", Request], "Reply | Deferred[Reply] | int"]
"""Returns an answer, now or later, or C{NOT_DONE_YET} where it answers by itself."""


def health(service: "MasterService", request: Request) -> Reply:
    """Say that the master is there."""
    return Reply()


def version(service: "MasterService", request: Request) -> Reply:
    """Say which Mesos this speaks like, and which mesoskit it is."""
    return Reply(
        body={
            "version": MESOS_VERSION,
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
            "mesoskit_version": __version__,
        }
    )


def metrics(service: "MasterService", request: Request) -> Reply:
    """Return all metrics in one flat object, names in alphabetical order."""
    shown = service.metrics()
    shown.update(_system())
    return Reply(body=dict(sorted(shown.items())))


def _system() -> dict[str, float]:
    memory = psutil.virtual_memory()
    one, five, fifteen = os.getloadavg()
    return {
        "system/cpus_total": float(os.cpu_count() or 0),
        "system/load_1min": one,
        "system/load_5min": five,
        "system/load_15min": fifteen,
        "system/mem_free_bytes": float(memory.available),
        "system/mem_total_bytes": float(memory.total),
    }


def state(service: "MasterService", request: Request) -> Reply:
    """Show everything."""
    return Reply(body=views.state_view(service.state, service.flags))


def summary(service: "MasterService", request: Request) -> Reply:
    """Show agents and frameworks, with numbers of tasks."""
    return Reply(body=views.summary_view(service.state))


def slaves(service: "MasterService", request: Request) -> Reply:
    """Show the agents, or the one that C{slave_id} names."""
    return Reply(body=views.agents_view(service.state, _parameter(request, "slave_id")))


def frameworks(service: "MasterService", request: Request) -> Reply:
    """Show the frameworks, or the one that C{framework_id} names."""
    return Reply(body=views.frameworks_view(service.state, _parameter(request, "framework_id")))


def tasks(service: "MasterService", request: Request) -> Reply:
    """Show tasks: C{limit} of them from C{offset} on, the latest first unless C{order=asc}."""
    return Reply(
        body=views.tasks_view(
            service.state,
            limit=_number(request, "limit", 100),
            offset=_number(request, "offset", 0),
            ascending=_parameter(request, "order") == "asc",
            framework_id=_parameter(request, "framework_id"),
            task_id=_parameter(request, "task_id"),
        )
    )


def roles(service: "MasterService", request: Request) -> Reply:
    """Show the roles."""
    return Reply(body=views.roles_view(service.state))


def _parameter(request: Request, name: str) -> str | None:
    arguments: dict[bytes, list[bytes]] = request.args or {}
    values = arguments.get(name.encode())
    return values[0].decode("utf-8", "replace") if values else None


def _number(request: Request, name: str, default: int) -> int:
    """Return a parameter that is a whole number; what is none is ignored, as in Mesos."""
    given = _parameter(request, name)
    if given is None or not given.isascii() or not given.isdigit():
        return default
    return min(int(given[:9]), 10**8)


def redirect(service: "MasterService", request: Request) -> Reply:
    """Send whoever asks to the leading master; the Location has no scheme."""
    info = service.state.info
    return Reply(307, headers={"Location": f"//{info.hostname}:{info.port}"})


def teardown(service: "MasterService", request: Request) -> "Reply | Deferred[Reply]":
    """Remove the framework that the form names (C{frameworkId=...})."""
    if request.method != b"POST":
        return Reply(405, headers={"Allow": "POST"})
    framework_id = _form(request).get("frameworkId")
    if framework_id is None:
        return text(400, "Missing 'frameworkId' query parameter in the request body")

    def replied(result: Replied) -> Reply:
        return Reply() if result.status == 200 else text(result.status, result.why)

    return service.request(Teardown(FrameworkId(framework_id))).addCallback(replied)


def _form(request: Request) -> dict[str, str]:
    """Read a urlencoded body; an unreadable one is empty."""
    content = request.content
    body = b"" if content is None else content.read(_LONGEST_FORM)
    try:
        return dict(parse_qsl(body.decode()))
    except ValueError:
        return {}


def scheduler(service: "MasterService", request: Request) -> int:
    """Take a call of a framework."""
    service.schedulers.post(WebExchange(request))
    return NOT_DONE_YET


@dataclass(slots=True, frozen=True)
class Route:
    """
    One endpoint.

    @ivar path: without the first slash.
    @ivar handler: returns the answer, or a Deferred of it.
    @ivar under_master: whether it is also there with C{/master} before it.
    """

    path: str
    handler: Handler
    under_master: bool = True


ROUTES: tuple[Route, ...] = (
    Route("health", health),
    Route("version", version, under_master=False),
    Route("metrics/snapshot", metrics, under_master=False),
    Route("state", state),
    Route("state-summary", summary),
    Route("slaves", slaves),
    Route("frameworks", frameworks),
    Route("tasks", tasks),
    Route("roles", roles),
    Route("redirect", redirect),
    Route("teardown", teardown),
    Route("api/v1/scheduler", scheduler),
)
"""Every endpoint; adding one is adding a row."""


class MasterResource(Resource):
    """
    The root of a master's HTTP: gives each request to its route.

    @param service: whose state is shown.
    @param routes: rows of the table.

    @ivar calls: the routes that take the short way (L{mesoskit.wire.quick}).
    """

    isLeaf = True

    def __init__(self, service: "MasterService", routes: tuple[Route, ...] = ROUTES) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._service = service
        self._handlers: dict[str, Handler] = {}
        post = service.schedulers.post
        self.calls = {b"/api/v1/scheduler": post, b"/master/api/v1/scheduler": post}
        for route in routes:
            self._handlers[route.path] = route.handler
            if route.under_master:
                self._handlers[f"master/{route.path}"] = route.handler

    def _find(self, path: str) -> Handler | None:
        """Return the handler of the longest route that C{path} is, or is under."""
        while path:
            handler = self._handlers.get(path)
            if handler is not None:
                return handler
            path = path.rpartition("/")[0]
        return None

    def render(self, request: Request) -> Any:
        """Answer a request, at once or later."""
        path = request.path.decode("utf-8", "replace").strip("/")
        handler = self._find(path)
        if handler is None:
            return _write(request, text(404, "404 Not Found."))
        reply = handler(self._service, request)
        if isinstance(reply, int):
            return reply
        if isinstance(reply, Reply):
            return _write(request, reply)
        gone: list[Any] = []
        request.notifyFinish().addErrback(gone.append)

        def answered(result: Reply) -> None:
            if not gone:
                _finish(request, result)

        reply.addErrback(lambda failure: text(503, failure.getErrorMessage()))
        reply.addCallback(answered)
        return NOT_DONE_YET


def _finish(request: Any, reply: Reply) -> None:
    request.write(_write(request, reply))
    request.finish()


def _write(request: Any, reply: Reply) -> bytes:
    """Set status and headers of a request; return the body."""
    request.setResponseCode(reply.status)
    # Twisted's guess of a type is wrong for bodies that are empty.
    request.responseHeaders.removeHeader("Content-Type")
    body: bytes
    if isinstance(reply.body, bytes):
        body = reply.body
    else:
        body = orjson.dumps(reply.body)
        kind = "application/json"
        callback = request.args.get(b"jsonp", [b""])[0]
        if callback and _CALLBACK.fullmatch(callback):
            body, kind = callback + b"(" + body + b")", "text/javascript"
        request.setHeader("Content-Type", kind)
    for name, value in reply.headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(body)))
    return body


_CALLBACK = re.compile(rb"[A-Za-z0-9_.$]{1,128}")
"""What may stand before the bracket of jsonp: nothing that a browser could be tricked by."""
