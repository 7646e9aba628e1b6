"""The v1 executor API of an agent: every answer it gives, and what streams carry.

The order of checks and the texts are those of Mesos' C{Http::executor} (C{src/slave/http.cpp}).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

from twisted.internet.address import IPv4Address

from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.mesos_pb2 import KillPolicy
from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.quick import QuickExchange
from tests.agent.bench import AGENT_ID, FRAMEWORK_ID, custom_executor, framework, task
from tests.agent.http_peers import ExecutorHttpTestCase, Stream, call, subscription, update
from tests.master.http_peers import JSON, PROTOBUF
from tests.messages import golden

NOT_ACCEPTABLE = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
RUNNING, FINISHED, STAGING = 1, 2, 6

# Mixins where tests are collected, test cases where types are checked.
if TYPE_CHECKING:
    _Base = ExecutorHttpTestCase
else:
    _Base = object


def uuid(name: str) -> bytes:
    """Return the uuid of an update."""
    return uuid5(NAMESPACE_OID, name).bytes


def message(executor_id: str = "e", framework_id: str = FRAMEWORK_ID) -> Call:
    """Return a call that means nothing but its names."""
    return call(Call.MESSAGE, executor_id, framework_id, message={"data": b"up"})


class _Refusals(_Base):
    """What is refused, in the order in which it is looked at."""

    def check(self, answer: Any, status: int, text: str) -> None:
        """An answer has this status and text."""
        self.assertEqual((status, text), (answer[0], answer[2].decode()))
        self.assertEqual(str(len(answer[2])), answer[1]["content-length"])
        self.assertEqual("content-type" in answer[1], bool(text))
        self.assertIn("date", answer[1])

    def test_calls_take_the_short_way_and_what_subscribes_the_long_one(self) -> None:
        quick: list[str] = []
        taken = self.service.executors.post

        def post(exchange: Any) -> None:
            if isinstance(exchange, QuickExchange):
                quick.append(exchange.body.decode("latin-1"))
            taken(exchange)

        self.patch(self.service.executors, "post", post)
        self.run_task()
        stream = self.stream(subscription())
        self.turn()
        self.assertEqual("SUBSCRIBED", stream.types()[0])
        self.assertEqual([], quick)
        connection = self.connection()
        calls = [update(RUNNING, uuid=uuid("a")), message(), subscription(), message()]
        connection.send(b"".join(self.request(one) for one in calls))
        self.turn()
        self.assertEqual(2, len(quick))
        statuses = re.findall(rb"HTTP/1.1 (\d+) ", connection.heard)
        self.assertEqual([b"202", b"202", b"200"], statuses)

    def test_agent_that_does_not_know_yet_what_it_has(self) -> None:
        self.service.state.recovery.found = False
        for body, method in ((b"garbage", "GET"), (subscription(), "POST"), (message(), "POST")):
            answer = self.post(body, method=method)
            self.check(answer, 503, "Agent has not finished recovery")

    def test_other_methods(self) -> None:
        for method in ("GET", "PUT", "DELETE"):
            answer = self.post(b"garbage", method=method, Content_Type=None)
            why = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
            self.check(answer, 405, why)
            self.assertEqual("POST", answer[1]["allow"])

    def test_content_types(self) -> None:
        answer = self.post(b"garbage", Content_Type=None)
        self.check(answer, 400, "Expecting 'Content-Type' to be present")
        why = "Expecting 'Content-Type' of application/json or application/x-protobuf"
        for kind in ("application/json; charset=utf-8", "text/plain"):
            self.check(self.post(subscription(), Content_Type=kind), 415, why)

    def test_call_that_is_not_valid(self) -> None:
        why = "Failed to validate Executor::Call: Expecting"
        bare = Call()
        bare.executor_id.value = bare.framework_id.value = "x"
        self.check(self.post(bare), 400, f"{why} 'type' to be present")
        self.check(self.post(call(Call.SUBSCRIBE)), 400, f"{why} 'subscribe' to be present")
        self.check(self.post(call(Call.UPDATE)), 400, f"{why} 'update' to be present")
        self.check(self.post(call(Call.MESSAGE)), 400, f"{why} 'message' to be present")
        nameless = update()
        nameless.update.status.ClearField("uuid")
        self.check(self.post(nameless), 400, f"{why} 'uuid' to be present")

    def test_update_that_is_not_valid(self) -> None:
        why = "Failed to validate Executor::Call: "
        of = f"from executor e of framework {FRAMEWORK_ID}"
        wrong = update(STAGING)
        text = f"{why}Received TASK_STAGING {of} which is not allowed"
        self.check(self.post(wrong), 400, text)
        wrong = update()
        wrong.update.status.source = 1  # type: ignore[assignment]
        text = f"{why}Received Call {of} with invalid source, expecting 'SOURCE_EXECUTOR'"
        self.check(self.post(wrong), 400, text)
        wrong = update(uuid=b"short")
        self.check(self.post(wrong), 400, f"{why}Not a valid UUID")
        wrong = update()
        wrong.update.status.executor_id.value = "f"
        text = f"{why}ExecutorID in Call: e does not match ExecutorID in TaskStatus: f"
        self.check(self.post(wrong), 400, text)

    def test_accept_that_allows_neither_type(self) -> None:
        self.run_task()
        for allowed in ("text/html", "application/json;q=0", ""):
            self.check(self.post(subscription(), Accept=allowed), 406, NOT_ACCEPTABLE)
        self.assertEqual("REGISTERING", self.executor().state.value)
        # It is looked at in SUBSCRIBE alone.
        self.stream(subscription())
        self.check(self.post(message(), Accept="text/html"), 202, "")

    def test_heartbeat_is_taken_from_anybody(self) -> None:
        self.check(self.post(call(Call.HEARTBEAT, "nobody", "nowhere")), 202, "")

    def test_framework_and_executor_that_nobody_knows(self) -> None:
        for kind in (subscription, message):
            self.check(self.post(kind()), 400, "Framework cannot be found")
        self.run_task()
        for kind in (subscription, message):
            self.check(self.post(kind("other")), 400, "Executor cannot be found")

    def test_executor_that_has_not_subscribed(self) -> None:
        self.run_task()
        for one in (message(), update()):
            self.check(self.post(one), 403, "Executor is not subscribed")

    def test_executor_that_has_shown_its_token_must_show_it(self) -> None:
        self.run_task()
        token = self.environment["MESOSKIT_EXECUTOR_TOKEN"]
        native = self.world.connect(self.service, Role.EXECUTOR, token)
        self.world.send(native, subscription())
        for one in (subscription(), message(), update()):
            self.assertEqual(403, self.post(one)[0])
        self.assertIsNone(native.lost_why)

    def test_call_without_a_meaning(self) -> None:
        self.run_task()
        self.stream(subscription())
        self.check(self.post(call(Call.UNKNOWN)), 501, "501 Not Implemented.")

    def executor(self) -> Any:
        """Return what the agent knows of the executor."""
        return self.service.state.frameworks[FRAMEWORK_ID].executors["e"]  # type: ignore[index]


class _Streams(_Base):
    """What streams carry, from SUBSCRIBED to their ends."""

    def subscribed(self, **more: Any) -> Stream:
        """Let an executor with one task subscribe."""
        self.info = self.run_task()
        return self.stream(subscription(), **more)

    def running(self) -> Stream:
        """The same, and the task runs."""
        stream = self.subscribed()
        self.assertEqual(202, self.post(update())[0])
        self.world.acknowledge(self.master)
        return stream

    def field(self, event: Any, *names: str) -> Any:
        """Return what stands under these names in an event."""
        for name in names:
            event = event[name] if self.media == JSON else getattr(event, name)
        return event

    def test_stream_is_chunked_and_has_no_id(self) -> None:
        status, headers = self.subscribed().head
        self.assertEqual(200, status)
        headers.pop("date")
        expected = {"content-type": self.media, "transfer-encoding": "chunked"}
        self.assertEqual(expected, headers)

    def test_subscribed_says_who_and_where_and_the_task_follows(self) -> None:
        stream = self.subscribed()
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], stream.types())
        subscribed, launch = stream.events()
        for names, value in (
            (("executor_info", "executor_id", "value"), "e"),
            (("executor_info", "framework_id", "value"), FRAMEWORK_ID),
            (("framework_info", "id", "value"), FRAMEWORK_ID),
            (("agent_info", "id", "value"), AGENT_ID),
            (("agent_info", "hostname"), "host.example"),
        ):
            self.assertEqual(value, self.field(subscribed, "subscribed", *names))
        self.assertTrue(self.field(subscribed, "subscribed", "container_id", "value"))
        self.assertEqual("t", self.field(launch, "launch", "task", "task_id", "value"))

    def test_both_paths_and_what_is_under_them(self) -> None:
        self.run_task()
        for path in ("/api/v1/executor", "/slave(1)/api/v1/executor", "/api/v1/executor/x"):
            self.assertEqual(200, self.stream(subscription(), path=path).head[0])

    def test_empty_stream_id_means_nothing(self) -> None:
        stream = self.subscribed(Mesos_Stream_Id="")
        self.assertEqual(200, stream.head[0])
        for stream_id in ("", "nonsense"):
            self.assertEqual(202, self.post(message(), Mesos_Stream_Id=stream_id)[0])

    def test_client_that_wants_the_connection_closed_keeps_its_stream(self) -> None:
        stream = self.subscribed(Connection="close")
        self.turn(70)
        self.run_task("u")
        self.assertEqual(["SUBSCRIBED", "LAUNCH", "LAUNCH"], stream.types())
        self.assertFalse(stream.closed)

    def test_update_is_stored_acknowledged_and_forwarded(self) -> None:
        stream = self.subscribed()
        answer = self.post(update())
        self.assertEqual((202, b"", "0"), (answer[0], answer[2], answer[1]["content-length"]))
        self.assertEqual("ACKNOWLEDGED", stream.types()[-1])
        event = stream.events()[-1]
        self.assertEqual("t", self.field(event, "acknowledged", "task_id", "value"))
        uuid = "MDEyMzQ1Njc4OWFiY2RlZg==" if self.media == JSON else b"0123456789abcdef"
        self.assertEqual(uuid, self.field(event, "acknowledged", "uuid"))
        self.assertEqual(["TASK_RUNNING"], self.master.states())

    def test_calls_one_behind_the_other_on_one_connection(self) -> None:
        stream = self.subscribed()
        calls = [update(RUNNING, uuid=uuid("a")), message(), update(FINISHED, uuid=uuid("b"))]
        connection = self.connection()
        connection.send(b"".join(map(self.request, calls)))
        self.assertEqual([202] * 3, [answer[0] for answer in connection.answers()])
        self.assertEqual(["ACKNOWLEDGED"] * 2, stream.types()[2:])
        self.world.acknowledge(self.master)
        self.assertEqual(["TASK_RUNNING", "TASK_FINISHED"], self.master.states())

    def test_messages_go_both_ways(self) -> None:
        stream = self.running()
        self.post(message())
        (up,) = self.sent(internal.ExecutorToFrameworkMessage)
        self.assertEqual((b"up", "e"), (up.data, up.executor_id.value))
        down = internal.FrameworkToExecutorMessage(data=b"down")
        down.slave_id.value, down.framework_id.value = AGENT_ID, FRAMEWORK_ID
        down.executor_id.value = "e"
        self.world.send(self.master, down)
        self.assertEqual("MESSAGE", stream.types()[-1])
        data = "ZG93bg==" if self.media == JSON else b"down"
        self.assertEqual(data, self.field(stream.events()[-1], "message", "data"))

    def test_kill_comes_with_its_policy(self) -> None:
        stream = self.running()
        kill = internal.KillTaskMessage(kill_policy=KillPolicy(grace_period={"nanoseconds": 2}))
        kill.framework_id.value, kill.task_id.value = FRAMEWORK_ID, "t"
        self.world.send(self.master, kill)
        event = stream.events()[-1]
        self.assertEqual("t", self.field(event, "kill", "task_id", "value"))
        grace = self.field(event, "kill", "kill_policy", "grace_period", "nanoseconds")
        self.assertEqual(2, grace)

    def test_group_comes_as_a_group(self) -> None:
        run = internal.RunTaskGroupMessage(framework=framework(), executor=custom_executor())
        run.task_group.tasks.extend([task("t"), task("u")])
        self.world.send(self.master, run)
        stream = self.stream(subscription())
        self.assertEqual(["SUBSCRIBED", "LAUNCH_GROUP"], stream.types())
        tasks = self.field(stream.events()[1], "launch_group", "task_group", "tasks")
        self.assertEqual(["t", "u"], [self.field(one, "task_id", "value") for one in tasks])

    def test_heartbeats_come_at_their_interval_and_not_before(self) -> None:
        stream = self.subscribed()
        self.turn(1799)
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], stream.types())
        self.turn(1)
        self.assertEqual(["HEARTBEAT"], stream.types()[2:])
        self.turn(1800)
        self.assertEqual(["HEARTBEAT"] * 2, stream.types()[2:])

    def test_shutdown_and_the_end_of_the_container(self) -> None:
        stream = self.running()
        end = internal.ShutdownExecutorMessage()
        end.framework_id.value, end.executor_id.value = FRAMEWORK_ID, "e"
        self.world.send(self.master, end)
        self.assertEqual("SHUTDOWN", stream.types()[-1])
        self.assertFalse(stream.ended)
        self.assertEqual(202, self.post(update(4, uuid=uuid("k")))[0])
        self.assertEqual("ACKNOWLEDGED", stream.types()[-1])
        self.turn(5)
        self.assertTrue(stream.ended)
        self.assertEqual({}, self.service.executors.streams)

    def test_second_subscription_ends_the_older_stream(self) -> None:
        first = self.running()
        second = self.stream(subscription())
        self.assertTrue(first.ended)
        self.assertFalse(first.closed)
        self.assertEqual(["SUBSCRIBED"], second.types())
        first.leave()
        self.run_task("u")
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], second.types())
        self.assertEqual(202, self.post(update(uuid=uuid("c")))[0])

    def test_executor_comes_back_with_what_was_not_acknowledged(self) -> None:
        stream = self.running()
        stream.leave()
        finished = update(FINISHED, uuid=uuid("f")).update
        stream = self.stream(
            subscription(unacknowledged_updates=[finished], unacknowledged_tasks=[self.info])
        )
        self.assertEqual(["SUBSCRIBED", "ACKNOWLEDGED"], stream.types())
        stream.leave()
        stream = self.stream(subscription(unacknowledged_updates=[finished]))
        self.assertEqual(["SUBSCRIBED", "ACKNOWLEDGED"], stream.types())
        self.world.acknowledge(self.master)
        self.assertEqual(["TASK_RUNNING", "TASK_FINISHED"], self.master.states())

    def test_task_that_the_executor_knows_nothing_of_is_lost(self) -> None:
        self.subscribed().leave()
        self.stream(subscription())
        self.assertEqual(["TASK_LOST"], self.master.states())

    def test_task_that_the_executor_knows_is_kept(self) -> None:
        self.subscribed().leave()
        self.stream(subscription(unacknowledged_tasks=[self.info]))
        self.assertEqual([], self.master.states())

    def test_calls_are_taken_while_the_stream_is_broken(self) -> None:
        self.subscribed().leave()
        self.assertEqual(202, self.post(update())[0])
        self.assertEqual(["TASK_RUNNING"], self.master.states())

    def test_second_connection_may_be_idle(self) -> None:
        self.subscribed()
        connection = self.connection()
        for _ in range(3):
            connection.send(self.request(message()))
            self.turn(70)
            self.world.send(self.master, internal.PingSlaveMessage(connected=True))
        self.assertFalse(connection.closed)
        self.assertEqual([202] * 3, [answer[0] for answer in connection.answers()])

    def test_executor_that_does_not_come_back_is_destroyed(self) -> None:
        self.running().leave()
        self.turn(61)
        self.world.acknowledge(self.master)
        self.assertEqual(["TASK_RUNNING", "TASK_LOST"], self.master.states())

    def test_two_executors_are_not_mixed_up(self) -> None:
        first = self.subscribed()
        self.run_task("u", "f")
        second = self.stream(subscription("f"))
        self.assertEqual(202, self.post(update())[0])
        ours = update(task_id="u", uuid=uuid("u"))
        ours.executor_id.value = "f"
        self.assertEqual(202, self.post(ours)[0])
        expected = ["SUBSCRIBED", "LAUNCH", "ACKNOWLEDGED"]
        self.assertEqual([expected] * 2, [first.types(), second.types()])

    def test_agent_that_stops_ends_every_stream_and_takes_nothing(self) -> None:
        stream = self.running()
        self.service.abandon()
        self.turn()
        self.assertTrue(stream.ended)
        self.assertEqual({}, self.service.executors.streams)
        self.assertEqual(503, self.post(subscription())[0])


class JsonRefusalTests(_Refusals, ExecutorHttpTestCase):
    """Refusals of JSON."""

    media = JSON

    def test_bodies_that_are_no_calls(self) -> None:
        answer = self.post(b"{")
        self.assertEqual(400, answer[0])
        self.assertTrue(answer[2].startswith(b"Failed to parse body into JSON: "), answer)
        for body in (b"[]", b'{"type": 17}', b'{"type": "SUBSCRIBE"}'):
            answer = self.post(body)
            self.assertEqual(400, answer[0])
            start = b"Failed to convert JSON into Call protobuf: "
            self.assertTrue(answer[2].startswith(start), answer)


class ProtobufRefusalTests(_Refusals, ExecutorHttpTestCase):
    """Refusals of protobuf."""

    media = PROTOBUF

    def test_bodies_that_are_no_calls(self) -> None:
        for body in (b"\xff", Call(type=Call.HEARTBEAT).SerializePartialToString()):
            why = "Failed to parse body into Call protobuf"
            self.check(self.post(body), 400, why)


class JsonStreamTests(_Streams, ExecutorHttpTestCase):
    """Streams of JSON."""

    media = JSON

    def test_without_accept_it_is_json(self) -> None:
        self.assertEqual(JSON, self.subscribed(Accept=None).head[1]["content-type"])


class ProtobufStreamTests(_Streams, ExecutorHttpTestCase):
    """Streams of protobuf."""

    media = PROTOBUF

    def test_accept_chooses_whatever_the_call_is_in(self) -> None:
        self.run_task()
        stream = Stream(self, JSON, self.request(subscription(), Accept=JSON))  # type: ignore[arg-type]
        self.assertEqual(["SUBSCRIBED", "LAUNCH"], stream.types())


class RecordingTests(ExecutorHttpTestCase):
    """Executors of a real cluster, as recorded: what they say is answered as it was there."""

    def calls(self, executor_id: str) -> list[Call]:
        """Return what an executor of scenario 06 said, in its order."""
        recorded = [
            one.message()
            for one in golden.bodies()
            if one.where.endswith("(scenarios 06), mesos.v1.executor.Call")
        ]
        return [
            one
            for one in recorded
            if isinstance(one, Call) and one.executor_id.value == executor_id
        ]

    def test_life_of_a_command_executor(self) -> None:
        for executor_id, expected in (
            ("short", ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]),
            ("long", ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]),
        ):
            self.master.messages.clear()
            subscribe, *updates = self.calls(executor_id)
            info = framework()
            info.id.CopyFrom(subscribe.framework_id)
            self.run_task(executor_id, executor_id, info)
            stream = self.stream(subscribe.SerializeToString(), path="/slave(1)/api/v1/executor")
            connection = self.connection()
            for one in updates:
                connection.send(self.request(one, path="/slave(1)/api/v1/executor"))
                self.world.acknowledge(self.master)
            heads = [(answer[0], sorted(answer[1]), answer[2]) for answer in connection.answers()]
            self.assertEqual([(202, ["content-length", "date"], b"")] * len(updates), heads)
            acknowledged = ["ACKNOWLEDGED"] * len(updates)
            self.assertEqual(["SUBSCRIBED", "LAUNCH", *acknowledged], stream.types())
            self.assertEqual(expected, self.master.states())

    def test_events_have_the_fields_that_were_recorded(self) -> None:
        stream = self.stream_of_short()
        recorded: dict[str, set[str]] = {}
        for one in golden.bodies():
            if "06" in one.where and one.name == "mesos.v1.executor.Event":
                event = one.message()
                assert isinstance(event, Event)
                recorded.setdefault(Event.Type.Name(event.type), fields(event))
        for event in stream.events():
            name = Event.Type.Name(event.type)
            self.assertTrue(fields(event) >= recorded[name], (name, fields(event)))

    def stream_of_short(self) -> Stream:
        """Let a recorded executor subscribe and make an update."""
        subscribe, first, *_ = self.calls("short")
        info = framework()
        info.id.CopyFrom(subscribe.framework_id)
        self.run_task("short", "short", info)
        stream = self.stream(subscribe)
        self.post(first)
        return stream


def fields(event: Event) -> set[str]:
    """Return the names of the fields of an event that are set, and of what it carries."""
    names = set()
    for field, value in event.ListFields():
        names.add(field.name)
        if field.message_type is not None:
            names |= {f"{field.name}.{one.name}" for one, _ in value.ListFields()}
    return names


class EnvironmentTests(ExecutorHttpTestCase):
    """What an executor finds in its environment leads it to its agent."""

    def test_names_and_places(self) -> None:
        self.run_task()
        found = self.environment
        for name, value in (
            ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
            ("MESOS_SLAVE_PID", "slave(1)@127.0.0.1:5051"),
            ("MESOS_FRAMEWORK_ID", FRAMEWORK_ID),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_SLAVE_ID", AGENT_ID),
            ("MESOS_CHECKPOINT", "0"),
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
            ("LIBPROCESS_PORT", "0"),
        ):
            self.assertEqual(value, found.get(name), name)
        for name in ("MESOS_DIRECTORY", "MESOS_SANDBOX"):
            self.assertTrue(found[name].startswith(self.service.state.options.work_dir))
        self.assertNotIn("MESOS_RECOVERY_TIMEOUT", found)

    def test_framework_that_is_checkpointed(self) -> None:
        self.run_task(info=framework(checkpoint=True))
        found = self.environment
        self.assertEqual("1", found["MESOS_CHECKPOINT"])
        self.assertEqual("15mins", found["MESOS_RECOVERY_TIMEOUT"])
        self.assertEqual("2secs", found["MESOS_SUBSCRIPTION_BACKOFF_MAX"])

    def endpoint(self, *endpoints: str, **options: Any) -> str:
        """Return what executors are told by an agent that listens there."""
        listen = self.world.reactor.listenTCP

        def listening(port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            real = listen(port, factory, backlog, interface)
            # One in memory says that it listens everywhere.
            real.getHost = lambda: IPv4Address("TCP", interface or "0.0.0.0", port)
            return real

        self.world.reactor.listenTCP = listening
        self.world.options = replace(self.world.options, **options)
        service = self.world.agent(*endpoints)
        return service.state.options.local_endpoint

    def test_agent_is_where_it_listens_whatever_it_advertises(self) -> None:
        told = self.endpoint("tcp:6051:interface=127.0.0.9", ip="203.0.113.7", port=7051)
        self.assertEqual("127.0.0.9:6051", told)

    def test_agent_is_where_it_is_reached_without_more(self) -> None:
        told = self.endpoint("unix:/nowhere", "tcp:6052:interface=127.0.0.9", "tcp:6053")
        self.assertEqual("127.0.0.9:6052", told)
        self.assertEqual("", self.endpoint("unix:/nowhere"))

    def test_agent_that_listens_everywhere_is_at_an_address_of_this_machine(self) -> None:
        advertised = {"ip": "203.0.113.7", "port": 7051}
        told = self.endpoint("tcp:6051", **advertised, local_ip="127.0.0.8")
        self.assertEqual("127.0.0.8:6051", told)
