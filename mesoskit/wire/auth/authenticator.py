"""The side that wants to know who its peers are, and the interface to do so in another way."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from mesoskit.wire.auth.checkers import SecretsChecker
from mesoskit.wire.auth.cram_md5 import CramServer
from mesoskit.wire.auth.mechanisms import (
    CRAM_MD5,
    SCRAM_SHA_256,
    ServerMechanism,
    at_least,
)
from mesoskit.wire.auth.saslprep import is_prepared
from mesoskit.wire.auth.scram import SaltedSecrets, ScramServer
from mesoskit.wire.auth.sessions import AuthenticatorSession, Check, Outcome

Say = Callable[[Message], None]
"""Sends a message to the peer."""

Ended = Callable[[Outcome], None]
"""Is told the end of an exchange, once, after what was said last."""

_NONCE: Final = 24


class IExchange(Interface):
    """One exchange, either side of it."""

    def received(message: Message) -> None:
        """Take a message of the peer's that belongs to authentication."""

    def cancel() -> None:
        """Nobody is interested any more: say nothing, and tell no end."""


class IAuthenticator(Interface):
    """Finds out who peers are (Mesos' module C{Authenticator})."""

    def begin(say: Say, ended: Ended) -> IExchange:
        """A peer sent C{AuthenticateMessage}: begin an exchange with it."""


@implementer(IAuthenticator)
class Authenticator:
    """
    SCRAM-SHA-256 and CRAM-MD5 over a checker: what C{--authenticators=crammd5} stands for.

    @ivar checker: an C{ICredentialsChecker} of C{twisted.cred} for C{IUsernameHashedPassword}.
    """

    log = Logger()

    def __init__(
        self,
        checker: ICredentialsChecker,
        minimum: str = CRAM_MD5,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """
        Prepare; derives the keys of all secrets that the checker knows by now.

        Raises L{ValueError} where C{minimum} is no mechanism.

        @param minimum: the weakest mechanism that is taken.
        @param nonce: returns so many random bytes.
        """
        self.checker = checker
        salted = SaltedSecrets(nonce(16))
        makers: dict[str, Callable[[], ServerMechanism]] = {
            SCRAM_SHA_256: lambda: ScramServer(nonce(_NONCE), salted),
            CRAM_MD5: lambda: CramServer(nonce(_NONCE)),
        }
        self._mechanisms = {name: makers[name] for name in at_least(minimum)}
        self._salted = salted
        self._derived: Mapping[str, str] | None = None
        self._derive()

    def begin(self, say: Say, ended: Ended) -> "_Exchange":
        """Begin an exchange."""
        self._derive()
        return _Exchange(AuthenticatorSession(self._mechanisms), self._check, say, ended)

    def _derive(self) -> None:
        """Derive the keys of new secrets before anybody asks how long that takes."""
        checker = self.checker
        if not isinstance(checker, SecretsChecker) or SCRAM_SHA_256 not in self._mechanisms:
            return
        known = checker.current()
        if known is self._derived:
            return
        self._derived = known
        self._salted.remembered = max(self._salted.remembered, 2 * len(known) + 1)
        for secret in (*known.values(), checker.nobody):
            self._salted.keys(secret.encode())
        for principal, secret in known.items():
            if not (is_prepared(principal) and is_prepared(secret)):
                self.log.warn(
                    "Principal or secret of {principal!r} are not as SASLprep would have them:"
                    " only CRAM-MD5 is sure to work",
                    principal=principal,
                )

    def _check(self, claim: Any) -> "Deferred[Any]":
        return maybeDeferred(self.checker.requestAvatarId, claim)


@implementer(IExchange)
class _Exchange:
    """An exchange over a checker, which may take its time."""

    log = Logger()

    def __init__(
        self,
        session: AuthenticatorSession,
        check: Callable[[Any], "Deferred[Any]"],
        say: Say,
        ended: Ended,
    ) -> None:
        self._session = session
        self._check = check
        self._say = say
        self._ended = ended
        self._over = False
        self._checking: Deferred[Any] | None = None
        for message in session.begin():
            say(message)

    def received(self, message: Message) -> None:
        """Take a message."""
        if self._over:
            return
        for what in self._session.received(message):
            if isinstance(what, Check):
                self._checking = checking = self._check(what.claim)
                checking.addCallback(_principal).addErrback(self._not_believed)
                checking.addCallback(self._checked)
            else:
                self._say(what)
        self._look()

    def cancel(self) -> None:
        """Say nothing more."""
        self._over = True
        checking, self._checking = self._checking, None
        if checking is not None:
            checking.cancel()

    def _not_believed(self, reason: Failure) -> None:
        if reason.check(UnauthorizedLogin) is None and not self._over:  # type: ignore[no-untyped-call]
            self.log.failure("A claim could not be checked", reason)

    def _checked(self, principal: str | None) -> None:
        self._checking = None
        if self._over:
            return
        for message in self._session.checked(principal):
            self._say(message)
        self._look()

    def _look(self) -> None:
        outcome = self._session.outcome
        if outcome is not None and not self._over:
            self._over = True
            self._ended(outcome)


def _principal(avatar: object) -> str | None:
    """Return whom the checker takes the claimant for; L{None} for C{ANONYMOUS}."""
    if isinstance(avatar, bytes):
        return avatar.decode()
    return avatar if isinstance(avatar, str) else None
