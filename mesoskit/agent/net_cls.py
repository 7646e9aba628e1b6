"""Numbers by which a firewall knows what containers send: C{cgroups/net_cls}, as in Mesos
(C{src/slave/containerizer/mesos/isolators/cgroups/subsystems/net_cls.cpp}).

A number has 32 bits. The upper half is the agent's (C{--cgroups_net_cls_primary_handle}), the
lower half is a container's own while it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mesoskit.messages.mesos_pb2 import ContainerStatus
from mesoskit.model.ids import ContainerId

if TYPE_CHECKING:
    from mesoskit.agent.state import AgentState

MOST: Final = 0xFFFF
"""The largest half of a number; the smallest is 1."""


class HandlesExhausted(Exception):
    """All numbers of an agent are in use; the message says which these are."""


class Handles:
    """The numbers of one agent, and which of them are in use."""

    def __init__(self, primary: int, secondaries: tuple[int, int] = (1, MOST)) -> None:
        """
        @param primary: the upper half of all of them.
        @param secondaries: the first and the last of the lower halves.
        """
        self._primary = primary
        self._first, self._last = secondaries
        self._used: set[int] = set()
        self._next = self._first

    def take(self) -> int:
        """
        Return a number that nobody has. One that was given back is not given out again before
        all others were. Raises L{HandlesExhausted}.
        """
        for _ in range(self._last - self._first + 1):
            secondary = self._next
            self._next = self._first if secondary == self._last else secondary + 1
            handle = self._primary << 16 | secondary
            if handle not in self._used:
                self._used.add(handle)
                return handle
        raise HandlesExhausted(
            f"all handles from {self._primary:#x}:{self._first:#x} to {self._last:#x} are in use:"
            " give --cgroups_net_cls_secondary_handles a wider range"
        )

    def reserve(self, handle: int) -> None:
        """Let a number be in use that a container has from an earlier agent, whoever's it was."""
        self._used.add(handle)

    def give_back(self, handle: int) -> None:
        """Let a number be free again."""
        self._used.discard(handle)


def describe(state: AgentState, status: ContainerStatus, *containers: ContainerId | None) -> None:
    """Fill in the number of the first of these containers that has one."""
    for container in containers:
        handle = None if container is None else state.classes.get(container)
        if handle is not None:
            status.cgroup_info.net_cls.classid = handle
            return
