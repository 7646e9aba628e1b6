"""pymesos' scheduler in a process of its own, and the tests' hands on it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from tests.cluster.harness import CHECKOUT, Cluster, ClusterTestCase
from tests.cluster.waiting import reactor, until
from tests.interop.install import Unreachable, install

SCRIPT = CHECKOUT / "tests" / "interop" / "pymesos_scheduler.py"
FRAMEWORK = {"user": "root", "name": "pymesos", "hostname": "127.0.0.1"}


class Client(ProcessProtocol):
    """
    The scheduler's process.

    @ivar heard: (event, value) pairs, in order.
    """

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.errors = ""
        self.ended: Deferred[int] = Deferred()
        self._held = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self._held = (self._held + data).split(b"\n")
        self.heard += [tuple(json.loads(line)) for line in lines]

    def errReceived(self, data: bytes) -> None:
        self.errors += data.decode(errors="replace")

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(0 if isinstance(reason.value, ProcessDone) else 1)

    def do(self, method: str, *arguments: Any) -> None:
        """Have a method of the driver called."""
        assert self.transport is not None
        self.transport.write(json.dumps([method, *arguments]).encode() + b"\n")

    def values(self, event: str) -> list[Any]:
        """Return what came with events of this name."""
        return [value for name, value in self.heard if name == event]

    def states(self, task_id: str) -> list[str]:
        """Return the states that a task was said to be in, without answers to questions."""
        return [
            update["state"]
            for update in self.values("update")
            if update["task_id"]["value"] == task_id
            and update.get("reason") != "REASON_RECONCILIATION"
        ]

    def answers(self) -> list[tuple[str, str]]:
        """Return what reconciliation said."""
        return [
            (update["task_id"]["value"], update["state"])
            for update in self.values("update")
            if update.get("reason") == "REASON_RECONCILIATION"
        ]

    async def until(self, what: str, condition: Any) -> None:
        """Wait for something that it hears."""
        await until(what, condition, seen=lambda: f"{self.heard}\n{self.errors[-3000:]}")


class PymesosTestCase(ClusterTestCase):
    """A cluster of ours and a scheduler of theirs."""

    timeout = 300

    async def client(
        self,
        cluster: Cluster,
        tasks: dict[str, Any],
        credential: tuple[str, str] | None = None,
        **info: Any,
    ) -> Client:
        """Start a scheduler, or leave the test out where there is no way to get one."""
        try:
            python = await deferToThread(install)
        except Unreachable as error:
            raise SkipTest(f"pymesos cannot be had: {error}") from None
        client = Client()
        arguments = [str(python), str(SCRIPT), cluster.where]
        arguments += [json.dumps({**FRAMEWORK, **info}), json.dumps(tasks), *(credential or ())]
        # Below the cluster's directory, so that nothing of it outlives the test.
        process = reactor.spawnProcess(
            client, str(python), arguments, env={"LANG": "C.UTF-8"}, path=str(cluster.directory)
        )
        self.addCleanup(self.end, client, process)
        return client

    async def end(self, client: Client, process: Any) -> None:
        if not client.ended.called:
            process.signalProcess("KILL")
            await client.ended

    async def stop(self, client: Client) -> None:
        """Let it end as it likes to: with a TEARDOWN."""
        assert client.transport is not None
        client.transport.closeStdin()
        await client.until("the scheduler stopped", lambda: client.ended.called)
        self.assertEqual((0, ["stopped"]), (client.ended.result, [client.heard[-1][0]]))
        self.assertEqual([], client.values("failed") + client.values("error"), client.errors)
