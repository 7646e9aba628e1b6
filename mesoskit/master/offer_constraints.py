"""Offer constraints as frameworks write them: what is wrong with them, and what they mean.

The texts are those of Mesos' C{src/master/allocator/mesos/offer_constraints_filter.cpp}. What
constraints mean is the allocator's business (L{mesoskit.allocator.constraints}).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from mesoskit.allocator.constraints import (
    Constraint,
    Matcher,
    Predicate,
    Pseudo,
    RoleConstraints,
)
from mesoskit.messages.scheduler_pb2 import AttributeConstraint, OfferConstraints

MOST: Final = 1000
"""Attribute constraints that a framework may have, of all its roles together (ours: Mesos has no
limit): each is asked about every agent."""

Compile: TypeAlias = Callable[[str], Matcher]
"""Makes a matcher of a regular expression of RE2's syntax; L{InvalidConstraints} if it cannot."""


class InvalidConstraints(ValueError):
    """Offer constraints say nothing that could be followed; the message is for the framework."""


def no_patterns(regex: str) -> Matcher:
    """Refuse a regular expression: Python's own may take for ever, RE2 is not there."""
    raise InvalidConstraints(
        f"Failed to construct regex from pattern '{regex}': this master has no RE2; install"
        " google-re2 beside it (pip install 'mesoskit[re2]')"
    )


@dataclass(frozen=True, slots=True)
class Constraints:
    """
    The offer constraints of a framework.

    @ivar message: as the framework gave them; not to be changed.
    @ivar roles: what they mean, by role.
    """

    message: OfferConstraints = field(default_factory=OfferConstraints)
    roles: Mapping[str, RoleConstraints] = field(default_factory=dict)


NONE: Final = Constraints()
"""Of a framework that wants any agent."""


def understood(said: OfferConstraints, compile_regex: Compile) -> Constraints:
    """Read what a framework said, whose roles have been checked; L{InvalidConstraints} if wrong."""
    if not said.role_constraints:
        return NONE
    number = sum(
        len(group.attribute_constraints)
        for role in said.role_constraints.values()
        for group in role.groups
    )
    if number > MOST:
        raise InvalidConstraints(
            f"there are {number} attribute constraints; a framework may have {MOST} at most"
        )
    message = OfferConstraints()
    message.CopyFrom(said)
    roles = {
        role: RoleConstraints(tuple(_groups(role, one, compile_regex)))
        for role, one in sorted(said.role_constraints.items())
    }
    return Constraints(message, roles)


def _groups(
    role: str, said: OfferConstraints.RoleConstraints, compile_regex: Compile
) -> Iterator[tuple[Constraint, ...]]:
    if not said.groups:
        raise InvalidConstraints(
            "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role "
            + role
        )
    for group in said.groups:
        if not group.attribute_constraints:
            # Mesos forgets the blank.
            raise InvalidConstraints(
                f"'OfferConstraints::RoleConstraints::groups' for role {role}contains an empty"
                " RoleConstraints::Group"
            )
        try:
            yield tuple(_constraint(one, compile_regex) for one in group.attribute_constraints)
        except InvalidConstraints as error:
            raise InvalidConstraints(
                f"A role {role} has an invalid 'AttributeConstraint': {error}"
            ) from None


_PSEUDO: Final = {
    AttributeConstraint.Selector.HOSTNAME: Pseudo.HOSTNAME,
    AttributeConstraint.Selector.REGION: Pseudo.REGION,
    AttributeConstraint.Selector.ZONE: Pseudo.ZONE,
}


def _constraint(said: AttributeConstraint, compile_regex: Compile) -> Constraint:
    selector = _selector(said.selector)
    predicate = said.predicate
    kind = predicate.WhichOneof("predicate")
    if kind is None:
        raise InvalidConstraints("Unknown predicate type")
    negated = "not_" in kind
    if kind in ("exists", "not_exists"):
        return Constraint(selector, Predicate.EXISTS, negated)
    asked: Any = getattr(predicate, kind)
    if kind in ("text_equals", "text_not_equals"):
        return Constraint(selector, Predicate.EQUALS, negated, asked.value)
    matcher = compile_regex(asked.regex)
    return Constraint(selector, Predicate.MATCHES, negated, asked.regex, matcher)


def _selector(said: AttributeConstraint.Selector) -> Pseudo | str:
    kind = said.WhichOneof("selector")
    if kind is None:
        raise InvalidConstraints(
            "Exactly one of 'AttributeConstraint::Selector::name' or"
            " 'AttributeConstraint::Selector::pseudoattribute_type' must be set"
        )
    if kind == "attribute_name":
        return said.attribute_name
    pseudo = _PSEUDO.get(said.pseudoattribute_type)
    if pseudo is None:
        raise InvalidConstraints("Unknown pseudoattribute type")
    return pseudo
