"""Frameworks on the real states, while links, agents and masters come and go."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred

from mesoskit.driver import TaskHandle, command_task
from mesoskit.testing.cluster import MASTER, TestAgent, TestCluster
from tests import example_count
from tests.base import SynchronousTestCase


class ClusterMachine(RuleBasedStateMachine):
    """One framework that keeps launching, on a cluster that keeps breaking."""

    @initialize(scheme=st.sampled_from(["", "http://"]))
    def begin(self, scheme: str) -> None:
        self.cluster = TestCluster(agents=2)
        self.framework = self.cluster.framework(master=scheme + MASTER)
        self.count = 0
        self.ends: dict[str, list[str]] = {}
        self.looping = Deferred.fromCoroutine(self.loop())

    async def loop(self) -> None:
        """Launch what is wanted on whatever is offered."""
        self.wanted: list[Any] = []
        async for offer in self.framework.offers():
            if not self.wanted:
                self.framework.decline(offer, refuse_seconds=1).addErrback(lambda _: None)
                continue
            infos, self.wanted = self.wanted, []
            accepted = self.framework.accept(offer, infos)
            accepted.addCallbacks(self.launched, lambda _: None)

    def launched(self, handles: list[TaskHandle]) -> None:
        for handle in handles:
            told = self.ends.setdefault(handle.id, [])
            handle.terminal().addCallbacks(
                lambda _, told=told: told.append("finished"),
                lambda failure, told=told: told.append(failure.type.__name__),
            )

    @rule(command=st.sampled_from(["sleep 3", "exit 1", "for ever", "true"]))
    def want(self, command: str) -> None:
        self.count += 1
        self.wanted.append(command_task("t", command, id=f"t{self.count}"))

    @rule(seconds=st.sampled_from([0.1, 2.0, 20.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule()
    def cut_framework(self) -> None:
        self.cluster.host_of(self.framework).cut()

    @rule(isolated=st.booleans())
    def isolate_framework(self, isolated: bool) -> None:
        self.cluster.host_of(self.framework).isolate(isolated)

    @rule(number=st.integers(0, 1))
    def cut_agent(self, number: int) -> None:
        self.cluster.agents[number].host.cut()

    @rule(number=st.integers(0, 1), isolated=st.booleans())
    def isolate_agent(self, number: int, isolated: bool) -> None:
        self.cluster.agents[number].host.isolate(isolated)

    @rule(number=st.integers(0, 1))
    def restart_agent(self, number: int) -> None:
        agent: TestAgent = self.cluster.agents[number]
        if agent.service is not None:
            agent.restart()

    @rule()
    def restart_master(self) -> None:
        self.cluster.restart_master()

    @invariant()
    def nobody_is_told_twice(self) -> None:
        for told in getattr(self, "ends", {}).values():
            assert len(told) <= 1

    def teardown(self) -> None:
        """All is well again: then whatever was launched ends, and nobody waits."""
        if not hasattr(self, "looping"):
            return
        for host in [self.cluster.host_of(self.framework), *(a.host for a in self.cluster.agents)]:
            host.isolate(False)
        # Over HTTP it takes five heartbeats to notice that nobody is there any more.
        self.cluster.advance(120)
        assert self.framework.subscribed
        for handle in list(self.framework.tasks.values()):
            handle.kill().addErrback(lambda _: None)
        # As long as an agent may take to be given up, and a task to be asked for again.
        self.cluster.advance(1500)
        assert not self.framework.tasks, self.framework.tasks
        assert all(len(told) == 1 for told in self.ends.values()), self.ends
        for agent in self.cluster.agents:
            assert not agent.containers.running, (agent, agent.containers.running)
        self.cluster.stop()


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_whatever_happens(self) -> None:
        run_state_machine_as_test(
            ClusterMachine,
            settings=settings(
                max_examples=example_count(8),
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
