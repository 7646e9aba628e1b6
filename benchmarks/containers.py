"""What it costs to keep tasks apart: the same commands with posix, with cgroups, with all of it.

Commands (C{true}) accepted at once, and one at a time on an idle cluster with the offer in hand,
on agents that differ in how they keep containers apart alone; the last ones have an image each (of
one layer, which is there), and are fewer. As root, on a machine with cgroups; with skopeo, umoci, a
runtime and busybox-static for images.

    python benchmarks/containers.py [--tasks 200] [--single 20] [--runs 2] [--without_cpu]

Where others keep the machine busy, C{chrt -r 1} before it measures as if they did not; that wants
--without_cpu, for cgroups of cpu take no process of that kind.
"""

import argparse
import os
import statistics
import sys
import tempfile
from functools import partial

from commands import Figures, commands, measured, one_at_a_time
from daemons import in_child, table

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.agent.image_archives import BUSYBOX, busybox_layer, docker_archive

_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
_CGROUPS = "cgroups/cpu,cgroups/mem,cgroups/pids"
_ALL = f"{_CGROUPS},namespaces/pid,filesystem/linux,linux/capabilities,linux/nnp,disk/du"
KINDS = {
    "posix": ("--launcher=posix",),
    "linux": ("--launcher=linux",),
    "cgroups": (f"--isolation={_CGROUPS}", "--cgroups_enable_cfs"),
    "and namespaces, mounts, rights": (f"--isolation={_ALL}", "--cgroups_enable_cfs"),
    "linux, from an image": ("--launcher=linux", "--image_providers=docker"),
}
_IMAGED = "linux, from an image"
_FEWER = 4
"""How many times fewer containers from images are started."""


def rounds_of(
    tasks: int, single: int, runs: int, where: str | None, images: str, cpu: bool
) -> dict[str, dict[str, list[Figures]]]:
    """
    Measure everything, one kind after the other and then again.

    @param images: a folder with C{busy.tar}; empty to do without images.
    @param cpu: whether cgroups of cpu may be used.
    """
    rounds: dict[str, dict[str, list[Figures]]] = {}
    for _ in range(runs):
        for kind, flags in KINDS.items():
            image = "busy" if kind == _IMAGED else ""
            if image and not images:
                continue
            more = [f"--docker_registry={images}"] if image else []
            if not cpu:
                flags = tuple(flag.replace("cgroups/cpu,", "") for flag in flags)
            count = tasks // _FEWER if image else tasks
            bodies = {
                "at once": partial(commands, count, image=image),
                "alone": partial(one_at_a_time, single, image=image),
            }
            for name, body in bodies.items():
                round_ = partial(measured, where, "", body, [*flags, *more])
                rounds.setdefault(kind, {}).setdefault(name, []).append(in_child(round_))
    return rounds


def row(kind: str, tasks: int, rounds: dict[str, dict[str, list[Figures]]]) -> list[str]:
    """Return what is said of one kind, against posix."""

    def median(kind: str, name: str, figure: str) -> float:
        return statistics.median(one[figure] for one in rounds[kind][name])

    def a_task(kind: str, figure: str) -> float:
        count = tasks // _FEWER if kind == _IMAGED else tasks
        return median(kind, "at once", figure) / count * 1000

    alone = median(kind, "alone", "running p50") * 1000
    return [
        kind,
        f"{1000 / a_task(kind, 'seconds'):.0f}",
        f"{a_task(kind, 'seconds') - a_task('posix', 'seconds'):.1f}",
        f"{a_task(kind, 'agent'):.2f}",
        f"{a_task(kind, 'launcher'):.2f}",
        f"{alone:.1f}",
        f"{alone - median('posix', 'alone', 'running p50') * 1000:.1f}",
    ]


def main() -> None:
    """Run all rounds, interleaved, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--single", type=int, default=20)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--without_cpu", action="store_true", help="leave out cgroups/cpu")
    parser.add_argument("--where", default=_MEMORY, help="where the agent's work_dir is made")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-images-") as images:
        if BUSYBOX is not None:
            docker_archive(f"{images}/busy.tar", [busybox_layer()])
        rounds = rounds_of(
            chosen.tasks,
            chosen.single,
            chosen.runs,
            chosen.where,
            images if BUSYBOX else "",
            not chosen.without_cpu,
        )
    table(
        f"{chosen.tasks} commands at once, and one alone; median of {chosen.runs} runs",
        [
            "isolation",
            "tasks/s",
            "ms a task over posix",
            "agent CPU ms a task",
            "launcher",
            "alone: RUNNING p50, ms",
            "over posix",
        ],
        [row(kind, chosen.tasks, rounds) for kind in rounds],
    )


if __name__ == "__main__":
    main()
