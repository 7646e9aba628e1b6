"""What agents keep of what was fetched and of what was written, in real daemons."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.threads import deferToThread

from mesoskit.driver import CommandInfo, Reason, TaskState, command_task
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_command import sandbox
from tests.cluster.waiting import until


class _Counting(http.server.SimpleHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class FetchAndLogTests(ClusterTestCase):
    """One agent with a small cache that rotates logs."""

    def serve(self, directory: Path) -> str:
        handler = functools.partial(_Counting, directory=str(directory))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join(10)

        self.addCleanup(stop)
        return f"http://127.0.0.1:{server.server_address[1]}"

    async def metrics(self, cluster: Cluster) -> dict[str, float]:
        def ask() -> dict[str, float]:
            url = f"http://127.0.0.1:{cluster.agent.port}/metrics/snapshot"
            with urllib.request.urlopen(url, timeout=90) as answer:
                found: dict[str, float] = json.load(answer)
            return found

        return await deferToThread(ask)

    async def test_a_file_is_fetched_once_and_a_log_is_held_to_its_size_over_a_restart(self):
        source = Path(self.mktemp()).resolve()
        source.mkdir()
        (source / "part").write_bytes(os.urandom(10_000))
        cluster = self.cluster()
        await cluster.start(
            agent={
                "container_logger": "logrotate",
                "container_logger_max_stdout_size": "16KB",
                "container_logger_max_files": "1000",
                "fetcher_cache_size": "1MB",
            }
        )
        uri = CommandInfo.URI(value=f"{self.serve(source)}/part", cache=True)
        ledger = cluster.framework()
        done = Path(self.mktemp()).resolve()
        body = (
            f"cmp part {source}/part || exit 7; i=100000;"
            f" until test -e {done} -a $i -gt 105000; do echo $i; i=$((i + 1));"
            " test $((i % 50)) = 0 && sleep 0.01; done; echo end"
        )
        tasks = [command_task("x", body, id=f"t{n}", uris=[uri], mem=16, cpus=0.1) for n in "12"]
        await ledger.launch(*tasks)
        await ledger.launch(
            command_task(
                "x",
                "true",
                id="bad",
                mem=16,
                cpus=0.1,
                environment={"CONTAINER_LOGGER_MAX_STDOUT_SIZE": "1KB"},
            )
        )
        for name in ("t1", "t2"):
            await ledger.until(name, TaskState.TASK_RUNNING)
        self.assertEqual(_Counting.asked, ["/part"])
        found = await self.metrics(cluster)
        self.assertEqual(found["containerizer/fetcher/cache_size_used_bytes"], 10_000)
        refused = await ledger.over("bad")
        self.assertEqual(refused.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("CONTAINER_LOGGER_MAX_STDOUT_SIZE", refused.message)
        where = sandbox(cluster, ledger, ledger.last("t1"))
        await until("the log is rotated", (where / "stdout.1").exists)
        await cluster.agent.kill()
        cluster.agent.start()
        before = len(list(where.glob("stdout.*")))
        await until("it is again", lambda: len(list(where.glob("stdout.*"))) > before)
        done.touch()
        for name in ("t1", "t2"):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_FINISHED, ledger.story(name))
        files = sorted(where.glob("stdout.*"), key=lambda path: -int(path.suffix[1:]))
        lines = b"".join(path.read_bytes() for path in [*files, where / "stdout"]).split()
        self.assertEqual(lines[-1], b"end")
        # An agent killed between copy and cut copies the same once more: nothing is missing, and
        # only what the half copy ended with is no whole line.
        numbers = [int(line) for line in lines[:-1] if len(line) == 6]
        self.assertEqual(sorted(set(numbers)), list(range(100_000, numbers[-1] + 1)))
