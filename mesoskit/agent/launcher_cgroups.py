"""A container's cgroup, as the launcher needs it: what is in there, and the end of all of it.

What left its session, washed off its environment and lost its parents still is in the cgroup in
which it was born. In cgroups of version 1 it is the freezer's: nothing that is frozen can fork
away while its pid is read. Version 2 kills by itself (cgroups(7), Documentation/admin-guide of
Linux).

The standard library alone.
"""

import os
import signal

FREEZER = "freezer.state"
KILL = "cgroup.kill"
PROCESSES = "cgroup.procs"


def pids_in(path: str) -> list[int]:
    """Return the pids in a cgroup and all below it; none where there is no such cgroup."""
    found: list[int] = []
    waiting = [path]
    while waiting:
        at = waiting.pop()
        try:
            with open(f"{at}/{PROCESSES}", "rb", buffering=0) as file:
                found.extend(int(pid) for pid in file.readall().split())
            with os.scandir(at) as entries:
                waiting.extend(entry.path for entry in entries if _is_below(entry))
        except OSError:  # it was removed in between
            continue
    # A process of another pid namespace than ours shows as 0.
    return [pid for pid in found if pid > 1]


def kill_all(path: str) -> None:
    """
    SIGKILL everything in a cgroup and below it.

    Something may be left, of what was just being forked: it is to be done again until
    L{pids_in} gives nothing.
    """
    if os.path.exists(f"{path}/{KILL}"):
        _write(f"{path}/{KILL}", b"1")
        return
    frozen = _write(f"{path}/{FREEZER}", b"FROZEN")
    try:
        own = os.getpid()
        for pid in pids_in(path):
            if pid != own:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
    finally:
        if frozen:
            _write(f"{path}/{FREEZER}", b"THAWED")


def join(path: str) -> None:
    """Move the calling process into a cgroup. Raises L{OSError}."""
    descriptor = os.open(f"{path}/{PROCESSES}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def _is_below(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)


def _write(path: str, data: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, data)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
