"""Sandboxes through the master, where the agent cannot be dialled: real files, real threads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.cluster import asking
from tests.cluster.asking import get
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.test_authentication import credential, credentials, private
from tests.cluster.waiting import PATIENCE, pause, reactor, until, until_async

_BIG = 200 * 1024 * 1024
_SECRET = "pl4nted-agent-secret"


class _Download(Protocol):
    """Counts what comes, and keeps none of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.count = 0
        self.over: Deferred[int] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        request = f"GET /files/download?path={self._path} HTTP/1.0\r\nHost: x\r\n\r\n"
        self.transport.write(request.encode())

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over.callback(self.count)


class UndialledTests(ClusterTestCase):
    """Agents that authenticate, and listen where nobody can dial."""

    async def begin(self) -> tuple[Cluster, str]:
        """Start a cluster and a task; returns the task's sandbox too."""
        cluster = self.cluster()
        secrets = private(cluster.directory / "credentials.json", credentials({"agents": _SECRET}))
        own = private(cluster.directory / "agent.json", credential("agents", _SECRET))
        cluster.make_master({"authenticate_agents": "true", "credentials": secrets}).start()
        socket = cluster.directory / "a.sock"
        agent = cluster.make_agent("a0", {"credential": own, "listen": f"unix:{socket}"})
        agent.start()
        await cluster.master.ready()

        async def registered() -> bool:
            return bool((await asking.metrics(cluster.master.port))["master/slaves_active"])

        await until_async("the agent registered", registered, seen=cluster.logs)
        ledger = cluster.framework()
        await ledger.run("files", "echo hi; sleep 1000")
        latest = agent.sandbox(ledger.id, "files")
        await until("the task has written", lambda: _text(latest / "stdout") == "hi\n")
        with (latest / "big").open("wb") as file:
            file.truncate(_BIG)
        return cluster, str(latest.resolve())

    async def download(self, cluster: Cluster, path: str) -> _Download:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", cluster.master.port)
        download: _Download = await connectProtocol(endpoint, _Download(path))
        return download

    async def waiting(self, cluster: Cluster) -> tuple[float, float]:
        """Return how many bytes wait in the master, and for how many answers."""
        metrics = await asking.metrics(cluster.master.port)
        return metrics["mesoskit/bulk_bytes_waiting"], metrics["mesoskit/bulk_answers"]

    async def test_files_big_and_small(self) -> None:
        cluster, sandbox = await self.begin()
        port = cluster.master.port
        status, body = await get(port, f"/files/read?path={sandbox}/stdout&offset=0")
        self.assertEqual((200, {"data": "hi\n", "offset": 0}), (status, json.loads(body)))
        _, body = await get(port, f"/files/browse?path={sandbox}")
        shown = {one["path"]: one["size"] for one in json.loads(body)}
        self.assertEqual(_BIG, shown[f"{sandbox}/big"])
        slow, quick = [await self.download(cluster, f"{sandbox}/big") for _ in range(2)]
        transport: Any = slow.transport
        transport.pauseProducing()
        most = 0.0
        while not quick.over.called:
            waiting, _ = await self.waiting(cluster)
            most = max(most, waiting)
            await pause(0.05)
        self.assertGreater(quick.count, _BIG)
        self.assertLessEqual(most, 2 * 512 * 1024)
        # Nobody takes the rest of the other.
        transport.resumeProducing()
        transport.abortConnection()

        async def quiet() -> bool:
            return await self.waiting(cluster) == (0, 0)

        await until_async("the cancelled download is given up", quiet)
        self.assertLess(slow.count, _BIG)
        path = f"{sandbox}/../../../../../../../../../../etc/passwd"
        self.assertEqual(400, (await get(port, f"/files/read?path={path}&offset=0"))[0])

    async def test_an_agent_that_is_killed_in_the_middle(self) -> None:
        cluster, sandbox = await self.begin()
        download = await self.download(cluster, f"{sandbox}/big")
        transport: Any = download.transport
        await until("the download has begun", lambda: download.count > 1000)
        transport.pauseProducing()
        await cluster.agent.kill()
        transport.resumeProducing()
        self.assertLess(await download.over.addTimeout(PATIENCE, reactor), _BIG)
        status, body = await get(cluster.master.port, f"/files/browse?path={sandbox}")
        self.assertEqual(503, status)
        self.assertIn(b"is disconnected", body)
        cluster.agent.start()

        async def back() -> bool:
            return (await get(cluster.master.port, f"/files/browse?path={sandbox}"))[0] == 200

        await until_async("the agent is back", back, seen=cluster.logs)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
