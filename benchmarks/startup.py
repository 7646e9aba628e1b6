"""
From exec to the first answer of /health, and the resident memory of an idle daemon and, of an
agent, of the launcher, the parent of its tasks.

python benchmarks/startup.py [--runs 5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from daemons import Daemon, table

_FLOORS = (
    ("Python", "pass"),
    ("twistd", "import twisted.scripts.twistd"),
    (
        "twistd, reactor",
        "import twisted.scripts.twistd, mesoskit.app.late_tls as late; late.leave_tls_for_later()",
    ),
    (
        "twistd, reactor, TLS",
        "import twisted.scripts.twistd, twisted.internet.reactor, twisted.internet.endpoints",
    ),
)


def floor(program: str) -> tuple[float, int]:
    """Return how long a program takes to end, and its memory when it does."""
    report = "\nprint(open('/proc/self/statm').read().split()[1])"
    begin = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-c", program + report], check=True, capture_output=True
    ).stdout
    return time.perf_counter() - begin, int(said) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Start each daemon some times and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    for plugin, flags in (
        ("mesos-master", ()),
        ("mesos-agent", ("--master=127.0.0.1:9", "--resources=cpus:2;mem:512;disk:512")),
    ):
        seconds, memory, launcher = [], [], [0]
        for _ in range(chosen.runs + 1):
            with Daemon(plugin, *flags) as daemon:
                seconds.append(daemon.started)
                time.sleep(0.5)
                memory.append(daemon.rss())
                if plugin == "mesos-agent":
                    process = daemon.launcher()
                    launcher.append(process.memory_info().rss)
                    process.kill()
        # The first one also fills the caches of the file system.
        rows.append(
            [
                plugin,
                f"{statistics.median(seconds[1:]):.2f}",
                f"{statistics.median(memory[1:]) / 1e6:.1f}",
                f"{launcher[-1] / 1e6:.1f}",
            ]
        )
    table(
        f"Start of a daemon, median of {chosen.runs} runs",
        ["daemon", "s to /health", "idle RSS MB", "its launcher's"],
        rows,
    )

    rows = []
    for name, program in _FLOORS:
        measured = [floor(program) for _ in range(chosen.runs)]
        took = statistics.median(one[0] for one in measured)
        held = statistics.median(one[1] for one in measured)
        rows.append([name, f"{took:.2f}", f"{held / 1e6:.1f}"])
    table("What of it others have loaded", ["imported", "s", "RSS MB"], rows)


if __name__ == "__main__":
    main()
