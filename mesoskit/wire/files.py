"""Files that settings name: read within limits, and looked at again for changes."""

import os
import stat
from typing import Final

LONGEST: Final = 16 * 1024 * 1024
"""Bytes; no file of settings is longer."""


class FileRefused(ValueError):
    """A file cannot be read, or may not be what it is. The text begins with its path."""


def stamp(path: str) -> tuple[int, ...]:
    """Return what differs when another file is there, or another text in it; empty for none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def read_file(path: str, longest: int = LONGEST, denied: int = 0, advice: str = "") -> bytes:
    """
    Return what is in a file. Raises L{FileRefused}.

    @param longest: bytes.
    @param denied: bits of its mode of which none may be set.
    @param advice: says why, and what to do, where one is; gets C{mode} and C{path}.
    """
    try:
        # A named pipe in its place must not make anybody wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileRefused(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise FileRefused(f"{path!r} is no path") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(f"{path}: is no file")
        if status.st_mode & denied:
            mode = f"{status.st_mode & 0o777:04o}"
            raise FileRefused(f"{path}: {advice.format(mode=mode, path=path)}")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(longest + 1)
    finally:
        os.close(descriptor)
    if len(data) > longest:
        raise FileRefused(f"{path}: is larger than {longest} bytes")
    return data


def read_text(path: str, longest: int = LONGEST, denied: int = 0, advice: str = "") -> str:
    """Return it as text, as L{read_file} takes it; it must be UTF-8."""
    data = read_file(path, longest, denied, advice)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileRefused(f"{path}, line {line}: is not UTF-8 text") from None
