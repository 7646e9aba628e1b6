"""Task groups: tasks that start and end together, in sandboxes within their executor's."""

from mesoskit.driver import TaskState, executor_info
from tests.cluster.harness import SharedCluster
from tests.cluster.test_command import sandbox
from tests.cluster.waiting import until


class GroupTests(SharedCluster):
    """Groups on the executor that comes with the agent."""

    async def test_tasks_start_together_and_each_finishes_by_itself(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        tasks = [ledger.task("one", "echo 1"), ledger.task("two", "echo 2")]
        await ledger.group(executor_info("pair"), tasks)
        for number, name in enumerate(("one", "two"), 1):
            status = await ledger.over(name)
            self.assertEqual(
                ledger.states(name), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
            )
            self.assertEqual(status.message, "Command exited with status 0")
            self.assertEqual(status.executor_id.value, "pair")
            home = sandbox(cluster, ledger, status, "pair")
            self.assertEqual((home / "tasks" / name / "stdout").read_text(), f"{number}\n")
            nested = status.container_status.container_id
            self.assertEqual(home.resolve().name, nested.parent.value)
            self.assertTrue((home / "containers" / nested.value / "stdout").exists())
        ledger.balance()
        await cluster.acknowledged()

    async def test_one_that_fails_takes_the_others_along(self) -> None:
        ledger = (await self.shared()).framework()
        tasks = [ledger.task("good", "sleep 1000"), ledger.task("bad", "sleep 0.1; (exit 3)")]
        await ledger.group(executor_info("group"), tasks)
        bad, good = await ledger.over("bad"), await ledger.over("good")
        self.assertEqual(bad.state, TaskState.TASK_FAILED)
        self.assertEqual(bad.message, "Command exited with status 3")
        self.assertEqual(good.message, "Command terminated with signal Terminated")
        self.assertEqual(
            ledger.states("good"), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
        )
        ledger.balance()

    async def test_a_kill_of_one_ends_all(self) -> None:
        ledger = (await self.shared()).framework()
        tasks = [ledger.task(name, "sleep 1000") for name in ("w1", "w2")]
        handles = await ledger.group(executor_info("group"), tasks)
        for name in ("w1", "w2"):
            await ledger.running(name)
        handles[0].kill()
        for name in ("w1", "w2"):
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        ledger.balance()

    async def test_a_group_of_which_one_cannot_start_does_not_start(self) -> None:
        ledger = (await self.shared()).framework()
        wrong = ledger.task("wrong", "true", user="no-such-user")
        await ledger.group(executor_info("group"), [ledger.task("right", "sleep 1000"), wrong])
        self.assertEqual((await ledger.over("wrong")).state, TaskState.TASK_FAILED)
        self.assertEqual((await ledger.over("right")).state, TaskState.TASK_KILLED)
        self.assertNotIn("TASK_RUNNING", ledger.states("right"))

    async def test_an_executor_is_told_to_be_gone_after_its_last_task(self) -> None:
        ledger = (await self.shared()).framework()
        handles = await ledger.group(executor_info("brief"), [ledger.task("only", "true")])
        await ledger.over("only")
        agent_id = handles[0].agent_id
        await until("the end of the executor", lambda: ledger.lost_executors)
        self.assertEqual(ledger.lost_executors, [(agent_id, "brief", 0)])
