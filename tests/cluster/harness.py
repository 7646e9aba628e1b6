"""A cluster of C{twistd} processes in a temporary directory, for tests.

Nothing of it outlives its test: whatever names the directory in its arguments, environment or
working directory (daemons, launchers, tasks) is killed at the end, and a test can ask whether
there was anything to kill.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from mesoskit.messages.internal_pb2 import StatusUpdateRecord
from tests.cluster import asking, processes
from tests.cluster.ledger import Ledger
from tests.cluster.waiting import PATIENCE, reactor, until, until_async

CHECKOUT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
TWISTD = str(BIN / "twistd")
TWIST = str(BIN / "twist")

Flags = Mapping[str, object]

_NONE: Flags = MappingProxyType({})

_given: list[socket.socket] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 below the ephemeral ones that nobody has, nor will be given."""
    while True:
        port = random.randrange(20000, 31000)
        # Tests beside us, in other processes, see that it is given though it is not listened at.
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            with suppress(OSError):
                claim.bind(f"\0mesoskit-test-port-{port}")
                probe.bind(("127.0.0.1", port))
                _given.append(claim)
                return port
        claim.close()


def environment() -> dict[str, str]:
    """Return the environment of a daemon: ours, without flags of Mesos'."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MESOS_")}
    own["PYTHONPATH"] = str(CHECKOUT)
    own["PYTHONWARNINGS"] = ""
    return own


def command_line(plugin: str, flags: Flags) -> list[str]:
    """Return C{plugin --flag=value ...}."""
    return [plugin, *(f"--{name}={value}" for name, value in flags.items())]


class Daemon:
    """
    A C{twistd --nodaemon} process and the directory that it runs in.

    @ivar port: where it listens on 127.0.0.1.
    @ivar work_dir: its C{--work_dir}.
    """

    def __init__(self, plugin: str, directory: Path, flags: Flags) -> None:
        self.plugin = plugin
        self.directory = directory
        self.port = free_port()
        self.work_dir = directory / "w"
        self.flags: dict[str, object] = {
            "work_dir": self.work_dir,
            "ip": "127.0.0.1",
            "port": self.port,
            "hostname": "127.0.0.1",
            **flags,
        }
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)

    @property
    def runtime_dir(self) -> Path:
        """An agent's C{--runtime_dir}."""
        return self.directory / "r"

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        assert self.process is not None
        return self.process.pid

    @property
    def pid_file(self) -> Path:
        """Where twistd writes its pid."""
        return self.directory / "twistd.pid"

    def log(self) -> str:
        """Return what it has logged so far, over all its starts."""
        with suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")
        return ""

    def start(self, **flags: object) -> None:
        """Start the process, with flags changed; see L{ready}."""
        self.flags.update(flags)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [TWISTD, "--nodaemon", *command_line(self.plugin, self.flags)],
                cwd=self.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        """Wait until it answers C{/health}."""

        async def healthy() -> bool:
            if not self.running:
                raise AssertionError(f"{self.plugin} ended as it started:\n{self.log()}")
            try:
                return (await asking.get(self.port, "/health"))[0] == 200
            except Exception:
                return False

        await until_async(f"{self.plugin} is healthy", healthy, seen=self.log)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def signal(self, signum: int) -> None:
        """Send a signal to the process itself, and to nothing that it has started."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(signum)

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Wait until the process has ended and return its status, as C{subprocess} has it."""
        await until(f"the end of {self.plugin}", lambda: not self.running, timeout, seen=self.log)
        assert self.process is not None
        assert self.process.returncode is not None
        return self.process.returncode

    async def kill(self) -> None:
        """End the process by SIGKILL; its pid file stays, as after any such death."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """End the process by SIGTERM."""
        self.signal(signal.SIGTERM)
        return await self.ended()


class MasterDaemon(Daemon):
    """C{twistd mesos-master}."""

    @property
    def address(self) -> str:
        """What agents and frameworks dial."""
        return f"127.0.0.1:{self.port}"


class AgentDaemon(Daemon):
    """C{twistd mesos-agent}."""

    @property
    def launcher(self) -> int | None:
        """The pid of its launcher, if there is one."""
        return processes.launcher_of(self.runtime_dir)

    def stored(self) -> dict[str, bytes]:
        """Return what it has stored, from a copy: it lets nobody else into its database."""
        name = "checkpoints.sqlite"
        with tempfile.TemporaryDirectory() as copy:
            for ending in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copy(self.work_dir / (name + ending), Path(copy, name + ending))
            with closing(sqlite3.connect(Path(copy, name))) as database:
                return dict(database.execute("SELECT key, value FROM entries"))

    def pending(self) -> list[str]:
        """Return the keys of stored updates that nobody has acknowledged."""
        record = StatusUpdateRecord
        return sorted(
            key
            for key, data in self.stored().items()
            if key.startswith("updates/") and record.FromString(data).type == record.UPDATE
        )

    def sandbox(self, framework_id: str, executor_id: str) -> Path:
        """Return the sandbox of an executor's last run, where Mesos has it."""
        runs = self.work_dir / "slaves" / "latest" / "frameworks" / framework_id
        return runs / "executors" / executor_id / "runs" / "latest"


class Cluster:
    """
    A master, some agents, and the frameworks of tests.

    @ivar directory: all that belongs to it is below.
    @ivar authorization: what daemons are shown that answer to nobody else.
    """

    authorization = ""

    def __init__(self) -> None:
        # A short path: sockets below it may have no more than 108 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp"))
        self.directory.chmod(0o755)
        self._marks: list[Path] = []
        self.agents: dict[str, AgentDaemon] = {}
        self._master: MasterDaemon | None = None
        self._ledgers: list[Ledger] = []

    @property
    def master(self) -> MasterDaemon:
        """The master, which must have been made."""
        assert self._master is not None
        return self._master

    @property
    def cgroups_root(self) -> str:
        """The cgroup below which are those of its tasks."""
        return f"mesoskit-test-{self.directory.name}"

    @property
    def where(self) -> str:
        """Where agents and frameworks look for their master."""
        return self.master.address

    async def start(self, agents: int = 1, master: Flags = _NONE, agent: Flags = _NONE) -> None:
        """Start a master and agents C{a0}, C{a1} …, and wait until they know each other."""
        self.make_master(master).start()
        for number in range(agents):
            self.make_agent(f"a{number}", agent).start()
        await self.master.ready()
        await self.registered()

    def make_master(self, flags: Flags = _NONE) -> MasterDaemon:
        """Prepare the master; times are short ones."""
        self._master = MasterDaemon(
            "mesos-master", self.directory / "m", {"allocation_interval": "200ms", **flags}
        )
        return self._master

    def make_agent(self, name: str, flags: Flags = _NONE) -> AgentDaemon:
        """Prepare an agent; times are short ones."""
        short: dict[str, object] = {
            "master": self.where,
            "resources": "cpus:4;mem:2048;disk:1024;ports:[31000-31099]",
            "registration_backoff_factor": "50ms",
            "runtime_dir": self.directory / name / "r",
            "cgroups_root": self.cgroups_root,
        }
        agent = AgentDaemon("mesos-agent", self.directory / name, {**short, **flags})
        self.agents[name] = agent
        return agent

    @property
    def agent(self) -> AgentDaemon:
        """The first agent."""
        return self.agents["a0"]

    async def registered(self, agents: int | None = None) -> None:
        """Wait until the master knows all agents that run, or so many."""
        wanted = sum(agent.running for agent in self.agents.values()) if agents is None else agents

        async def active() -> bool:
            for agent in self.agents.values():
                if not agent.running and agents is None:
                    raise AssertionError(f"an agent ended:\n{agent.log()}")
            try:
                known = await asking.metrics(self.master.port, self.authorization)
                if known["master/slaves_active"] != wanted:
                    return False
                # The agents have to have heard of it too, and written their ids down.
                running = [agent for agent in self.agents.values() if agent.running]
                theirs = [await asking.metrics(agent.port, self.authorization) for agent in running]
            except Exception:
                return False  # somebody is not there yet
            return all(one["slave/registered"] for one in theirs)

        await until_async(f"{wanted} agents registered", active, seen=self.logs)

    def framework(self, name: str = "test", **options: Any) -> Ledger:
        """
        Return a framework that keeps a ledger; it is stopped at the end.

        @param options: C{master}, where it is not reached as usual; the rest is the driver's.
        """
        master = options.pop("master", self.where)
        marks = self.directory / f"marks-{len(self._marks)}"
        self._marks.append(marks)
        marks.touch()
        marks.chmod(0o666)
        ledger = Ledger(reactor, master, name, marks, **options)
        self._ledgers.append(ledger)
        return ledger

    def logs(self) -> str:
        """Return the last lines of all daemons' logs."""
        parts = []
        for name, daemon in (("master", self._master), *self.agents.items()):
            if daemon is not None:
                parts.append(f"--- {name}\n" + "\n".join(daemon.log().splitlines()[-60:]))
        for name in self.agents:
            log = self.agents[name].runtime_dir / "launcher" / "log"
            with suppress(OSError):
                parts.append(f"--- launcher of {name}\n" + log.read_text()[-4000:])
        for file in self.directory.glob("*/w/slaves/*/frameworks/*/executors/*/runs/*/stderr"):
            with suppress(OSError):
                said = file.read_text(errors="replace")[-2000:]
                if said and not file.parent.is_symlink():
                    parts.append(f"--- {file}\n{said}")
        return "\n" + "\n".join(parts)

    async def acknowledged(self) -> None:
        """Wait until no agent has an update left that nobody has acknowledged."""

        def pending() -> list[str]:
            try:
                return [key for agent in self.agents.values() for key in agent.pending()]
            except sqlite3.Error as error:
                return [str(error)]  # copied in the middle of a write

        await until("every update acknowledged", lambda: not pending(), seen=pending)

    async def stop_frameworks(self) -> None:
        """Stop what frameworks are left, with all their tasks."""
        ledgers, self._ledgers = self._ledgers, []
        for ledger in ledgers:
            await ledger.close()

    def running(self) -> list[int]:
        """Return the pids of all that belongs to the cluster."""
        return processes.below(self.directory)

    def close(self) -> list[int]:
        """End everything at once; returns the pids of what was killed."""
        for daemon in (self._master, *self.agents.values()):
            if daemon is not None and daemon.running:
                assert daemon.process is not None
                daemon.process.kill()
                daemon.process.wait(60)
        killed = processes.sweep(self.directory)
        processes.sweep_cgroups(self.cgroups_root)
        return killed


class ClusterTestCase(TestCase):
    """A test with clusters: they end with it, and their logs are shown where it fails."""

    timeout = 600

    def cluster(self) -> Cluster:
        """Return a new cluster, which is gone after the test."""
        cluster = Cluster()
        self.addCleanup(cluster.close)
        self._use(cluster)
        return cluster

    def _use(self, cluster: Cluster) -> None:
        self.addCleanup(cluster.stop_frameworks)
        self.addCleanup(self._show, cluster)

    def _show(self, cluster: Cluster) -> None:
        if not _passed(self):
            sys.stderr.write(cluster.logs())


def _passed(test: TestCase) -> bool:
    return bool(getattr(test, "_passed", True))


class SharedCluster(ClusterTestCase):
    """
    Tests that hurt no daemon: they share a cluster, started for the first of them.

    @cvar agents: how many agents it has.
    @cvar agent_flags: flags of the agents; classes with the same share one cluster.
    """

    agents = 3
    agent_flags: Flags = {}
    _clusters: ClassVar[dict[object, Cluster]] = {}

    async def shared(self) -> Cluster:
        """Return the cluster."""
        key = self.agents, tuple(self.agent_flags.items())
        cluster = self._clusters.get(key)
        if cluster is None:
            cluster = self._clusters[key] = Cluster()
            # Trial tells nobody when the last test of a class has run, and a worker of
            # C{trial -j} lets the reactor announce its shutdown after every single test.
            atexit.register(cluster.close)
            await cluster.start(self.agents, agent=self.agent_flags)
        self._use(cluster)
        return cluster
