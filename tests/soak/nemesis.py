"""Who makes things go wrong, as a schedule says, and right again."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.cluster.relay import Trouble
from tests.cluster.waiting import reactor
from tests.soak.cluster import PAUSE, SoakCluster
from tests.soak.reckoning import Excuses
from tests.soak.schedule import Fault, Kind

RETRY = 0.5
"""Seconds after which a fault that could be done to nobody is tried again."""

GIVEN_UP = 60.0
"""Seconds after which it is given up."""

ALL: frozenset[str] = frozenset()

_WAYS = {"cut": (True, True), "dumb": (True, False), "deaf": (False, True)}

Undo = Callable[[], None]


class Nemesis:
    """
    Carries faults out, and starts again whoever has ended.

    @ivar done: how many of each kind.
    @ivar excuses: what tasks may have suffered from.
    @ivar surprises: ends of processes that nobody asked for.
    @ivar drained: agents that are drained, and are to be brought back, and their ids.
    @ivar story: what was done, a line each.
    """

    def __init__(self, cluster: SoakCluster, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.done: Counter[Kind] = Counter()
        self.excuses = Excuses()
        self.surprises: list[str] = []
        self.story: list[str] = []
        self._say = say
        self._down: set[str] = set()
        self._troubled: set[str] = set()
        self._undo: dict[int, tuple[str, Undo]] = {}
        self._number = 0
        self._ended: dict[str, float] = {}
        self.drained: dict[str, str] = {}
        self._over = False
        self._limits = {"m": 2, "a": 3, "f": 2, "z": 1}

    async def run(self, faults: list[Fault]) -> None:
        """Carry out all faults, each when its time has come, and wait until the last is over."""
        begun = reactor.seconds()
        for fault in faults:
            await deferLater(reactor, max(0.0, begun + fault.at - reactor.seconds()))
            deadline = reactor.seconds() + GIVEN_UP
            while not await self._carry_out(fault):
                if reactor.seconds() > deadline:
                    self._note(f"{fault.kind}: could be done to nobody")
                    break
                await deferLater(reactor, RETRY)
        while self.busy:
            await deferLater(reactor, 0.1)

    def make_good(self) -> None:
        """Undo everything at once."""
        for number in list(self._undo):
            self._end(number)

    @property
    def busy(self) -> bool:
        """Whether somebody is still to be started, or to be brought back."""
        return bool(self._undo or self.drained or self._down)

    def supervise(self) -> None:
        """Start again whoever has ended by himself, as systemd would."""
        now = reactor.seconds()
        for name, process in self.cluster.processes().items():
            if process.running or name in self._down:
                self._ended.pop(name, None)
            elif name not in self._ended:
                self._ended[name] = now
                # Behind the reason everybody's farewells may stand.
                last = process.log().strip().splitlines()[-80:]
                lost = name in self.cluster.masters and "Lost leadership" in " ".join(last)
                why = "lost leadership" if lost else " | ".join(last[-12:])
                self._note(f"{name} has ended by itself: {why}")
                if not lost:
                    self.surprises.append(f"{name} ended by itself: {why}")
            elif now - self._ended[name] > PAUSE:
                del self._ended[name]
                process.start()

    async def watch(self) -> None:
        """Supervise, and know who leads, until L{end}."""
        while not self._over:
            self.supervise()
            await self.cluster.look_for_leader()
            await deferLater(reactor, 0.1)

    def end(self) -> None:
        """Watch no more."""
        self._over = True

    # What goes wrong

    async def _carry_out(self, fault: Fault) -> bool:
        """Begin a fault; tells whether there was anybody to do it to."""
        name = await self._victim(fault)
        if not name:
            return False
        if fault.kind is Kind.AGENT_DRAINED:
            undo = await self._drained(name)
        else:
            undo = self._begin(fault, name)
        if undo is None:
            return False
        self.done[fault.kind] += 1
        self._note(f"{fault.kind}: {name} for {fault.lasts:.1f} s")
        self._number += 1
        number = self._number
        self._undo[number] = name, undo
        self._troubled.add(name)
        reactor.callLater(fault.lasts, self._end, number)
        return True

    def _end(self, number: int) -> None:
        if number in self._undo:
            name, undo = self._undo.pop(number)
            self._troubled.discard(name)
            undo()

    async def _victim(self, fault: Fault) -> str:
        """Return to whom it is done, C{""} where that is nobody now."""
        cluster, kind = self.cluster, fault.kind
        names: list[str]
        if kind.startswith("leader"):
            names = [cluster.leader] if cluster.leader else []
        elif kind.startswith("master"):
            names = [name for name in cluster.masters if name != cluster.leader]
        elif kind is Kind.AGENT_FULL:
            names = list(cluster.disks)
        elif kind.startswith(("agent", "launcher")):
            names = list(cluster.agents)
        elif kind.startswith("framework"):
            names = list(cluster.frameworks)
        elif kind is Kind.ZOOKEEPER_LEADER_KILLED:
            number = await cluster.zookeepers_leader()
            names = [f"z{number}"] if number >= 0 else []
        elif kind is Kind.ZOOKEEPER_SILENT:
            names = ["z0,1", "z1,2", "z2,0"]
        elif kind.startswith("zookeeper"):
            names = [f"z{number}" for number in range(len(cluster.servers.servers))]
        else:
            names = list(cluster.processes())
        free = [name for name in names if self._may(name)]
        return free[int(fault.pick * len(free))] if free else ""

    def _may(self, name: str) -> bool:
        if name in self._troubled or name in self._ended or name in self._down:
            return False
        family = [each for each in self._troubled if each[0] == name[0]]
        return len(family) < self._limits[name[0]]

    def _begin(self, fault: Fault, name: str) -> Undo | None:
        kind = fault.kind
        words = kind.split()
        if kind is Kind.AGENT_FULL:
            return self._full(name)
        if kind is Kind.LAUNCHER_KILLED:
            return self._launcher(name)
        if kind is Kind.BROKEN:
            self.cluster.relay.break_off(frozenset({name}))
            return lambda: None
        if kind is Kind.LEADER_ALONE:
            return self._trouble(Trouble(ALL, frozenset({name}), up=True, down=True))
        if kind is Kind.SLOW:
            return self._trouble(Trouble(frozenset({name}), ALL, delay=0.02 + 0.5 * fault.pick))
        if name.startswith("z"):
            numbers = [int(number) for number in name[1:].split(",")]
            return self._zookeeper(numbers, "killed" in words)
        for word, way in (("cut", "cut"), ("heard", "dumb"), ("hear", "deaf")):
            if word in words:
                up, down = _WAYS[way]
                return self._trouble(Trouble(frozenset({name}), ALL, up, down))
        if "stopped" in words:
            return self._stopped(name)
        return self._killed(name, signal.SIGTERM if "politely" in words else signal.SIGKILL)

    def _killed(self, name: str, signum: int) -> Undo | None:
        process = self.cluster.processes()[name]
        if not process.running:
            return None
        self._down.add(name)
        process.signal(signum)

        def undo() -> None:
            if self._over:
                return
            if process.running:
                # It takes its time to end.
                reactor.callLater(0.1, undo)
                return
            self._down.discard(name)
            process.start()

        return undo

    def _stopped(self, name: str) -> Undo | None:
        process = self.cluster.processes()[name]
        if not process.running:
            return None
        process.signal(signal.SIGSTOP)
        return lambda: process.signal(signal.SIGCONT)

    def _zookeeper(self, numbers: list[int], killed: bool) -> Undo:
        servers = [self.cluster.servers.servers[number] for number in numbers]
        for server in servers:
            if killed:
                server.kill()
            else:
                server.pause()

        def undo() -> None:
            for server in servers:
                if killed:
                    server.start()
                else:
                    server.go_on()

        return undo

    def _trouble(self, trouble: Trouble) -> Undo:
        self.cluster.relay.begin(trouble)
        return lambda: self.cluster.relay.end(trouble)

    async def _drained(self, name: str) -> Undo | None:
        if name in self.drained:
            return None
        agent = await self.cluster.agent_id(name)
        grace = {"seconds": 1}
        if not agent or name in self._troubled:
            return None
        status, said = await self.cluster.ask_leader("drain_agent", agent, max_grace_period=grace)
        # Where nobody answers it may be drained all the same.
        self.drained[name] = agent
        if status != 200:
            self._note(f"{name} could not be drained: {status} {said}")
            self._bring_back(name)
            return None
        return lambda: self._bring_back(name)

    def _bring_back(self, name: str) -> None:
        """Bring an agent back, as soon as it has drained, whoever leads then."""

        async def again() -> None:
            while True:
                status, said = await self.cluster.ask_leader("reactivate_agent", self.drained[name])
                if status == 200 or "not deactivated" in said:
                    self._note(f"{name} is brought back")
                    del self.drained[name]
                    return
                await deferLater(reactor, RETRY)

        Deferred.fromCoroutine(again()).addErrback(
            lambda why: self.surprises.append(f"{name} was not brought back: {why}")
        )

    def _launcher(self, name: str) -> Undo | None:
        if not self.cluster.kill_launcher(name):
            return None
        return self._excuse(self.excuses.launchers, name, lambda: None)

    def _full(self, name: str) -> Undo:
        self.cluster.fill(name)
        return self._excuse(self.excuses.full, name, lambda: self.cluster.empty(name))

    def _excuse(self, kept: dict[str, list[tuple[float, float]]], name: str, undo: Undo) -> Undo:
        begun = time.time()

        def over() -> None:
            undo()
            kept.setdefault(name, []).append((begun, time.time() + 1.0))

        return over

    def _note(self, what: str) -> None:
        self.story.append(f"{time.time():.2f} {what}")
        self._say(what)
