"""Where the master is: addresses, endpoints, and whatever else knows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IStreamClientEndpoint

from mesoskit import __version__
from mesoskit.driver.connection import Dial
from mesoskit.wire.endpoints import EndpointError, client_endpoint
from mesoskit.wire.link import Hello, Link, Receiver
from mesoskit.wire.stream import dial

Place = str | IStreamClientEndpoint
"""C{"127.0.0.1:5050"}, an endpoint string of Twisted's, or an endpoint."""


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


MASTER_ROLE: Final = 1
FRAMEWORK_ROLE: Final = 3
SOFTWARE: Final = f"mesoskit/{__version__}"


def hello() -> Hello:
    """Return what a framework's driver says of itself; new for each driver."""
    return Hello(FRAMEWORK_ROLE, SOFTWARE, instance=secrets.token_hex(8))


def dialler(reactor: Any, master: Master) -> Dial:
    """
    Return what dials the master.

    Raises L{EndpointError<mesoskit.wire.endpoints.EndpointError>} where an address is wrong.
    """
    locate = _locator(reactor, master)
    ours = hello()

    def attempt(receiver: Receiver) -> Deferred[Link]:
        return maybeDeferred(locate).addCallback(
            lambda place: dial(place, receiver, ours, clock=reactor, accept=[MASTER_ROLE])
        )

    return attempt


def _locator(reactor: Any, master: Master) -> Callable[[], Any]:
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
            client_endpoint(reactor, place)
    turns = cycle(places)
    return lambda: next(turns)


def _leader(place: str | None) -> str:
    if place is None:
        raise NoLeader("no master leads at the moment")
    return place


def _addresses(text: str) -> list[str]:
    if "://" in text:
        raise EndpointError(text, "a detector is needed for this; 127.0.0.1:5050 would do without")
    # An endpoint string may have commas of its own; a list of addresses has no equals sign.
    return [text] if "=" in text else [part.strip() for part in text.split(",")]
