"""Brings what a command needs into its sandbox: a process a container, a few at a time.

The work is done by L{mesoskit.agent.fetch}, as the task's user; here it is started, limited in
time, and told to end when nobody wants the container any more. What a URI with C{cache} leads to
is brought into the agent's cache (L{mesoskit.agent.fetcher_cache}) by a process of its own, once
however many containers want it at a time, and goes from there into their sandboxes.
"""

import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from mesoskit.agent import fetch
from mesoskit.agent.container import Uri
from mesoskit.agent.fetcher_cache import Cache, Entry
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId

MAX_OUTPUT = 1 << 16
"""Bytes of a line of a fetching process, and of its complaints; more is nothing we know."""

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_OTHERS = ("HADOOP_", "JAVA_HOME", "HDFS_", "YARN_")
_OWN = ("http://", "https://", "ftp://", "file://", "/")


class FetchError(Exception):
    """Something could not be fetched; the message names the URI and says why."""


def cache_directory(options: AgentOptions) -> str:
    """Return where an agent keeps what it fetched: always the same, and nobody else's."""
    if options.fetcher_cache_dir is None:
        return os.path.join(options.work_dir, "fetch")
    name = blake2b(options.work_dir.encode(), digest_size=6).hexdigest()
    return os.path.join(options.fetcher_cache_dir, name)


class Fetcher:
    """
    Fetches.

    @ivar concurrency: how many processes fetch at a time; others wait.
    @ivar stall: seconds in which at least as many bytes have to come
        (C{--fetcher_stall_timeout}).
    @ivar timeout: seconds after which a process is given up however it goes.
    @ivar max_bytes: how much may be written for one container, archives and what is in them.
    @ivar max_files: how many files, directories and links.
    @ivar frameworks_home: where relative paths begin (C{--frameworks_home}).
    @ivar hadoop_home: where the hadoop client is (C{--hadoop_home}); L{None}: in C{PATH}.
    @ivar cache: what is kept.
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
        hadoop_home: str | None = None,
        cache_dir: str | None = None,
        cache_size: int = 2 << 30,
    ) -> None:
        """
        @param reactor: with time, processes and threads.
        @param cache_dir: a directory of the cache's own; what is in it goes. L{None}: nothing is
            cached.
        """
        self.concurrency = concurrency
        self.stall = stall
        self.timeout = timeout
        self.max_bytes = max_bytes
        self.max_files = max_files
        self.frameworks_home = frameworks_home
        self.hadoop_home = hadoop_home
        capacity = 0 if cache_dir is None else cache_size
        self.cache = Cache(cache_dir or "", capacity, self._unlink)
        self._reactor = reactor
        self._places = DeferredSemaphore(concurrency)
        self._waiting: dict[ContainerId, Deferred[None]] = {}
        self._bringing: dict[Entry, _Process | Deferred[Any]] = {}

    def start(self) -> "Deferred[None]":
        """Empty the cache: what another agent process has left is not believed."""
        directory = self.cache.directory
        if not directory:
            return succeed(None)

        def clear() -> None:
            shutil.rmtree(directory, ignore_errors=True)
            os.makedirs(directory, 0o700, exist_ok=True)
            os.chmod(directory, 0o700)

        def failed(reason: Failure) -> None:
            reason.trap(OSError)  # type: ignore[no-untyped-call]
            # Without a cache everything is fetched all the same.
            self.cache.capacity = 0

        return self._in_thread(clear).addErrback(failed)

    def metrics(self) -> dict[str, float]:
        """Return how full the cache is, under the names that Mesos has for it, and our own."""
        cache = self.cache
        return {
            "containerizer/fetcher/cache_size_total_bytes": float(cache.capacity),
            "containerizer/fetcher/cache_size_used_bytes": float(cache.used),
            "mesoskit/fetcher_cache/evictions": float(cache.evictions),
            "mesoskit/fetcher_cache/hits": float(cache.hits),
            "mesoskit/fetcher_cache/misses": float(cache.misses),
        }

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
        done = Deferred.fromCoroutine(self._fetch(uris, sandbox, credentials))
        self._waiting[container] = done

        def over(result: Any) -> Any:
            self._waiting.pop(container, None)
            if isinstance(result, Failure) and isinstance(result.value, CancelledError):
                raise FetchError(_CANCELLED)
            return result

        return done.addBoth(over)

    def cancel(self, container: ContainerId) -> None:
        """Give up what is fetched for a container; its Deferred fails."""
        if container in self._waiting:
            self._waiting[container].cancel()

    def stop(self) -> None:
        """Give up everything."""
        for container in list(self._waiting):
            self.cancel(container)

    # For a container

    async def _fetch(
        self, uris: Sequence[Uri], sandbox: str, credentials: Credentials | None
    ) -> None:
        cached = deque(
            self._cached(uri, sandbox, credentials) if uri.cache and self.cache.capacity else None
            for uri in uris
        )
        held: list[Entry] = []
        items = []
        try:
            for uri in uris:
                item = _item(uri)
                items.append(item)
                coming = cached.popleft()
                if coming is None:
                    continue
                try:
                    found = await coming
                except FetchError as error:
                    item["failed"] = str(error)
                    break  # what comes after it is not fetched either
                if found is not None:
                    held.append(found)
                    item["cached"] = found.path
            await self._run(self._request(items, sandbox, credentials))
        finally:
            for rest in filter(None, cached):
                rest.addCallbacks(self._release, lambda _: None)
                rest.cancel()
            for found in held:
                self.cache.release(found)

    async def _run(self, request: dict[str, Any]) -> None:
        """Do what a request says, when there is a place for it. Raises L{FetchError}."""
        started: list[_Process] = []

        def begin() -> "Deferred[None]":
            process = self._process(request, lambda word: None)
            started.append(process)
            over: Deferred[None] = Deferred()
            process.done.addBoth(lambda result: None if over.called else over.callback(result))
            return over

        try:
            await self._places.run(begin)
        except CancelledError:
            for process in started:
                # Nothing is written into the sandbox after we have said that it is over.
                ended: Deferred[None] = Deferred()
                process.gone.append(ended)
                process.kill(_CANCELLED)
                await ended
            raise

    def _release(self, entry: Entry | None) -> None:
        if entry is not None:
            self.cache.release(entry)

    def _request(
        self, items: list[Any], sandbox: str, credentials: Credentials | None, **more: Any
    ) -> dict[str, Any]:
        return {
            "sandbox": sandbox,
            "credentials": None if credentials is None else tuple(credentials),
            "uris": items,
            "store": None,
            "stall": self.stall,
            "max_bytes": self.max_bytes,
            "max_files": self.max_files,
            "frameworks_home": self.frameworks_home,
            "hadoop": self._hadoop(items),
            **more,
        }

    def _hadoop(self, items: list[Any]) -> str | None:
        """Return the hadoop client, where there is one and something needs it."""
        values = [item["value"].lstrip() for item in items]
        if all("://" not in value or value.startswith(_OWN) for value in values):
            return None
        if self.hadoop_home:
            return os.path.join(self.hadoop_home, "bin", "hadoop")
        return shutil.which("hadoop")

    # For the cache

    def _cached(
        self, uri: Uri, sandbox: str, credentials: Credentials | None
    ) -> "Deferred[Entry | None]":
        """
        Give an entry of the cache, which is read until it is released; L{None} where there is no
        room for it. Fails with L{FetchError}.
        """
        key = None if credentials is None else credentials.user, uri.value.lstrip()
        entry = self.cache.find(key)
        if entry is not None and entry.ready:
            if os.path.exists(entry.path):
                entry.readers += 1
                return succeed(entry)
            self.cache.drop(entry)  # somebody has swept it away
            entry = None
        begun = entry is None
        if entry is None:
            entry = self.cache.begin(key)
        wanted = entry

        def give_up(waiter: "Deferred[Entry | None]") -> None:
            if waiter in wanted.waiting:  # and is not just being told
                wanted.waiting.remove(waiter)
                if not wanted.waiting:
                    self._abandon(wanted)

        waiter: Deferred[Entry | None] = Deferred(give_up)
        entry.waiting.append(waiter)
        if begun:
            self._bring(entry, uri, sandbox, credentials)
        return waiter

    def _bring(self, entry: Entry, uri: Uri, sandbox: str, credentials: Credentials | None) -> None:
        """Fetch something into the cache."""
        with suppress(OSError):  # which the process will say
            os.makedirs(self.cache.directory, 0o700, exist_ok=True)
        limit = min(self.max_bytes, self.cache.capacity)
        # As it is in a sandbox that its log is kept, the one who wanted it first has it.
        request = self._request(
            [_item(uri)], sandbox, credentials, store=entry.path, max_bytes=limit
        )

        def begin() -> "Deferred[None]":
            process = self._process(request, lambda word: self._heard(entry, word))
            self._bringing[entry] = process
            return process.done

        done = self._places.run(begin)
        self._bringing.setdefault(entry, done)

        def over(result: Any) -> None:
            self._bringing.pop(entry, None)
            self._brought(entry, result)

        done.addBoth(over)

    def _heard(self, entry: Entry, word: Any) -> None:
        """Hear how far it is: room is made before it is needed, as far as that is known."""
        size = max(int(word["bytes"]), int(word["size"] or 0))
        process = self._bringing.get(entry)
        if size > entry.size and not self.cache.set_aside(entry, size):
            if isinstance(process, _Process):
                process.kill(_NO_ROOM, full=True)

    def _brought(self, entry: Entry, result: Any) -> None:
        waiting, entry.waiting = entry.waiting, []
        why = ""
        full = False
        if isinstance(result, Failure):
            why = result.getErrorMessage()
            full = isinstance(result.value, _NoRoom)
        elif waiting:
            try:
                full = not self.cache.set_aside(entry, os.stat(entry.path).st_size)
            except OSError as error:
                full, why = True, str(error)
        if why or full or not waiting:
            self.cache.drop(entry)
            self._unlink(entry.path)
        else:
            entry.ready = True
            entry.readers = len(waiting)
        for waiter in waiting:
            if waiter.called:  # given up by what another one did when it was told
                entry.readers -= entry.ready
            elif entry.ready:
                waiter.callback(entry)
            elif full:
                waiter.callback(None)
            else:
                waiter.errback(FetchError(why))

    def _abandon(self, entry: Entry) -> None:
        """Nobody wants it any more."""
        running = self._bringing.get(entry)
        if isinstance(running, _Process):
            running.kill(_CANCELLED)
        elif running is not None:
            running.cancel()
        # Whoever asks for it from now on begins anew, in another file.
        self.cache.drop(entry)

    def _unlink(self, path: str) -> None:
        def unlink() -> None:
            try:
                os.unlink(path)
            except OSError:
                pass  # it was never made; or the directory was swept

        self._reactor.callInThread(unlink)

    # Processes

    def _process(self, request: dict[str, Any], heard: Callable[[Any], None]) -> "_Process":
        process = _Process(self._reactor, orjson.dumps(request), self.timeout, heard)
        environment = {"LANG": "C.UTF-8", "PATH": os.defpath}
        environment |= {name: os.environ[name] for name in _PROXIES if name in os.environ}
        if request["hadoop"]:
            others = {name: os.environ[name] for name in os.environ if name.startswith(_OTHERS)}
            environment |= others | {"PATH": os.environ.get("PATH", os.defpath)}
        arguments = [sys.executable, "-I", "-S", fetch.__file__]
        try:
            self._reactor.spawnProcess(process, sys.executable, arguments, environment)
        except OSError as error:
            process.done.errback(FetchError(f"cannot start the fetcher: {error.strerror}"))
        return process

    def _in_thread(self, function: Callable[[], None]) -> "Deferred[None]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function)


_NO_ROOM = "there is no room for it in the cache"
_CANCELLED = "the fetching was cancelled"


class _NoRoom(FetchError):
    """The cache, and not what was to be fetched, is why it could not be."""


def _item(uri: Uri) -> dict[str, Any]:
    return {
        "value": uri.value,
        "executable": uri.executable,
        "extract": uri.extract,
        "output_file": uri.output_file,
        "cached": None,
        "failed": None,
    }


class _Process(ProcessProtocol):
    """One fetching process."""

    transport: IProcessTransport

    def __init__(
        self, reactor: Any, request: bytes, timeout: float, heard: Callable[[Any], None]
    ) -> None:
        """
        @param heard: is given every line but the last.

        @ivar gone: fired when it has ended, before C{done} is.
        """
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
            self.done.errback(_NoRoom(why) if self._full else FetchError(why))
