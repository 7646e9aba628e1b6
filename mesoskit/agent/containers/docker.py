"""Containers of the Docker engine, through its API: what C{ContainerInfo} of type DOCKER asks for.

The engine is the parent of its containers, so they outlive the agent; whose they are stands in
labels of theirs. What becomes of them is told by the engine's events, and, as an event may be
missed, looked up from time to time and whenever the engine was away. The engine does not know
C{patience}: when it is over is found out by the next agent.
"""

import os
from collections.abc import Callable, Iterable
from signal import SIGKILL, SIGTERM
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import (
    Allotment,
    ContainerFacts,
    ContainerSpec,
    Limitation,
    RecoveredContainers,
    Usage,
)
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.containers.docker_attach import Consoles
from mesoskit.agent.containers.docker_console import Resizes
from mesoskit.agent.containers.docker_container import Container
from mesoskit.agent.containers.docker_create import Creation, creation, limits
from mesoskit.agent.containers.docker_exec import Commands
from mesoskit.agent.containers.docker_found import Found, Watch
from mesoskit.agent.containers.docker_http import Delays, Engine, EngineError
from mesoskit.agent.containers.docker_images import Images
from mesoskit.agent.containers.docker_logs import Files, Follower, Notes, Place
from mesoskit.agent.containers.docker_usage import Reader
from mesoskit.agent.containers.docker_volumes import Secrets, make_directories
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.users import InThread, UserError, Users
from mesoskit.model.ids import ContainerId

PATIENCE: Final = 15.0
"""Seconds that an engine may take until it is there, when the agent starts."""

LOOKS: Final = 25
"""How often it is asked how something has ended, five times a second, until nobody knows."""

LAST_WORDS: Final = 10.0
"""Seconds that the output of what has ended may take to come."""

STOPPING: Final = "the agent is stopping"
DESTROYED: Final = "it was destroyed before it was started"


class DockerContainers:
    """
    A C{Containers} (L{mesoskit.agent.containers}) over a Docker engine.

    @ivar engine: that.
    @ivar images: those that it pulls.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: DockerSettings,
        work_dir: str,
        directory: str,
        users: Users,
        in_thread: InThread,
        exited: Exited,
        described: Callable[[ContainerId, ContainerFacts], None] = lambda container, facts: None,
        progressed: Callable[[ContainerId, str], None] = lambda container, message: None,
        hierarchy: str = "/sys/fs/cgroup",
    ) -> None:
        """
        @param hierarchy: where cgroups are mounted (C{--cgroups_hierarchy}).
        @param progressed: is told now and then how far a pull is.
        @param described: is told what there is to say of a container, before its launch is over.
        @param work_dir: the agent's, which its containers are known by.
        @param directory: for notes, in the agent's runtime directory.
        @param exited: is told of every end.
        """
        self.engine = Engine(reactor, settings.socket)
        self.images = Images(reactor, self.engine, settings.config)
        self._reactor = reactor
        self._settings = settings
        self._work_dir = work_dir
        self._users = users
        self._in_thread = in_thread
        self._exited = exited
        self._described = described
        self._progressed = progressed
        self._notes = Notes(directory)
        self._secrets = Secrets(os.path.join(directory, "secrets"))
        self._reader = Reader(reactor, self.engine, in_thread, hierarchy)
        self._commands = Commands(reactor, self.engine, in_thread, exited)
        self._watch = Watch(reactor, self.engine, work_dir, directory, self._compare, self._look_at)
        self._containers: dict[ContainerId, Container] = {}
        self._starting: Deferred[None] | None = None
        self._recovered = False
        self._stopped = False

    # What the Protocol promises

    def start(self) -> "Deferred[None]":
        """Find the engine, and what it has of ours."""
        starting = self._starting = Deferred.fromCoroutine(self._start())
        return starting

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """Create and start a container; its image is pulled before, where need be."""
        if self._stopped:
            return fail(ContainerError(STOPPING))
        if spec.parent is not None:
            return Deferred.fromCoroutine(self._beside(spec, spec.parent))
        known = self._containers.get(spec.id)
        if known is None:
            known = self._containers[spec.id] = Container(spec.id, spec.sandbox)
            known.launching = known.own = True
            self._watch.keep(known.name)
            self._begin(known, spec)
        elif not known.launching:
            return succeed(known.pid)
        waiter: Deferred[int] = Deferred()
        known.launchers.append(waiter)
        return waiter

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal; for SIGTERM the one by which the image wants to be stopped."""
        if container in self._commands:
            self._commands.signal(container, signum)
            return
        known = self._containers.get(container)
        if known is not None and known.running:
            Deferred.fromCoroutine(self._signal(known, signum))

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill it, as often as it takes."""
        if container in self._commands:
            return self._commands.destroy(container)
        known = self._containers.get(container)
        if known is None or known.ended:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        known.destroyers.append(waiter)
        known.doomed = True
        if known.pulling and known.work is not None:
            known.work.cancel()
        elif known.running:
            self._end(known)
        return waiter

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Change a running container's limits."""
        known = self._containers.get(container)
        if known is None or not known.running or self._stopped:
            return succeed(None)
        return Deferred.fromCoroutine(self._update(known, allotment))

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Read what the containers use."""
        running = [one for one in self._containers.values() if one.running]
        return Deferred.fromCoroutine(self._reader.read(running))

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Give what an earlier agent has left, and tell of its ends from now on."""
        self._recovered = True
        others = [one for one in self._containers.values() if not one.own]
        return succeed(
            RecoveredContainers(
                {one.id: one.pid for one in others if not one.ended},
                {one.id: one.status for one in others if one.ended},
                frozenset(one.id for one in others if one.abandoned),
                {
                    one.id: one.limitation
                    for one in others
                    if one.ended and one.limitation is not None
                },
            )
        )

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of its end; the engine keeps it for C{--docker_remove_delay}."""
        if container in self._commands:
            self._commands.forget(container)
            return
        known = self._containers.get(container)
        if known is not None and known.ended:
            del self._containers[container]
            self._notes.remove(container)
            self._secrets.remove(container)
            self._watch.remove_later(known.name, self._settings.remove_delay)

    def consoles(self, others: Any) -> Consoles:
        """
        Return what attaches to these containers, and to others as well.

        @param others: a L{mesoskit.agent.consoles.Consoles}.
        """
        find = self._containers.get
        return Consoles(self._reactor, self.engine, self._commands, find, others)

    def stop(self) -> "Deferred[None]":
        """Leave the containers to the engine."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
        self._watch.stop()
        self._commands.stop()
        for known in list(self._containers.values()):
            if known.work is not None:
                known.work.cancel()
            if known.kills is not None:
                known.kills.cancel()
            if known.later is not None and known.later.active():
                known.later.cancel()
            if known.follower is not None:
                known.follower.stop()
            for waiter in known.destroyers:
                waiter.errback(ContainerError(STOPPING))
            known.destroyers = []
        self.images.stop()
        return self.engine.close()

    # Starting

    async def _start(self) -> None:
        try:
            self._notes.make()
        except OSError as error:
            raise ContainerError(f"no place for notes of Docker's containers: {error}") from error
        deadline = self._reactor.seconds() + PATIENCE
        while True:
            try:
                await self.engine.negotiate()
                items = await self._watch.list()
            except EngineError as error:
                if self._reactor.seconds() >= deadline or error.status:
                    raise ContainerError(
                        f"{str(error).rstrip('.')}. Start it (Debian: apt-get install docker.io),"
                        " or name its socket with --docker_socket, or leave docker out of"
                        " --containerizers"
                    ) from error
            else:
                break
            await self._watch.pause(0.5)
        noted = self._notes.all()
        away = self._watch.away()
        await gatherResults(
            [Deferred.fromCoroutine(self._find(item, noted, away)) for item in items],
            consumeErrors=True,
        )
        for container in noted - set(self._containers):
            self._notes.remove(container)
        self._secrets.keep({str(self._watch.id_of(item)) for item in items})
        self._watch.start()
        self._starting = None

    async def _find(self, item: dict[str, Any], noted: set[str], away: float) -> None:
        """Take up a container that the engine has of an earlier agent."""
        container = self._watch.id_of(item)
        if container is None:
            return
        try:
            found = Found.read(await self.engine.ask("GET", f"/containers/{item['Id']}/json"))
        except EngineError as error:
            if error.status == 404:
                return
            raise
        known = Container(container, found.sandbox)
        known.found, known.pid = found, found.pid_here()
        if found.never_started or (not found.running and container not in noted):
            age = 0.0 if found.never_started else self._watch.age(found.finished)
            self._watch.remove_later(known.name, max(0.0, self._settings.remove_delay - age))
            return
        if found.running and container not in noted and not self._settings.kill_orphans:
            return
        self._containers[container] = known
        self._follow(known, None)
        if found.running:
            known.running = True
            Deferred.fromCoroutine(self._commands.end_left(found.execs, found.pid))
            if found.patience is not None and away > found.patience:
                known.abandoned = True
                self._end(known)
            return
        if known.follower is not None:
            known.follower.finish()
        known.ended = True
        known.status, known.limitation = found.end(known.signals)

    # Launching

    def _begin(self, known: Container, spec: ContainerSpec) -> None:
        work = known.work = Deferred.fromCoroutine(self._launch(known, spec))
        # Whoever asked for it waits first, even where it fails at once.
        self._reactor.callLater(0, work.addBoth, lambda result: self._launched(known, result))

    def _launched(self, known: Container, result: int | Failure) -> None:
        """It was started, or could not be: tell who waits for it, then what follows."""
        known.work = None
        known.launching = known.pulling = False
        waiting, known.launchers = known.launchers, []
        if isinstance(result, Failure):
            self._containers.pop(known.id, None)
            if result.check(CancelledError):  # type: ignore[no-untyped-call]
                why = STOPPING if self._stopped else DESTROYED
                result = Failure(ContainerError(why))  # type: ignore[no-untyped-call]
            for waiter in waiting:
                waiter.errback(result)
            destroyers, known.destroyers = known.destroyers, []
            for destroyer in destroyers:
                destroyer.callback(None)
            return
        known.running = True
        if known.found.facts is not None:
            self._described(known.id, known.found.facts)
        for waiter in waiting:
            waiter.callback(result)
        if known.doomed:
            self._end(known)
        elif not self._stopped:
            self._check(known)

    async def _launch(self, known: Container, spec: ContainerSpec) -> int:
        owner = await self._owner(spec)
        private = self._secrets.path(known.id)
        wanted = creation(spec, self._settings, self._work_dir, owner, private)
        make_directories(wanted, spec.sandbox, owner)
        if wanted.force_pull:
            await self._pull(known, wanted)
        try:
            files = Files(spec.sandbox, owner)
        except OSError as error:
            raise ContainerError(f"cannot write to {spec.sandbox}: {error.strerror}") from error
        conflict = True
        try:
            place = Place(sizes=files.sizes)
            self._notes.write(known.id, place)
            self._secrets.write(known.id, wanted.secrets)
            await self._create(known, wanted)
            conflict = False
            await self.engine.ask("POST", f"/containers/{known.name}/start")
            # The end of what has ended before is heard of when this was told.
            raw = await self.engine.ask("GET", f"/containers/{known.name}/json")
            known.found = Found.read(raw)
            known.pid = known.found.pid_here()
        except BaseException as error:
            files.close()
            self._notes.remove(known.id)
            self._secrets.remove(known.id)
            # Whatever has happened: it may have come to be. But what has its name is not ours.
            status = error.status if isinstance(error, EngineError) else 0
            if not (conflict and status == 409):
                Deferred.fromCoroutine(self._undo(known, answered=bool(status)))
            if isinstance(error, OSError):
                raise ContainerError(f"cannot note it: {error.strerror}") from error
            raise
        self._follow(known, files)
        if spec.console is not None and spec.console.rows:
            path = f"/containers/{known.name}"
            Resizes(self._reactor, self.engine, path)(spec.console.rows, spec.console.columns)
        return known.pid

    async def _owner(self, spec: ContainerSpec) -> tuple[int, int]:
        try:
            credentials = await self._users.find(spec.user)
        except UserError as error:
            raise ContainerError(str(error)) from error
        if credentials is None:
            return os.geteuid(), os.getegid()
        return credentials.user, credentials.group

    async def _pull(self, known: Container, wanted: Creation) -> None:
        known.pulling = True
        try:
            if known.doomed:
                raise ContainerError(DESTROYED)
            await self.images.pull(
                wanted.image,
                wanted.platform,
                known.sandbox,
                lambda message: self._progressed(known.id, message),
            )
        finally:
            known.pulling = False

    async def _create(self, known: Container, wanted: Creation) -> None:
        query = {"name": wanted.name}
        if wanted.platform:
            query["platform"] = wanted.platform
        try:
            await self.engine.ask("POST", "/containers/create", query, wanted.body)
        except EngineError as error:
            if error.status != 404 or wanted.force_pull or "image" not in str(error).lower():
                raise
            # The image is not there yet.
            await self._pull(known, wanted)
            await self.engine.ask("POST", "/containers/create", query, wanted.body)

    async def _undo(self, known: Container, answered: bool) -> None:
        """Leave nothing of what could not be started."""
        if not answered:
            self._watch.remove_again(known.name)
        try:
            await self._watch.remove(known.name)
        except EngineError as error:
            self.log.warn("removing {name}: {why}", name=known.name, why=str(error))
            if known.id not in self._containers:
                self._watch.remove_later(known.name, 0.0)

    async def _beside(self, spec: ContainerSpec, parent: ContainerId) -> int:
        known = self._containers.get(self._commands.around(parent) or parent)
        if known is None or not known.running:
            raise ContainerError(f"container {parent} does not run")
        # What a check writes goes where its task writes to; all else has a sandbox of its own.
        keep = self._say(known) if spec.sandbox == known.sandbox else None
        return await self._commands.launch(spec, known.id, known.found.pid, keep)

    def _say(self, known: Container) -> Callable[[int, bytes], None]:
        def say(which: int, data: bytes) -> None:
            if known.follower is not None:
                known.follower.say(which, data)

        return say

    def _follow(self, known: Container, files: Files | None) -> None:
        """Begin to bring what it writes into its sandbox."""
        try:
            if files is None:
                files = Files(known.sandbox, known.found.owner)
        except OSError as error:
            self.log.warn("output of {name}: {why}", name=known.name, why=error)
            return
        follower = known.follower = Follower(
            self._reactor,
            self.engine,
            known.name,
            known.id,
            files,
            self._notes,
            known.found.tty,
        )
        follower.begin()

    # Ending

    async def _signal(self, known: Container, signum: int) -> None:
        known.signals.add(signum)
        name = known.found.stop_signal if signum == SIGTERM else str(int(signum))
        try:
            await self.engine.ask("POST", f"/containers/{known.name}/kill", {"signal": name})
        except EngineError as error:
            if error.status in (404, 409):
                self._check(known)
            else:
                self.log.warn("signal to {name}: {why}", name=known.name, why=str(error))

    def _end(self, known: Container) -> None:
        """Kill it until it is over; before, ask it to end, where that is wanted."""
        if known.kills is not None:
            return
        grace = self._settings.stop_timeout
        kills = known.kills = Delays(self._reactor, 1.0, 30.0)
        if grace > 0 and SIGTERM not in known.signals and not known.abandoned:
            Deferred.fromCoroutine(self._signal(known, SIGTERM))
            kills.call = self._reactor.callLater(grace, self._kill, known, kills)
        else:
            self._kill(known, kills)

    def _kill(self, known: Container, kills: Delays) -> None:
        kills.call = None
        if known.running and not self._stopped:
            if SIGKILL in known.signals:
                self._check(known)
            # The engine may be away, or hang: it hears of it again.
            kills.again(lambda: self._kill(known, kills))
            Deferred.fromCoroutine(self._signal(known, SIGKILL))

    def _look_at(self, container: ContainerId) -> None:
        """An event says that something has become of a container."""
        known = self._containers.get(container)
        if known is not None:
            self._check(known)

    def _compare(self, items: Iterable[dict[str, Any]]) -> None:
        """The engine has said what it has; see what is missing there."""
        running = {self._watch.id_of(item) for item in items if item.get("State") == "running"}
        for known in list(self._containers.values()):
            if known.running and known.id not in running:
                self._check(known)

    def _check(self, known: Container) -> None:
        """Find out whether it has ended."""
        if known.running and not known.checking and not self._stopped:
            known.checking = True
            Deferred.fromCoroutine(self._inspect(known))

    async def _inspect(self, known: Container) -> None:
        try:
            found = Found.read(await self.engine.ask("GET", f"/containers/{known.name}/json"))
        except EngineError as error:
            known.checking = False
            if error.status == 404:
                await self._over(known, None, None)  # somebody else has removed it
            return
        known.checking = False
        if found.running:
            return
        if not found.settled and known.looks < LOOKS and not self._stopped:
            known.looks += 1
            known.later = self._reactor.callLater(0.2, self._check, known)
            return
        known.found = found.with_pid(known.found.pid)
        await self._over(known, *found.end(known.signals))

    async def _over(
        self, known: Container, status: int | None, limitation: Limitation | None
    ) -> None:
        """It has ended: say so once, when all that it wrote has come."""
        if not known.running:
            return
        known.running = False
        if known.kills is not None:
            known.kills.cancel()
        if known.follower is not None:
            known.follower.finish()
            late = self._reactor.callLater(LAST_WORDS, known.follower.stop)
            await known.follower.over
            if late.active():
                late.cancel()
        if self._stopped:
            return
        known.ended = True
        known.status, known.limitation = status, limitation
        if known.own or self._recovered:
            try:
                self._exited(known.id, status, limitation)
            except Exception:
                self.log.failure("the end of {container} was not taken", container=known.id)
        destroyers, known.destroyers = known.destroyers, []
        for destroyer in destroyers:
            destroyer.callback(None)

    # More or less

    async def _update(self, known: Container, allotment: Allotment) -> None:
        body = limits(allotment, self._settings.limit_cpu)
        body.setdefault("CpuQuota", -1)
        if "Memory" in body:
            # What it may swap has to be said along, or the engine refuses more than that.
            body["MemorySwap"] = 2 * body["Memory"]
        try:
            await self.engine.ask("POST", f"/containers/{known.name}/update", body=body)
        except EngineError as error:
            if error.status not in (404, 409):
                raise
