"""Endpoints that are disabled are so by every name that they have."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mesoskit.cluster.memory import MemoryStore
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from mesoskit.web.firewall import parse_firewall_rules
from tests.base import SynchronousTestCase
from tests.web.asking import ask


class ParseTests(SynchronousTestCase):
    """The JSON of Mesos' Firewall."""

    def test_paths(self) -> None:
        said = '{"disabled_endpoints": {"paths": ["/files/browse", "metrics/snapshot"]}}'
        self.assertEqual(parse_firewall_rules(said), ("/files/browse", "metrics/snapshot"))
        for nothing in ("{}", '{"disabled_endpoints": {}}', '{"disabled_endpoints": null}'):
            self.assertEqual(parse_firewall_rules(nothing), ())

    def test_what_is_not_understood_is_refused(self) -> None:
        for text, words in (
            ("", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ("[]", "rules must be an object"),
            ('{"disabled": {}}', "unknown name 'disabled'"),
            ('{"disabled_endpoints": {"path": "/state"}}', "unknown name 'path'"),
            ('{"disabled_endpoints": {"paths": "/state"}}', "must be a list of texts"),
            ('{"disabled_endpoints": {"paths": [1]}}', "must be a list of texts"),
            ('{"disabled_endpoints": {"paths": ["/"]}}', "'/' is the path of no endpoint"),
        ):
            error = self.assertRaises(ValueError, parse_firewall_rules, text)
            self.assertIn(words, str(error))

    @given(
        st.recursive(
            st.none() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["disabled_endpoints", "paths"]), inner)
            ),
        )
    )
    def test_nothing_but_a_value_error_comes_of_nonsense(self, what: object) -> None:
        try:
            parse_firewall_rules(json.dumps(what))
        except ValueError:
            pass


class DisabledTests(SynchronousTestCase):
    """A master with rules."""

    def setUp(self) -> None:
        self.clock = Clock()
        rules = ("/state", "/master/slaves", "metrics/snapshot", "/api/v1/scheduler", "/no/such")
        options = MasterOptions(firewall_rules=rules)
        self.service = MasterService(self.clock, options, MemoryStore(), ())
        self.successResultOf(self.service.startService())
        self.addCleanup(self.service.stopService)

    def status(self, request: str) -> tuple[int, bytes]:
        answer = ask(self.service.port, request, lambda: self.clock.advance(0))
        return answer.status, answer.body

    def test_by_all_of_their_names(self) -> None:
        for path, shown in (
            ("/state", "/master/state"),
            ("/master/state", "/master/state"),
            ("/state.json", "/master/state"),
            ("/master/%73tate?x=y", "/master/state"),
            ("/state/below", "/master/state"),
            ("/slaves", "/master/slaves"),
            ("/metrics/snapshot", "/metrics/snapshot"),
        ):
            self.assertEqual(
                self.status(f"GET {path}"), (403, f"Endpoint '{shown}' is disabled".encode()), path
            )

    def test_calls_by_the_short_way_too(self) -> None:
        for path in ("/api/v1/scheduler", "/master/api/v1/scheduler"):
            answer = ask(
                self.service.port,
                f"POST {path}",
                lambda: self.clock.advance(0),
                "{}",
                **{"Content-Type": "application/json", "Mesos-Stream-Id": "x"},
            )
            self.assertEqual(answer.status, 403)

    def test_others_are_there(self) -> None:
        for path in ("/health", "/master/frameworks", "/state-summary", "/help"):
            self.assertEqual(self.status(f"GET {path}")[0], 200, path)
