"""Custom executors at the agent's door."""

from typing import Any

from mesoskit.agent.container import ContainerExited, ContainerFailed, ContainerStarted, Destroy
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import TaskInfo, TaskStatus
from mesoskit.model.events import Answer, Connected, Drop, Lost, PeerKind, Send, Store
from mesoskit.model.ids import ContainerId, PeerId
from tests.agent.bench import (
    AGENT_ID,
    AWARE,
    FRAMEWORK_ID,
    OWN_RECORDS,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase

DOOR = PeerId(10)
RUNNING, FINISHED, STARTING, STAGING = 1, 2, 0, 6


class ExecutorTestCase(SynchronousTestCase):
    """An agent with one task for a custom executor."""

    def setUp(self) -> None:
        self.bench = Bench().register()

    def task(self, task_id: str = "t") -> TaskInfo:
        return task(task_id, executor=custom_executor())

    def launched(self) -> Bench:
        self.bench.run(self.task(), launch=True)
        return self.bench

    def running(self) -> Bench:
        bench = self.launched()
        bench.subscribe()
        bench.update(DOOR, RUNNING)
        bench.acknowledge()
        bench.clear()
        return bench

    @property
    def container(self) -> ContainerId:
        (spec,) = (
            one.container
            for one in self.bench.state.frameworks[FRAMEWORK_ID].executors.values()  # type: ignore[index]
        )
        return spec

    def exited(self) -> list[int]:
        return [
            one.status for one in self.bench.sent if isinstance(one, internal.ExitedExecutorMessage)
        ]


class LaunchTests(ExecutorTestCase):
    """From the first task to the subscription."""

    def test_executor_is_launched_once_and_tasks_wait(self) -> None:
        bench = self.launched()
        bench.run(self.task("u"), launch=False)
        (spec,) = bench.launched()
        self.assertEqual(bench.updates(), [])
        environment = dict(spec.environment)
        self.assertEqual(environment["MESOSKIT_EXECUTOR_SOCKET"], "/r/door/socket")
        self.assertEqual(len(environment["MESOSKIT_EXECUTOR_TOKEN"]), 32)
        self.assertEqual(environment["MESOS_EXECUTOR_ID"], "e")
        self.assertNotIn("MESOS_ALLOCATION_ROLE", environment)
        bench.subscribe()
        self.assertEqual(bench.heard(), ["SUBSCRIBED", "LAUNCH", "LAUNCH"])

    def test_subscribed_says_who_and_where(self) -> None:
        bench = self.launched()
        bench.subscribe()
        event = bench.told[0][1].subscribed
        self.assertEqual(event.executor_info.framework_id.value, FRAMEWORK_ID)
        self.assertEqual(event.framework_info.name, "test")
        self.assertEqual(event.agent_info.id.value, AGENT_ID)
        self.assertEqual(event.container_id.value, self.container)
        self.assertEqual(bench.told[1][1].launch.task.task_id.value, "t")

    def test_link_with_a_wrong_token_is_dropped(self) -> None:
        bench = self.launched()
        (drop,) = bench.give(Connected(DOOR, PeerKind.EXECUTOR, "unix", token="wrong"))
        self.assertIsInstance(drop, Drop)
        self.assertEqual(bench.state.peers, {})

    def test_executor_that_does_not_subscribe_in_time_is_destroyed(self) -> None:
        bench = self.launched()
        bench.give(ContainerStarted(self.container, 5))
        bench.wait(59)
        self.assertEqual(len(bench.hands), 1)
        bench.wait(2)
        self.assertEqual(bench.hands[-1], Destroy(self.container))
        bench.give(ContainerExited(self.container, 9))
        status = bench.last()
        self.assertEqual(status.state, 3)
        self.assertEqual(status.reason, TaskStatus.REASON_EXECUTOR_REGISTRATION_TIMEOUT)
        self.assertEqual(status.message, "Executor did not register within 1mins")
        self.assertEqual(self.exited(), [9])

    def test_executor_that_cannot_be_started_fails_all_its_tasks(self) -> None:
        bench = self.launched()
        bench.run(self.task("u"), launch=False)
        bench.give(ContainerFailed(self.container, "launch", "no user 'alice'"))
        self.assertEqual(bench.updates(), [("t", "TASK_FAILED"), ("u", "TASK_FAILED")])
        self.assertEqual(bench.last().message, "Failed to launch container: no user 'alice'")
        self.assertEqual(bench.last().reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertEqual(self.exited(), [-1])

    def test_task_killed_before_the_executor_has_it(self) -> None:
        bench = self.launched()
        bench.run(self.task("u"), launch=False)
        bench.kill("t")
        self.assertEqual(bench.updates(), [("t", "TASK_KILLED")])
        status = bench.last()
        self.assertEqual(status.reason, TaskStatus.REASON_TASK_KILLED_DURING_LAUNCH)
        self.assertEqual(status.message, "Killed before delivery to the executor")
        bench.subscribe()
        self.assertEqual(bench.heard(), ["SUBSCRIBED", "LAUNCH"])

    def test_executor_whose_tasks_were_all_killed_before_is_shut_down(self) -> None:
        bench = self.launched()
        bench.kill("t")
        bench.subscribe()
        self.assertEqual(bench.heard(), ["SUBSCRIBED", "SHUTDOWN"])

    def test_master_that_wants_a_second_executor_of_the_same_id(self) -> None:
        bench = self.running()
        bench.run(self.task("u"), launch=True)
        self.assertEqual(bench.updates(), [("u", "TASK_LOST")])
        self.assertEqual(
            bench.last().message, "Master wants to launch executor, but one already exists"
        )
        self.assertEqual(bench.heard(), ["SHUTDOWN"])

    def test_group_goes_to_a_custom_executor_as_a_group(self) -> None:
        bench = self.bench
        bench.run_group(self.task("a"), self.task("b"), executor=custom_executor(), launch=True)
        bench.subscribe()
        event = bench.told[1][1]
        self.assertEqual(event.type, Event.LAUNCH_GROUP)
        names = [one.task_id.value for one in event.launch_group.task_group.tasks]
        self.assertEqual(names, ["a", "b"])


class UpdateTests(ExecutorTestCase):
    """What executors report."""

    def test_update_is_stored_then_answered_acknowledged_and_forwarded(self) -> None:
        bench = self.launched()
        bench.subscribe()
        bench.clear()
        uuid = bench.state.ids.bytes()
        message = Call(type=Call.UPDATE)
        message.update.status.state = RUNNING  # type: ignore[assignment]
        message.update.status.uuid = uuid
        message.update.status.source = TaskStatus.SOURCE_EXECUTOR
        message.update.status.task_id.value = "t"
        message.executor_id.value = "e"
        message.framework_id.value = FRAMEWORK_ID
        effects = bench.receive(message, DOOR, 5)
        self.assertEqual([type(one) for one in effects], [Store, Send, Send, Answer])
        forwarded, acknowledged = effects[1].message, effects[2].message
        status = forwarded.update.status
        self.assertEqual(status.agent_id.value, AGENT_ID)
        self.assertEqual(status.executor_id.value, "e")
        self.assertEqual(status.timestamp, bench.now)
        self.assertEqual(status.container_status.container_id.value, self.container)
        self.assertEqual(acknowledged.acknowledged.uuid, uuid)
        self.assertEqual(effects[3], Answer(DOOR, 5))

    def test_repeated_update_is_acknowledged_again_and_not_forwarded(self) -> None:
        bench = self.running()
        uuid = bench.update(DOOR, FINISHED)
        bench.clear()
        bench.update(DOOR, FINISHED, uuid=uuid)
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"])
        self.assertEqual(bench.updates(), [])

    def test_terminal_stays_terminal(self) -> None:
        bench = self.running()
        bench.update(DOOR, FINISHED)
        bench.update(DOOR, RUNNING)
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_FINISHED")])
        bench.update(DOOR, RUNNING)
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"] * 3)

    def test_running_may_be_said_again(self) -> None:
        bench = self.running()
        bench.update(DOOR, RUNNING, healthy=True)
        self.assertTrue(bench.last().healthy)

    def test_state_that_only_a_master_may_give_is_not_forwarded(self) -> None:
        bench = self.running()
        bench.update(DOOR, 10)
        self.assertEqual(bench.updates(), [])
        self.assertEqual(bench.state.metrics()["slave/invalid_status_updates"], 1)

    def refused(self, message: Call, status: int, why: str) -> None:
        self.bench.answers.clear()
        self.bench.call(DOOR, message)
        if status == 400:
            why = f"Failed to validate Executor::Call: {why}"
        self.assertEqual(self.bench.answers, [Answer(DOOR, 1, status, why)])

    def test_refusals_are_mesos_own(self) -> None:
        self.running()
        uuid = self.bench.state.ids.bytes()
        name = {"value": "t"}
        self.refused(Call(), 400, "Expecting 'type' to be present")
        self.refused(Call(type=Call.UPDATE), 400, "Expecting 'update' to be present")
        update = Call(type=Call.UPDATE, update={"status": {"state": 1, "task_id": name}})
        self.refused(update, 400, "Expecting 'uuid' to be present")
        update.update.status.uuid = b"short"
        self.refused(update, 400, "Not a valid UUID")
        update.update.status.uuid = uuid
        self.refused(
            update,
            400,
            f"Received Call from executor e of framework {FRAMEWORK_ID} with invalid source,"
            " expecting 'SOURCE_EXECUTOR'",
        )
        update.update.status.source = TaskStatus.SOURCE_EXECUTOR
        update.update.status.state = STAGING  # type: ignore[assignment]
        self.refused(
            update,
            400,
            f"Received TASK_STAGING from executor e of framework {FRAMEWORK_ID}"
            " which is not allowed",
        )
        self.refused(Call(type=Call.UNKNOWN), 501, "501 Not Implemented.")

    def test_update_of_a_task_that_the_executor_does_not_have_goes_no_further(self) -> None:
        bench = self.running()
        bench.update(DOOR, RUNNING, "unknown")
        self.assertEqual(bench.answers, [Answer(DOOR, 1)])
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"])
        self.assertEqual(bench.updates(), [])
        self.assertEqual(bench.state.metrics()["slave/invalid_status_updates"], 1)

    def test_call_before_subscribing_is_refused(self) -> None:
        bench = self.launched()
        executor = bench.state.frameworks[FRAMEWORK_ID].executors["e"]  # type: ignore[index]
        bench.give(Connected(DOOR, PeerKind.EXECUTOR, "unix", token=executor.token))
        message = Call(type=Call.MESSAGE, message={"data": b"up"})
        self.refused(message, 403, "Executor is not subscribed")

    def test_heartbeat_is_taken_from_anybody(self) -> None:
        bench = self.running()
        bench.give(Connected(PeerId(12), PeerKind.EXECUTOR, "http"))
        bench.call(PeerId(12), Call(type=Call.HEARTBEAT), "nobody")
        self.assertEqual(bench.answers, [Answer(PeerId(12), 1)])

    def test_messages_go_both_ways(self) -> None:
        bench = self.running()
        bench.call(DOOR, Call(type=Call.MESSAGE, message={"data": b"up"}))
        (message,) = bench.sent
        self.assertIsInstance(message, internal.ExecutorToFrameworkMessage)
        self.assertEqual((message.data, message.executor_id.value), (b"up", "e"))
        down = internal.FrameworkToExecutorMessage(data=b"down")
        down.slave_id.value = AGENT_ID
        down.framework_id.value = FRAMEWORK_ID
        down.executor_id.value = "e"
        bench.receive(down)
        self.assertEqual(bench.told[-1][1].message.data, b"down")


class LinkTests(ExecutorTestCase):
    """Links that break."""

    def test_executor_comes_back_with_what_was_not_acknowledged(self) -> None:
        bench = self.running()
        bench.give(Lost(DOOR))
        bench.kill()
        self.assertEqual(bench.heard(), [])
        status = {"task_id": {"value": "t"}, "state": FINISHED, "source": 2}
        update = {"status": {**status, "uuid": bench.state.ids.bytes()}}
        bench.subscribe(11, unacknowledged_updates=[update])
        self.assertEqual(bench.heard(11), ["SUBSCRIBED", "ACKNOWLEDGED"])
        self.assertEqual(bench.updates(), [("t", "TASK_FINISHED")])
        bench.wait(100)
        self.assertEqual(bench.hands, [])

    def test_kill_that_could_not_be_sent_is_sent_when_the_executor_is_back(self) -> None:
        bench = self.running()
        bench.give(Lost(DOOR))
        bench.kill()
        bench.subscribe(11)
        self.assertEqual(bench.heard(11), ["SUBSCRIBED", "KILL"])

    def test_task_that_got_lost_on_the_way_is_dropped(self) -> None:
        bench = self.bench
        bench.run(self.task(), info=framework(AWARE), launch=True)
        bench.subscribe()
        bench.give(Lost(DOOR))
        bench.subscribe(11)
        self.assertEqual(bench.updates(), [("t", "TASK_DROPPED")])
        self.assertEqual(bench.last().reason, TaskStatus.REASON_AGENT_RESTARTED)

    def test_task_that_the_executor_knows_is_kept(self) -> None:
        bench = self.launched()
        bench.subscribe()
        bench.give(Lost(DOOR))
        bench.subscribe(11, unacknowledged_tasks=[self.task()])
        self.assertEqual(bench.updates(), [])

    def test_executor_that_does_not_come_back_is_destroyed(self) -> None:
        bench = self.running()
        bench.give(Lost(DOOR))
        bench.wait(61)
        self.assertEqual(bench.hands, [Destroy(self.container)])
        bench.give(ContainerExited(self.container, 9))
        self.assertEqual(bench.updates(), [("t", "TASK_LOST")])
        self.assertEqual(bench.last().reason, TaskStatus.REASON_EXECUTOR_REREGISTRATION_TIMEOUT)

    def test_second_link_takes_the_place_of_the_first(self) -> None:
        bench = self.running()
        bench.subscribe(11)
        self.assertEqual([one.peer for one in bench.dropped], [DOOR])
        bench.give(Lost(DOOR))
        bench.kill()
        self.assertEqual(bench.heard(11)[-1], "KILL")


class WithoutTokenTests(ExecutorTestCase):
    """Executors that show no token are who their calls say they are."""

    def call(self, peer: int, message: Call, executor_id: str = "e") -> Answer:
        """Make a call over a link of its own; return the answer."""
        self.bench.answers.clear()
        self.bench.give(Connected(PeerId(peer), PeerKind.EXECUTOR, "http"))
        self.bench.call(PeerId(peer), message, executor_id)
        (answer,) = self.bench.answers
        return answer

    def subscribe(self, peer: int, **fields: Any) -> Answer:
        return self.call(peer, Call(type=Call.SUBSCRIBE, subscribe=fields))

    def test_subscribes_and_is_given_its_tasks(self) -> None:
        bench = self.launched()
        self.assertEqual(self.subscribe(20), Answer(PeerId(20), 1))
        self.assertEqual(bench.heard(20), ["SUBSCRIBED", "LAUNCH"])
        bench.give(Lost(PeerId(20)))
        self.assertEqual(bench.state.peers, {})

    def test_nobody_else_is_found(self) -> None:
        bench = self.launched()
        found = self.call(20, Call(type=Call.SUBSCRIBE, subscribe={}), "other")
        self.assertEqual((found.status, found.why), (400, "Executor cannot be found"))
        message = Call(type=Call.SUBSCRIBE, subscribe={})
        message.executor_id.value = "e"
        message.framework_id.value = "other"
        bench.answers.clear()
        bench.receive(message, PeerId(20), 2)
        (answer,) = bench.answers
        self.assertEqual((answer.status, answer.why), (400, "Framework cannot be found"))

    def test_executor_that_the_agent_plays_is_not_found(self) -> None:
        self.bench.run(task("command"))
        answer = self.call(20, Call(type=Call.SUBSCRIBE, subscribe={}), "command")
        self.assertEqual(answer.why, "Executor cannot be found")

    def test_call_before_subscribing_is_refused(self) -> None:
        self.launched()
        answer = self.call(20, Call(type=Call.MESSAGE, message={"data": b"x"}))
        self.assertEqual((answer.status, answer.why), (403, "Executor is not subscribed"))

    def test_second_subscription_takes_the_place_of_the_first(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        self.subscribe(21, unacknowledged_tasks=[self.task()])
        self.assertEqual([one.peer for one in bench.dropped], [PeerId(20)])
        self.assertEqual(bench.heard(21), ["SUBSCRIBED"])
        self.assertEqual(list(bench.state.peers), [PeerId(21)])

    def test_update_over_another_link_is_acknowledged_on_the_stream(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        bench.give(Connected(PeerId(21), PeerKind.EXECUTOR, "http"))
        bench.update(PeerId(21), RUNNING)
        self.assertEqual(bench.heard(20)[-1], "ACKNOWLEDGED")
        self.assertEqual(bench.updates(), [("t", "TASK_RUNNING")])

    def test_update_while_the_stream_is_broken_is_taken_once(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        bench.give(Lost(PeerId(20)))
        bench.give(Connected(PeerId(21), PeerKind.EXECUTOR, "http"))
        uuid = bench.update(PeerId(21), RUNNING)
        self.assertEqual(bench.answers[-1], Answer(PeerId(21), 1))
        self.assertEqual(bench.updates(), [("t", "TASK_RUNNING")])
        status = {"task_id": {"value": "t"}, "state": RUNNING, "source": 2, "uuid": uuid}
        self.subscribe(22, unacknowledged_updates=[{"status": status}])
        self.assertEqual(bench.heard(22), ["SUBSCRIBED", "ACKNOWLEDGED"])
        self.assertEqual(bench.updates(), [("t", "TASK_RUNNING")])

    def test_executor_that_has_shown_its_token_is_not_believed_without(self) -> None:
        bench = self.running()
        for message in (
            Call(type=Call.SUBSCRIBE, subscribe={}),
            Call(type=Call.MESSAGE, message={"data": b"x"}),
        ):
            self.assertEqual(self.call(20, message).status, 403)
        self.assertEqual(bench.heard(20), [])
        bench.give(Lost(DOOR))
        self.assertEqual(self.subscribe(21).status, 403)

    def test_token_wins_over_whoever_came_without(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        bench.subscribe(unacknowledged_tasks=[self.task()])
        self.assertEqual([one.peer for one in bench.dropped], [PeerId(20)])
        self.assertEqual(bench.heard(), ["SUBSCRIBED"])

    def test_who_speaks_for_an_executor_speaks_for_no_other(self) -> None:
        bench = self.launched()
        bench.run(task("u", executor=custom_executor("f")), launch=True)
        self.subscribe(20)
        bench.answers.clear()
        bench.call(PeerId(20), Call(type=Call.SUBSCRIBE, subscribe={}), "f")
        self.assertEqual(bench.answers[0].why, "Executor cannot be found")

    def test_executor_that_is_ending_is_told_to_shut_down(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        bench.update(PeerId(20), RUNNING)
        bench.receive(internal.ShutdownMessage())
        bench.give(Lost(PeerId(20)))
        self.assertEqual(self.subscribe(21).status, 202)
        self.assertEqual(bench.heard(21), ["SHUTDOWN"])

    def test_child_of_an_executor_that_has_ended_is_told_to_shut_down(self) -> None:
        bench = self.launched()
        self.subscribe(20)
        bench.update(PeerId(20), RUNNING)
        bench.give(ContainerExited(self.container, 0))
        bench.give(Connected(PeerId(21), PeerKind.EXECUTOR, "http"))
        bench.call(PeerId(21), Call(type=Call.SUBSCRIBE, subscribe={}))
        self.assertEqual(bench.heard(21), ["SHUTDOWN"])
        self.assertEqual(bench.dropped[-1].peer, PeerId(21))
        self.assertEqual(bench.state.peers, {})


class EndTests(ExecutorTestCase):
    """How executors end."""

    def test_executor_that_ends_fails_its_live_tasks(self) -> None:
        bench = self.running()
        bench.run(self.task("u"), launch=False)
        bench.give(ContainerExited(self.container, 256))
        self.assertEqual(bench.updates(), [("t", "TASK_FAILED"), ("u", "TASK_FAILED")])
        status = bench.last()
        self.assertEqual(status.source, TaskStatus.SOURCE_AGENT)
        self.assertEqual(status.reason, TaskStatus.REASON_EXECUTOR_TERMINATED)
        self.assertEqual(status.message, "Executor terminated")
        self.assertEqual(self.exited(), [256])
        self.assertEqual([one.peer for one in bench.dropped], [DOOR])
        bench.acknowledge()
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_kill_goes_to_the_executor_with_its_policy(self) -> None:
        bench = self.running()
        bench.kill(grace=2)
        (_, event) = bench.told[-1]
        self.assertEqual(event.kill.task_id.value, "t")
        self.assertEqual(event.kill.kill_policy.grace_period.nanoseconds, 2_000_000_000)

    def shutdown(self) -> None:
        message = internal.ShutdownExecutorMessage()
        message.framework_id.value = FRAMEWORK_ID
        message.executor_id.value = "e"
        self.bench.receive(message)

    def test_shutdown_and_after_the_grace_period_destruction(self) -> None:
        bench = self.running()
        self.shutdown()
        self.assertEqual(bench.heard(), ["SHUTDOWN"])
        bench.wait(4.9)
        self.assertEqual(bench.hands, [])
        bench.wait(0.2)
        self.assertEqual(bench.hands, [Destroy(self.container)])

    def test_executor_that_is_shutting_down_takes_no_tasks(self) -> None:
        bench = self.running()
        self.shutdown()
        bench.run(self.task("u"), launch=False)
        self.assertEqual(bench.updates(), [("u", "TASK_LOST")])
        self.assertEqual(bench.last().message, "Executor terminating")

    def test_framework_that_is_shut_down_is_told_nothing_more(self) -> None:
        bench = self.running()
        bench.run(task("command"))
        bench.start("command")
        message = internal.ShutdownFrameworkMessage()
        message.framework_id.value = FRAMEWORK_ID
        bench.clear()
        bench.receive(message)
        bench.update(DOOR, FINISHED)
        bench.give(ContainerExited(self.bench.container_of(), 0))
        bench.exit("command", 15)
        bench.wait(100)
        self.assertEqual(bench.updates(), [])
        self.assertEqual(bench.state.frameworks, {})
        self.assertEqual(bench.records(), OWN_RECORDS)
