"""Where the master's time goes in a task's life: microseconds a life, by what runs.

Measures lives as C{lives.py} does, once as they are and once with the master under cProfile;
the profile's shares are applied to the CPU time of the first. A profile makes Python's calls dearer
than what C does for them, so that sockets and protobuf cost a little more than is shown here.

    python benchmarks/profile_lives.py [--agents 100] [--lives 20000]
"""

import argparse
import os
import pstats
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path

from daemons import in_child, table
from lives import measure

_ROOMS = ("allocator", "master", "model", "messages", "cluster", "wire")


def _what(file: str, function: str) -> str:
    """Return under which name a function's time is counted."""
    if file == "~":
        if "_socket" in function or "epoll" in function:
            return "sockets: send, recv, epoll"
        if "_upb" in function or "FromString" in function:
            return "protobuf: parse, build, serialize"
        return "built-in methods of dicts, lists ..."
    for room in _ROOMS:
        if f"/mesoskit/{room}/" in file:
            return f"mesoskit.{room}"
    return "twisted" if "/twisted/" in file else "the rest"


def main() -> None:
    """Measure, profile, and print the parts, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--lives", type=int, default=20_000)
    chosen = parser.parse_args()
    run = partial(measure, chosen.agents, chosen.lives, 4_000)
    plain = in_child(run)["master"] * 1000
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "profile")
        os.environ["BENCH_PROFILE"] = str(path)
        in_child(run)
        entries = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    parts: dict[str, float] = defaultdict(float)
    for (file, _, function), (_, _, own, _, _) in entries.items():
        # The time in which it only waits is none of the CPU's.
        if "poll' of 'select.epoll" not in function:
            parts[_what(file, function)] += own
    whole = sum(parts.values())
    rows = [
        [name, f"{own / whole * plain:.1f}", f"{own / whole:.0%}"]
        for name, own in sorted(parts.items(), key=lambda item: -item[1])
    ]
    table(
        f"The master's CPU in a life, {chosen.agents} agents: {plain:.0f} us",
        ["what", "us a life", "part"],
        rows,
    )


if __name__ == "__main__":
    main()
