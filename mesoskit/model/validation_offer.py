"""The offers that a framework names when it accepts or declines.

From C{namespace offer} of C{src/master/validation.cpp}, over plain data; see
L{mesoskit.model.validation_ids} for what the functions return.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol


class OfferFacts(Protocol):
    """What is asked of an offer, or of an inverse offer; the master's own records will do."""

    @property
    def framework_id(self) -> str:
        """To whom it was made."""
        ...

    @property
    def agent_id(self) -> str:
        """Whose resources it is of."""
        ...

    @property
    def role(self) -> str:
        """The role that they are allocated to; not asked of an inverse offer."""
        ...


def validate_offers(
    offer_ids: Sequence[str], offers: Mapping[str, OfferFacts], framework_id: str
) -> str | None:
    """
    Say why offers cannot be accepted together: each once, all there, all made to this
    framework, for one role, on one agent.

    @param offers: the outstanding offers by id, the master's own mapping.
    """
    if not offer_ids:
        return "No offers specified"
    error = _validate_list(offer_ids, offers, framework_id, "Offer")
    if error is not None:
        return error
    first = offers[offer_ids[0]]
    for offer_id in offer_ids:
        role = offers[offer_id].role
        if role != first.role:
            # Mesos forgets the closing quotes.
            return (
                "Aggregated offers must be allocated to the same role. Offer"
                f" {offer_id} uses role '{role} but another is using role '{first.role}"
            )
    return _validate_one_agent(offer_ids, offers)


def validate_inverse_offers(
    offer_ids: Sequence[str], inverse_offers: Mapping[str, OfferFacts], framework_id: str
) -> str | None:
    """Say why inverse offers cannot be answered together."""
    return _validate_list(
        offer_ids, inverse_offers, framework_id, "Inverse offer"
    ) or _validate_one_agent(offer_ids, inverse_offers)


def _validate_list(
    offer_ids: Sequence[str], offers: Mapping[str, OfferFacts], framework_id: str, subject: str
) -> str | None:
    if len(set(offer_ids)) != len(offer_ids):
        seen: set[str] = set()
        for offer_id in offer_ids:
            if offer_id in seen:
                return f"Duplicate offer {offer_id} in offer list"
            seen.add(offer_id)
    for offer_id in offer_ids:
        if offer_id not in offers:
            return f"{subject} {offer_id} is no longer valid"
    for offer_id in offer_ids:
        owner = offers[offer_id].framework_id
        if owner != framework_id:
            return (
                f"Offer {offer_id} has invalid framework {owner}"
                f" while framework {framework_id} is expected"
            )
    return None


def _validate_one_agent(offer_ids: Sequence[str], offers: Mapping[str, OfferFacts]) -> str | None:
    agent_id = offers[offer_ids[0]].agent_id if offer_ids else ""
    for offer_id in offer_ids:
        if offers[offer_id].agent_id != agent_id:
            return (
                f"Aggregated offers must belong to one single agent. Offer {offer_id}"
                f" uses agent {offers[offer_id].agent_id} and agent {agent_id}"
            )
    return None
