"""The images that an agent has: pulled once, their layers unpacked once and shared.

    <store>/images/<digest of the name>.json    what the image of a name is
    <store>/layers/<part of its diff id>/       a layer, unpacked; two images share what is the same
    <store>/pulls/                              what is not done yet; cleared at start

skopeo(1) brings images and checks them against their digests, umoci(1) unpacks them. Both work
below C{pulls}, and what is done is moved to its place: a store has nothing half in it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    DeferredSemaphore,
    fail,
    succeed,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.containers.image_layers import (
    hide,
    is_zstandard,
    layout_of,
    read_layer,
    room_for,
    too_large,
)
from mesoskit.agent.containers.image_names import (
    ImageError,
    Reference,
    folder_source,
    is_folder,
    parse_reference,
    registry_source,
)
from mesoskit.agent.containers.image_tools import find_tool, run_tool
from mesoskit.agent.images import DOCKER_HUB
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId
from mesoskit.web.timer import Timer

MAX_CONFIG: Final = 4 << 20
MAX_LAYERS: Final = 127
"""As in Docker; the kernel's limit is not far above."""

POLICY: Final = "/etc/containers/policy.json"

_METRIC: Final = "containerizer/mesos/provisioner/docker_store/image_pull_ms"

_NAME: Final = 24  # of a layer's diff id: so short that 127 of them fit into one mount(2)


@dataclass(slots=True, frozen=True)
class StoredImage:
    """
    An image that is there.

    @ivar name: as it was asked for, in full.
    @ivar digest: of its manifest.
    @ivar layers: names of directories in C{layers}, the lowest first.
    @ivar config: the C{config} of its OCI configuration: C{Env}, C{Cmd}, C{Entrypoint} ...
    """

    name: str
    digest: str
    layers: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Pull:
    """Who waits for a pull, and hears how far it is."""

    work: "Deferred[Any] | None" = None
    waiting: "list[Deferred[StoredImage]]" = field(default_factory=list)
    progress: "list[Callable[[str], None]]" = field(default_factory=list)


class ImageStore:
    """
    A store of images.

    @ivar directory: C{--docker_store_dir}.
    @ivar registry: C{--docker_registry}: where images come from whose name does not say; a server
        (C{https://host}), or a folder (L{mesoskit.agent.containers.image_names.folder_source}).
    @ivar timeout: seconds that a pull may take.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        in_thread: InThread,
        directory: str,
        registry: str = DOCKER_HUB,
        *,
        authentication: str | None = None,
        timeout: float = 3600.0,
        stall: float = 60.0,
        concurrency: int = 4,
    ) -> None:
        """
        @param reactor: with time and processes.
        @param stall: seconds after which a pull from a registry is given up that brings nothing.
        @param authentication: C{--docker_config}, as JSON.
        @param concurrency: how many images are pulled at a time.
        """
        self.directory = os.path.realpath(directory)
        self.registry = registry
        self.timeout = timeout
        self.stall = stall
        self._reactor = reactor
        self._in_thread = in_thread
        self._authentication = authentication
        self._places = DeferredSemaphore(concurrency)
        self._unpacking = DeferredLock()
        self._pulls: dict[str, _Pull] = {}
        self._pinned: dict[ContainerId, dict[str, StoredImage]] = {}
        self._took = Timer(_METRIC, reactor.seconds)
        self._pruning = False
        self._after_pruning: list[Deferred[None]] = []

    @property
    def layers(self) -> str:
        """The directory of all layers."""
        return os.path.join(self.directory, "layers")

    def metrics(self) -> dict[str, float]:
        """Return how long pulls took that have succeeded, under Mesos' name."""
        return self._took.metrics()

    def start(self) -> "Deferred[None]":
        """Make the directories; what an earlier agent has not done is removed."""

        def prepare() -> None:
            pulls = os.path.join(self.directory, "pulls")
            shutil.rmtree(pulls, ignore_errors=True)
            for path in (self.directory, os.path.join(self.directory, "images"), pulls):
                os.makedirs(path, 0o700, exist_ok=True)
            # A container's user walks through it, by its root file system; by no other way.
            os.makedirs(self.layers, 0o755, exist_ok=True)

        return self._in_thread(prepare)

    # Having images

    def get(
        self,
        name: str,
        container: ContainerId | None = None,
        *,
        cached: bool = True,
        credentials: str | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> "Deferred[StoredImage]":
        """
        Give an image, pulled where it is not there. Fails with L{ImageError}; cancelled, nobody
        waits for it any more, and the pull is given up where nobody else does.

        @param container: for whom; the image is not removed before L{release}.
        @param cached: whether one that is there is good (C{Image.cached}).
        @param credentials: the JSON of a C{config.json} of Docker, with what a registry wants.
        @param progress: told now and then how far a pull is.
        """
        try:
            reference = parse_reference(name)
        except ImageError as error:
            return fail(error)
        if self._pruning:
            # What is there now may be gone in a moment.
            again = Deferred[None]()
            self._after_pruning.append(again)
            return again.addCallback(
                lambda _: self.get(
                    name, container, cached=cached, credentials=credentials, progress=progress
                )
            )
        key = str(reference)
        pull = self._pulls.get(key)
        found = self._load(key) if cached and pull is None else None
        if found is not None:
            self._pin(container, found)
            return succeed(found)
        if pull is not None:
            return self._wait(key, pull, container, progress)
        pull = self._pulls[key] = _Pull()
        waiter = self._wait(key, pull, container, progress)
        work = Deferred.fromCoroutine(self._pull(key, reference, credentials))
        pull.work = work
        work.addBoth(lambda result: self._pulled(result, key, pull))
        return waiter

    def _wait(
        self,
        key: str,
        pull: _Pull,
        container: ContainerId | None,
        progress: Callable[[str], None] | None,
    ) -> "Deferred[StoredImage]":
        def give_up(waiter: "Deferred[StoredImage]") -> None:
            pull.waiting.remove(waiter)
            if not pull.waiting and pull.work is not None:
                if self._pulls.get(key) is pull:
                    del self._pulls[key]  # who comes now begins anew
                pull.work.cancel()
            waiter.errback(ImageError("the pull was given up"))

        waiter: Deferred[StoredImage] = Deferred(give_up)
        pull.waiting.append(waiter)
        if progress is not None:
            pull.progress.append(progress)

        def pin(image: StoredImage) -> StoredImage:
            self._pin(container, image)
            return image

        return waiter.addCallback(pin)

    def _pulled(self, result: "StoredImage | Failure", key: str, pull: _Pull) -> None:
        if self._pulls.get(key) is pull:
            del self._pulls[key]
        waiting, pull.waiting = pull.waiting, []
        if isinstance(result, Failure) and not isinstance(result.value, ImageError):
            if not isinstance(result.value, CancelledError):
                self.log.failure("pulling {name}", failure=result, name=key)
            why = f"image {key!r}: {result.getErrorMessage()}"
            result = Failure(ImageError(why))  # type: ignore[no-untyped-call]
        for waiter in waiting:
            waiter.callback(result)

    def release(self, container: ContainerId) -> None:
        """A container is gone: it needs no image any more."""
        self._pinned.pop(container, None)

    def _pin(self, container: ContainerId | None, image: StoredImage) -> None:
        if container is not None:
            self._pinned.setdefault(container, {})[image.name] = image

    def pin_layers(self, container: ContainerId, layers: Iterable[str]) -> None:
        """A container of an earlier agent still runs on these layers."""
        image = StoredImage(f"container {container}", "", tuple(layers))
        self._pinned.setdefault(container, {})[image.name] = image

    def _record(self, name: str) -> str:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return os.path.join(self.directory, "images", f"{digest}.json")

    def _load(self, name: str) -> StoredImage | None:
        """Return what is there of a name, if all of it is."""
        try:
            with open(self._record(name), "rb") as file:
                image = _image(json.loads(file.read(MAX_CONFIG)))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        there = all(os.path.isdir(os.path.join(self.layers, layer)) for layer in image.layers)
        return image if there and image.name == name else None

    # Pulling

    async def _pull(self, name: str, reference: Reference, credentials: str | None) -> StoredImage:
        skopeo, umoci = find_tool("skopeo"), find_tool("umoci")
        # A name that is new: a skopeo of an agent that was killed may still write to an old one.
        scratch = os.path.join(self.directory, "pulls", os.urandom(8).hex())
        os.makedirs(scratch, 0o700)
        began = self._reactor.seconds()
        try:
            await self._places.acquire()
            try:
                layout = os.path.join(scratch, "image")
                await self._copy(skopeo, name, reference, credentials, scratch, layout)
                image = await self._take(umoci, name, scratch, layout)
                self._took.add(self._reactor.seconds() - began)
                return image
            finally:
                self._places.release()
        except ImageError as error:
            raise ImageError(f"image {name!r}: {error}") from error
        except OSError as error:
            raise ImageError(f"image {name!r}: {error.filename}: {error.strerror}") from error
        finally:
            await self._in_thread(lambda: shutil.rmtree(scratch, ignore_errors=True))

    async def _copy(
        self,
        skopeo: str,
        name: str,
        reference: Reference,
        credentials: str | None,
        scratch: str,
        layout: str,
    ) -> None:
        options = ["--dest-oci-accept-uncompressed-layers", "--remove-signatures"]
        if reference.registry is None and is_folder(self.registry):
            source = await self._in_thread(lambda: folder_source(self.registry, reference, scratch))
        else:
            registry = DOCKER_HUB if is_folder(self.registry) else self.registry
            source, plain = registry_source(registry, reference)
            if plain:
                options.append("--src-tls-verify=false")
            known = credentials or self._authentication
            if known:
                path = os.path.join(scratch, "auth.json")
                with open(path, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
                    f.write(known)
                options.append(f"--src-authfile={path}")
        policy = [] if os.path.exists(POLICY) else ["--insecure-policy"]
        arguments = [skopeo, *policy, "copy", *options, source, f"oci:{layout}:image"]
        work = run_tool(self._reactor, arguments, self.timeout, scratch)
        stalled: list[str] = []
        seen = (0, self._reactor.seconds())

        def look() -> None:
            nonlocal seen
            size, now = _size_of(layout), self._reactor.seconds()
            if size != seen[0]:
                seen = size, now
            elif source.startswith("docker://") and now - seen[1] > self.stall:
                stalled.append(f"nothing has come from the registry for {self.stall:g} seconds")
                work.cancel()
                return
            self._tell_progress(name, size)

        watching = LoopingCall(look)
        watching.clock = self._reactor
        watching.start(2.0, now=False).addErrback(lambda _: None)
        try:
            await work
        except CancelledError:
            if stalled:
                raise ImageError(stalled[0]) from None
            raise
        finally:
            watching.stop()

    def _tell_progress(self, name: str, size: int) -> None:
        pull = self._pulls.get(name)
        if pull is None:
            return
        text = f"Pulling image {name}: {size / (1 << 20):.1f} MB so far"
        for tell in pull.progress:
            tell(text)

    async def _take(self, umoci: str, name: str, scratch: str, layout: str) -> StoredImage:
        """Unpack what is new of an image that was brought, and note it."""
        digest, manifest, config = await self._in_thread(lambda: _read_layout(layout))
        descriptors = manifest["layers"]
        diff_ids = config.get("rootfs", {}).get("diff_ids") or []
        if len(descriptors) != len(diff_ids) or not 0 < len(diff_ids) <= MAX_LAYERS:
            raise ImageError(
                f"{len(descriptors)} layers and {len(diff_ids)} diff ids: of both the same number"
                f" is wanted, from 1 to {MAX_LAYERS}"
            )
        names = []
        for descriptor, diff_id in zip(descriptors, diff_ids, strict=True):
            work = self._unpack(umoci, descriptor, diff_id, scratch, layout)
            names.append(await self._unpacking.run(Deferred.fromCoroutine, work))
        image = StoredImage(name, digest, tuple(names), config.get("config") or {})
        await self._in_thread(lambda: self._note(image))
        return image

    async def _unpack(
        self, umoci: str, descriptor: dict[str, Any], diff_id: str, scratch: str, layout: str
    ) -> str:
        name = _hexadecimal(diff_id)[:_NAME]
        target = os.path.join(self.layers, name)
        if os.path.isdir(target):
            return name
        digest = descriptor["digest"]
        blob = os.path.join(layout, "blobs", "sha256", _hexadecimal(digest))
        room = room_for(self.directory)
        if is_zstandard(blob):
            # As it is unpacked its digest is the diff id, which umoci checks.
            blob, digest = await self._decompress(blob, digest, scratch, room), diff_id
        hidden = await self._in_thread(lambda: read_layer(blob, digest, room))
        work = os.path.join(scratch, name)
        await self._in_thread(lambda: layout_of(digest, blob, diff_id, work))
        root = os.path.join(work, "root")
        arguments = [umoci, "raw", "unpack", "--image", f"{work}:layer", root]
        try:
            await run_tool(self._reactor, arguments, self.timeout, scratch)
        except ImageError as error:
            raise ImageError(f"layer {digest} cannot be unpacked: {error}") from error

        def finish() -> None:
            hide(root, hidden, digest)
            os.chmod(root, 0o755)
            os.rename(root, target)

        await self._in_thread(finish)
        return name

    async def _decompress(self, blob: str, layer: str, scratch: str, room: int) -> str:
        """Return the path of what a blob of zstd holds, which may be no larger than C{room}."""
        zstd = find_tool("zstd")
        path = os.path.join(scratch, "layer.tar")
        limited = 'ulimit -f "$1" && shift && exec "$@"'  # in blocks of 512 bytes
        arguments = ["/bin/sh", "-c", limited, "sh", str(room // 512)]
        arguments += [zstd, "-dqf", "-o", path, blob]
        try:
            await run_tool(self._reactor, arguments, self.timeout, scratch)
        except ImageError as error:
            if "signal 25" in str(error):  # SIGXFSZ
                raise too_large(layer, room) from error
            raise ImageError(f"layer {layer} cannot be decompressed: {error}") from error
        return path

    def _note(self, image: StoredImage) -> None:
        path = self._record(image.name)
        with open(path + ".new", "w") as file:
            json.dump(asdict(image), file)
        os.rename(path + ".new", path)

    # Removing

    def images(self) -> "Deferred[list[StoredImage]]":
        """Give all images that are there."""
        return self._in_thread(self._images)

    def _images(self) -> list[StoredImage]:
        found = []
        for entry in os.scandir(os.path.join(self.directory, "images")):
            try:
                with open(entry.path, "rb") as file:
                    found.append(_image(json.loads(file.read(MAX_CONFIG))))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def prune(self, excluded: Iterable[str] = ()) -> "Deferred[list[str]]":
        """
        Remove images that no container uses and that are not excluded; give their names.

        Layers go with the last image that has them. Nothing is pulled in the meantime.
        """
        kept = set()
        for name in excluded:
            try:
                kept.add(str(parse_reference(name)))
            except ImageError:
                continue

        def prune() -> "Deferred[list[str]]":
            pinned = [image for images in self._pinned.values() for image in images.values()]
            names = kept | {image.name for image in pinned} | set(self._pulls)
            layers = {layer for image in pinned for layer in image.layers}
            # What pulls have unpacked so far belongs to no image yet.
            known = None if self._pulls else layers
            self._pruning = True
            return self._in_thread(lambda: self._prune(names, known)).addBoth(over)

        def over(result: Any) -> Any:
            self._pruning = False
            waiting, self._after_pruning = self._after_pruning, []
            for waiter in waiting:
                waiter.callback(None)
            return result

        return self._unpacking.run(prune)

    def _prune(self, names: set[str], layers: set[str] | None) -> list[str]:
        removed = []
        kept = set() if layers is None else set(layers)
        for image in self._images():
            if image.name in names:
                kept.update(image.layers)
            else:
                os.unlink(self._record(image.name))
                removed.append(image.name)
        if layers is not None:
            for entry in os.scandir(self.layers):
                if entry.name not in kept:
                    away = os.path.join(self.directory, "pulls", f"removed-{entry.name}")
                    os.rename(entry.path, away)
                    shutil.rmtree(away, ignore_errors=True)
        return removed


def _size_of(layout: str) -> int:
    """Return the bytes that an OCI layout has so far; skopeo writes beside its blobs first."""
    size = 0
    for path in (os.path.join(layout, "blobs", "sha256"), layout):
        try:
            for entry in os.scandir(path):
                if entry.is_file(follow_symlinks=False):
                    size += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return size


def _read_layout(layout: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return digest and content of a layout's manifest, and its configuration."""

    def read(path: str) -> Any:
        with open(path, "rb") as file:
            return json.loads(file.read(MAX_CONFIG))

    try:
        blobs = os.path.join(layout, "blobs", "sha256")
        digest = read(os.path.join(layout, "index.json"))["manifests"][0]["digest"]
        manifest = read(os.path.join(blobs, _hexadecimal(digest)))
        config = read(os.path.join(blobs, _hexadecimal(manifest["config"]["digest"])))
        if not isinstance(manifest["layers"], list) or not isinstance(config, dict):
            raise TypeError("a list of layers and a configuration are wanted")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ImageError(f"its manifest cannot be read: {error!r}") from error
    return digest, manifest, config


def _hexadecimal(digest: str) -> str:
    """Return the number in C{sha256:<number>}. Raises L{ImageError}."""
    kind, _, number = digest.partition(":")
    if kind != "sha256" or len(number) != 64 or set(number) - set("0123456789abcdef"):
        raise ImageError(f"{digest!r} is no digest that is known here: sha256 is")
    return number


def _image(stored: dict[str, Any]) -> StoredImage:
    return StoredImage(stored["name"], stored["digest"], tuple(stored["layers"]), stored["config"])
