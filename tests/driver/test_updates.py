"""Updates are delivered once, and acknowledged when they were dealt with."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mesoskit.driver import DriverSettings, Scheduler
from mesoskit.messages.mesos_pb2 import OperationState, OperationStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from tests.driver.peers import AGENT_ID, FRAMEWORK_ID, FrameworkCase


class Listener(Scheduler):
    """Remembers statuses; C{answer} is what it returns."""

    def __init__(self, answer: Any = None) -> None:
        self.heard: list[tuple[str, int]] = []
        self.others: list[Any] = []
        self.statuses: list[Any] = []
        self.answer = answer

    def status_update(self, framework: Any, status: Any) -> Any:
        self.heard.append((status.task_id.value, status.state))
        self.statuses.append(status)
        return self.answer() if callable(self.answer) else self.answer

    def operation_status(self, framework: Any, status: Any) -> Any:
        self.statuses.append(status)
        return self.answer() if callable(self.answer) else self.answer

    def framework_message(self, framework: Any, *arguments: Any) -> None:
        self.others.append(arguments)

    def agent_lost(self, *arguments: Any) -> None:
        self.others.append(arguments[1:])

    executor_lost = inverse_offers = agent_lost  # type: ignore[assignment]


class AutomaticTests(FrameworkCase):
    """Without a word of the framework."""

    def test_acknowledged_with_all_that_the_agent_needs(self) -> None:
        self.framework()
        uuid = self.master.update("t", "TASK_RUNNING")
        self.advance()
        [call] = self.master.of_type(Call.ACKNOWLEDGE)
        self.assertEqual(call.framework_id.value, FRAMEWORK_ID)
        self.assertEqual(call.acknowledge.agent_id.value, AGENT_ID)
        self.assertEqual(call.acknowledge.task_id.value, "t")
        self.assertEqual(call.acknowledge.uuid, uuid)

    def test_what_has_no_uuid_is_not_acknowledged(self) -> None:
        self.framework()
        self.master.update("t", "TASK_RUNNING", b"")
        self.advance()
        self.assertEqual(self.master.acknowledged(), [])

    def test_repeated_update_is_delivered_once_and_acknowledged_again(self) -> None:
        listener = Listener()
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual(listener.heard, [("t", 1)])
        self.assertEqual(self.master.acknowledged(), [uuid, uuid])

    def test_repeated_after_a_broken_link(self) -> None:
        listener = Listener()
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        self.master.host.cut()
        self.advance(1)
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual(len(listener.heard), 1)
        self.assertEqual(self.master.acknowledged()[-1], uuid)

    def test_acknowledged_after_the_callback_has_returned(self) -> None:
        heard: list[int] = []
        self.framework(scheduler=Listener(lambda: heard.append(len(self.master.acknowledged()))))
        self.master.update("t", "TASK_RUNNING")
        self.advance()
        self.assertEqual(heard, [0])
        self.assertEqual(len(self.master.acknowledged()), 1)

    def test_acknowledged_after_the_deferred_has_fired(self) -> None:
        done: Deferred[None] = Deferred()
        listener = Listener(done)
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual((len(listener.heard), self.master.acknowledged()), (1, []))
        done.callback(None)
        self.advance()
        self.assertEqual(self.master.acknowledged(), [uuid])

    def test_acknowledged_after_the_coroutine_has_ended(self) -> None:
        done: Deferred[None] = Deferred()

        async def deal() -> None:
            await done

        self.framework(scheduler=Listener(deal))
        self.master.update("t", "TASK_RUNNING")
        self.advance()
        self.assertEqual(self.master.acknowledged(), [])
        done.callback(None)
        self.advance()
        self.assertEqual(len(self.master.acknowledged()), 1)

    def test_dealt_with_while_there_was_no_master(self) -> None:
        done: Deferred[None] = Deferred()
        listener = Listener(done)
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        self.master.host.cut()
        done.callback(None)
        self.advance(1)
        self.assertEqual(self.master.acknowledged(), [])
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual(self.master.acknowledged(), [uuid])
        self.assertEqual(len(listener.heard), 1)

    def test_what_was_not_dealt_with_comes_again(self) -> None:
        def fail() -> None:
            raise RuntimeError("disk full")

        listener = Listener(fail)
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        self.advance()
        self.assertEqual(self.master.acknowledged(), [])
        listener.answer = None
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual(len(listener.heard), 2)
        self.assertEqual(self.master.acknowledged(), [uuid])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_what_fails_later_comes_again_too(self) -> None:
        done: Deferred[None] = Deferred()
        listener = Listener(done)
        self.framework(scheduler=listener)
        uuid = self.master.update("t", "TASK_RUNNING")
        done.errback(RuntimeError("disk full"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        listener.answer = None
        self.master.update("t", "TASK_RUNNING", uuid)
        self.advance()
        self.assertEqual(self.master.acknowledged(), [uuid])

    def test_handles_are_told_before_it_is_acknowledged(self) -> None:
        framework = self.framework()
        handle = self.launch_one(framework)
        seen: list[int] = []
        handle.running().addCallback(lambda _: seen.append(len(self.master.acknowledged())))
        self.master.update("t", "TASK_RUNNING")
        self.assertEqual(seen, [0])

    def test_only_so_many_are_remembered(self) -> None:
        listener = Listener()
        self.framework(scheduler=listener, settings=DriverSettings(remembered_updates=3))
        uuids = [self.master.update("t", "TASK_RUNNING") for _ in range(4)]
        self.master.update("t", "TASK_RUNNING", uuids[1])
        self.assertEqual(len(listener.heard), 4)
        self.master.update("t", "TASK_RUNNING", uuids[0])
        self.assertEqual(len(listener.heard), 5)


class ExplicitTests(FrameworkCase):
    """Only where the framework says so."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = Listener()
        self.fw = self.framework(scheduler=self.listener, acknowledge=False)
        self.uuid = self.master.update("t", "TASK_RUNNING")
        self.advance()

    def test_nothing_is_acknowledged_by_itself(self) -> None:
        self.assertEqual(self.master.acknowledged(), [])

    def test_nothing_after_a_deferred_either(self) -> None:
        done: Deferred[None] = Deferred()
        self.listener.answer = done
        self.master.update("t", "TASK_FINISHED")
        done.callback(None)
        self.advance()
        self.assertEqual(self.master.acknowledged(), [])

    def test_repetition_is_not_delivered(self) -> None:
        self.master.update("t", "TASK_RUNNING", self.uuid)
        self.assertEqual(len(self.listener.heard), 1)
        self.assertEqual(self.master.acknowledged(), [])

    def test_acknowledged_when_the_framework_says_so(self) -> None:
        self.fw.acknowledge(self.listener.statuses[0])
        self.advance()
        self.assertEqual(self.master.acknowledged(), [self.uuid])
        self.master.update("t", "TASK_RUNNING", self.uuid)
        self.advance()
        self.assertEqual(self.master.acknowledged(), [self.uuid] * 2)

    def test_nothing_to_acknowledge(self) -> None:
        self.master.update("t", "TASK_RUNNING", b"")
        self.fw.acknowledge(self.listener.statuses[-1])
        self.advance()
        self.assertEqual(self.master.acknowledged(), [])


class OtherEventTests(FrameworkCase):
    """Everything else that a master says."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = Listener()
        self.fw = self.framework(scheduler=self.listener)

    def operation(self, uuid: bytes = b"u" * 16) -> None:
        event = Event(type=Event.UPDATE_OPERATION_STATUS)
        status = OperationStatus(state=OperationState.OPERATION_FINISHED)
        status.operation_id.value = "op"
        status.agent_id.value = AGENT_ID
        if uuid:
            status.uuid.value = uuid
        event.update_operation_status.status.CopyFrom(status)
        self.master.send(event)
        self.advance()

    def test_operation(self) -> None:
        self.operation()
        self.operation()
        self.assertEqual(len(self.listener.statuses), 1)
        first, second = self.master.of_type(Call.ACKNOWLEDGE_OPERATION_STATUS)
        self.assertEqual(first, second)
        said = first.acknowledge_operation_status
        self.assertEqual(
            (said.operation_id.value, said.agent_id.value, said.uuid), ("op", AGENT_ID, b"u" * 16)
        )

    def test_operation_that_needs_no_acknowledgement(self) -> None:
        self.operation(b"")
        self.assertEqual(self.master.of_type(Call.ACKNOWLEDGE_OPERATION_STATUS), [])

    def test_message(self) -> None:
        event = Event(type=Event.MESSAGE)
        event.message.agent_id.value, event.message.executor_id.value = "a", "e"
        event.message.data = b"hello"
        self.master.send(event)
        self.assertEqual(self.listener.others, [("a", "e", b"hello")])

    def test_lost_agent(self) -> None:
        event = Event(type=Event.FAILURE)
        event.failure.agent_id.value = "a"
        self.master.send(event)
        self.assertEqual(self.listener.others, [("a",)])

    def test_lost_executor(self) -> None:
        event = Event(type=Event.FAILURE)
        event.failure.agent_id.value, event.failure.executor_id.value = "a", "e"
        self.master.send(event)
        event.failure.status = 9
        self.master.send(event)
        self.assertEqual(self.listener.others, [("a", "e", -1), ("a", "e", 9)])

    def test_inverse_offers(self) -> None:
        event = Event(type=Event.INVERSE_OFFERS)
        offer = event.inverse_offers.inverse_offers.add()
        offer.id.value = "i"
        offer.framework_id.value = FRAMEWORK_ID
        offer.unavailability.start.nanoseconds = 1
        self.master.send(event)
        self.assertEqual(self.listener.others[0][0][0].id.value, "i")

    def test_unknown_event_is_passed_over(self) -> None:
        self.master.send(Event(type=Event.RESCIND_INVERSE_OFFER))
        self.assertTrue(self.fw.subscribed)


class VerbTests(FrameworkCase):
    """The calls that are only passed on."""

    def said(self, kind: int) -> Any:
        """Return the one call of a type."""
        self.advance()
        [call] = self.master.of_type(kind)
        self.assertEqual(call.framework_id.value, FRAMEWORK_ID)
        return call

    def setUp(self) -> None:
        super().setUp()
        self.fw = self.framework()

    def test_each_says_what_it_is_given(self) -> None:
        done = [
            self.fw.revive(["a"]),
            self.fw.suppress(["b"]),
            self.fw.shutdown_executor("e", "a"),
            self.fw.message("a", "e", b"hi"),
            self.fw.request([]),
            self.fw.reconcile([("t", "a"), ("u", "")]),
            self.fw.reconcile_operations([("o", "a")]),
            self.fw.accept_inverse_offers(["i"]),
            self.fw.decline_inverse_offers(["j"], 9),
        ]
        self.advance()
        for each in done:
            self.successResultOf(each)
        self.assertEqual(list(self.said(Call.REVIVE).revive.roles), ["a"])
        self.assertEqual(list(self.said(Call.SUPPRESS).suppress.roles), ["b"])
        self.assertEqual(self.said(Call.SHUTDOWN).shutdown.executor_id.value, "e")
        self.assertEqual(self.said(Call.MESSAGE).message.data, b"hi")
        self.assertTrue(self.said(Call.REQUEST))
        tasks = self.said(Call.RECONCILE).reconcile.tasks
        self.assertEqual(
            [(t.task_id.value, t.agent_id.value) for t in tasks], [("t", "a"), ("u", "")]
        )
        operations = self.said(Call.RECONCILE_OPERATIONS).reconcile_operations.operations
        self.assertEqual([each.operation_id.value for each in operations], ["o"])
        ids = self.said(Call.ACCEPT_INVERSE_OFFERS).accept_inverse_offers.inverse_offer_ids
        self.assertEqual([each.value for each in ids], ["i"])
        declined = self.said(Call.DECLINE_INVERSE_OFFERS).decline_inverse_offers
        self.assertEqual(declined.filters.refuse_seconds, 9)

    def test_changed_info_holds_for_later_subscriptions(self) -> None:
        info = self.fw.info
        changed = type(info)()
        changed.CopyFrom(info)
        changed.name = "better"
        done = self.fw.update(changed, suppressed_roles=["r"])
        self.advance()
        self.successResultOf(done)
        said = self.said(Call.UPDATE_FRAMEWORK).update_framework
        self.assertEqual((said.framework_info.name, list(said.suppressed_roles)), ("better", ["r"]))
        self.master.host.cut()
        self.advance(1)
        again = self.master.of_type(Call.SUBSCRIBE)[-1].subscribe
        self.assertEqual(
            (again.framework_info.name, list(again.suppressed_roles)), ("better", ["r"])
        )
