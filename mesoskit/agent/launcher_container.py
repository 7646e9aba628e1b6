"""One container as its launcher knows it.

The standard library alone.
"""

from collections.abc import Callable


class Container:
    """
    A container that is known.

    @ivar pid: of its first process, whose session bears this number too; 0 where not known.
    @ivar earliest: that process started no earlier, in clock ticks since boot; and no later than
        C{latest}. (To ask /proc costs as much as the start: it waits until the exec is over.)
    @ivar mark: its number among those that are not over, 0 for none.
    @ivar running: whether the first process still runs, as far as was seen.
    @ivar over: whether nothing of it is left; C{status} is told from then on.
    @ivar strays: pids of what it left to us, L{None} for nothing.
    @ivar pidfd: how a process that is not our child is watched, -1 where it is one.
    @ivar adopted: whether another launcher started it.
    @ivar patience: for how many seconds it outlives its agent; L{None}: for ever.
    @ivar abandoned: whether it is ended, or was, because that did not come back.
    @ivar ending: L{None} while nobody wants its end.
    @ivar cgroup: by which all of it is found and killed; empty for none.
    @ivar parent: the container that it is nested in, and ends with; empty for none.
    @ivar exit: a descriptor that tells its wait status (L{launcher_spawn.Started}), -1 for none.
    @ivar user: CPU seconds of strays that have ended; C{system} likewise.
    """

    __slots__ = (
        "abandoned",
        "adopted",
        "cgroup",
        "earliest",
        "ending",
        "exit",
        "latest",
        "mark",
        "name",
        "over",
        "parent",
        "patience",
        "pid",
        "pidfd",
        "running",
        "status",
        "strays",
        "system",
        "user",
    )

    def __init__(self, name: str, pid: int = 0, earliest: int = 0, latest: int = 0) -> None:
        self.name = name
        self.pid = pid
        self.earliest = earliest
        self.latest = latest
        self.mark = 0
        self.running = True
        self.over = False
        self.status: int | None = None
        self.strays: set[int] | None = None
        self.pidfd = -1
        self.adopted = False
        self.patience: float | None = None
        self.abandoned = False
        self.ending: Ending | None = None
        self.cgroup = ""
        self.parent = ""
        self.exit = -1
        self.user = 0.0
        self.system = 0.0


class Ending:
    """How far the killing of a container is: what was killed, since when, who waits for it."""

    __slots__ = ("again", "killed", "since", "waiting")

    def __init__(self, now: float) -> None:
        self.since = now
        self.again = now
        self.killed: set[int] = set()
        self.waiting: list[Callable[[], None]] = []
