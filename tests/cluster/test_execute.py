"""The command line against real processes: C{mesoskit local}, C{mesoskit execute}."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.cluster import processes
from tests.cluster.harness import CHECKOUT, free_port
from tests.cluster.waiting import until


class Command:
    """
    One run of C{mesoskit}.

    @ivar directory: where its output, and its temporary files, are.
    """

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._out = directory / f"out-{arguments[0]}-{len(list(directory.iterdir()))}"
        variables = {name: text for name, text in os.environ.items() if name[:6] != "MESOS_"}
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesoskit.cli", *arguments],
                cwd=directory,
                env={**variables, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    async def said(self, words: str) -> None:
        """Wait until it has printed this."""

        def there() -> bool:
            if self.process.poll() is not None and words not in self.output:
                raise AssertionError(f"ended with {self.process.returncode}: {self.output}")
            return words in self.output

        await until(f"{words!r} was printed", there, seen=lambda: self.output)

    async def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        await until("its end", lambda: self.process.poll() is not None, seen=lambda: self.output)
        status: int = self.process.returncode
        return status


class LocalTests(TestCase):
    """A cluster in one terminal, and commands on it."""

    timeout = 600

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.addCleanup(processes.sweep, self.directory)
        self.address = f"127.0.0.1:{free_port()}"

    async def local(self, *flags: str) -> Command:
        """Start a cluster, and wait until it says that it is there."""
        port = self.address.partition(":")[2]
        command = Command(self.directory, "local", f"--port={port}", *flags)
        await command.said(f"Master at {self.address}")
        return command

    def execute(self, *flags: str, scheme: str = "") -> Command:
        """Begin a run on it."""
        return Command(self.directory, "execute", f"--master={scheme}{self.address}", *flags)

    async def test_commands_run_and_tell_their_ends(self) -> None:
        local = await self.local("--agents=2", "--resources=cpus:2;mem:512")
        good = self.execute("--name=good", "--command=test $A = b", '--env={"A": "b"}')
        bad = self.execute("--name=bad", "--command=exit 7", scheme="http://")
        group = self.execute(
            '--task_group={"tasks": [{"name": "g", "task_id": {"value": "g"}, "resources":'
            ' [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}, {"name": "mem",'
            ' "type": "SCALAR", "scalar": {"value": 32}}], "command": {"value": "true"}}]}'
        )
        self.assertEqual(await good.ended(), 0, good.output)
        self.assertIn("Received status update TASK_FINISHED for task 'good'", good.output)
        self.assertEqual(await bad.ended(), 1, bad.output)
        self.assertIn("message: 'Command exited with status 7'", bad.output)
        self.assertEqual(await group.ended(), 0, group.output)
        local.process.send_signal(signal.SIGINT)
        self.assertEqual(await local.ended(), 0, local.output)
        self.assertEqual(processes.below(self.directory), [])

    async def test_interrupt_kills_the_task(self) -> None:
        await self.local("--resources=cpus:1;mem:512")
        marker = self.directory / "running"
        run = self.execute("--name=t", f"--command=touch {marker}; exec sleep 1000")
        await run.said("TASK_RUNNING")
        await until("the task runs", marker.exists)
        run.process.send_signal(signal.SIGINT)
        self.assertEqual(await run.ended(), 130, run.output)
        self.assertIn("TASK_KILLED", run.output)

    async def test_nothing_outlives_the_terminal(self) -> None:
        """SIGTERM, with tasks that run, of which one will not go."""
        local = await self.local("--resources=cpus:2;mem:512")
        runs = [
            self.execute("--name=a", "--command=sleep 1000"),
            self.execute("--name=b", "--command=trap '' TERM; sleep 1000 & wait; sleep 1000"),
        ]
        for run in runs:
            await run.said("TASK_RUNNING")
        local.process.send_signal(signal.SIGTERM)
        self.assertEqual(await local.ended(), 0, local.output)
        for run in runs:
            run.process.kill()
            run.process.wait(60)
        left = processes.below(self.directory)
        self.assertEqual(left, [], processes.described(left))
        self.assertEqual([path for path in self.directory.iterdir() if path.is_dir()], [])

    async def test_port_that_is_taken(self) -> None:
        local = await self.local()
        second = Command(self.directory, "local", f"--port={self.address.partition(':')[2]}")
        self.assertEqual(await second.ended(), 1)
        self.assertEqual(
            second.output,
            f"mesoskit local: cannot listen on {self.address}: Address already in use\n",
        )
        local.process.send_signal(signal.SIGINT)
        self.assertEqual(await local.ended(), 0)

    async def test_sandboxes_are_kept_where_they_were_asked_for(self) -> None:
        work = self.directory / "work"
        local = await self.local(f"--work_dir={work}")
        run = self.execute("--name=t", "--command=echo said")
        self.assertEqual(await run.ended(), 0, run.output)
        local.process.send_signal(signal.SIGINT)
        self.assertEqual(await local.ended(), 0)
        [stdout] = [path for path in work.rglob("stdout") if "latest" not in path.parts]
        self.assertEqual(stdout.read_text(), "said\n")
