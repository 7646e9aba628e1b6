"""The cluster under faults: everything is a process, and a relay is between all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mesoskit.agent.containers import cgroups
from mesoskit.driver.identity import FileIds
from tests.cluster import asking, processes, zookeepers
from tests.cluster.harness import Cluster, Daemon, MasterDaemon, environment, free_port
from tests.cluster.relay import Relay
from tests.cluster.waiting import reactor, until_async
from tests.soak.books import Marks

SESSION = 3.0
"""Seconds of the time-out of sessions in ZooKeeper."""

DISK = 48 * 1024 * 1024
"""Bytes of an agent's disk."""

PAUSE = 0.3
"""Seconds after which whoever has ended by himself is started again."""


class Process(Protocol):
    """What is killed, stopped and started again."""

    @property
    def pid(self) -> int:
        """Its pid, now or last."""
        ...

    @property
    def running(self) -> bool:
        """Whether it is there."""
        ...

    def start(self) -> None:
        """Start it."""
        ...

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        ...

    def log(self) -> str:
        """Return what it has logged."""
        ...


class FrameworkProgram:
    """
    L{tests.soak.framework} as a process.

    @ivar directory: its journal, and the marks of its tasks.
    """

    def __init__(self, name: str, directory: Path, arguments: dict[str, object]) -> None:
        self.name = name
        self.directory = directory
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        self.marks = Marks(directory / "marks")
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = {"name": name, "directory": directory, **arguments}

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        return self.process.pid if self.process is not None else 0

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def journal(self) -> Path:
        """Where its journal is."""
        return self.directory / "journal"

    @property
    def id(self) -> str:
        """Its id, C{""} where it has none yet."""
        return FileIds(self.directory / "id").read()

    def start(self) -> None:
        """Start it."""
        arguments = [f"--{name}={value}" for name, value in self._arguments.items()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.framework", *arguments],
                cwd=self.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        if self.running:
            assert self.process is not None
            self.process.send_signal(signum)

    def log(self) -> str:
        """Return what it has logged."""
        with suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")
        return ""


class SoakCluster(Cluster):
    """
    ZooKeeper servers, masters, agents and frameworks.

    @ivar relay: what is between all of them.
    @ivar frameworks: by name.
    @ivar disks: where disks are mounted, by the agent's name; empty where we may not mount.
    """

    def __init__(self, seed: int, tasks: int, lengths: tuple[float, float]) -> None:
        super().__init__()
        self._seed = seed
        self._tasks = tasks
        self._lengths = lengths
        self._isolates = _can_isolate()
        self.servers = zookeepers.Servers(3)
        self.relay = Relay(reactor, self.pids)
        self.masters: dict[str, MasterDaemon] = {}
        self.frameworks: dict[str, FrameworkProgram] = {}
        self.disks: dict[str, Path] = {}
        self.leader = ""
        hosts = []
        for number, server in enumerate(self.servers.servers):
            port = free_port()
            self.relay.listen(f"z{number}", server.port, port)
            hosts.append(f"127.0.0.1:{port}")
        self.url = f"zk://{','.join(hosts)}/mesos"

    @property
    def where(self) -> str:
        """Where agents and frameworks look for their master."""
        return self.url

    def pids(self) -> Iterator[tuple[str, int]]:
        """Give name and pid of all that dial."""
        for name, process in self.processes().items():
            if process.running:
                yield name, process.pid

    def processes(self) -> dict[str, Process]:
        """Return all daemons and frameworks by name."""
        return {**self.masters, **self.agents, **self.frameworks}

    async def begin(self, masters: int = 3, agents: int = 5) -> None:
        """Start everything, and wait until all agents are known."""
        self.servers.start()
        for number in range(masters):
            self._add_master(f"m{number}").start()
        for number in range(agents):
            self._add_agent(f"a{number}").start()
        await self.whole()
        kinds = ("command", "command,group", "command,executor")
        for number, kind in enumerate(kinds):
            self._add_framework(f"f{number}", kind).start()

    def _add_master(self, name: str) -> MasterDaemon:
        port = free_port()
        master = MasterDaemon(
            "mesos-master",
            self.directory / name,
            {
                "zk": self.url,
                "zk_session_timeout": f"{SESSION:g}secs",
                "advertise_ip": "127.0.0.1",
                "advertise_port": port,
                "allocation_interval": "200ms",
                "agent_ping_timeout": "1secs",
                "max_agent_ping_timeouts": 4,
                "agent_reregister_timeout": "10secs",
            },
        )
        self.relay.listen(name, master.port, port)
        self.masters[name] = master
        return master

    def _add_agent(self, name: str) -> Daemon:
        flags: dict[str, object] = {
            "zk_session_timeout": f"{SESSION:g}secs",
            "resources": "cpus:16;mem:4096;disk:4096;ports:[31000-31099]",
            "executor_reregistration_timeout": "10secs",
            "gc_delay": "1mins",
            "disk_watch_interval": "10secs",
        }
        if self._isolates and len(self.agents) % 2 == 0:
            # Groups have containers of their own there.
            flags["isolation"] = "cgroups/cpu,cgroups/pids,namespaces/ipc"
        disk = self.directory / f"{name}-disk"
        if self._mount(disk):
            self.disks[name] = disk
            flags["work_dir"] = disk / "w"
        agent = self.make_agent(name, flags)
        agent.work_dir = Path(str(agent.flags["work_dir"]))
        return agent

    def _mount(self, where: Path) -> bool:
        where.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0755", "none", str(where)]
        return subprocess.run(mount, capture_output=True, timeout=60, check=False).returncode == 0

    def _add_framework(self, name: str, kinds: str) -> FrameworkProgram:
        # One of them over HTTP.
        master = f"http+{self.url}" if name == "f0" else self.url
        program = FrameworkProgram(
            name,
            self.directory / name,
            {
                "master": master,
                "seed": self._seed,
                "tasks": self._tasks,
                "kinds": kinds,
                "shortest": self._lengths[0],
                "longest": self._lengths[1],
                "session": SESSION,
            },
        )
        self.frameworks[name] = program
        return program

    async def look_for_leader(self) -> str:
        """Find the master that leads; its name, C{""} where there is none, is C{leader} then."""
        found = ""
        for name, master in self.masters.items():
            if master.running:
                with suppress(Exception):
                    known = await asking.get(master.port, "/metrics/snapshot", timeout=1.0)
                    if b'"master/elected":1' in known[1].replace(b" ", b""):
                        found = name
                        self._master = master
        self.leader = found
        return found

    async def whole(self, timeout: float = 60.0) -> None:
        """Wait until one master leads, and all agents are registered with it."""

        async def registered() -> bool:
            if not await self.look_for_leader():
                return False
            try:
                known = await asking.metrics(self.masters[self.leader].port)
            except Exception:
                return False
            return bool(known["master/slaves_active"] == len(self.agents))

        await until_async("all agents registered", registered, timeout, seen=self.logs)

    async def zookeepers_leader(self) -> int:
        """Return the number of the ZooKeeper server that leads the others, -1 where none does."""
        for number, server in enumerate(self.servers.servers):
            with suppress(Exception):
                if b"Mode: leader" in await asking.exchange(server.port, b"srvr", timeout=1.0):
                    return number
        return -1

    def running_tasks(self) -> int:
        """Return how many tasks run, by their own marks and processes."""
        count = 0
        for framework in self.frameworks.values():
            framework.marks.read()
            running = framework.marks.running
            for task in [task for task, pid in running.items() if not processes.alive(pid)]:
                del running[task]
            count += len(running)
        return count

    async def agent_id(self, name: str) -> str:
        """Return the id of an agent, C{""} where it does not say."""
        with suppress(Exception):
            _, body = await asking.get(self.agents[name].port, "/state", timeout=2.0)
            return str(json.loads(body).get("id", ""))
        return ""

    async def ask_leader(self, name: str, agent: str, **more: Any) -> tuple[int, str]:
        """Make a call of the operator API about an agent; status 0 where nobody answers."""
        body = json.dumps(
            {"type": name.upper(), name: {"agent_id": {"value": agent}, **more}}
        ).encode()
        head = (
            "POST /api/v1 HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with suppress(Exception):
            answer = await asking.exchange(self.master.port, head.encode() + body, timeout=2.0)
            first, _, text = answer.partition(b"\r\n\r\n")
            return int(first.split(None, 2)[1]), text.decode()
        return 0, ""

    def kill_launcher(self, name: str) -> bool:
        """Kill the launcher of an agent; tells whether there was one."""
        pid = self.agents[name].launcher
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def cgroups(self) -> set[str]:
        """Return the names of the cgroups of containers."""
        root = self.cgroups_root
        above = (*Path("/sys/fs/cgroup").glob(f"*/{root}"), Path("/sys/fs/cgroup") / root)
        return {path.name for one in above for path in one.glob("*/")}

    def fill(self, name: str) -> None:
        """Let nothing more fit on the disk of an agent."""
        with suppress(OSError), (self.disks[name] / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(64 * 1024))
        with suppress(OSError), (self.disks[name] / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(512))

    def empty(self, name: str) -> None:
        """Take away what fills it."""
        with suppress(OSError):
            (self.disks[name] / "filler").unlink()

    def logs(self) -> str:
        """Return the last lines of all logs."""
        return "\n".join(
            f"--- {name}\n" + "\n".join(process.log().splitlines()[-40:])
            for name, process in self.processes().items()
        )

    def close(self) -> list[int]:
        """End everything at once; returns the pids of what was killed."""
        self.relay.close()
        for process in self.processes().values():
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while any(process.running for process in self.processes().values()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self.servers.close()
        for disk in self.disks.values():
            subprocess.run(
                ["umount", "-l", str(disk)], capture_output=True, timeout=60, check=False
            )
        return super().close()


def _can_isolate() -> bool:
    """Tell whether agents may keep their containers apart here."""
    try:
        cgroups.find("/sys/fs/cgroup", "mesoskit-soak")
    except cgroups.CgroupError:
        return False
    return os.geteuid() == 0
