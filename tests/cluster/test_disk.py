"""A full disk and a read-only one fail tasks, and leave the agent as it is."""

import os
import subprocess
from pathlib import Path

from mesoskit.driver import Reason, TaskState, command_task
from tests.cluster.harness import Cluster, ClusterTestCase
from tests.cluster.waiting import until


def mounted(cluster: Cluster, size: str) -> Path | None:
    """Mount a small file system for the first agent's work directory; L{None} where we may not."""
    where = cluster.directory / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "none", str(where)]
    if subprocess.run(mount, capture_output=True, timeout=90, check=False).returncode:
        return None
    return where


def unmount(where: Path) -> None:
    """Take it away."""
    subprocess.run(["umount", "-l", str(where)], capture_output=True, timeout=90, check=False)


class DiskTests(ClusterTestCase):
    """The agent's disk."""

    async def small(self) -> tuple[Cluster, Path]:
        """Return a cluster whose agent has a disk of a few megabytes."""
        if os.geteuid() != 0:
            self.skipTest("only root may mount")
        cluster = Cluster()
        self.addCleanup(cluster.close)
        where = mounted(cluster, "4m")
        if where is None:
            self.skipTest("mounting is not allowed here")
        self.addCleanup(unmount, where)
        self._use(cluster)
        cluster.make_master().start()
        agent = cluster.make_agent("a0", {"work_dir": where / "w"})
        agent.work_dir = where / "w"
        agent.start()
        await cluster.master.ready()
        await cluster.registered()
        return cluster, where

    async def test_a_full_disk_fails_the_task_and_the_agent_goes_on(self) -> None:
        cluster, where = await self.small()
        ledger = cluster.framework()
        # A task of ours may fill it, and is not harmed by it.
        wait = "while ! test -e go; do sleep 0.02; done"
        fill = "dd if=/dev/zero of=filler bs=64k 2>/dev/null; true"
        await ledger.run("filler", f"{wait}; {fill}; sleep 1000")
        await ledger.running("filler")
        # What has been said of it so far is written down.
        await cluster.acknowledged()
        (cluster.agent.sandbox(ledger.id, "filler") / "go").touch()
        await until("the disk is full", lambda: os.statvfs(where).f_bavail == 0)
        await ledger.launch(command_task("x", "true", id="nospace"))
        status = await ledger.over("nospace")
        self.assertEqual(status.state, TaskState.TASK_FAILED, ledger.story("nospace"))
        # It fills where the task is written down, or where its sandbox is made.
        self.assertRegex(status.message, "disk is full|No space left")
        self.assertTrue(cluster.agent.running)
        self.assertEqual(ledger.states("filler")[-1], "TASK_RUNNING")
        ledger.framework.kill("filler")
        # That it is being killed cannot be written down either, which fails it too.
        await ledger.until("filler", TaskState.TASK_KILLED, TaskState.TASK_FAILED)
        await ledger.gone("filler")
        for file in where.glob("w/slaves/*/frameworks/*/executors/*/runs/*/filler"):
            file.unlink()
            break
        await ledger.run("after", "true")
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)
        self.assertNotIn("Traceback", cluster.agent.log())
        ledger.balance()

    async def test_a_disk_that_cannot_be_written_fails_the_task_and_the_agent_goes_on(self) -> None:
        cluster, where = await self.small()
        ledger = cluster.framework()
        slaves = where / "w" / "slaves"
        slaves.mkdir(exist_ok=True)
        remount = ["mount", "--bind", str(slaves), str(slaves)]
        subprocess.run(remount, check=True, timeout=90)
        self.addCleanup(unmount, slaves)
        read_only = ["mount", "-o", "remount,bind,ro", str(slaves)]
        subprocess.run(read_only, check=True, timeout=90)
        await ledger.launch(command_task("x", "true", id="readonly"))
        status = await ledger.over("readonly")
        self.assertEqual(status.state, TaskState.TASK_FAILED)
        self.assertEqual(status.reason, Reason.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertIn("Read-only file system", status.message)
        unmount(slaves)
        await ledger.run("after", "true")
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)
        self.assertNotIn("Traceback", cluster.agent.log())
        ledger.balance()
        await cluster.acknowledged()
