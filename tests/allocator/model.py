"""The allocator's rules once more, without any speed: what the fast one is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mesoskit.allocator.options import FrameworkOptions
from mesoskit.model.quantities import Quantities
from mesoskit.model.resources import Resources

Pair = tuple[str, str]
"""A framework and a role."""

DEFAULT_MINIMUM = (Quantities.of(cpus=0.01), Quantities.of(mem=32))


@dataclass
class PlainFramework:
    """A framework, and what it said of itself."""

    options: FrameworkOptions
    active: bool = True
    congested: bool = False
    suppressed: set[str] = field(default_factory=set)


@dataclass
class PlainAgent:
    """An agent, and who holds what there."""

    total: Resources
    attributes: str = ""
    active: bool = True
    held: dict[Pair, Resources] = field(default_factory=dict)

    def free(self) -> Resources:
        return self.total.minus(Resources.sum(self.held.values()))


@dataclass
class PlainFilter:
    """A refusal."""

    pair: Pair
    agent: str
    resources: Resources
    until: float


class PlainAllocator:
    """Who holds, wants, refused and may be offered what."""

    def __init__(self) -> None:
        self.agents: dict[str, PlainAgent] = {}
        self.frameworks: dict[str, PlainFramework] = {}
        self.filters: list[PlainFilter] = []
        self.weights: dict[str, float] = {}

    def clear(self, framework_id: str, roles: set[str] | frozenset[str]) -> None:
        self.filters = [
            f for f in self.filters if f.pair[0] != framework_id or f.pair[1] not in roles
        ]

    def clear_agent(self, agent_id: str) -> None:
        self.filters = [f for f in self.filters if f.agent != agent_id]

    def give_back(self, agent_id: str, pair: Pair, part: Resources) -> None:
        held = self.agents[agent_id].held
        rest = held.pop(pair) - part
        if rest:
            held[pair] = rest

    def give(self, agent_id: str, pair: Pair, part: Resources) -> None:
        held = self.agents[agent_id].held
        held[pair] = held.get(pair, Resources.EMPTY) + part

    def wants(self, pair: Pair) -> bool:
        framework = self.frameworks.get(pair[0])
        return (
            framework is not None
            and framework.active
            and not framework.congested
            and pair[1] in framework.options.roles - framework.suppressed
        )

    def offer(self, now: float, pair: Pair, agent_id: str) -> Resources | None:
        """Return what a client has to be offered of an agent, if it comes first."""
        agent = self.agents[agent_id]
        if not agent.active or not self.wants(pair):
            return None
        options = self.frameworks[pair[0]].options
        # The only constraints there are here: in the first rack, or in none.
        if options.constraints.get(pair[1]) and agent.attributes not in ("", "rack:1"):
            return None
        available = agent.free().allocatable_to(pair[1])
        if not options.capabilities.revocable_resources:
            available = available.non_revocable()
        if agent.total.scalar("gpus") and not options.capabilities.gpu_resources:
            return None
        least = options.min_allocatable.get(pair[1], DEFAULT_MINIMUM)
        amounts = available.quantities()
        if not available or (least and not any(amounts.contains(q) for q in least)):
            return None
        for f in self.filters:
            if (f.pair, f.agent) == (pair, agent_id) and f.until > now:
                if f.resources.contains(available):
                    return None
        return available

    def eligible(self, now: float, agent_id: str) -> Iterator[Pair]:
        for framework_id, framework in self.frameworks.items():
            for role in framework.options.roles:
                if self.offer(now, (framework_id, role), agent_id) is not None:
                    yield framework_id, role

    def standing(self, pair: Pair) -> list[tuple[str, float]]:
        """
        Return the nodes above a client, topmost first, and the share each is sorted by.

        Where a role has children, its own frameworks compete with them as one of them.
        """
        framework_id, role = pair
        parts = role.split("/")
        paths = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        nodes = [(path, self.share(path)) for path in paths]
        nodes.append((f"{role}/.", self.share(role, own=True)))
        nodes.append((framework_id, self.share(role, own=True, framework_id=framework_id)))
        return nodes

    def standings(self) -> dict[Pair, list[tuple[str, float]]]:
        """Return how all clients stand now."""
        return {
            (framework_id, role): self.standing((framework_id, role))
            for framework_id, framework in self.frameworks.items()
            for role in framework.options.roles
        }

    def share(self, role: str, own: bool = False, framework_id: str | None = None) -> float:
        held: dict[str, int] = {}
        totals: dict[str, int] = {}
        for agent in self.agents.values():
            for name in ("cpus", "mem", "gpus"):
                totals[name] = totals.get(name, 0) + agent.total.scalar(name)
            for (holder, holding), part in agent.held.items():
                if framework_id not in (None, holder):
                    continue
                if holding == role or (not own and holding.startswith(role + "/")):
                    for name in totals:
                        held[name] = held.get(name, 0) + part.scalar(name)
        share = max((held.get(n, 0) / t for n, t in totals.items() if t), default=0.0)
        # A virtual leaf has no weight of its own; what is compared across roles has.
        return share / (1.0 if own else self.weights.get(role, 1.0))


def comes_before(mine: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> bool:
    """Tell whether one who stands so may come before another; what is all but equal may."""
    for (node, share), (other, others_share) in zip(mine, theirs, strict=False):
        if node != other:
            return share <= others_share + 0.002 * max(share, others_share)
    return True
