"""What a container sees besides its image and its sandbox: the volumes of its C{ContainerInfo}.

As Mesos' isolators C{volume/host_path}, C{volume/sandbox_path}, C{volume/image}, C{volume/secret}
and C{filesystem/linux} read them. Nothing is mounted here: what is to be mounted where is said,
or why it cannot be.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mesoskit.agent.containers.image_names import ImageError
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image, MountPropagation, Secret, Volume

_SOURCE: Final = Volume.Source


class VolumeError(Exception):
    """A volume cannot be had; the message says which, and what would be right."""


@dataclass(slots=True, frozen=True)
class Bound:
    """
    Something that is mounted into a container. One of the sources is given.

    @ivar target: where; absolute, or relative to the sandbox.
    @ivar read_only: whether it cannot be written to there.
    @ivar path: a path of the machine.
    @ivar sandboxed: a path of a sandbox, in which no symbolic link is followed.
    @ivar secret: what the file in its place holds.
    @ivar image: what is laid there.
    @ivar follow: whether what the machine mounts below the path later is seen too.
    """

    target: str
    read_only: bool = False
    path: str | None = None
    sandboxed: str | None = None
    secret: bytes | None = None
    image: Image | None = None
    follow: bool = False


def surrounding(sandbox: str, work_dir: str = "") -> str | None:
    """
    Return the sandbox that another one is in: its executor's, or of what it is nested in.

    @param work_dir: the agent's, in which are those of containers that stand alone.
    """
    above, _, name = sandbox.rpartition("/containers/")
    return above if above and "/" not in name and above != work_dir else None


def bound_volumes(
    info: ContainerInfo,
    sandbox: str,
    parent: str | None = None,
    creatable: Sequence[str] = (),
) -> list[Bound]:
    """
    Return what a container's volumes ask for, in their order. Raises L{VolumeError}.

    @param sandbox: of the container itself.
    @param parent: the sandbox of the container that it is nested in, where it is.
    @param creatable: directories below which paths of the machine are made where they are not
        there (C{--host_path_volume_force_creation}).
    """
    bounds = []
    targets: set[str] = set()
    for volume in info.volumes:
        bound = _bound(volume, sandbox, parent)
        if bound.target in targets:
            raise VolumeError(f"two volumes have the container_path {volume.container_path!r}")
        targets.add(bound.target)
        bounds.append(bound)
        if bound.path is not None and not os.path.exists(bound.path):
            _create(bound.path, creatable)
    return bounds


def _create(path: str, creatable: Sequence[str]) -> None:
    """Make a directory of the machine where that is allowed. Raises L{VolumeError}."""
    plain = os.path.normpath(path)
    for root in creatable:
        if plain.startswith(root.rstrip("/") + "/"):
            # Others may write below: no link leads root elsewhere.
            make_directory(root, plain, None)
            return
    why = f"Path {path!r} in HOST_PATH volume does not exist"
    if creatable:
        why += f" and is not below {' or '.join(creatable)}, where it would be made"
    raise VolumeError(why)


def _bound(volume: Volume, sandbox: str, parent: str | None) -> Bound:
    target = checked_target(volume.container_path)
    read_only = volume.mode == Volume.RO
    if volume.HasField("image"):
        return Bound(target, read_only, image=volume.image)
    if volume.HasField("host_path"):
        if volume.host_path.startswith("/"):
            return _host_path(target, read_only, volume.host_path, MountPropagation.UNKNOWN)
        return Bound(target, read_only, sandboxed=_inside(sandbox, volume.host_path))
    source = volume.source
    if source.type == _SOURCE.HOST_PATH:
        mode = source.host_path.mount_propagation.mode
        if not source.host_path.path.startswith("/"):
            raise VolumeError(
                f"the HOST_PATH {source.host_path.path!r} is relative: an absolute path is wanted,"
                " or a SANDBOX_PATH"
            )
        return _host_path(target, read_only, source.host_path.path, mode)
    if source.type == _SOURCE.SANDBOX_PATH:
        return Bound(target, read_only, sandboxed=_sandbox_path(source, sandbox, parent))
    if source.type == _SOURCE.SECRET:
        if source.secret.type != Secret.VALUE:
            raise VolumeError(
                f"the secret of volume {target!r} is a reference, and this agent has nobody to ask"
                " for it: give it by value"
            )
        return Bound(target, True, secret=source.secret.value.data)
    name = _SOURCE.Type.Name(source.type)
    raise VolumeError(
        f"volume {target!r} is of type {name}, which this agent does not have: HOST_PATH,"
        " SANDBOX_PATH, SECRET and images are known"
    )


def checked_target(path: str) -> str:
    """Return a C{container_path} in its plain form. Raises L{VolumeError}."""
    if not path or "\0" in path or ".." in path.split("/"):
        raise VolumeError(
            f"container_path {path!r}: a path without '..' is wanted, relative to the sandbox or"
            " absolute"
        )
    plain = os.path.normpath(path)
    if plain in (".", "/", "//"):
        raise VolumeError(f"container_path {path!r}: nothing can be mounted over all of it")
    return plain


def _host_path(target: str, read_only: bool, path: str, mode: int) -> Bound:
    if mode == MountPropagation.BIDIRECTIONAL:
        raise VolumeError(
            f"volume {target!r}: BIDIRECTIONAL mount propagation is not known here, only"
            " HOST_TO_CONTAINER"
        )
    if "\0" in path:
        raise VolumeError(f"Path {path!r} in HOST_PATH volume does not exist")
    follow = mode == MountPropagation.HOST_TO_CONTAINER
    return Bound(target, read_only, path=path, follow=follow)


def _sandbox_path(source: Volume.Source, sandbox: str, parent: str | None) -> str:
    path = source.sandbox_path
    if path.type == path.PARENT:
        if parent is None:
            raise VolumeError(
                f"SANDBOX_PATH {path.path!r} of type PARENT: the container is nested in no other"
            )
        return _inside(parent, path.path)
    if path.type != path.SELF:
        raise VolumeError(f"SANDBOX_PATH {path.path!r}: its type is neither SELF nor PARENT")
    return _inside(sandbox, path.path)


def _inside(sandbox: str, path: str) -> str:
    if not path or path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise VolumeError(
            f"the path {path!r} of a volume leads out of the sandbox: a relative path without"
            " '..' is wanted"
        )
    return os.path.normpath(os.path.join(sandbox, path))


def make_directory(sandbox: str, path: str, owner: tuple[int, int] | None) -> None:
    """
    Make a directory in a sandbox, with what is missing above it, following no symbolic link.

    @param owner: numbers of user and group.
    Raises L{VolumeError}.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = -1
    try:
        descriptor = os.open(sandbox, flags)
        for name in os.path.relpath(path, sandbox).split("/"):
            if name == ".":
                continue
            made = False
            try:
                os.mkdir(name, 0o755, dir_fd=descriptor)
                made = True
            except FileExistsError:
                pass
            deeper = os.open(name, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
            # Where somebody has replaced it, it is not ours any more.
            if made and owner is not None and os.fstat(descriptor).st_uid == os.geteuid():
                os.chown(f"/proc/self/fd/{descriptor}", *owner)
    except OSError as error:
        raise VolumeError(f"volume {path!r}: {error.strerror}") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def target_beside(
    sandbox: str, target: str, is_directory: bool, owner: tuple[int, int] | None
) -> str:
    """
    Return where something is mounted for a container that sees the machine's files.

    In its sandbox the place is made; elsewhere it has to be there. Raises L{VolumeError}.

    @param owner: numbers of user and group.
    """
    if target.startswith("/"):
        found = os.path.realpath(target)
        if not os.path.exists(found):
            raise VolumeError(
                f"container_path {target!r} does not exist on this machine, whose files a container"
                " without an image sees: make it, or give a path relative to the sandbox"
            )
        if os.path.isdir(found) != is_directory:
            raise VolumeError(
                f"container_path {target!r}: of file and directory both must be the same"
            )
        return found
    path = os.path.join(sandbox, target)
    if is_directory:
        make_directory(sandbox, path, owner)
        return path
    make_directory(sandbox, os.path.dirname(path), owner)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        parent = os.open(os.path.dirname(path), flags)
    except OSError as error:
        raise VolumeError(f"volume {path!r}: {error.strerror}") from error
    try:
        name = os.path.basename(path)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=parent))
    except FileExistsError:
        pass
    finally:
        os.close(parent)
    return path


def image_name(image: Image, providers: Sequence[str]) -> str:
    """
    Return what an image is called, where a provider for it is there. Raises L{ImageError}.

    @param providers: C{--image_providers}.
    """
    if image.type != Image.DOCKER:
        raise ImageError(
            f"appc image {image.appc.name!r}: the format is given up by its makers; use a DOCKER"
            " image, which may come from an OCI layout"
        )
    if not {"docker", "oci"} & set(providers):
        raise ImageError(
            f"image {image.docker.name!r}: this agent has no images; start it with"
            " --image_providers=docker"
        )
    return image.docker.name


def credentials_of(image: Image) -> str | None:
    """Return what a registry wants to see, as JSON. Raises L{ImageError}."""
    if not image.docker.HasField("config"):
        return None
    if image.docker.config.type != Secret.VALUE:
        raise ImageError(
            f"image {image.docker.name!r}: its config is a reference to a secret, and this agent"
            " has nobody to ask for it: give it by value"
        )
    return image.docker.config.value.data.decode("utf-8", "replace")


def images_of(info: ContainerInfo) -> Iterable[Image]:
    """Return all images that a container needs: its own first, then those of volumes."""
    if info.type == ContainerInfo.MESOS and info.mesos.HasField("image"):
        yield info.mesos.image
    for volume in info.volumes:
        if volume.HasField("image"):
            yield volume.image
