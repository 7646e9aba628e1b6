"""The agent's endpoints over HTTP: paths and answers as Mesos has them.

A route is one row of L{ROUTES}; what all daemons answer is in L{mesoskit.web.shared}. Most are
there with and without C{/slave(1)} before them, some without only (C{src/slave/slave.cpp},
C{src/slave/http.cpp}). A handler's docstring is its page under C{/help}.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from mesoskit.agent import authorizing, files_http, operator_api, views
from mesoskit.agent.measuring import measured
from mesoskit.agent.phase import Phase
from mesoskit.web import shared
from mesoskit.web.authentication import Realm
from mesoskit.web.routes import Reply, Route, RoutesResource, parameter, text
from mesoskit.web.sending import Document
from mesoskit.wire.http import WebExchange
from mesoskit.wire.quick import CallRoute

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService
    from mesoskit.agent.state import AgentState

PROCESS = "slave(1)"
"""What stands before most paths: the name of the agent's libprocess actor in Mesos."""

_WHICH_CONTAINERS: Final = (
    "Supported query parameters are container_id only, framework_id only, or executor_id and"
    " framework_id only"
)


def version(service: "AgentService", request: Any) -> Reply:
    """Say which Mesos this speaks like, and which mesoskit it is."""
    return shared.version_reply(service.state.options.version, service.state.options.build)


def flags(service: "AgentService", request: Any) -> Reply:
    """Show the flags that the agent runs with, as text; secrets are left out."""
    return shared.flags_reply(service.state.options.flags)


def state(service: "AgentService", request: Any) -> Reply:
    """
    Show everything: the agent, its frameworks, their executors and tasks.

    C{jsonp=callback} wraps it in a call of that function, here as everywhere.
    """
    if service.state.phase is Phase.RECOVERING:
        return text(503, "Agent has not finished recovery")
    viewer = authorizing.Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: _state(service.state, service.master_host(), viewer), f"state{viewer.key}"
        )
    )


def _state(state: "AgentState", master: str | None, viewer: authorizing.Viewer) -> Iterator[bytes]:
    """Give the document, an executor a piece."""
    yield orjson.dumps(views.head_view(state, master, viewer))[:-1]
    for name, frameworks in (
        (b"frameworks", list(state.frameworks.values())),
        (b"completed_frameworks", list(state.completed_frameworks.values())),
    ):
        yield b',"%b":[' % name
        before = b""
        for framework in filter(viewer.framework, frameworks):
            yield before + orjson.dumps(views.framework_view(framework))[:-1]
            before = b","
            for key, executors in (
                (b"executors", list(framework.executors.values())),
                (b"completed_executors", list(framework.completed)),
            ):
                yield b',"%b":[' % key
                comma = b""
                for executor in filter(viewer.executor, executors):
                    yield comma + orjson.dumps(views.executor_view(executor, viewer))
                    comma = b","
                yield b"]"
            yield b"}"
        yield b"]"
    yield b"}"


def containers(service: "AgentService", request: Any) -> "Reply | Deferred[Reply]":
    """
    Show what runs and what it uses, an object for each executor.

    C{container_id} picks one, C{framework_id} those of a framework, with C{executor_id} one of
    those.
    """
    container_id = parameter(request, "container_id")
    framework_id = parameter(request, "framework_id")
    executor_id = parameter(request, "executor_id")
    if (executor_id is not None and framework_id is None) or (
        container_id is not None and framework_id is not None
    ):
        return text(400, _WHICH_CONTAINERS)
    viewer = authorizing.Viewer(request.subject)
    return measured(service).addCallback(
        lambda _: Reply(
            body=views.containers_view(
                service.state, container_id, viewer, framework_id, executor_id
            )
        )
    )


def containerizer_debug(service: "AgentService", request: Any) -> Reply:
    """
    Show what is being done for containers and has not come to its end: where one hangs.

    C{operation} is C{user} (who it runs as is being found out), C{sandbox}, C{fetch}, C{launch},
    C{update} or C{destroy}.
    """
    pending = [
        {"operation": operation, "args": {"containerId": container}}
        for container, operation in service.hands.pending()
    ]
    return Reply(body={"pending": pending})


def statistics(service: "AgentService", request: Any) -> "Deferred[Reply]":
    """
    Show what each executor uses: CPU seconds, resident bytes, and its limits.

    The figures are those of all its processes together, not older than a second.
    """
    return measured(service).addCallback(lambda _: Reply(body=views.statistics_view(service.state)))


def executor(service: "AgentService", request: Any) -> int:
    """Take a call of an executor: C{POST} only, JSON or protobuf (the v1 executor API)."""
    service.executors.post(WebExchange(request))
    return NOT_DONE_YET


def processes(service: "AgentService", request: Any) -> Reply:
    """Name the parts of the agent that answer over HTTP, as libprocess does its actors."""
    return shared.processes_reply(
        "files", "help", "logging", "metrics", PROCESS, "system", "version"
    )


ROUTES: tuple[Route, ...] = (
    *shared.ROUTES,
    Route("__processes__", processes, prefixed=False, realm=Realm.OPEN),
    Route("version", version, prefixed=False, realm=Realm.OPEN),
    Route("flags", flags, realm=Realm.READONLY),
    Route("state", state, realm=Realm.READONLY),
    Route("containers", containers, realm=Realm.READONLY),
    Route("containerizer/debug", containerizer_debug, realm=Realm.READONLY),
    Route("monitor/statistics", statistics, realm=Realm.READONLY),
    Route("files/browse", files_http.browse, prefixed=False, realm=Realm.READONLY),
    Route("files/read", files_http.read, prefixed=False, realm=Realm.READONLY),
    Route("files/download", files_http.download, prefixed=False, realm=Realm.READONLY),
    Route("files/debug", files_http.debug, prefixed=False, realm=Realm.READONLY),
    Route("api/v1", operator_api.operator, realm=Realm.READWRITE),
    Route("api/v1/executor", executor, realm=Realm.EXECUTORS),
)
"""Every endpoint; adding one is adding a row."""


class AgentResource(RoutesResource):
    """
    The root of an agent's HTTP: gives each request to its route.

    @param service: whose state is shown.
    @param routes: rows of the table.

    @ivar calls: the routes that take the short way (L{mesoskit.wire.quick}).
    @ivar streams: the paths to which what is put into containers may come as it likes.
    """

    def __init__(self, service: "AgentService", routes: tuple[Route, ...] = ROUTES) -> None:
        super().__init__(
            service,
            routes,
            PROCESS,
            service.reactor,
            guard=service.guard,
            authorizing=service.authorizing,
            needs=authorizing.ROUTES,
            firewall=service.state.options.firewall_rules,
        )
        route = CallRoute(service.executors.post, service.executors.usual)
        self.calls = self.unless_disabled("api/v1/executor", route)
        self.streams = frozenset((b"/api/v1", f"/{PROCESS}/api/v1".encode()))
