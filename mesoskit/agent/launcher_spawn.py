"""How the launcher starts a process: as whom, where, under which limits, writing to what.

Two ways lead to the same process. Where it runs as the launcher's own user and without limits,
C{posix_spawn} starts it without copying the launcher's memory; if it is to be in a cgroup by which
it is found and no more, the launcher is in that for as long as this takes. Otherwise the launcher
forks, and the copy sets limits and drops to the user. (An C{exec} of setpriv(1) and prlimit(1)
takes longer than the fork and could not say what went wrong. Changing the launcher's own user for
the moment of a C{posix_spawn} would be quickest, and would let a container of that user kill the
launcher in that moment.) A copy that is the init of a pid namespace has the same two ways.

What lies in a sandbox is touched with the rights of the container's user and no more: for that
the launcher changes its user I{for files} for a moment (setfsuid(2)), which, unlike a change of
its effective user, lets nobody renice or bind it.

The standard library alone, one thread.
"""

import ctypes
import errno
import os
import resource
import signal
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from mesoskit.agent import launcher_cgroups as cgroups
from mesoskit.agent import launcher_console as consoles
from mesoskit.agent import launcher_isolation as isolation
from mesoskit.agent.launcher_console import Console, ConsoleError, Streams
from mesoskit.agent.launcher_isolation import NONE, Isolation

MARK = "MESOSKIT_CONTAINER"
"""The variable, first in a container's environment, that names the container."""

LAUNCHER = "MESOSKIT_LAUNCHER"
"""The one behind it, which names the launcher: another's containers may have the same names."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_libc = ctypes.CDLL(None)
_libc.setfsuid.restype = _libc.setfsgid.restype = ctypes.c_uint

_OPEN_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_LOG = (
    # Without O_NONBLOCK a FIFO in the place of the file would stop the launcher.
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)


class SpawnError(Exception):
    """A process could not be started; the message says what failed, with the value."""


class Order(NamedTuple):
    """
    What is to be started.

    @ivar file: the executable; searched for in the C{PATH} of C{environment} if without C{/}.
    @ivar sandbox: an absolute path in which no component is a symbolic link.
    @ivar credentials: user id, group id and supplementary groups; L{None} for the launcher's own.
    @ivar limits: (C{"RLMT_NOFILE"}, soft, hard), L{None} for none.
    @ivar patience: for how many seconds it outlives its agent; L{None}: for ever.
    @ivar isolation: how it is kept apart.
    @ivar console: by which somebody may attach to it; L{None} for none.
    @ivar parent: the container that it is nested in, and ends with; empty for none.
    """

    name: str
    file: str
    argv: list[str]
    environment: dict[str, str]
    sandbox: str
    credentials: tuple[int, int, list[int]] | None
    limits: list[tuple[str, int | None, int | None]]
    patience: float | None = None
    isolation: Isolation = NONE
    console: Console | None = None
    parent: str = ""


class Started(NamedTuple):
    """
    What was started.

    @ivar pid: of its first process as the launcher sees it, which leads a session and a group.
    @ivar status: a descriptor from which the wait status is read where that process is an init,
        which cannot end by a signal of its own; -1 where it says itself how it ended.
    """

    pid: int
    status: int = -1


def open_directory(path: str) -> int:
    """
    Open a directory without following a symbolic link anywhere on the way.

    A sandbox may lie inside another one, where a task can put links as it likes.
    Raises L{OSError}.
    """
    descriptor = os.open("/", _OPEN_DIRECTORY)
    try:
        for name in path.split("/"):
            if name == "..":
                raise OSError(errno.EINVAL, "a path without '..' is wanted", path)
            if name and name != ".":
                deeper = os.open(name, _OPEN_DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = deeper
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_log(name: str, directory: int) -> int:
    """Open C{stdout} or C{stderr} of a sandbox for appending. Raises L{OSError}."""
    descriptor = os.open(name, _OPEN_LOG, 0o644, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a regular file is wanted", name)
    os.set_blocking(descriptor, True)
    return descriptor


def limit_number(name: str) -> int:
    """Return the number of Mesos' C{RLMT_NOFILE} and its like. Raises L{SpawnError}."""
    if name == "RLMT_LOCKS":
        return 10  # of setrlimit(2); obsolete, and unknown to Python
    number = getattr(resource, "RLIMIT_" + name.removeprefix("RLMT_"), None)
    if number is None or not name.startswith("RLMT_"):
        raise SpawnError(f"unknown resource limit {name!r}: one such as RLMT_NOFILE is wanted")
    return int(number)


def limit_of(name: str, soft: int | None, hard: int | None) -> tuple[int, int, int]:
    """Return a limit as setrlimit(2) has it. Raises L{SpawnError}."""
    number = limit_number(name)
    most = (1 << 64) - 1  # which is no limit, too
    low, high = (most if value is None else value for value in (soft, hard))
    if not 0 <= low <= high <= most:
        raise SpawnError(
            f"resource limit {name}: soft {_words(soft)}, hard {_words(hard)}:"
            f" the soft one may not be more than the hard one, which is {most} at most"
        )
    return number, _signed(low), _signed(high)


def _signed(limit: int) -> int:
    """Return a limit as Python has it, which takes these 64 bits for 63 and a sign."""
    return limit - (1 << 64) if limit >> 63 else limit


def _words(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise L{SpawnError} where a process cannot have such variables."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise SpawnError(f"an environment variable cannot be named {name[:100]!r}")
        if "\0" in value:
            raise SpawnError(f"the environment variable {name!r} has a NUL character in its value")


def _reason(error: OSError) -> str:
    if error.errno != errno.E2BIG:
        return error.strerror or str(error)
    return (
        f"{error.strerror}: an argument or a variable may have 128 KiB, all of them together 2 MiB"
        " as a rule; put what is longer into a file"
    )


def find(file: str, environment: dict[str, str]) -> str:
    """Return the path of an executable, as execvp(3) would find it. Raises L{SpawnError}."""
    if "/" in file:
        return file
    path = environment.get("PATH", DEFAULT_PATH)
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{file}"
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o111:
            return candidate
    raise SpawnError(f"cannot execute {file!r}: no such file in PATH {path!r}")


class Spawner:
    """
    Starts processes.

    @ivar home: a descriptor of the directory to which the launcher returns each time.
    """

    def __init__(self, home: int) -> None:
        self.home = home
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._pid_namespace: isolation.PidNamespace | None = None
        self._visits = cgroups.Visits()
        # What Python or whoever started us ignores would stay ignored after an exec; what has a
        # handler does not, and a copy of us need not change it first.
        for number in signal.valid_signals():
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, lambda *_: None)

    def spawn(self, order: Order, inside: int = 0) -> Started:
        """
        Start it.

        Raises L{SpawnError}, and nothing runs then.

        @param inside: the first process of the container whose namespaces it enters, 0 for none.
        """
        if not order.argv or not order.file:
            raise SpawnError("nothing to execute: argv is empty")
        limits = [limit_of(*limit) for limit in order.limits]
        check_environment(order.environment)
        opened: list[int] = []
        console = 0
        try:
            with _rights_of(order.credentials, order.sandbox, opened):
                _open_logs(order.sandbox, opened)
                rooted = order.isolation.root
                path = order.file if rooted else find(order.file, order.environment)
            streams = Streams(self._null, opened[1], opened[2], 0)
            if order.console is not None:
                streams = self._open_console(order, order.console, opened)
                console = streams.pid
            simple = not limits and order.credentials is None and order.console is None
            if simple and order.isolation == NONE:
                started = Started(self._spawn(order, path, streams))
            elif simple and (home := self._home(order)):
                started = Started(self._spawn_within(order, path, streams, home))
            else:
                started = self._fork(order, path, streams, limits, inside)
            console = 0
            return started
        except OSError as error:
            raise SpawnError(f"cannot start {order.argv[0]!r}: {error.strerror}") from error
        except ConsoleError as error:
            raise SpawnError(f"cannot start {order.argv[0]!r}: {error}") from error
        except ValueError as error:  # a NUL in an argument, an "=" in a name
            raise SpawnError(f"cannot start {order.argv[0]!r}: {error}") from error
        finally:
            if console:
                consoles.close_console(order.name, console, self.home)
            os.fchdir(self.home)
            for descriptor in opened:
                os.close(descriptor)

    def _open_console(self, order: Order, wanted: Console, opened: list[int]) -> Streams:
        owner = None if order.credentials is None else (order.credentials[0], order.credentials[1])
        sandbox = opened[0]

        def reopen(name: str) -> int:
            try:
                with _as_for_files(order.credentials):
                    return open_log(name, sandbox)
            except SpawnError as error:
                raise OSError(str(error)) from error

        logs = consoles.Logs(opened[1], opened[2], sandbox, reopen)
        streams = consoles.open_console(order.name, wanted, self.home, logs, owner)
        opened += streams[:3]
        os.fchdir(opened[0])
        return streams

    def _spawn(self, order: Order, path: str, streams: Streams) -> int:
        actions = [
            (os.POSIX_SPAWN_DUP2, streams.stdin, 0),
            (os.POSIX_SPAWN_DUP2, streams.stdout, 1),
            (os.POSIX_SPAWN_DUP2, streams.stderr, 2),
        ]

        try:
            return _start(path, order, actions, session=True)
        except OSError as error:
            raise SpawnError(f"cannot execute {path!r}: {_reason(error)}") from error

    def _home(self, order: Order) -> str:
        """Return where to come back to from a container's cgroup, which is all that it wants."""
        kill = order.isolation.kill
        if order.parent or not kill or order.isolation != Isolation(cgroups=[kill], kill=kill):
            return ""
        return self._visits.home(kill)

    def _spawn_within(self, order: Order, path: str, streams: Streams, home: str) -> int:
        """Start it while we are in its cgroup, for as long as that takes."""
        kill = order.isolation.kill
        try:
            cgroups.join(kill)
        except OSError as error:
            raise SpawnError(f"isolation: cgroup {kill!r}: {error.strerror}") from error
        try:
            return self._spawn(order, path, streams)
        finally:
            cgroups.come_back(home)

    def _fork(
        self,
        order: Order,
        path: str,
        streams: Streams,
        limits: list[tuple[int, int, int]],
        inside: int,
    ) -> Started:
        report, told = os.pipe()
        status = ends = -1
        if "pid" in order.isolation.namespaces:
            status, ends = os.pipe()
        entered = isolation.open_namespaces(inside) if inside else {}
        with open(report, "rb", buffering=0) as pipe:
            try:
                pid = self._copy(order, entered)
                if not pid:
                    self._become(order, path, streams, limits, told, entered, ends)
            finally:
                for descriptor in (told, *entered.values(), *((ends,) if ends >= 0 else ())):
                    os.close(descriptor)
            # Closed by the exec; a copy that failed says why first.
            why = pipe.readall()
        if why:
            os.waitpid(pid, 0)
            if status >= 0:
                os.close(status)
            raise SpawnError(why.decode(errors="replace"))
        return Started(pid, status)

    def _copy(self, order: Order, entered: dict[str, int]) -> int:
        """Fork, into another pid namespace where one is wanted."""
        new = "pid" in order.isolation.namespaces
        if not new and "pid" not in entered:
            return os.fork()
        if self._pid_namespace is None:
            self._pid_namespace = isolation.PidNamespace()
        try:
            if new:
                self._pid_namespace.new()
            else:
                self._pid_namespace.enter(entered["pid"])
            pid = os.fork()
        except OSError as error:
            self._pid_namespace.leave()
            raise SpawnError(f"a pid namespace: {isolation.why_no_namespace(error)}") from error
        if pid:
            self._pid_namespace.leave()
        return pid

    def _become(
        self,
        order: Order,
        path: str,
        streams: Streams,
        limits: list[tuple[int, int, int]],
        told: int,
        entered: dict[str, int],
        status: int,
    ) -> NoReturn:
        """
        In the copy: become the container's process, or say why not.

        As little as possible is done here: every page of memory that is touched is copied. Where
        the container's process gets nothing that its init could not have, too, the init need not
        be copied once more either.
        """
        simple = not limits and order.credentials is None
        step = "a session of its own"
        try:
            os.setsid()
            for number, stream in enumerate(streams[:3]):
                os.dup2(stream, number)
            if order.console is not None and order.console.kind == consoles.TERMINAL:
                step = "a terminal"
                isolation.reset_signals()  # somebody may press Ctrl-C already
                consoles.control()
            wanted = order.isolation
            if wanted != NONE:
                step = "isolation"
                isolation.isolate(wanted, entered, order.sandbox)
                path = find(path, order.environment) if wanted.root else path
                if status >= 0 and simple and isolation.is_shared(wanted):
                    isolation.begin_init(wanted)
                    step = f"cannot execute {path!r}"
                    isolation.go_on_as_init(_start(path, order), status)
                if status >= 0:
                    isolation.be_init(status)
            for (name, low, high), (number, soft, hard) in zip(order.limits, limits, strict=True):
                step = f"resource limit {name}, {_words(low)} to {_words(high)}"
                resource.setrlimit(number, (soft, hard))
            isolation.bound(wanted)
            if order.credentials is not None:
                user, group, groups = order.credentials
                step = f"becoming user {user}, group {group}"
                os.setgroups(groups)
                os.setresgid(group, group, group)
                os.setresuid(user, user, user)
            isolation.restrict(wanted)
            step = f"cannot execute {path!r}"
            try:
                os.execve(path, order.argv, order.environment)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                os.execve("/bin/sh", ["/bin/sh", path, *order.argv[1:]], order.environment)
        except OSError as error:
            why = f"{step}: {_reason(error)}"
        except isolation.IsolationError as error:
            why = f"isolation: {error}"
        except Exception as error:
            why = f"{step}: {error}"
        try:
            os.write(told, why.encode(errors="replace")[:2048] or b"?")
        finally:
            os._exit(127)


@contextmanager
def _rights_of(
    credentials: tuple[int, int, list[int]] | None, sandbox: str, opened: list[int]
) -> Iterator[None]:
    """Go to a sandbox, and have no more rights than its user in there. Raises L{SpawnError}."""
    try:
        opened.append(open_directory(sandbox))
    except OSError as error:
        raise SpawnError(f"sandbox {sandbox!r}: {error.strerror}") from error
    with _as_for_files(credentials):
        _enter(sandbox, opened[0])
        yield


@contextmanager
def _as_for_files(credentials: tuple[int, int, list[int]] | None) -> Iterator[None]:
    """Be somebody else, where files are concerned. Raises L{SpawnError}."""
    if credentials is None:
        yield
        return
    own = os.geteuid(), os.getegid(), os.getgroups()
    user, group, groups = credentials
    try:
        try:
            os.setgroups(groups)
            _become_for_files(user, group)
        except (OSError, TypeError, OverflowError) as error:
            raise SpawnError(f"becoming user {user}, group {group}: {error}") from error
        yield
    finally:
        _become_for_files(own[0], own[1])
        os.setgroups(own[2])


def _become_for_files(user: int, group: int) -> None:
    """Change what the kernel goes by where files are concerned, in this thread."""
    _libc.setfsgid(ctypes.c_uint(group))
    _libc.setfsuid(ctypes.c_uint(user))
    # They report no errors: what cannot be set tells what is set.
    nothing = ctypes.c_uint(-1)
    if _libc.setfsuid(nothing) != user or _libc.setfsgid(nothing) != group:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def _enter(path: str, directory: int) -> None:
    try:
        os.fchdir(directory)
    except OSError as error:
        raise SpawnError(f"sandbox {path!r}: {error.strerror}") from error


def _open_logs(path: str, opened: list[int]) -> None:
    """Open both files that a container writes to. Raises L{SpawnError}."""
    for name in ("stdout", "stderr"):
        try:
            opened.append(open_log(name, opened[0]))
        except OSError as error:
            raise SpawnError(f"cannot open {path}/{name}: {error.strerror}") from error


def _start(
    path: str,
    order: Order,
    actions: Sequence[tuple[int, int, int]] = (),
    session: bool = False,
) -> int:
    """
    Start a process with C{posix_spawn}; return its pid. Raises L{OSError}.

    @param actions: what is done with descriptors.
    @param session: whether it gets one of its own.
    """

    def start(path: str, argv: list[str]) -> int:
        return os.posix_spawn(
            path,
            argv,
            order.environment,
            file_actions=actions,
            setsid=session,
            setsigmask=(),
        )

    try:
        return start(path, order.argv)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without "#!", as execvp(3) takes it.
        return start("/bin/sh", ["/bin/sh", path, *order.argv[1:]])
