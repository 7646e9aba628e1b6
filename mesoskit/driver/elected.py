"""Dialling the master that masters have elected in ZooKeeper, and leaving it for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.detector import ZooKeeperDetector
from mesoskit.cluster.ensemble import EnsembleError
from mesoskit.cluster.leader import Leader
from mesoskit.cluster.zk_url import SCHEME, URLError, ZooKeeperURL, hidden
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.auth.identity import AuthenticationRefused
from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.link import Link, Receiver

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0
"""Seconds between attempts to reach a leader that does not answer; they double up to that."""

_PREFIXES: Final = {SCHEME: "", f"http+{SCHEME}": "http://", f"https+{SCHEME}": "https://"}


class Detector(Protocol):
    """What is needed of a L{ZooKeeperDetector}."""

    def detect(self, previous: str | None) -> Deferred[str | None]:
        """Fire when the leading master is not C{previous} any more."""
        ...

    def close(self) -> Deferred[None]:
        """Detect no more."""
        ...


def is_elected(text: str) -> bool:
    """
    Tell whether a text says that masters are elected in ZooKeeper: C{zk://...}, or
    C{http+zk://...} and C{https+zk://...}, where they are spoken to over HTTP.
    """
    return text.startswith(tuple(_PREFIXES))


def detector_of(
    reactor: Any, text: str, settings: DriverSettings, by_name: bool
) -> Callable[[], ZooKeeperDetector]:
    """
    Return what makes a detector, of a text that L{is_elected} knows.

    Raises L{EndpointError}.

    @param by_name: whether masters are dialled by their names, as certificates have them.
    """
    start = next(prefix for prefix in _PREFIXES if text.startswith(prefix))
    try:
        url = ZooKeeperURL.parse(SCHEME + text.removeprefix(start))
    except URLError as error:
        raise EndpointError(hidden(text), error.why) from None
    scheme = _PREFIXES[start]
    named = by_name or scheme == "https://"

    def address(leader: Leader) -> str:
        return scheme + (leader.name if named else leader.address)

    def make() -> ZooKeeperDetector:
        from mesoskit.cluster.zookeeper import ZooKeeper

        timeout = settings.zk_session_timeout
        ensemble = ZooKeeper(
            reactor, url, session_timeout=timeout, operation_timeout=timeout, tls=settings.zk_tls
        )
        return ZooKeeperDetector(ensemble, reactor, url.path, address)

    return make


class ElectedDial:
    """
    Dials whoever leads, for as long as it takes: a L{Dial<mesoskit.driver.connection.Dial>}.

    A link is given up when another master leads: it may be to one that stands still.

    @param reactor: the clock.
    @param make: makes the detector when somebody dials.
    @param dial: dials a place.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        make: Callable[[], Detector],
        dial: Callable[[str, Receiver], Deferred[Link]],
    ) -> None:
        self._reactor = reactor
        self._make = make
        self._dial = dial
        self._detector: Detector | None = None
        self._watching: Deferred[Any] | None = None
        self._complained = ""

    def __call__(self, receiver: Receiver) -> Deferred[Link]:
        """
        Dial; fires when there is a link. Fails with
        L{AuthenticationRefused<mesoskit.wire.auth.identity.AuthenticationRefused>}, and where
        ZooKeeper refuses us.
        """
        self._watch_no_more()
        if self._detector is None:
            self._detector = self._make()
        going = Deferred.fromCoroutine(self._go(self._detector, receiver))
        return going.addErrback(self._refused)

    def _refused(self, reason: Failure) -> Failure:
        if reason.check(EnsembleError):  # type: ignore[no-untyped-call]
            # Another session may be luckier; this one will not be.
            self.close()
        return reason

    def close(self) -> Deferred[None]:
        """Let go of ZooKeeper; to dial again begins anew."""
        self._watch_no_more()
        detector, self._detector = self._detector, None
        return succeed(None) if detector is None else detector.close()

    async def _go(self, detector: Detector, receiver: Receiver) -> Link:
        wait = FIRST_WAIT
        before: str | None = None
        while True:
            place = await detector.detect(None)
            if place is None:
                # It was so when the detector said it, and is not any more.
                continue
            if place != before:
                before, wait = place, FIRST_WAIT
            try:
                link = await self._dial(place, receiver)
            except (AuthenticationRefused, CancelledError):
                raise
            except Exception as error:
                self._complain(f"{place}: {getattr(error, 'why', error)}")
            else:
                self._complained = ""
                self._watch(detector, place, link)
                return link
            await self._another_or_later(detector, place, wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _another_or_later(self, detector: Detector, place: str, seconds: float) -> None:
        """Wait until another master leads, or this one may be tried again."""
        either: Deferred[None] = Deferred()

        def fire(_: object) -> None:
            if not either.called:
                either.callback(None)

        waiting = [detector.detect(place), deferLater(self._reactor, seconds)]
        for each in waiting:
            each.addBoth(fire)
        try:
            await either
        finally:
            for each in waiting:
                each.cancel()

    def _watch(self, detector: Detector, place: str, link: Link) -> None:
        def changed(leader: str | None) -> None:
            # Where nobody leads, whoever did may not know it.
            link.lose(f"another master leads: {leader}" if leader else "no master leads")

        self._watching = detector.detect(place)
        self._watching.addCallbacks(changed, self._not_watched)

    def _not_watched(self, reason: Failure) -> None:
        if not reason.check(CancelledError):  # type: ignore[no-untyped-call]
            self.log.error("Masters are not watched: {why}", why=reason.getErrorMessage())

    def _watch_no_more(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()

    def _complain(self, why: str) -> None:
        if why != self._complained:
            # The same trouble again and again is one line in the log.
            self._complained = why
            self.log.warn("no link to the leading master at {why}", why=why)
