"""A layer of an image, unpacked so that the kernel can lay it upon others (overlayfs).

umoci(1) unpacks: owners, modes, attributes, devices, and nothing outside of the directory that
it is given, whatever links are in the layer. A layer also says what of those below it is not to
be seen any more (C{.wh.<name>}, C{.wh..wh..opq},
https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts); the kernel wants to be
told by a device 0/0 in the place of the name and by an attribute of the directory.
"""

import hashlib
import json
import os
import stat
import tarfile
from typing import Any, Final, NamedTuple

from mesoskit.agent.containers.image_names import ImageError

MAX_ENTRIES: Final = 2_000_000
MAX_BYTES: Final = 64 << 30
"""Of all files in a layer, unpacked; or less, where the disk has no room for as much."""

ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
"""What such a file begins with (RFC 8878)."""

_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Hidden(NamedTuple):
    """
    What a layer hides of those below.

    @ivar names: paths that are not there any more.
    @ivar opaque: directories of which nothing from below is to be seen.
    """

    names: tuple[str, ...]
    opaque: tuple[str, ...]


def is_zstandard(path: str) -> bool:
    """Tell whether a layer is compressed so that Python and umoci cannot read it."""
    with open(path, "rb") as file:
        return file.read(len(ZSTANDARD)) == ZSTANDARD


def room_for(directory: str) -> int:
    """
    Return how many bytes of files a layer may have that is unpacked there, as far as the file
    system says how large it is.
    """
    found = os.statvfs(directory)
    return min(MAX_BYTES, found.f_bavail * found.f_frsize) if found.f_blocks else MAX_BYTES


def read_layer(path: str, layer: str, room: int = MAX_BYTES) -> Hidden:
    """
    Read through a layer's archive: what does it hide, is it whole, does it stay within itself?

    Takes as long as decompressing it does. Raises L{ImageError}.

    @param room: bytes that its files may have.
    """
    names, opaque = [], []
    size = count = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                count += 1
                size += member.size
                if count > MAX_ENTRIES:
                    raise ImageError(f"layer {layer} has more than {MAX_ENTRIES} entries")
                if size > room:
                    raise too_large(layer, room)
                _check(member, layer)
                directory, _, name = member.name.rstrip("/").rpartition("/")
                if name == _OPAQUE:
                    opaque.append(directory)
                elif name.startswith(_WHITEOUT) and not name.startswith(_WHITEOUT * 2):
                    hidden = name[len(_WHITEOUT) :]
                    if hidden in ("", ".", ".."):
                        raise ImageError(f"layer {layer}: the entry {member.name!r} hides no name")
                    names.append(f"{directory}/{hidden}")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ImageError(
            f"layer {layer} is damaged, or compressed otherwise than with gzip or zstd ({error}):"
            " build or pull the image again"
        ) from error
    except Exception as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"layer {layer} is damaged: {error}") from error  # zlib.error
    return Hidden(tuple(names), tuple(opaque))


def too_large(layer: str, room: int) -> ImageError:
    """Return what is raised where a layer needs more room than there is."""
    return ImageError(
        f"layer {layer} is larger than {room >> 20} MiB when it is unpacked, which is the room that"
        " the image store has for it (--docker_store_dir)"
    )


def _check(member: tarfile.TarInfo, layer: str) -> None:
    """Refuse what would lead out of the image. (umoci would keep it within, at another place.)"""
    paths = [member.name] + ([member.linkname] if member.islnk() else [])
    for path in paths:
        if ".." in path.split("/"):
            raise ImageError(
                f"layer {layer} holds the entry {path!r}, which leads out of the image:"
                " such an image is not run; build it without '..'"
            )


def layout_of(layer: str, blob: str, diff_id: str, directory: str) -> None:
    """Make an OCI layout of one layer, which umoci can unpack by itself."""
    blobs = os.path.join(directory, "blobs", "sha256")
    os.makedirs(blobs)
    os.link(blob, os.path.join(blobs, layer.partition(":")[2]))
    with open(blob, "rb") as file:
        packed = "+gzip" if file.read(2) == b"\x1f\x8b" else ""
    # skopeo calls an archive packed that it was told to leave as it is.
    media_type = f"application/vnd.oci.image.layer.v1.tar{packed}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": _blob(blobs, config, "application/vnd.oci.image.config.v1+json"),
        "layers": [{"mediaType": media_type, "digest": layer, "size": os.stat(blob).st_size}],
    }
    kind = "application/vnd.oci.image.manifest.v1+json"
    index = {
        "schemaVersion": 2,
        "manifests": [
            _blob(blobs, manifest, kind)
            | {"annotations": {"org.opencontainers.image.ref.name": "layer"}}
        ],
    }
    for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(directory, name), "w") as file:
            json.dump(content, file)


def _blob(blobs: str, content: object, kind: str) -> dict[str, Any]:
    data = json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, name), "wb") as file:
        file.write(data)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}


def hide(root: str, hidden: Hidden, layer: str) -> None:
    """Tell the kernel what an unpacked layer hides. Raises L{ImageError}."""
    try:
        for path in hidden.names:
            parent = _open(root, path.rpartition("/")[0])
            try:
                _hide_name(path.rpartition("/")[2], parent)
            finally:
                os.close(parent)
        for path in hidden.opaque:
            directory = _open(root, path)
            try:
                _make_opaque(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise ImageError(f"layer {layer}: {path!r} cannot be hidden: {error.strerror}") from error


def _hide_name(name: str, parent: int) -> None:
    try:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
    except FileExistsError:
        # The layer brings its own; of a directory from below nothing may shine through.
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            directory = os.open(name, _DIRECTORY, dir_fd=parent)
            try:
                _make_opaque(directory)
            finally:
                os.close(directory)


def _make_opaque(directory: int) -> None:
    os.setxattr(f"/proc/self/fd/{directory}", "trusted.overlay.opaque", b"y")


def _open(root: str, path: str) -> int:
    """Open a directory of a layer, following no link; what is missing is made."""
    descriptor = os.open(root, _DIRECTORY)
    try:
        for name in path.split("/"):
            if name in ("", "."):
                continue
            try:
                deeper = os.open(name, _DIRECTORY, dir_fd=descriptor)
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=descriptor)
                deeper = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
