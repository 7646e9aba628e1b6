"""Every endpoint of an agent asks as its realm says, and nonsense for a credential harms nobody."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from mesoskit.web.authentication import Realm
from mesoskit.web.authentication_basic import BasicAuthenticator
from mesoskit.web.authentication_jwt import JwtAuthenticator
from mesoskit.wire.auth.checkers import of_mapping
from tests.agent.test_service import World
from tests.base import SynchronousTestCase
from tests.web.asking import ask
from tests.web.test_authentication import basic

KEY = b"0123456789abcdef0123456789abcdef"

_value = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda scheme, rest: scheme + b" " + rest,
        st.sampled_from([b"Basic", b"Bearer"]),
        st.binary(max_size=60),
    ),
    st.sampled_from([basic("ops", "s").encode(), b"Basic b3BzOnM=", b"Bearer a.b.c", b"basic  x"]),
)


class RealmTests(SynchronousTestCase):
    """An agent with all that there is to ask with."""

    def setUp(self) -> None:
        work_dir = os.path.realpath(self.mktemp())
        os.makedirs(work_dir)
        self.world = World(work_dir)
        self.service = self.world.agent()
        self.world.register(self.service)
        for realm in set(Realm) - {Realm.OPEN}:
            name = f"mesos-agent-{realm.value}"
            self.service.guard.ask(
                realm,
                BasicAuthenticator(name, of_mapping({"ops": "s"})),
                JwtAuthenticator(name, KEY, self.world.reactor.seconds),
            )

    def test_every_route_asks_as_its_realm_says(self) -> None:
        for route in self.service.resource().table:
            paths = [route.path, f"slave(1)/{route.path}"] if route.prefixed else [route.path]
            for path in paths:
                answer = ask(self.service.port, f"POST /{path}", self.world.turn)
                if route.realm is Realm.OPEN:
                    self.assertNotIn(answer.status, (401, 403), path)
                    continue
                self.assertEqual(401, answer.status, path)
                assert route.realm is not None
                name = f"mesos-agent-{route.realm.value}"
                self.assertEqual(
                    f'Basic realm="{name}",Bearer realm="{name}"',
                    answer.headers["www-authenticate"],
                )
                shown = basic("ops", "s")
                answer = ask(
                    self.service.port, f"GET /{path}", self.world.turn, Authorization=shown
                )
                self.assertNotEqual(401, answer.status, path)

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(_value, max_size=3),
        st.sampled_from([b"GET /state", b"POST /api/v1/executor", b"POST /api/v1", b"GET /health"]),
        st.sampled_from([b"Authorization", b"AUTHORIZATION", b"Authorization ", b"authorization"]),
        st.sampled_from([b": ", b":", b":\t", b":\r\n "]),
    )
    def test_nonsense_is_refused(
        self, values: list[bytes], request: bytes, name: bytes, colon: bytes
    ) -> None:
        self.setUp()
        protocol: Any = self.service.port.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        transport = StringTransport()
        protocol.makeConnection(transport)
        lines = b"".join(name + colon + value + b"\r\n" for value in values)
        protocol.dataReceived(
            request + b" HTTP/1.1\r\nHost: x\r\n" + lines + b"Content-Length: 0\r\n\r\n"
        )
        self.world.turn()
        head = transport.value()[:12]
        right = any(value.strip() == basic("ops", "s").encode() for value in values)
        allowed = (b"400", b"401", b"429", b"") + ((b"200", b"403", b"415") if right else ())
        if b"health" in request:
            allowed = (b"200", b"400", b"")
        self.assertIn(head[9:12], allowed, transport.value()[:300])
