"""What every daemon's state hears and answers.

A state is changed only by C{handle(now, event) -> list[Effect]}. The events and
effects here are those that master and agent share; each room adds its own
beside them. All are plain slotted records: a service performs effects by their
class and never looks further.

The order of effects in a list is the order in which they are performed. What
stands behind a L{Store} waits until the store has answered; so does everything
of later turns (L{mesoskit.cluster.turns}), except what is marked C{urgent}.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from mesoskit.model.ids import PeerId


class PeerKind(IntEnum):
    """Who is at the other end of a link; the numbers are those of C{mesoskit.stream.Role}."""

    UNKNOWN = 0
    MASTER = 1
    AGENT = 2
    FRAMEWORK = 3
    EXECUTOR = 4
    TOOL = 5


@dataclass(slots=True)
class Connected:
    """
    A peer is there, and who it is has been settled.

    @ivar address: where it is, for logs and C{pid} fields (C{"10.0.0.7:43122"}).
    @ivar principal: who it proved to be, or L{None} where nobody asked.
    @ivar token: what an executor showed at the agent's door.
    @ivar claims: what a token says that was shown over HTTP, as pairs.
    @ivar epoch: the leader's epoch that the peer announced (a master), 0 for none.
    @ivar instance: unique for each start of a peer, C{""} where it does not say.
    """

    peer: PeerId
    kind: PeerKind
    address: str
    principal: str | None = None
    token: str | None = None
    epoch: int = 0
    claims: tuple[tuple[str, str], ...] = ()
    instance: str = ""


@dataclass(slots=True)
class Received:
    """A message came. C{call} is set where the peer wants an L{Answer}."""

    peer: PeerId
    message: Any
    call: int | None = None


@dataclass(slots=True)
class Lost:
    """The link is gone; nothing more comes from this peer and nothing reaches it."""

    peer: PeerId
    why: str = ""


@dataclass(slots=True)
class Congestion:
    """The link to a peer is full (C{True}) or drains again (C{False})."""

    peer: PeerId
    congested: bool


@dataclass(slots=True)
class Woke:
    """The moment that the state named as its C{deadline} has come."""


@dataclass(slots=True)
class Recovered:
    """What the store held at start: the first event of every state. Keys as in L{Store}."""

    snapshot: dict[str, bytes]


@dataclass(slots=True)
class StoreFailed:
    """The store refused or lost these changes; nothing that stood behind them was sent."""

    changes: tuple[tuple[str, bytes | None], ...]
    why: str


@dataclass(slots=True)
class Send:
    """
    Send a message to a peer.

    @ivar urgent: passes by a store that is still being written (pings, answers to
        questions; never what rests on a change of state).
    """

    peer: PeerId
    message: Any
    urgent: bool = False


@dataclass(slots=True)
class Answer:
    """
    Answer a peer's call: taken where C{status} is 202, else refused.

    @ivar status: 202, or the HTTP status that the refusal would have there (400, 403, 404 …).
    @ivar why: the text of the refusal, as Mesos words it.
    """

    peer: PeerId
    call: int
    status: int = 202
    why: str = ""


@dataclass(slots=True)
class Drop:
    """Close the link to a peer, after what was sent to it; C{why} is told to it and logged."""

    peer: PeerId
    why: str


@dataclass(slots=True)
class Store:
    """
    Make changes durable: all of them or none.

    @ivar changes: (key, value) pairs, C{None} for a deletion. A key is a path of
        printable text such as C{"agents/7d…-S0"}; what is under one prefix is
        read back together.
    """

    changes: tuple[tuple[str, bytes | None], ...]


@dataclass(slots=True)
class Note:
    """Log a transition. C{level} is one of C{debug, info, warn, error}."""

    level: str
    text: str


@dataclass(slots=True)
class Stop:
    """End the daemon: C{why} goes to the log, C{status} is the exit status."""

    why: str
    status: int = 0
