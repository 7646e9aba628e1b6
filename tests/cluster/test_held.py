"""Tasks that take all they can get: a hog of the CPU, a bomb of processes, a spy. Real daemons."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple, Self
from unittest import skipIf

from mesoskit.agent.containers.cgroups import FREEZER, find
from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.driver import TaskState
from mesoskit.messages.mesos_pb2 import ContainerInfo, Volume
from tests.cluster import asking, processes
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.waiting import until, until_async

ISOLATION = "cgroups/cpu,cgroups/mem,cgroups/pids,namespaces/pid,namespaces/ipc,filesystem/linux"
PIDS = 40
PERIOD = 0.1
"""For how long the kernel gives a quota at a time, in seconds."""
PERIODS = 25
"""Over how many the hog's time is looked at."""
STRETCHES = 8
"""How often, at most."""

BOMB = (
    f"{sys.executable} -S -c 'import os, time\nwhile True:\n    try:\n        os.fork()\n"
    "    except OSError:\n        time.sleep(0.1)'"
)
SPY = """
echo `ls /proc | grep -c '^[0-9]'` processes > seen
ls {executors} >> seen
ls {work}/containers >> seen
ls {work}/volumes >> seen
cat volume/own >> seen
kill -9 {pid} 2> /dev/null && echo killed >> seen
touch {executors}/stain 2> /dev/null && echo wrote >> seen
cat {secret} 2> /dev/null >> seen
exit 0
"""


@skipIf(os.geteuid() != 0, "only root can isolate")
class HeldTests(ClusterTestCase):
    """They are held to what they were given, and others are none the worse for it."""

    async def test_a_hog_a_bomb_and_a_spy(self) -> None:
        cluster = self.cluster()
        flags = {
            "isolation": ISOLATION,
            "cgroups_enable_cfs": "true",
            "cgroups_pids_limit": PIDS,
        }
        await cluster.start(agent=flags)
        ledger = cluster.framework()
        own = "echo secret > secret; exec sleep 1000"
        (neighbour,) = await ledger.launch(ledger.task("neighbour", own, cpus=0.1, mem=32))
        pid = (await ledger.running("neighbour")).container_status.executor_pid
        box = cluster.agent.sandbox(ledger.id, "neighbour").resolve()
        await until("a secret", (box / "secret").exists)
        work = cluster.agent.work_dir
        spying = SPY.format(executors=box.parents[2], pid=pid, secret=box / "secret", work=work)
        (work / "volumes" / "roles").mkdir()
        (work / "volumes" / "roles" / "own").write_text("volume")
        (work / "containers" / "other").mkdir()
        spy = ledger.task("spy", spying, cpus=0.1, mem=32)
        spy.container.type = ContainerInfo.MESOS
        spy.container.volumes.add(
            container_path="volume", mode=Volume.RO, host_path=str(work / "volumes" / "roles")
        )
        hog, bomb, _ = await ledger.launch(
            ledger.task("hog", "while :; do :; done", cpus=0.5, mem=32),
            ledger.task("bomb", BOMB, cpus=0.1, mem=128),
            spy,
        )

        self.assertEqual((await ledger.over("spy")).state, TaskState.TASK_FINISHED)
        box = cluster.agent.sandbox(ledger.id, "spy")
        count, *seen = (box / "seen").read_text().split()
        self.assertLess(int(count), 8)
        self.assertEqual(seen, ["processes", "spy", "volume"])

        container = (await ledger.running("bomb")).container_status.container_id.value
        groups = find("/sys/fs/cgroup", cluster.cgroups_root)
        group = groups.directory(container, FREEZER)
        await until("a bomb that is held", lambda: len(pids_in(group)) >= PIDS)
        self.assertEqual(len(pids_in(group)), PIDS)

        await self.hog_is_held(cluster)
        await ledger.run("after", "true")
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)
        self.assertTrue(processes.alive(pid))
        for handle in (neighbour, hog, bomb):
            handle.kill()
            await ledger.over(handle.id)
        await until("no cgroups", lambda: not groups.names())

    async def hog_is_held(self, cluster: Cluster) -> None:
        """See that it gets half a CPU, within 5 %, by the kernel's own figures.

        A CPU that a hypervisor takes away for a moment may count as used at once, and is paid back
        in the periods that follow: so it is a stretch of several that must be right.
        """

        async def counted() -> Counted | None:
            _, body = await asking.get(cluster.agent.port, "/containers")
            (one,) = (each for each in json.loads(body) if each["executor_id"] == "hog")
            return Counted.of(one.get("statistics", {}))

        parts: list[float] = []
        before = await until_async("the hog's time is counted", counted)
        assert before is not None
        while len(parts) < STRETCHES:

            async def later(since: Counted = before) -> Counted | None:
                now = await counted()
                return now if now and now.periods >= since.periods + PERIODS else None

            now = await until_async("more of the hog's time is counted", later)
            assert now is not None
            periods = now.periods - before.periods
            parts.append((now.used - before.used) / (periods * PERIOD))
            # On a busy machine it may get less than that, and is throttled more seldom.
            busy = now.throttled - before.throttled < 0.95 * periods
            # Time is counted in the midst of a period: half a one may be too much or too little.
            slack = 0.025 + 0.5 / periods
            if 0.5 - slack < parts[-1] < 0.5 + slack or (busy and parts[-1] <= 0.5):
                return
            before = now
        self.fail(f"In no stretch of {PERIODS} periods did the hog get half a CPU: {parts}")


class Counted(NamedTuple):
    """What the kernel has counted of a group so far; C{used} in seconds."""

    periods: int
    throttled: int
    used: float

    @classmethod
    def of(cls, statistics: dict[str, Any]) -> Self | None:
        """Return what stands in a C{ResourceStatistics}, if it has been counted at all."""
        try:
            return cls(
                statistics["cpus_nr_periods"],
                statistics["cpus_nr_throttled"],
                statistics["cpus_user_time_secs"] + statistics["cpus_system_time_secs"],
            )
        except KeyError:
            return None
