"""The agent's port: HTTP and native links of executors, told apart by the first byte."""

from __future__ import annotations

import os
from typing import Any

from mesoskit.messages import internal_pb2 as internal
from mesoskit.messages.executor_pb2 import Call, Event
from mesoskit.messages.stream_pb2 import Role
from mesoskit.wire.link import Hello
from tests.agent.bench import FRAMEWORK_ID, custom_executor, framework, task
from tests.agent.test_service import Peer, World
from tests.base import SynchronousTestCase
from tests.wire.test_port import Client
from tests.wire.transports import Dialling, Wires


class PortTests(SynchronousTestCase):
    """What comes to the port that the agent listens on."""

    def setUp(self) -> None:
        work_dir = os.path.realpath(self.mktemp())
        os.makedirs(work_dir)
        self.world = World(work_dir)
        self.service = self.world.agent()
        ((_, self.listening, _, _),) = self.world.reactor.tcpServers
        self.wires: list[Wires] = []

    def come(self, client: Any) -> Any:
        """Let C{client} connect to the port."""
        protocol = self.listening.buildProtocol(None)
        self.wires.append(Wires(self.world.reactor, protocol, client))
        self.turn()
        return client

    def turn(self) -> None:
        """Let everything that can happen happen."""
        for _ in range(3):
            self.world.turn()
            for wires in self.wires:
                wires.spin()

    def ask(self, *pieces: bytes) -> Client:
        """Say these on a connection of their own."""
        client: Client = self.come(Client())
        for piece in pieces:
            client.transport.write(piece)
            self.turn()
        return client

    def dial(self, token: str) -> Peer:
        """Link up as an executor with this token."""
        peer = Peer()
        hello = Hello(Role.EXECUTOR, "test", token=token)
        self.come(Dialling(peer, hello, clock=self.world.reactor).buildProtocol(None))
        return peer

    def test_requests_are_answered_with_and_without_the_name_of_the_process(self) -> None:
        for path in (b"/health", b"/slave(1)/health"):
            heard = self.ask(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n").heard
            self.assertTrue(heard.startswith(b"HTTP/1.1 200 OK\r\n"), heard)

    def test_body_over_the_limit_is_refused(self) -> None:
        length = b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
        client = self.ask(b"POST /health HTTP/1.1\r\n" + length)
        self.assertTrue(client.heard.startswith(b"HTTP/1.1 413 "), client.heard)

    def test_whoever_says_nothing_is_closed(self) -> None:
        client = self.come(Client())
        self.world.turn(5.0)
        self.turn()
        self.assertEqual((client.lost, client.heard), (1, b""))

    def test_noise_is_closed(self) -> None:
        self.assertEqual(self.ask(b"\x99").lost, 1)

    def test_executor_is_let_in_by_its_token(self) -> None:
        master = self.world.register(self.service)
        message = internal.RunTaskMessage(
            framework=framework(), task=task("t", "", executor=custom_executor())
        )
        self.world.send(master, message)
        ((_, spec),) = self.world.launcher.specs.items()
        executor = self.dial(dict(spec.environment)["MESOSKIT_EXECUTOR_TOKEN"])
        assert executor.link is not None
        call = Call(type=Call.SUBSCRIBE, subscribe={})
        call.executor_id.value, call.framework_id.value = "e", FRAMEWORK_ID
        executor.link.send(call)
        self.turn()
        self.assertEqual([one.type for one in executor.messages], [Event.SUBSCRIBED, Event.LAUNCH])

    def test_stranger_with_a_token_of_its_own_invention_is_told_why(self) -> None:
        self.assertIn("the token is none", self.dial("wrong").lost_why or "")

    def test_stopped_agent_closes_whoever_has_not_spoken(self) -> None:
        client = self.come(Client())
        self.service.stopService()
        self.turn()
        self.assertEqual(client.lost, 1)
