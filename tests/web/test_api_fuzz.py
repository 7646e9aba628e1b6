"""Nothing that anybody can send to a cluster's HTTP raises, is a 500, or grows memory."""

from __future__ import annotations

import gc
import importlib
import sys
import tracemalloc
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from mesoskit.web.verbosity import VERBOSITY
from tests.base import SynchronousTestCase

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


def load() -> Any:
    """Return the long form, whose requests these are."""
    sys.path.insert(0, _BENCHMARKS)
    try:
        return importlib.import_module("fuzz_api")
    finally:
        sys.path.remove(_BENCHMARKS)


class ApiFuzzTests(SynchronousTestCase):
    """A few thousand requests to master and agent, wrong in one place or another."""

    def setUp(self) -> None:
        self.module = load()
        # Some of them ask for more to be logged.
        self.addCleanup(VERBOSITY.set, 0, 0.0, Clock())

    def target(self, seed: int) -> Any:
        target = self.module.Target(self.module.Fuzz(seed))
        self.addCleanup(target.close)
        return target

    def test_no_request_raises(self) -> None:
        for seed in range(3):
            target = self.target(seed)
            for _ in range(250):
                target.connection(3)
            target.check()
            for status in (200, 202, 400, 404, 405, 406, 501):
                self.assertGreater(target.answers[status], 0, status)

    def test_memory_does_not_grow(self) -> None:
        target = self.target(7)

        def send() -> None:
            for _ in range(150):
                target.connection(3)

        # Forms of heads are remembered, and transitions: let there be as many as there may.
        for _ in range(3):
            send()
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        send()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        self.assertLess(grown, 2_000_000)
