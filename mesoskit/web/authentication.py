"""Who asks over HTTP: realms, what can find out who somebody is, and the guard that applies it.

Mesos puts each endpoint into a realm or into none (C{src/master/constants.hpp},
C{src/slave/constants.hpp}); a realm asks for nothing until a flag gives it authenticators
(C{--authenticate_http_readonly} and its kin). Refusals are those of libprocess
(C{3rdparty/libprocess/src/authenticator.cpp}) and, where a realm has several authenticators, of
Mesos' own way to combine them (C{src/authentication/http/combined_authenticator.cpp}).

Nothing of C{twisted.web} is needed here: a daemon has a guard before it has any HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from mesoskit.wire.auth.failures import Failures
from mesoskit.wire.exchange import Asked, Away, Identified, Identify, Principal

PATIENCE: Final = 10.0
"""Seconds that finding out who somebody is may take."""

UNAUTHORIZED: Final = "401 Unauthorized."
"""The body of a refusal, as libprocess writes it."""

NAMELESS: Final = (
    "The request's authenticated principal contains claims, but no value string. The master"
    " currently requires that principals have a value"
)
"""The master's refusal of a token that says no name (C{src/master/http.cpp})."""

_UNKNOWN: Final = "It cannot be found out at the moment who asks."


class Realm(Enum):
    """Where an endpoint belongs; the value is the last word of the realm's name."""

    OPEN = ""
    """Nobody is ever asked: health, version, help, the way to the leader."""
    READONLY = "readonly"
    READWRITE = "readwrite"
    FRAMEWORKS = "scheduler"
    EXECUTORS = "executor"


#: Realms of calls that belong to links: their carriers ask who calls (L{mesoskit.wire.v1}).
OF_CARRIERS: Final = frozenset((Realm.FRAMEWORKS, Realm.EXECUTORS))


ASKS: Final = {
    realm: f"Asks for a credential where --authenticate_http_{flag} is set." if flag else ""
    for realm, flag in (
        (Realm.OPEN, ""),
        (Realm.READONLY, "readonly"),
        (Realm.READWRITE, "readwrite"),
        (Realm.FRAMEWORKS, "frameworks"),
        (Realm.EXECUTORS, "executors"),
    )
}
"""What help pages say of each realm."""


class IHttpAuthenticator(Interface):
    """Finds out who asks (Mesos' module C{HttpAuthenticator}); one for each realm."""

    scheme: str = Attribute("What C{WWW-Authenticate} calls its way: C{Basic}.")

    def authenticate(asked: Asked) -> Principal | Away | Deferred[Principal | Away]:
        """
        Return who asks, or why he is sent away: with 401 and C{WWW-Authenticate}, or with 403.

        A Deferred may take L{PATIENCE} seconds, is cancelled then, and may fail: what failed
        is told to nobody but the log.
        """


def unauthorized(challenge: str) -> Away:
    """Return the refusal of whoever has not proved who he is."""
    return Away(401, UNAUTHORIZED, {"WWW-Authenticate": challenge})


class Guard:
    """
    What a daemon asks of those who come over HTTP.

    @ivar daemon: C{master} or C{agent}, the middle of the realms' names.
    @ivar failures: who failed lately; may be shared with whoever else finds out who comes.
    @ivar believed: how many requests came with a credential that was believed.
    @ivar missing: how many came without one where one is needed.
    @ivar failed: how many came with one that was not believed.
    """

    log = Logger()

    def __init__(
        self,
        daemon: str,
        clock: IReactorTime,
        authenticators: Mapping[Realm, Sequence[Any]] | None = None,
        *,
        nameless: bool = False,
    ) -> None:
        """
        Prepare.

        @param authenticators: L{IHttpAuthenticator}s, at least one for each realm that asks;
            the first who believes decides.
        @param nameless: whether it is enough to prove claims, without any name.
        """
        self.daemon = daemon
        self.failures = Failures(clock)
        self.believed = self.missing = self.failed = 0
        self._clock = clock
        self._nameless = nameless
        self._of = {realm: tuple(some) for realm, some in (authenticators or {}).items()}

    def ask(self, realm: Realm, *authenticators: Any) -> None:
        """Ask in a realm from now on, by these L{IHttpAuthenticator}s; by none: not any more."""
        if authenticators:
            self._of[realm] = authenticators
        else:
            self._of.pop(realm, None)

    def asks(self, realm: Realm) -> bool:
        """Tell whether one must say who one is there."""
        return realm in self._of

    def of(self, realm: Realm) -> Identify:
        """Return L{identify} for one realm."""
        return partial(self.identify, realm)

    def identify(self, realm: Realm, asked: Asked) -> Identified | Deferred[Identified]:
        """
        Say who asks, L{None} where the realm is not interested, or why he is sent away.

        The Deferred never fails.
        """
        authenticators = self._of.get(realm)
        if authenticators is None:
            return None
        shown = asked.header("authorization")
        if shown is not None:
            away = self.failures.gate(asked.peer, shown)
            if away is not None:
                return away
        try:
            outcome = _Round(asked, authenticators).go()
        except Exception:
            return self._failed(Failure())  # type: ignore[no-untyped-call]
        if not isinstance(outcome, Deferred):
            return self._concluded(outcome, asked, shown)
        outcome.addTimeout(PATIENCE, self._clock)
        outcome.addErrback(self._failed)
        return outcome.addCallback(self._concluded, asked, shown)

    def _failed(self, failure: Failure) -> Away:
        self.log.failure("It could not be found out who asks", failure)
        return Away(503, _UNKNOWN)

    def _concluded(self, outcome: Principal | Away, asked: Asked, shown: str | None) -> Identified:
        if isinstance(outcome, Principal):
            self.believed += 1
            self.failures.believed(asked.peer, shown)
            if outcome.name is None and not self._nameless:
                return Away(403, NAMELESS)
        elif shown is None:
            self.missing += 1
        elif outcome.status in (401, 403):
            self.failed += 1
            self.failures.failed(asked.peer)
            self.log.info(
                "{peer} is not believed at {path}", peer=asked.peer, path=asked.path[:200]
            )
        return outcome

    def metrics(self) -> dict[str, float]:
        """Return how often what became of requests that had to say who asks."""
        prefix = "mesoskit/http_authentication"
        return {
            f"{prefix}/believed": float(self.believed),
            f"{prefix}/missing": float(self.missing),
            f"{prefix}/failed": float(self.failed),
            f"{prefix}/limited": float(self.failures.limited),
        }


class _Round:
    """One request before one authenticator after the other, until one believes."""

    def __init__(self, asked: Asked, authenticators: Sequence[Any]) -> None:
        self._asked = asked
        self._left = list(reversed(authenticators))
        self._aways: list[tuple[str, Away]] = []

    def go(self) -> Principal | Away | Deferred[Principal | Away]:
        while self._left:
            one = self._left.pop()
            said: Any = one.authenticate(self._asked)
            if isinstance(said, Deferred):
                if not said.called or said.paused or not isinstance(said.result, Principal | Away):
                    return said.addCallback(self._more, one.scheme)
                said = said.result
            if isinstance(said, Principal):
                return said
            self._aways.append((one.scheme, said))
        return combined(self._aways)

    def _more(self, said: Principal | Away, scheme: str) -> Any:
        if isinstance(said, Principal):
            return said
        self._aways.append((scheme, said))
        return self.go()


def combined(aways: Sequence[tuple[str, Away]]) -> Away:
    """Return what several refusals, each with the scheme it is of, are told as."""
    if len(aways) == 1:
        return aways[0][1]
    unauthorized_ = [(scheme, away) for scheme, away in aways if away.status == 401]
    chosen = unauthorized_ or list(aways)
    why = "\n\n".join(f'"{scheme}" authenticator returned:\n{away.why}' for scheme, away in chosen)
    if not unauthorized_:
        return Away(chosen[0][1].status, why)
    challenges = [away.headers.get("WWW-Authenticate", "") for _, away in chosen]
    return Away(401, why, {"WWW-Authenticate": ",".join(filter(None, challenges))})
