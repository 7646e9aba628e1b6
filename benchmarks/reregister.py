"""How long a new master takes to know a cluster again: agents that re-register with their tasks.

The agents are played by this process on raw sockets. All of them dial at the same time, say hello,
and re-register with so many running tasks of one framework each; the clock stops when the last of
them has been answered. The registry is empty, so that each of them is written down, too: more than
a failover costs, where the registry knows them.

    python benchmarks/reregister.py [--agents 1000] [--tasks 10] [--runs 5]
"""

import argparse
import os
import statistics
from functools import partial
from time import perf_counter

from daemons import Daemon, in_child, table
from lives import scalar
from rawlinks import RawLink, RawLoop, hello, packed

from mesoskit.messages import internal_pb2, mesos_pb2
from mesoskit.messages.stream_pb2 import Role

_ANSWER = internal_pb2.SlaveReregisteredMessage.DESCRIPTOR.full_name.encode()


def reregistration(number: int, tasks: int) -> bytes:
    """Return the frame with which an agent comes back."""
    message = internal_pb2.ReregisterSlaveMessage(version="1.12.0")
    info = message.slave
    info.id.value = f"7f5c1d2e-0000-4000-8000-1234567890ab-S{number}"
    info.hostname = f"agent-{number}"
    info.port = 1024 + number
    info.resources.extend([scalar("cpus", 8), scalar("mem", 16384), scalar("disk", 65536)])
    for kind in (
        mesos_pb2.AgentInfo.Capability.MULTI_ROLE,
        mesos_pb2.AgentInfo.Capability.HIERARCHICAL_ROLE,
        mesos_pb2.AgentInfo.Capability.RESERVATION_REFINEMENT,
    ):
        message.agent_capabilities.add().type = kind
    framework = message.frameworks.add(user="root", name="benchmark", roles=["*"], checkpoint=True)
    framework.id.value = "7f5c1d2e-0000-4000-8000-1234567890ab-0000"
    framework.failover_timeout = 3600
    framework.capabilities.add(type=mesos_pb2.FrameworkInfo.Capability.MULTI_ROLE)
    for index in range(tasks):
        task = message.tasks.add(name="t", state=mesos_pb2.TASK_RUNNING)
        task.task_id.value = f"task-{number}-{index}"
        task.framework_id.value = framework.id.value
        task.agent_id.value = info.id.value
        for resource in (scalar("cpus", 0.1), scalar("mem", 32)):
            resource.allocation_info.role = "*"
            task.resources.append(resource)
        status = task.statuses.add(state=mesos_pb2.TASK_RUNNING, timestamp=1.0, uuid=bytes(16))
        status.task_id.value = task.task_id.value
    return packed(message)


def measure(agents: int, tasks: int) -> dict[str, float]:
    """Start a master, and measure one round with it."""
    frames = [reregistration(number, tasks) for number in range(agents)]
    first = hello(Role.AGENT)
    with Daemon("mesos-master") as master:
        loop = RawLoop(master.port)
        cpu, own = master.cpu(), sum(os.times()[:2])
        known = 0

        def told(link: RawLink) -> None:
            link.send(link.mind)

        def heard(link: RawLink, payload: bytes) -> None:
            nonlocal known
            if _ANSWER in payload:
                known += 1
                loop.running = known < agents

        begin = perf_counter()
        for frame in frames:
            loop.dial(RawLink(told, heard, frame), first)
        loop.run(60)
        end = perf_counter()
        outcome = {
            "seconds": end - begin,
            "known": float(known),
            "cpu": master.cpu() - cpu,
            "own": sum(os.times()[:2]) - own,
        }
        loop.close()
        return outcome


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    one = partial(measure, chosen.agents, chosen.tasks)
    results = [in_child(one) for _ in range(chosen.runs)]
    assert all(result["known"] == chosen.agents for result in results)
    median = {key: statistics.median(r[key] for r in results) for key in results[0]}
    table(
        f"{chosen.agents:,} agents with {chosen.tasks} tasks each re-register, median of"
        f" {chosen.runs} runs",
        ["s", "best", "master CPU s", "harness CPU s"],
        [
            [
                f"{median['seconds']:.2f}",
                f"{min(r['seconds'] for r in results):.2f}",
                f"{median['cpu']:.2f}",
                f"{median['own']:.2f}",
            ]
        ],
    )


if __name__ == "__main__":
    main()
