"""A master and agents as services of one process; tasks are real processes all the same."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from json import loads
from pathlib import Path
from typing import Any, Final

import psutil
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogBeginner, textFileLogObserver

from mesoskit.agent import launcher_proc
from mesoskit.agent.service import AgentService
from mesoskit.app import agent as agent_program
from mesoskit.app import master as master_program
from mesoskit.flags import Values
from mesoskit.master.service import MasterService

REGISTER_PATIENCE: Final = 10.0
"""Seconds that the start waits for agents to register; they go on trying after it."""

END_PATIENCE: Final = 10.0
"""Seconds that the agents have to end what they run: more than an executor's grace period."""

FIRST_PORT: Final = 31000
LAST_PORT: Final = 32000


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Write what the daemons log into a file, not between the lines of the terminal."""
    with path.open("a", encoding="utf-8") as file:
        observer = textFileLogObserver(file)
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        yield


class LocalCluster:
    """
    A whole cluster.

    @param values: of the flags of C{mesoskit local}.
    @param work_dir: where sandboxes are.
    @param runtime_dir: where sockets are: its path must be short.

    @ivar ended: fires with why and an exit status when a part of the cluster has ended, or
        L{end} was called; an empty reason means that all is well.
    """

    def __init__(self, reactor: Any, values: Values, work_dir: Path, runtime_dir: Path) -> None:
        self._reactor = reactor
        self._values = values
        self._work_dir = work_dir
        self._runtime_dir = runtime_dir
        self._master: MasterService | None = None
        self._agents: dict[AgentService, Deferred[None]] = {}
        self._stopping = False
        self.ended: Deferred[tuple[str, int]] = Deferred()

    @property
    def address(self) -> str:
        """Where the master is."""
        port: Any = None if self._master is None else self._master.ports[0].getHost()
        return f"{self._values.ip}:{port.port}"

    def end(self, why: str, status: int) -> None:
        """Have the cluster ended."""
        if not self.ended.called and not self._stopping:
            self.ended.callback((why, status))

    async def start(self) -> None:
        """
        Start the master, then the agents; returns when all are registered.

        Raises what the services' own C{startService} fail with, and
        L{mesoskit.app.daemon.StartError}.
        """
        flags = [f"--ip={self._values.ip}", "--no-hostname_lookup"]
        values = master_program.FLAGS.parse(
            [
                *flags,
                f"--port={self._values.port}",
                f"--work_dir={self._work_dir / 'master'}",
                "--registry=in_memory",
            ],
            {},
        )
        master = master_program.make_master(self._reactor, values, self._part_ended("the master"))
        self._master = master
        await master.startService()
        for number in range(self._values.agents):
            self._make_agent(number, flags)
        try:
            await gatherResults(
                [agent.startService() for agent in self._agents], consumeErrors=True
            )
        except FirstError as error:
            error.subFailure.raiseException()
        deadline = self._reactor.seconds() + REGISTER_PATIENCE
        while not all(agent.state.registered for agent in self._agents):
            if self.ended.called or self._reactor.seconds() > deadline:
                return
            await deferLater(self._reactor, 0.02)

    def _make_agent(self, number: int, flags: list[str]) -> None:
        name = f"agent-{number + 1}"
        runtime_dir = self._runtime_dir / f"run-{number + 1}"
        values = agent_program.FLAGS.parse(
            [
                *flags,
                "--port=0",
                f"--master={self.address}",
                f"--work_dir={self._work_dir / name}",
                f"--runtime_dir={runtime_dir}",
                f"--resources={own_resources(self._values, number)}",
                "--registration_backoff_factor=10ms",
                "--recover=cleanup",
            ],
            {},
        )
        gone: Deferred[None] = Deferred()
        tell = self._part_ended(name)

        def stopped(why: str, status: int) -> None:
            tell(why, status)
            if not gone.called:
                gone.callback(None)

        agent = agent_program.make_agent(self._reactor, values, stopped)
        self._agents[agent] = gone

    def _part_ended(self, name: str) -> Any:
        return lambda why, status: self.end(f"{name} ended: {why}", status or 1)

    async def stop(self) -> None:
        """End every task, every agent with its launcher, and the master."""
        self._stopping = True
        started = [agent for agent in self._agents if agent.running]
        for agent in started:
            agent.shut_down("the local cluster is stopping")
        waits = [self._agents[agent].addTimeout(END_PATIENCE, self._reactor) for agent in started]
        await DeferredList(waits, consumeErrors=True)
        await DeferredList([agent.stopService() for agent in started], consumeErrors=True)
        for number in range(len(self._agents)):
            end_launcher(self._runtime_dir / f"run-{number + 1}" / "launcher")
        await deferToThread(end_containers_below, self._work_dir)
        if self._master is not None:
            await self._master.stopService()


def end_launcher(directory: Path) -> None:
    """End a launcher that may wait for an agent: none will come back for it."""
    try:
        said = loads((directory / "launcher.json").read_text())
    except (OSError, ValueError):
        return  # it has ended, and removed its record
    found = launcher_proc.process(said["pid"])
    if found is not None and found.start == said["start"]:
        with suppress(ProcessLookupError):
            os.kill(said["pid"], signal.SIGKILL)


def end_containers_below(work_dir: Path) -> None:
    """End what has outlived its agent all the same: it is known by its sandbox."""
    below = os.path.realpath(work_dir) + os.sep
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            sandbox = variables.get("MESOS_SANDBOX") or variables.get("MESOS_DIRECTORY") or ""
            if sandbox.startswith(below):
                process.kill()


def own_resources(values: Values, number: int) -> str:
    """Return one agent's C{--resources}: agents on one machine must not share ports."""
    given: str = values.resources
    if "ports" in given or given.lstrip().startswith("["):
        return given
    share = (LAST_PORT - FIRST_PORT + 1) // values.agents
    first = FIRST_PORT + number * share
    ports = f"ports:[{first}-{first + share - 1}]"
    return f"{given};{ports}" if given else ports
