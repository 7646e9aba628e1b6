"""A daemon's authorizer, as its doors ask it: with patience, and without harm by its errors.

What is decided stands in L{mesoskit.model.authorization}; where it is asked, in the tables of
routes and in the C{authorizing} modules of master and agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.model.authorization import (
    ANYBODY,
    Action,
    IAuthorizer,
    Needs,
    Subject,
    Thing,
    needs,
    needs_nothing,
)
from mesoskit.model.authorization_acls import LIST_OF
from mesoskit.wire.exchange import Asked, Away, Identified, Identify, Principal

PATIENCE: Final = 10.0
"""Seconds that an authorizer may take to get ready for a principal."""

FORBIDDEN: Final = "403 Forbidden."
"""The body of a refusal, as libprocess writes it."""

METRICS: Final = needs(Action.GET_ENDPOINT_WITH_PATH, "/metrics/snapshot")
"""What all metrics need, in whichever form they are asked for."""

SHARED_ROUTES: Final[Mapping[str, Needs]] = {
    "help": needs_nothing("it tells how to ask, and nothing of what there is"),
    "health": needs_nothing("it says nothing but that the daemon is there"),
    "version": needs_nothing("it says which release this is"),
    "metrics/snapshot": METRICS,
    "metrics": METRICS,
    "logging/toggle": needs(Action.GET_ENDPOINT_WITH_PATH, "/logging/toggle"),
    "system/stats.json": needs_nothing("it is about the machine, and open in Mesos"),
    "profiler/start": needs_nothing("it does nothing"),
    "profiler/stop": needs_nothing("it does nothing"),
    "__processes__": needs_nothing("it names parts of the program, the same in every cluster"),
    "flags": needs(Action.VIEW_FLAGS),
}
"""What the routes need that master and agent have alike, by path."""

_OF_EXECUTORS: Final = frozenset(
    (
        Action.LAUNCH_NESTED_CONTAINER,
        Action.WAIT_NESTED_CONTAINER,
        Action.KILL_NESTED_CONTAINER,
        Action.LAUNCH_NESTED_CONTAINER_SESSION,
        Action.REMOVE_NESTED_CONTAINER,
        Action.ATTACH_CONTAINER_OUTPUT,
    )
)

_UNKNOWN: Final = "It cannot be found out at the moment what is allowed."


def needs_text(needed: Needs | None) -> str:
    """Return a sentence for people about what one must be allowed; nothing for nothing."""
    if needed is None or not needed.actions:
        return ""
    lists = ", ".join(dict.fromkeys(LIST_OF[action] for action in needed.actions))
    if needed.first:
        return f"Where there are ACLs, who may not is refused ({lists})."
    return f"Where there are ACLs, what may not be seen or done is left out or refused ({lists})."


@implementer(IAuthorizer)
class _Refusing:
    """Allows nothing: to whoever has proved claims and no name, as Mesos does."""

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Say no."""
        return False


@implementer(IAuthorizer)
class _OfContainer:
    """
    What an executor may do who has proved which container is his: whatever concerns containers
    within that (C{LocalImplicitExecutorObjectApprover} of C{src/authorizer/local/authorizer.cpp}).
    """

    def __init__(self, container: str) -> None:
        self._container = container

    def prepare(self, principal: str | None) -> None:
        """There is nothing to wait for."""

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Say whether it is about what is his."""
        return action in _OF_EXECUTORS and thing.root == self._container


@implementer(IAuthorizer)
class Careful:
    """
    An authorizer of somebody else's: where it raises an error, the answer is no.

    @param inner: provides L{IAuthorizer}.
    """

    log = Logger()

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._failing = False

    def prepare(self, principal: str | None) -> Any:
        """Ask it to get ready."""
        return self._inner.prepare(principal)

    def allows(self, principal: str | None, action: Action, thing: Thing) -> bool:
        """Ask it; each row of errors is logged once."""
        try:
            allowed = bool(self._inner.allows(principal, action, thing))
        except Exception:
            if not self._failing:
                self._failing = True
                self.log.failure(
                    "The authorizer failed on {action}; nothing is allowed where it fails",
                    action=action.name,
                )
            return False
        self._failing = False
        return allowed


class Authorizing:
    """
    What doors ask.

    @param authorizer: provides L{IAuthorizer}; L{None}: everything is allowed.

    @ivar authorizer: the same.
    """

    log = Logger()

    def __init__(self, authorizer: Any, clock: IReactorTime) -> None:
        self.authorizer = authorizer
        self._clock = clock
        self._nameless = Subject(None, _Refusing())

    async def begin(self) -> None:
        """Get ready for whoever does not say who he is; links of his are not waited for."""
        ready = self.prepare(None)
        if ready is not None:
            await ready

    def subject(self, who: Principal | None) -> Subject:
        """Return who asks over HTTP, with whoever decides for him."""
        if self.authorizer is None:
            return ANYBODY
        if who is None:
            return Subject(None, self.authorizer)
        if who.name is not None:
            return Subject(who.name, self.authorizer)
        container = who.claims.get("cid")
        return Subject(None, _OfContainer(container)) if container else self._nameless

    def prepare(self, principal: str | None) -> Deferred[Away | None] | None:
        """
        Wait until questions about a principal can be answered: L{None} where they can already.

        The Deferred fires with L{None}, or with why he cannot be let in; it does not fail.
        """
        if self.authorizer is None:
            return None
        try:
            ready = self.authorizer.prepare(principal)
        except Exception:
            ready = _failed()
        if not isinstance(ready, Deferred):
            return None
        ready.addTimeout(PATIENCE, self._clock)
        ready.addCallbacks(lambda _: None, self._not_ready)
        return ready

    def identify(self, identify: Identify) -> Identify:
        """Return what finds out who asks, and is not done before questions can be answered."""
        if self.authorizer is None:
            return identify

        def prepared(who: Identified) -> Identified | Deferred[Identified]:
            if isinstance(who, Away):
                return who
            ready = self.prepare(None if who is None else who.name)
            if ready is None:
                return who
            return ready.addCallback(lambda away: away or who)

        def identified(asked: Asked) -> Identified | Deferred[Identified]:
            who = identify(asked)
            return who.addCallback(prepared) if isinstance(who, Deferred) else prepared(who)

        return identified

    def _not_ready(self, failure: Failure) -> Away:
        self.log.failure("The authorizer did not get ready", failure)
        return Away(503, _UNKNOWN)


def _failed() -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback()
    return failed
