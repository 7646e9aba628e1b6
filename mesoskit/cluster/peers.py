"""Links by number: what stands between the wire and a state.

A state knows its peers by numbers, for it may hold nothing live. L{Peers} hears every
link of a daemon, gives it a number, turns what comes into events, and carries out the
effects that are meant for a link. It looks into no message.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from google.protobuf.message import Message
from twisted.logger import Logger

from mesoskit.model.events import (
    Answer,
    Congestion,
    Connected,
    Drop,
    Lost,
    Note,
    PeerKind,
    Received,
    Send,
)
from mesoskit.model.ids import PeerId
from mesoskit.wire.link import CallID, Link, Refused, Taken

_TAKEN = Taken()


class Peers:
    """
    The L{mesoskit.wire.link.Receiver} of all links of a daemon.

    @param put: takes events, as L{mesoskit.cluster.turns.Turns.put} does.
    @param log: where L{Note} effects go.

    @ivar numbers: gives numbers that nothing else in this daemon has.
    @ivar effects: what it carries out, by the effect's class.
    """

    def __init__(self, put: Callable[[Any], None], log: Logger) -> None:
        self._put = put
        self._log = log
        self.numbers = count(1)
        self._links: dict[PeerId, Link] = {}
        self._peers: dict[Link, PeerId] = {}
        self.effects: dict[type, Callable[[Any], None]] = {
            Send: self._send,
            Answer: self._answer,
            Drop: self._drop,
            Note: self._note,
        }

    def __len__(self) -> int:
        """Return how many links there are."""
        return len(self._peers)

    def link(self, peer: PeerId) -> Link | None:
        """Return a peer's link, or L{None} where it is gone."""
        return self._links.get(peer)

    def lose_all(self, why: str) -> None:
        """Close every link, telling each peer why."""
        for link in list(self._peers):
            link.lose(why)

    # What links say.

    def connected(self, link: Link) -> None:
        """A peer is there and settled."""
        peer = PeerId(next(self.numbers))
        self._links[peer] = link
        self._peers[link] = peer
        hello = link.hello
        kind = PeerKind(hello.role)
        principal, token, epoch = link.principal, hello.token, hello.epoch
        self._put(
            Connected(peer, kind, link.peer, principal, token, epoch, hello.claims, hello.instance)
        )

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """A message came."""
        peer = self._peers.get(link)
        if peer is not None:
            self._put(Received(peer, message, call))

    def congestion(self, link: Link, congested: bool) -> None:
        """A link is full, or drains again."""
        peer = self._peers.get(link)
        if peer is not None:
            self._put(Congestion(peer, congested))

    def lost(self, link: Link, why: str) -> None:
        """A link is gone."""
        peer = self._peers.pop(link, None)
        if peer is not None:
            self._links.pop(peer, None)
            self._put(Lost(peer, why))

    # What the state wants done.

    def _send(self, effect: Send) -> None:
        link = self._links.get(effect.peer)
        if link is not None:
            link.send(effect.message)

    def _answer(self, effect: Answer) -> None:
        link = self._links.get(effect.peer)
        if link is not None:
            taken = effect.status == 202
            link.answer(effect.call, _TAKEN if taken else Refused(effect.status, effect.why))

    def _drop(self, effect: Drop) -> None:
        link = self._links.pop(effect.peer, None)
        if link is not None:
            del self._peers[link]
            link.lose(effect.why)

    def _note(self, effect: Note) -> None:
        getattr(self._log, effect.level)("{text}", text=effect.text)
