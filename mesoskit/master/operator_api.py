"""The master's operator API: what each call of C{POST /api/v1} is answered with.

What is read from the state alone is made in L{mesoskit.master.answers}; what changes it goes to
it as an event (L{mesoskit.master.operator}). The order of checks is that of
C{Master::Http::api} in C{src/master/http.cpp}.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from mesoskit.master import admin_http, answers, authorizing, files_http
from mesoskit.master.operator import (
    DeactivateAgent,
    DrainAgent,
    MarkAgentGone,
    ReactivateAgent,
    Replied,
    Request,
    Teardown,
)
from mesoskit.master.options import MESOS_VERSION
from mesoskit.master.visible import Viewer
from mesoskit.messages.master_pb2 import Call, Response
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.validation_call import validate_master_call
from mesoskit.web import api
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.routes import Reply, text
from mesoskit.web.sending import Document
from mesoskit.web.shared import measured
from mesoskit.wire import media
from mesoskit.wire.http import WebExchange

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService

NOT_YET: Final = frozenset(
    (
        "UNKNOWN",
        "RESERVE_RESOURCES",
        "UNRESERVE_RESOURCES",
        "CREATE_VOLUMES",
        "DESTROY_VOLUMES",
        "GROW_VOLUME",
        "SHRINK_VOLUME",
        "UPDATE_MAINTENANCE_SCHEDULE",
        "START_MAINTENANCE",
        "STOP_MAINTENANCE",
        "UPDATE_QUOTA",
        "SET_QUOTA",
        "REMOVE_QUOTA",
    )
)
"""Calls of features that are not there: they are answered with 501 and their name."""


def operator(service: "MasterService", request: Any) -> "Reply | Deferred[Reply] | int":
    """
    Take a call of an operator: C{POST} only, JSON or protobuf (the v1 operator API).

    C{SUBSCRIBE} is answered with a stream of what changes in the cluster.
    """
    exchange = WebExchange(request)
    try:
        call, accepted = api.read(Call, request, exchange, validate_master_call)
    except api.NotTaken as refused:
        return refused.reply
    name = Call.Type.Name(call.type)
    if not authorizing.may_call(service.state, request.subject, call):
        return text(403, FORBIDDEN)
    viewer = Viewer(request.subject)
    tree = answers.TREES.get(name)
    if tree is not None:
        state, kept = service.state, service.fragments()
        return api.tree_reply(
            Response,
            name,
            accepted,
            lambda: tree(answers.Listing(state), kept, viewer),
            lambda: kept.sweep(state),
            viewer.key,
        )
    if name == "GET_ROLES":
        write, kept = media.WRITERS[accepted], service.fragments()
        pieces = Document(
            lambda: answers.role_pieces(service.state, kept, write, viewer),
            f"{name} {accepted}{viewer.key}",
        )
        return Reply(body=pieces, headers={"Content-Type": accepted})
    make = answers.MESSAGES.get(name)
    if make is not None:
        return api.message_reply(make(service.state, viewer), accepted)
    change = CHANGES.get(name)
    if change is not None:
        return service.request(change(call)).addCallback(_replied)
    if name == "SUBSCRIBE":
        service.operators.subscribe(exchange, accepted, viewer)
        return NOT_DONE_YET
    if name == "UPDATE_WEIGHTS":
        return admin_http.update_weights(service, request, call.update_weights.weight_infos)
    if name == "LIST_FILES":
        return files_http.list_files(service, request, call, accepted)
    if name == "READ_FILE":
        return files_http.read_file(service, request, call, accepted)
    if name == "SET_LOGGING_LEVEL":
        return api.set_logging_level(call, service.reactor)
    facts = api.Facts(
        MESOS_VERSION, service.flags, lambda: measured(service), service.state.options.build
    )
    return api.process_reply(Response, name, facts, accepted) or api.not_implemented(name)


def _replied(result: Replied) -> Reply:
    return text(result.status, result.why) if result.why else Reply(result.status)


def _teardown(call: Call) -> Request:
    return Teardown(FrameworkId(call.teardown.framework_id.value))


def _mark_agent_gone(call: Call) -> Request:
    return MarkAgentGone(AgentId(call.mark_agent_gone.agent_id.value))


def _drain_agent(call: Call) -> Request:
    wanted = call.drain_agent
    nanoseconds = None
    if wanted.HasField("max_grace_period"):
        nanoseconds = wanted.max_grace_period.ToNanoseconds()
    return DrainAgent(AgentId(wanted.agent_id.value), nanoseconds, wanted.mark_gone)


def _deactivate_agent(call: Call) -> Request:
    return DeactivateAgent(AgentId(call.deactivate_agent.agent_id.value))


def _reactivate_agent(call: Call) -> Request:
    return ReactivateAgent(AgentId(call.reactivate_agent.agent_id.value))


CHANGES: Final[dict[str, Callable[[Call], Request]]] = {
    "TEARDOWN": _teardown,
    "MARK_AGENT_GONE": _mark_agent_gone,
    "DRAIN_AGENT": _drain_agent,
    "DEACTIVATE_AGENT": _deactivate_agent,
    "REACTIVATE_AGENT": _reactivate_agent,
}
"""Calls that change the state, by their names."""

HANDLED: Final = (
    frozenset(answers.TREES)
    | frozenset(answers.MESSAGES)
    | frozenset(CHANGES)
    | api.PROCESS_CALLS
    | {"SUBSCRIBE", "SET_LOGGING_LEVEL", "GET_ROLES", "LIST_FILES", "READ_FILE", "UPDATE_WEIGHTS"}
)
"""The names of all calls that are answered."""
