"""Flags of the agent that say where images come from, and how long they stay."""

import json
from typing import TYPE_CHECKING, Any, Final

from mesoskit.flags import Flag, Values, boolean, text

if TYPE_CHECKING:
    from mesoskit.agent.images import ImageCollection, ImageSettings

PROVIDERS: Final = ("docker", "oci")
RUNTIMES: Final = ("crun", "runc")

_KNOWN: Final = {"image_disk_headroom", "image_disk_watch_interval", "excluded_images"}


def providers(value: str) -> tuple[str, ...]:
    """Read C{--image_providers}: names with commas between."""
    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if name == "appc":
            raise ValueError(
                "expected docker, oci or both; APPC images are given up by their makers, and"
                " nothing here can read them"
            )
        if name not in PROVIDERS:
            raise ValueError(f"expected docker, oci or both, not {name!r}")
    return names


def registry(value: str) -> str:
    """Read C{--docker_registry}: a server's URL, its host and port, or a folder."""
    rest = value.partition("://")[2] if "://" in value else value
    if not rest or " " in value or value.startswith(("hdfs://", "s3://")):
        raise ValueError(
            "expected https://host[:port] or http://host[:port] of a registry, or the absolute path"
            " of a folder with archives or OCI layouts"
        )
    return value


def container(value: str) -> bytes:
    """Read C{--default_container_info}: the JSON of a C{ContainerInfo}; return it serialized."""
    from mesoskit.messages import codec
    from mesoskit.messages.mesos_pb2 import ContainerInfo

    try:
        given = codec.from_dict(ContainerInfo, json.loads(value))
        return given.SerializeToString()
    except Exception as error:
        raise ValueError(
            'expected the JSON of a ContainerInfo, such as {"type": "MESOS", "volumes": [...]}:'
            f" {error}"
        ) from None


def without_secrets(value: str) -> str:
    """Return the JSON of a C{ContainerInfo} as it may be shown."""
    from mesoskit.messages import codec
    from mesoskit.messages.mesos_pb2 import ContainerInfo
    from mesoskit.model.secrets import hide_secrets

    if value.startswith("file://"):
        return value
    try:
        read = codec.from_dict(ContainerInfo, json.loads(value))
    except Exception:
        # What cannot be read may hold a secret as well.
        return "***"
    return codec.to_json(read).decode() if hide_secrets(read) else value


def runtime(value: str) -> str:
    """Read C{--oci_runtime}: crun or runc, or the absolute path of one."""
    name = value.rpartition("/")[2]
    if name not in RUNTIMES or not (value == name or value.startswith("/")):
        raise ValueError(f"expected {' or '.join(RUNTIMES)}, or the absolute path of one of these")
    return value


def collection(value: str) -> "ImageCollection":
    """Read C{--image_gc_config}: the JSON of Mesos' C{ImageGcConfig}."""
    from mesoskit.agent.images import ImageCollection

    try:
        given = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict) or set(given) - _KNOWN:
        raise ValueError(f"expected a JSON object of {', '.join(sorted(_KNOWN))}")
    default = ImageCollection()
    headroom = given.get("image_disk_headroom", default.headroom)
    if not isinstance(headroom, int | float) or not 0 <= headroom <= 1:
        raise ValueError("image_disk_headroom: expected a number from 0.0 to 1.0")
    nanoseconds: object = default.interval * 1e9
    if "image_disk_watch_interval" in given:
        interval = given["image_disk_watch_interval"]
        nanoseconds = interval.get("nanoseconds") if isinstance(interval, dict) else None
    if not isinstance(nanoseconds, int | float) or nanoseconds < 1e9:
        raise ValueError(
            'image_disk_watch_interval: expected a second or more, such as {"nanoseconds":'
            " 3600000000000}"
        )
    return ImageCollection(float(headroom), nanoseconds / 1e9, _names(given))


def _names(given: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(image["docker"]["name"] for image in given.get("excluded_images", ()))
    except (KeyError, TypeError):
        raise ValueError(
            'excluded_images: expected a list such as [{"type": "DOCKER", "docker": {"name":'
            ' "busybox"}}]'
        ) from None


FLAGS: Final = (
    Flag(
        "image_providers",
        providers,
        (),
        "Of what kinds the images of containers may be: docker, oci, or both with a comma between."
        " They need skopeo, umoci and runc or crun, and an agent that runs as root.",
    ),
    Flag(
        "docker_registry",
        registry,
        "https://registry-1.docker.io",
        "Where images come from whose name does not say: a registry, or a folder with archives"
        " (docker save, skopeo copy) or OCI layouts.",
    ),
    Flag(
        "docker_store_dir",
        text,
        None,
        "Where images are kept; store/docker below the work directory where not given.",
        is_path=True,
    ),
    Flag(
        "docker_ignore_runtime",
        boolean,
        False,
        "Take nothing of images but their files: neither command nor environment nor directory.",
    ),
    Flag(
        "image_gc_config",
        collection,
        None,
        "When images are removed that no container uses, as the JSON of an ImageGcConfig; where"
        " not given they stay until somebody has them pruned.",
    ),
    Flag(
        "default_container_info",
        container,
        None,
        "What the containers of tasks and executors are that do not say so themselves: the JSON of"
        " a ContainerInfo, with an image, volumes, networks ...",
        show=without_secrets,
    ),
    Flag(
        "oci_runtime",
        runtime,
        None,
        "What makes containers from images: crun, runc, or the path of one of these. Where not"
        " given, the first of both that is installed.",
        is_path=True,
    ),
)


def settings(values: Values) -> "ImageSettings":
    """Return what the flags say of images."""
    from mesoskit.agent.images import ImageSettings

    return ImageSettings(
        providers=values.image_providers,
        store=values.docker_store_dir or "",
        registry=values.docker_registry,
        credentials=values.docker_config or "",
        sandbox_directory=values.sandbox_directory,
        collection=values.image_gc_config,
        runtime=values.oci_runtime or "",
        ignore_runtime=values.docker_ignore_runtime,
    )
