"""What hypothesis makes resources of."""

from typing import Any

from hypothesis import strategies as st

from mesoskit.model.disks import MOUNT, PATH, RAW, Disk, Source, Volume
from mesoskit.model.resource_key import DYNAMIC, STATIC, Reservation, ResourceKey
from mesoskit.model.resources import Resources
from mesoskit.model.values import RANGES, SCALAR, SET, coalesced

amounts = st.integers(1, 10**9)

labels = st.lists(
    st.tuples(st.sampled_from("kl"), st.one_of(st.none(), st.sampled_from("vw"))), max_size=2
)

STACKS = [("web",), ("web", "web/db"), ("eng",), ("eng", "eng/ui", "eng/ui/x")]


@st.composite
def stacks(draw: st.DrawFn) -> tuple[Reservation, ...]:
    """Make stacks of reservations that may be, often none."""
    if draw(st.booleans()):
        return ()
    layers: list[Reservation] = []
    for role in draw(st.sampled_from(STACKS)):
        kind = DYNAMIC if layers else draw(st.sampled_from((STATIC, DYNAMIC)))
        if kind == STATIC:
            layers.append(Reservation(STATIC, role))
        else:
            principal = draw(st.sampled_from((None, "", "ann")))
            layers.append(Reservation(DYNAMIC, role, principal, draw(labels)))
    return tuple(layers)


sources = st.sampled_from(
    (
        None,
        Source(PATH, path="/p"),
        Source(MOUNT, mount="/m"),
        Source(MOUNT),
        Source(RAW, id="r1", profile="fast", vendor="v", metadata=(("k", "v"),)),
        Source(RAW, profile="fast"),
    )
)


@st.composite
def disks(draw: st.DrawFn) -> Disk | None:
    """Make disks with and without volumes."""
    source = draw(sources)
    if draw(st.booleans()):
        return None if source is None else Disk(source=source)
    principal = draw(st.sampled_from((None, "ann")))
    volume = Volume(draw(st.sampled_from(("data", "logs"))))
    return Disk(draw(st.sampled_from(("id1", "id2"))), principal, volume, source)


@st.composite
def keys(draw: st.DrawFn, kind: int | None = None) -> ResourceKey:
    """Make keys of every sort."""
    if kind is None:
        kind = draw(st.sampled_from((SCALAR, SCALAR, SCALAR, RANGES, SET)))
    name = {SCALAR: draw(st.sampled_from(("cpus", "mem", "disk"))), RANGES: "ports", SET: "disks"}[
        kind
    ]
    disk = draw(disks()) if name == "disk" else None
    return ResourceKey(
        name,
        kind,
        draw(stacks()),
        disk,
        shared=disk is not None and disk.persistence_id is not None and draw(st.booleans()),
        revocable=draw(st.booleans()),
        provider_id=draw(st.sampled_from((None, None, "rp"))),
        allocation_role=draw(st.sampled_from((None, "web"))),
    )


spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda t: (t[0], t[0] + t[1])),
    min_size=1,
    max_size=12,
)
ranges = spans.map(coalesced)
sets = st.frozensets(st.sampled_from("abcdef"), min_size=1)


@st.composite
def entries(draw: st.DrawFn) -> tuple[ResourceKey, Any]:
    """Make keys with values."""
    key = draw(keys())
    values = {SCALAR: st.one_of(st.sampled_from((1000, 64000)), amounts), RANGES: ranges, SET: sets}
    return key, draw(values[key.kind])


resources = st.lists(entries(), max_size=6).map(Resources)


@st.composite
def disjoint(draw: st.DrawFn) -> tuple[Resources, Resources]:
    """Make two resources that have no port and no item in common."""
    left = draw(resources)
    # Of what is in a set or a range there is one, so it cannot be added to itself.
    bare = left.map_keys(lambda key: ResourceKey(key.name, key.kind))
    right: list[tuple[ResourceKey, Any]] = []
    for key, value in draw(resources):
        if key.kind == RANGES:
            rest = Resources([(ResourceKey(key.name, RANGES), value)]).minus(bare)
            right.append((key, rest.ranges(key.name)))
        elif key.kind == SET:
            taken: frozenset[str] = frozenset().union(*[v for k, v in left if k.kind == SET])
            right.append((key, value - taken))
        else:
            right.append((key, value))
    return left, Resources(right)
