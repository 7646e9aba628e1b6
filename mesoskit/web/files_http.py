"""C{/files/*}: parameters and answers as recorded from a real Mesos.

What may be seen is a L{mesoskit.web.files.Door}'s affair; all reading is done in threads. An
answer is made of parameters alone, so that a question need not have come as a request.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred

from mesoskit.web import files
from mesoskit.web.authorizing import FORBIDDEN
from mesoskit.web.files import Attached, Door, Forbidden, Inaccessible, NotThere
from mesoskit.web.routes import TEXT, Reply, in_thread, not_found, parameter, text
from mesoskit.web.streaming import FilePart

Parameters = Mapping[str, str]
"""What was asked with: C{path}, C{offset}, C{length}; C{range} is the header of that name."""

Answer = Reply | Deferred[Reply]

NO_PATH: Final = "Expecting 'path=value' in query.\n"
"""What is said to who names no path."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parameters(request: Any) -> dict[str, str]:
    """Return what a request asks with."""
    found = {name: parameter(request, name) for name in ("path", "offset", "length")}
    values = request.requestHeaders.getRawHeaders(b"range")
    found["range"] = values[0].decode("latin-1") if values else None
    return {name: value for name, value in found.items() if value is not None}


def browse(door: Door, reactor: Any, asked: Parameters) -> Answer:
    """List the directory at C{path}."""

    def listed(path: str, place: Attached) -> Reply:
        entries = files.browse(place, path)
        return nothing() if entries is None else Reply(body=entries)

    return _answer(door, reactor, asked, listed, nothing)


def read(door: Door, reactor: Any, asked: Parameters) -> Answer:
    """Read C{length} bytes from C{offset} on of the file at C{path}."""
    numbers: dict[str, int] = {}
    if "path" not in asked:
        return text(400, NO_PATH)
    for name in ("offset", "length"):
        given = asked.get(name)
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

    return _answer(door, reactor, asked, part, nothing)


def _text(data: bytes) -> str:
    """Return bytes as text; a character whose end was not read waits for the next request."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return decoder.decode(data) or decoder.decode(b"", final=True)


def download(door: Door, reactor: Any, asked: Parameters) -> Answer:
    """Send the file at C{path}, or the part of it that the header C{Range} names (an extension)."""

    def opened(path: str, place: Attached) -> Reply:
        found = files.open_file(place)
        if found is None:
            return text(400, "Cannot download a directory.\n")
        descriptor, size = found
        name = next((one for one in reversed(place.rest) if one not in ("", ".")), "")
        name = name or place.root.rpartition("/")[2]
        begin, end = _range(asked.get("range", ""), size)
        body = FilePart(descriptor, begin, end - begin, partial(in_thread, reactor), reactor)
        headers = {"Content-Disposition": _disposition(name), "Accept-Ranges": "bytes"}
        if begin >= end and size:
            body.close()
            return Reply(416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Type"] = "application/octet-stream"
        if (begin, end) == (0, size):
            return Reply(body=body, headers=headers)
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        return Reply(206, body, headers)

    return _answer(door, reactor, asked, opened, not_found)


def _range(given: str, size: int) -> tuple[int, int]:
    """
    Return the part of a file that is asked for: its first byte, and the one after its last.

    Several parts at once, and what cannot be understood, are the whole file (RFC 9110, 14.2).
    """
    match = _RANGE.fullmatch(given.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return 0, size
    if not match[1]:
        return (size - min(int(match[2]), size), size) if int(match[2]) else (size, size)
    begin = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < begin:
        return 0, size
    return (begin, end) if begin < size else (size, size)


def _disposition(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name) or "file"
    disposition = f"attachment; filename={plain}"
    if plain != name:
        disposition += f"; filename*=UTF-8''{quote(name, safe='')}"
    return disposition


def debug(door: Door) -> Reply:
    """Show which paths there are, and what they stand for."""
    return Reply(body=dict(sorted(door.attached())))


def nothing() -> Reply:
    """Return the answer for a path at which nothing is: empty, as recorded."""
    return Reply(404, headers={"Content-Type": TEXT})


def look(
    door: Door,
    reactor: Any,
    path: str,
    looked: Callable[[Attached], Reply],
    missing: Callable[[], Reply],
) -> Answer:
    """
    Find what a path is, and look into it in a thread.

    @param looked: makes the answer, and may raise what L{mesoskit.web.files} does.
    @param missing: makes the answer where nothing is there.
    """
    try:
        place = door.resolve(path)
    except NotThere:
        return missing()
    except Forbidden:
        return text(403, FORBIDDEN)

    def failed(failure: Any) -> Reply:
        if failure.check(NotThere):
            return missing()
        failure.trap(Inaccessible)
        return text(400, f"'{path}' is inaccessible.\n")

    return in_thread(reactor, lambda: looked(place)).addErrback(failed)


def _answer(
    door: Door,
    reactor: Any,
    asked: Parameters,
    looked: Callable[[str, Attached], Reply],
    missing: Callable[[], Reply],
) -> Answer:
    path = asked.get("path")
    if path is None:
        return text(400, NO_PATH)
    return look(door, reactor, path, lambda place: looked(path, place), missing)
