"""Stage two: a scheduler that fills every offer with tasks, for ever.

    mesoskit local                                      (in another terminal)
    python examples/tutorial/2_empty_tasks.py --master 127.0.0.1:5050

The tasks do nothing: the executor beside this file says that they run, and that they have
finished. Their resources come back in new offers, which are filled again.
"""

import argparse
import sys
from itertools import count
from pathlib import Path

from twisted.internet.task import react

from mesoskit.driver import (
    Framework,
    FrameworkInfo,
    Scheduler,
    TaskState,
    executor_info,
    task,
)

CPUS, MEM = 1, 128


class TaskScheduler(Scheduler):
    """Launches as many tasks on each offer as it has room for."""

    def __init__(self, executor):
        # Tasks that name the same executor share one process of it on each agent.
        self.executor = executor_info(
            "default",
            [sys.executable, str(executor)],
            name="Test Executor (Twisted)",
            cpus=0,  # so that an offer's CPUs are all for tasks
            mem=32,
        )
        self.numbers = count(1)

    def subscribed(self, framework):
        print(f"Framework registered with ID={framework.id}", flush=True)

    def resource_offers(self, framework, offers):
        for offer in offers:
            print(f"Received Offer <{offer.id}> with cpus={offer.cpus:g} mem={offer.mem:g}")
            room = int(min(offer.cpus // CPUS, (offer.mem - 32) // MEM))
            tasks = [self.prepare(offer) for _ in range(room)]
            print(f"Launching {len(tasks)} tasks for offer <{offer.id}>", flush=True)
            accepted = framework.accept(offer, tasks, refuse_seconds=1)
            # It fails where the offer is gone by now; there will be others.
            accepted.addErrback(lambda reason: print(reason.getErrorMessage()))

    def prepare(self, offer):
        number = next(self.numbers)
        print(f"Prepared task: twisted-task-{number} with offer <{offer.id}> for launch")
        return task(
            f"twisted-task-{number}", id=str(number), executor=self.executor, cpus=CPUS, mem=MEM
        )

    def status_update(self, framework, status):
        # When this returns, the driver acknowledges the update.
        state = TaskState(status.state).name
        print(f"Status update: task {status.task_id.value} is in state {state}", flush=True)


def main(reactor, *arguments):
    parser = argparse.ArgumentParser(description="A scheduler of tasks that do nothing.")
    parser.add_argument("--master", default="127.0.0.1:5050")
    parser.add_argument(
        "--executor", type=Path, default=Path(__file__).with_name("empty_executor.py")
    )
    given = parser.parse_args(arguments)
    info = FrameworkInfo(user="", name="Test Framework (Twisted)")
    scheduler = TaskScheduler(given.executor.absolute())
    framework = Framework(reactor, given.master, info, scheduler=scheduler)
    reactor.addSystemEventTrigger("before", "shutdown", framework.stopService)
    return framework.run()


if __name__ == "__main__":
    react(main, sys.argv[1:])
