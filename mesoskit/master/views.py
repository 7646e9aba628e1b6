"""What the master's JSON endpoints show: C{/state} and its kin, as plain dicts.

Fields, their order and their forms are those of Mesos (C{src/master/readonly_handler.cpp}),
which web pages and DNS servers of others read. Times are seconds since 1970, 0 for what has not
happened. Nothing here changes anything. Names are v0's: an agent is a slave.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from mesoskit.master.options import MESOS_VERSION
from mesoskit.master.records import Agent, Executor, Framework, Offer, Task
from mesoskit.messages import codec, mesos_pb2
from mesoskit.messages.mesos_pb2 import AgentInfo, MasterInfo, TaskStatus
from mesoskit.model.attributes import Attributes
from mesoskit.model.resources import ENDPOINT, Resources
from mesoskit.model.tasks import TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

Json = dict[str, Any]

_SUMMARY = (
    TaskState.TASK_STAGING,
    TaskState.TASK_STARTING,
    TaskState.TASK_RUNNING,
    TaskState.TASK_KILLING,
    TaskState.TASK_FINISHED,
    TaskState.TASK_KILLED,
    TaskState.TASK_FAILED,
    TaskState.TASK_LOST,
    TaskState.TASK_ERROR,
    TaskState.TASK_UNREACHABLE,
)


def state_view(state: "MasterState", flags: dict[str, str]) -> Json:
    """Return C{/state}: everything."""
    info = state.info
    agents = state.agents.values()
    active = sum(agent.active for agent in agents)
    view: Json = {
        "version": MESOS_VERSION,
        "build_date": "",
        "build_time": 0.0,
        "build_user": "",
        "start_time": state.started,
        "elected_time": state.started,
        "id": info.id,
        "pid": info.pid,
        "hostname": info.hostname,
        "capabilities": [MasterInfo.Capability.Type.Name(one.type) for one in info.capabilities],
        "activated_slaves": float(active),
        "deactivated_slaves": float(len(agents) - active),
        "unreachable_slaves": float(len(state.unreachable)),
        "leader": info.pid,
        "leader_info": {
            "id": info.id,
            "pid": info.pid,
            "port": info.port,
            "hostname": info.hostname,
        },
    }
    if state.options.cluster is not None:
        view["cluster"] = state.options.cluster
    view["flags"] = flags
    view["slaves"] = [agent_view(agent) for agent in agents]
    view["recovered_slaves"] = [_recovered_view(one) for one in state.recovered.values()]
    view["frameworks"] = [framework_view(state, one) for one in state.frameworks.values()]
    view["completed_frameworks"] = [framework_view(state, one) for one in state.completed]
    view["orphan_tasks"] = []
    view["unregistered_frameworks"] = []
    return view


def agents_view(state: "MasterState", agent_id: str | None = None) -> Json:
    """Return C{/slaves}: all agents, or the one asked for."""
    return {
        "slaves": [
            {**agent_view(agent), **_full(agent)}
            for agent in state.agents.values()
            if agent_id in (None, agent.id)
        ],
        "recovered_slaves": [
            _recovered_view(info)
            for known, info in state.recovered.items()
            if agent_id in (None, known)
        ],
    }


def frameworks_view(state: "MasterState", framework_id: str | None = None) -> Json:
    """Return C{/frameworks}: all frameworks, or the one asked for."""

    def shown(frameworks: Iterable[Framework]) -> list[Json]:
        return [framework_view(state, one) for one in frameworks if framework_id in (None, one.id)]

    return {
        "frameworks": shown(state.frameworks.values()),
        "completed_frameworks": shown(state.completed),
        "unregistered_frameworks": [],
    }


def tasks_view(
    state: "MasterState",
    limit: int = 100,
    offset: int = 0,
    ascending: bool = False,
    framework_id: str | None = None,
    task_id: str | None = None,
) -> Json:
    """
    Return C{/tasks}: tasks of all frameworks, live, unreachable and completed, by the time
    of their first status.
    """
    found = [
        task
        for framework in chain(state.frameworks.values(), state.completed)
        if framework_id in (None, framework.id)
        for task in _all_tasks(framework)
        if task_id in (None, task.id)
    ]
    found.sort(key=_first_moment, reverse=not ascending)
    return {"tasks": [task_view(task) for task in found[offset : offset + limit]]}


def _first_moment(task: Task) -> float:
    return TaskStatus.FromString(task.statuses[0]).timestamp if task.statuses else 0.0


def _all_tasks(framework: Framework) -> Iterator[Task]:
    return chain(
        framework.tasks.values(), framework.unreachable.values(), reversed(framework.completed)
    )


def summary_view(state: "MasterState") -> Json:
    """Return C{/state-summary}: no tasks, but how many there are in each state."""
    view: Json = {"hostname": state.info.hostname}
    if state.options.cluster is not None:
        view["cluster"] = state.options.cluster
    by_agent: dict[str, list[int]] = {}
    frameworks_of: dict[str, dict[str, None]] = {}
    by_framework: dict[str, list[int]] = {}
    agents_of: dict[str, dict[str, None]] = {}
    for framework in state.frameworks.values():
        counts = by_framework.setdefault(framework.id, [0] * len(TaskState))
        for task in _all_tasks(framework):
            counts[task.state] += 1
            by_agent.setdefault(task.agent_id, [0] * len(TaskState))[task.state] += 1
            frameworks_of.setdefault(task.agent_id, {})[framework.id] = None
            agents_of.setdefault(framework.id, {})[task.agent_id] = None
    view["slaves"] = [
        {
            **agent_view(agent),
            **_counted(by_agent.get(agent.id)),
            "framework_ids": list(frameworks_of.get(agent.id, ())),
        }
        for agent in state.agents.values()
    ]
    view["frameworks"] = [
        {
            **_framework_head(framework, *_holdings(state, framework)),
            **_counted(by_framework.get(framework.id)),
            "slave_ids": list(agents_of.get(framework.id, ())),
        }
        for framework in state.frameworks.values()
    ]
    return view


def _counted(counts: list[int] | None) -> Json:
    return {one.name: 0 if counts is None else counts[one] for one in _SUMMARY}


def roles_view(state: "MasterState") -> Json:
    """Return C{/roles}: every role that a framework is in, or that something is reserved to."""
    frameworks: dict[str, list[str]] = {}
    for framework in state.frameworks.values():
        for role in framework.roles:
            frameworks.setdefault(role, []).append(framework.id)
    used = _by_role((role, held) for agent in state.agents.values() for role, held in _used(agent))
    offered = _by_role((offer.role, offer.resources) for offer in state.offers.values())
    reserved = _by_role(
        item for agent in state.agents.values() for item in agent.total.reserved().items()
    )
    names = {*frameworks, *used, *offered, *reserved, *state.options.weights}
    return {
        "roles": [
            _role_view(
                state,
                name,
                frameworks.get(name, []),
                used.get(name, Resources.EMPTY),
                offered.get(name, Resources.EMPTY),
                reserved.get(name, Resources.EMPTY),
            )
            for name in sorted(names)
        ]
    }


def _role_view(
    state: "MasterState",
    name: str,
    frameworks: list[str],
    used: Resources,
    offered: Resources,
    reserved: Resources,
) -> Json:
    both = (used + offered).quantities().as_json()
    return {
        "name": name,
        "weight": float(state.options.weights.get(name, 1.0)),
        "quota": {
            "role": name,
            "guarantee": {},
            "limit": {},
            "consumed": used.quantities().as_json(),
        },
        "resources": both,
        "allocated": used.quantities().as_json(),
        "offered": offered.quantities().as_json(),
        "reserved": reserved.quantities().as_json(),
        "frameworks": frameworks,
    }


def _by_role(items: Iterable[tuple[str, Resources]]) -> dict[str, Resources]:
    parts: dict[str, list[Resources]] = {}
    for role, resources in items:
        parts.setdefault(role, []).append(resources)
    return {role: Resources.sum(each) for role, each in parts.items()}


def _used(agent: Agent) -> Iterator[tuple[str, Resources]]:
    for roles in agent.used().values():
        yield from roles.items()


# One agent.


def agent_view(agent: Agent) -> Json:
    """Return what is shown of a registered agent."""
    info, total = agent.info, agent.total
    view: Json = {
        "id": agent.id,
        "hostname": info.hostname,
        "port": info.port,
        "attributes": Attributes.from_message(info.attributes).as_json(),
    }
    if info.HasField("domain"):
        view["domain"] = codec.to_dict(info.domain)
    view["pid"] = agent.pid
    view["registered_time"] = agent.registered_time
    if agent.reregistered_time:
        view["reregistered_time"] = agent.reregistered_time
    view["resources"] = total.as_json()
    view["used_resources"] = Resources.sum(held for _, held in _used(agent)).as_json()
    view["offered_resources"] = _sum(agent.offers.values()).as_json()
    view["reserved_resources"] = {
        role: reserved.as_json() for role, reserved in total.reserved().items()
    }
    view["unreserved_resources"] = total.unreserved().as_json()
    view["active"] = agent.active
    view["deactivated"] = False
    view["version"] = agent.version
    view["capabilities"] = list(agent.capabilities.names)
    return view


def _full(agent: Agent) -> Json:
    used = Resources.sum(held.allocated(role) for role, held in _used(agent))
    offered = Resources.sum(
        offer.resources.allocated(offer.role) for offer in agent.offers.values()
    )
    return {
        "reserved_resources_full": {
            role: _messages(held) for role, held in agent.total.reserved().items()
        },
        "unreserved_resources_full": _messages(agent.total.unreserved()),
        "used_resources_full": _messages(used),
        "offered_resources_full": _messages(offered),
    }


def _messages(resources: Resources) -> list[Json]:
    return [codec.to_dict(one) for one in resources.to_message(ENDPOINT)]


def _sum(offers: Iterable[Offer]) -> Resources:
    return Resources.sum(offer.resources for offer in offers)


def _recovered_view(info: AgentInfo) -> Json:
    total = Resources.from_message(info.resources)
    view: Json = {
        "id": info.id.value,
        "hostname": info.hostname,
        "port": info.port,
        "attributes": Attributes.from_message(info.attributes).as_json(),
        "resources": total.as_json(),
        "reserved_resources": {
            role: reserved.as_json() for role, reserved in total.reserved().items()
        },
        "unreserved_resources": total.unreserved().as_json(),
    }
    if info.HasField("domain"):
        view["domain"] = codec.to_dict(info.domain)
    return view


# One framework.


def framework_view(state: "MasterState", framework: Framework) -> Json:
    """Return what is shown of a framework, live or completed, with all of its tasks."""
    info = framework.info
    used, offered, executors = _holdings(state, framework)
    view = _framework_head(framework, used, offered, executors)
    view["user"] = info.user
    view["failover_timeout"] = info.failover_timeout
    view["checkpoint"] = info.checkpoint
    view["registered_time"] = framework.registered_time
    view["unregistered_time"] = framework.unregistered_time
    if info.HasField("principal"):
        view["principal"] = info.principal
    view["resources"] = (used + offered).as_json()
    if framework.reregistered_time != framework.registered_time:
        view["reregistered_time"] = framework.reregistered_time
    if framework.multi_role:
        view["roles"] = list(framework.roles)
    else:
        view["role"] = info.role
    view["tasks"] = [task_view(task) for task in framework.tasks.values()]
    view["unreachable_tasks"] = [task_view(task) for task in framework.unreachable.values()]
    view["completed_tasks"] = [task_view(task) for task in framework.completed]
    view["offers"] = [_offer_view(offer) for offer in framework.offers.values()]
    view["executors"] = [_executor_view(executor) for executor in executors]
    if info.HasField("labels"):
        view["labels"] = _labels(info.labels)
    view["offer_constraints"] = {}
    return view


def _framework_head(
    framework: Framework, used: Resources, offered: Resources, executors: list[Executor]
) -> Json:
    """Return what C{/state} and C{/state-summary} both begin with."""
    info = framework.info
    view: Json = {"id": framework.id, "name": info.name}
    if framework.pid.startswith("scheduler"):
        view["pid"] = framework.pid
    view["used_resources"] = used.as_json()
    view["offered_resources"] = offered.as_json()
    view["capabilities"] = list(framework.capabilities.names)
    view["hostname"] = info.hostname
    view["webui_url"] = info.webui_url
    view["active"] = framework.active
    view["connected"] = framework.connected
    view["recovered"] = framework.recovered
    return view


def _holdings(
    state: "MasterState", framework: Framework
) -> tuple[Resources, Resources, list[Executor]]:
    """Return what a framework uses, what it is offered, and its executors."""
    executors: list[Executor] = []
    for agent in state.agents.values():
        executors.extend(agent.executors.get(framework.id, {}).values())
    used = [task.resources for task in framework.tasks.values() if task.holds_resources]
    used += [executor.resources for executor in executors]
    return Resources.sum(used), _sum(framework.offers.values()), executors


def _executor_view(executor: Executor) -> Json:
    info = executor.info
    view: Json = {
        "executor_id": executor.id,
        "name": info.name,
        "framework_id": executor.framework_id,
        "command": codec.to_dict(info.command),
        "resources": executor.resources.as_json(),
        "role": executor.role,
    }
    if info.HasField("labels"):
        view["labels"] = _labels(info.labels)
    if info.HasField("type"):
        view["type"] = mesos_pb2.ExecutorInfo.Type.Name(info.type)
    view["slave_id"] = executor.agent_id
    return view


def _offer_view(offer: Offer) -> Json:
    return {
        "id": offer.id,
        "framework_id": offer.framework_id,
        "allocation_info": {"role": offer.role},
        "slave_id": offer.agent_id,
        "resources": offer.resources.as_json(),
    }


# One task.


def task_view(task: Task) -> Json:
    """Return what is shown of a task."""
    detail = mesos_pb2.Task.FromString(task.detail)
    view: Json = {
        "id": task.id,
        "name": task.name,
        "framework_id": task.framework.id,
        "executor_id": task.executor_id or "",
        "slave_id": task.agent_id,
        "state": TaskState(task.state).name,
        "resources": task.resources.as_json(),
    }
    if len(detail.limits):
        view["limits"] = {name: limit.value for name, limit in sorted(detail.limits.items())}
    view["role"] = task.role
    view["statuses"] = [_status_view(TaskStatus.FromString(one)) for one in task.statuses]
    if detail.HasField("user"):
        view["user"] = detail.user
    for name, convert in _DETAILS:
        if detail.HasField(name):
            view[name] = convert(getattr(detail, name))
    return view


def _status_view(status: TaskStatus) -> Json:
    view: Json = {
        "state": TaskState(status.state).name,
        "timestamp": status.timestamp,
    }
    if status.HasField("labels"):
        view["labels"] = _labels(status.labels)
    if status.HasField("container_status"):
        whole = codec.to_dict(status.container_status)
        shown = ("container_id", "network_infos", "cgroup_info")
        view["container_status"] = {name: whole[name] for name in shown if name in whole}
    if status.HasField("healthy"):
        view["healthy"] = status.healthy
    return view


def _labels(labels: mesos_pb2.Labels) -> list[Json]:
    return [codec.to_dict(label) for label in labels.labels]


_DETAILS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("labels", _labels),
    ("discovery", codec.to_dict),
    ("container", codec.to_dict),
    ("health_check", codec.to_dict),
)
