"""C{mesoskit agent}: what it shows, whom it means, and what it asks masters for."""

from __future__ import annotations

import json
from typing import Any

from mesoskit.cli import draining
from mesoskit.cli.agent import DRAIN, LIST
from mesoskit.cli.asking import CannotBeDone
from mesoskit.cli.asking import Master as Asked
from mesoskit.cli.command_line import Line, split
from mesoskit.cli.leading import leading_again
from mesoskit.messages.master_pb2 import Call
from tests.base import SynchronousTestCase
from tests.cli.masters import Master, master, refusal, said


def served(double: Master, *arguments: str) -> tuple[int, str, str]:
    """Run C{mesoskit agent} against a master."""
    verb, *rest = arguments
    with master(double) as address:
        return said("agent", verb, f"--master={address}", *rest)


class ShowingTests(SynchronousTestCase):
    """What there is."""

    def setUp(self) -> None:
        self.double = Master()
        for number, state in enumerate(("active", "disconnected", "draining", "drained")):
            self.double.agent(f"m-S{number}", f"node{number}", state)
        self.double.agent("m-S4", "node4", "deactivated")
        self.double.recovered("old-S5", "node5")
        self.double.lost("unreachable", "old-S6")
        self.double.lost("gone", "old-S7")
        self.double.framework("f-0000")
        self.double.task("web", "m-S0", "f-0000")
        self.double.task("away", "old-S6", "f-0000", "unreachable_tasks")

    def test_agents_are_listed_with_what_they_are_in(self) -> None:
        status, out, err = served(self.double, "list")
        self.assertEqual((status, err), (0, ""))
        rows = [line.split() for line in out.splitlines()]
        self.assertEqual(
            {row[0]: row[2] for row in rows},
            {
                "AGENT": "STATE",
                "m-S0": "active",
                "m-S1": "disconnected",
                "m-S2": "draining",
                "m-S3": "drained",
                "m-S4": "deactivated",
                "old-S5": "recovered",
            },
        )
        self.assertEqual(
            rows[1],
            "m-S0 node0 active 1.2.3 1.5/4 32/1024 0/0 1 1970-01-01T00:00:01Z -".split(),
        )
        self.assertIn("1970-01-01T00:01:00Z", rows[3])
        self.assertEqual(len({line.index("1.2.3") for line in out.splitlines()[1:6]}), 1)

    def test_all_are_those_of_the_registry_too(self) -> None:
        _, out, _ = served(self.double, "list", "--all")
        rows = {line.split()[0]: line.split() for line in out.splitlines()}
        self.assertEqual(rows["old-S6"][2], "unreachable")
        self.assertEqual(rows["old-S6"][7:9], ["1", "1970-01-01T00:02:00Z"])
        self.assertEqual(rows["old-S7"][2], "gone")

    def test_json_is_the_answer_of_the_operator_api(self) -> None:
        _, out, _ = served(self.double, "list", "--json", "--all")
        first, second = map(json.loads, out.splitlines())
        self.assertEqual(first["type"], "GET_AGENTS")
        self.assertEqual(len(first["get_agents"]["agents"]), 5)
        self.assertEqual(second, self.double.registry)

    def test_one_is_shown_with_its_tasks_and_frameworks(self) -> None:
        shown = self.double.state.get_agents.agents[2]
        shown.drain_info.config.max_grace_period.nanoseconds = 30 * 10**9
        shown.drain_info.config.mark_gone = True
        shown.agent_info.attributes.add(name="rack", type=3).text.value = "a"
        self.double.task("ending", "m-S2", "f-0000")
        status, out, _ = served(self.double, "show", "S2")
        self.assertEqual(status, 0)
        lines = [" ".join(line.split()) for line in out.splitlines()]
        for line in (
            "State draining, since 1970-01-01T00:01:00Z, each task within 30secs, gone afterwards",
            "Address node2:5051",
            "Attributes rack=a",
            "Resources cpus:4; mem:1024",
            "f-0000 web 1",
            "ending TASK_RUNNING f-0000 cpus:1.5; mem:32",
        ):
            self.assertIn(line, lines)
        self.assertNotIn("away", out)

    def test_what_is_known_of_one_that_is_not_there(self) -> None:
        for name, state in (("S5", "recovered"), ("S6", "unreachable"), ("S7", "gone")):
            _, out, _ = served(self.double, "show", name)
            self.assertIn(f"old-{name}\nState", out)
            self.assertIn(state, out)

    def test_one_in_json(self) -> None:
        for name, identified in (("m-S3", "agent_info"), ("S5", ""), ("S7", "")):
            _, out, _ = served(self.double, "show", name, "--json")
            found = json.loads(out)
            shown = found[identified] if identified else found
            self.assertTrue(shown["id"]["value"].endswith(name))


class NamingTests(SynchronousTestCase):
    """Who is meant."""

    def setUp(self) -> None:
        self.double = Master()
        for name, host in (("aa-S1", "node1"), ("aa-S11", "node2"), ("ab-S2", "node2")):
            self.double.agent(name, host)
        self.double.lost("unreachable", "old-S2")
        self.double.lost("gone", "old-S1")

    def assert_means(self, text: str, agent_id: str) -> None:
        status, out, err = served(self.double, "deactivate", text)
        self.assertEqual((status, err), (0, ""), text)
        self.assertIn(agent_id, out)
        change = self.double.changes.pop()
        self.assertEqual(change.deactivate_agent.agent_id.value, agent_id)

    def assert_refused(self, text: str, why: str, verb: str = "deactivate") -> None:
        status, out, err = served(self.double, verb, text)
        self.assertEqual((status, out), (1, ""), text)
        self.assertEqual(err, f"mesoskit agent {verb}: {why}\n")
        self.assertEqual(self.double.changes, [])

    def test_an_id_its_end_its_beginning_or_a_host(self) -> None:
        for text, agent_id in (
            ("aa-S1", "aa-S1"),
            ("S1", "aa-S1"),
            ("S11", "aa-S11"),
            ("ab", "ab-S2"),
            ("node1", "aa-S1"),
            ("old-S2", "old-S2"),
        ):
            self.assert_means(text, agent_id)

    def test_what_means_several_or_none_is_refused(self) -> None:
        self.assert_refused("node2", "2 agents are meant by 'node2': aa-S11, ab-S2")
        self.assert_refused("aa", "2 agents are meant by 'aa': aa-S1, aa-S11")
        self.assert_refused("1", "no agent is meant by '1'")
        self.assert_refused("", "no agent is meant by ''")

    def test_one_that_is_away_may_be_meant_as_well(self) -> None:
        self.assert_refused("S2", "2 agents are meant by 'S2': ab-S2, old-S2")

    def test_one_that_is_gone_is_only_shown(self) -> None:
        why = "agent old-S1 is gone already, since 1970-01-01T00:02:00Z"
        self.assert_refused("old-S1", why)
        self.assert_refused("S1", "2 agents are meant by 'S1': aa-S1, old-S1", "show")


class ChangingTests(SynchronousTestCase):
    """What masters are told."""

    def setUp(self) -> None:
        self.double = Master()
        self.shown = self.double.agent("m-S0", "node0")
        self.double.task("web", "m-S0", "f-0000")

    def test_flags_may_stand_behind_the_agent(self) -> None:
        flags = DRAIN.flags
        self.assertEqual(
            split(["S1", "--grace", "30secs", "--wait", "S2"], flags, mixed=True),
            (["--grace", "30secs", "--wait"], ["S1", "S2"]),
        )
        self.assertEqual(split(["--", "--wait"], flags, mixed=True), ([], ["--wait"]))

    def test_drain(self) -> None:
        status, out, _ = served(self.double, "drain", "S0", "--grace", "90secs", "--mark_gone")
        self.assertEqual((status, out), (0, "Agent m-S0 at node0 drains\n"))
        served(self.double, "drain", "S0")
        first, second = [change.drain_agent for change in self.double.changes]
        self.assertEqual(first.max_grace_period.seconds, 90)
        self.assertTrue(first.mark_gone)
        self.assertFalse(second.HasField("max_grace_period") or second.mark_gone)

    def test_reactivate(self) -> None:
        status, out, _ = served(self.double, "reactivate", "node0")
        self.assertEqual((status, out), (0, "Agent m-S0 at node0 is offered again\n"))
        self.assertEqual([one.type for one in self.double.changes], [Call.REACTIVATE_AGENT])

    def test_gone_wants_a_yes(self) -> None:
        status, out, err = served(self.double, "gone", "S0")
        self.assertEqual((status, out, self.double.changes), (1, "", []))
        self.assertIn("m-S0 at node0 is active and has 1 task: gone is for good, say --yes", err)
        status, out, _ = served(self.double, "gone", "S0", "--yes")
        self.assertEqual((status, out), (0, "Agent m-S0 at node0 is gone\n"))
        (change,) = self.double.changes
        self.assertEqual(change.mark_agent_gone.agent_id.value, "m-S0")

    def test_refusals_are_one_line(self) -> None:
        self.double.refuses = refusal(503, "No leader elected")
        status, out, err = served(self.double, "drain", "S0", "--wait")
        self.assertEqual((status, out), (1, ""))
        self.assertIn("answered 503: No leader elected\n", err)
        self.assertEqual(err.count("\n"), 1)


class WaitingTests(SynchronousTestCase):
    """C{--wait}."""

    def setUp(self) -> None:
        self.double = Master()
        self.shown = self.double.agent("m-S0", "node0", "draining")
        self.double.task("web", "m-S0", "f-0000")
        self.said: list[str] = []
        self.now = 0.0
        self.steps: list[Any] = []

    def wait(self, *steps: Any, mark_gone: bool = False, timeout: float = 3600.0) -> None:
        """Wait; at each pause the next step happens."""
        happens = iter(steps)

        def pause(seconds: float) -> None:
            self.now += seconds
            next(happens, lambda: None)()

        with master(self.double) as address:
            asked = Asked(Line(LIST.parse([f"--master={address}"]), ()))
            draining.wait(
                asked, "m-S0", mark_gone, timeout, self.said.append, lambda: self.now, pause
            )

    def ended(self) -> None:
        del self.double.state.get_tasks.tasks[:]

    def drained(self) -> None:
        self.double.drains(self.shown, "drained")

    def left(self) -> None:
        del self.double.state.get_agents.agents[:]

    def gone(self) -> None:
        self.left()
        self.double.registry = {}
        self.double.lost("gone", "m-S0")

    def away(self) -> None:
        self.left()
        self.double.lost("unreachable", "m-S0")

    def fail(self, *_: Any) -> None:  # type: ignore[override]
        self.double.refuses = refusal(503, "No leader elected")

    def lead(self) -> None:
        self.double.refuses = None

    def nothing(self) -> None:
        """Let time pass."""

    def test_each_change_is_a_line(self) -> None:
        self.wait(self.nothing, self.ended, self.nothing, self.drained)
        self.assertEqual(
            self.said,
            [
                "Agent m-S0: draining, 1 task",
                "Agent m-S0: draining, 0 tasks",
                "Agent m-S0: drained, 0 tasks",
            ],
        )

    def test_with_mark_gone_it_waits_for_that(self) -> None:
        self.wait(self.ended, self.drained, self.gone, mark_gone=True)
        self.assertEqual(self.said[-1], "Agent m-S0: gone, 0 tasks")

    def test_one_that_is_away_is_waited_for(self) -> None:
        self.wait(self.away, self.gone)
        self.assertEqual(
            self.said[1:], ["Agent m-S0: unreachable, 1 task", "Agent m-S0: gone, 1 task"]
        )

    def test_it_outlives_a_master(self) -> None:
        self.wait(self.fail, self.nothing, self.lead, self.drained)
        self.assertEqual(len(self.said), 4)
        self.assertIn("answered 503: No leader elected; trying again", self.said[1])

    def test_its_time_has_an_end(self) -> None:
        error = self.assertRaises(CannotBeDone, self.wait, timeout=2.5)
        self.assertEqual(str(error), "agent m-S0 has not drained within 2.5secs; it goes on")
        self.assertEqual(self.now, 2.5)

    def test_what_drains_no_more_is_an_error(self) -> None:
        def reactivate() -> None:
            self.left()
            self.double.agent("m-S0", "node0")

        error = self.assertRaises(CannotBeDone, self.wait, reactivate)
        self.assertEqual(str(error), "agent m-S0 drains no more: it is active")

    def test_one_that_has_left_is_an_error(self) -> None:
        error = self.assertRaises(CannotBeDone, self.wait, self.left)
        self.assertIn("nothing is known of it any more", str(error))

    def test_who_leads_is_looked_for_in_another_process(self) -> None:
        self.assertEqual(leading_again("127.0.0.1:5050"), "127.0.0.1:5050")
        error = self.assertRaises(CannotBeDone, leading_again, "zk://joe:secret@host")
        self.assertIn("zk://joe:***@host", str(error))
