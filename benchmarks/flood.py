"""Offers that go on arriving while another framework floods the master.

A quiet framework declines all it is offered and asks a question after each; meanwhile others, of
another principal, send calls as fast as the master takes them: over native links and over v1
HTTP, with C{--rate_limits} and without. Agents and frameworks are played by processes of their own,
on raw sockets.

    python benchmarks/flood.py [--agents 100] [--links 1 10] [--seconds 3] [--runs 1]
"""

import argparse
import json
import os
import selectors
import signal
import socket
import statistics
from functools import partial
from time import perf_counter

from agents import registration
from daemons import Daemon, in_child, table
from offers import subscription
from rawlinks import RawLink, RawLoop, hello, messages, packed

from mesoskit.messages import internal_pb2, scheduler_pb2
from mesoskit.messages.codec import encode
from mesoskit.messages.names import wire_name
from mesoskit.messages.stream_pb2 import Frame, Item, Role
from mesoskit.wire import framing

LIMITS = {"limits": [{"principal": "loud", "qps": 100}]}
FRAME = 200
"""Calls of a flood that share a frame."""

Call = scheduler_pb2.Call
_PING = packed(internal_pb2.PongSlaveMessage())
_REGISTERED = internal_pb2.SlaveRegisteredMessage.DESCRIPTOR.full_name.encode()


def loud_subscription(number: int) -> Call:
    """Return the call with which one of the flood subscribes; it wants no offers."""
    call = Call(type=Call.SUBSCRIBE)
    info = call.subscribe.framework_info
    info.user, info.name, info.principal = "nobody", f"loud-{number}", "loud"
    info.roles.append(f"loud-{number}")
    info.capabilities.add(type=info.Capability.MULTI_ROLE)
    call.subscribe.suppressed_roles.append(f"loud-{number}")
    return call


def nonsense(framework_id: str) -> Call:
    """Return what the flood says: no to an offer that nobody made."""
    call = Call(type=Call.DECLINE)
    call.framework_id.value = framework_id
    call.decline.offer_ids.add().value = "no-such-offer"
    return call


def native_flood(port: int, number: int) -> tuple[socket.socket, bytes]:
    """Subscribe over a native link; returns it, and what to send without end."""
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(hello(Role.FRAMEWORK) + packed(loud_subscription(number)))
    decoder = framing.Decoder()
    while True:
        for payload in decoder.feed(link.recv(65536)):
            for event in messages(payload):
                if isinstance(event, scheduler_pb2.Event) and event.HasField("subscribed"):
                    call = nonsense(event.subscribed.framework_id.value)
                    item = Item(name=wire_name(call), body=encode(call))
                    frame = Frame(items=[item] * FRAME)
                    return link, framing.encode(frame.SerializeToString())


def http_flood(port: int, number: int) -> tuple[socket.socket, bytes]:
    """Subscribe over HTTP; returns the connection for calls, and what to send without end."""

    def post(body: bytes, more: str = "") -> bytes:
        return (
            "POST /api/v1/scheduler HTTP/1.1\r\nHost: master\r\nAccept: application/x-protobuf\r\n"
            f"Content-Type: application/x-protobuf\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(post(encode(loud_subscription(number))))
    heard = b""
    while b"SUBSCRIBED" not in heard and b"loud" not in heard and len(heard) < 200:
        heard += stream.recv(65536)
    head, _, rest = heard.partition(b"\r\n\r\n")
    while b"\n" not in rest.partition(b"\r\n")[2]:
        rest += stream.recv(65536)
    record = rest.partition(b"\r\n")[2]
    length, _, data = record.partition(b"\n")
    while len(data) < int(length):
        data += stream.recv(65536)
    event = scheduler_pb2.Event.FromString(data[: int(length)])
    stream_id = next(line for line in head.split(b"\r\n") if b"stream-id" in line.lower()).decode()
    calls = socket.create_connection(("127.0.0.1", port))
    KEPT.append(stream)
    call = encode(nonsense(event.subscribed.framework_id.value))
    return calls, post(call, f"{stream_id}\r\n") * FRAME


KEPT: list[socket.socket] = []


def flood(port: int, links: int, http: bool) -> None:
    """Send as fast as it is taken, until somebody ends the process."""
    selector = selectors.EpollSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    for number in range(links):
        link, data = (http_flood if http else native_flood)(port, number)
        link.setblocking(False)
        selector.register(link, both, [data, 0])
    while True:
        for key, events in selector.select():
            some, (data, sent) = key.fileobj, key.data
            assert isinstance(some, socket.socket)
            if events & selectors.EVENT_READ and not some.recv(1 << 18):
                raise SystemExit("the master closed a link of the flood")
            if events & selectors.EVENT_WRITE:
                sent += some.send(memoryview(data)[sent:])
                key.data[1] = 0 if sent == len(data) else sent


class Quiet:
    """The framework that wants its offers."""

    def __init__(self, loop: RawLoop) -> None:
        self.loop = loop
        self.offers = self.number = 0
        self.framework_id = ""
        self.asked: dict[int, float] = {}
        self.waits: list[float] = []

    def subscribe(self, link: RawLink) -> None:
        """Subscribe."""
        link.send(subscription(0))

    def heard(self, link: RawLink, payload: bytes) -> None:
        """Decline offers at once, and ask how long that takes."""
        for item in Frame.FromString(payload).items:
            if item.answers:
                self.waits.append(perf_counter() - self.asked.pop(item.answers))
                continue
            event = scheduler_pb2.Event.FromString(item.body)
            if event.HasField("subscribed"):
                self.framework_id = event.subscribed.framework_id.value
                self.loop.running = False
            elif event.HasField("offers"):
                self.offers += len(event.offers.offers)
                self._decline(link, event)

    def _decline(self, link: RawLink, event: scheduler_pb2.Event) -> None:
        call = Call(type=Call.DECLINE)
        call.framework_id.value = self.framework_id
        call.decline.offer_ids.extend([offer.id for offer in event.offers.offers])
        call.decline.filters.refuse_seconds = 0
        self.number += 1
        self.asked[self.number] = perf_counter()
        item = Item(name=wire_name(call), body=encode(call), call=self.number)
        link.send(framing.encode(Frame(items=[item]).SerializeToString()))


def measure(agents: int, links: int, http: bool, limited: bool, seconds: float) -> dict[str, float]:
    """Start a master, and measure one round with it."""
    flags = ["--registry=in_memory", "--allocation_interval=20ms"]
    if limited:
        flags.append(f"--rate_limits={json.dumps(LIMITS)}")
    registered = 0
    with Daemon("mesos-master", *flags) as master:
        loop = RawLoop(master.port)

        def as_agent(link: RawLink, payload: bytes) -> None:
            nonlocal registered
            if _REGISTERED in payload:
                registered += 1
                loop.running = registered < agents
            elif payload:
                link.send(_PING)

        for number in range(agents):
            loop.dial(
                RawLink(lambda link: link.send(link.mind), as_agent, registration(number)),
                hello(Role.AGENT),
            )
        loop.run(60)
        loop.running = True
        quiet = Quiet(loop)
        loop.dial(RawLink(quiet.subscribe, quiet.heard), hello(Role.FRAMEWORK))
        loop.run(60)
        child = _in_background(partial(flood, master.port, links, http)) if links else 0
        try:
            loop.turn_for(1.0)
            before, rss = quiet.offers, master.rss()
            quiet.waits.clear()
            begun = perf_counter()
            loop.turn_for(seconds)
            passed = perf_counter() - begun
            waits = sorted(quiet.waits) or [seconds]
            return {
                "rate": (quiet.offers - before) / passed,
                "p50": statistics.median(waits),
                "p99": waits[int(len(waits) * 0.99)],
                "worst": waits[-1],
                "grown": master.rss() - rss,
            }
        finally:
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            loop.close()


def _in_background(run: "partial[None]") -> int:
    child = os.fork()
    if not child:
        try:
            run()
        finally:
            os._exit(1)
    return child


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--links", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--runs", type=int, default=1)
    chosen = parser.parse_args()
    rounds = [("none", 0, False, False)]
    for http in (False, True):
        for links in chosen.links:
            for limited in (False, True):
                rounds.append(("HTTP" if http else "native", links, http, limited))
    rows = []
    for name, links, http, limited in rounds:
        one = partial(measure, chosen.agents, links, http, limited, chosen.seconds)
        results = [in_child(one) for _ in range(chosen.runs)]
        median = {key: statistics.median(r[key] for r in results) for key in results[0]}
        rows.append(
            [
                f"{name}, {links}" if links else name,
                "100 calls/s" if limited else "none",
                f"{median['rate']:,.0f}",
                *(f"{median[key] * 1e3:.1f}" for key in ("p50", "p99", "worst")),
                f"{median['grown'] / 1e6:.1f}",
            ]
        )
    table(
        f"Offers to a quiet framework, {chosen.agents:,} agents, median of {chosen.runs} runs",
        ["flood, links", "limit", "offers/s", "answer ms p50", "p99", "worst", "grown MB"],
        rows,
    )


if __name__ == "__main__":
    main()
