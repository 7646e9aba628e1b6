"""A whole run: the cluster, the faults, and the reckoning at the end."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.cluster import asking, processes
from tests.cluster.waiting import reactor, until, until_async
from tests.soak import books
from tests.soak.cluster import SoakCluster
from tests.soak.nemesis import Nemesis
from tests.soak.reckoning import Excuses, Reckoning, reckon
from tests.soak.schedule import Kind, schedule

SETTLE = 120.0
"""Seconds after the last fault within which all tasks must have ended."""

_CRIES = ("Traceback (most recent call last)", "Unhandled", "[critical", "AssertionError")


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What a run is to be.

    @ivar seed: makes the schedule of faults, and what tasks are launched.
    @ivar faults: how many.
    @ivar interval: mean seconds between two.
    @ivar longest: seconds that none lasts longer than.
    @ivar agents: how many agents.
    @ivar tasks: how many tasks each of three frameworks keeps in flight.
    @ivar lengths: seconds that tasks take, from and to.
    @ivar each: how often each kind must have come, or the run is void.
    @ivar in_flight: how many tasks must run, in the median, or the run is void.
    """

    seed: int = 1
    faults: int = 21 * len(Kind)
    interval: float = 1.4
    longest: float = 60.0
    agents: int = 5
    tasks: int = 35
    lengths: tuple[float, float] = (3.0, 20.0)
    each: int = 20
    in_flight: int = 50


@dataclass(slots=True)
class Result:
    """
    What came out.

    @ivar wrong: what must not be.
    @ivar void: why the run proves nothing.
    @ivar outcomes: how many tasks ended in each way.
    @ivar done: how many faults of each kind.
    @ivar samples: how many tasks ran, twice a second while things went wrong.
    @ivar seconds: how long things went wrong.
    @ivar settled: seconds after the last fault until all tasks had ended.
    """

    wrong: list[str] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    done: Counter[Kind] = field(default_factory=Counter)
    samples: list[int] = field(default_factory=list)
    seconds: float = 0.0
    settled: float = 0.0

    def report(self) -> str:
        """Return it for people."""
        tasks = sum(self.outcomes.values())
        faults = f"{sum(self.done.values())} faults in {self.seconds:.0f} s"
        lines = [
            f"{faults}; all tasks had ended {self.settled:.1f} s after the last",
            f"{tasks} tasks, {self.median} in flight in the median",
            "faults: " + _counted(self.done),
            "tasks: " + _counted(self.outcomes),
        ]
        lines += [f"VOID: {why}" for why in self.void]
        lines += [f"WRONG: {what}" for what in self.wrong]
        if not self.wrong:
            lines.append("nothing lost, nothing doubled, nothing stuck")
        return "\n".join(lines)

    @property
    def median(self) -> int:
        """How many tasks ran in the median."""
        return int(statistics.median(self.samples)) if self.samples else 0


def _counted(counts: Counter[Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


class Soak:
    """
    One run.

    @ivar cluster: ended by L{SoakCluster.close}, whatever happens.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda _: None) -> None:
        self.plan = plan
        self.result = Result()
        self.cluster = SoakCluster(plan.seed, plan.tasks, plan.lengths)
        self.nemesis = Nemesis(self.cluster, say)
        self._say = say

    async def run(self) -> Result:
        """Run all of it."""
        try:
            return await self._run()
        finally:
            self.nemesis.end()

    async def _run(self) -> Result:
        cluster, plan, result = self.cluster, self.plan, self.result
        await cluster.begin(agents=plan.agents)
        watching = Deferred.fromCoroutine(self.nemesis.watch())
        await until(
            "tasks in flight",
            lambda: cluster.running_tasks() > plan.in_flight / 2,
            60.0,
            seen=cluster.logs,
        )
        begun = reactor.seconds()
        sampling = Deferred.fromCoroutine(self._sample())
        self._say(f"{cluster.running_tasks()} tasks run; seed {plan.seed}; {cluster.directory}")
        try:
            # Only root may mount the small disks that are filled.
            kinds = [kind for kind in Kind if kind is not Kind.AGENT_FULL or cluster.disks]
            await self.nemesis.run(
                schedule(plan.seed, plan.faults, plan.interval, plan.longest, kinds)
            )
            result.seconds = reactor.seconds() - begun
        finally:
            sampling.addErrback(lambda reason: reason.trap(CancelledError))
            sampling.cancel()
            self.nemesis.make_good()
        result.done = self.nemesis.done
        await self._settle()
        # Until the end somebody may end by himself, and be started again: the machine is busy.
        await self._reckon()
        self.nemesis.end()
        await watching
        self._void()
        return result

    async def _sample(self) -> None:
        last = time.time()
        while True:
            running = self.cluster.running_tasks()
            self.result.samples.append(running)
            if time.time() - last > 30.0:
                last = time.time()
                count = sum(self.nemesis.done.values())
                self._say(f"-- {count} faults, {running} tasks run, median {self.result.median}")
            await deferLater(reactor, 0.5)

    async def _settle(self) -> None:
        """Let no more be launched, and wait until all tasks have ended."""
        begun = reactor.seconds()
        for framework in self.cluster.frameworks.values():
            (framework.directory / "quiet").touch()
        try:
            await until("all tasks have ended", lambda: not self._open(), SETTLE, 0.5)
        except AssertionError:
            left = self._open()
            self.result.wrong.append(f"{len(left)} tasks have not ended: {left[:10]}")
        self.result.settled = reactor.seconds() - begun
        try:
            await self.cluster.whole()
        except AssertionError:
            self.result.wrong.append("the cluster is not whole a minute after the last fault")

    def keep(self) -> Path:
        """Copy journals, marks and logs to where they stay, and return where."""
        kept = Path(tempfile.mkdtemp(prefix="mk-soak-", dir="/tmp"))
        for name, process in self.cluster.processes().items():
            (kept / f"{name}.log").write_text(process.log())
        for name, framework in self.cluster.frameworks.items():
            for file in ("journal", "marks"):
                shutil.copy(framework.directory / file, kept / f"{name}.{file}")
        for name, agent in self.cluster.agents.items():
            with suppress(OSError):
                shutil.copy(agent.runtime_dir / "launcher" / "log", kept / f"{name}.launcher.log")
        (kept / "story").write_text("\n".join(self.nemesis.story))
        (kept / "report").write_text(self.result.report())
        return kept

    def _open(self) -> list[str]:
        """Return the tasks that nobody was told the end of."""
        found = []
        for framework in self.cluster.frameworks.values():
            reckoning = reckon(books.read_journal(framework.journal), ())
            found += reckoning.stuck
        return found

    async def _reckon(self) -> None:
        result, cluster = self.result, self.cluster
        excuses = await self._excuses()
        for name, framework in cluster.frameworks.items():
            marks = framework.marks.read()
            journal = list(books.read_journal(framework.journal))
            found: Reckoning = reckon(journal, marks, excuses)
            result.outcomes += found.outcomes
            result.wrong += [f"{name}: {each}" for each in found.wrong]
            alive = [mark for mark in marks if mark.what == "start" and _runs(mark)]
            result.wrong += [f"{name}: {mark.task} has ended and runs" for mark in alive]
            ids = {entry["id"] for entry in journal if entry["what"] == books.SUBSCRIBED}
            if len(ids) != 1:
                result.wrong.append(f"{name} has had the ids {ids}")
            errors = [entry["why"] for entry in journal if entry["what"] == books.ERROR]
            result.wrong += [f"{name} was ended by the master: {why}" for why in errors]
        await self._look_at_what_is_left()
        result.wrong += [f"surprise: {each}" for each in self.nemesis.surprises]
        for name, process in cluster.processes().items():
            result.wrong += [f"{name} cries: {cry}" for cry in cries(process.log())]

    async def _excuses(self) -> Excuses:
        """Return what tasks may have suffered from, by the ids of agents."""
        ids = {}
        for agent in (await self._ask_leader("/slaves"))["slaves"]:
            for name, daemon in self.cluster.agents.items():
                if daemon.port == agent["port"]:
                    ids[name] = agent["id"]
        given = self.nemesis.excuses
        return Excuses(
            {ids[name]: times for name, times in given.full.items() if name in ids},
            {ids[name]: times for name, times in given.launchers.items() if name in ids},
        )

    async def _ask_leader(self, path: str) -> Any:
        """Return what the master that leads says, whichever it is by then."""

        async def answer() -> Any:
            leader = await self.cluster.look_for_leader()
            try:
                port = self.cluster.masters[leader].port
                return json.loads((await asking.get(port, path, timeout=30.0))[1])
            except Exception:
                return None

        return await until_async(f"{path} of the leader", answer, 90.0, seen=self.cluster.logs)

    async def _look_at_what_is_left(self) -> None:
        """Hold that neither the master nor an agent believes in anything that is no more."""
        cluster, wrong = self.cluster, self.result.wrong
        known = await self._ask_leader("/metrics/snapshot")
        if known["master/slaves_unreachable"]:
            wrong.append(f"{known['master/slaves_unreachable']} agents have changed their ids")
        for framework in (await self._ask_leader("/state"))["frameworks"]:
            for key in ("tasks", "unreachable_tasks"):
                left = [task["id"] for task in framework[key]]
                if left:
                    wrong.append(f"the master has {key} of {framework['name']}: {left[:10]}")
        try:
            await cluster.acknowledged()
        except AssertionError as error:
            wrong.append(f"updates that nobody has acknowledged: {error}")
        try:
            await until_async(
                "no cgroup of a container that is gone",
                self._cgroups_are_known,
                seen=lambda: sorted(cluster.cgroups())[:10],
            )
        except AssertionError as error:
            wrong.append(str(error))

    async def _cgroups_are_known(self) -> bool:
        """Hold that every cgroup is of a container which an agent has."""
        known = set()
        for agent in self.cluster.agents.values():
            try:
                _, body = await asking.get(agent.port, "/containers", timeout=30.0)
            except Exception:
                return False
            known |= {one["container_id"] for one in json.loads(body)}
        return self.cluster.cgroups() <= known

    def _void(self) -> None:
        result, plan = self.result, self.plan
        for kind in Kind:
            if result.done[kind] < plan.each:
                result.void.append(f"{kind} came {result.done[kind]} times, not {plan.each}")
        if result.median < plan.in_flight:
            result.void.append(f"{result.median} tasks ran in the median, not {plan.in_flight}")


def _runs(mark: books.Mark) -> bool:
    """Tell whether the process of a command that has ended is there: executors live on."""
    return processes.alive(mark.pid) and b"echo start" in processes.arguments(mark.pid)


def cries(log: str) -> list[str]:
    """Return what in a log says that something went wrong that nobody thought of."""
    lines = log.splitlines()
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        if any(cry in line for cry in _CRIES):
            text = " | ".join(lines[max(0, number - 1) : number + 30])
            found.setdefault(_shape(lines[number : number + 30]), text[:3000])
    return list(found.values())


def _shape(lines: list[str]) -> str:
    """Return what two cries have in common that are the same: the places of their code."""
    return " ".join(line.strip() for line in lines if line.strip().startswith("File "))[:600]
