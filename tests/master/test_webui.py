"""Apache Mesos' web UI, where somebody has it."""

import os
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from mesoskit.app.master import FLAGS
from mesoskit.cluster.memory import MemoryStore
from mesoskit.flags import FlagError
from mesoskit.master.options import MasterOptions
from mesoskit.master.service import MasterService
from tests.base import SynchronousTestCase
from tests.web.asking import Answer, ask


class WebUiTests(SynchronousTestCase):
    """A directory laid out like that of Mesos."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).absolute()
        (self.top / "app").mkdir(parents=True)
        (self.top / "assets" / "css").mkdir(parents=True)
        (self.top / "index.html").write_text("<html>")
        (self.top / "app" / "app.js").write_text("go()")
        (self.top / "assets" / "css" / "mesos.css").write_text("a {}")
        (self.top / "secret").write_text("s")
        os.symlink("../secret", self.top / "app" / "link")
        self.clock = Clock()

    def master(self, webui_dir: str | None) -> MasterService:
        options = MasterOptions(hostname="h", ip="127.0.0.1", port=25050, webui_dir=webui_dir)
        service = MasterService(self.clock, options, MemoryStore(), ())
        self.successResultOf(service.startService())
        self.addCleanup(service.stopService)
        return service

    def ask(self, request: str) -> Answer:
        service: Any = self.master(str(self.top))
        return ask(service.port, request, lambda: self.clock.advance(0))

    def test_pages_are_where_they_ask_for_each_other(self) -> None:
        for path, kind, body in (
            ("/", "text/html", b"<html>"),
            ("/master", "text/html", b"<html>"),
            ("/app/app.js", "javascript", b"go()"),
            ("/master/app/app.js", "javascript", b"go()"),
            ("/assets/css/mesos.css", "text/css", b"a {}"),
        ):
            answer = self.ask(f"GET {path}")
            self.assertEqual((200, body), (answer.status, answer.body), path)
            self.assertIn(kind, answer.headers["content-type"])

    def test_nothing_else_of_the_directory_is_given(self) -> None:
        for path in (
            "/app",
            "/app/nosuch",
            "/app/../secret",
            "/app/%2e%2e/secret",
            "/app/link",
            "/app/%2fetc/passwd",
            "/secret",
            "/assets/css",
            "/master/assets/../../secret",
        ):
            self.assertEqual(404, self.ask(f"GET {path}").status, path)

    def test_pages_are_only_read(self) -> None:
        self.assertEqual(405, self.ask("POST /app/app.js").status)
        self.assertEqual(b"", self.ask("HEAD /app/app.js").body)

    def test_without_a_directory_there_are_none(self) -> None:
        service: Any = self.master(None)
        answer = ask(service.port, "GET /app/app.js", lambda: self.clock.advance(0))
        self.assertEqual(404, answer.status)

    def test_directory_without_pages_is_refused(self) -> None:
        given = ["--work_dir=w", f"--webui_dir={self.top / 'app'}"]
        error = self.assertRaises(FlagError, FLAGS.parse, given, {})
        self.assertIn("there is no index.html in", str(error))
        found = FLAGS.parse(["--work_dir=w", f"--webui_dir={self.top}"], {})
        self.assertEqual(str(self.top), found.webui_dir)
