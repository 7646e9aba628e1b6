"""What keeps containers apart: the seam where an operator plugs in something of his own.

An isolator is named in C{--isolation}; Mesos' names stand for those that come along
(L{mesoskit.agent.containers.known_isolators}), a name with dots for what a site has written: a
function that is given the agent's L{IsolationSettings} and returns an L{IIsolator}.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from google.protobuf.message import Message
from zope.interface import Attribute, Interface, implementer

from mesoskit.agent.container import Allotment, ContainerSpec, Limitation
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.launcher_isolation import Mount
from mesoskit.messages.mesos_pb2 import ContainerInfo
from mesoskit.model.ids import ContainerId

Limited = Callable[[ContainerId, Limitation], None]
"""Is told of a container that takes more than it was given; it will be ended."""

Figure = float | Message
"""One of the figures of a container."""


@dataclass(slots=True)
class Isolated:
    """
    A container as isolators know it, from before it is prepared until it is gone.

    @ivar id: its own.
    @ivar sandbox: where it is.
    @ivar allotment: what it was given last.
    @ivar info: its C{ContainerInfo} as it came, empty where there is none.
    @ivar parent: what it is nested in, where that runs here.
    @ivar pod: it is the container of an executor of groups.
    @ivar member: it is one of the tasks in there, and has what of C{parent} is not its own.
    @ivar staged: something else makes its namespaces, mounts and rights; it wants limits alone.
    @ivar user: as whom it runs; L{None}: as the agent.
    @ivar pid: of its first process, 0 while that is not there.
    @ivar classid: the number that what it sends bears, where an isolator has given it one.
    """

    id: ContainerId
    sandbox: str
    allotment: Allotment
    info: bytes = b""
    parent: "Isolated | None" = None
    staged: bool = False
    user: str | None = None
    pid: int = 0
    classid: int | None = None
    pod: bool = False
    member: bool = False

    @classmethod
    def of(cls, spec: ContainerSpec, parent: "Isolated | None") -> "Isolated":
        """
        Return what is known of a container that is to be started. Raises L{ContainerError} where
        it is to be held to what is no limit.
        """
        check(spec.allotment)
        return cls(
            spec.id,
            spec.sandbox,
            spec.allotment,
            spec.info,
            parent,
            spec.staged,
            spec.user,
            pod=spec.pod,
            member=spec.member and parent is not None,
        )

    @property
    def container_info(self) -> ContainerInfo:
        """What its task or executor says of it."""
        return ContainerInfo.FromString(self.info)


_MOST_CPUS: Final = ((1 << 44) - 1) // 100
"""Thousandths: a quota of microseconds in a tenth of a second has 44 bits in Linux."""

_MOST_BYTES: Final = (1 << 63) - 1


def check(allotment: Allotment) -> None:
    """Raise L{ContainerError} where a limit is greater than the kernel can count."""
    for name, given, most, unit in (
        ("cpus", allotment.cpus_limit, _MOST_CPUS, 1000),
        ("mem", allotment.mem_limit, _MOST_BYTES, 1 << 20),
        ("mem", allotment.mem, _MOST_BYTES, 1 << 20),
    ):
        if given is not None and given > most:
            raise ContainerError(
                f"the limit of {name} is too large: {given / unit:g} is more than"
                f" {most // unit}; give it less, or Infinity for none"
            )


@dataclass(slots=True, frozen=True)
class Preparation:
    """
    What an isolator wants of the start of a container; see
    L{mesoskit.agent.launcher_isolation.Isolation}, where the words are the same.

    @ivar environment: variables that are added.
    """

    environment: tuple[tuple[str, str], ...] = ()
    cgroups: tuple[str, ...] = ()
    kill: str = ""
    inside: str = ""
    namespaces: frozenset[str] = frozenset()
    mounts: tuple[Mount, ...] = ()
    hide: str = ""
    root: str = ""
    directory: str = ""
    bounding: int | None = None
    effective: int | None = None
    no_new_privileges: bool = False
    seccomp: bytes = b""
    oom_score: int | None = None


NOTHING = Preparation()

_DEFAULTS: dict[str, Any] = {
    name: getattr(NOTHING, name) for name in Preparation.__dataclass_fields__
}


class IIsolator(Interface):
    """
    Keeps containers apart, or to what they were given, in one way.

    Everything is called in the reactor's thread but C{usage}. What raises
    L{mesoskit.agent.containers.ContainerError} in C{prepare} or C{isolated} fails the launch.
    """

    limited = Attribute("A L{Limited}, set before anything is called.")

    def prepare(container: Isolated) -> Any:
        """Return a L{Preparation} for its start, or a Deferred of one."""

    def isolated(container: Isolated) -> None:
        """Its first process runs, C{container.pid}."""

    def recover(container: Isolated) -> None:
        """An earlier agent has started it, and it runs."""

    def update(container: Isolated) -> None:
        """It is given more or less, C{container.allotment}."""

    def usage(container: Isolated) -> Mapping[str, Figure]:
        """
        Return what it uses, under the names of C{ResourceStatistics}: numbers, or messages where
        these are no numbers (C{blkio_statistics}). Called in a thread; what it raises is logged.
        """

    def limitation(container: Isolated) -> Limitation | None:
        """It has ended: return why, if that was for taking too much."""

    def cleanup(container: Isolated) -> bool:
        """
        Remove what there is of it; nothing of it runs any more, or it never ran. Say whether
        all of that is gone; otherwise it is called again.
        """

    def stop() -> None:
        """The agent ends; containers go on."""


@implementer(IIsolator)
@dataclass(slots=True)
class Isolator:
    """An L{IIsolator} that does nothing, to be more."""

    limited: Limited = field(default=lambda container, limitation: None, init=False)

    def prepare(self, container: Isolated) -> Any:
        """Want nothing."""
        return NOTHING

    def isolated(self, container: Isolated) -> None:
        """Do nothing."""

    def recover(self, container: Isolated) -> None:
        """Do nothing."""

    def update(self, container: Isolated) -> None:
        """Do nothing."""

    def usage(self, container: Isolated) -> Mapping[str, Figure]:
        """Know nothing."""
        return {}

    def limitation(self, container: Isolated) -> Limitation | None:
        """Know of none."""
        return None

    def cleanup(self, container: Isolated) -> bool:
        """Leave nothing."""
        return True

    def stop(self) -> None:
        """Do nothing."""


def together(parts: Iterable[Preparation]) -> Preparation:
    """Return what several want: all of it; of what there can be one of, the last one's."""
    whole = NOTHING
    for part in parts:
        changes: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(part, name)
            if value == default:
                continue
            if isinstance(value, tuple):
                value = getattr(whole, name) + value
            elif isinstance(value, frozenset):
                value = getattr(whole, name) | value
            changes[name] = value
        whole = replace(whole, **changes)
    return whole


def as_request(whole: Preparation) -> dict[str, Any] | None:
    """Return what the launcher is asked; L{None}: nothing special."""
    request: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = getattr(whole, name)
        if name != "environment" and value != default:
            request[name] = sorted(value) if isinstance(value, frozenset) else value
    if "mounts" in request:
        request["mounts"] = [tuple(mount) for mount in whole.mounts]
    if "seccomp" in request:
        request["seccomp"] = base64.b64encode(whole.seccomp).decode()
    return request or None
