"""The agent as a Twisted service: links, hands, clock, store and HTTP round its state.

Nothing is decided here. Links become numbers, what comes over them becomes events
(L{mesoskit.cluster.turns.Turns} gives them to the state and keeps the order of change,
store, send), and effects are carried out by their class.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import Message
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit import __version__
from mesoskit.agent import door_calls
from mesoskit.agent.bulk import BulkLinks
from mesoskit.agent.container import Destroy, Forget, Launch, Remove, Settle, Signal, Update
from mesoskit.agent.container_call import ContainerAnswer
from mesoskit.agent.container_calls import ContainerCalls
from mesoskit.agent.door import Door
from mesoskit.agent.events import Leave, ShutDown
from mesoskit.agent.hands import Hands
from mesoskit.agent.masters import Detector, MasterDialer, StandaloneMaster
from mesoskit.agent.options import CLEANUP, AgentOptions
from mesoskit.agent.probe import Abandon, Probe
from mesoskit.agent.state import AgentState
from mesoskit.cluster.peers import Peers
from mesoskit.cluster.store import IStore
from mesoskit.cluster.turns import Turns
from mesoskit.messages.bulk_pb2 import Invitation
from mesoskit.messages.internal_pb2 import RunTaskGroupMessage, RunTaskMessage
from mesoskit.messages.stream_pb2 import Role
from mesoskit.model.events import Stop
from mesoskit.web.authentication import Guard, Realm
from mesoskit.web.authorizing import Authorizing
from mesoskit.web.shared import MetricParts
from mesoskit.wire.auth.identity import Identity
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.exchange import Away
from mesoskit.wire.link import CallID, Hello, Holding, Link, Receiver
from mesoskit.wire.port import PortFactory, PortSettings
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.v1_executor import ExecutorCarrier

if TYPE_CHECKING:
    from mesoskit.agent.containers import Containers
    from mesoskit.agent.users import InThread, Users
    from mesoskit.wire.tls import TLS

LINGER = 3.0
"""Seconds that a launcher with nothing to do waits for an agent."""

LEAVING = 10.0
"""Seconds that stopping waits for containers to end."""

PARTING = 6.0
"""Seconds that stopping waits for peers to take what was sent; C{linger} of links is less."""

MakeHands = Callable[[Any, AgentOptions, Callable[[Any], None]], Hands]
"""Makes hands of a reactor, the options and what is told of every event."""


def launcher_hands(reactor: Any, options: AgentOptions, tell: Callable[[Any], None]) -> Hands:
    """Return hands over a launcher process, sandboxes in the work directory and a fetcher."""
    from mesoskit.agent.consoles import Consoles
    from mesoskit.agent.containers.image_making import image_containers
    from mesoskit.agent.containers.making import mesos_containers
    from mesoskit.agent.fetcher import Fetcher, cache_directory
    from mesoskit.agent.probing import Prober
    from mesoskit.agent.sandboxes import Sandboxes
    from mesoskit.agent.users import Users, in_thread_of

    in_thread = in_thread_of(reactor)
    users = Users(reactor, in_thread)
    sandboxes = Sandboxes(options.work_dir, in_thread)
    fetcher = Fetcher(
        reactor,
        stall=options.fetcher_stall_timeout,
        frameworks_home=options.frameworks_home,
        hadoop_home=options.hadoop_home,
        cache_dir=cache_directory(options),
        cache_size=options.fetcher_cache_size,
    )
    hands = Hands(users, sandboxes, fetcher, tell)
    hands.prober = Prober(reactor, lambda: hands.containers, lambda: _network(reactor), tell)
    if options.log_sizes is not None:
        from mesoskit.agent.logs import Rotation

        notes = str(Path(options.runtime_dir, "logs"))
        hands.logs = Rotation(reactor, notes, options.log_sizes, in_thread)
    directory = Path(options.runtime_dir, "launcher")
    directory.mkdir(mode=0o700, exist_ok=True)
    hands.consoles = Consoles(reactor, str(directory))
    door = Path(options.executor_socket).parent
    door.mkdir(exist_ok=True)
    door.chmod(0o755)  # tasks run as other users
    launched = hands.images = image_containers(
        reactor,
        options,
        users,
        in_thread,
        hands.exited,
        hands.progressed,
        lambda exited: mesos_containers(
            reactor, options, str(directory), users, in_thread, exited, LINGER, hands.described
        ),
    )
    hands.measured.append(launched.store.metrics)
    hands.containers = _composed(reactor, options, users, in_thread, hands, launched)
    return hands


def _composed(
    reactor: Any,
    options: AgentOptions,
    users: Users,
    in_thread: InThread,
    hands: Hands,
    launched: Containers,
) -> Containers:
    """Return what C{--containerizers} names, behind one door."""
    from mesoskit.agent.containers.composing import DOCKER, MESOS, ComposingContainers, Part

    parts = []
    for name in options.containerizers:
        if name == MESOS:
            parts.append(Part(MESOS, launched))
            continue
        from mesoskit.agent.containers.docker import DockerContainers

        notes = f"{options.runtime_dir}/docker"
        containers = DockerContainers(
            reactor,
            options.docker,
            options.work_dir,
            notes,
            users,
            in_thread,
            hands.exited,
            hands.described,
            hands.progressed,
            options.isolation.cgroups_hierarchy,
        )
        hands.consoles = containers.consoles(hands.consoles)
        hands.measured.append(containers.images.metrics)
        parts.append(Part(DOCKER, containers, docker=True))
    return ComposingContainers(parts)


def _network(reactor: Any) -> Any:
    from mesoskit.agent.probing_network import Network

    return Network(reactor)


class AgentService(Service):
    """
    An agent.

    @param reactor: the clock, and what endpoints listen and dial on.
    @param options: the agent's flags; C{work_dir} and C{runtime_dir} exist. Where C{port} is
        0, what was listened on is told.
    @param store: where checkpoints are kept; the service opens and closes it.
    @param master: where the master is: C{"host:port"}, or what detects it.
    @param endpoints: where its port is, as L{mesoskit.wire.endpoints.server_endpoint} reads it:
        HTTP, and native links of executors that do not come to the door.
    @param make_hands: makes what runs containers.
    @param settings: limits and times of native links.
    @param identity: who the agent is to its master; nobody in particular where not given.
    @param port_settings: limits of the port, HTTP among them.
    @param tls: provides C{IOpenSSLServerConnectionCreator}, where TLS is taken as well.
    @param master_tls: with what the master is dialled.
    @param stopped: called once, with a reason and an exit status, where the agent ends by
        itself: a master has shut it down, or its checkpoints do not fit.
    @param seed: 16 bytes that all of its ids follow from; random where not given.
    @param guard: finds out who comes over HTTP; nobody is asked where it is not given.

    @ivar state: what it knows.
    @ivar links: hears its links.
    @ivar door: where executors come; C{port} is the factory that listens for everybody else.
    @ivar guard: asks who comes over HTTP.
    @ivar authorizing: says what they may do.
    @ivar executors: those that come over HTTP.
    @ivar bulk: its links for files.
    @ivar container_calls: calls about single containers that wait for their answers.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: AgentOptions,
        store: IStore,
        master: str | Detector,
        endpoints: Sequence[str] = (),
        *,
        make_hands: MakeHands = launcher_hands,
        settings: StreamSettings | None = None,
        identity: Identity | None = None,
        port_settings: PortSettings | None = None,
        tls: Any = None,
        master_tls: TLS | None = None,
        stopped: Callable[[str, int], None] | None = None,
        seed: bytes | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.reactor = self._reactor = reactor
        self._clock = cast(IReactorTime, reactor)
        # Sandboxes are walked without following links: the directory's own name must have none.
        options = replace(options, work_dir=os.path.realpath(options.work_dir))
        self._options = options
        self._store = store
        self._endpoints = tuple(endpoints)
        self._stopped = stopped
        self._seed = token_bytes(16) if seed is None else seed
        self._deciding = False
        self._leaving: Deferred[None] | None = None
        self._parting: Deferred[None] | None = None
        self.peers = Peers(self._tell, self.log)
        self.links: Receiver = _Links(self)
        self._polls: dict[str, IDelayedCall] = {}
        self.ports: list[IListeningPort] = []
        hello = Hello(
            Role.AGENT, f"mesoskit/{__version__}", instance=token_bytes(8).hex(), bulk=True
        )
        self.door = Door(reactor, options.executor_socket, self.links, hello, settings)
        self.port = PortFactory(
            self.door.factory,
            self.resource,
            clock=self._clock,
            settings=port_settings,
            tls=tls,
        )
        self.guard = guard or Guard("agent", self._clock, nameless=True)
        self.authorizing = Authorizing(options.authorizer, self._clock)
        self.executors = ExecutorCarrier(
            self.links,
            Hello(Role.EXECUTOR),
            clock=self._clock,
            interval=options.executor_heartbeat_interval,
            gate=self.away,
            invalid=door_calls.invalid,
            identify=self.guard.of(Realm.EXECUTORS),
            settings=settings,
        )
        detector = StandaloneMaster(master) if isinstance(master, str) else master
        pulse = self.door.factory.pulse
        self._dialer = MasterDialer(
            reactor,
            detector,
            self.links,
            hello,
            settings=settings,
            pulse=pulse,
            identity=identity,
            refused=self._refused,
            tls=master_tls,
        )
        self.bulk = BulkLinks(self, self._dialer.dial_again, hello)
        self.hands = make_hands(reactor, options, self._tell)
        self.container_calls = ContainerCalls(self._tell)
        perform = self.hands.perform
        self._perform: dict[type, Callable[[Any], None]] = {
            **self.peers.effects,
            Launch: perform,
            Signal: perform,
            Destroy: perform,
            Forget: perform,
            Remove: perform,
            Settle: perform,
            Update: perform,
            Probe: perform,
            Abandon: perform,
            ContainerAnswer: self.container_calls.answer,
        }
        self._start_state(options)

    def resource(self) -> Any:
        """Return the root of the agent's HTTP, made for the first who asks."""
        from mesoskit.agent.http import AgentResource

        return AgentResource(self)

    def away(self, path: str) -> Away | None:
        """Say why calls over HTTP are not taken now: the agent does not know yet what it has."""
        if self.state.recovery.found:
            return None
        return Away(503, "Agent has not finished recovery")

    def _start_state(self, options: AgentOptions) -> None:
        """Make the state, whose PID tells the port."""
        self.state = AgentState(options, self._seed)
        self.turns = Turns(
            self._clock,
            self.state.handle,
            self.state.deadline,
            self._carry_out,
            self._store,
            stopped=self._ended,
            flush=self.door.factory.flush,
            isolate=True,
        )

    # The service.

    def startService(self) -> Deferred[None]:
        """
        Listen, read the checkpoints, find the launcher and look for the master; the Deferred
        fires when the agent knows what it had and registers.

        Fails with L{mesoskit.wire.endpoints.EndpointError},
        L{twisted.internet.error.CannotListenError}, L{mesoskit.cluster.store.StoreError} or
        L{mesoskit.agent.containers.ContainerError}.
        """
        super().startService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.authorizing.begin()
        await self.door.open()
        for text in self._endpoints:
            self.ports.append(await server_endpoint(self._reactor, text).listen(self.port))
        self._start_state(self._told())
        self._dialer.start()
        await self.turns.start()
        self._deciding = True
        if self.running:
            await self.hands.start()
        if self.running:
            self._poll("disk", self._options.disk_watch_interval, self.hands.read_disk)
            self._poll("usage", self._options.usage_interval, self._read_usage)
            collection = self._options.images.collection
            if collection is not None:
                self._poll("images", collection.interval, self._collect_images)

    def _told(self) -> AgentOptions:
        """
        Return the options with what is known now that the ports are open. Executors are told
        where the agent listens, which is not what others are told where that is translated;
        at a port for TLS alone only where there is no other.
        """
        options = self._options
        listening = zip(self._endpoints, self.ports, strict=True)
        for _, port in sorted(listening, key=lambda each: each[0].startswith("ssl:")):
            host = port.getHost()
            if isinstance(host, IPv4Address):
                ip = host.host if host.host != "0.0.0.0" else options.local_ip or options.ip
                endpoint = f"{ip}:{host.port}"
                return replace(options, port=options.port or host.port, local_endpoint=endpoint)
        return options

    def stopService(self) -> Deferred[None]:
        """
        End what runs here and would not go on at the next start, and report it; stop listening,
        end every link, let go of the launcher and close the store. Fires when all is done.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if not self._deciding or self._options.recover != CLEANUP:
            return self._close()
        leaving: Deferred[None] = Deferred()
        self._leaving = leaving
        self.turns.put(Leave())
        leaving.addTimeout(LEAVING, self._clock)
        leaving.addErrback(self._left_behind)
        return leaving.addCallback(lambda _: self._close())

    def abandon(self) -> Deferred[None]:
        """
        Let go of everything and end nothing, as if the process were killed: what ran runs on,
        until an agent over the same work directory starts. For tests and for embedders.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        return self._close()

    def _left_behind(self, reason: Failure) -> None:
        reason.trap(TookTooLong)  # type: ignore[no-untyped-call]
        self.log.warn("{count} containers did not end in time", count=len(self.state.containers))

    def _close(self) -> Deferred[None]:
        self.turns.stop()
        detecting = self._dialer.stop()
        streams = self.executors.lose_all("The agent is shutting down")
        for poll in self._polls.values():
            poll.cancel()
        self._polls.clear()
        why = "The agent is shutting down"
        closing: list[Deferred[Any]] = [detecting]
        for port in self.ports:
            stopping = port.stopListening()
            closing.append(stopping if isinstance(stopping, Deferred) else succeed(None))
        self.ports = []
        self.peers.lose_all(why)
        self.container_calls.stop()
        self.bulk.close(why)
        self.port.close_undecided()
        closing += [streams, self.port.close_http(), self._parted()]
        closing += [self.door.close(why), self.hands.stop()]
        closing.append(self._store.close())
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def _parted(self) -> Deferred[None]:
        """
        Fire when every peer has taken what was sent to it. A process that ends earlier takes
        its last words back: the kernel resets a connection that holds unread bytes.
        """
        if not self.peers:
            return succeed(None)
        self._parting = parting = Deferred[None]()
        parting.addTimeout(PARTING, self._clock)

        def forgive(reason: Failure) -> None:
            reason.trap(TookTooLong)  # type: ignore[no-untyped-call]

        return parting.addErrback(forgive)

    def shut_down(self, why: str) -> None:
        """Leave the cluster for good: unregister, end all, forget the id, and end (SIGUSR1)."""
        self.turns.put(ShutDown(why))

    def _ended(self, stop: Stop) -> None:
        """The state asked to end."""
        self._deciding = False
        if self._leaving is not None:
            if not self._leaving.called:
                self._leaving.callback(None)
            return
        self._dialer.stop()
        self.executors.lose_all(stop.why)
        self.peers.lose_all(stop.why)
        if self._stopped is not None:
            self._stopped(stop.why, stop.status)

    def master_host(self) -> str | None:
        """Return the host of the master that there is a link to, or L{None}."""
        link = None if self.state.master is None else self.peers.link(self.state.master)
        return None if link is None else link.peer.rpartition(":")[0] or link.peer

    def _refused(self, why: str) -> None:
        """The master does not believe that the agent is who it says; as Mesos' it ends then."""
        self._dialer.stop()
        if self._stopped is None:
            self.log.error("{why}", why=why)
        else:
            self._stopped(why, 1)

    def metrics_in_parts(self) -> MetricParts:
        """Return the same as L{metrics}; of an agent there is nothing that needs parts."""
        return MetricParts(self.metrics())

    def metrics(self) -> dict[str, float]:
        """Return what C{/metrics/snapshot} shows of this agent."""
        shown = self.state.metrics()
        shown["mesoskit/turns"] = float(self.turns.turns)
        shown["mesoskit/events"] = float(self.turns.events)
        shown["mesoskit/store_queue"] = float(self.turns.waiting)
        shown.update(self.hands.metrics())
        shown.update(self.guard.metrics())
        return shown

    # What is looked at from time to time.

    def _poll(self, name: str, interval: float, look: Callable[[], object]) -> None:
        def again() -> None:
            self._polls[name] = self._clock.callLater(interval, again)
            look()

        again()

    def _read_usage(self) -> None:
        if self.state.containers or self.state.nested.running:
            self.hands.read_usage()

    def _collect_images(self) -> None:
        from mesoskit.agent.containers.image_making import collect

        if self.hands.images is not None:
            collect(self.hands.images, self._options)

    def prune_images(self, excluded: Sequence[str]) -> Deferred[list[str]]:
        """
        Remove images that no container uses; give their names.

        @param excluded: what stays; where that is nothing, what C{--image_gc_config} says.
        """
        from mesoskit.agent.containers.image_making import prune

        return prune(self.hands.images, self._options, excluded)

    def _tell(self, event: Any) -> None:
        self.turns.put(event)

    def link_lost(self, link: Link) -> None:
        """A link is gone, and the state will hear of it."""
        if link.hello.role == Role.MASTER:
            self.bulk.close("the control link is gone")
        self._dialer.lost(link)
        parting = self._parting
        if parting is not None and not self.peers and not parting.called:
            parting.callback(None)

    # What the state wants done.

    def _carry_out(self, effect: Any) -> None:
        self._perform[effect.__class__](effect)


_RUNS = (RunTaskMessage, RunTaskGroupMessage)


class _Links:
    """Hears the agent's links: what its peers hear, and what the service does when one is lost."""

    def __init__(self, service: AgentService) -> None:
        peers = service.peers
        self.connected = peers.connected
        self._received = peers.received
        self.congestion = peers.congestion
        self._lost = peers.lost
        self._service = service

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """A message came; what concerns bulk links is none of the state's business."""
        if message.__class__ is Invitation and link.hello.role == Role.MASTER:
            self._service.bulk.invited(message)
        elif message.__class__ in _RUNS and self._service.authorizing.authorizer is not None:
            self._run(link, message, call)
        else:
            self._received(link, message, call)

    def _run(self, link: Link, message: Any, call: CallID | None) -> None:
        """Let a task wait, and all behind it, until it can be said what its framework may do."""
        framework = message.framework
        principal = framework.principal if framework.HasField("principal") else None
        ready = self._service.authorizing.prepare(principal)
        if ready is None:
            self._received(link, message, call)
            return
        holding = cast(Holding, link)
        holding.hold(True)

        def go_on(_: object) -> None:
            self._received(link, message, call)
            holding.hold(False)

        ready.addCallback(go_on)

    def lost(self, link: Link, why: str) -> None:
        """A link is gone."""
        self._lost(link, why)
        self._service.link_lost(link)
