"""A framework that writes down all it is told, and compares it with what its tasks did."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesoskit.driver import (
    Framework,
    FrameworkError,
    FrameworkInfo,
    Offer,
    Reason,
    Scheduler,
    TaskHandle,
    TaskInfo,
    TaskState,
    TaskStatus,
    command_task,
    launch_group,
)
from mesoskit.model.tasks import TERMINAL
from tests.cluster import processes
from tests.cluster.waiting import PATIENCE, until


@dataclass(frozen=True, slots=True)
class Mark:
    """A line that a task has written: C{start} or C{end}, of which task, by which process."""

    what: str
    task: str
    pid: int


def marking(task: str, marks: Path, body: str) -> str:
    """Return a shell command that marks its start, does something, and marks its end."""
    file, name = shlex.quote(str(marks)), shlex.quote(task)
    mark = f"{name} $$ $(date +%s.%N) >> {file}"
    return f"echo start {mark}; {body}; result=$?; echo end {mark}; exit $result"


class Ledger(Scheduler):
    """
    A framework and its book.

    @ivar framework: the driver.
    @ivar statuses: all statuses by task, in order, without answers to reconciliations.
    @ivar answers: statuses that answer reconciliations, by task.
    @ivar messages: what executors have said: (agent, executor, data).
    @ivar lost_agents: agents that are gone.
    @ivar lost_executors: (agent, executor, wait status).
    @ivar connections: how often it was subscribed.
    """

    def __init__(self, reactor: Any, master: str, name: str, marks: Path, **options: Any) -> None:
        self.marks_file = marks
        self.statuses: dict[str, list[TaskStatus]] = defaultdict(list)
        self.answers: dict[str, list[TaskStatus]] = defaultdict(list)
        self.messages: list[tuple[str, str, bytes]] = []
        self.lost_agents: list[str] = []
        self.lost_executors: list[tuple[str, str, int]] = []
        self.connections = 0
        self.disconnections = 0
        self.errors: list[str] = []
        self.offers_seen: list[tuple[str, str]] = []
        self.uuids: set[bytes] = set()
        self._offers: dict[str, Offer] = {}
        self._waiting = 0
        info = options.pop("info", None)
        if info is None:
            info = FrameworkInfo(user="", name=name)
        for field, value in options.pop("fields", {}).items():
            setattr(info, field, value)
        self.framework = Framework(reactor, master, info, scheduler=self, **options)
        self.framework.startService()

    async def close(self) -> None:
        """Leave, with all tasks where a master is there to be told."""
        self._offers.clear()
        if not self.framework.running:
            return
        if self.framework.subscribed:
            await self.framework.teardown()
        else:
            await self.framework.stopService()

    # What it is told

    def subscribed(self, framework: Framework) -> None:
        self.connections += 1

    def disconnected(self, framework: Framework, why: str) -> None:
        self.disconnections += 1
        self._offers.clear()

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        for offer in offers:
            self.offers_seen.append((offer.agent_id, offer.hostname))
        if self._waiting:
            self._offers.update((offer.id, offer) for offer in offers)
        else:
            # What is not needed now is left to other frameworks.
            framework.decline(offers, refuse_seconds=3600.0).addErrback(lambda failure: None)

    def offer_rescinded(self, framework: Framework, offer_id: str) -> None:
        self._offers.pop(offer_id, None)

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        if status.uuid:
            assert status.uuid not in self.uuids, "a status was delivered twice"
            self.uuids.add(status.uuid)
        answer = Reason(status.reason) is Reason.REASON_RECONCILIATION
        book = self.answers if answer else self.statuses
        book[status.task_id.value].append(status)

    def framework_message(
        self, framework: Framework, agent_id: str, executor_id: str, data: bytes
    ) -> None:
        self.messages.append((agent_id, executor_id, data))

    def agent_lost(self, framework: Framework, agent_id: str) -> None:
        self.lost_agents.append(agent_id)

    def executor_lost(
        self, framework: Framework, agent_id: str, executor_id: str, status: int
    ) -> None:
        self.lost_executors.append((agent_id, executor_id, status))

    def error(self, framework: Framework, error: FrameworkError) -> None:
        self.errors.append(str(error))

    # What it does

    @property
    def id(self) -> str:
        """The framework's id."""
        return self.framework.id

    def held(self) -> list[Offer]:
        """Return the offers that it has."""
        self._offers = {offer.id: offer for offer in self._offers.values() if offer.held}
        return list(self._offers.values())

    async def offer(self, agent_id: str = "", cpus: float = 0.1, mem: float = 32.0) -> Offer:
        """Return an offer, of an agent or of any, with at least so much."""

        def fitting() -> Offer | None:
            for offer in self.held():
                if agent_id in ("", offer.agent_id) and offer.cpus >= cpus and offer.mem >= mem:
                    return self._offers.pop(offer.id)
            return None

        await self.framework.when_subscribed()
        self._waiting += 1
        try:
            self.framework.revive().addErrback(lambda failure: None)
            offer = await until("an offer", fitting, seen=lambda: (self.errors, self.held()))
        finally:
            self._waiting -= 1
        assert offer is not None
        if not self._waiting and (left := self.held()):
            self._offers.clear()
            self.framework.decline(left, refuse_seconds=3600.0).addErrback(lambda failure: None)
        return offer

    async def launch(
        self, *tasks: TaskInfo, agent_id: str = "", operations: Iterable[Any] = ()
    ) -> list[TaskHandle]:
        """Launch tasks on one agent; returns when the master has taken them."""
        given = [*tasks, *operations]
        while True:
            offer = await self.offer(agent_id, 0.1 * max(1, len(tasks)), 32.0 * max(1, len(tasks)))
            if offer.held:
                return await self.framework.accept(offer, given)

    async def run(self, task: str, body: str, *, agent_id: str = "", **more: Any) -> TaskHandle:
        """Launch a shell command that marks its start and its end."""
        handles = await self.launch(self.task(task, body, **more), agent_id=agent_id)
        return handles[0]

    def task(self, task: str, body: str, **more: Any) -> TaskInfo:
        """Return such a task."""
        return command_task(task, marking(task, self.marks_file, body), id=task, **more)

    async def group(self, executor: Any, tasks: Iterable[TaskInfo]) -> list[TaskHandle]:
        """Launch a group of tasks."""
        return await self.launch(operations=[launch_group(executor, tasks)])

    # What it knows

    def states(self, task: str) -> list[str]:
        """Return the names of the states that were told of a task, in order."""
        return [TaskState(status.state).name for status in self.statuses[task]]

    def last(self, task: str) -> TaskStatus:
        """Return the last status of a task."""
        return self.statuses[task][-1]

    async def until(self, task: str, *states: TaskState, timeout: float = PATIENCE) -> TaskStatus:
        """Wait until a task was told to be in one of these states; returns that status."""

        def found() -> TaskStatus | None:
            for status in self.statuses[task]:
                if TaskState(status.state) in states:
                    return status
            return None

        names = " or ".join(state.name for state in states)
        status = await until(
            f"task {task} is {names}", found, timeout, seen=lambda: self.story(task)
        )
        assert status is not None
        return status

    async def running(self, task: str) -> TaskStatus:
        """Wait until a task runs and has marked its start."""
        status = await self.until(task, TaskState.TASK_RUNNING)
        await self.started(task)
        return status

    async def over(self, task: str, timeout: float = PATIENCE) -> TaskStatus:
        """Wait until a task has ended, and return its last status."""
        return await self.until(task, *(TaskState(state) for state in TERMINAL), timeout=timeout)

    def story(self, task: str) -> str:
        """Return all that was heard of a task."""
        told = [f"{TaskState(s.state).name} {s.reason} {s.message}" for s in self.statuses[task]]
        marks = [mark for mark in self.marks() if mark.task == task]
        return f"told: {told}; marks: {marks}; errors: {self.errors}"

    # What tasks have written

    def marks(self) -> list[Mark]:
        """Return all marks of this framework's tasks, in order."""
        found = []
        for line in self.marks_file.read_text().splitlines():
            what, task, pid, _ = line.split(" ")
            found.append(Mark(what, task, int(pid)))
        return found

    async def started(self, task: str) -> Mark:
        """Wait until a task has marked its start."""

        def found() -> Mark | None:
            for mark in self.marks():
                if mark.what == "start" and mark.task == task:
                    return mark
            return None

        mark = await until(f"task {task} marks its start", found)
        assert mark is not None
        return mark

    async def gone(self, task: str) -> None:
        """Wait until the process that marked a task's start is no more."""
        mark = await self.started(task)
        await until(f"process {mark.pid} of {task} is gone", lambda: not processes.alive(mark.pid))

    def balance(self) -> None:
        """
        Compare marks and statuses: whatever ran was told of, whatever is told to have ended
        runs no more, and nothing is told after an end.
        """
        marks = self.marks()
        for mark in marks:
            told = self.statuses.get(mark.task)
            assert told, f"{mark} and nobody was told"
        for task, statuses in self.statuses.items():
            ends = [status for status in statuses if status.state in TERMINAL]
            assert not ends or statuses[-1].state in TERMINAL, self.story(task)
            finished = any(TaskState(status.state) is TaskState.TASK_FINISHED for status in ends)
            ended = any(mark.what == "end" and mark.task == task for mark in marks)
            assert not finished or ended, f"{task} finished and has no end: {self.story(task)}"
            for mark in marks:
                if ends and mark.task == task and mark.what == "start":
                    assert not processes.alive(mark.pid), f"{mark} runs on: {self.story(task)}"
