"""Where to listen and whom to dial, as text.

Two ways of saying it: C{"host:port"} (C{"127.0.0.1:5050"}, C{"[::1]:5050"}), which is
TCP, and Twisted's own endpoint strings (C{"unix:/run/mesoskit/agent.sock"},
C{"ssl:5050:privateKey=key.pem"}), with everything that Twisted's plugins add to them. To dial,
C{"tls:master.example:5050"} (or C{ssl:}) is TLS in any case, C{"host:port"} where the caller has
settings for it, and C{"tcp:host:port"} never.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

#: Connections that may wait to be accepted; Twisted's 50 stall a burst of agents for a second.
BACKLOG: Final = 1024

# The address of a UNIX socket has room for so many bytes, one of them the final zero.
_SUN_PATH: Final = 108

_HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^:=\[\]\s]*):(?P<port>[^:=]*)")
# Twisted's own words before the first colon, which are no host names here.
_WORDS: Final = frozenset({"tcp", "tcp6", "ssl", "tls", "unix", "systemd", "stdio", "fd"})
_SECURE: Final = re.compile(r"(?:tls|ssl):(?P<place>(?:\[[^=\]]*\]|[^:=\[\]]*):[^:=]*)")
_TAKE_BACKLOG: Final = ("tcp:", "tcp6:", "ssl:", "unix:")


class EndpointError(ValueError):
    """The text names nothing that can be listened on, or dialled."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text!r} is no endpoint: {why}")


def client_endpoint(reactor: Any, text: str, tls: TLS | None = None) -> IStreamClientEndpoint:
    """
    Return what dials C{text}; raises L{EndpointError}.

    @param reactor: provides what the kind of endpoint needs (C{IReactorTCP} …).
    @param tls: what there is of certificates and trust; where it is given, C{host:port} is
        dialled with TLS, too. Without it C{tls:host:port} trusts whom the machine does.
    """
    secure = _SECURE.fullmatch(text)
    if secure is not None:
        from mesoskit.wire.tls import TLS

        return _over_tls(reactor, secure["place"], TLS() if tls is None else tls, text)
    if tls is not None and _host_port(text) is not None:
        return _over_tls(reactor, text, tls, text)
    # They bring in all their kinds; whoever dials and listens by other means goes without.
    from twisted.internet.endpoints import (
        HostnameEndpoint,
        TCP4ClientEndpoint,
        TCP6ClientEndpoint,
        clientFromString,
    )

    found = _host_port(text)
    if found is not None:
        host, port = found
        if not host:
            raise EndpointError(text, "the host is missing; 127.0.0.1:5050 would do")
        if port == 0:
            raise EndpointError(text, "nobody can be dialled at port 0")
        if isIPAddress(host):
            return TCP4ClientEndpoint(reactor, host, port)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(reactor, host, port)  # type: ignore[no-untyped-call]
        return HostnameEndpoint(reactor, host.encode("idna"), port)
    _check_unix(text)
    endpoint: IStreamClientEndpoint = _parsed(clientFromString, reactor, text, text)
    return endpoint


def _over_tls(reactor: Any, place: str, tls: TLS, text: str) -> IStreamClientEndpoint:
    # A daemon's reactor may have left TLS out until somebody asks for it.
    import twisted.internet.ssl  # noqa: F401

    from mesoskit.wire.tls import TLSClientEndpoint

    found = _host_port(place)
    if found is None:
        raise EndpointError(text, "tls:host:port is expected, such as tls:127.0.0.1:5050")
    return TLSClientEndpoint(reactor, client_endpoint(reactor, place), tls, found[0])


def server_endpoint(reactor: Any, text: str) -> IStreamServerEndpoint:
    """
    Return what listens at C{text}; raises L{EndpointError}.

    Port 0 takes a free one; C{getHost()} of the port that is listened on, or
    L{address_text} of it, says which. A UNIX socket is the owner's alone unless C{mode=}
    says otherwise, and the file that a killed process left behind is replaced.
    """
    from twisted.internet.endpoints import (
        TCP4ServerEndpoint,
        TCP6ServerEndpoint,
        serverFromString,
    )

    found = _host_port(text)
    if found is not None:
        host, port = found
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        endpoint: IStreamServerEndpoint = kind(reactor, port, backlog=BACKLOG, interface=host)
        return endpoint
    _check_unix(text)
    description = text
    if text.startswith(_TAKE_BACKLOG) and ":backlog=" not in text:
        description += f":backlog={BACKLOG}"
    if text.startswith("unix:") and ":mode=" not in text:
        description += ":mode=600"
    parsed: IStreamServerEndpoint = _parsed(serverFromString, reactor, description, text)
    return parsed


def address_text(address: object) -> str:
    """Return an L{IAddress} as people write it: C{127.0.0.1:5050}, C{[::1]:5050}, C{unix:/path}."""
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        # Who dials has no name of its own there.
        name = address.name
        return "unix:" + name.decode(errors="replace") if name else "unix"
    return str(address)


def why_lost(reason: Failure) -> str:
    """Return why a connection was lost, in words; those of OpenSSL are a list of lists."""
    error: Any = reason.value
    kind = type(error)
    if kind.__module__.startswith("OpenSSL") and error.args and isinstance(error.args[0], list):
        said = [part[-1] for part in error.args[0] if part and part[-1]]
        return "TLS: " + (", ".join(said) or kind.__name__)
    if kind.__module__.startswith("service_identity"):
        return "TLS: the certificate is not for the name that was dialled"
    return reason.getErrorMessage()


def _host_port(text: str) -> tuple[str, int] | None:
    """Return host and port where the text is C{host:port}, L{None} where it is not meant to be."""
    if ":" not in text:
        raise EndpointError(text, "the port is missing; 127.0.0.1:5050 would do")
    match = _HOST_PORT.fullmatch(text)
    if match is None or match["host"] in _WORDS:
        return None
    try:
        port = int(match["port"])
    except ValueError:
        raise EndpointError(text, f"{match['port']!r} is no port number") from None
    if not 0 <= port <= 65535:
        raise EndpointError(text, f"port {port} is not within 0 to 65535")
    return match["host"].strip("[]"), port


def _check_unix(text: str) -> None:
    if text.startswith("unix:"):
        path = text.split(":")[1].removeprefix("path=").removeprefix("address=")
        size = len(path.encode())
        if not path:
            raise EndpointError(text, "the path is missing; unix:/run/agent.sock would do")
        if size >= _SUN_PATH:
            raise EndpointError(
                text, f"a socket's path has at most {_SUN_PATH - 1} bytes, this one {size}"
            )


def _parsed(parse: Callable[[Any, str], Any], reactor: Any, description: str, text: str) -> Any:
    """Let Twisted parse it. What it raises for wrong text is of many kinds."""
    if description.startswith(("ssl:", "tls:")):
        # A daemon's reactor may have left TLS out until somebody asks for it.
        import twisted.internet.ssl  # noqa: F401
    scheme, _, place = text.partition("://")
    if scheme in ("http", "https") and place:
        raise EndpointError(text, f"the address alone is expected: {place.partition('/')[0]}")
    try:
        return parse(reactor, description)
    except TypeError as error:
        # An argument is missing or unknown; the text names it, and Twisted's own function.
        raise EndpointError(text, re.sub(r"^\S+\(\) ", "", str(error))) from error
    except Exception as error:
        raise EndpointError(text, str(error)) from error
