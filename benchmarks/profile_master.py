"""Where the master's time goes: microseconds of CPU a life, a registration, an offer.

Measures as C{lives.py}, C{agents.py} and C{offers.py} do, once as it is and once with the master
under cProfile; the profile's shares are applied to the CPU time of the first. A profile makes
Python's calls dearer than what C does for them, so that sockets and protobuf cost a little more
than is shown here. It also has the end of all connections in it, which the first has not.

    python benchmarks/profile_master.py [lives] [agents] [offers]
"""

import os
import pstats
import sys
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path

import agents
import lives
import offers
from daemons import in_child, table

_ROOMS = ("allocator", "master", "model", "messages", "cluster", "wire", "app")

# How it is measured, which figure of it is the CPU of one, and what makes it microseconds.
_KINDS = {
    "lives": (partial(lives.measure, 100, 20_000, 4_000), "master", 1000),
    "agents": (partial(agents.measure, 3_000, 500), "cpu", 1000),
    "offers": (partial(offers.measure, 1_000, 200, 5.0, "50ms"), "cpu", 1),
}


def _what(file: str, function: str) -> str:
    """Return under which name a function's time is counted."""
    if file == "~":
        if "_socket" in function or "epoll" in function:
            return "sockets: send, recv, epoll"
        if "sqlite3" in function:
            return "SQLite"
        if "_upb" in function or "FromString" in function:
            return "protobuf: parse, build, serialize"
        return "built-in methods of dicts, lists ..."
    for room in _ROOMS:
        if f"/mesoskit/{room}/" in file:
            return "log lines" if room == "app" else f"mesoskit.{room}"
    if "/twisted/logger/" in file or file.endswith("/logfile.py"):
        return "log lines"
    return "twisted" if "/twisted/" in file else "the rest"


def profile(kind: str) -> None:
    """Measure, profile, and print the parts, the largest first."""
    run, field, factor = _KINDS[kind]
    plain = in_child(run)[field] * factor
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory, "profile")
        os.environ["BENCH_PROFILE"] = str(path)
        in_child(run)
        del os.environ["BENCH_PROFILE"]
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
    table(f"The master's CPU, {plain:.0f} us for one of the {kind}", ["what", "us", "part"], rows)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or _KINDS:
        profile(chosen)
