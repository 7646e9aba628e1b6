"""The program that fetches URIs into a sandbox, as the task's user, in a process of its own.

C{python -I -S fetch.py}, started by L{mesoskit.agent.fetcher}, reads one JSON object from its
standard input and gives up all it does not need before it touches anything:

  - C{sandbox}: an absolute path without symbolic links;
  - C{credentials}: [user, group, [group...]] to become, or null;
  - C{uris}: objects with C{value}, C{executable}, C{extract}, C{output_file}, and C{cached}: the
    path of a file that has what C{value} leads to, or null; C{failed}: why there is none;
  - C{store}: the path of a file of the cache, to be made of the only URI, which then does not
    come into the sandbox; or null;
  - C{stall}: seconds in which at least as many bytes have to come;
  - C{max_bytes}, C{max_files}: of all that is written;
  - C{frameworks_home}: where relative paths begin, or null;
  - C{hadoop}: the path of a hadoop client, or null.

Files of the cache belong to the agent's user: they are opened before the program becomes
another, who can therefore read what he was given and change nothing of it.

It writes C{{"bytes": 5, "size": 10}} now and then on how far a C{store} is, and at the end
C{{"error": null}} or C{{"error": "..."}}, with C{"full"} where the cache is to blame, each in a
line of its standard output; and what it does to C{stderr} in the sandbox, as Mesos' fetcher. The
meaning of URIs, C{executable}, C{extract} and of file names is that of Mesos
(C{src/launcher/fetcher.cpp}); archives are unpacked by Python, and one with a member that would
leave the sandbox is refused. The standard library alone.
"""

import codecs
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import IO, Any, NoReturn

if __name__ == "__main__":  # an isolated interpreter knows no path but the standard library's
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from mesoskit.agent.fetch_files import (
    Address,
    Budget,
    FetchFailed,
    TooMuch,
    Transfer,
    address_of,
    copy,
    create,
    name_of,
    verify,
)
from mesoskit.agent.fetch_sources import FTP, WEB, bring
from mesoskit.agent.fetch_unpack import is_archive, unpack
from mesoskit.agent.launcher_spawn import open_directory, open_log

_FILES = ("/", "file://")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Fetching:
    """
    A request, as far as it is known now how to carry it out.

    @ivar request: what was read.
    @ivar log: takes a line for the sandbox's C{stderr}.
    @ivar opened: the files of the cache, by their paths.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.budget = Budget(request["max_bytes"], request["max_files"])
        self.opened: dict[str, IO[bytes]] = {}
        self._log = -1

    def open(self) -> None:
        """Open what takes the rights that are given up then. Raises L{OSError}."""
        store = self.request["store"]
        if store is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self.opened[store] = os.fdopen(os.open(store, flags, 0o600), "r+b", buffering=0)
        for path in {item["cached"] for item in self.request["uris"]} - {None}:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            self.opened[path] = os.fdopen(os.open(path, flags), "rb", buffering=0)

    def enter(self) -> None:
        """Go to the sandbox, become its user, begin the log. Raises L{OSError}."""
        directory = open_directory(self.request["sandbox"])
        os.fchdir(directory)
        credentials = self.request["credentials"]
        if credentials is not None:
            user, group, groups = credentials
            os.setgroups(groups)
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
        os.umask(0o022)
        self._log = open_log("stderr", directory)

    def log(self, line: str) -> None:
        """Leave a line in the sandbox."""
        try:
            os.write(self._log, line.encode(errors="replace") + b"\n")
        except OSError:  # the disk is full: what cannot be fetched will say so
            pass

    def store(self, item: dict[str, Any]) -> None:
        """Bring what one URI leads to into the cache. Raises L{FetchFailed}, L{OSError}."""
        address = address_of(item["value"])
        name_of(address.uri)
        self._bring(address, self.opened[self.request["store"]], say)
        self.log(f"Fetched '{item['value'].lstrip()}' into the cache")

    def fetch(self, item: dict[str, Any]) -> None:
        """Fetch one URI. Raises L{FetchFailed}, L{OSError}."""
        address = address_of(item["value"])
        name = name_of(address.uri)
        if item["failed"] is not None:
            raise FetchFailed(item["failed"])
        path = name if item["output_file"] is None else output_path(item["output_file"])
        extract = item["extract"] and not item["executable"]
        self.budget.spend_file()
        if item["cached"] is None:
            with create(path) as target:
                self._bring(address, target, lambda total, expected: None)
                if extract and is_archive(path):
                    target.seek(0)
                    unpack(target, path, self.budget)
        else:
            source = self.opened[item["cached"]]
            source.seek(0)
            if extract and is_archive(path):
                # As in Mesos, the archive itself stays where it is.
                unpack(source, path, self.budget)
            else:
                with create(path) as target:
                    copy(source, target, self.budget)
        if item["executable"]:
            os.chmod(path, 0o755)
        elif extract and not is_archive(path):
            self.log(f"Not extracted, as its name is not that of an archive: '{address.uri}'")
        whence = "" if item["cached"] is None else " from the cache"
        self.log(f"Fetched '{address.uri}'{whence} to '{path}'")

    def _bring(
        self, address: Address, target: IO[bytes], told: Callable[[int, int | None], None]
    ) -> None:
        transfer = Transfer(self.budget, self.request["stall"], told, self.log)
        bring(address.uri, target, transfer, self.request)
        verify(target, address)


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


def load(uris: list[dict[str, Any]]) -> None:
    """
    Import what these URIs need: where Python is installed, the user may have no access.

    What they do not need is left out; all of it takes longer than the rest of a start.
    """
    codecs.lookup("latin-1")
    for uri in uris:
        value = uri["value"].lstrip()
        names = [uri["output_file"]] if uri["output_file"] else [value, value.rpartition("#")[0]]
        if value.startswith(WEB):
            import urllib.request

            codecs.lookup("idna")
        elif value.startswith(FTP):
            import ftplib  # noqa: F401
            import urllib.parse  # noqa: F401

            codecs.lookup("idna")
        elif "://" in value and not value.startswith(_FILES):
            import subprocess  # noqa: F401
        if "#" in value:
            import hashlib  # noqa: F401
        if not uri["executable"] and uri["extract"] and any(map(is_archive, names)):
            import bz2  # noqa: F401
            import gzip  # noqa: F401
            import lzma  # noqa: F401
            import tarfile  # noqa: F401
            import zipfile  # noqa: F401

            codecs.lookup("cp437")


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked for; return the answer."""
    load(request["uris"])
    fetching = Fetching(request)
    if request["store"] is not None:
        return store(fetching, request["uris"][0])
    fetching.open()
    fetching.enter()
    for item in request["uris"]:
        try:
            fetching.fetch(item)
        except (FetchFailed, OSError, ValueError) as error:
            why = f"cannot fetch {item['value']!r}: {_text(error)}"
            fetching.log(why)
            return {"error": why}
    return {"error": None}


def store(fetching: Fetching, item: dict[str, Any]) -> dict[str, Any]:
    """Do so for the cache. Where that is to blame, whoever wants it may yet do without."""
    try:
        fetching.open()
        fetching.enter()
    except OSError as error:
        return {"error": _text(error), "full": True}
    try:
        fetching.store(item)
    except (FetchFailed, OSError, ValueError) as error:
        full = isinstance(error, TooMuch) or getattr(error, "errno", None) in _FULL
        return {"error": _text(error), "full": full}
    return {"error": None}


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = f" ({error.filename})" if isinstance(error.filename, str) else ""
        return f"{error.strerror}{name}"
    return str(error)


def say(total: int, expected: int | None) -> None:
    """Tell the agent how far it is."""
    sys.stdout.write(json.dumps({"bytes": total, "size": expected}) + "\n")
    sys.stdout.flush()


def main() -> NoReturn:
    """Read the request, do it, answer."""
    os.setsid()
    try:
        answer = run(json.load(sys.stdin))
    except Exception as failure:
        answer = {"error": f"cannot fetch: {_text(failure) or type(failure).__name__}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    if answer["error"]:
        # What a client that was given up has started in its turn ends with us.
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
