"""The master's endpoints over HTTP: paths, parameters and answers as Mesos has them.

A route is one row of L{ROUTES}; what all daemons answer is in L{mesoskit.web.shared}. Most are
there with and without C{/master} before them, some without only (C{src/master/master.cpp},
C{src/master/http.cpp}). Nothing is decided here that the state decides. A handler's docstring
is its page under C{/help}.
"""

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from mesoskit.master import (
    admin_http,
    authorizing,
    documents,
    explaining,
    files_http,
    operator_api,
    webui,
)
from mesoskit.master.operator import Replied, Teardown
from mesoskit.master.options import MESOS_VERSION
from mesoskit.master.visible import Viewer
from mesoskit.model.ids import FrameworkId
from mesoskit.web import shared
from mesoskit.web.authentication import Realm
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.routes import (
    Reply,
    Route,
    RoutesResource,
    not_allowed,
    not_found,
    number,
    parameter,
    text,
)
from mesoskit.web.sending import Document
from mesoskit.wire.http import WebExchange
from mesoskit.wire.quick import CallRoute

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService


def version(service: "MasterService", request: Any) -> Reply:
    """Say which Mesos this speaks like, and which mesoskit it is."""
    return shared.version_reply(MESOS_VERSION, service.state.options.build)


def flags(service: "MasterService", request: Any) -> Reply:
    """Show the flags that the master runs with, as text; secrets are left out."""
    return shared.flags_reply(service.flags)


def state(service: "MasterService", request: Any) -> Reply:
    """
    Show everything: the master, agents, frameworks and their tasks.

    C{jsonp=callback} wraps it in a call of that function, here as everywhere.
    """
    kept, viewer = service.fragments(), Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: documents.state(service.state, service.flags, kept, viewer),
            f"state{viewer.key}",
        )
    )


def summary(service: "MasterService", request: Any) -> Reply:
    """Show agents and frameworks, with numbers of tasks in each state instead of tasks."""
    kept, viewer = service.fragments(), Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: documents.summary(service.state, kept, viewer), f"summary{viewer.key}"
        )
    )


def slaves(service: "MasterService", request: Any) -> Reply:
    """Show the agents, or the one that C{slave_id} names."""
    kept, agent_id = service.fragments(), parameter(request, "slave_id")
    viewer = Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: documents.agents(service.state, kept, agent_id, viewer),
            repr(("slaves", agent_id, viewer.key)),
        )
    )


def frameworks(service: "MasterService", request: Any) -> Reply:
    """Show the frameworks, or the one that C{framework_id} names."""
    kept, name = service.fragments(), parameter(request, "framework_id")
    viewer = Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: documents.frameworks(service.state, kept, name, viewer),
            repr(("frameworks", name, viewer.key)),
        )
    )


def tasks(service: "MasterService", request: Any) -> Reply:
    """
    Show tasks: C{limit} of them (100; -1 for all) from C{offset} (0) on, the latest first.

    C{order=asc} shows the earliest first; C{framework_id} and C{task_id} pick some out. What
    cannot be understood is ignored.
    """
    kept = service.fragments()
    limit, offset = number(request, "limit", 100), max(0, number(request, "offset", 0))
    ascending = parameter(request, "order") == "asc"
    framework_id, task_id = parameter(request, "framework_id"), parameter(request, "task_id")
    viewer = Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: documents.tasks(
                service.state, kept, limit, offset, ascending, framework_id, task_id, viewer
            ),
            repr(("tasks", limit, offset, ascending, framework_id, task_id, viewer.key)),
        )
    )


def roles(service: "MasterService", request: Any) -> Reply:
    """Show the roles: their weights, frameworks, and what they hold."""
    kept, viewer = service.fragments(), Viewer(request.subject)
    return Reply(
        body=Document(lambda: documents.roles(service.state, kept, viewer), f"roles{viewer.key}")
    )


def explain(service: "MasterService", request: Any) -> Reply:
    """
    Tell agent by agent why frameworks are or are not offered it; an extension of mesoskit.

    C{framework_id} names the framework, C{role} the role; one of them is needed. C{agent_id}
    picks one agent out. C{reason} is one of the allocator's words, C{why} says it in a
    sentence, C{until} is when it ends by itself, in seconds since 1970.
    """
    asked = [parameter(request, name) for name in ("framework_id", "role", "agent_id")]
    framework_id, role, agent_id = asked
    if framework_id is None and role is None:
        return text(400, "Expecting 'framework_id=value' or 'role=value' in query.\n")
    viewer = Viewer(request.subject)
    if role is not None and not viewer.role(role):
        return text(403, FORBIDDEN)
    found = explaining.frameworks(service.state, framework_id, role)
    chosen = [one for one in found if viewer.framework(service.state.frameworks[one])]
    if framework_id is not None and not chosen:
        return text(404, f"There is no framework '{framework_id}'.\n")
    now = service.reactor.seconds()
    return Reply(
        body=Document(
            lambda: explaining.document(service.state, now, chosen, role, agent_id, viewer),
            repr(("explain", asked, now, viewer.key)),
        )
    )


def constraints_debug(service: "MasterService", request: Any) -> Reply:
    """
    Tell which agents are not offered to frameworks because of their offer constraints.

    By the id of each framework C{suppressed_roles}, the roles for which it wants no offers, and
    C{excluded_by_attribute_constraints}: by role, the ids of the agents that its constraints
    exclude.
    """
    viewer = Viewer(request.subject)
    return Reply(
        body=Document(
            lambda: explaining.constraints_document(service.state, viewer),
            repr(("offer_constraints_debug", viewer.key)),
        )
    )


def processes(service: "MasterService", request: Any) -> Reply:
    """Name the parts of the master that answer over HTTP, as libprocess does its actors."""
    return shared.processes_reply(
        "allocator",
        "files",
        "help",
        "logging",
        "master",
        "metrics",
        "registrar(1)",
        "system",
        "version",
    )


def redirect(service: "MasterService", request: Any) -> Reply:
    """Send whoever asks to the leading master; the Location has no scheme."""
    if not request.path.strip(b"/").endswith(b"redirect"):
        return not_found()
    away = service.away(request.path.decode("latin-1"))
    if away is not None and away.status == 307:
        where = away.headers.get("Location", "").split("/")
        return Reply(307, headers={"Location": "/".join(where[:3])})
    info = service.state.info
    return Reply(307, headers={"Location": f"//{info.hostname}:{info.port}"})


def teardown(service: "MasterService", request: Any) -> "Reply | Deferred[Reply]":
    """Remove the framework that the form of a C{POST} names (C{frameworkId=...})."""
    if request.method != b"POST":
        return not_allowed(request, "POST")
    framework_id = admin_http.form(request).get("frameworkId")
    if framework_id is None:
        return text(400, "Missing 'frameworkId' query parameter in the request body")

    if not authorizing.may_tear_down(service.state, request.subject, framework_id):
        return text(403, FORBIDDEN)

    def replied(result: Replied) -> Reply:
        return Reply() if result.status == 200 else text(result.status, result.why)

    return service.request(Teardown(FrameworkId(framework_id))).addCallback(replied)


def scheduler(service: "MasterService", request: Any) -> int:
    """Take a call of a framework: C{POST} only, JSON or protobuf (the v1 scheduler API)."""
    service.schedulers.post(WebExchange(request))
    return NOT_DONE_YET


ROUTES: tuple[Route, ...] = (
    *shared.ROUTES,
    Route("version", version, prefixed=False, realm=Realm.OPEN),
    Route("flags", flags, realm=Realm.READONLY),
    Route("state", state, led=True, realm=Realm.READONLY),
    Route("state-summary", summary, led=True, realm=Realm.READONLY),
    Route("slaves", slaves, led=True, realm=Realm.READONLY),
    Route("frameworks", frameworks, led=True, realm=Realm.READONLY),
    Route("tasks", tasks, led=True, realm=Realm.READONLY),
    Route("roles", roles, led=True, realm=Realm.READONLY),
    Route("offers/explain", explain, led=True, realm=Realm.READONLY),
    Route(
        "allocator/offer_constraints_debug",
        constraints_debug,
        prefixed=False,
        led=True,
        realm=Realm.READONLY,
    ),
    *admin_http.ROUTES,
    Route("__processes__", processes, prefixed=False, realm=Realm.OPEN),
    Route("redirect", redirect, realm=Realm.OPEN),
    Route("teardown", teardown, led=True, realm=Realm.READWRITE),
    Route("files/browse", files_http.browse, prefixed=False, realm=Realm.READONLY),
    Route("files/read", files_http.read, prefixed=False, realm=Realm.READONLY),
    Route("files/download", files_http.download, prefixed=False, realm=Realm.READONLY),
    Route("files/debug", files_http.debug, prefixed=False, realm=Realm.READONLY),
    Route("api/v1", operator_api.operator, led=True, realm=Realm.READWRITE),
    Route("api/v1/scheduler", scheduler, realm=Realm.FRAMEWORKS),
)
"""Every endpoint; adding one is adding a row."""


class MasterResource(RoutesResource):
    """
    The root of a master's HTTP: gives each request to its route.

    @param service: whose state is shown.
    @param routes: rows of the table.

    @ivar calls: the routes that take the short way (L{mesoskit.wire.quick}).
    """

    def __init__(self, service: "MasterService", routes: tuple[Route, ...] = ROUTES) -> None:
        super().__init__(
            service,
            (*routes, *self._start_routes(service)),
            "master",
            service.reactor,
            service.away,
            service.guard,
            service.authorizing,
            authorizing.ROUTES,
            service.state.options.firewall_rules,
        )
        self.calls = self.unless_disabled("api/v1/scheduler", CallRoute(service.schedulers.post))

    def _start_routes(self, service: "MasterService") -> tuple[Route, ...]:
        """Return what is at C{/}: the web UI, where somebody has one, or a page of links."""
        directory = service.state.options.webui_dir
        if directory is None:
            return (Route("", self._start, realm=Realm.OPEN, exact=True),)
        return webui.routes(directory)

    def _start(self, service: "MasterService", request: Any) -> Reply:
        """Lead to all endpoints: where a browser comes first."""
        page = self.help.start_page(f"mesoskit master {service.state.info.hostname}")
        return Reply(body=page.encode(), headers={"Content-Type": "text/html"})
