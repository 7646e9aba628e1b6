"""The agent's operator API: every call, both media types, refusals in their order, sandboxes."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from google.protobuf.message import Message

from mesoskit.agent.container import Usage, UsageRead
from mesoskit.agent.operator_api import HANDLED, NOT_YET, RECORDIO
from mesoskit.agent.phase import Phase
from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.agent_pb2 import Call, Response
from mesoskit.messages.codec import from_json, to_json
from mesoskit.messages.mesos_pb2 import ExecutorInfo, TaskGroupInfo
from mesoskit.web.verbosity import VERBOSITY
from mesoskit.wire import recordio
from tests.agent.bench import AGENT_ID, FRAMEWORK_ID, framework, task
from tests.agent.http_peers import ExecutorHttpTestCase
from tests.master.http_peers import JSON, PROTOBUF, Answer

PATH = "/slave(1)/api/v1"

_CONTAINER = {"container_id": {"value": "c", "parent": {"value": "p"}}}
_PROVIDER = {"info": {"type": "t", "name": "n"}}

#: What a call needs besides its type.
_NEEDED: dict[str, Any] = {
    "GET_METRICS": {"get_metrics": {}},
    "SET_LOGGING_LEVEL": {
        "set_logging_level": {"level": 1, "duration": {"nanoseconds": 60_000_000_000}}
    },
    "LIST_FILES": {"list_files": {"path": "/"}},
    "READ_FILE": {"read_file": {"path": "/", "offset": 0}},
    **{
        name: {name.lower(): _CONTAINER}
        for name in (
            "WAIT_NESTED_CONTAINER",
            "KILL_NESTED_CONTAINER",
            "REMOVE_NESTED_CONTAINER",
            "ATTACH_CONTAINER_OUTPUT",
            "LAUNCH_CONTAINER",
            "WAIT_CONTAINER",
            "KILL_CONTAINER",
            "REMOVE_CONTAINER",
        )
    },
    **{
        name: {
            name.lower(): {**_CONTAINER, "container": {"type": "MESOS", "linux_info": {}}},
        }
        for name in ("LAUNCH_NESTED_CONTAINER", "LAUNCH_NESTED_CONTAINER_SESSION")
    },
    "ATTACH_CONTAINER_INPUT": {
        "attach_container_input": {"type": "CONTAINER_ID", "container_id": {"value": "c"}}
    },
    "ADD_RESOURCE_PROVIDER_CONFIG": {"add_resource_provider_config": _PROVIDER},
    "UPDATE_RESOURCE_PROVIDER_CONFIG": {"update_resource_provider_config": _PROVIDER},
    "REMOVE_RESOURCE_PROVIDER_CONFIG": {
        "remove_resource_provider_config": {"type": "t", "name": "n"}
    },
    "MARK_RESOURCE_PROVIDER_GONE": {
        "mark_resource_provider_gone": {"resource_provider_id": {"value": "r"}}
    },
}


def call(name: str, **fields: Any) -> Call:
    """Return a call with all that it needs, and no more."""
    return from_json(Call, json.dumps({"type": name, **_NEEDED.get(name, {}), **fields}))


class OperatorTestCase(ExecutorHttpTestCase):
    """An agent with tasks, and operators over HTTP."""

    media = JSON

    def written(self, message: Message) -> bytes:
        return to_json(message) if self.media == JSON else message.SerializePartialToString()

    def ask(self, name: str | Call, **more: Any) -> Answer:
        """Ask, on a connection of its own."""
        asked = call(name) if isinstance(name, str) else name
        return self.post(self.written(asked), path=PATH, **more)

    def response(self, name: str | Call) -> Response:
        """Ask, and read the answer."""
        status, headers, body = self.ask(name)
        self.assertEqual((200, self.media), (status, headers["content-type"]), body)
        return from_json(Response, body) if self.media == JSON else Response.FromString(body)

    def run_command(self, task_id: str = "c") -> str:
        """Run a command; return its sandbox."""
        message = internal.RunTaskMessage(framework=framework(), task=task(task_id, "sleep 9"))
        self.world.send(self.master, message)
        executor = self.service.state.frameworks[FRAMEWORK_ID].executors[task_id]  # type: ignore[index]
        return executor.directory


_EXPECTED = {
    **dict.fromkeys(("LIST_FILES", "READ_FILE"), 404),
    # There are no containers.
    **dict.fromkeys(("LAUNCH_NESTED_CONTAINER", "LAUNCH_CONTAINER"), 400),
    "LAUNCH_NESTED_CONTAINER_SESSION": 400,
    **dict.fromkeys(("ATTACH_CONTAINER_INPUT", "ATTACH_CONTAINER_OUTPUT"), 404),
    **dict.fromkeys(("WAIT_NESTED_CONTAINER", "WAIT_CONTAINER"), 404),
    **dict.fromkeys(("KILL_NESTED_CONTAINER", "KILL_CONTAINER"), 404),
    **dict.fromkeys(("REMOVE_NESTED_CONTAINER", "REMOVE_CONTAINER"), 500),
}


class Calls(OperatorTestCase):
    """What is asked once, in JSON."""

    def test_every_call_of_the_protocol_is_handled_or_named(self) -> None:
        self.assertEqual(set(Call.Type.keys()), HANDLED | NOT_YET)
        self.assertEqual(frozenset(), HANDLED & NOT_YET)
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.world.reactor)
        for name in Call.Type.keys():
            asked = self.written(call(name))
            more: dict[str, Any] = {}
            if name == "ATTACH_CONTAINER_INPUT":
                asked = recordio.encode(asked)
                more = {"Content_Type": RECORDIO, "Message_Content_Type": self.media}
            status, _, body = self.post(asked, path=PATH, **more)
            if name in NOT_YET:
                self.assertEqual(501, status, (name, body))
                if name != "UNKNOWN":
                    self.assertIn(name.encode(), body)
            else:
                expected = _EXPECTED.get(name, 200)
                self.assertEqual(expected, status, (name, body))

    def test_calls_about_the_process(self) -> None:
        self.service.state.options.flags["port"] = "5051"
        self.addCleanup(self.service.state.options.flags.clear)
        self.assertTrue(self.response("GET_HEALTH").get_health.healthy)
        (flag,) = self.response("GET_FLAGS").get_flags.flags
        self.assertEqual(("port", "5051"), (flag.name, flag.value))
        version = self.response("GET_VERSION").get_version.version_info.version
        self.assertEqual("1.12.0", version)
        metrics = {one.name: one.value for one in self.response("GET_METRICS").get_metrics.metrics}
        self.assertEqual(1.0, metrics["slave/registered"])

    def test_level_of_logging_goes_back_after_its_time(self) -> None:
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.world.reactor)
        self.assertEqual((200, b""), self.ask("SET_LOGGING_LEVEL")[::2])
        self.assertEqual(1, self.response("GET_LOGGING_LEVEL").get_logging_level.level)
        self.turn(60)
        self.assertEqual(0, self.response("GET_LOGGING_LEVEL").get_logging_level.level)

    def test_agent_shows_itself(self) -> None:
        info = self.response("GET_AGENT").get_agent.agent_info
        self.assertEqual(AGENT_ID, info.id.value)
        self.assertEqual(self.service.state.options.hostname, info.hostname)

    def test_tasks_are_where_they_are_in_their_lives(self) -> None:
        self.run_command("c")
        self.run_task("q")
        tasks = self.response("GET_TASKS").get_tasks
        self.assertEqual(["q"], [one.task_id.value for one in tasks.queued_tasks])
        self.assertEqual(["c"], [one.task_id.value for one in tasks.launched_tasks])
        self.world.launcher.finish(next(iter(self.service.state.containers)), 0)
        self.turn()
        ended = self.response("GET_TASKS").get_tasks
        self.assertEqual(["c"], [one.task_id.value for one in ended.terminated_tasks])
        self.world.acknowledge(self.master)
        done = self.response("GET_TASKS").get_tasks
        self.assertEqual(["c"], [one.task_id.value for one in done.completed_tasks])
        self.assertEqual([], list(done.terminated_tasks))

    def test_state_is_of_its_parts(self) -> None:
        self.run_command("c")
        self.run_task("q")
        state = self.response("GET_STATE").get_state
        self.assertEqual(state.get_tasks, self.response("GET_TASKS").get_tasks)
        self.assertEqual(state.get_executors, self.response("GET_EXECUTORS").get_executors)
        self.assertEqual(state.get_frameworks, self.response("GET_FRAMEWORKS").get_frameworks)
        executors = {
            one.executor_info.executor_id.value: one.executor_info
            for one in state.get_executors.executors
        }
        self.assertEqual({"c", "e"}, set(executors))
        self.assertEqual({FRAMEWORK_ID}, {one.framework_id.value for one in executors.values()})
        self.assertEqual(
            "Command Executor (Task: c) (Command: sh -c 'sleep 9')", executors["c"].name
        )
        (shown,) = state.get_frameworks.frameworks
        self.assertEqual(framework().id, shown.framework_info.id)

    def test_containers_and_what_they_use(self) -> None:
        self.run_command("c")
        ((container, _),) = self.service.state.containers.items()
        now = self.world.reactor.seconds()
        usage = {container: Usage(1.5, 0.5, 4096, 2, now)}
        self.service.turns.put(UsageRead(usage))
        self.turn()
        (shown,) = self.response("GET_CONTAINERS").get_containers.containers
        self.assertEqual(
            (container, "c", FRAMEWORK_ID),
            (shown.container_id.value, shown.executor_id.value, shown.framework_id.value),
        )
        self.assertEqual(4096, shown.resource_statistics.mem_rss_bytes)
        self.assertEqual(1.5, shown.resource_statistics.cpus_user_time_secs)
        self.assertEqual(container, shown.container_status.container_id.value)

    def test_nested_containers_are_shown_where_asked_for(self) -> None:
        executor = ExecutorInfo(type=ExecutorInfo.DEFAULT)
        executor.executor_id.value = "d"
        executor.framework_id.value = FRAMEWORK_ID
        message = internal.RunTaskGroupMessage(
            framework=framework(),
            executor=executor,
            task_group=TaskGroupInfo(tasks=[task("a"), task("b")]),
        )
        self.world.send(self.master, message)
        parent = self.service.state.frameworks[FRAMEWORK_ID].executors["d"].container  # type: ignore[index]
        plain = self.response("GET_CONTAINERS").get_containers.containers
        self.assertEqual([parent], [one.container_id.value for one in plain])
        asked = call("GET_CONTAINERS", get_containers={"show_nested": True})
        nested = self.response(asked).get_containers.containers[1:]
        self.assertEqual([parent] * 2, [one.container_id.parent.value for one in nested])

    def test_operations_and_resource_providers_are_none(self) -> None:
        self.assertTrue(self.response("GET_OPERATIONS").HasField("get_operations"))
        self.assertTrue(self.response("GET_RESOURCE_PROVIDERS").HasField("get_resource_providers"))

    def test_files_of_a_sandbox(self) -> None:
        directory = self.run_command("c")
        with open(f"{directory}/notes", "wb") as notes:
            notes.write(b"abc\xffdef")
        os.symlink("/etc/passwd", f"{directory}/out")
        listed = self.response(call("LIST_FILES", list_files={"path": directory})).list_files
        found = {os.path.basename(one.path): one for one in listed.file_infos}
        self.assertIn("notes", found)
        self.assertNotIn("out", found)
        self.assertEqual(7, found["notes"].size)
        self.assertTrue(stat.S_ISREG(found["notes"].mode))
        self.assertGreater(found["notes"].mtime.nanoseconds, 10**18)
        table: list[tuple[dict[str, int], bytes]] = [
            ({"offset": 0}, b"abc\xffdef"),
            ({"offset": 3, "length": 2}, b"\xffd"),
            ({"offset": 7}, b""),
            ({"offset": 2**64 - 1, "length": 2**64 - 1}, b""),
        ]
        for fields, data in table:
            asked = call("READ_FILE", read_file={"path": f"{directory}/notes", **fields})
            part = self.response(asked).read_file
            self.assertEqual((7, data), (part.size, part.data))

    def test_files_that_are_not_for_reading(self) -> None:
        directory = self.run_command("c")
        os.symlink("/etc/passwd", f"{directory}/out")
        table = [
            ("/etc/passwd", 404, b""),
            (f"{directory}/nothing", 404, b""),
            (f"{directory}/out", 400, f"'{directory}/out' is inaccessible.\n".encode()),
            (directory, 400, b"Cannot read a directory.\n"),
        ]
        for path, status, why in table:
            asked = call("READ_FILE", read_file={"path": path, "offset": 0})
            self.assertEqual((status, why), self.ask(asked)[::2])


class CallsInProtobuf(Calls):
    """The same in protobuf."""

    media = PROTOBUF


class Requests(OperatorTestCase):
    """What is refused, and the first reason that is told."""

    def test_empty_lists_of_big_answers_are_written(self) -> None:
        kinds = ("pending", "queued", "launched", "terminated", "completed")
        self.assertEqual(
            {
                "type": "GET_STATE",
                "get_state": {
                    "get_tasks": {f"{kind}_tasks": [] for kind in kinds},
                    "get_executors": {"executors": [], "completed_executors": []},
                    "get_frameworks": {"frameworks": [], "completed_frameworks": []},
                },
            },
            json.loads(self.ask("GET_STATE")[2]),
        )

    def test_paths_that_clients_use(self) -> None:
        for path in ("/api/v1", PATH, "/slave%281%29/api/v1", "/api/v1/operator"):
            answer = self.post(to_json(call("GET_HEALTH")), path=path)
            self.assertEqual(200, answer[0], path)

    def test_last_of_several_headers_counts(self) -> None:
        asked = to_json(call("ATTACH_CONTAINER_OUTPUT"))
        # As mesos-go asks: first what it takes everywhere, then what it wants this time.
        for accept, status in (
            (f"{PROTOBUF}\r\nAccept: {RECORDIO}", 404),
            (f"{RECORDIO}\r\nAccept: {PROTOBUF}", 406),
        ):
            answer = self.post(asked, path=PATH, Accept=accept, Message_Accept=PROTOBUF)
            self.assertEqual(status, answer[0], answer)

    def test_refusals(self) -> None:
        health = to_json(call("GET_HEALTH"))
        three = "application/json or application/x-protobuf or application/recordio"
        stream = {"Content_Type": RECORDIO, "Message_Content_Type": JSON}
        record = recordio.encode(health)
        table: list[tuple[bytes, dict[str, Any], int, str]] = [
            (health, {"method": "GET"}, 405, "Expecting one of { 'POST' }"),
            (health, {"Content_Type": None}, 400, "Expecting 'Content-Type' to be present"),
            (health, {"Content_Type": "a/b"}, 415, f"Expecting 'Content-Type' of {three}"),
            (health, {"Message_Content_Type": JSON}, 415, "'Message-Content-Type' to be not set"),
            (record, {"Content_Type": RECORDIO}, 400, "'Message-Content-Type' to be set"),
            (
                record,
                {"Content_Type": RECORDIO, "Message_Content_Type": "a/b"},
                415,
                "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
            ),
            (b"{", {"Accept": "text/html"}, 406, f"Expecting 'Accept' to allow {three}"),
            (health, {"Message_Accept": JSON}, 406, "Expecting 'Message-Accept' to be not set"),
            (
                health,
                {"Accept": RECORDIO, "Message_Accept": "a/b"},
                406,
                "Expecting 'Message-Accept' to allow application/json or application/x-protobuf",
            ),
            (b"{", {}, 400, "Failed to parse body into JSON: "),
            (
                b"\xff",
                {"Content_Type": PROTOBUF},
                400,
                "Failed to parse body into a protobuf object",
            ),
            (b"", stream, 400, "Received EOF while reading request body"),
            (b"x", stream, 400, "Received EOF while reading request body"),
            (
                b'{"type":"READ_FILE"}',
                {},
                400,
                "Failed to validate agent::Call: Expecting 'read_file' to be present",
            ),
            (
                record,
                stream,
                415,
                "application/recordio is not supported for GET_HEALTH call",
            ),
            (
                to_json(call("ATTACH_CONTAINER_INPUT")),
                {},
                415,
                "'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call",
            ),
            (
                health,
                {"Accept": RECORDIO},
                406,
                "Streaming response is not supported for GET_HEALTH call",
            ),
        ]
        for body, headers, status, why in table:
            answer = self.post(body, path=PATH, **headers)
            self.assertEqual(status, answer[0], (body, headers, answer[2]))
            self.assertIn(why, answer[2].decode())

    def test_recovering_agent_answers_nothing_else(self) -> None:
        self.service.state.phase = Phase.RECOVERING
        self.assertEqual((503, b"Agent has not finished recovery"), self.ask("GET_HEALTH")[::2])
