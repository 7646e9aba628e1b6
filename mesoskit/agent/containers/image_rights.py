"""What C{--isolation} means for containers from images, whose runtime does what isolators do else.

C{linux/capabilities}, C{linux/nnp}, C{linux/seccomp} and C{network/none} hold them, too, in the
words of a runtime (https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md);
C{linux/devices} is for them alone.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Final

from mesoskit.agent.containers.image_names import ImageError
from mesoskit.agent.containers.isolator_linux import mask_of, names_of
from mesoskit.agent.containers.seccomp import holds
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.messages.mesos_pb2 import CapabilityInfo, LinuxInfo

DEFAULT: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "NET_RAW", "SETGID", "SETUID", "SETFCAP"),
    *("SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
"""
What root of a container may do where nothing else is said: as in Docker, without C{MKNOD}, with
which it could make itself a device of the machine.
"""

SHARED_MEMORY: Final = 64 << 20
"""Bytes of C{/dev/shm} where nothing is said."""

_MAX_PROFILE: Final = 1 << 20
_COPIED: Final = ("action", "errnoRet", "args")


@dataclass(slots=True, frozen=True)
class Rights:
    """
    What a container may do.

    @ivar bounding: capabilities that it can ever have, as bits.
    @ivar effective: those that it has; L{None}: as root all it can have, else none.
    @ivar no_new_privileges: no set-user-ID program raises its rights.
    @ivar seccomp: a filter of system calls as a runtime has it, or L{None}.
    @ivar network: whether it has one of its own, with nothing but a loopback.
    @ivar devices: which it finds in its C{/dev} besides those that all do, as a runtime has them.
    @ivar shared_memory: bytes of C{/dev/shm} where its task does not say.
    """

    bounding: int = mask_of(CapabilityInfo(capabilities=DEFAULT))
    effective: int | None = None
    no_new_privileges: bool = False
    seccomp: dict[str, Any] | None = None
    network: bool = False
    devices: tuple[dict[str, Any], ...] = ()
    shared_memory: int = SHARED_MEMORY


class ImageRights:
    """The rights of containers, as an agent's flags and tasks' wishes say."""

    def __init__(self, settings: IsolationSettings) -> None:
        self._settings = settings
        nodes = zip(settings.device_paths, settings.allowed_devices, strict=True)
        self._devices = tuple(_device(path, entry) for path, entry in nodes)

    def of(self, linux: LinuxInfo) -> Rights:
        """
        Return the rights of a container. Raises L{ImageError} where it wants more than there is.

        @param linux: what its task says.
        """
        isolation = self._settings.isolation
        if linux.share_pid_namespace and not self._settings.share_pid_namespace:
            raise ImageError(
                "Sharing agent pid namespace with container is not allowed"
                " (--disallow_sharing_agent_pid_namespace): leave share_pid_namespace out"
            )
        bounding, effective = self._capabilities(linux)
        seccomp = self._seccomp(linux, bounding) if "linux/seccomp" in isolation else None
        return Rights(
            bounding,
            effective,
            "linux/nnp" in isolation or seccomp is not None,
            seccomp,
            "network/none" in isolation,
            self._devices if "linux/devices" in isolation else (),
            SHARED_MEMORY if self._settings.shared_memory is None else self._settings.shared_memory,
        )

    def _capabilities(self, linux: LinuxInfo) -> tuple[int, int | None]:
        """Return what can be had, and what is."""
        allowed = effective = None
        if "linux/capabilities" in self._settings.isolation:
            allowed = self._settings.bounding_capabilities
            effective = self._settings.effective_capabilities
        if linux.HasField("effective_capabilities"):
            effective = mask_of(linux.effective_capabilities)
        elif linux.HasField("capability_info"):
            effective = mask_of(linux.capability_info)
        if linux.HasField("bounding_capabilities"):
            bounding = mask_of(linux.bounding_capabilities)
        elif effective is not None:
            bounding = effective
        else:
            bounding = Rights().bounding if allowed is None else Rights().bounding & allowed
        for what, wanted, most in (
            ("bounding", bounding, allowed),
            ("effective", effective or 0, bounding),
        ):
            if most is not None and wanted & ~most:
                raise ImageError(
                    f"the {what} capabilities {names_of(wanted & ~most)} cannot be had:"
                    f" {names_of(most)} may be asked for"
                )
        return bounding, effective

    def _seccomp(self, linux: LinuxInfo, capabilities: int) -> dict[str, Any] | None:
        if linux.seccomp.unconfined:
            return None
        name = linux.seccomp.profile_name or self._settings.seccomp_profile_name
        directory = self._settings.seccomp_config_dir
        if not name or directory is None:
            return None
        if name.startswith("/") or ".." in name.split("/"):
            raise ImageError(f"seccomp profile {name!r}: a name below {directory} is wanted")
        path = os.path.join(directory, name)
        try:
            with open(path, "rb") as file:
                return _filter(json.loads(file.read(_MAX_PROFILE)), capabilities)
        except OSError as error:
            raise ImageError(f"seccomp profile {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ImageError(f"seccomp profile {path}: {error!r}") from error


def _filter(profile: dict[str, Any], capabilities: int) -> dict[str, Any]:
    """Return a profile of Docker's as a runtime takes it, with the rules that hold here alone."""
    machine = os.uname().machine
    rules = []
    for rule in profile.get("syscalls") or ():
        if holds(rule, capabilities, machine):
            names = rule["names"] if "names" in rule else [rule["name"]]
            rules.append({"names": names} | {key: rule[key] for key in _COPIED if rule.get(key)})
    made: dict[str, Any] = {"defaultAction": profile["defaultAction"], "syscalls": rules}
    if "defaultErrnoRet" in profile:
        made["defaultErrnoRet"] = profile["defaultErrnoRet"]
    for line in profile.get("archMap") or ():
        if line["architecture"].removeprefix("SCMP_ARCH_").lower() == machine:
            made["architectures"] = [line["architecture"], *(line.get("subArchitectures") or ())]
    return made


def _device(path: str, entry: str) -> dict[str, Any]:
    """Return a device that is made from outside, for all users to use as far as they may."""
    kind, numbers, access = entry.split()
    major, minor = map(int, numbers.split(":"))
    mode = 0o444 * ("r" in access) | 0o222 * ("w" in access)
    return {"path": path, "type": kind, "major": major, "minor": minor, "fileMode": mode}
