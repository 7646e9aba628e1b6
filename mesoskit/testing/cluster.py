"""A whole cluster in one process, without a reactor: for the tests of framework authors.

The master is the master, the agents are agents, the framework's driver is the one that ships;
what is pretended is the network, the time, and what containers do. So a framework that passes its
tests here has met the rules of the real thing, not somebody's idea of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed

from mesoskit.agent.container import ContainerSpec, Limitation
from mesoskit.agent.containers import Exited
from mesoskit.agent.containers.memory import (
    MemoryContainers,
    MemoryFetcher,
    MemoryLauncher,
    MemorySandboxes,
    simple_commands,
)
from mesoskit.agent.environment import EXECUTOR_TOKEN
from mesoskit.agent.hands import Hands
from mesoskit.agent.launcher import BLIP
from mesoskit.agent.options import AgentOptions
from mesoskit.agent.probe import HttpGet, TcpConnect
from mesoskit.agent.probing import Prober
from mesoskit.agent.service import AgentService
from mesoskit.agent.state import AgentState
from mesoskit.agent.users import Credentials
from mesoskit.allocator.hierarchical import HierarchicalAllocator
from mesoskit.allocator.options import Options as AllocatorOptions
from mesoskit.app import patterns
from mesoskit.cluster.memory import MemoryStore
from mesoskit.driver.environment import ExecutorEnvironment
from mesoskit.driver.executor_driver import ExecutorDriver
from mesoskit.driver.framework import Framework
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.master.state import MasterState
from mesoskit.messages.mesos_pb2 import FrameworkInfo
from mesoskit.model.ids import ContainerId
from mesoskit.model.resources import Resources
from mesoskit.testing.network import Host, Network

MASTER = "127.0.0.1:5050"
"""Where the master of every L{TestCluster} is, on the cluster's own network."""

Outcome = Callable[[ContainerSpec], int | float | None]
"""
What a command does: a wait status, with which it ends at once; a float, the seconds after which
it ends well; L{None} where it does not end by itself, or is not known.
"""


class _Launcher(MemoryLauncher):
    """What runs on one agent's machine: commands by script, executors for real."""

    def __init__(self, cluster: TestCluster, host: Host) -> None:
        super().__init__(self._begin)
        self._cluster = cluster
        self._host = host
        self.drivers: dict[ContainerId, ExecutorDriver] = {}

    def _begin(self, spec: ContainerSpec) -> int | None:
        variables = dict(spec.environment)
        if EXECUTOR_TOKEN in variables:
            environment = ExecutorEnvironment.read(variables)
            make = self._cluster.executors.get(environment.executor_id)
            if make is not None:
                self._start(spec.id, make(), environment)
                return None
        outcome = self._cluster.outcome(spec)
        if isinstance(outcome, float):
            self._host.callLater(outcome, self.finish, spec.id, 0)
            return None
        return outcome

    def _start(
        self, container: ContainerId, executor: Any, environment: ExecutorEnvironment
    ) -> None:
        driver = ExecutorDriver(self._host, executor, environment)
        self.drivers[container] = driver
        driver.run().addCallback(lambda _: self.finish(container, 0))

    def finish(
        self, container: ContainerId, status: int | None, limitation: Limitation | None = None
    ) -> None:
        """End a container, and the executor in it."""
        driver = self.drivers.pop(container, None)
        if driver is not None:
            driver.abandon()
        super().finish(container, status, limitation)


class _ReadyFetcher(MemoryFetcher):
    """Whatever is to be fetched is there."""

    def fetch(self, *arguments: Any) -> Deferred[None]:
        return succeed(None)


class _AnyUser:
    """Every user exists, and is nobody in particular."""

    def find(self, name: str | None) -> Deferred[Credentials | None]:
        return succeed(None)


class TestAgent:
    """
    An agent of a L{TestCluster}.

    @ivar host: its machine.
    @ivar containers: what runs there; outlives the agent.
    @ivar service: the agent; L{None} where it is down.
    """

    __test__ = False

    def __init__(self, cluster: TestCluster, number: int, resources: str) -> None:
        self._cluster = cluster
        self.hostname = f"agent{number}.test"
        self.host = cluster.network.host(self.hostname)
        self.containers = _Launcher(cluster, self.host)
        self._options = AgentOptions(
            hostname=self.hostname,
            port=5051 + number,
            resources=Resources.parse(resources),
            work_dir="/",
            runtime_dir=f"/run/{number}",
            registration_backoff_factor=0.1,
            boot_id="boot-1",
        )
        self._boots = 1
        self._store: dict[str, bytes] = {}
        self._seed = number.to_bytes(16, "big")
        self._starts = 0
        self.service: AgentService | None = None
        self.start()

    def __repr__(self) -> str:
        return f"<TestAgent {self.hostname} {self.id or 'unregistered'}>"

    @property
    def id(self) -> str:
        """The agent's id, C{""} before a master has given one."""
        return self.state.agent_id if self.service is not None else ""

    @property
    def state(self) -> AgentState:
        """What the agent knows."""
        assert self.service is not None, f"{self.hostname} is down"
        return self.service.state

    def start(self) -> None:
        """Start the agent, or start it again with what it had stored."""
        if self.service is not None:
            raise RuntimeError(f"{self.hostname} is up already")
        self._starts += 1
        self.service = AgentService(
            self.host,
            self._options,
            MemoryStore(self._store),
            MASTER,
            make_hands=self._hands,
            seed=(self._starts << 64).to_bytes(16, "big")[:8] + self._seed[8:],
        )
        self.service.startService()

    def stop(self) -> None:
        """
        Kill the agent's process; its links break, and its containers live on, as long as they may
        without an agent.
        """
        service, self.service = self.service, None
        if service is not None:
            self.host.cut()
            service.abandon()
            specs = self.containers.specs.values()
            for patience in {spec.patience for spec in specs if spec.patience is not None}:
                wait = max(BLIP, patience)
                self.host.callLater(wait, self._still_away, self._starts, wait)

    def _still_away(self, starts: int, alone: float) -> None:
        if self._starts == starts:
            self.containers.abandon(alone)

    def restart(self) -> None:
        """Kill the agent's process and start it again."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Power off: the agent and all containers are gone, and the master has to notice."""
        self.host.isolate()
        service, self.service = self.service, None
        for container in list(self.containers.running):
            self.containers.client = None
            self.containers.finish(container, None)
        self._boots += 1
        self._options = replace(self._options, boot_id=f"boot-{self._boots}")
        if service is not None:
            service.abandon()

    def forget(self) -> None:
        """Wipe the disk of an agent that is down: it will come back as another one."""
        if self.service is not None:
            raise RuntimeError(f"{self.hostname} is up: stop or kill it first")
        self._store.clear()

    def _hands(self, reactor: Any, options: AgentOptions, tell: Callable[[Any], None]) -> Hands:
        hands = Hands(_AnyUser(), MemorySandboxes("/"), _ReadyFetcher(), tell)
        hands.prober = Prober(reactor, lambda: hands.containers, _AllIsWell, tell)
        exited: Exited = hands.exited
        hands.containers = MemoryContainers(
            self.containers, exited, lambda turn: reactor.callLater(0, turn)
        )
        return hands


class _AllIsWell:
    """Finds every task well that it is to ask over the network."""

    def http(self, what: HttpGet) -> Deferred[int]:
        return succeed(200)

    def tcp(self, what: TcpConnect) -> Deferred[None]:
        return succeed(None)


class TestCluster:
    """
    A master, agents, a network and a clock.

    C{cluster = TestCluster(agents=3); framework = cluster.framework(name="mine")}; then
    C{cluster.advance(seconds)}, as nothing happens otherwise. Commands that containers run are
    C{true}, C{false}, C{sleep N}, C{sh -c 'exit N'}, and what C{commands} says; anything else
    runs until it is killed, or until L{finish}. Custom executors are played by
    L{IExecutor<mesoskit.driver.executor.IExecutor>}s, given by executor id.

    @ivar network: the clock, among other things.
    @ivar agents: in order.
    @ivar executors: what makes each executor, by id; may be added to.
    @ivar commands: is asked first what a command does; see L{Outcome}.
    """

    __test__ = False

    def __init__(
        self,
        agents: int = 1,
        resources: str = "cpus:4;mem:4096;disk:10240;ports:[31000-32000]",
        *,
        executors: dict[str, Callable[[], Any]] | None = None,
        commands: Outcome | None = None,
        options: MasterOptions | None = None,
        allocator: AllocatorOptions | None = None,
    ) -> None:
        self.network = Network()
        self.executors: dict[str, Callable[[], Any]] = dict(executors or {})
        self.commands = commands
        if options is None:
            options = MasterOptions(compile_regex=patterns.compiler())
        self._options = options
        self._allocator = AllocatorOptions() if allocator is None else allocator
        self._registry: dict[str, bytes] = {}
        self._masters = 0
        self._started: list[Framework] = []
        self._master_host = self.network.host("master.test")
        self.master_service: MasterService | None = None
        self.start_master()
        self.agents = [TestAgent(self, number, resources) for number in range(agents)]
        # So that the first framework finds the agents there.
        self.advance(1.0)

    # Time

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and everything happen that is due."""
        self.network.advance(seconds)

    def wait(self, waited: Deferred[Any], seconds: float = 60.0) -> Any:
        """
        Let time pass until a Deferred has fired, and return its result or raise its failure.

        Raises L{AssertionError} where it has not fired after so many seconds.
        """
        outcome: list[Any] = []
        failure: list[Any] = []
        waited.addCallbacks(outcome.append, failure.append)
        end = self.network.seconds() + seconds
        self.advance()
        while not outcome and not failure:
            if self.network.seconds() >= end:
                raise AssertionError(f"it has not come within {seconds:g} s")
            self.advance(min(0.05, end - self.network.seconds()))
        if failure:
            failure[0].raiseException()
        return outcome[0]

    def stop(self) -> None:
        """Stop everything, and leave nothing that waits."""
        for framework in self._started:
            framework.stopService()
        self.advance(10)
        for agent in self.agents:
            agent.stop()
        self.stop_master()
        self.advance(10)

    # Frameworks

    def framework(
        self, info: FrameworkInfo | None = None, *, master: Any = MASTER, **more: Any
    ) -> Framework:
        """
        Return a framework on a machine of its own, started.

        @param info: by default one with a name.
        @param master: how the master is reached, C{"http://" + MASTER} for the v1 HTTP API.
        @param more: as L{Framework} takes it; C{user} and C{name}, among others, go to C{info}.
        """
        fields = {key: more.pop(key) for key in list(more) if key in _INFO_FIELDS}
        fields = {"user": "", "name": "test", **fields}
        given = FrameworkInfo(**fields) if info is None else info
        host = self.network.host(f"framework{len(self._started)}.test")
        framework = Framework(host, master, given, **more)
        self._started.append(framework)
        framework.startService()
        self.advance()
        return framework

    def host_of(self, framework: Framework) -> Host:
        """Return a framework's machine: to cut its links, or to isolate it."""
        host = framework.reactor
        assert isinstance(host, Host)
        return host

    # Containers

    def outcome(self, spec: ContainerSpec) -> int | float | None:
        """Say what a command does."""
        if self.commands is not None:
            outcome = self.commands(spec)
            if outcome is not None:
                return outcome
        words = _words(spec)
        if len(words) == 2 and words[0] == "sleep":
            return float(words[1])
        return simple_commands(spec) if len(words) != 1 else simple_commands(_bare(spec, words))

    def finish(self, task_id: str, status: int = 0) -> None:
        """End a command task's container, wherever it runs, with a wait status."""
        for agent in self.agents:
            for container, owner in list(agent.state.containers.items()):
                if owner.id == task_id:
                    agent.containers.finish(container, status)
                    self.advance()
                    return
        raise KeyError(f"no container of a task {task_id!r} runs")

    # The master

    @property
    def master(self) -> MasterState:
        """What the master knows."""
        assert self.master_service is not None, "the master is down"
        return self.master_service.state

    def start_master(self) -> None:
        """Start the master, or another one in its place, with the registry that is there."""
        if self.master_service is not None:
            raise RuntimeError("the master is up already")
        self._masters += 1
        self.master_service = MasterService(
            self._master_host,
            self._options,
            MemoryStore(self._registry),
            [MASTER],
            allocator=HierarchicalAllocator(self._allocator),
            seed=self._masters.to_bytes(16, "big"),
        )
        self.master_service.startService()

    def stop_master(self) -> None:
        """Kill the master; its links break."""
        service, self.master_service = self.master_service, None
        if service is not None:
            self._master_host.cut()
            service.stopService()

    def restart_master(self) -> None:
        """Let another master lead: it knows what is in the registry."""
        self.stop_master()
        self.start_master()


_INFO_FIELDS = frozenset(FrameworkInfo.DESCRIPTOR.fields_by_name)


def _words(spec: ContainerSpec) -> list[str]:
    """Return the words of a command, whether a shell runs it or not."""
    if spec.argv[:2] == ("sh", "-c") and len(spec.argv) == 3:
        try:
            return shlex.split(spec.argv[2])
        except ValueError:
            return []
    return list(spec.argv)


def _bare(spec: ContainerSpec, words: Iterable[str]) -> ContainerSpec:
    return ContainerSpec(spec.id, tuple(words), spec.sandbox)
