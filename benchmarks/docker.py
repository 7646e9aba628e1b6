"""What the Docker containerizer costs: from a launch to an end, and a reading of usage.

C{python benchmarks/docker.py} starts a Docker engine of its own, as tests do, as root.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.trial.unittest import SkipTest

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.docker import DockerContainers
from mesoskit.agent.docker import DockerSettings
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.messages.mesos_pb2 import ContainerInfo
from mesoskit.model.ids import ContainerId
from tests.agent.containers_contract import Ends
from tests.agent.docker_engines import IMAGE, daemon

ROUNDS = 20
MANY = 50


async def measure(reactor: Any, agent: DockerContainers, ends: Ends, directory: str) -> None:
    info = ContainerInfo(type=ContainerInfo.DOCKER, docker={"image": IMAGE, "network": "HOST"})

    def spec(name: str, command: str) -> ContainerSpec:
        sandbox = os.path.join(directory, name)
        os.makedirs(sandbox)
        return ContainerSpec(
            ContainerId(name),
            ("/bin/sh", "-c", command),
            sandbox,
            file="/bin/sh",
            info=info.SerializeToString(),
            docker=True,
        )

    await agent.launch(spec("first", "true"))
    await ends.wait(1)
    starts, wholes = [], []
    for number in range(ROUNDS):
        began = time.perf_counter()
        await agent.launch(spec(f"one{number}", "true"))
        starts.append(time.perf_counter() - began)
        await ends.wait(number + 2)
        wholes.append(time.perf_counter() - began)
    for name, values in (("launch to start", starts), ("launch to end", wholes)):
        print(f"{name}: median {sorted(values)[ROUNDS // 2] * 1000:.0f} ms of {ROUNDS}")
    began, cpu = time.perf_counter(), time.process_time()
    await gatherResults([agent.launch(spec(f"m{n}", "sleep 1000")) for n in range(MANY)])
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"{MANY} at once: {took:.2f} s, {used / MANY * 1000:.1f} ms of CPU of the agent each")
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(ROUNDS):
        await agent.usage()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    print(f"usage of {MANY}: {took / ROUNDS * 1000:.1f} ms, {used / ROUNDS * 1000:.1f} ms of CPU")
    await gatherResults([agent.destroy(ContainerId(f"m{n}")) for n in range(MANY)])


async def run(reactor: Any) -> None:
    try:
        engine = await daemon()
    except SkipTest as error:
        print(f"not measured: {error}")
        return
    directory = tempfile.mkdtemp(prefix="mesoskit-bench-")
    ends = Ends()
    in_thread = in_thread_of(reactor)
    agent = DockerContainers(
        reactor,
        DockerSettings(socket=engine.socket, remove_delay=0.0),
        directory,
        os.path.join(directory, "notes"),
        Users(reactor, in_thread),
        in_thread,
        ends,
    )
    try:
        await agent.start()
        await agent.recover()
        await measure(reactor, agent, ends, directory)
        for container, _ in ends.told:
            agent.forget(ContainerId(container))
        await agent.stop()
    finally:
        engine.close()
        shutil.rmtree(directory)


def main(reactor: Any) -> Deferred[None]:
    return Deferred.fromCoroutine(run(reactor))


if __name__ == "__main__":
    react(main, ())
