"""An agent that starts again while its tasks run: the policy C{reconnect}."""

from __future__ import annotations

from signal import SIGTERM
from typing import Any

from mesoskit.agent.container import (
    ContainerFailed,
    Destroy,
    Forget,
    Signal,
)
from mesoskit.agent.phase import Phase
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call
from mesoskit.messages.mesos_pb2 import TaskState, TaskStatus
from mesoskit.model.events import Connected, PeerKind, Recovered
from mesoskit.model.ids import ContainerId, PeerId
from tests.agent.bench import (
    AWARE,
    FRAMEWORK_ID,
    KILLING,
    OWN_RECORDS,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.agent.restarts import ReconnectTestCase, keeping
from tests.agent.test_failures import FullDisk


class CommandTests(ReconnectTestCase):
    """Tasks that the agent plays itself."""

    def running(self, *capabilities: int, name: str = "t", **fields: Any) -> Bench:
        bench = self.before()
        bench.run(task(name, **fields), info=keeping(*capabilities))
        bench.start(name)
        bench.acknowledge()
        return bench

    def test_task_that_runs_runs_on_and_nobody_hears_anything(self) -> None:
        bench = self.running()
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        self.assertEqual(after.hands, [])
        self.assertEqual(self.reported(after), {"t": "TASK_RUNNING"})
        self.accept(after)
        self.assertEqual(after.updates(), [])
        after.exit(status=0)
        self.assertEqual(after.updates(), [("t", "TASK_FINISHED")])
        self.assertEqual(after.last().container_status.executor_pid, 77)
        after.acknowledge()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_what_was_said_of_a_task_is_known_though_it_was_acknowledged(self) -> None:
        bench = self.running()
        (task,) = self.again(bench, {bench.container_of(): 77}).sent[0].tasks
        states = [TaskState.Name(one.state) for one in task.statuses]
        self.assertEqual(states, ["TASK_STARTING", "TASK_RUNNING"])
        self.assertEqual(task.statuses[1].container_status.executor_pid, 77)

    def test_task_that_ended_meanwhile_is_reported_as_it_ended(self) -> None:
        for status, state, message in (
            (0, "TASK_FINISHED", "Command exited with status 0"),
            (256, "TASK_FAILED", "Command exited with status 1"),
            (None, "TASK_FAILED", "Failed to get exit status for Command"),
        ):
            bench = self.running()
            container = bench.container_of()
            after = self.again(bench, {}, {container: status})
            self.assertEqual(after.hands, [Forget(container)])
            self.accept(after)
            self.assertEqual(after.updates(), [("t", state)])
            self.assertEqual(after.last().message, message)

    def test_end_that_was_stored_is_not_told_twice(self) -> None:
        bench = self.running()
        container = bench.container_of()
        bench.exit(status=256)
        uuid = bench.last().uuid
        after = self.again(bench, {}, {container: 256})
        self.assertEqual(after.hands, [Forget(container)])
        self.accept(after)
        after.acknowledge()
        self.assertEqual(after.updates(), [("t", "TASK_FAILED")])
        self.assertEqual(after.last().uuid, uuid)
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_task_that_had_started_unseen_is_reported_as_running(self) -> None:
        bench = self.before()
        bench.run(task(), info=keeping())
        bench.acknowledge()
        after = self.again(bench, {bench.container_of(): 77})
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_RUNNING")])

    def test_task_that_was_never_launched_is_dropped(self) -> None:
        for fetches in (False, True):
            bench = self.before()
            info = task()
            if fetches:
                info.command.uris.add(value="file:///x")
            bench.run(info, info=keeping())
            bench.acknowledge()
            after = self.again(bench)
            self.accept(after)
            self.assertEqual(after.updates(), [("t", "TASK_DROPPED")])
            self.assertEqual(after.last().reason, TaskStatus.REASON_AGENT_RESTARTED)
            self.assertEqual(after.last().message, "Task launched during agent restart")

    def test_task_whose_container_nobody_knows_any_more_is_gone(self) -> None:
        after = self.again(self.running())
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])

    def test_kill_goes_on(self) -> None:
        bench = self.running(KILLING)
        bench.kill(grace=20.0)
        bench.acknowledge()
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        self.assertEqual(after.hands, [Signal(container, SIGTERM)])
        self.assertEqual(self.reported(after), {"t": "TASK_KILLING"})
        self.accept(after)
        after.wait(14)
        self.assertEqual(after.hands[1:], [])
        after.wait(2)
        self.assertEqual(after.hands[1:], [Destroy(container)])
        after.exit(status=9)
        self.assertEqual(after.updates(), [("t", "TASK_KILLED")])
        after.acknowledge()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_clock_that_was_set_back_makes_no_kill_longer(self) -> None:
        bench = self.running()
        bench.kill(grace=20.0)
        container = bench.container_of()
        bench.now -= 3600
        after = self.again(bench, {container: 77})
        after.wait(20.1)
        self.assertEqual(after.hands, [Signal(container, SIGTERM), Destroy(container)])

    def test_time_that_a_task_has_for_its_end_is_kept(self) -> None:
        bench = self.running(kill_policy={"grace_period": {"nanoseconds": 30 * 10**9}})
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        self.accept(after)
        message = internal.ShutdownFrameworkMessage()
        message.framework_id.value = FRAMEWORK_ID
        after.receive(message)
        after.wait(29.9)
        self.assertEqual(after.hands, [Signal(container, SIGTERM)])
        after.wait(0.2)
        self.assertEqual(after.hands[1:], [Destroy(container)])

    def test_task_that_was_killed_meanwhile_was_killed(self) -> None:
        bench = self.running()
        bench.kill()
        after = self.again(bench, {}, {bench.container_of(): int(SIGTERM)})
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_KILLED")])

    def test_kill_before_the_launch_is_remembered(self) -> None:
        bench = self.before()
        bench.run(task(), info=keeping())
        bench.acknowledge()
        container = bench.container_of()
        bench.kill()
        for running, exited in (({}, {}), ({}, {container: 9}), ({container: 7}, {})):
            after = self.again(bench, running, exited)
            self.accept(after)
            if running:
                after.exit(status=15)
            self.assertEqual(after.updates(), [("t", "TASK_KILLED")])

    def test_shorter_grace_of_a_second_kill_is_remembered(self) -> None:
        bench = self.running()
        bench.kill(grace=1000.0)
        bench.kill(grace=1.0)
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        after.wait(0.1)
        self.assertEqual(after.hands, [Signal(container, SIGTERM), Destroy(container)])

    def test_time_of_a_task_goes_on(self) -> None:
        bench = self.running(max_completion_time={"nanoseconds": 60 * 10**9})
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        after.wait(54)
        self.assertEqual(after.hands, [])
        after.wait(2)
        self.assertEqual(after.hands, [Signal(container, SIGTERM), Destroy(container)])
        last = self.again(after, {}, {container: 15})
        self.accept(last)
        self.assertEqual(last.updates(), [("t", "TASK_FAILED")])
        self.assertEqual(last.last().reason, TaskStatus.REASON_MAX_COMPLETION_TIME_REACHED)

    def test_task_that_waited_too_long_for_an_agent_is_gone(self) -> None:
        for ended in (False, True):
            bench = self.running()
            container = bench.container_of()
            running = {} if ended else {container: 77}
            exited: dict[str, int | None] = {container: 15} if ended else {}
            after = self.again(bench, running, exited, (container,))
            self.accept(after)
            if not ended:
                self.assertEqual(after.updates(), [])
                after.exit(status=15)
            self.assertEqual(after.updates(), [("t", "TASK_GONE")])
            self.assertIn("No agent was there", after.last().message)

    def test_containers_are_given_the_time_that_they_may_outlive_the_agent(self) -> None:
        for checkpoint, patience in ((True, 900.0), (False, 0.0)):
            bench = self.before()
            bench.run(task(), info=framework(checkpoint=checkpoint))
            (spec,) = bench.launched()
            self.assertEqual(spec.patience, patience)

    def test_framework_that_does_not_checkpoint_keeps_nothing(self) -> None:
        bench = self.before()
        bench.run(task(), info=framework(AWARE))
        bench.start()
        bench.acknowledge()
        container = bench.container_of()
        after = self.again(bench, {container: 77})
        self.assertEqual(after.hands, [Destroy(container)])
        self.accept(after)
        after.exit(status=9)
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])

    def test_policy_cleanup_ends_what_reconnect_would_keep(self) -> None:
        bench = self.running()
        container = bench.container_of()
        after = self.again(bench, {container: 77}, recover="cleanup")
        self.assertEqual(after.hands, [Destroy(container)])

    def test_container_that_no_record_knows_is_destroyed(self) -> None:
        bench = self.running()
        after = self.again(bench, {bench.container_of(): 77, "stranger": 5})
        self.assertEqual(after.hands, [Destroy(ContainerId("stranger"))])

    def test_updates_that_were_not_acknowledged_are_sent_again(self) -> None:
        bench = self.before()
        bench.run(task(), info=keeping())
        bench.start()
        first = bench.sent[-1].update.uuid
        after = self.again(bench, {bench.container_of(): 77})
        self.accept(after)
        self.assertEqual(after.sent[-1].update.uuid, first)
        self.assertEqual(after.sent[-1].update.latest_state, TaskState.TASK_RUNNING)
        after.acknowledge()
        self.assertEqual(after.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING")])


class GroupTests(ReconnectTestCase):
    """Groups of tasks."""

    def group(self, *started: str) -> Bench:
        bench = self.before()
        bench.run_group(task("one"), task("two"), info=keeping())
        for name in started:
            bench.start(name)
        bench.acknowledge()
        return bench

    def both(self, bench: Bench) -> tuple[ContainerId, ContainerId]:
        return bench.container_of("one"), bench.container_of("two")

    def test_group_that_runs_runs_on_and_ends_together(self) -> None:
        bench = self.group("one", "two")
        one, two = self.both(bench)
        after = self.again(bench, {one: 7, two: 8})
        self.assertEqual(after.hands, [])
        self.accept(after)
        after.exit("one", 256)
        self.assertIn(Signal(two, SIGTERM), after.hands)
        after.exit("two", 15)
        after.acknowledge()
        self.assertEqual(
            sorted(set(after.updates())), [("one", "TASK_FAILED"), ("two", "TASK_KILLED")]
        )
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_failure_that_nobody_saw_takes_the_others_along(self) -> None:
        bench = self.group("one", "two")
        one, two = self.both(bench)
        after = self.again(bench, {two: 8}, {one: 256})
        self.assertEqual(after.hands, [Signal(two, SIGTERM), Forget(one)])
        last = self.again(after, {}, {two: 15})
        self.accept(last)
        last.acknowledge()
        self.assertEqual(
            sorted(set(last.updates())), [("one", "TASK_FAILED"), ("two", "TASK_KILLED")]
        )

    def test_group_that_came_to_run_unseen_runs(self) -> None:
        bench = self.group("one")
        one, two = self.both(bench)
        for running, exited in (({one: 7, two: 8}, {}), ({one: 7}, {two: 0})):
            after = self.again(bench, running, exited)
            self.accept(after)
            after.acknowledge()
            expected = {("one", "TASK_RUNNING"), ("two", "TASK_RUNNING")}
            ends = {("two", "TASK_FINISHED")} if exited else set()
            self.assertEqual(set(after.updates()), expected | ends)

    def test_group_of_which_some_never_came_to_be_is_given_up(self) -> None:
        bench = self.group("one")
        one, _ = self.both(bench)
        after = self.again(bench, {one: 7})
        self.assertIn(Destroy(one), after.hands)
        self.accept(after)
        after.exit("one", 9)
        after.acknowledge()
        self.assertEqual(set(after.updates()), {("one", "TASK_KILLED"), ("two", "TASK_DROPPED")})
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_group_of_which_nothing_came_to_be_was_never_launched(self) -> None:
        bench = self.group()
        for boot, end, why in (
            ("boot-1", "TASK_DROPPED", "Task launched during agent restart"),
            ("boot-2", "TASK_GONE", "The machine restarted, and the task ended with it"),
        ):
            after = self.again(bench, boot_id=boot)
            self.accept(after)
            after.acknowledge()
            self.assertEqual(set(after.updates()), {("one", end), ("two", end)})
            self.assertEqual(after.last().message, why)
            self.assertEqual(after.last().reason, TaskStatus.REASON_AGENT_RESTARTED)
            self.assertEqual(after.records(), OWN_RECORDS)

    def test_group_that_was_being_given_up_is_given_up(self) -> None:
        bench = self.group("one")
        one, two = self.both(bench)
        bench.kill("one")
        after = self.again(bench, {one: 7, two: 8})
        self.assertEqual(set(map(str, after.hands)), set(map(str, (Destroy(one), Destroy(two)))))
        self.accept(after)
        after.exit("one", 9)
        after.exit("two", 9)
        after.acknowledge()
        self.assertEqual(set(after.updates()), {("one", "TASK_KILLED"), ("two", "TASK_KILLED")})

    def test_group_that_was_given_up_stays_so_when_the_cause_is_forgotten(self) -> None:
        bench = self.group("one")
        one, two = self.both(bench)
        bench.give(ContainerFailed(two, "launch", "no such program"))
        bench.acknowledge()
        bench.wait(0.1)
        self.assertNotIn("two", [key[1] for key in bench.state.tasks])
        after = self.again(bench, {one: 7})
        self.assertEqual(after.hands, [Destroy(one)])
        after.exit("one", 9)
        self.accept(after)
        self.assertEqual(after.updates(), [("one", "TASK_KILLED")])
        after.acknowledge()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_group_stays_one_when_its_first_task_is_done(self) -> None:
        bench = self.before()
        bench.run_group(task("one"), task("two"), task("three"), info=keeping())
        for name in ("one", "two", "three"):
            bench.start(name)
        bench.exit("one", 0)
        bench.acknowledge()
        two, three = bench.container_of("two"), bench.container_of("three")
        after = self.again(bench, {two: 7, three: 8})
        self.accept(after)
        after.kill("two")
        last = self.again(after, {two: 7, three: 8})
        last.exit("two", 15)
        self.assertIn(Signal(three, SIGTERM), last.hands)

    def test_executor_that_was_shut_down_goes_on_with_it(self) -> None:
        bench = self.group("one", "two")
        one, two = self.both(bench)
        message = internal.ShutdownExecutorMessage()
        message.framework_id.value = FRAMEWORK_ID
        message.executor_id.value = "default"
        bench.receive(message)
        after = self.again(bench, {one: 7, two: 8})
        self.assertEqual(after.hands, [Signal(one, SIGTERM), Signal(two, SIGTERM)])


class ExecutorTests(ReconnectTestCase):
    """Executors that subscribe."""

    def subscribed(self, *, updated: bool = True) -> Bench:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        peer = bench.subscribe()
        if updated:
            bench.update(peer, 1)
            bench.acknowledge()
        return bench

    def test_recovery_waits_for_it_and_ends_when_it_is_back(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {bench.container_of(): 7})
        self.assertFalse(after.state.recovery.done)
        self.assertIs(after.state.phase, Phase.RECOVERING)
        self.assertEqual(after.sent, [])
        after.now += 0.3
        after.subscribe()
        self.assertEqual(after.heard(), ["SUBSCRIBED"])
        self.assertTrue(after.state.recovery.done)
        self.assertAlmostEqual(after.state.recovery.seconds, 0.3)
        (message,) = after.sent
        self.assertEqual(len(message.executor_infos), 1)
        self.assertEqual(self.reported(after), {"t": "TASK_RUNNING"})
        self.accept(after)
        after.wait(70)
        self.assertEqual(after.hands, [])
        after.update(PeerId(10), 2)
        self.assertEqual(after.updates(), [("t", "TASK_FINISHED")])

    def test_recovery_does_not_wait_where_there_is_nobody_to_wait_for(self) -> None:
        after = self.again(self.before())
        self.assertTrue(after.state.recovery.done)
        self.assertEqual(after.state.recovery.seconds, 0.0)

    def test_one_that_does_not_come_back_is_destroyed(self) -> None:
        bench = self.subscribed()
        container = bench.container_of()
        after = self.again(bench, {container: 7})
        after.wait(1.9)
        self.assertEqual(after.hands, [])
        after.wait(0.2)
        self.assertEqual(after.hands, [Destroy(container)])
        self.assertTrue(after.state.recovery.done)
        self.accept(after)
        after.exit(status=9)
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])
        self.assertEqual(after.last().reason, TaskStatus.REASON_EXECUTOR_REREGISTRATION_TIMEOUT)
        self.assertEqual(after.last().message, "Executor did not reregister within 2secs")

    def test_one_that_ends_while_it_is_waited_for_is_not_waited_for_any_more(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {bench.container_of(): 7})
        after.exit(status=256)
        self.assertTrue(after.state.recovery.done)
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_FAILED")])
        self.assertEqual(after.last().reason, TaskStatus.REASON_EXECUTOR_TERMINATED)

    def test_one_that_ended_meanwhile(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {}, {bench.container_of(): 256})
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_FAILED")])
        after.acknowledge()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_nothing_of_a_master_is_heard_before_recovery_is_over(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {bench.container_of(): 7})
        after.kill()
        self.assertEqual(after.told, [])

    def test_executors_are_refused_before_the_containers_are_known(self) -> None:
        bench = self.subscribed()
        after = Bench(self.options, bench.store)
        after.give(Recovered(bench.store.copy()))
        after.subscribe()
        self.assertEqual([one.status for one in after.answers], [503])
        self.assertEqual(after.heard(), [])

    def test_update_that_was_not_taken_is_said_again_and_taken_once(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {bench.container_of(): 7})
        for peer, times in ((10, 1), (11, 0)):
            status = {"task_id": {"value": "t"}, "state": 2, "source": 2, "uuid": b"u" * 16}
            after.subscribe(peer, unacknowledged_updates=[{"status": status}])
            self.assertIn("ACKNOWLEDGED", after.heard(peer))
            if times:
                self.accept(after)
                self.assertEqual(after.updates(), [("t", "TASK_FINISHED")])

    def test_task_that_it_did_not_hear_of_is_dropped(self) -> None:
        for knows, expected in ((False, [("t", "TASK_DROPPED")]), (True, [])):
            bench = self.subscribed(updated=False)
            after = self.again(bench, {bench.container_of(): 7})
            known = [task(executor=custom_executor())] if knows else []
            after.subscribe(unacknowledged_tasks=known)
            self.accept(after)
            self.assertEqual(after.updates(), expected)
            if expected:
                self.assertEqual(after.last().reason, TaskStatus.REASON_AGENT_RESTARTED)

    def test_one_that_had_not_subscribed_yet_gets_what_waits_for_it(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        bench.run(task("u", executor=custom_executor()), info=keeping(), launch=False)
        after = self.again(bench, {bench.container_of(): 7})
        self.assertTrue(after.state.recovery.done)
        self.accept(after)
        after.wait(30)
        after.subscribe()
        self.assertEqual(after.heard(), ["SUBSCRIBED", "LAUNCH", "LAUNCH"])
        self.assertEqual(after.updates(), [])

    def test_group_that_waits_for_it_stays_a_group(self) -> None:
        bench = self.before()
        executor = custom_executor()
        executor.type = executor.CUSTOM
        bench.run_group(task("one"), task("two"), info=keeping(), executor=executor)
        after = self.again(bench, {bench.container_of("one"): 7})
        after.subscribe()
        self.assertEqual(after.heard(), ["SUBSCRIBED", "LAUNCH_GROUP"])

    def test_one_that_never_subscribes_is_late(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        container = bench.container_of()
        after = self.again(bench, {container: 7})
        self.accept(after)
        after.wait(61)
        self.assertEqual(after.hands, [Destroy(container)])
        after.exit(status=9)
        self.assertEqual(after.last().reason, TaskStatus.REASON_EXECUTOR_REGISTRATION_TIMEOUT)

    def test_one_that_was_never_launched_drops_its_tasks(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        after = self.again(bench)
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_DROPPED")])

    def test_kill_is_said_again_with_its_grace(self) -> None:
        bench = self.subscribed()
        bench.kill(grace=7.0)
        after = self.again(bench, {bench.container_of(): 7})
        after.subscribe()
        self.assertEqual(after.heard(), ["SUBSCRIBED", "KILL"])
        kill = after.told[-1][1].kill
        self.assertEqual(kill.kill_policy.grace_period.nanoseconds, 7 * 10**9)

    def test_shutdown_is_said_again_and_has_its_time(self) -> None:
        bench = self.subscribed()
        message = internal.ShutdownExecutorMessage()
        message.framework_id.value = FRAMEWORK_ID
        message.executor_id.value = "e"
        bench.receive(message)
        container = bench.container_of()
        after = self.again(bench, {container: 7})
        self.assertTrue(after.state.recovery.done)
        after.subscribe()
        self.assertEqual(after.heard(), ["SHUTDOWN"])
        after.wait(6)
        self.assertEqual(after.hands, [Destroy(container)])

    def test_token_that_was_shown_is_wanted_after_a_restart(self) -> None:
        bench = self.subscribed()
        after = self.again(bench, {bench.container_of(): 7})
        stranger = PeerId(50)
        after.give(Connected(stranger, PeerKind.EXECUTOR, "http"))
        after.call(stranger, Call(type=Call.SUBSCRIBE, subscribe={}))
        self.assertEqual(after.answers[-1].status, 403)
        self.assertEqual(after.heard(50), [])

    def test_one_without_a_token_comes_back_without(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        for life, peer in ((bench, PeerId(50)), (None, PeerId(51))):
            one = life or self.again(bench, {bench.container_of(): 7})
            one.give(Connected(peer, PeerKind.EXECUTOR, "http"))
            one.call(peer, Call(type=Call.SUBSCRIBE, subscribe={}))
            self.assertEqual(one.heard(peer)[0], "SUBSCRIBED")

    def test_proof_that_comes_later_is_noted_by_itself(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        bench.give(Connected(PeerId(50), PeerKind.EXECUTOR, "http"))
        bench.call(PeerId(50), Call(type=Call.SUBSCRIBE, subscribe={}))
        bench.subscribe()
        bench.wait(0.1)
        note = bench.store[f"notes/{FRAMEWORK_ID}/e"]
        self.assertEqual(note, b"subscribed proven")

    def test_one_that_waited_too_long_for_an_agent_is_gone(self) -> None:
        bench = self.subscribed()
        container = bench.container_of()
        after = self.again(bench, {}, {container: 0}, (container,))
        self.accept(after)
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])

    def test_one_that_the_agent_has_no_room_to_note_subscribes_once_more(self) -> None:
        bench = FullDisk(self.options)
        bench.register()
        bench.run(task(executor=custom_executor()), info=keeping(), launch=True)
        bench.full = True
        bench.subscribe()
        self.assertEqual(bench.heard(), [])
        bench.full = False
        bench.subscribe(11)
        self.assertEqual(bench.heard(11), ["SUBSCRIBED", "LAUNCH"])
