"""Throws damaged, random and wrong requests at a master's HTTP: C{fuzz_http.py [requests [seed]]}.

Every exception that is logged ends the run; so does an answer that is none, or a connection
that holds more than its limits allow. Frameworks subscribe, launch nothing, fail over and are
torn down meanwhile. The memory of the process is told before and after.
C{tests/master/test_http_fuzz.py} is the short form.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from typing import Any

import psutil
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.messages.codec import from_dict
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.wire.port import PortSettings

JSON, PROTOBUF = "application/json", "application/x-protobuf"
TYPES = [name for name in Call.Type.keys() if name != "SUBSCRIBE"]  # noqa: SIM118
PATHS = ("/api/v1/scheduler", "/master/api/v1/scheduler", "/api/v1/scheduler/")
HEADERS = (
    "Connection: close",
    "Connection: keep-alive, x",
    "Expect: 100-continue",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Length: 5",
    "Accept: text/html",
    "Accept: */*;q=0",
    "X:" + "y" * 3000,
    " folded: x",
    "no colon",
    "Mesos-Stream-Id: another",
    "Content-Type: text/plain",
    "A\x00B: c",
    "Host: \xff\xfe",
    "Accept-Encoding: \xff, gzip",
    "Range: bytes=\xff",
    "Range: bytes=5-2,1-99999999999999999999",
    "Authorization: Basic \xff",
    "Cookie: \xff",
)
BODY_LIMIT = 256 * 1024
SETTINGS = PortSettings(body_limit=BODY_LIMIT)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Fuzz:
    """Makes requests, most of them wrong in one place."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        # What streams have told: (stream id, framework id).
        self.known: list[tuple[str, str]] = []
        self.meant = ("", "nobody")

    def call(self) -> dict[str, Any]:
        """Return a call as JSON has it, to a known framework now and then."""
        dice = self.dice
        self.meant = dice.choice(self.known) if self.known else ("", "nobody")
        framework_id = self.meant[1]
        if dice.random() < 0.1:
            info: dict[str, Any] = {"user": "u", "name": "n" * dice.choice((1, 1, 3000))}
            if dice.random() < 0.3:
                info["id"] = {"value": framework_id}
            call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
            if "id" in info:
                call["framework_id"] = info["id"]
            return call
        name = dice.choice(TYPES)
        ids = {key: {"value": dice.choice("abc")} for key in ("task_id", "agent_id", "executor_id")}
        said: dict[str, Any] = {
            **ids,
            "uuid": dice.choice(("AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", "")),
            "offer_ids": [{"value": "x"}] * dice.choice((0, 1, 50)),
            "tasks": [],
            "operations": [],
            "data": "AAAA",
        }
        return {"type": name, "framework_id": {"value": framework_id}, name.lower(): said}

    def body(self) -> tuple[str, bytes]:
        """Return a type and a body."""
        dice, call = self.dice, self.call()
        kind = dice.choice(("sound", "sound", "sound", "flipped", "cut", "wrong", "deep", "noise"))
        self.kinds[kind] += 1
        media = dice.choice((JSON, PROTOBUF))
        if kind == "wrong":
            call[dice.choice(list(call))] = dice.choice((7, None, [], "x", {"value": 1}, 1e400))
        data = json.dumps(call).encode()
        if media == PROTOBUF and kind != "wrong":
            try:
                data = from_dict(Call, call).SerializePartialToString()
            except ValueError:
                media = JSON
        if kind == "flipped" and data:
            at = dice.randrange(len(data))
            data = data[:at] + dice.randbytes(1) + data[at + 1 :]
        elif kind == "cut":
            data = data[: dice.randrange(len(data) + 1)]
        elif kind == "deep":
            depth = dice.choice((50, 150, 2000))
            data = b'{"subscribe":' * depth + b"1" + b"}" * depth
        elif kind == "noise":
            data = dice.randbytes(dice.choice((0, 10, 5000, BODY_LIMIT + 10)))
        return media, data

    def request(self) -> bytes:
        """Return a request."""
        dice = self.dice
        media, body = self.body()
        stream_id = self.meant[0] if dice.random() < 0.9 else ""
        method = "POST" if dice.random() < 0.97 else dice.choice(("GET", "HEAD", "PUT", "\x01"))
        path = dice.choice(PATHS) if dice.random() < 0.99 else "/api/v1/../x%zz"
        lines = [
            f"{method} {path} HTTP/1.{1 if dice.random() < 0.99 else 0}",
            "Host: x",
            f"Content-Type: {media}",
            f"Accept: {dice.choice((JSON, PROTOBUF))}",
            f"Content-Length: {len(body)}",
        ]
        if stream_id and b"SUBSCRIBE" not in body:
            lines.append(f"Mesos-Stream-Id: {stream_id}")
        if dice.random() < 0.1:
            self.kinds["header"] += 1
            lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(HEADERS))
        data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        if dice.random() < 0.03:
            self.kinds["flipped head"] += 1
            at = dice.randrange(len(data))
            data = data[:at] + dice.randbytes(1) + data[at + 1 :]
        return data


class Transport(StringTransport):
    """A transport that may be paused and resumed at its end, as real ones may."""

    def _checkState(self) -> None: ...

    def unregisterProducer(self) -> None:
        self.producer = None


class Target:
    """
    A master, and what came of the requests to it.

    @ivar answers: how often each status was answered.
    @ivar failures: what was logged as one.
    """

    def __init__(self, fuzz: Fuzz) -> None:
        self.clock = Clock()
        self.fuzz = fuzz
        self.answers: Counter[int] = Counter()
        self.failures: list[Any] = []
        self.closed = 0
        self.service = MasterService(
            self.clock, MasterOptions(), MemoryStore(), (), port_settings=SETTINGS, seed=bytes(16)
        )
        globalLogPublisher.addObserver(self._log)  # type: ignore[arg-type]
        self.service.startService()
        self.turn()

    def _log(self, event: Any) -> None:
        if event.get("log_failure") is not None:
            self.failures.append(event)

    def turn(self) -> None:
        """Let the master work."""
        for _ in range(4):
            self.clock.advance(0)

    def connection(self, requests: int) -> None:
        """Send so many requests on one connection, in pieces of any size, and leave."""
        dice = self.fuzz.dice
        protocol = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport: Any = Transport()  # type: ignore[no-untyped-call]
        protocol.makeConnection(transport)
        piece = dice.choice((17, 500, 70_000, 10_000_000))
        for _ in range(requests):
            data = self.fuzz.request()
            for at in range(0, len(data), piece if len(data) < 50_000 else 70_000):
                if transport.disconnecting or transport.disconnected:
                    break
                protocol.dataReceived(data[at : at + piece if len(data) < 50_000 else at + 70_000])
            self.turn()
        if dice.random() < 0.1:
            self.clock.advance(dice.choice((1, 16, 40)))
        heard = transport.value()
        self.closed += bool(transport.disconnecting or transport.disconnected)
        assert not heard or _STATUS.match(heard), heard[:200]
        self.answers.update(int(status) for status in _STATUS.findall(heard))
        subscribed = re.search(rb"Mesos-Stream-Id: (\S+)", heard)
        framework = re.search(rb"([0-9a-f-]{36}-\d{4})", heard)
        if subscribed and framework:
            self.fuzz.known.append((subscribed[1].decode(), framework[1].decode()))
            del self.fuzz.known[:-30]
        # Streams stay for a while, so that others' calls reach them.
        stays = subscribed and not transport.disconnecting
        if stays and len(self.service.schedulers.streams) < 20:
            return
        protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        self.turn()

    def check(self) -> None:
        """Nothing is held that should not be, and nothing was raised."""
        if self.failures:
            event = self.failures[0]
            raise AssertionError(event["log_failure"].getTraceback())
        service = self.service
        service.state.validate_state()
        assert len(service.schedulers.streams) <= 200, len(service.schedulers.streams)
        assert "internal" not in service.schedulers.counters.errors

    def close(self) -> None:
        """Hear the log no more."""
        globalLogPublisher.removeObserver(self._log)  # type: ignore[arg-type]


def run(requests: int, seed: int) -> None:
    """Send so many requests, and print what came of it."""
    fuzz = Fuzz(seed)
    target = Target(fuzz)
    process = psutil.Process()
    begin = time.process_time()
    sent = connections = before = 0
    while sent < requests:
        count = fuzz.dice.choice((1, 1, 2, 10))
        target.connection(count)
        sent += count
        connections += 1
        if connections % 100 == 0:
            target.check()
        if sent > 20_000 and not before:
            before = process.memory_info().rss
    target.check()
    print(f"{sent:,} requests on {connections:,} connections, seed {seed}: no exception")
    tell(begin, before, fuzz.kinds, target.answers, target.closed)


def tell(
    begin: float, before: int, kinds: Counter[str], answers: Counter[int], closed: int
) -> None:
    """Print what came of all requests, and what they cost since C{begin}."""
    after = psutil.Process().memory_info().rss
    print(f"CPU: {time.process_time() - begin:.0f} s; closed by a daemon: {closed:,}")
    print(f"memory: {before / 1e6:.1f} MB after 20,000 requests, {after / 1e6:.1f} MB at the end")
    print("requests:", ", ".join(f"{kind} {n:,}" for kind, n in sorted(kinds.items())))
    print("answers:", ", ".join(f"{status} {n:,}" for status, n in sorted(answers.items())))


if __name__ == "__main__":
    run(
        int(sys.argv[1]) if len(sys.argv) > 1 else 20_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 1,
    )
