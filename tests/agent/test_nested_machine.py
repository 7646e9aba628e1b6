"""The machine of L{tests.agent.test_machine} with calls about single containers among the rest."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mesoskit.agent.container_call import (
    CallAbandoned,
    ContainerAnswer,
    ContainerCall,
    SessionOver,
)
from mesoskit.agent.frameworks import AgentTask
from mesoskit.agent.nested import id_of
from mesoskit.messages.agent_pb2 import Call
from mesoskit.model.authorization import ANYBODY
from tests import example_count
from tests.agent.test_machine import AgentMachine, ReconnectingMachine
from tests.base import SynchronousTestCase

LAUNCHES = ("LAUNCH_CONTAINER", "LAUNCH_NESTED_CONTAINER_SESSION")
OTHERS = ("WAIT_CONTAINER", "KILL_CONTAINER", "REMOVE_CONTAINER")


class _Calling(AgentMachine):
    """An agent that is called as well; each call is answered once, unless its caller has left."""

    def __init__(self) -> None:
        self.number = 0
        self.pending: dict[int, str] = {}
        self.called: set[str] = set()
        super().__init__()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, ContainerAnswer):
            assert effect.number in self.pending, "answered twice, or to nobody"
            name = self.pending.pop(effect.number)
            assert effect.status in (200, 202, 400, 404, 500), (name, effect)
        else:
            super().perform(effect)

    def paths(self) -> list[tuple[str, ...]]:
        """Return names of containers that there are, or may have been."""
        found: list[tuple[str, ...]] = [("alone",)]
        for owner in self.state.containers.values():
            if isinstance(owner, AgentTask):
                found.append((owner.executor.container,))
                if owner.group is not None:
                    found.append((owner.executor.container, str(owner.container)))
            else:
                found.append((owner.container,))
        found += [one.path for one in self.state.nested.all.values()]
        return sorted(set(found))

    def ask(self, name: str, path: tuple[str, ...]) -> None:
        """Call about a container."""
        self.number += 1
        call = Call(type=name)
        inner = getattr(call, name.lower())
        inner.container_id.CopyFrom(id_of(path))
        if name in LAUNCHES:
            inner.command.value = "true"
        self.pending[self.number] = name
        if name == "KILL_CONTAINER":
            self.called.add(path[-1])
        self.give(ContainerCall(self.number, call, ANYBODY))

    @rule(data=st.data(), session=st.booleans(), child=st.sampled_from(("", "x", "y")))
    def somebody_launches(self, data: Any, session: bool, child: str) -> None:
        path = data.draw(st.sampled_from(self.paths()))
        path = (*path, child) if child else path
        session = session and len(path) > 1
        self.ask(LAUNCHES[session], path)

    @rule(data=st.data(), name=st.sampled_from(OTHERS))
    def somebody_asks(self, data: Any, name: str) -> None:
        self.ask(name, data.draw(st.sampled_from(self.paths())))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def somebody_leaves(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.pending)))
        del self.pending[number]
        self.give(CallAbandoned(number))

    @precondition(lambda self: self.state.nested.running)
    @rule(data=st.data())
    def a_session_is_over(self, data: Any) -> None:
        running = self.state.nested.running.values()
        sessions = [one.key for one in running if one.debug and one.launching is None]
        if sessions:
            self.give(SessionOver(data.draw(st.sampled_from(sorted(sessions)))))

    def agent_restarts(self, data: Any) -> None:
        lives = len(self.lives)
        super().agent_restarts(data)
        if len(self.lives) > lives:
            self.pending.clear()
            for one in self.state.nested.running.values():
                assert one.key in self.running, f"{one.key} is believed to run"
                assert not one.debug or one.key in self.destroyed, f"session {one.key} goes on"

    def restarted(self, before: dict[Any, tuple[Any, int]]) -> None:
        """What somebody has called for the end of ends; the rest is as ever."""
        super().restarted({key: one for key, one in before.items() if one[0] not in self.called})

    def left(self) -> tuple[Any, ...]:
        return *super().left(), self.state.nested.running, self.pending


class CallingMachine(_Calling):
    """The same where nothing outlives the agent."""


class ReconnectingCallingMachine(_Calling, ReconnectingMachine):
    """The same where what runs outlives it."""


CallingMachine.TestCase.settings = settings(
    max_examples=example_count(50),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ReconnectingCallingMachine.TestCase.settings = CallingMachine.TestCase.settings


class MachineTests(SynchronousTestCase):
    """The machines, run."""

    def test_whatever_is_asked(self) -> None:
        case = CallingMachine.TestCase("runTest")
        case.debug()

    def test_whatever_is_asked_where_what_runs_outlives_the_agent(self) -> None:
        case = ReconnectingCallingMachine.TestCase("runTest")
        case.debug()
