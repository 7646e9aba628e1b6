"""The other end of a native link, played by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from mesoskit.messages.stream_pb2 import Frame
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire import framing
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.ears import MASTER, Ear
from tests.wire.transports import Wires


class Stranger:
    """The other end of a link, played by hand."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.decoder = framing.Decoder()
        self.frames: list[Frame] = []
        self.lost = 0

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.frames += map(Frame.FromString, self.decoder.feed(data))

    def connectionLost(self, reason: object) -> None:
        self.lost += 1

    def say(self, frame: Frame | None = None, **fields: Any) -> None:
        """Send a frame, given or of these fields."""
        frame = frame or Frame(**fields)
        self.transport.write(framing.encode(frame.SerializeToString()))

    @property
    def errors(self) -> list[str]:
        """What it was told before the end."""
        return [frame.error for frame in self.frames if frame.HasField("error")]

    @property
    def heartbeats(self) -> int:
        """How many empty frames came."""
        return sum(frame == Frame() for frame in self.frames)


class StrangerCase(SynchronousTestCase):
    """A native link whose peer is a L{Stranger}."""

    settings = StreamSettings(maximum_calls=5)
    accept: tuple[int, ...] | None = None
    settle: Any = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.ear = Ear()
        self.factory = StreamFactory(
            self.ear,
            MASTER,
            clock=self.clock,
            accept=self.accept,
            settings=self.settings,
            settle=self.settle,
        )
        self.stranger, self.wires = self.come()

    def come(self) -> tuple[Stranger, Wires]:
        """Let a stranger come."""
        stranger = Stranger()
        wires = Wires(self.clock, self.factory.buildProtocol(None), stranger)
        wires.spin()
        return stranger, wires

    def greet(self, **changes: Any) -> None:
        """Say a hello that is right but for these changes; L{None} leaves a field out."""
        fields: dict[str, Any] = {"version": 1, "role": 2, "software": "x/1", "heartbeat_ms": 5000}
        fields.update(changes)
        known = {name: value for name, value in fields.items() if value is not None}
        self.say(hello=WireHello(**known))

    def say(self, frame: Frame | None = None, **fields: Any) -> None:
        """Say a frame, and let it arrive."""
        self.stranger.say(frame, **fields)
        self.wires.spin()

    def check_sent_away(self, kind: str, why: str) -> None:
        """The stranger was told why, counted, and the connection is closed."""
        self.assertIn(why, "".join(self.stranger.errors))
        self.assertEqual(self.factory.counters.errors, {kind: 1})
        self.assertEqual(self.stranger.lost, 1)
        self.assertEqual(self.factory.protocols, set())
        self.assertEqual([each for each in self.ear.heard if each == "connected"], self.connected)
        self.assertEqual(len(self.ear.reasons), len(self.connected))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    connected: list[str] = []
