"""What can still be read of a damaged SQLite file.

A table is read from both ends, so that what lies before and behind a page that cannot be read is
had; the file itself is put aside, for whoever wants to know more.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_ENDINGS = ("", "-wal", "-shm")


def is_damaged(error: sqlite3.Error) -> bool:
    """Tell whether an error says that a file is damaged, not that it cannot be had now."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def read_what_is_left(path: Path) -> dict[str, bytes]:
    """Return the entries of a damaged file that can be read."""
    entries: dict[str, bytes] = {}
    for direction in ("ASC", "DESC"):
        try:
            with closing(sqlite3.connect(path, timeout=0.0)) as database:
                rows = database.execute(f"SELECT key, value FROM entries ORDER BY key {direction}")
                for key, value in rows:
                    if isinstance(key, str) and isinstance(value, bytes):
                        entries[key] = value
        except sqlite3.Error:
            continue  # So far and no further.
    return entries


def put_aside(path: Path) -> Path:
    """Rename a file with all that SQLite keeps beside it, and return its new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for ending in _ENDINGS:
        if os.path.exists(f"{path}{ending}"):
            os.rename(f"{path}{ending}", f"{aside}{ending}")
    return aside
