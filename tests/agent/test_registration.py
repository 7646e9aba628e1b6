"""How an agent gets and keeps its master."""

from itertools import pairwise

from mesoskit.agent.container import Forget
from mesoskit.agent.events import ShutDown
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.model.events import Connected, Drop, Lost, PeerKind, Send, Stop
from mesoskit.model.ids import PeerId
from mesoskit.model.resources import Resources
from tests.agent.bench import AGENT_ID, AWARE, FRAMEWORK_ID, MASTER, Bench, framework, task
from tests.base import SynchronousTestCase

OTHER = PeerId(2)


class RegistrationTests(SynchronousTestCase):
    """The first time."""

    def connected(self) -> Bench:
        bench = Bench()
        bench.recover()
        bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        return bench

    def test_agent_says_what_the_recorded_one_says(self) -> None:
        (message,) = self.connected().sent
        self.assertIsInstance(message, internal.RegisterSlaveMessage)
        self.assertEqual(message.slave.hostname, "host.example")
        self.assertFalse(message.slave.HasField("id"))
        self.assertEqual(message.slave.port, 5051)
        self.assertEqual({one.role for one in message.slave.resources}, {"*"})
        self.assertEqual(
            Resources.from_message(message.slave.resources),
            Resources.parse("cpus:4;mem:2048;disk:4096;ports:[31000-32000]"),
        )
        self.assertEqual(message.version, "1.12.0")
        self.assertEqual(len(message.resource_version_uuid.value), 16)

    def test_registration_is_repeated_with_growing_waits_up_to_a_minute(self) -> None:
        bench = self.connected()
        times = [bench.now]
        while len(times) < 12:
            count = len(bench.sent)
            while len(bench.sent) == count:
                bench.wait(0.5)
            times.append(bench.now)
        waits = [after - before for before, after in pairwise(times)]
        self.assertLessEqual(waits[0], 2.5)
        self.assertTrue(all(30 <= wait <= 60.5 for wait in waits[-3:]), waits)

    def test_id_is_stored_before_anything_rests_on_it(self) -> None:
        bench = self.connected()
        message = internal.SlaveRegisteredMessage()
        message.slave_id.value = AGENT_ID
        effects = bench.receive(message)
        self.assertIn("agent/info", bench.store)
        (sent,) = [one.message for one in effects if isinstance(one, Send)]
        self.assertIsInstance(sent, internal.UpdateSlaveMessage)
        self.assertTrue(sent.HasField("operations"))
        self.assertTrue(sent.HasField("resource_providers"))
        self.assertFalse(sent.update_oversubscribed_resources)

    def test_repeated_answer_changes_nothing(self) -> None:
        bench = Bench().register()
        message = internal.SlaveRegisteredMessage()
        message.slave_id.value = AGENT_ID
        self.assertEqual(bench.receive(message), [])

    def test_answer_with_another_id_ends_the_agent(self) -> None:
        bench = Bench().register()
        message = internal.SlaveRegisteredMessage()
        message.slave_id.value = "other"
        (stop,) = bench.receive(message)
        self.assertIsInstance(stop, Stop)
        self.assertEqual(stop.status, 1)

    def test_nothing_is_asked_before_recovery_is_through(self) -> None:
        bench = Bench()
        bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
        self.assertEqual(bench.sent, [])
        bench.recover()
        self.assertEqual(len(bench.sent), 1)

    def test_message_of_another_peer_is_not_believed(self) -> None:
        bench = Bench().register()
        message = internal.RunTaskMessage(framework=framework(), task=task())
        self.assertEqual(bench.receive(message, peer=OTHER), [])
        self.assertEqual(bench.state.tasks, {})


class LivenessTests(SynchronousTestCase):
    """Pings, and a master that goes and comes."""

    def ping(self, bench: Bench, connected: bool = True) -> list[object]:
        return bench.receive(internal.PingSlaveMessage(connected=connected))

    def test_pong_passes_by_the_store(self) -> None:
        bench = Bench().register()
        (effect,) = self.ping(bench)
        self.assertEqual(effect, Send(MASTER, internal.PongSlaveMessage(), urgent=True))

    def test_master_that_does_not_ping_for_75_seconds_is_given_up(self) -> None:
        bench = Bench().register()
        bench.wait(70)
        self.ping(bench)
        bench.wait(74)
        self.assertEqual(bench.dropped, [])
        bench.wait(2)
        self.assertEqual([drop.peer for drop in bench.dropped], [MASTER])
        self.assertFalse(bench.state.registered)

    def test_agent_that_the_master_has_given_up_registers_again(self) -> None:
        bench = Bench().register()
        self.ping(bench, connected=False)
        bench.wait(2)
        self.assertIsInstance(bench.sent[-1], internal.ReregisterSlaveMessage)

    def test_agent_comes_back_with_all_it_has(self) -> None:
        bench = Bench().register()
        bench.run(task("a"), task("b"))
        bench.start("a")
        bench.give(Lost(MASTER))
        bench.exit("a")
        bench.clear()
        bench.wait(100)
        self.assertEqual(bench.sent, [])
        bench.give(Connected(OTHER, PeerKind.MASTER, "127.0.0.1:5050", epoch=1))
        bench.wait(1)
        message = bench.sent[0]
        self.assertIsInstance(message, internal.ReregisterSlaveMessage)
        self.assertEqual(message.slave.id.value, AGENT_ID)
        self.assertEqual([one.id.value for one in message.frameworks], [FRAMEWORK_ID])
        states = {one.task_id.value: one.state for one in message.tasks}
        self.assertEqual(states, {"a": 2, "b": 0})
        self.assertFalse(message.tasks[0].HasField("executor_id"))
        self.assertEqual([one.state for one in message.tasks[0].statuses], [0, 1, 2])
        # What its framework has heard of it, or will next, is not the last of it.
        self.assertEqual(message.tasks[0].status_update_state, 0)
        self.assertEqual(len(message.tasks[0].status_update_uuid), 16)
        answer = internal.SlaveReregisteredMessage()
        answer.slave_id.value = AGENT_ID
        bench.clear()
        bench.receive(answer, peer=OTHER)
        self.assertEqual(bench.updates(), [("a", "TASK_STARTING"), ("b", "TASK_STARTING")])

    def test_second_leader_takes_the_place_of_the_first(self) -> None:
        bench = Bench().register()
        bench.give(Connected(OTHER, PeerKind.MASTER, "127.0.0.1:5055", epoch=7))
        self.assertEqual([drop.peer for drop in bench.dropped], [MASTER])
        self.assertEqual(bench.state.master, OTHER)
        self.assertFalse(bench.state.registered)

    def test_leader_of_an_older_epoch_is_not_believed(self) -> None:
        bench = Bench()
        bench.recover()
        bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050", epoch=7))
        bench.give(Connected(OTHER, PeerKind.MASTER, "127.0.0.1:5055", epoch=6))
        self.assertEqual([drop.peer for drop in bench.dropped], [OTHER])
        self.assertEqual(bench.state.master, MASTER)

    def test_task_that_the_master_believes_to_be_here(self) -> None:
        for capabilities, state in (((), "TASK_LOST"), ((AWARE,), "TASK_DROPPED")):
            bench = Bench().register()
            bench.run(task("here"))
            bench.give(Lost(MASTER))
            bench.give(Connected(MASTER, PeerKind.MASTER, "127.0.0.1:5050"))
            bench.wait(1)
            answer = internal.SlaveReregisteredMessage()
            answer.slave_id.value = AGENT_ID
            reconcile = answer.reconciliations.add(framework=framework(*capabilities))
            reconcile.framework_id.value = FRAMEWORK_ID
            for name in ("here", "missing"):
                reconcile.statuses.add(state=1).task_id.value = name
            bench.clear()
            bench.receive(answer)
            self.assertEqual(bench.updates()[-1], ("missing", state))
            self.assertEqual(bench.last().reason, TaskStatus.REASON_RECONCILIATION)
            self.assertEqual(bench.last().message, "Reconciliation: task unknown to the agent")
            self.assertEqual(len([one for one in bench.updates() if one[0] == "here"]), 1)
            bench.acknowledge()
            self.assertNotIn((FRAMEWORK_ID, "missing"), bench.state.streams)


class LeavingTests(SynchronousTestCase):
    """The end of an agent."""

    def test_agent_that_the_master_shuts_down_ends_its_tasks_and_forgets_its_id(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.start()
        bench.others.clear()
        bench.receive(internal.ShutdownMessage(message="Agent has been marked gone"))
        self.assertEqual(bench.others, [])
        self.assertEqual(len(bench.hands), 2)
        effects = bench.exit(status=15)
        (stop,) = bench.others
        self.assertIsInstance(stop, Stop)
        # Nothing that stands behind it would be performed.
        self.assertIs(effects[-1], stop)
        self.assertTrue([one for one in effects if isinstance(one, Forget)])
        self.assertEqual(stop.status, 0)
        self.assertIn("Agent has been marked gone", stop.why)
        self.assertEqual(bench.store, {})

    def test_agent_that_an_operator_shuts_down_unregisters_first(self) -> None:
        bench = Bench().register()
        effects = bench.give(ShutDown("SIGUSR1"))
        message = internal.UnregisterSlaveMessage()
        message.slave_id.value = AGENT_ID
        self.assertEqual(effects[0], Send(MASTER, message))
        self.assertIsInstance(effects[-2], Drop)
        self.assertEqual(effects[-1], Stop("SIGUSR1", 0))

    def test_tasks_are_not_taken_while_the_agent_ends(self) -> None:
        bench = Bench().register()
        bench.run(task())
        bench.give(ShutDown("SIGUSR1"))
        bench.clear()
        bench.run(task("u"))
        self.assertEqual(bench.launched(), [])
        self.assertEqual(len(bench.state.tasks), 1)
