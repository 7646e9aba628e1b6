"""Turns: the one order of change, store, send that every daemon keeps.

Events wait in a deque. Once a reactor turn all of them are given, one after the
other, to the state; the effects come out as one batch. Where the batch holds a
L{Store}, its changes go to the store as one group, and this batch and every later
one wait in a queue until the store has answered: only then is anything sent that
rests on a change. What is marked urgent (pings, answers to questions) passes by.

The store may answer at once (SQLite) or after a round trip (ZooKeeper): the rule
is the same. What stood behind a change that the store failed to keep is never
performed, and the state hears L{StoreFailed} before it hears anything else. What
becomes of the rest is the daemon's choice: a master may believe nothing any more
that followed (C{isolate=False}: everything that waits is dropped); an agent fails
the task whose record could not be written and goes on (C{isolate=True}: a group
that fails is tried again event by event, and only what fails alone is dropped). A store that
does not answer in time, or behind which too much waits, has failed.

Whoever decides only while it leads gives a fence: it is asked before each turn and before anything
that waited for the store is performed, and where it says why not, nothing is decided or sent any
more.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.store import Change, IStore, StoreError
from mesoskit.model.events import Answer, Recovered, Send, Stop, Store, StoreFailed, Woke

MOST: Final = 256
"""
Events of one turn, or half of those that wait; the rest is for the next. Enough to share a
commit and a write, and few enough that what else the reactor has to do (HTTP, heartbeats) waits for
some milliseconds: an event takes a master 10 to 20 µs, its effects included.
"""

MOST_HELD: Final = 100_000
"""Events whose effects may wait for the store; more is a store that cannot keep up."""

Handle = Callable[[float, Any], list[Any]]


class Turns:
    """
    The loop round one state.

    @param clock: gives C{seconds()} and C{callLater}.
    @param handle: the state's C{handle(now, event)}.
    @param deadline: says when the state wants to be woken next, or L{None}.
    @param perform: carries out one effect; called in order; must not raise (what it
        raises is logged, and the next effect is carried out).
    @param store: where L{Store} effects go.
    @param stopped: called once, when the state asked to L{Stop} or when C{handle}
        itself raised (a broken state must not go on deciding).
    @param flush: called after effects were performed, so that what was sent within a
        turn leaves in one write.
    @param isolate: see the module's text.
    @param fence: says why nothing may be decided any more, or L{None}; must be quick.
    @param load_timeout: seconds that reading the store may take; L{None} for any time.
    @param store_timeout: seconds that a group of changes may take.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        handle: Handle,
        deadline: Callable[[], float | None],
        perform: Callable[[Any], None],
        store: IStore,
        *,
        stopped: Callable[[Stop], None] | None = None,
        flush: Callable[[], None] | None = None,
        isolate: bool = False,
        fence: Callable[[], str | None] | None = None,
        load_timeout: float | None = None,
        store_timeout: float | None = None,
    ) -> None:
        self._clock = clock
        self._handle = handle
        self._deadline = deadline
        self._perform = perform
        self._store = store
        self._stopped = stopped
        self._flush = flush
        self._isolate = isolate
        self._fence = fence
        self._load_timeout = load_timeout
        self._store_timeout = store_timeout
        self._events: deque[Any] = deque()
        self._scheduled: IDelayedCall | None = None
        self._wake: IDelayedCall | None = None
        self._wake_at = 0.0
        # Whether a Woke is among the events.
        self._waking = False
        self._waiting: deque[_Batch] = deque()
        # Of how many events they are.
        self._held = 0
        self._running = True
        self._started = False
        self.turns = 0
        self.events = 0

    def start(self) -> "Deferred[None]":
        """
        Read the store and give the state its first event, L{Recovered}.

        Events that were put before this are given after it. Fails with
        L{mesoskit.cluster.store.StoreError} where the store cannot be read.
        """

        def loaded(snapshot: dict[str, bytes]) -> None:
            if self._running:
                self._started = True
                self._events.appendleft(Recovered(snapshot))
                self._turn()

        return self._within(self._store.load(), self._load_timeout).addCallback(loaded)

    def _within(self, answer: "Deferred[Any]", timeout: float | None) -> "Deferred[Any]":
        """Let an answer of the store be a failure if it does not come in time."""
        if timeout is None or answer.called:
            return answer

        def late(reason: Failure) -> Failure:
            if reason.check(TookTooLong):  # type: ignore[no-untyped-call]
                raise StoreError(f"no answer within {timeout:g} s")
            return reason

        return answer.addTimeout(timeout, self._clock).addErrback(late)

    def put(self, event: Any) -> None:
        """Let the state hear an event, in this reactor turn or the next."""
        if not self._running:
            return
        self._events.append(event)
        if self._scheduled is None and self._started:
            self._scheduled = self._clock.callLater(0, self._run)

    def stop(self) -> None:
        """Hear and perform nothing any more."""
        self._running = False
        self._events.clear()
        self._clear_waiting()
        for call in (self._scheduled, self._wake):
            if call is not None and call.active():
                call.cancel()
        self._scheduled = self._wake = None

    @property
    def queued(self) -> int:
        """How many events the state has not heard yet."""
        return len(self._events)

    @property
    def waiting(self) -> int:
        """How many batches wait for the store."""
        return len(self._waiting)

    def _run(self) -> None:
        self._scheduled = None
        self._turn()

    def _woken(self) -> None:
        self._wake = None
        when = self._deadline()
        if when is not None and when <= self._clock.seconds():
            if not self._waking:
                self._waking = True
                self._events.append(Woke())
            if self._scheduled is None:
                self._turn()
        else:
            self._set_wake()

    def _fenced(self) -> bool:
        """Tell whether nothing may be decided any more; the loop has ended then."""
        why = None if self._fence is None else self._fence()
        # To be fenced off may have ended it already.
        if why is not None and self._running:
            self._clear_waiting()
            self._end(Stop(why, 1))
        return why is not None

    def _turn(self) -> None:
        if self._fenced():
            return
        events, handle = self._events, self._handle
        now = self._clock.seconds()
        outcome: list[list[Any]] = []
        stores = False
        count = len(events)
        if count > MOST:
            # Half of what waits at least: however much comes, no more than twice that waits.
            count = max(MOST, count // 2)
        self.turns += 1
        self.events += count
        for _ in range(count):
            event = events.popleft()
            if event.__class__ is Woke:
                self._waking = False
            try:
                effects = handle(now, event)
            except Exception:
                self._broken(event)
                return
            if effects:
                outcome.append(effects)
                for effect in effects:
                    if effect.__class__ is Store:
                        stores = True
        if stores:
            self._keep(outcome)
        elif self._waiting:
            self._hold(_Batch(self._pass_by(outcome), answered=True))
        else:
            self._carry_out(outcome)
        if self._held > MOST_HELD:
            behind = self._waiting[0]
            behind.why = f"{self._held} events wait for it: it cannot keep up"
            self._failed(behind)
        if self._running:
            if not self._waking:
                self._set_wake()
            if events and self._scheduled is None:
                self._scheduled = self._clock.callLater(0, self._run)

    def _keep(self, outcome: list[list[Any]]) -> None:
        """Give the turn's changes to the store, and let its effects wait for the answer."""
        batch = _Batch(self._pass_by(outcome), answered=False)
        self._hold(batch)

        def answered(result: object) -> None:
            batch.answered = True
            if isinstance(result, Failure):
                batch.why = result.getErrorMessage()
            self._drain()

        self._within(self._store.apply(batch.changes()), self._store_timeout).addBoth(answered)

    def _hold(self, batch: "_Batch") -> None:
        self._waiting.append(batch)
        self._held += len(batch.outcome)

    def _let_go(self) -> None:
        self._held -= len(self._waiting.popleft().outcome)

    def _clear_waiting(self) -> None:
        self._waiting.clear()
        self._held = 0

    def _pass_by(self, outcome: list[list[Any]]) -> list[list[Any]]:
        """Perform what is urgent, at once; return the rest."""
        urgent = [e for effects in outcome for e in effects if e.__class__ is Send and e.urgent]
        if not urgent:
            return outcome
        self._carry_out([urgent])
        return [
            [e for e in effects if not (e.__class__ is Send and e.urgent)] for effects in outcome
        ]

    def _drain(self) -> None:
        waiting = self._waiting
        if waiting and waiting[0].answered and self._fenced():
            return
        while waiting and waiting[0].answered and self._running:
            batch = waiting[0]
            if batch.why is None:
                self._let_go()
                self._carry_out(batch.outcome)
            elif self._isolate and len(batch.outcome) > 1:
                self._try_apart(batch)
            else:
                self._failed(batch)

    def _try_apart(self, batch: "_Batch") -> None:
        """Put the events of a group that failed in its place, each to be stored alone."""
        waiting = self._waiting
        # So many events as before: the parts take the group's place.
        waiting.popleft()
        parts = [_Batch([effects], answered=False) for effects in batch.outcome]
        waiting.extendleft(reversed(parts))
        for part in parts:
            changes = part.changes()
            if changes:
                kept = self._within(self._store.apply(changes), self._store_timeout)
                kept.addBoth(self._part_answered, part)
            else:
                self._part_answered(None, part)

    def _part_answered(self, result: object, part: "_Batch") -> None:
        part.answered = True
        if isinstance(result, Failure):
            part.why = result.getErrorMessage()
        if self._waiting and self._waiting[0] is part:
            self._drain()

    def _failed(self, batch: "_Batch") -> None:
        """Drop what rests on a change that is not durable; refuse its calls, tell the state."""
        why = batch.why or "unknown"
        self.log.error("The store failed: {why}", why=why)
        dropped = [batch] if self._isolate else list(self._waiting)
        if self._isolate:
            self._let_go()
        else:
            self._clear_waiting()
        refused = [
            Answer(e.peer, e.call, 503, f"Not stored: {why}")
            for each in dropped
            for effects in each.outcome
            for e in effects
            if e.__class__ is Answer
        ]
        self._carry_out([refused])
        changes = tuple(change for each in dropped for change in each.changes())
        self._events.appendleft(StoreFailed(changes, why))
        if self._scheduled is None:
            self._scheduled = self._clock.callLater(0, self._run)

    def _carry_out(self, outcome: list[list[Any]]) -> None:
        perform = self._perform
        for effects in outcome:
            for effect in effects:
                kind = effect.__class__
                if kind is Store:
                    continue
                if kind is Stop:
                    self._end(effect)
                    return
                try:
                    perform(effect)
                except Exception:
                    self.log.failure("Could not perform {effect!r}", effect=effect)
        if self._flush is not None:
            self._flush()

    def _broken(self, event: Any) -> None:
        self.log.failure("The state cannot go on after {kind}", kind=type(event).__name__)
        self._end(Stop(f"internal error while handling {type(event).__name__}", 1))

    def _end(self, stop: Stop) -> None:
        if self._flush is not None:
            self._flush()
        self.stop()
        if self._stopped is not None:
            self._stopped(stop)

    def _set_wake(self) -> None:
        """Be woken at the deadline; a wake set for an earlier moment stays, and looks again."""
        when = self._deadline()
        if when is None:
            return
        if self._wake is None:
            self._wake = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._woken)
            self._wake_at = when
        elif when < self._wake_at:
            self._wake.reset(max(0.0, when - self._clock.seconds()))
            self._wake_at = when


class _Batch:
    """The effects of one turn, a list an event, that wait for a store."""

    __slots__ = ("answered", "outcome", "why")

    def __init__(self, outcome: list[list[Any]], answered: bool) -> None:
        self.outcome = outcome
        self.answered = answered
        self.why: str | None = None

    def changes(self) -> tuple[Change, ...]:
        """Return what is to be stored, in order."""
        return tuple(
            change
            for effects in self.outcome
            for effect in effects
            if effect.__class__ is Store
            for change in effect.changes
        )
