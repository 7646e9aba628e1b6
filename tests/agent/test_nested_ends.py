"""What is nested in a container ends with it, whether an agent is there or not."""

from __future__ import annotations

import os
from signal import SIGKILL, SIGTERM
from typing import Any

from mesoskit.agent import launcher
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends
from tests.agent.real import RealTestCase, alive, until

A, B, C = ContainerId("a"), ContainerId("b"), ContainerId("c")


class NestedEndsTests(RealTestCase):
    """Containers without cgroups, one in another."""

    async def nested(self) -> tuple[LaunchedContainers, Ends, list[int]]:
        """Return three containers in one another, and where they run."""
        agent, ends = await self.started()
        pids = [await agent.launch(self.spec("a", "exec sleep 1000"))]
        pids.append(await agent.launch(self.spec("b", "sleep 1000", parent=A)))
        pids.append(await agent.launch(self.spec("c", "sleep 1000 & sleep 1000", parent=B)))
        return agent, ends, pids

    async def test_it_ends_when_what_it_is_in_has_done_its_work(self) -> None:
        _, ends, pids = await self.nested()
        os.kill(pids[0], SIGTERM)
        told = dict(await ends.wait(3))
        self.assertEqual(told, {"a": SIGTERM, "b": SIGKILL, "c": SIGKILL})

    async def test_it_ends_while_no_agent_is_there(self) -> None:
        agent, _, pids = await self.nested()
        await agent.stop()
        os.kill(pids[0], SIGKILL)
        await self.written_down("a", "b", "c")
        self.assertFalse(any(map(alive, pids)))
        later = self.agent(Ends())
        await later.start()
        found = await later.recover()
        self.assertEqual(found.exited, {A: SIGKILL, B: SIGKILL, C: SIGKILL})

    async def test_the_next_launcher_knows_what_is_nested(self) -> None:
        agent, ends, pids = await self.nested()
        os.kill(self.launcher(), SIGKILL)
        await agent.usage()  # waits for a new one
        self.assertTrue(all(map(alive, pids)))
        os.kill(pids[0], SIGKILL)
        self.assertEqual({name for name, _ in await ends.wait(3)}, {"a", "b", "c"})
        self.assertFalse(any(map(alive, pids)))

    async def test_what_ended_with_its_launcher_takes_along_what_is_nested(self) -> None:
        agent, _, pids = await self.nested()
        await agent.stop()
        os.kill(self.launcher(), SIGKILL)
        os.kill(pids[0], SIGKILL)
        await until(lambda: not alive(pids[0]), 60)
        later = self.agent(Ends())
        await later.start()
        await until(lambda: not any(map(alive, pids)), 60)

    async def test_one_that_ends_alone_leaves_the_others(self) -> None:
        agent, ends, pids = await self.nested()
        await agent.destroy(B)
        self.assertEqual({name for name, _ in await ends.wait(2)}, {"b", "c"})
        agent.forget(B)
        self.assertTrue(alive(pids[0]))

    async def test_nothing_starts_in_what_has_ended(self) -> None:
        agent, ends = await self.started()
        await agent.launch(self.spec("a", "exit 0"))
        await ends.wait(1)
        with self.assertRaisesRegex(ContainerError, "the container a .* does not run"):
            await agent.launch(self.spec("b", "sleep 1000", parent=A))
        # Of what is not its own a launcher knows nothing, and takes it as it comes.
        agent.forget(A)
        await agent.launch(self.spec("c", "exit 0", parent=A))
        self.assertEqual(await ends.wait(2), [("a", 0), ("c", 0)])

    async def test_a_launcher_of_before_an_upgrade_nests_nothing(self) -> None:
        connected = LaunchedContainers._compare

        def old(self: LaunchedContainers, rows: list[Any]) -> None:
            self._version = launcher.VERSION - 1
            connected(self, rows)

        self.patch(LaunchedContainers, "_compare", old)
        agent, ends, pids = await self.nested()
        await agent.destroy(A)
        self.assertEqual(ends.told, [("a", SIGKILL)])
        self.assertTrue(all(map(alive, pids[1:])))
