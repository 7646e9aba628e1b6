"""What an allocator is told: how to behave, and what frameworks and agents are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mesoskit.allocator.constraints import RoleConstraints
from mesoskit.model.capabilities import AgentCapability, FrameworkCapability
from mesoskit.model.quantities import Quantities

Minimum: TypeAlias = Sequence[Quantities]
"""Alternatives, any of which makes an offer worth making; none at all: every offer is."""


_NO_CAPABILITIES = FrameworkCapability(0)


@dataclass(frozen=True, slots=True)
class Options:
    """
    How an allocator behaves; the names are those of the master's flags where it has one.

    @ivar allocation_interval: seconds a filter lasts at least, and after which what a pass left
        undecided is looked at again.
    @ivar gather: seconds that changes are gathered before a pass.
    @ivar freed_gather: seconds that what tasks free on an agent is gathered before it is offered.
    @ivar pass_limit: agents that one pass looks at; the rest wait for the next, one C{gather}
        later, so that no pass holds the reactor for long.
    @ivar default_refuse_seconds: the filter meant by a negative C{refuse_seconds}.
    @ivar min_allocatable_resources: what an offer has to hold at least.
    @ivar role_sorter: C{"drf"} or C{"random"}.
    @ivar framework_sorter: the same, within a role.
    @ivar fair_sharing_excluded_resource_names: resources that shares do not count.
    @ivar filter_gpu_resources: agents with GPUs are only for frameworks that know of them.
    @ivar roles: the only roles that are offered anything; L{None} for all.
    @ivar region: the master's fault domain's region; L{None} without a domain.
    @ivar agent_recovery_factor: the part of the agents known before a failover that has to be
        back before a held recovery ends (C{--allocator_agent_recovery_factor}).
    @ivar recovery_timeout: seconds after which it ends in any case.
    """

    allocation_interval: float = 1.0
    gather: float = 0.010
    freed_gather: float = 0.020
    pass_limit: int = 2000
    default_refuse_seconds: float = 5.0
    min_allocatable_resources: Minimum = (Quantities({"cpus": 10}), Quantities({"mem": 32_000}))
    role_sorter: str = "drf"
    framework_sorter: str = "drf"
    fair_sharing_excluded_resource_names: frozenset[str] = frozenset()
    filter_gpu_resources: bool = True
    roles: frozenset[str] | None = None
    region: str | None = None
    agent_recovery_factor: float = 0.8
    recovery_timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("allocation_interval", "gather", "freed_gather", "recovery_timeout"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 0 or more seconds")
        if self.pass_limit < 1:
            raise ValueError(f"pass_limit is {self.pass_limit!r}; it must be 1 or more agents")
        for name in ("role_sorter", "framework_sorter"):
            if getattr(self, name) not in ("drf", "random"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 'drf' or 'random'")


@dataclass(frozen=True, slots=True)
class FrameworkOptions:
    """
    What of a framework's registration its offers depend on.

    @ivar roles: the roles it is subscribed to.
    @ivar suppressed_roles: those of them for which it wants no offers now.
    @ivar capabilities: what it can deal with.
    @ivar min_allocatable: its own minimum, by role (C{FrameworkInfo.offer_filters}); an empty
        one accepts any offer. Roles that are absent have the operator's.
    @ivar constraints: which agents it wants to be offered, by role; all where a role is absent.
    """

    roles: frozenset[str] = frozenset({"*"})
    suppressed_roles: frozenset[str] = frozenset()
    capabilities: FrameworkCapability = _NO_CAPABILITIES
    min_allocatable: Mapping[str, Minimum] = field(default_factory=dict)
    constraints: Mapping[str, RoleConstraints] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """
    What of an agent's registration its offers depend on.

    @ivar attributes: anything comparable; when it changes, filters on the agent end, since
        frameworks may have refused it for what it was.
    @ivar region: its fault domain's region; L{None} if it has no domain.
    @ivar zone: its fault domain's zone, likewise.
    @ivar named: the texts of its attributes by name, of several of a name the first;
        L{None} is the value of one that is no text.
    """

    hostname: str = ""
    attributes: object = None
    capabilities: AgentCapability = AgentCapability.MULTI_ROLE | AgentCapability.HIERARCHICAL_ROLE
    region: str | None = None
    zone: str | None = None
    named: Mapping[str, str | None] = field(default_factory=dict)
