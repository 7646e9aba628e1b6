"""Dialling: a link or the reason why there is none, in bounded time, and cancellable."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from mesoskit.wire.endpoints import EndpointError
from mesoskit.wire.link import Hello, Link
from mesoskit.wire.pulse import Pulse
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import DialFailed, StreamFactory, dial
from tests.base import SynchronousTestCase
from tests.wire.ears import AGENT, FRAMEWORK, MASTER, Ear, text
from tests.wire.transports import Wires


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.factory: Any = None
        self.cancelled = False
        self.connecting: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, _: object) -> None:
        self.cancelled = True

    def connect(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.connecting

    def reach(self, peer: Any) -> Wires:
        """Connect with this protocol."""
        protocol = self.factory.buildProtocol(None)
        wires = Wires(self.clock, protocol, peer)
        self.connecting.callback(protocol)
        return wires


class Silent:
    """A peer that takes everything and says nothing."""

    lost = 0

    def makeConnection(self, transport: Any) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        self.lost += 1


class DialTests(SynchronousTestCase):
    """One dialled link."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint(self.clock)
        self.ear = Ear()

    def dial(self, **options: Any) -> Deferred[Link]:
        return dial(self.endpoint, self.ear, AGENT, clock=self.clock, **options)

    def serve(self, ear: Ear | None = None, **options: Any) -> Any:
        factory = StreamFactory(ear or Ear(), MASTER, clock=self.clock, **options)
        return factory.buildProtocol(None)

    def check_nothing_is_left(self) -> None:
        self.assertEqual(self.ear.heard, [])
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_it_fires_with_the_link_that_the_receiver_knows_already(self) -> None:
        heard: list[object] = []
        dialled = self.dial().addCallback(lambda link: heard.append((link, list(self.ear.heard))))
        wires = self.endpoint.reach(self.serve())
        self.assertNoResult(dialled)
        wires.spin()
        self.assertEqual(heard, [(self.ear.link, ["connected"])])
        self.assertEqual(self.ear.link.hello, MASTER)

    def test_what_is_sent_when_it_fires_arrives(self) -> None:
        ear = Ear()
        self.dial().addCallback(lambda link: link.send(text("hello there")))
        wires = self.endpoint.reach(self.serve(ear))
        wires.spin()
        self.assertEqual(ear.words, ["hello there"])

    def test_nobody_listens(self) -> None:
        dialled = self.dial()
        self.endpoint.connecting.errback(Failure(error.ConnectionRefusedError("no")))
        failed = self.failureResultOf(dialled, DialFailed).value
        self.assertIn("no link to Endpoint: Connection was refused", str(failed))
        self.check_nothing_is_left()

    def test_the_peer_refuses_and_says_why(self) -> None:
        dialled = self.dial()
        wires = self.endpoint.reach(self.serve(accept=[FRAMEWORK.role]))
        wires.spin()
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIn("the peer said: role agent is not accepted here", error.why)
        self.check_nothing_is_left()

    def test_the_peer_is_not_who_it_should_be(self) -> None:
        dialled = self.dial(accept=[4])
        ear = Ear()
        wires = self.endpoint.reach(self.serve(ear))
        wires.spin()
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIn("role master is not accepted here, only: executor", error.why)
        self.assertEqual(len(ear.reasons), 1)

    def test_the_connection_breaks_before_hello(self) -> None:
        dialled = self.dial()
        self.endpoint.reach(Silent()).cut()
        self.failureResultOf(dialled, DialFailed)
        self.check_nothing_is_left()

    def test_a_peer_that_says_nothing(self) -> None:
        dialled = self.dial()
        wires = self.endpoint.reach(Silent())
        self.clock.advance(5)
        wires.spin()
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertEqual(error.why, "no hello came within 5 s")
        self.check_nothing_is_left()

    def test_a_connection_that_never_comes_about(self) -> None:
        dialled = self.dial(settings=StreamSettings(dial_timeout=7))
        self.clock.advance(6.9)
        self.assertNoResult(dialled)
        self.clock.advance(0.2)
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertEqual(error.why, "not there within 7 s")
        self.assertTrue(self.endpoint.cancelled)
        self.assertIsNone(self.endpoint.factory.buildProtocol(None))
        self.check_nothing_is_left()

    def test_a_hello_that_takes_too_long_together_with_the_connection(self) -> None:
        dialled = self.dial(settings=StreamSettings(dial_timeout=7))
        self.clock.advance(6)
        peer = Silent()
        wires = self.endpoint.reach(peer)
        self.clock.advance(1)
        wires.spin()
        self.failureResultOf(dialled, DialFailed)
        self.assertEqual(peer.lost, 1)
        self.check_nothing_is_left()

    def test_cancelled_while_connecting(self) -> None:
        dialled = self.dial()
        dialled.cancel()
        self.failureResultOf(dialled, CancelledError)
        self.assertTrue(self.endpoint.cancelled)
        self.check_nothing_is_left()

    def test_cancelled_while_waiting_for_hello(self) -> None:
        dialled = self.dial()
        peer = Silent()
        wires = self.endpoint.reach(peer)
        dialled.cancel()
        wires.spin()
        self.failureResultOf(dialled, CancelledError)
        self.assertEqual(peer.lost, 1)
        self.check_nothing_is_left()

    def test_cancelling_it_afterwards_leaves_the_link_alone(self) -> None:
        dialled = self.dial()
        wires = self.endpoint.reach(self.serve())
        wires.spin()
        dialled.cancel()
        wires.spin()
        self.assertEqual(self.ear.heard, ["connected"])

    def test_a_receiver_that_does_not_want_the_link(self) -> None:
        class Unwilling(Ear):
            def connected(self, link: Link) -> None:
                super().connected(link)
                link.lose("changed my mind")

        self.ear = Unwilling()
        dialled = self.dial()
        self.endpoint.reach(self.serve()).spin()
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertEqual(error.why, "changed my mind")
        self.assertEqual(self.ear.heard, ["connected", ("lost", "changed my mind")])

    def test_texts_are_endpoints_too(self) -> None:
        reactor: Any = MemoryReactorClock()
        dialled = dial("127.0.0.1:5050", self.ear, AGENT, clock=reactor)
        self.assertEqual(reactor.tcpClients[0][:2], ("127.0.0.1", 5050))
        reactor.advance(15)
        error = self.failureResultOf(dialled, DialFailed).value
        self.assertIn("no link to 127.0.0.1:5050: not there within 15 s", str(error))

    def test_a_wrong_text_is_told_at_once(self) -> None:
        self.assertRaises(EndpointError, dial, "nowhere", self.ear, AGENT, clock=self.clock)

    def test_many_dialled_links_can_share_a_pulse(self) -> None:
        pulse = Pulse(self.clock, StreamSettings().heartbeat / 2)
        for number in range(5):
            endpoint = Endpoint(self.clock)
            hello = Hello(role=2, instance=str(number))
            dial(endpoint, Ear, hello, clock=self.clock, pulse=pulse)
            endpoint.reach(self.serve()).spin()
        # Theirs, and one for each of the five factories that they dialled.
        self.assertEqual(len(self.clock.getDelayedCalls()), 6)
