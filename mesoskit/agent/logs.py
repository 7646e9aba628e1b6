"""Holds C{stdout} and C{stderr} of containers to a size, as Mesos' logrotate container logger.

Containers write into files, and no process stands between: whoever looks at the files does it
now and then, more often at those that grow fast, and moves what is too much out of the way
(L{mesoskit.agent.logs_rotation}). A file may therefore exceed its size for a moment. What a
container is held to is noted in a directory, so that an agent that is started again goes on.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers import ContainerError
from mesoskit.agent.log_sizes import LogSizeError, Sizes, sizes_of
from mesoskit.agent.logs_rotation import rotate, size_of
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId

INTERVAL: Final = 1.0
"""Seconds between two looks at a log."""

HURRY: Final = 0.05
"""Seconds between two looks at one that grows fast."""


class _Log:
    """One file that is looked at."""

    __slots__ = ("due", "files", "most", "name", "sandbox", "seen", "size", "why")

    def __init__(self, sandbox: str, name: str, most: int, files: int, now: float) -> None:
        self.sandbox = sandbox
        self.name = name
        self.most = most
        self.files = files
        self.due = self.seen = now
        self.size = 0
        self.why = ""

    def look(self, now: float) -> None:
        """Look how big it is, see to it that it is not too big; say when to look again."""
        size = size_of(self.sandbox, self.name)
        grown = size - self.size
        if size > self.most:
            try:
                moved = rotate(self.sandbox, self.name, self.most, self.files)
            except OSError as error:
                self.why = error.strerror or str(error)
            else:
                self.why = ""
                size -= moved
        rate = grown / (now - self.seen) if now > self.seen else 0.0
        wait = INTERVAL
        if rate > 0 and not self.why:
            wait = min(INTERVAL, max(HURRY, (self.most - size) / rate))
        self.seen, self.size = now, size
        self.due = now + wait


class Rotation:
    """
    Looks after the logs of containers.

    @ivar directory: where it notes what it looks after.
    @ivar sizes: what logs are held to where a command says nothing else.
    """

    log = Logger()

    def __init__(self, reactor: Any, directory: str, sizes: Sizes, in_thread: InThread) -> None:
        """@param in_thread: where files are looked at and copied."""
        self.directory = directory
        self.sizes = sizes
        self._reactor = reactor
        self._in_thread = in_thread
        self._logs: dict[ContainerId, tuple[_Log, _Log]] = {}
        self._complained: set[tuple[ContainerId, str]] = set()
        self._call: IDelayedCall | None = None
        self._looking = False
        self._stopped = False

    def prepare(self, spec: ContainerSpec) -> Callable[[], None]:
        """
        Return what is to be called when a container is about to start. Raises L{ContainerError}
        where it wants what nobody can understand.
        """
        try:
            sizes = sizes_of(self.sizes, spec.environment)
        except LogSizeError as error:
            raise ContainerError(str(error)) from None
        return lambda: self._watch(spec.id, spec.sandbox, sizes, note=True)

    def recover(self, running: Iterable[ContainerId]) -> None:
        """Go on with those that still run; drop the notes of the others."""
        wanted = {_note_name(container): container for container in running}
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return
        for name in names:
            container = wanted.get(name)
            path = Path(self.directory, name)
            if container is None:
                with suppress(OSError):
                    path.unlink()
                continue
            try:
                found = orjson.loads(path.read_bytes())
                self._watch(container, found["sandbox"], Sizes(*found["sizes"]), note=False)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self.log.warn("logs of {container}: {why}", container=container, why=error)

    def over(self, container: ContainerId) -> None:
        """A container has ended, or was never started: its logs are left as they are."""
        if self._logs.pop(container, None) is not None:
            with suppress(OSError):
                os.unlink(self._path(container))
            self._complained = {each for each in self._complained if each[0] != container}

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _path(self, container: ContainerId) -> str:
        return os.path.join(self.directory, _note_name(container))

    def _watch(self, container: ContainerId, sandbox: str, sizes: Sizes, *, note: bool) -> None:
        now = self._reactor.seconds()
        self._logs[container] = (
            _Log(sandbox, "stdout", sizes.stdout, sizes.stdout_files, now),
            _Log(sandbox, "stderr", sizes.stderr, sizes.stderr_files, now),
        )
        if note:
            numbers = (sizes.stdout, sizes.stderr, sizes.stdout_files, sizes.stderr_files)
            try:
                os.makedirs(self.directory, 0o700, exist_ok=True)
                text = orjson.dumps({"sandbox": sandbox, "sizes": numbers})
                Path(self._path(container)).write_bytes(text)
            except OSError as error:
                # Without it nobody looks after these logs once the agent is started again.
                self.log.warn("noting logs of {container}: {why}", container=container, why=error)
        self._plan()

    def _plan(self) -> None:
        """See to it that the next look is taken when it is due."""
        if self._stopped or self._looking or not self._logs:
            return
        when = min(log.due for logs in self._logs.values() for log in logs)
        wait = min(INTERVAL, max(HURRY, when - self._reactor.seconds()))
        if self._call is None:
            self._call = self._reactor.callLater(wait, self._look)
        elif self._call.getTime() > self._reactor.seconds() + wait:
            self._call.reset(wait)

    def _look(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        due = [
            (container, log)
            for container, logs in self._logs.items()
            for log in logs
            if log.due <= now + HURRY / 2
        ]
        self._looking = True

        def look() -> None:
            for container, log in due:
                if container in self._logs:
                    log.look(self._reactor.seconds())

        def looked(result: object) -> None:
            self._looking = False
            if isinstance(result, Failure):
                self.log.failure("looking after logs", result)
            self._complain(due)
            self._plan()

        self._in_thread(look).addBoth(looked)

    def _complain(self, looked: list[tuple[ContainerId, _Log]]) -> None:
        """Say once what is wrong with a log."""
        for container, log in looked:
            key = container, log.name
            if log.why and key not in self._complained:
                self._complained.add(key)
                self.log.warn(
                    "{name} of {container} in {sandbox} cannot be rotated: {why}",
                    name=log.name,
                    container=container,
                    sandbox=log.sandbox,
                    why=log.why,
                )


def _note_name(container: ContainerId) -> str:
    return blake2b(container.encode(), digest_size=16).hexdigest()
