"""Plain HTTP to daemons: a connection a request, with a time-out."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.cluster.waiting import reactor

LIMIT = 16 * 1024 * 1024


class Conversation(Protocol):
    """
    Says some bytes and collects the answer until the connection is closed.

    @ivar heard: what came so far.
    @ivar over: fires with all of it.
    """

    def __init__(self, say: bytes = b"") -> None:
        self._say = say
        self.heard = b""
        self.over: Deferred[bytes] = Deferred(lambda _: self.abort())
        self.open = False

    def connectionMade(self) -> None:
        self.open = True
        if self._say:
            self.say(self._say)

    def say(self, data: bytes) -> None:
        """Write more."""
        if self.open and self.transport is not None:
            self.transport.write(data)

    def abort(self) -> None:
        """Break the connection off."""
        if self.open and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if len(self.heard) > LIMIT:
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        if not self.over.called:
            self.over.callback(self.heard)


async def converse(port: int, say: bytes = b"", timeout: float = 60.0) -> Conversation:
    """Return a connection to a port of 127.0.0.1."""
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", port, timeout=timeout)
    conversation: Conversation = await connectProtocol(endpoint, Conversation(say))
    return conversation


async def exchange(port: int, say: bytes, timeout: float = 60.0) -> bytes:
    """Say something to a port and return all that is answered until it is closed."""
    conversation = await converse(port, say, timeout)
    return await conversation.over.addTimeout(timeout, reactor)


async def get(
    port: int, path: str, timeout: float = 60.0, authorization: str = ""
) -> tuple[int, bytes]:
    """Return status and body of a GET."""
    shown = f"Authorization: {authorization}\r\n" if authorization else ""
    request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{shown}Connection: close\r\n\r\n"
    answer = await exchange(port, request.encode(), timeout)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2:
        raise ConnectionDone(f"no answer to GET {path} but {answer[:100]!r}")
    return int(words[1]), body


async def metrics(port: int, authorization: str = "") -> dict[str, Any]:
    """Return a daemon's metrics."""
    status, body = await get(port, "/metrics/snapshot", authorization=authorization)
    if status != 200:
        raise AssertionError(f"/metrics/snapshot answers {status}")
    return dict(json.loads(body))
