"""Tasks and executors in containers of a real Docker engine, with real daemons."""

from __future__ import annotations

import json
import sys
from typing import Any

from mesoskit.driver import TaskState
from mesoskit.messages.mesos_pb2 import ContainerInfo, ExecutorInfo, HealthCheck, TaskStatus
from tests.agent.docker_engines import IMAGE, daemon
from tests.cluster.harness import CHECKOUT, Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.test_executors import doing, echo
from tests.cluster.waiting import until


def in_docker(what: Any, **docker: Any) -> Any:
    """Make a task or an executor one of Docker."""
    docker.setdefault("network", "NONE")
    parameters = [{"key": "init", "value": "true"}]
    info = ContainerInfo(
        type=ContainerInfo.DOCKER, docker={"image": IMAGE, "parameters": parameters, **docker}
    )
    what.container.CopyFrom(info)
    return what


class DockerTests(ClusterTestCase):
    """From a framework to an engine and back."""

    async def begin(self) -> tuple[Cluster, Ledger]:
        engine = await daemon()
        cluster = self.cluster()
        await cluster.start(
            agent={
                "containerizers": "mesos,docker",
                "docker_socket": engine.socket,
                "docker_remove_delay": "0secs",
                "executor_reregistration_timeout": "10secs",
            }
        )
        return cluster, cluster.framework()

    def plain(self, ledger: Ledger, name: str, command: str) -> Any:
        """Return a task without the marks of ledgers, which are files outside of containers."""
        info = ledger.task(name, "true")
        info.command.value = command
        return in_docker(info)

    async def test_tasks_run_are_checked_survive_the_agent_and_are_killed(self) -> None:
        cluster, ledger = await self.begin()
        script = "echo ready; touch /well; while :; do sleep 0.05; done"
        info = self.plain(ledger, "long", script)
        info.health_check.CopyFrom(
            HealthCheck(
                type="COMMAND",
                command={"value": "test -e /well"},
                delay_seconds=0,
                interval_seconds=0.1,
                timeout_seconds=5.0,
            )
        )
        handles = await ledger.launch(
            info, self.plain(ledger, "short", "echo out; exit 3"), ledger.task("posix", "true")
        )
        over = await ledger.over("short")
        self.assertEqual(over.state, TaskState.TASK_FAILED)
        self.assertEqual(over.message, "Container exited with status 3")
        self.assertEqual((await ledger.over("posix")).state, TaskState.TASK_FINISHED)
        running = await ledger.until("long", TaskState.TASK_RUNNING)
        (shown,) = json.loads(running.data)
        self.assertTrue(shown["Name"].startswith("/mesos-"))
        self.assertEqual(shown["HostConfig"]["Memory"], 32 << 20)

        def healthy() -> bool:
            return any(
                status.HasField("healthy") and status.healthy for status in ledger.statuses["long"]
            )

        await until("long is healthy", healthy, seen=lambda: ledger.story("long"))
        sandbox = cluster.agent.sandbox(ledger.id, "short")
        self.assertEqual((sandbox / "stdout").read_text(), "out\n")
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        handles[0].kill()
        self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
        await cluster.acknowledged()

    async def test_an_executor_in_a_container_outlives_the_agent(self) -> None:
        cluster, ledger = await self.begin()
        executor: ExecutorInfo = in_docker(echo())
        # The image has no Python: it is shared from here.
        for path in ("/usr", "/lib", "/lib64", sys.base_prefix, str(CHECKOUT), sys.prefix):
            executor.container.volumes.add(container_path=path, host_path=path, mode="RO")
        await ledger.launch(doing("first", "finish", executor), doing("waits", "wait", executor))
        await ledger.over("first")
        await ledger.until("waits", TaskState.TASK_RUNNING)
        await cluster.agent.kill()
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        await ledger.launch(doing("second", "finish", executor))
        self.assertEqual((await ledger.over("second")).data, b"done")
        self.assertEqual(ledger.states("waits")[-1], "TASK_RUNNING")

    async def test_what_no_engine_can_run_fails_with_its_words(self) -> None:
        _, ledger = await self.begin()
        info = self.plain(ledger, "bad", "true")
        info.container.docker.parameters.add(key="memroy", value="1g")
        mapped = self.plain(ledger, "mapped", "true")
        mapped.container.docker.network = ContainerInfo.DockerInfo.BRIDGE
        mapped.container.docker.port_mappings.add(host_port=99, container_port=80)
        await ledger.launch(info, mapped)
        bad, ports = await ledger.over("bad"), await ledger.over("mapped")
        self.assertEqual(bad.reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("docker parameter 'memroy' is not known", bad.message)
        self.assertIn("Port mappings require port resources", ports.message)
