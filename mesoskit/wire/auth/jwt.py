"""Tokens that say something and prove it: JWT (RFC 7519) signed by HMAC with SHA-256, no other.

Mesos' agent gives one to each executor (C{src/authentication/executor/jwt_secret_generator.cpp})
and has its claims read by C{3rdparty/libprocess/src/jwt.cpp}. Why a token is refused goes to the
client in C{WWW-Authenticate}, so the reasons and their order are those of that file; no library
has them, which is why there is none here.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from math import isfinite
from typing import Any, Final

LONGEST: Final = 8192
"""Of a token, in bytes."""

_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_ALGORITHMS: Final = ("none", "HS256", "RS256")


class InvalidToken(ValueError):
    """A token proves nothing; the message is Mesos' and has nothing of the key in it."""


def sign(claims: Mapping[str, str], key: bytes) -> str:
    """Return a token that says this."""
    said = (
        f"{_encoded(_HEADER)}.{_encoded(json.dumps(dict(claims), separators=(',', ':')).encode())}"
    )
    return f"{said}.{_encoded(_signature(said, key))}"


def verify(token: str, key: bytes, now: float) -> dict[str, Any]:
    """
    Return what a token says. Raises L{InvalidToken}.

    @param now: seconds since 1970; a claim C{exp} that lies before is too late.
    """
    parts = token.split(".") if len(token) <= LONGEST else []
    if len(parts) != 3:
        raise InvalidToken(f"Expected 3 components in token, got {len(parts)}")
    _check_header(parts[0])
    try:
        payload = _object(parts[1])
    except InvalidToken as error:
        raise InvalidToken(f"Failed to decode token payload: {error}") from None
    _check_expiry(payload, now)
    try:
        signature = _decoded(parts[2])
    except InvalidToken as error:
        raise InvalidToken(f"Failed to base64url-decode token signature: {error}") from None
    if not hmac.compare_digest(_signature(f"{parts[0]}.{parts[1]}", key), signature):
        raise InvalidToken("Token signature does not match")
    return payload


def _check_header(part: str) -> None:
    try:
        header = _object(part)
    except InvalidToken as error:
        raise InvalidToken(f"Failed to decode token header: {error}") from None
    if not isinstance(header.get("typ", ""), str):
        raise InvalidToken("Token 'typ' is not a string")
    if "alg" not in header:
        raise InvalidToken("Failed to locate 'alg' in token JSON header")
    algorithm = header["alg"]
    if not isinstance(algorithm, str):
        raise InvalidToken("Token 'alg' field is not a string")
    if algorithm not in _ALGORITHMS:
        raise InvalidToken(f"Unsupported token algorithm: {_shown(algorithm)}")
    if "crit" in header:
        raise InvalidToken("Token 'crit' field is unsupported")
    if algorithm != "HS256":
        raise InvalidToken(f'Token \'alg\' value "{algorithm}" does not match, expected "HS256"')


def _check_expiry(payload: Mapping[str, Any], now: float) -> None:
    if "exp" not in payload:
        return
    expires = payload["exp"]
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise InvalidToken("JSON payload 'exp' field is not a number")
    # What cannot be compared (NaN) is as good as over.
    if not expires >= int(now):
        shown = expires if isinstance(expires, int) or not isfinite(expires) else int(expires)
        raise InvalidToken(f"Token has expired: exp({str(shown)[:32]}) < now({int(now)})")


def _object(part: str) -> dict[str, Any]:
    try:
        decoded = _decoded(part)
    except InvalidToken as error:
        raise InvalidToken(f"Failed to base64url-decode: {error}") from None
    try:
        found = json.loads(decoded)
    except (ValueError, RecursionError):
        raise InvalidToken("Failed to parse into JSON: syntax error") from None
    if not isinstance(found, dict):
        raise InvalidToken("Failed to parse into JSON: unexpected JSON type parsed")
    return found


def _decoded(part: str) -> bytes:
    if not _URL_SAFE.fullmatch(part):
        raise InvalidToken("Invalid character")
    bare = part.rstrip("=")
    if len(bare) % 4 == 1:
        raise InvalidToken("Invalid length")
    return urlsafe_b64decode(bare + "=" * (-len(bare) % 4))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _signature(said: str, key: bytes) -> bytes:
    return hmac.digest(key, said.encode(), sha256)


def _shown(text: str) -> str:
    """Return as much of a text as may stand in a header between quotes."""
    return re.sub(r"[^ !#-\[\]-~]", "?", text[:64])


_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
