"""A framework that keeps so many tasks in flight and a journal of all of it; run as a program.

    python -m tests.soak.framework --name=f0 --master=zk://... --directory=/tmp/f0 --seed=1

It may be killed at any moment, and goes on when it is started again: with the id that it keeps
in a file, and with the tasks of its journal. It launches nothing more where there is a file
C{quiet}.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from mesoskit.driver import (
    DriverSettings,
    Framework,
    FrameworkError,
    FrameworkInfo,
    Offer,
    Scheduler,
    TaskInfo,
    TaskState,
    TaskStatus,
    command_task,
    executor_info,
    launch_group,
    task,
)
from mesoskit.model.tasks import TERMINAL
from tests.soak import books

CHECKOUT = Path(__file__).resolve().parents[2]

COMMAND, GROUP, EXECUTOR = "command", "group", "executor"

CPUS, MEM = 0.1, 16.0

OVER = frozenset({*TERMINAL, TaskState.TASK_UNKNOWN})
"""What nothing follows: a task that its master does not know has ended, or never was."""

AT_ONCE = 5
"""Tasks that are launched with one offer."""


class Soaking(Scheduler):
    """
    The framework.

    @ivar live: agent by task, for the tasks that have not ended.
    """

    def __init__(self, reactor: Any, given: argparse.Namespace) -> None:
        self._reactor = reactor
        self._directory = Path(given.directory)
        self._marks = self._directory / "marks"
        self._quiet = self._directory / "quiet"
        self._target: int = given.tasks
        self._kinds: list[str] = given.kinds.split(",")
        self._seconds: tuple[float, float] = (given.shortest, given.longest)
        self._journal = books.Journal(self._directory / "journal")
        life = sum(entry["what"] == books.BEGIN for entry in self._journal.before)
        self._prefix = f"{given.name}-{life}"
        self._count = 0
        self._random = random.Random(f"{given.seed}-{given.name}-{life}")
        self.live: dict[str, str] = {}
        self._to_kill: dict[str, float] = {}
        self._killed: set[str] = set()
        self._take_up()
        self._journal.write(books.BEGIN, life=life)
        info = FrameworkInfo(user="", name=given.name, checkpoint=True, failover_timeout=3600.0)
        settings = DriverSettings(zk_session_timeout=given.session, reconcile_first=2.0)
        self.framework = Framework(
            reactor,
            given.master,
            info,
            scheduler=self,
            id_file=self._directory / "id",
            settings=settings,
        )

    def _take_up(self) -> None:
        """Remember the tasks of former lives that have not ended."""
        for name, book in books.books(self._journal.before).items():
            refused = any(entry["what"] == books.REFUSED for entry in book.entries)
            over = any(status["state"] in OVER_NAMES for status in book.statuses)
            if not refused and not over:
                self.live[name] = book.intended.get("agent", "")
                if any(entry["what"] == books.KILL for entry in book.entries):
                    self._killed.add(name)

    # What it is told

    def subscribed(self, framework: Framework) -> None:
        first = not hasattr(self, "_adopted")
        self._journal.write(books.SUBSCRIBED, id=framework.id)
        if first:
            self._adopted = True
            for name, agent in list(self.live.items()):
                framework.adopt(name, agent)
                if name in self._killed:
                    framework.kill(name, agent)

    def disconnected(self, framework: Framework, why: str) -> None:
        self._journal.write(books.DISCONNECTED, why=why)

    def error(self, framework: Framework, error: FrameworkError) -> None:
        self._journal.write(books.ERROR, why=str(error))

    def resource_offers(self, framework: Framework, offers: list[Offer]) -> None:
        for offer in offers:
            # An executor takes its part as well.
            room = min(
                self._target - len(self.live),
                AT_ONCE,
                int((offer.mem - 32.0) / MEM),
                int(offer.cpus / CPUS) - 1,
            )
            if room < 1 or offer.disk < 32.0 or self._quiet.exists():
                framework.decline(offer, refuse_seconds=1.0).addErrback(lambda _: None)
            else:
                self._launch(offer, room)

    def status_update(self, framework: Framework, status: TaskStatus) -> None:
        name, state = status.task_id.value, TaskState(status.state)
        self._journal.write(
            books.STATUS,
            task=name,
            state=state.name,
            reason=status.reason if status.HasField("reason") else -1,
            source=status.source,
            message=status.message,
            agent=status.agent_id.value,
            uuid=status.uuid.hex(),
        )
        if state in OVER:
            self.live.pop(name, None)
        elif state is TaskState.TASK_RUNNING and name in self._to_kill:
            self._reactor.callLater(self._to_kill.pop(name), self._kill, name)

    # What it does

    def _launch(self, offer: Offer, room: int) -> None:
        kind = self._random.choice(self._kinds)
        names = [self._name() for _ in range(min(2, room) if kind == GROUP else room)]
        tasks = [self._task(kind, name, offer.agent_id, names[0]) for name in names]
        operations: Sequence[Any] = tasks
        if kind == GROUP:
            operations = [launch_group(executor_info(f"g-{names[0]}"), tasks)]
        for name in names:
            self.live[name] = offer.agent_id
        done: Deferred[Any] = self.framework.accept(offer, operations, refuse_seconds=0.2)
        done.addCallbacks(self._taken, self._refused, callbackArgs=(names,), errbackArgs=(names,))

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def _task(self, kind: str, name: str, agent: str, group: str) -> TaskInfo:
        seconds = self._random.uniform(*self._seconds)
        # A task that fails takes its group with it.
        code = 3 if kind != GROUP and self._random.random() < 0.1 else 0
        if self._random.random() < 0.1:
            self._to_kill[name] = seconds * self._random.random()
        self._journal.write(
            books.INTEND,
            task=name,
            agent=agent,
            kind=kind,
            code=code,
            seconds=round(seconds, 3),
            group=group if kind == GROUP else "",
        )
        if kind == EXECUTOR:
            orders = {"seconds": seconds, "code": code, "marks": str(self._marks)}
            executor = executor_info(
                f"x-{self._prefix}",
                f"exec {shlex.quote(sys.executable)} -m tests.soak.executor",
                environment={"PYTHONPATH": str(CHECKOUT)},
            )
            data = json.dumps(orders).encode()
            return task(name, id=name, executor=executor, cpus=CPUS, mem=MEM, data=data)
        command = books.marking(name, self._marks, seconds, code)
        return command_task(name, command, id=name, cpus=CPUS, mem=MEM)

    def _taken(self, _: object, names: list[str]) -> None:
        self._journal.write(books.TAKEN, tasks=names)

    def _refused(self, reason: Failure, names: list[str]) -> None:
        self._journal.write(books.REFUSED, tasks=names, why=f"{reason.type}: {reason.value}")
        for name in names:
            self.live.pop(name, None)

    def _kill(self, name: str) -> None:
        if name in self.live:
            self._journal.write(books.KILL, task=name)
            self.framework.kill(name, self.live[name])

    def leave(self) -> Deferred[None]:
        """Go away, and come back under the same id if ever."""
        self._journal.write(books.LEAVE)
        return self.framework.stopService()


OVER_NAMES = frozenset(TaskState(state).name for state in OVER)


def options() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--master", required=True)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=20, help="in flight")
    parser.add_argument("--kinds", default=COMMAND)
    parser.add_argument("--shortest", type=float, default=2.0, help="seconds of a task")
    parser.add_argument("--longest", type=float, default=20.0)
    parser.add_argument("--session", type=float, default=3.0)
    return parser


def main(reactor: Any, given: argparse.Namespace) -> Deferred[None]:
    """Run until SIGTERM."""
    soaking = Soaking(reactor, given)
    over: Deferred[None] = soaking.framework.run()
    leave: Callable[..., Any] = lambda *_: reactor.callFromThread(soaking.leave)  # noqa: E731
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, leave)
    return over


if __name__ == "__main__":
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    react(main, (options().parse_args(),))
