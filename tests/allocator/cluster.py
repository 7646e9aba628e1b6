"""A cluster that is nothing but an allocator and a clock."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import Allocation, Explanation, IAllocator, Reason
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Options
from mesoskit.model.capabilities import FrameworkCapability
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import Resources

NOTHING = FrameworkCapability(0)


def resources(text: str | Resources) -> Resources:
    return Resources.parse(text) if isinstance(text, str) else text


class Cluster:
    """
    Calls an allocator as a master would, whenever it wants to be called.

    @ivar offers: what was allocated and not declined or freed since, in order.
    """

    def __init__(
        self,
        make: Callable[[Options], IAllocator] = HierarchicalAllocator,
        **options: Any,
    ) -> None:
        self.now = 100.0
        self.allocator = make(Options(**options))
        self.offers: list[Allocation] = []
        self.calls = 0
        self._count = count()

    def framework(
        self,
        *roles: str,
        able: FrameworkCapability = NOTHING,
        suppressed: tuple[str, ...] = (),
        minimum: Any = None,
        used: Any = None,
        active: bool = True,
        framework_id: str | None = None,
    ) -> FrameworkId:
        name = FrameworkId(framework_id or f"f{next(self._count)}")
        self.allocator.add_framework(
            self.now,
            name,
            self.options(*roles, able=able, suppressed=suppressed, minimum=minimum),
            used or {},
            active,
        )
        return name

    @staticmethod
    def options(
        *roles: str,
        able: FrameworkCapability = NOTHING,
        suppressed: tuple[str, ...] = (),
        minimum: Any = None,
    ) -> FrameworkOptions:
        return FrameworkOptions(
            frozenset(roles or ["*"]), frozenset(suppressed), able, minimum or {}
        )

    def agent(
        self, total: str | Resources, used: Any = None, agent_id: str | None = None, **options: Any
    ) -> AgentId:
        name = AgentId(agent_id or f"a{next(self._count)}")
        options = {"hostname": name, **options}
        self.allocator.add_agent(
            self.now, name, AgentOptions(**options), resources(total), used or {}
        )
        return name

    def advance(self, seconds: float) -> list[Allocation]:
        """Let time pass, and return what was allocated meanwhile."""
        end = self.now + seconds
        made = []
        while (deadline := self.allocator.deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.calls += 1
            made += self.allocator.allocate(self.now)
        self.now = end
        self.offers += made
        return made

    def settle(self) -> list[tuple[str, str, str]]:
        """Let what is gathered be allocated; return who got which agent, in which role."""
        return [(a.framework_id, a.role, a.agent_id) for a in self.advance(0.05)]

    def decline(self, allocation: Allocation, seconds: float = 5.0) -> None:
        self.offers.remove(allocation)
        self._give_back(allocation, allocation.resources, seconds)

    def decline_all(self, seconds: float = 5.0) -> None:
        for allocation in list(self.offers):
            self.decline(allocation, seconds)

    def accept(self, allocation: Allocation, used: str, seconds: float = 5.0) -> Allocation:
        """Use part of an offer and decline the rest; return what is used."""
        self.offers.remove(allocation)
        taken = resources(used)
        rest = allocation.resources - taken
        if rest:
            self._give_back(allocation, rest, seconds)
        return Allocation(allocation.framework_id, allocation.role, allocation.agent_id, taken)

    def free(self, allocation: Allocation, part: str | None = None) -> None:
        """End a task, or have an offer rescinded."""
        if allocation in self.offers:
            self.offers.remove(allocation)
        self._give_back(allocation, resources(part) if part else allocation.resources, None)

    def _give_back(self, a: Allocation, part: Resources, seconds: float | None) -> None:
        self.allocator.recover_resources(
            self.now, a.framework_id, a.agent_id, a.role, part, seconds
        )

    def explain(self, framework: str, role: str | None = None) -> dict[str, Explanation]:
        """Return what is said of each agent."""
        told = self.allocator.explain(self.now, FrameworkId(framework), role)
        return {explanation.agent_id: explanation for explanation in told}

    def why(self, framework: str, agent: str, role: str | None = None) -> Reason:
        return self.explain(framework, role)[agent].reason
