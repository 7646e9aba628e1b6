"""The machines of L{tests.agent.test_machine} with checks, limits, sandboxes and much else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from mesoskit.agent.container import (
    ContainerFacts,
    ContainerProgress,
    ContainerStarted,
    Limitation,
    RecoveredContainers,
    Remove,
    Removed,
    SandboxesFound,
    Usage,
    UsageRead,
)
from mesoskit.agent.frameworks import ExecutorState
from mesoskit.agent.probe import Abandon, Probe, Probed, RunCommand
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import CheckInfo
from mesoskit.messages.mesos_pb2 import HealthCheck as HealthCheckInfo
from mesoskit.model.events import Received
from mesoskit.model.ids import ContainerId
from mesoskit.model.tasks import Reason
from tests import example_count
from tests.agent.bench import AWARE, FRAMEWORK_ID, KILLING, task
from tests.agent.test_pod_machine import PodMachine, ReconnectingPodMachine
from tests.base import SynchronousTestCase

TOO_MUCH = Limitation(
    Reason.REASON_CONTAINER_LIMITATION_MEMORY, "Memory limit exceeded", (("mem", 32.0),)
)


class _Checked(PodMachine):
    """An agent whose tasks are checked and limited; its executors are told of more."""

    def __init__(self) -> None:
        self.probes: dict[int, Probe] = {}
        self.asked: set[int] = set()
        self.removing: set[str] = set()
        self.abandoned: set[ContainerId] = set()
        super().__init__()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, Probe):
            assert effect.number not in self.asked, "asked with a number that was used"
            self.asked.add(effect.number)
            self.probes[effect.number] = effect
            if isinstance(effect.what, RunCommand):
                assert effect.what.spec.parent in self.running, "asked in what does not run"
        elif isinstance(effect, Abandon):
            del self.probes[effect.number]
        elif isinstance(effect, Remove):
            self.remove(effect.path)
        else:
            super().perform(effect)

    def remove(self, path: str) -> None:
        """Nothing is removed in which something runs."""
        for framework in self.state.frameworks.values():
            for executor in framework.executors.values():
                inside = f"{executor.directory}/".startswith(f"{path}/")
                over = executor.state is ExecutorState.TERMINATED
                assert over or not inside, f"{path} is removed, and {executor.id} is there"
        self.removing.add(path)

    # Checks.

    @precondition(lambda self: self.registered())
    @rule(
        size=st.integers(0, 2),
        kind=st.sampled_from((1, 2, 3)),
        health=st.sampled_from((1, 2, 3)),
        which=st.sampled_from(("check", "health", "both")),
        failures=st.integers(1, 2),
        grace=st.sampled_from((0, 10)),
    )
    def run_checked(
        self, size: int, kind: int, health: int, which: str, failures: int, grace: int
    ) -> None:
        """A command, or a group of so many."""
        assert self.master is not None
        infos = [task(self.name()) for _ in range(max(1, size))]
        for info in infos:
            if which != "health":
                self.check(info.check, kind)
            if which != "check":
                self.check(info.health_check, health)
                info.health_check.consecutive_failures = failures
                info.health_check.grace_period_seconds = grace
        self.accept([info.task_id.value for info in infos])
        message: Any
        if size:
            message = internal.RunTaskGroupMessage(framework=self.framework(KILLING))
            message.executor.type = 1
            message.executor.executor_id.value = "g"
            message.task_group.tasks.extend(infos)
        else:
            message = internal.RunTaskMessage(framework=self.framework(AWARE), task=infos[0])
        self.give(Received(self.master, message))

    def check(self, info: CheckInfo | HealthCheckInfo, kind: int) -> None:
        """Fill in a check."""
        if isinstance(info, CheckInfo):
            info.type = (CheckInfo.COMMAND, CheckInfo.HTTP, CheckInfo.TCP)[kind - 1]
            info.command.command.value = "true"
        else:
            kinds = HealthCheckInfo.COMMAND, HealthCheckInfo.HTTP, HealthCheckInfo.TCP
            info.type = kinds[kind - 1]
            info.command.value = "true"
        info.http.port = info.tcp.port = 31000
        info.delay_seconds, info.interval_seconds, info.timeout_seconds = 0.5, 2.0, 1.0

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), found=st.sampled_from((0, 1, 200, 500, None)))
    def answer(self, data: Any, found: int | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.probes)))
        del self.probes[number]
        self.give(Probed(number, found, "" if found is not None else "nothing came"))

    @precondition(lambda self: self.probes)
    @rule(found=st.sampled_from((0, 1)), seconds=st.sampled_from((0.5, 2.0)))
    def answer_all(self, found: int, seconds: float) -> None:
        for number in sorted(self.probes):
            if number in self.probes:
                del self.probes[number]
                self.give(Probed(number, found))
        self.pass_time(seconds)

    @rule(data=st.data())
    def answer_too_late(self, data: Any) -> None:
        """What was abandoned may have been answered just before."""
        gone = sorted(self.asked - set(self.probes))
        if gone:
            self.give(Probed(data.draw(st.sampled_from(gone)), 1))

    @invariant()
    def probes_are_known(self) -> None:
        # One that was abandoned when the store refused how its task has ended goes on in vain.
        assert set(self.state.probes) <= set(self.probes)

    # Containers.

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def container_takes_too_much(self, data: Any) -> None:
        container = data.draw(st.sampled_from(self.running))
        self.end(container, 9, TOO_MUCH)

    @precondition(lambda self: self.starting)
    @rule(data=st.data())
    def container_is_on_its_way(self, data: Any) -> None:
        container = data.draw(st.sampled_from(self.starting))
        self.give(ContainerProgress(container, "Pulling 3 of 7 layers"))

    @precondition(lambda self: set(self.starting) - self.destroyed)
    @rule(data=st.data())
    def container_has_facts(self, data: Any) -> None:
        choices = sorted(set(self.starting) - self.destroyed)
        container = data.draw(st.sampled_from(choices))
        self.starting.remove(container)
        self.running.append(container)
        facts = ContainerFacts(b"[]", ("172.17.0.2",), 1 << 16)
        self.give(ContainerStarted(container, 0, facts))

    @rule(data=st.data())
    def usage_is_read(self, data: Any) -> None:
        """It may have been read before something ended."""
        known = [*self.running, *sorted(self.destroyed)]
        chosen = [one for one in known if data.draw(st.booleans())]
        self.give(UsageRead({one: Usage(1.0, 2.0, 4096, 1) for one in chosen}))

    @precondition(lambda self: self.removing)
    @rule(data=st.data(), fails=st.booleans())
    def sandbox_is_removed(self, data: Any, fails: bool) -> None:
        path = data.draw(st.sampled_from(sorted(self.removing)))
        self.removing.discard(path)
        self.give(Removed(path, "it is busy" if fails else ""))

    @rule(weeks=st.sampled_from((0.1, 1.1)))
    def much_time_passes(self, weeks: float) -> None:
        """Nobody is there meanwhile who could say anything: nothing waits for one, or for room."""
        waits = self.state.tasks or self.state.streams or self.state.unstored
        if not (waits or self.master or self.full):
            self.pass_time(weeks * 7 * 86400)

    # The master.

    @precondition(lambda self: self.registered())
    @rule(capable=st.booleans(), executor=st.sampled_from("abg"))
    def something_is_told(self, capable: bool, executor: str) -> None:
        assert self.master is not None
        update = internal.UpdateFrameworkMessage()
        update.framework_id.value = FRAMEWORK_ID
        update.framework_info.CopyFrom(self.framework(*((KILLING, AWARE) if capable else ())))
        self.give(Received(self.master, update))
        message = internal.FrameworkToExecutorMessage(data=b"hello")
        message.slave_id.value = "m-S0"
        message.framework_id.value = FRAMEWORK_ID
        message.executor_id.value = executor
        self.give(Received(self.master, message))

    # Restarts.

    def agent_restarts(self, data: Any) -> None:
        lives = len(self.lives)
        probes, self.probes = self.probes, {}
        asked, self.asked = self.asked, set()
        removing, self.removing = self.removing, set()
        super().agent_restarts(data)
        if len(self.lives) == lives:
            # It did not come to that.
            self.probes, self.asked, self.removing = probes, asked, removing
            return
        if data.draw(st.booleans()):
            old = tuple((f"/w/slaves/m-S0/{number}", 900.0) for number in range(2))
            self.give(SandboxesFound(old))

    def found(self, data: Any, exited: dict[ContainerId, int | None]) -> RecoveredContainers:
        """Some were ended for want of an agent, some for what they took."""
        event = super().found(data, exited)
        known = [*event.running, *event.exited]
        # What is being ended is being ended when the next agent asks, too.
        again = [one for one in known if one in self.abandoned]
        ended = [*again, *(one for one in known if data.draw(st.integers(0, 4)) == 0)]
        event.abandoned = frozenset(ended)
        self.destroyed.update(set(ended) & set(event.running))
        for one in event.exited:
            if one not in event.abandoned and data.draw(st.integers(0, 4)) == 0:
                event.limitations[one] = TOO_MUCH
        self.abandoned.update(ended)
        return event

    def restarted(self, before: dict[Any, tuple[Any, int]]) -> None:
        kept = {}
        for key, one in before.items():
            executor = self.state.tasks[key].executor
            if not self.abandoned & {one[0], executor.container}:
                kept[key] = one
        super().restarted(kept)

    def settle(self) -> None:
        for number in sorted(self.probes):
            if number in self.probes:
                del self.probes[number]
                self.give(Probed(number, 0))
        super().settle()


class CheckedMachine(_Checked):
    """The same where nothing outlives the agent."""


class ReconnectingCheckedMachine(_Checked, ReconnectingPodMachine):
    """The same where what runs outlives it."""

    options = replace(ReconnectingPodMachine.options)


CheckedMachine.TestCase.settings = settings(
    max_examples=example_count(40),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ReconnectingCheckedMachine.TestCase.settings = CheckedMachine.TestCase.settings


class MachineTests(SynchronousTestCase):
    """The machines, run."""

    def test_whatever_happens_to_what_is_checked(self) -> None:
        case = CheckedMachine.TestCase("runTest")
        case.debug()

    def test_whatever_happens_to_it_where_what_runs_outlives_the_agent(self) -> None:
        case = ReconnectingCheckedMachine.TestCase("runTest")
        case.debug()
