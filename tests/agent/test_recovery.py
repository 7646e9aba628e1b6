"""An agent that starts again, with the policy C{cleanup}."""

from dataclasses import replace

from mesoskit.agent.container import (
    ContainerExited,
    Destroy,
    Forget,
    RecoveredContainers,
    SandboxesFound,
)
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskStatus
from mesoskit.model.events import Connected, PeerKind, Recovered, Stop
from mesoskit.model.ids import ContainerId
from mesoskit.model.resources import Resources
from tests.agent.bench import (
    AGENT_ID,
    AWARE,
    MASTER,
    OPTIONS,
    OWN_RECORDS,
    Bench,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase


class RecoveryTestCase(SynchronousTestCase):
    """Two lives of one agent."""

    def before(self) -> Bench:
        return Bench().register()

    def again(
        self,
        bench: Bench,
        running: dict[str, int] | None = None,
        exited: dict[str, int | None] | None = None,
    ) -> Bench:
        """Start a second agent on the store of the first."""
        after = Bench(store=bench.store)
        after.now = bench.now + 5
        after.recover(running, (), **(exited or {}))
        after.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        return after


class CleanupTests(RecoveryTestCase):
    """What becomes of what was there."""

    def running(self, info: FrameworkInfo | None = None) -> Bench:
        bench = self.before()
        bench.run(task(), info=info or framework(AWARE))
        bench.start()
        bench.acknowledge()
        return bench

    def test_agent_keeps_its_id(self) -> None:
        after = self.again(self.before())
        (message,) = after.sent
        self.assertIsInstance(message, internal.ReregisterSlaveMessage)
        self.assertEqual(message.slave.id.value, AGENT_ID)

    def test_task_that_runs_is_destroyed_and_reported_once_it_is_gone(self) -> None:
        for capabilities, state in (((AWARE,), "TASK_GONE"), ((), "TASK_LOST")):
            bench = self.running(framework(*capabilities))
            container = bench.container_of()
            after = self.again(bench, {container: 77})
            self.assertEqual(after.hands, [Destroy(container)])
            self.assertEqual([one.state for one in after.sent[0].tasks], [1])
            after.accept()
            self.assertEqual(after.updates(), [])
            after.exit(status=9)
            self.assertEqual(after.updates(), [("t", state)])
            status = after.last()
            self.assertEqual(status.reason, TaskStatus.REASON_AGENT_RESTARTED)
            self.assertEqual(status.source, TaskStatus.SOURCE_AGENT)
            after.acknowledge()
            self.assertEqual(after.records(), OWN_RECORDS)

    def test_task_that_ended_while_nobody_looked_is_reported_as_it_ended(self) -> None:
        for status, state in ((0, "TASK_FINISHED"), (256, "TASK_FAILED"), (None, "TASK_FAILED")):
            bench = self.running()
            container = bench.container_of()
            after = self.again(bench, {}, {container: status})
            self.assertEqual(after.hands, [Forget(container)])
            after.receive(self.reregistered())
            after.acknowledge()
            self.assertEqual(after.updates(), [("t", state)])

    def test_task_that_nobody_knows_any_more_is_gone(self) -> None:
        after = self.again(self.running())
        after.receive(self.reregistered())
        after.acknowledge()
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])

    def reregistered(self) -> internal.SlaveReregisteredMessage:
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = AGENT_ID
        return message

    def test_task_that_was_never_launched_is_dropped(self) -> None:
        bench = self.before()
        info = task()
        info.command.uris.add(value="file:///x")
        bench.run(info, info=framework(AWARE))
        after = self.again(bench)
        after.receive(self.reregistered())
        self.assertEqual(after.updates(), [("t", "TASK_DROPPED")])

    def test_container_that_no_record_knows_is_destroyed_too(self) -> None:
        after = self.again(self.before(), {"stranger": 5})
        stranger = ContainerId("stranger")
        self.assertEqual(after.hands, [Destroy(stranger)])
        after.give(ContainerExited(stranger, 9))
        self.assertEqual(after.hands[1:], [Forget(stranger)])
        self.assertEqual(after.state.doomed, set())

    def test_updates_that_were_not_acknowledged_are_sent_again(self) -> None:
        bench = self.before()
        bench.run(task())
        bench.start()
        bench.exit()
        uuid = bench.sent[-1].update.uuid
        after = self.again(bench)
        self.assertEqual(after.hands, [])
        after.receive(self.reregistered())
        self.assertEqual(after.sent[-1].update.uuid, uuid)
        after.acknowledge()
        self.assertEqual(
            after.updates(),
            [("t", "TASK_STARTING"), ("t", "TASK_RUNNING"), ("t", "TASK_FINISHED")],
        )
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_update_of_a_refused_task_survives(self) -> None:
        bench = self.running()
        bench.kill("other")
        after = self.again(bench, {bench.container_of(): 7})
        after.receive(self.reregistered())
        self.assertEqual(after.updates(), [("other", "TASK_DROPPED")])
        after.acknowledge()
        self.assertEqual(len(after.state.streams), 1)

    def test_custom_executor_and_its_tasks(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=framework(AWARE), launch=True)
        peer = bench.subscribe()
        bench.update(peer, 1)
        bench.acknowledge()
        container = bench.container_of()
        after = self.again(bench, {container: 7})
        self.assertEqual(after.hands, [Destroy(container)])
        self.assertEqual(len(after.sent[0].executor_infos), 1)
        after.accept()
        after.give(ContainerExited(container, 9))
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])
        exited = [one for one in after.sent if isinstance(one, internal.ExitedExecutorMessage)]
        self.assertEqual([one.status for one in exited], [9])

    def test_custom_executor_that_is_gone(self) -> None:
        bench = self.before()
        bench.run(task(executor=custom_executor()), info=framework(AWARE), launch=True)
        after = self.again(bench)
        after.receive(self.reregistered())
        self.assertEqual(after.updates(), [("t", "TASK_GONE")])
        after.acknowledge()
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_group(self) -> None:
        bench = self.before()
        bench.run_group(task("one"), task("two"), info=framework(AWARE))
        for name in ("one", "two"):
            bench.start(name)
        bench.acknowledge()
        one, two = bench.container_of("one"), bench.container_of("two")
        after = self.again(bench, {two: 7}, {one: 0})
        self.assertEqual(after.hands, [Destroy(two), Forget(one)])
        after.receive(self.reregistered())
        after.exit("two", 9)
        after.acknowledge()
        self.assertEqual(
            sorted(set(after.updates())), [("one", "TASK_FINISHED"), ("two", "TASK_GONE")]
        )
        self.assertEqual(after.records(), OWN_RECORDS)

    def test_sandboxes_of_before_wait_for_the_gc(self) -> None:
        after = self.again(self.before())
        after.give(SandboxesFound((("/w/old", 500.0), ("/w/older", -1e9))))
        self.assertEqual(after.state.deadline(), after.now)


class ReadingTests(RecoveryTestCase):
    """Records that do not fit."""

    def stop(self, bench: Bench) -> Stop:
        (stop,) = [one for one in bench.others if isinstance(one, Stop)]
        self.assertEqual(stop.status, 1)
        return stop

    def test_record_that_cannot_be_read_ends_the_agent(self) -> None:
        for key, value in (
            ("tasks/f/e/t", b"nonsense"),
            ("updates/f/t/00000000", b"\xff\xff"),
            ("what/is/this", b""),
            ("agent/info", b"\xff"),
        ):
            bench = Bench()
            bench.give(Recovered({key: value}))
            self.assertIn(key, self.stop(bench).why)

    def test_agent_whose_flags_have_changed_does_not_start(self) -> None:
        store = self.before().store
        more = Resources.parse("cpus:8;mem:2048;disk:4096;ports:[31000-32000]")
        for policy, resources, fits in (
            ("equal", OPTIONS.resources, True),
            ("equal", more, False),
            ("additive", more, True),
            ("additive", Resources.parse("cpus:1"), False),
            ("any", Resources.parse("cpus:1"), True),
        ):
            options = replace(OPTIONS, resources=resources, reconfiguration_policy=policy)
            bench = Bench(options)
            bench.give(Recovered(store))
            if fits:
                self.assertEqual(bench.others, [])
            else:
                why = self.stop(bench).why
                self.assertIn("Incompatible agent info detected: resources were cpus:4", why)
                self.assertIn("remove /w/checkpoints.sqlite", why)

    def test_next_start_is_held_to_what_was_added(self) -> None:
        more = Resources.parse("cpus:8;mem:2048;disk:4096;ports:[31000-32000]")
        options = replace(OPTIONS, resources=more, reconfiguration_policy="additive")
        after = Bench(options, self.before().store)
        after.recover()
        after.wait(0.1)
        last = Bench(replace(options, resources=OPTIONS.resources))
        last.give(Recovered(after.store))
        self.assertIn("resources were cpus:8", self.stop(last).why)

    def test_containers_are_not_heard_before_the_records(self) -> None:
        bench = Bench()
        self.assertEqual(bench.give(RecoveredContainers({ContainerId("c"): 1})), [])
        self.assertFalse(bench.state.recovery.done)
