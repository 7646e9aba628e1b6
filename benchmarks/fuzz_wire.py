"""Throws damaged, random and wrong frames at native sessions: C{fuzz_wire.py [frames [seed]]}.

Every exception out of the wire ends the run; so does a link that was ended without being
counted, or one that holds more than its limits allow. The memory of the process is told
before and after. C{tests/wire/test_fuzz.py} is the short form, with better failures.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import psutil
from google.protobuf.message import Message

from mesoskit.messages.names import message_class, wire_names
from mesoskit.messages.stream_pb2 import Frame, Item, Role
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire import framing
from mesoskit.wire.counters import Counters
from mesoskit.wire.link import Hello, Link, Taken
from mesoskit.wire.plan import SessionPlan
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings

SETTINGS = StreamSettings(record_limit=64 * 1024, maximum_calls=50)
GREETING = framing.encode(
    Frame(hello=WireHello(version=1, role="AGENT", heartbeat_ms=5000)).SerializeToString()
)


class Carrier:
    """A connection whose other end takes everything."""

    def __init__(self) -> None:
        self.ended = False
        self.dirty = False

    def write(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def waits(self, count: int) -> None:
        """Nobody else holds anything here."""

    def flush_later(self) -> None:
        self.dirty = True

    def opened(self) -> None: ...


class Receiver:
    """Answers, calls and sends, as a daemon does."""

    def connected(self, link: Link) -> None:
        link.call(message_class("mesos.internal.PingSlaveMessage")(connected=True)).addErrback(
            lambda _: None
        )

    def received(self, link: Link, message: Message, call: int | None) -> None:
        if call is not None:
            link.answer(call, Taken())
        link.send(message)

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None: ...


class Fuzz:
    """Makes frames, most of them nearly right."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.names = sorted(wire_names())
        self.counts: dict[str, int] = {}

    def frame(self) -> bytes:
        """Return a frame of a random kind."""
        kinds = ("good", "good", "good", "fields", "damaged", "noise", "long", "empty", "body")
        kind = self.dice.choice(kinds)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        made: bytes = getattr(self, kind)()
        return made

    def good(self) -> bytes:
        """Return what a peer may well say."""
        items = []
        for _ in range(self.dice.randrange(1, 6)):
            data = self.dice.randbytes(self.dice.choice((0, 5, 50, 900)))
            body = message_class("mesos.internal.AuthenticationStepMessage")(data=data)
            call = self.dice.choice((0, 0, 0, self.dice.getrandbits(63) + 1))
            name = "mesos.internal.AuthenticationStepMessage"
            items.append(Item(name=name, body=body.SerializeToString(), call=call))
        return framing.encode(Frame(items=items).SerializeToString())

    def fields(self) -> bytes:
        """Return a frame whose fields say anything."""
        one = self.dice.choice
        frame = Frame()
        for _ in range(self.dice.randrange(4)):
            item = frame.items.add()
            if one((True, True, False)):
                item.name = one(self.names)
            if one((True, False)):
                item.body = self.dice.randbytes(self.dice.randrange(60))
            if one((True, False)):
                item.call = one((1, 2, 3, 2**64 - 1))
            if one((True, False, False)):
                item.answers = one((1, 2, 2**64 - 1))
                item.status = one((0, 200, 202, 403, 2**32 - 1))
        if one((True, False, False, False)):
            frame.hello.version = one((0, 1, 2))
            frame.hello.role = one(Role.values())  # type: ignore[assignment]
        if one((True, False, False, False, False)):
            frame.error = "x" * one((0, 1, 5000))
        return framing.encode(frame.SerializeToString())

    def damaged(self) -> bytes:
        """Return a frame with bytes changed, cut out or put in, the header's among them."""
        data = bytearray(self.dice.choice((self.good, self.fields, self.body))())
        for _ in range(self.dice.randrange(1, 4)):
            place = self.dice.randrange(len(data) + 1)
            width = self.dice.randrange(3)
            data[place : place + width] = self.dice.randbytes(self.dice.randrange(3))
        return bytes(data)

    def payload(self) -> bytes:
        """Return random bytes."""
        return self.dice.randbytes(self.dice.choice((1, 3, 30, 3000)))

    def noise(self) -> bytes:
        """Return a frame of random bytes."""
        return framing.encode(self.payload())

    def long(self) -> bytes:
        """Return the beginning of a frame that is as long as may be, or longer."""
        length = self.dice.choice((65_535, 65_536, 65_537, framing.LONGEST))
        return length.to_bytes(4, "big") + self.dice.randbytes(self.dice.randrange(2000))

    def empty(self) -> bytes:
        """Return a heartbeat."""
        return framing.encode(b"")

    def body(self) -> bytes:
        """Return a message of any kind with a body of its own making: nested, and cut short."""
        inner = self.dice.randbytes(self.dice.randrange(20))
        for _ in range(self.dice.choice((0, 1, 5, 120))):
            field = self.dice.randrange(1, 12) << 3 | 2
            inner = bytes((field, len(inner) & 0x7F)) + inner
        item = Item(name=self.dice.choice(self.names), body=inner)
        return framing.encode(Frame(items=[item]).SerializeToString())


def run(frames: int, seed: int) -> None:
    """Feed so many frames, and print what came of it."""
    fuzz = Fuzz(seed)
    choose = random.Random(seed + 1)
    counters = Counters()
    plan = SessionPlan(Receiver, Hello(role=1), None, SETTINGS, counters, None, False)
    process = psutil.Process()
    sessions = ended = fed = peak = 0
    begin = time.process_time()
    before = 0
    while fed < frames:
        carrier: Any = Carrier()
        session = Session(plan, carrier, "fuzz")
        session.start()
        sessions += 1
        stream = b"" if choose.random() < 0.1 else GREETING
        while not carrier.ended and fed < frames:
            stream += fuzz.frame()
            fed += 1
            while stream and not carrier.ended:
                size = choose.choice((1, 7, 100, 5000, 100_000))
                session.bytes_received(stream[:size])
                stream = stream[size:]
                if carrier.dirty:
                    carrier.dirty = False
                    session.flush()
                assert session.decoder.buffered <= SETTINGS.record_limit + 4
                assert len(session._owed or ()) <= SETTINGS.maximum_calls
                assert session.queued == 0
            if choose.random() < 0.02:
                break
        ended += carrier.ended
        session.closed("the end of this stream")
        assert ended == sum(counters.errors.values()), counters.errors
        if fed > 20_000 and not before:
            before = process.memory_info().rss
        if sessions % 1000 == 0:
            peak = max(peak, process.memory_info().rss)
    after = process.memory_info().rss
    assert "internal" not in counters.errors, counters.errors
    print(f"{fed:,} frames to {sessions:,} sessions, seed {seed}: no exception")
    print(f"CPU: {time.process_time() - begin:.0f} s; messages delivered: {counters.items_in:,}")
    print(f"memory: {before / 1e6:.1f} MB after 20,000 frames, {after / 1e6:.1f} MB at the end,")
    print(f"        {peak / 1e6:.1f} MB at most")
    print("frames:", ", ".join(f"{kind} {n:,}" for kind, n in sorted(fuzz.counts.items())))
    print("errors:", ", ".join(f"{kind} {n:,}" for kind, n in sorted(counters.errors.items())))


if __name__ == "__main__":
    run(
        int(sys.argv[1]) if len(sys.argv) > 1 else 20_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 1,
    )
