"""Real daemons for the measurements: started, waited for, measured, ended."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, outside the ephemeral range."""
    # At random, for others may look for one at the same time.
    for port in random.sample(range(15050, 32000), 1_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def _profiled() -> list[str]:
    """Return what lets twistd profile itself into the file that BENCH_PROFILE names."""
    path = os.environ.get("BENCH_PROFILE")
    return ["--profiler=cprofile", "--savestats", f"--profile={path}"] if path else []


class Daemon:
    """
    A C{twistd} process with a work directory of its own.

    @ivar port: what it listens on, on 127.0.0.1.
    @ivar started: seconds from exec to the first answer of /health.
    """

    def __init__(self, plugin: str, *flags: str, where: str | None = None) -> None:
        """
        Start it and wait until it answers.

        @param where: a directory for its own; that for temporary files by default.
        """
        self.home = Path(tempfile.mkdtemp(prefix="bench-", dir=where))
        # Tasks of other users have to come through.
        self.home.chmod(0o755)
        self.port = free_port()
        self.log = self.home / "log"
        # What a measurement has left running ends with its agent.
        self._cgroups = f"mesoskit-bench-{self.home.name}"
        policy = ["--recover=cleanup", f"--cgroups_root={self._cgroups}"]
        self._command = [
            str(Path(sys.executable).parent / "twistd"),
            "--nodaemon",
            "--pidfile=",
            f"--logfile={self.log}",
            *_profiled(),
            plugin,
            f"--work_dir={self.home}/work",
            f"--runtime_dir={self.home}/run",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            *(policy if plugin == "mesos-agent" else ()),
            *flags,
        ]
        self._plugin = plugin
        self.start()

    def start(self) -> None:
        """Start the process, again where it has ended, and wait until it answers."""
        begun = time.perf_counter()
        self.process = subprocess.Popen(self._command, cwd=self.home)
        self._measured = psutil.Process(self.process.pid)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - begun > 20:
                    raise RuntimeError(f"{self._plugin} did not start; see {self.log}") from None
                time.sleep(0.005)
        self.started = time.perf_counter() - begun

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Return the CPU seconds it has used."""
        times = self._measured.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Return its resident bytes."""
        return int(self._measured.memory_info().rss)

    def launcher(self) -> psutil.Process:
        """Return the parent of an agent's tasks, found by what it writes of itself."""
        for _ in range(500):
            for path in self.home.glob("run/**/launcher.json"):
                return psutil.Process(json.loads(path.read_text())["pid"])
            time.sleep(0.01)
        raise RuntimeError("the agent has no launcher")

    def private(self) -> int:
        """Return the bytes that are its alone."""
        return int(self._measured.memory_full_info().uss)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _remove_cgroups(self._cgroups)
        if os.environ.get("BENCH_KEEP"):
            print(f"kept {self.home}")
        else:
            shutil.rmtree(self.home, ignore_errors=True)


def _remove_cgroups(root: str) -> None:
    """Remove what an agent has left of its cgroups, or give up after 5 s."""
    deadline = time.monotonic() + 5
    everywhere = Path("/sys/fs/cgroup")
    while left := [*everywhere.glob(f"*/{root}"), *everywhere.glob(root)]:
        for path in left:
            for directory, _, _ in os.walk(path, topdown=False):
                # Somebody may be in it, killed and not reaped yet.
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        if time.monotonic() > deadline:
            print(f"left behind: {', '.join(map(str, left))}", file=sys.stderr)
            return
        time.sleep(0.01)


@contextlib.contextmanager
def forked(serve: Callable[[], None]) -> Iterator[psutil.Process]:
    """Let a child of this process do something for as long as the block lasts; then kill it."""
    child = os.fork()
    if child == 0:
        try:
            serve()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    try:
        yield psutil.Process(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def run_framework(address: str, work: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> None:
    """
    Let a framework work with a master until it is done, in this process, which needs a reactor
    of its own (L{in_child}). Raises L{SystemExit} where the work failed.

    @param work: is given the reactor and the framework, which has been started.
    """
    from twisted.internet import epollreactor
    from twisted.internet.defer import Deferred

    from mesoskit.driver import Framework, FrameworkInfo

    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    clock: Any = reactor
    framework = Framework(clock, address, FrameworkInfo(name="bench", user="root"))
    failures = []

    async def whole() -> None:
        framework.startService()
        await work(clock, framework)

    def ended(outcome: Any) -> None:
        if outcome is not None:
            failures.append(outcome.getTraceback())
        framework.teardown().addBoth(lambda _: clock.callLater(0.2, clock.stop))

    clock.callWhenRunning(lambda: Deferred.fromCoroutine(whole()).addBoth(ended))
    clock.run()
    if failures:
        sys.stderr.write(failures[0])
        raise SystemExit("the measurement failed")


def in_child(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Measure in a child of this process: each round has a reactor of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            os.write(write, json.dumps(measure()).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        raise SystemExit("the measurement failed")
    result: dict[str, float] = json.loads(said)
    return result


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    print(f"\n{title}")
    for row in (head, ["-" * width for width in widths], *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
