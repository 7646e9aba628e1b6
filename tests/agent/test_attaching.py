"""Attaching to containers over HTTP: streams both ways, what is refused, what ends what."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.agent.attaching import wrong
from mesoskit.agent.consoles import DISABLED, ConsoleError
from mesoskit.agent.launcher_console import STDERR, STDOUT
from mesoskit.messages.agent_pb2 import Call, ProcessIO
from mesoskit.messages.codec import from_json, to_json
from mesoskit.model.ids import ContainerId
from mesoskit.wire import recordio
from tests.agent.http_peers import ExecutorHttpTestCase
from tests.base import SynchronousTestCase
from tests.master.http_peers import JSON, Connection, parse_head

PATH = "/api/v1"
RECORDIO = "application/recordio"


class Ends:
    """Both ends that an agent has of a console, in a test's hands."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.listener: Any = None
        self.full: Any = None
        self.over: Any = None
        self.refusal: ConsoleError | None = None
        self.asked: list[str] = []

    def listen(self, container: ContainerId, listener: Any) -> Deferred[Any]:
        self.asked.append(container)
        self.listener = listener
        return succeed(self) if self.refusal is None else fail(self.refusal)

    def speak(self, container: ContainerId, full: Any, over: Any) -> Deferred[Any]:
        self.asked.append(container)
        self.full, self.over = full, over
        return succeed(self) if self.refusal is None else fail(self.refusal)

    def pause(self, paused: bool) -> None:
        self.said.append(("pause", paused))

    def stop(self) -> None:
        self.said.append("stop")

    def put(self, data: bytes) -> None:
        self.said.append(data)

    def resize(self, rows: int, columns: int) -> None:
        self.said.append((rows, columns))


class AttachTestCase(ExecutorHttpTestCase):
    """An agent with an executor whose container has a console."""

    def setUp(self) -> None:
        super().setUp()
        self.run_task()
        self.turn()
        (self.container,) = self.world.launcher.pids
        self.ends = Ends()
        self.service.hands.consoles = self.ends

    def made(self, name: str, *path: str) -> Call:
        """Return a call about a container."""
        call = Call(type=name)
        found = getattr(call, name.lower()).container_id
        found.value = path[-1]
        for value in reversed(path[:-1]):
            found = found.parent
            found.value = value
        return call

    def written(self, call: Call) -> bytes:
        return to_json(call) if self.media == JSON else call.SerializeToString()


class Outputs(AttachTestCase):
    """What comes out of a container."""

    def attach(self, call: Call, **headers: Any) -> Connection:
        connection = self.connection()
        more = {"Accept": RECORDIO, "Message_Accept": self.media, **headers}
        connection.send(self.request(self.written(call), path=PATH, **more))
        return connection

    def answer(self, connection: Connection) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and what came of the body."""
        head, _, body = connection.heard.partition(b"\r\n\r\n")
        status, headers = parse_head(head)
        if headers.get("transfer-encoding") != "chunked":
            return status, headers, body
        whole = b""
        while body:
            length, _, body = body.partition(b"\r\n")
            size = int(length, 16)
            whole += body[:size]
            body = body[size + 2 :]
        return status, headers, whole

    def records(self, connection: Connection) -> list[ProcessIO]:
        body = self.answer(connection)[2]
        read = ProcessIO.FromString
        return [
            from_json(ProcessIO, one) if self.media == JSON else read(one)
            for one in recordio.Decoder().feed(body)
        ]

    def test_it_comes_as_records_between_heartbeats(self) -> None:
        connection = self.attach(self.made("ATTACH_CONTAINER_OUTPUT", self.container))
        self.ends.listener.heard(STDOUT, b"out")
        self.ends.listener.heard(STDERR, b"err")
        self.turn(30.0)
        status, headers, _ = self.answer(connection)
        self.assertEqual((status, headers["content-type"]), (200, RECORDIO))
        self.assertEqual(headers["message-content-type"], self.media)
        beat, out, err, again = self.records(connection)
        self.assertEqual((out.data.type, out.data.data), (ProcessIO.Data.STDOUT, b"out"))
        self.assertEqual((err.data.type, err.data.data), (ProcessIO.Data.STDERR, b"err"))
        self.assertEqual(beat.control.heartbeat.interval.nanoseconds, 30 * 10**9)
        self.assertEqual(beat, again)
        self.ends.listener.over()
        self.assertTrue(connection.heard.endswith(b"\r\n0\r\n\r\n"))
        self.turn(60.0)
        self.assertEqual(len(self.records(connection)), 4)

    def test_records_may_come_without_saying_so(self) -> None:
        connection = self.attach(
            self.made("ATTACH_CONTAINER_OUTPUT", self.container),
            Accept=self.media,
            Message_Accept=None,
        )
        _, headers, _ = self.answer(connection)
        self.assertEqual(headers["content-type"], self.media)
        self.assertNotIn("message-content-type", headers)
        self.assertEqual(len(self.records(connection)), 1)

    def test_who_does_not_listen_holds_it_back(self) -> None:
        connection = self.attach(self.made("ATTACH_CONTAINER_OUTPUT", self.container))
        producer = connection.transport.producer
        producer.pauseProducing()
        producer.resumeProducing()
        self.assertEqual(self.ends.said, [("pause", True), ("pause", False)])

    def test_who_leaves_hears_no_more(self) -> None:
        connection = self.attach(self.made("ATTACH_CONTAINER_OUTPUT", self.container))
        connection.leave()
        self.assertEqual(self.ends.said, ["stop"])
        self.turn(60.0)

    def test_what_cannot_be_attached_to_is_refused(self) -> None:
        name = "ATTACH_CONTAINER_OUTPUT"
        unknown = self.answer(self.attach(self.made(name, "nobody")))
        self.assertEqual(unknown[::2], (404, b"Container nobody cannot be found"))
        within = self.answer(self.attach(self.made(name, self.container, "n")))
        self.assertEqual(within[::2], (500, f"Unknown container {self.container}.n".encode()))
        self.ends.refusal = ConsoleError(DISABLED)
        without = self.answer(self.attach(self.made(name, self.container)))
        self.assertEqual(without[::2], (500, DISABLED.encode()))

    def session(self) -> Connection:
        call = self.made("LAUNCH_NESTED_CONTAINER_SESSION", self.container, "s")
        call.launch_nested_container_session.command.value = "sleep 1000"
        return self.attach(call)

    def test_a_session_is_launched_with_a_console_and_ends_with_its_output(self) -> None:
        connection = self.session()
        name = ContainerId(f"{self.container}.s")
        self.assertEqual(self.ends.asked, [name])
        console = self.world.launcher.specs[name].console
        assert console is not None
        self.assertTrue(console.session and not console.terminal)
        self.ends.listener.heard(STDOUT, b"hi")
        self.assertEqual(self.records(connection)[1].data.data, b"hi")
        self.assertIn(name, self.world.launcher.running)
        self.ends.listener.over()
        self.turn()
        self.assertNotIn(name, self.world.launcher.running)

    def test_a_session_ends_when_its_client_leaves(self) -> None:
        self.session().leave()
        self.turn()
        self.assertNotIn(ContainerId(f"{self.container}.s"), self.world.launcher.running)

    def test_a_session_that_cannot_be_attached_to_ends(self) -> None:
        self.ends.refusal = ConsoleError(DISABLED)
        self.assertEqual(self.answer(self.session())[::2], (500, DISABLED.encode()))
        self.turn()
        self.assertNotIn(ContainerId(f"{self.container}.s"), self.world.launcher.running)

    def test_a_session_that_cannot_be_launched_is_refused(self) -> None:
        call = self.made("LAUNCH_NESTED_CONTAINER_SESSION", "nobody", "s")
        answer = self.answer(self.attach(call))
        self.assertEqual(answer[::2], (400, b"Parent container nobody does not exist"))


class OutputsInJson(Outputs):
    """The same in JSON."""

    media = JSON


class Inputs(AttachTestCase):
    """What is put into a container."""

    def begin(self, *path: str, **headers: Any) -> Connection:
        connection = self.connection()
        more = {
            "Content_Type": RECORDIO,
            "Message_Content_Type": self.media,
            "Content_Length": None,
            "Transfer_Encoding": "chunked",
            **headers,
        }
        connection.send(self.request(b"", path=PATH, **more))
        first = self.made("ATTACH_CONTAINER_INPUT", *(path or (self.container,)))
        first.attach_container_input.type = Call.AttachContainerInput.CONTAINER_ID
        self.chunk(connection, recordio.encode(self.written(first)))
        return connection

    def chunk(self, connection: Connection, data: bytes) -> None:
        connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    def message(self, message: dict[str, Any]) -> bytes:
        call = Call(type="ATTACH_CONTAINER_INPUT")
        call.attach_container_input.type = Call.AttachContainerInput.PROCESS_IO
        call.attach_container_input.process_io.CopyFrom(ProcessIO(**message))
        return recordio.encode(self.written(call))

    def data(self, data: bytes) -> bytes:
        return self.message({"type": "DATA", "data": {"type": "STDIN", "data": data}})

    def answer(self, connection: Connection) -> tuple[int, bytes]:
        (found,) = connection.answers()
        return found[0], found[2]

    def test_records_are_put_in_as_they_come_and_answered_at_the_end(self) -> None:
        connection = self.begin()
        self.chunk(connection, self.data(b"one"))
        self.assertEqual(self.ends.said, [b"one"])
        two = self.data(b"two")
        self.chunk(connection, two[:7])
        size = {"rows": 50, "columns": 132}
        info = {"type": "TTY_INFO", "tty_info": {"window_size": size}}
        self.chunk(connection, two[7:] + self.message({"type": "CONTROL", "control": info}))
        beat = {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 1}}}
        self.chunk(connection, self.message({"type": "CONTROL", "control": beat}))
        self.assertEqual(self.ends.said, [b"one", b"two", (50, 132)])
        self.assertEqual(connection.heard, b"")
        connection.send(b"0\r\n\r\n")
        self.assertEqual(self.ends.said[3:], ["stop"])
        self.assertEqual(self.answer(connection), (200, b""))

    def test_it_may_take_its_time(self) -> None:
        connection = self.begin()
        self.turn(3600.0)
        self.assertFalse(connection.closed)
        self.chunk(connection, self.data(b"late"))
        self.assertEqual(self.ends.said, [b"late"])

    def test_no_more_is_read_than_the_container_takes(self) -> None:
        connection = self.begin()
        self.ends.full(True)
        self.assertEqual(connection.transport.producerState, "paused")
        self.ends.full(False)
        self.assertEqual(connection.transport.producerState, "producing")

    def test_a_container_that_ends_ends_it(self) -> None:
        connection = self.begin()
        self.ends.over()
        self.turn()
        self.assertEqual(self.answer(connection), (200, b""))
        self.assertTrue(connection.closed)

    def test_a_client_that_leaves_leaves_room_for_another(self) -> None:
        self.begin().leave()
        self.assertEqual(self.ends.said, ["stop"])

    def test_what_is_wrong_in_the_middle_is_said_and_ends_it(self) -> None:
        connection = self.begin()
        self.chunk(connection, recordio.encode(b"{"))
        status, why = self.answer(connection)
        self.assertEqual(status, 400)
        self.assertIn(b"Failed to parse body into", why)
        self.assertTrue(connection.closed)
        other = self.begin()
        self.chunk(other, b"nonsense\n")
        self.assertEqual(self.answer(other)[0], 400)
        huge = self.begin()
        self.chunk(huge, b"9999999\n")
        self.assertEqual(self.answer(huge)[0], 400)

    def test_who_may_not_is_told_before_there_is_more(self) -> None:
        self.assertEqual(
            self.answer(self.begin("nobody")), (404, b"Container nobody cannot be found")
        )
        self.ends.refusal = ConsoleError("Multiple input connections are not allowed", 409)
        connection = self.begin()
        self.assertEqual(
            self.answer(connection), (409, b"Multiple input connections are not allowed")
        )
        self.assertTrue(connection.closed)

    def test_a_client_that_asks_first_is_told_to_go_on(self) -> None:
        connection = self.begin(Expect="100-continue")
        self.assertEqual(connection.heard, b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_what_is_no_stream_is_refused_at_once(self) -> None:
        connection = self.connection()
        connection.send(
            self.request(
                b"",
                path=PATH,
                Content_Type=RECORDIO,
                Content_Length=None,
                Transfer_Encoding="chunked",
            )
        )
        status, why = self.answer(connection)
        self.assertEqual(status, 400)
        self.assertIn(b"'Message-Content-Type' to be set", why)

    def test_an_empty_stream_says_nothing(self) -> None:
        connection = self.connection()
        more = {"Content_Type": RECORDIO, "Message_Content_Type": self.media}
        connection.send(
            self.request(b"", path=PATH, Content_Length=None, Transfer_Encoding="chunked", **more)
        )
        connection.send(b"0\r\n\r\n")
        self.assertEqual(self.answer(connection), (400, b"Received EOF while reading request body"))


class InputsInJson(Inputs):
    """The same in JSON."""

    media = JSON


class Validation(SynchronousTestCase):
    """Texts as Mesos has them."""

    def test_what_a_record_lacks_is_said(self) -> None:
        table: list[tuple[dict[str, Any], str]] = [
            ({}, "Expecting 'process_io.type' to be present"),
            ({"type": "UNKNOWN"}, "'process_io.type' is unknown"),
            ({"type": "CONTROL"}, "Expecting 'process_io.control' to be present"),
            (
                {"type": "CONTROL", "control": {"heartbeat": {}}},
                "Expecting 'process_io.control.type' to be present",
            ),
            (
                {"type": "CONTROL", "control": {"type": "UNKNOWN"}},
                "'process_io.control.type' is unknown",
            ),
            (
                {"type": "CONTROL", "control": {"type": "TTY_INFO"}},
                "Expecting 'process_io.control.tty_info' to be present",
            ),
            (
                {"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": {}}},
                "Expecting 'tty_info.window_size' to be present",
            ),
            (
                {"type": "CONTROL", "control": {"type": "HEARTBEAT"}},
                "Expecting 'process_io.control.heartbeat' to be present",
            ),
            ({"type": "DATA"}, "Expecting 'process_io.data' to be present"),
            (
                {"type": "DATA", "data": {"data": b"x"}},
                "Expecting 'process_io.data.type' to be present",
            ),
            (
                {"type": "DATA", "data": {"type": "STDOUT", "data": b"x"}},
                "Expecting 'process_io.data.type' to be 'STDIN'",
            ),
            (
                {"type": "DATA", "data": {"type": "STDIN"}},
                "Expecting 'process_io.data.data' to be present",
            ),
        ]
        for message, why in table:
            call = Call(type="ATTACH_CONTAINER_INPUT")
            call.attach_container_input.type = Call.AttachContainerInput.PROCESS_IO
            call.attach_container_input.process_io.CopyFrom(ProcessIO(**message))
            self.assertEqual(wrong(call), why)

    def test_only_the_first_names_the_container(self) -> None:
        call = Call(type="ATTACH_CONTAINER_INPUT")
        call.attach_container_input.type = Call.AttachContainerInput.CONTAINER_ID
        self.assertEqual(
            wrong(call),
            "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: 'CONTAINER_ID'",
        )
        self.assertIsNotNone(wrong(Call(type="GET_HEALTH")))
