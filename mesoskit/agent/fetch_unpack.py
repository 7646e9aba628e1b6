"""Unpacks archives into a sandbox, and nothing of them anywhere else.

The standard library alone, as all of L{mesoskit.agent.fetch}.
"""

import os
import stat
from typing import IO

from mesoskit.agent.fetch_files import Budget, FetchFailed, Readable, copy, create

TAR_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
ENDINGS = (*TAR_ENDINGS, ".zip", ".gz")
MAX_LINK = 4096


class Unpacker:
    """
    Writes what an archive holds, below the directory we are in and nowhere else.

    A path is judged by where it leads once links are followed, so that a link that an archive
    brings along opens no way out for the members after it.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._root = os.path.realpath(".")
        self._parents: set[str] = set()
        self._modes: list[tuple[str, int]] = []

    def place(self, name: str) -> str:
        """Return the path for a member whose directory exists then. Raises L{FetchFailed}."""
        path = os.path.normpath(name.lstrip("/"))
        if path == ".." or path.startswith("../") or "\0" in path:
            raise FetchFailed(f"member {name!r} would be written outside of the sandbox")
        parent = os.path.dirname(path)
        if parent not in self._parents:
            self._within(parent, name)
            os.makedirs(parent or ".", exist_ok=True)
            self._parents.add(parent)
        self._budget.spend_file()
        return path

    def directory(self, name: str, mode: int) -> None:
        """Make a directory; its mode is set at the end, as it may forbid writing."""
        path = self.place(name)
        if path == ".":
            return
        if os.path.islink(path) or not os.path.isdir(path):
            self._clear(path, name)
            os.mkdir(path)
        self._modes.append((path, mode & 0o755 | 0o700))

    def file(self, name: str, mode: int, source: Readable) -> None:
        """Write a file. What would make it run as another user is taken off its mode."""
        path = self.place(name)
        self._clear(path, name)
        with create(path) as target:
            copy(source, target, self._budget)
            os.fchmod(target.fileno(), mode & 0o755 | 0o600)

    def symbolic_link(self, name: str, target: str) -> None:
        """Make a symbolic link to something in the sandbox."""
        path = self.place(name)
        if os.path.isabs(target):
            raise FetchFailed(f"member {name!r} links to an absolute path, {target!r}")
        self._within(os.path.join(os.path.dirname(path), target), name)
        self._clear(path, name)
        os.symlink(target, path)

    def hard_link(self, name: str, target: str) -> None:
        """Make another name for a file that was unpacked before."""
        path = self.place(name)
        source = os.path.normpath(target.lstrip("/"))
        self._within(source, name)
        if os.path.islink(source) or not os.path.isfile(source):
            raise FetchFailed(f"member {name!r} links to {target!r}, which is no file before it")
        self._clear(path, name)
        os.link(source, path, follow_symlinks=False)

    def finish(self) -> None:
        """Set what had to wait."""
        for path, mode in reversed(self._modes):
            if not os.path.islink(path) and os.path.isdir(path):
                os.chmod(path, mode)

    def _within(self, path: str, name: str) -> None:
        real = os.path.realpath(os.path.join(self._root, path))
        if real != self._root and not real.startswith(self._root.rstrip("/") + "/"):
            raise FetchFailed(f"member {name!r} leads out of the sandbox, to {real!r}")

    def _clear(self, path: str, name: str) -> None:
        """Make room for a member. A directory makes room for nothing."""
        try:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                raise FetchFailed(f"member {name!r} has the name of a directory that exists")
        except FileNotFoundError:
            return
        os.unlink(path)
        self._parents.clear()


def unpack_tar(file: IO[bytes], budget: Budget) -> None:
    """Unpack a tar archive, compressed or not."""
    import tarfile

    unpacker = Unpacker(budget)
    judge = getattr(tarfile, "data_filter", None)
    try:
        with tarfile.open(fileobj=file, mode="r:*") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else all stay in memory
                if judge is not None:
                    judge(member, unpacker._root)
                if member.isdir():
                    unpacker.directory(member.name, member.mode)
                elif member.issym():
                    unpacker.symbolic_link(member.name, member.linkname)
                elif member.islnk():
                    unpacker.hard_link(member.name, member.linkname)
                elif member.isreg():
                    source = archive.extractfile(member)
                    assert source is not None
                    unpacker.file(member.name, member.mode, source)
                else:
                    raise FetchFailed(f"member {member.name!r} is a device or a FIFO")
    except (tarfile.TarError, EOFError) as error:
        raise FetchFailed(f"bad archive: {error}") from error
    unpacker.finish()


def unpack_zip(file: IO[bytes], budget: Budget) -> None:
    """Unpack a zip archive, with the modes and links that Unix programs put there."""
    import zipfile

    unpacker = Unpacker(budget)
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if member.is_dir():
                    unpacker.directory(member.filename, mode or 0o755)
                    continue
                with archive.open(member) as source:
                    if stat.S_ISLNK(mode):
                        target = source.read(MAX_LINK).decode(errors="surrogateescape")
                        unpacker.symbolic_link(member.filename, target)
                    else:
                        unpacker.file(member.filename, mode or 0o644, source)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise FetchFailed(f"bad archive: {error}") from error
    unpacker.finish()


def unpack_gzip(file: IO[bytes], path: str, budget: Budget) -> None:
    """Unpack a single file, beside the archive's name without C{.gz} in the sandbox itself."""
    import gzip

    name = os.path.basename(path).removesuffix(".gz")
    if name in ("", ".", ".."):
        raise FetchFailed(f"{path!r} leaves no name for what is in it")
    try:
        with gzip.open(file) as source, create(name) as target:
            copy(source, target, budget)
    except EOFError as error:
        raise FetchFailed(f"bad archive: {error}") from error


def is_archive(path: str) -> bool:
    """Whether a file is one to be unpacked, by its name."""
    return path.endswith(ENDINGS)


def unpack(file: IO[bytes], path: str, budget: Budget) -> None:
    """
    Unpack an archive. Raises L{FetchFailed}, L{OSError}.

    @param file: it, at its beginning.
    @param path: its name in the sandbox, which says what it is.
    """
    import lzma
    import zlib

    try:
        if path.endswith(TAR_ENDINGS):
            unpack_tar(file, budget)
        elif path.endswith(".zip"):
            unpack_zip(file, budget)
        else:
            unpack_gzip(file, path, budget)
    except (zlib.error, lzma.LZMAError, UnicodeError, ValueError) as error:
        raise FetchFailed(f"bad archive: {error}") from error
