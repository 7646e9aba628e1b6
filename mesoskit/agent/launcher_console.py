"""Containers whose input and output somebody may attach to: a small process between the two.

Where a container has a console, its standard streams are a terminal or pipes, and a copy of
the launcher holds their other ends: it writes what comes out to the sandbox' C{stdout} and
C{stderr}, and to whoever is connected to the console's UNIX socket, and what those say goes
in. It is nobody's child who may restart, and ends when nothing can come out any more
(in Mesos: C{src/slave/containerizer/mesos/io/switchboard.cpp}).

A client says first what it is: C{O} hears what comes out, as frames of a kind (1 is stdout, 2
stderr), a length of 4 bytes and so many bytes; the connection ends when all of it was heard.
C{I} is answered with C{+}, or with C{-} where there is one already, and then says frames of the
same form: 1 is input, without any bytes its end; 2 is a window of the terminal, as rows
and columns of 2 bytes each.

What is not heard in time holds a session back, which exists for its listener; the listener of
anything else is cut off instead.

The standard library alone, one thread.
"""

import errno
import fcntl
import hashlib
import os
import selectors
import signal
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from mesoskit.agent import launcher_marks

TERMINAL = "terminal"
PIPES = "pipes"

HEADER = struct.Struct(">BI")
WINDOW = struct.Struct(">HH")
STDOUT, STDERR = 1, 2
INPUT, RESIZE = 1, 2

PIECE = 1 << 16
"""Bytes that are read at a time."""
MAX_UNHEARD = 1 << 20
"""Bytes that wait for a listener."""
MAX_FRAME = 1 << 20
"""Bytes of the longest frame of input."""
MAX_CLIENTS = 16
UNWANTED = 60.0
"""Seconds after which a session is given up to which nobody has come to listen."""
FLUSH = 60.0
"""Seconds in which a listener has to hear something of what is left, when nothing more comes."""
LOOK = 0.1
"""Seconds between two looks whether a log still has its name."""


class ConsoleError(Exception):
    """A console could not be made; the message says why."""


class Console(NamedTuple):
    """
    What a container wants.

    @ivar kind: L{TERMINAL} or L{PIPES}.
    @ivar session: whether it exists for its listener: nothing is read before there is one.
    @ivar rows: of the terminal, 0 for no particular size; C{columns} likewise.
    """

    kind: str
    session: bool = False
    rows: int = 0
    columns: int = 0


class Logs(NamedTuple):
    """
    Where what comes out is kept: C{stdout} and C{stderr} of a sandbox.

    @ivar stdout: open for appending; C{stderr} likewise.
    @ivar sandbox: a descriptor of their directory.
    @ivar reopen: opens one by name where it was renamed (by whoever rotates logs so). Raises
        L{OSError}.
    """

    stdout: int
    stderr: int
    sandbox: int
    reopen: Callable[[str], int]


class Streams(NamedTuple):
    """What becomes a container's standard streams, and the process at their other ends."""

    stdin: int
    stdout: int
    stderr: int
    pid: int


def console(words: list[object]) -> Console:
    """Read what was asked for. Raises L{ConsoleError}."""
    kind, session, rows, columns = words
    if kind not in (TERMINAL, PIPES):
        raise ConsoleError(f"unknown console {kind!r}: {TERMINAL} and {PIPES} are known")
    return Console(str(kind), bool(session), int(str(rows)), int(str(columns)))


def name_of(container: str) -> str:
    """Return the file name of a container's console in the launcher's directory."""
    return "console." + hashlib.sha256(container.encode()).hexdigest()[:24]


def open_console(
    container: str, wanted: Console, home: int, logs: Logs, owner: tuple[int, int] | None
) -> Streams:
    """
    Start the process of a console; return what become its container's standard streams. It ends
    when they are closed everywhere.

    @param home: a descriptor of the launcher's directory, which must be the current one.
    @param logs: to be closed by whoever calls.
    @param owner: user and group of a terminal; L{None}: as the launcher.
    """
    inner: list[int] = []
    outer: list[int] = []
    listener = None
    try:
        if wanted.kind == TERMINAL:
            master, slave = os.openpty()
            outer.append(master)
            inner.append(slave)
            resize(master, wanted.rows, wanted.columns)
            if owner is not None:
                os.fchown(slave, *owner)
        else:
            for pair in (os.pipe(), os.pipe(), os.pipe()):
                flip = bool(inner)
                inner.append(pair[1 if flip else 0])
                outer.append(pair[0 if flip else 1])
        name = name_of(container)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.fchdir(home)
        if os.path.lexists(name):
            os.unlink(name)
        listener.bind(name)
        os.chmod(name, 0o600)
        listener.listen(MAX_CLIENTS)
        ready, told = os.pipe()
        outer.append(ready)
        inner.append(told)
        pid = os.fork()
        if not pid:
            _relay(name, wanted, home, listener, outer[:-1], told, logs)
        os.close(inner.pop())
        # Before that it bears the mark of a container, and would be taken for one of its strays.
        os.read(ready, 1)
    except OSError as error:
        for descriptor in inner:
            os.close(descriptor)
        raise ConsoleError(f"no console: {error.strerror}") from error
    finally:
        for descriptor in outer:
            os.close(descriptor)
        if listener is not None:
            listener.close()
    if wanted.kind == TERMINAL:
        return Streams(inner[0], os.dup(inner[0]), os.dup(inner[0]), pid)
    return Streams(inner[0], inner[1], inner[2], pid)


def close_console(container: str, pid: int, home: int) -> None:
    """End the process of a console whose container did not come to be."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        os.unlink(name_of(container), dir_fd=home)
    except FileNotFoundError:
        pass


def sweep(home: int, name: str = "") -> None:
    """
    Remove the sockets of consoles whose processes were killed, which nobody listens at.

    @param home: a descriptor of the launcher's directory, which is the current one afterwards.
    @param name: of the only one that is looked at (L{name_of}); empty: all.
    """
    os.fchdir(home)
    for each in [name] if name else os.listdir(home):
        if not each.startswith("console."):
            continue
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.setblocking(False)
            try:
                knocking.connect(each)
            except ConnectionRefusedError:
                os.unlink(each)
            except OSError:  # it is gone, or has too much to do
                pass


def control() -> None:
    """In a new session: make the terminal on descriptor 0 the controlling one. Raises OSError."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; nothing happens for none."""
    if rows and columns:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _relay(
    name: str,
    wanted: Console,
    home: int,
    listener: socket.socket,
    outer: list[int],
    told: int,
    logs: Logs,
) -> NoReturn:
    """In the copy: be the console, and end with it; C{told} is closed when it is ready."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        launcher_marks.forget()  # It is in no container, and outlives its own.
        os.close(told)
        # Whatever else is open belongs to the launcher: its lock and its clients too.
        kept = sorted({0, 1, 2, home, listener.fileno(), *outer, *logs[:3]})
        for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, min(high, 1 << 16))
        relay = Relay(wanted, listener, outer, logs)
        try:
            relay.run()
        finally:
            os.unlink(name, dir_fd=home)
        status = 0
    finally:
        os._exit(status)


class _Client:
    """A connection; C{role} is empty until it has said what it is."""

    __slots__ = ("buffer", "out", "role", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.role = b""
        self.buffer = bytearray()
        self.out = bytearray()


class Relay:
    """
    What comes out goes to logs and listeners, what is put in to the container.

    @ivar outputs: what is read, by descriptor: its kind and its log.
    """

    def __init__(
        self, wanted: Console, listener: socket.socket, outer: list[int], logs: Logs
    ) -> None:
        self._terminal = wanted.kind == TERMINAL
        self._session = wanted.session
        self._listener = listener
        self._input = outer[0]
        self.outputs = (
            {outer[0]: (STDOUT, logs.stdout)}
            if self._terminal
            else {outer[1]: (STDOUT, logs.stdout), outer[2]: (STDERR, logs.stderr)}
        )
        self._logs = logs
        self._looked = time.monotonic()
        self._clients: list[_Client] = []
        self._speaker: _Client | None = None
        self._pending = bytearray()
        self._ending = False
        self._heard = not wanted.session
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, int] = {}
        for descriptor in (listener.fileno(), *outer):
            os.set_blocking(descriptor, False)

    def run(self) -> None:
        """Serve until nothing can come out any more and all of it was heard."""
        began = time.monotonic()
        while self.outputs:
            self._turn(1.0 if not self._heard else None)
            if not self._heard and time.monotonic() > began + UNWANTED:
                return
        left, heard = self._unheard(), time.monotonic()
        while left and time.monotonic() < heard + FLUSH:
            self._turn(1.0)
            if self._unheard() < left:
                left, heard = self._unheard(), time.monotonic()

    def _unheard(self) -> int:
        return sum(len(one.out) for one in self._clients)

    # Waiting.

    def _turn(self, timeout: float | None) -> None:
        wanted = self._wanted()
        for descriptor in [one for one in self._watched if one not in wanted]:
            self._selector.unregister(descriptor)
            del self._watched[descriptor]
        for descriptor, events in wanted.items():
            if descriptor not in self._watched:
                self._selector.register(descriptor, events)
            elif self._watched[descriptor] != events:
                self._selector.modify(descriptor, events)
            self._watched[descriptor] = events
        for key, events in self._selector.select(timeout):
            self._ready(key.fd, events)

    def _wanted(self) -> dict[int, int]:
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        wanted: dict[int, int] = {self._listener.fileno(): read}
        for one in self._clients:
            events = write if one.out else 0
            if one is not self._speaker or len(self._pending) < MAX_FRAME:
                events |= read
            if events:
                wanted[one.socket.fileno()] = events
        if self._heard and not self._is_held_back():
            for descriptor in self.outputs:
                wanted[descriptor] = read
        if self._pending and self._input >= 0:
            wanted[self._input] = wanted.get(self._input, 0) | write
        return wanted

    def _is_held_back(self) -> bool:
        return self._session and any(len(one.out) > MAX_UNHEARD for one in self._clients)

    def _ready(self, descriptor: int, events: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
            return
        if descriptor == self._input and events & selectors.EVENT_WRITE:
            self._put_in()
        if descriptor in self.outputs and events & selectors.EVENT_READ:
            self._take_out(descriptor)
        for one in list(self._clients):
            if one.socket.fileno() != descriptor:
                continue
            if events & selectors.EVENT_WRITE:
                self._say(one)
            if events & selectors.EVENT_READ and one in self._clients:
                self._hear(one)

    # Clients.

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        size = struct.calcsize("iII")
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, user, _ = struct.unpack("iII", peer)
        if user not in (0, os.geteuid()) or len(self._clients) >= MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        self._clients.append(_Client(connection))

    def _hear(self, one: _Client) -> None:
        try:
            data = one.socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(one)
            return
        if not one.role:
            one.role, data = data[:1], data[1:]
            if one.role == b"O":
                self._heard = True
            elif one.role == b"I":
                refused = self._speaker is not None
                if not refused:
                    self._speaker = one
                one.out += b"-" if refused else b"+"
                self._say(one)
            else:
                self._drop(one)
                return
        if one is self._speaker:
            one.buffer += data
            self._understand(one)

    def _understand(self, one: _Client) -> None:
        while len(one.buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(one.buffer)
            if length > MAX_FRAME:
                self._drop(one)
                return
            end = HEADER.size + length
            if len(one.buffer) < end:
                return
            data = bytes(one.buffer[HEADER.size : end])
            del one.buffer[:end]
            if kind == INPUT:
                self._pending += data
                if not data and not self._terminal:
                    self._ending = True
            elif kind == RESIZE and length == WINDOW.size and self._terminal:
                resize(self._input, *WINDOW.unpack(data))
        self._put_in()

    def _say(self, one: _Client) -> None:
        try:
            sent = one.socket.send(one.out)
        except BlockingIOError:
            return
        except OSError:
            self._drop(one)
            return
        del one.out[:sent]

    def _drop(self, one: _Client) -> None:
        self._clients.remove(one)
        descriptor = one.socket.fileno()
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)
        one.socket.close()
        if one is self._speaker:
            self._speaker = None

    # The container.

    def _put_in(self) -> None:
        if self._input < 0:
            self._pending.clear()
            return
        if self._pending:
            try:
                written = os.write(self._input, self._pending)
            except BlockingIOError:
                return
            except OSError:  # nobody reads it any more
                self._ending = not self._terminal
                self._pending.clear()
                written = 0
            del self._pending[:written]
        if self._ending and not self._pending:
            self._forget(self._input)
            self._input = -1

    def _take_out(self, descriptor: int) -> None:
        kind, log = self.outputs[descriptor]
        try:
            data = os.read(descriptor, PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # which is how a terminal says that it is over
                raise
            data = b""
        if not data:
            del self.outputs[descriptor]
            self._forget(descriptor)
            if descriptor == self._input:
                self._input = -1
            return
        self._keep(log, data)
        frame = HEADER.pack(kind, len(data)) + data
        for one in list(self._clients):
            if one.role != b"O":
                continue
            if len(one.out) > MAX_UNHEARD and not self._session:
                self._drop(one)
                continue
            one.out += frame
            self._say(one)

    def _keep(self, log: int, data: bytes) -> None:
        now = time.monotonic()
        if now >= self._looked + LOOK:
            self._looked = now
            self._follow("stdout", self._logs.stdout)
            self._follow("stderr", self._logs.stderr)
        try:
            os.write(log, data)
        except OSError:  # a full disk takes the log, not the console
            pass

    def _follow(self, name: str, log: int) -> None:
        """Write to a new file where the log's name does not lead to it any more."""
        try:
            here = os.fstat(log)
            try:
                there = os.stat(name, dir_fd=self._logs.sandbox, follow_symlinks=False)
            except FileNotFoundError:
                there = None
            if there is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
                fresh = self._logs.reopen(name)
                os.dup2(fresh, log)
                os.close(fresh)
        except OSError:  # what lies there is no log, or the sandbox is gone
            pass

    def _forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None:
            self._selector.unregister(descriptor)
        os.close(descriptor)
