"""An executor on pymesos, unmodified, under an agent of ours: Mesos' v1 executor API in JSON."""

from __future__ import annotations

import base64
from typing import Any

import psutil

from tests.cluster.harness import CHECKOUT, Cluster
from tests.cluster.waiting import until
from tests.interop.install import DIRECTORY
from tests.interop.pymesos_client import Client, PymesosTestCase

SCRIPT = CHECKOUT / "tests" / "interop" / "pymesos_executor.py"
EXECUTOR = {
    "type": "CUSTOM",
    "executor_id": {"value": "e"},
    "name": "echo",
    "command": {"value": f"exec {DIRECTORY / 'bin' / 'python'} {SCRIPT}"},
    "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
}


def task(word: str) -> dict[str, Any]:
    """Return what is special about a task that does what this word says."""
    return {"executor": EXECUTOR, "data": base64.b64encode(word.encode()).decode()}


class PymesosExecutorTests(PymesosTestCase):
    """It finds its agent, runs tasks, kills them, talks to its framework, and ends."""

    async def running(self, **words: str) -> tuple[Cluster, Client]:
        """Start a cluster and a framework with these tasks."""
        cluster = self.cluster()
        await cluster.start()
        tasks = {name: task(word) for name, word in words.items()}
        return cluster, await self.client(cluster, tasks)

    def sandbox(self, cluster: Cluster, client: Client) -> Any:
        """Return the executor's sandbox."""
        ((framework_id, _master),) = client.values("registered")
        agent_id = client.values("update")[0]["agent_id"]["value"]
        home = cluster.agent.work_dir / "slaves" / agent_id / "frameworks" / framework_id["value"]
        return home / "executors" / "e" / "runs" / "latest"

    async def test_tasks_run_in_one_executor(self) -> None:
        cluster, client = await self.running(good="TASK_FINISHED", bad="TASK_FAILED", long="wait")
        await client.until("one failed", lambda: "TASK_FAILED" in client.states("bad"))
        await client.until("one finished", lambda: "TASK_FINISHED" in client.states("good"))
        await client.until("one runs", lambda: "TASK_RUNNING" in client.states("long"))
        self.assertEqual(["TASK_RUNNING", "TASK_FINISHED"], client.states("good"))
        self.assertEqual(["TASK_RUNNING", "TASK_FAILED"], client.states("bad"))
        for update in client.values("update"):
            self.assertEqual("SOURCE_EXECUTOR", update["source"])
            self.assertEqual("e", update["executor_id"]["value"])
            self.assertEqual("said", update["message"])
        errors = (self.sandbox(cluster, client) / "stderr").read_text()
        self.assertEqual(1, errors.count("registered e "), errors)
        client.do("killTask", {"value": "long"})
        await client.until("it was killed", lambda: client.states("long")[-1] == "TASK_KILLED")
        await cluster.acknowledged()
        await self.stop(client)

    async def test_messages_go_there_and_back_until_executor_and_framework_end(self) -> None:
        _, client = await self.running(long="wait")
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("long"))
        agent_id = client.values("update")[0]["agent_id"]
        hello = base64.b64encode(b"hello").decode()
        client.do("sendFrameworkMessage", {"value": "e"}, agent_id, hello)
        await client.until("an answer", lambda: client.values("message"))
        pid, word = base64.b64decode(client.values("message")[0]).split()
        self.assertEqual(b"hello", word)
        self.assertTrue(psutil.pid_exists(int(pid)))
        await self.stop(client)
        await until("the executor ended", lambda: not psutil.pid_exists(int(pid)))

    async def test_executor_that_ends_takes_its_tasks_with_it(self) -> None:
        cluster, client = await self.running(end="exit")
        await client.until("it failed", lambda: "TASK_FAILED" in client.states("end"))
        await client.until("its end is told", lambda: client.values("executor lost"))
        self.assertEqual(["e", 7 << 8], client.values("executor lost")[0])
        await cluster.acknowledged()
        await self.stop(client)

    async def test_executor_lives_on_while_its_agent_is_killed_and_comes_back(self) -> None:
        cluster = self.cluster()
        # pymesos waits for some seconds before it looks for its agent again.
        await cluster.start(agent={"executor_reregistration_timeout": "15secs"})
        client = await self.client(cluster, {"long": task("wait")}, checkpoint=True)
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("long"))
        await cluster.acknowledged()
        agent_id = client.values("update")[0]["agent_id"]
        hello = base64.b64encode(b"hello").decode()
        client.do("sendFrameworkMessage", {"value": "e"}, agent_id, hello)
        await client.until("an answer", lambda: client.values("message"))
        pid = base64.b64decode(client.values("message")[0]).split()[0]
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        client.do("sendFrameworkMessage", {"value": "e"}, agent_id, hello)
        await client.until("another answer", lambda: len(client.values("message")) > 1)
        self.assertEqual(pid, base64.b64decode(client.values("message")[1]).split()[0])
        self.assertEqual(["TASK_RUNNING"], client.states("long"))
        client.do("killTask", {"value": "long"})
        await client.until("it was killed", lambda: client.states("long")[-1] == "TASK_KILLED")
        await cluster.acknowledged()
        await self.stop(client)
