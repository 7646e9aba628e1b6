"""What a task, an executor or an operation asks for: rules about resources taken together.

L{mesoskit.model.resource_validation} looks at each resource by itself; this module at what
the resources of one list may not be to each other, and at volumes and providers. The rules are
those of C{namespace resource} in C{src/master/validation.cpp}; see
L{mesoskit.model.validation_ids} for what the functions return.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from mesoskit.messages.mesos_pb2 import Resource, Volume
from mesoskit.model.quantities import Quantities
from mesoskit.model.resource_message import describe, read_resource
from mesoskit.model.resource_validation import validate_format, validate_resources
from mesoskit.model.resources import Resources
from mesoskit.model.values import value_text

_JUDGED_AT_ONCE = 1024
"""Lists longer than this many bytes are judged anew each time they come."""


class Demand:
    """
    What a list of resources is, and everything that is wrong with it.

    @ivar resources: the list as L{Resources}; to be believed only where C{invalid} is L{None}.
    @ivar malformed: what C{Resources::validate} says, L{None} for nothing. The master looks
        at this first, for a whole operation.
    @ivar invalid: what C{resource::validate} says; the same and more.
    @ivar duplicate: a persistence id that is used twice.
    @ivar roles: that the resources are not allocated to one role.
    @ivar mixed: a name that is both revocable and not.
    @ivar sound: nothing of all this is wrong.
    """

    __slots__ = ("duplicate", "invalid", "malformed", "mixed", "resources", "roles", "sound")

    def __init__(self, messages: Sequence[Resource]) -> None:
        resources = Resources.from_message(messages)
        self.resources = resources
        self.malformed = validate_format(messages)
        self.invalid = validate_resources(messages)
        self.duplicate = validate_unique_persistence_ids(resources)
        self.roles = validate_single_role(resources)
        self.mixed = validate_not_mixed(resources)
        self.sound = not (
            self.malformed or self.invalid or self.duplicate or self.roles or self.mixed
        )


def read_demand(messages: Iterable[Resource]) -> Demand:
    """
    Read and judge a list of resources. Lists that come again and again, as those of
    similar tasks do, are recognised by their bytes.
    """
    blobs = tuple([message.SerializePartialToString() for message in messages])
    if sum(map(len, blobs)) > _JUDGED_AT_ONCE:
        return _judge(blobs)
    return _judge_cached(blobs)


def _judge(blobs: tuple[bytes, ...]) -> Demand:
    return Demand([Resource.FromString(blob) for blob in blobs])


@lru_cache(maxsize=2048)
def _judge_cached(blobs: tuple[bytes, ...]) -> Demand:
    return _judge(blobs)


def describe_one(resource: Resource) -> str:
    """
    Return the text of a resource of any format, the way Mesos prints it once it has brought
    it into the format with C{reservations}.
    """
    entry = read_resource(resource)
    if entry is None:
        return describe(resource)
    key, value = entry
    return f"{key}:{value_text(key.kind, value)}"


def validate_unique_persistence_ids(*parts: Resources) -> str | None:
    """A persistence id names one volume of a role on an agent."""
    seen: set[tuple[str, str | None]] = set()
    for part in parts:
        for key, _ in part.persistent_volumes():
            name = (key.role, key.disk.persistence_id if key.disk else None)
            if name in seen:
                return f"Persistence ID '{name[1]}' is not unique"
            seen.add(name)
    return None


def validate_single_role(resources: Resources) -> str | None:
    """All resources are allocated, and to the same role."""
    first: str | None = None
    for key, _ in resources:
        role = key.allocation_role
        if not role:
            return "The resources are not allocated to a role"
        if first is None:
            first = role
        elif role != first:
            return (
                f"The resources have multiple allocation roles ('{role}' and '{first}')"
                " but only one allocation role is allowed"
            )
    return None


def validate_not_mixed(resources: Resources) -> str | None:
    """Of one name, either all is revocable or nothing."""
    revocable = {key.name for key, _ in resources if key.revocable}
    if revocable:
        for key, _ in resources:
            if key.name in revocable and not key.revocable:
                return f"Cannot use both revocable and non-revocable '{key.name}' at the same time"
    return None


def validate_persistent_volumes(volumes: Iterable[Resource]) -> str | None:
    """All resources are persistent volumes that can be written to."""
    for volume in volumes:
        if not volume.HasField("disk"):
            return f"Resource {describe_one(volume)} does not have DiskInfo"
        if not volume.disk.HasField("persistence"):
            return "'persistence' is not set in DiskInfo"
        if not volume.disk.HasField("volume"):
            return "Expecting 'volume' to be set for persistent volume"
        if volume.disk.volume.mode == Volume.RO:
            return "Read-only persistent volume not supported"
    return None


def validate_single_provider(resources: Iterable[Resource]) -> str | None:
    """
    All resources come from one resource provider; the agent itself counts as one.

    No resources at all do not, which gives Mesos' odd text with no provider in it.
    """
    providers = {
        resource.provider_id.value if resource.HasField("provider_id") else None: None
        for resource in resources
    }
    if len(providers) == 1:
        return None
    if None in providers:
        return "Some resources have a resource provider and some do not"
    return "The resources have multiple resource providers: " + ", ".join(
        [name for name in providers if name is not None]
    )


def overlap(parts: Sequence[Resources]) -> bool:
    """Tell whether two of these collections have a port, or another item, in common."""
    amounts = Quantities.EMPTY
    for part in parts:
        amounts += part.quantities()
    return amounts != Resources.sum(parts).quantities()
