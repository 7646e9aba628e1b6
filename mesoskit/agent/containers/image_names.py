"""What an image is called, and where an image of that name comes from.

Names are those of Docker: C{[registry/]repository[:tag][@digest]}
(https://github.com/distribution/reference). Nothing else is taken, so that a name is also a safe
part of a path.
"""

import json
import os
import re
import tarfile
from typing import Final, NamedTuple

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_PART}(?:/{_PART})*")
_REGISTRY: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

_MAX_ENTRIES: Final = 100_000
_MAX_JSON: Final = 4 << 20


class ImageError(Exception):
    """An image cannot be had; the message names it, and says what would help."""


class Reference(NamedTuple):
    """
    The name of an image, in its parts.

    @ivar registry: C{host[:port]}; L{None} where the name does not say.
    @ivar repository: C{library/busybox}.
    @ivar tag: L{None} only where there is a digest.
    @ivar digest: C{sha256:...}, or L{None}.
    """

    registry: str | None
    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        """Return the whole name."""
        text = self.repository if self.registry is None else f"{self.registry}/{self.repository}"
        if self.tag is not None:
            text += f":{self.tag}"
        return text if self.digest is None else f"{text}@{self.digest}"


def parse_reference(name: str) -> Reference:
    """Read an image's name; without tag and digest it is C{latest}. Raises L{ImageError}."""
    rest, at, digest = name.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ImageError(f"image {name!r}: 'sha256:' and 64 hexadecimal digits are wanted after @")
    first, slash, after = rest.partition("/")
    registry = None
    if slash and ("." in first or ":" in first or first == "localhost"):
        if not _REGISTRY.fullmatch(first):
            raise ImageError(f"image {name!r}: {first!r} is no name of a registry")
        registry, rest = first, after
    repository, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(f"image {name!r}: {tag!r} is no tag")
    if len(repository) > 255 or not _REPOSITORY.fullmatch(repository):
        raise ImageError(
            f"image {name!r}: a name such as busybox:1.36 or registry.example.com/team/app:1.0"
            " is wanted, in small letters"
        )
    given = tag if colon else (None if at else "latest")
    return Reference(registry, repository, given, digest if at else None)


def is_folder(registry: str) -> bool:
    """Tell whether C{--docker_registry} names a folder and no server."""
    return registry.startswith(("/", "file://"))


def registry_source(registry: str, reference: Reference) -> tuple[str, bool]:
    """
    Return what skopeo calls an image of a server, and whether the server speaks plain HTTP.

    @param registry: C{--docker_registry}, for names that do not say.
    """
    plain = False
    host = reference.registry
    repository = reference.repository
    if host is None:
        plain = registry.startswith("http://")
        host = registry.partition("://")[2] or registry
        host = host.rstrip("/")
        if host in ("registry-1.docker.io", "index.docker.io", "docker.io"):
            host = "docker.io"
            if "/" not in repository:
                repository = f"library/{repository}"
    # skopeo takes either, and of both the digest says more.
    last = f"@{reference.digest}" if reference.digest else f":{reference.tag}"
    return f"docker://{host}/{repository}{last}", plain


def folder_source(folder: str, reference: Reference, scratch: str) -> str:
    """
    Return what skopeo calls an image that lies in a folder. Raises L{ImageError}.

    There it is, as C{docker save} or C{skopeo copy} made it, an archive (C{<name>:<tag>.tar} or
    C{<name>.tar}) or an OCI layout (a directory C{<name>:<tag>}, or C{<name>} with the tag as its
    reference); or the folder itself is an OCI layout with C{<name>:<tag>} in it.

    @param scratch: an empty directory; what skopeo cannot name as it is gets a link there.
    """
    folder = folder.removeprefix("file://").rstrip("/") or "/"
    full = str(reference)
    tagged = full.partition("@")[0]
    plain = tagged if reference.tag is None else tagged[: -len(reference.tag) - 1]
    for name in dict.fromkeys((full, tagged, plain)):
        path = os.path.join(folder, name)
        if os.path.isfile(path + ".tar"):
            if reference.digest is not None:
                raise ImageError(
                    f"{path}.tar is an archive, which has no digest: leave out @{reference.digest},"
                    " or make it an OCI layout"
                )
            kind, index = _archive(path + ".tar", reference)
            return f"{kind}:{_without_colon(path + '.tar', scratch)}{index}"
        if os.path.isfile(os.path.join(path, "index.json")):
            wanted = reference.tag or "latest", tagged, full
            return f"oci:{_without_colon(path, scratch)}:{_named(path, wanted, reference)}"
    if os.path.isfile(os.path.join(folder, "index.json")):
        wanted = tagged, full, plain
        return f"oci:{_without_colon(folder, scratch)}:{_named(folder, wanted, reference)}"
    raise ImageError(
        f"there is no image {full!r} in {folder}: {tagged}.tar or {plain}.tar (from docker save"
        " or skopeo copy), or an OCI layout of that name is wanted there"
    )


def _without_colon(path: str, scratch: str) -> str:
    """Return a name of a path that skopeo can read: it stops at the first colon."""
    if ":" not in path:
        return path
    link = os.path.join(scratch, "source")
    os.symlink(path, link)
    return link


def _named(path: str, wanted: tuple[str, ...], reference: Reference) -> str:
    """Return the reference by which an OCI layout knows an image. Raises L{ImageError}."""
    try:
        with open(os.path.join(path, "index.json"), "rb") as file:
            index = json.loads(file.read(_MAX_JSON))
        digests = {
            each.get("annotations", {}).get("org.opencontainers.image.ref.name", ""): each["digest"]
            for each in index["manifests"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"the OCI layout {path} cannot be read: {error!r}") from error
    names = list(digests)
    found = next((name for name in wanted if name in digests), None)
    if reference.digest is not None:
        # A digest alone says which: it needs no name, and must be no other one's.
        named = [name for name, digest in digests.items() if digest == reference.digest]
        if found is None and reference.tag is None and named:
            found = named[0]
        if found is not None and digests[found] != reference.digest:
            raise ImageError(
                f"the OCI layout {path} holds {digests[found]} as {found!r}, not the"
                f" {reference.digest} that is asked for"
            )
    if found is not None:
        return found
    if names == [""] and reference.digest in (None, digests[""]):
        return ""
    raise ImageError(
        f"the OCI layout {path} holds no image {wanted[0]!r}, but {', '.join(map(repr, names))}"
    )


def _archive(path: str, reference: Reference) -> tuple[str, str]:
    """Return of what kind an archive is, and which of its images is meant. Raises ImageError."""
    try:
        with tarfile.open(path) as archive:
            for count, member in enumerate(archive):
                name = member.name.removeprefix("./")
                if name == "oci-layout":
                    return "oci-archive", ""
                if name == "manifest.json":
                    found = archive.extractfile(member)
                    manifests = json.loads(b"" if found is None else found.read(_MAX_JSON))
                    return "docker-archive", _index(manifests, reference)
                if count > _MAX_ENTRIES:
                    break
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise ImageError(f"the image archive {path} cannot be read: {error}") from error
    raise ImageError(
        f"{path} is no image: it holds neither manifest.json (docker save) nor oci-layout"
    )


def _index(manifests: object, reference: Reference) -> str:
    if not isinstance(manifests, list) or len(manifests) < 2:
        return ""
    names = {str(reference), f"{reference.repository}:{reference.tag}"}
    for number, manifest in enumerate(manifests):
        if isinstance(manifest, dict) and names & set(manifest.get("RepoTags") or ()):
            return f":@{number}"
    return ""
