"""What the launcher writes down, so that its own death loses no container.

The seconds are those for which a container outlives its agent, for ever where there are none.

A file of lines, appended to with one C{write} each time and never synced: it has to outlive a
C{kill -9} of the launcher, not the machine, with which all containers end anyway. The lines::

    boot <boot id>                      first; another boot than ours: all of it is history
    launch <id> [<seconds>]             it will be started
    started <id> <pid> <ticks> <ticks> [<seconds>]
                                        it was, no earlier and no later than that (since boot)
    failed <id>                         it was not
    cgroup <id> <path>                  by which all of it is found and killed
    nested <id> <id>                    it ends with that other one
    abandoned <id>                      its agent was away for longer than it may outlive that
    exited <id> <wait status or ->      it is over; - where nobody knows the status
    forget <id>                         and need not be remembered

The standard library alone.
"""

import errno
import os
from collections.abc import Callable, Iterable

SLACK = 4096
"""How many lines more than needed the file may have before it is written anew."""


class Entry:
    """
    What is written of one container.

    @ivar pid: of its first process; 0 while that is not known to have been started.
    @ivar earliest: that process started no earlier, in clock ticks since boot.
    @ivar latest: and no later.
    @ivar over: whether its end is written.
    @ivar status: its wait status; L{None} where unknown.
    @ivar patience: for how many seconds it outlives its agent; L{None}: for ever.
    @ivar abandoned: it was ended because its agent did not come back in that time.
    @ivar cgroup: by which all of it is found and killed; empty for none.
    @ivar parent: what it is nested in, and ends with; empty for none.
    """

    __slots__ = (
        "abandoned",
        "cgroup",
        "earliest",
        "latest",
        "over",
        "parent",
        "patience",
        "pid",
        "status",
    )

    def __init__(
        self,
        pid: int = 0,
        earliest: int = 0,
        latest: int = 0,
        over: bool = False,
        status: int | None = None,
        patience: float | None = None,
        abandoned: bool = False,
        cgroup: str = "",
        parent: str = "",
    ) -> None:
        self.pid = pid
        self.earliest = earliest
        self.latest = latest
        self.over = over
        self.status = status
        self.patience = patience
        self.abandoned = abandoned
        self.cgroup = cgroup
        self.parent = parent


class Journal:
    """
    The file itself.

    @ivar path: where it is.
    @ivar boot: the boot in which we are.
    @ivar lines: how many lines it has, but for the first.
    """

    def __init__(self, path: str, boot: str) -> None:
        self.path = path
        self.boot = boot
        self.lines = 0
        self._descriptor = -1

    def load(self) -> dict[str, Entry]:
        """Read what a launcher before us has left, and open the file for our own lines."""
        entries: dict[str, Entry] = {}
        boot = ""
        try:
            with open(self.path, "rb") as file:
                for line in file:
                    # The last line of a launcher that was killed may be half a line.
                    words = line.decode(errors="replace").split() if line.endswith(b"\n") else []
                    if len(words) == 2 and words[0] == "boot":
                        boot = words[1]
                    elif len(words) >= 2:
                        _replay(entries, words)
        except FileNotFoundError:
            pass
        if boot != self.boot:
            for entry in entries.values():
                entry.over = True
        self.rewrite(entries)
        return entries

    def write(self, lines: Iterable[str]) -> None:
        """Append lines. Raises L{OSError} where that cannot be done (the disk is full)."""
        batch = list(lines)
        data = "".join(f"{line}\n" for line in batch).encode()
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            if os.write(self._descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # Half a line would spoil the next one.
            os.ftruncate(self._descriptor, end)
            raise OSError(error.errno, error.strerror, self.path) from error
        self.lines += len(batch)

    def compact(self, count: int, entries: Callable[[], dict[str, Entry]]) -> None:
        """Write the file anew where most of its lines are about what C{count} entries are not."""
        if self.lines > 2 * count + SLACK:
            self.rewrite(entries())

    def rewrite(self, entries: dict[str, Entry]) -> None:
        """Replace the file by one that says the same of these entries and nothing else."""
        lines = [f"boot {self.boot}"]
        for name, entry in entries.items():
            if entry.pid:
                started = f"started {name} {entry.pid} {entry.earliest} {entry.latest}"
                lines.append(with_patience(started, entry.patience))
            else:
                lines.append(with_patience(f"launch {name}", entry.patience))
            if entry.cgroup:
                lines.append(f"cgroup {name} {entry.cgroup}")
            if entry.parent:
                lines.append(f"nested {name} {entry.parent}")
            if entry.abandoned:
                lines.append(f"abandoned {name}")
            if entry.over:
                lines.append(f"exited {name} {'-' if entry.status is None else entry.status}")
        fresh = self.path + ".new"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o600)
        try:
            data = "".join(f"{line}\n" for line in lines).encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.rename(fresh, self.path)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self.lines = len(lines) - 1


def with_patience(line: str, patience: float | None) -> str:
    """Return a line that says how long the container outlives its agent."""
    return line if patience is None else f"{line} {patience:g}"


def _replay(entries: dict[str, Entry], words: list[str]) -> None:
    """Carry out one line; what cannot be understood is passed over."""
    verb, name, *rest = words
    try:
        if verb == "launch":
            entries.setdefault(name, Entry(patience=float(rest[0]) if rest else None))
        elif verb == "started":
            patience = float(rest[3]) if len(rest) > 3 else None
            cgroup = entries[name].cgroup if name in entries else ""
            parent = entries[name].parent if name in entries else ""
            ticks = int(rest[1]), int(rest[2])
            entries[name] = Entry(
                int(rest[0]), *ticks, patience=patience, cgroup=cgroup, parent=parent
            )
        elif verb == "cgroup" and name in entries:
            entries[name].cgroup = rest[0]
        elif verb == "nested" and name in entries:
            entries[name].parent = rest[0]
        elif verb in ("failed", "forget"):
            entries.pop(name, None)
        elif verb == "abandoned" and name in entries:
            entries[name].abandoned = True
        elif verb == "exited" and name in entries:
            entries[name].over = True
            entries[name].status = None if rest[0] == "-" else int(rest[0])
    except (IndexError, ValueError):
        pass
