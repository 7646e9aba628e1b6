"""How a framework finds its master, stays with it, and leaves it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError

from mesoskit.driver import (
    DriverSettings,
    FrameworkError,
    FrameworkStopped,
    NotSubscribed,
    Scheduler,
)
from mesoskit.driver.identity import CAPABILITIES
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.testing.network import Network
from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.link import LinkLost, Refused
from tests.driver.peers import ADDRESS, FRAMEWORK_ID, FrameworkCase

WEEK = 7 * 24 * 3600


class Log(Scheduler):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def subscribed(self, framework: Any) -> None:
        self.told.append("subscribed")

    def disconnected(self, framework: Any, why: str) -> None:
        self.told.append(("disconnected", why))

    def error(self, framework: Any, error: FrameworkError) -> None:
        self.told.append(("error", str(error)))


class InfoTests(FrameworkCase):
    """What a framework says of itself."""

    def said(self, **more: Any) -> FrameworkInfo:
        """Return the info of a framework's first subscription."""
        self.framework(**more)
        info: FrameworkInfo = self.master.said[0].subscribe.framework_info
        return info

    def test_user_and_host_name_are_filled_in(self) -> None:
        self.patch(__import__("getpass"), "getuser", lambda: "alice")
        self.patch(__import__("socket"), "gethostname", lambda: "box")
        info = self.said()
        self.assertEqual((info.user, info.hostname, info.name), ("alice", "box", "test"))

    def test_what_is_given_is_kept(self) -> None:
        info = self.said(fields={"hostname": "mine", "checkpoint": False})
        self.assertEqual((info.hostname, info.checkpoint), ("mine", False))

    def test_tasks_outlive_broken_links(self) -> None:
        info = self.said()
        self.assertEqual((info.failover_timeout, info.checkpoint), (600, True))

    def test_tasks_of_a_framework_that_keeps_its_id_have_a_week(self) -> None:
        self.assertEqual(self.said(failover=True).failover_timeout, WEEK)

    def test_no_time_only_where_it_was_asked_for(self) -> None:
        self.assertEqual(self.said(fields={"failover_timeout": 0.0}).failover_timeout, 0)

    def test_capabilities_are_the_drivers_own_where_none_are_given(self) -> None:
        self.assertEqual([each.type for each in self.said().capabilities], list(CAPABILITIES))

    def test_capabilities_that_are_given_are_not_added_to(self) -> None:
        given = [FrameworkInfo.Capability(type=FrameworkInfo.Capability.GPU_RESOURCES)]
        self.assertEqual(list(self.said(fields={"capabilities": given}).capabilities), given)

    def test_no_capabilities_where_the_drivers_are_not_wanted(self) -> None:
        self.assertEqual(list(self.said(capabilities=False).capabilities), [])

    def test_suppressed_roles_are_told(self) -> None:
        self.framework(suppressed_roles=["a", "b"])
        self.assertEqual(list(self.master.said[0].subscribe.suppressed_roles), ["a", "b"])


class SubscribeTests(FrameworkCase):
    """Subscribing, and doing it again."""

    def test_id_is_told_to_who_waits(self) -> None:
        framework = self.framework(start=False)
        waiting = framework.when_subscribed()
        framework.startService()
        self.assertNoResult(waiting)
        self.advance()
        self.assertEqual(self.successResultOf(waiting), FRAMEWORK_ID)
        self.assertEqual(self.successResultOf(framework.when_subscribed()), FRAMEWORK_ID)
        self.assertTrue(framework.subscribed)

    def test_waiting_may_be_cancelled(self) -> None:
        framework = self.framework(start=False)
        waiting = framework.when_subscribed()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        framework.startService()
        self.advance()
        self.assertTrue(framework.subscribed)

    def test_wrong_address_is_told_at_once(self) -> None:
        from mesoskit.driver import Framework

        with self.assertRaises(EndpointError):
            Framework(self.host, "nowhere", FrameworkInfo(user="", name="test"))

    def test_scheduler_must_be_one(self) -> None:
        with self.assertRaisesRegex(TypeError, "does not provide IScheduler"):
            self.framework(scheduler=object())

    def test_several_addresses_are_tried_in_turn(self) -> None:
        from mesoskit.driver import Framework

        info = FrameworkInfo(user="", name="test")
        framework = Framework(self.host, f"127.0.0.1:1,{ADDRESS}", info)
        framework.startService()
        self.advance(1)
        self.assertTrue(framework.subscribed)

    def test_master_may_be_looked_for(self) -> None:
        from mesoskit.driver import Framework

        framework = Framework(self.host, lambda: ADDRESS, FrameworkInfo(user="", name="test"))
        framework.startService()
        self.advance()
        self.assertTrue(framework.subscribed)

    def test_broken_link_is_made_again_with_the_id(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        self.master.host.cut()
        self.assertFalse(framework.subscribed)
        self.advance(1)
        self.assertTrue(framework.subscribed)
        first, second = self.master.of_type(Call.SUBSCRIBE)
        self.assertFalse(first.HasField("framework_id"))
        self.assertEqual(second.framework_id.value, FRAMEWORK_ID)
        self.assertEqual(second.subscribe.framework_info.id.value, FRAMEWORK_ID)
        self.assertEqual(
            [each if isinstance(each, str) else each[0] for each in log.told],
            ["subscribed", "disconnected", "subscribed"],
        )

    def test_waits_grow_and_are_random_parts(self) -> None:
        chances = iter([0.5, 1.0, 0.5, 1.0])
        tried: list[float] = []
        self.master.leave()
        framework = self.framework(start=False, chance=lambda: next(chances, 0.999))
        connect = self.host.connectTCP

        def counting(*arguments: Any, **more: Any) -> Any:
            tried.append(round(self.host.seconds() - began, 2))
            return connect(*arguments, **more)

        self.host.connectTCP = counting  # type: ignore[method-assign]
        began = self.host.seconds()
        framework.startService()
        self.advance(5)
        self.assertEqual(tried, [0, 0.25, 1.25, 2.25])
        self.advance(100)
        self.assertLess(max(b - a for a, b in pairwise(tried)), 15.1)

    def test_short_waits_again_after_success(self) -> None:
        self.master.leave()
        framework = self.framework()
        self.advance(60)
        self.master.listen(ADDRESS)
        self.advance(15)
        self.assertTrue(framework.subscribed)
        self.master.host.cut()
        self.advance(0.5)
        self.assertTrue(framework.subscribed)

    def test_master_that_is_not_ready_is_asked_again(self) -> None:
        self.master.refusal[Call.SUBSCRIBE] = Refused(503, "recovering")
        framework = self.framework()
        self.assertFalse(framework.subscribed)
        self.master.refusal.clear()
        self.advance(1)
        self.assertTrue(framework.subscribed)

    def test_master_that_does_not_answer_is_left(self) -> None:
        self.master.silent = True
        framework = self.framework()
        self.advance(29)
        self.assertEqual(self.master.reasons, [])
        self.master.silent = False
        self.advance(2)
        self.assertEqual(self.master.reasons, ["the peer said: no answer to SUBSCRIBE within 30 s"])
        self.assertTrue(framework.subscribed)

    def test_master_that_answers_no_call_is_left(self) -> None:
        framework = self.framework()
        self.master.mute.add(Call.REVIVE)
        done = framework.revive()
        self.advance(59)
        self.assertNoResult(done)
        self.advance(2)
        self.failureResultOf(done, LinkLost)
        self.assertEqual(self.master.links, 2)

    def test_master_that_is_slow_is_not_left(self) -> None:
        framework = self.framework()
        self.master.mute.add(Call.REVIVE)
        framework.revive().addErrback(lambda _: None)
        for _ in range(10):
            self.advance(30)
            self.successResultOf(self.done(framework))
        self.assertEqual(self.master.links, 1)

    def done(self, framework: Any) -> Any:
        """Make a call that is answered."""
        done = framework.suppress()
        self.advance()
        return done

    def test_missed_heartbeats_mean_another_link(self) -> None:
        framework = self.framework(settings=DriverSettings(missed_heartbeats=3))
        self.master.send(Event(type=Event.HEARTBEAT))
        for _ in range(10):
            self.advance(15)
            self.master.send(Event(type=Event.HEARTBEAT))
        self.assertEqual(self.master.links, 1)
        self.advance(4 * 15 - 1)
        self.assertEqual(self.master.links, 1)
        self.advance(2)
        self.assertEqual(self.master.links, 2)
        self.assertTrue(framework.subscribed)

    def test_any_event_counts_as_a_heartbeat(self) -> None:
        self.framework(settings=DriverSettings(missed_heartbeats=3))
        self.master.send(Event(type=Event.HEARTBEAT))
        for _ in range(10):
            self.advance(40)
            self.master.rescind("none")
        self.assertEqual(self.master.links, 1)

    def test_no_heartbeats_are_missed_where_there_never_were_any(self) -> None:
        self.framework()
        self.advance(600)
        self.assertEqual(self.master.links, 1)


class EndTests(FrameworkCase):
    """Leaving, and being sent away."""

    def test_one_shot_framework_is_torn_down(self) -> None:
        framework = self.framework()
        stopped = framework.stopService()
        self.advance()
        self.successResultOf(stopped)
        self.assertEqual(len(self.master.of_type(Call.TEARDOWN)), 1)
        self.assertIsNone(self.master.link)

    def test_framework_that_keeps_its_id_only_goes_away(self) -> None:
        framework = self.framework(failover=True)
        stopped = framework.stopService()
        self.advance()
        self.successResultOf(stopped)
        self.assertEqual(self.master.of_type(Call.TEARDOWN), [])
        self.assertIsNone(self.master.link)

    def test_teardown_of_a_framework_that_keeps_its_id(self) -> None:
        framework = self.framework(failover=True)
        ended = framework.teardown()
        self.advance()
        self.successResultOf(ended)
        self.assertEqual(len(self.master.of_type(Call.TEARDOWN)), 1)
        self.assertFalse(framework.running)

    def test_teardown_without_a_master(self) -> None:
        framework = self.framework(start=False)
        self.failureResultOf(framework.teardown(), NotSubscribed)

    def test_teardown_that_is_not_answered_ends_all_the_same(self) -> None:
        self.master.mute.add(Call.TEARDOWN)
        framework = self.framework()
        stopped = framework.stopService()
        self.advance(4)
        self.assertNoResult(stopped)
        self.advance(2)
        self.successResultOf(stopped)

    def test_stopping_while_nobody_is_there(self) -> None:
        self.master.leave()
        framework = self.framework()
        self.successResultOf(framework.stopService())
        self.advance(60)
        self.assertEqual(self.master.links, 0)

    def test_nothing_is_left_after_the_end(self) -> None:
        network = Network()
        self.network, before = network, self.network
        self.master = type(self.master)(network)
        self.host = network.host("framework")
        framework = self.framework()
        self.launch_one(framework).terminal().addErrback(lambda _: None)
        framework.stopService()
        self.advance(60)
        self.assertEqual([str(each) for each in network.getDelayedCalls()], [])
        self.network = before

    def test_run_ends_with_the_service(self) -> None:
        framework = self.framework(start=False)
        running = framework.run()
        self.advance()
        self.assertNoResult(running)
        framework.stopService()
        self.advance()
        self.successResultOf(running)

    def test_run_may_be_cancelled(self) -> None:
        framework = self.framework(start=False)
        running = framework.run()
        self.advance()
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.advance()
        self.assertFalse(framework.running)

    def test_used_as_a_context(self) -> None:
        framework = self.framework(start=False)

        async def use() -> str:
            async with framework:
                return framework.id

        used = self.start(use())
        self.advance()
        self.assertEqual(self.successResultOf(used), FRAMEWORK_ID)
        self.assertFalse(framework.running)

    def test_may_be_started_again_as_another(self) -> None:
        framework = self.framework()
        framework.stopService()
        self.advance()
        framework.startService()
        self.advance()
        self.assertTrue(framework.subscribed)
        self.assertFalse(self.master.of_type(Call.SUBSCRIBE)[1].HasField("framework_id"))

    def test_error_is_told_to_everybody_who_waits(self) -> None:
        log = Log()
        framework = self.framework(scheduler=log)
        running = framework.run()
        handle = framework.adopt("t")
        waiting = [handle.running(), handle.terminal(), handle.kill()]
        event = Event(type=Event.ERROR)
        event.error.message = "Framework failed over"
        self.master.send(event)
        for each in [running, *waiting, handle.terminal(), framework.when_subscribed()]:
            failure = self.failureResultOf(each, FrameworkError)
            self.assertEqual(failure.getErrorMessage(), "Framework failed over")
        self.failureResultOf(framework.revive(), FrameworkError)
        self.failureResultOf(framework.run(), FrameworkError)
        self.assertEqual(log.told[-1], ("error", "Framework failed over"))
        self.advance(60)
        self.assertEqual(self.master.links, 1)

    def test_refused_subscription_is_an_error(self) -> None:
        self.master.refusal[Call.SUBSCRIBE] = Refused(403, "no such principal")
        framework = self.framework()
        failure = self.failureResultOf(framework.when_subscribed(), FrameworkError)
        self.assertIn("no such principal", failure.getErrorMessage())
        self.advance(60)
        self.assertEqual(self.master.links, 1)

    def test_stopping_tells_who_waits_for_a_subscription(self) -> None:
        self.master.leave()
        framework = self.framework()
        waiting = framework.when_subscribed()
        framework.stopService()
        self.failureResultOf(waiting, FrameworkStopped)


class KeptIdTests(FrameworkCase):
    """A framework that is the same after its program has ended."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp()) / "deep" / "id"

    def test_id_is_kept_and_used(self) -> None:
        framework = self.framework(id_file=self.file)
        self.assertTrue(framework.keeps_id)
        framework.stopService()
        self.advance()
        again = self.framework(id_file=self.file)
        self.assertEqual(again.id, FRAMEWORK_ID)
        self.assertEqual(self.master.said[-2].framework_id.value, FRAMEWORK_ID)

    def test_torn_down_framework_is_another_one_afterwards(self) -> None:
        framework = self.framework(id_file=self.file)
        framework.teardown()
        self.advance()
        self.assertFalse(self.file.exists())
        self.assertEqual(framework.id, "")

    def test_id_that_is_no_good_any_more(self) -> None:
        framework = self.framework(id_file=self.file)
        waiting = framework.run()
        event = Event(type=Event.ERROR)
        event.error.message = "Framework has been removed"
        self.master.send(event)
        self.assertIn(str(self.file), self.failureResultOf(waiting).getErrorMessage())

    def test_all_tasks_are_asked_for_in_a_new_life(self) -> None:
        self.framework(fields={"id": {"value": "m-0007"}})
        self.assertEqual(self.master.reconciled()[0], [])

    def test_nothing_is_asked_for_in_a_first_life(self) -> None:
        self.framework(failover=True)
        self.assertEqual(self.master.reconciled(), [])
