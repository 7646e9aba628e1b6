"""A framework's id in a node of ZooKeeper, where each machine finds it that takes over."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

from mesoskit.cluster.ensemble import Ensemble, NoNode
from mesoskit.cluster.zk_url import URLError, ZooKeeperURL, hidden
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.endpoints import EndpointError

T = TypeVar("T")

_Steps = Callable[[Ensemble], Coroutine[Deferred[Any], Any, T]]


class ZooKeeperIds:
    """
    An L{IdStore<mesoskit.driver.identity.IdStore>} in one node.

    There is a session only while something is read or written, for that happens once in a
    framework's life.
    """

    def __init__(self, make: Callable[[], Ensemble], path: str, name: str) -> None:
        """
        Prepare.

        @param make: makes a client that is not connected yet.
        @param path: of the node.
        @param name: for people.
        """
        self._make = make
        self._path = path
        self._name = name
        # One thing after the other: an id that was written must not outlive its being forgotten.
        self._lock = DeferredLock()

    def __str__(self) -> str:
        return self._name

    def read(self) -> Deferred[str]:
        """Return the node's data; C{""} where there is none. Fails with C{EnsembleError}."""

        async def steps(ensemble: Ensemble) -> str:
            try:
                data, _ = await ensemble.get(self._path)
            except NoNode:
                return ""
            return data.decode(errors="replace").strip()

        return self._lock.run(self._do, steps)

    def write(self, framework_id: str) -> Deferred[None]:
        """Put the id into the node, made with all above it where it is missing."""

        async def steps(ensemble: Ensemble) -> None:
            await ensemble.create_path(self._path)
            await ensemble.set(self._path, framework_id.encode())

        return self._lock.run(self._do, steps)

    def forget(self) -> Deferred[None]:
        """Delete the node."""

        async def steps(ensemble: Ensemble) -> None:
            try:
                await ensemble.delete(self._path)
            except NoNode:
                pass

        return self._lock.run(self._do, steps)

    def _do(self, steps: _Steps[T]) -> Deferred[T]:
        return Deferred.fromCoroutine(self._with_session(steps))

    async def _with_session(self, steps: _Steps[T]) -> T:
        ensemble = self._make()
        try:
            await ensemble.connect()
            return await steps(ensemble)
        finally:
            await ensemble.close()


def zookeeper_ids(reactor: Any, text: str, settings: DriverSettings) -> ZooKeeperIds:
    """
    Return where C{zk://[user:password@]host:port[,...]/path/of/the/node} keeps an id.

    Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>}.
    """
    try:
        url = ZooKeeperURL.parse(text)
    except URLError as error:
        raise EndpointError(hidden(text), error.why) from None

    def make() -> Ensemble:
        from mesoskit.cluster.zookeeper import ZooKeeper

        timeout = settings.zk_session_timeout
        return ZooKeeper(
            reactor, url, session_timeout=timeout, operation_timeout=timeout, tls=settings.zk_tls
        )

    return ZooKeeperIds(make, url.path, str(url))
