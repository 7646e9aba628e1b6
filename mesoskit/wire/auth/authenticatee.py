"""The side that proves who it is, and the interface to do so in another way."""

import secrets
from collections.abc import Callable
from typing import Final

from google.protobuf.message import Message
from twisted.logger import Logger
from zope.interface import Interface, implementer

from mesoskit.wire.auth.authenticator import Ended, IExchange, Say
from mesoskit.wire.auth.cram_md5 import CramClient
from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.auth.mechanisms import (
    CRAM_MD5,
    SCRAM_SHA_256,
    WEAKEST_FIRST,
    ClientMechanism,
    at_least,
)
from mesoskit.wire.auth.saslprep import is_prepared
from mesoskit.wire.auth.scram import ScramClient
from mesoskit.wire.auth.sessions import AuthenticateeSession, Completed

_NONCE: Final = 24


class IAuthenticatee(Interface):
    """Proves who we are (Mesos' module C{Authenticatee})."""

    def begin(pid: str, say: Say, ended: Ended) -> IExchange:
        """
        Begin an exchange with a peer, by C{AuthenticateMessage}.

        @param pid: what to name ourselves there; nobody trusts it.
        """


@implementer(IAuthenticatee)
class Authenticatee:
    """
    SCRAM-SHA-256 or CRAM-MD5 with a credential: what C{--authenticatee=crammd5} stands for.

    The list of mechanisms that a peer offers is not protected: somebody between may take the
    better one out of it. So once a better one has served, the worse one will not do any more, for
    as long as this object lives.

    @ivar last: the mechanism that served last, C{""} where none has.
    """

    log = Logger()

    def __init__(
        self,
        credential: Credential | Callable[[], Credential],
        minimum: str = CRAM_MD5,
        nonce: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """
        Prepare. Raises L{ValueError} where C{minimum} is no mechanism.

        @param credential: what to prove, or what returns it as it is now.
        @param minimum: the weakest mechanism that will do.
        @param nonce: returns so many random bytes.
        """
        at_least(minimum)
        self._credential = credential
        self._minimum = minimum
        self._nonce = nonce
        self.last = ""

    def begin(self, pid: str, say: Say, ended: Ended) -> "_Exchange":
        """Begin an exchange."""
        given = self._credential
        credential = given if isinstance(given, Credential) else given()
        minimum = max(self._minimum, self.last or self._minimum, key=WEAKEST_FIRST.index)
        makers: dict[str, Callable[[], ClientMechanism]] = {
            SCRAM_SHA_256: lambda: ScramClient(credential, self._nonce(_NONCE)),
            CRAM_MD5: lambda: CramClient(credential),
        }
        names = at_least(minimum)
        if not (is_prepared(credential.principal) and is_prepared(credential.secret)):
            # What another side made of them would not be what we mean.
            names = tuple(name for name in names if name != SCRAM_SHA_256)
            self.log.warn(
                "SCRAM cannot be used: principal or secret of {principal!r} are not as SASLprep"
                " would have them",
                principal=credential.principal,
            )
        session = AuthenticateeSession(
            credential.principal, pid, {name: makers[name] for name in names}
        )
        return _Exchange(session, self, say, ended)

    def served(self, mechanism: str) -> None:
        """Remember that we were believed by this one."""
        if mechanism != self.last:
            self.last = mechanism
            self.log.info("Authenticated by {mechanism}", mechanism=mechanism)


@implementer(IExchange)
class _Exchange:
    def __init__(
        self, session: AuthenticateeSession, owner: Authenticatee, say: Say, ended: Ended
    ) -> None:
        self._session = session
        self._owner = owner
        self._say = say
        self._ended = ended
        self._over = False
        for message in session.begin():
            say(message)

    def received(self, message: Message) -> None:
        """Take a message."""
        if self._over:
            return
        for answer in self._session.received(message):
            self._say(answer)
        outcome = self._session.outcome
        if outcome is not None:
            self._over = True
            if isinstance(outcome, Completed):
                self._owner.served(self._session.mechanism)
            self._ended(outcome)

    def cancel(self) -> None:
        """Say nothing more."""
        self._over = True
