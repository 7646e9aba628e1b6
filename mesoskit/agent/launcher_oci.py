"""What stands between the launcher and a container that an OCI runtime makes (runc, crun).

The launcher starts it as it starts any process: C{python -I -S launcher_oci.py <directory>}. It
is the container's first process as far as the launcher knows: it ends as the container's process
ends, with the same status, and hands signals on to it.

In a mount namespace of its own it lays the image's layers upon each other, so that no mount
outlives it, whatever happens to the agent. It has the runtime make the container and let it
begin. It is a subreaper: the container's process becomes its child, whose status it is told
exactly.

The container is held by the cgroups that the launcher has put us in, from its first instruction
on: the runtime sees a machine whose cgroups cannot be written to, and is told to go on without.
So there are none of its own that somebody would have to remove, and none is joined and left.

Where the container has a PID namespace, its process 1 is a copy of ours that does nothing but
reap, and owns nothing that could be reached from within: so the container's process is an
ordinary one, which ends at a SIGTERM as it would anywhere else, and all of the container dies
with process 1.

The directory holds C{plan.json} (L{Plan}) and what the runtime wants. What became of it is
written there: C{started} when the container's process is about to begin, C{failed} with the
reason where it could not.

The standard library alone, and of that what is needed at once: each module costs every container
some milliseconds and a part of its memory.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_libc = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_MS_RDONLY = 1
_MS_NOSUID = 2
_MS_NODEV = 4
_MS_NOEXEC = 8
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_MS_SLAVE = 1 << 19
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_MAX_OPTIONS = 4095
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_CGROUPS = "/sys/fs/cgroup"
_CONSOLE = "console"
_PATIENCE = 30.0
_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGCONT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGALRM),
)


class StageError(Exception):
    """The container cannot be made; the message says why."""


class Stage:
    """
    One container, from its plan to its end.

    C{plan.json} is an object of
      - C{id}: what the runtime calls it;
      - C{runtime}, C{options}: the runtime's path and its global options;
      - C{exec}: the id of the container that this one joins, or null: a container of its own, of
        which the following is said;
      - C{around}: where it is there, a process of a container whose files it has;
      - C{layers}, C{mounts}: the directory of layers, and what is laid upon each other: objects of
        C{target}, C{layers} (the lowest first), C{writable} (the directory that holds C{upper} and
        C{work}, or null);
      - C{binds}: directories in which no symbolic link is followed; the first is given to the
        runtime as C{binds/0} in our directory, and so on;
      - C{secrets}: whether the files in C{secrets} are moved into memory;
      - C{terminal}: whether it has a terminal, also of C{exec};
      - C{pid}: whether it has a PID namespace, of which C{config.json} wants to know the path.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        with open(os.path.join(directory, "plan.json"), "rb") as file:
            self.plan: dict[str, Any] = json.load(file)
        self.child = 0
        self.reaper = 0
        self.terminal: Terminal | None = None
        self.pending: list[int] = []

    def run(self) -> int:
        """Do all of it; return the wait status of the container's process."""
        for number in _FORWARDED:
            signal.signal(number, self._signalled)
        _call("prctl", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        _call("a mount namespace", _libc.unshare(_CLONE_NEWNS))
        _mount(None, "/", None, _MS_REC | _MS_SLAVE)
        hide_cgroups()
        if self.plan["exec"] is None:
            self._make()
        else:
            self._join()
        self._say("started", str(self.child))
        for early in self.pending:
            self._signalled(early, None)
        if self.terminal is not None:
            self.terminal.relay(self.child)
        return self._wait()

    # A container of its own

    def _make(self) -> None:
        if self.plan.get("around"):
            self._take_files(self.plan["around"])
        for mount in self.plan["mounts"]:
            self._lay(mount["target"], mount["layers"], mount["writable"])
        for number, source in enumerate(self.plan["binds"]):
            self._bind(source, os.path.join(self.directory, "binds", str(number)))
        if self.plan["secrets"]:
            self._keep_secrets()
        if self.plan["pid"]:
            self._make_reaper()
            self._set_pid_namespace(f"/proc/{self.reaper}/ns/pid")
        self._runtime("run", "--bundle", self.directory, self.plan["id"])

    def _take_files(self, process: int) -> None:
        """Mount as our root what another container sees, with all that is mounted in there."""
        target = os.path.join(self.directory, "rootfs")
        os.makedirs(target, exist_ok=True)
        own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        theirs = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        what = "the files of the container around"
        _call(what, _libc.setns(theirs, _CLONE_NEWNS))
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
        tree = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, b"/", ctypes.c_uint(flags))
        _call(what, tree)
        _call(what, _libc.setns(own, _CLONE_NEWNS))
        moved = _libc.syscall(
            *(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode()),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        )
        _call(what, moved)
        for descriptor in (own, theirs, tree):
            os.close(descriptor)

    def _lay(self, target: str, layers: list[str], writable: str | None) -> None:
        """Mount layers upon each other."""
        os.makedirs(target, exist_ok=True)
        directory = self.plan["layers"]
        if writable is None and len(layers) == 1:
            source = os.path.join(directory, layers[0])
            _mount(source, target, None, _MS_BIND)
            _mount(None, target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
            return
        os.chdir(directory)  # their names are short: all of them have to fit into a page
        options = "lowerdir=" + ":".join(reversed(layers))
        if writable is not None:
            for name in ("upper", "work"):
                os.makedirs(os.path.join(writable, name), exist_ok=True)
            options += f",upperdir={writable}/upper,workdir={writable}/work"
        if len(options.encode()) > _MAX_OPTIONS:
            raise StageError(f"{len(layers)} layers are more than one mount can be told of")
        try:
            _mount("overlay", target, "overlay", 0, options)
        except StageError as error:
            raise StageError(f"{error}{_why_no_overlay(directory, writable)}") from error
        os.chdir("/")

    def _bind(self, source: str, target: str) -> None:
        """Mount a directory of a task's under a name that the task cannot replace by another."""
        os.makedirs(target, exist_ok=True)
        descriptor = os.open("/", _OPEN_DIRECTORY)
        for name in source.split("/"):
            if name:
                descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=descriptor)
        _mount(f"/proc/self/fd/{descriptor}", target, None, _MS_BIND | _MS_REC)
        os.close(descriptor)

    def _keep_secrets(self) -> None:
        """Move secrets from the disk into memory that nobody else sees, and that ends with us."""
        path = os.path.join(self.directory, "secrets")
        kept = []
        for name in os.listdir(path):
            with open(os.path.join(path, name), "rb") as file:
                found = os.fstat(file.fileno())
                kept.append((name, found.st_uid, found.st_gid, found.st_mode & 0o777, file.read()))
            os.unlink(os.path.join(path, name))
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        _mount("secrets", path, "ramfs", flags, "mode=0755")
        for name, user, group, mode, content in kept:
            target = os.path.join(path, name)
            with open(target, "xb") as file:
                os.fchmod(file.fileno(), mode)
                os.fchown(file.fileno(), user, group)
                file.write(content)

    def _set_pid_namespace(self, path: str) -> None:
        name = os.path.join(self.directory, "config.json")
        with open(name, "rb") as file:
            config = json.load(file)
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                namespace["path"] = path
        with open(name, "w") as file:
            json.dump(config, file)

    def _make_reaper(self) -> None:
        """Make a PID namespace, of which process 1 is a copy of us that only reaps."""
        told, tell = os.pipe()
        named, name = os.pipe()
        between = os.fork()
        if not between:
            try:
                _call("a PID namespace", _libc.unshare(_CLONE_NEWPID))
                child = os.fork()
                if child:
                    os.write(name, str(child).encode())
                    os._exit(0)
                os.close(tell)
                os.read(told, 1)  # from here on our parent is the stage
                self._reap()
            finally:
                os._exit(1)
        os.close(told)
        os.close(name)
        os.waitpid(between, 0)
        with open(named, "rb", buffering=0) as pipe:
            text = pipe.read(32)
        if not text:
            raise StageError("a PID namespace cannot be made")
        self.reaper = int(text)
        os.write(tell, b".")
        os.close(tell)

    def _reap(self) -> NoReturn:
        """Be process 1 of the container."""
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in _FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.closerange(3, 64)
        # Root of the container could otherwise look for the machine's files through /proc/1/root.
        empty = os.path.join(self.directory, "empty")
        os.makedirs(empty, exist_ok=True)
        _call("a mount namespace", _libc.unshare(_CLONE_NEWNS))
        _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        _mount("empty", empty, "tmpfs", _MS_RDONLY, "size=4k")
        os.chdir(empty)
        _call("pivot_root", _libc.pivot_root(b".", b"."))
        _call("umount", _libc.umount2(b".", _MNT_DETACH))
        os.chdir("/")
        _drop_capabilities()
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        while True:
            signal.pause()

    # A process within another container

    def _join(self) -> None:
        process = os.path.join(self.directory, "process.json")
        self._runtime("exec", "--process", process, self.plan["exec"])

    # The runtime

    def _runtime(self, verb: str, *arguments: str) -> None:
        """Have the runtime start the container's process. Raises L{StageError}, with its words."""
        self._stop_if_told()
        log = os.path.join(self.directory, "log")
        told = os.path.join(self.directory, "pid")
        command = [self.plan["runtime"], "--log", log, "--log-format", "json"]
        command += [*self.plan["options"], verb, "--detach", "--pid-file", told, *arguments]
        if self.plan.get("terminal"):
            os.chdir(self.directory)
            self.terminal = Terminal(_CONSOLE)
            at = command.index("--detach")
            command[at:at] = ["--console-socket", _CONSOLE]
        environment = {"PATH": os.defpath + ":/usr/sbin:/sbin", "LANG": "C.UTF-8"}
        pid = os.posix_spawn(command[0], command, environment, setpgroup=0)
        # The container's process may end before its pid is known: it is not waited for here.
        if os.waitpid(pid, 0)[1]:
            raise StageError(_complaint(log) or f"{command[0]} {verb} has failed")
        with open(told) as file:
            self.child = int(file.read())
        if self.terminal is not None:
            self.terminal.take()

    def _wait(self) -> int:
        """Wait for the container's process; take leave of others on the way."""
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == self.child:
                return status
            if ended == self.reaper:
                self.reaper = 0

    def _signalled(self, number: int, _: object) -> None:
        if not self.child:
            self.pending.append(number)
            return
        if number == signal.SIGWINCH and self.terminal is not None:
            self.terminal.resize()
            return
        try:
            # Of what crun starts within a container the group is led by another, which is gone.
            os.killpg(os.getpgid(self.child), number)
        except OSError:
            pass

    def _stop_if_told(self) -> None:
        if set(self.pending) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}:
            raise StageError("it was told to end before it began")

    def _say(self, name: str, text: str) -> None:
        path = os.path.join(self.directory, name)
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def fail(self, why: str) -> None:
        """Leave nothing, and say why."""
        for pid in (self.child, self.reaper):
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        self._say("failed", why)

    def over(self) -> None:
        """All of the container ends with its process."""
        if self.reaper:
            os.kill(self.reaper, signal.SIGKILL)


class Terminal:
    """
    The terminal of a container, one of its own C{/dev/pts}: so it is the controlling one of what
    runs there, with all that a shell wants of it. We are at its other end, and between it and the
    terminal that the launcher has given us.
    """

    def __init__(self, path: str) -> None:
        """@param path: where the runtime is to send that end to."""
        import socket

        self.end = -1
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(_PATIENCE)

    def take(self) -> None:
        """Take that end, which was sent; of our own, nothing is looked at any more but the size."""
        import socket
        import tty

        with self.listener, self.listener.accept()[0] as connection:
            self.end = socket.recv_fds(connection, 4096, 1)[1][0]
        os.set_blocking(self.end, False)
        tty.setraw(0)
        self.resize()

    def resize(self) -> None:
        """Let it have the size of ours."""
        import fcntl
        import termios

        if self.end >= 0:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.end, termios.TIOCSWINSZ, size)

    def relay(self, process: int) -> None:
        """Hand on what is typed, and what is shown, until a process has ended."""
        import select

        ended = os.pidfd_open(process)
        watched = {0: select.POLLIN, self.end: select.POLLIN, ended: select.POLLIN}
        typed = b""
        while True:
            if self.end in watched:
                watched[self.end] = select.POLLIN | (select.POLLOUT if typed else 0)
            poll = select.poll()
            for descriptor, events in watched.items():
                if descriptor or not typed:  # what was typed before is handed on first
                    poll.register(descriptor, events)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.end in ready:
                typed = self._write(typed)
                if self._show() is None:
                    del watched[self.end]
            if 0 in ready:
                typed = _read(0)
                if not typed or self.end not in watched:
                    del watched[0]
            if ended in ready:
                while self._show():
                    pass
                os.close(ended)
                return

    def _write(self, typed: bytes) -> bytes:
        """Return what it does not take yet."""
        try:
            return typed[os.write(self.end, typed) :] if typed else typed
        except BlockingIOError:
            return typed
        except OSError:
            return b""

    def _show(self) -> bool | None:
        """Show what there is to be shown; say whether there was something, None: never again."""
        try:
            shown = os.read(self.end, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:  # nobody has it open any more
            return None
        while shown:
            shown = shown[os.write(1, shown) :]
        return True


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def _call(what: str, result: int) -> None:
    if result < 0:
        raise StageError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    """Do as mount(2) does. Raises L{StageError}."""
    result = _libc.mount(
        None if source is None else source.encode(),
        target.encode(),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if options is None else options.encode(),
    )
    _call(f"cannot mount {kind or source or 'again'} at {target}", result)


def _why_no_overlay(directory: str, writable: str | None) -> str:
    """Return what to do when layers cannot be laid upon each other; empty where that is unknown."""
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENODEV, errno.EOPNOTSUPP):
        return ""
    with open("/proc/filesystems", encoding="ascii") as file:
        if "\toverlay\n" not in file.read():
            return ": the kernel has no overlay file system (modprobe overlay)"
    above = "" if writable is None else f", or that of {writable} (below --work_dir),"
    return (
        f": the file system of {directory} (--docker_store_dir){above} does not bear it;"
        " ext4 and xfs do, and a container's own root does not"
    )


def _drop_capabilities() -> None:
    """Give up all rights, and that any exec could bring one back (capset(2), version 3)."""
    number = 0
    while not _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
        number += 1
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    _call("capset", _libc.capset(header, data))


def hide_cgroups() -> None:
    """
    Let the runtime see cgroups that nobody can write to, in this mount namespace.

    Of version 1 it wants to see the one of devices, and that there are no others. Raises
    L{StageError}.
    """
    if not os.path.isdir(_CGROUPS):
        return
    if os.path.exists(os.path.join(_CGROUPS, "cgroup.controllers")):
        _mount(None, _CGROUPS, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
        return
    _libc.umount2(_CGROUPS.encode(), _MNT_DETACH)  # where nothing is mounted nothing need be
    _mount("cgroups", _CGROUPS, "tmpfs", 0, "size=4k,mode=755")
    with open("/proc/self/cgroup") as file:
        known = [line.split(":")[1] for line in file]
    for controllers in known:
        if "devices" in controllers.split(","):
            devices = os.path.join(_CGROUPS, "devices")
            os.mkdir(devices)
            _mount("cgroup", devices, "cgroup", 0, controllers)
            _mount(None, devices, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    _mount(None, _CGROUPS, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)


def _complaint(log: str) -> str:
    """Return the last error in a runtime's log."""
    try:
        with open(log, "rb") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
            if entry.get("level") in ("error", "fatal"):
                return str(entry["msg"])[-2000:]
        except (ValueError, KeyError, AttributeError):
            continue
    return ""


def end_as(status: int) -> NoReturn:
    """End as another process has ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main(arguments: list[str]) -> NoReturn:
    """Be the stage of one container."""
    os.umask(0o022)
    stage = Stage(arguments[0])
    try:
        status = stage.run()
    except StageError as error:
        stage.fail(str(error))
        os._exit(1)
    except OSError as error:
        stage.fail(f"{error.filename or 'the container'}: {error.strerror}")
        os._exit(1)
    except Exception as error:
        stage.fail(f"{type(error).__name__}: {error}")
        os._exit(1)
    stage.over()
    end_as(status)


if __name__ == "__main__":
    main(sys.argv[1:])
