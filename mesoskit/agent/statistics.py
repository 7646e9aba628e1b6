"""What containers use, under the names that Mesos has for it (C{ResourceStatistics}).

An executor's figures are those of all its containers together: where the agent plays the executor
itself, each of its tasks has one. What they were given stands beside what they use, as
C{MesosContainerizerProcess::usage} adds it (C{src/slave/containerizer/mesos/containerizer.cpp}).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mesoskit.agent import allotments
from mesoskit.agent.container import UNLIMITED, Allotment, Usage
from mesoskit.agent.frameworks import AgentTask, Executor
from mesoskit.agent.nested_records import Nested
from mesoskit.agent.parts import together
from mesoskit.messages import codec
from mesoskit.messages.agent_pb2 import Call
from mesoskit.messages.mesos_pb2 import ResourceStatistics, TaskInfo

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

Json = dict[str, Any]

_NOTHING: Final = Allotment()


def of_executor(state: AgentState, executor: Executor) -> Json | None:
    """Return what all containers of an executor use together; L{None}: nothing is known."""
    containers = {executor.container, *(task.container for task in executor.tasks.values())}
    found = [state.usage[one] for one in containers if one is not None and one in state.usage]
    found = [one for one in found if one.whole] or found
    if not found:
        return None
    own = _NOTHING if executor.info is None else allotments.of_resources(executor.info.resources)
    total = allotments.Sum(own)
    for task in executor.tasks.values():
        if not task.terminal:
            total.add(allotments.of_task(TaskInfo.FromString(task.info)))
    return _statistics(state, found, total.total)


def of_task(state: AgentState, task: AgentTask) -> Json | None:
    """Return what the container of a task of a group uses; L{None}: nothing is known."""
    usage = None if task.container is None else state.usage.get(task.container)
    if usage is None:
        return None
    return _statistics(state, [usage], allotments.of_task(TaskInfo.FromString(task.info)))


def of_nested(state: AgentState, one: Nested) -> Json | None:
    """Return what a container uses that is no task's; L{None}: nothing is known."""
    usage = state.usage.get(one.key)
    if usage is None:
        return None
    launch = Call.LaunchContainer.FromString(one.launch)
    given = allotments.limited(allotments.of_resources(launch.resources), launch.limits)
    return _statistics(state, [usage], given)


def _statistics(state: AgentState, usage: list[Usage], given: Allotment) -> Json:
    shown = used(usage)
    if given == _NOTHING:
        return shown
    # What is not limited is limited by what there is, as in Mesos.
    there = state.options.resources
    cpus, memory = given.cpus_limit, given.mem_limit
    if cpus is None and state.options.isolation.cgroups_enable_cfs:
        cpus = given.cpus
    if cpus is not None:
        shown["cpus_limit"] = (there.scalar("cpus") if cpus == UNLIMITED else cpus) / 1000
    if memory == UNLIMITED:
        memory = there.scalar("mem") * (1 << 20) // 1000
    shown["cpus_soft_limit"] = given.cpus / 1000
    shown["mem_limit_bytes"] = given.mem if memory is None else memory
    shown["mem_soft_limit_bytes"] = given.mem
    return dict(sorted(shown.items()))


def used(usage: Iterable[Usage]) -> Json:
    """Return what some containers use together, but for what they were given."""
    user = system = timestamp = 0.0
    rss = processes = threads = 0
    figures: Json = {}
    parts: list[bytes] = []
    for one in usage:
        user += one.user_seconds
        system += one.system_seconds
        rss += one.rss_bytes
        processes += one.processes
        threads += one.threads
        timestamp = max(timestamp, one.timestamp)
        if one.parts:
            parts.append(one.parts)
        for name, value in one.figures.items():
            figures[name] = figures.get(name, 0) + value
    shown: Json = {
        "cpus_system_time_secs": system,
        "cpus_user_time_secs": user,
        "mem_rss_bytes": rss,
        "processes": processes,
        "timestamp": timestamp,
        **figures,
    }
    if threads:
        shown["threads"] = threads
    if parts:
        shown.update(_parts(*parts))
    return shown


@lru_cache(maxsize=1024)
def _parts(*parts: bytes) -> Json:
    """
    Return what is no number. It is the same from one look to the next, as long as a container reads
    and writes nothing; nobody changes it.
    """
    message = together(parts)
    message.timestamp = 0.0
    shown = codec.to_dict(message)
    del shown["timestamp"]
    return shown


def message_of(shown: Json) -> ResourceStatistics:
    """Return the same as a message."""
    return codec.from_dict(ResourceStatistics, shown)
