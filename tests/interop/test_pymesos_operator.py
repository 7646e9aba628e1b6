"""pymesos' operator client, unmodified, reads and watches a real master and agent of ours."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.cluster.harness import CHECKOUT, Cluster
from tests.cluster.waiting import reactor
from tests.interop.install import Unreachable, install
from tests.interop.pymesos_client import Client, PymesosTestCase

SCRIPT = CHECKOUT / "tests" / "interop" / "pymesos_operator.py"

#: What is asked of the master, and the key of the answer.
_MASTER = {
    "getHealth": "get_health",
    "getFlags": "get_flags",
    "getVersion": "get_version",
    "getLoggingLevel": "get_logging_level",
    "getState": "get_state",
    "getAgents": "get_agents",
    "getFrameworks": "get_frameworks",
    "getExecutors": "get_executors",
    "getTasks": "get_tasks",
    "getRoles": "get_roles",
    "getWeights": "get_weights",
    "getMaster": "get_master",
    "getMaintenanceStatus": "get_maintenance_status",
    "getMaintenanceSchedule": "get_maintenance_schedule",
    "getQuota": "get_quota",
}
_AGENT = {
    "getHealth": "get_health",
    "getState": "get_state",
    "getFrameworks": "get_frameworks",
    "getExecutors": "get_executors",
    "getTasks": "get_tasks",
}


class PymesosOperatorTests(PymesosTestCase):
    """Its operator drivers ask, and hear a task's whole life."""

    async def operator(self, cluster: Cluster) -> Client:
        """Start an operator, or leave the test out where there is no way to get one."""
        try:
            python = await deferToThread(install)
        except Unreachable as error:
            raise SkipTest(f"pymesos cannot be had: {error}") from None
        client = Client()
        agent = f"127.0.0.1:{cluster.agent.port}"
        arguments = [str(python), str(SCRIPT), cluster.master.address, agent]
        process = reactor.spawnProcess(
            client, str(python), arguments, env={"LANG": "C.UTF-8"}, path=str(cluster.directory)
        )
        self.addCleanup(self.end, client, process)
        await client.until("it watches", lambda: client.values("subscribed"))
        return client

    async def answer(self, client: Client, whose: str, method: str, *arguments: Any) -> Any:
        """Ask, and return the answer."""
        before = len(client.values(method))
        client.do(whose, method, *arguments)
        await client.until(
            f"{method} of the {whose}",
            lambda: len(client.values(method)) > before or client.values("failed"),
        )
        self.assertEqual([], client.values("failed"))
        return client.values(method)[-1]

    async def test_operator_watches_a_task_and_reads_the_cluster(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        operator = await self.operator(cluster)
        (subscribed,) = operator.values("subscribed")
        (agent,) = subscribed["get_state"]["get_agents"]["agents"]
        scheduler = await self.client(cluster, {"long": "sleep 1000"})
        await scheduler.until("it runs", lambda: "TASK_RUNNING" in scheduler.states("long"))
        for method, key in _MASTER.items():
            self.assertIn(key, await self.answer(operator, "master", method))
        for method, key in _AGENT.items():
            self.assertIn(key, await self.answer(operator, "agent", method))
        metrics = await self.answer(operator, "master", "getMetrics", 10**9)
        self.assertIn("master/elected", [one["name"] for one in metrics["get_metrics"]["metrics"]])
        await self.ask_for_the_sandbox(operator)
        await self.stop(scheduler)
        await operator.until("the end", lambda: operator.values("framework removed"))
        (added,) = operator.values("task added")
        self.assertEqual(agent["agent_info"]["id"], added["agent_id"])
        states = [one["state"] for one in operator.values("task updated")]
        self.assertEqual(["TASK_STARTING", "TASK_RUNNING", "TASK_KILLED"], states)
        (framework,) = operator.values("framework added")
        self.assertEqual("pymesos", framework["framework_info"]["name"])
        await self.stop(operator)

    async def ask_for_the_sandbox(self, operator: Client) -> None:
        """Let it look into the sandbox of the task that runs."""
        tasks = await self.answer(operator, "agent", "getTasks")
        (task,) = tasks["get_tasks"]["launched_tasks"]
        path = f"/frameworks/{task['framework_id']['value']}/executors/long/runs/latest"
        listed = await self.answer(operator, "agent", "listFiles", path)
        names = [one["path"].rpartition("/")[2] for one in listed["list_files"]["file_infos"]]
        self.assertEqual(["stderr", "stdout"], names)
        part = await self.answer(operator, "agent", "readFile", f"{path}/stdout", 10, 0)
        self.assertEqual(0, part["read_file"]["size"])
