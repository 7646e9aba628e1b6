"""Offer operations on volumes and disks: create, destroy, grow, shrink.

From C{namespace operation} of C{src/master/validation.cpp}; see
L{mesoskit.model.validation_ids} for what the functions return, and
L{mesoskit.model.validation_operation} for reservations.
"""

from collections.abc import Iterable, Sequence

from mesoskit.messages.mesos_pb2 import FrameworkInfo, Offer, Resource
from mesoskit.model.capabilities import AgentCapability, FrameworkCapability
from mesoskit.model.disks import BLOCK, MOUNT, RAW
from mesoskit.model.resource_message import read_reservations
from mesoskit.model.resource_validation import validate_resource, validate_resources
from mesoskit.model.resources import Resources
from mesoskit.model.validation_demand import (
    describe_one,
    validate_persistent_volumes,
    validate_single_provider,
    validate_single_role,
    validate_unique_persistence_ids,
)
from mesoskit.model.validation_operation import validate_agent_can_hold
from mesoskit.model.values import thousandths


def validate_create(
    create: Offer.Operation.Create,
    checkpointed: Resources,
    principal: str | None,
    agent: AgentCapability,
    framework: FrameworkInfo | None,
) -> str | None:
    """
    Say what is wrong with making persistent volumes.

    @param checkpointed: the volumes and reservations that the agent has already.
    @param principal: who asks, L{None} where nobody proved to be anybody.
    @param framework: who accepts an offer, L{None} for an operator.
    """
    volumes = create.volumes
    error = _validate_volumes(volumes)
    if error is not None:
        return error
    made = Resources.from_message(volumes)
    # One by one: of equal shared volumes a sum would only keep the count.
    singles = [Resources.from_message((volume,)) for volume in volumes]
    error = validate_unique_persistence_ids(checkpointed, *singles)
    if error is not None:
        return error
    for volume in volumes:
        error = (
            _validate_sharer(volume, framework)
            or validate_agent_can_hold(
                volume, read_reservations(volume), agent, "Volume", "created"
            )
            or _validate_creator(volume, principal)
        )
        if error is not None:
            return error
    if framework is not None:
        error = validate_single_role(made)
        if error is not None:
            return f"Invalid volume resources: {error}"
    return None


def _validate_volumes(volumes: Sequence[Resource]) -> str | None:
    """Check that resources are sound, of one provider, and persistent volumes."""
    error = validate_resources(volumes) or validate_single_provider(volumes)
    if error is not None:
        return f"Invalid resources: {error}"
    error = validate_persistent_volumes(volumes)
    if error is not None:
        return f"Not a persistent volume: {error}"
    return None


def _validate_sharer(volume: Resource, framework: FrameworkInfo | None) -> str | None:
    if framework is None or not volume.HasField("shared"):
        return None
    if FrameworkCapability.from_messages(framework.capabilities).shared_resources:
        return None
    return (
        f"Create volume operation for '{describe_one(volume)}' has been attempted by framework"
        f" '{framework.id.value}' with no SHARED_RESOURCES capability"
    )


def _validate_creator(volume: Resource, principal: str | None) -> str | None:
    if principal is None:
        return None
    persistence = volume.disk.persistence
    if not persistence.HasField("principal"):
        return (
            f"Create volume operation attempted by principal '{principal}', but there is a volume"
            " in the operation with no principal set in 'disk.persistence'"
        )
    if persistence.principal != principal:
        return (
            f"Create volume operation attempted by authenticated principal '{principal}', which"
            " does not match a volume in the operation with principal"
            f" '{persistence.principal}' set in 'disk.persistence'"
        )
    return None


def validate_destroy(
    destroy: Offer.Operation.Destroy, checkpointed: Resources, used: Iterable[Resources]
) -> str | None:
    """
    Say what is wrong with destroying persistent volumes.

    @param checkpointed: the volumes and reservations that the agent has.
    @param used: what the tasks and executors on the agent use, those on their way too.
    """
    volumes = destroy.volumes
    error = _validate_volumes(volumes)
    if error is not None:
        return error
    singles = [Resources.from_message((volume,)).unallocated() for volume in volumes]
    held = checkpointed.unallocated()
    for volume, single in zip(volumes, singles, strict=True):
        if not volume.HasField("provider_id") and not held.contains(single):
            return "Persistent volumes not found"
    for resources in used:
        taken = resources.unallocated()
        if any(taken.contains(single) for single in singles):
            return "Persistent volumes in use"
    return None


def validate_grow_volume(grow: Offer.Operation.GrowVolume, agent: AgentCapability) -> str | None:
    """Say what is wrong with making a volume larger by free disk of the same kind."""
    error = validate_resource(grow.volume)
    if error is not None:
        return f"Invalid resource in the 'GrowVolume.volume' field: {error}"
    error = validate_resource(grow.addition)
    if error is not None:
        return f"Invalid resource in the 'GrowVolume.addition' field: {error}"
    if thousandths(grow.addition.scalar.value) <= 0:
        return "The size of 'GrowVolume.addition' field must be greater than zero"
    if grow.volume.HasField("provider_id"):
        return "Growing a volume from a resource provider is not supported"
    error = validate_persistent_volumes((grow.volume,))
    if error is not None:
        return f"Invalid persistent volume in the 'GrowVolume.volume' field: {error}"
    if grow.volume.HasField("shared"):
        return "Growing a shared persistent volume is not supported"
    disk = Resources.from_message((grow.volume,)).without_volumes()
    if len(disk + Resources.from_message((grow.addition,))) != 1:
        return "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"
    if not agent.resize_volume:
        return (
            f"Volume {describe_one(grow.volume)}"
            " cannot be grown on an agent without RESIZE_VOLUME capability"
        )
    return None


def validate_shrink_volume(
    shrink: Offer.Operation.ShrinkVolume, agent: AgentCapability
) -> str | None:
    """Say what is wrong with making a volume smaller."""
    error = validate_resource(shrink.volume)
    if error is not None:
        return f"Invalid resource in the 'ShrinkVolume.volume' field: {error}"
    subtract = _amount(shrink.subtract.value)
    if subtract <= 0:
        return "Value of 'ShrinkVolume.subtract' must be greater than zero"
    if _amount(shrink.volume.scalar.value) <= subtract:
        return (
            "Value of 'ShrinkVolume.subtract' must be smaller"
            " than the size of 'ShrinkVolume.volume'"
        )
    if shrink.volume.HasField("provider_id"):
        return "Shrinking a volume from a resource provider is not supported"
    if shrink.volume.disk.source.type == MOUNT:
        return "Shrinking a volume on a MOUNT disk is not supported"
    error = validate_persistent_volumes((shrink.volume,))
    if error is not None:
        return f"Invalid persistent volume in the 'ShrinkVolume.volume' field: {error}"
    if shrink.volume.HasField("shared"):
        return "Shrinking a shared persistent volume is not supported"
    if not agent.resize_volume:
        return (
            f"Volume {describe_one(shrink.volume)}"
            " cannot be shrunk on an agent without RESIZE_VOLUME capability"
        )
    return None


def _amount(value: float) -> int:
    """Return thousandths, of what is no finite number far less than none, as C{llround} does."""
    try:
        return thousandths(value)
    except (ValueError, OverflowError):
        return -(1 << 63)


def validate_create_disk(create: Offer.Operation.CreateDisk) -> str | None:
    """Say what is wrong with making a disk out of a resource provider's raw storage."""
    source = create.source
    error = _validate_provided(source)
    if error is not None:
        return error
    if source.disk.source.type != RAW:
        return "'source' is not a RAW disk resource"
    if create.target_type not in (MOUNT, BLOCK):
        return "'target_type' is neither MOUNT or BLOCK"
    profiled = source.disk.source.HasField("profile")
    if profiled == create.HasField("target_profile"):
        if profiled:
            return "'target_profile' must not be set when 'source' has a profile"
        return "'target_profile' must be set when 'source' has no profile"
    return None


def validate_destroy_disk(destroy: Offer.Operation.DestroyDisk) -> str | None:
    """Say what is wrong with giving a disk back to the raw storage."""
    source = destroy.source
    error = _validate_provided(source)
    if error is not None:
        return error
    if source.disk.source.type not in (MOUNT, BLOCK, RAW):
        return "'source' is neither a MOUNT, BLOCK or RAW disk resource"
    if not source.disk.source.HasField("id"):
        return "'source' is not backed by a CSI volume"
    if source.disk.HasField("persistence"):
        return (
            f"A disk resource containing a persistent volume {describe_one(source)} cannot be"
            " destroyed directly. Please destroy the persistent volume first then destroy the"
            " disk resource"
        )
    return None


def _validate_provided(source: Resource) -> str | None:
    error = validate_resources((source,))
    if error is not None:
        return f"Invalid resource: {error}"
    if not source.HasField("provider_id"):
        return "'source' is not managed by a resource provider"
    return None
