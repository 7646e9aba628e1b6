"""What the agent answers over its bulk links: what its own file door would answer, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from twisted.internet.defer import Deferred, succeed

from mesoskit.agent import authorizing
from mesoskit.agent.files import Sandboxes
from mesoskit.messages import bulk_pb2
from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.messages.bulk_pb2 import Ask
from mesoskit.model.authorization import Subject
from mesoskit.web import files_api, files_http
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.files_http import Answer
from mesoskit.web.routes import JSON, Reply, away_reply, text
from mesoskit.web.streaming import FilePart
from mesoskit.wire.bulk_answers import Given
from mesoskit.wire.exchange import Away
from mesoskit.wire.media import PROTOBUF

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService

_FILES: Final[dict[int, Callable[..., Answer]]] = {
    bulk_pb2.BROWSE: files_http.browse,
    bulk_pb2.READ: files_http.read,
    bulk_pb2.DOWNLOAD: files_http.download,
}


def found(service: AgentService, ask: Ask) -> Deferred[Given]:
    """Return the answer to a question of the master's."""
    principal = ask.principal if ask.HasField("principal") else None
    ready = service.authorizing.prepare(principal) or succeed(None)

    def prepared(away: Away | None) -> Answer:
        return _find(service, ask, principal) if away is None else away_reply(away)

    finding: Deferred[Any] = ready.addCallback(prepared)
    return finding.addCallback(_given)


def _find(service: AgentService, ask: Ask, principal: str | None) -> Answer:
    asked = {one.name: one.value for one in ask.parameters}
    subject = Subject(principal, service.authorizing.authorizer)
    door = Sandboxes(service.state, subject)
    reactor = service.reactor
    away = service.away("")
    if away is not None:
        return text(away.status, away.why)
    operation = ask.operation
    if operation == bulk_pb2.DEBUG:
        may = authorizing.ROUTES["files/debug"].met(subject)
        return files_http.debug(door) if may else text(403, FORBIDDEN)
    if operation == bulk_pb2.LIST_FILES:
        return files_api.list_files(Response, door, reactor, asked.get("path", ""), PROTOBUF)
    if operation == bulk_pb2.READ_FILE:
        wanted = Call.ReadFile(path=asked.get("path", ""), offset=int(asked.get("offset", 0)))
        if "length" in asked:
            wanted.length = int(asked["length"])
        return files_api.read_file(Response, door, reactor, wanted, PROTOBUF)
    make = _FILES.get(operation)
    if make is None:
        return text(501, "The agent does not know what it is asked for.")
    return make(door, reactor, asked)


def _given(reply: Reply) -> Given:
    body = reply.body
    if isinstance(body, bytes | FilePart):
        return Given(reply.status, reply.headers, body)
    return Given(reply.status, {"Content-Type": JSON, **reply.headers}, orjson.dumps(body))
