"""A framework as a Twisted service: one subscription, its offers, its tasks."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver import calls, identity, launching
from mesoskit.driver.alarms import Alarms
from mesoskit.driver.census import Census
from mesoskit.driver.connection import Dial
from mesoskit.driver.errors import (
    DriverError,
    FrameworkError,
    FrameworkStopped,
    NotSubscribed,
    OfferGone,
)
from mesoskit.driver.handles import TaskHandle
from mesoskit.driver.hearing import Hearing
from mesoskit.driver.masters import Master, credential_of, dialler, principal_of
from mesoskit.driver.offers import Offer, OfferBook, OfferStream
from mesoskit.driver.receipts import Receipts
from mesoskit.driver.reconciliation import Reconciler
from mesoskit.driver.scheduler import IScheduler, Scheduler
from mesoskit.driver.settings import DriverSettings
from mesoskit.driver.subscription import Subscription
from mesoskit.driver.tasks import Tasks
from mesoskit.driver.verbs import Verbs
from mesoskit.driver.waiting import Waiting
from mesoskit.messages.mesos_pb2 import (
    FrameworkInfo,
    MasterInfo,
    OperationStatus,
    TaskInfo,
    TaskStatus,
)
from mesoskit.messages.scheduler_pb2 import Call, OfferConstraints
from mesoskit.wire.auth.credentials import Credential
from mesoskit.wire.link import Link, LinkLost

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

_DEFAULTS: Final = DriverSettings()


class Framework(Verbs, Hearing, Service):
    """
    One framework, subscribed for as long as its service runs.

    It dials the master, subscribes, and does so again whenever the link breaks; then, and from
    time to time, it asks what became of its tasks. Offers come through L{offers} or an
    C{IScheduler}, and what is launched with L{accept} is followed through
    L{TaskHandle<mesoskit.driver.handles.TaskHandle>}s. Every Deferred given out may be cancelled.

    @ivar reactor: as given.
    @ivar keeps_id: whether it means to come back under its id: see C{failover}.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        master: Master,
        info: FrameworkInfo,
        *,
        scheduler: Any = None,
        acknowledge: bool = True,
        suppressed_roles: Iterable[str] = (),
        offer_constraints: OfferConstraints | None = None,
        failover: bool | None = None,
        id_file: str | Path | identity.IdStore | None = None,
        credential: Credential | str | Path | None = None,
        tls: TLS | None = None,
        capabilities: bool = True,
        settings: DriverSettings = _DEFAULTS,
        dial: Dial | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        Prepare; nothing happens before the service starts, or L{offers} or L{run} is called.

        Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>} where C{master} names
        no place, L{TypeError} where C{scheduler} provides no C{IScheduler}, and
        L{CredentialError<mesoskit.wire.auth.credentials.CredentialError>}.

        @param master: where the master is; see L{mesoskit.driver.masters}.
        @param info: its name at least; what is left open is filled in.
        @param scheduler: an L{IScheduler<mesoskit.driver.scheduler.IScheduler>}; it gets all
            offers then.
        @param acknowledge: whether updates are acknowledged when they were dealt with; where
            not, L{acknowledge} must be called for each.
        @param offer_constraints: which agents to be offered, by role; see L{update}.
        @param failover: whether the program will come back under the framework's id after it
            has ended. Its tasks then outlive C{stopService}, for C{failover_timeout}, a week
            where C{info} says nothing. By default: where C{info} has an id or a
            C{failover_timeout}, or C{id_file} is given.
        @param id_file: where the id is kept from run to run: the path of a file, the address of a
            node in ZooKeeper (C{zk://host:port/path}), or an
            L{IdStore<mesoskit.driver.identity.IdStore>}.
        @param credential: what proves to the master who the framework is, or the path of a file of
            it, which is read again when it has changed.
        @param tls: certificates and whom they are believed from; with it the master is dialled
            with TLS. Without it only C{tls:host:port} is.
        @param capabilities: whether the driver's own capabilities are asked for where C{info}
            names none.
        @param dial: dials the master in place of C{master}; for tests.
        @param chance: gives random numbers in [0, 1).
        """
        self.reactor = reactor
        self._settings = settings
        kept_in = identity.id_store(reactor, id_file, settings)
        self.keeps_id = identity.keeps_id(info, kept_in, failover)
        self._capabilities = capabilities
        secret = credential_of(credential)
        self._principal = principal_of(secret)
        if scheduler is not None and not IScheduler.providedBy(scheduler):
            raise TypeError(
                f"{scheduler!r} does not provide IScheduler; a subclass of Scheduler would"
            )
        self._scheduler = Scheduler() if scheduler is None else scheduler
        self._decides = scheduler is not None
        self._acknowledge = acknowledge
        self._receipts = Receipts(settings.remembered_updates)
        self._alarms = alarms = Alarms(reactor)
        self._subscription = Subscription(
            self,
            identity.complete(info, settings, self.keeps_id, capabilities, self._principal),
            kept_in,
            settings,
            alarms,
            dialler(reactor, master, secret, settings, tls, lambda: self._instance)
            if dial is None
            else dial,
            chance,
        )
        self._subscription.suppressed = tuple(suppressed_roles)
        self._subscription.constraints = offer_constraints
        self._offers = OfferBook(
            alarms, self._send_decline, self._send_revive, settings.offer_backlog
        )
        patience = settings.unreachable_patience
        if patience is None and not self._decides:
            patience = 0.0
        self._tasks = Tasks(alarms, settings, self._send_kill, patience, bury=not self._decides)
        self._reconciler = Reconciler(alarms, settings, self._ask, self._tasks.pairs, chance)
        self._census = Census(alarms, settings, self._tasks, self._ask)
        self._subscribed: Waiting[str] = Waiting()
        self._over: Waiting[None] = Waiting()
        self._error: FrameworkError | None = None
        self._began = False
        self._instance = ""
        self._first = True

    @property
    def id(self) -> str:
        """The framework's id, C{""} before the first subscription."""
        return self._subscription.id

    @property
    def info(self) -> FrameworkInfo:
        """What is said of the framework, complete. Not to be changed: see L{update}."""
        return self._subscription.info

    @property
    def master_info(self) -> MasterInfo | None:
        """The master that knows the framework, or knew it last."""
        return self._subscription.master

    @property
    def subscribed(self) -> bool:
        """Whether a master knows the framework now."""
        return self._subscription.link is not None

    @property
    def trouble(self) -> str:
        """What was in the way when a master was looked for last; empty once one is found."""
        return self._subscription.trouble

    @property
    def tasks(self) -> dict[str, TaskHandle]:
        """The handles of all tasks that have not ended, by id. Not to be changed."""
        return self._tasks.live

    # The service

    def startService(self) -> None:
        """Dial the master and subscribe."""
        if self.running:
            return
        if self._error is not None:
            raise self._error
        super().startService()  # type: ignore[no-untyped-call]
        self._instance = secrets.token_hex(8)
        self._began = self._first = True
        self._offers.begin()
        self._subscription.start()

    def stopService(self) -> Deferred[None]:
        """
        Leave the master; fires when the link is closed.

        A framework that keeps its id only goes away, and its tasks run on for
        C{failover_timeout}; any other is torn down with all its tasks. Handles end with
        L{FrameworkStopped}, loops over offers end.
        """
        if not self.running:
            return succeed(None)
        if self.keeps_id or not self.subscribed:
            return self._stop()
        return self.teardown()

    def teardown(self) -> Deferred[None]:
        """
        End the framework: the cluster kills all its tasks and forgets it. Then stop. Started
        again it is another framework.

        The Deferred fires when the link is closed. It fails with L{NotSubscribed} where there is
        no master to tell.
        """
        if not self.subscribed:
            return fail(NotSubscribed("there is no master that could end the framework now"))
        done = self.call(Call(type=Call.TEARDOWN))
        done.addTimeout(self._settings.teardown_timeout, self.reactor)
        done.addCallbacks(lambda _: self._subscription.forget_id(), self._not_torn_down)
        return done.addCallback(lambda _: self._stop())

    def _not_torn_down(self, reason: Failure) -> None:
        self.log.warn("teardown was not confirmed: {why}", why=reason.getErrorMessage())

    def _stop(self) -> Deferred[None]:
        if self.running:
            super().stopService()  # type: ignore[no-untyped-call]
        gone = self._subscription.stop()
        forgotten = succeed(None) if self.keeps_id else self._subscription.forget_id()
        self._alarms.clear()
        self._end(lambda: FrameworkStopped("the framework was stopped"), StopAsyncIteration)
        gone.addCallback(lambda _: forgotten)
        return gone.addCallback(lambda _: self._over.fire(None))

    def _end(self, why: Callable[[], Exception], loops: Callable[[], Exception]) -> None:
        """Tell everybody who waits that nothing comes."""
        self._tasks.end_all(why)
        self._census.end(why)
        self._subscribed.fail(why)
        self._offers.end(loops)

    def when_subscribed(self) -> Deferred[str]:
        """Return the framework's id, as soon as a master knows it."""
        if self._error is not None:
            return fail(self._error)
        if self.subscribed:
            return succeed(self.id)
        return self._subscribed.wait()

    def run(self) -> Deferred[None]:
        """
        Start, if that has not happened, and fire when the service has stopped.

        Fails with L{FrameworkError} where the master ends the framework. Cancelling it stops
        the service.
        """
        if self._error is not None:
            return fail(self._error)
        self.startService()
        return self._over.wait(self.stopService)

    async def __aenter__(self) -> Framework:
        self.startService()
        await self.when_subscribed()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stopService()

    # What a framework does

    def offers(self) -> OfferStream:
        """
        Return the offers, for C{async for}; starts the service where it has never run.

        Of a framework that was stopped there are none: the loop ends at once. Raises
        L{DriverError} where a scheduler was given, which gets them all.
        """
        if self._decides:
            raise DriverError("the offers of this framework go to its IScheduler")
        if self._error is None and not self._began:
            self.startService()
        return self._offers.stream()

    def accept(
        self,
        offers: Offer | Iterable[Offer],
        operations: Iterable[TaskInfo | launching.Operation],
        refuse_seconds: float = 0.0,
    ) -> Deferred[list[TaskHandle]]:
        """
        Use offers of one agent: launch tasks, and other operations; what is left is declined.

        The Deferred fires with the handles of all tasks when the master has taken the call. It
        fails with its refusal (L{CallRefused<mesoskit.wire.link.CallRefused>}), or with
        L{OfferGone}, L{NotSubscribed} or C{TaskIdInUse}, and nothing was launched then. Where
        the link breaks before the master has answered it fires too, and what became of the
        tasks is learned through their handles; without tasks it fails with C{LinkLost}. What is
        wrong with single tasks is told by their handles. Cancelling it kills the tasks.

        @param operations: C{TaskInfo}s and C{Offer.Operation}s, performed in order; see
            L{mesoskit.driver.builders}.
        @param refuse_seconds: how long what is left of the offers is not offered again.
        """
        link = self._subscription.link
        if link is None:
            return fail(self._not_subscribed())
        given = [offers] if isinstance(offers, Offer) else list(offers)
        if not given:
            return fail(ValueError("accept needs an offer"))
        try:
            used = self._offers.use(given, "it was accepted")
        except OfferGone as error:
            return fail(error)
        try:
            call, handles = launching.accept(self.id, used, operations, refuse_seconds, self._tasks)
        except Exception:
            self._offers.restore(used)
            return fail()
        return self._subscription.call(call).addCallbacks(
            lambda _: handles,
            self._not_accepted,
            errbackArgs=(used, handles, link),
        )

    def _not_accepted(
        self, reason: Failure, offers: list[Offer], handles: list[TaskHandle], link: Link
    ) -> list[TaskHandle] | Failure:
        if isinstance(reason.value, LinkLost):
            return handles or reason
        if isinstance(reason.value, CancelledError):
            for handle in handles:
                if not handle.over:
                    self._tasks.kill(handle, None)
            return reason
        for handle in handles:
            self._tasks.discard(handle)
        if link is self._subscription.link:
            self._offers.restore(offers)
        return reason

    def decline(
        self, offers: Offer | Iterable[Offer], refuse_seconds: float = 5.0
    ) -> Deferred[None]:
        """
        Give offers back; they are not offered again to this framework for so many seconds.

        Fires when the master has taken it; fails with L{OfferGone}.
        """
        if not self.subscribed:
            return fail(self._not_subscribed())
        given = [offers] if isinstance(offers, Offer) else list(offers)
        try:
            used = self._offers.use(given, "it was declined")
        except OfferGone as error:
            return fail(error)
        return self.call(calls.decline([offer.id for offer in used], refuse_seconds))

    def adopt(self, task_id: str, agent_id: str = "") -> TaskHandle:
        """
        Return a handle for a task of a former life of the framework, that runs or ran.

        What became of it is asked for at once. For a task that has a handle it is that one.
        """
        handle = self._tasks.live.get(task_id)
        if handle is None:
            handle = self._tasks.add(task_id, agent_id, None)
            if self.subscribed:
                self._reconciler.also(task_id, agent_id)
        return handle

    def adopt_all(self) -> Deferred[list[TaskHandle]]:
        """
        Return handles for all tasks of the framework, when the master knows of all of them: after
        its own restart that is when every agent has come back or is given up.

        Those that live are in L{tasks} as well. A framework that comes back under its id asks
        for all its tasks by itself, and here also gets those of which it has heard the end since
        then: that was not acknowledged before. Statuses go to an C{IScheduler} as ever.
        """
        if self._error is not None:
            return fail(self._error)
        return self._census.take()

    def kill(self, task_id: str, agent_id: str = "", grace: float | None = None) -> Deferred[None]:
        """
        Kill a task, as by C{handle.kill()}: until it has ended, over every loss of its agent and
        of the master. A task of which nobody knows has ended. Fires at once.
        """
        if self._error is not None:
            return fail(self._error)
        self._tasks.kill(self.adopt(task_id, agent_id), grace)
        return succeed(None)

    def acknowledge(self, status: TaskStatus) -> None:
        """
        Say that a status was dealt with, so that its agent goes on to the next.

        Only where the framework was made with C{acknowledge=False}. A status without a uuid
        needs nothing.
        """
        if status.uuid:
            self._receipts.done(status.uuid)
            self._send_acknowledgement(status)

    def acknowledge_operation(self, status: OperationStatus) -> None:
        """Say that an operation's status was dealt with; as L{acknowledge}."""
        if status.HasField("uuid"):
            self._receipts.done(status.uuid.value)
            self._subscription.send(calls.acknowledge_operation(self.id, status))

    def update(
        self,
        info: FrameworkInfo,
        suppressed_roles: Iterable[str] | None = None,
        offer_constraints: OfferConstraints | None = None,
    ) -> Deferred[None]:
        """
        Change what is said of the framework: name, roles, capabilities, timeout, filters.

        Fires when the master has taken it, and holds for later subscriptions from then on. The
        user, C{checkpoint} and the principal cannot be changed.

        To be offered only agents with an attribute C{rack} of a text from 1 to 9::

            wanted = OfferConstraints()
            group = wanted.role_constraints["web"].groups.add()
            constraint = group.attribute_constraints.add()
            constraint.selector.attribute_name = "rack"
            constraint.predicate.text_matches.regex = "[1-9]"
            await framework.update(info, offer_constraints=wanted)

        @param suppressed_roles: L{None} leaves them as they are.
        @param offer_constraints: take the place of those it had; L{None}: any agent will do.
        """
        full = identity.complete(
            info, self._settings, self.keeps_id, self._capabilities, self._principal
        )
        full.id.value = self.id
        subscription = self._subscription
        suppressed = (
            subscription.suppressed if suppressed_roles is None else tuple(suppressed_roles)
        )
        call = Call(type=Call.UPDATE_FRAMEWORK)
        call.update_framework.framework_info.CopyFrom(full)
        call.update_framework.suppressed_roles.extend(suppressed)
        if offer_constraints is not None:
            call.update_framework.offer_constraints.CopyFrom(offer_constraints)

        def taken(_: None) -> None:
            subscription.info = full
            subscription.suppressed = suppressed
            subscription.constraints = offer_constraints

        return self.call(call).addCallback(taken)

    def call(self, call: Call) -> Deferred[None]:
        """Make any other call; see L{Verbs}."""
        if self._error is not None:
            return fail(self._error)
        return self._subscription.call(call)

    # What leaves

    def _not_subscribed(self) -> DriverError:
        return self._error or NotSubscribed("no master knows the framework at the moment")

    def _send_acknowledgement(self, status: TaskStatus) -> None:
        link = self._subscription.link
        if link is not None:
            link.send(calls.acknowledge(self.id, status))

    def _send_decline(self, offer_ids: list[str], refuse_seconds: float | None) -> None:
        self._subscription.send(calls.decline(offer_ids, refuse_seconds))

    def _send_revive(self) -> None:
        self._subscription.send(calls.roles_call(Call.REVIVE, ()))

    def _send_kill(self, task_id: str, agent_id: str, grace: float | None) -> None:
        self._subscription.send(calls.kill(task_id, agent_id, grace))

    def _ask(self, tasks: list[tuple[str, str]]) -> None:
        self._subscription.send(calls.reconcile(tasks))

    # What the subscription tells

    def is_subscribed(self, again: bool) -> None:
        """A master knows the framework."""
        self._tasks.resume()
        if self._first and again:
            # Tasks of a former life are known to the master alone.
            self._census.begin()
        self._first = False
        self._reconciler.begin()
        self._census.resume()
        self._subscribed.fire(self.id)
        self._tell("subscribed")

    def is_unsubscribed(self, why: str, told: bool) -> None:
        """The master is gone, and its offers with it."""
        self._reconciler.pause()
        self._census.pause()
        self._offers.rescind_all(f"its master is gone: {why}")
        if told:
            self._tell("disconnected", why)

    def is_refused(self, why: str, kind: type[FrameworkError] = FrameworkError) -> None:
        """The master has ended the framework."""
        self._error = error = kind(why)
        self.log.error("framework {id} was ended by its master: {why}", id=self.id, why=why)
        self._alarms.clear()
        self._end(lambda: kind(why), lambda: kind(why))
        self._over.fail(lambda: kind(why))
        self._tell("error", error)
