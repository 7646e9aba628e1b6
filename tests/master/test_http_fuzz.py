"""Nothing that a client can send raises, goes without an answer, or grows memory."""

from __future__ import annotations

import gc
import importlib.util
import tracemalloc
from pathlib import Path
from typing import Any

from tests.base import SynchronousTestCase

_FILE = Path(__file__).parents[2] / "benchmarks" / "fuzz_http.py"


def load() -> Any:
    """Return the long form, whose requests these are."""
    spec = importlib.util.spec_from_file_location("fuzz_http", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class FuzzTests(SynchronousTestCase):
    """A few thousand requests, wrong in one place or another."""

    def setUp(self) -> None:
        self.module = load()

    def test_no_request_raises(self) -> None:
        for seed in range(4):
            target = self.module.Target(self.module.Fuzz(seed))
            self.addCleanup(target.close)
            for _ in range(150):
                target.connection(3)
            target.check()
            self.assertGreater(target.answers[400], 20)
            self.assertGreater(target.answers[202], 0)

    def test_memory_does_not_grow(self) -> None:
        target = self.module.Target(self.module.Fuzz(7))
        self.addCleanup(target.close)

        def send() -> None:
            for _ in range(150):
                target.connection(3)

        # The state remembers its last frameworks and transitions: let it have as many.
        for _ in range(4):
            send()
        gc.collect()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        send()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        self.assertLess(grown, 2_000_000)

    def test_body_that_never_ends_costs_no_more_than_the_limit(self) -> None:
        target = self.module.Target(self.module.Fuzz(0))
        self.addCleanup(target.close)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        protocol = target.service.port.buildProtocol(None)
        transport = self.module.Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(
            b"POST /api/v1/scheduler HTTP/1.1\r\nContent-Length: 100000000\r\n"
            b"Mesos-Stream-Id: x\r\nContent-Type: application/json\r\n\r\n"
        )
        chunk = b"x" * 65536
        sent = 0
        while sent < 100_000_000 and not (transport.disconnecting or transport.disconnected):
            protocol.dataReceived(chunk)
            sent += len(chunk)
        self.assertLess(sent, 10 * self.module.BODY_LIMIT)
        self.assertLess(tracemalloc.get_traced_memory()[1], 20 * self.module.BODY_LIMIT)
        protocol.connectionLost(None)
