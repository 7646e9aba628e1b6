"""The file of a whitelist, which is looked at again and again, as Mesos does."""

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mesoskit.master.whitelist import Whitelisted, WhitelistError, parse_whitelist
from mesoskit.wire.files import FileRefused, read_text

INTERVAL: Final = 5.0
"""Seconds between two looks, as in Mesos (C{WHITELIST_WATCH_INTERVAL})."""


def read_whitelist(path: str) -> frozenset[str]:
    """Return the host names in a file. Raises L{WhitelistError}, naming the file."""
    try:
        return parse_whitelist(read_text(path), path)
    except FileRefused as error:
        raise WhitelistError(str(error)) from None


class WhitelistFile:
    """
    Looks at a file, and tells when other agents stand in it. What cannot be read changes nothing.

    @param clock: when to look.
    @param path: the file.
    @param known: what stood in it before.
    @param changed: told of what stands there now; returns whether that was taken, else it is told
        again.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        path: str,
        known: frozenset[str],
        changed: Callable[[Whitelisted], bool],
    ) -> None:
        self._clock = clock
        self._path = path
        self._known = known
        self._changed = changed
        self._wrong = ""
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = self._clock.callLater(INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        self.start()
        try:
            names = read_whitelist(self._path)
        except WhitelistError as error:
            if str(error) != self._wrong:
                self._wrong = str(error)
                self.log.error("The whitelist stays as it was: {wrong}", wrong=self._wrong)
            return
        self._wrong = ""
        if names != self._known and self._changed(Whitelisted(names)):
            self._known = names
            self.log.info("The whitelist has {count} agents now", count=len(names))
