"""The endpoints of real daemons: threads, big files, slow readers."""

import gzip
import json
from pathlib import Path
from typing import Any

from tests.cluster.asking import converse, exchange, get
from tests.cluster.harness import Cluster, SharedCluster
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import PATIENCE, reactor, until, until_async

_BIG = 6_000_000


class EndpointTests(SharedCluster):
    """What a browser or a script reads of a cluster."""

    agents = 1

    async def test_files_of_a_task_can_be_read_and_downloaded(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("files", f"echo hi; head -c {_BIG} /dev/urandom > big; sleep 1000")
        port = cluster.agent.port
        path = f"/frameworks/{ledger.id}/executors/files/runs/latest"
        sandbox = _sandbox(cluster, ledger, "files")
        await until("the file is written", lambda: _size(sandbox / "big") == _BIG)
        status, body = await get(port, f"/files/read?path={path}/stdout&offset=0")
        self.assertEqual((200, {"data": "hi\n", "offset": 0}), (status, json.loads(body)))
        _, body = await get(port, f"/files/browse?path={path}")
        names = {one["path"]: one["size"] for one in json.loads(body)}
        self.assertEqual({f"{path}/big": _BIG, f"{path}/stdout": 3, f"{path}/stderr": 0}, names)
        status, body = await get(port, f"/files/download?path={path}/big")
        self.assertEqual(200, status)
        self.assertEqual((sandbox / "big").read_bytes(), body)

    async def test_a_slow_reader_keeps_nobody_waiting(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("slow", f"head -c {_BIG} /dev/zero > big; sleep 1000")
        sandbox = _sandbox(cluster, ledger, "slow")
        await until("the file is written", lambda: _size(sandbox / "big") == _BIG)
        path = f"/frameworks/{ledger.id}/executors/slow/runs/latest/big"
        request = f"GET /files/download?path={path} HTTP/1.0\r\nHost: x\r\n\r\n".encode()
        port = cluster.agent.port
        slow = await converse(port, request)
        transport: Any = slow.transport
        transport.pauseProducing()
        self.assertEqual(200, (await get(port, "/health"))[0])
        status, body = await get(port, f"/files/download?path={path}")
        self.assertEqual((200, _BIG), (status, len(body)))
        transport.resumeProducing()
        answer = await slow.over.addTimeout(PATIENCE, reactor)
        self.assertEqual(_BIG, len(answer.partition(b"\r\n\r\n")[2]))

    async def test_state_is_zipped_for_who_asks_for_it(self) -> None:
        cluster = await self.shared()
        for port, path in (
            (cluster.master.port, "/state"),
            (cluster.agent.port, "/slave(1)/state"),
        ):
            _, plain = await get(port, path)
            request = f"GET {path} HTTP/1.0\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
            answer = await exchange(port, request.encode())
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertIn(b"Content-Encoding: gzip", head)
            self.assertEqual(set(json.loads(plain)), set(json.loads(gzip.decompress(body))))

    async def test_what_containers_use_is_fresh(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.run("busy", "sleep 1000")

        async def shown() -> bool:
            _, body = await get(cluster.agent.port, "/monitor/statistics")
            found = [one for one in json.loads(body) if one["framework_id"] == ledger.id]
            # In the middle of an exec the kernel says that a process has no memory.
            return all(
                one["statistics"]["processes"] >= 1 and one["statistics"]["mem_rss_bytes"] > 0
                for one in found
            ) and bool(found)

        await until_async("what the container uses", shown, seen=cluster.logs)


def _sandbox(cluster: Cluster, ledger: Ledger, task: str) -> Path:
    work_dir = cluster.agent.work_dir / "slaves" / "latest"
    return work_dir / "frameworks" / ledger.id / "executors" / task / "runs" / "latest"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
