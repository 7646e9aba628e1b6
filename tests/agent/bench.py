"""An agent's state on a bench: recovered, registered, with a master and hands that tests play."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesoskit.agent.container import (
    ContainerExited,
    ContainerStarted,
    Destroy,
    Forget,
    Launch,
    RecoveredContainers,
    Signal,
)
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.state import AgentState
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import (
    ExecutorInfo,
    FrameworkInfo,
    TaskGroupInfo,
    TaskInfo,
    TaskState,
)
from mesoskit.model.events import (
    Answer,
    Connected,
    Drop,
    Note,
    PeerKind,
    Received,
    Recovered,
    Send,
    Store,
    Woke,
)
from mesoskit.model.ids import ContainerId, PeerId
from mesoskit.model.resources import Resources

MASTER = PeerId(1)
AGENT_ID = "m-S0"
FRAMEWORK_ID = "m-0000"
SEED = b"0123456789abcdef"

OPTIONS = AgentOptions(
    hostname="host.example",
    ip="127.0.0.1",
    resources=Resources.parse("cpus:4;mem:2048;disk:4096;ports:[31000-32000]"),
    work_dir="/w",
    runtime_dir="/r",
    registration_backoff_factor=1.0,
)

OWN_RECORDS = {"agent/info", "agent/life"}
"""The keys of what is stored where nothing of any framework is."""

KILLING = FrameworkInfo.Capability.TASK_KILLING_STATE
AWARE = FrameworkInfo.Capability.PARTITION_AWARE


def framework(*capabilities: int, **fields: Any) -> FrameworkInfo:
    """Return a FrameworkInfo with an id."""
    given: dict[str, Any] = {"user": "alice", "name": "test", **fields}
    info = FrameworkInfo(**given)
    info.id.value = FRAMEWORK_ID
    for capability in capabilities:
        info.capabilities.add(type=capability)
    return info


def task(task_id: str = "t", command: str = "true", **fields: Any) -> TaskInfo:
    """Return a command task."""
    info = TaskInfo(name=task_id, **fields)
    info.task_id.value = task_id
    info.agent_id.value = AGENT_ID
    for name, amount in (("cpus", 1.0), ("mem", 128.0)):
        resource = info.resources.add(name=name)
        resource.type = 0  # type: ignore[assignment]
        resource.scalar.value = amount
        resource.allocation_info.role = "*"
    if not info.HasField("executor"):
        info.command.value = command
    return info


def custom_executor(executor_id: str = "e", command: str = "./executor") -> ExecutorInfo:
    """Return a custom executor."""
    info = ExecutorInfo()
    info.executor_id.value = executor_id
    info.command.value = command
    return info


class Bench:
    """
    One state and a record of what it wants.

    @ivar store: what a store would hold now.
    @ivar sent: what was sent to the master, in order.
    @ivar told: what was sent to others, as (peer, message).
    @ivar notes: what was logged.
    """

    def __init__(
        self,
        options: AgentOptions = OPTIONS,
        store: dict[str, bytes] | None = None,
        seed: bytes = SEED,
    ):
        self.options = options
        self.state = AgentState(options, seed)
        self.now = 1000.0
        self.store: dict[str, bytes] = dict(store or {})
        self.sent: list[Any] = []
        self.told: list[tuple[PeerId, Any]] = []
        self.notes: list[str] = []
        self.hands: list[Any] = []
        self.answers: list[Answer] = []
        self.dropped: list[Drop] = []
        self.others: list[Any] = []

    def give(self, event: Any) -> list[Any]:
        """Let the state hear an event; check it; sort and return what it wants."""
        effects = self.state.handle(self.now, event)
        self.state.validate_state()
        for effect in effects:
            self._sort(effect)
        return effects

    def _sort(self, effect: Any) -> None:
        if isinstance(effect, Store):
            for key, value in effect.changes:
                if value is None:
                    self.store.pop(key, None)
                else:
                    self.store[key] = value
        elif isinstance(effect, Send):
            if effect.peer == self.state.master:
                self.sent.append(effect.message)
            else:
                self.told.append((effect.peer, effect.message))
        elif isinstance(effect, Note):
            self.notes.append(effect.text)
        elif isinstance(effect, Launch | Signal | Destroy | Forget):
            self.hands.append(effect)
        elif isinstance(effect, Answer):
            self.answers.append(effect)
        elif isinstance(effect, Drop):
            self.dropped.append(effect)
        else:
            self.others.append(effect)

    def records(self) -> set[str]:
        """Return the keys of what is stored of what lives."""
        return {key for key in self.store if not key.startswith("history/")}

    def recover(
        self,
        running: dict[str, int] | None = None,
        abandoned: Iterable[str] = (),
        **exited: int | None,
    ) -> None:
        """Go through recovery."""
        self.give(Recovered(self.store.copy()))
        self.give(
            RecoveredContainers(
                {ContainerId(key): pid for key, pid in (running or {}).items()},
                {ContainerId(key): status for key, status in exited.items()},
                frozenset(ContainerId(key) for key in abandoned),
            )
        )

    def register(self) -> Bench:
        """Recover, connect and register."""
        self.recover()
        self.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        return self.accept()

    def accept(self) -> Bench:
        """Let the master accept the (re-)registration."""
        if isinstance(self.sent[-1], internal.RegisterSlaveMessage):
            message: Any = internal.SlaveRegisteredMessage()
        else:
            message = internal.SlaveReregisteredMessage()
        message.slave_id.value = self.state.agent_id or AGENT_ID
        message.connection.total_ping_timeout_seconds = 75.0
        self.receive(message)
        self.clear()
        return self

    def clear(self) -> None:
        """Forget what was recorded, but not the store."""
        for record in (self.sent, self.told, self.notes, self.hands, self.answers, self.dropped):
            record.clear()

    def receive(self, message: Any, peer: PeerId = MASTER, call: int | None = None) -> list[Any]:
        """Let the state hear a message."""
        return self.give(Received(peer, message, call))

    def run(
        self, *infos: TaskInfo, info: FrameworkInfo | None = None, launch: bool | None = None
    ) -> None:
        """Run tasks, each by a message of its own."""
        for one in infos:
            message = internal.RunTaskMessage(framework=info or framework(), task=one)
            message.resource_version_uuids.add().uuid.value = self.state.resource_version
            if launch is not None:
                message.launch_executor = launch
            self.receive(message)

    def run_group(
        self,
        *infos: TaskInfo,
        info: FrameworkInfo | None = None,
        executor: ExecutorInfo | None = None,
        launch: bool | None = None,
    ) -> None:
        """Run a group of tasks."""
        if executor is None:
            executor = ExecutorInfo(type=ExecutorInfo.DEFAULT)
            executor.executor_id.value = "default"
        message = internal.RunTaskGroupMessage(
            framework=info or framework(),
            executor=executor,
            task_group=TaskGroupInfo(tasks=infos),
        )
        if launch is not None:
            message.launch_executor = launch
        self.receive(message)

    def kill(self, task_id: str = "t", grace: float | None = None) -> list[Any]:
        """Kill a task."""
        message = internal.KillTaskMessage()
        message.framework_id.value = FRAMEWORK_ID
        message.task_id.value = task_id
        if grace is not None:
            message.kill_policy.grace_period.nanoseconds = int(grace * 1e9)
        return self.receive(message)

    def container_of(self, task_id: str = "t") -> ContainerId:
        """Return the container of a task, or of its executor where it has none."""
        found = next(one for key, one in self.state.tasks.items() if key[1] == task_id)
        return found.container or found.executor.container

    def start(self, task_id: str = "t", pid: int = 77) -> list[Any]:
        """Let a task's container start."""
        return self.give(ContainerStarted(self.container_of(task_id), pid))

    def exit(self, task_id: str = "t", status: int | None = 0) -> list[Any]:
        """Let a task's container end."""
        return self.give(ContainerExited(self.container_of(task_id), status))

    def updates(self) -> list[tuple[str, str]]:
        """Return (task, state) of the updates sent to the master."""
        return [
            (one.update.status.task_id.value, TaskState.Name(one.update.status.state))
            for one in self.sent
            if isinstance(one, internal.StatusUpdateMessage)
        ]

    def last(self) -> Any:
        """Return the status of the last update sent to the master."""
        return next(
            one.update.status
            for one in reversed(self.sent)
            if isinstance(one, internal.StatusUpdateMessage)
        )

    def acknowledge(self, rounds: int = 10) -> None:
        """Acknowledge what was sent, again and again, until nothing more is sent."""
        done = {one.update.uuid for one in self.sent[:0]}
        for _ in range(rounds):
            waiting = [
                one
                for one in self.sent
                if isinstance(one, internal.StatusUpdateMessage) and one.update.uuid not in done
            ]
            if not waiting:
                return
            for one in waiting:
                done.add(one.update.uuid)
                self.receive(acknowledgement(one.update))

    def wait(self, seconds: float) -> None:
        """Let time pass, waking the state whenever it wants."""
        end = self.now + seconds
        while (when := self.state.deadline()) is not None and when <= end:
            self.now = max(self.now, when)
            self.give(Woke())
        self.now = end

    def launched(self) -> list[Any]:
        """Return the specs of what was launched."""
        return [one.spec for one in self.hands if isinstance(one, Launch)]

    def subscribe(self, peer: int = 10, executor_id: str = "e", **fields: Any) -> PeerId:
        """Let a custom executor connect with its token and subscribe."""
        executor = self.state.frameworks[FRAMEWORK_ID].executors[executor_id]  # type: ignore[index]
        number = PeerId(peer)
        self.give(Connected(number, PeerKind.EXECUTOR, "unix", token=executor.token))
        self.call(number, Call(type=Call.SUBSCRIBE, subscribe=fields), executor_id)
        return number

    def call(self, peer: PeerId, message: Call, executor_id: str = "e", number: int = 1) -> None:
        """Let an executor make a call."""
        message.executor_id.value = executor_id
        message.framework_id.value = FRAMEWORK_ID
        self.receive(message, peer, number)

    def update(
        self,
        peer: PeerId,
        state: int,
        task_id: str = "t",
        uuid: bytes | None = None,
        **fields: Any,
    ) -> bytes:
        """Let an executor report a task; returns the uuid."""
        uuid = uuid or self.state.ids.bytes()
        message = Call(type=Call.UPDATE)
        status = message.update.status
        status.CopyFrom(type(status)(uuid=uuid, state=state, source=2, **fields))  # type: ignore[arg-type]
        status.task_id.value = task_id
        self.call(peer, message)
        return uuid

    def heard(self, peer: int = 10) -> list[str]:
        """Return the types of the events sent to an executor."""
        return [
            Event.Type.Name(message.type)
            for to, message in self.told
            if to == peer and isinstance(message, Event)
        ]


def acknowledgement(update: Any) -> internal.StatusUpdateAcknowledgementMessage:
    """Return the framework's acknowledgement of an update."""
    return internal.StatusUpdateAcknowledgementMessage(
        slave_id=update.slave_id,
        framework_id=update.framework_id,
        task_id=update.status.task_id,
        uuid=update.uuid,
    )
