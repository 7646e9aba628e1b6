"""A fetching process (L{mesoskit.agent.fetch}), as the agent sees it."""

import os
import signal
from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

MAX_OUTPUT = 1 << 16
"""Bytes of a line of a fetching process, and of its complaints; more is nothing we know."""


class FetchError(Exception):
    """Something could not be fetched; the message names the URI and says why."""


class NoRoom(FetchError):
    """The cache, and not what was to be fetched, is why it could not be."""


class Process(ProcessProtocol):
    """
    One fetching process.

    @ivar done: fired when it has done all that it was asked for; fails with L{FetchError}.
    @ivar gone: fired when it has ended, before C{done} is.
    """

    transport: IProcessTransport

    def __init__(
        self, reactor: Any, request: bytes, timeout: float, heard: Callable[[Any], None]
    ) -> None:
        """@param heard: is given every line but the last."""
        self.done: Deferred[None] = Deferred()
        self._reactor = reactor
        self._request = request
        self._timeout = timeout
        self._heard = heard
        self._timer: IDelayedCall | None = None
        self._line = b""
        self._answer: Any = None
        self._errors = b""
        self._why: str | None = None
        self._full = False
        self.gone: list[Deferred[None]] = []

    def connectionMade(self) -> None:
        """Say what to do."""
        self.transport.write(self._request)
        self.transport.closeStdin()
        why = f"the fetching took more than {self._timeout:g} seconds"
        self._timer = self._reactor.callLater(self._timeout, self.kill, why)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Hear what it says, within limits: from here on it is the user's process."""
        if childFD != 1:
            self._errors = (self._errors + data)[:MAX_OUTPUT]
            return
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[:MAX_OUTPUT]
        for line in lines:
            try:
                word = orjson.loads(line)
                if "error" in word:
                    self._answer = word
                elif self._why is None:
                    self._heard(word)
            except (ValueError, KeyError, TypeError):
                self.kill("the fetcher says what it should not")

    def kill(self, why: str, full: bool = False) -> None:
        """End it, with what it has started."""
        if self._why is None:
            self._why, self._full = why, full
        pid = self.transport.pid
        try:
            if pid:
                os.killpg(pid, signal.SIGKILL)
        except OSError:  # it leads no group yet
            pass
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    def processEnded(self, reason: Failure) -> None:
        """Judge."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        why = self._why
        if why is None:
            try:
                why = self._answer["error"]
                if why is not None and not isinstance(why, str):
                    raise TypeError(why)
                self._full = bool(self._answer.get("full"))
            except (KeyError, TypeError):
                last = self._errors.decode(errors="replace").strip()[-500:]
                why = f"the fetcher ended without an answer: {last or reason.getErrorMessage()}"
        gone, self.gone = self.gone, []
        for waiter in gone:
            waiter.callback(None)
        if why is None:
            self.done.callback(None)
        else:
            self.done.errback(NoRoom(why) if self._full else FetchError(why))
