"""What the allocator costs: an agent's change, and offers made and declined.

Run it with C{python benchmarks/allocator.py}; C{--quick} leaves out the largest clusters. Times
are medians, in microseconds of one core.

 - C{freed}: all of an agent comes back as tasks end, and the pass that offers it again.
 - C{part}: the same where one small task of several ends.
 - C{grown}: an agent's total changes, and the pass that offers what is new.
 - C{refused}: as C{part}, where all other frameworks have refused the agent for a day.
 - C{declined}: offers made and declined a second, where every framework declines everything and
   what was declined comes back after 50 ms.
 - C{idle}: calls an hour that an allocator asks for once everybody has declined everything for
   a day.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import Allocation
from mesoskit.allocator.options import AgentOptions, FrameworkOptions, Options
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import Resources

TOTAL = Resources.of(cpus=32, mem=128_000, disk=1_000_000, ports=[(31000, 32000)])
GROWN = TOTAL + Resources.of(cpus=1)
TASK = Resources.of(cpus=1, mem=1000, ports=[(31000, 31000)])
ROUNDS = 300


class Cluster:
    """Agents of one kind, frameworks in ten roles, and a clock."""

    def __init__(self, agents: int, frameworks: int, interval: float = 1.0) -> None:
        self.now = 0.0
        self.allocator = HierarchicalAllocator(Options(allocation_interval=interval))
        for i in range(frameworks):
            options = FrameworkOptions(frozenset([f"role{i % 10}"]))
            self.allocator.add_framework(self.now, FrameworkId(f"f{i}"), options, {})
        for i in range(agents):
            options_ = AgentOptions(hostname=f"host{i}")
            self.allocator.add_agent(self.now, AgentId(f"a{i}"), options_, TOTAL, {})

    def settle(self) -> list[Allocation]:
        """Allocate until nothing is pending soon."""
        made = []
        end = self.now + 1.0
        while (deadline := self.allocator.deadline()) is not None and deadline <= end:
            self.now = max(deadline, self.now)
            made += self.allocator.allocate(self.now)
        return made

    def give_back(self, a: Allocation, part: Resources, seconds: float | None) -> None:
        self.allocator.recover_resources(
            self.now, a.framework_id, a.agent_id, a.role, part, seconds
        )

    def timed(self, change: Callable[[], None]) -> tuple[float, list[Allocation]]:
        """Return the microseconds that a change and the pass after it take."""
        self.now += 1.0
        start = perf_counter()
        change()
        self.now = self.allocator.deadline() or self.now
        made = self.allocator.allocate(self.now)
        return (perf_counter() - start) * 1e6, made


def changes(agents: int, frameworks: int) -> tuple[float, float, float]:
    """Return the medians of C{freed}, C{part} and C{grown}."""
    c = Cluster(agents, frameworks)
    offers = c.settle()
    freed, part, grown = [], [], []
    for i in range(ROUNDS):
        offer = offers[i * 7 % len(offers)]
        if offer.resources != TOTAL:
            continue
        spent, [again] = c.timed(partial(c.give_back, offer, TOTAL, None))
        freed.append(spent)
        spent, [small] = c.timed(partial(c.give_back, again, TASK, None))
        part.append(spent)
        agent_id = offer.agent_id
        spent, [more] = c.timed(
            partial(c.allocator.update_agent, c.now + 1.0, agent_id, None, GROWN)
        )
        grown.append(spent)
        c.give_back(again, TOTAL - TASK, None)
        c.give_back(small, TASK, None)
        c.give_back(more, more.resources, None)
        c.allocator.update_agent(c.now, agent_id, None, TOTAL)
        [offers[i * 7 % len(offers)]] = c.settle()
    return median(freed), median(part), median(grown)


def refused(agents: int, frameworks: int) -> float:
    """Return the median of C{refused}."""
    c = Cluster(agents, frameworks)
    [offer, *_] = c.settle()
    seen = set()
    while offer.framework_id not in seen:
        seen.add(offer.framework_id)
        if len(seen) == frameworks:
            break
        c.give_back(offer, TOTAL, 86_400.0)
        c.now += 0.01
        [offer] = c.allocator.allocate(c.now)
    times = []
    for _ in range(ROUNDS):
        spent, [_again] = c.timed(partial(c.give_back, offer, TASK, None))
        times.append(spent)
    return median(times)


def declined(agents: int, frameworks: int) -> float:
    """Return the offers made and declined a second."""
    c = Cluster(agents, frameworks, interval=0.05)
    made = 0
    start = perf_counter()
    while (spent := perf_counter() - start) < 2.0:
        c.now += 0.05
        for offer in c.allocator.allocate(c.now):
            c.give_back(offer, offer.resources, 0.0)
            made += 1
    return made / spent


def idle(agents: int, frameworks: int) -> int:
    """Return how often an allocator wants to be called in an hour with nothing to offer."""
    c = Cluster(agents, frameworks)
    while made := c.settle():
        for offer in made:
            c.give_back(offer, offer.resources, 86_400.0)
    end, calls = c.now + 3600, 0
    while (deadline := c.allocator.deadline()) is not None and deadline <= end:
        c.now = deadline
        c.allocator.allocate(c.now)
        calls += 1
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only 1,000 agents")
    arguments = parser.parse_args()
    print(
        f"{'agents':>8} {'frameworks':>10} {'freed us':>9} {'part us':>9} {'grown us':>9}"
        f" {'refused us':>10}"
    )
    for agents in (1000,) if arguments.quick else (1000, 10_000):
        for frameworks in (10, 100, 1000):
            freed, part, grown = changes(agents, frameworks)
            print(
                f"{agents:>8} {frameworks:>10} {freed:>9.1f} {part:>9.1f} {grown:>9.1f}"
                f" {refused(agents, frameworks):>10.1f}"
            )
            gc.collect()
    print(f"{'agents':>8} {'frameworks':>10} {'declined/s':>10}")
    for frameworks in (200, 500):
        print(f"{1000:>8} {frameworks:>10} {declined(1000, frameworks):>10,.0f}")
    print(f"{'agents':>8} {'frameworks':>10} {'idle/h':>10}")
    print(f"{1000:>8} {100:>10} {idle(1000, 100):>10}")


if __name__ == "__main__":
    main()
