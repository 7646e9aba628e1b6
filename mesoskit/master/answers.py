"""What the operator API answers and tells, made of the master's records.

The big answers are trees (L{mesoskit.messages.pieces}) over a L{Listing}, which holds what
there was at one moment; their parts are kept (L{mesoskit.master.fragments}). Contents and order
are those of C{src/master/readonly_handler.cpp} and C{src/common/protobuf_utils.cpp} of Apache
Mesos. Nothing here changes anything.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message

from mesoskit.master.records import Agent, Executor, Framework, Offer, Task
from mesoskit.master.visible import EVERYTHING, Viewer
from mesoskit.messages import mesos_pb2
from mesoskit.messages.master_pb2 import Response
from mesoskit.messages.mesos_pb2 import AgentInfo
from mesoskit.messages.pieces import Form, Many, Tree, Written, written
from mesoskit.model.ids import FrameworkId
from mesoskit.model.resources import ENDPOINT, POST, Resources
from mesoskit.model.secrets import hide_secrets

if TYPE_CHECKING:
    from mesoskit.master.fragments import Fragments
    from mesoskit.master.state import MasterState
    from mesoskit.master.views import Held

_NANOSECONDS: Final = 1_000_000_000


class Listing:
    """
    What there was at one moment; the records themselves live on.

    @ivar executors: of all frameworks, in the order of their agents.
    """

    __slots__ = (
        "agents",
        "completed",
        "completed_tasks",
        "executors",
        "frameworks",
        "recovered",
        "tasks",
        "unreachable_tasks",
    )

    def __init__(self, state: "MasterState") -> None:
        live, completed = list(state.frameworks.values()), list(state.completed)
        self.agents = list(state.agents.values())
        self.recovered = list(state.recovered.values())
        self.frameworks = live
        self.completed = completed
        self.executors = [one for agent in self.agents for one in agent.all_executors()]
        self.tasks = [task for one in live for task in one.tasks.values()]
        self.unreachable_tasks = [task for one in live for task in one.unreachable.values()]
        self.completed_tasks = [task for one in chain(live, completed) for task in one.completed]


# The answers that may be big.


def agents_tree(listing: Listing, fragments: "Fragments", viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetAgents}."""

    def write(agent: Agent, form: Form) -> bytes:
        if viewer.agent(agent):
            return fragments.agent(agent, form)
        return written(agent_message(agent, fragments.used(agent), viewer), form)

    return {
        "agents": Written(fragments.agent if viewer.all else write, listing.agents),
        "recovered_agents": Many(lambda info: recovered_message(info, viewer), listing.recovered),
    }


def frameworks_tree(listing: Listing, fragments: "Fragments", viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetFrameworks}."""
    executors: dict[FrameworkId, list[Executor]] = {}
    for one in listing.executors:
        executors.setdefault(one.framework_id, []).append(one)

    def write(framework: Framework, form: Form) -> Generator[bytes, None, bytes]:
        return fragments.framework(framework, executors.get(framework.id, []), form)

    seen = viewer.unless_all(viewer.framework)
    return {
        "frameworks": Written(write, listing.frameworks, seen),
        "completed_frameworks": Written(write, listing.completed, seen),
    }


def executors_tree(listing: Listing, fragments: "Fragments", viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetExecutors}."""
    frameworks = {one.id: one for one in listing.frameworks if viewer.framework(one)}

    def sees(executor: Executor) -> bool:
        framework = frameworks.get(executor.framework_id)
        return framework is not None and viewer.executor(executor, framework)

    seen = viewer.unless_all(sees)
    return {"executors": Written(fragments.executor, listing.executors, seen)}


def tasks_tree(listing: Listing, fragments: "Fragments", viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetTasks}."""
    frameworks = set(filter(viewer.framework, chain(listing.frameworks, listing.completed)))

    def sees(task: Task) -> bool:
        return task.framework in frameworks and viewer.task(task)

    seen = viewer.unless_all(sees)
    return {
        "tasks": Written(fragments.task, listing.tasks, seen),
        "unreachable_tasks": Written(fragments.task, listing.unreachable_tasks, seen),
        "completed_tasks": Written(fragments.task, listing.completed_tasks, seen),
    }


def state_tree(listing: Listing, fragments: "Fragments", viewer: Viewer = EVERYTHING) -> Tree:
    """Return C{GetState}: all of them together."""
    return {
        "get_tasks": tasks_tree(listing, fragments, viewer),
        "get_executors": executors_tree(listing, fragments, viewer),
        "get_frameworks": frameworks_tree(listing, fragments, viewer),
        "get_agents": agents_tree(listing, fragments, viewer),
    }


TREES: Final[dict[str, Callable[[Listing, "Fragments", Viewer], Tree]]] = {
    "GET_STATE": state_tree,
    "GET_AGENTS": agents_tree,
    "GET_FRAMEWORKS": frameworks_tree,
    "GET_EXECUTORS": executors_tree,
    "GET_TASKS": tasks_tree,
}
"""Calls with big answers, by their names."""


# What they are made of.


def agent_message(
    agent: Agent, used: "Held | None" = None, viewer: Viewer = EVERYTHING
) -> Response.GetAgents.Agent:
    """
    Return what operators are told of a registered agent.

    @param used: what L{Agent.used} returns, where that is known.
    """
    message = Response.GetAgents.Agent(
        active=agent.active,
        deactivated=agent.deactivation is not None,
        version=agent.version,
        pid=agent.pid,
    )
    if agent.deactivation is not None and agent.deactivation.drain is not None:
        message.drain_info.CopyFrom(agent.deactivation.drain)
        if agent.deactivation.since:
            message.estimated_drain_start_time.nanoseconds = int(agent.deactivation.since) * 10**9
    message.agent_info.CopyFrom(recovered_message(agent.info, viewer))
    message.registered_time.nanoseconds = _nanoseconds(agent.registered_time)
    if agent.reregistered_time:
        message.reregistered_time.nanoseconds = _nanoseconds(agent.reregistered_time)
    allocated = Resources.sum(
        one.allocated(role)
        for held in (agent.used() if used is None else used).values()
        for role, one in held.items()
    )
    sees = viewer.resources
    given = offered(agent.offers.values())
    message.total_resources.extend(sees(agent.total).to_message(ENDPOINT))
    message.allocated_resources.extend(sees(allocated).to_message(ENDPOINT))
    message.offered_resources.extend(sees(given).to_message(ENDPOINT))
    for kind in agent.capabilities.types:
        message.capabilities.add().type = kind  # type: ignore[assignment]
    return message


def recovered_message(info: AgentInfo, viewer: Viewer = EVERYTHING) -> AgentInfo:
    """Return an agent's own info, its resources in the newest form."""
    message = AgentInfo()
    message.CopyFrom(info)
    del message.resources[:]
    seen = viewer.resources(Resources.from_message(info.resources))
    message.resources.extend(seen.to_message(POST))
    return message


def framework_head(framework: Framework) -> Response.GetFrameworks.Framework:
    """Return what events tell of a framework: not what it holds."""
    message = Response.GetFrameworks.Framework(
        active=framework.active, connected=framework.connected, recovered=framework.recovered
    )
    message.framework_info.CopyFrom(framework.info)
    message.offer_constraints.CopyFrom(framework.constraints.message)
    message.registered_time.nanoseconds = _nanoseconds(framework.registered_time)
    message.reregistered_time.nanoseconds = _nanoseconds(framework.reregistered_time)
    message.unregistered_time.nanoseconds = _nanoseconds(framework.unregistered_time)
    return message


def framework_brief(framework: Framework) -> Response.GetFrameworks.Framework:
    """Return what answers tell of a framework besides what it holds: times only that there are."""
    message = framework_head(framework)
    for name in ("registered_time", "reregistered_time", "unregistered_time"):
        if not getattr(message, name).nanoseconds:
            message.ClearField(name)
    return message


def offered(offers: Iterable[Offer]) -> Resources:
    """Return all that offers hold."""
    return Resources.sum(offer.resources.allocated(offer.role) for offer in offers)


def offer_message(offer: Offer) -> mesos_pb2.Offer:
    """Return an offer as operators see it."""
    message = mesos_pb2.Offer()
    message.CopyFrom(offer.agent.offer_template)
    message.id.value = offer.id
    message.framework_id.value = offer.framework_id
    message.allocation_info.role = offer.role
    message.resources.extend(offer.resources.allocated(offer.role).to_message(ENDPOINT))
    return message


def executor_message(executor: Executor) -> Response.GetExecutors.Executor:
    """Return what operators are told of an executor."""
    message = Response.GetExecutors.Executor()
    message.executor_info.CopyFrom(executor.info)
    hide_secrets(message.executor_info)
    message.agent_id.value = executor.agent_id
    return message


# The small answers.


def role_pieces(
    state: "MasterState",
    fragments: "Fragments",
    write: Callable[[Message], bytes],
    viewer: Viewer = EVERYTHING,
) -> Iterator[bytes]:
    """Answer GET_ROLES, agent by agent: empty pieces first, and then all of it."""
    parts: dict[str, list[Resources]] = {}
    for agent in list(state.agents.values()):
        for held in fragments.used(agent).values():
            for role, one in held.items():
                parts.setdefault(role, []).append(one.allocated(role))
        yield b""
    yield write(_roles(state, parts, viewer))


def _roles(state: "MasterState", parts: dict[str, list[Resources]], viewer: Viewer) -> Response:
    """
    Answer GET_ROLES: the roles that frameworks are in or have something of, or with a weight.

    @param parts: what is held in each role; what is offered is added here.
    """
    response = Response(type=Response.GET_ROLES)
    frameworks: dict[str, list[str]] = {}
    for framework in state.frameworks.values():
        sees = viewer.framework(framework)
        for role in framework.roles:
            named = frameworks.setdefault(role, [])
            if sees:
                named.append(framework.id)
    for offer in state.offers.values():
        parts.setdefault(offer.role, []).append(offer.resources.allocated(offer.role))
    weights = state.weights
    response.get_roles.SetInParent()
    for name in filter(viewer.role, sorted({*frameworks, *parts, *weights})):
        shown = response.get_roles.roles.add(name=name, weight=weights.get(name, 1.0))
        for framework_id in frameworks.get(name, ()):
            shown.frameworks.add().value = framework_id
        shown.resources.extend(Resources.sum(parts.get(name, ())).to_message(ENDPOINT))
    return response


def weights(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_WEIGHTS: those that were set."""
    response = Response(type=Response.GET_WEIGHTS)
    response.get_weights.SetInParent()
    for role, weight in sorted(state.weights.items()):
        if not viewer.role(role):
            continue
        response.get_weights.weight_infos.add(role=role, weight=weight)
    return response


def master(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_MASTER."""
    response = Response(type=Response.GET_MASTER)
    answer = response.get_master
    answer.master_info.CopyFrom(state.info)
    answer.start_time, answer.elected_time = state.made, state.started
    return response


def operations(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_OPERATIONS: none is ever pending here."""
    response = Response(type=Response.GET_OPERATIONS)
    response.get_operations.SetInParent()
    return response


def quota(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_QUOTA: none is set."""
    response = Response(type=Response.GET_QUOTA)
    response.get_quota.status.SetInParent()
    return response


def maintenance_status(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_MAINTENANCE_STATUS: no machine drains or is down."""
    response = Response(type=Response.GET_MAINTENANCE_STATUS)
    response.get_maintenance_status.status.SetInParent()
    return response


def maintenance_schedule(state: "MasterState", viewer: Viewer = EVERYTHING) -> Response:
    """Answer GET_MAINTENANCE_SCHEDULE: nothing is planned."""
    response = Response(type=Response.GET_MAINTENANCE_SCHEDULE)
    response.get_maintenance_schedule.schedule.SetInParent()
    return response


MESSAGES: Final[dict[str, Callable[["MasterState", Viewer], Response]]] = {
    "GET_WEIGHTS": weights,
    "GET_MASTER": master,
    "GET_OPERATIONS": operations,
    "GET_QUOTA": quota,
    "GET_MAINTENANCE_STATUS": maintenance_status,
    "GET_MAINTENANCE_SCHEDULE": maintenance_schedule,
}
"""Calls with small answers, by their names."""


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
