"""What the registry in ZooKeeper costs: writing it agent by agent, and reading it as a new leader.

Starts a server of Debian's package on loopback. Prints how long 50,000 agents take to be written
(in groups, as a turn of the master has them), how many nodes and bytes they are, and how long a
master that begins to lead reads them.

Run: python benchmarks/registry_zookeeper.py [agents]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.trial.unittest import SkipTest

from mesoskit.cluster.registry import ZooKeeperStore
from mesoskit.cluster.zk_url import ZooKeeperURL
from mesoskit.cluster.zookeeper import ZooKeeper
from mesoskit.master import registry
from mesoskit.messages.mesos_pb2 import AgentInfo
from mesoskit.model.ids import Ids
from mesoskit.model.resources import PRE, Resources
from tests.cluster.zookeepers import Servers

GROUP = 64


def agent(number: int, ids: Ids) -> AgentInfo:
    """Return an agent as masters know them."""
    info = AgentInfo(
        hostname=f"node-{number}.rack-{number % 50}.example.com",
        port=5051,
        resources=Resources.parse(
            f"cpus:{8 + number % 64};mem:{16384 + number};disk:500000;ports:[31000-32000]"
        ).to_message(PRE),
    )
    info.id.value = f"{ids.text()}-S{number}"
    for name in ("rack", "zone"):
        attribute = info.attributes.add(name=name, type=3)
        attribute.text.value = f"{name}-{number % 50}"
    return info


async def main(reactor: Any) -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    try:
        servers = Servers()
    except SkipTest as error:
        print(f"not measured: {error}")
        return
    servers.start()
    url = ZooKeeperURL.parse(servers.url())
    ids = Ids(bytes(16))
    changes = [registry.admit(agent(number, ids)).changes for number in range(count)]
    size = sum(len(value or b"") for each in changes for _, value in each)
    print(f"{count} agents, {size / 1e6:.1f} MB")

    first = ZooKeeper(reactor, url)
    await first.connect()
    store = ZooKeeperStore(first, reactor, url.path, lambda: 1, "one")
    await store.load()
    began = time.perf_counter()
    waiting: list[Deferred[None]] = []
    for start in range(0, count, GROUP):
        group = [change for each in changes[start : start + GROUP] for change in each]
        waiting.append(store.apply(group))
        if len(waiting) >= 8:
            await waiting.pop(0)
    for each in waiting:
        await each
    print(f"written in groups of {GROUP}: {time.perf_counter() - began:.2f} s")
    one: list[float] = []
    for number in range(200):
        began = time.perf_counter()
        await store.apply(changes[number])
        one.append(time.perf_counter() - began)
    one.sort()
    print(f"one change: p50 {one[100] * 1e3:.2f} ms, p99 {one[198] * 1e3:.2f} ms")
    await deferLater(reactor, 0.05)
    while store.folding:
        await deferLater(reactor, 0.05)
    root = f"{url.path}/mesoskit_registry"
    nodes = [
        f"{root}/{where}/{name}"
        for where in ("buckets", "log")
        for name in await first.get_children(f"{root}/{where}")
    ]
    held = sum([len((await first.get(path))[0]) for path in nodes])
    print(f"in {len(nodes)} nodes, {held / 1e6:.1f} MB")
    await store.close()
    await first.close()

    for epoch in range(2, 7):
        client = ZooKeeper(reactor, url)
        await client.connect()
        began = time.perf_counter()
        again = ZooKeeperStore(client, reactor, url.path, lambda epoch=epoch: epoch, "two")  # type: ignore[misc]
        snapshot = await again.load()
        read = time.perf_counter() - began
        known = registry.Registry(snapshot)
        print(
            f"read by a new leader: {read:.2f} s, understood: {time.perf_counter() - began:.2f} s"
        )
        assert len(known.agents) == count
        await client.close()
    servers.close()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
