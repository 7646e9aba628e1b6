"""How fast agents may be given up: C{--agent_removal_rate_limit}.

Where a part of the network fails, hundreds of agents fall silent at once. With a limit they are
given up one after the other, and those that answer in the meantime are not (C{SlaveObserver} and
C{Slaves::limiter} in C{src/master/master.cpp}).
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from mesoskit.model.ids import AgentId

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

KEY: Final = ("removal",)
"""Of the deadline at which the next one may be given up."""


class Removals:
    """
    Agents that wait to be given up.

    @param interval: seconds between two; 0 for no limit.
    """

    __slots__ = ("_interval", "_next", "_waiting")

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = float("-inf")
        self._waiting: OrderedDict[AgentId, None] = OrderedDict()

    def __contains__(self, agent_id: object) -> bool:
        return agent_id in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def may(self, state: "MasterState", agent_id: AgentId) -> bool:
        """Tell whether an agent is given up now; if not it waits for its turn."""
        if agent_id in self._waiting:
            return False
        state.counters.slave_unreachable_scheduled += 1
        if not self._waiting and state.now >= self._next:
            self._next = state.now + self._interval
            return True
        self._waiting[agent_id] = None
        state.deadlines.set(KEY, self._next)
        return False

    def next(self, state: "MasterState") -> AgentId | None:
        """Return who is given up now; called when L{KEY} is due."""
        if not self._waiting:
            return None
        agent_id, _ = self._waiting.popitem(last=False)
        self._next = state.now + self._interval
        self._set(state)
        return agent_id

    def cancel(self, state: "MasterState", agent_id: AgentId) -> None:
        """Let an agent live that has been heard of, or is gone in another way."""
        if self._waiting.pop(agent_id, self) is None:
            state.counters.slave_unreachable_canceled += 1
            self._set(state)

    def _set(self, state: "MasterState") -> None:
        if self._waiting:
            state.deadlines.set(KEY, self._next)
        else:
            state.deadlines.drop(KEY)
