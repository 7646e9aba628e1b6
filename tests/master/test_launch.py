"""From an offer to a task that has ended."""

from __future__ import annotations

from mesoskit.messages.internal_pb2 import (
    PingSlaveMessage,
    RunTaskGroupMessage,
    RunTaskMessage,
    StatusUpdateAcknowledgementMessage,
)
from mesoskit.messages.mesos_pb2 import OPERATION_ERROR, ExecutorInfo, Offer, TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Send
from mesoskit.model.resources import Resources
from mesoskit.model.tasks import TaskState
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    MULTI_ROLE,
    REFINEMENT,
    Bench,
    accept,
    acknowledge,
    events,
    executor,
    framework_info,
    group,
    resources,
    scheduler_call,
    sent,
    statuses,
    task,
    told,
    update,
)


class OneLife(SynchronousTestCase):
    """A task from its launch to its end."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe()
        self.offer = self.bench.offer(self.framework)

    def test_launched_task_is_sent_to_the_agent_with_all_it_needs(self) -> None:
        effects = self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        expected = RunTaskMessage(pid="@0.0.0.0:0", launch_executor=True)
        expected.framework.CopyFrom(framework_info(self.framework_id))
        expected.task.CopyFrom(task(self.offer, "t"))
        del expected.task.resources[:]
        expected.task.resources.extend(resources("cpus:1;mem:64", "*"))
        expected.resource_version_uuids.add().uuid.value = b"resource-version"
        self.assertEqual([Send(self.agent, expected)], effects)

    def test_update_is_forwarded_as_it_came(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        message = update(self.offer, "t", "TASK_RUNNING", healthy=True)
        effects = self.bench.receive(self.agent, message)
        event = Event(type=Event.UPDATE)
        event.update.status.CopyFrom(message.update.status)
        self.assertEqual([Send(self.framework, event)], effects)

    def test_acknowledgement_goes_to_the_agent(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        message = update(self.offer, "t", "TASK_RUNNING")
        self.bench.receive(self.agent, message)
        effects = self.bench.receive(self.framework, acknowledge(self.offer, "t", "TASK_RUNNING"))
        expected = StatusUpdateAcknowledgementMessage(uuid=message.update.uuid)
        expected.slave_id.value = self.agent_id
        expected.framework_id.value = self.framework_id
        expected.task_id.value = "t"
        self.assertEqual([Send(self.agent, expected)], effects)

    def test_finished_and_acknowledged_task_is_history(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        framework = self.bench.state.frameworks[self.framework_id]
        for state in ("TASK_RUNNING", "TASK_FINISHED"):
            self.bench.receive(self.agent, update(self.offer, "t", state))
            self.assertIn("t", framework.tasks)
            self.bench.receive(self.framework, acknowledge(self.offer, "t", state))
        self.assertEqual({}, framework.tasks)
        (ended,) = framework.completed
        self.assertEqual(TaskState.TASK_FINISHED, TaskStatus.FromString(ended.statuses[-1]).state)
        self.assertEqual(2, len(ended.statuses))

    def test_story_tells_the_life(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        for state in ("TASK_RUNNING", "TASK_FINISHED"):
            self.bench.receive(self.agent, update(self.offer, "t", state))
        story = self.bench.state.story("t")
        self.assertEqual([6, 1, 2], [entry[1] for entry in story])
        self.assertEqual(("t", self.framework_id, self.agent_id), story[0][2:])

    def test_resources_are_offered_again_when_the_task_has_ended(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t", "cpus:4;mem:2048"))
        self.bench.receive(self.agent, update(self.offer, "t", "TASK_FINISHED"))
        offer = self.bench.offer(self.framework)
        self.assertEqual("cpus:4; mem:2048", str(Resources.from_message(offer.resources)))

    def test_duplicate_of_a_terminal_update_frees_nothing_twice(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        message = update(self.offer, "t", "TASK_FINISHED")
        for _ in range(2):
            self.assertEqual(
                [("t", "TASK_FINISHED")],
                told(self.bench.receive(self.agent, message), self.framework),
            )
        self.assertEqual(1, self.bench.state.counters.terminal[2])

    def test_old_update_does_not_bring_a_task_back_to_life(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t"))
        self.bench.receive(self.agent, update(self.offer, "t", "TASK_FINISHED"))
        effects = self.bench.receive(self.agent, update(self.offer, "t", "TASK_RUNNING"))
        self.assertEqual([("t", "TASK_RUNNING")], told(effects, self.framework))
        live = self.bench.state.frameworks[self.framework_id].tasks["t"]  # type: ignore[index]
        self.assertEqual(2, live.state)

    def test_latest_state_frees_resources_before_its_own_update_comes(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "t", "cpus:4;mem:2048"))
        effects = self.bench.receive(
            self.agent, update(self.offer, "t", "TASK_RUNNING", latest="TASK_FINISHED")
        )
        self.assertEqual([("t", "TASK_RUNNING")], told(effects, self.framework))
        self.bench.offer(self.framework)
        # Acknowledging the old update does not end it; the terminal one is still to come.
        self.bench.receive(self.framework, acknowledge(self.offer, "t", "TASK_RUNNING"))
        self.assertIn("t", self.bench.state.frameworks[self.framework_id].tasks)


class Launches(SynchronousTestCase):
    """What an ACCEPT may do, and what it may not."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE)
        self.offer = self.bench.offer(self.framework)

    def _refused(self, effects: list[object]) -> list[tuple[str, str, int, str]]:
        return [
            (
                status.task_id.value,
                TaskStatus.Reason.Name(status.reason),
                status.source,
                status.message,
            )
            for status in statuses(effects, self.framework)
        ]

    def test_rest_of_an_offer_is_offered_again_after_the_filter(self) -> None:
        self.bench.receive(
            self.framework, accept(self.offer, task(self.offer, "t"), refuse_seconds=2)
        )
        began = self.bench.now
        offer = None
        while offer is None:
            effects = self.bench.wake()
            offers = events(effects, self.framework, Event.OFFERS)
            offer = offers[0].offers.offers[0] if offers else None
        self.assertEqual("cpus:3; mem:1984", str(Resources.from_message(offer.resources)))
        self.assertGreaterEqual(self.bench.now, began + 2)

    def test_accept_without_operations_declines(self) -> None:
        self.assertEqual([], self.bench.receive(self.framework, accept(self.offer)))
        self.assertEqual({}, self.bench.state.offers)

    def test_invalid_task_is_refused_and_the_next_one_launched(self) -> None:
        effects = self.bench.launch(
            self.framework,
            self.offer,
            task(self.offer, "big", "cpus:5;mem:64"),
            task(self.offer, "good"),
        )
        ((task_id, reason, source, message),) = self._refused(effects)
        self.assertEqual(("big", "REASON_TASK_INVALID", 0), (task_id, reason, source))
        self.assertIn("is more than available", message)
        (status,) = statuses(effects, self.framework)
        self.assertEqual("", status.uuid.decode())
        self.assertEqual(
            ["good"],
            [m.task.task_id.value for m in sent(effects, self.agent, "RunTaskMessage")],
        )

    def test_tasks_of_one_accept_may_not_take_more_than_was_offered(self) -> None:
        effects = self.bench.launch(
            self.framework,
            self.offer,
            *[task(self.offer, f"t{n}", "cpus:1.5;mem:64") for n in range(3)],
        )
        self.assertEqual([("t2", "TASK_ERROR")], told(effects, self.framework))
        self.assertEqual(2, len(sent(effects, self.agent, "RunTaskMessage")))

    def test_duplicate_task_id_is_refused(self) -> None:
        effects = self.bench.launch(
            self.framework, self.offer, task(self.offer, "t"), task(self.offer, "t")
        )
        self.assertEqual(
            [("t", "REASON_TASK_INVALID", 0, "Task has duplicate ID: t")], self._refused(effects)
        )
        self.assertEqual(1, len(sent(effects, self.agent, "RunTaskMessage")))

    def test_unknown_offer_drops_the_tasks(self) -> None:
        call = accept(self.offer, task(self.offer, "t"))
        call.accept.offer_ids[0].value = "no-such-offer"
        effects = self.bench.receive(self.framework, call)
        self.assertEqual([("t", "TASK_DROPPED")], told(effects, self.framework))
        self.assertEqual(
            [
                (
                    "t",
                    "REASON_INVALID_OFFERS",
                    0,
                    "Task launched with invalid offers: Offer no-such-offer is no longer valid",
                )
            ],
            self._refused(effects),
        )

    def test_unknown_offer_loses_the_tasks_of_an_old_framework(self) -> None:
        old, _ = self.bench.subscribe()
        call = accept(self.offer, task(self.offer, "t"))
        call.framework_id.value = self.bench.state.info.id + "-0001"
        effects = self.bench.receive(old, call)
        self.assertEqual([("t", "TASK_LOST")], told(effects, old))
        self.assertIn("has invalid framework", statuses(effects, old)[0].message)
        # The offer was somebody else's, and still is.
        self.assertEqual(1, len(self.bench.state.offers))

    def test_accepting_an_offer_twice_drops_the_second_launch(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "a"))
        effects = self.bench.launch(self.framework, self.offer, task(self.offer, "b"))
        self.assertEqual([("b", "TASK_DROPPED")], told(effects, self.framework))

    def test_no_offers_at_all(self) -> None:
        call = accept(self.offer, task(self.offer, "t"))
        del call.accept.offer_ids[:]
        effects = self.bench.receive(self.framework, call)
        self.assertEqual(
            "Task launched with invalid offers: No offers specified",
            statuses(effects, self.framework)[0].message,
        )

    def test_offers_of_two_agents_cannot_be_accepted_together(self) -> None:
        self.bench.register("other.example")
        (other,) = self.bench.offers(self.framework)
        call = accept(self.offer, task(self.offer, "t"))
        call.accept.offer_ids.add().value = other.id.value
        effects = self.bench.receive(self.framework, call)
        self.assertIn(
            "Aggregated offers must belong to one single agent",
            statuses(effects, self.framework)[0].message,
        )
        self.assertEqual({}, self.bench.state.offers)

    def test_launch_with_an_operation_id_is_refused(self) -> None:
        call = accept(self.offer, task(self.offer, "t"))
        call.accept.operations[0].id.value = "op"
        effects = self.bench.receive(self.framework, call)
        self.assertEqual(
            "The `id` field cannot be set on LAUNCH operations",
            statuses(effects, self.framework)[0].message,
        )

    def test_malformed_resource_fails_all_tasks_of_its_operation_and_no_other(self) -> None:
        call = accept(self.offer, task(self.offer, "a"), task(self.offer, "b"))
        call.accept.operations[0].launch.task_infos[1].resources[0].scalar.value = -1
        other = accept(self.offer, task(self.offer, "c")).accept.operations
        call.accept.operations.extend(other)
        effects = self.bench.receive(self.framework, call)
        self.assertEqual([("a", "TASK_ERROR"), ("b", "TASK_ERROR")], told(effects, self.framework))
        for _, reason, _, message in self._refused(effects):
            self.assertEqual("REASON_TASK_INVALID", reason)
            self.assertIn("Invalid scalar resource: value <= 0", message)
        (sent_on,) = sent(effects, self.agent, "RunTaskMessage")
        self.assertEqual("c", sent_on.task.task_id.value)

    def test_operation_without_its_part_is_an_error_that_names_it(self) -> None:
        call = accept(self.offer)
        for kind in (Offer.Operation.RESERVE, Offer.Operation.UNKNOWN):
            call.accept.operations.add(type=kind, id={"value": "op"})
        told = events(self.bench.receive(self.framework, call), self.framework)
        self.assertEqual(
            [
                "A RESERVE offer operation must have the Offer.Operation.reserve field set.",
                "Unknown offer operation",
            ],
            [event.update_operation_status.status.message for event in told],
        )

    def test_operation_that_cannot_be_done_is_an_operation_error(self) -> None:
        call = accept(self.offer)
        operation = call.accept.operations.add()
        operation.type = Offer.Operation.RESERVE
        operation.id.value = "op"
        operation.reserve.resources.extend(resources("cpus:1"))
        effects = self.bench.receive(self.framework, call)
        (event,) = events(effects, self.framework)
        self.assertEqual(Event.UPDATE_OPERATION_STATUS, event.type)
        status = event.update_operation_status.status
        self.assertEqual(("op", OPERATION_ERROR), (status.operation_id.value, status.state))
        self.assertFalse(status.HasField("uuid"))

    def test_operation_without_id_is_dropped_in_silence(self) -> None:
        call = accept(self.offer)
        operation = call.accept.operations.add()
        operation.type = Offer.Operation.RESERVE
        operation.reserve.resources.extend(resources("cpus:1"))
        self.assertEqual([], self.bench.receive(self.framework, call))

    def test_second_task_of_an_executor_does_not_launch_it(self) -> None:
        info = executor("e")
        first = task(self.offer, "a", executor=info)
        effects = self.bench.launch(
            self.framework, self.offer, first, task(self.offer, "b", executor=info)
        )
        messages = sent(effects, self.agent, "RunTaskMessage")
        self.assertEqual([True, False], [message.launch_executor for message in messages])
        self.assertEqual(
            [self.framework_id] * 2,
            [message.task.executor.framework_id.value for message in messages],
        )
        agent = self.bench.state.agents[self.agent_id]
        used = agent.used()[self.bench.state.frameworks[messages[0].framework.id.value].id]
        self.assertEqual("cpus:2.1; mem:160", str(used["*"]))

    def test_offer_names_the_executors_that_are_there(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "a", executor=executor("e")))
        self.bench.receive(self.agent, update(self.offer, "a", "TASK_FINISHED", executor_id="e"))
        self.bench.run_until(self.bench.now + 6)
        (offer,) = self.bench.state.offers.values()
        self.assertEqual(["e"], list(offer.agent.executors[offer.framework_id]))

    def test_incompatible_executor_is_refused(self) -> None:
        self.bench.launch(self.framework, self.offer, task(self.offer, "a", executor=executor("e")))
        self.bench.run_until(self.bench.now + 6)
        (offer,) = self.bench.state.offers
        other = executor("e", amounts="cpus:0.2;mem:32")
        call = accept(self.offer, task(self.offer, "b", executor=other))
        call.accept.offer_ids[0].value = offer
        effects = self.bench.receive(self.framework, call)
        self.assertIn(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID",
            statuses(effects, self.framework)[0].message,
        )


class Groups(SynchronousTestCase):
    """LAUNCH_GROUP."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register(resources="cpus:4;mem:2048;disk:1000")
        self.framework, self.framework_id = self.bench.subscribe(AWARE)
        self.offer = self.bench.offer(self.framework)
        self.executor = executor("e", self.framework_id, "cpus:0.1;mem:32;disk:10")
        self.executor.type = ExecutorInfo.DEFAULT
        self.executor.ClearField("command")

    def test_group_goes_to_the_agent_whole(self) -> None:
        call = group(self.offer, self.executor, task(self.offer, "a"), task(self.offer, "b"))
        effects = self.bench.receive(self.framework, call)
        (message,) = sent(effects, self.agent)
        self.assertIsInstance(message, RunTaskGroupMessage)
        self.assertTrue(message.launch_executor)
        self.assertEqual(["a", "b"], [one.task_id.value for one in message.task_group.tasks])
        for one in message.task_group.tasks:
            self.assertEqual("e", one.executor.executor_id.value)
            self.assertEqual("*", one.resources[0].allocation_info.role)
        self.assertEqual("*", message.executor.resources[0].allocation_info.role)
        used = self.bench.state.agents[self.agent_id].used()
        self.assertEqual("cpus:2.1; mem:160; disk:10", str(used[message.framework.id.value]["*"]))

    def test_malformed_resource_of_the_executor_refuses_the_group(self) -> None:
        self.executor.resources[0].name = ""
        call = group(self.offer, self.executor, task(self.offer, "a"))
        (status,) = statuses(self.bench.receive(self.framework, call), self.framework)
        self.assertEqual(TaskStatus.REASON_TASK_GROUP_INVALID, status.reason)
        self.assertIn("Empty resource name", status.message)

    def test_one_bad_task_refuses_the_group(self) -> None:
        call = group(
            self.offer, self.executor, task(self.offer, "a"), task(self.offer, "b", "cpus:9;mem:1")
        )
        effects = self.bench.receive(self.framework, call)
        self.assertEqual([], sent(effects, self.agent))
        self.assertEqual([("a", "TASK_ERROR"), ("b", "TASK_ERROR")], told(effects, self.framework))
        self.assertEqual(
            {"REASON_TASK_GROUP_INVALID"},
            {TaskStatus.Reason.Name(status.reason) for status in statuses(effects, self.framework)},
        )
        self.assertEqual({}, self.bench.state.agents[self.agent_id].tasks)


class Roles(SynchronousTestCase):
    """Frameworks of one role and of several, and how resources are written for them."""

    def test_multi_role_framework_is_told_the_role(self) -> None:
        bench = Bench()
        bench.register()
        framework, _ = bench.subscribe(MULTI_ROLE, REFINEMENT, roles=["a", "b"], suppressed=["b"])
        offer = bench.offer(framework)
        self.assertEqual("a", offer.allocation_info.role)
        self.assertEqual({"a"}, {one.allocation_info.role for one in offer.resources})
        self.assertFalse(any(one.HasField("role") for one in offer.resources))

    def test_plain_framework_is_not(self) -> None:
        bench = Bench()
        bench.register()
        framework, _ = bench.subscribe(role="a")
        offer = bench.offer(framework)
        self.assertFalse(offer.HasField("allocation_info"))
        self.assertFalse(any(one.HasField("allocation_info") for one in offer.resources))
        self.assertEqual({"*"}, {one.role for one in offer.resources})

    def test_task_in_another_role_than_the_offer_is_refused(self) -> None:
        bench = Bench()
        bench.register()
        framework, _ = bench.subscribe(MULTI_ROLE, roles=["a"])
        offer = bench.offer(framework)
        info = task(offer, "t")
        for one in info.resources:
            one.allocation_info.role = "b"
        effects = bench.launch(framework, offer, info)
        self.assertEqual([("t", "TASK_ERROR")], told(effects, framework))

    def test_role_is_filled_in_for_the_agent(self) -> None:
        bench = Bench()
        agent, _ = bench.register()
        framework, _ = bench.subscribe(MULTI_ROLE, roles=["a"])
        offer = bench.offer(framework)
        (message,) = sent(bench.launch(framework, offer, task(offer, "t")), agent)
        self.assertEqual({"a"}, {one.allocation_info.role for one in message.task.resources})


class Calls(SynchronousTestCase):
    """What is refused before anybody is asked."""

    def test_every_call_is_answered(self) -> None:
        bench = Bench()
        bench.register()
        framework, framework_id = bench.subscribe()
        offer = bench.offer(framework)
        self.assertEqual((202, ""), bench.call(framework, accept(offer, task(offer, "t"))))
        for kind in (Call.REVIVE, Call.SUPPRESS, Call.TEARDOWN):
            self.assertEqual((202, ""), bench.call(framework, scheduler_call(kind, framework_id)))

    def test_call_that_lacks_its_part(self) -> None:
        bench = Bench()
        framework, framework_id = bench.subscribe()
        self.assertEqual(
            (400, "Failed to validate scheduler::Call: Expecting 'accept' to be present"),
            bench.call(framework, scheduler_call(Call.ACCEPT, framework_id)),
        )

    def test_unknown_framework(self) -> None:
        bench = Bench()
        framework, _ = bench.subscribe()
        self.assertEqual(
            (400, "Framework cannot be found"),
            bench.call(framework, scheduler_call(Call.REVIVE, "nobody")),
        )

    def test_disconnected_framework(self) -> None:
        bench = Bench()
        first, framework_id = bench.subscribe(failover_timeout=100)
        bench.lose(first)
        second, _ = bench.subscribe()
        self.assertEqual(
            (403, "Framework is not subscribed"),
            bench.call(second, scheduler_call(Call.REVIVE, framework_id)),
        )

    def test_somebody_elses_framework(self) -> None:
        bench = Bench()
        _, framework_id = bench.subscribe()
        second, _ = bench.subscribe()
        self.assertEqual(
            (409, "Call is not from registered framework"),
            bench.call(second, scheduler_call(Call.REVIVE, framework_id)),
        )

    def test_message_that_frameworks_do_not_send(self) -> None:
        bench = Bench()
        framework, _ = bench.subscribe()
        self.assertEqual(
            (400, "A master takes no mesos.internal.PingSlaveMessage from frameworks"),
            bench.call(framework, PingSlaveMessage(connected=True)),
        )
