"""Who we are to those that we dial: the layer under the links of a side that dials."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from mesoskit.wire.auth.sessions import Broken, Completed, Failed, Outcome
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.plan import Receivers, Settling
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import DialFailed, dial

REFUSED: Final = "Master refused authentication"
"""What Mesos' agents and drivers say when they were not believed."""


class AuthenticationRefused(DialFailed):
    """
    The peer does not believe our credential, or wants one and we have none: dialling again with
    the same leads nowhere.
    """

    def __init__(self, endpoint: str, why: str = REFUSED) -> None:
        super().__init__(endpoint, why, 401)


@dataclass(slots=True, frozen=True)
class Patience:
    """
    How long an authentication may take before it is given up, to begin anew: a random time from
    C{minimum} to C{minimum + factor * 2 ** attempts}, but at most C{maximum}, in seconds.

    The names and the defaults are those of Mesos' flags C{--authentication_timeout_min},
    C{--authentication_timeout_max} and C{--authentication_backoff_factor}.
    """

    minimum: float = 5.0
    maximum: float = 60.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        """Raise L{ValueError} for what cannot work."""
        if not 0 < self.minimum <= self.maximum < float("inf"):
            raise ValueError(
                f"authentication_timeout_min {self.minimum:g} s must be more than 0, and not more"
                f" than authentication_timeout_max {self.maximum:g} s"
            )
        if not 0 <= self.factor < float("inf"):
            raise ValueError(f"authentication_backoff_factor is {self.factor:g} s")

    def timeout(self, attempts: int, chance: float) -> float:
        """Return the time for the next attempt, after so many; C{chance} is in [0, 1)."""
        span = self.factor * 2.0 ** min(attempts, 32)
        return min(self.minimum + span * chance, self.maximum)


class Identity:
    """
    Dials as somebody.

    @param authenticatee: an
        L{IAuthenticatee<mesoskit.wire.auth.authenticatee.IAuthenticatee>}.
    @param pid: what C{AuthenticateMessage} names, for its sake alone.
    @param chance: gives random numbers in [0, 1).
    """

    def __init__(
        self,
        authenticatee: Any,
        pid: str = "",
        patience: Patience | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._authenticatee = authenticatee
        self._pid = pid
        self._patience = patience or Patience()
        self._chance = chance
        self._attempts = 0

    def dial(
        self,
        endpoint: IStreamClientEndpoint | str,
        receiver: Receivers,
        hello: Hello,
        *,
        clock: Any,
        settings: StreamSettings | None = None,
        **more: Any,
    ) -> Deferred[Link]:
        """
        Dial, as L{mesoskit.wire.stream.dial}; fires when the peer knows who we are.

        Fails with L{AuthenticationRefused} where it does not believe us.
        """
        timeout = self._patience.timeout(self._attempts, self._chance())
        settings = replace(settings or StreamSettings(), settle_timeout=timeout)
        proofs: list[_Proof] = []

        def settle(session: Session) -> Settling:
            # A master that is not there does not count.
            self._attempts += 1
            proof = _Proof(session, self._authenticatee, self._pid)
            proofs.append(proof)
            return proof

        def linked(link: Link) -> Link:
            self._attempts = 0
            return link

        def failed(reason: Failure) -> Failure:
            error = reason.value
            if isinstance(error, DialFailed) and any(proof.refused for proof in proofs):
                where = endpoint if isinstance(endpoint, str) else type(endpoint).__name__
                raise AuthenticationRefused(where)
            return reason

        ours = replace(hello, authenticates=True)
        dialling = dial(
            endpoint, receiver, ours, clock=clock, settings=settings, settle=settle, **more
        )
        return dialling.addCallbacks(linked, failed)


class _Proof:
    """Proves who we are on one link."""

    def __init__(self, session: Session, authenticatee: Any, pid: str) -> None:
        self._session = session
        self._authenticatee = authenticatee
        self._pid = pid
        self._exchange: Any = None
        self.refused = False

    def start(self) -> None:
        """Begin."""
        self._exchange = self._authenticatee.begin(self._pid, self._session.send, self._ended)

    def received(self, message: Message) -> None:
        """Take a message of the peer's."""
        self._exchange.received(message)

    def _ended(self, outcome: Outcome) -> None:
        session = self._session
        if isinstance(outcome, Completed):
            session.settled(None)
        elif isinstance(outcome, Failed):
            self.refused = True
            session.lose(REFUSED)
        elif isinstance(outcome, Broken):
            session.refuse("authentication", f"authentication went wrong: {outcome.why}")
