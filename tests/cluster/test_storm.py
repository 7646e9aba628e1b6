"""Everything is killed again and again while tasks come and go; in the end the books balance."""

import random
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred

from mesoskit.driver import FrameworkInfo, TaskHandle, TaskState
from mesoskit.model.tasks import TERMINAL
from tests.cluster import processes
from tests.cluster.harness import Cluster, ClusterTestCase, Daemon
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import pause, until

TASKS = 80
BLOWS = 9
SEED = 1

Blow = Callable[[Cluster], Daemon | None]


class StormTests(ClusterTestCase):
    """Two agents, two frameworks, and something that kills."""

    timeout = 900

    async def test_no_task_is_lost_sight_of_whatever_is_killed(self) -> None:
        cluster = self.cluster()
        await cluster.start(2)
        info = FrameworkInfo(user="", name="kept", failover_timeout=3600.0, checkpoint=True)
        ledgers = [
            cluster.framework("kept", info=info),
            cluster.framework("plain", fields={"checkpoint": False}),
        ]
        chance = random.Random(SEED)
        launching = [Deferred.fromCoroutine(self.launch(ledger, chance)) for ledger in ledgers]
        blows: list[Blow] = [_master, _agent, _launcher] * (BLOWS // 3)
        chance.shuffle(blows)
        for blow in blows:
            await pause(chance.uniform(0.1, 0.6))
            daemon = blow(cluster)
            if daemon is not None:
                await daemon.kill()
                await pause(chance.uniform(0.0, 0.3))
                daemon.start()
                await daemon.ready()
        await cluster.registered()
        for launched in launching:
            handles = await launched
            await until(
                "the end of all",
                partial(_all_over, handles),
                timeout=300.0,
                seen=partial(_not_over, handles),
            )
        await cluster.acknowledged()
        for ledger in ledgers:
            self.assertEqual(ledger.errors, [])
            await self.compare(ledger)

    async def launch(self, ledger: Ledger, chance: random.Random) -> list[TaskHandle]:
        """Launch tasks, a few at a time, whatever happens to those that are there."""
        handles: list[TaskHandle] = []
        while len(handles) < TASKS // 2:
            names = [f"t{len(handles) + n}" for n in range(5)]
            tasks = [
                ledger.task(name, f"sleep {chance.choice((0, 0.05, 0.5, 1.5))}") for name in names
            ]
            try:
                handles += await ledger.launch(*tasks)
                await pause(chance.uniform(0.2, 0.6))
            except Exception:
                # The offer, or the master, is gone: nothing was launched.
                await pause(0.05)
        return handles

    async def compare(self, ledger: Ledger) -> None:
        """Compare what ran with what was told, answers to reconciliations included."""
        started = {mark.task: mark.pid for mark in ledger.marks() if mark.what == "start"}
        ended = {mark.task for mark in ledger.marks() if mark.what == "end"}
        for task, pid in started.items():
            told = [*ledger.statuses[task], *ledger.answers[task]]
            self.assertTrue(told, f"{task} ran and nobody was told")
            self.assertFalse(processes.alive(pid), ledger.story(task))
        for task, statuses in ledger.statuses.items():
            states = [TaskState(status.state) for status in statuses]
            if TaskState.TASK_FINISHED in states:
                self.assertIn(task, ended, ledger.story(task))
            self.assertLessEqual(states.count(TaskState.TASK_FINISHED), 1, ledger.story(task))
            firsts = [n for n, state in enumerate(states) if state in TERMINAL]
            later = states[firsts[0] + 1 :] if firsts else []
            # A loss told by the master may be followed by what really became of the task.
            self.assertTrue(
                not later or states[firsts[0]] in (TaskState.TASK_LOST, TaskState.TASK_GONE),
                ledger.story(task),
            )
        starts = [mark.task for mark in ledger.marks() if mark.what == "start"]
        self.assertEqual(len(starts), len(set(starts)), "a task was started twice")


def _not_over(handles: list[TaskHandle]) -> list[TaskHandle]:
    return [handle for handle in handles if not handle.over]


def _all_over(handles: list[TaskHandle]) -> bool:
    return not _not_over(handles)


def _master(cluster: Cluster) -> Daemon:
    return cluster.master


def _agent(cluster: Cluster) -> Daemon:
    return cluster.agent


def _launcher(cluster: Cluster) -> None:
    launcher = cluster.agents["a1"].launcher
    if launcher is not None:
        processes.kill(launcher)
