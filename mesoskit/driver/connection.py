"""One link that is always wanted: dialled, watched, and dialled again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.driver.alarms import Alarms
from mesoskit.wire.auth.identity import AuthenticationRefused
from mesoskit.wire.link import Link, Receiver, Refused

Dial = Callable[[Receiver], "Deferred[Link]"]
"""
Dials once. The receiver hears of the link before the Deferred fires; where none comes about
the Deferred fails and the receiver hears nothing. Where it has a method C{close}, which returns a
Deferred, that is called when nobody wants a link any more.
"""


@dataclass(slots=True, frozen=True)
class Backoff:
    """
    How long to wait before dialling again: a random part of a span that doubles.

    @ivar first: the longest wait after the first failure, in seconds.
    @ivar longest: the longest wait of all.
    """

    first: float = 0.5
    longest: float = 15.0

    def wait(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after so many failures; C{chance} is in [0, 1)."""
        span = self.first * 2.0 ** min(failures, 32)
        return min(span, self.longest) * chance


class Owner(Protocol):
    """Who wants the link."""

    def linked(self, link: Link) -> None:
        """The peer is there."""
        ...

    def heard(self, message: Message) -> None:
        """The peer said something."""
        ...

    def unlinked(self, why: str) -> None:
        """The link is gone; another one is on its way unless the owner stopped it."""
        ...

    def unreachable(self, why: str, refused: bool) -> None:
        """
        An attempt has failed; another one follows unless the owner stopped it.

        @param refused: whether that is because the peer does not believe who we are.
        """
        ...


class _Ear:
    """The receiver of one attempt: what is said to one that was given up is not heard."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.link: Link | None = None
        self.gone: Deferred[None] | None = None

    def connected(self, link: Link) -> None:
        connection = self._connection
        if connection is None:
            link.lose()
        else:
            self.link = link
            connection._linked(link)

    def received(self, link: Link, message: Message, call: int | None) -> None:
        connection = self._connection
        if connection is not None:
            if call is not None:
                link.answer(call, Refused(400, "Nothing is asked of this side"))
            connection.owner.heard(message)

    def congestion(self, link: Link, congested: bool) -> None:
        """Nothing: what this side sends is bounded by what it was offered."""

    def lost(self, link: Link, why: str) -> None:
        connection, self._connection = self._connection, None
        gone, self.gone = self.gone, None
        if gone is not None:
            gone.callback(None)
        if connection is not None:
            connection._lost(why)

    def forget(self) -> None:
        """Hear nothing more."""
        self._connection = None


class Connection:
    """
    Keeps one link to a peer.

    @ivar link: the one that stands, or L{None}.
    @ivar owner: hears of it.
    """

    log = Logger()

    def __init__(
        self,
        owner: Owner,
        dial: Dial,
        alarms: Alarms,
        backoff: Backoff,
        chance: Callable[[], float],
    ) -> None:
        """
        Prepare; L{start} begins.

        @param chance: gives random numbers in [0, 1).
        """
        self.owner = owner
        self.link: Link | None = None
        self._dial = dial
        self._alarms = alarms
        self._backoff = backoff
        self._chance = chance
        self._ear: _Ear | None = None
        self._dialling: Deferred[Link] | None = None
        self._failures = 0
        self._wanted = False

    def start(self) -> None:
        """Dial now."""
        if not self._wanted:
            self._wanted = True
            self._failures = 0
            self._attempt()

    def settled(self) -> None:
        """The link proved good: the next wait, if there is one, is a short one."""
        self._failures = 0

    def again(self, why: str) -> None:
        """Give the link up, and dial again after a while."""
        ear = self._drop(why)
        if ear is not None:
            self.owner.unlinked(why)
        self._later()

    def stop(self, why: str = "") -> Deferred[None]:
        """
        Want no link any more; fires when what stood is gone.

        @param why: told to the peer where not empty.
        """
        self._wanted = False
        self._alarms.drop(self)
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        # Whatever finds the peer has connections of its own.
        closing = getattr(self._dial, "close", lambda: succeed(None))()
        ear = self._drop(why)
        if ear is None:
            return closing
        gone: Deferred[None] = Deferred()
        ear.gone = gone
        return gone.addCallback(lambda _: closing)

    def _drop(self, why: str) -> _Ear | None:
        ear, self._ear = self._ear, None
        link, self.link = self.link, None
        if ear is None:
            return None
        ear.forget()
        if link is None:
            return None
        link.lose(why)
        return ear

    def _attempt(self) -> None:
        self._ear = ear = _Ear(self)
        try:
            dialling = self._dial(ear)
        except Exception as error:
            # A name that cannot be resolved today may be there tomorrow.
            self._failed(Failure(error), ear)  # type: ignore[no-untyped-call]
            return
        self._dialling = dialling
        dialling.addCallbacks(self._dialled, self._failed, errbackArgs=(ear,))

    def _dialled(self, _: Link) -> None:
        self._dialling = None

    def _failed(self, reason: Failure, ear: _Ear) -> None:
        if ear is not self._ear or not self._wanted:
            return
        self._dialling = self._ear = None
        ear.forget()
        error = reason.value
        if isinstance(error, AuthenticationRefused):
            self.owner.unreachable(error.why, True)
        else:
            self.owner.unreachable(reason.getErrorMessage(), False)
        self._later()

    def _linked(self, link: Link) -> None:
        self.link = link
        self._dialling = None
        self.owner.linked(link)

    def _lost(self, why: str) -> None:
        self.link = self._ear = None
        self.owner.unlinked(why)
        self._later()

    def _later(self) -> None:
        if self._wanted and self.link is None and self._dialling is None:
            wait = self._backoff.wait(self._failures, self._chance())
            self._failures += 1
            self._alarms.set(self, wait, self._attempt)
