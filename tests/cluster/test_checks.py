"""Tasks that are asked how they are, with real processes and a real port."""

from __future__ import annotations

import os
from typing import Any
from unittest import skipIf

from mesoskit.driver import TaskState
from mesoskit.messages.mesos_pb2 import CheckInfo, HealthCheck, TaskStatus
from tests.cluster import processes
from tests.cluster.harness import ClusterTestCase, SharedCluster, free_port
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import until

SERVER = (
    "from http.server import *; import os\n"
    "class H(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(500 if os.path.exists('sick') else 200); self.end_headers()\n"
    "    def log_message(self, *a): pass\n"
    "HTTPServer(('127.0.0.1', {port}), H).serve_forever()"
)


def often(**fields: Any) -> dict[str, Any]:
    """Return a check that asks ten times a second, and waits for answers as long as it takes."""
    return {"delay_seconds": 0.1, "interval_seconds": 0.1, "timeout_seconds": 30.0, **fields}


async def healthy(ledger: Ledger, task: str, well: bool) -> TaskStatus:
    """Wait until a task is told to be well, or not to be."""

    def found() -> TaskStatus | None:
        for status in ledger.statuses[task]:
            if status.HasField("healthy") and status.healthy is well:
                return status
        return None

    status = await until(f"{task} healthy={well}", found, seen=lambda: ledger.story(task))
    assert status is not None
    return status


class CheckTests(SharedCluster):
    """What is asked, and what becomes of it."""

    async def test_a_server_that_falls_sick_is_killed(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        port = free_port()
        check = often(type="HTTP", http={"port": port, "path": "/"}, consecutive_failures=2)
        info = ledger.task("server", f'python3 -c "{SERVER.format(port=port)}"')
        info.health_check.CopyFrom(HealthCheck(**check))
        await ledger.launch(info)
        status = await healthy(ledger, "server", True)
        self.assertEqual(TaskStatus.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED, status.reason)
        (sandbox,) = {
            run.resolve()
            for agent in cluster.agents.values()
            for run in agent.work_dir.glob(
                f"slaves/*/frameworks/{ledger.id}/executors/server/runs/*"
            )
        }
        (sandbox / "sick").touch()
        last = await ledger.over("server")
        self.assertEqual(
            (TaskState.TASK_KILLED, True, False),
            (last.state, last.HasField("healthy"), last.healthy),
        )

    async def test_a_command_that_hangs_has_failed_and_leaves_nothing_behind(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        info = ledger.task("task", "sleep 1000")
        pids = cluster.directory / f"pids-{os.getpid()}"
        pids.touch()
        command = {"value": f"echo $$ >> {pids}; sleep 1000 & setsid sleep 1000"}
        check = often(type="COMMAND", command=command, consecutive_failures=1)
        check["timeout_seconds"] = 1.0
        check["grace_period_seconds"] = 0
        info.health_check.CopyFrom(HealthCheck(**check))
        await ledger.launch(info)
        last = await ledger.over("task")
        self.assertEqual((TaskState.TASK_KILLED, False), (last.state, last.healthy))
        for pid in map(int, pids.read_text().split()):  # unless it was given up before
            await until("it is gone", lambda pid=pid: not processes.alive(pid))  # type: ignore[misc]

    async def test_a_command_says_what_it_finds(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        ready = cluster.directory / f"ready-{os.getpid()}"
        info = ledger.task("task", "sleep 1000")
        check = often(type="COMMAND", command={"command": {"value": f"test -e {ready} || exit 7"}})
        info.check.CopyFrom(CheckInfo(**check))
        await ledger.launch(info)

        def codes() -> list[int]:
            return [
                status.check_status.command.exit_code
                for status in ledger.statuses["task"]
                if status.check_status.command.HasField("exit_code")
            ]

        await until("7", lambda: codes() == [7], seen=codes)
        ready.touch()
        await until("7, then 0", lambda: codes() == [7, 0], seen=codes)


class OwnNetworkTests(ClusterTestCase):
    """The same where containers have networks of their own."""

    @skipIf(os.geteuid() != 0, "only root can isolate")
    async def test_it_is_asked_from_inside_and_so_it_is_by_the_next_agent(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"isolation": "network/none"})
        ledger = cluster.framework(fields={"checkpoint": True})
        port = free_port()  # of this machine, where nobody will listen
        info = ledger.task("inside", f'python3 -c "{SERVER.format(port=port)}"')
        page = {"port": port, "path": "/"}
        info.health_check.CopyFrom(HealthCheck(**often(type="HTTP", http=page)))
        info.check.CopyFrom(CheckInfo(**often(type="TCP", tcp={"port": port})))
        await ledger.launch(info)
        await healthy(ledger, "inside", True)

        def connected() -> bool:
            return any(one.check_status.tcp.succeeded for one in ledger.statuses["inside"])

        await until("a connection", connected, seen=lambda: ledger.story("inside"))
        await cluster.agent.kill()
        ledger.statuses["inside"].clear()
        cluster.agent.start()
        await cluster.registered()
        (sandbox,) = cluster.agent.work_dir.glob(
            "slaves/latest/frameworks/*/executors/inside/runs/latest"
        )
        (sandbox / "sick").touch()
        await healthy(ledger, "inside", False)
        await ledger.over("inside")
