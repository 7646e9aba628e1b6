"""Several kinds of containers behind one door: what C{--containerizers} names, in its order.

Each container is given to the first that takes it, as in Mesos
(C{src/slave/containerizer/composing.cpp}), and belongs to that one from then on; what runs
beside another container, or within it, belongs to where that one does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import Allotment, ContainerSpec, RecoveredContainers, Usage
from mesoskit.agent.containers import ContainerError, Containers
from mesoskit.model.ids import ContainerId

DOCKER: Final = "docker"
MESOS: Final = "mesos"

NOBODY: Final = (
    "none of the enabled containerizers ({names}) could create a container for the provided"
    " TaskInfo/ExecutorInfo message"
)


@dataclass(slots=True, frozen=True)
class Part:
    """
    One kind of containers.

    @ivar name: as C{--containerizers} has it.
    @ivar docker: whether it takes containers of the Docker engine, and those alone.
    """

    name: str
    containers: Containers
    docker: bool = False


class ComposingContainers:
    """A C{Containers} (L{mesoskit.agent.containers}) over several."""

    log = Logger()

    def __init__(self, parts: Sequence[Part]) -> None:
        """@param parts: those that are asked first come first."""
        self._parts = tuple(parts)
        self._owners: dict[ContainerId, Containers] = {}

    def start(self) -> "Deferred[None]":
        """Start all; fails where one does."""
        return _all(part.containers.start() for part in self._parts)

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """Start a container where it belongs; where that is nowhere, fail with ContainerError."""
        owner = self._owners.get(spec.id)
        if owner is None and spec.parent is not None:
            owner = self._owners.get(spec.parent)
        if owner is None:
            owner = self._find(spec)
        if owner is None:
            names = ",".join(part.name for part in self._parts)
            return fail(ContainerError(NOBODY.format(names=names)))
        known = spec.id in self._owners
        self._owners[spec.id] = owner

        def failed(reason: Failure) -> Failure:
            if not known:
                self._owners.pop(spec.id, None)
            return reason

        return owner.launch(spec).addErrback(failed)

    def _find(self, spec: ContainerSpec) -> Containers | None:
        for part in self._parts:
            if part.docker == spec.docker:
                return part.containers
        return None

    def _of(self, container: ContainerId) -> Iterable[Containers]:
        """Return whose a container is; where nobody knows, all may be."""
        owner = self._owners.get(container)
        return (owner,) if owner is not None else [part.containers for part in self._parts]

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal."""
        for containers in self._of(container):
            containers.signal(container, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill a container."""
        return _all(containers.destroy(container) for containers in self._of(container))

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Give a container more or less."""
        return _all(containers.update(container, allotment) for containers in self._of(container))

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """What all use; of some alone where the others cannot say."""

        def gather(results: list[Any]) -> dict[ContainerId, Usage]:
            found: dict[ContainerId, Usage] = {}
            failures = [result for result in results if isinstance(result, Failure)]
            for result in results:
                if not isinstance(result, Failure):
                    found.update(result)
            if failures and len(failures) == len(results):
                failures[0].raiseException()
            for failure in failures:
                self.log.warn("usage: {why}", why=failure.getErrorMessage())
            return found

        asked: list[Deferred[Any]] = [part.containers.usage() for part in self._parts]
        return gatherResults([one.addErrback(lambda why: [why]) for one in asked]).addCallback(
            lambda results: gather([one[0] if isinstance(one, list) else one for one in results])
        )

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Give what earlier agents have left, of all kinds."""

        def merge(found: list[RecoveredContainers]) -> RecoveredContainers:
            merged = RecoveredContainers()
            for part, one in zip(self._parts, found, strict=True):
                for container in (*one.running, *one.exited):
                    self._owners[container] = part.containers
                merged.running.update(one.running)
                merged.exited.update(one.exited)
                merged.limitations.update(one.limitations)
                merged.classes.update(one.classes)
                merged.abandoned |= one.abandoned
            return merged

        asked = [part.containers.recover() for part in self._parts]
        return gatherResults(asked, consumeErrors=True).addCallback(merge)

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of a container."""
        for containers in self._of(container):
            containers.forget(container)
        self._owners.pop(container, None)

    def stop(self) -> "Deferred[None]":
        """Leave all of them to themselves."""
        return _all(part.containers.stop() for part in self._parts)


def _all(asked: "Iterable[Deferred[None]]") -> "Deferred[None]":
    """Fire when all have; fail as the first of them, once none is left."""

    def settle(results: list[Any]) -> "Deferred[None]":
        for result in results:
            if isinstance(result, Failure):
                return fail(result)
        return succeed(None)

    def kept(result: Any) -> Any:
        return [result] if isinstance(result, Failure) else None

    waiting: list[Deferred[Any]] = [one.addBoth(kept) for one in asked]
    return gatherResults(waiting).addCallback(
        lambda results: settle([one[0] if one else None for one in results])
    )
