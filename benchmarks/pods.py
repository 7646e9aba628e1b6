"""What a pod costs: groups of two commands, whose executor has a container where tasks share one.

Groups (C{true} twice) accepted at once, and one at a time on an idle cluster with the offer in
hand, on agents that differ in C{--isolation} alone. As root, on a machine with cgroups.

    python benchmarks/pods.py [--groups 100] [--single 20] [--runs 3] [--without_cpu]

Where others keep the machine busy, see containers.py.
"""

import argparse
import statistics
from functools import partial
from time import perf_counter
from typing import Any

from commands import _MEMORY, Cluster, Figures, measured
from daemons import in_child, table
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from mesoskit.driver import command_task, executor_info, launch_group

_LIMITS = "cgroups/cpu,cgroups/mem,cgroups/pids"
KINDS: dict[str, tuple[str, ...]] = {
    "posix": ("--launcher=posix",),
    "launcher=linux, nothing is shared": ("--launcher=linux",),
    _LIMITS: (f"--isolation={_LIMITS}",),
    "and processes, network, mounts": (
        f"--isolation={_LIMITS},namespaces/pid,network/none,filesystem/linux",
    ),
}


def group(name: str) -> Any:
    """Return the launch of two tasks that do nothing."""
    tasks = [command_task(f"{name}.{number}", "true", cpus=0.1, mem=32) for number in range(2)]
    return launch_group(executor_info(name, mem=32), tasks)


async def at_once(count: int, both: Cluster) -> Figures:
    """Launch so many groups with one accept, and wait for the end of all."""
    offer = await both.offer()
    before, begin = both.cpu(), perf_counter()
    handles = await both.framework.accept(offer, [group(f"pod{one}") for one in range(count)])
    await gatherResults([handle.terminal() for handle in handles], consumeErrors=True)
    seconds, after = perf_counter() - begin, both.cpu()
    return {"seconds": seconds, **{name: after[name] - before[name] for name in before}}


async def _room(both: Cluster) -> Any:
    """Return an offer in which the last executor's resources are, too."""
    while True:
        offer = await both.offer()
        await deferLater(both.reactor, 0.05, lambda: None)
        if offer.held and offer.cpus > 100:
            return offer
        if offer.held:
            await both.framework.decline([offer], refuse_seconds=0.01)


async def one_at_a_time(count: int, both: Cluster) -> Figures:
    """Launch one group after the other, each on an offer that was there before."""
    times = []
    for number in range(count + 1):
        offer = await _room(both)
        begin = perf_counter()
        handles = await both.framework.accept(offer, [group(f"pod{number}")])
        await gatherResults([handle.running() for handle in handles])
        times.append(perf_counter() - begin)
        await gatherResults([handle.terminal() for handle in handles], consumeErrors=True)
    # The first one also filled the caches.
    ordered = sorted(times[1:])
    return {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100]}


def main() -> None:
    """Run all rounds, interleaved, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--single", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without_cpu", action="store_true", help="leave out cgroups/cpu")
    parser.add_argument("--where", default=_MEMORY, help="where the agent's work_dir is made")
    chosen = parser.parse_args()
    bodies = {
        "at once": partial(at_once, chosen.groups),
        "alone": partial(one_at_a_time, chosen.single),
    }
    rounds: dict[tuple[str, str], list[Figures]] = {}
    for _ in range(chosen.runs):
        for kind, flags in KINDS.items():
            if chosen.without_cpu:
                flags = tuple(flag.replace("cgroups/cpu,", "") for flag in flags)
            for name, body in bodies.items():
                figures = in_child(partial(measured, chosen.where, "", body, list(flags)))
                rounds.setdefault((kind, name), []).append(figures)

    def median(kind: str, name: str, figure: str) -> float:
        return statistics.median(one[figure] for one in rounds[kind, name])

    rows = []
    for kind in KINDS:
        seconds = median(kind, "at once", "seconds")
        rows.append(
            [
                kind,
                f"{seconds:.2f}",
                f"{seconds / chosen.groups * 1000:.1f}",
                f"{median(kind, 'at once', 'agent'):.2f}",
                f"{median(kind, 'at once', 'launcher'):.2f}",
                *(f"{median(kind, 'alone', part) * 1000:.1f}" for part in ("p50", "p99")),
            ]
        )
    table(
        f"{chosen.groups} groups of two at once, and one at a time; median of {chosen.runs} runs",
        [
            *("isolation", "s", "ms a group", "agent CPU s", "launcher CPU s"),
            *("RUNNING p50 ms", "p99"),
        ],
        rows,
    )


if __name__ == "__main__":
    main()
