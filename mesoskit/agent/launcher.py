"""The parent of an agent's containers: a small process that outlives the agent.

The agent starts it (C{python -I -S launcher.py <directory> [<linger seconds>]}), and finds it
again after its own restart: it is recorded in C{<directory>/launcher.json} (pid, start in clock
ticks since boot, socket) and listens at C{<directory>/socket}. It starts containers, reaps them,
keeps each exit status until the agent has taken note of it, and kills what a container leaves
behind. All it knows stands in a journal too (L{mesoskit.agent.launcher_journal}): if it is
killed, the next launcher watches the containers by pidfd, and they end with an unknown status.
Where no agent comes back for longer than a container may outlive it (its patience), the launcher
ends the container, and remembers that it was abandoned.

Client and launcher exchange lines of JSON. A request is C{[number, verb, argument...]}, its
answer C{[number, null, result]} or C{[number, "why not", null]}; C{[0, "exited", id, status]} is
said of every end to every client that has said C{hello}. The verbs:

  - C{hello}: gives C{{"version": 3, "pid": ..., "containers": [[id, pid, over, status,
    abandoned]...]}}; the launchers of version 1 do not know of the last.
  - C{launch id file argv environment sandbox credentials limits [patience [isolation [console
    [parent]]]]}: gives the pid. Asked for again, it gives the same pid and starts nothing. See
    L{mesoskit.agent.launcher_spawn.Order}; C{isolation} is an object of what is in
    L{mesoskit.agent.launcher_isolation.Isolation}, C{console} a list of what is in
    L{mesoskit.agent.launcher_console.Console}, both unknown before version 3. It ends with
    C{parent}, where that is a container of this launcher; unknown before version 5.
  - C{signal id number}: to the process group.
  - C{destroy id}: SIGKILL to everything the container ever started; answered when that is gone.
  - C{forget id}: of a container that is over.
  - C{strays}: see L{mesoskit.agent.launcher_containers.Keeper.strays}.

It starts in milliseconds because it imports the standard library alone and the C{launcher_*}
files beside it, which do the same.
"""

import errno
import fcntl
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":  # an isolated interpreter knows no path but the standard library's
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from mesoskit.agent import launcher_console, launcher_isolation
from mesoskit.agent import launcher_proc as proc
from mesoskit.agent.launcher_container import Container
from mesoskit.agent.launcher_containers import Keeper, complain
from mesoskit.agent.launcher_isolation import NONE, IsolationError
from mesoskit.agent.launcher_journal import Journal
from mesoskit.agent.launcher_server import Client, Server
from mesoskit.agent.launcher_spawn import LAUNCHER, MARK, Order, Spawner, SpawnError

VERSION = 5

BLIP = 1.0
"""Seconds that an agent may be away before any container is abandoned."""

COMING = 60.0
"""Seconds for which a launcher waits for the agent that has started it."""

LOOK = 30.0
"""Seconds after which a launcher without client looks whether it can still be found."""


class RequestError(Exception):
    """A request cannot be carried out; the message is the answer."""


class Launcher:
    """
    Requests in, ends out.

    @ivar directory: where socket, record, journal and log are; of mode 0700.
    @ivar linger: seconds without container and client after which C{run} returns (the first
        client may come a little later). It returns too where nothing runs any more and the
        directory is gone, so that nobody can ask.
    """

    def __init__(self, directory: str, linger: float) -> None:
        self.directory = directory
        self.linger = linger
        self._home = home = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.fstat(home)
        self._own = f"{found.st_dev:x}-{found.st_ino:x}"
        self._server = Server(home, self._carry_out)
        self._keeper = Keeper(
            Journal(os.path.join(directory, "journal"), proc.boot_id()),
            Spawner(home),
            self._server.selector,
            lambda name, status: self._server.announce(0, "exited", name, status),
            self._own,
        )
        self._look = min(LOOK, max(linger, 0.05))
        self._idle_since = self._looked = self._agent_seen = time.monotonic()
        self._met = False
        self._until_abandoned: float | None = None
        self._verbs: dict[str, Callable[..., Any]] = {
            "hello": self._hello,
            "launch": self._launch,
            "signal": self._signal,
            "destroy": self._destroy,
            "forget": self._forget,
            "strays": self._strays,
        }

    def start(self) -> None:
        """Take over what an earlier launcher has left, listen, record where we can be found."""
        self._keeper.start()
        self._keeper.turn()  # what has ended in the meantime need not be asked for
        launcher_console.sweep(self._home)
        self._server.start()
        own = proc.process(os.getpid())
        record = {
            "pid": os.getpid(),
            "start": own.start if own else 0,
            "socket": os.path.join(self.directory, "socket"),
        }
        fresh = os.path.join(self.directory, "launcher.json.new")
        with open(fresh, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(record, file)
        os.rename(fresh, os.path.join(self.directory, "launcher.json"))

    def run(self) -> None:
        """Serve until there has been neither container nor client for C{linger} seconds."""
        while not self._done():
            try:
                self._server.turn(self._timeout())
                self._look_for_agent()
                self._keeper.turn()
                self._server.flush()
            except Exception:  # whatever it is, the containers' parent must live on
                complain(traceback.format_exc())
                time.sleep(0.05)
        if self._recorded():
            for name in ("socket", "launcher.json"):
                try:
                    os.unlink(name, dir_fd=self._home)
                except FileNotFoundError:
                    pass

    def _timeout(self) -> float | None:
        waits = [self._keeper.patience, self._until_abandoned]
        if not self._server.clients:
            end = self._idle_since + self._until_met(self.linger)
            idle = max(0.0, end - time.monotonic())
            waits.append(self._look if self._keeper.containers else idle)
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_for_agent(self) -> None:
        """Notice how long no agent has been there, and end what may not outlive it so long."""
        alone = time.monotonic() - self._agent_seen
        blip = self._until_met(min(BLIP, self.linger))
        if not self._server.clients and alone >= blip:
            # On a busy machine it may be we who are late: somebody may stand at the door.
            self._server.turn(0)
        if self._server.clients:
            self._agent_seen = time.monotonic()
            self._met = True
            self._until_abandoned = None
        elif alone < blip:
            self._until_abandoned = blip - alone
        else:
            self._until_abandoned = self._keeper.abandon(alone)

    def _until_met(self, seconds: float) -> float:
        """Return for how long nobody may be there: longer where nobody has been there yet."""
        return seconds if self._met else max(seconds, min(COMING, 60 * self.linger))

    def _done(self) -> bool:
        now = time.monotonic()
        if self._server.clients:
            self._idle_since = now
        elif self._keeper.containers:
            self._idle_since = now
            # Statuses are kept until somebody asks for them, unless nobody can.
            if now >= self._looked + self._look:
                self._looked = now
                return not self._keeper.running and not self._recorded()
        elif now >= self._idle_since + self._until_met(self.linger):
            if self._keeper.idle:
                return True
            self._idle_since = now
        return False

    def _recorded(self) -> bool:
        """Whether we can be found: the directory may have been swept or removed."""
        try:
            descriptor = os.open("launcher.json", os.O_RDONLY, dir_fd=self._home)
            with open(descriptor, "rb") as file:
                return bool(json.load(file)["pid"] == os.getpid())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    # Requests

    def _carry_out(self, client: Client, line: bytes) -> None:
        number: Any = 0
        try:
            request = json.loads(line)
            if not isinstance(request, list) or len(request) < 2:
                raise RequestError(f"a list of number, verb and arguments is wanted, not {line!r}")
            number, verb, *arguments = request
            handler = self._verbs.get(verb) if isinstance(verb, str) else None
            if handler is None or not isinstance(number, int):
                raise RequestError(f"unknown verb {verb!r}: {', '.join(self._verbs)} are known")
            handler(lambda result: client.say(number, None, result), client, *arguments)
        except (RequestError, SpawnError, IsolationError, launcher_console.ConsoleError) as error:
            client.say(number, str(error), None)
        except OSError as error:
            client.say(number, f"{error.filename or 'launcher'}: {error.strerror}", None)
        except Exception as error:  # whatever was sent
            client.say(number, f"cannot be carried out: {type(error).__name__}: {error}", None)

    def _hello(self, answer: Callable[[object], None], client: Client) -> None:
        client.hello = True
        containers = [
            [c.name, c.pid, c.over, c.status, c.abandoned] for c in self._keeper.containers.values()
        ]
        answer({"version": VERSION, "pid": os.getpid(), "containers": containers})

    def _launch(
        self,
        answer: Callable[[object], None],
        client: Client,
        name: str,
        file: str,
        argv: list[str],
        environment: dict[str, str],
        sandbox: str,
        credentials: list[Any] | None,
        limits: list[list[Any]],
        patience: float | None = None,
        isolation: dict[str, Any] | None = None,
        console: list[object] | None = None,
        parent: str | None = None,
    ) -> None:
        known = self._keeper.containers.get(name)
        if known is not None:
            if known.over and not known.pid:
                self._keeper.forget(known)
                raise RequestError(f"whether {name} was started by the last launcher is unknown")
            answer(known.pid)
            return
        if not name.isprintable() or set(" /") & set(name) or not 0 < len(name) <= 512:
            wanted = "1 to 512 printable characters without blank or / are wanted"
            raise RequestError(f"container id {name!r}: {wanted}")
        marks = {MARK: name, LAUNCHER: self._own}
        order = Order(
            name,
            file,
            argv,
            marks | {key: value for key, value in environment.items() if key not in marks},
            sandbox,
            None if credentials is None else (credentials[0], credentials[1], credentials[2]),
            [(which, soft, hard) for which, soft, hard in limits],
            None if patience is None else float(patience),
            NONE if isolation is None else launcher_isolation.isolation(isolation),
            None if console is None else launcher_console.console(console),
            parent or "",
        )
        answer(self._keeper.launch(order))

    def _signal(
        self, answer: Callable[[object], None], client: Client, name: str, number: int
    ) -> None:
        container = self._known(name)
        if container is not None:
            self._keeper.signal(container, number)
        answer(None)

    def _destroy(self, answer: Callable[[object], None], client: Client, name: str) -> None:
        container = self._known(name)
        if container is None:
            answer(None)
        else:
            self._keeper.destroy(container, lambda: answer(None))

    def _forget(self, answer: Callable[[object], None], client: Client, name: str) -> None:
        container = self._known(name)
        if container is not None and container.over:
            self._keeper.forget(container)
            launcher_console.sweep(self._home, launcher_console.name_of(name))
        answer(None)

    def _strays(self, answer: Callable[[object], None], client: Client) -> None:
        answer(self._keeper.strays())

    def _known(self, name: str) -> Container | None:
        return self._keeper.containers.get(name)


def become_daemon(directory: str) -> int:
    """
    Leave the agent: its session, its process group, its output.

    Returns, in the daemon, a descriptor for the word that it is ready; whoever called us waits
    for it. The parents end here.
    """
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        with open(ready, "rb", buffering=0) as pipe:
            word = pipe.readall().decode(errors="replace")
        if word != "ready":
            sys.stderr.write((word or "the launcher ended as it started") + "\n")
            sys.stderr.flush()
        os._exit(0 if word == "ready" else 1)
    os.close(ready)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(
        os.path.join(directory, "log"),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW,
        0o600,
    )
    if os.fstat(log).st_size > 1 << 20:
        os.ftruncate(log, 0)
    for number, descriptor in enumerate((null, null, log)):
        os.dup2(descriptor, number)
    os.close(null)
    os.close(log)
    return told


def main(arguments: list[str]) -> int:
    """Start a launcher as the module says, unless one serves the directory already."""
    os.closerange(3, 256)  # what whoever started us forgot to close
    directory = os.path.realpath(arguments[0])
    linger = float(arguments[1]) if len(arguments) > 1 else 60.0
    os.makedirs(directory, 0o700, exist_ok=True)
    found = os.stat(directory)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        sys.stderr.write(f"{directory} must be ours alone: mode 0700, user {os.geteuid()}\n")
        return 1
    told = become_daemon(directory)
    os.umask(0o022)
    try:
        os.chdir(directory)
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            os.write(told, f"another launcher serves {directory}".encode())
            return 1
        launcher = Launcher(directory, linger)
        launcher.start()
    except Exception as error:
        os.write(told, f"the launcher cannot start in {directory}: {error}".encode())
        complain(traceback.format_exc())
        return 1
    os.write(told, b"ready")
    os.close(told)
    launcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
