"""All tasks of a framework that have not ended, and those that must not come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from mesoskit.driver.alarms import Alarms
from mesoskit.driver.errors import TaskIdInUse
from mesoskit.driver.handles import TaskHandle
from mesoskit.driver.settings import DriverSettings
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus
from mesoskit.model.tasks import TERMINAL, TaskState

_UNREACHABLE: Final = int(TaskState.TASK_UNREACHABLE)
_UNKNOWN: Final = int(TaskState.TASK_UNKNOWN)
_MAY_RETURN: Final = frozenset({_UNREACHABLE, _UNKNOWN, TaskState.TASK_LOST, TaskState.TASK_GONE})
_ENDS: Final = TERMINAL | {_UNKNOWN}

SendKill = Callable[[str, str, float | None], None]


class Tasks:
    """
    The handles of tasks that have not ended.

    @ivar live: handle by task id.
    """

    def __init__(
        self,
        alarms: Alarms,
        settings: DriverSettings,
        send_kill: SendKill,
        patience: float | None,
        bury: bool,
    ) -> None:
        """
        Begin with none.

        @param send_kill: tells the master, if there is one, to kill a task on an agent.
        @param patience: seconds that an unreachable task is waited for; L{None} for ever.
        @param bury: whether a task that was given up for lost is killed if it comes back,
            whether or not it was to be killed before.
        """
        self.live: dict[str, TaskHandle] = {}
        self._alarms = alarms
        self._settings = settings
        self._send_kill = send_kill
        self._patience = patience
        self._bury = bury
        self._kills: dict[str, float | None] = {}
        self._unreachable: set[str] = set()
        # Where each was, in the order in which they were lost.
        self._lost: dict[str, str] = {}

    def pairs(self) -> Iterator[tuple[str, str]]:
        """
        Give task and agent for each, and for those that were given up: one that is back must be
        noticed although another master leads by then.
        """
        for handle in self.live.values():
            yield handle.id, handle.agent_id
        yield from self._lost.items()

    def add(self, task_id: str, agent_id: str, info: TaskInfo | None) -> TaskHandle:
        """Return the handle of a new task; raises L{TaskIdInUse}."""
        if task_id in self.live:
            raise TaskIdInUse(f"task {task_id!r} has not ended yet; give the new one another id")
        handle = self.live[task_id] = TaskHandle(self, task_id, agent_id, info)
        self._lost.pop(task_id, None)
        return handle

    def discard(self, handle: TaskHandle) -> None:
        """Forget a task that was not launched."""
        if self.live.get(handle.id) is handle:
            self._drop(handle)

    def take(self, task_id: str, status: TaskStatus) -> None:
        """Give a status to the task's handle."""
        handle = self.live.get(task_id)
        if handle is None:
            if self._lost:
                self._stray(task_id, status)
            return
        if not handle.agent_id:
            handle.agent_id = status.agent_id.value
        state = status.state
        back = handle.state in _MAY_RETURN and state not in _ENDS and state != _UNREACHABLE
        if state == _UNREACHABLE:
            self._out_of_reach(handle)
        elif self._unreachable and task_id in self._unreachable:
            self._unreachable.remove(task_id)
            self._alarms.drop(("unreachable", task_id))
        # Out of the table first: who waits for the end may use the id again at once.
        if state in _ENDS:
            if state in _MAY_RETURN:
                self._remember_lost(handle)
            self._drop(handle)
        elif back and task_id in self._kills:
            # Its agent has come back, and may have heard of no kill.
            self._kill(handle, self._settings.kill_first)
        handle.take(status)

    def kill(self, handle: TaskHandle, grace: float | None) -> None:
        """Ask for a task's end until it has come."""
        self._kills[handle.id] = grace
        self._kill(handle, self._settings.kill_first)

    def resume(self) -> None:
        """There is a master again: tell it what is to be killed."""
        for task_id in list(self._kills):
            self._kill(self.live[task_id], self._settings.kill_first)

    def end_all(self, why: Callable[[], Exception]) -> None:
        """Nothing more will be heard of any task."""
        handles = list(self.live.values())
        for handle in handles:
            self._drop(handle)
        for handle in handles:
            handle.abandon(why)

    def _kill(self, handle: TaskHandle, wait: float) -> None:
        if self.live.get(handle.id) is not handle or handle.id not in self._kills:
            return
        longest = self._settings.kill_longest
        self._alarms.set(
            ("kill", handle.id), wait, lambda: self._kill(handle, min(wait * 2.0, longest))
        )
        self._send_kill(handle.id, handle.agent_id, self._kills[handle.id])

    def _drop(self, handle: TaskHandle) -> None:
        task_id = handle.id
        del self.live[task_id]
        if self._kills and task_id in self._kills:
            del self._kills[task_id]
            self._alarms.drop(("kill", task_id))
        if self._unreachable and task_id in self._unreachable:
            self._unreachable.remove(task_id)
            self._alarms.drop(("unreachable", task_id))

    # Agents that are cut off

    def _out_of_reach(self, handle: TaskHandle) -> None:
        if self._patience is None or handle.id in self._unreachable:
            return
        self._unreachable.add(handle.id)
        self._alarms.set(("unreachable", handle.id), self._patience, lambda: self._give_up(handle))

    def _give_up(self, handle: TaskHandle) -> None:
        if self.live.get(handle.id) is handle:
            self._remember_lost(handle)
            self._drop(handle)
            handle.finish()

    def _remember_lost(self, handle: TaskHandle) -> None:
        """Let a task not come back: one that is given up, or that was to be killed."""
        if self._bury or handle.id in self._kills:
            self._lost[handle.id] = handle.agent_id
            if len(self._lost) > self._settings.remembered_tasks:
                del self._lost[next(iter(self._lost))]

    def _stray(self, task_id: str, status: TaskStatus) -> None:
        """A task that has no handle: kill it if it was given up, for another may run by now."""
        if task_id not in self._lost:
            return
        if status.state not in _ENDS and status.state != _UNREACHABLE:
            self._send_kill(task_id, status.agent_id.value, None)
        elif status.state in TERMINAL - _MAY_RETURN:
            del self._lost[task_id]
