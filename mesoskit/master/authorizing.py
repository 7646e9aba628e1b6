"""Who may do what in the master: what each call and message needs, and what is refused.

Refusals have Mesos' texts (C{src/master/master.cpp}), without its slips of the pen. For a
framework the principal in its C{FrameworkInfo} counts, which is the proved one where
anybody asked for proof. Nothing here is called where there is no authorizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mesoskit.master.records import Framework, Peer
from mesoskit.messages import internal_pb2
from mesoskit.messages.master_pb2 import Call
from mesoskit.messages.mesos_pb2 import AgentInfo, FrameworkInfo, Offer, Resource, TaskInfo
from mesoskit.model import authorization
from mesoskit.model.authorization import (
    ANYTHING,
    Action,
    Needs,
    Subject,
    Thing,
    needs,
    needs_inside,
    needs_nothing,
)
from mesoskit.model.ids import FrameworkId
from mesoskit.model.resources import InvalidResources, Resources
from mesoskit.model.validation_framework import set_text

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_MOUNT: Final = Resource.DiskInfo.Source.MOUNT
_BLOCK: Final = Resource.DiskInfo.Source.BLOCK
_RAW: Final = Resource.DiskInfo.Source.RAW


def subject(state: MasterState, info: FrameworkInfo) -> Subject:
    """Return a framework as who asks."""
    principal = info.principal if info.HasField("principal") else None
    return Subject(principal, state.options.authorizer)


def registration_error(state: MasterState, info: FrameworkInfo) -> str | None:
    """Say why a framework may not be in its roles, or L{None} where it may."""
    thing = authorization.of_roles(info)
    if subject(state, info).may(Action.REGISTER_FRAMEWORK, thing):
        return None
    return f"Not authorized to register framework {info.id.value} with roles {roles_text(thing)}"


def roles_text(thing: Thing) -> str:
    """Return roles as Mesos writes a set of them."""
    return set_text(thing.values or ())


def launch_error(state: MasterState, framework: Framework, info: TaskInfo) -> str | None:
    """Say why a task may not run as its user, or L{None} where it may."""
    who, thing = subject(state, framework.info), authorization.of_task(info, framework.info)
    if who.may(Action.RUN_TASK, thing):
        return None
    return f"Principal '{who.principal or ''}' not authorized to {_launch(info, framework, thing)}"


def group_error(state: MasterState, framework: Framework, infos: Iterable[TaskInfo]) -> str | None:
    """Say why a group of tasks may not run, or L{None} where all may."""
    who = subject(state, framework.info)
    for info in infos:
        thing = authorization.of_task(info, framework.info)
        if not who.may(Action.RUN_TASK, thing):
            what = _launch(info, framework, thing)
            return f"Task '{info.task_id.value}' is not authorized to {what}"
    return None


def _launch(info: TaskInfo, framework: Framework, thing: Thing) -> str:
    (user,) = thing.values or ("",)
    return f"launch task {info.task_id.value} of framework {framework.id} under user '{user}'"


def operation_error(
    state: MasterState, framework: Framework, operation: Offer.Operation
) -> str | None:
    """Say why a framework may not do an operation that is no launch, or L{None}."""
    who = subject(state, framework.info)
    for action, thing in needed_for(operation):
        if not who.may(action, thing):
            what = "ANY object" if thing.values is None else f"object '{thing.values[0]}'"
            return (
                f"Principal '{who.principal or ''}' not authorized to perform action"
                f" {action.name} on {what}"
            )
    return None


def needed_for(operation: Offer.Operation) -> Iterator[tuple[Action, Thing]]:
    """Give what somebody must be allowed for an operation that is well formed."""
    kind = operation.type
    if kind == Offer.Operation.RESERVE:
        reserve = operation.reserve
        yield from authorization.of_reservation(reserve.source, reserve.resources)
    elif kind == Offer.Operation.UNRESERVE:
        for thing in authorization.of_unreserved(operation.unreserve.resources):
            yield Action.UNRESERVE_RESOURCES, thing
    elif kind == Offer.Operation.CREATE:
        for thing in authorization.of_reservations(operation.create.volumes) or [ANYTHING]:
            yield Action.CREATE_VOLUME, thing
    elif kind == Offer.Operation.DESTROY:
        for thing in authorization.of_volumes(operation.destroy.volumes):
            yield Action.DESTROY_VOLUME, thing
    elif kind == Offer.Operation.GROW_VOLUME:
        yield Action.RESIZE_VOLUME, _of(operation.grow_volume.volume)
    elif kind == Offer.Operation.SHRINK_VOLUME:
        yield Action.RESIZE_VOLUME, _of(operation.shrink_volume.volume)
    elif kind == Offer.Operation.CREATE_DISK:
        made = operation.create_disk.target_type
        action = {_MOUNT: Action.CREATE_MOUNT_DISK, _BLOCK: Action.CREATE_BLOCK_DISK}.get(made)
        yield action or Action.UNKNOWN, _of(operation.create_disk.source)
    elif kind == Offer.Operation.DESTROY_DISK:
        source = operation.destroy_disk.source
        action = {
            _MOUNT: Action.DESTROY_MOUNT_DISK,
            _BLOCK: Action.DESTROY_BLOCK_DISK,
            _RAW: Action.DESTROY_RAW_DISK,
        }.get(source.disk.source.type)
        yield action or Action.UNKNOWN, _of(source)
    else:
        yield Action.UNKNOWN, ANYTHING


def _of(resource: Resource) -> Thing:
    return authorization.of_reservations([resource])[0]


def agent_error(
    state: MasterState, peer: Peer, info: AgentInfo, verb: str = "register"
) -> str | None:
    """
    Say why an agent may not register, or not with what is reserved there, or L{None}.

    @param verb: what it wants to do: C{register} or C{reregister}.
    """
    who = Subject(peer.principal, state.options.authorizer)
    things = [
        (Action.RESERVE_RESOURCES, thing) for thing in authorization.of_reservations(info.resources)
    ]
    if all(thing.values == ("*",) for _, thing in things):
        things = []
    things.append((Action.REGISTER_AGENT, ANYTHING))
    if all(who.may(action, thing) for action, thing in things):
        return None
    whom = "without a principal" if who.principal is None else f"with principal '{who.principal}'"
    try:
        resources = str(Resources.from_message(info.resources))
    except InvalidResources as error:
        resources = str(error)
    return f"Not authorized to {verb} agent providing resources '{resources}' {whom}"


def may_tear_down(state: MasterState, who: Subject, framework_id: str) -> bool:
    """Say whether somebody may end a framework; whoever names none that is there is told so."""
    framework = state.frameworks.get(FrameworkId(framework_id))
    if who.authorizer is None or framework is None:
        return True
    thing = authorization.owned_framework(framework.info)
    return who.may(Action.TEARDOWN_FRAMEWORK, thing)


def may_call(state: MasterState, who: Subject, call: Call) -> bool:
    """Say whether an operator may call for this; what is only looked at is asked about later."""
    if who.authorizer is None:
        return True
    name = Call.Type.Name(call.type)
    needed = OPERATOR_CALLS.get(name)
    if needed is None or not needed.met(who):
        return False
    if name == "TEARDOWN":
        return may_tear_down(state, who, call.teardown.framework_id.value)
    return all(who.may(action, thing) for action, thing in _needed_by(name, call))


def _needed_by(name: str, call: Call) -> Iterator[tuple[Action, Thing]]:
    """Give what somebody must be allowed for a call that changes something."""
    if name == "DRAIN_AGENT":
        yield Action.DRAIN_AGENT, ANYTHING
        if call.drain_agent.mark_gone:
            yield Action.MARK_AGENT_GONE, ANYTHING
    elif name == "UPDATE_WEIGHTS":
        for weight in call.update_weights.weight_infos:
            yield Action.UPDATE_WEIGHT, authorization.of_role(weight.role)
    elif name == "UPDATE_QUOTA":
        for quota in call.update_quota.quota_configs:
            yield Action.UPDATE_QUOTA_WITH_CONFIG, authorization.of_role(quota.role)
    elif name == "SET_QUOTA":
        yield Action.UPDATE_QUOTA, authorization.of_role(call.set_quota.quota_request.role)
    elif name == "REMOVE_QUOTA":
        yield Action.UPDATE_QUOTA, authorization.of_role(call.remove_quota.role)
    elif name == "RESERVE_RESOURCES":
        reserve = call.reserve_resources
        yield from authorization.of_reservation(reserve.source, reserve.resources)
    elif name == "UNRESERVE_RESOURCES":
        for thing in authorization.of_unreserved(call.unreserve_resources.resources):
            yield Action.UNRESERVE_RESOURCES, thing
    elif name == "CREATE_VOLUMES":
        for thing in authorization.of_reservations(call.create_volumes.volumes) or [ANYTHING]:
            yield Action.CREATE_VOLUME, thing
    elif name == "DESTROY_VOLUMES":
        for thing in authorization.of_volumes(call.destroy_volumes.volumes):
            yield Action.DESTROY_VOLUME, thing
    elif name == "GROW_VOLUME":
        yield Action.RESIZE_VOLUME, _of(call.grow_volume.volume)
    elif name == "SHRINK_VOLUME":
        yield Action.RESIZE_VOLUME, _of(call.shrink_volume.volume)


# What each door needs.

_ITS_OWN: Final = "it is about what the framework has; SUBSCRIBE and ACCEPT have asked for that"
_ABOUT_ITSELF: Final = "it is about the agent itself, which may register"

SCHEDULER_CALLS: Final[Mapping[str, Needs]] = {
    "UNKNOWN": needs_nothing("it is refused anyway"),
    "SUBSCRIBE": needs_inside(Action.REGISTER_FRAMEWORK),
    "UPDATE_FRAMEWORK": needs_inside(Action.REGISTER_FRAMEWORK),
    "ACCEPT": needs_inside(
        Action.RUN_TASK,
        Action.RESERVE_RESOURCES,
        Action.UNRESERVE_RESOURCES,
        Action.CREATE_VOLUME,
        Action.DESTROY_VOLUME,
        Action.RESIZE_VOLUME,
        Action.CREATE_BLOCK_DISK,
        Action.DESTROY_BLOCK_DISK,
        Action.CREATE_MOUNT_DISK,
        Action.DESTROY_MOUNT_DISK,
        Action.DESTROY_RAW_DISK,
    ),
    **dict.fromkeys(
        (
            "TEARDOWN",
            "DECLINE",
            "ACCEPT_INVERSE_OFFERS",
            "DECLINE_INVERSE_OFFERS",
            "REVIVE",
            "SUPPRESS",
            "KILL",
            "SHUTDOWN",
            "ACKNOWLEDGE",
            "ACKNOWLEDGE_OPERATION_STATUS",
            "RECONCILE",
            "RECONCILE_OPERATIONS",
            "MESSAGE",
            "REQUEST",
        ),
        needs_nothing(_ITS_OWN),
    ),
}
"""What a framework's calls need, by their names."""

AGENT_MESSAGES: Final[Mapping[type, Needs]] = {
    internal_pb2.RegisterSlaveMessage: needs_inside(
        Action.REGISTER_AGENT, Action.RESERVE_RESOURCES
    ),
    internal_pb2.ReregisterSlaveMessage: needs_inside(
        Action.REGISTER_AGENT, Action.RESERVE_RESOURCES
    ),
    **dict.fromkeys(
        (
            internal_pb2.StatusUpdateMessage,
            internal_pb2.PongSlaveMessage,
            internal_pb2.UnregisterSlaveMessage,
            internal_pb2.UpdateSlaveMessage,
            internal_pb2.ExitedExecutorMessage,
            internal_pb2.ExecutorToFrameworkMessage,
        ),
        needs_nothing(_ABOUT_ITSELF),
    ),
}
"""What an agent's messages need, by their classes."""

_NOWHERE: Final = "it says where the leader is, to whom that is the first thing to know"
_OF_THE_CARRIER: Final = "each call is asked about in the state"

ROUTES: Final[Mapping[str, Needs]] = {
    "state": needs_inside(
        Action.VIEW_FRAMEWORK,
        Action.VIEW_TASK,
        Action.VIEW_EXECUTOR,
        Action.VIEW_ROLE,
        Action.VIEW_FLAGS,
    ),
    "state-summary": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_ROLE),
    "slaves": needs_inside(Action.VIEW_ROLE),
    "frameworks": needs_inside(
        Action.VIEW_FRAMEWORK, Action.VIEW_TASK, Action.VIEW_EXECUTOR, Action.VIEW_ROLE
    ),
    "tasks": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_TASK),
    "roles": needs_inside(Action.VIEW_ROLE),
    "offers/explain": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_ROLE),
    "allocator/offer_constraints_debug": needs_inside(Action.VIEW_FRAMEWORK),
    "redirect": needs_nothing(_NOWHERE),
    "teardown": needs_inside(Action.TEARDOWN_FRAMEWORK),
    "": needs_nothing("it says which endpoints there are"),
    "app": needs_nothing("it is a part of the web UI's program"),
    "assets": needs_nothing("it is a part of the web UI's program"),
    "weights": needs_inside(Action.VIEW_ROLE, Action.UPDATE_WEIGHT),
    "quota": needs_inside(Action.GET_QUOTA, Action.UPDATE_QUOTA),
    "maintenance/schedule": needs_inside(
        Action.GET_MAINTENANCE_SCHEDULE, Action.UPDATE_MAINTENANCE_SCHEDULE
    ),
    "maintenance/status": needs_inside(Action.GET_MAINTENANCE_STATUS),
    "machine/down": needs(Action.START_MAINTENANCE),
    "machine/up": needs(Action.STOP_MAINTENANCE),
    "reserve": needs_inside(Action.RESERVE_RESOURCES),
    "unreserve": needs_inside(Action.UNRESERVE_RESOURCES),
    "create-volumes": needs_inside(Action.CREATE_VOLUME),
    "destroy-volumes": needs_inside(Action.DESTROY_VOLUME),
    "registrar(1)/registry": needs_inside(Action.VIEW_ROLE),
    "files/browse": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/read": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/download": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "files/debug": needs(Action.GET_ENDPOINT_WITH_PATH, "/files/debug"),
    "api/v1": needs_nothing("each call has a row of its own"),
    "api/v1/scheduler": needs_nothing(_OF_THE_CARRIER),
}
"""What the master's own routes need, by path."""

_EVERYTHING: Final = needs_inside(
    Action.VIEW_FRAMEWORK, Action.VIEW_TASK, Action.VIEW_EXECUTOR, Action.VIEW_ROLE
)

OPERATOR_CALLS: Final[Mapping[str, Needs]] = {
    "UNKNOWN": needs_nothing("it is refused anyway"),
    "GET_HEALTH": needs_nothing("it says nothing but that the master is there"),
    "GET_FLAGS": needs(Action.VIEW_FLAGS),
    "GET_VERSION": needs_nothing("it says which release this is"),
    "GET_METRICS": needs(Action.GET_ENDPOINT_WITH_PATH, "/metrics/snapshot"),
    "GET_LOGGING_LEVEL": needs_nothing("it is a number that tells nothing of the cluster"),
    "SET_LOGGING_LEVEL": needs(Action.SET_LOG_LEVEL),
    "LIST_FILES": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "READ_FILE": needs_inside(Action.ACCESS_SANDBOX, Action.ACCESS_MESOS_LOG),
    "GET_STATE": _EVERYTHING,
    "GET_AGENTS": needs_inside(Action.VIEW_ROLE),
    "GET_FRAMEWORKS": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_ROLE),
    "GET_EXECUTORS": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_EXECUTOR),
    "GET_OPERATIONS": needs_inside(Action.VIEW_ROLE),
    "GET_TASKS": needs_inside(Action.VIEW_FRAMEWORK, Action.VIEW_TASK),
    "GET_ROLES": needs_inside(Action.VIEW_ROLE),
    "GET_WEIGHTS": needs_inside(Action.VIEW_ROLE),
    "UPDATE_WEIGHTS": needs_inside(Action.UPDATE_WEIGHT),
    "GET_MASTER": needs_nothing("it says where the master is, which whoever asks it knows"),
    "SUBSCRIBE": _EVERYTHING,
    "RESERVE_RESOURCES": needs_inside(Action.RESERVE_RESOURCES, Action.UNRESERVE_RESOURCES),
    "UNRESERVE_RESOURCES": needs_inside(Action.UNRESERVE_RESOURCES),
    "CREATE_VOLUMES": needs_inside(Action.CREATE_VOLUME),
    "DESTROY_VOLUMES": needs_inside(Action.DESTROY_VOLUME),
    "GROW_VOLUME": needs_inside(Action.RESIZE_VOLUME),
    "SHRINK_VOLUME": needs_inside(Action.RESIZE_VOLUME),
    "GET_MAINTENANCE_STATUS": needs_inside(Action.GET_MAINTENANCE_STATUS),
    "GET_MAINTENANCE_SCHEDULE": needs_inside(Action.GET_MAINTENANCE_SCHEDULE),
    "UPDATE_MAINTENANCE_SCHEDULE": needs(Action.UPDATE_MAINTENANCE_SCHEDULE),
    "START_MAINTENANCE": needs(Action.START_MAINTENANCE),
    "STOP_MAINTENANCE": needs(Action.STOP_MAINTENANCE),
    "DRAIN_AGENT": needs_inside(Action.DRAIN_AGENT, Action.MARK_AGENT_GONE),
    "DEACTIVATE_AGENT": needs(Action.DEACTIVATE_AGENT),
    "REACTIVATE_AGENT": needs(Action.REACTIVATE_AGENT),
    "GET_QUOTA": needs_inside(Action.GET_QUOTA),
    "UPDATE_QUOTA": needs_inside(Action.UPDATE_QUOTA_WITH_CONFIG),
    "SET_QUOTA": needs_inside(Action.UPDATE_QUOTA),
    "REMOVE_QUOTA": needs_inside(Action.UPDATE_QUOTA),
    "TEARDOWN": needs_inside(Action.TEARDOWN_FRAMEWORK),
    "MARK_AGENT_GONE": needs(Action.MARK_AGENT_GONE),
}
"""What an operator's calls need, by their names."""
