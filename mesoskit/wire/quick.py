"""A short way for the calls of subscribed peers, inside C{twisted.web}'s own channel.

A POST through C{twisted.web} costs more than everything that a master then does with it. So
where a request comes whole, is a POST to one of the call routes that asks for no stream and has
nothing unusual about it, it is cut out of the bytes here, and several in a row need not
wait for each other's answers. Whatever else comes is left to C{twisted.web}, byte for byte,
when what came before it has been answered; nothing can be asked here that could not be asked
there.

What receives too slowly to be honest is cut off here as well: a request has a time within
which it must be there, however many bytes trickle in. And whoever sends many requests at once
without waiting for answers gets some of them at a time, between which others have their turn.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString

from mesoskit.wire.endpoints import address_text
from mesoskit.wire.exchange import REASONS, Exchange, Streaming
from mesoskit.wire.silence import notice

Post = Callable[[Exchange], None]
"""What takes the requests of a call route."""

Usual = Callable[[str, bytes], bool]
"""Says of a request's C{Content-Type} and body that its answer will be no stream."""

#: Heads longer than this are left to twisted.web, in bytes.
_LONGEST_HEAD: Final = 4096
#: Bodies longer than this are left to twisted.web, in bytes: while one is incomplete it is
#: copied with every piece that comes.
_LONGEST_BODY: Final = 64 * 1024
#: So many calls of one connection may wait for their answers; then no more is read. The answers
#: come after a turn of the daemon, so that this is the share of one connection in a turn.
_WAITING: Final = 64
#: So many bytes of further requests are held meanwhile; then no more is read.
_HELD: Final = 64 * 1024
#: So many requests of one connection are answered the long way at a time.
_AT_A_TIME: Final = 16
#: Heads are the same again and again; so many of all connections are remembered.
_HEADS: Final = 512

_TOKEN: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TEXT: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LEFT_TO_WEB: Final = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer"})
#: What proves who asks. It is cut out of a head before that is remembered.
_PROOF: Final = re.compile(rb"\r\nauthorization:[ \t]*([^\r\n]*)(?=\r\n|\Z)", re.IGNORECASE)
#: Where else a secret may be: such heads are not remembered.
_MORE_PROOF: Final = re.compile(rb"authorization|cookie", re.IGNORECASE)


@dataclass(slots=True, frozen=True)
class CallRoute:
    """
    Where calls go.

    @ivar post: takes them.
    @ivar usual: tells calls from what opens a stream, by the body; L{None} where all calls name
        the stream that they belong to, and what opens one names none.
    """

    post: Post
    usual: Usual | None = None


class Head:
    """
    The head of a usual call, parsed.

    @ivar length: of the body, in bytes.
    @ivar media: its C{Content-Type}.
    @ivar post: who takes it.
    @ivar usual: who knows by the body whether it is a call; L{None} where the head tells.
    """

    __slots__ = ("headers", "length", "media", "path", "post", "usual")

    def __init__(self, path: str, headers: dict[str, str], length: int, route: CallRoute) -> None:
        self.path = path
        self.headers = headers
        self.length = length
        self.media = headers.get("content-type", "")
        self.post = route.post
        self.usual = route.usual


class Heads:
    """
    The call routes of a site, and the heads that were asked for them lately.

    @ivar routes: by path, as it is asked for.
    """

    def __init__(self, routes: Mapping[bytes, CallRoute], clock: Any) -> None:
        self.routes = routes
        self._clock = clock
        self._known: dict[bytes, Head | None] = {}
        self._second = -1
        self._date = b""

    def find(self, raw: bytes) -> tuple[Head | None, str | None]:
        """
        Return the head that these bytes are and the C{Authorization} in it; L{None} where it
        is not a usual call.
        """
        proof = None
        found = _PROOF.search(raw)
        if found is not None:
            proof = found[1].rstrip(b" \t").decode("latin-1")
            raw = raw[: found.start()] + raw[found.end() :]
        try:
            return self._known[raw], proof
        except KeyError:
            pass
        if _MORE_PROOF.search(raw):
            return None, None
        head = self._parse(raw)
        # What is wrong with a head may be what has hidden a secret from us.
        if head is not None or proof is None:
            if len(self._known) >= _HEADS:
                self._known.clear()
            self._known[raw] = head
        return head, proof

    def _parse(self, raw: bytes) -> Head | None:
        first, *lines = raw.split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or words[0] != b"POST" or words[2] != b"HTTP/1.1":
            return None
        route = self.routes.get(words[1])
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name) or not _TEXT.fullmatch(value):
                return None
            key = name.decode("ascii").lower()
            if key in headers:
                return None
            headers[key] = value.strip(b" \t").decode("latin-1")
        length = headers.get("content-length", "")
        if (
            route is None
            or (route.usual is None and "mesos-stream-id" not in headers)
            or not _LEFT_TO_WEB.isdisjoint(headers)
            or headers.get("connection", "keep-alive").lower() != "keep-alive"
            or not length.isascii()
            or not length.isdigit()
            or len(length) > 9
            or int(length) > _LONGEST_BODY
        ):
            return None
        return Head(words[1].decode("latin-1"), headers, int(length), route)

    def date(self) -> bytes:
        """Return the time as HTTP writes it."""
        second = int(self._clock.seconds())
        if second != self._second:
            self._second = second
            self._date = datetimeToString(second)  # type: ignore[no-untyped-call]
        return self._date


class QuickExchange:
    """A call that waits for its answer; a stream it cannot become."""

    __slots__ = ("_channel", "_head", "_proof", "answer", "body")

    method = "POST"

    def __init__(
        self, channel: QuickChannel, head: Head, body: bytes, proof: str | None = None
    ) -> None:
        self._channel = channel
        self._proof = proof
        self._head = head
        self.body = body
        self.answer: bytes | None = None

    @property
    def path(self) -> str:
        """What was asked for."""
        return self._head.path

    @property
    def peer(self) -> str:
        """Where the client is, for logs."""
        return address_text(self._channel.transport.getPeer())

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case."""
        return self._proof if name == "authorization" else self._head.headers.get(name)

    def reply(self, status: int, why: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Answer with a text, or with nothing."""
        body = why.encode()
        self.body = b""
        reason = REASONS.get(status, "Unknown").encode()
        date = self._channel.heads.date()
        head = b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, reason, date)
        for name, value in (headers or {}).items():
            head += f"{name}: {value}\r\n".encode("latin-1")
        if body:
            head += b"Content-Type: text/plain; charset=utf-8\r\n"
        self.answer = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        self._channel.answered()

    def begin(self, headers: Mapping[str, str], writer: Streaming) -> None:
        """Refuse: nobody who names a stream is given another."""
        raise RuntimeError("a quick call cannot become a stream")

    def write(self, data: bytes) -> None:
        """Do nothing: there is no stream."""

    def keep(self) -> None:
        """Let the connection be idle."""
        self._channel.keep()

    def finish(self) -> None:
        """Do nothing: there is no stream."""

    def abort(self) -> None:
        """Cut the connection."""
        self._channel.transport.abortConnection()


class QuickChannel(HTTPChannel):
    """
    A connection of C{twisted.web} with the short way before it.

    @ivar heads: shared by all connections of a site.
    @ivar patience: seconds within which a request must be whole.
    """

    heads: Heads
    patience = 30.0
    transport: Any

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._waiting: deque[QuickExchange] = deque()
        # What cannot be looked at yet: something before it waits for an answer or for bytes.
        self._held = b""
        self._busy = False
        self._reading = True
        self._unfinished = False
        self._limit: IDelayedCall | None = None
        self._kept = False
        self._streaming = False
        # Whether the next request is no usual call, as its body shows.
        self._unusual = False
        self._served = 0
        self._rest: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._ending = False

    def dataReceived(self, data: bytes) -> None:
        """Take the short way as far as it goes; the rest goes the long one."""
        if self.transport.disconnecting:
            return
        if not self._busyReceiving:
            self._served = 0
        if self.requests or not self.persistent:
            self._to_web(data)
        else:
            self.resetTimeout()  # type: ignore[no-untyped-call]
            # No request has begun there yet; what it holds is the beginning of one at most.
            begun = self.clearLineBuffer()  # type: ignore[no-untyped-call]
            self._look(self._held + begun + data)
        if not self._unfinished or self.transport.disconnecting:
            self._stop_timer()
        elif self._limit is None and not self._waiting:
            self._limit = self._call_later(self.patience, self._too_slow)

    def _look(self, data: bytes) -> None:
        self._held = b""
        self._busy = True
        try:
            position = self._take(data)
        finally:
            self._busy = False
        if position:
            # What is incomplete now is another request.
            self._stop_timer()
        rest = data[position:]
        self._unfinished = bool(rest)
        if not rest:
            return
        if self._waiting or (not self._unusual and self._may_be_quick(rest)):
            self._held = rest
            if self._waiting and len(rest) > _HELD:
                self._reading = False
                self._networkProducer.pauseProducing()
        else:
            self._to_web(rest)

    def _take(self, data: bytes) -> int:
        """Give every usual call in these bytes to its route; return where the rest begins."""
        position = 0
        self._unusual = False
        waiting, find = self._waiting, self.heads.find
        while len(waiting) < _WAITING:
            end = data.find(b"\r\n\r\n", position, position + _LONGEST_HEAD)
            if end < 0:
                break
            head, proof = find(data[position:end])
            if head is None:
                break
            begin = end + 4
            stop = begin + head.length
            if stop > len(data):
                break
            body = data[begin:stop]
            if head.usual is not None and not head.usual(head.media, body):
                self._unusual = True
                break
            exchange = QuickExchange(self, head, body, proof)
            waiting.append(exchange)
            position = stop
            head.post(exchange)
        full = len(waiting) >= _WAITING
        self._write_answers()
        if full and not waiting and self._again is None:
            # All have been answered already; the next ones when others have had their turn.
            self._again = self._call_later(0, self._go_on)
        return position

    def _go_on(self) -> None:
        self._again = None
        self.dataReceived(b"")

    def _may_be_quick(self, data: bytes) -> bool:
        """Say whether this is the beginning of what may become a usual call."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if end >= 0:
            return self.heads.find(data[:end])[0] is not None
        return len(data) < _LONGEST_HEAD and data[:5] == b"POST "[: len(data)]

    def _to_web(self, data: bytes) -> None:
        # What comes while a request is being answered is kept for later, and may take its time.
        self._unfinished = not (self._handlingRequest or self._streaming)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """A request of the long way is whole."""
        self._unfinished = self._streaming = False
        self._stop_timer()
        if not self.requests:
            return  # A streamed one was answered before all of it came; the connection is closed.
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def requestDone(self, request: Any) -> None:
        """A request of the long way is answered: go on, but not with too many at a time."""
        self._served += 1
        if self._served < _AT_A_TIME:
            self._done(request)
        else:
            self._rest = self._call_later(0, lambda: self._done(request))

    def _done(self, request: Any) -> None:
        self._rest = None
        if self._ending:
            self.persistent = False
        super().requestDone(request)  # type: ignore[no-untyped-call]

    # Answers.

    def answered(self) -> None:
        """One of the calls has its answer: send those that have no other before them."""
        if self._busy:
            return
        self._write_answers()
        if self._ending and not self._waiting:
            self.loseConnection()
        elif not self._waiting and (self._held or not self._reading):
            if not self._reading:
                self._reading = True
                if not self._waitingForTransport:
                    self._networkProducer.resumeProducing()
            self.dataReceived(b"")

    def _write_answers(self) -> None:
        waiting = self._waiting
        answers = []
        while waiting and (answer := waiting[0].answer) is not None:
            answers.append(answer)
            waiting.popleft()
        if answers:
            self.transport.write(b"".join(answers))

    # Time.

    def keep(self) -> None:
        """
        Close it no more for being idle. Mesos never does, and clients that find their second
        connection closed when they have something to say take that for the end.
        """
        if not self._kept:
            self._kept = True
            self.setTimeout(None)  # type: ignore[no-untyped-call]
            # The long way restores this when it has answered.
            self._savedTimeOut = None
            # A client whose machine is gone says nothing any more.
            notice(self.transport)

    def stream(self) -> None:
        """Let the body of the request that has begun take its time."""
        self._streaming = True
        self.keep()

    def loseConnection(self) -> None:
        """Close the connection when what was written has left; once."""
        if not self.transport.disconnecting:
            super().loseConnection()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Ask no more: close when what was asked is answered, at once where nothing was."""
        self._ending = True
        if not self.requests and not self._waiting:
            self.loseConnection()

    def _call_later(self, delay: float, function: Callable[[], None]) -> IDelayedCall:
        call: IDelayedCall = self.callLater(delay, function)  # type: ignore[no-untyped-call]
        return call

    def _stop_timer(self) -> None:
        timer, self._limit = self._limit, None
        if timer is not None:
            timer.cancel()

    def _too_slow(self) -> None:
        self._limit = None
        reason = REASONS[408].encode()
        head = b"HTTP/1.1 408 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        self.transport.write(head % reason)
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.timeoutConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody wants the answers any more."""
        self._stop_timer()
        for later in (self._rest, self._again):
            if later is not None:
                later.cancel()
        self._rest = self._again = None
        self._held = b""
        self._waiting.clear()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
