"""C{mesoskit local}: what its agents offer, and what it must not touch when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from signal import SIGKILL

from mesoskit.agent.launcher_proc import process
from mesoskit.cli.local import FLAGS
from mesoskit.cli.local_cluster import end_containers_below, end_launcher, own_resources
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase


class ResourcesTests(SynchronousTestCase):
    """Agents on one machine."""

    def shares(self, *flags: str) -> list[str]:
        values = FLAGS.parse(flags)
        return [own_resources(values, number) for number in range(values.agents)]

    def test_no_two_agents_offer_the_same_port(self) -> None:
        for number in (1, 2, 3, 100):
            shares = [Resources.parse(text) for text in self.shares(f"--agents={number}")]
            total = sum(last - first + 1 for each in shares for first, last in each.ranges("ports"))
            together = Resources.sum(shares)
            self.assertEqual(
                total, sum(last - first + 1 for first, last in together.ranges("ports"))
            )
            self.assertTrue(Resources.parse("ports:[31000-32000]").contains(together))

    def test_what_is_given_is_kept(self) -> None:
        self.assertEqual(
            self.shares("--agents=2", "--resources=cpus:1"),
            ["cpus:1;ports:[31000-31499]", "cpus:1;ports:[31500-31999]"],
        )
        for given in ("ports:[1-2]", '[{"name": "cpus"}]'):
            self.assertEqual(self.shares(f"--resources={given}"), [given])

    def test_names_of_mesos_local(self) -> None:
        self.assertEqual(FLAGS.parse(["--num_slaves=3"]).agents, 3)


class EndTests(SynchronousTestCase):
    """The last sweep."""

    def sleeper(self, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "1000"], env={"PATH": os.defpath, **variables})
        self.addCleanup(process.wait, 60)
        self.addCleanup(process.kill)
        return process

    def test_a_launcher_ends_and_whoever_has_its_pid_now_does_not(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        end_launcher(directory)
        for late in (0, 1):
            sleeper = self.sleeper()
            found = process(sleeper.pid)
            assert found is not None
            record = {"pid": sleeper.pid, "start": found.start - late}
            (directory / "launcher.json").write_text(json.dumps(record))
            end_launcher(directory)
            if late:
                self.assertIsNone(sleeper.poll())
            else:
                self.assertEqual(sleeper.wait(60), -SIGKILL)

    def test_containers_of_this_cluster_end_and_nothing_else(self) -> None:
        ours, others = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        ours.mkdir()
        inside = self.sleeper(MESOS_SANDBOX=f"{ours}/agent-1/slaves/S0/x")
        executor = self.sleeper(MESOS_DIRECTORY=f"{ours}/agent-1/slaves/S0/y")
        outside = [
            self.sleeper(MESOS_SANDBOX=f"{others}/agent-1"),
            self.sleeper(MESOS_SANDBOX=f"{ours}-other/agent-1"),
            self.sleeper(OTHER=f"{ours}/agent-1"),
        ]
        end_containers_below(ours)
        self.assertEqual(inside.wait(60), -9)
        self.assertEqual(executor.wait(60), -9)
        self.assertEqual([process.poll() for process in outside], [None] * 3)


class NothingTests(SynchronousTestCase):
    """A cluster that cannot start."""

    def test_says_why_and_leaves_nothing(self) -> None:
        scratch = Path(self.mktemp()).absolute()
        scratch.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "mesoskit.cli", "local", "--resources=cpus:x", "--port=0"],
            env={**os.environ, "TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr,
            "mesoskit local: --resources: Bad type for resource cpus value x type TEXT\n",
        )
        self.assertEqual(list(scratch.iterdir()), [])
