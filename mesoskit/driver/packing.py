"""Taking amounts out of what is offered, whoever it is reserved for."""

from __future__ import annotations

from typing import Any

from mesoskit.driver.errors import NotEnough
from mesoskit.model.resource_key import AMOUNT, SPANS, ResourceKey
from mesoskit.model.resources import Resources
from mesoskit.model.values import thousandths


def take(offered: Resources, ports: int = 0, **amounts: float) -> Resources:
    """
    Return a part of resources with so much of each name, reserved ones first.

    Reserved ones can be used for nothing else, so they go first. Volumes, whole disks, and
    what is revocable or shared are never taken: whoever wants these names them.

    Raises L{NotEnough}.

    @param ports: how many ports, the lowest that there are.
    @param amounts: scalars by name: C{cpus=0.5, mem=64}.
    """
    entries = sorted(
        ((key, value) for key, value in offered if _plain(key)),
        key=lambda entry: not entry[0].reservations,
    )
    taken: list[tuple[ResourceKey, Any]] = []
    for name, amount in amounts.items():
        wanted = left = thousandths(amount)
        for key, value in entries:
            if left and key.name == name and key.mode == AMOUNT:
                part = min(left, value)
                taken.append((key, part))
                left -= part
        if left:
            raise NotEnough(name, wanted / 1000, (wanted - left) / 1000)
    if ports:
        taken += _ports(entries, ports)
    return Resources(taken)


def _plain(key: ResourceKey) -> bool:
    return key.disk is None and not key.revocable and not key.shared


def _ports(entries: list[tuple[ResourceKey, Any]], wanted: int) -> list[tuple[ResourceKey, Any]]:
    left = wanted
    taken: list[tuple[ResourceKey, Any]] = []
    for key, value in entries:
        if key.name != "ports" or key.mode != SPANS:
            continue
        ranges = []
        for first, last in value:
            if left:
                count = min(left, last - first + 1)
                ranges.append((first, first + count - 1))
                left -= count
        if ranges:
            taken.append((key, tuple(ranges)))
    if left:
        raise NotEnough("ports", wanted, wanted - left)
    return taken
