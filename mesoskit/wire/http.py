"""Twisted's web server with limits: how HTTP requests reach a daemon's resources.

L{mesoskit.wire.port} imports this when the first HTTP connection comes: C{twisted.web}
takes about 20 ms and 4 MB that a process without HTTP clients goes without.
"""

from collections.abc import Collection, Mapping
from io import BytesIO
from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from mesoskit.wire.body import StreamedBody
from mesoskit.wire.endpoints import address_text
from mesoskit.wire.exchange import REASONS, Streaming
from mesoskit.wire.quick import CallRoute, Heads, QuickChannel
from mesoskit.wire.silence import notice

RECORDIO: Final = "application/recordio"
"""The type of a stream of messages."""

# One that has been told nothing yet may go on sending so many times the limit before it
# is cut off: many clients do not listen before they have sent everything.
_PATIENCE: Final = 4
# Bytes of each body that are not counted: small calls get through whoever sends big ones.
_UNCOUNTED: Final = 16 * 1024
_CROWDED: Final = b"Too much is being sent by others."


class LimitedRequest(Request):
    """
    A request whose body is held in memory, up to the site's C{body_limit}; or is heard as it
    comes, where it is a stream of records for one of the site's C{streams}.

    Beyond it the body is thrown away as it comes, the answer is 413 and the connection
    is closed; no resource hears of it. So it is, with 503, where the bodies of all together would
    be longer than C{bodies_limit}.

    @ivar principal: who proved to ask; L{None} is nobody in particular. Set before a handler
        of a route is called.
    @ivar streamed: the body where it is heard as it comes.
    """

    principal: str | None = None
    streamed: StreamedBody | None = None
    _taken = 0
    _too_long = False
    _status = 413
    # What of this body is counted by the site.
    _counted = 0

    def gotLength(self, length: int | None) -> None:
        """
        All headers are there; C{length} is L{None} where the body comes in chunks.

        A client that asks first whether to send the body is told no.
        """
        self.content = BytesIO()
        self._of = cast(LimitedSite, self._channel().site)
        if length != 0 and self._is_streamed():
            self._begin_stream()
            return
        limit = self._limit()
        if length is not None and length > limit:
            self._too_long = True
            if self.requestHeaders.hasHeader(b"expect"):
                self.requestHeaders.removeHeader(b"expect")
                self._refuse()
                self._channel().loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """A piece of the body came."""
        if self.streamed is not None:
            self.streamed.feed(data)
            return
        self._taken += len(data)
        limit = self._limit()
        if self._taken > limit or not self._room():
            if self._taken <= limit and not self._too_long:
                self._status = 503
            self._too_long = True
            self.forget()
            if self._taken > _PATIENCE * limit:
                self._channel().transport.abortConnection()
        elif not self._too_long and self.content is not None:
            self.content.write(data)

    def process(self) -> None:
        """The request is whole: give it to its resource."""
        if self.streamed is not None:
            self.streamed.end()
        elif not self._too_long:
            super().process()  # type: ignore[no-untyped-call]
        elif not self.startedWriting:
            self._refuse()
            self._channel().persistent = False
            self.finish()

    def write(self, data: bytes) -> None:
        """Write a piece of the answer; where that comes before the body's end, it is the last."""
        if self.streamed is not None and not self.startedWriting and not self.streamed.whole:
            self.setHeader("Connection", "close")  # type: ignore[no-untyped-call]
            self._channel().persistent = False
        super().write(data)  # type: ignore[no-untyped-call]

    def _is_streamed(self) -> bool:
        channel = self._channel()
        types = self.requestHeaders.getRawHeaders(b"content-type", ())
        return (
            list(types[-1:]) == [RECORDIO.encode()]
            and channel._command == b"POST"
            and channel._path.partition(b"?")[0] in channel.site.streams
        )

    def _begin_stream(self) -> None:
        """Give the request to its resource before there is a body."""
        channel = self._channel()
        self.method, self.uri = channel._command, channel._path
        self.clientproto = channel._version
        self.path, self.args = self.uri.partition(b"?")[0], {}
        if self.requestHeaders.hasHeader(b"expect"):
            self.requestHeaders.removeHeader(b"expect")
            channel._send100Continue()
        channel.stream()
        self.streamed = StreamedBody(channel.transport)
        super().process()  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """The answer is whole."""
        super().finish()  # type: ignore[no-untyped-call]
        self.forget()

    def connectionLost(self, reason: Failure) -> None:
        """Nobody waits for the answer any more."""
        self.forget()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Let the body go: nobody will read it again."""
        counted, self._counted = self._counted, 0
        if counted:
            self._of.held -= counted
        if self.content is not None:
            self.content = BytesIO()

    def _room(self) -> bool:
        """Count what has come; say whether there is room for it."""
        site = self._of
        more = max(0, self._taken - _UNCOUNTED) - self._counted
        if self._too_long or site.held + more > site.bodies_limit:
            return False
        self._counted += more
        site.held += more
        return True

    def _refuse(self) -> None:
        answer: Any = self
        why = f"The body is longer than {self._limit()} bytes.".encode()
        if self._status == 503:
            why = _CROWDED
        answer.clientproto = b"HTTP/1.1"
        answer.setResponseCode(self._status, REASONS[self._status].encode())
        answer.setHeader(b"content-type", b"text/plain; charset=utf-8")
        answer.setHeader(b"content-length", b"%d" % len(why))
        answer.setHeader(b"connection", b"close")
        answer.write(why)

    def _limit(self) -> int:
        return self._of.body_limit

    def _channel(self) -> Any:
        return self.channel


class LimitedSite(Site):
    """
    A site with limits for bodies and for the time they take, and without a log line a request.

    Bodies of forms are left to the resources: parsing them before anyone has decided
    whether the request is allowed would cost memory (C{request.content} has them).

    @ivar body_limit: the longest body taken, in bytes.
    @ivar bodies_limit: how long those may be together that have not been answered yet; a little
        of each does not count.
    @ivar held: how long they are.
    """

    displayTracebacks = False
    protocol: Any = QuickChannel

    def __init__(
        self,
        resource: IResource,
        *,
        clock: IReactorTime,
        body_limit: int,
        bodies_limit: int = 128 * 1024 * 1024,
        idle: float,
        patience: float = 30.0,
    ) -> None:
        """
        Serve C{resource} as the root.

        @param resource: may have an attribute C{calls}, the call routes by their paths, for
            what takes the short way (L{mesoskit.wire.quick}); the resource must answer
            them itself as well.
            Likewise C{streams}, the paths to which bodies of records may come as they like.
        @param idle: seconds after which a connection that asks nothing is closed.
        @param patience: seconds within which a request must be whole.
        """
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=LimitedRequest,
            timeout=idle,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.body_limit = body_limit
        self.bodies_limit = bodies_limit
        self.held = 0
        self._patience = patience
        self.streams: Collection[bytes] = getattr(resource, "streams", ())
        calls: Mapping[bytes, CallRoute] = getattr(resource, "calls", {})
        self._heads = Heads(calls, clock)

    def buildProtocol(self, addr: Any) -> Any:
        """Return what speaks on a new connection."""
        channel: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        channel.heads = self._heads
        channel.patience = self._patience
        return channel

    def log(self, request: object) -> None:
        """Log nothing: what matters of a request its resource logs."""


def last_header(request: Any, name: str) -> str | None:
    """
    Return a header of a request of C{twisted.web} by its name in lower case.

    Of several the last counts, as in libprocess (C{3rdparty/libprocess/src/decoder.hpp}): mesos-go
    says in a first C{Accept} what it takes everywhere, and in a second what it wants of this call.
    """
    values = request.requestHeaders.getRawHeaders(name.encode())
    return str(values[-1].decode("latin-1")) if values else None


class WebExchange:
    """
    A request of C{twisted.web} as an L{mesoskit.wire.exchange.Exchange}.

    The resource that makes one returns L{twisted.web.server.NOT_DONE_YET}.
    """

    def __init__(self, request: http.Request) -> None:
        self._request: Any = request
        self._writer: Streaming | None = None
        self._left = ""
        request.notifyFinish().addErrback(self._gone)

    @property
    def path(self) -> str:
        """What was asked for, without a query."""
        return cast(bytes, self._request.path).decode("latin-1")

    @property
    def method(self) -> str:
        """C{POST} …"""
        return cast(bytes, self._request.method).decode("latin-1")

    @property
    def peer(self) -> str:
        """Where the client is, for logs."""
        return address_text(self._request.getClientAddress())

    @property
    def body(self) -> bytes:
        """The body."""
        content = self._request.content
        return b"" if content is None else cast(bytes, content.getvalue())

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case."""
        return last_header(self._request, name)

    def reply(self, status: int, why: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a text, or with nothing."""
        if self._left:
            return
        request = self._head(status, headers)
        body = why.encode()
        if body:
            request.setHeader("Content-Type", "text/plain; charset=utf-8")
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()

    def begin(self, headers: Mapping[str, str], writer: Streaming) -> None:
        """Answer with a body that does not end so far."""
        if self._left:
            writer.gone(self._left)
            return
        request = self._head(200, headers)
        request.forget()
        self._writer = writer
        # Before the first write, which may fill the transport already.
        request.registerProducer(_Producer(writer), True)
        transport = self._request.channel.transport
        # A client whose machine is gone says nothing any more.
        notice(transport)
        request.write(b"")

    def write(self, data: bytes) -> None:
        """Send one chunk in one write."""
        if not self._left:
            self._request.write(data)

    def keep(self) -> None:
        """Let the connection be idle."""
        if not self._left:
            self._request.channel.keep()

    def finish(self) -> None:
        """End the body."""
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def abort(self) -> None:
        """Cut the connection."""
        if not self._left:
            self._request.channel.transport.abortConnection()

    def _head(self, status: int, headers: Mapping[str, str] | None) -> Any:
        request = self._request
        request.setResponseCode(status, REASONS[status].encode() if status in REASONS else None)
        # The server's name is none of the client's business, and a guessed type is wrong.
        request.responseHeaders.removeHeader("Server")
        request.responseHeaders.removeHeader("Content-Type")
        for name, value in (headers or {}).items():
            request.setHeader(name, value)
        return request

    def _gone(self, reason: Failure) -> None:
        done = isinstance(reason.value, ConnectionDone)
        self._left = "connection closed" if done else reason.getErrorMessage()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.gone(self._left)


@implementer(IPushProducer)
class _Producer:
    """Tells who writes a stream what the transport says."""

    def __init__(self, writer: Streaming) -> None:
        self._writer = writer

    def pauseProducing(self) -> None:
        """The transport takes no more for now."""
        self._writer.pause()

    def resumeProducing(self) -> None:
        """The transport takes more again."""
        self._writer.resume()

    def stopProducing(self) -> None:
        """The connection is lost; the request says so as well."""
