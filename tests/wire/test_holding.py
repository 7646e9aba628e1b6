"""Whatever is sent, in whatever pieces, however often the link is held: all is heard, in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.ears import AGENT, MASTER, Ear, text
from tests.wire.transports import Dialling, Wires

# How many messages are sent in a turn, of how many bytes, whether the link is held or let go before
# it, and after how many more messages its receiver has enough (0: never).
TURNS = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([0, 300]), st.booleans(), st.integers(0, 5)),
    max_size=8,
)


class HoldingTests(SynchronousTestCase):
    """A native link that is held at any moment."""

    @given(TURNS, st.sampled_from([0, 11, 1000]), st.sampled_from([64, 100_000]))
    @settings(max_examples=40, deadline=None)
    def test_nothing_is_lost_or_changes_places(
        self, turns: list[tuple[int, int, bool, int]], piece: int, batch: int
    ) -> None:
        clock = Clock()
        enough = 0

        def react(link: object, word: str, call: int | None) -> None:
            nonlocal enough
            enough -= 1
            if enough == 0:
                ear.link.hold(True)

        ear, peer = Ear(react), Ear()
        native = StreamFactory(ear, MASTER, clock=clock)
        dialling = Dialling(peer, AGENT, clock=clock, settings=StreamSettings(batch=batch))
        wires = Wires(clock, native.buildProtocol(None), dialling.buildProtocol(None), piece)
        wires.spin()
        sent = 0
        for count, size, held, enough in turns:  # noqa: B007
            ear.link.hold(held)
            before = len(ear.words)
            for _ in range(count):
                peer.link.send(text(f"{sent:05}" + "x" * size))
                sent += 1
            wires.spin()
            if held:
                self.assertEqual(len(ear.words), before)
        enough = 0
        ear.link.hold(False)
        wires.spin()
        peer.link.lose("done")
        wires.spin()
        self.assertEqual([int(word[:5]) for word in ear.words], list(range(sent)))
        self.assertEqual(len(ear.reasons), 1)
