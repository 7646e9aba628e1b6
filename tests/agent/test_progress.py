"""What a framework hears of a launch that takes long."""

from __future__ import annotations

from mesoskit.agent.container import ContainerProgress
from tests.agent.bench import Bench, task
from tests.base import SynchronousTestCase

TEXT = "Pulling image busybox:1.36: 12.5 MB so far"


class ProgressTests(SynchronousTestCase):
    """Pulls of images."""

    def begun(self) -> tuple[Bench, ContainerProgress]:
        bench = Bench().register()
        bench.run(task())
        return bench, ContainerProgress(bench.container_of(), TEXT)

    def test_a_framework_hears_how_far_a_pull_is(self) -> None:
        bench, progress = self.begun()
        bench.give(progress)
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_STARTING")])
        self.assertEqual(bench.last().message, TEXT)

    def test_nothing_is_said_of_what_runs_or_is_unknown(self) -> None:
        bench, progress = self.begun()
        bench.start()
        bench.give(progress)
        bench.give(ContainerProgress(progress.container, "x"))
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING")])
