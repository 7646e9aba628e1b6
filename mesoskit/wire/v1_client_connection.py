"""One connection of a v1 client: POSTs go out one after the other, their answers come back."""

from __future__ import annotations

from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.wire.silence import notice
from mesoskit.wire.v1_client_answers import Decoder, Head

# Of the text of an answer, in bytes; the rest is passed over.
_LONGEST_TEXT: Final = 4096


class User(Protocol):
    """Whose connection it is."""

    def began(self, connection: HttpConnection, head: Head) -> bool:
        """An answer begins; say whether its body is wanted as it comes."""
        ...

    def body(self, connection: HttpConnection, data: bytes) -> None:
        """A piece of a body that is wanted as it comes."""
        ...

    def answered(self, connection: HttpConnection, head: Head, text: str) -> None:
        """An answer is complete; C{text} is its body where that was not wanted otherwise."""
        ...

    def full(self, connection: HttpConnection, full: bool) -> None:
        """The transport takes no more for now, or takes more again."""
        ...

    def closed(self, connection: HttpConnection, why: str) -> None:
        """The connection is gone."""
        ...


@implementer(IPushProducer, IHandshakeListener)
class HttpConnection(TwistedProtocol):
    """
    A connection to an HTTP server.

    @ivar user: who is told; L{None} for one whose user has left it.
    @ivar ready: fires when it can be used, with itself: over TLS that is after the handshake.
    @ivar paused: whether the transport takes no more for now.
    """

    transport: Any

    def __init__(self, secure: bool) -> None:
        self.user: User | None = None
        self.ready: Deferred[HttpConnection] = Deferred(lambda _: self.abort())
        self.paused = False
        self._secure = secure
        self._decoder = Decoder(self)
        self._head: Head | None = None
        self._wanted = False
        self._text = b""

    # What Twisted tells.

    def connectionMade(self) -> None:
        """It is there, if not for the handshake."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            # Small requests follow each other; one that waits for an acknowledgement is late.
            transport.setTcpNoDelay(True)
            notice(transport)
        transport.registerProducer(self, True)
        if not self._secure:
            self._is_ready()

    def handshakeCompleted(self) -> None:
        """The server is who it should be."""
        self._is_ready()

    def _is_ready(self) -> None:
        if not self.ready.called:
            self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Tell of the answers in it."""
        self._decoder.feed(data)
        if self._decoder.error is not None and self.user is not None:
            user, why = self.user, str(self._decoder.error)
            self.abort()
            user.closed(self, why)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever still wants to know."""
        done = isinstance(reason.value, ConnectionDone)
        why = "connection closed" if done else reason.getErrorMessage()
        self._decoder.closed()
        if not self.ready.called:
            self.ready.errback(reason)
        user, self.user = self.user, None
        if user is not None:
            user.closed(self, why)

    # What the transport asks of its producer.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self.paused = True
        if self.user is not None:
            self.user.full(self, True)

    def resumeProducing(self) -> None:
        """The transport's buffer is empty again."""
        self.paused = False
        if self.user is not None:
            self.user.full(self, False)

    def stopProducing(self) -> None:
        """The transport is going; C{connectionLost} says the rest."""

    # What its user does.

    def post(self, head: str, body: bytes) -> None:
        """Write a request; C{head} has all lines but that of the length and the empty one."""
        self.transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def close(self) -> None:
        """Close it when all was written."""
        if self.transport is not None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Cut it, and say nothing more of it."""
        self.user = None
        self._decoder.stop()
        if self.transport is not None:
            self.transport.abortConnection()

    def leave(self) -> None:
        """Close it, and say nothing more of it."""
        self.user = None
        self._decoder.stop()
        self.close()

    # What the decoder tells.

    def began(self, head: Head) -> None:
        """Ask whether the body is wanted."""
        self._head = head
        self._text = b""
        user = self.user
        self._wanted = user is not None and user.began(self, head)

    def more(self, data: bytes) -> None:
        """Give it on, or keep the beginning of a text."""
        if not self._wanted:
            self._text += data[: _LONGEST_TEXT - len(self._text)]
        elif self.user is not None:
            self.user.body(self, data)

    def ended(self) -> None:
        """Say so."""
        head, text = self._head, self._text
        self._head, self._text = None, b""
        if self.user is not None and head is not None:
            self.user.answered(self, head, text.decode(errors="replace"))


class Connecting(Factory):
    """Makes one connection."""

    noisy = False

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> HttpConnection:
        """Return the connection."""
        return self._connection
