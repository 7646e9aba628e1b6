"""From a C{ContainerSpec} to the request that creates a container of the Docker engine.

What is made of C{ContainerInfo}, C{CommandInfo} and resources follows Mesos' Docker
containerizer (C{src/docker/docker.cpp}), in the words of the Engine API.
"""

import posixpath
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError

from mesoskit.agent.container import UNLIMITED, Allotment, ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.docker_parameters import Body, apply
from mesoskit.agent.docker import DockerSettings, is_docker, name_of
from mesoskit.agent.environment import EXECUTOR_SOCKET
from mesoskit.messages.mesos_pb2 import ContainerInfo, MountPropagation, Secret, Volume

AGENT_LABEL: Final = "mesoskit.agent"
"""The label with the work directory of the agent whose container it is."""

CONTAINER_LABEL: Final = "mesoskit.container"
"""The label with Mesos' id of a container."""

SANDBOX_LABEL: Final = "mesoskit.sandbox"
"""The label with the sandbox's path on the host."""

PATIENCE_LABEL: Final = "mesoskit.patience"
"""The label with the seconds that a container goes on without an agent."""

USER_LABEL: Final = "mesoskit.user"
"""The label with C{user:group} of the sandbox."""

SHARES_PER_CPU: Final = 1024
MIN_SHARES: Final = 2
CFS_PERIOD: Final = 100_000
"""Microseconds; so is the least quota: C{MIN_CFS_QUOTA}."""

MIN_CFS_QUOTA: Final = 1_000
MIN_MEMORY: Final = 32 << 20

NO_NETWORK_INFO: Final = "No network info found in container info"
ONE_NETWORK: Final = "Only a single network can be defined in Docker run"
NO_NETWORK_NAME: Final = "No network name found in network info"
NO_HOSTNAME: Final = "Unable to set hostname with host network mode"
NO_MAPPINGS: Final = "Port mappings are only supported for bridge and user-defined networks"

_NETWORKS: Final = {
    ContainerInfo.DockerInfo.HOST: "host",
    ContainerInfo.DockerInfo.BRIDGE: "bridge",
    ContainerInfo.DockerInfo.NONE: "none",
}

_RLIMITS: Final = "RLMT_"


@dataclass(slots=True)
class Creation:
    """
    What the engine is asked for.

    @ivar name: of the container.
    @ivar image: with tag or digest.
    @ivar force_pull: the image is pulled even where it is there.
    @ivar platform: which of an image's platforms is meant; empty for the engine's own.
    @ivar body: of C{POST /containers/create}.
    @ivar directories: of the sandbox, made where they are not there.
    @ivar secrets: what files hold that its volumes are, by their paths.
    """

    name: str
    image: str
    force_pull: bool = False
    platform: str = ""
    # Secrets may be in it.
    body: Body = field(default_factory=dict, repr=False)
    directories: list[str] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)


def creation(
    spec: ContainerSpec,
    settings: DockerSettings,
    agent: str,
    owner: tuple[int, int],
    private: str = "",
) -> Creation:
    """
    Return what a container is created of.

    @param agent: the work directory, which tells the containers of agents apart.
    @param owner: user and group of the sandbox's files.
    @param private: a directory of the container's own, which nobody else can enter.
    @raise ContainerError: where something is asked for that cannot be.
    """
    info = docker_info(spec)
    docker = info.docker
    host: Body = {
        "Privileged": docker.privileged,
        "Mounts": [
            {"Type": "bind", "Source": spec.sandbox, "Target": settings.sandbox_directory},
        ],
        **limits(spec.allotment, settings.limit_cpu),
    }
    body: Body = {
        "Image": docker.image,
        "Env": [f"{name}={value}" for name, value in spec.environment],
        "HostConfig": host,
    }
    door = dict(spec.environment).get(EXECUTOR_SOCKET)
    if door:
        where = posixpath.dirname(door)
        host["Mounts"].append({"Type": "bind", "Source": where, "Target": where})
    wanted = Creation(name_of(spec.id), docker.image, docker.force_pull_image, body=body)
    _command(body, spec)
    _network(body, info)
    _volumes(wanted, spec, info, settings, private)
    _rlimits(body, spec)
    if spec.allotment.gpus:
        apply(body, "gpus", str(spec.allotment.gpus))
    if info.HasField("tty_info"):
        body["Tty"] = body["OpenStdin"] = True
        size = info.tty_info.window_size
        host["ConsoleSize"] = [size.rows, size.columns]
    for parameter in docker.parameters:
        apply(body, parameter.key, parameter.value)
    _finish(body)
    body.setdefault("Labels", {}).update(
        {
            AGENT_LABEL: agent,
            CONTAINER_LABEL: str(spec.id),
            SANDBOX_LABEL: spec.sandbox,
            USER_LABEL: f"{owner[0]}:{owner[1]}",
        }
    )
    if spec.patience is not None:
        body["Labels"][PATIENCE_LABEL] = str(spec.patience)
    wanted.platform = body.pop("_platform", "")
    return wanted


def docker_info(spec: ContainerSpec) -> ContainerInfo:
    """Return what a container of the engine is to be. Raises L{ContainerError}."""
    try:
        info = ContainerInfo.FromString(spec.info)
    except DecodeError as error:
        raise ContainerError(f"its ContainerInfo cannot be read: {error}") from error
    if not is_docker(info):
        raise ContainerError(f"no image to run argv {spec.argv!r} in: there is no DockerInfo")
    if not info.docker.image:
        raise ContainerError("no image to run: DockerInfo.image is empty")
    return info


def limits(allotment: Allotment, limit_cpu: bool) -> Body:
    """
    Return what holds a container to what it was given, for creation and for update alike.

    @param limit_cpu: whether CPU time is limited where no limit was asked for.
    """
    found: Body = {}
    if allotment.cpus:
        found["CpuShares"] = max(allotment.cpus * SHARES_PER_CPU // 1000, MIN_SHARES)
    cpus = allotment.cpus_limit
    if cpus is None and limit_cpu:
        cpus = allotment.cpus or None
    if cpus is not None and cpus != UNLIMITED:
        found["CpuPeriod"] = CFS_PERIOD
        found["CpuQuota"] = max(cpus * CFS_PERIOD // 1000, MIN_CFS_QUOTA)
    memory = allotment.mem if allotment.mem_limit is None else allotment.mem_limit
    if memory and memory != UNLIMITED:
        found["Memory"] = max(memory, MIN_MEMORY)
    if allotment.mem and allotment.mem_limit is not None:
        found["MemoryReservation"] = max(allotment.mem, MIN_MEMORY)
    return found


def _command(body: Body, spec: ContainerSpec) -> None:
    if spec.file is not None:
        body["Entrypoint"] = [spec.file]
        body["Cmd"] = list(spec.argv[1:])
    elif spec.argv:
        body["Cmd"] = list(spec.argv)


def _network(body: Body, info: ContainerInfo) -> None:
    host = body["HostConfig"]
    network = _network_name(info)
    host["NetworkMode"] = network
    if info.HasField("hostname"):
        if network == "host":
            raise ContainerError(NO_HOSTNAME)
        body["Hostname"] = info.hostname
    if info.docker.port_mappings and network in ("host", "none"):
        raise ContainerError(NO_MAPPINGS)
    for mapping in info.docker.port_mappings:
        protocol = mapping.protocol.lower() if mapping.HasField("protocol") else "tcp"
        if protocol not in ("tcp", "udp", "sctp"):
            raise ContainerError(f"port mapping has protocol '{protocol}': expected tcp or udp")
        port = f"{mapping.container_port}/{protocol}"
        body.setdefault("ExposedPorts", {})[port] = {}
        bindings = host.setdefault("PortBindings", {}).setdefault(port, [])
        bindings.append({"HostPort": str(mapping.host_port)})


def _network_name(info: ContainerInfo) -> str:
    mode = info.docker.network
    if mode != ContainerInfo.DockerInfo.USER:
        return _NETWORKS[mode]
    if not info.network_infos:
        raise ContainerError(NO_NETWORK_INFO)
    if len(info.network_infos) > 1:
        raise ContainerError(ONE_NETWORK)
    if not info.network_infos[0].name:
        raise ContainerError(NO_NETWORK_NAME)
    return info.network_infos[0].name


def _volumes(
    wanted: Creation,
    spec: ContainerSpec,
    info: ContainerInfo,
    settings: DockerSettings,
    private: str,
) -> None:
    drivers = set()
    host = wanted.body["HostConfig"]
    if info.docker.volume_driver:
        drivers.add(info.docker.volume_driver)
        host["VolumeDriver"] = info.docker.volume_driver
    for volume in info.volumes:
        target = volume.container_path
        if not target.startswith("/"):
            target = posixpath.join(settings.sandbox_directory, _plain(target))
        source = volume.source
        if volume.HasField("host_path"):
            _bind(wanted, spec, volume, volume.host_path, target)
        elif source.type == Volume.Source.HOST_PATH:
            propagation = MountPropagation.Mode.Name(source.host_path.mount_propagation.mode)
            mode = {"BIDIRECTIONAL": "rshared", "HOST_TO_CONTAINER": "rslave"}.get(propagation, "")
            _bind(wanted, spec, volume, source.host_path.path, target, mode)
        elif source.type == Volume.Source.SANDBOX_PATH:
            if source.sandbox_path.type == Volume.Source.SandboxPath.PARENT:
                raise ContainerError(
                    f"volume '{volume.container_path}': a container of Docker has no parent whose"
                    " sandbox it could share; expected sandbox_path of type SELF"
                )
            _bind(wanted, spec, volume, _plain(source.sandbox_path.path), target)
        elif source.type == Volume.Source.SECRET:
            if source.secret.type != Secret.VALUE:
                raise ContainerError(
                    f"volume '{volume.container_path}': its secret is a reference, and this agent"
                    " has nobody to ask for it: give it by value"
                )
            path = posixpath.join(private, str(len(wanted.secrets)))
            wanted.secrets[path] = source.secret.value.data
            host["Mounts"].append(
                {"Type": "bind", "Source": path, "Target": target, "ReadOnly": True}
            )
        elif source.type == Volume.Source.DOCKER_VOLUME:
            given = source.docker_volume
            if given.driver:
                drivers.add(given.driver)
            host["Mounts"].append(_docker_volume(volume, target))
        else:
            kind = "IMAGE" if volume.HasField("image") else Volume.Source.Type.Name(source.type)
            raise ContainerError(
                f"volume '{volume.container_path}' of kind {kind} cannot be given to a container"
                " of Docker: expected a host path, a sandbox path, a secret or a Docker volume;"
                " a container of type MESOS may have others (--image_providers)"
            )
    if len(drivers) > 1:
        raise ContainerError(
            f"volumes name the drivers {', '.join(sorted(drivers))}: expected one for all"
        )


def _docker_volume(volume: Volume, target: str) -> Body:
    given = volume.source.docker_volume
    mount: Body = {
        "Type": "volume",
        "Source": given.name,
        "Target": target,
        "ReadOnly": volume.mode == Volume.RO,
    }
    if given.driver or given.driver_options.parameter:
        options = {one.key: one.value for one in given.driver_options.parameter}
        mount["VolumeOptions"] = {"DriverConfig": {"Name": given.driver, "Options": options}}
    return mount


def _bind(
    wanted: Creation,
    spec: ContainerSpec,
    volume: Volume,
    path: str,
    target: str,
    propagation: str = "",
) -> None:
    """
    Share a path of the host. One that is not there is made by the engine, as C{docker run -v}
    has it; that form has no way to write a colon, so what has one must be there.
    """
    host = wanted.body["HostConfig"]
    if not path.startswith("/"):
        # With a driver it is the name of one of its volumes, as in Mesos.
        if volume.HasField("source") or "VolumeDriver" not in host:
            path = posixpath.join(spec.sandbox, _plain(path))
            wanted.directories.append(path)
    read_only = volume.mode == Volume.RO
    if ":" in path + target:
        mount: Body = {"Type": "bind", "Source": path, "Target": target, "ReadOnly": read_only}
        if propagation:
            mount["BindOptions"] = {"Propagation": propagation}
        host["Mounts"].append(mount)
        return
    options = ",".join(("ro" if read_only else "rw", *((propagation,) if propagation else ())))
    host.setdefault("Binds", []).append(f"{path}:{target}:{options}")


def _plain(path: str) -> str:
    """Return a path that stays where it begins. Raises L{ContainerError}."""
    if path.startswith("/") or ".." in path.split("/"):
        raise ContainerError(f"path '{path}' of a volume leads out of the sandbox")
    return path


def _rlimits(body: Body, spec: ContainerSpec) -> None:
    for name, soft, hard in spec.rlimits:
        if not name.startswith(_RLIMITS):
            raise ContainerError(f"rlimit '{name}' is not known")
        limit = {
            "Name": name.removeprefix(_RLIMITS).lower(),
            "Soft": -1 if soft is None else soft,
            "Hard": -1 if hard is None else hard,
        }
        body["HostConfig"].setdefault("Ulimits", []).append(limit)


def _finish(body: Body) -> None:
    """Bring what options have said of a network to where the engine looks for it."""
    endpoint: Any = body.pop("_endpoint", None)
    network = body["HostConfig"]["NetworkMode"]
    if endpoint is None:
        return
    if "MacAddress" in endpoint:
        body["MacAddress"] = endpoint["MacAddress"]
    links = endpoint.pop("LinkLocalIPs", None)
    if links:
        endpoint.setdefault("IPAMConfig", {})["LinkLocalIPs"] = links
    body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
