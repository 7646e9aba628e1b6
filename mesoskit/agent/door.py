"""The executors' door: a UNIX socket at which custom executors subscribe.

Its path is always the same for a runtime directory, so an executor finds a restarted agent
where it found the old one, and is short, for a socket's address has 108 bytes. Tasks run as
other users, so anybody may connect; who it is the token says that only the executor's own
environment holds. Who shows none is treated as over HTTP: L{mesoskit.agent.executors}.
"""

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort

from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.link import Hello
from mesoskit.wire.plan import Receivers
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory


class Door:
    """
    Listens to executors.

    @ivar factory: makes their links; its pulse may be shared.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        receiver: Receivers,
        hello: Hello,
        settings: StreamSettings | None = None,
    ) -> None:
        """@param path: of the socket; its directory exists, and others may pass through it."""
        self.path = path
        self.factory = StreamFactory(
            receiver, hello, clock=reactor, accept=(Role.EXECUTOR,), settings=settings
        )
        self._reactor = reactor
        self._port: IListeningPort | None = None

    async def open(self) -> None:
        """
        Listen. What a killed agent left at the path is replaced.

        Raises L{mesoskit.wire.endpoints.EndpointError} where the path is too long, and
        L{twisted.internet.error.CannotListenError} where another agent listens there.
        """
        escaped = self.path.replace("\\", "\\\\").replace(":", "\\:")
        endpoint = server_endpoint(self._reactor, f"unix:{escaped}:mode=666")
        self._port = await endpoint.listen(self.factory)

    def close(self, why: str) -> "Deferred[Any]":
        """
        Listen no more and end every link; fires when executors have taken what was sent to
        them, which C{linger} of the settings bounds.
        """
        port, self._port = self._port, None
        stopping = None if port is None else port.stopListening()
        ending = self.factory.lose_all(why)
        if isinstance(stopping, Deferred):
            return gatherResults([stopping, ending], consumeErrors=True)
        return ending
