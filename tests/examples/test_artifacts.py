"""The artifact server of the image example: what it hands out, and what it takes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.testing import StringTransport

from tests.base import SynchronousTestCase
from tests.examples.loading import load_beside

artifacts = load_beside("images/artifacts.py")


class Case(SynchronousTestCase):
    """Speaks HTTP with the server without a reactor."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        executor = self.folder / "executor"
        executor.write_text("print('hello')")
        picture = self.folder / "picture"
        picture.write_bytes(b"pixels")
        self.results = self.folder / "results"
        self.results.mkdir()
        self.site = artifacts.ArtifactSite(executor, {"a b.jpg": picture}, self.results)
        self.site.doStart()
        self.addCleanup(self.site.doStop)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body of an answer."""
        protocol: Any = self.site.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        protocol.connectionLost(None)
        return int(head.split()[1]), body

    def found(self, *path: str) -> Any:
        """Return the resource at a path."""
        request: Any = SimpleNamespace(postpath=[part.encode() for part in path], prepath=[])
        return self.site.getResourceFor(request)

    def post(self, *fields: tuple[str, bytes]) -> tuple[int, bytes]:
        parts = b"".join(
            b'--BOUND\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
            % (name.encode(), value)
            for name, value in fields
        )
        body = parts + b"--BOUND--\r\n"
        head = (
            "POST /upload HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: multipart/form-data; boundary=BOUND\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return self.ask(head.encode() + body)


class DownloadTests(Case):
    """What agents and executors fetch."""

    def test_executor(self) -> None:
        self.assertEqual(Path(self.found("executor.py").path), self.folder.absolute() / "executor")

    def test_image_by_its_name(self) -> None:
        file = self.found("images", "a b.jpg")
        self.assertEqual(Path(file.path), self.folder.absolute() / "picture")

    def test_nothing_else(self) -> None:
        for path in (
            "",
            "images",
            "images/",
            "images/other.jpg",
            "executor.py/x",
            "../x",
            "results",
        ):
            request = f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.assertIn(self.ask(request.encode())[0], (404, 405), path)


class UploadTests(Case):
    """What executors post."""

    def test_any_bytes_arrive_unchanged(self) -> None:
        image = bytes(range(256)) * 300 + b"\r\n--BOUN\r\n\n\r" + os.urandom(100_000)
        status, said = self.post(("name", b"x_inverted.jpg"), ("image", image))
        self.assertEqual((status, said), (201, b"x_inverted.jpg: %d bytes\n" % len(image)))
        self.assertEqual((self.results / "x_inverted.jpg").read_bytes(), image)

    def test_names_that_lead_elsewhere_are_refused(self) -> None:
        for name in (b"../x", b"/etc/x", b"a/b", b".hidden", b"", b"a\\b", b"a\0b", b"x" * 200):
            status, said = self.post(("name", name), ("image", b"data"))
            self.assertEqual(status, 400, name)
            self.assertIn(b"plain file name", said)
        self.assertEqual(list(self.results.iterdir()), [])

    def test_fields_that_are_missing(self) -> None:
        self.assertEqual(self.post(("image", b"data"))[0], 400)
        self.assertEqual(self.post(("name", b"x"))[0], 400)

    def test_there_is_a_limit(self) -> None:
        self.patch(artifacts, "LONGEST", 1000)
        status, said = self.post(("name", b"x"), ("image", b"d" * 2000))
        self.assertEqual((status, said), (413, b"an upload may have 1000 bytes\n"))
        self.assertEqual(list(self.results.iterdir()), [])

    def test_what_is_over_the_limit_is_not_kept(self) -> None:
        body = artifacts.Body(10)
        for _ in range(100):
            body.write(b"12345")
        self.assertEqual(body.getvalue(), b"1234512345")
        self.assertEqual(body.length, 500)
