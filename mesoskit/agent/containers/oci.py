"""What an OCI runtime is told of a container: image and command made one.

The formats are those of https://github.com/opencontainers/runtime-spec; how command and image
are joined is Mesos' (C{docs/container-image.md}, C{isolators/docker/runtime.cpp}).
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.image_names import ImageError
from mesoskit.agent.containers.image_rights import Rights
from mesoskit.agent.environment import DEFAULT_PATH, EXECUTOR_SOCKET
from mesoskit.agent.images import SANDBOX
from mesoskit.agent.launcher_spawn import SpawnError, check_environment, limit_of
from mesoskit.agent.users import Credentials
from mesoskit.messages.mesos_pb2 import CapabilityInfo, ContainerInfo

MARK: Final = "MESOSKIT_CONTAINER"

_MASKED: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_OF_THE_MACHINE: Final = ("/etc/hosts", "/etc/resolv.conf")
_NO_LIMIT: Final = (1 << 64) - 1

_LONGEST_NAME: Final = 64
"""Bytes, of sethostname(2)."""


class OCIMount(NamedTuple):
    """A path of the machine that is seen in the container."""

    source: str
    target: str
    read_only: bool
    follow: bool = False


def merged_argv(spec: ContainerSpec, image: Mapping[str, Any]) -> list[str]:
    """
    Return what is executed: the command's, the image's entrypoint and command being what is
    missing in it. Raises L{ImageError}.

    With a value (a shell's or an executable) the image's own are not used. Without one the
    entrypoint, if there is one, is followed by the command's arguments, or else by the image's
    C{Cmd}; without an entrypoint the first of C{Cmd} is followed by the arguments, or by the rest.
    """
    if spec.file is None or spec.file:
        return list(spec.argv)
    arguments = [] if spec.argv == ("",) else list(spec.argv)
    entrypoint = list(image.get("Entrypoint") or ())
    command = list(image.get("Cmd") or ())
    if entrypoint:
        return entrypoint + (arguments or command)
    if not command:
        raise ImageError(
            "neither the task's command says what to run nor does the image (Entrypoint, Cmd):"
            " set CommandInfo.value"
        )
    return command[:1] + (arguments or command[1:])


def executable(spec: ContainerSpec, argv: list[str]) -> list[str]:
    """
    Return C{argv} for a runtime, which looks for the executable by its first: C{argv[0]} of a
    command may be another than its C{value}, and cannot be kept then.
    """
    if not argv:
        raise ImageError("nothing to execute: argv is empty")
    if spec.file:
        return [spec.file, *argv[1:]]
    return argv


def merged_environment(
    spec: ContainerSpec, image: Mapping[str, Any], sandbox: str = SANDBOX
) -> dict[str, str]:
    """Return a container's environment: the image's, which the agent's and the task's override."""
    variables = {MARK: str(spec.id)}
    for text in image.get("Env") or ():
        name, equals, value = str(text).partition("=")
        if name and equals and name != MARK:
            variables[name] = value
    for name, value in spec.environment:
        if name == MARK:
            continue
        if name == "PATH" and value == DEFAULT_PATH and "PATH" in variables:
            continue  # nobody has said so: the image knows better
        variables[name] = sandbox if name == "MESOS_SANDBOX" else value
    return variables


def door_of(spec: ContainerSpec) -> list[OCIMount]:
    """
    Return what an executor sees of its agent: the directory of the agent's socket, in its place,
    so that the socket of the next agent is found there, too.
    """
    path = dict(spec.environment).get(EXECUTOR_SOCKET)
    if not path:
        return []
    directory = os.path.dirname(path)
    return [OCIMount(directory, directory, True)]


def capabilities(rights: Rights, root: bool) -> dict[str, list[str]]:
    """Return a process' sets of capabilities."""
    given = rights.effective
    effective = (rights.bounding if root else 0) if given is None else given
    sets = {name: _names(effective) for name in ("effective", "permitted")}
    # What is inheritable a file of the image may give to anybody; but nothing is ambient without.
    sets["inheritable"] = []
    if not root and effective:
        sets["ambient"] = sets["inheritable"] = sets["effective"]
    return {"bounding": _names(rights.bounding), **sets}


def _names(mask: int) -> list[str]:
    known = CapabilityInfo.Capability.items()
    return [f"CAP_{name}" for name, number in known if number and mask >> (number - 1000) & 1]


def process(
    spec: ContainerSpec,
    rights: Rights,
    argv: Sequence[str],
    variables: Mapping[str, str],
    credentials: Credentials | None,
    directory: str,
) -> dict[str, Any]:
    """Return the C{process} of a configuration. Raises L{ImageError}."""
    try:
        check_environment(variables)
        for limit in spec.rlimits:
            limit_of(*limit)
    except SpawnError as error:
        raise ImageError(str(error)) from error
    user: dict[str, Any] = {"uid": os.geteuid(), "gid": os.getegid()}
    if credentials is not None:
        user = {
            "uid": credentials.user,
            "gid": credentials.group,
            "additionalGids": list(credentials.groups),
        }
    console = spec.console if spec.console is not None and spec.console.terminal else None
    size = {}
    if console is not None and console.rows and console.columns:
        size = {"consoleSize": {"height": console.rows, "width": console.columns}}
    return {
        "terminal": console is not None,
        **size,
        "user": user,
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in variables.items()],
        "cwd": directory,
        "capabilities": capabilities(rights, user["uid"] == 0),
        "rlimits": [
            {
                "type": name.replace("RLMT_", "RLIMIT_"),
                "soft": _NO_LIMIT if soft is None else soft,
                "hard": _NO_LIMIT if hard is None else hard,
            }
            for name, soft, hard in spec.rlimits
        ],
        "noNewPrivileges": rights.no_new_privileges,
    }


def configuration(
    process: Mapping[str, Any],
    root: str,
    mounts: Iterable[OCIMount],
    info: ContainerInfo,
    rights: Rights,
    joined: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """
    Return the whole configuration of a container. Of cgroups it says nothing: the runtime makes
    none (L{mesoskit.agent.launcher_oci}).

    @param process: from L{process}.
    @param root: the directory that is its root.
    @param joined: paths of namespaces of others that it is in, by the names that a runtime has.
    @raise ImageError: where it cannot be called as it is to be.
    """
    if len(info.hostname.encode()) > _LONGEST_NAME or "\0" in info.hostname:
        raise ImageError(
            f"hostname {info.hostname[:100]!r}: a name of at most {_LONGEST_NAME} bytes is wanted"
        )
    namespaces = ["mount", "ipc", "uts"]
    if not info.linux_info.share_pid_namespace:
        namespaces.append("pid")
    if rights.network:
        namespaces.append("network")
    seccomp = {} if rights.seccomp is None else {"seccomp": rights.seccomp}
    shm = info.linux_info.shm_size << 20 or rights.shared_memory
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": False},
        "hostname": info.hostname or os.uname().nodename,
        "mounts": [*_own_mounts(shm), *_of_the_machine(bool(info.hostname)), *map(_bind, mounts)],
        "linux": {
            "namespaces": [
                *({"type": name} for name in namespaces if name not in joined),
                *({"type": name, "path": path} for name, path in joined.items()),
            ],
            "rootfsPropagation": "slave",
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "devices": list(rights.devices),
            **seccomp,
        },
    }


def _own_mounts(shm: int) -> list[dict[str, Any]]:
    """Return what every container has of the kernel."""
    safe = ["nosuid", "noexec", "nodev"]

    def mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": source, "options": list(options)}

    return [
        mount("/proc", "proc", "proc", *safe),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "mode=0620"),
        mount("/dev/shm", "tmpfs", "shm", *safe, "mode=1777", f"size={shm}"),
        mount("/dev/mqueue", "mqueue", "mqueue", *safe),
        mount("/sys", "sysfs", "sysfs", *safe, "ro"),
    ]


def binds(mounts: Iterable[OCIMount]) -> list[dict[str, Any]]:
    """Return C{mounts} of a configuration."""
    return [_bind(mount) for mount in mounts]


def _all_can_be_read_only() -> bool:
    """Whether the kernel makes read-only, with a mount, what is mounted within (Linux 5.12)."""
    release = os.uname().release.split("-")[0].split(".")
    return tuple(int(part) for part in release[:2] if part.isdecimal()) >= (5, 12)


def _of_the_machine(named: bool) -> list[dict[str, Any]]:
    """
    Return what belongs to the machine's network, which the container shares.

    @param named: whether the container has a name of its own, and not the machine's.
    """
    paths = _OF_THE_MACHINE if named else (*_OF_THE_MACHINE, "/etc/hostname")
    return [_bind(OCIMount(path, path, True)) for path in paths if os.path.isfile(path)]


def _bind(mount: OCIMount) -> dict[str, Any]:
    options = ["rbind", "ro" if mount.read_only else "rw"]
    if mount.read_only and os.path.isdir(mount.source) and _all_can_be_read_only():
        options.append("rro")  # which crun wants to hear of directories alone
    options.append("rslave" if mount.follow else "rprivate")
    return {
        "destination": mount.target,
        "type": "bind",
        "source": mount.source,
        "options": options,
    }
