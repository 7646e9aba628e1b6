"""Native links inside one process, without a reactor: for tests.

What is sent here is written to bytes, cut into frames and parsed again by the very
sessions that sit on sockets; only the connection between them is pretended. Nothing
moves but in L{Pipe.pump}, so a test decides when anything arrives.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import Message

from mesoskit.messages.stream_pb2 import Purpose
from mesoskit.wire.counters import Counters
from mesoskit.wire.link import Hello
from mesoskit.wire.plan import Receivers, SessionPlan
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings

#: As for sockets, except that a stalled link is congested at once.
MEMORY_SETTINGS: Final = StreamSettings(high_water=0, low_water=0)

# Deliveries in one pump after which two receivers are taken to answer each other for ever.
_NEVER_QUIET: Final = 1_000_000


class _End:
    """One end's connection: the carrier of its session."""

    def __init__(self, plan: SessionPlan, peer: str) -> None:
        self.session = Session(plan, self, peer)
        self.wire: deque[bytes] = deque()
        self.dirty = False
        self.stalled = False
        self.closing = False
        self.aborted = False
        self.reads = True

    def write(self, data: bytes) -> None:
        self.wire.append(data)

    def close(self) -> None:
        self.closing = self.reads = True

    def abort(self) -> None:
        self.aborted = True

    def reading(self, on: bool) -> None:
        self.reads = on

    def flush_later(self) -> None:
        self.dirty = True

    def waits(self, count: int) -> None:
        """Nobody else holds anything here."""

    def settling(self) -> None:
        """Time does not pass here."""

    def opened(self) -> None:
        """Nobody visits it: time does not pass here."""


class Pipe:
    """
    Two links and the connection between them.

    @ivar a: the link that the first receiver holds; its peer is the second one.
    @ivar b: the link that the second receiver holds.
    @ivar counters: what both have carried.
    """

    def __init__(self, a: _End, b: _End, counters: Counters) -> None:
        self._ends = (a, b)
        self.a = a.session
        self.b = b.session
        self.counters = counters
        self._pumping = False
        self._cut = ""
        self._gone = False
        a.session.start()
        b.session.start()

    def pump(self) -> bool:
        """
        Deliver until nothing is left to deliver; returns whether anything was.

        Called by a receiver that is being delivered to it does nothing: the pump that
        is running already goes on until all is quiet. Raises L{RuntimeError} where that
        never happens.
        """
        if self._pumping:
            return False
        self._pumping = True
        try:
            for rounds in range(_NEVER_QUIET):
                if not self._round():
                    return rounds > 0
        finally:
            self._pumping = False
        raise RuntimeError(f"still not quiet after {_NEVER_QUIET} deliveries")

    def cut(self, why: str = "connection cut") -> None:
        """Lose the connection without goodbye; what was under way is lost with it."""
        self._cut = why
        self.pump()

    def stall(self, stalled: bool, link: Session | None = None) -> None:
        """
        Let the connection take nothing more, or let it take all again.

        @param link: only what this link sends; L{None} for both.
        """
        for end in self._ends:
            if link is None or end.session is link:
                if end.stalled is stalled:
                    continue
                end.stalled = stalled
                if stalled:
                    end.session.pause()
                else:
                    end.session.resume()

    def _round(self) -> bool:
        if self._gone:
            return False
        if self._cut:
            self._lose(self._cut)
            return True
        moved = False
        for end, other in (self._ends, self._ends[::-1]):
            if end.dirty:
                end.dirty = False
                end.session.flush()
                moved = True
            if end.aborted:
                self._lose("connection aborted")
                return True
            if end.stalled:
                continue
            if end.wire and other.reads:
                other.session.bytes_received(end.wire.popleft())
                moved = True
            elif end.closing and not end.wire:
                self._lose("connection closed")
                return True
        return moved

    def _lose(self, why: str) -> None:
        self._gone = True
        for end in self._ends:
            end.wire.clear()
        for end in self._ends:
            end.session.closed(why)


def connect(
    a: Receivers,
    b: Receivers,
    hello_a: Hello,
    hello_b: Hello,
    *,
    accept_a: Iterable[int] | None = None,
    accept_b: Iterable[int] | None = None,
    principal_a: str | None = None,
    principal_b: str | None = None,
    settings: StreamSettings = MEMORY_SETTINGS,
    settings_b: StreamSettings | None = None,
    bulk: bool = False,
) -> Pipe:
    """
    Connect two receivers, as if C{b} had dialled C{a}; both hear of it with the first L{Pipe.pump}.

    @param hello_a: what C{a} says of itself, which C{b} finds as C{link.hello}.
    @param accept_a: the roles that C{a} accepts; L{None} for any known one.
    @param principal_a: who C{a} is taken to be, which C{b} finds as C{link.principal}.
    @param settings: of both sides, unless C{settings_b} is given.
    @param bulk: C{a} hears bulk links, not links for control.
    """
    counters = Counters()

    def plan(
        receiver: Receivers,
        hello: Hello,
        accept: Iterable[int] | None,
        settings: StreamSettings,
        principal: str | None,
        dials: bool,
    ) -> SessionPlan:
        settle = None if principal is None else lambda session: _Known(session, principal)
        others: dict[int, Receivers] = {Purpose.BULK: receiver} if bulk and not dials else {}
        return SessionPlan(receiver, hello, accept, settings, counters, settle, dials, others)

    plan_a = plan(a, hello_a, accept_a, settings, principal_b, False)
    plan_b = plan(b, hello_b, accept_b, settings_b or settings, principal_a, True)
    return Pipe(_End(plan_a, "memory:b"), _End(plan_b, "memory:a"), counters)


class _Known:
    """Settles at once: the peer is whom the test says."""

    def __init__(self, session: Session, principal: str) -> None:
        self._session = session
        self._principal = principal

    def start(self) -> None:
        self._session.settled(self._principal)

    def received(self, message: Message) -> None:
        """Nothing comes before the peer is settled."""
