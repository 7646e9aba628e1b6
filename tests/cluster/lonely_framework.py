"""A framework as a process of its own, to be killed: it launches one task and waits."""

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mesoskit.driver import Framework, FrameworkInfo, command_task


async def main(reactor: Any, master: str, id_file: str, timeout: str, task: str, body: str) -> None:
    """Launch a task and keep the subscription until somebody kills the process."""
    info = FrameworkInfo(user="", name="lonely", failover_timeout=float(timeout), checkpoint=True)
    framework = Framework(reactor, master, info, id_file=id_file)
    async for offer in framework.offers():
        handles = await framework.accept(offer, [command_task(task, body, id=task)])
        await handles[0].running()
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await Deferred()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
