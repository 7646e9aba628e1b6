"""Whatever happens: no handle hangs, nothing is delivered twice, everything is acknowledged."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mesoskit.driver import Framework, FrameworkInfo, Scheduler, TaskHandle, command_task
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.tasks import TERMINAL, TaskState
from mesoskit.testing.network import Network
from tests import example_count
from tests.base import SynchronousTestCase
from tests.driver.peers import ADDRESS, Master

STATES = ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED")


class Cluster(Master):
    """
    A master and agents in one: tasks, with the updates that were not acknowledged.

    @ivar launched: task ids by state, as the cluster has them.
    @ivar queued: (uuid, task, state) that wait for their acknowledgement, oldest first.
    @ivar receipts: how often each uuid was sent; C{acks}: acknowledged.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.launched: dict[str, str] = {}
        self.queued: list[tuple[bytes, str, str]] = []
        self.receipts: dict[bytes, int] = {}
        self.acks: dict[bytes, int] = {}
        self.deaf = False

    def react(self, message: Any) -> None:
        super().react(message)
        kind = message.type
        if kind == Call.ACCEPT and not self.deaf:
            for operation in message.accept.operations:
                for info in operation.launch.task_infos:
                    self.launched[info.task_id.value] = "TASK_STAGING"
        elif kind == Call.ACKNOWLEDGE:
            uuid = message.acknowledge.uuid
            self.acks[uuid] = self.acks.get(uuid, 0) + 1
            self.queued = [each for each in self.queued if each[0] != uuid]
        elif kind == Call.RECONCILE:
            for task in message.reconcile.tasks:
                self.answer(task.task_id.value)
        elif kind == Call.KILL:
            self.move(message.kill.task_id.value, "TASK_KILLED")

    def answer(self, task_id: str) -> None:
        state = self.launched.get(task_id, "TASK_GONE")
        self.tell(task_id, state, b"")

    def move(self, task_id: str, state: str) -> None:
        """Bring a task into a state, and queue the update."""
        if task_id not in self.launched or TaskState[self.launched[task_id]] in TERMINAL:
            return
        self.launched[task_id] = state
        uuid = next(self.uuids).to_bytes(16, "big")
        self.queued.append((uuid, task_id, state))

    def heads(self) -> None:
        """Send the first update of each task that was not acknowledged, as agents do."""
        told: set[str] = set()
        for uuid, task_id, state in list(self.queued):
            if task_id not in told:
                told.add(task_id)
                self.tell(task_id, state, uuid)

    def tell(self, task_id: str, state: str, uuid: bytes) -> None:
        if self.link is None:
            return
        event = Event(type=Event.UPDATE)
        status = event.update.status
        status.task_id.value = task_id
        status.agent_id.value = "a"
        status.state = TaskState[state]  # type: ignore[assignment]
        if uuid:
            status.uuid = uuid
            self.receipts[uuid] = self.receipts.get(uuid, 0) + 1
        self.link.send(event)


class Keeper(Scheduler):
    """Keeps offers and remembers what was delivered."""

    def __init__(self) -> None:
        self.offers: list[Any] = []
        self.delivered: list[bytes] = []

    def resource_offers(self, framework: Framework, offers: list[Any]) -> None:
        self.offers += offers

    def status_update(self, framework: Framework, status: Any) -> None:
        if status.uuid:
            self.delivered.append(status.uuid)


class DriverMachine(RuleBasedStateMachine):
    """A framework on a bad day."""

    tasks = Bundle("tasks")

    @initialize()
    def begin(self) -> None:
        self.network = Network()
        self.cluster = Cluster(self.network)
        self.keeper = Keeper()
        self.framework = Framework(
            self.network.host("framework"),
            ADDRESS,
            FrameworkInfo(user="u", name="test"),
            scheduler=self.keeper,
            chance=lambda: 0.5,
        )
        self.framework.startService()
        self.network.advance(0)
        self.count = 0
        self.handles: list[TaskHandle] = []
        self.fired: dict[str, list[str]] = {}

    @rule(target=tasks, lost=st.booleans(), deaf=st.booleans())
    def launch(self, lost: bool, deaf: bool) -> str:
        """Launch a task; the link may break before the answer, the master may miss it."""
        if self.cluster.link is None or not self.framework.subscribed:
            self.network.advance(1)
        self.cluster.offer()
        self.count += 1
        task_id = f"t{self.count}"
        self.cluster.deaf = lost and deaf
        accepted = self.framework.accept(
            self.keeper.offers.pop(), [command_task("t", "true", id=task_id)]
        )
        accepted.addCallbacks(self.launched, lambda _: None)
        if lost:
            if not deaf:
                self.network.advance(0)
            self.cluster.host.cut()
        self.network.advance(0)
        self.cluster.deaf = False
        return task_id

    def launched(self, handles: list[TaskHandle]) -> None:
        for handle in handles:
            self.handles.append(handle)
            told = self.fired.setdefault(handle.id, [])
            handle.terminal().addCallbacks(
                lambda _, told=told: told.append("finished"),
                lambda failure, told=told: told.append(failure.type.__name__),
            )

    @rule(task_id=tasks, state=st.sampled_from(STATES))
    def move(self, task_id: str, state: str) -> None:
        self.cluster.move(task_id, state)

    @rule()
    def resend(self) -> None:
        self.cluster.heads()

    @rule(seconds=st.sampled_from([0.0, 0.3, 5.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.network.advance(seconds)

    @rule()
    def cut(self) -> None:
        self.cluster.host.cut()

    @rule(task_id=tasks)
    def forget(self, task_id: str) -> None:
        """An agent dies with its tasks, and with the updates that nobody has acknowledged."""
        self.cluster.launched.pop(task_id, None)
        self.cluster.queued = [each for each in self.cluster.queued if each[1] != task_id]

    @rule(task_id=tasks)
    def kill(self, task_id: str) -> None:
        handle = self.framework.tasks.get(task_id)
        if handle is not None:
            handle.kill().addErrback(lambda _: None)

    @invariant()
    def nothing_is_delivered_twice(self) -> None:
        delivered = self.keeper.delivered
        assert len(delivered) == len(set(delivered))

    @invariant()
    def no_receipt_is_acknowledged_twice(self) -> None:
        for uuid, count in self.cluster.acks.items():
            assert count <= self.cluster.receipts[uuid]

    @invariant()
    def nobody_is_told_twice(self) -> None:
        for told in self.fired.values():
            assert len(told) <= 1

    def teardown(self) -> None:
        """All is well again: updates come, questions are answered. Then nobody waits."""
        if not hasattr(self, "cluster"):
            return
        for task_id in list(self.cluster.launched):
            self.cluster.move(task_id, "TASK_FINISHED")
        for _ in range(12):
            self.network.advance(1)
            self.cluster.heads()
        assert self.cluster.queued == []
        # The rest is learned by asking, within the longest wait between two questions.
        self.cluster.host.cut()
        self.network.advance(2)
        assert not self.framework.tasks, self.framework.tasks
        for handle in self.handles:
            assert handle.over
            assert len(self.fired[handle.id]) == 1, (handle, self.fired[handle.id])
        self.nothing_is_delivered_twice()
        self.framework.stopService()
        self.network.advance(10)


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_whatever_happens(self) -> None:
        run_state_machine_as_test(
            DriverMachine,
            settings=settings(
                max_examples=example_count(100),
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
