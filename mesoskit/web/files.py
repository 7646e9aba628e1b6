"""Files for people to look at: a directory or a file is attached, and what is below it is read.

What is attached belongs to tasks, which put in it what they like. So a path is walked from
there on, name by name and through descriptors; a symbolic link is followed by us, not by the
kernel, and only as far as it stays below; what is no file and no directory is not opened for
reading. What opens and reads blocks: it belongs into a thread.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol

LONGEST_READ: Final = 64 * 1024
"""Bytes that one C{/files/read} returns at most: sixteen pages, as in Mesos."""

MOST_ENTRIES: Final = 20_000
"""Entries of a directory that are shown at most."""

LONGEST_PATH: Final = 16 * 1024
"""Characters that a path has at most."""

_MOST_LINKS: Final = 40
_WALK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Inaccessible(Exception):
    """A path leads out of what is attached, or to what may not be read."""


class NotThere(Exception):
    """There is nothing at a path, or nothing that is attached."""


class Forbidden(Exception):
    """Who asks may not see what is at a path."""


class Attached:
    """
    What a request's path was found to be.

    @ivar root: the attached directory's, or file's, own path.
    @ivar rest: the names that follow, as they were given.
    """

    __slots__ = ("rest", "root")

    def __init__(self, root: str, rest: list[str]) -> None:
        self.root = root
        self.rest = rest


def log_at(virtual: str, file: str | None, path: str) -> Attached | None:
    """
    Return a daemon's own log where a path means it.

    @param virtual: the log's path for people: C{/master/log}.
    @param file: where it is; L{None} where there is none to be shown.
    """
    given = [name for name in path.split("/") if name not in ("", ".")]
    names = virtual.strip("/").split("/")
    if not file or given[: len(names)] != names:
        return None
    # Whoever writes it may put a link to the newest of many there.
    return Attached(os.path.realpath(file), given[len(names) :])


class Door(Protocol):
    """What a daemon has attached, for one who asks."""

    def resolve(self, path: str) -> Attached:
        """Return what a path is. Raises L{NotThere} and L{Forbidden}."""
        ...

    def attached(self) -> Iterable[tuple[str, str]]:
        """Give all virtual paths with what they stand for."""
        ...


# Walking.


def open_in(place: Attached) -> int:
    """
    Open what a path leads to, as a descriptor that can only be looked at (C{O_PATH}).

    Raises L{NotThere} and L{Inaccessible}.
    """
    opened = [_open(place.root, None)]
    names = list(reversed(place.rest))
    links = 0
    try:
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(opened) == 1:
                    raise Inaccessible(name)
                os.close(opened.pop())
                continue
            deeper = _open(name, opened[-1])
            opened.append(deeper)
            if stat.S_ISLNK(os.fstat(deeper).st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise Inaccessible(name)
                target = os.readlink("", dir_fd=deeper)
                os.close(opened.pop())
                if target.startswith("/"):
                    target = _within(place.root, target)
                    while len(opened) > 1:
                        os.close(opened.pop())
                names.extend(reversed(target.split("/")))
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _within(root: str, target: str) -> str:
    """Return the part of an absolute link behind the root. Raises L{Inaccessible}."""
    if target != root and not target.startswith(f"{root}/"):
        raise Inaccessible(target)
    return target[len(root) + 1 :]


def _open(name: str, directory: int | None) -> int:
    try:
        return os.open(name, _WALK, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        raise NotThere(name) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NotThere(name) from None
        raise Inaccessible(f"{name}: {error.strerror}") from None
    except ValueError:
        raise NotThere(name) from None


def _reopen(descriptor: int) -> int:
    """Open for reading what was only looked at; it is what it was, whatever its name is now."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Inaccessible(error.strerror or "cannot be opened") from None


# What is read.


def browse(place: Attached, path: str) -> list[dict[str, Any]] | None:
    """Return the entries of a directory as C{/files/browse} shows them, as L{listed} does."""
    found = listed(place, path)
    return None if found is None else [_entry(*one) for one in found]


def listed(place: Attached, path: str) -> list[tuple[str, os.stat_result]] | None:
    """
    Return the entries of a directory, sorted by name; L{None}: it is no directory.

    @param path: what the directory is called in the entries' own paths.
    """
    descriptor = open_in(place)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return None
        reading = _reopen(descriptor)
    finally:
        os.close(descriptor)
    found: list[tuple[str, os.stat_result]] = []
    base = path.rstrip("/")
    try:
        with os.scandir(reading) as entries:
            for entry in entries:
                if len(found) >= MOST_ENTRIES:
                    break
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISLNK(status.st_mode):
                        # As in Mesos, a link is shown as what it leads to.
                        inside = open_in(Attached(place.root, [*place.rest, entry.name]))
                        try:
                            status = os.fstat(inside)
                        finally:
                            os.close(inside)
                except (OSError, NotThere, Inaccessible):
                    continue
                found.append((f"{base}/{_shown(entry.name)}", status))
    finally:
        os.close(reading)
    return sorted(found, key=lambda one: one[0])


def _shown(name: str) -> str:
    """Return a name that can be written as UTF-8, whatever bytes it was made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _entry(path: str, status: os.stat_result) -> dict[str, Any]:
    return {
        "gid": group_name(status.st_gid),
        "mode": stat.filemode(status.st_mode),
        "mtime": float(int(status.st_mtime)),
        "nlink": status.st_nlink,
        "path": path,
        "size": status.st_size,
        "uid": user_name(status.st_uid),
    }


@lru_cache(maxsize=256)
def user_name(number: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@lru_cache(maxsize=256)
def group_name(number: int) -> str:
    """Return the name of a group, or the number of one without a name."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def open_file(place: Attached) -> tuple[int, int] | None:
    """
    Open a file for reading; return its descriptor and its size, L{None}: it is a directory.

    Raises L{NotThere} and L{Inaccessible}.
    """
    looked = open_in(place)
    try:
        status = os.fstat(looked)
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise Inaccessible("it is no file")
        return _reopen(looked), status.st_size
    finally:
        os.close(looked)


def read(place: Attached, offset: int | None, length: int) -> tuple[bytes, int] | None:
    """
    Return a part of a file and where it begins; L{None}: it is a directory.

    @param offset: L{None} to be told the size, with no data.
    """
    opened = open_file(place)
    if opened is None:
        return None
    descriptor, size = opened
    try:
        if offset is None:
            return b"", size
        data = os.pread(descriptor, min(length, LONGEST_READ), offset) if offset < size else b""
        return data, offset
    except OSError as error:
        raise Inaccessible(error.strerror or "cannot be read") from None
    finally:
        os.close(descriptor)
