"""An agent with many containers whose usage is polled each second: what that costs the agent.

CPU time of the agent and of its launcher, in percent of one core, while somebody asks for the
figures of all containers each second; and while nobody does, for comparison. Further flags of the
agent (C{--isolation=...}) may follow.

    python benchmarks/usage.py [--tasks 200] [--seconds 15] [--flags=...]
"""

import argparse
import json
import statistics
import time
import urllib.request
from contextlib import suppress
from typing import Any

import psutil
from daemons import Daemon, in_child, run_framework, table
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from mesoskit.driver import Framework, command_task

WAYS = {
    "nobody asks": None,
    "/monitor/statistics": ("/monitor/statistics", None),
    "/containers": ("/containers", None),
    "GET_CONTAINERS": ("/api/v1", b'{"type": "GET_CONTAINERS"}'),
    "/metrics/snapshot": ("/metrics/snapshot", None),
}


def ask(agent: Daemon, way: tuple[str, bytes | None]) -> tuple[float, bytes]:
    """Ask once; return seconds and the answer."""
    path, body = way
    headers = {"Content-Type": "application/json", "Accept": "application/json"} if body else {}
    request = urllib.request.Request(f"http://{agent.address}{path}", body, headers)
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=10) as answer:
        found = answer.read()
    return time.perf_counter() - begun, found


def poll(agent: Daemon, way: tuple[str, bytes | None] | None, seconds: int) -> list[float]:
    """Ask each second; return percent of a core of agent and launcher, and the median in ms."""
    launcher = agent.launcher()

    def spent() -> float:
        times = launcher.cpu_times()
        return float(times.user + times.system)

    agent_before, launcher_before, begun = agent.cpu(), spent(), time.perf_counter()
    took = []
    for turn in range(seconds):
        if way is not None:
            took.append(ask(agent, way)[0])
        time.sleep(max(0.0, begun + turn + 1 - time.perf_counter()))
    whole = time.perf_counter() - begun
    return [
        100 * (agent.cpu() - agent_before) / whole,
        100 * (spent() - launcher_before) / whole,
        1000 * statistics.median(took) if took else 0.0,
    ]


def measure(tasks: int, seconds: int, flags: list[str]) -> dict[str, Any]:
    """Run the tasks and poll in each way."""
    result: dict[str, Any] = {}
    with (
        Daemon("mesos-master", "--registry=in_memory", "--allocation_interval=50ms") as master,
        Daemon(
            "mesos-agent",
            f"--master={master.address}",
            "--resources=cpus:1000;mem:320000;disk:320000",
            "--no-switch_user",
            *flags,
        ) as agent,
    ):

        async def work(clock: Any, framework: Framework) -> None:
            async with framework.offers() as offers:
                offer = await anext(offers)
            given = [
                command_task("sleeper", "sleep 1000 & sleep 1000", cpus=0.1, mem=32)
                for _ in range(tasks)
            ]
            handles = await framework.accept(offer, given)
            await gatherResults([handle.running() for handle in handles])
            await deferLater(clock, 1.0)
            found = json.loads(ask(agent, ("/monitor/statistics", None))[1])
            if len(found) != tasks or any(not each["statistics"]["processes"] for each in found):
                raise SystemExit(f"{len(found)} of {tasks} containers have figures")
            for name, way in WAYS.items():
                result[name] = poll(agent, way, seconds)

        run_framework(master.address, work)
        launcher = agent.launcher()
        with suppress(psutil.NoSuchProcess):
            for process in launcher.children(recursive=True):
                process.kill()
    return result


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--flags", default="", help="of the agent, with blanks between")
    chosen = parser.parse_args()
    found = in_child(lambda: measure(chosen.tasks, chosen.seconds, chosen.flags.split()))
    rows = [
        [name, *(f"{number:.1f}" for number in numbers)]  # type: ignore[attr-defined]
        for name, numbers in found.items()
    ]
    table(
        f"{chosen.tasks} containers, asked for each second for {chosen.seconds} s",
        ["", "agent, % of a core", "launcher, %", "answer, ms"],
        rows,
    )


if __name__ == "__main__":
    main()
