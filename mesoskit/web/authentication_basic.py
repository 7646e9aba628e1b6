"""Basic authentication (RFC 7617) over a checker of C{twisted.cred}.

The header is read as libprocess reads it (C{BasicAuthenticatorProcess}), except that a secret may
have colons in it. Whatever is wrong with it is answered alike: one challenge, no reason.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from mesoskit.web.authentication import IHttpAuthenticator, unauthorized
from mesoskit.wire.auth.credentials import LONGEST_PRINCIPAL, LONGEST_SECRET
from mesoskit.wire.exchange import Asked, Away, Principal

_LONGEST: Final = 4 * (LONGEST_PRINCIPAL + LONGEST_SECRET) // 3 + 64


@lru_cache(maxsize=16_384)
def _digest(secret: str | bytes) -> bytes:
    """Return the digest of what a checker knows; computed once, so that its length is no matter."""
    return sha256(secret.encode() if isinstance(secret, str) else bytes(secret)).digest()


@implementer(IUsernamePassword, IUsernameHashedPassword)
class BasicClaim:
    """
    What somebody says who he is, and his secret: any checker of names and passwords takes it.

    @ivar username: the principal, in UTF-8.
    @ivar password: the secret, in UTF-8.
    """

    def __init__(self, username: bytes, password: bytes) -> None:
        self.username = username
        self.password = password

    def checkPassword(self, password: Any) -> bool:
        """
        Tell whether this is the secret, in a time that says nothing of how much of it is, or of
        how long the secret is.
        """
        return hmac.compare_digest(_digest(password), sha256(self.password).digest())


class IPrincipal(Interface):
    """What a C{Portal} is asked for: somebody who has a name."""

    principal: str = Attribute("The name, C{str}.")


@implementer(ICredentialsChecker)
class PortalChecker:
    """A C{twisted.cred} portal, whose realm makes an L{IPrincipal} of whoever logs in."""

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Fire with the principal, or fail. Nobody stays logged in beyond the request."""

        def entered(login: tuple[Any, Any, Callable[[], object]]) -> Any:
            _, avatar, leave = login
            leave()
            return avatar.principal

        entering = maybeDeferred(self._portal.login, credentials, None, IPrincipal)
        return entering.addCallback(entered)


@implementer(IHttpAuthenticator)
class BasicAuthenticator:
    """
    Names and secrets in each request: what C{--http_authenticators=basic} stands for.

    @ivar checker: any C{ICredentialsChecker} for C{IUsernameHashedPassword} or
        C{IUsernamePassword}; it may take its time.
    """

    scheme = "Basic"

    def __init__(self, realm: str, checker: ICredentialsChecker) -> None:
        self.checker = checker
        self._away = unauthorized(f'Basic realm="{realm}"')

    def authenticate(self, asked: Asked) -> Principal | Away | Deferred[Principal | Away]:
        """Return who asks."""
        claim = _claim(asked.header("authorization"))
        if claim is None:
            return self._away
        checking: Deferred[Any] = maybeDeferred(self.checker.requestAvatarId, claim)
        return checking.addCallbacks(self._believed, self._not_believed)

    def _believed(self, avatar: Any) -> Principal | Away:
        """Return whom the checker takes the claimant for; nobody in the case of C{ANONYMOUS}."""
        name = avatar.decode() if isinstance(avatar, bytes) else avatar
        return Principal(name) if name and isinstance(name, str) else self._away

    def _not_believed(self, failure: Failure) -> Away:
        failure.trap(UnauthorizedLogin)  # type: ignore[no-untyped-call]
        return self._away


def _claim(header: str | None) -> BasicClaim | None:
    """Return what an C{Authorization} header claims, L{None} where it is of another kind."""
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "basic" or len(given) > _LONGEST:
        return None
    try:
        decoded = b64decode(given.strip(" ").encode("ascii"), validate=True)
        name, colon, secret = decoded.partition(b":")
        name.decode()
    except (NotBase64, UnicodeError):
        return None
    return BasicClaim(name, secret) if name and colon else None
