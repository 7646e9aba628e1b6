"""The contract over real sockets: TCP, UNIX and TLS, bare and through the one port.

Each test has a reactor of its own that it turns by hand, so it stays synchronous and
leaves nothing to the next one.
"""

from __future__ import annotations

import datetime
import os
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from zope.interface import implementer

from mesoskit.wire.endpoints import address_text, client_endpoint, server_endpoint
from mesoskit.wire.link import Hello
from mesoskit.wire.port import PortFactory, PortSettings
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory, dial
from tests.base import SynchronousTestCase
from tests.wire.contract import HoldContract, Pair
from tests.wire.ears import AGENT, MASTER, Ear, text

# A test fails when what it waits for has not come after so many seconds.
_PATIENCE = 60.0

_TLS_ALONE = PortSettings(plain=False)


@cache
def certificate() -> bytes:
    """Return a key and a certificate for localhost that it signed itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem + signed.public_bytes(serialization.Encoding.PEM)


def server_options() -> CertificateOptions:
    """Return what a server shows."""
    options: CertificateOptions = PrivateCertificate.loadPEM(certificate()).options()
    return options


@implementer(IStreamClientEndpoint)
class TLSClient:
    """TLS over another endpoint, under the test's own reactor."""

    def __init__(
        self, reactor: Any, inner: IStreamClientEndpoint, offered: Sequence[bytes] | None = None
    ) -> None:
        self.reactor = reactor
        self.inner = inner
        self.offered = offered

    def connect(self, factory: Any) -> Any:
        trusted = Certificate.loadPEM(certificate())
        options = optionsForClientTLS(
            "localhost", trustRoot=trusted, acceptableProtocols=self.offered
        )
        return self.inner.connect(TLSMemoryBIOFactory(options, True, factory, self.reactor))


class Sockets:
    """A reactor, and links on it in the contract's hands."""

    def __init__(self) -> None:
        self.reactor: Any = EPollReactor()
        self.ports: list[Any] = []
        self.factories: list[StreamFactory] = []
        self.dialled: Any = None

    def listen(self, text: str, factory: Any) -> str:
        """Listen; returns where, for dialling."""
        server_endpoint(self.reactor, text).listen(factory).addCallback(self.ports.append)
        return address_text(self.ports[-1].getHost())

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        if until is None:
            for _ in range(6):
                self.reactor.iterate(0.001)
            return
        deadline = time.monotonic() + _PATIENCE
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(f"it has not come within {_PATIENCE} s")
            self.reactor.iterate(0.05)

    def cut(self) -> None:
        for factory in self.factories:
            for protocol in list(factory.protocols):
                protocol.transport.abortConnection()
        self.spin()

    def stall(self, stalled: bool) -> None:
        transport = self.dialled._carrier.transport
        if stalled:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    def close(self) -> None:
        """End everything."""
        self.cut()
        for port in self.ports:
            port.stopListening()
        self.spin()
        for reader in self.reactor.removeAll():
            reader.connectionLost(None)


class SocketContract(HoldContract):
    """The contract, whatever kind of socket."""

    # So small that the kernel's buffers are the most of what is sent.
    settings = StreamSettings(high_water=64 * 1024, low_water=16 * 1024, maximum_calls=20)

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        """Listen, and return what dials."""
        raise NotImplementedError

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        sockets = Sockets()
        self.addCleanup(sockets.close)
        reactor = sockets.reactor
        native = StreamFactory(a, hello_a, clock=reactor, settings=self.settings)
        sockets.factories.append(native)
        endpoint = self.listening(sockets, native)
        dialled = dial(endpoint, b, hello_b, clock=reactor, settings=settings_b)
        sockets.spin(lambda: bool(dialled.called))
        sockets.dialled = self.successResultOf(dialled)
        return sockets


class TCPContractTests(SocketContract, SynchronousTestCase):
    """The promises over TCP."""

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        return client_endpoint(sockets.reactor, sockets.listen("127.0.0.1:0", native))

    def test_the_peer_is_named_by_its_address(self) -> None:
        _, a, b = self.link()
        self.assertRegex(a.link.peer, r"^127\.0\.0\.1:\d+$")
        self.assertRegex(b.link.peer, r"^127\.0\.0\.1:\d+$")

    def test_all_links_can_be_closed_and_waited_for(self) -> None:
        pair, a, b = self.link()
        assert isinstance(pair, Sockets)
        a.link.send(text("last words"))
        done = pair.factories[0].lose_all("shutting down")
        pair.spin(lambda: bool(done.called))
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, ["last words"])
        self.assertEqual(b.reasons, ["the peer said: shutting down"])
        self.assertIsNone(self.successResultOf(pair.factories[0].lose_all("again")))


class UNIXContractTests(SocketContract, SynchronousTestCase):
    """The promises over UNIX sockets."""

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        # Trial's own directories are too deep for a socket's path.
        path = f"{tempfile.gettempdir()}/mesoskit-{os.getpid()}-{id(sockets):x}"
        where = sockets.listen(f"unix:{path}", native)
        self.assertEqual(where, f"unix:{path}")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        return client_endpoint(sockets.reactor, where)


class TLSContractTests(SocketContract, SynchronousTestCase):
    """The promises over TLS, through the one port, which finds out by itself."""

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        port = PortFactory(native, clock=sockets.reactor, tls=server_options(), settings=_TLS_ALONE)
        where = sockets.listen("127.0.0.1:0", port)
        return TLSClient(sockets.reactor, client_endpoint(sockets.reactor, where))


class PortContractTests(SocketContract, SynchronousTestCase):
    """The promises over TCP, through the one port."""

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        port = PortFactory(native, clock=sockets.reactor, tls=server_options())
        return client_endpoint(sockets.reactor, sockets.listen("127.0.0.1:0", port))


class Page(Resource):
    """A page."""

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"secure" if request.isSecure() else b"open"


class OnePortTests(SynchronousTestCase):
    """Everything at once on one port."""

    def setUp(self) -> None:
        self.sockets = Sockets()
        self.addCleanup(self.sockets.close)
        self.ear = Ear()
        reactor = self.sockets.reactor
        self.native = StreamFactory(self.ear, MASTER, clock=reactor)
        self.sockets.factories.append(self.native)
        self.port = PortFactory(self.native, Page(), clock=reactor, tls=server_options())
        self.where = self.sockets.listen("127.0.0.1:0", self.port)

    def raw(self, said: bytes) -> bytes:
        """Say something on a plain socket, and return all of the answer."""
        host, port = self.where.split(":")
        with socket.create_connection((host, int(port))) as peer:
            peer.sendall(said)
            peer.setblocking(False)
            answer = b""
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                self.sockets.reactor.iterate(0.01)
                try:
                    piece = peer.recv(65536)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    break
                if not piece:
                    break
                answer += piece
            return answer

    def test_a_request(self) -> None:
        answer = self.raw(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(answer.endswith(b"open"))

    def test_a_request_over_tls(self) -> None:
        self.ask_over_tls(None)

    def test_a_request_over_tls_of_a_client_that_offers_a_choice(self) -> None:
        self.ask_over_tls([b"h2", b"http/1.1"])

    def test_a_request_where_nothing_but_tls_is_listened_to(self) -> None:
        # As with an endpoint string that begins with ssl: Twisted takes the TLS off.
        reactor = self.sockets.reactor
        self.port = PortFactory(self.native, Page(), clock=reactor)
        over_tls = TLSMemoryBIOFactory(server_options(), False, self.port, reactor)
        self.where = self.sockets.listen("127.0.0.1:0", over_tls)
        self.ask_over_tls([b"h2", b"http/1.1"])

    def ask_over_tls(self, offered: Sequence[bytes] | None) -> None:
        """Ask for the page, offering these protocols, until it has come."""
        from twisted.internet.protocol import Factory, Protocol

        class Asks(Protocol):
            heard = b""

            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

            def dataReceived(self, data: bytes) -> None:
                Asks.heard += data

        factory = Factory.forProtocol(Asks)
        factory.noisy = False
        reactor = self.sockets.reactor
        client = TLSClient(reactor, client_endpoint(reactor, self.where), offered)
        dialled = client.connect(factory)
        self.sockets.spin(lambda: b"secure" in Asks.heard)
        dialled.result.transport.abortConnection()
        self.sockets.spin()

    def test_a_link_beside_it(self) -> None:
        ear = Ear()
        dialled = dial(self.where, ear, AGENT, clock=self.sockets.reactor)
        self.sockets.spin(lambda: bool(dialled.called))
        self.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        ear.link.send(text("hello"))
        self.sockets.spin(lambda: bool(self.ear.words))

    def test_noise_is_closed(self) -> None:
        self.assertEqual(self.raw(b"\x99"), b"")
        self.assertEqual(self.port.counters.errors, {"unknown-protocol": 1})

    def test_a_stranger_is_told_why_although_it_goes_on_talking(self) -> None:
        answer = self.raw(b"\x00\xff\xff\xff" + b"x" * 100_000)
        self.assertIn(b"over the limit of 65536", answer)
