"""The links of the v1 carrier: a subscribed peer's, and that of a call without a subscription."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall

from mesoskit.messages.codec import Malformed
from mesoskit.wire import recordio
from mesoskit.wire.exchange import Exchange, Principal
from mesoskit.wire.link import CallID, Hello, NotAsked, NotSendable, Refused, Taken
from mesoskit.wire.media import WRITERS

if TYPE_CHECKING:
    from mesoskit.wire.v1 import V1Carrier

# The states of a stream, in the only order they come in: its SUBSCRIBE is not answered yet;
# it is; nothing more is taken and what was sent leaves; it is over.
_ASKING, _OPEN, _CLOSING, _LOST = range(4)

#: The number of the call that asks for the stream.
_SUBSCRIBE: Final = 1


def _hello(carrier: V1Carrier, principal: Principal | None) -> Hello:
    """Return what is known of a peer: of such in general, and what its token claims."""
    if principal is None or not principal.claims:
        return carrier.hello
    return replace(carrier.hello, claims=tuple(sorted(principal.claims.items())))


def _unanswerable(peer: str) -> Deferred[None]:
    return fail(NotSendable(f"{peer} answers no calls: events on a v1 stream go one way"))


class V1Stream:
    """
    A peer that subscribed: its stream, and its calls that are not answered yet.

    @ivar id: its own; what its calls must name, where the API is such.
    @ivar media: the type of its events.
    @ivar who: who the peer proved to be, and what it may claim.
    @ivar subject: whose it is, as the API names such peers; empty until it is known, and
        so long the API looks at each event.
    """

    def __init__(
        self,
        carrier: V1Carrier,
        exchange: Exchange,
        stream_id: str,
        media: str,
        principal: Principal | None = None,
    ) -> None:
        self.id = stream_id
        self.media = media
        self.subject = ""
        self.who = principal
        self._principal = None if principal is None else str(principal)
        self._hello = _hello(carrier, principal)
        self._carrier = carrier
        self._exchange = exchange
        self._peer = exchange.peer
        self._write_message = WRITERS[media]
        self._state = _ASKING
        self._why = ""
        self._last = _SUBSCRIBE
        self._owed: dict[int, tuple[Exchange, Message]] = {}
        # Records that the client has not been sent yet, and their bytes.
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._paused = False
        self._congested = False
        self._weighing = False
        self._linger: IDelayedCall | None = None
        # Calls that came while the link is held; None where it is not.
        self._kept: deque[tuple[Exchange, Message]] | None = None

    # What Link promises.

    @property
    def peer(self) -> str:
        """Where the peer is, for logs."""
        return self._peer

    @property
    def principal(self) -> str | None:
        """Who the peer proved to be."""
        return self._principal

    @property
    def hello(self) -> Hello:
        """What is known of such a peer."""
        return self._hello

    @property
    def congested(self) -> bool:
        """Whether more than C{high_water} bytes wait for the client."""
        return self._congested

    @property
    def queued(self) -> int:
        """How many bytes wait for the client."""
        return self._queued

    def send(self, message: Message) -> None:
        """Send an event, as L{Link.send<mesoskit.wire.link.Link.send>}."""
        if self._state >= _CLOSING:
            return
        carrier = self._carrier
        if message.__class__ is not carrier.event_class:
            name = message.DESCRIPTOR.full_name
            raise NotSendable(
                f"this stream carries {carrier.event_class.DESCRIPTOR.full_name}, no {name}"
            )
        try:
            record = recordio.encode(self._write_message(message))
        except Malformed as error:
            raise NotSendable(str(error)) from None
        limit = carrier.settings.record_limit
        if len(record) > limit:
            raise NotSendable(f"a record of {len(record)} bytes is over the limit of {limit}")
        self._put(record)
        if not self.subject:
            carrier.sent(self, message)

    def call(self, message: Message) -> Deferred[None]:
        """Fail: a client answers no events."""
        return _unanswerable(self._peer)

    def answer(self, call: CallID, outcome: Taken | Refused) -> None:
        """Answer a call of the peer's, as L{Link.answer<mesoskit.wire.link.Link.answer>}."""
        if self._state >= _CLOSING:
            return
        if call == _SUBSCRIBE and self._state == _ASKING:
            self._answer_subscribe(outcome)
            return
        owed = self._owed.pop(call, None)
        if owed is None:
            raise NotAsked(f"{self._peer} waits for no answer to call {call}")
        self._carrier.counters.items_out += 1
        exchange, message = owed
        if isinstance(outcome, Refused):
            told = self._carrier.refusal(outcome, message, self.id)
            exchange.reply(told.status, told.why)
        else:
            exchange.reply(self._carrier.status_of(message))

    def lose(self, why: str = "") -> None:
        """
        End the stream after what was sent, as L{Link.lose<mesoskit.wire.link.Link.lose>}.

        C{why} goes to nobody but our own receiver: a stream has no place for it, and an
        event that a client takes for the end of its framework must be the receiver's own.
        """
        if self._state >= _CLOSING:
            return
        asked = self._state == _ASKING
        self._leave(why or "closed here")
        if asked:
            self._exchange.reply(503, self._why)
            self._over_later()
        elif self._queue:
            # The rest leaves as the client takes it, for a while.
            settings = self._carrier.settings
            self._linger = self._carrier.clock.callLater(settings.linger, self._cut)
        else:
            self._exchange.finish()
            self._over_later()

    # What the carrier and the exchange tell.

    def open(self, call: Message) -> None:
        """Let the receiver know of the peer, and of what it asks for."""
        carrier = self._carrier
        carrier.counters.links += 1
        carrier.counters.opened += 1
        carrier.counters.items_in += 1
        try:
            carrier.receiver.connected(self)
            if self._state == _ASKING:
                carrier.receiver.received(self, call, _SUBSCRIBE)
        except Exception:
            self._broken()

    def take(self, exchange: Exchange, call: Message) -> None:
        """A call came that belongs to this stream."""
        carrier = self._carrier
        exchange.keep()
        kept = self._kept
        if len(self._owed) + (0 if kept is None else len(kept)) >= carrier.settings.maximum_calls:
            limit = carrier.settings.maximum_calls
            exchange.reply(429, f"more than {limit} calls wait for answers")
            return
        if kept is not None:
            # No answer, and the client's connection takes no more soon.
            kept.append((exchange, call))
        else:
            self._hear(exchange, call)

    def hold(self, held: bool) -> None:
        """Keep calls for now, as L{Holding.hold<mesoskit.wire.link.Holding.hold>}; or no more."""
        if held is (self._kept is not None) or self._state >= _CLOSING:
            return
        rest, self._kept = self._kept, deque() if held else None
        while rest and self._kept is None and self._state < _CLOSING:
            self._hear(*rest.popleft())
        if rest:
            # It is held again, or it ends, which answers them.
            self._kept = deque((*(self._kept or ()), *rest))

    def _hear(self, exchange: Exchange, call: Message) -> None:
        carrier = self._carrier
        self._last = number = self._last + 1
        self._owed[number] = exchange, call
        carrier.counters.items_in += 1
        try:
            carrier.receiver.received(self, call, number)
        except Exception:
            self._broken()

    def pause(self) -> None:
        """The client takes no more for now."""
        self._paused = True
        self._weigh_later()

    def resume(self) -> None:
        """The client takes more again."""
        self._paused = False
        self._flush()
        self._weigh_later()

    def gone(self, why: str) -> None:
        """The client has left."""
        if self._state >= _LOST:
            return
        if self._state < _CLOSING:
            self._leave(why)
        self._over()

    def beat(self) -> None:
        """Send a heartbeat, unless more waits than the client takes."""
        if self._state == _OPEN and not self._paused:
            self._put(self._carrier.heartbeat[self.media])

    # How events leave.

    def _put(self, record: bytes) -> None:
        self._carrier.counters.frames_out += 1
        if self._state == _OPEN and not self._paused and not self._queue:
            self._carrier.counters.bytes_out += len(record)
            self._exchange.write(record)
            return
        self._queue.append(record)
        self._queued += len(record)
        cap = self._carrier.settings.outbound_cap
        if self._queued > cap:
            self.too_slow(f"more than {cap} bytes wait")
            return
        if not self._weighing:
            self._weigh_later()
        self._carrier.waiting.holds(self, self._queued)

    def too_slow(self, why: str) -> None:
        """Cut the stream of a client that does not take what it is sent."""
        if self._state >= _CLOSING:
            # It was closed, and has not taken the rest.
            self._stop_lingering()
        else:
            self._leave(f"failed to keep up: {why}")
        self._carrier.counters.error("slow")
        self._carrier.log.warn("{peer} is cut off: {why}", peer=self._peer, why=why)
        self._cut()

    def _flush(self) -> None:
        queue = self._queue
        while queue and not self._paused:
            record = queue.popleft()
            self._queued -= len(record)
            self._carrier.counters.bytes_out += len(record)
            self._exchange.write(record)
        self._carrier.waiting.holds(self, self._queued)
        if self._state == _CLOSING and not queue and self._linger is not None:
            self._stop_lingering()
            self._exchange.finish()
            self._over_later()

    def _weigh_later(self) -> None:
        if not self._weighing:
            self._weighing = True
            self._carrier.clock.callLater(0, self._weigh)

    def _weigh(self) -> None:
        """Tell the receiver where congestion began or ended."""
        self._weighing = False
        if self._state >= _CLOSING:
            return
        settings = self._carrier.settings
        mark = settings.low_water if self._congested else settings.high_water
        congested = self._paused and self._queued >= mark
        if congested is self._congested:
            return
        self._congested = congested
        what = "is congested" if congested else "keeps up again"
        self._carrier.log.info("{peer} {what}", peer=self._peer, what=what)
        try:
            self._carrier.receiver.congestion(self, congested)
        except Exception:
            self._broken()

    # How it begins and ends.

    def _answer_subscribe(self, outcome: Taken | Refused) -> None:
        if isinstance(outcome, Refused):
            self._leave(outcome.why)
            self._exchange.reply(outcome.status, outcome.why)
            self._over_later()
            return
        self._state = _OPEN
        headers = {"Content-Type": self.media}
        if self._carrier.by_stream_id:
            headers["Mesos-Stream-Id"] = self.id
        self._exchange.begin(headers, self)
        self._carrier.log.info("{peer} is here over HTTP", peer=self._peer)
        self._flush()

    def _leave(self, why: str) -> None:
        """Take part in nothing more."""
        carrier = self._carrier
        self._state = _CLOSING
        self._why = why
        carrier.leaves(self)
        carrier.heartbeats.leave(self)
        carrier.ended(self)

    def _stop_lingering(self) -> None:
        linger, self._linger = self._linger, None
        if linger is not None and linger.active():
            linger.cancel()

    def _cut(self) -> None:
        self._linger = None
        self._drop()
        self._exchange.abort()
        self._over_later()

    def _drop(self) -> None:
        """Keep nothing that the client has not been sent."""
        self._queue.clear()
        self._queued = 0
        self._carrier.waiting.gone(self)

    def _over_later(self) -> None:
        self._carrier.clock.callLater(0, self._over)

    def _over(self) -> None:
        """Tell the receiver, once; calls without an answer go the way of strays."""
        if self._state == _LOST:
            return
        self._state = _LOST
        self._stop_lingering()
        self._drop()
        carrier = self._carrier
        carrier.counters.links -= 1
        carrier.log.info("{peer} is gone: {why}", peer=self._peer, why=self._why)
        try:
            carrier.receiver.lost(self, self._why)
        except Exception:
            carrier.counters.error("internal")
            carrier.log.failure("lost failed for {peer}", peer=self._peer)
        for exchange, call in self._unanswered():
            carrier.stray(exchange, call, self.who)
        carrier.left(self)

    def _broken(self) -> None:
        """Our own side raised: the link cannot be trusted to be in step any more."""
        carrier = self._carrier
        carrier.counters.error("internal")
        carrier.log.failure("A receiver failed for {peer}", peer=self._peer)
        for exchange, _ in self._unanswered():
            exchange.reply(500, "internal error")
        self.lose("internal error")

    def _unanswered(self) -> list[tuple[Exchange, Message]]:
        """Return the calls that have no answer, to be given one now."""
        calls = [*self._owed.values(), *(self._kept or ())]
        self._owed = {}
        self._kept = None
        return calls


class Stray:
    """The link of one call that belongs to no stream: it ends with the answer."""

    congested = False

    def __init__(
        self,
        carrier: V1Carrier,
        exchange: Exchange,
        stream_id: str | None,
        principal: Principal | None = None,
    ) -> None:
        self.peer = exchange.peer
        self.principal = None if principal is None else str(principal)
        self.hello = _hello(carrier, principal)
        self._carrier = carrier
        self._exchange = exchange
        self._stream_id = stream_id
        self._call: Message | None = None
        self._over = False

    def open(self, call: Message) -> None:
        """Let the receiver hear the call."""
        carrier = self._carrier
        self._call = call
        try:
            carrier.receiver.connected(self)
            carrier.receiver.received(self, call, _SUBSCRIBE)
        except Exception:
            carrier.counters.error("internal")
            carrier.log.failure("A receiver failed for {peer}", peer=self.peer)
            self._end(500, "internal error")

    def send(self, message: Message) -> None:
        """Drop it: there is nothing that could carry it."""

    def call(self, message: Message) -> Deferred[None]:
        """Fail: a client answers no events."""
        return _unanswerable(self.peer)

    def hold(self, held: bool) -> None:
        """Do nothing: there is one call, and it has been heard."""

    def answer(self, call: CallID, outcome: Taken | Refused) -> None:
        """Answer the call, and be lost."""
        if self._over:
            return
        if isinstance(outcome, Refused):
            told = self._carrier.refusal(outcome, self._call, self._stream_id)
            self._end(told.status, told.why)
        else:
            self._end(self._carrier.status_of(self._call), "")

    def lose(self, why: str = "") -> None:
        """Refuse the call, if it was not answered yet."""
        self._end(503, why or "closed here")

    def _end(self, status: int, why: str) -> None:
        if self._over:
            return
        self._over = True
        self._exchange.reply(status, why)
        self._carrier.clock.callLater(0, self._carrier.receiver.lost, self, "answered")
