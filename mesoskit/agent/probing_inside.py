"""Connecting from inside of a container's network, as if from a process there.

A socket belongs for ever to the network namespace in which it was made, and a thread may be in
another one than its process (network_namespaces(7), setns(2)). So a thread that enters the
namespace, makes a socket and ends is all that it takes; everything else happens where
everything else happens. (Mesos: C{src/checks/checker_process.cpp} starts a process for that.)
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from typing import Any, Final, NoReturn

from twisted.internet import error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReadWriteDescriptor,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.agent.probing import CheckFailed

_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def open_network(pid: int, staged: bool = False) -> int | None:
    """
    Open the network namespace of a process; return a descriptor, or L{None} where that is ours or
    none that we might enter. Raises L{CheckFailed} where the process is gone.

    @param staged: it may be one of its children that is in the container: an OCI runtime's.
    """
    own = os.readlink("/proc/self/ns/net")
    try:
        for one in (pid, *(_children(pid) if staged else ())):
            if os.readlink(f"/proc/{one}/ns/net") != own:
                return os.open(f"/proc/{one}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        pass  # nobody but root has put it anywhere else
    except (FileNotFoundError, ProcessLookupError):
        raise CheckFailed(f"process {pid} is gone") from None
    return None


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


@implementer(IStreamClientEndpoint)
class InsideEndpoint:
    """
    A TCP port as it is seen from inside of a network namespace.

    @ivar network: a descriptor of the namespace; it stays open.
    @ivar host: an address, or a name, which is looked up as this process does.
    @ivar timeout: seconds for a connection.
    """

    def __init__(self, reactor: Any, network: int, host: str, port: int, timeout: float) -> None:
        self._reactor = reactor
        self.network = network
        self.host = host
        self.port = port
        self.timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect. Fails with L{OSError}, or with a C{ConnectError} of Twisted."""
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        return connecting.addTimeout(self.timeout, self._reactor, _took_too_long)

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        host = self.host
        if not isIPAddress(host) and not isIPv6Address(host):
            host = await self._reactor.resolve(host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = await _make(self._reactor, self.network, family)
        try:
            made.setblocking(False)
            failed = made.connect_ex((host, self.port))
            if failed == errno.EINPROGRESS:
                failed = await _Connecting(self._reactor, made).over
            if failed:
                raise error.getConnectError((failed, os.strerror(failed)))  # type: ignore[no-untyped-call]
            kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
            address = kind("TCP", host, self.port)
            protocol = factory.buildProtocol(address)
            if protocol is None:
                raise OSError(errno.ECONNABORTED, "nobody wants this connection")
            self._reactor.adoptStreamConnection(made.fileno(), family, _Given(protocol))
        finally:
            made.close()
        return protocol


def _took_too_long(_result: object, seconds: float) -> NoReturn:
    raise error.TimeoutError(string=f"no connection within {seconds:g} seconds")  # type: ignore[no-untyped-call]


class _Given(Factory):
    """Gives a protocol that there is."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Any:
        return self._protocol


def _make(reactor: Any, network: int, family: int) -> Deferred[socket.socket]:
    """Make a socket in a namespace."""
    wanted = True

    def unwanted(_made: Deferred[socket.socket]) -> None:
        nonlocal wanted
        wanted = False

    made: Deferred[socket.socket] = Deferred(unwanted)
    network = os.dup(network)  # whoever has given it may close it before the thread runs

    def tell(result: Any) -> None:
        if wanted:
            made.callback(result)
        elif isinstance(result, socket.socket):
            result.close()

    def make() -> None:
        result: Any
        try:
            if _libc.setns(network, _CLONE_NEWNET) < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"entering the container's network: {os.strerror(number)}")
            result = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            result = Failure()  # type: ignore[no-untyped-call]
        finally:
            os.close(network)
        reactor.callFromThread(tell, result)

    # Not one of a pool: this one is in the namespace until it ends.
    threading.Thread(target=make, name="in a container's network", daemon=True).start()
    return made


@implementer(IReadWriteDescriptor)
class _Connecting:
    """
    A socket that is being connected.

    @ivar over: fires with 0 or an error's number.
    """

    def __init__(self, reactor: Any, connecting: socket.socket) -> None:
        self._reactor = reactor
        self._socket = connecting
        self.over: Deferred[int] = Deferred(lambda _: reactor.removeWriter(self))
        reactor.addWriter(self)

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the reactor."""
        return "check"

    def doRead(self) -> None:
        """Never asked for."""

    def doWrite(self) -> None:
        """It is connected, or is not."""
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has seen that it is not."""
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNABORTED)

    def _end(self, number: int) -> None:
        self._reactor.removeWriter(self)
        if not self.over.called:
            self.over.callback(number)
