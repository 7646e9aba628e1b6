"""
Throws wrong requests at all of a cluster's HTTP: C{fuzz_api.py [requests [seed]]}.

The operator APIs of master and agent, the executor API, and every endpoint of both, with tasks
that run and executors that subscribe meanwhile. Every exception that is logged ends the run; so
does an answer that is none, a 500 without a text, or a state that contradicts itself. The memory
of the process is told before and after. C{tests/web/test_api_fuzz.py} is the short form;
C{fuzz_http.py} does the same for schedulers.
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

import psutil
from fuzz_http import HEADERS, Transport, tell
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from mesoskit.driver import Framework, command_task, executor_info, task
from mesoskit.messages import agent_pb2, executor_pb2, master_pb2
from mesoskit.messages.codec import to_json
from mesoskit.testing.cluster import TestCluster

JSON, PROTOBUF = "application/json", "application/x-protobuf"
STATUSES = {
    100,
    200,
    202,
    307,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    413,
    415,
    416,
    429,
    500,
    501,
    503,
}
#: What fails as it fails in Mesos is told so with 500 and a text; what breaks here has none.
BROKEN = re.compile(rb"HTTP/1.1 500 [^\r]*\r\n(?:[^\r]+\r\n)*Content-Length: 0\r\n")
METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_KEYS = """jsonp limit offset order framework_id task_id slave_id agent_id role timeout format
    path length level duration container_id slaveId resources volumes"""
KEYS = _KEYS.split()
VALUES = ("", "0", "-1", "1", "9" * 20, "asc", "json", "/", "../..", "1secs", "cb", "[]", "[{}]")
BODIES = (
    b"[]",
    b"{}",
    b"junk",
    b'[{"role":"r","weight":1.5}]',
    b'{"windows":[]}',
    b"frameworkId=x",
)
# What would end the cluster that is asked.
SPARED = {"MARK_AGENT_GONE", "DRAIN_AGENT", "TEARDOWN", "SHUTDOWN"}
LEFT = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Fuzz:
    """Makes requests, most of them wrong in one place."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        # Names of what there is: ids of all kinds, paths.
        self.names: list[str] = ["nobody"]
        self.paths: dict[str, list[str]] = {}

    def request(self, daemon: str) -> bytes:
        """Return a request to one of the two daemons."""
        dice = self.dice
        kind = dice.choice(("endpoint", "operator", "operator", "executor"))
        if kind == "executor" and daemon == "agent":
            call: Message = executor_pb2.Call()
            return self._damaged(*self._call("/api/v1/executor", call))
        if kind == "endpoint":
            return self._damaged(*self._endpoint(daemon))
        call = master_pb2.Call() if daemon == "master" else agent_pb2.Call()
        return self._damaged(*self._call("/api/v1", call))

    def _endpoint(self, daemon: str) -> tuple[list[str], bytes]:
        dice = self.dice
        path = dice.choice(self.paths[daemon])
        if dice.random() < 0.2:
            path += dice.choice(("/", "/x", ".json", "/..", "/%2e%2e/x", "/%00", "/%zz", "//"))
        pairs = [
            f"{dice.choice(KEYS)}={quote(dice.choice((*VALUES, *self.names)))}"
            for _ in range(dice.choice((0, 0, 1, 2, 5)))
        ]
        method = dice.choice(METHODS)
        body = b"" if method == "GET" else dice.choice((*BODIES, "&".join(pairs).encode()))
        query = f"?{'&'.join(pairs)}" if pairs else ""
        self.kinds["endpoint"] += 1
        zipped = ["Accept-Encoding: gzip"] if dice.random() < 0.1 else []
        return [f"{method} /{path.lstrip('/')}{query} HTTP/1.1", *zipped], body

    def _call(self, path: str, call: Any) -> tuple[list[str], bytes]:
        dice = self.dice
        self._fill(call, 0)
        types = list(call.DESCRIPTOR.enum_types_by_name["Type"].values_by_name)
        name = dice.choice(types)
        call.type = name
        if name.lower() in call.DESCRIPTOR.fields_by_name and dice.random() < 0.9:
            part = getattr(call, name.lower())
            part.SetInParent()
            self._fill(part, 1)
            if name in SPARED:
                call.ClearField(name.lower())
        kind = dice.choice(("sound", "sound", "flipped", "cut", "wrong", "deep", "noise"))
        self.kinds[f"{path.rpartition('/')[2]} {kind}"] += 1
        media = dice.choice((JSON, PROTOBUF))
        body = call.SerializePartialToString() if media == PROTOBUF else to_json(call)
        if kind == "wrong" and media == JSON:
            tree = json.loads(body)
            tree[dice.choice(list(tree))] = dice.choice((7, None, [], "x", {"value": 1}, 1e308))
            body = json.dumps(tree).encode()
        elif kind == "flipped" and body:
            at = dice.randrange(len(body))
            body = body[:at] + dice.randbytes(1) + body[at + 1 :]
        elif kind == "cut":
            body = body[: dice.randrange(len(body) + 1)]
        elif kind == "deep":
            depth = dice.choice((50, 150, 2000))
            body = b'{"subscribe":' * depth + b"1" + b"}" * depth
        elif kind == "noise":
            body = dice.randbytes(dice.choice((0, 10, 5000)))
        accept = dice.choice((JSON, PROTOBUF, "*/*", "text/html"))
        return [f"POST {path} HTTP/1.1", f"Content-Type: {media}", f"Accept: {accept}"], body

    def _damaged(self, lines: list[str], body: bytes) -> bytes:
        dice = self.dice
        lines += ["Host: x", f"Content-Length: {len(body)}"]
        if dice.random() < 0.05:
            self.kinds["header"] += 1
            lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(HEADERS))
        data = "\r\n".join([*lines, "", ""]).encode("latin-1") + body
        if dice.random() < 0.02:
            self.kinds["flipped head"] += 1
            at = dice.randrange(len(data))
            data = data[:at] + dice.randbytes(1) + data[at + 1 :]
        return data

    def _fill(self, message: Any, depth: int) -> None:
        """Set some fields of a message, to names that there are now and then."""
        for field in message.DESCRIPTOR.fields:
            if field.name == "type" and depth == 0:
                continue
            often = 0.9 if field.is_required else 0.5 if depth else 0.15
            if self.dice.random() > often or field.name in ("mark_agent_gone", "drain_agent"):
                continue
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if depth > 4 or field.message_type.GetOptions().map_entry:
                    continue
                part = getattr(message, field.name)
                if field.is_repeated:
                    part = part.add()
                part.SetInParent()
                self._fill(part, depth + 1)
            elif field.is_repeated:
                getattr(message, field.name).append(self._scalar(field))
            else:
                setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: Any) -> Any:
        dice = self.dice
        if field.type == FieldDescriptor.TYPE_ENUM:
            return dice.choice(field.enum_type.values).number
        if field.type == FieldDescriptor.TYPE_STRING:
            return dice.choice((*self.names, "", "*", "a/b", "\u00e9" * 3, "x" * 300))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return dice.choice((b"", b"0123456789abcdef", dice.randbytes(20)))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return dice.random() < 0.5
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return dice.choice((0.0, 1.0, -1.0, 1e300, float("nan"), float("inf")))
        return dice.choice((0, 1, 7, 60_000))


class Target:
    """
    A master with an agent that runs tasks, and what came of the requests to them.

    @ivar answers: how often each status was answered.
    @ivar failures: what was logged as one.
    """

    def __init__(self, fuzz: Fuzz) -> None:
        self.fuzz = fuzz
        self.answers: Counter[int] = Counter()
        self.failures: list[Any] = []
        self.closed = 0
        self.cluster = cluster = TestCluster(agents=1)
        globalLogPublisher.addObserver(self._log)  # type: ignore[arg-type]
        framework = cluster.framework(name="fuzzed")
        cluster.wait(Deferred.fromCoroutine(self._launch(framework)))
        cluster.advance(1)
        (self._framework,) = cluster.master.frameworks
        (self._agent,) = cluster.master.agents
        self._names = [
            "nobody",
            "e",
            self._framework,
            self._agent,
            *(task for one in cluster.master.frameworks.values() for task in one.tasks),
            *(str(name) for name in cluster.agents[0].state.containers),
            "/master/log",
            "/frameworks",
            f"/var/lib/mesoskit/slaves/{self._agent}/frameworks/{self._framework}/executors",
        ]
        assert len(self._names) > 9, self._names
        service: Any = cluster.master_service
        agent: Any = cluster.agents[0].service
        self.ports = {"master": service.port, "agent": agent.port}
        fuzz.names = self._names
        for name, daemon in (("master", service), ("agent", agent)):
            fuzz.paths[name] = [route.path for route in daemon.resource().table]
        self._subscribe()

    @staticmethod
    async def _launch(framework: Framework) -> None:
        """Run two commands, and an executor that is played by whoever subscribes as one."""
        played = executor_info("e", "somebody")
        tasks = [
            command_task("a", "sleep 1000000"),
            command_task("b", "sleep 1000000"),
            task("c", executor=played, cpus=0.1, mem=32),
        ]
        async for offer in framework.offers():
            await framework.accept(offer, tasks)
            return

    def _subscribe(self) -> None:
        """Be that executor, on a connection that stays."""
        call = executor_pb2.Call(type=executor_pb2.Call.SUBSCRIBE)
        call.framework_id.value, call.executor_id.value = self._framework, "e"
        call.subscribe.SetInParent()
        body = call.SerializeToString()
        head = f"POST /api/v1/executor HTTP/1.1\r\nHost: x\r\nContent-Type: {PROTOBUF}\r\n"
        head += f"Accept: {PROTOBUF}\r\nContent-Length: {len(body)}\r\n\r\n"
        protocol = self.ports["agent"].buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        self._executor: Any = Transport()  # type: ignore[no-untyped-call]
        protocol.makeConnection(self._executor)
        protocol.dataReceived(head.encode() + body)
        self.cluster.advance()
        heard: Any = self._executor.value()  # type: ignore[no-untyped-call]
        assert heard.startswith(b"HTTP/1.1 200 "), heard

    def _log(self, event: Any) -> None:
        if event.get("log_failure") is not None:
            self.failures.append(event)

    def connection(self, requests: int) -> None:
        """Send so many requests on one connection, in pieces of any size, and leave."""
        dice = self.fuzz.dice
        daemon = dice.choice(("master", "agent"))
        protocol = self.ports[daemon].buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport: Any = Transport()  # type: ignore[no-untyped-call]
        protocol.makeConnection(transport)
        piece = dice.choice((17, 500, 70_000))
        for _ in range(requests):
            data = self.fuzz.request(daemon)
            for at in range(0, len(data), piece):
                if transport.disconnecting or transport.disconnected:
                    break
                protocol.dataReceived(data[at : at + piece])
            for _ in range(4):
                self.cluster.advance()
        if dice.random() < 0.01:
            self.cluster.advance(dice.choice((0.1, 1, 16, 40)))
        self._executor.clear()
        heard = transport.value()
        self.closed += bool(transport.disconnecting or transport.disconnected)
        assert not heard or LEFT.match(heard), heard[:200]
        statuses = [int(status) for status in LEFT.findall(heard)]
        self.answers.update(statuses)
        assert STATUSES.issuperset(statuses), (statuses, heard[-500:])
        assert not BROKEN.search(heard), heard[-500:]
        protocol.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
        self.cluster.advance()

    def check(self) -> None:
        """Nothing is held that should not be, and nothing was raised."""
        if self.failures:
            raise AssertionError(self.failures[0]["log_failure"].getTraceback())
        service: Any = self.cluster.master_service
        service.state.validate_state()
        self.cluster.agents[0].state.validate_state()
        assert len(service.operators) == 0, len(service.operators)
        assert self._framework in self.cluster.master.frameworks, "the framework is gone"

    def close(self) -> None:
        """Stop the cluster, and hear the log no more."""
        self.cluster.stop()
        globalLogPublisher.removeObserver(self._log)  # type: ignore[arg-type]


def run(requests: int, seed: int) -> None:
    """Send so many requests, to a new cluster now and then, and print what came of it."""
    fuzz = Fuzz(seed)
    process = psutil.Process()
    begin = time.process_time()
    sent = connections = before = closed = 0
    answers: Counter[int] = Counter()
    while sent < requests:
        target = Target(fuzz)
        until = min(requests, sent + 10_000)
        while sent < until:
            count = fuzz.dice.choice((1, 1, 2, 10))
            target.connection(count)
            sent += count
            connections += 1
            if connections % 100 == 0:
                target.check()
            if sent > 20_000 and not before:
                before = process.memory_info().rss
        target.check()
        answers += target.answers
        closed += target.closed
        target.close()
    print(f"{sent:,} requests on {connections:,} connections, seed {seed}: no exception")
    tell(begin, before, fuzz.kinds, answers, closed)


if __name__ == "__main__":
    run(
        int(sys.argv[1]) if len(sys.argv) > 1 else 20_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 1,
    )
