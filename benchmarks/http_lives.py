"""Whole task lives a second through a real master whose framework comes over v1 HTTP.

As C{lives.py}, but the framework subscribes with C{POST /api/v1/scheduler} and sends its calls
on a second connection, pipelined; in protobuf and in JSON. The agents are native ones.

    python benchmarks/http_lives.py [--agents 100] [--lives 10000] [--runs 3]

The first two rows have a client that does next to nothing, so that the master's is the most of
what is measured. C{driver} is the client that C{Framework("http://...")} has. C{Agent} sends its
calls with C{twisted.web.client.Agent}, one after the other, for it cannot do otherwise; it is so
slow that it is given a twentieth of the lives, and of those in flight.
"""

import argparse
import statistics
from collections import deque
from collections.abc import Callable
from functools import partial
from io import BytesIO
from itertools import product
from time import perf_counter
from typing import Any

import orjson
from daemons import in_child, table
from google.protobuf.message import Message
from lives import Framework, measure
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

from mesoskit.messages.codec import to_json
from mesoskit.messages.scheduler_pb2 import Event
from mesoskit.wire.recordio import Decoder
from mesoskit.wire.v1_client import dial

PROTOBUF, JSON = "application/x-protobuf", "application/json"
IN_FLIGHT = 4_000
ONE_BY_ONE = "protobuf, Agent"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\n"


class Calls(Protocol):
    """The connection for calls: every answer must be 202."""

    def __init__(self) -> None:
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        *answers, self._rest = (self._rest + data).split(b"\r\n\r\n")
        for answer in answers:
            if not answer.startswith(ACCEPTED):
                raise RuntimeError(answer)


class Stream(Protocol):
    """The connection for events: a head, then a record a chunk."""

    def __init__(self, link: "HttpLink", heard: Callable[[bytes], None]) -> None:
        self._link = link
        self._heard = heard
        self._held = b""
        self._records: Decoder | None = None

    def dataReceived(self, data: bytes) -> None:
        data = self._held + data
        if self._records is None:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found or b" 200 " not in head:
                raise RuntimeError(head)
            lines = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            self._link.stream_id = {k.lower(): v for k, v in lines}[b"mesos-stream-id"].decode()
            self._records = Decoder()
        position = 0
        while True:
            end = data.find(b"\r\n", position)
            if end < 0:
                break
            size = int(data[position:end], 16)
            if end + size + 4 > len(data):
                break
            for record in self._records.feed(data[end + 2 : end + 2 + size]):
                self._heard(record)
            position = end + size + 4
        self._held = data[position:]


class HttpLink:
    """Both connections: what the framework takes for its link."""

    def __init__(self, framework: Framework, media: str, address: str) -> None:
        self.stream_id = ""
        self._framework = framework
        self._media = media
        self._address = address
        self._heard = 0
        self.calls = Calls()
        self.stream = Stream(self, self._event if media == PROTOBUF else self._json_event)

    def connect(self, clock: Any) -> Deferred[Any]:
        """Connect, and subscribe."""
        host, port = self._address.split(":")
        both: list[Deferred[Any]] = [
            connectProtocol(HostnameEndpoint(clock, host, int(port)), each)  # type: ignore[no-untyped-call]
            for each in (self.stream, self.calls)
        ]
        link: Any = self

        def connected(_: object) -> None:
            self._framework.connected(link)

        return gatherResults(both).addCallback(connected)

    def send(self, call: Message) -> None:
        """POST a call."""
        self.post(call.SerializeToString() if self._media == PROTOBUF else to_json(call))

    def post(self, body: bytes) -> None:
        """POST a body, on the stream's connection as long as there is no stream."""
        stream_id = f"Mesos-Stream-Id: {self.stream_id}\r\n" if self.stream_id else ""
        head = (
            f"POST /api/v1/scheduler HTTP/1.1\r\nHost: {self._address}\r\n"
            f"Content-Type: {self._media}\r\nAccept: {self._media}\r\n{stream_id}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        transport: Any = (self.calls if self.stream_id else self.stream).transport
        transport.write(head.encode() + body)

    def _event(self, record: bytes) -> None:
        self._framework.received(self, Event.FromString(record), None)  # type: ignore[arg-type]

    def _json_event(self, record: bytes) -> None:
        self._framework.received(self, orjson.loads(record), None)  # type: ignore[arg-type]


class JsonFramework(Framework):
    """The same scheduler on dicts, as one that was written for JSON."""

    def received(self, link: Any, message: Any, call: int | None) -> None:
        kind = message["type"]
        if kind == "UPDATE":
            self._json_update(link, message["update"]["status"])
        elif kind == "OFFERS":
            for offer in message["offers"]["offers"]:
                self._json_offer(link, offer)
        elif kind == "SUBSCRIBED":
            self._json_id = message["subscribed"]["framework_id"]
        elif kind == "ERROR":
            raise RuntimeError(message["error"]["message"])

    def _json_offer(self, link: HttpLink, offer: Any) -> None:
        cpus = next(int(r["scalar"]["value"]) for r in offer["resources"] if r["name"] == "cpus")
        flying = self._launched - self._finished
        count = max(0, min(cpus, self._in_flight - flying, self._lives - self._launched))
        now = perf_counter()
        tasks = []
        for _ in range(count):
            self._launched += 1
            name = f"task-{self._launched}"
            self._started[name] = now
            tasks.append(
                {
                    "name": name,
                    "task_id": {"value": name},
                    "agent_id": offer["agent_id"],
                    "command": {"value": "true"},
                    "resources": [
                        {"name": key, "type": "SCALAR", "scalar": {"value": value}}
                        for key, value in (("cpus", 1.0), ("mem", 32.0))
                    ],
                }
            )
        kind = "accept" if tasks else "decline"
        said: dict[str, Any] = {"offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0}}
        if tasks:
            said["operations"] = [{"type": "LAUNCH", "launch": {"task_infos": tasks}}]
        body = {"type": kind.upper(), "framework_id": self._json_id, kind: said}
        link.post(orjson.dumps(body))

    def _json_update(self, link: HttpLink, status: Any) -> None:
        name = status["task_id"]["value"]
        if status["state"] == "TASK_RUNNING":
            self.waits.append(perf_counter() - self._started.pop(name))
        elif status["state"] == "TASK_FINISHED":
            self._finished += 1
        else:
            raise RuntimeError(f"{name}: {status}")
        said = {key: status[key] for key in ("agent_id", "task_id", "uuid")}
        link.post(
            orjson.dumps(
                {"type": "ACKNOWLEDGE", "framework_id": self._json_id, "acknowledge": said}
            )
        )
        self.count()


class AgentLink(HttpLink):
    """The same, but that calls wait for each other's answers."""

    def connect(self, clock: Any) -> Deferred[Any]:
        """Connect, and subscribe."""
        from twisted.web.client import Agent, HTTPConnectionPool

        self._queue: deque[bytes] = deque()
        self._busy = False
        self._agent = Agent(clock, pool=HTTPConnectionPool(clock))  # type: ignore[no-untyped-call]
        return super().connect(clock)

    def post(self, body: bytes) -> None:
        """POST a body as soon as the one before is answered."""
        if not self.stream_id:
            super().post(body)
            return
        self._queue.append(body)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        from twisted.web.client import FileBodyProducer, readBody
        from twisted.web.http_headers import Headers

        self._busy = bool(self._queue)
        if self._busy:
            headers = {"Content-Type": [PROTOBUF], "Mesos-Stream-Id": [self.stream_id]}
            self._agent.request(
                b"POST",
                f"http://{self._address}/api/v1/scheduler".encode(),
                Headers(headers),
                FileBodyProducer(BytesIO(self._queue.popleft())),  # type: ignore[no-untyped-call]
            ).addCallback(readBody).addCallback(lambda _: self._next())


class DriverFramework(Framework):
    """The same scheduler on the driver's link, which wants to know when it is subscribed."""

    def connected(self, link: Any) -> None:
        """Subscribe."""
        subscribing: Any = _Subscribing(link)
        super().connected(subscribing)


class _Subscribing:
    def __init__(self, link: Any) -> None:
        self.send = link.call


def join_by_agent(clock: Any, address: str, framework: Framework) -> Deferred[Any]:
    """Connect a framework whose calls wait for each other."""
    return AgentLink(framework, PROTOBUF, address).connect(clock)


def join_by_driver(media: str, clock: Any, address: str, framework: Framework) -> Deferred[Any]:
    """Connect a framework with the driver's client."""
    return dial(f"http://{address}", framework, reactor=clock, media=media)


def join(media: str, clock: Any, address: str, framework: Framework) -> Deferred[Any]:
    """Connect a framework over HTTP."""
    return HttpLink(framework, media, address).connect(clock)


KINDS = {
    "protobuf": partial(measure, join=partial(join, PROTOBUF)),
    "JSON": partial(measure, make=JsonFramework, join=partial(join, JSON)),
    "protobuf, driver": partial(
        measure, make=DriverFramework, join=partial(join_by_driver, PROTOBUF)
    ),
    "JSON, driver": partial(measure, make=DriverFramework, join=partial(join_by_driver, JSON)),
    ONE_BY_ONE: partial(measure, join=join_by_agent),
}


def main() -> None:
    """Run all rounds, one after the other, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[100])
    parser.add_argument("--lives", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    chosen = parser.parse_args()
    rows = []
    for agents, kind in product(chosen.agents, chosen.kinds):
        part = 20 if kind == ONE_BY_ONE else 1
        lives = chosen.lives // part
        measured = partial(KINDS[kind], agents, lives, IN_FLIGHT // part)
        results = [in_child(measured) for _ in range(chosen.runs)]
        median = {key: statistics.median(r[key] for r in results) for key in results[0]}
        rows.append(
            [
                kind,
                str(agents),
                f"{lives:,}",
                f"{median['rate']:,.0f}",
                f"{max(r['rate'] for r in results):,.0f}",
                f"{median['p50'] * 1000:.1f}",
                f"{median['p99'] * 1000:.1f}",
                f"{median['master']:.3f}",
                f"{median['own']:.3f}",
            ]
        )
    table(
        f"Whole task lives over HTTP, median of {chosen.runs} runs",
        [
            "calls in",
            "agents",
            "lives",
            "lives/s",
            "best",
            "RUNNING p50 ms",
            "p99 ms",
            "master CPU s/1000",
            "harness CPU s/1000",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
