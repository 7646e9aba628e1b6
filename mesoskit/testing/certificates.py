"""Certificates for trying TLS out: an authority of one's own, a server's and a client's.

C{python -m mesoskit.testing.certificates certs} (C{make certs}) writes them to a directory.
They are as good as any others, but the authority's key lies beside them: for a cluster that
matters, keep that somewhere else, or use the authority that you have.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCAL: Final = ("localhost", "127.0.0.1", "::1")
"""What a server's certificate is for besides its own name."""

DAYS: Final = 365


class Authority:
    """
    An authority that signs certificates.

    @ivar certificate: its own, as PEM.
    """

    def __init__(self, name: str = "mesoskit trial CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = (
            _builder(self._name, self._name, self._key, 10 * DAYS, 0)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def certificate(self) -> bytes:
        """What others must believe in, as PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its secret, as PEM."""
        return _key_text(self._key)

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = (),
        *,
        client: bool = False,
        days: float = DAYS,
        age: float = 1,
    ) -> tuple[bytes, bytes]:
        """
        Return a certificate and its key, as PEM.

        @param hosts: names and addresses that it is good for, if it is a server's.
        @param client: whether it is for clients alone; otherwise for both.
        @param days: after which it has expired, from now; may be negative.
        @param age: days that it has been valid for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if not client:
            uses.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(_name(name), self._name, key, days, age)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = [_host(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM), _key_text(key)


def write(path: Path, data: bytes, private: bool = False) -> Path:
    """Write a file, for its owner alone where it is C{private}."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600 if private else 0o644)
        file.write(data)
    return path


def make(directory: Path, hosts: Sequence[str] = ()) -> None:
    """
    Write C{ca.pem}, C{server.pem}, C{client.pem} and their keys (C{ca-key.pem} …).

    @param hosts: what the server is called besides L{LOCAL} and this machine's name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    write(directory / "ca.pem", authority.certificate)
    write(directory / "ca-key.pem", authority.key, private=True)
    names = dict.fromkeys([*hosts, socket.gethostname(), *LOCAL])
    certificate, key = authority.issue("mesoskit server", tuple(names))
    write(directory / "server.pem", certificate)
    write(directory / "server-key.pem", key, private=True)
    certificate, key = authority.issue("mesoskit client", client=True)
    write(directory / "client.pem", certificate)
    write(directory / "client-key.pem", key, private=True)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, days: float, age: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=age, hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_text(key: Any) -> bytes:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the files to the directory named first; further names are the server's."""
    if not arguments or arguments[0].startswith("-"):
        sys.stderr.write("Usage: python -m mesoskit.testing.certificates DIRECTORY [HOST ...]\n")
        return 1
    where = Path(arguments[0])
    make(where, arguments[1:])
    sys.stdout.write(
        f"{where}: ca.pem, server.pem, server-key.pem, client.pem, client-key.pem, ca-key.pem\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
