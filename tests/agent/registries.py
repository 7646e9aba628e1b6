"""A registry of images for tests: an OCI layout behind the API of registries.

https://github.com/opencontainers/distribution-spec; as much of it as pulling needs.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.agent.real import REACTOR, until

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class _PlainSite(Site):
    """A site that closes connections on which TLS is tried, as skopeo does first."""

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = super().buildProtocol(addr)
        take = protocol.dataReceived

        def received(data: bytes) -> None:
            if data[:1] == b"\x16":
                protocol._channel.transport.loseConnection()
            else:
                take(data)

        protocol.dataReceived = received
        return protocol


class Registry(Resource):
    """
    One image, whatever it is called.

    @ivar asked: the paths that were asked for.
    @ivar slow: whether layers come in two halves, the second one when L{go_on} is called.
    """

    isLeaf = True

    def __init__(
        self,
        layout: str,
        user: str = "",
        password: str = "",
        listening: socket.socket | None = None,
    ) -> None:
        """@param listening: in place of a socket of its own; it is closed with the registry."""
        super().__init__()
        self.asked: list[str] = []
        self.slow = False
        self._held: list[Any] = []
        self._blobs = Path(layout, "blobs", "sha256")
        index = json.loads(Path(layout, "index.json").read_text())
        self._manifest = index["manifests"][0]["digest"].partition(":")[2]
        token = b64encode(f"{user}:{password}".encode()).decode()
        self._wanted = f"Basic {token}" if user else None
        site = _PlainSite(self)
        if listening is None:
            self._port = REACTOR.listenTCP(0, site, interface="127.0.0.1")
        else:
            self._port = REACTOR.adoptStreamPort(listening.fileno(), listening.family, site)
            listening.close()
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    async def close(self) -> None:
        """Stop listening, and leave nobody connected."""
        self.go_on()
        await maybeDeferred(self._port.stopListening)
        for connection in self._connections():
            connection.abortConnection()
        await until(lambda: not self._connections())

    def _connections(self) -> list[Any]:
        there = {*REACTOR.getReaders(), *REACTOR.getWriters()}
        return [each for each in there if getattr(each, "server", None) is self._port]

    def go_on(self) -> None:
        """Send what was held back."""
        held, self._held = self._held, []
        for request, rest in held:
            request.write(rest)
            request.finish()

    def render(self, request: Any) -> Any:
        """Answer."""
        path = request.path.decode()
        self.asked.append(path)
        if self._wanted is not None and request.getHeader("authorization") != self._wanted:
            request.setResponseCode(401)
            request.setHeader("www-authenticate", 'Basic realm="test"')
            return b""
        kind, _, name = path.rpartition("/")
        if kind.endswith("/manifests"):
            request.setHeader("content-type", _MANIFEST)
            request.setHeader("docker-content-digest", f"sha256:{self._manifest}")
            return (self._blobs / self._manifest).read_bytes()
        if kind.endswith("/blobs"):
            data = (self._blobs / name.partition(":")[2]).read_bytes()
            if self.slow and data[:2] == b"\x1f\x8b":
                request.setHeader("content-length", str(len(data)))
                half = len(data) // 2
                request.write(data[:half])
                self._held.append((request, data[half:]))
                request.notifyFinish().addErrback(lambda _: self._held.clear())
                return NOT_DONE_YET
            return data
        return b"{}"
