"""Which isolators there are: from the names in C{--isolation} to what keeps containers apart."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from twisted.python.reflect import namedAny

from mesoskit.agent.containers import perf_events
from mesoskit.agent.containers.cgroups import NET_CLS, PERF_EVENT, CgroupError, Cgroups, find
from mesoskit.agent.containers.isolator_cgroups import NAMES, CgroupsIsolator, controllers_of
from mesoskit.agent.containers.isolator_disk import DiskIsolator, Written
from mesoskit.agent.containers.isolator_linux import (
    SHARED_MEMORY,
    CapabilitiesIsolator,
    FilesystemIsolator,
    IpcIsolator,
    NoNetworkIsolator,
    NoNewPrivilegesIsolator,
    PidIsolator,
)
from mesoskit.agent.containers.isolator_net_cls import NetClsIsolator
from mesoskit.agent.containers.isolator_perf import PerfIsolator
from mesoskit.agent.containers.isolator_ports import PortsIsolator
from mesoskit.agent.containers.isolators import IIsolator
from mesoskit.agent.containers.perf_events import PerfError
from mesoskit.agent.containers.seccomp import SeccompError, SeccompIsolator
from mesoskit.agent.containers.unknown_isolators import INSTEAD
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.net_cls import Handles
from mesoskit.agent.users import InThread
from mesoskit.model.values import Ranges

CGROUPS: Final = ("cgroups/all", *NAMES)

NOTHING_TO_DO: Final = (
    *("posix/cpu", "posix/mem", "posix/rlimits", "filesystem/posix", "environment_secret"),
    *("docker/runtime", "volume/host_path", "volume/sandbox_path", "volume/image", "volume/secret"),
    "linux/devices",
)
"""
Names that are taken and need nobody here: what they stand for is always there, or is done by
whoever makes containers from images.
"""


class IsolationUnknown(ValueError):
    """An isolator is not there, or cannot be used here; the message says what would be right."""


def _seccomp(settings: IsolationSettings) -> Any:
    if settings.seccomp_config_dir is None:
        raise IsolationUnknown("linux/seccomp wants --seccomp_config_dir")
    return SeccompIsolator(
        settings.seccomp_config_dir, settings.seccomp_profile_name, settings.bounding_capabilities
    )


def _filesystem(sandboxes: str) -> Any:
    """Hide the sandboxes of tasks, of what stands alone, and persistent volumes."""
    work_dir = os.path.dirname(sandboxes)
    more = (f"{work_dir}/containers", f"{work_dir}/volumes")
    for directory in more:
        try:
            os.makedirs(directory, mode=0o755, exist_ok=True)
        except OSError as error:
            raise IsolationUnknown(f"{directory}: {error.strerror}") from None
    return FilesystemIsolator(sandboxes, more)


def _ipc(settings: IsolationSettings, sandboxes: str) -> Any:
    """Mount shared memory over the machine's, below which no sandbox may be then."""
    work_dir = os.path.dirname(sandboxes)
    if (os.path.realpath(work_dir) + "/").startswith(f"{SHARED_MEMORY}/"):
        raise IsolationUnknown(
            f"namespaces/ipc gives each container a {SHARED_MEMORY} of its own, over its sandbox:"
            f" choose a --work_dir that is not below it, as {work_dir} is"
        )
    return IpcIsolator(settings.share_ipc_namespace, settings.shared_memory)


_MAKERS: Final[Mapping[str, Callable[[IsolationSettings, str], Any]]] = {
    "filesystem/linux": lambda settings, hide: _filesystem(hide),
    "linux/capabilities": lambda settings, hide: CapabilitiesIsolator(
        settings.effective_capabilities, settings.bounding_capabilities
    ),
    "linux/nnp": lambda settings, hide: NoNewPrivilegesIsolator(),
    "linux/seccomp": lambda settings, hide: _seccomp(settings),
    "namespaces/ipc": _ipc,
    "namespaces/pid": lambda settings, hide: PidIsolator(settings.share_pid_namespace),
    "network/none": lambda settings, hide: NoNetworkIsolator(),
}

_NAMESPACES: Final = {
    "filesystem/linux": "mnt",
    "namespaces/ipc": "ipc",
    "namespaces/pid": "pid",
    "network/none": "net",
}
"""Of which kind each of them wants one, by the names in C{/proc/self/ns}."""

DISK: Final = ("disk/du", "posix/disk")

PORTS: Final = "network/ports"

KNOWN: Final = tuple(sorted({*CGROUPS, *_MAKERS, *DISK, PORTS, *NOTHING_TO_DO}))
"""All names that come along."""

NEED_ROOT: Final = frozenset({*CGROUPS, *_MAKERS, PORTS, "linux/devices"} - {"linux/nnp"})
"""What an agent that is not root cannot do."""


def check(isolation: tuple[str, ...]) -> None:
    """Raise L{IsolationUnknown} where a name is none."""
    for name in isolation:
        if name in INSTEAD:
            raise IsolationUnknown(f"there is no isolator {name!r} of Mesos' here: {INSTEAD[name]}")
        if name not in KNOWN and "." not in name:
            import difflib

            near = difflib.get_close_matches(name, KNOWN, 1)
            raise IsolationUnknown(
                f"unknown isolator {name!r}: {', '.join(KNOWN)} are known, and the dotted name of"
                " a function that returns an IIsolator"
                + (f"; did you mean {near[0]}?" if near else "")
            )


def make_isolators(
    settings: IsolationSettings,
    reactor: Any,
    in_thread: InThread,
    sandboxes: str,
    ports: Ranges = (),
    written: Written = lambda container: (),
) -> list[Any]:
    """
    Return the L{IIsolator}s that the flags name, in the order in which containers are prepared.

    @param sandboxes: the directory below which all sandboxes are.
    @param ports: those that the agent offers.
    @param written: which directories beside its sandbox a container writes to.
    @raise IsolationUnknown: where one is not there or cannot be used.
    """
    check(settings.isolation)
    made: list[Any] = []
    if settings.linux or set(settings.isolation) & {*CGROUPS, PORTS}:
        try:
            cgroups = find(settings.cgroups_hierarchy, settings.cgroups_root)
            controllers = controllers_of(settings.isolation, cgroups)
        except CgroupError as error:
            raise IsolationUnknown(str(error)) from None
        made.append(CgroupsIsolator(reactor, cgroups, controllers, settings))
        made += _over_cgroups(settings, reactor, in_thread, cgroups, controllers, ports)
    if set(settings.isolation) & set(DISK):
        interval, enforce = settings.disk_interval, settings.enforce_disk_quota
        made.append(DiskIsolator(reactor, in_thread, interval, enforce, written))
    for name in settings.isolation:
        kind = f"/proc/self/ns/{_NAMESPACES.get(name, '')}"
        if not os.path.exists(kind):
            raise IsolationUnknown(
                f"{name}: this kernel has no such namespaces, for want of {kind}"
            )
        try:
            if name in _MAKERS:
                made.append(_MAKERS[name](settings, sandboxes))
            elif "." in name:
                made.append(_plugged(name, settings))
        except SeccompError as error:
            raise IsolationUnknown(str(error)) from None
    return made


def _over_cgroups(
    settings: IsolationSettings,
    reactor: Any,
    in_thread: InThread,
    cgroups: Cgroups,
    controllers: Collection[str],
    ports: Ranges,
) -> list[Any]:
    """Return isolators that look at the groups which another one makes."""
    flags = settings.subsystems
    made: list[Any] = []
    if NET_CLS in controllers and flags.net_cls_primary is not None:
        handles = Handles(flags.net_cls_primary, flags.net_cls_secondaries)
        made.append(NetClsIsolator(cgroups, handles))
    if PERF_EVENT in controllers and flags.perf_events:
        group = cgroups.directory("", PERF_EVENT)
        while not os.path.isdir(group):  # none was made yet: any one does
            group = os.path.dirname(group)
        try:
            perf_events.check(flags.perf_events, group)
        except PerfError as error:
            raise IsolationUnknown(f"--perf_events: {error}") from None
        interval, duration = flags.perf_interval, flags.perf_duration
        made.append(
            PerfIsolator(reactor, in_thread, cgroups, flags.perf_events, interval, duration)
        )
    if PORTS in settings.isolation:
        isolated = ports if flags.agent_ports_only else flags.ports_isolated
        interval, enforce = flags.ports_interval, flags.enforce_ports
        made.append(PortsIsolator(reactor, in_thread, cgroups, interval, enforce, isolated))
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
