"""What stands around a v1 client's link: its limits, the API it speaks, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

from mesoskit.wire.counters import Counters
from mesoskit.wire.link import Hello, Receiver
from mesoskit.wire.v1_client_connection import HttpConnection
from mesoskit.wire.v1_client_place import HttpPlace


@dataclass(slots=True, frozen=True)
class V1ClientSettings:
    """
    Limits and times of a v1 client; all times are seconds.

    @ivar record_limit: the longest event taken, in bytes.
    @ivar body_limit: the longest call sent, in bytes.
    @ivar high_water: from so many bytes that the server does not take on, the link is congested.
    @ivar low_water: below so many it is not any more.
    @ivar outbound_cap: beyond so many the link is given up.
    @ivar maximum_calls: calls that may wait for their answers.
    @ivar dial_timeout: how long a connection may take to come about, TLS included.
    @ivar answer_timeout: a server that answers nothing for so long, though it owes answers, is
        given up.
    @ivar linger: how long answers are waited for when the link ends.
    """

    record_limit: int = 64 * 1024 * 1024
    body_limit: int = 16 * 1024 * 1024
    high_water: int = 1024 * 1024
    low_water: int = 256 * 1024
    outbound_cap: int = 32 * 1024 * 1024
    maximum_calls: int = 10_000
    dial_timeout: float = 15.0
    answer_timeout: float = 60.0
    linger: float = 2.0


@dataclass(slots=True, frozen=True)
class Api:
    """
    Which v1 API a client speaks.

    @ivar path: where it is, if the server's address names no path.
    @ivar opens: says whether a call asks for the stream.
    """

    path: str
    call_class: type[Message]
    event_class: type[Message]
    opens: Callable[[Any], bool]


@dataclass(slots=True, frozen=True)
class ClientPlan:
    """
    What a link needs from around it.

    @ivar connect: opens one more connection to a place.
    @ivar media: what calls and events are written in.
    @ivar authorization: the C{Authorization} header, L{None} where none is sent.
    """

    api: Api
    receiver: Receiver
    hello: Hello
    clock: Any
    connect: Callable[[HttpPlace], Deferred[HttpConnection]]
    media: str
    software: str
    settings: V1ClientSettings
    counters: Counters
    authorization: str | None = field(default=None, repr=False)
