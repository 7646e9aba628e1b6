"""Agents registered a second by a real master, and the memory an agent costs it.

No framework is subscribed. The agents are played by this process over real sockets; each
says hello, registers, is written to the registry and is answered.

    python benchmarks/agents.py [--agents 2000] [--runs 3]
"""

import argparse
import os
import statistics
import sys
from functools import partial
from time import perf_counter
from typing import Any

from daemons import Daemon, in_child, table
from lives import AGENT, SETTINGS, Agent
from twisted.internet import epollreactor

from mesoskit.wire.pulse import Pulse
from mesoskit.wire.stream import dial


def _measure(agents: int) -> dict[str, float]:
    epollreactor.install()
    from twisted.internet import reactor

    clock: Any = reactor
    with Daemon("mesos-master") as master:
        pulse = Pulse(clock, SETTINGS.heartbeat / 2)
        before, cpu = master.rss(), master.cpu()
        registered = 0
        end = 0.0

        def one_more() -> None:
            nonlocal registered, end
            registered += 1
            if registered == agents:
                end = perf_counter()
                clock.callLater(1.0, clock.stop)

        def fatal(failure: Any) -> None:
            print(failure.getTraceback(), file=sys.stderr)
            os._exit(1)

        begin = perf_counter()
        for number in range(agents):
            agent = Agent(number, 8, one_more)
            dial(master.address, agent, AGENT, clock=clock, pulse=pulse).addErrback(fatal)
        clock.callLater(60, os._exit, 1)
        clock.run()
        return {
            "rate": agents / (end - begin),
            "bytes": (master.rss() - before) / agents,
            "cpu": (master.cpu() - cpu) / agents * 1000,
        }


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    results = [in_child(partial(_measure, chosen.agents)) for _ in range(chosen.runs)]
    median = {key: statistics.median(r[key] for r in results) for key in results[0]}
    table(
        f"Registration of {chosen.agents:,} agents, SQLite registry, median of {chosen.runs} runs",
        ["agents/s", "master kB an agent", "master CPU s/1000"],
        [[f"{median['rate']:,.0f}", f"{median['bytes'] / 1000:.1f}", f"{median['cpu']:.3f}"]],
    )


if __name__ == "__main__":
    main()
