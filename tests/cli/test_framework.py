"""C{mesoskit framework} and C{mesoskit master}: what they show, and what they end."""

from __future__ import annotations

import json

from tests.base import SynchronousTestCase
from tests.cli.masters import Master, master, refusal, said


class Case(SynchronousTestCase):
    """A master with some frameworks."""

    def setUp(self) -> None:
        self.double = Master()
        self.double.agent("m-S0", "node0")
        self.double.agent("m-S1", "node1", "draining")
        self.double.lost("gone", "m-S2")
        self.double.framework("m-0000")
        self.double.framework("m-0001", connected=False, active=False)
        self.double.framework("m-0002", active=False)
        self.double.framework("m-0003", recovered=True)
        self.double.framework("m-0004", ended=True)
        self.double.task("web", "m-S0", "m-0000")
        self.double.task("away", "m-S9", "m-0000", "unreachable_tasks")
        self.double.task("past", "m-S0", "m-0000", "completed_tasks")

    def served(self, *arguments: str) -> tuple[int, str, str]:
        """Run C{mesoskit} against it."""
        with master(self.double) as address:
            return said(*arguments, f"--master={address}")


class FrameworkTests(Case):
    """C{mesoskit framework}."""

    def test_frameworks_are_listed(self) -> None:
        status, out, err = self.served("framework", "list")
        self.assertEqual((status, err), (0, ""))
        rows = [line.split() for line in out.splitlines()]
        self.assertEqual(rows[1], "m-0000 web active marathon 2 1.5 32 0 prod".split())
        states = [row[2] for row in rows[1:]]
        self.assertEqual(states, ["active", "disconnected", "inactive", "recovered"])
        _, out, _ = self.served("framework", "list", "--all")
        self.assertEqual(out.splitlines()[-1].split()[:3], ["m-0004", "web", "completed"])

    def test_json_is_the_answer_of_the_operator_api(self) -> None:
        _, out, _ = self.served("framework", "list", "--json")
        self.assertEqual(len(json.loads(out)["get_frameworks"]["frameworks"]), 4)
        _, out, _ = self.served("framework", "show", "0004", "--json")
        self.assertEqual(json.loads(out)["framework_info"]["id"]["value"], "m-0004")

    def test_one_is_shown_with_its_tasks_and_agents(self) -> None:
        status, out, _ = self.served("framework", "show", "0000")
        self.assertEqual(status, 0)
        lines = [" ".join(line.split()) for line in out.splitlines()]
        for line in (
            "Framework m-0000",
            "State active",
            "Roles prod",
            "Failover timeout none",
            "m-S0 node0 1",
            "m-S9 - 1",
            "web TASK_RUNNING m-S0 cpus:1.5; mem:32",
        ):
            self.assertIn(line, lines)

    def test_teardown_wants_a_yes(self) -> None:
        status, out, err = self.served("framework", "teardown", "0000")
        self.assertEqual((status, out, self.double.changes), (1, "", []))
        self.assertIn("m-0000 (web) is active and has 2 tasks: its end is for good, say --yes", err)
        status, out, _ = self.served("framework", "teardown", "0000", "--yes")
        self.assertEqual((status, out), (0, "Framework m-0000 (web) is torn down\n"))
        (change,) = self.double.changes
        self.assertEqual(change.teardown.framework_id.value, "m-0000")

    def test_one_that_has_ended_cannot_be_ended(self) -> None:
        status, _, err = self.served("framework", "teardown", "0004", "--yes")
        self.assertEqual(status, 1)
        self.assertIn("no framework is meant by '0004'", err)


class MasterTests(Case):
    """C{mesoskit master}."""

    def test_a_cluster_on_one_screen(self) -> None:
        status, out, err = self.served("master")
        self.assertEqual((status, err), (0, ""))
        lines = [" ".join(line.split()) for line in out.splitlines()]
        for line in (
            "Master node1:5050, m",
            "Version 1.2.3",
            "Started 1970-01-01T00:00:01Z",
            "Leads since 1970-01-02T00:00:00Z",
            "Agents 1 active, 1 draining, 1 gone",
            "Frameworks 1 active, 1 completed, 1 disconnected, 1 inactive, 1 recovered",
            "Tasks 2 TASK_RUNNING",
            "Ended 1 TASK_RUNNING",
            "cpus 8 3 0 38%",
            "mem 2048 64 0 3%",
        ):
            self.assertIn(line, lines)

    def test_an_empty_cluster(self) -> None:
        self.double = Master()
        status, out, _ = self.served("master")
        self.assertEqual(status, 0)
        self.assertIn("Agents       none\n", out)
        self.assertNotIn("RESOURCE", out)

    def test_json_is_a_line_for_each_answer(self) -> None:
        _, out, _ = self.served("master", "--json")
        self.assertEqual(
            [json.loads(line)["type"] for line in out.splitlines()], ["GET_MASTER", "GET_METRICS"]
        )

    def test_nobody_leads(self) -> None:
        self.double.refuses = refusal(503, "No leader elected")
        status, out, err = self.served("master")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("503: No leader elected", err)


class HelpTests(SynchronousTestCase):
    """Help begins with what a command does."""

    def test_a_sentence_first(self) -> None:
        for arguments in (
            ("agent",),
            ("framework",),
            ("task",),
            ("master",),
            ("execute",),
            ("local",),
            *((("agent", verb)) for verb in ("list", "show", "drain", "deactivate", "gone")),
            *((("framework", verb)) for verb in ("list", "show", "teardown")),
            *((("task", verb)) for verb in ("list", "exec", "attach")),
        ):
            status, out, _ = said(*arguments, "--help")
            self.assertEqual(status, 0)
            sentence, empty, usage, *_ = out.splitlines()
            self.assertRegex(sentence, r"^[A-Z].*\.$", arguments)
            self.assertEqual(empty, "")
            self.assertIn(f"Usage: mesoskit {' '.join(arguments)}", usage)
