"""When a pass looks at what.

Whatever could make an offer possible is noted here, and nothing else is ever looked at: an agent
that has more than before, a client that wants more than before, a filter that ended. So an
agent that no pass has to look at costs nothing, however many there are.

 - What changed is gathered for C{gather} seconds from the first change on.
 - What tasks free on an agent is gathered for C{freed_gather} seconds; no pass touches the
   agent meanwhile.
 - Passes are C{gather} seconds apart, whatever asks for them.
 - What a pass could not settle comes again after an C{allocation_interval}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from itertools import islice
from typing import TypeAlias

from mesoskit.allocator.filters import Filters
from mesoskit.allocator.options import Options
from mesoskit.allocator.records import Agent, Client

Among: TypeAlias = "dict[Client, None] | tuple[Client, ...] | None"
"""The clients to look at for an agent; L{None} for all. A tuple is shared between agents."""

_FILTERS_AT_ONCE = 5000
_NEVER_BEFORE = float("-inf")


class Rhythm:
    """
    What waits to be looked at, and when.

    @ivar filters: all filters; their ends are changes too.
    @ivar passes: how many passes were made.
    @ivar latency: seconds that the first change of the last pass had waited for it.
    """

    def __init__(self, options: Options) -> None:
        self._gather = options.gather
        self._freed_gather = options.freed_gather
        self._interval = options.allocation_interval
        self._limit = options.pass_limit
        self.filters = Filters(options.gather or 0.001)
        self.passes = 0
        self.latency = 0.0
        self._work: dict[Agent, Among] = {}
        self._eager: dict[Client, None] = {}
        self._freed: deque[Agent] = deque()
        self._later: dict[Agent, None] = {}
        self._later_at = 0.0
        self._wanted: float | None = None
        self._since = 0.0
        self._last = _NEVER_BEFORE

    def changed(self, now: float, agent: Agent) -> None:
        """Have all clients looked at for an agent."""
        self._work[agent] = None
        if self._wanted is None:
            self._wanted = now + self._gather
            self._since = now

    def freed(self, now: float, agent: Agent) -> None:
        """The same, once what tasks free there has been gathered."""
        if agent.due or agent.window is not None:
            return
        if not self._freed_gather:
            self.changed(now, agent)
            return
        agent.window = now + self._freed_gather
        self._freed.append(agent)

    def eager(self, now: float, client: Client) -> None:
        """Have all agents with anything free looked at for a client."""
        self._eager[client] = None
        if self._wanted is None:
            self._wanted = now + self._gather
            self._since = now

    def later(self, now: float, agent: Agent) -> None:
        """Have an agent looked at again after an allocation interval."""
        if not self._later:
            self._later_at = now + self._interval
        self._later[agent] = None

    def forget_agent(self, agent: Agent) -> None:
        """Forget an agent that is no more."""
        self._work.pop(agent, None)
        self._later.pop(agent, None)
        if agent.window is not None:
            self._freed.remove(agent)

    def forget_client(self, client: Client) -> None:
        """Forget a client that is no more: its filters end."""
        self._eager.pop(client, None)
        self.filters.clear(client)

    def deadline(self) -> float | None:
        """Return when L{take} may next give anything; L{None}: not before something happens."""
        first = self._wanted
        ends = self.filters.next()
        if ends is not None and (first is None or ends < first):
            first = ends
        if self._freed:
            window = self._freed[0].window
            if window is not None and (first is None or window < first):
                first = window
        if self._later and (first is None or self._later_at < first):
            first = self._later_at
        return first

    def take(self, now: float, free: Collection[Agent]) -> list[tuple[Agent, Among]] | None:
        """
        Return what a pass has to look at now; L{None} if it is no time for one.

        @param free: the agents with anything free.
        """
        self._ripen(now)
        if self._wanted is None or self._wanted > now:
            return None
        work = self._work
        if self._eager:
            self._spread(free)
        if len(work) <= self._limit:
            self._work = {}
            self._wanted = None
            taken = list(work.items())
        else:
            taken = list(islice(work.items(), self._limit))
            for agent, _ in taken:
                del work[agent]
            self._wanted = now + self._gather
        self.latency = now - self._since
        self._last = now
        self.passes += 1
        return taken

    def put_back(self, now: float, untouched: Iterable[tuple[Agent, Among]]) -> None:
        """Have the next pass look at what this one took and has not looked at."""
        # Nothing of it can have come anew: what a pass does changes no agent that it is not at.
        self._work = {**dict(untouched), **self._work}
        self._wanted = now + self._gather

    def pending(self, agent: Agent, client: Client) -> bool:
        """Tell whether the next pass will look at a client and an agent."""
        if client in self._eager:
            return True
        among = self._work.get(agent, ())
        return among is None or client in among

    def _ripen(self, now: float) -> None:
        """Turn what has been gathered long enough, and filters that ended, into work."""
        work = self._work
        ripe = False
        while self._freed and (window := self._freed[0].window) is not None and window <= now:
            agent = self._freed.popleft()
            agent.window = None
            agent.due = True
            work[agent] = None
            ripe = True
        if self._later and self._later_at <= now:
            for agent in self._later:
                work[agent] = None
            self._later.clear()
            ripe = True
        for ended in self.filters.ended(now, _FILTERS_AT_ONCE):
            if ended.agent.free and ended.client.active:
                self._add(ended.agent, ended.client)
                ripe = True
        if ripe:
            at = max(now, self._last + self._gather)
            if self._wanted is None:
                self._wanted = at
                self._since = now
            elif at < self._wanted:
                self._wanted = at

    def _add(self, agent: Agent, client: Client) -> None:
        among = self._work.get(agent, ())
        if among is None:
            return
        if isinstance(among, dict):
            among[client] = None
        else:
            self._work[agent] = dict.fromkeys((*among, client))

    def _spread(self, free: Iterable[Agent]) -> None:
        """Add the eager clients to all agents with anything free."""
        eager = tuple(self._eager)
        self._eager.clear()
        work = self._work
        for agent in free:
            among = work.get(agent, ())
            if among is None:
                continue
            work[agent] = {**dict.fromkeys(among), **dict.fromkeys(eager)} if among else eager
