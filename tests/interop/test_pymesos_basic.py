"""pymesos, unmodified, against a master of ours that asks frameworks over HTTP who they are."""

from __future__ import annotations

import json

from tests.cluster import asking
from tests.cluster.harness import Cluster
from tests.cluster.test_authentication import credentials, private
from tests.cluster.waiting import until_async
from tests.interop.pymesos_client import PymesosTestCase

NAMES = ("believed", "failed")
SECRETS = {"marathon": "s3cret", "chronos": "other"}


class BasicTests(PymesosTestCase):
    """Its scheduler has a principal and a secret."""

    async def begin(self) -> Cluster:
        cluster = self.cluster()
        known = private(cluster.directory / "credentials.json", credentials(SECRETS))
        flags = {
            "authenticate_http_frameworks": "true",
            "http_framework_authenticators": "basic",
            "credentials": known,
        }
        await cluster.start(1, flags)
        return cluster

    async def test_tasks_run_under_its_principal(self) -> None:
        cluster = await self.begin()
        client = await self.client(cluster, {"a": "sleep 1000"}, ("marathon", "s3cret"))
        await client.until("it runs", lambda: "TASK_RUNNING" in client.states("a"))
        state = json.loads((await asking.get(cluster.master.port, "/state"))[1])
        self.assertEqual(["marathon"], [each["principal"] for each in state["frameworks"]])
        # Its calls go over another connection, each with the secret.
        client.do("killTask", {"value": "a"})
        await client.until("it was killed", lambda: client.states("a")[-1] == "TASK_KILLED")
        await cluster.acknowledged()
        await self.stop(client)
        metrics = await asking.metrics(cluster.master.port)
        self.assertGreater(metrics["mesoskit/http_authentication/believed"], 4)
        self.assertEqual(0, metrics["mesoskit/http_authentication/failed"])

    async def test_wrong_secret_and_another_s_name(self) -> None:
        cluster = await self.begin()
        wrong = await self.client(cluster, {"a": "true"}, ("marathon", "other"))
        named = await self.client(
            cluster, {"b": "true"}, ("chronos", "other"), principal="marathon"
        )

        async def refused() -> bool:
            metrics = await asking.metrics(cluster.master.port)
            counts = [metrics[f"mesoskit/http_authentication/{name}"] for name in NAMES]
            return all(counts)

        # One is not who it says, and one is, but says that it is another.
        await until_async("both were refused", refused, seen=cluster.logs)
        for client in (wrong, named):
            self.assertEqual([], client.values("registered"))
        self.assertEqual(0, (await asking.metrics(cluster.master.port))["master/frameworks_active"])
        self.assertNotIn(b"s3cret", cluster.master.log().encode())
