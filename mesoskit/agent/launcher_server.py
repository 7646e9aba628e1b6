"""The launcher's door: a UNIX socket, a few clients, lines both ways, each bounded.

The standard library alone, one thread.
"""

import json
import os
import selectors
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_LINE = 4 << 20
"""Bytes of the longest request: what execve(2) takes is half of it."""
MAX_UNREAD = 64 << 20
"""Bytes of answers that a client may leave unread; it may come back for what it missed."""
MAX_CLIENTS = 16
MAX_QUEUED = 1024
"""Requests of a client that are read before they are carried out."""
BATCH = 32
"""Requests carried out before those that ended are looked after and answers leave."""


class Client:
    """
    A connection from an agent.

    @ivar hello: whether it wants to hear of what nobody asked for.
    """

    __slots__ = ("buffer", "hello", "out", "queue", "socket", "writing")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.buffer = bytearray()
        self.queue: deque[bytes] = deque()
        self.out = bytearray()
        self.hello = False
        self.writing = False

    def say(self, *words: Any) -> None:
        """Queue a line; it leaves at the end of the turn."""
        self.out += json.dumps(words, separators=(",", ":")).encode() + b"\n"


class Server:
    """
    Accepts, reads, writes; what a request means is C{carry_out}'s business.

    @ivar home: a descriptor of the directory in which the socket is.
    @ivar selector: for others to wait on descriptors too; the data of a key is called.
    """

    def __init__(self, home: int, carry_out: Callable[[Client, bytes], None]) -> None:
        self.home = home
        self.selector = selectors.DefaultSelector()
        self.clients: set[Client] = set()
        self._carry_out = carry_out
        self._listener: socket.socket | None = None
        self._swept = False
        self._asleep, self._waker = socket.socketpair()

    def start(self) -> None:
        """Listen, and wake for signals: SIGCHLD, and SIGHUP where the socket's file is gone."""
        for end in (self._asleep, self._waker):
            end.setblocking(False)
        self.selector.register(self._asleep, selectors.EVENT_READ, self._woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, self._hung_up)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._listen()

    def turn(self, timeout: float | None) -> None:
        """Wait for something to happen, then read and carry out some of what was asked for."""
        waiting = any(client.queue for client in self.clients)
        for key, _ in self.selector.select(0 if waiting else timeout):
            key.data()
        if self._swept:
            self._swept = False
            self._listen()
        for client in list(self.clients):
            for _ in range(min(BATCH, len(client.queue))):
                if not client.queue:  # it was dropped
                    break
                self._carry_out(client, client.queue.popleft())

    def announce(self, *words: Any) -> None:
        """Say something to everybody who wants to hear it."""
        for client in self.clients:
            if client.hello:
                client.say(*words)

    def flush(self) -> None:
        """Write what was said; what does not fit is written when the client reads on."""
        for client in list(self.clients):
            self._flush(client)

    def _hung_up(self, *_: object) -> None:
        self._swept = True

    def _woken(self) -> None:
        try:
            while self._asleep.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _listen(self) -> None:
        if self._listener is not None:
            self.selector.unregister(self._listener)
            self._listener.close()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Relative to where we are: the whole path may be longer than an address can be.
        os.fchdir(self.home)
        try:
            os.unlink("socket")
        except FileNotFoundError:
            pass
        self._listener.bind("socket")
        os.chmod("socket", 0o600)
        self._listener.listen(MAX_CLIENTS)
        self._listener.setblocking(False)
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        size = struct.calcsize("iII")
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _, user, _ = struct.unpack("iII", peer)
        if user not in (0, os.geteuid()) or len(self.clients) >= MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        client = Client(connection)
        self.clients.add(client)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._ready(client))

    def _ready(self, client: Client) -> None:
        """Read what has come. (What is left to be written is tried after every turn.)"""
        if client not in self.clients or len(client.queue) >= MAX_QUEUED:
            return
        try:
            data = client.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(client.buffer) + lines[0]
            client.queue.extend(lines)
            client.buffer = bytearray(rest)
        else:
            client.buffer += rest
        if len(client.buffer) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            client.say(0, "error", f"a request of more than {MAX_LINE} bytes")
            self._flush(client)
            self._drop(client)

    def _flush(self, client: Client) -> None:
        if client.out:
            try:
                sent = client.socket.send(client.out)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(client)
                return
            del client.out[:sent]
        if len(client.out) > MAX_UNREAD:
            self._drop(client)
        elif client.writing is not bool(client.out):
            client.writing = bool(client.out)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.writing else 0)
            self.selector.modify(client.socket, events, lambda: self._ready(client))

    def _drop(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self.selector.unregister(client.socket)
            client.socket.close()
            client.queue.clear()
