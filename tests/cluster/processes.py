"""Finding and ending what a cluster has running: daemons, launchers, tasks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mesoskit.agent.launcher_cgroups import pids_in

_PATIENCE = 60.0


def pids() -> Iterator[int]:
    """Give the pids of all processes."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def state(pid: int) -> str:
    """Return the letter of a process' state in C{/proc}, C{""} where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def alive(pid: int) -> bool:
    """Tell whether a process is there and not only waits to be reaped."""
    return state(pid) not in ("", "Z", "X")


def arguments(pid: int) -> bytes:
    """Return the command line of a process, C{b""} where there is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""


def mentions(pid: int, what: bytes) -> bool:
    """Tell whether arguments, environment or working directory of a process name something."""
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            if what in Path(f"/proc/{pid}/{name}").read_bytes():
                return True
    with suppress(OSError):
        return what in os.fsencode(os.readlink(f"/proc/{pid}/cwd"))
    return False


def below(directory: Path) -> list[int]:
    """Return the pids of what belongs to a directory: whoever names it in any way."""
    what = os.fsencode(directory)
    own = os.getpid()
    return [pid for pid in pids() if pid != own and mentions(pid, what) and alive(pid)]


def described(found: list[int]) -> str:
    """Return a line a process for people."""
    lines = []
    for pid in found:
        if line := arguments(pid):
            lines.append(f"{pid}: {line.decode(errors='replace')[:200]}")
    return "\n".join(lines)


def launcher_of(runtime_dir: Path) -> int | None:
    """Return the pid of the launcher that an agent's runtime directory records."""
    with suppress(OSError, ValueError, KeyError):
        pid = int(json.loads((runtime_dir / "launcher" / "launcher.json").read_text())["pid"])
        return pid if alive(pid) else None
    return None


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signum)


def sweep(directory: Path) -> list[int]:
    """
    Kill whatever belongs to a directory, wait until it is gone, and remove the directory.

    Blocks for a minute at most, and returns the pids of what was killed.
    """
    killed: list[int] = []
    deadline = time.monotonic() + _PATIENCE
    while found := below(directory):
        for pid in found:
            kill(pid)
        killed += [pid for pid in found if pid not in killed]
        if time.monotonic() > deadline:
            raise AssertionError(f"cannot be killed:\n{described(found)}")
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)
    return killed


def sweep_cgroups(root: str) -> None:
    """
    Kill whatever is in or below a cgroup, and remove it.

    Blocks for a minute at most.
    """
    deadline = time.monotonic() + _PATIENCE
    while left := [*Path("/sys/fs/cgroup").glob(f"*/{root}"), *Path("/sys/fs/cgroup").glob(root)]:
        for path in left:
            for directory, _, _ in os.walk(path, topdown=False):
                for pid in pids_in(directory):
                    kill(pid)
                with suppress(OSError):  # somebody is in it, who is not reaped yet
                    os.rmdir(directory)
        if time.monotonic() > deadline:
            raise AssertionError(f"cannot be removed: {', '.join(map(str, left))}")
        if any(path.exists() for path in left):
            time.sleep(0.01)
