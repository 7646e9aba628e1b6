"""The link of a v1 client: a stream of events on one connection, calls on another.

Calls follow each other on one connection without waiting for answers, as those of Mesos' own
library do (C{src/scheduler/scheduler.cpp}): the server answers in order, so none can overtake
another. SUBSCRIBE is the first call and opens the stream; what is said before it is answered
waits for that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.messages.codec import Malformed, decode_as, from_json
from mesoskit.wire import recordio
from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.exchange import REASONS
from mesoskit.wire.link import (
    CallID,
    CallRefused,
    Hello,
    LinkLost,
    NotAsked,
    NotSendable,
    Refused,
    Taken,
    TooManyCalls,
)
from mesoskit.wire.media import JSON, WRITERS
from mesoskit.wire.v1_client_answers import Head
from mesoskit.wire.v1_client_connection import HttpConnection
from mesoskit.wire.v1_client_place import HttpPlace
from mesoskit.wire.v1_client_plan import ClientPlan

# The states of a link, in the only order they come in, but that a refused SUBSCRIBE may be tried
# again: nothing was asked; SUBSCRIBE is under way; the stream is there; it has ended, and calls
# wait for their answers; the same, and nobody wants to hear them; it is over.
_IDLE, _ASKING, _OPEN, _ENDING, _CLOSING, _LOST = range(6)

_REDIRECTS: Final = frozenset({307, 308})
#: So many redirects are followed for one SUBSCRIBE.
_HOPS: Final = 5
#: So many calls and messages may be without an answer at a time.
_UNANSWERED: Final = 100_000
_LONGEST_STREAM_ID: Final = 256

_STREAM_ENDED: Final = "the stream ended"


class V1ClientLink:
    """
    A server's v1 API as a L{mesoskit.wire.link.Link}.

    @ivar event_heartbeats: that the peer shows that it is there by events.
    """

    event_heartbeats = True
    principal: str | None = None

    log = Logger()

    def __init__(self, plan: ClientPlan, place: HttpPlace, stream: HttpConnection) -> None:
        self._plan = plan
        self._place = place
        self._state = _IDLE
        self._why = ""
        self._stream: HttpConnection | None = stream
        self._calls: HttpConnection | None = None
        self._dialling: Deferred[HttpConnection] | None = None
        self._asked: tuple[bytes, Deferred[None]] | None = None
        self._hops = 0
        self._records = recordio.Decoder(plan.settings.record_limit)
        self._call_head = ""
        # Everything that has no answer yet, with None where nobody waits for one; the bodies of
        # its last part were not sent yet.
        self._pending: deque[Deferred[None] | None] = deque()
        self._waiting = 0
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._congested = self._weighing = False
        self._answers = self._seen = 0
        self._timer: IDelayedCall | None = None
        self._lingering: IDelayedCall | None = None
        # What the first of our messages was refused with.
        self._complaint: str | None = None
        stream.user = self
        plan.counters.links += 1
        plan.counters.opened += 1

    # What Link promises.

    @property
    def peer(self) -> str:
        """Where the peer is, for logs."""
        return str(self._place)

    @property
    def hello(self) -> Hello:
        """What is known of such a peer."""
        return self._plan.hello

    @property
    def congested(self) -> bool:
        """Whether more than C{high_water} bytes wait for the server."""
        return self._congested

    def send(self, message: Message) -> None:
        """Make a call whose answer matters to nobody, as L{Link.send<mesoskit.wire.link.Link>}."""
        if self._state >= _ENDING:
            return
        body = self._body(message)
        if self._plan.api.opens(message):
            raise NotSendable("this call opens the stream: its answer must be waited for")
        self._put(body, None)

    def call(self, message: Message) -> Deferred[None]:
        """
        Make a call, as L{Link.call<mesoskit.wire.link.Link>}. The one that asks for the
        stream fires when that is there.
        """
        if self._state >= _ENDING:
            return fail(LinkLost(f"the link to {self.peer} was lost: {self._why}"))
        if self._waiting >= self._plan.settings.maximum_calls:
            return fail(TooManyCalls(f"{self._waiting} calls wait for answers"))
        answer: Deferred[None] = Deferred()
        try:
            body = self._body(message)
            if self._plan.api.opens(message):
                self._subscribe(body, answer)
            else:
                self._waiting += 1
                self._put(body, answer)
        except NotSendable:
            return fail()
        return answer

    def answer(self, call: CallID, outcome: Taken | Refused) -> None:
        """Refuse: events are no calls."""
        if self._state < _ENDING:
            raise NotAsked(f"{self.peer} waits for no answer to call {call}")

    def lose(self, why: str = "") -> None:
        """Close, after what was sent has been answered; HTTP has no place for the reason."""
        if self._state >= _CLOSING:
            return
        state, self._state = self._state, _CLOSING
        if state != _ENDING:
            self._why = why or "closed here"
            if state == _OPEN:
                self._linger()
            else:
                self._close()

    # What goes out.

    def _body(self, message: Message) -> bytes:
        plan = self._plan
        if message.__class__ is not plan.api.call_class:
            name = message.DESCRIPTOR.full_name
            wanted = plan.api.call_class.DESCRIPTOR.full_name
            raise NotSendable(f"{self.peer} takes {wanted}, no {name}")
        try:
            body = WRITERS[plan.media](message)
        except Malformed as error:
            raise NotSendable(str(error)) from None
        limit = plan.settings.body_limit
        if len(body) > limit:
            raise NotSendable(f"a call of {len(body)} bytes is over the limit of {limit}")
        return body

    def _head(self, stream_id: str | None) -> str:
        """Return the head of a request to where the link leads now."""
        plan = self._plan
        path = self._place.path or plan.api.path
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {self._place.authority}",
            f"User-Agent: {plan.software}",
            f"Content-Type: {plan.media}",
            f"Accept: {plan.media}",
        ]
        if stream_id is not None:
            lines.append(f"Mesos-Stream-Id: {stream_id}")
        if plan.authorization is not None:
            lines.append(f"Authorization: {plan.authorization}")
        return "\r\n".join(lines) + "\r\n"

    def _subscribe(self, body: bytes, answer: Deferred[None]) -> None:
        stream = self._stream
        if self._state != _IDLE or stream is None:
            raise NotSendable("the stream was asked for already; another one needs another link")
        self._state = _ASKING
        self._hops = 0
        self._asked = body, answer
        self._plan.counters.items_out += 1
        stream.post(self._head(None), body)
        self._watch()

    def _put(self, body: bytes, answer: Deferred[None] | None) -> None:
        self._pending.append(answer)
        self._queue.append(body)
        self._queued += len(body)
        self._plan.counters.items_out += 1
        self._flush()
        settings = self._plan.settings
        if self._queued > settings.outbound_cap:
            self._plan.counters.error("slow")
            self._end(f"failed to keep up: more than {settings.outbound_cap} bytes wait")
        elif len(self._pending) > _UNANSWERED:
            self._end(f"failed to keep up: more than {_UNANSWERED} calls wait for answers")
        elif self._queue:
            self._weigh_later()

    def _flush(self) -> None:
        if not self._queue or not _OPEN <= self._state <= _CLOSING:
            return
        calls = self._calls
        if calls is None:
            if self._dialling is None:
                self._dial_for_calls()
            return
        queue, head, counters = self._queue, self._call_head, self._plan.counters
        while queue and not calls.paused:
            body = queue.popleft()
            self._queued -= len(body)
            counters.bytes_out += len(body)
            calls.post(head, body)
        self._watch()

    def _dial_for_calls(self) -> None:
        self._watch()
        self._dial(self._has_calls, "no connection for calls")

    def _has_calls(self, connection: HttpConnection) -> None:
        self._calls = connection
        self._flush()

    def _dial(self, then: Callable[[HttpConnection], None], otherwise: str) -> None:
        """Open one more connection, unless the link has ended by then."""
        # Certificates may have become unreadable meanwhile.
        self._dialling = dialling = maybeDeferred(self._plan.connect, self._place)

        def there(connection: HttpConnection) -> None:
            if self._dialling is not dialling:
                connection.leave()
                return
            self._dialling = None
            connection.user = self
            then(connection)

        def not_there(reason: Failure) -> None:
            if self._dialling is dialling:
                self._dialling = None
                self._end(f"{otherwise}: {reason.getErrorMessage()}")

        dialling.addCallbacks(there, not_there)

    # Congestion.

    def full(self, connection: HttpConnection, full: bool) -> None:
        """The transport of calls takes no more for now, or takes more again."""
        if connection is self._calls:
            if not full:
                self._flush()
            self._weigh_later()

    def _weigh_later(self) -> None:
        if not self._weighing:
            self._weighing = True
            self._plan.clock.callLater(0, self._weigh)

    def _weigh(self) -> None:
        """Tell the receiver where congestion began or ended."""
        self._weighing = False
        if self._state >= _ENDING:
            return
        settings = self._plan.settings
        congested = self._queued >= (settings.low_water if self._congested else settings.high_water)
        if congested is not self._congested:
            self._congested = congested
            try:
                self._plan.receiver.congestion(self, congested)
            except Exception:
                self._broken("congestion")

    # What comes in on the stream.

    def began(self, connection: HttpConnection, head: Head) -> bool:
        """An answer begins: that to SUBSCRIBE may be the stream."""
        if connection is not self._stream or self._state != _ASKING or head.status != 200:
            return False
        kind = head.headers.get("content-type", "").partition(";")[0].strip()
        stream_id = head.headers.get("mesos-stream-id")
        if kind != self._plan.media:
            self._end(f"the stream comes as {kind[:100]!r}, not as {self._plan.media}")
            return False
        if stream_id is not None and not _is_token(stream_id):
            self._end(f"the stream has an impossible id, {stream_id[:40]!r}")
            return False
        self._state = _OPEN
        self._call_head = self._head(stream_id)
        self._answered(self._take_asked(), None)
        self._flush()
        return True

    def body(self, connection: HttpConnection, data: bytes) -> None:
        """A piece of the stream."""
        counters = self._plan.counters
        counters.bytes_in += len(data)
        if self._state != _OPEN:
            return
        for record in self._records.feed(data):
            counters.frames_in += 1
            self._heard(record)
            if self._state != _OPEN:
                return
        if self._records.error is not None:
            counters.error("malformed")
            self._end(str(self._records.error))

    def _heard(self, record: bytes) -> None:
        plan = self._plan
        try:
            if plan.media == JSON:
                event = from_json(plan.api.event_class, record)
            else:
                event = decode_as(plan.api.event_class, record)
        except Malformed as error:
            plan.counters.error("malformed")
            self._end(f"an event cannot be read: {error}")
            return
        plan.counters.items_in += 1
        try:
            plan.receiver.received(self, event, None)
        except Exception:
            self._broken("received")

    def answered(self, connection: HttpConnection, head: Head, text: str) -> None:
        """An answer is complete."""
        self._answers += 1
        if connection is not self._stream:
            self._take_answer(head, text)
        elif self._state == _ASKING:
            self._take_refusal(head, text)
        elif self._state == _OPEN:
            self._stream_ended(_STREAM_ENDED)

    def _take_refusal(self, head: Head, text: str) -> None:
        location = head.headers.get("location")
        if head.status in _REDIRECTS and location is not None:
            self._follow(location)
            return
        self._state = _IDLE
        self._answered(self._take_asked(), CallRefused(head.status, _said(head, text)))

    def _follow(self, location: str) -> None:
        """Ask for the stream where another master is said to lead."""
        self._hops += 1
        if self._hops > _HOPS:
            self._end(f"sent on more than {_HOPS} times, to {location[:200]!r} at last")
            return
        try:
            place = self._place.follow(location)
        except EndpointError as error:
            self._end(f"sent on to nowhere: {error}")
            return
        self.log.info("{peer} sends us on to {place}", peer=self.peer, place=str(place))
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.leave()
        before, self._place = self._place, place
        self._dial(self._there, f"{place}, where {before} has sent us")

    def _there(self, connection: HttpConnection) -> None:
        self._stream = connection
        if self._asked is not None:
            connection.post(self._head(None), self._asked[0])

    # Answers to calls.

    def _take_asked(self) -> Deferred[None] | None:
        asked, self._asked = self._asked, None
        return None if asked is None else asked[1]

    def _take_answer(self, head: Head, text: str) -> None:
        if len(self._pending) == len(self._queue):
            # Some servers say so before they close a connection that was idle.
            if head.status != 408:
                self._end("an answer came to what was not asked")
            return
        answer = self._pending.popleft()
        status = head.status
        if answer is not None:
            self._waiting -= 1
        if self._state >= _CLOSING:
            # It has arrived; that it did is not told any more.
            self._answered(answer, LinkLost(f"the link to {self.peer} was lost: {self._why}"))
        elif status in (200, 202):
            self._answered(answer, None)
        else:
            self._refused(answer, CallRefused(status, _said(head, text)))
        if self._state >= _ENDING and not self._pending:
            self._close()

    def _refused(self, answer: Deferred[None] | None, refusal: CallRefused) -> None:
        if answer is None:
            if self._complaint is None:
                self.log.warn("{peer} refused a message: {why}", peer=self.peer, why=str(refusal))
                self._complaint = f"{self.peer} said: {refusal}"
        self._answered(answer, refusal)
        if refusal.status in _REDIRECTS:
            # Who has subscribed us leads no more, and nothing is to be expected from it.
            self._end(f"{self.peer} does not lead any more")

    def _answered(self, answer: Deferred[None] | None, refusal: Exception | None) -> None:
        if answer is None or answer.called:
            return
        if refusal is None:
            answer.callback(None)
        else:
            answer.errback(refusal)

    # Time.

    def _watch(self) -> None:
        """See to it that somebody notices where no answer comes, without a timer for each."""
        if self._timer is None:
            self._seen = self._answers
            timeout = self._plan.settings.answer_timeout
            self._timer = self._plan.clock.callLater(timeout, self._miss)

    def _miss(self) -> None:
        self._timer = None
        if self._asked is None and not self._pending:
            return
        if self._answers == self._seen:
            self._plan.counters.error("silent")
            self._end(f"no answer within {self._plan.settings.answer_timeout:g} s")
        else:
            self._watch()

    # The end.

    def closed(self, connection: HttpConnection, why: str) -> None:
        """A connection is gone."""
        if connection is self._calls:
            self._calls = None
            # With nothing under way nothing was lost; the next call opens another one.
            if self._pending and self._state < _CLOSING:
                self._end(f"the connection for calls was lost: {why}")
        elif connection is self._stream:
            self._stream = None
            if self._state == _OPEN:
                self._stream_ended(why)
            elif self._state < _OPEN:
                self._end(why)
        if self._state == _CLOSING:
            if self._stream is None and self._calls is None:
                self._over()
            elif self._calls is None and self._dialling is None:
                # Without it there are no answers to be waited for.
                self._close()

    def _stream_ended(self, why: str) -> None:
        """No event comes any more; answers may."""
        self._state = _ENDING
        self._why = why
        self._linger()

    def _linger(self) -> None:
        """Close when all is answered, or after a while."""
        if self._pending and (self._calls is not None or self._dialling is not None):
            self._cut_later()
        else:
            self._close()

    def _broken(self, what: str) -> None:
        """Our own side raised: the link cannot be trusted to be in step any more."""
        self._plan.counters.error("internal")
        self.log.failure("{what} failed for {peer}", what=what, peer=self.peer)
        self.lose("internal error")

    def _end(self, why: str) -> None:
        """The peer, or the way to it, is of no use: end it now."""
        if self._state < _ENDING:
            self._why = why
        if self._state != _LOST:
            self._close()

    def _close(self) -> None:
        """Close both connections; the receiver is told when that has happened."""
        self._state = _CLOSING
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        open_ = [each for each in (self._calls, self._stream) if each is not None]
        for connection in open_:
            connection.close()
        if open_:
            self._cut_later()
        else:
            self._plan.clock.callLater(0, self._over)

    def _cut_later(self) -> None:
        if self._lingering is None:
            settings = self._plan.settings
            self._lingering = self._plan.clock.callLater(settings.linger, self._cut)

    def _cut(self) -> None:
        self._lingering = None
        self._state = _CLOSING
        for connection in (self._calls, self._stream):
            if connection is not None:
                connection.abort()
        self._calls = self._stream = None
        self._over()

    def _over(self) -> None:
        """Tell everybody, once."""
        if self._state == _LOST:
            return
        self._state = _LOST
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        for timer in (self._timer, self._lingering):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._lingering = None
        plan, why = self._plan, self._why or "connection closed"
        if why == _STREAM_ENDED and self._complaint is not None:
            why = self._complaint
        plan.counters.links -= 1
        asked, pending = self._take_asked(), self._pending
        self._pending = deque()
        self._queue.clear()
        self._queued = 0
        for answer in (asked, *pending):
            if answer is not None and not answer.called:
                answer.errback(LinkLost(f"the link to {self.peer} was lost: {why}"))
        self.log.info("{peer} is gone: {why}", peer=self.peer, why=why)
        try:
            plan.receiver.lost(self, why)
        except Exception:
            plan.counters.error("internal")
            self.log.failure("lost failed for {peer}", peer=self.peer)


def _said(head: Head, text: str) -> str:
    """Return what was said in a refusal, or what its status means where nothing was."""
    return text.strip() or REASONS.get(head.status, "refused")


def _is_token(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_STREAM_ID and text.isascii() and text.isprintable()
