"""What an agent is told about how it keeps containers apart: flags, as plain values."""

from dataclasses import dataclass, field
from typing import Final

from mesoskit.agent.subsystems import Subsystems

DEFAULT: Final = ("posix/cpu", "posix/mem")
"""C{--isolation} where nothing is said."""

PIDS_LIMIT: Final = 4096
"""Processes and threads of a container where C{cgroups/pids} holds it."""

_SHARED: Final = ("cgroups/", "namespaces/", "network/none")


@dataclass(slots=True, frozen=True)
class IsolationSettings:
    """
    The flags.

    @ivar isolation: names of isolators (C{--isolation}).
    @ivar linux: whether containers are found and killed by cgroups (C{--launcher=linux}).
    @ivar by_default: whether nobody has said so: it is because it can be.
    @ivar not_linux: why it is not where it would be by default; empty: for nothing that matters.
    @ivar cgroups_hierarchy: where cgroups are mounted; C{cgroups_root}: the one that all are in.
    @ivar cgroups_favor_dynmods: whether the machine is to let cgroups be joined without waiting.
    @ivar cgroups_enable_cfs: whether C{cpus} are a limit too where a task names none.
    @ivar cgroups_limit_swap: whether memory limits are on memory and swap together.
    @ivar cgroups_pids_limit: processes and threads of a container.
    @ivar cgroups_destroy_timeout: seconds in which a cgroup has to be empty.
    @ivar allowed_devices: more devices that containers may use, as C{devices.allow} has them.
    @ivar device_paths: where each of these is, in the same order.
    @ivar effective_capabilities: what containers are granted that ask for none, as bits;
        L{None}: what their user has anyway.
    @ivar bounding_capabilities: what they can have at most; L{None}: all.
    @ivar seccomp_config_dir: where profiles are.
    @ivar seccomp_profile_name: the one of those that name none.
    @ivar enforce_disk_quota: whether a container that takes more disk than it has is ended.
    @ivar disk_interval: seconds between two looks.
    @ivar share_pid_namespace: whether a task may ask to see the agent's processes.
    @ivar share_ipc_namespace: likewise.
    @ivar shared_memory: bytes of C{/dev/shm} of containers that have one of their own and do not
        say how much; L{None}: as much as the kernel likes.
    @ivar host_path_creation: below which directories volumes' paths of the machine are made.
    @ivar subsystems: flags of single isolators.
    """

    isolation: tuple[str, ...] = DEFAULT
    linux: bool = False
    by_default: bool = False
    not_linux: str = ""
    cgroups_hierarchy: str = "/sys/fs/cgroup"
    cgroups_root: str = "mesos"
    cgroups_favor_dynmods: bool = True
    cgroups_enable_cfs: bool = False
    cgroups_limit_swap: bool = False
    cgroups_pids_limit: int = PIDS_LIMIT
    cgroups_destroy_timeout: float = 60.0
    allowed_devices: tuple[str, ...] = ()
    device_paths: tuple[str, ...] = ()
    effective_capabilities: int | None = None
    bounding_capabilities: int | None = None
    seccomp_config_dir: str | None = None
    seccomp_profile_name: str | None = None
    enforce_disk_quota: bool = False
    disk_interval: float = 15.0
    share_pid_namespace: bool = True
    share_ipc_namespace: bool = True
    shared_memory: int | None = None
    host_path_creation: tuple[str, ...] = ()
    subsystems: Subsystems = field(default_factory=Subsystems)

    @property
    def pods(self) -> bool:
        """Whether there is anything that tasks of a group share in their executor's container."""
        return any(name.startswith(_SHARED) for name in self.isolation)
