"""Containers that nobody runs: the double of the real thing, held to the same suite.

Beside it stand the doubles of the agent's other hands, L{MemorySandboxes} and L{MemoryFetcher}.

L{MemoryLauncher} is what outlives an agent, L{MemoryContainers} the agent's hold on it. The
processes are told what to do by a function from a spec to a wait status; by default they know
C{true}, C{false} and C{sh -c 'exit N'}, and run for ever otherwise, until a signal ends them.
"""

import re
from collections.abc import Callable, Sequence
from signal import SIGKILL, SIGTERM

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.agent.container import (
    Allotment,
    ContainerSpec,
    Limitation,
    RecoveredContainers,
    SandboxesFound,
    Uri,
    Usage,
)
from mesoskit.agent.containers import ContainerError, Exited
from mesoskit.agent.fetcher import FetchError
from mesoskit.agent.sandboxes import SandboxError
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId


def simple_commands(spec: ContainerSpec) -> int | None:
    """Return the wait status with which a command ends at once; L{None} for one that runs on."""
    if spec.argv == ("true",):
        return 0
    if spec.argv == ("false",):
        return 1 << 8
    found = re.fullmatch(r"exit (\d+)", spec.argv[2]) if len(spec.argv) == 3 else None
    return int(found[1]) << 8 if found else None


class MemoryLauncher:
    """
    All containers, whoever launched them.

    @ivar specs: what was launched, by id, until forgotten.
    @ivar pids: likewise.
    @ivar running: those of C{pids} that have not ended.
    @ivar ended: wait statuses, by id, until forgotten.
    @ivar abandoned: those that were ended because no agent was there, until forgotten.
    @ivar signals: every (container, signal number) that was sent, in order.
    @ivar allotments: what running containers were given at last, by id.
    @ivar figures: what L{MemoryContainers.usage} gives, where it shall not be zeros.
    @ivar refusals: why a container cannot be started, by id.
    """

    def __init__(self, outcome: Callable[[ContainerSpec], int | None] = simple_commands) -> None:
        self.specs: dict[ContainerId, ContainerSpec] = {}
        self.pids: dict[ContainerId, int] = {}
        self.running: dict[ContainerId, int] = {}
        self.ended: dict[ContainerId, int | None] = {}
        self.abandoned: set[ContainerId] = set()
        self.signals: list[tuple[ContainerId, int]] = []
        self.allotments: dict[ContainerId, Allotment] = {}
        self.figures: dict[ContainerId, Usage] = {}
        self.refusals: dict[ContainerId, str] = {}
        self.client: MemoryContainers | None = None
        self._outcome = outcome
        self._last_pid = 1000
        self._started: list[ContainerId] = []

    def launch(self, spec: ContainerSpec) -> int:
        """Start a container, or return the pid that it has already."""
        if spec.id in self.pids:
            return self.pids[spec.id]
        if spec.id in self.refusals:
            raise ContainerError(self.refusals[spec.id])
        if not spec.argv:
            raise ContainerError("nothing to execute: argv is empty")
        self._last_pid += 1
        self.specs[spec.id] = spec
        self.pids[spec.id] = self.running[spec.id] = self._last_pid
        self.allotments[spec.id] = spec.allotment
        self._started.append(spec.id)
        return self._last_pid

    def turn(self) -> None:
        """Let commands that end at once end."""
        started, self._started = self._started, []
        for container in started:
            status = self._outcome(self.specs[container]) if container in self.specs else None
            if status is not None:
                self.finish(container, status)

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal; SIGTERM and SIGKILL end whatever runs."""
        self.signals.append((container, signum))
        if signum in (SIGTERM, SIGKILL):
            self.finish(container, int(signum))

    def finish(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """
        End a container, for a test: with a wait status, or with one that nobody knows. What is
        nested in it ends after it.
        """
        if self.running.pop(container, None) is not None:
            self.ended[container] = status
            if self.client is not None:
                self.client.over(container, status, limitation)
            for nested in [name for name in self.running if self.specs[name].parent == container]:
                self.finish(nested, int(SIGKILL))

    def abandon(self, alone: float) -> None:
        """End what may not outlive an agent that has been away for so many seconds."""
        for container in list(self.running) if self.client is None else ():
            patience = self.specs[container].patience
            if patience is not None and patience <= alone:
                self.abandoned.add(container)
                self.finish(container, int(SIGTERM))

    def forget(self, container: ContainerId) -> None:
        """Drop a container that has ended."""
        self.abandoned.discard(container)
        if self.ended.pop(container, False) is not False:
            del self.specs[container], self.pids[container], self.allotments[container]


class MemoryContainers:
    """
    A C{Containers} (L{mesoskit.agent.containers}) over a L{MemoryLauncher}.

    Commands that end at once do so when L{MemoryLauncher.turn} is called.
    """

    def __init__(
        self,
        launcher: MemoryLauncher,
        exited: Exited,
        later: Callable[[Callable[[], None]], object] = lambda function: None,
    ) -> None:
        """
        @param exited: is told of every end.
        @param later: is given L{MemoryLauncher.turn} after every launch, to call it later.
        """
        self.launcher = launcher
        self._exited = exited
        self._later = later
        self._own: set[ContainerId] = set()
        self._recovered = False
        self._stopped = False

    def start(self) -> "Deferred[None]":
        """Take hold of the launcher."""
        self.launcher.client = self
        return succeed(None)

    def launch(self, spec: ContainerSpec) -> "Deferred[int]":
        """Start a container."""
        if self._stopped:
            return fail(ContainerError("the agent is stopping"))
        try:
            pid = self.launcher.launch(spec)
        except ContainerError as error:
            return fail(error)
        self._own.add(spec.id)
        self._later(self.launcher.turn)
        return succeed(pid)

    def signal(self, container: ContainerId, signum: int) -> None:
        """Send a signal to what runs."""
        if container in self.launcher.running:
            self.launcher.signal(container, signum)

    def destroy(self, container: ContainerId) -> "Deferred[None]":
        """Kill a container."""
        self.launcher.finish(container, int(SIGKILL))
        return succeed(None)

    def update(self, container: ContainerId, allotment: Allotment) -> "Deferred[None]":
        """Note what a running container is given now."""
        if container in self.launcher.running:
            self.launcher.allotments[container] = allotment
        return succeed(None)

    def usage(self) -> "Deferred[dict[ContainerId, Usage]]":
        """Give the figures that a test has set, zeros for the rest."""
        nothing = Usage(0.0, 0.0, 0, 1)
        figures = self.launcher.figures
        return succeed({name: figures.get(name, nothing) for name in self.launcher.running})

    def recover(self) -> "Deferred[RecoveredContainers]":
        """Give what others have launched."""
        self._recovered = True
        running, ended = self.launcher.running, self.launcher.ended
        return succeed(
            RecoveredContainers(
                {name: pid for name, pid in running.items() if name not in self._own},
                {name: status for name, status in ended.items() if name not in self._own},
                frozenset(self.launcher.abandoned - self._own),
            )
        )

    def forget(self, container: ContainerId) -> None:
        """Drop a container that has ended."""
        self.launcher.forget(container)

    def stop(self) -> "Deferred[None]":
        """Hear no more."""
        self._stopped = True
        if self.launcher.client is self:
            self.launcher.client = None
        return succeed(None)

    def over(
        self, container: ContainerId, status: int | None, limitation: Limitation | None
    ) -> None:
        """For the launcher: a container has ended."""
        if self._recovered or container in self._own:
            self._exited(container, status, limitation)


class MemorySandboxes:
    """
    The double of L{mesoskit.agent.sandboxes.Sandboxes}: nothing is made.

    @ivar made: specs, in order; C{removed}: paths.
    @ivar full: why no sandbox can be made, for a test; empty where one can.
    @ivar found: what L{find} gives.
    """

    def __init__(self, work_dir: str = "/nowhere") -> None:
        self.work_dir = work_dir
        self.made: list[ContainerSpec] = []
        self.removed: list[str] = []
        self.full = ""
        self.found = SandboxesFound()

    def make(self, spec: ContainerSpec, credentials: Credentials | None) -> None:
        """Remember it."""
        if self.full:
            raise SandboxError(self.full)
        self.made.append(spec)

    def link_agent(self, agent_id: str) -> None:
        """Nothing: there are no links."""

    def remove(self, path: str) -> "Deferred[None]":
        """Remember it."""
        self.removed.append(path)
        return succeed(None)

    def find(self) -> "Deferred[SandboxesFound]":
        """Give what a test has set."""
        return succeed(self.found)


class MemoryFetcher:
    """
    The double of L{mesoskit.agent.fetcher.Fetcher}: nothing comes.

    @ivar fetching: Deferreds for a test to fire, by container.
    """

    def __init__(self) -> None:
        self.fetching: dict[ContainerId, Deferred[None]] = {}

    def start(self) -> "Deferred[None]":
        """Nothing is to be made ready."""
        return succeed(None)

    def metrics(self) -> dict[str, float]:
        """Nothing is counted."""
        return {}

    def fetch(
        self,
        container: ContainerId,
        uris: Sequence[Uri],
        sandbox: str,
        credentials: Credentials | None,
    ) -> "Deferred[None]":
        """Wait for the test."""
        self.fetching[container] = Deferred()
        return self.fetching[container]

    def cancel(self, container: ContainerId) -> None:
        """Give it up."""
        fetching = self.fetching.pop(container, None)
        if fetching is not None:
            fetching.errback(FetchError("the fetching was cancelled"))

    def stop(self) -> None:
        """Give up everything."""
        for container in list(self.fetching):
            self.cancel(container)
