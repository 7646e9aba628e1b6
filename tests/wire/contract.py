"""What every carrier promises: one suite, run over each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred

from mesoskit.messages.authentication_pb2 import AuthenticationStepMessage
from mesoskit.messages.mesos_pb2 import TaskID
from mesoskit.wire.link import (
    CallRefused,
    Hello,
    Link,
    LinkLost,
    NotAsked,
    NotSendable,
    Refused,
    Taken,
    TooManyCalls,
)
from mesoskit.wire.settings import StreamSettings
from tests.base import SynchronousTestCase
from tests.wire.ears import AGENT, MASTER, Ear, text


class Pair(Protocol):
    """A connection between two receivers, in a test's hands."""

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        """Let time pass till C{until} holds (and fail if it never does), or till all is quiet."""
        ...

    def cut(self) -> None:
        """Break the connection without goodbye."""
        ...

    def stall(self, stalled: bool) -> None:
        """Let the second receiver's side take nothing more of what the first one's sends."""
        ...


# A mixin where tests are collected, a test case where types are checked.
if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object


class LinkContract(_Base):
    """Inherit beside a test case, and implement L{make_pair}."""

    #: Small, so that limits are reached with little.
    settings = StreamSettings(high_water=64 * 1024, low_water=16 * 1024, maximum_calls=20)

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        """Begin to connect; C{settings} are for C{a}."""
        raise NotImplementedError

    def link(
        self, a: Ear | None = None, b: Ear | None = None, settings_b: StreamSettings | None = None
    ) -> tuple[Pair, Any, Any]:
        """Connect a master with an agent; returns the pair and both ears."""
        a, b = a or Ear(), b or Ear()
        pair = self.make_pair(a, b, MASTER, AGENT, settings_b or self.settings)
        pair.spin(lambda: bool(a.heard and b.heard))
        return pair, a, b

    def until_both_are_lost(self, pair: Pair, a: Ear, b: Ear) -> None:
        """Let time pass till both have been told."""
        pair.spin(lambda: bool(a.reasons and b.reasons))

    # connected

    def test_connected_comes_first_and_once_with_what_the_peer_said(self) -> None:
        _pair, a, b = self.link()
        self.assertEqual((a.heard, b.heard), (["connected"], ["connected"]))
        self.assertEqual((a.link.hello, b.link.hello), (AGENT, MASTER))
        self.assertTrue(a.link.peer)
        self.assertIsNone(a.link.principal)
        self.assertFalse(a.link.congested)

    def test_what_is_sent_in_connected_arrives(self) -> None:
        class Eager(Ear):
            def connected(self, link: Link) -> None:
                super().connected(link)
                link.send(text("first"))

        pair, a, b = self.link(Eager(), Eager())
        pair.spin(lambda: bool(a.words and b.words))
        self.assertEqual((a.words, b.words), (["first"], ["first"]))
        self.assertEqual((a.heard[0], b.heard[0]), ("connected", "connected"))

    # order

    def test_order_is_kept_within_and_between_turns(self) -> None:
        pair, a, b = self.link()
        sent = [f"m{number}" for number in range(300)]
        for number, word in enumerate(sent):
            a.link.send(text(word))
            if number % 100 == 0:
                pair.spin()
        pair.spin(lambda: len(b.words) >= 300)
        self.assertEqual(b.words, sent)

    def test_order_holds_for_messages_and_calls_together(self) -> None:
        pair, a, b = self.link()
        for number in range(0, 20, 2):
            a.link.send(text(f"m{number}"))
            a.link.call(text(f"m{number + 1}")).addErrback(lambda _: None)
        pair.spin(lambda: len(b.words) >= 20)
        self.assertEqual(b.words, [f"m{number}" for number in range(20)])

    def test_both_directions_at_once(self) -> None:
        pair, a, b = self.link()
        for number in range(50):
            a.link.send(text(f"a{number}"))
            b.link.send(text(f"b{number}"))
        pair.spin(lambda: len(a.words) + len(b.words) >= 100)
        self.assertEqual(a.words, [f"b{number}" for number in range(50)])
        self.assertEqual(b.words, [f"a{number}" for number in range(50)])

    def test_large_messages_among_small_ones(self) -> None:
        pair, a, b = self.link()
        sizes = [10, 70_000, 20, 900_000, 30, 300_000, 5]
        for size in sizes:
            a.link.send(text(b"x" * size))
        pair.spin(lambda: len(b.words) >= len(sizes))
        self.assertEqual(
            b.words, ["x" * size if size < 100 else f"xxxxxxxx…{size}" for size in sizes]
        )

    def test_a_message_may_be_answered_with_a_message_from_within(self) -> None:
        def echo(link: Link, word: str, call: int | None) -> None:
            link.send(text(word.upper()))

        pair, a, _b = self.link(b=Ear(echo))
        for word in ("one", "two", "three"):
            a.link.send(text(word))
        pair.spin(lambda: len(a.words) >= 3)
        self.assertEqual(a.words, ["ONE", "TWO", "THREE"])

    # calls

    def test_a_call_fires_when_it_is_taken(self) -> None:
        pair, a, _b = self.link(b=Ear(lambda link, _, call: link.answer(call or 0, Taken())))
        answer = a.link.call(text("please"))
        self.assertNoResult(answer)
        pair.spin(lambda: bool(answer.called))
        self.assertIsNone(self.successResultOf(answer))

    def test_a_refused_call_fails_with_status_and_words(self) -> None:
        refused = Refused(403, "Not authorized to use role 'prod'")
        pair, a, _b = self.link(b=Ear(lambda link, _, call: link.answer(call or 0, refused)))
        answer = a.link.call(text("please"))
        pair.spin(lambda: bool(answer.called))
        error = self.failureResultOf(answer, CallRefused).value
        self.assertEqual((error.status, error.why), (403, "Not authorized to use role 'prod'"))

    def test_answers_may_come_in_any_order(self) -> None:
        calls: dict[str, int] = {}
        pair, a, b = self.link(b=Ear(lambda _, word, call: calls.update({word: call or 0})))
        done: list[str] = []
        for word in "xyz":
            a.link.call(text(word)).addCallback(lambda _, word=word: done.append(word))
        pair.spin(lambda: len(calls) == 3)
        for word in "zxy":
            b.link.answer(calls[word], Taken())
        pair.spin(lambda: len(done) == 3)
        self.assertEqual(done, ["z", "x", "y"])

    def test_a_message_that_wants_no_answer_has_no_call_number(self) -> None:
        pair, a, b = self.link()
        a.link.send(text("just so"))
        pair.spin(lambda: bool(b.words))
        self.assertEqual(b.heard[1:], [("received", "just so", None)])

    def test_a_second_answer_is_not_sent(self) -> None:
        pair, a, b = self.link()
        answer = a.link.call(text("please"))
        pair.spin(lambda: bool(b.words))
        call = b.heard[-1][2]
        b.link.answer(call, Taken())
        self.assertRaises(NotAsked, b.link.answer, call, Refused(400, "after all"))
        self.assertRaises(NotAsked, b.link.answer, call + 1, Taken())
        pair.spin(lambda: bool(answer.called))
        self.assertIsNone(self.successResultOf(answer))

    def test_a_cancelled_call_was_sent_all_the_same_and_its_answer_is_forgotten(self) -> None:
        pair, a, b = self.link(b=Ear(lambda link, _, call: link.answer(call or 0, Taken())))
        answer = a.link.call(text("please"))
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        second = a.link.call(text("once more"))
        pair.spin(lambda: bool(second.called))
        self.assertIsNone(self.successResultOf(second))
        self.assertEqual(b.words, ["please", "once more"])
        self.assertEqual(a.reasons, [])

    def test_calls_that_wait_fail_when_the_link_is_lost(self) -> None:
        pair, a, b = self.link()
        answers = [a.link.call(text("please")) for _ in range(3)]
        pair.spin(lambda: len(b.words) >= 3)
        pair.cut()
        pair.spin(lambda: bool(a.reasons))
        for answer in answers:
            self.failureResultOf(answer, LinkLost)

    def test_a_call_on_a_closed_link_fails_at_once(self) -> None:
        pair, a, _b = self.link()
        a.link.lose()
        self.failureResultOf(a.link.call(text("please")), LinkLost)
        pair.spin(lambda: bool(a.reasons))
        self.failureResultOf(a.link.call(text("please")), LinkLost)

    def test_calls_beyond_the_limit_fail_and_are_not_sent(self) -> None:
        pair, a, b = self.link()
        answers: list[Deferred[None]] = [a.link.call(text("please")) for _ in range(20)]
        self.failureResultOf(a.link.call(text("too much")), TooManyCalls)
        pair.spin(lambda: len(b.words) >= 20)
        self.assertEqual(set(b.words), {"please"})
        b.link.answer(b.heard[1][2], Taken())
        pair.spin(lambda: bool(answers[0].called))
        answers.append(a.link.call(text("now")))
        pair.spin(lambda: "now" in b.words)
        for answer in answers:
            answer.addErrback(lambda _: None)

    def test_answers_on_a_closed_link_go_nowhere(self) -> None:
        pair, a, b = self.link()
        a.link.call(text("please")).addErrback(lambda _: None)
        pair.spin(lambda: bool(b.words))
        b.link.lose()
        b.link.answer(b.heard[1][2], Taken())
        self.until_both_are_lost(pair, a, b)
        b.link.answer(b.heard[1][2], Taken())

    # the end

    def test_nothing_is_delivered_after_lose(self) -> None:
        def leave(link: Link, word: str, call: int | None) -> None:
            if word == "m3":
                link.lose()

        pair, a, b = self.link(b=Ear(leave))
        for number in range(10):
            a.link.send(text(f"m{number}"))
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, ["m0", "m1", "m2", "m3"])
        self.assertEqual(b.heard[-1][0], "lost")

    def test_no_answer_is_delivered_after_lose(self) -> None:
        pair, a, b = self.link(b=Ear(lambda link, _, call: link.answer(call or 0, Taken())))
        answer = a.link.call(text("please"))
        pair.spin(lambda: True)
        if not answer.called:
            a.link.lose()
            self.until_both_are_lost(pair, a, b)
            self.failureResultOf(answer, LinkLost)

    def test_lost_comes_once_on_both_sides_whoever_closes(self) -> None:
        for closer in (0, 1):
            pair, a, b = self.link()
            (a, b)[closer].link.lose()
            self.until_both_are_lost(pair, a, b)
            pair.cut()
            pair.spin()
            self.assertEqual((len(a.reasons), len(b.reasons)), (1, 1))
            self.assertEqual((a.heard[-1][0], b.heard[-1][0]), ("lost", "lost"))

    def test_lost_comes_once_where_both_close(self) -> None:
        pair, a, b = self.link()
        a.link.lose()
        b.link.lose()
        a.link.lose("again")
        self.until_both_are_lost(pair, a, b)
        pair.spin()
        self.assertEqual((len(a.reasons), len(b.reasons)), (1, 1))

    def test_lost_comes_once_where_the_connection_breaks(self) -> None:
        pair, a, b = self.link()
        pair.cut()
        self.until_both_are_lost(pair, a, b)
        a.link.lose()
        pair.spin()
        self.assertEqual((len(a.reasons), len(b.reasons)), (1, 1))

    def test_lost_never_comes_from_within_lose(self) -> None:
        pair, a, _b = self.link()
        a.link.lose()
        self.assertEqual(a.reasons, [])
        pair.spin(lambda: bool(a.reasons))

    def test_what_was_sent_before_lose_arrives_and_the_reason_is_told(self) -> None:
        pair, a, b = self.link()
        for number in range(50):
            a.link.send(text(f"m{number}"))
        a.link.lose("this agent is being removed")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, [f"m{number}" for number in range(50)])
        self.assertIn("this agent is being removed", b.reasons[0])
        self.assertIn("this agent is being removed", a.reasons[0])

    def test_the_reason_arrives_although_the_peer_is_sending(self) -> None:
        pair, a, b = self.link()
        for number in range(200):
            a.link.send(text(f"m{number}"))
        b.link.lose("not you")
        self.until_both_are_lost(pair, a, b)
        self.assertIn("not you", a.reasons[0])

    def test_sending_after_the_end_does_nothing(self) -> None:
        pair, a, b = self.link()
        a.link.lose()
        a.link.send(text("too late"))
        self.until_both_are_lost(pair, a, b)
        for ear in (a, b):
            ear.link.send(text("too late"))
            ear.link.lose("too late")
        pair.spin()
        self.assertEqual((a.words, b.words), ([], []))
        self.assertEqual((len(a.reasons), len(b.reasons)), (1, 1))

    def test_a_receiver_that_raises_loses_its_link_and_nothing_else(self) -> None:
        def fail(link: Link, word: str, call: int | None) -> None:
            raise ZeroDivisionError(word)

        pair, a, b = self.link(b=Ear(fail))
        a.link.send(text("one"))
        a.link.send(text("two"))
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, ["one"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIn("internal error", a.reasons[0])

    # limits

    def test_a_record_over_the_limit_closes_the_link_and_says_so(self) -> None:
        pair, a, b = self.link(settings_b=StreamSettings(record_limit=4096))
        a.link.send(text("before"))
        a.link.send(text(b"x" * 5000))
        a.link.send(text("after"))
        self.until_both_are_lost(pair, a, b)
        self.assertNotIn("after", b.words)
        for reason in (a.reasons[0], b.reasons[0]):
            self.assertIn("over the limit of 4096", reason)

    def test_what_cannot_be_sent_is_refused_to_the_sender_and_harms_nothing(self) -> None:
        pair, a, b = self.link(settings_b=StreamSettings(record_limit=4096))
        incomplete = AuthenticationStepMessage()
        nameless = TaskID(value="t")
        long = text(b"x" * 4096)
        a.link.send(text("one"))
        for message in (incomplete, nameless):
            self.assertRaises(NotSendable, a.link.send, message)
            self.failureResultOf(a.link.call(message), NotSendable)
        self.assertRaises(NotSendable, b.link.send, long)
        self.failureResultOf(b.link.call(long), NotSendable)
        a.link.send(text("two"))
        b.link.send(text("three"))
        pair.spin(lambda: len(b.words) >= 2 and bool(a.words))
        self.assertEqual((a.words, b.words), (["three"], ["one", "two"]))

    # congestion

    def check_changes(self, ear: Ear, last: bool) -> None:
        """
        Congestion was told as it changed, beginning with C{True} and ending with this.

        A kernel may find more room after a while, so there may be more than one change.
        """
        changes = ear.congestions
        self.assertEqual(changes, [number % 2 == 0 for number in range(len(changes))])
        self.assertEqual(changes[-1], last)

    def congest(self, pair: Pair, ear: Ear) -> int:
        """Send until the link is congested; returns how many messages that took."""
        chunk = text(b"x" * 60_000)
        for count in range(1, 1000):
            ear.link.send(chunk)
            pair.spin()
            if ear.link.congested:
                return count
        raise AssertionError("the link never was congested")

    def test_congestion_follows_the_transport(self) -> None:
        pair, a, b = self.link()
        pair.stall(True)
        count = self.congest(pair, a)
        self.check_changes(a, True)
        pair.stall(False)
        pair.spin(lambda: not a.link.congested and len(b.words) >= count)
        self.check_changes(a, False)
        self.assertEqual(b.congestions, [])

    def test_what_was_sent_while_congested_arrives_in_order(self) -> None:
        pair, a, b = self.link()
        pair.stall(True)
        count = self.congest(pair, a)
        for number in range(10):
            a.link.send(text(f"m{number}"))
        pair.stall(False)
        pair.spin(lambda: len(b.words) >= count + 10)
        self.assertEqual(b.words[count:], [f"m{number}" for number in range(10)])

    def test_a_congested_link_still_hears(self) -> None:
        pair, a, b = self.link()
        pair.stall(True)
        self.congest(pair, a)
        b.link.send(text("still here"))
        pair.spin(lambda: bool(a.words))
        self.assertEqual(a.words, ["still here"])

    def test_a_congested_link_can_be_lost(self) -> None:
        pair, a, _b = self.link()
        pair.stall(True)
        self.congest(pair, a)
        pair.cut()
        pair.spin(lambda: bool(a.reasons))
        self.assertEqual(len(a.reasons), 1)
        self.check_changes(a, True)


def _enough(link: Any, word: str, call: int | None) -> None:
    link.hold(True)


class HoldContract(LinkContract):
    """What links that were dialled promise besides: b is such a one. See L{mesoskit.wire.link}."""

    def test_a_held_link_hears_nothing_and_everything_afterwards(self) -> None:
        """What was read already is kept, and no more is read."""
        pair, a, b = self.link()
        b.link.hold(True)
        b.link.hold(True)
        for number in range(10):
            a.link.send(text(f"m{number}"))
        pair.spin()
        self.assertEqual(b.words, [])
        b.link.hold(False)
        pair.spin(lambda: len(b.words) == 10)
        self.assertEqual(b.words, [f"m{number}" for number in range(10)])
        a.link.send(text("after"))
        pair.spin(lambda: bool(b.words[-1] == "after"))

    def test_a_receiver_may_hold_its_link_again_and_again(self) -> None:
        """Whoever hears something may have enough; no frame and no read is too long for that."""
        pair, a, b = self.link(b=Ear(_enough))
        for number in range(10):
            a.link.send(text(f"m{number}"))
        for number in range(1, 11):
            pair.spin(lambda number=number: len(b.words) == number)  # type: ignore[misc]
            pair.spin()
            self.assertEqual(len(b.words), number)
            b.link.hold(False)
        self.assertEqual(b.words, [f"m{number}" for number in range(10)])

    def test_calls_on_a_held_link_are_answered_later(self) -> None:
        pair, a, b = self.link(b=Ear(lambda link, word, call: link.answer(call or 0, Taken())))
        b.link.hold(True)
        done = [a.link.call(text(f"m{number}")) for number in range(3)]
        pair.spin()
        self.assertFalse(any(call.called for call in done))
        b.link.hold(False)
        pair.spin(lambda: all(call.called for call in done))
        for call in done:
            self.assertIsNone(self.successResultOf(call))

    def test_a_held_link_can_be_closed_from_here(self) -> None:
        pair, a, b = self.link()
        b.link.hold(True)
        a.link.send(text("unheard"))
        pair.spin()
        b.link.lose("enough")
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, [])

    def test_what_came_on_a_held_link_before_its_end_is_heard(self) -> None:
        pair, a, b = self.link()
        b.link.hold(True)
        a.link.send(text("heard"))
        pair.spin()
        a.link.lose("gone")
        pair.spin()
        b.link.hold(False)
        self.until_both_are_lost(pair, a, b)
        self.assertEqual(b.words, ["heard"])
