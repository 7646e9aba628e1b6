"""Isolator C{disk/du} (C{posix/disk}): how much disk a sandbox takes, looked at now and then.

The name is of du(1), which Mesos runs (C{src/slave/containerizer/mesos/isolators/posix/disk.cpp});
here a thread walks the sandbox, one at a time, and what a container from an image has changed of
that. Links are not followed, and what other file systems are mounted is not counted.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from mesoskit.agent.container import Limitation
from mesoskit.agent.containers.isolators import Isolated
from mesoskit.agent.containers.looking import LookingIsolator
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId
from mesoskit.model.sizes import format_size
from mesoskit.model.tasks import Reason

_BLOCK: Final = 512

Written = Callable[[ContainerId], Iterable[str]]
"""Returns directories, which may not be there."""


class DiskIsolator(LookingIsolator):
    """
    Looks how much disk containers take.

    @ivar used: bytes, as last seen.
    """

    name = "disk/du"

    def __init__(
        self,
        reactor: IReactorTime,
        in_thread: InThread,
        interval: float,
        enforce: bool,
        written: Written = lambda container: (),
    ) -> None:
        """
        @param interval: seconds between two looks at a container.
        @param enforce: whether one that takes more than it has is ended.
        @param written: where else a container writes to disk: over the files of its image.
        """
        super().__init__(reactor, in_thread, interval)
        self.used: dict[ContainerId, int] = {}
        self._enforce = enforce
        self._written = written

    async def look(self) -> None:
        """Look at one container after the other."""
        for container in list(self.watched.values()):
            used = await self.in_thread(partial(self._used_by, container))
            if self.stopped:
                return
            if container.id in self.watched:
                self.used[container.id] = used
                self._judge(container, used)

    def _used_by(self, container: Isolated) -> int:
        """In a thread: add up all that it takes."""
        paths = (container.sandbox, *self._written(container.id))
        return sum(disk_usage(path) for path in paths)

    def _judge(self, container: Isolated, used: int) -> None:
        quota = container.allotment.disk
        if self._enforce and quota and used > quota:
            message = f"Disk usage ({format_size(used)}) exceeds quota ({format_size(quota)})"
            reason = Reason.REASON_CONTAINER_LIMITATION_DISK
            amount = (("disk", used / (1 << 20)),)
            self.limited(container.id, Limitation(reason, message, amount))

    def usage(self, container: Isolated) -> Mapping[str, float]:
        """Return what was seen last."""
        figures: dict[str, float] = {}
        used = self.used.get(container.id)
        if used is not None:
            figures["disk_used_bytes"] = used
        if container.allotment.disk:
            figures["disk_limit_bytes"] = container.allotment.disk
        return figures

    def cleanup(self, container: Isolated) -> bool:
        """Look at it no more."""
        self.used.pop(container.id, None)
        return super().cleanup(container)


def disk_usage(path: str) -> int:
    """
    Return the bytes that a tree takes on its file system, each file counted once.

    What cannot be read, or is gone in between, is passed over.
    """
    try:
        top = os.lstat(path)
    except OSError:
        return 0
    seen: set[int] = set()
    total = top.st_blocks * _BLOCK
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_dev != top.st_dev:
                        continue
                    if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                        if found.st_ino in seen:
                            continue
                        seen.add(found.st_ino)
                    total += found.st_blocks * _BLOCK
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return total
