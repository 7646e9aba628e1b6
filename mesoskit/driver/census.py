"""Finding out which tasks a framework has: those of a former life are known to the master alone.

A master that is asked for all tasks says one status after the other, and not when it is through.
But it answers questions in order, and so a question about a task that never was is asked
after it: Mesos' masters answer that as soon as every agent has come back, of which they know that
it may have tasks, or is given up (C{Master::_reconcileTasks}). Until then both are asked again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed

from mesoskit.driver.alarms import Alarms
from mesoskit.driver.handles import TaskHandle
from mesoskit.driver.settings import DriverSettings
from mesoskit.driver.tasks import Tasks
from mesoskit.driver.waiting import Waiting
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.tasks import TaskState

_LONGEST: Final = 30.0
_NOWHERE: Final[frozenset[int]] = frozenset({TaskState.TASK_UNKNOWN, TaskState.TASK_LOST})


class Census:
    """
    Asks for all tasks, and makes handles of what is said.

    @ivar found: the handles of all tasks that were told of since it began, by id.
    """

    def __init__(
        self,
        alarms: Alarms,
        settings: DriverSettings,
        tasks: Tasks,
        ask: Callable[[list[tuple[str, str]]], None],
    ) -> None:
        """
        Prepare; L{begin} begins.

        @param ask: asks the master for pairs of task and agent, for all where there is none.
        """
        self.found: dict[str, TaskHandle] = {}
        self._alarms = alarms
        self._settings = settings
        self._tasks = tasks
        self._ask = ask
        self._waiting: Waiting[list[TaskHandle]] = Waiting()
        # The task that never was: another one each time, for answers to an earlier question
        # must not end this census.
        self._family = f"mesoskit-nobody-{secrets.token_hex(8)}-"
        self._nobody = ""
        self._count = 0
        # Whether somebody waits for the end; whether it has come and nobody has heard of it.
        self._asked = self._through = False
        self._wait = 0.0

    def take(self) -> Deferred[list[TaskHandle]]:
        """
        Return the handles of all tasks: those that live, and those of which the master has told
        since L{begin} that they have ended.
        """
        if self._through:
            # Nobody has asked for these yet.
            self._through = False
            return succeed(self._all())
        waiter = self._waiting.wait()
        if not self._nobody:
            self.begin()
            self.resume()
        self._asked = True
        return waiter

    def begin(self) -> None:
        """Make handles from now on; who asks for them later gets them all."""
        if self._nobody:
            return
        self._count += 1
        self._nobody = f"{self._family}{self._count}"
        self._asked = False
        self._through = False

    def resume(self) -> None:
        """There is a master to ask."""
        if self._nobody:
            self._wait = self._settings.reconcile_first
            self._send()

    def pause(self) -> None:
        """There is none."""
        self._alarms.drop(self)

    def end(self, why: Callable[[], Exception]) -> None:
        """Nothing more will be heard."""
        self._nobody = ""
        self.found = {}
        self._through = False
        self._alarms.drop(self)
        self._waiting.fail(why)

    def hears(self, task_id: str, status: TaskStatus) -> bool:
        """
        Look at a status before anybody else; a task that nobody knows gets a handle.

        Returns whether it is about the task that never was, which concerns nobody else.
        """
        if task_id.startswith(self._family):
            if task_id == self._nobody:
                self._nobody = ""
                self._alarms.drop(self)
                self._through = not self._asked
                if self._asked:
                    self._waiting.fire(self._all())
            return True
        if not self._nobody:
            return False
        if task_id not in self._tasks.live and status.state not in _NOWHERE:
            self.found[task_id] = self._tasks.add(task_id, status.agent_id.value, None)
        return False

    def _all(self) -> list[TaskHandle]:
        found, self.found = self.found, {}
        return list({**found, **self._tasks.live}.values())

    def _send(self) -> None:
        self._ask([])
        self._ask([(self._nobody, "")])
        self._alarms.set(self, self._wait, self._send)
        self._wait = min(self._wait * 2.0, _LONGEST)
