"""The agent's state: one object, changed only by C{handle(now, event) -> list[Effect]}.

What is decided stands in the modules beside this one, one subject each, as functions
over the state; this file holds what they share and the tables that say who hears what.
Nothing here or there knows a reactor, a clock, a socket or a file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mesoskit.agent import (
    checks,
    door_calls,
    draining,
    executors,
    failures,
    gc,
    invariants,
    killing,
    launching,
    metrics,
    nested,
    nested_calls,
    pods,
    processes,
    recovery,
    registration,
    shutdown,
    story,
    updates,
)
from mesoskit.agent.container import (
    ContainerExited,
    ContainerFailed,
    ContainerProgress,
    ContainerStarted,
    Destroy,
    DiskRead,
    RecoveredContainers,
    Removed,
    SandboxesFound,
    Usage,
    UsageRead,
)
from mesoskit.agent.container_call import CallAbandoned, ContainerCall, SessionOver
from mesoskit.agent.environment import agent_variables
from mesoskit.agent.events import Leave, ShutDown
from mesoskit.agent.frameworks import AgentTask, Executor, Framework
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.phase import Phase
from mesoskit.agent.probe import Probed
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call as ExecutorCall
from mesoskit.messages.mesos_pb2 import DrainConfig
from mesoskit.model.deadlines import Deadlines
from mesoskit.model.events import (
    Congestion,
    Connected,
    Lost,
    Note,
    PeerKind,
    Received,
    Recovered,
    Send,
    Stop,
    StoreFailed,
    Woke,
)
from mesoskit.model.ids import AgentId, ContainerId, ExecutorId, FrameworkId, Ids, PeerId, TaskId
from mesoskit.model.updates import UpdateStream


class AgentState:
    """
    One agent.

    @ivar agent_id: C{""} until a master has given one.
    @ivar master: the link to the master; C{epoch} is the newest leader's.
    @ivar asked: when it last asked a master for registration.
    @ivar frameworks: those with an executor here.
    @ivar completed_frameworks: those that had one, oldest first.
    @ivar tasks: every task that is not completed, by framework and task.
    @ivar streams: every stream of updates that is not acknowledged to its end.
    @ivar containers: who owns a container that was asked for and has not ended.
    @ivar nested: containers that are no task's and no executor's.
    @ivar classes: those whose packets bear a number (C{cgroups/net_cls}), and that.
    @ivar destroying: those of which destruction was asked for and that have not ended.
    @ivar doomed: containers of before a restart that are being destroyed and belong to nobody.
    @ivar drain: how the agent drains, L{None} where it does not; C{drain_started}: since when.
    @ivar leaving: the process is to end as soon as nothing runs any more.
    @ivar peers: the executors behind links; L{None} until a call has said which it is.
    @ivar tokens: which executor may show which token.
    @ivar proofs: what peers have proved over HTTP: it as text, and what they may claim.
    @ivar probes: the checks that wait for an answer, by the number of the question.
    @ivar exits: executors that have ended, the last one last: when, and the status.
    @ivar in_memory: the streams of which nothing is stored, because the store refused it.
    @ivar unforgotten: tasks by the containers that they ended in, where that is not stored: what
        is known of those containers is kept until nothing is stored of the tasks either.
    @ivar unstored: the keys whose records the store refused to change, to be tried again.
    """

    def __init__(self, options: AgentOptions, seed: bytes) -> None:
        """
        Make the state of an agent that has not read its checkpoints.

        @param seed: 16 random bytes: all ids, tokens and random waits come from them.
        """
        self.options = options
        self.ids = Ids(seed)
        self.now = 0.0
        self.out: list[Any] = []
        self.phase = Phase.RECOVERING
        self.leaving = False
        self.started_at: float | None = None
        self.drain: DrainConfig | None = None
        self.drain_started = 0.0
        self.recovery = recovery.Recovery()
        self.agent_id = AgentId("")
        self.resource_version = self.ids.bytes()
        self.master: PeerId | None = None
        self.epoch = 0
        self.attempts = 0
        self.asked = 0.0
        self.backoff = 0.0
        self.ping_timeout = registration.PING_TIMEOUT
        self.frameworks: dict[FrameworkId, Framework] = {}
        self.completed_frameworks: dict[FrameworkId, Framework] = {}
        self.tasks: dict[tuple[FrameworkId, TaskId], AgentTask] = {}
        self.streams: dict[tuple[FrameworkId, TaskId], UpdateStream] = {}
        self.containers: dict[ContainerId, AgentTask | Executor] = {}
        self.nested = nested.NestedContainers()
        self.classes: dict[ContainerId, int] = {}
        self.destroying: set[ContainerId] = set()
        self.doomed: set[ContainerId] = set()
        self.peers: dict[PeerId, Executor | None] = {}
        self.tokens: dict[str, Executor] = {}
        self.proofs: dict[PeerId, tuple[str, dict[str, str]]] = {}
        self.deadlines = Deadlines()
        self.sandboxes = gc.Sandboxes()
        self.usage: dict[ContainerId, Usage] = {}
        self.exits: dict[tuple[FrameworkId, ExecutorId], tuple[float, int]] = {}
        self.in_memory: set[tuple[FrameworkId, TaskId]] = set()
        self.unforgotten: dict[ContainerId, tuple[FrameworkId, TaskId]] = {}
        self.unstored: set[str] = set()
        self.probes: dict[int, checks.Check] = {}
        self.next_probe = 0
        self.counters: dict[str, int] = dict.fromkeys(metrics.COUNTERS, 0)
        self.events: deque[story.Entry] = deque(maxlen=story.LIMIT)
        self.variables: dict[str, str] = {}
        self.stopping_why = ""

    def handle(self, now: float, event: Any) -> list[Any]:
        """
        Take one event and return what is to be done, in order.

        @param now: seconds since 1970; also what statuses are stamped with.
        @param event: one of L{mesoskit.model.events}, L{mesoskit.agent.container} or
            L{mesoskit.agent.events}; anything else raises L{KeyError}.
        """
        self.now = now
        if self.started_at is None:
            self.started_at = now
        out: list[Any] = []
        self.out = out
        _EVENTS[event.__class__](self, event)
        if self.drain is not None:
            draining.settle(self)
        if self.leaving and event.__class__ is not Leave:
            shutdown.left(self)
        if self.phase is Phase.TERMINATING:
            # What stands behind a Stop is not performed, and the launcher would wait for ever.
            out.sort(key=_is_stop)
        return out

    def deadline(self) -> float | None:
        """Return when the state wants to hear C{Woke}, or L{None}."""
        earliest, sandbox = self.deadlines.next(), self.sandboxes.next()
        if earliest is None or sandbox is None:
            return sandbox if earliest is None else earliest
        return min(earliest, sandbox)

    def validate_state(self) -> None:
        """Raise L{AssertionError} where the state contradicts itself."""
        invariants.validate(self)

    def story(self, subject: str) -> list[str]:
        """Return what happened to a task, executor, container or framework, in order."""
        return story.tell(self, subject)

    def metrics(self) -> dict[str, float]:
        """Return C{slave/*} of Mesos' metrics."""
        return metrics.collect(self)

    # What the modules share.

    @property
    def registered(self) -> bool:
        """A master knows this agent and is there."""
        return self.phase is Phase.RUNNING

    def to_master(self, message: Any) -> None:
        """Send to the master if the agent is registered with it; otherwise nothing happens."""
        if self.phase is Phase.RUNNING and self.master is not None:
            self.out.append(Send(self.master, message))

    def note(self, level: str, text: str) -> None:
        """Log a transition."""
        self.out.append(Note(level, text))

    def destroy(self, container: ContainerId) -> None:
        """Have a container destroyed, if that was not asked for before."""
        if container not in self.destroying:
            self.destroying.add(container)
            self.out.append(Destroy(container))

    def remember(self, text: str, *subjects: str) -> None:
        """Write a line into the story of these subjects."""
        self.events.append((self.now, subjects, text))

    def set_agent_id(self, agent_id: AgentId) -> None:
        """Take an id over, from a master or from the store."""
        self.agent_id = agent_id
        self.variables = agent_variables(self.options, agent_id)


def _is_stop(effect: Any) -> bool:
    return effect.__class__ is Stop


def _received(state: AgentState, event: Received) -> None:
    if event.peer == state.master:
        if not state.recovery.done:
            return  # It was not asked for anything yet.
        handler = _FROM_MASTER.get(event.message.__class__)
        if handler is not None:
            handler(state, event.message)
        else:
            state.note("warn", f"Ignoring {event.message.DESCRIPTOR.full_name} from the master")
        return
    if event.peer in state.peers and event.message.__class__ is ExecutorCall:
        door_calls.call(state, event.peer, event.message, event.call)
    elif event.call is not None:
        door_calls.refuse(state, event.peer, event.call, 403, "Not expected from this peer")


def _connected(state: AgentState, event: Connected) -> None:
    if event.kind is PeerKind.MASTER:
        registration.connected(state, event)
    else:
        executors.connected(state, event)


def _lost(state: AgentState, event: Lost) -> None:
    if event.peer == state.master:
        registration.lost(state, event.why)
    else:
        executors.lost(state, event.peer)


def _woke(state: AgentState, _event: Woke) -> None:
    again = answers = False
    checked: list[tuple[Any, ...]] = []
    for key in state.deadlines.due(state.now):
        assert isinstance(key, tuple)
        if key == _UNSTORED:
            again = True
        elif key == nested.ANSWERS:
            answers = True
        elif key[0] == "check":
            checked.append(key)
        else:
            _DEADLINES[key[0]](state, *key[1:])
    # Should the store refuse what stands here, these would not be done either, and waited for.
    if state.out:
        for key in checked:
            state.deadlines.set(key, state.now)
    else:
        gc.due(state)
        for key in checked:
            checks.due(state, *key[1:])
    if answers and state.out:
        state.deadlines.set(nested.ANSWERS, state.now)
    elif answers:
        nested.answer(state)
    if again and state.out:
        # Alone in an event: should it fail again, nothing else is dropped with it.
        state.deadlines.set(_UNSTORED, state.now)
    elif again:
        failures.store_again(state)


def _congestion(_state: AgentState, _event: Congestion) -> None:
    """Nothing: what goes to a master is bounded by its acknowledgements."""


def _usage(state: AgentState, event: UsageRead) -> None:
    state.usage = {key: one for key, one in event.usage.items() if _is_known(state, key)}


def _is_known(state: AgentState, container: ContainerId) -> bool:
    return container in state.containers or container in state.nested.running


def _started(state: AgentState, event: ContainerStarted) -> None:
    if event.facts is not None and event.facts.classid is not None:
        state.classes[event.container] = event.facts.classid
    if not nested.started(state, event):
        processes.started(state, event)


def _failed(state: AgentState, event: ContainerFailed) -> None:
    if not nested.failed(state, event):
        nested.answer_waits(state, event.container, None)
        processes.failed(state, event)
    nested.orphans(state)


def _exited(state: AgentState, event: ContainerExited) -> None:
    event = pods.told(state, event)
    state.classes.pop(event.container, None)
    if not nested.exited(state, event):
        processes.exited(state, event)
    nested.orphans(state)


def _containers(state: AgentState, event: RecoveredContainers) -> None:
    expected = state.recovery.read and not state.recovery.found
    state.classes.update(event.classes)
    recovery.containers(state, nested.recovered(state, event))
    if expected:
        nested.settle(state, event)


def _store_failed(state: AgentState, event: StoreFailed) -> None:
    failures.store_failed(state, event)
    nested.orphans(state)


_UNSTORED = ("unstored",)

_EVENTS: dict[type, Callable[[AgentState, Any], None]] = {
    Received: _received,
    Connected: _connected,
    Lost: _lost,
    Congestion: _congestion,
    Woke: _woke,
    Recovered: recovery.recovered,
    RecoveredContainers: _containers,
    SandboxesFound: gc.found,
    StoreFailed: _store_failed,
    ContainerStarted: _started,
    ContainerProgress: processes.progressed,
    Probed: checks.probed,
    ContainerFailed: _failed,
    ContainerExited: _exited,
    ContainerCall: nested_calls.call,
    CallAbandoned: nested_calls.abandoned,
    SessionOver: nested_calls.session_over,
    UsageRead: _usage,
    DiskRead: gc.disk_read,
    Removed: gc.removed,
    ShutDown: shutdown.shut_down,
    Leave: shutdown.leave,
}
"""Who hears what happens."""

_FROM_MASTER: dict[type, Callable[[AgentState, Any], None]] = {
    internal.SlaveRegisteredMessage: registration.registered,
    internal.SlaveReregisteredMessage: registration.reregistered,
    internal.PingSlaveMessage: registration.ping,
    internal.RunTaskMessage: launching.run_task,
    internal.RunTaskGroupMessage: launching.run_task_group,
    internal.KillTaskMessage: killing.kill_task,
    internal.StatusUpdateAcknowledgementMessage: updates.acknowledged,
    internal.DrainSlaveMessage: draining.drain,
    internal.UpdateFrameworkMessage: launching.update_framework,
    internal.FrameworkToExecutorMessage: executors.framework_message,
    internal.ShutdownExecutorMessage: shutdown.shutdown_executor_message,
    internal.ShutdownFrameworkMessage: shutdown.shutdown_framework_message,
    internal.ShutdownMessage: shutdown.shutdown_message,
}
"""Who hears the master."""

_DEADLINES: dict[str, Callable[..., None]] = {
    "register": registration.register,
    "ping": registration.ping_timed_out,
    "retry": updates.retry,
    "kill": processes.escalate,
    "completion": processes.overdue,
    "subscribe": executors.subscription_timed_out,
    "shutdown": executors.shutdown_timed_out,
    "group": nested_calls.end_group,
}
"""Who is woken for which kind of deadline; keys are tuples that begin with the kind."""
