"""The master's bulk links: files of agents for who asks the master, however they can be dialled.

The master dials nobody: it invites an agent over its control link, with a ticket that is good
once, and the agent dials. A bulk link is believed to be an agent's where it shows the ticket, is
dialled by the same process as the control link, and has proved to be the same principal. It is
there for as long as somebody asks, and a minute more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import Any, Final

from google.protobuf.message import Message
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mesoskit.messages.bulk_pb2 import Invitation
from mesoskit.model.events import PeerKind
from mesoskit.model.ids import AgentId
from mesoskit.wire.bulk_asks import TOO_SLOW, UNAVAILABLE, Asks, Question, Reader
from mesoskit.wire.link import CallID, Link
from mesoskit.wire.settings import BulkSettings

MOST: Final = 128
"""How many answers may be on their way at a time, of all agents together."""

DIALLING: Final = 10.0
"""Seconds within which an agent must have dialled."""

IDLE: Final = 60.0
"""Seconds after which a link that nobody needs is closed."""


class Unanswered(Exception):
    """
    An agent cannot be asked.

    @ivar status: as over HTTP.
    @ivar why: for people.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Asking:
    """A question to an agent, which may have to wait for a link."""

    def __init__(self, line: _Line, reader: Reader, ask: partial[Question]) -> None:
        self.reader = reader
        self._line: _Line | None = line
        self._ask = ask
        self._question: Question | None = None
        self._paused = False

    def begin(self, asks: Asks) -> None:
        """The link is there."""
        self._line = None
        self._question = self._ask(asks)
        if self._paused:
            self._question.pause()

    def pause(self) -> None:
        """The reader takes no more for now."""
        self._paused = True
        if self._question is not None:
            self._question.pause()

    def resume(self) -> None:
        """The reader takes more."""
        self._paused = False
        if self._question is not None:
            self._question.resume()

    def cancel(self) -> None:
        """The reader wants no more, and hears no more."""
        line, self._line = self._line, None
        if line is not None:
            line.pending.pop(self, None)
        elif self._question is not None:
            self._question.cancel()


class _Line:
    """
    What there is with one agent: an invitation, or a link.

    @ivar control: the control link whose agent was invited.
    @ivar pending: what is asked once the link is there.
    """

    def __init__(self, agent_id: AgentId, control: Link, ticket: str) -> None:
        self.agent_id = agent_id
        self.control = control
        self.ticket = ticket
        self.asks: Asks | None = None
        self.pending: dict[Asking, None] = {}
        self.timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self.pending) + (0 if self.asks is None else len(self.asks))

    def stop_timer(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()


class BulkLinks:
    """
    All of a master's bulk links.

    @ivar opened: how many there have been.
    @ivar asked: how many questions there have been.
    @ivar refused: how many peers came without a ticket that is good.
    @ivar held: bytes of answers that are read whole before they are sent on.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, settings: BulkSettings | None = None) -> None:
        self._clock = clock
        self._settings = settings or BulkSettings()
        self._lines: dict[AgentId, _Line] = {}
        self._tickets: dict[str, _Line] = {}
        self.opened = self.asked = self.refused = self.held = 0

    def __len__(self) -> int:
        """Return how many answers are on their way, or wait for a link."""
        return sum(map(len, self._lines.values()))

    def metrics(self) -> dict[str, float]:
        """Return figures by names of mesoskit's own."""
        lines = [line for line in self._lines.values() if line.asks is not None]
        return {
            "mesoskit/bulk_links": float(len(lines)),
            "mesoskit/bulk_links_opened": float(self.opened),
            "mesoskit/bulk_links_refused": float(self.refused),
            "mesoskit/bulk_answers": float(len(self)),
            "mesoskit/bulk_answers_begun": float(self.asked),
            "mesoskit/bulk_bytes_waiting": float(
                self.held + sum(line.asks.waiting for line in lines if line.asks is not None)
            ),
        }

    def ask(
        self,
        agent_id: AgentId,
        control: Link | None,
        operation: int,
        parameters: Mapping[str, str],
        principal: str | None,
        reader: Reader,
        head_only: bool = False,
    ) -> Asking:
        """
        Ask an agent; C{reader} hears the answer, later. Raises L{Unanswered}.

        @param control: the agent's control link.
        @param operation: and what follows: as L{Asks.ask}.
        """
        if control is None:
            raise Unanswered(UNAVAILABLE, f"Agent {agent_id} is disconnected.\n")
        if not control.hello.bulk:
            software = control.hello.software or "something"
            raise Unanswered(
                UNAVAILABLE,
                f"Agent {agent_id} is {software}, which does not send files to its master: they"
                " can only be had from the agent itself.\n",
            )
        if len(self) >= MOST:
            raise Unanswered(UNAVAILABLE, f"{MOST} files are being read already.\n")
        line = self._lines.get(agent_id)
        if line is not None and line.control is not control:
            self._give_up(line, UNAVAILABLE, "the agent has connected anew")
            line = None
        if line is None:
            line = self._invite(agent_id, control)
        elif line.asks is not None:
            line.stop_timer()
        if len(line) >= self._settings.answers:
            raise Unanswered(
                UNAVAILABLE, f"{len(line)} files of agent {agent_id} are being read already.\n"
            )
        self.asked += 1
        ask = partial(_ask, operation, parameters, principal, reader, head_only)
        asking = Asking(line, reader, ask)
        if line.asks is None:
            line.pending[asking] = None
        else:
            asking.begin(line.asks)
        return asking

    def stop(self, why: str) -> None:
        """End all of it."""
        for line in list(self._lines.values()):
            self._give_up(line, UNAVAILABLE, why)

    def incoming(self) -> _Incoming:
        """Return who hears a bulk link that comes in: a receiver of its own for each."""
        return _Incoming(self)

    # Lines

    def _invite(self, agent_id: AgentId, control: Link) -> _Line:
        line = _Line(agent_id, control, token_hex(16))
        self._lines[agent_id] = line
        self._tickets[line.ticket] = line
        why = f"the agent has dialled no bulk link within {DIALLING:g} s"
        line.timer = self._clock.callLater(DIALLING, self._give_up, line, TOO_SLOW, why)
        control.send(Invitation(ticket=line.ticket))
        return line

    def _give_up(self, line: _Line, status: int, why: str) -> None:
        self._tickets.pop(line.ticket, None)
        if self._lines.get(line.agent_id) is line:
            del self._lines[line.agent_id]
        line.stop_timer()
        pending, line.pending = line.pending, {}
        for asking in pending:
            asking.reader.failed(status, why)
        if line.asks is not None and line.asks.link is not None:
            line.asks.link.lose(why)

    def welcome(self, link: Link) -> Asks | None:
        """Return who hears a link, or L{None} where it is nobody's who was invited."""
        line = self._tickets.pop(link.hello.token or "", None)
        if line is None:
            self._refuse(link, "the ticket is none that is good now")
            return None
        control = line.control
        if (
            link.hello.role != PeerKind.AGENT
            or link.hello.instance != control.hello.instance
            or link.principal != control.principal
        ):
            self._refuse(link, "the ticket was given to somebody else")
            return None
        line.stop_timer()
        self.opened += 1
        line.asks = asks = Asks(
            self._clock,
            lambda _, why: self._give_up(line, UNAVAILABLE, why),
            lambda _: self._idle(line),
            self._settings,
        )
        asks.connected(link)
        pending, line.pending = line.pending, {}
        for asking in pending:
            asking.begin(asks)
        if not len(asks):
            self._idle(line)
        return asks

    def _refuse(self, link: Link, why: str) -> None:
        self.refused += 1
        self.log.warn("{peer} gets no bulk link: {why}", peer=link.peer, why=why)
        link.lose(why)

    def _idle(self, line: _Line) -> None:
        line.stop_timer()
        if self._lines.get(line.agent_id) is line:
            line.timer = self._clock.callLater(IDLE, self._unneeded, line)

    def _unneeded(self, line: _Line) -> None:
        self._give_up(line, UNAVAILABLE, "nobody needs it any more")


def _ask(
    operation: int,
    parameters: Mapping[str, str],
    principal: str | None,
    reader: Reader,
    head_only: bool,
    asks: Asks,
) -> Question:
    return asks.ask(operation, parameters, principal, reader, head_only)


class _Incoming:
    """Hears a bulk link of whom it is not known yet whether it was invited."""

    def __init__(self, links: BulkLinks) -> None:
        self._links = links
        self._asks: Any = None

    def connected(self, link: Link) -> None:
        self._asks = self._links.welcome(link)

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        if self._asks is not None:
            self._asks.received(link, message, call)

    def congestion(self, link: Link, congested: bool) -> None:
        """Of no interest: what is sent here is little."""

    def lost(self, link: Link, why: str) -> None:
        if self._asks is not None:
            self._asks.lost(link, why)
