"""A master's part in the election: it stands, it hears who leads, it leads, and it stops in time.

A master that cannot reach ZooKeeper does not hear that its session has ended. So while it leads it
asks, several times in the time-out of its session and in a way that a majority of the servers has
to answer, whether its node is there; and when the last answer is so old that the session could
have ended, it has lost. That is looked at before each turn, on a clock that counts while the
process, or the machine, stands still (L{Election.fence}). Who has led once never leads again: it
ends, and a new process starts with nothing to unlearn, as Mesos' master does.
"""

import time
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.contender import Contender
from mesoskit.cluster.detector import LeaderWatch
from mesoskit.cluster.ensemble import Check, Ensemble, NoNode, Session
from mesoskit.cluster.leader import Leader, epoch, to_json
from mesoskit.cluster.lease import RENEWALS, Lease
from mesoskit.messages.mesos_pb2 import MasterInfo


def monotonic() -> float:
    """Return seconds that never jump, and that count while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Candidate(Protocol):
    """Who stands for election. Each method may be called from within L{Election.start}."""

    def elected(self, epoch: int) -> None:
        """We lead, from now on; once at the most."""
        ...

    def led(self, leader: Leader | None) -> None:
        """Another master leads, or none does."""
        ...

    def deposed(self, why: str) -> None:
        """We led, and do so no more: nothing may be decided or sent from now on. The last call."""
        ...


class Election:
    """
    One master's election.

    @param ensemble: a client of its own; it is closed with the election.
    @param clock: the reactor.
    @param path: of the cluster.
    @param monotonic: seconds that never jump.
    @ivar epoch: ours, once we were elected; else 0.
    @ivar leading: whether we lead.
    """

    log = Logger()

    def __init__(
        self,
        ensemble: Ensemble,
        clock: IReactorTime,
        path: str,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._ensemble = ensemble
        self._clock = clock
        self._path = path
        self._monotonic = monotonic
        self._lease = Lease()
        self._candidate: Candidate | None = None
        self._contender: Contender | None = None
        self._watch = LeaderWatch(ensemble, clock, path, self._led)
        self._renewal: IDelayedCall | None = None
        self._forgetting: IDelayedCall | None = None
        # The node under which we lead, or are about to.
        self._node: str | None = None
        self._answered = 0.0
        self._over = ""
        self._closing: Deferred[None] | None = None
        self.epoch = 0
        self.leading = False
        ensemble.listen(self._heard)

    # From outside.

    def start(self, info: MasterInfo, candidate: Candidate) -> "Deferred[None]":
        """
        Stand for election, until the end.

        Fires when there is a session. Fails with
        L{NotAllowed<mesoskit.cluster.ensemble.NotAllowed>}.

        @param info: what others are told of us.
        """
        self._candidate = candidate
        self._contender = Contender(
            self._ensemble, self._clock, self._path, to_json(info), self._standing
        )
        # Who would lead has to be in the list before we look at it.
        self._contender.start()
        self._watch.start()
        return self._ensemble.connect()

    def stop(self) -> "Deferred[None]":
        """
        Stand no more and give up what we have; fires when the servers know, so that another master
        need not wait for the session's end.
        """
        self._end("the master is shutting down")
        return self._close()

    def fence(self) -> str | None:
        """
        Say why nothing may be decided or sent: because another master may have been elected.

        Where L{None} is returned, none was. Whoever leads asks before it decides anything; the
        first time that there is a reason the candidate is L{deposed<Candidate.deposed>}.
        """
        if self.leading and self._lease.over(self._monotonic()):
            seconds = self._ensemble.session_timeout
            self._depose(
                f"ZooKeeper was not heard for so long that its session ({seconds:g} s)"
                " may have ended"
            )
        return self._over or None

    @property
    def leader(self) -> Leader | None:
        """Who leads, as far as that is known."""
        return self._watch.current

    # What is told.

    def _heard(self, event: Session) -> None:
        if event is Session.CONNECTED:
            self._forget_later(False)
            if self._node is not None:
                self._renew()
        elif event is Session.REFUSED:
            self._give_up("ZooKeeper does not believe our credential")
        else:
            self._forget_later(True)

    def _standing(self, node: str | None) -> None:
        """Our node is there, or has gone."""
        if node is None:
            self._depose("our node in ZooKeeper has gone")
        else:
            self.log.info("Standing for election as {node}", node=node)
            self._watch.look()
            self._consider(self._watch.current)

    def _led(self, leader: Leader | None) -> None:
        """Who has the lowest number is another one."""
        candidate = self._candidate
        if candidate is None or self._ended():
            return
        self._consider(leader)
        if self._ended():
            # That was the end of it.
            return
        if leader is None or leader.node != self._node:
            candidate.led(leader)
        elif not self.leading:
            # Whoever led before does not, and we do not yet.
            candidate.led(None)

    def _consider(self, leader: Leader | None) -> None:
        ours = None if self._contender is None else self._contender.node
        if leader is not None and leader.node == ours:
            if self._node is None:
                self._node = ours
                self._renew()
        elif self._node is not None:
            self._depose("our node in ZooKeeper has gone")

    def _forget_later(self, begin: bool) -> None:
        """Know nothing of who leads, when nothing could be heard of it for a session's time."""
        forgetting, self._forgetting = self._forgetting, None
        if forgetting is not None and forgetting.active():
            if begin:
                self._forgetting = forgetting
                return
            forgetting.cancel()
        if begin and not self._over:
            timeout = self._ensemble.session_timeout
            self._forgetting = self._clock.callLater(timeout, self._watch.forget)

    # The lease.

    def _renew(self) -> None:
        """Ask a majority of the servers whether our node is there."""
        node = self._node
        if node is None or self._over:
            return
        asked = self._monotonic()
        self._renew_later()
        if self._ensemble.connected:
            check = Check(f"{self._path}/{node}", 0)
            self._ensemble.multi([check]).addCallbacks(
                self._renewed, self._not_renewed, callbackArgs=(asked, node)
            )

    def _renew_later(self) -> None:
        pause = self._ensemble.session_timeout / RENEWALS
        renewal = self._renewal
        if renewal is not None and renewal.active():
            renewal.reset(pause)
        else:
            self._renewal = self._clock.callLater(pause, self._renewal_due)

    def _renewal_due(self) -> None:
        self._renewal = None
        if self.fence() is not None:
            return
        silent = self._monotonic() - self._answered
        if self.leading and silent > 3 * self._ensemble.session_timeout / RENEWALS:
            # Two questions in a row: it is time to try another server, if there is one.
            self._answered = self._monotonic()
            self._ensemble.suspect()
        self._renew()

    def _renewed(self, _: None, asked: float, node: str) -> None:
        if self._over or node != self._node:
            return
        self._answered = self._monotonic()
        self._lease.renew(asked, self._ensemble.session_timeout)
        if not self.leading and not self._lease.over(self._monotonic()):
            self._lead(node)

    def _not_renewed(self, reason: Failure) -> None:
        if reason.check(NoNode):  # type: ignore[no-untyped-call]
            self._depose("our node in ZooKeeper has gone")
        # Any other failure leaves the question open, which is asked again.

    def _lead(self, node: str) -> None:
        self.leading = True
        self.epoch = epoch(node)
        self.log.info("Elected, epoch {epoch}", epoch=self.epoch)
        assert self._candidate is not None
        self._candidate.elected(self.epoch)

    # The end.

    def _depose(self, why: str) -> None:
        """Lose what we have: leadership for good, or only the place in the queue."""
        if not self.leading:
            self._node = None
            return
        self._give_up(f"Lost leadership: {why}")

    def _give_up(self, why: str) -> None:
        if self._over or self._candidate is None:
            return
        self._end(why)
        # Before ZooKeeper is left: what waits for that fails, and would be taken for the reason.
        self._candidate.deposed(why)
        self._close()

    def _ended(self) -> bool:
        return bool(self._over)

    def _end(self, why: str) -> None:
        if self._over:
            return
        self._over = why
        self.leading = False
        if self._contender is not None:
            self._contender.stop()
        self._watch.stop()
        for timer in (self._renewal, self._forgetting):
            if timer is not None and timer.active():
                timer.cancel()
        self._renewal = self._forgetting = None

    def _close(self) -> "Deferred[None]":
        """Leave ZooKeeper, if we ever came; our node goes with the session."""
        if self._closing is None:
            self._closing = succeed(None) if self._candidate is None else self._ensemble.close()
        return self._closing
