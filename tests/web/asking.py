"""A client of a daemon's port in memory, as simple as curl."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


@dataclass
class Answer:
    """
    What came back.

    @ivar status: 0 where the connection was closed without an answer.
    @ivar headers: by their names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, unzipped if need be."""
        zipped = self.headers.get("content-encoding") == "gzip"
        return json.loads(gzip.decompress(self.body) if zipped else self.body)


def ask(port: Any, request: str, turn: Callable[[], None], body: str = "", **more: str) -> Answer:
    """
    Ask a port (a L{mesoskit.wire.port.PortFactory}) something, on a connection of its own.

    @param request: method and path.
    @param turn: lets the daemon go on.
    @param more: further headers, C{_} for C{-}.
    """
    protocol = port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
    transport = StringTransport()
    protocol.makeConnection(transport)
    headers = {"Host": "x", "Content-Length": str(len(body)), **more}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    protocol.dataReceived(f"{request} HTTP/1.1\r\n{lines}\r\n{body}".encode())
    turn()
    # Whoever has an answer leaves.
    protocol.connectionLost(Failure(ConnectionDone()))
    if not transport.value():
        return Answer(0, {}, b"")
    head, _, answer = transport.value().partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    found = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    return Answer(int(first.split()[1]), found, answer)
