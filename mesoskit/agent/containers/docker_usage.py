"""What containers of a Docker engine use.

Where the engine's processes are to be seen, from C{/proc} and their cgroups, whoever has made
those; else by the engine's own word, one request a container. As Mesos' Docker containerizer
(C{cgroupsStatistics} in C{src/slave/containerizer/docker.cpp}), and what a network of their own
has carried besides.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final, Protocol

from twisted.logger import Logger

from mesoskit.agent.container import Usage
from mesoskit.agent.containers.cgroups import CgroupError, Cgroups, find
from mesoskit.agent.containers.docker_found import Found
from mesoskit.agent.containers.docker_http import Engine, EngineError
from mesoskit.agent.usage import read_usage
from mesoskit.agent.users import InThread
from mesoskit.messages.mesos_pb2 import CgroupInfo, ResourceStatistics
from mesoskit.model.ids import ContainerId

_CARRIED: Final = (
    *("net_rx_bytes", "net_rx_packets", "net_rx_errors", "net_rx_dropped"),
    *("net_tx_bytes", "net_tx_packets", "net_tx_errors", "net_tx_dropped"),
)
_COLUMNS: Final = (0, 1, 2, 3, 8, 9, 10, 11)
"""Of a line of C{/proc/net/dev}, behind the name of the interface."""

_OPERATIONS: Final = {
    "read": CgroupInfo.Blkio.READ,
    "write": CgroupInfo.Blkio.WRITE,
    "sync": CgroupInfo.Blkio.SYNC,
    "async": CgroupInfo.Blkio.ASYNC,
    "discard": CgroupInfo.Blkio.DISCARD,
    "total": CgroupInfo.Blkio.TOTAL,
}
_NO_LIMIT: Final = 1 << 60


class Used(Protocol):
    """
    A container that runs.

    @ivar name: by which the engine knows it.
    @ivar found: what it has said of it.
    """

    id: ContainerId
    name: str
    running: bool
    found: Found


class Reader:
    """
    Reads what containers use.

    @param hierarchy: where cgroups are mounted (C{--cgroups_hierarchy}).
    """

    log = Logger()

    def __init__(self, reactor: Any, engine: Engine, in_thread: InThread, hierarchy: str) -> None:
        self._reactor = reactor
        self._engine = engine
        self._in_thread = in_thread
        self._hierarchy = hierarchy
        self._cgroups: Cgroups | None = None
        self._looked = False

    async def read(self, running: Collection[Used]) -> dict[ContainerId, Usage]:
        """Return what these use; those of which nobody knows it are left out."""
        now = self._reactor.seconds()
        usage: dict[ContainerId, Usage] = await self._in_thread(lambda: self._here(running, now))
        for one in running:
            if one.id not in usage and one.running:
                stats = await self._stats(one.name)
                if stats is not None and one.running:
                    usage[one.id] = usage_of(stats, now)
        return usage

    def _here(self, running: Collection[Used], now: float) -> dict[ContainerId, Usage]:
        """In a thread: read files."""
        if not self._looked:
            self._looked = True
            try:
                # The root of all: the names are whole paths.
                self._cgroups = find(self._hierarchy, "")
            except CgroupError as error:
                self.log.info("containers of Docker: {why}", why=error)
        groups = {one.id: one.found.cgroup() for one in running}
        here = {one.id: one.found.pid for one in running if groups[one.id]}
        usage = read_usage(here, {}, now) if here else {}
        return {
            name: self._counted(seen, here[name], groups[name].strip("/"))
            for name, seen in usage.items()
        }

    def _counted(self, seen: Usage, pid: int, group: str) -> Usage:
        figures = carried(pid)
        parts = b""
        if self._cgroups is not None and group:
            figures.update(self._cgroups.statistics(group))
            io = self._cgroups.io(group)
            if io is not None and io.ByteSize():
                parts = ResourceStatistics(blkio_statistics=io).SerializePartialToString()
        return replace(
            seen,
            user_seconds=figures.pop("cpus_user_time_secs", seen.user_seconds),
            system_seconds=figures.pop("cpus_system_time_secs", seen.system_seconds),
            rss_bytes=int(figures.pop("mem_rss_bytes", seen.rss_bytes)),
            figures=figures,
            parts=parts,
        )

    async def _stats(self, name: str) -> dict[str, Any] | None:
        query = {"stream": "false", "one-shot": "true"}
        try:
            found = await self._engine.ask("GET", f"/containers/{name}/stats", query)
        except EngineError:
            return None
        return found if isinstance(found, dict) else None


def carried(pid: int) -> dict[str, float]:
    """Return what the network of a process has carried, where it is not ours."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return {}
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return {}
    found: dict[str, float] = dict.fromkeys(_CARRIED, 0)
    for line in lines:
        interface, _, text = line.partition(":")
        words = text.split()
        if interface.strip() != "lo" and len(words) >= 12:
            for name, column in zip(_CARRIED, _COLUMNS, strict=True):
                found[name] += int(words[column])
    return found


def usage_of(stats: dict[str, Any], now: float) -> Usage:
    """Return what a container uses, by the engine's own word (C{GET /containers/<name>/stats})."""
    given = stats.get("cpu_stats") or {}
    cpu = given.get("cpu_usage") or {}
    throttled = given.get("throttling_data") or {}
    memory = stats.get("memory_stats") or {}
    kernel = (cpu.get("usage_in_kernelmode") or 0) / 1e9
    total = (cpu.get("total_usage") or 0) / 1e9
    inside = memory.get("stats") or {}
    resident = inside.get("rss", inside.get("anon", memory.get("usage") or 0))
    processes = (stats.get("pids_stats") or {}).get("current") or 1
    figures: dict[str, float] = {}
    if throttled.get("periods"):
        figures["cpus_nr_periods"] = throttled["periods"]
        figures["cpus_nr_throttled"] = throttled.get("throttled_periods") or 0
        figures["cpus_throttled_time_secs"] = (throttled.get("throttled_time") or 0) / 1e9
    if memory.get("usage"):
        figures["mem_total_bytes"] = memory["usage"]
    if 0 < (memory.get("limit") or 0) < _NO_LIMIT:
        figures["mem_limit_bytes"] = memory["limit"]
    for name in _CARRIED:
        for network in (stats.get("networks") or {}).values():
            key = name.removeprefix("net_")
            figures[name] = figures.get(name, 0) + (network.get(key) or 0)
    return Usage(
        max(0.0, total - kernel),
        kernel,
        int(resident),
        int(processes),
        now,
        figures=figures,
        parts=_blocks(stats.get("blkio_stats") or {}),
    )


def _blocks(stats: dict[str, Any]) -> bytes:
    """Return what block devices were asked for, as a part of C{ResourceStatistics}."""
    found = CgroupInfo.Blkio.Statistics()
    entries: dict[tuple[int, int], Any] = {}
    for key, name in (
        ("io_service_bytes_recursive", "io_service_bytes"),
        ("io_serviced_recursive", "io_serviced"),
    ):
        values: Iterable[dict[str, Any]] = stats.get(key) or ()
        for one in values:
            device = int(one.get("major") or 0), int(one.get("minor") or 0)
            if device not in entries:
                entry = entries[device] = found.throttling.add()
                entry.device.major_number, entry.device.minor_number = device
            word = _OPERATIONS.get(str(one.get("op")).lower(), CgroupInfo.Blkio.UNKNOWN)
            getattr(entries[device], name).add(op=word, value=int(one.get("value") or 0))
    if not entries:
        return b""
    return ResourceStatistics(blkio_statistics=found).SerializePartialToString()
