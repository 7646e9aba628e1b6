"""What an agent asks of whoever runs its containers.

L{mesoskit.agent.containers.launched} is the real thing, over a launcher process;
L{mesoskit.agent.containers.memory} is its double for tests. Both are held to one suite.
"""

from typing import Protocol

from twisted.internet.defer import Deferred

from mesoskit.agent.container import (
    Allotment,
    ContainerSpec,
    Limitation,
    RecoveredContainers,
    Usage,
)
from mesoskit.model.ids import ContainerId


class Exited(Protocol):
    """What is called when a container is over."""

    def __call__(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """
        Hear of the end of a container.

        @param status: its wait status, L{None} where nobody knows it.
        @param limitation: why it was ended, where it took more than it was given.
        """
        ...


class ContainerError(Exception):
    """A container could not be started, or the launcher not be reached; the message says why."""


class Containers(Protocol):
    """
    Processes in sandboxes that outlive the agent.

    The end of every container is told to the L{Exited} given at construction, exactly once:
    after the C{launch} that started it has succeeded, and after everything it ever started is
    gone. The ends of containers of an earlier agent are told likewise from L{recover} on, except
    those that L{recover} itself returns.
    """

    def start(self) -> "Deferred[None]":
        """Find the launcher, or start one. Fails with L{ContainerError}."""
        ...

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """
        Start a container in its sandbox, which exists; nothing is fetched. Gives its pid.

        Repeating it for a container that is known starts nothing and gives the same pid. What has
        a parent ends with that.
        Fails with L{ContainerError}: nothing of it runs then, and no end is told.
        """
        ...

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal to the first process's group; nothing happens if that has ended."""
        ...

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """
        SIGKILL everything the container ever started, daemons too; fires when that is gone
        and its end was told, or at once where it is over or unknown.
        """
        ...

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """
        Give a running container more or less; nothing happens where nothing holds containers
        to what they were given, or where it is over. Fails with L{ContainerError}.
        """
        ...

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """What the running containers use now."""
        ...

    def recover(self) -> "Deferred[RecoveredContainers]":
        """
        What containers there are that this agent process has not launched, until forgotten. One
        whose C{patience} was over before this agent came has ended, or is about to.
        """
        ...

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of a container whose end was told."""
        ...

    def stop(self) -> "Deferred[None]":
        """Leave the launcher to itself: containers live on, nothing is told any more."""
        ...
