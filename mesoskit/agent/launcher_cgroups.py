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
FREEZE = "cgroup.freeze"
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


def kill_all(path: str, spare: int = 0) -> None:
    """
    SIGKILL everything in a cgroup and below it.

    Something may be left, of what was just being forked: it is to be done again until
    L{pids_in} gives nothing.

    @param spare: the pid of who stays alive: a launcher may be in there for the moment in which it
        starts something.
    """
    if not spare and os.path.exists(f"{path}/{KILL}"):
        _write(f"{path}/{KILL}", b"1")
        return
    frozen = _write(f"{path}/{FREEZER}", b"FROZEN")
    stopped = not frozen and _write(f"{path}/{FREEZE}", b"1")
    try:
        for pid in pids_in(path):
            if pid not in (os.getpid(), spare):
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
    finally:
        if frozen:
            _write(f"{path}/{FREEZER}", b"THAWED")
        if stopped:
            _write(f"{path}/{FREEZE}", b"0")


def join(path: str) -> None:
    """Move the calling process into a cgroup. Raises L{OSError}."""
    descriptor = os.open(f"{path}/{PROCESSES}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


class Visits:
    """
    Lets this process be in another cgroup for a moment: what it starts then is born there.

    That spares a copy of the process, which would join the cgroup by itself. It is done only
    where a group does nothing but tell who is in there: a freezer of version 1, or a group of
    version 2 without controllers. Nobody else may have a thread in this process.
    """

    def __init__(self) -> None:
        self._homes: dict[tuple[str, str], str] = {}

    def home(self, path: str) -> str:
        """
        Return the cgroup that this process is in, in the hierarchy of another one; empty where
        that cannot be told for sure, or where the other one holds to limits.
        """
        if os.path.exists(f"{path}/{FREEZER}"):
            kind, controllers = "cgroup", "freezer"
        elif _read(f"{path}/cgroup.controllers") == "\n":
            kind, controllers = "cgroup2", ""
        else:
            return ""
        for line in _read("/proc/self/cgroup").splitlines():
            _, which, own = line.split(":", 2)
            if which == controllers:
                key = kind, own
                if key not in self._homes:
                    self._homes = {key: _directory(kind, controllers, own)}
                return self._homes[key]
        return ""


def come_back(home: str) -> None:
    """
    Move this process back where it was, or, where that is no more, to what is nearest above.

    Raises L{OSError} where it cannot.
    """
    while True:
        try:
            join(home)
        except OSError:
            above = os.path.dirname(home)
            if not os.path.exists(f"{above}/{PROCESSES}"):
                raise
            home = above
        else:
            return


def _directory(kind: str, controllers: str, own: str) -> str:
    """Return where a cgroup of this process is mounted, having seen that it is in there."""
    for line in _read("/proc/self/mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        words = system.split()
        if words[:1] != [kind] or (controllers and controllers not in words[-1].split(",")):
            continue
        root, point = mount.split()[3:5]
        root = root.rstrip("/")
        if own == root or own.startswith(root + "/"):
            directory = f"{point}{own.removeprefix(root)}".rstrip("/")
            if str(os.getpid()) in _read(f"{directory}/{PROCESSES}").split():
                return directory
    return ""


def _is_below(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)


def _read(path: str) -> str:
    """Return what a file says; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


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
