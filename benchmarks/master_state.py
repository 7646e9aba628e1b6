"""How many task lives a second pass through the master's state alone: no sockets, no parsing.

A life is: launched by an ACCEPT, RUNNING, acknowledged, FINISHED, acknowledged. One framework
and 100 agents that this program plays; offers, allocator and all. Every event is made before
the clock starts, except for what depends on an answer (offer ids).

    .venv/bin/python benchmarks/master_state.py [--lives 20000] [--per-offer 10] [--profile]
"""

import argparse
import cProfile
import gc
import pstats
from time import process_time

from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.options import Options
from mesoskit.master.options import MasterOptions
from mesoskit.master.state import MasterState
from mesoskit.messages.internal_pb2 import (
    RegisterSlaveMessage,
    RunTaskMessage,
    StatusUpdateMessage,
)
from mesoskit.messages.mesos_pb2 import TASK_FINISHED, TASK_RUNNING, Offer, Resource, Value
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.events import Connected, PeerKind, Received, Recovered, Send, Woke
from mesoskit.model.ids import Ids, PeerId

FRAMEWORK = PeerId(1)
FIRST_AGENT = 2


class Bench:
    """The master's state, and everybody it talks to."""

    def __init__(self, agents: int, per_offer: int) -> None:
        self.state = MasterState(
            MasterOptions(), Ids(bytes(16)), HierarchicalAllocator(Options()), 0.0
        )
        self.now = 0.0
        self.per_offer = per_offer
        self.launched = self.ended = 0
        self.spent = 0.0
        self.events = 0
        self.uuids = Ids(b"uuids")
        self.run(Recovered({}))
        self.agent_ids: dict[str, PeerId] = {}
        for number in range(agents):
            peer = PeerId(FIRST_AGENT + number)
            self.run(Connected(peer, PeerKind.AGENT, f"127.0.0.{number % 250 + 1}:40000"))
            message = RegisterSlaveMessage(version="1.11.0")
            message.slave.hostname = f"agent{number}"
            message.slave.resources.extend(
                [scalar("cpus", 64), scalar("mem", 65536), scalar("disk", 100000)]
            )
            for capability in range(1, 9):
                message.agent_capabilities.add().type = capability  # type: ignore[assignment]
            message.resource_version_uuid.value = self.uuids.bytes()
            for effect in self.run(Received(peer, message)):
                if isinstance(effect, Send) and hasattr(effect.message, "slave_id"):
                    self.agent_ids[effect.message.slave_id.value] = peer
        self.run(Connected(FRAMEWORK, PeerKind.FRAMEWORK, "127.0.0.1:50000"))
        call = Call(type=Call.SUBSCRIBE)
        call.subscribe.framework_info.user = "root"
        call.subscribe.framework_info.name = "bench"
        self.run(Received(FRAMEWORK, call, 1))
        self.framework_id = self.state.info.id + "-0000"

    def run(self, event: object) -> list[object]:
        """Give the state an event; count only what it spends."""
        now = self.now
        began = process_time()
        effects = self.state.handle(now, event)
        self.spent += process_time() - began
        self.events += 1
        return effects

    def accept(self, offer: Offer, lives: int) -> Call:
        """Return the ACCEPT of an offer with so many launches."""
        call = Call(type=Call.ACCEPT)
        call.framework_id.value = self.framework_id
        call.accept.offer_ids.add().value = offer.id.value
        call.accept.filters.refuse_seconds = 0
        launch = call.accept.operations.add()
        launch.type = Offer.Operation.LAUNCH
        for _ in range(lives):
            self.launched += 1
            task = launch.launch.task_infos.add()
            task.name = task.task_id.value = f"task-{self.launched}"
            task.agent_id.value = offer.agent_id.value
            task.resources.extend([scalar("cpus", 0.1), scalar("mem", 32)])
            task.command.value = "true"
        return call

    def update(self, run: RunTaskMessage, state: int, uuid: bytes) -> StatusUpdateMessage:
        """Return what an agent says of a task."""
        message = StatusUpdateMessage(pid="slave(1)@127.0.0.1:5051")
        update = message.update
        update.framework_id.value = self.framework_id
        update.slave_id.value = run.task.agent_id.value
        update.executor_id.value = run.task.task_id.value
        update.timestamp = self.now
        update.uuid = uuid
        update.latest_state = state  # type: ignore[assignment]
        status = update.status
        status.task_id.value = run.task.task_id.value
        status.agent_id.value = run.task.agent_id.value
        status.executor_id.value = run.task.task_id.value
        status.state = state  # type: ignore[assignment]
        status.source = 2  # type: ignore[assignment]
        status.timestamp = self.now
        status.uuid = uuid
        status.container_status.container_id.value = "937aff84-5a4c-4a48-a7eb-404e04143df6"
        return message

    def acknowledge(self, run: RunTaskMessage, uuid: bytes) -> Call:
        """Return the framework's acknowledgement."""
        call = Call(type=Call.ACKNOWLEDGE)
        call.framework_id.value = self.framework_id
        call.acknowledge.agent_id.value = run.task.agent_id.value
        call.acknowledge.task_id.value = run.task.task_id.value
        call.acknowledge.uuid = uuid
        return call

    def live(self, offers: list[Offer], lives: int) -> None:
        """Carry tasks through their lives, those of all offers side by side."""
        running: list[RunTaskMessage] = []
        for offer in offers:
            count = min(self.per_offer, lives - self.launched)
            if count <= 0:
                continue
            for effect in self.run(Received(FRAMEWORK, self.accept(offer, count), 7)):
                if isinstance(effect, Send) and isinstance(effect.message, RunTaskMessage):
                    running.append(effect.message)
        for after in (TASK_RUNNING, TASK_FINISHED):
            events: list[Received] = []
            for run in running:
                uuid = self.uuids.bytes()
                peer = self.agent_ids[run.task.agent_id.value]
                events.append(Received(peer, self.update(run, after, uuid)))
                events.append(Received(FRAMEWORK, self.acknowledge(run, uuid), 7))
            began = process_time()
            handle, now = self.state.handle, self.now
            for event in events:
                handle(now, event)
            self.spent += process_time() - began
            self.events += len(events)
        self.ended += len(running)

    def lives(self, lives: int) -> None:
        """Go on until so many tasks have ended."""
        while self.ended < lives:
            deadline = self.state.deadline()
            assert deadline is not None
            self.now = max(self.now, deadline)
            offers: list[Offer] = []
            for effect in self.run(Woke()):
                if isinstance(effect, Send):
                    if isinstance(effect.message, Event) and effect.message.type == Event.OFFERS:
                        offers.extend(effect.message.offers.offers)
                    elif effect.peer != FRAMEWORK:
                        agent = self.state.peers[effect.peer].agent
                        assert agent is not None
                        agent.missed, agent.pinged = 0, False
            if offers:
                self.live(offers, lives)


def scalar(name: str, value: float) -> Resource:
    """Return a scalar resource."""
    return Resource(name=name, type=Value.SCALAR, scalar=Value.Scalar(value=value))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lives", type=int, default=20000)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--per-offer", type=int, default=10)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    bench = Bench(options.agents, options.per_offer)
    bench.lives(options.agents * options.per_offer)
    bench.spent, bench.events = 0.0, 0
    begun = bench.ended
    gc.collect()
    gc.freeze()
    profiler = cProfile.Profile() if options.profile else None
    if profiler is not None:
        profiler.enable()
    bench.lives(begun + options.lives)
    if profiler is not None:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    lives = bench.ended - begun
    print(
        f"{lives} lives on {options.agents} agents, {options.per_offer} an offer:"
        f" {bench.spent / lives * 1e6:.1f} us a life,"
        f" {lives / bench.spent:.0f} lives/s, {bench.events / lives:.2f} events a life"
    )


if __name__ == "__main__":
    main()
