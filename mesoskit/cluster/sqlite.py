"""A store in one SQLite file: the embedded registry and the agent's checkpoints.

The file is in WAL mode. With C{full=True} (the master's registry) every group is
synced to the disk before it is answered; with C{full=False} (the agent) a group
survives the death of the process at any moment, not a loss of power, with which
the agent's tasks die anyway.
"""

import os
import sqlite3
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from mesoskit.cluster.salvage import is_damaged, put_aside, read_what_is_left
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
    @param salvage: where the file is damaged, put it aside and go on with what can be read of it.
    @param advice: what is told beside the damage where it is not salvaged.
    """

    log = Logger()

    def __init__(
        self,
        path: Path,
        *,
        full: bool,
        busy_timeout: float = 1.0,
        salvage: bool = False,
        advice: str = "",
    ) -> None:
        self._path = path
        self._full = full
        self._busy_timeout = busy_timeout
        self._salvage = salvage
        self._advice = advice
        self._database: sqlite3.Connection | None = None

    def load(self) -> "Deferred[dict[str, bytes]]":
        """Open the file, making it where it is not, and read all of it."""
        try:
            return succeed(self._load())
        except sqlite3.Error as error:
            if not is_damaged(error):
                return fail(StoreError(f"{self._path}: {_explained(error)}"))
            if not self._salvage:
                return fail(StoreError(f"{self._path}: {error}{self._advice}"))
            why = str(error)
        except StoreError as error:
            return fail(error)
        try:
            return succeed(self._begin_anew(why))
        except (sqlite3.Error, StoreError, OSError) as error:
            return fail(StoreError(f"{self._path}: {error}"))

    def _load(self) -> dict[str, bytes]:
        return dict(self._open().execute("SELECT key, value FROM entries"))

    def _begin_anew(self, why: str) -> dict[str, bytes]:
        """Put a damaged file aside, and write what can be read of it into a new one."""
        database, self._database = self._database, None
        if database is not None:
            database.close()
        entries = read_what_is_left(self._path)
        aside = put_aside(self._path)
        self.log.error(
            "{path} is damaged ({why}): going on with the {count} entries that could be read;"
            " the file is kept as {aside}",
            path=str(self._path),
            why=why,
            count=len(entries),
            aside=str(aside),
        )
        self._write(self._open(), entries.items())
        return entries

    def apply(self, changes: Sequence[Change]) -> "Deferred[None]":
        """Write a group in one transaction."""
        database = self._database
        if database is None:
            return fail(StoreError(f"{self._path}: not open"))
        try:
            self._write(database, changes)
        except sqlite3.Error as error:
            if database.in_transaction:
                try:
                    database.execute("ROLLBACK")
                except sqlite3.Error:
                    # SQLite rolls back by itself where it cannot even do this.
                    self._database = None
            return fail(StoreError(f"{self._path}: {error}"))
        return succeed(None)

    @staticmethod
    def _write(database: sqlite3.Connection, changes: Iterable[Change]) -> None:
        database.execute("BEGIN IMMEDIATE")
        for key, value in changes:
            if value is None:
                database.execute(_DELETE, (key,))
            else:
                database.execute(_PUT, (key, value))
        database.execute("COMMIT")

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
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Set a connection up. On a full disk a file that is there is opened all the same."""
        # One daemon a file: a second one is told so at once. Said before the file is read, no
        # memory needs to be shared, for which a full disk would have no room.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if self._full else 'NORMAL'}")
        (layout,) = database.execute("PRAGMA user_version").fetchone()
        if layout not in (0, _LAYOUT):
            raise StoreError(
                f"{self._path}: layout {layout} is newer than this program knows ({_LAYOUT})"
            )
        database.execute("BEGIN IMMEDIATE")
        if layout == 0:
            database.execute(
                "CREATE TABLE IF NOT EXISTS entries"
                " (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_LAYOUT}")
        database.execute("COMMIT")


def _explained(error: sqlite3.Error) -> str:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return "another process uses it; two daemons cannot share a --work_dir"
    return str(error)
