"""Agents whose C{--launcher} is another one than that of the agent before them."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred

from mesoskit.agent.container import RecoveredContainers
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.containers.making import mesos_containers
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_cgroups import Visits, pids_in
from mesoskit.agent.options import AgentOptions
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends
from tests.agent.real import REACTOR, RealTestCase, until
from tests.cluster.processes import sweep_cgroups

A, B = ContainerId("a"), ContainerId("b")
NUMBERS = count()
DAEMON = "(setsid env -i sleep 1000 &); exec sleep 1000"
LINUX = IsolationSettings(linux=True)
POSIX = IsolationSettings()
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")


class ChoiceTestCase(RealTestCase):
    """Containers as flags make them."""

    def setUp(self) -> None:
        self.root = f"mesoskit-test-{os.getpid()}-choice-{next(NUMBERS)}"
        self.addCleanup(sweep_cgroups, self.root)
        super().setUp()

    async def as_flags_say(self, settings: IsolationSettings) -> tuple[Any, RecoveredContainers]:
        """Return containers that have begun, and what they have found."""
        self.ends = Ends()
        options = AgentOptions(
            hostname="h",
            work_dir=self.directory,
            runtime_dir=self.directory,
            isolation=replace(settings, cgroups_root=self.root),
        )
        made: Any = mesos_containers(
            REACTOR,
            options,
            self.runtime,
            self.users,
            self.in_thread,
            self.ends,
            0.1,
            lambda container, facts: None,
        )
        self.agents.append(made)
        await made.start()
        return made, await made.recover()

    def groups(self) -> list[Path]:
        """Return the cgroups of containers."""
        found = Path("/sys/fs/cgroup")
        return [*found.glob(f"*/{self.root}/*/"), *found.glob(f"{self.root}/*/")]

    def notes(self) -> list[str]:
        return os.listdir(os.path.join(self.directory, "isolated"))


@not_root
class ChoiceTests(ChoiceTestCase):
    """Nothing gets lost between two launchers."""

    async def test_linux_takes_hold_of_what_posix_has_started(self) -> None:
        first, _ = await self.as_flags_say(POSIX)
        pid = await first.launch(self.spec("a", "exec sleep 1000"))
        self.assertEqual(self.groups(), [])
        await first.stop()
        second, found = await self.as_flags_say(LINUX)
        self.assertEqual(found.running, {A: pid})
        self.assertEqual(list(await second.usage()), [A])
        await second.launch(self.spec("b", "exec sleep 1000"))
        self.assertEqual([path.name for path in self.groups()], ["b"])
        for name in (A, B):
            await second.destroy(name)
        self.assertEqual(self.ends.told, [("a", 9), ("b", 9)])
        await until(lambda: not self.groups())

    async def test_posix_ends_all_of_what_linux_has_started_and_removes_its_cgroups(self) -> None:
        first, _ = await self.as_flags_say(LINUX)
        pid = await first.launch(self.spec("a", DAEMON))
        (group,) = self.groups()
        await until(lambda: len(pids_in(str(group))) == 2)
        await first.stop()
        second, found = await self.as_flags_say(POSIX)
        self.assertEqual(found.running, {A: pid})
        self.assertEqual(list(await second.usage()), [A])
        await second.launch(self.spec("b", "exec sleep 1000"))
        self.assertEqual(self.groups(), [group])
        await second.destroy(A)
        await until(lambda: not group.exists())
        await second.destroy(B)
        await until(lambda: not self.notes())
        await second.stop()
        # From now on nobody looks for cgroups any more.
        third, _ = await self.as_flags_say(POSIX)
        self.assertIsInstance(third, LaunchedContainers)

    async def test_what_linux_has_started_and_is_over_leaves_no_cgroup_to_posix(self) -> None:
        first, _ = await self.as_flags_say(LINUX)
        await first.launch(self.spec("a", "exec sleep 0.1"))
        os.kill(self.launcher(), 19)
        await first.stop()
        os.kill(self.launcher(), 18)
        _, found = await self.as_flags_say(POSIX)
        self.assertEqual({*found.running, *found.exited}, {A})
        await until(lambda: not self.groups())

    async def test_an_agent_that_stops_removes_first_what_it_can(self) -> None:
        agent, _ = await self.as_flags_say(LINUX)
        for name in "abc":
            await agent.launch(self.spec(name, "exec sleep 1000"))
        self.patch(type(agent), "_cleaned", _slowly(type(agent)._cleaned))
        for name in "ab":
            await agent.destroy(ContainerId(name))
        self.assertEqual(len(self.groups()), 3)
        await agent.stop()
        self.assertEqual([path.name for path in self.groups()], ["c"])
        self.assertEqual(self.notes(), ["c"])

    async def test_a_launcher_that_is_about_to_start_something_is_not_killed_with_it(self) -> None:
        first, _ = await self.as_flags_say(LINUX)
        asked: list[Any] = []

        def launch(*_: Any) -> Deferred[int]:
            asked.append(None)
            return Deferred()  # is not heard of again

        self.patch(first.inner, "launch", launch)
        first.launch(self.spec("a", "exec sleep 1000"))
        await until(lambda: asked)
        (group,) = self.groups()
        home = Visits().home(str(group))
        launcher = self.launcher()
        Path(group, "cgroup.procs").write_text(str(launcher))
        await self.as_flags_say(LINUX)
        self.assertEqual(pids_in(str(group)), [launcher])
        Path(home, "cgroup.procs").write_text(str(launcher))
        await until(lambda: not self.groups(), 60)
        self.assertEqual(self.launcher(), launcher)

    async def test_a_launcher_of_before_an_upgrade_goes_on_where_nobody_has_asked_for_more(
        self,
    ) -> None:
        connected = LaunchedContainers._compare

        def old(self: LaunchedContainers, rows: list[Any]) -> None:
            self._version = 2
            connected(self, rows)

        self.patch(LaunchedContainers, "_compare", old)
        agent, _ = await self.as_flags_say(replace(LINUX, by_default=True))
        await agent.launch(self.spec("a", "exec sleep 1000"))
        (group,) = self.groups()
        self.assertEqual(pids_in(str(group)), [])
        await agent.destroy(A)
        await agent.stop()
        asked, _ = await self.as_flags_say(LINUX)
        with self.assertRaisesRegex(ContainerError, "which isolates nothing"):
            await asked.launch(self.spec("b", "exec sleep 1000"))


def _slowly(cleaned: Any) -> Any:
    """Return what cleans up when the agent is on its way down, and not before."""

    def late(self: Any, isolator: Any, container: Any) -> bool:
        return self._stopped is not None and bool(cleaned(self, isolator, container))

    return late
