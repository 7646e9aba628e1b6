"""Twisted's web server with limits: how HTTP requests reach a daemon's resources.

L{mesoskit.wire.port} imports this when the first HTTP connection comes: C{twisted.web}
takes about 20 ms and 4 MB that a process without HTTP clients goes without.
"""

from io import BytesIO
from typing import Any, Final, cast

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

# One that has been told nothing yet may go on sending so many times the limit before it
# is cut off: many clients do not listen before they have sent everything.
_PATIENCE: Final = 4


class LimitedRequest(Request):
    """
    A request whose body is held in memory, up to the site's C{body_limit}.

    Beyond it the body is thrown away as it comes, the answer is 413 and the connection
    is closed; no resource hears of it.
    """

    _taken = 0
    _too_long = False

    def gotLength(self, length: int | None) -> None:
        """
        All headers are there; C{length} is L{None} where the body comes in chunks.

        A client that asks first whether to send the body is told no.
        """
        limit = self._limit()
        self.content = BytesIO()
        if length is not None and length > limit:
            self._too_long = True
            if self.requestHeaders.hasHeader(b"expect"):
                self.requestHeaders.removeHeader(b"expect")
                self._refuse()
                self._channel().loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body came."""
        self._taken += len(data)
        limit = self._limit()
        if self._taken > limit:
            self._too_long = True
            self.content = BytesIO()
            if self._taken > _PATIENCE * limit:
                self._channel().transport.abortConnection()
        elif not self._too_long and self.content is not None:
            self.content.write(data)

    def process(self) -> None:
        """The request is whole: give it to its resource."""
        if not self._too_long:
            super().process()  # type: ignore[no-untyped-call]
        elif not self.startedWriting:
            self._refuse()
            self._channel().persistent = False
            self.finish()  # type: ignore[no-untyped-call]

    def _refuse(self) -> None:
        answer: Any = self
        why = f"The body is longer than {self._limit()} bytes.".encode()
        answer.clientproto = b"HTTP/1.1"
        answer.setResponseCode(413, b"Content Too Large")
        answer.setHeader(b"content-type", b"text/plain; charset=utf-8")
        answer.setHeader(b"content-length", b"%d" % len(why))
        answer.setHeader(b"connection", b"close")
        answer.write(why)

    def _limit(self) -> int:
        return cast(LimitedSite, self._channel().site).body_limit

    def _channel(self) -> Any:
        return self.channel


class LimitedSite(Site):
    """
    A site with a limit for bodies, and without a log line a request.

    Bodies of forms are left to the resources: parsing them before anyone has decided
    whether the request is allowed would cost memory (C{request.content} has them).

    @ivar body_limit: the longest body taken, in bytes.
    """

    displayTracebacks = False

    def __init__(
        self, resource: IResource, *, clock: IReactorTime, body_limit: int, idle: float
    ) -> None:
        """
        Serve C{resource} as the root.

        @param idle: seconds after which a connection that asks nothing is closed.
        """
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=LimitedRequest,
            timeout=idle,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.body_limit = body_limit

    def log(self, request: object) -> None:
        """Log nothing: what matters of a request its resource logs."""
