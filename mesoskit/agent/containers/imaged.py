"""Containers from images, made by an OCI runtime beneath the launcher's eyes.

Whatever has no image goes on to the containers beneath, as it came. What has one is given to them
as a process too: the stage (L{mesoskit.agent.launcher_oci}), which makes the container and stands
for it. So limits, signals, the end of everything and recovery are those of all containers.
"""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent import launcher_oci
from mesoskit.agent.container import (
    Allotment,
    ContainerSpec,
    Limitation,
    RecoveredContainers,
    Usage,
)
from mesoskit.agent.containers import ContainerError, Containers, Exited
from mesoskit.agent.containers.image_names import ImageError
from mesoskit.agent.containers.image_rights import ImageRights
from mesoskit.agent.containers.image_store import ImageStore, StoredImage
from mesoskit.agent.containers.image_tools import find_runtime, missing_tools
from mesoskit.agent.containers.provisioning import Provisions
from mesoskit.agent.containers.volumes import (
    Bound,
    VolumeError,
    bound_volumes,
    credentials_of,
    image_name,
    images_of,
    surrounding,
)
from mesoskit.agent.images import SANDBOX
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.users import Credentials, InThread, UserError, Users
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image
from mesoskit.model.ids import ContainerId

READY: Final = 120.0
"""Seconds that a runtime may take to make a container."""

SOON: Final = 0.3
"""Seconds within which one is expected to be made: it is looked for often."""

BETWEEN_WORDS: Final = 10.0
"""Seconds between two words about how far a pull is."""

_FIRST_LOOK: Final = 0.004
_LAST_LOOK: Final = 0.1
_OPEN_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


Progressed = Callable[[ContainerId, str], None]
"""Is told of which container the launch takes long, and how far it is."""


class ImageContainers:
    """
    A C{Containers} (L{mesoskit.agent.containers}) over another one.

    The containers beneath have to be made with C{exited} of this one as what is told of their
    ends; they are given by setting L{inner}.

    @ivar inner: what starts processes.
    @ivar store: where images are.
    @ivar providers: C{--image_providers}.
    @ivar sandbox_directory: C{--sandbox_directory}.
    """

    log = Logger()
    inner: Containers

    def __init__(
        self,
        reactor: Any,
        users: Users,
        in_thread: InThread,
        store: ImageStore,
        provisions: Provisions,
        exited: Exited,
        *,
        providers: Sequence[str] = ("docker",),
        sandbox_directory: str = SANDBOX,
        isolation: IsolationSettings | None = None,
        progressed: Progressed | None = None,
        work_dir: str = "",
        ignore_runtime: bool = False,
    ) -> None:
        """
        @param reactor: with time.
        @param exited: is told of every end.
        @param progressed: is told now and then how far a launch is that takes long.
        @param work_dir: the agent's.
        @param ignore_runtime: whether nothing of an image counts but its files.
        """
        self.store = store
        self.providers = tuple(providers)
        self.sandbox_directory = sandbox_directory
        self._reactor = reactor
        self._users = users
        self._in_thread = in_thread
        self._provisions = provisions
        self._exited = exited
        self._progressed = progressed
        settings = isolation or IsolationSettings()
        self._work_dir = work_dir
        self._ignore_runtime = ignore_runtime
        self._creatable = settings.host_path_creation
        self._rights = ImageRights(settings)
        self._pids: dict[ContainerId, int] = {}
        # Of these and of those that are over, until they are forgotten.
        self._begun: dict[ContainerId, int] = {}
        self._paths: dict[ContainerId, str] = {}
        self._known: dict[ContainerId, str] = {}  # those that are over, too
        # Of those that see an image's files: the sandbox that they see.
        self._inside: dict[ContainerId, str] = {}
        self._making: dict[ContainerId, list[Deferred[None]]] = {}
        self._stopping = False
        self._pulling: dict[ContainerId, Deferred[Any]] = {}
        self._quiet: dict[ContainerId, float] = {}
        self._early: dict[ContainerId, tuple[int | None, Limitation | None]] = {}

    def start(self) -> "Deferred[None]":
        """Make the store ready, and what is beneath."""

        async def start() -> None:
            try:
                if self.providers:
                    for why in missing_tools(self._provisions.runtime):
                        self.log.warn("{why}", why=why)
                    await self.store.start()
            except OSError as error:
                raise ContainerError(f"image store {error.filename}: {error.strerror}") from error
            await self.inner.start()

        return Deferred.fromCoroutine(start())

    # Images

    async def _provide(self, spec: ContainerSpec) -> list[StoredImage]:
        """Bring all images that a container needs. Raises L{ContainerError}."""
        images = list(images_of(ContainerInfo.FromString(spec.info))) if spec.info else []
        if spec.docker or not images:
            return []
        try:
            work = gatherResults([self._image(spec, image) for image in images], consumeErrors=True)
            self._pulling[spec.id] = work
            found: list[StoredImage] = await work
        except Exception as error:
            self.store.release(spec.id)
            why = getattr(error, "subFailure", None)
            cause = error if why is None else why.value
            raise ContainerError(str(cause) or "its images are not wanted any more") from cause
        finally:
            self._pulling.pop(spec.id, None)
            self._quiet.pop(spec.id, None)
        return found

    def _image(self, spec: ContainerSpec, image: Image) -> "Deferred[StoredImage]":
        return self.store.get(
            image_name(image, self.providers),
            spec.id,
            cached=image.cached,
            credentials=credentials_of(image),
            progress=partial(self._pulling_on, spec.id),
        )

    def prune(self, excluded: Sequence[str] = ()) -> "Deferred[list[str]]":
        """Remove images that no container uses and that are not excluded; give their names."""
        return self.store.prune(excluded) if self.providers else succeed([])

    def cancel(self, container: ContainerId) -> None:
        """Give up bringing a container's images."""
        work = self._pulling.get(container)
        if work is not None:
            work.cancel()

    def _pulling_on(self, container: ContainerId, message: str) -> None:
        now = self._reactor.seconds()
        if self._progressed is None or now < self._quiet.get(container, 0.0):
            return
        self._quiet[container] = now + BETWEEN_WORDS
        self._progressed(container, message)

    # What the Protocol promises

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """Start a container."""
        info = ContainerInfo.FromString(spec.info) if spec.info else ContainerInfo()
        rooted = info.type == ContainerInfo.MESOS and info.mesos.HasField("image")
        within = spec.parent is not None and spec.parent in self._inside
        bare = not (rooted or within or info.volumes)
        foreign = spec.docker or (info.HasField("type") and info.type == ContainerInfo.DOCKER)
        if bare or foreign:
            return self.inner.launch(spec).addCallback(partial(self._runs, spec.id))
        if spec.id in self._making:
            made = Deferred[None]()
            self._making[spec.id].append(made)
            return made.addCallback(lambda _: self.launch(spec))
        if spec.id in self._known:
            # It is known beneath, too, and is not started again.
            again = self.inner.launch(self._staged(spec, self._known[spec.id]))
            return again.addCallback(lambda pid: self._begun.get(spec.id, pid))
        launching = Deferred.fromCoroutine(self._launch(spec, info, rooted))
        return launching.addCallback(partial(self._runs, spec.id))

    def _runs(self, container: ContainerId, pid: int) -> int:
        self._pids[container] = self._begun[container] = pid
        return pid

    async def _launch(self, spec: ContainerSpec, info: ContainerInfo, rooted: bool) -> int:
        self._making[spec.id] = []
        try:
            pid = await self._make(spec, info, rooted)
            if rooted:
                self._inside[spec.id] = spec.sandbox
            elif spec.parent in self._inside:
                self._inside[spec.id] = self._inside[spec.parent]
            return pid
        except BaseException:
            if not self._stopping:
                self._known.pop(spec.id, None)
                await self._forget_path(spec.id)
            # Else it may have been started all the same: the next agent finds out.
            raise
        finally:
            early = self._early.pop(spec.id, None)
            waiting = self._making.pop(spec.id)
            if early is not None and spec.id in self._paths:
                self._reactor.callLater(0, self.exited, spec.id, *early)
            for waiter in waiting:
                self._reactor.callLater(0, waiter.callback, None)

    def _with_images(
        self, spec: ContainerSpec, info: ContainerInfo, images: Sequence[StoredImage], rooted: bool
    ) -> list[tuple[Bound, StoredImage | None]]:
        """Return a container's volumes, and the images of those that have one."""
        rest = iter(images[1:] if rooted else images)
        parent = surrounding(spec.sandbox, self._work_dir)
        bounds = bound_volumes(info, spec.sandbox, parent, self._creatable)
        return [(bound, None if bound.image is None else next(rest)) for bound in bounds]

    async def _make(self, spec: ContainerSpec, info: ContainerInfo, rooted: bool) -> int:
        try:
            images = await self._provide(spec)
            if self._ignore_runtime:
                images = [replace(image, config={}) for image in images]
            bounds = self._with_images(spec, info, images, rooted)
            if os.geteuid() != 0:
                raise ImageError(
                    "containers from images, and volumes, need an agent that runs as root"
                )
            if not rooted and spec.parent not in self._inside:
                return await self._make_beside(spec, bounds)
            if rooted or bounds:
                self._provisions.runtime = find_runtime(self._provisions.runtime)
            credentials = await self._users.find(spec.user)
            self._paths[spec.id] = self._provisions.path(spec.id)
            path = await self._in_thread(
                lambda: (
                    self._prepare(spec, info, credentials, images[0], bounds)
                    if rooted
                    else self._prepare_within(spec, info, credentials, bounds)
                )
            )
        except (ImageError, VolumeError, UserError) as error:
            raise ContainerError(str(error)) from error
        except OSError as error:
            raise ContainerError(f"{error.filename or 'container'}: {error.strerror}") from error
        self._known[spec.id] = path
        await self.inner.launch(self._staged(spec, path))
        return await self._until_ready(spec.id, path)

    async def _make_beside(
        self, spec: ContainerSpec, bounds: Sequence[tuple[Bound, StoredImage | None]]
    ) -> int:
        """Start a container that has volumes and no image."""
        credentials = await self._users.find(spec.user)
        self._paths[spec.id] = self._provisions.path(spec.id)
        path, mounts = await self._in_thread(
            lambda: self._provisions.make_beside(spec, credentials, self.store.layers, bounds)
        )
        self._known[spec.id] = path
        return await self.inner.launch(replace(spec, mounts=mounts))

    def _prepare(
        self,
        spec: ContainerSpec,
        info: ContainerInfo,
        credentials: Credentials | None,
        image: StoredImage,
        bounds: Sequence[tuple[Bound, StoredImage | None]],
    ) -> str:
        _make_logs(spec.sandbox, credentials)
        return self._provisions.make(
            spec,
            info,
            self._rights.of(info.linux_info),
            credentials,
            self.store.layers,
            image,
            bounds,
            self.sandbox_directory,
            0 if spec.parent is None else self._pids.get(spec.parent, 0),
        )

    def _prepare_within(
        self,
        spec: ContainerSpec,
        info: ContainerInfo,
        credentials: Credentials | None,
        bounds: Sequence[tuple[Bound, StoredImage | None]],
    ) -> str:
        assert spec.parent is not None
        _make_logs(spec.sandbox, credentials)
        rights = self._rights.of(info.linux_info)
        inside = self._inside[spec.parent]
        if not bounds:
            return self._provisions.make_within(
                spec, rights, credentials, spec.parent, inside, self.sandbox_directory
            )
        return self._provisions.make_among(
            spec,
            info,
            rights,
            credentials,
            self.store.layers,
            bounds,
            self._pids[spec.parent],
            inside,
            self.sandbox_directory,
        )

    def _staged(self, spec: ContainerSpec, path: str) -> ContainerSpec:
        """Return what the containers beneath see: a process that stands for the container."""
        argv = (sys.executable, "-I", "-S", launcher_oci.__file__, path)
        return replace(
            spec,
            argv=argv,
            file=sys.executable,
            environment=(("LANG", "C.UTF-8"),),
            user=None,
            rlimits=(),
            info=b"",
            staged=True,
        )

    async def _until_ready(self, container: ContainerId, path: str) -> int:
        """Return the pid of the container's process when it runs. Raises L{ContainerError}."""
        pause = _FIRST_LOOK
        now = self._reactor.seconds()
        soon, deadline = now + SOON, now + READY
        while True:
            over = self._early.get(container)
            pid, why = self._provisions.state(path)
            if pid:
                return pid
            if over is not None:
                self.inner.forget(container)
                raise ContainerError(why or _early_end(*over))
            now = self._reactor.seconds()
            if now > deadline:
                await self.inner.destroy(container)
                self.inner.forget(container)
                raise ContainerError(f"it was not made within {READY:g} seconds")
            await deferLater(self._reactor, pause)
            if now > soon:
                pause = min(_LAST_LOOK, pause * 1.2)

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal; the stage hands it on."""
        self.inner.signal(container, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill all of it."""
        self.cancel(container)
        waiting = self._making.get(container)
        if waiting is None:
            return self.inner.destroy(container)
        made = Deferred[None]()
        waiting.append(made)
        return made.addCallback(lambda _: self.inner.destroy(container))

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Give it more or less."""
        return self.inner.update(container, allotment)

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Say what all use."""
        return self.inner.usage()

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Take over what an earlier agent has left; what belongs to no container is removed."""

        async def recover() -> RecoveredContainers:
            found = await self.inner.recover()
            pids = dict(found.running)
            stale = []
            for path, prepared in await self._in_thread(self._provisions.find):
                if path in self._paths.values():
                    continue
                if prepared is not None and prepared.container in (*found.running, *found.exited):
                    self._known[prepared.container] = path
                if prepared is None or prepared.container not in found.running:
                    stale.append(path)
                    continue
                pid, _ = self._provisions.state(path)
                pids[prepared.container] = pid or found.running[prepared.container]
                self._paths[prepared.container] = path
                self.store.pin_layers(prepared.container, prepared.layers)
                if prepared.inside:
                    self._inside[prepared.container] = prepared.inside
            for path in stale:
                await self._in_thread(partial(self._provisions.remove, path))
            self._pids.update(pids)
            self._begun.update(pids)
            return replace(found, running=pids)

        return Deferred.fromCoroutine(recover())

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of its end."""
        self._known.pop(container, None)
        self._pids.pop(container, None)
        self._begun.pop(container, None)
        self.inner.forget(container)

    def stop(self) -> "Deferred[None]":
        """Leave them to themselves."""
        self._stopping = True
        for work in list(self._pulling.values()):
            work.cancel()
        return self.inner.stop()

    def exited(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """For the containers beneath: one is over."""
        self._pids.pop(container, None)
        if container in self._making:
            self._early[container] = status, limitation
            return
        self._forget_path(container)
        self._exited(container, status, limitation)

    def _forget_path(self, container: ContainerId) -> "Deferred[None]":
        """Remove what lay ready for a container that is over."""
        self._inside.pop(container, None)
        self.store.release(container)
        path = self._paths.pop(container, None)
        if path is None:
            return succeed(None)

        def failed(reason: Failure) -> None:
            self.log.warn("removing {path}: {why}", path=path, why=reason.getErrorMessage())

        return self._in_thread(lambda: self._provisions.remove(path)).addErrback(failed)


def _early_end(status: int | None, limitation: Limitation | None) -> str:
    """Say how what makes a container has ended, which could not say so itself."""
    if limitation is not None:
        return f"what makes it took too much: {limitation.message}"
    how = "nobody knows how"
    if status is not None:
        number = os.waitstatus_to_exitcode(status)
        how = f"with status {number}" if number >= 0 else f"by signal {-number}"
    return f"what makes it ended before its process could begin: {how}"


def _make_logs(sandbox: str, credentials: Credentials | None) -> None:
    """
    Make C{stdout} and C{stderr} as the container's user: the launcher opens them as root, as
    which it starts the stage. Raises L{VolumeError}.
    """
    user = os.geteuid() if credentials is None else credentials.user
    directory = os.open(sandbox, _OPEN_DIRECTORY)
    try:
        for name in ("stdout", "stderr"):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                made = os.open(name, flags, 0o644, dir_fd=directory)
            except FileExistsError:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                good = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
                if not good or found.st_uid != user:
                    raise VolumeError(
                        f"{sandbox}/{name} is no file of the container's user alone"
                    ) from None
                continue
            if credentials is not None:
                os.fchown(made, credentials.user, credentials.group)
            os.close(made)
    finally:
        os.close(directory)
