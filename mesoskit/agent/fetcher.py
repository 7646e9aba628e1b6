"""Brings what a command needs into its sandbox: a process a container, a few at a time.

The work is done by L{mesoskit.agent.fetch}, as the task's user; here it is started, limited in
time, and told to end when nobody wants the container any more. Nothing is cached: a URI's
C{cache} means nothing yet.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mesoskit.agent import fetch
from mesoskit.agent.container import Uri
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId

MAX_OUTPUT = 1 << 16
"""Bytes of a fetching process's answer; more is no answer."""

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")


class FetchError(Exception):
    """Something could not be fetched; the message names the URI and says why."""


class Fetcher:
    """
    Fetches.

    @ivar concurrency: how many containers' URIs are fetched at a time; others wait.
    @ivar stall: seconds in which at least as many bytes have to come
        (C{--fetcher_stall_timeout}).
    @ivar timeout: seconds after which it is given up however it goes.
    @ivar max_bytes: how much may be written for one container, archives and what is in them.
    @ivar max_files: how many files, directories and links.
    @ivar frameworks_home: where relative paths begin (C{--frameworks_home}).
    """

    def __init__(
        self,
        reactor: Any,
        *,
        concurrency: int = 8,
        stall: float = 60.0,
        timeout: float = 3600.0,
        max_bytes: int = 64 << 30,
        max_files: int = 1_000_000,
        frameworks_home: str | None = None,
    ) -> None:
        """@param reactor: with time and processes."""
        self.concurrency = concurrency
        self.stall = stall
        self.timeout = timeout
        self.max_bytes = max_bytes
        self.max_files = max_files
        self.frameworks_home = frameworks_home
        self._reactor = reactor
        self._places = DeferredSemaphore(concurrency)
        self._waiting: dict[ContainerId, Deferred[None]] = {}
        self._processes: dict[ContainerId, _Process] = {}

    def fetch(
        self,
        container: ContainerId,
        uris: Sequence[Uri],
        sandbox: str,
        credentials: Credentials | None,
    ) -> "Deferred[None]":
        """
        Fetch URIs into a sandbox, in their order. Fails with L{FetchError}.

        @param sandbox: an absolute path without symbolic links.
        @param credentials: whom to do it as; L{None}: our own user.
        """
        request = orjson.dumps(
            {
                "sandbox": sandbox,
                "credentials": None if credentials is None else tuple(credentials),
                "uris": [
                    {
                        "value": uri.value,
                        "executable": uri.executable,
                        "extract": uri.extract,
                        "output_file": uri.output_file,
                    }
                    for uri in uris
                ],
                "stall": self.stall,
                "max_bytes": self.max_bytes,
                "max_files": self.max_files,
                "frameworks_home": self.frameworks_home,
            }
        )
        done = self._places.run(self._start, container, request)
        self._waiting[container] = done

        def over(result: Any) -> Any:
            self._waiting.pop(container, None)
            if isinstance(result, Failure) and isinstance(result.value, CancelledError):
                raise FetchError("the fetching was cancelled")
            return result

        return done.addBoth(over)

    def cancel(self, container: ContainerId) -> None:
        """Give up what is fetched for a container; its Deferred fails."""
        process = self._processes.get(container)
        if process is not None:
            process.kill("the fetching was cancelled")
        elif container in self._waiting:
            self._waiting[container].cancel()

    def stop(self) -> None:
        """Give up everything."""
        for container in list(self._waiting):
            self.cancel(container)

    def _start(self, container: ContainerId, request: bytes) -> "Deferred[None]":
        process = _Process(self._reactor, request, self.timeout)
        self._processes[container] = process

        def ended(result: Any) -> Any:
            self._processes.pop(container, None)
            return result

        environment = {"LANG": "C.UTF-8", "PATH": os.defpath}
        environment |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
        arguments = [sys.executable, "-I", "-S", fetch.__file__]
        try:
            self._reactor.spawnProcess(process, sys.executable, arguments, environment)
        except OSError as error:
            process.done.errback(FetchError(f"cannot start the fetcher: {error.strerror}"))
        return process.done.addBoth(ended)


class _Process(ProcessProtocol):
    """One fetching process."""

    transport: IProcessTransport

    def __init__(self, reactor: Any, request: bytes, timeout: float) -> None:
        self.done: Deferred[None] = Deferred()
        self._reactor = reactor
        self._request = request
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._output = {1: b"", 2: b""}
        self._why: str | None = None

    def connectionMade(self) -> None:
        """Say what to do."""
        self.transport.write(self._request)
        self.transport.closeStdin()
        why = f"the fetching took more than {self._timeout:g} seconds"
        self._timer = self._reactor.callLater(self._timeout, self.kill, why)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep what it says, within limits: from here on it is the user's process."""
        self._output[childFD] = (self._output[childFD] + data)[:MAX_OUTPUT]

    def kill(self, why: str) -> None:
        """End it."""
        self._why = self._why or why
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
                answer = orjson.loads(self._output[1])
                why = answer["error"]
                if why is not None and not isinstance(why, str):
                    raise ValueError(why)
            except (ValueError, KeyError, TypeError):
                last = self._output[2].decode(errors="replace").strip()[-500:]
                why = f"the fetcher ended without an answer: {last or reason.getErrorMessage()}"
        if why is None:
            self.done.callback(None)
        else:
            self.done.errback(FetchError(why))
