"""What the agent's JSON endpoints show: C{/state}, C{/containers}, C{/monitor/statistics}.

Fields, their order and their forms are those of Mesos (C{src/slave/http.cpp}); names are v0's.
Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mesoskit.agent import statistics
from mesoskit.agent.authorizing import EVERYTHING, Viewer
from mesoskit.agent.frameworks import AgentTask, Executor, ExecutorState, Framework, Group
from mesoskit.agent.registration import CAPABILITIES
from mesoskit.messages import codec
from mesoskit.messages.mesos_pb2 import AgentInfo, CommandInfo, DomainInfo, ExecutorInfo, TaskInfo
from mesoskit.model.attributes import Attributes
from mesoskit.model.resources import ENDPOINT, Resources
from mesoskit.model.task_json import labels_json, task_json
from mesoskit.model.tasks import TERMINAL

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

Json = dict[str, Any]

_SHOWN = 15
"""A command longer than this is cut short in the name of its executor."""


def head_view(state: AgentState, master: str | None, viewer: Viewer = EVERYTHING) -> Json:
    """
    Return what C{/state} begins with, before the frameworks. Sums are of all there is, as in
    Mesos.

    @param master: the host of the master; L{None} where there is none.
    """
    options = state.options
    total = options.resources
    used = Resources.sum(
        resources_of(executor)
        for framework in state.frameworks.values()
        for executor in framework.executors.values()
        if executor.state is not ExecutorState.TERMINATED
    )
    view: Json = {
        "version": options.version,
        **options.build.as_json(),
        "start_time": state.started_at or 0.0,
        "id": state.agent_id,
        "pid": options.pid,
        "hostname": options.hostname,
        "capabilities": [AgentInfo.Capability.Type.Name(one) for one in CAPABILITIES],
        "resources": total.as_json(),
        "reserved_resources": _by_role(total, viewer),
        "unreserved_resources": total.unreserved().as_json(),
        "reserved_resources_full": {
            role: _messages(part) for role, part in total.reserved().items() if viewer.role(role)
        },
        "unreserved_resources_full": _messages(total.unreserved()),
        "reserved_resources_allocated": _by_role(used, viewer),
        "unreserved_resources_allocated": used.unreserved().as_json(),
        "resource_providers": [],
        "attributes": Attributes.from_message(options.attributes).as_json(),
    }
    if state.drain is not None:
        view["drain_config"] = codec.to_dict(state.drain)
        view["estimated_drain_start_time_seconds"] = state.drain_started
    if options.domain:
        view["domain"] = codec.to_dict(DomainInfo.FromString(options.domain))
    if master is not None:
        view["master_hostname"] = master
    if viewer.flags():
        if options.log_dir:
            view["log_dir"] = options.log_dir
        if options.external_log_file:
            view["external_log_file"] = options.external_log_file
        view["flags"] = options.flags
    return view


def _by_role(resources: Resources, viewer: Viewer) -> Json:
    reserved = resources.reserved().items()
    return {role: part.as_json() for role, part in reserved if viewer.role(role)}


def _messages(resources: Resources) -> list[Json]:
    return [codec.to_dict(one) for one in resources.to_message(ENDPOINT)]


def framework_view(framework: Framework) -> Json:
    """Return what is shown of a framework, but for its executors."""
    info = framework.info
    view: Json = {
        "id": framework.id,
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout,
        "checkpoint": info.checkpoint,
        "hostname": info.hostname,
    }
    if info.HasField("principal"):
        view["principal"] = info.principal
    if any(one.type == one.MULTI_ROLE for one in info.capabilities):
        view["roles"] = list(info.roles)
    else:
        view["role"] = info.role
    return view


def executor_view(executor: Executor, viewer: Viewer = EVERYTHING) -> Json:
    """Return what is shown of an executor, with its tasks."""
    tasks = list(executor.tasks.values())
    queued = list(queued_of(executor))
    waiting = {task.id for task in queued}
    completed = list(executor.completed or ())
    held = resources_of(executor)
    view: Json = {
        "id": executor.id,
        "name": name_of(executor),
        "source": source_of(executor),
        "container": executor.container,
        "directory": executor.directory,
        "resources": held.as_json(),
        "role": _role(executor, [*tasks, *completed]),
    }
    info = executor.info
    if info is None:
        labels = [one.labels for one in map(_info, tasks[:1]) if one.HasField("labels")]
    else:
        labels = [info.labels] if info.HasField("labels") else []
        if info.HasField("type"):
            view["type"] = ExecutorInfo.Type.Name(info.type)
    if labels:
        view["labels"] = labels_json(labels[0])
    for name, of in (
        ("tasks", [one for one in tasks if one.id not in waiting]),
        ("queued_tasks", queued),
        ("completed_tasks", completed),
    ):
        view[name] = [task_json(one.to_message()) for one in of if viewer.task(one)]
    return view


def queued_of(executor: Executor) -> Iterator[AgentTask]:
    """Give the tasks that wait until their executor has subscribed."""
    for one in executor.queued:
        if isinstance(one, Group):
            yield from one.tasks
        else:
            yield one


def _info(task: AgentTask) -> TaskInfo:
    return TaskInfo.FromString(task.info)


def _first_task(executor: Executor) -> TaskInfo | None:
    for task in (*executor.tasks.values(), *(executor.completed or ())):
        return _info(task)
    return None


def _role(executor: Executor, tasks: list[AgentTask]) -> str:
    resources = list(executor.info.resources) if executor.info is not None else []
    resources += list(_info(tasks[0]).resources) if tasks else []
    for one in resources:
        if one.HasField("allocation_info"):
            return one.allocation_info.role
    return executor.framework.info.role


def resources_of(executor: Executor) -> Resources:
    """Return what an executor and its live tasks hold."""
    parts = [] if executor.info is None else [Resources.from_message(executor.info.resources)]
    parts += [
        Resources.from_message(_info(task).resources)
        for task in executor.tasks.values()
        if task.state not in TERMINAL
    ]
    return Resources.sum(parts)


def name_of(executor: Executor) -> str:
    """Return the name of an executor; that of a command task's tells its command."""
    if executor.info is not None:
        return executor.info.name
    task = _first_task(executor)
    if task is None:
        return "Command Executor"
    return f"Command Executor (Task: {task.task_id.value}) (Command: {_short(task.command)})"


def _short(command: CommandInfo) -> str:
    if command.shell:
        return f"sh -c '{_cut(command.value)}'" if command.HasField("value") else "NO COMMAND"
    if not command.HasField("value"):
        return "NO EXECUTABLE"
    return f"[{command.value}, {_cut(', '.join(command.arguments))}]"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def source_of(executor: Executor) -> str:
    """Return the source of an executor: of a command task's, the task's id."""
    return executor.id if executor.info is None else executor.info.source


# What containers use.


def containers_view(
    state: AgentState,
    container_id: str | None = None,
    viewer: Viewer = EVERYTHING,
    framework_id: str | None = None,
    executor_id: str | None = None,
) -> list[Json]:
    """
    Return C{/containers}: what runs and what it uses, an object for each executor; only those of
    these names, where any are given.
    """
    shown = []
    for framework in state.frameworks.values():
        if framework_id not in (None, framework.id):
            continue
        for executor in framework.executors.values():
            if executor.state is ExecutorState.TERMINATED:
                continue
            if executor_id not in (None, executor.id):
                continue
            if container_id not in (None, executor.container) or not viewer.container(executor):
                continue
            view: Json = {
                "container_id": executor.container,
                **_whose(framework, executor),
                "statistics": statistics.of_executor(state, executor),
                "status": {"container_id": {"value": executor.container}},
            }
            if view["statistics"] is None:
                del view["statistics"]
            pid = executor.pid or next((one.pid for one in executor.tasks.values() if one.pid), 0)
            if pid:
                view["status"]["executor_pid"] = pid
            if executor.container in state.classes:
                handle = {"classid": state.classes[executor.container]}
                view["status"]["cgroup_info"] = {"net_cls": handle}
            shown.append(view)
    return shown


def statistics_view(state: AgentState) -> list[Json]:
    """Return C{/monitor/statistics}: the same without ids of containers."""
    return [
        {**_whose(framework, executor), "statistics": used}
        for framework in state.frameworks.values()
        for executor in framework.executors.values()
        if (used := statistics.of_executor(state, executor)) is not None
    ]


def _whose(framework: Framework, executor: Executor) -> Json:
    return {
        "executor_id": executor.id,
        "executor_name": name_of(executor),
        "framework_id": framework.id,
        "source": source_of(executor),
    }
