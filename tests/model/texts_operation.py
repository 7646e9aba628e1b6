"""Offer operations that Mesos refuses, and its texts."""

from typing import Any

from mesoskit.messages.mesos_pb2 import FrameworkInfo, Offer, Resource
from mesoskit.model.capabilities import AGENT_CAPABILITIES, AgentCapability
from mesoskit.model.resources import Resources
from mesoskit.model.validation_operation import (
    validate_launch_id,
    validate_operation_form,
    validate_reserve,
    validate_unreserve,
)
from mesoskit.model.validation_volume_operation import (
    validate_create,
    validate_create_disk,
    validate_destroy,
    validate_destroy_disk,
    validate_grow_volume,
    validate_shrink_volume,
)
from tests.model.texts_call import BAD_CPUS, BAD_CPUS_TEXT
from tests.model.texts_task import Row
from tests.model.validation_messages import Fields, changed, scalar, volume

Operation = Offer.Operation

DYNAMIC: Fields = {"type": "DYNAMIC", "role": "web", "principal": "ann"}
RESERVED: Fields = scalar("cpus", 1, reservations=[DYNAMIC])
RESERVED_TEXT = "cpus(allocated: web)(reservations: [(DYNAMIC,web,ann)]):1"
VOLUME_TEXT = "disk(allocated: web)(reservations: [(DYNAMIC,web,ann)])[v1:data]:64"
NO_CAPABILITIES = AgentCapability(0)
WEB = FrameworkInfo(user="u", name="n", id={"value": "m-0000"}, role="web")
FREE: Fields = {"allocation_info": None}
PROVIDED: Fields = {"provider_id": {"value": "p1"}}
MISSING = "Expecting 'volume' to be set for persistent volume"


def _form(text: str, **fields: Any) -> Row:
    return ("operation", validate_operation_form(Operation(**fields)), text)


def forms() -> list[Row]:
    """Return rows about operations that lack something, or whose resources are malformed."""
    articles = {
        "reserve": ("A RESERVE offer", "."),
        "unreserve": ("An UNRESERVE offer", "."),
        "create": ("A CREATE offer", "."),
        "destroy": ("A DESTROY offer", "."),
        "grow_volume": ("A GROW_VOLUME", ""),
        "shrink_volume": ("A SHRINK_VOLUME offer", ""),
        "launch": ("A LAUNCH offer", "."),
        "launch_group": ("A LAUNCH_GROUP offer", "."),
        "create_disk": ("A CREATE_DISK offer", "."),
        "destroy_disk": ("A DESTROY_DISK offer", "."),
    }
    names = {
        name: f"{article} operation must have the Offer.Operation.{name} field set{stop}"
        for name, (article, stop) in articles.items()
    }
    right = {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}
    task = {"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "a"}}
    bad_task = {**task, "resources": [BAD_CPUS]}
    its_executor = {"executor_id": {"value": "e"}}
    bad_executor = {**its_executor, "resources": [BAD_CPUS]}
    parts: list[tuple[str, dict[str, Any]]] = [
        ("reserve", {"resources": [BAD_CPUS]}),
        ("reserve", {"resources": [right], "source": [BAD_CPUS]}),
        ("unreserve", {"resources": [BAD_CPUS]}),
        ("create", {"volumes": [BAD_CPUS]}),
        ("destroy", {"volumes": [BAD_CPUS]}),
        ("grow_volume", {"volume": BAD_CPUS, "addition": right}),
        ("grow_volume", {"volume": right, "addition": BAD_CPUS}),
        ("shrink_volume", {"volume": BAD_CPUS, "subtract": {"value": 1}}),
        ("launch", {"task_infos": [task, bad_task]}),
        ("launch", {"task_infos": [{**task, "executor": bad_executor}]}),
        ("launch_group", {"executor": bad_executor, "task_group": {}}),
        ("launch_group", {"executor": its_executor, "task_group": {"tasks": [bad_task]}}),
        ("create_disk", {"source": BAD_CPUS, "target_type": "MOUNT"}),
        ("destroy_disk", {"source": BAD_CPUS}),
    ]
    return [
        _form("Unknown offer operation"),
        *(_form(text, type=name.upper()) for name, text in names.items()),
        *(_form(BAD_CPUS_TEXT, type=name.upper(), **{name: part}) for name, part in parts),
        (
            "operation",
            validate_launch_id(Operation(type="LAUNCH", id={"value": "o"})),
            "The `id` field cannot be set on LAUNCH operations",
        ),
        (
            "operation",
            validate_launch_id(Operation(type="LAUNCH_GROUP", id={"value": "o"})),
            "The `id` field cannot be set on LAUNCH_GROUP operations",
        ),
    ]


def reserve(
    *resources: Fields,
    source: list[Fields] | None = None,
    principal: str | None = "ann",
    agent: AgentCapability = AGENT_CAPABILITIES,
    framework: FrameworkInfo | None = WEB,
) -> str | None:
    """Validate a reservation."""
    operation = Operation.Reserve(resources=resources, source=source or [])
    return validate_reserve(operation, principal, agent, framework)


def _reserve(text: str, *resources: Fields, **more: Any) -> Row:
    return ("operation", reserve(*resources, **more), text)


def reservations() -> list[Row]:
    """Return rows about reserving and giving up reservations."""
    mem = scalar("mem", 64, reservations=[DYNAMIC])
    bob = scalar("cpus", 1, reservations=[{**DYNAMIC, "principal": "bob"}])
    nobody = scalar("cpus", 1, reservations=[{"type": "DYNAMIC", "role": "web"}])
    nested = scalar(
        "cpus", 1, reservations=[{**DYNAMIC, "role": "web/a"}], allocation_info={"role": "web/a"}
    )
    refined = scalar(
        "cpus",
        1,
        reservations=[{**DYNAMIC, "role": "x"}, {**DYNAMIC, "role": "x/y"}],
        allocation_info={"role": "x/y"},
    )
    free = {**RESERVED, **FREE}
    for_db = scalar("cpus", 1, reservations=[{**DYNAMIC, "role": "db"}])
    db = {**for_db, "allocation_info": {"role": "db"}}
    both_roles = FrameworkInfo(
        user="u",
        name="n",
        roles=["web", "db"],
        capabilities=[{"type": "MULTI_ROLE"}],
    )
    plain = scalar("cpus", 1)
    mixed = "Mixed reservations are not supported"

    def unreserve(text: str, *resources: Fields) -> Row:
        operation = Operation.Unreserve(resources=resources)
        return ("operation", validate_unreserve(operation), text)

    provided = {**RESERVED, **PROVIDED}
    return [
        _reserve(f"Invalid resources: Invalid resources: {BAD_CPUS_TEXT}", BAD_CPUS),
        _reserve(
            f"Invalid source: Invalid resources: {BAD_CPUS_TEXT}", RESERVED, source=[BAD_CPUS]
        ),
        _reserve(
            f"Invalid source: {mixed}{RESERVED_TEXT}; mem(allocated: web):64",
            RESERVED,
            source=[RESERVED, scalar("mem", 64)],
        ),
        _reserve("Invalid resources: Resource cannot be empty", source=[plain]),
        _reserve(
            f"Invalid resources: {mixed}{RESERVED_TEXT}; mem(allocated: web):64",
            RESERVED,
            scalar("mem", 64),
            source=[plain],
        ),
        _reserve(
            "Source and target resources should refer to identical resource quantities:"
            " cpus(allocated: web):2 vs. cpus(allocated: web):1",
            RESERVED,
            source=[scalar("cpus", 2)],
        ),
        _reserve(
            "Invalid resources: Some resources have a resource provider and some do not",
            provided,
            mem,
        ),
        _reserve(
            "Invalid resources: The resources have multiple resource providers: p1, p2",
            provided,
            {**mem, "provider_id": {"value": "p2"}},
        ),
        _reserve("Invalid resources: The resources have multiple resource providers: "),
        _reserve("Resource cpus(allocated: web):1 is not dynamically reserved", plain),
        _reserve(
            "Resource cpus(allocated: web/a)(reservations: [(DYNAMIC,web/a,ann)]):1"
            " with reservation for hierarchical role 'web/a'"
            " cannot be reserved on an agent without HIERARCHICAL_ROLE capability",
            nested,
            agent=NO_CAPABILITIES,
        ),
        _reserve(
            "Resource cpus(allocated: x/y)(reservations: [(DYNAMIC,x,ann),(DYNAMIC,x/y,ann)]):1"
            " with reservation refinement cannot be reserved on an agent"
            " without RESERVATION_REFINEMENT capability",
            refined,
            agent=AgentCapability.HIERARCHICAL_ROLE,
        ),
        _reserve(
            "A reserve operation was attempted by principal 'ann', but there is a"
            " reserved resource in the request with no principal set",
            nobody,
        ),
        _reserve(
            "A reserve operation was attempted by authenticated principal 'ann', which does not"
            " match a reserved resource in the request with principal 'bob'",
            bob,
        ),
        _reserve(
            "A reserve operation was attempted on unallocated resource"
            " cpus(reservations: [(DYNAMIC,web,ann)]):1,"
            " but frameworks can only perform reservations on allocated resources",
            free,
        ),
        _reserve(
            "A reserve operation was attempted for a resource with role 'db', but"
            " the resource was allocated to role 'web'",
            for_db,
        ),
        _reserve(
            "A reserve operation was attempted for a resource allocated to role 'db',"
            " but the framework only has roles '{ web }'",
            db,
        ),
        _reserve(
            "A reserve operation was attempted with an allocated resource, but the operator"
            " API only allows reservations to be made to unallocated resources",
            RESERVED,
            framework=None,
        ),
        _reserve(
            "Invalid reservation resources: The resources have multiple allocation roles"
            " ('db' and 'web') but only one allocation role is allowed",
            RESERVED,
            db,
            framework=both_roles,
        ),
        unreserve(f"Invalid resources: Invalid resources: {BAD_CPUS_TEXT}", BAD_CPUS),
        unreserve("Invalid resources: The resources have multiple resource providers: "),
        unreserve("Resource cpus(allocated: web):1 is not dynamically reserved", plain),
        unreserve(
            f"A dynamically reserved persistent volume {VOLUME_TEXT} cannot be unreserved"
            " directly. Please destroy the persistent volume first then unreserve the resource",
            volume(),
        ),
    ]


def resources(*fields: Fields) -> Resources:
    """Return resources of these fields."""
    return Resources.from_message([Resource(**each) for each in fields])


def create(
    *volumes: Fields,
    held: Resources = Resources.EMPTY,
    principal: str | None = "ann",
    agent: AgentCapability = AGENT_CAPABILITIES,
    framework: FrameworkInfo | None = WEB,
) -> str | None:
    """Validate the making of volumes."""
    operation = Operation.Create(volumes=volumes)
    return validate_create(operation, held, principal, agent, framework)


def _create(text: str, *volumes: Fields, **more: Any) -> Row:
    return ("operation", create(*volumes, **more), text)


def volumes() -> list[Row]:
    """Return rows about making and destroying volumes."""
    hierarchical = volume(reservations=[{**DYNAMIC, "role": "a/b"}])
    refined = volume(reservations=[{**DYNAMIC, "role": "x"}, {**DYNAMIC, "role": "x/y"}])
    read_only = {"volume": {"container_path": "data", "mode": "RO"}}
    prefix = "disk(allocated: web)(reservations: "

    def destroy(text: str, *volumes: Fields, used: Resources = Resources.EMPTY) -> Row:
        operation = Operation.Destroy(volumes=volumes)
        held = resources(volume(**FREE))
        return ("operation", validate_destroy(operation, held, [used]), text)

    return [
        _create(f"Invalid resources: Invalid resources: {BAD_CPUS_TEXT}", BAD_CPUS),
        _create(
            "Invalid resources: Invalid DiskInfo: Non-persistent volume not supported",
            changed(volume(), {"persistence": None}),
        ),
        _create("Invalid resources: The resources have multiple resource providers: "),
        _create(
            f"Not a persistent volume: Resource {RESERVED_TEXT} does not have DiskInfo", RESERVED
        ),
        _create(
            "Not a persistent volume: 'persistence' is not set in DiskInfo",
            scalar("disk", 1, disk={"source": {"type": "PATH"}}),
        ),
        _create(
            "Not a persistent volume: Read-only persistent volume not supported",
            changed(volume(), read_only),
        ),
        _create("Persistence ID 'v1' is not unique", volume(), volume(size=32)),
        _create(
            "Persistence ID 'v1' is not unique", volume(), held=resources(volume(size=1, **FREE))
        ),
        _create(
            f"Create volume operation for '{prefix}[(DYNAMIC,web,ann)])[v1:data]<SHARED>:64'"
            " has been attempted by framework 'm-0000' with no SHARED_RESOURCES capability",
            volume(shared={}),
        ),
        _create(
            f"Volume {prefix}[(DYNAMIC,a/b,ann)])[v1:data]:64 with reservation for hierarchical"
            " role 'a/b' cannot be created on an agent without HIERARCHICAL_ROLE capability",
            hierarchical,
            agent=NO_CAPABILITIES,
        ),
        _create(
            f"Volume {prefix}[(DYNAMIC,x,ann),(DYNAMIC,x/y,ann)])[v1:data]:64 with reservation"
            " refinement cannot be created on an agent without RESERVATION_REFINEMENT capability",
            refined,
            agent=AgentCapability.HIERARCHICAL_ROLE,
        ),
        _create(
            "Create volume operation attempted by principal 'ann', but there is a volume in the"
            " operation with no principal set in 'disk.persistence'",
            changed(volume(), {"persistence": {"id": "v1"}}),
        ),
        _create(
            "Create volume operation attempted by authenticated principal 'bob', which does not"
            " match a volume in the operation with principal 'ann' set in 'disk.persistence'",
            volume(),
            principal="bob",
        ),
        _create(
            "Invalid volume resources: The resources are not allocated to a role",
            volume(**FREE),
        ),
        destroy(f"Invalid resources: Invalid resources: {BAD_CPUS_TEXT}", BAD_CPUS),
        destroy(
            f"Not a persistent volume: Resource {RESERVED_TEXT} does not have DiskInfo", RESERVED
        ),
        destroy("Persistent volumes not found", volume("v2")),
        destroy("Persistent volumes in use", volume(), used=resources(volume())),
    ]


def grow(
    its_volume: Fields, addition: Fields, agent: AgentCapability = AGENT_CAPABILITIES
) -> str | None:
    """Validate the growing of a volume."""
    operation = Operation.GrowVolume(volume=its_volume, addition=addition)
    return validate_grow_volume(operation, agent)


def shrink(
    its_volume: Fields, subtract: float, agent: AgentCapability = AGENT_CAPABILITIES
) -> str | None:
    """Validate the shrinking of a volume."""
    operation = Operation.ShrinkVolume(volume=its_volume, subtract={"value": subtract})
    return validate_shrink_volume(operation, agent)


def sizes() -> list[Row]:
    """Return rows about growing and shrinking volumes."""
    more = scalar("disk", 64, reservations=[DYNAMIC])
    malformed = "Invalid scalar resource: value <= 0"
    unmounted = changed(volume(), {"volume": None})
    mount = changed(volume(), {"source": {"type": "MOUNT", "mount": {"root": "/m"}}})
    grown: list[tuple[str, str | None]] = [
        (f"Invalid resource in the 'GrowVolume.volume' field: {malformed}", grow(BAD_CPUS, more)),
        (
            f"Invalid resource in the 'GrowVolume.addition' field: {malformed}",
            grow(volume(), BAD_CPUS),
        ),
        (
            "The size of 'GrowVolume.addition' field must be greater than zero",
            grow(volume(), {**more, "scalar": {"value": 0}}),
        ),
        (
            "Growing a volume from a resource provider is not supported",
            grow(volume(**PROVIDED), more),
        ),
        (
            f"Invalid persistent volume in the 'GrowVolume.volume' field: {MISSING}",
            grow(unmounted, more),
        ),
        ("Growing a shared persistent volume is not supported", grow(volume(shared={}), more)),
        (
            "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields",
            grow(volume(), scalar("disk", 64)),
        ),
        (
            f"Volume {VOLUME_TEXT} cannot be grown on an agent without RESIZE_VOLUME capability",
            grow(volume(), more, NO_CAPABILITIES),
        ),
    ]
    too_much = (
        "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'"
    )
    shrunk: list[tuple[str, str | None]] = [
        (f"Invalid resource in the 'ShrinkVolume.volume' field: {malformed}", shrink(BAD_CPUS, 1)),
        ("Value of 'ShrinkVolume.subtract' must be greater than zero", shrink(volume(), 0.0001)),
        (
            "Value of 'ShrinkVolume.subtract' must be greater than zero",
            shrink(volume(), float("nan")),
        ),
        (too_much, shrink(volume(), 64)),
        (
            "Shrinking a volume from a resource provider is not supported",
            shrink(volume(**PROVIDED), 1),
        ),
        ("Shrinking a volume on a MOUNT disk is not supported", shrink(mount, 1)),
        (
            f"Invalid persistent volume in the 'ShrinkVolume.volume' field: {MISSING}",
            shrink(unmounted, 1),
        ),
        ("Shrinking a shared persistent volume is not supported", shrink(volume(shared={}), 1)),
        (
            f"Volume {VOLUME_TEXT} cannot be shrunk on an agent without RESIZE_VOLUME capability",
            shrink(volume(), 1, NO_CAPABILITIES),
        ),
    ]
    return [("operation", said, text) for text, said in (*grown, *shrunk)]


def disk(kind: str | None, provided: bool = True, **source: Any) -> Fields:
    """Return a disk of a resource provider."""
    fields = scalar("disk", 64, **(PROVIDED if provided else {}))
    return {**fields, "disk": {"source": {"type": kind, **source}}} if kind else fields


def create_disk(source: Fields, kind: str = "MOUNT", **more: Any) -> str | None:
    """Validate the making of a disk."""
    return validate_create_disk(Operation.CreateDisk(source=source, target_type=kind, **more))


def destroy_disk(source: Fields) -> str | None:
    """Validate the giving back of a disk."""
    return validate_destroy_disk(Operation.DestroyDisk(source=source))


def disks() -> list[Row]:
    """Return rows about disks of resource providers."""
    own = "'source' is not managed by a resource provider"
    in_use = (
        "A disk resource containing a persistent volume disk(allocated: web)(reservations:"
        " [(DYNAMIC,web,ann)])[MOUNT(,i,),v1:data]:64 cannot be destroyed directly. Please"
        " destroy the persistent volume first then destroy the disk resource"
    )
    lasting = {
        **changed(volume(**PROVIDED), {"source": {"type": "MOUNT", "id": "i"}}),
    }
    rows: list[tuple[str, str | None]] = [
        (f"Invalid resource: Invalid resources: {BAD_CPUS_TEXT}", create_disk(BAD_CPUS)),
        (own, create_disk(disk("RAW", provided=False))),
        ("'source' is not a RAW disk resource", create_disk(disk("MOUNT"))),
        ("'target_type' is neither MOUNT or BLOCK", create_disk(disk("RAW"), "PATH")),
        (
            "'target_profile' must not be set when 'source' has a profile",
            create_disk(disk("RAW", profile="fast"), target_profile="fast"),
        ),
        (
            "'target_profile' must be set when 'source' has no profile",
            create_disk(disk("RAW")),
        ),
        (f"Invalid resource: Invalid resources: {BAD_CPUS_TEXT}", destroy_disk(BAD_CPUS)),
        (own, destroy_disk(disk("RAW", provided=False))),
        ("'source' is neither a MOUNT, BLOCK or RAW disk resource", destroy_disk(disk("PATH"))),
        ("'source' is not backed by a CSI volume", destroy_disk(disk("MOUNT"))),
        (
            in_use,
            destroy_disk(lasting),
        ),
    ]
    return [("operation", said, text) for text, said in rows]


ROWS: list[Row] = [*forms(), *reservations(), *volumes(), *sizes(), *disks()]
