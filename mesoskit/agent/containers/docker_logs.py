"""What a container of the Docker engine writes, brought into its sandbox.

The engine keeps what was written, with the moment of each message, so that nothing is lost while
no agent is there. A note says how far it has been brought; with it a restarted agent goes on
behind the last byte, neither leaving out nor repeating anything.
"""

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.agent.containers.docker_http import Delays, Engine, EngineError, deliver

MAX_FRAME: Final = 4 << 20
"""Bytes of the longest message. Docker's have 16 KiB."""

NOTING: Final = 1.0
"""Seconds between two notes of how far it is."""

DISORDER: Final = 2
"""Seconds by which the engine may tell of one stream later than of the other."""

_MOMENT: Final = re.compile(r"([\d-]{10}T[\d:]{8})(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_HEADER: Final = 8
_NAMES: Final = ("stdout", "stderr")
_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Files:
    """
    C{stdout} and C{stderr} of a sandbox.

    The task can put what it likes in their place, and the agent writes with its own rights; so
    they are opened without following links, before the task runs where possible, and have to be
    plain files with one name.
    """

    def __init__(self, sandbox: str, owner: tuple[int, int]) -> None:
        """Raises C{OSError}."""
        self._descriptors: list[int] = []
        directory = os.open(sandbox, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for name in _NAMES:
                self._open(name, directory, owner)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(directory)

    def _open(self, name: str, directory: int, owner: tuple[int, int]) -> None:
        descriptor = os.open(name, _OPEN, 0o644, dir_fd=directory)
        self._descriptors.append(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(0, f"{name} in the sandbox is no plain file")
        if os.geteuid() == 0 and found.st_size == 0 and found.st_uid == 0:
            os.fchown(descriptor, *owner)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bytes each has; somebody else may have cut off what is old."""
        first, second = (os.fstat(descriptor).st_size for descriptor in self._descriptors)
        return first, second

    def write(self, which: int, data: bytes) -> None:
        """Append to one of them. Raises C{OSError}."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptors[which], view) :]

    def close(self) -> None:
        """Let go of both."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


class Frames:
    """
    The engine's form of two streams in one: a byte that says which, the length, the message.

    @param received: is given 0 or 1 for C{stdout} or C{stderr}, and a message.
    """

    def __init__(self, received: Callable[[int, bytes], None]) -> None:
        self._received = received
        self._buffer = bytearray()

    def take(self, data: bytes) -> None:
        """Take what came. Raises C{ValueError} where it is nothing of that form."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEADER:
            if buffer[at] > 2 or buffer[at + 1] or buffer[at + 2] or buffer[at + 3]:
                raise ValueError(f"a message begins with {bytes(buffer[at : at + _HEADER])!r}")
            size = int.from_bytes(buffer[at + 4 : at + _HEADER], "big")
            if size > MAX_FRAME:
                raise ValueError(f"a message of {size} bytes is longer than {MAX_FRAME}")
            end = at + _HEADER + size
            if len(buffer) < end:
                break
            self._received(int(buffer[at] == 2), bytes(buffer[at + _HEADER : end]))
            at = end
        del buffer[:at]


class Place:
    """
    How far messages have been written, of each stream for itself: the engine orders those of one,
    but not of both. All before C{moments} is there, and some of that moment. It counts bytes, for
    podman does not always cut what was written into the same messages.

    @ivar moments: as the engine writes them: C{2026-11-21T16:00:00.000000000Z}, podman in whole
        seconds; empty: none yet.
    @ivar done: bytes of these moments; where there is a terminal, and so no moments, all bytes.
    @ivar sizes: of the files then.
    """

    __slots__ = ("done", "moments", "sizes")

    def __init__(
        self,
        moments: tuple[str, str] = ("", ""),
        done: tuple[int, int] = (0, 0),
        sizes: tuple[int, int] = (0, 0),
    ) -> None:
        self.moments = list(moments)
        self.done = list(done)
        self.sizes = list(sizes)

    @classmethod
    def read(cls, data: Any) -> "Place":
        """Read what L{words} gave; anything else is the beginning."""
        try:
            *moments, first, second, one, two = data
            # Earlier agents have noted one moment for both.
            moment, other = moments if len(moments) > 1 else (*moments, *moments)
            done, sizes = (int(first), int(second)), (int(one), int(two))
            return cls((str(moment), str(other)), done, sizes)
        except (TypeError, ValueError):
            return cls()

    def words(self) -> tuple[str | int, ...]:
        """Return it as JSON can hold it."""
        return (*self.moments, *self.done, *self.sizes)

    def since(self) -> str:
        """
        Return from when on the engine is to tell, as it wants it in a query. That is earlier by
        as much as what it tells of one stream may come behind what it tells of the other.
        """
        known = [moment_of(moment) for moment in self.moments if moment]
        seconds, rest = min((one for one in known if one is not None), default=(0, ""))
        return f"{seconds - DISORDER}.{rest}" if seconds else "0"


def moment_of(text: str) -> tuple[int, str] | None:
    """Return a moment as seconds and nanoseconds, which can be compared; L{None}: it is none."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    try:
        seconds = int(datetime.fromisoformat(found[1] + (found[3] or "Z")).timestamp())
    except ValueError:
        return None
    return seconds, (found[2] or "")[:9].ljust(9, "0")


class Notes:
    """Small files that say of each container how far its output has been brought."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def make(self) -> None:
        """See to it that there is a place for them. Raises C{OSError}."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def all(self) -> set[str]:
        """Return of which containers there are notes."""
        with suppress(OSError):
            names = [entry.name for entry in os.scandir(self._directory)]
            return {name.removesuffix(".json") for name in names if name.endswith(".json")}
        return set()

    def write(self, container: str, place: Place) -> None:
        """Note it; a crash leaves the old note or the new one. Raises C{OSError}."""
        path = self._path(container)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(place.words()))
        fresh.replace(path)

    def read(self, container: str) -> Place:
        """Return what was noted; the beginning where nothing can be read."""
        try:
            return Place.read(orjson.loads(self._path(container).read_bytes()))
        except (OSError, orjson.JSONDecodeError):
            return Place()

    def remove(self, container: str) -> None:
        """Forget it."""
        with suppress(OSError):
            self._path(container).unlink()

    def _path(self, container: str) -> Path:
        if not container or "/" in container or container.startswith("."):
            raise OSError(22, f"{container!r} is no name of a file")
        return self._directory / f"{container}.json"


class Follower:
    """
    Brings what one container writes into its files, until it has ended.

    @ivar over: fires when all was brought, or cannot be; never fails.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        name: str,
        container: str,
        files: Files,
        notes: Notes,
        tty: bool,
    ) -> None:
        """
        @param name: the engine's name of it.
        @param tty: whether it has a terminal: its output is one stream then.
        """
        self.over: Deferred[None] = Deferred()
        self._reactor = reactor
        self._engine = engine
        self._name = name
        self._container = container
        self._files: Files | None = files
        self._notes = notes
        self._tty = tty
        self._place = notes.read(container)
        # What was written after the note was: it comes again, and is left out.
        self._extra = [
            max(0, size - noted) for size, noted in zip(files.sizes, self._place.sizes, strict=True)
        ]
        # What comes again after a break, of each stream: all before a moment, and bytes of that.
        self._behind: list[tuple[int, str] | None] = [None, None]
        self._repeated = [0, 0]
        self._brought = self._place.done[0] + self._extra[0]  # where there is a terminal
        self._pending: list[list[bytes]] = [[], []]
        self._noting: IDelayedCall | None = None
        self._delays = Delays(reactor, 0.2, 10.0)
        self._work: Deferred[None] | None = None
        self._ending = False
        self._last = False

    def begin(self) -> None:
        """Begin."""
        if self._tty:
            # There are no moments: all comes again, and what was written is left out.
            self._extra = [self._brought, 0]
        work = self._work = Deferred.fromCoroutine(self._follow())
        work.addBoth(self._ended)

    def finish(self) -> None:
        """The container has ended: what is left comes, and that is all."""
        self._ending = True
        if self._work is None and self._files is not None:
            self._delays.cancel()
            self._read_last()

    def stop(self) -> None:
        """Let go; what was written is noted."""
        self._ending = True
        self._delays.cancel()
        self._close()
        if self._work is not None:
            self._work.cancel()

    async def _follow(self) -> None:
        place = self._place
        # Of what has ended podman does not follow all.
        query = {"follow": "0" if self._last else "1", "stdout": "1", "stderr": "1"}
        if self._tty:
            receive: Callable[[bytes], None] = self._raw
        else:
            query.update(timestamps="1", since=place.since())
            self._behind = [moment_of(moment) for moment in place.moments]
            self._repeated = list(place.done)
            receive = Frames(self._message).take

        def received(data: bytes) -> None:
            receive(data)
            self._write()

        response = await self._engine.stream("GET", f"/containers/{self._name}/logs", query)
        body = deliver(response, received)
        await body.over

    def say(self, which: int, data: bytes) -> None:
        """
        Write something that is not the container's own into its files. Raises C{OSError}.

        It is noted before it is there: what comes after a crash is told by how much there is.
        """
        files = self._files
        if files is None or any(self._extra):
            return
        place = self._here(files)
        place.sizes[which] += len(data)
        self._notes.write(self._container, place)
        files.write(which, data)

    def _here(self, files: Files) -> Place:
        """Return how far it is."""
        self._place.sizes = list(files.sizes)
        if self._tty:
            self._place.done[0] = self._brought
        return self._place

    def _message(self, which: int, message: bytes) -> None:
        """Take one message, with its moment before it."""
        place = self._place
        moment, _, text = message.partition(b" ")
        when = moment.decode(errors="replace")
        behind = self._behind[which]
        if behind is not None:
            now = moment_of(when) or behind
            if now < behind:
                return
            if now == behind:
                repeated = self._repeated[which]
                self._repeated[which] = max(0, repeated - len(text))
                text = text[repeated:]
            else:
                self._behind[which] = None
        if when != place.moments[which]:
            place.moments[which], place.done[which] = when, 0
        place.done[which] += len(text)
        self._put(which, text)

    def _raw(self, data: bytes) -> None:
        self._put(0, data)

    def _put(self, which: int, text: bytes) -> None:
        extra = self._extra[which]
        if extra:
            self._extra[which] = max(0, extra - len(text))
            text = text[extra:]
        if text:
            self._pending[which].append(text)
            self._brought += len(text)

    def _write(self) -> None:
        files = self._files
        if files is None:
            return
        for which, parts in enumerate(self._pending):
            if parts:
                files.write(which, b"".join(parts))
                self._pending[which] = []
        if self._noting is None:
            self._noting = self._reactor.callLater(NOTING, self._note)

    def _note(self) -> None:
        self._noting = None
        files = self._files
        if files is None or any(self._extra):
            return  # With something still to leave out, the old note is right.
        try:
            self._notes.write(self._container, self._here(files))
        except OSError as error:
            self.log.warn("note of {container}: {why}", container=self._container, why=error)

    def _ended(self, result: object) -> None:
        self._work = None
        if self._files is None:
            return
        if isinstance(result, Failure) and not result.check(CancelledError):  # type: ignore[no-untyped-call]
            why = result.getErrorMessage()
            if isinstance(result.value, OSError):
                self._give_up(f"cannot write what {self._name} has to say: {why}")
                return
            if isinstance(result.value, EngineError) and result.value.status == 404:
                self._close()  # somebody else has removed the container
                return
            if isinstance(result.value, EngineError) and result.value.status >= 400:
                self._give_up(f"the output of {self._name} cannot be had: {why}")
                return
            self.log.warn("output of {name}: {why}", name=self._name, why=why)
            self._delays.again(self.begin)
        elif self._ending and self._last:
            self._close()
        elif self._ending:
            self._read_last()
        else:
            # The end will be heard of; or the engine was restarted, and there is more.
            self._delays.again(self.begin)

    def _read_last(self) -> None:
        """Read on once more: engines end an answer with the container, before all was sent."""
        self._last = True
        self.begin()

    def _give_up(self, why: str) -> None:
        self.log.warn("{why}", why=why)
        with suppress(OSError):
            if self._files is not None:
                self._files.write(1, f"{why}\n".encode())
        self._close()

    def _close(self) -> None:
        """End, with all noted."""
        files = self._files
        if files is None:
            return
        if self._noting is not None:
            self._noting.cancel()
        self._note()
        self._files = None
        files.close()
        self.over.callback(None)
