"""Offer operations that change resources: reserve, create, grow, and their like.

From C{namespace operation} of C{src/master/validation.cpp} and C{validateAndUpgradeResources} of
C{src/common/resources_utils.cpp}; see L{mesoskit.model.validation_ids} for what the functions
return. An operation comes from a framework that accepted offers, and then its resources
are allocated to the offers' role by now; or from an operator, and then they are not.
"""

from collections.abc import Iterable, Sequence

from mesoskit.messages.mesos_pb2 import FrameworkInfo, Offer, Resource
from mesoskit.model.capabilities import AgentCapability
from mesoskit.model.resource_key import DYNAMIC, Reservation
from mesoskit.model.resource_message import read_reservations
from mesoskit.model.resource_validation import validate_format, validate_resources
from mesoskit.model.resources import Resources
from mesoskit.model.validation_demand import (
    describe_one,
    validate_single_provider,
    validate_single_role,
)
from mesoskit.model.validation_framework import framework_roles, set_text

_Operation = Offer.Operation

_FIELDS: dict[int, tuple[str, str]] = {
    _Operation.RESERVE: ("reserve", "A RESERVE offer"),
    _Operation.UNRESERVE: ("unreserve", "An UNRESERVE offer"),
    _Operation.CREATE: ("create", "A CREATE offer"),
    _Operation.DESTROY: ("destroy", "A DESTROY offer"),
    _Operation.GROW_VOLUME: ("grow_volume", "A GROW_VOLUME"),
    _Operation.SHRINK_VOLUME: ("shrink_volume", "A SHRINK_VOLUME offer"),
    _Operation.LAUNCH: ("launch", "A LAUNCH offer"),
    _Operation.LAUNCH_GROUP: ("launch_group", "A LAUNCH_GROUP offer"),
    _Operation.CREATE_DISK: ("create_disk", "A CREATE_DISK offer"),
    _Operation.DESTROY_DISK: ("destroy_disk", "A DESTROY_DISK offer"),
}
_NO_FULL_STOP = (_Operation.GROW_VOLUME, _Operation.SHRINK_VOLUME)


def validate_operation_form(operation: Offer.Operation) -> str | None:
    """
    Say what is wrong with an operation of an C{ACCEPT} before anything else is looked at: its
    part is missing, or a resource in it is malformed. For a launch this fails all its tasks.
    """
    kind = operation.type
    field, article = _FIELDS.get(kind, ("", ""))
    if not field:
        return "Unknown offer operation"
    if not operation.HasField(field):
        return f"{article} operation must have the Offer.Operation.{field} field set" + (
            "" if kind in _NO_FULL_STOP else "."
        )
    for resources in _resources_of(operation):
        error = validate_format(resources)
        if error is not None:
            return error
    return None


def _resources_of(operation: Offer.Operation) -> Iterable[Iterable[Resource]]:
    """Give all lists of resources in an operation, in the order in which Mesos looks at them."""
    kind = operation.type
    if kind == _Operation.LAUNCH:
        for task in operation.launch.task_infos:
            yield task.resources
            yield task.executor.resources
    elif kind == _Operation.LAUNCH_GROUP:
        yield operation.launch_group.executor.resources
        for task in operation.launch_group.task_group.tasks:
            yield task.resources
            yield task.executor.resources
    elif kind == _Operation.RESERVE:
        yield operation.reserve.resources
        yield operation.reserve.source
    elif kind == _Operation.UNRESERVE:
        yield operation.unreserve.resources
    elif kind == _Operation.CREATE:
        yield operation.create.volumes
    elif kind == _Operation.DESTROY:
        yield operation.destroy.volumes
    elif kind == _Operation.GROW_VOLUME:
        yield (operation.grow_volume.volume,)
        yield (operation.grow_volume.addition,)
    elif kind == _Operation.SHRINK_VOLUME:
        yield (operation.shrink_volume.volume,)
    elif kind == _Operation.CREATE_DISK:
        yield (operation.create_disk.source,)
    elif kind == _Operation.DESTROY_DISK:
        yield (operation.destroy_disk.source,)


def validate_reserve(
    reserve: Offer.Operation.Reserve,
    principal: str | None,
    agent: AgentCapability,
    framework: FrameworkInfo | None,
) -> str | None:
    """
    Say what is wrong with a reservation.

    @param principal: who asks, L{None} where nobody proved to be anybody.
    @param agent: what the agent can do.
    @param framework: who accepts an offer, L{None} for an operator.
    """
    error = validate_resources(reserve.resources)
    if error is not None:
        return f"Invalid resources: {error}"
    error = validate_resources(reserve.source)
    if error is not None:
        return f"Invalid source: {error}"
    if reserve.source:
        error = _validate_source(reserve.source, reserve.resources)
        if error is not None:
            return error
    error = validate_single_provider(reserve.resources)
    if error is not None:
        return f"Invalid resources: {error}"
    roles = None if framework is None else framework_roles(framework)
    for resource in reserve.resources:
        reservations = read_reservations(resource)
        error = (
            _validate_dynamic(resource, reservations)
            or validate_agent_can_hold(resource, reservations, agent, "Resource", "reserved")
            or _validate_reserver(reservations[-1], principal)
            or _validate_reserved_role(resource, reservations[-1].role, roles)
        )
        if error is not None:
            return error
    if framework is not None:
        error = validate_single_role(Resources.from_message(reserve.resources))
        if error is not None:
            return f"Invalid reservation resources: {error}"
    return None


def _validate_source(source: Sequence[Resource], target: Sequence[Resource]) -> str | None:
    """Check a reservation that replaces another: each side of one kind, both of one size."""
    error = _validate_alike(source)
    if error is not None:
        return f"Invalid source: {error}"
    error = _validate_alike(target)
    if error is not None:
        return f"Invalid resources: {error}"
    before = Resources.from_message(source).to_unreserved()
    after = Resources.from_message(target).to_unreserved()
    if before != after:
        return (
            "Source and target resources should refer to identical resource quantities:"
            f" {before} vs. {after}"
        )
    return None


def _validate_alike(resources: Sequence[Resource]) -> str | None:
    if not resources:
        return "Resource cannot be empty"
    if len({read_reservations(resource) for resource in resources}) > 1:
        # Mesos forgets the blank.
        return f"Mixed reservations are not supported{Resources.from_message(resources)}"
    return None


def _validate_dynamic(resource: Resource, reservations: tuple[Reservation, ...]) -> str | None:
    if reservations and reservations[-1].type == DYNAMIC:
        return None
    return f"Resource {describe_one(resource)} is not dynamically reserved"


def validate_agent_can_hold(
    resource: Resource,
    reservations: tuple[Reservation, ...],
    agent: AgentCapability,
    subject: str,
    done: str,
) -> str | None:
    """
    An agent of old holds no reservations for nested roles, or within others.

    @param subject: what the resource is called in the text.
    @param done: what cannot be done with it.
    """
    role = reservations[-1].role if reservations else ""
    if "/" in role and not agent.hierarchical_role:
        return (
            f"{subject} {describe_one(resource)} with reservation for hierarchical role '{role}'"
            f" cannot be {done} on an agent without HIERARCHICAL_ROLE capability"
        )
    if len(reservations) > 1 and not agent.reservation_refinement:
        return (
            f"{subject} {describe_one(resource)} with reservation refinement cannot be {done} on"
            " an agent without RESERVATION_REFINEMENT capability"
        )
    return None


def _validate_reserver(reservation: Reservation, principal: str | None) -> str | None:
    if principal is None or reservation.principal == principal:
        return None
    if reservation.principal is None:
        return (
            f"A reserve operation was attempted by principal '{principal}', but there is a"
            " reserved resource in the request with no principal set"
        )
    return (
        f"A reserve operation was attempted by authenticated principal '{principal}', which does"
        " not match a reserved resource in the request with principal"
        f" '{reservation.principal}'"
    )


def _validate_reserved_role(
    resource: Resource, role: str, roles: frozenset[str] | None
) -> str | None:
    """A framework reserves to the role that it was offered for; an operator, what is free."""
    if roles is None:
        if resource.HasField("allocation_info"):
            return (
                "A reserve operation was attempted with an allocated resource, but the operator"
                " API only allows reservations to be made to unallocated resources"
            )
        return None
    if not resource.allocation_info.HasField("role"):
        return (
            f"A reserve operation was attempted on unallocated resource {describe_one(resource)},"
            " but frameworks can only perform reservations on allocated resources"
        )
    allocated = resource.allocation_info.role
    if allocated != role:
        return (
            f"A reserve operation was attempted for a resource with role '{role}', but"
            f" the resource was allocated to role '{allocated}'"
        )
    if allocated not in roles:
        return (
            f"A reserve operation was attempted for a resource allocated to role '{allocated}',"
            f" but the framework only has roles '{set_text(roles)}'"
        )
    return None


def validate_unreserve(unreserve: Offer.Operation.Unreserve) -> str | None:
    """Say what is wrong with giving up a reservation. Whose it may be is for the ACLs."""
    error = validate_resources(unreserve.resources) or validate_single_provider(unreserve.resources)
    if error is not None:
        return f"Invalid resources: {error}"
    for resource in unreserve.resources:
        error = _validate_dynamic(resource, read_reservations(resource))
        if error is not None:
            return error
        if resource.disk.HasField("persistence"):
            return (
                f"A dynamically reserved persistent volume {describe_one(resource)} cannot be"
                " unreserved directly. Please destroy the persistent volume first then unreserve"
                " the resource"
            )
    return None


def validate_launch_id(operation: Offer.Operation) -> str | None:
    """What comes of a launch is told by task statuses: it has no id to be told by."""
    if operation.HasField("id") and operation.type in (
        _Operation.LAUNCH,
        _Operation.LAUNCH_GROUP,
    ):
        name = "LAUNCH" if operation.type == _Operation.LAUNCH else "LAUNCH_GROUP"
        return f"The `id` field cannot be set on {name} operations"
    return None
