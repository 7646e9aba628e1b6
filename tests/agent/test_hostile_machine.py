"""
The machines of L{tests.agent.test_checked_machine} where nobody behaves: a store that refuses now
and then, masters that repeat themselves or are two, and agents that are told to end.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from mesoskit.agent.container import ContainerStarted
from mesoskit.agent.events import Leave, ShutDown
from mesoskit.agent.frameworks import ExecutorState
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import Connected, Drop, PeerKind, Received
from mesoskit.model.ids import PeerId
from tests import example_count
from tests.agent.bench import FRAMEWORK_ID
from tests.agent.test_checked_machine import CheckedMachine, ReconnectingCheckedMachine
from tests.agent.test_machine import AgentMachine
from tests.base import SynchronousTestCase

REPEATED = (
    internal.StatusUpdateAcknowledgementMessage,
    internal.UpdateFrameworkMessage,
    internal.ShutdownExecutorMessage,
    internal.DrainSlaveMessage,
    internal.PingSlaveMessage,
)
RUN = (internal.RunTaskMessage, internal.RunTaskGroupMessage)


class _Hostile(AgentMachine):
    """
    An agent to which all of that happens.

    @ivar refusals: how many of the next changes the store refuses.
    @ivar said: what masters have said last.
    @ivar dropped: the links that the agent has closed.
    @ivar believed: the executors that the master believes to be here.
    """

    def __init__(self) -> None:
        self.refusals = 0
        self.said: list[Any] = []
        self.dropped: set[PeerId] = set()
        self.believed: set[str] = set()
        super().__init__()

    def refuses(self) -> bool:
        if self.refusals and not self.full:
            self.refusals -= 1
            return True
        return super().refuses()

    def give(self, event: Any) -> None:
        if isinstance(event, Received) and event.peer == self.master:
            self.said = [*self.said[-9:], copy.deepcopy(event.message)]
        super().give(event)
        if isinstance(event, Received) and isinstance(event.message, RUN) and self.registered():
            self.believed |= self.executors_here()

    def executors_here(self) -> set[str]:
        """Return the executors that the agent has, and masters know of."""
        return {
            str(executor.id)
            for framework in self.state.frameworks.values()
            for executor in framework.executors.values()
            if executor.info is not None and executor.state is not ExecutorState.TERMINATED
        }

    def sent(self, peer: PeerId, message: Any) -> None:
        if isinstance(message, internal.ExitedExecutorMessage):
            self.believed.discard(message.executor_id.value)
        elif isinstance(message, internal.ReregisterSlaveMessage):
            self.believed = {info.executor_id.value for info in message.executor_infos}
        super().sent(peer, message)

    @invariant()
    def master_hears_of_executors_that_have_ended(self) -> None:
        if self.registered():
            here = self.executors_here()
            framework = self.state.frameworks.get(FRAMEWORK_ID)  # type: ignore[call-overload]
            if framework is None or not framework.terminating:
                assert self.believed <= here, self.believed - here

    def shutdown_framework(self) -> None:
        super().shutdown_framework()
        self.believed.clear()

    def perform(self, effect: Any) -> None:
        if isinstance(effect, Drop):
            self.dropped.add(effect.peer)
        super().perform(effect)

    def hear(self, message: internal.StatusUpdateMessage) -> None:
        # It is asked after, and may be told of in other words each time.
        self.last.pop("unknown", None)
        super().hear(message)

    @rule(times=st.integers(1, 3))
    def store_is_to_refuse(self, times: int) -> None:
        self.refusals = times

    # Masters.

    @precondition(lambda self: self.registered() and self.said)
    @rule(data=st.data())
    def master_repeats_itself(self, data: Any) -> None:
        message = copy.deepcopy(data.draw(st.sampled_from(self.said)))
        names: list[str] = []
        if isinstance(message, internal.RunTaskMessage):
            names = [message.task.task_id.value]
        elif isinstance(message, internal.RunTaskGroupMessage):
            names = [info.task_id.value for info in message.task_group.tasks]
        elif isinstance(message, internal.KillTaskMessage):
            names = [message.task_id.value]
        elif not isinstance(message, REPEATED):
            return
        if not set(names) <= {key[1] for key in self.state.tasks}:
            return  # Nobody could tell it from one about another task of that name.
        assert self.master is not None
        self.give(Received(self.master, message))

    @precondition(lambda self: self.unacknowledged and self.registered())
    @rule(data=st.data())
    def something_else_is_acknowledged(self, data: Any) -> None:
        update = data.draw(st.sampled_from(self.unacknowledged)).update
        message = internal.StatusUpdateAcknowledgementMessage(uuid=b"0123456789abcdef")
        message.slave_id.CopyFrom(update.slave_id)
        message.framework_id.CopyFrom(update.framework_id)
        message.task_id.CopyFrom(update.status.task_id)
        assert self.master is not None
        self.give(Received(self.master, message))

    @precondition(lambda self: self.registered())
    @rule(data=st.data())
    def master_asks_after_tasks(self, data: Any) -> None:
        """After one that it has lost, or one that is here; so does a master that registers it."""
        assert self.master is not None
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = self.state.agent_id
        question = message.reconciliations.add(framework=self.framework())
        question.framework_id.value = FRAMEWORK_ID
        names = sorted(key[1] for key in self.state.tasks)
        name = data.draw(st.sampled_from(["unknown", *names]))
        question.statuses.append(TaskStatus(task_id={"value": name}, state=1))  # type: ignore[arg-type]
        self.give(Received(self.master, message))

    @rule(epoch=st.integers(0, 3), answers=st.booleans())
    def another_master_comes(self, epoch: int, answers: bool) -> None:
        """The old one may be there still, and may be the newer one."""
        old = self.master
        self.peers += 1
        new = PeerId(self.peers)
        self.master = new
        newest = self.state.epoch
        self.give(Connected(new, PeerKind.MASTER, "127.0.0.2:5050", epoch=epoch))
        if new in self.dropped:
            assert 0 < epoch < newest
            self.master = old
            return
        assert self.state.master == new
        assert old is None or old in self.dropped, "two masters"
        self.unacknowledged.clear()
        if answers:
            self.master_answers()

    @precondition(lambda self: self.registered() and self.state.tasks)
    @rule(gone=st.booleans(), grace=st.sampled_from((None, 0, 1)))
    def agent_drains(self, gone: bool, grace: int | None) -> None:
        assert self.master is not None
        message = internal.DrainSlaveMessage()
        message.config.mark_gone = gone
        if grace is not None:
            message.config.max_grace_period.nanoseconds = grace * 10**9
        self.give(Received(self.master, message))

    # Ends.

    @precondition(lambda self: self.state.tasks)
    @rule(data=st.data(), asked=st.booleans())
    def agent_leaves_for_good(self, data: Any, asked: bool) -> None:
        """Nothing that it had is told of any more, and nothing is left of it."""
        if self.refusals or self.full or self.state.unstored or data.draw(st.integers(0, 2)):
            return
        if asked or not self.registered():
            self.give(ShutDown("asked to"))
        else:
            assert self.master is not None
            self.give(Received(self.master, internal.ShutdownMessage(message="gone")))
        self.accepted.clear()
        self.unacknowledged.clear()
        self.believed.clear()
        self.all_ends()
        left = {name for name in self.store if not name.startswith("history/")}
        assert left == set(), left
        self.state.unstored.clear()  # All of it is gone already.
        self.agent_restarts(data)
        assert not self.state.agent_id

    def all_ends(self) -> None:
        """Let everything end that keeps an agent from ending, and the agent."""
        for _ in range(20):
            if self.gone:
                break
            for container in list(self.starting):
                if not self.gone:
                    self.starting.remove(container)
                    self.running.append(container)
                    self.give(ContainerStarted(container, 7))
            for container in list(self.running):
                if container in self.destroyed and not self.gone:
                    self.end(container, 9)
            if not self.gone:
                self.pass_time(5.0)
        assert self.gone, "it does not end"
        self.gone = False


class HostileMachine(_Hostile, CheckedMachine):
    """The same where nothing outlives the agent."""

    @precondition(lambda self: self.state.tasks)
    @rule(data=st.data())
    def agent_is_stopped(self, data: Any) -> None:
        """What would not go on at its next start ends, and is told of by the next one."""
        if self.refusals or self.full or self.state.unstored:
            return
        self.give(Leave())
        self.all_ends()
        assert not self.running
        self.state.unstored.clear()  # What was to be forgotten a moment later.
        self.agent_restarts(data)


class ReconnectingHostileMachine(_Hostile, ReconnectingCheckedMachine):
    """The same where what runs outlives it."""


HostileMachine.TestCase.settings = settings(
    max_examples=example_count(40),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ReconnectingHostileMachine.TestCase.settings = HostileMachine.TestCase.settings


class MachineTests(SynchronousTestCase):
    """The machines, run."""

    def test_whatever_happens_where_nobody_behaves(self) -> None:
        case = HostileMachine.TestCase("runTest")
        case.debug()

    def test_whatever_happens_where_nobody_behaves_and_what_runs_outlives_the_agent(self) -> None:
        case = ReconnectingHostileMachine.TestCase("runTest")
        case.debug()
