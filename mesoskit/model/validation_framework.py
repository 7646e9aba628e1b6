"""Frameworks: what a C{FrameworkInfo} must say, and what of it may change.

From C{namespace framework} of C{src/master/validation.cpp} and from C{src/master/master.cpp};
see L{mesoskit.model.validation_ids} for what the functions return.
"""

from collections.abc import Collection, Iterable
from math import inf

from mesoskit.messages.mesos_pb2 import FrameworkInfo, OfferFilters
from mesoskit.messages.scheduler_pb2 import OfferConstraints
from mesoskit.model.roles import STAR, validate_role
from mesoskit.model.validation_ids import validate_id

_SMALLEST_NORMAL = 2.2250738585072014e-308
_LONGEST = float(1 << 63)
_MULTI_ROLE = FrameworkInfo.Capability.MULTI_ROLE


def framework_roles(info: FrameworkInfo) -> frozenset[str]:
    """Return the roles a framework subscribes to: C{roles}, or C{role} without C{MULTI_ROLE}."""
    return frozenset(info.roles) if _multi_role(info) else frozenset((info.role,))


def _multi_role(info: FrameworkInfo) -> bool:
    return any(capability.type == _MULTI_ROLE for capability in info.capabilities)


def validate_framework(info: FrameworkInfo) -> str | None:
    """Say what is wrong with a framework by itself: roles, id, filters, time-out."""
    error = _validate_roles(info)
    if error is not None:
        return error
    if info.id.value:
        error = validate_id(info.id.value)
        if error is not None:
            return error
    for filters in info.offer_filters.values():
        error = validate_offer_filters(filters)
        if error is not None:
            return error
    nanoseconds = info.failover_timeout * 1e9
    # NaN, which Mesos lets pass, is no time either.
    if not -_LONGEST <= nanoseconds <= _LONGEST:
        return f"The framework failover_timeout ({info.failover_timeout:g}) is invalid"
    return None


def _validate_roles(info: FrameworkInfo) -> str | None:
    if not _multi_role(info):
        if info.roles:
            return (
                "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"
            )
        error = None if info.role == STAR else validate_role(info.role)
        return None if error is None else f"'FrameworkInfo.role' is not a valid role: {error}"
    if info.HasField("role"):
        return "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
    roles = list(info.roles)
    if len(set(roles)) != len(roles):
        duplicates = {role for role in roles if roles.count(role) > 1}
        return f"'FrameworkInfo.roles' contains duplicate items: {set_text(duplicates)}"
    for role in roles:
        error = validate_role(role)
        if error is not None:
            return f"'FrameworkInfo.roles' contains invalid role: {error}"
    return None


def set_text(items: Iterable[str]) -> str:
    """Return a set of strings the way Mesos prints one, C{"{ a, b }"}, in alphabetical order."""
    return "{ " + ", ".join(sorted(items)) + " }"


def validate_offer_filters(filters: OfferFilters) -> str | None:
    """Every alternative names something, and only amounts that there can be."""
    for alternative in filters.min_allocatable_resources.quantities:
        if not alternative.quantities:
            return "Resource quantities must contain at least one quantity"
        for name, scalar in alternative.quantities.items():
            error = validate_input_scalar(scalar.value)
            if error is not None:
                return f"Invalid resource quantity for '{name}': {error}"
    return None


def validate_input_scalar(value: float) -> str | None:
    """Say why a number from outside is no amount (C{validateInputScalarValue})."""
    if value == 0:
        return None
    if value in (inf, -inf):
        return "Infinite values not supported"
    if value != value:
        return "NaN not supported"
    if abs(value) < _SMALLEST_NORMAL:
        return "Subnormal values not supported"
    return "Negative values not supported" if value < 0 else None


def validate_admission(
    info: FrameworkInfo,
    roles: Collection[str] | None = None,
    root_submissions: bool = True,
    removed: bool = False,
) -> str | None:
    """
    Say why a master does not admit a framework: as L{validate_framework}, and further what
    this master's flags forbid.

    @param roles: the roles that C{--roles} allows; L{None} for all.
    @param root_submissions: whether frameworks may run tasks as root unless told otherwise.
    @param removed: a framework with this id has been here and was removed.
    """
    error = validate_framework(info)
    if error is not None:
        return error
    if roles is not None:
        foreign = {role for role in framework_roles(info) if role != STAR and role not in roles}
        if foreign:
            return f"Roles {set_text(foreign)} are not present in the master's --roles"
    if info.user == "root" and not root_submissions:
        return "User 'root' is not allowed to run frameworks without --root_submissions set"
    if removed:
        return "Framework has been removed"
    return None


def validate_authentication(
    info: FrameworkInfo, address: str, principal: str | None, required: bool
) -> str | None:
    """
    Say why a framework with a libprocess address does not get in without having proved who it is.

    @param address: the framework's C{scheduler-…@ip:port}.
    @param principal: who it proved to be, L{None} for nobody.
    @param required: whether the master asks for it (C{--authenticate_frameworks}).
    """
    if principal is None:
        return f"Framework at {address} is not authenticated" if required else None
    if info.HasField("principal") and info.principal != principal:
        return (
            f"Framework principal '{info.principal}' does not match"
            f" authenticated principal '{principal}'"
        )
    return None


def validate_principal_kept(old: FrameworkInfo, new: FrameworkInfo) -> str | None:
    """Say why a framework may not subscribe again: it would be somebody else's."""
    if old.HasField("principal") == new.HasField("principal") and old.principal == new.principal:
        return None
    return "Changing framework's principal is not allowed."


def validate_framework_update(old: FrameworkInfo, new: FrameworkInfo) -> str | None:
    """Say what C{UPDATE_FRAMEWORK} may not change. C{SUBSCRIBE} keeps the old values silently."""
    error = validate_principal_kept(old, new)
    if error is not None:
        return error
    if new.user != old.user:
        return (
            "Updating 'FrameworkInfo.user' is unsupported;"
            f" attempted to update from '{old.user}' to '{new.user}'"
        )
    if new.checkpoint != old.checkpoint:
        return (
            "Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update"
            f" from '{_bool_text(old.checkpoint)}' to '{_bool_text(new.checkpoint)}'"
        )
    return None


def _bool_text(value: bool) -> str:
    return "true" if value else "false"


def validate_suppressed_roles(roles: Collection[str], suppressed: Iterable[str]) -> str | None:
    """Only a framework's own roles can be suppressed."""
    foreign = set(suppressed).difference(roles)
    if foreign:
        return f"Suppressed roles {set_text(foreign)} are not contained in the set of roles"
    return None


def validate_constrained_roles(roles: Collection[str], constraints: OfferConstraints) -> str | None:
    """Only a framework's own roles can have offer constraints."""
    for role in constraints.role_constraints:
        if role not in roles:
            # Mesos forgets the blank.
            return (
                f"Offer constraints specify `role_constraints` for a role '{role}'"
                "not contained in the set of roles"
            )
    return None
