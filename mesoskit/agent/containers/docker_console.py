"""Attaching to what runs in a Docker engine: as to the containers of the launcher, by other means.

A container with a terminal is attached to by the engine, once for each who listens; a command
beside one has a single connection (L{mesoskit.agent.containers.docker_exec}), whose output is told
to all who listen. Whoever is a megabyte behind is cut off, but a session waits for its listener:
the rules are those of L{mesoskit.agent.launcher_console}.
"""

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mesoskit.agent.consoles import Listener
from mesoskit.agent.containers.docker_http import Engine, EngineError
from mesoskit.agent.containers.docker_streams import Duplex
from mesoskit.agent.launcher_console import MAX_UNHEARD, STDERR, STDOUT

ONE_INPUT: Final = "Multiple input connections are not allowed"
SHUT_DOWN: Final = "I/O switchboard has shutdown"

DETACH_KEYS: Final = "ctrl-^,ctrl-_,ctrl-^,ctrl-@,ctrl-_,ctrl-^,ctrl-@"
"""
What would make the engine itself detach: it cannot be told that nothing should. By default it is
Ctrl-P Ctrl-Q, which shells and editors want to see.
"""

_TRIES: Final = 5
_log = Logger()


class Ear:
    """
    One who listens.

    @param held: is told whether it takes nothing for now; L{None}: it is cut off when it is too
        far behind.
    @param left: is called when it listens no more.
    """

    def __init__(
        self,
        listener: Listener,
        left: Callable[["Ear"], None],
        held: Callable[[], None] | None = None,
    ) -> None:
        self.paused = True
        self._listener = listener
        self._left = left
        self._held = held
        self._waiting: list[tuple[int, bytes]] = []
        self._size = 0
        self._ending = self._over = False

    def say(self, kind: int, data: bytes) -> None:
        """Something came out, as C{STDOUT} or C{STDERR}."""
        if self._over:
            return
        if not self.paused:
            self._listener.heard(kind, data)
            return
        self._waiting.append((kind, data))
        self._size += len(data)
        if self._held is None and self._size > MAX_UNHEARD:
            self._finish()

    def end(self) -> None:
        """Nothing will come any more."""
        self._ending = True
        if not self._waiting:
            self._finish()

    def pause(self, paused: bool) -> None:
        """Hear no more for now, or go on."""
        self.paused = paused
        while self._waiting and not self.paused and not self._over:
            kind, data = self._waiting.pop(0)
            self._size -= len(data)
            self._listener.heard(kind, data)
        if self._held is not None and not self._over:
            self._held()
        if self._ending and not self._waiting:
            self._finish()

    def stop(self) -> None:
        """Hear no more."""
        if not self._over:
            self._over = True
            self._waiting.clear()
            self._left(self)

    def _finish(self) -> None:
        if not self._over:
            self.stop()
            self._listener.over()


class Mouth:
    """
    One who puts something in.

    @param resize: is given rows and columns.
    @param left: is called when it is done.
    @param over: is called when nothing is taken any more.
    """

    def __init__(
        self,
        stream: Duplex,
        terminal: bool,
        resize: Callable[[int, int], None],
        full: Callable[[bool], None],
        over: Callable[[], None],
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._terminal = terminal
        self._resize = resize
        self._over = over
        self._left = left
        self._stopped = self._closed = False
        stream.full = full

    def put(self, data: bytes) -> None:
        """Put something in; nothing is the end of it, but where there is a terminal."""
        if self._stopped or self._closed:
            return
        if data:
            self._stream.write(data)
        elif not self._terminal:
            self._closed = True
            self._stream.close_input()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the terminal, where it is one."""
        if self._terminal and not self._stopped and rows and columns:
            self._resize(min(rows, 0xFFFF), min(columns, 0xFFFF))

    def stop(self) -> None:
        """Put no more in; another may."""
        if not self._stopped:
            self._stopped = True
            self._stream.full = lambda full: None
            self._left()

    def end(self) -> None:
        """Nothing is taken any more."""
        if not self._stopped:
            self.stop()
            self._over()


class Resizes:
    """
    Tells the engine how big a terminal is: one request at a time, and of many the last.

    @param path: of the container, or of the command.
    """

    def __init__(self, reactor: Any, engine: Engine, path: str) -> None:
        self._reactor = reactor
        self._engine = engine
        self._path = path
        self._wanted: tuple[int, int] | None = None
        self._busy = False

    def __call__(self, rows: int, columns: int) -> None:
        """Tell it as soon as that can be."""
        self._wanted = rows, columns
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._tell())

    async def _tell(self) -> None:
        refusals = 0
        while self._wanted is not None:
            (rows, columns), self._wanted = self._wanted, None
            try:
                query = {"h": rows, "w": columns}
                await self._engine.ask("POST", f"{self._path}/resize", query)
            except EngineError as error:
                # It has not quite begun yet, or has ended.
                refusals += 1
                if refusals == _TRIES:
                    _log.debug("{path} was not resized: {why}", path=self._path, why=str(error))
                    break
                self._wanted = self._wanted or (rows, columns)
                await deferLater(self._reactor, 0.05 * refusals)
        self._wanted = None
        self._busy = False


def kind_of(which: int) -> int:
    """Return the kind of one of the engine's two streams."""
    return STDERR if which else STDOUT
