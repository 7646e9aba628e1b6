"""When sandboxes are removed."""

from mesoskit.agent.container import DiskRead, Remove, Removed, SandboxesFound
from mesoskit.model.events import Lost
from tests.agent.bench import MASTER, OPTIONS, Bench, task
from tests.base import SynchronousTestCase

WEEK = 7 * 24 * 3600.0


class SandboxTests(SynchronousTestCase):
    """By age, and earlier where the disk is full."""

    def setUp(self) -> None:
        self.bench = Bench().register()
        self.bench.run(task())
        self.sandbox = self.bench.launched()[0].sandbox
        self.bench.start()

    def finish(self) -> None:
        self.bench.exit()
        self.bench.acknowledge()

    def removals(self) -> list[str]:
        return [one.path for one in self.bench.others if isinstance(one, Remove)]

    def test_sandbox_stays_for_a_week_after_the_end(self) -> None:
        self.finish()
        self.bench.give(Lost(MASTER))
        self.bench.wait(WEEK - 1)
        self.assertEqual(self.removals(), [])
        self.bench.wait(2)
        self.assertEqual(self.removals(), [self.sandbox])

    def test_sandbox_in_use_stays_whatever_the_disk_says(self) -> None:
        self.bench.give(DiskRead(1.0))
        self.assertEqual(self.removals(), [])

    def test_full_disk_removes_at_once(self) -> None:
        self.finish()
        self.bench.give(DiskRead(0.95))
        self.assertEqual(self.removals(), [self.sandbox])

    def test_age_that_is_allowed_shrinks_with_the_room(self) -> None:
        self.finish()
        self.bench.now += WEEK / 2
        self.bench.give(DiskRead(0.3))  # 0.6 of a week is allowed.
        self.assertEqual(self.removals(), [])
        self.bench.give(DiskRead(0.5))  # 0.4 of a week.
        self.assertEqual(self.removals(), [self.sandbox])
        metrics = self.bench.state.metrics()
        age = metrics["slave/executor_directory_max_allowed_age_secs"]
        self.assertAlmostEqual(age, 0.4 * WEEK)

    def test_removals_are_counted(self) -> None:
        self.finish()
        self.bench.give(SandboxesFound((("/w/other", 0.0),)))
        self.assertEqual(self.bench.state.metrics()["gc/path_removals_pending"], 2)
        self.bench.give(DiskRead(1.0))
        self.bench.give(Removed(self.sandbox))
        self.bench.give(Removed("/w/other", "no right to"))
        metrics = self.bench.state.metrics()
        self.assertEqual(metrics["gc/path_removals_pending"], 0)
        self.assertEqual(metrics["gc/path_removals_succeeded"], 1)
        self.assertEqual(metrics["gc/path_removals_failed"], 1)

    def test_sandbox_in_use_that_is_found_at_start_is_left(self) -> None:
        self.bench.give(SandboxesFound(((self.sandbox, 0.0),)))
        self.bench.give(DiskRead(1.0))
        self.assertEqual(self.removals(), [])

    def test_defaults_are_those_of_mesos(self) -> None:
        self.assertEqual((OPTIONS.gc_delay, OPTIONS.gc_disk_headroom), (WEEK, 0.1))
