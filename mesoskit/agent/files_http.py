"""C{/files/*} of the agent: its sandboxes (L{mesoskit.agent.files}) behind Mesos' four routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mesoskit.agent.files import Sandboxes
from mesoskit.web import files_http
from mesoskit.web.routes import Reply

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService


def _door(service: AgentService, request: Any) -> Sandboxes:
    return Sandboxes(service.state, request.subject)


def browse(service: AgentService, request: Any) -> Reply | Deferred[Reply]:
    """
    List a directory of a sandbox: an object for each entry, as C{ls -l} shows it.

    C{path} is the absolute path that C{/state} shows as C{directory}, the same with C{latest}
    in place of the last name, or C{/frameworks/<id>/executors/<id>/runs/latest}.
    """
    door = _door(service, request)
    return files_http.browse(door, service.reactor, files_http.parameters(request))


def read(service: AgentService, request: Any) -> Reply | Deferred[Reply]:
    """
    Read a part of a file in a sandbox, 64 KiB at most: C{data} and the C{offset} it begins at.

    C{offset} and C{length} are bytes. Without an offset, or with -1, there is no data and the
    offset is the size of the file.
    """
    door = _door(service, request)
    return files_http.read(door, service.reactor, files_http.parameters(request))


def download(service: AgentService, request: Any) -> Reply | Deferred[Reply]:
    """
    Send a file of a sandbox whole; C{path} as for C{/files/browse}.

    With a header C{Range} of one range, that part of it; an extension of mesoskit.
    """
    door = _door(service, request)
    return files_http.download(door, service.reactor, files_http.parameters(request))


def debug(service: AgentService, request: Any) -> Reply:
    """Show which paths C{/files} knows, and what they stand for."""
    return files_http.debug(_door(service, request))
