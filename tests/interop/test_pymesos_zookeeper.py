"""pymesos, unmodified, finds the leading one of our masters in ZooKeeper, and the next one."""

from __future__ import annotations

from tests.cluster import zookeepers
from tests.cluster.elected import ElectedCluster
from tests.interop.pymesos_client import PymesosTestCase


class PymesosZooKeeperTests(PymesosTestCase):
    """Its own detector, on the nodes that our masters make."""

    async def test_scheduler_follows_the_leader(self) -> None:
        cluster = ElectedCluster(zookeepers.shared())
        self.addCleanup(cluster.close)
        self._use(cluster)
        await cluster.elect(masters=2)
        client = await self.client(cluster, {"long": "sleep 1000"}, checkpoint=True)
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("long"))
        old = cluster.master
        await old.kill()
        await cluster.leads()
        # Who comes to the next one before that knows it is sent to the last one once more, and
        # pymesos stays there until it is sent away: what was killed has to come back.
        old.start()
        await old.ready()
        await client.until("it subscribed again", lambda: client.values("reregistered"))
        await cluster.registered()
        client.do("reconcileTasks", [])
        await client.until("an answer", lambda: ("long", "TASK_RUNNING") in client.answers())
        client.do("killTask", {"value": "long"})
        await client.until("it was killed", lambda: client.states("long")[-1] == "TASK_KILLED")
        await self.stop(client)
