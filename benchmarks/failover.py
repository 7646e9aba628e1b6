"""How long a cluster has no master: from kill -9 of the leading one to the next one's first offer.

Two masters, an agent and a framework, each a process of its own but the framework, and one server
of ZooKeeper, all on this machine. Each round kills the leader, waits for the first offer, and
starts it again. Prints the median, for a session time-out of 2 s and of 10 s.

Run: python benchmarks/failover.py [rounds] [session time-outs]
"""

from __future__ import annotations

import signal
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.trial.unittest import SkipTest

from mesoskit.driver import DriverSettings
from tests.cluster.elected import ElectedCluster
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import pause, until
from tests.cluster.zookeepers import Servers


def _more(ledger: Ledger, connections: int) -> bool:
    return ledger.connections > connections


async def measure(servers: Servers, session: float, rounds: int) -> None:
    cluster = ElectedCluster(servers, session)
    try:
        await cluster.elect(masters=2)
        settings = DriverSettings(zk_session_timeout=session)
        ledger = cluster.framework(settings=settings, fields={"failover_timeout": 3600.0})
        await until("an offer", lambda: ledger.offers_seen)
        took: list[float] = []
        subscribed: list[float] = []
        stopped: list[float] = []
        for _ in range(rounds):
            # Whatever the session's phase is.
            await pause(session / 3)
            leader = cluster.master
            ledger.offers_seen.clear()
            connections = ledger.connections
            began = time.monotonic()
            await leader.kill()
            patience = 3 * session + 10
            again = partial(_more, ledger, connections)
            await until("a master", again, patience, 0.005)
            subscribed.append(time.monotonic() - began)
            await until("an offer", lambda: ledger.offers_seen, patience, 0.005)
            took.append(time.monotonic() - began)
            await cluster.leads()
            await cluster.registered()
            leader.start()
            await leader.ready()
            # And once more, without haste.
            leader = cluster.master
            ledger.offers_seen.clear()
            began = time.monotonic()
            leader.signal(signal.SIGTERM)
            await until("an offer", lambda: ledger.offers_seen, patience, 0.005)
            stopped.append(time.monotonic() - began)
            await leader.ended()
            await cluster.leads()
            await cluster.registered()
            leader.start()
            await leader.ready()
        print(
            f"session time-out {session:g} s: first offer after {statistics.median(took):.2f} s"
            f" (from {min(took):.2f} to {max(took):.2f}, {rounds} rounds);"
            f" framework subscribed after {statistics.median(subscribed):.2f} s;"
            f" stopped by SIGTERM: first offer after {statistics.median(stopped):.2f} s"
        )
    finally:
        await cluster.stop_frameworks()
        cluster.close()


async def main(reactor: Any) -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    try:
        servers = Servers()
    except SkipTest as error:
        print(f"not measured: {error}")
        return
    servers.start()
    try:
        for session in map(float, sys.argv[2:] or ["2", "10"]):
            await measure(servers, session, rounds)
    finally:
        servers.close()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
