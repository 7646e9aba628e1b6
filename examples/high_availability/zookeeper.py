"""A ZooKeeper server of Debian's package, for a demonstration: on loopback, in memory's speed."""

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from cluster import ADDRESS, START_TIMEOUT, CannotStart, listens
from twisted.internet.task import deferLater

JARS = Path("/usr/share/java")
CLASSES = [JARS / name for name in ("zookeeper.jar", "slf4j-log4j12.jar", "log4j-1.2.jar")]


class ZooKeeper:
    """
    One server. A cluster that people rely on has three, or five.

    @ivar address: C{host:port}.
    """

    def __init__(self, reactor: Any, port: int, folder: Path) -> None:
        self.address = f"{ADDRESS}:{port}"
        self._reactor = reactor
        self._port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """
        Start it; returns when it listens.

        @raise CannotStart: where there is none on this machine, or it does not come up.
        """
        if shutil.which("java") is None or not CLASSES[0].exists():
            raise CannotStart("ZooKeeper is not installed; on Debian: apt-get install zookeeper")
        self._folder.mkdir()
        configuration = self._folder / "zoo.cfg"
        configuration.write_text(
            f"tickTime=500\ndataDir={self._folder}\nclientPort={self._port}\n"
            f"clientPortAddress={ADDRESS}\nadmin.enableServer=false\nminSessionTimeout=1000\n"
        )
        classes = ":".join(["/etc/zookeeper/conf", *map(str, CLASSES)])
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = ["java", "-Xmx96m", "-Dzookeeper.jmx.log4j.disable=true", "-cp", classes, main]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                process_group=0,  # Ctrl-C in the terminal is for the demonstration alone
            )
        deadline = self._reactor.seconds() + START_TIMEOUT
        while not listens(self._port):
            if self._process.poll() is not None or self._reactor.seconds() > deadline:
                said = (self._folder / "log").read_text(errors="replace")[-1000:]
                raise CannotStart(f"ZooKeeper did not start:\n{said}")
            await deferLater(self._reactor, 0.03)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
