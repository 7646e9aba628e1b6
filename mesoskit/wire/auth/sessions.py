"""The exchange by which a peer proves who it is, both sides of it: no input, no output, no clock.

Each session is told the messages that came and returns what is to be said; C{outcome} tells the
end. Whatever does not belong where it comes ends the exchange: there is no way back but to begin
a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from mesoskit.messages.authentication_pb2 import (
    AuthenticateMessage,
    AuthenticationCompletedMessage,
    AuthenticationErrorMessage,
    AuthenticationFailedMessage,
    AuthenticationMechanismsMessage,
    AuthenticationStartMessage,
    AuthenticationStepMessage,
)
from mesoskit.wire.auth.credentials import LONGEST_PRINCIPAL
from mesoskit.wire.auth.mechanisms import (
    LONGEST_DATA,
    BrokenExchange,
    Claim,
    ClientMechanism,
    ServerMechanism,
    strongest,
)

_MOST_MECHANISMS: Final = 64
_LONGEST_WORDS: Final = 256


@dataclass(slots=True, frozen=True)
class Completed:
    """The peer is who it says; on the authenticatee's side: it was believed."""

    principal: str


@dataclass(slots=True, frozen=True)
class Failed:
    """The claim was not believed; trying again with the same secret leads nowhere."""


@dataclass(slots=True, frozen=True)
class Broken:
    """The exchange itself went wrong; another attempt may succeed."""

    why: str


Outcome = Completed | Failed | Broken


@dataclass(slots=True, frozen=True)
class Check:
    """Find out whether this claim is true, and tell L{AuthenticatorSession.checked}."""

    claim: Claim


ServerMechanisms = Mapping[str, Callable[[], ServerMechanism]]
"""What makes the authenticator's side of each mechanism that is taken, the best first."""

ClientMechanisms = Mapping[str, Callable[[], ClientMechanism]]
"""What makes the authenticatee's side of each mechanism that will do."""


class AuthenticatorSession:
    """
    The side that wants to know who the other one is; for one exchange.

    @ivar outcome: the end, L{None} before.
    """

    def __init__(self, mechanisms: ServerMechanisms) -> None:
        self.outcome: Outcome | None = None
        self._mechanisms = mechanisms
        self._mechanism: ServerMechanism | None = None
        self._claim: Claim | None = None

    def begin(self) -> list[Message]:
        """An C{AuthenticateMessage} came: say what is taken here."""
        return [AuthenticationMechanismsMessage(mechanisms=list(self._mechanisms))]

    def received(self, message: Message) -> list[Message | Check]:
        """Take a message of the peer's."""
        if self.outcome is not None:
            return []
        try:
            if isinstance(message, AuthenticationStartMessage):
                return [self._start(message.mechanism, message.data)]
            if isinstance(message, AuthenticationStepMessage):
                return self._step(message.data)
            name = message.DESCRIPTOR.name
            raise BrokenExchange(f"{name} does not belong into an authentication")
        except BrokenExchange as error:
            return list(self._break(str(error)))

    def checked(self, principal: str | None) -> list[Message]:
        """The claim was looked into: it is this one's, or L{None} where it is not true."""
        claim, self._claim = self._claim, None
        if self.outcome is not None or claim is None:
            return []
        if not principal:
            return self._fail()
        try:
            farewell = claim.farewell()
        except BrokenExchange as error:
            return self._break(str(error))
        self.outcome = Completed(principal)
        completed = AuthenticationCompletedMessage()
        if farewell is None:
            return [completed]
        return [AuthenticationStepMessage(data=farewell), completed]

    def _start(self, name: str, data: bytes) -> Message:
        if self._mechanism is not None:
            raise BrokenExchange("Unexpected authentication 'start' received")
        make = self._mechanisms.get(name)
        if make is None:
            raise BrokenExchange(f"mechanism {name[:_LONGEST_WORDS]!r} is not taken here")
        self._mechanism = mechanism = make()
        return AuthenticationStepMessage(data=mechanism.start(_bounded(data)))

    def _step(self, data: bytes) -> list[Message | Check]:
        mechanism = self._mechanism
        if mechanism is None or self._claim is not None:
            raise BrokenExchange("Unexpected authentication 'step' received")
        claim = mechanism.step(_bounded(data))
        if not _is_name(claim.username):
            return list(self._fail())
        self._claim = claim
        return [Check(claim)]

    def _fail(self) -> list[Message]:
        self.outcome = Failed()
        return [AuthenticationFailedMessage()]

    def _break(self, why: str) -> list[Message]:
        self.outcome = Broken(why)
        return [AuthenticationErrorMessage(error=why)]


class AuthenticateeSession:
    """
    The side that proves who it is; for one exchange.

    @ivar outcome: the end, L{None} before.
    @ivar mechanism: the one that was chosen, C{""} before.
    """

    def __init__(self, principal: str, pid: str, mechanisms: ClientMechanisms) -> None:
        self.outcome: Outcome | None = None
        self.mechanism = ""
        self._principal = principal
        self._pid = pid
        self._mechanisms = mechanisms
        self._running: ClientMechanism | None = None

    def begin(self) -> list[Message]:
        """Say that there is something to prove."""
        return [AuthenticateMessage(pid=self._pid)]

    def received(self, message: Message) -> list[Message]:
        """Take a message of the authenticator's."""
        if self.outcome is not None:
            return []
        try:
            if isinstance(message, AuthenticationMechanismsMessage):
                return self._choose(list(message.mechanisms[:_MOST_MECHANISMS]))
            if isinstance(message, AuthenticationStepMessage):
                return self._step(message.data)
            self._conclude(message)
        except BrokenExchange as error:
            self.outcome = Broken(str(error))
        return []

    def _choose(self, offered: list[str]) -> list[Message]:
        if self.mechanism:
            raise BrokenExchange("Unexpected authentication 'mechanisms' received")
        chosen = strongest(self._mechanisms, offered)
        if chosen is None:
            shown = ", ".join(name[:32] for name in offered[:8]) or "none"
            wanted = ", ".join(self._mechanisms) or "none"
            raise BrokenExchange(
                f"the other side has no mechanism that will do: it has {shown}, wanted is {wanted}"
            )
        self.mechanism = chosen
        self._running = running = self._mechanisms[chosen]()
        return [AuthenticationStartMessage(mechanism=chosen, data=running.start())]

    def _step(self, data: bytes) -> list[Message]:
        if self._running is None:
            raise BrokenExchange("Unexpected authentication 'step' received")
        answer = self._running.step(_bounded(data))
        return [] if answer is None else [AuthenticationStepMessage(data=answer)]

    def _conclude(self, message: Message) -> None:
        if isinstance(message, AuthenticationCompletedMessage):
            if self._running is None or not self._running.done:
                raise BrokenExchange("Unexpected authentication 'completed' received")
            self.outcome = Completed(self._principal)
        elif isinstance(message, AuthenticationFailedMessage):
            self.outcome = Failed()
        elif isinstance(message, AuthenticationErrorMessage):
            raise BrokenExchange(f"the other side said: {message.error[:_LONGEST_WORDS]}")
        else:
            name = message.DESCRIPTOR.name
            raise BrokenExchange(f"{name} does not belong into an authentication")


def _bounded(data: bytes) -> bytes:
    if len(data) > LONGEST_DATA:
        raise BrokenExchange(f"a step has {len(data)} bytes, more than {LONGEST_DATA}")
    return data


def _is_name(username: bytes) -> bool:
    """Tell whether anybody could be called so."""
    if not 0 < len(username) <= LONGEST_PRINCIPAL:
        return False
    try:
        username.decode()
    except UnicodeDecodeError:
        return False
    return True
