"""The v1 scheduler API of a master: every answer it gives, and what streams carry.

The order of checks and the texts are those of Mesos' C{Master::Http::scheduler}
(C{src/master/http.cpp}).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesoskit.master.options import MasterOptions
from mesoskit.messages.codec import from_json
from mesoskit.messages.mesos_pb2 import MasterInfo
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.wire.exchange import Asked, Away, Identified, Principal
from mesoskit.wire.link import Hello
from tests.master.bench import (
    accept,
    acknowledge,
    scheduler_call,
    subscription,
    task,
    update,
    uuid,
)
from tests.master.http_peers import JSON, PROTOBUF, Connection, HttpTestCase, Stream

NOT_ACCEPTABLE = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"

# Mixins where tests are collected, test cases where types are checked.
if TYPE_CHECKING:
    _Base = HttpTestCase
else:
    _Base = object


class _Refusals(_Base):
    """What is refused before, or instead of, being done; in the order in which it is looked at."""

    def check(self, answer: Any, status: int, text: str, **headers: str) -> None:
        """An answer has this status and text, and these headers."""
        self.assertEqual((status, text), (answer[0], answer[2].decode()))
        self.assertEqual(str(len(answer[2])), answer[1]["content-length"])
        if text:
            self.assertEqual("text/plain; charset=utf-8", answer[1]["content-type"])
        else:
            self.assertNotIn("content-type", answer[1])
        self.assertIn("date", answer[1])
        self.assertNotIn("server", answer[1])
        for name, value in headers.items():
            self.assertEqual(value, answer[1][name])

    def revive(self, stream: Stream) -> Call:
        return scheduler_call(Call.REVIVE, stream.framework_id)

    def test_master_that_does_not_lead_sends_to_the_leader(self) -> None:
        self.service.leader = MasterInfo(id="other", ip=1, port=5060, hostname="second.example")
        for path in ("/api/v1/scheduler", "/master/api/v1/scheduler"):
            answer = self.post(b"garbage", method="GET", path=path)
            location = "//second.example:5060/master/api/v1/scheduler"
            self.check(answer, 307, "", location=location)

    def test_nobody_leads(self) -> None:
        self.service.leader = None
        self.check(self.post(b"garbage", method="GET"), 503, "No leader elected")

    def test_master_that_has_not_read_its_registry(self) -> None:
        self.service.state.ready = False
        answer = self.post(b"garbage", method="GET")
        self.check(answer, 503, "Master has not finished recovery")

    def test_other_methods(self) -> None:
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            why = f"405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
            answer = self.post(b"garbage", method=method, Content_Type=None)
            self.check(answer, 405, why, allow="POST")

    def test_no_content_type(self) -> None:
        answer = self.post(b"garbage", Content_Type=None)
        self.check(answer, 400, "Expecting 'Content-Type' to be present")

    def test_other_content_types(self) -> None:
        why = "Expecting 'Content-Type' of application/json or application/x-protobuf"
        for kind in ("application/json; charset=utf-8", "Application/JSON", "text/plain"):
            self.check(self.post(subscription(), Content_Type=kind), 415, why)

    def test_headers_may_hold_any_bytes(self) -> None:
        for stream_id in ("\u00ff\u00fe", "a b", ""):
            request = self.request(scheduler_call(Call.REVIVE, "nobody"), stream_id)
            for value in (b"\xff", b"\xe2\x98\x83"):
                connection = Connection(self)
                connection.send(request.replace(b"Host: x", b"Host: x\r\nX-Any: " + value))
                ((status, _, why),) = connection.answers()
                self.assertEqual((400, b"Framework cannot be found"), (status, why))
        connection = Connection(self)
        head = b"POST /api/v1/scheduler HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 0\r\n\r\n"
        connection.send(head)
        self.assertEqual(415, connection.answers()[0][0])

    def test_call_that_is_not_valid(self) -> None:
        why = "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"
        self.check(self.post(Call(type=Call.SUBSCRIBE)), 400, why)
        why = "Failed to validate scheduler::Call: Expecting 'type' to be present"
        self.check(self.post(Call()), 400, why)
        why = "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"
        self.check(self.post(Call(type=Call.REVIVE)), 400, why)
        why = "Failed to validate scheduler::Call: Expecting 'kill' to be present"
        self.check(self.post(scheduler_call(Call.KILL, "f")), 400, why)
        self.assertEqual({}, self.service.schedulers.streams)

    def test_call_that_is_not_valid_comes_before_headers_that_are_not(self) -> None:
        why = "Failed to validate scheduler::Call: Expecting 'subscribe' to be present"
        self.check(self.post(Call(type=Call.SUBSCRIBE), "some-id", Accept="text/html"), 400, why)

    def test_accept_that_allows_neither_type(self) -> None:
        for allowed in ("text/html", "application/json;q=0", ""):
            answer = self.post(subscription(), "some-id", Accept=allowed)
            self.check(answer, 406, NOT_ACCEPTABLE)

    def test_accept_is_looked_at_where_an_answer_may_have_a_body(self) -> None:
        stream = self.stream(subscription())
        call = self.revive(stream)
        self.check(self.post(call, stream.id, Accept="text/html"), 202, "")
        call = scheduler_call(Call.RECONCILE_OPERATIONS, stream.framework_id)
        call.reconcile_operations.SetInParent()
        self.check(self.post(call, stream.id, Accept="text/html"), 406, NOT_ACCEPTABLE)
        self.check(self.post(call, stream.id), 202, "")

    def test_subscribe_with_a_stream_id(self) -> None:
        why = "Subscribe calls should not include the 'Mesos-Stream-Id' header"
        self.check(self.post(subscription(), "some-id"), 400, why)

    def test_framework_that_nobody_knows(self) -> None:
        call = scheduler_call(Call.REVIVE, "nobody")
        stream = self.stream(subscription())
        for stream_id in (None, "some-id", stream.id):
            self.check(self.post(call, stream_id), 400, "Framework cannot be found")

    def test_framework_that_is_not_subscribed(self) -> None:
        stream = self.stream(subscription(failover_timeout=60))
        call = self.revive(stream)
        stream.leave()
        for stream_id in (None, "some-id", stream.id):
            self.check(self.post(call, stream_id), 403, "Framework is not subscribed")

    def test_framework_that_came_another_way(self) -> None:
        framework = self.connect(Hello(role=3))
        framework.link.send(subscription())
        self.turn()
        framework_id = framework.messages[0].subscribed.framework_id.value
        call = scheduler_call(Call.REVIVE, framework_id)
        for stream_id in (None, "some-id"):
            self.check(self.post(call, stream_id), 403, "Framework is not connected via HTTP")

    def test_no_stream_id(self) -> None:
        stream = self.stream(subscription())
        why = "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
        self.check(self.post(self.revive(stream)), 400, why)

    def test_another_stream_id(self) -> None:
        first, second = self.stream(subscription()), self.stream(subscription())
        for stream_id in ("nonsense", second.id):
            why = (
                f"The stream ID '{stream_id}' included in this request didn't match the stream"
                f" ID currently associated with framework ID {first.framework_id}"
            )
            self.check(self.post(self.revive(first), stream_id), 400, why)

    def test_calls_that_are_taken(self) -> None:
        stream = self.stream(subscription())
        framework_id = stream.framework_id
        for kind, field in (
            (Call.ACCEPT, "accept"),
            (Call.DECLINE, "decline"),
            (Call.ACCEPT_INVERSE_OFFERS, "accept_inverse_offers"),
            (Call.DECLINE_INVERSE_OFFERS, "decline_inverse_offers"),
            (Call.REVIVE, None),
            (Call.SUPPRESS, None),
            (Call.RECONCILE, "reconcile"),
            (Call.REQUEST, "request"),
        ):
            call = scheduler_call(kind, framework_id)
            if field:
                getattr(call, field).SetInParent()
            self.check(self.post(call, stream.id), 202, "")
        call = scheduler_call(Call.KILL, framework_id)
        call.kill.task_id.value = "t"
        self.check(self.post(call, stream.id), 202, "")
        call = scheduler_call(Call.SHUTDOWN, framework_id)
        call.shutdown.executor_id.value = call.shutdown.agent_id.value = "x"
        self.check(self.post(call, stream.id), 202, "")
        call = scheduler_call(Call.MESSAGE, framework_id)
        call.message.executor_id.value = call.message.agent_id.value = "x"
        call.message.data = b"\xff"
        self.check(self.post(call, stream.id), 202, "")
        call = scheduler_call(Call.ACKNOWLEDGE, framework_id)
        call.acknowledge.agent_id.value = call.acknowledge.task_id.value = "x"
        call.acknowledge.uuid = uuid("x")
        self.check(self.post(call, stream.id), 202, "")
        call.acknowledge.uuid = b"short"
        self.assertEqual(400, self.post(call, stream.id)[0])
        self.check(self.post(scheduler_call(Call.TEARDOWN, framework_id), stream.id), 202, "")
        self.assertEqual({}, self.service.state.frameworks)

    def test_call_without_a_meaning(self) -> None:
        stream = self.stream(subscription())
        call = scheduler_call(Call.UNKNOWN, stream.framework_id)
        self.check(self.post(call, stream.id), 501, "501 Not Implemented.")

    def test_framework_that_is_updated(self) -> None:
        stream = self.stream(subscription(failover_timeout=60))
        call = scheduler_call(Call.UPDATE_FRAMEWORK, stream.framework_id)
        call.update_framework.framework_info.CopyFrom(
            subscription(id=stream.framework_id, name="other").subscribe.framework_info
        )
        self.check(self.post(call, stream.id), 200, "")
        call.update_framework.framework_info.user = "bob"
        status, _, text = self.post(call, stream.id)
        self.assertEqual(400, status)
        self.assertTrue(text.startswith(b"FrameworkInfo update is not valid: "), text)

    def test_store_that_has_nothing_to_do_with_it_is_not_waited_for(self) -> None:
        stream = self.stream(subscription())
        connection = Connection(self)
        calls = [self.request(self.revive(stream), stream.id) for _ in range(20)]
        connection.send(b"".join(calls))
        self.assertEqual([202] * 20, [status for status, _, _ in connection.answers()])


class JsonRefusals(_Refusals, HttpTestCase):
    """In JSON."""

    def test_body_that_is_not_json(self) -> None:
        for body in (b"", b"{", b"\xff", b"garbage", b"[" * 5000):
            status, _, text = self.post(body)
            self.assertEqual(400, status)
            self.assertTrue(text.startswith(b"Failed to parse body into JSON: "), text)

    def test_json_that_is_no_call(self) -> None:
        deep = b'{"subscribe":' * 200 + b"{}" + b"}" * 200
        for body in (b"[]", b'"x"', b'{"type":7}', b'{"framework_id":{}}', deep):
            status, _, text = self.post(body)
            self.assertEqual(400, status, body[:40])
            self.assertTrue(text.startswith(b"Failed to "), text)

    def test_protobuf_under_the_wrong_name(self) -> None:
        self.assertEqual(400, self.post(subscription().SerializeToString())[0])


class ProtobufRefusals(_Refusals, HttpTestCase):
    """In protobuf."""

    media = PROTOBUF

    def test_body_that_is_no_call(self) -> None:
        for body in (b"garbage", b"\x0a\xff", b"\x1a\x02\x0a\x00"):
            answer = self.post(body)
            self.check(answer, 400, "Failed to parse body into Call protobuf")


class AuthenticatedTests(HttpTestCase):
    """Where frameworks must say who they are; what proves it is another layer's business."""

    def setUp(self) -> None:
        super().setUp()
        self.service.schedulers.identify = self.identify

    def identify(self, asked: Asked) -> Identified:
        """Believe whoever is named."""
        said = asked.header("authorization")
        if said is None:
            challenge = 'Basic realm="mesos-master-scheduler"'
            return Away(401, headers={"WWW-Authenticate": challenge})
        return Principal(said) if said != "claims" else Away(403, "no value")

    def test_whoever_is_nobody_is_sent_away_before_anything_else(self) -> None:
        self.service.leader = None
        status, headers, body = self.post(b"garbage", method="GET")
        self.assertEqual((401, b""), (status, body))
        self.assertEqual('Basic realm="mesos-master-scheduler"', headers["www-authenticate"])
        status, _, body = self.post(b"garbage", Authorization="claims")
        self.assertEqual((403, b"no value"), (status, body))

    def test_principal_is_the_framework_s(self) -> None:
        stream = self.stream(subscription(), Authorization="alice")
        (framework,) = self.service.state.frameworks.values()
        self.assertEqual("alice", framework.info.principal)
        call = scheduler_call(Call.REVIVE, stream.framework_id)
        self.assertEqual(202, self.post(call, stream.id, Authorization="alice")[0])

    def test_principal_that_the_framework_denies(self) -> None:
        status, _, body = self.post(subscription(principal="bob"), Authorization="alice")
        self.assertEqual(400, status)
        self.assertIn(b"Authenticated principal 'alice' does not match principal 'bob'", body)

    def test_another_s_stream_id_is_worth_nothing(self) -> None:
        stream = self.stream(subscription(), Authorization="alice")
        for kind in (Call.REVIVE, Call.TEARDOWN):
            call = scheduler_call(kind, stream.framework_id)
            status, _, body = self.post(call, stream.id, Authorization="mallory")
            self.assertEqual(400, status)
            self.assertIn(b"Authenticated principal 'mallory' does not match", body)
        self.assertEqual(1, len(self.service.state.frameworks))


class _Streams(_Base):
    """What comes on a stream."""

    def test_answer_has_the_headers_that_clients_look_at(self) -> None:
        status, headers = self.stream(subscription()).head
        self.assertEqual((200, self.media), (status, headers["content-type"]))
        self.assertEqual("chunked", headers["transfer-encoding"])
        self.assertRegex(headers["mesos-stream-id"], r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
        self.assertEqual(
            {"content-type", "transfer-encoding", "mesos-stream-id", "date"}, set(headers)
        )

    def test_every_form_of_the_path(self) -> None:
        for path in ("/api/v1/scheduler/", "/master/api/v1/scheduler", "/api/v1/scheduler/x?y=z"):
            self.assertEqual(200, self.stream(subscription(), path=path).head[0])

    def test_type_follows_accept_and_not_the_body(self) -> None:
        other = PROTOBUF if self.media == JSON else JSON
        for allowed, expected in (
            (other, other),
            (None, JSON),
            ("*/*", JSON),
            ("application/*;q=0.5", JSON),
            (f"text/html, {PROTOBUF} ; q=1", PROTOBUF),
            (f"{JSON};q=0, {PROTOBUF}", PROTOBUF),
        ):
            stream = self.stream(subscription(), Accept=allowed)
            stream.media = expected
            self.assertEqual((200, expected), (stream.head[0], stream.head[1]["content-type"]))
            self.assertEqual(["SUBSCRIBED", "HEARTBEAT"], stream.types())

    def test_subscribed_is_followed_by_a_heartbeat_at_once_and_one_each_interval(self) -> None:
        stream = self.stream(subscription())
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT"], stream.types())
        self.clock.advance(14.9)
        self.assertEqual(1, stream.types().count("HEARTBEAT"))
        for count in range(2, 6):
            self.clock.advance(0.1 if count == 2 else 15)
            self.assertEqual(count, stream.types().count("HEARTBEAT"))

    def test_offers_come_after_that(self) -> None:
        self.register()
        stream = self.stream(subscription())
        self.clock.advance(0.1)
        self.turn()
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT", "OFFERS"], stream.types())

    def test_stream_stays_where_the_client_says_close(self) -> None:
        stream = self.stream(subscription(), Connection="close")
        for _ in range(7):
            self.clock.advance(15)
        self.assertFalse(stream.closed)
        self.assertGreater(stream.types().count("HEARTBEAT"), 5)

    def test_stream_of_an_idle_client_is_not_closed(self) -> None:
        stream = self.stream(subscription())
        for _ in range(40):
            self.clock.advance(15)
        self.assertFalse(stream.closed)

    def test_client_that_leaves_is_disconnected(self) -> None:
        stream = self.stream(subscription(failover_timeout=60))
        (framework,) = self.service.state.frameworks.values()
        stream.leave()
        self.assertFalse(framework.connected)
        self.clock.advance(60)
        self.turn()
        self.assertEqual({}, self.service.state.frameworks)

    def test_subscribing_again_ends_the_stream_before(self) -> None:
        first = self.stream(subscription(failover_timeout=60))
        framework_id = first.framework_id
        second = self.stream(subscription(id=framework_id, failover_timeout=60))
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT", "ERROR"], first.types())
        self.assertIn("Framework failed over", str(first.events()[-1]))
        self.assertTrue(first.ended)
        self.assertFalse(first.closed)
        self.assertEqual((framework_id, False), (second.framework_id, second.ended))
        self.assertNotEqual(first.id, second.id)
        self.assertEqual([second.id], list(self.service.schedulers.streams))
        answer = self.post(scheduler_call(Call.REVIVE, framework_id), second.id)
        self.assertEqual(202, answer[0])

    def test_connection_of_a_stream_that_ended_can_be_used_again(self) -> None:
        first = self.stream(subscription(failover_timeout=60))
        self.stream(subscription(id=first.framework_id, failover_timeout=60))
        before = len(first.heard)
        first.send(self.request(b"", method="GET", path="/health"))
        self.assertIn(b"HTTP/1.1 200 OK", first.heard[before:])

    def test_error_is_an_event_and_the_end(self) -> None:
        stream = self.stream(subscription(roles=["a"]))
        self.assertEqual((200, ["ERROR"], True), (stream.head[0], stream.types(), stream.ended))
        self.assertEqual({}, self.service.schedulers.streams)

    def test_framework_that_was_removed(self) -> None:
        first = self.stream(subscription())
        framework_id = first.framework_id
        first.leave()
        self.clock.advance(0)
        self.turn()
        stream = self.stream(subscription(id=framework_id))
        self.assertIn("Framework has been removed", str(stream.events()[0]))
        self.assertEqual((["ERROR"], True), (stream.types(), stream.ended))

    def test_teardown_ends_the_stream_without_an_error(self) -> None:
        stream = self.stream(subscription())
        call = scheduler_call(Call.TEARDOWN, stream.framework_id)
        self.assertEqual(202, self.post(call, stream.id)[0])
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT"], stream.types())
        self.assertTrue(stream.ended)
        self.assertFalse(stream.closed)

    def test_call_behind_a_teardown_is_refused(self) -> None:
        stream = self.stream(subscription())
        framework_id = stream.framework_id
        connection = Connection(self)
        connection.send(
            self.request(scheduler_call(Call.TEARDOWN, framework_id), stream.id)
            + self.request(scheduler_call(Call.REVIVE, framework_id), stream.id)
        )
        (first, second) = connection.answers()
        self.assertEqual((202, 400), (first[0], second[0]))
        self.assertEqual(b"Framework cannot be found", second[2])

    def test_update_is_sent_and_acknowledged(self) -> None:
        agent = self.register()
        stream = self.stream(subscription())
        self.clock.advance(0.1)
        self.turn()
        offer = self.offer(stream)
        self.assertEqual(202, self.post(accept(offer, task(offer, "t")), stream.id)[0])
        agent.link.send(update(offer, "t", "TASK_RUNNING"))
        self.turn()
        self.assertEqual("UPDATE", stream.types()[-1])
        before = len(agent.messages)
        call = acknowledge(offer, "t", "TASK_RUNNING")
        self.assertEqual(202, self.post(call, stream.id)[0])
        self.assertEqual(before + 1, len(agent.messages))
        self.assertEqual(uuid("tTASK_RUNNING"), agent.messages[-1].uuid)

    def offer(self, stream: Stream) -> Any:
        """Return the first offer that came."""
        record = stream.records()[stream.types().index("OFFERS")]
        event = from_json(Event, record) if self.media == JSON else Event.FromString(record)
        return event.offers.offers[0]

    def test_stopping_ends_streams_and_leaves_no_timer(self) -> None:
        stream = self.stream(subscription())
        stopped = self.service.stopService()
        self.turn()
        self.assertTrue(stream.ended)
        self.clock.advance(2)
        self.successResultOf(stopped)
        self.assertEqual(503, self.post(subscription())[0])
        stream.leave()
        self.assertEqual({}, self.service.schedulers.streams)

    def test_end_of_all_streams_waits_for_those_that_take_what_was_sent(self) -> None:
        stream = self.stream(subscription())
        stream.transport.producer.pauseProducing()
        self.register()
        self.clock.advance(1.1)
        self.turn()
        parted = self.service.schedulers.lose_all("the end")
        self.turn()
        self.assertNotIn("OFFERS", stream.types())
        self.assertNoResult(parted)
        stream.transport.producer.resumeProducing()
        self.turn()
        self.assertEqual("OFFERS", stream.types()[-1])
        self.assertTrue(stream.ended)
        self.successResultOf(parted)
        self.successResultOf(self.service.schedulers.lose_all("again"))


class JsonStreams(_Streams, HttpTestCase):
    """In JSON."""

    def test_text_beyond_ascii_is_escaped(self) -> None:
        stream = self.stream(subscription(id="f\u00fc\U0001f600"))
        self.assertEqual("f\u00fc\U0001f600", stream.framework_id)
        self.assertTrue(all(record.isascii() for record in stream.records()))

    def test_json_is_on_one_line(self) -> None:
        self.assertNotIn(b"\n", b"".join(self.stream(subscription()).records()))

    def test_null_and_unknown_fields_are_passed_over(self) -> None:
        body = (
            b'{"type":"SUBSCRIBE","framework_id":null,"x":1,"subscribe":{"framework_info":'
            b'{"user":"u","name":"n","id":null,"later":{"a":[1]}}}}'
        )
        stream = Stream(self, JSON, self.request(body))
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT"], stream.types())


class ProtobufStreams(_Streams, HttpTestCase):
    """In protobuf."""

    media = PROTOBUF


class IntervalTests(HttpTestCase):
    """The flag for heartbeats."""

    def options(self) -> MasterOptions:
        return MasterOptions(http_heartbeat_interval=2.5)

    def test_interval_is_told_and_kept(self) -> None:
        stream = self.stream(subscription())
        told = stream.events()[0]["subscribed"]["heartbeat_interval_seconds"]
        self.assertEqual(2.5, told)
        self.clock.advance(2.5)
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT", "HEARTBEAT"], stream.types())
