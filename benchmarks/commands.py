"""Real tasks through a real master and a real agent, launched by a framework on mesoskit.driver.

Four measurements: a thousand commands (C{true}) accepted at once; one command at a time on an
idle cluster with the offer in hand; a thousand tasks in one custom executor, itself on
mesoskit.driver, that runs already; and what a running command costs the agent and its
launcher beside the process itself.

    python benchmarks/commands.py [--tasks 1000] [--single 50] [--running 500] [--runs 3]
                                  [--flags=--launcher=posix]
"""

import argparse
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import perf_counter
from typing import Any

import psutil
from daemons import Daemon, in_child, table
from twisted.internet import epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from mesoskit.driver import (
    Executor,
    Framework,
    FrameworkInfo,
    command_task,
    executor_info,
    run_executor,
    task,
)
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image

_PATIENCE = 120
_ROOM = "--resources=cpus:1000;mem:320000;disk:320000"
# Sandboxes are made by the thousand and removed with the round. ext4 without a journal passes
# over each inode that was freed in the last minutes before it gives out a new one, so that on a
# disk a round would measure what the rounds before it, and everybody else, have deleted.
_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
Figures = dict[str, float]


class Cluster:
    """A master and an agent with room for many tasks, and a framework on them."""

    def __init__(self, master: Daemon, agent: Daemon) -> None:
        self.master, self.agent = master, agent
        self.launcher = agent.launcher()
        self.framework: Any = None
        self.reactor: Any = None

    def cpu(self) -> Figures:
        """Return the CPU seconds that each process has used by itself."""
        times = self.launcher.cpu_times()
        return {
            "master": self.master.cpu(),
            "agent": self.agent.cpu(),
            "launcher": float(times.user + times.system),
            "own": sum(os.times()[:2]),
        }

    def memory(self) -> Figures:
        """Return the bytes that are the agent's and the launcher's alone."""
        return {
            "agent": float(self.agent.private()),
            "launcher": float(psutil.Process(self.launcher.pid).memory_full_info().uss),
        }

    async def offer(self) -> Any:
        """Return the next offer."""
        async with self.framework.offers() as offers:
            return await anext(offers)


@contextmanager
def cluster(where: str | None, user: str, flags: Sequence[str] = ()) -> Iterator[Cluster]:
    """Start a master and an agent there; end them, and the launcher, afterwards."""
    switch = "--switch_user" if user else "--no-switch_user"
    with (
        Daemon("mesos-master", "--registry=in_memory", "--allocation_interval=50ms") as master,
        Daemon(
            "mesos-agent",
            f"--master={master.address}",
            _ROOM,
            switch,
            *flags,
            where=where,
        ) as agent,
    ):
        both = Cluster(master, agent)
        try:
            yield both
        finally:
            with suppress(psutil.NoSuchProcess):
                _, alive = psutil.wait_procs(both.launcher.children(recursive=True), 10)
                for process in [*alive, both.launcher]:
                    process.kill()


def measured(
    where: str | None,
    user: str,
    body: Callable[[Cluster], Awaitable[Figures]],
    flags: Sequence[str] = (),
) -> Figures:
    """
    Run a measurement on a cluster and a reactor of its own.

    @param user: whom the tasks run as; empty for the agent's own user.
    @param flags: more of the agent's.
    """
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    clock: Any = reactor
    outcome: list[Any] = []
    with cluster(where, user, flags) as both:
        info = FrameworkInfo(name="bench", user=user or "root")
        both.reactor = clock
        both.framework = Framework(clock, both.master.address, info)

        async def whole() -> Figures:
            async with both.framework:
                return await body(both)

        def begin() -> None:
            done = Deferred.fromCoroutine(whole()).addTimeout(_PATIENCE, clock)
            done.addBoth(outcome.append).addBoth(lambda _: clock.stop())

        clock.callWhenRunning(begin)
        clock.run()
        if not isinstance(outcome[0], dict):
            outcome[0].printTraceback(file=sys.stderr)
            raise SystemExit(1)
        return outcome[0]


async def commands(count: int, both: Cluster, image: str = "") -> Figures:
    """
    Launch so many commands with one accept, and wait for the last of them.

    @param image: from which they are; it is there, and known to the agent, before they are.
    """
    if image:
        await one_at_a_time(0, both, image)
    tasks = [_command(image) for _ in range(count)]
    return {**await _timed(both, tasks), "floor": floor(count)}


def floor(count: int) -> float:
    """Return the seconds that so many shells take to do nothing, with no cluster round them."""
    begin = perf_counter()
    for _ in range(count):
        os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {"PATH": "/bin"})
    for _ in range(count):
        os.wait()
    return perf_counter() - begin


async def _timed(both: Cluster, tasks: list[Any]) -> Figures:
    offer = await both.offer()
    before, begin = both.cpu(), perf_counter()
    handles = await both.framework.accept(offer, tasks)
    first = await handles[0].running()
    assert first is not None
    started = perf_counter() - begin
    await gatherResults([handle.terminal() for handle in handles], consumeErrors=True)
    seconds, after = perf_counter() - begin, both.cpu()
    return {
        "seconds": seconds,
        "first": started,
        **{name: after[name] - before[name] for name in before},
    }


def _command(image: str) -> Any:
    made = command_task("true", "true", cpus=0.1, mem=32)
    if image:
        made.container.type = ContainerInfo.MESOS
        made.container.mesos.image.type = Image.DOCKER
        made.container.mesos.image.docker.name = image
    return made


async def one_at_a_time(count: int, both: Cluster, image: str = "") -> Figures:
    """Launch one command after the other, each on an offer that was there before."""
    running, finished = [], []
    for _ in range(count + 1):
        offer = await both.offer()
        await deferLater(both.reactor, 0.05, lambda: None)
        begin = perf_counter()
        (handle,) = await both.framework.accept(offer, [_command(image)])
        await handle.running()
        running.append(perf_counter() - begin)
        await handle.terminal()
        finished.append(perf_counter() - begin)
    figures = {}
    for name, times in (("running", running), ("finished", finished)):
        # The first one also filled the caches.
        ordered = sorted(times[1:]) or times
        figures[f"{name} p50"] = ordered[len(ordered) // 2]
        figures[f"{name} p99"] = ordered[len(ordered) * 99 // 100]
    return figures


class NoOp(Executor):
    """Has done every task before it is asked for."""

    async def launch(self, driver: Any, task: Any) -> None:
        """Do nothing."""


async def in_one_executor(count: int, both: Cluster) -> Figures:
    """Launch so many tasks in an executor that runs already."""
    info = executor_info(
        "no-op",
        [sys.executable, os.path.abspath(__file__), "--executor"],
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    begin = perf_counter()
    first = await both.framework.accept(await both.offer(), [task("warm", executor=info, cpus=0.1)])
    await first[0].terminal()
    cold = perf_counter() - begin
    tasks = [task("no-op", executor=info, cpus=0.1, mem=32) for _ in range(count)]
    return {**await _timed(both, tasks), "cold": cold}


async def weigh(count: int, both: Cluster) -> Figures:
    """Keep so many commands running."""
    sleep = ["sleep", "1000"]
    warm = await both.framework.accept(
        await both.offer(), [command_task("warm", sleep) for _ in range(50)]
    )
    await gatherResults([handle.running() for handle in warm])
    before = both.memory()
    offer = await both.offer()
    handles = await both.framework.accept(
        offer, [command_task("sleep", sleep, cpus=0.1) for _ in range(count)]
    )
    await gatherResults([handle.running() for handle in handles])
    await deferLater(both.reactor, 1.0, lambda: None)
    after = both.memory()
    ended = [handle.terminal() for handle in [*warm, *handles]]
    for one in ended:
        one.addErrback(lambda _: None)
    for handle in [*warm, *handles]:
        handle.kill().addErrback(lambda _: None)
    await gatherResults(ended, consumeErrors=True)
    return {name: (after[name] - before[name]) / count for name in before}


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--single", type=int, default=50)
    parser.add_argument("--running", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--where", default=_MEMORY, help="where the agent's work_dir is made")
    parser.add_argument("--flags", default="", help="of the agent, with blanks between")
    chosen = parser.parse_args()

    def median(measure: Callable[[Cluster], Awaitable[Figures]], user: str = "") -> Figures:
        round_ = partial(measured, chosen.where, user, measure, chosen.flags.split())
        rounds = [in_child(round_) for _ in range(chosen.runs)]
        return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}

    runs = f"median of {chosen.runs} runs"
    rows = []
    executor = median(partial(in_one_executor, chosen.tasks))
    kinds = [
        ("commands", median(partial(commands, chosen.tasks))),
        ("in one executor", executor),
    ]
    if os.geteuid() == 0:
        other = median(partial(commands, chosen.tasks), "nobody")
        kinds.insert(1, ("commands as another user", other))
    for what, each in kinds:
        cost = [f"{each[name]:.2f}" for name in ("master", "agent", "launcher", "own")]
        least = f"{each['floor']:.2f}" if "floor" in each else "-"
        rows.append([what, f"{each['seconds']:.2f}", least, f"{each['first'] * 1000:.0f}", *cost])
    table(
        f"{chosen.tasks:,} tasks accepted at once, {runs}",
        [
            "tasks",
            "s",
            "s of bare shells",
            "first RUNNING ms",
            "master CPU s",
            "agent",
            "launcher",
            "framework",
        ],
        rows,
    )
    one = median(partial(one_at_a_time, chosen.single))
    table(
        f"One command on an idle cluster, offer in hand, {chosen.single} times, {runs}, ms",
        ["RUNNING p50", "p99", "FINISHED p50", "p99", "first task of a new executor"],
        [
            [
                *(
                    f"{one[f'{name} {part}'] * 1000:.1f}"
                    for name in ("running", "finished")
                    for part in ("p50", "p99")
                ),
                f"{executor['cold'] * 1000:.0f}",
            ]
        ],
    )
    kept = median(partial(weigh, chosen.running))
    table(
        f"{chosen.running} running commands, {runs}, kB a command beside its process",
        ["agent", "launcher"],
        [[f"{kept['agent'] / 1000:.1f}", f"{kept['launcher'] / 1000:.1f}"]],
    )


if __name__ == "__main__":
    if "--executor" in sys.argv:
        run_executor(NoOp())
    else:
        main()
