"""What the agent counts: C{slave/*} of Mesos' metrics (C{docs/monitoring.md})."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mesoskit.agent.frameworks import ExecutorState, Kind
from mesoskit.messages.mesos_pb2 import TaskInfo
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TERMINAL, TaskState
from mesoskit.model.values import from_thousandths

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

COUNTERS: Final = (
    "container_launch_errors",
    "executors_terminated",
    "invalid_framework_messages",
    "invalid_status_updates",
    "tasks_failed",
    "tasks_finished",
    "tasks_gone",
    "tasks_killed",
    "tasks_lost",
    "valid_framework_messages",
    "valid_status_updates",
)
"""What only ever grows, without C{slave/}."""

_SCALARS: Final = ("cpus", "gpus", "mem", "disk")
_ACTIVE: Final = {
    TaskState.TASK_STAGING: "tasks_staging",
    TaskState.TASK_STARTING: "tasks_starting",
    TaskState.TASK_RUNNING: "tasks_running",
    TaskState.TASK_KILLING: "tasks_killing",
}


def used(state: AgentState) -> Resources:
    """Return what live tasks and executors hold."""
    parts = []
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            if executor.info is not None and executor.state is not ExecutorState.TERMINATED:
                parts.append(Resources.from_message(executor.info.resources))
    for task in state.tasks.values():
        if task.state not in TERMINAL:
            parts.append(Resources.from_message(TaskInfo.FromString(task.info).resources))
    return Resources.sum(parts)


def collect(state: AgentState) -> dict[str, float]:
    """Return all of C{slave/*}, C{gc/*} and what containers use together, as name and number."""
    found: dict[str, float] = {f"slave/{name}": n for name, n in state.counters.items()}
    found["slave/registered"] = float(state.registered)
    found["slave/uptime_secs"] = state.now - (state.started_at or state.now)
    found["slave/frameworks_active"] = len(state.frameworks)
    found["slave/recovery_errors"] = state.recovery.errors
    found["slave/recovery_time_secs"] = state.recovery.seconds
    found["slave/executors_preempted"] = 0
    if state.sandboxes.allowed_age is not None:
        found["slave/executor_directory_max_allowed_age_secs"] = state.sandboxes.allowed_age
    _tasks(state, found)
    _executors(state, found)
    _resources(state, found)
    found["gc/path_removals_pending"] = len(state.sandboxes)
    found["gc/path_removals_succeeded"] = state.sandboxes.succeeded
    found["gc/path_removals_failed"] = state.sandboxes.failed
    usage = state.usage.values()
    found["slave/containers_cpus_user_time_secs"] = sum(one.user_seconds for one in usage)
    found["slave/containers_cpus_system_time_secs"] = sum(one.system_seconds for one in usage)
    found["slave/containers_mem_rss_bytes"] = sum(one.rss_bytes for one in usage)
    found["slave/containers_processes"] = sum(one.processes for one in usage)
    return found


def _tasks(state: AgentState, found: dict[str, float]) -> None:
    counted = Counter(task.state for task in state.tasks.values())
    for task_state, name in _ACTIVE.items():
        found[f"slave/{name}"] = counted[task_state]


def _executors(state: AgentState, found: dict[str, float]) -> None:
    counted = Counter(
        executor.state
        for framework in state.frameworks.values()
        for executor in framework.executors.values()
        if executor.kind is not Kind.COMMAND
    )
    for executor_state in ExecutorState:
        if executor_state is not ExecutorState.TERMINATED:
            found[f"slave/executors_{executor_state.value.lower()}"] = counted[executor_state]


def _resources(state: AgentState, found: dict[str, float]) -> None:
    total, taken = state.options.resources, used(state)
    for kind, whole, part in (
        ("", total.non_revocable(), taken.non_revocable()),
        ("_revocable", total.revocable(), taken.revocable()),
    ):
        for name in _SCALARS:
            all_of, some = whole.scalar(name), part.scalar(name)
            found[f"slave/{name}{kind}_total"] = from_thousandths(all_of)
            found[f"slave/{name}{kind}_used"] = from_thousandths(some)
            found[f"slave/{name}{kind}_percent"] = some / all_of if all_of else 0.0
