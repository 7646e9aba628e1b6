"""What C{mesos} stands for in C{--containerizers}, put together from an agent's flags."""

from collections.abc import Callable
from typing import Any

from mesoskit.agent.container import ContainerFacts
from mesoskit.agent.containers import Containers, Exited
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.users import InThread, Users
from mesoskit.model.ids import ContainerId


def mesos_containers(
    reactor: Any,
    options: AgentOptions,
    directory: str,
    users: Users,
    in_thread: InThread,
    exited: Exited,
    linger: float,
    described: Callable[[ContainerId, ContainerFacts], None],
) -> Containers:
    """
    Return containers over a launcher, kept apart as C{--isolation} says.

    @param directory: the launcher's.
    @param linger: seconds that it waits for an agent when it has nothing to do.
    @param described: is told what there is to say of a container that starts.
    @raise ValueError: where an isolator is not there; the message says what would be right.
    """
    from mesoskit.agent.containers.known_isolators import make_isolators

    settings = options.isolation
    sandboxes = f"{options.work_dir}/slaves"
    isolators = make_isolators(
        settings, reactor, in_thread, sandboxes, options.resources.ranges("ports")
    )
    if not isolators:
        return LaunchedContainers(reactor, directory, users, in_thread, exited, linger=linger)
    from mesoskit.agent.containers.isolated import IsolatedContainers

    notes = f"{options.runtime_dir}/isolated"
    patience = settings.cgroups_destroy_timeout
    isolated = IsolatedContainers(reactor, isolators, notes, in_thread, exited, patience, described)
    isolated.inner = LaunchedContainers(
        reactor, directory, users, in_thread, isolated.exited, linger=linger
    )
    return isolated
