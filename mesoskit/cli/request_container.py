"""The container that C{mesoskit execute} asks for: images, volumes, networks, rights, a terminal.

What stands with what is as in C{mesos-execute} (C{getContainerInfo} of C{src/cli/execute.cpp}).
"""

import json
from typing import Any, Final

from mesoskit.flags import FlagError, Values
from mesoskit.messages.codec import Malformed, from_dict
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image, NetworkInfo, Volume

OF_A_COMMAND: Final = ("docker_image", "volumes")
"""Flags that have no place beside C{--task} and C{--task_group}, which say it themselves."""


def parsed(value: str) -> Any:
    """Return what JSON says, or the file of an absolute path that holds some."""
    if value.startswith("/"):
        try:
            with open(value, encoding="utf-8") as file:
                value = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from None
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def volumes(value: str) -> list[Volume]:
    """Read C{--volumes}: a list in JSON, or the absolute path of a file that holds one."""
    given = parsed(value)
    if not isinstance(given, list):
        raise ValueError("expected a list of volumes in JSON")
    try:
        return [from_dict(Volume, each) for each in given]
    except Malformed as error:
        raise ValueError(str(error)) from None


def networks(value: str) -> list[str]:
    """Read C{--networks}: names separated by commas."""
    return [name.strip() for name in value.split(",") if name.strip()]


def network_infos(values: Values) -> list[NetworkInfo]:
    """Return C{--networks} as a container has them."""
    return [NetworkInfo(name=name) for name in values.networks]


def container(values: Values) -> ContainerInfo | None:
    """
    Return the container of a command; L{None} where nothing asks for one.

    @raise FlagError: where flags do not go together.
    """
    wanted = _docker(values) if values.containerizer == "docker" else _mesos(values)
    wanted.volumes.extend(values.volumes)
    nothing = ContainerInfo(type=ContainerInfo.MESOS)
    return None if wanted == nothing else wanted


def _mesos(values: Values) -> ContainerInfo:
    wanted = ContainerInfo(type=ContainerInfo.MESOS)
    if values.docker_image is not None:
        wanted.mesos.image.type = Image.DOCKER
        wanted.mesos.image.docker.name = values.docker_image
    wanted.network_infos.extend(network_infos(values))
    for name in ("effective_capabilities", "bounding_capabilities"):
        rights = getattr(values, name)
        if rights is not None:
            getattr(wanted.linux_info, name).CopyFrom(rights)
    if values.rlimits is not None:
        wanted.rlimit_info.CopyFrom(values.rlimits)
    if values.tty:
        wanted.tty_info.SetInParent()
    return wanted


def _docker(values: Values) -> ContainerInfo:
    if values.docker_image is None:
        raise FlagError("--containerizer=docker needs --docker_image")
    for name in ("effective_capabilities", "bounding_capabilities"):
        if name in values.given:
            raise FlagError(f"--{name} is not for --containerizer=docker")
    wanted = ContainerInfo(type=ContainerInfo.DOCKER)
    wanted.docker.image = values.docker_image
    if len(values.networks) > 1:
        raise FlagError("--networks: a container of Docker can be in a single network")
    if values.networks:
        wanted.docker.network = ContainerInfo.DockerInfo.USER
        wanted.network_infos.extend(network_infos(values))
    if values.rlimits is not None:
        wanted.rlimit_info.CopyFrom(values.rlimits)
    if values.tty:
        wanted.tty_info.SetInParent()
    return wanted
