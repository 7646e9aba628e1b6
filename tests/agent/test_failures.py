"""A store that fails: tasks fail, the agent goes on."""

from dataclasses import replace

from mesoskit.agent.container import ContainerExited, ContainerStarted, Destroy, Forget
from mesoskit.agent.options import RECONNECT
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import Connected, PeerKind, Send, Store, StoreFailed
from mesoskit.model.ids import PeerId
from mesoskit.model.tasks import TaskState
from tests.agent.bench import (
    FRAMEWORK_ID,
    OPTIONS,
    OWN_RECORDS,
    Bench,
    acknowledgement,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase


class FullDisk(Bench):
    """
    A bench whose store can be full: what an event wants is then dropped, as turns do it, and
    the state hears of the failure.
    """

    full = False

    def give(self, event: object) -> list[object]:
        effects = self.state.handle(self.now, event)
        stores = [one for one in effects if isinstance(one, Store)]
        if self.full and stores:
            changes = tuple(change for store in stores for change in store.changes)
            return self.give(StoreFailed(changes, "disk full"))
        self.state.validate_state()
        for effect in effects:
            self._sort(effect)
        return effects


class StoreFailureTests(SynchronousTestCase):
    """Where the store refuses."""

    def bench(self) -> FullDisk:
        bench = FullDisk()
        bench.register()
        return bench

    def test_task_whose_record_is_not_stored_fails_and_is_not_launched(self) -> None:
        bench = self.bench()
        bench.full = True
        bench.run(task())
        self.assertEqual(bench.launched(), [])
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("t", "TASK_FAILED"))
        self.assertEqual(bench.last().message, "Failed to checkpoint: disk full")
        self.assertEqual(bench.last().reason, TaskStatus.REASON_CONTAINER_LAUNCH_FAILED)
        self.assertEqual(bench.state.frameworks, {})
        self.assertEqual(bench.state.streams, {})

    def test_group_whose_records_are_not_stored_fails_as_a_whole(self) -> None:
        bench = self.bench()
        bench.full = True
        bench.run_group(task("one"), task("two"))
        bench.acknowledge()
        self.assertEqual(bench.launched(), [])
        self.assertEqual(
            {one for one in bench.updates() if one[1] != "TASK_STARTING"},
            {("one", "TASK_FAILED"), ("two", "TASK_FAILED")},
        )
        self.assertEqual(bench.state.frameworks, {})

    def test_task_that_runs_and_cannot_say_so_is_ended(self) -> None:
        bench = self.bench()
        bench.run(task())
        bench.acknowledge()
        container = bench.container_of()
        bench.full = True
        bench.start()
        self.assertIn(Destroy(container), bench.hands)
        bench.exit(status=9)
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("t", "TASK_FAILED"))

    def test_end_that_cannot_be_stored_is_told_from_memory(self) -> None:
        bench = self.bench()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        bench.full = True
        bench.exit()
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("t", "TASK_FINISHED"))
        self.assertEqual(bench.state.frameworks, {})

    def test_what_was_not_stored_is_stored_when_there_is_room_again(self) -> None:
        bench = self.bench()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        bench.full = True
        bench.exit()
        bench.acknowledge()
        bench.wait(25)
        self.assertNotEqual(bench.records(), OWN_RECORDS)
        bench.full = False
        bench.wait(20)
        self.assertEqual(bench.records(), OWN_RECORDS)
        self.assertIsNone(bench.state.deadlines.when(("unstored",)))

    def test_how_a_task_ended_is_not_forgotten_before_that_is_stored(self) -> None:
        bench = self.bench()
        bench.run(task())
        bench.start()
        bench.acknowledge()
        container = bench.container_of()
        bench.full = True
        bench.exit()
        bench.acknowledge()
        bench.wait(25)
        # Its record says that it runs; an agent that came back now would look for it.
        self.assertNotIn(Forget(container), bench.hands)
        bench.full = False
        bench.wait(20)
        self.assertEqual(bench.records(), OWN_RECORDS)
        self.assertEqual(bench.hands.count(Forget(container)), 1)
        self.assertIsNone(bench.state.deadlines.when(("unstored",)))

    def test_nor_where_it_is_told_from_memory_for_an_earlier_failure(self) -> None:
        bench = self.bench()
        bench.run(task(), info=framework(checkpoint=True))
        container = bench.container_of()
        bench.full = True
        bench.start()
        bench.full = False
        bench.wait(20.0)
        bench.exit(status=9)
        self.assertNotIn(Forget(container), bench.hands)
        # An agent that is killed now finds out once more how it ended.
        after = Bench(replace(OPTIONS, recover=RECONNECT), bench.store, b"fedcba9876543210")
        after.recover({}, (), **{container: 9})
        (ended,) = after.state.tasks.values()
        self.assertEqual(ended.state, TaskState.TASK_FAILED)
        bench.acknowledge()
        self.assertEqual(bench.updates()[-1], ("t", "TASK_FAILED"))
        bench.wait(20.0)
        self.assertEqual(bench.hands.count(Forget(container)), 1)
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_end_that_was_stored_stays_so_though_an_acknowledgement_cannot_be(self) -> None:
        bench = self.bench()
        bench.run(task(), info=framework(checkpoint=True))
        container = bench.container_of()
        bench.start()
        bench.exit()
        self.assertIn(Forget(container), bench.hands)
        bench.full = True
        bench.receive(acknowledgement(bench.sent[-1].update))
        # What comes next goes out, and the acknowledgement is not taken twice.
        self.assertEqual(bench.updates(), [("t", "TASK_STARTING"), ("t", "TASK_RUNNING")])
        for _ in range(2):  # at once, and when there is room again
            store = bench.store.copy()
            after = Bench(replace(OPTIONS, recover=RECONNECT), store, b"fedcba9876543210")
            after.recover()
            (ended,) = after.state.tasks.values()
            self.assertEqual(ended.state, TaskState.TASK_FINISHED)
            bench.full = False
            bench.wait(20.0)
        (stream,) = after.state.streams.values()
        self.assertEqual(len(stream), 2)
        bench.acknowledge()
        bench.wait(20.0)
        self.assertEqual(bench.updates()[-1], ("t", "TASK_FINISHED"))
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_update_behind_it_is_sent_ever_more_rarely_though_the_disk_stays_full(self) -> None:
        bench = self.bench()
        bench.run(task())
        bench.start()
        bench.full = True
        bench.receive(acknowledgement(bench.sent[-1].update))
        bench.clear()
        for _ in range(60):
            bench.receive(internal.PingSlaveMessage(connected=True))
            bench.wait(10)
        self.assertEqual(set(bench.updates()), {("t", "TASK_RUNNING")})
        self.assertEqual(len(bench.updates()), 4)  # after 20 s, and twice as long each time

    def test_what_an_executor_left_to_be_stored_is_not_stored_of_the_next_of_its_name(self) -> None:
        bench = self.bench()
        bench.run(task("a", executor=custom_executor()), launch=True)
        bench.subscribe()
        bench.full = True
        shutdown = internal.ShutdownExecutorMessage()
        shutdown.framework_id.value = FRAMEWORK_ID
        shutdown.executor_id.value = "e"
        bench.receive(shutdown)
        bench.exit("a")
        bench.acknowledge()
        bench.full = False
        bench.run(task("b", executor=custom_executor()), launch=True)
        bench.start("b")
        bench.wait(20)
        bench.exit("b")
        bench.acknowledge()
        bench.wait(20)
        self.assertEqual(bench.records(), OWN_RECORDS)

    def test_other_tasks_go_on(self) -> None:
        bench = self.bench()
        bench.run(task("a"))
        bench.start("a")
        bench.acknowledge()
        bench.full = True
        bench.run(task("b"))
        bench.full = False
        bench.exit("a")
        bench.acknowledge()
        states = dict(bench.updates())
        self.assertEqual(states, {"a": "TASK_FINISHED", "b": "TASK_FAILED"})

    def test_executor_whose_record_is_not_stored_is_not_launched(self) -> None:
        bench = self.bench()
        bench.full = True
        bench.run(task(executor=custom_executor()), launch=True)
        self.assertEqual(bench.launched(), [])
        bench.acknowledge()
        self.assertEqual(bench.updates(), [("t", "TASK_FAILED")])
        self.assertEqual(bench.state.frameworks, {})

    def test_second_task_of_an_executor_fails_alone(self) -> None:
        bench = self.bench()
        bench.run(task("a", executor=custom_executor()), launch=True)
        bench.full = True
        bench.run(task("b", executor=custom_executor()), launch=False)
        bench.full = False
        self.assertEqual(bench.updates(), [("b", "TASK_FAILED")])
        bench.subscribe()
        self.assertEqual(bench.heard(), ["SUBSCRIBED", "LAUNCH"])

    def test_executor_whose_update_is_not_stored_says_it_again(self) -> None:
        bench = self.bench()
        bench.run(task(executor=custom_executor()), launch=True)
        peer = bench.subscribe()
        bench.full = True
        uuid = bench.update(peer, 1)
        self.assertEqual(bench.updates(), [("t", "TASK_RUNNING")])
        self.assertNotIn("ACKNOWLEDGED", bench.heard())
        bench.update(peer, 1, uuid=uuid)
        self.assertEqual(bench.answers[-1].status, 503)
        self.assertNotIn("ACKNOWLEDGED", bench.heard())
        bench.full = False
        bench.wait(10)
        bench.update(peer, 1, uuid=uuid)
        self.assertEqual(bench.heard()[-1], "ACKNOWLEDGED")
        self.assertEqual(set(bench.updates()), {("t", "TASK_RUNNING")})
        self.assertEqual(bench.dropped, [])

    def restarted(self, bench: FullDisk) -> Bench:
        """Start the agent again; its executor says that it heard of everything."""
        container = bench.container_of()
        after = Bench(replace(OPTIONS, recover=RECONNECT), bench.store, b"fedcba9876543210")
        after.recover({container: 7})
        after.subscribe()
        after.give(Connected(PeerId(1), PeerKind.MASTER, "127.0.0.1:5050"))
        message = internal.SlaveReregisteredMessage()
        message.slave_id.value = after.state.agent_id
        after.receive(message)
        return after

    def test_executor_is_not_told_that_its_end_is_known_before_that_is_stored(self) -> None:
        bench = self.bench()
        keeps = framework(checkpoint=True)
        bench.run(task(executor=custom_executor()), info=keeps, launch=True)
        peer = bench.subscribe()
        bench.update(peer, TaskState.TASK_RUNNING)
        bench.acknowledge()
        bench.full = True
        uuid = bench.update(peer, TaskState.TASK_FINISHED)
        bench.full = False
        bench.clear()
        bench.update(peer, TaskState.TASK_FINISHED, uuid=uuid)
        self.assertEqual(bench.answers[-1].status, 503)
        bench.wait(10)
        bench.update(peer, TaskState.TASK_FINISHED, uuid=uuid)
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"])
        after = self.restarted(bench)
        self.assertEqual(after.updates(), [("t", "TASK_FINISHED")])

    def test_task_runs_on_though_the_store_took_it_late_that_it_does(self) -> None:
        bench = self.bench()
        keeps = framework(checkpoint=True)
        bench.run(task(executor=custom_executor()), info=keeps, launch=True)
        peer = bench.subscribe()
        bench.full = True
        uuid = bench.update(peer, TaskState.TASK_RUNNING)
        bench.acknowledge()
        bench.full = False
        bench.wait(10)
        bench.clear()
        bench.update(peer, TaskState.TASK_RUNNING, uuid=uuid)
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"])
        self.assertEqual(bench.updates(), [])
        after = self.restarted(bench)
        self.assertEqual(after.updates(), [])
        (found,) = after.state.tasks.values()
        self.assertEqual(found.state, TaskState.TASK_RUNNING)

    def test_what_was_acknowledged_meanwhile_is_tried_again_until_it_is_stored(self) -> None:
        bench = self.bench()
        bench.run(task(executor=custom_executor()), launch=True)
        peer = bench.subscribe()
        bench.full = True
        uuid = bench.update(peer, TaskState.TASK_RUNNING)
        bench.acknowledge()
        bench.full = False
        bench.wait(10)
        bench.full = True
        bench.update(peer, TaskState.TASK_RUNNING, uuid=uuid)  # All of it is refused again.
        bench.clear()
        bench.update(peer, TaskState.TASK_RUNNING, uuid=uuid)
        self.assertEqual((bench.heard(), bench.answers[-1].status), ([], 503))
        bench.full = False
        bench.wait(20)
        bench.update(peer, TaskState.TASK_RUNNING, uuid=uuid)
        self.assertEqual(bench.heard(), ["ACKNOWLEDGED"])
        (record,) = [data for key, data in bench.store.items() if key.startswith("updates/")]
        self.assertEqual(internal.StatusUpdateRecord.FromString(record).uuid, uuid)

    def test_destruction_that_was_dropped_is_asked_for_again(self) -> None:
        bench = self.bench()
        bench.run_group(task("one"), task("two"))
        bench.start("one")
        bench.acknowledge()
        bench.full = True
        bench.kill("one")
        self.assertEqual({type(one) for one in bench.hands[2:]}, {Destroy})
        self.assertEqual(len(bench.hands), 4)

    def test_id_that_is_not_stored_is_used_all_the_same(self) -> None:
        bench = FullDisk()
        bench.recover()
        bench.full = True
        bench.give(Connected(PeerId(1), PeerKind.MASTER, "127.0.0.1:5050"))
        message = internal.SlaveRegisteredMessage()
        message.slave_id.value = "m-S0"
        bench.receive(message)
        self.assertIsInstance(bench.sent[-1], internal.UpdateSlaveMessage)
        bench.full = False
        bench.wait(10)
        self.assertIn("agent/info", bench.store)

    def test_update_that_failed_is_repeated_until_acknowledged(self) -> None:
        bench = self.bench()
        bench.full = True
        bench.run(task(), info=framework())
        count = len(bench.updates())
        bench.wait(31)
        self.assertEqual(len(bench.updates()), count + 2)

    def test_container_events_of_a_failed_launch_are_ignored(self) -> None:
        bench = self.bench()
        bench.run(task("a"))
        container = bench.container_of("a")
        bench.exit("a")
        for event in (ContainerStarted(container, 5), ContainerExited(container, 0)):
            effects = [one for one in bench.give(event) if isinstance(one, Send)]
            self.assertEqual(effects, [])
