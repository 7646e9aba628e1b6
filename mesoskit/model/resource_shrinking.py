"""Parts of resources that keep within a size: for offers that quota does not let be whole."""

from mesoskit.model.quantities import Limits, Quantities
from mesoskit.model.resource_key import AMOUNT
from mesoskit.model.resource_values import quantity
from mesoskit.model.resources import Resources
from mesoskit.model.values import SCALAR


def shrunk_to(resources: Resources, target: Quantities) -> Resources:
    """
    Return a part of resources that is as large as C{target} allows; nothing of names not in it.

    Volumes and MOUNT disks, ranges and sets are taken whole or not at all. What comes first is
    taken first; Mesos shuffles before (C{shrinkResources} in C{src/common/resources_utils.cpp}).
    """
    return _capped(resources, {name: target[name] for name in resources.names()})


def limited_to(resources: Resources, limits: Limits) -> Resources:
    """Return a part of resources that is as large as limits allow; all of names not in them."""
    return _capped(resources, {name: limits[name] for name in resources.names() if name in limits})


def _capped(resources: Resources, room: dict[str, int]) -> Resources:
    entries = []
    for key, value in resources:
        left = room.get(key.name)
        # Iteration gives the size of a volume, not the pieces that its mode speaks of.
        amount = quantity(AMOUNT if key.kind == SCALAR else key.mode, value)
        if left is None:
            entries.append((key, value))
        elif amount <= left:
            entries.append((key, value))
            room[key.name] = left - amount
        elif left and key.mode == AMOUNT:
            entries.append((key, left))
            room[key.name] = 0
    return Resources(entries)
