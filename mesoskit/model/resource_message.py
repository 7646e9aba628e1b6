"""Resources as C{mesos.v1.Resource} messages, in the three forms that travel.

Before reservations could be refined, a resource had one C{role} and at most one
C{reservation}; since then it has a stack of C{reservations}. Agents, registries and old
frameworks speak the first form (L{PRE}), new frameworks the second (L{POST}), the JSON
endpoints show both (L{ENDPOINT}); see C{src/common/resources_utils.cpp}. All three are read
without being told which it is.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from mesoskit.messages.mesos_pb2 import Resource
from mesoskit.messages.mesos_pb2 import Volume as VolumeMessage
from mesoskit.model.disks import Disk, Labels, Source, Volume, sorted_labels
from mesoskit.model.resource_key import (
    DYNAMIC,
    STATIC,
    InvalidResources,
    Reservation,
    ResourceKey,
)
from mesoskit.model.roles import STAR
from mesoskit.model.values import (
    RANGES,
    SCALAR,
    SET,
    coalesced,
    from_thousandths,
    ranges_text,
    set_text,
    thousandths,
    value_text,
)

PRE: Final = 0
"""One role and at most one reservation."""
POST: Final = 1
"""A stack of reservations."""
ENDPOINT: Final = 2
"""Both at once, as far as the first can say it."""

_KEYS_REMEMBERED: Final = 4096


def read_resource(resource: Resource) -> tuple[ResourceKey, Any] | None:
    """
    Return the key and value of a message, or L{None} where it holds nothing that could be one.

    Nothing is validated: an unknown type, a number that is not finite, not positive or too
    small to count, inverted ranges and empty sets are nothing.
    """
    kind = resource.type
    value: Any
    if kind == SCALAR:
        try:
            value = thousandths(resource.scalar.value)
        except (ValueError, OverflowError):
            return None
        if value <= 0:
            return None
    elif kind == RANGES:
        value = coalesced([(span.begin, span.end) for span in resource.ranges.range])
    elif kind == SET:
        value = frozenset(resource.set.item)
    else:
        return None
    if not value:
        return None
    return _read_key(resource, kind, read_reservations(resource)), value


def _read_key(resource: Resource, kind: int, reservations: tuple[Reservation, ...]) -> ResourceKey:
    return ResourceKey(
        resource.name,
        kind,
        reservations,
        _read_disk(resource.disk) if resource.HasField("disk") else None,
        resource.HasField("shared"),
        resource.HasField("revocable"),
        resource.provider_id.value if resource.HasField("provider_id") else None,
        resource.allocation_info.role if resource.HasField("allocation_info") else None,
    )


def read_reservations(resource: Resource) -> tuple[Reservation, ...]:
    """Return the stack of reservations of a message of any form."""
    if resource.reservations:
        return tuple([read_reservation(info) for info in resource.reservations])
    if resource.role == STAR:
        return ()
    if not resource.HasField("reservation"):
        return (Reservation(STATIC, resource.role),)
    principal, labels = _read_reserver(resource.reservation)
    return (Reservation(DYNAMIC, resource.role, principal, labels),)


def read_reservation(info: Resource.ReservationInfo) -> Reservation:
    """Return one layer of a reservation."""
    return Reservation(info.type, info.role, *_read_reserver(info))


def _read_reserver(info: Resource.ReservationInfo) -> tuple[str | None, Labels]:
    principal = info.principal if info.HasField("principal") else None
    return principal, read_labels(info.labels) if info.HasField("labels") else ()


def read_labels(labels: Any) -> Labels:
    """Return the pairs of a C{mesos.v1.Labels}, in its order."""
    return tuple(
        [(label.key, label.value if label.HasField("value") else None) for label in labels.labels]
    )


def _read_disk(disk: Resource.DiskInfo) -> Disk:
    persistent = disk.HasField("persistence")
    return Disk(
        disk.persistence.id if persistent else None,
        disk.persistence.principal if disk.persistence.HasField("principal") else None,
        read_volume(disk.volume) if disk.HasField("volume") else None,
        _read_source(disk.source) if disk.HasField("source") else None,
    )


def read_volume(volume: VolumeMessage) -> Volume:
    """Return how a message says that a volume is to be seen."""
    rare = volume.HasField("image") or volume.HasField("source")
    return Volume(
        volume.container_path,
        volume.mode,
        volume.host_path if volume.HasField("host_path") else None,
        volume.SerializePartialToString() if rare else b"",
    )


def _read_source(source: Resource.DiskInfo.Source) -> Source:
    def given(field: str) -> str | None:
        return getattr(source, field) if source.HasField(field) else None

    return Source(
        source.type,
        source.path.root if source.HasField("path") else None,
        source.mount.root if source.HasField("mount") else None,
        given("id"),
        sorted_labels(read_labels(source.metadata)),
        given("profile"),
        given("vendor"),
    )


def write_resource(key: ResourceKey, value: Any, form: int = POST) -> Resource:
    """
    Return a message of its own for a key and value.

    Raises L{InvalidResources} where L{PRE} is asked for and the reservation is refined.
    """
    resource = Resource()
    resource.CopyFrom(_template(key, form))
    if key.kind == SCALAR:
        resource.scalar.value = from_thousandths(value)
    elif key.kind == RANGES:
        resource.ranges.SetInParent()
        add = resource.ranges.range.add
        for begin, end in value:
            add(begin=begin, end=end)
    else:
        resource.set.SetInParent()
        resource.set.item.extend(sorted(value))
    return resource


@lru_cache(maxsize=_KEYS_REMEMBERED)
def _template(key: ResourceKey, form: int) -> Resource:
    """Return the message of a key without a value; not to be changed."""
    resource = Resource(name=key.name, type=key.kind)  # type: ignore[arg-type]
    if form != POST:
        _write_role(resource, key, form)
    if form != PRE:
        for reservation in key.reservations:
            write_reservation(resource.reservations.add(), reservation)
    if key.disk is not None:
        resource.disk.SetInParent()
        _write_disk(resource.disk, key.disk)
    if key.shared:
        resource.shared.SetInParent()
    if key.revocable:
        resource.revocable.SetInParent()
    if key.provider_id is not None:
        resource.provider_id.value = key.provider_id
    if key.allocation_role is not None:
        resource.allocation_info.role = key.allocation_role
    return resource


def _write_role(resource: Resource, key: ResourceKey, form: int) -> None:
    """Write the fields of the old form, unless the stack is too high for it."""
    if key.refined:
        if form == PRE:
            raise InvalidResources(
                f"Cannot downgrade resources containing refined reservations: {key}"
            )
        return
    resource.role = key.role
    if key.dynamically_reserved:
        resource.reservation.SetInParent()
        _write_reserver(resource.reservation, key.reservations[0])


def write_reservation(info: Resource.ReservationInfo, reservation: Reservation) -> None:
    """Fill in a message with one layer of a reservation."""
    info.type = reservation.type  # type: ignore[assignment]
    info.role = reservation.role
    _write_reserver(info, reservation)


def _write_reserver(info: Resource.ReservationInfo, reservation: Reservation) -> None:
    if reservation.principal is not None:
        info.principal = reservation.principal
    if reservation.labels:
        write_labels(info.labels, reservation.labels)


def write_labels(message: Any, labels: Labels) -> None:
    """Add labels to a C{mesos.v1.Labels}."""
    for name, value in labels:
        message.labels.add(key=name, value=value)


def _write_disk(message: Resource.DiskInfo, disk: Disk) -> None:
    if disk.persistence_id is not None:
        message.persistence.id = disk.persistence_id
        if disk.principal is not None:
            message.persistence.principal = disk.principal
    if disk.volume is not None:
        write_volume(message.volume, disk.volume)
    source = disk.source
    if source is None:
        return
    message.source.type = source.type  # type: ignore[assignment]
    for part, root in ((message.source.path, source.path), (message.source.mount, source.mount)):
        if root is not None:
            part.SetInParent()
            if root:
                part.root = root
    if source.metadata:
        write_labels(message.source.metadata, source.metadata)
    for field in ("id", "profile", "vendor"):
        if getattr(source, field) is not None:
            setattr(message.source, field, getattr(source, field))


def write_volume(message: VolumeMessage, volume: Volume) -> None:
    """Fill in a message with how a volume is to be seen."""
    if volume.data:
        message.MergeFromString(volume.data)
        return
    message.container_path = volume.container_path
    message.mode = volume.mode  # type: ignore[assignment]
    if volume.host_path is not None:
        message.host_path = volume.host_path


def describe(resource: Resource) -> str:
    """
    Return the text that Mesos prints for a message, valid or not, as it stands.

    As in Mesos only C{reservations} are shown, not the C{role} and C{reservation} of the old
    form.
    """
    stack = tuple([read_reservation(info) for info in resource.reservations])
    key = _read_key(resource, SCALAR, stack)
    if resource.type == RANGES:
        text = ranges_text((span.begin, span.end) for span in resource.ranges.range)
    elif resource.type == SET:
        text = set_text(resource.set.item)
    else:
        try:
            text = value_text(SCALAR, thousandths(resource.scalar.value))
        except (ValueError, OverflowError):
            text = str(resource.scalar.value)
    return f"{key}:{text}"


def describe_all(resources: Iterable[Resource]) -> str:
    """Return the texts of messages, as Mesos prints a list of resources."""
    return "; ".join(describe(resource) for resource in resources) or "{}"
