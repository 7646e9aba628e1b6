"""pymesos, unmodified, against a real master and agent of ours: Mesos' v1 API in JSON."""

from __future__ import annotations

from tests.interop.pymesos_client import PymesosTestCase


class PymesosTests(PymesosTestCase):
    """Its scheduler launches, kills, asks, and goes on after the master has."""

    async def test_tasks_run_and_are_acknowledged(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        client = await self.client(cluster, {"a": "echo hi", "b": "exit 3"})
        await client.until("both ended", lambda: "TASK_FAILED" in client.states("b"))
        await client.until("both ended", lambda: "TASK_FINISHED" in client.states("a"))
        expected = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        self.assertEqual(expected, client.states("a"))
        self.assertEqual([*expected[:2], "TASK_FAILED"], client.states("b"))
        ((framework_id, master),) = client.values("registered")
        self.assertEqual("1.12.0", master["version"])
        agent_id = client.values("update")[0]["agent_id"]["value"]
        home = cluster.agent.work_dir / "slaves" / agent_id / "frameworks" / framework_id["value"]
        stdout = home / "executors" / "a" / "runs" / "latest" / "stdout"
        self.assertEqual("hi\n", stdout.read_text())
        await cluster.acknowledged()
        await self.stop(client)

    async def test_task_is_asked_about_and_killed(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        client = await self.client(cluster, {"long": "sleep 1000"})
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("long"))
        client.do("reconcileTasks", [])
        await client.until("an answer", lambda: client.answers() == [("long", "TASK_RUNNING")])
        ids = [{"task_id": {"value": name}} for name in ("long", "never")]
        client.do("reconcileTasks", ids)
        await client.until("two answers", lambda: len(client.answers()) == 3)
        self.assertEqual({("long", "TASK_RUNNING"), ("never", "TASK_LOST")}, set(client.answers()))
        for method in ("suppressOffers", "reviveOffers"):
            client.do(method)
        client.do("killTask", {"value": "long"})
        await client.until("it was killed", lambda: client.states("long")[-1] == "TASK_KILLED")
        await cluster.acknowledged()
        await self.stop(client)

    async def test_scheduler_goes_on_after_the_master_has(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        client = await self.client(cluster, {"long": "sleep 1000"}, checkpoint=True)
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("long"))
        assert cluster.master.process is not None
        cluster.master.process.kill()
        cluster.master.process.wait(60)
        cluster.master.start()
        await cluster.master.ready()
        await client.until("it subscribed again", lambda: client.values("reregistered"))
        await cluster.registered()
        client.do("reconcileTasks", [])
        await client.until("an answer", lambda: ("long", "TASK_RUNNING") in client.answers())
        client.do("killTask", {"value": "long"})
        await client.until("it was killed", lambda: client.states("long")[-1] == "TASK_KILLED")
        await self.stop(client)
