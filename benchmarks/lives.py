"""Whole task lives a second through a real master over real sockets.

A life is: accept -> RUNNING -> FINISHED, every status acknowledged. The master is a
C{twistd} process; agents and framework are played by this process, which starts no tasks.
A closed loop keeps up to 4,000 tasks in flight.

    python benchmarks/lives.py [--agents 10 100 1000] [--lives 20000] [--runs 3]

With few tasks in flight the same tells how long a task waits for RUNNING where nothing is in
its way:

    python benchmarks/lives.py --agents 100 --in-flight 1 10 100 --lives 1000
"""

import argparse
import gc
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any

from daemons import Daemon, in_child, table
from google.protobuf.message import Message
from twisted.internet import epollreactor

from mesoskit.messages import internal_pb2, mesos_pb2, scheduler_pb2
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.pulse import Pulse
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import dial

AGENT, FRAMEWORK = Hello(role=2, software="bench"), Hello(role=3, software="bench")
CPUS = 40
SETTINGS = StreamSettings()


def scalar(name: str, value: float) -> mesos_pb2.Resource:
    """Return a scalar resource."""
    resource = mesos_pb2.Resource(name=name, type=mesos_pb2.Value.SCALAR)
    resource.scalar.value = value
    return resource


class Agent:
    """An agent that runs every task at once, and ends it when RUNNING was acknowledged."""

    def __init__(self, number: int, cpus: int, registered: Callable[[], None]) -> None:
        self._number = number
        self._cpus = cpus
        self._registered = registered
        self._id = mesos_pb2.AgentID()
        self._running: dict[bytes, internal_pb2.StatusUpdateMessage] = {}
        self._count = 0

    def connected(self, link: Link) -> None:
        message = internal_pb2.RegisterSlaveMessage(version="1.12.0")
        info = message.slave
        info.hostname = f"agent-{self._number}"
        info.port = 5051
        info.resources.extend([scalar("cpus", self._cpus), scalar("mem", 32.0 * self._cpus)])
        for kind in (
            mesos_pb2.AgentInfo.Capability.MULTI_ROLE,
            mesos_pb2.AgentInfo.Capability.HIERARCHICAL_ROLE,
            mesos_pb2.AgentInfo.Capability.RESERVATION_REFINEMENT,
        ):
            message.agent_capabilities.add().type = kind
        link.send(message)

    def received(self, link: Link, message: Message, call: int | None) -> None:
        if isinstance(message, internal_pb2.RunTaskMessage):
            self._run(link, message)
        elif isinstance(message, internal_pb2.StatusUpdateAcknowledgementMessage):
            finished = self._running.pop(message.uuid, None)
            if finished is not None:
                link.send(finished)
        elif isinstance(message, internal_pb2.PingSlaveMessage):
            link.send(internal_pb2.PongSlaveMessage())
        elif isinstance(message, internal_pb2.SlaveRegisteredMessage):
            self._id = message.slave_id
            self._registered()

    def _run(self, link: Link, run: internal_pb2.RunTaskMessage) -> None:
        running = self._update(run, mesos_pb2.TASK_RUNNING)
        self._running[running.update.uuid] = self._update(run, mesos_pb2.TASK_FINISHED)
        link.send(running)

    def _update(
        self, run: internal_pb2.RunTaskMessage, state: mesos_pb2.TaskState
    ) -> internal_pb2.StatusUpdateMessage:
        self._count += 1
        # As much of a version 4 UUID as the master looks at.
        uuid = b"bench-\x40\x00\x80" + self._number.to_bytes(3) + self._count.to_bytes(4)
        message = internal_pb2.StatusUpdateMessage(pid="slave(1)@127.0.0.1:5051")
        update = message.update
        update.framework_id.CopyFrom(run.framework.id)
        update.slave_id.CopyFrom(self._id)
        update.timestamp = 1.0
        update.uuid = uuid
        update.latest_state = state
        status = update.status
        status.task_id.CopyFrom(run.task.task_id)
        status.agent_id.CopyFrom(self._id)
        status.state = state
        status.source = mesos_pb2.TaskStatus.SOURCE_EXECUTOR
        status.timestamp = 1.0
        status.uuid = uuid
        return message

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None: ...


class Framework:
    """A scheduler that launches no-op tasks as long as any are to be launched."""

    def __init__(self, lives: int, in_flight: int, done: Callable[[], None]) -> None:
        self._lives = lives
        self._in_flight = in_flight
        self._done = done
        self._launched = self._finished = 0
        self._id = mesos_pb2.FrameworkID()
        self._started: dict[str, float] = {}
        self.waits: list[float] = []
        self.begun = 0.0
        self.warm = 0
        self.on_warm: Callable[[], None] = lambda: None

    def connected(self, link: Link) -> None:
        call = scheduler_pb2.Call(type=scheduler_pb2.Call.SUBSCRIBE)
        info = call.subscribe.framework_info
        info.user, info.name, info.failover_timeout = "nobody", "bench", 0
        info.roles.append("*")
        info.capabilities.add().type = mesos_pb2.FrameworkInfo.Capability.MULTI_ROLE
        info.capabilities.add().type = mesos_pb2.FrameworkInfo.Capability.PARTITION_AWARE
        link.send(call)

    def received(self, link: Link, message: Message, call: int | None) -> None:
        assert isinstance(message, scheduler_pb2.Event)
        kind = message.type
        if kind == scheduler_pb2.Event.UPDATE:
            self._update(link, message.update.status)
        elif kind == scheduler_pb2.Event.OFFERS:
            for offer in message.offers.offers:
                self._offer(link, offer)
        elif kind == scheduler_pb2.Event.SUBSCRIBED:
            self._id = message.subscribed.framework_id
        elif kind == scheduler_pb2.Event.ERROR:
            raise RuntimeError(message.error.message)

    def _offer(self, link: Link, offer: mesos_pb2.Offer) -> None:
        cpus = next(int(r.scalar.value) for r in offer.resources if r.name == "cpus")
        flying = self._launched - self._finished
        count = min(cpus, self._in_flight - flying, self._lives - self._launched)
        call = scheduler_pb2.Call()
        call.framework_id.CopyFrom(self._id)
        if count <= 0:
            call.type = scheduler_pb2.Call.DECLINE
            call.decline.offer_ids.append(offer.id)
            call.decline.filters.refuse_seconds = 0
            link.send(call)
            return
        call.type = scheduler_pb2.Call.ACCEPT
        accept = call.accept
        accept.offer_ids.append(offer.id)
        accept.filters.refuse_seconds = 0
        operation = accept.operations.add()
        operation.type = mesos_pb2.Offer.Operation.LAUNCH
        now = perf_counter()
        for _ in range(count):
            self._launched += 1
            task = operation.launch.task_infos.add()
            name = f"task-{self._launched}"
            task.name = task.task_id.value = name
            task.agent_id.CopyFrom(offer.agent_id)
            task.command.value = "true"
            for resource_name, value in (("cpus", 1.0), ("mem", 32.0)):
                resource = task.resources.add()
                resource.name, resource.type = resource_name, mesos_pb2.Value.SCALAR
                resource.scalar.value = value
            self._started[name] = now
        link.send(call)

    def _update(self, link: Link, status: mesos_pb2.TaskStatus) -> None:
        name = status.task_id.value
        if status.state == mesos_pb2.TASK_RUNNING:
            self.waits.append(perf_counter() - self._started.pop(name))
        elif status.state == mesos_pb2.TASK_FINISHED:
            self._finished += 1
        else:
            raise RuntimeError(f"{name}: {status}")
        call = scheduler_pb2.Call(type=scheduler_pb2.Call.ACKNOWLEDGE)
        call.framework_id.CopyFrom(self._id)
        acknowledge = call.acknowledge
        acknowledge.agent_id.CopyFrom(status.agent_id)
        acknowledge.task_id.CopyFrom(status.task_id)
        acknowledge.uuid = status.uuid
        link.send(call)
        self.count()

    def count(self) -> None:
        """Look at how many have finished."""
        if self._finished == self.warm:
            self.waits.clear()
            self.on_warm()
        if self._finished == self._lives:
            self._done()

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None: ...


def dial_natively(clock: Any, address: str, framework: Framework) -> Any:
    """Connect a framework over the native stream."""
    return dial(address, framework, FRAMEWORK, clock=clock)


def measure(
    agents: int,
    lives: int,
    in_flight: int,
    make: Callable[..., Framework] = Framework,
    join: Callable[[Any, str, Any], Any] = dial_natively,
) -> dict[str, float]:
    """
    Start a master, and measure one round with it.

    @param make: makes the framework.
    @param join: connects it to the master.
    """
    gc.disable()
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    clock: Any = reactor
    with Daemon("mesos-master", "--registry=in_memory") as master:
        pulse = Pulse(clock, SETTINGS.heartbeat / 2)
        marks: dict[str, float] = {}
        registered = 0
        warm = lives // 5

        def mark(name: str) -> None:
            marks[f"{name} at"] = perf_counter()
            marks[f"{name} master"] = master.cpu()
            marks[f"{name} own"] = sum(os.times()[:2])

        def done() -> None:
            mark("end")
            clock.callLater(0.2, clock.stop)

        framework = make(lives + warm, in_flight, done)
        framework.warm = warm
        framework.on_warm = lambda: mark("begin")

        def one_more() -> None:
            nonlocal registered
            registered += 1
            if registered == agents:
                clock.callLater(0.2, subscribe)

        def subscribe() -> None:
            join(clock, master.address, framework).addErrback(fatal)

        def fatal(failure: Any) -> None:
            print(failure.getTraceback(), file=sys.stderr)
            os._exit(1)

        cpus = max(CPUS, 4_000 // agents)
        for number in range(agents):
            agent = Agent(number, cpus, one_more)
            dial(master.address, agent, AGENT, clock=clock, pulse=pulse).addErrback(fatal)
        clock.callLater(120, os._exit, 1)
        clock.run()
        seconds = marks["end at"] - marks["begin at"]
        waits = sorted(framework.waits)
        return {
            "rate": lives / seconds,
            "p50": waits[len(waits) // 2],
            "p99": waits[len(waits) * 99 // 100],
            "master": (marks["end master"] - marks["begin master"]) / lives * 1000,
            "own": (marks["end own"] - marks["begin own"]) / lives * 1000,
        }


def main() -> None:
    """Run all rounds, one after the other, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--lives", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[4_000])
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    rows = []
    for agents, in_flight in product(chosen.agents, chosen.in_flight):
        measured = partial(measure, agents, chosen.lives, in_flight)
        results = [in_child(measured) for _ in range(chosen.runs)]
        median = {key: statistics.median(r[key] for r in results) for key in results[0]}
        rows.append(
            [
                str(agents),
                f"{in_flight:,}",
                f"{median['rate']:,.0f}",
                f"{max(r['rate'] for r in results):,.0f}",
                f"{median['p50'] * 1000:.1f}",
                f"{median['p99'] * 1000:.1f}",
                f"{median['master']:.3f}",
                f"{median['own']:.3f}",
            ]
        )
    table(
        f"Whole task lives, {chosen.lives:,} a run, median of {chosen.runs} runs",
        [
            "agents",
            "in flight",
            "lives/s",
            "best",
            "RUNNING p50 ms",
            "p99 ms",
            "master CPU s/1000",
            "harness CPU s/1000",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
