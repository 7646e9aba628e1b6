"""Standing for election (Mesos' C{MasterContender})."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mesoskit.cluster.ensemble import ANY_VERSION, Check, Ensemble, NoNode, Session, Stat
from mesoskit.cluster.leader import LABEL, number
from mesoskit.cluster.trying import Trying


class Contender:
    """
    Keeps one candidate's node in ZooKeeper, for as long as it is wanted.

    A node that went (with its session, or by an operator's hand) is made again, with a higher
    number: whoever led under the old one has to stop before that.

    @param data: what the node tells.
    @param told: called with the node's name when it is there, and with L{None} when it, or the
        session that it lives with, has gone.
    @ivar node: its name, while it is there.
    """

    log = Logger()

    def __init__(
        self,
        ensemble: Ensemble,
        clock: IReactorTime,
        path: str,
        data: bytes,
        told: Callable[[str | None], None],
    ) -> None:
        self._ensemble = ensemble
        self._path = path
        self._data = data
        self._told = told
        self.node: str | None = None
        self._entering = False
        self._trying = Trying(
            clock,
            self.log,
            self._enter,
            "Standing for election failed",
            "This master cannot stand for election: {why}",
        )
        ensemble.listen(self._heard)

    def start(self) -> None:
        """Stand, as soon as there is a session."""
        self._trying.wanted = True
        self._enter()

    def stop(self) -> None:
        """Do nothing more; the node goes with its session."""
        self._trying.stop()

    def _heard(self, event: Session) -> None:
        if event is Session.EXPIRED:
            self._lose()
        elif event is Session.CONNECTED:
            self._enter()
            self._watch()

    def _lose(self) -> None:
        if self.node is not None:
            self.node = None
            if self._trying.wanted:
                self._told(None)

    def _enter(self) -> None:
        if (
            self._trying.wanted
            and self.node is None
            and not self._entering
            and self._ensemble.connected
        ):
            self._entering = True
            session = self._ensemble.session
            Deferred.fromCoroutine(self._make()).addBoth(self._entered, session)

    async def _make(self) -> str:
        """Return the name of the session's node, made now if it was not there."""
        ensemble, path = self._ensemble, self._path
        try:
            # A server may be behind the one that took an earlier attempt and whose answer was lost;
            # once it has carried this out, which every server does in order, it has seen that too.
            await ensemble.multi([Check(path, ANY_VERSION)])
            names = await ensemble.get_children(path)
        except NoNode:
            await ensemble.create_path(path)
            names = []
        # The answer to an earlier attempt may have been lost, not what it did.
        for name in sorted(names):
            if name.startswith(LABEL) and number(name) is not None:
                try:
                    _, stat = await ensemble.get(f"{path}/{name}")
                except NoNode:
                    continue
                if stat.owner == ensemble.session:
                    return name
        made = await ensemble.create(f"{path}/{LABEL}_", self._data, ephemeral=True, sequence=True)
        return made.rpartition("/")[2]

    def _entered(self, result: Any, session: int | None) -> None:
        self._entering = False
        if not self._trying.wanted:
            return
        if isinstance(result, Failure):
            self._trying.failed(result)
        elif session == self._ensemble.session:
            self._trying.succeeded()
            self.node = result
            self._told(result)
            self._watch()
        else:
            # It went with its session while we waited to hear of it.
            self._enter()

    def _watch(self) -> None:
        """See to it that we hear of it when somebody deletes our node."""
        node = self.node
        if self._trying.wanted and node is not None and self._ensemble.connected:
            looking = self._ensemble.exists_and_watch(f"{self._path}/{node}")
            # Where that fails, the connection that comes next looks again.
            looking.addCallbacks(self._watched, lambda _: None, callbackArgs=(node,))

    def _watched(self, found: "tuple[Stat | None, Deferred[None]]", node: str) -> None:
        stat, changed = found
        if node != self.node:
            return
        if stat is None:
            self._lose()
            self._enter()
        else:
            changed.addCallback(lambda _: self._watch())
