"""The demonstration of a cluster that goes on: three masters, of which two are killed.

    python examples/high_availability/demo.py              (or: make ha-demo)

Starts ZooKeeper, three masters and two agents on this machine, runs tasks that tick once a
second, kills the master that leads, twice, and shows that the tasks run through it and that
new ones start as soon as the next master leads. Stops everything again, whatever happens.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# The cluster of the other demonstration is made of the same parts.
sys.path.insert(0, str(Path(__file__).parents[1] / "images"))

from cluster import CannotStart, Daemon, end_all_below, free_ports
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread
from zookeeper import ZooKeeper

from mesoskit.driver import (
    DriverSettings,
    Framework,
    FrameworkInfo,
    TaskHandle,
    TaskState,
    command_task,
)

SESSION = "2secs"
TICK = "n=0; while true; do n=$((n + 1)); echo $n > {file}; sleep 1; done"
PATIENCE = 60.0


class Demo:
    """Everything that runs, and the clock of the story."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._began = time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="mesoskit-ha-", dir="/tmp"))
        self.folder.chmod(0o755)
        ports = free_ports(6)
        self.zookeeper = ZooKeeper(reactor, ports[0], self.folder / "zookeeper")
        self.url = f"zk://{self.zookeeper.address}/mesos"
        self.masters = {
            port: Daemon(reactor, f"master-{number}", port, self.folder / f"master-{number}")
            for number, port in enumerate(ports[1:4], 1)
        }
        self.agents = [
            Daemon(reactor, f"agent-{number}", port, self.folder / f"agent-{number}")
            for number, port in enumerate(ports[4:], 1)
        ]
        # The same session time-out everywhere: who leads is known everywhere at the same time.
        self.framework = Framework(
            reactor,
            self.url,
            FrameworkInfo(name="ha-demo", user="", checkpoint=True, failover_timeout=3600.0),
            settings=DriverSettings(zk_session_timeout=2.0),
        )

    def say(self, what: str) -> None:
        """Tell the next part of the story."""
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for something."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise CannotStart(f"within {PATIENCE:g} s not: {what}")
            await deferLater(self._reactor, 0.02)

    async def start(self) -> None:
        """Start all of it."""
        await self.zookeeper.start()
        for master in self.masters.values():
            await master.start(
                "mesos-master", f"--zk={self.url}", f"--zk_session_timeout={SESSION}"
            )
        for agent in self.agents:
            await agent.start(
                "mesos-agent",
                f"--master={self.url}",
                f"--zk_session_timeout={SESSION}",
                "--resources=cpus:2;mem:512",
                "--registration_backoff_factor=10ms",
                # Whatever happens, nothing is to be left on this machine, cgroups neither.
                "--launcher=posix",
            )
        self.framework.startService()

    async def launch(self, *names: str) -> list[TaskHandle]:
        """Launch tasks that tick, wherever there is room, and wait until they run."""
        waiting = list(names)
        handles: list[TaskHandle] = []
        await self.framework.revive()
        async for offer in self.framework.offers():
            fitting, waiting = waiting[:2], waiting[2:]
            tasks = [
                command_task(name, TICK.format(file=self.ticks(name)), cpus=0.5, mem=64)
                for name in fitting
            ]
            handles += await self.framework.accept(offer, tasks, refuse_seconds=3600.0)
            if not waiting:
                break
        for handle in handles:
            await handle.running()
        return handles

    def ticks(self, name: str) -> Path:
        """Return the file into which a task writes how often it has ticked."""
        directory = self.folder / "ticks"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
        return directory / name

    def count(self, name: str) -> int:
        """Return how often a task has ticked."""
        with suppress(OSError, ValueError):
            return int(self.ticks(name).read_text())
        return 0

    def leader(self) -> Daemon:
        """Return the master that the framework is subscribed with."""
        info = self.framework.master_info
        assert info is not None
        return self.masters[info.port]

    async def kill_leader(self) -> None:
        """Kill the leading master, and wait for the next one to take its place."""
        leader = self.leader()
        leader.kill()
        killed = time.monotonic()
        self.say(f"{leader.name}, which leads, is killed")
        await self.until("the framework notices", lambda: not self.framework.subscribed)
        await self.until("another master leads", lambda: self.framework.subscribed)
        took = time.monotonic() - killed
        self.say(f"{self.leader().name} leads, {took:.1f} s later (session time-out: {SESSION})")

    async def stop(self) -> None:
        """Stop all of it, and remove what it left."""
        with suppress(Exception):
            await self.framework.stopService()
        for daemon in [*self.agents, *self.masters.values()]:
            await daemon.stop()
        self.zookeeper.stop()
        await deferToThread(end_all_below, self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


async def demo(demo: Demo) -> None:
    """Tell the story."""
    try:
        await demo.start()
        await demo.framework.when_subscribed()
        demo.say(f"three masters, two agents; {demo.leader().name} leads; all meet at {demo.url}")
        names = ["tick-1", "tick-2", "tick-3"]
        handles = await demo.launch(*names)
        await demo.until("they tick", lambda: all(demo.count(name) for name in names))
        demo.say(f"{len(names)} tasks run and tick once a second")
        for number in (4, 5):
            before = {name: demo.count(name) for name in names}
            await demo.kill_leader()
            told = ", ".join(f"{name} {before[name]} -> {demo.count(name)}" for name in names)
            demo.say(f"meanwhile they ticked on: {told}")
            new = f"tick-{number}"
            handles += await demo.launch(new)
            names.append(new)
            demo.say(f"{new} was launched by {demo.leader().name} and runs")
        over = [handle.id for handle in handles if handle.state != TaskState.TASK_RUNNING]
        if over:
            raise CannotStart(f"{', '.join(over)} did not run through it")
        demo.say(f"all {len(names)} tasks run, and none was started twice or lost")
    finally:
        await demo.stop()
    demo.say("everything is stopped")


def main(reactor: Any) -> Any:
    """Run the demonstration; Ctrl-C ends it and all that it has started."""
    running = Deferred.fromCoroutine(demo(Demo(reactor)))

    def interrupted(number: int, frame: object) -> None:
        reactor.callFromThread(running.cancel)

    reactor.callWhenRunning(signal.signal, signal.SIGINT, interrupted)
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, interrupted)

    def failed(reason: Any) -> None:
        if reason.check(CancelledError):
            raise SystemExit("interrupted")
        if reason.check(CannotStart):
            raise SystemExit(f"ha-demo: {reason.value}")
        reason.raiseException()

    return running.addErrback(failed)


if __name__ == "__main__":
    react(main)
