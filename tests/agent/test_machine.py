"""
The agent's state under whatever may happen: hypothesis drives master, executors, containers,
store and clock, and the state is held to its invariants and promises throughout.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mesoskit.agent import checkpoint
from mesoskit.agent.container import (
    ContainerExited,
    ContainerFailed,
    ContainerStarted,
    Destroy,
    DiskRead,
    Forget,
    Launch,
    Limitation,
    RecoveredContainers,
)
from mesoskit.agent.options import RECONNECT
from mesoskit.agent.state import AgentState
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskStatus
from mesoskit.model.events import (
    Connected,
    Drop,
    Lost,
    PeerKind,
    Received,
    Recovered,
    Send,
    Stop,
    Store,
    StoreFailed,
    Woke,
)
from mesoskit.model.ids import ContainerId, PeerId
from mesoskit.model.tasks import TERMINAL
from tests import example_count
from tests.agent.bench import (
    AGENT_ID,
    AWARE,
    FRAMEWORK_ID,
    KILLING,
    OPTIONS,
    SEED,
    acknowledgement,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase

RARE = ("master", "ping", "executor", "framework", "disk", "restart", "drain")


class AgentMachine(RuleBasedStateMachine):
    """An agent, and all that surrounds it."""

    options = OPTIONS
    checkpoints = False

    def framework(self, *capabilities: int) -> FrameworkInfo:
        """Return the one framework that there is."""
        return framework(*capabilities, checkpoint=self.checkpoints)

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.state = AgentState(self.options, SEED[:-1] + b"\0")
        self.events: list[tuple[float, Any, str]] = []
        self.lives: list[list[tuple[float, Any, str]]] = []
        self.store: dict[str, bytes] = {}
        self.full = False
        self.master: PeerId | None = None
        self.peers = 0
        self.names = 0
        self.starting: list[ContainerId] = []
        self.running: list[ContainerId] = []
        self.destroyed: set[ContainerId] = set()
        # What the launcher keeps of those that have ended.
        self.kept: dict[ContainerId, int | None] = {}
        self.forgotten: set[ContainerId] = set()
        self.unacknowledged: list[internal.StatusUpdateMessage] = []
        self.executors: dict[PeerId, list[tuple[str, int]]] = {}
        self.accepted: set[str] = set()
        self.last: dict[str, int] = {}
        self.ended: set[str] = set()
        self.gone = False
        self.give(Recovered({}))
        self.give(RecoveredContainers())
        self.master_comes()
        self.master_answers()

    # The world.

    def give(self, event: Any) -> None:
        """Let the state hear an event, and do what it wants."""
        kept = copy.deepcopy(event)
        effects = self.state.handle(self.now, event)
        self.events.append((self.now, kept, repr(effects)))
        changes = [change for one in effects if isinstance(one, Store) for change in one.changes]
        if changes and self.refuses():
            self.give(StoreFailed(tuple(changes), "disk full"))
            return
        for key, value in changes:
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value
        for effect in effects:
            self.perform(effect)

    def refuses(self) -> bool:
        """Tell whether the store refuses what it is given now."""
        return self.full

    def perform(self, effect: Any) -> None:
        if isinstance(effect, Launch):
            assert effect.spec.id not in self.starting + self.running
            self.starting.append(effect.spec.id)
        elif isinstance(effect, Destroy):
            self.destroyed.add(effect.container)
        elif isinstance(effect, Forget):
            self.kept.pop(effect.container, None)
            self.forgotten.add(effect.container)
        elif isinstance(effect, Drop):
            if effect.peer == self.master:
                self.master = None
            self.executors.pop(effect.peer, None)
        elif isinstance(effect, Stop):
            self.gone = True
        elif isinstance(effect, Send):
            self.sent(effect.peer, effect.message)

    def sent(self, peer: PeerId, message: Any) -> None:
        if peer == self.master:
            if isinstance(message, internal.StatusUpdateMessage):
                self.hear(message)
            return
        assert peer in self.executors, "sent to a link that is gone"
        if isinstance(message, Event) and message.type == Event.LAUNCH:
            self.executors[peer].append((message.launch.task.task_id.value, 6))

    def hear(self, message: internal.StatusUpdateMessage) -> None:
        status = message.update.status
        name = status.task_id.value
        assert status.uuid
        if name in self.ended:
            raise AssertionError(f"{name} is told of after its end")
        if status.state in TERMINAL:
            assert self.last.setdefault(name, status.state) == status.state
        self.unacknowledged = [
            one for one in self.unacknowledged if one.update.uuid != message.update.uuid
        ]
        self.unacknowledged.append(message)

    def registered(self) -> bool:
        return self.master is not None and self.state.registered

    # What may happen.

    def master_comes(self) -> None:
        self.peers += 1
        self.master = PeerId(self.peers)
        self.give(Connected(self.master, PeerKind.MASTER, "127.0.0.1:5050"))

    def master_goes(self) -> None:
        assert self.master is not None
        peer, self.master = self.master, None
        self.give(Lost(peer))

    def master_answers(self) -> None:
        assert self.master is not None
        known = bool(self.state.agent_id)
        message: Any = (
            internal.SlaveReregisteredMessage() if known else internal.SlaveRegisteredMessage()
        )
        message.slave_id.value = AGENT_ID
        self.give(Received(self.master, message))

    def ping(self, connected: bool) -> None:
        assert self.master is not None
        self.give(Received(self.master, internal.PingSlaveMessage(connected=connected)))

    def name(self) -> str:
        self.names += 1
        return f"t{self.names}"

    @precondition(lambda self: self.registered())
    @rule(capable=st.booleans(), fetch=st.booleans(), limit=st.sampled_from((0, 5)))
    def run_command(self, capable: bool, fetch: bool, limit: int) -> None:
        assert self.master is not None
        info = task(self.name())
        if fetch:
            info.command.uris.add(value="file:///x")
        if limit:
            info.max_completion_time.nanoseconds = limit * 1_000_000_000
        who = self.framework(*((KILLING, AWARE) if capable else ()))
        self.accept([info.task_id.value])
        self.give(Received(self.master, internal.RunTaskMessage(framework=who, task=info)))

    @precondition(lambda self: self.registered())
    @rule(size=st.integers(1, 3), executor=st.sampled_from("gh"))
    def run_group(self, size: int, executor: str) -> None:
        assert self.master is not None
        infos = [task(self.name()) for _ in range(size)]
        message = internal.RunTaskGroupMessage(framework=self.framework(), executor={"type": 1})
        message.executor.executor_id.value = executor
        message.task_group.tasks.extend(infos)
        self.accept([info.task_id.value for info in infos])
        self.give(Received(self.master, message))

    @precondition(lambda self: self.registered())
    @rule(executor=st.sampled_from("ab"), launch=st.sampled_from((None, True, False)))
    def run_custom(self, executor: str, launch: bool | None) -> None:
        assert self.master is not None
        info = task(self.name(), executor=custom_executor(executor))
        message = internal.RunTaskMessage(framework=self.framework(), task=info)
        if launch is not None:
            message.launch_executor = launch
        self.accept([info.task_id.value])
        self.give(Received(self.master, message))

    def accept(self, names: list[str]) -> None:
        here = self.state.frameworks.get(FRAMEWORK_ID)  # type: ignore[call-overload]
        if here is None or not here.terminating:
            self.accepted.update(names)

    @precondition(lambda self: self.registered() and self.names)
    @rule(data=st.data(), grace=st.sampled_from((None, 0, 1, 10)))
    def kill(self, data: Any, grace: int | None) -> None:
        assert self.master is not None
        message = internal.KillTaskMessage()
        message.framework_id.value = FRAMEWORK_ID
        live = [str(key[1]) for key in self.state.tasks] or ["unknown"]
        message.task_id.value = data.draw(st.sampled_from(live))
        if grace is not None:
            message.kill_policy.grace_period.nanoseconds = grace * 1_000_000_000
        self.give(Received(self.master, message))

    def shutdown_executor(self, executor: str) -> None:
        assert self.master is not None
        message = internal.ShutdownExecutorMessage()
        message.framework_id.value = FRAMEWORK_ID
        message.executor_id.value = executor
        self.give(Received(self.master, message))

    def shutdown_framework(self) -> None:
        assert self.master is not None
        message = internal.ShutdownFrameworkMessage()
        message.framework_id.value = FRAMEWORK_ID
        self.accepted.clear()
        self.unacknowledged.clear()
        self.give(Received(self.master, message))

    @precondition(lambda self: self.unacknowledged and self.registered())
    @rule(data=st.data(), fills=st.sampled_from((False, False, True)))
    def acknowledge(self, data: Any, fills: bool) -> None:
        assert self.master is not None
        message = data.draw(st.sampled_from(self.unacknowledged))
        self.unacknowledged.remove(message)
        status = message.update.status
        if status.state in TERMINAL and status.task_id.value != "unknown":
            self.ended.add(status.task_id.value)
            self.accepted.discard(status.task_id.value)
        full, self.full = self.full, self.full or fills  # The disk may be full just then.
        self.give(Received(self.master, acknowledgement(message.update)))
        self.full = full

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), fails=st.booleans())
    def container_starts(self, data: Any, fails: bool) -> None:
        container = data.draw(st.sampled_from(self.starting))
        self.starting.remove(container)
        if fails or container in self.destroyed:
            self.give(ContainerFailed(container, "launch", "it could not be started"))
        else:
            self.running.append(container)
            self.give(ContainerStarted(container, 7))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), status=st.sampled_from((0, 0, 256, 15, None)))
    def container_ends(self, data: Any, status: int | None) -> None:
        container = data.draw(st.sampled_from(self.running))
        self.end(container, 9 if container in self.destroyed else status)

    def end(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """Let a container end; the launcher keeps that until it may forget it."""
        self.running.remove(container)
        self.kept[container] = status
        self.give(ContainerExited(container, status, limitation))

    @precondition(lambda self: self.state.tokens)
    @rule(data=st.data(), proves=st.booleans())
    def executor_subscribes(self, data: Any, proves: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.state.tokens)))
        executor = self.state.tokens[token]
        if executor.container in self.starting:
            self.starting.remove(executor.container)
            self.running.append(executor.container)
            self.give(ContainerStarted(executor.container, 7))
        if executor.container not in self.running:
            return
        peer = self.executor_comes(token if proves else None)
        if peer in self.executors:
            self.call(peer, Call(type=Call.SUBSCRIBE, subscribe={}), executor.id)

    def executor_comes(self, token: str | None) -> PeerId:
        self.peers += 1
        peer = PeerId(self.peers)
        self.executors[peer] = []
        self.give(Connected(peer, PeerKind.EXECUTOR, "unix", token=token))
        return peer

    @rule(
        executor=st.sampled_from("abg"),
        call=st.sampled_from((Call.SUBSCRIBE, Call.UPDATE, Call.MESSAGE, Call.HEARTBEAT)),
        data=st.data(),
        stays=st.booleans(),
    )
    def somebody_calls(self, executor: str, call: int, data: Any, stays: bool) -> None:
        """A call without a token, from whoever knows a name or two."""
        peer = self.executor_comes(None)
        message = Call(type=call)  # type: ignore[arg-type]
        if call == Call.SUBSCRIBE:
            message.subscribe.SetInParent()
        elif call == Call.MESSAGE:
            message.message.data = b"up"
        elif call == Call.UPDATE:
            names = sorted(key[1] for key in self.state.tasks)
            name = data.draw(st.sampled_from([*names, "unknown"]))
            self.fill(message, name, data.draw(st.sampled_from((1, 2))))
        self.call(peer, message, executor)
        if not stays and peer in self.executors:
            del self.executors[peer]
            self.give(Lost(peer))

    def call(self, peer: PeerId, message: Call, executor_id: str) -> None:
        message.executor_id.value = executor_id
        message.framework_id.value = FRAMEWORK_ID
        self.give(Received(peer, message, 1))

    @precondition(lambda self: any(self.executors.values()))
    @rule(data=st.data(), state=st.sampled_from((0, 1, 1, 2, 3, 4, 8, 12)))
    def executor_reports(self, data: Any, state: int) -> None:
        peers = sorted(peer for peer, tasks in self.executors.items() if tasks)
        peer = data.draw(st.sampled_from(peers))
        name, _ = data.draw(st.sampled_from(self.executors[peer]))
        executor = self.state.peers.get(peer)
        if executor is None:
            return
        message = Call(type=Call.UPDATE)
        self.fill(message, name, state)
        self.call(peer, message, executor.id)

    def fill(self, message: Call, name: str, state: int) -> None:
        status = message.update.status
        status.task_id.value = name
        status.state = state  # type: ignore[assignment]
        status.uuid = self.state.ids.__class__(name.encode(), len(self.events)).bytes()
        status.source = TaskStatus.SOURCE_EXECUTOR

    @precondition(lambda self: self.executors)
    @rule(data=st.data())
    def executor_goes(self, data: Any) -> None:
        peer = data.draw(st.sampled_from(sorted(self.executors)))
        del self.executors[peer]
        self.give(Lost(peer))

    def disk(self, full: bool) -> None:
        self.full = full
        self.give(DiskRead(1.0 if full else 0.2))

    @rule(what=st.sampled_from(RARE), data=st.data())
    def something_rare(self, what: str, data: Any) -> None:
        if self.full and what == "disk":
            self.disk(False)
        elif self.master is None:
            self.master_comes()
        elif not self.state.registered:
            self.master_answers()
        elif what == "master":
            self.master_goes()
        elif what == "restart":
            self.agent_restarts(data)
        elif what == "ping":
            self.ping(data.draw(st.booleans()))
        elif what == "executor":
            self.shutdown_executor(data.draw(st.sampled_from("abg")))
        elif what == "drain":
            if data.draw(st.booleans()):
                message = internal.DrainSlaveMessage()
                message.config.max_grace_period.nanoseconds = 10**9
                message.config.mark_gone = data.draw(st.booleans())
                self.give(Received(self.master, message))
        elif what == "framework":
            if self.state.frameworks and data.draw(st.integers(0, 3)) == 0:
                self.shutdown_framework()
        else:
            self.disk(True)

    def agent_restarts(self, data: Any) -> None:
        """
        The agent is killed and starts again; of what was being started some never was, and some
        of what runs has ended when it is back.
        """
        if self.state.unstored:
            return  # What it knew in memory alone is gone, and nobody promised anything else.
        stored = {name.rsplit("/", 1)[1] for name in self.store if name.startswith("tasks/")}
        for _, name in self.state.in_memory:
            self.last.pop(name, None)
            if name not in stored:
                self.accepted.discard(name)
        self.running += [one for one in self.starting if data.draw(st.booleans())]
        exited = {
            one: 9 if one in self.destroyed else data.draw(st.sampled_from((0, 256, None)))
            for one in self.running
            if data.draw(st.integers(0, 2)) == 0
        }
        self.running = [one for one in self.running if one not in exited]
        self.kept.update(exited)
        exited = self.kept.copy()
        self.lives.append(self.events)
        self.events = []
        self.state = AgentState(self.options, self.seed())
        self.master = None
        self.executors.clear()
        self.starting.clear()
        self.give(Recovered(self.store.copy()))
        before = {
            key: (task.container, task.state)
            for key, task in self.state.tasks.items()
            if task.container in self.running
            and not (task.killed or task.overdue)
            and task.state == 1
        }
        for one in self.state.tasks.values():
            if one.state not in TERMINAL:
                assert one.container not in self.forgotten, f"who knows how {one.id} ended?"
        self.give(self.found(data, exited))
        self.restarted(before)

    def found(self, data: Any, exited: dict[ContainerId, int | None]) -> RecoveredContainers:
        """Return what the launcher says of what there was before."""
        return RecoveredContainers(dict.fromkeys(self.running, 7), exited)

    def restarted(self, before: dict[Any, tuple[Any, int]]) -> None:
        """What is true of commands that ran, and run, when the agent has started again."""
        for container, _ in before.values():
            assert container in self.destroyed, f"{container} runs on"

    def seed(self) -> bytes:
        return SEED[:-1] + bytes([len(self.lives)])

    @rule(ends=st.booleans())
    def containers_go_on(self, ends: bool) -> None:
        for container in list(self.starting):
            self.starting.remove(container)
            self.running.append(container)
            self.give(ContainerStarted(container, 7))
        for container in list(self.running) if ends else ():
            self.end(container, 0)

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0, 12.0, 80.0)))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(1000):
            when = self.state.deadline()
            if when is None or when > end:
                break
            self.now = max(self.now, when)
            self.give(Woke())
        else:
            raise AssertionError("the state never rests")
        self.now = end

    # What is always true.

    @invariant()
    def state_is_consistent(self) -> None:
        self.state.validate_state()
        assert not self.gone

    @invariant()
    def accepted_tasks_are_told_of(self) -> None:
        """Every task that was accepted is here, or what became of it is on its way."""
        here = {key[1] for key in self.state.tasks} | {key[1] for key in self.state.streams}
        assert self.accepted <= here, self.accepted - here

    @invariant()
    def store_knows_no_stranger(self) -> None:
        if self.state.unstored or self.full:
            return
        known = {f"tasks/{key[0]}" for key in self.state.tasks}
        for name in self.store:
            if name.startswith("tasks/"):
                assert name.rsplit("/", 2)[0] in known, name
        assert checkpoint.read(self.store).unreadable == []

    def teardown(self) -> None:
        """Let all end well: then nothing may be left, and a replay gives the same effects."""
        self.full = False
        for _ in range(60):
            if self.settled():
                break
            self.settle()
        assert self.settled(), self.left()
        self.state.validate_state()
        assert {name.split("/")[0] for name in self.store} <= {"agent", "history"}, self.store
        self.replay()

    def settled(self) -> bool:
        return not any(self.left())

    def left(self) -> tuple[Any, ...]:
        """Return what has not come to its end."""
        state = self.state
        return state.tasks, state.streams, state.containers, state.unstored

    def settle(self) -> None:
        if self.master is None:
            self.master_comes()
        if not self.state.registered:
            self.master_answers()
        for container in list(self.starting):
            self.starting.remove(container)
            self.give(ContainerFailed(container, "launch", "enough"))
        for container in list(self.running):
            self.end(container, 0)
        for message in list(self.unacknowledged):
            self.unacknowledged.remove(message)
            if message.update.status.state in TERMINAL:
                self.accepted.discard(message.update.status.task_id.value)
                self.ended.add(message.update.status.task_id.value)
            assert self.master is not None
            self.give(Received(self.master, acknowledgement(message.update)))
        self.pass_time(15.0)

    def replay(self) -> None:
        """A recorded list of events gives the identical effects."""
        lives, self.lives = [*self.lives, self.events], []
        for events in lives:
            again = AgentState(self.options, self.seed())
            self.lives.append(events)
            for now, event, effects in events:
                assert repr(again.handle(now, event)) == effects


AgentMachine.TestCase.settings = settings(
    max_examples=example_count(80),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class ReconnectingMachine(AgentMachine):
    """The same where what runs outlives the agent."""

    options = replace(OPTIONS, recover=RECONNECT)
    checkpoints = True

    @precondition(lambda self: self.state.tasks)
    @rule(data=st.data())
    def somebody_restarts_it(self, data: Any) -> None:
        self.agent_restarts(data)

    def restarted(self, before: dict[Any, tuple[Any, int]]) -> None:
        for key, (container, state) in before.items():
            task = self.state.tasks[key]
            group = task.group
            if group is None or all(one.state == 1 for one in group.tasks):
                assert task.state == state, f"{key} is said to be {task.state}"
                assert container not in self.destroyed, f"{key} was ended"


ReconnectingMachine.TestCase.settings = AgentMachine.TestCase.settings


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_whatever_happens(self) -> None:
        case = AgentMachine.TestCase("runTest")
        case.debug()

    def test_whatever_happens_where_what_runs_outlives_the_agent(self) -> None:
        case = ReconnectingMachine.TestCase("runTest")
        case.debug()
