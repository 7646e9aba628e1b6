"""Where offers go, and that none is ever kept by nobody."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from mesoskit.driver import (
    DriverError,
    DriverSettings,
    FrameworkError,
    Offer,
    OfferGone,
    Scheduler,
    command_task,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.link import CallRefused, Refused
from tests.driver.peers import FrameworkCase


class OfferTests(FrameworkCase):
    """An offer is a small object."""

    def offer(self, framework: Any) -> Offer:
        """Return the next offer."""
        with_one = framework.offers()
        waiting = with_one.__anext__()
        self.master.offer()
        offer: Offer = self.successResultOf(waiting)
        return offer

    def test_what_is_offered(self) -> None:
        offer = self.offer(self.framework())
        self.assertEqual((offer.cpus, offer.mem, offer.disk, offer.gpus), (4, 1024, 0, 0))
        self.assertEqual((offer.id, offer.agent_id, offer.hostname), ("o1", "m-S0", "host.test"))
        self.assertEqual((offer.role, offer.ports, len(offer.attributes)), ("*", (), 0))
        self.assertTrue(offer.held)
        self.assertEqual(repr(offer), "<Offer o1 host.test cpus:4; mem:1024>")

    def test_offer_that_was_used_cannot_be_used_again(self) -> None:
        framework = self.framework()
        offer = self.offer(framework)
        framework.accept(offer, [command_task("t", "true")])
        failure = self.failureResultOf(framework.accept(offer, []), OfferGone)
        self.assertEqual(failure.getErrorMessage(), "offer o1 cannot be used: it was accepted")
        self.failureResultOf(framework.decline(offer), OfferGone)

    def test_offer_that_was_rescinded_cannot_be_used(self) -> None:
        framework = self.framework()
        offer = self.offer(framework)
        self.master.rescind("o1")
        self.assertFalse(offer.held)
        failure = self.failureResultOf(framework.accept(offer, []), OfferGone)
        self.assertIn("it was rescinded", failure.getErrorMessage())
        self.assertEqual(self.master.of_type(Call.ACCEPT), [])

    def test_offer_of_a_master_that_is_gone_cannot_be_used(self) -> None:
        framework = self.framework()
        offer = self.offer(framework)
        self.master.host.cut()
        self.advance(1)
        self.assertTrue(framework.subscribed)
        self.failureResultOf(framework.accept(offer, []), OfferGone)

    def test_offer_of_another_framework_cannot_be_used(self) -> None:
        offer = self.offer(self.framework())
        self.failureResultOf(self.framework().accept(offer, []), OfferGone)

    def test_refused_call_leaves_the_offer(self) -> None:
        framework = self.framework()
        offer = self.offer(framework)
        self.master.refusal[Call.ACCEPT] = Refused(400, "no")
        accepted = framework.accept(offer, [command_task("t", "true", id="t")])
        self.advance()
        self.failureResultOf(accepted, CallRefused)
        self.assertTrue(offer.held)
        self.master.refusal.clear()
        self.assertEqual(framework.tasks, {})
        accepted = framework.accept(offer, [command_task("t", "true", id="t")])
        self.advance()
        self.successResultOf(accepted)

    def test_declined_offer(self) -> None:
        framework = self.framework()
        declined = framework.decline(self.offer(framework), refuse_seconds=7)
        self.advance()
        self.successResultOf(declined)
        [call] = self.master.of_type(Call.DECLINE)
        self.assertEqual(call.decline.filters.refuse_seconds, 7)
        self.assertEqual(self.master.declined(), ["o1"])

    def test_offers_may_be_joined(self) -> None:
        framework = self.framework()
        stream = framework.offers()
        self.master.offer(2)
        offers = [self.successResultOf(stream.__anext__()) for _ in range(2)]
        framework.accept(offers, [command_task("t", "true")])
        self.advance()
        [call] = self.master.of_type(Call.ACCEPT)
        self.assertEqual([each.value for each in call.accept.offer_ids], ["o1", "o2"])

    def test_accept_needs_an_offer(self) -> None:
        self.failureResultOf(self.framework().accept([], []), ValueError)

    def test_what_is_left_is_not_refused_unless_asked_for(self) -> None:
        framework = self.framework()
        framework.accept(self.offer(framework), [command_task("t", "true")])
        framework.accept(self.offer(framework), [], refuse_seconds=60)
        self.advance()
        calls = self.master.of_type(Call.ACCEPT)
        self.assertEqual([each.accept.filters.refuse_seconds for each in calls], [0, 60])

    def test_forgotten_offer_is_declined(self) -> None:
        framework = self.framework()
        offer: Offer | None = self.offer(framework)
        self.advance(10)
        self.assertEqual(self.master.declined(), [])
        assert offer is not None
        del offer
        gc.collect()
        self.advance(1)
        self.assertEqual(self.master.declined(), ["o1"])


class LoopTests(FrameworkCase):
    """C{async for offer in framework.offers()}."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[str] = []
        self.kept: list[Offer] = []

    async def loop(self, framework: Any, until: int = 1_000, error: Exception | None = None) -> str:
        async for offer in framework.offers():
            self.seen.append(offer.id)
            self.kept.append(offer)
            if len(self.seen) >= until:
                if error is not None:
                    raise error
                break
        return "left"

    def test_offers_come_one_by_one(self) -> None:
        looping = self.start(self.loop(self.framework()))
        self.master.offer(2)
        self.master.offer()
        self.assertEqual(self.seen, ["o1", "o2", "o3"])
        self.assertNoResult(looping)

    def test_service_is_started_where_it_was_not(self) -> None:
        framework = self.framework(start=False)
        self.start(self.loop(framework))
        self.advance()
        self.master.offer()
        self.assertEqual(self.seen, ["o1"])

    def test_break_declines_what_waits(self) -> None:
        looping = self.start(self.loop(self.framework(), until=1))
        self.master.offer(3)
        self.assertEqual(self.successResultOf(looping), "left")
        self.advance(1)
        self.assertEqual(self.master.declined(), ["o2", "o3"])

    def test_exception_declines_what_waits(self) -> None:
        looping = self.start(self.loop(self.framework(), until=1, error=RuntimeError("!")))
        self.master.offer(3)
        self.failureResultOf(looping, RuntimeError)
        gc.collect()
        self.advance(1)
        self.assertEqual(self.master.declined(), ["o2", "o3"])

    def test_cancelling_declines_what_comes(self) -> None:
        looping = self.start(self.loop(self.framework()))
        self.master.offer()
        looping.cancel()
        self.failureResultOf(looping, CancelledError)
        self.master.offer(2)
        self.advance(1)
        self.assertEqual(sorted(self.master.declined()), ["o2", "o3"])

    def test_aclose_declines_what_waits_at_once(self) -> None:
        stream = self.framework().offers()
        self.master.offer(2)
        self.successResultOf(stream.aclose())
        self.advance()
        self.assertEqual(self.master.declined(), ["o1", "o2"])
        self.failureResultOf(stream.__anext__(), StopAsyncIteration)
        self.successResultOf(stream.aclose())

    def test_aclose_ends_who_waits(self) -> None:
        stream = self.framework().offers()

        async def loop() -> str:
            async for _ in stream:
                pass
            return "ended"

        looping = self.start(loop())
        stream.aclose()
        self.assertEqual(self.successResultOf(looping), "ended")

    def test_context_is_closed(self) -> None:
        framework = self.framework()

        async def use() -> str:
            async with framework.offers() as offers:
                async for offer in offers:
                    return offer.id
            return ""

        used = self.start(use())
        self.master.offer(2)
        self.assertEqual(self.successResultOf(used), "o1")
        self.advance(1)
        self.assertEqual(sorted(self.master.declined()), ["o1", "o2"])

    def test_rescinded_offers_vanish(self) -> None:
        stream = self.framework().offers()
        self.master.offer(3)
        self.master.rescind("o2")
        got = [self.successResultOf(stream.__anext__()).id for _ in range(2)]
        self.assertEqual(got, ["o1", "o3"])
        self.assertNoResult(stream.__anext__())

    def test_offers_of_a_lost_master_vanish(self) -> None:
        stream = self.framework().offers()
        self.master.offer(2)
        self.master.host.cut()
        waiting = stream.__anext__()
        self.assertNoResult(waiting)
        self.advance(1)
        self.master.offer()
        self.assertEqual(self.successResultOf(waiting).id, "o3")

    def test_what_is_over_the_backlog_is_declined(self) -> None:
        stream = self.framework(settings=DriverSettings(offer_backlog=2)).offers()
        self.master.offer(5)
        self.advance()
        self.assertEqual(self.master.declined(), ["o3", "o4", "o5"])
        self.assertEqual(len(stream.queue), 2)

    def test_each_offer_goes_to_one_loop(self) -> None:
        framework = self.framework()
        streams = [framework.offers(), framework.offers()]
        waiting = [stream.__anext__() for stream in streams]
        self.master.offer(2)
        self.assertEqual({self.successResultOf(each).id for each in waiting}, {"o1", "o2"})
        self.master.offer(4)
        self.assertEqual([len(stream.queue) for stream in streams], [2, 2])

    def test_loop_that_is_left_leaves_to_others(self) -> None:
        framework = self.framework()
        one, other = framework.offers(), framework.offers()
        self.master.offer(2)
        one.aclose()
        self.assertEqual(len(other.queue), 2)
        self.advance(1)
        self.assertEqual(self.master.declined(), [])

    def test_offers_that_nobody_takes_are_refused_for_long_and_revived(self) -> None:
        framework = self.framework()
        self.master.offer(2)
        self.advance()
        [call] = self.master.of_type(Call.DECLINE)
        self.assertEqual(call.decline.filters.refuse_seconds, 3600)
        framework.offers()
        self.advance()
        self.assertEqual(len(self.master.of_type(Call.REVIVE)), 1)
        framework.offers()
        self.advance()
        self.assertEqual(len(self.master.of_type(Call.REVIVE)), 1)

    def test_one_may_wait_at_a_time(self) -> None:
        stream = self.framework().offers()
        self.assertNoResult(stream.__anext__())
        with self.assertRaises(RuntimeError):
            stream.__anext__()

    def test_loop_ends_with_the_service(self) -> None:
        framework = self.framework()
        looping = self.start(self.loop(framework))
        framework.stopService()
        self.advance()
        self.assertEqual(self.successResultOf(looping), "left")
        self.assertEqual(self.successResultOf(self.start(self.loop(framework))), "left")
        self.assertFalse(framework.running)

    def test_loop_raises_where_the_master_ends_the_framework(self) -> None:
        framework = self.framework()
        looping = self.start(self.loop(framework))
        event = Event(type=Event.ERROR)
        event.error.message = "gone"
        self.master.send(event)
        self.failureResultOf(looping, FrameworkError)
        self.failureResultOf(self.start(self.loop(framework)), FrameworkError)

    def test_plain_for_is_refused(self) -> None:
        with self.assertRaises(TypeError):
            iter(self.framework().offers())

    def test_loop_that_waits_is_not_collected(self) -> None:
        framework = self.framework()

        async def loop() -> None:
            async for offer in framework.offers():
                self.seen.append(offer.id)
                self.kept.append(offer)

        Deferred.fromCoroutine(loop())
        gc.collect()
        self.master.offer()
        self.assertEqual(self.seen, ["o1"])


class SchedulerTests(FrameworkCase):
    """Offers by callback."""

    def test_all_offers_go_to_the_scheduler(self) -> None:
        told: list[Any] = []

        class Takes(Scheduler):
            def resource_offers(self, framework: Any, offers: list[Offer]) -> None:
                told.append(offers)

            def offer_rescinded(self, framework: Any, offer_id: str) -> None:
                told.append(offer_id)

        framework = self.framework(scheduler=Takes())
        self.master.offer(2)
        self.master.rescind("o2")
        self.assertEqual([each.id for each in told[0]], ["o1", "o2"])
        self.assertEqual([each.held for each in told[0]], [True, False])
        self.assertEqual(told[1], "o2")
        with self.assertRaises(DriverError):
            framework.offers()

    def test_what_a_scheduler_does_not_keep_is_declined(self) -> None:
        self.framework(scheduler=Scheduler())
        self.master.offer(2)
        self.advance(1)
        self.assertEqual(sorted(self.master.declined()), ["o1", "o2"])

    def test_scheduler_that_raises_harms_nothing(self) -> None:
        class Raises(Scheduler):
            def resource_offers(self, framework: Any, offers: list[Offer]) -> None:
                raise RuntimeError("no")

        framework = self.framework(scheduler=Raises())
        self.master.offer()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(framework.subscribed)
