"""The timers that many links share.

A timer of its own for each link, and a scheduled call for each link that has something
to send, would be most of what a link costs. Here one call a turn flushes every link
that was sent to, and one call after the other goes round all links, a few at a time,
for heartbeats and to notice who is silent.
"""

from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# Links are visited in so many groups, so that 10,000 heartbeats do not leave at one moment.
_GROUPS: Final = 8


class Visited(Protocol):
    """A link, as its pulse sees it. Neither method may raise."""

    def flush(self) -> None:
        """Hand to the transport what was sent."""
        ...

    def visit(self) -> None:
        """One span of the pulse has passed since the last visit; the first may come sooner."""
        ...


class Pulse:
    """
    Flushes links at the end of the turn, and visits each once in every C{span} seconds.

    A process that was stopped for a while visits each link once when it wakes, not once
    for every span that passed: what its peers said meanwhile is read before any of
    them can be thought silent.

    @ivar span: seconds between two visits to the same link.
    """

    __slots__ = (
        "_clock",
        "_dirty",
        "_due",
        "_flushing",
        "_groups",
        "_next",
        "_position",
        "_round",
        "span",
    )

    def __init__(self, clock: IReactorTime, span: float) -> None:
        self._clock = clock
        self.span = span
        self._groups: list[dict[Visited, None]] = [{} for _ in range(_GROUPS)]
        self._next = 0
        # The group that is visited next, and when.
        self._position = 0
        self._due = 0.0
        self._round: IDelayedCall | None = None
        self._dirty: list[Visited] = []
        self._flushing: IDelayedCall | None = None

    def join(self, link: Visited) -> int:
        """Visit this link from now on; returns its group, which L{leave} wants to know."""
        group = self._next
        self._next = (group + 1) % _GROUPS
        self._groups[group][link] = None
        if self._round is None:
            self._go_on(group, self.span)
        else:
            # Empty groups are passed over: is it this one's turn before the next one's?
            ahead = (self._position - group) % _GROUPS * self.span / _GROUPS
            delay = self._due - ahead - self._clock.seconds()
            if ahead and delay > 0:
                self._round.cancel()
                self._go_on(group, delay)
        return group

    def leave(self, link: Visited, group: int) -> None:
        """Visit this link no more."""
        self._groups[group].pop(link, None)
        if self._round is not None and not any(self._groups):
            self._round.cancel()
            self._round = None

    def flush_later(self, link: Visited) -> None:
        """Flush this link at the end of the turn; to be called once until that happens."""
        self._dirty.append(link)
        if self._flushing is None:
            self._flushing = self._clock.callLater(0, self._end_of_turn)

    def flush(self) -> None:
        """Flush now every link that was sent to."""
        dirty = self._dirty
        if dirty:
            self._dirty = []
            for link in dirty:
                link.flush()

    def _end_of_turn(self) -> None:
        self._flushing = None
        self.flush()

    def _go_on(self, position: int, delay: float) -> None:
        self._position = position
        self._due = self._clock.seconds() + delay
        self._round = self._clock.callLater(delay, self._go_round)

    def _go_round(self) -> None:
        self._round = None
        for link in list(self._groups[self._position]):
            link.visit()
        for steps in range(1, _GROUPS + 1):
            position = (self._position + steps) % _GROUPS
            if self._groups[position]:
                self._go_on(position, self.span * steps / _GROUPS)
                return
