"""How long a session in ZooKeeper is known to go on, told without ZooKeeper."""

from typing import Final

RENEWALS: Final = 8
"""So often in the time-out of its session a leader asks whether it leads."""

SAFE: Final = 0.7
"""
The part of a session's time-out, from the last question that was answered, in which no other
master can have been elected.

The servers end a session when they have heard nothing of it for the time-out. What a server other
than their leader heard, the leader is told twice a tick; if that server dies then, the session was
heard of by half a tick, and one of our questions, less. A session lasts two ticks at least, so that
is a quarter of it at the most. The rest is for clocks that go at different speeds.
"""


class Lease:
    """
    The right to believe that one leads, on one's own clock.

    Moments are seconds of a clock that never jumps and counts on while the machine sleeps.

    @ivar until: when it ends, minus infinity before it was had.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = float("-inf")

    def renew(self, asked: float, session_timeout: float) -> None:
        """
        A question to ZooKeeper was answered so that we lead.

        @param asked: when the question was asked, not when its answer came.
        @param session_timeout: what the servers agreed to, in seconds.
        """
        self.until = max(self.until, asked + SAFE * session_timeout)

    def over(self, now: float) -> bool:
        """Tell whether it has ended."""
        return now >= self.until
