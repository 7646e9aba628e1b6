"""The agent's operator API: what each call of C{POST /api/v1} is answered with.

What is read from the state alone is made in L{mesoskit.agent.answers}. The order of checks and
the texts of refusals are those of C{Http::api} in C{src/slave/http.cpp}; they are not quite the
master's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred

from mesoskit.agent import answers, authorizing, nested_calls, sessions
from mesoskit.agent.attaching import Records
from mesoskit.agent.container_call import ContainerAnswer
from mesoskit.agent.files import Sandboxes
from mesoskit.agent.measuring import measured
from mesoskit.agent.phase import Phase
from mesoskit.agent.sessions import Asked
from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.messages.codec import Malformed, NotJson, decode_as, from_json
from mesoskit.model.validation_agent_call import validate_agent_call
from mesoskit.web import api, files_api, shared
from mesoskit.web.api import NotTaken
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.routes import Reply, not_allowed, text
from mesoskit.wire import media, recordio
from mesoskit.wire.exchange import Exchange
from mesoskit.wire.http import WebExchange

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService

RECORDIO: Final = "application/recordio"
"""The type of streams of messages, which only calls about containers' input and output know."""

NOT_YET: Final = frozenset(
    (
        "UNKNOWN",
        "ADD_RESOURCE_PROVIDER_CONFIG",
        "UPDATE_RESOURCE_PROVIDER_CONFIG",
        "REMOVE_RESOURCE_PROVIDER_CONFIG",
        "MARK_RESOURCE_PROVIDER_GONE",
    )
)
"""Calls of features that are not there: they are answered with 501 and their name."""

HANDLED: Final = (
    frozenset(answers.TREES)
    | frozenset(answers.MESSAGES)
    | api.PROCESS_CALLS
    | nested_calls.CALLS
    | sessions.CALLS
    | {"SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE", "GET_CONTAINERS", "PRUNE_IMAGES"}
)
"""The names of all calls that are answered."""

_STREAMED: Final = frozenset(("ATTACH_CONTAINER_OUTPUT", "LAUNCH_NESTED_CONTAINER_SESSION"))


def operator(service: AgentService, request: Any) -> Any:
    """Take a call of an operator: C{POST} only, JSON or protobuf (the v1 operator API)."""
    if service.state.phase is Phase.RECOVERING:
        return text(503, "Agent has not finished recovery")
    try:
        asked = _head(request, WebExchange(request))
        if request.streamed is not None:
            return _when_said(service, request, asked)
        _understand(asked, asked.exchange.body)
    except NotTaken as refused:
        return refused.reply
    return _called(service, request, asked)


def _when_said(service: AgentService, request: Any, asked: Asked) -> Deferred[Any]:
    """Wait for the first record of a stream, which says what it is about."""
    asked.records = records = Records(request.streamed)

    def said(first: bytes | None) -> Any:
        try:
            _understand(asked, first or b"")
        except NotTaken as refused:
            return refused.reply
        return _called(service, request, asked)

    return records.first().addCallback(said)


def _called(service: AgentService, request: Any, asked: Asked) -> Any:
    """Answer a call that was understood."""
    state, call, accepted = service.state, asked.call, asked.accepted
    name = Call.Type.Name(call.type)
    if not authorizing.may_call(request.subject, name):
        return text(403, FORBIDDEN)
    viewer = authorizing.Viewer(request.subject)
    tree = answers.TREES.get(name)
    if tree is not None:
        return api.tree_reply(Response, name, accepted, lambda: tree(state, viewer), key=viewer.key)
    make = answers.MESSAGES.get(name)
    if make is not None:
        return api.message_reply(make(state, viewer), accepted)
    if name in sessions.CALLS:
        return sessions.call(service, request, asked)
    if name in nested_calls.CALLS:
        return _container_call(service, request, call, accepted)
    if name == "GET_CONTAINERS":
        return measured(service).addCallback(
            lambda _: api.message_reply(answers.containers(state, call, viewer), accepted)
        )
    if name == "LIST_FILES":
        door = Sandboxes(state, request.subject)
        path = call.list_files.path
        return files_api.list_files(Response, door, service.reactor, path, accepted)
    if name == "READ_FILE":
        door = Sandboxes(state, request.subject)
        return files_api.read_file(Response, door, service.reactor, call.read_file, accepted)
    if name == "PRUNE_IMAGES":
        excluded = [image.docker.name for image in call.prune_images.excluded_images]
        pruning = service.prune_images(excluded)
        return pruning.addCallbacks(
            lambda _: Reply(200), lambda failure: text(500, failure.getErrorMessage())
        )
    if name == "SET_LOGGING_LEVEL":
        return api.set_logging_level(call, service.reactor)
    facts = api.Facts(
        state.options.version,
        state.options.flags,
        lambda: shared.measured(service),
        state.options.build,
    )
    return api.process_reply(Response, name, facts, accepted) or api.not_implemented(name)


def _container_call(
    service: AgentService, request: Any, call: Call, accepted: str
) -> Deferred[Reply]:
    asked = service.container_calls.ask(call, request.subject)
    request.notifyFinish().addErrback(lambda _: asked.cancel())

    def reply(answer: ContainerAnswer) -> Reply:
        if isinstance(answer.what, Response):
            return api.message_reply(answer.what, accepted)
        return text(answer.status, answer.what) if answer.what else Reply(answer.status)

    return asked.addCallback(reply)


# How a call is read.


def _head(request: Any, exchange: Exchange) -> Asked:
    """Return what the head of a request says. Raises L{NotTaken}."""
    if exchange.method != "POST":
        raise NotTaken(not_allowed(request, "POST"))
    streamed, written = _content_type(exchange)
    accepted, message_accepted = _accepted(exchange)
    return Asked(exchange, streamed, written, accepted, message_accepted)


def _understand(asked: Asked, body: bytes) -> None:
    """Read the call. Raises L{NotTaken}."""
    streamed, accepted = asked.streamed, asked.accepted
    if streamed and asked.records is None:
        body = next(recordio.Decoder().feed(body), b"")
    if streamed and not body:
        raise NotTaken(text(400, "Received EOF while reading request body"))
    asked.call = call = parse(body, asked.written)
    error = validate_agent_call(call)
    if error is not None:
        raise NotTaken(text(400, f"Failed to validate agent::Call: {error}"))
    name = Call.Type.Name(call.type)
    if streamed and name != "ATTACH_CONTAINER_INPUT":
        raise NotTaken(
            text(415, f"Streaming 'Content-Type' {RECORDIO} is not supported for {name} call")
        )
    if not streamed and name == "ATTACH_CONTAINER_INPUT":
        raise NotTaken(text(415, f"Expecting 'Content-Type' to be {RECORDIO} for {name} call"))
    if accepted == RECORDIO and name not in _STREAMED:
        raise NotTaken(text(406, f"Streaming response is not supported for {name} call"))


def _content_type(exchange: Exchange) -> tuple[bool, str]:
    """Return whether the body is a stream of messages, and the type of a message."""
    given = exchange.header("content-type")
    if given is None:
        raise NotTaken(text(400, "Expecting 'Content-Type' to be present"))
    if given not in (media.JSON, media.PROTOBUF, RECORDIO):
        raise NotTaken(
            text(
                415,
                f"Expecting 'Content-Type' of {media.JSON} or {media.PROTOBUF} or {RECORDIO}",
            )
        )
    inner = exchange.header("message-content-type")
    if given != RECORDIO:
        if inner is not None:
            raise NotTaken(
                text(
                    415,
                    "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
                )
            )
        return False, given
    if inner is None:
        raise NotTaken(
            text(400, "Expecting 'Message-Content-Type' to be set for streaming requests")
        )
    if inner not in (media.JSON, media.PROTOBUF):
        raise NotTaken(
            text(415, f"Expecting 'Message-Content-Type' of {media.JSON} or {media.PROTOBUF}")
        )
    return True, inner


def _accepted(exchange: Exchange) -> tuple[str, str]:
    """Return what the answer is written in, and its records where it is a stream."""
    accept = exchange.header("accept")
    for one in (media.JSON, media.PROTOBUF, RECORDIO):
        if media.accepts(accept, one):
            break
    else:
        raise NotTaken(
            text(
                406,
                f"Expecting 'Accept' to allow {media.JSON} or {media.PROTOBUF} or {RECORDIO}",
            )
        )
    inner = exchange.header("message-accept")
    if one != RECORDIO:
        if inner is not None:
            raise NotTaken(
                text(406, "Expecting 'Message-Accept' to be not set for non-streaming responses")
            )
        return one, one
    preferred = media.preferred(inner)
    if preferred is None:
        raise NotTaken(
            text(406, f"Expecting 'Message-Accept' to allow {media.JSON} or {media.PROTOBUF}")
        )
    return one, preferred


def parse(body: bytes, written: str) -> Call:
    """Return the call that a body is. Raises L{NotTaken}."""
    try:
        return decode_as(Call, body) if written == media.PROTOBUF else from_json(Call, body)
    except NotJson as error:
        reason = error.reason.removeprefix("not JSON: ")
        why = f"Failed to parse body into JSON: {reason}"
    except Malformed as error:
        why = error.reason
        if written == media.PROTOBUF:
            why = "Failed to parse body into a protobuf object"
    raise NotTaken(text(400, why))
