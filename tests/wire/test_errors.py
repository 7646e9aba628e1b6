"""What a peer may not say, before hello and after: it is told, counted and sent away."""

from __future__ import annotations

from mesoskit.messages.stream_pb2 import Frame, Role
from mesoskit.messages.stream_pb2 import Hello as WireHello
from mesoskit.wire.link import Hello, Link
from tests.wire.ears import Ear, text
from tests.wire.strangers import StrangerCase


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

    def test_a_purpose_that_links_do_not_have_here(self) -> None:
        self.greet(purpose=1)
        self.check_sent_away("purpose", "no bulk link is taken here")

    def test_links_of_another_purpose_have_a_receiver_of_their_own(self) -> None:
        bulk = Ear()
        self.factory.plan.others[1] = lambda: bulk
        self.factory.plan.purposes = frozenset((0, 1))
        self.stranger, self.wires = self.come()
        self.greet(purpose=1, token="t")
        self.assertEqual((["connected"], []), (bulk.heard, self.ear.heard))
        self.assertEqual((1, "t"), (bulk.link.hello.purpose, bulk.link.hello.token))

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
