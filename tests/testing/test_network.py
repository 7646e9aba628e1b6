"""The network in memory: held to the contract of links, and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.protocol import Factory, Protocol

from mesoskit.testing import network
from mesoskit.testing.network import Network
from mesoskit.wire.endpoints import client_endpoint, server_endpoint
from mesoskit.wire.link import Hello
from mesoskit.wire.settings import StreamSettings
from mesoskit.wire.stream import StreamFactory, dial
from tests.base import SynchronousTestCase
from tests.wire.contract import LinkContract, Pair
from tests.wire.ears import Ear


class _Pair:
    def __init__(self, network: Network, host: Any) -> None:
        self.network = network
        self.host = host

    def spin(self, until: Callable[[], bool] | None = None) -> None:
        self.network.advance(0)
        for _ in range(100):
            if until is None or until():
                return
            self.network.advance(0.1)
        raise AssertionError("it has not come within 10 s")

    def cut(self) -> None:
        self.host.cut()

    def stall(self, stalled: bool) -> None:
        for transport in self.host.connections:
            transport.stall(stalled)


class NetworkContractTests(LinkContract, SynchronousTestCase):
    """The shipping streams, over this network."""

    def make_pair(
        self, a: Ear, b: Ear, hello_a: Hello, hello_b: Hello, settings_b: StreamSettings
    ) -> Pair:
        network = Network()
        one, two = network.host("one"), network.host("two")
        listening = StreamFactory(b, hello_b, clock=two, settings=settings_b)
        server_endpoint(two, "127.0.0.1:5050").listen(listening)
        link = dial("127.0.0.1:5050", a, hello_a, clock=one, settings=self.settings)
        link.addErrback(lambda _: None)
        return _Pair(network, two)


def connected_transport(protocol: Any) -> Any:
    """Return what a protocol that was connected writes to."""
    return protocol.transport


class NetworkTests(SynchronousTestCase):
    """Time passes in order, and links fail as links do."""

    def setUp(self) -> None:
        self.network = Network()
        self.one, self.two = self.network.host("one"), self.network.host("two")

    def test_everything_happens_at_its_own_moment(self) -> None:
        moments: list[float] = []

        def again() -> None:
            moments.append(self.one.seconds() - start)
            self.one.callLater(10, again)

        start = self.one.seconds()
        self.one.callLater(10, again)
        self.network.advance(35)
        self.assertEqual(moments, [10, 20, 30])
        self.assertEqual(self.one.seconds() - start, 35)

    def test_endless_exchange_is_noticed(self) -> None:
        def again() -> None:
            self.one.callLater(0, again)

        self.patch(network, "_NEVER_QUIET", 100)
        again()
        with self.assertRaisesRegex(RuntimeError, "still not quiet"):
            self.network.advance(1)

    def test_nobody_listens(self) -> None:
        refused = client_endpoint(self.one, "127.0.0.1:1").connect(Factory.forProtocol(Protocol))
        self.network.advance(0)
        self.failureResultOf(refused, error.ConnectionRefusedError)

    def test_port_is_taken_until_it_is_given_back(self) -> None:
        endpoint = server_endpoint(self.two, "127.0.0.1:5050")
        port = self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))
        self.failureResultOf(
            endpoint.listen(Factory.forProtocol(Protocol)), error.CannotListenError
        )
        port.stopListening()
        self.successResultOf(endpoint.listen(Factory.forProtocol(Protocol)))

    def test_isolated_host_is_not_reached(self) -> None:
        server_endpoint(self.two, "127.0.0.1:5050").listen(Factory.forProtocol(Protocol))
        self.two.isolate()
        tried = client_endpoint(self.one, "127.0.0.1:5050").connect(Factory.forProtocol(Protocol))
        self.network.advance(29)
        self.assertNoResult(tried)
        self.network.advance(1)
        self.failureResultOf(tried, error.TimeoutError)

    def test_what_was_sent_to_an_isolated_host_arrives_afterwards(self) -> None:
        heard: list[bytes] = []

        class Ears(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

        server_endpoint(self.two, "127.0.0.1:5050").listen(Factory.forProtocol(Ears))
        connected = client_endpoint(self.one, "127.0.0.1:5050").connect(
            Factory.forProtocol(Protocol)
        )
        self.network.advance(0)
        transport = connected_transport(self.successResultOf(connected))
        self.two.isolate()
        transport.write(b"hello")
        self.network.advance(5)
        self.assertEqual(heard, [])
        self.two.isolate(False)
        self.network.advance(0)
        self.assertEqual(heard, [b"hello"])

    def test_connection_that_ended_in_isolation_is_lost_when_it_is_used(self) -> None:
        lost: list[str] = []

        class Ears(Protocol):
            def connectionLost(self, reason: Any = None) -> None:
                lost.append(reason.type.__name__)

        factory = Factory.forProtocol(Ears)
        server_endpoint(self.two, "127.0.0.1:5050").listen(factory)
        connected = client_endpoint(self.one, "127.0.0.1:5050").connect(Factory.forProtocol(Ears))
        self.network.advance(0)
        self.two.isolate()
        self.two.cut()
        self.two.isolate(False)
        self.assertEqual(lost, ["ConnectionLost"])
        connected_transport(self.successResultOf(connected)).write(b"anybody there?")
        self.network.advance(0)
        self.assertEqual(lost, ["ConnectionLost", "ConnectionLost"])
