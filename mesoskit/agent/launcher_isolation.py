"""What keeps a container apart, done in the copy of the launcher that becomes its process.

The agent says what is to be done (L{Isolation}); here are the system calls: joining cgroups
(cgroups(7)), entering and making namespaces (namespaces(7)), mounts and another root
(mount(2), pivot_root(2)), capabilities (capabilities(7)), and a filter of system calls
(seccomp(2)).

A container in a pid namespace of its own has an init process there, this copy of the launcher: a
kernel ends the namespace with its first process, does not let that one be signalled, and leaves
orphans to it.

The standard library alone, one thread.
"""

import base64
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from typing import Any, NamedTuple, NoReturn

from mesoskit.agent import launcher_cgroups as cgroups
from mesoskit.agent.launcher_readonly import make_read_only

NAMESPACES = {
    "mnt": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
"""CLONE_NEW... by the name that /proc/<pid>/ns has for it."""

MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_REMOUNT = 0x20
MS_RDONLY = 0x1

_MNT_DETACH = 2
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_CAP_AMBIENT_RAISE = 2
_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_SYMLINKS = 0x04

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


class IsolationError(Exception):
    """It cannot be isolated as it should be; the message says what failed, with the value."""


class Mount(NamedTuple):
    """
    One mount(2), in the container's mount namespace.

    @ivar target: below C{root} where there is one; it must exist.
    @ivar flags: of mount(2). A bind mount with MS_RDONLY is made, then made read-only.
    @ivar guarded: whether no symbolic link may be met on the way to either: somebody else may
        change what lies there.
    """

    source: str
    target: str
    type: str = ""
    flags: int = MS_BIND | MS_REC
    data: str = ""
    guarded: bool = False


COVER = "hidden"
"""The source of what is mounted over what is not to be seen: after volumes, which may lie there."""


class Isolation(NamedTuple):
    """
    How a container is kept apart.

    @ivar cgroups: directories of cgroups that it joins.
    @ivar kill: the one of them that knows all it starts, empty for none.
    @ivar inside: the container whose namespaces it enters, empty for none.
    @ivar namespaces: which of its own it gets, by the names of L{NAMESPACES}; of mounts what is
        seen in the entered one, if any, to begin with.
    @ivar mounts: in order; they want the namespace C{mnt}.
    @ivar hide: a directory of which it sees nothing but its own sandbox below; empty for none.
    @ivar root: what becomes its root, empty for the host's.
    @ivar directory: where it starts in that root; empty: in its sandbox.
    @ivar bounding: the capabilities that it can ever have, as bits; L{None}: all.
    @ivar effective: those that it has; L{None}: root's, or none.
    @ivar no_new_privileges: no set-user-ID program raises its rights.
    @ivar seccomp: a filter of system calls, as an array of C{struct sock_filter}; it brings
        C{no_new_privileges} with it.
    @ivar oom_score: what is added to its score when memory is short; L{None}: as the agent's.
    """

    cgroups: list[str] = []
    kill: str = ""
    inside: str = ""
    namespaces: list[str] = []
    mounts: list[Mount] = []
    hide: str = ""
    root: str = ""
    directory: str = ""
    bounding: int | None = None
    effective: int | None = None
    no_new_privileges: bool = False
    seccomp: bytes = b""
    oom_score: int | None = None


NONE = Isolation()


def isolation(given: dict[str, Any]) -> Isolation:
    """Return what a request says. Raises L{IsolationError} where that cannot be understood."""
    words = dict(given)
    try:
        words["mounts"] = [Mount(*mount) for mount in words.get("mounts", [])]
        words["seccomp"] = base64.b64decode(words.get("seccomp", ""), validate=True)
        wanted = Isolation(**words)
    except (TypeError, ValueError) as error:
        raise IsolationError(f"how to isolate it cannot be understood: {error}") from error
    unknown = [name for name in wanted.namespaces if name not in NAMESPACES]
    if unknown:
        raise IsolationError(f"unknown namespace {unknown[0]!r}: {', '.join(NAMESPACES)} are known")
    return wanted


class PidNamespace:
    """
    Where the launcher's next copies are born: in a namespace of their own, or somebody's.

    The launcher stays in its own; only C{pid_for_children} changes (pid_namespaces(7)), and
    is set back as soon as the copy is made.
    """

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def new(self) -> None:
        """Let the next copy be the first of a new one. Raises L{OSError}."""
        _check(_libc.unshare(NAMESPACES["pid"]))

    def enter(self, descriptor: int) -> None:
        """Let the next copy be in this one. Raises L{OSError}."""
        _check(_libc.setns(descriptor, NAMESPACES["pid"]))

    def leave(self) -> None:
        """Let it be ours again. Raises L{OSError}."""
        _check(_libc.setns(self._own, NAMESPACES["pid"]))


def why_no_namespace(error: OSError) -> str:
    """Return why one cannot be made, with what to look at where the words are misleading."""
    if error.errno == errno.ENOSPC:
        return "there are too many already (sysctl user.max_pid_namespaces and its like)"
    if error.errno == errno.EINVAL:
        return "the kernel has none of that kind (/proc/self/ns has those that it has)"
    return error.strerror or str(error)


def open_namespaces(pid: int) -> dict[str, int]:
    """Open those namespaces of a process that are not ours, by name. Raises L{OSError}."""
    opened: dict[str, int] = {}
    try:
        for name in NAMESPACES:
            path = f"/proc/{pid}/ns/{name}"
            if os.readlink(path) != os.readlink(f"/proc/self/ns/{name}"):
                opened[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        for descriptor in opened.values():
            os.close(descriptor)
        raise
    return opened


# In the copy, while it is root still.


def isolate(wanted: Isolation, entered: dict[str, int], sandbox: str) -> None:
    """
    Be apart, but for what only the last moment before the exec can do (L{restrict}).

    @param entered: namespaces to enter, by name.
    @param sandbox: where to be in the end, if there is no other root.
    """
    for path in wanted.cgroups:
        _step(f"cgroup {path!r}", cgroups.join, path)
    if wanted.oom_score is not None:
        _step("oom_score_adj", _write, "/proc/self/oom_score_adj", str(wanted.oom_score))
    for name, descriptor in entered.items():
        if name != "pid":
            _step(f"namespace {name}", _setns, descriptor, NAMESPACES[name])
    flags = sum(NAMESPACES[name] for name in wanted.namespaces if name != "pid")
    if flags:
        try:
            _unshare(flags)
        except OSError as error:
            names = ", ".join(wanted.namespaces)
            raise IsolationError(f"namespaces {names}: {why_no_namespace(error)}") from error
    if "net" in wanted.namespaces:
        _step("loopback", _raise_loopback)
    if "mnt" in wanted.namespaces:
        if "mnt" in entered:
            _step(f"directory {sandbox!r}", _go_to, sandbox)
        _mount_all(wanted, sandbox)
    elif "mnt" in entered:
        _step(f"directory {sandbox!r}", os.chdir, wanted.directory or sandbox)


def _go_to(directory: str) -> None:
    """Go somewhere without following a symbolic link: others may have put one on the way."""
    descriptor = _open_plain(directory)
    try:
        os.fchdir(descriptor)
    finally:
        os.close(descriptor)


def _mount_all(wanted: Isolation, sandbox: str) -> None:
    # What is mounted here stays here; what is unmounted on the host need not wait for us.
    _step("mount namespace", _mount, Mount("none", "/", "", MS_REC | MS_SLAVE))
    root = -1
    if wanted.root:
        # pivot_root(2) wants a mount.
        _step(f"root {wanted.root!r}", _mount, Mount(wanted.root, wanted.root))
        root = os.open(wanted.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if "pid" in wanted.namespaces:
        _step("/proc", _mount_at, root, Mount("proc", "/proc", "proc", 0xE))
    for mount in wanted.mounts:
        _step(f"mount of {mount.source!r} at {mount.target!r}", _mount_at, root, mount)
    if wanted.hide:
        _step(f"hiding {wanted.hide!r}", _hide, wanted.hide, sandbox)
    if wanted.root:
        _step(f"root {wanted.root!r}", _pivot, root)
        os.close(root)
    where = wanted.directory or sandbox
    _step(f"directory {where!r}", os.chdir, where)


def _hide(directory: str, sandbox: str) -> None:
    """Cover a directory with nothing but the sandbox, which is where we are."""
    _mount(Mount("tmpfs", directory, "tmpfs", 0xE, "size=1m,mode=755"))
    os.makedirs(sandbox, mode=0o755)
    _mount(Mount(".", sandbox))
    _mount(Mount("none", directory, "", MS_REMOUNT | MS_RDONLY | 0xE, "size=1m,mode=755"))


def be_init(status: int) -> None:
    """
    Fork; return in the new process, and be its init in the old one, until it ends.

    @param status: a descriptor to which its wait status is written.
    """
    child = os.fork()
    if child:
        go_on_as_init(child, status)
    os.close(status)


def is_shared(wanted: Isolation) -> bool:
    """Tell whether an init may be restricted as the container's process is: it gives up more."""
    return wanted.effective is None and not wanted.seccomp


def begin_init(wanted: Isolation) -> None:
    """
    Be restricted as the process that this init is about to start, and let that one, which
    may run before we do, not look into our memory.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    bound(wanted)
    restrict(wanted)


def go_on_as_init(child: int, status: int) -> NoReturn:
    """
    Be an init until the container's process has ended.

    @param child: the pid of that one.
    @param status: a descriptor to which its wait status is written.
    """
    code = 127
    try:
        # There may be no /dev/null in this root to put in the place of what is closed. Somebody
        # waits for it.
        os.closerange(0, status)
        os.closerange(status + 1, 65536)
        reset_signals()
        _give_up_rights()
        while True:
            pid, ended = os.waitpid(-1, 0)
            if pid == child:
                os.write(status, struct.pack("i", ended))
                code = os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 128 + os.WTERMSIG(ended)
                break
    finally:
        os._exit(code)


def _give_up_rights() -> None:
    """
    Have no capabilities and never get any again, and let nobody look into our memory.

    An init only waits, and is a copy of the launcher, which knows other containers' secrets: who
    may trace processes in there (CAP_SYS_PTRACE) should win nothing by it.
    """
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    number = 0
    while not _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0):
        number += 1
    _libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), struct.pack("6I", 0, 0, 0, 0, 0, 0))


# In the copy, at the last moment.


def bound(wanted: Isolation) -> None:
    """Give up for ever what is not in the bounding set; keep the rest while the user changes."""
    if wanted.bounding is not None:
        last = int(_read("/proc/sys/kernel/cap_last_cap"))
        for number in range(last + 1):
            if not wanted.bounding >> number & 1:
                _step(f"capability {number}", _prctl, _PR_CAPBSET_DROP, number)
    if wanted.effective is not None:
        _step("keeping capabilities", _prctl, _PR_SET_KEEPCAPS, 1)


def restrict(wanted: Isolation) -> None:
    """Set capabilities, no-new-privileges and the filter of system calls."""
    if wanted.effective is not None:
        mask = wanted.effective & ~(-1 << (int(_read("/proc/sys/kernel/cap_last_cap")) + 1))
        _step("capabilities", _set_capabilities, mask)
    if wanted.no_new_privileges or wanted.seccomp:
        _step("no_new_privs", _prctl, _PR_SET_NO_NEW_PRIVS, 1)
    if wanted.seccomp:
        _step("seccomp", _filter, wanted.seccomp)


def _set_capabilities(mask: int) -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _check(_libc.capset(header, struct.pack("6I", low, low, low, high, high, high)))
    _prctl(_PR_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    if os.getuid():
        # Without these, an exec by who is not root would lose all of them.
        for number in range(64):
            if mask >> number & 1:
                _prctl(_PR_CAP_AMBIENT, _CAP_AMBIENT_RAISE, number)


def _filter(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    wanted = Program(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(wanted))


# System calls


def _step(what: str, how: Any, *arguments: Any) -> None:
    try:
        how(*arguments)
    except OSError as error:
        raise IsolationError(f"{what}: {error.strerror}") from error


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, *arguments: int) -> None:
    _check(_libc.prctl(option, *(*arguments, 0, 0, 0, 0)[:4]))


def _setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind))


def _unshare(flags: int) -> None:
    _check(_libc.unshare(flags))


def _mount(mount: Mount) -> None:
    _check(
        _libc.mount(
            mount.source.encode(),
            mount.target.encode(),
            mount.type.encode() or None,
            ctypes.c_ulong(mount.flags),
            mount.data.encode() or None,
        )
    )


def _mount_at(root: int, mount: Mount) -> None:
    """Mount below a root, out of which no symbolic link leads; -1 is the host's root."""
    bind = mount.flags & MS_BIND
    first = mount.flags & ~MS_RDONLY if bind else mount.flags
    _mount_on(root, mount._replace(flags=first))
    if bind and mount.flags & MS_RDONLY:
        # The target is another one by now: the root of what was mounted.
        mounted = _open_target(root, mount)
        try:
            make_read_only(mounted)
        finally:
            os.close(mounted)


def _open_target(root: int, mount: Mount) -> int:
    if root >= 0:
        return _open_in(root, mount.target)
    if mount.guarded:
        return _open_plain(mount.target)
    return os.open(mount.target, os.O_PATH | os.O_CLOEXEC)


def _mount_on(root: int, mount: Mount) -> None:
    if root < 0 and mount.guarded:
        _mount_guarded(mount)
        return
    if root < 0:
        _mount(mount)
        return
    target = _open_in(root, mount.target)
    try:
        _mount(mount._replace(target=f"/proc/self/fd/{target}"))
    finally:
        os.close(target)


def _mount_guarded(mount: Mount) -> None:
    opened = []
    try:
        opened.append(_open_plain(mount.target))
        target = f"/proc/self/fd/{opened[0]}"
        source = mount.source
        if source.startswith("/") and not mount.flags & MS_REMOUNT:
            opened.append(_open_plain(source))
            source = f"/proc/self/fd/{opened[1]}"
        _mount(mount._replace(source=source, target=target))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _open_plain(path: str) -> int:
    # struct open_how: flags, mode, resolve.
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    opened = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), -100, path.encode(), how, ctypes.c_size_t(len(how))
    )
    _check(opened)
    return int(opened)


def _open_in(root: int, path: str) -> int:
    # struct open_how: flags, mode, resolve.
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    target = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), root, path.encode(), how, ctypes.c_size_t(len(how))
    )
    _check(target)
    return int(target)


def _pivot(root: int) -> None:
    """Make a directory the root, and let go of the old one."""
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(0, f"pivot_root(2) is not known for {os.uname().machine}")
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(root)
        # The old root is stacked under the new one, and let go of there.
        _check(_libc.syscall(ctypes.c_long(number), b".", b"."))
        os.fchdir(old)
        _check(_libc.mount(b"", b".", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))
        _check(_libc.umount2(b".", _MNT_DETACH))
        os.chdir("/")
    finally:
        os.close(old)


def _raise_loopback() -> None:
    """Raise C{lo} of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def reset_signals() -> None:
    """Let every signal do what it does by default, as Python's own handlers do not."""
    usual = (signal.SIG_DFL, None)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in usual:
            signal.signal(number, signal.SIG_DFL)
