"""A store in one SQLite file: the embedded registry and the agent's checkpoints.

The file is in WAL mode. With C{full=True} (the master's registry) every group is
synced to the disk before it is answered; with C{full=False} (the agent) a group
survives the death of the process at any moment, not a loss of power, with which
the agent's tasks die anyway.
"""

import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed

from mesoskit.cluster.store import Change, StoreError

_LAYOUT = 1
_PUT = (
    "INSERT INTO entries (key, value) VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_DELETE = "DELETE FROM entries WHERE key = ?"


class SQLiteStore:
    """
    An L{mesoskit.cluster.store.IStore} that answers at once.

    @param path: the file; its directory must exist.
    @param full: sync each group to the disk.
    @param busy_timeout: seconds to wait for another process that holds the file.
    """

    def __init__(self, path: Path, *, full: bool, busy_timeout: float = 1.0) -> None:
        self._path = path
        self._full = full
        self._busy_timeout = busy_timeout
        self._database: sqlite3.Connection | None = None

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Open the file, making it where it is not, and read all of it."""
        try:
            database = self._open()
            return succeed(dict(database.execute("SELECT key, value FROM entries")))
        except sqlite3.Error as error:
            return fail(StoreError(f"{self._path}: {error}"))
        except StoreError as error:
            return fail(error)

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Write a group in one transaction."""
        database = self._database
        if database is None:
            return fail(StoreError(f"{self._path}: not open"))
        try:
            database.execute("BEGIN IMMEDIATE")
            for key, value in changes:
                if value is None:
                    database.execute(_DELETE, (key,))
                else:
                    database.execute(_PUT, (key, value))
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                try:
                    database.execute("ROLLBACK")
                except sqlite3.Error:
                    # SQLite rolls back by itself where it cannot even do this.
                    self._database = None
            return fail(StoreError(f"{self._path}: {error}"))
        return succeed(None)

    def close(self) -> "Deferred[None]":
        """Close the file; the WAL is folded into it."""
        database, self._database = self._database, None
        if database is not None:
            try:
                database.close()
            except sqlite3.Error as error:
                return fail(StoreError(f"{self._path}: {error}"))
        return succeed(None)

    def _keep_private(self) -> None:
        """
        Let nobody else read it, for tasks' secrets may be in it. SQLite gives its other files
        the mode of this one.
        """
        # What cannot be done here SQLite will say better. A file that is there is not opened: to
        # close it would let go of locks that somebody in this process may hold on it.
        with suppress(OSError):
            try:
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                for ending in ("", "-wal", "-shm"):
                    path = f"{self._path}{ending}"
                    if os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077:
                        os.chmod(path, 0o600)

    def _open(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self._keep_private()
        database = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout,
            isolation_level=None,
            cached_statements=16,
        )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if self._full else 'NORMAL'}")
        # One daemon a file: a second one is told so at once.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (layout,) = database.execute("PRAGMA user_version").fetchone()
        if layout not in (0, _LAYOUT):
            database.close()
            raise StoreError(
                f"{self._path}: layout {layout} is newer than this program knows ({_LAYOUT})"
            )
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS entries"
            " (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
        )
        database.execute(f"PRAGMA user_version = {_LAYOUT}")
        database.execute("COMMIT")
        self._database = database
        return database
