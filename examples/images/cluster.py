"""A cluster for a demonstration: a master and agents, each a twistd process of its own.

Everything is on loopback and below one temporary directory, and all of it is gone when the
cluster has been stopped.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

ADDRESS = "127.0.0.1"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
LONGEST_SOCKET = 50


class CannotStart(Exception):
    """A part of the cluster did not come up; the message says which, and its last words."""


class Daemon:
    """
    One twistd process.

    @ivar name: its host name, as the cluster knows it.
    @ivar port: where it listens.
    @ivar log: the file with all that it says.
    """

    def __init__(self, reactor: Any, name: str, port: int, folder: Path) -> None:
        self.name = name
        self.port = port
        self.log = folder / "log"
        self._reactor = reactor
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, plugin: str, *flags: str) -> None:
        """
        Start it; returns when it listens.

        @raise CannotStart: where it ends instead, or takes too long.
        """
        self._folder.mkdir()
        command = [
            twistd(),
            "--nodaemon",
            "--pidfile=",
            plugin,
            f"--ip={ADDRESS}",
            f"--port={self.port}",
            f"--hostname={self.name}",
            f"--work_dir={self._folder / 'work'}",
            f"--runtime_dir={self._folder / 'run'}",
            *flags,
        ]
        # MESOS_ variables are flags too, and this cluster is to be as it is described here.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MESOS_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=inherited,
                process_group=0,  # Ctrl-C in the terminal is for us alone
            )
        deadline = self._reactor.seconds() + START_TIMEOUT
        while not listens(self.port):
            if self._process.poll() is not None:
                raise CannotStart(self._last_words(f"ended with {self._process.returncode}"))
            if self._reactor.seconds() > deadline:
                raise CannotStart(self._last_words(f"does not listen at port {self.port}"))
            await deferLater(self._reactor, 0.03)

    async def stop(self) -> None:
        """Stop it: politely, then not."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
            deadline = self._reactor.seconds() + STOP_TIMEOUT
            while process.poll() is None and self._reactor.seconds() < deadline:
                await deferLater(self._reactor, 0.03)

    def kill(self) -> None:
        """End it at once, as a loss of power would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _last_words(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-12:]
        return "\n    ".join([f"{self.name} {what}; the end of its log:", *lines])


class Cluster:
    """
    A master and its agents.

    @param resources: what each agent offers.

    @ivar stopping: whether it is on its way down.
    """

    def __init__(self, reactor: Any, agents: int, resources: str) -> None:
        self._reactor = reactor
        self._resources = resources
        self.stopping = False
        # The path of a UNIX socket has room for 107 bytes.
        base = None if len(tempfile.gettempdir()) < LONGEST_SOCKET else "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="mesoskit-demo-", dir=base))
        names = ["master", *(f"agent-{number + 1}" for number in range(agents))]
        self.master, *self.agents = [
            Daemon(reactor, name, port, self.folder / name)
            for name, port in zip(names, free_ports(len(names)), strict=True)
        ]

    @property
    def address(self) -> str:
        """Where frameworks find the master."""
        return f"{ADDRESS}:{self.master.port}"

    async def start(self) -> None:
        """
        Start everything.

        @raise CannotStart: for the first part that does not come up.
        """
        await self.master.start("mesos-master", "--registry=in_memory")
        flags = [
            f"--master={self.address}",
            f"--resources={self._resources}",
            # The wait before agents register keeps a thousand of them apart.
            "--registration_backoff_factor=10ms",
            # Whatever happens, nothing is to be left on this machine, cgroups neither.
            "--launcher=posix",
        ]
        starts = [
            Deferred.fromCoroutine(agent.start("mesos-agent", *flags)) for agent in self.agents
        ]
        try:
            await gatherResults(starts, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()

    async def stop(self) -> None:
        """Stop everything, and remove what it left. Not to be cancelled."""
        self.stopping = True
        stops = [Deferred.fromCoroutine(agent.stop()) for agent in self.agents]
        await DeferredList(stops)
        await self.master.stop()
        await deferToThread(end_all_below, self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def twistd() -> str:
    """
    Return the path of twistd: the one that came with this Python.

    @raise CannotStart: where there is none.
    """
    beside = Path(sys.executable).with_name("twistd")
    found = str(beside) if beside.exists() else shutil.which("twistd")
    if found is None:
        raise CannotStart(f"there is no twistd beside {sys.executable}, nor on the PATH")
    return found


def free_ports(count: int) -> list[int]:
    """
    Return so many ports on which nobody listens, below those that the kernel gives to whoever
    dials: one of these could be taken again before a daemon has it.
    """
    found: list[int] = []
    for port in random.sample(range(10_000, 20_000), 2_000):
        if len(found) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind((ADDRESS, port))
            found.append(port)
    if len(found) < count:
        raise CannotStart(f"{count} free ports from 10000 to 19999 are not to be had")
    return found


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections; on loopback that is known at once."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((ADDRESS, port)) == 0


def end_all_below(folder: Path) -> None:
    """
    End what daemons leave behind on purpose: launchers and executors outlive an agent, so that
    it can find them again. They are known by the folder, in their arguments or environment.
    """
    deadline = time.monotonic() + STOP_TIMEOUT
    # Again until there is none: a launcher that just starts forks away from a single look.
    while (left := below(folder)) and time.monotonic() < deadline:
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                pass
        time.sleep(0.01)


def below(folder: Path) -> list[psutil.Process]:
    """Return the processes that name a folder in their arguments or environment."""
    mark = str(folder)
    found = []
    for process in psutil.process_iter():
        try:
            said = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(mark in text for text in said) and lives(process):
            found.append(process)
    return found


def lives(process: psutil.Process) -> bool:
    """Tell whether a process still does anything; a zombie only waits to be noticed."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
