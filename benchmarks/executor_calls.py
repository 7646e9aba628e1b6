"""
What a call of an executor over HTTP costs the agent: the short way and the long one.

An agent in this process, with an executor that has subscribed; the calls come over a connection in
memory, as many at once as a read of a socket holds, so nothing but the agent's own work counts.

    .venv/bin/python benchmarks/executor_calls.py [--calls 20000]
"""

import argparse
import time
from typing import Any

from daemons import table
from fuzz_api import JSON, PROTOBUF, Fuzz, Target
from fuzz_http import Transport
from twisted.internet.address import IPv4Address

from mesoskit.messages import executor_pb2
from mesoskit.messages.codec import to_json

_READ = 64 * 1024


def call(framework_id: str, media: str, path: str) -> bytes:
    """Return a MESSAGE of the executor."""
    message = executor_pb2.Call(type=executor_pb2.Call.MESSAGE)
    message.framework_id.value, message.executor_id.value = framework_id, "e"
    message.message.data = b"x" * 32
    body = to_json(message) if media == JSON else message.SerializeToString()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def seconds(target: Target, data: bytes, calls: int) -> float:
    """Return the CPU time that so many of these calls take."""
    protocol = target.ports["agent"].buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
    transport: Any = Transport()  # type: ignore[no-untyped-call]
    protocol.makeConnection(transport)
    at_once = _READ // len(data)
    begun = time.process_time()
    for _ in range(calls // at_once):
        protocol.dataReceived(data * at_once)
        while transport.value().count(b"HTTP/1.1 202 ") < at_once:
            target.cluster.advance()
        transport.clear()
    return (time.process_time() - begun) / (calls // at_once * at_once)


def main() -> None:
    """Measure both ways in both types, and print what a call takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    chosen = parser.parse_args()
    target = Target(Fuzz(1))
    (framework_id,) = target.cluster.master.frameworks
    rows = []
    for media in (PROTOBUF, JSON):
        took = [
            seconds(target, call(framework_id, media, path), chosen.calls) * 1e6
            for path in ("/api/v1/executor", "/api/v1/executor?")
        ]
        rows.append([media, *(f"{one:.0f}" for one in took)])
    target.close()
    table(
        "A MESSAGE of an executor, µs of CPU time, on to the framework",
        ["", "short way", "long way"],
        rows,
    )


if __name__ == "__main__":
    main()
