"""Whoever watches and believes what he is told knows what the master knows."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from mesoskit.master.answers import Listing
from mesoskit.master.operator import Replied, Requested, Unwatch, Watch
from mesoskit.master.state import MasterState
from mesoskit.master.watching import Told
from mesoskit.messages.master_pb2 import Event
from mesoskit.model.tasks import TERMINAL, TaskState
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import Bench
from tests.master.test_machine import ClusterMachine

_TERMINAL = frozenset(int(state) for state in TERMINAL)


class Watcher:
    """
    One who watches from the beginning.

    @ivar tasks: the state of each, by framework and task.
    """

    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.frameworks: dict[str, bool] = {}
        self.tasks: dict[tuple[str, str], int] = {}

    def hear(self, event: Event) -> None:
        """Believe an event."""
        kind = event.type
        if kind == Event.AGENT_ADDED:
            self.agents.add(event.agent_added.agent.agent_info.id.value)
        elif kind == Event.AGENT_REMOVED:
            self.agents.remove(event.agent_removed.agent_id.value)
        elif kind == Event.FRAMEWORK_ADDED:
            added = event.framework_added.framework
            assert added.framework_info.id.value not in self.frameworks
            self.frameworks[added.framework_info.id.value] = added.connected
        elif kind == Event.FRAMEWORK_UPDATED:
            updated = event.framework_updated.framework
            assert updated.framework_info.id.value in self.frameworks
            self.frameworks[updated.framework_info.id.value] = updated.connected
        elif kind == Event.FRAMEWORK_REMOVED:
            del self.frameworks[event.framework_removed.framework_info.id.value]
        elif kind == Event.TASK_ADDED:
            task = event.task_added.task
            assert task.framework_id.value in self.frameworks
            self.tasks[task.framework_id.value, task.task_id.value] = task.state
        else:
            told = event.task_updated
            self.tasks[told.framework_id.value, told.status.task_id.value] = told.state

    def check(self, state: MasterState) -> None:
        """Compare with what the master knows."""
        known = Listing(state)
        assert self.agents == {agent.id for agent in known.agents}
        assert set(self.frameworks) == {framework.id for framework in known.frameworks}
        live: dict[tuple[str, str], int] = {}
        for task in (*known.tasks, *known.unreachable_tasks):
            live[task.framework.id, task.id] = task.state
        for key, task_state in live.items():
            assert self.tasks[key] == task_state, (key, self.tasks[key], task_state)
        for key, task_state in self.tasks.items():
            # Of the unreachable ones those that are too many are forgotten, as in Mesos.
            over = task_state in _TERMINAL or task_state == TaskState.TASK_UNREACHABLE
            assert key in live or over or key[0] not in self.frameworks, key


class WatchedMachine(ClusterMachine):
    """Random histories, of each master of which somebody hears all events."""

    watchers: dict[int, tuple[MasterState, Watcher]]

    @invariant()
    def watcher_knows_what_the_master_knows(self) -> None:
        state = self.bench.state
        if id(state) in self.watchers:
            self.watchers[id(state)][1].check(state)


class WatchingTests(SynchronousTestCase):
    """Events, whatever happens."""

    def test_watcher_knows_what_the_master_knows_whatever_happens(self) -> None:
        watchers: dict[int, tuple[MasterState, Watcher]] = {}
        begin, handle = MasterState.__init__, MasterState.handle

        def begun(state: MasterState, *args: Any, **named: Any) -> None:
            begin(state, *args, **named)
            state.watchers = 1
            watchers.clear()
            watchers[id(state)] = state, Watcher()

        def handled(state: MasterState, now: float, event: Any) -> list[Any]:
            effects = handle(state, now, event)
            for effect in effects:
                if isinstance(effect, Told):
                    watchers[id(state)][1].hear(effect.event)
            return effects

        self.patch(MasterState, "__init__", begun)
        self.patch(MasterState, "handle", handled)
        WatchedMachine.watchers = watchers
        run_state_machine_as_test(
            WatchedMachine,
            settings=settings(
                max_examples=example_count(30),
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

    def test_watch_is_answered_with_what_there_was(self) -> None:
        bench = Bench()
        (replied,) = bench.give(Requested(1, Watch()))
        assert isinstance(replied, Replied)
        assert replied.listing is not None
        self.assertEqual(
            (200, [], 1), (replied.status, replied.listing.tasks, bench.state.watchers)
        )
        self.assertEqual([Replied(2, 200)], bench.give(Requested(2, Unwatch())))
        self.assertEqual(0, bench.state.watchers)
