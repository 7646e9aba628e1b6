"""What C{mesos} stands for in C{--containerizers}, put together from an agent's flags."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.logger import Logger

from mesoskit.agent.container import ContainerFacts
from mesoskit.agent.containers import Containers, Exited
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.isolation import IsolationSettings
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.users import InThread, Users
from mesoskit.model.ids import ContainerId

_log: Final = Logger()


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
    Return containers over a launcher, kept apart as C{--isolation} and C{--launcher} say.

    @param directory: the launcher's.
    @param linger: seconds that it waits for an agent when it has nothing to do.
    @param described: is told what there is to say of a container that starts.
    @raise ValueError: where an isolator is not there; the message says what would be right.
    """
    from mesoskit.agent.containers.known_isolators import make_isolators
    from mesoskit.agent.containers.provisioning import provisioner_of, written

    settings = options.isolation
    sandboxes = f"{options.work_dir}/slaves"
    notes = f"{options.runtime_dir}/isolated"
    isolators = make_isolators(
        settings,
        reactor,
        in_thread,
        sandboxes,
        options.resources.ranges("ports"),
        partial(written, provisioner_of(options.work_dir)),
    )
    if settings.not_linux:
        _log.info("--launcher=posix, for linux needs {why}", why=settings.not_linux)
    if not settings.linux:
        isolators += _former(settings, reactor, notes)
    if not isolators:
        return LaunchedContainers(reactor, directory, users, in_thread, exited, linger=linger)
    from mesoskit.agent.containers.isolated import IsolatedContainers
    from mesoskit.agent.containers.isolator_cgroups import CgroupsIsolator

    isolated = IsolatedContainers(
        reactor,
        isolators,
        notes,
        in_thread,
        exited,
        settings.cgroups_destroy_timeout,
        described,
        first=lambda: _favor_dynmods(settings),
    )
    isolated.inner = launched = LaunchedContainers(
        reactor,
        directory,
        users,
        in_thread,
        isolated.exited,
        linger=linger,
        forgo_cgroups=settings.by_default,
    )
    for isolator in isolators:
        if isinstance(isolator, CgroupsIsolator):
            isolator.launcher = lambda: launched.launcher_pid
    return isolated


def _former(settings: IsolationSettings, reactor: Any, notes: str) -> list[Any]:
    """Return what removes the cgroups of containers that an agent with others has started."""
    try:
        if not os.listdir(notes):
            return []
    except FileNotFoundError:
        return []
    from mesoskit.agent.containers.cgroups import CgroupError, find
    from mesoskit.agent.containers.former_cgroups import FormerCgroups

    try:
        cgroups = find(settings.cgroups_hierarchy, settings.cgroups_root)
    except CgroupError:
        return []
    return [FormerCgroups(reactor, cgroups, (), settings)]


def _favor_dynmods(settings: IsolationSettings) -> None:
    """Have cgroups joined without waiting; where that cannot be had, it goes without."""
    if not (settings.linux and settings.cgroups_favor_dynmods):
        return
    from mesoskit.agent.containers.cgroups import CgroupError
    from mesoskit.agent.containers.cgroups_machine import favor_dynmods

    try:
        if favor_dynmods():
            _log.info(
                "the machine's cgroups have the mount option favordynmods now, so that containers"
                " start some 15 ms sooner; --no-cgroups_favor_dynmods leaves that alone"
            )
    except CgroupError as error:
        _log.info("a container may wait some 15 ms to join its cgroup: {why}", why=error)
