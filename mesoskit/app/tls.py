"""How daemons are told about TLS: flags, and what they make.

Where neither C{--tls_cert_file} nor C{--tls_ca_file} nor their kin are given, Mesos' own variables
count (C{LIBPROCESS_SSL_ENABLED} and what goes with it).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mesoskit.flags import Flag, Values, boolean, text

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

_FILES: Final = ("tls_cert_file", "tls_key_file", "tls_ca_file", "tls_ca_dir")


def version(value: str) -> str:
    """Read C{--tls_min_version}: 1.2 or 1.3, also as C{TLSv1.3}."""
    number = value.lower().removeprefix("tls").removeprefix("v")
    if number not in ("1.2", "1.3"):
        raise ValueError("expected 1.2 or 1.3")
    return number


FLAGS: Final = (
    Flag(
        "tls_cert_file",
        text,
        None,
        "This daemon's certificate, PEM; what stands between it and the CA may follow in the file."
        " The port speaks TLS then, and nothing else. Read again when it has changed.",
        is_path=True,
    ),
    Flag(
        "tls_key_file",
        text,
        None,
        "The certificate's key, PEM without a passphrase; nobody but its owner may read it.",
        is_path=True,
    ),
    Flag(
        "tls_ca_file",
        text,
        None,
        "Certificates of the authorities that are believed, PEM; those of the machine by default."
        " Where it is given, others are dialled with TLS.",
        is_path=True,
    ),
    Flag("tls_ca_dir", text, None, "A directory of such files.", is_path=True),
    Flag(
        "tls_verify_client",
        boolean,
        False,
        "Ask who comes for a certificate; one that is shown must be good.",
    ),
    Flag(
        "tls_require_client_cert",
        boolean,
        False,
        "Take only who shows a good certificate.",
    ),
    Flag(
        "tls_verify_server",
        boolean,
        True,
        "Make sure that who is dialled has the name, or the address, that was dialled.",
    ),
    Flag("tls_min_version", version, "1.2", "The oldest version of TLS taken: 1.2 or 1.3."),
    Flag(
        "tls_support_downgrade",
        boolean,
        False,
        "Take connections without TLS on the same port, too.",
    ),
)


class TLSFlagError(ValueError):
    """The flags about TLS do not go together, or what they name cannot be used."""


@dataclass(frozen=True)
class DaemonTLS:
    """
    A daemon's TLS.

    @ivar ours: how others are dialled; L{None}: without TLS, where their addresses do not say it.
    @ivar shown: makes the connections of those who come; L{None} where the port has no TLS.
    @ivar plain: whether the port takes connections without TLS.
    """

    ours: "TLS | None" = None
    shown: Any = None
    plain: bool = True


NONE: Final = DaemonTLS()
"""No TLS, where addresses do not say it."""


def daemon_tls(values: Values, environment: Mapping[str, str] | None = None) -> DaemonTLS:
    """Return what the flags say, or Mesos' variables. Raises L{TLSFlagError}."""
    environment = os.environ if environment is None else environment
    given, downgrade = _given(values), values.tls_support_downgrade
    flagged = given is not None
    if given is None and environment.get("LIBPROCESS_SSL_ENABLED"):
        from mesoskit.wire.tls import settings_of

        given = settings_of(environment)
        downgrade = given is not None and given.pop("support_downgrade")
    if given is None:
        for name in ("tls_verify_client", "tls_require_client_cert", "tls_support_downgrade"):
            if getattr(values, name):
                raise TLSFlagError(f"--{name} says something about TLS, which has no certificate")
        return DaemonTLS()

    from mesoskit.wire.tls import TLS, TLSError

    where = "--tls" if flagged else "LIBPROCESS_SSL_ENABLED"
    try:
        ours = TLS(**given)
        ours.check()
        shown = None if ours.cert_file is None else ours.server()
    except TLSError as error:
        raise TLSFlagError(f"{where}: {error}") from None
    if shown is None and (downgrade or ours.verify_client):
        raise TLSFlagError(f"{where}: the port has no TLS without a certificate and its key")
    return DaemonTLS(ours, shown, shown is None or downgrade)


def _given(values: Values) -> dict[str, Any] | None:
    """Return the flags by the names that L{TLS} has for them, L{None} where no file is named."""
    if all(getattr(values, name) is None for name in _FILES):
        return None
    names = (*_FILES, "tls_verify_client", "tls_require_client_cert", "tls_verify_server")
    return {
        name.removeprefix("tls_"): getattr(values, name) for name in (*names, "tls_min_version")
    }
