"""Executors of one's own: processes that speak with the agent, and what they may do wrong."""

import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from mesoskit.driver import ExecutorInfo, Reason, TaskInfo, TaskState, executor_info, task
from tests.cluster import processes
from tests.cluster.harness import CHECKOUT, ClusterTestCase, SharedCluster
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import until

SCRIPT = Path(__file__).with_name("echo_executor.py")


def echo(executor_id: str = "echo", arguments: str = "", **more: Any) -> ExecutorInfo:
    """Return the executor of L{tests.cluster.echo_executor}."""
    command = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(SCRIPT))} {arguments}"
    return executor_info(executor_id, command, environment={"PYTHONPATH": str(CHECKOUT)}, **more)


def doing(task_id: str, word: str, executor: ExecutorInfo) -> TaskInfo:
    """Return a task that does what the word says."""
    return task(task_id, id=task_id, executor=executor, cpus=0.1, mem=32.0, data=word.encode())


class ExecutorTests(SharedCluster):
    """An executor that does what it should."""

    async def test_its_tasks_run_finish_and_fail_as_it_says(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        executor = echo()
        await ledger.launch(doing("good", "finish", executor), doing("bad", "fail", executor))
        good, bad = await ledger.over("good"), await ledger.over("bad")
        self.assertEqual(ledger.states("good")[-2:], ["TASK_RUNNING", "TASK_FINISHED"])
        self.assertEqual(good.data, b"done")
        self.assertEqual(good.executor_id.value, "echo")
        self.assertEqual(bad.state, TaskState.TASK_FAILED)
        self.assertIn("as it was asked to", bad.message)
        await cluster.acknowledged()

    async def test_messages_go_both_ways(self) -> None:
        ledger = (await self.shared()).framework()
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        await ledger.until("w", TaskState.TASK_RUNNING)
        await ledger.framework.message(handle.agent_id, "echo", b"hello")
        await until("an answer", lambda: ledger.messages)
        agent_id, executor_id, data = ledger.messages[0]
        self.assertEqual((agent_id, executor_id), (handle.agent_id, "echo"))
        self.assertEqual(data.split(b" ", 1)[1], b"hello")

    async def test_a_second_task_goes_to_the_executor_that_runs(self) -> None:
        ledger = (await self.shared()).framework()
        executor = echo()
        (first,) = await ledger.launch(doing("w", "wait", executor))
        one = await ledger.until("w", TaskState.TASK_RUNNING)
        await ledger.launch(doing("f", "finish", executor), agent_id=first.agent_id)
        two = await ledger.over("f")
        self.assertEqual(
            one.container_status.container_id.value, two.container_status.container_id.value
        )
        first.kill()
        self.assertEqual((await ledger.over("w")).state, TaskState.TASK_KILLED)

    async def test_it_ends_when_it_is_shut_down(self) -> None:
        ledger = (await self.shared()).framework()
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        pid = await executor_pid(ledger, handle.agent_id)
        await ledger.framework.shutdown_executor("echo", handle.agent_id)
        await until("the end of the executor", lambda: ledger.lost_executors)
        self.assertEqual((await ledger.over("w")).state, TaskState.TASK_KILLED)
        self.assertFalse(processes.alive(pid))


class SilentExecutorTests(ClusterTestCase):
    """An executor that never comes, on an agent without much patience."""

    async def test_one_that_never_registers_is_given_up(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"executor_registration_timeout": "1secs"})
        ledger = cluster.framework()
        pid_file = cluster.directory / "silent"
        silent = executor_info("silent", f"echo $$ > {pid_file}; exec sleep 1000")
        pid_file.touch()
        pid_file.chmod(0o666)
        await ledger.launch(doing("t", "finish", silent))
        status = await ledger.over("t")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT)
        self.assertIn("did not register within 1secs", status.message)
        for pid in pid_file.read_text().split():  # unless it was ended before it could say so
            await until("its end", lambda pid=int(pid): not processes.alive(pid))  # type: ignore[misc]
        await cluster.acknowledged()


class WrongExecutorTests(SharedCluster):
    """An executor that does not what it should."""

    agents = 1

    async def test_one_that_ends_before_it_has_registered_takes_its_task_along(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        await ledger.launch(doing("d", "finish", executor_info("dead", "exit 3")))
        status = await ledger.over("d")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_EXECUTOR_TERMINATED)
        await until("word of it", lambda: ledger.lost_executors)
        self.assertEqual(ledger.lost_executors[0][1:], ("dead", 3 << 8))
        await cluster.acknowledged()

    async def test_one_that_ends_takes_all_its_tasks_along(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        executor = echo("leaver")
        (handle,) = await ledger.launch(doing("x1", "wait", executor))
        await ledger.until("x1", TaskState.TASK_RUNNING)
        await ledger.launch(doing("x2", "exit", executor), agent_id=handle.agent_id)
        for name in ("x1", "x2"):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_FAILED)
            self.assertEqual(status.reason, Reason.REASON_EXECUTOR_TERMINATED)
        await until("word of it", lambda: ledger.lost_executors)
        self.assertEqual(ledger.lost_executors[0][1:], ("leaver", 7 << 8))
        await cluster.acknowledged()

    async def test_one_that_is_killed_takes_its_task_along(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        (handle,) = await ledger.launch(doing("k", "wait", echo("victim")))
        processes.kill(await executor_pid(ledger, handle.agent_id, "victim"))
        status = await ledger.over("k")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_EXECUTOR_TERMINATED)
        await until("word of it", lambda: ledger.lost_executors)
        self.assertEqual(ledger.lost_executors[0][1:], ("victim", signal.SIGKILL))
        await cluster.acknowledged()

    async def test_one_that_ignores_its_shutdown_and_sigterm_is_killed(self) -> None:
        cluster = await self.shared()
        ledger = cluster.framework()
        stubborn = echo("stubborn", "stubborn", shutdown_grace=0.5)
        (handle,) = await ledger.launch(doing("s", "wait", stubborn))
        pid = await executor_pid(ledger, handle.agent_id, "stubborn")
        await ledger.framework.shutdown_executor("stubborn", handle.agent_id)
        status = await ledger.over("s")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_EXECUTOR_TERMINATED)
        self.assertFalse(processes.alive(pid))
        await cluster.acknowledged()


class SurvivalTests(ClusterTestCase):
    """Executors and groups when what is above them is killed."""

    async def test_none_runs_on_when_its_agent_is_back_to_clean_up(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"recover": "cleanup"})
        ledger = cluster.framework(fields={"checkpoint": True})
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        pid = await executor_pid(ledger, handle.agent_id)
        names = ("g1", "g2")
        group = [ledger.task(name, "sleep 1000") for name in names]
        await ledger.group(executor_info("group"), group)
        for name in names:
            await ledger.running(name)
        await cluster.agent.kill()
        self.assertTrue(processes.alive(pid))
        cluster.agent.start()
        await cluster.registered()
        for name in ("w", *names):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_GONE, ledger.story(name))
            self.assertEqual(status.reason, Reason.REASON_AGENT_RESTARTED)
        await until("the end of the executor", lambda: not processes.alive(pid))
        for name in names:
            await ledger.gone(name)
        ledger.balance()
        await cluster.acknowledged()

    async def test_they_work_on_without_their_launcher(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        executor = echo()
        (handle,) = await ledger.launch(doing("w", "wait", executor))
        pid = await executor_pid(ledger, handle.agent_id)
        launcher = cluster.agent.launcher
        assert launcher is not None
        processes.kill(launcher)
        await until("another launcher", lambda: cluster.agent.launcher not in (None, launcher))
        await ledger.launch(doing("f", "finish", executor), agent_id=handle.agent_id)
        self.assertEqual((await ledger.over("f")).state, TaskState.TASK_FINISHED)
        self.assertEqual(await executor_pid(ledger, handle.agent_id), pid)
        processes.kill(pid)
        status = await ledger.over("w")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_EXECUTOR_TERMINATED)
        await until("word of it", lambda: ledger.lost_executors)
        # The one who could have known how it ended is dead.
        self.assertEqual(ledger.lost_executors[0][1:], ("echo", -1))
        await cluster.acknowledged()


async def executor_pid(ledger: Ledger, agent_id: str, executor_id: str = "echo") -> int:
    """Ask an executor who it is."""
    known = len(ledger.messages)
    await until(
        "a task of it runs",
        lambda: any(s[-1].executor_id.value == executor_id for s in ledger.statuses.values() if s),
    )
    await ledger.framework.message(agent_id, executor_id, b"who")
    await until("an answer", lambda: len(ledger.messages) > known)
    return int(ledger.messages[-1][2].split()[0])
