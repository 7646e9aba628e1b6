"""Offer constraints: which agents a framework wants to be offered in a role.

Mesos' C{src/master/allocator/mesos/offer_constraints_filter.cpp}. A role's constraints are groups
of which one has to hold, and a group holds if all of its constraints do. Each looks at one
attribute of an agent, the first of that name, or at what is no attribute but counts as one
(L{Pseudo}):

==============  ===================  ====================  ==============
predicate       there is no such     its value is no text  its value is
==============  ===================  ====================  ==============
C{EXISTS}       false                true                  true
C{EQUALS}       false                true                  the text
C{MATCHES}      false                true                  matched, whole
==============  ===================  ====================  ==============

Negated, a predicate holds where it did not, with one exception: of a value that is no text
C{EQUALS} and C{MATCHES} hold, negated or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mesoskit.allocator.options import AgentOptions

Matcher: TypeAlias = Callable[[str], bool]
"""Tells whether a regular expression matches a text, whole; in time linear in the text."""


class Pseudo(Enum):
    """What of an agent can be asked for as if it were an attribute."""

    HOSTNAME = "hostname"
    REGION = "region"
    ZONE = "zone"


class Predicate(Enum):
    """What is asked of a value."""

    EXISTS = "exists"
    EQUALS = "equals"
    MATCHES = "matches"


@dataclass(frozen=True, slots=True)
class Constraint:
    """
    One condition; equal to another that says the same.

    @ivar selector: the name of an attribute, or what counts as one.
    @ivar negated: the predicate must not hold.
    @ivar value: the text to be equal to, or the regular expression as it was written.
    @ivar matches: the regular expression, for C{MATCHES}.
    """

    selector: Pseudo | str
    predicate: Predicate
    negated: bool = False
    value: str = ""
    matches: Matcher | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if (self.predicate is Predicate.MATCHES) is not (self.matches is not None):
            raise ValueError("MATCHES needs a matcher, and what is not MATCHES takes none")

    def holds(self, agent: AgentOptions) -> bool:
        """Tell whether this is so of an agent."""
        selector = self.selector
        text: str | None
        if isinstance(selector, str):
            if selector not in agent.named:
                return self.negated
            text = agent.named[selector]
            if text is None:
                return self.predicate is not Predicate.EXISTS or not self.negated
        else:
            text = _pseudo(selector, agent)
            if text is None:
                return self.negated
        if self.predicate is Predicate.EXISTS:
            return not self.negated
        found = text == self.value if self.matches is None else self.matches(text)
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class RoleConstraints:
    """What a framework asks of agents in one role: a group of conditions, or another, or …"""

    groups: tuple[tuple[Constraint, ...], ...]

    @property
    def size(self) -> int:
        """How many conditions there are."""
        return sum(map(len, self.groups))

    def excludes(self, agent: AgentOptions) -> bool:
        """Tell whether an agent is not to be offered, whatever it has."""
        return not any(
            all(constraint.holds(agent) for constraint in group) for group in self.groups
        )


def _pseudo(selector: Pseudo, agent: AgentOptions) -> str | None:
    if selector is Pseudo.HOSTNAME:
        return agent.hostname
    return agent.region if selector is Pseudo.REGION else agent.zone
