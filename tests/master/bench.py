"""A master's state on a bench, with agents and frameworks that tests play."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.options import Options as AllocatorOptions
from mesoskit.master.options import MasterOptions
from mesoskit.master.state import MasterState
from mesoskit.messages.internal_pb2 import (
    PongSlaveMessage,
    RegisterSlaveMessage,
    ReregisterSlaveMessage,
    StatusUpdateMessage,
)
from mesoskit.messages.mesos_pb2 import (
    AgentInfo,
    ExecutorInfo,
    FrameworkInfo,
    Offer,
    Resource,
    Task,
    TaskInfo,
    TaskStatus,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import (
    Answer,
    Connected,
    Drop,
    Lost,
    Note,
    PeerKind,
    Received,
    Recovered,
    Send,
    Stop,
    Store,
    Woke,
)
from mesoskit.model.ids import AgentId, FrameworkId, Ids, PeerId
from mesoskit.model.resources import Resources

SEED = b"0123456789abcdef"

AWARE = FrameworkInfo.Capability.PARTITION_AWARE
MULTI_ROLE = FrameworkInfo.Capability.MULTI_ROLE
REFINEMENT = FrameworkInfo.Capability.RESERVATION_REFINEMENT

CPUS_AND_MEM = "cpus:4;mem:2048"


class Bench:
    """
    A state with its allocator, and a clock that tests turn.

    After each event the state's invariants are checked, and that what came in was not changed.

    @ivar now: seconds.
    @ivar events: what was given to the state and when, for a replay.
    @ivar honest: no agent lies about what it has.
    @ivar stored: what the registry would hold if every store had worked.
    """

    def __init__(
        self,
        snapshot: dict[str, bytes] | None = None,
        allocator: AllocatorOptions | None = None,
        seed: bytes = SEED,
        now: float = 0.0,
        **options: Any,
    ) -> None:
        self.now = now
        self.allocator = HierarchicalAllocator(allocator or AllocatorOptions())
        self.options = replace(MasterOptions(), **options)
        self.state = MasterState(self.options, Ids(seed), self.allocator, now)
        self.events: list[tuple[float, Any]] = []
        self.stored: dict[str, bytes] = dict(snapshot or {})
        self.dropped: set[PeerId] = set()
        self.honest = True
        self._peers = 0
        self._calls = 0
        self.give(Recovered(dict(snapshot or {})))

    # Events in, effects out.

    def give(self, event: Any) -> list[Any]:
        """Let the state hear an event; return the effects but for the notes."""
        kept = event
        if isinstance(event, Received):
            kept = replace(event, message=_copy(event.message))
        self.events.append((self.now, kept))
        effects = self.state.handle(self.now, event)
        if isinstance(event, Received):
            assert event.message == kept.message, "the state changed what came in"
        if not stops(effects):
            self.state.validate_state(self.honest)
            self._check_books()
        for effect in effects:
            if isinstance(effect, Send | Answer):
                assert effect.peer not in self.dropped, f"{effect} goes to a dropped peer"
            elif isinstance(effect, Drop):
                self.dropped.add(effect.peer)
            elif isinstance(effect, Store):
                for key, value in effect.changes:
                    if value is None:
                        self.stored.pop(key, None)
                    else:
                        self.stored[key] = value
        return [effect for effect in effects if not isinstance(effect, Note)]

    def _check_books(self) -> None:
        """The allocator and the state hold the same of who holds what."""
        books = self.allocator._ledger.agents
        assert set(books) == set(self.state.agents), "not the same agents"
        for agent_id, agent in self.state.agents.items():
            mine: dict[tuple[str, str], Resources] = {}
            for framework_id, roles in agent.used().items():
                for role, resources in roles.items():
                    mine[framework_id, role] = resources
            for offer in agent.offers.values():
                key = (offer.framework_id, offer.role)
                mine[key] = mine.get(key, Resources.EMPTY) + offer.resources
            theirs = {
                (client.framework.id, client.role.name): held
                for client, (held, _) in books[agent_id].held.items()
                if held
            }
            assert mine == theirs, f"{agent_id}: {mine} is not {theirs}"

    def connect(
        self,
        kind: PeerKind,
        address: str = "127.0.0.1:40000",
        principal: str | None = None,
        instance: str = "",
    ) -> PeerId:
        """Connect a peer."""
        self._peers += 1
        peer = PeerId(self._peers)
        assert self.give(Connected(peer, kind, address, principal, instance=instance)) == []
        return peer

    def receive(self, peer: PeerId, message: Message) -> list[Any]:
        """Let a message come that wants no answer."""
        return self.give(Received(peer, message))

    def call(self, peer: PeerId, message: Message) -> tuple[int, str]:
        """Let a message come that wants an answer; return its status and text."""
        return self.ask(peer, message)[0]

    def ask(self, peer: PeerId, message: Message) -> tuple[tuple[int, str], list[Any]]:
        """Let a message come that wants an answer; return that, and the other effects."""
        self._calls += 1
        effects = self.give(Received(peer, message, self._calls))
        answers = [effect for effect in effects if isinstance(effect, Answer)]
        assert len(answers) == 1, f"{len(answers)} answers to one call"
        assert answers[0].call == self._calls
        assert answers[0].peer == peer
        rest = [effect for effect in effects if not isinstance(effect, Answer)]
        return (answers[0].status, answers[0].why), rest

    def lose(self, peer: PeerId) -> list[Any]:
        """Break a link."""
        return self.give(Lost(peer, "connection lost"))

    def wake(self) -> list[Any]:
        """Go on to the state's next deadline."""
        deadline = self.state.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.give(Woke())

    def run_until(self, moment: float) -> list[Any]:
        """Go on to a moment, waking the state at each deadline; return all effects."""
        effects: list[Any] = []
        for _ in range(10_000):
            deadline = self.state.deadline()
            if deadline is None or deadline > moment:
                break
            effects += self.wake()
        else:
            raise AssertionError("the state wants to be woken again and again")
        self.now = max(self.now, moment)
        return effects

    # Agents.

    def register(
        self,
        hostname: str = "agent.example",
        resources: str = CPUS_AND_MEM,
        address: str = "127.0.0.1:40000",
        port: int = 5051,
    ) -> tuple[PeerId, AgentId]:
        """Register a new agent; return its link and id."""
        peer = self.connect(PeerKind.AGENT, address)
        effects = self.receive(peer, registration(hostname, resources, port))
        (registered,) = sent(effects, peer, "SlaveRegisteredMessage")
        return peer, AgentId(registered.slave_id.value)

    def pong(self, peer: PeerId) -> None:
        """Answer a ping."""
        assert self.receive(peer, PongSlaveMessage()) == []

    # Frameworks.

    def subscribe(self, *capabilities: int, **fields: Any) -> tuple[PeerId, FrameworkId]:
        """Subscribe a framework; return its link and id."""
        peer = self.connect(PeerKind.FRAMEWORK, "127.0.0.1:50000")
        effects = self.receive(peer, subscription(*capabilities, **fields))
        (event,) = events(effects, peer, Event.SUBSCRIBED)
        return peer, FrameworkId(event.subscribed.framework_id.value)

    def offers(self, peer: PeerId) -> list[Offer]:
        """Go on until a framework is offered something, which must be soon."""
        until = self.now + 7.0
        while (deadline := self.state.deadline()) is not None and deadline <= until:
            found = [
                offer
                for event in events(self.wake(), peer, Event.OFFERS)
                for offer in event.offers.offers
            ]
            if found:
                return found
        raise AssertionError("nothing was offered")

    def offer(self, peer: PeerId) -> Offer:
        """Go on to the next offers, of which there must be one."""
        (offer,) = self.offers(peer)
        return offer

    def launch(self, peer: PeerId, offer: Offer, *tasks: TaskInfo) -> list[Any]:
        """Accept an offer to launch tasks on it."""
        return self.receive(peer, accept(offer, *tasks))

    def running(self, agent: PeerId, peer: PeerId, *task_ids: str) -> Offer:
        """Launch tasks on the next offer and let them run; return the offer."""
        offer = self.offer(peer)
        self.launch(peer, offer, *[task(offer, task_id) for task_id in task_ids])
        for task_id in task_ids:
            self.receive(agent, update(offer, task_id, "TASK_RUNNING"))
        return offer


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


# Looking at effects.


def sent(effects: Iterable[Any], peer: PeerId, name: str | None = None) -> list[Any]:
    """Return the messages that go to a peer, of one class if it is named."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Send)
        and effect.peer == peer
        and (name is None or type(effect.message).__name__ == name)
    ]


def events(effects: Iterable[Any], peer: PeerId, kind: int | None = None) -> list[Event]:
    """Return the events that go to a framework, of one type if it is named."""
    return [
        message for message in sent(effects, peer, "Event") if kind is None or message.type == kind
    ]


def statuses(effects: Iterable[Any], peer: PeerId) -> list[TaskStatus]:
    """Return the statuses that a framework is sent."""
    return [event.update.status for event in events(effects, peer, Event.UPDATE)]


def told(effects: Iterable[Any], peer: PeerId) -> list[tuple[str, str]]:
    """Return task ids and states that a framework is sent."""
    return [(status.task_id.value, state_name(status.state)) for status in statuses(effects, peer)]


def state_name(state: int) -> str:
    """Return the name of a task's state."""
    from mesoskit.model.tasks import TaskState

    return TaskState(state).name


def drops(effects: Iterable[Any]) -> list[PeerId]:
    """Return the links that are closed."""
    return [effect.peer for effect in effects if isinstance(effect, Drop)]


def stores(effects: Iterable[Any]) -> list[str]:
    """Return the keys that are written, with a minus where they are deleted."""
    return [
        key if value is not None else f"-{key}"
        for effect in effects
        if isinstance(effect, Store)
        for key, value in effect.changes
    ]


def stops(effects: Iterable[Any]) -> list[Stop]:
    """Return the stops among effects."""
    return [effect for effect in effects if isinstance(effect, Stop)]


# Making messages.


def resources(text: str, role: str | None = None) -> list[Resource]:
    """Return resources as messages, allocated if a role is given."""
    parsed = Resources.parse(text)
    return (parsed if role is None else parsed.allocated(role)).to_message()


def agent_info(hostname: str, amounts: str, port: int = 5051, agent_id: str = "") -> AgentInfo:
    """Return what an agent says of itself."""
    info = AgentInfo(hostname=hostname, port=port)
    info.resources.extend(resources(amounts))
    if agent_id:
        info.id.value = agent_id
    return info


def registration(
    hostname: str = "agent.example", amounts: str = CPUS_AND_MEM, port: int = 5051
) -> RegisterSlaveMessage:
    """Return what a new agent sends."""
    message = RegisterSlaveMessage(version="1.11.0")
    message.slave.CopyFrom(agent_info(hostname, amounts, port))
    for capability in range(1, 9):
        message.agent_capabilities.add().type = capability  # type: ignore[assignment]
    message.resource_version_uuid.value = b"resource-version"
    return message


def reregistration(
    agent_id: str,
    hostname: str = "agent.example",
    amounts: str = CPUS_AND_MEM,
    tasks: Iterable[Task] = (),
    executors: Iterable[ExecutorInfo] = (),
    frameworks: Iterable[FrameworkInfo] = (),
    port: int = 5051,
) -> ReregisterSlaveMessage:
    """Return what an agent sends that is back."""
    message = ReregisterSlaveMessage(version="1.11.0")
    message.slave.CopyFrom(agent_info(hostname, amounts, port, agent_id))
    message.tasks.extend(tasks)
    message.executor_infos.extend(executors)
    message.frameworks.extend(frameworks)
    for capability in range(1, 9):
        message.agent_capabilities.add().type = capability  # type: ignore[assignment]
    message.resource_version_uuid.value = b"resource-version"
    return message


def subscription(*capabilities: int, **fields: Any) -> Call:
    """Return a SUBSCRIBE; C{id} and C{suppressed} besides FrameworkInfo's own fields."""
    framework_id = fields.pop("id", "")
    suppressed = fields.pop("suppressed", ())
    call = Call(type=Call.SUBSCRIBE)
    info = call.subscribe.framework_info
    info.MergeFrom(framework_info(framework_id, *capabilities, **fields))
    call.subscribe.suppressed_roles.extend(suppressed)
    if framework_id:
        call.framework_id.value = framework_id
    return call


def framework_info(framework_id: str, *capabilities: int, **fields: Any) -> FrameworkInfo:
    """Return a FrameworkInfo."""
    info = FrameworkInfo(**{"user": "alice", "name": "test", **fields})
    if framework_id:
        info.id.value = framework_id
    for capability in capabilities:
        info.capabilities.add().type = capability  # type: ignore[assignment]
    return info


def scheduler_call(kind: int, framework_id: str) -> Call:
    """Return a call of a framework, to be filled in."""
    call = Call()
    call.type = kind  # type: ignore[assignment]
    call.framework_id.value = framework_id
    return call


def task(offer: Offer, task_id: str, amounts: str = "cpus:1;mem:64", **fields: Any) -> TaskInfo:
    """Return a command task for an offer's agent."""
    info = TaskInfo(name=task_id, **fields)
    info.task_id.value = task_id
    info.agent_id.value = offer.agent_id.value
    info.resources.extend(resources(amounts))
    if not info.HasField("executor"):
        info.command.value = "true"
    return info


def executor(
    executor_id: str, framework_id: str = "", amounts: str = "cpus:0.1;mem:32"
) -> ExecutorInfo:
    """Return a custom executor."""
    info = ExecutorInfo(type=ExecutorInfo.CUSTOM)
    info.executor_id.value = executor_id
    if framework_id:
        info.framework_id.value = framework_id
    info.command.value = "executor"
    info.resources.extend(resources(amounts))
    return info


def accept(offer: Offer, *tasks: TaskInfo, refuse_seconds: float | None = None) -> Call:
    """Return an ACCEPT that launches tasks, or none."""
    call = scheduler_call(Call.ACCEPT, offer.framework_id.value)
    call.accept.offer_ids.add().value = offer.id.value
    if tasks:
        operation = call.accept.operations.add()
        operation.type = Offer.Operation.LAUNCH
        operation.launch.task_infos.extend(tasks)
    if refuse_seconds is not None:
        call.accept.filters.refuse_seconds = refuse_seconds
    return call


def group(offer: Offer, info: ExecutorInfo, *tasks: TaskInfo) -> Call:
    """Return an ACCEPT that launches a task group."""
    call = accept(offer)
    operation = call.accept.operations.add()
    operation.type = Offer.Operation.LAUNCH_GROUP
    operation.launch_group.executor.CopyFrom(info)
    operation.launch_group.task_group.tasks.extend(tasks)
    return call


def decline(offer: Offer, refuse_seconds: float | None = None) -> Call:
    """Return a DECLINE."""
    call = scheduler_call(Call.DECLINE, offer.framework_id.value)
    call.decline.offer_ids.add().value = offer.id.value
    if refuse_seconds is not None:
        call.decline.filters.refuse_seconds = refuse_seconds
    return call


def uuid(text: str) -> bytes:
    """Return a UUID that is always the same for a text."""
    return Ids(text.encode()[:16]).bytes()


def update(
    offer: Offer,
    task_id: str,
    state: str,
    latest: str | None = None,
    executor_id: str | None = None,
    **fields: Any,
) -> StatusUpdateMessage:
    """Return an update as the agent of an offer sends it."""
    return update_of(
        offer.framework_id.value,
        offer.agent_id.value,
        task_id,
        state,
        latest,
        executor_id,
        **fields,
    )


def update_of(
    framework_id: str,
    agent_id: str,
    task_id: str,
    state: str,
    latest: str | None = None,
    executor_id: str | None = None,
    **fields: Any,
) -> StatusUpdateMessage:
    """Return an update as an agent sends it."""
    message = StatusUpdateMessage(pid="slave(1)@127.0.0.1:5051")
    part = message.update
    part.framework_id.value = framework_id
    part.slave_id.value = agent_id
    part.executor_id.value = executor_id or task_id
    part.timestamp = 1.0
    part.uuid = uuid(task_id + state)
    part.latest_state = latest or state  # type: ignore[assignment]
    status = part.status
    status.MergeFrom(TaskStatus(**fields))
    status.task_id.value = task_id
    status.state = state  # type: ignore[assignment]
    status.agent_id.value = agent_id
    status.executor_id.value = executor_id or task_id
    status.source = TaskStatus.SOURCE_EXECUTOR
    status.timestamp = 1.0
    status.uuid = part.uuid
    return message


def acknowledge(offer: Offer, task_id: str, state: str) -> Call:
    """Return the acknowledgement of an update."""
    call = scheduler_call(Call.ACKNOWLEDGE, offer.framework_id.value)
    call.acknowledge.agent_id.value = offer.agent_id.value
    call.acknowledge.task_id.value = task_id
    call.acknowledge.uuid = uuid(task_id + state)
    return call


def reported(
    framework_id: str,
    agent_id: str,
    task_id: str,
    state: str = "TASK_RUNNING",
    amounts: str = "cpus:1;mem:64",
    executor_id: str | None = None,
) -> Task:
    """Return a task as a returning agent reports it."""
    info = Task(name=task_id, state=state)
    info.task_id.value = task_id
    info.framework_id.value = framework_id
    info.agent_id.value = agent_id
    info.resources.extend(resources(amounts, "*"))
    if executor_id is not None:
        info.executor_id.value = executor_id
    info.statuses.add().CopyFrom(update_of(framework_id, agent_id, task_id, state).update.status)
    return info
