"""Containers of the Docker engine, as far as the state knows of them.

What a C{CommandInfo} means for an image, what such a container finds in its environment, and
the flags about it; the engine is spoken to in L{mesoskit.agent.containers.docker}.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mesoskit.messages.mesos_pb2 import CommandInfo, ContainerInfo, Resource, TaskInfo
from mesoskit.model.ids import ContainerId

if TYPE_CHECKING:
    from mesoskit.agent.frameworks import AgentTask
    from mesoskit.agent.options import AgentOptions

PREFIX: Final = "mesos-"
"""What the names of containers begin with, as in Mesos."""

NO_PORTS: Final = "Port mappings require port resources"
PORT_NOT_GIVEN: Final = "Port [{port}] not included in resources"


@dataclass(slots=True, frozen=True)
class DockerSettings:
    """
    The flags of the Docker containerizer; durations are seconds.

    @ivar socket: the path of the engine's UNIX socket (C{--docker_socket}).
    @ivar config: what C{--docker_config} says: the JSON of a C{config.json} with credentials of
        registries; empty for none.
    @ivar kill_orphans: whether containers of this work directory that the agent knows nothing
        of are ended (C{--docker_kill_orphans}).
    @ivar remove_delay: how long the engine keeps what has ended (C{--docker_remove_delay}).
    @ivar stop_timeout: how long what is destroyed may take after SIGTERM, where nobody has
        asked it to end before (C{--docker_stop_timeout}).
    @ivar sandbox_directory: where a container finds its sandbox (C{--sandbox_directory}).
    @ivar limit_cpu: whether CPU time is limited to what was given (C{--cgroups_enable_cfs}).
    """

    socket: str = "/var/run/docker.sock"
    config: str = ""
    kill_orphans: bool = True
    remove_delay: float = 6 * 3600.0
    stop_timeout: float = 0.0
    sandbox_directory: str = "/mnt/mesos/sandbox"
    limit_cpu: bool = False


def is_docker(container: ContainerInfo) -> bool:
    """Tell whether a container is to be the Docker engine's."""
    return container.type == ContainerInfo.DOCKER and container.HasField("docker")


def name_of(container: ContainerId) -> str:
    """Return the name by which the engine knows a container."""
    return PREFIX + container


def take(task: "AgentTask", info: TaskInfo, options: "AgentOptions") -> None:
    """
    Note of a command task whether it is a container of the engine. As Mesos' Docker executor,
    such a one has the grace of executors, where it asks for none of its own.
    """
    task.docker = is_docker(info.container)
    if task.docker and not info.kill_policy.HasField("grace_period"):
        grace = options.executor_shutdown_grace_period
        task.kill_grace = max(grace, options.docker.stop_timeout)


def beside_variables(
    settings: DockerSettings, path: tuple[str, ...], secret: Iterable[str]
) -> dict[str, str]:
    """
    Return what something finds in its environment that runs beside a task or an executor: all
    else the engine gives it as it has given it to those.

    @param path: of its container; the first is the engine's.
    @param secret: names of variables that it shall not know.
    """
    within = "".join(f"/containers/{value}" for value in path[1:])
    return {**dict.fromkeys(secret, ""), "MESOS_SANDBOX": settings.sandbox_directory + within}


def process_of(command: CommandInfo) -> tuple[tuple[str, ...], str | None]:
    """
    Return argv and the executable of a command in an image; L{None}: the image's own entrypoint.

    Other than without an image, C{value} and all of C{arguments} are what the entrypoint is
    given, and where there is neither the image's own command (C{src/docker/docker.cpp}). There an
    empty C{value} is one, with which nothing can be started; here it is none.
    """
    if command.shell:
        return ("/bin/sh", "-c", command.value), "/bin/sh"
    given = (command.value,) if command.value else ()
    return (*given, *command.arguments), None


def task_variables(settings: DockerSettings, container: ContainerId, role: str) -> dict[str, str]:
    """Return what a task finds in its environment beside its image's and its command's own."""
    return {
        "MESOS_SANDBOX": settings.sandbox_directory,
        "MESOS_CONTAINER_NAME": name_of(container),
        "MESOS_ALLOCATION_ROLE": role,
    }


def executor_variables(
    settings: DockerSettings, container: ContainerId, variables: dict[str, str], chosen: bool
) -> dict[str, str]:
    """
    Return what an executor finds in its environment, of what one without an image finds.

    @param chosen: whether the operator has chosen the C{PATH} among C{variables}; where not,
        the image's own counts.
    """
    changed = {**variables, "MESOS_SANDBOX": settings.sandbox_directory}
    changed["MESOS_CONTAINER_NAME"] = name_of(container)
    if not chosen:
        changed.pop("PATH", None)
    return changed


def ports_error(container: ContainerInfo, resources: Iterable[Resource]) -> str:
    """Say which port is mapped that is none of the resources; empty where all are."""
    mapped = container.docker.port_mappings
    if not mapped:
        return ""
    ranges = [
        (one.begin, one.end)
        for resource in resources
        if resource.name == "ports"
        for one in resource.ranges.range
    ]
    if not ranges:
        return NO_PORTS
    for mapping in mapped:
        if not any(begin <= mapping.host_port <= end for begin, end in ranges):
            return PORT_NOT_GIVEN.format(port=mapping.host_port)
    return ""
