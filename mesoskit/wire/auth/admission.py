"""Who may come in: the layer under the links of a side that listens."""

from collections.abc import Callable, Collection
from typing import Any, Final

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mesoskit.messages.authentication_pb2 import (
    AuthenticateMessage,
    AuthenticationCompletedMessage,
    AuthenticationFailedMessage,
)
from mesoskit.wire.auth.failures import Failures
from mesoskit.wire.auth.sessions import Broken, Completed, Outcome
from mesoskit.wire.exchange import Away
from mesoskit.wire.hellos import HelloRefused, role_name
from mesoskit.wire.plan import Settling
from mesoskit.wire.session import Session

UNAUTHENTICATED: Final = 401
"""The status of all refusals here, as in HTTP."""

LONGEST_WAIT: Final = 10.0
"""Seconds that somebody who has failed too often waits for that, at most."""

Prepare = Callable[[str | None], "Deferred[Away | None] | None"]
"""
Waits until it can be said what a principal may do, L{None} where it can; fires with why he cannot
be let in, and does not fail.
"""


def _at_once(principal: str | None) -> Deferred[Away | None] | None:
    return None


class Admission:
    """
    Lets peers prove who they are, and some only when they have: a
    L{mesoskit.wire.plan.Settle} for L{mesoskit.wire.stream.StreamFactory}.

    A peer whose hello says that it will authenticate is waited for, whether it must or not. Any
    other one is nobody in particular where that will do, and refused at its hello where not.

    @ivar required: the roles that must, numbers of C{mesoskit.stream.Role}.
    @ivar failures: who failed lately; may be replaced. L{None}: nobody remembers.
    @ivar prepare: is waited for before a peer that has proved who it is is let in; may be
        replaced. For nobody in particular whoever listens waits once, before.
    """

    log = Logger()

    def __init__(self, authenticator: Any, required: Collection[int] = ()) -> None:
        """
        Prepare.

        @param authenticator: an
            L{IAuthenticator<mesoskit.wire.auth.authenticator.IAuthenticator>}.
        """
        self._authenticator = authenticator
        self.required = frozenset(required)
        self.failures: Failures | None = None
        self.prepare: Prepare = _at_once

    def __call__(self, session: Session) -> Settling:
        """Return what settles who this peer is; raises L{HelloRefused}."""
        hello = session.hello
        if hello.authenticates:
            return _Asked(session, self._authenticator, self.prepare, self.failures)
        if hello.role in self.required:
            raise HelloRefused(
                "unauthenticated",
                f"each {role_name(hello.role)} must authenticate here: it needs a credential",
                UNAUTHENTICATED,
            )
        return _Unasked(session)


class _Unasked:
    """A peer that need not prove anything and does not want to."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self) -> None:
        self._session.settled(None)

    def received(self, message: Message) -> None:
        """Nothing comes: the peer is settled."""


class _Asked:
    """A peer that will prove who it is."""

    log = Logger()

    def __init__(
        self,
        session: Session,
        authenticator: Any,
        prepare: Prepare,
        failures: Failures | None,
    ) -> None:
        self._session = session
        self._failures = failures
        self._authenticator = authenticator
        self._prepare = prepare
        self._exchange: Any = None
        # Whoever is told that he is authenticated may go on at once, so he is told last; and
        # whoever guesses waits for the bad news.
        self._verdict: Message | None = None

    def start(self) -> None:
        """The peer begins."""

    def received(self, message: Message) -> None:
        """Give it to the exchange; C{AuthenticateMessage} begins one, or begins it anew."""
        if isinstance(self._verdict, AuthenticationFailedMessage):
            return  # What it sends now must not tell it sooner that it has failed.
        if isinstance(message, AuthenticateMessage):
            if self._exchange is not None:
                self._exchange.cancel()
            self._exchange = _Ears(self)
            self._exchange.begin(self._authenticator)
        elif message.DESCRIPTOR.file is not AuthenticateMessage.DESCRIPTOR.file:
            name = message.DESCRIPTOR.full_name
            self._refuse("unauthenticated", f"a {name} came before it was settled who sends it")
        elif self._exchange is None:
            self._refuse("unauthenticated", "an authentication begins with AuthenticateMessage")
        else:
            self._exchange.received(message)

    def ended(self, exchange: object, outcome: Outcome) -> None:
        """The exchange has come to an end."""
        if exchange is not self._exchange:
            return
        if isinstance(outcome, Completed):
            self._prepared(exchange, outcome.principal)
        elif isinstance(outcome, Broken):
            self._refuse("authentication", f"authentication went wrong: {outcome.why}")
        else:
            failures = self._failures
            wait = 0.0 if failures is None else failures.failed(self._session.peer)
            if failures is None or not wait:
                self._not_believed(exchange)
            else:
                failures.later(min(wait, LONGEST_WAIT), lambda: self._not_believed(exchange))

    def _not_believed(self, exchange: object) -> None:
        if exchange is not self._exchange:
            return
        if self._verdict is not None:
            self._session.send(self._verdict)
        self._refuse("authentication", "authentication failed")

    def _prepared(self, exchange: object, principal: str) -> None:
        ready = self._prepare(principal)
        if ready is None:
            self._settle(principal)
        else:
            ready.addCallback(lambda away: self._ready(exchange, principal, away))

    def _ready(self, exchange: object, principal: str, away: Away | None) -> None:
        if exchange is not self._exchange:
            return
        if away is None:
            self._settle(principal)
        else:
            self._session.refuse("authorization", away.why, away.status)

    def _settle(self, principal: str) -> None:
        session = self._session
        self.log.info("{peer} is {principal!r}", peer=session.peer, principal=principal)
        if self._verdict is not None:
            session.send(self._verdict)
        session.settled(principal)

    def say(self, exchange: object, message: Message) -> None:
        """Send what belongs to the exchange that runs."""
        if exchange is not self._exchange:
            return
        if isinstance(message, AuthenticationCompletedMessage | AuthenticationFailedMessage):
            self._verdict = message
        else:
            self._session.send(message)

    def _refuse(self, kind: str, why: str) -> None:
        self._session.refuse(kind, why, UNAUTHENTICATED)


class _Ears:
    """One exchange, so that a former one cannot speak for a later one."""

    def __init__(self, owner: _Asked) -> None:
        self._owner = owner
        self._inner: Any = None

    def begin(self, authenticator: Any) -> None:
        self._inner = authenticator.begin(
            lambda message: self._owner.say(self, message),
            lambda outcome: self._owner.ended(self, outcome),
        )

    def received(self, message: Message) -> None:
        self._inner.received(message)

    def cancel(self) -> None:
        self._inner.cancel()
