"""Offers: small objects, where each of them is, and the loop that hands them out."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.driver.alarms import Alarms
from mesoskit.driver.errors import OfferGone
from mesoskit.driver.packing import take
from mesoskit.messages.mesos_pb2 import Offer as OfferMessage
from mesoskit.model.attributes import Attributes
from mesoskit.model.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Sequence

HELD = "held"

PARKED_REFUSAL = 3600.0
"""Seconds for which offers are refused while nobody takes any; whoever comes revives them."""

Decline = Callable[[list[str], float | None], None]


class Offer:
    """
    Resources of one agent that the framework may use.

    L{take} cuts pieces for tasks out of it, so that many fit into one offer:
    C{task("t", amounts=offer.take(cpus=1, mem=64, ports=2))}.

    An offer that the program has lost hold of without accepting or declining it is declined
    within a second or so, so that forgetting one costs the cluster nothing.

    @ivar id: the offer's id.
    @ivar agent_id: whose resources they are.
    @ivar hostname: the agent's.
    @ivar message: C{mesos.v1.Offer} as it came.
    @ivar fate: C{"held"} while it can be used; then what became of it.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_book",
        "_remaining",
        "_resources",
        "agent_id",
        "fate",
        "hostname",
        "id",
        "message",
    )

    def __init__(self, message: OfferMessage, book: OfferBook) -> None:
        self.message = message
        self.id: str = message.id.value
        self.agent_id: str = message.agent_id.value
        self.hostname: str = message.hostname
        self.fate = HELD
        self._book = book
        self._resources: Resources | None = None
        self._attributes: Attributes | None = None
        self._remaining: Resources | None = None

    def __del__(self) -> None:
        if self.fate is HELD:
            # Nothing else may be done here: this may run anywhere, in any thread.
            self._book.dropped.append(self.id)

    def __repr__(self) -> str:
        return f"<Offer {self.id} {self.hostname} {self.resources}>"

    @property
    def held(self) -> bool:
        """Whether it can be used."""
        return self.fate is HELD

    @property
    def resources(self) -> Resources:
        """All that is offered."""
        resources = self._resources
        if resources is None:
            resources = self._resources = Resources.from_message(self.message.resources)
        return resources

    @property
    def remaining(self) -> Resources:
        """What L{take} has not taken yet."""
        return self.resources if self._remaining is None else self._remaining

    def take(self, ports: int = 0, **amounts: float) -> Resources:
        """
        Take so much out of what remains, for a task: reserved resources first.

        Volumes, whole disks, and what is revocable or shared are not taken by amounts. What is
        taken is only set aside here; it is L{Framework.accept
        <mesoskit.driver.framework.Framework.accept>} that uses the offer. Raises
        L{NotEnough<mesoskit.driver.errors.NotEnough>}, and takes nothing then.

        @param ports: how many ports.
        @param amounts: scalars by name: C{cpus=0.5, mem=64, disk=100, gpus=1}.
        """
        taken = take(self.remaining, ports, **amounts)
        self._remaining = self.remaining - taken
        return taken

    @property
    def attributes(self) -> Attributes:
        """The agent's attributes."""
        attributes = self._attributes
        if attributes is None:
            attributes = self._attributes = Attributes.from_message(self.message.attributes)
        return attributes

    @property
    def role(self) -> str:
        """The role that it was made to."""
        return self.message.allocation_info.role or "*"

    @property
    def cpus(self) -> float:
        """CPUs offered, however reserved."""
        return self.resources.scalar("cpus") / 1000

    @property
    def mem(self) -> float:
        """Megabytes of memory offered."""
        return self.resources.scalar("mem") / 1000

    @property
    def disk(self) -> float:
        """Megabytes of disk offered."""
        return self.resources.scalar("disk") / 1000

    @property
    def gpus(self) -> float:
        """GPUs offered."""
        return self.resources.scalar("gpus") / 1000

    @property
    def ports(self) -> tuple[tuple[int, int], ...]:
        """Ranges of ports offered, both ends included."""
        return tuple(self.resources.ranges("ports"))


class OfferBook:
    """
    All offers that a framework holds, and who is waiting for more.

    @ivar dropped: ids of offers that the program has lost hold of.
    """

    def __init__(
        self, alarms: Alarms, decline: Decline, revive: Callable[[], None], backlog: int
    ) -> None:
        """
        Begin with none.

        @param decline: declines offers by id, with a filter of so many seconds.
        @param revive: asks for all offers again.
        @param backlog: how many offers wait for a loop at most.
        """
        self.dropped: deque[str] = deque()
        self.backlog = backlog
        self._alarms = alarms
        self._decline = decline
        self._revive = revive
        self._offers: dict[str, weakref.ref[Offer]] = {}
        # A loop that waits is held by nobody else; one that does not is its user's alone.
        self._waiting: dict[OfferStream, None] = {}
        self._streams: weakref.WeakSet[OfferStream] = weakref.WeakSet()
        self._parked = False
        self._over: Callable[[], Exception] | None = None

    def __len__(self) -> int:
        """Return how many offers are held."""
        return len(self._offers)

    def make(self, messages: Iterable[OfferMessage]) -> list[Offer]:
        """Return offers that have come."""
        offers = [Offer(message, self) for message in messages]
        table = self._offers
        for offer in offers:
            table[offer.id] = weakref.ref(offer)
        if offers and "sweep" not in self._alarms:
            self._alarms.set("sweep", 1.0, self._sweep)
        return offers

    def hand_out(self, offers: Sequence[Offer]) -> None:
        """Give offers to the loops; what nobody has room for is declined."""
        if not self._streams:
            if offers:
                self._parked = True
                self.decline(offers, PARKED_REFUSAL)
            return
        left = [offer for offer in offers if not self._give(offer)]
        if left:
            self.decline(left, None)

    def _give(self, offer: Offer) -> bool:
        for stream in self._waiting:
            del self._waiting[stream]
            stream.fire(offer)
            return True
        room = [stream for stream in self._streams if len(stream.queue) < self.backlog]
        if not room:
            return False
        min(room, key=lambda stream: len(stream.queue)).queue.append(offer)
        return True

    def rescind(self, offer_id: str, why: str = "it was rescinded") -> Offer | None:
        """Mark an offer as gone, and return it if anybody has it."""
        reference = self._offers.pop(offer_id, None)
        offer = None if reference is None else reference()
        if offer is not None:
            offer.fate = why
            for stream in self._streams:
                if offer in stream.queue:
                    stream.queue.remove(offer)
        return offer

    def rescind_all(self, why: str) -> None:
        """Mark all as gone."""
        offers, self._offers = self._offers, {}
        for reference in offers.values():
            offer = reference()
            if offer is not None:
                offer.fate = why
        for stream in self._streams:
            stream.queue.clear()
        self.dropped.clear()
        self._alarms.drop("sweep")

    def use(self, offers: Iterable[Offer], fate: str) -> list[Offer]:
        """Take offers out of the book; raises L{OfferGone} where one is not held any more."""
        used = list(offers)
        for offer in used:
            if offer.fate is not HELD:
                raise OfferGone(offer.id, offer.fate)
            if offer._book is not self:
                raise OfferGone(offer.id, "it was made to another framework")
        for offer in used:
            offer.fate = fate
            self._offers.pop(offer.id, None)
        return used

    def restore(self, offers: Iterable[Offer]) -> None:
        """Take back offers that were not used after all."""
        for offer in offers:
            offer.fate = HELD
            self._offers[offer.id] = weakref.ref(offer)

    def decline(self, offers: Iterable[Offer], refuse_seconds: float | None) -> None:
        """Decline offers that nobody takes."""
        used = self.use(offers, "it was declined")
        self._decline([offer.id for offer in used], refuse_seconds)

    def _sweep(self) -> None:
        dropped = self.dropped
        gone = []
        while dropped:
            offer_id = dropped.popleft()
            if self._offers.pop(offer_id, None) is not None:
                gone.append(offer_id)
        if gone:
            self._decline(gone, None)
        if self._offers:
            self._alarms.set("sweep", 1.0, self._sweep)

    # Loops

    def stream(self) -> OfferStream:
        """Return a new loop."""
        stream = OfferStream(self)
        if self._over is None:
            self._streams.add(stream)
            if self._parked:
                self._parked = False
                self._revive()
        return stream

    def next(self, stream: OfferStream) -> Deferred[Offer]:
        """Return the next offer for a loop."""
        while stream.queue:
            offer = stream.queue.popleft()
            if offer.fate is HELD:
                return succeed(offer)
        if stream.closed:
            return fail(StopAsyncIteration())
        if self._over is not None:
            return fail(self._over())
        if stream.waiter is not None:
            raise RuntimeError("this loop waits for an offer already; open another one")
        waiter: Deferred[Offer] = Deferred(lambda _: self.close(stream, told=False))
        stream.waiter = waiter
        self._waiting[stream] = None
        return waiter

    def close(self, stream: OfferStream, told: bool = True) -> None:
        """A loop takes no more: what waited for it goes to others, or is declined."""
        if stream.closed:
            return
        stream.closed = True
        self._streams.discard(stream)
        self._waiting.pop(stream, None)
        waiter, stream.waiter = stream.waiter, None
        if waiter is not None and told:
            waiter.errback(StopAsyncIteration())
        queue, stream.queue = stream.queue, deque()
        held = [offer for offer in queue if offer.fate is HELD]
        if held:
            if self._streams:
                self.hand_out(held)
            else:
                self.decline(held, None)

    def end(self, why: Callable[[], Exception]) -> None:
        """There are no more offers: every loop ends, with C{why}'s exception."""
        self._over = why
        for stream in list(self._waiting):
            waiter, stream.waiter = stream.waiter, None
            if waiter is not None:
                waiter.errback(why())
        self._waiting.clear()

    def begin(self) -> None:
        """There are offers again."""
        self._over = None


class OfferStream:
    """
    C{async for offer in framework.offers()}: each offer goes to one loop.

    When the loop is left (C{break}, an exception, cancellation, C{aclose}), what waited for it is
    declined. A loop that is kept in a variable is left by C{aclose()}, or by C{async with}.
    It ends when the service stops, and raises
    L{FrameworkError<mesoskit.driver.errors.FrameworkError>} where the master ends the framework.

    @ivar queue: offers that wait for it.
    @ivar closed: whether it takes no more.
    """

    def __init__(self, book: OfferBook) -> None:
        self._book = book
        self.queue: deque[Offer] = deque()
        self.waiter: Deferred[Offer] | None = None
        self.closed = False
        # Where the loop is forgotten without a word, so are the offers in the queue, and they
        # are declined for that.

    def __aiter__(self) -> OfferStream:
        return self

    def __anext__(self) -> Deferred[Offer]:
        return self._book.next(self)

    def __iter__(self) -> Iterator[Offer]:
        raise TypeError("offers come in time: use 'async for'")

    async def __aenter__(self) -> OfferStream:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def aclose(self) -> Deferred[None]:
        """Take no more."""
        self._book.close(self)
        return succeed(None)

    def fire(self, offer: Offer) -> None:
        """Give an offer to the one who waits."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.callback(offer)
