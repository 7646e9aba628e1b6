"""Agents that are killed at every step: before each call that changes something outside of them.

What an agent does between two such calls nobody else can see, so these are all the moments at
which it can be killed. C{tests.cluster.steps.isolator} in C{--isolation} isolates nothing; it
counts steps, and ends the process before the one that a test has chosen.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

from mesoskit.agent.containers.isolators import Isolator

ISOLATOR: Final = "tests.cluster.steps.isolator"

ORDER: Final = "steps.json"
"""In the agent's directory, read when it is armed: before which step to die, from 1 on."""

TAKEN: Final = "steps.txt"
"""In the same: a line for each step taken since, with what was called and where."""

ARMED: Final = signal.SIGUSR2
"""From then on steps are counted."""

_CALLS: Final = frozenset(
    (
        *("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "symlink", "link", "write"),
        *("chmod", "fchmod", "chown", "fchown", "truncate", "ftruncate", "kill", "killpg"),
        *("posix_spawn", "fork_exec", "connect", "bind", "send", "sendmsg", "sendto"),
    )
)
"""Names of functions that are written in C. (What is opened and not written to is no change.)"""

_FROM: Final = ("/mesoskit/", "/twisted/internet/process.py", "/twisted/python/util.py")
"""Who calls them; the last is how Twisted sends."""

_TRANSACTION: Final = "/mesoskit/cluster/sqlite.py"
"""All that is executed here by one function is one step: the end of a transaction."""


class Steps:
    """
    Counts steps, and dies before one of them.

    @ivar count: how many there were since it was armed.
    """

    def __init__(self) -> None:
        self.count = 0
        self._last = 0
        self._taken = -1
        self._transaction: FrameType | None = None

    def watch(self) -> None:
        """Wait to be armed."""
        signal.signal(ARMED, self._arm)

    def _arm(self, signum: int, frame: FrameType | None) -> None:
        self.count = 0
        self._last = json.loads(Path(ORDER).read_bytes())
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._taken = os.open(TAKEN, flags, 0o600)
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def _called(self, frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call":
            return
        name, path = function.__name__, frame.f_code.co_filename
        if name == "execute" and path.endswith(_TRANSACTION):
            if frame is self._transaction:
                return
            self._transaction = frame
        elif name not in _CALLS or not any(part in path for part in _FROM):
            return
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        above = frame.f_back
        by = f" for {above.f_code.co_filename}:{above.f_lineno}" if above is not None else ""
        os.write(self._taken, f"{self.count} {name} {path}:{frame.f_lineno}{by}\n".encode())


def isolator(settings: Any) -> Isolator:
    """Return one that lets the agent count its steps."""
    Steps().watch()
    return Isolator()
