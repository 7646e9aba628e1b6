"""What stands around a native session: what it needs from below, and what sessions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from google.protobuf.message import Message

from mesoskit.wire.counters import Counters
from mesoskit.wire.link import Hello, Receiver
from mesoskit.wire.settings import StreamSettings

if TYPE_CHECKING:
    from mesoskit.wire.session import Session


class Carrier(Protocol):
    """What a session needs from below. None of it may call the session's C{closed} at once."""

    def write(self, data: bytes) -> None:
        """Take these bytes, in order."""
        ...

    def close(self) -> None:
        """End the connection when what was written has been taken; call C{closed} then."""
        ...

    def abort(self) -> None:
        """Cut the connection; call C{closed} then."""
        ...

    def reading(self, on: bool) -> None:
        """Read no more from the connection, or go on; C{close} goes on by itself."""
        ...

    def flush_later(self) -> None:
        """Call C{flush} at the end of the turn."""
        ...

    def waits(self, count: int) -> None:
        """So many bytes wait that the transport has not been given yet."""
        ...

    def settling(self) -> None:
        """The peer has said hello: C{settle_timeout} begins, and C{hello_timeout} is over."""
        ...

    def opened(self) -> None:
        """The peer is settled and the receiver knows it."""
        ...


class Settling(Protocol):
    """
    The layer between hello and C{connected}, where peers must prove who they are.

    It is made for one session when the peer's hello is in order, and may refuse it there with
    L{HelloRefused<mesoskit.wire.hellos.HelloRefused>}. From C{start} on it may send, and ends
    with L{Session.settled}, L{Session.refuse} or L{Session.lose}; C{settle_timeout} limits it.
    Nothing tells it that the connection is gone: what it does to the session then has no effect.
    """

    def start(self) -> None:
        """Both sides have said hello."""
        ...

    def received(self, message: Message) -> None:
        """A message came before the peer was settled."""
        ...


Receivers = Receiver | Callable[[], Receiver]
"""One receiver for all links, or what makes one for each (a class, a function)."""


Settle = Callable[["Session"], Settling]
"""
Makes the settling layer of a session whose peer has said a hello that is in order, or refuses
the peer with L{HelloRefused<mesoskit.wire.hellos.HelloRefused>}.
"""


class SessionPlan:
    """
    What all sessions of a factory share.

    @ivar receiver: makes the receiver of a link when its peer is settled.
    @ivar others: the same for links that are not for control, by their purpose; links of any
        other purpose are refused.
    @ivar hello: what this side says of itself; may be replaced, later links say the new one.
    @ivar accept: the roles a peer may have, numbers of L{Role}; L{None} for any known one.
    @ivar settings: limits and times.
    @ivar counters: where everything is counted.
    @ivar settle: what settles a peer's principal; L{None} where nobody is asked.
    @ivar dials: whether this side dials, and so says hello first. The other side answers
        with its own when it has accepted the first, or with an error: so a link that is
        open to who dialled is one that was not refused.
    """

    __slots__ = (
        "accept",
        "counters",
        "dials",
        "hello",
        "others",
        "purposes",
        "receiver",
        "settings",
        "settle",
        "span",
    )

    def __init__(
        self,
        receiver: Receivers,
        hello: Hello,
        accept: Iterable[int] | None,
        settings: StreamSettings,
        counters: Counters,
        settle: Settle | None,
        dials: bool,
        others: Mapping[int, Receivers] | None = None,
    ) -> None:
        self.receiver = _maker(receiver)
        self.others = {purpose: _maker(other) for purpose, other in (others or {}).items()}
        self.purposes = frozenset({0, *self.others})
        self.hello = hello
        self.accept = None if accept is None else frozenset(accept)
        self.settings = settings
        self.counters = counters
        self.settle = settle
        self.dials = dials
        # Who visits a session: one visit finds that nothing was sent since the last, the
        # next one sends, so two visits make a heartbeat.
        self.span = settings.heartbeat / 2


def _maker(receiver: Receivers) -> Callable[[], Receiver]:
    # A class has the attribute too.
    if isinstance(receiver, type) or not hasattr(receiver, "received"):
        return cast(Callable[[], Receiver], receiver)
    one = cast(Receiver, receiver)
    return lambda: one
