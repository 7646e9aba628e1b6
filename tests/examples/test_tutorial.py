"""The tutorial's schedulers on a cluster without a reactor: they say what the tutorial shows."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

from mesoskit.testing.cluster import TestCluster
from tests.base import SynchronousTestCase
from tests.examples.loading import load

template = load("tutorial/1_empty_template.py")
tasks = load("tutorial/2_empty_tasks.py")
executor = load("tutorial/empty_executor.py")


class Case(SynchronousTestCase):
    """Runs a scheduler and reads what it prints."""

    def run_scheduler(self, scheduler: Any, seconds: float, **more: Any) -> list[str]:
        out = StringIO()
        self.patch(sys, "stdout", out)
        self.cluster = TestCluster(
            agents=1,
            resources="cpus:2;mem:1000",
            executors={"default": executor.EmptyExecutor},
            **more,
        )
        self.addCleanup(self.cluster.stop)
        self.framework = self.cluster.framework(scheduler=scheduler)
        self.cluster.advance(seconds)
        return out.getvalue().splitlines()


class TemplateTests(Case):
    """Stage one."""

    def test_says_who_it_is_and_what_is_offered_and_then_nothing(self) -> None:
        lines = self.run_scheduler(template.EmptyScheduler(), 60)
        self.assertEqual(lines[0], f"Framework registered with ID={self.framework.id}")
        self.assertTrue(lines[1].startswith("Scheduler Registered with Master "))
        self.assertRegex(lines[2], r"^Received Offer <.+-O\d+> with cpus=2 mem=1000$")
        self.assertEqual(len(lines), 3)

    def test_offer_is_kept_until_the_master_takes_it_back(self) -> None:
        from mesoskit.master.options import MasterOptions

        lines = self.run_scheduler(
            template.EmptyScheduler(), 12, options=MasterOptions(offer_timeout=10.0)
        )
        self.assertRegex(lines[3], r"^Offer <.+> rescinded$")
        self.assertTrue(lines[4].startswith("Received Offer"))


class TasksTests(Case):
    """Stage two."""

    def setUp(self) -> None:
        self.lines = self.run_scheduler(tasks.TaskScheduler(Path("/x/empty_executor.py")), 10)

    def test_offer_is_filled(self) -> None:
        self.assertRegex(self.lines[1], r"^Received Offer <.+> with cpus=2 mem=1000$")
        offer = self.lines[1].split()[2]
        self.assertEqual(
            self.lines[2:5],
            [
                f"Prepared task: twisted-task-1 with offer {offer} for launch",
                f"Prepared task: twisted-task-2 with offer {offer} for launch",
                f"Launching 2 tasks for offer {offer}",
            ],
        )

    def test_tasks_run_and_finish(self) -> None:
        for number in (1, 2):
            mine = [
                line for line in self.lines if line.startswith(f"Status update: task {number} ")
            ]
            self.assertEqual(
                mine,
                [
                    f"Status update: task {number} is in state TASK_RUNNING",
                    f"Status update: task {number} is in state TASK_FINISHED",
                ],
            )

    def test_it_goes_on_for_ever(self) -> None:
        finished = [line for line in self.lines if line.endswith("TASK_FINISHED")]
        self.assertGreater(len(finished), 10)
        self.assertFalse(any("TASK_ERROR" in line or "TASK_FAILED" in line for line in self.lines))
