"""A UNIX socket as an endpoint, without the tens of modules that Twisted's own come with."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

#: Seconds that connecting may take; a local socket takes none, or its backlog is full.
TIMEOUT = 5.0


@implementer(IStreamClientEndpoint)
class UnixEndpoint:
    """
    The UNIX socket at a path.

    An executor is started often, and the module of Twisted's endpoints alone takes it a sixth
    of its start-up time.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fires with the factory's protocol. Cancelling it gives up."""
        once = _Once(protocolFactory)
        once.connector = self._reactor.connectUNIX(self._path, once, timeout=TIMEOUT)
        return once.result


class _Once(ClientFactory):
    noisy = False

    def __init__(self, inner: IProtocolFactory) -> None:
        self._inner = inner
        self.connector: Any = None
        self.result: Deferred[IProtocol] = Deferred(self._cancel)

    def _cancel(self, result: Deferred[IProtocol]) -> None:
        result.errback(ConnectingCancelledError(None))  # type: ignore[no-untyped-call]
        if self.connector is not None:
            self.connector.stopConnecting()

    def buildProtocol(self, addr: IAddress) -> Any:  # type: ignore[override]
        """Let the inner factory say what speaks here, and say so to who waits."""
        protocol = self._inner.buildProtocol(addr)
        if protocol is not None and not self.result.called:
            # Soon: the protocol hears of its connection first.
            self.result.callback(protocol)
        return protocol

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Say why there is no connection."""
        if not self.result.called:
            self.result.errback(reason)
