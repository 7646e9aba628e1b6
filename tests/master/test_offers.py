"""Offers: made, declined, rescinded, timed out."""

from __future__ import annotations

from typing import Any

from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.resources import Resources
from tests.base import SynchronousTestCase
from tests.master.bench import (
    MULTI_ROLE,
    Bench,
    decline,
    events,
    scheduler_call,
)


class Offers(SynchronousTestCase):
    """What frameworks are offered, and when again."""

    def test_one_event_carries_all_offers_of_a_pass(self) -> None:
        bench = Bench()
        for number in range(3):
            bench.register(f"host{number}")
        framework, _ = bench.subscribe()
        offers = bench.offers(framework)
        self.assertEqual(
            [f"{bench.state.info.id}-O{number}" for number in range(3)],
            [offer.id.value for offer in offers],
        )
        self.assertEqual(3, len({offer.agent_id.value for offer in offers}))

    def test_offer_shows_the_agent(self) -> None:
        bench = Bench()
        bench.register(resources="cpus:4;mem:2048;ports:[31000-32000]")
        framework, framework_id = bench.subscribe()
        offer = bench.offer(framework)
        self.assertEqual(framework_id, offer.framework_id.value)
        self.assertEqual("agent.example", offer.hostname)
        self.assertEqual(
            "cpus:4; mem:2048; ports:[31000-32000]",
            str(Resources.from_message(offer.resources)),
        )

    def test_declined_offer_comes_back_after_its_filter(self) -> None:
        for refuse_seconds, expected in ((None, 5.0), (2.0, 2.0), (0.0, 1.0), (-1.0, 5.0)):
            bench = Bench()
            bench.register()
            framework, _ = bench.subscribe()
            offer = bench.offer(framework)
            bench.receive(framework, decline(offer, refuse_seconds))
            declined = bench.now
            bench.offer(framework)
            # A filter that has ended is looked at with the next pass.
            waited = bench.now - declined
            self.assertGreaterEqual(waited, expected - 0.001, refuse_seconds)
            self.assertLess(waited, expected + 1.1, refuse_seconds)

    def test_declining_what_is_not_there_is_ignored(self) -> None:
        bench = Bench()
        bench.register()
        framework, _ = bench.subscribe()
        offer = bench.offer(framework)
        for _ in range(2):
            self.assertEqual((202, ""), bench.call(framework, decline(offer, 100)))
        self.assertEqual(1, bench.state.frameworks[_framework(bench)].offers_declined)

    def test_somebody_else_s_offer_cannot_be_declined(self) -> None:
        bench = Bench()
        bench.register()
        first, _ = bench.subscribe()
        offer = bench.offer(first)
        second, second_id = bench.subscribe()
        call = decline(offer)
        call.framework_id.value = second_id
        bench.receive(second, call)
        self.assertEqual(1, len(bench.state.offers))

    def test_offer_that_nobody_answers_is_rescinded(self) -> None:
        bench = Bench(offer_timeout=30.0)
        agent, _ = bench.register()
        framework, _ = bench.subscribe()
        offer = bench.offer(framework)
        made = bench.now
        effects: list[Any] = []
        while not events(effects, framework, Event.RESCIND):
            effects = bench.wake()
            bench.pong(agent)
        (event,) = events(effects, framework, Event.RESCIND)
        self.assertEqual(offer.id.value, event.rescind.offer_id.value)
        self.assertEqual(made + 30, bench.now)
        self.assertNotEqual(offer.id.value, bench.offer(framework).id.value)

    def test_answered_offer_does_not_time_out(self) -> None:
        bench = Bench(offer_timeout=3.0)
        bench.register()
        framework, _ = bench.subscribe()
        bench.receive(framework, decline(bench.offer(framework), 100))
        self.assertEqual([], events(bench.run_until(50), framework))

    def test_suppressed_framework_is_offered_nothing_until_it_revives(self) -> None:
        bench = Bench()
        bench.register()
        framework, framework_id = bench.subscribe(suppressed=["*"])
        self.assertEqual([], events(bench.run_until(5), framework))
        self.assertEqual(
            (202, ""), bench.call(framework, scheduler_call(Call.REVIVE, framework_id))
        )
        offer = bench.offer(framework)
        bench.receive(framework, decline(offer, 0))
        bench.receive(framework, scheduler_call(Call.SUPPRESS, framework_id))
        self.assertEqual([], events(bench.run_until(bench.now + 5), framework))
        self.assertEqual(("*",), bench.state.frameworks[framework_id].suppressed)

    def test_reviving_ends_filters(self) -> None:
        bench = Bench()
        bench.register()
        framework, framework_id = bench.subscribe()
        bench.receive(framework, decline(bench.offer(framework), 1000))
        bench.receive(framework, scheduler_call(Call.REVIVE, framework_id))
        bench.offer(framework)

    def test_roles_that_are_not_its_own_change_nothing(self) -> None:
        bench = Bench()
        bench.register()
        framework, framework_id = bench.subscribe(MULTI_ROLE, roles=["a", "b"])
        for role in ("c", "-x"):
            call = scheduler_call(Call.SUPPRESS, framework_id)
            call.suppress.roles.extend(["a", role])
            self.assertEqual((202, ""), bench.call(framework, call))
        self.assertEqual((), bench.state.frameworks[framework_id].suppressed)
        call = scheduler_call(Call.SUPPRESS, framework_id)
        call.suppress.roles.append("a")
        bench.receive(framework, call)
        self.assertEqual(("a",), bench.state.frameworks[framework_id].suppressed)
        self.assertEqual("b", bench.offer(framework).allocation_info.role)

    def test_new_agent_is_offered_at_once(self) -> None:
        bench = Bench()
        framework, _ = bench.subscribe()
        bench.run_until(10)
        bench.register()
        began = bench.now
        bench.offer(framework)
        self.assertLess(bench.now - began, 0.1)


def _framework(bench: Bench):
    (framework_id,) = bench.state.frameworks
    return framework_id
