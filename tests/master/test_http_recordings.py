"""Frameworks over HTTP, as a real cluster was recorded to treat them.

Scenarios 04 (C{mesos-execute}, in JSON) and 10 (failover) of the recordings, step by step:
what was POSTed there is POSTed here, with our ids, and every event that comes has the same
keys and types as one recorded there.
"""

from __future__ import annotations

import json
from typing import Any

from mesoskit.messages.codec import from_dict
from mesoskit.messages.internal_pb2 import RegisterSlaveMessage, StatusUpdateMessage
from mesoskit.messages.mesos_pb2 import TaskStatus
from mesoskit.wire.link import Hello
from tests.base import SynchronousTestCase
from tests.master.http_peers import JSON, HttpTestCase, Stream
from tests.messages import golden


def shape(value: Any) -> Any:
    """Return the keys and types of a JSON value; of a list the kinds of things in it."""
    if isinstance(value, dict):
        return {key: shape(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        shapes: list[Any] = []
        for each in map(shape, value):
            if each not in shapes:
                shapes.append(each)
        return sorted(shapes, key=repr)
    return type(value).__name__


class RecordedCase(HttpTestCase):
    """
    A cluster of one agent, as it was recorded.

    @cvar scenario: the number of the recording.
    """

    scenario = ""

    def setUp(self) -> None:
        super().setUp()
        self.calls = self.recorded("Call")
        # Heartbeats are kept once for all scenarios.
        self.shapes = [shape(event) for event in self.recorded("Event")] + [{"type": "str"}]
        registration = next(
            each
            for each in golden.bodies()
            if f"(scenarios {self.scenario})" in each.where
            and each.name.endswith("RegisterSlaveMessage")
        )
        self.agent = self.connect_agent(registration.message())

    def recorded(self, kind: str) -> list[Any]:
        """Return the recorded messages of this kind, C{Call} or C{Event}, as they were sent."""
        return [
            json.loads(each.text)
            for each in golden.jsons()
            if f"(scenarios {self.scenario}" in each.where and each.name.endswith(f".{kind}")
        ]

    def connect_agent(self, message: Any) -> Any:
        assert isinstance(message, RegisterSlaveMessage)
        agent = self.connect(Hello(role=2))
        agent.link.send(message)
        self.turn()
        return agent

    def check(self, *streams: Stream) -> None:
        """Everything that came is shaped as something that was recorded."""
        for stream in streams:
            for event in stream.events():
                self.assertIn(shape(event), self.shapes, event)

    def said(self, kind: str, number: int = 0) -> dict[str, Any]:
        """Return a recorded call."""
        call: dict[str, Any] = [each for each in self.calls if each["type"] == kind][number]
        return call

    def subscribe(  # type: ignore[override]
        self, framework_id: str = "", number: int = 0, **more: Any
    ) -> Stream:
        """Subscribe as it was recorded, with this id."""
        calls = [
            each
            for each in self.calls
            if each["type"] == "SUBSCRIBE" and ("framework_id" in each) is bool(framework_id)
        ]
        call = calls[number]
        if framework_id:
            call["framework_id"]["value"] = framework_id
            call["subscribe"]["framework_info"]["id"]["value"] = framework_id
        stream = Stream(self, JSON, self.request(json.dumps(call).encode(), **more))
        self.clock.advance(1.1)
        self.turn()
        return stream

    def do(self, stream: Stream, call: dict[str, Any], status: int = 202) -> bytes:
        """POST a call on a stream."""
        call["framework_id"]["value"] = stream.framework_id
        answer = self.post(json.dumps(call).encode(), stream.id)
        self.assertEqual(status, answer[0], answer)
        return answer[2]

    def update(self, stream: Stream, state: str, task_id: str = "") -> TaskStatus:
        """Let the agent send the recorded update of this state, of any task or this one."""
        status = next(
            event["update"]["status"]
            for event in self.recorded("Event")
            if event["type"] == "UPDATE"
            and event["update"]["status"]["state"] == state
            and "uuid" in event["update"]["status"]
            and event["update"]["status"]["task_id"]["value"].startswith(task_id)
        )
        message = StatusUpdateMessage(pid="slave(1)@127.0.0.1:25051")
        update = message.update
        update.status.CopyFrom(from_dict(TaskStatus, status))
        (agent_id,) = self.service.state.agents
        update.status.agent_id.value = update.slave_id.value = agent_id
        update.framework_id.value = stream.framework_id
        update.timestamp, update.uuid = update.status.timestamp, update.status.uuid
        update.latest_state = update.status.state
        self.agent.link.send(message)
        self.turn()
        self.assertEqual("UPDATE", stream.types()[-1])
        return update.status

    def launch(self, stream: Stream, number: int = 0) -> None:
        """Accept the last offer with the recorded task."""
        offer = next(e for e in reversed(stream.events()) if e["type"] == "OFFERS")
        (offered,) = offer["offers"]["offers"]
        call = self.said("ACCEPT", number)
        call["accept"]["offer_ids"] = [offered["id"]]
        for task in call["accept"]["operations"][0]["launch"]["task_infos"]:
            task["agent_id"] = offered["agent_id"]
        self.do(stream, call)


class FailoverTests(RecordedCase):
    """Scenario 10."""

    scenario = "10"

    def test_failover(self) -> None:
        # (a) A launches, acknowledges one update but not the next, and leaves.
        a = self.subscribe()
        framework_id = a.framework_id
        self.launch(a)
        status = self.update(a, "TASK_STARTING")
        acknowledge = self.said("ACKNOWLEDGE")
        acknowledge["acknowledge"]["agent_id"]["value"] = status.agent_id.value
        self.do(a, acknowledge)
        self.update(a, "TASK_RUNNING")
        a.leave()
        # (b) B comes with the same id, without force; (c) C while B is there.
        b = self.subscribe(framework_id)
        self.assertEqual((framework_id, False), (b.framework_id, b.ended))
        c = self.subscribe(framework_id, 1)
        self.assertTrue(b.ended)
        self.assertFalse(b.closed)
        self.assertEqual(
            {"type": "ERROR", "error": {"message": "Framework failed over"}}, b.events()[-1]
        )
        why = self.do_with(b, c)
        self.assertTrue(why.startswith(f"The stream ID '{b.id}' included".encode()), why)
        self.assertTrue(why.endswith(f"framework ID {framework_id}".encode()), why)
        self.do(c, self.said("RECONCILE"))
        self.assertEqual("UPDATE", c.types()[-1])
        self.assertNotIn("uuid", c.events()[-1]["update"]["status"])
        # (d) D with another name, role, user, checkpoint and failover_timeout.
        d = self.subscribe(framework_id, 2)
        self.assertTrue(c.ended)
        (known,) = self.service.state.frameworks.values()
        said = self.subscribed_info(2)
        self.assertEqual((said["name"], said["failover_timeout"]), (known.info.name, 5.0))
        self.assertEqual(("root", False), (known.info.user, known.info.checkpoint))
        # (e) It stays away for too long.
        d.leave()
        self.clock.advance(6)
        self.turn()
        removed = self.subscribe(framework_id, 3)
        self.assertEqual(200, removed.head[0])
        message = {"message": "Framework has been removed"}
        self.assertEqual([{"type": "ERROR", "error": message}], removed.events())
        self.assertTrue(removed.ended)
        self.check(a, b, c, d, removed)

    def do_with(self, old: Stream, new: Stream) -> bytes:
        """Suppress with the id of a stream that is over."""
        call = self.said("SUPPRESS")
        call["framework_id"]["value"] = new.framework_id
        answer = self.post(json.dumps(call).encode(), old.id)
        self.assertEqual(400, answer[0])
        return answer[2]

    def subscribed_info(self, number: int) -> dict[str, Any]:
        """Return the recorded FrameworkInfo of a later SUBSCRIBE."""
        calls = [e for e in self.calls if e["type"] == "SUBSCRIBE" and "framework_id" in e]
        info: dict[str, Any] = calls[number]["subscribe"]["framework_info"]
        return info

    def test_id_that_was_never_given_out_is_accepted_and_torn_down(self) -> None:
        g = self.subscribe("my-own-id-0001")
        self.assertEqual("my-own-id-0001", g.framework_id)
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT", "OFFERS"], g.types())
        self.do(g, self.said("TEARDOWN"))
        self.assertTrue(g.ended)
        self.check(g)

    def test_teardown_by_an_operator_just_ends_the_stream(self) -> None:
        stream = self.subscribe()
        body = f"frameworkId={stream.framework_id}".encode()
        self.assertEqual(200, self.post(body, path="/master/teardown")[0])
        self.assertTrue(stream.ended)
        self.assertNotIn("ERROR", stream.types())
        self.check(stream)


class ExecuteTests(RecordedCase):
    """Scenario 04: C{mesos-execute}, which shows a password that nobody asked for."""

    scenario = "04"

    def begin(self) -> Stream:
        """Subscribe, as libmesos does."""
        path = "/master/api/v1/scheduler"
        stream = self.subscribe(path=path, Authorization="Basic Znc6ZndzZWNyZXQ=")
        self.assertEqual(["SUBSCRIBED", "HEARTBEAT", "OFFERS"], stream.types())
        return stream

    def acknowledged(self, stream: Stream, state: str, task_id: str) -> None:
        """Send an update, and have it acknowledged."""
        status = self.update(stream, state, task_id)
        call = self.said("ACKNOWLEDGE")
        call["acknowledge"] = {
            "agent_id": {"value": status.agent_id.value},
            "task_id": {"value": task_id},
            "uuid": stream.events()[-1]["update"]["status"]["uuid"],
        }
        self.do(stream, call)
        self.assertEqual(status.uuid, self.agent.messages[-1].uuid)

    def test_task_that_finishes(self) -> None:
        stream = self.begin()
        self.launch(stream)
        for state in ("TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"):
            self.acknowledged(stream, state, "tj")
        self.check(stream)

    def test_task_that_is_killed(self) -> None:
        stream = self.begin()
        self.launch(stream, 1)
        for state in ("TASK_STARTING", "TASK_RUNNING"):
            self.acknowledged(stream, state, "tk")
        self.do(stream, self.said("SUPPRESS"))
        kill = self.said("KILL")
        (agent_id,) = self.service.state.agents
        kill["kill"]["agent_id"]["value"] = agent_id
        self.do(stream, kill)
        self.assertEqual("KillTaskMessage", type(self.agent.messages[-1]).__name__)
        for state in ("TASK_KILLING", "TASK_KILLED"):
            self.acknowledged(stream, state, "tk")
        self.check(stream)


class ShapeTests(SynchronousTestCase):
    """What a shape tells apart."""

    def test_types_and_keys_matter_and_values_do_not(self) -> None:
        self.assertEqual(shape({"a": 1, "b": [1.0]}), shape({"b": [2.5, 3.0], "a": 7}))
        self.assertNotEqual(shape({"a": 1}), shape({"a": 1.0}))
        self.assertNotEqual(shape({"a": 1}), shape({"a": "1"}))
        self.assertNotEqual(shape({"a": 1}), shape({}))
