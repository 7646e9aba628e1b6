"""What an agent is told about images: flags, as plain values."""

from dataclasses import dataclass
from typing import Final

DOCKER_HUB: Final = "https://registry-1.docker.io"
"""C{--docker_registry} where nothing is said."""

SANDBOX: Final = "/mnt/mesos/sandbox"
"""C{--sandbox_directory} where nothing is said."""


@dataclass(slots=True, frozen=True)
class ImageCollection:
    """
    When images are removed that no container uses (C{--image_gc_config}).

    @ivar headroom: the fraction of the store's disk that is kept free, from 0.0 to 1.0.
    @ivar interval: seconds between two looks.
    @ivar excluded: names of images that stay.
    """

    headroom: float = 0.1
    interval: float = 3600.0
    excluded: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class ImageSettings:
    """
    The flags.

    @ivar providers: of what kinds images may be (C{--image_providers}): C{docker}, C{oci}; empty:
        there are none.
    @ivar store: an absolute path (C{--docker_store_dir}); empty: below the work directory.
    @ivar registry: where images come from whose name does not say: a server or a folder.
    @ivar credentials: C{--docker_config}, as JSON.
    @ivar sandbox_directory: where containers find their sandbox.
    @ivar collection: L{None}: images stay until somebody has them pruned.
    @ivar runtime: C{crun}, C{runc} or the path of one (C{--oci_runtime}); empty: what there is.
    @ivar ignore_runtime: whether command, environment and directory of images do not count
        (C{--docker_ignore_runtime}).
    """

    providers: tuple[str, ...] = ()
    store: str = ""
    registry: str = DOCKER_HUB
    credentials: str = ""
    sandbox_directory: str = SANDBOX
    collection: ImageCollection | None = None
    runtime: str = ""
    ignore_runtime: bool = False
