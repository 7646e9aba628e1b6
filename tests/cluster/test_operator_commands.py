"""C{mesoskit master}, C{agent} and C{framework} against real daemons, as a runbook has them."""

from __future__ import annotations

import json
import subprocess
import sys

from twisted.internet.threads import deferToThread

from tests.cluster.harness import Cluster, ClusterTestCase, environment

Done = subprocess.CompletedProcess[str]


class RunbookTests(ClusterTestCase):
    """What an operator does at his terminal."""

    async def done(self, cluster: Cluster, *arguments: str) -> Done:
        """Run C{mesoskit} to its end."""
        found: Done = await deferToThread(
            subprocess.run,
            [sys.executable, "-m", "mesoskit.cli", *arguments, f"--master={cluster.where}"],
            capture_output=True,
            text=True,
            timeout=300,
            env=environment(),
            cwd="/",
        )
        return found

    async def says(self, cluster: Cluster, *arguments: str) -> str:
        """Run it well; return what it has said."""
        done = await self.done(cluster, *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        return done.stdout

    async def states(self, cluster: Cluster) -> dict[str, str]:
        """Return the states of all agents by the ends of their ids."""
        rows = (await self.says(cluster, "agent", "list", "--all")).splitlines()[1:]
        cells = [row.split() for row in rows]
        return {row[0].rpartition("-")[2]: row[2] for row in cells}

    async def test_a_machine_is_taken_out_and_brought_back_and_another_is_gone(self) -> None:
        cluster = self.cluster()
        await cluster.start(agents=2)
        ledger = cluster.framework()
        await ledger.run("victim", "trap '' TERM; sleep 1000 & wait; wait")
        drained = (await ledger.running("victim")).agent_id.value
        end = drained.rpartition("-")[2]
        other = {"S0": "S1", "S1": "S0"}[end]

        screen = await self.says(cluster, "master")
        self.assertIn("2 active", screen)
        self.assertIn("1 TASK_RUNNING", screen)
        self.assertIn(f":{cluster.master.port}, ", screen)
        shown = await self.says(cluster, "agent", "show", end)
        self.assertIn("victim", shown)
        self.assertIn(ledger.id, shown)

        told = await self.says(cluster, "agent", "drain", end, "--grace=1secs", "--wait")
        self.assertEqual(told.splitlines()[-1], f"Agent {drained}: drained, 0 tasks")
        await ledger.over("victim")
        self.assertEqual(await self.states(cluster), {end: "drained", other: "active"})
        await self.says(cluster, "agent", "reactivate", end)

        # The agent ends when it hears of it.
        asked = await self.done(cluster, "agent", "gone", other)
        self.assertEqual((asked.returncode, asked.stdout), (1, ""))
        self.assertIn("say --yes", asked.stderr)
        await self.says(cluster, "agent", "gone", other, "--yes")
        self.assertEqual(await self.states(cluster), {end: "active", other: "gone"})

        listed = json.loads(await self.says(cluster, "framework", "list", "--json"))
        (framework,) = listed["get_frameworks"]["frameworks"]
        self.assertEqual(framework["framework_info"]["id"]["value"], ledger.id)
        await self.says(cluster, "framework", "teardown", ledger.id, "--yes")
        self.assertIn("completed", await self.says(cluster, "framework", "list", "--all"))

        refused = await self.done(cluster, "agent", "reactivate", end)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("answered 400: Agent is not deactivated\n", refused.stderr)
