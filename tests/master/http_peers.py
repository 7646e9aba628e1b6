"""A framework over HTTP in a test's hands: raw bytes to the master's one port, and back."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mesoskit.messages.codec import to_json
from mesoskit.messages.scheduler_pb2 import Call, Event
from tests.master.test_service import ServiceTestCase

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
PATH = "/api/v1/scheduler"

Answer = tuple[int, dict[str, str], bytes]


class Connection:
    """One connection to the master's port."""

    def __init__(self, case: ServiceTestCase) -> None:
        self.case = case
        self.protocol: Any = case.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        self.transport: Any = StringTransport()
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send bytes, and let things happen."""
        self.protocol.dataReceived(data)
        self.case.turn()

    def leave(self) -> None:
        """Close the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.case.turn()

    @property
    def heard(self) -> bytes:
        """Everything that came back."""
        value: bytes = self.transport.value()
        return value

    @property
    def closed(self) -> bool:
        """Whether the master has closed it."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def answers(self) -> list[Answer]:
        """Return the answers so far; each has a length."""
        rest, answers = self.heard, []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, headers = parse_head(head)
            length = int(headers.get("content-length", "0"))
            answers.append((status, headers, rest[:length]))
            rest = rest[length:]
        return answers


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Return status and headers, their names in lower case."""
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}


class Stream(Connection):
    """A connection on which a framework has subscribed."""

    def __init__(self, case: ServiceTestCase, media: str, request: bytes) -> None:
        super().__init__(case)
        self.media = media
        self.send(request)

    @property
    def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer."""
        return parse_head(self.heard.partition(b"\r\n\r\n")[0])

    @property
    def id(self) -> str:
        """The stream's id."""
        return self.head[1]["mesos-stream-id"]

    def chunks(self) -> list[bytes]:
        """Return the chunks so far; an empty one is the end."""
        rest, chunks = self.heard.partition(b"\r\n\r\n")[2], []
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            chunks.append(rest[:length])
            rest = rest[length + 2 :]
        return chunks

    def records(self) -> list[bytes]:
        """Return the records: exactly one a chunk."""
        records = []
        for chunk in self.chunks():
            if chunk:
                length, _, record = chunk.partition(b"\n")
                assert int(length) == len(record), chunk
                records.append(record)
        return records

    def events(self) -> list[Any]:
        """Return the events as messages, or as dicts where they are JSON."""
        if self.media == JSON:
            return [json.loads(record) for record in self.records()]
        return [Event.FromString(record) for record in self.records()]

    def types(self) -> list[str]:
        """Return the names of the events' types."""
        events = self.events()
        if self.media == JSON:
            return [event["type"] for event in events]
        return [Event.Type.Name(event.type) for event in events]

    @property
    def ended(self) -> bool:
        """Whether the body has come to its end."""
        return b"" in self.chunks()

    @property
    def framework_id(self) -> str:
        """The id that SUBSCRIBED told."""
        event = self.events()[0]
        if self.media == JSON:
            told: str = event["subscribed"]["framework_id"]["value"]
            return told
        return str(event.subscribed.framework_id.value)


class HttpTestCase(ServiceTestCase):
    """Frameworks over HTTP, in one of the two media types."""

    media = JSON

    def body(self, call: Call) -> bytes:
        """Return a call as it is POSTed."""
        return to_json(call) if self.media == JSON else call.SerializePartialToString()

    def request(
        self,
        body: bytes | Call,
        stream_id: str | None = None,
        method: str = "POST",
        path: str = PATH,
        **changes: str | None,
    ) -> bytes:
        """Return a request; headers that are C{None} are left out."""
        data = self.body(body) if isinstance(body, Call) else body
        headers: dict[str, str | None] = {
            "Host": "x",
            "Content-Type": self.media,
            "Accept": self.media,
            "Content-Length": str(len(data)),
            "Mesos-Stream-Id": stream_id,
        }
        headers.update({name.replace("_", "-"): value for name, value in changes.items()})
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data

    def post(self, body: bytes | Call, stream_id: str | None = None, **more: Any) -> Answer:
        """POST on a connection of its own; return the answer."""
        connection = Connection(self)
        connection.send(self.request(body, stream_id, **more))
        (answer,) = connection.answers()
        return answer

    def stream(self, call: Call, **more: Any) -> Stream:
        """Subscribe."""
        return Stream(self, self.media, self.request(call, **more))
