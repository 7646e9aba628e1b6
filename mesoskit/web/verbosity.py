"""How much a daemon logs, and C{/logging/toggle}, which lets it log more for a while.

Level 0 is what the daemon was started to log, without debug messages; every level above shows
all there is. Texts and rules are those of C{3rdparty/libprocess/src/logging.cpp}.
"""

import re
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogFilterPredicate, LogLevel, PredicateResult
from zope.interface import implementer

from mesoskit.model.durations import InvalidDuration, parse_duration

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}")


@implementer(ILogFilterPredicate)
class Verbosity:
    """
    A level that goes back by itself.

    @ivar level: the one that counts now.
    """

    def __init__(self, original: int = 0) -> None:
        self.level = self.original = original
        self._timer: IDelayedCall | None = None

    def __call__(self, event: dict[str, Any]) -> Any:
        """Say whether an event is worth a line."""
        if self.level:
            return PredicateResult.yes
        if event.get("log_level") is LogLevel.debug:
            return PredicateResult.no
        return PredicateResult.maybe

    def set(self, level: int, seconds: float, clock: IReactorTime) -> None:
        """Count with a level for so many seconds, then with the original one."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.level = level
        self._timer = clock.callLater(seconds, self._back) if level != self.original else None

    def _back(self) -> None:
        self._timer = None
        self.level = self.original


VERBOSITY: Final = Verbosity()
"""The process' own: there is one log."""


def toggle(
    level: str | None, duration: str | None, clock: IReactorTime, verbosity: Verbosity = VERBOSITY
) -> tuple[int, str]:
    """
    Do what C{/logging/toggle} is asked for; return a status and a text.

    @param level: and C{duration}: as they stand in the query, L{None} where they do not.
    """
    if level is None and duration is None:
        return 200, f"{verbosity.level}\n"
    if duration is None:
        return 400, "Expecting 'duration=value' in query.\n"
    if level is None:
        return 400, "Expecting 'level=value' in query.\n"
    if not _NUMBER.fullmatch(level):
        return 400, f"Failed to convert '{level}' to number.\n"
    wanted = int(level)
    if wanted < 0:
        return 400, f"Invalid level '{wanted}'.\n"
    if wanted < verbosity.original:
        return 400, f"'{wanted}' < original level.\n"
    try:
        seconds = parse_duration(duration)
    except InvalidDuration as error:
        return 400, f"{error}.\n"
    verbosity.set(wanted, seconds, clock)
    return 200, ""
