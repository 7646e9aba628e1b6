"""A machine's cgroups as a whole: whether an agent can use them, and how quickly they are joined.

Until Linux 6.0, and after it where nobody asks for more, whoever moves a process into a cgroup
waits for a grace period of the kernel (some 15 ms) if nobody else did so just before. The mount
option C{favordynmods} of version 2 has the kernel skip that, in hierarchies of version 1 too, and
in return take a little longer for each fork and exit on the machine (Linux'
C{admin-guide/cgroup-v2}).
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Final

from mesoskit.agent.containers.cgroups import FREEZER, CgroupError, find
from mesoskit.agent.launcher_cgroups import PROCESSES

DYNMODS: Final = "favordynmods"

_NOT_ITS_OWN: Final = frozenset({"rw", "ro", "seclabel"})
"""Options shown with those of a file system that are not given to it."""

_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSOPEN_CLOEXEC: Final = 1
_SET_FLAG: Final = 0
_CREATE: Final = 6

_libc = ctypes.CDLL(None, use_errno=True)

SystemCall = Callable[..., int]
"""Makes a system call: its number, then its arguments. Raises L{OSError}."""


def check_usable(hierarchy: str, root: str, mounts: str = "/proc/self/mounts") -> None:
    """
    Raise L{CgroupError} where an agent cannot make cgroups and move processes into them.

    Finds out by making one, which is gone afterwards.

    @param hierarchy: where they are mounted; C{root}: the group that all of an agent's are in.
    """
    cgroups = find(hierarchy, root, mounts)
    name = f"mesoskit-can-{os.getpid()}"
    # One that was there may be somebody's who is about to make another group in it.
    there = any(os.path.isdir(f"{hierarchy}/{above}{root}") for above in ("", f"{FREEZER}/"))
    try:
        made = cgroups.make(name, ())
        if not os.access(f"{made.kill}/{PROCESSES}", os.W_OK):
            raise CgroupError(f"{made.kill}/{PROCESSES} cannot be written to")
    finally:
        cgroups.remove(name)
    if not there:
        try:
            os.rmdir(os.path.dirname(made.kill))
        except OSError:
            pass  # somebody's are in it by now


def favor_dynmods(
    mounts: str = "/proc/self/mountinfo", system_call: SystemCall | None = None
) -> bool:
    """
    Have cgroups joined without waiting, on the whole machine; say whether that is new.

    No mount is made or changed: the options are those of the one hierarchy of version 2, which
    is there whether it is mounted or not. What it was mounted with stays.

    @param mounts: a file as C{/proc/<pid>/mountinfo} is (proc(5)).
    @raise CgroupError: the kernel does not know this option, or does not let us.
    """
    call = system_call or _system_call
    options = _options(mounts)
    if DYNMODS in options:
        return False
    try:
        context = call(_FSOPEN, b"cgroup2", ctypes.c_long(_FSOPEN_CLOEXEC))
    except OSError as error:
        raise CgroupError(f"fsopen of cgroup2: {error.strerror}") from error
    try:
        # Whatever is not said again would be unset.
        for option in (DYNMODS, *sorted(options - _NOT_ITS_OWN)):
            try:
                call(_FSCONFIG, context, _SET_FLAG, option.encode(), None, 0)
            except OSError as error:
                why = f"{error.strerror}; Linux has it since 6.0" if option == DYNMODS else error
                raise CgroupError(f"option {option} of cgroup2: {why}") from error
        try:
            call(_FSCONFIG, context, _CREATE, None, None, 0)
        except OSError as error:
            raise CgroupError(f"options of cgroup2: {error.strerror}") from error
    finally:
        os.close(context)
    if DYNMODS not in (_options(mounts) or {DYNMODS}):
        # The kernel takes options from the first cgroup namespace alone, and does not say so.
        raise CgroupError("only who is in the machine's own cgroup namespace can set that")
    return True


def _options(mounts: str) -> set[str]:
    """Return the options of cgroups of version 2; none where they are not mounted."""
    for kind, options in _mounted(mounts):
        if kind == "cgroup2":
            return options
    return set()


def _mounted(mounts: str) -> Iterator[tuple[str, set[str]]]:
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise CgroupError(f"{mounts}: {error.strerror}") from error
    for line in lines:
        # After a dash stand type, source and options of the file system.
        _, _, words = line.partition(" - ")
        if len(found := words.split()) == 3:
            yield found[0], set(found[2].split(","))


def _system_call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        wrong = ctypes.get_errno()
        raise OSError(wrong, os.strerror(wrong))
    return result
