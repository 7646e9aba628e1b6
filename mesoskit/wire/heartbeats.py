"""Heartbeats at one interval for any number of streams, with one timer."""

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Beating(Protocol):
    """What wants to hear a beat. It must be hashable, and must not raise."""

    def beat(self) -> None:
        """The interval has passed since it joined, or since the last beat."""
        ...


class Heartbeats:
    """
    Calls C{beat} of each member once an interval, counted from when it joined.

    The interval is the same for all, so the order of joining is the order in which they
    are due, and a beat costs the same however many there are. After a process was stopped
    for a while each member hears one beat, not one for every interval that passed.

    @ivar interval: seconds between two beats.
    """

    def __init__(self, clock: IReactorTime, interval: float) -> None:
        if not interval > 0:
            raise ValueError(f"the interval is {interval} s; it must be more than 0")
        self.interval = interval
        self._clock = clock
        # When each is due, in that order.
        self._due: dict[Beating, float] = {}
        self._timer: IDelayedCall | None = None

    def join(self, member: Beating) -> None:
        """Let it hear beats from now on, the first after one interval."""
        self._due.pop(member, None)
        self._due[member] = self._clock.seconds() + self.interval
        self._set()

    def leave(self, member: Beating) -> None:
        """Let it hear no more; nothing happens where it is no member."""
        self._due.pop(member, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        if self._timer is None and self._due:
            due = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._beat)

    def _beat(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for member, due in list(self._due.items()):
            if due > now:
                break
            # One that beats may make others leave.
            if self._due.pop(member, None) is not None:
                self._due[member] = now + self.interval
                member.beat()
        self._set()
