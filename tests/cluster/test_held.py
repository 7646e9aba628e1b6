"""Tasks that take all they can get: a hog of the CPU, a bomb of processes, a spy. Real daemons."""

from __future__ import annotations

import json
import os
import sys
from typing import Any
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
PERIODS = 25
"""In which the hog's time is counted, of a tenth of a second each."""

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
        """See that it has half a CPU, by the kernel's own figures."""

        async def counted() -> dict[str, Any] | None:
            _, body = await asking.get(cluster.agent.port, "/containers")
            (one,) = (each for each in json.loads(body) if each["executor_id"] == "hog")
            found: dict[str, Any] = one.get("statistics", {})
            return found if found.get("cpus_nr_periods", 0) >= PERIODS else None

        found = await until_async("the hog's time is counted", counted)
        assert found is not None
        periods = found["cpus_nr_periods"]
        used = found["cpus_user_time_secs"] + found["cpus_system_time_secs"]
        part = used / (periods * 0.1)
        # Time is counted in the midst of a period: half a one may be too much.
        self.assertLess(part, 0.525 + 0.5 / periods)
        # On a busy machine it may get less than that, and is throttled more seldom.
        if found["cpus_nr_throttled"] >= 0.95 * periods:
            self.assertGreater(part, 0.475 * 0.95)
