"""TLS: a side's certificate and whom it trusts, and what makes connections of them.

One L{TLS} serves both ways: what a daemon shows on its port, and how it dials others. Its files
are read once they are needed and again when they have changed, so that a certificate can be
renewed without a restart. Nothing here costs anything before that: OpenSSL is imported by who
uses it (see L{mesoskit.app.late_tls}).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from mesoskit.wire.auth.credentials import CredentialError, read_private
from mesoskit.wire.files import FileRefused, read_file, stamp

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

VERSIONS: Final = ("1.2", "1.3")
"""The versions of TLS that may be the lowest one; those before are broken."""

SOON: Final = timedelta(days=14)
"""A certificate that expires so soon is worth a warning."""

_MOST_FILES: Final = 10_000
_YES: Final = frozenset({"1", "true"})


class TLSError(ValueError):
    """Certificates, keys or settings cannot be used; the message names the file."""


@dataclass(frozen=True)
class _Loaded:
    """What the files held, as pyOpenSSL has it."""

    seen: tuple[Any, ...]
    key: Any
    certificate: Any
    chain: list[Any]
    authorities: list[Any]


class TLS:
    """
    What one side has and wants of TLS.

    @ivar cert_file: its certificate, PEM; those of authorities between it and the root may follow.
    @ivar key_file: the certificate's key, PEM without a passphrase, for its owner alone.
    @ivar ca_file: certificates of the authorities that it believes, PEM.
    @ivar ca_dir: a directory of such files. Without either, the machine's own are believed.
    @ivar verify_client: whether clients are asked for a certificate, which must be good if there
        is one.
    @ivar require_client_cert: whether clients must have one.
    @ivar verify_server: whether who is dialled must prove that it has the name that was dialled.
    @ivar min_version: the oldest version of TLS taken: one of L{VERSIONS}.
    """

    log = Logger()

    def __init__(
        self,
        *,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        ca_dir: str | Path | None = None,
        verify_client: bool = False,
        require_client_cert: bool = False,
        verify_server: bool = True,
        min_version: str = "1.2",
    ) -> None:
        """Take the settings; files are not looked at. Raises L{TLSError}."""
        if (cert_file is None) != (key_file is None):
            given = f"certificate {cert_file}" if key_file is None else f"key {key_file}"
            raise TLSError(f"the {given} is of no use alone: certificate and key go together")
        if min_version not in VERSIONS:
            raise TLSError(f"{min_version!r} is no version of TLS to begin with; 1.2 or 1.3 is")
        verify_client = verify_client or require_client_cert
        if verify_client and ca_file is None and ca_dir is None:
            raise TLSError(
                "clients' certificates cannot be verified without a CA of one's own: every"
                " certificate that anybody has bought would be good"
            )
        self.cert_file = _path(cert_file)
        self.key_file = _path(key_file)
        self.ca_file = _path(ca_file)
        self.ca_dir = _path(ca_dir)
        self.verify_client = verify_client
        self.require_client_cert = require_client_cert
        self.verify_server = verify_server
        self.min_version = min_version
        self._loaded: _Loaded | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> TLS | None:
        """
        Return what Mesos' variables say (C{LIBPROCESS_SSL_ENABLED} and its kin, C{docs/ssl.md} of
        Apache Mesos); L{None} where TLS is not enabled there. Raises L{TLSError}.

        Unlike there, servers are verified unless C{LIBPROCESS_SSL_VERIFY_SERVER_CERT} (or
        C{LIBPROCESS_SSL_VERIFY_CERT}) is set and says no.
        """
        given = settings_of(os.environ if environment is None else environment)
        if given is None:
            return None
        given.pop("support_downgrade", None)
        return cls(**given)

    def check(self) -> None:
        """Read the files now. Raises L{TLSError}."""
        self._current(strict=True)

    def server(self) -> Any:
        """
        Return an C{IOpenSSLServerConnectionCreator} that shows the certificate.

        Raises L{TLSError}. What becomes of the files later is logged where it is wrong, and what
        they held before goes on to count.
        """
        if self.cert_file is None:
            raise TLSError("a port with TLS needs a certificate and its key")
        self.check()
        return _server(self)

    def client(self, host: str) -> Any:
        """
        Return an C{IOpenSSLClientConnectionCreator} for dialling C{host}, a name or an address.

        Raises L{TLSError}.
        """
        from twisted.internet import ssl

        twisted_ssl: Any = ssl
        loaded = self._current()
        options = self._options(loaded)
        if not self.verify_server:
            if loaded.key is not None:
                options.update(privateKey=loaded.key, certificate=loaded.certificate)
            return _unverified(host, options)
        certificate, mine = twisted_ssl.Certificate, None
        if loaded.key is not None:
            mine = twisted_ssl.PrivateCertificate.fromCertificateAndKeyPair(
                certificate(loaded.certificate), twisted_ssl.KeyPair(loaded.key)
            )
        trusted = twisted_ssl.platformTrust()
        if loaded.authorities:
            believed = [certificate(one) for one in loaded.authorities]
            trusted = twisted_ssl.trustRootFromCertificates(believed)
        return twisted_ssl.optionsForClientTLS(
            host, trustRoot=trusted, clientCertificate=mine, extraCertificateOptions=options
        )

    def server_options(self) -> Any:
        """Return the C{CertificateOptions} of a port, as the files are now."""
        return self._server_options(self._current())

    # What the files hold.

    def _server_options(self, loaded: _Loaded) -> Any:
        from OpenSSL import SSL
        from twisted.internet.ssl import CertificateOptions

        more: dict[str, Any] = {}
        if self.verify_client:
            more = {
                "verify": True,
                "requireCertificate": self.require_client_cert,
                "caCerts": loaded.authorities,
            }
        options: Any = CertificateOptions(
            privateKey=loaded.key,
            certificate=loaded.certificate,
            **self._options(loaded),
            **more,
        )
        # Who may begin handshakes again and again makes this side compute for nothing.
        options.getContext().set_options(SSL.OP_NO_RENEGOTIATION)
        return options

    def _options(self, loaded: _Loaded) -> dict[str, Any]:
        from twisted.internet.ssl import TLSVersion

        lowest = TLSVersion.TLSv1_3 if self.min_version == "1.3" else TLSVersion.TLSv1_2
        options: dict[str, Any] = {"raiseMinimumTo": lowest}
        if loaded.chain:
            options["extraCertChain"] = loaded.chain
        return options

    def _current(self, strict: bool = False) -> _Loaded:
        """Return what the files hold; what they held before where that is of no use."""
        seen = self._look()
        loaded = self._loaded
        if loaded is not None and loaded.seen == seen:
            return loaded
        try:
            fresh = self._load(seen)
        except TLSError as error:
            if loaded is None or strict:
                raise
            self.log.error("What it held before goes on to count: {error}", error=error)
            fresh = _Loaded(seen, loaded.key, loaded.certificate, loaded.chain, loaded.authorities)
        else:
            if loaded is not None:
                self.log.info("{path} or what belongs to it was read again", path=self._name())
        self._loaded = fresh
        return fresh

    def _name(self) -> str:
        return self.cert_file or self.ca_file or str(self.ca_dir)

    def _look(self) -> tuple[Any, ...]:
        return tuple(
            None if path is None else stamp(path)
            for path in (self.cert_file, self.key_file, self.ca_file, self.ca_dir)
        )

    def _load(self, seen: tuple[Any, ...]) -> _Loaded:
        from OpenSSL.crypto import X509, PKey

        key = certificate = None
        chain: list[Any] = []
        if self.cert_file is not None and self.key_file is not None:
            own, *between = _certificates(self.cert_file)
            left = _check_times(self.cert_file, own)
            if left < SOON:
                self.log.warn(
                    "{path}: the certificate expires in {days} days; a new one in its place is"
                    " taken without a restart",
                    path=self.cert_file,
                    days=left.days,
                )
            private = _private_key(self.key_file)
            if private.public_key() != own.public_key():
                raise TLSError(
                    f"{self.key_file}: is not the key of the certificate in {self.cert_file}"
                )
            key = PKey.from_cryptography_key(private)
            certificate = X509.from_cryptography(own)
            chain = [X509.from_cryptography(one) for one in between]
        believed = [] if self.ca_file is None else _certificates(self.ca_file)
        if self.ca_dir is not None:
            believed += _directory(self.ca_dir)
        return _Loaded(
            seen, key, certificate, chain, [X509.from_cryptography(one) for one in believed]
        )


def settings_of(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """
    Return what C{LIBPROCESS_SSL_*} says, by the names of L{TLS} and C{support_downgrade}; L{None}
    where it enables nothing. Raises L{TLSError}.
    """

    def said(*names: str) -> str | None:
        found = (environment.get(f"LIBPROCESS_SSL_{name}") for name in names)
        return next((value for value in found if value), None)

    def says(default: bool, *names: str) -> bool:
        value = said(*names)
        return default if value is None else value.lower() in _YES

    if not says(False, "ENABLED"):
        return None
    given: dict[str, Any] = {
        name: said(name.upper())
        for name in ("cert_file", "key_file", "ca_file", "ca_dir")
        if said(name.upper())
    }
    given["verify_server"] = says(True, "VERIFY_SERVER_CERT", "VERIFY_CERT")
    given["require_client_cert"] = says(False, "REQUIRE_CLIENT_CERT", "REQUIRE_CERT")
    if not says(True, "ENABLE_TLS_V1_2"):
        given["min_version"] = "1.3"
    given["support_downgrade"] = says(False, "SUPPORT_DOWNGRADE")
    return given


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """TLS over another endpoint."""

    def __init__(self, reactor: Any, inner: IStreamClientEndpoint, tls: TLS, host: str) -> None:
        self._reactor = reactor
        self._inner = inner
        self._tls = tls
        self._host = host

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Connect; fires with the protocol inside when the connection is there, before the
        handshake. Fails with L{TLSError} where the files are of no use.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory

        try:
            creator = self._tls.client(self._host)
        except TLSError as error:
            return fail(error)
        outer: Any = TLSMemoryBIOFactory(creator, True, protocolFactory, self._reactor)
        connecting: Deferred[Any] = self._inner.connect(outer)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def subject_of(transport: Any) -> str | None:
    """Return the subject of the certificate that a TLS peer has shown, L{None} without one."""
    ask = getattr(transport, "getPeerCertificate", None)
    shown = None if ask is None else ask()
    if shown is None:
        return None
    return cast(str, shown.to_cryptography().subject.rfc4514_string())


# Files.


def _path(path: str | Path | None) -> str | None:
    return None if path is None else str(path).removeprefix("file://")


def _certificates(path: str) -> list[X509]:
    """Return the certificates of a file, at least one."""
    from cryptography import x509

    try:
        data = read_file(path)
    except FileRefused as error:
        raise TLSError(str(error)) from None
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise TLSError(
            f"{path}: holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
        ) from None


def _directory(path: str) -> list[X509]:
    """Return the certificates of all files in a directory that hold some."""
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise TLSError(f"{path}: cannot be read: {error.strerror}") from None
    found: dict[bytes, X509] = {}
    for name in names[:_MOST_FILES]:
        one = os.path.join(path, name)
        if not os.path.isfile(one):
            continue
        try:
            certificates = _certificates(one)
        except TLSError:
            # Such directories hold lists of what was revoked, and notes, as well.
            continue
        for certificate in certificates:
            # OpenSSL's directories have each twice: by its name, and by a hash.
            found[certificate.tbs_certificate_bytes] = certificate
    if not found:
        raise TLSError(f"{path}: holds no file with a certificate in PEM")
    return list(found.values())


def _private_key(path: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        text = read_private(path)
    except CredentialError as error:
        raise TLSError(str(error)) from None
    try:
        return load_pem_private_key(text.encode(), None)
    except TypeError:
        raise TLSError(f"{path}: the key has a passphrase; one without is needed") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TLSError(
            f"{path}: holds no key in PEM, which begins with -----BEGIN PRIVATE KEY-----"
        ) from None


def _check_times(path: str, certificate: X509) -> timedelta:
    """Return how long a certificate is valid. Raises L{TLSError} where it is not."""
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise TLSError(
            f"{path}: the certificate has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    if certificate.not_valid_before_utc > now:
        raise TLSError(
            f"{path}: the certificate is not valid before"
            f" {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        )
    return certificate.not_valid_after_utc - now


# What makes connections.


def _server(tls: TLS) -> Any:
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
    from zope.interface import implementer

    @implementer(IOpenSSLServerConnectionCreator)
    class Shown:
        """Shows the certificate as it is when a connection comes."""

        def __init__(self) -> None:
            self._of: _Loaded | None = None
            self._options: Any = None

        def serverConnectionForTLS(self, protocol: Any) -> Any:
            """Return the connection of one peer."""
            current = tls._current()
            if current is not self._of:
                self._options = tls._server_options(current)
                self._of = current
            return self._options.serverConnectionForTLS(protocol)

    return Shown()


def _unverified(host: str, options: dict[str, Any]) -> Any:
    """Return what encrypts and believes whoever is there."""
    from twisted.internet.abstract import isIPAddress, isIPv6Address
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
    from twisted.internet.ssl import CertificateOptions
    from zope.interface import implementer

    @implementer(IOpenSSLClientConnectionCreator)
    class Credulous:
        """Makes connections for one host."""

        def __init__(self) -> None:
            self._options: Any = CertificateOptions(**options)

        def clientConnectionForTLS(self, protocol: Any) -> Any:
            """Return a connection that names the host and asks for no proof of it."""
            connection = self._options.clientConnectionForTLS(protocol)
            if not isIPAddress(host) and not isIPv6Address(host):
                connection.set_tlsext_host_name(host.encode("idna"))
            return connection

    return Credulous()
