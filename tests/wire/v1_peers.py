"""The other end of the v1 carrier: a client of two connections, as Mesos' own libraries are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mesoskit.messages.authentication_pb2 import AuthenticationStepMessage
from mesoskit.wire import recordio
from mesoskit.wire.exchange import Principal
from mesoskit.wire.http import WebExchange
from mesoskit.wire.link import (
    CallRefused,
    Hello,
    Link,
    LinkLost,
    NotSendable,
    Refused,
    Taken,
    TooManyCalls,
)
from mesoskit.wire.media import PROTOBUF
from mesoskit.wire.quick import CallRoute
from mesoskit.wire.v1 import V1Carrier
from mesoskit.wire.v1_stream import V1Stream
from tests.wire.ears import Ear

PATH = b"/api/v1/plain"
SUBSCRIBE = b"SUBSCRIBE"

_ENDED = "the stream ended"


class PlainCarrier(V1Carrier):
    """An API whose calls and events are the messages that the wire's tests send."""

    call_class = AuthenticationStepMessage
    event_class = AuthenticationStepMessage
    heartbeat = {PROTOBUF: recordio.encode(b"")}

    def opens(self, call: Any) -> bool:
        return bool(call.data == SUBSCRIBE)

    def wants_answer_in_a_type(self, call: Any) -> bool:
        return False

    def sent(self, stream: V1Stream, event: Any) -> None: ...

    def ended(self, stream: V1Stream) -> None: ...

    def stray(self, exchange: Any, call: Message, principal: Principal | None) -> None:
        exchange.reply(400, "no such stream")


class NamelessCarrier(PlainCarrier):
    """The same without stream ids: calls are those of the one that is there."""

    by_stream_id = False

    def stream_of(self, exchange: Any, call: Message) -> V1Stream | None:
        return next(iter(self.streams.values()), None)


class Root(Resource):
    """The root of a site that has one API."""

    isLeaf = True

    def __init__(self, carrier: V1Carrier, short: bool = True) -> None:
        super().__init__()
        self.carrier = carrier
        usual = None if carrier.by_stream_id else carrier.usual
        self.calls = {PATH: CallRoute(carrier.post, usual)} if short else {}

    def render(self, request: Request) -> int:
        self.carrier.post(WebExchange(request))
        return NOT_DONE_YET


class Host:
    """
    Stands between carrier and ear: HTTP answers everything, a receiver need not.

    It takes SUBSCRIBE for its ear, and every message that the client does not wait for.

    @ivar waited_for: whether the client waits, for each of its messages that are under way.
    """

    def __init__(self, ear: Ear) -> None:
        self.ear = ear
        self.waited_for: deque[bool] = deque()

    def connected(self, link: Link) -> None:
        self.ear.connected(link)

    def received(self, link: Link, message: Any, call: int | None) -> None:
        assert call is not None
        if message.data == SUBSCRIBE:
            link.answer(call, Taken())
        elif self.waited_for.popleft():
            self.ear.received(link, message, call)
        else:
            self.ear.received(link, message, None)
            link.answer(call, Taken())

    def congestion(self, link: Link, congested: bool) -> None:
        self.ear.congestion(link, congested)

    def lost(self, link: Link, why: str) -> None:
        self.ear.lost(link, why)


class Answers:
    """Cuts a stream of bytes into HTTP answers, with or without chunks."""

    def __init__(self) -> None:
        self._held = b""
        self._step: Callable[[], bool] = self._head
        self._left = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.on_head: Callable[[], None] = lambda: None
        self.on_chunk: Callable[[bytes], None] = lambda data: None
        self.on_end: Callable[[], None] = lambda: None

    def feed(self, data: bytes) -> None:
        self._held += data
        while self._step():
            pass

    def _line(self, end: bytes) -> bytes | None:
        line, found, rest = self._held.partition(end)
        if not found:
            return None
        self._held = rest
        return line

    def _head(self) -> bool:
        head = self._line(b"\r\n\r\n")
        if head is None:
            return False
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        self.body = b""
        chunked = self.headers.get("transfer-encoding") == "chunked"
        self._left = int(self.headers.get("content-length", "0"))
        self._step = self._chunk if chunked else self._content
        self.on_head()
        return True

    def _content(self) -> bool:
        if len(self._held) < self._left:
            return False
        self.body, self._held = self._held[: self._left], self._held[self._left :]
        self._step = self._head
        self.on_end()
        return bool(self._held)

    def _chunk(self) -> bool:
        size, found, rest = self._held.partition(b"\r\n")
        if not found or len(rest) < int(size, 16) + 2:
            return False
        length = int(size, 16)
        chunk, self._held = rest[:length], rest[length + 2 :]
        if length:
            self.on_chunk(chunk)
        else:
            self._step = self._head
            self.on_end()
        return True


class Connection:
    """One of the client's connections."""

    def __init__(self, client: V1Client) -> None:
        self.client = client
        self.answers = Answers()
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        transport.registerProducer(self, True)
        self.client.ready(self)

    def dataReceived(self, data: bytes) -> None:
        self.answers.feed(data)

    def connectionLost(self, reason: object) -> None:
        self.client.connection_lost(self)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...

    def post(self, data: bytes, stream_id: str = "") -> None:
        head = (
            f"POST {PATH.decode()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
            f"Content-Type: {PROTOBUF}\r\nAccept: {PROTOBUF}\r\n"
        )
        if stream_id:
            head += f"Mesos-Stream-Id: {stream_id}\r\n"
        self.transport.write(head.encode() + b"\r\n" + data)

    def close(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseConnection()


class V1Client:
    """
    A L{Link} of the client's side: what it sends it POSTs, one after the other.

    @ivar chunks: of its stream, as they came.
    """

    principal = None
    congested = False
    peer = "http:server"

    def __init__(self, ear: Ear, hello: Hello, host: Host, maximum_calls: int) -> None:
        self.hello = hello
        self.chunks: list[bytes] = []
        self.stream, self.calls = Connection(self), Connection(self)
        self._ear = ear
        self._host = host
        self._maximum = maximum_calls
        self._pending: deque[Deferred[None] | None] = deque()
        self._records = recordio.Decoder()
        self._id = ""
        self._closing = self._told = False
        self._why = ""
        self._open = 0

    def ready(self, connection: Connection) -> None:
        self._open += 1
        if self._open == 2:
            answers = self.stream.answers
            answers.on_head, answers.on_chunk = self._subscribed, self._chunk
            answers.on_end = self._ended
            self.calls.answers.on_end = self._answered
            self.stream.post(AuthenticationStepMessage(data=SUBSCRIBE).SerializeToString())

    def _subscribed(self) -> None:
        assert self.stream.answers.status == 200, self.stream.answers.status
        self._id = self.stream.answers.headers.get("mesos-stream-id", "")
        self._ear.connected(self)

    def _chunk(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        for record in self._records.feed(chunk):
            if not self._closing:
                try:
                    self._ear.received(self, AuthenticationStepMessage.FromString(record), None)
                except Exception:
                    self._close("internal error")
                    raise

    def _answered(self) -> None:
        answers, waiting = self.calls.answers, self._pending.popleft()
        if self._told:
            return
        if waiting is not None and self._why in ("", _ENDED) and not waiting.called:
            if answers.status == 202:
                waiting.callback(None)
            else:
                waiting.errback(CallRefused(answers.status, answers.body.decode()))
        elif waiting is None and answers.status != 202:
            why = f"the peer said: {answers.body.decode()} ({answers.status})"
            if self._why == _ENDED:
                self._why = why
            self._close(why)
        if self._closing and not any(self._pending):
            self._close_when_told()

    def send(self, message: Message) -> None:
        self._post(message, None)

    def call(self, message: Message) -> Deferred[None]:
        if self._closing:
            return fail(LinkLost("closed"))
        if sum(each is not None for each in self._pending) >= self._maximum:
            return fail(TooManyCalls("too many"))
        answer: Deferred[None] = Deferred()
        try:
            self._post(message, answer)
        except NotSendable as error:
            return fail(error)
        return answer

    def _post(self, message: Message, answer: Deferred[None] | None) -> None:
        if not isinstance(message, AuthenticationStepMessage) or not message.IsInitialized():
            raise NotSendable("not a call")
        if self._closing:
            return
        self._pending.append(answer)
        self._host.waited_for.append(answer is not None)
        self.calls.post(message.SerializeToString(), self._id)

    def answer(self, call: int, outcome: Taken | Refused) -> None:
        raise NotImplementedError

    def lose(self, why: str = "") -> None:
        self._close(why or "closed here")

    def _close(self, why: str) -> None:
        if not self._closing:
            self._closing = True
            self._why = why
            self._close_when_told()

    def _ended(self) -> None:
        self._why, self._closing = self._why or _ENDED, True
        if not self._pending:
            self._close_when_told()

    def _close_when_told(self) -> None:
        # What was sent is to arrive: its answers say that it has.
        if not self._pending or any(self._pending):
            self.calls.close()
            self.stream.close()

    def connection_lost(self, connection: Connection) -> None:
        self._open -= 1
        self._why = self._why or "connection lost"
        if self._open:
            self._closing = True
            (self.calls if connection is self.stream else self.stream).close()
            return
        self._closing = self._told = True
        pending, self._pending = self._pending, deque()
        for answer in pending:
            if answer is not None and not answer.called:
                answer.errback(LinkLost(self._why))
        self._ear.lost(self, self._why)
