"""Attaching to containers that have a console: a client of L{mesoskit.agent.launcher_console}.

It does not matter which agent process has launched the container, nor whether the launcher lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure

from mesoskit.agent import launcher_console as wire
from mesoskit.model.ids import ContainerId

DISABLED: Final = "I/O switchboard server was disabled for this container"
"""Mesos' words for a container that has no console."""


class ConsoleError(Exception):
    """
    Nobody can attach; the message says why.

    @ivar status: the status of HTTP that this comes to.
    """

    def __init__(self, why: str, status: int = 500) -> None:
        super().__init__(why)
        self.status = status


class Listener(Protocol):
    """Whoever hears what comes out."""

    def heard(self, kind: int, data: bytes) -> None:
        """Take what came out, as C{STDOUT} or C{STDERR} of L{mesoskit.agent.launcher_console}."""
        ...

    def over(self) -> None:
        """No more will come; not called after C{stop}."""
        ...


class _Quiet(Factory):
    noisy = False  # a line in the log for every connection is not what a log is for


class Output(TwistedProtocol):
    """A connection over which is heard what comes out of a container."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._buffer = bytearray()
        self._stopped = False

    def connectionMade(self) -> None:
        """Say what this is."""
        assert self.transport is not None
        self.transport.write(b"O")

    def dataReceived(self, data: bytes) -> None:
        """Cut it into frames."""
        self._buffer += data
        header = wire.HEADER
        while len(self._buffer) >= header.size and not self._stopped:
            kind, length = header.unpack_from(self._buffer)
            end = header.size + length
            if len(self._buffer) < end:
                return
            piece = bytes(self._buffer[header.size : end])
            del self._buffer[:end]
            self._listener.heard(kind, piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All was heard."""
        if not self._stopped:
            self._stopped = True
            self._listener.over()

    def pause(self, paused: bool) -> None:
        """Hear no more for now, or go on."""
        transport: Any = self.transport
        if not self._stopped:
            (transport.pauseProducing if paused else transport.resumeProducing)()

    def stop(self) -> None:
        """Hear no more."""
        self._stopped = True
        if self.transport is not None:
            self.transport.loseConnection()


class Input(TwistedProtocol):
    """
    A connection over which something is put into a container.

    @ivar ready: fires when this is the one who may; fails with L{ConsoleError}.
    @ivar full: is told whether too much waits to be put in.
    @ivar over: is called when the container takes nothing any more.
    """

    def __init__(self, full: Callable[[bool], None], over: Callable[[], None]) -> None:
        self.ready: Deferred[Input] = Deferred()
        self.full = full
        self.over = over
        self._stopped = False

    def connectionMade(self) -> None:
        """Say what this is."""
        transport: Any = self.transport
        transport.registerProducer(self, True)
        transport.write(b"I")

    def dataReceived(self, data: bytes) -> None:
        """The answer to that."""
        if not self.ready.called:
            if data[:1] == b"+":
                self.ready.callback(self)
            else:
                self.ready.errback(ConsoleError("Multiple input connections are not allowed", 409))
                self.stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        if not self.ready.called:
            self.ready.errback(ConsoleError("I/O switchboard has shutdown"))
        elif not self._stopped:
            self._stopped = True
            self.over()

    def put(self, data: bytes) -> None:
        """Put something in; nothing is the end of it."""
        for position in range(0, len(data) or 1, wire.MAX_FRAME):
            self._say(wire.INPUT, data[position : position + wire.MAX_FRAME])

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the terminal, where it is one."""
        most = (1 << 16) - 1
        self._say(wire.RESIZE, wire.WINDOW.pack(min(rows, most), min(columns, most)))

    def stop(self) -> None:
        """Put no more in; another may."""
        self._stopped = True
        if self.transport is not None:
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()

    def _say(self, kind: int, data: bytes) -> None:
        if not self._stopped and self.transport is not None:
            self.transport.write(wire.HEADER.pack(kind, len(data)) + data)

    # IPushProducer: what the transport says of its buffer

    def pauseProducing(self) -> None:
        """Too much waits."""
        self.full(True)

    def resumeProducing(self) -> None:
        """There is room again."""
        self.full(False)

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost says so as well."""


class Attaching(Protocol):
    """What is asked of consoles, whoever has them."""

    def listen(self, container: ContainerId, listener: Listener) -> Deferred[Any]:
        """Hear what comes out of a container from now on, as L{Output}. Fails with ConsoleError."""
        ...

    def speak(
        self, container: ContainerId, full: Callable[[bool], None], over: Callable[[], None]
    ) -> Deferred[Any]:
        """Put something into a container, as by L{Input}. Fails with ConsoleError."""
        ...


class Consoles:
    """
    The consoles of the containers of one launcher.

    @ivar directory: the launcher's.
    """

    def __init__(self, reactor: Any, directory: str) -> None:
        self.directory = directory
        self._reactor = reactor

    def listen(self, container: ContainerId, listener: Listener) -> Deferred[Output]:
        """Hear what comes out of a container from now on. Fails with L{ConsoleError}."""
        return Deferred.fromCoroutine(self._connect(container, Output(listener)))

    def speak(
        self, container: ContainerId, full: Callable[[bool], None], over: Callable[[], None]
    ) -> Deferred[Input]:
        """Put something into a container. Fails with L{ConsoleError}."""

        async def speak() -> Input:
            protocol = Input(full, over)
            await self._connect(container, protocol)
            return await protocol.ready

        return Deferred.fromCoroutine(speak())

    async def _connect(self, container: ContainerId, protocol: Any) -> Any:
        name = wire.name_of(container)
        try:
            home = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConsoleError(f"{self.directory}: {error.strerror}") from error
        try:
            path = os.path.join(self.directory, name)
            if not os.path.lexists(path):
                raise ConsoleError(DISABLED)
            if len(path) > 100:  # the address of a UNIX socket has 108 bytes
                path = f"/proc/self/fd/{home}/{name}"
            endpoint = UNIXClientEndpoint(self._reactor, path, timeout=5)  # type: ignore[no-untyped-call]
            await endpoint.connect(_Quiet.forProtocol(lambda: protocol))  # type: ignore[no-untyped-call]
        except ConnectError as error:
            raise ConsoleError("I/O switchboard has shutdown") from error
        finally:
            os.close(home)
        return protocol
