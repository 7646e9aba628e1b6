"""Documents of kept parts: always those of a fresh look, and never short of a task."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from mesoskit.master import documents
from mesoskit.master.answers import TREES, Listing
from mesoskit.master.fragments import Fragments
from mesoskit.master.framework_metrics import PREFIX
from mesoskit.master.metrics import Metrics
from mesoskit.master.visible import EVERYTHING
from mesoskit.messages.codec import decode_as, encode, from_json, to_json
from mesoskit.messages.master_pb2 import Response
from mesoskit.messages.pieces import Form, byte_pieces, json_pieces
from mesoskit.messages.scheduler_pb2 import Call
from mesoskit.web.shared import MetricParts
from tests import example_count
from tests.base import SynchronousTestCase
from tests.master.bench import Bench, acknowledge, scheduler_call, task, update
from tests.master.test_machine import ClusterMachine


def _all(state: Any, fragments: Fragments) -> list[bytes]:
    return [
        b"".join(pieces)
        for pieces in (
            documents.state(state, {}, fragments),
            documents.summary(state, fragments),
            documents.agents(state, fragments),
            documents.tasks(state, fragments),
            documents.roles(state, fragments),
        )
    ]


def _told(state: Any, fragments: Fragments, form: Form) -> list[bytes]:
    """Return the big answers of the operator API."""
    answered = []
    for name, tree in TREES.items():
        whole = {"type": name, name.lower(): tree(Listing(state), fragments, EVERYTHING)}
        pieces = json_pieces(whole) if form is Form.JSON else byte_pieces(Response, whole)
        answered.append(b"".join(pieces))
    return answered


class Looking(ClusterMachine):
    """Random histories, in which somebody looks after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Fragments()
        self.metrics = Metrics()

    @invariant()
    def kept_parts_are_those_of_a_fresh_look(self) -> None:
        state = self.bench.state
        seen = _all(state, self.kept)
        assert seen == _all(state, Fragments())
        for document in seen:
            json.loads(document)

    @invariant()
    def kept_parts_of_the_operator_api_are_those_of_a_fresh_look(self) -> None:
        state = self.bench.state
        in_json, in_bytes = (_told(state, self.kept, form) for form in (Form.JSON, Form.BYTES))
        assert in_bytes == _told(state, Fragments(), Form.BYTES)
        assert in_json == _told(state, Fragments(), Form.JSON)
        for text, whole in zip(in_json, in_bytes, strict=True):
            message = decode_as(Response, whole)
            # The parts of an answer come in Mesos' order, which is not that of the field numbers.
            assert sorted(encode(message)) == sorted(whole)
            assert from_json(Response, text) == from_json(Response, to_json(message))

    @invariant()
    def kept_metrics_are_those_of_a_fresh_look(self) -> None:
        state = self.bench.state
        parts = MetricParts(self.metrics.cluster(state), PREFIX, self.metrics.members())
        shown = json.loads(parts.as_json())
        assert list(shown) == sorted(shown)
        assert shown == state.metrics()

    @invariant()
    def used_resources_are_those_of_tasks_and_executors(self) -> None:
        state = self.bench.state
        shown = state.metrics()
        for name in ("cpus", "mem", "disk", "gpus"):
            used = sum(
                part.scalar(name)
                for agent in state.agents.values()
                for roles in agent.used().values()
                for part in roles.values()
            )
            assert round(shown[f"master/{name}_used"] * 1000) == used


class DocumentTests(SynchronousTestCase):
    """What is read while things change."""

    def test_kept_parts_are_those_of_a_fresh_look(self) -> None:
        run_state_machine_as_test(
            Looking,
            settings=settings(
                max_examples=example_count(15),
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

    def setUp(self) -> None:
        self.bench = Bench()
        self.agent, _ = self.bench.register()
        self.framework, self.framework_id = self.bench.subscribe()
        offer = self.offer = self.bench.offer(self.framework)
        names = [f"t{number}" for number in range(4)]
        self.bench.launch(self.framework, offer, *[task(offer, one, "cpus:1") for one in names])

    def _end(self, name: str) -> None:
        self.bench.receive(self.agent, update(self.offer, name, "TASK_FINISHED"))
        self.bench.receive(self.framework, acknowledge(self.offer, name, "TASK_FINISHED"))

    def _ids(self, pieces: Iterator[bytes], before: bytes = b"") -> set[str]:
        view = json.loads(before + b"".join(pieces))
        return {
            one["id"]
            for framework in (*view["frameworks"], *view["completed_frameworks"])
            for key in ("tasks", "completed_tasks", "unreachable_tasks")
            for one in framework[key]
        }

    def test_task_that_ends_while_a_document_is_made_is_in_it(self) -> None:
        for taken in range(1, 12):
            self.setUp()
            pieces = documents.state(self.bench.state, {}, Fragments())
            begun = b"".join(next(pieces) for _ in range(taken))
            self._end("t0")
            self._end("t3")
            self.assertEqual({"t0", "t1", "t2", "t3"}, self._ids(pieces, begun))

    def test_framework_and_agent_that_go_while_a_document_is_made_do_no_harm(self) -> None:
        for taken in range(1, 12):
            self.setUp()
            pieces = documents.state(self.bench.state, {}, Fragments())
            begun = b"".join(next(pieces) for _ in range(taken))
            self.bench.receive(self.framework, scheduler_call(Call.TEARDOWN, self.framework_id))
            self.bench.lose(self.agent)
            self.bench.register("another.example")
            self.assertEqual({"t0", "t1", "t2", "t3"}, self._ids(pieces, begun))

    def test_parts_of_what_is_forgotten_are_forgotten(self) -> None:
        kept = Fragments()
        for _ in range(300):
            self.setUp()
            list(documents.state(self.bench.state, {}, kept))
            _told(self.bench.state, kept, Form.JSON)
            list(kept.sweep(self.bench.state))
        self.assertLess(len(kept), 1200)
