"""The fetcher: what comes into a sandbox, as whom, and what does not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pwd
import stat
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import Data
from twisted.web.util import Redirect

from mesoskit.agent import fetch_files
from mesoskit.agent.container import Uri
from mesoskit.agent.fetcher import Fetcher, FetchError
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId
from tests.agent.real import REACTOR
from tests.base import SynchronousTestCase

A = ContainerId("a")
not_root = skipIf(os.geteuid() != 0, "only root can become another user")


class FetchTestCase(TestCase):
    """A test with a source directory, a sandbox and a fetcher."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="mesoskit-fetch-"))
        self.addCleanup(rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.source = Path(self.directory, "source")
        self.sandbox = Path(self.directory, "sandbox")
        self.source.mkdir()
        self.sandbox.mkdir()

    def fetcher(self, **options: Any) -> Fetcher:
        fetcher = Fetcher(REACTOR, **options)
        self.addCleanup(fetcher.stop)
        return fetcher

    async def fetch(self, *uris: Uri, **options: Any) -> None:
        await self.fetcher(**options).fetch(A, uris, str(self.sandbox), None)

    async def refused(self, *uris: Uri, **options: Any) -> str:
        try:
            await self.fetch(*uris, **options)
        except FetchError as error:
            return str(error)
        raise AssertionError("it was fetched")

    def file(self, name: str, content: bytes = b"content") -> str:
        path = self.source / name
        path.write_bytes(content)
        return str(path)

    def names(self) -> list[str]:
        """Return what is in the sandbox, but for the log."""
        return sorted(
            str(path.relative_to(self.sandbox))
            for path in self.sandbox.rglob("*")
            if path.name != "stderr"
        )


class LocalTests(FetchTestCase):
    """Files of this machine."""

    async def test_plain_paths_and_file_uris(self):
        one, two, three = self.file("one", b"1"), self.file("two", b"2"), self.file("three", b"3")
        await self.fetch(Uri(one), Uri(f"file://{two}"), Uri(f"file://localhost{three}"))
        self.assertEqual(self.names(), ["one", "three", "two"])
        self.assertEqual((self.sandbox / "three").read_bytes(), b"3")
        self.assertEqual(stat.S_IMODE((self.sandbox / "one").stat().st_mode), 0o644)

    async def test_what_was_done_is_logged_in_the_sandbox(self):
        path = self.file("one")
        await self.fetch(Uri(path))
        self.assertIn(f"Fetched '{path}' to 'one'", (self.sandbox / "stderr").read_text())
        await self.refused(Uri("/nonexistent/x"))
        log = (self.sandbox / "stderr").read_text()
        self.assertIn("cannot fetch '/nonexistent/x': No such file", log)

    async def test_executable(self):
        await self.fetch(Uri(self.file("run.tar"), executable=True))
        self.assertEqual(stat.S_IMODE((self.sandbox / "run.tar").stat().st_mode), 0o755)

    async def test_output_file(self):
        path = self.file("one")
        await self.fetch(Uri(path, output_file="deep/er/name"), Uri(path, output_file="flat"))
        self.assertEqual(self.names(), ["deep", "deep/er", "deep/er/name", "flat"])

    async def test_an_output_file_outside_is_refused(self):
        path = self.file("one")
        os.symlink("..", self.sandbox / "up")
        for bad in ("/etc/x", "../x", "a/../../x", "up/x", ".", ""):
            why = await self.refused(Uri(path, output_file=bad))
            self.assertIn(f"output_file {bad!r}", why)
        self.assertEqual(sorted(os.listdir(self.directory)), ["sandbox", "source"])

    async def test_a_link_in_the_place_of_the_file_is_replaced(self):
        victim = self.source / "victim"
        victim.write_text("precious")
        os.symlink(victim, self.sandbox / "one")
        await self.fetch(Uri(self.file("one")))
        self.assertEqual(victim.read_text(), "precious")
        self.assertFalse((self.sandbox / "one").is_symlink())

    async def test_relative_paths_need_a_home(self):
        self.file("one")
        self.assertIn("--frameworks_home", await self.refused(Uri("one")))
        await self.fetch(Uri("one"), frameworks_home=str(self.source))
        self.assertEqual(self.names(), ["one"])

    async def test_what_cannot_be_fetched_is_named_with_the_reason(self):
        fifo = str(self.source / "fifo")
        os.mkfifo(fifo)
        for uri, why in {
            "/nonexistent": "No such file or directory (/nonexistent)",
            str(self.source): "Is a directory",
            fifo: "is no regular file",
            "hdfs://host/x": "unsupported scheme 'hdfs': file, http, https and ftp",
            "file://relative/x": "absolute path",
            "http://host": "malformed URI (missing path)",
            "/a'b": "illegal characters",
            "/": "no file name",
            "/a/..": "no file name",
        }.items():
            told = await self.refused(Uri(uri))
            self.assertTrue(told.startswith(f"cannot fetch {uri!r}: "), told)
            self.assertIn(why, told)

    async def test_too_much_is_refused(self):
        path = self.file("big", b"x" * 1000)
        why = await self.refused(Uri(path), Uri(path), max_bytes=1500)
        self.assertIn("more than 1500 bytes", why)
        why = await self.refused(Uri(path), Uri(path), max_files=1)
        self.assertIn("more than 1 files", why)

    @not_root
    async def test_it_is_done_as_the_user(self):
        entry = pwd.getpwnam("nobody")
        os.chown(self.sandbox, entry.pw_uid, entry.pw_gid)
        credentials = Credentials(entry.pw_uid, entry.pw_gid, (entry.pw_gid,))
        secret = self.file("secret")
        os.chmod(secret, 0o600)
        fetcher = self.fetcher()
        await fetcher.fetch(A, [Uri(self.file("one"))], str(self.sandbox), credentials)
        self.assertEqual((self.sandbox / "one").owner(), "nobody")
        self.assertEqual((self.sandbox / "stderr").owner(), "nobody")
        try:
            await fetcher.fetch(A, [Uri(secret)], str(self.sandbox), credentials)
        except FetchError as error:
            self.assertIn("Permission denied", str(error))
        else:
            self.fail("root's file was read")

    async def test_a_sandbox_behind_a_link_is_refused(self):
        os.symlink(self.sandbox, Path(self.directory, "link"))
        try:
            await self.fetcher().fetch(A, [Uri(self.file("x"))], f"{self.directory}/link", None)
        except FetchError as error:
            self.assertIn("Not a directory", str(error))
        else:
            self.fail("it was fetched")

    async def test_only_a_few_at_a_time_and_all_in_the_end(self):
        fetcher = self.fetcher(concurrency=2)
        path = self.file("one")
        fetching = [
            fetcher.fetch(
                ContainerId(f"c{n}"), [Uri(path, output_file=f"{n}")], str(self.sandbox), None
            )
            for n in range(6)
        ]
        self.assertEqual(fetcher._places.tokens, 0)
        fetcher.cancel(ContainerId("c5"))
        for one in fetching[:5]:
            await one
        try:
            await fetching[5]
        except FetchError as error:
            self.assertIn("cancelled", str(error))
        else:
            self.fail("it was fetched")
        self.assertEqual(self.names(), ["0", "1", "2", "3", "4"])


Build = Callable[[tarfile.TarFile], None]


class ArchiveTests(FetchTestCase):
    """What is unpacked, and what is not."""

    def tar(self, name: str, build: Build, mode: str = "w") -> Uri:
        path = self.source / name
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            build(archive)
        return Uri(str(path))

    @staticmethod
    def add(archive: tarfile.TarFile, name: str, content: bytes = b"content", **more: Any) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(content))

    def link(self, archive: tarfile.TarFile, name: str, target: str, hard: bool = False) -> None:
        kind = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
        self.add(archive, name, b"", type=kind, linkname=target)

    def usual(self, archive: tarfile.TarFile) -> None:
        self.add(archive, "./", b"", type=tarfile.DIRTYPE, mode=0o700)
        self.add(archive, "top/dir", b"", type=tarfile.DIRTYPE, mode=0o555)
        self.add(archive, "top/dir/run", b"#!", mode=0o6755)
        self.link(archive, "top/link", "dir/run")
        self.link(archive, "top/same", "top/dir/run", hard=True)

    async def test_every_kind_of_tar(self):
        for name, mode in {
            "a.tar": "w",
            "a.tgz": "w:gz",
            "a.tar.gz": "w:gz",
            "a.tbz2": "w:bz2",
            "a.tar.bz2": "w:bz2",
            "a.txz": "w:xz",
            "a.tar.xz": "w:xz",
        }.items():
            await self.fetch(self.tar(name, self.usual, mode))
            self.assertEqual(
                self.names(),
                sorted([name, "top", "top/dir", "top/dir/run", "top/link", "top/same"]),
            )
            run = (self.sandbox / "top/dir/run").stat()
            self.assertEqual((stat.S_IMODE(run.st_mode), run.st_nlink), (0o755, 2))
            self.assertEqual((self.sandbox / "top/link").read_bytes(), b"#!")
            rmtree(self.sandbox / "top")
            (self.sandbox / name).unlink()

    async def test_zip_with_modes_and_links(self):
        path = self.source / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("dir/", "")
            run = zipfile.ZipInfo("dir/run")
            run.external_attr = 0o100755 << 16
            archive.writestr(run, "#!")
            link = zipfile.ZipInfo("link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "dir/run")
            archive.writestr("plain", "text")
        await self.fetch(Uri(str(path)))
        self.assertEqual(self.names(), ["a.zip", "dir", "dir/run", "link", "plain"])
        self.assertTrue(os.access(self.sandbox / "dir/run", os.X_OK))
        self.assertEqual(os.readlink(self.sandbox / "link"), "dir/run")

    async def test_gzip_of_one_file(self):
        path = self.file("text.gz", gzip.compress(b"text"))
        await self.fetch(Uri(path, output_file="below/text.gz"))
        self.assertEqual(self.names(), ["below", "below/text.gz", "text"])
        self.assertEqual((self.sandbox / "text").read_bytes(), b"text")

    async def test_only_what_is_to_be_extracted_and_looks_like_it(self):
        archive = self.tar("a.tar", self.usual)
        await self.fetch(Uri(archive.value, extract=False), Uri(self.file("plain")))
        self.assertEqual(self.names(), ["a.tar", "plain"])
        self.assertIn("Not extracted", (self.sandbox / "stderr").read_text())

    async def test_the_name_counts_under_which_it_is_stored(self):
        archive = self.tar("a.tar", self.usual)
        await self.fetch(Uri(archive.value, output_file="plain"))
        self.assertEqual(self.names(), ["plain"])

    async def assert_refused(self, uri: Uri, why: str = "", **options: Any) -> None:
        """Nothing may be written outside of the sandbox."""
        before = sorted(str(path) for path in self.source.rglob("*"))
        told = await self.refused(uri, **options)
        self.assertIn(why, told)
        self.assertTrue(told.startswith(f"cannot fetch {uri.value!r}: "), told)
        self.assertEqual(sorted(os.listdir(self.directory)), ["sandbox", "source"])
        self.assertEqual(sorted(str(path) for path in self.source.rglob("*")), before)

    async def test_members_above_are_refused(self):
        for name in ("../evil", "a/../../evil", "./../evil"):
            archive = self.tar("a.tar", partial(self.add, name=name))
            await self.assert_refused(archive, "outside")

    async def test_absolute_members_stay_in_the_sandbox(self):
        name = f"{self.directory}/evil"
        await self.fetch(self.tar("a.tar", lambda tar: self.add(tar, name)))
        self.assertFalse(os.path.exists(name))
        self.assertTrue((self.sandbox / name.lstrip("/")).is_file())

    async def test_links_that_lead_out_are_refused(self):
        for target in ("..", "../source", "/etc/passwd", "a/../../x"):
            for hard in (False, True):
                archive = self.tar("a.tar", partial(self.link, name="l", target=target, hard=hard))
                await self.assert_refused(archive)

    async def test_writing_through_links_is_refused(self):
        def direct(tar: tarfile.TarFile) -> None:
            self.link(tar, "out", "..")
            self.add(tar, "out/evil")

        def in_steps(tar: tarfile.TarFile) -> None:
            # Each link alone stays inside; together they would climb out.
            self.add(tar, "a/b", b"", type=tarfile.DIRTYPE)
            self.link(tar, "a/b/up", "..")
            self.link(tar, "a/b/up/b/upper", "../..")
            self.link(tar, "out", "a/b/upper/..")
            self.add(tar, "out/evil")

        for build in (direct, in_steps):
            await self.assert_refused(self.tar("a.tar", build))

    async def test_a_link_of_before_is_not_written_through(self):
        victim = self.source / "victim"
        victim.write_text("precious")
        os.symlink(victim, self.sandbox / "file")
        os.symlink(self.source, self.sandbox / "dir")
        tar = self.tar("a.tar", lambda tar: self.add(tar, "file"))
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4: it minds where links lead
            await self.assert_refused(tar)
        else:
            await self.fetch(tar)
        with zipfile.ZipFile(self.source / "a.zip", "w") as archive:
            archive.writestr("file", "content")
        await self.fetch(Uri(str(self.source / "a.zip")))
        self.assertEqual((self.sandbox / "file").read_text(), "content")
        self.assertEqual(victim.read_text(), "precious")
        await self.assert_refused(self.tar("b.tar", lambda tar: self.add(tar, "dir/evil")))

    async def test_devices_and_fifos_are_refused(self):
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
            archive = self.tar("a.tar", partial(self.add, name="x", content=b"", type=kind))
            await self.assert_refused(archive)

    async def test_zip_slip_is_refused(self):
        path = self.source / "a.zip"
        for name, target in (("../evil", ""), ("link", "../source"), ("link", "/etc/passwd")):
            with zipfile.ZipFile(path, "w") as archive:
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o120777 if target else 0o100644) << 16
                archive.writestr(info, target or "evil")
            await self.assert_refused(Uri(str(path)))

    async def test_bombs_are_defused(self):
        zeros = bytes(1 << 22)
        archive = self.tar("a.tgz", lambda tar: self.add(tar, "zeros", zeros), "w:gz")
        await self.assert_refused(archive, "more than", max_bytes=1 << 20)
        zipped = self.source / "a.zip"
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("zeros", zeros)
        await self.assert_refused(Uri(str(zipped)), "more than", max_bytes=1 << 20)
        packed = self.file("zeros.gz", gzip.compress(zeros))
        await self.assert_refused(Uri(packed), "more than", max_bytes=1 << 20)

        def many(tar: tarfile.TarFile) -> None:
            for number in range(200):
                self.add(tar, f"f{number}", b"")

        await self.assert_refused(self.tar("b.tar", many), "more than 100 files", max_files=100)

    async def test_what_is_no_archive_is_said(self):
        whole = self.tar("whole.tgz", self.usual, "w:gz")
        torn = Path(whole.value).read_bytes()[:60]
        for name, content in {
            "a.tar": b"nonsense" * 100,
            "a.zip": b"nonsense",
            "a.gz": b"nonsense",
            "torn.tgz": torn,
            "torn.gz": gzip.compress(os.urandom(1000))[:500],
            "a.txz": lzma.compress(b"x" * 1000)[:40],
            "a.tbz2": bz2.compress(b"x" * 1000)[:40],
        }.items():
            await self.assert_refused(Uri(self.file(name, content)))


class _Silent(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        request.setHeader(b"Content-Length", b"100")
        request.write(b"half")
        return NOT_DONE_YET


class _Short(Resource):
    isLeaf = True

    def render_GET(self, request: Any) -> Any:
        request.setHeader(b"Content-Length", b"100")
        request.write(b"half")
        REACTOR.callLater(0, request.loseConnection)
        return NOT_DONE_YET


class HttpTests(FetchTestCase):
    """Servers, good and bad."""

    def setUp(self) -> None:
        super().setUp()
        root = Resource()
        root.putChild(b"text", Data(b"text", "text/plain"))
        root.putChild(b"big", Data(os.urandom(1 << 20), "text/plain"))
        root.putChild(b"there", Redirect(b"/text"))
        root.putChild(b"round", Redirect(b"/round"))
        root.putChild(b"file", Redirect(b"file:///etc/passwd"))
        root.putChild(b"ftp", Redirect(b"ftp://127.0.0.1/x"))
        root.putChild(b"silent", _Silent())
        root.putChild(b"short", _Short())
        self.site = Site(root)
        self.port = REACTOR.listenTCP(0, self.site, interface="127.0.0.1")
        self.addCleanup(self.close)

    async def close(self) -> None:
        await maybeDeferred(self.port.stopListening)
        # What clients have hung up on needs a moment to be noticed.
        for _ in range(200):
            readers = [r for r in REACTOR.getReaders() if getattr(r, "server", None) is self.port]
            if not readers:
                return
            await deferLater(REACTOR, 0.01)

    def uri(self, path: str) -> Uri:
        return Uri(f"http://127.0.0.1:{self.port.getHost().port}/{path}")

    async def test_download(self):
        await self.fetch(self.uri("text"), self.uri("big"))
        self.assertEqual(self.names(), ["big", "text"])
        self.assertEqual((self.sandbox / "text").read_bytes(), b"text")
        self.assertEqual((self.sandbox / "big").stat().st_size, 1 << 20)

    async def test_blanks_before_are_no_matter_and_a_query_is_part_of_the_name(self):
        await self.fetch(Uri("  " + self.uri("text?a=b").value))
        self.assertEqual(self.names(), ["text?a=b"])

    @not_root
    async def test_another_user_needs_nothing_of_our_installation(self):
        entry = pwd.getpwnam("nobody")
        os.chown(self.sandbox, entry.pw_uid, entry.pw_gid)
        credentials = Credentials(entry.pw_uid, entry.pw_gid, (entry.pw_gid,))
        uris = [self.uri("text")]
        for name, mode in {"a.txz": "w:xz", "b.tbz2": "w:bz2", "c.tgz": "w:gz"}.items():
            with tarfile.open(self.source / name, mode) as archive:  # type: ignore[call-overload]
                archive.add(self.file("one"), name.replace(".", "-"))
            uris.append(Uri(str(self.source / name)))
        with zipfile.ZipFile(self.source / "d.zip", "w") as zipped:
            zipped.writestr("in-zip", "text")
        uris += [Uri(str(self.source / "d.zip")), Uri(self.file("e.gz", gzip.compress(b"text")))]
        await self.fetcher().fetch(A, uris, str(self.sandbox), credentials)
        for name in ("text", "a-txz", "b-tbz2", "c-tgz", "in-zip", "e"):
            self.assertEqual((self.sandbox / name).owner(), "nobody")

    async def test_redirections_are_followed_within_http(self):
        await self.fetch(self.uri("there"))
        self.assertEqual((self.sandbox / "there").read_bytes(), b"text")
        for path, why in {
            "round": "redirect",
            "file": "302",
            "ftp": "unknown url type: ftp",
        }.items():
            self.assertIn(why, await self.refused(self.uri(path)))

    async def test_what_the_server_says_is_told(self):
        uri = self.uri("none")
        why = await self.refused(uri)
        self.assertEqual(why, f"cannot fetch {uri.value!r}: the server answered 404 Not Found")

    async def test_nobody_listens(self):
        uri = self.uri("text")
        await self.port.stopListening()
        self.assertIn("Connection refused", await self.refused(uri))

    async def test_a_stalled_download_is_given_up(self):
        self.assertIn("stalled", await self.refused(self.uri("silent"), stall=0.3))

    async def test_a_torn_download_is_noticed(self):
        self.assertIn("4 of 100 bytes", await self.refused(self.uri("short")))

    async def test_too_big_a_download_is_given_up(self):
        self.assertIn("more than 1000", await self.refused(self.uri("big"), max_bytes=1000))

    async def test_cancelling_ends_it(self):
        fetcher = self.fetcher()
        fetching = fetcher.fetch(A, [self.uri("silent")], str(self.sandbox), None)
        REACTOR.callLater(0.2, fetcher.cancel, A)
        await self.assert_fails(fetching, "cancelled")

    async def test_it_may_not_take_for_ever(self):
        fetcher = self.fetcher(timeout=0.2)
        fetching = fetcher.fetch(A, [self.uri("silent")], str(self.sandbox), None)
        await self.assert_fails(fetching, "more than 0.2 seconds")

    async def assert_fails(self, fetching: Deferred[None], why: str) -> None:
        try:
            await fetching
        except FetchError as error:
            self.assertIn(why, str(error))
        else:
            self.fail("it was fetched")


class TransferTests(SynchronousTestCase):
    """How far something is, and whether it goes on."""

    def setUp(self) -> None:
        self.now = 100.0
        self.patch(time, "monotonic", lambda: self.now)
        self.told: list[tuple[int, int | None]] = []
        self.lines: list[str] = []

    def transfer(self, stall: float = 60.0, most: int = 1 << 40) -> fetch_files.Transfer:
        budget = fetch_files.Budget(most, 1)
        told = self.told
        return fetch_files.Transfer(
            budget, stall, lambda total, expected: told.append((total, expected)), self.lines.append
        )

    def test_it_is_told_now_and_then(self) -> None:
        transfer = self.transfer()
        transfer.expect(50 << 20)
        for _ in range(40):
            transfer.took(1 << 20)
        self.assertEqual(self.told, [(n << 20, 50 << 20) for n in (0, 16, 32)])
        self.assertRaises(fetch_files.FetchFailed, transfer.finish)

    def test_it_is_logged_every_ten_seconds(self) -> None:
        transfer = self.transfer()
        for _ in range(25):
            self.now += 1
            transfer.took(1000)
        transfer.expect(30_000)
        self.now += 10
        transfer.took(1000)
        self.assertEqual(
            self.lines,
            [
                "10000 bytes have come",
                "20000 bytes have come",
                "26000 of 30000 bytes have come",
            ],
        )

    def test_a_byte_a_second_is_enough(self) -> None:
        transfer = self.transfer(stall=5.0)
        for _ in range(20):
            self.now += 1
            transfer.took(1)
        self.now += 4
        transfer.took(0)
        self.now += 1
        error = self.assertRaises(fetch_files.FetchFailed, transfer.took, 0)
        self.assertEqual(str(error), "it stalled: 0 bytes in 5 seconds")

    def test_more_than_may_be_written_is_another_matter(self) -> None:
        self.assertRaises(fetch_files.TooMuch, self.transfer(most=10).took, 11)


class NameTests(SynchronousTestCase):
    """File names of URIs, as Mesos makes them."""

    def test_names(self):
        for uri, name in {
            "http://host/a/b.tgz": "b.tgz",
            "http://host/a?b=c/d": "d",
            "https://host/x": "x",
            "/a/b": "b",
            "file:///a/b": "b",
            "b": "b",
            "s3n://bucket/key": "key",
        }.items():
            self.assertEqual(fetch_files.name_of(uri), name)

    def test_bad_names(self):
        for uri in ("http://host", "http://host/", "http://host/a/", "", "a\\b", "a\0", "x/.."):
            self.assertRaises(fetch_files.FetchFailed, fetch_files.name_of, uri)
