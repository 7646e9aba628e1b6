"""An agent is drained: what runs there ends and says why, and it stays out until told otherwise."""

from __future__ import annotations

import json
from typing import Any

from mesoskit.driver import TaskState
from mesoskit.messages.mesos_pb2 import TaskStatus
from tests.cluster import asking
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.waiting import until_async


async def call(cluster: Cluster, name: str, **fields: Any) -> tuple[int, str]:
    """Make a call of the master's operator API; return status and text."""
    body = json.dumps({"type": name.upper(), name: fields}).encode()
    head = (
        "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    answer = await asking.exchange(cluster.master.port, head.encode() + body)
    first, _, text = answer.partition(b"\r\n\r\n")
    return int(first.split(None, 2)[1]), text.decode()


async def shown(cluster: Cluster, agent_id: str) -> dict[str, Any]:
    """Return what C{/slaves} shows of an agent."""
    _, body = await asking.get(cluster.master.port, f"/slaves?slave_id={agent_id}")
    (agent,) = json.loads(body)["slaves"]
    return dict(agent)


class DrainingTests(ClusterTestCase):
    """The whole way, with processes."""

    async def test_agent_is_drained_and_stays_so_when_master_and_agent_are_killed(self) -> None:
        cluster = self.cluster()
        await cluster.start(agents=2)
        ledger = cluster.framework()
        await ledger.run("victim", "trap '' TERM; sleep 1000 & wait; wait")
        victim = await ledger.running("victim")
        drained = victim.agent_id.value
        grace = {"agent_id": {"value": drained}, "max_grace_period": {"seconds": 1}}
        self.assertEqual((200, ""), await call(cluster, "drain_agent", **grace))
        status = await ledger.over("victim")
        self.assertEqual(TaskState.TASK_KILLED, status.state)
        self.assertEqual(TaskStatus.REASON_AGENT_DRAINING, status.reason)
        await self.drained(cluster, drained)

        await cluster.master.kill()
        agent = next(one for one in cluster.agents.values() if drained in one.log())
        await agent.kill()
        cluster.master.start()
        await cluster.master.ready()
        agent.start()

        async def back() -> bool:
            agents = json.loads((await asking.get(cluster.master.port, "/slaves"))[1])["slaves"]
            return {one["active"] for one in agents} == {True, False} and len(agents) == 2

        await until_async("the drained agent is back, and not offered", back, seen=cluster.logs)
        await self.drained(cluster, drained)
        for name in ("one", "two"):
            await ledger.run(name, "true")
            self.assertNotEqual(drained, (await ledger.over(name)).agent_id.value)

        who = {"agent_id": {"value": drained}}
        self.assertEqual((200, ""), await call(cluster, "reactivate_agent", **who))
        await ledger.run("three", "true", agent_id=drained)
        await ledger.over("three")
        self.assertEqual(
            (400, "Agent is not deactivated"), await call(cluster, "reactivate_agent", **who)
        )

    async def drained(self, cluster: Cluster, agent_id: str) -> None:
        async def state() -> bool:
            info = (await shown(cluster, agent_id)).get("drain_info", {})
            return bool(info.get("state") == "DRAINED")

        await until_async("the agent has drained", state, seen=cluster.logs)
