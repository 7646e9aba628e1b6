"""Who may come in: the layer under the links of a side that listens."""

from collections.abc import Collection
from typing import Any, Final

from google.protobuf.message import Message
from twisted.logger import Logger

from mesoskit.messages.authentication_pb2 import AuthenticateMessage
from mesoskit.wire.auth.sessions import Broken, Completed, Outcome
from mesoskit.wire.hellos import HelloRefused, role_name
from mesoskit.wire.plan import Settling
from mesoskit.wire.session import Session

UNAUTHENTICATED: Final = 401
"""The status of all refusals here, as in HTTP."""


class Admission:
    """
    Lets peers prove who they are, and some only when they have: a
    L{mesoskit.wire.plan.Settle} for L{mesoskit.wire.stream.StreamFactory}.

    A peer whose hello says that it will authenticate is waited for, whether it must or not. Any
    other one is nobody in particular where that will do, and refused at its hello where not.

    @ivar required: the roles that must, numbers of C{mesoskit.stream.Role}.
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

    def __call__(self, session: Session) -> Settling:
        """Return what settles who this peer is; raises L{HelloRefused}."""
        hello = session.hello
        if hello.authenticates:
            return _Asked(session, self._authenticator)
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

    def __init__(self, session: Session, authenticator: Any) -> None:
        self._session = session
        self._authenticator = authenticator
        self._exchange: Any = None

    def start(self) -> None:
        """The peer begins."""

    def received(self, message: Message) -> None:
        """Give it to the exchange; C{AuthenticateMessage} begins one, or begins it anew."""
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
        session = self._session
        if exchange is not self._exchange:
            return
        if isinstance(outcome, Completed):
            self.log.info("{peer} is {principal!r}", peer=session.peer, principal=outcome.principal)
            session.settled(outcome.principal)
        elif isinstance(outcome, Broken):
            self._refuse("authentication", f"authentication went wrong: {outcome.why}")
        else:
            self._refuse("authentication", "authentication failed")

    def say(self, exchange: object, message: Message) -> None:
        """Send what belongs to the exchange that runs."""
        if exchange is self._exchange:
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
