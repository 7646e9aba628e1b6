"""How an agent ends that may be started again."""

from mesoskit.agent.container import Destroy
from mesoskit.agent.events import Leave
from mesoskit.model.events import Stop
from mesoskit.model.tasks import TaskState
from tests.agent.bench import Bench, custom_executor, task
from tests.base import SynchronousTestCase


class LeavingTests(SynchronousTestCase):
    """What runs ends, is reported, and then the process may end."""

    def test_an_idle_agent_ends_at_once_and_keeps_its_id(self) -> None:
        bench = Bench().register()
        self.assertEqual(bench.give(Leave()), [Stop("asked to", 0)])
        self.assertIn("agent/info", bench.store)

    def test_an_agent_that_recovers_ends_at_once(self) -> None:
        self.assertEqual(Bench().give(Leave()), [Stop("asked to", 0)])

    def test_running_tasks_are_destroyed_and_reported_before_it_ends(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        effects = bench.give(Leave())
        self.assertIn(Destroy(bench.container_of()), effects)
        self.assertFalse([one for one in effects if isinstance(one, Stop)])
        effects = bench.exit(status=9)
        self.assertEqual(effects[-1], Stop("asked to", 0))
        status = bench.last()
        self.assertEqual(status.state, TaskState.TASK_LOST)
        self.assertEqual(status.message, "The agent was stopped and ended the task")

    def test_an_executor_is_destroyed_with_its_tasks(self) -> None:
        bench = Bench().register()
        bench.run(task(executor=custom_executor()))
        self.assertTrue([one for one in bench.give(Leave()) if isinstance(one, Destroy)])

    def test_nothing_is_launched_any_more(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.give(Leave())
        bench.run(task("late"))
        self.assertEqual(len(bench.launched()), 1)
