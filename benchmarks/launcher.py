"""What a container costs: microseconds to start it, bytes to keep it.

A launcher of its own, asked by the agent's own client over the reactor, all in a temporary
directory. C{true} is started, waited for and forgotten; C{sleep} is kept to weigh it. "As nobody"
is the way of all containers that change the user or have limits; it needs root.

    python benchmarks/launcher.py [--commands 1000] [--kept 1000]
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.defer import Deferred, gatherResults

from mesoskit.agent.container import ContainerSpec, Limitation
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.model.ids import ContainerId

TICK = os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Return the bytes that are a process's alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in text.splitlines() if "Private" in line)


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Bench:
    """One launcher and its client."""

    def __init__(self, reactor: Any, directory: str) -> None:
        in_thread = in_thread_of(reactor)
        users = Users(reactor, in_thread)
        self.directory = directory
        self.runtime = os.path.join(directory, "launcher")
        self.agent = LaunchedContainers(
            reactor, self.runtime, users, in_thread, self.exited, linger=0.5
        )
        self.left = 0
        self.all_over: Deferred[None] = Deferred()

    def exited(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        self.left -= 1
        if not self.left:
            self.all_over.callback(None)

    @property
    def launcher(self) -> int:
        return int(json.loads(Path(self.runtime, "launcher.json").read_text())["pid"])

    def specs(self, count: int, name: str, user: str | None, *argv: str) -> list[ContainerSpec]:
        sandbox = os.path.join(self.directory, f"of-{user}")
        os.makedirs(sandbox, exist_ok=True)
        if user is not None:
            shutil.chown(sandbox, user)
        environment = (("PATH", "/usr/bin:/bin"), ("MESOS_SANDBOX", sandbox))
        return [
            ContainerSpec(
                ContainerId(f"{name}-{n}".replace(" ", "-")), argv, sandbox, environment, user=user
            )
            for n in range(count)
        ]

    async def burst(self, count: int, name: str, user: str | None) -> None:
        """Start many commands at once, and wait for all of their ends."""
        specs = self.specs(count, name, user, "true")
        self.left, self.all_over = count, Deferred()
        begun, own, its = perf_counter(), process_time(), cpu(self.launcher)
        await gatherResults([self.agent.launch(spec) for spec in specs], consumeErrors=True)
        started = perf_counter() - begun
        await self.all_over
        wall = perf_counter() - begun
        own, its = process_time() - own, cpu(self.launcher) - its
        for spec in specs:
            self.agent.forget(spec.id)
        await self.agent.usage()
        print(
            f"{count} true, {name}: {wall:.2f} s wall ({started / count * 1e6:.0f} us a start),"
            f" CPU: agent {own:.2f} s, launcher {its:.2f} s"
        )

    async def one_by_one(self, count: int, name: str, user: str | None) -> None:
        """Start one command after the other; the machine does nothing else."""
        begun = perf_counter()
        for spec in self.specs(count, f"{name} alone", user, "true"):
            self.left, self.all_over = 1, Deferred()
            await self.agent.launch(spec)
            await self.all_over
            self.agent.forget(spec.id)
        each = (perf_counter() - begun) / count
        print(f"from asking to hearing of the end, {name}: {each * 1e6:.0f} us")

    async def weigh(self, count: int) -> None:
        """Keep many commands."""
        specs = self.specs(count, "kept", None, "sleep", "1000")
        launcher = self.launcher
        before = rss(os.getpid()), rss(launcher)
        await gatherResults([self.agent.launch(spec) for spec in specs])
        after = rss(os.getpid()), rss(launcher)
        agent, its = ((b - a) / count for a, b in zip(before, after, strict=True))
        print(f"kept: {agent:.0f} bytes a container in the agent, {its:.0f} in the launcher")
        begun = perf_counter()
        usage = await self.agent.usage()
        took = perf_counter() - begun
        assert len(usage) == count
        print(f"usage of {count} containers: {took * 1e3:.0f} ms, in a thread")
        self.left, self.all_over = count, Deferred()
        begun = perf_counter()
        await gatherResults([self.agent.destroy(spec.id) for spec in specs])
        print(f"destroying them: {perf_counter() - begun:.2f} s")
        for spec in specs:
            self.agent.forget(spec.id)

    async def run(self, commands: int, kept: int) -> None:
        begun = perf_counter()
        await self.agent.start()
        print(f"launcher started in {(perf_counter() - begun) * 1e3:.0f} ms", end=", ")
        print(f"{rss(self.launcher) / 1e6:.1f} MB of its own")
        await self.agent.recover()
        await self.weigh(kept)
        users = [("as root", None), ("as nobody", "nobody")]
        for name, user in users if os.geteuid() == 0 else [("as we are", None)]:
            await self.burst(commands, name, user)
            await self.one_by_one(min(commands, 300), name, user)
        await self.agent.usage()
        await self.agent.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--kept", type=int, default=1000)
    options = parser.parse_args()
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    running: Any = reactor
    directory = os.path.realpath(tempfile.mkdtemp(prefix="bench-launcher-"))
    os.chmod(directory, 0o755)
    outcome: list[Any] = []

    def begin() -> None:
        bench = Bench(running, directory)
        done = Deferred.fromCoroutine(bench.run(options.commands, options.kept))
        done.addBoth(outcome.append).addBoth(lambda _: running.stop())

    running.callWhenRunning(begin)
    running.run()
    shutil.rmtree(directory)
    if outcome[0] is not None:
        outcome[0].printTraceback(file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
