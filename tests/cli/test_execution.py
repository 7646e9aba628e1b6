"""C{mesoskit execute} against a master and agents: what it does, prints, and ends with."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.cli import execute as command
from mesoskit.cli.execution import taking
from mesoskit.cli.request import read
from mesoskit.model.resources import Resources
from mesoskit.testing.cluster import MASTER, TestCluster
from tests.base import SynchronousTestCase
from tests.cli.test_request import task


class Case(SynchronousTestCase):
    """Runs the command on a cluster without a reactor."""

    def start(self, *flags: str, **cluster: Any) -> Deferred[int]:
        """Begin a run; its lines are in C{said} and C{hinted}."""
        self.cluster = TestCluster(**{"agents": 1, **cluster})
        self.addCleanup(self.cluster.stop)
        return self.another(*flags)

    def another(self, *flags: str) -> Deferred[int]:
        """Begin one more run on the same cluster."""
        self.said: list[str] = []
        self.hinted: list[str] = []
        self.patch(command, "say", self.said.append)
        self.patch(command, "hint", self.hinted.append)
        self.signalled: Deferred[int] = Deferred()
        host = self.cluster.network.host("terminal.test")
        request = read([f"--master={MASTER}", *flags])
        return Deferred.fromCoroutine(command.execute(request, host, self.signalled))

    def result(self, *flags: str, **cluster: Any) -> int:
        """Run to the end; returns the exit status."""
        status: int = self.cluster_wait(self.start(*flags, **cluster))
        return status

    def cluster_wait(self, waited: Deferred[int]) -> int:
        status: int = self.cluster.wait(waited)
        return status

    def states(self) -> list[str]:
        """The states that were reported, in order."""
        return [line.split()[3] for line in self.said if line.startswith("Received status")]

    def until(self, words: str) -> None:
        """Let time pass until a line with these words was printed."""
        for _ in range(200):
            if any(words in line for line in self.said):
                return
            self.cluster.advance(0.05)
        self.fail(f"{words!r} was not said: {self.said}")


class ReportTests(Case):
    """What a run prints, and its exit status."""

    def test_command_that_finishes(self) -> None:
        self.assertEqual(self.result("--name=t", "--command=true"), 0)
        agent = self.cluster.agents[0].id
        self.assertRegex(self.said[0], r"^Subscribed with ID [0-9a-f-]{36}-0000$")
        self.assertEqual(self.said[1], f"Submitted task 't' to agent '{agent}'")
        self.assertEqual(self.states(), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"])
        self.assertEqual(
            self.said[-3:],
            [
                "Received status update TASK_FINISHED for task 't'",
                "  message: 'Command exited with status 0'",
                "  source: SOURCE_EXECUTOR",
            ],
        )
        self.assertEqual(self.hinted, [])

    def test_command_that_fails(self) -> None:
        self.assertEqual(self.result("--name=t", "--command=exit 3"), 1)
        self.assertEqual(self.states()[-1], "TASK_FAILED")
        self.assertIn("  message: 'Command exited with status 3'", self.said)

    def test_task_that_the_master_refuses(self) -> None:
        given = task("bad/id")
        self.assertEqual(self.result(f"--task={json.dumps(given)}"), 1)
        self.assertEqual(self.states(), ["TASK_ERROR"])
        self.assertIn("  reason: REASON_TASK_INVALID", self.said)

    def test_task_is_killed_after_its_time(self) -> None:
        run = self.start("--name=t", "--command=for ever", "--kill_after=30secs")
        self.until("TASK_RUNNING")
        self.cluster.advance(29)
        self.assertNoResult(run)
        self.assertEqual(self.cluster_wait(run), 1)
        agent = self.cluster.agents[0].id
        self.assertIn(f"Asked to kill task 't' on agent '{agent}'", self.said)
        self.assertEqual(self.states()[-2:], ["TASK_KILLING", "TASK_KILLED"])

    def test_framework_is_gone_afterwards(self) -> None:
        self.result("--name=t", "--command=true")
        self.assertEqual(len(self.cluster.master.frameworks), 0)

    def test_two_at_once_do_not_disturb_each_other(self) -> None:
        first = self.start("--name=a", "--command=sleep 2")
        second = self.another("--name=b", "--command=sleep 1")
        self.assertEqual(self.cluster_wait(first), 0)
        self.assertEqual(self.cluster_wait(second), 0)


class GroupTests(Case):
    """Groups of tasks."""

    def group(self, *commands: str) -> str:
        tasks = [
            task(f"t{number}", command={"value": words}) for number, words in enumerate(commands)
        ]
        return "--task_group=" + json.dumps({"tasks": tasks})

    def test_all_finish(self) -> None:
        self.assertEqual(self.result(self.group("true", "sleep 2")), 0)
        agent = self.cluster.agents[0].id
        self.assertEqual(
            self.said[1], f"Submitted task group with tasks [ t0, t1 ] to agent '{agent}'"
        )
        self.assertEqual(self.states().count("TASK_FINISHED"), 2)

    def test_one_fails_and_the_others_are_killed(self) -> None:
        self.assertEqual(self.result(self.group("exit 1", "for ever")), 1)
        ends = [state for state in self.states() if state in ("TASK_FAILED", "TASK_KILLED")]
        self.assertEqual(ends, ["TASK_FAILED", "TASK_KILLED"])


class WaitingTests(Case):
    """Where something does not come."""

    def test_offer_that_is_too_small_is_waited_beyond(self) -> None:
        run = self.start("--name=t", "--command=true", "--resources=cpus:8", resources="cpus:4")
        self.cluster.advance(20)
        self.assertNoResult(run)
        self.assertEqual(self.hinted, ["Waiting for an offer with cpus:8"])
        run.cancel()
        self.failureResultOf(run)

    def test_master_that_is_not_there(self) -> None:
        self.cluster = TestCluster(agents=1)
        self.addCleanup(self.cluster.stop)
        self.cluster.stop_master()
        run = self.another("--name=t", "--command=true")
        self.cluster.advance(7)
        (hint,) = self.hinted
        self.assertEqual(
            hint,
            f"No answer yet from a master: no link to {MASTER}: Connection was refused by other"
            " side; still trying",
        )
        self.cluster.start_master()
        self.assertEqual(self.cluster_wait(run), 0)

    def test_master_that_is_lost_on_the_way(self) -> None:
        run = self.start("--name=t", "--command=sleep 30")
        self.until("TASK_RUNNING")
        self.cluster.restart_master()
        self.assertEqual(self.cluster_wait(run), 0)
        self.assertIn("Disconnected from the master", self.hinted[0])

    def test_address_that_is_none(self) -> None:
        self.cluster = TestCluster(agents=0)
        self.addCleanup(self.cluster.stop)
        wrong: list[str] = []

        def refuse(name: str, why: str) -> int:
            wrong.append(f"{name}: {why}")
            return 1

        self.patch(command, "wrong", refuse)
        host = self.cluster.network.host("terminal.test")
        request = read(["--master=a b", "--name=t", "--command=true"])
        run = Deferred.fromCoroutine(command.execute(request, host, Deferred()))
        self.assertEqual(self.successResultOf(run), 1)
        self.assertIn("mesoskit execute: --master: 'a b' is no endpoint", wrong[0])


class InterruptTests(Case):
    """Ctrl-C."""

    def test_task_is_killed_and_waited_for(self) -> None:
        run = self.start("--name=t", "--command=for ever")
        self.until("TASK_RUNNING")
        self.signalled.callback(2)
        self.assertEqual(self.cluster_wait(run), 130)
        self.assertEqual(self.states()[-1], "TASK_KILLED")

    def test_before_anything_was_launched(self) -> None:
        run = self.start("--name=t", "--command=true", "--resources=cpus:8", resources="cpus:4")
        self.cluster.advance(1)
        self.signalled.callback(15)
        self.assertEqual(self.cluster_wait(run), 143)
        self.assertEqual(self.states(), [])

    def test_while_the_master_is_gone(self) -> None:
        run = self.start("--name=t", "--command=for ever")
        self.until("TASK_RUNNING")
        self.cluster.stop_master()
        self.cluster.advance(1)
        self.signalled.callback(2)
        self.cluster.advance(10)
        self.assertNoResult(run)
        self.assertEqual(self.cluster_wait(run), 130)


class TakingTests(SynchronousTestCase):
    """Which of the offered resources a task gets."""

    def test_reserved_ones_first(self) -> None:
        offered = Resources.parse("cpus(web):0.5;cpus:4;mem:512;ports(web):[1-5];ports:[10-20]")
        wanted = Resources.parse("cpus:1;mem:128;ports:[4-4,12-13]")
        taken = taking(offered, wanted)
        self.assertEqual(
            taken, Resources.parse("cpus(web):0.5;cpus:0.5;mem:128;ports(web):[4-4];ports:[12-13]")
        )
        self.assertTrue(offered.contains(taken))

    def test_unreserved_ones_alone(self) -> None:
        wanted = Resources.parse("cpus:1;mem:128")
        self.assertEqual(taking(Resources.parse("cpus:4;mem:512;disk:5"), wanted), wanted)
