"""Containers in cgroups: held to what they were given, found and ended whole, as root.

The containers' suite is run on them, too. All that these tests make is below a cgroup of their own,
which is gone at the end of each.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mesoskit.agent.container import Allotment, ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.cgroups import CgroupError, find, table
from mesoskit.agent.containers.cgroups_v1 import CgroupsV1
from mesoskit.agent.containers.isolated import IsolatedContainers
from mesoskit.agent.containers.isolator_cgroups import CgroupsIsolator, controllers_of
from mesoskit.agent.containers.isolators import Isolated, Isolator, Preparation
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.launcher_cgroups import pids_in
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests.agent.containers_contract import Ends, NestingContract
from tests.agent.real import REACTOR, RealTestCase, alive, until

A, B = ContainerId("a"), ContainerId("b")
MB = 1 << 20
not_root = skipIf(os.geteuid() != 0, "only root can make cgroups")

NUMBERS = count()
HOG = "x = bytearray(80 << 20); print(len(x), flush=True); import time; time.sleep(1000)"
BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


class IsolatedTestCase(RealTestCase):
    """Isolated containers over a launcher, as an agent has them.

    @ivar settings: the flags of the agents to come.
    @ivar more: isolators besides that of cgroups.
    @ivar hierarchy: where the cgroups are that are used.
    """

    hierarchy = "/sys/fs/cgroup"

    settings = IsolationSettings(
        isolation=("cgroups/cpu", "cgroups/mem", "cgroups/pids"), linux=True, cgroups_pids_limit=50
    )

    def setUp(self) -> None:
        self.root = f"mesoskit-test-{os.getpid()}-{next(NUMBERS)}"
        self.more: list[Any] = []
        super().setUp()

    def agent(self, ends: Ends) -> Any:
        cgroups = find(self.hierarchy, self.root)
        controllers = controllers_of(self.settings.isolation, cgroups)
        isolator = CgroupsIsolator(REACTOR, cgroups, controllers, self.settings)
        agent = IsolatedContainers(
            REACTOR,
            [isolator, *self.more],
            os.path.join(self.directory, "isolated"),
            self.in_thread,
            ends,
        )
        agent.inner = LaunchedContainers(
            REACTOR, self.runtime, self.users, self.in_thread, agent.exited, linger=0.1
        )
        self.agents.append(agent)  # type: ignore[arg-type]
        return agent

    async def clean_up(self) -> None:
        await super().clean_up()
        cgroups = find(self.hierarchy, self.root)
        self.assertEqual(cgroups.names(), [])
        cgroups.remove("")

    def group(self, controller: str, name: str = "a") -> Path:
        return Path("/sys/fs/cgroup", controller, self.root, name)

    def python(self, name: str, code: str, **more: Any) -> ContainerSpec:
        """Return a container of a Python program."""
        return ContainerSpec(
            ContainerId(name),
            (sys.executable, "-S", "-c", code),
            self.sandbox(name),
            (("PATH", "/usr/bin:/bin"),),
            **more,
        )


@not_root
class IsolatedContainersTests(IsolatedTestCase, NestingContract):
    """The suite of all containers."""

    async def until_gone(self, pid: int) -> None:
        await until(lambda: not alive(pid))


@not_root
class LimitTests(IsolatedTestCase):
    """What containers are held to."""

    def number(self, controller: str, file: str) -> int:
        return int((self.group(controller) / file).read_text())

    async def test_numbers(self) -> None:
        agent, _ = await self.started()
        given = Allotment(cpus=500, mem=64 * MB)
        await agent.launch(self.spec("a", "sleep 1000", allotment=given))
        self.assertEqual(self.number("cpu", "cpu.shares"), 512)
        self.assertEqual(self.number("cpu", "cpu.cfs_quota_us"), -1)
        self.assertEqual(self.number("memory", "memory.limit_in_bytes"), 64 * MB)
        self.assertEqual(self.number("memory", "memory.soft_limit_in_bytes"), 64 * MB)
        self.assertEqual(self.number("pids", "pids.max"), 50)
        self.assertNotEqual(pids_in(str(self.group("freezer"))), [])
        await agent.update(A, Allotment(2000, 32 * MB, cpus_limit=3000, mem_limit=128 * MB))
        self.assertEqual(self.number("cpu", "cpu.shares"), 2048)
        self.assertEqual(self.number("cpu", "cpu.cfs_quota_us"), 300_000)
        self.assertEqual(self.number("memory", "memory.limit_in_bytes"), 128 * MB)
        await agent.update(A, Allotment(1, 1))
        self.assertEqual(self.number("cpu", "cpu.shares"), 2)
        self.assertEqual(self.number("memory", "memory.limit_in_bytes"), 128 * MB)
        self.assertEqual(self.number("memory", "memory.soft_limit_in_bytes"), 32 * MB)
        await agent.destroy(A)
        self.assertFalse(self.group("memory").exists())

    async def test_a_memory_hog_is_killed_at_its_limit_and_its_neighbour_is_not(self) -> None:
        agent, ends = await self.started()
        await agent.launch(
            self.spec("b", "exec sleep 1000", allotment=Allotment(cpus=1000, mem=32 * MB))
        )
        await agent.launch(self.python("a", HOG, allotment=Allotment(cpus=1000, mem=48 * MB)))
        self.assertEqual(await ends.wait(1), [("a", SIGKILL)])
        limitation = ends.limitations["a"]
        self.assertEqual(limitation.reason, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
        first = "Memory limit exceeded: Requested: 48MB Maximum Used: 48MB"
        self.assertEqual(limitation.message.splitlines()[0], first)
        self.assertIn("MEMORY STATISTICS", limitation.message)
        ((name, amount),) = limitation.resources
        self.assertEqual(name, "mem")
        self.assertAlmostEqual(amount, 48, delta=1)
        self.assertEqual(list(await agent.usage()), ["b"])

    async def test_a_hog_that_is_killed_before_anybody_waits_for_that_is_found(self) -> None:
        watch = CgroupsV1.watch_memory

        def late(cgroups: CgroupsV1, name: str) -> int:
            deadline = time.monotonic() + 60
            while not cgroups.killed_for_memory(name) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.2)  # nobody is short of memory any more
            return watch(cgroups, name)

        self.patch(CgroupsV1, "watch_memory", late)
        agent, ends = await self.started()
        hog = f"{sys.executable} -S -c '{HOG}'; exec sleep 1000"
        await agent.launch(self.spec("a", hog, allotment=Allotment(cpus=1000, mem=32 * MB)))
        self.assertEqual(await ends.wait(1), [("a", SIGKILL)])
        self.assertIn("Memory limit exceeded", ends.limitations["a"].message)

    async def test_a_hog_takes_its_whole_container_along(self) -> None:
        agent, ends = await self.started()
        hog = f"{sys.executable} -S -c '{HOG}'"
        spec = self.spec(
            "a", f"sleep 1000 & {hog}; exec sleep 1000", allotment=Allotment(cpus=1000, mem=1)
        )
        await agent.launch(spec)
        self.assertEqual(await ends.wait(1), [("a", SIGKILL)])
        self.assertIn("Requested: 32MB", ends.limitations["a"].message)

    async def test_a_hog_is_found_by_the_next_agent(self) -> None:
        first, _ = await self.started()
        await first.launch(self.python("a", HOG, allotment=Allotment(cpus=1000, mem=48 * MB)))
        await first.stop()
        await until(lambda: not pids_in(str(self.group("freezer"))))
        second = self.agent(Ends())
        await second.start()
        found = await second.recover()
        self.assertEqual(found.exited, {A: SIGKILL})
        self.assertIn("Memory limit exceeded", found.limitations[A].message)
        self.assertFalse(self.group("memory").exists())

    async def test_no_limit(self) -> None:
        agent, _ = await self.started()
        given = Allotment(1000, 32 * MB, mem_limit=-1)
        await agent.launch(self.python("a", HOG, allotment=given))
        await until(lambda: self.output("a"))
        usage = (await agent.usage())[A]
        self.assertGreater(usage.rss_bytes, 80 * MB)
        for name in ("mem_critical_pressure_counter", "mem_kmem_usage_bytes"):
            self.assertGreaterEqual(usage.figures[name], 0)
        self.assertNotIn("mem_limit_bytes", usage.figures)
        await agent.destroy(A)

    async def test_limits_beyond_the_kernels_numbers_are_refused_with_what_could_be(self) -> None:
        agent, ends = await self.started()
        for given, why in (
            (Allotment(mem_limit=round(1e306)), r"mem is too large: 9.*more than 8796093022207;"),
            (Allotment(cpus_limit=10**12), r"cpus is too large: 1e\+09 is more than 175921860;"),
        ):
            with self.assertRaisesRegex(ContainerError, why):
                await agent.launch(self.spec("a", "true", allotment=given))
        largest = Allotment(cpus_limit=175_921_860_000, mem_limit=(1 << 63) - 1)
        await agent.launch(self.spec("a", "sleep 1000", allotment=largest))
        with self.assertRaisesRegex(ContainerError, "mem is too large"):
            await agent.update(A, Allotment(mem_limit=1 << 63))
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", SIGKILL)])

    async def test_half_a_cpu(self) -> None:
        agent, _ = await self.started()
        given = Allotment(cpus=1000, cpus_limit=500)
        await agent.launch(self.python("a", "while True: pass", allotment=given))
        await deferLater(REACTOR, 0.3)
        # A CPU that a hypervisor takes away for a moment may count as used, and is paid back later:
        # it is a stretch of several that must be right.
        parts = [await self.part_of_a_cpu()]
        while len(parts) < 8 and not 0.475 < parts[-1] < 0.525:
            parts.append(await self.part_of_a_cpu())
        await agent.destroy(A)
        self.assertTrue(0.475 < parts[-1] < 0.525, parts)

    async def part_of_a_cpu(self) -> float:
        """Return how much of one it gets for two seconds; half of one where it may get less."""
        first = await self.next_period()
        await deferLater(REACTOR, 2.0)
        last = await self.next_period()
        periods, throttled, used = (
            after - before for before, after in zip(first, last, strict=True)
        )
        part = used / 1e9 / (periods * 0.1)
        # Where others keep the machine busy.
        return 0.5 if part < 0.5 and throttled < periods else part

    async def next_period(self) -> tuple[int, int, int]:
        """Return, as a period begins, how many there were, how many throttled, the time used."""

        def read() -> tuple[int, int, int]:
            counted = table((self.group("cpu") / "cpu.stat").read_text())
            used = self.number("cpuacct", "cpuacct.usage")
            return counted["nr_periods"], counted["nr_throttled"], used

        before = read()[0]
        await until(lambda: read()[0] > before)
        return read()

    async def test_a_fork_bomb_is_held(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.python("a", BOMB))
        await until(lambda: len(pids_in(str(self.group("freezer")))) == 50)
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", SIGKILL)])

    async def test_what_is_nested_shares_its_parents_limits_and_ends_alone(self) -> None:
        agent, ends = await self.started()
        await agent.launch(
            self.spec("a", "exec sleep 1000", allotment=Allotment(cpus=1000, mem=48 * MB))
        )
        await agent.launch(self.spec("b", "cat /proc/self/cgroup", parent=A))
        await ends.wait(1)
        joined = [line.split(":")[1:] for line in self.output("b").splitlines()]
        self.assertIn(["memory", f"/{self.root}/a"], joined)
        self.assertIn(["freezer", f"/{self.root}/a/mesos/b"], joined)
        self.assertEqual(list(await agent.usage()), ["a"])
        await agent.destroy(A)

    async def test_what_machines_do_not_have_is_refused(self) -> None:
        cgroups = find("/sys/fs/cgroup", self.root)
        cgroups.controllers = frozenset({"cpu"})
        with self.assertRaisesRegex(CgroupError, r"no cgroups of memory.*there are cpu"):
            controllers_of(["cgroups/mem"], cgroups)
        with self.assertRaisesRegex(CgroupError, "no cgroups in /nowhere"):
            find("/nowhere", self.root)


class Failing(Isolator):
    """Fails where a test wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.at = ""
        self.cleaned = 0

    def prepare(self, container: Isolated) -> Preparation:
        if self.at == "prepare":
            raise ContainerError("not prepared")
        return Preparation(environment=(("COLOR", "red"),))

    def isolated(self, container: Isolated) -> None:
        if self.at == "isolated":
            raise ContainerError("not isolated")

    def cleanup(self, container: Isolated) -> bool:
        self.cleaned += 1
        return self.cleaned > 2


@not_root
class StepTests(IsolatedTestCase):
    """What is left where something ends in the midst of a launch."""

    def setUp(self) -> None:
        super().setUp()
        self.failing = Failing()
        self.more.append(self.failing)

    async def test_environment(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "echo $COLOR"))
        await ends.wait(1)
        self.assertEqual(self.output("a"), "red\n")

    async def test_what_fails_leaves_nothing_and_tells_no_end(self) -> None:
        agent, ends = await self.started()
        for self.failing.at in ("prepare", "isolated"):
            with self.assertRaisesRegex(ContainerError, f"not {self.failing.at}"):
                await agent.launch(self.spec("a", "sleep 1000"))
            self.assertFalse(self.group("memory").exists())
        self.failing.at = ""
        await agent.launch(self.spec("a", "exit 3"))
        self.assertEqual(await ends.wait(1), [("a", 3 << 8)])

    async def test_what_is_not_removed_at_once_is_removed_later(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 3"))
        await ends.wait(1)
        self.assertEqual(self.failing.cleaned, 1)
        await until(lambda: not os.listdir(Path(self.directory, "isolated")))
        self.assertEqual(self.failing.cleaned, 3)

    async def test_what_is_being_started_when_the_agent_stops_runs_on(self) -> None:
        agent, _ = await self.started()
        unheard: Any = Deferred()
        asked: list[Any] = []
        launch = agent.inner.launch  # type: ignore[attr-defined]

        def unanswered(*given: Any) -> Any:
            asked.append(launch(*given))
            return unheard

        self.patch(agent.inner, "launch", unanswered)  # type: ignore[attr-defined]
        launching = agent.launch(self.spec("a", "sleep 1000"))
        await until(lambda: asked)
        pid = await asked[0]
        stopping = agent.stop()
        unheard.errback(ContainerError("the agent is stopping"))
        with self.assertRaises(ContainerError):
            await launching
        await stopping
        next_one = self.agent(Ends())
        await next_one.start()
        found = await next_one.recover()
        self.assertEqual(found.running, {A: pid})
        self.assertTrue(alive(pid))
        self.assertIn(pid, pids_in(str(self.group("memory"))))
        await next_one.destroy(A)

    async def test_an_agent_that_is_gone_between_two_steps_leaves_nothing_for_long(self) -> None:
        agent, _ = await self.started()
        never: Any = Deferred()
        for stage in ("isolators", "launcher"):
            if stage == "isolators":
                self.patch(self.failing, "prepare", lambda _: never)
            else:
                self.patch(self.failing, "prepare", lambda _: Preparation())
                self.patch(agent.inner, "launch", lambda *_: never)  # type: ignore[attr-defined]
            agent.launch(self.spec(stage, "sleep 1000"))
            self.assertTrue(self.group("memory", stage).exists())
            # The one that waits is never heard of again.
            next_one = self.agent(Ends())
            await next_one.start()
            await next_one.recover()
            self.assertFalse(self.group("memory", stage).exists())
            await until(lambda: not os.listdir(Path(self.directory, "isolated")))
            await next_one.stop()
