"""What an agent asks of whoever runs its containers.

L{mesoskit.agent.containers.launched} is the real thing, over a launcher process;
L{mesoskit.agent.containers.memory} is its double for tests. Both are held to one suite.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from mesoskit.agent.container import ContainerSpec, RecoveredContainers, Usage
from mesoskit.model.ids import ContainerId

Exited = Callable[[ContainerId, int | None], None]
"""Called with a container and its wait status, L{None} where nobody knows it."""


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

        Repeating it for a container that is known starts nothing and gives the same pid.
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

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """What the running containers use now."""
        ...

    def recover(self) -> "Deferred[RecoveredContainers]":
        """What containers there are that this agent process has not launched, until forgotten."""
        ...

    def forget(self, container: ContainerId) -> None:
        """Drop what is kept of a container whose end was told."""
        ...

    def stop(self) -> "Deferred[None]":
        """Leave the launcher to itself: containers live on, nothing is told any more."""
        ...
