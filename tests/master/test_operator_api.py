"""The master's operator API: every call, both media types, refusals in their order, the events."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.message import Message

from mesoskit.master import operator_streams
from mesoskit.master.answers import state_tree
from mesoskit.master.operator_api import HANDLED, NOT_YET
from mesoskit.master.options import MasterOptions
from mesoskit.messages.codec import from_json, to_json
from mesoskit.messages.master_pb2 import Call, Event, Response
from mesoskit.messages.scheduler_pb2 import Call as SchedulerCall
from mesoskit.web.verbosity import VERBOSITY
from mesoskit.wire import together
from mesoskit.wire.link import Hello
from tests.master.bench import (
    accept,
    acknowledge,
    executor,
    registration,
    scheduler_call,
    task,
    update,
)
from tests.master.http_peers import JSON, PROTOBUF, Answer, HttpTestCase, Stream
from tests.master.test_service import Peer

PATH = "/api/v1"

#: What a call needs besides its type.
_NEEDED: dict[str, Any] = {
    "GET_METRICS": {"get_metrics": {}},
    "SET_LOGGING_LEVEL": {
        "set_logging_level": {"level": 1, "duration": {"nanoseconds": 60_000_000_000}}
    },
    "LIST_FILES": {"list_files": {"path": "/"}},
    "READ_FILE": {"read_file": {"path": "/", "offset": 0}},
    "UPDATE_WEIGHTS": {"update_weights": {}},
    "RESERVE_RESOURCES": {"reserve_resources": {"agent_id": {"value": "a"}}},
    "UNRESERVE_RESOURCES": {"unreserve_resources": {"agent_id": {"value": "a"}}},
    "CREATE_VOLUMES": {"create_volumes": {"agent_id": {"value": "a"}}},
    "DESTROY_VOLUMES": {"destroy_volumes": {"agent_id": {"value": "a"}}},
    "GROW_VOLUME": {
        "grow_volume": {
            "agent_id": {"value": "a"},
            "volume": {"name": "disk", "type": "SCALAR"},
            "addition": {"name": "disk", "type": "SCALAR"},
        }
    },
    "SHRINK_VOLUME": {
        "shrink_volume": {
            "agent_id": {"value": "a"},
            "volume": {"name": "disk", "type": "SCALAR"},
            "subtract": {"value": 1},
        }
    },
    "UPDATE_MAINTENANCE_SCHEDULE": {"update_maintenance_schedule": {"schedule": {}}},
    "START_MAINTENANCE": {"start_maintenance": {}},
    "STOP_MAINTENANCE": {"stop_maintenance": {}},
    "DRAIN_AGENT": {"drain_agent": {"agent_id": {"value": "a"}}},
    "DEACTIVATE_AGENT": {"deactivate_agent": {"agent_id": {"value": "a"}}},
    "REACTIVATE_AGENT": {"reactivate_agent": {"agent_id": {"value": "a"}}},
    "UPDATE_QUOTA": {"update_quota": {}},
    "SET_QUOTA": {"set_quota": {"quota_request": {}}},
    "REMOVE_QUOTA": {"remove_quota": {"role": "r"}},
    "TEARDOWN": {"teardown": {"framework_id": {"value": "nobody"}}},
    "MARK_AGENT_GONE": {"mark_agent_gone": {"agent_id": {"value": "nobody"}}},
}


def call(name: str, **fields: Any) -> Call:
    """Return a call with all that it needs, and no more."""
    return from_json(Call, json.dumps({"type": name, **_NEEDED.get(name, {}), **fields}))


class OperatorTestCase(HttpTestCase):
    """A master with an agent, a framework, tasks, and operators over HTTP."""

    framework: Peer
    agent: Peer
    offer: Any

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(1000)

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

    def populate(self) -> None:
        """Register an agent, and let a framework launch a task and an executor with another."""
        self.agent = self.register()
        self.framework = self.connect(Hello(role=3))
        self.framework.link.send(self.subscription())
        self.offer = self.next_offer()
        other = task(self.offer, "t2", executor=executor("e", self.offer.framework_id.value))
        self.framework.link.send(accept(self.offer, task(self.offer, "t1"), other))
        self.turn()

    def subscription(self) -> SchedulerCall:
        framework = scheduler_call(SchedulerCall.SUBSCRIBE, "")
        framework.ClearField("framework_id")
        info = framework.subscribe.framework_info
        info.user, info.name, info.failover_timeout = "root", "caf\u00e9", 3600
        return framework

    def next_offer(self) -> Any:
        self.turn()
        self.clock.advance(1.1)
        self.turn()
        offers = [one for one in self.framework.messages if one.HasField("offers")]
        return offers[-1].offers.offers[0]

    def watch(self, media: str | None = None) -> Watcher:
        """Subscribe as an operator."""
        media = media or self.media
        body = (
            to_json(call("SUBSCRIBE")) if media == JSON else call("SUBSCRIBE").SerializeToString()
        )
        request = self.request(body, path=PATH, Content_Type=media, Accept=media)
        return Watcher(self, media, request)


class Watcher(Stream):
    """A stream of events of an operator."""

    def events(self) -> list[Any]:
        """Return the events as messages."""
        if self.media == JSON:
            return [from_json(Event, record) for record in self.records()]
        return [Event.FromString(record) for record in self.records()]

    def types(self) -> list[str]:
        """Return the names of the events' types."""
        return [Event.Type.Name(event.type) for event in self.events()]


#: What calls that name nothing that is there are answered with.
_EXPECTED = {
    "TEARDOWN": 400,
    "MARK_AGENT_GONE": 404,
    "LIST_FILES": 404,
    "READ_FILE": 404,
    **dict.fromkeys(("DRAIN_AGENT", "DEACTIVATE_AGENT", "REACTIVATE_AGENT"), 400),
}


class Calls(OperatorTestCase):
    """What is asked once, in JSON."""

    def test_every_call_of_the_protocol_is_handled_or_named(self) -> None:
        self.assertEqual(set(Call.Type.keys()), HANDLED | NOT_YET)
        self.assertEqual(frozenset(), HANDLED & NOT_YET)
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.clock)
        for name in Call.Type.keys():
            if name == "SUBSCRIBE":
                continue
            status, _, body = self.ask(name)
            if name in NOT_YET:
                self.assertEqual(501, status, name)
                if name != "UNKNOWN":
                    self.assertIn(name.encode(), body)
            else:
                expected = _EXPECTED.get(name, 200)
                self.assertEqual(expected, status, (name, body))

    def test_calls_about_the_process(self) -> None:
        self.service.flags["port"] = "5050"
        self.assertTrue(self.response("GET_HEALTH").get_health.healthy)
        (flag,) = self.response("GET_FLAGS").get_flags.flags
        self.assertEqual(("port", "5050"), (flag.name, flag.value))
        self.assertEqual("1.12.0", self.response("GET_VERSION").get_version.version_info.version)
        metrics = {one.name: one.value for one in self.response("GET_METRICS").get_metrics.metrics}
        self.assertEqual(1.0, metrics["master/elected"])
        self.assertIn("system/cpus_total", metrics)

    def test_level_of_logging_goes_back_after_its_time(self) -> None:
        self.addCleanup(VERBOSITY.set, 0, 0.0, self.clock)
        level = lambda: self.response("GET_LOGGING_LEVEL").get_logging_level.level  # noqa: E731
        self.assertEqual(0, level())
        self.assertEqual((200, b""), self.ask("SET_LOGGING_LEVEL")[::2])
        self.assertEqual(1, level())
        self.clock.advance(60)
        self.assertEqual(0, level())

    def test_everything_is_shown(self) -> None:
        self.populate()
        state = self.response("GET_STATE").get_state
        self.assertEqual(["t1", "t2"], [one.task_id.value for one in state.get_tasks.tasks])
        (shown,) = state.get_executors.executors
        self.assertEqual("e", shown.executor_info.executor_id.value)
        (framework,) = state.get_frameworks.frameworks
        self.assertEqual("caf\u00e9", framework.framework_info.name)
        self.assertTrue(framework.active and framework.connected and not framework.recovered)
        self.assertGreater(framework.registered_time.nanoseconds, 0)
        self.assertFalse(framework.HasField("unregistered_time"))
        (agent,) = state.get_agents.agents
        self.assertEqual("agent.example", agent.agent_info.hostname)
        self.assertTrue(agent.active and not agent.deactivated)
        allocated = {one.name: one.scalar.value for one in agent.allocated_resources}
        self.assertEqual({"cpus": 2.1, "mem": 160.0}, allocated)
        self.assertEqual(list(framework.allocated_resources), list(agent.allocated_resources))
        self.assertEqual({"*"}, {one.allocation_info.role for one in agent.allocated_resources})

    def test_parts_of_the_state_are_those_of_the_whole(self) -> None:
        self.populate()
        state = self.response("GET_STATE").get_state
        self.assertEqual(state.get_tasks, self.response("GET_TASKS").get_tasks)
        self.assertEqual(state.get_agents, self.response("GET_AGENTS").get_agents)
        self.assertEqual(state.get_frameworks, self.response("GET_FRAMEWORKS").get_frameworks)
        self.assertEqual(state.get_executors, self.response("GET_EXECUTORS").get_executors)
        self.assertEqual(0, len(self.response("GET_OPERATIONS").get_operations.operations))

    def test_roles_weights_and_the_master(self) -> None:
        self.populate()
        (role,) = [one for one in self.response("GET_ROLES").get_roles.roles if one.name == "*"]
        self.assertEqual(self.offer.framework_id, role.frameworks[0])
        self.assertEqual(1.0, role.weight)
        (weight,) = self.response("GET_WEIGHTS").get_weights.weight_infos
        self.assertEqual(("heavy", 2.5), (weight.role, weight.weight))
        master = self.response("GET_MASTER").get_master
        self.assertEqual(self.service.state.info, master.master_info)
        self.assertEqual(self.service.state.started, master.elected_time)

    def test_weights_are_set_and_shown(self) -> None:
        given = {"update_weights": {"weight_infos": [{"role": " r ", "weight": 3}]}}
        self.assertEqual((200, b""), self.ask(call("UPDATE_WEIGHTS", **given))[::2])
        shown = self.response("GET_WEIGHTS").get_weights.weight_infos
        self.assertEqual([("heavy", 2.5), ("r", 3.0)], [(one.role, one.weight) for one in shown])
        given = {"update_weights": {"weight_infos": [{"role": "r", "weight": 0}]}}
        status, _, body = self.ask(call("UPDATE_WEIGHTS", **given))
        self.assertEqual(400, status)
        self.assertIn(b"Invalid weight '0': Weights must be positive", body)

    def test_nothing_is_drained_planned_or_limited(self) -> None:
        self.assertTrue(
            self.response("GET_MAINTENANCE_STATUS").get_maintenance_status.HasField("status")
        )
        self.assertTrue(
            self.response("GET_MAINTENANCE_SCHEDULE").get_maintenance_schedule.HasField("schedule")
        )
        self.assertTrue(self.response("GET_QUOTA").get_quota.HasField("status"))

    def test_framework_is_torn_down_and_agent_marked_gone(self) -> None:
        self.populate()
        wanted = call(
            "TEARDOWN", teardown={"framework_id": {"value": self.offer.framework_id.value}}
        )
        self.assertEqual((200, b""), self.ask(wanted)[::2])
        self.assertEqual((400, b"No framework found with specified ID"), self.ask(wanted)[::2])
        (framework,) = self.response("GET_FRAMEWORKS").get_frameworks.completed_frameworks
        self.assertGreater(framework.unregistered_time.nanoseconds, 0)
        ended = self.response("GET_TASKS").get_tasks.completed_tasks
        self.assertEqual(["t1", "t2"], [one.task_id.value for one in ended])
        gone = call(
            "MARK_AGENT_GONE", mark_agent_gone={"agent_id": {"value": self.offer.agent_id.value}}
        )
        self.assertEqual((200, b""), self.ask(gone)[::2])
        self.assertEqual(0, len(self.response("GET_AGENTS").get_agents.agents))
        self.assertEqual((404, b"Agent 'nobody' not found"), self.ask("MARK_AGENT_GONE")[::2])

    def options(self) -> MasterOptions:
        return MasterOptions(
            hostname="master.example",
            ip="10.0.0.1",
            port=5050,
            weights={"heavy": 2.5},
            max_operator_event_stream_subscribers=3,
        )


class CallsInProtobuf(Calls):
    """The same in protobuf."""

    media = PROTOBUF


class Requests(OperatorTestCase):
    """What is refused, and the first reason that is told."""

    def test_empty_lists_of_big_answers_are_written(self) -> None:
        shown = json.loads(self.ask("GET_STATE")[2])
        self.assertEqual(
            {
                "type": "GET_STATE",
                "get_state": {
                    "get_tasks": {"tasks": [], "unreachable_tasks": [], "completed_tasks": []},
                    "get_executors": {"executors": []},
                    "get_frameworks": {"frameworks": [], "completed_frameworks": []},
                    "get_agents": {"agents": [], "recovered_agents": []},
                },
            },
            shown,
        )

    def test_paths_that_clients_use(self) -> None:
        for path in ("/api/v1", "/master/api/v1", "/api/v1/", "/api/v1/operator"):
            answer = self.post(to_json(call("GET_HEALTH")), path=path)
            self.assertEqual(
                (200, b'{"type":"GET_HEALTH","get_health":{"healthy":true}}'), answer[::2]
            )

    def test_refusals(self) -> None:
        health = to_json(call("GET_HEALTH"))
        xml = {"Content_Type": "application/xml"}
        both = "Expecting 'Content-Type' of application/json or application/x-protobuf"
        accept = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
        table: list[tuple[bytes, dict[str, Any], int, str]] = [
            (health, {"method": "GET", **xml}, 405, "Expecting one of { 'POST' }"),
            (health, {"Content_Type": None}, 400, "Expecting 'Content-Type' to be present"),
            (health, {**xml, "Accept": "text/html"}, 415, both),
            (health, {"Content_Type": "application/json; charset=utf-8"}, 415, both),
            (b"{", {"Accept": "text/html"}, 400, "Failed to parse body into JSON: "),
            (b"[]", {}, 400, "Failed to convert JSON into Call protobuf: "),
            (b'{"type":"NO_SUCH"}', {}, 400, "Expecting 'type' to be present"),
            (b"\xff", {"Content_Type": PROTOBUF}, 400, "Failed to parse body into Call protobuf"),
            (
                b"{}",
                {"Accept": "text/html"},
                400,
                "Failed to validate master::Call: Expecting 'type' to be present",
            ),
            (
                b'{"type":"TEARDOWN"}',
                {},
                400,
                "Failed to validate master::Call: Expecting 'teardown' to be present",
            ),
            (health, {"Accept": "text/html"}, 406, accept),
            (to_json(call("SUBSCRIBE")), {"Accept": "text/html"}, 406, accept),
        ]
        for body, headers, status, why in table:
            answer = self.post(body, path=PATH, **headers)
            self.assertEqual(status, answer[0], (body, headers))
            self.assertIn(why, answer[2].decode())

    def test_answer_is_in_the_type_that_is_accepted(self) -> None:
        for accepted, written in (("*/*", JSON), (None, JSON), (PROTOBUF, PROTOBUF)):
            answer = self.ask("GET_HEALTH", Accept=accepted)
            self.assertEqual((200, written), (answer[0], answer[1]["content-type"]))

    def test_jsonp_is_not_for_protobuf(self) -> None:
        answer = self.post(to_json(call("GET_TASKS")), path=f"{PATH}?jsonp=f", Accept=PROTOBUF)
        self.assertEqual(Response.GET_TASKS, Response.FromString(answer[2]).type)

    def test_other_masters_send_away_or_wait(self) -> None:
        self.service.leader = None
        self.assertEqual((503, b"No leader elected"), self.ask("GET_HEALTH")[::2])
        self.service.leader = type(self.service.state.info)(
            id="other", ip=1, port=5051, hostname="other.example"
        )
        status, headers, _ = self.ask("SUBSCRIBE")
        self.assertEqual((307, "//other.example:5051/master/api/v1"), (status, headers["location"]))


class Events(OperatorTestCase):
    """What those hear who watch."""

    def options(self) -> MasterOptions:
        return MasterOptions(
            hostname="master.example", ip="10.0.0.1", max_operator_event_stream_subscribers=3
        )

    def test_stream_begins_with_the_state_and_a_heartbeat(self) -> None:
        self.populate()
        watcher = self.watch()
        status, headers = watcher.head
        self.assertEqual((200, self.media), (status, headers["content-type"]))
        self.assertNotIn("mesos-stream-id", headers)
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT"], watcher.types())
        subscribed = watcher.events()[0].subscribed
        self.assertEqual(15.0, subscribed.heartbeat_interval_seconds)
        self.assertEqual(self.response("GET_STATE").get_state, subscribed.get_state)

    def test_heartbeats_follow_at_their_interval(self) -> None:
        watcher = self.watch()
        for expected in (2, 3):
            self.clock.advance(14.9)
            self.assertEqual(expected - 1, watcher.types().count("HEARTBEAT"))
            self.clock.advance(0.1)
            self.assertEqual(expected, watcher.types().count("HEARTBEAT"))

    def test_life_of_a_cluster(self) -> None:
        watcher = self.watch()
        self.populate()
        self.agent.link.send(update(self.offer, "t1", "TASK_RUNNING"))
        self.agent.link.send(update(self.offer, "t1", "TASK_RUNNING"))
        self.agent.link.send(update(self.offer, "t1", "TASK_FINISHED", data=b"d"))
        self.turn()
        self.framework.link.send(acknowledge(self.offer, "t1", "TASK_FINISHED"))
        self.turn()
        change = scheduler_call(SchedulerCall.UPDATE_FRAMEWORK, self.offer.framework_id.value)
        info = change.update_framework.framework_info
        info.CopyFrom(self.subscription().subscribe.framework_info)
        info.id.value, info.name = self.offer.framework_id.value, "renamed"
        self.successResultOf(self.called(change))
        self.ask(call("TEARDOWN", teardown={"framework_id": {"value": info.id.value}}))
        self.ask(
            call(
                "MARK_AGENT_GONE",
                mark_agent_gone={"agent_id": {"value": self.offer.agent_id.value}},
            )
        )
        self.assertEqual(
            [
                "SUBSCRIBED",
                "HEARTBEAT",
                "AGENT_ADDED",
                "FRAMEWORK_ADDED",
                "TASK_ADDED",
                "TASK_ADDED",
                "TASK_UPDATED",
                "TASK_UPDATED",
                "FRAMEWORK_UPDATED",
                "TASK_UPDATED",
                "FRAMEWORK_REMOVED",
                "AGENT_REMOVED",
            ],
            watcher.types(),
        )
        events = watcher.events()
        self.assertEqual("t1", events[4].task_added.task.task_id.value)
        self.assertEqual("t2", events[5].task_added.task.task_id.value)
        finished = events[7].task_updated
        self.assertEqual(info.id, finished.framework_id)
        self.assertEqual(
            ("t1", 2, 2), (finished.status.task_id.value, finished.status.state, finished.state)
        )
        self.assertEqual("renamed", events[8].framework_updated.framework.framework_info.name)
        self.assertEqual("t2", events[9].task_updated.status.task_id.value)
        self.assertEqual(info.id, events[10].framework_removed.framework_info.id)
        self.assertEqual(self.offer.agent_id, events[11].agent_removed.agent_id)

    def called(self, wanted: SchedulerCall) -> Any:
        answered = self.framework.link.call(wanted)
        self.turn()
        return answered

    def test_checks_are_told_though_the_state_stays(self) -> None:
        self.populate()
        watcher = self.watch()
        for _ in range(2):
            self.agent.link.send(
                update(
                    self.offer,
                    "t1",
                    "TASK_RUNNING",
                    reason="REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
                    healthy=False,
                )
            )
        self.turn()
        self.assertEqual(2, watcher.types().count("TASK_UPDATED"))

    def test_task_of_an_agent_that_is_lost(self) -> None:
        self.populate()
        watcher = self.watch()
        self.agent.link.lose("cable")
        self.turn()
        self.assertEqual(["TASK_UPDATED"] * 2, watcher.types()[2:])

    def test_all_hear_the_same_in_their_own_type(self) -> None:
        watchers = [self.watch(JSON), self.watch(PROTOBUF)]
        self.populate()
        first, second = (one.events() for one in watchers)
        # Defaults are written in JSON alone.
        self.assertEqual(first[1:], [from_json(Event, to_json(one)) for one in second[1:]])

    def test_nothing_is_made_for_nobody(self) -> None:
        watcher = self.watch()
        self.assertEqual(1, self.service.state.watchers)
        self.assertEqual(1.0, self.service.metrics()["master/operator_event_stream_subscribers"])
        watcher.leave()
        self.assertEqual(0, self.service.state.watchers)
        self.assertEqual(0.0, self.service.metrics()["master/operator_event_stream_subscribers"])
        self.patch(self.service.operators, "tell", self.fail)
        self.populate()

    def test_one_too_many_ends_the_oldest(self) -> None:
        watchers = [self.watch() for _ in range(4)]
        self.assertEqual([True, False, False, False], [one.ended for one in watchers])
        self.assertEqual(3, self.service.state.watchers)

    def test_stopping_ends_streams(self) -> None:
        watcher = self.watch()
        stopped = self.service.stopService()
        self.assertTrue(watcher.ended)
        self.clock.advance(2)
        self.successResultOf(stopped)
        heard = watcher.heard
        self.clock.advance(100)
        self.assertEqual(heard, watcher.heard)

    def test_events_wait_for_a_client_that_takes_none(self) -> None:
        watcher = self.watch()
        before = watcher.types()
        watcher.transport.producer.pauseProducing()
        self.populate()
        self.assertEqual(before, watcher.types())
        watcher.transport.producer.resumeProducing()
        self.assertEqual(
            ["AGENT_ADDED", "FRAMEWORK_ADDED", "TASK_ADDED", "TASK_ADDED"], watcher.types()[2:]
        )

    def test_client_that_lets_too_much_wait_is_cut_off(self) -> None:
        self.patch(operator_streams, "OUTBOUND_CAP", 500)
        slow, quick = self.watch(), self.watch()
        slow.transport.producer.pauseProducing()
        self.populate()
        self.assertEqual([True, False], [slow.closed, quick.closed])
        self.assertEqual(1, self.service.state.watchers)

    def test_clients_that_let_too_much_wait_together_are_cut_off(self) -> None:
        self.patch(together, "SMALL", 10)
        waiting = self.service.operators.waiting
        waiting.limit = 500
        slow, quick = self.watch(), self.watch()
        slow.transport.producer.pauseProducing()
        self.populate()
        self.assertEqual([True, False], [slow.closed, quick.closed])
        self.assertEqual(0, waiting.total)

    def test_what_a_client_has_taken_waits_no_more(self) -> None:
        self.patch(together, "SMALL", 10)
        watcher = self.watch()
        watcher.transport.producer.pauseProducing()
        self.populate()
        self.assertGreater(self.service.operators.waiting.total, 500)
        watcher.transport.producer.resumeProducing()
        self.assertEqual(0, self.service.operators.waiting.total)

    def test_client_that_takes_nothing_for_long_is_cut_off(self) -> None:
        watcher = self.watch()
        watcher.transport.producer.pauseProducing()
        for _ in range(operator_streams.PATIENCE):
            self.assertFalse(watcher.closed)
            self.clock.advance(15)
        self.assertTrue(watcher.closed)
        self.assertEqual(0, self.service.state.watchers)

    def test_nobody_is_sent_the_state_while_too_many_have_not_taken_it(self) -> None:
        made = state_tree

        def meanwhile(*given: Any) -> Any:
            self.service.operators.held = operator_streams.HELD_CAP + 1
            return made(*given)

        self.patch(operator_streams, "state_tree", meanwhile)
        watcher = self.watch()
        self.assertTrue(watcher.closed)
        self.assertEqual([], watcher.records())
        self.assertEqual(0, self.service.state.watchers)

    def test_agent_is_told_as_it_is_listed(self) -> None:
        watcher = self.watch()
        agent = self.connect(Hello(role=2))
        agent.link.send(registration())
        self.turn()
        (added,) = [one for one in watcher.events() if one.type == Event.AGENT_ADDED]
        self.assertEqual("agent.example", added.agent_added.agent.agent_info.hostname)
        self.assertEqual(self.response("GET_AGENTS").get_agents.agents[0], added.agent_added.agent)


class EventsInProtobuf(Events):
    """The same in protobuf."""

    media = PROTOBUF
