"""A full disk and a read-only one fail tasks, and leave the agent as it is."""

import os
import subprocess

from mesoskit.driver import Reason, TaskState, command_task
from tests.cluster.disks import SmallDiskCase, unmount
from tests.cluster.waiting import until


class DiskTests(SmallDiskCase):
    """The agent's disk."""

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
