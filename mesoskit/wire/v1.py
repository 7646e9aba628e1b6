"""The v1 HTTP carrier: links of streams and the POSTs that belong to them.

A peer's SUBSCRIBE is answered with a stream of events that does not end. Its other calls
belong to it by the stream's id, which they must name (C{docs/scheduler-http-api.md} of Apache
Mesos), or by whose they say they are (C{docs/executor-http-api.md}). Stream and calls together
are one L{mesoskit.wire.link.Link}; the stream's end is the link's end.

This file is about what all v1 APIs share: one API more is a subclass of L{V1Carrier}
(L{mesoskit.wire.v1_scheduler}, L{mesoskit.wire.v1_executor}). What is true of the peer is for
the receiver to know, and its refusals are passed on as they are.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final
from uuid import uuid4

from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mesoskit.wire import media
from mesoskit.wire.counters import Counters
from mesoskit.wire.exchange import (
    Asked,
    Away,
    Exchange,
    Gate,
    Identified,
    Identify,
    Principal,
)
from mesoskit.wire.heartbeats import Heartbeats
from mesoskit.wire.link import Hello, Receiver, Refused
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.together import Together
from mesoskit.wire.v1_stream import Stray, V1Stream

#: The header that binds a call to its stream.
STREAM_ID: Final = "mesos-stream-id"

Invalid = Callable[[Any, str | None], "str | None"]
"""Says what is wrong with a call from this principal, as the receiver would; L{None}: nothing."""

_DEFAULTS: Final = StreamSettings()


def _anybody(asked: Asked) -> Identified:
    return None


class _Unknown:
    """
    A request of which it is not known yet who asks.

    @ivar who: who asks; the request itself until that is known.
    """

    __slots__ = ("exchange", "who")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.who: Identified | Exchange = exchange

    @property
    def known(self) -> bool:
        """Whether it is known by now."""
        return self.who is not self.exchange


class V1Carrier(ABC):
    """
    One v1 API of a daemon, and the streams that are open there.

    @cvar call_class: what peers POST.
    @cvar event_class: what streams carry.
    @cvar heartbeat: the record of a heartbeat, by media type.
    @cvar by_stream_id: whether calls must name their stream's id; otherwise the header means
        nothing and none is told.

    @ivar hello: what each link says of its peer, for peers say nothing of themselves here.
    @ivar settings: limits, of which C{high_water}, C{low_water}, C{outbound_cap},
        C{linger}, C{maximum_calls}, C{maximum_links} and C{waiting_limit} count here.
    @ivar identify: says who asks; may be replaced, and holds from the next request on.
    @ivar counters: what the streams carried.
    @ivar streams: those that are open, by id.
    @ivar waiting: counts what their clients have not taken yet.
    """

    call_class: ClassVar[type[Message]]
    event_class: ClassVar[type[Message]]
    heartbeat: ClassVar[Mapping[str, bytes]]
    by_stream_id: ClassVar[bool] = True

    log = Logger()

    def __init__(
        self,
        receiver: Receiver,
        hello: Hello,
        *,
        clock: IReactorTime,
        interval: float,
        gate: Gate,
        invalid: Invalid,
        identify: Identify = _anybody,
        settings: StreamSettings | None = None,
        counters: Counters | None = None,
    ) -> None:
        """
        Prepare to take requests; L{post} is given them.

        @param receiver: hears the links.
        @param interval: seconds between two heartbeats on a stream.
        @param gate: says whether requests are taken at all now.
        @param invalid: what the receiver would say against a call. It is asked only where
            a header is wrong as well, and decides which of the two is told.
        @param identify: says who asks, before anything else.
        """
        self.receiver = receiver
        self.hello = hello
        self.clock = clock
        self.settings = settings or _DEFAULTS
        self.counters = counters or Counters()
        self.heartbeats = Heartbeats(clock, interval)
        self.streams: dict[str, V1Stream] = {}
        self.waiting = Together[V1Stream](self.settings.waiting_limit, self._too_much_waits)
        self._gate = gate
        self._invalid = invalid
        self.identify = identify
        self._unknown: dict[str, deque[_Unknown]] = {}
        self._closed = False
        self._leaving: dict[V1Stream, None] = {}
        self._parting: list[Deferred[None]] = []

    # What an API says of itself.

    @abstractmethod
    def opens(self, call: Any) -> bool:
        """Say whether this call asks for a stream."""

    @abstractmethod
    def wants_answer_in_a_type(self, call: Any) -> bool:
        """Say whether a call that opens no stream must accept one of the two media types."""

    def stream_of(self, exchange: Exchange, call: Any) -> V1Stream | None:
        """Return the open stream that a call belongs to."""
        return self.streams.get(exchange.header(STREAM_ID) or "")

    def status_of(self, call: Any) -> int:
        """Return the status of the answer to a call that was taken."""
        return 202

    @abstractmethod
    def sent(self, stream: V1Stream, event: Any) -> None:
        """An event was sent; told until C{stream.subject} is set."""

    @abstractmethod
    def ended(self, stream: V1Stream) -> None:
        """A stream takes part in nothing any more."""

    def refusal(self, outcome: Refused, call: Any, stream_id: str | None) -> Refused:
        """Return how a refusal is told to whoever named this stream id with the call."""
        return outcome

    def usual(self, content_type: str, body: bytes) -> bool:
        """Say of a request whether it asks for no stream; where that is not sure, it may."""
        if content_type == media.PROTOBUF:
            try:
                return not self.opens(self.call_class.FromString(body))
            except DecodeError:
                return False
        return b"SUBSCRIBE" not in body and b"\\" not in body

    # Requests.

    def post(self, exchange: Exchange) -> None:
        """Take a request to this API, whatever its method; it is answered in any case."""
        who = self.identify(exchange)
        if self._unknown or isinstance(who, Deferred):
            self._identify_in_turn(exchange, who)
        else:
            self._identified(exchange, who)

    def _identify_in_turn(self, exchange: Exchange, who: Identified | Deferred[Identified]) -> None:
        """Take a request behind those of the same client of which it is not known who asks."""
        peer = exchange.peer
        waiting = self._unknown.get(peer)
        if waiting is None:
            if not isinstance(who, Deferred):
                self._identified(exchange, who)
                return
            waiting = self._unknown[peer] = deque()
        if len(waiting) >= self.settings.maximum_calls:
            exchange.reply(429, f"more than {self.settings.maximum_calls} calls wait")
            return
        unknown = _Unknown(exchange)
        waiting.append(unknown)

        def known(who: Identified) -> None:
            unknown.who = who
            self._take_known(peer, waiting)

        if isinstance(who, Deferred):
            who.addCallback(known)
        else:
            known(who)

    def _take_known(self, peer: str, waiting: deque[_Unknown]) -> None:
        while waiting and waiting[0].known:
            first = waiting.popleft()
            self._identified(first.exchange, first.who)  # type: ignore[arg-type]
        if not waiting and self._unknown.get(peer) is waiting:
            del self._unknown[peer]

    def _identified(self, exchange: Exchange, principal: Identified) -> None:
        """It is known who asks."""
        if isinstance(principal, Away):
            exchange.reply(principal.status, principal.why, principal.headers)
            return
        away = self._gate(exchange.path)
        if away is not None:
            exchange.reply(away.status, away.why, away.headers)
            return
        if exchange.method != "POST":
            exchange.reply(405, _not_allowed(exchange.method), {"Allow": "POST"})
            return
        try:
            call = media.read(self.call_class, exchange.header("content-type"), exchange.body)
        except media.Unreadable as unreadable:
            exchange.reply(unreadable.status, unreadable.why)
            return
        try:
            if self.opens(call):
                self._subscribe(exchange, call, principal)
            else:
                self._call(exchange, call, principal)
        except Exception:
            self.counters.error("internal")
            self.log.failure("A request of {peer} failed", peer=exchange.peer)
            exchange.reply(500, "internal error")

    def _subscribe(self, exchange: Exchange, call: Message, principal: Principal | None) -> None:
        chosen = media.preferred(exchange.header("accept"))
        wrong: tuple[int, str] | None = None
        if chosen is None:
            wrong = 406, media.NOT_ACCEPTABLE
        elif self.by_stream_id and exchange.header(STREAM_ID) is not None:
            wrong = 400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"
        elif self._closed:
            wrong = 503, "shutting down"
        elif len(self.streams) >= self.settings.maximum_links:
            self.counters.error("too-many")
            wrong = 503, f"no room for more than {self.settings.maximum_links} streams"
        if wrong is not None or chosen is None:
            self._turn_away(exchange, call, principal, wrong or (406, media.NOT_ACCEPTABLE))
            return
        stream = V1Stream(self, exchange, str(uuid4()), chosen, principal)
        self.streams[stream.id] = stream
        stream.open(call)

    def _call(self, exchange: Exchange, call: Message, principal: Principal | None) -> None:
        if self.wants_answer_in_a_type(call) and media.preferred(exchange.header("accept")) is None:
            self._turn_away(exchange, call, principal, (406, media.NOT_ACCEPTABLE))
            return
        stream = self.stream_of(exchange, call)
        if stream is None or stream.who != principal:
            self.stray(exchange, call, principal)
        else:
            stream.take(exchange, call)

    def _turn_away(
        self, exchange: Exchange, call: Message, principal: Principal | None, wrong: tuple[int, str]
    ) -> None:
        """Refuse for the sake of a header, unless the call itself is wrong already."""
        invalid = self._invalid(call, None if principal is None else str(principal))
        exchange.reply(*(wrong if invalid is None else (400, invalid)))

    def stray(self, exchange: Exchange, call: Message, principal: Principal | None) -> None:
        """
        Take a call that belongs to no stream that is open.

        The receiver hears it over a link that subscribes to nothing, so it can only say
        why not: which of the reasons it is depends on what it knows.
        """
        if self._closed:
            exchange.reply(503, "shutting down")
        else:
            Stray(self, exchange, exchange.header(STREAM_ID), principal).open(call)

    # The end.

    def lose_all(self, why: str) -> Deferred[None]:
        """
        End every stream, and begin no other; fires when all have been given what was sent to
        them, or were cut because they did not take it.
        """
        self._closed = True
        for stream in list(self.streams.values()):
            stream.lose(why)
        parted: Deferred[None] = Deferred()
        self._parting.append(parted)
        self._look_round()
        return parted

    def leaves(self, stream: V1Stream) -> None:
        """A stream takes no more; what was sent may still be on its way."""
        self.streams.pop(stream.id, None)
        self._leaving[stream] = None

    def left(self, stream: V1Stream) -> None:
        """A stream is over."""
        self._leaving.pop(stream, None)
        if self._parting:
            self._look_round()

    def _too_much_waits(self, stream: V1Stream, held: int) -> None:
        limit = self.settings.waiting_limit
        stream.too_slow(
            f"{held} bytes wait for it, the most, and all streams together may have {limit}"
        )

    def _look_round(self) -> None:
        if not self.streams and not self._leaving:
            parting, self._parting = self._parting, []
            for parted in parting:
                parted.callback(None)


def _not_allowed(method: str) -> str:
    return f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
