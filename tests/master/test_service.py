"""The master's service: links, store, clock and HTTP round the state, without a reactor."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.message import Message
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mesoskit.cluster.memory import MemoryStore
from mesoskit.cluster.store import StoreError
from mesoskit.master.operator import Teardown
from mesoskit.master.options import MESOS_VERSION, MasterOptions
from mesoskit.master.service import MasterService, NotRunning
from mesoskit.messages.internal_pb2 import (
    PingSlaveMessage,
    PongSlaveMessage,
    SlaveRegisteredMessage,
)
from mesoskit.messages.scheduler_pb2 import Call, Event
from mesoskit.model.ids import FrameworkId
from mesoskit.wire.link import CallRefused, Hello, Link
from mesoskit.wire.memory import Pipe, connect
from tests.base import SynchronousTestCase
from tests.master.bench import registration, scheduler_call, subscription
from tests.wire.transports import Dialling, Wires

_MASTER, _AGENT, _FRAMEWORK = Hello(role=1), Hello(role=2), Hello(role=3)


class Peer:
    """The other end of a link: remembers what it hears."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.lost_because: str | None = None
        self.link: Any = None

    def connected(self, link: Link) -> None:
        self.link = link

    def received(self, link: Link, message: Message, call: int | None) -> None:
        self.messages.append(message)

    def congestion(self, link: Link, congested: bool) -> None: ...

    def lost(self, link: Link, why: str) -> None:
        self.lost_because = why


class SlowStore(MemoryStore):
    """A store whose answers wait until the test lets them come."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Any, Deferred[None]]] = []

    def apply(self, changes: Any) -> Deferred[None]:
        answer: Deferred[None] = Deferred()
        self.waiting.append((changes, answer))
        return answer

    def let(self) -> None:
        """Carry out the oldest change."""
        changes, answer = self.waiting.pop(0)
        super().apply(changes).addCallback(answer.callback)

    def refuse(self) -> None:
        """Fail the oldest change."""
        self.waiting.pop(0)[1].errback(StoreError("disk full"))


class ServiceTestCase(SynchronousTestCase):
    """A service on a clock, with links in memory."""

    store: MemoryStore

    def setUp(self) -> None:
        self.clock = Clock()
        self.pipes: list[Pipe] = []
        self.stops: list[tuple[str, int]] = []
        self.store = self.make_store()
        self.service = MasterService(
            self.clock,
            self.options(),
            self.store,
            (),
            stopped=lambda why, status: self.stops.append((why, status)),
            seed=bytes(16),
        )
        self.successResultOf(self.service.startService())

    def make_store(self) -> MemoryStore:
        return MemoryStore()

    def options(self) -> MasterOptions:
        return MasterOptions(hostname="master.example", ip="10.0.0.1", port=5050)

    def connect(self, hello: Hello) -> Peer:
        peer = Peer()
        self.pipes.append(connect(self.service.peers, peer, _MASTER, hello))
        self.turn()
        return peer

    def turn(self) -> None:
        """Let messages and turns go round until nothing moves."""
        for _ in range(6):
            for pipe in self.pipes:
                pipe.pump()
            self.clock.advance(0)

    def register(self) -> Peer:
        agent = self.connect(_AGENT)
        agent.link.send(registration())
        self.turn()
        return agent

    def subscribe(self) -> Peer:
        framework = self.connect(_FRAMEWORK)
        framework.link.send(subscription(failover_timeout=60))
        self.turn()
        return framework


class Links(ServiceTestCase):
    """Peers over links."""

    def test_agent_is_registered_and_pinged(self) -> None:
        agent = self.register()
        self.assertEqual(
            [SlaveRegisteredMessage, PingSlaveMessage], [type(one) for one in agent.messages]
        )
        agent.link.send(PongSlaveMessage())
        self.turn()
        self.clock.advance(15)
        self.turn()
        self.assertEqual(3, len(agent.messages))

    def test_framework_is_offered_the_agent(self) -> None:
        self.register()
        framework = self.subscribe()
        self.clock.advance(0.1)
        self.turn()
        self.assertEqual(
            [Event.SUBSCRIBED, Event.OFFERS], [event.type for event in framework.messages]
        )

    def test_calls_are_answered(self) -> None:
        framework = self.subscribe()
        framework_id = framework.messages[0].subscribed.framework_id.value
        taken = framework.link.call(scheduler_call(Call.REVIVE, framework_id))
        refused = framework.link.call(scheduler_call(Call.REVIVE, "nobody"))
        self.turn()
        self.successResultOf(taken)
        error = self.failureResultOf(refused, CallRefused).value
        self.assertEqual((400, "Framework cannot be found"), (error.status, error.why))

    def test_dropped_peer_is_told_why(self) -> None:
        framework = self.connect(_FRAMEWORK)
        framework.link.send(subscription(roles=["a"]))
        self.turn()
        (event,) = framework.messages
        self.assertEqual(Event.ERROR, event.type)
        self.assertIn("MULTI_ROLE", framework.lost_because)
        self.assertEqual({}, self.service.state.peers)

    def test_lost_link_reaches_the_state(self) -> None:
        framework = self.subscribe()
        framework.link.lose("enough")
        self.turn()
        (known,) = self.service.state.frameworks.values()
        self.assertFalse(known.connected)

    def test_operator_s_request_is_answered(self) -> None:
        self.subscribe()
        (framework_id,) = self.service.state.frameworks
        first = self.service.request(Teardown(framework_id))
        second = self.service.request(Teardown(FrameworkId("nobody")))
        self.turn()
        self.assertEqual(200, self.successResultOf(first).status)
        self.assertEqual(400, self.successResultOf(second).status)

    def test_stopping_closes_links_and_store(self) -> None:
        agent = self.register()
        waiting = self.service.request(Teardown(FrameworkId("nobody")))
        self.successResultOf(self.service.stopService())
        self.turn()
        self.failureResultOf(waiting, NotRunning)
        self.clock.advance(100)
        self.assertEqual([], self.clock.getDelayedCalls())
        del agent

    def link(self) -> tuple[Peer, Wires]:
        """Return an agent that came to the port, and the wires between it and the master."""
        peer = Peer()
        dialled = Dialling(peer, _AGENT, clock=self.clock)
        port = self.service.port.buildProtocol(None)
        wires = Wires(self.clock, port, dialled.buildProtocol(None))
        wires.spin()
        return peer, wires

    def test_stopping_waits_until_peers_have_heard_of_it(self) -> None:
        peer, wires = self.link()
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        wires.spin()
        self.successResultOf(stopped)
        self.assertIn("shutting down", peer.lost_because or "")

    def test_stopping_waits_for_a_peer_that_does_not_listen_no_longer_than_links_linger(
        self,
    ) -> None:
        _, wires = self.link()
        wires.b.pauseProducing()
        stopped = self.service.stopService()
        wires.spin()
        self.assertNoResult(stopped)
        self.clock.advance(5)
        wires.spin()
        self.successResultOf(stopped)


class Stores(ServiceTestCase):
    """Nothing is sent that rests on a change which is not stored."""

    store: SlowStore

    def make_store(self) -> SlowStore:
        return SlowStore()

    def test_agent_hears_nothing_before_it_is_in_the_registry(self) -> None:
        self.store.let()
        agent = self.register()
        self.assertEqual([], agent.messages)
        self.store.let()
        self.turn()
        self.assertEqual(2, len(agent.messages))

    def test_master_that_cannot_write_steps_down(self) -> None:
        self.store.let()
        agent = self.register()
        self.store.refuse()
        self.turn()
        self.assertEqual([], agent.messages)
        ((why, status),) = self.stops
        self.assertEqual(1, status)
        self.assertIn("disk full", why)


class Http(ServiceTestCase):
    """The endpoints, through the one port."""

    def ask(self, request: str, body: str = "") -> tuple[int, dict[str, str], bytes]:
        protocol = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport = StringTransport()
        protocol.makeConnection(transport)
        head = f"{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        protocol.dataReceived((head + body).encode())
        self.turn()
        head_bytes, _, answer = transport.value().partition(b"\r\n\r\n")
        lines = head_bytes.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), {k.lower(): v for k, v in headers.items()}, answer

    def test_health_is_empty(self) -> None:
        for path in ("/health", "/master/health"):
            status, headers, body = self.ask(f"GET {path}")
            self.assertEqual((200, "0", b""), (status, headers["content-length"], body))
            self.assertNotIn("content-type", headers)

    def test_health_takes_any_method(self) -> None:
        for method in ("POST", "HEAD", "OPTIONS"):
            self.assertEqual(200, self.ask(f"{method} /health")[0])

    def test_version(self) -> None:
        status, headers, body = self.ask("GET /version")
        self.assertEqual((200, "application/json"), (status, headers["content-type"]))
        self.assertEqual(MESOS_VERSION, json.loads(body)["version"])

    def test_metrics(self) -> None:
        self.register()
        status, _, body = self.ask("GET /metrics/snapshot")
        self.assertEqual(200, status)
        shown = json.loads(body)
        self.assertEqual(1.0, shown["master/slaves_active"])
        self.assertIn("system/cpus_total", shown)
        self.assertEqual(sorted(shown), list(shown))

    def test_jsonp(self) -> None:
        _, headers, body = self.ask("GET /version?jsonp=cb")
        self.assertEqual("text/javascript", headers["content-type"])
        self.assertTrue(body.startswith(b"cb({") and body.endswith(b"})"), body)
        _, headers, _ = self.ask("GET /version?jsonp=alert(1)//")
        self.assertEqual("application/json", headers["content-type"])

    def test_what_is_not_there(self) -> None:
        for path in ("/nothing", "/master/version", "/redirect/x", "/master/metrics/snapshot"):
            status, headers, body = self.ask(f"GET {path}")
            self.assertEqual((404, b"404 Not Found."), (status, body), path)
            self.assertEqual("text/plain; charset=utf-8", headers["content-type"])

    def test_state_and_its_kin(self) -> None:
        self.register()
        for path in ("state", "state-summary", "slaves", "frameworks", "tasks", "roles"):
            for prefix in ("/", "/master/"):
                status, headers, body = self.ask(f"GET {prefix}{path}")
                self.assertEqual((200, "application/json"), (status, headers["content-type"]))
                self.assertIsInstance(json.loads(body), dict)
        _, _, body = self.ask("GET /tasks?limit=abc&order=asc&offset=-1")
        self.assertEqual({"tasks": []}, json.loads(body))
        _, _, body = self.ask("GET /tasks?limit=-1")
        self.assertEqual({"tasks": []}, json.loads(body))
        _, _, body = self.ask("GET /slaves?slave_id=nobody")
        self.assertEqual([], json.loads(body)["slaves"])

    def test_redirect_has_no_scheme(self) -> None:
        status, headers, _ = self.ask("GET /master/redirect")
        self.assertEqual((307, "//master.example:5050"), (status, headers["location"]))

    def test_who_is_sent_to_the_leader_takes_along_what_he_asked(self) -> None:
        leader = type(self.service.state.info)(id="other", ip=1, port=5051, hostname="b.example")
        self.service.leader = leader
        for path, where in (
            ("/tasks?limit=2&order=asc", "//b.example:5051/master/tasks?limit=2&order=asc"),
            ("/master/state?jsonp=f", "//b.example:5051/master/state?jsonp=f"),
            ("/state", "//b.example:5051/master/state"),
            ("/redirect?x=y", "//b.example:5051"),
        ):
            status, headers, _ = self.ask(f"GET {path}")
            self.assertEqual((307, where), (status, headers["location"]))

    def test_teardown(self) -> None:
        self.subscribe()
        (framework_id,) = self.service.state.frameworks
        for path, body, expected in (
            ("/teardown", "", (400, b"Missing 'frameworkId' query parameter in the request body")),
            ("/teardown", "frameworkId=nosuch", (400, b"No framework found with specified ID")),
            ("/master/teardown", f"frameworkId={framework_id}", (200, b"")),
        ):
            status, _, answer = self.ask(f"POST {path}", body)
            self.assertEqual(expected, (status, answer))
        self.assertEqual({}, self.service.state.frameworks)
        self.assertEqual(405, self.ask("GET /teardown")[0])
