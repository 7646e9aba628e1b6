"""The framework: one task for each image, on whichever agents have room for it.

    python examples/images/framework.py --master 127.0.0.1:5050 --results out *.jpg

It serves its executor and the images from an artifact server of its own, launches as many tasks
as an offer has room for, and is done when every image has come back inverted. What got lost on
the way (an agent died) is launched again; what fails (this is no image) is reported.
"""

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from artifacts import ArtifactSite
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.task import react

from mesoskit.driver import (
    CommandInfo,
    Framework,
    FrameworkInfo,
    Offer,
    TaskEnded,
    TaskHandle,
    TaskLost,
    executor_info,
    task,
)

CPUS, MEM = 0.5, 64.0
"""What a task is given, in CPUs and megabytes."""
EXECUTOR_CPUS, EXECUTOR_MEM = 0.1, 64.0
"""What the executor is given besides; one of them runs all tasks on an agent."""
ATTEMPTS = 3


@dataclass
class Job:
    """
    One image.

    @ivar result: the file in which it ends, once it has.
    @ivar hostname: where it was worked on last.
    @ivar message: what the executor said of it, or why it failed.
    """

    image: Path
    result: Path
    attempts: int = 0
    hostname: str = ""
    began: float = 0.0
    seconds: float = 0.0
    state: str = "waiting"
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether it has been inverted."""
        return self.state == "TASK_FINISHED"


class ImageInverter:
    """
    The framework's own part: what to launch on an offer, and what to make of each end.

    @param url: of the artifact server.
    @param tell: is called whenever something has changed.
    """

    def __init__(
        self,
        framework: Framework,
        images: Sequence[Path],
        results: Path,
        url: str,
        tell: Callable[["ImageInverter"], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.framework = framework
        self.url = url
        self.jobs = [Job(image, results / _inverted(image)) for image in images]
        self.todo = deque(self.jobs)
        self.executor = executor_info(
            "inverter",
            [sys.executable, "executor.py"],
            cpus=EXECUTOR_CPUS,
            mem=EXECUTOR_MEM,
            uris=[CommandInfo.URI(value=f"{url}/executor.py", cache=False)],
            name="Inverts images",
        )
        self._tell = tell
        self._clock = clock
        self._ends: list[Deferred[None]] = []

    async def run(self) -> None:
        """Invert all images; returns when each has been inverted or has failed."""
        while self.todo:
            async for offer in self.framework.offers():
                await self.use(offer)
                if not self.todo:
                    break  # what else is offered is declined
            ends, self._ends = self._ends, []
            await DeferredList(ends)

    async def use(self, offer: Offer) -> None:
        """Launch as many tasks as there is room for."""
        room = min((offer.cpus - EXECUTOR_CPUS) // CPUS, (offer.mem - EXECUTOR_MEM) // MEM)
        jobs = [self.todo.popleft() for _ in range(min(int(room), len(self.todo)))]
        if not jobs:
            await self.framework.decline(offer)
            return
        for job in jobs:
            job.attempts += 1
            job.hostname = offer.hostname
            job.began = self._clock()
            job.state = "launched"
        handles = await self.framework.accept(offer, [self.task_for(job) for job in jobs])
        for job, handle in zip(jobs, handles, strict=True):
            self._ends.append(Deferred.fromCoroutine(self.follow(job, handle)))
        self._tell(self)

    def task_for(self, job: Job) -> Any:
        """Return the task of an image: its C{data} tells the executor what to do."""
        data = {
            "image": f"{self.url}/images/{quote(job.image.name)}",
            "upload": f"{self.url}/upload",
            "name": job.result.name,
        }
        return task(
            job.image.name,
            executor=self.executor,
            cpus=CPUS,
            mem=MEM,
            data=json.dumps(data).encode(),
        )

    async def follow(self, job: Job, handle: TaskHandle) -> None:
        """Wait for the end of a task, and see what it means."""
        try:
            status = await handle.terminal()
            job.state, job.message = "TASK_FINISHED", status.data.decode()
        except TaskEnded as error:
            job.state, job.message = error.state.name, error.message or str(error)
            if isinstance(error, TaskLost) and job.attempts < ATTEMPTS:
                job.state = "waiting"
                self.todo.append(job)
        job.seconds = self._clock() - job.began
        self._tell(self)


def _inverted(image: Path) -> str:
    return f"{image.stem}_inverted{image.suffix}"


async def invert(
    reactor: Any,
    master: str,
    images: Sequence[Path],
    results: Path,
    tell: Callable[[ImageInverter], None],
    address: str = "127.0.0.1",
    port: int = 0,
) -> list[Job]:
    """Serve, subscribe, invert, and leave nothing behind but the results."""
    files = {image.name: image for image in images}
    if len(files) < len(images):
        raise ValueError("two images have the same name, and so would their results")
    results.mkdir(parents=True, exist_ok=True)
    site = ArtifactSite(Path(__file__).with_name("executor.py"), files, results)
    listening = reactor.listenTCP(port, site, interface=address)
    try:
        url = f"http://{address}:{listening.getHost().port}"
        info = FrameworkInfo(user="", name="Image inverter")
        async with Framework(reactor, master, info) as framework:
            inverter = ImageInverter(framework, images, results, url, tell)
            await inverter.run()
    finally:
        await maybeDeferred(listening.stopListening)
    return inverter.jobs


def progress(inverter: ImageInverter, width: int = 30) -> str:
    """Return a line with a bar."""
    ended = [job for job in inverter.jobs if job.state.startswith("TASK_")]
    share = width * len(ended) // len(inverter.jobs)
    under_way = sum(job.state == "launched" for job in inverter.jobs)
    return (
        f"[{'█' * share}{'·' * (width - share)}]"
        f" {len(ended)} of {len(inverter.jobs)} tasks finished, {under_way} under way"
    )


def show_progress(inverter: ImageInverter) -> None:
    """Draw the bar again and again in a terminal; elsewhere write a line each time."""
    line = progress(inverter)
    done = all(job.state.startswith("TASK_") for job in inverter.jobs)
    if sys.stdout.isatty():
        sys.stdout.write(f"\r\x1b[K{line}" + ("\n" if done else ""))
    else:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def report(jobs: Sequence[Job]) -> None:
    """Print what ran where, and how it went."""
    names = max(len(job.image.name) for job in jobs)
    hosts = max(len(job.hostname) for job in jobs)
    for job in jobs:
        how = job.message if job.good else f"{job.state}: {job.message}"
        print(f"  {job.image.name:<{names}}  {job.hostname:<{hosts}}  {job.seconds:5.2f} s  {how}")


async def main(reactor: Any, *arguments: str) -> None:
    """Run the framework alone, against a master that is there already."""
    parser = argparse.ArgumentParser(description="Invert images on a cluster.")
    parser.add_argument("--master", default="127.0.0.1:5050", help="where the master is")
    parser.add_argument("--address", default="127.0.0.1", help="of the artifact server")
    parser.add_argument("--artifact-port", type=int, default=0, help="of the artifact server")
    parser.add_argument("--results", type=Path, default=Path("inverted"), help="a folder")
    parser.add_argument("images", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    jobs = await invert(
        reactor,
        given.master,
        given.images,
        given.results,
        show_progress,
        given.address,
        given.artifact_port,
    )
    report(jobs)
    raise SystemExit(not all(job.good for job in jobs))


if __name__ == "__main__":
    react(main, sys.argv[1:])
