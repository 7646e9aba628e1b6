"""What a C{mesos.v1.Resource} must be like before anything is computed with it.

The checks and their texts are those of C{Resources::validate} (C{src/common/resources.cpp})
and of C{resource::validate} (C{src/master/validation.cpp}); clients see the texts. A list of
resources is checked once, where it comes in; L{mesoskit.model.resources.Resources} relies on it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.model.disks import MOUNT, PATH, SOURCE_NAMES, labels_text, sorted_labels
from mesoskit.model.resource_key import DYNAMIC, STATIC, Reservation, reservation_error
from mesoskit.model.resource_message import describe, read_labels, read_reservation
from mesoskit.model.roles import STAR, validate_role
from mesoskit.model.validation_ids import validate_id
from mesoskit.model.values import RANGES, SCALAR, SET, overlapping, thousandths

_MOST_THOUSANDTHS: Final = 1 << 63
_REMEMBERED_BYTES: Final = 512
_GPUS_ARE_WHOLE: Final = "The 'gpus' resource must be an unsigned integer"


class _Findings(NamedTuple):
    """What can be told of a resource by itself; the rest is only looked at if the form is right."""

    form: str | None
    gpus: int = 0
    disk: str | None = None
    reservation: str | None = None


def validate_resources(resources: Iterable[Resource]) -> str | None:
    """
    Return what is wrong with resources that a framework or an agent sends, or L{None}.

    Beyond each resource's own form this covers C{gpus}, which are whole, and what C{DiskInfo}
    and dynamic reservations cannot go together with.
    """
    findings = [_examine(resource) for resource in resources]
    for found in findings:
        if found.form is not None:
            return f"Invalid resources: {found.form}"
    if sum([found.gpus for found in findings]) % 1000:
        return f"Invalid 'gpus' resource: {_GPUS_ARE_WHOLE}"
    for found in findings:
        if found.disk is not None:
            return f"Invalid DiskInfo: {found.disk}"
    for found in findings:
        if found.reservation is not None:
            return f"Invalid ReservationInfo: {found.reservation}"
    return None


def validate_format(resources: Iterable[Resource]) -> str | None:
    """Return what is wrong with the first malformed resource and which one it is, or L{None}."""
    for resource in resources:
        error = _examine(resource).form
        if error is not None:
            return error
    return None


def validate_gpus(resources: Iterable[Resource]) -> str | None:
    """Return what Mesos says where well-formed resources hold a fraction of a GPU, or L{None}."""
    total = sum([_examine(resource).gpus for resource in resources])
    return _GPUS_ARE_WHOLE if total % 1000 else None


def _examine(resource: Resource) -> _Findings:
    """Look at a resource, or remember what was found: tasks ask for the same again and again."""
    blob = resource.SerializePartialToString()
    return _known(blob) if len(blob) <= _REMEMBERED_BYTES else _findings(resource)


@lru_cache(maxsize=4096)
def _known(blob: bytes) -> _Findings:
    return _findings(Resource.FromString(blob))


def _findings(resource: Resource) -> _Findings:
    error = validate_resource(resource)
    if error is not None:
        return _Findings(f"Resource '{describe(resource)}' is invalid: {error}")
    is_gpus = resource.name == "gpus" and resource.type == SCALAR
    return _Findings(
        None,
        thousandths(resource.scalar.value) if is_gpus else 0,
        validate_disk(resource),
        _validate_revocable(resource),
    )


def validate_resource(resource: Resource) -> str | None:
    """Return what is wrong with the form of one resource, or L{None}."""
    if not resource.name:
        return "Empty resource name"
    # Numbers that Value.Type does not have never become a field.
    if not resource.HasField("type"):
        return "Invalid resource type"
    return (
        _validate_value(resource)
        or _validate_source(resource)
        or _validate_reservations(resource)
        or _validate_sharing(resource)
    )


def _validate_value(resource: Resource) -> str | None:
    kind = resource.type
    name = {SCALAR: "scalar", RANGES: "ranges", SET: "set"}.get(kind)
    if name is None:
        return "Unsupported resource type"
    if [field for field in ("scalar", "ranges", "set") if resource.HasField(field)] != [name]:
        return f"Invalid {name} resource"
    if kind == SCALAR:
        return _validate_scalar(resource.scalar.value)
    if kind == RANGES:
        pairs = [(span.begin, span.end) for span in resource.ranges.range]
        if any(begin > end for begin, end in pairs):
            return "Invalid ranges resource: begin > end"
        if overlapping(pairs):
            return "Invalid ranges resource: overlapping ranges"
    elif len(set(resource.set.item)) != len(resource.set.item):
        return "Invalid set resource: duplicated elements"
    return None


def _validate_scalar(value: float) -> str | None:
    """Zero is allowed, though it is nothing; what rounds to zero is not."""
    if value == 0:
        return None
    try:
        amount = thousandths(value)
    except (ValueError, OverflowError):
        # Rounding NaN and infinities gives Mesos the least 64-bit integer, and so this text.
        amount = -1
    if not 0 < amount < _MOST_THOUSANDTHS:
        return "Invalid scalar resource: value <= 0"
    return None


def _validate_source(resource: Resource) -> str | None:
    if not resource.HasField("disk"):
        return None
    if resource.name != "disk":
        return f"DiskInfo should not be set for {resource.name} resource"
    if not resource.disk.HasField("source"):
        return None
    source = resource.disk.source
    if source.type in (PATH, MOUNT):
        return None
    name = SOURCE_NAMES.get(source.type)
    if name is None:
        return "Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'"
    if source.HasField("mount"):
        return f"Mount should not be set for {name} disk source"
    if source.HasField("path"):
        return f"Path should not be set for {name} disk source"
    return None


def _validate_reservations(resource: Resource) -> str | None:
    """Check the reservation in whichever of the formats it is."""
    if not resource.reservations:
        return _validate_single(resource)
    below: tuple[Reservation, ...] = ()
    for info in resource.reservations:
        error = _validate_layer(info)
        if error is not None:
            return error
    for info in resource.reservations:
        reservation = read_reservation(info)
        error = reservation_error(below, reservation)
        if error is not None:
            return error
        below = (reservation,)
    if len(resource.reservations) == 1:
        return _validate_agreement(resource)
    for field in ("role", "reservation"):
        if resource.HasField(field):
            return (
                f"Invalid resource format: 'Resource.{field}' must not be set if"
                " there is more than one reservation in 'Resource.reservations'"
            )
    return None


def _validate_single(resource: Resource) -> str | None:
    """Check C{role} and C{reservation}, the form from before reservations were refined."""
    error = validate_role(resource.role)
    if error is not None:
        return error
    if not resource.HasField("reservation"):
        return None
    for field in ("type", "role"):
        if resource.reservation.HasField(field):
            return (
                f"'Resource.ReservationInfo.{field}' must not be set for"
                " the 'Resource.reservation' field"
            )
    if resource.role == STAR:
        return 'Invalid reservation: role "*" cannot be dynamically reserved'
    return None


def _validate_layer(info: Resource.ReservationInfo) -> str | None:
    for field in ("type", "role"):
        if not info.HasField(field):
            return f"Invalid reservation: 'Resource.ReservationInfo.{field}' field must be set."
    return reservation_error((), read_reservation(info))


def _validate_agreement(resource: Resource) -> str | None:
    """Check that C{role} and C{reservation}, where set, say what the one reservation says."""
    stacked = resource.reservations[0]
    if resource.HasField("role") and resource.role != stacked.role:
        return (
            f"Invalid resource format: 'Resource.role' field with '{resource.role}' does not"
            f" match the role '{stacked.role}' in 'Resource.reservations'"
        )
    if stacked.type == STATIC:
        if resource.HasField("reservation"):
            return (
                "Invalid resource format: 'Resource.reservation' must not be"
                " set if the single reservation in 'Resource.reservations' is STATIC"
            )
        return None
    if stacked.type != DYNAMIC:
        return "Unsupported 'Resource.ReservationInfo.Type'"
    if resource.HasField("role") != resource.HasField("reservation"):
        return (
            "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be"
            " both set or both not set if the single reservation in 'Resource.reservations' is"
            " DYNAMIC"
        )
    if not resource.HasField("reservation"):
        return None
    single = resource.reservation
    if single.principal != stacked.principal:
        return (
            f"Invalid resource format: 'Resource.reservation.principal' field with"
            f" '{single.principal}' does not match the principal '{stacked.principal}'"
            " in 'Resource.reservations'"
        )
    ours, theirs = read_labels(single.labels), read_labels(stacked.labels)
    if sorted_labels(ours) != sorted_labels(theirs):
        return (
            "Invalid resource format: 'Resource.reservation.labels' field with"
            f" '{labels_text(ours)}' does not match the labels '{labels_text(theirs)}'"
            " in 'Resource.reservations'"
        )
    return None


def _validate_sharing(resource: Resource) -> str | None:
    if not resource.HasField("shared"):
        return None
    if resource.name != "disk":
        return f"Resource {resource.name} cannot be shared"
    if not resource.disk.HasField("persistence"):
        return "Only persistent volumes can be shared"
    return None


def validate_disk(resource: Resource) -> str | None:
    """Return what is wrong with what a valid resource says of its volume, or L{None}."""
    if not resource.HasField("disk"):
        return None
    disk = resource.disk
    if not disk.HasField("persistence"):
        if disk.HasField("volume"):
            return "Non-persistent volume not supported"
        return None if disk.HasField("source") else "DiskInfo is set but empty"
    if resource.HasField("revocable"):
        return "Persistent volumes cannot be created from revocable resources"
    if not resource.reservations and resource.role == STAR:
        return "Persistent volumes cannot be created from unreserved resources"
    if not disk.HasField("volume"):
        return "Expecting 'volume' to be set for persistent volume"
    if disk.volume.HasField("host_path"):
        return "Expecting 'host_path' to be unset for persistent volume"
    error = validate_id(disk.persistence.id)
    return None if error is None else f"Invalid persistence ID for persistent volume: {error}"


def _validate_revocable(resource: Resource) -> str | None:
    """Return what is wrong where something revocable is reserved by an operation, or L{None}."""
    if not resource.HasField("revocable"):
        return None
    if resource.reservations:
        dynamic = resource.reservations[-1].type == DYNAMIC
    else:
        dynamic = resource.HasField("reservation")
    if not dynamic:
        return None
    return (
        f"Dynamically reserved resource {describe(resource)}"
        " cannot be created from revocable resources"
    )
