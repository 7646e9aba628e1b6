"""Containers from images, put together from an agent's flags; and the removal of images."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.containers import Containers, Exited
from mesoskit.agent.containers.image_store import ImageStore
from mesoskit.agent.containers.imaged import ImageContainers, Progressed
from mesoskit.agent.containers.provisioning import Provisions, provisioner_of
from mesoskit.agent.machine import disk_used
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.users import InThread, Users

_log = Logger()


def image_containers(
    reactor: Any,
    options: AgentOptions,
    users: Users,
    in_thread: InThread,
    exited: Exited,
    progressed: Progressed,
    beneath: Callable[[Exited], Containers],
) -> ImageContainers:
    """
    Return containers from images over others.

    Without C{--image_providers} what wants an image is refused, with words that say so.

    @param beneath: makes the others, of what is told of their ends.
    """
    settings = options.images
    store = ImageStore(
        reactor,
        in_thread,
        settings.store or os.path.join(options.work_dir, "store", "docker"),
        settings.registry,
        authentication=settings.credentials or None,
        stall=options.fetcher_stall_timeout,
    )
    containers = ImageContainers(
        reactor,
        users,
        in_thread,
        store,
        Provisions(
            provisioner_of(options.work_dir),
            os.path.join(options.runtime_dir, "secrets"),
            settings.runtime,
        ),
        exited,
        providers=settings.providers,
        sandbox_directory=settings.sandbox_directory,
        isolation=options.isolation,
        progressed=progressed,
        ignore_runtime=settings.ignore_runtime,
        work_dir=options.work_dir,
    )
    containers.inner = beneath(containers.exited)
    return containers


def collect(containers: ImageContainers, options: AgentOptions) -> "Deferred[None]":
    """Remove images that nobody uses where their disk is too full (C{--image_gc_config})."""
    collection = options.images.collection
    if collection is None:
        return succeed(None)

    def removed(result: "list[str] | Failure") -> None:
        if isinstance(result, Failure):
            _log.warn("removing images: {why}", why=result.getErrorMessage())
        elif result:
            _log.info("removed images that nobody uses: {names}", names=", ".join(result))

    try:
        used = disk_used(containers.store.directory)
    except OSError as error:
        _log.warn("disk of {path}: {why}", path=containers.store.directory, why=error.strerror)
        return succeed(None)
    if used <= 1.0 - collection.headroom:
        return succeed(None)
    return containers.prune(collection.excluded).addBoth(removed)


def prune(
    containers: ImageContainers | None, options: AgentOptions, excluded: Iterable[str]
) -> "Deferred[list[str]]":
    """
    Remove images that nobody uses, as somebody asks (C{PRUNE_IMAGES}); give their names.

    @param excluded: what stays; where that is nothing, what C{--image_gc_config} says.
    """
    if containers is None:
        return succeed([])
    names = tuple(excluded)
    if not names and options.images.collection is not None:
        names = options.images.collection.excluded
    return containers.prune(names)
