"""Trying again what ZooKeeper could not do, and saying once why."""

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.ensemble import EnsembleError, Unavailable

AGAIN: Final = 1.0
"""Seconds after which something that failed while the connection stands is tried again."""


class Trying:
    """
    Something that is tried until it succeeds, or is not wanted any more.

    @param attempt: tries it once more.
    @param broken: what is logged where an attempt failed by a fault of ours.
    @param refused: likewise where ZooKeeper refused it; with a field C{why}.
    @ivar wanted: whether anything is done at all.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: Logger,
        attempt: Callable[[], None],
        broken: str,
        refused: str,
    ) -> None:
        self.wanted = False
        self._clock = clock
        self._log = log
        self._attempt = attempt
        self._broken = broken
        self._refused = refused
        self._later: IDelayedCall | None = None
        self._complained = ""

    def stop(self) -> None:
        """Try it no more."""
        self.wanted = False
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    def failed(self, reason: Failure) -> None:
        """An attempt failed: try again a little later. That servers are away is no news."""
        if not reason.check(EnsembleError):  # type: ignore[no-untyped-call]
            self._log.failure(self._broken, failure=reason)
        elif not reason.check(Unavailable):  # type: ignore[no-untyped-call]
            self.complain(reason.getErrorMessage())
        if self.wanted and self._later is None:
            self._later = self._clock.callLater(AGAIN, self._now)

    def complain(self, why: str) -> None:
        """Say why it does not succeed, if that is news."""
        if why != self._complained:
            self._complained = why
            self._log.error(self._refused, why=why)

    def succeeded(self) -> None:
        """What goes wrong from now on is news again."""
        self._complained = ""

    def _now(self) -> None:
        self._later = None
        self._attempt()
