"""The native stream on transports in memory: the contract, heartbeats, batches, limits."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from mesoskit.messages.stream_pb2 import Frame
from mesoskit.wire import framing
from mesoskit.wire.hellos import HelloRefused
from mesoskit.wire.link import Hello, Refused
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.contract import HoldContract, Pair
from tests.wire.ears import Ear, text
from tests.wire.strangers import StrangerCase
from tests.wire.transports import Dialling, Transport, Wires


class StreamContractTests(HoldContract, SynchronousTestCase):
    """The promises, over transports that deliver what was written at once."""

    piece = 0

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        clock = Clock()
        factories = (
            StreamFactory(a, hello_a, clock=clock, settings=self.settings),
            Dialling(b, hello_b, clock=clock, settings=settings_b),
        )
        ends = [factory.buildProtocol(None) for factory in factories]
        self.addCleanup(self.check_nothing_is_left, clock, factories)
        return Wires(clock, ends[0], ends[1], self.piece)

    def check_nothing_is_left(self, clock: Clock, factories: Any) -> None:
        """Whatever a test did, the end of the connection leaves no timer and no protocol."""
        for factory in factories:
            for protocol in list(factory.protocols):
                protocol.transport.wires.cut()
            self.assertEqual(factory.protocols, set())
            self.assertEqual(factory.counters.links, 0)
        clock.advance(0)
        self.assertEqual(clock.getDelayedCalls(), [])


class FragmentedStreamContractTests(StreamContractTests):
    """The promises, over transports that deliver a few bytes at a time."""

    piece = 7

    settings = StreamSettings(high_water=64 * 1024, low_water=16 * 1024, maximum_calls=20, batch=99)

    def congest(self, pair: Any, ear: Ear) -> int:
        # Megabytes in sevens tell nothing new.
        pair.piece = 9_973
        return super().congest(pair, ear)

    def test_large_messages_among_small_ones(self) -> None:
        self.piece = 9_973
        super().test_large_messages_among_small_ones()


class HeartbeatTests(StrangerCase):
    """Silence is noticed on both sides, and costs little."""

    def setUp(self) -> None:
        super().setUp()
        self.greet()

    def pass_time(self, seconds: float, talking: bool = False) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            if talking:
                self.stranger.say()
            self.wires.spin()

    def test_heartbeats_are_sent_while_there_is_nothing_else_to_send(self) -> None:
        self.pass_time(61, talking=True)
        self.assertEqual(self.stranger.heartbeats, 12)
        self.assertEqual(self.stranger.lost, 0)

    def test_at_least_one_frame_is_sent_in_each_span(self) -> None:
        gap = longest = 0.0
        for step in range(1000):
            before = len(self.stranger.frames)
            if step % 37 == 0:
                self.ear.link.send(text("m"))
            self.pass_time(0.1, talking=True)
            gap = 0 if len(self.stranger.frames) > before else gap + 0.1
            longest = max(gap, longest)
        self.assertLessEqual(longest, 5.0)

    def test_whoever_sends_anyway_sends_no_heartbeats(self) -> None:
        for _ in range(30):
            self.ear.link.send(text("m"))
            self.pass_time(1, talking=True)
        self.assertEqual(self.stranger.heartbeats, 0)

    def test_a_silent_peer_is_lost_after_three_of_its_own_spans(self) -> None:
        self.pass_time(14.9)
        self.assertEqual(self.ear.reasons, [])
        self.pass_time(5.3)
        self.assertEqual(len(self.ear.reasons), 1)
        self.assertIn("nothing heard for", self.ear.reasons[0])
        self.assertEqual(self.factory.counters.errors, {"silent": 1})
        self.assertEqual(self.stranger.lost, 1)

    def test_one_that_announces_longer_spans_is_waited_for_longer(self) -> None:
        self.stranger, self.wires = self.come()
        self.greet(heartbeat_ms=20_000)
        self.pass_time(59)
        self.assertEqual(self.stranger.lost, 0)
        self.pass_time(6)
        self.assertEqual(self.stranger.lost, 1)

    def test_anything_that_is_read_counts_as_a_sign_of_life(self) -> None:
        self.stranger.transport.write(b"\x00\x00\x10\x00")
        for _ in range(40):
            self.stranger.transport.write(b"x")
            self.pass_time(1)
        self.assertEqual(self.stranger.lost, 0)

    def test_a_process_that_was_stopped_loses_nobody(self) -> None:
        self.pass_time(1)
        self.clock.advance(600)
        self.stranger.say()
        self.wires.spin()
        self.pass_time(10)
        self.assertEqual(self.stranger.lost, 0)

    def test_no_timer_runs_when_nobody_is_linked(self) -> None:
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.wires.cut()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_links_share_one_timer(self) -> None:
        others = []
        for _ in range(20):
            self.stranger, self.wires = self.come()
            self.greet()
            others.append((self.stranger, self.wires))
            self.clock.advance(0.37)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for _ in range(70):
            self.clock.advance(0.1)
            for stranger, wires in others:
                stranger.say()
                wires.spin()
        for stranger, _ in others:
            self.assertGreaterEqual(stranger.heartbeats, 1)
            self.assertLessEqual(stranger.heartbeats, 3)


class BatchTests(StrangerCase):
    """What is sent within a turn travels together."""

    def setUp(self) -> None:
        super().setUp()
        self.greet()
        self.transport: Transport = self.wires.a
        self.transport.writes = 0
        self.stranger.frames.clear()

    def test_a_turns_messages_are_one_frame_and_one_write(self) -> None:
        for number in range(100):
            self.ear.link.send(text(f"m{number}"))
        self.assertEqual(self.transport.writes, 0)
        self.wires.spin()
        self.assertEqual(self.transport.writes, 1)
        self.assertEqual([len(frame.items) for frame in self.stranger.frames], [100])

    def test_they_leave_at_once_when_asked(self) -> None:
        self.ear.link.send(text("one"))
        self.factory.flush()
        self.assertEqual(self.transport.writes, 1)
        self.ear.link.send(text("two"))
        self.ear.link.flush()
        self.assertEqual(self.transport.writes, 2)
        self.wires.spin()
        self.assertEqual(self.transport.writes, 2)

    def test_large_batches_are_split_and_each_frame_keeps_the_limit(self) -> None:
        for _ in range(50):
            self.ear.link.send(text(b"x" * 20_000))
        self.wires.spin()
        self.assertEqual(sum(len(frame.items) for frame in self.stranger.frames), 50)
        sizes = [frame.ByteSize() for frame in self.stranger.frames]
        self.assertGreater(len(sizes), 1)
        self.assertLessEqual(max(sizes), self.settings.batch)

    def test_a_message_longer_than_a_batch_has_a_frame_of_its_own(self) -> None:
        for size in (10, 400_000, 10):
            self.ear.link.send(text(b"x" * size))
        self.wires.spin()
        self.assertEqual([len(frame.items) for frame in self.stranger.frames], [1, 1, 1])

    def test_calls_are_numbered_and_answers_name_the_number(self) -> None:
        self.ear.react = lambda link, _, call: link.answer(call or 0, Refused(0, "\udc80no"))
        self.ear.link.call(text("a")).addErrback(lambda _: None)
        self.ear.link.call(text("b")).addErrback(lambda _: None)
        name = "mesos.internal.AuthenticationStepMessage"
        self.say(items=[{"name": name, "body": b"\x0a\x00", "call": 2**64 - 1}])
        items = [item for frame in self.stranger.frames for item in frame.items]
        self.assertEqual([item.call for item in items], [1, 2, 0])
        # No status that means consent, and no words that cannot be sent.
        self.assertEqual((items[2].answers, items[2].status), (2**64 - 1, 500))
        self.assertEqual(items[2].why, "?no")


class LimitTests(StrangerCase):
    """Nothing grows without bound."""

    settings = StreamSettings(maximum_links=2, high_water=1000, low_water=10, outbound_cap=200_000)

    def test_connections_beyond_the_limit_are_not_taken(self) -> None:
        self.come()
        self.assertIsNone(self.factory.buildProtocol(None))
        self.assertIsNone(self.factory.buildProtocol(None))
        self.assertEqual(self.factory.counters.errors, {"too-many": 2})
        self.wires.cut()
        self.assertIsNotNone(self.factory.buildProtocol(None))

    def test_one_that_reads_nothing_is_cut_off_at_the_cap(self) -> None:
        self.greet()
        self.wires.stall(True)
        for _ in range(100):
            self.ear.link.send(text(b"x" * 10_000))
            self.wires.spin()
        self.assertIn("failed to keep up: more than 200000 bytes wait", self.ear.reasons[0])
        self.assertEqual(self.ear.congestions, [True])
        self.assertEqual(self.ear.link.queued, 0)
        self.assertEqual(self.factory.counters.errors, {"slow": 1})

    def test_the_cap_holds_within_a_turn(self) -> None:
        self.greet()
        for _ in range(100):
            self.ear.link.send(text(b"x" * 10_000))
        self.assertEqual(self.ear.reasons, [])
        self.wires.spin()
        self.assertEqual(len(self.ear.reasons), 1)

    def test_one_that_does_not_take_the_rest_is_cut_off_after_a_while(self) -> None:
        self.greet()
        self.wires.stall(True)
        self.ear.link.send(text(b"x" * 10_000))
        self.ear.link.lose("enough")
        self.wires.spin()
        self.assertEqual(self.stranger.lost, 0)
        self.clock.advance(5)
        self.wires.spin()
        self.assertEqual((self.stranger.lost, self.ear.reasons), (1, ["enough"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_links_can_be_closed_at_once(self) -> None:
        self.greet()
        other, wires = self.come()
        self.factory.lose_all("shutting down")
        self.wires.spin()
        wires.spin()
        self.assertEqual((self.stranger.errors, other.errors), (["shutting down"],) * 2)
        self.assertEqual(self.ear.reasons, ["shutting down"])
        self.assertEqual(self.factory.protocols, set())


class UnfinishedTests(StrangerCase):
    """What all links have begun and not finished is bounded, too."""

    settings = StreamSettings(unfinished_limit=1_000_000)

    def begin(self, stranger: Any, wires: Wires, size: int, of: int = 8_000_000) -> None:
        """Begin a frame of C{of} bytes, or go on with one."""
        if not stranger.frames[-1:] or not getattr(stranger, "begun", False):
            stranger.begun = True
            stranger.transport.write(of.to_bytes(4, "big"))
        stranger.transport.write(bytes(size))
        wires.spin()

    def test_who_holds_most_is_cut_off(self) -> None:
        self.greet()
        self.begin(self.stranger, self.wires, 600_000)
        others = []
        for size in (300_000, 50_000, 150_000):
            self.stranger, self.wires = other, wires = self.come()
            self.greet()
            others.append((other, wires))
            self.begin(other, wires, size)
        lost = [other.lost for other, _ in others]
        self.assertEqual((lost, len(self.ear.reasons)), ([0, 0, 0], 1))
        self.assertEqual(self.factory.counters.errors, {"unfinished": 1})
        self.assertEqual(self.factory.unfinished.total, 450_008)
        for _, wires in others:
            wires.cut()
        self.assertEqual(self.factory.unfinished.total, 0)

    def test_what_is_finished_does_not_count(self) -> None:
        self.greet()
        message = text(bytes(900_000))
        item = {"name": message.DESCRIPTOR.full_name, "body": message.SerializeToString()}
        whole = Frame(items=[item])
        for _ in range(5):
            data = framing.encode(whole.SerializeToString())
            for start in range(0, len(data), 100_000):
                self.stranger.transport.write(data[start : start + 100_000])
                self.wires.spin()
            self.assertEqual(self.factory.unfinished.total, 0)


class WaitingTests(StrangerCase):
    """So is what waits for peers that do not read."""

    settings = StreamSettings(high_water=1000, low_water=10, waiting_limit=350_000)

    def test_for_whom_most_waits_is_cut_off(self) -> None:
        self.greet()
        peers = [(self.stranger, self.wires, self.ear.link)]
        for _ in range(2):
            self.stranger, self.wires = self.come()
            self.greet()
            peers.append((self.stranger, self.wires, self.ear.link))
        for (_, wires, link), size in zip(peers, (150_000, 250_000, 200_000), strict=True):
            wires.stall(True)
            for _ in range(size // 10_000):
                link.send(text(b"x" * 10_000))
                wires.spin()
        (why,) = self.ear.reasons
        self.assertEqual([link.ended for _, _, link in peers], ["", why, ""])
        self.assertIn("bytes wait for it, the most, and all links together may have 350000", why)
        self.assertEqual(self.factory.counters.errors, {"slow": 1})
        for _, wires, _ in peers:
            wires.stall(False)
            wires.spin()
        self.assertEqual(self.factory.waiting.total, 0)

    def test_who_leaves_lets_nothing_wait(self) -> None:
        self.greet()
        self.wires.stall(True)
        for _ in range(20):
            self.ear.link.send(text(b"x" * 10_000))
            self.wires.spin()
        self.assertGreater(self.factory.waiting.total, 100_000)
        self.wires.cut()
        self.assertEqual(self.factory.waiting.total, 0)


class Password:
    """A settling layer: the first message must be the right word."""

    def __init__(self, session: Session) -> None:
        self.session = session
        if session.hello.software == "bad/1":
            raise HelloRefused("unwanted", "bad software", 403)

    def start(self) -> None:
        self.session.send(text("who are you?"))

    def received(self, message: Any) -> None:
        if message.data == b"boom":
            raise ZeroDivisionError
        if message.data == b"ops":
            self.session.settled("ops")
        else:
            self.session.lose("wrong word")


class SettlingTests(StrangerCase):
    """A layer between hello and connected may ask who the peer is."""

    settle = Password
    name = "mesos.internal.AuthenticationStepMessage"

    def setUp(self) -> None:
        super().setUp()
        self.greet()

    def test_connected_comes_when_the_principal_is_settled(self) -> None:
        self.assertEqual(self.ear.heard, [])
        self.assertEqual(len(self.stranger.frames), 2)
        ops = {"name": self.name, "body": b"\x0a\x03ops"}
        self.say(items=[ops, {"name": self.name, "body": b"\x0a\x02hi"}])
        self.assertEqual(self.ear.link.principal, "ops")
        self.assertEqual(self.ear.words, ["hi"])

    def test_one_that_proves_nothing_is_never_heard_of(self) -> None:
        self.say(items=[{"name": self.name, "body": b"\x0a\x02me"}])
        self.assertEqual(self.stranger.errors, ["wrong word"])
        self.assertEqual((self.ear.heard, self.stranger.lost), ([], 1))

    def test_it_has_a_time_of_its_own(self) -> None:
        self.clock.advance(14.9)
        self.wires.spin()
        self.assertEqual(self.stranger.errors, [])
        self.clock.advance(0.1)
        self.wires.spin()
        self.check_sent_away("settle-timeout", "not authenticated within 15 s")
        self.assertEqual(self.stranger.frames[-1].status, 401)
        self.assertEqual(self.ear.heard, [])

    def test_it_can_refuse_a_hello(self) -> None:
        self.stranger, self.wires = self.come()
        self.greet(software="bad/1")
        self.assertEqual(self.stranger.errors, ["bad software"])
        self.assertEqual(self.stranger.frames[-1].status, 403)
        self.assertEqual(len(self.stranger.frames), 1)
        self.assertEqual(self.factory.counters.errors, {"unwanted": 1})

    def test_nobody_calls_before_it_is_settled_who(self) -> None:
        self.say(items=[{"name": self.name, "body": b"\x0a\x03ops", "call": 1}])
        self.check_sent_away("early-call", "called before it was settled who calls")
        self.assertEqual(self.ear.heard, [])

    def test_a_layer_that_raises_ends_the_link(self) -> None:
        self.say(items=[{"name": self.name, "body": b"\x0a\x04boom"}])
        self.assertEqual(self.stranger.errors, ["internal error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_layer_that_cannot_be_made_ends_the_link(self) -> None:
        def settle(session: Session) -> Password:
            raise ZeroDivisionError

        self.factory.plan.settle = settle
        self.stranger, self.wires = self.come()
        self.greet()
        self.assertEqual(self.stranger.errors, ["internal error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_strangers_stay_under_the_early_limit(self) -> None:
        self.stranger.transport.write(b"\x00\x02\x00\x00")
        self.wires.spin()
        self.assertIn("over the limit of 65536", self.stranger.errors[0])


class SettingsTests(SynchronousTestCase):
    """Settings that cannot work are refused, by name."""

    def test_what_cannot_work_is_named(self) -> None:
        for wrong in (
            {"record_limit": 1 << 24},
            {"record_limit": 10},
            {"low_water": 10, "high_water": 5},
            {"heartbeat": 0},
            {"heartbeat": 61},
            {"linger": 0},
            {"maximum_calls": -1},
        ):
            error = self.assertRaises(ValueError, StreamSettings, **wrong)
            self.assertIn(next(iter(wrong)), str(error))
