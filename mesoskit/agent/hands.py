"""What the agent does with its hands: it performs the state's effects upon containers.

A launch is a sequence of waits: who is the user, make the sandbox, fetch, start. However it goes,
it ends in one event, L{ContainerStarted} or L{ContainerFailed}; a full disk, a read-only file
system, an unknown user are the container's failures and never the agent's.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import (
    ContainerExited,
    ContainerFacts,
    ContainerFailed,
    ContainerProgress,
    ContainerSpec,
    ContainerStarted,
    Destroy,
    DiskRead,
    Forget,
    Launch,
    Limitation,
    RecoveredContainers,
    Remove,
    Removed,
    SandboxesFound,
    Settle,
    Signal,
    Update,
    Uri,
    UsageRead,
)
from mesoskit.agent.containers import ContainerError, Containers
from mesoskit.agent.fetcher import FetchError
from mesoskit.agent.machine import disk_used
from mesoskit.agent.probe import Abandon, Probe, Probed
from mesoskit.agent.sandboxes import SandboxError
from mesoskit.agent.users import Credentials, UserError
from mesoskit.model.ids import ContainerId

if TYPE_CHECKING:
    from mesoskit.agent.consoles import Attaching
    from mesoskit.agent.containers.imaged import ImageContainers
    from mesoskit.agent.logs import Rotation
    from mesoskit.agent.probing import Prober

Effect = Launch | Signal | Destroy | Update | Forget | Remove | Settle | Probe | Abandon
Event = (
    ContainerStarted
    | ContainerProgress
    | ContainerFailed
    | ContainerExited
    | RecoveredContainers
    | SandboxesFound
    | Removed
    | UsageRead
    | DiskRead
    | Probed
)


class UsersLike(Protocol):
    """What is asked of L{mesoskit.agent.users.Users}."""

    def find(self, name: str | None) -> "Deferred[Credentials | None]":
        """Give a user's credentials. Fails with L{UserError}."""
        ...


class SandboxesLike(Protocol):
    """What is asked of L{mesoskit.agent.sandboxes.Sandboxes}."""

    work_dir: str

    def make(self, spec: ContainerSpec, credentials: Credentials | None) -> None:
        """Make a sandbox. Raises L{SandboxError}."""
        ...

    def link_agent(self, agent_id: str) -> None:
        """Point C{slaves/latest} to an agent's directory. Raises L{SandboxError}."""
        ...

    def remove(self, path: str) -> "Deferred[None]":
        """Delete a tree. Fails with L{SandboxError}."""
        ...

    def find(self) -> "Deferred[SandboxesFound]":
        """Search for sandboxes."""
        ...


class FetcherLike(Protocol):
    """What is asked of L{mesoskit.agent.fetcher.Fetcher}."""

    def start(self) -> "Deferred[None]":
        """Make ready."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return what it counts."""
        ...

    def fetch(
        self,
        container: ContainerId,
        uris: Sequence[Uri],
        sandbox: str,
        credentials: Credentials | None,
    ) -> "Deferred[None]":
        """Fetch. Fails with L{FetchError}."""
        ...

    def cancel(self, container: ContainerId) -> None:
        """Give it up."""
        ...

    def stop(self) -> None:
        """Give up everything."""
        ...


_COUNTED: Final = (
    "containerizer/fetcher/task_fetches_failed",
    "containerizer/fetcher/task_fetches_succeeded",
    "containerizer/mesos/container_destroy_errors",
)
_NOT_THERE: Final = (
    "containerizer/fetcher/cache_size_total_bytes",
    "containerizer/fetcher/cache_size_used_bytes",
    "containerizer/mesos/provisioner/bind/remove_rootfs_errors",
    "containerizer/mesos/provisioner/remove_container_errors",
    "resource_provider_manager/events/disconnect",
    "resource_provider_manager/events/subscribe",
    "resource_provider_manager/subscribed",
)


class Hands:
    """
    Users, sandboxes, fetcher and containers, moved by effects.

    The containers have to be made with C{hands.exited} as what is told of their ends; as they
    and the hands need each other, they are given by setting L{containers}.

    @ivar containers: what runs them.
    @ivar prober: what asks tasks whether they are well, where anything does.
    @ivar images: those of the containers that can be from images, where they can.
    @ivar consoles: by which one attaches to them, where one can.
    @ivar logs: what holds their output to a size, where anything does.
    @ivar measured: what else there is to be counted, each a function that returns numbers by name.
    """

    log = Logger()
    containers: Containers
    prober: "Prober | None" = None
    images: "ImageContainers | None" = None
    consoles: "Attaching | None" = None
    logs: "Rotation | None" = None

    def __init__(
        self,
        users: UsersLike,
        sandboxes: SandboxesLike,
        fetcher: FetcherLike,
        tell: Callable[[Event], None],
    ) -> None:
        """@param tell: is given every event."""
        self._users = users
        self._sandboxes = sandboxes
        self._fetcher = fetcher
        self._tell = tell
        self._starting: dict[ContainerId, str] = {}  # and what is being done for it
        self._changing: dict[tuple[ContainerId, str], int] = {}
        self._doomed: set[ContainerId] = set()
        self._updates: dict[ContainerId, Update] = {}  # of those that are being started
        self._facts: dict[ContainerId, ContainerFacts] = {}  # likewise
        self._handed: set[ContainerId] = set()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self.measured: list[Callable[[], dict[str, float]]] = []

    def start(self) -> "Deferred[None]":
        """
        Find or start the launcher, then tell what containers and what sandboxes there are
        (L{RecoveredContainers}, L{SandboxesFound}). Fails with L{ContainerError}.
        """

        async def start() -> None:
            await self._fetcher.start()
            await self.containers.start()
            found = await self.containers.recover()
            if self.logs is not None:
                self.logs.recover(found.running)
            self._tell(found)
            self._tell(await self._sandboxes.find())

        return Deferred.fromCoroutine(start())

    def metrics(self) -> dict[str, float]:
        """Return what was counted, and as 0 what is not there: a cache, images, providers."""
        shown = dict.fromkeys(_NOT_THERE, 0.0)
        shown.update((name, float(count)) for name, count in self._counts.items())
        shown.update(self._fetcher.metrics())
        for measured in self.measured:
            shown.update(measured())
        return shown

    def pending(self) -> list[tuple[ContainerId, str]]:
        """
        Return what is being done and has not come to its end: C{user}, C{sandbox}, C{fetch},
        C{launch}, C{update} or C{destroy}, and for which container.
        """
        return [*self._starting.items(), *self._changing]

    def stop(self) -> "Deferred[None]":
        """Let go: fetching ends, containers live on."""
        self._fetcher.stop()
        if self.logs is not None:
            self.logs.stop()
        if self.prober is not None:
            self.prober.stop()
        return self.containers.stop()

    def perform(self, effect: Effect) -> None:
        """Perform an effect; what becomes of it is told."""
        if isinstance(effect, Launch):
            Deferred.fromCoroutine(self._launch(effect.spec))
        elif isinstance(effect, Signal):
            self.containers.signal(effect.container, effect.signum)
        elif isinstance(effect, Destroy):
            self._destroy(effect.container)
        elif isinstance(effect, Probe | Abandon):
            self._probe(effect)
        elif isinstance(effect, Update):
            self._update(effect)
        elif isinstance(effect, Forget):
            self.containers.forget(effect.container)
        elif isinstance(effect, Remove):
            self._remove(effect.path)
        else:
            self._settle(effect.agent_id)

    def read_usage(self) -> "Deferred[None]":
        """Look what containers use and how full the disk is; tell both."""

        def read(result: object) -> None:
            if isinstance(result, dict):
                self._tell(UsageRead(result))
            elif isinstance(result, Failure):
                self.log.warn("usage: {why}", why=result.getErrorMessage())

        return self.containers.usage().addBoth(read)

    def read_disk(self) -> None:
        """Look how full the disk is, and tell."""
        try:
            self._tell(DiskRead(disk_used(self._sandboxes.work_dir)))
        except OSError as error:
            self.log.warn("disk of {path}: {why}", path=self._sandboxes.work_dir, why=error)

    def exited(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """For the containers: one is over."""
        if self.prober is not None and self.prober.exited(container, status):
            return
        if self.logs is not None:
            self.logs.over(container)
        self._tell(ContainerExited(container, status, limitation))

    def progressed(self, container: ContainerId, message: str) -> None:
        """For the containers: how far a launch is that takes long."""
        if container in self._starting:
            self._tell(ContainerProgress(container, message))

    def described(self, container: ContainerId, facts: ContainerFacts) -> None:
        """For the containers: what there is to say of one that was just started."""
        if container in self._starting:
            self._facts[container] = facts

    async def _launch(self, spec: ContainerSpec) -> None:
        self._starting[spec.id] = "user"
        stage = "sandbox"
        try:
            if spec.wrong:
                stage = "launch"
                raise ContainerError(spec.wrong)
            watch = None if self.logs is None else self.logs.prepare(spec)
            credentials = await self._users.find(spec.user)
            self._starting[spec.id] = stage
            self._sandboxes.make(spec, credentials)
            if spec.uris:
                stage = self._starting[spec.id] = "fetch"
                self._still_wanted(spec.id)
                await self._fetch(spec, credentials)
            stage = self._starting[spec.id] = "launch"
            self._still_wanted(spec.id)
            self._handed.add(spec.id)
            if watch is not None:
                watch()
            pid = await self.containers.launch(spec)
        except (UserError, SandboxError, FetchError, ContainerError) as error:
            event: Event = ContainerFailed(spec.id, stage, str(error))
        except Exception as error:
            self.log.failure("launch of {container}", container=spec.id)
            event = ContainerFailed(spec.id, stage, f"{type(error).__name__}: {error}")
        else:
            event = ContainerStarted(spec.id, pid, self._facts.pop(spec.id, None))
        if self.logs is not None and isinstance(event, ContainerFailed):
            self.logs.over(spec.id)
        self._starting.pop(spec.id, None)
        self._handed.discard(spec.id)
        doomed = spec.id in self._doomed
        self._doomed.discard(spec.id)
        update = self._updates.pop(spec.id, None)
        self._tell(event)
        if update is not None and isinstance(event, ContainerStarted):
            self._update(update)
        if doomed and isinstance(event, ContainerStarted):
            self._destroy(spec.id)

    async def _fetch(self, spec: ContainerSpec, credentials: Credentials | None) -> None:
        try:
            await self._fetcher.fetch(spec.id, spec.uris, spec.sandbox, credentials)
        except BaseException:
            self._counts["containerizer/fetcher/task_fetches_failed"] += 1
            raise
        self._counts["containerizer/fetcher/task_fetches_succeeded"] += 1

    def _still_wanted(self, container: ContainerId) -> None:
        if container in self._doomed:
            raise ContainerError("it was destroyed before it was started")

    def _destroy(self, container: ContainerId) -> None:
        if container in self._starting:
            self._doomed.add(container)
            self._fetcher.cancel(container)
            if container not in self._handed:
                return

        def failed(reason: Failure) -> None:
            why = reason.getErrorMessage()
            self._counts["containerizer/mesos/container_destroy_errors"] += 1
            self.log.warn("destroying {container}: {why}", container=container, why=why)

        self._change(container, "destroy", self.containers.destroy(container), failed)

    def _change(
        self,
        container: ContainerId,
        what: str,
        done: "Deferred[None]",
        failed: Callable[[Failure], None],
    ) -> None:
        """Count what is being done to a container until it is."""
        key = container, what
        self._changing[key] = self._changing.get(key, 0) + 1

        def over(result: None) -> None:
            self._changing[key] -= 1
            if not self._changing[key]:
                del self._changing[key]

        done.addErrback(failed).addBoth(over)

    def _probe(self, effect: Probe | Abandon) -> None:
        if self.prober is None:
            if isinstance(effect, Probe):
                self._tell(Probed(effect.number, None, "there is nothing to check tasks with"))
        elif isinstance(effect, Probe):
            self.prober.probe(effect)
        else:
            self.prober.abandon(effect)

    def _update(self, effect: Update) -> None:
        if effect.container in self._starting:
            self._updates[effect.container] = effect
            return

        def failed(reason: Failure) -> None:
            why = reason.getErrorMessage()
            self.log.warn("updating {container}: {why}", container=effect.container, why=why)

        updated = self.containers.update(effect.container, effect.allotment)
        self._change(effect.container, "update", updated, failed)

    def _settle(self, agent_id: str) -> None:
        try:
            self._sandboxes.link_agent(agent_id)
        except SandboxError as error:
            # The link is for people; a full disk will be noticed by what matters more.
            self.log.warn("slaves/latest: {why}", why=str(error))

    def _remove(self, path: str) -> None:
        def removed(result: object) -> None:
            why = result.getErrorMessage() if isinstance(result, Failure) else ""
            self._tell(Removed(path, why))

        self._sandboxes.remove(path).addBoth(removed)
