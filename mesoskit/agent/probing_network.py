"""Asking tasks over the real network, where they are at the loopback address."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urljoin

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import Agent, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from mesoskit.agent.probe import HttpGet, TcpConnect
from mesoskit.agent.probing import CheckFailed
from mesoskit.wire.tls import TLS

CONNECTING: Final = 30.0
"""Seconds for a connection where the check itself has no time-out."""

REDIRECTIONS: Final = 20
"""How many redirections are followed."""

_MOVED: Final = frozenset((301, 302, 303, 307, 308))


@implementer(IPolicyForHTTPS)
class _AnyCertificate:
    """Takes every certificate: a check asks whether a task is well, not who it is."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return TLS(verify_server=False).client(hostname.decode())


class _Unread(Protocol):
    """Takes no body: the status code is all there is to know."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class _Quiet(Factory):
    noisy = False


class Network:
    """What asks."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # A line in the log for every connection is not what a log is for.
        _HTTP11ClientFactory.noisy = False
        self._agent = Agent(  # type: ignore[no-untyped-call]
            reactor,
            _AnyCertificate(),
            connectTimeout=CONNECTING,
            pool=HTTPConnectionPool(reactor, persistent=False),  # type: ignore[no-untyped-call]
        )

    def http(self, what: HttpGet) -> Deferred[int]:
        """GET a page, and follow where it has moved to."""
        return Deferred.fromCoroutine(self._get(what))

    async def _get(self, what: HttpGet) -> int:
        host = what.host or ("::1" if what.ipv6 else "127.0.0.1")
        host = f"[{host}]" if ":" in host else host
        url = f"{what.scheme}://{host}:{what.port}{what.path}"
        for _ in range(REDIRECTIONS + 1):
            response = await self._agent.request(b"GET", url.encode("ascii", "replace"))
            code = int(response.code)
            places = response.headers.getRawHeaders(b"location")
            response.deliverBody(_Unread())  # type: ignore[no-untyped-call]
            if code not in _MOVED or not places:
                return code
            url = urljoin(url, places[0].decode("ascii", "replace"))
        raise CheckFailed(f"more than {REDIRECTIONS} redirections, the last one to {url}")

    def tcp(self, what: TcpConnect) -> Deferred[None]:
        """Connect to a port."""
        host = what.host or ("::1" if what.ipv6 else "127.0.0.1")
        endpoint = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        connecting: Deferred[Any] = endpoint(self._reactor, host, what.port, CONNECTING).connect(
            _Quiet.forProtocol(Protocol)
        )

        def connected(protocol: Any) -> None:
            protocol.transport.loseConnection()

        return connecting.addCallback(connected)
