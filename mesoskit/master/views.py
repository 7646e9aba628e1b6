"""What the master's JSON endpoints show of each thing, as plain dicts.

L{mesoskit.master.documents} makes C{/state} and its kin of them.

Fields, their order and their forms are those of Mesos (C{src/master/readonly_handler.cpp}),
which web pages and DNS servers of others read. Times are seconds since 1970, 0 for what has not
happened. Nothing here changes anything. Names are v0's: an agent is a slave.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from mesoskit.master.options import MESOS_VERSION
from mesoskit.master.records import Agent, Executor, Framework, Offer, Task
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.messages import codec, mesos_pb2
from mesoskit.messages.mesos_pb2 import AgentInfo, MasterInfo, TaskStatus
from mesoskit.model.attributes import Attributes
from mesoskit.model.ids import FrameworkId
from mesoskit.model.resources import ENDPOINT, Resources
from mesoskit.model.secrets import shown
from mesoskit.model.task_json import details_json, labels_json, limits_json, status_json
from mesoskit.model.tasks import TaskState

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

Json = dict[str, Any]

Held = Mapping[FrameworkId, Mapping[str, Resources]]
"""What frameworks hold on an agent, by framework and role."""

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


def head_view(state: "MasterState", flags: dict[str, str] | None) -> Json:
    """
    Return what C{/state} begins with, before all lists.

    @param flags: L{None} for whoever may not see them.
    """
    info = state.info
    agents = state.agents.values()
    active = sum(agent.active for agent in agents)
    view: Json = {
        "version": MESOS_VERSION,
        **state.options.build.as_json(),
        "start_time": state.made,
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
    if info.HasField("domain"):
        view["domain"] = view["leader_info"]["domain"] = codec.to_dict(info.domain)
    if state.options.cluster is not None:
        view["cluster"] = state.options.cluster
    if flags is not None:
        if state.options.log_dir:
            view["log_dir"] = state.options.log_dir
        if state.options.external_log_file:
            view["external_log_file"] = state.options.external_log_file
        view["flags"] = flags
    return view


def counted(counts: list[int] | None) -> Json:
    """Return numbers of tasks by state, from numbers by L{TaskState}."""
    return {one.name: 0 if counts is None else counts[one] for one in _SUMMARY}


def roles_view(
    state: "MasterState",
    used: Mapping[str, Resources],
    reserved: Mapping[str, Resources],
    viewer: Viewer = EVERYTHING,
) -> Json:
    """
    Return C{/roles}: every role that a framework is in, or that something is reserved to.

    @param used: what is held in each role.
    @param reserved: what is reserved to each.
    """
    frameworks: dict[str, list[str]] = {}
    for framework in state.frameworks.values():
        sees = viewer.framework(framework)
        for role in framework.roles:
            named = frameworks.setdefault(role, [])
            if sees:
                named.append(framework.id)
    offered = _by_role((offer.role, offer.resources) for offer in state.offers.values())
    names = {*frameworks, *used, *offered, *reserved, *state.weights}
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
            if viewer.role(name)
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
        "weight": float(state.weights.get(name, 1.0)),
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


# One agent.


def agent_view(agent: Agent, used: Held, viewer: Viewer = EVERYTHING) -> Json:
    """
    Return what is shown of a registered agent. Sums are of all there is, as in Mesos.

    @param used: what L{Agent.used} returns.
    """
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
    view["used_resources"] = Resources.sum(
        chain(*(roles.values() for roles in used.values()))
    ).as_json()
    view["offered_resources"] = _sum(agent.offers.values()).as_json()
    view["reserved_resources"] = {
        role: reserved.as_json() for role, reserved in total.reserved().items() if viewer.role(role)
    }
    view["unreserved_resources"] = total.unreserved().as_json()
    view["active"] = agent.active
    view["deactivated"] = agent.deactivation is not None
    view["version"] = agent.version
    view["capabilities"] = list(agent.capabilities.names)
    if agent.deactivation is not None and agent.deactivation.drain is not None:
        view["drain_info"] = codec.to_dict(agent.deactivation.drain)
        if agent.deactivation.since:
            view["estimated_drain_start_time_seconds"] = agent.deactivation.since
    return view


def full_view(agent: Agent, held: Held, viewer: Viewer = EVERYTHING) -> Json:
    """Return what C{/slaves} shows besides: resources as messages."""
    used = Resources.sum(
        one.allocated(role) for roles in held.values() for role, one in roles.items()
    )
    offered = Resources.sum(
        offer.resources.allocated(offer.role) for offer in agent.offers.values()
    )
    return {
        "reserved_resources_full": {
            role: _messages(viewer.resources(part))
            for role, part in agent.total.reserved().items()
            if viewer.role(role)
        },
        "unreserved_resources_full": _messages(viewer.resources(agent.total.unreserved())),
        "used_resources_full": _messages(viewer.resources(used)),
        "offered_resources_full": _messages(viewer.resources(offered)),
    }


def _messages(resources: Resources) -> list[Json]:
    return [codec.to_dict(one) for one in resources.to_message(ENDPOINT)]


def _sum(offers: Iterable[Offer]) -> Resources:
    return Resources.sum(offer.resources for offer in offers)


def recovered_view(info: AgentInfo, viewer: Viewer = EVERYTHING) -> Json:
    """Return what is shown of an agent that has not come back since the master started."""
    total = Resources.from_message(info.resources)
    view: Json = {
        "id": info.id.value,
        "hostname": info.hostname,
        "port": info.port,
        "attributes": Attributes.from_message(info.attributes).as_json(),
        "resources": total.as_json(),
        "reserved_resources": {
            role: reserved.as_json()
            for role, reserved in total.reserved().items()
            if viewer.role(role)
        },
        "unreserved_resources": total.unreserved().as_json(),
    }
    if info.HasField("domain"):
        view["domain"] = codec.to_dict(info.domain)
    return view


# One framework.


def framework_view(
    framework: Framework, used: Resources, executors: list[Executor]
) -> tuple[Json, Json]:
    """
    Return what is shown of a framework, live or completed, before its tasks and after them.

    @param used: what its tasks and executors hold.
    """
    info = framework.info
    held = offered(framework)
    view = framework_head(framework, used, held)
    view["user"] = info.user
    view["failover_timeout"] = info.failover_timeout
    view["checkpoint"] = info.checkpoint
    view["registered_time"] = framework.registered_time
    view["unregistered_time"] = framework.unregistered_time
    if info.HasField("principal"):
        view["principal"] = info.principal
    view["resources"] = (used + held).as_json()
    if framework.reregistered_time != framework.registered_time:
        view["reregistered_time"] = framework.reregistered_time
    if framework.multi_role:
        view["roles"] = list(framework.roles)
    else:
        view["role"] = info.role
    after: Json = {
        "offers": [_offer_view(offer) for offer in framework.offers.values()],
        "executors": [_executor_view(executor) for executor in executors],
    }
    if info.HasField("labels"):
        after["labels"] = labels_json(info.labels)
    after["offer_constraints"] = codec.to_dict(framework.constraints.message)
    return view, after


def framework_head(framework: Framework, used: Resources, held: Resources) -> Json:
    """
    Return what C{/state} and C{/state-summary} both begin with.

    @param held: what it is offered.
    """
    info = framework.info
    view: Json = {"id": framework.id, "name": info.name}
    if framework.pid.startswith("scheduler"):
        view["pid"] = framework.pid
    view["used_resources"] = used.as_json()
    view["offered_resources"] = held.as_json()
    view["capabilities"] = list(framework.capabilities.names)
    view["hostname"] = info.hostname
    view["webui_url"] = info.webui_url
    view["active"] = framework.active
    view["connected"] = framework.connected
    view["recovered"] = framework.recovered
    return view


def offered(framework: Framework) -> Resources:
    """Return all that a framework is offered."""
    return _sum(framework.offers.values())


def _executor_view(executor: Executor) -> Json:
    info = executor.info
    view: Json = {
        "executor_id": executor.id,
        "name": info.name,
        "framework_id": executor.framework_id,
        "command": codec.to_dict(shown(info.command)),
        "resources": executor.resources.as_json(),
        "role": executor.role,
    }
    if info.HasField("labels"):
        view["labels"] = labels_json(info.labels)
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
        view["limits"] = limits_json(detail)
    view["role"] = task.role
    view["statuses"] = [status_json(TaskStatus.FromString(one)) for one in task.statuses]
    view.update(details_json(detail))
    return view
