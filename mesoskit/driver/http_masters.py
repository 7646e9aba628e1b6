"""Masters that are spoken to over Mesos' v1 HTTP API, Apache Mesos' own among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.auth.credentials import Credential, CredentialError
from mesoskit.wire.link import Link, Receiver
from mesoskit.wire.media import JSON, PROTOBUF
from mesoskit.wire.v1_client import basic, dial
from mesoskit.wire.v1_client_place import HttpPlace, Secure
from mesoskit.wire.v1_client_plan import V1ClientSettings

_IN_THE_CLEAR = "CRAM-MD5"


def http_dialler(
    reactor: Any,
    credential: Callable[[], Credential | None],
    settings: DriverSettings,
    secure: Secure | None,
    software: str,
) -> Callable[[str, Receiver], Deferred[Link]]:
    """
    Return what dials a master at an C{http://} or C{https://} address.

    @param credential: gives who the framework is at the moment of dialling.
    @param secure: how TLS is spoken; by default as the machine's own certificates have it.
    """
    limits = V1ClientSettings(
        record_limit=settings.http_record_limit, answer_timeout=settings.call_timeout
    )

    def attempt(text: str, receiver: Receiver) -> Deferred[Link]:
        ours = credential()
        place = check_place(text, ours, settings)
        return dial(
            place,
            receiver,
            reactor=reactor,
            media=JSON if settings.http_json else PROTOBUF,
            credential=ours,
            secure=secure,
            software=software,
            settings=limits,
        )

    return attempt


def check_place(text: str, credential: Credential | None, settings: DriverSettings) -> HttpPlace:
    """
    Return the place at an address.

    Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>} where it is none, and
    L{CredentialError} where the credential cannot go there: HTTP's Basic authentication shows
    the secret to everybody on the way, unless there is TLS, and so it is not used by frameworks
    that ask for more than Mesos' own masters can do.
    """
    place = HttpPlace.parse(text)
    if credential is not None:
        basic(credential)
        if not place.secure and settings.minimum_mechanism != _IN_THE_CLEAR:
            raise CredentialError(
                f"to {place} a secret would go unencrypted, and minimum_mechanism is"
                f" {settings.minimum_mechanism}; https:// would do"
            )
    return place
