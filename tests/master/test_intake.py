"""The intake: who has to wait, for what, and who is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from mesoskit.master.intake import COUNTED, WAITING, Intake
from mesoskit.master.rate_limits import RateLimit, RateLimits
from mesoskit.messages.internal_pb2 import PongSlaveMessage
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.link import Hello, Refused
from tests.base import SynchronousTestCase


class Peer:
    """A link, in a test's hands."""

    peer = "somewhere"
    congested = False

    def __init__(self, principal: str | None = None) -> None:
        self.principal = principal
        self.hello = Hello(3)
        self.held = False
        self.holds = 0
        self.sent: list[Any] = []
        self.answers: list[tuple[int, Any]] = []

    def hold(self, held: bool) -> None:
        assert held is not self.held
        self.held = held
        self.holds += held

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def answer(self, call: int, outcome: Any) -> None:
        self.answers.append((call, outcome))


class State:
    """Who hears what passes, and how far it has got with it."""

    def __init__(self) -> None:
        self.events = 0
        self.heard: list[Any] = []

    @property
    def queued(self) -> int:
        return len(self.heard) - self.events

    def connected(self, link: Any) -> None:
        self.heard.append((link, "connected", None))

    def received(self, link: Any, message: Any, call: int | None) -> None:
        self.heard.append((link, message, call))

    def congestion(self, link: Any, congested: bool) -> None:
        self.heard.append((link, congested, None))

    def lost(self, link: Any, why: str) -> None:
        self.heard.append((link, "lost " + why, None))


def subscribe(principal: str | None = None) -> Call:
    call = Call(type=Call.SUBSCRIBE)
    call.subscribe.framework_info.user = call.subscribe.framework_info.name = "f"
    if principal is not None:
        call.subscribe.framework_info.principal = principal
    return call


SUPPRESS = Call(type=Call.SUPPRESS)
PONG = PongSlaveMessage()


class IntakeCase(SynchronousTestCase):
    """An intake between peers and a state."""

    limits: RateLimits | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.state = State()
        state: Any = self.state
        self.intake = Intake(state, self.clock, lambda: state, self.limits, a_turn=40)

    def come(self, principal: str | None = None) -> Any:
        peer: Any = Peer(principal)
        self.intake.connected(peer)
        return peer

    def framework(self, principal: str | None = None) -> Any:
        peer = self.come()
        self.intake.received(peer, subscribe(principal), 1)
        self.turn()
        self.state.heard.clear()
        self.state.events = 0
        return peer

    def say(self, peer: Any, count: int, message: Any = SUPPRESS) -> None:
        for number in range(count):
            self.intake.received(peer, message, 100 + number)

    def turn(self, events: int | None = None) -> None:
        """Let the state handle what it has heard, or so much of it."""
        self.state.events += self.state.queued if events is None else events
        self.intake.turn_is_over()

    def heard(self, peer: Any) -> int:
        """Return how many messages of a peer have passed."""
        return sum(each[0] is peer and not isinstance(each[1], str) for each in self.state.heard)


class TurnTests(IntakeCase):
    """A link has its turn, and then others have theirs."""

    def test_who_says_too_much_waits_until_that_was_handled(self) -> None:
        loud, quiet = self.come(), self.come()
        self.say(loud, 39, PONG)
        self.assertFalse(loud.held)
        self.say(loud, 1, PONG)
        self.assertTrue(loud.held)
        self.say(quiet, 3, PONG)
        self.assertFalse(quiet.held)
        self.turn(41)
        self.assertTrue(loud.held)
        self.turn(1)
        self.assertFalse(loud.held)
        self.turn()
        self.say(loud, 40, PONG)
        self.assertTrue(loud.held)
        self.turn()
        self.assertEqual((loud.held, loud.holds, quiet.holds), (False, 2, 0))

    def test_where_many_say_too_much_each_has_less_of_a_turn(self) -> None:
        crowd = [self.come() for _ in range(9)]
        for peer in crowd:
            self.say(peer, 40, PONG)
        self.turn()
        for peer in crowd:
            self.assertFalse(peer.held)
            self.say(peer, 15, PONG)
            self.assertFalse(peer.held)
            self.say(peer, 1, PONG)
            self.assertTrue(peer.held)
        self.turn()
        for peer in crowd[1:]:
            self.intake.lost(peer, "gone")
        self.turn()
        self.say(crowd[0], 39, PONG)
        self.assertFalse(crowd[0].held)

    def test_what_was_under_way_when_it_was_held_passes_all_the_same(self) -> None:
        loud = self.come()
        self.say(loud, 55, PONG)
        self.assertEqual((loud.holds, self.heard(loud)), (1, 55))

    def test_a_held_link_may_go(self) -> None:
        loud = self.come()
        self.say(loud, 40, PONG)
        self.intake.lost(loud, "gone")
        self.turn()
        self.assertTrue(loud.held)
        self.assertEqual(self.state.heard[-1], (loud, "lost gone", None))


class LimitTests(IntakeCase):
    """Frameworks have limits by their principals."""

    limits = RateLimits(
        {
            "slow": RateLimit(10),
            "small": RateLimit(10, 3),
            "free": None,
        },
        RateLimit(100, 50),
    )

    def test_calls_come_at_the_rate_and_in_order(self) -> None:
        slow = self.framework("slow")
        for number in range(5):
            call = Call(type=Call.KILL)
            call.kill.task_id.value = f"t{number}"
            self.intake.received(slow, call, number + 2)
        seen = []
        for _ in range(5):
            seen.append(self.heard(slow))
            self.clock.advance(0.1)
        self.assertEqual(seen, [1, 2, 3, 4, 5])
        said = [message.kill.task_id.value for _, message, _ in self.state.heard]
        self.assertEqual(said, [f"t{number}" for number in range(5)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_frameworks_of_a_principal_share_its_rate(self) -> None:
        one, two, free = (self.framework(each) for each in ("slow", "slow", "free"))
        for peer in (one, two, free):
            self.say(peer, 9)
        self.clock.pump([0.01] * 50)
        self.assertEqual(self.heard(one) + self.heard(two), 6)
        self.assertEqual(self.heard(free), 9)

    def test_others_share_the_default(self) -> None:
        one, nobody = self.framework("somebody"), self.framework()
        self.say(one, 20)
        self.say(nobody, 20)
        self.clock.pump([0.01] * 10)
        self.assertEqual(self.heard(one), 11)
        self.assertEqual(self.heard(nobody), 0)

    def test_who_is_no_framework_is_not_limited(self) -> None:
        agent = self.come("slow")
        self.say(agent, 9, PONG)
        stray = self.come("slow")
        self.say(stray, 1)
        self.assertEqual((self.heard(agent), self.heard(stray)), (9, 1))

    def test_a_proved_principal_counts_more_than_what_is_said(self) -> None:
        peer = self.come("slow")
        self.intake.received(peer, subscribe("free"), 1)
        self.say(peer, 5)
        self.assertEqual(self.heard(peer), 2)

    def test_beyond_the_capacity_calls_are_refused_and_the_framework_is_told_once(self) -> None:
        small = self.framework("small")
        self.say(small, 8)
        why = "Message mesos.scheduler.Call dropped: capacity(3) exceeded"
        self.assertEqual(small.answers, [(number, Refused(429, why)) for number in range(104, 108)])
        (event,) = small.sent
        self.assertEqual((event.type, event.error.message), (Event.ERROR, why))
        self.assertFalse(small.held)
        self.clock.pump([0.1] * 5)
        self.assertEqual(self.heard(small), 4)
        self.say(small, 5)
        self.assertEqual(len(small.sent), 2)

    def test_without_a_capacity_it_is_not_read_from(self) -> None:
        slow = self.framework("slow")
        self.say(slow, WAITING)
        self.assertFalse(slow.held)
        self.say(slow, 1)
        self.assertTrue(slow.held)
        self.assertEqual(self.intake.waiting, WAITING)
        for _ in range(WAITING // 2 - 1):
            self.clock.advance(0.1)
            self.turn()
        self.assertTrue(slow.held)
        self.clock.advance(0.1)
        self.turn()
        self.assertFalse(slow.held)

    def test_large_calls_are_held_back_by_their_size(self) -> None:
        small = self.framework("slow")
        call = Call(type=Call.MESSAGE)
        call.message.agent_id.value = call.message.executor_id.value = "e"
        call.message.data = bytes(9 * 1024 * 1024)
        self.say(small, 2, call)
        self.assertFalse(small.held)
        self.say(small, 1, call)
        self.assertTrue(small.held)

    def test_who_is_gone_has_nothing_more_to_say(self) -> None:
        """Or its offers would be lost to others until all of it was heard."""
        slow, other = self.framework("slow"), self.framework("slow")
        self.say(slow, 300)
        self.say(other, 1)
        self.intake.lost(slow, "gone")
        self.assertEqual(self.state.heard[-1], (slow, "lost gone", None))
        self.assertEqual(self.intake.waiting, 1)
        self.clock.advance(0.1)
        self.assertEqual((self.heard(slow), self.heard(other)), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_has_asked_to_be_torn_down_is(self) -> None:
        slow = self.framework("slow")
        self.say(slow, 3)
        self.say(slow, 1, Call(type=Call.TEARDOWN))
        self.intake.lost(slow, "gone")
        self.assertEqual([each[1] for each in self.state.heard][-1], "lost gone")
        self.assertEqual(self.state.heard[-2][1].type, Call.TEARDOWN)

    def test_what_is_counted(self) -> None:
        slow, small = self.framework("slow"), self.framework("small")
        self.say(slow, 3)
        self.say(small, 8)
        self.assertEqual(
            self.intake.metrics([]),
            {
                "frameworks/slow/messages_received": 3.0,
                "frameworks/slow/messages_processed": 1.0,
                "frameworks/small/messages_received": 8.0,
                "frameworks/small/messages_processed": 1.0,
            },
        )
        self.intake.lost(small, "gone")
        self.clock.pump([0.1] * 9)
        self.assertIn("frameworks/small/messages_received", self.intake.metrics(["small"]))
        self.assertNotIn("frameworks/small/messages_received", self.intake.metrics([]))

    def test_names_that_come_and_go_are_forgotten(self) -> None:
        for number in range(3 * COUNTED):
            peer = self.come()
            self.intake.received(peer, subscribe(f"p{number}"), 1)
            self.turn()
            self.intake.lost(peer, "gone")
        self.assertLessEqual(len(self.intake._counted), COUNTED)
        self.framework("x" * 2000)
        self.assertFalse([name for name in self.intake.metrics([]) if "xx" in name])

    def test_at_the_end_nothing_is_left(self) -> None:
        slow = self.framework("slow")
        self.say(slow, 5)
        self.intake.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
