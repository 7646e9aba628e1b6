"""Agents registered a second by a real master, and the memory an agent costs it.

No framework is subscribed. The agents are played by this process on raw sockets, so that
it takes little from the master; each connects, says hello, registers, is written to the
registry and is answered. So many register at the same time (C{--window}); then the next
of them come.

    python benchmarks/agents.py [--agents 3000] [--runs 5] [--window 500]
"""

import argparse
import os
import statistics
from functools import partial
from time import perf_counter

from daemons import Daemon, in_child, table
from lives import scalar
from rawlinks import RawLink, RawLoop, hello, packed

from mesoskit.messages import internal_pb2, mesos_pb2
from mesoskit.messages.stream_pb2 import Role

_ANSWER = internal_pb2.SlaveRegisteredMessage.DESCRIPTOR.full_name.encode()


def registration(number: int) -> bytes:
    """Return the frame with which an agent registers."""
    message = internal_pb2.RegisterSlaveMessage(version="1.12.0")
    info = message.slave
    info.hostname = f"agent-{number}"
    info.port = 1024 + number
    info.resources.extend([scalar("cpus", 8), scalar("mem", 16384), scalar("disk", 65536)])
    for kind in (
        mesos_pb2.AgentInfo.Capability.MULTI_ROLE,
        mesos_pb2.AgentInfo.Capability.HIERARCHICAL_ROLE,
        mesos_pb2.AgentInfo.Capability.RESERVATION_REFINEMENT,
    ):
        message.agent_capabilities.add().type = kind
    return packed(message)


def measure(agents: int, window: int) -> dict[str, float]:
    """Start a master, and measure one round with it."""
    frames = [registration(number) for number in range(agents)]
    first = hello(Role.AGENT)
    with Daemon("mesos-master") as master:
        loop = RawLoop(master.port)
        before, cpu, own = master.rss(), master.cpu(), sum(os.times()[:2])
        begun = registered = 0

        def told(link: RawLink) -> None:
            link.send(link.mind)

        def heard(link: RawLink, payload: bytes) -> None:
            nonlocal registered
            if _ANSWER in payload:
                registered += 1
                if begun < agents:
                    begin_one()
                loop.running = registered < agents

        def begin_one() -> None:
            nonlocal begun
            link = RawLink(told, heard, frames[begun])
            begun += 1
            loop.dial(link, first)

        begin = perf_counter()
        for _ in range(min(window, agents)):
            begin_one()
        loop.run(60)
        end = perf_counter()
        outcome = {
            "rate": agents / (end - begin),
            "bytes": (master.rss() - before) / agents,
            "cpu": (master.cpu() - cpu) / agents * 1000,
            "own": (sum(os.times()[:2]) - own) / agents * 1000,
        }
        loop.close()
        return outcome


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--window", type=int, default=500)
    chosen = parser.parse_args()
    one = partial(measure, chosen.agents, chosen.window)
    results = [in_child(one) for _ in range(chosen.runs)]
    median = {key: statistics.median(r[key] for r in results) for key in results[0]}
    table(
        f"Registration of {chosen.agents:,} agents, {chosen.window} at a time, SQLite registry,"
        f" median of {chosen.runs} runs",
        ["agents/s", "best", "master CPU s/1000", "harness CPU s/1000", "master kB an agent"],
        [
            [
                f"{median['rate']:,.0f}",
                f"{max(r['rate'] for r in results):,.0f}",
                f"{median['cpu']:.3f}",
                f"{median['own']:.3f}",
                f"{median['bytes'] / 1000:.1f}",
            ]
        ],
    )


if __name__ == "__main__":
    main()
