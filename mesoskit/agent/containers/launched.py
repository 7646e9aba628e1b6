"""Containers over a launcher process: L{mesoskit.agent.launcher}, found or started, and kept.

Requests that were not answered when a connection broke are made again on the next one: the
launcher carries out each of them once. What each side knows is compared at every new
connection, so that an end is told once whatever broke in between.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent import launcher, launcher_console
from mesoskit.agent.container import Allotment, Console, ContainerSpec, RecoveredContainers, Usage
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.containers.launcher_lines import HELLO, Lines
from mesoskit.agent.launcher_isolation import COVER
from mesoskit.agent.launcher_proc import process
from mesoskit.agent.usage import never_less, read_usage
from mesoskit.agent.users import InThread, UserError, Users
from mesoskit.model.ids import ContainerId

TIMEOUT = 90.0
"""Seconds for which a request may stay unanswered: more than the launcher's own patience."""

CONNECT_TIMEOUT = 30.0
"""Seconds for which requests wait for a launcher to be found or started."""

PAUSE = 5.0
"""Seconds until it is tried again."""

STOPPING = "the agent is stopping"

_VERSIONS = (1, 2, 3, 4, launcher.VERSION)
"""The launchers that this agent can work with: one of before an upgrade keeps its containers."""

_ISOLATES = 3

_HAS_PODS = 4

_NESTS = 5

_Strays = dict[str, tuple[float, float, list[int]]]


def _wishes(
    patience: float | None,
    isolation: Mapping[str, Any] | None,
    console: Console | None,
    parent: ContainerId | None,
) -> Sequence[Any]:
    """Return what stands at the end of a request, as short as it may be."""
    kind = None
    if console is not None:
        name = launcher_console.TERMINAL if console.terminal else launcher_console.PIPES
        kind = name, console.session, console.rows, console.columns
    wishes: list[Any] = [patience, isolation, kind, parent]
    while wishes and wishes[-1] is None:
        wishes.pop()
    return wishes


class _Quiet(Factory):
    noisy = False  # a line in the log for every attempt is not what a log is for


class _Request:
    """What was asked and not yet answered."""

    __slots__ = ("answer", "deadline", "line", "subject", "verb")

    def __init__(self, words: tuple[Any, ...], deadline: float) -> None:
        self.verb: str = words[1]
        self.subject = ContainerId(words[2] if len(words) > 2 else "")
        self.line = orjson.dumps(words) + b"\n"
        self.deadline = deadline
        self.answer: Deferred[Any] = Deferred()


class LaunchedContainers:
    """
    A C{Containers} (L{mesoskit.agent.containers}) over a launcher.

    @ivar directory: the launcher's, of mode 0700, in the agent's runtime directory.
    @ivar linger: seconds after which a launcher without containers and agent ends.
    @ivar launcher_pid: of the launcher that was found last, 0 before that.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        directory: str,
        users: Users,
        in_thread: InThread,
        exited: Exited,
        linger: float = 60.0,
        *,
        forgo_cgroups: bool = False,
    ) -> None:
        """
        @param reactor: with time, processes and UNIX sockets.
        @param exited: is told of every end.
        @param forgo_cgroups: whether a container may be without a cgroup to be killed by, for
            nobody has asked for one, where a launcher of before an upgrade knows of none.
        """
        self.directory = directory
        self.linger = linger
        self._forgo_cgroups = forgo_cgroups
        self._reactor = reactor
        self._users = users
        self._in_thread = in_thread
        self._exited = exited
        self._connection: Lines | None = None
        self._dialling: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._stopping: Deferred[None] | None = None
        self._requests: dict[int, _Request] = {}
        self._number = HELLO
        self._sweep: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._used: dict[ContainerId, Usage] = {}
        self._running: dict[ContainerId, int] = {}
        self._ended: dict[ContainerId, int | None] = {}
        self._own: set[ContainerId] | None = set()  # until recover was called
        self._unwanted: set[ContainerId] = set()
        self._abandoned: set[ContainerId] = set()
        self._seen = False
        self._version = launcher.VERSION
        self.launcher_pid = 0

    # What the Protocol promises

    def start(self) -> "Deferred[None]":
        """Find the launcher, or start one."""
        return self._dial()

    def launch(
        self, spec: ContainerSpec, isolation: Mapping[str, Any] | None = None
    ) -> "Deferred[int]":
        """
        Start a container.

        @param isolation: how it is kept apart, as L{mesoskit.agent.launcher_isolation.Isolation}
            has it; what it does not name is as there. L{None}: it is not.
        """
        return Deferred.fromCoroutine(self._launch(spec, isolation))

    async def _launch(self, spec: ContainerSpec, isolation: Mapping[str, Any] | None) -> int:
        if spec.mounts:
            isolation = _with_mounts(spec, isolation)
        if spec.member and not spec.staged:  # what makes namespaces finds its pod's itself
            isolation = self._within_pod(spec, isolation)
        if self._version < _ISOLATES and self._forgo_cgroups and _is_cgroup_alone(isolation):
            isolation = None
        if isolation is not None and self._version < _ISOLATES:
            raise ContainerError(
                f"the launcher that runs is of version {self._version}, which isolates nothing:"
                " it has to end before, with the containers that it keeps"
            )
        try:
            credentials = await self._users.find(spec.user)
        except UserError as error:
            raise ContainerError(str(error)) from error
        if spec.console is not None and self._version < _ISOLATES:
            raise ContainerError(
                f"the launcher that runs is of version {self._version}, to whose containers nobody"
                " can attach: it has to end before, with the containers that it keeps"
            )
        # Launchers of version 1 let everything outlive the agent for ever.
        patient = spec.patience is None or self._version == 1
        # Of what ends with its parent without that, the agent sees to it when it is there.
        parent = spec.parent if self._version >= _NESTS else None
        pid: int = await self._ask(
            "launch",
            spec.id,
            spec.file or (spec.argv[0] if spec.argv else ""),
            spec.argv,
            dict(spec.environment),
            spec.sandbox,
            None if credentials is None else tuple(credentials),
            spec.rlimits,
            *_wishes(None if patient else spec.patience, isolation, spec.console, parent),
        )
        return pid

    def _within_pod(
        self, spec: ContainerSpec, isolation: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        """Return how a task is kept apart that shares what its pod has. Raises ContainerError."""
        if self._version < _HAS_PODS:
            raise ContainerError(
                f"the launcher that runs is of version {self._version}, which cannot share what a"
                " pod has: it has to end before, with the containers that it keeps"
            )
        return {**(isolation or {}), "inside": spec.parent}

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal to the process group."""
        if container in self._running:
            self._tell("signal", container, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill all of it."""
        if container in self._ended:
            return succeed(None)
        return self._ask("destroy", container)

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Do nothing: nothing holds these containers to what they were given."""
        return succeed(None)

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Read what the containers use, in a thread."""

        def read(strays: _Strays) -> "Deferred[dict[ContainerId, Usage]]":
            leaders = dict(self._running)
            now = self._reactor.seconds()
            return self._in_thread(lambda: read_usage(leaders, strays, now))

        def remember(usage: dict[ContainerId, Usage]) -> dict[ContainerId, Usage]:
            self._used = never_less(self._used, usage)
            return self._used

        return self._ask("strays").addCallback(read).addCallback(remember)

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Give what an earlier agent has left, and tell of its ends from now on."""
        if not self._seen:
            return self.start().addCallback(lambda _: self.recover())
        own, self._own = self._own or set(), None
        return succeed(
            RecoveredContainers(
                {name: pid for name, pid in self._running.items() if name not in own},
                {name: status for name, status in self._ended.items() if name not in own},
                frozenset(self._abandoned - own),
            )
        )

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of its end."""
        if container in self._ended:
            del self._ended[container]
            self._abandoned.discard(container)
            self._tell("forget", container)

    def stop(self) -> "Deferred[None]":
        """Leave the launcher to itself."""
        if self._stopping is None:
            self._stopping = Deferred()
            if self._dialling is not None:
                self._dialling.cancel()
            for call in (self._sweep, self._again):
                if call is not None:
                    call.cancel()
            self._sweep = self._again = None
            self._give_up(ContainerError(STOPPING))
            if self._connection is not None:
                self._connection.drop()
            else:
                self._stopping.callback(None)
        return self._stopping

    # Requests and answers

    def _ask(self, *words: object) -> "Deferred[Any]":
        """Make a request, now or when there is a launcher."""
        if self._stopping is not None:
            return fail(ContainerError(STOPPING))
        self._number += 1
        try:
            request = _Request((self._number, *words), self._reactor.seconds() + TIMEOUT)
        except TypeError as error:  # orjson: half a surrogate pair in a string
            return fail(ContainerError(f"the launcher cannot be asked for it: {error}"))
        self._requests[self._number] = request
        if self._sweep is None:
            self._sweep = self._reactor.callLater(TIMEOUT, self._time_out)
        if self._connection is not None:
            self._connection.send(request.line)
        elif self._dialling is None:
            self._keep_dialling()
        return request.answer

    def _tell(self, *words: object) -> None:
        """Make a request of which only a failure is of interest, for the log."""

        def failed(reason: Failure) -> None:
            if self._stopping is None:
                why = reason.getErrorMessage()
                self.log.warn("launcher: {words}: {why}", words=words, why=why)

        self._ask(*words).addErrback(failed)

    def _time_out(self) -> None:
        """Give up what was asked too long ago. Requests are in order of their deadlines."""
        self._sweep = None
        now = self._reactor.seconds()
        for number, request in list(self._requests.items()):
            if request.deadline > now:
                break
            del self._requests[number]
            if request.verb == "launch":
                # It may yet come to be started, and nobody would know it.
                self._refuse(request.subject)
            why = f"the launcher has not answered for {TIMEOUT:g} seconds"
            request.answer.errback(ContainerError(why))
        if self._requests and self._sweep is None:
            first = next(iter(self._requests.values()))
            self._sweep = self._reactor.callLater(first.deadline - now, self._time_out)

    def _refuse(self, container: ContainerId) -> None:
        """Get rid of a container that the agent does not know."""
        self._unwanted.add(container)

        def gone(_: object) -> None:
            self._unwanted.discard(container)
            self._tell("forget", container)

        # Where that fails, it is compared again what each side knows, at the next connection.
        self._ask("destroy", container).addCallbacks(
            gone, lambda _: self._unwanted.discard(container)
        )

    def _give_up(self, error: ContainerError) -> None:
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.answer.errback(error)

    def _received(self, words: list[Any]) -> None:
        """Take one line of the launcher."""
        number, first, second = words[:3]
        if number == 0:
            if first == "exited":
                self._over(second, words[3])
            else:
                self.log.error("launcher: {first}: {second}", first=first, second=second)
            return
        request = self._requests.pop(number, None)
        if request is None:
            return
        if request.verb == "launch" and first is None:
            self._started(request.subject, second)
        if first is None:
            request.answer.callback(second)
        else:
            request.answer.errback(ContainerError(first))

    def _started(self, container: ContainerId, pid: int) -> None:
        if container not in self._ended:
            self._running[container] = pid
            if self._own is not None:
                self._own.add(container)

    def _over(self, container: ContainerId, status: int | None) -> None:
        """A container has ended: say so once."""
        if self._running.pop(container, None) is None:
            return
        self._ended[container] = status
        if self._own is None or container in self._own:
            try:
                self._exited(container, status)
            except Exception:
                self.log.failure("the end of {container} was not taken", container=container)

    # Finding and starting the launcher

    def _dial(self) -> "Deferred[None]":
        """Connect to a launcher; all who want that at a time wait for the same attempt."""
        if self._connection is not None:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if self._dialling is None:
            dialling = self._dialling = Deferred.fromCoroutine(self._dial_until())
            dialling.addBoth(self._dialled)
            if not self._waiting:
                self._dialling = None
        return waiter

    def _dialled(self, result: Failure | None) -> None:
        self._dialling = None
        if isinstance(result, Failure) and isinstance(result.value, CancelledError):
            result = Failure(ContainerError(STOPPING))  # type: ignore[no-untyped-call]
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)

    def _keep_dialling(self) -> None:
        """Look for a launcher until there is one; what was asked waits for a while only."""

        def failed(reason: Failure) -> None:
            if self._stopping is None:
                why = reason.getErrorMessage()
                self.log.error("no launcher: {why}", why=why)
                self._give_up(ContainerError(why))
                if self._again is None:
                    self._again = self._reactor.callLater(PAUSE, self._retry)

        self._dial().addErrback(failed)

    def _retry(self) -> None:
        self._again = None
        if self._stopping is None and self._connection is None and self._dialling is None:
            self._keep_dialling()

    async def _dial_until(self) -> None:
        """Connect, starting a launcher where there is none. Raises L{ContainerError}."""
        deadline = self._reactor.seconds() + CONNECT_TIMEOUT
        pause = 0.02
        while True:
            try:
                await self._connect()
            except (ContainerError, CancelledError):
                raise
            except Exception as error:  # there is none, or it does not answer
                why = error
            else:
                return
            if self._stopping is not None:  # a connection that is given up says so in its own way
                raise ContainerError(STOPPING)
            why = await self._start_launcher() or why
            if self._reactor.seconds() > deadline:
                raise ContainerError(f"no launcher in {self.directory}: {why}") from why
            await deferLater(self._reactor, pause)
            pause = min(1.0, pause * 2)

    async def _connect(self) -> None:
        """Connect to a launcher that is there, and compare what both know."""
        lines = Lines(self._received, self._lost)
        home = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = os.fstat(home)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                wanted = f"mode 0700, user {os.geteuid()}"
                raise ContainerError(f"{self.directory} must be ours alone: {wanted}")
            path = os.path.join(self.directory, "socket")
            if len(path) > 100:  # the address of a UNIX socket has 108 bytes
                path = f"/proc/self/fd/{home}/socket"
            endpoint = UNIXClientEndpoint(self._reactor, path, timeout=5)  # type: ignore[no-untyped-call]
            await endpoint.connect(_Quiet.forProtocol(lambda: lines))  # type: ignore[no-untyped-call]
        finally:
            os.close(home)
        try:
            lines.send(orjson.dumps((HELLO, "hello")) + b"\n")
            result = await lines.hello.addTimeout(10.0, self._reactor)
            if result["version"] not in _VERSIONS:
                raise ContainerError(
                    f"the launcher {result['pid']} is a newer agent's: it speaks version"
                    f" {result['version']}, this agent up to {launcher.VERSION}. Start the newer"
                    " agent again; or kill that process: what it runs goes on, but how that ends"
                    " will not be known"
                )
            self._version = result["version"]
            self.launcher_pid = result["pid"]
        except BaseException:
            lines.drop()
            raise
        self._connection = lines
        self._compare(result["containers"])
        for request in list(self._requests.values()):
            lines.send(request.line)

    def _compare(self, containers: list[tuple[Any, ...]]) -> None:
        """Bring what we know to what the launcher says of all its containers."""
        asked = {
            request.subject: number
            for number, request in self._requests.items()
            if request.verb == "launch"
        }
        told = set()
        for name, pid, over, status, *abandoned in containers:
            told.add(name)
            if any(abandoned):
                self._abandoned.add(name)
            if name in asked:
                if not pid:
                    continue  # asked for again, it is refused
                request = self._requests.pop(asked[name])
                self._started(name, pid)
                request.answer.callback(pid)
            elif name not in self._running and name not in self._ended:
                if self._seen:
                    if name not in self._unwanted:
                        self._refuse(name)
                    continue
                self._running[name] = pid
            if over:
                self._over(name, status)
        self._seen = True
        for name in self._running.keys() - told:
            self.log.error("the launcher does not know {container} any more", container=name)
            self._over(name, None)

    async def _start_launcher(self) -> Exception | None:
        """Start a launcher, or wake the one that is there; return what went wrong."""
        if self._wake():
            return None
        arguments = ["-I", "-S", launcher.__file__, self.directory, str(self.linger)]
        environment = {"LANG": "C.UTF-8", "PATH": os.defpath}
        try:
            output = getProcessOutputAndValue(  # type: ignore[no-untyped-call]
                sys.executable, arguments, environment, reactor=self._reactor
            )
            _, errors, status = await output.addTimeout(20.0, self._reactor)
        except CancelledError:
            raise
        except Exception as error:
            return error
        if status:
            text = errors.decode(errors="replace").strip()
            return ContainerError(text[-2000:] or f"the launcher ended with status {status}")
        return None

    def _wake(self) -> bool:
        """Ask a launcher that lives, and is not to be reached, to listen anew."""
        try:
            record = json.loads(Path(self.directory, "launcher.json").read_text())
            found = process(record["pid"])
            if found is None or found.start != record["start"] or not found.alive:
                return False
            os.kill(record["pid"], signal.SIGHUP)
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def _lost(self, lines: Lines) -> None:
        if lines is not self._connection:
            return
        self._connection = None
        if self._stopping is not None:
            self._stopping.callback(None)
        else:
            self._keep_dialling()


def _is_cgroup_alone(isolation: Mapping[str, Any] | None) -> bool:
    """Whether nothing is wanted but the cgroup that a container is killed by."""
    if isolation is None or isolation.keys() - {"cgroups", "kill"}:
        return False
    return list(isolation.get("cgroups", ())) == [isolation.get("kill")]


def _with_mounts(spec: ContainerSpec, isolation: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return how a container is kept apart that has mounts of its own."""
    given = dict(isolation or {})
    given["namespaces"] = sorted({*given.get("namespaces", ()), "mnt"})
    own = given.get("mounts", ())
    covers = [mount for mount in own if mount[0] == COVER]
    rest = [mount for mount in own if mount[0] != COVER]
    given["mounts"] = [*rest, *spec.mounts, *covers]
    return given
