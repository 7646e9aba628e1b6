"""A task's life again and again, with an agent that is killed one step later each time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from mesoskit.driver import Offer, TaskHandle, TaskState
from tests.cluster import asking, processes
from tests.cluster.harness import AgentDaemon, Cluster, ClusterTestCase
from tests.cluster.ledger import Ledger
from tests.cluster.steps import ARMED, ISOLATOR, ORDER, TAKEN
from tests.cluster.waiting import until, until_async

MOST: Final = 500
"""Steps that no task takes."""

AGENTS: Final = 3
"""So many are killed at a time, each at another step."""

Launch = Callable[[Ledger, Offer, str], Deferred[list[TaskHandle]]]
"""Launches a task of that id, or a group that has one, on that offer."""

Left = Callable[[AgentDaemon], object]

RUNNING: Final = "TASK_RUNNING"
KILLED: Final = "TASK_KILLED"


class StepTestCase(ClusterTestCase):
    """Tests of what is left of a task, at whichever step of its life its agent was killed."""

    timeout = 1800

    async def at_every_step(
        self,
        flags: Mapping[str, object],
        launch: Launch,
        left: Left = lambda agent: None,
        every: int = 1,
    ) -> None:
        """
        Launch a task, and kill it when it runs, until an agent was there to see the end of it.

        All others were killed at some step. Each time the next agent has to tell of the task, to
        end it when it is asked to, and to leave nothing: no cgroup, process, mount or note.

        @param flags: of the agents; isolators among them.
        @param left: returns what else should not be there in the end; nothing, where it is not.
        @param every: 2 for every other step, and so on.
        """
        root = f"mesoskit-steps-{os.getpid()}"
        cluster = self.cluster()
        isolation = str(flags.get("isolation", "posix/cpu,posix/mem"))
        given = {**flags, "isolation": f"{isolation},{ISOLATOR}"}
        cluster.make_master().start()
        for number in range(AGENTS):
            own = f"{root}-{number}"
            self.addCleanup(processes.sweep_cgroups, own)
            cluster.make_agent(f"a{number}", {**given, "cgroups_root": own}).start()
        await cluster.master.ready()
        await cluster.registered()
        ledger = cluster.framework(fields={"checkpoint": True})
        await ledger.framework.when_subscribed()
        runs = [
            _Run(cluster, ledger, agent, launch, left).all(1 + number * every, AGENTS * every)
            for number, agent in enumerate(cluster.agents.values())
        ]
        over = [Deferred.fromCoroutine(run) for run in runs]
        results: list[tuple[bool, Any]] = await DeferredList(over, consumeErrors=True)
        for succeeded, failure in results:
            if not succeeded:
                failure.raiseException()


class _Run:
    """One agent, which is killed at some of the steps."""

    def __init__(
        self, cluster: Cluster, ledger: Ledger, agent: AgentDaemon, launch: Launch, left: Left
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._agent = agent
        self._launch = launch
        self._left = left
        self._last = ""

    async def all(self, first: int, distance: int) -> None:
        """Kill it at one step after the other."""
        for step in range(first, MOST, distance):
            if not await self._killed_at(step):
                return
        raise AssertionError(f"more than {MOST} steps: {self._last}")

    async def _killed_at(self, step: int) -> bool:
        """Let a task live, and have the agent killed; return whether it was before all was done."""
        agent, ledger, name = self._agent, self._ledger, f"t{step}"
        agent_id = os.path.basename(os.readlink(agent.work_dir / "slaves" / "latest"))
        offer = await ledger.offer(agent_id)
        (agent.directory / ORDER).write_text(json.dumps(step))
        taken = agent.directory / TAKEN
        taken.unlink(missing_ok=True)
        agent.signal(ARMED)
        await until("steps are counted", taken.exists)
        handles = await self._launch(ledger, offer, name)
        await self._until("the agent is killed, or its task runs", lambda: self._is(name, RUNNING))
        for handle in handles:
            handle.kill()
        await self._until("the agent is killed, or its task over", lambda: self._is(name, KILLED))
        killed = not agent.running
        if not killed:
            await agent.kill()
        self._last = f"{agent.directory.name}: {taken.read_text()}"
        agent.start()
        await agent.ready()
        await until_async("the agent is back", self._back, seen=self._cluster.logs)
        await self._until("the task is told of", lambda: self._told(name))
        for handle in handles:
            handle.kill()
        await self._until("the task is over", lambda: all(one.over for one in handles))
        await self._until("nothing is left", self._clean)
        return killed

    async def _until(self, what: str, condition: Callable[[], object]) -> None:
        def seen() -> str:
            return f"{self._last}; left: {list(self._remains())}"

        await until(what, condition, interval=0.1, seen=seen)

    def _is(self, name: str, state: str) -> bool:
        """Whether the agent is dead, or has told this of the task and nothing is left to do."""
        if not self._agent.running:
            return True
        if state not in self._ledger.states(name):
            return False
        return state == RUNNING or (self._clean() and not self._agent.pending())

    async def _back(self) -> bool:
        return bool((await asking.metrics(self._agent.port))["slave/registered"])

    def _told(self, name: str) -> bool:
        known = self._ledger.statuses[name] or self._ledger.answers[name]
        return any(TaskState(status.state) is not TaskState.TASK_STARTING for status in known)

    def _clean(self) -> bool:
        """Tell whether nothing is there that should not when no task is."""
        return next(self._remains(), None) is None

    def _remains(self) -> Iterator[object]:
        """Give what should not be there; what is cheap to look for comes first."""
        agent = self._agent
        notes = agent.runtime_dir / "isolated"
        if notes.exists():
            yield from os.listdir(notes)
        yield from Path("/sys/fs/cgroup").glob(f"*/{agent.flags['cgroups_root']}/*/")
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if f" {agent.directory}/" in line:
                yield line
        yield from filter(None, [self._left(agent)])
        yield from processes.below(agent.work_dir / "slaves")
