"""Connections whose other end may be gone without a word.

Over HTTP only the server sends heartbeats. A client that does not hear them notices; a server whose
client does not hear them does not, or only when the system has given up sending them again,
after a quarter of an hour. So the system is told how long that may last: it knows what arrived,
for the other machine says so, and what is said is lost where either direction is cut.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from twisted.internet.interfaces import ITCPTransport

LONGEST: Final = 120.0
"""Seconds after which a peer whose machine acknowledges nothing is gone: 8 heartbeats."""

_IDLE: Final = 60
_EVERY: Final = 15


def notice(transport: Any, longest: float = LONGEST) -> None:
    """
    Let a connection break when its other end is gone, though nobody said so.

    What was sent and not acknowledged within C{longest} seconds ends it; where nothing
    is sent the system asks by itself, after a minute. Nothing is done to what is not TCP.

    @param transport: of the connection, with or without TLS.
    """
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpKeepAlive(True)
    handle = getattr(transport, "socket", None)
    if not isinstance(handle, socket.socket):
        return
    idle = min(_IDLE, max(1, int(longest / 2)))
    every = min(_EVERY, max(1, int(longest / 8)))
    # Each of these is Linux' own; elsewhere the system's defaults have to do.
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPINTVL", every),
        ("TCP_KEEPCNT", max(1, round((longest - idle) / every))),
        ("TCP_USER_TIMEOUT", int(longest * 1000)),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
