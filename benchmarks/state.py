"""
How long C{/state} of a big cluster takes over HTTP, and for how long it holds the master's reactor.

A master with agents that re-registered with their tasks, in a process of its own; a client in
this one, that asks again and again. Between two requests some of the tasks change. What the
reactor was held is what a timer of a millisecond came too late by; what of that was work, and
not other programs on the machine, is the CPU time of the reactor's thread meanwhile.

    .venv/bin/python benchmarks/state.py [--agents 1000] [--tasks 10000] [--changes 500]
        [--frameworks 5] [--only GET_] [--acls]
"""

import argparse
import http.client
import json
import statistics
import time
from typing import Any, NamedTuple

import psutil
from daemons import forked, free_port, table

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.messages.internal_pb2 import ReregisterSlaveMessage, StatusUpdateMessage
from mesoskit.messages.mesos_pb2 import TASK_RUNNING, Value
from mesoskit.model.authorization_acls import Acls, LocalAuthorizer
from mesoskit.model.events import Connected, PeerKind, Received
from mesoskit.model.ids import PeerId
from mesoskit.web.shared import MetricParts

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


class Question(NamedTuple):
    """What is asked for: a path, or a call of the operator API in one of its media types."""

    name: str
    path: str
    body: bytes | None
    headers: dict[str, str]


def questions() -> list[Question]:
    """Return all that is asked for."""
    paths = ("/state", "/state-summary", "/slaves", "/tasks", "/roles")
    asked = [Question(path, path, None, {}) for path in paths]
    asked.insert(1, Question("/state gzip", "/state", None, {"Accept-Encoding": "gzip"}))
    for call in ("GET_STATE", "GET_TASKS", "GET_FRAMEWORKS", "GET_AGENTS", "GET_ROLES"):
        for media in (JSON, PROTOBUF):
            body = json.dumps({"type": call}).encode()
            headers = {"Content-Type": JSON, "Accept": media}
            name = f"{call} {media.rpartition('/')[2].removeprefix('x-')}"
            asked.append(Question(name, "/api/v1", body, headers))
    return asked


def reregistration(number: int, tasks: int, frameworks: int) -> ReregisterSlaveMessage:
    """Return what an agent with so many tasks, of so many frameworks, says of itself."""
    message = ReregisterSlaveMessage(version="1.12.0")
    message.slave.hostname = f"agent{number}.example"
    message.slave.port = 5051
    message.slave.id.value = f"2b1d7f0e-3a55-4c0e-9d3e-7d4a8f1c2b3a-S{number}"
    for name, text in (("rack", f"r{number % 40}"), ("zone", "z1"), ("os", "linux")):
        attribute = message.slave.attributes.add(name=name, type=Value.TEXT)
        attribute.text.value = text
    for kind in range(1, 9):
        message.agent_capabilities.add().type = kind  # type: ignore[assignment]
    message.resource_version_uuid.value = bytes(16)
    for name, amount in (("cpus", 64.0), ("mem", 262144.0), ("disk", 1e6)):
        message.slave.resources.add(name=name, type=Value.SCALAR).scalar.value = amount
    ports = message.slave.resources.add(name="ports", type=Value.RANGES)
    ports.ranges.range.add(begin=31000, end=32000)
    for index in range(tasks):
        add_task(message, number, index, index % frameworks)
    return message


def add_task(message: ReregisterSlaveMessage, number: int, index: int, owner: int) -> None:
    """Add a running task with a port, labels and two statuses."""
    framework = f"2b1d7f0e-3a55-4c0e-9d3e-7d4a8f1c2b3a-{owner:04d}"
    if all(one.id.value != framework for one in message.frameworks):
        info = message.frameworks.add(user="root", name=f"service {framework[-4:]}")
        info.id.value = framework
        info.roles.append("services")
        info.capabilities.add().type = 6  # type: ignore[assignment]
    task = message.tasks.add(name=f"web-{index}", state=TASK_RUNNING)
    task.task_id.value = f"web-{index}.instance-{number:06d}"
    task.framework_id.value = framework
    task.agent_id.value = message.slave.id.value
    for name, amount in (("cpus", 0.5), ("mem", 256.0)):
        resource = task.resources.add(name=name, type=Value.SCALAR)
        resource.scalar.value = amount
        resource.allocation_info.role = "services"
    task.labels.labels.add(key="team", value="search")
    status = task.statuses.add(state=TASK_RUNNING, timestamp=1795211079.026973)
    status.task_id.value = task.task_id.value
    status.container_status.container_id.value = f"ea7efe67-f025-43ba-9a03-{number:06d}{index:06d}"
    address = status.container_status.network_infos.add().ip_addresses.add()
    address.ip_address = f"10.0.{number // 250}.{number % 250 + 1}"


def serve(
    port: int, agents: int, tasks: int, changes: int, frameworks: int, acls: bool = False
) -> None:
    """
    Be the master; a request for /metrics changes some tasks and tells of the time before.

    @param acls: whether it is asked of each thing whether it may be seen (it may).
    """
    from twisted.internet import reactor as installed

    from mesoskit.app import garbage

    reactor: Any = installed
    garbage.hold_off()
    authorizer = LocalAuthorizer(Acls()) if acls else None
    options = MasterOptions(hostname="127.0.0.1", ip="127.0.0.1", port=port, authorizer=authorizer)
    service = MasterService(reactor, options, MemoryStore(), [f"tcp:{port}:interface=127.0.0.1"])
    held: list[float] = []
    worked: list[float] = []
    changed = 0

    def fill(_: object) -> None:
        now = reactor.seconds()
        for number in range(agents):
            peer = PeerId(10**6 + number)
            service.state.handle(now, Connected(peer, PeerKind.AGENT, f"10.0.0.1:{number}"))
            message = reregistration(number, tasks // agents, frameworks)
            service.state.handle(now, Received(peer, message))
        garbage.begin()
        tick(reactor.seconds(), time.thread_time())

    def tick(before: float, spent: float) -> None:
        now, cpu = reactor.seconds(), time.thread_time()
        held.append(now - before - 0.001)
        worked.append(cpu - spent)
        reactor.callLater(0.001, tick, now, cpu)

    def change() -> dict[str, float]:
        nonlocal changed
        found = {
            "longest": max(held[1:], default=0.0),
            "work": max(worked[1:], default=0.0),
            "resident": float(psutil.Process().memory_info().rss),
            "tasks": float(sum(len(one.tasks) for one in service.state.frameworks.values())),
        }
        every = [task for one in service.state.agents.values() for task in one.tasks]
        for _ in range(changes):
            task = every[changed % len(every)]
            changed += 1
            update(service, task, changed)
        held.clear()
        worked.clear()
        return found

    service.metrics_in_parts = lambda: MetricParts(change())  # type: ignore[method-assign]
    service.startService().addCallback(fill)
    reactor.run()


def update(service: MasterService, task: Any, number: int) -> None:
    """Let the state hear that a task is (still) running, with another timestamp."""
    message = StatusUpdateMessage()
    message.update.framework_id.value = task.framework.id
    message.update.slave_id.value = task.agent_id
    status = message.update.status
    status.CopyFrom(type(status).FromString(task.statuses[-1]))
    status.timestamp = 1795300000.0 + number
    status.healthy = number % 2 == 0
    status.uuid = number.to_bytes(16, "big")
    message.update.timestamp = status.timestamp
    message.update.uuid = status.uuid
    message.update.latest_state = TASK_RUNNING
    peer = task.agent.peer.id
    service.state.handle(service.reactor.seconds(), Received(peer, message))


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return the body of an answer."""
    connection.request("GET" if body is None else "POST", path, body, headers or {})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {answer[:200]!r}")
    return answer


def wait(port: int) -> http.client.HTTPConnection:
    """Return a connection to the master when it is there and full."""
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            ask(connection, "/health")
            return connection
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the master did not start")


def main() -> None:
    """Start a master, ask it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=500, help="between two requests")
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--frameworks", type=int, default=5)
    parser.add_argument("--acls", action="store_true", help="ask who may see what")
    parser.add_argument("--only", default="", help="only what has this in its name")
    chosen = parser.parse_args()
    port = free_port()
    size = chosen.agents, chosen.tasks, chosen.changes, chosen.frameworks
    with forked(lambda: serve(port, *size, chosen.acls)):
        measure(port, chosen)


def measure(port: int, chosen: argparse.Namespace) -> None:
    """Ask for each document some times."""
    connection = wait(port)
    resident = json.loads(ask(connection, "/metrics/snapshot"))["resident"]
    rows = []
    for question in questions():
        if chosen.only not in question.name:
            continue
        first, size = timed(connection, question)
        longest = [json.loads(ask(connection, "/metrics/snapshot"))["longest"]]
        took, work = [], [0.0]
        for _ in range(chosen.requests):
            took.append(timed(connection, question)[0])
            figures = json.loads(ask(connection, "/metrics/snapshot"))
            longest.append(figures["longest"])
            work.append(figures["work"])
        rows.append(
            [
                question.name,
                f"{size / 1e6:.1f}",
                f"{first * 1000:.0f}",
                f"{statistics.median(took) * 1000:.0f}",
                f"{max(took) * 1000:.0f}",
                f"{statistics.median(longest) * 1000:.1f}",
                f"{max(longest) * 1000:.1f}",
                f"{max(work) * 1000:.1f}",
                f"{(figures['resident'] - resident) / 1e6:.0f}",
            ]
        )
    table(
        f"{chosen.agents} agents, {figures['tasks']:.0f} tasks, {chosen.changes} of them changed"
        " between two requests",
        [
            "",
            "MB",
            "first ms",
            "median ms",
            "worst ms",
            "held ms",
            "held at worst",
            "work",
            "memory + MB",
        ],
        rows,
    )


def timed(connection: http.client.HTTPConnection, question: Question) -> tuple[float, int]:
    """Return the seconds that an answer took, and its size."""
    begun = time.perf_counter()
    body = ask(connection, question.path, question.body, question.headers)
    return time.perf_counter() - begun, len(body)


if __name__ == "__main__":
    main()
