"""Apache Mesos' web UI, as somebody has it on disk: C{--webui_dir}.

The pages are static, and ask C{/state} and the others by themselves; they lie at C{/},
C{/app} and C{/assets}, for everybody, as in Mesos (C{src/master/master.cpp}).
"""

from __future__ import annotations

from functools import partial
from mimetypes import guess_type
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from mesoskit.web import files
from mesoskit.web.authentication import Realm
from mesoskit.web.files import Attached, Inaccessible, NotThere
from mesoskit.web.routes import Reply, Route, in_thread, not_allowed, not_found
from mesoskit.web.streaming import FilePart

if TYPE_CHECKING:
    from mesoskit.master.service import MasterService

INDEX: Final = "index.html"
"""What is at C{/}."""

_FOLDERS: Final = ("app", "assets")


def routes(directory: str) -> tuple[Route, ...]:
    """Return the routes of the web UI that lies in a directory."""

    def index(service: MasterService, request: Any) -> Reply | Deferred[Reply]:
        """The web UI."""
        return _page(service, request, Attached(directory, [INDEX]))

    def folder(service: MasterService, request: Any) -> Reply | Deferred[Reply]:
        """Files of the web UI."""
        names = unquote(request.path.decode("latin-1"), errors="replace").strip("/").split("/")
        names = names[1:] if names[0] == "master" else names
        # What is below /app is looked for in that folder alone, wherever dots and links lead.
        return _page(service, request, Attached(f"{directory}/{names[0]}", names[1:]))

    return (
        Route("", index, realm=Realm.OPEN, exact=True),
        *(Route(name, folder, realm=Realm.OPEN) for name in _FOLDERS),
    )


def _page(service: MasterService, request: Any, place: Attached) -> Reply | Deferred[Reply]:
    """Send a file of the web UI."""
    if request.method not in (b"GET", b"HEAD"):
        return not_allowed(request, "GET", "HEAD")
    reactor = service.reactor

    def opened() -> Reply:
        found = files.open_file(place)
        if found is None:
            return not_found()
        kind, _ = guess_type(place.rest[-1])
        body = FilePart(found[0], 0, found[1], partial(in_thread, reactor), reactor)
        return Reply(body=body, headers={"Content-Type": kind or "application/octet-stream"})

    def failed(failure: Any) -> Reply:
        failure.trap(NotThere, Inaccessible)
        return not_found()

    return in_thread(reactor, opened).addErrback(failed)
