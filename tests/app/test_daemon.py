"""What becomes of a daemon whose service fails to start: at once, and later."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mesoskit.app import daemon
from mesoskit.app.daemon import Daemon
from tests.base import SynchronousTestCase


class Starting(Service):
    """A service that has started when a test says so."""

    def __init__(self, started: Deferred[None]) -> None:
        self.started = started

    def startService(self) -> Deferred[None]:
        return self.started


class StartTests(SynchronousTestCase):
    """Failures of C{startService}."""

    def setUp(self) -> None:
        self.ends: list[int] = []
        self.said = io.StringIO()
        self.patch(daemon, "end_with", lambda reactor, status: self.ends.append(status))
        self.patch(sys, "stderr", self.said)

    def start(self, started: Deferred[None]) -> Daemon:
        reactor: Any = None
        service = Daemon("mesos-agent", Starting(started), reactor)
        service.startService()
        return service

    def test_what_fails_at_once_is_refused(self) -> None:
        with self.assertRaises(SystemExit) as caught:
            self.start(fail(ValueError("no disk")))
        self.assertIn("no disk", f"{caught.exception} {self.said.getvalue()}")
        self.assertEqual(self.ends, [])

    def test_directory_of_logs_that_cannot_be_is_refused(self) -> None:
        path = Path(self.mktemp()).absolute()
        path.write_text("")
        given = SimpleNamespace(log_dir=str(path), external_log_file=None, logging_level="INFO")
        options: Any = SimpleNamespace(
            given=given, daemonizes=False, under_twistd=False, pidfile=None
        )
        reactor: Any = Clock()
        service = Daemon("mesos-agent", Starting(Deferred()), reactor, options)
        with self.assertRaises(SystemExit):
            service.startService()
        self.assertIn(f"mesos-agent: --log_dir: cannot write {path}", self.said.getvalue())

    def test_what_fails_later_ends_the_process(self) -> None:
        started = Deferred[None]()
        self.start(started)
        self.assertEqual(self.ends, [])
        started.errback(ValueError("no launcher"))
        self.assertEqual(self.ends, [1])
        self.assertEqual(self.said.getvalue(), "mesos-agent: no launcher\n")

    def test_what_is_stopped_before_it_has_started_has_not_failed(self) -> None:
        started = Deferred[None]()
        self.start(started).stopService()
        started.errback(ValueError("the agent stops"))
        self.assertEqual((self.ends, self.said.getvalue()), ([], ""))

    def test_what_starts_runs(self) -> None:
        started = Deferred[None]()
        self.start(started)
        started.callback(None)
        self.assertEqual((self.ends, self.said.getvalue()), ([], ""))


class DescribeTests(SynchronousTestCase):
    """Failures in one line."""

    def test_a_socket_that_another_daemon_has_is_named_with_the_reason(self) -> None:
        taken = CannotListenError(None, b"/run/agent/socket", "Cannot acquire lock")
        said = daemon.describe(Failure(taken))
        self.assertIn("/run/agent/socket: another daemon does", said)
        self.assertIn("--work_dir", said)

    def test_an_address_is_named_with_what_the_system_says(self) -> None:
        taken = CannotListenError("127.0.0.1", 5050, OSError(98, "Address already in use"))
        self.assertEqual(
            daemon.describe(Failure(taken)),
            "cannot listen on 127.0.0.1:5050: Address already in use",
        )
