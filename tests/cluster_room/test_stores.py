"""SQLite, memory and the slow double, all held to the same promises."""

import sqlite3
from pathlib import Path

from mesoskit.cluster.memory import MemoryStore
from mesoskit.cluster.sqlite import SQLiteStore
from mesoskit.cluster.store import IStore, StoreError
from mesoskit.testing.stores import SlowStore
from tests.base import SynchronousTestCase
from tests.cluster_room.store_contract import FailingStoreContract, StoreContract


class MemoryTests(StoreContract, SynchronousTestCase):
    """The memory store: a restart is a second store over the same entries."""

    def setUp(self):
        self.entries = {}

    def open(self) -> IStore:
        return MemoryStore(self.entries)


class SlowTests(StoreContract, FailingStoreContract, SynchronousTestCase):
    """The double keeps the contract like the real ones."""

    def setUp(self):
        self.inner = MemoryStore()

    def open(self) -> IStore:
        return SlowStore(self.inner, slow=False)

    def spoil(self, store):
        store.broken = "disk full"

    def mend(self, store):
        store.broken = None
        return store

    def test_nothing_is_answered_before_it_is_released(self):
        store = SlowStore()
        answer = store.apply([("a", b"1")])
        self.assertNoResult(answer)
        self.assertEqual(store.inner.entries, {})
        store.release()
        self.successResultOf(answer)
        self.assertEqual(store.inner.entries, {"a": b"1"})

    def test_close_fails_what_is_held(self):
        store = SlowStore()
        answer = store.apply([("a", b"1")])
        self.successResultOf(store.close())
        self.failureResultOf(answer, StoreError)


class _SQLite(StoreContract, FailingStoreContract):
    full = True

    def setUp(self):
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.opened = []
        self.addCleanup(self.close)

    def close(self):
        for store in self.opened:
            store.close()

    def open(self) -> IStore:
        store = SQLiteStore(self.path / "store.sqlite", full=self.full, busy_timeout=0.05)
        self.opened.append(store)
        return store

    def spoil(self, store):
        # What a full disk looks like to SQLite: no page may be added.
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 1}")

    def mend(self, store):
        store.close()
        return self.open()


class FullSQLiteTests(_SQLite, SynchronousTestCase):
    """The master's registry."""

    def test_second_process_on_the_same_file_is_refused(self):
        store = self.open()
        self.successResultOf(store.load())
        self.successResultOf(store.apply([("a", b"1")]))
        error = self.failureResultOf(self.open().load(), StoreError)
        self.assertIn("store.sqlite", str(error.value))
        self.assertIn("another process uses it", str(error.value))

    def test_file_that_is_no_database_is_named(self):
        (self.path / "store.sqlite").write_bytes(
            b"not a database, but long enough to look like one" * 30
        )
        error = self.failureResultOf(self.open().load(), StoreError)
        self.assertIn("store.sqlite", str(error.value))

    def test_directory_that_is_not_there_is_named(self):
        store = SQLiteStore(self.path / "none" / "store.sqlite", full=True)
        error = self.failureResultOf(store.load(), StoreError)
        self.assertIn("none/store.sqlite", str(error.value))

    def test_newer_layout_is_refused(self):
        database = sqlite3.connect(self.path / "store.sqlite")
        database.execute("PRAGMA user_version = 99")
        database.commit()
        database.close()
        error = self.failureResultOf(self.open().load(), StoreError)
        self.assertIn("layout 99", str(error.value))

    def test_apply_before_load_fails(self):
        self.failureResultOf(self.open().apply([("a", b"1")]), StoreError)


class NormalSQLiteTests(_SQLite, SynchronousTestCase):
    """The agent's checkpoints."""

    full = False

    def test_survives_the_death_of_its_process(self):
        store = self.open()
        self.successResultOf(store.load())
        self.successResultOf(store.apply([("a", b"1")]))
        # What a process that is killed leaves: the files as they are, the WAL not folded in.
        copy = self.path / "copy"
        copy.mkdir()
        for file in self.path.glob("store.sqlite*"):
            if not file.name.endswith("-shm"):
                (copy / file.name).write_bytes(file.read_bytes())
        again = SQLiteStore(copy / "store.sqlite", full=False)
        self.opened.append(again)
        self.assertEqual(self.successResultOf(again.load()), {"a": b"1"})


class DamageTests(SynchronousTestCase):
    """A file of which a page is damaged, or all."""

    def setUp(self):
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.file = self.path / "store.sqlite"
        self.entries = {f"key/{number:05}": b"%d" % number * 50 for number in range(2000)}
        store = SQLiteStore(self.file, full=False)
        self.successResultOf(store.load())
        self.successResultOf(store.apply(list(self.entries.items())))
        self.successResultOf(store.close())

    def damage(self, number: int) -> None:
        with self.file.open("r+b") as file:
            file.seek(number * 4096)
            file.write(b"\xff" * 4096)

    def test_it_is_refused_with_advice(self):
        self.damage(20)
        store = SQLiteStore(self.file, full=False, advice=": go home")
        error = self.failureResultOf(store.load(), StoreError)
        self.assertIn("store.sqlite", str(error.value))
        self.assertIn("malformed: go home", str(error.value))
        self.successResultOf(store.close())

    def test_what_can_be_read_is_salvaged_and_the_file_kept(self):
        for page, least in ((20, len(self.entries) // 2), (0, 0), (1, 0)):
            self.damage(page)
            store = SQLiteStore(self.file, full=False, salvage=True)
            found = self.successResultOf(store.load())
            self.assertGreaterEqual(len(found), least)
            self.assertLessEqual(found.items(), self.entries.items())
            self.successResultOf(store.apply([("more", b"1")]))
            self.successResultOf(store.close())
            again = SQLiteStore(self.file, full=False)
            self.assertEqual(self.successResultOf(again.load()), {**found, "more": b"1"})
            self.successResultOf(again.apply([("more", None)]))
            self.successResultOf(again.close())
        self.assertEqual(len(list(self.path.glob("*.damaged-?"))), 3)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_a_file_that_is_merely_held_by_another_is_not_put_aside(self):
        holder = SQLiteStore(self.file, full=False)
        self.successResultOf(holder.load())
        store = SQLiteStore(self.file, full=False, salvage=True, busy_timeout=0.01)
        self.failureResultOf(store.load(), StoreError)
        self.assertEqual(list(self.path.glob("*.damaged-?")), [])
        self.successResultOf(holder.close())
