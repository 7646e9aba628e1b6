"""The machines of L{tests.agent.test_machine} where executors of groups have containers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mesoskit.agent.container import ContainerFailed, ContainerStarted, Launch
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.model.ids import ContainerId
from tests import example_count
from tests.agent.bench import OPTIONS
from tests.agent.test_machine import AgentMachine, ReconnectingMachine
from tests.agent.test_nested_machine import _Calling
from tests.base import SynchronousTestCase

ISOLATION = IsolationSettings(isolation=("cgroups/cpu", "namespaces/pid"), linux=True)


class _Pods(_Calling):
    """An agent that keeps containers apart; groups and what becomes of them are more frequent."""

    def perform(self, effect: Any) -> None:
        if isinstance(effect, Launch) and effect.spec.member:
            assert effect.spec.parent in self.running, "launched in a pod that is not there"
        super().perform(effect)

    def pods(self, among: list[ContainerId]) -> list[ContainerId]:
        """Return those containers that are of executors of groups."""
        return sorted(set(among) & {one.container for one in self.executors_of_groups()})

    def executors_of_groups(self) -> list[Any]:
        return [
            executor
            for framework in self.state.frameworks.values()
            for executor in framework.executors.values()
            if executor.pod
        ]

    @precondition(lambda self: self.registered())
    @rule(size=st.integers(1, 3), executor=st.sampled_from("gh"))
    def run_one_more_group(self, size: int, executor: str) -> None:
        self.run_group(size, executor)

    @precondition(lambda self: self.pods(self.starting))
    @rule(data=st.data(), fails=st.booleans())
    def a_pod_starts(self, data: Any, fails: bool) -> None:
        container = data.draw(st.sampled_from(self.pods(self.starting)))
        self.starting.remove(container)
        if fails or container in self.destroyed:
            self.give(ContainerFailed(container, "launch", "it could not be started"))
        else:
            self.running.append(container)
            self.give(ContainerStarted(container, 7))

    @precondition(lambda self: self.pods(self.running))
    @rule(data=st.data(), all_of_it=st.booleans())
    def a_pod_ends(self, data: Any, all_of_it: bool) -> None:
        """It is killed: what is in it ends before or after that is told."""
        container = data.draw(st.sampled_from(self.pods(self.running)))
        inside = {
            task.container
            for one in self.executors_of_groups()
            if one.container == container
            for task in one.tasks.values()
        }
        ending = [container]
        if all_of_it:
            ending += [one for one in self.running if one in inside]
        for one in data.draw(st.permutations(ending)):
            self.end(one, 9)

    def agent_restarts(self, data: Any) -> None:
        lives = len(self.lives)
        super().agent_restarts(data)
        for executor in self.executors_of_groups() if len(self.lives) > lives else ():
            stands = executor.container in self.running
            assert stands == (executor.container in self.state.containers)

    def restarted(self, before: dict[Any, tuple[Any, int]]) -> None:
        """What was in a pod that has ended ends; the rest is as ever."""
        kept = {}
        for key, one in before.items():
            executor = self.state.tasks[key].executor
            if not executor.pod or executor.container in self.running:
                kept[key] = one
        super().restarted(kept)


class PodMachine(_Pods, AgentMachine):
    """The same where nothing outlives the agent."""

    options = replace(OPTIONS, isolation=ISOLATION)


class ReconnectingPodMachine(_Pods, ReconnectingMachine):
    """The same where what runs outlives it."""

    options = replace(ReconnectingMachine.options, isolation=ISOLATION)


PodMachine.TestCase.settings = settings(
    max_examples=example_count(60),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ReconnectingPodMachine.TestCase.settings = PodMachine.TestCase.settings


class MachineTests(SynchronousTestCase):
    """The machines, run."""

    def test_whatever_happens_to_pods(self) -> None:
        case = PodMachine.TestCase("runTest")
        case.debug()

    def test_whatever_happens_to_pods_where_what_runs_outlives_the_agent(self) -> None:
        case = ReconnectingPodMachine.TestCase("runTest")
        case.debug()
