"""Asking the master what became of tasks, until everything asked for is answered.

The procedure is the one that Mesos advises to framework authors (C{docs/reconciliation.md}):
ask for the tasks that are not known to have ended, wait, ask again for those that nothing was
heard of, with waits that grow; and all of it again from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from mesoskit.driver.alarms import Alarms
from mesoskit.driver.settings import DriverSettings

_MORE: Final = "reconcile more"


class Reconciler:
    """
    What is asked for, and what was answered.

    @ivar waiting: agent by task, for the tasks that nothing was heard of since they were asked
        for.
    """

    def __init__(
        self,
        alarms: Alarms,
        settings: DriverSettings,
        ask: Callable[[list[tuple[str, str]]], None],
        live: Callable[[], Iterable[tuple[str, str]]],
        chance: Callable[[], float],
    ) -> None:
        """
        Prepare; L{begin} begins.

        @param ask: asks the master for pairs of task and agent.
        @param live: gives such pairs for all tasks that have not ended.
        @param chance: gives random numbers in [0, 1).
        """
        self.waiting: dict[str, str] = {}
        self._alarms = alarms
        self._settings = settings
        self._ask = ask
        self._live = live
        self._chance = chance
        self._wait = 0.0
        self._more: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Ask for all live tasks."""
        self.waiting = dict(self._live())
        self._wait = self._settings.reconcile_first
        self._send()

    def also(self, task_id: str, agent_id: str) -> None:
        """Ask for one more task, together with others of this moment."""
        self.waiting[task_id] = agent_id
        self._more.append((task_id, agent_id))
        self._alarms.set(_MORE, 0.0, self._ask_more)

    def lost(self, agent_id: str) -> None:
        """
        Ask again for the tasks of an agent that is lost and of which nothing was heard so far:
        while it may have come back the master had no answer, and now it has one.
        """
        for task_id, where in list(self.waiting.items()):
            if where == agent_id:
                self.also(task_id, agent_id)

    def _ask_more(self) -> None:
        more = iter(self._more)
        while batch := list(islice(more, self._settings.reconcile_batch)):
            self._ask(batch)
        self._more.clear()
        self._wait = self._settings.reconcile_first
        self._alarms.set(self, self._wait, self._again)

    def answered(self, task_id: str) -> None:
        """Something was heard of a task."""
        self.waiting.pop(task_id, None)

    def pause(self) -> None:
        """There is nobody to ask."""
        self.waiting = {}
        self._more.clear()
        self._alarms.drop(self)
        self._alarms.drop(_MORE)

    def idle(self) -> None:
        """Nothing needs to be asked for now, but some time later."""
        # Frameworks that were started together should not ask together for ever.
        spread = 1.0 + 0.2 * (self._chance() - 0.5)
        self._alarms.set(self, self._settings.reconcile_interval * spread, self.begin)

    def _again(self) -> None:
        self._wait = min(self._wait * 2.0, self._settings.reconcile_longest)
        self._send()

    def _send(self) -> None:
        if not self.waiting:
            self.idle()
            return
        items = iter(self.waiting.items())
        while batch := list(islice(items, self._settings.reconcile_batch)):
            self._ask(batch)
        self._alarms.set(self, self._wait, self._again)
