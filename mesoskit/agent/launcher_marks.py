"""A number that what we start inherits, and that daemons do not wash off with their environment.

It is the timer slack (prctl(2)), which is Linux' own 50 µs and as many nanoseconds as the number
says. Who has no CAP_SYS_NICE may not read that of others: there it is a limit that kernels keep
and heed no more, that of file locks (C{RLIMIT_LOCKS} of setrlimit(2)).

The standard library alone.
"""

import ctypes
import os
import resource

from mesoskit.agent import launcher_proc as proc

MOST = 49_999
"""The largest number; 0 is none."""

_SLACK = 50_000
_PR_SET_TIMERSLACK = 29
_RLIMIT_LOCKS = 10

_libc = ctypes.CDLL(None, use_errno=True)


def forget() -> None:
    """Bear no number, in whichever way we did: this is no part of what was started so."""
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK), 0, 0, 0)
    most = resource.getrlimit(_RLIMIT_LOCKS)[1]
    resource.setrlimit(_RLIMIT_LOCKS, (most, most))


class Marking:
    """How processes are marked."""

    def __init__(self) -> None:
        self._by_slack = proc.timer_slack(os.getppid()) is not None

    def take(self, number: int) -> None:
        """Bear a number, which all we start from now on inherits."""
        if self._by_slack:
            _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK + number), 0, 0, 0)
            return
        most = resource.getrlimit(_RLIMIT_LOCKS)[1]
        if most == resource.RLIM_INFINITY or number <= most:
            resource.setrlimit(_RLIMIT_LOCKS, (number or most, most))

    def of(self, pid: int) -> int:
        """Return the number that a process bears, or one that is none of ours."""
        if self._by_slack:
            return (proc.timer_slack(pid) or 0) - _SLACK
        return proc.file_locks(pid) or 0
