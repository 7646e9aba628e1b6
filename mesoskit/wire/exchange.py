"""One HTTP request that waits for its answer, whoever parsed it: what the v1 carriers stand on.

There are two kinds, with one behaviour: L{mesoskit.wire.http.WebExchange} round a request
of C{twisted.web}, which can do everything, and L{mesoskit.wire.quick.QuickExchange} for the
calls of a subscribed peer, thousands a second, which cannot become a stream.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from twisted.internet.defer import Deferred

#: The reason phrases that Mesos sends.
REASONS: Final[dict[int, str]] = {
    200: "OK",
    202: "Accepted",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass(slots=True, frozen=True)
class Away:
    """
    Whoever asks is sent away before anybody has looked at what was asked.

    @ivar headers: C{Location} of a redirect.
    """

    status: int
    why: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Principal:
    """
    Who asks, as far as it was proved (C{Principal} of libprocess).

    @ivar name: L{None} where a token proves claims and no name.
    @ivar claims: what a token says of whoever bears it.
    """

    name: str | None
    claims: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the name; where there are claims all of it as JSON, as Mesos shows it."""
        if self.name is not None and not self.claims:
            return self.name
        shown: dict[str, object] = {} if self.name is None else {"value": self.name}
        if self.claims:
            shown["claims"] = dict(sorted(self.claims.items()))
        return json.dumps(shown, separators=(",", ":"))


Identified = Principal | Away | None
"""Who asks, why he is sent away (401, 403), or L{None}: nobody wants to know."""


class Asked(Protocol):
    """As much of a request as it takes to find out who asks."""

    @property
    def path(self) -> str:
        """What was asked for, without a query."""
        ...

    @property
    def method(self) -> str:
        """C{POST} …"""
        ...

    @property
    def peer(self) -> str:
        """Where the client is."""
        ...

    def header(self, name: str) -> str | None:
        """Return a header of the request by its name in lower case; L{None} without it."""
        ...


Identify = Callable[[Asked], "Identified | Deferred[Identified]"]
"""Says who asks. A Deferred comes in time and does not fail."""

Gate = Callable[[str], "Away | None"]
"""Says whether requests are taken at all now; it is given the path that is asked for."""


class Streaming(Protocol):
    """Who writes a stream, as its exchange sees it."""

    def pause(self) -> None:
        """The client takes no more for now."""
        ...

    def resume(self) -> None:
        """The client takes more again."""
        ...

    def gone(self, why: str) -> None:
        """The client has left: nothing more can be written."""
        ...


class Exchange(Protocol):
    """A request that is whole, and the way its answer takes."""

    @property
    def path(self) -> str:
        """What was asked for, without a query."""
        ...

    @property
    def method(self) -> str:
        """C{POST} …"""
        ...

    @property
    def peer(self) -> str:
        """Where the client is, for logs."""
        ...

    @property
    def body(self) -> bytes:
        """The body, decoded from chunks where it came in any."""
        ...

    def header(self, name: str) -> str | None:
        """Return a header of the request by its name in lower case; L{None} without it."""
        ...

    def reply(self, status: int, why: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a text, or with nothing where C{why} is empty; once, and not after begin."""
        ...

    def begin(self, headers: Mapping[str, str], writer: Streaming) -> None:
        """Answer with 200 and a body without an end so far. C{writer} is told of the client."""
        ...

    def write(self, data: bytes) -> None:
        """Send a piece of that body: one chunk, in one write."""
        ...

    def keep(self) -> None:
        """Let the connection be idle from now on as long as the client likes."""
        ...

    def finish(self) -> None:
        """End that body. The connection may stay, for other requests."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...
