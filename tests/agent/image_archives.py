"""Images for tests, made on the spot: archives as C{docker save} makes them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

BUSYBOX = shutil.which("busybox", path="/bin:/usr/bin")

_APPLETS = "sh sleep cat ls echo id env ps touch mkdir rm true false kill pwd wc stat mount grep"

Entry = tuple[str, bytes | None]
"""A path, and what the file holds; None for a directory."""


def layer(
    entries: Iterable[Entry | tarfile.TarInfo], modes: Mapping[str, int] | None = None
) -> bytes:
    """Return a layer's archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            info = tarfile.TarInfo(name)
            info.mode = (modes or {}).get(name, 0o755)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str, hard: bool = False) -> tarfile.TarInfo:
    """Return a link as an entry of a layer."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    info.linkname = target
    return info


def busybox_layer() -> bytes:
    """Return a layer with a shell and a few commands in it."""
    assert BUSYBOX is not None
    directories = [(name, None) for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "root")]
    passwd = b"root:x:0:0:root:/root:/bin/sh\n"
    files: list[Entry] = [("bin/busybox", Path(BUSYBOX).read_bytes()), ("etc/passwd", passwd)]
    links = [link(f"bin/{name}", "busybox") for name in _APPLETS.split()]
    return layer([*directories, *files, *links], {"tmp": 0o1777})


def docker_archive(
    path: str,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> None:
    """Write an image as C{docker save} does."""
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]
    files = [("config.json", json.dumps(whole).encode()), *zip(names, layers, strict=True)]
    files.append(("manifest.json", json.dumps(manifest).encode()))
    Path(path).write_bytes(layer(files))


def oci_layout(
    path: str,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    tag: str = "latest",
    pack: Callable[[bytes], bytes] = lambda data: gzip.compress(data, 1),
    packed_as: str = "gzip",
) -> list[Path]:
    """Write an image as an OCI layout; return the files of its layers."""
    blobs = Path(path, "blobs", "sha256")
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    kind = "application/vnd.oci.image."
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
        },
    }
    packed = [blob(pack(data), f"{kind}layer.v1.tar+{packed_as}") for data in layers]
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(whole).encode(), f"{kind}config.v1+json"),
        "layers": packed,
    }
    described = blob(json.dumps(manifest).encode(), f"{kind}manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [described]}
    Path(path, "index.json").write_text(json.dumps(index))
    Path(path, "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return [blobs / str(each["digest"]).partition(":")[2] for each in packed]


def busy_images(folder: Path, **config: Any) -> dict[str, Any]:
    """Put an image C{busy} into a folder, made if it is not there; return an agent's flags."""
    folder.mkdir(exist_ok=True)
    docker_archive(f"{folder}/busy.tar", [busybox_layer()], {"Env": ["PATH=/bin"], **config})
    return {"image_providers": "docker", "docker_registry": str(folder)}
