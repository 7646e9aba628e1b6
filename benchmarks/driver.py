"""What a framework's driver costs: CPU of its own process for each life of a task.

A master that knows only this script runs in a process of its own and answers every launch with
STARTING, RUNNING and FINISHED; the driver, over TCP on 127.0.0.1, accepts offers, acknowledges,
and waits for the end of each task by its handle. Then executors are started, one after the other,
by an agent of the same kind, and shut down as soon as they have subscribed. Run as
C{python benchmarks/driver.py [lives]}.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from mesoskit.driver import Framework, FrameworkInfo, Offer, Scheduler, command_task
from mesoskit.messages import executor_pb2
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.link import Hello, Link, Taken
from mesoskit.wire.stream import StreamFactory

OFFERS = 200
"""Offers that are out at a time."""


class FastMaster:
    """Answers launches by the book, as fast as it can."""

    def __init__(self, tasks_per_offer: int) -> None:
        self.count = 0
        self.uuids = 0
        self.tasks_per_offer = tasks_per_offer

    def connected(self, link: Link) -> None:
        """A framework is here."""

    def congestion(self, link: Link, congested: bool) -> None:
        """Nothing to be done."""

    def lost(self, link: Link, why: str) -> None:
        """The framework has gone: so does this."""
        from twisted.internet import reactor

        reactor.stop()

    def received(self, link: Link, call: Any, number: int | None) -> None:
        """Answer."""
        if number is not None:
            link.answer(number, Taken())
        if call.type == Call.ACCEPT:
            for operation in call.accept.operations:
                for task in operation.launch.task_infos:
                    self.live(link, task)
            self.offer(link, 1)
        elif call.type == Call.SUBSCRIBE:
            event = Event(type=Event.SUBSCRIBED)
            event.subscribed.framework_id.value = "f"
            link.send(event)
            self.offer(link, OFFERS)

    def offer(self, link: Link, how_many: int) -> None:
        event = Event(type=Event.OFFERS)
        for _ in range(how_many):
            self.count += 1
            offer = event.offers.offers.add(hostname="host")
            offer.id.value = f"offer-{self.count}"
            offer.framework_id.value = "f"
            offer.agent_id.value = "agent"
            for name, amount in (("cpus", 16), ("mem", 65536)):
                resource_ = offer.resources.add(name=name)
                resource_.type = 0  # type: ignore[assignment]
                resource_.scalar.value = amount
        link.send(event)

    def live(self, link: Link, task: Any) -> None:
        for state in (0, 1, 2):
            event = Event(type=Event.UPDATE)
            status = event.update.status
            status.task_id.CopyFrom(task.task_id)
            status.agent_id.value = "agent"
            status.state = state  # type: ignore[assignment]
            status.timestamp = 1.0
            self.uuids += 1
            status.uuid = self.uuids.to_bytes(16, "big")
            link.send(event)


def master(tasks_per_offer: int) -> None:
    """Be the master: say the port, and serve until the framework has gone."""
    from twisted.internet import reactor

    factory = StreamFactory(FastMaster(tasks_per_offer), Hello(1), clock=reactor)  # type: ignore[arg-type]
    listening = server_endpoint(reactor, "127.0.0.1:0").listen(factory)
    listening.addCallback(lambda port: print(port.getHost().port, flush=True))  # type: ignore[call-overload]
    reactor.run()


async def by_handles(reactor: Any, port: int, lives: int, per_offer: int) -> None:
    """Live so many lives, each watched by its handle."""
    framework = Framework(reactor, f"127.0.0.1:{port}", FrameworkInfo(user="u", name="bench"))
    done: Deferred[None] = Deferred()
    left = lives

    def ended(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.callback(None)

    def launched(handles: Any) -> None:
        for handle in handles:
            handle.terminal().addCallback(ended)

    sent = 0
    async for offer in framework.offers():
        tasks = [command_task("t", "true") for _ in range(per_offer)]
        framework.accept(offer, tasks).addCallback(launched)
        sent += per_offer
        if sent >= lives:
            break
    await done
    await framework.stopService()


async def by_callbacks(reactor: Any, port: int, lives: int, per_offer: int) -> None:
    """Live so many lives, each watched by C{status_update}."""
    done: Deferred[None] = Deferred()

    class Runs(Scheduler):
        left = lives
        sent = 0

        def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
            for offer in offers:
                if self.sent < lives:
                    self.sent += per_offer
                    framework.accept(offer, [command_task("t", "true") for _ in range(per_offer)])

        def status_update(self, framework: Framework, status: Any) -> None:
            if status.state == 2:
                self.left -= 1
                if not self.left:
                    done.callback(None)

    info = FrameworkInfo(user="u", name="bench")
    framework = Framework(reactor, f"127.0.0.1:{port}", info, scheduler=Runs())
    framework.startService()
    await done
    await framework.stopService()


def measure(kind: Any, lives: int, per_offer: int) -> None:
    """Run one measurement in a process of its own, and print it."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--master", str(per_offer)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    port = int(server.stdout.readline())

    async def main(reactor: Any) -> None:
        cpu, wall = _cpu(), time.monotonic()
        await kind(reactor, port, lives, per_offer)
        cpu, wall = _cpu() - cpu, time.monotonic() - wall
        print(
            f"{kind.__name__:13} {per_offer:3} tasks an offer: {cpu / lives * 1e6:6.1f} µs of CPU"
            f" a life, {lives / wall:6.0f} lives a second with a scripted master"
        )

    try:
        react(main)
    finally:
        server.wait(timeout=10)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class FastAgent:
    """Shuts every executor down that subscribes."""

    def __init__(self) -> None:
        self.subscribed: Deferred[None] = Deferred()

    def connected(self, link: Link) -> None:
        """An executor is here."""

    def congestion(self, link: Link, congested: bool) -> None:
        """Nothing to be done."""

    def lost(self, link: Link, why: str) -> None:
        """It has gone."""

    def received(self, link: Link, call: Any, number: int | None) -> None:
        """It has subscribed, or says something else."""
        link.send(executor_pb2.Event(type=executor_pb2.Event.SHUTDOWN))
        subscribed, self.subscribed = self.subscribed, Deferred()
        subscribed.callback(None)


EXECUTOR = "from mesoskit.driver import Executor, run_executor; run_executor(Executor())"


async def executors(reactor: Any, how_many: int) -> None:
    """Start so many executors, one after the other."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/socket"
        agent = FastAgent()
        factory = StreamFactory(agent, Hello(2), clock=reactor)  # type: ignore[arg-type]
        port = await server_endpoint(reactor, f"unix:{path}").listen(factory)
        variables = {
            **os.environ,
            "MESOSKIT_EXECUTOR_SOCKET": path,
            "MESOSKIT_EXECUTOR_TOKEN": "token",
            "MESOS_FRAMEWORK_ID": "f",
            "MESOS_EXECUTOR_ID": "e",
        }
        walls = []
        for _ in range(how_many):
            began, waiting = time.monotonic(), agent.subscribed
            process = subprocess.Popen(
                [sys.executable, "-c", EXECUTOR], env=variables, stderr=subprocess.DEVNULL
            )
            await waiting
            walls.append(time.monotonic() - began)
            while process.poll() is None:
                await deferLater(reactor, 0.01)
        await port.stopListening()  # type: ignore[misc]
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (children.ru_utime + children.ru_stime) / how_many
        print(
            f"executor: {median(walls) * 1e3:.0f} ms from its start to its subscription (best"
            f" {min(walls) * 1e3:.0f}), {cpu * 1e3:.0f} ms of CPU for its whole life"
        )


def run_all(lives: int) -> None:
    """Run each measurement in a process of its own: a reactor runs once."""
    for kind in ("by_handles", "by_callbacks"):
        for per_offer in (1, 10):
            subprocess.run([sys.executable, __file__, kind, str(lives), str(per_offer)], check=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["--master"]:
        master(int(arguments[1]))
    elif arguments[:1] == ["executors"]:
        react(executors, (int(arguments[1]),))
    elif arguments and arguments[0] in ("by_handles", "by_callbacks"):
        measure(globals()[arguments[0]], int(arguments[1]), int(arguments[2]))
    else:
        run_all(int(arguments[0]) if arguments else 20_000)
