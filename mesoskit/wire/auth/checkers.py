"""Whether claims are true: a checker of C{twisted.cred} over a file of secrets.

Any other C{ICredentialsChecker} that takes C{IUsernameHashedPassword} will do in its place: one
over a site's own user store, for instance.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mesoskit.wire.auth.credentials import PrivateFile


@implementer(ICredentialsChecker)
class SecretsChecker:
    """
    Holds claims against secrets by principal.

    The same is done for a name that nobody has as for one with another secret, and the same is
    said: C{UnauthorizedLogin}, without words.
    """

    credentialInterfaces = (IUsernameHashedPassword,)

    def __init__(self, current: Callable[[], Mapping[str, str]]) -> None:
        """
        Prepare.

        @param current: returns the secrets that count now.
        """
        self._current = current
        self._nobody = secrets.token_hex(32)

    def current(self) -> Mapping[str, str]:
        """Return the secrets that count now: the same object, as long as they have not changed."""
        return self._current()

    @property
    def nobody(self) -> str:
        """The secret that claims to a name which nobody has are held against."""
        return self._nobody

    def requestAvatarId(self, credentials: Any) -> "Deferred[bytes | tuple[()]]":
        """Fire with the principal, or fail."""
        username: bytes = credentials.username
        secret = self._current().get(username.decode(errors="replace"))
        known = secret is not None
        good = credentials.checkPassword(secret if known else self._nobody)
        if good and known:
            return succeed(username)
        return fail(UnauthorizedLogin())


def nobody() -> SecretsChecker:
    """Return a checker that believes no claim: there are no credentials."""
    return of_mapping({})


def of_mapping(given: Mapping[str, str]) -> SecretsChecker:
    """Return a checker of these secrets by principal."""
    kept = dict(given)
    return SecretsChecker(lambda: kept)


def of_file(file: PrivateFile[dict[str, str]]) -> SecretsChecker:
    """Return a checker of a file, which may change (L{credentials_file})."""
    return SecretsChecker(file.current)
