"""The native stream on Twisted's transports: who listens, and who dials.

The session itself is L{mesoskit.wire.session}; here are the connections under it and
the timers that it asks for.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.wire.counters import Counters
from mesoskit.wire.endpoints import address_text, client_endpoint, why_lost
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.plan import Receivers, SessionPlan, Settle
from mesoskit.wire.pulse import Pulse
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.together import SMALL, Together

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

_DEFAULTS: Final = StreamSettings()


class DialFailed(Exception):
    """
    No link came about.

    @ivar why: the reason, which may be the peer's own words.
    @ivar status: of what kind the peer's refusal is, as in HTTP; 0 where it said none. 401:
        it wants a proof of who we are, or does not believe ours.
    """

    def __init__(self, endpoint: str, why: str, status: int = 0) -> None:
        super().__init__(f"no link to {endpoint}: {why}")
        self.why = why
        self.status = status


@implementer(IProtocol, IPushProducer)
class StreamProtocol:
    """
    A connection under a native session: the session's L{mesoskit.wire.plan.Carrier}.

    @ivar session: the link.
    """

    __slots__ = (
        "__weakref__",
        "_factory",
        "_group",
        "_holds",
        "_timer",
        "_waits",
        "session",
        "transport",
    )

    def __init__(self, factory: "StreamFactory", address: IAddress | None) -> None:
        self._factory = factory
        self._group = -1
        self._holds = self._waits = False
        self._timer: IDelayedCall | None = None
        self.session = Session(factory.plan, self, address_text(address))
        self.transport: Any = None

    # IProtocol

    def makeConnection(self, transport: Any) -> None:
        """The connection is there: begin with hello."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Begin with hello."""
        transport, factory = self.transport, self._factory
        factory.came(self)
        transport.registerProducer(self, True)
        if ITCPTransport.providedBy(transport) and isinstance(
            transport.getPeer(), IPv4Address | IPv6Address
        ):
            # What belongs together is joined into one write already.
            transport.setTcpNoDelay(True)
        self._timer = factory.clock.callLater(factory.settings.hello_timeout, self._late)
        self.session.start()

    def dataReceived(self, data: bytes) -> None:
        """Give the session what came."""
        session = self.session
        session.bytes_received(data)
        held = session.decoder.buffered
        if held > SMALL or self._holds:
            self._holds = held > SMALL
            self._factory.unfinished.holds(self, held)

    def connectionLost(self, reason: Failure) -> None:
        """Tell the session, once."""
        self._cancel_timer()
        factory = self._factory
        if self._group >= 0:
            factory.pulse.leave(self.session, self._group)
        why = "connection closed" if isinstance(reason.value, ConnectionDone) else why_lost(reason)
        self.session.closed(why)
        factory.gone(self, why)

    def logPrefix(self) -> str:
        """Return what Twisted's own log lines about this connection begin with."""
        return "mesoskit"

    # IPushProducer

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self.session.pause()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self.session.resume()

    def stopProducing(self) -> None:
        """The transport is going; C{connectionLost} says the rest."""

    # Carrier

    def write(self, data: bytes) -> None:
        """Write."""
        self.transport.write(data)

    def close(self) -> None:
        """Close when all was written and the peer has taken it, or C{linger} is over."""
        self._cancel_timer()
        transport, factory = self.transport, self._factory
        # A transport with a producer waits for more to write.
        transport.unregisterProducer()
        # The peer's end is to be seen.
        transport.resumeProducing()
        if isinstance(transport, FileDescriptor):
            # Closing a socket that holds unread bytes would destroy what is on its way to
            # the peer; so the peer closes first, having read to the end.
            transport.loseWriteConnection()  # type: ignore[no-untyped-call]
        else:
            transport.loseConnection()
        self._timer = factory.clock.callLater(factory.settings.linger, self._abort)

    def abort(self) -> None:
        """Cut the connection."""
        self._cancel_timer()
        self.transport.abortConnection()

    def reading(self, on: bool) -> None:
        """Read no more, so that the peer finds its own buffers full; or go on."""
        if on:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    def flush_later(self) -> None:
        """Have the session flushed at the end of the turn, with all others."""
        self._factory.pulse.flush_later(self.session)

    def waits(self, count: int) -> None:
        """Count what waits, beside what waits for others."""
        if count > SMALL or self._waits:
            self._waits = count > SMALL
            self._factory.waiting.holds(self, count)

    def settling(self) -> None:
        """Give the peer C{settle_timeout} from now."""
        self._cancel_timer()
        factory = self._factory
        self._timer = factory.clock.callLater(factory.settings.settle_timeout, self._unsettled)
        factory.greeted(self)

    def opened(self) -> None:
        """Let the pulse visit the session from now on."""
        self._cancel_timer()
        factory = self._factory
        factory.unsettled.pop(self, None)
        self._group = factory.pulse.join(self.session)
        factory.linked(self)

    def _late(self) -> None:
        self._timer = None
        self.session.late()

    def _unsettled(self) -> None:
        self._timer = None
        self.session.unsettled()

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


@implementer(IProtocolFactory)
class StreamFactory:
    """
    Makes native links of connections.

    @ivar plan: what its sessions share; C{plan.hello} may be replaced, and new links
        say the new one (a master that begins to lead has a new epoch).
    @ivar settings: limits and times.
    @ivar clock: what times are told by.
    @ivar pulse: flushes its links at the end of the turn, and visits them.
    @ivar counters: what they carried.
    @ivar protocols: its connections, those whose peer has not said hello among them.
    @ivar unfinished: counts what they hold of frames that are not complete.
    @ivar waiting: counts what their peers have not taken yet.
    @ivar unsettled: those of which it is not known yet who speaks there, the oldest first.
    """

    log = Logger()

    #: Whether this side dials, and so says hello first.
    dials = False

    def __init__(
        self,
        receiver: Receivers,
        hello: Hello,
        *,
        clock: IReactorTime,
        accept: Iterable[int] | None = None,
        settings: StreamSettings | None = None,
        counters: Counters | None = None,
        settle: Settle | None = None,
        pulse: Pulse | None = None,
        others: Mapping[int, Receivers] | None = None,
    ) -> None:
        """
        Prepare to make links.

        @param receiver: hears the links; made anew for each one where it is a class or
            a function.
        @param hello: what this side says of itself.
        @param accept: the roles that peers may have; L{None} for any known one.
        @param settle: the layer in which peers prove who they are; L{None} where they
            need not.
        @param pulse: where it is shared with other factories of the same settings.
        @param others: hear the links that are not for control, by what they are for, numbers
            of C{mesoskit.stream.Purpose}.
        """
        self.settings = settings or _DEFAULTS
        self.clock = clock
        self.counters = counters or Counters()
        self.plan = SessionPlan(
            receiver,
            hello,
            accept,
            self.settings,
            self.counters,
            settle,
            self.dials,
            others,
        )
        self.pulse = pulse or Pulse(clock, self.plan.span)
        self.protocols: set[StreamProtocol] = set()
        self.unsettled: dict[StreamProtocol, None] = {}
        self.unfinished = Together[StreamProtocol](self.settings.unfinished_limit, self._cut_off)
        self.waiting = Together[StreamProtocol](self.settings.waiting_limit, self._too_much_waits)
        self._full = False
        self._emptied: list[Deferred[None]] = []

    def doStart(self) -> None:
        """A port is listening."""

    def doStop(self) -> None:
        """The port listens no more; what is linked stays linked."""

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol | None:
        """Return what speaks on a new connection; L{None}, which closes it, beyond the limit."""
        if len(self.protocols) >= self.settings.maximum_links:
            self.counters.error("too-many")
            if not self._full:
                self._full = True
                self.log.warn("No room for more than {count} links", count=len(self.protocols))
            return None
        self._full = False
        return StreamProtocol(self, addr)

    def flush(self) -> None:
        """Let what was sent on any link leave now, not at the end of the turn."""
        self.pulse.flush()

    def lose_all(self, why: str) -> Deferred[None]:
        """
        Close every link, telling each peer why.

        Fires when the last connection is gone, which C{linger} delays at the most.
        """
        for protocol in list(self.protocols):
            protocol.session.lose(why)
        emptied: Deferred[None] = Deferred()
        if self.protocols:
            self._emptied.append(emptied)
        else:
            emptied.callback(None)
        return emptied

    def came(self, protocol: StreamProtocol) -> None:
        """There is a new connection, and nobody knows whose."""
        self.protocols.add(protocol)
        unsettled = self.unsettled
        unsettled[protocol] = None
        if len(unsettled) > self.settings.maximum_unsettled:
            oldest = next(iter(unsettled))
            del unsettled[oldest]
            oldest.session.refuse("crowded-out", "too many others come", 503)

    def _cut_off(self, protocol: StreamProtocol, held: int) -> None:
        self.counters.error("unfinished")
        self.log.warn(
            "Cut {peer} off, which holds {held} bytes of a frame that it does not finish: all links"
            " together may hold {limit}",
            peer=protocol.session.peer,
            held=held,
            limit=self.settings.unfinished_limit,
        )
        protocol.abort()

    def _too_much_waits(self, protocol: StreamProtocol, held: int) -> None:
        limit = self.settings.waiting_limit
        protocol.session.cut(
            "slow",
            f"failed to keep up: {held} bytes wait for it, the most, and all links together"
            f" may have {limit}",
        )

    def greeted(self, protocol: StreamProtocol) -> None:
        """Both sides have said hello, and it is settled now who they are."""

    def linked(self, protocol: StreamProtocol) -> None:
        """The link on this connection is open."""

    def gone(self, protocol: StreamProtocol, why: str) -> None:
        """The connection is lost."""
        self.protocols.discard(protocol)
        self.unsettled.pop(protocol, None)
        self.unfinished.gone(protocol)
        self.waiting.gone(protocol)
        if self._emptied and not self.protocols:
            emptied, self._emptied = self._emptied, []
            for deferred in emptied:
                deferred.callback(None)


class _DialFactory(StreamFactory):
    """Makes one link and says when it is there, or why it is not."""

    dials = True
    _endpoint = ""
    _result: Deferred[Link] | None = None
    _protocol: StreamProtocol | None = None
    _connecting: Deferred[Any] | None = None
    _timer: IDelayedCall | None = None

    def dial(self, endpoint: IStreamClientEndpoint, text: str) -> Deferred[Link]:
        """Begin."""
        result: Deferred[Link] = Deferred(self._cancelled)
        self._endpoint = text
        self._result = result
        self._timer = self.clock.callLater(self.settings.dial_timeout, self._too_slow)
        connecting = endpoint.connect(self)
        if self._result is not None:
            self._connecting = connecting
        connecting.addCallbacks(lambda _: None, self._unreachable)
        return result

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol | None:
        """Return what speaks on the connection, unless nobody wants it any more."""
        if self._result is None:
            return None
        self._protocol = super().buildProtocol(addr)
        return self._protocol

    def greeted(self, protocol: StreamProtocol) -> None:
        """The protocol's own timer limits what is left to do."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def linked(self, protocol: StreamProtocol) -> None:
        """Say that the link is there."""
        result = self._end()
        if result is not None:
            result.callback(protocol.session)

    def gone(self, protocol: StreamProtocol, why: str) -> None:
        """Say so, if nobody was told that the link is there."""
        super().gone(protocol, why)
        result = self._end()
        if result is not None:
            session = protocol.session
            result.errback(DialFailed(self._endpoint, session.ended or why, session.status))

    def _unreachable(self, reason: Failure) -> None:
        result = self._end()
        if result is not None:
            result.errback(DialFailed(self._endpoint, reason.getErrorMessage()))

    def _too_slow(self) -> None:
        self._timer = None
        result = self._end()
        if result is not None:
            self._give_up()
            seconds = self.settings.dial_timeout
            result.errback(DialFailed(self._endpoint, f"not there within {seconds:g} s"))

    def _cancelled(self, _: Deferred[Link]) -> None:
        self._end()
        self._give_up()

    def _end(self) -> Deferred[Link] | None:
        """Return the result if it is still to be told, and see that nobody else tells it."""
        result, self._result = self._result, None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return result

    def _give_up(self) -> None:
        if self._protocol is not None:
            self._protocol.session.lose()
            self._protocol.abort()
        elif self._connecting is not None:
            self._connecting.cancel()


def dial(
    endpoint: IStreamClientEndpoint | str,
    receiver: Receivers,
    hello: Hello,
    *,
    clock: Any,
    accept: Iterable[int] | None = None,
    settings: StreamSettings | None = None,
    counters: Counters | None = None,
    settle: Settle | None = None,
    pulse: Pulse | None = None,
    tls: "TLS | None" = None,
) -> Deferred[Link]:
    """
    Dial a peer; fires when both have said hello and C{receiver} knows the link.

    Fails with L{DialFailed}; cancelling it cuts the connection. Where nothing comes
    about C{receiver} hears nothing.

    @param endpoint: an endpoint, or its text (L{mesoskit.wire.endpoints}); raises
        L{mesoskit.wire.endpoints.EndpointError} at once where the text is wrong.
    @param clock: the reactor; an L{IReactorTime} is enough where C{endpoint} is no text.
    @param accept: the roles that the peer may have; L{None} for any known one.
    @param pulse: shared by many dialled links of the same settings; its own by default.
    @param tls: for endpoints that are text; see L{client_endpoint}.
    """
    if isinstance(endpoint, str):
        text = endpoint
        endpoint = client_endpoint(clock, endpoint, tls)
    else:
        text = type(endpoint).__name__
    factory = _DialFactory(
        receiver,
        hello,
        clock=clock,
        accept=accept,
        settings=settings,
        counters=counters,
        settle=settle,
        pulse=pulse,
    )
    return factory.dial(endpoint, text)
