"""A bulk link, where files leave: it is asked, and answers in pieces, many answers in turn.

An answer is sent no further than its credit goes, and nothing is read of a file before it
may be sent: a reader that is slow, wherever he is, stops the reading here. The answers of
a link take turns, a chunk each. C{docs/wire.md} describes it for who implements the other side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure as Failed

from mesoskit.messages.bulk_pb2 import Ask, Cancel, Chunk, Credit, Failure, Head
from mesoskit.wire.link import CallID, Link
from mesoskit.wire.settings import BulkSettings

_DEFAULTS: Final = BulkSettings()


class Body(Protocol):
    """
    The bytes of an answer, read as they are sent.

    @ivar length: how many there will be.
    """

    length: int

    def read(self, most: int) -> Deferred[bytes]:
        """Return the next bytes; C{b""} where there are fewer than was said."""
        ...

    def close(self) -> None:
        """Let go of it; may be called while a read is under way."""
        ...


@dataclass(slots=True)
class Given:
    """
    An answer.

    @ivar status: as over HTTP.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | bytes = b""


class _Answer:
    """An answer on its way; without a body as long as it is being found."""

    __slots__ = ("body", "credit", "left", "number", "over", "timer")

    def __init__(self, number: int, credit: int) -> None:
        self.number = number
        self.credit = credit
        self.left = 0
        self.body: Body | bytes = b""
        self.over = False
        self.timer: IDelayedCall | None = None


class Answers:
    """
    Hears one bulk link, and answers what it is asked.

    @param find: finds the answer to a question, now or later.
    @param ended: called once, when the link is gone.

    @ivar link: the link, once it is there.
    """

    log = Logger()

    def __init__(
        self,
        find: Callable[[Ask], Deferred[Given]],
        clock: IReactorTime,
        ended: Callable[[Answers], None] = lambda _: None,
        settings: BulkSettings = _DEFAULTS,
    ) -> None:
        self._find = find
        self._clock = clock
        self._ended = ended
        self._settings = settings
        self.link: Link | None = None
        self._answers: dict[int, _Answer] = {}
        self._last = 0
        # Those that have credit and something to send, in the order of their turns.
        self._ready: deque[_Answer] = deque()
        self._reading = self._turning = False
        self._heard: dict[type[Message], Callable[..., None]] = {
            Ask: self._asked,
            Credit: self._credited,
            Cancel: self._cancelled,
        }

    def __len__(self) -> int:
        """Return how many answers are on their way."""
        return len(self._answers)

    # Receiver

    def connected(self, link: Link) -> None:
        """The link is there."""
        self.link = link

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """The other side asks, gives credit or has enough."""
        hear = self._heard.get(type(message))
        if hear is None or call is not None:
            link.lose(f"a {message.DESCRIPTOR.full_name} has no place on a bulk link")
        else:
            hear(link, message)

    def congestion(self, link: Link, congested: bool) -> None:
        """Go on where the link drains again."""
        if not congested:
            self._go_on()

    def lost(self, link: Link, why: str) -> None:
        """The link is gone, and with it everything that was on its way."""
        self.link = None
        self._ready.clear()
        for answer in list(self._answers.values()):
            self._close(answer)
        self._ended(self)

    # What the other side says

    def _asked(self, link: Link, ask: Ask) -> None:
        if ask.transfer <= self._last:
            link.lose(f"transfer {ask.transfer} is not after {self._last}, the last one")
            return
        self._last = ask.transfer
        if len(self._answers) >= self._settings.answers:
            why = f"{self._settings.answers} files are being read here already"
            link.send(Failure(transfer=ask.transfer, why=why))
            return
        answer = self._answers[ask.transfer] = _Answer(ask.transfer, ask.credit)
        try:
            found = self._find(ask)
        except Exception:
            found = Deferred()
            found.errback(Failed())  # type: ignore[no-untyped-call]
        found.addCallback(self._found, answer, ask.head_only)
        found.addErrback(self._not_found, answer)

    def _credited(self, link: Link, credit: Credit) -> None:
        answer = self._answers.get(credit.transfer)
        if answer is None or not credit.bytes:
            return
        waiting = answer.credit == 0
        # More than a window at a time would only be somebody else's memory.
        answer.credit = min(answer.credit + credit.bytes, self._settings.window)
        if waiting and answer.left:
            self._patient(answer)
            self._ready.append(answer)
            self._go_on()

    def _cancelled(self, link: Link, cancel: Cancel) -> None:
        answer = self._answers.get(cancel.transfer)
        if answer is not None:
            self._close(answer)

    # Answering

    def _found(self, given: Given, answer: _Answer, head_only: bool) -> None:
        body = given.body
        link = self.link
        if answer.over or link is None:
            _let_go(body)
            return
        answer.body = body
        length = len(body) if isinstance(body, bytes) else body.length
        head = Head(transfer=answer.number, status=given.status, length=length)
        for name, value in given.headers.items():
            head.headers.add(name=name, value=value)
        link.send(head)
        if head_only or not length:
            self._close(answer)
            return
        answer.left = length
        answer.credit = min(answer.credit, self._settings.window)
        self._next(answer)
        self._go_on()

    def _not_found(self, failure: Failed, answer: _Answer) -> None:
        self.log.failure("answering over a bulk link", failure)
        self._fail(answer, "the agent could not answer")

    def _go_on(self) -> None:
        """Send a chunk of each answer in turn, as far as the link takes them."""
        if self._turning:
            return
        self._turning = True
        while self._ready and not self._reading and self.link and not self.link.congested:
            answer = self._ready.popleft()
            if not answer.over:
                self._turn(answer)
        self._turning = False

    def _turn(self, answer: _Answer) -> None:
        most = min(self._settings.chunk, answer.credit, answer.left)
        body = answer.body
        if isinstance(body, bytes):
            begin = len(body) - answer.left
            self._send(answer, body[begin : begin + most])
            return
        self._reading = True

        def read(data: bytes | Failed) -> None:
            self._reading = False
            if not answer.over:
                if isinstance(data, bytes) and data:
                    self._send(answer, data)
                else:
                    self._fail(answer, "the file became shorter, or cannot be read any more")
            self._go_on()

        body.read(most).addBoth(read)

    def _send(self, answer: _Answer, data: bytes) -> None:
        if self.link is None:
            return
        answer.left -= len(data)
        answer.credit -= len(data)
        self.link.send(Chunk(transfer=answer.number, data=data))
        self._next(answer)

    def _next(self, answer: _Answer) -> None:
        """Let an answer take its turn again, wait for credit, or end."""
        if not answer.left:
            self._close(answer)
        elif answer.credit:
            self._ready.append(answer)
        else:
            stalled = self._settings.stalled
            why = f"no credit came for {stalled:g} s"
            answer.timer = self._clock.callLater(stalled, self._fail, answer, why)

    # The end of answers

    def _fail(self, answer: _Answer, why: str) -> None:
        if not answer.over and self.link is not None:
            self.link.send(Failure(transfer=answer.number, why=why))
            self._close(answer)

    def _patient(self, answer: _Answer) -> None:
        timer, answer.timer = answer.timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _close(self, answer: _Answer) -> None:
        answer.over = True
        self._answers.pop(answer.number, None)
        self._patient(answer)
        _let_go(answer.body)
        answer.body = b""


def _let_go(body: Body | bytes) -> None:
    if not isinstance(body, bytes):
        body.close()
