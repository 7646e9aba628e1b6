"""What frameworks refused, and until when.

A filter belongs to a framework in a role (a client) and an agent. It blocks an offer iff the
resources refused contain those offered: an agent that has more than before is offered again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from mesoskit.model.resources import Resources

if TYPE_CHECKING:
    from mesoskit.allocator.records import Agent, Client

LONGEST = 365 * 24 * 3600.0
"""Seconds; a longer C{refuse_seconds} means this, as in Mesos."""


class Filter:
    """
    One refusal.

    @ivar resources: what was refused, unallocated.
    @ivar until: when it ends.
    @ivar earlier: another filter of the same client and agent that still stands.
    @ivar blocked: the resources last found blocked: most often the same are asked for again.
    """

    __slots__ = ("agent", "blocked", "client", "earlier", "resources", "until")

    def __init__(self, client: Client, agent: Agent, resources: Resources, until: float) -> None:
        self.client = client
        self.agent = agent
        self.resources = resources
        self.until = until
        self.earlier: Filter | None = None
        self.blocked = resources

    def blocks(self, resources: Resources) -> Filter | None:
        """Return the filter, this or an earlier one, that blocks an offer of these resources."""
        standing: Filter | None = self
        while standing is not None:
            if standing.blocked is resources:
                return standing
            if standing.resources.contains(resources):
                standing.blocked = resources
                return standing
            standing = standing.earlier
        return None


class Filters:
    """
    All filters, by client and agent, and the order in which they end.

    Ends are rounded up to the next whole C{tick}, so that filters which end together are looked
    at together. What was cleared stays in that order until its end comes or until it is more
    than half of all.

    @ivar _dead: about how many of those in the order were cleared, which C{_size} counts too.
    @ivar tick: seconds; more than 0.
    """

    __slots__ = ("_dead", "_ends", "_heap", "_size", "tick")

    def __init__(self, tick: float) -> None:
        self.tick = tick
        self._ends: dict[int, list[Filter]] = {}
        self._heap: list[int] = []
        self._size = 0
        self._dead = 0

    def add(self, client: Client, agent: Agent, resources: Resources, until: float) -> None:
        """Set a filter; what it makes superfluous goes, and if it is superfluous it is not set."""
        new = Filter(client, agent, resources, until)
        standing = client.filters.get(agent)
        if standing is not None and not self._joined(new, standing):
            return
        client.filters[agent] = new
        self._size += 1
        tick = int(until / self.tick) + 1
        ending = self._ends.get(tick)
        if ending is None:
            self._ends[tick] = [new]
            heappush(self._heap, tick)
        else:
            ending.append(new)

    def clear(self, client: Client) -> None:
        """End all filters of a client."""
        self.reconsider(client)
        self._dead += len(client.filters)
        client.filters.clear()
        self._tidy()

    def clear_agent(self, agent: Agent, clients: Iterable[Client]) -> None:
        """End the filters that any of these clients has on an agent."""
        agent.refusing.clear()
        for client in clients:
            if client.filters.pop(agent, None) is not None:
                self._dead += 1
        self._tidy()

    def reconsider(self, client: Client) -> None:
        """Have passes ask a client's filters again, whatever they found before."""
        for agent in client.filters:
            agent.refusing.pop(client, None)

    def next(self) -> float | None:
        """Return when filters end next; L{None} if there are none."""
        return self._heap[0] * self.tick if self._heap else None

    def ended(self, now: float, limit: int) -> Iterator[Filter]:
        """
        Remove filters that have ended, and give those that had not been cleared before.

        Once it has looked at C{limit} of them it ends with the tick it is at; L{next} then is
        a moment that has passed.
        """
        while self._heap and self._heap[0] * self.tick <= now and limit > 0:
            ending = self._ends.pop(heappop(self._heap))
            limit -= len(ending)
            self._size -= len(ending)
            for ended in ending:
                if _stands(ended):
                    _unlink(ended)
                    yield ended
                elif self._dead:
                    self._dead -= 1

    def _joined(self, new: Filter, standing: Filter) -> bool:
        """Put a filter before those that stand, unless one of them says as much."""
        chain: list[Filter] = []
        following: Filter | None = standing
        while following is not None:
            chain.append(following)
            following = following.earlier
        if any(
            older.until >= new.until and older.resources.contains(new.resources) for older in chain
        ):
            return False
        last = new
        for older in chain:
            if older.until > new.until or not new.resources.contains(older.resources):
                last.earlier = older
                last = older
            else:
                self._dead += 1
        last.earlier = None
        return True

    def _tidy(self) -> None:
        """Drop what was cleared from the order of ends, once it is most of it."""
        if self._dead <= 1000 or self._dead * 2 <= self._size:
            return
        self._ends = {
            tick: standing
            for tick, ending in self._ends.items()
            if (standing := [filter_ for filter_ in ending if _stands(filter_)])
        }
        self._heap = sorted(self._ends)
        self._size = sum(map(len, self._ends.values()))
        self._dead = 0


def _stands(filter_: Filter) -> bool:
    standing = filter_.client.filters.get(filter_.agent)
    while standing is not None and standing is not filter_:
        standing = standing.earlier
    return standing is not None


def _unlink(ended: Filter) -> None:
    ended.agent.refusing.pop(ended.client, None)
    filters = ended.client.filters
    standing = filters[ended.agent]
    if standing is ended:
        if ended.earlier is None:
            del filters[ended.agent]
        else:
            filters[ended.agent] = ended.earlier
        return
    while standing.earlier is not ended:
        assert standing.earlier is not None
        standing = standing.earlier
    standing.earlier = ended.earlier
