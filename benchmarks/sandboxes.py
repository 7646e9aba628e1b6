"""Files of a sandbox, from the agent itself and through the master, as processes on this machine.

    python benchmarks/sandboxes.py [--megabytes 1000] [--runs 3]

Prints megabytes a second of a download, the CPU time of master and agent for it, what waited in
the master at most, by how much its resident memory grew, how long C{/health} of the master took
meanwhile, and how long a small read takes when nothing else goes on.
"""

import argparse
import statistics
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from daemons import table
from psutil import Process
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

from tests.cluster import asking
from tests.cluster.harness import Cluster
from tests.cluster.waiting import pause, until

SMALL = 200


class Download(Protocol):
    """Counts what comes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.count = 0
        self.over: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        request = f"GET /files/download?path={self._path} HTTP/1.0\r\nHost: x\r\n\r\n"
        self.transport.write(request.encode())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.over.callback(self.count)


async def measure(reactor: Any, cluster: Cluster, port: int, path: str, size: int) -> list[float]:
    """
    Return megabytes a second, CPU seconds of master and agent, KiB that waited, growth in
    megabytes, and milliseconds of C{/health}.
    """
    daemons = [Process(one.pid) for one in (cluster.master, cluster.agent)]
    before = [sum(one.cpu_times()[:2]) for one in daemons]
    memory = daemons[0].memory_info().rss
    began = perf_counter()
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
    download = await connectProtocol(endpoint, Download(path))  # type: ignore[no-untyped-call]
    waited, pings = 0.0, []
    while not download.over.called:
        metrics = await asking.metrics(cluster.master.port)
        waited = max(waited, metrics["mesoskit/bulk_bytes_waiting"])
        asked = perf_counter()
        await asking.get(cluster.master.port, "/health")
        pings.append(perf_counter() - asked)
        await pause(0.05)
    seconds = perf_counter() - began
    if download.count < size:
        raise RuntimeError(f"{download.count} of {size} bytes came")
    cpu = [sum(one.cpu_times()[:2]) - past for one, past in zip(daemons, before, strict=True)]
    growth = daemons[0].memory_info().rss - memory
    ping = 1000 * statistics.median(pings)
    return [size / 1e6 / seconds, *cpu, waited / 1024, growth / 1e6, ping]


async def small(port: int, path: str) -> float:
    """Return the median of a small read, in milliseconds."""
    times = []
    for _ in range(SMALL):
        began = perf_counter()
        status, _ = await asking.get(port, f"/files/read?path={path}&offset=0&length=100")
        if status != 200:
            raise RuntimeError(f"a read was answered with {status}")
        times.append(perf_counter() - began)
    return 1000 * statistics.median(times)


async def run(reactor: Any, megabytes: int, runs: int) -> None:
    """Start a cluster, measure both ways, print."""
    cluster = Cluster()
    try:
        await cluster.start()
        ledger = cluster.framework()
        await ledger.run("t", "echo hi; sleep 1000")
        sandbox = cluster.agent.sandbox(ledger.id, "t")
        await until("the sandbox", (sandbox / "stdout").exists)
        size = megabytes * 1_000_000
        with (sandbox / "big").open("wb") as file:
            file.truncate(size)
        rows = []
        root = str(sandbox.resolve())
        for name, port in (("agent", cluster.agent.port), ("master", cluster.master.port)):
            reads = await small(port, f"{root}/stdout")
            found = [
                await measure(reactor, cluster, port, f"{root}/big", size) for _ in range(runs)
            ]
            figures = [statistics.median(column) for column in zip(*found, strict=True)]
            rows.append([name, *(f"{one:.1f}" for one in figures), f"{reads:.2f}"])
        columns = ["from", "MB/s", "master s", "agent s", "waited KiB", "grew MB", "health ms"]
        columns.append("read ms")
        table(f"A file of {megabytes} MB", columns, rows)
        await cluster.stop_frameworks()
    finally:
        cluster.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, given.megabytes, given.runs)))


if __name__ == "__main__":
    main()
