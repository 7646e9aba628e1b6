"""Which isolators there are: from the names in C{--isolation} to what keeps containers apart."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.python.reflect import namedAny

from mesoskit.agent.containers.cgroups import CgroupError, find
from mesoskit.agent.containers.isolator_cgroups import NAMES, CgroupsIsolator, controllers_of
from mesoskit.agent.containers.isolator_disk import DiskIsolator
from mesoskit.agent.containers.isolator_linux import (
    CapabilitiesIsolator,
    FilesystemIsolator,
    IpcIsolator,
    NoNetworkIsolator,
    NoNewPrivilegesIsolator,
    PidIsolator,
)
from mesoskit.agent.containers.isolators import IIsolator
from mesoskit.agent.containers.seccomp import SeccompError, SeccompIsolator
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.users import InThread

CGROUPS: Final = ("cgroups/all", *NAMES)

NOTHING_TO_DO: Final = (
    *("posix/cpu", "posix/mem", "posix/rlimits", "filesystem/posix", "environment_secret"),
    *("docker/runtime", "volume/host_path", "volume/sandbox_path", "volume/image", "volume/secret"),
)
"""Names that are taken and need nobody: what they stand for is always there."""


class IsolationUnknown(ValueError):
    """An isolator is not there, or cannot be used here; the message says what would be right."""


def _seccomp(settings: IsolationSettings) -> Any:
    if settings.seccomp_config_dir is None:
        raise IsolationUnknown("linux/seccomp wants --seccomp_config_dir")
    return SeccompIsolator(
        settings.seccomp_config_dir, settings.seccomp_profile_name, settings.bounding_capabilities
    )


_MAKERS: Final[Mapping[str, Callable[[IsolationSettings, str], Any]]] = {
    "filesystem/linux": lambda settings, hide: FilesystemIsolator(hide),
    "linux/capabilities": lambda settings, hide: CapabilitiesIsolator(
        settings.effective_capabilities, settings.bounding_capabilities
    ),
    "linux/nnp": lambda settings, hide: NoNewPrivilegesIsolator(),
    "linux/seccomp": lambda settings, hide: _seccomp(settings),
    "namespaces/ipc": lambda settings, hide: IpcIsolator(settings.share_ipc_namespace),
    "namespaces/pid": lambda settings, hide: PidIsolator(settings.share_pid_namespace),
    "network/none": lambda settings, hide: NoNetworkIsolator(),
}

DISK: Final = ("disk/du", "posix/disk")

KNOWN: Final = tuple(sorted({*CGROUPS, *_MAKERS, *DISK, *NOTHING_TO_DO}))
"""All names that come along."""

NEED_ROOT: Final = frozenset({*CGROUPS, *_MAKERS} - {"linux/nnp"})
"""What an agent that is not root cannot do."""


def check(isolation: tuple[str, ...]) -> None:
    """Raise L{IsolationUnknown} where a name is none."""
    for name in isolation:
        if name not in KNOWN and "." not in name:
            raise IsolationUnknown(
                f"unknown isolator {name!r}: {', '.join(KNOWN)} are known, and the dotted name of"
                " a function that returns an IIsolator"
            )


def make_isolators(
    settings: IsolationSettings, reactor: Any, in_thread: InThread, sandboxes: str
) -> list[Any]:
    """
    Return the L{IIsolator}s that the flags name, in the order in which containers are prepared.

    @param sandboxes: the directory below which all sandboxes are.
    @raise IsolationUnknown: where one is not there or cannot be used.
    """
    check(settings.isolation)
    made: list[Any] = []
    if settings.linux or set(settings.isolation) & set(CGROUPS):
        try:
            cgroups = find(settings.cgroups_hierarchy, settings.cgroups_root)
            controllers = controllers_of(settings.isolation, cgroups)
        except CgroupError as error:
            raise IsolationUnknown(str(error)) from None
        made.append(CgroupsIsolator(reactor, cgroups, controllers, settings))
    if set(settings.isolation) & set(DISK):
        interval, enforce = settings.disk_interval, settings.enforce_disk_quota
        made.append(DiskIsolator(reactor, in_thread, interval, enforce))
    for name in settings.isolation:
        try:
            if name in _MAKERS:
                made.append(_MAKERS[name](settings, sandboxes))
            elif "." in name:
                made.append(_plugged(name, settings))
        except SeccompError as error:
            raise IsolationUnknown(str(error)) from None
    return made


def _plugged(name: str, settings: IsolationSettings) -> Any:
    try:
        made = namedAny(name)(settings)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise IsolationUnknown(
            f"isolator {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not IIsolator.providedBy(made):
        raise IsolationUnknown(
            f"isolator {name!r}: it returned {type(made).__name__}, which is no IIsolator"
        )
    return made
