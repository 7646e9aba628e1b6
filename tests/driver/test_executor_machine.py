"""Whatever happens between an executor and its agent: every update arrives, once.

In order, too, unless the agent had no room for some of them: it may take the next one then.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mesoskit.driver import Executor, ExecutorDriver, ExecutorEnvironment, TaskState
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.testing.network import Network
from mesoskit.wire.link import Refused
from tests import example_count
from tests.base import SynchronousTestCase
from tests.driver.peers import Agent
from tests.driver.test_executor import PATH, VARIABLES


class Recorder(Agent):
    """
    An agent that keeps updates as the real one does: by uuid, acknowledged when they are kept.

    @ivar kept: (task, message) in the order in which they came first.
    @ivar slow: whether it keeps its acknowledgements back.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network, PATH)
        self.kept: list[tuple[str, str]] = []
        self.uuids: set[bytes] = set()
        self.slow = False
        self.held: list[TaskStatus] = []
        self.tasks: set[str] = set()

    def react(self, message: Any) -> None:
        super().react(message)
        if message.type == Call.SUBSCRIBE:
            for update in message.subscribe.unacknowledged_updates:
                self.take(update.status)
        elif message.type == Call.UPDATE and not self.refusal:
            self.take(message.update.status)

    def take(self, status: TaskStatus) -> None:
        if status.uuid not in self.uuids:
            self.uuids.add(status.uuid)
            self.kept.append((status.task_id.value, status.message))
        if self.slow:
            self.held.append(status)
        else:
            self.acknowledge(status)

    def acknowledge(self, status: TaskStatus) -> None:
        if self.link is not None:
            event = Event(type=Event.ACKNOWLEDGED)
            event.acknowledged.task_id.value = status.task_id.value
            event.acknowledged.uuid = status.uuid
            self.link.send(event)


class ExecutorMachine(RuleBasedStateMachine):
    """An executor whose agent comes and goes."""

    @initialize()
    def begin(self) -> None:
        self.network = Network()
        self.agent = Recorder(self.network)
        self.driver = ExecutorDriver(
            self.agent.host,
            Quiet(),
            ExecutorEnvironment.read(VARIABLES),
            chance=lambda: 0.5,
        )
        self.driver.run()
        self.network.advance(0)
        self.count = 0
        self.said: dict[str, list[str]] = {}
        self.filled = False

    @rule()
    def launch(self) -> None:
        if self.agent.link is not None:
            self.count += 1
            event = Event(type=Event.LAUNCH)
            event.launch.task.name = task_id = f"t{self.count}"
            event.launch.task.task_id.value = task_id
            event.launch.task.agent_id.value = "a"
            self.agent.send(event)

    @rule(number=st.integers(1, 4), last=st.booleans())
    def report(self, number: int, last: bool) -> None:
        task_id = f"t{number}"
        if task_id in self.driver.tasks:
            said = self.said.setdefault(task_id, [])
            said.append(str(len(said)))
            state = TaskState.TASK_FINISHED if last else TaskState.TASK_RUNNING
            self.driver.update(task_id, state, said[-1])

    @rule()
    def cut(self) -> None:
        self.agent.host.cut()

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        self.network.advance(seconds)

    @rule(slow=st.booleans())
    def slow_down(self, slow: bool) -> None:
        self.agent.slow = slow
        if not slow:
            held, self.agent.held = self.agent.held, []
            for status in held:
                self.agent.acknowledge(status)

    @rule(full=st.booleans())
    def fill(self, full: bool) -> None:
        self.agent.refusal.clear()
        if full:
            self.filled = True
            self.agent.refusal[Call.UPDATE] = Refused(429, "no room")

    def teardown(self) -> None:
        """All is well again: then the agent has everything."""
        if not hasattr(self, "agent"):
            return
        self.fill(False)
        self.slow_down(False)
        self.network.advance(10)
        assert self.driver.subscribed
        assert self.driver.updates == {}
        for task_id, said in self.said.items():
            kept = [message for one, message in self.agent.kept if one == task_id]
            if self.filled:
                kept, said = sorted(kept), sorted(said)
            assert kept == said, (kept, said)
        self.agent.send(Event(type=Event.SHUTDOWN))
        self.network.advance(60)
        assert self.driver.tasks == {}
        assert not self.driver.subscribed


class Quiet(Executor):
    """Reports nothing by itself."""

    def launch(self, driver: ExecutorDriver, task: Any) -> None:
        pass


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_whatever_happens(self) -> None:
        run_state_machine_as_test(
            ExecutorMachine,
            settings=settings(
                max_examples=example_count(60),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
