"""SASL mechanisms: their names, their order, and what each side of one can do."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

CRAM_MD5: Final = "CRAM-MD5"
SCRAM_SHA_256: Final = "SCRAM-SHA-256"

WEAKEST_FIRST: Final = (CRAM_MD5, SCRAM_SHA_256)
"""All that are known here. Peers of Mesos' own know the first alone."""

LONGEST_DATA: Final = 8192
"""Of the data of one message, in bytes."""


class BrokenExchange(Exception):
    """The exchange went wrong, whoever the peer may be; the message says how."""


class Claim(Protocol):
    """
    Who a peer says it is, and its proof: an C{IUsernameHashedPassword} of C{twisted.cred}.

    @ivar username: the principal, in UTF-8.
    """

    username: bytes

    def checkPassword(self, password: Any) -> bool:
        """Tell whether the proof was made with this secret."""
        ...

    def farewell(self) -> bytes | None:
        """Return what proves to the peer that we know the secret, where there is such a thing."""
        ...


class ServerMechanism(Protocol):
    """The authenticator's side, for one exchange. What it cannot use raises L{BrokenExchange}."""

    def start(self, data: bytes) -> bytes:
        """Take what the peer begins with, and return the challenge."""
        ...

    def step(self, data: bytes) -> Claim:
        """Take the response."""
        ...


class ClientMechanism(Protocol):
    """The authenticatee's side, for one exchange. What it cannot use raises L{BrokenExchange}."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to be said, so that C{Completed} can be believed."""
        ...

    def start(self) -> bytes:
        """Return what to begin with."""
        ...

    def step(self, data: bytes) -> bytes | None:
        """Take a challenge, and return the response, or L{None} where none is expected."""
        ...


def at_least(minimum: str) -> tuple[str, ...]:
    """
    Return the mechanisms that are not weaker than this one, the strongest first.

    Raises L{ValueError} for a name that is none.
    """
    if minimum not in WEAKEST_FIRST:
        raise ValueError(f"{minimum!r} is no mechanism; expected one of {', '.join(WEAKEST_FIRST)}")
    return tuple(reversed(WEAKEST_FIRST[WEAKEST_FIRST.index(minimum) :]))


def strongest(acceptable: Iterable[str], offered: Iterable[str]) -> str | None:
    """Return the strongest that both sides have, L{None} where there is none."""
    common = set(acceptable) & set(offered)
    return next((name for name in reversed(WEAKEST_FIRST) if name in common), None)
