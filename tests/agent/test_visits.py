"""A launcher that is in a container's cgroup for as long as it starts something there."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any
from unittest import skipIf, skipUnless

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.launcher_cgroups import Visits, come_back, join, kill_all, pids_in
from mesoskit.model.ids import ContainerId
from tests.agent.real import RealTestCase, until
from tests.base import SynchronousTestCase
from tests.cluster.processes import sweep_cgroups

A = ContainerId("a")
FREEZER = Path("/sys/fs/cgroup/freezer")
UNIFIED = next(
    (
        Path(at)
        for at in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
        if Path(at, "cgroup.procs").exists()
    ),
    Path("/nowhere"),
)
NUMBERS = count()
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")
version_1 = skipUnless(FREEZER.is_dir(), "no cgroups of version 1")
version_2 = skipUnless(UNIFIED.is_dir(), "no cgroups of version 2")


def cgroups_of(pid: int) -> str:
    """Return in which cgroups a process is."""
    return Path(f"/proc/{pid}/cgroup").read_text()


class VisitTestCase(RealTestCase):
    """A launcher, and a cgroup that is gone afterwards."""

    above = FREEZER

    def setUp(self) -> None:
        name = f"mesoskit-test-{os.getpid()}-visit-{next(NUMBERS)}"
        self.addCleanup(sweep_cgroups, name)
        self.group = self.above / name
        self.group.mkdir()
        super().setUp()

    @property
    def alone(self) -> dict[str, Any]:
        """What is asked for a container that is to be in the cgroup, and nothing else."""
        return {"cgroups": [str(self.group)], "kill": str(self.group)}


class StartTests:
    """Containers, of either version. A subclass says which."""

    assertEqual: Any
    assertIn: Any
    assertRaisesRegex: Any
    alone: dict[str, Any]
    group: Path
    launcher: Any
    output: Any
    spec: Any
    started: Any

    async def test_all_of_a_container_is_born_there_and_the_launcher_is_back_where_it_was(self):
        agent, ends = await self.started()
        home = cgroups_of(self.launcher())
        await agent.launch(self.spec("a", "cat /proc/self/cgroup; exec sleep 1000"), self.alone)
        await until(lambda: self.output("a").count("\n") == home.count("\n"), 60)
        self.assertIn(f"/{self.group.name}\n", self.output("a"))
        self.assertEqual(cgroups_of(self.launcher()), home)
        self.assertEqual(len(pids_in(str(self.group))), 1)
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", SIGKILL)])
        self.assertEqual(pids_in(str(self.group)), [])

    async def test_it_is_back_where_nothing_could_be_started(self):
        agent, ends = await self.started()
        home = cgroups_of(self.launcher())
        for file, where, why in (
            ("/no/such", self.alone, "cannot execute '/no/such': No such file"),
            ("/bin/sh", {"cgroups": ["/nowhere"], "kill": "/nowhere"}, "isolation: cgroup '/nowh"),
        ):
            spec = self.spec("a", "exit 0")
            with self.assertRaisesRegex(ContainerError, why):
                await agent.launch(
                    spec.__class__(spec.id, (file, "-c", "exit"), spec.sandbox), where
                )
        self.assertEqual(cgroups_of(self.launcher()), home)
        await agent.launch(self.spec("a", "exit 3"), self.alone)
        self.assertEqual(await ends.wait(1), [("a", 3 << 8)])


@not_root
@version_1
class Version1Tests(StartTests, VisitTestCase):
    """The freezer."""


@not_root
@version_2
class Version2Tests(StartTests, VisitTestCase):
    """A group without controllers."""

    above = UNIFIED


@not_root
@version_1
class VisitsTests(SynchronousTestCase):
    """Where to come back to, and who is spared."""

    def setUp(self) -> None:
        self.name = f"mesoskit-test-{os.getpid()}-visit-{next(NUMBERS)}"
        self.addCleanup(sweep_cgroups, self.name)

    def made(self, controller: str) -> str:
        path = f"/sys/fs/cgroup/{controller}/{self.name}"
        os.mkdir(path)
        return path

    def test_home_is_where_we_are(self) -> None:
        home = Visits().home(self.made("freezer"))
        self.assertIn(os.getpid(), pids_in(home))
        self.assertTrue(home.startswith("/sys/fs/cgroup/freezer"))

    def test_a_group_that_holds_to_limits_is_not_visited(self) -> None:
        self.assertEqual(Visits().home(self.made("memory")), "")
        self.assertEqual(Visits().home("/nowhere"), "")

    def test_who_has_no_home_any_more_comes_back_to_what_is_above(self) -> None:
        group = self.made("freezer")
        home = Visits().home(group)
        join(group)
        self.addCleanup(join, home)
        come_back(f"{home}/gone")
        self.assertEqual(pids_in(group), [])
        self.assertIn(os.getpid(), pids_in(home))
        self.assertRaises(OSError, come_back, "/nowhere/at/all")

    def test_a_launcher_that_is_there_is_not_killed_with_the_rest(self) -> None:
        group = self.made("freezer")
        pair = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
        for one in pair:
            self.addCleanup(one.wait)
            self.addCleanup(one.kill)
            Path(group, "cgroup.procs").write_text(str(one.pid))
        kill_all(group, spare=pair[0].pid)
        self.assertEqual(pair[1].wait(60), -SIGKILL)
        self.assertEqual(pair[0].poll(), None)
        self.assertEqual(pids_in(group), [pair[0].pid])
