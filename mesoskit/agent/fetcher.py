"""Brings what a command needs into its sandbox: a process a container, a few at a time.

The work is done by L{mesoskit.agent.fetch}, as the task's user; here it is started, limited in
time, and told to end when nobody wants the container any more. What a URI with C{cache} leads to
is brought into the agent's cache (L{mesoskit.agent.fetcher_cache}) by a process of its own, once
however many containers want it at a time, and goes from there into their sandboxes.
"""

import errno
import os
import shutil
import stat
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent import fetch
from mesoskit.agent.container import Uri
from mesoskit.agent.fetcher_cache import Cache, Entry
from mesoskit.agent.fetcher_process import FetchError, NoRoom, Process
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId

__all__ = ["FetchError", "Fetcher", "cache_directory"]

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_OTHERS = ("HADOOP_", "JAVA_HOME", "HDFS_", "YARN_")
_OWN = ("http://", "https://", "ftp://", "file://", "/")


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

    log = Logger()

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
        self._bringing: dict[Entry, Process | Deferred[Any]] = {}

    def start(self) -> "Deferred[None]":
        """Empty the cache: what another agent process has left is not believed."""
        directory = self.cache.directory
        if not directory:
            return succeed(None)

        def clear() -> None:
            shutil.rmtree(directory, ignore_errors=True)
            os.makedirs(directory, 0o700, exist_ok=True)
            found = os.lstat(directory)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                # Where others may write they may have been here before us.
                raise NotADirectoryError(errno.ENOTDIR, "it is no directory of the agent's user")
            os.chmod(directory, 0o700)

        def failed(reason: Failure) -> None:
            reason.trap(OSError)  # type: ignore[no-untyped-call]
            self.cache.capacity = 0
            why = reason.getErrorMessage()
            self.log.warn("nothing is cached in {path}: {why}", path=directory, why=why)

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
        started: list[Process] = []

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
            if isinstance(process, Process):
                process.kill(_NO_ROOM, full=True)

    def _brought(self, entry: Entry, result: Any) -> None:
        waiting, entry.waiting = entry.waiting, []
        why = ""
        full = False
        if isinstance(result, Failure):
            why = result.getErrorMessage()
            full = isinstance(result.value, NoRoom)
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
        if isinstance(running, Process):
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

    def _process(self, request: dict[str, Any], heard: Callable[[Any], None]) -> "Process":
        process = Process(self._reactor, orjson.dumps(request), self.timeout, heard)
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


def _item(uri: Uri) -> dict[str, Any]:
    return {
        "value": uri.value,
        "executable": uri.executable,
        "extract": uri.extract,
        "output_file": uri.output_file,
        "cached": None,
        "failed": None,
    }
