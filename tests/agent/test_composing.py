"""Several kinds of containers behind one door."""

from __future__ import annotations

from signal import SIGKILL, SIGTERM
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import TestCase

from mesoskit.agent.container import Allotment, ContainerSpec, RecoveredContainers, Usage
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.composing import ComposingContainers, Part
from mesoskit.agent.containers.memory import MemoryContainers, MemoryLauncher
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends, NestingContract
from tests.agent.real import REACTOR
from tests.base import SynchronousTestCase

A, B, C = (ContainerId(name) for name in "abc")


class ComposingContractTests(NestingContract, TestCase):
    """The suite of all containers."""

    def setUp(self) -> None:
        self.plain, self.docker = MemoryLauncher(), MemoryLauncher()

    def agent(self, ends: Ends) -> ComposingContainers:
        def later(turn: Any) -> None:
            REACTOR.callLater(0, turn)

        return ComposingContainers(
            [
                Part("docker", MemoryContainers(self.docker, ends, later), docker=True),
                Part("mesos", MemoryContainers(self.plain, ends, later)),
            ]
        )

    def sandbox(self, name: str) -> str:
        return "/nowhere"

    async def until_gone(self, pid: int) -> None:
        self.plain.abandon(1.0)


class RoutingTests(SynchronousTestCase):
    """Who is given what."""

    def setUp(self) -> None:
        self.plain, self.docker = MemoryLauncher(), MemoryLauncher()
        self.ends = Ends()
        self.parts = [
            Part("mesos", MemoryContainers(self.plain, self.ends)),
            Part("docker", MemoryContainers(self.docker, self.ends), docker=True),
        ]
        self.agent = self.begin(self.parts)

    def begin(self, parts: list[Part]) -> ComposingContainers:
        agent = ComposingContainers(parts)
        self.successResultOf(agent.start())
        self.successResultOf(agent.recover())
        return agent

    def spec(self, container: ContainerId, **more: Any) -> ContainerSpec:
        return ContainerSpec(container, ("sleep",), "/nowhere", **more)

    def test_each_goes_where_it_is_wanted(self):
        self.agent.launch(self.spec(A))
        self.agent.launch(self.spec(B, docker=True))
        self.assertEqual((list(self.plain.running), list(self.docker.running)), ([A], [B]))

    def test_what_is_beside_another_goes_where_that_is(self):
        self.agent.launch(self.spec(B, docker=True))
        self.agent.launch(self.spec(C, parent=B))
        self.assertEqual(list(self.docker.running), [B, C])

    def test_what_nobody_runs_is_refused_in_the_words_of_mesos(self):
        agent = self.begin(self.parts[:1])
        refused = self.failureResultOf(agent.launch(self.spec(A, docker=True)), ContainerError)
        self.assertIn(
            "none of the enabled containerizers (mesos) could create a container",
            refused.getErrorMessage(),
        )
        self.agent.launch(self.spec(A))
        self.assertEqual(list(self.plain.running), [A])

    def test_a_refused_launch_leaves_nothing_behind(self):
        self.docker.refusals[A] = "no image"
        self.failureResultOf(self.agent.launch(self.spec(A, docker=True)), ContainerError)
        self.agent.launch(self.spec(A))
        self.assertEqual(list(self.plain.running), [A])

    def test_signals_and_updates_reach_their_container(self):
        self.agent.launch(self.spec(A))
        self.agent.launch(self.spec(B, docker=True))
        self.agent.update(B, Allotment(cpus=700))
        self.agent.signal(A, SIGTERM)
        self.successResultOf(self.agent.destroy(B))
        self.assertEqual(self.docker.allotments[B].cpus, 700)
        self.assertEqual(self.plain.signals, [(A, SIGTERM)])
        self.assertEqual(self.ends.told, [("a", SIGTERM), ("b", SIGKILL)])

    def test_all_that_was_left_is_found_again_by_its_owner(self):
        self.agent.launch(self.spec(A))
        self.agent.launch(self.spec(B, docker=True))
        self.docker.finish(B, 0)
        self.successResultOf(self.agent.stop())
        parts = [Part("mesos", MemoryContainers(self.plain, self.ends))]
        parts.append(Part("docker", MemoryContainers(self.docker, self.ends), docker=True))
        agent = ComposingContainers(parts)
        self.successResultOf(agent.start())
        expected = RecoveredContainers({A: self.plain.pids[A]}, {B: 0})
        self.assertEqual(self.successResultOf(agent.recover()), expected)
        agent.forget(B)
        self.assertEqual(self.docker.ended, {})

    def test_what_one_cannot_say_does_not_hide_what_others_use(self):
        self.agent.launch(self.spec(A))
        docker = self.parts[1].containers

        def broken() -> Deferred[dict[ContainerId, Usage]]:
            return fail(ContainerError("the engine is away"))

        self.patch(docker, "usage", broken)
        usage = self.successResultOf(self.agent.usage())
        self.assertEqual(dict(usage).keys(), {A})
        self.patch(self.parts[0].containers, "usage", broken)
        self.failureResultOf(self.agent.usage(), ContainerError)

    def test_one_that_cannot_start_is_heard_of(self):
        broken = MemoryContainers(self.docker, self.ends)
        self.patch(broken, "start", lambda: fail(ContainerError("no engine")))
        agent = ComposingContainers([self.parts[0], Part("docker", broken, docker=True)])
        self.assertIn("no engine", str(self.failureResultOf(agent.start(), ContainerError)))
