"""The program that fetches URIs into a sandbox, as the task's user, in a process of its own.

C{python -I -S fetch.py}, started by L{mesoskit.agent.fetcher}, reads one JSON object from its
standard input and gives up all it does not need before it touches anything:

  - C{sandbox}: an absolute path without symbolic links;
  - C{credentials}: [user, group, [group...]] to become, or null;
  - C{uris}: objects with C{value}, C{executable}, C{extract}, C{output_file};
  - C{stall}: seconds in which at least as many bytes have to come;
  - C{max_bytes}, C{max_files}: of all that is written;
  - C{frameworks_home}: where relative paths begin, or null.

It writes C{{"error": null}} or C{{"error": "..."}} to its standard output, and what it does to
C{stderr} in the sandbox, as Mesos' fetcher. The meaning of URIs, C{executable}, C{extract} and of
file names is that of Mesos (C{src/launcher/fetcher.cpp}); archives are unpacked by Python, and
one with a member that would leave the sandbox is refused. The standard library alone.
"""

import codecs
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from typing import IO, Any, NoReturn, Protocol

if __name__ == "__main__":  # an isolated interpreter knows no path but the standard library's
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from mesoskit.agent.launcher_spawn import open_directory, open_log

CHUNK = 1 << 18
TAR_ENDINGS = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")
ENDINGS = (*TAR_ENDINGS, ".zip", ".gz")
MAX_LINK = 4096


class FetchFailed(Exception):
    """A URI cannot be fetched; the message says why, without naming it."""


class Budget:
    """
    How much may yet be written, and whether somebody still waits for it.

    @ivar bytes: how many bytes; C{files}: how many files, directories and links.
    """

    def __init__(self, max_bytes: int, max_files: int) -> None:
        self.bytes = self._max_bytes = max_bytes
        self.files = self._max_files = max_files
        self._parent = os.getppid()

    def spend(self, count: int) -> None:
        """Pay for bytes. Raises L{FetchFailed} where there are not enough."""
        self.bytes -= count
        if self.bytes < 0:
            raise FetchFailed(f"more than {self._max_bytes} bytes would be written")
        if os.getppid() != self._parent:
            raise FetchFailed("the agent is gone")

    def spend_file(self) -> None:
        """Pay for an entry of a directory."""
        self.files -= 1
        if self.files < 0:
            raise FetchFailed(f"more than {self._max_files} files would be written")


def name_of(uri: str) -> str:
    """Return the file name under which a URI is fetched, as Mesos' C{Fetcher::basename} does."""
    if set("\\'\0") & set(uri):
        raise FetchFailed("illegal characters in it")
    scheme, found, rest = uri.partition("://")
    if found and len(scheme) > 1:
        if "/" not in rest or rest.index("/") + 1 >= len(rest):
            raise FetchFailed("malformed URI (missing path)")
        name = rest.rpartition("/")[2]
    else:
        name = uri.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise FetchFailed("malformed URI (no file name at its end)")
    return name


def local_path(uri: str, home: str | None) -> str | None:
    """Return the path that a URI means on this machine; L{None} where it means another one."""
    if not uri.startswith("file://"):
        if "://" in uri:
            return None
        if uri.startswith("/"):
            return uri
        if home:
            return os.path.join(home, uri)
        raise FetchFailed("a relative path needs --frameworks_home to be set")
    path = uri.removeprefix("file://")
    if path.startswith("localhost/"):
        path = path.removeprefix("localhost")
    if not path.startswith("/"):
        raise FetchFailed("a file URI needs an absolute path")
    return path


def create(name: str, mode: int = 0o644) -> IO[bytes]:
    """Create a file of the sandbox anew, in the place of whatever had its name."""
    try:
        os.unlink(name)
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return open(os.open(name, flags, mode), "wb", buffering=0)


class Readable(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """Return at most C{size} bytes, none at the end."""
        ...


def copy(source: Readable, target: IO[bytes], budget: Budget) -> int:
    """Copy a stream to its end; return how many bytes it had."""
    total = 0
    while data := source.read(CHUNK):
        budget.spend(len(data))
        write_all(target, data)
        total += len(data)
    return total


def write_all(target: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file, all of it."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]


# Fetching


def copy_local(path: str, target: IO[bytes], budget: Budget) -> None:
    """Copy a file of this machine."""
    # A FIFO would keep us waiting for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as source:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FetchFailed(f"{path!r} is no regular file")
        copy(source, target, budget)


def download(uri: str, target: IO[bytes], stall: float, budget: Budget) -> None:
    """Download by HTTP or HTTPS, through the proxies that the agent's environment names."""
    from urllib import error, request

    # No handler for other schemes: a redirection leads nowhere else.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", "mesoskit-fetcher")]
    try:
        with opener.open(uri, timeout=stall) as response:
            if response.status != 200:
                raise FetchFailed(f"the server answered {response.status} {response.reason}")
            receive(response, target, stall, budget)
    except error.HTTPError as failure:
        raise FetchFailed(f"the server answered {failure.code} {failure.reason}") from failure
    except error.URLError as failure:
        raise FetchFailed(str(failure.reason)) from failure
    except TimeoutError as failure:
        raise FetchFailed(f"it stalled for {stall:g} seconds") from failure
    except (ValueError, OSError):
        raise
    except Exception as failure:  # http.client has many
        raise FetchFailed(f"{type(failure).__name__}: {failure}") from failure


def receive(response: Any, target: IO[bytes], stall: float, budget: Budget) -> None:
    """Write what a server sends, as long as it sends a byte a second."""
    announced = response.headers.get("Content-Length")
    total = window = 0
    since = time.monotonic()
    while data := response.read1(CHUNK):
        budget.spend(len(data))
        write_all(target, data)
        total += len(data)
        window += len(data)
        now = time.monotonic()
        if now - since >= stall:
            if window < now - since:
                raise FetchFailed(f"it stalled: {window} bytes in {stall:g} seconds")
            since, window = now, 0
    if announced is not None and announced.isdecimal() and total < int(announced):
        raise FetchFailed(f"it ended after {total} of {announced} bytes")


# Unpacking


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


def unpack_tar(path: str, budget: Budget) -> None:
    """Unpack a tar archive, compressed or not."""
    import tarfile

    unpacker = Unpacker(budget)
    judge = getattr(tarfile, "data_filter", None)
    try:
        with tarfile.open(path, "r:*") as archive:
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


def unpack_zip(path: str, budget: Budget) -> None:
    """Unpack a zip archive, with the modes and links that Unix programs put there."""
    import zipfile

    unpacker = Unpacker(budget)
    try:
        with zipfile.ZipFile(path) as archive:
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


def unpack_gzip(path: str, budget: Budget) -> None:
    """Unpack a single file, beside the archive's name without C{.gz} in the sandbox itself."""
    import gzip

    name = os.path.basename(path).removesuffix(".gz")
    if name in ("", ".", ".."):
        raise FetchFailed(f"{path!r} leaves no name for what is in it")
    try:
        with gzip.open(path) as source, create(name) as target:
            copy(source, target, budget)
    except EOFError as error:
        raise FetchFailed(f"bad archive: {error}") from error


def unpack(path: str, budget: Budget) -> bool:
    """Unpack what has the name of an archive; return whether it had."""
    if not path.endswith(ENDINGS):
        return False
    import lzma
    import zlib

    try:
        if path.endswith(TAR_ENDINGS):
            unpack_tar(path, budget)
        elif path.endswith(".zip"):
            unpack_zip(path, budget)
        else:
            unpack_gzip(path, budget)
    except (zlib.error, lzma.LZMAError, UnicodeError, ValueError) as error:
        raise FetchFailed(f"bad archive: {error}") from error
    return True


# The program


def output_path(wanted: str) -> str:
    """Make the directories that an C{output_file} needs. Raises L{FetchFailed}."""
    path = os.path.normpath(wanted)
    if os.path.isabs(path) or path.split("/")[0] in ("..", ".") or not wanted:
        raise FetchFailed(f"output_file {wanted!r} is no path within the sandbox")
    parent = os.path.dirname(path)
    root = os.path.realpath(".")
    if not (os.path.realpath(parent) + "/").startswith(root.rstrip("/") + "/"):
        raise FetchFailed(f"output_file {wanted!r} leads out of the sandbox")
    os.makedirs(parent or ".", exist_ok=True)
    return path


def fetch(
    item: dict[str, Any], request: dict[str, Any], budget: Budget, log: Callable[[str], None]
) -> None:
    """Fetch one URI. Raises L{FetchFailed}, L{OSError}."""
    uri = item["value"].lstrip()
    name = name_of(uri)
    local = local_path(uri, request["frameworks_home"])
    if local is None and not uri.startswith(("http://", "https://")):
        scheme = uri.partition("://")[0]
        raise FetchFailed(f"unsupported scheme {scheme!r}: file, http and https are supported")
    path = name if item["output_file"] is None else output_path(item["output_file"])
    budget.spend_file()
    with create(path) as target:
        if local is not None:
            copy_local(local, target, budget)
        else:
            download(uri, target, request["stall"], budget)
    if item["executable"]:
        os.chmod(path, 0o755)
    elif item["extract"] and not unpack(path, budget):
        log(f"Not extracted, as its name is not that of an archive: '{uri}'")
    log(f"Fetched '{uri}' to '{path}'")


def load(uris: list[dict[str, Any]]) -> None:
    """
    Import what these URIs need: where Python is installed, the user may have no access.

    What they do not need is left out; all of it takes longer than the rest of a start.
    """
    codecs.lookup("latin-1")
    for uri in uris:
        names = (uri["value"], uri["output_file"] or uri["value"])
        if names[0].lstrip().startswith(("http://", "https://")):
            import urllib.request  # noqa: F401

            codecs.lookup("idna")
        if not uri["executable"] and uri["extract"] and names[1].endswith(ENDINGS):
            import bz2  # noqa: F401
            import gzip  # noqa: F401
            import lzma  # noqa: F401
            import tarfile  # noqa: F401
            import zipfile  # noqa: F401

            codecs.lookup("cp437")


def run(request: dict[str, Any]) -> str | None:
    """Do what is asked for; return what went wrong."""
    load(request["uris"])
    directory = open_directory(request["sandbox"])
    os.fchdir(directory)
    credentials = request["credentials"]
    if credentials is not None:
        user, group, groups = credentials
        os.setgroups(groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    os.umask(0o022)
    budget = Budget(request["max_bytes"], request["max_files"])
    descriptor = open_log("stderr", directory)

    def log(line: str) -> None:
        try:
            os.write(descriptor, line.encode(errors="replace") + b"\n")
        except OSError:  # the disk is full: what cannot be fetched will say so
            pass

    for item in request["uris"]:
        try:
            fetch(item, request, budget, log)
        except (FetchFailed, OSError, ValueError) as error:
            why = f"cannot fetch {item['value']!r}: {_text(error)}"
            log(why)
            return why
    return None


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = f" ({error.filename})" if isinstance(error.filename, str) else ""
        return f"{error.strerror}{name}"
    return str(error)


def main() -> NoReturn:
    """Read the request, do it, answer."""
    os.setsid()
    try:
        error = run(json.load(sys.stdin))
    except Exception as failure:
        error = f"cannot fetch: {_text(failure) or type(failure).__name__}"
    sys.stdout.write(json.dumps({"error": error}))
    sys.stdout.flush()
    os._exit(1 if error else 0)


if __name__ == "__main__":
    main()
