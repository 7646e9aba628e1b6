"""Endpoint texts: what they mean, and what is said of wrong ones."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from mesoskit.wire.endpoints import (
    BACKLOG,
    EndpointError,
    address_text,
    client_endpoint,
    server_endpoint,
)
from tests.base import SynchronousTestCase


class ClientEndpointTests(SynchronousTestCase):
    """Whom a text dials."""

    def dialled(self, text: str) -> MemoryReactorClock:
        reactor: Any = MemoryReactorClock()
        client_endpoint(reactor, text).connect(Factory()).addErrback(lambda _: None)
        return reactor  # type: ignore[no-any-return]

    def test_host_and_port(self) -> None:
        for text, host in (
            ("127.0.0.1:5050", "127.0.0.1"),
            ("[::1]:5050", "::1"),
            ("tcp:127.0.0.1:5050", "127.0.0.1"),
            ("tcp:host=127.0.0.1:port=5050:timeout=3", "127.0.0.1"),
        ):
            self.assertEqual(self.dialled(text).tcpClients[0][:2], (host, 5050))

    def test_a_name_is_looked_up(self) -> None:
        endpoint = client_endpoint(MemoryReactorClock(), "master.example:5050")
        self.assertIsInstance(endpoint, HostnameEndpoint)

    def test_a_unix_socket(self) -> None:
        self.assertEqual(self.dialled("unix:/run/agent.sock").unixClients[0][0], "/run/agent.sock")

    def test_wrong_texts_are_explained(self) -> None:
        for text, why in (
            ("", "the port is missing"),
            ("127.0.0.1", "the port is missing"),
            ("127.0.0.1:", "'' is no port number"),
            ("127.0.0.1:http", "'http' is no port number"),
            ("127.0.0.1:70000", "port 70000 is not within 0 to 65535"),
            ("127.0.0.1:0", "nobody can be dialled at port 0"),
            (":5050", "the host is missing"),
            ("tcp:5050", "missing 1 required positional argument: 'port'"),
            ("carrier:pigeon:1", "carrier"),
            ("http://10.0.0.1:5050/master", "the address alone is expected: 10.0.0.1:5050"),
            ("unix:", "the path is missing"),
            ("unix:/" + "x" * 107, "at most 107 bytes, this one 108"),
        ):
            error = self.assertRaises(EndpointError, client_endpoint, MemoryReactorClock(), text)
            self.assertIn(why, str(error))
            self.assertIn(repr(text), str(error))
            self.assertNotIn("()", str(error))


class ServerEndpointTests(SynchronousTestCase):
    """Where a text listens."""

    def listening(self, text: str) -> MemoryReactorClock:
        reactor: Any = MemoryReactorClock()
        server_endpoint(reactor, text).listen(Factory())
        return reactor  # type: ignore[no-any-return]

    def test_host_and_port_with_room_for_a_burst(self) -> None:
        for text, interface in (
            ("127.0.0.1:5050", "127.0.0.1"),
            (":5050", ""),
            ("tcp:5050", ""),
            ("[::1]:5050", "::1"),
        ):
            port, _, backlog, where = self.listening(text).tcpServers[0]
            self.assertEqual((port, backlog), (5050, BACKLOG))
            self.assertIn(where, {interface, "::" if not interface else interface})

    def test_a_backlog_of_ones_own(self) -> None:
        self.assertEqual(self.listening("tcp:5050:backlog=7").tcpServers[0][2], 7)

    def test_a_free_port(self) -> None:
        self.assertEqual(self.listening("127.0.0.1:0").tcpServers[0][0], 0)

    def test_a_unix_socket_is_the_owners_alone(self) -> None:
        path, _, backlog, mode, pid = self.listening("unix:/run/a.sock").unixServers[0]
        self.assertEqual((path, backlog, mode, pid), ("/run/a.sock", BACKLOG, 0o600, True))
        self.assertEqual(self.listening("unix:/run/a.sock:mode=666").unixServers[0][3], 0o666)

    def test_wrong_texts_are_explained(self) -> None:
        for text, why in (
            ("5050", "the port is missing"),
            ("unix:/" + "x" * 200, "at most 107 bytes"),
            ("ssl:5050:privateKey=/no/such/file", "/no/such/file"),
            ("tcp:0:colour=red", "colour"),
        ):
            error = self.assertRaises(EndpointError, server_endpoint, MemoryReactorClock(), text)
            self.assertIn(why, str(error))


class AddressTextTests(SynchronousTestCase):
    """Addresses, as people write them."""

    def test_each_kind(self) -> None:
        for address, expected in (
            (IPv4Address("TCP", "127.0.0.1", 5050), "127.0.0.1:5050"),
            (IPv6Address("TCP", "::1", 5050), "[::1]:5050"),
            (UNIXAddress(b"/run/a.sock"), "unix:/run/a.sock"),
            (UNIXAddress(None), "unix"),
        ):
            self.assertEqual(address_text(address), expected)
