"""The native stream on transports in memory: the contract, hello, heartbeats, errors, limits."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from mesoskit.messages.stream_pb2 import Frame, Role
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire import framing
from mesoskit.wire.link import Hello, Link, Refused
from mesoskit.wire.session import Session
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory
from tests.base import SynchronousTestCase
from tests.wire.contract import LinkContract, Pair
from tests.wire.ears import MASTER, Ear, text
from tests.wire.transports import Dialling, Transport, Wires


class StreamContractTests(LinkContract, SynchronousTestCase):
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


class HelloTests(StrangerCase):
    """Hello comes first, both ways, and must be right."""

    accept = (2, 4)

    def test_whoever_was_dialled_waits_for_the_peers_hello_and_answers_it(self) -> None:
        self.assertEqual(self.stranger.frames, [])
        self.greet()
        hello = WireHello(
            version=1,
            role=Role.MASTER,
            software="mesoskit/test",
            epoch=7,
            heartbeat_ms=5000,
            instance="m1",
        )
        self.assertEqual(self.stranger.frames, [Frame(hello=hello)])

    def test_the_peers_hello_is_kept(self) -> None:
        self.greet(epoch=9, token="t", instance="i", software="s")
        self.assertEqual(self.ear.link.hello, Hello(2, "s", 9, "t", "i"))

    def test_an_absent_token_is_none_and_an_empty_one_is_empty(self) -> None:
        self.greet()
        self.assertIsNone(self.ear.link.hello.token)
        self.stranger, self.wires = self.come()
        self.greet(token="")
        self.assertEqual(self.ear.link.hello.token, "")

    def test_a_new_hello_is_said_to_new_links(self) -> None:
        self.factory.plan.hello = Hello(role=1, epoch=8)
        self.stranger, self.wires = self.come()
        self.greet()
        self.assertEqual(self.stranger.frames[0].hello.epoch, 8)

    def test_one_that_is_refused_gets_an_error_and_no_hello(self) -> None:
        self.greet(role=3)
        self.assertEqual([frame.HasField("hello") for frame in self.stranger.frames], [False])

    def test_another_version(self) -> None:
        self.greet(version=2)
        self.check_sent_away("version", "version 2 is not spoken here, only 1")

    def test_no_version(self) -> None:
        self.greet(version=None)
        self.check_sent_away("version", "version 0")

    def test_a_role_that_is_not_accepted(self) -> None:
        self.greet(role=3)
        self.check_sent_away("role", "role framework is not accepted here, only: agent, executor")

    def test_no_role(self) -> None:
        self.greet(role=None)
        self.check_sent_away("role", "no role that is known")

    def test_a_role_nobody_has_heard_of(self) -> None:
        frame = Frame.FromString(b"\x12\x07\x08\x01\x10\x63\x28\x88\x27")
        self.say(frame)
        self.check_sent_away("role", "no role that is known")

    def test_no_heartbeats(self) -> None:
        self.greet(heartbeat_ms=None)
        self.check_sent_away("heartbeat", "heartbeats every 0 s")

    def test_heartbeats_that_are_too_rare(self) -> None:
        self.greet(heartbeat_ms=60_001)
        self.check_sent_away("heartbeat", "up to 60")

    def test_strings_that_are_not_text(self) -> None:
        self.say(Frame.FromString(b"\x12\x0b\x08\x01\x10\x02\x1a\x02\xff\xfe\x28\x88\x27"))
        self.check_sent_away("hello", "no text")

    def test_strings_that_are_too_long(self) -> None:
        self.greet(instance="x" * 5000)
        self.check_sent_away("hello", "up to 4096")

    def test_a_message_before_hello(self) -> None:
        self.say(items=[{"name": "mesos.internal.AuthenticationStepMessage", "body": b"\x0a\x00"}])
        self.check_sent_away("no-hello", "the first frame must be a hello")

    def test_a_heartbeat_before_hello(self) -> None:
        self.say()
        self.check_sent_away("no-hello", "the first frame must be a hello")

    def test_a_hello_with_company(self) -> None:
        self.say(
            hello=WireHello(version=1, role=Role.AGENT, heartbeat_ms=1), items=[{"answers": 1}]
        )
        self.check_sent_away("no-hello", "a frame of its own")

    def test_what_is_too_long_for_a_stranger(self) -> None:
        self.stranger.transport.write(b"\x00\x02\x00\x00")
        self.wires.spin()
        self.check_sent_away("oversize", "over the limit of 65536")

    def test_what_is_no_frame_at_all(self) -> None:
        self.stranger.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        self.wires.spin()
        self.check_sent_away("unframed", "does not speak the native stream")

    def test_no_hello_in_time(self) -> None:
        self.clock.advance(4.9)
        self.wires.spin()
        self.assertEqual(self.stranger.lost, 0)
        self.clock.advance(0.2)
        self.wires.spin()
        self.check_sent_away("hello-timeout", "no hello came within 5 s")

    def test_half_a_hello_is_none(self) -> None:
        self.stranger.transport.write(b"\x00\x00")
        self.wires.spin()
        self.clock.advance(5)
        self.wires.spin()
        self.check_sent_away("hello-timeout", "no hello came")

    def test_the_hello_timer_ends_with_the_hello(self) -> None:
        self.greet()
        self.clock.advance(5.1)
        self.wires.spin()
        self.assertEqual((self.stranger.errors, self.stranger.lost), ([], 0))

    def test_an_error_instead_of_a_hello(self) -> None:
        self.say(error="no room")
        self.check_sent_away("told", "")
        self.assertEqual(self.stranger.errors, [])

    def test_one_who_leaves_before_hello(self) -> None:
        self.wires.cut()
        self.assertEqual(self.factory.counters.errors, {})
        self.assertEqual((self.ear.heard, self.clock.getDelayedCalls()), ([], []))


class ErrorTests(StrangerCase):
    """Whatever an open peer says wrong ends its link, and nothing else."""

    connected = ["connected"]
    name = "mesos.internal.AuthenticationStepMessage"

    def setUp(self) -> None:
        super().setUp()
        self.greet()

    def test_a_second_hello(self) -> None:
        self.greet()
        self.check_sent_away("second-hello", "a hello comes once")

    def test_a_message_nobody_knows(self) -> None:
        self.say(items=[{"name": "mesos.internal.NoSuchMessage"}])
        self.check_sent_away("unknown", "no message named 'mesos.internal.NoSuchMessage' travels")

    def test_a_message_that_only_travels_inside_others(self) -> None:
        self.say(items=[{"name": "mesos.v1.TaskInfo"}])
        self.check_sent_away("unknown", "mesos.v1.TaskInfo")

    def test_a_name_that_is_not_text(self) -> None:
        self.say(Frame.FromString(b"\x0a\x04\x0a\x02\xff\xfe"))
        self.check_sent_away("unknown", "xff")

    def test_an_endless_name_is_cut_short(self) -> None:
        self.say(items=[{"name": "x" * 100_000}])
        self.assertLess(len(self.stranger.errors[0]), 2000)
        self.check_sent_away("unknown", "no message named 'xxx")

    def test_an_item_that_is_nothing(self) -> None:
        self.say(Frame.FromString(b"\x0a\x00"))
        self.check_sent_away("unknown", "no message named ''")

    def test_a_body_that_is_no_message(self) -> None:
        self.say(items=[{"name": self.name, "body": b"\xff\xff\xff"}])
        self.check_sent_away("malformed", "not a mesos.internal.AuthenticationStepMessage")

    def test_a_body_that_lacks_a_required_field(self) -> None:
        self.say(items=[{"name": self.name, "body": b""}])
        self.check_sent_away("malformed", "required fields are missing: data")

    def test_a_required_enum_of_a_value_nobody_knows(self) -> None:
        # mesos.v1.TaskStatus.state = 99, which protobuf puts aside as an unknown field.
        status = b"\x0a\x03\x0a\x01t\x10\x63"
        update = (
            b"\x08\x05\x2a" + bytes([len(status) + 2]) + b"\x0a" + bytes([len(status)]) + status
        )
        self.say(items=[{"name": "mesos.v1.scheduler.Event", "body": update}])
        self.check_sent_away("malformed", "state")

    def test_a_frame_that_is_no_frame(self) -> None:
        self.stranger.transport.write(b"\x00\x00\x00\x02\xff\xff")
        self.wires.spin()
        self.check_sent_away("malformed", "not a Frame")

    def test_what_comes_after_an_error_is_not_delivered(self) -> None:
        good = {"name": self.name, "body": b"\x0a\x03yes"}
        self.stranger.say(items=[good, {"name": "wrong"}, good])
        self.say(items=[good])
        self.assertEqual(self.ear.words, ["yes"])
        self.check_sent_away("unknown", "wrong")

    def test_an_answer_nobody_waits_for(self) -> None:
        self.say(items=[{"answers": 3}])
        self.check_sent_away("answer", "an answer came to call 3, which waits for none")

    def test_a_second_answer(self) -> None:
        answer = self.ear.link.call(text("please"))
        self.wires.spin()
        self.say(items=[{"answers": 1}])
        self.assertIsNone(self.successResultOf(answer))
        self.say(items=[{"answers": 1, "status": 400}])
        self.check_sent_away("answer", "call 1")

    def test_an_item_that_is_both_message_and_answer(self) -> None:
        self.say(items=[{"answers": 1, "name": self.name, "body": b"\x0a\x00"}])
        self.check_sent_away("answer", "not both")

    def test_a_call_number_that_is_used_twice(self) -> None:
        call = {"name": self.name, "body": b"\x0a\x00", "call": 7}
        self.say(items=[call])
        self.say(items=[call])
        self.check_sent_away("call", "call 7 was made again before it was answered")

    def test_more_calls_than_are_answered(self) -> None:
        self.say(items=[{"name": self.name, "body": b"\x0a\x00", "call": n + 1} for n in range(6)])
        self.assertEqual(len(self.ear.words), 5)
        self.check_sent_away("calls", "more than 5 calls wait for answers")

    def test_status_202_is_consent(self) -> None:
        answer = self.ear.link.call(text("please"))
        self.wires.spin()
        self.say(items=[{"answers": 1, "status": 202}])
        self.assertIsNone(self.successResultOf(answer))

    def test_unknown_fields_are_passed_over(self) -> None:
        # Field 15 of Frame and of Item, which later versions may have.
        item = b"\x0a\x28" + self.name.encode() + b"\x12\x05\x0a\x03yes\x7a\x01x"
        self.assertEqual(len(self.name), 0x28)
        payload = b"\x7a\x01x\x0a" + bytes([len(item)]) + item
        self.say(Frame.FromString(payload))
        self.assertEqual((self.ear.words, self.ear.reasons), (["yes"], []))

    def test_the_peers_error_is_the_reason(self) -> None:
        self.say(error="Framework has been removed")
        self.assertEqual(self.ear.reasons, ["the peer said: Framework has been removed"])
        self.check_sent_away("told", "")

    def test_an_error_that_is_not_text_or_too_long(self) -> None:
        self.say(Frame.FromString(b"\x1a\xd0\x0f" + b"\xff" * 2000))
        self.assertIn("�", self.ear.reasons[0])
        self.assertLess(len(self.ear.reasons[0]), 1100)

    def test_a_receiver_that_cannot_be_made(self) -> None:
        def make() -> Ear:
            raise ZeroDivisionError

        self.factory.plan.receiver = make
        self.stranger, self.wires = self.come()
        self.greet()
        self.assertEqual(self.stranger.errors, ["internal error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_receiver_that_raises_in_connected_congestion_or_lost(self) -> None:
        class Clumsy(Ear):
            def connected(self, link: Link) -> None:
                super().connected(link)
                raise ZeroDivisionError

            def lost(self, link: Link, why: str) -> None:
                super().lost(link, why)
                raise ZeroDivisionError

        ear = Clumsy()
        self.factory.plan.receiver = lambda: ear
        self.stranger, self.wires = self.come()
        self.greet()
        self.assertEqual(self.stranger.errors, ["internal error"])
        self.assertEqual(ear.heard, ["connected", ("lost", "internal error")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


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


class Password:
    """A settling layer: the first message must be the right word."""

    def __init__(self, session: Session) -> None:
        self.session = session
        session.send(text("who are you?"))

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

    def test_the_time_for_hello_goes_on(self) -> None:
        self.clock.advance(5)
        self.wires.spin()
        self.assertEqual(self.stranger.errors, ["not authenticated within 5 s"])
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
