"""An executor over HTTP in a test's hands: raw bytes to the agent's port, and back."""

from __future__ import annotations

import json
import os
from typing import Any, cast

from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.codec import to_json
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import FrameworkInfo, TaskInfo
from tests.agent.bench import FRAMEWORK_ID, custom_executor, framework, task
from tests.agent.test_service import World
from tests.base import SynchronousTestCase
from tests.master import http_peers
from tests.master.http_peers import JSON, PROTOBUF, Answer, Connection

PATH = "/api/v1/executor"


class Stream(http_peers.Stream):
    """A connection on which an executor has subscribed."""

    def events(self) -> list[Any]:
        """Return the events as messages, or as dicts where they are JSON."""
        if self.media == JSON:
            return [json.loads(record) for record in self.records()]
        return [Event.FromString(record) for record in self.records()]

    def types(self) -> list[str]:
        """Return the names of the events' types."""
        if self.media == JSON:
            return [event["type"] for event in self.events()]
        return [Event.Type.Name(event.type) for event in self.events()]


def call(
    kind: int, executor_id: str = "e", framework_id: str = FRAMEWORK_ID, **fields: Any
) -> Call:
    """Return a call of an executor."""
    message = Call(**fields)
    message.type = kind  # type: ignore[assignment]
    message.executor_id.value = executor_id
    message.framework_id.value = framework_id
    return message


def subscription(executor_id: str = "e", **fields: Any) -> Call:
    """Return a SUBSCRIBE."""
    return call(Call.SUBSCRIBE, executor_id, subscribe=fields)


def update(state: int = 1, task_id: str = "t", uuid: bytes = b"0123456789abcdef") -> Call:
    """Return an UPDATE."""
    status = {"task_id": {"value": task_id}, "state": state, "source": 2, "uuid": uuid}
    return call(Call.UPDATE, update={"status": status})


class ExecutorHttpTestCase(SynchronousTestCase):
    """
    An agent that is registered, and executors over HTTP in one of the two media types.

    @ivar master: the master's end of its link.
    """

    media = PROTOBUF

    def setUp(self) -> None:
        work_dir = os.path.realpath(self.mktemp())
        os.makedirs(work_dir)
        self.world = World(work_dir)
        self.service = self.world.agent()
        self.master = self.world.register(self.service)

    def turn(self, seconds: float = 0.0) -> None:
        """Let everything that can happen happen."""
        self.world.turn(seconds)

    def run_task(
        self, task_id: str = "t", executor_id: str = "e", info: FrameworkInfo | None = None
    ) -> TaskInfo:
        """Let the master run a task of a custom executor."""
        info = info or framework()
        ours = task(task_id, executor=custom_executor(executor_id))
        message = internal.RunTaskMessage(framework=info, task=ours)
        self.world.send(self.master, message)
        return ours

    def sent(self, kind: type[Any]) -> list[Any]:
        """Return the messages of a class that the master got."""
        return [one for one in self.master.messages if isinstance(one, kind)]

    @property
    def environment(self) -> dict[str, str]:
        """What the last container that was started found."""
        return dict(list(self.world.launcher.specs.values())[-1].environment)

    def request(
        self, body: bytes | Call, method: str = "POST", path: str = PATH, **changes: str | None
    ) -> bytes:
        """Return a request; headers that are C{None} are left out."""
        data = body
        if isinstance(body, Call):
            data = to_json(body) if self.media == JSON else body.SerializePartialToString()
        assert isinstance(data, bytes)
        headers: dict[str, str | None] = {
            "Host": "x",
            "Content-Type": self.media,
            "Accept": self.media,
            "Content-Length": str(len(data)),
        }
        headers.update({name.replace("_", "-"): value for name, value in changes.items()})
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data

    def connection(self) -> Connection:
        """Connect to the agent's port."""
        return Connection(cast(Any, self))

    def post(self, body: bytes | Call, **more: Any) -> Answer:
        """POST on a connection of its own; return the answer."""
        connection = self.connection()
        connection.send(self.request(body, **more))
        (answer,) = connection.answers()
        return answer

    def stream(self, body: bytes | Call, **more: Any) -> Stream:
        """Subscribe."""
        return Stream(cast(Any, self), self.media, self.request(body, **more))
