"""One suite for every way a framework can come: the same calls, answers and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mesoskit.messages.codec import from_json
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.link import CallRefused, Hello
from tests.master.bench import (
    accept,
    acknowledge,
    decline,
    scheduler_call,
    state_name,
    subscription,
    task,
    update,
    uuid,
)
from tests.master.http_peers import JSON, PROTOBUF, HttpTestCase, Stream


class Framework(Protocol):
    """A framework, whatever way it came."""

    def call(self, call: Call) -> tuple[int, str]:
        """Return status and text of the answer: 202 and nothing, or a refusal."""
        ...

    def events(self) -> list[Event]:
        """Return what it was sent, without heartbeats."""
        ...

    def leave(self) -> None:
        """End the connection."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the master has ended it."""
        ...


class Native:
    """Over the native stream."""

    def __init__(self, case: HttpTestCase, call: Call) -> None:
        self.case = case
        self.peer = case.connect(Hello(role=3))
        self.call(call)

    def call(self, call: Call) -> tuple[int, str]:
        answers: list[tuple[int, str]] = []

        def refused(failure: Any) -> None:
            failure.trap(CallRefused)
            answers.append((failure.value.status, failure.value.why))

        answer = self.peer.link.call(call)
        answer.addCallbacks(lambda _: answers.append((202, "")), refused)
        self.case.turn()
        return answers[0]

    def events(self) -> list[Event]:
        return self.peer.messages

    def leave(self) -> None:
        self.peer.link.lose()
        self.case.turn()

    @property
    def ended(self) -> bool:
        return self.peer.lost_because is not None


class Http:
    """Over v1 HTTP."""

    def __init__(self, case: HttpTestCase, call: Call) -> None:
        self.case = case
        self.stream = case.stream(call)
        self.id = self.stream.id

    def call(self, call: Call) -> tuple[int, str]:
        status, _, why = self.case.post(call, self.id)
        return (202 if status == 200 else status), why.decode()

    def events(self) -> list[Event]:
        stream: Stream = self.stream
        kind = stream.media == JSON
        records = stream.records()
        events = [from_json(Event, r) if kind else Event.FromString(r) for r in records]
        return [event for event in events if event.type != Event.HEARTBEAT]

    def leave(self) -> None:
        self.stream.leave()

    @property
    def ended(self) -> bool:
        return self.stream.ended


# A mixin where tests are collected, a test case where types are checked.
if TYPE_CHECKING:
    _Base = HttpTestCase
else:
    _Base = object


class Ways(_Base):
    """What every framework sees."""

    way: Any

    def framework(self, **fields: Any) -> Framework:
        """Return a framework that has subscribed."""
        framework: Framework = self.way(self, subscription(**fields))
        self.clock.advance(0.1)
        self.turn()
        return framework

    def types(self, framework: Framework) -> list[str]:
        return [Event.Type.Name(event.type) for event in framework.events()]

    def id_of(self, framework: Framework) -> str:
        return framework.events()[0].subscribed.framework_id.value

    def offer(self, framework: Framework) -> Any:
        """Return the offer that came last."""
        return [e for e in framework.events() if e.type == Event.OFFERS][-1].offers.offers[0]

    def status(self, framework: Framework) -> TaskStatus:
        """Return the last status that came."""
        return [e for e in framework.events() if e.type == Event.UPDATE][-1].update.status

    def test_subscribed_and_offers(self) -> None:
        self.register()
        framework = self.framework()
        self.assertEqual(["SUBSCRIBED", "OFFERS"], self.types(framework))
        subscribed = framework.events()[0].subscribed
        self.assertEqual(15.0, subscribed.heartbeat_interval_seconds)
        self.assertEqual(self.service.state.info, subscribed.master_info)
        self.assertEqual("agent.example", self.offer(framework).hostname)

    def test_life_of_a_task(self) -> None:
        agent = self.register()
        framework = self.framework()
        offer = self.offer(framework)
        self.assertEqual((202, ""), framework.call(accept(offer, task(offer, "t"))))
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            agent.link.send(update(offer, "t", state))
            self.turn()
            status = self.status(framework)
            self.assertEqual((state, uuid("t" + state)), (state_name(status.state), status.uuid))
            self.assertEqual((202, ""), framework.call(acknowledge(offer, "t", state)))
            self.assertEqual(uuid("t" + state), agent.messages[-1].uuid)
        self.clock.advance(2)
        self.turn()
        self.assertEqual(offer.resources, self.offer(framework).resources)

    def test_declined_offer_comes_back(self) -> None:
        self.register()
        framework = self.framework()
        self.assertEqual((202, ""), framework.call(decline(self.offer(framework), 0)))
        self.clock.advance(2)
        self.turn()
        self.assertEqual(["SUBSCRIBED", "OFFERS", "OFFERS"], self.types(framework))

    def test_offer_is_rescinded_when_its_agent_leaves(self) -> None:
        agent = self.register()
        framework = self.framework()
        agent.link.lose()
        self.turn()
        self.assertEqual("RESCIND", self.types(framework)[-1])

    def test_task_that_cannot_be_launched(self) -> None:
        self.register()
        framework = self.framework()
        offer = self.offer(framework)
        call = accept(offer, task(offer, "t", "cpus:1000;mem:1"))
        self.assertEqual((202, ""), framework.call(call))
        status = self.status(framework)
        self.assertEqual(("TASK_ERROR", b""), (state_name(status.state), status.uuid))

    def test_what_is_refused(self) -> None:
        framework = self.framework()
        framework_id = self.id_of(framework)
        invalid = "Failed to validate scheduler::Call: Expecting 'kill' to be present"
        for call, expected in (
            (scheduler_call(Call.REVIVE, "nobody"), (400, "Framework cannot be found")),
            (scheduler_call(Call.KILL, framework_id), (400, invalid)),
            (scheduler_call(Call.UNKNOWN, framework_id), (501, "501 Not Implemented.")),
        ):
            self.assertEqual(expected, framework.call(call))
        self.assertFalse(framework.ended)

    def test_reconciliation(self) -> None:
        self.register()
        framework = self.framework()
        call = scheduler_call(Call.RECONCILE, self.id_of(framework))
        call.reconcile.tasks.add().task_id.value = "never"
        self.assertEqual((202, ""), framework.call(call))
        status = self.status(framework)
        self.assertEqual("TASK_LOST", state_name(status.state))
        self.assertEqual(TaskStatus.REASON_RECONCILIATION, status.reason)

    def test_failover(self) -> None:
        first = self.framework(failover_timeout=60)
        framework_id = self.id_of(first)
        second = self.framework(failover_timeout=60, id=framework_id)
        self.assertEqual(["SUBSCRIBED", "ERROR"], self.types(first))
        self.assertEqual("Framework failed over", first.events()[-1].error.message)
        self.assertTrue(first.ended)
        self.assertEqual(framework_id, self.id_of(second))
        self.assertEqual((202, ""), second.call(scheduler_call(Call.REVIVE, framework_id)))

    def test_one_that_does_not_come_back_is_removed(self) -> None:
        first = self.framework(failover_timeout=5)
        framework_id = self.id_of(first)
        first.leave()
        self.clock.advance(5)
        self.turn()
        second = self.framework(failover_timeout=5, id=framework_id)
        self.assertEqual(["ERROR"], self.types(second))
        self.assertEqual("Framework has been removed", second.events()[0].error.message)
        self.assertTrue(second.ended)

    def test_error_ends_the_subscription(self) -> None:
        framework = self.framework(role="a", roles=["b"])
        self.assertEqual(["ERROR"], self.types(framework))
        self.assertTrue(framework.ended)

    def test_teardown(self) -> None:
        framework = self.framework()
        call = scheduler_call(Call.TEARDOWN, self.id_of(framework))
        self.assertEqual((202, ""), framework.call(call))
        self.assertEqual(["SUBSCRIBED"], self.types(framework))
        self.assertTrue(framework.ended)


class NativeWay(Ways, HttpTestCase):
    """Over the native stream."""

    way = Native


class JsonWay(Ways, HttpTestCase):
    """Over HTTP in JSON."""

    way = Http


class ProtobufWay(Ways, HttpTestCase):
    """Over HTTP in protobuf."""

    way = Http
    media = PROTOBUF
