"""What a framework says of itself, and how it keeps its id."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from mesoskit.driver.settings import DriverSettings
from mesoskit.messages.mesos_pb2 import FrameworkInfo

_Capability = FrameworkInfo.Capability

CAPABILITIES: Final = (
    _Capability.TASK_KILLING_STATE,
    _Capability.PARTITION_AWARE,
    _Capability.RESERVATION_REFINEMENT,
)
"""What the driver can do for every framework; asked for unless a framework asks for its own."""


class IdStore(Protocol):
    """
    Where a framework's id is kept from one run of its program to the next.

    Each method may return a Deferred; what is read is waited for.
    """

    def read(self) -> str | Deferred[str]:
        """Return the id, C{""} where there is none yet."""
        ...

    def write(self, framework_id: str) -> Deferred[None] | None:
        """Keep this id, whole or not at all."""
        ...

    def forget(self) -> Deferred[None] | None:
        """Keep none: the framework is no more."""
        ...


class FileIds:
    """An L{IdStore} in a file of one line."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> str:
        """Return what is in the file; C{""} where there is none."""
        try:
            return self._path.read_text("utf-8").strip()
        except FileNotFoundError:
            return ""

    def write(self, framework_id: str) -> None:
        """Write another file, and put it in the place of this one."""
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(framework_id + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def forget(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def id_store(
    reactor: Any, given: str | Path | IdStore | None, settings: DriverSettings
) -> IdStore | None:
    """
    Return what a framework's author means by where its id is kept.

    Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>} for a wrong C{zk://} address.
    """
    if isinstance(given, str) and given.startswith("zk://"):
        from mesoskit.driver.zookeeper_ids import zookeeper_ids

        return zookeeper_ids(reactor, given, settings)
    return FileIds(given) if isinstance(given, str | Path) else given


def keeps_id(info: FrameworkInfo, ids: IdStore | None, failover: bool | None) -> bool:
    """
    Tell whether a framework means to come back under its id after its program has ended.

    It does if it says so, if it has an id already or a place to keep it in, or if it asks for a
    C{failover_timeout}.
    """
    if failover is not None:
        return failover
    return ids is not None or bool(info.id.value) or info.failover_timeout > 0


def complete(
    info: FrameworkInfo,
    settings: DriverSettings,
    keeps: bool,
    capabilities: bool,
    principal: str | None = None,
) -> FrameworkInfo:
    """
    Return a copy with what was left open filled in: user and host name as Mesos' driver does,
    C{failover_timeout}, C{checkpoint}, and the driver's own capabilities.

    Mesos' defaults kill every task when a link breaks: the framework's (C{failover_timeout}
    of 0) or the agent's (C{checkpoint} not set). They hold here only where they were asked for.

    @param capabilities: whether to add L{CAPABILITIES} to a framework that has none.
    @param principal: who proves to be the framework, where it names nobody.
    """
    full = FrameworkInfo()
    full.CopyFrom(info)
    if not full.user:
        full.user = getpass.getuser()
    if not full.hostname:
        full.hostname = socket.gethostname()
    if not full.HasField("checkpoint"):
        full.checkpoint = True
    if not full.HasField("failover_timeout"):
        full.failover_timeout = settings.failover_timeout if keeps else settings.blip_timeout
    if principal is not None and not full.HasField("principal"):
        full.principal = principal
    if capabilities and not full.capabilities:
        for kind in CAPABILITIES:
            full.capabilities.add().type = kind
    return full
