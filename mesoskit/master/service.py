"""The master as a Twisted service: links, clock, store and HTTP round the state.

Nothing is decided here. Links become numbers, what comes over them becomes events
(L{mesoskit.cluster.turns.Turns} gives them to the state and keeps the order of change,
store, send), and effects are carried out by their class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from secrets import token_bytes
from time import perf_counter
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit import __version__
from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.interface import IAllocator
from mesoskit.allocator.options import Options as AllocatorOptions
from mesoskit.cluster.election import Election
from mesoskit.cluster.leader import Leader
from mesoskit.cluster.peers import Peers
from mesoskit.cluster.store import IStore
from mesoskit.cluster.turns import Turns
from mesoskit.master.bulk import BulkLinks
from mesoskit.master.fragments import Fragments
from mesoskit.master.framework_metrics import PREFIX
from mesoskit.master.intake import Intake
from mesoskit.master.measuring import TimedStore, timed_allocator
from mesoskit.master.metrics import Metrics
from mesoskit.master.operator import Replied, Request, Requested
from mesoskit.master.operator_streams import OperatorStreams
from mesoskit.master.options import MasterOptions
from mesoskit.master.state import MasterState
from mesoskit.master.watching import Told
from mesoskit.master.whitelist import Whitelisted
from mesoskit.master.whitelist_file import WhitelistFile
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.messages.stream_pb2 import Purpose
from mesoskit.model.events import PeerKind, Stop
from mesoskit.model.ids import Ids
from mesoskit.model.validation_call import validate_scheduler_call
from mesoskit.web.authentication import Guard, Realm
from mesoskit.web.authorizing import Authorizing
from mesoskit.web.shared import MetricParts
from mesoskit.wire.auth.admission import Admission
from mesoskit.wire.auth.authenticator import Authenticator
from mesoskit.wire.auth.checkers import nobody
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.exchange import Away
from mesoskit.wire.hellos import HelloRefused
from mesoskit.wire.link import Hello
from mesoskit.wire.plan import Settle, Settling
from mesoskit.wire.port import PortFactory, PortSettings
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from mesoskit.wire.v1_scheduler import SchedulerCarrier

KEPT = 60.0
"""Seconds for which encoded parts of big documents are kept after somebody asked."""

_ACCEPTED_ROLES = (PeerKind.AGENT, PeerKind.FRAMEWORK, PeerKind.TOOL)


def _invalid_call(call: Any, principal: str | None) -> str | None:
    error = validate_scheduler_call(call, principal)
    return None if error is None else f"Failed to validate scheduler::Call: {error}"


class NotRunning(Exception):
    """The master has stopped, so nobody will answer."""


class MasterService(Service):
    """
    A master.

    @param reactor: the clock, and what endpoints listen on.
    @param options: the master's flags. Where C{port} is 0, what was listened on is told.
    @param store: where the registry is kept; the service opens and closes it.
    @param endpoints: where to listen, as L{mesoskit.wire.endpoints.server_endpoint} reads it.
    @param allocator: who decides on offers; Mesos' own way where none is given.
    @param settings: limits and times of native links.
    @param admission: who comes in over native links, and as whom; all come in where it is not
        given, and nobody is believed.
    @param port_settings: limits of the one port, HTTP among them.
    @param tls: provides C{IOpenSSLServerConnectionCreator}, where TLS is taken as well.
    @param stopped: called once, with a reason and an exit status, where the master ends by
        itself: it cannot write its registry, say.
    @param flags: what C{/state} shows of the command line.
    @param seed: 16 bytes that all of the master's ids follow from; random where not given.
    @param guard: finds out who comes over HTTP; nobody is asked where it is not given.
    @param election: makes it one of several masters, of which one leads; alone it leads at once.
        The service starts and stops it.
    @param registry_fetch_timeout: seconds that reading the registry may take.
    @param registry_store_timeout: seconds that writing into it may take.
    @param whitelist: the file of C{options.whitelist}, which is read again when it has changed.

    @ivar state: what it knows.
    @ivar reactor: the clock, and threads.
    @ivar factory: makes its native links; C{port} is the factory that listens.
    @ivar leader: the master that leads; L{None} while none does.
    @ivar guard: asks who comes over HTTP.
    @ivar authorizing: says what they may do.
    @ivar schedulers: the frameworks that come over HTTP.
    @ivar operators: those who watch the cluster.
    @ivar intake: stands between links and the state, so that nobody takes all of its time.
    @ivar bulk: links over which agents send files.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: MasterOptions,
        store: IStore,
        endpoints: Sequence[str],
        *,
        allocator: IAllocator | None = None,
        settings: StreamSettings | None = None,
        admission: Settle | None = None,
        port_settings: PortSettings | None = None,
        tls: Any = None,
        stopped: Callable[[str, int], None] | None = None,
        seed: bytes | None = None,
        flags: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        election: Election | None = None,
        registry_fetch_timeout: float = 60.0,
        registry_store_timeout: float = 20.0,
        whitelist: str | None = None,
    ) -> None:
        self.reactor = self._reactor = reactor
        self._clock = cast(IReactorTime, reactor)
        self._options = options
        self._store = TimedStore(store, perf_counter)
        self._endpoints = tuple(endpoints)
        self._election = election
        self._over = False
        self._fetch_timeout = registry_fetch_timeout
        self._store_timeout = registry_store_timeout
        self._allocator = timed_allocator(
            allocator or HierarchicalAllocator(AllocatorOptions()), perf_counter
        )
        self._stopped = stopped
        self.flags = dict(flags or {})
        self._seed = token_bytes(16) if seed is None else seed
        self.peers = Peers(self._put, self.log)
        self.intake = Intake(self.peers, self._clock, lambda: self.turns, options.rate_limits)
        self.bulk = BulkLinks(self._clock)
        self._metrics = Metrics(options.publish_per_framework_metrics)
        self._whitelist: WhitelistFile | None = None
        if whitelist is not None:
            known = options.whitelist or frozenset()
            self._whitelist = WhitelistFile(self._clock, whitelist, known, self._whitelisted)
        self._requests: dict[int, Deferred[Replied]] = {}
        self._fragments = Fragments()
        self._forgetting: IDelayedCall | None = None
        self.ports: list[IListeningPort] = []
        self.guard = guard or Guard("master", self._clock)
        self.authorizing = Authorizing(options.authorizer, self._clock)
        self._admission = admission = admission or Admission(Authenticator(nobody()))
        if isinstance(admission, Admission):
            admission.prepare = self.authorizing.prepare
            admission.failures = self.guard.failures
        self.factory = StreamFactory(
            self.intake,
            Hello(PeerKind.MASTER, f"mesoskit/{__version__}", instance=token_bytes(8).hex()),
            clock=self._clock,
            accept=_ACCEPTED_ROLES,
            settings=settings,
            settle=self._admit,
            others={Purpose.BULK: self.bulk.incoming},
        )
        self.schedulers = SchedulerCarrier(
            self.intake,
            Hello(PeerKind.FRAMEWORK),
            clock=self._clock,
            interval=options.http_heartbeat_interval,
            gate=self.away,
            invalid=_invalid_call,
            identify=self.authorizing.identify(self.guard.of(Realm.FRAMEWORKS)),
            settings=settings,
        )
        self.operators = OperatorStreams(
            self.request,
            self.fragments,
            clock=self._clock,
            interval=options.http_heartbeat_interval,
            most=options.max_operator_event_stream_subscribers,
        )
        self.port = PortFactory(
            self.factory, self.resource, clock=self._clock, settings=port_settings, tls=tls
        )
        self._perform: dict[type, Callable[[Any], None]] = {
            **self.peers.effects,
            Replied: self._replied,
            Told: self._told,
        }
        self._start_state(options)

    def _start_state(self, options: MasterOptions) -> None:
        """Make the state, whose MasterInfo tells the port."""
        self.state = MasterState(options, Ids(self._seed), self._allocator, self._clock.seconds())
        election = self._election
        self.leader: MasterInfo | None = self.state.info if election is None else None
        self.turns = Turns(
            self._clock,
            self.state.handle,
            self.state.deadline,
            self._carry_out,
            self._store,
            stopped=self._ended,
            flush=self._flush,
            fence=None if election is None else election.fence,
            load_timeout=self._fetch_timeout,
            store_timeout=self._store_timeout,
        )

    # The service.

    def startService(self) -> "Deferred[None]":
        """
        Listen, then read the registry; the Deferred fires when the master serves, or stands for
        election.

        Fails with L{mesoskit.wire.endpoints.EndpointError},
        L{twisted.internet.error.CannotListenError} or L{mesoskit.cluster.store.StoreError}.
        """
        super().startService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.authorizing.begin()
        if self._whitelist is not None:
            self._whitelist.start()
        for text in self._endpoints:
            self.ports.append(await server_endpoint(self._reactor, text).listen(self.port))
        if self._options.port == 0 and self.ports:
            port = getattr(self.ports[0].getHost(), "port", 0)
            self._start_state(replace(self._options, port=port))
        if self._election is None:
            await self.turns.start()
        else:
            await self._election.start(self.state.info, self)

    # The election, as it tells of itself.

    def elected(self, epoch: int) -> None:
        """Lead: read the registry, and take whoever comes."""
        plan = self.factory.plan
        plan.hello = replace(plan.hello, epoch=epoch)
        self.leader = self.state.info
        self.turns.start().addErrback(self._not_recovered)

    def _not_recovered(self, reason: Failure) -> None:
        self.turns.stop()
        if not self.running:
            return  # It was asked to stop, and nobody reads any more.
        self._ended(Stop(f"Failed to recover the registry: {reason.getErrorMessage()}", 1))

    def led(self, leader: Leader | None) -> None:
        """Another master leads, or none does."""
        ours = self.state.info.address
        if leader is not None and leader.info.address == ours:
            # It was here before this process, and is dead: nobody is to be sent there.
            self.log.info("The master that was here before leads until its session ends")
            leader = None
        self.leader = None if leader is None else leader.info
        if leader is None:
            self.log.info("No master leads")
        else:
            self.log.info("The leading master is {address}", address=leader.address)

    def deposed(self, why: str) -> None:
        """Lead no more: send nothing from now on, and end."""
        self.leader = None
        self.turns.stop()
        self._ended(Stop(why, 1))

    def _admit(self, session: Session) -> Settling:
        """Let peers in where this master leads; tell others who does."""
        leader = self.leader
        if leader is None:
            raise HelloRefused("not-leading", "no master leads at the moment", 503)
        if leader.id != self.state.info.id:
            where = f"{leader.hostname}:{leader.port}"
            raise HelloRefused("not-leading", f"another master leads: {where}", 503)
        return self._admission(session)

    def fragments(self) -> Fragments:
        """Return what big documents are made of; kept until nobody has asked for a minute."""
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.reset(KEPT)
        else:
            self._forgetting = self._clock.callLater(KEPT, self._fragments.clear)
        return self._fragments

    def resource(self) -> Any:
        """Return the root of the master's HTTP, made for the first who asks."""
        from mesoskit.master.http import MasterResource

        return MasterResource(self)

    def away(self, path: str) -> Away | None:
        """
        Say why requests for C{path} are not taken now: another master leads, none does, or
        the registry is not read yet (C{Master::Http::redirect} and its callers).

        Who is sent to the leader is sent to the path under C{/master}, and told no scheme.
        """
        if self._election is not None:
            # Which finds out, where it has been so for a while, that this master leads no more.
            self._election.fence()
        leader = self.leader
        if leader is None:
            return Away(503, "No leader elected")
        if leader.id != self.state.info.id:
            if path.split("/", 2)[1:2] != ["master"]:
                path = f"/master{path}"
            return Away(307, headers={"Location": f"//{leader.hostname}:{leader.port}{path}"})
        if not self.state.ready:
            return Away(503, "Master has not finished recovery")
        return None

    def stopService(self) -> "Deferred[None]":
        """Stop listening, end every link, close the store; fires when all is closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.turns.stop()
        self.intake.stop()
        if self._whitelist is not None:
            self._whitelist.stop()
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.cancel()
        self.bulk.stop("The master is shutting down")
        heard = self.factory.lose_all("The master is shutting down")
        streams = self.schedulers.lose_all("The master is shutting down")
        self.operators.lose_all()
        self.port.close_undecided()
        waiting, self._requests = self._requests, {}
        for deferred in waiting.values():
            deferred.errback(NotRunning("The master is shutting down"))
        closing: list[Deferred[Any]] = [heard, streams, self.port.close_http()]
        for port in self.ports:
            stopping = port.stopListening()
            closing.append(stopping if isinstance(stopping, Deferred) else succeed(None))
        self.ports = []
        closing.append(self._store.close())
        if self._election is not None:
            # Nothing is decided any more, so others may lead.
            self.leader = None
            closing.append(self._election.stop())
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def _ended(self, stop: Stop) -> None:
        """The state asked to end, or nothing may go on."""
        if self._over:
            return
        self._over = True
        self.bulk.stop(stop.why)
        self.factory.lose_all(stop.why)
        self.schedulers.lose_all(stop.why)
        self.operators.lose_all()
        waiting, self._requests = self._requests, {}
        for deferred in waiting.values():
            deferred.errback(NotRunning(stop.why))
        if self._election is not None:
            self._election.stop()
        if self._stopped is not None:
            self._stopped(stop.why, stop.status)

    def request(self, request: Request) -> "Deferred[Replied]":
        """
        Have the state do what an operator wants; fires with its answer, after what the
        answer rests on was stored. Fails with L{NotRunning}.
        """
        number = next(self.peers.numbers)
        answered: Deferred[Replied] = Deferred()
        self._requests[number] = answered
        self.turns.put(Requested(number, request))
        return answered

    def metrics(self) -> dict[str, float]:
        """Return what C{/metrics/snapshot} shows of this master."""
        return self._measured(self._metrics.all(self.state))

    def metrics_in_parts(self) -> MetricParts:
        """Return the same, of each framework written already."""
        shown = self._measured(self._metrics.cluster(self.state))
        return MetricParts(shown, PREFIX, self._metrics.members())

    def _measured(self, shown: dict[str, float]) -> dict[str, float]:
        """Add what the state does not know."""
        leads = self.leader is not None and self.leader.id == self.state.info.id
        shown["master/elected"] = float(leads)
        shown.update(self._store.metrics())
        shown["master/operator_event_stream_subscribers"] = float(len(self.operators))
        shown["registrar/queued_operations"] = float(self.turns.waiting)
        shown["mesoskit/turns"] = float(self.turns.turns)
        shown["mesoskit/events"] = float(self.turns.events)
        shown.update(self.guard.metrics())
        principals = {each.info.principal for each in self.state.frameworks.values()}
        shown.update(self.intake.metrics(principals))
        shown["mesoskit/rate_limited_calls"] = float(self.intake.waiting)
        shown.update(self.bulk.metrics())
        return shown

    def _whitelisted(self, event: Whitelisted) -> bool:
        """Let other agents be offered, as soon as there is a registry."""
        if not self.state.ready:
            return False
        self.turns.put(event)
        return True

    def _put(self, event: Any) -> None:
        self.turns.put(event)

    def _flush(self) -> None:
        """A turn is over: send what it has said, and hear those again who have had theirs."""
        self.factory.flush()
        self.intake.turn_is_over()

    # What the state wants done.

    def _carry_out(self, effect: Any) -> None:
        self._perform[effect.__class__](effect)

    def _told(self, effect: Told) -> None:
        self.operators.tell(effect)

    def _replied(self, effect: Replied) -> None:
        waiting = self._requests.pop(effect.number, None)
        if waiting is not None:
            waiting.callback(effect)
