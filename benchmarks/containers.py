"""What it costs to keep tasks apart: the same commands with posix, with cgroups, with all of it.

Commands (C{true}) accepted at once, and one at a time on an idle cluster with the offer in hand,
on agents that differ in C{--isolation} alone. As root, on a machine with cgroups.

    python benchmarks/containers.py [--tasks 300] [--single 30] [--runs 3]
"""

import argparse
import os
import statistics
from functools import partial

from commands import Figures, commands, measured, one_at_a_time
from daemons import in_child, table

_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_CGROUPS = "cgroups/cpu,cgroups/mem,cgroups/pids"
_ALL = f"{_CGROUPS},namespaces/pid,filesystem/linux,linux/capabilities,linux/nnp,disk/du"
KINDS = {
    "posix": ("--launcher=posix",),
    "launcher=linux": ("--launcher=linux",),
    _CGROUPS: (f"--isolation={_CGROUPS}", "--cgroups_enable_cfs"),
    "and namespaces, mounts, rights": (f"--isolation={_ALL}", "--cgroups_enable_cfs"),
}


def main() -> None:
    """Run all rounds, interleaved, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--single", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--where", default=_MEMORY, help="where the agent's work_dir is made")
    chosen = parser.parse_args()
    bodies = {
        "at once": partial(commands, chosen.tasks),
        "one at a time": partial(one_at_a_time, chosen.single),
    }
    rounds: dict[tuple[str, str], list[Figures]] = {}
    for _ in range(chosen.runs):
        for kind, flags in KINDS.items():
            for name, body in bodies.items():
                figures = in_child(partial(measured, chosen.where, "", body, list(flags)))
                rounds.setdefault((kind, name), []).append(figures)

    def median(kind: str, name: str, figure: str) -> float:
        return statistics.median(one[figure] for one in rounds[kind, name])

    rows = []
    least = median("posix", "at once", "seconds")
    for kind in KINDS:
        seconds = median(kind, "at once", "seconds")
        alone = [median(kind, "one at a time", f"running {part}") for part in ("p50", "p99")]
        rows.append(
            [
                kind,
                f"{seconds:.2f}",
                f"{chosen.tasks / seconds:.0f}",
                f"{(seconds - least) / chosen.tasks * 1000:.2f}",
                f"{median(kind, 'at once', 'agent'):.2f}",
                f"{median(kind, 'at once', 'launcher'):.2f}",
                *(f"{time * 1000:.1f}" for time in alone),
            ]
        )
    table(
        f"{chosen.tasks} commands at once, and one at a time; median of {chosen.runs} runs",
        [
            "isolation",
            "s",
            "tasks/s",
            "ms a task over posix",
            "agent CPU s",
            "launcher CPU s",
            "RUNNING p50 ms",
            "p99",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
