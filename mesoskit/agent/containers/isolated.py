"""Containers that are kept apart: isolators round the start and the end of every one.

Before a container is started each isolator prepares it, and after its end each cleans up. A note
lies in the agent's runtime directory from before the first of them does anything until after the
last has removed what it made: so whenever an agent is killed, the next one finds what is left.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from signal import SIGKILL
from typing import Any, Final, Protocol

import orjson
from google.protobuf.message import Message
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from mesoskit.agent.container import (
    Allotment,
    ContainerFacts,
    ContainerSpec,
    Limitation,
    RecoveredContainers,
    Usage,
)
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.containers.isolators import (
    Figure,
    Isolated,
    Preparation,
    as_request,
    check,
    together,
)
from mesoskit.agent.launcher_spawn import DEFAULT_PATH
from mesoskit.agent.users import InThread
from mesoskit.messages.mesos_pb2 import ResourceStatistics
from mesoskit.model.ids import ContainerId

_FIRST_PAUSE: Final = 0.02
_LAST_PAUSE: Final = 1.0

_PARTING: Final = 1.0
"""Seconds that stopping waits for what ended containers have left to be removed."""


class Launching(Protocol):
    """What is asked of the containers beneath: a C{Containers} that takes isolation, too."""

    def start(self) -> "Deferred[None]":
        """Begin."""
        ...

    def launch(
        self, spec: ContainerSpec, isolation: Mapping[str, Any] | None = None
    ) -> "Deferred[int]":
        """Start a container."""
        ...

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal."""
        ...

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill it."""
        ...

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Say what all use."""
        ...

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Say what is left."""
        ...

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept."""
        ...

    def stop(self) -> "Deferred[None]":
        """Let go."""
        ...


class IsolatedContainers:
    """
    A C{Containers} (L{mesoskit.agent.containers}) over launched ones.

    Those have to be made with L{exited} as what is told of their ends; they are given by
    setting L{inner}.

    @ivar inner: what starts processes.
    """

    log = Logger()
    inner: Launching

    def __init__(
        self,
        reactor: Any,
        isolators: Sequence[Any],
        notes: str,
        in_thread: InThread,
        exited: Exited,
        patience: float = 60.0,
        described: Callable[[ContainerId, ContainerFacts], None] = lambda container, facts: None,
        *,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param isolators: L{IIsolator}s, asked in order, and in the reverse at the end.
        @param notes: a directory of the agent's alone, made if it is not there.
        @param patience: seconds in which what a container leaves has to be gone.
        @param described: is told what there is to say of a container, before its launch is over.
        @param first: called before all else when it begins.
        """
        self._reactor = reactor
        self._isolators = tuple(isolators)
        self._notes = notes
        self._in_thread = in_thread
        self._exited = exited
        self._patience = patience
        self._first = first
        self._described = described
        self._known: dict[ContainerId, Isolated] = {}
        self._launching: dict[ContainerId, Deferred[None]] = {}
        self._limitations: dict[ContainerId, Limitation] = {}
        self._inherited: dict[ContainerId, Limitation] = {}
        self._refused: set[ContainerId] = set()
        self._cleaning = 0
        self._clean_now: Deferred[None] = Deferred()
        self._stopped: float | None = None  # when
        for isolator in self._isolators:
            isolator.limited = self._limited

    # What the Protocol promises

    def start(self) -> "Deferred[None]":
        """Begin."""
        self._first()
        try:
            os.makedirs(self._notes, mode=0o700, exist_ok=True)
        except OSError as error:
            raise ContainerError(f"{self._notes}: {error.strerror}") from error
        return self.inner.start()

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """Prepare a container and start it."""
        launching = self._launching.get(spec.id)
        if launching is not None:
            return _after(launching).addCallback(lambda _: self.inner.launch(spec))
        if spec.id in self._known:
            return self.inner.launch(spec)  # it is known there, too, and is not started again
        return Deferred.fromCoroutine(self._launch(spec))

    async def _launch(self, spec: ContainerSpec) -> int:
        parent = None if spec.parent is None else self._known.get(spec.parent)
        container = Isolated.of(spec, parent)
        self._known[spec.id] = container
        self._launching[spec.id] = Deferred()
        try:
            self._note(container)
            prepared = together([await self._prepare(one, container) for one in self._isolators])
            spec = _with_environment(spec, prepared)
            container.pid = await self.inner.launch(spec, as_request(prepared))
            for isolator in self._isolators:
                isolator.isolated(container)
            if container.classid is not None:
                self._described(spec.id, ContainerFacts(classid=container.classid))
        except BaseException:
            if self._stopped is not None:
                # It may have been started all the same; what is noted of it tells the next agent.
                pass
            elif container.pid:
                self._refused.add(spec.id)
                await self.inner.destroy(spec.id)
                self._refused.discard(spec.id)
                self.inner.forget(spec.id)
            else:
                self._known.pop(spec.id, None)
                self._clean(container)
            raise
        finally:
            waiting = self._launching.pop(spec.id)
            self._reactor.callLater(0, waiting.callback, None)
        return container.pid

    async def _prepare(self, isolator: Any, container: Isolated) -> Preparation:
        prepared: Preparation = await maybeDeferred(isolator.prepare, container)
        return prepared

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal."""
        self.inner.signal(container, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill a container, when its launch is over."""
        launching = self._launching.get(container)
        if launching is None:
            return self.inner.destroy(container)
        return _after(launching).addCallback(lambda _: self.inner.destroy(container))

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Hold a running container to something else."""
        known = self._known.get(container)
        done: Deferred[None] = Deferred()
        if known is None or not known.pid:
            done.callback(None)
            return done
        try:
            check(allotment)
            known.allotment = allotment
            self._note(known)
            for isolator in self._isolators:
                isolator.update(known)
        except ContainerError as error:
            done.errback(error)
        else:
            done.callback(None)
        return done

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Say what all use: what is seen of their processes, and what isolators count."""

        def add(usage: dict[ContainerId, Usage]) -> "Deferred[dict[ContainerId, Usage]]":
            known = [self._known[name] for name in usage if name in self._known]
            return self._in_thread(lambda: self._counted(known)).addCallback(
                lambda counted: self._pods(
                    {
                        name: _joined(one, counted[name]) if counted.get(name) else one
                        for name, one in usage.items()
                    },
                    counted,
                )
            )

        return self.inner.usage().addCallback(add)

    def _pods(
        self,
        usage: dict[ContainerId, Usage],
        counted: Mapping[ContainerId, Mapping[str, Figure]],
    ) -> dict[ContainerId, Usage]:
        """Count what is within pods in with them, where the kernel has not done so."""
        inside: dict[ContainerId, list[Usage]] = {}
        for name, used in usage.items():
            at = self._known.get(name)
            while at is not None:
                if at.pod:
                    inside.setdefault(at.id, []).append(used)
                at = at.parent
        for name, parts in inside.items():
            if name in usage:
                usage[name] = _whole(usage[name], parts, counted.get(name, {}))
        return usage

    def _counted(self, known: Collection[Isolated]) -> dict[ContainerId, dict[str, Figure]]:
        """In a thread: ask the isolators."""
        found: dict[ContainerId, dict[str, Figure]] = {}
        for container in known:
            figures: dict[str, Figure] = {}
            for isolator in self._isolators:
                figures.update(isolator.usage(container))
            found[container.id] = figures
        return found

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Take hold of what runs, and remove what is left of what does not."""
        return self.inner.recover().addCallback(self._recover)

    def _recover(self, found: RecoveredContainers) -> RecoveredContainers:
        notes = self._read_notes()
        classes = {}
        over = {}
        for name, note in notes.items():
            if name in self._known:
                continue  # it was started since
            container = self._from_note(name, note, notes)
            if name not in found.running:
                over[name] = container
                continue
            container.pid = found.running[name]
            self._known[name] = container
            for isolator in self._isolators:
                isolator.recover(container)
            if container.classid is not None:
                classes[name] = container.classid
        # What is cleaned up first may take along what tells why another one has ended.
        limitations = self._limitations_of(over, found.exited)
        for container in over.values():
            self._clean(container)
        return replace(found, limitations={**found.limitations, **limitations}, classes=classes)

    def _limitations_of(
        self, over: Mapping[ContainerId, Isolated], exited: Mapping[ContainerId, int | None]
    ) -> dict[ContainerId, Limitation]:
        """Return which of those that have ended have taken too much, or their pods have."""
        told = {name: self._limitation(one) for name, one in over.items() if name in exited}
        for name, limitation in told.items():
            parent = over[name].parent
            if limitation is None and parent is not None and exited[name] == SIGKILL:
                told[name] = told.get(parent.id)
        return {name: limitation for name, limitation in told.items() if limitation is not None}

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of its end."""
        self.inner.forget(container)

    def stop(self) -> "Deferred[None]":
        """Leave all to themselves, but for what is about to be removed."""
        if self._stopped is None:
            self._stopped = self._reactor.seconds()
            for isolator in self._isolators:
                isolator.stop()
            if not self._cleaning:
                self._clean_now.callback(None)
        return _after(self._clean_now).addCallback(lambda _: self.inner.stop())

    # Ends

    def exited(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """For the containers beneath: one is over."""
        known = self._known.pop(container, None)
        if known is not None:
            limitation = limitation or self._limitation(known)
            if status == SIGKILL:
                limitation = limitation or self._inherited.get(container)
            self._inherited.pop(container, None)
            self._clean(known)
        if container not in self._refused:
            self._exited(container, status, limitation)

    def _limited(self, container: ContainerId, limitation: Limitation) -> None:
        """For isolators: one takes too much."""
        told = container in self._limitations
        if self._stopped is not None or told or container not in self._known:
            return
        self._limitations[container] = limitation
        for name, one in self._known.items():
            if one.parent is not None and one.parent.id == container:
                self._inherited[name] = limitation
        self.destroy(container).addErrback(
            lambda why: self.log.warn(
                "{container} takes too much and could not be destroyed: {why}",
                container=container,
                why=why.getErrorMessage(),
            )
        )

    def _limitation(self, container: Isolated) -> Limitation | None:
        told = self._limitations.pop(container.id, None)
        if told is not None:
            return told
        for isolator in self._isolators:
            found: Limitation | None = isolator.limitation(container)
            if found is not None:
                return found
        return None

    def _clean(self, container: Isolated) -> None:
        """Let isolators remove what they made, now or a little later."""
        left = list(reversed(self._isolators))
        deadline = self._reactor.seconds() + self._patience
        self._cleaning += 1

        def attempt(pause: float) -> None:
            left[:] = [isolator for isolator in left if not self._cleaned(isolator, container)]
            now = self._reactor.seconds()
            if not left:
                self._unlink(self._note_of(container.id))
            elif now > deadline:
                # The note stays: the next agent tries again.
                self.log.error("{container} cannot be cleaned up", container=container.id)
            elif self._stopped is None or now < self._stopped + _PARTING:
                self._reactor.callLater(pause, attempt, min(_LAST_PAUSE, pause * 2))
                return
            self._cleaning -= 1
            if self._stopped is not None and not (self._cleaning or self._clean_now.called):
                self._clean_now.callback(None)

        attempt(_FIRST_PAUSE)

    def _cleaned(self, isolator: Any, container: Isolated) -> bool:
        try:
            return bool(isolator.cleanup(container))
        except Exception:
            self.log.failure("cleaning up {container}", container=container.id)
            return True

    # Notes

    def _note_of(self, container: ContainerId) -> str:
        return os.path.join(self._notes, container)

    def _note(self, container: Isolated) -> None:
        """Write down what the next agent must know. Raises L{ContainerError}."""
        words = {
            "sandbox": container.sandbox,
            "allotment": asdict(container.allotment),
            "info": container.info.hex(),
            "parent": None if container.parent is None else container.parent.id,
            "staged": container.staged,
            "pod": container.pod,
            "member": container.member,
            "user": container.user,
        }
        path = self._note_of(container.id)
        fresh = path + ".new"
        try:
            with open(fresh, "wb", buffering=0) as file:
                file.write(orjson.dumps(words))
            os.rename(fresh, path)
        except OSError as error:
            self._unlink(fresh)
            raise ContainerError(f"{path}: {error.strerror}") from error

    def _read_notes(self) -> dict[ContainerId, dict[str, Any]]:
        found = {}
        for name in sorted(os.listdir(self._notes)):
            path = os.path.join(self._notes, name)
            try:
                with open(path, "rb") as file:
                    words = orjson.loads(file.read())
                if name.endswith(".new") or not isinstance(words, dict):
                    raise ValueError("half a note")
            except (OSError, ValueError):
                self._unlink(path)
            else:
                found[ContainerId(name)] = words
        return found

    def _from_note(
        self,
        name: ContainerId,
        words: dict[str, Any],
        notes: Mapping[ContainerId, dict[str, Any]],
    ) -> Isolated:
        above = words["parent"]
        parent = self._known.get(above)
        if parent is None and above in notes:
            parent = self._from_note(above, notes[above], notes)
        return Isolated(
            name,
            words["sandbox"],
            _allotment(words["allotment"]),
            bytes.fromhex(words["info"]),
            parent,
            words["staged"],
            words["user"],
            pod=words.get("pod", False),
            member=words.get("member", False),
        )

    def _unlink(self, path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.log.warn("{path}: {why}", path=path, why=error.strerror)


def _after(launching: "Deferred[None]") -> "Deferred[None]":
    over: Deferred[None] = Deferred()
    launching.addCallback(lambda _: over.callback(None))
    return over


def _allotment(words: Mapping[str, Any]) -> Allotment:
    ports = tuple((begin, end) for begin, end in words.get("ports", ()))
    return Allotment(**{**words, "ports": ports})


def _with_environment(spec: ContainerSpec, prepared: Preparation) -> ContainerSpec:
    if not prepared.environment:
        return spec
    variables = {"PATH": DEFAULT_PATH, **dict(spec.environment), **dict(prepared.environment)}
    return replace(spec, environment=tuple(variables.items()))


def _joined(seen: Usage, counted: Mapping[str, Figure]) -> Usage:
    """Return one usage of what was seen of processes and what a kernel has counted."""
    figures: dict[str, float] = {}
    parts: dict[str, Message] = {}
    for name, value in counted.items():
        if isinstance(value, Message):
            parts[name] = value
        else:
            figures[name] = value
    user = figures.pop("cpus_user_time_secs", seen.user_seconds)
    system = figures.pop("cpus_system_time_secs", seen.system_seconds)
    rss = int(figures.pop("mem_rss_bytes", seen.rss_bytes))
    return replace(
        seen,
        user_seconds=user,
        system_seconds=system,
        rss_bytes=rss,
        figures={**seen.figures, **figures},
        parts=ResourceStatistics(**parts).SerializePartialToString(),  # type: ignore[arg-type]
    )


def _whole(pod: Usage, parts: Sequence[Usage], counted: Mapping[str, Figure]) -> Usage:
    """
    Return what a pod uses.

    @param parts: what it and all within it use.
    @param counted: what the kernel has counted of all of it.
    """
    whole = replace(
        pod,
        processes=sum(part.processes for part in parts),
        threads=sum(part.threads for part in parts),
        whole=True,
    )
    if "cpus_user_time_secs" not in counted:
        whole = replace(
            whole,
            user_seconds=sum(part.user_seconds for part in parts),
            system_seconds=sum(part.system_seconds for part in parts),
        )
    if "mem_rss_bytes" not in counted:
        whole = replace(whole, rss_bytes=sum(part.rss_bytes for part in parts))
    return whole
