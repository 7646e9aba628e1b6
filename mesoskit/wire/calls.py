"""Our calls to a peer that it has not answered."""

from twisted.internet.defer import Deferred

from mesoskit.messages.stream_pb2 import Item
from mesoskit.wire.link import CallRefused, LinkLost, TooManyCalls
from mesoskit.wire.words import LONGEST_TEXT, heard


class Calls:
    """
    They, by their numbers, which grow.

    @param peer: whose they are, for errors.
    @param limit: how many may wait for an answer.
    """

    __slots__ = ("_last", "_limit", "_peer", "_waiting")

    def __init__(self, peer: str, limit: int) -> None:
        self._peer = peer
        self._limit = limit
        self._last = 0
        # None where nobody waits any more.
        self._waiting: dict[int, Deferred[None] | None] = {}

    def next(self) -> int:
        """Return the number of the next call; raise L{TooManyCalls} where there may be none."""
        if len(self._waiting) >= self._limit:
            raise TooManyCalls(f"{self._limit} calls to {self._peer} wait for answers already")
        return self._last + 1

    def made(self, number: int) -> "Deferred[None]":
        """The call of this number was sent: return what fires with its answer."""
        waiting = self._waiting

        def forget(_: "Deferred[None]") -> None:
            if number in waiting:
                waiting[number] = None

        self._last = number
        deferred: Deferred[None] = Deferred(forget)
        waiting[number] = deferred
        return deferred

    def answered(self, item: Item) -> bool:
        """Take an answer; say whether it was waited for."""
        number = item.answers
        if number not in self._waiting:
            return False
        deferred = self._waiting.pop(number)
        if deferred is not None:
            if item.status in (0, 202):
                deferred.callback(None)
            else:
                deferred.errback(CallRefused(item.status, heard(item.why, LONGEST_TEXT)))
        return True

    def lost(self, why: str) -> None:
        """The link is lost: nothing will be answered any more."""
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting.values():
            if deferred is not None:
                deferred.errback(LinkLost(f"the link to {self._peer} was lost: {why}"))
