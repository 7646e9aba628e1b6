"""The master's state: the cluster, changed by nothing but C{handle(now, event)}.

L{MasterState} holds the records (L{mesoskit.master.records}) and gives each event to the
function whose subject it is: frameworks (L{mesoskit.master.subscribe},
L{mesoskit.master.frameworks}), agents (L{mesoskit.master.agents},
L{mesoskit.master.reregister}, L{mesoskit.master.health}), offers
(L{mesoskit.master.offers}, L{mesoskit.master.accept}, L{mesoskit.master.launch}), tasks
(L{mesoskit.master.tasks}, L{mesoskit.master.updates}, L{mesoskit.master.reconcile}). Those
functions take the state, change it, and leave effects in C{state.effects} in the order in
which they are to be performed.

There is no clock, no random number and no reactor here: the same events, with the same
C{now}, give the same effects.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from mesoskit.allocator.interface import IAllocator
from mesoskit.master import (
    agents,
    calls,
    draining,
    frameworks,
    health,
    invariants,
    metrics,
    offers,
    operator,
    registry,
    weights,
)
from mesoskit.master.counters import Counters
from mesoskit.master.history import Completed
from mesoskit.master.options import MasterOptions, master_info
from mesoskit.master.records import Agent, Deactivation, Framework, Offer, Peer, Task
from mesoskit.master.removals import Removals
from mesoskit.master.story import Entry, Past
from mesoskit.master.whitelist import Whitelisted
from mesoskit.messages.mesos_pb2 import AgentInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.deadlines import Deadlines
from mesoskit.model.events import (
    Answer,
    Congestion,
    Connected,
    Drop,
    Lost,
    Note,
    Received,
    Recovered,
    Send,
    Stop,
    StoreFailed,
    Woke,
)
from mesoskit.model.ids import AgentId, FrameworkId, Ids, OfferId, PeerId

Refusal = tuple[int, str]
"""The status and the text of an L{Answer} that is not 202."""


class MasterState:
    """
    One master's cluster.

    @param options: the flags.
    @param ids: where the master's own id comes from.
    @param allocator: decides who is offered what; the state is its only caller.
    @param elected_time: now, in seconds since 1970.

    @ivar info: what the master says of itself.
    @ivar made: when the process began; C{started}: when it began to lead.
    @ivar peers: every link that stands and was not dropped.
    @ivar frameworks: all that are not completed.
    @ivar agents: the registered ones, connected or not.
    @ivar disconnected: those of them whose link is broken.
    @ivar recovered: agents read from the registry that have not come back yet.
    @ivar removals: agents that are given up when it is their turn.
    @ivar unreachable: when (nanoseconds since 1970) each became unreachable.
    @ivar gone: when each was marked gone.
    @ivar deactivated: why each of these is not offered, registered or not.
    @ivar emptied: agents that are not offered and may have lost their last task in this turn.
    @ivar unreachable_tasks: by agent, the tasks in their frameworks' C{unreachable}.
    @ivar weights: by role, where one was set.
    @ivar watchers: how many are told of all that changes (L{mesoskit.master.watching}).
    @ivar effects: what the event under way has brought about so far.
    """

    __slots__ = (
        "_drops",
        "_handlers",
        "agents",
        "allocator",
        "completed",
        "counters",
        "deactivated",
        "deadlines",
        "disconnected",
        "effects",
        "emptied",
        "frameworks",
        "gone",
        "info",
        "made",
        "next_agent",
        "next_framework",
        "next_offer",
        "now",
        "offers",
        "options",
        "past",
        "peers",
        "ready",
        "recovered",
        "recovered_count",
        "removals",
        "started",
        "unreachable",
        "unreachable_tasks",
        "watchers",
        "weights",
    )

    def __init__(
        self,
        options: MasterOptions,
        ids: Ids,
        allocator: IAllocator,
        elected_time: float = 0.0,
    ) -> None:
        self.options = options
        self.allocator = allocator
        if options.whitelist is not None:
            allocator.update_whitelist(elected_time, options.whitelist)
        self.info = master_info(options, ids.text())
        self.now = self.started = self.made = elected_time
        self.ready = False
        self.effects: list[Any] = []
        self._drops: list[Drop] = []
        self.peers: dict[PeerId, Peer] = {}
        self.frameworks: dict[FrameworkId, Framework] = {}
        self.completed = Completed(options.max_completed_frameworks)
        self.agents: dict[AgentId, Agent] = {}
        self.disconnected: dict[AgentId, Agent] = {}
        self.recovered: dict[AgentId, AgentInfo] = {}
        self.recovered_count = 0
        self.removals = Removals(options.agent_removal_interval)
        self.unreachable: dict[AgentId, int] = {}
        self.unreachable_tasks: dict[AgentId, dict[Task, None]] = {}
        self.gone: dict[AgentId, int] = {}
        self.deactivated: dict[AgentId, Deactivation] = {}
        self.emptied: dict[AgentId, None] = {}
        self.offers: dict[OfferId, Offer] = {}
        self.weights: dict[str, float] = {}
        self.watchers = 0
        self.deadlines = Deadlines()
        self.counters = Counters()
        self.past = Past(options.story_length)
        self.next_framework = self.next_agent = self.next_offer = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Connected: self._connected,
            Lost: self._lost,
            Congestion: self._congestion,
            Woke: self._woke,
            Recovered: self._recovered,
            StoreFailed: self._store_failed,
            operator.Requested: self._requested,
            Whitelisted: self._whitelisted,
        }

    def handle(self, now: float, event: Any) -> list[Any]:
        """
        Let one thing happen.

        @param now: seconds since 1970; never less than in the call before.
        @param event: one of L{mesoskit.model.events}' events, or one of
            L{mesoskit.master.operator}'s requests.
        @return: the effects, in the order in which they are to be performed.
        """
        self.now = now
        self.effects = effects = []
        if event.__class__ is Received:
            self._received(event)
        else:
            self._handlers[event.__class__](event)
        if self.emptied:
            draining.settle(self)
        if self._drops:
            effects += self._drops
            self._drops = []
        return effects

    def deadline(self) -> float | None:
        """Return when the state wants to hear L{Woke}, or L{None}."""
        own = self.deadlines.next()
        allocation = self.allocator.deadline()
        if allocation is None:
            return own
        if own is None:
            return allocation
        return min(own, allocation)

    def story(self, *ids: str) -> list[Entry]:
        """Return what happened to the tasks, agents, frameworks or offers of these ids."""
        return self.past.story(*ids)

    def metrics(self) -> dict[str, float]:
        """Return gauges and counters by Mesos' names, C{master/...} and C{allocator/...}."""
        return metrics.metrics(self)

    def validate_state(self, honest: bool = True) -> None:
        """
        Raise L{AssertionError} where the records contradict each other; for tests.

        @param honest: no agent has lied about what it has.
        """
        invariants.validate(self, honest)

    # Effects.

    def send(self, peer: Peer, message: Message) -> None:
        """Send to a peer whose link stands."""
        self.effects.append(Send(peer.id, message))

    def to_framework(self, framework: Framework, event: Event) -> None:
        """Send an event to a framework, or to nobody while it is disconnected."""
        peer = framework.peer
        if peer is not None:
            framework.events[event.type] += 1
            self.effects.append(Send(peer.id, event))

    def to_agent(self, agent: Agent, message: Message) -> None:
        """Send to an agent, or to nobody while it is disconnected."""
        peer = agent.peer
        if peer is not None:
            self.effects.append(Send(peer.id, message))

    def drop(self, peer: Peer, why: str) -> None:
        """
        Close a link: nothing more is sent to it but the answer to the call under way, and
        nothing is believed from it.
        """
        if self.peers.pop(peer.id, None) is not None:
            self._drops.append(Drop(peer.id, why))

    def note(self, level: str, text: str) -> None:
        """Log a transition."""
        self.effects.append(Note(level, text))

    # Events.

    def _received(self, event: Received) -> None:
        peer = self.peers.get(event.peer)
        if peer is None:
            return
        if not self.ready:
            refusal: Refusal | None = (503, "Master has not finished recovery")
        else:
            handler = calls.HANDLERS[peer.kind].get(event.message.__class__)
            if handler is None:
                refusal = calls.not_understood(self, peer, event.message)
            else:
                refusal = handler(self, peer, event.message)
        call = event.call
        if call is None:
            if refusal is not None:
                self.counters.dropped_messages += 1
        elif refusal is not None:
            self.effects.append(Answer(peer.id, call, refusal[0], refusal[1]))
        elif event.message.__class__ is Call and event.message.type == Call.SUBSCRIBE:
            # A stream begins with the answer to the call that opens it.
            self.effects.insert(0, Answer(peer.id, call))
        else:
            self.effects.append(Answer(peer.id, call))

    def _connected(self, event: Connected) -> None:
        self.peers[event.peer] = Peer(
            event.peer, event.kind, event.address, event.principal, event.instance
        )

    def _lost(self, event: Lost) -> None:
        peer = self.peers.pop(event.peer, None)
        if peer is None:
            return
        if peer.framework is not None:
            frameworks.lost(self, peer.framework, event.why)
        if peer.agent is not None:
            agents.lost(self, peer.agent, event.why)

    def _congestion(self, event: Congestion) -> None:
        peer = self.peers.get(event.peer)
        if peer is not None:
            peer.congested = event.congested
            if peer.framework is not None:
                frameworks.congestion(self, peer.framework, event.congested)

    def _woke(self, event: Woke) -> None:
        now = self.now
        for key in self.deadlines.due(now):
            assert isinstance(key, tuple)
            _DUE[key[0]](self, key)
        allocation = self.allocator.deadline()
        if allocation is not None and allocation <= now:
            offers.allocate(self)

    def _recovered(self, event: Recovered) -> None:
        try:
            read = registry.Registry(event.snapshot)
        except registry.RegistryError as error:
            self.effects.append(Stop(str(error), 1))
            return
        self.started = self.now
        self.ready = True
        self.recovered = read.agents
        self.recovered_count = len(read.agents)
        self.unreachable = read.unreachable
        self.gone = read.gone
        self.deactivated = {name: Deactivation(how) for name, how in read.deactivated.items()}
        self.effects.append(registry.lead(self.info))
        self.allocator.recover(self.now, len(read.agents), hold=False)
        weights.recovered(self, read.weights)
        if read.agents:
            self.deadlines.set(("recovered",), self.now + self.options.agent_reregister_timeout)
        self.deadlines.set(("gc",), self.now + self.options.registry_gc_interval)
        self.note("info", f"Recovered {len(read.agents)} agents from the registry")

    def _requested(self, event: operator.Requested) -> None:
        operator.requested(self, event)

    def _whitelisted(self, event: Whitelisted) -> None:
        self.allocator.update_whitelist(self.now, event.hostnames)

    def _store_failed(self, event: StoreFailed) -> None:
        keys = ", ".join(key for key, _ in event.changes[:3])
        self.effects.append(Stop(f"The registry could not be written ({keys}): {event.why}", 1))


_DUE: dict[str, Callable[[MasterState, tuple[Any, ...]], None]] = {
    "ping": lambda state, key: health.ping_due(state, key[1]),
    "failover": lambda state, key: frameworks.failover_timeout(state, key[1]),
    "offer": lambda state, key: offers.timeout(state, key[1]),
    "recovered": lambda state, key: health.recovered_timeout(state),
    "removal": lambda state, key: health.removal_due(state),
    "gc": lambda state, key: health.forget_old(state),
}
