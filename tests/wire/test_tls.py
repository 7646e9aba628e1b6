"""TLS settings: what files may hold, and who is believed with them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import TLSVersion
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from mesoskit.testing.certificates import Authority, make, write
from mesoskit.wire.endpoints import EndpointError, client_endpoint
from mesoskit.wire.port import PortFactory, PortSettings
from mesoskit.wire.stream import DialFailed, StreamFactory, dial
from mesoskit.wire.tls import TLS, TLSClientEndpoint, TLSError, settings_of
from tests.base import SynchronousTestCase
from tests.wire.ears import AGENT, MASTER, Ear, text
from tests.wire.test_port import Client
from tests.wire.test_sockets import SocketContract, Sockets
from tests.wire.transports import Wires

AUTHORITY = Authority()


class Files:
    """A directory of certificates."""

    def __init__(self, case: SynchronousTestCase) -> None:
        temporary = tempfile.TemporaryDirectory(prefix="tls-")
        case.addCleanup(temporary.cleanup)
        self.home = Path(temporary.name)
        self.ca = write(self.home / "ca.pem", AUTHORITY.certificate)

    def pair(self, name: str, *hosts: str, **more: Any) -> dict[str, Any]:
        """Issue a certificate; returns it as L{TLS} takes it."""
        certificate, key = AUTHORITY.issue(name, hosts, **more)
        return {
            "cert_file": write(self.home / f"{name}.pem", certificate),
            "key_file": write(self.home / f"{name}-key.pem", key, private=True),
        }


class SettingsTests(SynchronousTestCase):
    """What cannot be used is refused, and the file is named."""

    def setUp(self) -> None:
        self.files = Files(self)

    def refuses(self, *words: str, **settings: Any) -> None:
        with self.assertRaises(TLSError) as caught:
            TLS(**settings).check()
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_certificate_and_key_go_together(self) -> None:
        pair = self.files.pair("server")
        self.refuses("server.pem", "go together", cert_file=pair["cert_file"])
        self.refuses("server-key.pem", "go together", key_file=pair["key_file"])

    def test_a_key_of_another_certificate(self) -> None:
        one, other = self.files.pair("one"), self.files.pair("other")
        self.refuses(
            "other-key.pem: is not the key of the certificate in",
            "one.pem",
            cert_file=one["cert_file"],
            key_file=other["key_file"],
        )

    def test_an_expired_certificate(self) -> None:
        pair = self.files.pair("old", days=-1, age=10)
        self.refuses("old.pem: the certificate has expired on", **pair)

    def test_a_certificate_of_the_future(self) -> None:
        self.refuses(
            "early.pem: the certificate is not valid before", **self.files.pair("early", age=-2)
        )

    def test_one_that_expires_soon_is_taken_with_a_warning(self) -> None:
        seen: list[Any] = []
        observer: Any = seen.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        TLS(**self.files.pair("late", days=3.5)).check()
        TLS(**self.files.pair("fine", days=30)).check()
        (warning,) = [each for each in seen if each["log_level"] == LogLevel.warn]
        self.assertEqual((warning["days"], warning["path"][-8:]), (3, "late.pem"))

    def test_a_key_that_others_may_read(self) -> None:
        pair = self.files.pair("server")
        os.chmod(pair["key_file"], 0o640)
        self.refuses("server-key.pem: others than its owner may use it (mode 0640)", **pair)

    def test_what_holds_neither(self) -> None:
        pair = self.files.pair("server")
        nonsense = write(self.files.home / "nonsense", b"-----BEGIN nothing", private=True)
        self.refuses("nonsense: holds no certificate", cert_file=nonsense, key_file=nonsense)
        self.refuses("nonsense: holds no key", cert_file=pair["cert_file"], key_file=nonsense)
        self.refuses("nonsense: holds no certificate", ca_file=nonsense)
        empty = self.files.home / "empty"
        empty.mkdir()
        self.refuses("empty: holds no file with a certificate", ca_dir=empty)
        self.refuses("gone.pem: cannot be read: No such file", ca_file=self.files.home / "gone.pem")
        self.refuses("gone: cannot be read: No such file", ca_dir=self.files.home / "gone")

    def test_a_key_with_a_passphrase(self) -> None:
        from cryptography.hazmat.primitives import serialization

        pair = self.files.pair("server")
        key = serialization.load_pem_private_key(pair["key_file"].read_bytes(), None)
        locked = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
        write(pair["key_file"], locked, private=True)
        self.refuses("server-key.pem: the key has a passphrase", **pair)

    def test_clients_are_not_verified_by_everybodys_authorities(self) -> None:
        self.refuses("without a CA of one's own", require_client_cert=True)

    def test_a_version_that_is_broken(self) -> None:
        self.refuses("'1.0' is no version of TLS", min_version="1.0")

    def test_a_port_needs_a_certificate(self) -> None:
        self.assertRaises(TLSError, TLS(ca_file=self.files.ca).server)

    def test_a_directory_of_authorities(self) -> None:
        where = self.files.home / "authorities"
        where.mkdir()
        write(where / "1.pem", AUTHORITY.certificate)
        write(where / "1.0", AUTHORITY.certificate)
        write(where / "README", b"what these are")
        TLS(ca_dir=where).check()

    def test_what_mesos_variables_say(self) -> None:
        self.assertIsNone(settings_of({"LIBPROCESS_SSL_CERT_FILE": "c"}))
        self.assertIsNone(TLS.from_environment({}))
        given = settings_of(
            {
                "LIBPROCESS_SSL_ENABLED": "true",
                "LIBPROCESS_SSL_CERT_FILE": "c",
                "LIBPROCESS_SSL_KEY_FILE": "k",
                "LIBPROCESS_SSL_CA_FILE": "a",
                "LIBPROCESS_SSL_REQUIRE_CERT": "1",
                "LIBPROCESS_SSL_SUPPORT_DOWNGRADE": "true",
                "LIBPROCESS_SSL_ENABLE_TLS_V1_2": "false",
            }
        )
        self.assertEqual(
            given,
            {
                "cert_file": "c",
                "key_file": "k",
                "ca_file": "a",
                "verify_server": True,
                "require_client_cert": True,
                "min_version": "1.3",
                "support_downgrade": True,
            },
        )

    def test_what_is_made_for_trying_works(self) -> None:
        make(self.files.home / "certs", ["master.example"])
        for name in ("server", "client"):
            TLS(
                cert_file=self.files.home / f"certs/{name}.pem",
                key_file=self.files.home / f"certs/{name}-key.pem",
                ca_file=self.files.home / "certs/ca.pem",
            ).check()


class EndpointTests(SynchronousTestCase):
    """Which texts are dialled with TLS."""

    def kind(self, text: str, tls: TLS | None = None) -> str:
        return type(client_endpoint(object(), text, tls)).__name__

    def test_by_its_name_or_by_the_settings(self) -> None:
        ours = TLS()
        for plain in ("127.0.0.1:5050", "[::1]:5050"):
            self.assertNotEqual(self.kind(plain), "TLSClientEndpoint")
            self.assertEqual(self.kind(plain, ours), "TLSClientEndpoint")
        for named in ("tls:127.0.0.1:5050", "ssl:127.0.0.1:5050", "tls:[::1]:5050"):
            self.assertEqual(self.kind(named), "TLSClientEndpoint")
            self.assertEqual(self.kind(named, ours), "TLSClientEndpoint")

    def test_what_is_no_place(self) -> None:
        for wrong in ("tls:127.0.0.1:0", "tls:127.0.0.1:x", "tls::5050"):
            self.assertRaises(EndpointError, client_endpoint, object(), wrong)


class Listening:
    """A port with TLS on a reactor of its own."""

    def __init__(self, case: SynchronousTestCase, tls: TLS, plain: bool = False) -> None:
        self.sockets = Sockets()
        case.addCleanup(self.sockets.close)
        self.case = case
        self.ear = Ear()
        native = StreamFactory(self.ear, MASTER, clock=self.sockets.reactor)
        self.sockets.factories.append(native)
        self.port = PortFactory(
            native, clock=self.sockets.reactor, tls=tls.server(), settings=PortSettings(plain=plain)
        )
        self.where = self.sockets.listen("127.0.0.1:0", self.port)

    def dial(self, tls: TLS | None, where: str | None = None) -> Any:
        """Dial; returns the link, or the error."""
        dialled = dial(where or self.where, Ear(), AGENT, clock=self.sockets.reactor, tls=tls)
        results: list[Any] = []
        dialled.addBoth(results.append)
        self.sockets.spin(lambda: bool(results))
        return getattr(results[0], "value", results[0])

    def refuses(self, tls: TLS | None, *words: str, where: str | None = None) -> None:
        error = self.dial(tls, where)
        self.case.assertIsInstance(error, DialFailed)
        for word in words:
            self.case.assertIn(word, str(error))


class _Older(TLS):
    """Knows nothing newer than TLS 1.2."""

    def _options(self, loaded: Any) -> dict[str, Any]:
        return {"lowerMaximumSecurityTo": TLSVersion.TLSv1_2}


class HandshakeTests(SynchronousTestCase):
    """Who is believed, and who is not."""

    def setUp(self) -> None:
        self.files = Files(self)
        self.trusting = TLS(ca_file=self.files.ca)

    def listening(self, *hosts: str, **more: Any) -> Listening:
        return Listening(self, TLS(**self.files.pair("server", *hosts), **more))

    def test_a_server_by_its_address_and_by_its_name(self) -> None:
        server = self.listening("127.0.0.1", "localhost")
        link = server.dial(self.trusting)
        link.send(text("hello"))
        server.sockets.spin(lambda: server.ear.words == ["hello"])
        reactor = server.sockets.reactor
        plain = client_endpoint(reactor, server.where)
        named = TLSClientEndpoint(reactor, plain, self.trusting, "localhost")
        dial(named, Ear(), AGENT, clock=reactor).addCallback(lambda one: one.send(text("again")))
        server.sockets.spin(lambda: "again" in server.ear.words)

    def test_a_server_that_is_somebody_else(self) -> None:
        server = self.listening("elsewhere.example", "127.0.0.2")
        server.refuses(self.trusting, "the certificate is not for the name that was dialled")

    def test_a_server_of_an_unknown_authority(self) -> None:
        server = self.listening("127.0.0.1")
        other = write(self.files.home / "other.pem", Authority().certificate)
        server.refuses(TLS(ca_file=other), "TLS: certificate verify failed")
        server.refuses(None, "TLS", where=f"tls:{server.where}")

    def test_whoever_is_there_where_nobody_wants_to_know(self) -> None:
        server = self.listening("elsewhere.example")
        link = server.dial(TLS(verify_server=False))
        link.send(text("trusting"))
        server.sockets.spin(lambda: server.ear.words == ["trusting"])

    def test_clients_must_have_a_certificate(self) -> None:
        server = self.listening("127.0.0.1", ca_file=self.files.ca, require_client_cert=True)
        server.refuses(self.trusting)
        stranger = Authority().issue("stranger", client=True)
        wrong = TLS(
            ca_file=self.files.ca,
            cert_file=write(self.files.home / "stranger.pem", stranger[0]),
            key_file=write(self.files.home / "stranger-key.pem", stranger[1], private=True),
        )
        server.refuses(wrong)
        right = TLS(ca_file=self.files.ca, **self.files.pair("agent-7", client=True))
        server.dial(right).send(text("known"))
        server.sockets.spin(lambda: server.ear.words == ["known"])
        self.assertEqual(server.port.counters.errors.get("tls", 0), 0)

    def test_clients_may_have_a_certificate(self) -> None:
        server = self.listening("127.0.0.1", ca_file=self.files.ca, verify_client=True)
        server.dial(self.trusting).send(text("without"))
        right = TLS(ca_file=self.files.ca, **self.files.pair("agent-7", client=True))
        server.dial(right).send(text("with"))
        server.sockets.spin(lambda: sorted(server.ear.words) == ["with", "without"])

    def test_an_older_version_is_not_taken(self) -> None:
        server = self.listening("127.0.0.1", min_version="1.3")
        server.refuses(_Older(ca_file=self.files.ca), "TLS")
        server.dial(TLS(ca_file=self.files.ca, min_version="1.3")).send(text("new"))
        server.sockets.spin(lambda: server.ear.words == ["new"])

    def test_who_speaks_without_tls_is_closed(self) -> None:
        server = self.listening("127.0.0.1")
        server.refuses(None, where=f"tcp:{server.where}")
        self.assertEqual(server.port.counters.errors["plain"], 1)

    def test_both_on_one_port_where_that_is_wanted(self) -> None:
        server = Listening(self, TLS(**self.files.pair("server", "127.0.0.1")), plain=True)
        server.dial(None).send(text("plain"))
        server.dial(self.trusting).send(text("secure"))
        server.sockets.spin(lambda: sorted(server.ear.words) == ["plain", "secure"])

    def test_a_renewed_certificate_is_shown_without_a_restart(self) -> None:
        server = self.listening("elsewhere.example")
        server.refuses(self.trusting, "not for the name")
        self.files.pair("server", "127.0.0.1")
        server.dial(self.trusting).send(text("renewed"))
        server.sockets.spin(lambda: server.ear.words == ["renewed"])

    def test_a_renewal_that_went_wrong_changes_nothing(self) -> None:
        server = self.listening("127.0.0.1")
        write(self.files.home / "server.pem", b"half a certif")
        server.dial(self.trusting).send(text("still here"))
        server.sockets.spin(lambda: server.ear.words == ["still here"])


class SlowTests(SynchronousTestCase):
    """Who begins a handshake and does not end it has no more time than who says nothing."""

    def setUp(self) -> None:
        self.clock = Clock()
        files = Files(self)
        self.port = PortFactory(
            StreamFactory(Ear(), MASTER, clock=self.clock),
            clock=self.clock,
            tls=TLS(**files.pair("server", "127.0.0.1")).server(),
            settings=PortSettings(plain=False, undecided=2),
        )

    def come(self, said: bytes) -> tuple[Client, Wires]:
        client = Client()
        wires = Wires(self.clock, self.port.buildProtocol(None), client)
        client.transport.write(said)
        wires.spin()
        return client, wires

    def test_half_a_handshake(self) -> None:
        client, wires = self.come(b"\x16\x03\x01\x02\x00\x01")
        self.clock.advance(4.9)
        self.assertEqual(client.lost, 0)
        self.clock.advance(0.2)
        wires.spin()
        self.assertEqual(client.lost, 1)
        self.assertEqual(self.port.counters.errors, {"undecided": 1})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_halves_of_handshakes(self) -> None:
        clients = [self.come(b"\x16\x03\x01\x02\x00\x01") for _ in range(4)]
        for _, wires in clients:
            wires.spin()
        self.assertEqual([client.lost for client, _ in clients], [1, 1, 0, 0])

    def test_what_is_no_handshake(self) -> None:
        client, wires = self.come(b"\x16" + bytes(200))
        wires.spin()
        self.assertEqual(client.lost, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DialledContractTests(SocketContract, SynchronousTestCase):
    """The promises over TLS as daemons use it, with certificates on both sides."""

    def listening(self, sockets: Sockets, native: StreamFactory) -> IStreamClientEndpoint:
        files = Files(self)
        server = TLS(
            **files.pair("server", "127.0.0.1"), ca_file=files.ca, require_client_cert=True
        )
        port = PortFactory(
            native, clock=sockets.reactor, tls=server.server(), settings=PortSettings(plain=False)
        )
        client = TLS(**files.pair("client", client=True), ca_file=files.ca)
        where = sockets.listen("127.0.0.1:0", port)
        return client_endpoint(sockets.reactor, where, client)
