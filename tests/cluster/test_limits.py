"""Limits of real daemons: rates, disabled endpoints, and too many who come."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from mesoskit.driver import CallRefused, FrameworkError
from mesoskit.messages.scheduler_pb2 import Call
from tests.cluster import asking
from tests.cluster.harness import ClusterTestCase
from tests.cluster.waiting import until

CONF = Path(__file__).parents[2] / "conf" / "limits"


class LimitTests(ClusterTestCase):
    """A master with the sample configuration, and fewer connections."""

    async def test_what_is_limited(self) -> None:
        cluster = self.cluster()
        rules = json.loads((CONF / "firewall-rules.json").read_text())
        await cluster.start(
            master={
                "rate_limits": CONF / "rate-limits.json",
                "firewall_rules": CONF / "firewall-rules.json",
                "max_connections_per_address": 30,
            }
        )
        port = cluster.master.port
        quiet = cluster.framework("quiet")
        await quiet.framework.when_subscribed()

        for path in rules["disabled_endpoints"]["paths"]:
            status, body = (await asking.get(port, path))[:2]
            self.assertEqual(status, 403)
            self.assertEqual(bytes(body).decode(), f"Endpoint '{path}' is disabled")

        batch = cluster.framework("loud", fields={"principal": "batch"})
        await batch.framework.when_subscribed()
        # More than may wait, however many are let through until the last has come.
        answers = [batch.framework.call(Call(type=Call.SUPPRESS)) for _ in range(5000)]
        refused: list[object] = []
        for answer in answers:
            answer.addErrback(lambda reason: refused.append(reason.value))
        await until("the framework is told", lambda: bool(batch.errors), seen=cluster.logs)
        self.assertIn("dropped: capacity(2000) exceeded", batch.errors[0])
        self.assertTrue(any(isinstance(each, CallRefused | FrameworkError) for each in refused))

        await quiet.run("t", "true")
        await quiet.over("t")
        shown = await asking.metrics(port)
        received = shown["frameworks/batch/messages_received"]
        self.assertGreater(received, 2000)
        self.assertLess(shown["frameworks/batch/messages_processed"], received - 1000)

        many = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        for one in many:
            self.addCleanup(one.close)
        await until(
            "some were turned away",
            lambda: "connections already" in cluster.master.log(),
            seen=cluster.logs,
        )
        self.assertTrue(quiet.framework.subscribed)
