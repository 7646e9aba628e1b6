"""The agent's endpoints over HTTP: paths and answers as Mesos has them.

A route is one row of L{ROUTES}. Most are there with and without C{/slave(1)} before them, some
without only (C{src/slave/slave.cpp}, C{src/slave/http.cpp}).
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson
import psutil
from twisted.web.resource import Resource
from twisted.web.server import Request

from mesoskit import __version__
from mesoskit.agent.frameworks import Kind

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService

PROCESS = "slave(1)"
"""What stands before most paths: the name of the agent's libprocess actor in Mesos."""

_CALLBACK = re.compile(rb"[A-Za-z0-9_.$]{1,128}")
# What may stand before the bracket of jsonp: nothing that a browser could be tricked by.


@dataclass(slots=True)
class Reply:
    """
    An answer.

    @ivar body: bytes as they are, or what orjson can write as JSON.
    """

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[["AgentService", Request], Reply]


def health(service: "AgentService", request: Request) -> Reply:
    """Say that the agent is there."""
    return Reply()


def version(service: "AgentService", request: Request) -> Reply:
    """Say which Mesos this speaks like, and which mesoskit it is."""
    return Reply(
        body={
            "version": service.state.options.version,
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
            "mesoskit_version": __version__,
        }
    )


def metrics(service: "AgentService", request: Request) -> Reply:
    """Return all metrics in one flat object, names in alphabetical order."""
    shown = service.metrics()
    memory = psutil.virtual_memory()
    one, five, fifteen = os.getloadavg()
    shown.update(
        {
            "system/cpus_total": float(os.cpu_count() or 0),
            "system/load_1min": one,
            "system/load_5min": five,
            "system/load_15min": fifteen,
            "system/mem_free_bytes": float(memory.available),
            "system/mem_total_bytes": float(memory.total),
        }
    )
    return Reply(body=dict(sorted(shown.items())))


def containers(service: "AgentService", request: Request) -> Reply:
    """Return what runs and what it uses: an object for each container."""
    state = service.state
    shown = []
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            for container in _containers_of(executor):
                entry: dict[str, Any] = {
                    "container_id": container,
                    "executor_id": executor.id,
                    "framework_id": framework.id,
                    "source": executor.id if executor.kind is Kind.COMMAND else "",
                }
                usage = state.usage.get(container)
                if usage is not None:
                    entry["statistics"] = {
                        "timestamp": usage.timestamp,
                        "processes": usage.processes,
                        "cpus_user_time_secs": usage.user_seconds,
                        "cpus_system_time_secs": usage.system_seconds,
                        "mem_rss_bytes": usage.rss_bytes,
                    }
                shown.append(entry)
    return Reply(body=shown)


def _containers_of(executor: Any) -> list[Any]:
    if executor.kind is Kind.CUSTOM:
        return [executor.container]
    return [task.container for task in executor.tasks.values() if not task.ended]


@dataclass(slots=True, frozen=True)
class Route:
    """
    One endpoint.

    @ivar path: without the first slash.
    @ivar handler: returns the answer.
    @ivar under_process: whether it is also there with C{/slave(1)} before it.
    """

    path: str
    handler: Handler
    under_process: bool = True


ROUTES: tuple[Route, ...] = (
    Route("health", health),
    Route("containers", containers),
    Route("version", version, under_process=False),
    Route("metrics/snapshot", metrics, under_process=False),
)
"""Every endpoint; adding one is adding a row."""


class AgentResource(Resource):
    """
    The root of an agent's HTTP: gives each request to its route.

    @param service: whose state is shown.
    @param routes: rows of the table.
    """

    isLeaf = True

    def __init__(self, service: "AgentService", routes: tuple[Route, ...] = ROUTES) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._service = service
        self._handlers: dict[str, Handler] = {}
        for route in routes:
            self._handlers[route.path] = route.handler
            if route.under_process:
                self._handlers[f"{PROCESS}/{route.path}"] = route.handler

    def render(self, request: Any) -> bytes:
        """Answer a request."""
        path = unquote(request.path.decode("utf-8", "replace")).strip("/")
        handler = self._handlers.get(path)
        if handler is None:
            kind = {"Content-Type": "text/plain; charset=utf-8"}
            reply = Reply(404, b"404 Not Found.", kind)
        else:
            reply = handler(self._service, request)
        return _write(request, reply)


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
