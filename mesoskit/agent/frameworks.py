"""What an agent has: frameworks, their executors, and the tasks of those.

Plain slotted records; what becomes of them is decided in the modules that act on the
state. Messages that are only kept (a C{TaskInfo}, old statuses) are kept as bytes: a
parsed message holds ten times the memory, and a machine may run thousands of tasks.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from mesoskit.agent.allotments import Sum, of_resources
from mesoskit.agent.container import Allotment, Amounts
from mesoskit.messages.mesos_pb2 import ExecutorInfo, FrameworkInfo, Task, TaskInfo
from mesoskit.model.ids import ContainerId, ExecutorId, FrameworkId, PeerId, TaskId
from mesoskit.model.statuses import make_task
from mesoskit.model.tasks import TERMINAL, TaskState

if TYPE_CHECKING:
    from mesoskit.agent.checks import Check
    from mesoskit.agent.options import AgentOptions

_KILLING_STATE = FrameworkInfo.Capability.TASK_KILLING_STATE
_PARTITION_AWARE = FrameworkInfo.Capability.PARTITION_AWARE


class Kind(Enum):
    """Who plays the executor."""

    COMMAND = "command"
    """The agent itself, for the one task of a command: the task's process is the container."""

    DEFAULT = "default"
    """The agent itself, for groups of tasks: each task is a container in the executor's."""

    CUSTOM = "custom"
    """A process that subscribes at the executors' door."""


class ExecutorState(Enum):
    """Mesos' states of an executor (C{src/slave/slave.hpp})."""

    REGISTERING = "REGISTERING"
    """It was launched and has not subscribed."""

    RUNNING = "RUNNING"
    """It has subscribed; for those that the agent plays: from the beginning."""

    TERMINATING = "TERMINATING"
    """It was told to shut down, or is being destroyed."""

    TERMINATED = "TERMINATED"
    """Its container is gone; it stays until its last update is acknowledged."""


class Framework:
    """
    A framework with something on this agent.

    @ivar info: as the master sent it last.
    @ivar killing_state: it understands C{TASK_KILLING}.
    @ivar partition_aware: it understands what others are told is C{TASK_LOST}.
    @ivar terminating: it is being shut down: nothing is reported of it any more.
    @ivar completed: its executors that are gone, newest last.
    """

    __slots__ = (
        "completed",
        "executors",
        "id",
        "info",
        "killing_state",
        "partition_aware",
        "terminating",
    )

    def __init__(self, framework_id: FrameworkId, info: FrameworkInfo, max_completed: int) -> None:
        self.id = framework_id
        self.executors: dict[ExecutorId, Executor] = {}
        self.completed: deque[Executor] = deque(maxlen=max_completed)
        self.terminating = False
        self.update(info)

    def update(self, info: FrameworkInfo) -> None:
        """Take over a newer info."""
        capabilities = {capability.type for capability in info.capabilities}
        self.info = info
        self.killing_state = _KILLING_STATE in capabilities
        self.partition_aware = _PARTITION_AWARE in capabilities


class Executor:
    """
    An executor, whoever plays it.

    @ivar info: L{None} for a command task, whose executor nobody else knows of.
    @ivar container: of its process; for groups the parent of the tasks' containers.
    @ivar pod: it is of groups, and its container is there: it holds what its tasks share.
    @ivar exit: of a pod: the wait status that the master hears in the end.
    @ivar directory: its sandbox.
    @ivar peer: the link over which it has subscribed.
    @ivar token: what it may show to prove itself (custom executors).
    @ivar proven: it has shown it; from then on nobody else speaks for it.
    @ivar subscribed: it has subscribed at least once: it may know of tasks.
    @ivar shut_down: it was asked to end.
    @ivar noted: a note of it may be stored; C{first_note}: one is being stored that it waits for.
    @ivar proof_noted: that it is proven stands there.
    @ivar allowed: the seconds that it was last given to subscribe.
    @ivar queued: tasks and groups that wait until it has subscribed.
    @ivar tasks: all that are not completed, the queued ones included.
    @ivar completed: tasks that are terminal and acknowledged, newest last.
    @ivar sent_task: it was ever given a task.
    @ivar termination: the state, reason and text that its live tasks end with; L{None}: Mesos' own.
    @ivar given: what its container is given: its own resources, and its live tasks'.
    @ivar limited: what its container took too much of.
    """

    __slots__ = (
        "allowed",
        "completed",
        "container",
        "directory",
        "exit",
        "first_note",
        "framework",
        "given",
        "grace_period",
        "id",
        "info",
        "kind",
        "limited",
        "noted",
        "peer",
        "pid",
        "pod",
        "proof_noted",
        "proven",
        "queued",
        "sent_task",
        "shut_down",
        "state",
        "subscribed",
        "tasks",
        "termination",
        "token",
    )

    def __init__(
        self,
        framework: Framework,
        executor_id: ExecutorId,
        kind: Kind,
        container: ContainerId,
        directory: str,
        info: ExecutorInfo | None = None,
        grace_period: float = 5.0,
    ) -> None:
        self.framework = framework
        self.id = executor_id
        self.kind = kind
        self.container = container
        self.directory = directory
        self.info = info
        self.grace_period = grace_period
        self.state = ExecutorState.RUNNING
        self.pod = False
        self.exit: int | None = 0
        self.peer: PeerId | None = None
        self.pid: int | None = None
        self.token: str | None = None
        self.proven = False
        self.proof_noted = False
        self.subscribed = False
        self.shut_down = False
        self.noted = False
        self.first_note = False
        self.allowed = 0.0
        self.queued: list[AgentTask | Group] = []
        self.tasks: dict[TaskId, AgentTask] = {}
        self.completed: deque[AgentTask] | None = None
        self.sent_task = False
        self.termination: tuple[int, int, str] | None = None
        self.given = Sum(of_resources(info.resources) if info is not None else Allotment())
        self.limited: Amounts = ()

    def complete(self, task: AgentTask, most: int) -> None:
        """Move a task that is terminal and acknowledged to the history."""
        del self.tasks[task.id]
        if self.completed is None:
            self.completed = deque(maxlen=most)
        self.completed.append(task)

    def live(self) -> list[AgentTask]:
        """Return the tasks that are not terminal."""
        return [task for task in self.tasks.values() if task.state not in TERMINAL]


class AgentTask:
    """
    A task on this agent.

    @ivar info: the C{TaskInfo} as bytes.
    @ivar state: the newest, which the master may not have heard of yet.
    @ivar container: its own (command tasks, tasks of groups); L{None}: its executor's.
    @ivar pid: of its own container, once it runs.
    @ivar group: what it was launched with (tasks of groups only).
    @ivar statuses: the last status of each state, as bytes, oldest first.
    @ivar kill_grace: seconds between SIGTERM and destruction.
    @ivar killed_at: when the kill began.
    @ivar killed: somebody asked for its end (and not its own failure).
    @ivar overdue: it ended because C{max_completion_time} had passed.
    @ivar started: its container runs or ran.
    @ivar started_at: since when, where it has a C{max_completion_time}.
    @ivar noted: a note of it may be stored.
    @ivar unrecorded: its record could not be stored, so nothing of it may be.
    @ivar ended: its container is gone, or it never had one of its own.
    @ivar ending: the state, source, reason and text that it ends with whatever its exit status.
    @ivar checks: what it is asked from time to time (L{mesoskit.agent.checks}).
    @ivar docker: it is a container of the Docker engine.
    @ivar sick: it is killed because a health check failed.
    @ivar given: what its executor's container is given for it, while it is live (custom executors
        and pods).
    @ivar limited: what its container took too much of.
    @ivar held: the wait status of a task of a group that ended before its group ran.
    """

    __slots__ = (
        "checks",
        "container",
        "docker",
        "ended",
        "ending",
        "executor",
        "given",
        "group",
        "held",
        "id",
        "info",
        "kill_grace",
        "killed",
        "killed_at",
        "limited",
        "max_completion",
        "noted",
        "overdue",
        "pid",
        "sick",
        "started",
        "started_at",
        "state",
        "statuses",
        "unrecorded",
    )

    def __init__(self, executor: Executor, task_id: TaskId, info: bytes) -> None:
        self.executor = executor
        self.id = task_id
        self.info = info
        self.state: int = TaskState.TASK_STAGING
        self.container: ContainerId | None = None
        self.docker = False
        self.pid: int | None = None
        self.group: Group | None = None
        self.statuses: tuple[tuple[int, bytes], ...] = ()
        self.kill_grace = 3.0
        self.killed_at: float | None = None
        self.killed = False
        self.overdue = False
        self.started = False
        self.started_at: float | None = None
        self.noted = False
        self.unrecorded = False
        self.ended = False
        self.max_completion = 0.0
        self.ending: tuple[int, int, int, str] | None = None
        self.held: int | None = None
        self.given: Allotment | None = None
        self.limited: Amounts = ()
        self.checks: tuple[Check, ...] = ()
        self.sick = False

    @property
    def terminal(self) -> bool:
        """It is in a terminal state."""
        return self.state in TERMINAL

    def remember(self, state: int, status: bytes) -> None:
        """Keep the last status of each state."""
        self.statuses = (*(kept for kept in self.statuses if kept[0] != state), (state, status))

    def to_message(self) -> Task:
        """Return what masters are told and pages show of it."""
        executor = self.executor
        task = make_task(TaskInfo.FromString(self.info), self.state, executor.framework.id)
        if executor.kind is not Kind.COMMAND:
            task.executor_id.value = executor.id
        for _, status in self.statuses:
            task.statuses.add().MergeFromString(status)
        return task


class Group:
    """
    Tasks that were launched together.

    @ivar name: the id of the first of them.
    @ivar waits: none of them was launched: their executor's container has to be there before.
    @ivar launched: all of them run, or have run.
    @ivar abandoned: one of them could not be started or was killed before: those that came to
        run are being destroyed.
    @ivar broken: it was abandoned in an earlier life of the agent.
    """

    __slots__ = ("abandoned", "broken", "launched", "name", "tasks", "waits")

    def __init__(self, tasks: list[AgentTask], name: TaskId | None = None) -> None:
        self.tasks = tasks
        self.name = tasks[0].id if name is None else name
        self.launched = False
        self.abandoned = False
        self.broken = False
        self.waits = False


def kill_grace_of(info: TaskInfo) -> float:
    """Return the seconds between SIGTERM and SIGKILL that a task asks for, 3 by default."""
    if info.kill_policy.HasField("grace_period"):
        return info.kill_policy.grace_period.nanoseconds / 1e9
    return 3.0


def shutdown_grace_of(info: ExecutorInfo, options: AgentOptions) -> float:
    """Return the seconds that an executor has between C{SHUTDOWN} and destruction."""
    if info.HasField("shutdown_grace_period"):
        return info.shutdown_grace_period.nanoseconds / 1e9
    return options.executor_shutdown_grace_period
