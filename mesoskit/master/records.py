"""What a master keeps of its peers, frameworks, agents, executors, tasks and offers.

Slotted records, changed only by the functions beside L{mesoskit.master.state}. They refer to
one another directly; what is hashable and shown to others are the ids. Nothing iterates over a
set: dicts keep the order in which things came, so a replay gives the same effects.

What nobody computes with (a C{FrameworkInfo}, an C{AgentInfo}, an C{ExecutorInfo}) stays the
message that came. What is kept a thousand times over (a task's statuses) is kept as bytes.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mesoskit.master import offer_constraints
from mesoskit.messages import internal_pb2, mesos_pb2
from mesoskit.messages.mesos_pb2 import AgentInfo, DrainInfo, ExecutorInfo, FrameworkInfo, TaskInfo
from mesoskit.model.capabilities import AgentCapability, FrameworkCapability
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import AgentId, ExecutorId, FrameworkId, OfferId, PeerId, TaskId
from mesoskit.model.resources import Resources
from mesoskit.model.statuses import add_details
from mesoskit.model.tasks import TERMINAL, TaskState

_STAGING = int(TaskState.TASK_STAGING)
_TERMINAL = frozenset(int(state) for state in TERMINAL)
_FREED = _TERMINAL | {int(TaskState.TASK_UNREACHABLE)}


NO_PID = "@0.0.0.0:0"
"""What stands in C{pid} fields for who is not behind libprocess."""


SUPERSEDED: Final = 16
"""How many instances of a framework are remembered that others have taken the place of."""


class Peer:
    """
    One link, as the state knows it.

    @ivar framework: who subscribed over it, at most one.
    @ivar agent: or which agent registered over it.
    @ivar instance: what is unique for each start of a peer, C{""} where it does not say.
    """

    __slots__ = (
        "address",
        "agent",
        "congested",
        "framework",
        "id",
        "instance",
        "kind",
        "principal",
    )

    def __init__(
        self,
        peer: PeerId,
        kind: PeerKind,
        address: str,
        principal: str | None,
        instance: str = "",
    ) -> None:
        self.id = peer
        self.kind = kind
        self.address = address
        self.principal = principal
        self.instance = instance
        self.framework: Framework | None = None
        self.agent: Agent | None = None
        self.congested = False

    @property
    def pid(self) -> str:
        """The peer as C{pid} fields name it; L{NO_PID} unless it speaks libprocess."""
        return self.address if "@" in self.address else NO_PID


class Executor:
    """
    An executor that the master has seen launched on an agent; command tasks have none here.

    @ivar resources: unallocated; C{role} is the one they are allocated to.
    """

    __slots__ = ("agent_id", "framework_id", "id", "info", "resources", "role")

    def __init__(
        self,
        framework_id: FrameworkId,
        agent_id: AgentId,
        info: ExecutorInfo,
        resources: Resources,
        role: str,
    ) -> None:
        self.framework_id = framework_id
        self.agent_id = agent_id
        self.id = ExecutorId(info.executor_id.value)
        self.info = info
        self.resources = resources
        self.role = role


class Task:
    """
    A task, from the moment it was accepted until it is forgotten.

    @ivar agent: where it is; L{None} once the agent is not registered any more.
    @ivar executor_id: L{None} for a command task: its agent makes the executor.
    @ivar state: the latest that is known (a L{TaskState} number).
    @ivar told_state: the state of the last update that came for the framework and wants an
        acknowledgement, whether or not the framework was there; L{None} before the first.
    @ivar told_uuid: and its uuid.
    @ivar statuses: the last C{TaskStatus} in each state, serialized, oldest first, without data.
    @ivar resources: unallocated, as everywhere here; C{role} is the one they are allocated to.
    @ivar shares_cgroups: whether it lives in its executor's cgroups, as most do.
    @ivar detail: a serialized C{mesos.v1.Task} with what only views want, or C{b""}.
    """

    __slots__ = (
        "agent",
        "agent_id",
        "detail",
        "executor_id",
        "framework",
        "id",
        "last_status_state",
        "name",
        "resources",
        "role",
        "shares_cgroups",
        "state",
        "statuses",
        "told_state",
        "told_uuid",
    )

    def __init__(
        self,
        task_id: TaskId,
        name: str,
        framework: "Framework",
        agent: "Agent",
        executor_id: ExecutorId | None,
        resources: Resources,
        role: str,
    ) -> None:
        self.id = task_id
        self.name = name
        self.framework = framework
        self.agent: Agent | None = agent
        self.agent_id = agent.id
        self.executor_id = executor_id
        self.resources = resources
        self.role = role
        self.state = _STAGING
        self.told_state: int | None = None
        self.told_uuid: bytes | None = None
        self.statuses: list[bytes] = []
        self.last_status_state = -1
        self.detail = b""
        self.shares_cgroups = True

    def __repr__(self) -> str:
        return f"<Task {self.id} {TaskState(self.state).name} of {self.framework.id}>"

    @property
    def holds_resources(self) -> bool:
        """Whether the task's resources are in use."""
        return self.state not in _FREED

    def add_status(self, state: int, status: bytes) -> bool:
        """
        Remember a status; a second one in the same state takes the first one's place.

        @return: whether it is in another state than the one before.
        """
        if state == self.last_status_state:
            self.statuses[-1] = status
            return False
        self.statuses.append(status)
        self.last_status_state = state
        return True

    def to_message(self) -> mesos_pb2.Task:
        """Return the task as C{mesos.v1.Task}, statuses and all."""
        task = mesos_pb2.Task.FromString(self.detail) if self.detail else mesos_pb2.Task()
        task.name = self.name
        task.task_id.value = self.id
        task.framework_id.value = self.framework.id
        task.agent_id.value = self.agent_id
        task.state = self.state  # type: ignore[assignment]
        if self.executor_id is not None:
            task.executor_id.value = self.executor_id
        task.resources.extend(self.resources.allocated(self.role).to_message())
        for status in self.statuses:
            task.statuses.add().MergeFromString(status)
        if self.told_state is not None and self.told_uuid is not None:
            task.status_update_state = self.told_state  # type: ignore[assignment]
            task.status_update_uuid = self.told_uuid
        return task


def task_detail(info: TaskInfo) -> bytes:
    """Return what of a C{TaskInfo} only views want, as a serialized C{Task}; mostly C{b""}."""
    has = info.HasField
    if not (
        has("labels")
        or has("discovery")
        or has("container")
        or has("health_check")
        or has("kill_policy")
        or len(info.limits)
        or has("executor")
        or info.command.HasField("user")
    ):
        return b""
    detail = mesos_pb2.Task()
    add_details(detail, info)
    return detail.SerializePartialToString()


class Offer:
    """An outstanding offer: resources of one agent, allocated to one role of one framework."""

    __slots__ = ("agent", "agent_id", "framework", "framework_id", "id", "resources", "role")

    def __init__(
        self,
        offer_id: OfferId,
        framework: "Framework",
        agent: "Agent",
        role: str,
        resources: Resources,
    ) -> None:
        self.id = offer_id
        self.framework = framework
        self.framework_id = framework.id
        self.agent = agent
        self.agent_id = agent.id
        self.role = role
        self.resources = resources


class Framework:
    """
    A framework, as long as it is not completed and after.

    @ivar info: with its id.
    @ivar peer: the link it is subscribed over; L{None} while it is disconnected.
    @ivar instance: of the peer that subscribed last.
    @ivar superseded: those whose place another one has taken, the oldest forgotten past a cap.
    @ivar recovered: known from a re-registered agent, not yet subscribed since.
    @ivar constraints: which agents it wants to be offered.
    @ivar claimed: subscribed by somebody who proved who he is, with an id of which neither this
        master nor an agent has said yet whose it is.
    @ivar tasks: all that its agents may have, terminal ones until they are acknowledged.
    @ivar unreachable: those whose agent is unreachable, the oldest forgotten past a cap.
    @ivar completed: those that have ended, likewise.
    @ivar calls: how many calls of each type came; C{events}: how many events went.
    @ivar operations: how many operations of each type were carried out.
    @ivar live: how many of C{tasks} are in each state, by its number.
    @ivar terminal: how many tasks ended in each state.
    """

    __slots__ = (
        "active",
        "calls",
        "capabilities",
        "claimed",
        "completed",
        "constraints",
        "events",
        "id",
        "info",
        "instance",
        "live",
        "multi_role",
        "offers",
        "offers_accepted",
        "offers_declined",
        "offers_rescinded",
        "offers_sent",
        "operations",
        "partition_aware",
        "peer",
        "pid",
        "recovered",
        "refinement",
        "registered_time",
        "reregistered_time",
        "roles",
        "run_template",
        "superseded",
        "suppressed",
        "tasks",
        "terminal",
        "unreachable",
        "unregistered_time",
    )

    def __init__(self, info: FrameworkInfo, now: float, completed_tasks: int) -> None:
        self.id = FrameworkId(info.id.value)
        self.peer: Peer | None = None
        self.pid = NO_PID
        self.instance = ""
        self.superseded: deque[str] = deque(maxlen=SUPERSEDED)
        self.active = False
        self.recovered = False
        self.claimed = False
        self.registered_time = now
        self.reregistered_time = now
        self.unregistered_time = 0.0
        self.suppressed: tuple[str, ...] = ()
        self.constraints = offer_constraints.NONE
        self.tasks: dict[TaskId, Task] = {}
        self.unreachable: dict[TaskId, Task] = {}
        self.completed: deque[Task] = deque(maxlen=completed_tasks)
        self.offers: dict[OfferId, Offer] = {}
        self.calls = [0] * 20
        self.events = [0] * 12
        self.operations = [0] * 15
        self.live = [0] * 14
        self.terminal = [0] * 14
        self.offers_sent = 0
        self.offers_accepted = 0
        self.offers_declined = 0
        self.offers_rescinded = 0
        self.update(info)

    def __repr__(self) -> str:
        return f"<Framework {self.id} ({self.info.name})>"

    @property
    def connected(self) -> bool:
        """Whether it is subscribed over a link that stands."""
        return self.peer is not None

    def update(self, info: FrameworkInfo) -> None:
        """Take over a FrameworkInfo (which must have the id) and what follows from it."""
        self.info = info
        capabilities = FrameworkCapability.from_messages(info.capabilities)
        self.multi_role = capabilities.multi_role
        self.partition_aware = capabilities.partition_aware
        self.refinement = capabilities.reservation_refinement
        self.capabilities = capabilities
        self.roles: tuple[str, ...] = framework_roles(info)
        self.run_template = internal_pb2.RunTaskMessage(framework=info, pid=self.pid)


def framework_roles(info: FrameworkInfo) -> tuple[str, ...]:
    """Return the roles a framework is in: C{roles} with MULTI_ROLE, else its one C{role}."""
    for capability in info.capabilities:
        if capability.type == FrameworkInfo.Capability.MULTI_ROLE:
            return tuple(dict.fromkeys(info.roles))
    return (info.role,)


@dataclass(slots=True, frozen=True)
class Deactivation:
    """
    Why an agent is not offered.

    @ivar drain: how it is drained and how far that is; L{None} where it is only deactivated.
    @ivar since: when (seconds since 1970) the draining began, as far as this master knows.
    """

    drain: DrainInfo | None = None
    since: float = 0.0


class Agent:
    """
    A registered agent.

    @ivar info: with its id; resources as the agent wrote them.
    @ivar peer: its link; L{None} while it is disconnected.
    @ivar pid: where it is, in libprocess' way of writing: C{slave(1)@10.0.0.7:5051}.
    @ivar active: it is connected and its resources may be offered.
    @ivar deactivation: why it is not offered although it is there, or L{None}.
    @ivar total: all its resources, allocated to nobody.
    @ivar killed: tasks that a framework asked to kill, by (framework id, task id), with the
        serialized C{KillPolicy}; said again when the agent comes back.
    @ivar missed: pings in a row that it left unanswered.
    @ivar pinged: the last ping is still unanswered.
    """

    __slots__ = (
        "active",
        "capabilities",
        "deactivation",
        "executors",
        "id",
        "info",
        "killed",
        "missed",
        "offer_template",
        "offers",
        "peer",
        "pid",
        "pinged",
        "registered_time",
        "reregistered_time",
        "resource_version",
        "tasks",
        "total",
        "version",
    )

    def __init__(self, info: AgentInfo, pid: str, now: float) -> None:
        self.id = AgentId(info.id.value)
        self.info = info
        self.pid = pid
        self.peer: Peer | None = None
        self.active = False
        self.version = ""
        self.capabilities = AgentCapability(0)
        self.resource_version = b""
        self.deactivation: Deactivation | None = None
        self.registered_time = now
        self.reregistered_time = 0.0
        self.total = Resources.EMPTY
        self.tasks: dict[Task, None] = {}
        self.executors: dict[FrameworkId, dict[ExecutorId, Executor]] = {}
        self.offers: dict[OfferId, Offer] = {}
        self.killed: dict[tuple[FrameworkId, TaskId], bytes] = {}
        self.missed = 0
        self.pinged = False
        self.offer_template = mesos_pb2.Offer()

    def __repr__(self) -> str:
        return f"<Agent {self.id} at {self.pid} ({self.info.hostname})>"

    @property
    def connected(self) -> bool:
        """Whether its link stands."""
        return self.peer is not None

    def frameworks(self) -> dict[FrameworkId, None]:
        """Return the ids of the frameworks that have tasks or executors here."""
        ids = {task.framework.id: None for task in self.tasks}
        ids.update(dict.fromkeys(self.executors))
        return ids

    def executor(self, framework_id: FrameworkId, executor_id: ExecutorId) -> Executor | None:
        """Return an executor on this agent, or L{None}."""
        executors = self.executors.get(framework_id)
        return None if executors is None else executors.get(executor_id)

    def all_executors(self) -> Iterator[Executor]:
        """Give every executor on this agent."""
        for executors in self.executors.values():
            yield from executors.values()

    def used(self) -> dict[FrameworkId, dict[str, Resources]]:
        """Return what each framework's tasks and executors hold here, by the role it is for."""
        parts: dict[FrameworkId, dict[str, list[Resources]]] = {}
        for task in self.tasks:
            if task.holds_resources:
                held = parts.setdefault(task.framework.id, {})
                held.setdefault(task.role, []).append(task.resources)
        for executor in self.all_executors():
            if executor.resources:
                held = parts.setdefault(executor.framework_id, {})
                held.setdefault(executor.role, []).append(executor.resources)
        return {
            framework_id: {role: Resources.sum(each) for role, each in held.items()}
            for framework_id, held in parts.items()
        }
