"""Finding the master and keeping a link to it.

A detector says where the leading master is; the dialer dials it, again and again with random,
growing waits, gives the link to the service, and dials anew when the link is lost or
another master leads.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.auth.identity import AuthenticationRefused, Identity
from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.plan import Receivers
from mesoskit.wire.pulse import Pulse
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import DialFailed, dial

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

FIRST_WAIT: Final = 0.1
"""Seconds that the first wait between two attempts does not exceed."""

LONGEST_WAIT: Final = 10.0
"""Seconds that no wait exceeds."""


class Detector(Protocol):
    """Knows where the leading master is (Mesos' C{MasterDetector})."""

    def detect(self, previous: str | None) -> Deferred[str | None]:
        """
        Fire when the leading master is not C{previous} any more, with its endpoint as text;
        L{None} where none leads.
        """
        ...

    def close(self) -> Deferred[None]:
        """Detect no more; fires when all is let go of. May be called again."""
        ...


class StandaloneMaster:
    """A detector of the one master whose address was given (C{--master=host:port})."""

    def __init__(self, address: str) -> None:
        self._address = address

    def detect(self, previous: str | None) -> Deferred[str | None]:
        """Fire at once the first time, and never again."""
        return Deferred() if previous == self._address else succeed(self._address)

    def close(self) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)


class MasterDialer:
    """
    Keeps a link to the leading master.

    @param reactor: what endpoints dial on, and the clock.
    @param detector: where the master is.
    @param receiver: hears the links.
    @param hello: what the agent says of itself.
    @param identity: who the agent is to the master, where it has a credential.
    @param tls: with what the master is dialled; see L{mesoskit.wire.endpoints.client_endpoint}.
    @param refused: called with why where the master does not believe that; nothing is dialled
        any more then.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        detector: Detector,
        receiver: Receivers,
        hello: Hello,
        *,
        settings: StreamSettings | None = None,
        pulse: Pulse | None = None,
        identity: Identity | None = None,
        refused: Callable[[str], None] | None = None,
        tls: TLS | None = None,
    ) -> None:
        self._reactor = reactor
        self._detector = detector
        self._receiver = receiver
        self._hello = hello
        self._settings = settings
        self._pulse = pulse
        self._dial_master = dial if identity is None else identity.dial
        self._refused = refused
        self._tls = tls
        self._leader: str | None = None
        self._link: Link | None = None
        self._detecting: Deferred[Any] | None = None
        self._attempt: Deferred[Any] | None = None
        self._wait = FIRST_WAIT
        self._running = False
        self._complained = ""

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._detect()

    def dial_again(self, receiver: Receivers, hello: Hello) -> Deferred[Link]:
        """
        Dial the master that there is a link to once more, for a link of another purpose.

        Fails with L{DialFailed}.
        """
        leader = self._leader
        if leader is None or self._link is None:
            return fail(DialFailed(leader or "the master", "there is no link to it"))
        dialling: Deferred[Link] = self._dial_master(
            leader,
            receiver,
            hello,
            clock=self._reactor,
            accept=(Role.MASTER,),
            settings=self._settings,
            pulse=self._pulse,
            tls=self._tls,
        )
        return dialling

    def stop(self) -> Deferred[None]:
        """
        Detect and dial no more; a link that is there is left to whoever has it. Fires when the
        detector is closed.
        """
        self._running = False
        for waiting in (self._detecting, self._attempt):
            if waiting is not None:
                waiting.cancel()
        return self._detector.close()

    def lost(self, link: Link) -> None:
        """For the receiver: a link to a master is gone, or was given up."""
        if link is self._link:
            self._link = None
            self._dial_later()

    def _detect(self) -> None:
        self._detecting = detecting = self._detector.detect(self._leader)
        detecting.addCallbacks(self._detected, self._not_detected)

    def _detected(self, leader: str | None) -> None:
        if not self._running:
            return
        self._leader = leader
        self._wait = FIRST_WAIT
        self.log.info("The leading master is {leader}", leader=leader or "unknown")
        link, self._link = self._link, None
        if link is not None:
            link.lose("another master leads")
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        if leader is not None:
            self._dial()
        self._detect()

    def _not_detected(self, reason: Failure) -> None:
        if not self._running or isinstance(reason.value, CancelledError):
            return
        self.log.error("The master cannot be detected: {why}", why=reason.getErrorMessage())
        self._detecting = deferLater(self._reactor, LONGEST_WAIT, self._detect)
        self._detecting.addErrback(_forgive_cancelling)

    def _dial(self) -> None:
        self._attempt = None
        if not self._running or self._leader is None:
            return
        leader = self._leader
        try:
            attempt: Deferred[Any] = self._dial_master(
                leader,
                self._receiver,
                self._hello,
                clock=self._reactor,
                accept=(Role.MASTER,),
                settings=self._settings,
                pulse=self._pulse,
                tls=self._tls,
            )
        except EndpointError as error:
            self.log.error("{why}", why=str(error))
            return
        self._attempt = attempt
        attempt.addCallbacks(self._dialled, self._failed, errbackArgs=(leader,))

    def _dialled(self, link: Link) -> None:
        self._attempt = None
        self._wait = FIRST_WAIT
        self._complained = ""
        self._link = link

    def _failed(self, reason: Failure, leader: str) -> None:
        if not self._running or isinstance(reason.value, CancelledError):
            return
        self._attempt = None
        if isinstance(reason.value, AuthenticationRefused) and self._refused is not None:
            self._running = False
            self._refused(reason.value.why)
            return
        why = reason.value.why if isinstance(reason.value, DialFailed) else reason.getErrorMessage()
        if why != self._complained:
            # The same trouble again and again is one line in the log.
            self._complained = why
            self.log.warn("No link to the master at {leader}: {why}", leader=leader, why=why)
        self._dial_later()

    def _dial_later(self) -> None:
        if not self._running or self._attempt is not None:
            return
        wait = self._wait * (0.5 + random() / 2)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self._attempt = deferLater(self._reactor, wait, self._dial)
        self._attempt.addErrback(_forgive_cancelling)


def _forgive_cancelling(reason: Failure) -> None:
    reason.trap(CancelledError)  # type: ignore[no-untyped-call]
