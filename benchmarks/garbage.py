"""What looking for garbage costs a master: CPU and pauses, with our settings and with Python's.

Lives with many agents, as C{lives.py} has them; the master counts how often and how long its
collector runs. (Python runs a C{sitecustomize} of ours in it before anything else.)

    python benchmarks/garbage.py [--agents 1000] [--lives 20000]
"""

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import lives
from daemons import in_child, table

_WATCH = """
import atexit, gc, json, os, sys, time

if "mesos-master" in sys.orig_argv:
    if os.environ["BENCH_GC"] == "python":
        gc.freeze = gc.disable = lambda: None
        gc.set_threshold = lambda *_: None
    runs, begun = [], [0.0]

    def watch(phase, info):
        if phase == "start":
            begun[0] = time.perf_counter()
        else:
            runs.append(time.perf_counter() - begun[0])

    gc.callbacks.append(watch)
    atexit.register(lambda: open(os.environ["BENCH_GC_OUT"], "w").write(json.dumps(runs)))
"""


def main() -> None:
    """Measure both, and print how often the collector ran and how long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--lives", type=int, default=20_000)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        home = Path(directory)
        (home / "sitecustomize.py").write_text(_WATCH)
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{home}{os.pathsep}{path}" if path else str(home)
        os.environ["BENCH_GC_OUT"] = str(home / "runs")
        for settings in ("python", "ours"):
            os.environ["BENCH_GC"] = settings
            measured = in_child(partial(lives.measure, chosen.agents, chosen.lives, 4_000))
            runs = sorted(json.loads((home / "runs").read_text()))
            rows.append(
                [
                    settings,
                    str(len(runs)),
                    f"{sum(runs) * 1000:.0f}",
                    f"{runs[-1] * 1000:.1f}",
                    f"{measured['master']:.3f}",
                ]
            )
    table(
        f"The collector of a master, {chosen.agents:,} agents, {chosen.lives:,} lives",
        ["settings", "runs", "ms in all", "longest ms", "master CPU s/1000"],
        rows,
    )


if __name__ == "__main__":
    main()
