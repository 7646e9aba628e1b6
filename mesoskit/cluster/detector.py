"""Finding the master that leads (Mesos' C{MasterDetector})."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.ensemble import Ensemble, NoNode, Session
from mesoskit.cluster.leader import Leader, NotAMaster, first, read
from mesoskit.cluster.trying import Trying


class LeaderWatch:
    """
    Tells who leads, each time that it is another one.

    While the servers cannot be asked nothing is told: who led last may lead still. Whether it
    does is the business of whoever has a link to it.

    @param told: called with a L{Leader}, or with L{None} when nobody leads.
    @ivar current: who was told of last.
    """

    log = Logger()

    def __init__(
        self,
        ensemble: Ensemble,
        clock: IReactorTime,
        path: str,
        told: Callable[[Leader | None], None],
    ) -> None:
        self._ensemble = ensemble
        self._path = path
        self._told = told
        self.current: Leader | None = None
        self._looking = False
        self._again = False
        self._trying = Trying(
            clock,
            self.log,
            self.look,
            "The leading master could not be looked for",
            "Who leads cannot be read: {why}",
        )
        ensemble.listen(self._heard)

    def start(self) -> None:
        """Begin to look, as soon as there is a session."""
        self._trying.wanted = True
        if self._ensemble.connected:
            self.look()

    def stop(self) -> None:
        """Tell nothing more."""
        self._trying.stop()

    def forget(self) -> None:
        """Know of nobody, until there is a look again."""
        self._tell(None)

    def look(self) -> None:
        """Look now, or once more when the look that goes on is over."""
        if not self._trying.wanted or not self._ensemble.connected:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        Deferred.fromCoroutine(self._look()).addBoth(self._looked)

    def _heard(self, event: Session) -> None:
        if event is Session.CONNECTED:
            self.look()

    async def _look(self) -> None:
        try:
            names, changed = await self._ensemble.get_children_and_watch(self._path)
        except NoNode:
            stat, appeared = await self._ensemble.exists_and_watch(self._path)
            if stat is None:
                self._watch(appeared)
                self._tell(None)
            else:
                self._again = True
            return
        self._watch(changed)
        name = first(names)
        if name is None:
            self._tell(None)
        elif self.current is None or self.current.node != name:
            await self._read(name)

    async def _read(self, name: str) -> None:
        try:
            data, _ = await self._ensemble.get(f"{self._path}/{name}")
            self._tell(read(name, data))
        except NoNode:
            # It went between the two questions, and the watch says so.
            self._again = True
        except NotAMaster as error:
            self._trying.complain(str(error))
            self._tell(None)

    def _looked(self, result: Any) -> None:
        self._looking = False
        if isinstance(result, Failure):
            self._trying.failed(result)
        else:
            if self.current:
                self._trying.succeeded()
            if self._again:
                self._again = False
                self.look()

    def _watch(self, changed: "Deferred[None]") -> None:
        changed.addCallback(lambda _: self.look())

    def _tell(self, leader: Leader | None) -> None:
        before, self.current = self.current, leader
        if self._trying.wanted and leader != before:
            self._told(leader)


class ZooKeeperDetector:
    """
    Finds the leading master by the nodes in ZooKeeper, Mesos' or ours.

    Nothing is dialled before somebody asks.

    @param ensemble: a client that nobody else uses; it is closed with the detector.
    @param clock: the reactor.
    @param path: of the cluster.
    @param address: makes of a L{Leader} what is dialled; C{ip:port} by default.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        clock: IReactorTime,
        path: str,
        address: Callable[[Leader], str] = lambda leader: leader.address,
    ) -> None:
        self._ensemble = ensemble
        self._address = address
        self._watch = LeaderWatch(ensemble, clock, path, self._changed)
        self._waiting: list[tuple[str | None, Deferred[str | None]]] = []
        self._begun = self._closed = False
        self._refused: Failure | None = None

    @property
    def leader(self) -> Leader | None:
        """Who was found last."""
        return self._watch.current

    @property
    def connected(self) -> bool:
        """Whether there is a session in ZooKeeper: otherwise nobody can say who leads."""
        return self._ensemble.connected

    def detect(self, previous: str | None) -> "Deferred[str | None]":
        """
        Fire when the leading master is not C{previous} any more, with what is dialled; L{None}
        where none leads. A master that was started again leads as another one, at the same place.

        Fails where ZooKeeper refuses us for good, and when the detector is closed.
        """
        if self._closed:
            return fail(CancelledError())
        if not self._begun:
            self._begun = True
            self._watch.start()
            self._ensemble.connect().addErrback(self._not_connected)
        if self._refused is not None:
            return fail(self._refused)
        current = self._current()
        if current != previous:
            return succeed(current)
        waiting: Deferred[str | None] = Deferred(self._forget)
        self._waiting.append((previous, waiting))
        return waiting

    def close(self) -> "Deferred[None]":
        """Detect no more; fires when the servers were told."""
        self._closed = True
        self._watch.stop()
        waiting, self._waiting = self._waiting, []
        for _, each in waiting:
            each.cancel()
        return self._ensemble.close() if self._begun else succeed(None)

    def _current(self) -> str | None:
        leader = self._watch.current
        return None if leader is None else self._address(leader)

    def _changed(self, leader: Leader | None) -> None:
        current = self._current()
        waiting, self._waiting = self._waiting, []
        for previous, each in waiting:
            if previous is None and current is None:
                self._waiting.append((previous, each))
            else:
                each.callback(current)

    def _forget(self, waiting: "Deferred[str | None]") -> None:
        self._waiting = [each for each in self._waiting if each[1] is not waiting]

    def _not_connected(self, reason: Failure) -> None:
        if not self._closed:
            self._refused = reason
            waiting, self._waiting = self._waiting, []
            for _, each in waiting:
                each.errback(reason)
