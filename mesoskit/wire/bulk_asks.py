"""A bulk link, where files arrive: it asks, and hands on what comes as fast as it is taken.

Each answer has a window: so many bytes may be under way, or wait for whoever reads it. He
says C{pause} and C{resume} as a transport does to a producer; while he pauses no more credit
is given, and the other side reads nothing more. C{docs/wire.md} has the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Final, Protocol

from google.protobuf.message import Message
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mesoskit.messages.bulk_pb2 import Ask, Cancel, Chunk, Credit, Failure, Head
from mesoskit.wire.link import CallID, Link
from mesoskit.wire.settings import BulkSettings

_DEFAULTS: Final = BulkSettings()

UNAVAILABLE: Final = 503
"""The status of what cannot be answered now, as over HTTP."""

TOO_SLOW: Final = 504
"""The status of what was not answered in time."""

_LONGEST_WHY: Final = 1024


class Reader(Protocol):
    """Who reads an answer. C{ended} or C{failed} is the last that he hears, and comes once."""

    def head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        """The answer begins; so many bytes will come."""
        ...

    def data(self, data: bytes) -> None:
        """The next bytes."""
        ...

    def ended(self) -> None:
        """All bytes have come."""
        ...

    def failed(self, status: int, why: str) -> None:
        """The answer breaks off, or there is none; C{status} as over HTTP, C{why} for people."""
        ...


class Question:
    """
    A question, and its answer as it comes.

    @ivar waiting: bytes that came and have not been credited again: what may wait here.
    """

    __slots__ = (
        "_asks",
        "_credit",
        "_head_only",
        "_left",
        "_paused",
        "_reader",
        "number",
        "timer",
        "waiting",
    )

    def __init__(
        self, asks: Asks, number: int, reader: Reader, credit: int, head_only: bool
    ) -> None:
        self._asks = asks
        self._reader: Reader | None = reader
        # What the other side may still send, and what it said that it will; -1 before.
        self._credit = credit
        self._left = -1
        self._head_only = head_only
        self._paused = False
        self.number = number
        self.waiting = 0
        self.timer: IDelayedCall | None = None

    # What the reader says

    def pause(self) -> None:
        """The reader takes no more for now."""
        self._paused = True

    def resume(self) -> None:
        """The reader takes more."""
        if self._paused:
            self._paused = False
            self._grant()

    def cancel(self) -> None:
        """The reader wants no more, and hears no more."""
        if self._end() is not None:
            self._asks.cancel(self.number)

    # What the other side says

    def headed(self, head: Head) -> str | None:
        """The answer begins; returns what is wrong with that."""
        if self._left >= 0:
            return "a second Head"
        reader = self._reader
        assert reader is not None
        self._left = 0 if self._head_only else head.length
        self._asks.watch(self, self._credit > 0)
        reader.head(head.status, {one.name: one.value for one in head.headers}, head.length)
        if not self._left:
            self._over()
        return None

    def came(self, data: bytes) -> str | None:
        """A piece of it came; returns what is wrong with that."""
        size = len(data)
        if self._left < 0:
            return "a Chunk before its Head"
        if not 0 < size <= min(self._left, self._credit):
            return f"a Chunk of {size} bytes where {min(self._left, self._credit)} were allowed"
        reader = self._reader
        assert reader is not None
        self._left -= size
        self._credit -= size
        self.waiting += size
        reader.data(data)
        if not self._left:
            self._over()
        elif self._reader is not None:
            self._grant()
            self._asks.watch(self, self._credit > 0)
        return None

    def failed(self, status: int, why: str) -> None:
        """It breaks off."""
        reader = self._end()
        if reader is not None:
            reader.failed(status, why)

    def _over(self) -> None:
        reader = self._end()
        if reader is not None:
            reader.ended()

    def _end(self) -> Reader | None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._asks.done(self)
        return reader

    def _grant(self) -> None:
        """Give credit for what was taken, when it is worth a message."""
        if self._paused or self._reader is None or self._left <= self._credit:
            return
        if self.waiting * 4 >= self._asks.settings.window or not self._credit:
            granted, self.waiting = self.waiting, 0
            if granted:
                self._credit += granted
                self._asks.credit(self.number, granted)
                self._asks.watch(self, True)


class Asks:
    """
    Hears one bulk link, and asks over it.

    @param ended: called once, when the link is gone.
    @param idle: called when the last question has been answered.

    @ivar link: the link, once it is there.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ended: Callable[[Asks, str], None] = lambda _, why: None,
        idle: Callable[[Asks], None] = lambda _: None,
        settings: BulkSettings = _DEFAULTS,
    ) -> None:
        self._clock = clock
        self._ended = ended
        self._idle = idle
        self.settings = settings
        self.link: Link | None = None
        self._numbers = count(1)
        self._last = 0
        self._questions: dict[int, Question] = {}

    def __len__(self) -> int:
        """Return how many questions are being answered."""
        return len(self._questions)

    @property
    def waiting(self) -> int:
        """How many bytes have come and may wait for their readers."""
        return sum(question.waiting for question in self._questions.values())

    def ask(
        self,
        operation: int,
        parameters: Mapping[str, str],
        principal: str | None,
        reader: Reader,
        head_only: bool = False,
    ) -> Question:
        """
        Ask; the reader hears the answer, never from within this call.

        @param operation: a number of C{mesoskit.bulk.Operation}.
        @param head_only: the answer's bytes are not wanted; C{data} is never called.
        """
        assert self.link is not None
        number = self._last = next(self._numbers)
        window = self.settings.window
        ask = Ask(
            transfer=number,
            operation=operation,  # type: ignore[arg-type]
            principal=principal,
            credit=window,
            head_only=head_only or None,
        )
        for name, value in parameters.items():
            ask.parameters.add(name=name, value=value)
        question = Question(self, number, reader, window, head_only)
        self._questions[number] = question
        self.watch(question, True)
        self.link.send(ask)
        return question

    # Receiver

    def connected(self, link: Link) -> None:
        """The link is there."""
        self.link = link

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        """An answer begins, goes on or breaks off."""
        if call is not None or not isinstance(message, Head | Chunk | Failure):
            link.lose(f"a {message.DESCRIPTOR.full_name} has no place on a bulk link")
            return
        question = self._questions.get(message.transfer)
        if question is None:
            # It may have been cancelled meanwhile.
            if message.transfer > self._last:
                link.lose(f"transfer {message.transfer} was never asked for")
            return
        wrong: str | None = None
        if isinstance(message, Chunk):
            wrong = question.came(message.data)
        elif isinstance(message, Head):
            wrong = question.headed(message)
        else:
            question.failed(UNAVAILABLE, message.why[:_LONGEST_WHY])
        if wrong is not None:
            link.lose(f"transfer {message.transfer}: {wrong}")

    def congestion(self, link: Link, congested: bool) -> None:
        """Of no interest: what is sent here is little."""

    def lost(self, link: Link, why: str) -> None:
        """The link is gone: what was not answered will not be."""
        self.link = None
        for question in list(self._questions.values()):
            question.failed(UNAVAILABLE, f"the agent's bulk link was lost: {why}")
        self._ended(self, why)

    # What questions ask

    def credit(self, number: int, granted: int) -> None:
        """Let the other side send more of an answer."""
        if self.link is not None:
            self.link.send(Credit(transfer=number, bytes=granted))

    def cancel(self, number: int) -> None:
        """Tell the other side that nobody waits for an answer any more."""
        if self.link is not None:
            self.link.send(Cancel(transfer=number))

    def done(self, question: Question) -> None:
        """A question has its answer, or none."""
        timer, question.timer = question.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        del self._questions[question.number]
        if not self._questions:
            self._idle(self)

    def watch(self, question: Question, theirs: bool) -> None:
        """
        Let time run for the other side, or for the reader, to go on.

        @param theirs: the other side may send.
        """
        timer, question.timer = question.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if question.number in self._questions:
            seconds = self.settings.patience if theirs else self.settings.stalled
            question.timer = self._clock.callLater(seconds, self._too_slow, question, theirs)

    def _too_slow(self, question: Question, theirs: bool) -> None:
        self.cancel(question.number)
        seconds = self.settings.patience if theirs else self.settings.stalled
        who = "the agent has not gone on" if theirs else "nothing was taken"
        question.failed(TOO_SLOW, f"{who} for {seconds:g} s")
