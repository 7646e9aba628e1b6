"""Moves what a container has written to its log out of the way while it writes on.

The container holds the file open for appending, and is neither told nor asked: what is old is
copied to C{stdout.1} and then cut off the beginning of C{stdout}. Linux does that for file
systems such as ext4 and XFS without losing what is written in the same moment
(C{FALLOC_FL_COLLAPSE_RANGE} of fallocate(2)). Elsewhere the file is emptied, as logrotate(8) does
with C{copytruncate}, and what was written between the end of the copy and that is lost.

The files lie in a directory in which a task puts what it likes: it is entered without following
links, and of a log only a regular file with a single name is touched.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from typing import Final

from mesoskit.agent.launcher_spawn import open_directory

_COLLAPSE: Final = 0x08
_PIECE: Final = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def size_of(sandbox: str, name: str) -> int:
    """Return the bytes of a log; 0 where there is none that could be rotated."""
    try:
        found = os.lstat(f"{sandbox}/{name}")
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def rotate(sandbox: str, name: str, most: int, files: int) -> int:
    """
    Leave less than a block of a log that has more than C{most} bytes; return how many were moved.

    What is far too much, as the log grew faster than it was looked at, goes into several files,
    each of C{most} bytes and less than twice as many; what they do not hold is dropped, the oldest
    of it. Raises L{OSError}; the log is whole then.

    @param files: how many older ones are kept: C{stdout.1}, C{stdout.2} ...; the oldest go.
    """
    directory = open_directory(sandbox)
    try:
        log = os.open(name, _OPEN, dir_fd=directory)
        try:
            found = os.fstat(log)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise OSError(errno.EINVAL, "a regular file with a single name is wanted", name)
            if found.st_size <= most:
                return 0
            end = _whole_blocks(found)
            if files:
                _move(directory, name, log, _pieces(end, most, files), files, found)
            elif not _collapse(log, end):
                os.ftruncate(log, 0)
            return end
        finally:
            os.close(log)
    finally:
        os.close(directory)


def _pieces(end: int, most: int, files: int) -> list[tuple[int, int]]:
    """Return which parts of a log become files, as (begin, end), the oldest first."""
    count = max(1, end // most)
    start = 0
    if count > files:
        count, start = files, end - files * most
    size = (end - start) // count
    begins = [start + number * size for number in range(count)]
    return list(zip(begins, [*begins[1:], end], strict=True))


def _whole_blocks(found: os.stat_result) -> int:
    """Return how much can be cut off: whole blocks, and not the very last byte."""
    block = found.st_blksize or 4096
    return (found.st_size - 1) // block * block


def _move(
    directory: int,
    name: str,
    log: int,
    pieces: list[tuple[int, int]],
    files: int,
    found: os.stat_result,
) -> None:
    """Make files of parts of a log, and cut off all of it up to the end of the last."""
    _shift(directory, name, len(pieces), files)
    made: list[str] = []
    try:
        for number, (begin, end) in zip(range(len(pieces), 0, -1), pieces, strict=True):
            made.append(f"{name}.{number}")
            copy = os.open(made[-1], _CREATE, found.st_mode & 0o777, dir_fd=directory)
            try:
                if os.geteuid() == 0:
                    os.fchown(copy, found.st_uid, found.st_gid)
                _copy(log, copy, begin, end)
                if number == 1 and not _collapse(log, end):
                    _copy(log, copy, end, None)
                    os.ftruncate(log, 0)
            finally:
                os.close(copy)
    except OSError:
        # Half a copy is worth less than the room that it takes: the disk may be full.
        for each in made:
            with suppress(OSError):
                os.unlink(each, dir_fd=directory)
        raise


def _shift(directory: int, name: str, count: int, files: int) -> None:
    """Let each of the older files become older; the first places are free then."""
    for number in range(files, 0, -1):
        older = number + count
        with suppress(FileNotFoundError):
            if older > files:
                os.unlink(f"{name}.{number}", dir_fd=directory)
            else:
                was, becomes = f"{name}.{number}", f"{name}.{older}"
                os.rename(was, becomes, src_dir_fd=directory, dst_dir_fd=directory)


def _copy(log: int, copy: int, at: int, end: int | None) -> None:
    """Copy a part of a file, or what is left of it."""
    while end is None or at < end:
        data = os.pread(log, _PIECE if end is None else min(_PIECE, end - at), at)
        if not data:
            return
        at += len(data)
        while data:
            data = data[os.write(copy, data) :]


def _collapse(log: int, end: int) -> bool:
    """Cut whole blocks off the beginning of a file; return whether the file system can."""
    if not end:
        return True
    offset, length = ctypes.c_int64(0), ctypes.c_int64(end)
    return not _libc.fallocate(log, _COLLAPSE, offset, length)
