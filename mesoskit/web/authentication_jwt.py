"""Authentication by tokens (RFC 6750) that say what is claimed: Mesos' way for executors.

The challenges are those of C{3rdparty/libprocess/src/jwt_authenticator.cpp}. A token says who its
bearer is by claims alone; there is no name in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from mesoskit.web.authentication import IHttpAuthenticator, unauthorized
from mesoskit.wire.auth import jwt
from mesoskit.wire.exchange import Asked, Away, Principal


@implementer(IHttpAuthenticator)
class JwtAuthenticator:
    """Tokens signed with one key: what C{--http_authenticators=jwt} stands for."""

    scheme = "Bearer"

    def __init__(self, realm: str, key: bytes, seconds: Callable[[], float]) -> None:
        """
        Prepare.

        @param key: that tokens are signed with.
        @param seconds: returns the time, in seconds since 1970.
        """
        self._realm = realm
        self._key = key
        self._seconds = seconds

    def authenticate(self, asked: Asked) -> Principal | Away:
        """Return what the bearer of the token may claim."""
        header = asked.header("authorization")
        if header is None:
            return self._unauthorized()
        words = header.split(" ")
        if len(words) != 2:
            return self._unauthorized("Malformed 'Authorization' header")
        scheme, token = words
        if scheme != "Bearer":
            return self._unauthorized(f"Scheme '{_shown(scheme)}' unsupported")
        try:
            payload = jwt.verify(token, self._key, self._seconds())
        except jwt.InvalidToken as error:
            return self._unauthorized(f"Invalid JWT: {error}")
        if not payload:
            return self._unauthorized("JWT claims missing")
        return Principal(None, {name: _text(value) for name, value in payload.items()})

    def _unauthorized(self, why: str | None = None) -> Away:
        challenge = f'Bearer realm="{self._realm}"'
        if why is not None:
            # Mesos forgets that quotes within quotes must be escaped.
            quoted = why.replace('"', '\\"')
            challenge += f', error="invalid_token", error_description="{quoted}"'
        return unauthorized(challenge)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _shown(scheme: str) -> str:
    """Return a word of the client's as it may stand between quotes; never what may be a secret."""
    return scheme if re.fullmatch(r"[A-Za-z-]{1,32}", scheme) else "?"
