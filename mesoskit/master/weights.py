"""Weights of roles that an operator sets, kept in the registry from then on.

What the registry holds wins over C{--weights}, which is written there the first time a master
leads (C{src/master/weights_handler.cpp} and C{Master::_recover} of Apache Mesos).
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING

from mesoskit.master import offers, registry
from mesoskit.messages.mesos_pb2 import WeightInfo
from mesoskit.model.roles import validate_role

if TYPE_CHECKING:
    from mesoskit.master.state import MasterState

_INVALID = "Failed to validate update weights request JSON"


class InvalidWeights(ValueError):
    """These weights cannot be set; the message is Mesos'."""


def read(state: "MasterState", infos: Iterable[WeightInfo]) -> dict[str, float]:
    """Return weights by role; raises L{InvalidWeights}."""
    found: dict[str, float] = {}
    for info in infos:
        role = info.role.strip()
        error = validate_role(role) if role else "Empty role name is invalid"
        if error is not None:
            raise InvalidWeights(f"{_INVALID}: Invalid role '{role}': {error}")
        if state.options.roles is not None and role not in state.options.roles:
            raise InvalidWeights(f"{_INVALID}: Unknown role '{role}'")
        weight = info.weight
        if not (weight > 0 and isfinite(weight)):
            raise InvalidWeights(
                f"{_INVALID} for role '{role}': Invalid weight '{weight:g}':"
                " Weights must be positive"
            )
        found[role] = weight
    return found


def update(state: "MasterState", changed: Mapping[str, float]) -> None:
    """
    Set weights; those not named stay.

    Where a framework is in one of the roles, all offers are rescinded, so that what follows
    from the weights can be seen at once.
    """
    if not changed:
        return
    state.weights.update(changed)
    state.effects.append(registry.weigh(changed))
    state.allocator.update_weights(state.now, changed)
    shown = ", ".join(f"{role}={weight:g}" for role, weight in changed.items())
    state.note("info", f"Weights are set: {shown}")
    if any(role in changed for one in state.frameworks.values() for role in one.roles):
        for offer in list(state.offers.values()):
            offers.rescind(state, offer)


def recovered(state: "MasterState", kept: Mapping[str, float]) -> None:
    """Begin with the weights of the registry, or with those of the flag where it has none."""
    wanted = state.options.weights
    if kept:
        if wanted:
            state.note("warn", "--weights is not used: the registry has weights")
        state.weights = dict(kept)
    elif wanted:
        state.weights = dict(wanted)
        state.effects.append(registry.weigh(wanted))
    if state.weights:
        state.allocator.update_weights(state.now, state.weights)
