"""The v1 APIs from the client's side: dialling a master over HTTP.

What comes of it is a L{mesoskit.wire.link.Link} like any other, and what is at the other end may
be Apache Mesos: nothing is used but what its documentation of the v1 API promises
(C{docs/scheduler-http-api.md}).
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.auth.credentials import Credential, CredentialError
from mesoskit.wire.counters import Counters
from mesoskit.wire.link import Hello, Link, Receiver
from mesoskit.wire.media import PROTOBUF
from mesoskit.wire.stream import DialFailed
from mesoskit.wire.v1_client_connection import Connecting, HttpConnection
from mesoskit.wire.v1_client_link import V1ClientLink
from mesoskit.wire.v1_client_place import HttpPlace, Secure
from mesoskit.wire.v1_client_plan import Api, ClientPlan, V1ClientSettings

SCHEDULER: Final = Api("/api/v1/scheduler", Call, Event, lambda call: call.type == Call.SUBSCRIBE)
"""The API that a master has for frameworks."""

_DEFAULTS: Final = V1ClientSettings()

_MASTER: Final = Hello(1)


def dial(
    place: HttpPlace | str,
    receiver: Receiver,
    *,
    reactor: Any,
    api: Api = SCHEDULER,
    media: str = PROTOBUF,
    credential: Credential | None = None,
    secure: Secure | None = None,
    software: str = "mesoskit",
    hello: Hello = _MASTER,
    settings: V1ClientSettings | None = None,
    counters: Counters | None = None,
) -> Deferred[Link]:
    """
    Dial a v1 API; fires when there is a connection, over TLS a proven one, and C{receiver} knows
    of it.

    Fails with L{DialFailed<mesoskit.wire.stream.DialFailed>}; cancelling it cuts the connection.
    Where nothing comes about C{receiver} hears nothing. Raises
    L{EndpointError<mesoskit.wire.endpoints.EndpointError>} where the place is no address.

    Redirects to a master that leads are followed when the stream is asked for. The server's
    refusals are those of the calls: 307 of a master that leads no more, 401, 503 and so on.

    @param reactor: dials, and tells the time.
    @param media: what calls and events are written in.
    @param credential: goes with each call as HTTP's Basic authentication.
    @param secure: how TLS is spoken to C{https} places.
    @param software: how this side is called in C{User-Agent}.
    @param hello: what the link says of its peer, who says nothing of itself here.
    """
    there = HttpPlace.parse(place) if isinstance(place, str) else place
    chosen = settings or _DEFAULTS

    def connect(to: HttpPlace) -> Deferred[HttpConnection]:
        return _connect(to, reactor, secure, chosen.dial_timeout)

    plan = ClientPlan(
        api,
        receiver,
        hello,
        reactor,
        connect,
        media,
        software,
        chosen,
        Counters() if counters is None else counters,
        None if credential is None else basic(credential),
    )

    def connected(connection: HttpConnection) -> Link:
        link = V1ClientLink(plan, there, connection)
        receiver.connected(link)
        return link

    def failed(reason: Failure) -> Failure:
        raise DialFailed(str(there), reason.getErrorMessage())

    return connect(there).addCallbacks(connected, failed)


def basic(credential: Credential) -> str:
    """
    Return the C{Authorization} header that proves who somebody is (RFC 7617).

    Raises L{CredentialError<mesoskit.wire.auth.credentials.CredentialError>} where the principal
    has a colon in it, which ends it there.
    """
    if ":" in credential.principal:
        raise CredentialError(
            f"principal {credential.principal!r} has a colon in it, which Basic authentication"
            " cannot say"
        )
    pair = f"{credential.principal}:{credential.secret}".encode()
    return "Basic " + b64encode(pair).decode("ascii")


def _connect(
    place: HttpPlace, reactor: Any, secure: Secure | None, timeout: float
) -> Deferred[HttpConnection]:
    connection = HttpConnection(place.secure)
    dialling: Deferred[Any] = place.endpoint(reactor, secure).connect(Connecting(connection))
    dialling.addCallback(lambda _: connection.ready)
    result: Deferred[HttpConnection] = dialling.addTimeout(timeout, reactor, _late(timeout))
    return result


def _late(timeout: float) -> Any:
    def late(result: object, seconds: float) -> object:
        if isinstance(result, Failure):
            raise TimeoutError(f"not there within {timeout:g} s")
        return result

    return late
