"""What is asked of those who come over HTTP, and how they are refused."""

from __future__ import annotations

from mesoskit.agent import http as agent_http
from mesoskit.master import http as master_http
from tests.base import SynchronousTestCase


class RealmTests(SynchronousTestCase):
    """Every route says whom it asks."""

    def test_every_route_is_in_a_realm_or_says_that_it_is_in_none(self) -> None:
        for room in (master_http, agent_http):
            for route in room.ROUTES:
                self.assertIsNotNone(
                    route.realm, f"{room.__name__}: {route.path!r} says no realm (Realm.OPEN: none)"
                )
