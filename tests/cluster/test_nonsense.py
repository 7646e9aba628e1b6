"""Peers that make no sense are sent away with a word, and the cluster goes on."""

import os
import random
import socket
from functools import partial

from mesoskit.driver import TaskState
from mesoskit.messages.internal_pb2 import PingSlaveMessage, RegisterSlaveMessage
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.messages.stream_pb2 import Frame, Role
from mesoskit.wire.framing import encode
from tests.cluster import asking
from tests.cluster.harness import Cluster, SharedCluster
from tests.cluster.waiting import PATIENCE, reactor, until

FRAMEWORK = Role.FRAMEWORK


def hello(role: Role = FRAMEWORK, version: int = 1) -> bytes:
    """Return the frame that a native conversation begins with."""
    frame = Frame()
    frame.hello.version = version
    frame.hello.role = role
    frame.hello.software = "nonsense/1"
    frame.hello.heartbeat_ms = 5000
    frame.hello.instance = os.urandom(8).hex()
    return encode(frame.SerializeToString())


def saying(name: str, body: bytes, call: int = 1) -> bytes:
    """Return a frame with one message."""
    frame = Frame()
    frame.items.add(name=name, body=body, call=call)
    return encode(frame.SerializeToString())


def frames(data: bytes) -> list[Frame]:
    """Return the frames that a peer has said."""
    found = []
    while len(data) >= 4:
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            break
        found.append(Frame.FromString(data[4:end]))
        data = data[end:]
    return found


class NonsenseTests(SharedCluster):
    """What strangers say to the master's port, and to an agent's."""

    async def goes_on(self, cluster: Cluster) -> None:
        """See that the cluster runs tasks."""
        ledger = cluster.framework()
        await ledger.run("after", "true")
        self.assertEqual((await ledger.over("after")).state, TaskState.TASK_FINISHED)
        for daemon in (cluster.master, *cluster.agents.values()):
            self.assertNotIn("Traceback", daemon.log())
            self.assertNotIn("Unhandled", daemon.log())

    async def sent_away(self, port: int, *said: bytes) -> list[Frame]:
        """Say something, be disconnected, and return what was said to that."""
        conversation = await asking.converse(port)
        for part in said:
            conversation.say(part)
        await conversation.over.addTimeout(PATIENCE, reactor)
        return frames(conversation.heard)

    async def given_up(self, conversation: asking.Conversation, seconds: float) -> None:
        """Wait for the end of a connection, and bring it about where it does not come."""
        patience = reactor.callLater(seconds, conversation.abort)
        await conversation.over.addTimeout(PATIENCE, reactor)
        if patience.active():
            patience.cancel()

    async def test_random_bytes_end_their_connection_and_nothing_else(self) -> None:
        cluster = await self.shared()
        chance = random.Random(20)
        for port in (cluster.master.port, cluster.agent.port):
            for first in (b"\0", b"\x16", b"G", b"P", b"\xff"):
                conversation = await asking.converse(port, first + chance.randbytes(2000))
                # A TLS record, or a request, may be waited for; our going away is the end then.
                await self.given_up(conversation, 0.2)
        await self.goes_on(cluster)

    async def test_a_frame_that_is_too_long_is_refused_before_it_has_come(self) -> None:
        cluster = await self.shared()
        long = (1 << 20).to_bytes(4, "big") + b"x" * 1000
        (*_, last) = await self.sent_away(cluster.master.port, long)
        self.assertIn("over the limit", last.error)
        longest = (1 << 24).to_bytes(4, "big") + b"x" * 1000
        (*_, last) = await self.sent_away(cluster.master.port, hello(), longest)
        self.assertTrue(last.error)
        await self.goes_on(cluster)

    async def test_bytes_that_are_no_frame_are_refused(self) -> None:
        cluster = await self.shared()
        (*_, last) = await self.sent_away(cluster.master.port, hello(), encode(b"\xff" * 50))
        self.assertTrue(last.error)
        (*_, last) = await self.sent_away(cluster.master.port, encode(b"\xff" * 50))
        self.assertTrue(last.error)
        await self.goes_on(cluster)

    async def test_who_speaks_another_version_is_told_which_is_spoken_here(self) -> None:
        cluster = await self.shared()
        (*_, last) = await self.sent_away(cluster.master.port, hello(version=99))
        self.assertIn("99", last.error)
        await self.goes_on(cluster)

    async def test_a_body_that_is_no_message_is_refused(self) -> None:
        cluster = await self.shared()
        name = Call.DESCRIPTOR.full_name
        (*_, last) = await self.sent_away(
            cluster.master.port, hello(), saying(name, b"\xff\xff\xff\xff")
        )
        self.assertIn(name, last.error)
        await self.goes_on(cluster)

    async def test_a_framework_that_speaks_as_an_agent_is_refused(self) -> None:
        cluster = await self.shared()
        for message in (PingSlaveMessage(connected=True), RegisterSlaveMessage()):
            name = message.DESCRIPTOR.full_name
            conversation = await asking.converse(cluster.master.port)
            conversation.say(hello() + saying(name, message.SerializePartialToString()))

            def refused(conversation: asking.Conversation = conversation) -> bool:
                said = frames(conversation.heard)
                answers = [item for frame in said for item in frame.items if item.answers == 1]
                return any(item.status >= 400 for item in answers) or any(f.error for f in said)

            await until("a refusal", refused, seen=partial(getattr, conversation, "heard"))
            conversation.abort()
            await conversation.over
        await self.goes_on(cluster)

    async def test_calls_before_a_subscription_are_refused_with_a_reason(self) -> None:
        cluster = await self.shared()
        conversation = await asking.converse(cluster.master.port)
        calls = [Call(type=Call.REVIVE), Call(), Call(type=Call.SUBSCRIBE)]
        for number, call in enumerate(calls, 1):
            call.framework_id.value = "nobody"
            data = call.SerializePartialToString()
            conversation.say(
                (hello() if number == 1 else b"") + saying(Call.DESCRIPTOR.full_name, data, number)
            )

        def answers() -> list[tuple[int, str]]:
            said = frames(conversation.heard)
            return [(i.status, i.why) for f in said for i in f.items if i.answers]

        await until("answers", lambda: len(answers()) == len(calls), seen=answers)
        for status, why in answers():
            self.assertIn(status, range(400, 500))
            self.assertTrue(why)
        conversation.abort()
        await conversation.over
        await self.goes_on(cluster)

    async def test_one_who_never_says_anything_is_closed(self) -> None:
        cluster = await self.shared()
        conversation = await asking.converse(cluster.master.port)
        await conversation.over.addTimeout(PATIENCE, reactor)
        self.assertEqual(frames(conversation.heard), [])

    async def test_half_a_request_holds_nobody_up(self) -> None:
        cluster = await self.shared()
        with socket.create_connection(("127.0.0.1", cluster.master.port)) as lazy:
            lazy.sendall(b"GET /metrics/snapshot HTTP/1.1\r\nHost: x\r\n")
            status, _ = await asking.get(cluster.master.port, "/health")
            self.assertEqual(status, 200)
            await self.goes_on(cluster)

    async def test_nonsense_over_http_is_answered_as_http(self) -> None:
        cluster = await self.shared()
        for path in ("/nowhere", "/%ff%00"):
            for daemon in (cluster.master, cluster.agent):
                status, _ = await asking.get(daemon.port, path)
                self.assertEqual(status, 404, path)
        # Mesos closes without an answer (recording 11).
        request = b"GET /health?x=%zz HTTP/1.0\r\n\r\n"
        for daemon in (cluster.master, cluster.agent):
            answer = await asking.exchange(daemon.port, request)
            self.assertTrue(answer[8:13] in (b"", b" 200 ", b" 400 "), answer)
        long = b"POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
        conversation = await asking.converse(cluster.master.port, long + b"x" * 100_000)
        await self.given_up(conversation, 1.0)
        await self.goes_on(cluster)
