"""C{docs/wire.md} says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire import framing
from mesoskit.wire.link import Hello, Link, Refused
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.transports import Dialling, Wires

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire.md").read_text()

_LINE = re.compile(r"^([<> ]) ((?:[0-9a-f]{2} ?)+)(?: .*)?$")

FRAMEWORK = Hello(role=3, software="example/1", instance="f1")
MASTER = Hello(role=1, software="mesoskit/0.1.0", epoch=7, instance="m1")


def example() -> list[tuple[str, bytes]]:
    """Return the frames of the example: who sends it, and all of its bytes."""
    block = PAGE.split("## An example, byte by byte")[1].split("```")[1]
    frames: list[tuple[str, bytes]] = []
    for line in block.strip().splitlines():
        match = _LINE.match(line)
        if match is None:
            assert not line.strip(), line
            continue
        mark, data = match[1], bytes.fromhex(match[2])
        if mark == " ":
            frames[-1] = frames[-1][0], frames[-1][1] + data
        else:
            frames.append((mark, data))
    return frames


class Master:
    """Refuses calls to kill, and sends an event with the refusal."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int | None]] = []

    def connected(self, link: Link) -> None: ...

    def received(self, link: Link, message: Any, call: int | None) -> None:
        self.heard.append((message.type, call))
        if call is not None:
            link.answer(call, Refused(403, "No such task"))
            link.send(Event(type=Event.HEARTBEAT))

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None: ...


class Recorder:
    """A peer played by hand."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.heard = b""

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: object) -> None: ...


class PageTests(SynchronousTestCase):
    """The page's example and its lists."""

    def test_a_master_answers_the_example_byte_for_byte(self) -> None:
        clock, master, peer = Clock(), Master(), Recorder()
        factory = StreamFactory(master, MASTER, clock=clock)
        wires = Wires(clock, factory.buildProtocol(None), peer)
        self.assertEqual(len(example()), 7)
        for mark, data in example():
            if mark == ">":
                peer.transport.write(data)
                wires.spin()
            else:
                self.assertEqual(peer.heard[: len(data)].hex(" "), data.hex(" "))
                peer.heard = peer.heard[len(data) :]
        self.assertEqual(peer.heard, b"")
        self.assertEqual(master.heard, [(Call.SUPPRESS, None), (Call.KILL, 1)])

    def test_a_framework_says_the_example_byte_for_byte(self) -> None:
        clock, peer = Clock(), Recorder()
        factory = Dialling(Master(), FRAMEWORK, clock=clock)
        protocol = factory.buildProtocol(None)
        assert protocol is not None
        wires = Wires(clock, protocol, peer)
        frames = example()
        peer.transport.write(frames[1][1])
        wires.spin()
        call = Call(type=Call.SUPPRESS)
        call.framework_id.value = "f-0"
        protocol.session.send(call)
        call.type = Call.KILL
        call.kill.task_id.value = "t1"
        refused = protocol.session.call(call)
        wires.spin()
        self.assertEqual(peer.heard.hex(" "), (frames[0][1] + frames[2][1]).hex(" "))
        peer.transport.write(frames[3][1])
        wires.spin()
        self.assertEqual(str(self.failureResultOf(refused).value), "No such task (403)")

    def test_every_frame_of_the_example_is_whole(self) -> None:
        for _, data in example():
            decoder = framing.Decoder()
            self.assertEqual([framing.encode(payload) for payload in decoder.feed(data)], [data])

    def test_every_kind_of_error_is_listed(self) -> None:
        raised = r"(?:_fail|_cut|\.error|_turn_away|HelloRefused)\(\s*(?:protocol, )?\"([a-z-]+)\""
        kinds = {"unframed", "oversize", "unknown-protocol", "too-many-http"}
        for path in (ROOT / "mesoskit" / "wire").glob("*.py"):
            kinds |= set(re.findall(raised, path.read_text()))
        self.assertGreater(len(kinds), 20)
        self.assertEqual([kind for kind in sorted(kinds) if f"`{kind}`" not in PAGE], [])
