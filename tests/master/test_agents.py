"""Agents: registering, changing, going quiet and leaving."""

from __future__ import annotations

from mesoskit.master.options import MasterOptions
from mesoskit.master.state import MasterState
from mesoskit.messages.internal_pb2 import (
    ExecutorToFrameworkMessage,
    ExitedExecutorMessage,
    FrameworkToExecutorMessage,
    PingSlaveMessage,
    SlaveRegisteredMessage,
    UnregisterSlaveMessage,
    UpdateSlaveMessage,
)
from mesoskit.messages.mesos_pb2 import AgentInfo, TaskStatus
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Answer, Connected, PeerKind, Received, Send, Store
from mesoskit.model.ids import Ids, PeerId
from tests.base import SynchronousTestCase
from tests.master.bench import (
    AWARE,
    Bench,
    drops,
    events,
    executor,
    registration,
    resources,
    scheduler_call,
    sent,
    statuses,
    stores,
    task,
    told,
)


class Registering(SynchronousTestCase):
    """RegisterSlaveMessage."""

    def test_agent_is_written_down_before_it_hears_of_it(self) -> None:
        bench = Bench()
        peer = bench.connect(PeerKind.AGENT, "10.0.0.7:41000")
        effects = bench.receive(peer, registration())
        self.assertIsInstance(effects[0], Store)
        agent_id = bench.state.info.id + "-S0"
        self.assertEqual([f"agents/{agent_id}", f"-unreachable/{agent_id}"], stores(effects))
        kept = AgentInfo.FromString(bench.stored[f"agents/{agent_id}"])
        self.assertEqual(agent_id, kept.id.value)
        expected = SlaveRegisteredMessage()
        expected.slave_id.value = agent_id
        expected.connection.total_ping_timeout_seconds = 75.0
        self.assertEqual(
            [Send(peer, expected), Send(peer, PingSlaveMessage(connected=True))], effects[1:]
        )

    def test_offer_says_where_the_agent_is(self) -> None:
        bench = Bench()
        bench.register(address="10.0.0.7:41000", port=5055)
        framework, _ = bench.subscribe()
        url = bench.offer(framework).url
        self.assertEqual(
            ("http", "agent.example", "10.0.0.7", 5055, "/slave(1)"),
            (url.scheme, url.address.hostname, url.address.ip, url.address.port, url.path),
        )

    def test_agent_behind_libprocess_keeps_its_pid(self) -> None:
        bench = Bench()
        _, agent_id = bench.register(address="slave(1)@10.0.0.7:5051")
        self.assertEqual("slave(1)@10.0.0.7:5051", bench.state.agents[agent_id].pid)

    def test_repeated_registration_is_answered_again(self) -> None:
        bench = Bench()
        peer, agent_id = bench.register()
        effects = bench.receive(peer, registration())
        (message,) = sent(effects, peer)
        self.assertEqual(agent_id, message.slave_id.value)
        self.assertEqual([], stores(effects))

    def test_new_agent_replaces_a_disconnected_one_at_the_same_address(self) -> None:
        bench = Bench()
        old, old_id = bench.register()
        framework, _ = bench.subscribe(checkpoint=True)
        bench.running(old, framework, "t")
        bench.lose(old)
        peer = bench.connect(PeerKind.AGENT)
        effects = bench.receive(peer, registration())
        self.assertEqual([("t", "TASK_LOST")], told(effects, framework))
        self.assertEqual(
            "Agent agent.example removed: a new agent registered at the same address",
            statuses(effects, framework)[0].message,
        )
        self.assertNotIn(old_id, bench.state.agents)
        self.assertEqual(f"-agents/{old_id}", stores(effects)[0])

    def test_two_agents_at_one_address_are_two_agents(self) -> None:
        bench = Bench()
        bench.register()
        bench.register()
        self.assertEqual(2, len(bench.state.agents))

    def test_what_is_wrong_is_dropped(self) -> None:
        bench = Bench()
        peer = bench.connect(PeerKind.AGENT)
        old = registration()
        old.version = "0.28.2"
        self.assertEqual(
            (400, "agent version is 0.28.2, minimum supported agent version is 1.0.0"),
            bench.call(peer, old),
        )
        nonsense = registration()
        nonsense.version = "new"
        self.assertEqual((400, "Failed to parse version 'new'"), bench.call(peer, nonsense))
        self.assertEqual({}, bench.state.agents)

    def test_nothing_is_taken_before_the_registry_was_read(self) -> None:
        bench = Bench()
        state = MasterState(MasterOptions(), Ids(bytes(16)), bench.allocator)
        state.handle(0.0, Connected(PeerId(1), PeerKind.AGENT, "127.0.0.1:1"))
        self.assertEqual(
            [Answer(PeerId(1), 5, 503, "Master has not finished recovery")],
            state.handle(0.0, Received(PeerId(1), registration(), 5)),
        )


class Changing(SynchronousTestCase):
    """UpdateSlaveMessage, executors, messages."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe(AWARE)

    def _update(self, oversubscribed: str | None = None) -> UpdateSlaveMessage:
        message = UpdateSlaveMessage()
        message.slave_id.value = self.agent_id
        message.update_oversubscribed_resources = oversubscribed is not None
        message.resource_version_uuid.value = b"another-version!"
        for one in resources(oversubscribed) if oversubscribed else ():
            one.revocable.SetInParent()
            message.oversubscribed_resources.append(one)
        return message

    def test_resource_version_goes_into_launches(self) -> None:
        self.assertEqual([], self.bench.receive(self.agent, self._update()))
        offer = self.bench.offer(self.framework)
        (message,) = sent(self.bench.launch(self.framework, offer, task(offer, "t")), self.agent)
        self.assertEqual(b"another-version!", message.resource_version_uuids[0].uuid.value)

    def test_oversubscribed_resources_change_the_total(self) -> None:
        self.bench.receive(self.agent, self._update("cpus:2"))
        total = self.bench.state.agents[self.agent_id].total
        self.assertEqual("cpus:4; mem:2048; cpus{REV}:2", str(total))
        self.bench.receive(self.agent, self._update(""))
        self.assertEqual("cpus:4; mem:2048", str(self.bench.state.agents[self.agent_id].total))

    def test_stranger_cannot_change_an_agent(self) -> None:
        stranger = self.bench.connect(PeerKind.AGENT)
        self.assertEqual(403, self.bench.call(stranger, self._update("cpus:2"))[0])

    def _with_executor(self) -> None:
        offer = self.bench.offer(self.framework)
        info = task(offer, "t", executor=executor("e", amounts="cpus:0.5;mem:32"))
        self.bench.launch(self.framework, offer, info)

    def test_exited_executor_frees_its_resources_and_is_told(self) -> None:
        self._with_executor()
        message = ExitedExecutorMessage(status=256)
        message.slave_id.value = self.agent_id
        message.framework_id.value = self.framework_id
        message.executor_id.value = "e"
        (event,) = events(self.bench.receive(self.agent, message), self.framework)
        self.assertEqual(Event.FAILURE, event.type)
        self.assertEqual(
            (self.agent_id, "e", 256),
            (event.failure.agent_id.value, event.failure.executor_id.value, event.failure.status),
        )
        self.assertEqual(
            "cpus:1; mem:64",
            str(self.bench.state.agents[self.agent_id].used()[self.framework_id]["*"]),
        )
        self.assertEqual([], self.bench.receive(self.agent, message))

    def test_messages_go_both_ways(self) -> None:
        call = scheduler_call(Call.MESSAGE, self.framework_id)
        call.message.agent_id.value = self.agent_id
        call.message.executor_id.value = "e"
        call.message.data = b"down"
        expected = FrameworkToExecutorMessage(data=b"down")
        expected.slave_id.value = self.agent_id
        expected.framework_id.value = self.framework_id
        expected.executor_id.value = "e"
        self.assertEqual([Send(self.agent, expected)], self.bench.receive(self.framework, call))
        up = ExecutorToFrameworkMessage(data=b"up")
        up.slave_id.value = self.agent_id
        up.framework_id.value = self.framework_id
        up.executor_id.value = "e"
        (event,) = events(self.bench.receive(self.agent, up), self.framework)
        self.assertEqual(
            (Event.MESSAGE, b"up", "e", self.agent_id),
            (
                event.type,
                event.message.data,
                event.message.executor_id.value,
                event.message.agent_id.value,
            ),
        )

    def test_message_to_an_agent_that_is_away_is_lost(self) -> None:
        call = scheduler_call(Call.MESSAGE, self.framework_id)
        call.message.agent_id.value = self.agent_id
        call.message.executor_id.value = "e"
        call.message.data = b"down"
        self.bench.lose(self.agent)
        self.assertEqual([], self.bench.receive(self.framework, call))
        self.assertEqual(1, self.bench.state.counters.invalid_framework_to_executor_messages)

    def test_executor_is_shut_down_on_demand(self) -> None:
        call = scheduler_call(Call.SHUTDOWN, self.framework_id)
        call.shutdown.agent_id.value = self.agent_id
        call.shutdown.executor_id.value = "e"
        (message,) = sent(self.bench.receive(self.framework, call), self.agent)
        self.assertEqual(
            ("e", self.framework_id), (message.executor_id.value, message.framework_id.value)
        )


class Leaving(SynchronousTestCase):
    """Links that break, and agents that say good-bye."""

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, self.agent_id = self.bench.register()

    def test_tasks_without_checkpointing_are_lost_with_the_link(self) -> None:
        framework, _ = self.bench.subscribe(AWARE)
        self.bench.running(self.agent, framework, "t")
        effects = self.bench.lose(self.agent)
        (status,) = statuses(effects, framework)
        expected = TaskStatus(
            state="TASK_LOST",
            message="Agent agent.example disconnected",
            source=TaskStatus.SOURCE_MASTER,
            reason=TaskStatus.REASON_AGENT_DISCONNECTED,
            timestamp=self.bench.now,
        )
        expected.task_id.value = "t"
        expected.agent_id.value = self.agent_id
        self.assertEqual(expected, status)

    def test_tasks_with_checkpointing_wait(self) -> None:
        framework, framework_id = self.bench.subscribe(AWARE, checkpoint=True)
        self.bench.running(self.agent, framework, "t")
        self.assertEqual([], self.bench.lose(self.agent))
        self.assertIn("t", self.bench.state.frameworks[framework_id].tasks)

    def test_offers_are_rescinded_with_the_link(self) -> None:
        framework, _ = self.bench.subscribe()
        offer = self.bench.offer(framework)
        (event,) = events(self.bench.lose(self.agent), framework)
        self.assertEqual(Event.RESCIND, event.type)
        self.assertEqual(offer.id.value, event.rescind.offer_id.value)
        self.assertEqual([], events(self.bench.run_until(5), framework))

    def test_executors_without_checkpointing_go_with_the_link(self) -> None:
        framework, _ = self.bench.subscribe()
        offer = self.bench.offer(framework)
        self.bench.launch(framework, offer, task(offer, "t", executor=executor("e")))
        self.bench.lose(self.agent)
        self.assertEqual({}, self.bench.state.agents[self.agent_id].executors)

    def test_agent_that_unregisters_is_removed(self) -> None:
        framework, _ = self.bench.subscribe(AWARE, checkpoint=True)
        self.bench.running(self.agent, framework, "t")
        message = UnregisterSlaveMessage()
        message.slave_id.value = self.agent_id
        effects = self.bench.receive(self.agent, message)
        self.assertEqual([f"-agents/{self.agent_id}"], stores(effects))
        (status,) = statuses(effects, framework)
        self.assertEqual(
            ("TASK_LOST", "Agent agent.example removed: the agent unregistered", 11),
            (
                told(effects, framework)[0][1],
                status.message,
                status.reason,
            ),
        )
        self.assertEqual(
            [self.agent_id],
            [event.failure.agent_id.value for event in events(effects, framework, Event.FAILURE)],
        )
        self.assertEqual([], drops(effects))
        self.assertEqual({}, self.bench.state.agents)

    def test_disconnected_agent_is_unreachable_after_five_missed_pings(self) -> None:
        framework, _ = self.bench.subscribe(AWARE, checkpoint=True)
        self.bench.running(self.agent, framework, "t")
        self.bench.pong(self.agent)
        self.bench.lose(self.agent)
        effects = self.bench.run_until(89.9)
        self.assertEqual([], told(effects, framework))
        effects = self.bench.run_until(90)
        self.assertEqual([("t", "TASK_UNREACHABLE")], told(effects, framework))
