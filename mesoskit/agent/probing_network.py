"""Asking tasks over the real network: where they are at a loopback address, ours or their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urljoin

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import URI, Agent, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from mesoskit.agent.probe import HttpGet, TcpConnect
from mesoskit.agent.probing import CheckFailed
from mesoskit.agent.probing_inside import InsideEndpoint, open_network
from mesoskit.wire.tls import TLS

CONNECTING: Final = 30.0
"""Seconds for a connection where the check itself has no time-out."""

REDIRECTIONS: Final = 20
"""How many redirections are followed."""

_MOVED: Final = frozenset((301, 302, 303, 307, 308))


def _any_certificate(host: str) -> Any:
    """Take every certificate: a check asks whether a task is well, not who it is."""
    return TLS(verify_server=False).client(host)


@implementer(IPolicyForHTTPS)
class _AnyCertificate:
    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return _any_certificate(hostname.decode())


@implementer(IAgentEndpointFactory)
class _Inside:
    """Finds pages from inside of a network namespace."""

    def __init__(self, reactor: Any, network: int) -> None:
        self._reactor = reactor
        self._network = network

    def endpointForURI(self, uri: URI) -> Any:
        host = uri.host.decode("ascii", "replace").strip("[]")
        endpoint = InsideEndpoint(self._reactor, self._network, host, uri.port, CONNECTING)
        if uri.scheme == b"https":
            return wrapClientTLS(_any_certificate(host), endpoint)
        return endpoint


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
        self._pool = HTTPConnectionPool(reactor, persistent=False)  # type: ignore[no-untyped-call]
        self._agent = Agent(  # type: ignore[no-untyped-call]
            reactor, _AnyCertificate(), connectTimeout=CONNECTING, pool=self._pool
        )

    def http(self, what: HttpGet) -> Deferred[int]:
        """GET a page, and follow where it has moved to."""
        return Deferred.fromCoroutine(self._get(what))

    async def _get(self, what: HttpGet) -> int:
        with _network_of(what) as network:
            agent = self._agent
            if network is not None:
                inside = _Inside(self._reactor, network)
                agent = Agent.usingEndpointFactory(self._reactor, inside, self._pool)  # type: ignore[no-untyped-call]
            host = _host_of(what, network)
            host = f"[{host}]" if ":" in host else host
            url = f"{what.scheme}://{host}:{what.port}{what.path}"
            return await self._follow(agent, url)

    async def _follow(self, agent: Agent, url: str) -> int:
        for _ in range(REDIRECTIONS + 1):
            response = await agent.request(b"GET", url.encode("ascii", "replace"))
            code = int(response.code)
            places = response.headers.getRawHeaders(b"location")
            response.deliverBody(_Unread())  # type: ignore[no-untyped-call]
            if code not in _MOVED or not places:
                return code
            url = urljoin(url, places[0].decode("ascii", "replace"))
        raise CheckFailed(f"more than {REDIRECTIONS} redirections, the last one to {url}")

    def tcp(self, what: TcpConnect) -> Deferred[None]:
        """Connect to a port."""
        return Deferred.fromCoroutine(self._connect(what))

    async def _connect(self, what: TcpConnect) -> None:
        with _network_of(what) as network:
            host = _host_of(what, network)
            if network is not None:
                endpoint: Any = InsideEndpoint(self._reactor, network, host, what.port, CONNECTING)
            else:
                kind = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
                endpoint = kind(self._reactor, host, what.port, CONNECTING)
            connecting: Deferred[Any] = endpoint.connect(_Quiet.forProtocol(Protocol))
            protocol = await connecting
            protocol.transport.loseConnection()


@contextmanager
def _network_of(what: HttpGet | TcpConnect) -> Iterator[int | None]:
    """Open the network of a container where it has one of its own. Raises L{CheckFailed}."""
    network = None
    if what.pid:
        try:
            network = open_network(what.pid, what.staged)
        except CheckFailed:
            if not what.host:
                raise
    try:
        yield network
    finally:
        if network is not None:
            os.close(network)


def _host_of(what: HttpGet | TcpConnect, network: int | None) -> str:
    own = "::1" if what.ipv6 else "127.0.0.1"
    return own if network is not None else what.host or own
