"""Masters and agents as commands ask them: over HTTP, one question after the other."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from mesoskit.messages import master_pb2
from mesoskit.messages.codec import Malformed, decode_as
from mesoskit.wire import media

if TYPE_CHECKING:
    from mesoskit.cli.command_line import Line

PATIENCE: Final = 30.0
"""Seconds that an answer may take to begin, and that it may pause."""

REDIRECTIONS: Final = 5

_MASTER: Final = "/master/api/v1"
"""Where masters take calls and agents do not: both would read the other's as one of their own."""


class CannotBeDone(Exception):
    """What a command is there for; the message says why, in one line."""


class NotNow(CannotBeDone):
    """Nobody is there who could do it, or nobody leads: later it may be otherwise."""


class Server:
    """
    A master or an agent.

    @param address: C{host:port}, or a URL.
    @param line: says who asks, and whom to believe.
    @param path: where it takes calls.
    """

    def __init__(self, address: str, line: Line, path: str = "/api/v1") -> None:
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https"):
            raise CannotBeDone(f"cannot ask {address!r}: host:port or https://host:port is wanted")
        try:
            self.port = parts.port or 5050
        except ValueError as error:
            raise CannotBeDone(f"cannot ask {address!r}: {error}") from None
        self.host = parts.hostname or ""
        self.secure = parts.scheme == "https"
        self.line = line
        self.path = path

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection to it. Raises L{CannotBeDone}."""
        values = self.line.values
        connection: http.client.HTTPConnection
        if self.secure:
            try:
                context = ssl.create_default_context(cafile=values.tls_ca_file)
                if values.tls_cert_file is not None:
                    context.load_cert_chain(values.tls_cert_file, values.tls_key_file)
            except OSError as error:
                raise CannotBeDone(f"--tls_ca_file, --tls_cert_file: {error}") from None
            connection = http.client.HTTPSConnection(
                self.host, self.port, timeout=PATIENCE, context=context
            )
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.connect()
        except OSError as error:
            why = str(error)
            broken = isinstance(error, (ssl.SSLError, ConnectionResetError))
            if self.secure and broken and not isinstance(error, ssl.SSLCertVerificationError):
                why += f"; if it speaks no TLS: http://{self.host}:{self.port}"
            raise NotNow(f"cannot reach {self.host}:{self.port}: {why}") from None
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def headers(self, **more: str) -> dict[str, str]:
        """Return the headers of a request; C{_} in names stands for C{-}."""
        found = {name.replace("_", "-"): value for name, value in more.items()}
        values = self.line.values
        if values.principal is not None:
            pair = f"{values.principal}:{values.secret}".encode()
            found["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        return found

    def begin(self, call: Any, **headers: str) -> http.client.HTTPResponse:
        """
        Make a call, and return the answer where it is 200; it may be silent for as long as it
        likes. Raises L{CannotBeDone}.
        """
        connection, response = self._begin(call, headers)
        if connection.sock is not None:
            connection.sock.settimeout(None)
        return response

    def ask(self, call: Any, kind: Any) -> Any:
        """Make a call, and return the message that is its answer. Raises L{CannotBeDone}."""
        try:
            return decode_as(kind, self.answer(call, media.PROTOBUF))
        except Malformed as error:
            raise CannotBeDone(f"{self.host}:{self.port} answered {error}") from None

    def answer(self, call: Any, accept: str) -> bytes:
        """Make a call, and return the whole answer, in that type. Raises L{CannotBeDone}."""
        _, response = self._begin(call, {"Accept": accept})
        return self._read(response)

    def shown(self, path: str) -> Any:
        """Return what an endpoint shows, JSON. Raises L{CannotBeDone}."""
        connection = self.connect()
        response = self._response(connection, "GET", path, None, self.headers(), path)
        try:
            return json.loads(self._read(response))
        except ValueError as error:
            raise CannotBeDone(f"{self.host}:{self.port}{path} shows no JSON: {error}") from None

    def _begin(
        self, call: Any, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self.connect()
        asked = self.headers(Content_Type=media.PROTOBUF, **headers)
        name = type(call).Type.Name(call.type)
        body = call.SerializeToString()
        return connection, self._response(connection, "POST", self.path, body, asked, name)

    def _response(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        what: str,
    ) -> http.client.HTTPResponse:
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            why = str(error)
            if not self.secure and isinstance(error, ConnectionError):
                why += f"; if it speaks TLS: https://{self.host}:{self.port}"
            raise NotNow(f"{self.host}:{self.port} did not answer: {why}") from None
        if response.status in (307, 308):
            response.close()
            raise Elsewhere(response.headers.get("Location", ""))
        if response.status != 200:
            with response:
                raise self._refused(response, what)
        return response

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            with response:
                return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotNow(
                f"{self.host}:{self.port} has left in the middle of its answer: {error}"
            ) from None

    def _refused(self, response: http.client.HTTPResponse, what: str) -> CannotBeDone:
        """Return what a refusal means to whoever has asked."""
        where, status = f"{self.host}:{self.port}", response.status
        if status == 404 and self.path == _MASTER and what.startswith("GET_"):
            return CannotBeDone(f"{where} is no master: nothing is at {_MASTER}")
        try:
            said = response.read(4096).decode(errors="replace").strip() or response.reason
        except (OSError, http.client.HTTPException):
            said = response.reason
        who = self.line.values.principal
        if status == 401:
            if who is None:
                why = f"{where} wants to know who asks: --principal and --secret say it"
            else:
                why = f"{where} does not believe principal {who!r} with that secret"
            return CannotBeDone(why)
        if status == 403 and who is None:
            said = f"{what} is not for everybody; --principal and --secret say who asks ({said})"
        elif status == 403:
            said = f"{what} is not for principal {who!r} ({said})"
        if status == 501 and what not in said:
            said = f"{said}: {what} is not there"
        return (NotNow if status == 503 else CannotBeDone)(f"{where} answered {status}: {said}")


class Elsewhere(NotNow):
    """Another master leads."""

    def __init__(self, location: str) -> None:
        super().__init__(f"the master sends us on to {location!r}")
        self.location = location


class Master:
    """The master that leads, whichever it is. Everything raises L{CannotBeDone}."""

    def __init__(self, line: Line) -> None:
        self._line = line
        # Only here: most are asked at an address.
        from mesoskit.cli.leading import leading

        self._server = Server(leading(line.master), line, _MASTER)

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._server.secure

    def look_again(self) -> None:
        """Find out who leads now, where the one that was asked does not answer any more."""
        from mesoskit.cli.leading import leading_again

        self._server = Server(leading_again(self._line.master), self._line, _MASTER)

    def ask(self, name: str) -> Any:
        """Return what is answered to a call that needs no more than its name."""
        return self._led(lambda server: server.ask(master_pb2.Call(type=name), master_pb2.Response))

    def json(self, name: str) -> str:
        """Return the same as JSON, as it came."""
        call = master_pb2.Call(type=name)
        if name == "GET_METRICS":  # whose part may be empty, but not absent
            call.get_metrics.SetInParent()
        answer: bytes = self._led(lambda server: server.answer(call, media.JSON))
        return answer.decode(errors="replace")

    def do(self, call: master_pb2.Call) -> None:
        """Make a call that changes something."""
        self._led(lambda server: server.answer(call, media.JSON))

    def shown(self, path: str) -> Any:
        """Return what an endpoint shows."""
        return self._led(lambda server: server.shown(path))

    def _led(self, ask: Any) -> Any:
        for _ in range(REDIRECTIONS):
            try:
                return ask(self._server)
            except Elsewhere as elsewhere:
                location = elsewhere.location
                if location.startswith("//"):
                    location = f"http{'s' if self._server.secure else ''}:{location}"
                leader = Server(location, self._line, _MASTER)
                if self._server.secure and not leader.secure:
                    # Who asks, and by what secret, is not for everybody on the way.
                    raise CannotBeDone(
                        f"{self._server.host}:{self._server.port} sends us on to {location!r},"
                        " without TLS: not asked"
                    ) from None
                self._server = leader
        raise NotNow("one master sends us on to the other: none of them leads")
