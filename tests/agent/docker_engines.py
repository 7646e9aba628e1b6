"""A real Docker engine for tests: Debian's, in directories and a network namespace of its own."""

from __future__ import annotations

import atexit
import ctypes
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest

from mesoskit.agent.containers.docker_http import Engine
from tests.agent.real import REACTOR

IMAGE = "local/busybox"
"""An image with busybox alone, whose command is C{echo default}."""

_BUSYBOX = "/usr/bin/busybox"
_TOOLS = (
    "sh cat echo env sleep ls id pwd true false kill ps head wc sort grep dd tail seq hostname ip"
    " readlink test mkdir touch nc httpd wget yes stat stty"
).split()
_PATIENCE = 120.0


def busybox() -> bytes:
    """Return a root file system, as a tar."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("bin", "tmp", "etc", "proc", "sys", "dev", "mnt", "root"):
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(_BUSYBOX, "bin/busybox")
        for name in _TOOLS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type = tarfile.SYMTYPE
            entry.linkname = "busybox"
            tar.addfile(entry)
    return data.getvalue()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Daemon:
    """
    A C{dockerd} and all that belongs to it; nothing of it is outside of its directory.

    @ivar socket: where it is asked.
    @ivar parameters: what containers are to have in all tests.
    """

    parameters: tuple[tuple[str, str], ...] = (("init", "true"),)

    def __init__(self) -> None:
        """Raises L{SkipTest} where there can be none."""
        if os.geteuid() != 0:
            raise SkipTest("needs root, for a Docker engine")
        tools = ("dockerd", "runc", "unshare", "setpriv", "ip")
        missing = [name for name in tools if shutil.which(name) is None]
        if missing or not os.path.exists(_BUSYBOX):
            raise SkipTest("needs Debian's packages docker.io and busybox-static: make deps")
        self.directory = Path(tempfile.mkdtemp(prefix="mesoskit-docker-"))
        self.socket = str(self.directory / "docker.sock")
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)
        (self.directory / "daemon.json").write_text("{}")
        self.start()

    def start(self) -> None:
        """Start it, and wait, blocking, until it answers."""
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "dockerd",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--bip=172.30.55.1/24",
            "--storage-driver=overlay2",
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/pid",
            f"--config-file={self.directory}/daemon.json",
            f"--host=unix://{self.socket}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{self.directory.name}",
            "--shutdown-timeout=1",
        ]
        inside = "ip link set lo up; exec " + " ".join(command)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", inside],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                log_text = (self.directory / "log").read_text(errors="replace")[-3000:]
                raise SkipTest(f"dockerd does not run here: {log_text}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(2)
            asked.connect(self.socket)
            asked.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in asked.recv(4096)
        return False

    def containers(self, label: str) -> list[str]:
        """Return the names of the containers that have a label, whatever has become of them."""
        connection = _Connection(self.socket)
        filters = quote(json.dumps({"label": [label]}))
        connection.request("GET", f"/containers/json?all=1&filters={filters}")
        found = json.loads(connection.getresponse().read())
        connection.close()
        return [one["Names"][0] for one in found]

    def pid(self) -> int:
        """Return the pid of the engine."""
        return int((self.directory / "pid").read_text())

    def listen(self) -> socket.socket:
        """Return a socket that listens at a loopback address of the engine's network."""
        network = os.open(f"/proc/{self.pid()}/ns/net", os.O_RDONLY)
        made: list[socket.socket] = []

        def listen() -> None:
            # The thread is in that network from here to its end.
            if ctypes.CDLL(None).setns(network, 0) == 0:
                made.append(socket.create_server(("127.0.0.1", 0)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        os.close(network)
        (listening,) = made
        listening.setblocking(False)
        return listening

    def stop(self) -> None:
        """End it; what it runs ends with it."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def set(self, **settings: object) -> None:
        """Change its configuration (daemon.json) while it runs; it takes it up in a moment."""
        (self.directory / "daemon.json").write_text(json.dumps(settings))
        os.kill(self.pid(), signal.SIGHUP)

    def crash(self) -> None:
        """Kill it; what it runs goes on."""
        os.kill(self.pid(), signal.SIGKILL)
        if self._process is not None:
            self._process.wait(60)
            self._process = None
        # It ends with its engine; where nobody buries it, the next one would wait for it.
        (self.directory / "exec/containerd/containerd.pid").unlink()

    def hang(self, hung: bool) -> None:
        """Let it do nothing, not even answer, or go on."""
        os.kill(self.pid(), signal.SIGSTOP if hung else signal.SIGCONT)

    def _end_shims(self) -> None:
        """Kill what one that has crashed has left."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"shim" in words[0] and f"{self.directory}/".encode() in b" ".join(words):
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def close(self) -> None:
        """End it and remove all of it."""
        atexit.unregister(self.close)
        self.stop()
        self._end_shims()
        for _ in range(3):
            mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
            for path in sorted(mounts, reverse=True):
                if path.startswith(f"{self.directory}/"):
                    subprocess.run(["umount", "-l", path], check=False)
        for root in (*Path("/sys/fs/cgroup").glob("*"), Path("/sys/fs/cgroup")):
            for cgroup, _, _ in os.walk(root / self.directory.name, topdown=False):
                _empty(Path(cgroup))
        shutil.rmtree(self.directory, ignore_errors=True)


def _empty(cgroup: Path) -> None:
    """Kill what is left in a cgroup, and remove it."""
    for _ in range(50):
        with suppress(OSError):
            cgroup.rmdir()
            return
        with suppress(OSError):
            for pid in (cgroup / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)


class Foreign(Daemon):
    """An engine that somebody else has started, and that goes on afterwards."""

    # Podman wants to raise limits where none are given, which not every root may.
    parameters = (*Daemon.parameters, ("ulimit", "nofile=1024:4096"), ("ulimit", "nproc=4096"))

    def __init__(self, path: str) -> None:
        self.socket = path

    def pid(self) -> int:
        """Nobody knows it."""
        raise SkipTest(f"whose network {self.socket} is in is not known")

    def stop(self) -> None:
        """It is somebody else's."""
        raise SkipTest(f"{self.socket} is somebody else's to stop")

    def close(self) -> None:
        """Likewise."""


FOREIGN = "MESOSKIT_TEST_ENGINE"
"""The variable with the socket of an engine to be tested with instead, podman's for example."""

_daemon: Daemon | None = None
_why = ""


async def daemon() -> Daemon:
    """Return the one engine of this process, with L{IMAGE} in it."""
    global _daemon, _why
    if _why:
        raise SkipTest(_why)
    if _daemon is None:
        try:
            _daemon = Foreign(os.environ[FOREIGN]) if FOREIGN in os.environ else Daemon()
        except SkipTest as error:
            _why = str(error)
            raise
        await make_image(_daemon, IMAGE, busybox(), ['CMD ["echo", "default"]', "ENV FROM=image"])
    return _daemon


async def make_image(daemon: Daemon, name: str, root: bytes, changes: list[str]) -> None:
    """Make an image of a root file system."""
    engine = Engine(REACTOR, daemon.socket)
    await engine.negotiate()
    repository, _, tag = name.partition(":")
    path = "/images/create"
    query = {"fromSrc": "-", "repo": repository, "tag": tag or "latest"}
    pairs = [*query.items(), *(("changes", change) for change in changes)]
    await engine.ask("POST", path, pairs, root)
    await engine.close()


def soon(seconds: float) -> Deferred[None]:
    """Fire after a while."""
    from twisted.internet.task import deferLater

    return deferLater(REACTOR, seconds)
