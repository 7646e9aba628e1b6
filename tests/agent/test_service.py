"""The service round the state: links in memory, sandboxes on disk, doubles of containers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import orjson
from google.protobuf.message import Message
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.testing import MemoryReactorClock

from mesoskit.agent.containers.memory import MemoryContainers, MemoryLauncher
from mesoskit.agent.hands import Hands
from mesoskit.agent.options import CLEANUP, AgentOptions
from mesoskit.agent.phase import Phase
from mesoskit.agent.sandboxes import Sandboxes
from mesoskit.agent.service import AgentService
from mesoskit.agent.users import Users
from mesoskit.cluster.memory import MemoryStore
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskState
from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.link import CallID, Hello, Link
from mesoskit.wire.memory import Pipe, connect
from tests.agent.bench import (
    AGENT_ID,
    FRAMEWORK_ID,
    OPTIONS,
    SEED,
    acknowledgement,
    custom_executor,
    framework,
    task,
)
from tests.base import SynchronousTestCase
from tests.web.asking import ask

T = TypeVar("T")


def at_once(function: Callable[[], T]) -> Deferred[T]:
    """Run in this very thread."""
    return maybeDeferred(function)


class NoFetcher:
    """Nothing is to be fetched here."""

    def start(self) -> Deferred[None]:
        return succeed(None)

    def metrics(self) -> dict[str, float]:
        return {}

    def fetch(self, *_: object) -> Deferred[None]:
        raise AssertionError("nothing was to be fetched")

    def cancel(self, container: object) -> None:
        """Nothing to give up."""

    def stop(self) -> None:
        """Nothing to give up."""


class Peer:
    """The other end of a link."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.messages: list[Any] = []
        self.lost_why: str | None = None

    def connected(self, link: Link) -> None:
        self.link = link

    def received(self, link: Link, message: Message, call: CallID | None) -> None:
        self.messages.append(message)

    def congestion(self, link: Link, congested: bool) -> None:
        """Of no interest."""

    def lost(self, link: Link, why: str) -> None:
        self.lost_why = why

    def states(self) -> list[str]:
        return [
            TaskState.Name(one.update.status.state)
            for one in self.messages
            if isinstance(one, internal.StatusUpdateMessage)
        ]


class World:
    """A reactor, a launcher and a store, in which agents live and die."""

    def __init__(self, work_dir: str) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.reactor.advance(1000.0)
        self.launcher = MemoryLauncher()
        self.store = MemoryStore()
        self.ended: list[tuple[str, int]] = []
        self.options = replace(OPTIONS, work_dir=work_dir, runtime_dir="/r", switch_user=False)
        self.pipes: list[Pipe] = []

    def hands(self, reactor: Any, options: AgentOptions, tell: Callable[[Any], None]) -> Hands:
        users = Users(reactor, at_once)
        hands = Hands(users, Sandboxes(options.work_dir, at_once), NoFetcher(), tell)
        hands.containers = MemoryContainers(self.launcher, hands.exited)
        return hands

    def agent(self, *endpoints: str) -> AgentService:
        service = AgentService(
            self.reactor,
            self.options,
            self.store,
            "127.0.0.1:5050",
            endpoints or ("tcp:5051:interface=127.0.0.1",),
            make_hands=self.hands,
            stopped=lambda why, status: self.ended.append((why, status)),
            seed=SEED,
        )
        service.startService()
        self.turn()
        return service

    def connect(self, service: AgentService, role: int, token: str | None = None) -> Peer:
        peer = Peer()
        hello = Hello(role, "test", token=token)
        pipe = connect(service.links, peer, Hello(Role.AGENT, "mesoskit"), hello)
        self.pipes.append(pipe)
        self.turn()
        return peer

    def turn(self, seconds: float = 0.0) -> None:
        """Let everything that can happen happen."""
        self.reactor.advance(seconds)
        for _ in range(12):
            for pipe in self.pipes:
                pipe.pump()
            self.launcher.turn()
            self.reactor.advance(0)

    def register(self, service: AgentService) -> Peer:
        master = self.connect(service, Role.MASTER)
        self.turn(2.0)
        if isinstance(master.messages[-1], internal.RegisterSlaveMessage):
            answer: Any = internal.SlaveRegisteredMessage()
        else:
            answer = internal.SlaveReregisteredMessage()
        answer.slave_id.value = AGENT_ID
        self.send(master, answer)
        return master

    def send(self, peer: Peer, message: Message) -> None:
        assert peer.link is not None
        peer.link.send(message)
        self.turn()

    def acknowledge(self, master: Peer) -> None:
        done = 0
        while done < len(master.messages):
            message = master.messages[done]
            done += 1
            if isinstance(message, internal.StatusUpdateMessage):
                self.send(master, acknowledgement(message.update))


class ServiceTests(SynchronousTestCase):
    """An agent as its surroundings see it."""

    def setUp(self) -> None:
        self.work_dir = os.path.realpath(self.mktemp())
        os.makedirs(self.work_dir)
        self.world = World(self.work_dir)

    def run_task(
        self, master: Peer, command: str, who: FrameworkInfo | None = None, **fields: Any
    ) -> None:
        info = task("t", command, **fields)
        message = internal.RunTaskMessage(framework=who or framework(), task=info)
        self.world.send(master, message)

    def test_command_runs_in_its_sandbox_to_its_end(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "exit 3")
        self.world.acknowledge(master)
        self.assertEqual(master.states(), ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"])
        directory = f"{self.work_dir}/slaves/{AGENT_ID}/frameworks/{FRAMEWORK_ID}/executors/t/runs"
        (run,) = set(os.listdir(directory)) - {"latest"}
        self.assertEqual(os.readlink(f"{directory}/latest"), f"{directory}/{run}")
        agent = f"{self.work_dir}/slaves"
        self.assertEqual(os.readlink(f"{agent}/latest"), f"{agent}/{AGENT_ID}")
        self.assertEqual(self.world.launcher.ended, {})

    def test_agent_that_is_killed_comes_back_and_ends_what_ran(self) -> None:
        master = self.world.register(self.world.agent())
        self.run_task(master, "sleep 1000")
        self.world.acknowledge(master)
        self.assertEqual(len(self.world.launcher.running), 1)
        self.world.pipes.clear()
        # As after kill -9: nobody stops the first one; nothing reaches it any more.
        again = self.world.agent()
        self.assertEqual(self.world.launcher.running, {})
        master = self.world.register(again)
        self.world.acknowledge(master)
        self.assertIsInstance(master.messages[0], internal.ReregisterSlaveMessage)
        self.assertEqual(master.states(), ["TASK_LOST"])

    def test_agent_that_cannot_link_to_its_directory_registers_all_the_same(self) -> None:
        with open(f"{self.work_dir}/slaves", "w"):
            pass
        service = self.world.agent()
        self.world.register(service)
        self.assertEqual(service.state.agent_id, AGENT_ID)

    def test_executor_at_the_door(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "", executor=custom_executor())
        ((_, spec),) = self.world.launcher.specs.items()
        token = dict(spec.environment)["MESOSKIT_EXECUTOR_TOKEN"]
        executor = self.world.connect(service, Role.EXECUTOR, token)
        self.assertIsNotNone(executor.link)
        call = Call(type=Call.SUBSCRIBE, subscribe={})
        call.executor_id.value, call.framework_id.value = "e", FRAMEWORK_ID
        self.world.send(executor, call)
        self.assertEqual([one.type for one in executor.messages], [Event.SUBSCRIBED, Event.LAUNCH])

    def test_stranger_at_the_door_is_told_why(self) -> None:
        service = self.world.agent()
        stranger = self.world.connect(service, Role.EXECUTOR, "wrong")
        self.assertIn("the token is none", stranger.lost_why or "")

    def test_call_is_answered(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "", executor=custom_executor())
        ((_, spec),) = self.world.launcher.specs.items()
        token = dict(spec.environment)["MESOSKIT_EXECUTOR_TOKEN"]
        executor = self.world.connect(service, Role.EXECUTOR, token)
        call = Call(type=Call.MESSAGE, message={"data": b"up"})
        call.executor_id.value, call.framework_id.value = "e", FRAMEWORK_ID
        assert executor.link is not None
        answered = executor.link.call(call)
        self.world.turn()
        why = self.failureResultOf(answered).getErrorMessage()
        self.assertEqual(why, "Executor is not subscribed (403)")

    def test_agent_that_is_shut_down_says_so_once(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.world.send(master, internal.ShutdownMessage(message="gone"))
        self.assertEqual(self.world.ended, [("The master asked the agent to shut down: gone", 0)])
        self.assertEqual(self.successResultOf(self.world.store.load()), {})

    def test_operator_can_end_it_for_good(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        service.shut_down("SIGUSR1")
        self.world.turn()
        self.assertIsInstance(master.messages[-1], internal.UnregisterSlaveMessage)
        self.assertEqual(self.world.ended, [("SIGUSR1", 0)])

    def test_stopped_agent_leaves_what_runs_and_its_next_life_has_it_again(self) -> None:
        first = self.world.agent()
        master = self.world.register(first)
        info = framework()
        info.checkpoint = True
        self.run_task(master, "sleep 1000", info)
        self.world.acknowledge(master)
        first.stopService()
        self.world.turn()
        self.assertEqual(master.states()[-1], "TASK_RUNNING")
        self.assertEqual(len(self.world.launcher.running), 1)
        self.assertIsNotNone(master.lost_why)
        self.world.reactor.advance(1000)
        second = self.world.agent()
        master = self.world.register(second)
        self.assertEqual([task.state for task in master.messages[0].tasks], [1])
        (container,) = self.world.launcher.running
        self.world.launcher.finish(container, 0)
        self.world.turn()
        self.assertEqual(master.states(), ["TASK_FINISHED"])

    def test_stopped_agent_ends_what_would_not_go_on_and_closes_its_links(self) -> None:
        self.world.options = replace(self.world.options, recover=CLEANUP)
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "sleep 1000")
        self.world.acknowledge(master)
        service.stopService()
        self.world.turn()
        self.assertEqual(master.states()[-1], "TASK_LOST")
        self.assertEqual(len(self.world.launcher.running), 0)
        self.assertIsNotNone(master.lost_why)
        self.world.reactor.advance(1000)

    def test_stopping_waits_until_the_master_has_heard_all_of_it(self) -> None:
        service = self.world.agent()
        self.world.register(service)
        pipes, self.world.pipes = self.world.pipes, []
        stopped = service.stopService()
        self.world.turn()
        self.assertNoResult(stopped)
        self.world.pipes = pipes
        self.world.turn()
        self.successResultOf(stopped)

    def test_stopping_waits_for_a_silent_master_no_longer_than_some_seconds(self) -> None:
        service = self.world.agent()
        self.world.register(service)
        self.world.pipes.clear()
        stopped = service.stopService()
        self.world.turn()
        self.world.turn(6.0)
        self.successResultOf(stopped)

    def test_usage_and_disk_are_read_from_time_to_time(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "sleep 1000")
        self.world.turn(61)
        self.assertEqual(len(service.state.usage), 1)
        self.assertIn("slave/executor_directory_max_allowed_age_secs", service.metrics())

    def get(self, service: AgentService, path: str) -> Any:
        answer = ask(service.port, f"GET {path}", self.world.turn)
        return answer.status, answer.body

    def test_pages(self) -> None:
        service = self.world.agent()
        master = self.world.register(service)
        self.run_task(master, "sleep 1000")
        self.world.turn(16)
        for path in ("/health", "/slave(1)/health", "/slave%281%29/health"):
            self.assertEqual(self.get(service, path), (200, b""))
        _, body = self.get(service, "/version")
        self.assertEqual(orjson.loads(body)["version"], "1.12.0")
        _, body = self.get(service, "/metrics/snapshot")
        metrics = orjson.loads(body)
        self.assertEqual(metrics["slave/tasks_running"], 1)
        self.assertEqual(metrics["slave/cpus_used"], 1.0)
        self.assertEqual(metrics["slave/cpus_total"], 4.0)
        self.assertEqual(metrics["slave/registered"], 1)
        _, body = self.get(service, "/containers")
        (container,) = orjson.loads(body)
        self.assertEqual(container["source"], "t")
        self.assertEqual(container["statistics"]["processes"], 1)
        self.assertEqual(self.get(service, "/nothing")[0], 404)

    def test_agent_that_waits_for_its_executors_shows_no_half_of_its_state(self) -> None:
        service = self.world.agent()
        service.state.phase = Phase.RECOVERING
        answer = self.get(service, "/state")
        self.assertEqual(answer, (503, b"Agent has not finished recovery"))
        self.assertEqual(self.get(service, "/health")[0], 200)
