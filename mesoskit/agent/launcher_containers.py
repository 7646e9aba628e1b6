"""The containers a launcher keeps: reaped, killed to the last descendant, their ends written down.

How descendants are found: every process whose parent ends becomes a child of the launcher
(PR_SET_CHILD_SUBREAPER), so all that is left of a container hangs below the launcher's own
children, of which the kernel keeps a list: no search is needed to know that nothing is left.
Whose such a stray is, tells its session; else the first variable of its environment; else a mark
that is inherited (L{mesoskit.agent.launcher_marks}).

The standard library alone, one thread.
"""

import ctypes
import os
import selectors
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable

from mesoskit.agent import launcher_cgroups as cgroups
from mesoskit.agent import launcher_marks as marks
from mesoskit.agent import launcher_proc as proc
from mesoskit.agent.launcher_container import Container, Ending
from mesoskit.agent.launcher_journal import Entry, Journal, with_patience
from mesoskit.agent.launcher_spawn import LAUNCHER, MARK, Order, Spawner, SpawnError

PATIENCE = 60.0
"""Seconds after which a container is over although something of it cannot be killed."""

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL for a container that its agent has abandoned."""

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Keeper:
    """
    All containers of a launcher.

    @ivar containers: by id, until they are forgotten.
    """

    def __init__(
        self,
        journal: Journal,
        spawner: Spawner,
        selector: selectors.BaseSelector,
        told: Callable[[str, int | None], None],
        own: str = "",
    ) -> None:
        """
        @param selector: where descriptors wait; the data of a key is called.
        @param told: called with id and wait status of each container that is over.
        @param own: what the processes of its containers have as C{LAUNCHER}.
        """
        self.containers: dict[str, Container] = {}
        self._journal = journal
        self._spawner = spawner
        self._selector = selector
        self._told = told
        self._own = own
        self._pid = os.getpid()
        self._nested: dict[str, set[Container]] = {}  # by what they are nested in
        self._sessions: dict[int, Container] = {}
        self._marks: dict[int, Container] = {}
        self._last_mark = 0
        self._marking = marks.Marking()
        self._strays: dict[int, Container | None] = {}
        self._ending: set[Container] = set()
        self._leaving: dict[Container, float] = {}  # abandoned, and to be killed when
        self._adopted: set[Container] = set()
        self._unwritten: list[str] = []

    def start(self) -> None:
        """Become the parent of orphans, and take over what an earlier launcher has left."""
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        entries = self._journal.load()
        table = proc.processes() if entries else {}
        for name, entry in entries.items():
            container = Container(name, entry.pid, entry.earliest, entry.latest)
            self.containers[name] = container
            container.adopted = True
            container.status = entry.status
            container.patience = entry.patience
            container.abandoned = entry.abandoned
            container.cgroup = entry.cgroup
            container.parent = entry.parent
            if entry.over:
                container.over = True
                container.running = False
                continue
            self._adopted.add(container)
            if not entry.pid:
                self._recognise(container, table)
            self._watch(container)
            if container.abandoned:
                self._leaving[container] = time.monotonic()
        for container in [c for c in self.containers.values() if c.parent and not c.over]:
            around = self.containers.get(container.parent)
            if around is None or around.over:
                self._end(container)
            else:
                self._nested.setdefault(container.parent, set()).add(container)
                if around.ending is not None:
                    self._end(container)

    @property
    def patience(self) -> float | None:
        """How many seconds may pass until L{turn} is called without any reason; L{None}: any."""
        if self._ending:
            unheard = any(c.adopted or c.cgroup for c in self._ending)
            return 0.05 if unheard else 1.0
        if self._leaving:
            return 0.5
        unwatched = any(container.pidfd < 0 for container in self._adopted)
        return 1.0 if self._unwritten or unwatched else None

    @property
    def running(self) -> bool:
        """Whether any container is not over."""
        return not all(container.over for container in self.containers.values())

    @property
    def idle(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.containers and not proc.children(self._pid)

    def turn(self) -> None:
        """Reap, kill what is left of containers that shall end, tell of those that have ended."""
        self._reap()
        if self._adopted:
            self._look_after_adopted()
        if self._leaving:
            self._kill_abandoned()
        if self._ending:
            self._find_strays()
            now = time.monotonic()
            over = _in_order(
                [c for c in self._ending if not c.running and _gone(c, now)], self._ending
            )
            self._ending.difference_update(over)
            self._kill([c for c in self._ending if _due(c, now)])
            self._finish(over)
        elif self._unwritten:
            self._write([])

    # What can be asked

    def launch(self, order: Order) -> int:
        """Start a container that is not known yet; return its pid. Raises SpawnError, OSError."""
        container = Container(order.name)
        container.patience = order.patience
        container.cgroup = order.isolation.kill
        container.parent = self._parent(order)
        announced = [with_patience(f"launch {order.name}", order.patience)]
        if container.cgroup:
            announced.append(f"cgroup {order.name} {container.cgroup}")
        if container.parent:
            announced.append(f"nested {order.name} {container.parent}")
        self._journal.write([*self._unwritten, *announced])
        self._unwritten.clear()
        self._take_mark(container)
        container.earliest = proc.ticks_since_boot()
        try:
            inside = self._inside(order.isolation.inside)
            container.pid, container.exit = self._spawner.spawn(order, inside)
        except BaseException:
            self._marks.pop(container.mark, None)
            self._write([f"failed {order.name}"])
            raise
        container.latest = proc.ticks_since_boot()
        self.containers[order.name] = container
        self._sessions[container.pid] = container
        if container.parent:
            self._nested.setdefault(container.parent, set()).add(container)
        self._write([_started(container)])
        return container.pid

    def _parent(self, order: Order) -> str:
        """Return what a container ends with: nothing, where its parent is none of ours."""
        around = self.containers.get(order.parent)
        if around is None:
            return ""
        if around.ending is not None or not around.running:
            raise SpawnError(
                f"the container {order.parent} that it is to be nested in does not run"
            )
        return order.parent

    def _inside(self, name: str) -> int:
        """Return the first process of a container that another one is started in."""
        if not name:
            return 0
        found = self.containers.get(name)
        if found is None or not found.running or not found.pid:
            raise SpawnError(f"the container {name} that it is to be started in does not run")
        return found.pid

    def signal(self, container: Container, number: int) -> None:
        """Send a signal to the first process's group, unless that process has ended."""
        if not container.running or not container.pid:
            return
        if container.adopted and not _is_there(container):
            return
        try:
            os.killpg(container.pid, number)
        except ProcessLookupError:
            pass

    def destroy(self, container: Container, done: Callable[[], None]) -> None:
        """Kill all of it; C{done} is called when nothing is left, after C{told}."""
        if container.over:
            done()
        else:
            self._end(container).waiting.append(done)

    def abandon(self, alone: float) -> float | None:
        """
        End, SIGTERM first, what may not outlive an agent that has been away for so many seconds;
        return after how many more the next one is due, or L{None}.
        """
        next_one: float | None = None
        due = []
        for container in self.containers.values():
            if container.patience is None or container.over or container.abandoned:
                continue
            left = container.patience - alone
            if left <= 0:
                due.append(container)
            elif next_one is None or left < next_one:
                next_one = left
        if due:
            self._write([f"abandoned {container.name}" for container in due])
        for container in due:
            container.abandoned = True
            self.signal(container, signal.SIGTERM)
            self._leaving[container] = time.monotonic() + GRACE
        return next_one

    def forget(self, container: Container) -> None:
        """Drop what is known of a container that is over."""
        del self.containers[container.name]
        self._write([f"forget {container.name}"])
        self._journal.compact(len(self.containers), self._entries)

    def strays(self) -> dict[str, tuple[float, float, list[int]]]:
        """
        Return what a look from outside cannot attribute: of each container that has any, the CPU
        seconds (user, system) of strays that have ended, and the pids of those that have not.
        """
        self._find_strays()
        return {
            c.name: (c.user, c.system, sorted(c.strays or ()))
            for c in self.containers.values()
            if not c.over and (c.strays or c.user or c.system)
        }

    # Ends

    def _take_mark(self, container: Container) -> None:
        """Give the container a number, which all we start from now on inherits."""
        if len(self._marks) < marks.MOST:
            while True:
                self._last_mark = self._last_mark % marks.MOST + 1
                if self._last_mark not in self._marks:
                    break
            container.mark = self._last_mark
            self._marks[container.mark] = container
        self._marking.take(container.mark)

    def _reap(self) -> None:
        """Take leave of all children that have ended."""
        while True:
            try:
                # Not reaped yet, it keeps its pid from being given to a stranger.
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            pid = info.si_pid
            owner = self._sessions.get(pid)
            if owner is not None and owner.running:
                _kill(os.killpg, pid)
                owner.status = os.waitpid(pid, 0)[1]
                if owner.exit >= 0:
                    owner.status = _status_of_init(owner)
                owner.running = False
                self._end(owner)
                continue
            if pid in self._strays:
                owner = self._strays.pop(pid)
            else:
                found = proc.process(pid)
                owner = self._sessions.get(found.session) if found else None
            usage = os.wait4(pid, 0)[2]
            if owner is not None:
                owner.user += usage.ru_utime
                owner.system += usage.ru_stime
                if owner.strays is not None:
                    owner.strays.discard(pid)

    def _kill_abandoned(self) -> None:
        now = time.monotonic()
        for container, when in list(self._leaving.items()):
            if container.over:
                del self._leaving[container]
            elif now >= when:
                del self._leaving[container]
                self._end(container)

    def _end(self, container: Container) -> Ending:
        if container.ending is None:
            container.ending = Ending(time.monotonic())
            self._ending.add(container)
            for nested in self._nested.pop(container.name, ()):
                if not nested.over:
                    self._end(nested)
        return container.ending

    def _finish(self, over: list[Container]) -> None:
        """Write down that these are over, then tell."""
        self._write([f"exited {c.name} {'-' if c.status is None else c.status}" for c in over])
        for container in over:
            assert container.ending is not None
            container.over = True
            for pid in container.strays or ():
                self._strays[pid] = None
            container.strays = None
            self._marks.pop(container.mark, None)
            if self._sessions.get(container.pid) is container:
                del self._sessions[container.pid]
            self._nested.get(container.parent, set()).discard(container)
            self._adopted.discard(container)
            waiting, container.ending = container.ending.waiting, None
            self._told(container.name, container.status)
            for done in waiting:
                done()

    def _find_strays(self) -> None:
        """Learn of processes that became our children because their parents have ended."""
        for pid in proc.children(self._pid):
            leader = self._sessions.get(pid)
            if pid in self._strays or (leader is not None and leader.running):
                continue
            owner = self._owner(pid)
            self._strays[pid] = owner
            if owner is not None:
                if owner.strays is None:
                    owner.strays = set()
                owner.strays.add(pid)

    def _owner(self, pid: int) -> Container | None:
        found = proc.process(pid)
        if found is None:
            return None
        owner = self._sessions.get(found.session)
        if owner is None:
            name = self._name_of(pid)
            # The mark of a launcher within a container says nothing here.
            if name is not None:
                owner = self.containers.get(name)
            else:
                owner = self._marks.get(self._marking.of(pid))
        return None if owner is None or owner.over else owner

    def _kill(self, containers: list[Container]) -> None:
        """SIGKILL everything there is of some containers, from one look at all processes."""
        if not containers:
            return
        table = proc.processes()
        own = os.getpgrp()
        for container in containers:
            if container.cgroup:
                cgroups.kill_all(container.cgroup)
            assert container.ending is not None
            container.ending.again = time.monotonic() + 1.0
            roots = set(container.strays or ())
            container.ending.killed |= roots
            if container.running and container.pid:
                roots.add(container.pid)
            members = proc.tree(roots, table)
            # A group is killed as one: nothing in it can fork away in the meantime.
            for group in {table[pid].group for pid in members} - {0, 1, own}:
                _kill(os.killpg, group)
            for pid in members - {0, 1, self._pid}:
                _kill(os.kill, pid)

    def _name_of(self, pid: int) -> str | None:
        """Return the container that a process is marked for; empty: another launcher's."""
        marks = proc.first_variables(pid)
        # The launchers of version 3 and before have not left their own mark.
        return marks.get(MARK) if marks.get(LAUNCHER, self._own) == self._own else ""

    # Containers of a launcher that was killed: not our children, so nothing wakes us for them

    def _recognise(self, container: Container, table: dict[int, proc.Process]) -> None:
        """Find the process of a container whose launcher was killed while it started it."""
        for found in table.values():
            if found.pid == found.session and found.alive:
                if self._name_of(found.pid) == container.name:
                    container.pid = found.pid
                    container.earliest = container.latest = found.start
                    self._write([_started(container)])
                    return

    def _watch(self, container: Container) -> None:
        if container.pid:
            try:
                container.pidfd = os.pidfd_open(container.pid)
            except OSError:  # it is gone; or we are out of descriptors, and look now and then
                pass
            else:
                self._selector.register(
                    container.pidfd, selectors.EVENT_READ, lambda: self._left(container)
                )
        if not _is_there(container):
            self._left(container)

    def _left(self, container: Container) -> None:
        """An adopted container's first process has ended."""
        if container.pidfd >= 0:
            self._selector.unregister(container.pidfd)
            os.close(container.pidfd)
            container.pidfd = -1
        container.running = False
        self._end(container)

    def _look_after_adopted(self) -> None:
        """Notice those that have ended unwatched, and what is left of those that shall end."""
        for container in self._adopted:
            if container.running and container.pidfd < 0 and not _is_there(container):
                self._left(container)
        ending = {c.name: c for c in self._ending & self._adopted}
        if not ending:
            return
        for container in ending.values():
            container.strays = set()
        table = proc.processes()
        sessions = {
            c.pid: c
            for c in ending.values()
            # The number may be that of a stranger's session by now.
            if c.pid and (c.pid not in table or _is_its(c, table[c.pid]))
        }
        for found in table.values():
            owner = sessions.get(found.session)
            if owner is None and found.parent not in (0, 2):  # kernel threads have no environment
                owner = ending.get(self._name_of(found.pid) or "")
            if owner is not None and owner.strays is not None and found.alive:
                if found.pid != owner.pid or not owner.running:
                    owner.strays.add(found.pid)

    # The journal

    def _write(self, lines: Iterable[str]) -> None:
        """Write lines down; those for which there is no room are kept and written later."""
        self._unwritten.extend(lines)
        if not self._unwritten:
            return
        try:
            self._journal.write(self._unwritten)
        except OSError as error:
            complain(f"cannot write {self._journal.path}: {error.strerror}")
        else:
            self._unwritten.clear()

    def _entries(self) -> dict[str, Entry]:
        return {
            c.name: Entry(
                c.pid,
                c.earliest,
                c.latest,
                c.over,
                c.status,
                c.patience,
                c.abandoned,
                c.cgroup,
                c.parent,
            )
            for c in self.containers.values()
        }


def _gone(container: Container, now: float) -> bool:
    """Whether nothing is left, or nothing that we could get rid of."""
    assert container.ending is not None
    if now > container.ending.since + PATIENCE:
        return True
    return not container.strays and not (container.cgroup and cgroups.pids_in(container.cgroup))


def _in_order(over: list[Container], ending: Iterable[Container]) -> list[Container]:
    """
    Return what is told to be over: what is in the cgroup of another not before that one, which
    it is the end of.
    """
    around = {c.cgroup for c in ending if c.cgroup}
    if len(around) > 1:
        around.difference_update([c.cgroup for c in over])
        over = [c for c in over if around.isdisjoint(_above(c.cgroup))]
        over.sort(key=lambda c: len(c.cgroup))
    return over


def _above(path: str) -> Iterable[str]:
    """Give the directories that a path is in."""
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


def _status_of_init(container: Container) -> int | None:
    """Return how the process ended for which its init stands."""
    told = os.read(container.exit, 4)
    os.close(container.exit)
    container.exit = -1
    if len(told) == 4:
        status: int = struct.unpack("i", told)[0]
        return status
    return container.status  # the init itself was killed


def _due(container: Container, now: float) -> bool:
    """Whether there is anything to be killed that was not just killed."""
    ending = container.ending
    assert ending is not None
    if container.cgroup and now >= ending.again - 0.95:
        return True
    return now >= ending.again or bool((container.strays or set()) - ending.killed)


def _is_there(container: Container) -> bool:
    """Whether its first process lives, and not another that was given the same pid."""
    found = proc.process(container.pid)
    return found is not None and found.alive and _is_its(container, found)


def _is_its(container: Container, found: proc.Process) -> bool:
    """Whether the process with its pid is the one that it began with."""
    return container.earliest <= found.start <= container.latest


def _started(container: Container) -> str:
    ticks = f"{container.earliest} {container.latest}"
    return with_patience(f"started {container.name} {container.pid} {ticks}", container.patience)


def _kill(how: Callable[[int, int], None], target: int) -> None:
    try:
        how(target, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def complain(text: str) -> None:
    """Leave a line in the log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
