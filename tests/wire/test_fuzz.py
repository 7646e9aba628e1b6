"""Nothing that a peer can send raises, is forgotten in the counts, or grows memory."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.messages.names import wire_names
from mesoskit.messages.stream_pb2 import Frame, Item
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire import framing
from mesoskit.wire.link import Link, Taken
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.ears import MASTER
from tests.wire.test_framing import pieces
from tests.wire.transports import Wires

GREETING = framing.encode(
    Frame(hello=WireHello(version=1, role="AGENT", heartbeat_ms=5000)).SerializeToString()
)
NAME = "mesos.internal.AuthenticationStepMessage"

optional_number = st.none() | st.sampled_from([0, 1, 2, 3, 2**64 - 1])
items = st.builds(
    Item,
    name=st.none() | st.just(NAME) | st.sampled_from(sorted(wire_names())) | st.text(max_size=9),
    body=st.none() | st.just(b"\x0a\x03yes") | st.binary(max_size=30),
    call=optional_number,
    answers=st.none() | optional_number,
    status=st.none() | st.integers(0, 600),
    why=st.none() | st.text(max_size=9),
)
hellos = st.builds(
    WireHello,
    version=st.none() | st.sampled_from([0, 1, 1, 2]),
    role=st.none() | st.sampled_from([0, 1, 2, 3, 4, 5]),
    heartbeat_ms=st.none() | st.sampled_from([0, 1, 5000, 2**32 - 1]),
    token=st.none() | st.text(max_size=5),
)
frames = st.builds(
    Frame,
    items=st.lists(items, max_size=4),
    hello=st.none() | st.none() | hellos,
    error=st.none() | st.none() | st.none() | st.text(max_size=9),
).map(lambda frame: framing.encode(frame.SerializeToString()))
good = st.lists(st.binary(max_size=20), max_size=5).map(
    lambda bodies: framing.encode(
        Frame(
            items=[Item(name=NAME, body=b"\x0a" + bytes([len(body)]) + body) for body in bodies]
        ).SerializeToString()
    )
)


@st.composite
def damaged(draw: Any) -> bytes:
    """A frame with a few bytes changed, cut out or put in."""
    data = bytearray(draw(frames | good))
    for place, value, width in draw(
        st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=2), st.integers(0, 2)))
    ):
        place %= len(data) + 1
        data[place : place + width] = value
    return bytes(data)


streams = st.lists(st.binary(max_size=30) | frames | good | good | damaged(), max_size=10).map(
    b"".join
)
cuts = st.lists(st.integers(0, 5000), max_size=20)


class Answering:
    """A receiver that answers every call, calls itself, and sends."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.lost_count = 0

    def connected(self, link: Link) -> None:
        from tests.wire.ears import text

        link.call(text("are you there?")).addErrback(lambda _: None)

    def received(self, link: Link, message: Any, call: int | None) -> None:
        self.heard.append(message.SerializeToString())
        if call is not None:
            link.answer(call, Taken())
        link.send(message)

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None:
        self.lost_count += 1


class Sink:
    """A peer that takes everything."""

    ended = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        self.ended = True


class FuzzTests(SynchronousTestCase):
    """Random streams, before and after hello."""

    settings = StreamSettings(record_limit=1024, early_limit=512, maximum_calls=4)

    def play(self, stream: bytes, cuts: list[int]) -> tuple[StreamFactory, Answering, bool]:
        """Let a peer say this; returns the factory, what was heard, and whether it was ended."""
        clock, ear = Clock(), Answering()
        factory = StreamFactory(ear, MASTER, clock=clock, settings=self.settings)
        sink = Sink()
        protocol: Any = factory.buildProtocol(None)
        wires = Wires(clock, protocol, sink)
        for piece in pieces(stream, cuts):
            sink.transport.write(piece)
            wires.spin()
            session = protocol.session
            self.assertLessEqual(session.decoder.buffered, 1024 + 4)
            self.assertLessEqual(len(session._owed or ()), 4)
            self.assertLessEqual(len(session._calls._waiting if session._calls else ()), 4)
            self.assertEqual(session.queued, 0)
        ended = sink.ended
        wires.cut()
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(factory.protocols, set())
        self.assertEqual(factory.counters.links, 0)
        self.assertEqual(ear.lost_count, factory.counters.opened)
        # Whatever was wrong was the peer's doing, never an exception of ours.
        self.assertNotIn("internal", factory.counters.errors)
        self.assertEqual(ended, bool(factory.counters.errors))
        return factory, ear, ended

    @given(streams, cuts)
    def test_strangers(self, stream: bytes, cuts: list[int]) -> None:
        self.play(stream, cuts)

    @given(streams, cuts)
    def test_peers(self, stream: bytes, cuts: list[int]) -> None:
        factory, _, _ = self.play(GREETING + stream, cuts)
        self.assertEqual(factory.counters.opened, 1)

    @given(streams, cuts)
    def test_fragmentation_changes_nothing(self, stream: bytes, cuts: list[int]) -> None:
        one, heard, ended = self.play(GREETING + stream, [])
        other, heard_too, ended_too = self.play(GREETING + stream, cuts)
        self.assertEqual((heard.heard, ended), (heard_too.heard, ended_too))
        self.assertEqual(one.counters.errors, other.counters.errors)

    @given(st.lists(good, max_size=10), cuts)
    def test_good_frames_are_all_heard(self, stream: list[bytes], cuts: list[int]) -> None:
        factory, ear, ended = self.play(GREETING + b"".join(stream), cuts)
        self.assertFalse(ended)
        self.assertEqual(len(ear.heard), factory.counters.items_in)
