"""Agents and frameworks for random histories: they keep the protocol, on bad links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mesoskit.messages.internal_pb2 import StatusUpdateMessage
from mesoskit.messages.mesos_pb2 import ExecutorInfo, FrameworkInfo, Offer, Resource, Task, TaskInfo
from mesoskit.model.ids import PeerId
from mesoskit.model.tasks import TERMINAL, TaskState
from tests.master.bench import reported, update_of, uuid

_TERMINAL = frozenset(TaskState(state).name for state in TERMINAL)


@dataclass
class SimTask:
    """A task as its agent has it, with the updates that nobody has acknowledged."""

    framework_id: str
    task_id: str
    checkpointed: bool
    executor_id: str | None
    resources: list[Resource] = field(default_factory=list)
    state: str = "TASK_STAGING"
    pending: list[StatusUpdateMessage] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in _TERMINAL


class SimAgent:
    """
    An agent: what it was told to run, and what it has to report.

    @ivar link: L{None} while it is not connected.
    @ivar frozen: it takes and sends nothing, though its link stands.
    @ivar executors: by framework and executor, those that run here.
    """

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.id = ""
        self.link: PeerId | None = None
        self.frozen = False
        self.dead = False
        self.tasks: dict[tuple[str, str], SimTask] = {}
        self.executors: dict[tuple[str, str], ExecutorInfo] = {}
        self.frameworks: dict[str, FrameworkInfo] = {}
        self.inbox: list[Any] = []

    def take(self, message: Any) -> None:
        """Take one message from the master."""
        kind = type(message).__name__
        if kind == "RunTaskMessage":
            self._run(message.framework, message.task, message.launch_executor)
        elif kind == "RunTaskGroupMessage":
            for info in message.task_group.tasks:
                self._run(message.framework, info, message.launch_executor)
        elif kind == "StatusUpdateAcknowledgementMessage":
            self._acknowledged(message)
        elif kind == "KillTaskMessage":
            self.move(message.framework_id.value, message.task_id.value, "TASK_KILLED")
        elif kind == "DrainSlaveMessage":
            gone = message.config.mark_gone
            for key in self.tasks:
                self.move(*key, "TASK_GONE_BY_OPERATOR" if gone else "TASK_KILLED")
        elif kind == "ShutdownFrameworkMessage":
            framework_id = message.framework_id.value
            self.tasks = {key: task for key, task in self.tasks.items() if key[0] != framework_id}
            self.executors = {
                key: info for key, info in self.executors.items() if key[0] != framework_id
            }
            self.frameworks.pop(framework_id, None)
        elif kind == "ShutdownExecutorMessage":
            self.end_executor(message.framework_id.value, message.executor_id.value)
        elif kind == "SlaveReregisteredMessage":
            for question in message.reconciliations:
                self.frameworks[question.framework_id.value] = question.framework
                for status in question.statuses:
                    self._answer(question.framework_id.value, status.task_id.value)
        elif kind == "ShutdownMessage":
            self.dead = True

    def _run(self, framework: FrameworkInfo, info: TaskInfo, launch_executor: bool) -> None:
        framework_id = framework.id.value
        self.frameworks[framework_id] = framework
        executor_id = info.executor.executor_id.value if info.HasField("executor") else None
        task = SimTask(
            framework_id,
            info.task_id.value,
            framework.checkpoint,
            executor_id,
            list(info.resources),
        )
        self.tasks[framework_id, info.task_id.value] = task
        if executor_id is not None and launch_executor:
            self.executors[framework_id, executor_id] = info.executor
        elif executor_id is not None and (framework_id, executor_id) not in self.executors:
            # It has ended meanwhile, and the master had not heard so.
            self.move(framework_id, info.task_id.value, "TASK_LOST")

    def end_executor(self, framework_id: str, executor_id: str) -> bool:
        """End an executor with its tasks; return whether it was there."""
        for task in list(self.tasks.values()):
            if task.framework_id == framework_id and task.executor_id == executor_id:
                self.move(framework_id, task.task_id, "TASK_FAILED")
        return self.executors.pop((framework_id, executor_id), None) is not None

    def _acknowledged(self, message: Any) -> None:
        key = (message.framework_id.value, message.task_id.value)
        task = self.tasks.get(key)
        if task is None or not task.pending or task.pending[0].update.uuid != message.uuid:
            return
        del task.pending[0]
        if task.over and not task.pending:
            del self.tasks[key]

    def _answer(self, framework_id: str, task_id: str) -> None:
        if (framework_id, task_id) not in self.tasks:
            task = SimTask(framework_id, task_id, True, None)
            self.tasks[framework_id, task_id] = task
            self.move(framework_id, task_id, "TASK_DROPPED")

    def move(self, framework_id: str, task_id: str, state: str) -> None:
        """Bring a task into a state, and have an update of it."""
        task = self.tasks.get((framework_id, task_id))
        if task is None or task.over or task.state == state:
            return
        task.state = state
        task.pending.append(
            update_of(framework_id, self.id, task_id, state, executor_id=task.executor_id)
        )
        for waiting in task.pending:
            waiting.update.latest_state = state  # type: ignore[assignment]

    def restart(self) -> None:
        """Lose what was not checkpointed."""
        self.link = None
        self.frozen = False
        self.inbox.clear()
        self.tasks = {key: task for key, task in self.tasks.items() if task.checkpointed}
        self.executors = {
            key: info for key, info in self.executors.items() if self.frameworks[key[0]].checkpoint
        }

    def heads(self) -> list[StatusUpdateMessage]:
        """Return the first unacknowledged update of each task."""
        return [task.pending[0] for task in self.tasks.values() if task.pending]

    def report(self) -> tuple[list[Task], list[FrameworkInfo]]:
        """Return what it says of its tasks and frameworks when it registers again."""
        tasks = []
        for task in self.tasks.values():
            info = reported(
                task.framework_id, self.id, task.task_id, task.state, executor_id=task.executor_id
            )
            del info.resources[:]
            info.resources.extend(task.resources)
            tasks.append(info)
        ids = {task.framework_id for task in self.tasks.values()}
        ids.update(framework_id for framework_id, _ in self.executors)
        return tasks, [info for one, info in self.frameworks.items() if one in ids]


class SimFramework:
    """A framework: what it was offered, and what it was told."""

    def __init__(self, fields: dict[str, Any], capabilities: tuple[int, ...]) -> None:
        self.fields = fields
        self.capabilities = capabilities
        self.id = ""
        self.link: PeerId | None = None
        self.ended = False
        self.offers: dict[str, Offer] = {}
        self.launched: dict[str, str] = {}
        self.told: dict[str, str] = {}
        self.unacknowledged: list[tuple[str, str, str]] = []

    @property
    def roles(self) -> Any:
        """Return its roles, where it may have several."""
        return self.fields.get("roles")

    def take(self, event: Any) -> None:
        """Take one event from the master."""
        if event.HasField("subscribed"):
            self.id = event.subscribed.framework_id.value
        elif event.HasField("offers"):
            for offer in event.offers.offers:
                assert offer.id.value not in self.offers, "the same offer twice"
                self.offers[offer.id.value] = offer
        elif event.HasField("rescind"):
            del self.offers[event.rescind.offer_id.value]
        elif event.HasField("update"):
            status = event.update.status
            state = TaskState(status.state).name
            self.told[status.task_id.value] = state
            if status.uuid:
                assert status.uuid == uuid(status.task_id.value + state)
                self.unacknowledged.append((status.agent_id.value, status.task_id.value, state))
        elif event.HasField("error"):
            self.ended = event.error.message == "Framework has been removed"
