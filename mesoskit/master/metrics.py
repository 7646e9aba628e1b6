"""What C{/metrics/snapshot} shows of a master's state: names and meanings of C{docs/monitoring.md}.

Counters are kept as things happen (L{mesoskit.master.counters}); gauges are worked out here,
when somebody asks. What has no part in this master (event queues of its actor, operations on
volumes) is there and 0, so that dashboards made for Mesos find what they look for.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mesoskit.master.framework_metrics import LIVE, FrameworkMetrics
from mesoskit.master.records import Agent
from mesoskit.messages.mesos_pb2 import Offer, OperationState
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL, Reason, Source, TaskState
from mesoskit.model.values import from_thousandths

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_SCALARS = ("cpus", "gpus", "mem", "disk")
_OPERATION_STATES = ("dropped", "error", "failed", "finished", "gone_by_operator")
_OPERATION_GAUGES = ("pending", "recovering", "unreachable")
_COUNTED_OPERATIONS = (
    "create",
    "create_disk",
    "destroy",
    "destroy_disk",
    "grow_volume",
    "reserve",
    "shrink_volume",
    "unreserve",
)
_NOT_OURS = (
    "event_queue_dispatches",
    "event_queue_http_requests",
    "event_queue_messages",
    "http_cache_hits",
    "operator_event_stream_subscribers",
)


class Metrics:
    """
    What a master shows of its state, and what is kept to show it quickly.

    Each of its methods looks at the state anew.

    @param per_framework: whether there are numbers of each framework among it.
    """

    def __init__(self, per_framework: bool = True) -> None:
        self._per_framework = per_framework
        self._frameworks = FrameworkMetrics()
        # What each agent has, and the sum of that.
        self._totals: list[Resources] = []
        self._total = Resources.EMPTY

    def all(self, state: "MasterState") -> dict[str, float]:
        """Return all gauges and counters of the state, and the allocator's."""
        shown = self.cluster(state)
        if self._per_framework:
            shown.update(self._frameworks.metrics())
        return shown

    def members(self) -> list[bytes]:
        """Return what L{cluster} has left out the last time, as members of a JSON object."""
        return self._frameworks.members() if self._per_framework else []

    def cluster(self, state: "MasterState") -> dict[str, float]:
        """Return all but what is shown once a framework."""
        shown: dict[str, float] = {
            "master/elected": 1.0,
            "master/uptime_secs": max(0.0, state.now - state.started),
            "master/outstanding_offers": float(len(state.offers)),
        }
        shown.update((f"master/{name}", 0.0) for name in _NOT_OURS)
        shown.update((f"master/{name}", float(n)) for name, n in state.counters.named().items())
        shown.update(_frameworks(state))
        shown.update(_agents(state))
        allocator = state.allocator.metrics()
        shown.update(_resources(state, self._all_of(state), allocator))
        self._frameworks.look(state.frameworks.values())
        shown.update(_tasks(state, self._frameworks.active))
        shown.update(_operations(state))
        shown.update((name, float(value)) for name, value in allocator.items())
        return shown

    def _all_of(self, state: "MasterState") -> Resources:
        """Return what all agents have together."""
        totals = [agent.total for agent in state.agents.values()]
        if totals != self._totals:
            self._totals = totals
            self._total = Resources.sum(totals)
        return self._total


def metrics(state: "MasterState") -> dict[str, float]:
    """Return all gauges and counters of the state, and the allocator's."""
    return Metrics().all(state)


def _frameworks(state: "MasterState") -> dict[str, float]:
    frameworks = state.frameworks.values()
    active = sum(framework.active for framework in frameworks)
    connected = sum(framework.connected for framework in frameworks)
    return {
        "master/frameworks_active": float(active),
        "master/frameworks_inactive": float(len(frameworks) - active),
        "master/frameworks_connected": float(connected),
        "master/frameworks_disconnected": float(len(frameworks) - connected),
    }


def _agents(state: "MasterState") -> dict[str, float]:
    agents = state.agents.values()
    active = sum(agent.active for agent in agents)
    connected = sum(agent.connected for agent in agents)
    return {
        "master/slaves_active": float(active),
        "master/slaves_inactive": float(len(agents) - active),
        "master/slaves_connected": float(connected),
        "master/slaves_disconnected": float(len(agents) - connected),
        "master/slaves_unreachable": float(len(state.unreachable)),
    }


def _resources(
    state: "MasterState", total: Resources, allocator: Mapping[str, float]
) -> dict[str, float]:
    used = _used(state, list(state.agents.values()), total, allocator)
    shown: dict[str, float] = {}
    for infix, part in (("", Resources.non_revocable), ("_revocable", Resources.revocable)):
        all_of_it = part(total)
        for name in _SCALARS:
            has, uses = all_of_it.scalar(name), used[infix, name]
            shown[f"master/{name}{infix}_total"] = from_thousandths(has)
            shown[f"master/{name}{infix}_used"] = from_thousandths(uses)
            shown[f"master/{name}{infix}_percent"] = uses / has if has else 0.0
    return shown


def _used(
    state: "MasterState", agents: list[Agent], total: Resources, allocator: Mapping[str, float]
) -> dict[tuple[str, str], int]:
    """
    Return the thousandths that tasks and executors hold, by C{""} or C{"_revocable"} and name.

    What frameworks hold and are offered together is a number that the allocator keeps. Where
    that tells nothing of what is revocable or held several times over, tasks are added up.
    """
    prefix, suffix = "allocator/mesos/resources/", "/offered_or_allocated"
    known = [allocator.get(f"{prefix}{name}{suffix}") for name in _SCALARS]
    if total.revocable() or total.shared() or None in known:
        held = Resources.sum(_held(agents))
        parts = (("", held.non_revocable()), ("_revocable", held.revocable()))
        return {(infix, name): part.scalar(name) for infix, part in parts for name in _SCALARS}
    offered = Resources.sum(offer.resources for offer in state.offers.values())
    found = {("_revocable", name): 0 for name in _SCALARS}
    for name, amount in zip(_SCALARS, known, strict=True):
        found["", name] = round((amount or 0.0) * 1000) - offered.scalar(name)
    return found


def _held(agents: list[Agent]) -> list[Resources]:
    """Return what tasks and executors hold, each for itself: to be added up in one go."""
    parts = [task.resources for agent in agents for task in agent.tasks if task.holds_resources]
    for agent in agents:
        if agent.executors:
            parts += [executor.resources for executor in agent.all_executors()]
    return parts


def _tasks(state: "MasterState", active: Sequence[int]) -> dict[str, float]:
    shown = {f"master/{_plural(one)}": float(active[one]) for one in LIVE}
    counters = state.counters
    for terminal in map(TaskState, TERMINAL):
        shown[f"master/{_plural(terminal)}"] = float(counters.terminal[terminal])
    for (after, source, reason), count in counters.reasons.items():
        name = (
            f"master/{TaskState(after).name}/{Source(source).name}/{Reason(reason).name}"
        ).lower()
        # The names are v0's, as are Mesos' own.
        shown[name.replace("_agent", "_slave")] = float(count)
    return shown


def _plural(state: TaskState) -> str:
    """C{tasks_running} for C{TASK_RUNNING}."""
    return "tasks_" + state.name.removeprefix("TASK_").lower()


def _operations(state: "MasterState") -> dict[str, float]:
    shown = {
        f"master/operations/{kind}{name}": 0.0
        for kind in ("", *(f"{kind}/" for kind in _COUNTED_OPERATIONS))
        for name in (*_OPERATION_STATES, *_OPERATION_GAUGES, "total")
    }
    for (kind, after), count in state.counters.operations.items():
        name = Offer.Operation.Type.Name(kind).lower()
        ended = OperationState.Name(after).removeprefix("OPERATION_").lower()
        for key in (f"{name}/{ended}", f"{name}/total", ended, "total"):
            shown[f"master/operations/{key}"] = shown.get(f"master/operations/{key}", 0.0) + count
    return shown
