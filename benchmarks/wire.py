"""What the native stream costs: CPU an item, items a second, memory a link.

Run it from a checkout: C{python benchmarks/wire.py}. Figures are of one process that
plays both sides, on one core; protobuf's own share is measured beside them.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol

from mesoskit.messages import scheduler_pb2
from mesoskit.messages.codec import decode, encode
from mesoskit.messages.names import wire_name
from mesoskit.testing.certificates import make
from mesoskit.wire.endpoints import server_endpoint
from mesoskit.wire.link import Hello, Link, Taken
from mesoskit.wire.memory import Pipe, connect
from mesoskit.wire.port import PortFactory
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory, dial
from mesoskit.wire.tls import TLS

MASTER, FRAMEWORK = Hello(role=1), Hello(role=3)
ROOM = StreamSettings(
    high_water=1 << 28, low_water=1 << 27, outbound_cap=1 << 29, maximum_calls=1_000_000
)


def acknowledgement() -> Message:
    """Return a message of usual size: 98 bytes."""
    call = scheduler_pb2.Call(type=scheduler_pb2.Call.ACKNOWLEDGE)
    call.framework_id.value = "b9b5b3c8-0000"
    call.acknowledge.agent_id.value = "b9b5b3c8-S12"
    call.acknowledge.task_id.value = "task-0123456789-0123456789-0123456789"
    call.acknowledge.uuid = bytes(range(16))
    return call


class Count:
    """A receiver that counts, and answers calls."""

    def __init__(self) -> None:
        self.items = 0
        self.link: Any = None

    def connected(self, link: Link) -> None:
        self.link = link

    def received(self, link: Link, message: Message, call: int | None) -> None:
        self.items += 1
        if call is not None:
            link.answer(call, Taken())

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None: ...


def protobuf_alone(message: Message, count: int) -> float:
    """Return the CPU microseconds of encoding and decoding the message, nothing else."""
    name, body = wire_name(message), encode(message)
    begin = time.process_time()
    for _ in range(count):
        encode(message)
        decode(name, body)
    return (time.process_time() - begin) / count * 1e6


def in_process(message: Message, batch: int, count: int, calls: bool = False) -> float:
    """Return the CPU microseconds of an item from one receiver to the other, in memory."""
    a, b = Count(), Count()
    pipe: Pipe = connect(a, b, MASTER, FRAMEWORK, settings=ROOM)
    pipe.pump()
    send = pipe.a.call if calls else pipe.a.send
    begin = time.process_time()
    for _ in range(count // batch):
        for _ in range(batch):
            send(message)
        pipe.pump()
    used = time.process_time() - begin
    assert b.items == count // batch * batch
    return used / b.items * 1e6


class Loop:
    """A master's factory and links to it, over loopback, on a reactor of its own."""

    def __init__(self, links: int = 1, tls: TLS | None = None) -> None:
        self.reactor: Any = EPollReactor()  # type: ignore[no-untyped-call]
        self.served: list[Count] = []

        def receiver() -> Count:
            self.served.append(Count())
            return self.served[-1]

        self.factory = StreamFactory(receiver, MASTER, clock=self.reactor, settings=ROOM)
        ports: list[Any] = []
        port = PortFactory(self.factory, clock=self.reactor, tls=tls and tls.server())
        listening = self.factory if tls is None else port
        server_endpoint(self.reactor, "127.0.0.1:0").listen(listening).addCallback(ports.append)
        self.where = f"127.0.0.1:{ports[0].getHost().port}"
        self.dialled = [Count() for _ in range(links)]
        for count in self.dialled:
            dial(self.where, count, FRAMEWORK, clock=self.reactor, settings=ROOM, tls=tls)
            self.spin(lambda count=count: count.link is not None)

    def spin(self, until: Any) -> None:
        """Turn the reactor as it turns itself: what is to be done at once does not wait."""
        while not until():
            self.reactor.runUntilCurrent()
            soon = self.reactor.timeout()
            self.reactor.doIteration(0.1 if soon is None else min(soon, 0.1))


def loopback(
    message: Message, batch: int, count: int, window: int, tls: TLS | None = None
) -> tuple[float, float]:
    """
    Return CPU microseconds an item, of both sides, and items a second.

    A batch is sent in each turn; no more than C{window} items are under way.
    """
    loop = Loop(tls=tls)
    source, sink = loop.dialled[0], loop.served[0]
    begin, cpu = time.perf_counter(), time.process_time()
    sent = 0
    while sent < count:
        for _ in range(batch):
            source.link.send(message)
        sent += batch
        limit = sent - window
        loop.reactor.iterate(0)
        while sink.items < limit:
            loop.reactor.iterate(0.1)
    loop.spin(lambda: sink.items >= sent)
    return (
        (time.process_time() - cpu) / sent * 1e6,
        sent / (time.perf_counter() - begin),
    )


def certificates(directory: str) -> TLS:
    """Return a certificate for loopback, and trust in it."""
    home = Path(directory)
    make(home)
    return TLS(
        cert_file=home / "server.pem", key_file=home / "server-key.pem", ca_file=home / "ca.pem"
    )


def handshakes(tls: TLS, count: int) -> float:
    """Return the CPU milliseconds of both sides until a link over TLS is open."""
    cpu = time.process_time()
    Loop(count, tls)
    return (time.process_time() - cpu) / count * 1e3


def round_trips(message: Message, count: int, tls: TLS | None = None) -> float:
    """Return the microseconds of a call and its answer over loopback, one at a time."""
    loop = Loop(tls=tls)
    source = loop.dialled[0]
    begin = time.perf_counter()
    for _ in range(count):
        done: list[object] = []
        source.link.call(message).addCallback(done.append)
        source.link.flush()
        loop.spin(lambda done=done: done)
    return (time.perf_counter() - begin) / count * 1e6


def memory(links: int) -> tuple[float, float, float]:
    """
    Return bytes a link on the listening side, bytes of a bare connection, heartbeat CPU.

    The peers are plain sockets that only said hello, so that they do not count; the
    last figure is the CPU in percent that heartbeats of so many links would take.
    """
    hello = bytes.fromhex("00000009 1207 0801 1003 288827")
    loop = Loop()
    native, peers = grown_by(loop, loop.where, hello, links)
    assert len(loop.served) == links + 1
    begin = time.process_time()
    for protocol in loop.factory.protocols:
        # One of two visits finds that nothing was sent since the one before.
        protocol.session.visit()
        protocol.session.visit()
    loop.reactor.iterate(0)
    beats = (time.process_time() - begin) / loop.factory.settings.heartbeat * 100
    ports: list[Any] = []
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    server_endpoint(loop.reactor, "127.0.0.1:0").listen(factory).addCallback(ports.append)
    where = f"127.0.0.1:{ports[0].getHost().port}"
    bare, others = grown_by(loop, where, hello, links)
    for peer in peers + others:
        peer.close()
    return native, bare, beats


def grown_by(loop: Loop, where: str, hello: bytes, links: int) -> tuple[float, list[socket.socket]]:
    """Connect so many sockets that say hello; returns the Python memory that each took here."""
    host, port = where.split(":")
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peers = []
    for _ in range(links):
        peers.append(socket.create_connection((host, int(port))))
        peers[-1].sendall(hello)
        loop.reactor.iterate(0)
    for _ in range(20):
        loop.reactor.iterate(0.01)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    # The sockets of the peers, which live here too, are measured as such.
    alone = tracemalloc.get_traced_memory()[0]
    spare = [socket.socket() for _ in range(100)]
    alone = (tracemalloc.get_traced_memory()[0] - alone) / len(spare)  # type: ignore[assignment]
    for each in spare:
        each.close()
    tracemalloc.stop()
    return (after - before) / links - alone, peers


def main() -> None:
    """Measure and print."""
    scale = float(os.environ.get("BENCH_SCALE", "1"))
    message = acknowledgement()
    count = int(50_000 * scale)
    base = protobuf_alone(message, count)
    print(f"message of {len(encode(message))} bytes; Python {sys.version.split()[0]}")
    print(f"protobuf alone, both ways: {base:.2f} µs an item")
    for batch in (1, 10, 100):
        cost = in_process(message, batch, count)
        print(
            f"in process, batches of {batch}: {cost:.2f} µs an item both ways"
            f" (over protobuf: {cost - base:.2f}), {1e6 / cost:,.0f} items/s"
        )
    cost = in_process(message, 100, count, calls=True)
    print(f"in process, calls and their answers, batches of 100: {cost:.2f} µs a call")
    for batch in (1, 10, 100):
        window = 1 if batch == 1 else 10 * batch
        cost, rate = loopback(message, batch, count // (10 if batch == 1 else 1), window)
        print(
            f"loopback TCP, batches of {batch}: {cost:.2f} µs CPU an item both sides,"
            f" {rate:,.0f} items/s"
        )
    print(
        f"loopback TCP, one call after the other: {round_trips(message, 2000):.0f} µs a round trip"
    )
    with tempfile.TemporaryDirectory() as directory:
        tls = certificates(directory)
        handshakes(tls, 1)
        for batch in (1, 100):
            few = count // 10 if batch == 1 else count
            window = 1 if batch == 1 else 10 * batch
            cost, rate = loopback(message, batch, few, window, tls)
            print(
                f"loopback TLS, batches of {batch}: {cost:.2f} µs CPU an item both sides,"
                f" {rate:,.0f} items/s"
            )
        print(
            f"loopback TLS, one call after the other: {round_trips(message, 2000, tls):.0f} µs a"
            f" round trip; a handshake: {handshakes(tls, 200):.1f} ms CPU both sides"
        )
    links = int(1000 * scale)
    native, bare, beats = memory(links)
    print(
        f"{links} links: {native:,.0f} bytes a link, of which {bare:,.0f} are Twisted's bare"
        f" connection; heartbeats take {beats:.2f} % of a core"
    )


if __name__ == "__main__":
    main()
