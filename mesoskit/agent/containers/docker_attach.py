"""The consoles of an agent with a Docker engine: which of them a container's is."""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from mesoskit.agent.consoles import DISABLED, ConsoleError, Listener
from mesoskit.agent.containers.docker_console import (
    DETACH_KEYS,
    ONE_INPUT,
    SHUT_DOWN,
    Ear,
    Mouth,
    Resizes,
)
from mesoskit.agent.containers.docker_exec import Commands
from mesoskit.agent.containers.docker_http import Engine, EngineError
from mesoskit.agent.containers.docker_streams import Duplex, open_duplex
from mesoskit.agent.launcher_console import STDOUT
from mesoskit.model.ids import ContainerId


class Attachable(Protocol):
    """
    A container of an engine.

    @ivar name: by which the engine knows it.
    @ivar running: that it has begun, and not ended.
    """

    name: str
    running: bool

    @property
    def terminal(self) -> bool:
        """That it has one."""
        ...


class Consoles:
    """
    Those of containers of an engine and of commands beside them; for all others those of a
    launcher.
    """

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        commands: Commands,
        find: Callable[[ContainerId], Attachable | None],
        others: Any,
    ) -> None:
        """
        @param find: returns a container of the engine; L{None} where it is none.
        @param others: a L{mesoskit.agent.consoles.Consoles}.
        """
        self._reactor = reactor
        self._engine = engine
        self._commands = commands
        self._find = find
        self._others = others
        self._mouths: dict[ContainerId, Mouth | None] = {}

    def listen(self, container: ContainerId, listener: Listener) -> "Deferred[Any]":
        """Hear what comes out of a container from now on. Fails with L{ConsoleError}."""
        found = self._find(container)
        if found is None and container not in self._commands:
            heard: Deferred[Any] = self._others.listen(container, listener)
            return heard

        async def listen() -> Ear:
            if found is None:
                return self._commands.listen(container, listener)
            return await self._listen(found, listener)

        return Deferred.fromCoroutine(listen())

    def speak(
        self, container: ContainerId, full: Callable[[bool], None], over: Callable[[], None]
    ) -> "Deferred[Any]":
        """Put something into a container. Fails with L{ConsoleError}."""
        found = self._find(container)
        if found is None and container not in self._commands:
            spoken: Deferred[Any] = self._others.speak(container, full, over)
            return spoken

        async def speak() -> Mouth:
            if found is None:
                return self._commands.speak(container, full, over)
            return await self._speak(container, found, full, over)

        return Deferred.fromCoroutine(speak())

    async def _listen(self, found: Attachable, listener: Listener) -> Ear:
        stream = await self._attach(found, speaks=False)
        ear = Ear(listener, lambda _: stream.drop())
        stream.over.addBoth(lambda _: ear.end())

        def begin() -> None:
            ear.pause(False)
            stream.hear(lambda data: ear.say(STDOUT, data))

        # Whoever asked has to know that he is heard first.
        self._reactor.callLater(0, begin)
        return ear

    async def _speak(
        self,
        container: ContainerId,
        found: Attachable,
        full: Callable[[bool], None],
        over: Callable[[], None],
    ) -> Mouth:
        if container in self._mouths:
            raise ConsoleError(ONE_INPUT, 409)
        self._mouths[container] = None
        try:
            stream = await self._attach(found, speaks=True)
        except BaseException:
            del self._mouths[container]
            raise

        def left() -> None:
            del self._mouths[container]
            # What was put in is to arrive.
            stream.lose()

        resize = Resizes(self._reactor, self._engine, f"/containers/{found.name}")
        mouth = self._mouths[container] = Mouth(stream, True, resize, full, over, left)
        stream.over.addBoth(lambda _: mouth.end())
        # By the end of its output it is known that nobody takes any more.
        stream.hear(lambda data: None)
        return mouth

    async def _attach(self, found: Attachable, speaks: bool) -> Duplex:
        if not found.terminal:
            raise ConsoleError(DISABLED)
        if not found.running:
            raise ConsoleError(SHUT_DOWN)
        query = {"stream": "1", "stdout": "1", "stderr": "1", "detachKeys": DETACH_KEYS}
        if speaks:
            query["stdin"] = "1"
        path = f"/containers/{found.name}/attach"
        try:
            return await open_duplex(self._reactor, self._engine, path, query)
        except EngineError as error:
            raise ConsoleError(str(error)) from error
