"""
How long C{/metrics/snapshot} of a big cluster takes, beside a route that has nothing to do.

A master with agents that re-registered with their tasks, in a process of its own; a client in this
one, that asks again and again over one connection.

    .venv/bin/python benchmarks/metrics.py [--agents 1000] [--tasks 10000] [--frameworks 100]
"""

import argparse
import statistics
import time
from typing import Any

import psutil
from daemons import forked, free_port, table
from state import ask, reregistration, wait

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.model.events import Connected, PeerKind, Received
from mesoskit.model.ids import PeerId

BARE = "/version"


def serve(port: int, agents: int, tasks: int, frameworks: int) -> None:
    """Be the master."""
    from twisted.internet import reactor as installed

    from mesoskit.app import garbage

    reactor: Any = installed
    garbage.hold_off()
    # Nobody is there who could answer a ping.
    options = MasterOptions(
        hostname="127.0.0.1", ip="127.0.0.1", port=port, agent_ping_timeout=3600.0
    )
    service = MasterService(reactor, options, MemoryStore(), [f"tcp:{port}:interface=127.0.0.1"])

    def fill(_: object) -> None:
        now = reactor.seconds()
        each = tasks // agents
        for number in range(agents):
            peer = PeerId(10**6 + number)
            message = reregistration(number, each, frameworks)
            # Tasks of one agent after the other are of frameworks in turn.
            for index, task in enumerate(message.tasks):
                owner = (number * each + index) % frameworks
                task.framework_id.value = task.framework_id.value[:-4] + f"{owner:04d}"
            del message.frameworks[:]
            for name in sorted({one.framework_id.value for one in message.tasks}):
                info = message.frameworks.add(user="root", name=f"service {name[-4:]}")
                info.id.value = name
                info.roles.append(f"role-{name[-4:]}")
                info.capabilities.add().type = 6  # type: ignore[assignment]
            for task in message.tasks:
                for resource in task.resources:
                    resource.allocation_info.role = f"role-{task.framework_id.value[-4:]}"
            service.state.handle(now, Connected(peer, PeerKind.AGENT, f"10.0.0.1:{number}"))
            service.state.handle(now, Received(peer, message))
        garbage.begin()

    service.startService().addCallback(fill)
    reactor.run()


def main() -> None:
    """Start a master, ask it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--frameworks", type=int, default=100)
    parser.add_argument("--requests", type=int, default=300)
    chosen = parser.parse_args()
    port = free_port()
    with forked(lambda: serve(port, chosen.agents, chosen.tasks, chosen.frameworks)) as master:
        measure(port, master, chosen)


def measure(port: int, master: psutil.Process, chosen: argparse.Namespace) -> None:
    """Ask for each path many times."""
    connection = wait(port)
    rows = []
    bare = 0.0
    for path in (BARE, "/metrics/snapshot", "/metrics"):
        took = []
        size = 0
        before = sum(master.cpu_times()[:2])
        for _ in range(chosen.requests):
            begun = time.perf_counter()
            size = len(ask(connection, path))
            took.append(time.perf_counter() - begun)
        spent = (sum(master.cpu_times()[:2]) - before) / chosen.requests * 1000
        took.sort()
        median = statistics.median(took) * 1000
        bare = bare or median
        rows.append(
            [
                path,
                f"{size / 1000:.0f}",
                f"{median:.2f}",
                f"{took[int(len(took) * 0.99)] * 1000:.2f}",
                f"{spent:.2f}",
                f"{median / bare:.0f}",
            ]
        )
    table(
        f"{chosen.agents} agents, {chosen.tasks} tasks, {chosen.frameworks} frameworks",
        ["", "kB", "median ms", "p99 ms", "CPU ms", f"times {BARE}"],
        rows,
    )


if __name__ == "__main__":
    main()
