"""C{/files/*} of the agent: parameters and answers as recorded from a real one.

What is found where is in L{mesoskit.agent.files}; all of it runs in a thread. A file is
downloaded in pieces, the next being read when the one before is on its way.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from mesoskit.agent import files
from mesoskit.agent.files import Attached, Inaccessible, NotThere
from mesoskit.web.routes import TEXT, Reply, head, in_thread, not_found, parameter, text

if TYPE_CHECKING:
    from mesoskit.agent.service import AgentService

_PIECE: Final = 256 * 1024
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NO_PATH: Final = "Expecting 'path=value' in query.\n"


def browse(service: AgentService, request: Any) -> Reply | Deferred[Reply]:
    """
    List a directory of a sandbox: an object for each entry, as C{ls -l} shows it.

    C{path} is the absolute path that C{/state} shows as C{directory}, the same with C{latest}
    in place of the last name, or C{/frameworks/<id>/executors/<id>/runs/latest}.
    """

    def listed(path: str, place: Attached) -> Reply:
        entries = files.browse(place, path)
        return _nothing() if entries is None else Reply(body=entries)

    return _answer(service, request, listed, _nothing)


def read(service: AgentService, request: Any) -> Reply | Deferred[Reply]:
    """
    Read a part of a file in a sandbox, 64 KiB at most: C{data} and the C{offset} it begins at.

    C{offset} and C{length} are bytes. Without an offset, or with -1, there is no data and the
    offset is the size of the file.
    """
    found = {name: parameter(request, name) for name in ("offset", "length")}
    numbers: dict[str, int] = {}
    if parameter(request, "path") is None:
        return text(400, _NO_PATH)
    for name, given in found.items():
        if given is None:
            continue
        if not _NUMBER.fullmatch(given):
            return text(400, f"Failed to parse {name}: Failed to convert '{given}' to number.\n")
        # -1 is what the pages of Mesos ask for who want the size.
        if (numbers.setdefault(name, int(given))) < -1:
            return text(400, f"Negative {name} provided: {given}.\n")
    offset = numbers.get("offset", -1)
    length = numbers.get("length", -1)

    def part(path: str, place: Attached) -> Reply:
        wanted = files.LONGEST_READ if length < 0 else length
        result = files.read(place, None if offset < 0 else offset, wanted)
        if result is None:
            return text(400, "Cannot read a directory.\n")
        data, begin = result
        return Reply(body={"data": _text(data), "offset": begin})

    return _answer(service, request, part, _nothing)


def _text(data: bytes) -> str:
    """Return bytes as text; a character whose end was not read waits for the next request."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(data) or decoder.decode(b"", final=True)


def debug(service: AgentService, request: Any) -> Reply:
    """Show which paths C{/files} knows, and what they stand for."""
    return Reply(body=dict(sorted(files.attached(service.state))))


def download(service: AgentService, request: Any) -> Reply | int:
    """Send a file of a sandbox whole; C{path} as for C{/files/browse}."""
    path = parameter(request, "path")
    if path is None:
        return text(400, _NO_PATH)
    try:
        place = files.resolve(service.state, path)
    except NotThere:
        return not_found()
    opened = in_thread(service.reactor, lambda: files.open_file(place))
    gone: list[object] = []
    request.notifyFinish().addBoth(gone.append)

    def send(result: tuple[int, int] | None) -> None:
        if gone:
            if result is not None:
                os.close(result[0])
        elif result is None:
            _refuse(request, text(400, "Cannot download a directory.\n"))
        else:
            _Download(request, *result, service.reactor).begin(path.rstrip("/").rpartition("/")[2])

    def failed(failure: Any) -> None:
        reply = not_found() if failure.check(NotThere) else _inaccessible(path, failure)
        if not gone:
            _refuse(request, reply)

    opened.addCallbacks(send, failed)
    return int(NOT_DONE_YET)


def _refuse(request: Any, reply: Reply) -> None:
    head(request, reply.status, {**reply.headers, "Content-Length": str(len(reply.body))})
    request.write(reply.body)
    request.finish()


def _nothing() -> Reply:
    """Return the answer for a path at which nothing is: empty, as recorded."""
    return Reply(404, headers={"Content-Type": TEXT})


def _inaccessible(path: str, failure: Any) -> Reply:
    failure.trap(Inaccessible)
    return text(400, f"'{path}' is inaccessible.\n")


def _answer(
    service: AgentService,
    request: Any,
    look: Callable[[str, Attached], Reply],
    missing: Callable[[], Reply],
) -> Reply | Deferred[Reply]:
    path = parameter(request, "path")
    if path is None:
        return text(400, _NO_PATH)
    try:
        place = files.resolve(service.state, path)
    except NotThere:
        return missing()

    def failed(failure: Any) -> Reply:
        return missing() if failure.check(NotThere) else _inaccessible(path, failure)

    return in_thread(service.reactor, lambda: look(path, place)).addErrback(failed)


@implementer(IPushProducer)
class _Download:
    """A file on its way to a client, read in a thread."""

    def __init__(self, request: Any, descriptor: int, size: int, reactor: Any) -> None:
        self._request = request
        self._descriptor = descriptor
        self._left = size
        self._size = size
        self._reactor = reactor
        self._reading = False
        self._paused = False
        self._over = False

    def begin(self, name: str) -> None:
        """Send the head and the first piece."""
        request = self._request
        plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name) or "file"
        disposition = f"attachment; filename={plain}"
        if plain != name:
            disposition += f"; filename*=UTF-8''{quote(name, safe='')}"
        headers = {
            "Content-Length": str(self._size),
            "Content-Disposition": disposition,
            "Content-Type": "application/octet-stream",
        }
        head(request, 200, headers)
        request.notifyFinish().addBoth(lambda _: self.stopProducing())
        if request.method == b"HEAD" or not self._size:
            request.write(b"")
            request.finish()
            return
        request.registerProducer(self, True)
        self._go_on()

    def _go_on(self) -> None:
        if self._reading or self._paused or self._over:
            return
        self._reading = True
        descriptor, wanted = self._descriptor, min(_PIECE, self._left)
        piece = in_thread(self._reactor, lambda: os.read(descriptor, wanted))
        piece.addCallbacks(self._sent, self._broken)

    def _sent(self, piece: bytes) -> None:
        self._reading = False
        if self._over:
            self._close()
            return
        if not piece:
            # It became shorter: what was promised cannot be kept, and must not look as if.
            self._request.channel.abortConnection()
            return
        self._left -= len(piece)
        self._request.write(piece)
        self._finish_or_go_on()

    def _finish_or_go_on(self) -> None:
        if not self._over and not self._left:
            self._request.unregisterProducer()
            self._request.finish()
        else:
            self._go_on()

    def _broken(self, failure: Any) -> None:
        self._reading = False
        if self._over:
            self._close()
        else:
            self._request.channel.abortConnection()

    def pauseProducing(self) -> None:
        """The transport takes no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """It is sent, or the client has left."""
        if not self._over:
            self._over = True
            if not self._reading:
                self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
