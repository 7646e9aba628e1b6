"""
How long a container from an image takes to begin:
``python benchmarks/images.py [count] [runtime]``.

The image is there. One container at a time: from what the agent asks until its process runs, and
until what it writes is there. As root, with skopeo, umoci, crun or runc, and busybox-static.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from mesoskit.agent.container import ContainerSpec
from mesoskit.agent.containers.image_store import ImageStore
from mesoskit.agent.containers.imaged import ImageContainers
from mesoskit.agent.containers.launched import LaunchedContainers
from mesoskit.agent.containers.provisioning import Provisions
from mesoskit.agent.users import Users, in_thread_of
from mesoskit.messages.mesos_pb2 import ContainerInfo, Image
from mesoskit.model.ids import ContainerId
from tests.agent.image_archives import busybox_layer, docker_archive

reactor: Any = installed


def containers(directory: str, ended: dict[str, "Deferred[None]"], runtime: str) -> ImageContainers:
    """Return containers over a folder with one image."""
    in_thread = in_thread_of(reactor)
    users = Users(reactor, in_thread)
    made = ImageContainers(
        reactor,
        users,
        in_thread,
        ImageStore(reactor, in_thread, f"{directory}/store", f"{directory}/images"),
        Provisions(f"{directory}/provisioner", f"{directory}/secrets", runtime),
        lambda container, status, limitation=None: ended[container].callback(None),
    )
    made.inner = LaunchedContainers(
        reactor, f"{directory}/launcher", users, in_thread, made.exited, linger=0.1
    )
    return made


def spec_of(directory: str, name: str, image: bool) -> ContainerSpec:
    """Return a container that says it is there, and ends."""
    info = ContainerInfo(type=ContainerInfo.MESOS)
    info.mesos.image.type = Image.DOCKER
    info.mesos.image.docker.name = "busy"
    sandbox = f"{directory}/sandboxes/{name}"
    os.makedirs(sandbox)
    return ContainerSpec(
        ContainerId(name),
        ("sh", "-c", "echo here"),
        sandbox,
        file="/bin/sh",
        info=info.SerializeToString() if image else b"",
    )


async def measure(directory: str, count: int, runtime: str) -> None:
    """Start containers one after the other, and say how long that took."""
    os.mkdir(f"{directory}/images")
    docker_archive(f"{directory}/images/busy.tar", [busybox_layer()])
    ended: dict[str, Deferred[None]] = {}
    made = containers(directory, ended, runtime)
    await made.start()
    await made.recover()
    began = time.perf_counter()
    await made.store.get("busy")
    print(f"image brought and unpacked: {(time.perf_counter() - began) * 1e3:.0f} ms")
    for image in (False, True):
        running, heard = [], []
        for number in range(count):
            spec = spec_of(directory, f"{'image' if image else 'plain'}{number}", image)
            ended[spec.id] = Deferred()
            began = time.perf_counter()
            await made.launch(spec)
            running.append((time.perf_counter() - began) * 1e3)
            while not os.path.getsize(f"{spec.sandbox}/stdout"):
                await deferLater(reactor, 0.001)
            heard.append((time.perf_counter() - began) * 1e3)
            await ended[spec.id]
            made.forget(spec.id)
        what = "from the image" if image else "without image "
        for name, times in (("runs", running), ("is heard", heard)):
            tail = statistics.quantiles(times, n=20)[-1]
            middle = statistics.median(times)
            print(f"{what}: {name:8} after {middle:6.1f} ms (median), {tail:6.1f} ms (95 %)")
    await made.stop()


def main(_: Any, count: str = "40", runtime: str = "") -> "Deferred[None]":
    """Measure in a directory of our own."""
    directory = tempfile.mkdtemp(prefix="mesoskit-bench-")

    def clean(result: Any) -> Any:
        shutil.rmtree(directory)
        return result

    return Deferred.fromCoroutine(measure(directory, int(count), runtime)).addBoth(clean)


if __name__ == "__main__":
    react(main, sys.argv[1:])
