"""A framework's subscription: the link to the master, and who the framework is on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver import calls, identity
from mesoskit.driver.alarms import Alarms
from mesoskit.driver.connection import Connection, Dial
from mesoskit.driver.errors import AuthenticationFailed, FrameworkError, NotSubscribed
from mesoskit.driver.settings import DriverSettings
from mesoskit.messages.mesos_pb2 import FrameworkInfo, MasterInfo
from mesoskit.messages.scheduler_pb2 import Call, Event, OfferConstraints
from mesoskit.wire.link import CallRefused, Link, LinkLost

# Refusals of a subscription that another master, or the same one later, may not repeat.
_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})

# What Mesos' masters say to a framework whose failover_timeout is over, or that was torn down.
_REMOVED: Final = "Framework has been removed"


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
    """

    log = Logger()

    def __init__(
        self,
        owner: Subscriber,
        info: FrameworkInfo,
        id_file: Path | None,
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
        self._owner = owner
        self._id_file = id_file
        self._settings = settings
        self._alarms = alarms
        self._connection = Connection(self, dial, alarms, settings.backoff, chance)
        self._unheard = ""
        self._silent = 0
        self._interval = 15.0
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
        """Dial the master."""
        if self._id_file is not None and not self.id:
            kept = identity.read_id(self._id_file)
            if kept:
                self.info.id.value = kept
        self._connection.start()

    def forget_id(self) -> None:
        """Be another framework the next time: this one is no more."""
        self.info.ClearField("id")
        if self._id_file is not None:
            self._id_file.unlink(missing_ok=True)

    def stop(self) -> Deferred[None]:
        """Leave the master; fires when the link is closed."""
        gone = self._connection.stop()
        self.unlinked("the framework was stopped")
        return gone

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
        if isinstance(refusal, CallRefused) and refusal.status in _TRY_AGAIN:
            self._connection.again(f"the master does not subscribe anybody: {why}")
        else:
            self._end(f"the subscription was refused: {why}")

    def unlinked(self, why: str) -> None:
        """The master is gone."""
        link, self.link = self.link, None
        self._alarms.drop("subscribe")
        self._alarms.drop("heartbeat")
        self._alarms.drop("answers")
        self._open = 0
        if link is not None:
            self.log.info("framework {id} lost its master: {why}", id=self.id, why=why)
        self._owner.is_unsubscribed(why, link is not None)

    def unreachable(self, why: str, refused: bool) -> None:
        """No master was reached; say so once, not at every attempt."""
        if refused:
            self._end(why, AuthenticationFailed)
        elif why != self._unheard:
            self._unheard = why
            self.log.warn("no master: {why}", why=why)

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
            self._end(self._explained(message.error.message))
        else:
            self._owner.event(message)

    def _explained(self, why: str) -> str:
        if why == _REMOVED and self._id_file is not None:
            return f"{why}; without {self._id_file}, where its id is kept, it is another one"
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
        self._unheard = ""
        self._alarms.drop("subscribe")
        if self._id_file is not None and known != self.id:
            try:
                identity.write_id(self._id_file, self.id)
            except OSError as error:
                self.log.error("the framework's id cannot be kept: {error}", error=error)
        self.log.info("framework {id} is subscribed", id=self.id)
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
