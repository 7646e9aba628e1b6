"""What containers are given: from the resources and limits of tasks and executors.

A command task and each task of a group have a container of their own, which is given what the
task is. The container of a custom executor is given what the executor and all its live tasks
are together; it is given more or less as they come and go (C{Slave::___run} and
C{computeExecutorLimits} in C{src/slave/slave.cpp}). So is that of a pod (L{mesoskit.agent.pods}),
within which those of its tasks are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import isinf
from typing import TYPE_CHECKING, Final

from mesoskit.agent.container import UNLIMITED, Allotment, Update
from mesoskit.messages.mesos_pb2 import Resource, TaskInfo, Value
from mesoskit.model.values import coalesced

if TYPE_CHECKING:
    from mesoskit.agent.frameworks import AgentTask, Executor
    from mesoskit.agent.state import AgentState

_MEGABYTE: Final = 1 << 20


def of_resources(resources: Iterable[Resource]) -> Allotment:
    """Return what resources come to; of disks only what is no volume."""
    sums = {"cpus": 0.0, "mem": 0.0, "disk": 0.0, "gpus": 0.0}
    ports: list[tuple[int, int]] = []
    for resource in resources:
        if resource.name == "ports":
            ports += ((one.begin, one.end) for one in resource.ranges.range)
        elif resource.name in sums and not resource.HasField("disk"):
            sums[resource.name] += resource.scalar.value
    return Allotment(
        cpus=round(sums["cpus"] * 1000),
        mem=round(sums["mem"] * _MEGABYTE),
        disk=round(sums["disk"] * _MEGABYTE),
        gpus=round(sums["gpus"]),
        ports=coalesced(ports),
    )


def of_task(info: TaskInfo) -> Allotment:
    """Return what a task is given, and what it may take at most."""
    return limited(of_resources(info.resources), info.limits)


def limited(given: Allotment, limits: Mapping[str, Value.Scalar]) -> Allotment:
    """Return what is given, and at most what limits say."""
    if not len(limits):
        return given
    return Allotment(
        given.cpus,
        given.mem,
        given.disk,
        given.gpus,
        _limit(limits, "cpus", 1000),
        _limit(limits, "mem", _MEGABYTE),
        given.ports,
    )


def _limit(limits: Mapping[str, Value.Scalar], name: str, unit: int) -> int | None:
    if name not in limits:
        return None
    value = limits[name].value * unit
    if not value >= 0:
        return None  # of a master that lets pass what is no number
    return UNLIMITED if isinf(value) else round(value)


class Sum:
    """
    What the container of an executor is given: the executor's own, and its live tasks'.

    Once one of them has a limit, the limits of those that have none are what they were given;
    what has no limit at all has none together with others either.
    """

    __slots__ = ("_cpus", "_disk", "_gpus", "_mem", "_ports", "allotted")

    def __init__(self, own: Allotment) -> None:
        """
        @param own: the executor's.
        @ivar allotted: what the container was given last.
        """
        self._cpus = _Part()
        self._mem = _Part()
        self._disk = self._gpus = 0
        self._ports: Counter[tuple[int, int]] = Counter()
        self.allotted = own
        self.add(own)

    def add(self, one: Allotment, sign: int = 1) -> None:
        """Add what is given to a task, or take it away again (C{sign} is -1)."""
        self._cpus.add(one.cpus, one.cpus_limit, sign)
        self._mem.add(one.mem, one.mem_limit, sign)
        self._disk += sign * one.disk
        self._gpus += sign * one.gpus
        if one.ports:
            for ports in one.ports:
                self._ports[ports] += sign
            self._ports += Counter()  # without what there is nothing of

    @property
    def total(self) -> Allotment:
        """What it comes to."""
        return Allotment(
            self._cpus.given,
            self._mem.given,
            self._disk,
            self._gpus,
            self._cpus.limit,
            self._mem.limit,
            coalesced(self._ports),
        )


class _Part:
    """One resource of a L{Sum}."""

    __slots__ = ("_ceiling", "_limited", "_unlimited", "given")

    def __init__(self) -> None:
        self.given = self._ceiling = self._limited = self._unlimited = 0

    def add(self, given: int, limit: int | None, sign: int) -> None:
        self.given += sign * given
        self._ceiling += sign * (given if limit is None or limit == UNLIMITED else limit)
        self._limited += sign * (limit is not None)
        self._unlimited += sign * (limit == UNLIMITED)

    @property
    def limit(self) -> int | None:
        if not self._limited:
            return None
        return UNLIMITED if self._unlimited else self._ceiling


# Custom executors, and pods.


def launched(executor: Executor, infos: Iterable[TaskInfo]) -> Allotment:
    """Return what an executor is launched with: its own and its first tasks'."""
    assert executor.info is not None
    first = Sum(executor.given.total)
    for info in infos:
        first.add(of_task(info))
    executor.given.allotted = first.total
    return first.total


def took(executor: Executor, task: AgentTask) -> None:
    """Count what a live task of an executor is given."""
    task.given = of_task(TaskInfo.FromString(task.info))
    executor.given.add(task.given)


def ended(state: AgentState, task: AgentTask) -> None:
    """A task is over: its executor's container is given less."""
    if task.given is not None:
        task.executor.given.add(task.given, -1)
        task.given = None
        update(state, task.executor)


def update(state: AgentState, executor: Executor) -> None:
    """Give the container of an executor what it should have, where that has changed."""
    total = executor.given.total
    if total != executor.given.allotted and executor.container in state.containers:
        executor.given.allotted = total
        state.out.append(Update(executor.container, total))
