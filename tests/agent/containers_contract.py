"""What every C{Containers} promises; run on the double and on real processes."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.agent.container import Allotment, ContainerSpec, Limitation, RecoveredContainers
from mesoskit.agent.containers import ContainerError, Containers
from mesoskit.model.ids import ContainerId


class Ends:
    """Hears of ends, for tests to wait for."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | None]] = []
        self.limitations: dict[str, Limitation] = {}
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def __call__(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        if limitation is not None:
            self.limitations[container] = limitation
        self.told.append((container, status))
        for count, waiting in list(self._waiting):
            if len(self.told) >= count:
                self._waiting.remove((count, waiting))
                waiting.callback(None)

    async def wait(self, count: int) -> list[tuple[str, int | None]]:
        """Return all ends that were told, once there are as many."""
        if len(self.told) < count:
            waiting: Deferred[None] = Deferred()
            self._waiting.append((count, waiting))
            await waiting
        return self.told


class ContainersContract:
    """The tests. A subclass says what is tested, as a trial C{TestCase} with a real reactor."""

    assertEqual: Any
    assertIn: Any
    assertNotIn: Any
    assertGreater: Any
    assertGreaterEqual: Any
    fail: Any

    #: What the pid of a container is at least that may have ended before anybody could look.
    least_pid = 2

    def agent(self, ends: Ends) -> Containers:
        """Return the containers as a new agent process gets them."""
        raise NotImplementedError

    def sandbox(self, name: str) -> str:
        """Return the path of a sandbox that exists."""
        raise NotImplementedError

    async def until_gone(self, pid: int) -> None:
        """Return when a process has ended that may not outlive its agent, and did."""
        raise NotImplementedError

    def spec(self, name: str, command: str, **more: Any) -> ContainerSpec:
        """Return a container of a shell command."""
        return ContainerSpec(
            ContainerId(name),
            ("sh", "-c", command),
            self.sandbox(name),
            (("PATH", "/usr/bin:/bin"),),
            file="/bin/sh",
            **more,
        )

    async def started(self) -> tuple[Containers, Ends]:
        """Return containers at work, as after an agent's start, and what hears of ends."""
        ends = Ends()
        agent = self.agent(ends)
        await agent.start()
        await agent.recover()
        return agent, ends

    async def refused(self, agent: Containers, spec: ContainerSpec) -> str:
        """Return why a container cannot be launched."""
        try:
            await agent.launch(spec)
        except ContainerError as error:
            return str(error)
        raise AssertionError(f"{spec} was launched")

    async def test_an_end_is_told_with_its_status_after_the_launch(self):
        agent, ends = await self.started()
        self.assertGreaterEqual(await agent.launch(self.spec("a", "exit 3")), self.least_pid)
        self.assertEqual(ends.told, [])
        self.assertEqual(await ends.wait(1), [("a", 3 << 8)])

    async def test_ends_are_told_before_anybody_has_recovered(self):
        ends = Ends()
        agent = self.agent(ends)
        await agent.start()
        await agent.launch(self.spec("a", "exit 0"))
        self.assertEqual(await ends.wait(1), [("a", 0)])
        self.assertEqual(await agent.recover(), RecoveredContainers())

    async def test_a_refused_launch_tells_no_end_and_may_be_repeated(self):
        agent, ends = await self.started()
        nothing = ContainerSpec(ContainerId("a"), (), self.sandbox("a"))
        self.assertIn("argv", await self.refused(agent, nothing))
        await agent.launch(self.spec("a", "exit 1"))
        self.assertEqual(await ends.wait(1), [("a", 1 << 8)])

    async def test_a_repeated_launch_starts_nothing(self):
        agent, ends = await self.started()
        pid = await agent.launch(self.spec("a", "sleep 1000"))
        self.assertEqual(await agent.launch(self.spec("a", "exit 5")), pid)
        agent.signal(ContainerId("a"), SIGTERM)
        self.assertEqual(await ends.wait(1), [("a", SIGTERM)])
        self.assertEqual(await agent.launch(self.spec("a", "exit 5")), pid)
        agent.forget(ContainerId("a"))
        await agent.launch(self.spec("b", "exit 6"))
        self.assertEqual(await ends.wait(2), [("a", SIGTERM), ("b", 6 << 8)])

    async def test_a_signal_to_what_does_not_run_is_nothing(self):
        agent, ends = await self.started()
        agent.signal(ContainerId("nobody"), SIGTERM)
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        agent.signal(ContainerId("a"), SIGTERM)
        await agent.destroy(ContainerId("a"))
        self.assertEqual(ends.told, [("a", 0)])

    async def test_destroy_kills_and_fires_after_the_end_was_told(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000"))
        await agent.destroy(ContainerId("a"))
        self.assertEqual(ends.told, [("a", SIGKILL)])
        await agent.destroy(ContainerId("a"))
        self.assertEqual(ends.told, [("a", SIGKILL)])

    async def test_destroy_of_what_is_unknown_fires(self):
        agent, ends = await self.started()
        await agent.destroy(ContainerId("nobody"))
        self.assertEqual(ends.told, [])

    async def test_destroy_may_overtake_a_launch(self):
        agent, ends = await self.started()
        launching = agent.launch(self.spec("a", "sleep 1000"))
        await agent.destroy(ContainerId("a"))
        self.assertGreaterEqual(await launching, self.least_pid)
        self.assertEqual(ends.told, [("a", SIGKILL)])

    async def test_usage_is_of_what_runs(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000"))
        await agent.launch(self.spec("b", "exit 0"))
        await ends.wait(1)
        usage = await agent.usage()
        self.assertEqual(list(usage), ["a"])
        self.assertGreater(usage[ContainerId("a")].processes, 0)

    async def test_containers_outlive_the_agent(self):
        first, old = await self.started()
        pid = await first.launch(self.spec("runs", "sleep 1000"))
        await first.launch(self.spec("ended", "exit 2"))
        await old.wait(1)
        await first.launch(self.spec("forgotten", "exit 2"))
        await old.wait(2)
        first.forget(ContainerId("forgotten"))
        await first.usage()  # all that was asked for has arrived when this is answered
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        self.assertEqual(
            await second.recover(),
            RecoveredContainers({ContainerId("runs"): pid}, {ContainerId("ended"): 2 << 8}),
        )
        await second.destroy(ContainerId("runs"))
        self.assertEqual(ends.told, [("runs", SIGKILL)])
        self.assertEqual(len(old.told), 2)

    async def test_what_may_not_outlive_its_agent_ends_without_one(self):
        first, _ = await self.started()
        short = await first.launch(self.spec("short", "sleep 1000", patience=0.0))
        pids = {
            ContainerId(name): await first.launch(self.spec(name, "sleep 1000", patience=patience))
            for name, patience in (("long", 1000.0), ("eternal", None))
        }
        await first.stop()
        await self.until_gone(short)
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        gone = ContainerId("short")
        found = await second.recover()
        self.assertEqual(found.abandoned, {gone})
        # Its process is gone, but whoever has to take note of that may be about to.
        if found.running.pop(gone, None) is not None:
            found.exited[gone] = (await ends.wait(1))[0][1]
        self.assertEqual((found.running, found.exited), (pids, {gone: SIGTERM}))

    async def test_an_end_before_recovery_is_told_by_recovery_alone(self):
        first, _ = await self.started()
        await first.launch(self.spec("a", "sleep 1000"))
        await first.stop()
        ends = Ends()
        second = self.agent(ends)
        await second.start()
        await second.destroy(ContainerId("a"))
        expected = RecoveredContainers({}, {ContainerId("a"): SIGKILL})
        self.assertEqual(await second.recover(), expected)
        self.assertEqual(ends.told, [])

    async def test_updating_what_is_over_or_unknown_does_nothing(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        await agent.update(ContainerId("a"), Allotment(cpus=500))
        await agent.update(ContainerId("nobody"), Allotment(cpus=500))
        self.assertEqual(ends.limitations, {})

    async def test_a_stopped_agent_launches_nothing(self):
        agent, _ = await self.started()
        await agent.stop()
        self.assertIn("stopping", await self.refused(agent, self.spec("a", "exit 0")))


class NestingContract(ContainersContract):
    """The same of those that have containers within one another, whatever engine makes them."""

    async def test_what_is_nested_ends_with_what_it_is_in(self):
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "sleep 1000"))
        for name, around in (("b", "a"), ("c", "b")):
            await agent.launch(self.spec(name, "sleep 1000", parent=ContainerId(around)))
        await agent.destroy(ContainerId("a"))
        self.assertEqual({name for name, _ in await ends.wait(3)}, {"a", "b", "c"})
