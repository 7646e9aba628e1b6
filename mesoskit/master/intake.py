"""What stands between the master's links and its state: nobody may take all of its time.

A link may put so many messages into one turn and has to wait for the next one then, so that a
peer that sends without end costs the others a known delay and no more. Calls of frameworks pass
their principal's rate limit besides (L{mesoskit.master.rate_limits}). Whoever has to wait is not
read from; nothing is thrown away but what exceeds a capacity that the operator has set, and what
still waits when its sender is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from google.protobuf.message import Message
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mesoskit.master.rate_limits import Limiter, Limiters, RateLimits
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.link import CallID, Holding, Link, Receiver, Refused

A_TURN: Final = 512
"""Messages in one turn of all links together that have more to say than their share."""

MOST: Final = 256
"""A link's share of that where few have."""

LEAST: Final = 16
"""And where many have."""

WAITING: Final = 1000
"""Calls of one link that wait for its rate limit, where that has no capacity."""

WAITING_BYTES: Final = 16 * 1024 * 1024
"""Their bytes, whether it has or not."""

COUNTED: Final = 1000
"""Principals that are counted at least; beyond, those are forgotten of whom nobody is here."""

LONGEST_NAME: Final = 1024
"""Of a principal that is counted, in characters."""

# Why a link is held, as bits.
_HAS_HAD_ITS_TURN: Final = 1
_IS_LIMITED: Final = 2


class Progress(Protocol):
    """How far a state has got: L{mesoskit.cluster.turns.Turns}."""

    @property
    def events(self) -> int:
        """How many events it has been given."""
        ...

    @property
    def queued(self) -> int:
        """How many it has not been given yet."""
        ...


class Counted:
    """What came from the frameworks of a principal, for C{frameworks/<principal>/...}."""

    __slots__ = ("processed", "received")

    def __init__(self) -> None:
        self.received = self.processed = 0


class _Subscriber:
    """A framework's link, as far as limits are concerned."""

    __slots__ = ("counted", "gone", "limiter", "principal", "queued", "teardown", "waiting")

    def __init__(self, principal: str | None, limiter: Limiter | None, counted: Counted) -> None:
        self.principal = principal
        self.limiter = limiter
        self.counted = counted
        # How many of its calls wait, and their bytes.
        self.waiting = self.queued = 0
        # The call that ends it, where that is among them; and whether its link has ended.
        self.teardown: Message | None = None
        self.gone = False


class _Queue:
    """What waits for a limiter, in order; the last of each is its bytes."""

    __slots__ = ("calls", "complained", "timer")

    def __init__(self) -> None:
        self.calls: deque[tuple[Link, _Subscriber, Message, CallID | None, int]] = deque()
        self.timer: IDelayedCall | None = None
        # Whether its frameworks know that they have exceeded the capacity.
        self.complained = False


class Intake:
    """
    The L{mesoskit.wire.link.Receiver} before another one.

    @param receiver: who hears what passes.
    @param clock: gives the time, for limiters.
    @param progress: says how far the state has got.
    @param limits: of frameworks.
    @param a_turn: messages in one turn of all who have more to say than their share.
    """

    log = Logger()

    def __init__(
        self,
        receiver: Receiver,
        clock: IReactorTime,
        progress: Callable[[], Progress],
        limits: RateLimits | None = None,
        a_turn: int = A_TURN,
    ) -> None:
        self._receiver = receiver
        self._clock = clock
        self._progress = progress
        self._limiters = Limiters(limits or RateLimits())
        self._a_turn = a_turn
        self._share = min(MOST, a_turn)
        self._taken: dict[Link, int] = {}
        # Links that have had their turn, and how much the state must have handled before the next.
        self._resting: dict[Link, int] = {}
        self._held: dict[Link, int] = {}
        self._subscribers: dict[Link, _Subscriber] = {}
        self._counted: dict[str, Counted] = {}
        self._most_counted = COUNTED
        self._queues: dict[Limiter, _Queue] = {}

    # What links say.

    def connected(self, link: Link) -> None:
        """A peer is there and settled."""
        self._receiver.connected(link)

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """A message came: let it pass, at once or when it is its turn."""
        subscriber = self._subscribers.get(link)
        if subscriber is not None:
            subscriber.counted.received += 1
            if subscriber.limiter is not None:
                self._limit(link, subscriber, subscriber.limiter, message, call)
                return
            subscriber.counted.processed += 1
        elif isinstance(message, Call) and message.type == Call.SUBSCRIBE:
            self._subscribe(link, message)
        self._pass(link, message, call)

    def congestion(self, link: Link, congested: bool) -> None:
        """A link is full, or drains again."""
        self._receiver.congestion(link, congested)

    def lost(self, link: Link, why: str) -> None:
        """
        A link is gone, and what it still had to say with it: its offers are for others at once.
        A framework that has asked to be torn down is.
        """
        self._taken.pop(link, None)
        self._resting.pop(link, None)
        self._held.pop(link, None)
        subscriber = self._subscribers.pop(link, None)
        if subscriber is not None and subscriber.limiter is not None:
            subscriber.gone = True
            subscriber.limiter.waiting -= subscriber.waiting
            if subscriber.teardown is not None:
                self._receiver.received(link, subscriber.teardown, None)
        self._receiver.lost(link, why)

    # A turn.

    def _pass(self, link: Link, message: Message, call: CallID | None) -> None:
        self._receiver.received(link, message, call)
        taken = self._taken.get(link, 0) + 1
        self._taken[link] = taken
        if taken >= self._share and link not in self._resting:
            progress = self._progress()
            self._resting[link] = progress.events + progress.queued
            self._hold(link, _HAS_HAD_ITS_TURN)

    def turn_is_over(self) -> None:
        """The state has handled some of what it was given: whose turn is next may speak again."""
        self._taken.clear()
        # However many flood, it is about the same that all others wait for.
        self._share = max(LEAST, min(MOST, self._a_turn // (len(self._resting) + 1)))
        if not self._resting:
            return
        handled = self._progress().events
        for link in [each for each, until in self._resting.items() if until <= handled]:
            self._resting.pop(link, None)
            self._release(link, _HAS_HAD_ITS_TURN)

    def _hold(self, link: Link, why: int) -> None:
        held = self._held.get(link, 0)
        self._held[link] = held | why
        if not held:
            cast(Holding, link).hold(True)

    def _release(self, link: Link, why: int) -> None:
        held = self._held.get(link)
        if held is None:
            return
        if held & ~why:
            self._held[link] = held & ~why
        else:
            del self._held[link]
            cast(Holding, link).hold(False)

    # Rate limits.

    def _subscribe(self, link: Link, call: Call) -> None:
        """Remember whose calls come over a link from now on."""
        info = call.subscribe.framework_info
        principal = link.principal
        if principal is None and info.HasField("principal"):
            principal = info.principal
        counted = Counted()
        if principal is not None and len(principal) <= LONGEST_NAME:
            # Who has proved nothing may name one after the other.
            if len(self._counted) >= self._most_counted:
                self._forget(())
                self._most_counted = max(COUNTED, 2 * len(self._counted))
            counted = self._counted.setdefault(principal, counted)
        limiter = self._limiters.of(principal)
        self._subscribers[link] = _Subscriber(principal, limiter, counted)

    def _limit(
        self,
        link: Link,
        subscriber: _Subscriber,
        limiter: Limiter,
        message: Message,
        call: CallID | None,
    ) -> None:
        queue = self._queues.setdefault(limiter, _Queue())
        if not queue.calls and not limiter.delay(self._clock.seconds()):
            limiter.pass_one(self._clock.seconds())
            subscriber.counted.processed += 1
            self._pass(link, message, call)
            return
        if limiter.full:
            self._exceeded(link, subscriber, limiter, queue, call)
            return
        size = message.ByteSize()
        if isinstance(message, Call) and message.type == Call.TEARDOWN:
            subscriber.teardown = message
        queue.calls.append((link, subscriber, message, call, size))
        limiter.waiting += 1
        subscriber.waiting += 1
        subscriber.queued += size
        if subscriber.queued > WAITING_BYTES or (
            limiter.limit.capacity is None and subscriber.waiting >= WAITING
        ):
            self._hold(link, _IS_LIMITED)
        if queue.timer is None:
            self._wait(limiter, queue)

    def _exceeded(
        self,
        link: Link,
        subscriber: _Subscriber,
        limiter: Limiter,
        queue: _Queue,
        call: CallID | None,
    ) -> None:
        """Throw a call away, and tell the framework (C{Master::exceededCapacity})."""
        capacity = limiter.limit.capacity
        why = f"Message mesos.scheduler.Call dropped: capacity({capacity}) exceeded"
        if call is not None:
            link.answer(call, Refused(429, why))
        if queue.complained:
            return
        # Once, until there is room again: whoever floods is not to be flooded.
        queue.complained = True
        self.log.warn(
            "Dropping calls from {peer} ({principal}): capacity({capacity}) exceeded",
            peer=link.peer,
            principal=subscriber.principal,
            capacity=capacity,
        )
        event = Event(type=Event.ERROR)
        event.error.message = why
        link.send(event)

    def _wait(self, limiter: Limiter, queue: _Queue) -> None:
        delay = limiter.delay(self._clock.seconds())
        queue.timer = self._clock.callLater(delay, self._go_on, limiter, queue)

    def _go_on(self, limiter: Limiter, queue: _Queue) -> None:
        """Let pass what may."""
        queue.timer = None
        now = self._clock.seconds()
        calls = queue.calls
        while calls and not limiter.delay(now):
            link, subscriber, message, call, size = calls.popleft()
            if subscriber.gone:
                continue
            limiter.pass_one(now)
            limiter.waiting -= 1
            subscriber.waiting -= 1
            subscriber.queued -= size
            subscriber.counted.processed += 1
            self._pass(link, message, call)
            if 2 * subscriber.waiting <= WAITING and 2 * subscriber.queued <= WAITING_BYTES:
                self._release(link, _IS_LIMITED)
        if not limiter.full:
            queue.complained = False
        if calls and queue.timer is None:
            self._wait(limiter, queue)

    # The rest.

    @property
    def waiting(self) -> int:
        """How many calls wait for rate limits."""
        return sum(limiter.waiting for limiter in self._queues)

    def metrics(self, principals: Iterable[str]) -> dict[str, float]:
        """
        Return C{frameworks/<principal>/messages_received} and C{messages_processed}.

        @param principals: of the frameworks that the master knows; others are forgotten.
        """
        self._forget(principals)
        shown: dict[str, float] = {}
        for principal, counted in self._counted.items():
            shown[f"frameworks/{principal}/messages_received"] = float(counted.received)
            shown[f"frameworks/{principal}/messages_processed"] = float(counted.processed)
        return shown

    def _forget(self, principals: Iterable[str]) -> None:
        """Forget all but these principals, and those of links."""
        known = {*principals, *(each.principal for each in self._subscribers.values())}
        for gone in self._counted.keys() - known:
            del self._counted[gone]

    def stop(self) -> None:
        """Let nothing pass any more that has to wait."""
        for queue in self._queues.values():
            queue.calls.clear()
            if queue.timer is not None:
                queue.timer.cancel()
                queue.timer = None
