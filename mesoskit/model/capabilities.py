"""What frameworks, agents and masters say they can do, as sets of flags.

Capabilities travel as lists of C{Capability{type}}; here each list is one immutable set.
Read a single one by its property: C{capabilities.partition_aware} costs a third of what
C{FrameworkCapability.PARTITION_AWARE in capabilities} does.
Types that this version does not know vanish when a message is parsed, and are not sent on.
"""

from collections.abc import Iterable
from enum import IntFlag
from typing import Protocol, Self


class _Capability(Protocol):
    """What the three C{Capability} messages have in common."""

    @property
    def type(self) -> int:
        """The number of the capability; 0 is C{UNKNOWN}."""
        ...


class _Flags(IntFlag):
    """A set of capabilities: bit C{1 << type} for each."""

    @classmethod
    def from_messages(cls, capabilities: Iterable[_Capability]) -> Self:
        """Return the set that a list of C{Capability} messages names."""
        bits = 0
        for capability in capabilities:
            bits |= 1 << capability.type
        return cls(bits & ~1)

    @property
    def types(self) -> tuple[int, ...]:
        """The numbers, in order, as they are written in C{Capability.type}."""
        bits = self._value_
        return tuple(number for number in range(bits.bit_length()) if bits >> number & 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of their numbers, as C{/state} and C{/slaves} list them."""
        return tuple(member.name or "" for member in sorted(self))


class FrameworkCapability(_Flags):
    """C{FrameworkInfo.Capability}."""

    REVOCABLE_RESOURCES = 1 << 1
    TASK_KILLING_STATE = 1 << 2
    GPU_RESOURCES = 1 << 3
    SHARED_RESOURCES = 1 << 4
    PARTITION_AWARE = 1 << 5
    MULTI_ROLE = 1 << 6
    RESERVATION_REFINEMENT = 1 << 7
    REGION_AWARE = 1 << 8

    @property
    def revocable_resources(self) -> bool:
        """May be offered what can be taken away again."""
        return self._value_ & 1 << 1 != 0

    @property
    def task_killing_state(self) -> bool:
        """Understands C{TASK_KILLING}."""
        return self._value_ & 1 << 2 != 0

    @property
    def gpu_resources(self) -> bool:
        """May be offered agents with GPUs."""
        return self._value_ & 1 << 3 != 0

    @property
    def shared_resources(self) -> bool:
        """May be offered what others use too."""
        return self._value_ & 1 << 4 != 0

    @property
    def partition_aware(self) -> bool:
        """Understands the states that others hear as C{TASK_LOST}."""
        return self._value_ & 1 << 5 != 0

    @property
    def multi_role(self) -> bool:
        """Has C{roles} instead of C{role}."""
        return self._value_ & 1 << 6 != 0

    @property
    def reservation_refinement(self) -> bool:
        """Speaks of reservations as stacks, C{Resource.reservations}."""
        return self._value_ & 1 << 7 != 0

    @property
    def region_aware(self) -> bool:
        """May be offered agents of another region than the master's."""
        return self._value_ & 1 << 8 != 0


class AgentCapability(_Flags):
    """C{AgentInfo.Capability}."""

    MULTI_ROLE = 1 << 1
    HIERARCHICAL_ROLE = 1 << 2
    RESERVATION_REFINEMENT = 1 << 3
    RESOURCE_PROVIDER = 1 << 4
    RESIZE_VOLUME = 1 << 5
    AGENT_OPERATION_FEEDBACK = 1 << 6
    AGENT_DRAINING = 1 << 7
    TASK_RESOURCE_LIMITS = 1 << 8

    @property
    def multi_role(self) -> bool:
        """Can run tasks of frameworks with several roles."""
        return self._value_ & 1 << 1 != 0

    @property
    def hierarchical_role(self) -> bool:
        """Can hold reservations for roles such as C{a/b}."""
        return self._value_ & 1 << 2 != 0

    @property
    def reservation_refinement(self) -> bool:
        """Can hold reservations within reservations."""
        return self._value_ & 1 << 3 != 0

    @property
    def resource_provider(self) -> bool:
        """Takes operations as C{ApplyOperationMessage}, not as C{CheckpointResourcesMessage}."""
        return self._value_ & 1 << 4 != 0

    @property
    def resize_volume(self) -> bool:
        """Can grow and shrink volumes."""
        return self._value_ & 1 << 5 != 0

    @property
    def agent_operation_feedback(self) -> bool:
        """Reports what became of operations on its own resources."""
        return self._value_ & 1 << 6 != 0

    @property
    def agent_draining(self) -> bool:
        """Understands C{DrainSlaveMessage}."""
        return self._value_ & 1 << 7 != 0

    @property
    def task_resource_limits(self) -> bool:
        """Understands C{TaskInfo.limits}."""
        return self._value_ & 1 << 8 != 0


class MasterCapability(_Flags):
    """C{MasterInfo.Capability}."""

    AGENT_UPDATE = 1 << 1
    AGENT_DRAINING = 1 << 2
    QUOTA_V2 = 1 << 3

    @property
    def agent_update(self) -> bool:
        """Agents may come back with changed resources, attributes and the like."""
        return self._value_ & 1 << 1 != 0

    @property
    def agent_draining(self) -> bool:
        """Can drain agents."""
        return self._value_ & 1 << 2 != 0

    @property
    def quota_v2(self) -> bool:
        """Understands guarantees and limits apart from each other."""
        return self._value_ & 1 << 3 != 0


MASTER_CAPABILITIES = (
    MasterCapability.AGENT_UPDATE | MasterCapability.AGENT_DRAINING | MasterCapability.QUOTA_V2
)
"""What Mesos' own master announces in C{MasterInfo.capabilities}, and ours."""

AGENT_CAPABILITIES = AgentCapability(0b111111110)
"""What Mesos' own agent announces in C{RegisterSlaveMessage.agent_capabilities}, and ours."""
