"""The one order of change, store, send."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mesoskit.cluster.store import StoreError
from mesoskit.cluster.turns import MOST, MOST_HELD, Turns
from mesoskit.model.events import (
    Answer,
    Received,
    Recovered,
    Send,
    Stop,
    Store,
    StoreFailed,
    Woke,
)
from mesoskit.model.ids import PeerId
from mesoskit.testing.stores import SlowStore
from tests.base import SynchronousTestCase

A = PeerId(1)


class Script:
    """A state that answers each message with the effects the test put in it."""

    def __init__(self):
        self.heard = []
        self.deadline = None
        self.on_failure = []

    def handle(self, now, event):
        self.heard.append(event)
        if isinstance(event, Received):
            if isinstance(event.message, Exception):
                raise event.message
            return list(event.message)
        if isinstance(event, StoreFailed):
            return list(self.on_failure)
        if isinstance(event, Woke):
            self.deadline = None
        return []


class TurnsTests(SynchronousTestCase):
    """Each rule of DESIGN's fourth part, with a store that answers when it is told."""

    isolate = False

    def setUp(self):
        self.clock = Clock()
        self.state = Script()
        self.store = SlowStore()
        self.done: list[Any] = []
        self.stopped: list[Stop] = []
        self.flushed: list[int] = []
        self.turns = Turns(
            self.clock,
            self.state.handle,
            lambda: self.state.deadline,
            self.perform,
            self.store,
            stopped=self.stopped.append,
            flush=lambda: self.flushed.append(len(self.done)),
            isolate=self.isolate,
        )
        self.successResultOf(self.turns.start())

    def perform(self, effect):
        if isinstance(effect, Send) and effect.message == "raise":
            raise ValueError("cannot send")
        self.done.append(effect)

    def say(self, *effects):
        self.turns.put(Received(A, effects))

    def sent(self):
        return [e.message for e in self.done if isinstance(e, Send)]

    def test_first_event_is_what_the_store_held(self):
        store = SlowStore()
        store.inner.entries["a"] = b"1"
        state = Script()
        turns = Turns(self.clock, state.handle, lambda: None, self.perform, store)
        turns.put(Received(A, ()))
        self.clock.advance(0)
        self.assertEqual(state.heard, [])
        self.successResultOf(turns.start())
        self.assertEqual(state.heard[0], Recovered({"a": b"1"}))
        self.assertEqual(len(state.heard), 2)

    def test_store_that_cannot_be_read_fails_the_start(self):
        store = SlowStore()
        store.broken = "gone"
        turns = Turns(self.clock, self.state.handle, lambda: None, self.perform, store)
        self.failureResultOf(turns.start())

    def test_events_of_one_reactor_turn_are_one_turn_and_one_flush(self):
        before = self.turns.turns
        self.flushed.clear()
        self.say(Send(A, 1))
        self.say(Send(A, 2), Send(A, 3))
        self.assertEqual(self.done, [])
        self.clock.advance(0)
        self.assertEqual(self.sent(), [1, 2, 3])
        self.assertEqual(self.turns.turns, before + 1)
        self.assertEqual(self.flushed, [3])

    def test_nothing_is_sent_before_the_store_has_answered(self):
        self.say(Store((("a", b"1"),)), Send(A, "rests on a"), Answer(A, 7))
        self.clock.advance(0)
        self.assertEqual(self.done, [])
        self.store.release()
        self.assertEqual(self.done, [Send(A, "rests on a"), Answer(A, 7)])

    def test_changes_of_one_turn_are_one_group(self):
        self.say(Store((("a", b"1"),)))
        self.say(Store((("b", b"2"), ("c", None))))
        self.clock.advance(0)
        self.assertEqual(self.store.held, [(("a", b"1"), ("b", b"2"), ("c", None))])

    def test_later_turns_wait_behind_an_earlier_store(self):
        self.say(Store((("a", b"1"),)), Send(A, 1))
        self.clock.advance(0)
        self.say(Send(A, 2))
        self.clock.advance(0)
        self.say(Store((("b", b"1"),)), Send(A, 3))
        self.clock.advance(0)
        self.assertEqual(self.sent(), [])
        self.store.release()
        self.assertEqual(self.sent(), [1, 2])
        self.store.release()
        self.assertEqual(self.sent(), [1, 2, 3])
        self.assertEqual(self.turns.waiting, 0)

    def test_urgent_sends_pass_by(self):
        self.say(Store((("a", b"1"),)), Send(A, "ping", urgent=True), Send(A, 1))
        self.clock.advance(0)
        self.say(Send(A, "ping 2", urgent=True), Send(A, 2))
        self.clock.advance(0)
        self.assertEqual(self.sent(), ["ping", "ping 2"])
        self.store.release()
        self.assertEqual(self.sent(), ["ping", "ping 2", 1, 2])

    def test_store_that_answers_at_once_sends_at_once(self):
        self.store.slow = False
        self.say(Store((("a", b"1"),)), Send(A, 1))
        self.clock.advance(0)
        self.assertEqual(self.sent(), [1])

    def test_effect_that_cannot_be_performed_does_not_stop_the_others(self):
        self.say(Send(A, "raise"), Send(A, 2))
        self.clock.advance(0)
        self.assertEqual(self.sent(), [2])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_state_that_raises_ends_the_daemon(self):
        self.turns.put(Received(A, RuntimeError("broken")))
        self.say(Send(A, 1))
        self.clock.advance(0)
        self.assertEqual([s.status for s in self.stopped], [1])
        self.assertEqual(self.sent(), [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stop_ends_after_what_stands_before_it(self):
        self.say(Send(A, 1), Stop("done", 3), Send(A, 2))
        self.clock.advance(0)
        self.assertEqual(self.sent(), [1])
        self.assertEqual(self.stopped, [Stop("done", 3)])
        self.say(Send(A, 4))
        self.clock.advance(10)
        self.assertEqual(self.sent(), [1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_waits_for_the_store_as_everything_does(self):
        self.say(Store((("a", b"1"),)), Stop("done"))
        self.clock.advance(0)
        self.assertEqual(self.stopped, [])
        self.store.release()
        self.assertEqual(self.stopped, [Stop("done")])

    def test_state_is_woken_at_its_deadline(self):
        self.state.deadline = 5.0
        self.say()
        self.clock.advance(0)
        self.clock.advance(4.9)
        self.assertNotIn(Woke(), self.state.heard)
        self.clock.advance(0.2)
        self.assertEqual(self.state.heard.count(Woke()), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turn_ends_after_so_many_events_and_the_next_goes_on(self):
        before = self.turns.turns
        self.flushed.clear()
        for number in range(2 * MOST + 1):
            self.say(Send(A, number))
        self.clock.advance(0)
        self.assertEqual(self.sent(), list(range(2 * MOST + 1)))
        self.assertEqual(self.turns.turns, before + 3)
        self.assertEqual(self.flushed, [MOST, 2 * MOST, 2 * MOST + 1])

    def test_state_is_woken_once_however_much_waits_before_that(self):
        self.state.deadline = self.clock.seconds()
        for _ in range(3 * MOST):
            self.say()
        for _ in range(8):
            self.clock.advance(0)
        self.assertEqual(self.state.heard.count(Woke()), 1)

    def test_what_waits_is_bounded_by_what_comes(self):
        def iterate():
            # As a reactor does: what is scheduled meanwhile is for its next iteration.
            for call in [c for c in self.clock.calls if c.getTime() <= self.clock.seconds()]:
                self.clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

        most = 0
        for _ in range(60):
            for _ in range(5 * MOST):
                self.say()
            iterate()
            most = max(most, self.turns.queued)
        self.assertLessEqual(most, 5 * MOST)
        while self.turns.queued:
            iterate()
        self.assertEqual(len([e for e in self.state.heard if isinstance(e, Received)]), 300 * MOST)

    def test_state_is_woken_although_messages_never_end(self):
        self.state.deadline = self.clock.seconds()
        for _ in range(6):
            for _ in range(2 * MOST):
                self.say()
            self.clock.advance(0)
        self.assertIn(Woke(), self.state.heard)

    def test_deadline_may_move_both_ways_and_go(self):
        for deadline in (5.0, 2.0, 8.0):
            self.state.deadline = deadline
            self.say()
            self.clock.advance(0)
        self.clock.advance(7.9)
        self.assertNotIn(Woke(), self.state.heard)
        self.clock.advance(0.2)
        self.assertEqual(self.state.heard.count(Woke()), 1)
        self.state.deadline = 20.0
        self.say()
        self.clock.advance(0)
        self.state.deadline = None
        self.say()
        self.clock.advance(0)
        self.clock.advance(30)
        self.assertEqual(self.state.heard.count(Woke()), 1)

    def test_one_delayed_call_however_many_turns(self):
        self.state.deadline = 50.0
        for _ in range(20):
            self.say(Send(A, 1))
            self.clock.advance(0.1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class FailureTests(TurnsTests):
    """A master: what followed a change that was lost is not believed."""

    def test_nothing_that_waits_is_performed_and_calls_are_refused(self):
        self.say(Store((("a", b"1"),)), Send(A, 1), Answer(A, 7))
        self.clock.advance(0)
        self.say(Send(A, 2), Answer(A, 8))
        self.clock.advance(0)
        self.store.broken = "disk full"
        self.store.release()
        self.assertEqual(self.sent(), [])
        self.assertEqual([(e.call, e.status) for e in self.done], [(7, 503), (8, 503)])

    def test_state_hears_of_it_before_anything_else(self):
        self.state.on_failure = [Stop("cannot keep the registry", 1)]
        self.say(Store((("a", b"1"),)), Send(A, 1))
        self.clock.advance(0)
        self.store.broken = "disk full"
        self.say(Send(A, 2))
        self.store.release()
        self.clock.advance(0)
        self.assertEqual(self.state.heard[-2], StoreFailed((("a", b"1"),), "disk full"))
        self.assertEqual(len(self.stopped), 1)
        self.assertEqual(self.sent(), [])


class IsolationTests(TurnsTests):
    """An agent: what cannot be written fails alone."""

    isolate = True

    def test_only_the_event_that_fails_alone_is_dropped(self):
        self.store.slow = False
        self.store.refuses = {"b"}
        self.say(Store((("a", b"1"),)), Send(A, "a"))
        self.say(Store((("b", b"1"),)), Send(A, "b"), Answer(A, 1))
        self.say(Send(A, "free"))
        self.say(Store((("c", b"1"),)), Send(A, "c"))
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(self.sent(), ["a", "free", "c"])
        self.assertEqual(self.store.inner.entries, {"a": b"1", "c": b"1"})
        self.assertEqual(self.state.heard[-1], StoreFailed((("b", b"1"),), "refused: b"))
        self.assertEqual([e.status for e in self.done if isinstance(e, Answer)], [503])

    def test_order_is_kept_with_a_slow_store(self):
        self.store.refuses = {"a"}
        self.say(Store((("a", b"1"),)), Send(A, "a"))
        self.say(Store((("b", b"1"),)), Send(A, "b"))
        self.clock.advance(0)
        self.say(Store((("c", b"1"),)), Send(A, "c"))
        self.clock.advance(0)
        self.store.release()  # the group of a and b fails
        while self.store.held:
            self.store.release()
        self.clock.advance(0)
        self.assertEqual(self.sent(), ["b", "c"])
        self.assertEqual(self.turns.waiting, 0)


class PatienceTests(SynchronousTestCase):
    """A store that never answers, and one that cannot keep up."""

    def setUp(self):
        self.clock = Clock()
        self.state = Script()
        self.store = SlowStore()
        self.done: list[Any] = []
        self.stopped: list[Stop] = []

    def turns(self, **more):
        return Turns(
            self.clock,
            self.state.handle,
            lambda: None,
            self.done.append,
            self.store,
            stopped=self.stopped.append,
            load_timeout=60.0,
            store_timeout=20.0,
            **more,
        )

    def test_store_that_is_not_read_in_time_fails_the_start(self):
        never: Deferred = Deferred()
        self.store.load = lambda: never  # type: ignore[method-assign]
        starting = self.turns().start()
        self.clock.advance(59)
        self.assertNoResult(starting)
        self.clock.advance(1)
        error = self.failureResultOf(starting, StoreError)
        self.assertIn("no answer within 60 s", str(error.value))
        self.assertEqual(self.state.heard, [])

    def test_group_that_is_not_answered_in_time_has_failed(self):
        turns = self.turns()
        turns.start()
        turns.put(Received(A, [Store((("a", b"1"),)), Send(A, 1), Answer(A, 7)]))
        self.clock.advance(0)
        turns.put(Received(A, [Send(A, 2)]))
        self.clock.advance(19)
        self.assertEqual(self.done, [])
        self.clock.pump([1, 0])
        self.assertEqual([effect.status for effect in self.done], [503])
        self.assertEqual(self.state.heard[-1], StoreFailed((("a", b"1"),), "no answer within 20 s"))
        # What it says in the end is of no interest any more.
        self.store.release()
        self.assertEqual(len(self.done), 1)

    def test_store_behind_which_too_much_waits_has_failed(self):
        turns = self.turns()
        turns.start()
        turns.put(Received(A, [Store((("a", b"1"),)), Send(A, 0)]))
        for number in range(MOST_HELD + 1):
            turns.put(Received(A, [Send(A, number)]))
        for _ in range(1000):
            self.clock.advance(0)
        failed = [event for event in self.state.heard if isinstance(event, StoreFailed)]
        self.assertEqual(len(failed), 1)
        self.assertIn("cannot keep up", failed[0].why)
        self.assertEqual(turns.waiting, 0)

    def test_store_that_answers_at_once_sets_no_timer(self):
        self.store.slow = False
        turns = self.turns()
        turns.start()
        turns.put(Received(A, [Store((("a", b"1"),)), Send(A, 1)]))
        self.clock.advance(0)
        self.assertEqual(self.done, [Send(A, 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FenceTests(SynchronousTestCase):
    """Whoever does not lead any more decides and sends nothing."""

    def setUp(self):
        self.clock = Clock()
        self.state = Script()
        self.store = SlowStore()
        self.done: list[Any] = []
        self.stopped: list[Stop] = []
        self.why: str | None = None
        self.turns = Turns(
            self.clock,
            self.state.handle,
            lambda: None,
            self.done.append,
            self.store,
            stopped=self.stopped.append,
            fence=lambda: self.why,
        )
        self.turns.start()

    def test_event_that_comes_too_late_is_not_heard(self):
        self.turns.put(Received(A, [Send(A, 1)]))
        self.why = "Lost leadership"
        self.clock.advance(0)
        self.assertEqual(self.state.heard, [Recovered({})])
        self.assertEqual(self.done, [])
        self.assertEqual(self.stopped, [Stop("Lost leadership", 1)])

    def test_what_waited_for_the_store_is_not_sent_too_late(self):
        self.turns.put(Received(A, [Store((("a", b"1"),)), Send(A, 1)]))
        self.clock.advance(0)
        self.why = "Lost leadership"
        self.store.release()
        self.assertEqual(self.done, [])
        self.assertEqual(len(self.stopped), 1)

    def test_whoever_ends_the_loop_within_the_fence_is_not_told_again(self):
        def fence() -> str:
            self.turns.stop()
            return "Lost leadership"

        self.turns._fence = fence
        self.turns.put(Received(A, [Send(A, 1)]))
        self.clock.advance(0)
        self.assertEqual((self.done, self.stopped), ([], []))
