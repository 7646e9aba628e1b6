"""Where a v1 API is: C{http://} and C{https://} addresses, and redirects from one to another."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.abstract import isIPv6Address
from twisted.internet.interfaces import IStreamClientEndpoint

from mesoskit.wire.endpoints import EndpointError, client_endpoint

SCHEMES: Final = ("http://", "https://")
"""What the text of such a place begins with."""

Secure = Callable[[str], Any]
"""
Returns what makes TLS connections to a host (C{IOpenSSLClientConnectionCreator}):
L{mesoskit.wire.tls.TLS.client}, for instance.
"""

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+")
_PATH: Final = re.compile(r"/[!-~]*")


@dataclass(slots=True, frozen=True)
class HttpPlace:
    """
    An address of an HTTP server, and a path on it.

    @ivar secure: whether over TLS.
    @ivar host: a name or an address, without brackets.
    @ivar path: C{""} where the address names none.
    """

    secure: bool
    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port, as C{Host} has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> HttpPlace:
        """
        Read C{http://host:port} or C{https://host:port}, with a path or without; raises
        L{EndpointError}. Without a port it is 80 or 443, as everywhere.
        """
        shown = _without_secret(text)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise EndpointError(shown, str(error)) from None
        if parts.scheme not in _PORTS:
            raise EndpointError(shown, "it must begin with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise EndpointError(shown, "a name or secret does not belong there, but in credential=")
        if not parts.hostname:
            raise EndpointError(shown, "the host is missing; http://127.0.0.1:5050 would do")
        if not _is_host(parts.hostname):
            raise EndpointError(shown, f"{parts.hostname!r} is no name and no address")
        if port == 0:
            raise EndpointError(shown, "nobody can be dialled at port 0")
        if parts.query or parts.fragment:
            raise EndpointError(shown, "a query or fragment means nothing there")
        path = "" if parts.path == "/" else parts.path
        if path and not _PATH.fullmatch(path):
            raise EndpointError(shown, f"{path!r} is no path")
        return cls(parts.scheme == "https", parts.hostname, port or _PORTS[parts.scheme], path)

    def follow(self, location: str) -> HttpPlace:
        """
        Return where a C{Location} header leads from here; raises L{EndpointError}.

        Mesos' masters say C{//host:port/path}. What is asked for over TLS does not go on
        without it.
        """
        shown = _without_secret(location)
        if location.startswith("//"):
            location = ("https:" if self.secure else "http:") + location
        elif location.startswith("/"):
            if not _PATH.fullmatch(location):
                raise EndpointError(shown, "this is no path")
            return replace(self, path=location)
        place = HttpPlace.parse(location)
        if self.secure and not place.secure:
            raise EndpointError(shown, f"{self} leads there, and it is not https://")
        return place

    def endpoint(self, reactor: Any, secure: Secure | None) -> IStreamClientEndpoint:
        """
        Return what dials it.

        @param secure: how TLS is spoken; by default as the machine's own certificates have it.
        """
        plain = client_endpoint(reactor, self.authority)
        if not self.secure:
            return plain
        # TLS first: a daemon's endpoints may have left it out until somebody asks for it.
        from twisted.internet import ssl
        from twisted.internet.endpoints import wrapClientTLS

        creator = ssl.optionsForClientTLS(self.host) if secure is None else secure(self.host)
        endpoint: IStreamClientEndpoint = wrapClientTLS(creator, plain)
        return endpoint


def is_http(text: object) -> bool:
    """Tell whether this is meant to be such an address."""
    return isinstance(text, str) and text.startswith(SCHEMES)


def _is_host(host: str) -> bool:
    if isIPv6Address(host):
        return True
    try:
        return _HOST.fullmatch(host.encode("idna")) is not None
    except UnicodeError:
        return False


def _without_secret(text: str) -> str:
    """Return the text as it may be shown."""
    scheme, slashes, rest = text.partition("//")
    return scheme + slashes + rest.rpartition("@")[2] if "@" in rest else text
