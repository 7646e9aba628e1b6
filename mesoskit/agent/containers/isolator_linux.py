"""Isolators of what Linux lets a container see and do: namespaces, mounts, rights.

C{namespaces/pid}, C{namespaces/ipc}, C{network/none}, C{filesystem/linux}, C{linux/capabilities},
C{linux/nnp}, as in Mesos (C{src/slave/containerizer/mesos/isolators}); C{network/none} and the
hiding of other sandboxes are ours. What is nested in a container is in that one's namespaces; but
a task of a pod has processes and mounts of its own.
"""

from dataclasses import dataclass
from typing import Final

from mesoskit.agent.containers import ContainerError
from mesoskit.agent.containers.isolators import NOTHING, Isolated, Isolator, Preparation
from mesoskit.agent.launcher_isolation import COVER, Mount
from mesoskit.messages.mesos_pb2 import CapabilityInfo, LinuxInfo

_FIRST_CAPABILITY: Final = 1000
_COVERED: Final = 0xF
"""MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC of mount(2)."""

_SMALL: Final = "size=4k,mode=755"
_NO_PROGRAMS: Final = 0x6
"""MS_NOSUID and MS_NODEV of mount(2)."""


SHARED_MEMORY: Final = "/dev/shm"
"""Where POSIX shared memory is."""


def mask_of(info: CapabilityInfo) -> int:
    """Return capabilities as bits."""
    mask = 0
    for capability in info.capabilities:
        if capability >= _FIRST_CAPABILITY:
            mask |= 1 << (capability - _FIRST_CAPABILITY)
    return mask


def names_of(mask: int) -> str:
    """Return the names of capabilities that are given as bits."""
    known = CapabilityInfo.Capability
    names = [
        name
        for name, number in known.items()
        if number >= _FIRST_CAPABILITY and mask >> (number - _FIRST_CAPABILITY) & 1
    ]
    return ", ".join(names) or "none"


@dataclass(slots=True)
class PidIsolator(Isolator):
    """
    C{namespaces/pid}: a container sees its own processes alone.

    @ivar share: whether a task may ask to see the agent's (C{share_pid_namespace}).
    """

    share: bool = True

    def prepare(self, container: Isolated) -> Preparation:
        """Want a namespace of processes, and of mounts for C{/proc}."""
        if container.staged:
            return NOTHING
        if container.parent is not None and not container.member:
            return Preparation(inside=container.parent.id)
        if container.container_info.linux_info.share_pid_namespace:
            if not (self.share or container.member):
                raise ContainerError(
                    "Sharing agent pid namespace with container is not allowed"
                    " (--disallow_sharing_agent_pid_namespace): leave share_pid_namespace out"
                )
            return NOTHING
        return Preparation(namespaces=frozenset({"pid", "mnt"}))


@dataclass(slots=True)
class IpcIsolator(Isolator):
    """
    C{namespaces/ipc}: System V IPC, POSIX queues and C{/dev/shm} of a container's own.

    @ivar share: whether a task may ask for the agent's (C{ipc_mode} C{SHARE_PARENT}).
    @ivar size: bytes of shared memory where a task does not say; L{None}: as the kernel likes.
    """

    share: bool = True
    size: int | None = None

    def prepare(self, container: Isolated) -> Preparation:
        """Want a namespace, and shared memory of its own."""
        linux = container.container_info.linux_info
        if container.staged:
            return NOTHING
        if container.parent is not None and not container.member:
            return Preparation(inside=container.parent.id)
        if container.member and not (linux.ipc_mode or linux.HasField("shm_size")):
            return NOTHING  # it shares its pod's
        if linux.ipc_mode == LinuxInfo.SHARE_PARENT:
            if not (self.share or container.member):
                raise ContainerError(
                    "Sharing agent ipc namespace with container is not allowed"
                    " (--disallow_sharing_agent_ipc_namespace): ask for ipc_mode PRIVATE"
                )
            if linux.HasField("shm_size"):
                raise ContainerError("shm_size cannot be set with ipc_mode SHARE_PARENT")
            return NOTHING
        size = "" if self.size is None else f"size={self.size},"
        if linux.HasField("shm_size"):
            size = f"size={linux.shm_size}m,"
        shared = Mount("shm", SHARED_MEMORY, "tmpfs", _NO_PROGRAMS, f"{size}mode=1777")
        return Preparation(namespaces=frozenset({"ipc", "mnt"}), mounts=(shared,))


class NoNetworkIsolator(Isolator):
    """C{network/none}: no network but a loopback of the container's own."""

    def prepare(self, container: Isolated) -> Preparation:
        """Want a namespace."""
        if container.staged:
            return NOTHING
        if container.parent is not None:
            return Preparation(inside=container.parent.id)  # a task of a pod, too
        return Preparation(namespaces=frozenset({"net"}))


@dataclass(slots=True)
class FilesystemIsolator(Isolator):
    """
    C{filesystem/linux}: mounts of a container's own, in which no sandbox but its own is seen.

    @ivar hide: the directory below which sandboxes are; empty: they are not hidden.
    @ivar more: others, of sandboxes and of persistent volumes, which have to exist.
    """

    hide: str = ""
    more: tuple[str, ...] = ()

    def prepare(self, container: Isolated) -> Preparation:
        """Want a namespace of mounts."""
        if container.staged:
            return NOTHING
        if container.parent is not None and not container.member:
            return Preparation(inside=container.parent.id)
        own = frozenset({"mnt"})
        for directory in filter(None, (self.hide, *self.more)):
            if container.sandbox.startswith(directory.rstrip("/") + "/"):
                others = [each for each in (self.hide, *self.more) if each != directory]
                covers = [Mount(COVER, each, "tmpfs", _COVERED, _SMALL) for each in others]
                return Preparation(namespaces=own, hide=directory, mounts=tuple(covers))
        return Preparation(namespaces=own)


@dataclass(slots=True)
class CapabilitiesIsolator(Isolator):
    """
    C{linux/capabilities}.

    @ivar effective: what is granted to a container that asks for none; L{None}: what it has anyway.
    @ivar bounding: what any can have at most; L{None}: all.
    """

    effective: int | None = None
    bounding: int | None = None

    def prepare(self, container: Isolated) -> Preparation:
        """Want what was asked for, within what is allowed."""
        if container.staged:
            return NOTHING
        linux = container.container_info.linux_info
        effective, bounding = self.effective, self.bounding
        if linux.HasField("capability_info"):
            effective = mask_of(linux.capability_info)
        if linux.HasField("effective_capabilities"):
            effective = mask_of(linux.effective_capabilities)
        if linux.HasField("bounding_capabilities"):
            bounding = mask_of(linux.bounding_capabilities)
            _within("bounding", bounding, self.bounding, "--bounding_capabilities")
        if effective is not None and bounding is not None:
            _within("effective", effective, bounding, "the bounding set")
        elif effective is not None:
            bounding = effective
        return Preparation(bounding=bounding, effective=effective)


def _within(what: str, wanted: int, allowed: int | None, where: str) -> None:
    if allowed is not None and wanted & ~allowed:
        raise ContainerError(
            f"the {what} capabilities {names_of(wanted & ~allowed)} are not in {where}:"
            f" {names_of(allowed)} may be asked for"
        )


class NoNewPrivilegesIsolator(Isolator):
    """C{linux/nnp}: no program that is set-user-ID raises a container's rights."""

    def prepare(self, container: Isolated) -> Preparation:
        """Want that."""
        return NOTHING if container.staged else Preparation(no_new_privileges=True)
