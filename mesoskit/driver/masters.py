"""Where the master is: addresses, endpoints, and whatever else knows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from mesoskit import __version__
from mesoskit.driver.connection import Dial
from mesoskit.driver.elected import ElectedDial, detector_of, is_elected
from mesoskit.driver.http_masters import check_place, http_dialler
from mesoskit.driver.settings import DriverSettings
from mesoskit.wire.auth.admission import UNAUTHENTICATED
from mesoskit.wire.auth.authenticatee import Authenticatee
from mesoskit.wire.auth.credentials import Credential, PrivateFile, credential_file
from mesoskit.wire.auth.identity import AuthenticationRefused, Identity
from mesoskit.wire.endpoints import EndpointError, client_endpoint
from mesoskit.wire.link import Hello, Link, Receiver
from mesoskit.wire.stream import DialFailed, dial
from mesoskit.wire.v1_client_place import is_http

if TYPE_CHECKING:
    from mesoskit.wire.tls import TLS

Place = str | IStreamClientEndpoint
"""
C{"127.0.0.1:5050"}, an endpoint string of Twisted's, or an endpoint: a master of mesoskit, over
its native stream. C{"http://127.0.0.1:5050"} or C{"https://..."}: any master of Mesos', over
its v1 HTTP API. C{"zk://10.0.0.1:2181,10.0.0.2:2181/mesos"}: the one that masters have elected
there; C{"http+zk://..."} or C{"https+zk://..."}: likewise, over HTTP. C{"file:///path"}: what the
file says.
"""


class Detector(Protocol):
    """Knows where the leading master is (Mesos' C{MasterDetector})."""

    def detect(self, previous: str | None) -> Deferred[str | None]:
        """Fire when the leading master is not C{previous} any more, with its endpoint as text."""
        ...


Master = Place | Iterable[str] | Detector | Callable[[], Any]
"""
Where the master is: a L{Place}; several addresses, as an iterable or as text with commas,
which are tried in turn; a L{Detector}, which is asked before each attempt; or any function that
returns a L{Place} or a Deferred of one.
"""


class NoLeader(Exception):
    """The detector says that no master leads."""


_DEFAULTS: Final = DriverSettings()

_LONGEST_FILE: Final = 65536

MASTER_ROLE: Final = 1
FRAMEWORK_ROLE: Final = 3
SOFTWARE: Final = f"mesoskit/{__version__}"


def hello() -> Hello:
    """Return what a framework's driver says of itself; new for each driver."""
    return Hello(FRAMEWORK_ROLE, SOFTWARE, instance=secrets.token_hex(8))


Secret = Credential | PrivateFile[Credential]
"""A credential, or a file of it that may change."""


def credential_of(given: Credential | str | Path | None) -> Secret | None:
    """
    Return what a framework's author means by a credential, where it is a path too.

    Raises L{CredentialError<mesoskit.wire.auth.credentials.CredentialError>}.
    """
    return credential_file(str(given)) if isinstance(given, str | Path) else given


def principal_of(secret: Secret | None) -> str | None:
    """Return whose it is."""
    return (
        secret.current().principal
        if isinstance(secret, PrivateFile)
        else (None if secret is None else secret.principal)
    )


def dialler(
    reactor: Any,
    master: Master,
    secret: Secret | None = None,
    settings: DriverSettings = _DEFAULTS,
    tls: TLS | None = None,
    instance: Callable[[], str] | None = None,
) -> Dial:
    """
    Return what dials the master.

    Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>} where an address is wrong.
    What it returns fails with
    L{AuthenticationRefused<mesoskit.wire.auth.identity.AuthenticationRefused>} where the master
    does not believe the credential, or wants one where there is none.

    @param tls: with what places that are text are dialled.
    @param instance: gives what is unique for each start of the framework.
    """
    ours = hello()
    credential = _current(secret)
    dial_as = dial if secret is None else _identity(secret, settings, ours).dial
    over_http = http_dialler(
        reactor, credential, settings, None if tls is None else tls.client, SOFTWARE
    )

    def check(place: str) -> None:
        if is_http(place):
            check_place(place, credential(), settings)
        else:
            client_endpoint(reactor, place)

    def dial_place(place: Place, receiver: Receiver) -> Deferred[Link]:
        if isinstance(place, str) and is_http(place):
            return over_http(place, receiver)
        says = ours if instance is None else replace(ours, instance=instance())
        return dial_as(place, receiver, says, clock=reactor, accept=[MASTER_ROLE], tls=tls)

    def dial_wanted(place: Place, receiver: Receiver) -> Deferred[Link]:
        return dial_place(place, receiver).addErrback(_wanted, secret)

    if isinstance(master, str):
        master = _read(master)
        if is_elected(master):
            make = detector_of(reactor, master, settings, tls is not None)
            return ElectedDial(reactor, make, dial_wanted)
    locate = _locator(master, check)

    def attempt(receiver: Receiver) -> Deferred[Link]:
        return maybeDeferred(locate).addCallback(dial_place, receiver).addErrback(_wanted, secret)

    return attempt


def _current(secret: Secret | None) -> Callable[[], Credential | None]:
    """Return what tells who the framework is now: a file may have changed."""
    return secret.current if isinstance(secret, PrivateFile) else lambda: secret


def _identity(secret: Secret, settings: DriverSettings, ours: Hello) -> Identity:
    return Identity(
        Authenticatee(
            secret.current if isinstance(secret, PrivateFile) else secret,
            settings.minimum_mechanism,
        ),
        f"scheduler-{ours.instance}",
        settings.authentication,
    )


def _wanted(reason: Failure, secret: Secret | None) -> Failure:
    """Tell a master that wants a credential from one that is not there."""
    error = reason.value
    if secret is None and isinstance(error, DialFailed) and error.status == UNAUTHENTICATED:
        raise AuthenticationRefused("the master", error.why)
    return reason


def _locator(master: Master, check: Callable[[str], None]) -> Callable[[], Any]:
    if isinstance(master, str):
        places: list[Any] = _addresses(master)
    elif IStreamClientEndpoint.providedBy(master):
        places = [master]
    elif hasattr(master, "detect"):
        return lambda: master.detect(None).addCallback(_leader)
    elif callable(master):
        return master
    else:
        places = list(master)
    for place in places:
        if isinstance(place, str):
            # Now rather than at every attempt.
            check(place)
    turns = cycle(places)
    return lambda: next(turns)


def _leader(place: str | None) -> str:
    if place is None:
        raise NoLeader("no master leads at the moment")
    return place


def _read(text: str) -> str:
    """Return what a C{file://} says, or the text itself. Raises L{EndpointError}."""
    if not text.startswith("file://"):
        return text
    try:
        with Path(text.removeprefix("file://")).open(encoding="utf-8") as file:
            return file.read(_LONGEST_FILE).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(text, f"the file cannot be read: {error}") from None


def _addresses(text: str) -> list[str]:
    if is_http(text):
        return [part.strip() for part in text.split(",")]
    if "://" in text:
        raise EndpointError(text, "a detector is needed for this; 127.0.0.1:5050 would do without")
    # An endpoint string may have commas of its own; a list of addresses has no equals sign.
    return [text] if "=" in text else [part.strip() for part in text.split(",")]
