"""
Native links without Twisted: as cheap as Python can play many peers, so that a
measurement measures the daemon at the other end.

One epoll loop, blocking nobody: connect, say hello, and give what comes to a function.
"""

import selectors
import socket
from collections.abc import Callable
from time import perf_counter
from typing import Any

from google.protobuf.message import Message

from mesoskit.messages.codec import decode, encode
from mesoskit.messages.names import wire_name
from mesoskit.messages.stream_pb2 import Frame, Hello, Item, Role
from mesoskit.wire import framing


def hello(role: Role) -> bytes:
    """Return the hello of a peer that promises a frame a minute."""
    said = Hello(version=1, role=role, software="bench", heartbeat_ms=60_000)
    return framing.encode(Frame(hello=said).SerializeToString())


def packed(*messages: Message) -> bytes:
    """Return a frame that carries these messages."""
    items = [Item(name=wire_name(message), body=encode(message)) for message in messages]
    return framing.encode(Frame(items=items).SerializeToString())


class RawLink:
    """
    One connection.

    @ivar told: called with the link once the other side has said hello.
    @ivar heard: called with the link and the payload of each frame that came.
    """

    __slots__ = ("_decoder", "_greeted", "_out", "heard", "mind", "socket", "told")

    def __init__(
        self,
        told: Callable[["RawLink"], None],
        heard: Callable[["RawLink", bytes], None],
        mind: Any = None,
    ) -> None:
        self.told, self.heard, self.mind = told, heard, mind
        self.socket = socket.socket()
        self._decoder = framing.Decoder(framing.LONGEST)
        self._greeted = False
        self._out = bytearray()

    def send(self, data: bytes) -> None:
        """Send, and keep what the kernel does not take for the next time."""
        if not self._out:
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            data = data[sent:]
        self._out += data

    def pump(self) -> None:
        """Send what was kept."""
        if self._out:
            data, self._out = bytes(self._out), bytearray()
            self.send(data)

    def read(self) -> None:
        """Read what has come, and say so."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise SystemExit("the daemon closed a link")
        for payload in self._decoder.feed(data):
            if not self._greeted:
                self._greeted = True
                self.told(self)
            elif payload:
                self.heard(self, payload)


class RawLoop:
    """Many raw links, and the loop that turns them."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._selector = selectors.EpollSelector()
        self._links: list[RawLink] = []
        self.running = True

    def dial(self, link: RawLink, first: bytes) -> None:
        """Connect (at once: the other end is on this machine) and send the hello."""
        link.socket.connect(self._address)
        link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.socket.setblocking(False)
        link.send(first)
        self._selector.register(link.socket, selectors.EVENT_READ, link)
        self._links.append(link)

    def run(self, seconds: float) -> None:
        """Turn until C{running} is false; end the program where that takes too long."""
        end = perf_counter() + seconds
        while self.running:
            self._turn(0.5)
            if perf_counter() > end:
                raise SystemExit(f"not done within {seconds:g} s")

    def turn_for(self, seconds: float) -> None:
        """Turn for so long."""
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0:
            self._turn(left)

    def _turn(self, patience: float) -> None:
        for key, _ in self._selector.select(patience):
            link = key.data
            link.read()
            # What the kernel did not take goes with what is said next: here it always follows.
            link.pump()

    def close(self) -> None:
        """Close all links."""
        for link in self._links:
            link.socket.close()
        self._selector.close()


def messages(payload: bytes) -> list[Message]:
    """Return the messages of a frame."""
    return [decode(item.name, item.body) for item in Frame.FromString(payload).items]
