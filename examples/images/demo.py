"""The demonstration: a cluster of processes, a framework on it, and pictures to look at.

    python examples/images/demo.py              (or: make demo)
    python examples/images/demo.py *.jpg        with pictures of your own

Starts a master and three agents, inverts the photographs on them, writes the results and a
sheet of them all into ./demo-pictures, and stops everything again, whatever happens.
"""

import argparse
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import CannotStart, Cluster
from contact_sheet import contact_sheet
from framework import Job, invert, report, show_progress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react

PHOTOGRAPHS = Path(__file__).with_name("photographs")
RESOURCES = "cpus:1.5;mem:512"


async def demo(reactor: Any, cluster: Cluster, images: list[Path], pictures: Path) -> bool:
    """Run it all; tells whether every image has been inverted."""
    began = time.monotonic()
    agents = count(len(cluster.agents), "agent")
    try:
        print(f"Starting a master and {agents}, each a twistd process ...", flush=True)
        await cluster.start()
        print(f"Up after {time.monotonic() - began:.1f} s: master at {cluster.address}")
        for agent in cluster.agents:
            print(f"  {agent.name} at 127.0.0.1:{agent.port} offers {RESOURCES}")
        print(f"Inverting {count(len(images), 'image')}, one task each:", flush=True)
        started = time.monotonic()
        jobs = await invert(reactor, cluster.address, images, pictures, show_progress)
        seconds = time.monotonic() - started
    finally:
        await cluster.stop()
    report(jobs)
    good = [job for job in jobs if job.good]
    hosts = count(len({job.hostname for job in good}), "agent")
    print(
        f"{len(good)} of {count(len(jobs), 'image')} inverted on {hosts} in {seconds:.1f} s;"
        f" all in all {time.monotonic() - began:.1f} s"
    )
    show(good, pictures)
    return len(good) == len(jobs)


def count(number: int, what: str) -> str:
    """Return C{1 agent}, C{2 agents}."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def show(jobs: list[Job], pictures: Path) -> None:
    """Write the sheet of all pictures, and say where they are."""
    if jobs:
        sheet = pictures / "before-and-after.png"
        contact_sheet([(job.image, job.result) for job in jobs]).save(sheet)
        print(f"Before and after: {sheet}")
        print(f"All pictures:     {pictures}/")


async def main(reactor: Any, *arguments: str) -> None:
    """Read the command line; end cleanly on Ctrl-C and the like."""
    parser = argparse.ArgumentParser(description="Invert images on a cluster of its own.")
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--pictures", type=Path, default=Path("demo-pictures"), help="a folder")
    parser.add_argument("images", type=Path, nargs="*", help="photographs of the example's own")
    given = parser.parse_args(arguments)
    images = given.images or sorted(PHOTOGRAPHS.iterdir())
    missing = [str(image) for image in images if not image.is_file()]
    if missing or given.agents < 1:
        parser.error(f"no such file: {missing[0]}" if missing else "--agents must be 1 or more")

    # From here on the reactor takes signals, and nothing that was started can be forgotten.
    await deferLater(reactor, 0)
    cluster = Cluster(reactor, given.agents, RESOURCES)
    work = Deferred.fromCoroutine(demo(reactor, cluster, images, given.pictures.absolute()))
    done: Deferred[None] = Deferred()

    def interrupt() -> Deferred[None] | None:
        """Have the reactor wait until everything that was started has ended."""
        if work.called:
            return None
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(OSError):  # the terminal may be gone
            print("\nInterrupted: stopping the cluster ...", flush=True)
        if not cluster.stopping:
            work.cancel()
        return done

    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
    # A terminal that is closed should end it all as well.
    reactor.callWhenRunning(lambda: signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM)))
    try:
        status = 0 if await work else 1
    except CancelledError:
        status = 130
    except (CannotStart, OSError, ValueError) as error:
        with suppress(OSError):
            print(f"demo: {error}", file=sys.stderr)
        status = 1
    finally:
        done.callback(None)
    raise SystemExit(status)


if __name__ == "__main__":
    react(main, sys.argv[1:])
