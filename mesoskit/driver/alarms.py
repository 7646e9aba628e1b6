"""One timer for everything that a driver waits for."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mesoskit.model.deadlines import Deadlines


class Alarms:
    """
    Functions to be called once, later, by key: one C{DelayedCall} for all of them.

    @ivar clock: what tells the time.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._deadlines = Deadlines()
        self._functions: dict[object, Callable[[], None]] = {}
        self._call: IDelayedCall | None = None
        self._when = 0.0

    def __contains__(self, key: object) -> bool:
        """Tell whether something is to be called under this key."""
        return key in self._functions

    def set(self, key: object, seconds: float, function: Callable[[], None]) -> None:
        """Call C{function} in so many seconds, in place of what was to be called for C{key}."""
        self._functions[key] = function
        self._deadlines.set(key, self.clock.seconds() + seconds)
        self._arm()

    def drop(self, key: object) -> None:
        """Call nothing for C{key}; no error if nothing was to be called."""
        if self._functions.pop(key, None) is not None:
            self._deadlines.drop(key)

    def clear(self) -> None:
        """Call nothing any more."""
        self._functions.clear()
        self._deadlines = Deadlines()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _arm(self) -> None:
        when = self._deadlines.next()
        if when is None:
            return
        if self._call is not None:
            if self._when <= when:
                return
            self._call.cancel()
        self._when = when
        delay = max(0.0, when - self.clock.seconds())
        self._call = self.clock.callLater(delay, self._ring)

    def _ring(self) -> None:
        self._call = None
        for key in list(self._deadlines.due(self.clock.seconds())):
            # One that came before may have dropped it.
            function = self._functions.pop(key, None)
            if function is None:
                continue
            try:
                function()
            except Exception:
                self.log.failure("what was to be done about {key} failed", key=key)
        if self._call is None:
            self._arm()
