"""A framework's subscription: the link to the master, and who the framework is on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver import calls
from mesoskit.driver.alarms import Alarms
from mesoskit.driver.connection import Connection, Dial
from mesoskit.driver.errors import (
    AuthenticationFailed,
    FailedOver,
    FrameworkError,
    NotSubscribed,
)
from mesoskit.driver.identity import IdStore
from mesoskit.driver.settings import DriverSettings
from mesoskit.messages.mesos_pb2 import FrameworkInfo, MasterInfo
from mesoskit.messages.scheduler_pb2 import Call, Event, OfferConstraints
from mesoskit.wire.link import CallRefused, Link, LinkLost

# Refusals of a subscription that another master, or the same one later, may not repeat.
# (404: a master of Mesos' that has just started has no routes yet.)
_TRY_AGAIN: Final = frozenset({307, 308, 404, 408, 429, 500, 502, 503, 504})

# What a master answers over HTTP to who does not prove who it is.
_UNAUTHENTICATED: Final = 401

# What Mesos' masters say to a framework whose failover_timeout is over, or that was torn down.
_REMOVED: Final = "Framework has been removed"

# What they say to one whose place another instance has taken.
_FAILED_OVER: Final = "Framework failed over"


class Subscriber(Protocol):
    """Whose subscription it is."""

    def is_subscribed(self, again: bool) -> None:
        """The master knows the framework; C{again} where it had the id before."""
        ...

    def is_unsubscribed(self, why: str, told: bool) -> None:
        """The master is gone; C{told} where it had known the framework."""
        ...

    def event(self, event: Event) -> None:
        """The master said something else."""
        ...

    def is_refused(self, why: str, kind: type[FrameworkError] = ...) -> None:
        """The master will not have the framework. Nothing follows."""
        ...


class Subscription:
    """
    Dials, subscribes, listens for heartbeats, and begins again.

    @ivar info: what is said of the framework, with its id as soon as there is one.
    @ivar suppressed: the roles for which no offers are wanted.
    @ivar constraints: which agents' offers are wanted, or L{None}.
    @ivar link: the link over which the master has said C{SUBSCRIBED}, or L{None}.
    @ivar master: the master behind it.
    @ivar trouble: what was in the way of the last attempt, or nothing.
    """

    log = Logger()

    def __init__(
        self,
        owner: Subscriber,
        info: FrameworkInfo,
        ids: IdStore | None,
        settings: DriverSettings,
        alarms: Alarms,
        dial: Dial,
        chance: Callable[[], float],
    ) -> None:
        self.info = info
        self.suppressed: tuple[str, ...] = ()
        self.constraints: OfferConstraints | None = None
        self.link: Link | None = None
        self.master: MasterInfo | None = None
        self.trouble = ""
        self._owner = owner
        self._ids = ids
        self._settings = settings
        self._alarms = alarms
        self._chance = chance
        self._recalling: Deferred[str] | None = None
        self._writing: Deferred[None] = succeed(None)
        self._wanted = False
        self._connection = Connection(self, dial, alarms, settings.backoff, chance)
        self._silent = 0
        self._interval = 15.0
        # Of the newest leader that was heard of.
        self._epoch = 0
        # Calls that wait for their answers, answers that came, and those that had come when
        # this was looked at last.
        self._open = 0
        self._answers = 0
        self._seen = 0

    @property
    def id(self) -> str:
        """The framework's id, C{""} before the first subscription."""
        return self.info.id.value

    def start(self) -> None:
        """Find out who the framework is, and dial the master."""
        self._wanted = True
        if self._ids is None or self.id:
            self._connection.start()
        else:
            self._recall(self._ids, 0)

    def _recall(self, ids: IdStore, failures: int) -> None:
        kept = ids.read()
        if not isinstance(kept, Deferred):
            self._recalled(kept)
            return

        def failed(reason: Failure) -> None:
            self._recalling = None
            if isinstance(reason.value, CancelledError):
                return
            why = reason.getErrorMessage()
            self.log.warn("the framework's id cannot be read: {why}", why=why)
            wait = self._settings.backoff.wait(failures, self._chance())
            self._alarms.set("id", wait, lambda: self._recall(ids, failures + 1))

        self._recalling = kept
        kept.addTimeout(self._settings.subscribe_timeout, self._alarms.clock)
        kept.addCallbacks(self._recalled, failed)

    def _recalled(self, kept: str) -> None:
        self._recalling = None
        if kept:
            self.info.id.value = kept
        self._connection.start()

    def _keep(self) -> None:
        """Keep the id; until that has worked, try again."""
        if self._ids is None:
            return
        write: Callable[[str], Any] = self._ids.write
        written: Deferred[None] = maybeDeferred(write, self.id)
        written.addTimeout(self._settings.subscribe_timeout, self._alarms.clock)
        self._writing = written.addErrback(self._not_kept)

    def _not_kept(self, reason: Failure) -> None:
        self.log.error("the framework's id cannot be kept: {why}", why=reason.getErrorMessage())
        if self._wanted:
            self._alarms.set("id", self._settings.backoff.longest, self._keep)

    def forget_id(self) -> Deferred[None]:
        """Be another framework the next time: this one is no more. Fires when it is forgotten."""
        known = bool(self.id)
        self._alarms.drop("id")
        self.info.ClearField("id")
        if self._ids is None or not known:
            return succeed(None)
        forget: Callable[[], Any] = self._ids.forget
        forgotten: Deferred[None] = maybeDeferred(forget)
        forgotten.addTimeout(self._settings.teardown_timeout, self._alarms.clock)
        return forgotten.addErrback(self._not_forgotten)

    def _not_forgotten(self, reason: Failure) -> None:
        self.log.error(
            "the framework's id stays in {ids}: {why}",
            ids=str(self._ids),
            why=reason.getErrorMessage(),
        )

    def stop(self) -> Deferred[None]:
        """Leave the master; fires when the link is closed, and the id is kept where it is."""
        self._wanted = False
        self._alarms.drop("id")
        recalling, self._recalling = self._recalling, None
        if recalling is not None:
            recalling.cancel()
        gone = self._connection.stop()
        self.unlinked("the framework was stopped")
        writing = self._writing
        return gone.addCallback(lambda _: writing)

    def call(self, call: Call) -> Deferred[None]:
        """Make a call, with the framework's id."""
        link = self.link
        if link is None:
            return fail(NotSubscribed("no master knows the framework at the moment"))
        call.framework_id.value = self.id
        self._open += 1
        if "answers" not in self._alarms:
            self._await_answers()
        return link.call(call).addBoth(self._answered, link)

    def _answered(self, result: Any, link: Link) -> Any:
        if link is self.link:
            self._open -= 1
            if not isinstance(result, Failure) or isinstance(result.value, CallRefused):
                self._answers += 1
        return result

    def _await_answers(self) -> None:
        """See to it that somebody notices where none come, without a timer for each call."""
        self._seen = self._answers
        self._alarms.set("answers", self._settings.call_timeout, self._miss_answers)

    def _miss_answers(self) -> None:
        if self._open and self._answers == self._seen:
            timeout = self._settings.call_timeout
            self._connection.again(f"no answer to any call within {timeout:g} s")
        elif self._open:
            self._await_answers()

    def send(self, call: Call) -> None:
        """Say what is said again if it is lost; to nobody while there is no master."""
        link = self.link
        if link is not None:
            call.framework_id.value = self.id
            link.send(call)

    # What the connection tells

    def linked(self, link: Link) -> None:
        """A master is there: subscribe."""
        epoch = link.hello.epoch
        if 0 < epoch < self._epoch:
            # It was deposed, and does not know it yet.
            why = f"epoch {epoch} is older than {self._epoch}: another master leads"
            self._connection.again(why)
            return
        self._epoch = max(self._epoch, epoch)
        timeout = self._settings.subscribe_timeout
        self._alarms.set(
            "subscribe",
            timeout,
            lambda: self._connection.again(f"no answer to SUBSCRIBE within {timeout:g} s"),
        )
        call = calls.subscribe(self.info, self.suppressed, self.constraints)
        link.call(call).addErrback(self._refused, link)

    def _refused(self, reason: Failure, link: Link) -> None:
        if link is not self._connection.link or isinstance(reason.value, LinkLost):
            return
        why = reason.getErrorMessage()
        refusal = reason.value
        status = refusal.status if isinstance(refusal, CallRefused) else 0
        if status in _TRY_AGAIN:
            self._connection.again(f"the master does not subscribe anybody: {why}")
        elif status == _UNAUTHENTICATED:
            self._end(f"Master refused authentication: {why}", AuthenticationFailed)
        else:
            self._end(f"the subscription was refused: {why}")

    def unlinked(self, why: str) -> None:
        """The master is gone."""
        link, self.link = self.link, None
        asked = "subscribe" in self._alarms
        self._alarms.drop("subscribe")
        self._alarms.drop("heartbeat")
        self._alarms.drop("answers")
        self._open = 0
        if link is not None:
            self.log.info("framework {id} lost its master: {why}", id=self.id, why=why)
        elif asked:
            self._complain(why)
        self._owner.is_unsubscribed(why, link is not None)

    def _complain(self, why: str) -> None:
        """Say what is in the way once, not at every attempt."""
        if why != self.trouble:
            self.trouble = why
            self.log.warn("no master: {why}", why=why)

    def unreachable(self, why: str, refused: bool) -> None:
        """No master was reached."""
        if refused:
            self._end(why, AuthenticationFailed)
        else:
            self._complain(why)

    def heard(self, message: Message) -> None:
        """The master said something."""
        self._silent = 0
        if message.__class__ is not Event:
            name = message.DESCRIPTOR.full_name
            self.log.warn("a master said {name}, which is no event", name=name)
            return
        kind = message.type
        if kind == Event.SUBSCRIBED:
            self._subscribed(message.subscribed)
        elif kind == Event.HEARTBEAT:
            self._heartbeat()
        elif kind == Event.ERROR:
            why = message.error.message
            kind_ = FailedOver if why == _FAILED_OVER else FrameworkError
            self._end(self._explained(why), kind_)
        else:
            self._owner.event(message)

    def _explained(self, why: str) -> str:
        if why == _REMOVED and self._ids is not None:
            return f"{why}; without {self._ids}, where its id is kept, it is another one"
        return why

    def _end(self, why: str, kind: type[FrameworkError] = FrameworkError) -> None:
        self._connection.stop()
        self.unlinked(why)
        self._owner.is_refused(why, kind)

    def _subscribed(self, subscribed: Event.Subscribed) -> None:
        known = self.id
        self.info.id.value = subscribed.framework_id.value
        self.master = subscribed.master_info
        self.link = self._connection.link
        self._connection.settled()
        self._interval = subscribed.heartbeat_interval_seconds or 15.0
        self.trouble = ""
        self._alarms.drop("subscribe")
        if known != self.id:
            self._keep()
        self.log.info("framework {id} is subscribed", id=self.id)
        if getattr(self.link, "event_heartbeats", False):
            self._heartbeat()
        self._owner.is_subscribed(bool(known))

    # Heartbeats

    def _heartbeat(self) -> None:
        """Hold a master that sends these to its word; on native links the wire itself listens."""
        if "heartbeat" not in self._alarms:
            self._alarms.set("heartbeat", self._interval, self._listen)

    def _listen(self) -> None:
        missed = self._settings.missed_heartbeats
        if self._silent >= missed:
            self._connection.again(f"{missed} heartbeats did not come")
            return
        self._silent += 1
        self._alarms.set("heartbeat", self._interval, self._listen)
