"""Agents that are killed and started again while tasks run, which notice nothing of it."""

from __future__ import annotations

import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred

from mesoskit.driver import (
    FrameworkInfo,
    Reason,
    TaskHandle,
    TaskState,
    executor_info,
)
from mesoskit.model.tasks import TERMINAL
from tests.cluster import asking, processes
from tests.cluster.disks import SmallDiskCase
from tests.cluster.harness import Cluster
from tests.cluster.ledger import Ledger
from tests.cluster.test_executors import doing, echo, executor_pid
from tests.cluster.test_faults import SHORT_PINGS, running_again
from tests.cluster.waiting import pause, until

MANY = 50
SMALL = {"resources": "cpus:32;mem:16384;disk:1024;ports:[31000-31099]"}
SEED = 7
BLOWS = 8


class RestartTestCase(SmallDiskCase):
    """What the tests of restarts share."""

    async def again(self, cluster: Cluster, **flags: object) -> None:
        """Start the agent again, and wait until it is registered."""
        cluster.agent.start(**flags)
        await cluster.agent.ready()
        await cluster.registered()

    def waiting(self, gate: Path, then: str = "true") -> str:
        """Return a command that waits for a file, and does something."""
        return f"while [ ! -e {gate} ]; do sleep 0.05; done; {then}"


class RestartTests(RestartTestCase):
    """What runs on, and what is told of what does not."""

    async def test_commands_executors_and_groups_run_on_whoever_is_killed_or_stopped(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent=SMALL)
        ledger = cluster.framework()
        gate = cluster.directory / "gate"
        names = [f"c{number}" for number in range(MANY)]
        ends = {"good": "true", "bad": "(exit 3)"}
        tasks = [ledger.task(name, "sleep 1000") for name in names]
        tasks += [ledger.task(name, self.waiting(gate, end)) for name, end in ends.items()]
        await ledger.launch(*tasks)
        for name in (*names, *ends):
            await ledger.running(name)
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        pid = await executor_pid(ledger, handle.agent_id)
        group = [ledger.task(name, "sleep 1000") for name in ("g1", "g2")]
        await ledger.group(executor_info("group"), group)
        for name in ("g1", "g2"):
            await ledger.running(name)
        await cluster.acknowledged()
        said = {name: ledger.states(name) for name in ledger.statuses}
        await cluster.agent.kill()
        gate.touch()
        for name in ends:
            await ledger.gone(name)
        await self.again(cluster)
        self.assertEqual((await ledger.over("good")).state, TaskState.TASK_FINISHED)
        self.assertEqual((await ledger.over("bad")).message, "Command exited with status 3")
        self.assertEqual(await executor_pid(ledger, handle.agent_id), pid)
        # Once more, and politely.
        self.assertEqual(await cluster.agent.stop(), 0)
        self.assertTrue(processes.alive(pid))
        await self.again(cluster)
        self.assertEqual(await executor_pid(ledger, handle.agent_id), pid)
        for name in set(said) - set(ends):
            self.assertEqual(ledger.states(name), said[name], ledger.story(name))
        for name in (*names, "g1", "g2"):
            self.assertTrue(processes.alive((await ledger.started(name)).pid), name)
        known = await asking.metrics(cluster.agent.port)
        self.assertEqual(known["slave/tasks_running"], MANY + 3)
        self.assertGreater(known["slave/recovery_time_secs"], 0.0)
        self.assertEqual(known["slave/recovery_errors"], 0)
        # It plays them as before.
        for name in ("c0", "g1", "w"):
            ledger.framework.kill(name)
            self.assertEqual((await ledger.over(name)).state, TaskState.TASK_KILLED)
        self.assertEqual((await ledger.over("g2")).state, TaskState.TASK_KILLED)
        ledger.balance()
        self.assertEqual(ledger.lost_agents, [])

    async def test_without_agent_and_launcher_tasks_run_on_and_end_truthfully(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        gate = cluster.directory / "gate"
        await ledger.run("long", "sleep 1000")
        await ledger.run("ends", self.waiting(gate))
        for name in ("long", "ends"):
            await ledger.running(name)
        launcher = cluster.agent.launcher
        assert launcher is not None
        await cluster.agent.kill()
        processes.kill(launcher)
        gate.touch()
        await ledger.gone("ends")
        await self.again(cluster)
        status = await ledger.over("ends")
        # No status of its exit is left: nobody may guess one.
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.message, "Failed to get exit status for Command")
        self.assertTrue(processes.alive((await ledger.started("long")).pid))
        self.assertEqual(ledger.states("long")[-1], "TASK_RUNNING")
        ledger.framework.kill("long")
        self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
        ledger.balance()
        await cluster.acknowledged()

    async def test_one_that_was_given_up_comes_back_with_its_tasks(self) -> None:
        cluster = self.cluster()
        await cluster.start(master=SHORT_PINGS)
        ledger = cluster.framework()
        await ledger.run("t", "sleep 1000")
        agent_id = (await ledger.running("t")).agent_id.value
        await cluster.agent.kill()
        await ledger.until("t", TaskState.TASK_UNREACHABLE)
        await self.again(cluster)
        await until("it runs again", lambda: running_again(ledger))
        self.assertEqual(ledger.lost_agents, [agent_id])
        self.assertTrue(processes.alive((await ledger.started("t")).pid))
        ledger.framework.kill("t")
        self.assertEqual((await ledger.over("t")).state, TaskState.TASK_KILLED)
        ledger.balance()

    async def test_a_kill_under_way_goes_on(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        deaf = "trap '' TERM; while :; do sleep 0.05; done"
        (handle,) = await ledger.launch(ledger.task("deaf", deaf))
        await ledger.running("deaf")
        handle.kill(grace=1.0)
        await ledger.until("deaf", TaskState.TASK_KILLING)
        await cluster.agent.kill()
        await self.again(cluster)
        self.assertEqual((await ledger.over("deaf")).state, TaskState.TASK_KILLED)
        await ledger.gone("deaf")
        ledger.balance()

    async def test_frameworks_that_do_not_checkpoint_keep_nothing(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        plain = cluster.framework("plain", fields={"checkpoint": False})
        await plain.run("t", "sleep 1000")
        await plain.running("t")
        await plain.launch(doing("w", "wait", echo()))
        await plain.until("w", TaskState.TASK_RUNNING)
        await cluster.acknowledged()
        await cluster.agent.kill()
        # Nobody is there to end it but its launcher.
        await plain.gone("t")
        self.assertEqual((await plain.over("t")).state, TaskState.TASK_LOST)
        await self.again(cluster)
        await until("the launcher alone", lambda: len(cluster.running()) == 3, seen=cluster.running)
        plain.balance()

    async def test_what_waits_for_its_agent_too_long_ends(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent={"recovery_timeout": "1500ms"})
        ledger = cluster.framework()
        await ledger.run("t", "sleep 1000")
        await ledger.running("t")
        (handle,) = await ledger.launch(doing("w", "wait", echo()))
        pid = await executor_pid(ledger, handle.agent_id)
        await cluster.agent.kill()
        await ledger.gone("t")
        await until("the end of the executor", lambda: not processes.alive(pid))
        await self.again(cluster)
        status = await ledger.over("t")
        self.assertEqual(status.state, TaskState.TASK_GONE)
        self.assertEqual(status.reason, Reason.REASON_AGENT_RESTARTED)
        self.assertIn("No agent was there for too long", status.message)
        await ledger.over("w")
        ledger.balance()
        await cluster.acknowledged()


class DamageTests(RestartTestCase):
    """Checkpoints that cannot be read, or not be written."""

    async def test_what_is_damaged_is_refused_or_done_without(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        ledger = cluster.framework()
        for name in ("good", "bad"):
            await ledger.run(name, "sleep 1000")
            await ledger.running(name)
        await cluster.acknowledged()
        await cluster.agent.kill()
        key = next(key for key in cluster.agent.stored() if key.endswith("/bad/bad"))
        path = cluster.agent.work_dir / "checkpoints.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("UPDATE entries SET value = x'00' WHERE key = ?", (key,))
        cluster.agent.start()
        self.assertEqual(await cluster.agent.ended(), 1)
        said = cluster.agent.log()
        for part in (key, str(path), "--strict=false"):
            self.assertIn(part, said)
        self.assertNotIn("Traceback", said)
        await self.again(cluster, strict="false")
        await ledger.gone("bad")
        # The master asks after it, and hears that it is not there.
        await until("word of it", lambda: ledger.answers["bad"])
        self.assertEqual(ledger.answers["bad"][0].state, TaskState.TASK_DROPPED)
        self.assertTrue(processes.alive((await ledger.started("good")).pid))
        known = await asking.metrics(cluster.agent.port)
        self.assertEqual(known["slave/recovery_errors"], 1)
        ledger.balance()

    async def test_a_full_disk_at_recovery_ends_nothing(self) -> None:
        cluster, where = await self.small()
        agent = cluster.agent
        ledger = cluster.framework()
        gate = cluster.directory / "gate"
        await ledger.run("long", "sleep 1000")
        await ledger.run("ends", self.waiting(gate))
        for name in ("long", "ends"):
            await ledger.running(name)
        await cluster.acknowledged()
        await agent.kill()
        gate.touch()
        await ledger.gone("ends")
        with (where / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(65536))
            except OSError:
                pass
        await self.again(cluster)
        self.assertEqual((await ledger.over("ends")).state, TaskState.TASK_FINISHED)
        self.assertTrue(processes.alive((await ledger.started("long")).pid))
        (where / "filler").unlink()
        ledger.framework.kill("long")
        self.assertEqual((await ledger.over("long")).state, TaskState.TASK_KILLED)
        ledger.balance()
        self.assertNotIn("Traceback", agent.log())


class RandomRestartTests(RestartTestCase):
    """An agent that is killed at any moment of launching, killing and acknowledging."""

    timeout = 600

    async def test_nothing_is_lost_and_nothing_runs_twice(self) -> None:
        cluster = self.cluster()
        await cluster.start(agent=SMALL)
        info = FrameworkInfo(user="", name="kept", failover_timeout=3600.0, checkpoint=True)
        ledger = cluster.framework("kept", info=info)
        chance = random.Random(SEED)
        handles: list[TaskHandle] = []
        over = False

        async def launching() -> None:
            while not over:
                names = [f"t{len(handles) + number}" for number in range(4)]
                naps = [chance.choice((0, 0, 0.1, 0.7)) for _ in names]
                tasks = [
                    ledger.task(name, f"sleep {nap}") for name, nap in zip(names, naps, strict=True)
                ]
                # One of them goes to an executor that is there all the time.
                tasks[0] = doing(names[0], "fail", echo())
                try:
                    handles.extend(await ledger.launch(*tasks))
                except Exception:
                    # The offer is gone: nothing was launched.
                    await pause(0.02)
                    continue
                if chance.random() < 0.5:
                    handles[-1].kill().addErrback(lambda failure: None)
                await pause(chance.uniform(0.0, 0.1))

        launched = Deferred.fromCoroutine(launching())
        for _ in range(BLOWS):
            await pause(chance.uniform(0.0, 0.5))
            if chance.random() < 0.3 and cluster.agent.launcher is not None:
                processes.kill(cluster.agent.launcher)
            cluster.agent.signal(signal.SIGKILL)
            await cluster.agent.ended()
            await self.again(cluster)
        over = True
        await launched
        await until(
            "the end of all",
            lambda: all(handle.over for handle in handles),
            seen=lambda: [handle.id for handle in handles if not handle.over],
        )
        await cluster.acknowledged()
        self.compare(ledger)
        self.assertGreater(len(handles), 20)

    def compare(self, ledger: Ledger) -> None:
        """Compare what ran with what was told."""
        ledger.balance()
        starts = [mark.task for mark in ledger.marks() if mark.what == "start"]
        self.assertEqual(len(starts), len(set(starts)), "a task was started twice")
        for task, statuses in ledger.statuses.items():
            states = [TaskState(status.state) for status in statuses]
            ends = [state for state in states if state in TERMINAL]
            self.assertEqual(len(ends), 1, ledger.story(task))
            if TaskState.TASK_DROPPED in states:
                self.assertNotIn(task, starts, ledger.story(task))
