"""Real ZooKeeper servers of Debian's package, on loopback, for tests."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.cluster.harness import free_port

_JARS = Path("/usr/share/java")
_CLASSES = (
    "/etc/zookeeper/conf",
    _JARS / "zookeeper.jar",
    _JARS / "slf4j-log4j12.jar",
    _JARS / "log4j-1.2.jar",
    # For TLS alone.
    *(
        _JARS / f"netty-{name}.jar"
        for name in ("buffer", "codec", "common", "handler", "resolver", "transport")
    ),
    _JARS / "netty-transport-native-unix-common.jar",
    _JARS / "netty-transport-native-epoll.jar",
)

# As little as will do: several of them share two cores with the cluster under test.
_JAVA = (
    "java",
    "-Xmx96m",
    "-Xshare:auto",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dzookeeper.root.logger=WARN,CONSOLE",
    # Nothing of it outlives its test.
    "-Dzookeeper.forceSync=no",
)

_PATIENCE = 60.0


def installed() -> bool:
    """Tell whether Debian's package and a Java are there."""
    return (_JARS / "zookeeper.jar").exists() and shutil.which("java") is not None


class Server:
    """
    One server process.

    @ivar port: where it listens on 127.0.0.1.
    """

    def __init__(self, directory: Path, port: int, number: int = 0, more: str = "") -> None:
        self.port = port
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        data = directory / "data"
        data.mkdir(parents=True)
        if number:
            (data / "myid").write_text(f"{number}\n")
        (directory / "zoo.cfg").write_text(
            f"tickTime=400\ninitLimit=20\nsyncLimit=10\ndataDir={data}\nclientPort={port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
            "minSessionTimeout=800\nmaxSessionTimeout=20000\nmaxClientCnxns=0\n" + more
        )

    @property
    def address(self) -> str:
        """What clients dial."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; see L{ready}."""
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *_JAVA,
                    "-cp",
                    ":".join(map(str, _CLASSES)),
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                    str(self.directory / "zoo.cfg"),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def mode(self) -> str:
        """Return C{standalone}, C{leader} or C{follower}; C{""} while it does not serve."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as asked:
            asked.sendall(b"srvr")
            asked.settimeout(1)
            said = b""
            while data := asked.recv(4096):
                said += data
            for line in said.decode().splitlines():
                if line.startswith("Mode: "):
                    return line.removeprefix("Mode: ")
        return ""

    def ready(self) -> None:
        """Wait, blocking, until it serves."""
        deadline = time.monotonic() + _PATIENCE
        while not self.mode():
            if time.monotonic() > deadline or (self.process and self.process.poll() is not None):
                raise AssertionError("ZooKeeper does not serve:\n" + self.log())
            time.sleep(0.02)

    def log(self) -> str:
        """Return the end of what it has logged."""
        with suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")[-4000:]
        return ""

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)

    def pause(self) -> None:
        """Let it stand still, its connections with it."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(60)


class Servers:
    """
    An ensemble of one server or three.

    @param more: lines of the servers' configuration.

    Raises L{SkipTest} where there is no ZooKeeper on this machine.
    """

    def __init__(self, size: int = 1, more: str = "") -> None:
        if not installed():
            raise SkipTest("needs Debian's package zookeeper: make deps")
        self.directory = Path(tempfile.mkdtemp(prefix="mk-zk-", dir="/tmp"))
        atexit.register(self.close)
        ports = [(free_port(), free_port()) for _ in range(size)]
        peers = "".join(
            f"server.{number}=127.0.0.1:{one}:{other}\n"
            for number, (one, other) in enumerate(ports, 1)
        )
        self.servers = [
            Server(
                self.directory / str(n),
                free_port(),
                n if size > 1 else 0,
                more + peers * (size > 1),
            )
            for n in range(1, size + 1)
        ]
        self._paths = count(1)

    def start(self) -> None:
        """Start all of them, and wait, blocking, until they serve."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.ready()

    @property
    def hosts(self) -> str:
        """The servers with commas between."""
        return ",".join(server.address for server in self.servers)

    def url(self, who: str = "") -> str:
        """Return C{zk://...} with a path that nobody has used; C{who} is C{user:password@}."""
        return f"zk://{who}{self.hosts}/t{os.getpid()}-{next(self._paths)}/mesos"

    def leader(self) -> Server:
        """Return the server that leads the others, once it says so; blocking."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            for server in self.servers:
                if server.mode() == "leader":
                    return server
            if time.monotonic() > deadline:
                raise AssertionError("no ZooKeeper leads the others")

    def close(self) -> None:
        """End all of it, and remove its files."""
        for server in self.servers:
            server.go_on()
            server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.close)


_shared: list[Servers] = []


def shared() -> Servers:
    """Return one server that all tests of this process share, started for the first of them."""
    if not _shared:
        servers = Servers()
        servers.start()
        _shared.append(servers)
    return _shared[0]
