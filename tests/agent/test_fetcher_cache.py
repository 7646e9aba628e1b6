"""The fetcher's cache: what is fetched once, for whom, for how long, and when it is not."""

from __future__ import annotations

import gzip
import hashlib
import os
import pwd
import stat
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import skipIf

from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.protocols.ftp import FTPFactory, FTPRealm
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mesoskit.agent.container import Uri
from mesoskit.agent.fetcher import Fetcher, FetchError
from mesoskit.agent.fetcher_cache import BLOCK, Cache, Entry
from mesoskit.agent.users import Credentials
from mesoskit.model.ids import ContainerId
from tests.agent.real import REACTOR, until
from tests.agent.test_fetcher import FetchTestCase
from tests.base import SynchronousTestCase

not_root = skipIf(os.geteuid() != 0, "only root can become another user")


class CacheTests(SynchronousTestCase):
    """Room, and who makes it."""

    def setUp(self) -> None:
        self.removed: list[str] = []
        self.cache = Cache("/cache", 4 * BLOCK, self.removed.append)

    def add(self, uri: str, blocks: int = 1) -> Entry | None:
        assert self.cache.find((None, uri)) is None
        entry = self.cache.begin((None, uri))
        if not self.cache.set_aside(entry, blocks * BLOCK):
            self.cache.drop(entry)
            return None
        entry.ready = True
        return entry

    def test_what_was_not_used_for_longest_makes_room(self):
        a, b = self.add("a", 2), self.add("b", 2)
        assert a is not None
        assert b is not None
        self.assertIs(self.cache.find((None, "a")), a)
        self.add("c")
        self.assertEqual(self.removed, [b.path])
        self.assertEqual((self.cache.used, self.cache.evictions), (3 * BLOCK, 1))

    def test_what_is_read_stays(self):
        a = self.add("a", 3)
        assert a is not None
        a.readers += 1
        self.assertIsNone(self.add("b", 2))
        self.cache.release(a)
        self.assertIsNotNone(self.add("b", 2))

    def test_nothing_is_removed_where_it_would_not_be_enough(self):
        self.add("a")
        self.assertIsNone(self.add("b", 5))
        self.assertIsNotNone(self.cache.find((None, "a")))

    def test_small_ones_count_as_a_block(self):
        for number in range(5):
            self.add(str(number), 0)
        self.assertEqual((len(self.cache), self.cache.used), (4, 4 * BLOCK))

    def test_users_have_entries_of_their_own(self):
        self.add("a")
        self.assertIsNone(self.cache.find((7, "a")))

    @given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 6), st.booleans())))
    def test_never_more_than_there_is_room_for(self, steps: list[tuple[str, int, bool]]) -> None:
        cache = Cache("/cache", 4 * BLOCK, lambda path: None)
        entries: list[Entry] = []
        for uri, blocks, read in steps:
            entry = cache.find((None, uri))
            if entry is None:
                entry = cache.begin((None, uri))
                if not cache.set_aside(entry, blocks * BLOCK):
                    cache.drop(entry)
                    continue
                entry.ready = True
                entries.append(entry)
            entry.readers = int(read)
            kept = [each for each in entries if cache.find(each.key) is each]
            self.assertEqual(cache.used, sum(each.size for each in kept))
            self.assertLessEqual(cache.used, cache.capacity)


class _Counting(Resource):
    """Counts who asks; answers when told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.held: list[Any] = []
        self.hold = False
        self.bodies: dict[str, bytes] = {}
        self.chunked = False

    def render_GET(self, request: Any) -> Any:
        path = request.path.decode()
        self.asked.append(path)
        if self.hold:
            self.held.append(request)
            return NOT_DONE_YET
        return self.answer(request)

    def answer(self, request: Any) -> Any:
        body = self.bodies.get(request.path.decode(), b"content")
        if not self.chunked:
            return body
        request.write(body)
        request.finish()
        return NOT_DONE_YET

    def release(self) -> None:
        self.hold = False
        for request in self.held:
            request.write(b"content")
            request.finish()
        self.held = []


class CachedTests(FetchTestCase):
    """Fetching through a cache, from a server that counts."""

    def setUp(self) -> None:
        super().setUp()
        self.server = _Counting()
        self.port = REACTOR.listenTCP(0, Site(self.server), interface="127.0.0.1")
        self.addCleanup(self.close)
        self.cache_dir = Path(self.directory, "cache")

    async def close(self) -> None:
        await maybeDeferred(self.port.stopListening)
        await until(
            lambda: not [r for r in REACTOR.getReaders() if getattr(r, "server", 0) is self.port]
        )

    def uri(self, path: str = "a", fragment: str = "", **options: Any) -> Uri:
        base = f"http://127.0.0.1:{self.port.getHost().port}/"
        return Uri(base + path + fragment, cache=True, **options)

    async def cached(self, size: int = 1 << 20, **options: Any) -> Fetcher:
        fetcher = self.fetcher(cache_dir=str(self.cache_dir), cache_size=size, **options)
        await fetcher.start()
        return fetcher

    def into(
        self, fetcher: Fetcher, name: str, *uris: Uri, credentials: Credentials | None = None
    ) -> Deferred[None]:
        sandbox = Path(self.directory, "sandboxes", name)
        sandbox.mkdir(parents=True, exist_ok=True)
        if credentials is not None:
            os.chown(sandbox, credentials.user, credentials.group)
        return fetcher.fetch(ContainerId(name), uris, str(sandbox), credentials)

    def read(self, name: str, file: str = "a") -> bytes:
        return Path(self.directory, "sandboxes", name, file).read_bytes()

    async def why_not(self, fetching: Deferred[None]) -> str:
        try:
            await fetching
        except FetchError as error:
            return str(error)
        raise AssertionError("it was fetched")

    async def test_the_server_is_asked_once(self):
        fetcher = await self.cached()
        for name in ("one", "two", "three"):
            await self.into(fetcher, name, self.uri())
            self.assertEqual(self.read(name), b"content")
        self.assertEqual(self.server.asked, ["/a"])
        self.assertIn(b"from the cache", self.read("two", "stderr"))
        found = fetcher.metrics()
        self.assertEqual(found["containerizer/fetcher/cache_size_used_bytes"], BLOCK)
        self.assertEqual(found["containerizer/fetcher/cache_size_total_bytes"], 1 << 20)
        self.assertEqual(found["mesoskit/fetcher_cache/hits"], 2)

    async def test_many_at_a_time_ask_once(self):
        fetcher = await self.cached()
        self.server.hold = True
        fetching = [
            self.into(fetcher, str(n), self.uri(), self.uri(output_file="b")) for n in range(12)
        ]
        await until(lambda: self.server.held)
        self.server.release()
        await gatherResults(fetching)
        self.assertEqual(self.server.asked, ["/a"])
        for number in range(12):
            self.assertEqual(self.read(str(number), "b"), b"content")

    async def test_without_cache_each_asks(self):
        fetcher = await self.cached()
        for name in ("one", "two"):
            await self.into(fetcher, name, Uri(self.uri().value))
        self.assertEqual(self.server.asked, ["/a", "/a"])

    async def test_a_failure_is_everybodys_and_not_kept(self):
        fetcher = await self.cached()
        self.server.hold = True
        fetching = [self.into(fetcher, str(n), self.uri()) for n in range(3)]
        await until(lambda: self.server.held)
        self.server.held[0].setResponseCode(404)
        self.server.release()
        why = f"cannot fetch {self.uri().value!r}: the server answered 404 Not Found"
        for one in fetching:
            self.assertEqual(await self.why_not(one), why)
        self.assertEqual(self.server.asked, ["/a"])
        log = self.read("2", "stderr").decode()
        self.assertIn("cannot fetch", log)
        self.assertEqual((fetcher.cache.used, len(fetcher.cache)), (0, 0))
        await until(lambda: not os.listdir(self.cache_dir))

    async def test_one_who_hears_of_it_may_end_the_others(self):
        fetcher = await self.cached()
        self.server.hold = True
        one = self.into(fetcher, "one", self.uri())
        fetcher._cached(self.uri(), "", None).addCallback(lambda _: fetcher.stop())
        two = self.into(fetcher, "two", self.uri(), self.uri())
        await until(lambda: self.server.held)
        self.server.release()
        for each in (one, two):
            self.assertIn("cancelled", await self.why_not(each))
        entry = fetcher.cache.find((None, self.uri().value))
        assert entry is not None
        self.assertEqual(entry.readers, 1)  # that which was taken here by hand

    async def test_what_failed_may_come_the_next_time(self):
        fetcher = await self.cached()
        path = self.source / "later"
        uri = Uri(str(path), cache=True)
        self.assertIn("No such file", await self.why_not(self.into(fetcher, "one", uri)))
        path.write_text("there")
        await self.into(fetcher, "two", uri)
        path.unlink()
        await self.into(fetcher, "three", uri)
        self.assertEqual(self.read("three", "later"), b"there")

    async def test_one_who_gives_up_takes_it_from_nobody(self):
        fetcher = await self.cached()
        self.server.hold = True
        one = self.into(fetcher, "one", self.uri())
        two = self.into(fetcher, "two", self.uri())
        await until(lambda: self.server.held)
        fetcher.cancel(ContainerId("one"))
        self.assertIn("cancelled", await self.why_not(one))
        self.server.release()
        await two
        self.assertEqual(self.server.asked, ["/a"])

    async def test_when_all_give_up_it_ends_and_leaves_nothing(self):
        fetcher = await self.cached()
        self.server.hold = True
        fetching = [self.into(fetcher, str(n), self.uri()) for n in range(2)]
        await until(lambda: self.server.held)
        gone = self.server.held[0].notifyFinish()
        fetcher.stop()
        for one in fetching:
            self.assertIn("cancelled", await self.why_not(one))
        try:
            await gone
        except Exception:
            self.server.held = []
        self.server.hold = False
        await until(lambda: not os.listdir(self.cache_dir))
        self.assertEqual(fetcher.cache.used, 0)
        await self.into(fetcher, "again", self.uri())

    async def test_what_does_not_fit_goes_past_the_cache(self):
        self.server.bodies["/big"] = os.urandom(200_000)
        for chunked in (False, True):
            self.server.chunked = chunked  # its size is not known before then
            fetcher = await self.cached(size=100_000)
            name = f"chunked-{chunked}"
            await self.into(fetcher, name, self.uri("big"), self.uri())
            self.assertEqual(self.read(name, "big"), self.server.bodies["/big"])
            self.assertEqual((fetcher.cache.used, len(fetcher.cache)), (BLOCK, 1))

    async def test_the_oldest_makes_room(self):
        fetcher = await self.cached(size=3 * BLOCK)
        for path in ("a", "b", "c", "a", "d", "a", "b"):
            await self.into(fetcher, "one", self.uri(path))
        self.assertEqual(self.server.asked, ["/a", "/b", "/c", "/d", "/b"])
        await until(lambda: len(os.listdir(self.cache_dir)) == 3)

    async def test_archives_are_unpacked_from_it(self):
        self.server.bodies["/text.gz"] = gzip.compress(b"text")
        fetcher = await self.cached()
        for name in ("one", "two"):
            await self.into(fetcher, name, self.uri("text.gz"))
            self.assertEqual(self.read(name, "text"), b"text")
            self.assertNotIn("text.gz", os.listdir(Path(self.directory, "sandboxes", name)))
        await self.into(fetcher, "raw", self.uri("text.gz", extract=False))
        self.assertEqual(self.read("raw", "text.gz"), self.server.bodies["/text.gz"])
        await self.into(fetcher, "run", self.uri("text.gz", executable=True))
        run = Path(self.directory, "sandboxes", "run", "text.gz")
        self.assertEqual(stat.S_IMODE(run.stat().st_mode), 0o755)
        self.assertEqual(self.server.asked, ["/text.gz"])

    async def test_a_new_agent_begins_with_nothing(self):
        await self.into(await self.cached(), "one", self.uri())
        self.assertEqual(len(os.listdir(self.cache_dir)), 1)
        fetcher = await self.cached()
        self.assertEqual(os.listdir(self.cache_dir), [])
        await self.into(fetcher, "two", self.uri())
        self.assertEqual(self.server.asked, ["/a", "/a"])

    async def test_what_was_swept_away_is_fetched_again(self):
        fetcher = await self.cached()
        await self.into(fetcher, "one", self.uri())
        rmtree(self.cache_dir)
        await self.into(fetcher, "two", self.uri())
        await self.into(fetcher, "three", self.uri())
        self.assertEqual(self.server.asked, ["/a", "/a"])

    async def test_a_cache_that_cannot_be_written_is_done_without(self):
        fetcher = await self.cached()
        rmtree(self.cache_dir)
        self.cache_dir.write_text("in its place")
        await self.into(fetcher, "one", self.uri())
        self.assertEqual(self.read("one"), b"content")

    async def test_a_directory_of_others_is_not_used(self):
        elsewhere = Path(self.directory, "elsewhere")
        elsewhere.mkdir(0o755)
        os.symlink(elsewhere, self.cache_dir)
        fetcher = await self.cached()
        self.assertEqual(fetcher.cache.capacity, 0)
        await self.into(fetcher, "one", self.uri())
        self.assertEqual(os.listdir(elsewhere), [])
        self.assertEqual(stat.S_IMODE(elsewhere.stat().st_mode), 0o755)

    @not_root
    async def test_users_get_what_they_fetched_and_cannot_change_it(self):
        entry = pwd.getpwnam("nobody")
        nobody = Credentials(entry.pw_uid, entry.pw_gid, (entry.pw_gid,))
        fetcher = await self.cached()
        secret = Uri(self.file("secret", b"root's"), cache=True)
        os.chmod(secret.value, 0o600)
        await self.into(fetcher, "mine", secret)
        why = await self.why_not(self.into(fetcher, "theirs", secret, credentials=nobody))
        self.assertIn("Permission denied", why)
        for name in ("one", "two"):
            await self.into(fetcher, name, self.uri(), credentials=nobody)
        self.assertEqual(self.server.asked, ["/a"])
        self.assertEqual(Path(self.directory, "sandboxes", "two", "a").owner(), "nobody")
        self.assertEqual(stat.S_IMODE(self.cache_dir.stat().st_mode), 0o700)
        for path in self.cache_dir.iterdir():
            found = path.stat()
            self.assertEqual((found.st_uid, stat.S_IMODE(found.st_mode)), (0, 0o600))

    # Checksums

    async def test_checksums(self):
        for name in ("sha256", "sha384", "sha512"):
            digest = hashlib.new(name, b"content").hexdigest()
            for uri in (
                self.uri(name, f"#{name}={digest.upper()}"),
                Uri(self.uri(name).value + f"#{name}={digest}"),
                Uri(self.file(name) + f"#{name}={digest}"),
            ):
                await self.into(await self.cached(), "one", uri)
                self.assertEqual(self.read("one", name), b"content")

    async def test_what_has_another_checksum_is_refused(self):
        fetcher = await self.cached()
        wrong = hashlib.sha256(b"other").hexdigest()
        for uri in (
            self.uri("a.gz", f"#sha256={wrong}"),
            Uri(self.uri("a.gz").value + f"#sha256={wrong}"),
        ):
            why = await self.why_not(self.into(fetcher, "one", uri))
            self.assertIn(f"sha256 {wrong} was wanted", why)
            self.assertIn(hashlib.sha256(b"content").hexdigest(), why)
        self.assertEqual(len(fetcher.cache), 0)

    async def test_checksums_that_are_none(self):
        fetcher = await self.cached()
        for fragment, why in {
            "#sha256=abc": "'abc' is no sha256: 64 hexadecimal digits are wanted",
            "#sha256=" + "x" * 64: "hexadecimal",
            "#md5=9a0364b9e99bb480dd25e1f0284c8555": "checksum 'md5' cannot be checked",
        }.items():
            for cache in (False, True):
                uri = Uri(self.file("a") + fragment, cache=cache)
                self.assertIn(why, await self.why_not(self.into(fetcher, "one", uri)))

    # Other schemes

    async def test_ftp(self):
        Path(self.directory, "source", "file").write_bytes(b"by ftp" * 1000)
        portal = Portal(FTPRealm(str(self.source)), [AllowAnonymousAccess()])
        factory = FTPFactory(portal)
        port = REACTOR.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        base = f"ftp://127.0.0.1:{port.getHost().port}"
        fetcher = await self.cached()
        await self.into(fetcher, "one", Uri(f"{base}/file", cache=True))
        self.assertEqual(self.read("one", "file"), b"by ftp" * 1000)
        self.assertIn("550", await self.why_not(self.into(fetcher, "two", Uri(f"{base}/none"))))
        await until(lambda: not factory.instances)

    def hadoop(self, script: str) -> str:
        path = self.source / "bin" / "hadoop"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(self.source)

    async def test_what_hadoop_can_copy(self):
        home = self.hadoop('test "$1 $2" = "fs -copyToLocal" && echo "$3" > "$4"')
        fetcher = await self.cached(hadoop_home=home)
        await self.into(fetcher, "one", Uri("hdfs://host/a/file"))
        self.assertEqual(self.read("one", "file"), b"hdfs://host/a/file\n")
        for name in ("two", "three"):
            await self.into(fetcher, name, Uri("s3n://bucket/file", cache=True))
        self.assertEqual(self.read("three", "file"), b"s3n://bucket/file\n")
        self.assertEqual(
            sorted(os.listdir(Path(self.directory, "sandboxes", "two"))), ["file", "stderr"]
        )

    async def test_what_hadoop_cannot(self):
        fetcher = await self.cached(hadoop_home=self.hadoop("echo no such host >&2; exit 3"))
        why = await self.why_not(self.into(fetcher, "one", Uri("hdfs://host/x")))
        self.assertIn("exited with status 3", why)
        self.assertIn(b"no such host", self.read("one", "stderr"))
        fetcher = await self.cached(hadoop_home=str(self.sandbox))
        why = await self.why_not(self.into(fetcher, "one", Uri("hdfs://host/x")))
        self.assertIn("cannot run", why)

    async def test_hadoop_stalls_and_is_killed_whole(self):
        home = self.hadoop('sleep 1000 & echo $! > "$4".pid; wait')
        fetcher = await self.cached(hadoop_home=home, stall=0.4)
        why = await self.why_not(self.into(fetcher, "one", Uri("hdfs://host/x")))
        self.assertIn("it stalled", why)
        pids = [p.read_text().strip() for p in Path(self.directory).glob("sandboxes/one/*.pid")]
        await until(lambda: not any(Path("/proc", pid, "exe").exists() for pid in pids))
        fetcher = await self.cached(hadoop_home=home)
        fetching = self.into(fetcher, "two", Uri("hdfs://host/x"))
        sandbox = Path(self.directory, "sandboxes", "two")
        await until(lambda: any(p.read_text() for p in sandbox.glob("*.pid")))
        pid = next(iter(sandbox.glob("*.pid"))).read_text().strip()
        fetcher.cancel(ContainerId("two"))
        self.assertIn("cancelled", await self.why_not(fetching))
        await until(lambda: not Path("/proc", pid, "exe").exists())
