"""The relay: what it carries, what it holds back, and what becomes of that."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from tests.cluster.asking import Conversation, converse
from tests.cluster.harness import free_port
from tests.cluster.relay import Relay, Trouble
from tests.cluster.waiting import pause, reactor, until

HERE = frozenset({"here"})
ALL: frozenset[str] = frozenset()


class Echo(Protocol):
    """Says what it hears."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class RelayTests(TestCase):
    """An echo behind a relay."""

    timeout = 600

    def setUp(self) -> None:
        self.relay = Relay(reactor, lambda: [("nobody", 1), ("here", os.getpid())])
        self.addCleanup(self.relay.close)
        self.echo: Any = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(self.echo.stopListening)
        self.port = free_port()
        self.relay.listen("echo", self.echo.getHost().port, self.port)

    async def dial(self, say: bytes = b"") -> Conversation:
        conversation = await converse(self.port, say)
        self.addCleanup(conversation.abort)
        return conversation

    async def heard(self, conversation: Conversation, what: bytes) -> None:
        await until(repr(what), lambda: conversation.heard == what, seen=lambda: conversation.heard)

    async def test_everything_comes_through_and_who_dials_is_known(self) -> None:
        large = os.urandom(3_000_000)
        conversation = await self.dial(large)
        await self.heard(conversation, large)
        self.assertEqual(self.relay.connections("here", "echo"), 1)
        self.assertEqual(self.relay.strangers, 0)
        conversation.abort()
        await until("its end", lambda: not self.relay.connections("here", "echo"))

    async def test_what_was_said_into_a_cut_comes_through_later(self) -> None:
        conversation = await self.dial(b"1")
        await self.heard(conversation, b"1")
        for trouble in (Trouble(HERE, ALL, up=True), Trouble(HERE, ALL, down=True)):
            before = conversation.heard
            self.relay.begin(trouble)
            conversation.say(b"2")
            await pause(0.1)
            self.assertEqual(conversation.heard, before)
            self.relay.end(trouble)
            await self.heard(conversation, before + b"2")

    async def test_others_are_not_concerned(self) -> None:
        self.relay.begin(Trouble(frozenset({"other"}), ALL, up=True, down=True))
        self.relay.begin(Trouble(HERE, frozenset({"other"}), up=True, down=True))
        await self.heard(await self.dial(b"1"), b"1")

    async def test_who_dials_into_a_cut_hears_nothing_until_it_is_over(self) -> None:
        trouble = Trouble(HERE, ALL, down=True)
        self.relay.begin(trouble)
        conversation = await self.dial(b"1")
        given_up = await self.dial(b"1")
        given_up.abort()
        await pause(0.1)
        self.assertEqual(conversation.heard, b"")
        self.relay.end(trouble)
        await self.heard(conversation, b"1")
        self.assertEqual(self.relay.connections("here", "echo"), 1)

    async def test_an_end_is_heard_of_after_what_was_said_before(self) -> None:
        conversation = await self.dial(b"1")
        await self.heard(conversation, b"1")
        trouble = Trouble(HERE, ALL, up=True)
        self.relay.begin(trouble)
        conversation.say(b"2")
        conversation.transport.loseConnection()  # type: ignore[union-attr]
        await pause(0.1)
        carried = self.relay.carried
        self.assertEqual(self.relay.connections("here", "echo"), 1)
        self.relay.end(trouble)
        await until("its end", lambda: not self.relay.connections("here", "echo"))
        self.assertGreater(self.relay.carried, carried)

    async def test_slow_ways_keep_the_order(self) -> None:
        conversation = await self.dial(b"1")
        await self.heard(conversation, b"1")
        trouble = Trouble(HERE, ALL, delay=0.2)
        self.relay.begin(trouble)
        begun = reactor.seconds()
        conversation.say(b"2")
        await pause(0.05)
        self.relay.end(trouble)
        conversation.say(b"3")
        await self.heard(conversation, b"123")
        self.assertGreater(reactor.seconds() - begun, 0.19)

    async def test_connections_can_be_broken_off(self) -> None:
        conversation = await self.dial(b"1")
        await self.heard(conversation, b"1")
        self.assertEqual(self.relay.break_off(frozenset({"other"})), 0)
        self.assertEqual(self.relay.break_off(HERE), 1)
        await conversation.over
        self.assertFalse(self.relay.connections("here", "echo"))

    async def test_a_server_that_is_not_there_ends_the_connection(self) -> None:
        port = free_port()
        self.relay.listen("nobody", free_port(), port)
        conversation = await converse(port)
        await conversation.over
