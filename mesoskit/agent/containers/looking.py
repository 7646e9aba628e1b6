"""Isolators that look at their containers now and then, as long as there are any."""

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mesoskit.agent.containers.isolators import Isolated, Isolator
from mesoskit.agent.users import InThread
from mesoskit.model.ids import ContainerId


class LookingIsolator(Isolator):
    """
    Looks at all of its containers each interval, which begins when the look before is over.

    @cvar name: what it is called in the log.
    @ivar watched: the containers that are looked at.
    @ivar stopped: nobody is looked at, nor judged, any more.
    """

    log = Logger()
    name: ClassVar[str]

    def __init__(self, reactor: IReactorTime, in_thread: InThread, interval: float) -> None:
        """Look each C{interval} seconds."""
        super().__init__()
        self.watched: dict[ContainerId, Isolated] = {}
        self.stopped = False
        self.in_thread = in_thread
        self._reactor = reactor
        self._interval = interval
        self._call: Any = None

    async def look(self) -> None:
        """Look at all, once. What it raises is logged."""
        raise NotImplementedError

    def isolated(self, container: Isolated) -> None:
        """Look at it from now on."""
        self.watched[container.id] = container
        if self._call is None:
            self._call = self._reactor.callLater(self._interval, self._look)

    def recover(self, container: Isolated) -> None:
        """Likewise."""
        self.isolated(container)

    def _look(self) -> None:
        looking = Deferred.fromCoroutine(self.look())
        looking.addErrback(lambda why: self.log.failure("{name}", failure=why, name=self.name))
        looking.addBoth(self._again)

    def _again(self, _: object) -> None:
        self._call = None
        if self.watched and not self.stopped:
            self._call = self._reactor.callLater(self._interval, self._look)

    def cleanup(self, container: Isolated) -> bool:
        """Look at it no more."""
        self.watched.pop(container.id, None)
        return True

    def stop(self) -> None:
        """Look at nothing any more."""
        self.stopped = True
        if self._call is not None and self._call.active():
            self._call.cancel()
