"""In-process links: the contract, and what a pipe adds."""

from __future__ import annotations

from collections.abc import Callable

from mesoskit.wire import memory
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.memory import MEMORY_SETTINGS, Pipe, connect
from mesoskit.wire.settings import StreamSettings
from tests.base import SynchronousTestCase
from tests.wire.contract import HoldContract, Pair
from tests.wire.ears import AGENT, EXECUTOR, FRAMEWORK, MASTER, Ear, text


class MemoryPair:
    """A pipe in the contract's hands."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        self.pipe.pump()
        if until is not None and not until():
            raise AssertionError("all is quiet, and it has not come")

    def cut(self) -> None:
        self.pipe.cut()

    def stall(self, stalled: bool) -> None:
        self.pipe.stall(stalled, self.pipe.a)


class MemoryContractTests(HoldContract, SynchronousTestCase):
    """The promises, without sockets."""

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        return MemoryPair(
            connect(a, b, hello_a, hello_b, settings=self.settings, settings_b=settings_b)
        )


class PipeTests(SynchronousTestCase):
    """A pipe moves when it is told to."""

    def setUp(self) -> None:
        self.a, self.b = Ear(), Ear()

    def pipe(self, **options: object) -> Pipe:
        pipe = connect(self.a, self.b, MASTER, FRAMEWORK, **options)  # type: ignore[arg-type]
        self.addCleanup(pipe.pump)
        return pipe

    def test_nothing_moves_before_pump(self) -> None:
        pipe = self.pipe()
        self.assertEqual(self.a.heard, [])
        self.assertTrue(pipe.pump())
        self.assertEqual((self.a.heard, self.b.heard), (["connected"], ["connected"]))
        pipe.a.send(text("one"))
        self.assertEqual(self.b.words, [])
        self.assertTrue(pipe.pump())
        self.assertEqual(self.b.words, ["one"])
        self.assertFalse(pipe.pump())

    def test_messages_are_copies(self) -> None:
        pipe = self.pipe()
        pipe.pump()
        message = text("one")
        pipe.a.send(message)
        message.data = b"two"  # type: ignore[attr-defined]
        pipe.pump()
        self.assertEqual(self.b.words, ["one"])

    def test_a_stalled_link_is_congested_at_once_and_holds_what_is_sent(self) -> None:
        pipe = self.pipe()
        pipe.pump()
        pipe.stall(True)
        self.assertTrue(pipe.a.congested)
        pipe.a.send(text("one"))
        pipe.pump()
        self.assertEqual(self.b.words, [])
        pipe.stall(False)
        pipe.pump()
        self.assertEqual(self.b.words, ["one"])
        self.assertEqual(self.a.congestions, [True, False])
        self.assertEqual(self.b.congestions, [True, False])

    def test_one_direction_can_stall_alone(self) -> None:
        pipe = self.pipe()
        pipe.pump()
        pipe.stall(True, pipe.a)
        self.assertEqual((pipe.a.congested, pipe.b.congested), (True, False))

    def test_cut_loses_what_was_under_way(self) -> None:
        pipe = self.pipe()
        pipe.pump()
        pipe.a.send(text("one"))
        pipe.cut()
        self.assertEqual(self.b.words, [])
        self.assertEqual((len(self.a.reasons), len(self.b.reasons)), (1, 1))

    def test_cut_from_within_a_receiver(self) -> None:
        pipes: list[Pipe] = []
        self.b.react = lambda *_: pipes[0].cut("gone")
        pipes.append(self.pipe())
        pipes[0].pump()
        pipes[0].a.send(text("one"))
        pipes[0].pump()
        self.assertEqual((self.a.reasons, self.b.reasons), (["gone"], ["gone"]))

    def test_principals_are_as_the_test_says(self) -> None:
        pipe = self.pipe(principal_a="master", principal_b="ops")
        pipe.pump()
        self.assertEqual((pipe.a.principal, pipe.b.principal), ("ops", "master"))

    def test_roles_that_are_not_accepted_are_refused(self) -> None:
        pipe = self.pipe(accept_a=[2, 4])
        pipe.pump()
        self.assertEqual((self.a.heard, self.b.heard), ([], []))
        self.assertIn("role framework is not accepted here", pipe.b.ended)

    def test_one_that_takes_nothing_is_cut_off_at_the_cap(self) -> None:
        settings = StreamSettings(high_water=0, low_water=0, outbound_cap=100_000)
        pipe = self.pipe(settings=settings)
        pipe.pump()
        pipe.stall(True)
        for _ in range(10):
            pipe.a.send(text(b"x" * 20_000))
        self.assertEqual(self.a.reasons, [])
        pipe.pump()
        self.assertIn("failed to keep up", self.a.reasons[0])
        self.assertEqual(self.b.words, [])
        self.assertEqual(pipe.counters.errors, {"slow": 1})

    def test_two_that_never_stop_are_found_out(self) -> None:
        self.patch(memory, "_NEVER_QUIET", 100)
        self.a.react = self.b.react = lambda link, word, _: link.send(text(word))
        pipe = self.pipe()
        pipe.pump()
        pipe.a.send(text("ping"))
        self.assertRaises(RuntimeError, pipe.pump)
        pipe.cut()

    def test_a_receiver_may_be_made_for_each_link(self) -> None:
        made: list[Ear] = []

        def make() -> Ear:
            made.append(Ear())
            return made[-1]

        connect(make, Ear, MASTER, AGENT).pump()
        connect(make, Ear, MASTER, AGENT).pump()
        self.assertEqual([ear.heard for ear in made], [["connected"], ["connected"]])

    def test_a_token_reaches_the_peer_and_no_log(self) -> None:
        pipe = connect(self.a, self.b, AGENT, EXECUTOR)
        pipe.pump()
        self.assertEqual(pipe.a.hello.token, "let me in")
        self.assertNotIn("let me in", repr(pipe.a.hello))

    def test_counters_add_up_on_both_sides(self) -> None:
        pipe = self.pipe()
        pipe.pump()
        for number in range(5):
            pipe.a.send(text(f"m{number}"))
        pipe.pump()
        counters = pipe.counters
        self.assertEqual((counters.links, counters.opened), (2, 2))
        self.assertEqual((counters.items_out, counters.items_in), (5, 5))
        # Two hellos, and one frame for five messages.
        self.assertEqual((counters.frames_out, counters.frames_in), (3, 3))
        self.assertEqual(counters.bytes_out, counters.bytes_in)
        pipe.cut()
        self.assertEqual((counters.links, counters.opened), (0, 2))
        self.assertEqual(counters.snapshot("wire/")["wire/items_in"], 5)


class MemorySettingsTests(SynchronousTestCase):
    """What the in-process settings are."""

    def test_any_stall_is_congestion(self) -> None:
        self.assertEqual((MEMORY_SETTINGS.high_water, MEMORY_SETTINGS.low_water), (0, 0))


def _types(link: Link) -> None:
    """For the type checker: both ends are links."""


_types(connect(Ear(), Ear(), MASTER, AGENT).a)
