"""An agent with running tasks is killed and started again: how long until it is registered again.

The tasks are commands, and some in a custom executor on mesoskit.driver, which has to subscribe
again before the agent registers. Counted is from the exec of the new agent.

    python benchmarks/restart.py [--tasks 200] [--executors 5] [--runs 5]
"""

import argparse
import json
import statistics
import sys
import time
import urllib.request
from contextlib import suppress
from typing import Any

import psutil
from daemons import Daemon, in_child, run_framework, table
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from mesoskit.driver import (
    Executor,
    Framework,
    TaskState,
    command_task,
    executor_info,
    run_executor,
    task,
)

_PATIENCE = 60.0


class Waiter(Executor):
    """An executor whose tasks run for ever."""

    def launch(self, driver: Any, task: Any) -> Any:
        """Run."""
        return Deferred()


def metrics(daemon: Daemon) -> dict[str, float]:
    """Return the metrics of a daemon."""
    with urllib.request.urlopen(f"http://{daemon.address}/metrics/snapshot", timeout=5) as answer:
        found: dict[str, float] = json.load(answer)
    return found


def until_registered(agent: Daemon) -> None:
    """Wait until an agent is registered."""
    deadline = time.perf_counter() + _PATIENCE
    while time.perf_counter() < deadline:
        with suppress(OSError):
            if metrics(agent)["slave/registered"]:
                return
        time.sleep(0.01)
    raise SystemExit("the agent has not registered again")


def restarts(tasks: int, executors: int, runs: int) -> dict[str, float]:
    """Run the tasks, restart the agent some times, and return medians."""
    result: dict[str, float] = {}
    with (
        Daemon("mesos-master", "--registry=in_memory", "--allocation_interval=50ms") as master,
        Daemon(
            "mesos-agent",
            f"--master={master.address}",
            "--resources=cpus:1000;mem:320000;disk:320000",
            "--no-switch_user",
            "--recover=reconnect",
            "--registration_backoff_factor=10ms",
        ) as agent,
    ):

        async def work(clock: Any, framework: Framework) -> None:
            async with framework.offers() as offers:
                offer = await anext(offers)
            given = [
                command_task("sleeper", "exec sleep 1000", cpus=0.1, mem=32) for _ in range(tasks)
            ]
            command = f"exec {sys.executable} {__file__} --executor"
            given += [
                task("waiter", cpus=0.1, mem=32, executor=executor_info(f"e{number}", command))
                for number in range(executors)
            ]
            handles = await framework.accept(offer, given)
            await gatherResults([handle.running() for handle in handles])
            while metrics(agent)["slave/tasks_running"] < len(handles):
                await deferLater(clock, 0.05)
            result.update(measured(agent, runs))
            await deferLater(clock, 0.5)
            states = {TaskState(handle.state).name for handle in handles}
            if states != {"TASK_RUNNING"}:
                raise SystemExit(f"not all tasks run any more: {states}")

        run_framework(master.address, work)
        launcher = agent.launcher()
        with suppress(psutil.NoSuchProcess):
            for process in [*launcher.children(recursive=True), launcher]:
                process.kill()
    return result


def measured(agent: Daemon, runs: int) -> dict[str, float]:
    """Kill an agent and start it again, some times; the reactor stands still meanwhile."""
    answers, registered, recovered = [], [], []
    for _ in range(runs):
        agent.process.kill()
        agent.process.wait()
        begun = time.perf_counter()
        agent.start()
        answers.append(agent.started)
        until_registered(agent)
        registered.append(time.perf_counter() - begun)
        recovered.append(metrics(agent)["slave/recovery_time_secs"])
    return {
        "answers": statistics.median(answers),
        "recovered": statistics.median(recovered),
        "registered": statistics.median(registered),
        "worst": max(registered),
    }


def main() -> None:
    """Measure without executors and with some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--executors", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--executor", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.executor:
        run_executor(Waiter())
        return
    rows = []
    for executors in (0, chosen.executors):
        found = in_child(lambda count=executors: restarts(chosen.tasks, count, chosen.runs))  # type: ignore[misc]
        names = "answers", "recovered", "registered", "worst"
        rows.append([str(chosen.tasks), str(executors), *(f"{found[name]:.2f}" for name in names)])
    table(
        f"kill -9 of an agent, started again; seconds, median of {chosen.runs}",
        ["commands", "executors", "to /health", "recovery itself", "to registered", "at worst"],
        rows,
    )


if __name__ == "__main__":
    main()
