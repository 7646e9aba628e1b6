"""The allocator's door: Mesos' verbs (C{include/mesos/allocator/allocator.hpp}), with a clock.

Where Mesos' allocator is an actor that calls the master back, this one is told C{now} with every
verb and is asked: C{deadline()} says when, C{allocate(now)} what is to be offered.

Resources cross this door I{unallocated}; the role they are allocated to goes beside them. What
is told must be true: what contradicts itself raises L{AllocatorError} and changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from zope.interface import Interface

from mesoskit.allocator.options import AgentOptions, FrameworkOptions
from mesoskit.model.ids import AgentId, FrameworkId
from mesoskit.model.resources import Resources

Held: TypeAlias = Mapping[str, Resources]
"""What a framework holds on one agent, by the role it is allocated to."""

Conversion: TypeAlias = tuple[Resources, Resources]
"""What an operation consumes, and what it puts in its place (Mesos' C{ResourceConversion})."""


class AllocatorError(Exception):
    """The allocator was told something that cannot be."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """
    Something to offer; from now on it counts as held by the framework.

    @ivar resources: in unallocated form.
    """

    framework_id: FrameworkId
    role: str
    agent_id: AgentId
    resources: Resources


class Reason(Enum):
    """Why a framework, in one role, was or was not offered an agent; the values are for people."""

    ELIGIBLE = "nothing stands against an offer"
    HELD = "the framework was offered it, or uses it"
    ALLOCATED = "others hold all there is"
    RESERVED = "what is left is reserved for other roles"
    INCAPABLE = "what is left is revocable, shared or of a refined reservation, which it cannot use"
    TOO_SMALL = "what is left is below the minimum"
    FILTERED = "the framework refused it"
    CONSTRAINED = "the framework's offer constraints exclude the agent"
    GPU = "the agent has GPUs, which the framework does not know of"
    REGION = "the agent is in another region, and the framework is not region-aware"
    AGENT_NOT_MULTI_ROLE = "the agent does not know frameworks with several roles"
    AGENT_NOT_HIERARCHICAL = "the agent does not know hierarchical roles"
    GATHERING = "what tasks free there is being gathered"
    WAITING = "it waits for the next pass"
    AGENT_DEACTIVATED = "the agent is deactivated"
    NOT_WHITELISTED = "the agent is not on the whitelist"
    FRAMEWORK_DEACTIVATED = "the framework is deactivated"
    CONGESTED = "the framework does not keep up with what it is sent"
    NOT_SUBSCRIBED = "the framework is not subscribed to the role"
    SUPPRESSED = "the framework suppressed offers for the role"
    ROLE_NOT_WHITELISTED = "the operator does not allow the role"
    RECOVERING = "offers wait for agents to come back after a failover"


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    How one agent stands to a framework in one of its roles.

    @ivar available: what would be offered if nothing stood against it.
    @ivar until: when the reason ends by itself, on the allocator's clock; L{None} if it does not
        or nobody knows.
    @ivar holders: who holds something there, as pairs of framework and role.
    @ivar offered: when the framework last got something there; L{None} if it was not the last.
    """

    agent_id: AgentId
    role: str
    reason: Reason
    available: Resources
    until: float | None = None
    holders: tuple[tuple[FrameworkId, str], ...] = ()
    offered: float | None = None


class IAllocator(Interface):
    """
    Decides which framework is offered which resources.

    Times are float seconds of one clock that never goes back. Roles left out (an empty
    collection) mean all roles of the framework.
    """

    def recover(now: float, expected_agents: int, hold: bool) -> None:
        """
        Hear, first of all, how many agents were there before a failover.

        @param hold: offer nothing until enough of them are back
            (L{mesoskit.allocator.options.Options.agent_recovery_factor}): set where offers made
            too early could not be made good, which is the case where there are quotas.
        """

    def add_framework(
        now: float,
        framework_id: FrameworkId,
        options: FrameworkOptions,
        used: Mapping[AgentId, Held],
        active: bool,
    ) -> None:
        """
        Take in a framework.

        @param used: what it holds already. Agents that are not known are left out, they bring
            it themselves; what an agent brought before is not counted again.
        """

    def remove_framework(now: float, framework_id: FrameworkId) -> None:
        """Forget a framework; all that it holds is free."""

    def update_framework(now: float, framework_id: FrameworkId, options: FrameworkOptions) -> None:
        """Change a framework's options; suppressed roles as they are given."""

    def activate_framework(now: float, framework_id: FrameworkId) -> None:
        """Make offers to a framework."""

    def deactivate_framework(now: float, framework_id: FrameworkId) -> None:
        """Make no more offers; its filters end, what it holds stays held."""

    def set_congested(now: float, framework_id: FrameworkId, congested: bool) -> None:
        """Make no offers while a framework's link is congested; its filters stay."""

    def add_agent(
        now: float,
        agent_id: AgentId,
        options: AgentOptions,
        total: Resources,
        used: Mapping[FrameworkId, Held],
    ) -> None:
        """
        Take in an agent, active.

        @param used: what is held there already. A framework that is not known yet holds it
            nevertheless, and is offered nothing until it is added.
        """

    def remove_agent(now: float, agent_id: AgentId) -> None:
        """Forget an agent, what is held there and the filters on it."""

    def update_agent(
        now: float,
        agent_id: AgentId,
        options: AgentOptions | None,
        total: Resources | None,
    ) -> None:
        """
        Change what an agent is or has; what is L{None} stays. If less is left than is held,
        nothing is free until enough has come back.
        """

    def activate_agent(now: float, agent_id: AgentId) -> None:
        """Offer an agent again."""

    def deactivate_agent(now: float, agent_id: AgentId) -> None:
        """Offer an agent no more; filters on it stay."""

    def update_whitelist(now: float, hostnames: Collection[str] | None) -> None:
        """Offer only agents of these host names; L{None} for all."""

    def update_weights(now: float, weights: Mapping[str, float]) -> None:
        """Set the weights of roles; those not named stay."""

    def update_allocation(
        now: float,
        framework_id: FrameworkId,
        agent_id: AgentId,
        role: str,
        conversions: Iterable[Conversion],
    ) -> None:
        """
        Hear that operations changed what a framework holds, and the agent's total with it.

        A conversion that consumes nothing is a further copy of a shared resource: the agent
        has no more for it.
        """

    def update_available(now: float, agent_id: AgentId, conversions: Iterable[Conversion]) -> None:
        """
        Hear that an operator's operations change what is free; L{AllocatorError} if not all of
        it is free, whereupon the master may rescind offers and try again.
        """

    def recover_resources(
        now: float,
        framework_id: FrameworkId,
        agent_id: AgentId,
        role: str,
        resources: Resources,
        refuse_seconds: float | None,
    ) -> None:
        """
        Take back what was offered or used; unknown frameworks and agents are passed over.

        @param refuse_seconds: do not offer it, or part of it, to the framework in this role for
            so long: at least one allocation interval, at most 365 days, negative for the
            default. L{None} for what the framework did not refuse: what tasks freed, and offers
            that were rescinded.
        """

    def suppress_offers(now: float, framework_id: FrameworkId, roles: Collection[str]) -> None:
        """Make a framework no offers for some of its roles."""

    def revive_offers(now: float, framework_id: FrameworkId, roles: Collection[str]) -> None:
        """Make it offers again, and end its filters in these roles."""

    def request_resources(
        now: float, framework_id: FrameworkId, requests: Sequence[object]
    ) -> None:
        """Hear what a framework would like; nothing depends on it, as in Mesos."""

    def allocate(now: float) -> list[Allocation]:
        """Decide on what has been gathered, if it is time; call it when C{deadline()} comes."""

    def deadline() -> float | None:
        """Return when C{allocate} wants to be called next; L{None} if nothing is pending."""

    def explain(now: float, framework_id: FrameworkId, role: str | None) -> list[Explanation]:
        """
        Tell agent by agent why a framework is or is not offered it.

        @param role: only this role; L{None} for all roles it is subscribed to.
        """

    def metrics() -> dict[str, float]:
        """
        Return gauges and counters by the names Mesos gives them (C{allocator/mesos/...}). How
        long passes take is for the caller to measure: the allocator has no clock.
        """
