"""One listening port for everything: the first byte tells who is coming.

A zero byte begins a native frame, a letter an HTTP request, 0x16 a TLS handshake, inside
of which the same is decided once more. What was read to decide is given to whom it
belongs. Whoever says nothing is closed after a while.
"""

from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.wire.counters import Counters
from mesoskit.wire.endpoints import address_text

_NATIVE: Final = 0x00
_TLS: Final = 0x16

# Seconds between two warnings about peers that are turned away.
_QUIET: Final = 10.0


@dataclass(slots=True, frozen=True)
class PortSettings:
    """
    Limits of a port.

    @ivar decide_timeout: seconds within which the first byte must come.
    @ivar undecided: connections that may be silent so far; beyond, the oldest is closed.
    @ivar per_address: connections of one peer address; beyond, a new one is closed.
    @ivar maximum_http: HTTP connections, whatever they are doing; beyond, a new one is closed.
    @ivar body_limit: the longest body of an HTTP request, in bytes.
    @ivar bodies_limit: how long all together may be that are on their way or not answered yet;
        16 KiB of each do not count.
    @ivar http_idle: seconds after which an HTTP connection that asks nothing is closed.
    @ivar http_patience: seconds within which an HTTP request must be whole.
    @ivar parting: seconds that HTTP answers may take to leave when the daemon ends.
    @ivar plain: whether connections without TLS are taken where there is TLS.
    """

    decide_timeout: float = 5.0
    undecided: int = 4096
    per_address: int = 65_536
    maximum_http: int = 10_000
    body_limit: int = 16 * 1024 * 1024
    bodies_limit: int = 128 * 1024 * 1024
    http_idle: float = 60.0
    http_patience: float = 30.0
    parting: float = 2.0
    plain: bool = True


@implementer(IProtocol)
class PortProtocol:
    """A connection that has not said what it is; and afterwards the way to whom it belongs."""

    __slots__ = ("__weakref__", "_port", "chosen", "host", "http", "inside", "transport")

    def __init__(self, port: "PortFactory", inside: bool, host: str | None = None) -> None:
        self._port = port
        # Whose connection it is, where that is counted.
        self.host = host
        self.inside = inside
        self.chosen: Any = None
        self.http = False
        self.transport: Any = None

    def makeConnection(self, transport: Any) -> None:
        """The connection is there: wait for its first byte."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """Wait for the first byte."""
        self._port.wait_for(self)

    def dataReceived(self, data: bytes) -> None:
        """Decide, or pass it on."""
        if self.chosen is None:
            # None remains where the connection is being closed.
            if not self._port.decide(self, data[0]):
                return
        self.chosen.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        """Pass it on."""
        self._port.gone(self)
        if self.chosen is not None:
            self.chosen.connectionLost(reason)

    def logPrefix(self) -> str:
        """Return what Twisted's own log lines about this connection begin with."""
        return "mesoskit"


@implementer(IProtocolFactory, IProtocolNegotiationFactory)
class PortFactory:
    """
    What listens on a daemon's port.

    @ivar counters: errors of connections that came to nothing are counted here.
    """

    log = Logger()

    def __init__(
        self,
        native: IProtocolFactory | None,
        http: Any = None,
        *,
        clock: IReactorTime,
        settings: PortSettings | None = None,
        tls: Any = None,
        counters: Counters | None = None,
    ) -> None:
        """
        Prepare to listen.

        @param native: makes what speaks on native connections, a
            L{mesoskit.wire.stream.StreamFactory}; L{None} where none are taken.
        @param http: the root L{twisted.web.resource.IResource}, or a function that makes
            it when the first HTTP connection comes; L{None} where none are taken.
        @param tls: L{twisted.internet.ssl.CertificateOptions} or what else provides
            C{IOpenSSLServerConnectionCreator}; L{None} where no TLS is taken.
        """
        self.settings = settings or PortSettings()
        if not self.settings.plain and tls is None:
            raise ValueError("plain is False and tls is None: nobody could connect")
        self.counters = counters or Counters()
        self._clock = clock
        self._native = native
        self._http = http
        self._tls = tls
        self._plain = self.settings.plain
        self._site: IProtocolFactory | None = None
        self._inside: IProtocolFactory | None = None
        self._http_count = 0
        self._web: dict[PortProtocol, None] = {}
        self._closed: list[Deferred[None]] = []
        self._parting: IDelayedCall | None = None
        self._by_address: dict[str, int] = {}
        # In the order in which their time runs out.
        self._undecided: dict[PortProtocol, float] = {}
        self._timer: IDelayedCall | None = None
        self._quiet_until = 0.0

    def doStart(self) -> None:
        """A port is listening."""

    def doStop(self) -> None:
        """The port listens no more; connections stay."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Return what decides about a new connection, a L{PortProtocol}; L{None}, which closes it,
        where its address has too many.
        """
        host = getattr(addr, "host", None)
        if host is not None:
            count = self._by_address.get(host, 0)
            if count >= self.settings.per_address:
                self.counters.error("too-many-of-address")
                self._warn("{host} has {count} connections already", host=host, count=count)
                return None
            self._by_address[host] = count + 1
        return PortProtocol(self, False, host)

    def acceptableProtocols(self) -> list[bytes]:
        """
        Return what may be agreed on within TLS (ALPN): clients of HTTP that offer a choice,
        as all of today's do, are turned away by Twisted where nothing of it is named.
        """
        return [] if self._http is None else [b"http/1.1"]

    def close_undecided(self) -> None:
        """Close the connections that have not said what they are; for the end of a daemon."""
        for protocol in list(self._undecided):
            self._undecided.pop(protocol)
            protocol.transport.abortConnection()
        self._set_timer()

    def close_http(self) -> Deferred[None]:
        """
        Close the HTTP connections, for the end of a daemon: at once those on which nothing is
        asked, others when their answers have left, and all after C{parting} seconds. Fires when
        none is left.
        """
        closed: Deferred[None] = Deferred()
        if not self._web:
            closed.callback(None)
            return closed
        self._closed.append(closed)
        if self._parting is None:
            self._parting = self._clock.callLater(self.settings.parting, self._cut_http)
        for protocol in list(self._web):
            protocol.chosen.end()
        return closed

    def _cut_http(self) -> None:
        for protocol in list(self._web):
            protocol.transport.abortConnection()
        self._web.clear()
        self._http_closed()

    def _http_closed(self) -> None:
        """No HTTP connection is left."""
        parting, self._parting = self._parting, None
        if parting is not None and parting.active():
            parting.cancel()
        closed, self._closed = self._closed, []
        for one in closed:
            one.callback(None)

    # What protocols ask

    def wait_for(self, protocol: PortProtocol) -> None:
        """Give the connection some time to say what it is."""
        undecided = self._undecided
        if len(undecided) >= self.settings.undecided:
            self._turn_away(next(iter(undecided)), "crowded-out")
        undecided[protocol] = self._clock.seconds() + self.settings.decide_timeout
        if self._timer is None:
            self._set_timer()

    def decide(self, protocol: PortProtocol, first: int) -> bool:
        """Choose who speaks on this connection; returns whether anybody does."""
        if protocol not in self._undecided:
            # More came on a connection that is being closed.
            return False
        factory = self._factory_for(protocol, first)
        if isinstance(factory, str):
            self._turn_away(protocol, factory)
            return False
        del self._undecided[protocol]
        if not self._undecided:
            self._set_timer()
        chosen = factory.buildProtocol(protocol.transport.getPeer())
        if chosen is None:
            protocol.transport.abortConnection()
            return False
        protocol.chosen = chosen
        if protocol.inside:
            self._name_peer(protocol)
        if protocol.http:
            self._web[protocol] = None
        chosen.makeConnection(protocol.transport)
        return True

    def _name_peer(self, protocol: PortProtocol) -> None:
        """Log whose certificate a peer has shown."""
        from mesoskit.wire.tls import subject_of

        subject = subject_of(protocol.transport)
        if subject is not None:
            peer = address_text(protocol.transport.getPeer())
            self.log.info("{peer} has shown the certificate of {who}", peer=peer, who=subject)

    def gone(self, protocol: PortProtocol) -> None:
        """The connection is lost."""
        if self._undecided.pop(protocol, None) is not None and not self._undecided:
            self._set_timer()
        if protocol.http:
            self._http_count -= 1
            self._web.pop(protocol, None)
            if self._closed and not self._web:
                self._http_closed()
        host, protocol.host = protocol.host, None
        if host is not None:
            count = self._by_address[host] - 1
            if count:
                self._by_address[host] = count
            else:
                del self._by_address[host]

    # Who speaks

    def _factory_for(self, protocol: PortProtocol, first: int) -> IProtocolFactory | str:
        """Return who makes what speaks there, or the kind of error."""
        if first == _TLS and self._tls is not None and not protocol.inside:
            return self._tls_factory()
        if self._plain or protocol.inside:
            if first == _NATIVE and self._native is not None:
                return self._native
            if first < 0x80 and chr(first).isalpha() and self._http is not None:
                return self._http_factory(protocol)
        elif first == _NATIVE or (first < 0x80 and chr(first).isalpha()):
            return "plain"
        return "unknown-protocol"

    def _http_factory(self, protocol: PortProtocol) -> IProtocolFactory | str:
        if self._http_count >= self.settings.maximum_http:
            return "too-many-http"
        if self._site is None:
            from twisted.web.resource import IResource

            from mesoskit.wire.http import LimitedSite

            self._site = LimitedSite(
                self._http if IResource.providedBy(self._http) else self._http(),
                clock=self._clock,
                body_limit=self.settings.body_limit,
                bodies_limit=self.settings.bodies_limit,
                idle=self.settings.http_idle,
                patience=self.settings.http_patience,
            )
        protocol.http = True
        self._http_count += 1
        return self._site

    def _tls_factory(self) -> IProtocolFactory:
        if self._inside is None:
            from twisted.protocols.tls import TLSMemoryBIOFactory

            self._inside = TLSMemoryBIOFactory(self._tls, False, _Inside(self), self._clock)
        return self._inside

    # Who is turned away

    def _turn_away(self, protocol: PortProtocol, kind: str) -> None:
        self.counters.error(kind)
        peer = address_text(protocol.transport.getPeer())
        if kind == "plain":
            self._warn(
                "{peer} speaks without TLS and is turned away; --tls_support_downgrade would take"
                " it",
                peer=peer,
            )
        self.log.debug("{peer} is turned away: {kind}", peer=peer, kind=kind)
        del self._undecided[protocol]
        protocol.transport.abortConnection()
        if not self._undecided:
            self._set_timer()

    def _warn(self, text: str, **fields: object) -> None:
        """Log a warning, but not too many: who is set up wrongly tries again and again."""
        now = self._clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            self.log.warn(text + " (such lines come once in {span:g} s)", span=_QUIET, **fields)

    def _set_timer(self) -> None:
        """See to it that the timer runs for the oldest connection, or not at all."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._undecided:
            delay = next(iter(self._undecided.values())) - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, delay), self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._undecided:
            protocol, until = next(iter(self._undecided.items()))
            if until > now:
                break
            self._turn_away(protocol, "undecided")
        self._set_timer()


@implementer(IProtocolFactory, IProtocolNegotiationFactory)
class _Inside:
    """What listens inside TLS: the same port, without TLS."""

    def __init__(self, port: PortFactory) -> None:
        self._port = port

    def doStart(self) -> None:
        """Nothing to begin."""

    def doStop(self) -> None:
        """Nothing to end."""

    def acceptableProtocols(self) -> list[bytes]:
        """Return what the port would."""
        return self._port.acceptableProtocols()

    def buildProtocol(self, addr: IAddress | None) -> PortProtocol:
        """Return what decides about a connection inside TLS."""
        return PortProtocol(self._port, True)
