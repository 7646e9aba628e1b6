"""C{/files/*} of the master: sandboxes of its agents, which it asks over their bulk links.

The paths, parameters and answers are the agents' own; a browser that shows the master's pages
can read a sandbox without knowing, or reaching, the agent. C{agent_id} (or C{slave_id}) names
the agent where the path does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from mesoskit.master import sandboxes
from mesoskit.master.bulk import Asking, Unanswered
from mesoskit.master.sandboxes import NoPlace, Place
from mesoskit.messages import agent_pb2, bulk_pb2
from mesoskit.messages.master_pb2 import Call, Response
from mesoskit.model.authorization import ANYTHING, Action
from mesoskit.model.ids import AgentId
from mesoskit.web import api, files_api, files_http
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.files import Attached, Door, Forbidden, NotThere, log_at
from mesoskit.web.routes import JSON, Reply, away_reply, not_found, parameter, text
from mesoskit.web.sending import Document
from mesoskit.web.streaming import Streamed
from mesoskit.wire.bulk_asks import UNAVAILABLE

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService

Answer = Reply | Deferred[Reply]

LOG: Final = "/master/log"
"""Where the master's own log is to be seen."""

AGENTS_LOG: Final = "/slave/log"
"""Where an agent's is."""

LONGEST: Final = 16 * 1024 * 1024
"""Bytes that an answer may have that is not sent on as it comes."""

MOST_HELD: Final = 64 * 1024 * 1024
"""Bytes that all such answers together may have."""

_numbers = count()


def browse(service: MasterService, request: Any) -> Answer:
    """
    List a directory of a sandbox, as the agent's C{/files/browse}.

    C{path} is what the agent's C{/state} shows as C{directory}, which says where it is; or
    C{/frameworks/<id>/executors/<id>/runs/latest}. C{agent_id} names the agent.
    """
    return _own(service, request, files_http.browse) or _whole(service, request, bulk_pb2.BROWSE)


def read(service: MasterService, request: Any) -> Answer:
    """
    Read a part of a file in a sandbox, as the agent's C{/files/read}; C{path} as for browsing.

    C{offset} and C{length} are bytes. Without an offset, or with -1, there is no data and the
    offset is the size of the file.
    """
    return _own(service, request, files_http.read) or _whole(service, request, bulk_pb2.READ)


def debug(service: MasterService, request: Any) -> Answer:
    """Show which paths the master's C{/files} knows by itself, or those of C{agent_id}."""
    agent_id = _agent_id(request)
    if agent_id is None:
        return files_http.debug(_Log(service, request))
    away = _away(service, request)
    if away is not None:
        return away
    try:
        place = Place(sandboxes.connected(service.state, AgentId(agent_id)), ANYTHING)
    except NoPlace as nowhere:
        return text(nowhere.status, nowhere.why)
    return _ask_whole(service, request, bulk_pb2.DEBUG, place, {}).addCallback(_as_it_came)


def download(service: MasterService, request: Any) -> Answer:
    """
    Send a file of a sandbox, as the agent's C{/files/download}; C{path} as for browsing.

    With a header C{Range} of one range, that part of it.
    """
    own = _own(service, request, files_http.download)
    if own is not None:
        return own
    asked = files_http.parameters(request)
    place = _find(service, request, asked.get("path"))
    if isinstance(place, Reply):
        # As on the agent, whose words differ with what is asked for.
        return not_found() if place.status == 404 and not place.body else place
    relay = _Relay()
    head_only = request.method == b"HEAD"
    return _ask(service, request, bulk_pb2.DOWNLOAD, place, asked, relay, head_only)


def list_files(service: MasterService, request: Any, call: Call, accepted: str) -> Answer:
    """Answer LIST_FILES of the operator API."""
    path = call.list_files.path
    log = _Log(service, request)
    if log.means(path):
        return files_api.list_files(Response, log, service.reactor, path, accepted)
    place = _find(service, request, path)
    if isinstance(place, Reply):
        return place
    asked = {"path": path}
    whole = _ask_whole(service, request, bulk_pb2.LIST_FILES, place, asked)
    return whole.addCallback(_response, accepted)


def read_file(service: MasterService, request: Any, call: Call, accepted: str) -> Answer:
    """Answer READ_FILE of the operator API."""
    wanted = call.read_file
    log = _Log(service, request)
    if log.means(wanted.path):
        return files_api.read_file(Response, log, service.reactor, wanted, accepted)
    place = _find(service, request, wanted.path)
    if isinstance(place, Reply):
        return place
    asked = {"path": wanted.path, "offset": str(wanted.offset)}
    if wanted.HasField("length"):
        asked["length"] = str(wanted.length)
    whole = _ask_whole(service, request, bulk_pb2.READ_FILE, place, asked)
    return whole.addCallback(_response, accepted)


# The master's own log.


class _Log:
    """The door to the master's own log, if C{--external_log_file} names one."""

    def __init__(self, service: MasterService, request: Any) -> None:
        self._file = service.state.options.external_log_file
        self._subject = request.subject

    def means(self, path: str | None) -> bool:
        """Tell whether a path is the log's."""
        return path is not None and log_at(LOG, self._file, path) is not None

    def resolve(self, path: str) -> Attached:
        """Return where the log is. Raises L{NotThere} and L{Forbidden}."""
        log = log_at(LOG, self._file, path)
        if log is None:
            raise NotThere(path)
        if not self._subject.may(Action.ACCESS_MESOS_LOG):
            raise Forbidden(path)
        return log

    def attached(self) -> Iterator[tuple[str, str]]:
        """Give the log's path, with what it stands for."""
        log = log_at(LOG, self._file, LOG)
        if log is not None:
            yield LOG, log.root


def _own(
    service: MasterService, request: Any, answer: Callable[[Door, Any, Mapping[str, str]], Answer]
) -> Answer | None:
    """Answer what is asked of the master's own log; L{None} where it is not."""
    asked = files_http.parameters(request)
    log = _Log(service, request)
    return answer(log, service.reactor, asked) if log.means(asked.get("path")) else None


# Asking.


def _agent_id(request: Any) -> str | None:
    return parameter(request, "agent_id") or parameter(request, "slave_id") or None


def _away(service: MasterService, request: Any) -> Reply | None:
    """Return the answer of a master that cannot know where sandboxes are."""
    away = service.away("/master/files")
    if away is None:
        return None
    reply = away_reply(away)
    if away.status == 307:
        # There is no such path under the master's own name.
        where = away.headers["Location"].split("/", 3)[:3]
        reply.headers["Location"] = "/".join((*where, request.uri.decode("latin-1").lstrip("/")))
    return reply


def _find(service: MasterService, request: Any, path: str | None) -> Place | Reply:
    """Return where a path leads, or the answer where it leads nowhere, or may not be seen."""
    if path is None:
        return text(400, files_http.NO_PATH)
    away = _away(service, request)
    if away is not None:
        return away
    try:
        place = sandboxes.find(service.state, path, _agent_id(request))
    except NoPlace as nowhere:
        return text(nowhere.status, nowhere.why) if nowhere.why else files_http.nothing()
    log = log_at(AGENTS_LOG, AGENTS_LOG, path) is not None
    action = Action.ACCESS_MESOS_LOG if log else Action.ACCESS_SANDBOX
    if not request.subject.may(action, place.thing):
        return text(403, FORBIDDEN)
    return place


def _whole(service: MasterService, request: Any, operation: int) -> Answer:
    asked = files_http.parameters(request)
    place = _find(service, request, asked.get("path"))
    if isinstance(place, Reply):
        return place
    return _ask_whole(service, request, operation, place, asked).addCallback(_as_it_came)


def _ask_whole(
    service: MasterService, request: Any, operation: int, place: Place, asked: Mapping[str, str]
) -> Deferred[Reply]:
    return _ask(service, request, operation, place, asked, _Whole(service), False)


def _ask(
    service: MasterService,
    request: Any,
    operation: int,
    place: Place,
    asked: Mapping[str, str],
    reader: _Reading,
    head_only: bool,
) -> Deferred[Reply]:
    """Ask an agent, for as long as whoever asked is there."""
    peer = place.agent.peer
    control = None if peer is None else service.peers.link(peer.id)
    try:
        asking = service.bulk.ask(
            place.agent.id, control, operation, asked, request.principal, reader, head_only
        )
    except Unanswered as refused:
        reader.answer.callback(text(refused.status, refused.why))
        return reader.answer
    reader.asking = asking
    request.notifyFinish().addErrback(lambda _: reader.left())
    return reader.answer


def _as_it_came(reply: Reply) -> Reply:
    """Return an answer as the agent would have given it; JSON may be asked for as a script."""
    if reply.headers.get("Content-Type") != JSON:
        return reply
    body = reply.body
    return Reply(reply.status, Document(lambda: iter((body,)), f"file {next(_numbers)}"))


def _response(reply: Reply, accepted: str) -> Reply:
    """Return the master's own answer to an operator, made of the agent's."""
    if reply.status != 200:
        return reply
    theirs = agent_pb2.Response.FromString(reply.body)
    response = Response(type=agent_pb2.Response.Type.Name(theirs.type))
    if theirs.HasField("list_files"):
        response.list_files.SetInParent()
        response.list_files.file_infos.extend(theirs.list_files.file_infos)
    else:
        response.read_file.size = theirs.read_file.size
        response.read_file.data = theirs.read_file.data
    return api.message_reply(response, accepted)


# Reading.


class _Reading:
    """
    Reads an agent's answer.

    @ivar answer: what whoever asked is answered with; never, where he has left.
    """

    asking: Asking

    def __init__(self) -> None:
        self.answer: Deferred[Reply] = Deferred()

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        """The answer begins."""

    def data(self, data: bytes) -> None:
        """A piece came."""

    def ended(self) -> None:
        """All of it has come."""

    def failed(self, status: int, why: str) -> None:
        """There is none, or no more."""

    def left(self) -> None:
        """Whoever asked has left."""
        self.asking.cancel()


class _Whole(_Reading):
    """Reads an answer to its end; what all of these hold is bounded."""

    def __init__(self, service: MasterService) -> None:
        super().__init__()
        self._bulk = service.bulk
        self._status = 0
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._promised = 0

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        """The answer begins, if there is room for it."""
        self._status, self._headers = status, dict(headers)
        if length > LONGEST or self._bulk.held + length > MOST_HELD:
            self.asking.cancel()
            self.failed(UNAVAILABLE, f"there is no room for an answer of {length} bytes")
            return
        self._promised = length
        self._bulk.held += length

    def data(self, data: bytes) -> None:
        """A piece came."""
        self._parts.append(data)

    def ended(self) -> None:
        """All of it has come."""
        self._release()
        self.answer.callback(Reply(self._status, b"".join(self._parts), self._headers))

    def failed(self, status: int, why: str) -> None:
        """There is none, or no more."""
        self._release()
        self.answer.callback(text(status, f"{why}.\n"))

    def left(self) -> None:
        """Whoever asked has left."""
        super().left()
        self._release()

    def _release(self) -> None:
        self._bulk.held -= self._promised
        self._promised = 0


@implementer(IPushProducer)
class _Relay(_Reading, Streamed):
    """Sends an answer on, as it comes and as it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self._begun = self._over = self._closed = False
        self._request: Any = None
        self._early: list[bytes] = []

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        """The answer begins."""
        self.length = length
        self._begun = True
        self.answer.callback(Reply(status, self, dict(headers)))

    def data(self, data: bytes) -> None:
        """A piece came; before it can be sent, no more than the window waits."""
        if self._request is None:
            self._early.append(data)
        else:
            self._request.write(data)

    def ended(self) -> None:
        """All of it has come."""
        self._over = True
        self._finish()

    def failed(self, status: int, why: str) -> None:
        """There is none, or no more: what was promised must not look as if it had been kept."""
        if not self._begun:
            self.answer.callback(text(status, f"{why}.\n"))
        elif not self._closed:
            self._closed = True
            if self._request is not None:
                self._request.channel.transport.abortConnection()

    # Streamed

    def send(self, request: Any) -> None:
        """Send what came, and what comes."""
        if self._closed:
            request.channel.transport.abortConnection()
            return
        self._request = request
        request.registerProducer(self, True)
        early, self._early = self._early, []
        for data in early:
            request.write(data)
        self._finish()

    def close(self) -> None:
        """Nobody wants it, or no more of it."""
        self._closed = True
        self.asking.cancel()

    def _finish(self) -> None:
        request = self._request
        if self._over and request is not None and not self._closed:
            self._closed = True
            request.unregisterProducer()
            request.finish()

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport takes no more for now."""
        self.asking.pause()

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self.asking.resume()

    def stopProducing(self) -> None:
        """The client has left."""
        self.close()
