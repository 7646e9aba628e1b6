"""The native session: hello, items, calls and answers, heartbeats, errors.

It is told what came and what happens to the connection, and tells a L{Carrier} what to
write: no transport, no clock and no reactor in here. C{docs/wire.md} is its description
for those who implement the other side.
"""

from collections.abc import Iterator
from math import ceil
from typing import Final

from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from mesoskit.messages.codec import Malformed, decode, encode
from mesoskit.messages.names import UnknownMessage, wire_name
from mesoskit.messages.stream_pb2 import Frame, Item, Role
from mesoskit.wire import framing, hellos
from mesoskit.wire.backlog import Backlog
from mesoskit.wire.calls import Calls
from mesoskit.wire.link import (
    CallID,
    Hello,
    LinkLost,
    NotAsked,
    NotSendable,
    Receiver,
    Refused,
    Taken,
    TooManyCalls,
)
from mesoskit.wire.outbox import ITEM_OVERHEAD, Outbox
from mesoskit.wire.plan import Carrier, SessionPlan, Settling
from mesoskit.wire.words import LONGEST_ERROR, LONGEST_TEXT, heard, sayable

_HEARTBEAT: Final = framing.encode(b"")

# The states of a session, in the only order they come in; any may be left out but the last.
_GREETING, _SETTLING, _OPEN, _CLOSING, _LOST = range(5)

_NOBODY: Final = Hello(role=Role.UNKNOWN)


class Session:
    """
    One native link (L{mesoskit.wire.link.Link}) and the peer's half of it.

    No input of the peer and nothing that a receiver raises comes out of the methods
    that a carrier calls: it is logged, counted and ends the link.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_calls",
        "_carrier",
        "_congested",
        "_dirty",
        "_hello",
        "_outbox",
        "_owed",
        "_patience",
        "_paused",
        "_peer",
        "_plan",
        "_principal",
        "_receiver",
        "_settling",
        "_silent",
        "_spoke",
        "_state",
        "_status",
        "_why",
        "_writing",
        "decoder",
    )

    log = Logger()

    def __init__(self, plan: SessionPlan, carrier: Carrier, peer: str) -> None:
        settings = plan.settings
        self._plan = plan
        self._carrier = carrier
        self._peer = peer
        self._state = _GREETING
        self._hello = _NOBODY
        self._principal: str | None = None
        self._receiver: Receiver | None = None
        self._settling: Settling | None = None
        self._why = ""
        self._status = 0
        self.decoder = framing.Decoder(min(settings.early_limit, settings.record_limit))
        self._outbox = Outbox(settings.batch, settings.record_limit, plan.counters)
        # Calls that are not answered: ours, and the numbers of the peer's.
        self._calls: Calls | None = None
        self._owed: set[int] | None = None
        self._dirty = self._writing = self._paused = self._congested = False
        # Whether anything was written, and how many visits nothing was read.
        self._spoke = False
        self._silent = self._patience = 0
        # What came while the link is held; None where it is not.
        self._backlog: Backlog | None = None

    # What Link promises

    @property
    def peer(self) -> str:
        """Where the peer is, for logs."""
        return self._peer

    @property
    def principal(self) -> str | None:
        """Who the peer proved to be."""
        return self._principal

    @property
    def hello(self) -> Hello:
        """What the peer said of itself."""
        return self._hello

    @property
    def congested(self) -> bool:
        """Whether more than C{high_water} bytes wait for the transport."""
        return self._congested

    @property
    def ended(self) -> str:
        """Why the link ends or has ended; empty before."""
        return self._why

    @property
    def status(self) -> int:
        """Of what kind the peer's error was, as in HTTP; 0 where it said none."""
        return self._status

    @property
    def queued(self) -> int:
        """About how many bytes wait that the transport has not been given yet."""
        return self._outbox.queued

    def send(self, message: Message) -> None:
        """Send a message that wants no answer, as L{Link.send<mesoskit.wire.link.Link.send>}."""
        if self._state < _CLOSING:
            self._put(message, 0)

    def call(self, message: Message) -> "Deferred[None]":
        """Send a message that wants an answer, as L{Link.call<mesoskit.wire.link.Link.call>}."""
        if self._state >= _CLOSING:
            return fail(LinkLost(f"the link to {self._peer} is closed: {self._why}"))
        calls = self._calls
        if calls is None:
            calls = self._calls = Calls(self._peer, self._plan.settings.maximum_calls)
        try:
            number = calls.next()
            self._put(message, number)
        except (NotSendable, TooManyCalls) as error:
            return fail(error)
        return calls.made(number)

    def answer(self, call: CallID, outcome: Taken | Refused) -> None:
        """Answer a call of the peer's, as L{Link.answer<mesoskit.wire.link.Link.answer>}."""
        if self._state >= _CLOSING:
            return
        owed = self._owed
        if owed is None or call not in owed:
            raise NotAsked(f"{self._peer} waits for no answer to call {call}")
        owed.remove(call)
        if isinstance(outcome, Refused):
            # 0 and 202 would be read as consent.
            status = outcome.status if 300 <= outcome.status < 600 else 500
            self._outbox.put_answer(call, status, sayable(outcome.why, LONGEST_TEXT))
        else:
            self._outbox.put_answer(call, 0, "")
        self._sent()

    def lose(self, why: str = "") -> None:
        """Close after what was sent, as L{Link.lose<mesoskit.wire.link.Link.lose>}."""
        self._lose(why, 0)

    def cut(self, kind: str, why: str) -> None:
        """End without a word: the peer takes nothing any more."""
        if self._state < _CLOSING:
            self._cut(kind, why)

    def refuse(self, kind: str, why: str, status: int = 0) -> None:
        """
        Send the peer away: it broke the rules.

        @param kind: of error, for the counters.
        @param status: of what kind, for the peer's program, as in HTTP; 0 for none.
        """
        if self._state < _CLOSING:
            self._fail(kind, why, status)

    def hold(self, held: bool) -> None:
        """Let the receiver hear nothing more for now, and read no more; or all of it again."""
        if held is (self._backlog is not None) or self._state != _OPEN:
            return
        if held:
            self._backlog = Backlog()
            self._carrier.reading(False)
        else:
            self._go_on()
            if self._held_again() is None and self._state == _OPEN:
                self._carrier.reading(True)

    def _lose(self, why: str, status: int) -> None:
        if self._state >= _CLOSING:
            return
        self._state = _CLOSING
        self._why = why or "closed here"
        while (data := self._outbox.pop()) is not None:
            self._write(data)
        if why:
            error = Frame(error=sayable(why, LONGEST_ERROR), status=status or None)
            self._write(framing.encode(error.SerializeToString()))
        self._carrier.close()

    # What the carrier tells

    def start(self) -> None:
        """The connection is there: whoever dialled says hello."""
        if self._plan.dials:
            self._say_hello()

    def bytes_received(self, data: bytes) -> None:
        """These bytes came."""
        if self._state >= _CLOSING:
            return
        counters = self._plan.counters
        counters.bytes_in += len(data)
        self._silent = 0
        if self._backlog is not None:
            self._backlog.data.append(data)
        else:
            self._feed(self.decoder.feed(data))

    def _feed(self, payloads: Iterator[bytes]) -> None:
        counters = self._plan.counters
        for payload in payloads:
            counters.frames_in += 1
            if payload or self._state < _OPEN:
                self._frame(payload)
                if self._state >= _CLOSING:
                    return
                if self._backlog is not None:
                    self._backlog.payloads = payloads
                    return
        error = self.decoder.error
        if error is not None:
            kind = "oversize" if isinstance(error, framing.FrameTooLong) else "unframed"
            self._fail(kind, str(error))

    def _go_on(self) -> None:
        """Let the receiver hear what was kept, until it has enough again."""
        rest = self._backlog
        self._backlog = None
        while rest is not None and not rest.empty and self._state == _OPEN:
            if rest.items is not None:
                items, rest.items = rest.items, None
                self._take(items)
            elif rest.payloads is not None:
                payloads, rest.payloads = rest.payloads, None
                self._feed(payloads)
            else:
                self._feed(self.decoder.feed(rest.data.pop(0)))
            held = self._held_again()
            if held is not None:
                held.follow(rest)
                return

    def _held_again(self) -> Backlog | None:
        return self._backlog

    def flush(self) -> None:
        """Give the transport what was sent, as far as it takes it."""
        self._dirty = False
        if self._state >= _CLOSING:
            return
        outbox = self._outbox
        self._writing = True
        while not self._paused and (data := outbox.pop()) is not None:
            self._write(data)
        self._writing = False
        self._carrier.waits(outbox.queued)
        self._weigh()

    def pause(self) -> None:
        """The transport takes no more for now."""
        self._paused = True
        if not self._writing:
            self._weigh()

    def resume(self) -> None:
        """The transport takes more again."""
        self._paused = False
        self.flush()

    def visit(self) -> None:
        """C{span} seconds have passed: send a heartbeat where needed, and listen for the peer's."""
        if self._state != _OPEN:
            return
        if self._backlog is None:
            self._silent += 1
        if self._silent >= self._patience:
            seconds = (self._silent - 1) * self._plan.span
            self._cut("silent", f"nothing heard for {seconds:g} s")
        elif self._spoke:
            self._spoke = False
        elif not self._paused:
            self._write(_HEARTBEAT)

    def late(self) -> None:
        """The time for hello and for proving who one is has passed."""
        if self._state == _GREETING:
            seconds = self._plan.settings.hello_timeout
            self._fail("hello-timeout", f"no hello came within {seconds:g} s")

    def unsettled(self) -> None:
        """The time for proving who one is has passed."""
        if self._state == _SETTLING:
            seconds = self._plan.settings.settle_timeout
            self._fail("settle-timeout", f"not authenticated within {seconds:g} s", 401)

    def closed(self, why: str) -> None:
        """The connection is gone."""
        if self._state == _LOST:
            return
        while self._backlog is not None and not self._backlog.empty and self._state == _OPEN:
            # What came before the end is heard.
            self._go_on()
        state, self._state = self._state, _LOST
        self._why = self._why or why
        self._outbox.clear()
        receiver, self._receiver, self._settling, self._owed = self._receiver, None, None, None
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.lost(self._why)
        if receiver is None:
            if state < _CLOSING:
                self.log.debug("{peer} left before hello: {why}", peer=self._peer, why=self._why)
            return
        self._plan.counters.links -= 1
        self.log.info("{peer} is gone: {why}", peer=self._peer, why=self._why)
        try:
            receiver.lost(self, self._why)
        except Exception:
            self._raised("lost")

    # Hello

    def _say_hello(self) -> None:
        hello = hellos.to_wire(self._plan.hello, self._plan.settings.heartbeat)
        self._write(framing.encode(Frame(hello=hello).SerializeToString()))

    def _greet(self, frame: Frame) -> None:
        plan = self._plan
        try:
            if not frame.HasField("hello"):
                raise hellos.HelloRefused("no-hello", "the first frame must be a hello")
            if frame.items:
                raise hellos.HelloRefused("no-hello", "a hello comes in a frame of its own")
            longest = plan.settings.longest_heartbeat
            self._hello, span = hellos.from_wire(frame.hello, plan.accept, longest, plan.purposes)
            if plan.settle is not None:
                self._settling = plan.settle(self)
        except hellos.HelloRefused as refused:
            self._fail(refused.kind, refused.why, refused.status)
            return
        except Exception:
            self._broken("settle")
            return
        # The first of the visits that hear nothing may come at once, hence one more.
        self._patience = ceil(span * plan.settings.missed_heartbeats / plan.span) + 1
        if not plan.dials:
            self._say_hello()
        settling = self._settling
        if settling is None:
            self.settled(None)
            return
        self._state = _SETTLING
        self._carrier.settling()
        try:
            settling.start()
        except Exception:
            self._broken("settle")

    def settled(self, principal: str | None) -> None:
        """The peer has proved to be C{principal}, or need not prove anything."""
        if self._state >= _OPEN:
            return
        self._principal = principal
        self._settling = None
        self.decoder.limit = self._plan.settings.record_limit
        try:
            plan = self._plan
            receiver = plan.others.get(self._hello.purpose, plan.receiver)()
        except Exception:
            self._broken("receiver")
            return
        self._receiver = receiver
        self._state = _OPEN
        counters = self._plan.counters
        counters.links += 1
        counters.opened += 1
        self.log.info(
            "{peer} is here as {role}, {software}",
            peer=self._peer,
            role=hellos.role_name(self._hello.role),
            software=self._hello.software,
        )
        try:
            receiver.connected(self)
        except Exception:
            self._broken("connected")
        if self._state == _OPEN:
            self._carrier.opened()

    # What the peer says

    def _frame(self, payload: bytes) -> None:
        try:
            frame = Frame.FromString(payload)
        except DecodeError:
            self._fail("malformed", "what came is not a Frame")
            return
        if frame.HasField("error"):
            self._told(frame.error, frame.status)
        elif self._state == _GREETING:
            self._greet(frame)
        elif frame.HasField("hello"):
            self._fail("second-hello", "a hello comes once")
        else:
            self._plan.counters.items_in += len(frame.items)
            self._take(iter(frame.items))

    def _take(self, items: Iterator[Item]) -> None:
        for item in items:
            if item.answers:
                self._answered(item)
            else:
                self._message(item)
            if self._state >= _CLOSING:
                return
            if self._backlog is not None:
                self._backlog.items = items
                return

    def _message(self, item: Item) -> None:
        call = item.call
        try:
            message = decode(item.name, item.body)
        except UnknownMessage as error:
            self._fail("unknown", str(error))
            return
        except Malformed as error:
            self._fail("malformed", str(error))
            return
        receiver = self._receiver
        if call and receiver is None:
            self._fail(
                "early-call", f"a {item.name} was called before it was settled who calls", 401
            )
            return
        if call and not self._owe(call):
            return
        try:
            if receiver is not None:
                receiver.received(self, message, call or None)
            elif self._settling is not None:
                self._settling.received(message)
        except Exception:
            self._broken("received")

    def _owe(self, call: int) -> bool:
        owed = self._owed
        if owed is None:
            owed = self._owed = set()
        if call in owed:
            self._fail("call", f"call {call} was made again before it was answered")
            return False
        limit = self._plan.settings.maximum_calls
        if len(owed) >= limit:
            self._fail("calls", f"more than {limit} calls wait for answers")
            return False
        owed.add(call)
        return True

    def _answered(self, item: Item) -> None:
        if item.name:
            self._fail("answer", "an item is a message or an answer, not both")
            return
        if self._calls is None or not self._calls.answered(item):
            self._fail("answer", f"an answer came to call {item.answers}, which waits for none")

    def _told(self, error: str | bytes, status: int) -> None:
        self._plan.counters.error("told")
        self._status = status
        self._state = _CLOSING
        self._why = "the peer said: " + heard(error, LONGEST_ERROR)
        self.log.warn("{peer} closes: {why}", peer=self._peer, why=self._why)
        # It reads no more.
        self._outbox.clear()
        self._carrier.close()

    # What goes out

    def _put(self, message: Message, call: int) -> None:
        try:
            name = wire_name(message)
            body = encode(message)
        except (UnknownMessage, Malformed) as error:
            raise NotSendable(str(error)) from None
        size = len(body) + len(name) + ITEM_OVERHEAD
        limit = self._plan.settings.record_limit
        if size > limit:
            raise NotSendable(f"a {name} of {len(body)} bytes does not fit into a frame of {limit}")
        self._outbox.put(size, name, body, call)
        self._sent()

    def _sent(self) -> None:
        cap = self._plan.settings.outbound_cap
        if self._outbox.queued > cap:
            self._cut("slow", f"failed to keep up: more than {cap} bytes wait")
        elif not self._dirty:
            self._dirty = True
            self._carrier.flush_later()

    def _write(self, data: bytes) -> None:
        counters = self._plan.counters
        counters.frames_out += 1
        counters.bytes_out += len(data)
        self._spoke = True
        self._carrier.write(data)

    def _weigh(self) -> None:
        """Tell the receiver where congestion began or ended."""
        receiver = self._receiver
        if receiver is None or self._state != _OPEN:
            return
        settings = self._plan.settings
        mark = settings.low_water if self._congested else settings.high_water
        congested = self._paused and self._outbox.queued >= mark
        if congested is self._congested:
            return
        self._congested = congested
        self.log.info(
            "{peer} {what}", peer=self._peer, what="is congested" if congested else "keeps up again"
        )
        try:
            receiver.congestion(self, congested)
        except Exception:
            self._broken("congestion")

    # How it ends

    def _fail(self, kind: str, why: str, status: int = 0) -> None:
        """The peer broke the rules: tell it, and close."""
        self._plan.counters.error(kind)
        why = why[:LONGEST_ERROR]
        self.log.warn("{peer} is sent away: {why}", peer=self._peer, why=why)
        self._lose(why, status)

    def _cut(self, kind: str, why: str) -> None:
        """The peer takes nothing any more: end without a word."""
        self._plan.counters.error(kind)
        self.log.warn("{peer} is cut off: {why}", peer=self._peer, why=why)
        self._state = _CLOSING
        self._why = why
        self._outbox.clear()
        self._carrier.abort()

    def _broken(self, where: str) -> None:
        """Our own side raised: the link cannot be trusted to be in step any more."""
        self._raised(where)
        self.lose("internal error")

    def _raised(self, where: str) -> None:
        self._plan.counters.error("internal")
        self.log.failure("{where} failed for {peer}", where=where, peer=self._peer)
