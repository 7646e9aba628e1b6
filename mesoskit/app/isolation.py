"""Flags of the agent that say how containers are kept apart, and to what they were given."""

import json
import os
import stat
from typing import TYPE_CHECKING

from mesoskit.app import subsystems
from mesoskit.app.daemon import StartError, interval, one_of
from mesoskit.flags import Flag, Values, boolean, duration, integer, size, text

if TYPE_CHECKING:
    from mesoskit.agent.isolation import IsolationSettings


def names(value: str) -> tuple[str, ...]:
    """Read names with commas between."""
    found = tuple(name.strip() for name in value.split(","))
    if not all(found):
        raise ValueError("expected names of isolators such as cgroups/cpu,cgroups/mem")
    return found


def group(value: str) -> str:
    """Read the name of a cgroup."""
    parts = value.split("/")
    if not all(parts) or ".." in parts or "." in parts or not value.isprintable() or " " in value:
        raise ValueError("expected the name of a cgroup such as mesos, without blanks")
    return value


def directories(value: str) -> tuple[str, ...]:
    """Read absolute paths with colons between."""
    found = tuple(os.path.normpath(path) for path in value.split(":") if path)
    if not found or not all(path.startswith("/") for path in found):
        raise ValueError("expected absolute paths with colons between, such as /srv/a:/srv/b")
    return found


def pids(value: str) -> int:
    """Read a number of processes."""
    result = integer(value)
    if result < 2:
        raise ValueError("expected a number of at least 2")
    return result


def capabilities(value: str) -> int:
    """Read a C{CapabilityInfo} as JSON; return bits."""
    from mesoskit.agent.containers.isolator_linux import mask_of
    from mesoskit.messages import codec
    from mesoskit.messages.mesos_pb2 import CapabilityInfo

    example = 'expected JSON such as {"capabilities": ["NET_RAW", "SYS_ADMIN"]}'
    try:
        given = json.loads(value)
        known = CapabilityInfo.Capability.keys()
        unknown = [name for name in given["capabilities"] if name not in known]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{example}: {error}") from None
    if unknown:
        raise ValueError(f"{example}: {unknown[0]!r} is no capability")
    return mask_of(codec.from_dict(CapabilityInfo, given))


def devices(value: str) -> tuple[tuple[str, str], ...]:
    """Read a C{DeviceWhitelist} as JSON; return paths, each with its entry of C{devices.allow}."""
    example = (
        'expected JSON such as {"allowed_devices": [{"device": {"path": "/dev/fuse"},'
        ' "access": {"read": true, "write": true}}]}'
    )
    try:
        return tuple(_device(entry) for entry in json.loads(value)["allowed_devices"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{example}: {error}") from None
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from None


def _device(entry: dict[str, dict[str, str]]) -> tuple[str, str]:
    path = entry["device"]["path"]
    found = os.stat(path)
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    if kind == "c" and not stat.S_ISCHR(found.st_mode):
        raise ValueError(f"{path} is no device")
    access = "".join(
        letter
        for name, letter in (("read", "r"), ("write", "w"), ("mknod", "m"))
        if entry.get("access", {}).get(name)
    )
    if not access:
        raise ValueError(f"{path}: no access is given")
    return path, f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {access}"


FLAGS = (
    Flag(
        "isolation",
        names,
        ("posix/cpu", "posix/mem"),
        "How containers are kept apart, and to what they were given: names of isolators such as"
        " cgroups/cpu,cgroups/mem,cgroups/pids,disk/du,namespaces/pid,filesystem/linux; or the"
        " dotted name of a function that returns an IIsolator.",
        written="posix/cpu,posix/mem",
    ),
    Flag(
        "launcher",
        one_of("posix", "linux"),
        None,
        "How a container's end is seen to: posix follows its processes, linux puts them into a"
        " cgroup. linux where the agent runs as root and can make cgroups, else posix.",
    ),
    Flag(
        "cgroups_hierarchy",
        text,
        "/sys/fs/cgroup",
        "Where cgroups are mounted, of version 1 or 2.",
        is_path=True,
    ),
    Flag("cgroups_root", group, "mesos", "The cgroup below which those of all containers are."),
    Flag(
        "cgroups_favor_dynmods",
        boolean,
        True,
        "With --launcher=linux: have the kernel let processes into cgroups without waiting some 15"
        " ms for the rest of the machine (mount option favordynmods, Linux 6.0), for which every"
        " fork on the machine takes a little longer.",
    ),
    Flag(
        "cgroups_enable_cfs",
        boolean,
        False,
        "Let cpus be a limit (a quota), and not a share alone, where a task names no limit.",
    ),
    Flag(
        "cgroups_limit_swap",
        boolean,
        False,
        "Let limits of memory be limits of memory and swap together.",
    ),
    Flag(
        "cgroups_pids_limit",
        pids,
        4096,
        "With cgroups/pids: how many processes and threads a container may have.",
    ),
    Flag(
        "cgroups_destroy_timeout",
        duration,
        60.0,
        "How long the end of a cgroup is waited for.",
        written="1mins",
    ),
    Flag(
        "allowed_devices",
        devices,
        (),
        "With cgroups/devices: what containers may use besides the devices that all may; with"
        " linux/devices containers from images find these in their /dev. As JSON:"
        ' {"allowed_devices": [{"device": {"path": "/dev/fuse"}, "access": {"read": true}}]}.',
    ),
    Flag(
        "effective_capabilities",
        capabilities,
        None,
        "With linux/capabilities: what is granted to tasks that ask for nothing, as JSON:"
        ' {"capabilities": ["NET_RAW"]}.',
    ),
    Flag(
        "bounding_capabilities",
        capabilities,
        None,
        "With linux/capabilities: what a task can have at most, likewise.",
    ),
    Flag(
        "seccomp_config_dir",
        text,
        None,
        "With linux/seccomp: the directory of profiles, in Docker's format.",
        is_path=True,
    ),
    Flag(
        "seccomp_profile_name",
        text,
        None,
        "The profile in that directory of tasks that name none.",
    ),
    Flag(
        "enforce_container_disk_quota",
        boolean,
        False,
        "With disk/du: end containers that take more disk than they were given.",
    ),
    Flag(
        "container_disk_watch_interval",
        interval,
        15.0,
        "With disk/du: time between two looks at a sandbox.",
        written="15secs",
    ),
    Flag(
        "disallow_sharing_agent_pid_namespace",
        boolean,
        False,
        "With namespaces/pid: let no task see the agent's processes, whatever it asks for.",
    ),
    Flag(
        "disallow_sharing_agent_ipc_namespace",
        boolean,
        False,
        "With namespaces/ipc: let no task use the agent's IPC, whatever it asks for.",
    ),
    Flag(
        "default_container_shm_size",
        size,
        None,
        "How much shared memory (/dev/shm) containers have that have one of their own and do not"
        " say how much; without it, what the kernel gives, or 64MB where there is an image.",
    ),
    Flag(
        "host_path_volume_force_creation",
        directories,
        (),
        "Directories, with colons between, below which HOST_PATH volumes are made where they are"
        " not there.",
    ),
    *subsystems.FLAGS,
)


def settings(values: Values) -> "IsolationSettings":
    """
    Return what the flags say. Raises L{StartError} where that cannot be had.

    Whether this machine's cgroups can be used is tried out, by making one.
    """
    from mesoskit.agent.isolation import DEFAULT, IsolationSettings

    isolation = values.isolation
    needs = ""  # the launcher linux, and for what
    if isolation != DEFAULT:
        from mesoskit.agent.containers.known_isolators import NEED_ROOT, IsolationUnknown, check

        try:
            check(isolation)
        except IsolationUnknown as error:
            raise StartError(f"--isolation: {error}") from None
        wants = [name for name in isolation if name in NEED_ROOT]
        if wants and os.geteuid() != 0:
            raise StartError(
                f"--isolation: {wants[0]} needs an agent that runs as root: start it as root, or"
                " with --isolation=posix/cpu,posix/mem"
            )
        if wants and values.launcher == "posix":
            raise StartError(f"--isolation: {wants[0]} needs --launcher=linux")
        needs = f"--isolation: {wants[0]}" if wants else ""
    if values.launcher == "linux":
        needs = "--launcher=linux"
    hindrance = "" if values.launcher == "posix" else _hindrance(values)
    if needs and hindrance:
        raise StartError(f"{needs} needs {hindrance}")
    linux = values.launcher != "posix" and not hindrance
    return IsolationSettings(
        isolation=isolation,
        linux=linux,
        by_default=linux and not needs,
        not_linux=hindrance,
        cgroups_hierarchy=values.cgroups_hierarchy,
        cgroups_root=values.cgroups_root,
        cgroups_favor_dynmods=values.cgroups_favor_dynmods,
        cgroups_enable_cfs=values.cgroups_enable_cfs,
        cgroups_limit_swap=values.cgroups_limit_swap,
        cgroups_pids_limit=values.cgroups_pids_limit,
        cgroups_destroy_timeout=values.cgroups_destroy_timeout,
        allowed_devices=tuple(entry for _, entry in values.allowed_devices),
        device_paths=tuple(path for path, _ in values.allowed_devices),
        effective_capabilities=values.effective_capabilities,
        bounding_capabilities=values.bounding_capabilities,
        seccomp_config_dir=values.seccomp_config_dir,
        seccomp_profile_name=values.seccomp_profile_name,
        enforce_disk_quota=values.enforce_container_disk_quota,
        disk_interval=values.container_disk_watch_interval,
        shared_memory=values.default_container_shm_size,
        host_path_creation=values.host_path_volume_force_creation,
        share_pid_namespace=not values.disallow_sharing_agent_pid_namespace,
        share_ipc_namespace=not values.disallow_sharing_agent_ipc_namespace,
        subsystems=subsystems.settings(values),
    )


def _hindrance(values: Values) -> str:
    """Return what the launcher linux needs and does not have; empty where it can be."""
    if os.geteuid() != 0:
        return "an agent that runs as root"
    from mesoskit.agent.containers.cgroups import CgroupError
    from mesoskit.agent.containers.cgroups_machine import check_usable

    try:
        check_usable(values.cgroups_hierarchy, values.cgroups_root)
    except CgroupError as error:
        return f"cgroups that it can make: {error}"
    return ""
