"""The contract between the wire and everything else.

A L{Link} is a logical peer, not a connection. The carriers (native stream, v1
HTTP, libprocess, in-process) all give links and all keep these promises, each a
test in C{tests.wire.contract.LinkContract}:

  - order is kept;
  - C{connected} comes first, once, when it is settled who the peer is;
  - nothing is delivered after C{lose};
  - C{lost} comes exactly once, on both sides, whoever closed;
  - any fragmentation of the bytes gives the same messages;
  - a record over the limit closes the link and says so;
  - C{congested} follows the transport, and C{congestion} tells of its changes.
"""

from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import Message
from twisted.internet.defer import Deferred

CallID = int
"""A number that a peer gave a message because it wants an answer to it."""


@dataclass(slots=True, frozen=True)
class Taken:
    """The call was taken (202)."""


@dataclass(slots=True, frozen=True)
class Refused:
    """The call was refused: C{status} as in HTTP (400, 403 …), C{why} for people."""

    status: int
    why: str


class CallRefused(Exception):
    """
    The peer refused a call that we made with L{Link.call}.

    @ivar status: as in HTTP: 400 malformed or invalid, 403 not allowed, 404 unknown,
        429 too much, 503 not leading or not ready.
    @ivar why: the peer's words.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"{why} ({status})")
        self.status = status
        self.why = why


class LinkLost(Exception):
    """The link went before the answer came: the call may or may not have been taken."""


class TooManyCalls(Exception):
    """A call was not sent: as many as the link bears wait for their answers already."""


class NotSendable(ValueError):
    """
    A message was not sent: it lacks required fields, has no name on the wire, or is too long.

    The link is as it was before.
    """


class NotAsked(ValueError):
    """An answer was not sent: the peer waits for none under this number, or no longer."""


@dataclass(slots=True, frozen=True)
class Hello:
    """
    What each side says of itself before anything else.

    @ivar role: a C{mesoskit.stream.Role} number: 1 master, 2 agent, 3 framework, 4 executor,
        5 tool.
    @ivar software: name and version, C{"mesoskit/0.1.0"}.
    @ivar epoch: of the leader; 0 where the peer leads nothing.
    @ivar token: an executor's proof, or the ticket of a bulk link.
    @ivar instance: unique for each start of a process.
    @ivar authenticates: whether it dials and will prove who it is before anything else.
    @ivar purpose: what the link is for, a C{mesoskit.stream.Purpose} number: 0 control, 1 bulk.
    @ivar claims: what a token says that a peer over HTTP has shown, as pairs; it was verified, and
        is never taken from a hello itself.
    @ivar bulk: whether it is an agent that dials a bulk link when it is invited to.
    """

    role: int
    software: str = ""
    epoch: int = 0
    # A secret: it must not get into a log with the rest.
    token: str | None = field(default=None, repr=False)
    instance: str = ""
    authenticates: bool = False
    purpose: int = 0
    bulk: bool = False
    claims: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class Link(Protocol):
    """
    One peer, as long as it is there.

    @ivar peer: where it is, for logs.
    @ivar principal: who it proved to be, L{None} where nobody asked.
    @ivar hello: what it said of itself.
    @ivar congested: what was sent has not been taken by the transport yet.
    """

    @property
    def peer(self) -> str:
        """Where it is, for logs."""
        ...

    @property
    def principal(self) -> str | None:
        """Who it proved to be."""
        ...

    @property
    def hello(self) -> Hello:
        """What it said of itself."""
        ...

    @property
    def congested(self) -> bool:
        """Whether the transport is behind."""
        ...

    def send(self, message: Message) -> None:
        """
        Send a message that wants no answer. After the end of the link: nothing happens.

        Raises L{NotSendable}. A peer that takes so little that the carrier's cap is
        reached is cut off; L{Receiver.lost} says so later, not from within this call.
        """
        ...

    def call(self, message: Message) -> "Deferred[None]":
        """
        Send a message that wants an answer.

        The Deferred fires when the peer has taken it; fails with L{CallRefused},
        L{LinkLost}, L{NotSendable} or L{TooManyCalls}. Cancelling it forgets the answer,
        it does not unsend the message.
        """
        ...

    def answer(self, call: CallID, outcome: Taken | Refused) -> None:
        """
        Answer the peer's call; each call is answered once.

        Raises L{NotAsked} for a second answer. After the end of the link: nothing happens.
        """
        ...

    def lose(self, why: str = "") -> None:
        """Close, after what was sent. C{why}, where given, is told to the peer."""
        ...


class Holding(Protocol):
    """
    A L{Link} that comes from somebody who dials us, and can be made to wait.

    All links that a daemon's port makes are such.
    """

    def hold(self, held: bool) -> None:
        """
        Let the receiver hear nothing more for now, and take no more from the peer than there is
        room for; or all of it again, in order. What was said before the end is heard before
        C{lost}.
        """
        ...


class Receiver(Protocol):
    """Who hears a link."""

    def connected(self, link: Link) -> None:
        """The peer is there and settled."""
        ...

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """A message came, whole and initialised; C{call} where an answer is wanted."""
        ...

    def congestion(self, link: Link, congested: bool) -> None:
        """The link's C{congested} has changed."""
        ...

    def lost(self, link: Link, why: str) -> None:
        """The end: exactly once, whoever closed."""
        ...
