"""What runs containers, as flags say: C{--containerizers}, and those about the Docker engine."""

import json
from typing import TYPE_CHECKING, Final

from mesoskit.flags import Flag, Values, boolean, duration

if TYPE_CHECKING:
    from mesoskit.agent.docker import DockerSettings

CONTAINERIZERS: Final = ("mesos", "docker")


def containerizers(value: str) -> tuple[str, ...]:
    """Read C{--containerizers}: names with commas between."""
    names = tuple(name.strip() for name in value.split(","))
    for name in names:
        if name not in CONTAINERIZERS:
            raise ValueError(f"there is no {name!r}: expected some of {', '.join(CONTAINERIZERS)}")
    if len(set(names)) < len(names):
        raise ValueError("expected each name once")
    return names


def docker_config(value: str) -> str:
    """Read C{--docker_config}: a JSON object, or the path of a file of it."""
    if value.startswith("/"):
        try:
            with open(value, encoding="utf-8") as file:
                value = file.read()
        except OSError as error:
            raise ValueError(f"cannot read {value}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{value} is not UTF-8 text") from None
    try:
        given = json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError('expected a JSON object such as {"auths": {"registry": {"auth": "…"}}}')
    return value


def absolute(value: str) -> str:
    """Read an absolute path."""
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError("expected an absolute path")
    return value.rstrip("/") or "/"


def socket(value: str) -> str:
    """Read the path of a socket, which may be written as C{docker} itself has it."""
    return absolute(value.removeprefix("unix://"))


FLAGS: Final = (
    Flag(
        "containerizers",
        containerizers,
        ("mesos",),
        "What runs containers, in the order in which they are asked: mesos, docker, or both with a"
        " comma between. docker needs a Docker engine, or podman's socket.",
        written="mesos",
    ),
    Flag(
        "docker_socket",
        socket,
        "/var/run/docker.sock",
        "Where the Docker engine listens.",
        is_path=True,
    ),
    Flag(
        "docker_config",
        docker_config,
        None,
        "With what images are pulled from registries that ask for it: the JSON of a config.json as"
        " docker login writes it, or the path of one.",
        secret=True,
    ),
    Flag(
        "docker_kill_orphans",
        boolean,
        True,
        "End the containers in the engine that this agent has started and knows nothing of.",
    ),
    Flag(
        "docker_remove_delay",
        duration,
        6 * 3600.0,
        "How long the engine keeps a container that has ended.",
        written="6hrs",
    ),
    Flag(
        "docker_stop_timeout",
        duration,
        0.0,
        "How long a container of the engine that is destroyed may take after SIGTERM, where nobody"
        " has asked it to end before.",
    ),
    Flag(
        "sandbox_directory",
        absolute,
        "/mnt/mesos/sandbox",
        "Where containers with an image find their sandbox.",
        is_path=True,
    ),
)


def docker_settings(values: Values) -> "DockerSettings":
    """Return what the flags say of the Docker engine."""
    from mesoskit.agent.docker import DockerSettings

    return DockerSettings(
        socket=values.docker_socket,
        config=values.docker_config or "",
        kill_orphans=values.docker_kill_orphans,
        remove_delay=values.docker_remove_delay,
        stop_timeout=values.docker_stop_timeout,
        sandbox_directory=values.sandbox_directory,
        limit_cpu=values.cgroups_enable_cfs,
    )
