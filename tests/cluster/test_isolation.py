"""An agent that keeps its containers apart, as root: what frameworks hear, what is left behind."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.driver import Reason, TaskInfo, TaskState
from mesoskit.messages.mesos_pb2 import TaskStatus
from tests.cluster import asking, processes
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import pause, until

not_root = skipIf(os.geteuid() != 0, "only root can isolate")

ALL = "cgroups/cpu,cgroups/mem,cgroups/pids,disk/du,namespaces/pid,filesystem/linux"
HOG = f'{sys.executable} -S -c "x = bytearray(80 << 20)"; sleep 1000'
DISK_HOG = "dd if=/dev/zero of=data bs=1M count=8 2> /dev/null; sleep 1000"


DAEMON = (
    f"{sys.executable} -S -c 'import os, time; os.fork() and os._exit(0); os.setsid();"
    ' os.fork() and os._exit(0); os.chdir("/"); os.execve("/bin/sleep", ["d", "1000"], {})\''
)
"""Starts a process that has nothing left of the task: session, parents, directory, environment."""


@not_root
class DefaultTests(ClusterTestCase):
    """An agent of which nobody wants anything particular."""

    async def test_nothing_of_a_task_outlives_it_though_its_launcher_be_killed(self) -> None:
        cluster = self.cluster()
        await cluster.start()
        _, flags = await asking.get(cluster.agent.port, "/flags")
        self.assertEqual(json.loads(flags)["flags"]["launcher"], "linux")
        ledger = cluster.framework()
        (handle,) = await ledger.launch(ledger.task("daemons", f"{DAEMON}; exec sleep 1000"))
        await ledger.running("daemons")
        (group,) = [
            path
            for above in ("*/", "")
            for path in Path("/sys/fs/cgroup").glob(f"{above}{cluster.cgroups_root}/*/")
        ]
        daemon = await until("a daemon", lambda: self.daemon(group))
        launcher = cluster.agent.launcher
        assert launcher is not None
        processes.kill(launcher)
        await until("another launcher", lambda: cluster.agent.launcher not in (None, launcher))
        self.assertTrue(processes.alive(daemon))
        handle.kill()
        await ledger.over("daemons")
        # Who leaves a cgroup is about to be no more.
        await until("no daemon", lambda: not processes.alive(daemon))
        await until("no cgroup", lambda: not group.exists())

    def daemon(self, group: Path) -> int:
        """Return the pid of the daemon in a cgroup, 0 where there is none yet."""
        return next(
            (pid for pid in pids_in(str(group)) if processes.arguments(pid) == b"d 1000 "), 0
        )


@not_root
class IsolationTests(ClusterTestCase):
    """Real daemons."""

    async def started(self) -> tuple[Cluster, Ledger]:
        """Return a cluster with an agent that isolates, and a framework."""
        self.root = f"mesoskit-test-{os.getpid()}"
        self.addCleanup(self.remove_root)  # the last of all
        cluster = self.cluster()
        flags: dict[str, Any] = {
            "isolation": ALL,
            "cgroups_root": self.root,
            "enforce_container_disk_quota": "true",
            "container_disk_watch_interval": "200ms",
        }
        await cluster.start(agent=flags)
        return cluster, cluster.framework(fields={"checkpoint": True})

    def remove_root(self) -> None:
        """Remove the cgroups' root; there should be nothing below it."""
        left = self.groups()
        processes.sweep_cgroups(self.root)
        self.assertEqual(left, [])

    def groups(self) -> list[str]:
        """Return the containers that have cgroups."""
        found = Path("/sys/fs/cgroup").glob(f"*/{self.root}/*/")
        return sorted({path.name for path in found})

    def hog(self, ledger: Ledger, name: str, body: str, **more: float) -> TaskInfo:
        return ledger.task(name, body, cpus=0.1, **more)

    async def test_those_that_take_too_much_fail_with_reasons_and_others_run_on(self) -> None:
        cluster, ledger = await self.started()
        limited = self.hog(ledger, "limited", HOG, mem=32)
        limited.limits["mem"].value = 128
        tasks = [
            self.hog(ledger, "neighbour", "sleep 1000", mem=32),
            self.hog(ledger, "mem", HOG, mem=48),
            self.hog(ledger, "disk", DISK_HOG, mem=48, disk=4),
            limited,
        ]
        handles = {one.id: one for one in await ledger.launch(*tasks)}
        for name, reason, text in (
            ("mem", Reason.REASON_CONTAINER_LIMITATION_MEMORY, "Memory limit exceeded: Requested"),
            ("disk", Reason.REASON_CONTAINER_LIMITATION_DISK, "Disk usage ("),
        ):
            status = await ledger.over(name)
            self.assertEqual(status.state, TaskState.TASK_FAILED)
            self.assertEqual((status.reason, status.source), (reason, TaskStatus.SOURCE_AGENT))
            self.assertIn(text, status.message)
            (resource,) = status.limitation.resources
            self.assertEqual(resource.name, name)
        for name in ("neighbour", "limited"):
            await ledger.running(name)
            self.assertEqual(ledger.states(name)[-1], "TASK_RUNNING")
            handles[name].kill()
            await ledger.over(name)
        await until("no cgroups", lambda: not self.groups())
        await cluster.acknowledged()

    async def test_what_runs_is_held_by_the_next_agent_and_what_does_not_is_removed(self) -> None:
        cluster, ledger = await self.started()
        gate = cluster.directory / "gate"
        waiting = f"while [ ! -e {gate} ]; do sleep 0.05; done; "
        await ledger.launch(
            self.hog(ledger, "hog", waiting + HOG, mem=48),
            self.hog(ledger, "ends", "sleep 0.5", mem=32),
        )
        await ledger.running("hog")
        await ledger.running("ends")
        await cluster.acknowledged()
        await cluster.agent.kill()
        await pause(1.0)
        cluster.agent.start()
        await cluster.agent.ready()
        await cluster.registered()
        self.assertEqual((await ledger.over("ends")).state, TaskState.TASK_FINISHED)
        gate.touch()
        status = await ledger.over("hog")
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        await until("no cgroups", lambda: not self.groups())

    async def test_an_agent_killed_at_any_moment_of_a_launch_leaves_nothing(self) -> None:
        cluster, ledger = await self.started()
        handles = []
        for number in range(4):
            names = [f"t{number}.{each}" for each in range(3)]
            tasks = [self.hog(ledger, name, "sleep 1000", mem=32) for name in names]
            handles += await ledger.launch(*tasks)
            # From before the first directory is made to after the last process runs.
            await pause(number * 0.015)
            await cluster.agent.kill()
            cluster.agent.start()
            await cluster.agent.ready()
            await cluster.registered()

        def untold() -> str:
            told = (ledger.states(handle.id) or ledger.answers[handle.id] for handle in handles)
            return ", ".join(one.id for one, any_ in zip(handles, told, strict=True) if not any_)

        await until("all tasks are told of", lambda: not untold(), seen=untold)

        def running() -> set[str]:
            return {
                ledger.last(name).container_status.container_id.value
                for name in list(ledger.statuses)
                if ledger.states(name)[-1:] == ["TASK_RUNNING"]
            }

        await until("cgroups of what runs alone", lambda: set(self.groups()) <= running())
        for handle in handles:
            handle.kill()
        await until("all tasks are over", lambda: all(handle.over for handle in handles))
        await until("no cgroups", lambda: not self.groups())
        notes = cluster.agent.runtime_dir / "isolated"
        await until("no notes", lambda: not os.listdir(notes))
        self.assertEqual((await asking.metrics(cluster.agent.port))["slave/tasks_running"], 0)
